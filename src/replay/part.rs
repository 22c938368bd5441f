//! One sequence of records of a recording, in the order that is asked for.

use crate::record::RecordType;
use crate::replay::chunks::{CHUNK, Chunks};
use crate::replay::error::{ReadError, Warning};
use crate::replay::metadata::{Form, Metadata};
use crate::replay::order::{Order, OrderStats, Queue, Waiting};
use crate::replay::ring_image::RingScanner;
use crate::replay::scan::{Found, Scanner};
use std::io;

/// Where records come from.
pub(crate) enum Source {
    Bytes(Scanner),
    Ring(RingScanner),
}

impl Source {
    fn next(&mut self, chunks: &mut Chunks) -> Result<Option<Found>, ReadError> {
        match self {
            Self::Bytes(scanner) => scanner.next(chunks),
            Self::Ring(scanner) => scanner.next(chunks),
        }
    }
}

/// The data of a file, one of the files of a directory, a stream, or a ring.
pub(crate) struct Part {
    source: Source,
    queue: Queue,
    /// Bytes that may wait; none: in the order of the recording.
    window: Option<usize>,
    /// Bytes of chunks that all parts may be filling: two each, where records are compressed.
    filling: usize,
    current: Option<Waiting>,
    /// What comes when all that is ready has gone out.
    then: Option<Box<Then>>,
    has_ended: bool,
}

enum Then {
    Record(Waiting),
    Error(ReadError),
}

/// Records that are looked at in one go where none has to wait.
const RUN: usize = 512;

impl Part {
    pub(crate) fn new(source: Source, order: Order, parts: usize) -> Self {
        let window = match order {
            Order::Recorded => None,
            Order::Time { window } => Some(window),
        };
        let filling = parts.saturating_mul(2 * CHUNK);
        Self { source, queue: Queue::default(), window, filling, current: None, then: None, has_ended: false }
    }

    /// The record that was found last.
    #[inline]
    pub(crate) fn current(&self) -> Option<Waiting> {
        self.current
    }

    pub(crate) fn order_stats(&self) -> OrderStats {
        self.queue.stats
    }

    /// Goes to the next record, if one is ready.
    #[inline]
    pub(crate) fn pop(&mut self, chunks: &mut Chunks) -> Option<Waiting> {
        // Held since it was queued.
        let waiting = self.queue.pop()?;
        if let Some(last) = self.current.replace(waiting) {
            chunks.release(last.place.chunk);
        }
        Some(waiting)
    }

    /// Takes records that are ready, at most `most`: the caller releases their chunks.
    pub(crate) fn take_ready(&mut self, chunks: &mut Chunks, most: usize) -> &[Waiting] {
        if let Some(last) = self.current.take() {
            chunks.release(last.place.chunk);
        }
        self.queue.take_ready(most)
    }

    /// Goes to the next record.
    pub(crate) fn advance(
        &mut self,
        chunks: &mut Chunks,
        metadata: &mut Metadata,
    ) -> Option<Result<Waiting, ReadError>> {
        loop {
            if let Some(waiting) = self.pop(chunks) {
                return Some(Ok(waiting));
            }
            if let Some(last) = self.current.take() {
                chunks.release(last.place.chunk);
            }
            if let Some(then) = self.then.take() {
                return Some(match *then {
                    Then::Record(waiting) => {
                        self.current = Some(waiting);
                        Ok(waiting)
                    }
                    Then::Error(error) => Err(error),
                });
            }
            if self.has_ended {
                return None;
            }
            self.queue.forget();
            if self.scan_run(chunks, metadata) {
                continue;
            }
            if let Err(error) = self.scan_one(chunks, metadata) {
                // What stands before the defect comes before it.
                self.queue.end();
                self.then = Some(Box::new(Then::Error(error)));
            }
        }
    }

    /// Scans the kernel's records that are in memory. Whether there were any.
    fn scan_run(&mut self, chunks: &mut Chunks, metadata: &Metadata) -> bool {
        let Source::Bytes(scanner) = &mut self.source else { return false };
        let queue = &mut self.queue;
        let run = match self.window {
            None => {
                let mut left = RUN;
                scanner.run(chunks, |place, _| {
                    let goes_on = left > 0;
                    if goes_on {
                        left -= 1;
                        queue.push_ready(place);
                    }
                    goes_on
                })
            }
            Some(_) => {
                let decoder = metadata.decoder();
                scanner.run(chunks, |place, record| {
                    let time = decoder.sampled_time(record).filter(|time| !matches!(*time, 0 | Waiting::UNKNOWN));
                    if let Some(time) = time {
                        queue.push(time, place);
                    }
                    time.is_some()
                })
            }
        };
        let Some((chunk, count)) = run else { return false };
        chunks.hold(chunk, count);
        self.keep_bound(chunks);
        true
    }

    /// Scans a record of any kind, or finds the end.
    fn scan_one(&mut self, chunks: &mut Chunks, metadata: &mut Metadata) -> Result<(), ReadError> {
        let Some(Found { place, size, type_ }) = self.source.next(chunks)? else {
            self.has_ended = true;
            if let Source::Bytes(scanner) = &mut self.source
                && let Some((position, left)) = scanner.take_partial()
            {
                metadata.warn(Warning::Partial { position, left });
            }
            self.queue.end();
            return Ok(());
        };
        chunks.hold(place.chunk, 1);
        let bytes = chunks.bytes(place, size.into());
        let mut waiting = Waiting { time: Waiting::UNKNOWN, place };
        if !type_.is_kernel() {
            if metadata.form() == Form::Pipe {
                metadata.learn(bytes, chunks.position(place));
            }
            if type_ == RecordType::FINISHED_ROUND && self.window.is_some() {
                self.queue.end_round();
            }
        } else if self.window.is_some()
            && let Some(time) = metadata.decoder().sampled_time(bytes)
        {
            waiting.time = time;
            if waiting.is_ordered() {
                self.queue.push(time, place);
                self.keep_bound(chunks);
                return Ok(());
            }
        }
        // It does not wait; only behind what is ready.
        self.then = Some(Box::new(Then::Record(waiting)));
        Ok(())
    }

    /// Lets records go when too many wait.
    fn keep_bound(&mut self, chunks: &Chunks) {
        if let Some(window) = self.window
            && chunks.memory().saturating_add(self.queue.memory()) > window.saturating_add(self.filling)
        {
            // One record that stays holds a chunk: a few of those may not take all that there is.
            self.queue.halve((window.saturating_add(self.filling) / CHUNK / 4 * 3).max(1));
        }
    }

    /// Bytes left of what follows the last record and belongs to it.
    pub(crate) fn payload(&self) -> u64 {
        match &self.source {
            Source::Bytes(scanner) => scanner.payload(),
            Source::Ring(_) => 0,
        }
    }

    pub(crate) fn read_payload(&mut self, chunks: &mut Chunks, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::Bytes(scanner) => scanner.read_payload(chunks, into),
            Source::Ring(_) => Ok(0),
        }
    }
}
