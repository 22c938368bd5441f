//! Recordings that are damaged, lie, or change while they are read: an error or a warning, and every record that is intact.

use perfring::record::{
    Attr, AttrFlags, Body, ByteOrder, Encoder, Header, Lost, Misc, RecordType, SampleFields, SampleId, SampleType,
};
use perfring::replay::perf_data::{Feature, FeatureId, FileHeader, WriteOptions, Writer};
use perfring::replay::{Metadata, OpenError, Order, ReadAt, ReadError, Recording, Records, Warning};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::sync::Mutex;

/// Counts what the thread has allocated, and the most of it.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // While a thread ends there is nothing to count.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

#[allow(unsafe_code, reason = "an allocator has no other form")]
// SAFETY: everything is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `run` holds beyond what was there before.
fn peak(run: impl FnOnce()) -> usize {
    let before = NOW.get();
    MOST.set(before);
    run();
    (MOST.get() - before) as usize
}

fn attr() -> Attr {
    let sample_type = SampleType::IDENTIFIER | SampleType::TIME | SampleType::IP;
    Attr { type_: 1, sample_type, flags: AttrFlags::SAMPLE_ID_ALL, ..Attr::default() }
}

fn sample(order: ByteOrder, time: u64) -> Vec<u8> {
    let mut record = Vec::new();
    let fields =
        SampleFields { identifier: Some(1), time: Some(time), ip: Some(0x1000 + time), ..SampleFields::default() };
    Encoder::new(&attr(), order).expect("a layout").sample(Misc::empty(), &fields, &mut record).expect("a sample");
    record
}

/// A recording of three rounds; each of its records is younger than those before it.
fn recording(order: ByteOrder, level: Option<u8>, is_pipe: bool) -> Vec<u8> {
    let options = WriteOptions::default().order(order);
    let options = level.map_or(options, |level| options.zstd(level));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("perf.data");
    let file = std::fs::File::create(&path).expect("a file");
    let writer = if is_pipe { Writer::pipe(file, options) } else { Writer::file(file, options) };
    let mut writer = writer.expect("a writer");
    writer.event(&attr(), &[1, 2], "an event").expect("an event");
    writer.describe(&Feature::Hostname((&b"host"[..]).into())).expect("a feature");
    for round in 0..3 {
        for number in 0..5 {
            writer.record(&sample(order, 10 * round + number + 1)).expect("a record");
        }
        writer.round().expect("a round");
    }
    writer.finish().expect("a recording");
    std::fs::read(path).expect("what was written")
}

/// What comes out of a recording.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    records: Vec<Vec<u8>>,
    errors: Vec<String>,
}

/// More than there can be in any recording of these tests.
const MOST_ITEMS: usize = 100_000;

fn drain(records: &mut Records) -> Seen {
    let mut seen = Seen::default();
    while let Some(entry) = records.next() {
        match entry {
            Ok(entry) => {
                let _ = format!("{entry:?}");
                seen.records.push(entry.bytes().to_vec());
            }
            Err(error) => seen.errors.push(error.to_string()),
        }
        assert!(seen.records.len() + seen.errors.len() < MOST_ITEMS, "it does not end");
    }
    seen
}

fn read(bytes: Vec<u8>, order: Order) -> Result<Seen, OpenError> {
    Ok(drain(&mut Recording::from_read_at(bytes)?.records(order)))
}

fn forms() -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for order in [ByteOrder::Little, ByteOrder::Big] {
        for level in [None, Some(1)] {
            forms.extend([false, true].map(|is_pipe| recording(order, level, is_pipe)));
        }
    }
    forms
}

#[test]
fn whole_recordings_are_whole() {
    for bytes in forms() {
        for order in [Order::Recorded, Order::default()] {
            let seen = read(bytes.clone(), order).expect("a recording");
            assert_eq!(seen.errors, Vec::<String>::new());
            let samples = seen.records.iter().filter(|record| record.len() == sample(ByteOrder::Little, 1).len());
            assert_eq!(samples.count(), 15);
        }
    }
}

#[test]
fn of_what_is_cut_off_anywhere_all_before_comes_out() {
    for bytes in forms() {
        let whole = read(bytes.clone(), Order::Recorded).expect("a recording").records;
        for len in 0..bytes.len() {
            let Ok(seen) = read(bytes[..len].to_vec(), Order::Recorded) else { continue };
            assert!(whole.starts_with(&seen.records), "{len}");
            let mut recording =
                Recording::from_read_at(bytes[..len].to_vec()).expect("it opens").records(Order::default());
            let sorted = drain(&mut recording);
            assert_eq!(sorted.records.len(), seen.records.len(), "{len}");
            // Either all is there, or it is said that it is not.
            let is_told = !sorted.errors.is_empty() || !recording.metadata().warnings().is_empty();
            let is_pipe = recording.metadata().header().is_none();
            assert!(is_told || seen.records == whole || is_pipe, "{len}: {:?}", sorted.errors);
        }
    }
}

#[test]
fn no_flipped_bit_does_harm() {
    // Each of them has what the others lack.
    for bytes in forms().into_iter().step_by(3) {
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            for order in [Order::Recorded, Order::Time { window: 1 << 19 }] {
                let _ = read(damaged.clone(), order);
            }
        }
    }
}

/// Overwrites words, each at its place.
fn with_words(words: &[(usize, u64)]) -> Vec<u8> {
    let mut bytes = recording(ByteOrder::NATIVE, None, false);
    for (at, word) in words {
        bytes[*at..at + 8].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

// Where the fields of the file's header are.
const SIZE: usize = 8;
const ATTR_SIZE: usize = 16;
const ATTRS_OFFSET: usize = 24;
const ATTRS_SIZE: usize = 32;
const DATA_OFFSET: usize = 40;
const DATA_SIZE: usize = 48;
const FEATURES: usize = 72;

fn opened(words: &[(usize, u64)]) -> OpenError {
    match Recording::from_read_at(with_words(words)) {
        Err(error) => error,
        Ok(recording) => panic!("{words:?}: {recording:?}"),
    }
}

#[test]
fn each_lie_of_the_header_is_an_error_of_its_own() {
    assert!(matches!(opened(&[(0, 1)]), OpenError::Magic { .. }));
    assert!(matches!(opened(&[(SIZE, 103)]), OpenError::HeaderSize { found: 103 }));
    for wrong in [0, 64, 79, 4097, 1 << 60, u64::MAX] {
        assert!(matches!(opened(&[(ATTR_SIZE, wrong)]), OpenError::AttrSize { found } if found == wrong), "{wrong}");
    }
    for (at, wrong) in [(ATTRS_OFFSET, 1 << 60), (ATTRS_OFFSET, u64::MAX), (ATTRS_SIZE, 1 << 60), (ATTRS_SIZE, 145)] {
        assert!(matches!(opened(&[(at, wrong)]), OpenError::Attrs { .. }), "{at} {wrong}");
    }
    let mut version1 = recording(ByteOrder::NATIVE, None, false);
    version1[..8].copy_from_slice(b"PERFFILE");
    assert!(matches!(Recording::from_read_at(version1), Err(OpenError::Version1)));
    assert!(matches!(Recording::from_read_at(b"PERFILE2".to_vec()), Err(OpenError::Header { needed: 16, len: 8 })));
    assert!(matches!(Recording::from_read_at(Vec::new()), Err(OpenError::Empty)));

    // The section of the ids stands behind the event's attribute.
    let bytes = recording(ByteOrder::NATIVE, None, false);
    let header = FileHeader::from_bytes(&bytes).expect("a header");
    let ids = (header.attrs.offset + header.attr_size - 16) as usize;
    for (at, wrong) in [(ids, 1 << 60), (ids + 8, 1 << 60), (ids + 8, 7)] {
        assert!(matches!(opened(&[(at, wrong)]), OpenError::Ids { event: 0, .. }), "{at} {wrong}");
    }
}

#[test]
fn records_beyond_the_end_are_said_to_be_missing() {
    for wrong in [1 << 60, u64::MAX, 10_000] {
        let mut records =
            Recording::from_read_at(with_words(&[(DATA_SIZE, wrong)])).expect("it opens").records(Order::default());
        let seen = drain(&mut records);
        // What stands behind them, the features, is taken for records, up to where it makes no sense.
        assert!(seen.records.len() >= 18, "{}", seen.records.len());
        assert_eq!(seen.errors.len(), 1, "{:?}", seen.errors);
        assert!(matches!(
            records.metadata().warnings()[..],
            [Warning::FeatureTable { .. } | Warning::Short { .. }, ..]
        ));
    }
    let seen = read(with_words(&[(DATA_OFFSET, u64::MAX - 7)]), Order::default()).expect("it opens");
    assert_eq!(seen.records.len(), 0);
}

#[test]
fn features_that_are_not_there_are_warned_of() {
    let recording = Recording::from_read_at(with_words(&[(FEATURES, u64::MAX)])).expect("it opens");
    assert!(!recording.metadata().warnings().is_empty());
    let seen = drain(&mut recording.records(Order::default()));
    assert_eq!((seen.records.len(), seen.errors.len()), (18, 0));
}

#[test]
fn sizes_that_no_record_has_end_it() {
    for size in [0_u16, 1, 7] {
        let mut bytes = recording(ByteOrder::NATIVE, None, false);
        let header = FileHeader::from_bytes(&bytes).expect("a header");
        let at = header.data.offset as usize + 5 * sample(ByteOrder::NATIVE, 1).len();
        bytes[at + 6..at + 8].copy_from_slice(&size.to_ne_bytes());
        let mut records = Recording::from_read_at(bytes).expect("it opens").records(Order::default());
        for _ in 0..5 {
            assert!(matches!(records.next(), Some(Ok(_))));
        }
        match records.next() {
            Some(Err(ReadError::Size { position, size: found })) => assert_eq!((position, found), (at as u64, size)),
            other => panic!("{other:?}"),
        }
        assert!(records.next().is_none());
    }
}

#[test]
fn an_attribute_of_a_newer_kernel_is_read_as_far_as_it_is_known() {
    let mut bytes = recording(ByteOrder::NATIVE, None, false);
    let header = FileHeader::from_bytes(&bytes).expect("a header");
    // The list of events at the end, with an attribute that is larger and has something in it.
    let at = header.attrs.offset as usize;
    let mut entry = bytes[at..at + 128].to_vec();
    entry.resize(160, 0);
    entry[4..8].copy_from_slice(&160_u32.to_ne_bytes());
    entry[152] = 1;
    entry.extend_from_slice(&bytes[at + 128..at + 144]);
    let end = bytes.len() as u64;
    bytes.extend_from_slice(&entry);
    for (at, word) in [(ATTR_SIZE, 176), (ATTRS_OFFSET, end), (ATTRS_SIZE, 176)] {
        bytes[at..at + 8].copy_from_slice(&u64::to_ne_bytes(word));
    }
    let recording = Recording::from_read_at(bytes).expect("it opens");
    assert!(matches!(recording.metadata().warnings(), [Warning::NewerAttr { event: 0, .. }]));
    assert_eq!(recording.metadata().events()[0].attr.sample_type, attr().sample_type);
    assert_eq!(drain(&mut recording.records(Order::default())).records.len(), 18);
}

/// The records of a pipe, one behind the other.
fn pipe(records: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let header = FileHeader::PIPE_SIZE as u64;
    let mut bytes = b"PERFILE2".to_vec();
    if cfg!(target_endian = "big") {
        bytes.reverse();
    }
    bytes.extend(header.to_ne_bytes());
    records.into_iter().for_each(|record| bytes.extend(record));
    bytes
}

fn bare(type_: RecordType, body: &[u8]) -> Vec<u8> {
    let header = Header { type_, misc: Misc::empty(), size: (8 + body.len()) as u16 };
    [&header.to_bytes(ByteOrder::NATIVE)[..], body].concat()
}

#[test]
fn more_events_than_any_machine_has_are_not_kept() {
    let event = bare(RecordType::HEADER_ATTR, &[&attr().to_bytes(ByteOrder::NATIVE)[..], &[0; 8]].concat());
    let events = std::iter::repeat_n(event, Metadata::MAX_EVENTS + 10);
    let mut records = Recording::from_read_at(pipe(events)).expect("it opens").records(Order::default());
    let seen = drain(&mut records);
    assert_eq!(seen.records.len(), Metadata::MAX_EVENTS + 10);
    assert_eq!(records.metadata().events().len(), Metadata::MAX_EVENTS);
    assert!(records.metadata().warnings().len() <= Metadata::MAX_WARNINGS);

    // In a file.
    let bytes = recording(ByteOrder::NATIVE, None, false);
    let header = FileHeader::from_bytes(&bytes).expect("a header");
    let at = header.attrs.offset as usize;
    let entry = bytes[at..at + 144].to_vec();
    let mut many = bytes.clone();
    let offset = many.len() as u64;
    (0..=Metadata::MAX_EVENTS).for_each(|_| many.extend_from_slice(&entry));
    for (at, word) in [(ATTRS_OFFSET, offset), (ATTRS_SIZE, 144 * (Metadata::MAX_EVENTS as u64 + 1))] {
        many[at..at + 8].copy_from_slice(&word.to_ne_bytes());
    }
    assert!(matches!(Recording::from_read_at(many), Err(OpenError::Events { count: 16_385 })));
}

#[test]
fn ids_that_two_events_share_are_those_of_the_first() {
    let event = |ids: &[u64]| {
        let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_ne_bytes()).collect();
        bare(RecordType::HEADER_ATTR, &[&attr().to_bytes(ByteOrder::NATIVE)[..], &ids].concat())
    };
    let records = [event(&[1, 2]), event(&[2, 3]), sample(ByteOrder::NATIVE, 5)];
    let mut records = Recording::from_read_at(pipe(records)).expect("it opens").records(Order::default());
    let seen = drain(&mut records);
    assert_eq!((seen.records.len(), seen.errors.len()), (3, 0));
    assert!(matches!(records.metadata().warnings(), [Warning::Undecodable { event: 1, .. }]));
    // What can be told is.
    let record = sample(ByteOrder::NATIVE, 5);
    let decoded = records.metadata().decoder().decode(&record).expect("a sample");
    assert_eq!((decoded.event(), decoded.time()), (Some(0), Some(5)));
}

#[test]
fn features_that_are_too_large_are_not_kept() {
    let section = [&u64::from(FeatureId::CMDLINE.0).to_ne_bytes()[..], &vec![1; 65_000]].concat();
    let feature = bare(RecordType::HEADER_FEATURE, &section);
    let number = Metadata::MAX_FEATURE / 65_000 + 100;
    let held = peak(|| {
        let bytes = pipe(std::iter::repeat_n(feature.clone(), number));
        let mut records = Recording::from_read_at(bytes).expect("it opens").records(Order::Recorded);
        while let Some(entry) = records.next() {
            entry.expect("a sound recording");
        }
        assert!(records.metadata().warnings().iter().any(|warning| matches!(warning, Warning::NotKept { .. })));
    });
    let input = (65_016 * number).next_power_of_two();
    assert!(held < input + Metadata::MAX_FEATURE + (8 << 20), "{held}");
}

#[test]
fn corrupt_compression_costs_what_was_compressed() {
    let bytes = recording(ByteOrder::NATIVE, Some(1), false);
    let header = FileHeader::from_bytes(&bytes).expect("a header");
    let (start, end) = (header.data.offset as usize, header.data.end().expect("an end") as usize);
    let mut failed = 0;
    for at in start..end {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        let seen = read(damaged, Order::default()).expect("it opens");
        assert!(seen.errors.len() <= 3, "{at}: {:?}", seen.errors);
        failed += usize::from(!seen.errors.is_empty());
    }
    assert!(failed > 50, "{failed}");
}

#[test]
fn what_was_compressed_to_next_to_nothing_takes_no_more_memory() {
    let mut lost = Vec::new();
    let body = Body::Lost(Lost { id: 1, lost: 1 });
    let id = SampleId { time: Some(7), identifier: Some(1), ..SampleId::default() };
    let encoder = Encoder::new(&attr(), ByteOrder::NATIVE).expect("a layout");
    encoder.encode(Misc::empty(), &body, &id, &mut lost).expect("a record");
    let number = (256 << 20) / lost.len();
    let compressed = zstd::encode_all(&lost.repeat(number)[..], 19).expect("zstd");
    assert!(compressed.len() < 1 << 20, "{}", compressed.len());
    let event =
        bare(RecordType::HEADER_ATTR, &[&attr().to_bytes(ByteOrder::NATIVE)[..], &1_u64.to_ne_bytes()].concat());
    let pieces = compressed.chunks(65_000).map(|piece| bare(RecordType::COMPRESSED, piece));
    let bytes = pipe(std::iter::once(event).chain(pieces));
    let window = 8 << 20;
    let held = peak(|| {
        let mut records = Recording::from_read_at(bytes).expect("it opens").records(Order::Time { window });
        let mut seen = 0;
        while let Some(entry) = records.next() {
            seen += usize::from(entry.expect("a sound recording").type_() == RecordType::LOST);
        }
        assert_eq!(seen, number);
        assert!(records.order_stats().early > 0);
    });
    // Beside the window: the chunks that are being filled. What zstd takes is not counted here: it does not ask this allocator.
    assert!(held < window + (4 << 20), "{held}");
}

/// Bytes that get fewer after so many were read.
struct Shrinking {
    bytes: Vec<u8>,
    left: Mutex<usize>,
}

impl ReadAt for Shrinking {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut left = self.left.lock().expect("no panic");
        let len = into.len().min(100).min(*left);
        *left -= len;
        self.bytes.read_at(&mut into[..len], offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }
}

#[test]
fn a_file_that_gets_shorter_is_an_error() {
    let bytes = recording(ByteOrder::NATIVE, None, false);
    let mut truncated = 0;
    for left in 0..bytes.len() {
        let source = Shrinking { bytes: bytes.clone(), left: Mutex::new(left) };
        let Ok(recording) = Recording::from_read_at(source) else { continue };
        let mut records = recording.records(Order::default());
        let mut is_last = false;
        while let Some(entry) = records.next() {
            assert!(!is_last, "nothing comes behind the end");
            match entry {
                Ok(_) => {}
                Err(ReadError::Truncated { missing, .. }) => {
                    assert!(missing > 0);
                    truncated += 1;
                    is_last = true;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(truncated > 100, "{truncated}");
}

/// A byte at a time.
struct Slow(io::Cursor<Vec<u8>>);

impl Read for Slow {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into.get_mut(..1).unwrap_or_default())
    }
}

#[test]
fn a_stream_that_is_slow_is_read_all_the_same() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        for level in [None, Some(1)] {
            let bytes = recording(order, level, true);
            let whole = read(bytes.clone(), Order::Recorded).expect("a recording");
            let recording = Recording::from_stream(Slow(io::Cursor::new(bytes))).expect("it opens");
            assert_eq!(drain(&mut recording.records(Order::Recorded)), whole);
        }
    }
    let file = recording(ByteOrder::NATIVE, None, false);
    assert!(matches!(Recording::from_stream(io::Cursor::new(file)), Err(OpenError::Seek)));
}

#[test]
fn a_record_of_a_stream_comes_before_the_next_is_there() {
    let (mut theirs, ours) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let event =
        bare(RecordType::HEADER_ATTR, &[&attr().to_bytes(ByteOrder::NATIVE)[..], &1_u64.to_ne_bytes()].concat());
    theirs.write_all(&pipe([event])).expect("room");
    let mut records = Recording::from_stream(ours).expect("it opens").records(Order::Recorded);
    assert_eq!(records.next().expect("the event").expect("sound").type_(), RecordType::HEADER_ATTR);
    for time in 1..10 {
        theirs.write_all(&sample(ByteOrder::NATIVE, time)).expect("room");
        // With nothing behind it that could be read.
        assert_eq!(records.next().expect("a sample").expect("sound").time(), Some(time));
    }
    drop(theirs);
    assert!(records.next().is_none());
}

#[test]
fn what_follows_a_record_is_read_or_stepped_over() {
    let payload: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let body = [&(payload.len() as u64).to_ne_bytes()[..], &[0; 32]].concat();
    let auxtrace = [bare(RecordType::AUXTRACE, &body), payload.clone()].concat();
    let event =
        bare(RecordType::HEADER_ATTR, &[&attr().to_bytes(ByteOrder::NATIVE)[..], &1_u64.to_ne_bytes()].concat());
    let bytes = pipe([event, auxtrace, sample(ByteOrder::NATIVE, 5), sample(ByteOrder::NATIVE, 6)]);
    for wanted in [0, 1, 7, 300_000, 999_999, 1_000_000] {
        for is_stream in [false, true] {
            let recording = match is_stream {
                true => Recording::from_stream(io::Cursor::new(bytes.clone())),
                false => Recording::from_read_at(bytes.clone()),
            };
            let mut records = recording.expect("it opens").records(Order::Recorded);
            records.next().expect("the event").expect("sound");
            assert_eq!(records.next().expect("the trace").expect("sound").type_(), RecordType::AUXTRACE);
            assert_eq!(records.payload(), 1_000_000);
            let mut read = vec![0; wanted];
            let mut done = 0;
            while done < wanted {
                done += records.read_payload(&mut read[done..]).expect("it is there");
            }
            assert_eq!(read, payload[..wanted]);
            assert_eq!(records.payload(), (1_000_000 - wanted) as u64);
            for time in [5, 6] {
                let entry = records.next().expect("a sample").expect("sound");
                assert_eq!(entry.time(), Some(time), "{wanted}");
                let at = bytes.len() as u64 - (7 - time) * entry.bytes().len() as u64;
                assert_eq!(entry.position(), at);
            }
            assert!(records.next().is_none());
        }
    }
    // One that is not all there.
    let cut = bytes[..bytes.len() - 200_000].to_vec();
    let seen = read(cut, Order::default()).expect("it opens");
    assert_eq!((seen.records.len(), seen.errors.len()), (2, 1), "{:?}", seen.errors);
}

#[test]
fn records_lie_across_the_ends_of_chunks_at_every_place() {
    let event =
        bare(RecordType::HEADER_ATTR, &[&attr().to_bytes(ByteOrder::NATIVE)[..], &1_u64.to_ne_bytes()].concat());
    for first in (0..64).map(|step| 65_528 - 8 * step) {
        // Four of the largest are just a chunk.
        let large = bare(RecordType(40), &vec![7; first - 8]);
        let largest = bare(RecordType(90), &vec![9; 65_535 - 8]);
        let all: Vec<Vec<u8>> = std::iter::once(event.clone())
            .chain((0..9).flat_map(|_| [large.clone(), sample(ByteOrder::NATIVE, 9), largest.clone()]))
            .collect();
        let seen = read(pipe(all.clone()), Order::Recorded).expect("it opens");
        assert!(seen.errors.is_empty() && seen.records == all, "{first}");
        let seen = read(pipe(all.clone()), Order::default()).expect("it opens");
        assert_eq!(seen.records.len(), all.len());
    }
}

#[test]
fn directories_have_to_be_recordings() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(matches!(Recording::open(dir.path()), Err(OpenError::Directory)));
    std::fs::write(dir.path().join("data"), recording(ByteOrder::NATIVE, None, true)).expect("a file");
    assert!(matches!(Recording::open(dir.path()), Err(OpenError::PipeInDirectory)));
    std::fs::write(dir.path().join("data"), recording(ByteOrder::NATIVE, None, false)).expect("a file");
    // By their numbers, not their names; others do not count.
    for (name, time) in [("data.10", 300), ("data.9", 200), ("data.x", 1), ("other", 1)] {
        std::fs::write(dir.path().join(name), sample(ByteOrder::NATIVE, time)).expect("a file");
    }
    let mut records = Recording::open(dir.path()).expect("a recording").records(Order::Recorded);
    let mut last = Vec::new();
    while let Some(entry) = records.next() {
        let entry = entry.expect("sound");
        last.push((entry.part(), entry.time()));
    }
    assert_eq!(last[last.len() - 2..], [(1, Some(200)), (2, Some(300))]);
    std::fs::create_dir(dir.path().join("data.11")).expect("a directory");
    assert!(matches!(Recording::open(dir.path()), Err(OpenError::Io { .. })));
}

/// An event of a pipe, with its ids.
fn piped_event(ids: &[u64]) -> Vec<u8> {
    let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_ne_bytes()).collect();
    bare(RecordType::HEADER_ATTR, &[&attr().to_bytes(ByteOrder::NATIVE)[..], &ids].concat())
}

#[test]
fn fifos_in_a_directory_are_waited_for_by_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = std::process::Command::new("mkfifo").args([dir.path().join("data"), dir.path().join("fifo")]).status();
    assert!(made.expect("mkfifo").success());
    assert!(matches!(Recording::open(dir.path()), Err(OpenError::Io { .. })));
    std::fs::remove_file(dir.path().join("data")).expect("it is there");
    std::fs::write(dir.path().join("data"), recording(ByteOrder::NATIVE, None, false)).expect("a file");
    assert!(Recording::open(dir.path()).is_ok());
    std::fs::rename(dir.path().join("fifo"), dir.path().join("data.0")).expect("it is there");
    assert!(matches!(Recording::open(dir.path()), Err(OpenError::Io { .. })));
}

/// The same bytes again and again, behind some others.
struct Repeated {
    first: io::Cursor<Vec<u8>>,
    again: Vec<u8>,
    left: usize,
}

impl Read for Repeated {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.first.read(into)? {
            0 if self.left > 0 => {
                self.left -= 1;
                let len = self.again.len().min(into.len());
                into[..len].copy_from_slice(&self.again[..len]);
                Ok(len)
            }
            len => Ok(len),
        }
    }
}

#[test]
fn pieces_with_nothing_in_them_take_no_memory() {
    for order in [Order::Recorded, Order::Time { window: 1 << 20 }] {
        let (number, at_once) = (1_000_000, 1000);
        let first = io::Cursor::new(pipe([piped_event(&[1])]));
        let again = bare(RecordType::COMPRESSED, &[]).repeat(at_once);
        let held = peak(|| {
            let stream = Repeated { first, again, left: number / at_once };
            let mut records = Recording::from_stream(stream).expect("it opens").records(order);
            let mut seen = 0;
            while let Some(entry) = records.next() {
                entry.expect("a sound recording");
                seen += 1;
            }
            // Behind a part of a read there is the rest of the bytes, which are all the same.
            assert!(seen > number / 2, "{seen}");
        });
        assert!(held < 4 << 20, "{order:?}: {held}");
    }
}

#[test]
fn where_small_pieces_come_from_counts_for_the_window() {
    let mut lost = Vec::new();
    let id = SampleId { time: Some(7), identifier: Some(1), ..SampleId::default() };
    let encoder = Encoder::new(&attr(), ByteOrder::NATIVE).expect("a layout");
    encoder.encode(Misc::empty(), &Body::Lost(Lost { id: 1, lost: 1 }), &id, &mut lost).expect("a record");
    let number = (3 << 20) / lost.len();
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("zstd");
    let mut pieces = Vec::new();
    for byte in lost.repeat(number) {
        zstd.write_all(&[byte]).expect("zstd");
        zstd.flush().expect("zstd");
        pieces.extend(bare(RecordType::COMPRESSED, zstd.get_ref()));
        zstd.get_mut().clear();
    }
    let bytes = pipe([piped_event(&[1]), pieces]);
    let window = 4 << 20;
    let held = peak(|| {
        let mut records = Recording::from_read_at(bytes).expect("it opens").records(Order::Time { window });
        let mut seen = 0;
        while let Some(entry) = records.next() {
            seen += usize::from(entry.expect("a sound recording").type_() == RecordType::LOST);
        }
        assert_eq!(seen, number);
        assert!(records.order_stats().early > 0);
    });
    // A chunk of 256 KiB that is being filled may have as many origins as bytes.
    assert!(held < window + (24 << 20), "{held}");
}

#[test]
fn names_of_events_are_kept_within_the_bound() {
    let events = 1500;
    let name = |id: u64| {
        let mut body = [2_u64.to_ne_bytes(), id.to_ne_bytes()].concat();
        body.extend(vec![b'n'; 64_999]);
        body.push(0);
        bare(RecordType::EVENT_UPDATE, &body)
    };
    let names: Vec<u8> = (0..events).flat_map(name).collect();
    let compressed = zstd::encode_all(&names[..], 1).expect("zstd");
    drop(names);
    let pieces = compressed.chunks(65_000).map(|piece| bare(RecordType::COMPRESSED, piece));
    let bytes = pipe((0..events).map(|id| piped_event(&[id])).chain(pieces));
    let held = peak(|| {
        let mut records = Recording::from_read_at(bytes).expect("it opens").records(Order::Recorded);
        while let Some(entry) = records.next() {
            entry.expect("a sound recording");
        }
        let metadata = records.metadata();
        let named = metadata.events().iter().filter(|event| event.name.is_some()).count();
        assert_eq!(named, Metadata::MAX_FEATURE / 64_999);
        assert!(metadata.warnings().iter().any(|warning| matches!(warning, Warning::NotKept { .. })));
    });
    assert!(held < Metadata::MAX_FEATURE + (8 << 20), "{held}");
}

#[test]
fn a_name_is_that_of_the_first_event_with_the_id() {
    let name = |id: u64, name: &[u8; 8]| {
        bare(RecordType::EVENT_UPDATE, &[2_u64.to_ne_bytes(), id.to_ne_bytes(), *name].concat())
    };
    let said = [
        piped_event(&[1, 2]),
        piped_event(&[2, 3]),
        name(2, b"first\0\0\0"),
        name(3, b"second\0\0"),
        name(4, b"none\0\0\0\0"),
    ];
    let mut records = Recording::from_read_at(pipe(said)).expect("it opens").records(Order::Recorded);
    assert_eq!(drain(&mut records).records.len(), 5);
    let names: Vec<_> = records.metadata().events().iter().map(|event| event.name.as_deref()).collect();
    assert_eq!(names, [Some("first"), Some("second")]);
}

#[test]
fn a_piece_that_its_record_has_no_room_for_is_an_error() {
    let piece = zstd::encode_all(&sample(ByteOrder::NATIVE, 5)[..], 1).expect("zstd");
    for wrong in [piece.len() as u64 + 1, 1 << 60, u64::MAX] {
        let cut = bare(RecordType::COMPRESSED2, &[&wrong.to_ne_bytes()[..], &piece].concat());
        for damaged in [cut, bare(RecordType::COMPRESSED2, &[0; 7])] {
            let said = [piped_event(&[1]), damaged.clone(), sample(ByteOrder::NATIVE, 6)];
            let at = pipe(said[..1].iter().cloned()).len() as u64;
            let mut records = Recording::from_read_at(pipe(said)).expect("it opens").records(Order::Recorded);
            records.next().expect("the event").expect("sound");
            assert_eq!(records.next().expect("the record").expect("there").bytes(), damaged);
            assert!(matches!(records.next(), Some(Err(ReadError::Zstd { position, .. })) if position == at));
            assert_eq!(records.next().expect("what is behind it").expect("sound").time(), Some(6));
            assert!(records.next().is_none());
        }
    }
}

#[test]
fn a_payload_of_any_size_that_is_not_there_is_one_error() {
    for announced in [1, 1 << 32, 1 << 60, u64::MAX] {
        let trace = bare(RecordType::AUXTRACE, &[&u64::to_ne_bytes(announced)[..], &[0; 32]].concat());
        let bytes = pipe([piped_event(&[1]), sample(ByteOrder::NATIVE, 5), trace]);
        for order in [Order::Recorded, Order::default()] {
            let at = read(bytes.clone(), order).expect("it opens");
            let stream = Recording::from_stream(io::Cursor::new(bytes.clone())).expect("it opens");
            for seen in [at, drain(&mut stream.records(order))] {
                assert_eq!((seen.records.len(), seen.errors.len()), (3, 1), "{announced} {:?}", seen.errors);
            }
        }
    }
}

/// A file that is larger than what there is of it.
struct Sparse(Vec<u8>);

impl ReadAt for Sparse {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.0.read_at(into, offset)? {
            0 => {
                into.fill(0);
                Ok(into.len())
            }
            len => Ok(len),
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

#[test]
fn sections_of_a_file_that_are_too_large_are_not_read() {
    let bytes = recording(ByteOrder::NATIVE, None, false);
    let header = FileHeader::from_bytes(&bytes).expect("a header");
    let table = header.data.end().expect("an end") as usize;
    let with = |words: &[(usize, u64)]| Sparse(with_words(words));
    let held = peak(|| {
        for size in [Metadata::MAX_FEATURE as u64 + 1, 1 << 39] {
            let recording = Recording::from_read_at(with(&[(table + 8, size)])).expect("it opens");
            assert!(matches!(recording.metadata().warnings(), [Warning::Feature { .. }]));
        }
        let ids = (header.attrs.offset + header.attr_size - 8) as usize;
        let count = Metadata::MAX_IDS as u64 + 1;
        assert!(matches!(
            Recording::from_read_at(with(&[(ids, 8 * count)])),
            Err(OpenError::TooManyIds { count: found }) if found == count
        ));
        assert!(matches!(
            Recording::from_read_at(with(&[(ATTRS_SIZE, 144 << 32)])),
            Err(OpenError::Events { count: 0x1_0000_0000 })
        ));
    });
    assert!(held < 1 << 20, "{held}");
}

#[test]
fn an_attribute_of_a_newer_kernel_is_known_in_a_stream_too() {
    let mut newer = attr().to_bytes(ByteOrder::NATIVE);
    newer.resize(160, 0);
    newer[4..8].copy_from_slice(&160_u32.to_ne_bytes());
    newer[150] = 1;
    let event = bare(RecordType::HEADER_ATTR, &[&newer[..], &1_u64.to_ne_bytes()].concat());
    let bytes = pipe([event, sample(ByteOrder::NATIVE, 5)]);
    let mut records = Recording::from_read_at(bytes).expect("it opens").records(Order::default());
    let seen = drain(&mut records);
    assert_eq!((seen.records.len(), seen.errors.len()), (2, 0));
    assert!(matches!(records.metadata().warnings(), [Warning::NewerAttr { event: 0, .. }]));
    assert_eq!(records.metadata().events()[0].ids, [1]);
    let record = sample(ByteOrder::NATIVE, 5);
    assert_eq!(records.metadata().decoder().decode(&record).expect("a sample").time(), Some(5));
}

#[test]
fn a_recording_without_records_is_finished_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("perf.data");
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = Writer::file(file, WriteOptions::default()).expect("a writer");
    writer.event(&attr(), &[1], "an event").expect("an event");
    writer.describe(&Feature::Hostname((&b"host"[..]).into())).expect("a feature");
    writer.finish().expect("a recording");
    let recording = Recording::open(&path).expect("it opens");
    assert_eq!(recording.metadata().warnings(), []);
    assert_eq!(recording.metadata().events()[0].name.as_deref(), Some("an event"));
    assert_eq!(drain(&mut recording.records(Order::default())), Seen::default());
}

#[test]
fn files_of_a_directory_that_are_read_do_not_take_the_window() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("data"), recording(ByteOrder::NATIVE, None, false)).expect("a file");
    for file in 0..100_u64 {
        let records: Vec<u8> =
            (0..10).flat_map(|number| sample(ByteOrder::NATIVE, 1000 + 100 * number + file)).collect();
        std::fs::write(dir.path().join(format!("data.{file}")), records).expect("a file");
    }
    let mut records = Recording::open(dir.path()).expect("a recording").records(Order::Time { window: 1 << 20 });
    let mut last = 0;
    while let Some(entry) = records.next() {
        if let Some(time) = entry.expect("sound").time() {
            assert!(time >= last);
            last = time;
        }
    }
    assert_eq!(records.order_stats(), Default::default());
}
