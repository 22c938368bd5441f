//! What was the case when a record was written: the world of programs that run after the fact.

use super::enabling::Occurrence;
use super::program_type::REGS;
use super::tasks::Known;
use crate::bpf::{Environment, ProbeRead, Task};
use std::cell::Cell;
use std::fmt;

/// A firing after the fact. All that programs are told comes from the record: the time, the thread, its registers, the arguments, and
/// of memory what the record carries. What it does not say fails, or is a number that says so.
///
/// Made with what is known, and handed to [`Session::fire`](super::Session::fire):
///
/// ```
/// use perfring::dtrace::Past;
///
/// let args = [1, 2, 3];
/// let past = Past::new(0, 100, 100).time(17).arguments(&args);
/// ```
#[derive(Clone)]
pub struct Past<'a> {
    cpu: u32,
    pid: u32,
    tid: u32,
    time: u64,
    known: Option<Known>,
    regs: Option<[u64; REGS]>,
    args: &'a [u64],
    raw: &'a [u8],
    /// Where a program has a copy of `raw`.
    copy: Cell<u64>,
    /// A piece of the user's stack, and where it starts.
    stack: (u64, &'a [u8]),
    kernel_chain: Option<&'a [u64]>,
    user_chain: Option<&'a [u64]>,
    sample_period: u64,
    addr: u64,
}

impl fmt::Debug for Past<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past")
            .field("cpu", &self.cpu)
            .field("pid", &self.pid)
            .field("tid", &self.tid)
            .field("time", &self.time)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

impl<'a> Past<'a> {
    /// On this CPU, for this process and thread.
    pub fn new(cpu: u32, pid: u32, tid: u32) -> Self {
        Self {
            cpu,
            pid,
            tid,
            time: 0,
            known: None,
            regs: None,
            args: &[],
            raw: &[],
            copy: Cell::new(0),
            stack: (0, &[]),
            kernel_chain: None,
            user_chain: None,
            sample_period: 0,
            addr: 0,
        }
    }

    /// When: nanoseconds of CLOCK_MONOTONIC.
    #[must_use]
    pub fn time(mut self, time: u64) -> Self {
        self.time = time;
        self
    }

    /// The arguments of the probe.
    #[must_use]
    pub fn arguments(mut self, args: &'a [u64]) -> Self {
        self.args = args;
        self
    }

    /// The record of a tracepoint: the context of programs of that type. Programs may read it by its address, too.
    #[must_use]
    pub fn raw(mut self, raw: &'a [u8]) -> Self {
        self.raw = raw;
        self
    }

    /// The thread's registers, in the order of [`program_type`](super::program_type)'s `regs`.
    #[must_use]
    pub fn regs(mut self, regs: [u64; REGS]) -> Self {
        self.regs = Some(regs);
        self
    }

    /// A piece of the user's stack, from the stack pointer on: programs may read it.
    #[must_use]
    pub fn stack(mut self, sp: u64, bytes: &'a [u8]) -> Self {
        self.stack = (sp, bytes);
        self
    }

    /// The call chains, the innermost function first, for `bpf_get_stack`.
    #[must_use]
    pub fn callchains(mut self, kernel: &'a [u64], user: &'a [u64]) -> Self {
        (self.kernel_chain, self.user_chain) = (Some(kernel), Some(user));
        self
    }

    /// How many occurrences the record stands for, and the address that it is about: `struct bpf_perf_event_data`.
    #[must_use]
    pub fn sample(mut self, period: u64, addr: u64) -> Self {
        (self.sample_period, self.addr) = (period, addr);
        self
    }

    /// What is known of the thread.
    #[cfg_attr(not(feature = "kernel"), allow(dead_code))]
    pub(super) fn known(mut self, known: Known) -> Self {
        self.known = Some(known);
        self
    }

    pub(super) fn cpu(&self) -> u32 {
        self.cpu
    }

    pub(super) fn occurrence(&self) -> Occurrence<'_> {
        Occurrence {
            regs: self.regs.as_ref(),
            raw: self.raw,
            copy: Some(&self.copy),
            sample_period: self.sample_period,
            addr: self.addr,
        }
    }
}

/// The part of `bytes`, which start at `start`, from `address` on.
fn part(start: u64, bytes: &[u8], address: u64) -> Option<&[u8]> {
    let offset = usize::try_from(address.checked_sub(start)?).ok()?;
    bytes.get(offset..).filter(|rest| !rest.is_empty())
}

impl Environment for Past<'_> {
    fn ktime_get_ns(&self) -> u64 {
        self.time
    }

    /// The same: how long the machine had been asleep is not in the record.
    fn ktime_get_boot_ns(&self) -> u64 {
        self.time
    }

    fn pid_tgid(&self) -> u64 {
        u64::from(self.pid) << 32 | u64::from(self.tid)
    }

    fn uid_gid(&self) -> u64 {
        let task = self.task();
        u64::from(task.gid) << 32 | u64::from(task.uid)
    }

    fn comm(&self) -> [u8; 16] {
        self.known.map_or([0; 16], |known| known.comm)
    }

    fn probe_read(&self, read: ProbeRead, to: &mut [u8]) -> usize {
        let raw = self.raw.as_ptr().addr() as u64;
        let found = part(raw, self.raw, read.address)
            .or_else(|| part(self.copy.get(), self.raw, read.address))
            .or_else(|| part(self.stack.0, self.stack.1, read.address).filter(|_| read.user));
        let Some(found) = found else { return 0 };
        let count = found.len().min(to.len());
        to[..count].copy_from_slice(&found[..count]);
        count
    }

    fn task(&self) -> Task {
        let unknown = Task { token: self.pid_tgid().max(1), ..Task::default() };
        self.known.map_or(unknown, |known| known.task)
    }

    fn callchain(&self, user: bool) -> Option<&[u64]> {
        if user { self.user_chain } else { self.kernel_chain }
    }

    fn args(&self) -> &[u64] {
        self.args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_a_record_carries() {
        let raw = *b"raw data";
        let past = Past::new(0, 1, 2).raw(&raw).stack(0x1000, b"stack");
        let read = |address, size: usize, user| {
            let mut to = vec![0; size];
            let count = past.probe_read(ProbeRead { address, size, user }, &mut to);
            to.truncate(count);
            to
        };
        let at = raw.as_ptr().addr() as u64;
        assert_eq!(read(at + 4, 8, false), b"data");
        assert_eq!(read(0x1001, 2, true), b"ta");
        assert_eq!(read(0x1001, 2, false), b"");
        assert_eq!(read(0x1005, 2, true), b"");
        assert_eq!(read(u64::MAX, 2, true), b"");
        past.copy.set(0x2000);
        assert_eq!(read(0x2000, 3, false), b"raw");
        assert_eq!(past.pid_tgid(), 1 << 32 | 2);
        assert_eq!(past.callchain(true), None);
    }
}
