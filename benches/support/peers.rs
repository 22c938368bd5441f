//! The other queues.
#![allow(unsafe_code)]
#![allow(dead_code, reason = "each bench uses its part")]

use std::sync::Arc;

use bbqueue::nicknames::GogiGui;
use bbqueue::prod_cons::framed::{FramedConsumer, FramedProducer};
use bbqueue::traits::coordination::cas::AtomicCoord;
use bbqueue::traits::notifier::polling::Polling;
use bbqueue::traits::storage::BoxedSlice;
use crossbeam_queue::ArrayQueue;
use ringbuf::traits::{Consumer as _, Producer as _, Split as _};

use crate::queue::{Queue, fill, sum, sum_of};

/// rtrb, an item at a time.
pub struct Rtrb;

impl<const N: usize> Queue<N> for Rtrb {
    const NAME: &'static str = "rtrb item";
    type Tx = rtrb::Producer<[u8; N]>;
    type Rx = rtrb::Consumer<[u8; N]>;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        assert_eq!(producers, 1);
        let (tx, rx) = rtrb::RingBuffer::new(bytes / N);
        (vec![tx], rx)
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        let mut item = [0; N];
        fill(&mut item, seed);
        tx.push(item).is_ok()
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        let mut count = 0;
        while let Ok(item) = rx.pop() {
            *total = total.wrapping_add(sum(&item));
            count += 1;
        }
        count
    }
}

/// rtrb through its chunks: written in place, read and released all at once.
pub struct RtrbChunk;

impl<const N: usize> Queue<N> for RtrbChunk {
    const NAME: &'static str = "rtrb chunk";
    type Tx = rtrb::Producer<[u8; N]>;
    type Rx = rtrb::Consumer<[u8; N]>;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        <Rtrb as Queue<N>>::new(bytes, producers)
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        let Ok(mut chunk) = tx.write_chunk_uninit(1) else { return false };
        fill(chunk.as_mut_slices().0[0].write([0; N]), seed);
        // SAFETY: the chunk is one slot, and it was written above.
        unsafe { chunk.commit_all() };
        true
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        let Ok(chunk) = rx.read_chunk(rx.slots()) else { return 0 };
        let (first, second) = chunk.as_slices();
        for item in first.iter().chain(second) {
            *total = total.wrapping_add(sum(item));
        }
        let count = chunk.len() as u64;
        chunk.commit_all();
        count
    }
}

/// One rtrb for each producer, read in turn, in no order between them.
pub struct RtrbEach;

impl<const N: usize> Queue<N> for RtrbEach {
    const NAME: &'static str = "rtrb item, one per thread";
    type Tx = rtrb::Producer<[u8; N]>;
    type Rx = Vec<rtrb::Consumer<[u8; N]>>;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        (0..producers).map(|_| rtrb::RingBuffer::new(bytes / producers / N)).unzip()
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        <Rtrb as Queue<N>>::push(tx, seed)
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        rx.iter_mut().map(|rx| <Rtrb as Queue<N>>::drain(rx, total)).sum()
    }
}

/// bbqueue with frames.
pub struct BbqueueFramed;

type Bbq = Arc<bbqueue::BBQueue<BoxedSlice, AtomicCoord, Polling>>;

impl<const N: usize> Queue<N> for BbqueueFramed {
    const NAME: &'static str = "bbqueue framed";
    type Tx = FramedProducer<Bbq>;
    type Rx = FramedConsumer<Bbq>;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        assert_eq!(producers, 1);
        let queue = GogiGui::new_with_storage(BoxedSlice::new(bytes));
        (vec![queue.framed_producer()], queue.framed_consumer())
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        let Ok(mut grant) = tx.grant(N as u16) else { return false };
        fill(&mut grant, seed);
        grant.commit(N as u16);
        true
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        let mut count = 0;
        while let Ok(grant) = rx.read() {
            *total = total.wrapping_add(sum_of::<N>(&grant));
            grant.release();
            count += 1;
        }
        count
    }
}

/// ringbuf, an item at a time.
pub struct Ringbuf;

impl<const N: usize> Queue<N> for Ringbuf {
    const NAME: &'static str = "ringbuf item";
    type Tx = ringbuf::HeapProd<[u8; N]>;
    type Rx = ringbuf::HeapCons<[u8; N]>;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        assert_eq!(producers, 1);
        let (tx, rx) = ringbuf::HeapRb::new(bytes / N).split();
        (vec![tx], rx)
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        let mut item = [0; N];
        fill(&mut item, seed);
        tx.try_push(item).is_ok()
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        let mut count = 0;
        while let Some(item) = rx.try_pop() {
            *total = total.wrapping_add(sum(&item));
            count += 1;
        }
        count
    }
}

/// crossbeam's ArrayQueue, which takes any number of producers.
pub struct Array;

impl<const N: usize> Queue<N> for Array {
    const NAME: &'static str = "ArrayQueue";
    type Tx = Arc<ArrayQueue<[u8; N]>>;
    type Rx = Arc<ArrayQueue<[u8; N]>>;

    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx) {
        let queue = Arc::new(ArrayQueue::new(bytes / N));
        (vec![Arc::clone(&queue); producers], queue)
    }

    #[inline(always)]
    fn push(tx: &mut Self::Tx, seed: u64) -> bool {
        let mut item = [0; N];
        fill(&mut item, seed);
        tx.push(item).is_ok()
    }

    #[inline(always)]
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64 {
        let mut count = 0;
        while let Some(item) = rx.pop() {
            *total = total.wrapping_add(sum(&item));
            count += 1;
        }
        count
    }
}
