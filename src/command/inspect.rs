//! `perfring inspect`.

use super::output::{Failure, Outcome, create};
use perfring::record::RecordType;
use perfring::ring::{InspectError, Inspection};
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

/// Show what the pages of a ring hold, without consuming anything.
///
/// The ring is an image in a file, which may be written meanwhile. For each page there is a bar: records that are unread or
/// read, padding, reservations that are open, free bytes, and damage. Then come sums.
#[derive(clap::Args)]
pub struct Arguments {
    /// The ring's file.
    ring: PathBuf,
    /// Draw the pages as a picture into this file, instead of printing them.
    #[arg(long, value_name = "OUT")]
    svg: Option<PathBuf>,
    /// Only these pages, counted from 0: `A..B` (without B), `A..`, `..B`, or one page.
    #[arg(long, value_name = "A..B", value_parser = parse_pages)]
    pages: Option<Range<u64>>,
}

fn parse_pages(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str, default: u64| match text {
        "" => Ok(default),
        text => text.parse().map_err(|_| format!("`{text}` is not the number of a page")),
    };
    let range = match text.split_once("..") {
        Some((from, to)) => number(from, 0)?..number(to, u64::MAX)?,
        None => {
            let page: u64 = text.parse().map_err(|_| format!("`{text}` is not the number of a page"))?;
            page..page.saturating_add(1)
        }
    };
    if range.is_empty() { Err("no page is in it".to_owned()) } else { Ok(range) }
}

/// Prints the ring's pages to `out`, or draws them.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Outcome, Failure> {
    let failed = |error| match error {
        InspectError::Write(error) => Failure::from(error),
        error => Failure::file("inspect", &arguments.ring, error),
    };
    let inspection = Inspection::open(&arguments.ring).map_err(failed)?;
    let pages = arguments.pages.clone().unwrap_or(0..u64::MAX);
    if pages.start >= inspection.page_count() {
        return Err(Failure::Usage(format!("the ring has {} pages, counted from 0", inspection.page_count())));
    }
    let names = |type_| RecordType(type_).to_string();
    let Some(svg) = &arguments.svg else {
        inspection.write_text(pages, names, out).map_err(failed)?;
        return Ok(Outcome::Fine);
    };
    // Written when all was read: a ring that cannot be read leaves the file alone.
    let mut picture = Vec::new();
    inspection.write_svg(pages, names, &mut picture).map_err(failed)?;
    let mut file = create(svg, &arguments.ring)?;
    file.write_all(&picture).map_err(|error| Failure::file("write", svg, error))?;
    Ok(Outcome::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfring::ring::{RecordHeader, Ring};
    use std::fs::File;
    use std::path::Path;

    fn image(dir: &Path) -> PathBuf {
        let path = dir.join("ring");
        let mut image = Ring::confined(4).write_image(File::create(&path).unwrap()).unwrap();
        image.record(RecordHeader { type_: 3, misc: 0, size: 16 }, &[1; 8]).unwrap();
        image.finish().unwrap();
        path
    }

    #[test]
    fn pages_are_ranges_or_one() {
        assert_eq!(parse_pages("2..5"), Ok(2..5));
        assert_eq!(parse_pages("2.."), Ok(2..u64::MAX));
        assert_eq!(parse_pages("..5"), Ok(0..5));
        assert_eq!(parse_pages("7"), Ok(7..8));
        for wrong in ["", "5..2", "3..3", "a..b", "-1", "1...3"] {
            assert!(parse_pages(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn prints_the_names_of_perf_or_draws() {
        let dir = tempfile::tempdir().unwrap();
        let mut arguments = Arguments { ring: image(dir.path()), svg: None, pages: None };
        let mut out = Vec::new();
        assert!(matches!(run(&arguments, &mut out), Ok(Outcome::Fine)));
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("1 of COMM"), "{text}");

        let svg = dir.path().join("ring.svg");
        arguments.svg = Some(svg.clone());
        let mut out = Vec::new();
        assert!(matches!(run(&arguments, &mut out), Ok(Outcome::Fine)));
        assert!(out.is_empty());
        assert!(std::fs::read_to_string(svg).unwrap().contains("COMM"));
    }

    #[test]
    fn what_is_no_ring_leaves_the_picture_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, svg) = (dir.path().join("none"), dir.path().join("picture"));
        std::fs::write(&ring, [7; 9000]).unwrap();
        std::fs::write(&svg, "before").unwrap();
        let arguments = Arguments { ring, svg: Some(svg.clone()), pages: None };
        assert!(matches!(run(&arguments, &mut Vec::new()), Err(Failure::Other(_))));
        assert_eq!(std::fs::read_to_string(svg).unwrap(), "before");
        let beyond = Arguments { ring: image(dir.path()), svg: None, pages: Some(4..5) };
        assert!(matches!(run(&beyond, &mut Vec::new()), Err(Failure::Usage(_))));
    }
}
