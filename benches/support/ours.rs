//! The rings of this crate.
#![allow(dead_code, reason = "each bench uses its part")]

use perfring::merge::Merge;
use perfring::ring::{Builder, Consumer, Producer, Record, Ring, SharedProducer, Wake};

use crate::queue::{Queue, fill, sum_of};

/// The type of the records; nothing looks at it.
const TYPE: u32 = 9;
/// A record's own header, which comes on top of the payload.
const HEADER: usize = 8;

fn pages(bytes: usize) -> usize {
    bytes / 4096
}

/// What the other queues do: nobody is woken, and a push that is tried again is no loss to be reported.
fn ring(builder: Builder) -> Ring {
    builder.wake(Wake::Never).lost_record(None).private().expect("a ring")
}

/// One producer on a confined ring.
pub struct InPage;

impl<const N: usize> Queue<N> for InPage {
    const NAME: &'static str = "perfring in page";
    type Tx = Producer;
    type Rx = Consumer;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        assert_eq!(producers, 1);
        let ring = self::ring(Ring::confined(pages(bytes)));
        (vec![ring.producer().expect("a producer")], ring.consumer().expect("a consumer"))
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        let Ok(mut record) = tx.begin_forward_in_page(N + HEADER) else { return false };
        let mut bytes = [0; N];
        fill(&mut bytes, seed);
        record.put(&bytes);
        record.commit(TYPE, 0);
        true
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        let mut count = 0;
        rx.for_each(|record| {
            *total = total.wrapping_add(sum_of::<N>(record.body()));
            count += 1;
        })
        .expect("sound records");
        count
    }
}

/// One producer on a free ring, whose records may wrap.
pub struct Forward;

impl<const N: usize> Queue<N> for Forward {
    const NAME: &'static str = "perfring forward";
    type Tx = Producer;
    type Rx = Consumer;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        assert_eq!(producers, 1);
        let ring = self::ring(Ring::free(pages(bytes)));
        (vec![ring.producer().expect("a producer")], ring.consumer().expect("a consumer"))
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        let Ok(mut record) = tx.begin_forward(N + HEADER) else { return false };
        let mut bytes = [0; N];
        fill(&mut bytes, seed);
        record.put(&bytes);
        record.commit(TYPE, 0);
        true
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        <InPage as Queue<N>>::drain(rx, total)
    }
}

/// One confined ring that all producers write to.
pub struct Shared;

impl<const N: usize> Queue<N> for Shared {
    const NAME: &'static str = "perfring shared";
    type Tx = SharedProducer;
    type Rx = Consumer;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        let ring = self::ring(Ring::confined(pages(bytes)));
        let producer = ring.shared_producer().expect("a producer");
        (vec![producer; producers], ring.consumer().expect("a consumer"))
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        let Ok(mut record) = tx.begin_forward_in_page(N + HEADER) else { return false };
        let mut bytes = [0; N];
        fill(&mut bytes, seed);
        record.put(&bytes);
        record.commit(TYPE, 0);
        true
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        <InPage as Queue<N>>::drain(rx, total)
    }
}

/// A ring for each producer, read in turn, in no order between them.
pub struct Each;

impl<const N: usize> Queue<N> for Each {
    const NAME: &'static str = "perfring, one per thread";
    type Tx = Producer;
    type Rx = Vec<Consumer>;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        let (txs, rxs): (Vec<Vec<_>>, _) =
            (0..producers).map(|_| <InPage as Queue<N>>::new(bytes / producers, 1)).unzip();
        (txs.into_iter().flatten().collect(), rxs)
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        <InPage as Queue<N>>::push(tx, seed)
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        rx.iter_mut().map(|rx| <InPage as Queue<N>>::drain(rx, total)).sum()
    }
}

/// A ring for each producer, read through the merge: in the order of word 0, which grows in each producer.
pub struct Merged;

fn seed_of(_ring: usize, record: &Record<'_>) -> Option<u64> {
    record.body().first_chunk().map(|word| u64::from_ne_bytes(*word))
}

impl<const N: usize> Queue<N> for Merged {
    const NAME: &'static str = "perfring, one per thread, merged";
    type Tx = Producer;
    type Rx = Merge<Consumer, fn(usize, &Record<'_>) -> Option<u64>>;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        let (txs, rxs) = <Each as Queue<N>>::new(bytes, producers);
        (txs, Merge::new(rxs, seed_of))
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        <InPage as Queue<N>>::push(tx, seed)
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        let mut count = 0;
        rx.for_each(None, |merged| {
            *total = total.wrapping_add(sum_of::<N>(merged.expect("a sound record").record.body()));
            count += 1;
        });
        count
    }
}
