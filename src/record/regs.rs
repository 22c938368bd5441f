//! Registers and pieces of stacks.

use crate::record::bytes::{Hex, Words};
use std::fmt;

/// Registers at the time of a sample.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Regs<'a> {
    pub(crate) abi: RegsAbi,
    pub(crate) mask: u64,
    pub(crate) words: Words<'a>,
}

/// `PERF_SAMPLE_REGS_ABI_*`: the width of the task's registers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RegsAbi {
    /// There were no such registers: a kernel thread has none of user space's. The record holds none.
    None,
    /// A 32-bit task.
    Abi32,
    /// A 64-bit task.
    Abi64,
    /// A value that the uapi does not define.
    Other(u64),
}

impl RegsAbi {
    pub(crate) fn of(value: u64) -> Self {
        match value {
            0 => Self::None,
            1 => Self::Abi32,
            2 => Self::Abi64,
            other => Self::Other(other),
        }
    }

    /// The value in the record.
    pub fn value(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Abi32 => 1,
            Self::Abi64 => 2,
            Self::Other(other) => other,
        }
    }
}

impl<'a> Regs<'a> {
    /// No registers, as a sample of a kernel thread has.
    pub const NONE: Self =
        Self { abi: RegsAbi::None, mask: 0, words: Words { bytes: &[], order: crate::record::ByteOrder::NATIVE } };

    /// The registers of `mask`, from the lowest bit. None unless there are as many as the mask has bits.
    pub fn new(abi: RegsAbi, mask: u64, values: Words<'a>) -> Option<Self> {
        if abi == RegsAbi::None {
            return values.is_empty().then_some(Self::NONE);
        }
        (values.len() == mask.count_ones() as usize).then_some(Self { abi, mask, words: values })
    }

    /// The width of the registers.
    pub fn abi(&self) -> RegsAbi {
        self.abi
    }

    /// Which registers there are: bits as in the architecture's `asm/perf_regs.h`. 0 with [`RegsAbi::None`].
    pub fn mask(&self) -> u64 {
        self.mask
    }

    /// The values, those of lower bits first.
    pub fn values(&self) -> Words<'a> {
        self.words
    }

    /// The register of bit `index`.
    #[inline]
    pub fn get(&self, index: u32) -> Option<u64> {
        let bit = 1_u64.checked_shl(index)?;
        if self.mask & bit == 0 {
            return None;
        }
        self.words.get((self.mask & (bit - 1)).count_ones() as usize)
    }

    /// The registers, each with its bit's index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> + use<'a> {
        let mask = self.mask;
        (0..64).filter(move |bit| mask >> bit & 1 == 1).zip(self.words)
    }
}

impl fmt::Debug for Regs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Regs").field("abi", &self.abi).field("values", &DebugValues(self)).finish()
    }
}

struct DebugValues<'a>(&'a Regs<'a>);

impl fmt::Debug for DebugValues<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(bit, value)| (bit, Hex(value)))).finish()
    }
}

/// A piece of the user stack, from the stack pointer up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StackUser<'a> {
    /// As many bytes as there was room for. What lies behind [`dyn_size`](Self::dyn_size) was not copied, and is undefined.
    pub data: &'a [u8],
    /// How many bytes were really copied. 0 when there is no room at all.
    pub dyn_size: u64,
}

impl<'a> StackUser<'a> {
    /// The bytes that were really copied.
    pub fn copied(&self) -> &'a [u8] {
        let len = usize::try_from(self.dyn_size).map_or(self.data.len(), |size| size.min(self.data.len()));
        self.data.get(..len).unwrap_or_default()
    }
}

impl fmt::Debug for StackUser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackUser").field("len", &self.data.len()).field("dyn_size", &self.dyn_size).finish()
    }
}
