//! The models. Each is small enough to be searched in seconds, and says how many executions it has at the least: a model
//! that is pruned to a handful proves nothing.
//!
//! Two waits that are not loops: a side that polls does so a fixed number of times while the other runs, and the rest is
//! read after it has ended.

use loom::thread;
use perfring::ring::{
    AuxConsumer, AuxProducer, AuxRing, BeginError, Builder, Consumer, Mode, OverwriteProducer, OverwriteReservation,
    Padding, Producer, ReadErrorKind, Ring, SharedProducer, SplitReservation, TimeFields, TimePage, TimePageError,
    Wait, Wake,
};

/// A model, by the name that the order table uses.
pub struct Model {
    pub name: &'static str,
    /// How many times a thread may be preempted in an execution.
    pub preemptions: usize,
    /// The least number of executions that the search must come to: about four fifths of what it comes to today.
    pub at_least: usize,
    pub run: fn(),
}

pub const MODELS: &[Model] = &[
    Model { name: "publish", preemptions: 5, at_least: 83, run: publish },
    Model { name: "publish_in_page", preemptions: 5, at_least: 83, run: publish_in_page },
    Model { name: "reclaim", preemptions: 5, at_least: 210, run: reclaim },
    Model { name: "wrap", preemptions: 5, at_least: 71, run: wrap },
    Model { name: "position_wrap", preemptions: 5, at_least: 210, run: position_wrap },
    Model { name: "nested", preemptions: 5, at_least: 12, run: nested },
    Model { name: "nested_prefix", preemptions: 5, at_least: 180, run: nested_prefix },
    Model { name: "discard", preemptions: 5, at_least: 83, run: discard },
    Model { name: "lost", preemptions: 5, at_least: 280, run: lost },
    Model { name: "close", preemptions: 5, at_least: 15, run: close },
    Model { name: "wake", preemptions: 5, at_least: 6000, run: wake },
    Model { name: "wake_watermark", preemptions: 3, at_least: 2600, run: wake_watermark },
    Model { name: "shared", preemptions: 3, at_least: 1900, run: shared },
    Model { name: "shared_raised", preemptions: 3, at_least: 2500, run: shared_raised },
    Model { name: "shared_stale", preemptions: 3, at_least: 1900, run: shared_stale },
    Model { name: "shared_stale_raised", preemptions: 3, at_least: 2500, run: shared_stale_raised },
    Model { name: "shared_two_each", preemptions: 5, at_least: 18000, run: shared_two_each },
    Model { name: "shared_two_each_raised", preemptions: 5, at_least: 48000, run: shared_two_each_raised },
    Model { name: "shared_visible", preemptions: 3, at_least: 10000, run: shared_visible },
    Model { name: "shared_visible_raised", preemptions: 3, at_least: 16000, run: shared_visible_raised },
    Model { name: "shared_held", preemptions: 4, at_least: 28000, run: shared_held },
    Model { name: "shared_in_page", preemptions: 3, at_least: 2500, run: shared_in_page },
    Model { name: "shared_in_page_header", preemptions: 3, at_least: 2500, run: shared_in_page_header },
    Model { name: "shared_reclaim", preemptions: 3, at_least: 13000, run: shared_reclaim },
    Model { name: "shared_stale_tail", preemptions: 3, at_least: 6000, run: shared_stale_tail },
    Model { name: "shared_lost", preemptions: 3, at_least: 71000, run: shared_lost },
    Model { name: "shared_wake", preemptions: 3, at_least: 58000, run: shared_wake },
    Model { name: "shared_close", preemptions: 2, at_least: 10000, run: shared_close },
    Model { name: "overwrite", preemptions: 3, at_least: 6200, run: overwrite },
    Model { name: "overwrite_backward", preemptions: 3, at_least: 1300, run: overwrite_backward },
    Model { name: "overwrite_nested", preemptions: 3, at_least: 3700, run: overwrite_nested },
    Model { name: "overwrite_nested_backward", preemptions: 3, at_least: 1000, run: overwrite_nested_backward },
    Model { name: "overwrite_prefix", preemptions: 3, at_least: 2000, run: overwrite_prefix },
    Model { name: "overwrite_prefix_backward", preemptions: 3, at_least: 610, run: overwrite_prefix_backward },
    Model { name: "time_page", preemptions: 3, at_least: 32000, run: time_page },
    Model { name: "time_page_twice", preemptions: 3, at_least: 1900, run: time_page_twice },
    Model { name: "aux_publish", preemptions: 5, at_least: 390, run: aux_publish },
    Model { name: "aux_reclaim", preemptions: 5, at_least: 940, run: aux_reclaim },
    Model { name: "aux_wrap", preemptions: 5, at_least: 940, run: aux_wrap },
    Model { name: "aux_span", preemptions: 5, at_least: 1100, run: aux_span },
    Model { name: "aux_snapshot", preemptions: 5, at_least: 4900, run: aux_snapshot },
];

/// The type of the records that models write.
const RECORD: u32 = 9;
/// Bytes in such a record: header, sequence number.
const SIZE: usize = 16;

fn free() -> Builder {
    Ring::free(1).wake(Wake::Never).lost_record(None)
}

fn confined() -> Builder {
    Ring::confined(4).wake(Wake::Never).lost_record(None)
}

fn write(producer: &Producer, sequence: u64) -> Result<(), BeginError> {
    let mut record = producer.begin_forward(SIZE)?;
    record.put(&sequence.to_ne_bytes());
    record.commit(RECORD, 0);
    Ok(())
}

fn write_shared(producer: &SharedProducer, sequence: u64) -> Result<(), BeginError> {
    let mut record = producer.begin_forward(SIZE)?;
    record.put(&sequence.to_ne_bytes());
    record.commit(RECORD, 0);
    Ok(())
}

/// Reads what there is into `seen`.
fn read(consumer: &mut Consumer, seen: &mut Vec<u64>) {
    let result = consumer.for_each(|record| {
        assert_eq!(record.header().type_, RECORD);
        seen.push(u64::from_ne_bytes(record.body()[..8].try_into().expect("a sequence number")));
    });
    assert_eq!(result.map(|_| ()), Ok(()));
}

/// Runs `producing` beside a consumer that looks `looks` times; gives the consumer back, with what it has seen.
fn beside(mut consumer: Consumer, looks: usize, producing: impl FnOnce()) -> (Consumer, Vec<u64>) {
    let reader = thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..looks {
            read(&mut consumer, &mut seen);
        }
        (consumer, seen)
    });
    producing();
    reader.join().expect("the reader ends")
}

fn publish_on(ring: &Ring, write: fn(&Producer, u64) -> Result<(), BeginError>) {
    let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let (mut consumer, mut seen) = beside(consumer, 3, || {
        write(&producer, 1).unwrap();
        write(&producer, 2).unwrap();
    });
    assert!([1, 2].starts_with(&seen), "{seen:?}");
    read(&mut consumer, &mut seen);
    assert_eq!(seen, [1, 2]);
}

fn publish() {
    publish_on(&Ring::model(64, 64, free(), true), write);
}

fn publish_in_page() {
    // Records of 24 in granules of 32: each leaves a gap of 8 that the consumer must find zero.
    let ring = Ring::model(128, 32, confined().start_position(32), true);
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let write = |size: usize, sequence: u64| {
        let mut record = producer.begin_forward_in_page(size).unwrap();
        record.put(&sequence.to_ne_bytes());
        record.commit(RECORD, 0);
    };
    // A lap before, which has no gaps: where they will be, there is something else.
    for sequence in 11..=18 {
        write(SIZE, sequence);
        assert_eq!(consumer.for_each(|_| ()), Ok(1));
    }
    let (mut consumer, mut seen) = beside(consumer, 3, || {
        write(24, 1);
        write(24, 2);
    });
    assert!([1, 2].starts_with(&seen), "{seen:?}");
    read(&mut consumer, &mut seen);
    assert_eq!(seen, [1, 2]);
    assert_eq!(consumer.stats().padding, 8);
}

/// The records that a ring of 32 bytes holds at once: a second one would take the word that stays free.
const HELD: usize = 1;

/// Writes `count` records into a ring of 32 bytes, beside a consumer; every record is read or refused.
fn reclaim_on(ring: &Ring, first: usize, count: u64) {
    let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut written = Vec::new();
    for sequence in 0..first as u64 {
        write(&producer, sequence).unwrap();
        written.push(sequence);
    }
    let (mut consumer, mut seen) = beside(consumer, 3, || {
        for sequence in first as u64..count {
            if write(&producer, sequence).is_ok() {
                written.push(sequence);
            }
        }
    });
    // What was read was given back: the rest is what is in the ring.
    assert!(written.len() <= seen.len() + HELD, "{written:?} written, {seen:?} read");
    read(&mut consumer, &mut seen);
    assert_eq!(seen, written);
    assert_eq!(producer.lost_total(), count - written.len() as u64);
}

fn reclaim() {
    // Room for one record, which is there already: the others need its words.
    reclaim_on(&Ring::model(32, 32, free(), true), 1, 4);
}

fn wrap() {
    // From the last word of the ring on: the header is there, and the body wraps.
    let ring = Ring::model(32, 8, free().start_position(24), true);
    reclaim_on(&ring, 1, 3);
}

fn position_wrap() {
    let ring = Ring::model(32, 8, free().start_position(0u64.wrapping_sub(16)), true);
    reclaim_on(&ring, 1, 4);
}

fn nested() {
    let ring = Ring::model(64, 64, free(), true);
    let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let (mut consumer, mut seen) = beside(consumer, 3, || {
        let mut outer = producer.begin_forward(SIZE).unwrap();
        write(&producer, 2).unwrap();
        outer.put(&1u64.to_ne_bytes());
        outer.commit(RECORD, 0);
    });
    assert!(seen.is_empty() || seen == [1, 2], "both or none: {seen:?}");
    read(&mut consumer, &mut seen);
    assert_eq!(seen, [1, 2]);
}

/// What is closed before the oldest open reservation is published at once, and nothing behind that is.
fn nested_prefix() {
    let ring = Ring::model(64, 64, free(), true);
    let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut first = producer.begin_forward(SIZE).unwrap();
    let open = producer.begin_forward(SIZE).unwrap();
    let (mut consumer, mut seen) = beside(consumer, 3, || {
        write(&producer, 3).unwrap();
        first.put(&1u64.to_ne_bytes());
        first.commit(RECORD, 0);
    });
    assert!([1].starts_with(&seen), "{seen:?}");
    read(&mut consumer, &mut seen);
    assert_eq!(seen, [1], "closed, with nothing open before it");
    let (mut consumer, rest) = beside(consumer, 3, || open.discard());
    seen.extend(rest);
    assert!([1, 3].starts_with(&seen), "{seen:?}");
    read(&mut consumer, &mut seen);
    assert_eq!(seen, [1, 3]);
}

fn discard() {
    let ring = Ring::model(64, 64, free(), true);
    let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let (mut consumer, mut seen) = beside(consumer, 3, || {
        let outer = producer.begin_forward(SIZE).unwrap();
        write(&producer, 1).unwrap();
        outer.discard();
        producer.begin_forward(SIZE).unwrap().discard();
        write(&producer, 2).unwrap();
    });
    assert!([1, 2].starts_with(&seen), "{seen:?}");
    read(&mut consumer, &mut seen);
    assert_eq!(seen, [1, 2]);
}

/// Reads plain records and the counts of lost records.
fn read_with_lost(consumer: &mut Consumer, read: &mut u64, lost: &mut u64) {
    let result = consumer.for_each(|record| match record.header().type_ {
        RECORD => *read += 1,
        2 => *lost += u64::from_ne_bytes(record.body()[8..16].try_into().expect("a count")),
        other => panic!("a record of type {other}"),
    });
    assert_eq!(result.map(|_| ()), Ok(()));
}

fn lost() {
    let ring = Ring::model(64, 64, Ring::free(1).wake(Wake::Never), true);
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    for _ in 0..3 {
        write(&producer, 0).unwrap();
    }
    let reader = thread::spawn(move || {
        let (mut read, mut lost) = (0, 0);
        read_with_lost(&mut consumer, &mut read, &mut lost);
        (consumer, read, lost)
    });
    for _ in 0..3 {
        let _ = write(&producer, 0);
    }
    let (mut consumer, mut read, mut lost) = reader.join().expect("the reader ends");
    read_with_lost(&mut consumer, &mut read, &mut lost);
    assert_eq!(6, read + lost + producer.lost_pending());
    assert_eq!(producer.lost_total(), lost + producer.lost_pending());
    assert_eq!(consumer.lost_total(), Some(producer.lost_total()));
}

fn close() {
    let ring = Ring::model(64, 64, free(), true);
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let writer = thread::spawn(move || write(&producer, 1).unwrap());
    let mut seen = Vec::new();
    let closed = consumer.is_closed();
    read(&mut consumer, &mut seen);
    if closed {
        assert_eq!(seen, [1], "closed, so everything was there");
    }
    writer.join().expect("the writer ends");
    read(&mut consumer, &mut seen);
    assert!(consumer.is_closed());
    assert_eq!(seen, [1]);
}

/// Sleeps and reads until the ring is closed. loom fails the model when a wake-up is lost: nobody can run then.
fn read_until_closed(consumer: &mut Consumer) -> Vec<u64> {
    let mut seen = Vec::new();
    while consumer.wait() == Wait::Ready {
        read(consumer, &mut seen);
    }
    seen
}

/// Sleeps for each of `count` records, without the help of a ring that closes, which wakes whether or not somebody asks.
fn sleep_for(mut consumer: Consumer, count: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut seen = Vec::new();
        while seen.len() < count {
            assert_eq!(consumer.wait(), Wait::Ready);
            read(&mut consumer, &mut seen);
        }
    })
}

fn wake() {
    // Two records: the first wake-up disarms the bell, so that the second needs the arming to be seen.
    let ring = Ring::model(64, 64, free().wake(Wake::Events(1)), true);
    let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let reader = sleep_for(consumer, 2);
    write(&producer, 1).unwrap();
    write(&producer, 2).unwrap();
    reader.join().expect("the reader is woken");
}

fn wake_watermark() {
    let ring = Ring::model(64, 64, free().wake(Wake::Bytes(32)), true);
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let writer = thread::spawn(move || {
        write(&producer, 1).unwrap();
        write(&producer, 2).unwrap();
        write(&producer, 3).unwrap();
    });
    assert_eq!(read_until_closed(&mut consumer), [1, 2, 3]);
    writer.join().expect("the writer ends");
}

/// Two threads write one record each beside a consumer that looks once.
fn shared_on(producer: &SharedProducer, consumer: Consumer) {
    let other = producer.clone();
    let (mut consumer, mut seen) = beside(consumer, 1, || {
        let writer = thread::spawn(move || write_shared(&other, 1).unwrap());
        write_shared(producer, 2).unwrap();
        writer.join().expect("the writer ends");
    });
    read(&mut consumer, &mut seen);
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
}

fn shared() {
    let ring = Ring::model(64, 64, free(), true);
    shared_on(&ring.shared_producer().unwrap(), ring.consumer().unwrap());
}

fn shared_raised() {
    let ring = Ring::model(64, 64, free(), false);
    shared_on(&ring.shared_producer().unwrap(), ring.consumer().unwrap());
}

/// The slots hold closed claims of the lap before: who took one of them for a claim of this lap would publish what is open.
fn shared_stale_on(own_header: bool) {
    let ring = Ring::model(64, 64, free(), own_header);
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let lap = [(); 3].map(|()| producer.begin_forward(SIZE).unwrap());
    lap.into_iter().rev().for_each(|record| record.commit(RECORD, 0));
    assert_eq!(consumer.for_each(|_| ()), Ok(3));
    write_shared(&producer, 0).unwrap();
    assert_eq!(consumer.for_each(|_| ()), Ok(1));
    shared_on(&producer, consumer);
}

fn shared_stale() {
    shared_stale_on(true);
}

fn shared_stale_raised() {
    shared_stale_on(false);
}

fn shared_two_each_on(own_header: bool) {
    let ring = Ring::model(128, 128, free().start_position(0u64.wrapping_sub(128)), own_header);
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let other = producer.clone();
    let writer = thread::spawn(move || {
        write_shared(&other, 1).unwrap();
        write_shared(&other, 2).unwrap();
    });
    write_shared(&producer, 3).unwrap();
    write_shared(&producer, 4).unwrap();
    writer.join().expect("the writer ends");
    let mut seen = Vec::new();
    read(&mut consumer, &mut seen);
    assert_eq!(seen.len(), 4);
    let of = |from: u64| seen.iter().copied().filter(|&s| (s > 2) == (from > 2)).collect::<Vec<_>>();
    assert_eq!((of(1), of(3)), (vec![1, 2], vec![3, 4]), "a thread's records stay in order");
}

fn shared_two_each() {
    shared_two_each_on(true);
}

fn shared_two_each_raised() {
    shared_two_each_on(false);
}

/// A record whose commit has returned is visible when nothing before it is open, whoever was in the middle of what.
fn shared_visible_on(own_header: bool) {
    let ring = Ring::model(64, 64, free(), own_header);
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let others: Vec<_> = [1, 2]
        .map(|sequence| {
            let other = producer.clone();
            thread::spawn(move || write_shared(&other, sequence).unwrap())
        })
        .into();
    write_shared(&producer, 3).unwrap();
    let mut seen = Vec::new();
    read(&mut consumer, &mut seen);
    // 3 is closed: it is visible unless it stands behind a record that is open still.
    let sees_own = seen.contains(&3);
    others.into_iter().for_each(|other| other.join().expect("the writer ends"));
    read(&mut consumer, &mut seen);
    assert_eq!(seen.len(), 3);
    assert!(sees_own || seen[0] != 3, "closed, nothing before it, and not visible: {seen:?}");
}

fn shared_visible() {
    shared_visible_on(true);
}

fn shared_visible_raised() {
    shared_visible_on(false);
}

/// A reservation that a thread of the model can take along.
fn lengthen(record: SplitReservation<'_, SharedProducer>) -> SplitReservation<'static, SharedProducer> {
    // SAFETY: only the lifetime differs; the callers join every thread that has one before their producer goes.
    unsafe { std::mem::transmute(record) }
}

/// Who cannot go on because of an open claim raises the head over what others closed before it, and must have taken that
/// over first.
fn shared_held() {
    let ring = Ring::model(64, 64, free(), false);
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let begin = |sequence: u64| {
        let mut record = lengthen(producer.begin_forward(SIZE).unwrap());
        record.put(&sequence.to_ne_bytes());
        record
    };
    let (first, held, last) = (begin(1), begin(2), begin(3));
    let others = [first, last].map(|record| thread::spawn(move || record.commit(RECORD, 0)));
    let mut seen = Vec::new();
    read(&mut consumer, &mut seen);
    assert!([1].starts_with(&seen), "{seen:?}");
    held.commit(RECORD, 0);
    others.into_iter().for_each(|other| other.join().expect("the writer ends"));
    read(&mut consumer, &mut seen);
    assert_eq!(seen, [1, 2, 3]);
}

fn shared_in_page_on(padding: Padding) {
    // Granules of 24 would be no power of two: records of 24 in granules of 32 leave gaps of 8.
    let ring = Ring::model(128, 32, confined().padding(padding), true);
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let other = producer.clone();
    let write = |producer: &SharedProducer, size: usize, sequence: u64| {
        let mut record = producer.begin_forward_in_page(size).unwrap();
        record.put(&sequence.to_ne_bytes());
        record.commit(RECORD, 0);
    };
    // A lap before, which has no gaps: where they will be, there is something else.
    for sequence in 11..=18 {
        write(&producer, SIZE, sequence);
        assert_eq!(consumer.for_each(|_| ()), Ok(1));
    }
    let (mut consumer, mut seen) = beside(consumer, 1, || {
        let writer = thread::spawn(move || write(&other, 24, 1));
        write(&producer, 24, 2);
        writer.join().expect("the writer ends");
    });
    read(&mut consumer, &mut seen);
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
    assert_eq!(consumer.stats().padding, 8);
}

fn shared_in_page() {
    shared_in_page_on(Padding::Zero);
}

fn shared_in_page_header() {
    shared_in_page_on(Padding::Header);
}

fn shared_reclaim() {
    // Room for one record, which is there: each of two threads can write only over what the consumer has given back.
    let ring = Ring::model(32, 32, free(), true);
    let (producer, consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    write_shared(&producer, 0).unwrap();
    let other = producer.clone();
    let mut written = 1;
    let (mut consumer, mut seen) = beside(consumer, 1, || {
        let writer = thread::spawn(move || u64::from(write_shared(&other, 1).is_ok()));
        written += u64::from(write_shared(&producer, 2).is_ok());
        written += writer.join().expect("the writer ends");
    });
    assert!(written <= (seen.len() + HELD) as u64, "{written} written, {seen:?} read");
    read(&mut consumer, &mut seen);
    assert_eq!(seen.len() as u64, written);
    assert_eq!(producer.lost_total(), 3 - written);
}

/// A thread that is stopped with a tail in its hands, while the others go on for more than a lap, takes it neither for a
/// corrupt one nor for the reason of a refusal.
fn shared_stale_tail() {
    let ring = Ring::model(32, 32, free(), true);
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let other = producer.clone();
    let writer = thread::spawn(move || match write_shared(&other, 0) {
        Ok(()) => 1,
        Err(BeginError::Full { .. }) => 0,
        Err(error) => panic!("{error}"),
    });
    let (mut written, mut seen) = (0, Vec::new());
    for sequence in 1..=3 {
        written += usize::from(write_shared(&producer, sequence).is_ok());
        read(&mut consumer, &mut seen);
    }
    written += writer.join().expect("the writer ends");
    read(&mut consumer, &mut seen);
    assert_eq!(seen.len(), written);
}

fn shared_lost() {
    let ring = Ring::model(64, 64, Ring::free(1).wake(Wake::Never), true);
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    for _ in 0..3 {
        write_shared(&producer, 0).unwrap();
    }
    let other = producer.clone();
    let writer = thread::spawn(move || {
        let _ = write_shared(&other, 0);
        let _ = write_shared(&other, 0);
    });
    let (mut read, mut lost) = (0, 0);
    read_with_lost(&mut consumer, &mut read, &mut lost);
    let _ = write_shared(&producer, 0);
    writer.join().expect("the writer ends");
    read_with_lost(&mut consumer, &mut read, &mut lost);
    assert_eq!(6, read + lost + producer.lost_pending());
    assert_eq!(producer.lost_total(), lost + producer.lost_pending());
}

fn shared_wake() {
    let ring = Ring::model(64, 64, free().wake(Wake::Events(1)), false);
    let (producer, consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let other = producer.clone();
    let writer = thread::spawn(move || write_shared(&other, 1).unwrap());
    let reader = sleep_for(consumer, 2);
    write_shared(&producer, 2).unwrap();
    writer.join().expect("the writer ends");
    reader.join().expect("the reader is woken");
}

fn shared_close() {
    let ring = Ring::model(64, 64, free().wake(Wake::Events(1)), true);
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let other = producer.clone();
    let first = thread::spawn(move || write_shared(&other, 1).unwrap());
    let second = thread::spawn(move || write_shared(&producer, 2).unwrap());
    let mut seen = read_until_closed(&mut consumer);
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
    first.join().expect("the writer ends");
    second.join().expect("the writer ends");
}

/// Reads a ring that overwrites: what comes is whole and in order, what does not is reported.
fn read_overwritten(consumer: &mut Consumer, seen: &mut Vec<u64>) {
    let mut drain = consumer.drain();
    while let Some(record) = drain.next() {
        match record {
            Ok(record) => {
                assert_eq!((record.header().type_, record.header().size), (RECORD, SIZE as u16));
                seen.push(u64::from_ne_bytes(record.body()[..8].try_into().expect("a sequence number")));
            }
            Err(error) => assert_eq!(error.kind, ReadErrorKind::Overwritten),
        }
    }
}

/// How a record of a ring that overwrites is begun: forward or backward.
type Begin = for<'a> fn(&'a OverwriteProducer, usize) -> Result<OverwriteReservation<'a>, BeginError>;

/// Whether records come in the order of the ring's direction.
type Ordered = fn(&[u64]) -> bool;

const FORWARD: (Begin, Ordered) = (OverwriteProducer::begin_forward_in_page, |seen| seen.is_sorted());
const BACKWARD: (Begin, Ordered) = (OverwriteProducer::begin_backward, |seen| seen.iter().rev().is_sorted());

fn forward() -> Ring {
    Ring::model(64, 16, confined().mode(Mode::OverwriteForward), true)
}

fn backward() -> Ring {
    Ring::model(64, 64, free().mode(Mode::OverwriteBackward), true)
}

fn write_overwriting(producer: &OverwriteProducer, begin: Begin, sequence: u64) {
    let mut record = begin(producer, SIZE).unwrap();
    record.put(&sequence.to_ne_bytes());
    record.commit(RECORD, 0);
}

/// A lap and two more records, which `write` writes beside a reader that looks once.
fn overwrite_on(ring: &Ring, (begin, ordered): (Begin, Ordered), write: fn(&OverwriteProducer, Begin)) {
    let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
    (1..=4).for_each(|sequence| write_overwriting(&producer, begin, sequence));
    let writer = thread::spawn(move || write(&producer, begin));
    let mut seen = Vec::new();
    read_overwritten(&mut consumer, &mut seen);
    assert!(ordered(&seen), "{seen:?}");
    assert!(seen.iter().all(|sequence| (1..=6).contains(sequence)), "{seen:?}");
    writer.join().expect("the writer ends");
    let mut rest = Vec::new();
    read_overwritten(&mut consumer, &mut rest);
    assert!(ordered(&rest), "{rest:?}");
    assert!(seen.contains(&6) || rest.contains(&6), "the newest record is there");
    assert!(seen.iter().all(|sequence| !rest.contains(sequence)), "none comes twice");
}

/// Writes 5 and 6, one after the other.
fn one_by_one(producer: &OverwriteProducer, begin: Begin) {
    [5, 6].into_iter().for_each(|sequence| write_overwriting(producer, begin, sequence));
}

/// Writes 5 and 6, and closes 6 first: a reader that came upon 5 while it is open would find neither its type nor its body.
fn inner_first(producer: &OverwriteProducer, begin: Begin) {
    let (mut outer, mut inner) = (begin(producer, SIZE).unwrap(), begin(producer, SIZE).unwrap());
    inner.put(&6u64.to_ne_bytes());
    inner.commit(RECORD, 0);
    outer.put(&5u64.to_ne_bytes());
    outer.commit(RECORD, 0);
}

/// What is closed before the oldest open reservation is published at once, and nothing behind that is.
fn overwrite_prefix_on(ring: &Ring, (begin, ordered): (Begin, Ordered)) {
    let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
    (1..=4).for_each(|sequence| write_overwriting(&producer, begin, sequence));
    let reader = thread::spawn(move || {
        let mut seen = Vec::new();
        read_overwritten(&mut consumer, &mut seen);
        (consumer, seen)
    });
    let (mut outer, mut inner) = (begin(&producer, SIZE).unwrap(), begin(&producer, SIZE).unwrap());
    outer.put(&5u64.to_ne_bytes());
    outer.commit(RECORD, 0);
    let (mut consumer, mut seen) = reader.join().expect("the reader ends");
    assert!(ordered(&seen), "{seen:?}");
    read_overwritten(&mut consumer, &mut seen);
    assert!(seen.contains(&5), "closed, nothing open before it, and not visible: {seen:?}");
    assert!(seen.iter().all(|sequence| (1..=5).contains(sequence)), "{seen:?}");
    inner.put(&6u64.to_ne_bytes());
    inner.commit(RECORD, 0);
    let mut rest = Vec::new();
    read_overwritten(&mut consumer, &mut rest);
    assert_eq!(rest, [6]);
}

fn overwrite() {
    overwrite_on(&forward(), FORWARD, one_by_one);
}

fn overwrite_backward() {
    overwrite_on(&backward(), BACKWARD, one_by_one);
}

fn overwrite_nested() {
    overwrite_on(&forward(), FORWARD, inner_first);
}

fn overwrite_nested_backward() {
    overwrite_on(&backward(), BACKWARD, inner_first);
}

fn overwrite_prefix() {
    overwrite_prefix_on(&forward(), FORWARD);
}

fn overwrite_prefix_backward() {
    overwrite_prefix_on(&backward(), BACKWARD);
}

/// A generation of the time page: all fields that the model has say the same.
fn generation(number: u32) -> TimeFields {
    TimeFields { index: number, offset: number.into(), time_enabled: number.into(), ..TimeFields::default() }
}

/// What is read while `writes` generations are written is one of them; afterwards it is the last.
fn time_page_of(writes: u32, reads: usize) {
    let (mut writer, page) = TimePage::model();
    let reader = thread::spawn(move || {
        let mut newest = 0;
        for _ in 0..reads {
            match page.read() {
                Ok(snapshot) => {
                    let number = snapshot.fields.index;
                    assert_eq!(snapshot.fields, generation(number), "torn");
                    assert!((newest..=writes).contains(&number), "{number} after {newest}");
                    newest = number;
                }
                Err(TimePageError::Locked { lock, .. }) => assert_eq!(lock % 2, 1),
                Err(TimePageError::Changing { before, after, .. }) => assert!(before < after),
                Err(error) => panic!("{error}"),
            }
        }
        page
    });
    for number in 1..=writes {
        writer.write(&generation(number));
    }
    let page = reader.join().expect("the reader ends");
    assert_eq!(page.read().map(|snapshot| snapshot.fields), Ok(generation(writes)));
}

fn time_page() {
    time_page_of(2, 1);
}

fn time_page_twice() {
    time_page_of(1, 2);
}

/// Words as bytes: under loom an AUX area is read and written by whole words.
fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn words_of((first, rest): (&[u8], &[u8])) -> Vec<u64> {
    let bytes = [first, rest].concat();
    bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().expect("whole words"))).collect()
}

/// Reads what there is into `seen`, and gives it back.
fn read_aux(consumer: &mut AuxConsumer, seen: &mut Vec<u64>) {
    seen.extend(words_of(consumer.read().expect("a sound head").slices()));
}

/// Runs `producing` beside a consumer that looks `looks` times; then what both have seen must agree with `expected`.
fn aux_beside(
    (mut producer, mut consumer): (AuxProducer, AuxConsumer),
    looks: usize,
    producing: impl FnOnce(&mut AuxProducer) -> Vec<u64>,
) {
    let reader = thread::spawn(move || {
        let mut seen = Vec::new();
        (0..looks).for_each(|_| read_aux(&mut consumer, &mut seen));
        (consumer, seen)
    });
    let written = producing(&mut producer);
    let (mut consumer, mut seen) = reader.join().expect("the reader ends");
    assert!(written.starts_with(&seen), "{seen:?} of {written:?}");
    read_aux(&mut consumer, &mut seen);
    assert_eq!(seen, written);
}

fn aux_publish() {
    aux_beside(AuxRing::new(8).lossless().unwrap(), 3, |producer| {
        for words in [[1, 2], [3, 4]] {
            assert!(!producer.write(&bytes_of(&words)).unwrap().truncated);
        }
        vec![1, 2, 3, 4]
    });
}

/// An area of two words, of which one is written at a time: each needs the space of the last but one.
fn aux_reclaim_from(start: u64) {
    aux_beside(AuxRing::new(2).start_position(start).lossless().unwrap(), 3, |producer| {
        let mut written = Vec::new();
        for word in 1..=4 {
            // Part of a word would not be one, so only where there is space for all of it.
            if producer.free().unwrap() >= 8 {
                assert_eq!(producer.write(&bytes_of(&[word])).unwrap().aux_size, 8);
                written.push(word);
            }
        }
        written
    });
}

fn aux_reclaim() {
    aux_reclaim_from(0);
}

/// The same where positions wrap at 2^64, in the middle.
fn aux_wrap() {
    aux_reclaim_from(0u64.wrapping_sub(16));
}

/// Spans that were named, as by PERF_RECORD_AUX, are there until they are given back.
fn aux_span() {
    let (mut producer, mut consumer) = AuxRing::new(4).start_position(0u64.wrapping_sub(8)).lossless().unwrap();
    let first = producer.write(&bytes_of(&[1, 2])).unwrap();
    let reader = thread::spawn(move || {
        let (offset, size) = (first.aux_offset, first.aux_size);
        assert_eq!(words_of(consumer.span(offset, size).unwrap()), [1, 2]);
        consumer.release_to(offset.wrapping_add(size)).unwrap();
        assert!(consumer.span(offset, size).is_err());
        consumer
    });
    let mut written = Vec::new();
    for word in 3..=5 {
        if producer.free().unwrap() >= 8 {
            producer.write(&bytes_of(&[word])).unwrap();
            written.push(word);
        }
    }
    let mut consumer = reader.join().expect("the reader ends");
    let mut seen = Vec::new();
    read_aux(&mut consumer, &mut seen);
    assert_eq!(seen, written);
}

/// Below the head a snapshot is whole, as long as nothing is overwritten.
fn aux_snapshot() {
    let (mut producer, snapshot) = AuxRing::new(4).overwriting().unwrap();
    let reader = thread::spawn(move || {
        for _ in 0..2 {
            let mut bytes = Vec::new();
            if let Ok(info) = snapshot.take(&mut bytes) {
                let words = words_of((&bytes, &[]));
                if !info.wrapped {
                    assert_eq!(words, [1, 2][..(info.head / 8) as usize]);
                }
            }
        }
        snapshot
    });
    producer.write(&bytes_of(&[1])).unwrap();
    producer.write(&bytes_of(&[2])).unwrap();
    let snapshot = reader.join().expect("the reader ends");
    let mut bytes = Vec::new();
    let info = snapshot.take(&mut bytes).unwrap();
    assert_eq!((words_of((&bytes, &[])), info.wrapped), (vec![1, 2], false));
}
