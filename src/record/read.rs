//! The values of counters, as read(2), `READ` in a sample and the record `READ` give them.

use crate::record::bytes::{Cursor, Words, Writer};
use crate::record::{Defect, DefectKind, EncodeError, ReadFormat};

/// The values of one counter, or of a group of them, in the shape that a [`ReadFormat`] says.
///
/// ```
/// use perfring::record::{ReadFormat, ReadValues, Words};
///
/// let format = ReadFormat::GROUP | ReadFormat::TOTAL_TIME_ENABLED | ReadFormat::ID;
/// let words = [2, 1000, 17, 5, 18, 6];
/// let read = ReadValues::new(format, Words::from(&words)).expect("words of that shape");
/// assert_eq!(read.time_enabled(), Some(1000));
/// let values: Vec<_> = read.iter().map(|counter| (counter.value, counter.id)).collect();
/// assert_eq!(values, [(17, Some(5)), (18, Some(6))]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadValues<'a> {
    format: ReadFormat,
    words: Words<'a>,
}

/// One counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CounterValue {
    /// What was counted.
    pub value: u64,
    /// The event's id, with [`ReadFormat::ID`].
    pub id: Option<u64>,
    /// Records of the event that found no space, with [`ReadFormat::LOST`].
    pub lost: Option<u64>,
}

impl<'a> ReadValues<'a> {
    /// Words in the shape of `format`; none if they have another.
    pub fn new(format: ReadFormat, words: Words<'a>) -> Option<Self> {
        let mut from = Cursor::new(words.bytes, words.order);
        let read = Self::get(&mut from, format).ok()?;
        from.rest().is_empty().then_some(read)
    }

    /// How many words a counter takes.
    fn stride(format: ReadFormat) -> usize {
        1 + usize::from(format.contains(ReadFormat::ID)) + usize::from(format.contains(ReadFormat::LOST))
    }

    /// How many words the times take.
    fn times(format: ReadFormat) -> usize {
        usize::from(format.contains(ReadFormat::TOTAL_TIME_ENABLED))
            + usize::from(format.contains(ReadFormat::TOTAL_TIME_RUNNING))
    }

    /// How many words `count` counters take. The count may be anything.
    #[inline]
    pub(crate) fn words_of(format: ReadFormat, count: u64) -> u64 {
        let head = Self::times(format) + usize::from(format.contains(ReadFormat::GROUP));
        count.saturating_mul(Self::stride(format) as u64).saturating_add(head as u64)
    }

    pub(crate) fn get(from: &mut Cursor<'a>, format: ReadFormat) -> Result<Self, Defect> {
        let count = match format.contains(ReadFormat::GROUP) {
            true => { *from }.int("nr")?,
            false => 1,
        };
        Ok(Self { format, words: from.words(Self::words_of(format, count), "read")? })
    }

    /// From words whose count was checked before.
    #[inline]
    pub(crate) fn of_checked(format: ReadFormat, words: Words<'a>) -> Self {
        Self { format, words }
    }

    pub(crate) fn put(&self, to: &mut Writer<'_>, format: ReadFormat) -> Result<(), EncodeError> {
        if self.format != format {
            return Err(EncodeError::Shape { field: "read", what: "the read_format of the layout" });
        }
        to.words(self.words);
        Ok(())
    }

    /// The shape.
    pub fn format(&self) -> ReadFormat {
        self.format
    }

    /// All words.
    pub fn words(&self) -> Words<'a> {
        self.words
    }

    /// How many counters there are: one without [`ReadFormat::GROUP`].
    #[inline]
    pub fn len(&self) -> usize {
        let words = self.words.len().saturating_sub(Self::words_of(self.format, 0) as usize);
        words / Self::stride(self.format)
    }

    /// Whether there is none, as in a group that has ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nanoseconds that the event was enabled, with [`ReadFormat::TOTAL_TIME_ENABLED`].
    #[inline]
    pub fn time_enabled(&self) -> Option<u64> {
        if !self.format.contains(ReadFormat::TOTAL_TIME_ENABLED) {
            return None;
        }
        // In a group it stands behind the number, otherwise behind the value.
        self.words.get(1)
    }

    /// Nanoseconds that the event counted, with [`ReadFormat::TOTAL_TIME_RUNNING`].
    #[inline]
    pub fn time_running(&self) -> Option<u64> {
        if !self.format.contains(ReadFormat::TOTAL_TIME_RUNNING) {
            return None;
        }
        self.words.get(1 + usize::from(self.format.contains(ReadFormat::TOTAL_TIME_ENABLED)))
    }

    /// The counter at `index`: the group's leader is the first.
    #[inline]
    pub fn get_counter(&self, index: usize) -> Option<CounterValue> {
        let has_id = self.format.contains(ReadFormat::ID);
        let (value, more) = if self.format.contains(ReadFormat::GROUP) {
            let start = 1 + Self::times(self.format);
            let at = index.checked_mul(Self::stride(self.format))?.checked_add(start)?;
            (at, at + 1)
        } else if index == 0 {
            (0, 1 + Self::times(self.format))
        } else {
            return None;
        };
        Some(CounterValue {
            value: self.words.get(value)?,
            id: if has_id { self.words.get(more) } else { None },
            lost: match self.format.contains(ReadFormat::LOST) {
                true => self.words.get(more + usize::from(has_id)),
                false => None,
            },
        })
    }

    /// The counters, the group's leader first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = CounterValue> + use<'a> {
        let read = *self;
        (0..self.len()).map(move |index| {
            // The length is that of the words.
            read.get_counter(index).unwrap_or(CounterValue { value: 0, id: None, lost: None })
        })
    }
}

/// A scaled estimate of what a counter would have counted, had it counted all the time that it was enabled; none if it never
/// counted.
///
/// ```
/// use perfring::record::scaled;
/// assert_eq!(scaled(10, 300, 100), Some(30));
/// assert_eq!(scaled(10, 300, 0), None);
/// ```
pub fn scaled(value: u64, time_enabled: u64, time_running: u64) -> Option<u64> {
    let product = u128::from(value) * u128::from(time_enabled);
    let scaled = product.checked_div(u128::from(time_running))?;
    Some(u64::try_from(scaled).unwrap_or(u64::MAX))
}

impl Defect {
    pub(crate) fn truncated(offset: usize, field: &'static str, needed: u64, left: usize) -> Self {
        Self { offset, field, kind: DefectKind::Truncated { needed, left } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_formats() {
        for bits in 0..32 {
            let format = ReadFormat::from_bits_retain(bits);
            let group = format.contains(ReadFormat::GROUP);
            let counters: &[u64] = if group { &[100, 200, 300] } else { &[100] };
            let mut words = Vec::new();
            let times = |words: &mut Vec<u64>| {
                words.extend(format.contains(ReadFormat::TOTAL_TIME_ENABLED).then_some(7));
                words.extend(format.contains(ReadFormat::TOTAL_TIME_RUNNING).then_some(8));
            };
            if group {
                words.push(3);
                times(&mut words);
            }
            for &value in counters {
                words.push(value);
                if !group {
                    times(&mut words);
                }
                words.extend(format.contains(ReadFormat::ID).then_some(value + 1));
                words.extend(format.contains(ReadFormat::LOST).then_some(value + 2));
            }
            let read = ReadValues::new(format, Words::from(&words[..])).unwrap();
            assert_eq!(read.len(), counters.len(), "{format:?}");
            assert_eq!(read.time_enabled(), format.contains(ReadFormat::TOTAL_TIME_ENABLED).then_some(7));
            assert_eq!(read.time_running(), format.contains(ReadFormat::TOTAL_TIME_RUNNING).then_some(8));
            for (index, (&value, counter)) in counters.iter().zip(read.iter()).enumerate() {
                assert_eq!(counter.value, value, "{format:?}");
                assert_eq!(counter.id, format.contains(ReadFormat::ID).then_some(value + 1), "{format:?}");
                assert_eq!(counter.lost, format.contains(ReadFormat::LOST).then_some(value + 2), "{format:?}");
                assert_eq!(read.get_counter(index), Some(counter));
            }
            assert_eq!(read.get_counter(counters.len()), None);
            assert_eq!(ReadValues::new(format, Words::from(&words[1..])), None, "{format:?}: a word is missing");
        }
    }

    #[test]
    fn a_group_of_impossible_size_is_none() {
        for count in [u64::MAX, u64::MAX / 8, 1 << 61, 2] {
            assert_eq!(ReadValues::new(ReadFormat::GROUP, Words::from(&[count, 1])), None);
        }
    }

    #[test]
    fn scaling_does_not_overflow() {
        assert_eq!(scaled(u64::MAX, u64::MAX, u64::MAX), Some(u64::MAX));
        assert_eq!(scaled(u64::MAX, 2, 1), Some(u64::MAX));
        assert_eq!(scaled(0, 0, 0), None);
    }
}
