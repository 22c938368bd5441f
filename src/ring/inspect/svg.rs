//! A ring as a picture.

use super::marks::{Totals, describe, free_page, name, positions, state, title};
use super::pages::{Page, RecordState, Segment, SegmentKind};
use super::{InspectError, Inspection};
use crate::ring::Mode;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::ops::Range;

/// Rows of a picture: more pages than these share rows.
const MOST_ROWS: u64 = 64;
/// Types in the legend.
const MOST_NAMES: usize = 12;
/// Fewer free rows than these are not worth folding.
const FOLD: usize = 3;
/// What is narrower is merged with its neighbours.
const NARROW: f64 = 2.0;

const LEFT: f64 = 144.0;
const BAR: f64 = 1024.0;
const WIDTH: f64 = LEFT + BAR + 136.0;
const TALL: f64 = 24.0;
const PITCH: f64 = 32.0;
const FOLDED: f64 = 20.0;
const MARK: f64 = 15.0;

/// A grey that can be read on white and on black.
const INK: &str = "#7a828c";
const HEAD: &str = "#d1242f";
const TAIL: &str = "#2f81f7";
const OPEN: &str = "#d4a017";

const STYLE: &str = "\
text{font:12px ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#7a828c}\
.t{font-size:17px;font-weight:600}\
.m{font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:10.5px}\
.l{font-size:10.5px;fill:#fff;pointer-events:none}\
.d{fill:#101418}\
.e{text-anchor:end}\
.c{text-anchor:middle}\
.r{opacity:.36}\
.p{stroke:#d4a017;stroke-width:1.5;stroke-dasharray:3 2}";

const PATTERNS: &str = "\
<pattern id=\"pad\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
<rect width=\"6\" height=\"6\" fill=\"#7a828c\" fill-opacity=\".14\"/><rect width=\"1.6\" height=\"6\" fill=\"#7a828c\"/></pattern>\
<pattern id=\"open\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(-45)\">\
<rect width=\"8\" height=\"8\" fill=\"#d4a017\" fill-opacity=\".3\"/><rect width=\"3\" height=\"8\" fill=\"#d4a017\"/></pattern>\
<pattern id=\"bad\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\">\
<rect width=\"7\" height=\"7\" fill=\"#d1242f\" fill-opacity=\".35\"/><path d=\"M0 0L7 7M7 0L0 7\" stroke=\"#d1242f\" stroke-width=\"1.4\"/></pattern>\
<pattern id=\"torn\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\">\
<rect width=\"5\" height=\"2.5\" fill=\"#d1242f\" fill-opacity=\".55\"/></pattern>\
<pattern id=\"rem\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
<circle cx=\"3\" cy=\"3\" r=\".9\" fill=\"#7a828c\" fill-opacity=\".75\"/></pattern>";

impl Inspection<'_> {
    /// Writes a picture of `pages` as SVG that stands alone and suits light and dark backgrounds; `names` names types of
    /// records.
    ///
    /// A row is a page; of more than 64 pages, several are a row. Runs of free rows are folded. Records have a colour
    /// for their type, and a tooltip; what is too narrow to be seen is merged. So the picture has a bounded size, whatever
    /// the ring has.
    ///
    /// # Errors
    /// [`InspectError::Read`], before anything is written, and [`InspectError::Write`].
    pub fn write_svg(
        &self,
        pages: Range<u64>,
        names: impl Fn(u32) -> String,
        out: &mut impl Write,
    ) -> Result<(), InspectError> {
        let end = pages.end.min(self.page_count());
        let first = pages.start.min(end);
        let in_row = (end - first).div_ceil(MOST_ROWS).max(1);
        let mut picture = Picture::new(self, in_row, names);
        for page in self.pages_in(first..end) {
            picture.page(&page?);
        }
        let picture = picture.finish(first, end);
        out.write_all(picture.as_bytes()).and_then(|()| out.flush()).map_err(InspectError::Write)
    }
}

/// Text with what means something in XML escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

/// A length in the picture: no more digits than it needs.
struct Px(f64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.1}", self.0);
        f.write_str(text.strip_suffix(".0").unwrap_or(&text))
    }
}

/// The colour of a type: neighbours in number are far apart in hue. And whether it is a light one.
fn colour(type_: u32) -> (String, bool) {
    const LIGHTNESS: [f64; 3] = [0.44, 0.56, 0.36];
    let hue = (f64::from(type_) * 210.8 + 132.0) % 360.0;
    let lightness = LIGHTNESS.get((type_ / 3 % 3) as usize).copied().unwrap_or(0.5);
    let chroma = (1.0 - (2.0 * lightness - 1.0_f64).abs()) * 0.58;
    let channel = |offset: f64| {
        let k = (offset + hue / 30.0) % 12.0;
        let value = lightness - chroma / 2.0 * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (value * 255.0).round() as u8
    };
    let (red, green, blue) = (channel(0.0), channel(8.0), channel(4.0));
    let luminance = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    (format!("#{red:02x}{green:02x}{blue:02x}"), luminance > 140.0)
}

/// How something is drawn; what is first hides what comes after it where they are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Damaged,
    Torn,
    Open,
    Record { type_: u32, state: RecordState },
    Padding,
    Remains,
    Free,
}

impl Look {
    fn of(kind: SegmentKind) -> Self {
        match kind {
            SegmentKind::Record { type_, state, .. } => Self::Record { type_, state },
            SegmentKind::Torn { .. } => Self::Torn,
            SegmentKind::Padding(_) => Self::Padding,
            SegmentKind::Open => Self::Open,
            SegmentKind::Free { remains: true } => Self::Remains,
            SegmentKind::Free { remains: false } => Self::Free,
            SegmentKind::Damaged(_) => Self::Damaged,
        }
    }

    /// Damage is never hidden.
    fn rank(self) -> u32 {
        match self {
            Self::Damaged => 5,
            Self::Torn => 4,
            Self::Open => 3,
            Self::Record { .. } => 2,
            Self::Padding => 1,
            Self::Remains | Self::Free => 0,
        }
    }

    /// `fill` and `class`.
    fn attributes(self) -> String {
        match self {
            Self::Record { type_, state } => {
                let class = match state {
                    RecordState::Unread => "",
                    RecordState::Read => " class=\"r\"",
                    RecordState::Unpublished => " class=\"p\"",
                };
                format!("fill=\"{}\"{class}", colour(type_).0)
            }
            Self::Padding => "fill=\"url(#pad)\"".to_owned(),
            Self::Open => format!("fill=\"url(#open)\" stroke=\"{OPEN}\""),
            Self::Torn => "fill=\"url(#torn)\"".to_owned(),
            Self::Damaged => "fill=\"url(#bad)\" stroke=\"#d1242f\"".to_owned(),
            Self::Remains => "fill=\"url(#rem)\"".to_owned(),
            Self::Free => format!("fill=\"{INK}\" fill-opacity=\".12\""),
        }
    }
}

/// Narrow things that are drawn as one.
struct Band {
    from: f64,
    to: f64,
    look: Look,
    /// Bytes of the look that is shown.
    weight: u64,
    segments: u64,
    first: u64,
    last: u64,
}

/// A rectangle of a row: where it is from the bar's start on, and what is said of it.
struct Shape {
    look: Look,
    x: f64,
    width: f64,
    round: f64,
    title: String,
    /// Written into it, from here on.
    label: Option<(f64, String)>,
}

/// A row while its pages come: what is drawn of them, which is not more than there are pixels.
struct Row {
    first: u64,
    /// Of the first byte, where anything was ever written there.
    position: Option<u64>,
    pages: u64,
    bytes: u64,
    scale: f64,
    shapes: Vec<Shape>,
    band: Option<Band>,
    totals: Totals,
    /// Whether all of it is free alike: then, whether there are remains.
    free: Option<bool>,
    head: Option<u64>,
    tail: Option<u64>,
}

impl Row {
    fn new(page: &Page, in_row: u64) -> Self {
        Self {
            first: page.index,
            position: (free_page(page) != Some(false)).then(|| page.position()),
            pages: 0,
            bytes: 0,
            scale: BAR / (in_row as f64 * page.len as f64),
            shapes: Vec::new(),
            band: None,
            totals: Totals::default(),
            free: free_page(page),
            head: None,
            tail: None,
        }
    }

    fn add(&mut self, page: &Page, names: &impl Fn(u32) -> String) {
        self.totals.add(page);
        self.free = self.free.filter(|free| free_page(page) == Some(*free));
        self.head = self.head.or(page.head.map(|at| self.bytes + at));
        self.tail = self.tail.or(page.tail.map(|at| self.bytes + at));
        self.pages += 1;
        for segment in &page.segments {
            let (from, to) = (self.bytes as f64 * self.scale, (self.bytes + segment.len) as f64 * self.scale);
            self.bytes += segment.len;
            let look = Look::of(segment.kind);
            if to - from >= NARROW {
                self.flush();
                self.segment(segment, look, from, to, names);
            } else {
                self.merge(segment, look, from, to);
            }
        }
    }

    fn merge(&mut self, segment: &Segment, look: Look, from: f64, to: f64) {
        let (first, last) = (segment.position, segment.position.wrapping_add(segment.len));
        let weight = segment.len;
        let band = self.band.get_or_insert(Band { from, to, look, weight: 0, segments: 0, first, last });
        if look == band.look {
            band.weight += weight;
        } else if (look.rank(), weight) > (band.look.rank(), band.weight) {
            (band.look, band.weight) = (look, weight);
        }
        (band.to, band.last) = (to, last);
        band.segments += 1;
        if to - band.from >= NARROW {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let Some(Band { from, to, look, segments, first, last, .. }) = self.band.take() else { return };
        if look != Look::Free {
            let things = if segments == 1 { "1 thing".to_owned() } else { format!("{segments} things") };
            let title = format!("{things} from {first:#x} to {last:#x}, too narrow to be drawn one by one");
            self.shapes.push(Shape { look, x: from, width: to - from, round: 0.0, title, label: None });
        }
    }

    fn segment(&mut self, segment: &Segment, look: Look, from: f64, to: f64, names: &impl Fn(u32) -> String) {
        if look == Look::Free {
            return;
        }
        // What goes on in another page reaches out of this one's row.
        let bleeds = matches!(look, Look::Record { .. } | Look::Torn);
        let out = |whole: bool| if whole || !bleeds { 0.0 } else { 5.0 };
        let (left, right) = (out(segment.is_first()), out(segment.is_last()));
        let wide = to - from;
        let space = if wide > 4.0 && right == 0.0 { 0.8 } else { 0.0 };
        let label = match look {
            Look::Record { type_, .. } => Some(name(names, type_)),
            _ => None,
        };
        let fits = |name: &String| segment.is_first() && wide >= name.chars().count() as f64 * 7.4 + 8.0;
        self.shapes.push(Shape {
            look,
            x: from - left,
            width: wide + left + right - space,
            round: if wide > 8.0 { 2.0 } else { 0.0 },
            title: describe(segment, names),
            label: label.filter(fits).map(|name| (from + 5.0, name)),
        });
    }
}

struct Picture<'a, N> {
    inspection: &'a Inspection<'a>,
    names: N,
    in_row: u64,
    body: String,
    totals: Totals,
    y: f64,
    row: Option<Row>,
    /// Free rows that may be folded.
    free: Vec<Row>,
}

impl<'a, N: Fn(u32) -> String> Picture<'a, N> {
    fn new(inspection: &'a Inspection<'a>, in_row: u64, names: N) -> Self {
        let (body, totals) = (String::new(), Totals::default());
        Self { inspection, names, in_row, body, totals, y: 0.0, row: None, free: Vec::new() }
    }

    fn page(&mut self, page: &Page) {
        self.totals.add(page);
        let row = self.row.get_or_insert_with(|| Row::new(page, self.in_row));
        row.add(page, &self.names);
        if row.pages == self.in_row {
            self.end_row();
        }
    }

    /// Draws the row that is complete, or keeps it, if it is free.
    fn end_row(&mut self) {
        let Some(row) = self.row.take() else { return };
        if self.free.first().is_some_and(|first| first.free != row.free) {
            self.fold();
        }
        match row.free {
            Some(_) => self.free.push(row),
            None => self.draw(row),
        }
    }

    /// Draws the free rows that were found one behind the other.
    fn fold(&mut self) {
        let free = std::mem::take(&mut self.free);
        let (Some(first), Some(last)) = (free.first(), free.last()) else { return };
        if free.len() < FOLD {
            free.into_iter().for_each(|row| self.draw(row));
            return;
        }
        let what = if first.free == Some(true) { "free, with remains" } else { "free" };
        let _ = writeln!(
            self.body,
            "<text x=\"{}\" y=\"{}\" class=\"c\">… pages {} to {}: {what} …</text>",
            Px(LEFT + BAR / 2.0),
            Px(self.y + 14.0),
            first.first,
            last.first + last.pages - 1
        );
        self.y += FOLDED + 4.0;
    }

    fn draw(&mut self, mut row: Row) {
        row.flush();
        if row.tail.is_some() {
            self.y += MARK;
        }
        let y = self.y;
        let label = match row.pages {
            1 => format!("page {}", row.first),
            pages => format!("pages {}–{}", row.first, row.first + pages - 1),
        };
        let _ = writeln!(
            self.body,
            "<text x=\"{x}\" y=\"{}\" class=\"e\">{label}</text>\n\
             <rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\" fill=\"{INK}\" fill-opacity=\".12\"/>",
            Px(if row.position.is_some() { y + 10.0 } else { y + 16.0 }),
            Px(LEFT),
            Px(y),
            Px(row.bytes as f64 * row.scale),
            Px(TALL),
            x = Px(LEFT - 14.0),
        );
        if let Some(position) = row.position {
            let (x, y) = (Px(LEFT - 14.0), Px(y + 22.0));
            let _ = writeln!(self.body, "<text x=\"{x}\" y=\"{y}\" class=\"m e\">{position:#x}</text>");
        }
        row.shapes.iter().for_each(|shape| self.shape(shape));
        let records = row.totals.records();
        let _ = writeln!(
            self.body,
            "<text x=\"{}\" y=\"{}\">{records} record{}, {:.0} %</text>",
            Px(LEFT + BAR + 14.0),
            Px(y + 16.0),
            if records == 1 { "" } else { "s" },
            row.totals.record_bytes() as f64 * 100.0 / row.bytes as f64,
        );
        if let Some(at) = row.tail {
            let lossless = self.inspection.description().mode == Mode::Lossless;
            self.mark(at as f64 * row.scale, y, -1.0, TAIL, if lossless { "tail" } else { "start" });
        }
        if let Some(at) = row.head {
            self.mark(at as f64 * row.scale, y, 1.0, HEAD, "head");
            self.y += MARK;
        }
        self.y += PITCH;
    }

    fn shape(&mut self, shape: &Shape) {
        let Shape { look, x, width, round, title, label } = shape;
        let _ = write!(
            self.body,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" ",
            Px(LEFT + x),
            Px(self.y + 1.0),
            Px(*width),
            Px(TALL - 2.0)
        );
        if *round > 0.0 {
            let _ = write!(self.body, "rx=\"{}\" ", Px(*round));
        }
        let _ = writeln!(self.body, "{}><title>{}</title></rect>", look.attributes(), Escaped(title));
        let (Some((x, name)), Look::Record { type_, state }) = (label, look) else { return };
        let class = match state {
            // These are faint: on them the ink of the page is read best.
            RecordState::Read => "",
            _ if colour(*type_).1 => " class=\"l d\"",
            _ => " class=\"l\"",
        };
        let _ = writeln!(
            self.body,
            "<text x=\"{}\" y=\"{}\"{class}>{}</text>",
            Px(LEFT + x),
            Px(self.y + 16.0),
            Escaped(name)
        );
    }

    /// A line through the row, with a flag above it (`side` −1) or below.
    fn mark(&mut self, x: f64, y: f64, side: f64, colour: &str, label: &str) {
        let x = LEFT + x;
        let (tip, edge) = if side < 0.0 { (y, y - 6.0) } else { (y + TALL, y + TALL + 6.0) };
        let (from, to) = if side < 0.0 { (edge, y + TALL) } else { (y, edge) };
        let (class, text_x) = if x > LEFT + BAR - 60.0 { (" class=\"e\"", x - 8.0) } else { ("", x + 8.0) };
        let _ = writeln!(
            self.body,
            "<path d=\"M{x} {from}V{to}\" stroke=\"{colour}\" stroke-width=\"2\"/><path d=\"M{x} {tip}l-5 {up}h10z\" \
             fill=\"{colour}\"/><text x=\"{}\" y=\"{}\"{class} style=\"fill:{colour};font-weight:600\">{label}</text>",
            Px(text_x),
            Px(if side < 0.0 { y - 4.0 } else { y + TALL + 13.0 }),
            x = Px(x),
            from = Px(from),
            to = Px(to),
            tip = Px(tip),
            up = Px(8.0 * side),
        );
    }

    /// What the colours and patterns mean that are in the picture: each with how many there are.
    fn legend(&self) -> Vec<(String, String)> {
        let totals = &self.totals;
        let mut entries = Vec::new();
        for (type_, count) in totals.types.iter().take(MOST_NAMES) {
            let look = Look::Record { type_: *type_, state: RecordState::Unread };
            entries.push((look.attributes(), format!("{} ({count})", name(&self.names, *type_))));
        }
        let others = totals.types.values().skip(MOST_NAMES).sum::<u64>() + totals.other_types;
        if others > 0 {
            entries.push((format!("fill=\"none\" stroke=\"{INK}\""), format!("other types ({others})")));
        }
        // In no type's colour: whose records they are is said above.
        let states = [
            (RecordState::Unread, ""),
            (RecordState::Read, " class=\"r\""),
            (RecordState::Unpublished, " class=\"p\""),
        ];
        for ((of, class), (count, _)) in states.into_iter().zip(totals.states) {
            if count > 0 {
                entries.push((format!("fill=\"{INK}\"{class}"), format!("{} ({count})", state(of))));
            }
        }
        let rest = [
            (Look::Padding, "padding", totals.padding),
            (Look::Open, "reserved, not committed", totals.open),
            (Look::Torn, "end overwritten", totals.torn),
            (Look::Damaged, "damaged", totals.damaged),
            (Look::Remains, "free, with remains", totals.remains),
            (Look::Free, "free", totals.free),
        ];
        let rest = rest.into_iter().filter(|(_, _, bytes)| *bytes > 0);
        entries.extend(rest.map(|(look, what, bytes)| (look.attributes(), format!("{what} ({bytes} bytes)"))));
        entries
    }

    fn finish(mut self, first: u64, end: u64) -> String {
        self.end_row();
        self.fold();
        let description = self.inspection.description();
        let pages = self.inspection.page_count();
        let title = title(description, pages);
        let mut subtitle = positions(description);
        if (first, end) != (0, pages) {
            let _ = write!(subtitle, "; pages {first} to {}", end.saturating_sub(1));
        }
        if self.in_row > 1 {
            let _ = write!(subtitle, "; {} pages a row", self.in_row);
        }
        let mut legend = String::new();
        let (mut x, mut y) = (LEFT, 82.0);
        for (swatch, text) in self.legend() {
            let wide = 26.0 + text.chars().count() as f64 * 6.8 + 18.0;
            if x + wide > WIDTH && x > LEFT {
                (x, y) = (LEFT, y + 22.0);
            }
            let _ = writeln!(
                legend,
                "<rect x=\"{}\" y=\"{}\" width=\"18\" height=\"12\" rx=\"2\" {}/><text x=\"{}\" y=\"{}\">{}</text>",
                Px(x),
                Px(y - 10.0),
                swatch,
                Px(x + 25.0),
                Px(y),
                Escaped(&text)
            );
            x += wide;
        }
        let top = y + 24.0;
        let height = top + self.y + 8.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n<defs>{PATTERNS}</defs>\n\
             <text x=\"{x}\" y=\"32\" class=\"t\">{}</text>\n<text x=\"{x}\" y=\"54\">{}</text>\n{legend}\
             <g transform=\"translate(0 {})\">\n{}</g>\n</svg>\n",
            Escaped(&title),
            Escaped(&title),
            Escaped(&subtitle),
            Px(top),
            self.body,
            w = Px(WIDTH),
            h = Px(height),
            x = Px(LEFT),
        )
    }
}
