//! What sessions hand on, and what they count.

use super::probe::ProbeInfo;
use crate::bpf::MachineStats;
use crate::record::{Body, Decoded, Decoder};
use crate::ring::{ReadError, Record};

/// The number of a probe in a session, from 1 on: programs find it in `probe_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u32);

/// What went on at a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeStats {
    /// The probe.
    pub info: ProbeInfo,
    /// Its number.
    pub id: ProbeId,
    /// Programs that are attached to it.
    pub programs: usize,
    /// Programs that were stopped: [`Session::take_errors`](super::Session::take_errors) has the first of them.
    pub errors: u64,
    /// Programs that were not started, as no CPU was free.
    pub no_cpu: u64,
    /// Programs that were not started, as the thread ran one already, or was interrupted at a bad time.
    pub skipped: u64,
}

/// What went on in a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// The machine's: what was started, and what was not.
    pub machine: MachineStats,
    /// Firings in which nothing was started, as they came at a bad time.
    pub skipped: u64,
    /// Firings of programs that could not be started: as a context was shorter than what the program needs, say.
    pub refused: u64,
    /// Records that were lost, as a ring was full.
    pub lost: u64,
    /// Samples that were read.
    pub read: u64,
}

impl SessionStats {
    /// How often probes fired a program: where a probe has several, each counts.
    pub fn fired(&self) -> u64 {
        self.machine.runs + self.machine.no_cpu + self.machine.reentrant + self.skipped + self.refused
    }

    /// Firings of which nothing is in a ring: lost records, and programs that were not started.
    pub fn dropped(&self) -> u64 {
        self.lost + self.skipped + self.refused + self.machine.no_cpu + self.machine.reentrant
    }
}

/// What a session hands on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Item<'a> {
    /// What a program sent.
    Sample {
        /// The map that leads to the ring.
        map: &'a str,
        /// The CPU whose ring it is; none of a ring buffer.
        cpu: Option<u32>,
        /// When, in nanoseconds of CLOCK_MONOTONIC, where samples have the time.
        time: Option<u64>,
        /// What was sent, and zeros up to a multiple of 8 less 4.
        data: &'a [u8],
    },
    /// Records that were lost, as the ring was full.
    Lost {
        /// The map that leads to the ring.
        map: &'a str,
        /// The CPU whose ring it is; none of a ring buffer.
        cpu: Option<u32>,
        /// How many.
        lost: u64,
    },
    /// A record that programs do not send.
    Other {
        /// The map that leads to the ring.
        map: &'a str,
        /// The CPU whose ring it is; none of a ring buffer.
        cpu: Option<u32>,
        /// The whole record.
        record: &'a [u8],
    },
    /// A defect in a ring.
    Defect {
        /// The map that leads to the ring.
        map: &'a str,
        /// The CPU whose ring it is; none of a ring buffer.
        cpu: Option<u32>,
        /// The defect.
        error: ReadError,
    },
}

/// Whose ring it is.
#[derive(Debug)]
pub(super) struct RingName {
    pub(super) map: String,
    /// None of a ring buffer, which all CPUs write.
    pub(super) cpu: Option<u32>,
}

pub(super) type TimeOf = Box<dyn Fn(usize, &Record<'_>) -> Option<u64> + Send + Sync>;

/// Hands on a record of a ring; gives whether it is a sample.
pub(super) fn hand_on(
    decoder: &Decoder,
    name: &RingName,
    record: Record<'_>,
    action: &mut impl FnMut(Item<'_>),
) -> bool {
    let (map, cpu) = (&*name.map, name.cpu);
    match decoder.decode(record.bytes()) {
        Ok(Decoded { body: Body::Sample(sample), .. }) => {
            let data = sample.raw().unwrap_or_default();
            action(Item::Sample { map, cpu, time: sample.time(), data });
            return true;
        }
        Ok(Decoded { body: Body::Lost(lost), .. }) => action(Item::Lost { map, cpu, lost: lost.lost }),
        _ => action(Item::Other { map, cpu, record: record.bytes() }),
    }
    false
}
