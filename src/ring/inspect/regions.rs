//! Which bytes of the data area are unread, read, reserved or free.

use super::InspectError;
use super::source::{Bytes, PageReader};
use super::walk::{What, step};
use crate::ring::Mode;
use crate::ring::describe::Description;
use crate::ring::error::AttachError;
use crate::ring::layout::{Geometry, before};

/// What the header page says of a range of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    /// Published and not given back.
    Unread,
    /// Given back, and walked from where a record is known to start.
    Read,
    /// Reserved and not published.
    Reserved,
    /// Nothing is said, or no record is known to start here.
    Free,
}

/// A range of positions of one era.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) era: Era,
    pub(super) from: u64,
    pub(super) to: u64,
    /// Whether the last record may be cut off by what overwrote it.
    pub(super) cut: bool,
}

/// The regions, in the order of positions: together as long as the data area, so that each byte of it is in one.
#[derive(Clone, Debug)]
pub(super) struct Regions {
    list: Vec<Region>,
    /// The lowest position.
    pub(super) base: u64,
}

impl Regions {
    pub(super) fn find(bytes: &Bytes<'_>, description: &Description, geometry: Geometry) -> Result<Self, InspectError> {
        let mut reader = PageReader::new(bytes, description, geometry);
        match description.mode {
            Mode::Lossless => Self::lossless(&mut reader, description),
            Mode::OverwriteForward => Self::forward(description, geometry),
            Mode::OverwriteBackward => Self::backward(description),
        }
    }

    fn new(base: u64) -> Self {
        Self { list: Vec::with_capacity(4), base }
    }

    /// Adds what follows, if it is not empty.
    fn then(mut self, era: Era, to: u64) -> Self {
        let from = self.list.last().map_or(self.base, |last| last.to);
        if from != to {
            self.list.push(Region { era, from, to, cut: false });
        }
        self
    }

    fn lossless(reader: &mut PageReader<'_>, description: &Description) -> Result<Self, InspectError> {
        let geometry = reader.geometry();
        let Description { data_head: head, data_tail: tail, data_size: size, .. } = *description;
        let reserved = last_open(reader, head, tail.wrapping_add(size))?;
        let base = reserved.wrapping_sub(size);
        let read_from = match geometry.confined() {
            true => {
                let entry = geometry.granule_from(base);
                if before(entry, tail) { entry } else { tail }
            }
            // A ring that never came round starts with its first record.
            false if reserved <= size && tail <= reserved && leads_to(reader, 0, tail)? => 0,
            false => tail,
        };
        Ok(Self::new(base)
            .then(Era::Free, read_from)
            .then(Era::Read, tail)
            .then(Era::Unread, head)
            .then(Era::Reserved, reserved))
    }

    fn forward(description: &Description, geometry: Geometry) -> Result<Self, InspectError> {
        let Description { data_head: head, data_tail: start, data_size: size, reserved, .. } = *description;
        if !reserved.is_multiple_of(8) || reserved.wrapping_sub(head) > size {
            return Err(AttachError::Positions { head, tail: reserved, data_size: size }.into());
        }
        let base = reserved.wrapping_sub(size);
        // Where the consumer enters: where the ring started, or the first granule that is whole.
        let lapped = reserved.wrapping_sub(start) > size;
        let oldest = if lapped { geometry.granule_from(base) } else { start };
        let oldest = if before(head, oldest) { head } else { oldest };
        Ok(Self::new(base).then(Era::Free, oldest).then(Era::Unread, head).then(Era::Reserved, reserved))
    }

    fn backward(description: &Description) -> Result<Self, InspectError> {
        let Description { data_head: head, data_tail: start, data_size: size, reserved, .. } = *description;
        let positions = |tail| AttachError::Positions { head, tail, data_size: size };
        if !reserved.is_multiple_of(8) || head.wrapping_sub(reserved) > size {
            return Err(positions(reserved).into());
        }
        if before(start, head) {
            return Err(positions(start).into());
        }
        let end = reserved.wrapping_add(size);
        let cut = before(end, start);
        let unread_to = if cut { end } else { start };
        let mut regions = Self::new(reserved).then(Era::Reserved, head).then(Era::Unread, unread_to);
        if let Some(last) = regions.list.last_mut().filter(|last| last.era == Era::Unread) {
            last.cut = cut;
        }
        Ok(regions.then(Era::Free, end))
    }

    /// The regions by their place in the list.
    pub(super) fn get(&self, index: usize) -> Option<&Region> {
        self.list.get(index)
    }

    /// The parts of regions that lie in `len` bytes of the data area from `position` on, where `position` is from
    /// `base` on and less than a lap beyond it: the region's place, from where and to where.
    pub(super) fn parts(&self, position: u64, len: u64) -> impl Iterator<Item = (usize, u64, u64)> {
        let (base, offset) = (self.base, position.wrapping_sub(self.base));
        self.list.iter().enumerate().filter_map(move |(index, region)| {
            let (from, to) = (region.from.wrapping_sub(base), region.to.wrapping_sub(base));
            let (from, to) = (from.max(offset), to.min(offset.saturating_add(len)));
            (from < to).then(|| (index, base.wrapping_add(from), base.wrapping_add(to)))
        })
    }

    /// The region that goes on from the end of the data area to its start, if one does.
    pub(super) fn wrapping(&self, size: u64) -> Option<(usize, u64)> {
        let wrap = self.base.wrapping_add(self.base.wrapping_neg() & (size - 1));
        let at = wrap.wrapping_sub(self.base);
        let index = self.list.iter().position(|region| {
            let (from, to) = (region.from.wrapping_sub(self.base), region.to.wrapping_sub(self.base));
            from < at && at < to
        })?;
        Some((index, wrap))
    }
}

/// Where the last reservation ends that is open behind `head`: as far as records follow on each other, and one of them is
/// marked. A lossless ring does not say how far it is reserved.
fn last_open(reader: &mut PageReader<'_>, head: u64, end: u64) -> Result<u64, InspectError> {
    let region = Region { era: Era::Reserved, from: head, to: end, cut: false };
    let (mut at, mut last) = (head, head);
    while at != end {
        reader.load(at)?;
        let span = step(reader, &region, at);
        at = span.end();
        match span.what {
            What::Open => last = at,
            What::Free => break,
            _ => {}
        }
    }
    Ok(last)
}

/// Whether records follow on each other from `from` on so that one of them starts at `to`.
fn leads_to(reader: &mut PageReader<'_>, from: u64, to: u64) -> Result<bool, InspectError> {
    let region = Region { era: Era::Read, from, to, cut: false };
    let mut at = from;
    while at != to {
        reader.load(at)?;
        let span = step(reader, &region, at);
        if span.what == What::Free {
            return Ok(false);
        }
        at = span.end();
    }
    Ok(true)
}
