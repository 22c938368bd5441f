//! What a contender of the queue benches is, and the runs that measure it.
#![allow(dead_code, reason = "each bench uses its part")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu;

/// The memory each contender gets for records, all producers together.
pub const QUEUE_BYTES: usize = 1 << 18;

/// A queue of records with a payload of `N` bytes.
///
/// Every contender does the same work: `push` writes each byte of the payload with [`fill`], as close to its
/// final place as the queue's interface allows, and `drain` adds up every payload with [`sum`].
pub trait Queue<const N: usize> {
    const NAME: &'static str;
    type Tx: Send;
    type Rx: Send;

    /// A queue of about `bytes` bytes of payload.
    fn new(bytes: usize, producers: usize) -> (Vec<Self::Tx>, Self::Rx);

    /// False when the queue is full.
    fn push(tx: &mut Self::Tx, seed: u64) -> bool;

    /// Takes what is there and says how many records that was.
    fn drain(rx: &mut Self::Rx, total: &mut u64) -> u64;
}

/// Writes a whole record; word 0 is `seed`.
#[inline(always)]
pub fn fill(record: &mut [u8], seed: u64) {
    for (i, word) in record.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = seed.wrapping_add(i as u64).to_ne_bytes();
    }
}

/// Reads a whole record.
#[inline(always)]
pub fn sum(record: &[u8]) -> u64 {
    let words = record.as_chunks::<8>().0;
    words.iter().fold(0, |total, word| total.wrapping_add(u64::from_ne_bytes(*word)))
}

/// The same for a record that the queue gives as a slice; like a reader of a struct, this one knows the length that it
/// expects.
#[inline(always)]
pub fn sum_of<const N: usize>(record: &[u8]) -> u64 {
    match <&[u8; N]>::try_from(record) {
        Ok(record) => sum(record),
        Err(_) => panic!("a record of {} bytes", record.len()),
    }
}

/// Seeds of one producer grow, so word 0 can stand for a time in a merge.
fn seed(producer: usize, record: u64) -> u64 {
    (record << 3) | producer as u64
}

fn expected(bytes: usize, producer: usize, records: u64) -> u64 {
    let words = bytes as u64 / 8;
    (0..records).fold(0u64, |total, record| {
        let of_record = seed(producer, record).wrapping_mul(words).wrapping_add(words * (words - 1) / 2);
        total.wrapping_add(of_record)
    })
}

/// Spins, then yields: at once when there are more threads than CPUs, as the one waited for may not be running.
struct Backoff {
    spins: u32,
    limit: u32,
}

impl Backoff {
    fn new(threads: usize) -> Self {
        let limit = if threads > cpu::allowed().len() { 32 } else { 20_000 };
        Self { spins: 0, limit }
    }

    #[inline(always)]
    fn reset(&mut self) {
        self.spins = 0;
    }

    #[inline(always)]
    fn wait(&mut self) {
        if self.spins < self.limit {
            self.spins += 1;
            std::hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
}

/// A queue whose memory has been through once, so that page faults are not measured.
struct Warm<T, R> {
    txs: Vec<T>,
    rx: R,
    pushed: Vec<u64>,
    got: u64,
    total: u64,
}

fn warm<const N: usize, Q: Queue<N>>(producers: usize, laps: usize) -> Warm<Q::Tx, Q::Rx> {
    let (mut txs, mut rx) = Q::new(QUEUE_BYTES, producers);
    assert_eq!(txs.len(), producers);
    let (mut got, mut total) = (0, 0);
    let mut pushed = vec![0; producers];
    let goal = (laps * QUEUE_BYTES / N / producers) as u64;
    for (producer, tx) in txs.iter_mut().enumerate() {
        while pushed[producer] < goal {
            if Q::push(tx, seed(producer, pushed[producer])) {
                pushed[producer] += 1;
                continue;
            }
            // A merge may hold everything back until the other producers have written too.
            match Q::drain(&mut rx, &mut total) {
                0 => break,
                n => got += n,
            }
        }
    }
    loop {
        match Q::drain(&mut rx, &mut total) {
            0 => break,
            n => got += n,
        }
    }
    Warm { txs, rx, pushed, got, total }
}

/// Writes and reads `records` records in turns of 32 on one thread.
pub fn one_thread<const N: usize, Q: Queue<N>>(records: u64) -> Duration {
    let Warm { mut txs, mut rx, pushed, mut got, mut total } = warm::<N, Q>(1, 2);
    let turn = 32.min(QUEUE_BYTES / N / 2) as u64;
    let end = pushed[0] + records;
    let mut next = pushed[0];
    let start = Instant::now();
    while next < end {
        let until = end.min(next + turn);
        while next < until && Q::push(&mut txs[0], seed(0, next)) {
            next += 1;
        }
        got += Q::drain(&mut rx, &mut total);
    }
    let elapsed = start.elapsed();
    assert_eq!((got, total), (end, expected(N, 0, end)), "{} lost or changed records", Q::NAME);
    elapsed
}

/// The same bytes, in the same turns, through no queue at all: made, copied into the next slot of a buffer, added up.
pub fn memcpy<const N: usize>(records: u64) -> Duration {
    let mut buffer = vec![1u8; QUEUE_BYTES];
    let turn = 32.min(QUEUE_BYTES / N / 2);
    let (mut at, mut next, mut total) = (0, 0, 0u64);
    let start = Instant::now();
    while next < records {
        let slots = (turn as u64).min(records - next) as usize * N;
        if at + slots > QUEUE_BYTES {
            at = 0;
        }
        let slots = &mut buffer[at..at + slots];
        for slot in slots.chunks_exact_mut(N) {
            let mut bytes = [0; N];
            fill(&mut bytes, next);
            slot.copy_from_slice(&bytes);
            next += 1;
        }
        let slots = std::hint::black_box(slots);
        at += slots.len();
        for slot in slots.chunks_exact(N) {
            total = total.wrapping_add(sum(slot));
        }
    }
    let elapsed = start.elapsed();
    std::hint::black_box(total);
    elapsed
}

/// What a push took in each producer, when it was measured.
pub struct Latency {
    /// Nanoseconds of the pushes that found room, sorted, the clock's own cost included.
    pub pushes: Vec<u32>,
    /// Pushes that found the queue full.
    pub full: u64,
}

impl Latency {
    pub fn quantile(&self, q: f64) -> u32 {
        let last = self.pushes.len() - 1;
        self.pushes[((last as f64) * q).round() as usize]
    }
}

/// One consumer thread, `producers` producer threads, `records` records from each.
pub fn threads<const N: usize, Q: Queue<N>>(producers: usize, records: u64) -> Duration {
    run::<N, Q, false>(producers, records).0
}

/// The same with a clock around each push.
pub fn latency<const N: usize, Q: Queue<N>>(producers: usize, records: u64) -> Latency {
    run::<N, Q, true>(producers, records).1
}

fn run<const N: usize, Q: Queue<N>, const TIMED: bool>(producers: usize, records: u64) -> (Duration, Latency) {
    let Warm { txs, mut rx, pushed, mut got, mut total } = warm::<N, Q>(producers, 2);
    let cpus = cpu::allowed();
    let threads = producers + 1;
    // Pinning more threads than CPUs would only take choices from the scheduler.
    let place = |index: usize| {
        if threads <= cpus.len() {
            cpu::pin(cpus[index]).expect("an allowed CPU");
        }
    };
    let gate = Gate { waiting: AtomicUsize::new(threads) };
    let all: u64 = pushed.iter().map(|pushed| pushed + records).sum();
    let expected = pushed
        .iter()
        .enumerate()
        .fold(0u64, |total, (producer, pushed)| total.wrapping_add(expected(N, producer, pushed + records)));

    thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            place(0);
            let mut backoff = Backoff::new(threads);
            gate.pass();
            let start = Instant::now();
            while got < all {
                match Q::drain(&mut rx, &mut total) {
                    0 => backoff.wait(),
                    n => {
                        got += n;
                        backoff.reset();
                    }
                }
            }
            let elapsed = start.elapsed();
            assert_eq!((got, total), (all, expected), "{} lost or changed records", Q::NAME);
            elapsed
        });
        let handles: Vec<_> = txs
            .into_iter()
            .zip(&pushed)
            .enumerate()
            .map(|(producer, (mut tx, &first))| {
                let (gate, place) = (&gate, &place);
                scope.spawn(move || {
                    place(1 + producer);
                    let mut backoff = Backoff::new(threads);
                    let mut pushes = Vec::with_capacity(if TIMED { records as usize } else { 0 });
                    let mut full = 0;
                    gate.pass();
                    for record in first..first + records {
                        loop {
                            let before = TIMED.then(Instant::now);
                            let done = Q::push(&mut tx, seed(producer, record));
                            if done {
                                if let Some(before) = before {
                                    pushes.push(before.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
                                }
                                backoff.reset();
                                break;
                            }
                            full += 1;
                            backoff.wait();
                        }
                    }
                    (pushes, full)
                })
            })
            .collect();
        let mut latency = Latency { pushes: Vec::new(), full: 0 };
        for handle in handles {
            let (pushes, full) = handle.join().expect("a producer");
            latency.pushes.extend(pushes);
            latency.full += full;
        }
        latency.pushes.sort_unstable();
        (consumer.join().expect("the consumer"), latency)
    })
}

/// Lets the threads go together; a futex barrier would wake them one after the other.
struct Gate {
    waiting: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.waiting.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins > 1000 {
                thread::yield_now();
            }
        }
    }
}
