//! Waking the consumer: when a producer rings, and how the consumer sleeps.
//!
//! Ringing costs a system call, so it happens only at a watermark, and only when the consumer has armed the bell. Consumer:
//! store `need_wake`, fence, load the head, sleep if there is nothing. Producer: store the head, fence, load `need_wake`,
//! ring if it is set. With both fences at least one of the two sees the other's store.

use super::memory::HeaderWords;
use super::order::Site;
use crate::sync::fence_at;

/// When a producer wakes the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wake {
    /// Never: there is no descriptor to sleep on, and a consumer that waits looks again every few milliseconds.
    Never,
    /// After this many bytes were published since the last time; 0 means each time.
    Bytes(u64),
    /// After this many times that something was published since the last time; 0 means each time.
    Events(u64),
}

/// What a producer rings.
pub(crate) struct Bell {
    signal: Option<Signal>,
}

impl Bell {
    pub(crate) fn new(signal: Option<Signal>) -> Self {
        Self { signal }
    }

    /// Wakes the consumer if it wants to be woken. The head was stored before.
    // Out of line, as its fence is off the producer's path, which is to have no locked instruction.
    #[cold]
    #[inline(never)]
    pub(crate) fn ring(&self, header: &HeaderWords) {
        let Some(signal) = &self.signal else { return };
        fence_at!(Site::WakeFence);
        if header.need_wake().load(Site::NeedWake.order()) != 0 {
            header.need_wake().store(0, Site::NeedWake.order());
            signal.notify();
        }
    }

    /// Wakes whoever sleeps, armed or not.
    #[cold]
    pub(crate) fn ring_always(&self) {
        if let Some(signal) = &self.signal {
            signal.notify();
        }
    }
}

#[cfg(not(perfring_loom))]
mod imp {
    use super::super::sys;
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::Arc;

    /// What is rung: a non-blocking eventfd, or, between processes, a pair of sockets. Whether an eventfd blocks is up to
    /// whoever has it, so a hostile reader could stop a producer in it; a socket can be told with each call.
    #[derive(Clone, Debug)]
    pub(crate) enum Signal {
        Eventfd(Arc<File>),
        Socket(Arc<OwnedFd>),
    }

    impl Signal {
        /// For both sides in one process.
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self::Eventfd(Arc::new(File::from(sys::eventfd()?))))
        }

        /// The producers' side, and the descriptor of the consumer's.
        pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
            let (ours, theirs) = sys::socket_pair()?;
            Ok((Self::Socket(Arc::new(ours)), theirs))
        }

        /// The consumer's side of a pair.
        pub(crate) fn from_fd(fd: OwnedFd) -> Self {
            Self::Socket(Arc::new(fd))
        }

        /// Makes the consumer's descriptor readable. `errno` is as before: a tracer's probe may sit between a call and its
        /// `errno`.
        pub(crate) fn notify(&self) {
            sys::preserving_errno(|| match self {
                Self::Eventfd(file) => {
                    // EAGAIN: the counter is at its limit, so the descriptor is readable already.
                    let _ = (&**file).write(&1u64.to_ne_bytes());
                }
                Self::Socket(socket) => sys::send_now(socket.as_fd()),
            });
        }

        /// Makes the descriptor not readable.
        pub(crate) fn clear(&self) {
            match self {
                Self::Eventfd(file) => {
                    // EAGAIN: it was not readable.
                    let _ = (&**file).read(&mut [0; 8]);
                }
                // A bound, should a hostile producer ring all the time.
                Self::Socket(socket) => while_bounded(|| sys::receive_now(socket.as_fd())),
            }
        }
    }

    fn while_bounded(mut again: impl FnMut() -> bool) {
        for _ in 0..1024 {
            if !again() {
                return;
            }
        }
    }

    impl AsFd for Signal {
        fn as_fd(&self) -> BorrowedFd<'_> {
            match self {
                Self::Eventfd(file) => file.as_fd(),
                Self::Socket(socket) => socket.as_fd(),
            }
        }
    }
}

#[cfg(perfring_loom)]
mod imp {
    use std::sync::Arc;

    /// loom's notification in the place of an eventfd.
    #[derive(Clone)]
    pub(crate) struct Signal {
        notify: Arc<loom::sync::Notify>,
    }

    impl Signal {
        pub(crate) fn new() -> std::io::Result<Self> {
            Ok(Self { notify: Arc::new(loom::sync::Notify::new()) })
        }

        pub(crate) fn notify(&self) {
            self.notify.notify();
        }

        pub(crate) fn wait(&self) {
            self.notify.wait();
        }
    }
}

pub(crate) use imp::Signal;
