//! The one consumer, of every memory and every mode.
//!
//! Lossless rings in memory that is ours alone are read in place. Everything else is copied first, each word once, a
//! window at a time, and what was copied is validated: memory that another process writes, files, and rings that
//! overwrite.
#![allow(unsafe_code)]

use super::error::{AttachError, ReadError, ReadErrorKind};
use super::layout::{Geometry, HEADER_SIZE, MAX_RECORD_SIZE, RECORD_OPEN, RECORD_PADDING, RecordHeader, before};
use super::memory::{Memory, Trust};
use super::order::Site;
#[cfg(not(perfring_loom))]
use super::source::Writer;
use super::source::{Alarm, Source};
use super::{Description, Mode};
use crate::sync::fence_at;
use std::fmt;
use std::sync::Arc;

/// A record in the ring, or in the consumer's buffer, until the next one is asked for.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    bytes: &'a [u8],
    header: RecordHeader,
    position: u64,
}

impl<'a> Record<'a> {
    /// A record that lies somewhere else than in a ring: `None` unless `bytes` are as many as `header` says, at least 8.
    #[inline]
    pub fn new(header: RecordHeader, bytes: &'a [u8], position: u64) -> Option<Self> {
        let sound = usize::from(header.size) == bytes.len() && bytes.len() >= HEADER_SIZE;
        sound.then_some(Self { bytes, header, position })
    }

    /// The record's header.
    #[inline]
    pub fn header(&self) -> RecordHeader {
        self.header
    }

    /// The whole record, header included.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_SIZE..]
    }

    /// The free-running position of the record in the ring.
    #[inline]
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("header", &self.header).field("position", &self.position).finish_non_exhaustive()
    }
}

/// A record with bytes of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The whole record, header included.
    pub bytes: Vec<u8>,
    /// The record's header.
    pub header: RecordHeader,
    /// The free-running position that it had in the ring.
    pub position: u64,
}

impl From<Record<'_>> for OwnedRecord {
    fn from(record: Record<'_>) -> Self {
        Self { bytes: record.bytes.to_vec(), header: record.header, position: record.position }
    }
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// There is something to read.
    Ready,
    /// The time is over and there is nothing to read.
    TimedOut,
    /// There is nothing to read, and there will not be: the last producer has left, or, for a kernel ring, the traced task
    /// has ended.
    Closed,
    /// There is nothing to read, and there will not be: the process that wrote the ring ended without closing it.
    ProducerDied,
}

/// What a consumer has come across so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Bytes of gaps and padding records that were stepped over.
    pub padding: u64,
    /// Bytes that were skipped because of defects or because they were overwritten; each skip was reported as an error.
    pub skipped: u64,
}

/// How a kernel ring is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelDirection {
    /// Upwards, and not beyond `data_tail`: the mapping is writable.
    Forward,
    /// Downwards, over the oldest records (`write_backward`): the mapping is read-only. Pause the event's output
    /// (`PERF_EVENT_IOC_PAUSE_OUTPUT`) while reading.
    Backward,
}

/// Reads a ring, whoever writes it.
///
/// [`drain`](Self::drain) and [`for_each`](Self::for_each) go up to the head at that moment, so they end however fast the
/// producer is. Records are lent; space is given back in batches, see [`set_release_every`](Self::set_release_every), and
/// when the drain is dropped.
pub struct Consumer {
    source: Source,
    geometry: Geometry,
    mode: Mode,
    /// Whether records are lent in place.
    direct: bool,
    alarm: Alarm,
    /// Where the next record starts, if there is one. In a backward ring, the newest head that was read.
    position: u64,
    /// What `data_tail` holds.
    released: u64,
    release_every: u64,
    /// The copy of `[window_start, window_start + window.len())`; for direct rings, a record that wraps.
    window: Vec<u8>,
    window_start: u64,
    stats: ConsumerStats,
    /// Nothing was read yet from a ring that overwrites: what is gone already is not reported.
    fresh: bool,
    /// The window of a backward ring ends where the newest records have overwritten older ones, not at a record's end.
    cut: bool,
    description: Option<Box<Description>>,
    /// A head that cannot be, and that was reported: no reason to read again.
    bad_head: Option<u64>,
    /// The last `for_each` found something.
    found: bool,
    #[cfg(not(perfring_loom))]
    writer: Writer,
}

impl Consumer {
    pub(crate) fn new(
        source: Source,
        geometry: Geometry,
        mode: Mode,
        position: u64,
        alarm: Alarm,
        description: Option<Description>,
    ) -> Self {
        let direct = matches!(&source, Source::Memory { memory, .. } if memory.trust() == Trust::Exclusive)
            && mode == Mode::Lossless;
        Self {
            source,
            geometry,
            mode,
            direct,
            alarm,
            position,
            released: position,
            release_every: geometry.size() / 4,
            window: Vec::new(),
            window_start: position,
            stats: ConsumerStats::default(),
            fresh: true,
            cut: false,
            description: description.map(Box::new),
            bad_head: None,
            found: false,
            #[cfg(not(perfring_loom))]
            writer: Writer::Unknown,
        }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    #[cfg(not(perfring_loom))]
    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    #[cfg(not(perfring_loom))]
    pub(super) fn set_writer(&mut self, writer: Writer) {
        self.writer = writer;
    }

    /// Reads the ring of a perf event through its mapping.
    ///
    /// # Errors
    /// [`AttachError::Mapping`] when the header page does not describe a ring inside of the mapping.
    ///
    /// # Safety
    /// `map` is a mapping, from offset 0, of the perf event `fd`, with this direction, writable if it is
    /// [`Forward`](KernelDirection::Forward), and nothing else accesses its data area or stores its `data_tail`. Others may
    /// share the mapping for its header page, which they access only atomically, as
    /// [`TimePage::from_kernel`](super::TimePage::from_kernel) and [`AuxConsumer::from_kernel`](super::AuxConsumer::from_kernel) do.
    #[cfg(not(perfring_loom))]
    pub unsafe fn from_kernel(
        map: impl Into<Arc<memmap2::MmapRaw>>,
        fd: std::os::fd::OwnedFd,
        direction: KernelDirection,
    ) -> Result<Self, AttachError> {
        use super::memory::{MapError, map_kernel};
        // SAFETY: a mapping of a perf event; nothing else accesses its data area, and its header page only atomically, by
        // contract.
        let (header, data, backing, size) = unsafe { map_kernel(map.into()) }.map_err(|error| match error {
            MapError::Io(source) => AttachError::Io { doing: "map the ring", source },
            MapError::Shape { data_offset, data_size, mapped } => {
                AttachError::Mapping { data_offset, data_size, mapped }
            }
        })?;
        let size = size as u64;
        let geometry = Geometry::new(size, size.min(super::sys::page_size() as u64), false);
        let geometry = geometry.ok_or(AttachError::DataSize { found: size })?;
        let (mode, position) = match direction {
            KernelDirection::Forward => (Mode::Lossless, header.data_tail().load(Site::Describe.order())),
            KernelDirection::Backward => (Mode::OverwriteBackward, 0),
        };
        if !position.is_multiple_of(8) {
            let head = header.data_head().load(Site::HeadLoad.order());
            return Err(AttachError::Positions { head, tail: position, data_size: size });
        }
        let memory = Arc::new(Memory::new(header, data, geometry, mode, Trust::Exclusive, backing));
        Ok(Self::new(Source::Memory { memory, kernel: true }, geometry, mode, position, Alarm::Kernel(fd), None))
    }

    /// What the ring says of itself: `None` for a kernel ring.
    pub fn description(&self) -> Option<&Description> {
        self.description.as_deref()
    }

    /// Bytes in the data area.
    pub fn size(&self) -> u64 {
        self.geometry.size()
    }

    /// What happens when the ring is full.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The position up to which records have been read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What was stepped over so far.
    pub fn stats(&self) -> ConsumerStats {
        self.stats
    }

    /// Records that the producer could not write, as the header page says: `None` for a kernel ring, which reports losses
    /// only by records.
    pub fn lost_total(&self) -> Option<u64> {
        self.description.as_ref()?;
        self.source.lost_total()
    }

    /// Gives space back after at most this many bytes of a drain (and when it is dropped): by default a quarter of the ring.
    /// A single record may exceed it. No effect on rings that overwrite.
    pub fn set_release_every(&mut self, bytes: u64) {
        self.release_every = bytes;
    }

    /// Lends records in place although another process can write them.
    ///
    /// # Safety
    /// Whoever can write the ring's data leaves what is published alone until it is given back: the producer is this
    /// crate's, in a process that is trusted not to corrupt this one.
    pub unsafe fn trust_producer(&mut self) {
        if let Source::Memory { memory, .. } = &mut self.source
            && let Some(memory) = Arc::get_mut(memory)
        {
            memory.set_exclusive();
            self.direct = self.mode == Mode::Lossless;
            self.window.clear();
        }
    }

    /// Has the producer of a ring of ours that overwrites refuse new records, and count them as lost, until
    /// [`resume`](Self::resume): then nothing is overwritten while it is read. Records that are open can still be committed.
    /// (What was overwritten without a pause is reported, not delivered.) No effect on other rings: for the kernel's there
    /// is `PERF_EVENT_IOC_PAUSE_OUTPUT`.
    pub fn pause(&self) {
        self.source.store_paused(self.mode, 1);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.source.store_paused(self.mode, 0);
    }

    /// Starts reading up to what is published now.
    pub fn drain(&mut self) -> Drain<'_> {
        match self.start() {
            Ok((end, missed)) => Drain { end, consumer: self, failed: None, missed },
            Err(error) => Drain { end: self.position, consumer: self, failed: Some(error), missed: 0 },
        }
    }

    /// Calls `action` with every record up to what is published now; gives how many there were.
    ///
    /// Where it finds nothing for the first time, it waits for a moment (64 spin-loop hints, about a microsecond): looking at the
    /// head takes the cache line that the producer writes away from it, and to look for each record costs both sides more
    /// than a record does. [`drain`](Self::drain) does not wait.
    ///
    /// # Errors
    /// The first defect found. Reading goes on behind it with the next call.
    #[inline]
    pub fn for_each(&mut self, mut action: impl FnMut(Record<'_>)) -> Result<u64, ReadError> {
        let mut count = 0;
        let mut drain = match self.direct_head() {
            Some(end) if end == self.position => {
                self.let_producer_go_ahead();
                return Ok(0);
            }
            Some(end) => {
                self.found = true;
                count = self.direct_run(end, &mut action);
                if self.position == end {
                    return Ok(count);
                }
                Drain { end, consumer: self, failed: None, missed: 0 }
            }
            None => self.drain(),
        };
        while let Some(record) = drain.next() {
            action(record?);
            count += 1;
            count += drain.consumer.direct_run(drain.end, &mut action);
        }
        Ok(count)
    }

    /// Lends everything up to what is published now, unread and in place, and gives its space back afterwards: to copy it
    /// into a file, say. `action` gets whole records, in the second slice those behind the end of the data area; one that
    /// wraps begins in the first and ends in the second. `None`: there was nothing.
    ///
    /// This is for rings of the kernel that grow forward, and for [free](super::Ring::free) rings of this process, in which
    /// discarded reservations are records of the type [`RECORD_PADDING`](super::RECORD_PADDING). In confined rings there may
    /// be gaps, and what others can write has to be copied and validated: read those by [`drain`](Self::drain).
    ///
    /// Where `action` panics, the span stays the next one.
    ///
    /// ```
    /// use perfring::ring::Ring;
    /// let ring = Ring::free(4).private()?;
    /// let (producer, mut consumer) = (ring.producer()?, ring.consumer()?);
    /// for byte in 0..2 {
    ///     let mut record = producer.begin_forward(16)?;
    ///     record.put(&[byte; 8]);
    ///     record.commit(9, 0);
    /// }
    /// let taken = consumer.take_span(|first, second| [first, second].concat())?;
    /// assert_eq!(taken.map(|bytes| bytes.len()), Some(32));
    /// assert_eq!(consumer.take_span(|_, _| ())?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReadErrorKind::NoSpans`] for other rings, and [`ReadErrorKind::Head`].
    pub fn take_span<R>(&mut self, action: impl FnOnce(&[u8], &[u8]) -> R) -> Result<Option<R>, ReadError> {
        let fail = |position| ReadError { position, kind: ReadErrorKind::NoSpans, skipped: 0 };
        if !self.direct || self.geometry.confined() {
            return Err(fail(self.position));
        }
        let (end, _) = self.start()?;
        let start = self.position;
        let (Source::Memory { memory, .. }, true) = (&self.source, self.direct) else { return Err(fail(start)) };
        let len = end.wrapping_sub(start);
        if len == 0 {
            return Ok(None);
        }
        let before_end = (self.geometry.size() - self.geometry.offset(start) as u64).min(len);
        // SAFETY: direct: exclusive and lossless. `start` has found that [position, end) is at most the ring long: published,
        // loaded with acquire, and given back only below, when the slices are gone. The first piece ends at or before the end
        // of the data area, so it does not wrap.
        let first = unsafe { memory.lend_run(start, before_end as usize) };
        let second = match len - before_end {
            0 => &[],
            // SAFETY: as above; this piece starts with the data area, and is shorter than it.
            rest => unsafe { memory.lend_run(start.wrapping_add(before_end), rest as usize) },
        };
        let result = action(first, second);
        self.position = end;
        self.release();
        Ok(Some(result))
    }

    /// Waits for a moment when there is nothing the first time after there was something.
    #[cold]
    fn let_producer_go_ahead(&mut self) {
        if std::mem::take(&mut self.found) {
            for _ in 0..64 {
                std::hint::spin_loop();
            }
        }
    }

    /// The head, where records are lent in place and it is sound.
    #[inline(always)]
    fn direct_head(&self) -> Option<u64> {
        let (Source::Memory { memory, .. }, true) = (&self.source, self.direct) else { return None };
        let head = memory.header().data_head().load(Site::HeadLoad.order());
        let sound = head.wrapping_sub(self.position) <= self.geometry.size() && head.is_multiple_of(8);
        sound.then_some(head)
    }

    /// Calls `action` with the records up to `end`, which was the head, or up to the next thing that is no plain record;
    /// gives how many there were. Nothing where records are not lent in place.
    #[inline(always)]
    fn direct_run(&mut self, end: u64, action: &mut impl FnMut(Record<'_>)) -> u64 {
        let Self { source, geometry, direct, position, released, release_every, .. } = self;
        let (Source::Memory { memory, .. }, true) = (source, *direct) else { return 0 };
        let mut count = 0;
        while let Some(run) = geometry.run(*position, end, *released, *release_every) {
            let start = *position;
            // SAFETY: direct: exclusive and lossless. The run lies in [tail, head) and in one piece of the data area:
            // published, loaded with acquire, and given back only below, when the slice is gone.
            let run = unsafe { memory.lend_run(start, run as usize) };
            let mut rest = run;
            while let Some(word) = rest.first_chunk() {
                let header = RecordHeader::from_bytes(*word);
                let size = usize::from(header.size);
                // In one comparison: at least 8, at most what is left, which is a multiple of 8, and one itself.
                let plain = size.wrapping_sub(8).rotate_right(3) <= (rest.len() - 8) / 8;
                if !plain || header.type_ & !1 == RECORD_PADDING {
                    return count;
                }
                let (bytes, after) = rest.split_at(size);
                let at = start.wrapping_add((run.len() - rest.len()) as u64);
                action(Record { bytes, header, position: at });
                rest = after;
                // At once: where `action` panics, the consumer stands at the record that it had.
                *position = at.wrapping_add(size as u64);
                count += 1;
            }
            if *position == end || position.wrapping_sub(*released) >= *release_every {
                memory.header().data_tail().store(*position, Site::TailStore.order());
                *released = *position;
            }
        }
        count
    }

    /// The position that the next drain ends at, and how many bytes are missing there; or why there can be no drain.
    fn start(&mut self) -> Result<(u64, u64), ReadError> {
        let head = self.source.head().map_err(|kind| ReadError { position: self.position, kind, skipped: 0 })?;
        self.catch_up(head)?;
        let ahead = head.wrapping_sub(self.position);
        let sound = head.is_multiple_of(8)
            && match self.mode {
                Mode::Lossless => ahead <= self.geometry.size(),
                // A slow reader may be any number of laps behind.
                Mode::OverwriteForward => !before(head, self.position),
                // Nor has it grown downwards for a fresh one: `snapshot_backward` looks at where it started.
                Mode::OverwriteBackward => self.fresh || !before(self.position, head),
            };
        self.bad_head = (!sound).then_some(head);
        if !sound {
            return Err(ReadError { position: self.position, kind: ReadErrorKind::Head { head }, skipped: 0 });
        }
        match self.mode {
            Mode::Lossless => Ok((head, 0)),
            Mode::OverwriteForward => {
                if self.fresh {
                    self.fresh = false;
                    self.position = self.oldest(head);
                }
                Ok((head, 0))
            }
            Mode::OverwriteBackward => self.snapshot_backward(head),
        }
    }

    /// Who reads a lossless ring without giving space back may be overtaken by who does: goes on where that one is.
    fn catch_up(&mut self, head: u64) -> Result<(), ReadError> {
        if !self.observes() || head.wrapping_sub(self.position) <= self.geometry.size() {
            return Ok(());
        }
        let position = self.position;
        let fail = |kind| ReadError { position, kind, skipped: 0 };
        let tail = self.source.start().map_err(fail)?;
        if !self.overtaken_by(tail) || head.wrapping_sub(tail) > self.geometry.size() {
            return Ok(());
        }
        Err(self.overtaken(position, tail))
    }

    /// Whether this is a reader of a lossless ring who does not give space back.
    fn observes(&self) -> bool {
        self.mode == Mode::Lossless && !self.source.releases()
    }

    fn overtaken_by(&self, tail: u64) -> bool {
        tail.is_multiple_of(8) && before(self.position, tail)
    }

    /// Goes on at `to`, what is before being overwritten.
    fn overtaken(&mut self, position: u64, to: u64) -> ReadError {
        let skipped = to.wrapping_sub(position);
        self.window.clear();
        self.position = to;
        self.stats.skipped = self.stats.skipped.saturating_add(skipped);
        ReadError { position, kind: ReadErrorKind::Overwritten, skipped }
    }

    /// Whether there is a head that was not read up to, and that was not refused already.
    pub(super) fn sees_more(&self, head: u64) -> bool {
        head != self.position && Some(head) != self.bad_head
    }

    /// Where the oldest granule that is whole starts in a ring that overwrites forward.
    fn oldest(&self, head: u64) -> u64 {
        let reserved = self.source.reserved().unwrap_or(head);
        let start = self.source.start().unwrap_or(reserved);
        if reserved.wrapping_sub(start) <= self.geometry.size() && start.is_multiple_of(8) {
            return if before(head, start) { head } else { start };
        }
        self.valid_from(reserved, head)
    }

    /// The first granule that is still whole when everything up to `reserved` may have been overwritten a lap later, but
    /// not beyond `head`.
    fn valid_from(&self, reserved: u64, head: u64) -> u64 {
        let from = self.geometry.granule_from(reserved.wrapping_sub(self.geometry.size()));
        if before(from, head) { from } else { head }
    }

    /// Copies what is new in a backward ring: from the head up to the head of the last time, as far as it is still there.
    /// Gives the position to read to, and how many bytes were overwritten before they were read.
    fn snapshot_backward(&mut self, head: u64) -> Result<(u64, u64), ReadError> {
        let fail = |kind| ReadError { position: head, kind, skipped: 0 };
        let size = self.geometry.size();
        let start = self.source.start().map_err(fail)?;
        if self.fresh && before(start, head) {
            return Err(fail(ReadErrorKind::Head { head }));
        }
        // Whole words, whatever a hostile header page says.
        let written = start.wrapping_sub(head) & !7;
        let wanted = if self.fresh { written } else { self.position.wrapping_sub(head) };
        self.window.clear();
        self.source.copy(&self.geometry, head, wanted.min(size) as usize, &mut self.window).map_err(fail)?;
        fence_at!(Site::SnapshotFence);
        // Everything a lap above this may have been overwritten while it was copied.
        let valid = self.source.reserved().map_err(fail)?.wrapping_add(size).wrapping_sub(head);
        self.window.truncate(if valid > size { 0 } else { valid as usize & !7 });
        let have = self.window.len() as u64;
        self.cut = have < wanted;
        let missed = if self.fresh { 0 } else { wanted - have };
        self.fresh = false;
        (self.window_start, self.position) = (head, head);
        Ok((head.wrapping_add(have), missed))
    }

    /// Steps to the next record before `end`: its position and header.
    #[inline(always)]
    fn advance(&mut self, end: u64) -> Option<Result<(u64, RecordHeader), ReadError>> {
        loop {
            let position = self.position;
            let left = end.wrapping_sub(position);
            if left == 0 {
                return None;
            }
            if position.wrapping_sub(self.released) >= self.release_every {
                self.release();
            }
            let word = match &self.source {
                Source::Memory { memory, .. } if self.direct => {
                    // SAFETY: direct: exclusive and lossless. position is a multiple of 8 (heads and sizes are) in [tail,
                    // head): published, loaded with acquire, and given back only by `release`, which is up to `position`.
                    unsafe { memory.read_header(position) }
                }
                _ => match self.copied_word(position, end)? {
                    Ok(word) => word,
                    Err(error) => return Some(Err(error)),
                },
            };
            let header = RecordHeader::from_word(word);
            let size = u64::from(header.size);
            let plain = size.wrapping_sub(8) <= left - 8
                && size.is_multiple_of(8)
                && header.type_ & !1 != RECORD_PADDING
                && (!self.geometry.confined() || size <= self.geometry.left_in_granule(position));
            if plain {
                if !self.direct && !self.window_holds(position, size) {
                    // It ends behind the window: a window that starts with it holds it whole.
                    match self.refill(position, end) {
                        Some(Ok(())) => {}
                        Some(Err(error)) => return Some(Err(error)),
                        None => return None,
                    }
                    continue;
                }
                self.position = position.wrapping_add(size);
                return Some(Ok((position, header)));
            }
            match self.odd(position, header, end) {
                Ok(step) => {
                    self.position = position.wrapping_add(step);
                    self.stats.padding = self.stats.padding.saturating_add(step);
                }
                Err(kind) => return Some(Err(self.skip(position, kind, end))),
            }
        }
    }

    /// The bytes of a record that `advance` gave.
    #[inline(always)]
    fn bytes(&mut self, position: u64, size: usize) -> &[u8] {
        match &self.source {
            Source::Memory { memory, .. } if self.direct => {
                // SAFETY: direct: exclusive and lossless. `advance` found [position, position + size) before the drain's
                // head; it is given back by `release`, which takes `&mut self`, as the next `advance` does, so not while
                // the slice lives.
                unsafe { memory.lend(position, size, &mut self.window) }
            }
            _ => {
                let at = position.wrapping_sub(self.window_start) as usize;
                self.window.get(at..at + size).unwrap_or(&[])
            }
        }
    }

    /// A header that is not of a plain record: how far to step over padding, or what is wrong.
    #[cold]
    fn odd(&mut self, position: u64, header: RecordHeader, end: u64) -> Result<u64, ReadErrorKind> {
        let left = end.wrapping_sub(position);
        let size = header.size;
        if header.to_word() == 0 {
            return self.gap(position, left);
        }
        if usize::from(size) < HEADER_SIZE {
            return Err(ReadErrorKind::TooSmall { size });
        }
        if !size.is_multiple_of(8) {
            return Err(ReadErrorKind::Unaligned { size });
        }
        if u64::from(size) > left {
            // The oldest record of a backward ring is cut off by the newest: that is no defect.
            if self.cut {
                return Ok(left);
            }
            return Err(ReadErrorKind::BeyondHead { size, left });
        }
        let in_granule = self.geometry.left_in_granule(position);
        if self.geometry.confined() && u64::from(size) > in_granule {
            return Err(ReadErrorKind::CrossesGranule { size, left: in_granule });
        }
        if header.type_ == RECORD_OPEN {
            return Err(ReadErrorKind::Open { size });
        }
        Ok(u64::from(size))
    }

    /// A zero header: a gap up to the end of its granule, all zero, or a defect.
    fn gap(&mut self, position: u64, left: u64) -> Result<u64, ReadErrorKind> {
        let gap = self.geometry.left_in_granule(position);
        if !self.geometry.confined() || gap == self.geometry.granule() || gap > left {
            return Err(ReadErrorKind::ZeroHeader);
        }
        for at in (8..gap).step_by(8) {
            let word = match &self.source {
                // SAFETY: as in `advance`; the gap ends at or before the drain's head.
                Source::Memory { memory, .. } if self.direct => unsafe {
                    memory.read_header(position.wrapping_add(at))
                },
                _ => self.window_word(position.wrapping_add(at)).ok_or(ReadErrorKind::ZeroHeader)?,
            };
            // The fuzz target has to find it when this check is missing.
            if word != 0 && !cfg!(perfring_planted_bug) {
                return Err(ReadErrorKind::DirtyGap { word });
            }
        }
        Ok(gap)
    }

    /// Goes on behind a defect: at the next granule where granules are confined, else at the head.
    #[cold]
    fn skip(&mut self, position: u64, kind: ReadErrorKind, end: u64) -> ReadError {
        let next = self.geometry.next_granule(position);
        let to = if self.geometry.confined() && before(next, end) { next } else { end };
        let skipped = to.wrapping_sub(position);
        self.position = to;
        self.stats.skipped = self.stats.skipped.saturating_add(skipped);
        ReadError { position, kind, skipped }
    }

    fn window_holds(&self, position: u64, size: u64) -> bool {
        let at = position.wrapping_sub(self.window_start);
        at < self.window.len() as u64 && size <= self.window.len() as u64 - at
    }

    fn window_word(&self, position: u64) -> Option<u64> {
        let at = usize::try_from(position.wrapping_sub(self.window_start)).ok()?;
        self.window.get(at..)?.first_chunk().map(|word| u64::from_ne_bytes(*word))
    }

    /// The word at `position` from the window, which is filled from there on if it does not reach so far. `None`: there is
    /// nothing to read after all.
    fn copied_word(&mut self, position: u64, end: u64) -> Option<Result<u64, ReadError>> {
        if !self.window_holds(position, 8) {
            match self.refill(position, end)? {
                Ok(()) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        self.window_word(position).map(Ok)
    }

    /// Fills the window with what is to be read from `position` on: a granule's rest where granules are confined, else as
    /// much as the largest record has. `None`: a backward ring, whose window is all there is.
    #[cold]
    fn refill(&mut self, position: u64, end: u64) -> Option<Result<(), ReadError>> {
        if self.mode == Mode::OverwriteBackward {
            return None;
        }
        let left = end.wrapping_sub(position);
        let most =
            if self.geometry.confined() { self.geometry.left_in_granule(position) } else { MAX_RECORD_SIZE as u64 };
        self.window.clear();
        self.window_start = position;
        if let Err(kind) = self.source.copy(&self.geometry, position, left.min(most) as usize, &mut self.window) {
            self.window.clear();
            return Some(Err(ReadError { position, kind, skipped: 0 }));
        }
        if self.mode == Mode::OverwriteForward {
            fence_at!(Site::SnapshotFence);
            let reserved = match self.source.reserved() {
                Ok(reserved) => reserved,
                Err(kind) => {
                    return Some(Err(ReadError { position, kind, skipped: 0 }));
                }
            };
            if reserved.wrapping_sub(position) > self.geometry.size() {
                let to = self.valid_from(reserved, end);
                let to = if before(position, to) { to } else { end };
                return Some(Err(self.overtaken(position, to)));
            }
        }
        if self.observes() {
            // What lies before the tail may have been overwritten while it was copied.
            fence_at!(Site::SnapshotFence);
            let tail = match self.source.start() {
                Ok(tail) => tail,
                Err(kind) => return Some(Err(ReadError { position, kind, skipped: 0 })),
            };
            if self.overtaken_by(tail) {
                return Some(Err(self.overtaken(position, if before(tail, end) { tail } else { end })));
            }
        }
        Some(Ok(()))
    }

    /// Gives back everything before `position`.
    fn release(&mut self) {
        if self.mode == Mode::Lossless && self.position != self.released {
            self.source.store_tail(self.position);
            self.released = self.position;
        }
    }
}

/// Reading up to the head at the moment it was made. Dropping it gives back the space of what was read.
///
/// A record is gone when the next one is asked for:
///
/// ```compile_fail,E0499
/// # let ring = perfring::ring::Ring::confined(8).private().unwrap();
/// # let mut consumer = ring.consumer().unwrap();
/// let mut drain = consumer.drain();
/// let first = drain.next();
/// let second = drain.next();
/// println!("{first:?}");
/// ```
///
/// [`owned`](Self::owned) copies each, for where that is in the way.
pub struct Drain<'c> {
    consumer: &'c mut Consumer,
    /// Where it ends.
    end: u64,
    failed: Option<ReadError>,
    /// Bytes of a backward ring that were overwritten before they were read: reported at its end, where they would be.
    missed: u64,
}

impl Drain<'_> {
    /// The next record, lent until the next call, or a defect, behind which the next call goes on.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        self.step(true)
    }

    /// What [`next`](Self::next) would give. A record stays the next one, for a later drain, too; a defect is given once.
    #[inline]
    pub fn peek(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        self.step(false)
    }

    #[inline(always)]
    fn step(&mut self, take: bool) -> Option<Result<Record<'_>, ReadError>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let Some(step) = self.consumer.advance(self.end) else {
            return self.finish();
        };
        match step {
            Ok((position, header)) => {
                if !take {
                    self.consumer.position = position;
                }
                let bytes = self.consumer.bytes(position, usize::from(header.size));
                Some(Ok(Record { bytes, header, position }))
            }
            Err(error) => {
                if matches!(error.kind, ReadErrorKind::File(_)) {
                    self.end = self.consumer.position;
                }
                Some(Err(error))
            }
        }
    }

    #[inline(always)]
    fn finish(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        let skipped = std::mem::take(&mut self.missed);
        if skipped == 0 {
            return None;
        }
        self.consumer.stats.skipped = self.consumer.stats.skipped.saturating_add(skipped);
        Some(Err(ReadError { position: self.end, kind: ReadErrorKind::Overwritten, skipped }))
    }

    /// Records with bytes of their own, as an [`Iterator`].
    pub fn owned(mut self) -> impl Iterator<Item = Result<OwnedRecord, ReadError>> {
        std::iter::from_fn(move || self.next().map(|record| record.map(OwnedRecord::from)))
    }
}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        if self.consumer.mode == Mode::OverwriteBackward {
            // The next drain is for what is newer than this one.
            self.consumer.position = self.consumer.window_start;
        }
        self.consumer.release();
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("position", &self.position)
            .field("mode", &self.mode)
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Drain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("position", &self.consumer.position)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
