//! The values of events, as a read gives them.

use crate::kernel::{Error, ReadFormat};
use crate::record::{ReadValues, Words, scaled};

/// The value of an event, and what else its `read_format` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Count {
    /// How often the event happened; of clocks, nanoseconds.
    pub value: u64,
    /// How long the event was switched on, in nanoseconds (`TOTAL_TIME_ENABLED`).
    pub time_enabled: Option<u64>,
    /// How long the event counted, in nanoseconds (`TOTAL_TIME_RUNNING`).
    pub time_running: Option<u64>,
    /// The id of the event (`ID`).
    pub id: Option<u64>,
    /// The number of samples that found no space in the ring (`LOST`).
    pub lost: Option<u64>,
}

impl Count {
    /// What the value would be if the event had counted all the time that it was switched on:
    /// `value * time_enabled / time_running`, rounded down, at most `u64::MAX`.
    ///
    /// `None` when it never counted, or the times were not read.
    ///
    /// ```
    /// # fn main() -> Result<(), perfring::kernel::Error> {
    /// # use perfring::kernel::{EventBuilder, ReadFormat, Software, Target};
    /// let event = EventBuilder::software(Software::Dummy).exclude_kernel(true).exclude_hv(true);
    /// # let Ok(_) = event.open(Target::CallingThread) else { return Ok(()) };
    /// assert_eq!(event.open(Target::CallingThread)?.read()?.scaled(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scaled(&self) -> Option<u64> {
        scaled(self.value, self.time_enabled?, self.time_running?)
    }
}

/// The values of a group, read at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct GroupCount {
    /// How long the leader was switched on, in nanoseconds (`TOTAL_TIME_ENABLED`). Each count has it as well.
    pub time_enabled: Option<u64>,
    /// How long the group counted, in nanoseconds (`TOTAL_TIME_RUNNING`). Each count has it as well.
    pub time_running: Option<u64>,
    /// The counts: the leader's, then the members' in the order in which they were opened.
    pub counts: Vec<Count>,
}

impl GroupCount {
    /// The count of the event with this id, if ids were read.
    pub fn get(&self, id: u64) -> Option<&Count> {
        self.counts.iter().find(|count| count.id == Some(id))
    }
}

/// The words that a read gave, by the format.
pub(super) fn parse(format: ReadFormat, words: &[u64]) -> Result<GroupCount, Error> {
    let unknown = format.bits() & !KNOWN.bits();
    if unknown != 0 {
        return Err(Error::ReadFormat { bits: unknown });
    }
    let short = || Error::ReadLength { bytes: size_of_val(words), format };
    let read = ReadValues::new(format, Words::from(words)).ok_or_else(short)?;
    let (time_enabled, time_running) = (read.time_enabled(), read.time_running());
    let counts = read.iter().map(|counter| Count {
        value: counter.value,
        time_enabled,
        time_running,
        id: counter.id,
        lost: counter.lost,
    });
    Ok(GroupCount { time_enabled, time_running, counts: counts.collect() })
}

/// The bits whose meaning this crate knows.
const KNOWN: ReadFormat = ReadFormat::TOTAL_TIME_ENABLED
    .union(ReadFormat::TOTAL_TIME_RUNNING)
    .union(ReadFormat::ID)
    .union(ReadFormat::GROUP)
    .union(ReadFormat::LOST);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format() {
        for bits in 0..32 {
            let format = ReadFormat::from_bits_retain(bits);
            let has = |bit| format.contains(bit);
            let (enabled, running) = (has(ReadFormat::TOTAL_TIME_ENABLED), has(ReadFormat::TOTAL_TIME_RUNNING));
            let times = [(enabled, 1000), (running, 500)];
            let times = times.into_iter().filter(|(there, _)| *there).map(|(_, time)| time);
            let of = |n: u64| {
                let rest = [(has(ReadFormat::ID), 70 + n), (has(ReadFormat::LOST), 90 + n)];
                rest.into_iter().filter(|(there, _)| *there).map(|(_, word)| word)
            };
            let events = if has(ReadFormat::GROUP) { 3 } else { 1 };
            let words: Vec<u64> = if has(ReadFormat::GROUP) {
                let all = (0..3).flat_map(|n| std::iter::once(n + 1).chain(of(n)));
                std::iter::once(3).chain(times).chain(all).collect()
            } else {
                std::iter::once(1).chain(times).chain(of(0)).collect()
            };
            let read = parse(format, &words).unwrap();
            assert_eq!(read.counts.len(), events, "{format:?}");
            for (count, n) in read.counts.iter().zip(0..) {
                let expected = Count {
                    value: n + 1,
                    time_enabled: enabled.then_some(1000),
                    time_running: running.then_some(500),
                    id: has(ReadFormat::ID).then_some(70 + n),
                    lost: has(ReadFormat::LOST).then_some(90 + n),
                };
                assert_eq!(*count, expected, "{format:?}");
                assert_eq!(count.scaled(), (enabled && running).then_some(2 * (n + 1)));
            }
            // Any other length is an error.
            for short in 0..words.len() {
                assert!(matches!(parse(format, &words[..short]), Err(Error::ReadLength { .. })), "{format:?} {short}");
            }
            let long = [words, vec![0]].concat();
            assert!(matches!(parse(format, &long), Err(Error::ReadLength { .. })), "{format:?}");
        }
    }

    #[test]
    fn damage_is_an_error() {
        assert!(matches!(parse(ReadFormat::GROUP, &[u64::MAX, 1, 2]), Err(Error::ReadLength { .. })));
        let newer = ReadFormat::from_bits_retain(1 << 9);
        assert!(matches!(parse(newer, &[1]), Err(Error::ReadFormat { bits: 512 })));
        assert_eq!(parse(ReadFormat::GROUP, &[0]).unwrap().counts, []);
    }

    #[test]
    fn scaling() {
        let count = |value, enabled, running| Count {
            value,
            time_enabled: Some(enabled),
            time_running: Some(running),
            ..Count::default()
        };
        assert_eq!(count(10, 3, 2).scaled(), Some(15));
        assert_eq!(count(0, 3, 0).scaled(), None);
        assert_eq!(count(u64::MAX, u64::MAX, u64::MAX).scaled(), Some(u64::MAX));
        assert_eq!(count(u64::MAX, 2, 1).scaled(), Some(u64::MAX));
        assert_eq!(Count::default().scaled(), None);
    }
}
