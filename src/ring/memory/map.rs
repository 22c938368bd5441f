//! Where the bytes come from: anonymous memory, a pair of memfds, a file, the kernel.

use super::{AuxWords, Data, HeaderWords, TimeWords};
use crate::ring::layout::{DATA_OFFSET, DATA_SIZE};
use memmap2::{MmapMut, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;

/// Keeps a mapping alive.
pub(crate) enum Backing {
    Map {
        _map: MmapRaw,
    },
    /// A kernel mapping, whose header page others read, too.
    Shared {
        _map: Arc<MmapRaw>,
    },
    /// An AUX area, and the mapping that its header page is in, dropped in this order.
    Aux {
        _aux: MmapRaw,
        _page: Arc<MmapRaw>,
    },
    Pair {
        _pair: PairMap,
    },
    File {
        _map: MmapRaw,
        _lock: FileLock,
    },
}

/// Why a kernel mapping is no ring.
#[derive(Debug)]
pub(crate) enum MapError {
    Io(io::Error),
    /// `data_offset` and `data_size` do not describe a ring inside the mapping.
    Shape {
        data_offset: u64,
        data_size: u64,
        mapped: u64,
    },
}

impl From<io::Error> for MapError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Both parts of a ring in the mapping `map`: `header_len` bytes and `data_size` bytes behind them.
///
/// # Safety
/// The mapping has at least `header_len + data_size` bytes, `header_len` a positive multiple of the page size; nobody in
/// this process accesses its data otherwise, or its header other than atomically; the caller keeps it alive as long as the
/// two values.
unsafe fn split(map: &MmapRaw, header_len: usize, data_size: usize) -> (HeaderWords, Data) {
    debug_assert!(map.len() >= header_len + data_size);
    // SAFETY: a mapping's address is never null, and header_len is inside of it by contract.
    let (base, data) =
        unsafe { (NonNull::new_unchecked(map.as_mut_ptr()), NonNull::new_unchecked(map.as_mut_ptr().add(header_len))) };
    // SAFETY: mapped, page-aligned, the data for us alone and the header for atomics alone, by contract.
    unsafe { (HeaderWords::new(base), Data::new(data, data_size)) }
}

/// Anonymous memory, with `header` (a multiple of the page size) as the header area.
pub(crate) fn map_private(header: &[u8], data_size: usize) -> io::Result<(HeaderWords, Data, Backing)> {
    let total = header.len().checked_add(data_size).ok_or(io::ErrorKind::OutOfMemory)?;
    let mut map = MmapMut::map_anon(total)?;
    map[..header.len()].copy_from_slice(header);
    let map = MmapRaw::from(map);
    // SAFETY: mapped with that length just now; the map moves into the backing beside the two values.
    let (words, data) = unsafe { split(&map, header.len(), data_size) };
    Ok((words, data, Backing::Map { _map: map }))
}

/// A kernel ring's mapping; its geometry is read from its header page, once.
///
/// # Safety
/// `map` is a mapping of a perf_event fd from offset 0; its data area is not accessed otherwise, and its header page only
/// atomically.
pub(crate) unsafe fn map_kernel(map: Arc<MmapRaw>) -> Result<(HeaderWords, Data, Backing, usize), MapError> {
    let mapped = map.len();
    let shape = |data_offset, data_size| MapError::Shape { data_offset, data_size, mapped: mapped as u64 };
    if mapped < 4096 {
        return Err(shape(0, 0));
    }
    // SAFETY: a mapping of at least a page; a mapping's address is never null.
    let words = unsafe { HeaderWords::new(NonNull::new_unchecked(map.as_mut_ptr())) };
    let order = crate::ring::order::Site::Describe.order();
    let (offset, size) = (words.data_offset().load(order), words.data_size().load(order));
    let inside = offset.checked_add(size).is_some_and(|end| end <= mapped as u64);
    if !inside || offset < 4096 || !offset.is_multiple_of(4096) || !size.is_power_of_two() || size < 4096 {
        return Err(shape(offset, size));
    }
    // SAFETY: header and data are inside the mapping (checked), and the data area is ours alone by contract. Others may
    // have the header page: all that `HeaderWords` asks of them is that they access it atomically, which is the contract,
    // too. The backing beside the two values keeps the mapping alive.
    let (words, data) = unsafe { split(&map, offset as usize, size as usize) };
    Ok((words, data, Backing::Shared { _map: map }, size as usize))
}

/// The time page of a kernel mapping: `None` when that is shorter than a page.
///
/// # Safety
/// `map` is a mapping of a perf_event fd from offset 0, and its header page is accessed otherwise only atomically.
pub(crate) unsafe fn kernel_time_page(map: Arc<MmapRaw>) -> Option<(TimeWords, Backing)> {
    if map.len() < 4096 {
        return None;
    }
    // SAFETY: a mapping's address is never null and page-aligned, at least 4096 bytes are mapped there (checked), and
    // only atomic accesses are made, by contract. The backing beside the value keeps the mapping alive.
    let words = unsafe { TimeWords::new(NonNull::new_unchecked(map.as_mut_ptr())) };
    Some((words, Backing::Shared { _map: map }))
}

/// A header page in anonymous memory, all zero.
pub(crate) fn private_time_page() -> io::Result<(TimeWords, Backing)> {
    let map = MmapRaw::from(MmapMut::map_anon(4096)?);
    // SAFETY: mapped just now, page-aligned, readable and writable; nobody else knows the address, and the backing beside
    // the value keeps it alive.
    let words = unsafe { TimeWords::new(NonNull::new_unchecked(map.as_mut_ptr())) };
    Ok((words, Backing::Map { _map: map }))
}

/// Tells the kernel by the header page in `page` where the AUX area is going to be mapped, and of which size: `None` when
/// `page` is shorter than a page.
///
/// # Safety
/// `page` is a writable mapping of a perf_event fd from offset 0, and its header page is accessed otherwise only
/// atomically.
#[cfg(feature = "kernel")]
pub(crate) unsafe fn announce_aux(page: &MmapRaw, aux_offset: u64, aux_size: u64) -> Option<()> {
    if page.len() < 4096 {
        return None;
    }
    // SAFETY: as in `kernel_time_page`; the borrow keeps the mapping alive while `words` is there, and it is writable by
    // contract.
    let words = unsafe { AuxWords::new(NonNull::new_unchecked(page.as_mut_ptr())) };
    let order = crate::ring::order::Site::AuxDescribe.order();
    words.aux_offset().store(aux_offset, order);
    words.aux_size().store(aux_size, order);
    Some(())
}

/// A kernel mapping's AUX area. `Err`: what `aux_size` is, which is not the length of `aux`, or no power of two of pages.
///
/// # Safety
/// `page` and `aux` are mappings of the same perf_event fd, from offset 0 and from `aux_offset`; the header page is
/// accessed otherwise only atomically, and the AUX area not at all.
pub(crate) unsafe fn kernel_aux(page: Arc<MmapRaw>, aux: MmapRaw) -> Result<(AuxWords, Data, Backing), u64> {
    if page.len() < 4096 {
        return Err(0);
    }
    // SAFETY: as in `kernel_time_page`; the backing below keeps the mapping alive.
    let words = unsafe { AuxWords::new(NonNull::new_unchecked(page.as_mut_ptr())) };
    let size = words.aux_size().load(crate::ring::order::Site::AuxDescribe.order());
    if size != aux.len() as u64 || !size.is_power_of_two() || size < 4096 {
        return Err(size);
    }
    // SAFETY: `aux.len()` bytes are mapped there, page-aligned, and nobody else accesses them, by contract; the backing
    // beside the value keeps them alive. (Only a producer writes, and there is none for a kernel mapping.)
    let data = unsafe { Data::new(NonNull::new_unchecked(aux.as_mut_ptr()), aux.len()) };
    Ok((words, data, Backing::Aux { _aux: aux, _page: page }))
}

/// A header page and an AUX area of `size` bytes, a power of two of at least 4096, in anonymous memory; both positions
/// are `start`.
pub(crate) fn private_aux(size: usize, start: u64) -> io::Result<(AuxWords, Data, Backing)> {
    // A header area of the largest page there is keeps the data aligned, whatever the page size.
    const HEADER: usize = 65536;
    let total = size.checked_add(HEADER).ok_or(io::ErrorKind::OutOfMemory)?;
    let map = MmapRaw::from(MmapMut::map_anon(total)?);
    // SAFETY: mapped just now with that length, page-aligned, readable and writable; nobody else knows the addresses, and
    // the backing beside the two values keeps them alive. HEADER is inside of the mapping.
    let (words, data) = unsafe {
        let base = NonNull::new_unchecked(map.as_mut_ptr());
        (AuxWords::new(base), Data::new(base.add(HEADER), size))
    };
    let order = crate::ring::order::Site::AuxDescribe.order();
    words.aux_head().store(start, order);
    words.aux_tail().store(start, order);
    words.aux_offset().store(HEADER as u64, order);
    words.aux_size().store(size as u64, order);
    Ok((words, data, Backing::Map { _map: map }))
}

/// Two memfds mapped side by side.
pub(crate) struct PairMap {
    base: NonNull<u8>,
    len: usize,
}

impl Drop for PairMap {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map_pair` and belongs to this value alone.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

// SAFETY: a range of addresses, unmapped once, on drop.
unsafe impl Send for PairMap {}
// SAFETY: `&PairMap` gives access to nothing.
unsafe impl Sync for PairMap {}

fn map_pair(
    header: BorrowedFd<'_>,
    header_len: usize,
    data: BorrowedFd<'_>,
    data_size: usize,
    data_prot: libc::c_int,
) -> io::Result<(HeaderWords, Data, Backing)> {
    let len = header_len.checked_add(data_size).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: reserves fresh addresses; touches no existing mapping.
    let base = unsafe {
        libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let pair = PairMap { base, len };
    let place = |offset: usize, len: usize, prot, fd: BorrowedFd<'_>| {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: [offset, offset + len) lies in the range reserved above, which is ours alone, so MAP_FIXED replaces
        // nothing else.
        let at = unsafe { libc::mmap(base.as_ptr().add(offset).cast(), len, prot, flags, fd.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    place(0, header_len, libc::PROT_READ | libc::PROT_WRITE, header)?;
    place(header_len, data_size, data_prot, data)?;
    // SAFETY: the header is mapped at base and the data right behind, page-aligned as mmap placed them; the pair moves into
    // the backing beside the two values, and nobody else knows the addresses. The files cannot shrink under the mapping:
    // they are sealed by the maker, and a reader checks the seals.
    let (words, data) = unsafe {
        (HeaderWords::new(base), Data::new(NonNull::new_unchecked(base.as_ptr().add(header_len)), data_size))
    };
    Ok((words, data, Backing::Pair { _pair: pair }))
}

/// Seals of memfds.
pub(crate) mod seal {
    use super::*;

    /// What the header's memfd must have: its size is fixed.
    pub(crate) const HEADER: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    /// What the data's memfd must have: its size is fixed, and nobody can map or write it any more who has not mapped it yet.
    pub(crate) const DATA: i32 = HEADER | libc::F_SEAL_FUTURE_WRITE;

    pub(crate) fn add(fd: BorrowedFd<'_>, seals: i32) -> io::Result<()> {
        // SAFETY: a plain fcntl on a descriptor that is open.
        match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals | libc::F_SEAL_SEAL) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    pub(crate) fn get(fd: BorrowedFd<'_>) -> io::Result<i32> {
        // SAFETY: a plain fcntl on a descriptor that is open.
        match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) } {
            -1 => Err(io::Error::last_os_error()),
            seals => Ok(seals),
        }
    }
}

fn memfd(name: &std::ffi::CStr, len: usize) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string; the result is checked before it is used.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    allocate(fd.as_raw_fd(), len)?;
    Ok(fd)
}

/// Gives the file `len` bytes that are really there, so that no store into a mapping of it can fail for want of space.
fn allocate(fd: RawFd, len: usize) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: plain calls on a descriptor that is open.
    match unsafe { libc::posix_fallocate(fd, 0, len) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Two sealed memfds, the header's and the data's, mapped side by side for a producer.
pub(crate) fn map_memfd(header: &[u8], data_size: usize) -> io::Result<(HeaderWords, Data, Backing, OwnedFd, OwnedFd)> {
    use std::os::fd::AsFd;
    let header_fd = memfd(c"perfring-header", header.len())?;
    let data_fd = memfd(c"perfring-data", data_size)?;
    let file = File::from(header_fd);
    file.write_all_at(header, 0)?;
    let header_fd = OwnedFd::from(file);
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let (words, data, backing) = map_pair(header_fd.as_fd(), header.len(), data_fd.as_fd(), data_size, prot)?;
    seal::add(header_fd.as_fd(), seal::HEADER)?;
    seal::add(data_fd.as_fd(), seal::DATA)?;
    Ok((words, data, backing, header_fd, data_fd))
}

/// The reader's view of two memfds, whose seals and sizes the caller has checked: the data cannot be written through it.
pub(crate) fn map_memfd_reader(
    header: BorrowedFd<'_>,
    header_len: usize,
    data: BorrowedFd<'_>,
    data_size: usize,
) -> io::Result<(HeaderWords, Data, Backing)> {
    map_pair(header, header_len, data, data_size, libc::PROT_READ)
}

/// A file that this process alone may write as a ring: an open-file-description lock, held as long as the value lives.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock, or gives the error `EAGAIN`/`EACCES` where another writer holds it.
    pub(crate) fn take(file: File) -> io::Result<Self> {
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // SAFETY: fcntl reads the struct, which lives across the call.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(Self { file }),
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Sets the file's length, with all of it allocated.
    pub(crate) fn allocate(&self, len: usize) -> io::Result<()> {
        allocate(self.file.as_raw_fd(), len)
    }
}

/// A ring file, mapped for its one writer.
///
/// # Safety
/// The file has at least `header_len + data_size` bytes, and nobody truncates it, or writes its data area otherwise, while
/// the mapping lives.
pub(crate) unsafe fn map_file(
    lock: FileLock,
    header_len: usize,
    data_size: usize,
) -> io::Result<(HeaderWords, Data, Backing)> {
    let total = header_len.checked_add(data_size).ok_or(io::ErrorKind::FileTooLarge)?;
    let map = MmapOptions::new().len(total).map_raw(&lock.file)?;
    // SAFETY: mapped with that length; that the bytes stay there and are ours is the caller's contract; the map moves into
    // the backing beside the two values.
    let (words, data) = unsafe { split(&map, header_len, data_size) };
    Ok((words, data, Backing::File { _map: map, _lock: lock }))
}

const _: () = assert!(DATA_OFFSET < 4096 && DATA_SIZE < 4096);
