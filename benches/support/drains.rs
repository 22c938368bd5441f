//! The readers of a kernel ring that are compared.
#![allow(unsafe_code)]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::perf::{PerfEvent, PerfEventArrayBuffer};
use aya::maps::{Map, MapData, PerfEventArray};
use memmap2::MmapRaw;
use perf_event::events::Software;
use perf_event::{Builder, SampleFlag};
use perf_event_open_sys::bindings::perf_event_mmap_page;
use perfring::ring::{Consumer, KernelDirection};

use crate::feed::{Feed, Kind, RING_BYTES, Seen, open, payload_word, word};

/// A ring of its own, filled on demand and read by one library.
pub trait Drain {
    fn fill(&mut self) -> std::io::Result<()>;

    /// Reads until the ring is empty.
    fn drain(&mut self) -> Seen;
}

/// What a contender is called, and how it is set up; an error says why it cannot run.
pub type Setup = (&'static str, fn(Kind, u32) -> Result<Box<dyn Drain>, String>);

pub const MINIMAL: Setup = ("minimal loop", Minimal::setup);
pub const OURS: Setup = ("perfring for_each", Ours::setup);
pub const AYA: Setup = ("aya for_each", Aya::setup);
pub const PERF_EVENT2: Setup = ("perf-event2 next_record", PerfEvent2::setup);
pub const LIBBPF: Setup = ("libbpf perf_buffer", libbpf_setup);

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The least that reads a ring: head once, a mask, a check of each size, tail once.
struct Minimal {
    feed: Feed,
    map: MmapRaw,
    data_offset: usize,
    size: usize,
    tail: u64,
    wrapped: Vec<u8>,
    _event: OwnedFd,
}

impl Minimal {
    fn setup(kind: Kind, cpu: u32) -> Result<Box<dyn Drain>, String> {
        let (map, event) = open(kind, cpu).map_err(text)?;
        let mut feed = Feed::new(kind, cpu).map_err(text)?;
        feed.connect(&event).map_err(text)?;
        let page = map.as_ptr().cast::<perf_event_mmap_page>();
        // SAFETY: the mapping starts with this page, and the kernel does not change these fields after mmap.
        let (data_offset, data_size) = unsafe { ((*page).data_offset, (*page).data_size) };
        if data_size != RING_BYTES as u64 || data_offset + data_size != map.len() as u64 {
            return Err(format!("data_offset {data_offset}, data_size {data_size}"));
        }
        let wrapped = vec![0; usize::from(u16::MAX)];
        Ok(Box::new(Self {
            feed,
            map,
            data_offset: data_offset as usize,
            size: data_size as usize,
            tail: 0,
            wrapped,
            _event: event,
        }))
    }
}

impl Drain for Minimal {
    fn fill(&mut self) -> std::io::Result<()> {
        self.feed.fill()
    }

    fn drain(&mut self) -> Seen {
        let page = self.map.as_mut_ptr().cast::<perf_event_mmap_page>();
        // SAFETY: both words lie in the mapping's first page, are aligned, and are only accessed atomically here; the
        // mapping lives as long as `self`.
        let (head, tail) = unsafe {
            (AtomicU64::from_ptr(&raw mut (*page).data_head), AtomicU64::from_ptr(&raw mut (*page).data_tail))
        };
        let head = head.load(Ordering::Acquire);
        // SAFETY: `setup` has checked that the data area is these bytes of the mapping. The kernel writes only between
        // head and tail + size, and only the bytes between tail and head are read below.
        let data = unsafe { self.map.as_ptr().add(self.data_offset) };
        // The ring's size as a library knows it: only at run time.
        let capacity = self.size;
        let mut at = self.tail;
        let mut seen = Seen::default();
        while at != head {
            let offset = at as usize & (capacity - 1);
            // SAFETY: a record is aligned to 8, so its header does not wrap; it was published by the acquired head.
            let header = unsafe { data.add(offset).cast::<u64>().read() };
            let size = (header >> 48) as usize;
            if size < 8 || size as u64 > head.wrapping_sub(at) {
                panic!("a record of {size} bytes at {at}");
            }
            let record = if offset + size <= capacity {
                // SAFETY: inside the data area by the condition, published by the size check.
                unsafe { std::slice::from_raw_parts(data.add(offset), size) }
            } else {
                let first = capacity - offset;
                // SAFETY: the two parts of the record, both inside the data area and published.
                let parts = unsafe {
                    (
                        std::slice::from_raw_parts(data.add(offset), first),
                        std::slice::from_raw_parts(data, size - first),
                    )
                };
                self.wrapped[..first].copy_from_slice(parts.0);
                self.wrapped[first..size].copy_from_slice(parts.1);
                &self.wrapped[..size]
            };
            seen.add(word(record));
            at = at.wrapping_add(size as u64);
        }
        tail.store(at, Ordering::Release);
        self.tail = at;
        seen
    }
}

struct Ours {
    feed: Feed,
    consumer: Consumer,
}

impl Ours {
    fn setup(kind: Kind, cpu: u32) -> Result<Box<dyn Drain>, String> {
        let (map, event) = open(kind, cpu).map_err(text)?;
        let mut feed = Feed::new(kind, cpu).map_err(text)?;
        feed.connect(&event).map_err(text)?;
        // SAFETY: the mapping is that of `event`'s ring, writable, and nobody else reads it.
        let consumer = unsafe { Consumer::from_kernel(map, event, KernelDirection::Forward) }.map_err(text)?;
        Ok(Box::new(Self { feed, consumer }))
    }
}

impl Drain for Ours {
    fn fill(&mut self) -> std::io::Result<()> {
        self.feed.fill()
    }

    fn drain(&mut self) -> Seen {
        let mut seen = Seen::default();
        self.consumer.for_each(|record| seen.add(word(record.bytes()))).expect("sound records");
        seen
    }
}

struct Aya {
    feed: Feed,
    buffer: PerfEventArrayBuffer<MapData>,
}

impl Aya {
    /// aya opens and maps the ring itself; the array it connects the ring to is ours.
    fn setup(kind: Kind, cpu: u32) -> Result<Box<dyn Drain>, String> {
        let feed = Feed::new(kind, cpu).map_err(text)?;
        let array = feed.array().ok_or("it reads no rings but those of BPF programs")?;
        let map = MapData::from_fd(array.try_clone_to_owned().map_err(text)?).map_err(text)?;
        let map = Map::from_map_data(map).map_err(text)?;
        let mut array = PerfEventArray::try_from(map).map_err(text)?;
        let buffer = array.open(cpu, Some(RING_BYTES / crate::feed::page_size())).map_err(text)?;
        Ok(Box::new(Self { feed, buffer }))
    }
}

impl Drain for Aya {
    fn fill(&mut self) -> std::io::Result<()> {
        self.feed.fill()
    }

    fn drain(&mut self) -> Seen {
        let mut seen = Seen::default();
        self.buffer.for_each(|event| {
            if let PerfEvent::Sample { head, tail } = event {
                if head.len() >= 8 {
                    seen.add(payload_word(head));
                } else {
                    seen.add(payload_word(&[head, tail].concat()));
                }
            }
        });
        seen
    }
}

struct PerfEvent2 {
    feed: Feed,
    sampler: perf_event::Sampler,
}

impl PerfEvent2 {
    fn setup(kind: Kind, cpu: u32) -> Result<Box<dyn Drain>, String> {
        let mut feed = Feed::new(kind, cpu).map_err(text)?;
        let counter = match kind {
            Kind::Bpf => Builder::new(Software::BPF_OUTPUT)
                .any_pid()
                .one_cpu(cpu as usize)
                .exclude_kernel(false)
                .exclude_hv(false)
                .sample(SampleFlag::RAW)
                .sample_period(1)
                .wakeup_watermark(RING_BYTES - 8)
                .enabled(true)
                .build(),
            Kind::Faults => Builder::new(Software::PAGE_FAULTS)
                .sample(SampleFlag::IP | SampleFlag::TID | SampleFlag::TIME | SampleFlag::ADDR)
                .sample_period(1)
                .wakeup_watermark(RING_BYTES - 8)
                .build(),
        };
        let sampler = counter.and_then(|counter| counter.sampled(RING_BYTES)).map_err(text)?;
        feed.connect(&sampler).map_err(text)?;
        Ok(Box::new(Self { feed, sampler }))
    }
}

impl Drain for PerfEvent2 {
    fn fill(&mut self) -> std::io::Result<()> {
        self.feed.fill()
    }

    fn drain(&mut self) -> Seen {
        let mut seen = Seen::default();
        while let Some(record) = self.sampler.next_record() {
            // The header is not part of the data, the word for the payload's size is.
            match record.data() {
                [data, ..] if data.len() >= 12 => seen.add(payload_word(&data[4..])),
                _ => seen.add(record.to_contiguous().get(4..).map_or(0, payload_word)),
            }
        }
        seen
    }
}

#[cfg(not(feature = "bench-libbpf"))]
fn libbpf_setup(_: Kind, _: u32) -> Result<Box<dyn Drain>, String> {
    Err("built without the feature bench-libbpf (it needs libelf-dev and zlib1g-dev)".into())
}

#[cfg(feature = "bench-libbpf")]
use libbpf::setup as libbpf_setup;

#[cfg(feature = "bench-libbpf")]
mod libbpf {
    use std::ffi::{c_int, c_void};
    use std::os::fd::AsRawFd;
    use std::ptr::NonNull;

    use libbpf_sys::{
        LIBBPF_PERF_EVENT_CONT, perf_buffer, perf_buffer__consume_buffer, perf_buffer__free, perf_buffer__new_raw,
        perf_buffer_raw_opts,
    };

    use super::{Drain, text};
    use crate::feed::{Feed, Kind, RING_BYTES, Seen, attr, page_size, word};

    struct Libbpf {
        feed: Feed,
        buffer: NonNull<perf_buffer>,
        /// The callback's context; libbpf keeps the pointer.
        seen: NonNull<Seen>,
    }

    /// libbpf opens and maps the ring itself, with our attr, and connects it to our array.
    pub fn setup(kind: Kind, cpu: u32) -> Result<Box<dyn Drain>, String> {
        let feed = Feed::new(kind, cpu).map_err(text)?;
        let array = feed.array().ok_or("it reads no rings but those of BPF programs")?.as_raw_fd();
        let mut attr = attr(kind);
        let seen = NonNull::from(Box::leak(Box::new(Seen::default())));
        let (mut cpus, mut keys) = ([cpu as c_int], [cpu as c_int]);
        let opts = perf_buffer_raw_opts {
            sz: size_of::<perf_buffer_raw_opts>() as _,
            cpu_cnt: 1,
            cpus: cpus.as_mut_ptr(),
            map_keys: keys.as_mut_ptr(),
            ..Default::default()
        };
        // SAFETY: every pointer is valid for the call, which copies what it keeps, save for `seen`, which is freed only
        // after the buffer. Both bindings' attr are the kernel's struct, which begins with its size.
        let buffer = unsafe {
            perf_buffer__new_raw(
                array,
                (RING_BYTES / page_size()) as _,
                (&raw mut attr).cast(),
                Some(on_record),
                seen.as_ptr().cast(),
                &opts,
            )
        };
        let Some(buffer) = NonNull::new(buffer) else {
            let error = std::io::Error::last_os_error();
            // SAFETY: leaked above, and libbpf kept nothing.
            drop(unsafe { Box::from_raw(seen.as_ptr()) });
            return Err(text(error));
        };
        Ok(Box::new(Libbpf { feed, buffer, seen }))
    }

    unsafe extern "C" fn on_record(
        context: *mut c_void,
        _: c_int,
        header: *mut libbpf_sys::perf_event_header,
    ) -> c_int {
        // SAFETY: libbpf hands over a whole record, contiguous, of the size in its header.
        let record = unsafe { std::slice::from_raw_parts(header.cast::<u8>(), usize::from((*header).size)) };
        // SAFETY: the context is the `Seen` of the Libbpf that is draining, which does not touch it meanwhile.
        unsafe { (*context.cast::<Seen>()).add(word(record)) };
        LIBBPF_PERF_EVENT_CONT
    }

    impl Drain for Libbpf {
        fn fill(&mut self) -> std::io::Result<()> {
            self.feed.fill()
        }

        fn drain(&mut self) -> Seen {
            // SAFETY: the pointer is a live Box's, and no callback runs now.
            unsafe { self.seen.write(Seen::default()) };
            // SAFETY: the buffer is live and has one ring.
            let result = unsafe { perf_buffer__consume_buffer(self.buffer.as_ptr(), 0) };
            assert_eq!(result, 0, "perf_buffer__consume_buffer");
            // SAFETY: as above.
            unsafe { self.seen.read() }
        }
    }

    impl Drop for Libbpf {
        fn drop(&mut self) {
            // SAFETY: the buffer is freed once, and the context, a leaked Box, once and after it.
            unsafe {
                perf_buffer__free(self.buffer.as_ptr());
                drop(Box::from_raw(self.seen.as_ptr()));
            }
        }
    }
}
