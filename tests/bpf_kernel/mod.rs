//! bpf(2), as it is: what the kernel does is what tests compare with, so there is no loader between.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(unsafe_code, reason = "bpf(2) has no wrapper in libc")]

mod functions;
mod map;
mod privilege;
mod program;

use std::fmt;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use crate::common::skip;
pub use functions::Functions;
pub use map::{Batch, Def, Map, connect, possible_cpus};
pub use privilege::without_tracing;
pub use program::{Code, Input, Output, Program, Refused, test_run};

/// `enum bpf_cmd`.
mod cmd {
    pub const MAP_CREATE: libc::c_long = 0;
    pub const MAP_LOOKUP_ELEM: libc::c_long = 1;
    pub const MAP_UPDATE_ELEM: libc::c_long = 2;
    pub const MAP_DELETE_ELEM: libc::c_long = 3;
    pub const MAP_GET_NEXT_KEY: libc::c_long = 4;
    pub const PROG_LOAD: libc::c_long = 5;
    pub const PROG_TEST_RUN: libc::c_long = 10;
    pub const BTF_LOAD: libc::c_long = 18;
    pub const MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
    pub const MAP_FREEZE: libc::c_long = 22;
    pub const MAP_LOOKUP_BATCH: libc::c_long = 24;
    pub const MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
    pub const MAP_UPDATE_BATCH: libc::c_long = 26;
    pub const MAP_DELETE_BATCH: libc::c_long = 27;
}

/// `enum bpf_map_type`.
pub mod map_type {
    pub const HASH: u32 = 1;
    pub const ARRAY: u32 = 2;
    pub const PROG_ARRAY: u32 = 3;
    pub const PERF_EVENT_ARRAY: u32 = 4;
    pub const PERCPU_HASH: u32 = 5;
    pub const PERCPU_ARRAY: u32 = 6;
    pub const STACK_TRACE: u32 = 7;
    pub const LRU_HASH: u32 = 9;
    pub const RINGBUF: u32 = 27;
}

/// `enum bpf_prog_type`.
pub mod prog_type {
    pub const SOCKET_FILTER: u32 = 1;
    pub const KPROBE: u32 = 2;
    pub const TRACEPOINT: u32 = 5;
    pub const XDP: u32 = 6;
    pub const PERF_EVENT: u32 = 7;
    pub const RAW_TRACEPOINT: u32 = 17;
}

/// An `errno` value, shown by its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub i32);

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::E2BIG => "E2BIG",
            libc::EBADF => "EBADF",
            libc::EAGAIN => "EAGAIN",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EFAULT => "EFAULT",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::EINVAL => "EINVAL",
            libc::ENOSPC => "ENOSPC",
            libc::ERANGE => "ERANGE",
            libc::EDOM => "EDOM",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            // In the kernel's own range.
            524 => "ENOTSUPP",
            other => return write!(f, "errno {other}"),
        };
        f.write_str(name)
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

pub type Result<T> = std::result::Result<T, Errno>;

fn address<T>(bytes: &[T]) -> u64 {
    bytes.as_ptr() as u64
}

fn address_mut<T>(bytes: &mut [T]) -> u64 {
    bytes.as_mut_ptr() as u64
}

/// Runs a command of bpf(2).
///
/// # Safety
///
/// `attr` mirrors the command's part of `union bpf_attr`, and the addresses in it are of memory that is as long as the
/// command takes it to be.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> Result<i32> {
    loop {
        // SAFETY: the caller's contract; the size is that of `attr`.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
        if result >= 0 {
            return Ok(result as i32);
        }
        let errno = io::Error::last_os_error().raw_os_error().expect("a system call's error");
        // The verifier gives up when a signal arrives, which the tests of signals next door send.
        if command != cmd::PROG_LOAD || errno != libc::EAGAIN {
            return Err(Errno(errno));
        }
    }
}

/// As `bpf`, for commands that give a descriptor.
///
/// # Safety
///
/// As for `bpf`; the command gives a descriptor.
unsafe fn bpf_fd<T>(command: libc::c_long, attr: &mut T) -> Result<OwnedFd> {
    // SAFETY: the caller's contract; the descriptor is new, and nobody else's.
    unsafe { bpf(command, attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Whether bpf(2) is allowed here; if not, says so.
#[must_use]
pub fn require_bpf() -> bool {
    match Map::create(Def { map_type: map_type::ARRAY, key_size: 4, value_size: 8, max_entries: 1, flags: 0 })
        .and_then(|_| Program::load(prog_type::SOCKET_FILTER, &[0xb7, 0x95], &[]).map_err(|refused| refused.errno))
    {
        Ok(_) => true,
        Err(errno) => {
            skip(format_args!("bpf(2): {}", io::Error::from(errno)));
            false
        }
    }
}
