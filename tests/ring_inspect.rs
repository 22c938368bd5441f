//! What an inspection finds in rings, sound and damaged, and how it shows it.
#![allow(unsafe_code)]

use perfring::ring::{
    AttachError, Builder, Consumer, InspectError, Inspection, Mode, OverwriteProducer, Padding, Page, Producer,
    RECORD_OPEN, ReadErrorKind, RecordHeader, RecordState, Ring, Segment, SegmentKind,
};
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tempfile::TempDir;

const PAGE: u64 = 4096;
const SIZE: u64 = 4 * PAGE;
const NEAR_WRAP: u64 = 0u64.wrapping_sub(PAGE);

/// A ring file that nobody writes any more.
struct Image {
    _dir: TempDir,
    path: PathBuf,
}

impl Image {
    fn of(builder: Builder, fill: impl FnOnce(&Ring)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        // SAFETY: nobody else knows the file; it is damaged only when the ring and its producer are gone.
        let ring = unsafe { builder.create_file(&path) }.unwrap();
        fill(&ring);
        drop(ring);
        Self { _dir: dir, path }
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    fn pages(&self) -> Vec<Page> {
        let pages: Vec<_> = Inspection::open(&self.path).unwrap().pages().map(Result::unwrap).collect();
        let bytes = self.bytes();
        let again: Vec<_> = Inspection::from_bytes(&bytes).unwrap().pages().map(Result::unwrap).collect();
        assert_eq!(pages, again, "a file and its bytes are the same ring");
        pages
    }
}

fn push(producer: &Producer, size: usize, type_: u32) {
    let mut record = producer.begin_forward_in_page(size).unwrap();
    let len = record.remaining();
    record.put(&vec![0xa5; len]);
    record.commit(type_, 0);
}

fn push_free(producer: &Producer, size: usize, type_: u32) {
    let mut record = producer.begin_forward(size).unwrap();
    let len = record.remaining();
    record.put(&vec![0xa5; len]);
    record.commit(type_, 0);
}

fn push_over(producer: &OverwriteProducer, mode: Mode, size: usize, type_: u32) {
    let mut record = match mode {
        Mode::OverwriteForward => producer.begin_forward_in_page(size).unwrap(),
        _ => producer.begin_backward(size).unwrap(),
    };
    let len = record.remaining();
    record.put(&vec![0xa5; len]);
    record.commit(type_, 0);
}

fn record(type_: u32, state: RecordState) -> SegmentKind {
    SegmentKind::Record { type_, misc: 0, state }
}

use RecordState::{Read, Unpublished, Unread};
const REMAINS: SegmentKind = SegmentKind::Free { remains: true };
const ZEROS: SegmentKind = SegmentKind::Free { remains: false };

/// Kind, position and bytes of the segments of a page.
fn seen(page: &Page) -> Vec<(SegmentKind, u64, u64)> {
    page.segments.iter().map(|segment| (segment.kind, segment.position, segment.len)).collect()
}

/// That the segments follow on each other from the page's first byte to its last.
fn tiles(page: &Page, size: u64) {
    let mut offset = page.index * page.len;
    for segment in &page.segments {
        assert_eq!(segment.position % size, offset % size, "{page:?}");
        assert!(segment.len > 0 && segment.len.is_multiple_of(8), "{segment:?}");
        let into = segment.position.wrapping_sub(segment.whole_position);
        assert!(into + segment.len <= segment.whole_len, "{segment:?}");
        offset += segment.len;
    }
    assert_eq!(offset, (page.index + 1) * page.len, "{page:?}");
}

#[test]
fn a_confined_ring_has_records_padding_and_what_was_read() {
    for padding in [Padding::Zero, Padding::Header] {
        let image = Image::of(Ring::confined(4).padding(padding), |ring| {
            let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
            push(&producer, 4000, 1);
            push(&producer, 200, 2);
            consumer.for_each(|_| ()).unwrap();
            push(&producer, 48, 3);
        });
        let pages = image.pages();
        let first = [(record(1, Read), 0, 4000), (SegmentKind::Padding(padding), 4000, 96)];
        assert_eq!(seen(&pages[0]), first);
        let second = [(record(2, Read), PAGE, 200), (record(3, Unread), PAGE + 200, 48)];
        // What is behind the head is where the lap before would be.
        assert_eq!(seen(&pages[1])[..2], second);
        assert_eq!(seen(&pages[1])[2], (ZEROS, (PAGE + 248).wrapping_sub(SIZE), 3848));
        assert_eq!(seen(&pages[2]), [(ZEROS, (2 * PAGE).wrapping_sub(SIZE), PAGE)]);
        assert_eq!((pages[1].tail, pages[1].head), (Some(200), Some(248)));
        assert_eq!((pages[0].tail, pages[0].head, pages[2].head), (None, None, None));
    }
}

#[test]
fn a_record_that_wraps_in_a_free_ring_is_one_in_two_pieces() {
    let image = Image::of(Ring::free(4), |ring| {
        let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        push_free(&producer, 8000, 1);
        push_free(&producer, 8000, 2);
        consumer.for_each(|_| ()).unwrap();
        push_free(&producer, 1000, 3);
        push_free(&producer, 64, 4);
    });
    let pages = image.pages();
    let (at, left) = (16000, 384);
    assert_eq!(seen(&pages[3])[1], (record(3, Unread), at, left));
    assert_eq!(seen(&pages[0])[..2], [(record(3, Unread), SIZE, 616), (record(4, Unread), SIZE + 616, 64)]);
    let (begin, end) = (pages[3].segments[1], pages[0].segments[0]);
    for piece in [begin, end] {
        assert_eq!((piece.whole_position, piece.whole_len), (at, 1000));
    }
    assert_eq!((begin.is_first(), begin.is_last(), end.is_first(), end.is_last()), (true, false, false, true));
    // Where the records of the lap before start, nobody knows any more.
    assert_eq!(seen(&pages[1]), [(REMAINS, PAGE, PAGE)]);
    assert_eq!((pages[3].tail, pages[0].head), (Some(16000 - 3 * PAGE), Some(680)));
    // The same, where only a part is asked for.
    let inspection = Inspection::open(&image.path).unwrap();
    for from in 0..4 {
        for to in from..6 {
            let part: Vec<_> = inspection.pages_in(from..to).map(Result::unwrap).collect();
            assert_eq!(part, pages[from as usize..to.min(4) as usize]);
        }
    }
}

#[test]
fn a_free_ring_that_never_came_round_shows_what_was_read() {
    let image = Image::of(Ring::free(4), |ring| {
        let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        push_free(&producer, 5000, 1);
        push_free(&producer, 48, 2);
        consumer.for_each(|_| ()).unwrap();
        push_free(&producer, 48, 3);
    });
    let pages = image.pages();
    assert_eq!(seen(&pages[0]), [(record(1, Read), 0, PAGE)]);
    let second = [(record(1, Read), PAGE, 904), (record(2, Read), 5000, 48), (record(3, Unread), 5048, 48)];
    assert_eq!(seen(&pages[1])[..3], second);
}

#[test]
fn an_overwritten_ring_starts_with_its_oldest_whole_granule() {
    let image = Image::of(Ring::confined(4).mode(Mode::OverwriteForward), |ring| {
        let producer = ring.overwrite_producer().unwrap();
        // A granule has two of them, and a gap.
        for number in 0..21 {
            push_over(&producer, Mode::OverwriteForward, 2000, number);
        }
    });
    let pages = image.pages();
    let lap = 2 * SIZE;
    let newest = [(record(20, Unread), lap + 2 * PAGE, 2000), (REMAINS, SIZE + 2 * PAGE + 2000, 2096)];
    assert_eq!(seen(&pages[2]), newest);
    let gap = SegmentKind::Padding(Padding::Zero);
    for (page, first, lap) in [(0, 16, lap), (1, 18, lap), (3, 14, SIZE)] {
        let at = lap + page * PAGE;
        let expected =
            [(record(first, Unread), at, 2000), (record(first + 1, Unread), at + 2000, 2000), (gap, at + 4000, 96)];
        assert_eq!(seen(&pages[page as usize]), expected);
    }
    assert_eq!(pages[2].head, Some(2000));
    assert!(pages.iter().all(|page| page.tail.is_none()), "where it started is long overwritten");
}

#[test]
fn the_oldest_record_of_a_backward_ring_is_torn() {
    let mode = Mode::OverwriteBackward;
    let image = Image::of(Ring::free(4).mode(mode).start_position(0), |ring| {
        let producer = ring.overwrite_producer().unwrap();
        for number in 0..10 {
            push_over(&producer, mode, 3000, number);
        }
    });
    let pages = image.pages();
    let head = 0u64.wrapping_sub(30000);
    let all: Vec<_> = pages.iter().flat_map(|page| &page.segments).copied().collect();
    let first = |type_: u32| {
        let mut found = all.iter().filter(|segment| segment.kind == record(type_, Unread) && segment.is_first());
        found.next().map(|segment| (segment.whole_position, segment.whole_len))
    };
    for (back, type_) in (5..10).rev().enumerate() {
        assert_eq!(first(type_), Some((head.wrapping_add(3000 * back as u64), 3000)));
    }
    let torn: Vec<_> = all.iter().filter(|segment| matches!(segment.kind, SegmentKind::Torn { .. })).collect();
    assert_eq!(torn.iter().map(|segment| segment.len).sum::<u64>(), SIZE - 15000);
    assert_eq!(torn[0].kind, SegmentKind::Torn { type_: 4, misc: 0, size: 3000 });
    assert_eq!(torn[0].whole_position, head.wrapping_add(15000));
    let short = Image::of(Ring::free(4).mode(mode), |ring| {
        push_over(&ring.overwrite_producer().unwrap(), mode, 48, 7);
    });
    let pages = short.pages();
    assert_eq!(pages[3].segments.last().map(|last| last.kind), Some(record(7, Unread)));
    assert_eq!((pages[3].head, pages[0].tail), (Some(PAGE - 48), Some(0)));
}

#[test]
fn what_is_reserved_and_what_is_committed_behind_it_is_seen() {
    for builder in [Ring::confined(4), Ring::confined(4).mode(Mode::OverwriteForward)] {
        let ring = builder.memfd().unwrap();
        let mode = ring.description().mode;
        let look = || {
            let inspection = Inspection::of(&ring.fds().unwrap()).unwrap();
            inspection.pages().next().unwrap().unwrap()
        };
        if mode == Mode::Lossless {
            let producer = ring.producer().unwrap();
            push(&producer, 48, 1);
            let outer = producer.begin_forward_in_page(64).unwrap();
            push(&producer, 32, 2);
            let inner = producer.begin_forward_in_page(80).unwrap();
            let expected = [
                (record(1, Unread), 0, 48),
                (SegmentKind::Open, 48, 64),
                (record(2, Unpublished), 112, 32),
                (SegmentKind::Open, 144, 80),
            ];
            assert_eq!(seen(&look())[..4], expected);
            assert_eq!(look().head, Some(48));
            inner.commit(3, 0);
            outer.commit(4, 0);
            assert_eq!(seen(&look())[1], (record(4, Unread), 48, 64));
        } else {
            let producer = ring.overwrite_producer().unwrap();
            push_over(&producer, mode, 48, 1);
            let open = producer.begin_forward_in_page(64).unwrap();
            push_over(&producer, mode, 32, 2);
            let expected = [(record(1, Unread), 0, 48), (SegmentKind::Open, 48, 64), (record(2, Unpublished), 112, 32)];
            assert_eq!(seen(&look())[..3], expected);
            open.commit(4, 0);
            assert_eq!(seen(&look())[1..3], [(record(4, Unread), 48, 64), (record(2, Unread), 112, 32)]);
        }
    }
}

#[test]
fn a_corrupted_header_costs_its_granule_or_the_rest_of_a_free_ring() {
    let fill = |producer: &Producer, push: fn(&Producer, usize, u32)| (0..6).for_each(|i| push(producer, 2048, i));
    let damage = |image: &Image| {
        let file = File::options().write(true).open(&image.path).unwrap();
        let header = RecordHeader { type_: 9, misc: 0, size: 7 };
        file.write_all_at(&header.to_bytes(), PAGE + 2048).unwrap();
    };
    let bad = SegmentKind::Damaged(ReadErrorKind::TooSmall { size: 7 });
    let confined = Image::of(Ring::confined(4), |ring| fill(&ring.producer().unwrap(), push));
    damage(&confined);
    let pages = confined.pages();
    assert_eq!(seen(&pages[0]), [(record(0, Unread), 0, 2048), (bad, 2048, 2048)]);
    assert_eq!(seen(&pages[1]), [(record(2, Unread), PAGE, 2048), (record(3, Unread), PAGE + 2048, 2048)]);
    let free = Image::of(Ring::free(4), |ring| fill(&ring.producer().unwrap(), push_free));
    damage(&free);
    let pages = free.pages();
    assert_eq!(seen(&pages[0]), [(record(0, Unread), 0, 2048), (bad, 2048, 2048)]);
    assert_eq!(seen(&pages[1]), [(bad, PAGE, PAGE)]);
    assert_eq!(pages[1].segments[0].whole_len, 3 * PAGE - 2048);
    assert!(!pages[1].segments[0].is_first());
}

#[test]
fn what_is_no_ring_and_what_is_cut_are_typed_errors() {
    assert!(matches!(
        Inspection::from_bytes(&[0; 100]).map(|_| ()),
        Err(InspectError::Attach(AttachError::TooShort { len: 100 }))
    ));
    assert!(matches!(
        Inspection::from_bytes(&[3; 9000]).map(|_| ()),
        Err(InspectError::Attach(AttachError::Magic { .. }))
    ));
    let image = Image::of(Ring::confined(4), |ring| push(&ring.producer().unwrap(), 48, 1));
    let inspection = Inspection::open(&image.path).unwrap();
    let mut pages = inspection.pages();
    assert!(pages.next().unwrap().is_ok());
    File::options().write(true).open(&image.path).unwrap().set_len(PAGE + 2 * PAGE + 100).unwrap();
    assert!(pages.next().unwrap().is_ok());
    match pages.next() {
        Some(Err(InspectError::Read { page: 2, source })) => {
            assert_eq!(source.kind(), std::io::ErrorKind::UnexpectedEof);
        }
        other => panic!("{other:?}"),
    }
    assert!(pages.next().is_none());
    let mut out = Vec::new();
    assert!(matches!(inspection.write_svg(0..4, |_| String::new(), &mut out), Err(InspectError::Read { page: 2, .. })));
    assert!(out.is_empty());
    assert!(matches!(
        Inspection::open(&image.path).map(|_| ()),
        Err(InspectError::Attach(AttachError::Truncated { .. }))
    ));
    // In a ring that overwrites, `reserved` is not further than a ring's size from the head.
    let image = Image::of(Ring::confined(4).mode(Mode::OverwriteForward), |_| ());
    for reserved in [SIZE + 8, 12, 0u64.wrapping_sub(8)] {
        File::options().write(true).open(&image.path).unwrap().write_all_at(&reserved.to_ne_bytes(), 1344).unwrap();
        match Inspection::open(&image.path) {
            Err(InspectError::Attach(AttachError::Positions { tail, .. })) => assert_eq!(tail, reserved),
            other => panic!("{reserved}: {:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn what_is_overwritten_while_it_is_inspected_is_said_to_be() {
    let ring = Ring::confined(4).mode(Mode::OverwriteForward).memfd().unwrap();
    let producer = ring.overwrite_producer().unwrap();
    let push = |type_| push_over(&producer, Mode::OverwriteForward, 4096, type_);
    (0..4).for_each(push);
    let inspection = Inspection::of(&ring.fds().unwrap()).unwrap();
    let mut pages = inspection.pages();
    assert_eq!(seen(&pages.next().unwrap().unwrap()), [(record(0, Unread), 0, PAGE)]);
    // Pages 0 to 1 are overwritten before page 1 is read.
    (4..6).for_each(push);
    let gone = SegmentKind::Damaged(ReadErrorKind::Overwritten);
    assert_eq!(seen(&pages.next().unwrap().unwrap()), [(gone, PAGE, PAGE)]);
    assert_eq!(seen(&pages.next().unwrap().unwrap()), [(record(2, Unread), 2 * PAGE, PAGE)]);
}

#[test]
fn a_granule_that_is_overwritten_in_part_cannot_be_entered() {
    let ring = Ring::confined(4).mode(Mode::OverwriteForward).memfd().unwrap();
    let producer = ring.overwrite_producer().unwrap();
    let push = |type_| push_over(&producer, Mode::OverwriteForward, 2048, type_);
    (0..8).for_each(push);
    let inspection = Inspection::of(&ring.fds().unwrap()).unwrap();
    let mut pages = inspection.pages();
    pages.next().unwrap().unwrap();
    (8..11).for_each(push);
    let page = pages.next().unwrap().unwrap();
    assert_eq!(seen(&page), [(SegmentKind::Damaged(ReadErrorKind::Overwritten), PAGE, PAGE)]);
    assert_eq!(page.segments[0].whole_len, PAGE);
    assert_eq!(seen(&pages.next().unwrap().unwrap())[0], (record(4, Unread), 2 * PAGE, 2048));
}

#[test]
fn what_a_consumer_gives_back_while_it_is_inspected_may_be_overwritten() {
    for builder in [Ring::confined(4), Ring::free(4)] {
        let ring = builder.memfd().unwrap();
        let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        (0..6).for_each(|type_| match ring.description().confined {
            true => push(&producer, 2048, type_),
            false => push_free(&producer, 2048, type_),
        });
        let inspection = Inspection::of(&ring.fds().unwrap()).unwrap();
        assert!(consumer.drain().next().is_some());
        let first = inspection.pages().next().unwrap().unwrap();
        let gone = SegmentKind::Damaged(ReadErrorKind::Overwritten);
        assert_eq!(seen(&first), [(gone, 0, 2048), (record(1, Unread), 2048, 2048)]);
    }
}

#[test]
fn the_newest_overwrite_the_oldest_of_a_backward_ring_while_it_is_inspected() {
    let mode = Mode::OverwriteBackward;
    let ring = Ring::free(4).mode(mode).memfd().unwrap();
    let producer = ring.overwrite_producer().unwrap();
    (0..3).for_each(|type_| push_over(&producer, mode, 4096, type_));
    let inspection = Inspection::of(&ring.fds().unwrap()).unwrap();
    (3..5).for_each(|type_| push_over(&producer, mode, 4096, type_));
    let pages: Vec<_> = inspection.pages().map(Result::unwrap).collect();
    let at = |pages: u64| 0u64.wrapping_sub(pages * PAGE);
    assert_eq!(seen(&pages[1]), [(record(2, Unread), at(3), PAGE)]);
    assert_eq!(seen(&pages[2]), [(record(1, Unread), at(2), PAGE)]);
    assert_eq!(seen(&pages[3]), [(SegmentKind::Damaged(ReadErrorKind::Overwritten), at(1), PAGE)]);
}

#[test]
fn nothing_is_unread_where_nearly_all_is_reserved() {
    let image = Image::of(Ring::confined(4).mode(Mode::OverwriteForward), |ring| {
        let producer = ring.overwrite_producer().unwrap();
        (0..21).for_each(|number| push_over(&producer, Mode::OverwriteForward, 2000, number));
    });
    // From a little before the head on, a lap further: the head stands in the granule that is overwritten in part.
    let head = 2 * SIZE + 2 * PAGE + 2000;
    let reserved = head + SIZE - 8;
    File::options().write(true).open(&image.path).unwrap().write_all_at(&reserved.to_ne_bytes(), 1344).unwrap();
    let inspection = Inspection::open(&image.path).unwrap();
    assert_eq!(inspected(&inspection), []);
    assert_eq!(consumed(&image.bytes()), Some(Vec::new()));
}

// Text and pictures.

fn names(type_: u32) -> String {
    match type_ {
        1 => "MMAP".to_owned(),
        3 => "COMM".to_owned(),
        9 => "SAMPLE".to_owned(),
        10 => "MMAP2".to_owned(),
        other => format!("<{other}>"),
    }
}

fn text(image: &Image) -> String {
    let mut out = Vec::new();
    Inspection::open(&image.path).unwrap().write_text(0..u64::MAX, names, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn svg(inspection: &Inspection<'_>) -> String {
    let mut out = Vec::new();
    inspection.write_svg(0..u64::MAX, names, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn text_has_a_line_a_page_and_folds_free_ones() {
    let image = Image::of(Ring::confined(16), |ring| {
        let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        push(&producer, 128, 3);
        consumer.for_each(|_| ()).unwrap();
        push(&producer, 64, 9);
        push(&producer, 3840, 10);
        push(&producer, 512, 77);
    });
    let text = text(&image);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "lossless confined ring: 16 pages of 4096 bytes");
    assert!(lines[1].starts_with("head 0x1200, tail 0x80, 0 lost, closed"), "{text}");
    let bars: Vec<_> = lines.iter().filter(|line| line.contains('|')).collect();
    assert_eq!(bars.len(), 2, "{text}");
    let first = format!("|o-##{}/|", "=".repeat(59));
    assert!(bars[0].contains(&first), "{text}");
    assert!(bars[0].ends_with("3   4032  tail at 128"), "{text}");
    assert!(bars[1].contains(&format!("|#{}{}|", "=".repeat(7), " ".repeat(56))), "{text}");
    assert!(bars[1].ends_with("1    512  head at 512"), "{text}");
    assert!(text.contains("… 14 pages free\n"), "{text}");
    assert!(text.contains("3 records unread, 4416 bytes\n1 records read, 128 bytes\n64 bytes padding\n"), "{text}");
    assert!(text.ends_with("records: 1 of COMM, 1 of SAMPLE, 1 of MMAP2, 1 of <77>\n"), "{text}");
}

#[test]
fn a_picture_escapes_what_it_is_told_and_has_a_bounded_size() {
    let image = Image::of(Ring::confined(4), |ring| push(&ring.producer().unwrap(), 1024, 77));
    let picture = svg(&Inspection::open(&image.path).unwrap());
    assert!(picture.contains("&lt;77&gt;: 1024 bytes at 0x0, unread") && !picture.contains("<77>"));
    // Two million of the smallest records.
    let header = RecordHeader { type_: 9, misc: 0, size: 8 };
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = Ring::free(4).write_image(file.reopen().unwrap()).unwrap();
    for number in 0..2_000_000 {
        writer.record(RecordHeader { type_: number % 5, ..header }, &[]).unwrap();
    }
    writer.finish().unwrap();
    let picture = svg(&Inspection::open(file.path()).unwrap());
    assert!(picture.len() < 8 << 20, "{} bytes", picture.len());
    assert!(picture.contains("pages 0–63") && picture.contains("; 64 pages a row"));
    // Records of 16 million bytes in an area of 16 MiB: nothing is left to be folded. Of few there is.
    assert!(!picture.contains("free …"));
    let image = Image::of(Ring::confined(256), |ring| push(&ring.producer().unwrap(), 1024, 9));
    let picture = svg(&Inspection::open(&image.path).unwrap());
    assert!(picture.contains("pages 0–3<") && picture.contains("… pages 4 to 255: free …"));
}

/// A ring of eight pages with records of several types: read ones, unread ones, padding, and an open reservation, which
/// its producer takes along when it is killed.
fn example() -> Vec<u8> {
    let ring = Ring::confined(8).memfd().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let sizes = [(9, 104), (9, 88), (10, 152), (9, 96), (3, 48), (9, 240), (7, 64), (9, 104), (4, 56), (9, 312)];
    let mut records = sizes.into_iter().cycle();
    let mut write = |until: u64| {
        loop {
            let (type_, size) = records.next().unwrap_or((9, 104));
            let mut record = producer.begin_forward_in_page(size).unwrap();
            let position = record.position();
            record.put(&vec![0xa5; size - 8]);
            record.commit(type_, 0);
            if position >= until {
                return;
            }
        }
    };
    write(2 * PAGE + 1500);
    consumer.for_each(|_| ()).unwrap();
    write(6 * PAGE + 900);
    let open = producer.begin_forward_in_page(640).unwrap();
    let fds = ring.fds().unwrap();
    let (header, data) = (File::from(fds.header), File::from(fds.data));
    let mut image = vec![0; (9 * PAGE) as usize];
    header.read_exact_at(&mut image[..PAGE as usize], 0).unwrap();
    data.read_exact_at(&mut image[PAGE as usize..], 0).unwrap();
    drop(open);
    image
}

#[test]
fn the_picture_in_docs_is_what_is_drawn() {
    fn perf(type_: u32) -> String {
        let name = match type_ {
            3 => "COMM",
            4 => "EXIT",
            7 => "FORK",
            9 => "SAMPLE",
            10 => "MMAP2",
            _ => "?",
        };
        name.to_owned()
    }
    let image = example();
    let mut picture = Vec::new();
    Inspection::from_bytes(&image).unwrap().write_svg(0..8, perf, &mut picture).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ring.svg");
    if std::env::var_os("PERFRING_DRAW").is_some() {
        std::fs::write(path, &picture).unwrap();
    }
    let drawn = String::from_utf8(picture).unwrap();
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(drawn == committed, "docs/ring.svg is of before: PERFRING_DRAW=1 draws it anew");
}

// Any ring.

fn builders() -> [Builder; 7] {
    [
        Ring::confined(4),
        Ring::confined(4).padding(Padding::Header).start_position(NEAR_WRAP),
        Ring::free(4).start_position(NEAR_WRAP),
        Ring::free(4),
        Ring::confined(4).mode(Mode::OverwriteForward),
        Ring::confined(4).mode(Mode::OverwriteForward).start_position(NEAR_WRAP - SIZE),
        Ring::free(4).mode(Mode::OverwriteBackward),
    ]
}

/// An image of a ring with records of these sizes; in a lossless one all but the last few have been read.
fn random(builder: Builder, words: &[u16], keep: usize) -> Vec<u8> {
    let image = Image::of(builder, |ring| {
        let mode = ring.description().mode;
        let confined = ring.description().confined;
        if mode != Mode::Lossless {
            let producer = ring.overwrite_producer().unwrap();
            words.iter().for_each(|words| push_over(&producer, mode, usize::from(*words) * 8, u32::from(*words)));
            return;
        }
        let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let count = words.len();
        for (i, words) in words.iter().enumerate() {
            let size = usize::from(*words) * 8;
            if i + keep == count || !fits(&producer, confined, size) {
                consumer.for_each(|_| ()).unwrap();
            }
            let push = if confined { push } else { push_free };
            push(&producer, size, u32::from(*words));
        }
    });
    image.bytes()
}

fn fits(producer: &Producer, confined: bool, size: usize) -> bool {
    let room = if confined { producer.has_room_in_page(size) } else { producer.has_room_for(size) };
    room.unwrap()
}

/// What the inspection of an image says is unread, and damaged: position, bytes, and type or defect; checks that pages are
/// tiled.
type Found = Vec<(u64, u64, Result<u32, ReadErrorKind>)>;

fn inspected(inspection: &Inspection<'_>) -> Found {
    let description = inspection.description();
    let origin = match description.mode {
        Mode::OverwriteBackward => description.data_head,
        _ => description.data_head.wrapping_sub(description.data_size),
    };
    let mut found = Vec::new();
    let mut total = 0;
    for page in inspection.pages() {
        let page = page.unwrap();
        tiles(&page, description.data_size);
        total += page.len;
        for segment in page.segments.iter().filter(|segment| segment.is_first()) {
            let Segment { kind, whole_position, whole_len, .. } = *segment;
            match kind {
                SegmentKind::Record { type_, state: Unread, .. } => found.push((whole_position, whole_len, Ok(type_))),
                SegmentKind::Damaged(reason) => found.push((whole_position, whole_len, Err(reason))),
                _ => {}
            }
        }
    }
    assert_eq!(total, description.data_size);
    found.sort_by_key(|(position, ..)| position.wrapping_sub(origin));
    found
}

/// The same as a consumer finds it; `None` where it has no sound head.
fn consumed(image: &[u8]) -> Option<Found> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(image, 0).unwrap();
    let mut consumer = Consumer::open_file(file.path()).unwrap();
    let items = consumer.drain().owned().map(|item| match item {
        Ok(record) => (record.position, record.bytes.len() as u64, Ok(record.header.type_)),
        Err(error) => (error.position, error.skipped, Err(error.kind)),
    });
    let items: Vec<_> = items.collect();
    let no_head = |(_, _, found): &(_, _, Result<u32, ReadErrorKind>)| matches!(found, Err(ReadErrorKind::Head { .. }));
    (!items.iter().any(no_head)).then_some(items)
}

/// All that can be done with an inspection comes to an end.
fn exercise(inspection: &Inspection<'_>) {
    let mut out = Vec::new();
    inspection.write_text(0..u64::MAX, names, &mut out).unwrap();
    inspection.write_svg(1..3, names, &mut out).unwrap();
    assert!(out.len() < 4 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn segments_tile_the_pages_and_unread_is_what_a_consumer_reads(
        which in 0..7usize,
        words in prop::collection::vec(1..200u16, 0..120),
        keep in 0..40usize,
    ) {
        let image = random(builders()[which].clone(), &words, keep);
        let inspection = Inspection::from_bytes(&image).unwrap();
        let found = inspected(&inspection);
        prop_assert!(found.iter().all(|(.., what)| what.is_ok()));
        prop_assert_eq!(Some(found), consumed(&image));
        exercise(&inspection);
    }

    #[test]
    fn damaged_rings_are_tiled_or_refused(
        which in 0..7usize,
        words in prop::collection::vec(1..200u16, 0..120),
        data in prop::collection::vec((0..SIZE as usize, any::<u8>()), 0..8),
        open in prop::collection::vec(0..SIZE as usize / 8, 0..3),
        header in prop::collection::vec((prop_oneof![1024..1056usize, 1152..1360usize, 0..4096usize], 0..8u32), 0..3),
    ) {
        let mut image = random(builders()[which].clone(), &words, 8);
        for at in open {
            let header = RecordHeader { type_: RECORD_OPEN, misc: 0, size: 64 };
            image[PAGE as usize + at * 8..][..8].copy_from_slice(&header.to_bytes());
        }
        for (at, mask) in data {
            image[PAGE as usize + at] ^= mask;
        }
        for (at, bit) in header {
            image[at] ^= 1 << bit;
        }
        if let Ok(inspection) = Inspection::from_bytes(&image) {
            let found = inspected(&inspection);
            if let Some(expected) = consumed(&image) {
                prop_assert_eq!(found, expected);
            }
            exercise(&inspection);
        }
    }
}
