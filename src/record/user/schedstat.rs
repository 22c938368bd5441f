//! Statistics of the scheduler: what `/proc/schedstat` says, as `perf sched stats record` writes it.

use super::array::{Array, ArrayIter};
use crate::record::bytes::{Cursor, Field, Writer, wire};
use crate::record::{Defect, EncodeError};
use std::iter::Zip;
use std::slice::Iter;

/// `SCHEDSTAT_CPU`: the scheduler's counters of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedstatCpu<'a> {
    /// When they were read, in jiffies.
    pub timestamp: u64,
    /// The CPU.
    pub cpu: u32,
    /// The version of `/proc/schedstat`.
    pub version: u16,
    /// The counters.
    pub counters: CpuCounters<'a>,
}

/// The counters of a [`SchedstatCpu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CpuCounters<'a> {
    /// Those of versions 15, 16 and 17.
    V15(SchedstatCpuCounters),
    /// Those of a version that this crate does not know: the rest of the record.
    Other(&'a [u8]),
}

wire! {
    /// What the scheduler counts on a CPU since it was booted, by the names of `perf`.
    pub struct SchedstatCpuCounters {
        /// Calls of `sched_yield()`.
        pub yld_count: u32,
        /// Not used any more.
        pub array_exp: u32,
        /// Calls of `schedule()`.
        pub sched_count: u32,
        /// Those that left the CPU idle.
        pub sched_goidle: u32,
        /// Tasks woken up.
        pub ttwu_count: u32,
        /// Those woken up on this CPU.
        pub ttwu_local: u32,
        /// How long tasks ran, in nanoseconds.
        pub rq_cpu_time: u64,
        /// How long tasks waited to run, in nanoseconds.
        pub run_delay: u64,
        /// Time slices.
        pub pcount: u64,
    }
}

const KNOWN: std::ops::RangeInclusive<u16> = 15..=17;

impl<'a> Field<'a> for SchedstatCpu<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let timestamp = from.int("timestamp")?;
        let cpu = from.int("cpu")?;
        let version = from.int("version")?;
        from.int::<u16>("pad")?;
        let counters = if KNOWN.contains(&version) {
            CpuCounters::V15(Field::get(from, "counters")?)
        } else {
            CpuCounters::Other(from.take(from.rest().len() as u64, "counters")?)
        };
        Ok(Self { timestamp, cpu, version, counters })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.int(self.timestamp);
        to.int(self.cpu);
        to.int(self.version);
        to.int(0_u16);
        match (self.counters, KNOWN.contains(&self.version)) {
            (CpuCounters::V15(counters), true) => counters.put(to, "counters"),
            (CpuCounters::Other(bytes), false) => {
                to.bytes(bytes);
                Ok(())
            }
            _ => Err(EncodeError::Shape { field: "counters", what: "not those of the version" }),
        }
    }
}

/// `SCHEDSTAT_DOMAIN`: the scheduler's counters of a domain, as one of its CPUs has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedstatDomain<'a> {
    /// When they were read, in jiffies.
    pub timestamp: u64,
    /// The CPU.
    pub cpu: u32,
    /// The version of `/proc/schedstat`.
    pub version: u16,
    /// The domain's number, from 0 for the smallest that the CPU is in.
    pub domain: u16,
    /// The counters, in the order of [`SchedstatDomain::names`]; of a version that this crate does not know all that the
    /// record holds, if they are 4 bytes wide, too.
    pub counters: Array<'a, u32>,
}

impl<'a> SchedstatDomain<'a> {
    /// The names of the counters of versions 15, 16 and 17.
    pub fn names(version: u16) -> Option<&'static [&'static str]> {
        match version {
            15 => Some(&V15),
            16 => Some(&V16),
            17 => Some(&V17),
            _ => None,
        }
    }

    /// The counters with their names, if the version is known.
    pub fn named(&self) -> Option<Zip<Iter<'static, &'static str>, ArrayIter<'a, u32>>> {
        Some(Self::names(self.version)?.iter().zip(self.counters))
    }
}

impl<'a> Field<'a> for SchedstatDomain<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let timestamp = from.int("timestamp")?;
        let cpu = from.int("cpu")?;
        let version = from.int("version")?;
        let domain = from.int("domain")?;
        let counters = match Self::names(version) {
            Some(names) => {
                let counters = Array::take(from, names.len() as u64, "counters")?;
                // Records are as long as the longest version; what lies behind means nothing.
                from.take(from.rest().len() as u64, "counters")?;
                counters
            }
            None => Array::take_rest(from, "counters")?,
        };
        Ok(Self { timestamp, cpu, version, domain, counters })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        let names = Self::names(self.version);
        if names.is_some_and(|names| names.len() != self.counters.len()) {
            return Err(EncodeError::Shape { field: "counters", what: "not those of the version" });
        }
        to.int(self.timestamp);
        to.int(self.cpu);
        to.int(self.version);
        to.int(self.domain);
        self.counters.put(to, "counters")?;
        if names.is_some() {
            to.pad();
        }
        Ok(())
    }
}

macro_rules! balance {
    (sum $($kind:literal)+) => {
        [$([
            concat!($kind, "_lb_count"),
            concat!($kind, "_lb_balanced"),
            concat!($kind, "_lb_failed"),
            concat!($kind, "_lb_imbalance"),
            concat!($kind, "_lb_gained"),
            concat!($kind, "_lb_hot_gained"),
            concat!($kind, "_lb_nobusyq"),
            concat!($kind, "_lb_nobusyg"),
        ],)+]
    };
    (kinds $($kind:literal)+) => {
        [$([
            concat!($kind, "_lb_count"),
            concat!($kind, "_lb_balanced"),
            concat!($kind, "_lb_failed"),
            concat!($kind, "_lb_imbalance_load"),
            concat!($kind, "_lb_imbalance_util"),
            concat!($kind, "_lb_imbalance_task"),
            concat!($kind, "_lb_imbalance_misfit"),
            concat!($kind, "_lb_gained"),
            concat!($kind, "_lb_hot_gained"),
            concat!($kind, "_lb_nobusyq"),
            concat!($kind, "_lb_nobusyg"),
        ],)+]
    };
}

const TAIL: [&str; 12] = [
    "alb_count",
    "alb_failed",
    "alb_pushed",
    "sbe_count",
    "sbe_balanced",
    "sbe_pushed",
    "sbf_count",
    "sbf_balanced",
    "sbf_pushed",
    "ttwu_wake_remote",
    "ttwu_move_affine",
    "ttwu_move_balance",
];

const fn joined<const E: usize, const N: usize>(kinds: [[&'static str; E]; 3]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = if at < 3 * E { kinds[at / E][at % E] } else { TAIL[at - 3 * E] };
        at += 1;
    }
    names
}

static V15: [&str; 36] = joined(balance!(sum "idle" "busy" "newidle"));
static V16: [&str; 36] = joined(balance!(sum "busy" "idle" "newidle"));
static V17: [&str; 45] = joined(balance!(kinds "busy" "idle" "newidle"));
