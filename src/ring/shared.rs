//! The producer for many threads and signal handlers, of lossless rings.
//!
//! A claim is one compare-exchange of `reserved`. Closing it advances `published` over it and over what others closed
//! behind it. Two that close at the same time must not each leave the other behind: who cannot advance stores its closed
//! claim in a slot, then does a read-modify-write of `published`. Read-modify-writes of one word are totally ordered, and
//! the later of two sees what the earlier did before: so whoever advances `published` up to a claim either sees its slot,
//! or comes before its owner's visit, and then the owner goes on from there itself. Nobody waits for anybody.
//!
//! Where only this process writes the header page, `published` is `data_head` itself; elsewhere it is private, so that a
//! hostile reader cannot set it, and `data_head` is raised after it by everybody who closes.
#![allow(unsafe_code)]

use super::error::BeginError;
use super::layout::{Geometry, RecordHeader, before};
use super::lost::LostRecord;
use super::memory::{Memory, Span};
use super::order::Site;
use super::producer::{Equipment, OpenReservation, Plan, bad_size, most};
use super::reservation::{Open, Owner, Part, Reservation, SplitReservation, sealed};
use super::wakeup::Wake;
use super::{Padding, RECORD_PADDING};
use crate::sync::{self, Arc, AtomicU64};
use crossbeam_utils::CachePadded;
use std::fmt;

/// A producer of a lossless ring that any number of threads and signal handlers use at once.
///
/// Cloning it is cheap; `&SharedProducer` can be used from many threads, too. It is lock-free: a thread that is stopped
/// in the middle of anything keeps nobody from reserving and closing, and a closed record is visible as soon as
/// everything reserved before it is closed. `begin_*` and the closing of a reservation are async-signal-safe (with a
/// clock in the [`LostRecord`](super::LostRecord) that is).
///
/// Threads share three contended words. Where they can have a ring each, a [`Producer`](super::Producer) per thread and a
/// [`merge`](crate::merge) on the other side is the fast way.
#[derive(Clone)]
pub struct SharedProducer {
    inner: Arc<Inner>,
}

struct Inner {
    memory: std::sync::Arc<Memory>,
    /// The largest record in page; the largest, or 0 where none may cross granules.
    most_in_page: usize,
    most: usize,
    equipment: Equipment,
    /// Where the next claim starts.
    reserved: CachePadded<AtomicU64>,
    /// Everything before it is closed: used where the header page is not ours alone.
    published: CachePadded<AtomicU64>,
    /// A word for every 8 bytes of the ring: the closed claim that starts there, see [`slot`]. Written only by who cannot
    /// publish at once.
    slots: Box<[AtomicU64]>,
    lost_pending: CachePadded<AtomicU64>,
    /// The count that no reader can change; the header page has one for them.
    lost_total: AtomicU64,
    /// Bytes or claims published, for the watermark.
    wake_count: AtomicU64,
}

/// A slot holds the lap of a closed claim (48 bits) and its length in words (16 bits, not 0).
mod slot {
    const LAP_SHIFT: u32 = 16;

    pub(super) fn encode(lap: u64, len: u64) -> u64 {
        (lap << LAP_SHIFT) | (len / 8)
    }

    /// The length of the claim, if it is of this lap.
    pub(super) fn len(slot: u64, lap: u64) -> Option<u64> {
        let words = slot & ((1 << LAP_SHIFT) - 1);
        (words != 0 && slot >> LAP_SHIFT == lap << LAP_SHIFT >> LAP_SHIFT).then_some(words * 8)
    }
}

/// The bytes that one compare-exchange of `reserved` got: gaps, lost record and record.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Claim {
    start: u64,
    len: u64,
}

impl SharedProducer {
    pub(crate) fn new(memory: std::sync::Arc<Memory>, equipment: Equipment, head: u64, lost_total: u64) -> Self {
        let words = memory.geometry().size() / 8;
        let inner = Inner {
            most_in_page: most(&memory, true),
            most: if memory.geometry().confined() { 0 } else { most(&memory, false) },
            memory,
            equipment,
            reserved: CachePadded::new(AtomicU64::new(head)),
            published: CachePadded::new(AtomicU64::new(head)),
            slots: (0..words).map(|_| AtomicU64::new(0)).collect(),
            lost_pending: CachePadded::new(AtomicU64::new(0)),
            lost_total: AtomicU64::new(lost_total),
            wake_count: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Reserves a record of `size` bytes, header included, that does not cross the end of a granule.
    ///
    /// # Errors
    /// As [`Producer::begin_forward_in_page`](super::Producer::begin_forward_in_page).
    #[inline]
    pub fn begin_forward_in_page(&self, size: usize) -> Result<Reservation<'_, Self>, BeginError> {
        let (claim, position) = self.begin(size, true)?;
        // SAFETY: as in `Inner::claim`; the record lies in one granule, and the area has a whole number of granules, so it
        // does not wrap.
        let span = unsafe { self.inner.memory.claim_run(position, size) };
        Ok(Reservation { open: Open::new(self, claim, span, position) })
    }

    /// Reserves a record of `size` bytes, header included, that may cross granules and wrap at the end of the ring.
    ///
    /// # Errors
    /// As [`Producer::begin_forward`](super::Producer::begin_forward).
    #[inline]
    pub fn begin_forward(&self, size: usize) -> Result<SplitReservation<'_, Self>, BeginError> {
        let (claim, position) = self.begin(size, false)?;
        Ok(SplitReservation { open: Open::new(self, claim, self.inner.claim(position, size), position) })
    }

    /// Claims a record of `size` bytes and writes what goes before it; gives the record's position, too.
    #[inline(always)]
    fn begin(&self, size: usize, in_page: bool) -> Result<(Claim, u64), BeginError> {
        let inner = &*self.inner;
        let most = if in_page { inner.most_in_page } else { inner.most };
        if size.wrapping_sub(1) >= most || !size.is_multiple_of(8) {
            return Err(bad_size(&inner.memory, size, in_page));
        }
        match inner.reserve_plain(size as u64, in_page) {
            Some(start) => Ok((Claim { start, len: size as u64 }, start)),
            None => inner.reserve_with(size as u64, in_page),
        }
    }

    /// The positions of the ring as they are now: `data_tail`, up to which records were read, and `data_head`, up to which
    /// they can be.
    pub fn positions(&self) -> (u64, u64) {
        let header = self.inner.memory.header();
        // The tail first: so it is not beyond the head.
        let tail = header.data_tail().load(Site::TailLoad.order());
        (tail, header.data_head().load(Site::HeadPeek.order()))
    }

    /// Wakes the consumer if it sleeps, whatever the watermark says.
    pub fn flush(&self) {
        self.inner.equipment.flush(self.inner.memory.header());
    }

    /// Records that could not be written since the ring was made: the authoritative count.
    pub fn lost_total(&self) -> u64 {
        self.inner.lost_total.load(Site::Lost.order())
    }

    /// Records lost that are still to be reported by a record; 0 where the ring reports none.
    pub fn lost_pending(&self) -> u64 {
        self.inner.lost_pending.load(Site::Lost.order())
    }

    /// Where reservations are open, oldest first, as far as can be told while others go on: when the ring does not move,
    /// the leaked one is the first. A range may be more than one of them, and starts with the gap before its record.
    pub fn open_reservations(&self) -> Vec<OpenReservation> {
        let inner = &*self.inner;
        let end = inner.reserved.load(Site::ReservedLoad.order());
        let mut position = inner.published().load(Site::PublishedLoad.order());
        let mut found: Vec<OpenReservation> = Vec::new();
        // Not more steps than there are words, should the ring move on meanwhile.
        for _ in 0..inner.slots.len() {
            if !before(position, end) {
                break;
            }
            let closed = slot::len(inner.slot(position).load(Site::SlotPeek.order()), inner.lap(position));
            let step = closed.unwrap_or(8);
            match (closed, found.last_mut()) {
                (Some(_), _) => {}
                (None, Some(last)) if last.position.wrapping_add(last.size as u64) == position => last.size += 8,
                (None, _) => found.push(OpenReservation { position, size: 8 }),
            }
            position = position.wrapping_add(step);
        }
        found
    }
}

impl Inner {
    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    #[inline(always)]
    fn published(&self) -> &AtomicU64 {
        if self.equipment.own_header { self.memory.header().data_head() } else { &self.published }
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> &AtomicU64 {
        &self.slots[self.geometry().offset(position) / 8]
    }

    #[inline(always)]
    fn lap(&self, position: u64) -> u64 {
        position >> self.geometry().size().trailing_zeros()
    }

    /// Claims `size` bytes for a record that nothing goes before. `None`: something does, or there is no room, or somebody
    /// else was faster.
    #[inline(always)]
    fn reserve_plain(&self, size: u64, in_page: bool) -> Option<u64> {
        let geometry = self.geometry();
        let (tail, published) = self.tail_and_published();
        let start = sync::peek(&self.reserved, Site::ReservedLoad.order());
        let plain = published.wrapping_sub(tail) <= geometry.size()
            && tail.is_multiple_of(8)
            && start.wrapping_sub(tail).wrapping_add(size) <= geometry.capacity()
            && !(in_page && geometry.gap(start, size) != 0)
            && self.lost_pending.load(Site::Lost.order()) == 0
            && self.equipment.guard.alive();
        (plain && self.claim_from(start, size)).then_some(start)
    }

    /// `data_tail` and `published`, in this order: `published` and `reserved` are then at least what they were when this
    /// tail was stored.
    #[inline(always)]
    fn tail_and_published(&self) -> (u64, u64) {
        let tail = self.memory.header().data_tail().load(Site::TailLoad.order());
        (tail, sync::peek(self.published(), Site::PublishedLoad.order()))
    }

    /// Claims `len` bytes from `start` on, if that is where the next claim starts.
    #[inline(always)]
    fn claim_from(&self, start: u64, len: u64) -> bool {
        let order = Site::ReservedLoad.order();
        self.reserved.compare_exchange(start, start.wrapping_add(len), order, order).is_ok()
    }

    /// Claims room for a record of `size` bytes and what goes before it, which it writes. Gives the record's position, too.
    #[cold]
    #[inline(never)]
    fn reserve_with(&self, size: u64, in_page: bool) -> Result<(Claim, u64), BeginError> {
        if !self.equipment.guard.alive() {
            return Err(BeginError::Forked);
        }
        // Before anything is taken: a clock is foreign code, which may come back here, or panic.
        let now = match self.lost_pending.load(Site::Lost.order()) {
            0 => None,
            _ => self.equipment.lost.as_ref().and_then(LostRecord::now),
        };
        let pending = self.take_pending();
        let lost = self.equipment.lost.as_ref().filter(|lost| pending != 0 && lost.has_clock() == now.is_some());
        let (claim, plan) = self.reserve(size, in_page, lost).inspect_err(|_| self.count_lost(pending))?;
        let mut at = claim.start;
        match (lost, plan.lost) {
            (Some(lost), Some(lost_at)) => {
                at = self.fill_gap(at, claim.start.wrapping_add(lost_at));
                let mut span = self.claim(at, lost.size());
                lost.fill(pending, now, |at, bytes| span.put(at, bytes));
                at = at.wrapping_add(lost.size() as u64);
            }
            _ if pending != 0 => self.put_back(pending),
            _ => {}
        }
        Ok((claim, self.fill_gap(at, claim.start.wrapping_add(plan.record))))
    }

    fn reserve(&self, size: u64, in_page: bool, lost: Option<&LostRecord>) -> Result<(Claim, Plan), BeginError> {
        // How often a tail that moves is looked at anew: a hostile reader could move it for ever.
        const LOOKS: usize = 1000;
        let geometry = self.geometry();
        let mut looks = 0;
        loop {
            let (tail, published) = self.tail_and_published();
            let refusal = if published.wrapping_sub(tail) > geometry.size() || !tail.is_multiple_of(8) {
                BeginError::CorruptTail { tail, head: published }
            } else {
                let start = sync::peek(&self.reserved, Site::ReservedLoad.order());
                let plan = Plan::new(&geometry, start, size, in_page, lost);
                let free = geometry.capacity().saturating_sub(start.wrapping_sub(tail));
                if plan.total <= free {
                    if self.claim_from(start, plan.total) {
                        return Ok((Claim { start, len: plan.total }, plan));
                    }
                    continue;
                }
                BeginError::Full { needed: plan.total, free }
            };
            // Others may have gone on for laps between the two loads. A tail that is the same before and behind `published`
            // was between it and a ring's size before it, if it is sound: so then the refusal is true.
            looks += 1;
            if looks == LOOKS || self.memory.header().data_tail().load(Site::TailLoad.order()) == tail {
                return Err(refusal);
            }
        }
    }

    /// The bytes from `position` on, part of a claim of the caller's that is still open.
    #[inline(always)]
    fn claim(&self, position: u64, len: usize) -> Span<'_> {
        // SAFETY: lossless: `Ring::shared_producer` refuses other modes. The bytes lie in a claim [start, start + total)
        // that one successful compare-exchange of `reserved` gave to this caller: claims do not overlap as positions, and
        // neither in the ring, since start + total <= tail + capacity, for a tail that is at most `published` and so
        // not beyond any claim that is open (nor beyond start: a start that is older than the tail is not what `reserved`
        // holds, and its compare-exchange fails). Callers split their claim into pieces that do not overlap: gap, lost record,
        // gap, record. The consumer has given them back, as the tail was loaded with acquire; it reads them again only when
        // `data_head` is beyond them, which needs `published` to be, which passes a claim only after its owner's `close`,
        // when no span of it is left.
        unsafe { self.memory.claim(position, len) }
    }

    /// Fills the gap from `from` to `to`, if there is one, and gives `to`.
    #[inline(always)]
    fn fill_gap(&self, from: u64, to: u64) -> u64 {
        if from != to {
            let gap = to.wrapping_sub(from) as usize;
            let mut span = self.claim(from, gap);
            span.reborrow().zero(0, gap);
            if self.equipment.padding == Padding::Header || !self.geometry().confined() {
                span.header(RecordHeader { type_: RECORD_PADDING, misc: 0, size: gap as u16 });
            }
        }
        to
    }

    /// Takes over the count of lost records to report it; put back where it is not reported.
    #[inline(always)]
    fn take_pending(&self) -> u64 {
        match self.lost_pending.load(Site::Lost.order()) {
            0 => 0,
            _ => self.lost_pending.swap(0, Site::Lost.order()),
        }
    }

    #[cold]
    fn put_back(&self, pending: u64) {
        self.lost_pending.fetch_add(pending, Site::Lost.order());
    }

    #[cold]
    fn count_lost(&self, pending: u64) {
        if self.equipment.lost.is_some() {
            self.put_back(pending + 1);
        }
        self.lost_total.fetch_add(1, Site::Lost.order());
        self.memory.header().lost_total().fetch_add(1, Site::Lost.order());
    }

    /// The length of the claim that starts at `position`, when it is closed.
    #[inline(always)]
    fn closed_len(&self, position: u64) -> Option<u64> {
        slot::len(self.slot(position).load(Site::SlotLoad.order()), self.lap(position))
    }

    /// Publishes `claim`, or leaves it to whoever closes what is before it.
    #[inline(always)]
    fn publish(&self, claim: Claim) {
        let published = self.published();
        let advance = |from: u64, len: u64| {
            let order = (Site::PublishedAdvance.order(), Site::PublishedBeaten.order());
            published.compare_exchange(from, from.wrapping_add(len), order.0, order.1)
        };
        let (mut bytes, mut claims) = (0, 0);
        let mut at = match advance(claim.start, claim.len) {
            Ok(_) => {
                (bytes, claims) = (claim.len, 1);
                claim.start.wrapping_add(claim.len)
            }
            Err(_) => {
                let closed = slot::encode(self.lap(claim.start), claim.len);
                self.slot(claim.start).store(closed, Site::SlotStore.order());
                published.fetch_add(0, Site::PublishedVisit.order())
            }
        };
        // Where nothing is claimed behind, nothing is closed there: a claim that was closed before this thread advanced, or
        // visited, `published` is seen in `reserved`, too; one that is closed later is its owner's to publish.
        while sync::peek(&self.reserved, Site::ReservedLoad.order()) != at
            && let Some(len) = self.closed_len(at)
        {
            at = match advance(at, len) {
                Ok(_) => {
                    (bytes, claims) = (bytes + len, claims + 1);
                    at.wrapping_add(len)
                }
                Err(now) => now,
            };
        }
        if !self.equipment.own_header {
            self.raise_head(at);
        }
        if claims != 0 && self.crossed(bytes, claims) {
            self.equipment.bell.ring(self.memory.header());
        }
    }

    /// Raises `data_head` to `to`, unless somebody has raised it further.
    fn raise_head(&self, to: u64) {
        let head = self.memory.header().data_head();
        let mut now = sync::peek(head, Site::HeadPeek.order());
        while before(now, to) {
            match head.compare_exchange(now, to, Site::HeadRaise.order(), Site::HeadPeek.order()) {
                Ok(_) => return,
                Err(current) => now = current,
            }
        }
    }

    /// Counts what this thread published; whether the watermark was crossed.
    #[inline(always)]
    fn crossed(&self, bytes: u64, claims: u64) -> bool {
        let (step, mark) = match self.equipment.wake {
            Wake::Never => return false,
            Wake::Bytes(mark) => (bytes, mark.max(1)),
            Wake::Events(mark) => (claims, mark.max(1)),
        };
        let before = self.wake_count.fetch_add(step, Site::WakeMark.order());
        before / mark != before.wrapping_add(step) / mark
    }
}

impl sealed::Sealed for SharedProducer {}

impl Owner for SharedProducer {
    type Claim = Claim;

    #[inline(always)]
    fn alive(&self) -> bool {
        self.inner.equipment.guard.alive()
    }

    #[inline(always)]
    fn close(&self, claim: Claim) {
        self.inner.publish(claim);
    }

    #[cold]
    #[inline(never)]
    fn close_part(&self, claim: Claim, part: Part<'_>) {
        if !self.alive() {
            return;
        }
        part.pad();
        self.close(claim);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.equipment.leave(self.memory.header());
    }
}

impl fmt::Debug for SharedProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedProducer")
            .field("reserved", &self.inner.reserved.load(Site::ReservedLoad.order()))
            .field("published", &self.inner.published().load(Site::PublishedLoad.order()))
            .field("lost_total", &self.lost_total())
            .finish_non_exhaustive()
    }
}
