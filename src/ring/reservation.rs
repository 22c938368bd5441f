//! What `begin_*` hands out: a record that is being written.

use super::layout::{HEADER_SIZE, RecordHeader};
use super::memory::Span;
use std::fmt;
use thiserror::Error;

/// Why a record could not be committed shorter; it was discarded.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{size} bytes committed of a reservation of {reserved}: not a multiple of 8 from 8 to that")]
pub struct CommitLenError {
    /// Bytes that were to be committed.
    pub size: usize,
    /// Bytes that were reserved.
    pub reserved: usize,
}

/// A producer that closes what it handed out. Implemented by the producers of this crate.
pub trait Owner: sealed::Sealed {
    /// What the producer remembers of a reservation.
    #[doc(hidden)]
    type Claim: Copy;

    /// Whether this is still the process that the producer belongs to. In a forked child nothing is closed: the reservation
    /// is the parent's.
    #[doc(hidden)]
    fn alive(&self) -> bool;

    /// The record of this claim is written, all of it.
    #[doc(hidden)]
    fn close(&self, claim: Self::Claim);

    /// The record of this claim is written up to `part.used` bytes, which may be 0; the rest is given up. Does nothing where
    /// the producer is not alive.
    #[doc(hidden)]
    fn close_part(&self, claim: Self::Claim, part: Part<'_>);
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// A record that is closed short: its span, where it lies, and how much of it is used.
#[doc(hidden)]
pub struct Part<'a> {
    pub(crate) span: Span<'a>,
    pub(crate) position: u64,
    pub(crate) used: usize,
}

impl Part<'_> {
    /// Turns what is not used into a padding record.
    pub(crate) fn pad(self) {
        let mut rest = self.span.split_off(self.used);
        let size = rest.len();
        rest.reborrow().zero(0, size);
        rest.header(RecordHeader { type_: super::RECORD_PADDING, misc: 0, size: size as u16 });
    }
}

/// What both kinds of reservation are. It is closed in place and then forgotten, and its span is passed on by value: a copy
/// of it, or a pointer into it, would cost more than all the rest.
pub(crate) struct Open<'a, P: Owner> {
    owner: &'a P,
    claim: P::Claim,
    span: Span<'a>,
    position: u64,
    /// Bytes written from the start on: those behind hold what an earlier record left.
    filled: usize,
}

impl<'a, P: Owner> Open<'a, P> {
    #[inline(always)]
    pub(crate) fn new(owner: &'a P, claim: P::Claim, span: Span<'a>, position: u64) -> Self {
        Self { owner, claim, span, position, filled: HEADER_SIZE }
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.span.put(self.filled, bytes);
        self.filled += bytes.len();
    }

    #[cfg(not(perfring_loom))]
    #[inline(always)]
    fn slices(&mut self) -> (&mut [u8], &mut [u8]) {
        let size = self.span.len();
        if self.filled < size {
            self.span.reborrow().zero(self.filled, size);
            self.filled = size;
        }
        self.span.slices(HEADER_SIZE, size - HEADER_SIZE)
    }

    /// Makes a record of the first `used` bytes. The caller closes the reservation.
    #[inline(always)]
    fn finish(&mut self, used: usize, type_: u32, misc: u16) {
        if self.filled < used {
            self.span.reborrow().zero(self.filled, used);
        }
        self.span.header(RecordHeader { type_, misc, size: used as u16 });
    }

    #[inline(always)]
    fn close_part(&mut self, used: usize) {
        self.owner.close_part(self.claim, Part { span: self.span.reborrow(), position: self.position, used });
    }
}

impl<P: Owner> Drop for Open<'_, P> {
    #[inline(always)]
    fn drop(&mut self) {
        self.close_part(0);
    }
}

impl<P: Owner> fmt::Debug for Open<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("position", &self.position)
            .field("size", &self.span.len())
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

macro_rules! common {
    () => {
        /// Bytes reserved, the header's 8 included.
        pub fn size(&self) -> usize {
            self.open.span.len()
        }

        /// The free-running position of the record in the ring.
        pub fn position(&self) -> u64 {
            self.open.position
        }

        /// Bytes of the body that were neither written nor lent yet.
        pub fn remaining(&self) -> usize {
            self.open.span.len() - self.open.filled
        }

        /// Stores `bytes` behind what was stored so far, straight into the ring.
        ///
        /// # Panics
        /// When there are more of them than [`remaining`](Self::remaining), as `copy_from_slice` does.
        #[inline(always)]
        pub fn put(&mut self, bytes: &[u8]) {
            self.open.put(bytes);
        }

        /// Closes the record with this type and these misc bits. ([`RECORD_PADDING`](super::RECORD_PADDING) and
        /// [`RECORD_OPEN`](super::RECORD_OPEN) are the ring's own: consumers skip the first and report the second.) It becomes visible as soon as everything that was
        /// reserved before it is closed. Bytes of the body that were never written are zero.
        #[inline(always)]
        pub fn commit(mut self, type_: u32, misc: u16) {
            let (owner, claim) = (self.open.owner, self.open.claim);
            let alive = owner.alive();
            if alive {
                self.open.finish(self.size(), type_, misc);
            }
            std::mem::forget(self);
            if alive {
                owner.close(claim);
            }
        }

        /// Closes the record as one of `size` bytes, header included; the rest of the reservation is given back, or
        /// becomes padding.
        ///
        /// # Errors
        /// [`CommitLenError`] when `size` is not a multiple of 8 from 8 to what was reserved. The record is then discarded.
        #[inline]
        pub fn commit_len(mut self, size: usize, type_: u32, misc: u16) -> Result<(), CommitLenError> {
            let reserved = self.size();
            if size < HEADER_SIZE || size > reserved || !size.is_multiple_of(8) {
                return Err(CommitLenError { size, reserved });
            }
            if self.open.owner.alive() {
                self.open.finish(size, type_, misc);
                match size {
                    _ if size == reserved => self.open.owner.close(self.open.claim),
                    _ => self.open.close_part(size),
                }
            }
            std::mem::forget(self);
            Ok(())
        }

        /// Gives the reservation up, as dropping it does.
        pub fn discard(self) {}
    };
}

/// A reserved record in one piece.
///
/// Committed by [`commit`](Self::commit); dropping it discards it. One that is leaked (`mem::forget`) keeps everything
/// reserved after it from being published.
#[derive(Debug)]
#[must_use = "dropping a reservation discards it"]
pub struct Reservation<'a, P: Owner> {
    pub(crate) open: Open<'a, P>,
}

impl<P: Owner> Reservation<'_, P> {
    common!();

    /// The record's body, to be written in place: the bytes in the ring. What was not [`put`](Self::put) before is zero.
    #[cfg(not(perfring_loom))]
    #[inline]
    pub fn body_mut(&mut self) -> &mut [u8] {
        self.open.slices().0
    }
}

/// A reserved record that may wrap at the end of the data area.
///
/// As [`Reservation`], but its body is two slices, of which the second is empty unless it wraps.
#[derive(Debug)]
#[must_use = "dropping a reservation discards it"]
pub struct SplitReservation<'a, P: Owner> {
    pub(crate) open: Open<'a, P>,
}

impl<P: Owner> SplitReservation<'_, P> {
    common!();

    /// The record's body, to be written in place: up to the end of the data area, and from its start on. What was not
    /// [`put`](Self::put) before is zero.
    #[cfg(not(perfring_loom))]
    #[inline]
    pub fn body_mut(&mut self) -> (&mut [u8], &mut [u8]) {
        self.open.slices()
    }
}
