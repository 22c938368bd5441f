//! An event's descriptor, the mapping of its ring, and the hand-over of that to the consumer.

#![allow(unsafe_code)]

use std::ffi::CStr;
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
    /// Whether several CPUs write the event's records at once: children inherit it, and it is bound to no CPU.
    spread: bool,
    /// Whether the event may write another event's ring: mapping it would map that ring.
    redirected: bool,
}

/// Why there is no consumer.
pub(super) enum MapError {
    AlreadyMapped,
    Redirected,
    Spread,
    System(io::Error),
    Attach(AttachError),
}

impl PerfFd {
    /// perf_event_open(2). The kernel corrects `attr.size` when it answers `E2BIG`.
    ///
    /// `text` is what `config1` points to during the call, for probes.
    pub(super) fn open(
        attr: &mut perf_event_attr,
        pid: libc::pid_t,
        cpu: libc::c_int,
        leader: Option<BorrowedFd<'_>>,
        text: Option<&CStr>,
    ) -> io::Result<Self> {
        let fd = sys::perf_event_open(attr, pid, cpu, leader, text)?;
        Ok(Self {
            fd,
            backward: attr.write_backward() != 0,
            mapped: false,
            spread: attr.inherit() != 0 && cpu < 0,
            redirected: false,
        })
    }

    /// Makes the event write into the ring of `output`, or with `None` into none (`PERF_EVENT_IOC_SET_OUTPUT`).
    pub(super) fn set_output(&mut self, output: Option<&PerfFd>) -> Result<(), MapError> {
        if self.mapped {
            return Err(MapError::AlreadyMapped);
        }
        if self.spread && output.is_some() {
            return Err(MapError::Spread);
        }
        sys::set_output(self.fd.as_fd(), output.map(PerfFd::as_fd)).map_err(MapError::System)?;
        // A call that fails changes nothing.
        self.redirected = output.is_some();
        Ok(())
    }

    /// Whether the event writes another event's ring.
    pub(super) fn is_redirected(&self) -> bool {
        self.redirected
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
        if self.redirected {
            return Err(MapError::Redirected);
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
        // event. Nobody else reads the ring or moves its tail through this crate. A ring comes to be when an event that
        // has none is mapped, and another event reaches it by `set_output` only, which sets `redirected`: an event of
        // which `redirected` is false, as here, has no ring yet, so this makes one; `mapped` makes this the only
        // consumer that is ever made of the event; and events whose output is redirected here are refused above until
        // the kernel has detached them. That several events write the ring does not matter to its reader: the kernel
        // orders them as it orders the writers of one event, all on one CPU at a time. It sees to that itself (same
        // CPU, or same task; a mapped event is not `spread`), but for redirected events that are `spread`, which
        // `set_output` refuses; and it refuses events of another direction. Forked children
        // do not inherit the mapping (VM_DONTCOPY). Code that maps the descriptor elsewhere gets raw pointers, and code
        // that redirects it elsewhere needs an ioctl of its own, so either is its own unsafe.
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
