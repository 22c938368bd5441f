//! Recordings through rings, and back.

use perfring::record::ByteOrder;
use perfring::replay::{Metadata, Order, Recording, Replay, ReplayError, Shape, Step, original};
use perfring::ring::{Consumer, ImageWriter, RecordHeader, Ring};
use std::fs::File;
use std::path::Path;

/// A record of type 9 with a body of this many bytes, which say its number.
fn record(number: u64, body: usize) -> (RecordHeader, Vec<u8>) {
    let body: Vec<u8> = number.to_ne_bytes().into_iter().cycle().take(body).collect();
    (RecordHeader { type_: 9, misc: number as u16, size: (8 + body.len()) as u16 }, body)
}

fn image(path: &Path, ring: perfring::ring::Builder, sizes: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    let mut image: ImageWriter = ring.write_image(File::create(path).expect("a file")).expect("an image");
    let mut written = Vec::new();
    for (number, size) in sizes.into_iter().enumerate() {
        let (header, body) = record(number as u64, size);
        image.record(header, &body).expect("a record that fits");
        written.push([&header.to_bytes()[..], &body].concat());
    }
    image.finish().expect("an image");
    written
}

/// Replays, and gives what the consumer sees, as it was recorded.
fn through(path: &Path, shape: Shape, at_once: usize) -> Result<Vec<Vec<u8>>, ReplayError> {
    let records = Recording::open(path).expect("a recording").records(Order::Recorded);
    let (mut replay, ring) = Replay::start(records, shape, |ring| ring.private(), |_| {})?;
    let mut consumer = ring.consumer().expect("a consumer");
    let order = Metadata::of_ring(consumer.description().expect("a description")).order();
    let mut seen = Vec::new();
    loop {
        let step = replay.step(at_once)?;
        let mut drain = consumer.drain();
        while let Some(record) = drain.next() {
            let mut bytes = Vec::new();
            original(&record.expect("a sound record"), order, &mut bytes);
            seen.push(bytes);
        }
        drop(drain);
        if step == Step::Done {
            assert_eq!(consumer.lost_total(), Some(0));
            assert_eq!(replay.stats().records, seen.len() as u64);
            return Ok(seen);
        }
    }
}

#[test]
fn every_record_comes_through_every_ring() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image");
    let sizes = || (0..2000).map(|number| 8 * (number % 61));
    let written = image(&path, Ring::confined(4), sizes());
    for shape in [Shape::confined(4), Shape::confined(8), Shape::free(1), Shape::free(8), Shape::auto()] {
        for at_once in [1, 7, usize::MAX] {
            assert_eq!(through(&path, shape, at_once).expect("it fits"), written, "{shape:?} {at_once}");
        }
    }
}

#[test]
fn an_image_of_a_free_ring_holds_larger_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image");
    let written = image(&path, Ring::free(1), [65520, 8, 8432, 0, 65520]);
    assert_eq!(through(&path, Shape::auto(), usize::MAX).expect("it fits"), written);
    match through(&path, Shape::free(8), usize::MAX) {
        Err(ReplayError::TooLarge { size: 65528, pages: 16, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(through(&path, Shape::free(16), usize::MAX).expect("it fits"), written);
}

#[test]
fn a_record_larger_than_a_granule_says_what_it_needs() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image");
    let written = image(&path, Ring::free(1), [8, 8432, 16]);
    match through(&path, Shape::confined(8), usize::MAX) {
        Err(error @ ReplayError::TooLarge { size: 8440, pages: 16, granule: 16384, .. }) => {
            assert!(error.to_string().contains("16 pages, with granules of 16384 bytes"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(through(&path, Shape::confined(16).granule(16384), usize::MAX).expect("it fits"), written);
}

#[test]
fn what_is_too_large_is_left_out_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image");
    let written = image(&path, Ring::free(1), [8, 8432, 16]);
    let records = Recording::open(&path).expect("a recording").records(Order::Recorded);
    let (mut replay, ring) =
        Replay::start(records, Shape::confined(8), |ring| ring.private(), |_| {}).expect("a replay");
    assert!(matches!(replay.step(usize::MAX), Err(ReplayError::TooLarge { .. })));
    assert_eq!(replay.step(usize::MAX).expect("the rest"), Step::Done);
    let mut seen = Vec::new();
    ring.consumer().expect("a consumer").for_each(|record| seen.push(record.bytes().to_vec())).expect("sound records");
    assert_eq!(seen, [written[0].clone(), written[2].clone()]);
}

#[test]
fn a_paced_replay_waits_for_the_time_of_each_record() {
    use perfring::record::{Attr, Encoder, Misc, SampleFields, SampleType};
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image");
    let attr = Attr { sample_type: SampleType::TIME, ..Attr::default() };
    let encoder = Encoder::new(&attr, ByteOrder::NATIVE).expect("an encoder");
    let ring = Ring::confined(4).attr(attr.to_bytes(ByteOrder::NATIVE), [7]);
    let mut image = ring.write_image(File::create(&path).expect("a file")).expect("an image");
    let hour = 3_600_000_000_000;
    for time in [5, 5 + hour] {
        let mut bytes = Vec::new();
        let fields = SampleFields { time: Some(time), ..SampleFields::default() };
        encoder.sample(Misc::empty(), &fields, &mut bytes).expect("a sample");
        image.record(RecordHeader { type_: 9, misc: 0, size: bytes.len() as u16 }, &bytes[8..]).expect("it fits");
    }
    image.finish().expect("an image");

    let start = || {
        let recording = Recording::open(&path).expect("a recording");
        assert_eq!(recording.metadata().events()[0].ids, [7]);
        Replay::start(recording.records(Order::default()), Shape::auto(), |ring| ring.private(), |_| {})
            .expect("a replay")
    };
    let (replay, _ring) = start();
    match replay.speed(2.0).step(usize::MAX).expect("a step") {
        Step::NotDue(wait) => assert!(wait.as_secs() > 1700 && wait.as_secs() <= 1800, "{wait:?}"),
        other => panic!("{other:?}"),
    }
    let (replay, _ring) = start();
    let mut replay = replay.speed(1e15);
    while replay.step(usize::MAX).expect("a step") != Step::Done {}
    let (replay, _ring) = start();
    assert_eq!(replay.speed(0.0).step(usize::MAX).expect("a step"), Step::Done);
}

#[test]
fn a_consumer_in_another_thread_sees_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image");
    let written = image(&path, Ring::confined(4), (0..20_000).map(|number| 8 * (number % 31)));
    let records = Recording::open(&path).expect("a recording").records(Order::Recorded);
    let (mut replay, ring) =
        Replay::start(records, Shape::confined(4), |ring| ring.private(), |_| {}).expect("a replay");
    let mut consumer: Consumer = ring.consumer().expect("a consumer");
    let reader = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while consumer.wait(None).expect("a ring") == perfring::ring::Wait::Ready {
            consumer.for_each(|record| seen.push(record.bytes().to_vec())).expect("sound records");
        }
        seen
    });
    assert_eq!(replay.run(|| true).expect("a replay").records, 20_000);
    drop((replay, ring));
    assert_eq!(reader.join().expect("a reader"), written);
}

#[test]
fn batches_are_what_comes_one_by_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image");
    let written = image(&path, Ring::confined(4), (0..5000).map(|number| 8 * (number % 31)));
    for most in [1, 3, 1000, usize::MAX] {
        for order in [Order::Recorded, Order::default()] {
            let mut records = Recording::open(&path).expect("a recording").records(order);
            let mut seen: Vec<Vec<u8>> = Vec::new();
            while let Some(batch) = records.next_batch(most) {
                let batch = batch.expect("a sound ring");
                assert!(!batch.is_empty() && batch.len() <= most);
                seen.extend(batch.iter().map(|entry| entry.bytes().to_vec()));
                // One by one in between.
                if let Some(entry) = records.next() {
                    seen.push(entry.expect("a sound ring").bytes().to_vec());
                }
            }
            assert_eq!(seen, written, "{most} {order:?}");
        }
    }
}

#[test]
fn a_backward_ring_is_read_whole() {
    use perfring::ring::Mode;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image");
    let builder = Ring::free(256).mode(Mode::OverwriteBackward);
    // SAFETY: nobody else knows the file.
    #[allow(unsafe_code)]
    let ring = unsafe { builder.create_file(&path) }.expect("a ring");
    let producer = ring.overwrite_producer().expect("a producer");
    let number = 20_000_u64;
    for number in 0..number {
        let mut record = producer.begin_backward(40).expect("a record");
        record.put(&number.to_ne_bytes());
        record.commit(9, 0);
    }
    drop((producer, ring));
    let mut records = Recording::open(&path).expect("an image").records(Order::Recorded);
    // The newest first.
    let mut expected = number;
    while let Some(entry) = records.next() {
        let entry = entry.expect("a sound ring");
        expected -= 1;
        assert_eq!(entry.bytes()[8..16], expected.to_ne_bytes());
    }
    assert_eq!(expected, 0);
}
