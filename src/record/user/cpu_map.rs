//! `CPU_MAP`.

use super::array::{Array, ArrayIter};
use crate::record::bytes::{Cursor, Field, Writer};
use crate::record::{Defect, DefectKind, EncodeError};

/// `CPU_MAP`: a set of CPUs, in one of several forms. [`CpuMap::cpus`] hides which.
///
/// ```
/// use perfring::record::user::{Array, CpuMap};
/// let map = CpuMap::Mask32(Array::from(&[0b101, 1]));
/// assert_eq!(map.cpus().collect::<Vec<_>>(), [0, 2, 32]);
/// assert!(!map.any_cpu());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CpuMap<'a> {
    /// The CPUs' numbers (`PERF_CPU_MAP__CPUS`); [`CpuMap::ANY`] stands for any CPU.
    Cpus(Array<'a, u16>),
    /// One bit for each CPU, from the least significant one of the first word (`PERF_CPU_MAP__MASK` of 4-byte words).
    Mask32(Array<'a, u32>),
    /// The same of 8-byte words.
    Mask64(Array<'a, u64>),
    /// All CPUs of a range (`PERF_CPU_MAP__RANGE_CPUS`).
    Range {
        /// Not 0 when any CPU is in the set, too.
        any_cpu: u8,
        /// The first.
        start_cpu: u16,
        /// The last, itself in the set.
        end_cpu: u16,
    },
    /// A form that this crate does not know: its CPUs are not known either.
    Other {
        /// `PERF_CPU_MAP__*`.
        type_: u16,
        /// The rest of the record.
        data: &'a [u8],
    },
}

const CPUS: u16 = 0;
const MASK: u16 = 1;
const RANGE_CPUS: u16 = 2;

impl<'a> CpuMap<'a> {
    /// Stands for any CPU among the numbers of [`CpuMap::Cpus`]: -1.
    pub const ANY: u16 = u16::MAX;

    /// Whether any CPU is in the set, as for an event that follows a thread.
    pub fn any_cpu(&self) -> bool {
        match self {
            Self::Cpus(cpus) => cpus.iter().any(|cpu| cpu == Self::ANY),
            Self::Range { any_cpu, .. } => *any_cpu != 0,
            Self::Mask32(_) | Self::Mask64(_) | Self::Other { .. } => false,
        }
    }

    /// The numbers of the CPUs, without [`CpuMap::ANY`]: at most 65536 of a range, at most 8 for each byte of a mask.
    pub fn cpus(&self) -> Cpus<'a> {
        Cpus(match *self {
            Self::Cpus(cpus) => Inner::Numbers(cpus.iter()),
            Self::Mask32(words) => Inner::Mask32(Bits::new(words.iter())),
            Self::Mask64(words) => Inner::Mask64(Bits::new(words.iter())),
            Self::Range { start_cpu, end_cpu, .. } => Inner::Range(start_cpu.into()..=end_cpu.into()),
            // An empty range.
            #[allow(clippy::reversed_empty_ranges, reason = "it is meant to be empty")]
            Self::Other { .. } => Inner::Range(1..=0),
        })
    }
}

impl<'a> Field<'a> for CpuMap<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        // The fields are packed: a mask of 8-byte words begins at byte 10.
        Ok(match from.int("type")? {
            CPUS => {
                let nr = from.int::<u16>("nr")?;
                Self::Cpus(Array::take(from, nr.into(), "cpu")?)
            }
            MASK => {
                let nr = from.int::<u16>("nr")?;
                let at_size = *from;
                match from.int::<u16>("long_size")? {
                    4 => Self::Mask32(Array::take(from, nr.into(), "mask")?),
                    8 => {
                        from.take(4, "pad")?;
                        Self::Mask64(Array::take(from, nr.into(), "mask")?)
                    }
                    size => return Err(at_size.defect("long_size", DefectKind::Value { value: size.into() })),
                }
            }
            RANGE_CPUS => {
                let any_cpu = from.int("any_cpu")?;
                from.int::<u8>("pad")?;
                Self::Range { any_cpu, start_cpu: from.int("start_cpu")?, end_cpu: from.int("end_cpu")? }
            }
            type_ => Self::Other { type_, data: from.take(from.rest().len() as u64, "data")? },
        })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        let count = |len: usize| {
            u16::try_from(len).map_err(|_| EncodeError::Shape { field: "nr", what: "more than 16 bits count" })
        };
        match self {
            Self::Cpus(cpus) => {
                to.int(CPUS);
                to.int(count(cpus.len())?);
                cpus.put(to, "cpu")?;
            }
            Self::Mask32(words) => {
                to.int(MASK);
                to.int(count(words.len())?);
                to.int(4_u16);
                words.put(to, "mask")?;
            }
            Self::Mask64(words) => {
                to.int(MASK);
                to.int(count(words.len())?);
                to.int(8_u16);
                to.int(0_u32);
                words.put(to, "mask")?;
            }
            Self::Range { any_cpu, start_cpu, end_cpu } => {
                to.int(RANGE_CPUS);
                to.int(*any_cpu);
                to.int(0_u8);
                to.int(*start_cpu);
                to.int(*end_cpu);
            }
            Self::Other { type_: CPUS | MASK | RANGE_CPUS, .. } => {
                return Err(EncodeError::Shape { field: "type", what: "a form that has a variant of its own" });
            }
            Self::Other { type_, data } => {
                to.int(*type_);
                to.bytes(data);
                // What fills up the record is part of the data.
                return Ok(());
            }
        }
        to.pad();
        Ok(())
    }
}

/// The CPUs of a [`CpuMap`].
#[derive(Clone, Debug)]
pub struct Cpus<'a>(Inner<'a>);

#[derive(Clone, Debug)]
enum Inner<'a> {
    Numbers(ArrayIter<'a, u16>),
    Mask32(Bits<ArrayIter<'a, u32>>),
    Mask64(Bits<ArrayIter<'a, u64>>),
    Range(std::ops::RangeInclusive<u32>),
}

impl Iterator for Cpus<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match &mut self.0 {
            Inner::Numbers(numbers) => numbers.find(|&cpu| cpu != CpuMap::ANY).map(u32::from),
            Inner::Mask32(bits) => bits.next(32),
            Inner::Mask64(bits) => bits.next(64),
            Inner::Range(range) => range.next(),
        }
    }
}

/// The bits that are set in a row of words.
#[derive(Clone, Debug)]
struct Bits<I> {
    words: I,
    /// What is left of the word that is read.
    word: u64,
    /// How many words were read.
    read: u32,
}

impl<I: Iterator<Item: Into<u64>>> Bits<I> {
    fn new(words: I) -> Self {
        Self { words, word: 0, read: 0 }
    }

    fn next(&mut self, width: u32) -> Option<u32> {
        while self.word == 0 {
            self.word = self.words.next()?.into();
            // At most 65535 words are in a record, so nothing overflows; those in a slice wrap.
            self.read = self.read.wrapping_add(1);
        }
        let bit = self.word.trailing_zeros();
        self.word &= self.word - 1;
        Some(self.read.wrapping_sub(1).wrapping_mul(width).wrapping_add(bit))
    }
}
