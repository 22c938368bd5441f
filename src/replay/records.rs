//! The records of a recording, lent one by one.

use crate::record::{DecodeError, Decoded, Header, RecordType};
use crate::replay::chunks::{Chunks, Place};
use crate::replay::error::ReadError;
use crate::replay::metadata::Metadata;
use crate::replay::order::{Order, OrderStats, Waiting};
use crate::replay::part::{Part, Source};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io;

/// A record of a recording, lent until the next one is asked for.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    header: Header,
    part: usize,
    /// [`Waiting::UNKNOWN`] if it was not looked at.
    time: u64,
    bytes: &'a [u8],
    place: Place,
    chunks: &'a Chunks,
    metadata: &'a Metadata,
}

impl<'a> Entry<'a> {
    #[inline]
    fn new(waiting: Waiting, part: usize, chunks: &'a Chunks, metadata: &'a Metadata) -> Option<Self> {
        let Waiting { place, time } = waiting;
        let (header, bytes) = chunks.record(place, metadata.order())?;
        Some(Self { header, part, time, bytes, place, chunks, metadata })
    }

    /// The whole record, header included, as it stands in the recording.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its header.
    #[inline]
    pub fn header(&self) -> Header {
        self.header
    }

    /// Its type.
    #[inline]
    pub fn type_(&self) -> RecordType {
        self.header.type_
    }

    /// Where its first byte stands: in the file, in the stream, or as a position in the ring. Of a record that was
    /// compressed: where the record begins that holds its first byte.
    pub fn position(&self) -> u64 {
        self.chunks.position(self.place)
    }

    /// In which of the files of a directory, in the order of their names, it stands; 0 otherwise.
    pub fn part(&self) -> usize {
        self.part
    }

    /// Its time, by the clock of the recording, in nanoseconds.
    #[inline]
    pub fn time(&self) -> Option<u64> {
        match self.time {
            Waiting::UNKNOWN => self.metadata.decoder().time(self.bytes),
            time => Some(time),
        }
    }

    /// What the recording says of itself, up to this record.
    pub fn metadata(&self) -> &'a Metadata {
        self.metadata
    }

    /// The record, decoded.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] where it is damaged.
    #[inline]
    pub fn decode(&self) -> Result<Decoded<'a>, DecodeError> {
        self.metadata.decoder().decode(self.bytes)
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("position", &self.position())
            .field("part", &self.part)
            .field("time", &self.time())
            .field("decoded", &self.decode())
            .finish()
    }
}

/// Reads the records of a [`Recording`](crate::replay::Recording): made by
/// [`Recording::records`](crate::replay::Recording::records).
pub struct Records {
    metadata: Metadata,
    chunks: Chunks,
    parts: Vec<Part>,
    order: Order,
    /// The times of the records that parts have come to, with the parts' numbers.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    /// Parts that have to go to their next record.
    behind: Vec<usize>,
    current: usize,
    /// Those that were lent at once.
    batch: Vec<Held>,
    /// The defect behind them.
    behind_batch: Option<ReadError>,
}

/// A record that is lent together with others.
#[derive(Clone, Copy)]
struct Held {
    waiting: Waiting,
    part: u32,
}

/// Records of a recording that are lent at once, until something else is asked for: to be looked at by several threads, say.
///
/// Decoding alone costs less than it takes another core to get at the records: that is for those who do more with them.
///
/// ```no_run
/// use perfring::replay::{Order, Recording};
///
/// let mut records = Recording::open("perf.data")?.records(Order::default());
/// while let Some(batch) = records.next_batch(1 << 16) {
///     let batch = batch?;
///     let half = batch.len() / 2;
///     let count = |range: std::ops::Range<usize>| {
///         range.filter_map(|number| batch.get(number)).filter(|entry| entry.decode().is_ok()).count()
///     };
///     std::thread::scope(|scope| {
///         let older = scope.spawn(|| count(0..half));
///         count(half..batch.len()) + older.join().unwrap_or(0)
///     });
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    held: &'a [Held],
    chunks: &'a Chunks,
    metadata: &'a Metadata,
}

impl<'a> Batch<'a> {
    /// How many records.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is none; a batch has at least one.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// One of them, by its number.
    #[inline]
    pub fn get(&self, number: usize) -> Option<Entry<'a>> {
        let Held { waiting, part } = *self.held.get(number)?;
        Entry::new(waiting, part as usize, self.chunks, self.metadata)
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let batch = *self;
        (0..batch.len()).filter_map(move |number| batch.get(number))
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Records {
    pub(crate) fn new(metadata: Metadata, sources: Vec<Source>, order: Order) -> Self {
        let number = sources.len();
        let parts: Vec<Part> = sources.into_iter().map(|source| Part::new(source, order, number)).collect();
        let behind = (0..parts.len()).rev().collect();
        Self {
            metadata,
            chunks: Chunks::default(),
            parts,
            order,
            heads: BinaryHeap::new(),
            behind,
            current: 0,
            batch: Vec::new(),
            behind_batch: None,
        }
    }

    /// What the recording says of itself: of a stream, as far as it was read.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// How well the order could be kept so far.
    pub fn order_stats(&self) -> OrderStats {
        self.parts.iter().map(Part::order_stats).fold(OrderStats::default(), |sum, part| OrderStats {
            late: sum.late + part.late,
            early: sum.early + part.early,
        })
    }

    /// The next record, lent until the next call, or a defect. Behind a defect the next call goes on as far as that is
    /// possible.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Option<Result<Entry<'_>, ReadError>> {
        // What nearly all calls come to.
        if let [part] = &mut *self.parts
            && let Some(waiting) = part.pop(&mut self.chunks)
        {
            return Entry::new(waiting, 0, &self.chunks, &self.metadata).map(Ok);
        }
        self.next_slowly()
    }

    #[cold]
    fn next_slowly(&mut self) -> Option<Result<Entry<'_>, ReadError>> {
        self.give_batch_back();
        if let Some(error) = self.behind_batch.take() {
            return Some(Err(error));
        }
        match self.advance()? {
            Ok(_) => self.current().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }

    /// The next records, at most `most` of them but at least one, lent until the next call, or a defect.
    ///
    /// They are held in memory all at once, beside those that wait for their turn.
    pub fn next_batch(&mut self, most: usize) -> Option<Result<Batch<'_>, ReadError>> {
        let most = most.max(1);
        self.give_batch_back();
        if let Some(error) = self.behind_batch.take() {
            return Some(Err(error));
        }
        while self.batch.len() < most {
            if let [part] = &mut *self.parts {
                let ready = part.take_ready(&mut self.chunks, most - self.batch.len());
                if !ready.is_empty() {
                    for waiting in ready {
                        self.chunks.lend(waiting.place.chunk);
                        self.chunks.release(waiting.place.chunk);
                    }
                    self.batch.extend(ready.iter().map(|waiting| Held { waiting: *waiting, part: 0 }));
                    continue;
                }
            }
            match self.advance() {
                None => break,
                Some(Ok(waiting)) => {
                    self.chunks.lend(waiting.place.chunk);
                    self.batch.push(Held { waiting, part: self.current as u32 });
                }
                Some(Err(error)) if self.batch.is_empty() => return Some(Err(error)),
                Some(Err(error)) => {
                    self.behind_batch = Some(error);
                    break;
                }
            }
        }
        let batch = Batch { held: &self.batch, chunks: &self.chunks, metadata: &self.metadata };
        (!batch.is_empty()).then_some(Ok(batch))
    }

    fn give_batch_back(&mut self) {
        for held in self.batch.drain(..) {
            self.chunks.give_back(held.waiting.place.chunk);
        }
    }

    fn advance(&mut self) -> Option<Result<Waiting, ReadError>> {
        if let [part] = &mut *self.parts {
            return part.advance(&mut self.chunks, &mut self.metadata);
        }
        self.choose()
    }

    /// Goes to the next record of several parts.
    fn choose(&mut self) -> Option<Result<Waiting, ReadError>> {
        while let Some(part) = self.behind.pop() {
            match self.parts.get_mut(part)?.advance(&mut self.chunks, &mut self.metadata) {
                None => {}
                Some(Ok(waiting)) if self.order != Order::Recorded && waiting.is_ordered() => {
                    self.heads.push(Reverse((waiting.time, part)));
                }
                Some(result) => {
                    self.behind.push(part);
                    self.current = part;
                    return Some(result);
                }
            }
        }
        let Reverse((_, part)) = self.heads.pop()?;
        self.behind.push(part);
        self.current = part;
        self.parts.get(part)?.current().map(Ok)
    }

    /// The record that [`next`](Self::next) gave last.
    #[inline]
    pub fn current(&self) -> Option<Entry<'_>> {
        Entry::new(self.parts.get(self.current)?.current()?, self.current, &self.chunks, &self.metadata)
    }

    /// Bytes that follow the last record and belong to it, and were not read yet: those of `HEADER_TRACING_DATA` and
    /// `AUXTRACE`.
    pub fn payload(&self) -> u64 {
        self.parts.get(self.current).map_or(0, Part::payload)
    }

    /// Reads of the bytes that follow the last record and belong to it; 0 at their end. What is not read is skipped.
    ///
    /// # Errors
    ///
    /// Those of reading, and `UnexpectedEof` where the recording ends before.
    pub fn read_payload(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.parts.get_mut(self.current) {
            Some(part) => part.read_payload(&mut self.chunks, into),
            None => Ok(0),
        }
    }

    /// Calls `action` with every record and every defect.
    pub fn for_each(mut self, mut action: impl FnMut(Result<Entry<'_>, ReadError>)) -> Metadata {
        while let Some(entry) = self.next() {
            action(entry);
        }
        self.metadata
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("metadata", &self.metadata).field("order", &self.order).finish_non_exhaustive()
    }
}
