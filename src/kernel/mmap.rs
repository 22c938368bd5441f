//! An event's descriptor, the mapping of its ring, and the hand-over of that to the consumer.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::thread::ThreadId;

use memmap2::{MmapOptions, MmapRaw};
use perf_event_open_sys::bindings::perf_event_attr;

use crate::kernel::sys;
use crate::ring::{self, AttachError, AuxConsumer, AuxSnapshot, Consumer, KernelDirection, TimePage};

/// The descriptor of an event that knows how its ring is written and whether it has a consumer.
///
/// Only [`open`](Self::open) makes one: the proofs in [`consumer`](Self::consumer), [`time_page`](Self::time_page) and
/// [`aux`](Self::aux) rest on that.
#[derive(Debug)]
pub(super) struct PerfFd {
    fd: OwnedFd,
    backward: bool,
    mapped: bool,
    /// The ring's mapping, as long as the consumer or anything else made of it is there.
    ring: Weak<MmapRaw>,
    /// The mapping of the header page alone, as long as there are time pages made of it.
    header: Weak<MmapRaw>,
    /// There is, or was, somebody who reads the AUX area.
    aux_mapped: bool,
    /// The thread that the event observes on every CPU, if that is the one that opened it.
    own_thread: Option<ThreadId>,
    /// Whether several CPUs write the event's records at once: children inherit it, and it is bound to no CPU.
    spread: bool,
    /// Whether the event may write another event's ring: mapping it would map that ring.
    redirected: bool,
}

/// Why there is no consumer.
pub(super) enum MapError {
    AlreadyMapped,
    /// The header page is mapped alone.
    HeaderMapped,
    Redirected,
    Spread,
    System(io::Error),
    Attach(AttachError),
}

/// Why there is no AUX area.
pub(super) enum AuxMapError {
    AlreadyMapped,
    /// There is no ring whose header page could say where the area is going to be.
    NoRing,
    /// The ring is backward: its header page cannot be written.
    Backward,
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
            ring: Weak::new(),
            header: Weak::new(),
            aux_mapped: false,
            own_thread: (pid == 0 && cpu == -1).then(|| std::thread::current().id()),
            spread: attr.inherit() != 0 && cpu < 0,
            redirected: false,
        })
    }

    /// Makes the event write into the ring of `output`, or with `None` into none (`PERF_EVENT_IOC_SET_OUTPUT`).
    pub(super) fn set_output(&mut self, output: Option<&PerfFd>) -> Result<(), MapError> {
        if self.mapped {
            return Err(MapError::AlreadyMapped);
        }
        if self.header.strong_count() != 0 {
            return Err(MapError::HeaderMapped);
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
        if self.header.strong_count() != 0 {
            return Err(MapError::HeaderMapped);
        }
        let polled = self.fd.try_clone().map_err(MapError::System)?;
        let mut options = MmapOptions::new();
        options.len(len);
        let (map, direction) = if self.backward {
            (options.map_raw_read_only(self.fd.as_raw_fd()), KernelDirection::Backward)
        } else {
            (options.map_raw(self.fd.as_raw_fd()), KernelDirection::Forward)
        };
        let map = Arc::new(map.map_err(MapError::System)?);
        // SAFETY: `self.fd` came from perf_event_open, so `map`, made of it just now with MAP_SHARED from offset 0, is
        // a perf ring of `len` bytes: the kernel refuses every length that is not a header page and a power of two of
        // data pages. It is readable, and writable if it is not backward, and its direction is that of the attr the
        // event was opened with. While it is mapped the kernel neither moves nor shrinks it. `polled` is the same
        // event. Nobody else reads the data or moves their tail through this crate: who else gets the mapping by way of
        // `ring`, `time_page` and `aux`, uses other words of its header page, and those atomically. A ring comes to be
        // when an event that has none is mapped (with its header page alone it would have one of no data, and `header`
        // says that it has not), and another event reaches it by `set_output` only, which sets `redirected`: an event of
        // which `redirected` is false, as here, has no ring yet, so this makes one; `mapped` makes this the only
        // consumer that is ever made of the event; and events whose output is redirected here are refused above until
        // the kernel has detached them. That several events write the ring does not matter to its reader: the kernel
        // orders them as it orders the writers of one event, all on one CPU at a time. It sees to that itself (same
        // CPU, or same task; a mapped event is not `spread`), but for redirected events that are `spread`, which
        // `set_output` refuses; and it refuses events of another direction. Forked children
        // do not inherit the mapping (VM_DONTCOPY). Code that maps the descriptor elsewhere gets raw pointers, and code
        // that redirects it elsewhere needs an ioctl of its own, so either is its own unsafe.
        let consumer = unsafe { Consumer::from_kernel(map.clone(), polled, direction) }.map_err(MapError::Attach)?;
        self.mapped = true;
        self.ring = Arc::downgrade(&map);
        Ok(consumer)
    }

    /// The time page: of the ring's mapping while there is one, else of a mapping of the header page alone, which has
    /// `page_size` bytes.
    pub(super) fn time_page(&mut self, page_size: usize) -> Result<TimePage, MapError> {
        if self.redirected {
            return Err(MapError::Redirected);
        }
        let map = match self.ring.upgrade().or_else(|| self.header.upgrade()) {
            Some(map) => map,
            None => {
                let map = MmapOptions::new().len(page_size).map_raw_read_only(self.fd.as_raw_fd());
                let map = Arc::new(map.map_err(MapError::System)?);
                self.header = Arc::downgrade(&map);
                map
            }
        };
        // SAFETY: `self.fd` came from perf_event_open, so `map`, a mapping of it from offset 0, starts with its header page,
        // readable, for as long as the `Arc` keeps it mapped; a mapping of that page alone is a ring without data to the
        // kernel, which keeps the page up to date like any other. Nothing in this process accesses the page other than
        // atomically: besides time pages only the `Consumer` and the reader of the AUX area know the ring's mapping, and
        // nobody but time pages that of the page alone. `own_thread` is set only where the event was opened with pid 0 and
        // cpu -1, and is the thread that did so, which is the one that it observes.
        unsafe { TimePage::from_kernel(map, self.own_thread) }.map_err(MapError::Attach)
    }

    /// Maps an AUX area of `len` bytes behind the ring, whose header page tells the kernel so.
    fn aux(&mut self, len: usize, writable: bool) -> Result<(Arc<MmapRaw>, MmapRaw), AuxMapError> {
        if self.aux_mapped {
            return Err(AuxMapError::AlreadyMapped);
        }
        if self.backward {
            return Err(AuxMapError::Backward);
        }
        let ring = self.ring.upgrade().ok_or(AuxMapError::NoRing)?;
        let offset = ring.len() as u64;
        // SAFETY: `ring` was mapped by `consumer`, from offset 0 of a perf event, and writable, as it is not backward; its
        // header page is accessed only atomically, see there.
        let announced = unsafe { ring::announce_aux(&ring, offset, len as u64) };
        announced.ok_or(AuxMapError::NoRing)?;
        let mut options = MmapOptions::new();
        options.len(len).offset(offset);
        let aux = if writable {
            options.map_raw(self.fd.as_raw_fd())
        } else {
            options.map_raw_read_only(self.fd.as_raw_fd())
        };
        Ok((ring, aux.map_err(AuxMapError::System)?))
    }

    /// Maps a lossless AUX area of `len` bytes.
    pub(super) fn aux_consumer(&mut self, len: usize) -> Result<AuxConsumer, AuxMapError> {
        let (ring, aux) = self.aux(len, true)?;
        // SAFETY: both were mapped of the same perf event, writable, from offset 0 and from the `aux_offset` that was stored
        // just now. Of the header page everybody uses words of his own, atomically. `aux_mapped` makes this the only
        // reader that is ever made of the area.
        let consumer = unsafe { AuxConsumer::from_kernel(ring, aux) }.map_err(AuxMapError::Attach)?;
        self.aux_mapped = true;
        Ok(consumer)
    }

    /// Maps an AUX area of `len` bytes read-only, which makes the kernel overwrite the oldest.
    pub(super) fn aux_snapshot(&mut self, len: usize) -> Result<AuxSnapshot, AuxMapError> {
        let (ring, aux) = self.aux(len, false)?;
        // SAFETY: as in `aux_consumer`; nobody in this process can write a mapping that is read-only.
        let snapshot = unsafe { AuxSnapshot::from_kernel(ring, aux) }.map_err(AuxMapError::Attach)?;
        self.aux_mapped = true;
        Ok(snapshot)
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
