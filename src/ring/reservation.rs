//! What `begin_*` hands out: a record that is being written.

use super::layout::{HEADER_SIZE, RecordHeader};
use super::memory::Span;
use std::mem::ManuallyDrop;
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

    /// The record at `position`, of `size` bytes, is written up to `used` bytes and closed there; what follows is padding.
    #[doc(hidden)]
    fn close(&self, claim: Self::Claim, rest: Rest<'_, '_>);
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// A record that is closed: its span, how much of it is used, and where it lies.
#[doc(hidden)]
pub struct Rest<'s, 'a> {
    pub(crate) span: &'s mut Span<'a>,
    pub(crate) position: u64,
    pub(crate) size: usize,
    pub(crate) used: usize,
}

impl Rest<'_, '_> {
    /// Turns what is not used into a padding record.
    #[cold]
    pub(crate) fn pad(&mut self) {
        let rest = self.size - self.used;
        self.span.zero(self.used, rest);
        self.span.header(self.used, RecordHeader { type_: super::RECORD_PADDING, misc: 0, size: rest as u16 });
    }
}

pub(crate) struct Open<'a, P: Owner> {
    owner: &'a P,
    claim: P::Claim,
    span: Span<'a>,
    position: u64,
    size: usize,
    /// Bytes written from the start on: those behind hold what an earlier record left.
    filled: usize,
}

impl<'a, P: Owner> Open<'a, P> {
    #[inline(always)]
    pub(crate) fn new(owner: &'a P, claim: P::Claim, span: Span<'a>, position: u64, size: usize) -> Self {
        Self { owner, claim, span, position, size, filled: HEADER_SIZE }
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.span.put(self.filled, bytes);
        self.filled += bytes.len();
    }

    #[cfg(not(perfring_loom))]
    #[inline(always)]
    fn slices(&mut self) -> (&mut [u8], &mut [u8]) {
        if self.filled < self.size {
            self.span.zero(self.filled, self.size - self.filled);
            self.filled = self.size;
        }
        self.span.slices(HEADER_SIZE)
    }

    #[inline(always)]
    fn commit(self, used: usize, type_: u32, misc: u16) {
        let mut this = ManuallyDrop::new(self);
        if this.filled < used {
            let (filled, unfilled) = (this.filled, used - this.filled);
            this.span.zero(filled, unfilled);
        }
        this.span.header(0, RecordHeader { type_, misc, size: used as u16 });
        this.close(used);
    }

    #[inline(always)]
    fn close(&mut self, used: usize) {
        let Self { owner, claim, span, position, size, .. } = self;
        owner.close(*claim, Rest { span, position: *position, size: *size, used });
    }
}

impl<P: Owner> Drop for Open<'_, P> {
    fn drop(&mut self) {
        self.close(0);
    }
}

macro_rules! common {
    () => {
        /// Bytes reserved, the header's 8 included.
        pub fn size(&self) -> usize {
            self.open.size
        }

        /// The free-running position of the record in the ring.
        pub fn position(&self) -> u64 {
            self.open.position
        }

        /// Bytes of the body that were neither written nor lent yet.
        pub fn remaining(&self) -> usize {
            self.open.size - self.open.filled
        }

        /// Stores `bytes` behind what was stored so far, straight into the ring.
        ///
        /// # Panics
        /// When there are more of them than [`remaining`](Self::remaining), as `copy_from_slice` does.
        #[inline]
        pub fn put(&mut self, bytes: &[u8]) {
            self.open.put(bytes);
        }

        /// Closes the record with this type and these misc bits. It becomes visible as soon as everything that was
        /// reserved before it is closed. Bytes of the body that were never written are zero.
        #[inline]
        pub fn commit(self, type_: u32, misc: u16) {
            let size = self.open.size;
            self.open.commit(size, type_, misc);
        }

        /// Closes the record as one of `size` bytes, header included; the rest of the reservation is given back, or
        /// becomes padding.
        ///
        /// # Errors
        /// [`CommitLenError`] when `size` is not a multiple of 8 from 8 to what was reserved. The record is then discarded.
        #[inline]
        pub fn commit_len(self, size: usize, type_: u32, misc: u16) -> Result<(), CommitLenError> {
            let reserved = self.open.size;
            if size < HEADER_SIZE || size > reserved || !size.is_multiple_of(8) {
                return Err(CommitLenError { size, reserved });
            }
            self.open.commit(size, type_, misc);
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
