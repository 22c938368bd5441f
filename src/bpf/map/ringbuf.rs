//! Ring buffers: `BPF_MAP_TYPE_RINGBUF`, as rings of this crate.

use super::{MapError, MapType};
use crate::bpf::event::{Event, OpenEvent, SharedEvent};
use crate::bpf::memory::Readable;
use crate::record::SampleType;
use crate::ring::{Consumer, Ring, SetupError, page_size};
use std::sync::{Mutex, PoisonError};

/// `BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP`
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
/// The largest granule of a confined ring.
const MAX_GRANULE: usize = 64 << 10;

/// A ring that all CPUs write.
///
/// It has at least 4 pages: each of its records lies in a granule, of which there are at least 4. Its records are samples, as those of perf event arrays are: the consumer is the same. They lie in granules of up to 64 KiB,
/// and so does the largest of them.
pub(crate) struct RingBuffer {
    event: SharedEvent,
    consumer: Mutex<Option<Consumer>>,
    size: usize,
}

impl RingBuffer {
    /// A ring of `bytes`, a power of two of whole pages, or of 4 pages where that is more.
    pub(crate) fn new(bytes: u32) -> Result<Self, MapError> {
        let size = (bytes as usize).max(4 * page_size());
        let refused = || MapError::MaxEntries { type_: MapType::Ringbuf, entries: bytes };
        if !bytes.is_power_of_two() || (bytes as usize) < page_size() {
            return Err(refused());
        }
        let no_memory = |error: SetupError| MapError::NoMemory { bytes: size, error: error.to_string() };
        let granule = (size / 4).min(MAX_GRANULE);
        let attr = Event::bpf_output_attr(SampleType::empty());
        let ring = Ring::confined(size / page_size())
            .granule(granule)
            .attr(attr.to_bytes(crate::record::ByteOrder::NATIVE), vec![])
            .private()
            .map_err(no_memory)?;
        let producer = ring.shared_producer().map_err(no_memory)?;
        let consumer = ring.consumer().map_err(no_memory)?;
        Ok(Self { event: SharedEvent::new(producer), consumer: Mutex::new(Some(consumer)), size })
    }

    /// The one consumer; none if it was taken before.
    pub(crate) fn take_consumer(&self) -> Option<Consumer> {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// `bpf_ringbuf_output`; the error is the errno value.
    pub(crate) fn output(&self, data: Readable, flags: u64) -> Result<(), i32> {
        if flags & !(NO_WAKEUP | FORCE_WAKEUP) != 0 {
            return Err(libc::EINVAL);
        }
        self.event.output(&[data]).map_err(|_| libc::EAGAIN)?;
        self.wake(flags);
        Ok(())
    }

    /// `bpf_ringbuf_reserve`; none where there is no room, or never will be.
    pub(crate) fn reserve(&self, size: u64) -> Option<OpenRecord<'_>> {
        let size = usize::try_from(size).ok().filter(|size| *size <= self.size)?;
        let event = self.event.reserve(size).ok()?;
        Some(OpenRecord { ring: self, event, size })
    }

    /// `bpf_ringbuf_query`
    pub(crate) fn query(&self, what: u64) -> u64 {
        let (tail, head) = self.event.producer().positions();
        match what {
            0 => head.wrapping_sub(tail),
            1 => self.size as u64,
            2 => tail,
            3 => head,
            _ => 0,
        }
    }

    fn wake(&self, flags: u64) {
        if flags & FORCE_WAKEUP != 0 {
            self.event.producer().flush();
        }
    }
}

/// A record that `bpf_ringbuf_reserve` opened.
pub(crate) struct OpenRecord<'r> {
    ring: &'r RingBuffer,
    event: OpenEvent<'r>,
    size: usize,
}

impl OpenRecord<'_> {
    /// Address and size of what the program may touch.
    pub(crate) fn payload(&self) -> (u64, usize) {
        (self.event.payload().0, self.size)
    }

    /// `bpf_ringbuf_submit`
    pub(crate) fn submit(self, flags: u64) {
        self.event.commit();
        self.ring.wake(flags);
    }
}
