//! What an event observes.

use std::fmt;

use crate::kernel::{Error, cpu};

/// What an event observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// The thread that opens the event, on whichever CPU it runs.
    CallingThread,
    /// One thread, on whichever CPU it runs. A process id means the process' main thread.
    Task {
        /// The thread's id; never 0.
        pid: u32,
    },
    /// One thread, while it runs on one CPU.
    TaskOnCpu {
        /// The thread's id; never 0.
        pid: u32,
        /// The CPU.
        cpu: u32,
    },
    /// Everything that runs on one CPU.
    Cpu {
        /// The CPU.
        cpu: u32,
    },
}

impl Target {
    pub(super) fn cpu(&self) -> Option<u32> {
        match *self {
            Self::TaskOnCpu { cpu, .. } | Self::Cpu { cpu } => Some(cpu),
            Self::CallingThread | Self::Task { .. } => None,
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match *self {
            Self::Task { pid } | Self::TaskOnCpu { pid, .. } => Some(pid),
            Self::CallingThread | Self::Cpu { .. } => None,
        }
    }

    /// The arguments `pid` and `cpu` of perf_event_open.
    pub(super) fn arguments(&self) -> Result<(libc::pid_t, libc::c_int), Error> {
        let pid = match (self, self.pid()) {
            (_, Some(pid)) => libc::pid_t::try_from(pid)
                .ok()
                // 0 would silently mean the calling thread.
                .filter(|&pid| pid != 0)
                .ok_or(Error::NoSuchTask { pid })?,
            (Self::Cpu { .. }, None) => -1,
            (_, None) => 0,
        };
        let cpu = match self.cpu() {
            Some(number) => libc::c_int::try_from(number)
                .map_err(|_| Error::NoSuchCpu { cpu: number, online: cpu::online_text() })?,
            None => -1,
        };
        Ok((pid, cpu))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CallingThread => f.write_str("the calling thread"),
            Self::Task { pid } => write!(f, "task {pid}"),
            Self::TaskOnCpu { pid, cpu } => write!(f, "task {pid} on CPU {cpu}"),
            Self::Cpu { cpu } => write!(f, "CPU {cpu}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_become_arguments() {
        assert_eq!(Target::CallingThread.arguments().unwrap(), (0, -1));
        assert_eq!(Target::Task { pid: 7 }.arguments().unwrap(), (7, -1));
        assert_eq!(Target::TaskOnCpu { pid: 7, cpu: 1 }.arguments().unwrap(), (7, 1));
        assert_eq!(Target::Cpu { cpu: 0 }.arguments().unwrap(), (-1, 0));
        for pid in [0, u32::MAX, 1 << 31] {
            assert!(matches!(Target::Task { pid }.arguments(), Err(Error::NoSuchTask { .. })));
        }
        assert!(matches!(Target::Cpu { cpu: u32::MAX }.arguments(), Err(Error::NoSuchCpu { .. })));
    }
}
