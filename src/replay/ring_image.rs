//! Ring images, read and made.

use crate::record::{ByteOrder, Header, Misc, RecordType};
use crate::replay::chunks::{Chunks, Place};
use crate::replay::error::ReadError;
use crate::replay::producer::{ReplayError, ReplayStats, Shape, goes_through};
use crate::replay::records::Records;
use crate::replay::scan::Found;
use crate::ring::{
    BeginError, Consumer, Description, ImageError, ImageWriter, Mode, ReadError as RingError, RecordHeader,
};
use std::collections::VecDeque;
use std::fs::File;

/// Copies the records of a ring image into chunks.
pub(crate) struct RingScanner {
    consumer: Consumer,
    /// That of the records' bodies.
    order: ByteOrder,
    chunk: Option<u32>,
    at: usize,
    /// Chunks behind that one, of a ring that has to be read in one go.
    next: VecDeque<u32>,
    failed: Option<RingError>,
    has_ended: bool,
}

impl RingScanner {
    pub(crate) fn new(consumer: Consumer, order: ByteOrder) -> Self {
        Self { consumer, order, chunk: None, at: 0, next: VecDeque::new(), failed: None, has_ended: false }
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
            if let Some(next) = self.next.pop_front() {
                if let Some(chunk) = self.chunk.replace(next) {
                    chunks.release(chunk);
                }
                self.at = 0;
                continue;
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

    /// Copies as many records as a chunk takes, up to a defect. What a drain of a backward ring leaves is gone: of that all is
    /// copied.
    fn fill(&mut self, chunks: &mut Chunks) {
        if let Some(chunk) = self.chunk.take() {
            chunks.release(chunk);
        }
        let mut chunk = chunks.take();
        (self.chunk, self.at) = (Some(chunk), 0);
        let is_backward = self.consumer.mode() == Mode::OverwriteBackward;
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
                    if chunks.rest_mut(chunk).len() < bytes.len() {
                        if !is_backward {
                            return;
                        }
                        chunk = chunks.take();
                        self.next.push_back(chunk);
                    }
                    // The largest record fits into an empty chunk.
                    let Some(into) = chunks.rest_mut(chunk).get_mut(..bytes.len()) else { return };
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

/// Makes the image of a ring of a recording: of all its records that a ring can hold, unread.
///
/// ```no_run
/// use perfring::replay::{Order, Recording, RingImage, Shape};
///
/// let records = Recording::open("perf.data")?.records(Order::default());
/// let mut image = RingImage::start(records, Shape::auto(), std::fs::File::create("perf.ring")?)?;
/// while let Some(defect) = image.copy()? {
///     eprintln!("{defect}");
/// }
/// let (stats, description) = image.finish()?;
/// println!("{} records in {} bytes", stats.records, description.data_size);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RingImage {
    records: Records,
    image: ImageWriter,
    shape: Shape,
    /// Whether the record that the recording has come to is still to be written.
    has_next: bool,
    stats: ReplayStats,
}

impl RingImage {
    /// Starts an image in `file`; what it holds is lost. The pages of `shape` are the least that the ring will have.
    ///
    /// # Errors
    ///
    /// [`ReplayError`]
    pub fn start(mut records: Records, shape: Shape, file: File) -> Result<Self, ReplayError> {
        let mut stats = ReplayStats::default();
        let has_next = shape.find_first(&mut records, &mut stats, &mut |_| {})?;
        let image = shape.builder(&records).write_image(file)?;
        Ok(Self { records, image, shape, has_next, stats })
    }

    /// Copies up to the next defect of the recording, which it gives, or up to the end.
    ///
    /// # Errors
    ///
    /// [`ReplayError`]; behind a record that is too large the next call goes on.
    pub fn copy(&mut self) -> Result<Option<ReadError>, ReplayError> {
        loop {
            let entry = match std::mem::take(&mut self.has_next) {
                true => self.records.current(),
                false => match self.records.next() {
                    Some(Err(error)) => {
                        self.stats.errors += 1;
                        return Ok(Some(error));
                    }
                    next => next.and_then(Result::ok),
                },
            };
            let Some(entry) = entry else { return Ok(None) };
            if !goes_through(&entry) {
                self.stats.beside += 1;
                continue;
            }
            let (header, bytes) = (entry.header(), entry.bytes());
            let record = RecordHeader { type_: header.type_.0, misc: header.misc.bits(), size: header.size };
            match self.image.record(record, bytes.get(Header::SIZE..).unwrap_or_default()) {
                Ok(()) => {}
                Err(ImageError::Size { granule, .. }) => {
                    let size = bytes.len();
                    let source = BeginError::OverGranule { size, granule: granule as usize };
                    return Err(self.shape.too_large(entry.position(), size, source));
                }
                Err(error) => return Err(error.into()),
            }
            self.stats.records += 1;
            self.stats.bytes += bytes.len() as u64;
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> ReplayStats {
        self.stats
    }

    /// The recording.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Writes the header, without which there is no image, and says what it says.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Image`]
    pub fn finish(self) -> Result<(ReplayStats, Description), ReplayError> {
        Ok((self.stats, self.image.finish()?))
    }
}

impl std::fmt::Debug for RingImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingImage").field("image", &self.image).field("stats", &self.stats).finish_non_exhaustive()
    }
}
