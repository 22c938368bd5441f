//! The readers of a ring that is written faster than it may be read.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use memmap2::MmapOptions;
use perf_event_open_sys::{bindings, perf_event_open};
use perfring::record::{Attr, Body, Decoder, SampleType};
use perfring::ring::{Consumer, KernelDirection};

use crate::bpf::Sender;

/// As libbpf's users choose it.
pub const PAGES: usize = 64;

const SAMPLE_TYPE: SampleType = SampleType::IP
    .union(SampleType::TID)
    .union(SampleType::TIME)
    .union(SampleType::CPU)
    .union(SampleType::PERIOD)
    .union(SampleType::RAW);

/// What a reader saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub records: u64,
    /// As the `LOST` records say.
    pub lost: u64,
    /// Of what was read, so that it is read.
    pub total: u64,
}

/// A ring and its reader.
pub trait Reader {
    /// Reads what is there, after at most `wait` for the ring to fill to its watermark.
    fn read(&mut self, wait: Option<Duration>, seen: &mut Seen);

    fn sender(&self) -> Arc<Sender>;
}

/// What a contender is called, and how it is set up; an error says why it cannot run.
pub type Setup = (&'static str, fn(u32) -> Result<Box<dyn Reader>, String>);

pub const OURS: Setup = ("perfring, all fields decoded", Ours::setup);
pub const LIBBPF: Setup = ("libbpf perf_buffer", libbpf_setup);

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn page_size() -> usize {
    // SAFETY: sysconf reads a constant.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

fn attr() -> bindings::perf_event_attr {
    let mut attr = bindings::perf_event_attr {
        type_: bindings::PERF_TYPE_SOFTWARE,
        size: size_of::<bindings::perf_event_attr>() as u32,
        config: bindings::PERF_COUNT_SW_BPF_OUTPUT.into(),
        sample_type: SAMPLE_TYPE.bits(),
        ..Default::default()
    };
    attr.__bindgen_anon_1.sample_period = 1;
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = (PAGES * page_size() / 4) as u32;
    attr
}

fn epoll_of(event: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is a new descriptor, or negative.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as just seen, a descriptor that nobody else owns.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let mut wanted = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: both descriptors are open, and `wanted` is valid for the call.
    match unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, event.as_raw_fd(), &mut wanted) } {
        0 => Ok(epoll),
        _ => Err(io::Error::last_os_error()),
    }
}

struct Ours {
    sender: Arc<Sender>,
    /// libbpf waits with one, too.
    epoll: OwnedFd,
    consumer: Consumer,
    decoder: Decoder,
}

impl Ours {
    fn setup(cpu: u32) -> Result<Box<dyn Reader>, String> {
        let sender = Sender::new(cpu + 1).map_err(text)?;
        // SAFETY: the attr is valid and says its own size.
        let fd = unsafe { perf_event_open(&mut attr(), -1, cpu as i32, -1, bindings::PERF_FLAG_FD_CLOEXEC.into()) };
        if fd < 0 {
            return Err(text(io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just made this descriptor.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        let map = MmapOptions::new().len((1 + PAGES) * page_size()).map_raw(&event).map_err(text)?;
        sender.connect(cpu, event.as_fd()).map_err(text)?;
        let epoll = epoll_of(event.as_fd()).map_err(text)?;
        // SAFETY: the mapping is that of `event`'s ring, writable, and nobody else reads it.
        let consumer = unsafe { Consumer::from_kernel(map, event, KernelDirection::Forward) }.map_err(text)?;
        let decoder = Decoder::new(&Attr { sample_type: SAMPLE_TYPE, ..Attr::default() }).map_err(text)?;
        Ok(Box::new(Self { sender: Arc::new(sender), epoll, consumer, decoder }))
    }
}

impl Reader for Ours {
    fn read(&mut self, wait: Option<Duration>, seen: &mut Seen) {
        if let Some(wait) = wait {
            let mut ready = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: room for one event, which is valid for the call.
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), &mut ready, 1, wait.as_millis() as i32) };
        }
        let decoder = &self.decoder;
        self.consumer
            .for_each(|record| match decoder.decode(record.bytes()).expect("a sound record").body {
                Body::Sample(sample) => {
                    let tid = sample.tid().unwrap_or_default();
                    let raw = sample.raw().and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_ne_bytes(*word));
                    let fields = [sample.ip(), sample.time(), sample.cpu().map(u64::from), sample.period()];
                    let sum = fields.into_iter().flatten().fold(raw, u64::wrapping_add);
                    let sum = sum.wrapping_add(tid.pid.into()).wrapping_add(tid.tid.into());
                    seen.total = seen.total.wrapping_add(sum);
                    seen.records += 1;
                }
                Body::Lost(lost) => seen.lost += lost.lost,
                other => panic!("{other:?}"),
            })
            .expect("sound records");
    }

    fn sender(&self) -> Arc<Sender> {
        Arc::clone(&self.sender)
    }
}

#[cfg(not(feature = "bench-libbpf"))]
fn libbpf_setup(_: u32) -> Result<Box<dyn Reader>, String> {
    Err("built without the feature bench-libbpf (it needs libelf-dev and zlib1g-dev)".into())
}

#[cfg(feature = "bench-libbpf")]
use libbpf::setup as libbpf_setup;

#[cfg(feature = "bench-libbpf")]
mod libbpf {
    use std::ffi::{c_int, c_void};
    use std::os::fd::AsRawFd;
    use std::ptr::NonNull;
    use std::sync::Arc;
    use std::time::Duration;

    use libbpf_sys::{
        LIBBPF_PERF_EVENT_CONT, perf_buffer, perf_buffer__consume_buffer, perf_buffer__free, perf_buffer__new_raw,
        perf_buffer__poll, perf_buffer_raw_opts,
    };

    use super::{PAGES, Reader, Seen, Sender, attr, text};

    struct Libbpf {
        sender: Arc<Sender>,
        buffer: NonNull<perf_buffer>,
        /// The callback's context; libbpf keeps the pointer.
        seen: NonNull<Seen>,
    }

    /// libbpf opens and maps the ring itself, with the same attr, and connects it to the same kind of array.
    pub fn setup(cpu: u32) -> Result<Box<dyn Reader>, String> {
        let sender = Sender::new(cpu + 1).map_err(text)?;
        let mut attr = attr();
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
                sender.array().as_raw_fd(),
                PAGES as _,
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
        Ok(Box::new(Libbpf { sender: Arc::new(sender), buffer, seen }))
    }

    /// Reads one word of a sample, which is less than the other reader does.
    unsafe extern "C" fn on_record(
        context: *mut c_void,
        _: c_int,
        header: *mut libbpf_sys::perf_event_header,
    ) -> c_int {
        // SAFETY: libbpf hands over a whole record, contiguous, of the size in its header.
        let record = unsafe { std::slice::from_raw_parts(header.cast::<u8>(), usize::from((*header).size)) };
        // SAFETY: the context is the `Seen` of the Libbpf that is reading, which does not touch it meanwhile.
        let seen = unsafe { &mut *context.cast::<Seen>() };
        // SAFETY: as for the record.
        let type_ = unsafe { (*header).type_ };
        let word = record.get(16..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_ne_bytes(*word));
        if type_ == perf_event_open_sys::bindings::PERF_RECORD_LOST {
            seen.lost += word;
        } else {
            seen.total = seen.total.wrapping_add(word);
            seen.records += 1;
        }
        LIBBPF_PERF_EVENT_CONT
    }

    impl Reader for Libbpf {
        fn read(&mut self, wait: Option<Duration>, seen: &mut Seen) {
            // SAFETY: the pointer is a live Box's, and no callback runs now.
            unsafe { self.seen.write(*seen) };
            let result = match wait {
                // Once round the ring, as the other reader: the poll reads, too.
                // SAFETY: the buffer is live.
                Some(wait) => unsafe { perf_buffer__poll(self.buffer.as_ptr(), wait.as_millis() as c_int) },
                // SAFETY: the buffer is live and has one ring.
                None => unsafe { perf_buffer__consume_buffer(self.buffer.as_ptr(), 0) },
            };
            assert!(result >= 0, "libbpf returned {result}");
            // SAFETY: as above.
            *seen = unsafe { self.seen.read() };
        }

        fn sender(&self) -> Arc<Sender> {
            Arc::clone(&self.sender)
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
