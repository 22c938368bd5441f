//! What the text and the picture have in common: words, and sums.

use super::pages::{Page, RecordState, Segment, SegmentKind};
use crate::ring::Description;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Types that are counted one by one; a damaged ring may have any number.
const MOST_TYPES: usize = 64;

/// The name of a record's type: without what would break a line, and not without end.
pub(super) fn name(names: &impl Fn(u32) -> String, type_: u32) -> String {
    let plain = |c: char| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c };
    names(type_).chars().take(40).map(plain).collect()
}

pub(super) fn state(state: RecordState) -> &'static str {
    match state {
        RecordState::Unread => "unread",
        RecordState::Read => "read",
        RecordState::Unpublished => "committed, not published",
    }
}

/// A segment in words.
pub(super) fn describe(segment: &Segment, names: &impl Fn(u32) -> String) -> String {
    let Segment { kind, whole_position: at, whole_len: len, .. } = *segment;
    match kind {
        SegmentKind::Record { type_, state: is, .. } => {
            format!("{}: {len} bytes at {at:#x}, {}", name(names, type_), state(is))
        }
        SegmentKind::Torn { type_, size, .. } => {
            format!("{}: {len} of {size} bytes at {at:#x}, its end is overwritten", name(names, type_))
        }
        SegmentKind::Padding(_) => format!("padding: {len} bytes at {at:#x}"),
        SegmentKind::Open => format!("reserved, not committed: {len} bytes at {at:#x}"),
        SegmentKind::Free { remains: true } => format!("free, with remains: {len} bytes at {at:#x}"),
        SegmentKind::Free { remains: false } => format!("free: {len} bytes at {at:#x}"),
        SegmentKind::Damaged(reason) => format!("damaged: {len} bytes at {at:#x}: {reason}"),
    }
}

/// The ring in a line.
pub(super) fn title(description: &Description, pages: u64) -> String {
    let Description { mode, confined, granule, .. } = description;
    let kind = if *confined { "confined" } else { "free" };
    format!("{mode} {kind} ring: {pages} pages of {granule} bytes")
}

/// Positions and losses in a line.
pub(super) fn positions(description: &Description) -> String {
    let Description { data_head, data_tail, reserved, lost_total, closed, mode, .. } = description;
    let tail = if *mode == crate::ring::Mode::Lossless { "tail" } else { "start" };
    let mut line = format!("head {data_head:#x}, {tail} {data_tail:#x}");
    if *mode != crate::ring::Mode::Lossless {
        let _ = write!(line, ", reserved {reserved:#x}");
    }
    let _ = write!(line, ", {lost_total} lost, {}", if *closed { "closed" } else { "not closed" });
    line
}

/// Records and bytes of some pages.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Records and their bytes: unread, read, unpublished.
    pub(super) states: [(u64, u64); 3],
    pub(super) padding: u64,
    pub(super) open: u64,
    pub(super) torn: u64,
    pub(super) damaged: u64,
    pub(super) free: u64,
    pub(super) remains: u64,
    /// Records of each type, and of those beyond.
    pub(super) types: BTreeMap<u32, u64>,
    pub(super) other_types: u64,
}

impl Totals {
    pub(super) fn add(&mut self, page: &Page) {
        for segment in &page.segments {
            let len = segment.len;
            match segment.kind {
                SegmentKind::Record { type_, state, .. } => {
                    if let Some((records, bytes)) = self.states.get_mut(state as usize) {
                        *records += u64::from(segment.is_first());
                        *bytes += len;
                    }
                    if segment.is_first() {
                        self.count(type_);
                    }
                }
                SegmentKind::Torn { .. } => self.torn += len,
                SegmentKind::Padding(_) => self.padding += len,
                SegmentKind::Open => self.open += len,
                SegmentKind::Damaged(_) => self.damaged += len,
                SegmentKind::Free { remains: true } => self.remains += len,
                SegmentKind::Free { remains: false } => self.free += len,
            }
        }
    }

    fn count(&mut self, type_: u32) {
        let room = self.types.len() < MOST_TYPES;
        match self.types.get_mut(&type_) {
            Some(count) => *count += 1,
            None if room => _ = self.types.insert(type_, 1),
            None => self.other_types += 1,
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.states.iter().map(|(records, _)| records).sum()
    }

    /// Bytes that hold records, unread or not.
    pub(super) fn record_bytes(&self) -> u64 {
        self.states.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Whether nothing is known of all bytes of a page, and whether they are zero: such pages are alike.
pub(super) fn free_page(page: &Page) -> Option<bool> {
    let mut free = page.segments.iter().map(|segment| match segment.kind {
        SegmentKind::Free { remains } => Some(remains),
        _ => None,
    });
    let first = free.next()??;
    let alike = free.all(|other| other == Some(first));
    (alike && page.head.is_none() && page.tail.is_none()).then_some(first)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_break_no_lines_and_end() {
        assert_eq!(super::name(&|_| "a\nb\u{0}".to_owned(), 1), "a\u{fffd}b\u{fffd}");
        assert_eq!(super::name(&|_| "x".repeat(1000), 1).len(), 40);
    }
}
