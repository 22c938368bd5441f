//! From one thing in a ring to the next: the consumer's steps, and those outside of what it may read.

use super::pages::RecordState;
use super::regions::{Era, Region};
use super::source::PageReader;
use crate::ring::Padding;
use crate::ring::error::ReadErrorKind;
use crate::ring::layout::{HEADER_SIZE, RECORD_OPEN, RECORD_PADDING, RecordHeader, before};

/// What stands between two positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Record { type_: u32, misc: u16, state: RecordState },
    Torn { type_: u32, misc: u16, size: u16 },
    Padding(Padding),
    Open,
    Free,
    Damaged(ReadErrorKind),
}

/// A thing in the ring, which in a free one may reach over pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) what: What,
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Span {
    fn new(what: What, start: u64, end: u64) -> Self {
        Self { what, start, len: end.wrapping_sub(start) }
    }

    pub(super) fn end(&self) -> u64 {
        self.start.wrapping_add(self.len)
    }
}

/// What stands at `at`, whose page is loaded. It does not end beyond the region, nor, where granules are confined, beyond
/// its granule; it is at least 8 bytes long, as positions are multiples of 8.
pub(super) fn step(reader: &PageReader<'_>, region: &Region, at: u64) -> Span {
    let geometry = reader.geometry();
    // What is unknown ends with its granule, or, where records cross granules, with the region.
    let next = geometry.next_granule(at);
    let unknown_to = if geometry.confined() && before(next, region.to) { next } else { region.to };
    if region.era == Era::Free {
        return Span::new(What::Free, at, unknown_to);
    }
    if region.era == Era::Unread
        && let Some(span) = overwritten(reader, region, at, unknown_to)
    {
        return span;
    }
    let found = classify(reader, region, at);
    match (region.era, found) {
        (_, Ok((what, len))) => Span { what, start: at, len },
        (Era::Unread, Err(kind)) => Span::new(What::Damaged(kind), at, unknown_to),
        // Nobody says that there are records.
        (_, Err(_)) => Span::new(What::Free, at, unknown_to),
    }
}

/// What was overwritten between the time when the ring described itself and the one when the page was read.
fn overwritten(reader: &PageReader<'_>, region: &Region, at: u64, unknown_to: u64) -> Option<Span> {
    let gone = What::Damaged(ReadErrorKind::Overwritten);
    if let Some(from) = reader.valid_from()
        && before(at, from)
    {
        // Where granules are overwritten, none of their records can be entered before the next one.
        let enters = reader.enters_at_limit() && before(from, unknown_to);
        let to = if enters { from } else { unknown_to };
        return Some(Span::new(gone, at, to));
    }
    let to = reader.valid_to()?;
    (!before(at, to)).then(|| Span::new(gone, at, region.to))
}

/// The record, padding or reservation at `at` and its length, or what a consumer would object to.
fn classify(reader: &PageReader<'_>, region: &Region, at: u64) -> Result<(What, u64), ReadErrorKind> {
    let geometry = reader.geometry();
    let left = region.to.wrapping_sub(at);
    let word = reader.word(at);
    if word == 0 {
        return gap(reader, at, left).map(|len| (What::Padding(Padding::Zero), len));
    }
    let RecordHeader { type_, misc, size } = RecordHeader::from_word(word);
    if usize::from(size) < HEADER_SIZE {
        return Err(ReadErrorKind::TooSmall { size });
    }
    if !size.is_multiple_of(8) {
        return Err(ReadErrorKind::Unaligned { size });
    }
    let len = u64::from(size);
    if len > left {
        return match region.cut {
            true => Ok((What::Torn { type_, misc, size }, left)),
            false => Err(ReadErrorKind::BeyondHead { size, left }),
        };
    }
    let in_granule = geometry.left_in_granule(at);
    if geometry.confined() && len > in_granule {
        return Err(ReadErrorKind::CrossesGranule { size, left: in_granule });
    }
    let state = match region.era {
        Era::Unread => RecordState::Unread,
        Era::Reserved => RecordState::Unpublished,
        Era::Read | Era::Free => RecordState::Read,
    };
    match type_ {
        RECORD_OPEN if region.era == Era::Reserved => Ok((What::Open, len)),
        RECORD_OPEN => Err(ReadErrorKind::Open { size }),
        RECORD_PADDING => Ok((What::Padding(Padding::Header), len)),
        _ => Ok((What::Record { type_, misc, state }, len)),
    }
}

/// A zero header: a gap to its granule's end, if it is one.
fn gap(reader: &PageReader<'_>, at: u64, left: u64) -> Result<u64, ReadErrorKind> {
    let geometry = reader.geometry();
    let gap = geometry.left_in_granule(at);
    if !geometry.confined() || gap == geometry.granule() || gap > left {
        return Err(ReadErrorKind::ZeroHeader);
    }
    let words = reader.rest(at).as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
    match words.into_iter().find(|word| *word != 0) {
        None => Ok(gap),
        Some(word) => Err(ReadErrorKind::DirtyGap { word }),
    }
}
