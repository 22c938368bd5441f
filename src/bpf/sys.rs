//! What the helpers ask the system.

#![allow(unsafe_code)]

use super::environment::Task;
use std::io;

/// The CPU that this thread runs on, at the moment.
pub(crate) fn current_cpu() -> usize {
    // SAFETY: has no preconditions.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// The process and the thread, as `bpf_get_current_pid_tgid` has them: the process in the upper half.
pub(crate) fn pid_tgid() -> u64 {
    // SAFETY: these have no preconditions.
    let (pid, tid) = unsafe { (libc::getpid(), libc::gettid()) };
    (pid as u64) << 32 | tid as u64
}

/// The group and the user, as `bpf_get_current_uid_gid` has them: the group in the upper half.
pub(crate) fn uid_gid() -> u64 {
    // SAFETY: these have no preconditions.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    u64::from(gid) << 32 | u64::from(uid)
}

/// This thread, as a context tells of it.
pub(crate) fn task() -> Task {
    // SAFETY: these have no preconditions. A thread's priority can always be asked for, and -1 is one.
    let (nice, ppid) = unsafe { (libc::getpriority(libc::PRIO_PROCESS, 0), libc::getppid()) };
    // SAFETY: these have no preconditions.
    let (uid, gid, euid, egid) = unsafe { (libc::getuid(), libc::getgid(), libc::geteuid(), libc::getegid()) };
    Task { token: pid_tgid(), state: 0, prio: (120 + nice) as u32, ppid: ppid as u32, uid, gid, euid, egid }
}

/// The name of this thread, with zeros behind it.
pub(crate) fn comm() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes to the address, and there are as many.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// Nanoseconds by this clock.
pub(crate) fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the address is that of a timespec that may be written. The clocks asked for here always exist.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Copies memory of this process that may not be there; gives how many bytes were copied before what is not.
pub(crate) fn read_own_memory(address: u64, to: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(address as usize), iov_len: to.len() };
    // SAFETY: the local vector describes `to`, exclusively borrowed; the remote one is only an address to the kernel, which
    // reads there on its own, and fails where nothing is mapped.
    let count = unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
