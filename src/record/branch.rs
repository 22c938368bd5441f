//! Branch stacks.

use crate::record::attr::{big_endian_fields, to_big_endian_fields};
use crate::record::bytes::{Hex, Words, Writer};
use crate::record::{BranchSampleType, ByteOrder, EncodeError};
use std::fmt;

/// The last branches that were taken, the newest first.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct BranchStack<'a> {
    /// The hardware's index of the newest entry, with [`BranchSampleType::HW_INDEX`]: all ones if it is not known. Where a
    /// sample holds no branches the kernel leaves the index out, too.
    pub hw_idx: Option<u64>,
    /// The branches.
    pub entries: BranchEntries<'a>,
    /// One word of packed counts a branch, with [`BranchSampleType::COUNTERS`]; how they are packed says the PMU
    /// (`caps/branch_counter_nr`, `caps/branch_counter_width` in sysfs).
    pub counters: Option<Words<'a>>,
}

/// The branches of a [`BranchStack`]: three words each.
#[derive(Clone, Copy, Default)]
pub struct BranchEntries<'a>(pub(crate) Words<'a>);

/// Words in an entry.
pub(crate) const ENTRY: usize = 3;

/// A branch that was taken (`struct perf_branch_entry`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BranchEntry {
    /// The address of the branch.
    pub from: u64,
    /// Where it went.
    pub to: u64,
    /// What else is known of it.
    pub flags: BranchFlags,
}

impl fmt::Debug for BranchEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BranchEntry")
            .field("from", &Hex(self.from))
            .field("to", &Hex(self.to))
            .field("flags", &self.flags)
            .finish()
    }
}

/// The third word of a [`BranchEntry`], its fields where little-endian machines have them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BranchFlags(pub u64);

macro_rules! fields {
    ($($(#[$doc:meta])+ $name:ident: $type:ident, $at:literal, $width:literal;)+) => {
        /// Where the fields are, and how wide.
        const FIELDS: [(u32, u32); [$($at),+].len()] = [$(($at, $width)),+];

        impl BranchFlags {
            $(
                $(#[$doc])+
                #[inline]
                pub fn $name(self) -> $type {
                    fields!(@as $type, (self.0 >> $at) & (u64::MAX >> (64 - $width)))
                }
            )+
        }

        impl fmt::Debug for BranchFlags {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("BranchFlags")$(.field(stringify!($name), &self.$name()))+.finish()
            }
        }
    };
    (@as bool, $value:expr) => { $value != 0 };
    (@as $type:ident, $value:expr) => { ($value) as $type };
}

fields! {
    /// The target was mispredicted.
    mispred: bool, 0, 1;
    /// The target was predicted. Neither this nor [`mispred`](Self::mispred): not known.
    predicted: bool, 1, 1;
    /// In a transaction.
    in_tx: bool, 2, 1;
    /// The abort of a transaction.
    abort: bool, 3, 1;
    /// Cycles since the branch before, 0 if not known.
    cycles: u16, 4, 16;
    /// The type of the branch (`PERF_BR_*`), with [`BranchSampleType::TYPE_SAVE`].
    type_: u8, 20, 4;
    /// What the speculation was worth (`PERF_BR_SPEC_*`).
    spec: u8, 24, 2;
    /// More types (`PERF_BR_NEW_*`), where the type is `PERF_BR_EXTEND_ABI`.
    new_type: u8, 26, 4;
    /// The privilege level of the target (`PERF_BR_PRIV_*`), with [`BranchSampleType::PRIV_SAVE`].
    priv_: u8, 30, 3;
    /// Bits that are not defined yet.
    reserved: u32, 33, 31;
}

impl BranchFlags {
    /// The uapi name of the type, without `PERF_BR_`.
    pub fn type_name(self) -> &'static str {
        const NAMES: [&str; 16] = [
            "UNKNOWN",
            "COND",
            "UNCOND",
            "IND",
            "CALL",
            "IND_CALL",
            "RET",
            "SYSCALL",
            "SYSRET",
            "COND_CALL",
            "COND_RET",
            "ERET",
            "IRQ",
            "SERROR",
            "NO_TX",
            "EXTEND_ABI",
        ];
        const NEW: [&str; 8] = [
            "NEW_FAULT_ALGN",
            "NEW_FAULT_DATA",
            "NEW_FAULT_INST",
            "NEW_ARCH_1",
            "NEW_ARCH_2",
            "NEW_ARCH_3",
            "NEW_ARCH_4",
            "NEW_ARCH_5",
        ];
        match self.type_() {
            15 => NEW.get(usize::from(self.new_type())).copied().unwrap_or("EXTEND_ABI"),
            other => NAMES.get(usize::from(other)).copied().unwrap_or("UNKNOWN"),
        }
    }

    #[inline]
    fn of(word: u64, order: ByteOrder) -> Self {
        match order {
            ByteOrder::Little => Self(word),
            ByteOrder::Big => Self(big_endian_fields(word, FIELDS)),
        }
    }

    fn word(self, order: ByteOrder) -> u64 {
        match order {
            ByteOrder::Little => self.0,
            ByteOrder::Big => to_big_endian_fields(self.0, FIELDS),
        }
    }
}

impl<'a> BranchEntries<'a> {
    /// Entries from words: three each, in this machine's byte order. A rest that is no entry is left out.
    pub fn from_words(words: &'a [u64]) -> Self {
        let words = Words::from(words);
        Self(words.part(0, words.len() / ENTRY * ENTRY))
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len() / ENTRY
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry at `index`; 0 is the newest.
    #[inline]
    pub fn get(&self, index: usize) -> Option<BranchEntry> {
        let at = index.checked_mul(ENTRY)?;
        Some(BranchEntry {
            from: self.0.get(at)?,
            to: self.0.get(at + 1)?,
            flags: BranchFlags::of(self.0.get(at + 2)?, self.0.order),
        })
    }

    /// The entries, the newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = BranchEntry> + use<'a> {
        let entries = *self;
        // The length is that of the words.
        (0..self.len()).map(move |index| entries.get(index).unwrap_or_default())
    }
}

impl PartialEq for BranchEntries<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for BranchEntries<'_> {}

impl fmt::Debug for BranchEntries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for BranchStack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BranchStack")
            .field("hw_idx", &self.hw_idx)
            .field("entries", &self.entries)
            .field("counters", &self.counters)
            .finish()
    }
}

impl BranchStack<'_> {
    pub(crate) fn put(&self, to: &mut Writer<'_>, kind: BranchSampleType) -> Result<(), EncodeError> {
        let shape = |what| Err(EncodeError::Shape { field: "branch_stack", what });
        to.int(self.entries.len() as u64);
        match (kind.contains(BranchSampleType::HW_INDEX), self.hw_idx) {
            (true, Some(index)) => to.int(index),
            (false, Some(_)) => return shape("no hw_idx without HW_INDEX"),
            // As the kernel does.
            (true, None) if !self.entries.is_empty() => return shape("a hw_idx, with HW_INDEX"),
            (_, None) => {}
        }
        let order = to.order();
        for entry in self.entries.iter() {
            to.int(entry.from);
            to.int(entry.to);
            to.int(entry.flags.word(order));
        }
        match (kind.contains(BranchSampleType::COUNTERS), self.counters) {
            (true, Some(counters)) if counters.len() == self.entries.len() => to.words(counters),
            (true, None) if self.entries.is_empty() => {}
            (false, None) => {}
            _ => return shape("as many counters as branches with COUNTERS, else none"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_big_endian_machine() {
        // mispred, cycles 0x1234, type 9, priv 5: from the most significant bit on.
        let word = 1 << 63 | 0x1234 << 44 | 9 << 40 | 5 << 31;
        let flags = BranchFlags::of(word, ByteOrder::Big);
        assert_eq!((flags.mispred(), flags.predicted(), flags.cycles()), (true, false, 0x1234));
        assert_eq!((flags.type_(), flags.priv_(), flags.type_name()), (9, 5, "COND_CALL"));
        assert_eq!(flags.word(ByteOrder::Big), word);
        assert_eq!(BranchFlags::of(flags.0, ByteOrder::Little), flags);
    }
}
