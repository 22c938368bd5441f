//! One sequence of records of a recording, in the order that is asked for.

use crate::record::RecordType;
use crate::replay::chunks::{CHUNK, Chunks, Place};
use crate::replay::error::{ReadError, Warning};
use crate::replay::metadata::{Form, Metadata};
use crate::replay::order::{Order, OrderStats, Queue};
use crate::replay::ring_image::RingScanner;
use crate::replay::scan::{Found, Scanner};
use std::io;

/// Where records come from.
pub(crate) enum Source {
    Bytes(Scanner),
    Ring(RingScanner),
}

impl Source {
    #[inline]
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
    /// None: in the order of the recording.
    queue: Option<Queue>,
    /// Bytes that may wait.
    window: usize,
    current: Option<Current>,
    /// What comes when all that is ready has gone out.
    then: Option<Then>,
    has_ended: bool,
}

/// The record that is lent.
#[derive(Clone, Copy)]
pub(crate) struct Current {
    pub(crate) place: Place,
    pub(crate) size: u16,
    pub(crate) time: Option<u64>,
}

impl Current {
    fn new(Found { place, size, .. }: Found, time: Option<u64>) -> Self {
        Self { place, size, time }
    }
}

enum Then {
    Record(Current),
    Error(ReadError),
}

impl Part {
    pub(crate) fn new(source: Source, order: Order) -> Self {
        let (queue, window) = match order {
            Order::Recorded => (None, 0),
            Order::Time { window } => (Some(Queue::default()), window),
        };
        Self { source, queue, window, current: None, then: None, has_ended: false }
    }

    /// The record that was found last.
    #[inline]
    pub(crate) fn current(&self) -> Option<Current> {
        self.current
    }

    pub(crate) fn order_stats(&self) -> OrderStats {
        self.queue.as_ref().map(|queue| queue.stats).unwrap_or_default()
    }

    /// Goes to the next record, and gives its time.
    #[inline]
    pub(crate) fn advance(
        &mut self,
        chunks: &mut Chunks,
        metadata: &mut Metadata,
    ) -> Option<Result<Option<u64>, ReadError>> {
        if let Some(last) = self.current.take() {
            chunks.release(last.place.chunk);
        }
        loop {
            if let Some(queue) = &mut self.queue
                && let Some(waiting) = queue.pop()
            {
                // Held since it was queued.
                let (place, time) = (waiting.place, Some(waiting.time));
                self.current = Some(Current { place, size: chunks.size(place, metadata.order()), time });
                return Some(Ok(time));
            }
            match self.then.take() {
                Some(Then::Record(current)) => {
                    self.current = Some(current);
                    return Some(Ok(current.time));
                }
                Some(Then::Error(error)) => return Some(Err(error)),
                None if self.has_ended => return None,
                None => {}
            }
            match self.scan(chunks, metadata) {
                Ok(Some((found, time))) => {
                    let current = Current::new(found, time);
                    chunks.hold(current.place.chunk);
                    match &mut self.queue {
                        Some(queue) if found.type_ == RecordType::FINISHED_ROUND => {
                            queue.end_round();
                            self.then = Some(Then::Record(current));
                        }
                        _ => {
                            self.current = Some(current);
                            return Some(Ok(current.time));
                        }
                    }
                }
                Ok(None) => {}
                Err(error) => self.then = Some(Then::Error(error)),
            }
        }
    }

    /// Scans up to a record that does not wait, or until others are ready.
    fn scan(
        &mut self,
        chunks: &mut Chunks,
        metadata: &mut Metadata,
    ) -> Result<Option<(Found, Option<u64>)>, ReadError> {
        let is_pipe = metadata.form() == Form::Pipe;
        loop {
            let found = match self.source.next(chunks) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    self.has_ended = true;
                    if let Source::Bytes(scanner) = &mut self.source
                        && let Some((position, left)) = scanner.take_partial()
                    {
                        metadata.warn(Warning::Partial { position, left });
                    }
                    if let Some(queue) = &mut self.queue {
                        queue.end();
                    }
                    return Ok(None);
                }
                Err(error) => {
                    // What stands before the defect comes before it.
                    if let Some(queue) = &mut self.queue {
                        queue.end();
                    }
                    return Err(error);
                }
            };
            let bytes = chunks.bytes(found.place, found.size.into());
            if !found.type_.is_kernel() {
                if is_pipe {
                    metadata.learn(bytes, chunks.position(found.place));
                }
                return Ok(Some((found, None)));
            }
            let Some(queue) = &mut self.queue else { return Ok(Some((found, None))) };
            let time = metadata.decoder().sampled_time(bytes);
            match time {
                None | Some(0 | u64::MAX) => return Ok(Some((found, time))),
                Some(time) => {
                    queue.push(time, found.place);
                    chunks.hold(found.place.chunk);
                    if chunks.used().saturating_mul(CHUNK).saturating_add(queue.memory()) > self.window {
                        queue.halve();
                        return Ok(None);
                    }
                }
            }
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
