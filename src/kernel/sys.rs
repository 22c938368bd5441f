//! The system calls: the only place of this module that talks to the kernel other than through files and the mapping.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use perf_event_open_sys as perf;
use perf_event_open_sys::bindings::{
    PERF_ATTR_SIZE_VER0, PERF_FLAG_FD_CLOEXEC, PERF_IOC_FLAG_GROUP, PERIOD, QUERY_BPF, SET_OUTPUT, perf_event_attr,
};

/// The byte that lets a stopped child go on; any other makes it give up.
pub(super) const GO: u8 = b'g';
/// The byte that makes a stopped child give up.
pub(super) const GIVE_UP: u8 = b'x';

/// `attr.size` is updated by the kernel when it answers `E2BIG`.
///
/// `text` is what `config1` points to during the call; it is 0 afterwards.
pub(super) fn perf_event_open(
    attr: &mut perf_event_attr,
    pid: libc::pid_t,
    cpu: libc::c_int,
    leader: Option<BorrowedFd<'_>>,
    text: Option<&CStr>,
) -> io::Result<OwnedFd> {
    if attr.size as usize > size_of::<perf_event_attr>() {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    if let Some(text) = text {
        attr.config1 = text.as_ptr().expose_provenance() as u64;
    }
    let leader = leader.map_or(-1, |leader| leader.as_raw_fd());
    // SAFETY: `attr` is exclusively borrowed for the call. The kernel reads `attr.size` bytes of it (64 when it is 0,
    // which the struct also has), just checked to lie inside, and writes `attr.size` at most. `leader` is -1 or open
    // while it is borrowed. The PMUs of probes read a string at the address `config1`: that of `text`, which is borrowed
    // for the call and ends in NUL. When a caller made up a `config1` of its own, the kernel reads from there, or
    // answers EFAULT; it writes nothing there. What the event does once it is open is another matter: a uprobe puts an
    // instruction into the code of processes, and its reference counter into their data, perhaps into this one's. That
    // is done to files' mappings by who may do it to any process, and is as much outside of what Rust can promise as
    // writing to /proc/self/mem; the docs of uprobes say what their arguments must be.
    let fd = unsafe { perf::perf_event_open(attr, pid, cpu, leader, PERF_FLAG_FD_CLOEXEC.into()) };
    // Before anything else can set it.
    let error = io::Error::last_os_error();
    if text.is_some() {
        // An address that will not be valid any longer.
        attr.config1 = 0;
    }
    if fd < 0 {
        return Err(error);
    }
    // SAFETY: a successful perf_event_open returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How many bytes of the attribute the kernel reads: it takes a size of 0 for the first one that there was.
pub(super) fn attr_size(attr: &perf_event_attr) -> u32 {
    if attr.size == 0 { PERF_ATTR_SIZE_VER0 } else { attr.size }
}

/// The attribute as the kernel reads it.
pub(super) fn attr_bytes(attr: &perf_event_attr) -> &[u8] {
    let size = (attr_size(attr) as usize).min(size_of::<perf_event_attr>());
    // SAFETY: the pointer is valid for `size_of::<perf_event_attr>()` bytes, `size` is at most that, and the borrow
    // lasts as long as `attr`'s. Every byte is initialised: the struct has integers and unions of integers of one size
    // only, and the uapi leaves no hole in it (its gaps are named fields), so a `perf_event_attr` value has no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(attr).cast::<u8>(), size) }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether an ioctl is for the event, or for all of its group.
fn scope(group: bool) -> libc::c_uint {
    if group { PERF_IOC_FLAG_GROUP as libc::c_uint } else { 0 }
}

/// `PERF_EVENT_IOC_ENABLE`
pub(super) fn enable(fd: BorrowedFd<'_>, group: bool) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; the argument is a flag word.
    check(unsafe { perf::ioctls::ENABLE(fd.as_raw_fd(), scope(group)) })
}

/// `PERF_EVENT_IOC_DISABLE`
pub(super) fn disable(fd: BorrowedFd<'_>, group: bool) -> io::Result<()> {
    // SAFETY: as for `enable`.
    check(unsafe { perf::ioctls::DISABLE(fd.as_raw_fd(), scope(group)) })
}

/// `PERF_EVENT_IOC_RESET`
pub(super) fn reset(fd: BorrowedFd<'_>, group: bool) -> io::Result<()> {
    // SAFETY: as for `enable`.
    check(unsafe { perf::ioctls::RESET(fd.as_raw_fd(), scope(group)) })
}

/// `PERF_EVENT_IOC_REFRESH`
pub(super) fn refresh(fd: BorrowedFd<'_>, overflows: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; the argument is a number.
    check(unsafe { perf::ioctls::REFRESH(fd.as_raw_fd(), overflows) })
}

/// `PERF_EVENT_IOC_PERIOD`
pub(super) fn set_period(fd: BorrowedFd<'_>, period: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; the kernel reads one u64 from the address, which is that of
    // the parameter. (The binding of this ioctl would pass the value itself.)
    check(unsafe { libc::ioctl(fd.as_raw_fd(), PERIOD as _, &raw const period) })
}

/// `PERF_EVENT_IOC_SET_OUTPUT`
pub(super) fn set_output(fd: BorrowedFd<'_>, output: Option<BorrowedFd<'_>>) -> io::Result<()> {
    // The kernel compares a whole word with -1, so the binding, which passes an int, would not do.
    let output = output.map_or(-1, |output| libc::c_long::from(output.as_raw_fd()));
    // SAFETY: the descriptors are open while they are borrowed; the argument is -1 or one of them.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), SET_OUTPUT as _, output) })
}

/// `PERF_EVENT_IOC_SET_FILTER`
pub(super) fn set_filter(fd: BorrowedFd<'_>, filter: &CStr) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; the kernel reads a string that ends in NUL from the address,
    // and writes nothing.
    check(unsafe { perf::ioctls::SET_FILTER(fd.as_raw_fd(), filter.as_ptr().cast_mut()) })
}

/// `PERF_EVENT_IOC_SET_BPF`
pub(super) fn set_bpf(fd: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // An open descriptor is never negative.
    let program = program.as_raw_fd().cast_unsigned();
    // SAFETY: both descriptors are open while they are borrowed.
    check(unsafe { perf::ioctls::SET_BPF(fd.as_raw_fd(), program) })
}

/// `PERF_EVENT_IOC_QUERY_BPF`: the ids of the programs, at most `most`; more are an error.
pub(super) fn query_bpf(fd: BorrowedFd<'_>, most: u32) -> io::Result<Vec<u32>> {
    // `struct perf_event_query_bpf`: the room for ids, their number, and they.
    let mut words = vec![0_u32; (most as usize).saturating_add(2)];
    words[0] = most;
    // SAFETY: the descriptor is open while it is borrowed; the kernel writes the second word and then at most as many
    // words as the first one says, for which there is room. The allocation is aligned for u32, and borrowed.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), QUERY_BPF as _, words.as_mut_ptr()) })?;
    let there = words[1];
    words.drain(..2);
    words.truncate(there as usize);
    Ok(words)
}

/// `PERF_EVENT_IOC_MODIFY_ATTRIBUTES`
pub(super) fn modify_attributes(fd: BorrowedFd<'_>, attr: &mut perf_event_attr) -> io::Result<()> {
    if attr.size as usize > size_of::<perf_event_attr>() {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    // SAFETY: the descriptor is open while it is borrowed; the kernel reads `attr.size` bytes, just checked to lie in
    // the struct (64, which it has, when that is 0), and writes `attr.size` at most.
    check(unsafe { perf::ioctls::MODIFY_ATTRIBUTES(fd.as_raw_fd(), attr) })
}

/// read(2) of an event: the number of bytes.
pub(super) fn read(fd: BorrowedFd<'_>, words: &mut [u64]) -> io::Result<usize> {
    // SAFETY: the descriptor is open while it is borrowed; the kernel writes at most as many bytes as the slice has,
    // and every value of them is a u64.
    let read = unsafe { libc::read(fd.as_raw_fd(), words.as_mut_ptr().cast(), size_of_val(words)) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// `PERF_EVENT_IOC_PAUSE_OUTPUT`
pub(super) fn pause_output(fd: BorrowedFd<'_>, pause: bool) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; the argument is a truth value, not an address.
    check(unsafe { perf::ioctls::PAUSE_OUTPUT(fd.as_raw_fd(), pause.into()) })
}

/// `PERF_EVENT_IOC_ID`
pub(super) fn id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut id = 0;
    // SAFETY: the descriptor is open while it is borrowed; the kernel writes one u64 to the address, which is that of a
    // local u64.
    check(unsafe { perf::ioctls::ID(fd.as_raw_fd(), &raw mut id) })?;
    Ok(id)
}

/// Bytes in a page.
pub(super) fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // Linux always answers; 4096 only keeps the function total.
    usize::try_from(size).unwrap_or(4096)
}

/// The time of a clock, in nanoseconds; none if there is no such clock.
pub(super) fn clock_ns(clock: libc::clockid_t) -> Option<u64> {
    // SAFETY: an all-zero timespec is a valid one (it has integers only, and padding on some targets).
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one timespec to the address, which is that of a local one; any clock id may be asked for.
    if unsafe { libc::clock_gettime(clock, &raw mut now) } != 0 {
        return None;
    }
    u64::try_from(now.tv_sec).ok()?.checked_mul(1_000_000_000)?.checked_add(u64::try_from(now.tv_nsec).ok()?)
}

/// epoll_create1(2)
pub(super) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: takes flags only.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a successful epoll_create1 returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `EPOLL_CTL_ADD`, waiting to read; what comes carries `data`.
pub(super) fn epoll_add(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>, data: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: data };
    // SAFETY: both descriptors are open while they are borrowed; the kernel reads the event, which is a local.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) })
}

/// `EPOLL_CTL_DEL`
pub(super) fn epoll_delete(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open while they are borrowed; this request has no event.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), std::ptr::null_mut()) })
}

/// What a descriptor that is watched by epoll says.
#[derive(Clone, Copy)]
pub(super) struct Woken {
    pub(super) data: u64,
    pub(super) is_readable: bool,
    pub(super) has_hung_up: bool,
}

/// epoll_wait(2) for at most `most` descriptors (but one at least), until something happens or the timeout has passed, rounded
/// up to milliseconds; a signal ends it, as if nothing had happened.
pub(super) fn epoll_wait(epoll: BorrowedFd<'_>, most: usize, timeout: Option<Duration>) -> io::Result<Vec<Woken>> {
    // As many as the kernel takes.
    let most = most.clamp(1, libc::c_int::MAX as usize / size_of::<libc::epoll_event>());
    let milliseconds = timeout.map_or(-1, |timeout| {
        let up = timeout.as_nanos().div_ceil(1_000_000);
        libc::c_int::try_from(up).unwrap_or(libc::c_int::MAX)
    });
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; most];
    // SAFETY: the descriptor is open while it is borrowed; the kernel writes at most `most` events to the vector, which has
    // so many; the clamped number fits a c_int.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), most as libc::c_int, milliseconds) };
    let Ok(count) = usize::try_from(count) else {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(Vec::new()) } else { Err(error) };
    };
    let gone = (libc::EPOLLHUP | libc::EPOLLERR) as u32;
    Ok(events
        .iter()
        .take(count)
        // By value: the struct is packed on some targets.
        .map(|&event| Woken {
            data: { event.u64 },
            is_readable: { event.events } & libc::EPOLLIN as u32 != 0,
            has_hung_up: { event.events } & gone != 0,
        })
        .collect())
}

/// The soft limit, `u64::MAX` if there is none.
fn soft_limit(get: impl FnOnce(*mut libc::rlimit) -> libc::c_int) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    if get(&raw mut limit) != 0 {
        return None;
    }
    #[allow(clippy::useless_conversion, reason = "rlim_t is narrower on some targets")]
    Some(if limit.rlim_cur == libc::RLIM_INFINITY { u64::MAX } else { limit.rlim_cur.into() })
}

/// `RLIMIT_NOFILE`
pub(super) fn nofile_limit() -> Option<u64> {
    // SAFETY: `soft_limit` passes the address of a local rlimit, which getrlimit fills.
    soft_limit(|limit| unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit) })
}

/// `RLIMIT_MEMLOCK`, in bytes
pub(super) fn memlock_limit() -> Option<u64> {
    // SAFETY: `soft_limit` passes the address of a local rlimit, which getrlimit fills.
    soft_limit(|limit| unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, limit) })
}

/// ppoll(2) until something happens or the timeout has passed; a signal does not end it.
pub(super) fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    // A deadline that overflows is one that never comes.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // SAFETY: an all-zero timespec is a valid one (it has integers only, and padding on some targets).
            let mut spec: libc::timespec = unsafe { std::mem::zeroed() };
            spec.tv_sec = left.as_secs().try_into().unwrap_or(libc::time_t::MAX);
            // Below 10^9, so it fits every c_long.
            spec.tv_nsec = left.subsec_nanos() as _;
            spec
        });
        let spec = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the slice is exclusively borrowed and its true length is passed; `spec` is null or points to `left`,
        // which lives until the end of this iteration; a null signal mask leaves the mask alone.
        let ready = unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, spec, std::ptr::null()) };
        match usize::try_from(ready) {
            Ok(ready) => return Ok(ready),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Makes the child of `command` tell its pid through `pid_out` and wait for `GO` from `gate_in` before it executes the
/// program.
///
/// The three must be open when the child is made: `gate_in` and `gate_out` are the ends of one pipe, `pid_out` is owned
/// by `command` from here on.
pub(super) fn stop_before_exec(command: &mut Command, pid_out: OwnedFd, gate_in: RawFd, gate_out: RawFd) {
    let stop = move || -> io::Result<()> {
        // SAFETY: getpid, close, write and read are async-signal-safe, as is required between fork and exec. `gate_out`
        // is the child's own copy, open as the caller promised, and used nowhere else in the child; it is closed so
        // that the child sees the end of the pipe when its parent dies. The buffers are locals of the lengths that are
        // passed.
        unsafe {
            libc::close(gate_out);
            let pid = libc::getpid().to_ne_bytes();
            // A pipe takes less than PIPE_BUF bytes as one, so there are no short writes.
            while libc::write(pid_out.as_raw_fd(), pid.as_ptr().cast(), pid.len()) < 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            let mut word = 0_u8;
            loop {
                match libc::read(gate_in, (&raw mut word).cast(), 1) {
                    1 if word == GO => return Ok(()),
                    0 | 1 => return Err(io::Error::from_raw_os_error(libc::ECANCELED)),
                    _ => {
                        let error = io::Error::last_os_error();
                        if error.kind() != io::ErrorKind::Interrupted {
                            return Err(error);
                        }
                    }
                }
            }
        }
    };
    // SAFETY: the closure runs in the child between fork and exec. It makes async-signal-safe calls only (see there),
    // allocates nothing (an io::Error made from an errno is a plain value) and drops nothing.
    unsafe { command.pre_exec(stop) };
}
