//! Recordings with arbitrary bytes: reading them in both orders gives the same records, whatever is wrong with them, and what
//! they hold comes through a ring as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perfring::record::Header;
use perfring::replay::perf_data::Feature;
use perfring::replay::{Order, Recording, Replay, ReplayError, Shape, Step, original};
use std::fmt::Write as _;

/// Throws text away.
struct Nowhere;

impl std::fmt::Write for Nowhere {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        Ok(())
    }
}

/// More items than this are only in a recording that was compressed to next to nothing.
const MOST: usize = 20_000;

/// The records in an order, and how many defects there were; none if there are too many.
fn read(bytes: &[u8], order: Order) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut records = Recording::from_read_at(bytes.to_vec()).ok()?.records(order);
    let (mut found, mut errors) = (Vec::new(), 0);
    while let Some(entry) = records.next() {
        match entry {
            Ok(entry) => {
                assert_eq!(entry.bytes().len(), usize::from(entry.header().size));
                assert!(entry.position() <= bytes.len() as u64);
                let _ = write!(Nowhere, "{entry:?}");
                if let Ok(decoded) = entry.decode() {
                    let _ = write!(Nowhere, "{decoded}");
                }
                found.push(entry.bytes().to_vec());
            }
            Err(error) => {
                let _ = write!(Nowhere, "{error}");
                errors += 1;
            }
        }
        if found.len() + errors > MOST {
            return None;
        }
    }
    for warning in records.metadata().warnings() {
        let _ = write!(Nowhere, "{warning}");
    }
    let metadata = records.metadata();
    for id in metadata.features() {
        let Ok(Some(section)) = metadata.feature_bytes(id) else { continue };
        if let Ok(feature) = Feature::decode(id, &section, metadata.order()) {
            let _ = write!(Nowhere, "{feature}");
        }
    }
    Some((found, errors))
}

/// In batches: the same.
fn read_in_batches(bytes: &[u8], order: Order, most: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let Ok(recording) = Recording::from_read_at(bytes.to_vec()) else { return found };
    let mut records = recording.records(order);
    while let Some(batch) = records.next_batch(most) {
        if let Ok(batch) = batch {
            assert!(!batch.is_empty() && batch.len() <= most);
            found.extend(batch.iter().map(|entry| entry.bytes().to_vec()));
        }
    }
    found
}

/// What the consumer of a ring sees.
fn through_a_ring(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let records = Recording::from_read_at(bytes.to_vec()).ok()?.records(Order::Recorded);
    let order = records.metadata().order();
    let (mut replay, ring) = match Replay::start(records, Shape::free(32), |ring| ring.private(), |_| {}) {
        Ok(started) => started,
        // There may be too many events for a ring's header.
        Err(ReplayError::Setup(_)) => return None,
        // A defect before the first record that a ring holds.
        Err(_) => return None,
    };
    let mut consumer = ring.consumer().expect("a consumer");
    let mut seen = Vec::new();
    loop {
        let step = match replay.step(100) {
            Ok(step) => Some(step),
            Err(ReplayError::Read(_)) => None,
            Err(error) => panic!("{error}"),
        };
        consumer
            .for_each(|record| {
                let mut bytes = Vec::new();
                original(&record, order, &mut bytes);
                seen.push(bytes);
            })
            .expect("a sound ring");
        if step == Some(Step::Done) {
            return Some(seen);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((recorded, errors)) = read(bytes, Order::Recorded) else { return };
    let Some((sorted, same_errors)) = read(bytes, Order::Time { window: 1 << 20 }) else { return };
    assert_eq!(errors, same_errors);
    assert_eq!(read_in_batches(bytes, Order::Recorded, 7), recorded);
    assert_eq!(read_in_batches(bytes, Order::Time { window: 1 << 20 }, 1000), sorted);
    if let Some(seen) = through_a_ring(bytes)
        && errors == 0
    {
        let order = Recording::from_read_at(bytes.to_vec()).expect("it was read before").metadata().order();
        let fits = |record: &&Vec<u8>| {
            let header = Header::from_bytes(record, order).expect("a header");
            (1..64).contains(&header.type_.0) && record.len() % 8 == 0
        };
        assert!(seen.iter().eq(recorded.iter().filter(fits)));
    }
    let [mut recorded, mut sorted] = [recorded, sorted];
    recorded.sort();
    sorted.sort();
    assert!(recorded == sorted, "the orders have different records");
});
