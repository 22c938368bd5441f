//! The pages of a ring and what stands in them.

use super::source::PageReader;
use super::walk::{Span, What, step};
use super::{InspectError, Inspection};
use crate::ring::layout::before;
use crate::ring::{Mode, Padding, ReadErrorKind};
use std::ops::Range;

/// Where a record stands between its producer and its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordState {
    /// Published, and a consumer that enters now gets it.
    Unread,
    /// Given back by the consumer of a lossless ring, and not overwritten yet.
    Read,
    /// Committed behind a reservation that is still open, so not published.
    Unpublished,
}

/// What some bytes of a ring are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentKind {
    /// A record.
    Record {
        /// Its type: `PERF_RECORD_*`, or the producer's own.
        type_: u32,
        /// Its misc bits.
        misc: u16,
        /// Who has it.
        state: RecordState,
    },
    /// The oldest record of a ring that overwrites backward: the newest ones have overwritten its end.
    Torn {
        /// Its type.
        type_: u32,
        /// Its misc bits.
        misc: u16,
        /// The size that it had.
        size: u16,
    },
    /// A gap at a granule's end, or a padding record: a discarded reservation, say.
    Padding(Padding),
    /// Reserved and not committed; or a reservation at the head that was given up, the bytes of which nobody has used since.
    Open,
    /// No record that is known of: free to be written, or lost to the next one that is.
    Free {
        /// Whether there are bytes that are not zero, of records that were here before.
        remains: bool,
    },
    /// Published, and not what it must be; or given up to the producer while the ring was inspected.
    Damaged(ReadErrorKind),
}

/// A part of a page that is one thing, or a piece of one that crosses the page's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// What it is.
    pub kind: SegmentKind,
    /// The free-running position of its first byte in this page.
    pub position: u64,
    /// Bytes of it in this page.
    pub len: u64,
    /// The position at which the whole starts: before this page's where a record goes on in it.
    pub whole_position: u64,
    /// Bytes in the whole.
    pub whole_len: u64,
}

impl Segment {
    /// Whether the whole starts with this piece.
    pub fn is_first(&self) -> bool {
        self.position == self.whole_position
    }

    /// Whether the whole ends with this piece.
    pub fn is_last(&self) -> bool {
        self.position.wrapping_add(self.len) == self.whole_position.wrapping_add(self.whole_len)
    }
}

/// A page of a ring: a granule, at its place in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// Its number in the data area, from 0.
    pub index: u64,
    /// Bytes in it.
    pub len: u64,
    /// What stands in it: segments that follow on each other from its first byte to its last.
    pub segments: Vec<Segment>,
    /// Where in it `data_head` points.
    pub head: Option<u64>,
    /// Where in it `data_tail` points, if that is a position of what is in the ring: in rings that overwrite it is where
    /// they started.
    pub tail: Option<u64>,
}

impl Page {
    /// The free-running position of the page's first byte.
    pub fn position(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.position)
    }
}

/// The pages of a ring in the order of memory; ends after an error.
#[derive(Debug)]
pub struct Pages<'a> {
    inspection: &'a Inspection<'a>,
    reader: PageReader<'a>,
    next: u64,
    first: u64,
    end: u64,
    /// What goes on from the page before, and the region that it is of.
    carried: Option<(usize, Span)>,
    entered: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(inspection: &'a Inspection<'a>, pages: Range<u64>) -> Self {
        let Inspection { bytes, description, geometry, .. } = inspection;
        let end = pages.end.min(inspection.page_count());
        let first = pages.start.min(end);
        Self {
            inspection,
            reader: PageReader::new(bytes, description, *geometry),
            // Only in a free ring do records cross pages.
            next: if geometry.confined() || first == end { first } else { 0 },
            first,
            end,
            carried: None,
            entered: geometry.confined() || first == end,
        }
    }

    /// Finds what crosses the end of the data area, and so is in the first page.
    fn enter(&mut self) -> Result<(), InspectError> {
        let regions = &self.inspection.regions;
        let Some((index, wrap)) = regions.wrapping(self.inspection.geometry.size()) else { return Ok(()) };
        let Some(region) = regions.get(index) else { return Ok(()) };
        let mut at = region.from;
        while before(at, wrap) {
            self.reader.load(at)?;
            let span = step(&self.reader, region, at);
            at = span.end();
            self.carried = (at != wrap).then_some((index, span));
        }
        Ok(())
    }

    fn page(&mut self, index: u64) -> Result<Page, InspectError> {
        let Inspection { geometry, regions, description, .. } = self.inspection;
        let (size, len) = (geometry.size(), geometry.granule());
        let offset = index * len;
        let (base, base_offset) = (regions.base, geometry.offset(regions.base) as u64);
        self.reader.load(offset)?;
        let mut page = Page { index, len, segments: Vec::new(), head: None, tail: None };
        // Where the lowest position lies in the page, what is before it is a lap younger.
        let seam = base_offset.wrapping_sub(offset);
        if 0 < seam && seam < len {
            self.fill(&mut page, base.wrapping_add(size - seam), seam);
            self.fill(&mut page, base, len - seam);
        } else {
            self.fill(&mut page, base.wrapping_add(offset.wrapping_sub(base_offset) & (size - 1)), len);
        }
        let within = |position: u64| {
            let at = (geometry.offset(position) as u64).wrapping_sub(offset);
            (at < len).then_some(at)
        };
        page.head = within(description.data_head);
        let in_ring = description.data_tail.wrapping_sub(base) <= size;
        page.tail = within(description.data_tail).filter(|_| in_ring || description.mode == Mode::Lossless);
        Ok(page)
    }

    /// Adds what stands in `len` bytes from `position` on, all in the page that is there.
    fn fill(&mut self, page: &mut Page, position: u64, len: u64) {
        let regions = &self.inspection.regions;
        for (index, from, to) in regions.parts(position, len) {
            let Some(region) = regions.get(index) else { continue };
            let mut at = from;
            while at != to {
                let span = match self.carried.take() {
                    Some((of, span)) if of == index && at.wrapping_sub(span.start) < span.len => span,
                    _ => step(&self.reader, region, at),
                };
                let (left, room) = (span.end().wrapping_sub(at), to.wrapping_sub(at));
                let piece = left.min(room);
                page.segments.push(self.segment(&span, at, piece));
                if left > room {
                    self.carried = Some((index, span));
                }
                at = at.wrapping_add(piece);
            }
        }
    }

    fn segment(&self, span: &Span, position: u64, len: u64) -> Segment {
        let kind = match span.what {
            What::Record { type_, misc, state } => SegmentKind::Record { type_, misc, state },
            What::Torn { type_, misc, size } => SegmentKind::Torn { type_, misc, size },
            What::Padding(padding) => SegmentKind::Padding(padding),
            What::Open => SegmentKind::Open,
            What::Damaged(reason) => SegmentKind::Damaged(reason),
            What::Free => {
                let bytes = self.reader.rest(position);
                let bytes = bytes.get(..len as usize).unwrap_or(bytes);
                let remains = bytes.iter().any(|byte| *byte != 0);
                // Each page has its own: there is no whole.
                let kind = SegmentKind::Free { remains };
                return Segment { kind, position, len, whole_position: position, whole_len: len };
            }
        };
        Segment { kind, position, len, whole_position: span.start, whole_len: span.len }
    }

    fn advance(&mut self) -> Result<Option<Page>, InspectError> {
        if !self.entered {
            self.enter()?;
            self.entered = true;
        }
        while self.next < self.end {
            let page = self.page(self.next)?;
            self.next += 1;
            if page.index >= self.first {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Page, InspectError>;

    fn next(&mut self) -> Option<Self::Item> {
        let page = self.advance().transpose();
        if let Some(Err(_)) = &page {
            (self.next, self.entered) = (self.end, true);
        }
        page
    }
}

impl std::iter::FusedIterator for Pages<'_> {}
