//! Where a consumer reads from, and what it sleeps on.

use super::Mode;
use super::error::ReadErrorKind;
use super::layout::Geometry;
#[cfg(not(perfring_loom))]
use super::layout::{DATA_HEAD, DATA_TAIL, describe};
use super::memory::Memory;
use super::order::Site;
use super::wakeup::Signal;
use std::sync::Arc;

/// What a consumer reads.
pub(crate) enum Source {
    /// Mapped memory; the kernel's header page has none of the fields that ours has.
    Memory { memory: Arc<Memory>, kernel: bool },
    /// A file, read by pread(2), so that one that is truncated meanwhile is an error and not a SIGBUS.
    #[cfg(not(perfring_loom))]
    File(FileSource),
}

#[cfg(not(perfring_loom))]
pub(crate) struct FileSource {
    pub(crate) file: std::fs::File,
    pub(crate) data_offset: u64,
    /// Whether this reader gives space back, by writing `data_tail`.
    pub(crate) releases: bool,
}

#[cfg(not(perfring_loom))]
impl FileSource {
    /// A word of the header page. The kernel copies aligned words whole.
    fn word(&self, at: usize) -> Result<u64, ReadErrorKind> {
        let mut word = [0; 8];
        self.read(at as u64, &mut word)?;
        Ok(u64::from_ne_bytes(word))
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), ReadErrorKind> {
        use std::os::unix::fs::FileExt;
        let result = self.file.read_exact_at(into, at).map_err(|error| ReadErrorKind::File(error.kind()));
        // What is read next was written before what was read now, on machines that reorder loads, too.
        crate::sync::fence_at!(Site::SnapshotFence);
        result
    }
}

impl Source {
    pub(crate) fn head(&self) -> Result<u64, ReadErrorKind> {
        match self {
            Self::Memory { memory, .. } => Ok(memory.header().data_head().load(Site::HeadLoad.order())),
            #[cfg(not(perfring_loom))]
            Self::File(file) => file.word(DATA_HEAD),
        }
    }

    /// How far the producer of a ring that overwrites has got.
    pub(crate) fn reserved(&self) -> Result<u64, ReadErrorKind> {
        match self {
            // The kernel says so only by its head; hence the pause.
            Self::Memory { memory, kernel: true } => Ok(memory.header().data_head().load(Site::HeadLoad.order())),
            Self::Memory { memory, .. } => Ok(memory.header().reserved().load(Site::ReservedCheck.order())),
            #[cfg(not(perfring_loom))]
            Self::File(file) => file.word(describe::RESERVED),
        }
    }

    /// `data_tail`: in a ring that overwrites, which does not need it, the position that the ring started at.
    pub(crate) fn start(&self) -> Result<u64, ReadErrorKind> {
        match self {
            Self::Memory { memory, .. } => Ok(memory.header().data_tail().load(Site::Describe.order())),
            #[cfg(not(perfring_loom))]
            Self::File(file) => file.word(DATA_TAIL),
        }
    }

    pub(crate) fn lost_total(&self) -> Option<u64> {
        match self {
            Self::Memory { memory, .. } => Some(memory.header().lost_total().load(Site::Lost.order())),
            #[cfg(not(perfring_loom))]
            Self::File(file) => file.word(describe::LOST_TOTAL).ok(),
        }
    }

    /// Appends `len` bytes from `position` on, both multiples of 8 and at most the ring's size, to `into`.
    pub(crate) fn copy(
        &self,
        geometry: &Geometry,
        position: u64,
        len: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), ReadErrorKind> {
        // As much as a hostile image says: no reason to abort.
        into.try_reserve(len).map_err(|_| ReadErrorKind::File(std::io::ErrorKind::OutOfMemory))?;
        match self {
            Self::Memory { memory, .. } => {
                if let Some(words) = memory.words() {
                    words.copy(position, len, into);
                }
                Ok(())
            }
            #[cfg(not(perfring_loom))]
            Self::File(file) => {
                let offset = geometry.offset(position);
                let first = len.min(geometry.size() as usize - offset);
                let had = into.len();
                into.resize(had + len, 0);
                let (head, rest) = into[had..].split_at_mut(first);
                file.read(file.data_offset + offset as u64, head)?;
                file.read(file.data_offset, rest)
            }
        }
    }

    /// Whether what was read is given back to the producer.
    pub(crate) fn releases(&self) -> bool {
        match self {
            Self::Memory { .. } => true,
            #[cfg(not(perfring_loom))]
            Self::File(file) => file.releases,
        }
    }

    pub(crate) fn store_tail(&self, tail: u64) {
        match self {
            Self::Memory { memory, .. } => memory.header().data_tail().store(tail, Site::TailStore.order()),
            #[cfg(not(perfring_loom))]
            Self::File(file) if file.releases => {
                use std::os::unix::fs::FileExt;
                // A file that has shrunk or is read-only: the next read says so, or nobody waits for the space.
                let _ = file.file.write_all_at(&tail.to_ne_bytes(), DATA_TAIL as u64);
            }
            #[cfg(not(perfring_loom))]
            Self::File(_) => {}
        }
    }

    /// Pauses the producer of a ring that overwrites, or lets it go on.
    pub(crate) fn store_paused(&self, mode: Mode, paused: u32) {
        if mode == Mode::Lossless {
            return;
        }
        match self {
            Self::Memory { kernel: true, .. } => {}
            Self::Memory { memory, .. } => memory.header().paused().store(paused, Site::Paused.order()),
            #[cfg(not(perfring_loom))]
            Self::File(file) => {
                use std::os::unix::fs::FileExt;
                // Opened for reading only: then it is read without a pause, and validated.
                let _ = file.file.write_all_at(&paused.to_ne_bytes(), describe::PAUSED as u64);
            }
        }
    }

    /// Whether the last producer has left.
    pub(crate) fn closed(&self) -> bool {
        match self {
            Self::Memory { kernel: true, .. } => false,
            Self::Memory { memory, .. } => memory.header().closed().load(Site::ClosedLoad.order()) != 0,
            #[cfg(not(perfring_loom))]
            Self::File(file) => file.word(describe::CLOSED).is_ok_and(|word| word as u32 != 0),
        }
    }
}

/// What wakes a consumer.
pub(crate) enum Alarm {
    /// Nothing but the time: look again now and then.
    Clock,
    /// The producers' bell.
    Bell(Signal),
    /// The perf event's descriptor.
    #[cfg(not(perfring_loom))]
    Kernel(std::os::fd::OwnedFd),
}

/// What is known of the process that writes a ring.
#[cfg(not(perfring_loom))]
pub(crate) enum Writer {
    /// It lives as long as this one, or cannot be told.
    Unknown,
    Alive(std::os::fd::OwnedFd),
    Gone,
}

#[cfg(not(perfring_loom))]
impl Writer {
    /// Finds the process that a ring says it is written by.
    pub(crate) fn find(description: &super::Description) -> Self {
        let super::Description { producer_pid: pid, producer_start: start, producer_pid_namespace, .. } = *description;
        // An id of another namespace says nothing here.
        let same_namespace = super::sys::pid_namespace().is_ok_and(|own| own == producer_pid_namespace);
        if pid == 0 || !same_namespace {
            return Self::Unknown;
        }
        // Opened before its start time is read: if that is the right one, the descriptor is of the right process.
        match super::sys::pidfd(pid) {
            Ok(fd) => match super::sys::start_time(pid) {
                Ok(found) if found == start => Self::Alive(fd),
                _ => Self::Gone,
            },
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Self::Gone,
            Err(_) => Self::Unknown,
        }
    }
}
