//! The producer of rings that overwrite their oldest records.

use super::error::BeginError;
use super::layout::{HEADER_SIZE, RECORD_OPEN, RecordHeader, before};
use super::lost::{Losses, LostRecord};
use super::memory::{Memory, Words};
use super::order::Site;
use super::producer::{Equipment, Plan, Watermark, bad_size, most};
use super::{CommitLenError, Mode, OpenReservation, Padding, RECORD_PADDING};
use crate::sync::fence_at;
use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// The one producer of a ring that overwrites, for one thread at a time.
///
/// It never waits for a reader: the newest records stay. What is open is never lapped: reaching it is
/// [`BeginError::Full`]. The data are relaxed atomic words, because a reader may look at them at any time, so a record is
/// written by [`put`](OverwriteReservation::put) and not through a slice.
///
/// ```
/// use perfring::ring::{Mode, Ring};
///
/// let ring = Ring::confined(4).mode(Mode::OverwriteForward).private()?;
/// let (producer, mut consumer) = (ring.overwrite_producer()?, ring.consumer()?);
/// for i in 0..1000u64 {
///     let mut record = producer.begin_forward_in_page(64)?;
///     record.put(&i.to_ne_bytes());
///     record.commit(9, 0);
/// }
/// let mut last = 0;
/// consumer.for_each(|record| last = u64::from_ne_bytes(record.body()[..8].try_into().unwrap()))?;
/// assert_eq!(last, 999);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OverwriteProducer {
    memory: Arc<Memory>,
    equipment: Equipment,
    watermark: Watermark,
    /// The end of what is reserved, which in a backward ring is its lowest position.
    head: Cell<u64>,
    /// What `data_head` holds.
    published: Cell<u64>,
    /// What `reserved` in the header page holds: never moved back.
    reserved: Cell<u64>,
    open: Cell<u64>,
    losses: Losses,
}

impl OverwriteProducer {
    pub(crate) fn new(memory: Arc<Memory>, equipment: Equipment, head: u64, reserved: u64, lost_total: u64) -> Self {
        let watermark = Watermark::new(equipment.wake);
        Self {
            memory,
            equipment,
            watermark,
            head: Cell::new(head),
            published: Cell::new(head),
            reserved: Cell::new(reserved),
            open: Cell::new(0),
            losses: Losses::new(lost_total),
        }
    }

    fn backward(&self) -> bool {
        self.memory.mode() == Mode::OverwriteBackward
    }

    fn words(&self) -> Words<'_> {
        match self.memory.words() {
            Some(words) => words,
            None => unreachable!("Ring::overwrite_producer refuses lossless rings"),
        }
    }

    /// Reserves a record of `size` bytes, header included, behind the newest one, not crossing the end of a granule.
    ///
    /// # Errors
    /// [`BeginError`]: sizes that can never be reserved, [`Direction`](BeginError::Direction) on a backward ring;
    /// [`Full`](BeginError::Full) when it would lap an open reservation, and [`Paused`](BeginError::Paused) (both counted
    /// as lost); a forked process.
    pub fn begin_forward_in_page(&self, size: usize) -> Result<OverwriteReservation<'_>, BeginError> {
        if self.backward() {
            return Err(BeginError::Direction { mode: self.memory.mode() });
        }
        self.check_size(size, true)?;
        // Before anything is looked at: a clock is foreign code, which may come back here.
        let now = self.lost_to_report().and_then(LostRecord::now);
        let plan = self.plan(size, true)?;
        let start = self.head.get();
        let end = start.wrapping_add(plan.total);
        self.post(end, before(self.reserved.get(), end));
        let mut at = start;
        if let (Some(lost), Some(lost_at)) = (self.lost_to_report(), plan.lost) {
            at = self.fill_gap(at, start.wrapping_add(lost_at));
            self.write_lost(lost, now, at);
            at = at.wrapping_add(lost.size() as u64);
        }
        let position = self.fill_gap(at, start.wrapping_add(plan.record));
        self.head.set(end);
        Ok(self.reservation(position, size))
    }

    /// Reserves a record of `size` bytes, header included, in front of the newest one.
    ///
    /// # Errors
    /// As [`begin_forward_in_page`](Self::begin_forward_in_page), with [`Direction`](BeginError::Direction) on a forward ring.
    pub fn begin_backward(&self, size: usize) -> Result<OverwriteReservation<'_>, BeginError> {
        if !self.backward() {
            return Err(BeginError::Direction { mode: self.memory.mode() });
        }
        self.check_size(size, false)?;
        let now = self.lost_to_report().and_then(LostRecord::now);
        let plan = self.plan(size, false)?;
        let start = self.head.get();
        let end = start.wrapping_sub(plan.total);
        self.post(end, before(end, self.reserved.get()));
        if let (Some(lost), Some(_)) = (self.lost_to_report(), plan.lost) {
            self.write_lost(lost, now, start.wrapping_sub(lost.size() as u64));
        }
        self.head.set(end);
        Ok(self.reservation(end, size))
    }

    fn check_size(&self, size: usize, in_page: bool) -> Result<(), BeginError> {
        if size.wrapping_sub(1) >= most(&self.memory, in_page) || !size.is_multiple_of(8) {
            return Err(bad_size(&self.memory, size, in_page));
        }
        Ok(())
    }

    fn plan(&self, size: usize, in_page: bool) -> Result<Plan, BeginError> {
        if !self.equipment.guard.alive() {
            return Err(BeginError::Forked);
        }
        if self.memory.header().paused().load(Site::Paused.order()) != 0 {
            self.count_lost();
            return Err(BeginError::Paused);
        }
        let geometry = self.memory.geometry();
        let (head, published) = (self.head.get(), self.published.get());
        let plan = Plan::new(&geometry, head, size as u64, in_page, self.lost_to_report());
        let taken = if self.backward() { published.wrapping_sub(head) } else { head.wrapping_sub(published) };
        let free = geometry.capacity().saturating_sub(taken);
        if plan.total > free {
            self.count_lost();
            return Err(BeginError::Full { needed: plan.total, free });
        }
        Ok(plan)
    }

    /// Says how far bytes are given up before the first of them is overwritten.
    fn post(&self, end: u64, further: bool) {
        if further {
            self.memory.header().reserved().store(end, Site::ReservedStore.order());
            fence_at!(Site::ReservedFence);
            self.reserved.set(end);
        }
    }

    fn reservation(&self, position: u64, size: usize) -> OverwriteReservation<'_> {
        self.open.set(self.open.get() + 1);
        let header = RecordHeader { type_: RECORD_OPEN, misc: 0, size: size as u16 };
        self.words().store(position, header.to_word());
        OverwriteReservation { producer: self, position, size, filled: HEADER_SIZE, partial: [0; 8] }
    }

    fn zero(&self, from: u64, to: u64) {
        let mut at = from;
        while at != to {
            self.words().store(at, 0);
            at = at.wrapping_add(8);
        }
    }

    fn fill_gap(&self, from: u64, to: u64) -> u64 {
        if from != to {
            self.zero(from, to);
            if self.equipment.padding == Padding::Header {
                self.pad(from, to);
            }
        }
        to
    }

    /// Makes a padding record of the bytes between two positions.
    fn pad(&self, from: u64, to: u64) {
        self.zero(from, to);
        let size = to.wrapping_sub(from) as u16;
        self.words().store(from, RecordHeader { type_: RECORD_PADDING, misc: 0, size }.to_word());
    }

    fn lost_to_report(&self) -> Option<&LostRecord> {
        self.losses.to_report(&self.equipment.lost)
    }

    fn write_lost(&self, lost: &LostRecord, now: Option<u64>, position: u64) {
        let mut record = vec![0; lost.size()];
        lost.fill(self.losses.take(), now, |at, bytes| record[at..at + bytes.len()].copy_from_slice(bytes));
        let mut at = position;
        for word in record.as_chunks::<8>().0 {
            self.words().store(at, u64::from_ne_bytes(*word));
            at = at.wrapping_add(8);
        }
    }

    fn count_lost(&self) {
        self.losses.count(self.equipment.lost.is_some(), self.memory.header());
    }

    /// Closes the record at `position`: `used` bytes of `size` are a record, or none where it is discarded.
    fn close(&self, position: u64, size: usize, used: usize) {
        let end = position.wrapping_add(size as u64);
        let used_end = position.wrapping_add(used as u64);
        if used != size {
            if !self.backward() && end == self.head.get() {
                self.head.set(used_end);
            } else if self.backward() && used == 0 && position == self.head.get() {
                self.head.set(end);
            } else {
                self.pad(used_end, end);
            }
        }
        let open = self.open.get() - 1;
        self.open.set(open);
        let head = if open == 0 { self.head.get() } else { self.closed_head() };
        let published = self.published.get();
        if head == published || !self.equipment.guard.alive() {
            return;
        }
        self.memory.header().data_head().store(head, Site::HeadStore.order());
        self.published.set(head);
        let bytes = if self.backward() { published.wrapping_sub(head) } else { head.wrapping_sub(published) };
        if self.watermark.crossed(bytes) {
            self.equipment.bell.ring(self.memory.header());
        }
    }

    /// The head up to which everything is closed: where the oldest open reservation starts, in the ring's direction.
    fn closed_head(&self) -> u64 {
        let mut open = self.open_records();
        if self.backward() {
            let oldest = open.last();
            oldest.map_or(self.head.get(), |(position, size)| position.wrapping_add(size as u64))
        } else {
            open.next().map_or(self.head.get(), |(position, _)| position)
        }
    }

    /// Wakes the consumer if it sleeps, whatever the watermark says.
    pub fn flush(&self) {
        self.equipment.flush(self.memory.header());
    }

    /// Records that could not be written since the ring was made; those that were written and overwritten are not among them.
    pub fn lost_total(&self) -> u64 {
        self.losses.total()
    }

    /// Records lost that are still to be reported by a record; 0 where the ring reports none.
    pub fn lost_pending(&self) -> u64 {
        self.losses.pending()
    }

    /// The reservations that are open now, in the order of their positions.
    pub fn open_reservations(&self) -> Vec<OpenReservation> {
        self.open_records().map(|(position, size)| OpenReservation { position, size }).collect()
    }

    /// Position and size of the reservations that are open now, in the order of their positions.
    fn open_records(&self) -> impl Iterator<Item = (u64, usize)> {
        let (published, head) = (self.published.get(), self.head.get());
        let (mut next, end) = if self.backward() { (head, published) } else { (published, head) };
        std::iter::from_fn(move || {
            while next != end {
                let position = next;
                let header = RecordHeader::from_word(self.words().load(position));
                next = match header.size {
                    0 => self.memory.geometry().next_granule(position),
                    size => position.wrapping_add(u64::from(size)),
                };
                if header.type_ == RECORD_OPEN {
                    return Some((position, usize::from(header.size)));
                }
            }
            None
        })
    }
}

impl Drop for OverwriteProducer {
    fn drop(&mut self) {
        self.equipment.leave(self.memory.header());
    }
}

impl fmt::Debug for OverwriteProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverwriteProducer")
            .field("head", &self.head.get())
            .field("published", &self.published.get())
            .field("open", &self.open.get())
            .field("lost_total", &self.losses.total())
            .finish_non_exhaustive()
    }
}

/// A reserved record of a ring that overwrites.
///
/// Committed by [`commit`](Self::commit); dropping it discards it; a leaked one keeps everything after it from being
/// published.
#[must_use = "dropping a reservation discards it"]
pub struct OverwriteReservation<'a> {
    producer: &'a OverwriteProducer,
    position: u64,
    size: usize,
    filled: usize,
    /// The bytes of the word that `filled` stands in, up to there; zero behind.
    partial: [u8; 8],
}

impl OverwriteReservation<'_> {
    /// Bytes reserved, the header's 8 included.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The free-running position of the record in the ring.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the body that were not written yet.
    pub fn remaining(&self) -> usize {
        self.size - self.filled
    }

    fn store(&self, at: usize, word: [u8; 8]) {
        self.producer.words().store(self.position.wrapping_add(at as u64), u64::from_ne_bytes(word));
    }

    /// Stores `bytes` behind what was stored so far.
    ///
    /// # Panics
    /// When there are more of them than [`remaining`](Self::remaining), as `copy_from_slice` does.
    pub fn put(&mut self, mut bytes: &[u8]) {
        assert!(bytes.len() <= self.remaining(), "{} bytes for a rest of {}", bytes.len(), self.remaining());
        while !bytes.is_empty() {
            let within = self.filled % 8;
            let (now, later) = bytes.split_at((8 - within).min(bytes.len()));
            self.partial[within..within + now.len()].copy_from_slice(now);
            self.filled += now.len();
            if self.filled.is_multiple_of(8) {
                self.store(self.filled - 8, self.partial);
                self.partial = [0; 8];
            }
            bytes = later;
        }
    }

    /// Closes the record with this type and these misc bits. Bytes of the body that were never written are zero.
    pub fn commit(self, type_: u32, misc: u16) {
        let size = self.size;
        self.finish(size, type_, misc);
    }

    /// Closes the record as one of `size` bytes, header included.
    ///
    /// # Errors
    /// [`CommitLenError`] when `size` is not a multiple of 8 from 8 to what was reserved. The record is then discarded.
    pub fn commit_len(self, size: usize, type_: u32, misc: u16) -> Result<(), CommitLenError> {
        let reserved = self.size;
        if size < HEADER_SIZE || size > reserved || !size.is_multiple_of(8) {
            return Err(CommitLenError { size, reserved });
        }
        self.finish(size, type_, misc);
        Ok(())
    }

    /// Gives the reservation up, as dropping it does.
    pub fn discard(self) {}

    fn finish(self, used: usize, type_: u32, misc: u16) {
        let this = ManuallyDrop::new(self);
        if this.filled < used {
            // The word that was begun, with zeros behind, and the words that were not.
            let word = this.filled - this.filled % 8;
            this.store(word, this.partial);
            let from = this.position.wrapping_add(word as u64 + 8);
            this.producer.zero(from, this.position.wrapping_add(used as u64));
        }
        this.store(0, RecordHeader { type_, misc, size: used as u16 }.to_bytes());
        this.producer.close(this.position, this.size, used);
    }
}

impl Drop for OverwriteReservation<'_> {
    fn drop(&mut self) {
        self.producer.close(self.position, self.size, 0);
    }
}

impl fmt::Debug for OverwriteReservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverwriteReservation")
            .field("position", &self.position)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
