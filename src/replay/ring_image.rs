//! The records of a ring image.

use crate::record::{ByteOrder, Header};
use crate::replay::chunks::{CHUNK, Chunks, Place};
use crate::replay::error::ReadError;
use crate::replay::scan::Found;
use crate::ring::{Consumer, ReadError as RingError};

/// Copies the records of a ring image into chunks.
pub(crate) struct RingScanner {
    consumer: Consumer,
    chunk: Option<u32>,
    at: usize,
    failed: Option<RingError>,
    has_ended: bool,
}

impl RingScanner {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self { consumer, chunk: None, at: 0, failed: None, has_ended: false }
    }

    pub(crate) fn next(&mut self, chunks: &mut Chunks) -> Result<Option<Found>, ReadError> {
        loop {
            if let Some(chunk) = self.chunk {
                let rest = chunks.filled(chunk).get(self.at..).unwrap_or_default();
                // The header in the ring is this machine's.
                if let Some(Header { type_, size, .. }) = Header::from_bytes(rest, ByteOrder::NATIVE) {
                    let place = Place { chunk, start: self.at as u32 };
                    self.at += usize::from(size);
                    return Ok(Some(Found { place, size, type_ }));
                }
            }
            if let Some(error) = self.failed.take() {
                return Err(error.into());
            }
            if self.has_ended {
                return Ok(None);
            }
            self.fill(chunks);
        }
    }

    /// Copies as many records as a chunk takes, up to a defect.
    fn fill(&mut self, chunks: &mut Chunks) {
        if let Some(chunk) = self.chunk.take() {
            chunks.release(chunk);
        }
        let chunk = chunks.take();
        (self.chunk, self.at) = (Some(chunk), 0);
        let mut drain = self.consumer.drain();
        loop {
            match drain.peek() {
                None => {
                    self.has_ended = true;
                    return;
                }
                Some(Err(error)) => {
                    self.failed = Some(error);
                    return;
                }
                Some(Ok(record)) => {
                    let bytes = record.bytes();
                    let Some(into) = chunks.rest_mut(chunk).get_mut(..bytes.len()) else {
                        debug_assert!(bytes.len() < CHUNK);
                        return;
                    };
                    into.copy_from_slice(bytes);
                    chunks.fill(chunk, bytes.len(), record.position(), true);
                }
            }
            drain.next();
        }
    }
}
