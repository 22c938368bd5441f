//! The records of a recording, lent one by one.

use crate::record::{ByteOrder, DecodeError, Decoded, Decoder, Header, RecordType};
use crate::replay::chunks::Chunks;
use crate::replay::error::ReadError;
use crate::replay::metadata::Metadata;
use crate::replay::order::{Order, OrderStats};
use crate::replay::part::{Part, Source};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io;

/// A record of a recording, lent until the next one is asked for.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Where its first byte stands: in the file, in the stream, or as a position in the ring. Of a record that was
    /// compressed: where the record begins that holds its first byte.
    pub position: u64,
    /// In which of the files of a directory, in the order of their names, it stands; 0 otherwise.
    pub part: usize,
    /// Its time, by the clock of the recording, in nanoseconds.
    pub time: Option<u64>,
    header: Header,
    bytes: &'a [u8],
    decoder: &'a Decoder,
}

impl<'a> Entry<'a> {
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

    /// Its byte order.
    pub fn order(&self) -> ByteOrder {
        self.decoder.order()
    }

    /// The record, decoded.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] where it is damaged.
    #[inline]
    pub fn decode(&self) -> Result<Decoded<'a>, DecodeError> {
        self.decoder.decode(self.bytes)
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("position", &self.position)
            .field("part", &self.part)
            .field("time", &self.time)
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
}

impl Records {
    pub(crate) fn new(metadata: Metadata, sources: Vec<Source>, order: Order) -> Self {
        let parts: Vec<Part> = sources.into_iter().map(|source| Part::new(source, order)).collect();
        let behind = (0..parts.len()).rev().collect();
        Self { metadata, chunks: Chunks::default(), parts, order, heads: BinaryHeap::new(), behind, current: 0 }
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
        if let [part] = &mut *self.parts {
            match part.advance(&mut self.chunks, &mut self.metadata)? {
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        } else if let Err(error) = self.choose()? {
            return Some(Err(error));
        }
        self.current().map(Ok)
    }

    /// Goes to the next record of several parts.
    fn choose(&mut self) -> Option<Result<(), ReadError>> {
        while let Some(part) = self.behind.pop() {
            match self.parts.get_mut(part)?.advance(&mut self.chunks, &mut self.metadata) {
                None => {}
                Some(Ok(Some(time))) if self.order != Order::Recorded && !matches!(time, 0 | u64::MAX) => {
                    self.heads.push(Reverse((time, part)))
                }
                Some(result) => {
                    self.behind.push(part);
                    self.current = part;
                    return Some(result.map(|_| ()));
                }
            }
        }
        let Reverse((_, part)) = self.heads.pop()?;
        self.behind.push(part);
        self.current = part;
        Some(Ok(()))
    }

    /// The record that [`next`](Self::next) gave last.
    #[inline]
    pub fn current(&self) -> Option<Entry<'_>> {
        let current = self.parts.get(self.current)?.current()?;
        let place = current.place;
        let bytes = self.chunks.bytes(place, current.size.into());
        let header = Header::from_bytes(bytes, self.metadata.order())?;
        Some(Entry {
            position: self.chunks.position(place),
            part: self.current,
            time: current.time,
            header,
            bytes,
            decoder: self.metadata.decoder(),
        })
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
