//! Recordings of every form, made byte by byte: all their records come out, as they stand, and through rings.

mod recordings;

use perfring::record::{Attr, Body, ByteOrder, Comm, Lost, RecordType, Task};
use perfring::replay::perf_data::FeatureId;
use perfring::replay::{Form, Metadata, Order, Recording, Records, Replay, RingImage, Shape, Step, original};
use perfring::ring::Consumer;
use recordings::{Builder, Compression, attr, bare, other, sample, word};
use std::io::Read;

const ORDERS: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];
const SIZES: [u32; 10] = [64, 72, 80, 96, 104, 112, 120, 128, 136, 144];

/// Records of two events whose times go up, and which are of several types.
fn some_records(order: ByteOrder, from: u64, count: u64) -> Vec<Vec<u8>> {
    (from..from + count)
        .map(|number| {
            let (id, time) = ([10, 20, 21][number as usize % 3], 100 + number);
            let task = Task { pid: 1, ppid: 2, tid: 3, ptid: 4, time };
            match number % 7 {
                1 => other(&Body::Comm(Comm { pid: 5, tid: 6, comm: (&b"a task"[..]).into() }), id, time, order),
                2 => other(&Body::Lost(Lost { id, lost: number }), id, time, order),
                3 => other(&Body::Fork(task), id, time, order),
                4 => other(&Body::Exit(task), id, time, order),
                _ => sample(id, time, 0xffff_0000_0000 + number, order),
            }
        })
        .collect()
}

fn builder(order: ByteOrder, size: u32) -> Builder {
    let mut builder = Builder::new(order);
    builder.event(attr(size), &[10]).event(Attr { config: 1, ..attr(size) }, &[20, 21]);
    // A number, the length, and the text.
    let mut host = match order {
        ByteOrder::Little => 8_u32.to_le_bytes(),
        ByteOrder::Big => 8_u32.to_be_bytes(),
    }
    .to_vec();
    host.extend(b"a host\0\0");
    builder.feature(FeatureId::HOSTNAME, &host);
    builder
}

/// Rounds, some of them compressed.
fn filled(order: ByteOrder, size: u32, compression: Option<Compression>) -> Builder {
    let mut builder = builder(order, size);
    for round in 0..10 {
        let records = some_records(order, 20 * round, 20);
        match compression {
            Some(compression) if round % 3 != 2 => {
                // Pieces end in the midst of records, and of their headers.
                builder.compressed(&records, compression, 100 + round as usize, 51 + 2 * round as usize);
            }
            _ => records.into_iter().for_each(|record| {
                builder.record(record);
            }),
        }
        builder.round();
    }
    builder
}

fn is_compressed(type_: RecordType) -> bool {
    matches!(type_, RecordType::COMPRESSED | RecordType::COMPRESSED2)
}

/// All records but those that hold compressed ones.
fn read(mut records: Records) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some(entry) = records.next() {
        let entry = entry.expect("a sound recording");
        assert_eq!(entry.bytes().len(), usize::from(entry.header().size));
        if !is_compressed(entry.type_()) {
            found.push(entry.bytes().to_vec());
        }
    }
    assert_eq!(records.metadata().warnings(), []);
    found
}

fn open(bytes: Vec<u8>) -> Recording {
    Recording::from_read_at(bytes).expect("it opens")
}

/// The bytes of a stream, few at a time.
struct Slow {
    bytes: std::io::Cursor<Vec<u8>>,
    at_once: usize,
}

impl Read for Slow {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = self.at_once.min(into.len());
        self.bytes.read(&mut into[..len])
    }
}

fn slow(bytes: Vec<u8>, at_once: usize) -> Recording {
    Recording::from_stream(Slow { bytes: std::io::Cursor::new(bytes), at_once }).expect("it opens")
}

#[test]
fn every_form_gives_every_record() {
    for order in ORDERS {
        for size in SIZES {
            for compression in [None, Some(Compression::First), Some(Compression::Second)] {
                let builder = filled(order, size, compression);
                let stored = builder.records().to_vec();
                let piped: Vec<Vec<u8>> = builder.said().into_iter().chain(stored.clone()).collect();
                for by in [Order::Recorded, Order::default()] {
                    // What was recorded has no records of an older round in a younger one, but rounds end late.
                    let sorted = |mut records: Vec<Vec<u8>>| {
                        if by != Order::Recorded {
                            records.sort();
                        }
                        records
                    };
                    let case = format!("{order:?} {size} {compression:?} {by:?}");
                    assert!(sorted(read(open(builder.file()).records(by))) == sorted(stored.clone()), "{case}");
                    assert!(sorted(read(open(builder.pipe()).records(by))) == sorted(piped.clone()), "{case}");
                    for at_once in [1, 7, 4096] {
                        let found = read(slow(builder.pipe(), at_once).records(by));
                        assert!(sorted(found) == sorted(piped.clone()), "{case} {at_once}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_header_of_a_file_and_the_records_of_a_stream_say_the_same() {
    for order in ORDERS {
        for size in SIZES {
            let builder = filled(order, size, None);
            let check = |metadata: &Metadata, form| {
                assert_eq!((metadata.form(), metadata.order()), (form, order));
                let events = metadata.events();
                assert_eq!(events.iter().map(|event| event.ids.clone()).collect::<Vec<_>>(), [vec![10], vec![20, 21]]);
                assert_eq!(events[0].attr, attr(size));
                assert_eq!((events[1].attr.config, events[1].attr.size), (1, size));
                assert_eq!(metadata.features().collect::<Vec<_>>(), [FeatureId::HOSTNAME]);
                let section = metadata.feature_bytes(FeatureId::HOSTNAME).expect("it is read").expect("it is there");
                assert!(section.ends_with(b"a host\0\0") && section.len() == 12);
            };
            check(open(builder.file()).metadata(), Form::File);
            let mut records = open(builder.pipe()).records(Order::Recorded);
            while records.next().is_some() {}
            check(records.metadata(), Form::Pipe);
        }
    }
}

/// What is decoded of the records that have a time.
fn decoded(recording: Recording) -> Vec<String> {
    let mut records = recording.records(Order::default());
    let mut lines = Vec::new();
    while let Some(entry) = records.next() {
        let entry = entry.expect("a sound recording");
        let decoded = entry.decode().expect("a sound record");
        if entry.type_().is_kernel() {
            lines.push(format!(
                "{:?} {:?} {:?} {:?} {:?}",
                entry.time(),
                decoded.event(),
                decoded.sample_id(),
                decoded.header,
                decoded
            ));
        }
    }
    lines
}

#[test]
fn values_do_not_depend_on_the_byte_order() {
    for compression in [None, Some(Compression::First)] {
        let [little, big] = ORDERS.map(|order| filled(order, 144, compression));
        let expected = decoded(open(little.file()));
        assert_eq!(expected.len(), 200);
        assert_eq!(decoded(open(big.file())), expected);
        assert_eq!(decoded(open(little.pipe())), expected);
        assert_eq!(decoded(open(big.pipe())), expected);
    }
}

#[test]
fn the_position_of_a_record_is_where_it_stands() {
    for order in ORDERS {
        let bytes = filled(order, 144, None).file();
        let mut records = open(bytes.clone()).records(Order::default());
        let mut count = 0;
        while let Some(entry) = records.next() {
            let entry = entry.expect("a sound recording");
            assert!(bytes[entry.position() as usize..].starts_with(entry.bytes()));
            count += 1;
        }
        assert_eq!(count, 210);
        // Of a record that was compressed, that of the one that holds its first byte.
        let bytes = filled(order, 144, Some(Compression::First)).file();
        let mut records = open(bytes.clone()).records(Order::Recorded);
        let (mut inside, mut last) = (0, 0);
        while let Some(entry) = records.next() {
            let entry = entry.expect("a sound recording");
            let at = entry.position() as usize;
            if !bytes[at..].starts_with(entry.bytes()) {
                let holder = perfring::record::Header::from_bytes(&bytes[at..], order).expect("a header");
                assert_eq!(holder.type_, RecordType::COMPRESSED);
                assert!(last <= at);
                inside += 1;
                last = at;
            }
        }
        assert_eq!(inside, 140);
    }
}

#[test]
fn payloads_are_read_whole_partly_or_not_at_all() {
    let payloads: Vec<Vec<u8>> = [0, 1, 8, 65_536, 262_144, 700_001]
        .into_iter()
        .map(|len: usize| (0..len).map(|at| (at * 7 + len) as u8).collect())
        .collect();
    for order in ORDERS {
        let mut builder = builder(order, 144);
        for (number, payload) in payloads.iter().enumerate() {
            builder.record(sample(10, 5 + number as u64, 1, order)).auxtrace(payload);
        }
        builder.record(sample(10, 50, 1, order));
        for (part, at_once, by) in [
            (0.0, 1, Order::Recorded),
            (0.5, 1000, Order::Recorded),
            (0.5, 1000, Order::default()),
            (1.0, 333_333, Order::Recorded),
            (1.0, usize::MAX, Order::default()),
        ] {
            for recording in [open(builder.file()), open(builder.pipe()), slow(builder.pipe(), 4099)] {
                let mut records = recording.records(by);
                let mut number = 0;
                let mut found = Vec::new();
                while let Some(entry) = records.next() {
                    let entry = entry.expect("a sound recording");
                    let type_ = entry.type_();
                    found.push(entry.bytes().to_vec());
                    if type_ != RecordType::AUXTRACE {
                        assert_eq!(records.payload(), 0);
                        continue;
                    }
                    let payload = &payloads[number];
                    number += 1;
                    assert_eq!(records.payload(), payload.len() as u64);
                    let wanted = (payload.len() as f64 * part) as usize;
                    let mut read = Vec::new();
                    while read.len() < wanted {
                        let mut buffer = vec![0; at_once.min(wanted - read.len())];
                        let len = records.read_payload(&mut buffer).expect("it is there");
                        assert!(len > 0);
                        read.extend_from_slice(&buffer[..len]);
                    }
                    assert!(read == payload[..wanted]);
                    if part == 1.0 {
                        assert_eq!(records.read_payload(&mut [0; 9]).expect("the end"), 0);
                    }
                }
                assert_eq!(number, payloads.len());
                let expected = builder.records();
                found.drain(..found.len() - expected.len());
                let mut expected = expected.to_vec();
                found.sort();
                expected.sort();
                assert!(found == expected, "{part} {by:?}");
            }
        }
    }
}

#[test]
fn the_largest_records_straddle_chunks_wherever_they_end() {
    for order in ORDERS {
        for shift in (0..=80).chain([65_520, 65_527]) {
            let mut builder = builder(order, 144);
            builder.record(bare(RecordType(200), &vec![3; shift], order));
            for number in 0..6 {
                builder
                    .record(bare(RecordType(40), &[number; 65_528 - 8], order))
                    .record(bare(RecordType(201), &[number; 65_535 - 8], order))
                    .record(sample(10, 7, number.into(), order));
            }
            let found = read(open(builder.file()).records(Order::Recorded));
            assert!(found == builder.records(), "{order:?} {shift}");
            if shift % 16 == 0 {
                let found = read(slow(builder.pipe(), 10_007).records(Order::Recorded));
                assert!(found[3..] == *builder.records(), "{order:?} {shift}");
            }
        }
    }
}

#[test]
fn the_largest_records_are_compressed_too() {
    for compression in [Compression::First, Compression::Second] {
        let mut builder = builder(ByteOrder::Little, 144);
        let noise = |seed: u64| {
            let word = |at: u64| (seed + at).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            (0..8190).flat_map(word).collect::<Vec<u8>>()
        };
        let records: Vec<Vec<u8>> = (0..20).map(|seed| bare(RecordType(50), &noise(seed), ByteOrder::Little)).collect();
        builder.compressed(&records[..10], compression, 5_001, 999);
        builder.compressed(&records[10..], compression, usize::MAX, 65_519);
        let found = read(open(builder.file()).records(Order::Recorded));
        assert!(found == records, "{compression:?}");
    }
}

#[test]
fn types_that_are_not_known_come_out_as_they_are() {
    for order in ORDERS {
        let mut builder = builder(order, 144);
        for type_ in (23..64).chain(87..120).chain([0x7fff_ffff, u32::MAX]) {
            // With a trailer where the kernel would put one.
            let body = [word(type_.into(), order), word(77, order), word(10, order)].concat();
            builder.record(bare(RecordType(type_), &body, order));
        }
        let mut records = open(builder.file()).records(Order::Recorded);
        let mut expected = builder.records().iter();
        while let Some(entry) = records.next() {
            let entry = entry.expect("a sound recording");
            assert_eq!(entry.bytes(), expected.next().expect("one more"));
            let decoded = entry.decode().expect("nothing is wrong with it");
            assert!(matches!(decoded.body, Body::Unknown(_)), "{decoded:?}");
        }
        assert!(expected.next().is_none());
        assert_eq!(read(open(builder.file()).records(Order::default())).len(), builder.records().len());
    }
}

/// What the consumer of a ring sees, as it was recorded.
fn drain(consumer: &mut Consumer, seen: &mut Vec<Vec<u8>>) {
    let order = Metadata::of_ring(consumer.description().expect("a description")).order();
    let each = |record: perfring::ring::Record<'_>| {
        let mut bytes = Vec::new();
        original(&record, order, &mut bytes);
        seen.push(bytes);
    };
    consumer.for_each(each).expect("a sound ring");
}

#[test]
fn recordings_of_either_byte_order_come_through_rings() {
    for order in ORDERS {
        for compression in [None, Some(Compression::Second)] {
            let builder = filled(order, 128, compression);
            for bytes in [builder.file(), builder.pipe()] {
                let for_a_ring = |mut records: Vec<Vec<u8>>| {
                    records.retain(|record| {
                        let header = perfring::record::Header::from_bytes(record, order).expect("a header");
                        header.type_.is_kernel()
                    });
                    records
                };
                let expected = for_a_ring(read(open(bytes.clone()).records(Order::default())));
                assert_eq!(expected.len(), 200);

                for shape in [Shape::free(1), Shape::confined(8)] {
                    let records = open(bytes.clone()).records(Order::default());
                    let mut beside = 0;
                    let (mut replay, ring) =
                        Replay::start(records, shape, |ring| ring.private(), |_| beside += 1).expect("a replay");
                    let mut consumer = ring.consumer().expect("a consumer");
                    let mut seen = Vec::new();
                    while replay.step(13).expect("a sound recording") != Step::Done {
                        drain(&mut consumer, &mut seen);
                    }
                    drain(&mut consumer, &mut seen);
                    assert!(seen == expected, "{order:?} {compression:?} {shape:?}");
                    let stats = replay.stats();
                    drop(replay);
                    assert_eq!((stats.records, stats.beside, beside > 0), (200, beside, true));
                }

                let dir = tempfile::tempdir().expect("a directory");
                let path = dir.path().join("image");
                let file = std::fs::File::create(&path).expect("a file");
                let mut image =
                    RingImage::start(open(bytes).records(Order::default()), Shape::auto(), file).expect("an image");
                assert!(image.copy().expect("it is written").is_none());
                image.finish().expect("an image");
                let recording = Recording::open(&path).expect("it opens");
                assert_eq!((recording.metadata().form(), recording.metadata().order()), (Form::RingImage, order));
                assert_eq!(recording.metadata().events()[1].ids, [20, 21]);
                assert!(read(recording.records(Order::default())) == expected, "{order:?} {compression:?}");
            }
        }
    }
}

#[test]
fn all_files_of_a_directory_are_read() {
    for order in ORDERS {
        let dir = tempfile::tempdir().expect("a directory");
        let mut first = builder(order, 144);
        some_records(order, 0, 10).into_iter().for_each(|record| {
            first.record(record);
        });
        // Each file has a stream of zstd of its own.
        let others: Vec<Builder> = (1..13)
            .map(|number| {
                let mut other = Builder::new(order);
                other.compressed(&some_records(order, number * 1000, 50), Compression::First, 300, 100);
                other
            })
            .collect();
        first.directory(dir.path(), &others.iter().map(Builder::data).collect::<Vec<_>>());
        let expected: Vec<Vec<u8>> =
            std::iter::once(&first).chain(&others).flat_map(|builder| builder.records().to_vec()).collect();
        for by in [Order::Recorded, Order::default()] {
            let recording = Recording::open(dir.path()).expect("it opens");
            assert_eq!(recording.metadata().form(), Form::Directory);
            // Their times go up from file to file.
            assert!(read(recording.records(by)) == expected, "{order:?} {by:?}");
        }
    }
}
