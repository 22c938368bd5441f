//! Rings that tokio waits for.

#![allow(unsafe_code)]

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::task::Poll;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::kernel::{RingSet, SetError};
use crate::ring::{Consumer, Wait};

/// A descriptor of the same open file as `fd`, on the reactor.
fn watch(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = fd.try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` is open until it is dropped and its number never changes. The `AsyncFd` owns it, stands in a private
    // field, and is neither borrowed mutably nor taken apart, so the reactor deregisters the very descriptor that it registered.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(|error| error.into())
}

/// A ring's [`Consumer`] that waits without blocking its thread. Needs the feature `tokio`.
///
/// ```no_run
/// use perfring::kernel::{AsyncRing, EventBuilder, Software, Target};
/// use perfring::ring::Wait;
///
/// # async fn faults() -> Result<(), Box<dyn std::error::Error>> {
/// let mut event = EventBuilder::software(Software::PageFaults).sample_period(1).open(Target::Task { pid: 1234 })?;
/// let decoder = event.decoder()?;
/// let mut ring = AsyncRing::new(event.mmap(8)?)?;
/// loop {
///     let wait = ring.ready().await?;
///     let mut drain = ring.consumer_mut().drain();
///     while let Some(record) = drain.next() {
///         println!("{}", decoder.decode(record?.bytes())?);
///     }
///     if wait != Wait::Ready {
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct AsyncRing {
    consumer: Consumer,
    watched: AsyncFd<OwnedFd>,
    /// The process that writes the ring, if it can be told: it may end without ringing.
    process: Option<AsyncFd<OwnedFd>>,
}

impl AsyncRing {
    /// Gives the ring to the reactor of the runtime that runs this.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] for a ring without a descriptor to wait for (a file), otherwise what the reactor says.
    ///
    /// # Panics
    ///
    /// Outside of a runtime with I/O enabled, as all of tokio's I/O.
    pub fn new(consumer: Consumer) -> io::Result<Self> {
        let watched = watch(consumer.as_fd().ok_or(io::ErrorKind::Unsupported)?)?;
        let process = consumer.producer_fd().map(watch).transpose()?;
        Ok(Self { consumer, watched, process })
    }

    /// Waits until there is something to read, or nothing more will come.
    ///
    /// The kernel, or the producer, wakes at the ring's watermark: what is below it is found when this is called again. Dropping
    /// the future loses nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::wait`], and of the reactor.
    pub async fn ready(&mut self) -> io::Result<Wait> {
        loop {
            match self.consumer.wait(Some(Duration::ZERO))? {
                Wait::TimedOut => {}
                wait => return Ok(wait),
            }
            poll_fn(|context| {
                for fd in [Some(&self.watched), self.process.as_ref()].into_iter().flatten() {
                    if let Poll::Ready(guard) = fd.poll_read_ready(context) {
                        // Before the ring is looked at again: what comes from here on wakes again.
                        guard?.clear_ready();
                        return Poll::Ready(Ok::<_, io::Error>(()));
                    }
                }
                Poll::Pending
            })
            .await?;
        }
    }

    /// The consumer, to read what is there.
    pub fn consumer_mut(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    /// The consumer, taken from the reactor.
    pub fn into_consumer(self) -> Consumer {
        self.consumer
    }
}

/// A [`RingSet`] that waits without blocking its thread. Needs the feature `tokio`.
///
/// ```no_run
/// use perfring::kernel::{AsyncRingSet, EventBuilder, RingSet, Software};
/// use perfring::ring::Wait;
///
/// # async fn samples() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = EventBuilder::software(Software::CpuClock).sample_freq(99);
/// let mut set = AsyncRingSet::new(RingSet::builder().event(clock).open()?)?;
/// while set.ready().await? == Wait::Ready {
///     set.set_mut().for_each(|record| println!("{record:?}"));
/// }
/// # Ok(())
/// # }
/// ```
pub struct AsyncRingSet {
    set: RingSet,
    watched: AsyncFd<OwnedFd>,
}

impl AsyncRingSet {
    /// Gives the set to the reactor of the runtime that runs this.
    ///
    /// # Errors
    ///
    /// What the reactor says.
    ///
    /// # Panics
    ///
    /// Outside of a runtime with I/O and time enabled, as all of tokio's I/O.
    pub fn new(set: RingSet) -> io::Result<Self> {
        let watched = watch(set.as_fd())?;
        Ok(Self { set, watched })
    }

    /// Waits until there are records that [`RingSet::drain`] would give, or all rings have ended. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    ///
    /// Those of [`RingSet::wait`]; what the reactor says is a [`SetError::Epoll`].
    pub async fn ready(&mut self) -> Result<Wait, SetError> {
        loop {
            match self.set.wait(Some(Duration::ZERO))? {
                Wait::TimedOut => {}
                wait => return Ok(wait),
            }
            let look = self.set.next_look();
            if let Ok(guard) = tokio::time::timeout_at(look.into(), self.watched.readable()).await {
                // Before the rings are looked at again: what comes from here on wakes again.
                guard.map_err(SetError::Epoll)?.clear_ready();
            }
        }
    }

    /// The set, to read what is there.
    pub fn set_mut(&mut self) -> &mut RingSet {
        &mut self.set
    }

    /// The set, taken from the reactor.
    pub fn into_set(self) -> RingSet {
        self.set
    }
}
