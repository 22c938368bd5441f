//! The events that a perf event array holds: rings of this crate, each of one CPU.

use super::environment::{Environment, Live};
use super::memory::Readable;
use crate::record::{Attr, RecordType, SampleType};
use crate::ring::{BeginError, Owner, Producer, Reservation, SharedProducer};
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

/// A producer of records that lie in one granule.
trait Begin: Owner + Sized {
    fn begin(&self, size: usize) -> Result<Reservation<'_, Self>, BeginError>;
}

impl Begin for Producer {
    #[inline]
    fn begin(&self, size: usize) -> Result<Reservation<'_, Self>, BeginError> {
        self.begin_forward_in_page(size)
    }
}

impl Begin for SharedProducer {
    #[inline]
    fn begin(&self, size: usize) -> Result<Reservation<'_, Self>, BeginError> {
        self.begin_forward_in_page(size)
    }
}

/// What the samples of an event look like.
#[derive(Clone, Copy, Debug)]
struct Framing {
    sample_type: SampleType,
    id: u64,
    /// Bytes before the data's own size.
    before: usize,
}

impl Framing {
    fn new(attr: &Attr, id: u64) -> Result<Self, EventError> {
        let sample_type = attr.sample_type;
        let unknown = FIELDS.into_iter().fold(sample_type, SampleType::difference);
        if !unknown.is_empty() {
            return Err(EventError::SampleType { sample_type: sample_type.bits(), unknown: unknown.bits() });
        }
        if !sample_type.contains(SampleType::RAW) {
            return Err(EventError::NoRaw { sample_type: sample_type.bits() });
        }
        let before = 8 * (sample_type.bits().count_ones() as usize - 1);
        Ok(Self { sample_type, id, before })
    }

    /// Opens a record for `size` bytes of data.
    #[inline(always)]
    fn reserve<'r, P: Begin>(
        &self,
        producer: &'r P,
        size: usize,
        cpu: u32,
        environment: &dyn Environment,
    ) -> Result<(Reservation<'r, P>, (u64, usize)), BeginError> {
        // As in the kernel, the size of the data includes what fills the record up to a multiple of 8.
        let size = size.saturating_add(4).checked_next_multiple_of(8).unwrap_or(usize::MAX - 7) - 4;
        let before = self.before + 4;
        let mut record = producer.begin(size.saturating_add(8 + before))?;
        if self.before != 0 {
            let words = self.fields(cpu, environment);
            words.iter().take(self.before / 8).for_each(|word| record.put(&word.to_ne_bytes()));
        }
        record.put(&(size as u32).to_ne_bytes());
        let data = &mut record.body_mut()[before..];
        // Where a program stores: the record is not touched otherwise before it is closed.
        let payload = (data.as_mut_ptr().expose_provenance() as u64, data.len());
        Ok((record, payload))
    }

    /// Writes a record with these pieces of data.
    #[inline]
    fn output<P: Begin>(
        &self,
        producer: &P,
        data: &[Readable],
        cpu: u32,
        environment: &dyn Environment,
    ) -> Result<(), BeginError> {
        let size = data.iter().map(Readable::len).sum::<usize>();
        let size = size.saturating_add(4).checked_next_multiple_of(8).unwrap_or(usize::MAX - 7) - 4;
        let before = self.before + 4;
        let mut record = producer.begin(size.saturating_add(8 + before))?;
        if self.before != 0 {
            let words = self.fields(cpu, environment);
            words.iter().take(self.before / 8).for_each(|word| record.put(&word.to_ne_bytes()));
        }
        record.put(&(size as u32).to_ne_bytes());
        let mut to = &mut record.body_mut()[before..];
        for part in data {
            let (piece, rest) = to.split_at_mut(part.len());
            part.copy_out(piece);
            to = rest;
        }
        record.commit(RecordType::SAMPLE.0, MISC_USER);
        Ok(())
    }

    /// What stands before the data. Not written here, as the record would have to be in memory for that, instead of in registers.
    #[inline(never)]
    fn fields(&self, cpu: u32, environment: &dyn Environment) -> [u64; FIELDS.len()] {
        let mut words = [0; FIELDS.len()];
        let present = FIELDS.into_iter().filter(|field| *field != SampleType::RAW && self.sample_type.contains(*field));
        for (word, field) in words.iter_mut().zip(present) {
            *word = match field {
                SampleType::IDENTIFIER | SampleType::ID | SampleType::STREAM_ID => self.id,
                // pid, then tid: the helper has them the other way round.
                SampleType::TID => environment.pid_tgid().rotate_left(32),
                SampleType::TIME => environment.ktime_get_ns(),
                SampleType::CPU => u64::from(cpu),
                _ => 0,
            };
        }
        words
    }
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
    framing: Framing,
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
        let framing = Framing::new(attr, id)?;
        Ok(Self { ring, framing, bpf_output: (attr.type_, attr.config) == BPF_OUTPUT })
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
        let (record, payload) = match &self.ring {
            Ring::Own(producer) => {
                let (record, payload) = self.framing.reserve(producer, size, cpu, environment)?;
                (Record::Own(record), payload)
            }
            Ring::Shared(producer) => {
                let (record, payload) = self.framing.reserve(producer, size, cpu, environment)?;
                (Record::Shared(record), payload)
            }
        };
        Ok(OpenEvent { record, payload })
    }

    /// Writes a record with these pieces of data.
    pub(crate) fn output(&self, data: &[Readable], cpu: u32, environment: &dyn Environment) -> Result<(), BeginError> {
        match &self.ring {
            Ring::Own(producer) => self.framing.output(producer, data, cpu, environment),
            Ring::Shared(producer) => self.framing.output(producer, data, cpu, environment),
        }
    }
}

/// A ring that all CPUs write, and whose samples hold the data alone.
#[derive(Debug)]
pub(crate) struct SharedEvent {
    producer: SharedProducer,
    framing: Framing,
}

/// Such samples need nothing of the world.
static NO_ENVIRONMENT: Live = Live::new();

impl SharedEvent {
    pub(crate) fn new(producer: SharedProducer) -> Self {
        Self { producer, framing: Framing { sample_type: SampleType::RAW, id: 0, before: 0 } }
    }

    pub(crate) fn producer(&self) -> &SharedProducer {
        &self.producer
    }

    pub(crate) fn reserve(&self, size: usize) -> Result<OpenEvent<'_>, BeginError> {
        let (record, payload) = self.framing.reserve(&self.producer, size, 0, &NO_ENVIRONMENT)?;
        Ok(OpenEvent { record: Record::Shared(record), payload })
    }

    pub(crate) fn output(&self, data: &[Readable]) -> Result<(), BeginError> {
        self.framing.output(&self.producer, data, 0, &NO_ENVIRONMENT)
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
