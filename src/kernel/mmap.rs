//! An event's descriptor, the mapping of its ring, and the hand-over of that to the consumer.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use memmap2::MmapOptions;
use perf_event_open_sys::bindings::perf_event_attr;

use crate::kernel::sys;
use crate::ring::{AttachError, Consumer, KernelDirection};

/// The descriptor of an event that knows how its ring is written and whether it has a consumer.
///
/// Only [`open`](Self::open) makes one: the proof in [`consumer`](Self::consumer) rests on that.
#[derive(Debug)]
pub(super) struct PerfFd {
    fd: OwnedFd,
    backward: bool,
    mapped: bool,
}

/// Why there is no consumer.
pub(super) enum MapError {
    AlreadyMapped,
    System(io::Error),
    Attach(AttachError),
}

impl PerfFd {
    /// perf_event_open(2). The kernel corrects `attr.size` when it answers `E2BIG`.
    pub(super) fn open(attr: &mut perf_event_attr, pid: libc::pid_t, cpu: libc::c_int) -> io::Result<Self> {
        let fd = sys::perf_event_open(attr, pid, cpu)?;
        Ok(Self { fd, backward: attr.write_backward() != 0, mapped: false })
    }

    /// Whether there is, or was, a consumer.
    pub(super) fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// Maps a header page and data, `len` bytes together, for a consumer.
    ///
    /// A backward ring is mapped read-only, which makes the kernel overwrite the oldest records instead of stopping
    /// when it is full.
    pub(super) fn consumer(&mut self, len: usize) -> Result<Consumer, MapError> {
        if self.mapped {
            return Err(MapError::AlreadyMapped);
        }
        let polled = self.fd.try_clone().map_err(MapError::System)?;
        let mut options = MmapOptions::new();
        options.len(len);
        let (map, direction) = if self.backward {
            (options.map_raw_read_only(self.fd.as_raw_fd()), KernelDirection::Backward)
        } else {
            (options.map_raw(self.fd.as_raw_fd()), KernelDirection::Forward)
        };
        let map = map.map_err(MapError::System)?;
        // SAFETY: `self.fd` came from perf_event_open, so `map`, made of it just now with MAP_SHARED from offset 0, is
        // a perf ring of `len` bytes: the kernel refuses every length that is not a header page and a power of two of
        // data pages. It is readable, and writable if it is not backward, and its direction is that of the attr the
        // event was opened with. While it is mapped the kernel neither moves nor shrinks it. `polled` is the same
        // event. Nobody else reads the ring or moves its tail through this crate: `mapped` makes this the only consumer
        // that is ever made of the event, no method redirects another event's output here, and forked children do not
        // inherit the mapping (VM_DONTCOPY). Code that maps the descriptor elsewhere gets raw pointers, so writing
        // through them is its own unsafe.
        let consumer = unsafe { Consumer::from_kernel(map, polled, direction) }.map_err(MapError::Attach)?;
        self.mapped = true;
        Ok(consumer)
    }
}

impl AsFd for PerfFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<PerfFd> for OwnedFd {
    fn from(fd: PerfFd) -> Self {
        fd.fd
    }
}
