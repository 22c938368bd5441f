//! The producer for one thread, of lossless rings.
#![allow(unsafe_code)]

use super::error::BeginError;
use super::layout::{Geometry, HEADER_SIZE, MAX_RECORD_SIZE, RECORD_OPEN, RecordHeader};
use super::lost::{Losses, LostRecord};
use super::memory::{ForkGuard, HeaderWords, Memory, Span};
use super::order::Site;
use super::reservation::{Open, Owner, Part, Reservation, SplitReservation, sealed};
use super::wakeup::{Bell, Wake};
use super::{Padding, RECORD_PADDING};
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

/// What a producer needs besides the memory.
pub(crate) struct Equipment {
    pub(crate) guard: ForkGuard,
    pub(crate) bell: Bell,
    pub(crate) wake: Wake,
    pub(crate) padding: Padding,
    pub(crate) lost: Option<LostRecord>,
    /// Nobody but this process can write the header page.
    pub(crate) own_header: bool,
}

impl Equipment {
    /// Wakes the consumer if it sleeps, whatever the watermark says.
    pub(crate) fn flush(&self, header: &HeaderWords) {
        if self.guard.alive() {
            self.bell.ring(header);
        }
    }

    /// The last producer leaves; in a forked child it is still with the parent.
    pub(crate) fn leave(&self, header: &HeaderWords) {
        if self.guard.alive() {
            header.closed().store(1, Site::ClosedStore.order());
            self.bell.ring_always();
        }
    }
}

/// The largest record that can be reserved in a page, or at all: a multiple of 8.
pub(crate) fn most(memory: &Memory, in_page: bool) -> usize {
    MAX_RECORD_SIZE.min(if in_page { room_in_page(memory) } else { memory.geometry().capacity() } as usize)
}

/// What a record in page and the gap before it can always have when the ring is empty. The gap is smaller than the record,
/// so that is a granule, but for a ring that is one granule only.
fn room_in_page(memory: &Memory) -> u64 {
    memory.geometry().granule().min(memory.geometry().size() / 2)
}

/// Whether any record can have `size` bytes; without a look at the ring, so that it costs nothing where `size` is known.
#[inline(always)]
fn can_be_a_size(size: usize) -> bool {
    size.wrapping_sub(HEADER_SIZE) <= MAX_RECORD_SIZE - HEADER_SIZE && size.is_multiple_of(8)
}

/// Why a record of `size` bytes can never be reserved.
#[cold]
pub(crate) fn bad_size(memory: &Memory, size: usize, in_page: bool) -> BeginError {
    let granule = memory.geometry().granule() as usize;
    let capacity = if in_page { room_in_page(memory) } else { memory.geometry().capacity() } as usize;
    match size {
        _ if !in_page && memory.geometry().confined() => BeginError::Confined,
        0 => BeginError::ZeroSize,
        _ if !size.is_multiple_of(8) => BeginError::Unaligned { size },
        _ if size > MAX_RECORD_SIZE => BeginError::TooLarge { size },
        _ if in_page && size > granule => BeginError::OverGranule { size, granule },
        _ => BeginError::OverRing { size, capacity },
    }
}

/// What has to be reserved for a record: gaps, and the lost record before it.
pub(crate) struct Plan {
    /// Where the lost record goes, from the start of the claim, when one goes with it.
    pub(crate) lost: Option<u64>,
    /// Where the record goes, from the start of the claim.
    pub(crate) record: u64,
    /// Bytes in all.
    pub(crate) total: u64,
}

impl Plan {
    /// For a record of `size` bytes at `head`, with `lost` to be reported before it. Both are confined each on its own.
    pub(crate) fn new(geometry: &Geometry, head: u64, size: u64, in_page: bool, lost: Option<&LostRecord>) -> Self {
        let gap = |at: u64, size, confine| {
            if confine { geometry.gap(head.wrapping_add(at), size) } else { 0 }
        };
        if let Some(lost) = lost {
            let lost_at = gap(0, lost.size() as u64, geometry.confined());
            let after = lost_at + lost.size() as u64;
            let record = after + gap(after, size, in_page);
            let total = record + size;
            if total <= geometry.capacity() {
                return Self { lost: Some(lost_at), record, total };
            }
            // The two can never be in the ring together: the count waits for a smaller record.
        }
        let record = gap(0, size, in_page);
        Self { lost: None, record, total: record + size }
    }
}

/// A reservation that has not been closed: it keeps everything behind it from being published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReservation {
    /// Where its record lies.
    pub position: u64,
    /// Bytes reserved, header included.
    pub size: usize,
}

/// Counts when to ring the bell.
pub(crate) struct Watermark {
    wake: Wake,
    left: Cell<u64>,
}

impl Watermark {
    pub(crate) fn new(wake: Wake) -> Self {
        let this = Self { wake, left: Cell::new(0) };
        this.reset();
        this
    }

    fn reset(&self) {
        self.left.set(match self.wake {
            Wake::Never => u64::MAX,
            Wake::Bytes(n) | Wake::Events(n) => n.max(1),
        });
    }

    /// Counts a publication of `bytes`; whether the watermark was crossed.
    #[inline(always)]
    pub(crate) fn crossed(&self, bytes: u64) -> bool {
        let step = match self.wake {
            Wake::Never => return false,
            Wake::Bytes(_) => bytes,
            Wake::Events(_) => 1,
        };
        let left = self.left.get();
        if step < left {
            self.left.set(left - step);
            return false;
        }
        self.reset();
        true
    }
}

/// The one producer of a lossless ring, for one thread at a time.
///
/// It has no locked instruction on its path. Reservations may be nested: while one is open, more can be opened and closed
/// in any order; what is closed is published as soon as everything reserved before it is closed, too.
///
/// It is `Send` and not `Sync`, and not for signal handlers: use [`SharedProducer`](super::SharedProducer) for both. In a
/// forked child it is dead: `begin_*` gives [`BeginError::Forked`], and what was open stays the parent's to close.
///
/// ```
/// use perfring::ring::Ring;
///
/// let ring = Ring::confined(8).private()?;
/// let (producer, mut consumer) = (ring.producer()?, ring.consumer()?);
/// let mut record = producer.begin_forward_in_page(48)?;
/// record.put(b"forty bytes of payload, written in place");
/// record.commit(9, 0);
/// let mut seen = 0;
/// consumer.for_each(|record| {
///     assert_eq!(record.header().type_, 9);
///     assert_eq!(record.body(), b"forty bytes of payload, written in place");
///     seen += 1;
/// })?;
/// assert_eq!(seen, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Two threads cannot use one:
///
/// ```compile_fail,E0277
/// # let ring = perfring::ring::Ring::confined(8).private().unwrap();
/// let producer = ring.producer().unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(|| producer.lost_total());
/// });
/// ```
///
/// and a reservation does not outlive it:
///
/// ```compile_fail,E0505
/// # let ring = perfring::ring::Ring::confined(8).private().unwrap();
/// let producer = ring.producer().unwrap();
/// let record = producer.begin_forward_in_page(16).unwrap();
/// drop(producer);
/// record.commit(9, 0);
/// ```
pub struct Producer {
    memory: Arc<Memory>,
    /// The largest record in page; the largest, or 0 where none may cross granules.
    most_in_page: usize,
    most: usize,
    equipment: Equipment,
    watermark: Watermark,
    /// Where the next reservation starts. `published <= head`, and equal when nothing is open.
    head: Cell<u64>,
    /// What `data_head` holds: kept here so that it is never loaded.
    published: Cell<u64>,
    /// `head <= limit <= data_tail + capacity`, for the newest sound `data_tail` that was looked at.
    limit: Cell<u64>,
    /// Where a record in page that starts at the head must end at the latest: the end of the head's granule, or `limit`.
    /// Where it is behind the head, or at it, that has to be found out.
    page_limit: Cell<u64>,
    /// The same for a record that may cross granules: the end of the data area, or `limit`; never beyond the head in a
    /// confined ring, which has no such records.
    run_limit: Cell<u64>,
    /// Reservations handed out and not closed.
    open: Cell<u64>,
    losses: Losses,
}

impl Producer {
    /// The ring's one producer, which goes on at `head`; everything before it is published.
    pub(crate) fn new(memory: Arc<Memory>, equipment: Equipment, head: u64, lost_total: u64) -> Self {
        let watermark = Watermark::new(equipment.wake);
        let geometry = memory.geometry();
        Self {
            most_in_page: most(&memory, true),
            most: if geometry.confined() { 0 } else { most(&memory, false) },
            memory,
            equipment,
            watermark,
            head: Cell::new(head),
            published: Cell::new(head),
            limit: Cell::new(head),
            page_limit: Cell::new(head),
            run_limit: Cell::new(head),
            open: Cell::new(0),
            losses: Losses::new(lost_total),
        }
    }

    /// Reserves a record of `size` bytes, header included, that does not cross the end of a granule: one contiguous piece.
    ///
    /// Where the rest of the granule is too small, it becomes a gap, and the record starts at the next granule.
    ///
    /// # Errors
    /// [`BeginError`]: sizes that can never be reserved, [`Full`](BeginError::Full) (counted as lost), a corrupt
    /// `data_tail` (counted as lost), a forked process.
    #[inline(always)]
    pub fn begin_forward_in_page(&self, size: usize) -> Result<Reservation<'_, Self>, BeginError> {
        if !can_be_a_size(size) {
            return Err(bad_size(&self.memory, size, true));
        }
        let fits = self.has_room(&self.page_limit, size);
        let position = if fits { self.head.get() } else { self.make_room(size, true)? };
        self.open_at(position, size);
        // SAFETY: as in `claim`; the record lies in one granule (`page_limit`, or `make_room`), and the area has a whole
        // number of granules, so it does not wrap.
        let span = unsafe { self.memory.claim_run(position, size) };
        Ok(Reservation { open: self.opened(span, position, size) })
    }

    /// Reserves a record of `size` bytes, header included, that may cross granules and wrap at the end of the ring.
    ///
    /// # Errors
    /// As [`begin_forward_in_page`](Self::begin_forward_in_page), and [`BeginError::Confined`] on a confined ring.
    #[inline(always)]
    pub fn begin_forward(&self, size: usize) -> Result<SplitReservation<'_, Self>, BeginError> {
        if !can_be_a_size(size) {
            return Err(bad_size(&self.memory, size, false));
        }
        let fits = self.has_room(&self.run_limit, size);
        let position = if fits { self.head.get() } else { self.make_room(size, false)? };
        self.open_at(position, size);
        let span = if fits {
            // SAFETY: as in `claim`; it ends before `run_limit`, so at the latest where the data area does.
            unsafe { self.memory.claim_run(position, size) }
        } else {
            self.claim(position, size)
        };
        Ok(SplitReservation { open: self.opened(span, position, size) })
    }

    /// Whether [`begin_forward_in_page`](Self::begin_forward_in_page) would find room for `size` bytes now. Unlike a
    /// reservation that finds none, asking loses nothing: this is how to wait for the consumer.
    ///
    /// # Errors
    /// As those of the reservation, but for [`Full`](BeginError::Full); nothing is counted.
    pub fn has_room_in_page(&self, size: usize) -> Result<bool, BeginError> {
        self.would_fit(size, true)
    }

    /// Whether [`begin_forward`](Self::begin_forward) would find room for `size` bytes now.
    ///
    /// # Errors
    /// As those of the reservation, but for [`Full`](BeginError::Full); nothing is counted.
    pub fn has_room_for(&self, size: usize) -> Result<bool, BeginError> {
        if self.memory.geometry().confined() {
            return Err(BeginError::Confined);
        }
        self.would_fit(size, false)
    }

    fn would_fit(&self, size: usize, in_page: bool) -> Result<bool, BeginError> {
        if !can_be_a_size(size) || size > if in_page { self.most_in_page } else { self.most } {
            return Err(bad_size(&self.memory, size, in_page));
        }
        if !self.equipment.guard.alive() {
            return Err(BeginError::Forked);
        }
        let plan = Plan::new(&self.memory.geometry(), self.head.get(), size as u64, in_page, self.lost_to_report());
        Ok(plan.total <= self.limit.get().wrapping_sub(self.head.get()) || plan.total <= self.look_at_tail()?)
    }

    /// Whether a record can be reserved at the head without further ado. A limit behind the head is no room; `size` is one
    /// that a record can have, so it stays positive.
    #[inline(always)]
    fn has_room(&self, limit: &Cell<u64>, size: usize) -> bool {
        size as i64 <= limit.get().wrapping_sub(self.head.get()) as i64 && self.equipment.guard.alive()
    }

    /// Moves the head otherwise than by a reservation that had room: the next one in page looks anew where its page ends.
    fn move_head(&self, head: u64) {
        self.head.set(head);
        self.look_anew();
    }

    /// Sends the next reservation through `make_room`.
    fn look_anew(&self) {
        self.page_limit.set(self.head.get());
        self.run_limit.set(self.head.get());
    }

    /// Counts a reservation of `size` bytes at `position`, where room was seen to.
    #[inline(always)]
    fn open_at(&self, position: u64, size: usize) {
        self.head.set(position.wrapping_add(size as u64));
        self.open.set(self.open.get() + 1);
    }

    #[inline(always)]
    fn opened<'a>(&'a self, mut span: Span<'a>, position: u64, size: usize) -> Open<'a, Self> {
        span.header(RecordHeader { type_: RECORD_OPEN, misc: 0, size: size as u16 });
        Open::new(self, Ticket(()), span, position)
    }

    /// The bytes from `position` on, which the caller has counted into `head`, or is about to.
    #[inline(always)]
    fn claim(&self, position: u64, size: usize) -> Span<'_> {
        // SAFETY: lossless: `Ring::producer` refuses other modes. Sizes and positions are multiples of 8. Nobody else has the
        // bytes: `Producer` is `!Sync` and the ring's only producer, and position..+size lies in head..limit (`page_limit`
        // and `run_limit` never exceed `limit`, and `make_room` sees to gaps and lost record, too), of which (1) the
        // consumer has given all back, as limit <= data_tail + capacity for a data_tail that was loaded with acquire and was
        // not beyond `published`; so, `published` only growing, all that is open lies in [published, head) and less than
        // the ring's size before limit; (2) nothing is claimed yet, as `head` is the end of all that is: a rewind lowers it
        // only over a reservation that is being closed. The consumer reads them only after `publish_to` stores a head
        // beyond them: that is the end of all that is reserved when nothing is open, else the start of the oldest record
        // that is marked open; gaps and lost records are written before their function returns.
        unsafe { self.memory.claim(position, size) }
    }

    /// Fills the gap before a record of `size` bytes, if it needs one, and gives the record's position.
    #[inline(always)]
    fn skip_gap(&self, size: u64, in_page: bool) -> u64 {
        let head = self.head.get();
        let gap = if in_page { self.memory.geometry().gap(head, size) } else { 0 };
        if gap != 0 {
            self.fill_gap(head, gap as usize);
        }
        head.wrapping_add(gap)
    }

    fn fill_gap(&self, position: u64, gap: usize) {
        let mut span = self.claim(position, gap);
        span.reborrow().zero(0, gap);
        if self.equipment.padding == Padding::Header || !self.memory.geometry().confined() {
            span.header(RecordHeader { type_: RECORD_PADDING, misc: 0, size: gap as u16 });
        }
    }

    /// Sees to it that a record of `size` bytes fits, with what goes before it: a lost record and gaps, which it writes.
    /// Gives the record's position.
    #[cold]
    #[inline(never)]
    fn make_room(&self, size: usize, in_page: bool) -> Result<u64, BeginError> {
        if size > if in_page { self.most_in_page } else { self.most } {
            return Err(bad_size(&self.memory, size, in_page));
        }
        let size = size as u64;
        if !self.equipment.guard.alive() {
            return Err(BeginError::Forked);
        }
        // Before anything is looked at: a clock is foreign code, which may come back here.
        let now = self.lost_to_report().and_then(LostRecord::now);
        let geometry = self.memory.geometry();
        let plan = Plan::new(&geometry, self.head.get(), size, in_page, self.lost_to_report());
        if plan.total > self.limit.get().wrapping_sub(self.head.get()) {
            let free = self.look_at_tail().inspect_err(|_| self.count_lost())?;
            if plan.total > free {
                self.count_lost();
                return Err(BeginError::Full { needed: plan.total, free });
            }
        }
        if let (Some(lost), Some(_)) = (&self.equipment.lost, plan.lost) {
            self.write_lost(lost, now);
        }
        let position = self.skip_gap(size, in_page);
        // No more than the largest record: then what fits before these has a size that can be.
        let room = self.limit.get().wrapping_sub(position).min(MAX_RECORD_SIZE as u64);
        let in_granule = geometry.left_in_granule(position).min(self.most_in_page as u64);
        self.page_limit.set(position.wrapping_add(room.min(in_granule)));
        if !geometry.confined() {
            let to_end = geometry.size() - geometry.offset(position) as u64;
            self.run_limit.set(position.wrapping_add(room.min(to_end)));
        }
        Ok(position)
    }

    fn lost_to_report(&self) -> Option<&LostRecord> {
        self.losses.to_report(&self.equipment.lost)
    }

    /// Loads `data_tail` and gives the bytes that are free behind `head`.
    fn look_at_tail(&self) -> Result<u64, BeginError> {
        let geometry = self.memory.geometry();
        let (head, published) = (self.head.get(), self.published.get());
        let tail = self.memory.header().data_tail().load(Site::TailLoad.order());
        if published.wrapping_sub(tail) > geometry.size() || !tail.is_multiple_of(8) {
            return Err(BeginError::CorruptTail { tail, head: published });
        }
        // A tail may be sound and yet further back than one before it; then less is free, at the least nothing.
        let free = geometry.capacity().saturating_sub(head.wrapping_sub(tail));
        self.limit.set(head.wrapping_add(free));
        Ok(free)
    }

    fn count_lost(&self) {
        self.losses.count(self.equipment.lost.is_some(), self.memory.header());
        if self.equipment.lost.is_some() {
            // The next record takes the way on which the count is reported.
            self.look_anew();
        }
    }

    /// Writes the pending lost record behind the head; the room for it was seen to.
    fn write_lost(&self, lost: &LostRecord, now: Option<u64>) {
        let position = self.skip_gap(lost.size() as u64, self.memory.geometry().confined());
        let mut span = self.claim(position, lost.size());
        lost.fill(self.losses.take(), now, |at, bytes| span.put(at, bytes));
        self.move_head(position.wrapping_add(lost.size() as u64));
    }

    /// Writes the record that reports losses now, if there are any to report, instead of before the next record.
    ///
    /// # Errors
    /// [`BeginError::Full`] when there is no room for it, which counts nothing as lost; [`BeginError::CorruptTail`] and
    /// [`BeginError::Forked`] as for a record.
    pub fn flush_lost(&self) -> Result<(), BeginError> {
        if !self.equipment.guard.alive() {
            return Err(BeginError::Forked);
        }
        let now = self.lost_to_report().and_then(LostRecord::now);
        let Some(lost) = self.lost_to_report() else {
            return Ok(());
        };
        let (geometry, size) = (self.memory.geometry(), lost.size() as u64);
        let needed = size + if geometry.confined() { geometry.gap(self.head.get(), size) } else { 0 };
        let free = self.look_at_tail()?;
        if needed > free {
            return Err(BeginError::Full { needed, free });
        }
        self.write_lost(lost, now);
        if self.open.get() == 0 {
            self.publish_to(self.head.get());
        }
        Ok(())
    }

    /// Publishes what is closed before the oldest reservation that is open.
    #[cold]
    #[inline(never)]
    fn publish_closed(&self) {
        let published = self.published.get();
        let closed = self.headers().find(|(_, header)| header.type_ == RECORD_OPEN);
        let to = closed.map_or(published, |(position, _)| position);
        if to != published {
            self.publish_to(to);
        }
    }

    /// Publishes everything before `head`. This is still the process that the producer belongs to.
    #[inline(always)]
    fn publish_to(&self, head: u64) {
        self.memory.header().data_head().store(head, Site::HeadStore.order());
        let bytes = head.wrapping_sub(self.published.replace(head));
        if self.watermark.crossed(bytes) {
            self.equipment.bell.ring(self.memory.header());
        }
    }

    /// Wakes the consumer if it sleeps, whatever the watermark says.
    pub fn flush(&self) {
        self.equipment.flush(self.memory.header());
    }

    /// Records that could not be written since the ring was made: the authoritative count.
    pub fn lost_total(&self) -> u64 {
        self.losses.total()
    }

    /// Records lost that are still to be reported by a record; 0 where the ring reports none.
    pub fn lost_pending(&self) -> u64 {
        self.losses.pending()
    }

    /// The reservations that are open now, oldest first: when the ring does not move, the leaked one is among them.
    pub fn open_reservations(&self) -> Vec<OpenReservation> {
        let open = self.headers().filter(|(_, header)| header.type_ == RECORD_OPEN);
        open.map(|(position, header)| OpenReservation { position, size: usize::from(header.size) }).collect()
    }

    /// The headers of what is reserved and not published, with their positions; a header of zeros is a gap.
    fn headers(&self) -> impl Iterator<Item = (u64, RecordHeader)> {
        let geometry = self.memory.geometry();
        let mut next = self.published.get();
        std::iter::from_fn(move || {
            let position = next;
            if position == self.head.get() {
                return None;
            }
            // SAFETY: lossless, and the word is a header: [published, head) holds records, gaps and nothing else, as
            // `opened`, `fill_gap` and `write_lost` made them. Only this thread writes headers (spans are lent from behind
            // the header on), and this thread is here.
            let header = RecordHeader::from_word(unsafe { self.memory.read_header(position) });
            next = match header.size {
                0 => geometry.next_granule(position),
                size => position.wrapping_add(u64::from(size)),
            };
            Some((position, header))
        })
    }
}

/// What only `Producer` makes: nobody else can close its reservations.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Ticket(());

impl sealed::Sealed for Producer {}

impl Owner for Producer {
    type Claim = Ticket;

    #[inline(always)]
    fn alive(&self) -> bool {
        self.equipment.guard.alive()
    }

    #[inline(always)]
    fn close(&self, _: Ticket) {
        let open = self.open.get() - 1;
        self.open.set(open);
        if open == 0 {
            self.publish_to(self.head.get());
        } else {
            self.publish_closed();
        }
    }

    /// What was reserved last is given back by moving the head; what was not becomes padding.
    #[cold]
    #[inline(never)]
    fn close_part(&self, ticket: Ticket, part: Part<'_>) {
        if !self.alive() {
            return;
        }
        if part.position.wrapping_add(part.span.len() as u64) == self.head.get() {
            self.move_head(part.position.wrapping_add(part.used as u64));
        } else {
            part.pad();
        }
        if self.open.get() == 1 && self.head.get() == self.published.get() {
            // Given back to the last byte: there is nothing to publish.
            self.open.set(0);
        } else {
            self.close(ticket);
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.equipment.leave(self.memory.header());
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("head", &self.head.get())
            .field("published", &self.published.get())
            .field("open", &self.open.get())
            .field("lost_total", &self.losses.total())
            .finish_non_exhaustive()
    }
}

const _: () = assert!(MAX_RECORD_SIZE.is_multiple_of(8) && HEADER_SIZE == 8);
