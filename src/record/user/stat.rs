//! What `perf stat record` writes.

use super::array::{Array, array_item, put_count};
use crate::record::bytes::{Cursor, Field, Writer, wire};
use crate::record::{Defect, EncodeError};

wire! {
    /// A setting of `perf stat`.
    pub struct StatConfigEntry {
        /// Which: one of [`StatConfig`]'s constants.
        pub tag: u64,
        /// Its value.
        pub val: u64,
    }

    /// `STAT`: a counter's value.
    pub struct Stat {
        /// The counter's id.
        pub id: u64,
        /// The CPU's number; [`u32::MAX`] for any, as of a counter that follows a thread.
        pub cpu: u32,
        /// The thread's index in the `THREAD_MAP`.
        pub thread: u32,
        /// What was counted.
        pub val: u64,
        /// How long the counter was enabled, in nanoseconds.
        pub ena: u64,
        /// How long it counted, in nanoseconds.
        pub run: u64,
    }

    /// `STAT_ROUND`: the end of a round of counters.
    pub struct StatRound {
        /// [`StatRound::INTERVAL`] or [`StatRound::FINAL`].
        pub type_: u64,
        /// When, in nanoseconds since counting began.
        pub time: u64,
    }
}

impl StatRound {
    /// The end of an interval (`PERF_STAT_ROUND_TYPE__INTERVAL`).
    pub const INTERVAL: u64 = 0;
    /// The end of counting (`PERF_STAT_ROUND_TYPE__FINAL`).
    pub const FINAL: u64 = 1;
}

array_item! {
    StatConfigEntry = 16;
}

/// `STAT_CONFIG`: how counters are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatConfig<'a> {
    /// The settings.
    pub data: Array<'a, StatConfigEntry>,
}

impl StatConfig<'_> {
    /// The tag of how counters are summed up: per core, socket, and so on (`PERF_STAT_CONFIG_TERM__AGGR_MODE`).
    pub const AGGR_MODE: u64 = 0;
    /// The tag of the interval, in milliseconds (`PERF_STAT_CONFIG_TERM__INTERVAL`).
    pub const INTERVAL: u64 = 1;
    /// The tag of whether counters are scaled up to the time they were enabled (`PERF_STAT_CONFIG_TERM__SCALE`).
    pub const SCALE: u64 = 2;
}

impl<'a> Field<'a> for StatConfig<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let nr = from.int("nr")?;
        Ok(Self { data: Array::take(from, nr, "data")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        put_count(to, self.data.len());
        self.data.put(to, "data")
    }
}
