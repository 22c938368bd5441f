//! The events that a perf event array holds: rings of this crate, each of one CPU.

use super::environment::Environment;
use super::memory::Readable;
use crate::record::{Attr, RecordType, SampleType};
use crate::ring::{BeginError, Producer, Reservation, SharedProducer};
use thiserror::Error;

/// `PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_BPF_OUTPUT`.
const BPF_OUTPUT: (u32, u64) = (1, 10);
/// `PERF_RECORD_MISC_USER`: the program runs in user space.
const MISC_USER: u16 = 2;
/// What a sample may hold beside the data, in the order in which it stands.
const FIELDS: [SampleType; 10] = [
    SampleType::IDENTIFIER,
    SampleType::IP,
    SampleType::TID,
    SampleType::TIME,
    SampleType::ADDR,
    SampleType::ID,
    SampleType::STREAM_ID,
    SampleType::CPU,
    SampleType::PERIOD,
    SampleType::RAW,
];

/// Why a ring cannot be an event's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// Samples without the data that programs send.
    #[error("the sample_type {sample_type:#x} has no PERF_SAMPLE_RAW")]
    NoRaw {
        /// `sample_type`
        sample_type: u64,
    },
    /// A part of samples that there is nothing to fill with.
    #[error("the sample_type {sample_type:#x} has {unknown:#x}, of which programs know nothing")]
    SampleType {
        /// `sample_type`
        sample_type: u64,
        /// The bits.
        unknown: u64,
    },
}

#[derive(Debug)]
enum Ring {
    Own(Producer),
    Shared(SharedProducer),
}

/// An event: a ring, and what the records in it look like. It is what a slot of a perf event array holds.
///
/// Samples are framed as the kernel frames those of an event with the same `perf_event_attr`. `IP`, `ADDR` and `PERIOD` are
/// 0, `ID`, `STREAM_ID` and `IDENTIFIER` the id given, `CPU` that on which the program runs.
#[derive(Debug)]
pub struct Event {
    ring: Ring,
    sample_type: SampleType,
    id: u64,
    /// Bytes before the data's own size.
    before: usize,
    bpf_output: bool,
}

impl Event {
    /// A ring that one CPU alone writes.
    ///
    /// # Errors
    /// [`EventError`]
    pub fn new(producer: Producer, attr: &Attr, id: u64) -> Result<Self, EventError> {
        Self::with(Ring::Own(producer), attr, id)
    }

    /// A ring that others write, too.
    ///
    /// # Errors
    /// [`EventError`]
    pub fn shared(producer: SharedProducer, attr: &Attr, id: u64) -> Result<Self, EventError> {
        Self::with(Ring::Shared(producer), attr, id)
    }

    /// The `perf_event_attr` of an event for what programs send: `PERF_COUNT_SW_BPF_OUTPUT`, a sample each time, with these
    /// fields and the data.
    pub fn bpf_output_attr(sample_type: SampleType) -> Attr {
        let (type_, config) = BPF_OUTPUT;
        let sample_type = sample_type | SampleType::RAW;
        Attr { type_, config, sample_type, sample_period: 1, wakeup_events: 1, ..Attr::default() }
    }

    fn with(ring: Ring, attr: &Attr, id: u64) -> Result<Self, EventError> {
        let sample_type = attr.sample_type;
        let unknown = FIELDS.into_iter().fold(sample_type, SampleType::difference);
        if !unknown.is_empty() {
            return Err(EventError::SampleType { sample_type: sample_type.bits(), unknown: unknown.bits() });
        }
        if !sample_type.contains(SampleType::RAW) {
            return Err(EventError::NoRaw { sample_type: sample_type.bits() });
        }
        let before = 8 * (sample_type.bits().count_ones() as usize - 1);
        Ok(Self { ring, sample_type, id, before, bpf_output: (attr.type_, attr.config) == BPF_OUTPUT })
    }

    /// Whether it is one for what programs send.
    pub(crate) fn is_bpf_output(&self) -> bool {
        self.bpf_output
    }

    /// Opens a record for `size` bytes of data.
    pub(crate) fn reserve(
        &self,
        size: usize,
        cpu: u32,
        environment: &dyn Environment,
    ) -> Result<OpenEvent<'_>, BeginError> {
        // As in the kernel, the size of the data includes what fills the record up to a multiple of 8.
        let size = size.saturating_add(4).next_multiple_of(8) - 4;
        let total = 8 + self.before + 4 + size;
        let prefix = self.prefix(size, cpu, environment);
        let prefix = &prefix[..self.before + 4];
        Ok(match &self.ring {
            Ring::Own(producer) => {
                let mut record = producer.begin_forward_in_page(total)?;
                record.put(prefix);
                let payload = payload(record.body_mut(), prefix.len());
                OpenEvent { record: Record::Own(record), payload }
            }
            Ring::Shared(producer) => {
                let mut record = producer.begin_forward_in_page(total)?;
                record.put(prefix);
                let payload = payload(record.body_mut(), prefix.len());
                OpenEvent { record: Record::Shared(record), payload }
            }
        })
    }

    /// Writes a record with these pieces of data.
    pub(crate) fn output(&self, data: &[Readable], cpu: u32, environment: &dyn Environment) -> Result<(), BeginError> {
        let size: usize = data.iter().map(Readable::len).sum();
        let padded = size.saturating_add(4).next_multiple_of(8) - 4;
        let total = 8 + self.before + 4 + padded;
        let prefix = self.prefix(padded, cpu, environment);
        let prefix = &prefix[..self.before + 4];
        let copy = |mut to: &mut [u8]| {
            for part in data {
                let (piece, rest) = to.split_at_mut(part.len());
                part.copy_out(piece);
                to = rest;
            }
        };
        let type_ = RecordType::SAMPLE.0;
        match &self.ring {
            Ring::Own(producer) => {
                let mut record = producer.begin_forward_in_page(total)?;
                record.put(prefix);
                copy(&mut record.body_mut()[prefix.len()..]);
                record.commit(type_, MISC_USER);
            }
            Ring::Shared(producer) => {
                let mut record = producer.begin_forward_in_page(total)?;
                record.put(prefix);
                copy(&mut record.body_mut()[prefix.len()..]);
                record.commit(type_, MISC_USER);
            }
        }
        Ok(())
    }

    /// What stands before the data.
    #[inline]
    fn prefix(&self, size: usize, cpu: u32, environment: &dyn Environment) -> [u8; 8 * 9 + 4] {
        let mut bytes = [0; 8 * 9 + 4];
        let mut at = 0;
        if self.sample_type != SampleType::RAW {
            for field in FIELDS {
                if !self.sample_type.contains(field) || field == SampleType::RAW {
                    continue;
                }
                let value = match field {
                    SampleType::IDENTIFIER | SampleType::ID | SampleType::STREAM_ID => self.id,
                    // pid, then tid: the helper has them the other way round.
                    SampleType::TID => environment.pid_tgid().rotate_left(32),
                    SampleType::TIME => environment.ktime_get_ns(),
                    SampleType::CPU => u64::from(cpu),
                    _ => 0,
                };
                bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
                at += 8;
            }
        }
        bytes[at..at + 4].copy_from_slice(&(size as u32).to_ne_bytes());
        bytes
    }
}

#[derive(Debug)]
enum Record<'r> {
    Own(Reservation<'r, Producer>),
    Shared(Reservation<'r, SharedProducer>),
}

/// A record that is open, and in which a program stores.
#[derive(Debug)]
pub(crate) struct OpenEvent<'r> {
    record: Record<'r>,
    payload: (u64, usize),
}

impl OpenEvent<'_> {
    /// Address and size of the data.
    pub(crate) fn payload(&self) -> (u64, usize) {
        self.payload
    }

    pub(crate) fn commit(self) {
        let type_ = RecordType::SAMPLE.0;
        match self.record {
            Record::Own(record) => record.commit(type_, MISC_USER),
            Record::Shared(record) => record.commit(type_, MISC_USER),
        }
    }
}

/// Where a program stores: the record is not touched otherwise before it is closed.
fn payload(body: &mut [u8], at: usize) -> (u64, usize) {
    let data = &mut body[at..];
    (data.as_mut_ptr().expose_provenance() as u64, data.len())
}
