//! What a ring's memory holds, page by page, without consuming anything.

mod marks;
mod pages;
mod regions;
mod source;
mod svg;
mod text;
mod walk;

pub use pages::{Page, Pages, RecordState, Segment, SegmentKind};

use super::describe::Description;
use super::error::AttachError;
use super::layout::Geometry;
use super::open::RingFds;
use regions::Regions;
use source::Bytes;
use std::io;
use std::ops::Range;
use std::path::Path;
use thiserror::Error;

/// Why a ring cannot be inspected, or not to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The header area is none of a ring.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The data area cannot be read, or ends early: it was truncated meanwhile.
    #[error("cannot read page {page} of the ring: {source}")]
    Read {
        /// The page, counted from 0.
        page: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// What was found cannot be written.
    #[error("cannot write what was found: {0}")]
    Write(#[source] io::Error),
}

/// A ring that is looked at: its memory as it lies there, what is unread, read, free or damaged. Nothing is consumed, mapped
/// or written.
///
/// A page here is a [granule](Description::granule). Pages are read one at a time, and nothing more is held. What a ring
/// says of itself is read once. While it is written on, unread records that have, or in a lossless ring may have, been
/// overwritten since are [`Damaged`](SegmentKind::Damaged) as [`Overwritten`](super::ReadErrorKind::Overwritten); outside
/// of what is unread there is what was found.
///
/// A free ring does not say where the records before its tail start, so they are seen as [read](RecordState::Read) only
/// until it comes round. Nor does a lossless ring say how far it is reserved: what follows on the head is taken to be, as
/// far as a reservation that is open ends.
///
/// ```
/// use perfring::ring::{Inspection, RecordState, Ring, SegmentKind};
///
/// let ring = Ring::confined(4).memfd()?;
/// let producer = ring.producer()?;
/// let mut record = producer.begin_forward_in_page(48)?;
/// record.body_mut().fill(7);
/// record.commit(9, 0);
///
/// let inspection = Inspection::of(&ring.fds()?)?;
/// let first = inspection.pages().next().expect("four pages")?;
/// assert_eq!(first.segments[0].kind, SegmentKind::Record { type_: 9, misc: 0, state: RecordState::Unread });
/// assert_eq!(first.segments[0].len, 48);
/// assert_eq!(first.segments[1].kind, SegmentKind::Free { remains: false });
///
/// let mut text = Vec::new();
/// inspection.write_text(0..4, |type_| format!("type {type_}"), &mut text)?;
/// assert!(String::from_utf8(text)?.contains("1 of type 9"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Inspection<'a> {
    bytes: Bytes<'a>,
    description: Description,
    geometry: Geometry,
    regions: Regions,
}

impl Inspection<'static> {
    /// Looks at a ring file, by pread(2) only.
    ///
    /// # Errors
    /// [`InspectError::Attach`]: no ring, truncated, positions that cannot be. [`InspectError::Read`]: it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, InspectError> {
        Self::new(Bytes::open(path.as_ref())?)
    }

    /// Looks at a ring in memfds. The descriptors are duplicated, and read by pread(2) only, so no seals are asked for.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of(fds: &RingFds) -> Result<Self, InspectError> {
        Self::new(Bytes::of(fds)?)
    }
}

impl<'a> Inspection<'a> {
    /// Looks at the image of a ring: its header area and its data area.
    ///
    /// # Errors
    /// As [`open`](Inspection::open).
    pub fn from_bytes(image: &'a [u8]) -> Result<Self, InspectError> {
        Self::new(Bytes::Image(image))
    }

    fn new(bytes: Bytes<'a>) -> Result<Self, InspectError> {
        let description = bytes.describe()?;
        let geometry = description.geometry().ok_or(AttachError::DataSize { found: description.data_size })?;
        let regions = Regions::find(&bytes, &description, geometry)?;
        Ok(Self { bytes, description, geometry, regions })
    }

    /// What the ring says of itself: mode, sizes, positions, losses.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Pages in the data area.
    pub fn page_count(&self) -> u64 {
        self.geometry.size() / self.geometry.granule()
    }

    /// All pages, in the order of memory.
    pub fn pages(&self) -> Pages<'_> {
        self.pages_in(0..self.page_count())
    }

    /// Some pages, in the order of memory; those that are not there are left out. In a free ring the pages before them have
    /// to be read, too, to know where records start.
    pub fn pages_in(&self, pages: Range<u64>) -> Pages<'_> {
        Pages::new(self, pages)
    }
}
