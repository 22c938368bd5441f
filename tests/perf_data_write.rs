//! Recordings as they are written: read back by a walker of the test's own, and by `perf`.

#![cfg(feature = "replay")]

mod common;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{TempDir, is_rerun, is_root, rerun, skip};
use perfring::record::user::{Auxtrace, HeaderBuildId};
use perfring::record::{
    Attr, AttrFlags, Body, ByteOrder, Comm, Encoder, Misc, ReadFormat, RecordType, SampleFields, SampleId, SampleType,
    Tid, User,
};
use perfring::replay::perf_data::{Feature, FeatureId, WriteError, WriteOptions, Writer, Written};
use perfring::replay::{Order, Recording};
use proptest::prelude::*;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

const ORDERS: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];

/// Integers of a byte order.
#[derive(Clone, Copy)]
struct Ints<'a>(&'a [u8], bool);

impl Ints<'_> {
    fn int(self, at: u64, len: u64) -> u64 {
        let bytes = &self.0[at as usize..(at + len) as usize];
        let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if self.1 { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
    }

    fn u64(self, at: u64) -> u64 {
        self.int(at, 8)
    }

    fn u32(self, at: u64) -> u32 {
        self.int(at, 4) as u32
    }
}

/// Records as they lie in a file, the bytes that follow one with it, and where they begin.
fn records(bytes: &[u8], is_little: bool, start: u64) -> Vec<(u32, u64, Vec<u8>)> {
    let (ints, mut at, mut found) = (Ints(bytes, is_little), start, Vec::new());
    while at < bytes.len() as u64 {
        let (type_, size) = (ints.u32(at), ints.int(at + 6, 2));
        assert!(size >= 8, "a record of {size} bytes at {at}");
        assert!(size.is_multiple_of(8) || matches!(type_, 66 | 80 | 81), "type {type_}, {size} bytes at {at}");
        let payload = match type_ {
            66 => u64::from(ints.u32(at + 8)),
            71 => ints.u64(at + 8),
            _ => 0,
        };
        found.push((type_, at, bytes[at as usize..(at + size + payload) as usize].to_vec()));
        at += size + payload;
    }
    assert_eq!(at, bytes.len() as u64, "the last record is whole");
    found
}

/// A file, taken apart.
struct Parsed {
    attrs: Vec<(Vec<u8>, Vec<u64>)>,
    records: Vec<(u32, u64, Vec<u8>)>,
    features: BTreeMap<u8, Vec<u8>>,
}

fn parse(bytes: &[u8], is_little: bool) -> Parsed {
    let ints = Ints(bytes, is_little);
    let part = |offset: u64, size: u64| &bytes[offset as usize..(offset + size) as usize];
    assert_eq!(&bytes[..8], if is_little { b"PERFILE2" } else { b"2ELIFREP" });
    assert_eq!((ints.u64(8), ints.u64(16)), (104, 144));
    let (attrs, data) = ((ints.u64(24), ints.u64(32)), (ints.u64(40), ints.u64(48)));
    assert_eq!((ints.u64(56), ints.u64(64)), (0, 0));
    let attrs = (0..attrs.1 / 144).map(|index| {
        let at = attrs.0 + index * 144;
        let (ids, size) = (ints.u64(at + 128), ints.u64(at + 136));
        (part(at, 128).to_vec(), (0..size / 8).map(|id| ints.u64(ids + id * 8)).collect())
    });
    let features = (0..256_u64).filter(|bit| ints.u64(72 + bit / 64 * 8) >> (bit % 64) & 1 == 1);
    let features = features.enumerate().map(|(place, bit)| {
        let at = data.0 + data.1 + place as u64 * 16;
        (bit as u8, part(ints.u64(at), ints.u64(at + 8)).to_vec())
    });
    Parsed {
        attrs: attrs.collect(),
        records: records(&bytes[..(data.0 + data.1) as usize], is_little, data.0),
        features: features.collect(),
    }
}

/// The records with those that were compressed in their places; and how many pieces there were.
fn plain(records: &[(u32, u64, Vec<u8>)], mmap_len: usize) -> (Vec<u8>, usize) {
    let (mut decoder, mut all, mut pieces) = (Decoder::new().unwrap(), Vec::new(), 0);
    let mut room = vec![0; mmap_len];
    for (type_, at, record) in records {
        if *type_ != 81 {
            all.extend_from_slice(record);
            continue;
        }
        let mut output = OutBuffer::around(&mut room[..]);
        let mut input = InBuffer::around(&record[8..]);
        decoder.run(&mut input, &mut output).unwrap();
        // perf calls once, and takes nothing for a defect.
        assert_eq!(input.pos(), record.len() - 8, "at {at}");
        assert!(output.pos() > 0 && output.pos() <= mmap_len - (64 << 10), "{} bytes at {at}", output.pos());
        let len = output.pos();
        all.extend_from_slice(&room[..len]);
        pieces += 1;
    }
    (all, pieces)
}

fn attr(config: u64) -> Attr {
    Attr {
        type_: 1,
        config,
        sample_period: 1,
        sample_type: SampleType::IDENTIFIER | SampleType::IP | SampleType::TID | SampleType::TIME,
        read_format: ReadFormat::ID,
        flags: AttrFlags::SAMPLE_ID_ALL | AttrFlags::COMM | AttrFlags::EXCLUDE_KERNEL,
        ..Attr::default()
    }
}

const TASK: Tid = Tid { pid: 77, tid: 77 };

fn sample(id: u64, time: u64, order: ByteOrder) -> Vec<u8> {
    let fields = SampleFields {
        identifier: Some(id),
        ip: Some(0x40_1000 + time),
        tid: Some(TASK),
        time: Some(time),
        ..SampleFields::default()
    };
    let mut record = Vec::new();
    Encoder::new(&attr(0), order).unwrap().sample(Misc::from_bits_retain(2), &fields, &mut record).unwrap();
    record
}

fn comm(order: ByteOrder) -> Vec<u8> {
    let id = SampleId { tid: Some(TASK), time: Some(1), identifier: Some(10), ..SampleId::default() };
    let body = Body::Comm(Comm { pid: 77, tid: 77, comm: "alpha".into() });
    let mut record = Vec::new();
    Encoder::new(&attr(0), order).unwrap().encode(Misc::empty(), &body, &id, &mut record).unwrap();
    record
}

fn user(user: User<'_>, misc: Misc, order: ByteOrder) -> Vec<u8> {
    let mut record = Vec::new();
    let encoder = Encoder::new(&Attr::default(), order).unwrap();
    encoder.encode(misc, &Body::User(user), &SampleId::default(), &mut record).unwrap();
    record
}

fn new_file(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("a file")
}

fn with_events(writer: &mut Writer<'_>) {
    assert_eq!(writer.event(&attr(0), &[10, 11], "cpu-clock").unwrap(), 0);
    assert_eq!(writer.event(&attr(2), &[20], "a fault of mine").unwrap(), 1);
}

#[test]
fn a_file_has_its_parts_where_the_header_says() {
    for order in ORDERS {
        let is_little = order == ByteOrder::Little;
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &[0xee; 9999]).unwrap();
        let mut writer = Writer::file(file.try_clone().unwrap(), WriteOptions::default().order(order)).unwrap();
        with_events(&mut writer);
        writer.feature(FeatureId::OSRELEASE, b"first").unwrap();
        let (one, two) = (sample(10, 1, order), sample(20, 2, order));
        writer.record(&one).unwrap();
        writer.span(&two[..24], &two[24..]).unwrap();
        writer.round().unwrap();
        writer.feature(FeatureId::OSRELEASE, b"later").unwrap();
        writer.feature(FeatureId::BRANCH_STACK, &[]).unwrap();
        writer.add_ids(1, &[21, 22]).unwrap();
        let written = writer.finish().unwrap();

        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let parsed = parse(&bytes, is_little);
        assert_eq!(parsed.attrs.len(), 2);
        for ((bytes, ids), (config, known)) in parsed.attrs.iter().zip([(0, vec![10, 11]), (2, vec![20, 21, 22])]) {
            let (read, _) = Attr::from_bytes(bytes, order).unwrap();
            assert_eq!(read, Attr { size: 128, ..attr(config) });
            assert_eq!(*ids, known);
        }
        let all: Vec<_> = parsed.records.iter().flat_map(|(.., bytes)| bytes.clone()).collect();
        assert_eq!(all[..all.len() - 8], [one, two].concat());
        assert_eq!(parsed.records.last().unwrap().0, 68);
        assert_eq!(written.data, all.len() as u64);
        assert_eq!((written.lost, written.plain), (0, 0));
        assert_eq!(parsed.features.keys().copied().collect::<Vec<_>>(), [4, 12, 15]);
        assert_eq!(parsed.features[&4], b"later");
        assert_eq!(parsed.features[&15], b"");
        let desc = Ints(&parsed.features[&12], is_little);
        assert_eq!((desc.u32(0), desc.u32(4), desc.u32(8 + 128), desc.u32(8 + 132)), (2, 128, 2, 64));
        assert_eq!(&desc.0[8 + 136..][..10], b"cpu-clock\0");
        assert_eq!(desc.u64(8 + 136 + 64), 10);
    }
}

#[test]
fn a_pipe_has_all_in_records() {
    for order in ORDERS {
        let is_little = order == ByteOrder::Little;
        let mut bytes = Vec::new();
        let mut writer = Writer::pipe(&mut bytes, WriteOptions::default().order(order)).unwrap();
        with_events(&mut writer);
        writer.feature(FeatureId::HOSTNAME, b"here").unwrap();
        writer.feature(FeatureId::TRACING_DATA, b"formats").unwrap();
        let build_id = HeaderBuildId { pid: -1, build_id: &[7; 20], filename: "[kernel.kallsyms]".into() };
        let build_id = user(User::HeaderBuildId(build_id), Misc::from_bits_retain(1), order);
        let mut section = build_id.clone();
        section[..4].fill(0);
        let one = sample(10, 1, order);
        writer.record(&one).unwrap();
        writer.feature(FeatureId::BUILD_ID, &section).unwrap();
        assert!(matches!(writer.feature(FeatureId::BUILD_ID, &section[8..]), Err(WriteError::BuildId { at: 0 })));
        assert!(matches!(writer.feature(FeatureId::CACHE, &[0; 65520]), Err(WriteError::Encode { .. })));
        assert!(matches!(writer.add_ids(0, &[12]), Err(WriteError::Started)));
        writer.round().unwrap();
        let written = writer.finish().unwrap();
        assert_eq!(written.data, bytes.len() as u64);
        assert_eq!(&bytes[..8], if is_little { b"PERFILE2" } else { b"2ELIFREP" });
        assert_eq!(Ints(&bytes, is_little).u64(8), 16);
        let found = records(&bytes, is_little, 16);
        assert_eq!(found.iter().map(|record| record.0).collect::<Vec<_>>(), [64, 78, 64, 78, 66, 80, 9, 67, 68]);
        assert_eq!(&found[1].2[24..34], b"cpu-clock\0");
        assert_eq!((found[0].2.len(), Ints(&found[0].2, is_little).u64(144)), (8 + 128 + 16, 11));
        assert!(found[4].2.ends_with(b"formats\0"));
        assert!(found[5].2.ends_with(b"here"));
        assert_eq!(found[6].2, one);
        assert_eq!(found[7].2, build_id);
    }
}

#[test]
fn what_perf_would_refuse_is_refused_first() {
    let mut bytes = Vec::new();
    let mut writer = Writer::pipe(&mut bytes, WriteOptions::default()).unwrap();
    assert!(matches!(writer.round(), Err(WriteError::NoEvent)));
    let late = Attr { config4: 1 << 8, ..attr(0) };
    let at = if cfg!(target_endian = "little") { 137 } else { 142 };
    let refused = writer.event(&late, &[1], "");
    assert!(matches!(refused, Err(WriteError::AttrSize { event: 0, at: found }) if found == at), "{refused:?}");
    let read = Attr { sample_type: SampleType::READ, ..Attr::default() };
    assert!(matches!(writer.event(&read, &[1], ""), Err(WriteError::ReadWithoutId { event: 0 })));
    assert!(matches!(writer.event(&attr(0), &[1], "a\0b"), Err(WriteError::Encode { .. })));
    assert!(matches!(writer.event(&attr(0), &[1; 2], ""), Err(WriteError::DuplicateId { event: 0, id: 1, first: 0 })));
    let mut file = Writer::file(tempfile::tempfile().unwrap(), WriteOptions::default()).unwrap();
    let refused = file.event(&attr(0), &[1], "a\0b");
    assert!(matches!(refused, Err(WriteError::Feature { feature: FeatureId::EVENT_DESC, .. })));
    file.event(&attr(0), &(0..8192).collect::<Vec<_>>(), "many").unwrap();
    let many: Vec<u64> = (0..8192).collect();
    assert!(matches!(writer.event(&attr(0), &many, ""), Err(WriteError::Encode { .. })));
    writer.event(&attr(0), &[1], "").unwrap();
    assert!(matches!(writer.event(&attr(0), &[2, 1], ""), Err(WriteError::DuplicateId { event: 1, id: 1, first: 0 })));
    for other in [
        Attr { sample_type: SampleType::IP, ..attr(0) },
        Attr { sample_type: SampleType::IP | SampleType::ID, ..attr(0) },
        Attr { flags: AttrFlags::empty(), ..attr(0) },
    ] {
        assert!(matches!(writer.event(&other, &[3], ""), Err(WriteError::NoCommonId { event: 1 })));
    }
    assert!(matches!(writer.add_ids(7, &[4]), Err(WriteError::NoSuchEvent { event: 7 })));
    writer.start().unwrap();
    assert!(matches!(writer.event(&attr(0), &[2], ""), Err(WriteError::Started)));

    let good = sample(1, 1, ByteOrder::NATIVE);
    assert!(matches!(writer.record(&good[..40 - 8]), Err(WriteError::Record(_))));
    assert!(matches!(writer.record(&[0; 4]), Err(WriteError::Record(_))));
    let mut odd = user(User::FinishedRound, Misc::empty(), ByteOrder::NATIVE);
    odd.extend_from_slice(&[0; 4]);
    odd[6..8].copy_from_slice(&12_u16.to_ne_bytes());
    let refused = writer.record(&odd);
    assert!(matches!(refused, Err(WriteError::Unaligned { type_: RecordType::FINISHED_ROUND, size: 12 })));
    assert!(matches!(writer.span(&good, &[0; 4]), Err(WriteError::Span { len: 44 })));

    let aux = |size| Auxtrace { size, offset: 0, reference: 0, idx: 0, tid: 1, cpu: 0, reserved: 0 };
    let announce = |size| user(User::Auxtrace(aux(size)), Misc::empty(), ByteOrder::NATIVE);
    assert!(matches!(writer.record(&announce(9)), Err(WriteError::PayloadSize { size: 9, .. })));
    let mut short = announce(16);
    short.truncate(8);
    short[6..8].copy_from_slice(&8_u16.to_ne_bytes());
    assert!(matches!(writer.record(&short), Err(WriteError::Record(_))));
    writer.record(&announce(16)).unwrap();
    assert!(matches!(writer.record(&good), Err(WriteError::PayloadOwed { left: 16 })));
    assert!(matches!(writer.span(&good, &[]), Err(WriteError::PayloadOwed { left: 16 })));
    assert!(matches!(writer.payload(&[0; 17]), Err(WriteError::PayloadExcess { left: 16, len: 17 })));
    writer.payload(&[1; 9]).unwrap();
    writer.payload(&[2; 7]).unwrap();
    assert!(matches!(writer.payload(&[0; 1]), Err(WriteError::PayloadExcess { left: 0, len: 1 })));
    writer.record(&good).unwrap();
    writer.finish().unwrap();
    let found = records(&bytes, cfg!(target_endian = "little"), 16);
    assert_eq!(found.iter().map(|record| record.0).collect::<Vec<_>>(), [64, 78, 71, 9], "of the others nothing");
    assert!(found[2].2.ends_with(&[[1; 9].as_slice(), &[2; 7]].concat()));

    assert!(matches!(
        Writer::file(File::open("/dev/null").unwrap(), WriteOptions::default()),
        Err(WriteError::NotAFile)
    ));
    for level in [0, 23] {
        let refused = Writer::pipe(io::sink(), WriteOptions::default().zstd(level)).map(drop);
        assert!(matches!(refused, Err(WriteError::Level { level: found }) if found == level));
    }
    let mut writer = Writer::pipe(io::sink(), WriteOptions::default().zstd(22)).unwrap();
    writer.event(&attr(0), &[1], "").unwrap();
    let refused = writer.feature(FeatureId::COMPRESSED, &[0; 20]);
    assert!(matches!(refused, Err(WriteError::OwnFeature { feature: FeatureId::COMPRESSED })));
    let mut foreign = good.clone();
    foreign[..4].copy_from_slice(&81_u32.to_ne_bytes());
    let refused = writer.record(&foreign);
    assert!(matches!(refused, Err(WriteError::Compressed { type_: RecordType::COMPRESSED })));
}

/// What is done with a writer.
#[derive(Clone, Debug)]
enum Step {
    /// One record of the kernel, of this many words behind its header.
    Record(u16),
    /// Many of them, in two pieces that meet anywhere.
    Span(Vec<u16>, prop::sample::Index),
    Round,
    Sync,
    Payload(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let words = || prop_oneof![4 => 0..40_u16, 1 => 0..8190_u16];
    prop_oneof![
        4 => words().prop_map(Step::Record),
        4 => (prop::collection::vec(words(), 0..200), any::<prop::sample::Index>())
            .prop_map(|(sizes, cut)| Step::Span(sizes, cut)),
        2 => Just(Step::Round),
        1 => Just(Step::Sync),
        1 => any::<u8>().prop_map(Step::Payload),
    ]
}

/// A record whose bytes zstd makes smaller (`noise` 0) or cannot.
fn noisy(words: u16, noise: u64, state: &mut u64) -> Vec<u8> {
    let size = 8 + words * 8;
    let mut record = 9_u32.to_ne_bytes().to_vec();
    record.extend_from_slice(&0_u16.to_ne_bytes());
    record.extend_from_slice(&size.to_ne_bytes());
    for _ in 0..words {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        record.extend_from_slice(&((*state ^ *state >> 29) & noise).to_ne_bytes());
    }
    record
}

/// Does the steps; gives the bytes that the records have, without those of the writer's own.
fn take(writer: &mut Writer<'_>, steps: &[Step], noise: u64) -> Vec<u8> {
    let (mut expected, mut state) = (Vec::new(), 1);
    for step in steps {
        let from = expected.len();
        match step {
            Step::Record(words) => {
                expected.extend(noisy(*words, noise, &mut state));
                writer.record(&expected[from..]).unwrap();
            }
            Step::Span(sizes, cut) => {
                sizes.iter().for_each(|words| expected.extend(noisy(*words, noise, &mut state)));
                let span = &expected[from..];
                let (first, second) = span.split_at(if span.is_empty() { 0 } else { cut.index(span.len()) });
                writer.span(first, second).unwrap();
            }
            Step::Round => {
                expected.extend(user(User::FinishedRound, Misc::empty(), ByteOrder::NATIVE));
                writer.round().unwrap();
            }
            Step::Sync => writer.sync_header().unwrap(),
            Step::Payload(words) => {
                let size = u64::from(*words) * 8;
                let aux = Auxtrace { size, offset: 0, reference: 0, idx: 0, tid: 1, cpu: 0, reserved: 0 };
                expected.extend(user(User::Auxtrace(aux), Misc::empty(), ByteOrder::NATIVE));
                writer.record(&expected[from..]).unwrap();
                let from = expected.len();
                expected.extend((0..size).map(|byte| byte as u8));
                expected[from..].chunks(100).for_each(|piece| writer.payload(piece).unwrap());
            }
        }
    }
    expected
}

fn native(bytes: &[u8]) -> Parsed {
    parse(bytes, cfg!(target_endian = "little"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_goes_in_is_there(
        steps in prop::collection::vec(step(), 0..30),
        level in prop::option::of(1..5_u8),
        noise in prop::sample::select(vec![0_u64, 0xff, u64::MAX]),
    ) {
        let options = level.map_or(WriteOptions::default(), |level| WriteOptions::default().zstd(level));
        let mmap_len = 512 << 10;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("perf.data");
        let mut writer = Writer::file(new_file(&path), options).unwrap();
        with_events(&mut writer);
        let expected = take(&mut writer, &steps, noise);
        writer.sync_header().unwrap();
        // That of a recorder that is killed now.
        let killed = native(&std::fs::read(&path).unwrap());
        let written = writer.finish().unwrap();
        let finished = native(&std::fs::read(&path).unwrap());
        prop_assert!(killed.features.is_empty());
        for file in [&killed, &finished] {
            let own = usize::from(level.is_some());
            prop_assert!(file.records[..own].iter().all(|(type_, _, record)| *type_ == 80 && record[8] == 27));
            let (all, pieces) = plain(&file.records[own..], mmap_len);
            prop_assert!(all == expected);
            prop_assert_eq!(pieces > 0, level.is_some() && written.plain > 0);
        }
        if let Some(level) = level {
            let section = Ints(&finished.features[&27], cfg!(target_endian = "little"));
            let fields: Vec<_> = (0..5).map(|field| section.u32(field * 4)).collect();
            prop_assert_eq!([fields[0], fields[1], fields[2], fields[4]], [1, 1, level.into(), mmap_len as u32]);
            prop_assert!(fields[3] >= 1);
        }

        let mut bytes = Vec::new();
        let mut writer = Writer::pipe(&mut bytes, options).unwrap();
        with_events(&mut writer);
        prop_assert!(take(&mut writer, &steps, noise) == expected);
        writer.finish().unwrap();
        let found = records(&bytes, cfg!(target_endian = "little"), 16);
        let own = found.iter().take_while(|record| matches!(record.0, 64 | 78 | 80)).count();
        prop_assert_eq!(own, if expected.is_empty() { found.len() } else { 4 + usize::from(level.is_some()) });
        prop_assert!(plain(&found[own..], mmap_len).0 == expected);
    }
}

#[test]
fn a_dropped_writer_leaves_what_it_was_given() {
    let dir = TempDir::new("dropped");
    let path = dir.path().join("perf.data");
    for options in [WriteOptions::default(), WriteOptions::default().zstd(1)] {
        let mut writer = Writer::file(new_file(&path), options).unwrap();
        with_events(&mut writer);
        let one = sample(10, 1, ByteOrder::NATIVE);
        writer.record(&one).unwrap();
        let aux = Auxtrace { size: 1 << 20, offset: 0, reference: 0, idx: 0, tid: 1, cpu: 0, reserved: 0 };
        writer.record(&user(User::Auxtrace(aux), Misc::empty(), ByteOrder::NATIVE)).unwrap();
        writer.payload(&[0; 1000]).unwrap();
        writer.sync_header().unwrap();
        let parsed = native(&std::fs::read(&path).unwrap());
        assert_eq!(
            plain(&parsed.records, 1 << 20).0[parsed.records[0].2.len() * usize::from(parsed.records[0].0 == 80)..],
            one
        );
        drop(writer);
        let parsed = native(&std::fs::read(&path).unwrap());
        assert!(parsed.records.iter().all(|record| record.0 != 71), "what is not whole is not there");
        assert!(parsed.records.last().is_some_and(|record| matches!(record.0, 9 | 81)));

        let mut writer = Writer::file(new_file(&path), options).unwrap();
        with_events(&mut writer);
        writer.record(&user(User::Auxtrace(aux), Misc::empty(), ByteOrder::NATIVE)).unwrap();
        assert!(matches!(writer.finish(), Err(WriteError::PayloadOwed { left: 1048576 })));
    }
}

/// Records until it fails; gives the error, the bytes that were taken before, and what finishing says.
fn fill(mut writer: Writer<'_>, noise: u64) -> (WriteError, u64, Result<Written, WriteError>) {
    with_events(&mut writer);
    let (mut taken, mut state) = (0, 1);
    let error = loop {
        let span: Vec<u8> = (0..200).flat_map(|words| noisy(words, noise, &mut state)).collect();
        match writer.span(&span[..1000], &span[1000..]).and_then(|()| writer.round()) {
            Ok(()) => taken += span.len() as u64 + 8,
            Err(error) => break error,
        }
        assert!(taken < 1 << 30, "nothing fails");
    };
    assert!(matches!(writer.record(&sample(10, 1, ByteOrder::NATIVE)), Err(WriteError::Stopped)));
    assert!(matches!(writer.payload(&[]), Err(WriteError::Stopped)));
    (error, taken, writer.finish())
}

/// A full disk, or something like it, under `path`.
fn assert_survives_the_end(path: &Path, is_expected: impl Fn(&io::Error) -> bool) {
    for options in [WriteOptions::default(), WriteOptions::default().zstd(1)] {
        let (error, taken, finished) = fill(Writer::file(new_file(path), options).unwrap(), u64::MAX);
        let WriteError::Io { source, lost } = error else { panic!("{error}") };
        assert!(is_expected(&source), "{source}");
        assert!(lost > 0 && taken > 0);
        let parsed = native(&std::fs::read(path).unwrap());
        match finished {
            Ok(written) => {
                assert_eq!(written.lost, lost);
                assert!(parsed.features.contains_key(&12));
            }
            // No space for the features either.
            Err(WriteError::Io { .. }) => assert!(parsed.features.is_empty()),
            Err(error) => panic!("{error}"),
        }
        let types: Vec<_> = parsed.records.iter().map(|record| record.0).collect();
        assert!(types.iter().filter(|type_| matches!(type_, 9 | 81)).count() > 5, "{types:?}");
        // Of what was taken before all is there, and of the rest whole records.
        let (all, _) = plain(&parsed.records, 1 << 20);
        assert!(all.len() as u64 + 64 >= taken, "{} of {taken}", all.len());
    }
}

#[test]
fn a_pipe_that_takes_nothing_is_an_error() {
    for options in [WriteOptions::default(), WriteOptions::default().zstd(1)] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let mut writer = Writer::pipe(full, options).unwrap();
        with_events(&mut writer);
        let error = writer.start().unwrap_err();
        assert!(matches!(&error, WriteError::Io { source, lost: 1.. } if source.kind() == io::ErrorKind::StorageFull));
        assert!(error.to_string().contains("bytes are lost"), "{error}");
        assert!(matches!(writer.round(), Err(WriteError::Stopped)));
        assert!(matches!(writer.sync_header(), Ok(())));
        assert!(writer.finish().unwrap().lost > 0);
    }
}

#[test]
fn a_full_disk_leaves_whole_records() {
    if !is_root() {
        return skip("only root can mount a small disk");
    }
    /// Unmounts.
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let done = Command::new("umount").arg(self.0).status();
            assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking(), "cannot unmount");
        }
    }
    let dir = TempDir::new("full");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=1m", "perfring-test"]).arg(dir.path());
    match mount.status() {
        Ok(status) if status.success() => {}
        other => return skip(format_args!("no tmpfs can be mounted: {other:?}")),
    }
    let _mounted = Mounted(dir.path());
    assert_survives_the_end(&dir.path().join("perf.data"), |error| error.kind() == io::ErrorKind::StorageFull);
}

#[test]
fn a_limit_leaves_whole_records() {
    if !is_rerun() {
        // 1000 blocks of 512 bytes; without the signal a write fails.
        return rerun("ulimit -f 1000; trap '' XFSZ", |_| {}, &std::env::current_exe().unwrap());
    }
    let dir = TempDir::new("limit");
    assert_survives_the_end(&dir.path().join("perf.data"), |error| error.kind() == io::ErrorKind::FileTooLarge);
}

#[test]
fn nothing_fits_and_nothing_is_there() {
    if !is_rerun() {
        return rerun("ulimit -f 0; trap '' XFSZ", |_| {}, &std::env::current_exe().unwrap());
    }
    let dir = TempDir::new("nothing");
    let path = dir.path().join("perf.data");
    let mut writer = Writer::file(new_file(&path), WriteOptions::default()).unwrap();
    with_events(&mut writer);
    assert!(matches!(writer.start(), Err(WriteError::Io { .. })));
    assert!(matches!(writer.sync_header(), Err(WriteError::Stopped)));
    assert!(matches!(writer.finish(), Err(WriteError::Stopped)));
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

/// What `perf` prints; none where there is no `perf`.
fn perf(args: &[&str], file: Option<&Path>, input: Stdio) -> Option<(bool, String)> {
    let mut command = Command::new("perf");
    command.args(args).arg("-i").arg(file.unwrap_or(Path::new("-"))).stdin(input);
    match command.output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) => {
            skip(format_args!("perf: {error}"));
            None
        }
    }
}

const SAMPLES: u64 = 30_000;

/// Samples of both events of a task with a name, in rounds.
fn samples(writer: &mut Writer<'_>) {
    with_events(writer);
    writer.describe(&Feature::Hostname("a-host".into())).unwrap();
    writer.record(&comm(ByteOrder::NATIVE)).unwrap();
    let all: Vec<_> =
        (0..SAMPLES).map(|time| sample([10, 20][time as usize % 2], time + 10, ByteOrder::NATIVE)).collect();
    for round in all.chunks(3000) {
        let bytes = round.concat();
        let (first, second) = bytes.split_at(bytes.len() / 3 + 5);
        writer.span(first, second).unwrap();
        writer.round().unwrap();
    }
}

fn assert_script(printed: &str, what: &str) {
    let lines: Vec<_> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
    let of_task = lines.iter().filter(|line| line.trim_start().starts_with("alpha")).count() as u64;
    assert_eq!(of_task, SAMPLES, "{what}: {:?} … {:?}", lines.first(), lines.last());
    for name in ["cpu-clock", "a fault of mine"] {
        let named = lines.iter().filter(|line| line.contains(&format!(" {name}:"))).count() as u64;
        assert_eq!(named, SAMPLES / 2, "{what}: {name}: {:?}", lines.last());
    }
}

#[test]
fn perf_reads_files() {
    let dir = TempDir::new("perf-file");
    let path = dir.path().join("perf.data");
    for level in [None, Some(1), Some(19)] {
        let options = level.map_or(WriteOptions::default(), |level| WriteOptions::default().zstd(level));
        let mut writer = Writer::file(new_file(&path), options).unwrap();
        samples(&mut writer);
        writer.sync_header().unwrap();
        // As if it were killed: names and the like are not there.
        let Some((is_fine, printed)) = perf(&["script", "-F", "comm"], Some(&path), Stdio::null()) else { return };
        assert!(is_fine, "{printed}");
        assert_eq!(printed.matches("alpha").count() as u64, SAMPLES, "level {level:?}");

        writer.add_ids(1, &[21]).unwrap();
        writer.record(&sample(21, SAMPLES + 20, ByteOrder::NATIVE)).unwrap();
        writer.finish().unwrap();
        let run = |args: &[&str]| {
            let (is_fine, printed) = perf(args, Some(&path), Stdio::null()).expect("it was there");
            assert!(is_fine, "{args:?}: {printed}");
            printed
        };
        let stats = run(&["report", "--stats"]);
        let count = |name: &str| {
            let line = stats.lines().find(|line| line.trim_start().starts_with(name));
            line.and_then(|line| line.split(':').nth(1)?.split_whitespace().next()?.parse::<u64>().ok())
        };
        assert_eq!(count("SAMPLE events"), Some(SAMPLES + 1), "{stats}");
        assert_eq!(count("COMM events"), Some(1), "{stats}");
        assert_eq!(count("FINISHED_ROUND events"), Some(10), "{stats}");
        assert_eq!(count("COMPRESSED events").is_some(), level.is_some(), "{stats}");
        let script = run(&["script", "--ns", "-F", "comm,event,time"]);
        let last = script.lines().find(|line| line.contains("0.000030020")).expect("the last one");
        assert!(last.contains("alpha") && last.contains("a fault of mine"), "{last}");
        assert_script(&script.lines().filter(|line| *line != last).collect::<Vec<_>>().join("\n"), "file");
        let header = run(&["report", "--header-only"]);
        assert!(header.contains("hostname : a-host") && header.contains("name = a fault of mine"), "{header}");
        if let Some(level) = level {
            assert!(header.contains(&format!("compressed : Zstd, level = {level}, ratio = ")), "{header}");
        }
    }
}

#[test]
fn what_follows_the_last_sync_does_no_harm() {
    let dir = TempDir::new("after-sync");
    let path = dir.path().join("perf.data");
    for options in [WriteOptions::default(), WriteOptions::default().zstd(1)] {
        let mut writer = Writer::file(new_file(&path), options).unwrap();
        samples(&mut writer);
        writer.sync_header().unwrap();
        let synced = std::fs::metadata(&path).unwrap().len();
        let mut state = 1;
        writer.span(&(0..600).flat_map(|words| noisy(words, u64::MAX, &mut state)).collect::<Vec<_>>(), &[]).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > synced + 100_000, "it is in the file");
        let parsed = native(&std::fs::read(&path).unwrap());
        assert_eq!(parsed.records.last().map(|(_, at, record)| at + record.len() as u64), Some(synced));
        assert_eq!(read(Recording::open(&path).unwrap()).0, SAMPLES);
        let Some((is_fine, printed)) = perf(&["script", "-F", "comm"], Some(&path), Stdio::null()) else { return };
        assert!(is_fine, "{printed}");
        assert_eq!(printed.matches("alpha").count() as u64, SAMPLES);
    }
}

#[test]
fn perf_reads_pipes() {
    let dir = TempDir::new("perf-pipe");
    let path = dir.path().join("perf.pipe");
    for options in [WriteOptions::default(), WriteOptions::default().zstd(3)] {
        let mut writer = Writer::pipe(File::create(&path).unwrap(), options).unwrap();
        samples(&mut writer);
        writer.finish().unwrap();
        let input = File::open(&path).unwrap();
        let Some((is_fine, printed)) = perf(&["script", "-F", "comm,event,time"], None, input.into()) else { return };
        assert!(is_fine, "{printed}");
        assert_script(&printed, "pipe");
    }
}

#[test]
fn perf_reads_what_a_limit_left() {
    if !is_rerun() {
        return rerun("ulimit -f 1000; trap '' XFSZ", |_| {}, &std::env::current_exe().unwrap());
    }
    let dir = TempDir::new("perf-limit");
    let path = dir.path().join("perf.data");
    for options in [WriteOptions::default(), WriteOptions::default().zstd(1)] {
        let mut writer = Writer::file(new_file(&path), options).unwrap();
        with_events(&mut writer);
        writer.record(&comm(ByteOrder::NATIVE)).unwrap();
        let (mut taken, mut state) = (0, 1);
        let error = loop {
            let mut span = Vec::new();
            for time in taken..taken + 1000 {
                let mut record = sample(10, time + 10, ByteOrder::NATIVE);
                // So that little is gained by compressing it.
                record[16..24].copy_from_slice(&noisy(1, u64::MAX, &mut state)[8..]);
                span.append(&mut record);
            }
            match writer.span(&span, &[]) {
                Ok(()) => taken += 1000,
                Err(error) => break error,
            }
            assert!(taken < 1_000_000, "nothing fails");
        };
        assert!(matches!(error, WriteError::Io { .. }), "{error}");
        let _ = writer.finish();
        let Some((is_fine, printed)) = perf(&["script", "-F", "comm"], Some(&path), Stdio::null()) else { return };
        assert!(is_fine, "{printed}");
        let seen = printed.matches("alpha").count() as u64;
        // What was in the compressor or the buffer when it failed is lost.
        assert!(seen > 3000 && seen + 12_000 >= taken, "{seen} of {taken}");
    }
}

/// Samples, rounds and defects that the reader of this crate finds; and its events' ids.
fn read(recording: Recording) -> (u64, u64, Vec<String>, Vec<Vec<u64>>) {
    let (mut samples, mut rounds, mut defects) = (0, 0, Vec::new());
    let mut last = 0;
    let metadata = recording.records(Order::default()).for_each(|entry| match entry {
        Err(error) => defects.push(error.to_string()),
        Ok(entry) => match entry.decode().map(|decoded| decoded.body) {
            Ok(Body::Sample(sample)) => {
                assert!(sample.time() >= Some(last));
                last = sample.time().expect("a time");
                samples += 1;
            }
            Ok(Body::User(User::FinishedRound)) => rounds += 1,
            Ok(_) => {}
            Err(error) => defects.push(error.to_string()),
        },
    });
    defects.extend(metadata.warnings().iter().map(|warning| warning.to_string()));
    let events = metadata.events().iter().map(|event| event.ids.clone()).collect();
    (samples, rounds, defects, events)
}

#[test]
fn this_crate_reads_it() {
    let dir = TempDir::new("own-reader");
    let path = dir.path().join("perf.data");
    for level in [None, Some(1), Some(9)] {
        let options = level.map_or(WriteOptions::default(), |level| WriteOptions::default().zstd(level));
        let mut writer = Writer::file(new_file(&path), options).unwrap();
        samples(&mut writer);
        writer.sync_header().unwrap();
        let (count, rounds, defects, _) = read(Recording::open(&path).unwrap());
        assert_eq!((count, rounds, defects), (SAMPLES, 10, vec![]), "killed, level {level:?}");
        writer.add_ids(1, &[21]).unwrap();
        writer.finish().unwrap();
        let (count, rounds, defects, events) = read(Recording::open(&path).unwrap());
        assert_eq!(
            (count, rounds, defects, events),
            (SAMPLES, 10, vec![], vec![vec![10, 11], vec![20, 21]]),
            "level {level:?}"
        );

        let mut writer = Writer::pipe(File::create(&path).unwrap(), options).unwrap();
        samples(&mut writer);
        writer.finish().unwrap();
        let (count, rounds, defects, events) = read(Recording::from_stream(File::open(&path).unwrap()).unwrap());
        assert_eq!(
            (count, rounds, defects, events),
            (SAMPLES, 10, vec![], vec![vec![10, 11], vec![20]]),
            "pipe, level {level:?}"
        );
    }
}

#[cfg(feature = "kernel")]
#[test]
fn what_a_set_of_rings_holds_is_recorded() {
    use perfring::kernel::{self, EventBuilder, RingSet, SetTarget, Software};
    if !common::require_kernel(common::Need::OwnEvents) {
        return;
    }
    let fault = EventBuilder::software(Software::PageFaults)
        .sample_period(1)
        .exclude_kernel(true)
        .exclude_hv(true)
        .disabled(true)
        .sample_type(kernel::SampleType::IDENTIFIER | kernel::SampleType::TID | kernel::SampleType::IP);
    let thread = std::fs::read_link("/proc/thread-self").expect("procfs");
    let pid = thread.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("PID/task/TID");
    let mut set = RingSet::builder().event(fault).target(SetTarget::Task { pid }).pages(8).open().expect("a set");
    let dir = TempDir::new("live");
    let path = dir.path().join("perf.data");
    for level in [None, Some(1)] {
        let options = level.map_or(WriteOptions::default(), |level| WriteOptions::default().zstd(level));
        let mut writer = Writer::file(new_file(&path), options).unwrap();
        let ids: Vec<_> = set.ids().iter().map(|id| id.id).collect();
        writer.event(set.attr(0).expect("the event"), &ids, "page-faults").unwrap();
        let mut before = 0;
        set.rings().enumerate().for_each(|(ring, _)| before += set.event(ring).unwrap().read().unwrap().value);
        set.enable().expect("on");
        let mut pages = common::Pages::new(3000);
        for round in 0..30 {
            pages.touch(round * 100..round * 100 + 100);
            if round == 29 {
                set.disable().expect("off");
            }
            set.take_spans(|span| {
                let span = span.expect("no defect");
                writer.span(span.first, span.second).expect("space on the disk");
            });
            writer.round().unwrap();
        }
        writer.finish().unwrap();
        let mut counted = 0;
        set.rings().enumerate().for_each(|(ring, _)| counted += set.event(ring).unwrap().read().unwrap().value);
        counted -= before;
        assert!(counted >= 3000, "{counted}");
        let (count, rounds, defects, events) = read(Recording::open(&path).unwrap());
        assert_eq!((count, rounds, defects), (counted, 30, vec![]));
        assert_eq!(events, [ids]);
        let Some((is_fine, printed)) = perf(&["script", "-F", "event"], Some(&path), Stdio::null()) else { return };
        assert!(is_fine, "{printed}");
        assert_eq!(printed.matches("page-faults").count() as u64, counted);
    }
}
