//! A ring as text: a line a page.

use super::marks::{Totals, free_page, name, positions, title};
use super::pages::{Page, RecordState, Segment, SegmentKind};
use super::{InspectError, Inspection};
use std::io::{self, Write};
use std::ops::Range;

/// Cells in a bar.
const CELLS: u64 = 64;
/// Fewer free pages than these are not worth folding.
const FOLD: u64 = 3;

const LEGEND: &str = "\
# = a record that is unread: starts in the cell, goes on
o - a record that was read
u   a record that is committed and not published
?   reserved, not committed
/   padding
%   a record whose end is overwritten
!   damaged
.   free, with remains of records; blank: free, zeros
";

impl Inspection<'_> {
    /// Writes a header, a line for each of `pages`, and sums; `names` names types of records.
    ///
    /// A line has the page's number, the position of its first byte, a bar of 64 cells, the records that start in the page,
    /// the bytes of records in it, and where in it head and tail are. Where a cell holds several things, it shows what is
    /// rarest: damage, then reservations, then starts of records. Runs of free pages are one line.
    ///
    /// # Errors
    /// [`InspectError::Read`], and [`InspectError::Write`].
    pub fn write_text(
        &self,
        pages: Range<u64>,
        names: impl Fn(u32) -> String,
        out: &mut impl Write,
    ) -> Result<(), InspectError> {
        self.text_header(out).map_err(InspectError::Write)?;
        let mut totals = Totals::default();
        let mut free: Option<Run> = None;
        for page in self.pages_in(pages) {
            let page = page?;
            totals.add(&page);
            let remains = free_page(&page);
            if let (Some(run), Some(remains)) = (&mut free, remains)
                && run.remains == remains
            {
                run.count += 1;
                continue;
            }
            let done = free.take();
            let write = || -> io::Result<()> {
                done.map_or(Ok(()), |run| self.text_run(&run, out))?;
                if remains.is_none() { line(&page, out) } else { Ok(()) }
            };
            write().map_err(InspectError::Write)?;
            free = remains.map(|remains| Run { first: page.index, count: 1, position: page.position(), remains });
        }
        let write = || -> io::Result<()> {
            free.map_or(Ok(()), |run| self.text_run(&run, out))?;
            sums(&totals, &names, out)?;
            out.flush()
        };
        write().map_err(InspectError::Write)
    }

    fn text_header(&self, out: &mut impl Write) -> io::Result<()> {
        let description = self.description();
        writeln!(out, "{}", title(description, self.page_count()))?;
        writeln!(out, "{}", positions(description))?;
        let attrs = description.attrs.len();
        match description.producer_pid {
            0 => writeln!(out, "{attrs} attrs")?,
            pid => writeln!(out, "{attrs} attrs, written by process {pid}")?,
        }
        let granule = description.granule;
        writeln!(out, "\n{LEGEND}")?;
        let cells = format!("{} bytes a cell", granule / CELLS);
        writeln!(out, "{:>8} {:>18}  {cells:<64}  {:>7} {:>6}", "page", "position", "records", "bytes")
    }

    fn text_run(&self, run: &Run, out: &mut impl Write) -> io::Result<()> {
        let granule = self.description().granule;
        if run.count >= FOLD {
            let what = if run.remains { "free, with remains" } else { "free" };
            let position = position(run.position, !run.remains);
            return writeln!(out, "{:>8} {position:>18}  … {} pages {what}", run.first, run.count);
        }
        for i in 0..run.count {
            let position = run.position.wrapping_add(i * granule);
            let kind = SegmentKind::Free { remains: run.remains };
            let segment = Segment { kind, position, len: granule, whole_position: position, whole_len: granule };
            let page = Page { index: run.first + i, len: granule, segments: vec![segment], head: None, tail: None };
            line(&page, out)?;
        }
        Ok(())
    }
}

/// Free pages in a row that are alike.
struct Run {
    first: u64,
    count: u64,
    position: u64,
    remains: bool,
}

/// A page that nothing was ever written to has no position worth to be told.
fn position(position: u64, unwritten: bool) -> String {
    if unwritten { "-".to_owned() } else { format!("{position:#x}") }
}

fn line(page: &Page, out: &mut impl Write) -> io::Result<()> {
    let mut totals = Totals::default();
    totals.add(page);
    let bar = bar(page);
    write!(
        out,
        "{:>8} {:>18} |{bar}| {:>7} {:>6}",
        page.index,
        position(page.position(), free_page(page) == Some(false)),
        totals.records(),
        totals.record_bytes()
    )?;
    for (mark, at) in [("head", page.head), ("tail", page.tail)] {
        if let Some(at) = at {
            write!(out, "  {mark} at {at}")?;
        }
    }
    writeln!(out)
}

/// The bar of a page.
fn bar(page: &Page) -> String {
    let width = (page.len / CELLS).max(1);
    let mut cells = [(0, 0, ' '); CELLS as usize];
    let mut at = 0;
    for segment in &page.segments {
        let end = at + segment.len;
        for cell in at / width..end.div_ceil(width).min(CELLS) {
            let (from, to) = (cell * width, (cell + 1) * width);
            let starts = segment.is_first() && (from..to).contains(&at);
            let (rank, mark) = mark(segment, starts);
            let shown = (rank, end.min(to) - at.max(from), mark);
            if let Some(best) = cells.get_mut(cell as usize)
                && (shown.0, shown.1) > (best.0, best.1)
            {
                *best = shown;
            }
        }
        at = end;
    }
    cells.iter().map(|cell| cell.2).collect()
}

/// What a cell shows of a segment, and how much it matters.
fn mark(segment: &Segment, starts: bool) -> (u32, char) {
    let (first, more) = match segment.kind {
        SegmentKind::Damaged(_) => return (5, '!'),
        SegmentKind::Torn { .. } => return (4, '%'),
        SegmentKind::Open => return (3, '?'),
        SegmentKind::Padding(_) => return (1, '/'),
        SegmentKind::Free { remains } => return (1, if remains { '.' } else { ' ' }),
        SegmentKind::Record { state: RecordState::Unread, .. } => ('#', '='),
        SegmentKind::Record { state: RecordState::Read, .. } => ('o', '-'),
        SegmentKind::Record { state: RecordState::Unpublished, .. } => ('u', 'u'),
    };
    if starts { (2, first) } else { (1, more) }
}

fn sums(totals: &Totals, names: &impl Fn(u32) -> String, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    let [unread, read, unpublished] = totals.states;
    let records = [("unread", unread), ("read", read), ("committed, not published", unpublished)];
    for (what, (count, bytes)) in records.into_iter().filter(|(_, (_, bytes))| *bytes > 0) {
        writeln!(out, "{count} records {what}, {bytes} bytes")?;
    }
    let others = [
        ("padding", totals.padding),
        ("reserved, not committed", totals.open),
        ("of a record whose end is overwritten", totals.torn),
        ("damaged", totals.damaged),
        ("free", totals.free),
        ("free, with remains", totals.remains),
    ];
    for (what, bytes) in others.into_iter().filter(|(_, bytes)| *bytes > 0) {
        writeln!(out, "{bytes} bytes {what}")?;
    }
    let types = totals.types.iter().map(|(type_, count)| format!("{count} of {}", name(names, *type_)));
    let rest = (totals.other_types > 0).then(|| format!("{} of other types", totals.other_types));
    let types: Vec<_> = types.chain(rest).collect();
    if !types.is_empty() {
        writeln!(out, "records: {}", types.join(", "))?;
    }
    Ok(())
}
