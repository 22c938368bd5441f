//! Recordings of perf: every record comes out, in perf's order, decoded, and through a ring.

#[path = "perf_oracle/mod.rs"]
mod perf_oracle;

use perf_oracle::{Expected, ExpectedRecord, fixture, fixture_names};
use perfring::replay::perf_data::{WriteError, WriteOptions, Writer};
use perfring::replay::{
    Copied, CopyError, Metadata, Order, Recording, Records, Replay, ReplayError, RingImage, Shape, Step, copy, original,
};
use std::collections::BTreeMap;

fn records(name: &str, order: Order) -> Records {
    Recording::open(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}")).records(order)
}

#[test]
fn every_record_is_counted_in_every_order() {
    let names = fixture_names();
    assert!(names.len() >= 50, "{names:?}");
    for name in names {
        for order in [Order::Recorded, Order::default(), Order::Time { window: 1 << 16 }] {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            let mut records = records(&name, order);
            while let Some(entry) = records.next() {
                let entry = entry.unwrap_or_else(|error| panic!("{name}: {error}"));
                *counts.entry(entry.type_().to_string()).or_default() += 1;
                *counts.entry("TOTAL".to_owned()).or_default() += 1;
                if let Err(error) = entry.decode() {
                    panic!("{name}: {entry:?}: {error}");
                }
            }
            let expected = Expected::of(&name).stats;
            let expected: BTreeMap<_, _> = expected.into_iter().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counts, expected, "{name} {order:?}");
        }
    }
}

#[test]
fn records_stand_as_they_were_written() {
    let mut compared = 0;
    for name in fixture_names() {
        let Some(expected) = Expected::of(&name).records else { continue };
        let mut found = Vec::new();
        let mut records = records(&name, Order::Recorded);
        while let Some(entry) = records.next() {
            let entry = entry.expect("a sound recording");
            if entry.type_().is_kernel() && found.len() < Expected::RECORDS {
                let (size, misc) = (entry.header().size, entry.header().misc.bits());
                // To perf that is no time.
                let time =
                    entry.decode().ok().and_then(|decoded| decoded.sample_id().time).filter(|time| *time != u64::MAX);
                found.push(ExpectedRecord { type_: entry.type_().to_string(), size, misc, time });
            }
        }
        assert_eq!(found.len(), expected.len(), "{name}");
        for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{name}, record {number}");
        }
        compared += 1;
    }
    assert!(compared >= 44, "{compared}");
}

#[test]
fn records_come_in_the_order_of_perf() {
    let mut compared = 0;
    for name in fixture_names() {
        let expected = Expected::of(&name);
        let (mut places, mut times) = (Vec::new(), Vec::new());
        let mut records = records(&name, Order::default());
        while let Some(entry) = records.next() {
            let entry = entry.expect("a sound recording");
            if entry.type_().is_kernel() {
                places.push(entry.position());
                times.push((entry.type_().to_string(), entry.time()));
            }
        }
        if let Some(expected) = &expected.order {
            assert_eq!(&places, expected, "{name}");
            compared += 1;
        }
        if let Some(expected) = &expected.times {
            assert_eq!(&times, expected, "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 21, "{compared}");
}

#[test]
fn late_records_are_counted_as_perf_counts_them() {
    let mut records = records("late", Order::default());
    while let Some(entry) = records.next() {
        entry.expect("a sound recording");
    }
    assert_eq!(records.order_stats().late, 2);
}

#[test]
fn a_recorder_that_was_killed_is_warned_of() {
    use perfring::replay::Warning;
    for name in ["killed", "killed_zstd"] {
        let mut records = records(name, Order::default());
        while let Some(entry) = records.next() {
            entry.expect("a sound recording");
        }
        assert!(records.metadata().warnings().contains(&Warning::Unfinished), "{name}");
    }
}

/// The kernel's records in the order of time.
fn kernel_records(name: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    records(name, Order::default()).for_each(|entry| {
        let entry = entry.expect("a sound recording");
        if entry.type_().is_kernel() {
            all.push(entry.bytes().to_vec());
        }
    });
    all
}

/// What the consumer of a ring sees of a recording.
fn through_a_ring(name: &str, shape: Shape) -> Result<Vec<Vec<u8>>, ReplayError> {
    let (mut replay, ring) = Replay::start(records(name, Order::default()), shape, |ring| ring.private(), |_| {})?;
    let mut consumer = ring.consumer().expect("a consumer");
    let ring = Metadata::of_ring(consumer.description().expect("a ring of ours"));
    let mut seen = Vec::new();
    loop {
        let step = replay.step(usize::MAX)?;
        let mut drain = consumer.drain();
        while let Some(record) = drain.next() {
            let mut bytes = Vec::new();
            original(&record.expect("a sound record"), ring.order(), &mut bytes);
            // What the ring says of itself is enough to decode them.
            ring.decoder().decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            seen.push(bytes);
        }
        drop(drain);
        if step == Step::Done {
            assert_eq!(consumer.lost_total(), Some(0));
            return Ok(seen);
        }
    }
}

#[test]
fn every_record_comes_through_a_ring_of_eight_pages() {
    let mut confined = 0;
    for name in fixture_names() {
        let expected = kernel_records(&name);
        assert_eq!(through_a_ring(&name, Shape::free(8)).expect("it fits"), expected, "{name}");
        assert_eq!(through_a_ring(&name, Shape::auto()).expect("it fits"), expected, "{name}");
        match through_a_ring(&name, Shape::confined(8)) {
            Ok(seen) => {
                assert_eq!(seen, expected, "{name}");
                confined += 1;
            }
            Err(ReplayError::TooLarge { size, pages, granule, .. }) => {
                assert!(size > 4096, "{name}");
                let shape = Shape::confined(pages).granule(granule);
                assert_eq!(through_a_ring(&name, shape).expect("it fits"), expected, "{name}");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(confined >= 45, "{confined}");
}

#[test]
fn a_ring_image_holds_what_the_recording_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image");
    for name in fixture_names() {
        for shape in [Shape::auto(), Shape::free(1)] {
            let file = std::fs::File::create(&path).expect("a file");
            let mut image = RingImage::start(records(&name, Order::default()), shape, file).expect("an image");
            assert!(image.copy().expect("it fits").is_none());
            image.finish().expect("an image");

            let mut records = Recording::open(&path).expect("an image").records(Order::Recorded);
            let mut seen = Vec::new();
            while let Some(entry) = records.next() {
                let entry = entry.expect("a sound image");
                entry.decode().unwrap_or_else(|error| panic!("{name}: {error}"));
                seen.push(entry.bytes().to_vec());
            }
            assert_eq!(seen, kernel_records(&name), "{name}");
        }
    }
}

/// Copies a recording into a file.
fn copied(records: Records, options: WriteOptions, path: &std::path::Path) -> Result<Copied, CopyError> {
    let writer = Writer::file(std::fs::File::create(path).expect("a file"), options).expect("a writer");
    copy(records, writer, |defect| panic!("{defect}"))
}

#[test]
fn a_copy_holds_what_the_recording_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("perf.data");
    let mut refused = Vec::new();
    for name in fixture_names() {
        for options in [WriteOptions::default(), WriteOptions::default().zstd(3)] {
            match copied(records(&name, Order::default()), options, &path) {
                Ok(copied) => assert_eq!(copied.errors, 0, "{name}"),
                // perf would not tell whose records they are.
                Err(CopyError::Write(WriteError::NoCommonId { .. } | WriteError::ReadWithoutId { .. })) => {
                    refused.push(name.clone());
                    continue;
                }
                Err(error) => panic!("{name}: {error}"),
            }
            let recording = Recording::open(&path).expect("a recording");
            assert_eq!(recording.metadata().warnings(), [], "{name}");
            let names = |metadata: &Metadata| -> Vec<_> {
                metadata
                    .events()
                    .iter()
                    .map(|event| (event.ids.clone(), event.attr.config, event.name.clone()))
                    .collect()
            };
            let mut original = records(&name, Order::default());
            while let Some(entry) = original.next() {
                entry.expect("a sound recording");
            }
            if original.metadata().events().iter().all(|event| event.name.is_some()) {
                assert_eq!(names(recording.metadata()), names(original.metadata()), "{name}");
            }
            let mut seen = Vec::new();
            // Sorted again, what was late would be so no more.
            recording.records(Order::Recorded).for_each(|entry| {
                let entry = entry.expect("a sound recording");
                if entry.type_().is_kernel() {
                    seen.push(entry.bytes().to_vec());
                }
            });
            assert_eq!(seen.len(), kernel_records(&name).len(), "{name}");
            assert!(seen == kernel_records(&name), "{name}");
        }
    }
    refused.dedup();
    assert_eq!(refused, ["stat_pipe"]);
}

#[test]
fn a_ring_image_becomes_perf_data_and_a_ring_image_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let [image, data, again] = ["image", "perf.data", "again"].map(|name| dir.path().join(name));
    let to_image = |records: Records, path: &std::path::Path| {
        let file = std::fs::File::create(path).expect("a file");
        let mut image = RingImage::start(records, Shape::auto(), file).expect("an image");
        assert!(image.copy().expect("it fits").is_none());
        image.finish().expect("an image");
    };
    for name in ["rounds", "tracepoints_mixed", "callgraph_dwarf_8k", "lost", "identifier"] {
        to_image(records(name, Order::default()), &image);
        let recording = Recording::open(&image).expect("an image");
        copied(recording.records(Order::Recorded), WriteOptions::default(), &data).expect("a copy");
        to_image(Recording::open(&data).expect("a recording").records(Order::Recorded), &again);
        let [one, other] = [&image, &again].map(|path| std::fs::read(path).expect("an image"));
        assert!(one == other, "{name}");
    }
}
