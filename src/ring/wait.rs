//! How a consumer sleeps.

use super::consumer::{Consumer, Wait};
use super::order::Site;
use super::source::{Alarm, Source};
use crate::sync::fence_at;

impl Consumer {
    /// Asks to be woken, and says whether there is something to read already: then do not sleep.
    ///
    /// Call it before each time that you sleep on the [descriptor](Self::as_fd) with a loop of your own; [`wait`](Self::wait)
    /// does it itself. It also makes the descriptor not readable.
    pub fn arm(&mut self) -> bool {
        if let (Alarm::Bell(signal), Source::Memory { memory, .. }) = (self.alarm(), self.source()) {
            #[cfg(not(perfring_loom))]
            signal.clear();
            #[cfg(perfring_loom)]
            let _ = signal;
            memory.header().need_wake().store(1, Site::NeedWake.order());
            fence_at!(Site::ArmFence);
        }
        self.is_ready()
    }

    /// Whether something is published that was not read yet. A head that was reported as impossible is nothing to read
    /// until it changes.
    pub fn is_ready(&self) -> bool {
        self.source().head().is_ok_and(|head| self.sees_more(head))
    }

    /// Bytes that are published and were not read yet, of a ring that is read from its start.
    #[cfg_attr(not(feature = "kernel"), allow(dead_code))]
    pub(crate) fn unread(&self) -> u64 {
        self.source().head().map_or(0, |head| head.wrapping_sub(self.position()))
    }

    /// Whether the last producer has left. What it published before can still be read.
    pub fn is_closed(&self) -> bool {
        self.source().closed()
    }

    /// What to say when there is nothing to read: a ring that is seen closed has its last head, so that is looked at again.
    fn idle(&self) -> Option<Wait> {
        if !self.is_closed() {
            return None;
        }
        Some(if self.is_ready() { Wait::Ready } else { Wait::Closed })
    }

    /// Waits until there is something to read or the ring is closed.
    #[cfg(perfring_loom)]
    pub fn wait(&mut self) -> Wait {
        loop {
            if self.arm() {
                return Wait::Ready;
            }
            if let Some(wait) = self.idle() {
                return wait;
            }
            if let Alarm::Bell(signal) = self.alarm() {
                signal.wait();
            }
        }
    }
}

#[cfg(not(perfring_loom))]
mod imp {
    use super::super::error::ReadErrorKind;
    use super::super::source::Writer;
    use super::super::sys;
    use super::*;
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::time::{Duration, Instant};

    /// How often a ring is looked at that has no descriptor to sleep on.
    const LOOK_AGAIN: Duration = Duration::from_millis(5);

    impl Consumer {
        /// The descriptor to sleep on with a loop of your own (poll, epoll, `AsyncFd`): readable when a producer has rung,
        /// or, for a kernel ring, when the kernel has woken it up. `None` for a file. See [`arm`](Self::arm).
        pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
            match self.alarm() {
                Alarm::Clock => None,
                Alarm::Bell(signal) => Some(signal.as_fd()),
                Alarm::Kernel(fd) => Some(fd.as_fd()),
            }
        }

        /// A descriptor to sleep on beside the first: readable once the process that writes the ring has ended. `None` where
        /// that process cannot be told, or has ended already. [`wait`](Self::wait) watches it itself.
        pub fn producer_fd(&self) -> Option<BorrowedFd<'_>> {
            match self.writer() {
                Writer::Alive(fd) => Some(fd.as_fd()),
                _ => None,
            }
        }

        /// Sleeps until there is something to read, but no longer than `timeout` (`None`: for ever).
        ///
        /// A producer rings only at its watermark, so something may become readable without a wake-up; a kernel ring does
        /// likewise.
        ///
        /// # Errors
        /// What poll(2) says; interruptions by signals are waited out. What reading the ring's file says, when that fails.
        pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Wait> {
            let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            loop {
                if self.arm() {
                    return Ok(Wait::Ready);
                }
                if let Err(ReadErrorKind::File(kind)) = self.source().head() {
                    return Err(kind.into());
                }
                if let Some(wait) = self.idle() {
                    return Ok(wait);
                }
                if matches!(self.writer(), Writer::Gone) {
                    return Ok(if self.is_ready() { Wait::Ready } else { Wait::ProducerDied });
                }
                let slice = match self.as_fd() {
                    Some(_) => deadline,
                    None => {
                        let look = Instant::now() + LOOK_AGAIN;
                        Some(deadline.map_or(look, |deadline| deadline.min(look)))
                    }
                };
                let [bell, process] = sys::poll([self.as_fd(), self.producer_fd()], slice)?;
                if process.readable {
                    self.set_writer(Writer::Gone);
                    continue;
                }
                if bell.hung_up {
                    return Ok(if self.is_ready() { Wait::Ready } else { Wait::Closed });
                }
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(if self.is_ready() { Wait::Ready } else { Wait::TimedOut });
                }
            }
        }
    }
}
