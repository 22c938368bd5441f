//! The records of a ring image.

use crate::record::{ByteOrder, Header, Misc, RecordType};
use crate::replay::chunks::{CHUNK, Chunks, Place};
use crate::replay::error::ReadError;
use crate::replay::scan::Found;
use crate::ring::{Consumer, ReadError as RingError, RecordHeader};

/// Copies the records of a ring image into chunks.
pub(crate) struct RingScanner {
    consumer: Consumer,
    /// That of the records' bodies.
    order: ByteOrder,
    chunk: Option<u32>,
    at: usize,
    failed: Option<RingError>,
    has_ended: bool,
}

impl RingScanner {
    pub(crate) fn new(consumer: Consumer, order: ByteOrder) -> Self {
        Self { consumer, order, chunk: None, at: 0, failed: None, has_ended: false }
    }

    pub(crate) fn next(&mut self, chunks: &mut Chunks) -> Result<Option<Found>, ReadError> {
        loop {
            if let Some(chunk) = self.chunk {
                let rest = chunks.filled(chunk).get(self.at..).unwrap_or_default();
                if let Some(Header { type_, size, .. }) = Header::from_bytes(rest, self.order) {
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
                    if let Some(header) = into.first_chunk_mut() {
                        *header = in_order(record.header(), self.order);
                    }
                    chunks.fill(chunk, bytes.len(), record.position(), true);
                }
            }
            drain.next();
        }
    }
}

/// A header of a ring, which is in this machine's byte order, in that of the body behind it.
pub(crate) fn in_order(header: RecordHeader, order: ByteOrder) -> [u8; Header::SIZE] {
    let RecordHeader { type_, misc, size } = header;
    Header { type_: RecordType(type_), misc: Misc::from_bits_retain(misc), size }.to_bytes(order)
}

/// The byte order of the bodies of a ring's records.
pub(crate) fn order_of(consumer: &Consumer) -> ByteOrder {
    match (consumer.description().is_some_and(|description| description.swapped), ByteOrder::NATIVE) {
        (false, native) => native,
        (true, ByteOrder::Little) => ByteOrder::Big,
        (true, ByteOrder::Big) => ByteOrder::Little,
    }
}
