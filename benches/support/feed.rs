//! Kernel rings, and what fills them.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use perf_event_open_sys::{bindings, ioctls, perf_event_open};

use crate::bpf::{self, Sender};

/// Records in one fill.
pub const RECORDS: u64 = 20_000;
/// Of 40 bytes each, so that a fill takes three quarters of the ring.
pub const RING_BYTES: usize = 1 << 20;

/// How records get into a ring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A BPF program that calls bpf_perf_event_output.
    Bpf,
    /// Page faults of this thread, where bpf(2) is refused.
    Faults,
}

pub fn attr(kind: Kind) -> bindings::perf_event_attr {
    let mut attr = bindings::perf_event_attr {
        type_: bindings::PERF_TYPE_SOFTWARE,
        size: size_of::<bindings::perf_event_attr>() as u32,
        ..Default::default()
    };
    attr.__bindgen_anon_1.sample_period = 1;
    // No wakeup while a ring is filled.
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = RING_BYTES as u32 - 8;
    match kind {
        Kind::Bpf => {
            attr.config = bindings::PERF_COUNT_SW_BPF_OUTPUT.into();
            attr.sample_type = bindings::PERF_SAMPLE_RAW.into();
        }
        Kind::Faults => {
            attr.config = bindings::PERF_COUNT_SW_PAGE_FAULTS.into();
            attr.sample_type = (bindings::PERF_SAMPLE_IP
                | bindings::PERF_SAMPLE_TID
                | bindings::PERF_SAMPLE_TIME
                | bindings::PERF_SAMPLE_ADDR)
                .into();
            attr.set_disabled(1);
            attr.set_exclude_kernel(1);
            attr.set_exclude_hv(1);
        }
    }
    attr
}

/// A ring of [`RING_BYTES`] and its event.
pub fn open(kind: Kind, cpu: u32) -> io::Result<(MmapRaw, OwnedFd)> {
    let mut attr = attr(kind);
    let (pid, cpu) = match kind {
        Kind::Bpf => (-1, cpu as i32),
        Kind::Faults => (0, -1),
    };
    // SAFETY: `attr` is valid and says its own size.
    let fd = unsafe { perf_event_open(&mut attr, pid, cpu, -1, bindings::PERF_FLAG_FD_CLOEXEC.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let map = MmapOptions::new().len(RING_BYTES + page_size()).map_raw(&fd)?;
    Ok((map, fd))
}

pub fn page_size() -> usize {
    // SAFETY: sysconf reads a constant.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// What fills one ring.
pub struct Feed {
    source: Source,
    cpu: u32,
}

enum Source {
    Bpf(Sender),
    Faults { memory: MmapMut, event: Option<OwnedFd> },
}

impl Feed {
    pub fn new(kind: Kind, cpu: u32) -> io::Result<Self> {
        let source = match kind {
            Kind::Bpf => Source::Bpf(Sender::new(cpu + 1)?),
            Kind::Faults => {
                let memory = MmapMut::map_anon(RECORDS as usize * page_size())?;
                memory.advise(memmap2::Advice::NoHugePage)?;
                Source::Faults { memory, event: None }
            }
        };
        Ok(Self { source, cpu })
    }

    /// The perf event array to which a library connects its ring.
    #[allow(dead_code, reason = "one of two contenders that use it sits behind a feature")]
    pub fn array(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Bpf(sender) => Some(sender.array()),
            Source::Faults { .. } => None,
        }
    }

    /// Feeds the ring of `event`.
    pub fn connect(&mut self, event: &impl AsRawFd) -> io::Result<()> {
        // SAFETY: the descriptor is open, as `event` is borrowed.
        let event = unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) };
        match &mut self.source {
            Source::Bpf(sender) => sender.connect(self.cpu, event),
            Source::Faults { event: slot, .. } => {
                *slot = Some(event.as_fd().try_clone_to_owned()?);
                Ok(())
            }
        }
    }

    /// Writes [`RECORDS`] records.
    pub fn fill(&mut self) -> io::Result<()> {
        match &mut self.source {
            Source::Bpf(sender) => sender.send(RECORDS as u32),
            Source::Faults { memory, event } => {
                let event = event.as_ref().expect("a connected ring").as_raw_fd();
                // SAFETY: the range is the mapping's own, whose content nobody needs.
                if unsafe { libc::madvise(memory.as_mut_ptr().cast(), memory.len(), libc::MADV_DONTNEED) } != 0 {
                    return Err(io::Error::last_os_error());
                }
                // SAFETY: `event` is an open perf event.
                unsafe { ioctls::ENABLE(event, 0) };
                for page in memory.chunks_mut(page_size()) {
                    page[0] = 1;
                }
                // SAFETY: as above.
                unsafe { ioctls::DISABLE(event, 0) };
                Ok(())
            }
        }
    }
}

/// The eight bytes of a record that every contender reads: the start of a BPF payload.
#[inline(always)]
pub fn word(record: &[u8]) -> u64 {
    payload_word(record.get(12..).unwrap_or_default())
}

/// The same where a contender gives the payload alone.
#[inline(always)]
pub fn payload_word(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// What a drain saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    pub records: u64,
    pub total: u64,
}

impl Seen {
    #[inline(always)]
    pub fn add(&mut self, word: u64) {
        self.records += 1;
        self.total = self.total.wrapping_add(word);
    }

    /// Whether that is a whole fill.
    pub fn is_fill(&self, kind: Kind) -> bool {
        match kind {
            Kind::Bpf => *self == Self { records: RECORDS, total: RECORDS.wrapping_mul(bpf::WORD) },
            // The thread may fault elsewhere too.
            Kind::Faults => self.records >= RECORDS,
        }
    }
}
