//! The order of records, held to a model of perf's rounds that is as simple as can be.

mod recordings;

use perfring::record::{Attr, ByteOrder, RecordType};
use perfring::replay::{Order, OrderStats, Recording, Records};
use proptest::prelude::*;
use recordings::{Builder, attr, bare, sample};

/// What a recording of one event is made of.
#[derive(Clone, Copy, Debug)]
enum Item {
    Sample(u64),
    Round,
    /// A record of perf, which has no time.
    Beside,
}

/// Times that clash and times that perf takes for none are more frequent than by chance.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 1..60_u64, 4 => 1..1_000_000_u64, 1 => Just(0), 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)]
}

fn items(most: usize) -> impl Strategy<Value = Vec<Item>> {
    let item = prop_oneof![8 => time().prop_map(Item::Sample), 2 => Just(Item::Round), 1 => Just(Item::Beside)];
    prop::collection::vec(item, 0..most)
}

/// The record of an item; its number tells it from all others.
fn record(item: Item, number: u64, order: ByteOrder) -> Vec<u8> {
    match item {
        Item::Sample(time) => sample(1, time, number, order),
        Item::Round => bare(RecordType::FINISHED_ROUND, &number.to_le_bytes(), order),
        Item::Beside => bare(RecordType(200), &number.to_le_bytes(), order),
    }
}

fn builder(items: &[Item], order: ByteOrder) -> Builder {
    let mut builder = Builder::new(order);
    builder.event(attr(Attr::SIZE as u32), &[1]);
    for (number, item) in items.iter().enumerate() {
        builder.record(record(*item, number as u64, order));
    }
    builder
}

/// The model: the numbers of the items as they come out, and how many were late.
fn model(items: &[Item]) -> (Vec<usize>, u64) {
    let (mut waiting, mut out): (Vec<(u64, usize)>, Vec<usize>) = (Vec::new(), Vec::new());
    let (mut newest, mut limit, mut delivered, mut late) = (0, 0, 0, 0);
    for (number, item) in items.iter().enumerate() {
        match *item {
            Item::Sample(time) if time != 0 && time != u64::MAX => {
                newest = newest.max(time);
                late += u64::from(time < delivered);
                waiting.push((time, number));
            }
            Item::Sample(_) | Item::Beside => out.push(number),
            Item::Round => {
                // Numbers grow, so that of equal times the first comes first.
                waiting.sort();
                let rest = waiting.split_off(waiting.iter().take_while(|(time, _)| *time <= limit).count());
                delivered = waiting.last().map_or(delivered, |(time, _)| delivered.max(*time));
                out.extend(waiting.iter().map(|(_, number)| *number));
                out.push(number);
                (waiting, limit) = (rest, newest);
            }
        }
    }
    waiting.sort();
    out.extend(waiting.iter().map(|(_, number)| *number));
    (out, late)
}

fn read(mut records: Records) -> (Vec<Vec<u8>>, OrderStats) {
    let mut out = Vec::new();
    while let Some(entry) = records.next() {
        out.push(entry.expect("a sound recording").bytes().to_vec());
    }
    (out, records.order_stats())
}

fn open(bytes: Vec<u8>, order: Order) -> Records {
    Recording::from_read_at(bytes).expect("it opens").records(order)
}

fn read_in_batches(mut records: Records, most: usize) -> (Vec<Vec<u8>>, OrderStats) {
    let mut out = Vec::new();
    while let Some(batch) = records.next_batch(most) {
        let batch = batch.expect("a sound recording");
        assert!(!batch.is_empty() && batch.len() <= most);
        out.extend(batch.iter().map(|entry| entry.bytes().to_vec()));
    }
    (out, records.order_stats())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_is_that_of_rounds(items in items(300), is_big: bool, is_pipe: bool) {
        let builder = builder(&items, if is_big { ByteOrder::Big } else { ByteOrder::Little });
        let said = if is_pipe { builder.said() } else { Vec::new() };
        let bytes = if is_pipe { builder.pipe() } else { builder.file() };
        let (expected, late) = model(&items);
        let expected = expected.iter().map(|number| builder.records()[*number].clone());
        let expected: Vec<Vec<u8>> = said.iter().cloned().chain(expected).collect();

        let (found, stats) = read(open(bytes.clone(), Order::default()));
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!((stats.late, stats.early), (late, 0));
        for most in [1, 2, 7, usize::MAX] {
            prop_assert_eq!(&read_in_batches(open(bytes.clone(), Order::default()), most), &(found.clone(), stats));
        }

        let recorded: Vec<Vec<u8>> = said.iter().chain(builder.records()).cloned().collect();
        prop_assert_eq!(&read(open(bytes.clone(), Order::Recorded)).0, &recorded);
        for most in [1, 3, usize::MAX] {
            prop_assert_eq!(&read_in_batches(open(bytes.clone(), Order::Recorded), most).0, &recorded);
        }
    }

    /// Each file is in the order of its own rounds, and the files are merged by time.
    #[test]
    fn the_files_of_a_directory_are_merged(files in prop::collection::vec(items(60), 1..5)) {
        let dir = tempfile::tempdir().expect("a directory");
        let order = ByteOrder::Little;
        let mut first = Builder::new(order);
        first.event(attr(Attr::SIZE as u32), &[1]);
        let mut number = 0;
        let files: Vec<Vec<(Item, Vec<u8>)>> = files
            .iter()
            .map(|items| {
                let record = |item: &Item| {
                    number += 1;
                    (*item, record(*item, number, order))
                };
                items.iter().map(record).collect()
            })
            .collect();
        let data: Vec<Vec<u8>> =
            files.iter().map(|file| file.iter().flat_map(|(_, record)| record.clone()).collect()).collect();
        first.directory(dir.path(), &data.iter().map(Vec::as_slice).collect::<Vec<_>>());

        let mut records = Recording::open(dir.path()).expect("it opens").records(Order::default());
        let mut found = vec![Vec::new(); files.len()];
        let mut times = Vec::new();
        while let Some(entry) = records.next() {
            let entry = entry.expect("a sound recording");
            // The file `data` is the first one, and empty.
            found[entry.part() - 1].push(entry.bytes().to_vec());
            times.extend(entry.time().filter(|time| !matches!(*time, 0 | u64::MAX)));
        }
        let mut late = 0;
        for (file, found) in files.iter().zip(found) {
            let (expected, of_file) = model(&file.iter().map(|(item, _)| *item).collect::<Vec<_>>());
            late += of_file;
            let expected: Vec<Vec<u8>> = expected.iter().map(|number| file[*number].1.clone()).collect();
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(records.order_stats().late, late);
        if late == 0 {
            prop_assert!(times.is_sorted());
        }

        let (recorded, _) = read(Recording::open(dir.path()).expect("it opens").records(Order::Recorded));
        let stored: Vec<Vec<u8>> = files.iter().flatten().map(|(_, record)| record.clone()).collect();
        prop_assert_eq!(recorded, stored);
        for (order, most) in [(Order::Recorded, 7), (Order::default(), 1), (Order::default(), 7)] {
            let one_by_one = read(Recording::open(dir.path()).expect("it opens").records(order));
            let in_batches = read_in_batches(Recording::open(dir.path()).expect("it opens").records(order), most);
            prop_assert_eq!(in_batches, one_by_one);
        }
    }
}

/// Times that go up with steps back of at most `depth`, from a generator that is as good as needed.
fn jittered(count: u64, depth: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |number| {
        let jitter = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        1 + 10 * depth + 10 * number - 10 * (jitter % depth)
    })
}

#[test]
fn without_rounds_a_window_is_enough_for_what_is_no_older() {
    let window = 1 << 20;
    for (depth, is_sorted) in [(1000, true), (200_000, false)] {
        let items: Vec<Item> = jittered(150_000, depth).map(Item::Sample).collect();
        let builder = builder(&items, ByteOrder::Little);
        let mut records = open(builder.file(), Order::Time { window });
        let (mut times, mut numbers) = (Vec::new(), vec![false; items.len()]);
        while let Some(entry) = records.next() {
            let entry = entry.expect("a sound recording");
            let (time, ip) = match entry.decode().expect("a sample").body {
                perfring::record::Body::Sample(sample) => (sample.time(), sample.ip()),
                other => panic!("{other:?}"),
            };
            times.extend(time);
            assert!(!std::mem::replace(&mut numbers[ip.expect("an address") as usize], true), "twice");
        }
        assert!(numbers.iter().all(|was_read| *was_read));
        let stats = records.order_stats();
        assert!(stats.early > 0);
        assert_eq!(times.is_sorted(), is_sorted, "{depth}");
        assert_eq!(stats.late == 0, is_sorted, "{depth}: {stats:?}");
        // What is not late is sorted.
        let mut newest = 0;
        let behind = times.iter().filter(|time| {
            let is_behind = **time < newest;
            newest = newest.max(**time);
            is_behind
        });
        assert!(behind.count() as u64 <= stats.late);
    }
}

#[test]
fn a_batch_is_beside_the_window() {
    let window = 2 << 20;
    let items: Vec<Item> = jittered(200_000, 100)
        .enumerate()
        .flat_map(|(number, time)| {
            let round = (number % 1000 == 999).then_some(Item::Round);
            std::iter::once(Item::Sample(time)).chain(round)
        })
        .collect();
    let bytes = builder(&items, ByteOrder::Little).file();
    // Far more than the window.
    assert!(bytes.len() > 2 * window);
    let one_by_one = read(open(bytes.clone(), Order::Time { window }));
    assert_eq!(one_by_one.1, OrderStats::default());
    for most in [5000, 150_000, usize::MAX] {
        let in_batches = read_in_batches(open(bytes.clone(), Order::Time { window }), most);
        assert!(in_batches == one_by_one, "{most}: {:?}", in_batches.1);
    }
}

#[test]
fn batches_and_single_records_take_turns() {
    let items: Vec<Item> =
        (0..3000).map(|n| if n % 50 == 49 { Item::Round } else { Item::Sample((1 + n) ^ 5) }).collect();
    let bytes = builder(&items, ByteOrder::Big).file();
    for order in [Order::Recorded, Order::default(), Order::Time { window: 1 << 19 }] {
        let (expected, _) = read(open(bytes.clone(), order));
        for most in [1, 10, 700] {
            let mut records = open(bytes.clone(), order);
            let mut found = Vec::new();
            loop {
                let before = found.len();
                if let Some(batch) = records.next_batch(most) {
                    found.extend(batch.expect("sound").iter().map(|entry| entry.bytes().to_vec()));
                }
                for _ in 0..3 {
                    found.extend(records.next().map(|entry| entry.expect("sound").bytes().to_vec()));
                }
                if found.len() == before {
                    break;
                }
            }
            assert!(found == expected, "{order:?} {most}");
        }
    }
}

#[test]
fn a_batch_of_none_is_not_the_end() {
    let bytes = builder(&[Item::Sample(5), Item::Beside, Item::Sample(6)], ByteOrder::Little).file();
    let mut records = open(bytes, Order::Recorded);
    let mut count = 0;
    while let Some(batch) = records.next_batch(0) {
        assert_eq!(batch.expect("sound").len(), 1);
        count += 1;
    }
    assert_eq!(count, 3);
}
