//! The time-ordered merge against a model that sorts.

use perfring::merge::{Merge, MergeStats};
use perfring::ring::{Consumer, Producer, Record, Ring, Wake};
use proptest::prelude::*;
use std::collections::VecDeque;

const TIMED: u32 = 9;
const UNTIMED: u32 = 7;

fn time(_ring: usize, record: &Record<'_>) -> Option<u64> {
    (record.header().type_ == TIMED).then(|| word(record, 0))
}

fn word(record: &Record<'_>, index: usize) -> u64 {
    let bytes = &record.body()[8 * index..][..8];
    u64::from_ne_bytes(bytes.try_into().unwrap())
}

/// Writes a record: its time, a serial number, and some words more.
fn write(producer: &Producer, time: Option<u64>, serial: u64) {
    let size = 24 + 8 * (serial % 5) as usize;
    let mut record = producer.begin_forward_in_page(size).expect("there is room");
    record.put(&time.unwrap_or(0).to_ne_bytes());
    record.put(&serial.to_ne_bytes());
    record.commit(if time.is_some() { TIMED } else { UNTIMED }, 0);
}

fn ring(confined: bool) -> (Producer, Consumer) {
    let builder = if confined { Ring::confined(4) } else { Ring::free(4) };
    let ring = builder.wake(Wake::Never).start_position(0u64.wrapping_sub(4096)).private().unwrap();
    (ring.producer().unwrap(), ring.consumer().unwrap())
}

type Merged = Merge<Consumer, fn(usize, &Record<'_>) -> Option<u64>>;

/// A record of the model.
type Entry = (Option<u64>, u64);

/// What a merge does, by sorting: a record counts as of the greatest time in its ring up to it.
#[derive(Default)]
struct Model {
    rings: Vec<VecDeque<Entry>>,
    newest: u64,
    stats: MergeStats,
}

impl Model {
    fn drain(&mut self, until: Option<u64>) -> Vec<(usize, Entry)> {
        let mut order = Vec::new();
        for (ring, records) in self.rings.iter().enumerate() {
            let mut greatest = None;
            for (at, &(time, _)) in records.iter().enumerate() {
                greatest = greatest.max(time);
                if greatest.is_none_or(|time| time <= until.unwrap_or(u64::MAX)) {
                    order.push((greatest, ring, at));
                }
            }
        }
        order.sort();
        let delivered: Vec<_> = order.iter().map(|&(_, ring, at)| (ring, self.rings[ring][at])).collect();
        for &(ring, (time, _)) in &delivered {
            self.rings[ring].pop_front();
            self.stats.delivered += 1;
            let time = time.unwrap_or(u64::MAX);
            if time != u64::MAX {
                self.stats.late += u64::from(time < self.newest);
                self.newest = self.newest.max(time);
            }
        }
        delivered
    }
}

fn drain(merge: &mut Merged, until: Option<u64>, most: usize) -> Vec<(usize, Entry)> {
    let mut found = Vec::new();
    let mut drain = merge.drain(until);
    while found.len() < most {
        let Some(merged) = drain.next() else { break };
        let merged = merged.expect("a sound ring");
        found.push((merged.stream, (merged.time, word(&merged.record, 1))));
    }
    found
}

#[derive(Clone, Debug)]
enum Step {
    Write { ring: usize, time: Option<u64> },
    Drain { until: Option<u64> },
}

fn step(rings: usize) -> impl Strategy<Value = Step> {
    // Few times, so that many are equal.
    let time = prop_oneof![6 => (0..12u64).prop_map(Some), 1 => Just(None), 1 => (0..1000u64).prop_map(Some)];
    prop_oneof![
        12 => (0..rings, time).prop_map(|(ring, time)| Step::Write { ring, time }),
        1 => prop::option::of(0..14u64).prop_map(|until| Step::Drain { until }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merges_as_the_sort_does(
        (confined, steps) in (1..9usize).prop_flat_map(|rings| {
            (prop::collection::vec(any::<bool>(), rings), prop::collection::vec(step(rings), 0..300))
        }),
    ) {
        let (producers, consumers): (Vec<_>, Vec<_>) = confined.iter().map(|&confined| ring(confined)).unzip();
        let mut merge = Merge::new(consumers, time as fn(usize, &Record<'_>) -> Option<u64>);
        let mut model = Model { rings: vec![VecDeque::new(); producers.len()], ..Model::default() };
        for (serial, step) in steps.iter().enumerate() {
            match *step {
                Step::Write { ring, time } => {
                    write(&producers[ring], time, serial as u64);
                    model.rings[ring].push_back((time, serial as u64));
                }
                Step::Drain { until } => {
                    prop_assert_eq!(drain(&mut merge, until, usize::MAX), model.drain(until));
                }
            }
        }
        prop_assert_eq!(drain(&mut merge, None, usize::MAX), model.drain(None));
        prop_assert_eq!(merge.stats(), model.stats);
        for consumer in merge.streams() {
            prop_assert!(!consumer.is_ready());
        }
    }
}

fn rings(rings: usize) -> (Vec<Producer>, Merged) {
    let (producers, consumers): (Vec<_>, Vec<_>) = (0..rings).map(|_| ring(true)).unzip();
    (producers, Merge::new(consumers, time))
}

#[test]
fn a_drain_that_is_dropped_leaves_the_rest_to_the_next() {
    let (producers, mut merge) = rings(3);
    for i in 0..90 {
        write(&producers[i % 3], Some(i as u64), i as u64);
    }
    let mut serials = Vec::new();
    for most in [0, 1, 1, 7, 40, usize::MAX] {
        serials.extend(drain(&mut merge, None, most).into_iter().map(|(_, (_, serial))| serial));
    }
    assert_eq!(serials, (0..90).collect::<Vec<_>>());
    assert_eq!(merge.stats(), MergeStats { delivered: 90, late: 0, errors: 0 });
}

#[test]
fn what_is_newer_waits_and_keeps_what_stands_behind_it_waiting() {
    let (producers, mut merge) = rings(2);
    write(&producers[0], Some(10), 0);
    write(&producers[0], Some(3), 1);
    write(&producers[0], None, 2);
    write(&producers[1], Some(5), 3);
    assert_eq!(drain(&mut merge, Some(5), usize::MAX), [(1, (Some(5), 3))]);
    assert_eq!(drain(&mut merge, Some(9), usize::MAX), []);
    assert_eq!(drain(&mut merge, Some(10), usize::MAX), [(0, (Some(10), 0)), (0, (Some(3), 1)), (0, (None, 2))]);
    assert_eq!(merge.stats(), MergeStats { delivered: 4, late: 1, errors: 0 });
}

#[test]
fn equal_times_come_in_the_order_of_the_rings() {
    let (producers, mut merge) = rings(4);
    for round in 0..3 {
        for ring in (0..4).rev() {
            write(&producers[ring], Some(7), 10 * ring as u64 + round);
        }
    }
    let serials: Vec<_> = drain(&mut merge, None, usize::MAX).into_iter().map(|(_, (_, serial))| serial).collect();
    assert_eq!(serials, [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]);
}

#[test]
fn none_and_empty_rings_end_at_once() {
    let (_producers, mut merge) = rings(0);
    assert!(drain(&mut merge, None, usize::MAX).is_empty());
    let (_producers, mut merge) = rings(5);
    let mut drain = merge.drain(None);
    assert!(drain.next().is_none());
    assert!(drain.next().is_none());
}

#[test]
fn a_ring_with_a_defect_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring");
    #[allow(unsafe_code)]
    // SAFETY: nobody else knows the file while the ring lives.
    let damaged = unsafe { Ring::confined(4).create_file(&path) }.unwrap();
    let producer = damaged.producer().unwrap();
    for i in 0..400 {
        write(&producer, Some(2 * i), 2 * i);
    }
    drop((producer, damaged));
    // The first record of the second granule gets a size of 4.
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 4 * 4096 + 4096;
    bytes[at + 6..at + 8].copy_from_slice(&4u16.to_ne_bytes());
    std::fs::write(&path, bytes).unwrap();

    let (sound, consumer) = ring(false);
    for i in 0..150 {
        write(&sound, Some(2 * i + 1), 2 * i + 1);
    }
    let mut merge = Merge::new([consumer, Consumer::open_file(&path).unwrap()], time);
    let (mut records, mut errors) = ([0, 0], Vec::new());
    let mut last = 0;
    merge.for_each(None, |merged| match merged {
        Ok(merged) => {
            records[merged.stream] += 1;
            assert!(merged.time >= Some(last));
            last = merged.time.unwrap();
        }
        Err(error) => errors.push(error),
    });
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].stream, 1);
    assert_eq!(errors[0].error.skipped, 4096);
    assert_eq!(records[0], 150);
    assert!(records[1] > 200 && records[1] < 400, "{records:?}");
    assert_eq!(merge.stats(), MergeStats { delivered: records[0] + records[1], late: 0, errors: 1 });
}

#[test]
fn consumers_can_be_borrowed() {
    let (producer, mut consumer) = ring(true);
    write(&producer, Some(1), 0);
    let mut merge = Merge::new([&mut consumer], time);
    let mut count = 0;
    merge.for_each(None, |_| count += 1);
    assert_eq!(count, 1);
    assert!(!consumer.is_ready());
}

#[test]
fn live_rings_of_threads_come_out_in_order() {
    use std::sync::atomic::{AtomicU64, Ordering};
    // A record is stamped and published in one step of this clock, so none is late.
    let clock = AtomicU64::new(1);
    let lock = std::sync::Mutex::new(());
    let (producers, mut merge) = rings(3);
    let mut serials = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = producers
            .into_iter()
            .map(|producer| {
                let (clock, lock) = (&clock, &lock);
                scope.spawn(move || {
                    for _ in 0..3000 {
                        let _step = lock.lock().unwrap();
                        let time = clock.load(Ordering::Relaxed);
                        if let Ok(mut record) = producer.begin_forward_in_page(24) {
                            record.put(&time.to_ne_bytes());
                            record.put(&time.to_ne_bytes());
                            record.commit(TIMED, 0);
                        }
                        clock.store(time + 1, Ordering::Release);
                    }
                })
            })
            .collect();
        while !writers.iter().all(|writer| writer.is_finished()) {
            let until = clock.load(Ordering::Acquire) - 1;
            merge.for_each(Some(until), |merged| {
                let merged = merged.unwrap();
                if merged.time.is_some() {
                    assert!(merged.time <= Some(until));
                    serials.push(word(&merged.record, 1));
                }
            });
        }
    });
    merge.for_each(None, |merged| {
        let merged = merged.unwrap();
        if merged.time.is_some() {
            serials.push(word(&merged.record, 1));
        }
    });
    assert!(serials.is_sorted());
    assert_eq!(merge.stats().late, 0);
    let lost: u64 = merge.streams().iter().filter_map(Consumer::lost_total).sum();
    assert_eq!(serials.len() as u64 + lost, 9000);
}
