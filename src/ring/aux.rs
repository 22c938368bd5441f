//! The AUX area of a perf event: a second ring, for the bytes of a hardware trace.
//!
//! It has no records: its content is what the positions in the header page, and the `PERF_RECORD_AUX` records of the
//! event's own ring, say it is. In a *lossless* area the bytes in `[aux_tail, aux_head)` are the consumer's, and are lent
//! in place. In one that *overwrites* they are nobody's: both sides use relaxed atomic words.
#![allow(unsafe_code)]

use super::SetupError;
#[cfg(not(perfring_loom))]
use super::error::AttachError;
use super::layout::before;
use super::memory::AuxMemory;
use super::order::Site;
use std::fmt;
use std::sync::Arc;

/// Why bytes of an AUX area cannot be had, or given back. Positions are free-running.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuxError {
    /// `aux_head` is further from what was given back than the area is long, or has gone back.
    #[error("aux_head {head:#x} is not in the AUX area of {size} bytes from {tail:#x} on")]
    Head {
        /// `aux_head` as it was found.
        head: u64,
        /// The position up to which bytes were given back.
        tail: u64,
        /// Bytes in the area.
        size: u64,
    },
    /// `aux_tail` is not in the area behind `aux_head`: nothing can be written until it is.
    #[error("aux_tail {tail:#x} is not in the AUX area of {size} bytes up to {head:#x}")]
    Tail {
        /// `aux_tail` as it was found.
        tail: u64,
        /// The position up to which bytes were written.
        head: u64,
        /// Bytes in the area.
        size: u64,
    },
    /// The bytes were given back before, so they may be overwritten.
    #[error("{len} bytes at {position:#x} of the AUX area: those before {tail:#x} were given back")]
    Released {
        /// Where they start.
        position: u64,
        /// Bytes asked for.
        len: u64,
        /// The position up to which bytes were given back.
        tail: u64,
    },
    /// The bytes have not been written yet.
    #[error("{len} bytes at {position:#x} of the AUX area: it is written up to {head:#x}")]
    BeyondHead {
        /// Where they start.
        position: u64,
        /// Bytes asked for.
        len: u64,
        /// `aux_head`.
        head: u64,
    },
    /// `aux_head` moved while the area was copied: the event is not switched off, and the copy may be torn.
    #[error("aux_head went from {before:#x} to {after:#x} during the copy: switch the event off first")]
    Moving {
        /// `aux_head` before the copy.
        before: u64,
        /// `aux_head` after it.
        after: u64,
    },
}

/// Reads a lossless AUX area: the bytes in `[aux_tail, aux_head)`, in place.
///
/// What was read must be given back, or the trace stops: by dropping what [`read`](Self::read) lends, or, where
/// `PERF_RECORD_AUX` records tell what belongs together, by [`span`](Self::span) and [`release_to`](Self::release_to).
///
/// ```
/// use perfring::ring::AuxRing;
///
/// let (mut producer, mut consumer) = AuxRing::new(1).lossless()?;
/// let written = producer.write(b"trace")?;
/// assert_eq!((written.aux_offset, written.aux_size, written.truncated), (0, 5, false));
///
/// // As a PERF_RECORD_AUX would name them.
/// assert_eq!(consumer.span(written.aux_offset, written.aux_size)?, (&b"trace"[..], &b""[..]));
///
/// let data = consumer.read()?;
/// assert_eq!(data.slices().0, b"trace");
/// drop(data);
/// assert_eq!(consumer.position(), 5);
/// assert!(consumer.read()?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AuxConsumer {
    memory: Arc<AuxMemory>,
    /// What `aux_tail` holds.
    tail: u64,
}

impl AuxConsumer {
    /// Reads the AUX area of a perf event through its two mappings.
    ///
    /// # Errors
    /// [`AttachError::AuxSize`] when the header page's `aux_size` is not that of `aux`, or no power of two of pages.
    ///
    /// # Safety
    /// `page` and `aux` are mappings of the same perf event, both writable: from offset 0, and from the `aux_offset` in
    /// `page` on. Nothing else accesses the AUX area or stores its `aux_tail`, and the header page is accessed otherwise only
    /// atomically.
    #[cfg(not(perfring_loom))]
    pub unsafe fn from_kernel(
        page: impl Into<Arc<memmap2::MmapRaw>>,
        aux: memmap2::MmapRaw,
    ) -> Result<Self, AttachError> {
        // SAFETY: the caller's contract.
        let memory = unsafe { kernel_memory(page.into(), aux, false) }?;
        let tail = memory.words().aux_tail().load(Site::AuxDescribe.order());
        Ok(Self { memory: Arc::new(memory), tail })
    }

    /// Bytes in the area.
    pub fn size(&self) -> u64 {
        self.memory.size()
    }

    /// The position up to which bytes were given back (`aux_tail`).
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// `aux_head`, checked.
    fn head(&self) -> Result<u64, AuxError> {
        let (tail, size) = (self.tail, self.memory.size());
        let head = self.memory.words().aux_head().load(Site::AuxHeadLoad.order());
        if head.wrapping_sub(tail) <= size { Ok(head) } else { Err(AuxError::Head { head, tail, size }) }
    }

    /// Everything that was written and not given back, up to the head at this moment. Dropping it gives all of it back.
    ///
    /// # Errors
    /// [`AuxError::Head`]
    pub fn read(&mut self) -> Result<AuxData<'_>, AuxError> {
        let head = self.head()?;
        Ok(AuxData { release: head, head, consumer: self })
    }

    /// The `aux_size` bytes from `aux_offset` on, which a `PERF_RECORD_AUX` names: those up to the end of the area, and
    /// those from its start on. They remain until they are given back.
    ///
    /// # Errors
    /// [`AuxError::Head`], [`AuxError::Released`], [`AuxError::BeyondHead`]
    pub fn span(&self, aux_offset: u64, aux_size: u64) -> Result<(&[u8], &[u8]), AuxError> {
        let (position, len, tail, head) = (aux_offset, aux_size, self.tail, self.head()?);
        let (at, there) = (position.wrapping_sub(tail), head.wrapping_sub(tail));
        if at > there && before(position, tail) {
            return Err(AuxError::Released { position, len, tail });
        }
        if at > there || len > there - at {
            return Err(AuxError::BeyondHead { position, len, head });
        }
        // SAFETY: [position, position + len) lies in [tail, head), at most the size apart (`head`): written, loaded with
        // acquire, and given back only through `&mut self`, when the slices are gone. The producer stays out of it:
        // the kernel of a lossless area as `AuxProducer` write only what `aux_tail` has given back.
        Ok(unsafe { self.memory.lend(position, len) })
    }

    /// Gives back everything before `position`. Nothing happens where that was done before.
    ///
    /// # Errors
    /// [`AuxError::Head`], and [`AuxError::BeyondHead`] for a position that has not been written yet.
    pub fn release_to(&mut self, position: u64) -> Result<(), AuxError> {
        let head = self.head()?;
        let (at, there) = (position.wrapping_sub(self.tail), head.wrapping_sub(self.tail));
        if at <= there {
            self.store_tail(position);
            Ok(())
        } else if before(position, self.tail) {
            Ok(())
        } else {
            Err(AuxError::BeyondHead { position, len: 0, head })
        }
    }

    fn store_tail(&mut self, tail: u64) {
        if tail != self.tail {
            self.tail = tail;
            self.memory.words().aux_tail().store(tail, Site::AuxTailStore.order());
        }
    }
}

/// The two mappings of a perf event as an AUX area.
///
/// # Safety
/// As for `kernel_aux`; and unless it `overwrites`, both are writable.
#[cfg(not(perfring_loom))]
unsafe fn kernel_memory(
    page: Arc<memmap2::MmapRaw>,
    aux: memmap2::MmapRaw,
    overwrites: bool,
) -> Result<AuxMemory, AttachError> {
    let mapped = aux.len() as u64;
    // SAFETY: the caller's contract.
    let parts = unsafe { super::memory::kernel_aux(page, aux) };
    let parts = parts.map_err(|aux_size| AttachError::AuxSize { aux_size, mapped })?;
    Ok(AuxMemory::new(parts, mapped, overwrites))
}

/// The bytes that [`AuxConsumer::read`] lends. Dropping it gives them all back.
pub struct AuxData<'c> {
    consumer: &'c mut AuxConsumer,
    head: u64,
    /// What is given back on drop.
    release: u64,
}

impl AuxData<'_> {
    /// The position of the first byte (`aux_tail`), which is free-running.
    pub fn position(&self) -> u64 {
        self.consumer.tail
    }

    /// Bytes there are, at most the size of the area.
    pub fn len(&self) -> u64 {
        self.head.wrapping_sub(self.consumer.tail)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes: those up to the end of the area, and those from its start on.
    pub fn slices(&self) -> (&[u8], &[u8]) {
        // SAFETY: [tail, head), at most the size apart (checked when this was made): written, loaded with acquire, and
        // given back only when this value, which the slices borrow, is dropped. The producer stays out of it, see `span`.
        unsafe { self.consumer.memory.lend(self.consumer.tail, self.len()) }
    }

    /// Gives back only the first `n` bytes, or all if there are fewer. The rest comes again with the next
    /// [`read`](AuxConsumer::read).
    pub fn release(mut self, n: u64) {
        self.release = self.consumer.tail.wrapping_add(n.min(self.len()));
    }
}

impl Drop for AuxData<'_> {
    fn drop(&mut self) {
        self.consumer.store_tail(self.release);
    }
}

/// What an AUX area that overwrites held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuxSnapshotInfo {
    /// `aux_head`. Some drivers count on for ever, others start again at 0 at the end of the area.
    pub head: u64,
    /// Bytes that were appended, oldest first: those before the head, and, if it has wrapped, before them those behind it.
    pub len: u64,
    /// Whether the area was written around its end, so that all of it holds data, and older data is gone.
    ///
    /// The kernel hands the area over zeroed. So it has wrapped when the head is beyond the area, or anything but zeros
    /// stands behind the head. (A trace that has wrapped and has nothing but zeros there looks as if it had not.)
    pub wrapped: bool,
}

/// Reads an AUX area that overwrites its oldest bytes (one that is mapped read-only), by copying it.
///
/// Nothing says where the driver is writing at the moment: switch the event off before taking a snapshot, as
/// perf_event_open(2) demands.
///
/// ```
/// use perfring::ring::AuxRing;
///
/// let (mut producer, snapshot) = AuxRing::new(1).overwriting()?;
/// producer.write(&[1; 4000])?;
/// producer.write(&[2; 100])?;
/// let mut bytes = Vec::new();
/// let info = snapshot.take(&mut bytes)?;
/// assert!(info.wrapped && info.len == snapshot.size());
/// assert!(bytes.ends_with(&[2; 100]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AuxSnapshot {
    memory: Arc<AuxMemory>,
}

impl AuxSnapshot {
    /// Reads the AUX area of a perf event through its two mappings.
    ///
    /// # Errors
    /// As for [`AuxConsumer::from_kernel`].
    ///
    /// # Safety
    /// `page` and `aux` are mappings of the same perf event: from offset 0, and from the `aux_offset` in `page` on. Nothing in
    /// this process writes the AUX area, or accesses it or the header page otherwise than atomically.
    #[cfg(not(perfring_loom))]
    pub unsafe fn from_kernel(
        page: impl Into<Arc<memmap2::MmapRaw>>,
        aux: memmap2::MmapRaw,
    ) -> Result<Self, AttachError> {
        // SAFETY: the caller's contract.
        let memory = unsafe { kernel_memory(page.into(), aux, true) }?;
        Ok(Self { memory: Arc::new(memory) })
    }

    /// Bytes in the area.
    pub fn size(&self) -> u64 {
        self.memory.size()
    }

    /// Appends what the area holds to `into`, oldest first, whole up to the head.
    ///
    /// # Errors
    /// [`AuxError::Moving`] when the head moved meanwhile; then nothing is appended. That it did not does not prove that
    /// nobody wrote.
    pub fn take(&self, into: &mut Vec<u8>) -> Result<AuxSnapshotInfo, AuxError> {
        let (size, start) = (self.memory.size(), into.len());
        let head = self.memory.words().aux_head().load(Site::AuxHeadLoad.order());
        let offset = head & (size - 1);
        self.memory.copy(offset, size - offset, into);
        let wrapped = head >= size || into[start..].iter().any(|byte| *byte != 0);
        if !wrapped {
            into.truncate(start);
        }
        self.memory.copy(0, offset, into);
        let after = self.memory.words().aux_head().load(Site::AuxHeadCheck.order());
        if after != head {
            into.truncate(start);
            return Err(AuxError::Moving { before: head, after });
        }
        Ok(AuxSnapshotInfo { head, len: (into.len() - start) as u64, wrapped })
    }
}

/// An AUX area in private memory, with a producer that does what the kernel does: for tests, and for replaying traces.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct AuxRing {
    pages: usize,
    start: u64,
}

impl AuxRing {
    /// An area of `pages` pages, a power of two.
    pub fn new(pages: usize) -> Self {
        Self { pages, start: 0 }
    }

    /// Positions start here instead of at 0.
    pub fn start_position(mut self, position: u64) -> Self {
        self.start = position;
        self
    }

    /// An area whose producer stops where bytes have not been given back.
    ///
    /// # Errors
    /// [`SetupError::PagesNotPowerOfTwo`], [`SetupError::TooManyPages`], [`SetupError::Io`]
    pub fn lossless(self) -> Result<(AuxProducer, AuxConsumer), SetupError> {
        let memory = Arc::new(self.memory(false)?);
        let producer = AuxProducer { memory: memory.clone(), head: self.start, overwrites: false };
        Ok((producer, AuxConsumer { memory, tail: self.start }))
    }

    /// An area whose producer overwrites the oldest bytes.
    ///
    /// # Errors
    /// As [`lossless`](Self::lossless).
    pub fn overwriting(self) -> Result<(AuxProducer, AuxSnapshot), SetupError> {
        let memory = Arc::new(self.memory(true)?);
        let producer = AuxProducer { memory: memory.clone(), head: self.start, overwrites: true };
        Ok((producer, AuxSnapshot { memory }))
    }

    #[cfg(not(perfring_loom))]
    fn memory(self, overwrites: bool) -> Result<AuxMemory, SetupError> {
        let pages = self.pages;
        if !pages.is_power_of_two() {
            return Err(SetupError::PagesNotPowerOfTwo { pages });
        }
        let size = pages.checked_mul(super::sys::page_size()).filter(|&size| isize::try_from(size).is_ok());
        let size = size.ok_or(SetupError::TooManyPages { pages })?;
        let parts = super::memory::private_aux(size, self.start)
            .map_err(|source| SetupError::Io { doing: "map an AUX area", source })?;
        Ok(AuxMemory::new(parts, size as u64, overwrites))
    }

    /// In loom's cells a page has 8 bytes.
    #[cfg(perfring_loom)]
    fn memory(self, overwrites: bool) -> Result<AuxMemory, SetupError> {
        use super::memory::{AuxWords, Backing, Data};
        let size = self.pages as u64 * 8;
        let geometry = super::layout::Geometry::new(size, 8, false).expect("a power of two");
        let parts = (AuxWords::model(self.start), Data::model(geometry, !overwrites), Backing);
        Ok(AuxMemory::new(parts, size, overwrites))
    }
}

/// What one [`AuxProducer::write`] put into the area: the fields of the `PERF_RECORD_AUX` that the kernel writes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuxWritten {
    /// The position of the first byte.
    pub aux_offset: u64,
    /// Bytes that were written.
    pub aux_size: u64,
    /// Not all of them found space (`PERF_AUX_FLAG_TRUNCATED`).
    pub truncated: bool,
}

/// Writes an [AUX area in private memory](AuxRing) as the kernel writes one of a device.
pub struct AuxProducer {
    memory: Arc<AuxMemory>,
    /// What `aux_head` holds.
    head: u64,
    overwrites: bool,
}

impl AuxProducer {
    /// Writes `bytes`, then moves `aux_head`. Where the area does not overwrite, it takes as many as there is space for;
    /// as in the kernel, one byte stays free.
    ///
    /// # Errors
    /// [`AuxError::Tail`] when `aux_tail` is not in the area; nothing is written then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<AuxWritten, AuxError> {
        let aux_offset = self.head;
        let written = if self.overwrites {
            // SAFETY: the area is private memory, and writable.
            unsafe { self.memory.overwrite(self.head, bytes) };
            bytes
        } else {
            let bytes = &bytes[..bytes.len().min(self.free()?)];
            // SAFETY: the area is private memory, and writable. The bytes from the head on are not more than what is free:
            // neither published, nor, as the tail was loaded with acquire, being read any more. This is the only producer.
            unsafe { self.memory.write(self.head, bytes) };
            bytes
        };
        let aux_size = written.len() as u64;
        if aux_size != 0 {
            self.head = self.head.wrapping_add(aux_size);
            self.memory.words().aux_head().store(self.head, Site::AuxHeadStore.order());
        }
        Ok(AuxWritten { aux_offset, aux_size, truncated: written.len() < bytes.len() })
    }

    /// Bytes that could be written now.
    ///
    /// # Errors
    /// [`AuxError::Tail`]
    pub fn free(&self) -> Result<usize, AuxError> {
        let (head, size) = (self.head, self.memory.size());
        if self.overwrites {
            return Ok(size as usize);
        }
        let tail = self.memory.words().aux_tail().load(Site::AuxTailLoad.order());
        let used = head.wrapping_sub(tail);
        if used >= size {
            return Err(AuxError::Tail { tail, head, size });
        }
        Ok((size - 1 - used) as usize)
    }

    /// The position of the next byte (`aux_head`).
    pub fn position(&self) -> u64 {
        self.head
    }
}

impl fmt::Debug for AuxConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuxConsumer").field("position", &self.tail).field("size", &self.size()).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuxData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuxData").field("position", &self.position()).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuxSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuxSnapshot").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuxProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuxProducer").field("position", &self.head).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(perfring_loom)))]
mod tests {
    use super::*;

    const SIZE: u64 = 4096;

    /// The producer's head, as a hostile one would store it.
    fn plant_head(memory: &AuxMemory, head: u64) {
        memory.words().aux_head().store(head, Site::AuxHeadStore.order());
    }

    #[test]
    fn a_head_out_of_the_area_is_an_error_with_the_positions() {
        let (_producer, mut consumer) = AuxRing::new(1).start_position(10).lossless().unwrap();
        let size = consumer.size();
        let heads = [11 + size, 9, 0, u64::MAX];
        for head in heads {
            plant_head(&consumer.memory, head);
            let error = AuxError::Head { head, tail: 10, size };
            assert_eq!(consumer.read().map(|data| data.len()), Err(error));
            assert_eq!(consumer.span(10, 0), Err(error));
            assert_eq!(consumer.release_to(10), Err(error));
            assert_eq!(consumer.position(), 10);
        }
        plant_head(&consumer.memory, 10 + size);
        assert_eq!(consumer.read().unwrap().len(), size);
    }

    #[test]
    fn a_tail_out_of_the_area_stops_the_producer() {
        let (mut producer, consumer) = AuxRing::new(1).lossless().unwrap();
        let size = consumer.size();
        for tail in [1, 0u64.wrapping_sub(size), 1 << 63] {
            consumer.memory.words().aux_tail().store(tail, Site::AuxTailStore.order());
            assert_eq!(producer.write(b"x"), Err(AuxError::Tail { tail, head: 0, size }));
        }
        consumer.memory.words().aux_tail().store(0u64.wrapping_sub(size - 1), Site::AuxTailStore.order());
        let full = AuxWritten { aux_offset: 0, aux_size: 0, truncated: true };
        assert_eq!(producer.write(b"x"), Ok(full));
    }

    #[test]
    fn spans_are_there_from_head_to_release() {
        let (mut producer, mut consumer) = AuxRing::new(1).start_position(0u64.wrapping_sub(4)).lossless().unwrap();
        let start = producer.position();
        producer.write(b"abcdefgh").unwrap();
        assert_eq!(consumer.span(start, 8), Ok((&b"abcd"[..], &b"efgh"[..])));
        assert_eq!(consumer.span(2, 2), Ok((&b"gh"[..], &b""[..])));
        assert_eq!(consumer.span(4, 0), Ok((&b""[..], &b""[..])));
        assert_eq!(consumer.span(2, 3), Err(AuxError::BeyondHead { position: 2, len: 3, head: 4 }));
        assert_eq!(consumer.span(2, u64::MAX), Err(AuxError::BeyondHead { position: 2, len: u64::MAX, head: 4 }));
        assert_eq!(consumer.span(5, 0), Err(AuxError::BeyondHead { position: 5, len: 0, head: 4 }));
        consumer.release_to(2).unwrap();
        consumer.release_to(start).unwrap();
        assert_eq!(consumer.position(), 2);
        assert_eq!(consumer.span(1, 1), Err(AuxError::Released { position: 1, len: 1, tail: 2 }));
        assert_eq!(consumer.release_to(5), Err(AuxError::BeyondHead { position: 5, len: 0, head: 4 }));
        consumer.read().unwrap().release(1);
        assert_eq!(consumer.position(), 3);
        consumer.read().unwrap().release(u64::MAX);
        assert_eq!(consumer.position(), 4);
    }

    #[test]
    fn a_snapshot_knows_what_was_never_written() {
        let (mut producer, snapshot) = AuxRing::new(1).overwriting().unwrap();
        let size = snapshot.size();
        let mut bytes = vec![9];
        let info = snapshot.take(&mut bytes).unwrap();
        assert_eq!((info, bytes.len()), (AuxSnapshotInfo { head: 0, len: 0, wrapped: false }, 1));
        producer.write(b"abc").unwrap();
        let info = snapshot.take(&mut bytes).unwrap();
        assert_eq!((info, &bytes[..]), (AuxSnapshotInfo { head: 3, len: 3, wrapped: false }, &b"\x09abc"[..]));
        // A driver whose head starts again at the end of the area.
        for _ in 0..size {
            producer.write(b"d").unwrap();
        }
        plant_head(&snapshot.memory, 3);
        bytes.clear();
        let info = snapshot.take(&mut bytes).unwrap();
        assert_eq!(info, AuxSnapshotInfo { head: 3, len: size, wrapped: true });
        assert!(bytes.iter().all(|byte| *byte == b'd'));
    }

    #[test]
    fn sizes_are_powers_of_two() {
        assert!(matches!(AuxRing::new(3).lossless(), Err(SetupError::PagesNotPowerOfTwo { pages: 3 })));
        assert!(matches!(AuxRing::new(0).overwriting(), Err(SetupError::PagesNotPowerOfTwo { pages: 0 })));
        assert!(matches!(AuxRing::new(1 << 62).lossless(), Err(SetupError::TooManyPages { .. })));
        assert!(AuxRing::new(1).lossless().unwrap().1.size() >= SIZE);
    }
}
