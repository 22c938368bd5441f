//! The AUX area against a model: a queue of bytes, and the arithmetic of positions done naively.

use perfring::ring::{AuxError, AuxRing};
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Op {
    Write {
        len: usize,
    },
    /// Read everything, and give this part (of 256) of it back.
    Read {
        part: u64,
    },
    /// Look up the newest write, then give everything before it back.
    Span,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (0..6000_usize).prop_map(|len| Op::Write { len }),
        1 => (0..40_usize).prop_map(|len| Op::Write { len }),
        2 => (0..=256_u64).prop_map(|part| Op::Read { part }),
        1 => Just(Op::Span),
    ];
    prop::collection::vec(op, 1..60)
}

/// Start positions, the wrap of 2^64 among those that are soon reached.
fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), (0..10_000_u64).prop_map(|before| 0u64.wrapping_sub(before)), 0..10_000_u64]
}

/// The next `len` bytes of a stream in which no two stretches look alike.
fn next_bytes(state: &mut u64, len: usize) -> Vec<u8> {
    let mut step = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 56) as u8
    };
    (0..len).map(|_| step()).collect()
}

proptest! {
    #[test]
    fn lossless_areas_are_a_queue(ops in ops(), start in starts(), pages in prop_oneof![Just(1_usize), Just(2)]) {
        let (mut producer, mut consumer) = AuxRing::new(pages).start_position(start).lossless().unwrap();
        let size = consumer.size();
        let (mut queue, mut state, mut tail, mut newest) = (VecDeque::new(), 1, start, (start, 0));
        for op in ops {
            match op {
                Op::Write { len } => {
                    let bytes = next_bytes(&mut state, len);
                    let free = size as usize - 1 - queue.len();
                    prop_assert_eq!(producer.free(), Ok(free));
                    let fits = len.min(free);
                    let written = producer.write(&bytes).unwrap();
                    prop_assert_eq!(written.aux_offset, tail.wrapping_add(queue.len() as u64));
                    prop_assert_eq!((written.aux_size, written.truncated), (fits as u64, fits < len));
                    queue.extend(&bytes[..fits]);
                    newest = (written.aux_offset, written.aux_size);
                }
                Op::Read { part } => {
                    let data = consumer.read().unwrap();
                    prop_assert_eq!((data.position(), data.len()), (tail, queue.len() as u64));
                    let (first, rest) = data.slices();
                    prop_assert_eq!(first.len() as u64, data.len().min(size - tail % size));
                    prop_assert!([first, rest].concat() == *queue.make_contiguous());
                    let n = data.len() * part / 256;
                    if part == 256 {
                        drop(data);
                    } else {
                        data.release(n);
                    }
                    queue.drain(..n as usize);
                    tail = tail.wrapping_add(n);
                }
                Op::Span => {
                    let (position, len) = newest;
                    let at = position.wrapping_sub(tail);
                    if at > queue.len() as u64 {
                        prop_assert_eq!(consumer.span(position, len), Err(AuxError::Released { position, len, tail }));
                        consumer.release_to(position).unwrap();
                    } else {
                        let (first, rest) = consumer.span(position, len).unwrap();
                        let at = at as usize;
                        prop_assert!([first, rest].concat() == queue.make_contiguous()[at..at + len as usize]);
                        consumer.release_to(position).unwrap();
                        queue.drain(..at);
                        tail = position;
                    }
                }
            }
            prop_assert_eq!(consumer.position(), tail);
            prop_assert_eq!(producer.position(), tail.wrapping_add(queue.len() as u64));
        }
    }

    #[test]
    fn snapshots_are_the_newest_bytes(lens in prop::collection::vec(0..6000_usize, 0..12), start in starts()) {
        let (mut producer, snapshot) = AuxRing::new(1).start_position(start).overwriting().unwrap();
        let size = snapshot.size() as usize;
        // What lies before the start was never written: zeros.
        let (mut written, mut state) = (vec![0; size], 1);
        for len in lens {
            let bytes = next_bytes(&mut state, len);
            let result = producer.write(&bytes).unwrap();
            prop_assert_eq!((result.aux_size, result.truncated), (len as u64, false));
            written.extend(bytes);
            let mut bytes = vec![7];
            let info = snapshot.take(&mut bytes).unwrap();
            prop_assert_eq!(info.head, producer.position());
            prop_assert_eq!(info.len as usize + 1, bytes.len());
            prop_assert!(info.wrapped == (bytes.len() == size + 1) || info.head % size as u64 == 0);
            prop_assert!(written.ends_with(&bytes[1..]));
        }
    }
}

#[test]
fn a_thread_reads_what_another_writes() {
    let (mut producer, mut consumer) = AuxRing::new(1).start_position(0u64.wrapping_sub(9_000)).lossless().unwrap();
    const TOTAL: usize = 1 << 20;
    let mut state = 1;
    let all = next_bytes(&mut state, TOTAL);
    let written = all.clone();
    let writer = std::thread::spawn(move || {
        let mut left = &written[..];
        while !left.is_empty() {
            let chunk = left.len().min(777);
            let done = producer.write(&left[..chunk]).unwrap();
            left = &left[done.aux_size as usize..];
            if done.truncated {
                std::thread::yield_now();
            }
        }
    });
    let mut seen = Vec::new();
    while seen.len() < TOTAL {
        let data = consumer.read().unwrap();
        let (first, rest) = data.slices();
        seen.extend_from_slice(first);
        seen.extend_from_slice(rest);
        if data.is_empty() {
            std::thread::yield_now();
        }
    }
    writer.join().unwrap();
    assert!(seen == all);
}
