//! A recording that writes a ring.

use crate::record::{ByteOrder, Header, RecordType};
use crate::replay::error::ReadError;
use crate::replay::records::{Entry, Records};
use crate::replay::ring_image::in_order;
use crate::ring::{self, BeginError, Producer, Ring, SetupError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// What ring a recording is replayed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Shape {
    /// Data pages, a power of two; none: as many as any record needs.
    pub pages: Option<usize>,
    /// Whether no record crosses a granule's end.
    pub confined: bool,
    /// Bytes in a granule of a confined ring; none: a page, or 64 KiB where the pages are not chosen either.
    pub granule: Option<usize>,
}

impl Default for Shape {
    /// Confined, and large enough for any record.
    fn default() -> Self {
        Self::auto()
    }
}

impl Shape {
    /// Confined to granules of 64 KiB, of which there are four: any record fits.
    pub fn auto() -> Self {
        Self { pages: None, confined: true, granule: None }
    }

    /// Confined to pages, of which there are so many.
    pub fn confined(pages: usize) -> Self {
        Self { pages: Some(pages), confined: true, granule: None }
    }

    /// Records cross pages, and wrap.
    pub fn free(pages: usize) -> Self {
        Self { pages: Some(pages), confined: false, granule: None }
    }

    /// Of as many pages, but records cross them, and wrap.
    #[must_use]
    pub fn unconfined(self) -> Self {
        Self { confined: false, ..self }
    }

    /// Confined to granules of so many bytes.
    #[must_use]
    pub fn granule(mut self, bytes: usize) -> Self {
        self.granule = Some(bytes);
        self
    }

    /// That a record does not fit, and what a ring of the same kind would have to be.
    pub(crate) fn too_large(self, position: u64, size: usize, source: BeginError) -> ReplayError {
        let page_size = ring::page_size();
        let (pages, granule) = match self.confined {
            true => {
                let granule = size.next_power_of_two().max(page_size);
                (4 * granule / page_size, granule)
            }
            // One byte stays free.
            false => ((size + 1).next_power_of_two().max(page_size) / page_size, page_size),
        };
        ReplayError::TooLarge { position, size, pages, granule, source }
    }

    /// Reads on to the first record for a ring: so all events are known.
    pub(crate) fn find_first(
        self,
        records: &mut Records,
        stats: &mut ReplayStats,
        beside: &mut impl FnMut(&Entry<'_>),
    ) -> Result<bool, ReplayError> {
        while let Some(entry) = records.next() {
            let entry = entry?;
            if goes_through(&entry) {
                return Ok(true);
            }
            stats.beside += 1;
            beside(&entry);
        }
        Ok(false)
    }

    /// A ring of this shape for the records of a recording, with its events: the attrs, the ids, the byte order.
    pub(crate) fn builder(self, records: &Records) -> ring::Builder {
        let page_size = ring::page_size();
        let pages = self.pages.unwrap_or((256 << 10) / page_size);
        let granule = match (self.pages, self.granule) {
            (_, Some(granule)) => Some(granule),
            (None, None) => Some(64 << 10),
            (Some(_), None) => None,
        };
        let ring = match (self.confined, granule) {
            (true, Some(granule)) => Ring::confined(pages).granule(granule),
            (true, None) => Ring::confined(pages),
            (false, _) => Ring::free(pages),
        };
        let metadata = records.metadata();
        let ring = metadata
            .events()
            .iter()
            .fold(ring, |ring, event| ring.attr(event.attr.to_bytes(ByteOrder::NATIVE), event.ids.clone()));
        // Nothing is lost, so nothing is reported.
        ring.swapped(!metadata.order().is_native()).lost_record(None)
    }
}

/// Why a replay does not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The recording itself.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no ring of the shape that was asked for.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A record does not fit into the ring, even when that is empty.
    #[error(
        "at {position}: a record of {size} bytes does not fit into the ring ({source}): that takes {pages} pages, with granules of {granule} bytes"
    )]
    TooLarge {
        /// Where it stands in the recording.
        position: u64,
        /// Its size.
        size: usize,
        /// Pages that a ring of the same kind has to have.
        pages: usize,
        /// Bytes that its granules have to have.
        granule: usize,
        /// What the ring says.
        #[source]
        source: BeginError,
    },
    /// The image of a ring cannot be written.
    #[error(transparent)]
    Image(#[from] ring::ImageError),
    /// The ring takes nothing any more.
    #[error(transparent)]
    Ring(BeginError),
}

/// What a [`Replay`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayStats {
    /// Records that went through the ring.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that went beside it.
    pub beside: u64,
    /// How often the ring was full.
    pub full: u64,
    /// Defects in the recording.
    pub errors: u64,
}

/// Why [`Replay::step`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The ring is full: the consumer has to read.
    Full,
    /// The next record is not due yet, but after this.
    NotDue(Duration),
    /// As many records were written as were asked for.
    More,
    /// There is nothing more.
    Done,
}

/// A recording as the producer of a ring.
///
/// The kernel's records, types 1 to 63 of a size that a ring can have, go through the ring. All others, those that perf adds,
/// are handed over beside it, in their turn. Nothing is lost: when the ring is full the replay waits.
///
/// What the consumer sees is what the recording holds, byte for byte; of the recording of a machine of the other byte order
/// the 8 bytes of the header are in this one's, as the ring needs them, and
/// [`Description::swapped`](ring::Description::swapped) says so. [`Metadata::of_ring`](crate::replay::Metadata::of_ring) gives its decoder, and [`original`] turns them round.
///
/// ```
/// use perfring::replay::{Order, Recording, Replay, Shape, Step};
/// # use perfring::ring::{RecordHeader, Ring};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("image");
/// # let mut image = Ring::confined(4).write_image(std::fs::File::create(&path)?)?;
/// # for number in 0..1000_u64 {
/// #     image.record(RecordHeader { type_: 9, misc: 0, size: 16 }, &number.to_ne_bytes())?;
/// # }
/// # image.finish()?;
/// let records = Recording::open(&path)?.records(Order::default());
/// let (mut replay, ring) = Replay::start(records, Shape::confined(8), |ring| ring.private(), |_beside| {})?;
/// let mut consumer = ring.consumer()?;
/// let mut seen = 0;
/// loop {
///     let step = replay.step(usize::MAX)?;
///     seen += consumer.for_each(|record| assert_eq!(record.header().type_, 9))?;
///     if step == Step::Done {
///         break;
///     }
/// }
/// assert_eq!(seen, 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Replay<B> {
    records: Records,
    beside: B,
    producer: Producer,
    shape: Shape,
    /// Whether the record that the recording has come to is still to be written.
    has_next: bool,
    pace: Option<Pace>,
    stats: ReplayStats,
}

/// When records are due.
struct Pace {
    speed: f64,
    /// The first record's time, and when it was written.
    start: Option<(u64, Instant)>,
}

impl Pace {
    fn wait(&mut self, time: Option<u64>) -> Option<Duration> {
        let time = time.filter(|time| !matches!(*time, 0 | u64::MAX))?;
        let (first, start) = *self.start.get_or_insert_with(|| (time, Instant::now()));
        let after = time.saturating_sub(first) as f64 / self.speed;
        let after = Duration::try_from_secs_f64(after / 1e9).unwrap_or(Duration::MAX);
        let wait = after.saturating_sub(start.elapsed());
        (!wait.is_zero()).then_some(wait)
    }
}

impl<B: FnMut(&Entry<'_>)> Replay<B> {
    /// Reads on to the first record for a ring, so that all events are known, and makes the ring: `make` gets its
    /// description, to choose the memory (and the granule, the wake-ups) from it. What goes beside the ring is given to
    /// `beside`.
    ///
    /// # Errors
    ///
    /// [`ReplayError`]
    pub fn start(
        mut records: Records,
        shape: Shape,
        make: impl FnOnce(ring::Builder) -> Result<Ring, SetupError>,
        mut beside: B,
    ) -> Result<(Self, Ring), ReplayError> {
        let mut stats = ReplayStats::default();
        let has_next = shape.find_first(&mut records, &mut stats, &mut beside)?;
        let ring = make(shape.builder(&records))?;
        let producer = ring.producer()?;
        Ok((Self { records, beside, producer, shape, has_next, pace: None, stats }, ring))
    }

    /// Writes each record when its time has come, from the first one on: `speed` times as fast as they were recorded. Without
    /// this, as fast as the ring takes them. A speed that is not a positive number is as none. A record whose time is far ahead
    /// is waited for, however long that takes: [`Step::NotDue`] says it.
    #[must_use]
    pub fn speed(mut self, speed: f64) -> Self {
        self.pace = (speed.is_finite() && speed > 0.0).then_some(Pace { speed, start: None });
        self
    }

    /// Writes up to `most` records: those that are due, as long as the ring has room for them. Says why it stopped.
    ///
    /// # Errors
    ///
    /// [`ReplayError`]. After a [`Read`](ReplayError::Read) it can go on behind the defect; a record that is too large is
    /// left out by the next step.
    pub fn step(&mut self, most: usize) -> Result<Step, ReplayError> {
        let mut written = 0;
        let stop = loop {
            if written == most {
                break Step::More;
            }
            let entry = match self.has_next {
                true => self.records.current(),
                false => match self.records.next() {
                    None => None,
                    Some(Ok(entry)) => Some(entry),
                    Some(Err(error)) => {
                        self.stats.errors += 1;
                        self.producer.flush();
                        return Err(error.into());
                    }
                },
            };
            let Some(entry) = entry else { break Step::Done };
            if let Some(pace) = &mut self.pace
                && let Some(wait) = pace.wait(entry.time())
            {
                self.has_next = true;
                break Step::NotDue(wait);
            }
            if !goes_through(&entry) {
                self.has_next = false;
                self.stats.beside += 1;
                (self.beside)(&entry);
                continue;
            }
            let size = entry.bytes().len();
            self.has_next = false;
            let room = match self.shape.confined {
                true => self.producer.has_room_in_page(size),
                false => self.producer.has_room_for(size),
            };
            match room {
                Ok(true) => {}
                Ok(false) | Err(BeginError::CorruptTail { .. }) => {
                    self.has_next = true;
                    self.stats.full += 1;
                    break Step::Full;
                }
                Err(source @ (BeginError::OverGranule { .. } | BeginError::OverRing { .. })) => {
                    return Err(self.shape.too_large(entry.position(), size, source));
                }
                Err(error) => return Err(ReplayError::Ring(error)),
            }
            Self::write(&self.producer, self.shape.confined, &entry).map_err(ReplayError::Ring)?;
            self.stats.records += 1;
            self.stats.bytes += size as u64;
            written += 1;
        };
        // What was written is not to wait for a watermark while this does.
        self.producer.flush();
        Ok(stop)
    }

    #[inline]
    fn write(producer: &Producer, is_confined: bool, entry: &Entry<'_>) -> Result<(), BeginError> {
        let (header, body) = (entry.header(), entry.bytes().get(Header::SIZE..).unwrap_or_default());
        let (type_, misc) = (header.type_.0, header.misc.bits());
        if is_confined {
            let mut record = producer.begin_forward_in_page(entry.bytes().len())?;
            record.put(body);
            record.commit(type_, misc);
        } else {
            let mut record = producer.begin_forward(entry.bytes().len())?;
            record.put(body);
            record.commit(type_, misc);
        }
        Ok(())
    }

    /// Writes all records, and sleeps while the ring is full or the next one is not due. `wait` is asked before each sleep,
    /// whether to go on.
    ///
    /// # Errors
    ///
    /// [`ReplayError`]
    pub fn run(&mut self, mut wait: impl FnMut() -> bool) -> Result<ReplayStats, ReplayError> {
        /// How soon a ring that is full is looked at again.
        const LOOK_AGAIN: Duration = Duration::from_micros(50);
        /// The longest sleep in one go.
        const LONGEST: Duration = Duration::from_millis(100);
        loop {
            let sleep = match self.step(usize::MAX)? {
                Step::Done => return Ok(self.stats),
                Step::More => continue,
                Step::Full => LOOK_AGAIN,
                Step::NotDue(duration) => duration.min(LONGEST),
            };
            if !wait() {
                return Ok(self.stats);
            }
            std::thread::sleep(sleep);
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
}

impl<B> std::fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("shape", &self.shape).field("stats", &self.stats).finish_non_exhaustive()
    }
}

/// Whether a record goes through a ring, or beside it.
pub(crate) fn goes_through(entry: &Entry<'_>) -> bool {
    let type_ = entry.type_();
    type_.is_kernel() && type_ != RecordType(0) && entry.bytes().len().is_multiple_of(8)
}

/// The record of a ring as it stood in the recording that was replayed: with the header in the recording's byte order.
/// `out` is emptied first.
pub fn original(record: &ring::Record<'_>, order: ByteOrder, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&in_order(record.header(), order));
    out.extend_from_slice(record.body());
}
