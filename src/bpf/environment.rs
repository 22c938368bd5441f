//! What programs are told of the world.

use super::sys;
use std::fmt;

/// A read of memory that a program asks for by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeRead {
    /// Where.
    pub address: u64,
    /// Bytes; of text the most.
    pub size: usize,
    /// Whether it is user memory that the helper is for, rather than the kernel's.
    pub user: bool,
}

/// The thread that a program runs for, beyond what helpers tell: what the context of a probe's program says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// What stands for the thread: the same at each time, and never 0. In the kernel it is an address.
    pub token: u64,
    /// Its state, as the kernel has it: 0 for one that runs.
    pub state: u64,
    /// Its priority, as the kernel has it: 120 for one that is as nice as others.
    pub prio: u32,
    /// The process that its process is a child of.
    pub ppid: u32,
    /// The real user.
    pub uid: u32,
    /// The real group.
    pub gid: u32,
    /// The effective user.
    pub euid: u32,
    /// The effective group.
    pub egid: u32,
}

/// What programs are told of the world: times, the task, memory. [`Live`] tells how it is now; what fires programs after the
/// fact tells how it was.
pub trait Environment {
    /// Nanoseconds of CLOCK_MONOTONIC: `bpf_ktime_get_ns`.
    fn ktime_get_ns(&self) -> u64;

    /// Nanoseconds of CLOCK_BOOTTIME: `bpf_ktime_get_boot_ns`.
    fn ktime_get_boot_ns(&self) -> u64;

    /// The process in the upper half, the thread in the lower: `bpf_get_current_pid_tgid`.
    fn pid_tgid(&self) -> u64;

    /// The group in the upper half, the user in the lower: `bpf_get_current_uid_gid`.
    fn uid_gid(&self) -> u64;

    /// The name of the thread with zeros behind it: `bpf_get_current_comm`.
    fn comm(&self) -> [u8; 16];

    /// Copies the first bytes at an address to `to`, and gives how many it copied: fewer where the rest may not be read, or is
    /// not there. `bpf_probe_read_*`.
    fn probe_read(&self, read: ProbeRead, to: &mut [u8]) -> usize;

    /// The thread. Unless it is implemented, what [`pid_tgid`](Self::pid_tgid) and [`uid_gid`](Self::uid_gid) say, and 0 for the
    /// rest.
    fn task(&self) -> Task {
        let (token, uid_gid) = (self.pid_tgid().max(1), self.uid_gid());
        let (uid, gid) = (uid_gid as u32, (uid_gid >> 32) as u32);
        Task { token, uid, gid, euid: uid, egid: gid, ..Task::default() }
    }

    /// The addresses of the functions that had been called, the innermost first, without the marks that a sample has between the
    /// kernel's and the user's: `bpf_get_stack`. None where they are not known, as they are not unless it is implemented.
    fn callchain(&self, user: bool) -> Option<&[u64]> {
        let _ = user;
        None
    }

    /// The arguments of the probe that the program was started by; none unless it is implemented.
    fn args(&self) -> &[u64] {
        &[]
    }
}

/// How it is now, for the thread that runs the program. Reads of memory are denied unless a policy allows them.
#[derive(Default)]
pub struct Live {
    policy: Option<Box<Policy>>,
}

type Policy = dyn Fn(ProbeRead) -> bool + Send + Sync;

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("reads", &self.policy.is_some()).finish()
    }
}

impl Live {
    /// All reads of memory are denied.
    pub const fn new() -> Self {
        Self { policy: None }
    }

    /// Reads of this process's memory that `policy` allows are made, by process_vm_readv(2): one of what is not mapped fails,
    /// and does no harm. In a process with secrets a policy that allows all of them gives programs the secrets.
    pub fn reading(policy: impl Fn(ProbeRead) -> bool + Send + Sync + 'static) -> Self {
        Self { policy: Some(Box::new(policy)) }
    }
}

impl Environment for Live {
    fn ktime_get_ns(&self) -> u64 {
        sys::clock(libc::CLOCK_MONOTONIC)
    }

    fn ktime_get_boot_ns(&self) -> u64 {
        sys::clock(libc::CLOCK_BOOTTIME)
    }

    fn pid_tgid(&self) -> u64 {
        sys::pid_tgid()
    }

    fn uid_gid(&self) -> u64 {
        sys::uid_gid()
    }

    fn comm(&self) -> [u8; 16] {
        sys::comm()
    }

    fn task(&self) -> Task {
        sys::task()
    }

    fn probe_read(&self, read: ProbeRead, to: &mut [u8]) -> usize {
        match &self.policy {
            Some(policy) if policy(read) => sys::read_own_memory(read.address, to).unwrap_or(0),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_denied_unless_allowed() {
        let bytes = *b"sixteen bytes ..";
        let read = ProbeRead { address: bytes.as_ptr().expose_provenance() as u64, size: 16, user: true };
        let mut to = [0; 16];
        assert_eq!(Live::new().probe_read(read, &mut to), 0);
        assert_eq!(to, [0; 16]);
        assert_eq!(Live::reading(|read| !read.user).probe_read(read, &mut to), 0);
        let live = Live::reading(|read| read.user);
        assert_eq!(live.probe_read(read, &mut to), 16);
        assert_eq!(to, bytes);
        assert_eq!(live.probe_read(ProbeRead { address: 8, ..read }, &mut to), 0, "nothing is mapped there");
    }

    #[test]
    fn the_task() {
        let live = Live::new();
        assert_eq!(live.pid_tgid() >> 32, u64::from(std::process::id()));
        let comm = std::fs::read("/proc/thread-self/comm").unwrap();
        assert!(live.comm().starts_with(comm.trim_ascii_end()));
        let monotonic = live.ktime_get_ns();
        assert!(live.ktime_get_boot_ns() >= monotonic);
    }
}
