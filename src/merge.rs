//! Several streams of records as one, in the order of time.
//!
//! Threads that write a ring each do not slow each other down; [`Merge`] puts their records back in order on the reading
//! side. It looks at the next record of each ring and lends the one whose time is the smallest, in place: what it holds
//! is one time and one index a ring, whatever the rings hold. A record costs O(log rings), and O(1) while one ring's
//! records come in a row.
//!
//! ```
//! use perfring::merge::Merge;
//! use perfring::ring::{Record, Ring};
//! use std::time::Instant;
//!
//! // The time is what the body starts with.
//! fn time(_ring: usize, record: &Record<'_>) -> Option<u64> {
//!     record.body().first_chunk().map(|time| u64::from_ne_bytes(*time))
//! }
//!
//! let epoch = Instant::now();
//! let clock = move || epoch.elapsed().as_nanos() as u64;
//! let mut merge = Merge::new([], time);
//! let mut threads = Vec::new();
//! for _ in 0..3 {
//!     let ring = Ring::confined(16).private()?;
//!     merge.push(ring.consumer()?);
//!     let producer = ring.producer()?;
//!     threads.push(std::thread::spawn(move || {
//!         for _ in 0..100 {
//!             let mut record = producer.begin_forward_in_page(16).expect("there is room");
//!             record.put(&clock().to_ne_bytes());
//!             record.commit(9, 0);
//!         }
//!     }));
//! }
//! // While they write: only up to a time that was read before the rings are looked at.
//! let now = clock();
//! let mut drain = merge.drain(Some(now));
//! while let Some(merged) = drain.next() {
//!     let merged = merged?;
//!     assert!(merged.time <= Some(now));
//! }
//! drop(drain);
//! for thread in threads {
//!     thread.join().expect("a thread that wrote");
//! }
//! // Nobody writes any more: everything.
//! merge.for_each(None, |merged| assert!(merged.is_ok()));
//! assert_eq!(merge.stats().delivered, 300);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Merging while the rings are written
//!
//! The heads of the rings are loaded one after the other. A record that is published in the first ring after its head was
//! loaded waits for the next drain, while a later one is already seen in the last ring: delivered now, it would come before
//! one that is older. So read the clock *before* [`Merge::drain`] loads the heads, and pass the time as `until`: what is
//! newer waits, and every record up to that time that is published by then is among those that the drain orders. Between
//! reading the clock for a record and publishing it a producer may take a while, be it preempted, or in a reservation that
//! stands behind an open one. Subtract from `until` how long that may be; what takes longer is delivered all the same,
//! behind records that are newer, and counted as [`late`](MergeStats::late).

use crate::ring::{Consumer, Drain, ReadError, Record};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use thiserror::Error;

/// Records that can be merged with those of others: a ring's [`Consumer`], or a recording.
pub trait Stream {
    /// A defect in the stream.
    type Error;
    /// What reads the records that are there when it is made.
    type Drain<'a>: Peek<Error = Self::Error>
    where
        Self: 'a;

    /// Starts reading what is there now. What one drain leaves is there for the next.
    fn drain(&mut self) -> Self::Drain<'_>;
}

/// A lending iterator over records that can be looked at before they are taken.
pub trait Peek {
    /// A defect between two records, or in place of one.
    type Error;

    /// The next record, without taking it. A defect is given once.
    fn peek(&mut self) -> Option<Result<Record<'_>, Self::Error>>;

    /// Takes the next record. A defect is given once.
    fn next(&mut self) -> Option<Result<Record<'_>, Self::Error>>;
}

/// A backward ring is read from its newest record to its oldest, which a merge takes for late records, and what a drain of
/// it leaves is gone: merge rings that grow forward.
impl Stream for Consumer {
    type Error = ReadError;
    type Drain<'a> = Drain<'a>;

    #[inline]
    fn drain(&mut self) -> Drain<'_> {
        self.drain()
    }
}

impl Peek for Drain<'_> {
    type Error = ReadError;

    #[inline]
    fn peek(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        self.peek()
    }

    #[inline]
    fn next(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        self.next()
    }
}

impl<S: Stream> Stream for &mut S {
    type Error = S::Error;
    type Drain<'a>
        = S::Drain<'a>
    where
        Self: 'a;

    #[inline]
    fn drain(&mut self) -> S::Drain<'_> {
        (**self).drain()
    }
}

/// A record, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Merged<'a> {
    /// The stream's number, counted from 0 in the order in which streams were added.
    pub stream: usize,
    /// The record's time, if it has one.
    pub time: Option<u64>,
    /// The record, lent until the next one is asked for.
    pub record: Record<'a>,
}

/// A defect in one of the streams. The others go on, and so does this one, behind the defect, if it can.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("stream {stream}: {error}")]
pub struct StreamError<E> {
    /// The stream's number.
    pub stream: usize,
    /// What is wrong in it.
    #[source]
    pub error: E,
}

/// What a merge has delivered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeStats {
    /// Records, late ones among them.
    pub delivered: u64,
    /// Records older than one that was delivered before them.
    pub late: u64,
    /// Defects.
    pub errors: u64,
}

/// Merges streams by time.
///
/// Equal times come in the order of the streams' numbers. Within a stream the order stays as it is: a record that is older
/// than the one before it comes directly behind that one, or behind what else is older than both, and counts as
/// [`late`](MergeStats::late). Records without a time are delivered as soon as it is their turn in their stream.
pub struct Merge<S, F> {
    streams: Vec<S>,
    time: F,
    state: State,
}

/// What is there while nothing is borrowed.
#[derive(Default)]
struct State {
    /// The times of the next records, each with the number of its stream, but for the stream that is looked at.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    /// The greatest time that was delivered.
    newest: u64,
    stats: MergeStats,
}

impl State {
    #[inline]
    fn deliver(&mut self, time: Option<u64>) {
        self.stats.delivered += 1;
        if let Some(time) = time {
            self.stats.late += u64::from(time < self.newest);
            self.newest = self.newest.max(time);
        }
    }
}

impl<S, F> Merge<S, F>
where
    S: Stream,
    F: Fn(usize, &Record<'_>) -> Option<u64>,
{
    /// Merges `streams` by what `time` says of their records, given the number of the stream and the record: each is asked for
    /// at least once, and again in each drain that leaves it.
    pub fn new(streams: impl IntoIterator<Item = S>, time: F) -> Self {
        Self { streams: streams.into_iter().collect(), time, state: State::default() }
    }

    /// Adds a stream and gives its number.
    pub fn push(&mut self, stream: S) -> usize {
        self.streams.push(stream);
        self.streams.len() - 1
    }

    /// The streams, by number.
    pub fn streams(&self) -> &[S] {
        &self.streams
    }

    /// The streams, by number, to wait on one of them, say.
    pub fn streams_mut(&mut self) -> &mut [S] {
        &mut self.streams
    }

    /// The streams, by number.
    pub fn into_streams(self) -> Vec<S> {
        self.streams
    }

    /// What was delivered so far.
    pub fn stats(&self) -> MergeStats {
        self.state.stats
    }

    /// Starts reading what is published now, up to the time `until`, or all of it.
    ///
    /// While the streams are written, `until` is a time read *before* this call, as this module's page says.
    pub fn drain(&mut self, until: Option<u64>) -> MergeDrain<'_, S, F> {
        self.state.heap.clear();
        MergeDrain {
            drains: self.streams.iter_mut().map(S::drain).collect(),
            time: &self.time,
            state: &mut self.state,
            until: until.unwrap_or(u64::MAX),
            look: Some(0),
            unseen: 1,
        }
    }

    /// Calls `action` with every record and every defect up to what is published now and the time `until`.
    pub fn for_each(&mut self, until: Option<u64>, mut action: impl FnMut(Result<Merged<'_>, StreamError<S::Error>>)) {
        let mut drain = self.drain(until);
        while let Some(merged) = drain.next() {
            action(merged);
        }
    }
}

/// The stream whose record comes next, and that record's time.
struct Turn {
    stream: usize,
    time: Option<u64>,
}

/// The records up to a time, in its order. Dropping it drops the drains of the streams, which gives back the space of what
/// was delivered.
pub struct MergeDrain<'m, S: Stream + 'm, F> {
    drains: Vec<S::Drain<'m>>,
    time: &'m F,
    state: &'m mut State,
    until: u64,
    /// The stream whose next record is not in the heap: the one that delivered last.
    look: Option<usize>,
    /// The first stream of which nothing was looked at yet.
    unseen: usize,
}

impl<'m, S, F> MergeDrain<'m, S, F>
where
    S: Stream + 'm,
    F: Fn(usize, &Record<'_>) -> Option<u64>,
{
    /// The next record, lent until the next call, or a defect of a stream.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Option<Result<Merged<'_>, StreamError<S::Error>>> {
        let Turn { stream, time } = match self.choose()? {
            Ok(turn) => turn,
            Err(error) => {
                self.state.stats.errors += 1;
                return Some(Err(error));
            }
        };
        match self.drains[stream].next()? {
            Ok(record) => {
                self.state.deliver(time);
                Some(Ok(Merged { stream, time, record }))
            }
            Err(error) => {
                self.state.stats.errors += 1;
                Some(Err(StreamError { stream, error }))
            }
        }
    }

    /// Finds the stream whose turn it is, and its record's time; `look` is then that stream.
    #[inline]
    fn choose(&mut self) -> Option<Result<Turn, StreamError<S::Error>>> {
        loop {
            let Some(stream) = self.look else {
                let &Reverse((time, stream)) = self.state.heap.peek()?;
                if time > self.until {
                    return None;
                }
                self.state.heap.pop();
                self.look = Some(stream);
                return Some(Ok(Turn { stream, time: Some(time) }));
            };
            let Some(next) = self.drains.get_mut(stream)?.peek() else {
                self.look = self.first_unseen();
                continue;
            };
            let time = match next {
                Ok(record) => (self.time)(stream, &record),
                Err(error) => return Some(Err(StreamError { stream, error })),
            };
            let Some(time) = time else {
                return Some(Ok(Turn { stream, time: None }));
            };
            if let Some(unseen) = self.first_unseen() {
                self.state.heap.push(Reverse((time, stream)));
                self.look = Some(unseen);
                continue;
            }
            let mut least = Reverse((time, stream));
            if let Some(mut top) = self.state.heap.peek_mut()
                && *top > least
            {
                // `Reverse` turns the order round: the heap's top is older.
                std::mem::swap(&mut *top, &mut least);
            }
            let Reverse((time, stream)) = least;
            self.look = Some(stream);
            return (time <= self.until).then_some(Ok(Turn { stream, time: Some(time) }));
        }
    }

    fn first_unseen(&mut self) -> Option<usize> {
        let unseen = self.unseen;
        self.unseen += usize::from(unseen < self.drains.len());
        (unseen < self.drains.len()).then_some(unseen)
    }
}
