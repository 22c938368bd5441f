//! The memories that a ring can be made in, and opened from.
#![allow(unsafe_code)]

use super::consumer::Consumer;
use super::describe::{MAX_HEADER, attrs_size};
use super::error::AttachError;
use super::layout::{DATA_OFFSET, Geometry, describe as at};
use super::lost::LostRecord;
use super::memory::Memory;
use super::memory::{FileLock, Trust, map_file, map_memfd, map_memfd_reader, map_private, seal};
use super::setup::{Builder, Home, Ring};
use super::source::{Alarm, Source};
use super::source::{FileSource, Writer};
use super::sys;
use super::wakeup::{Signal, Wake};
use super::{Description, Mode, SetupError};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

fn doing(doing: &'static str) -> impl Fn(io::Error) -> SetupError {
    move |source| SetupError::Io { doing, source }
}

fn attaching(doing: &'static str) -> impl Fn(io::Error) -> AttachError {
    move |source| AttachError::Io { doing, source }
}

/// The descriptors that make up a ring in memfds, to be handed to another process: over a Unix socket
/// ([`send`](Self::send)), or by inheritance.
#[derive(Debug)]
pub struct RingFds {
    /// The header area.
    pub header: OwnedFd,
    /// The data area, which only the ring's maker can write.
    pub data: OwnedFd,
    /// The consumer's side of the socket pair that producers ring by, unless the ring never wakes anybody.
    pub bell: Option<OwnedFd>,
}

impl RingFds {
    /// Sends the descriptors over a Unix socket.
    ///
    /// # Errors
    /// What sendmsg(2) says.
    pub fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let fds: Vec<_> = [Some(&self.header), Some(&self.data), self.bell.as_ref()]
            .into_iter()
            .flatten()
            .map(OwnedFd::as_fd)
            .collect();
        sys::send_fds(socket, &fds)
    }

    /// Receives what [`send`](Self::send) sent.
    ///
    /// # Errors
    /// What recvmsg(2) says; `InvalidData` where other than two or three descriptors came.
    pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let mut fds = sys::receive_fds(socket)?.into_iter();
        match (fds.next(), fds.next(), fds.next(), fds.next()) {
            (Some(header), Some(data), bell, None) => Ok(Self { header, data, bell }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Builder {
    /// Checks the sizes, and makes the ring's description and header area.
    fn plan(&self) -> Result<(Geometry, Description, Vec<u8>), SetupError> {
        let page_size = sys::page_size();
        let pages = self.pages;
        if !pages.is_power_of_two() {
            return Err(SetupError::PagesNotPowerOfTwo { pages });
        }
        let size = pages.checked_mul(page_size).filter(|&size| size <= (isize::MAX / 2) as usize);
        let size = size.ok_or(SetupError::TooManyPages { pages })?;
        let granule = self.granule.unwrap_or(page_size);
        if !granule.is_power_of_two() || !(page_size..=65536).contains(&granule) {
            return Err(SetupError::Granule { granule, page_size });
        }
        match self.mode {
            Mode::OverwriteForward if !self.confined => {
                return Err(SetupError::OverwriteNeedsConfined);
            }
            Mode::OverwriteBackward if self.confined => return Err(SetupError::BackwardIsFree),
            _ => {}
        }
        if self.confined && size / granule < 4 {
            return Err(SetupError::TooFewGranules { size, granule });
        }
        let granule = granule.min(size) as u64;
        let Some(geometry) = Geometry::new(size as u64, granule, self.confined) else {
            return Err(SetupError::TooManyPages { pages });
        };
        self.check_lost(granule.min(geometry.capacity()))?;
        let (attrs, max) = (attrs_size(&self.attrs), MAX_HEADER as usize - 2 * page_size);
        if attrs > max {
            return Err(SetupError::AttrsTooLarge { size: attrs, max });
        }
        let mut description = self.describe(geometry);
        description.set_writer().map_err(doing("read what /proc says of this process"))?;
        let header = description.header_area(page_size);
        description.data_offset = header.len() as u64;
        Ok((geometry, description, header))
    }

    fn signal(&self) -> Result<Option<Signal>, SetupError> {
        match self.wake {
            Wake::Never => Ok(None),
            _ => Signal::new().map(Some).map_err(doing("make an eventfd")),
        }
    }

    /// Makes the ring in memory of this process.
    ///
    /// # Errors
    /// [`SetupError`]: sizes that do not go together; no memory.
    pub fn private(self) -> Result<Ring, SetupError> {
        let (geometry, description, header) = self.plan()?;
        let mapped = map_private(&header, geometry.size() as usize).map_err(doing("map memory"))?;
        let memory = Memory::new(mapped.0, mapped.1, geometry, self.mode, Trust::Exclusive, mapped.2);
        let signal = self.signal()?;
        Ring::from_parts(memory, Home::Private, self, signal, description)
    }

    /// Makes the ring in two memfds, sealed so that a reader in another process can neither shrink nor write the data.
    /// [`Ring::fds`] is what to pass to that process.
    ///
    /// # Errors
    /// [`SetupError`]: sizes that do not go together; no memory or descriptors; no F_SEAL_FUTURE_WRITE (Linux 5.1).
    pub fn memfd(self) -> Result<Ring, SetupError> {
        let (geometry, description, header) = self.plan()?;
        let mapped = map_memfd(&header, geometry.size() as usize).map_err(doing("make and seal memfds"))?;
        let memory = Memory::new(mapped.0, mapped.1, geometry, self.mode, Trust::Exclusive, mapped.2);
        let (signal, bell) = match self.wake {
            Wake::Never => (None, None),
            _ => {
                Signal::pair().map(|(ours, theirs)| (Some(ours), Some(theirs))).map_err(doing("make a socket pair"))?
            }
        };
        Ring::from_parts(memory, Home::Memfd { header: mapped.3, data: mapped.4, bell }, self, signal, description)
    }

    /// Makes the ring in a new file, which survives the process, however it ends. All of it is allocated at once. The
    /// consumer reads it by pread(2) and looks at it now and then: there is no bell.
    ///
    /// # Errors
    /// [`SetupError`]: sizes that do not go together; a file that exists; no space.
    ///
    /// # Safety
    /// As for `memmap2::MmapMut`: nobody truncates the file or writes its data while the ring or one of its producers
    /// lives. Another writer of this crate is kept out by a lock.
    pub unsafe fn create_file(self, path: impl AsRef<Path>) -> Result<Ring, SetupError> {
        let (geometry, description, header) = self.plan()?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(doing("create the ring file"))?;
        let lock = lock(file)?;
        lock.allocate(description.len() as usize).map_err(doing("allocate the ring file"))?;
        lock.file().write_all_at(&header, 0).map_err(doing("write the ring file's header"))?;
        // SAFETY: allocated with that length above; nobody truncates or writes it, by contract.
        unsafe { open_locked(lock, geometry, description, self) }
    }
}

fn lock(file: File) -> Result<FileLock, SetupError> {
    FileLock::take(file).map_err(|source| match source.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => SetupError::Locked,
        _ => SetupError::Io { doing: "lock the ring file", source },
    })
}

/// # Safety
/// The file is as long as the description says; nobody truncates or writes it.
unsafe fn open_locked(
    lock: FileLock,
    geometry: Geometry,
    description: Description,
    builder: Builder,
) -> Result<Ring, SetupError> {
    let file = lock.file().try_clone().map_err(doing("duplicate the ring file's descriptor"))?;
    // SAFETY: this function's contract.
    let mapped = unsafe { map_file(lock, description.data_offset as usize, geometry.size() as usize) };
    let mapped = mapped.map_err(doing("map the ring file"))?;
    let memory = Memory::new(mapped.0, mapped.1, geometry, description.mode, Trust::Exclusive, mapped.2);
    Ring::from_parts(memory, Home::File { file }, builder, None, description)
}

/// Reads and parses the header area of a ring image.
pub(super) fn read_description(file: &File) -> Result<Description, AttachError> {
    let io = attaching("read the ring's header");
    let available = file.metadata().map_err(&io)?.len();
    let mut header = vec![0; 4096];
    if available < header.len() as u64 {
        return Err(AttachError::TooShort { len: available });
    }
    file.read_exact_at(&mut header, 0).map_err(&io)?;
    let data_offset = u64::from_ne_bytes(std::array::from_fn(|i| header[DATA_OFFSET + i]));
    if (4096..=MAX_HEADER.min(available)).contains(&data_offset) {
        header.resize(data_offset as usize, 0);
        file.read_exact_at(&mut header, 0).map_err(&io)?;
    }
    Description::parse(&header, available)
}

impl Ring {
    /// Opens a ring file to write on where its last writer stopped: what that one published stays, what it had only
    /// reserved is given up. `lost` is as for [`Builder::lost_record`].
    ///
    /// # Errors
    /// [`SetupError::Attach`] when the file is no ring, or damaged; [`SetupError::Locked`] when it has a writer.
    ///
    /// # Safety
    /// As for [`Builder::create_file`].
    pub unsafe fn open_file(path: impl AsRef<Path>, lost: Option<LostRecord>) -> Result<Ring, SetupError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(doing("open the ring file"))?;
        let lock = lock(file)?;
        let mut description = read_description(lock.file())?;
        let Some(geometry) = description.geometry() else {
            return Err(AttachError::DataSize { found: description.data_size }.into());
        };
        let (head, reserved) = (description.data_head, description.reserved);
        let ahead = match description.mode {
            Mode::Lossless => 0,
            Mode::OverwriteForward => reserved.wrapping_sub(head),
            Mode::OverwriteBackward => head.wrapping_sub(reserved),
        };
        if ahead > description.data_size {
            return Err(AttachError::Positions { head, tail: reserved, data_size: description.data_size }.into());
        }
        let page_size = sys::page_size() as u64;
        if !description.data_offset.is_multiple_of(page_size) {
            return Err(AttachError::DataOffset { found: description.data_offset }.into());
        }
        description.set_writer().map_err(doing("read what /proc says of this process"))?;
        description.closed = false;
        let write = |at: usize, bytes: &[u8]| {
            lock.file().write_all_at(bytes, at as u64).map_err(doing("write the ring file's header"))
        };
        write(at::PRODUCER_PID_NAMESPACE, &description.producer_pid_namespace.to_ne_bytes())?;
        write(at::PRODUCER_START, &description.producer_start.to_ne_bytes())?;
        write(at::PRODUCER_PID, &description.producer_pid.to_ne_bytes())?;
        write(at::CLOSED, &0u32.to_ne_bytes())?;
        let mut builder = Builder::new(1, description.confined);
        builder.lost = lost;
        builder.check_lost(geometry.granule().min(geometry.capacity()))?;
        // SAFETY: `read_description` found the file as long as it says; nobody truncates or writes it, by contract.
        unsafe { open_locked(lock, geometry, description, builder) }
    }

    /// The descriptors of a ring in memfds, duplicated, to be passed to the process that shall read it.
    ///
    /// # Errors
    /// `Unsupported` for rings in other memory; no descriptors.
    pub fn fds(&self) -> Result<RingFds, SetupError> {
        let io = doing("duplicate the ring's descriptors");
        let Home::Memfd { header, data, bell } = &self.home else {
            return Err(io(io::ErrorKind::Unsupported.into()));
        };
        let duplicate = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(&io);
        Ok(RingFds {
            header: duplicate(header.as_fd())?,
            data: duplicate(data.as_fd())?,
            bell: bell.as_ref().map(|bell| duplicate(bell.as_fd())).transpose()?,
        })
    }
}

impl Consumer {
    /// Attaches to a ring in memfds that another process made.
    ///
    /// # Errors
    /// [`AttachError`]: missing seals, sizes that do not fit the header, a header that is none of ours.
    pub fn attach(fds: RingFds) -> Result<Self, AttachError> {
        let RingFds { header, data, bell } = fds;
        for (which, fd, needed) in [("header", &header, seal::HEADER), ("data", &data, seal::DATA)] {
            let found = seal::get(fd.as_fd()).map_err(attaching("read the memfd's seals"))?;
            if found & needed != needed {
                return Err(AttachError::Seals { which, found, needed });
            }
        }
        let (header, data) = (File::from(header), File::from(data));
        let header_len = header.metadata().map_err(attaching("stat the header memfd"))?.len();
        let data_len = data.metadata().map_err(attaching("stat the data memfd"))?.len();
        if header_len < 4096 {
            return Err(AttachError::TooShort { len: header_len });
        }
        let mut area = vec![0; header_len.min(MAX_HEADER) as usize];
        header.read_exact_at(&mut area, 0).map_err(attaching("read the ring's header"))?;
        let description = Description::parse(&area, u64::MAX)?;
        if header_len < description.data_offset || data_len < description.data_size {
            let needed = description.len();
            return Err(AttachError::Truncated { len: header_len.saturating_add(data_len), needed });
        }
        if !description.data_offset.is_multiple_of(sys::page_size() as u64) {
            return Err(AttachError::DataOffset { found: description.data_offset });
        }
        let geometry = description.geometry().ok_or(AttachError::DataSize { found: description.data_size })?;
        let (offset, size) = (description.data_offset as usize, description.data_size as usize);
        let mapped = map_memfd_reader(header.as_fd(), offset, data.as_fd(), size);
        let mapped = mapped.map_err(attaching("map the memfds"))?;
        let memory = Memory::new(mapped.0, mapped.1, geometry, description.mode, Trust::Untrusted, mapped.2);
        let alarm = bell.map_or(Alarm::Clock, |bell| Alarm::Bell(Signal::from_fd(bell)));
        let source = Source::Memory { memory: Arc::new(memory), kernel: false };
        Ok(Self::of_description(source, description, geometry, alarm))
    }

    /// Reads a ring file, while it is written or afterwards; gives no space back.
    ///
    /// # Errors
    /// [`AttachError`]: no ring, truncated, damaged.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        Self::of_file(File::open(path).map_err(attaching("open the ring file"))?, false)
    }

    /// Reads a lossless ring file and gives space back to its writer. There must be one such reader at a time.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file).
    pub fn open_file_and_release(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Self::of_file(file.map_err(attaching("open the ring file"))?, true)
    }

    pub(crate) fn of_file(file: File, releases: bool) -> Result<Self, AttachError> {
        let description = read_description(&file)?;
        let geometry = description.geometry().ok_or(AttachError::DataSize { found: description.data_size })?;
        let source = Source::File(FileSource { file, data_offset: description.data_offset, releases });
        Ok(Self::of_description(source, description, geometry, Alarm::Clock))
    }

    fn of_description(source: Source, description: Description, geometry: Geometry, alarm: Alarm) -> Self {
        let (mode, position) = (description.mode, description.data_tail);
        let writer = Writer::find(&description);
        let mut consumer = Self::new(source, geometry, mode, position, alarm, Some(description));
        consumer.set_writer(writer);
        consumer
    }
}
