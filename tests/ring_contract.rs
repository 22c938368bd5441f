//! The ring's contract, line by line, on rings of this process.
#![allow(unsafe_code)]

use perfring::ring::{
    BeginError, Builder, CommitLenError, Consumer, HEADER_SIZE, LostRecord, MAX_RECORD_SIZE, Mode, OpenReservation,
    OwnedRecord, Padding, Producer, RECORD_PADDING, ReadErrorKind, RecordHeader, Ring, SetupError, SharedProducer,
    Wait, Wake,
};
use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const PAGE: u64 = 4096;
const SIZE: u64 = 4 * PAGE;
/// The last granule before positions wrap.
const NEAR_WRAP: u64 = 0u64.wrapping_sub(PAGE);
const LOST: u32 = 2;
/// Bounds a wait that must not take that long.
const LONG: Option<Duration> = Some(Duration::from_secs(60));

fn ends(builder: Builder) -> (Producer, Consumer) {
    let ring = builder.private().unwrap();
    (ring.producer().unwrap(), ring.consumer().unwrap())
}

fn body(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (seed.wrapping_mul(31).wrapping_add(i * 7) % 251 + 1) as u8).collect()
}

/// Writes a record of `size` bytes in page and gives its position.
fn push(producer: &Producer, size: usize, type_: u32) -> u64 {
    let mut record = producer.begin_forward_in_page(size).unwrap();
    let position = record.position();
    record.put(&body(position, size - HEADER_SIZE));
    record.commit(type_, 0);
    position
}

fn drain(consumer: &mut Consumer) -> Vec<OwnedRecord> {
    consumer.drain().owned().map(|record| record.unwrap()).collect()
}

fn types(consumer: &mut Consumer) -> Vec<u32> {
    drain(consumer).iter().map(|record| record.header.type_).collect()
}

fn lost_count(record: &OwnedRecord) -> u64 {
    assert_eq!(record.header.type_, LOST);
    u64::from_ne_bytes(record.bytes[16..24].try_into().unwrap())
}

fn word(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    u64::from_ne_bytes(bytes)
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which lives across the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

// Layout and positions.

#[test]
fn the_header_page_is_the_kernels() {
    let ring = Ring::free(4).memfd().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let fds = ring.fds().unwrap();
    let (header, data) = (File::from(fds.header), File::from(fds.data));
    assert_eq!((word(&header, 1040), word(&header, 1048)), (PAGE, SIZE));
    assert_eq!((word(&header, 1024), word(&header, 1032)), (0, 0));
    let mut record = producer.begin_forward(24).unwrap();
    record.put(&body(1, 16));
    record.commit(9, 0x4002);
    assert_eq!((word(&header, 1024), word(&header, 1032)), (24, 0));
    let mut bytes = [0; 24];
    data.read_exact_at(&mut bytes, 0).unwrap();
    let expected = [&9u32.to_ne_bytes()[..], &0x4002u16.to_ne_bytes(), &24u16.to_ne_bytes(), &body(1, 16)].concat();
    assert_eq!(bytes.as_slice(), expected);
    assert_eq!(drain(&mut consumer)[0].bytes, expected);
    assert_eq!((word(&header, 1024), word(&header, 1032)), (24, 24));
}

#[test]
fn positions_run_on_for_laps_and_over_the_wrap_of_u64() {
    for start in [0, SIZE - PAGE, NEAR_WRAP, NEAR_WRAP - SIZE, 1 << 63] {
        for builder in [Ring::confined(4), Ring::free(4)] {
            let (producer, mut consumer) = ends(builder.start_position(start));
            let mut next = start;
            for i in 0..2000 {
                let position = push(&producer, 64, i);
                assert_eq!(position, next);
                next = next.wrapping_add(64);
                let records = drain(&mut consumer);
                assert_eq!(records.len(), 1);
                assert_eq!((records[0].header.type_, records[0].position), (i, position));
                assert_eq!(records[0].bytes[HEADER_SIZE..], body(position, 56));
            }
            assert!(next.wrapping_sub(start) > 3 * SIZE);
            assert_eq!(consumer.position(), next);
        }
    }
}

#[test]
fn start_position_is_rounded_down_to_a_granule() {
    let (producer, _consumer) = ends(Ring::confined(16).granule(8192).start_position(3 * 8192 + 4096 + 8));
    assert_eq!(push(&producer, 16, 1), 3 * 8192);
}

#[test]
fn head_equal_to_tail_is_empty_and_one_word_stays_free() {
    for builder in [Ring::confined(4), Ring::free(4), Ring::free(1), Ring::confined(4).start_position(NEAR_WRAP)] {
        let (producer, mut consumer) = ends(builder);
        let words = consumer.size() / 8;
        assert!(drain(&mut consumer).is_empty());
        assert!(!consumer.is_ready());
        for _ in 0..words - 1 {
            push(&producer, 8, 1);
        }
        let full = producer.begin_forward_in_page(8).map(|_| ()).unwrap_err();
        assert_eq!(full, BeginError::Full { needed: 8, free: 0 });
        assert_eq!(drain(&mut consumer).len() as u64, words - 1);
        assert!(drain(&mut consumer).is_empty());
    }
}

// Confinement, gaps, padding.

#[test]
fn a_gap_appears_only_where_the_record_does_not_fit() {
    for padding in [Padding::Zero, Padding::Header] {
        let (producer, mut consumer) = ends(Ring::confined(4).padding(padding));
        assert_eq!(push(&producer, 4048, 1), 0);
        assert_eq!(push(&producer, 48, 2), 4048);
        assert_eq!(push(&producer, 4056, 3), 4096);
        assert_eq!(push(&producer, 48, 4), 8192);
        let records = drain(&mut consumer);
        assert_eq!(records.iter().map(|record| record.header.type_).collect::<Vec<_>>(), [1, 2, 3, 4]);
        for record in &records {
            let len = record.bytes.len();
            assert_eq!(record.bytes[HEADER_SIZE..], body(record.position, len - HEADER_SIZE));
        }
        assert_eq!(consumer.stats().padding, 40);
        assert_eq!(consumer.stats().skipped, 0);
    }
}

#[test]
fn gaps_are_zeros_or_padding_headers_in_memory() {
    for (padding, first) in [
        (Padding::Zero, [0; 8]),
        (Padding::Header, RecordHeader { type_: RECORD_PADDING, misc: 0, size: 40 }.to_bytes()),
    ] {
        let ring = Ring::confined(4).padding(padding).memfd().unwrap();
        let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let data = File::from(ring.fds().unwrap().data);
        // A lap of old content first, so that zeros are written and not found.
        for _ in 0..4 {
            push(&producer, 4096, 1);
            drain(&mut consumer);
        }
        push(&producer, 4056, 2);
        push(&producer, 48, 3);
        let mut gap = [1; 40];
        data.read_exact_at(&mut gap, 4056).unwrap();
        assert_eq!(gap[..8], first);
        assert_eq!(gap[8..], [0; 32]);
        assert_eq!(types(&mut consumer), [2, 3]);
    }
}

#[test]
fn a_gap_in_a_free_ring_is_a_padding_record() {
    let ring = Ring::free(4).memfd().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let data = File::from(ring.fds().unwrap().data);
    push(&producer, 4056, 1);
    assert_eq!(push(&producer, 48, 2), 4096);
    let mut header = [0; 8];
    data.read_exact_at(&mut header, 4056).unwrap();
    assert_eq!(RecordHeader::from_bytes(header), RecordHeader { type_: RECORD_PADDING, misc: 0, size: 40 });
    assert_eq!(types(&mut consumer), [1, 2]);
    assert_eq!(consumer.stats().padding, 40);
}

#[test]
fn a_gap_touches_neither_open_reservations_nor_unread_records() {
    for padding in [Padding::Zero, Padding::Header] {
        let (producer, mut consumer) = ends(Ring::confined(4).padding(padding));
        push(&producer, 2000, 1);
        let mut outer = producer.begin_forward_in_page(2000).unwrap();
        outer.put(&body(7, 1992));
        // 96 bytes are left: this one fits, the next does not.
        let mut inner = producer.begin_forward_in_page(48).unwrap();
        inner.put(&body(8, 40));
        let next = producer.begin_forward_in_page(56).unwrap();
        assert_eq!(next.position(), 4096);
        next.commit(4, 0);
        inner.commit(3, 0);
        outer.commit(2, 0);
        let records = drain(&mut consumer);
        assert_eq!(records.iter().map(|record| record.header.type_).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(records[0].bytes[8..], body(0, 1992));
        assert_eq!(records[1].bytes[8..], body(7, 1992));
        assert_eq!(records[2].bytes[8..], body(8, 40));
    }
}

#[test]
fn a_gap_is_claimed_with_its_record_or_not_at_all() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    for _ in 0..3 {
        push(&producer, 4096, 1);
    }
    push(&producer, 4056, 2);
    let full = producer.begin_forward_in_page(48).map(|_| ()).unwrap_err();
    assert_eq!(full, BeginError::Full { needed: 88, free: 32 });
    // Nothing was reserved, however often: what is left still takes a record. (The lost record has no room.)
    assert_eq!(
        producer.begin_forward_in_page(48).map(|_| ()).unwrap_err(),
        BeginError::Full { needed: 24 + 16 + 48, free: 32 }
    );
    assert_eq!(producer.lost_total(), 2);
    assert_eq!(types(&mut consumer), [1, 1, 1, 2]);
    assert_eq!(consumer.stats().padding, 0);
    assert_eq!(push(&producer, 48, 3), SIZE);
    let records = drain(&mut consumer);
    assert_eq!(
        records.iter().map(|record| (record.header.type_, record.position)).collect::<Vec<_>>(),
        [(LOST, 3 * PAGE + 4056), (3, SIZE)]
    );
    assert_eq!(lost_count(&records[0]), 2);
    assert_eq!(consumer.stats().padding, 16);
}

#[test]
fn records_of_a_confined_ring_never_cross_a_granule() {
    for (pages, granule) in [(4, 4096), (32, 8192), (64, 16384), (32, 32768), (64, 65536)] {
        for padding in [Padding::Zero, Padding::Header] {
            let builder = Ring::confined(pages).granule(granule).padding(padding).start_position(NEAR_WRAP);
            let (producer, mut consumer) = ends(builder);
            let granule = granule as u64;
            let most = (granule as usize).min(MAX_RECORD_SIZE);
            let (mut starts, mut at) = (0, 0);
            for i in 0..400usize {
                let size = [8, most, 24, most / 16 * 8 + 8, 104, most / 24 * 8][i % 6];
                push(&producer, size, 9);
                for record in drain(&mut consumer) {
                    let (first, len) = (record.position, record.bytes.len() as u64);
                    assert_eq!(first / granule, first.wrapping_add(len - 1) / granule);
                    assert_eq!(record.bytes[HEADER_SIZE..], body(first, len as usize - HEADER_SIZE));
                    starts += u64::from(first.is_multiple_of(granule));
                    at += 1;
                }
            }
            assert_eq!(at, 400);
            assert!(starts > 60);
        }
    }
}

#[test]
fn every_granule_of_a_confined_ring_starts_with_a_header() {
    let ring = Ring::confined(8).memfd().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let data = File::from(ring.fds().unwrap().data);
    let mut size = 16;
    while producer.begin_forward_in_page(size).map(|record| record.commit(9, 0)).is_ok() {
        size = size * 5 % 1000 / 8 * 8 + 16;
    }
    for granule in 0..8 {
        let header = RecordHeader::from_bytes(word(&data, granule * PAGE).to_ne_bytes());
        assert_eq!(header.type_, 9);
        assert!(header.size >= 8 && header.size.is_multiple_of(8));
    }
    assert!(drain(&mut consumer).len() > 30);
}

#[test]
fn begin_forward_on_a_confined_ring_is_a_typed_error() {
    let ring = Ring::confined(4).private().unwrap();
    let producer = ring.producer().unwrap();
    assert_eq!(producer.begin_forward(48).map(|_| ()).unwrap_err(), BeginError::Confined);
    assert_eq!((producer.lost_total(), producer.open_reservations().len()), (0, 0));
    let ring = Ring::confined(4).private().unwrap();
    let shared = ring.shared_producer().unwrap();
    assert_eq!(shared.begin_forward(48).map(|_| ()).unwrap_err(), BeginError::Confined);
    assert_eq!(shared.lost_total(), 0);
}

#[test]
fn records_of_a_free_ring_cross_granules_and_wrap_in_two_slices() {
    for start in [0, NEAR_WRAP] {
        let (producer, mut consumer) = ends(Ring::free(4).start_position(start));
        let to_end = (SIZE - start % SIZE) as usize;
        // Up to 24 bytes before the end of the data area, over the ends of granules.
        let mut left = to_end - 24;
        while left > 0 {
            let size = left.min(6000);
            let mut record = producer.begin_forward(size).unwrap();
            let position = record.position();
            let (first, second) = record.body_mut();
            assert_eq!((first.len(), second.len()), (size - 8, 0));
            first.copy_from_slice(&body(position, size - 8));
            record.commit(1, 0);
            left -= size;
            for record in drain(&mut consumer) {
                assert_eq!(record.bytes[8..], body(record.position, record.bytes.len() - 8));
            }
        }
        let mut record = producer.begin_forward(64).unwrap();
        let (first, second) = record.body_mut();
        assert_eq!((first.len(), second.len()), (16, 40));
        first.copy_from_slice(&body(5, 56)[..16]);
        second.copy_from_slice(&body(5, 56)[16..]);
        record.commit(2, 0);
        let records = drain(&mut consumer);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].bytes[8..], body(5, 56));
        assert_eq!(consumer.stats().padding, 0);
    }
}

#[test]
fn a_record_whose_header_ends_the_ring_wraps_and_put_wraps_with_it() {
    let (producer, mut consumer) = ends(Ring::free(1));
    producer.begin_forward(4088).unwrap().commit(1, 0);
    assert_eq!(types(&mut consumer), [1]);
    let mut record = producer.begin_forward(48).unwrap();
    for byte in body(3, 40).chunks(7) {
        record.put(byte);
    }
    let (first, second) = record.body_mut();
    assert_eq!((first.len(), second.len()), (0, 40));
    record.commit(2, 0);
    assert_eq!(drain(&mut consumer)[0].bytes[8..], body(3, 40));
}

#[test]
fn in_page_works_on_free_rings_beside_begin_forward() {
    let (producer, mut consumer) = ends(Ring::free(4));
    producer.begin_forward(4080).unwrap().commit(1, 0);
    assert_eq!(push(&producer, 48, 2), 4096);
    producer.begin_forward(4080).unwrap().commit(3, 0);
    assert_eq!(push(&producer, 4088, 4), 12288);
    assert_eq!(types(&mut consumer), [1, 2, 3, 4]);
}

// Sizes.

#[test]
fn bad_geometries_are_typed_errors() {
    let refused = |builder: Builder| builder.private().map(|_| ()).unwrap_err();
    assert!(matches!(refused(Ring::confined(0)), SetupError::PagesNotPowerOfTwo { pages: 0 }));
    assert!(matches!(refused(Ring::free(6)), SetupError::PagesNotPowerOfTwo { pages: 6 }));
    assert!(matches!(refused(Ring::free(1 << 60)), SetupError::TooManyPages { .. }));
    assert!(matches!(refused(Ring::free(1 << 51)), SetupError::TooManyPages { .. }));
    for granule in [0, 8, 2048, 4097, 12288, 131072] {
        let error = refused(Ring::confined(64).granule(granule));
        assert!(matches!(error, SetupError::Granule { granule: found, .. } if found == granule), "{error}");
    }
    assert!(matches!(refused(Ring::confined(2)), SetupError::TooFewGranules { size: 8192, granule: 4096 }));
    assert!(matches!(refused(Ring::confined(32).granule(65536)), SetupError::TooFewGranules { .. }));
    assert!(matches!(refused(Ring::free(4).mode(Mode::OverwriteForward)), SetupError::OverwriteNeedsConfined));
    assert!(matches!(refused(Ring::confined(4).mode(Mode::OverwriteBackward)), SetupError::BackwardIsFree));
}

#[test]
fn bad_record_sizes_reserve_nothing_and_count_nothing() {
    use BeginError::*;
    let small = Ring::confined(4).private().unwrap().producer().unwrap();
    let large = Ring::confined(64).granule(65536).private().unwrap().producer().unwrap();
    let free = Ring::free(4).private().unwrap().producer().unwrap();
    let tiny = Ring::free(1).private().unwrap().producer().unwrap();
    let shared = Ring::confined(4).private().unwrap().shared_producer().unwrap();
    let in_page = |producer: &Producer, size| producer.begin_forward_in_page(size).map(|_| ()).unwrap_err();
    let whole = |producer: &Producer, size| producer.begin_forward(size).map(|_| ()).unwrap_err();
    for producer in [&small, &large, &free, &tiny] {
        assert_eq!(in_page(producer, 0), ZeroSize);
        for size in [1, 7, 9, 4095, 4097, usize::MAX] {
            assert_eq!(in_page(producer, size), Unaligned { size });
        }
        assert_eq!(in_page(producer, 65536), TooLarge { size: 65536 });
        for size in [1 << 31, 1 << 32, 1 << 62, 1 << 63, usize::MAX - 7] {
            assert_eq!(in_page(producer, size), TooLarge { size });
        }
    }
    assert_eq!(in_page(&small, 4104), OverGranule { size: 4104, granule: 4096 });
    assert_eq!(in_page(&small, 65528), OverGranule { size: 65528, granule: 4096 });
    assert_eq!(in_page(&free, 4104), OverGranule { size: 4104, granule: 4096 });
    // Of a single granule only half: with a gap before it a larger record would never fit, not even when all is read.
    assert_eq!(in_page(&tiny, 4096), OverRing { size: 4096, capacity: 2048 });
    assert_eq!(in_page(&tiny, 2056), OverRing { size: 2056, capacity: 2048 });
    assert_eq!(whole(&free, 0), ZeroSize);
    assert_eq!(whole(&free, 12), Unaligned { size: 12 });
    assert_eq!(whole(&free, 65536), TooLarge { size: 65536 });
    assert_eq!(whole(&free, 16384), OverRing { size: 16384, capacity: 16376 });
    assert_eq!(whole(&tiny, 65528), OverRing { size: 65528, capacity: 4088 });
    for size in [1 << 32, 1 << 63, usize::MAX - 7] {
        assert_eq!(whole(&free, size), TooLarge { size });
    }
    let refused = |size| shared.begin_forward_in_page(size).map(|_| ()).unwrap_err();
    assert_eq!(refused(1 << 63), TooLarge { size: 1 << 63 });
    assert_eq!(refused(usize::MAX - 7), TooLarge { size: usize::MAX - 7 });
    assert_eq!((refused(0), refused(12)), (ZeroSize, Unaligned { size: 12 }));
    assert_eq!(refused(4104), OverGranule { size: 4104, granule: 4096 });
    for producer in [&small, &large, &free, &tiny] {
        assert_eq!((producer.lost_total(), producer.lost_pending()), (0, 0));
        assert_eq!(producer.open_reservations(), []);
    }
    assert_eq!((shared.lost_total(), shared.lost_pending()), (0, 0));
    let forward = Ring::confined(4).mode(Mode::OverwriteForward).private().unwrap().overwrite_producer().unwrap();
    let backward = Ring::free(4).mode(Mode::OverwriteBackward).private().unwrap().overwrite_producer().unwrap();
    for (size, error) in [(0, ZeroSize), (12, Unaligned { size: 12 }), (1 << 63, TooLarge { size: 1 << 63 })] {
        assert_eq!(forward.begin_forward_in_page(size).map(|_| ()).unwrap_err(), error);
        assert_eq!(backward.begin_backward(size).map(|_| ()).unwrap_err(), error);
    }
    assert_eq!((forward.lost_total(), backward.lost_total()), (0, 0));
    // The largest that go.
    assert_eq!(push(&small, 4096, 1), 0);
    assert_eq!(push(&large, 65528, 1), 0);
    free.begin_forward(16376).unwrap().commit(1, 0);
    tiny.begin_forward(4088).unwrap().commit(1, 0);
}

// Commit, discard, nesting.

#[test]
fn nothing_is_visible_before_it_is_committed() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    let mut record = producer.begin_forward_in_page(48).unwrap();
    record.put(&body(1, 40));
    assert!(!consumer.is_ready());
    assert!(drain(&mut consumer).is_empty());
    record.commit(9, 0);
    assert_eq!(drain(&mut consumer)[0].bytes[8..], body(1, 40));
}

#[test]
fn nested_reservations_are_published_in_order_up_to_the_first_that_is_open() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        for builder in [Ring::confined(4), Ring::free(4), Ring::confined(4).start_position(NEAR_WRAP)] {
            let (producer, mut consumer) = ends(builder);
            let mut open: Vec<_> = (0..3u64)
                .map(|i| {
                    let mut record = producer.begin_forward_in_page(2000).unwrap();
                    record.put(&body(i, 1992));
                    Some(record)
                })
                .collect();
            let (mut closed, mut records) = ([false; 3], Vec::new());
            for (done, &which) in order.iter().enumerate() {
                assert_eq!(producer.open_reservations().len(), 3 - done);
                open[which].take().unwrap().commit(10 + which as u32, 0);
                closed[which] = true;
                records.extend(drain(&mut consumer));
                assert_eq!(records.len(), closed.iter().take_while(|&&closed| closed).count());
            }
            assert_eq!(records.iter().map(|record| record.header.type_).collect::<Vec<_>>(), [10, 11, 12]);
            for (i, record) in records.iter().enumerate() {
                assert_eq!(record.bytes[8..], body(i as u64, 1992));
            }
        }
    }
}

#[test]
fn shared_claims_are_published_up_to_the_first_that_is_open() {
    let ring = Ring::confined(4).private().unwrap();
    let (shared, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let first = shared.begin_forward_in_page(48).unwrap();
    let second = shared.begin_forward_in_page(48).unwrap();
    let third = shared.begin_forward_in_page(48).unwrap();
    second.commit(2, 0);
    assert_eq!(types(&mut consumer), [0; 0]);
    first.commit(1, 0);
    assert_eq!(types(&mut consumer), [1, 2]);
    let fourth = shared.begin_forward_in_page(48).unwrap();
    third.commit(3, 0);
    assert_eq!(types(&mut consumer), [3]);
    drop(fourth);
    assert_eq!(types(&mut consumer), [0; 0]);
    assert_eq!(consumer.stats().padding, 48);
}

#[test]
fn commit_len_gives_the_rest_back_or_pads_it() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    let mut record = producer.begin_forward_in_page(400).unwrap();
    record.put(&body(1, 392));
    record.commit_len(48, 1, 0).unwrap();
    // The last one is shortened by moving the head back.
    assert_eq!(push(&producer, 16, 2), 48);
    let mut outer = producer.begin_forward_in_page(400).unwrap();
    outer.put(&body(3, 40));
    let inner = producer.begin_forward_in_page(16).unwrap();
    assert_eq!((outer.position(), inner.position()), (64, 464));
    outer.commit_len(48, 3, 0).unwrap();
    inner.commit(4, 0);
    let records = drain(&mut consumer);
    assert_eq!(records.iter().map(|record| record.header.type_).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(records[0].bytes[8..], body(1, 40));
    assert_eq!(records[2].bytes[8..], body(3, 40));
    assert_eq!(consumer.stats().padding, 352);
}

#[test]
fn commit_len_refuses_what_was_not_reserved_and_discards() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    for size in [0, 4, 12, 56, 4096, usize::MAX] {
        let record = producer.begin_forward_in_page(48).unwrap();
        assert_eq!(record.commit_len(size, 1, 0).unwrap_err(), CommitLenError { size, reserved: 48 });
    }
    assert_eq!(push(&producer, 16, 2), 0);
    let record = producer.begin_forward_in_page(48).unwrap();
    record.commit_len(8, 3, 0).unwrap();
    let record = producer.begin_forward_in_page(48).unwrap();
    record.commit_len(48, 4, 0).unwrap();
    assert_eq!(types(&mut consumer), [2, 3, 4]);
}

#[test]
fn a_discarded_reservation_is_given_back_or_becomes_padding() {
    let (producer, mut consumer) = ends(Ring::free(4));
    push(&producer, 48, 1);
    drop(producer.begin_forward_in_page(48).unwrap());
    producer.begin_forward(64).unwrap().discard();
    assert_eq!(push(&producer, 48, 2), 48);
    let outer = producer.begin_forward(56).unwrap();
    push(&producer, 48, 3);
    drop(outer);
    assert_eq!(types(&mut consumer), [1, 2, 3]);
    assert_eq!(consumer.stats().padding, 56);
    assert_eq!(producer.lost_total(), 0);
}

#[test]
fn a_reservation_discarded_while_unwinding_is_closed() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut record = producer.begin_forward_in_page(48).unwrap();
        record.put(&[1; 41]);
    }));
    assert!(panicked.is_err());
    assert_eq!(producer.open_reservations(), []);
    assert_eq!(push(&producer, 48, 1), 0);
    assert_eq!(types(&mut consumer), [1]);
}

#[test]
fn a_leaked_reservation_blocks_publication_and_is_named() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    push(&producer, 48, 1);
    std::mem::forget(producer.begin_forward_in_page(64).unwrap());
    push(&producer, 4096, 2);
    push(&producer, 48, 3);
    assert_eq!(types(&mut consumer), [1]);
    assert_eq!(producer.open_reservations(), [OpenReservation { position: 48, size: 64 }]);
    // It fills up in the end, and says so.
    while producer.begin_forward_in_page(1024).map(|record| record.commit(4, 0)).is_ok() {}
    assert_eq!(producer.lost_total(), 1);

    let ring = Ring::confined(4).private().unwrap();
    let (shared, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    shared.begin_forward_in_page(48).unwrap().commit(1, 0);
    std::mem::forget(shared.begin_forward_in_page(64).unwrap());
    shared.begin_forward_in_page(48).unwrap().commit(2, 0);
    assert_eq!(types(&mut consumer), [1]);
    assert_eq!(shared.open_reservations(), [OpenReservation { position: 48, size: 64 }]);
}

#[test]
fn bytes_never_written_are_zero_over_old_content() {
    for shared in [false, true] {
        let ring = Ring::free(1).lost_record(None).private().unwrap();
        let mut consumer = ring.consumer().unwrap();
        let (single, many) = if shared { (None, ring.shared_producer().ok()) } else { (ring.producer().ok(), None) };
        // Fills the ring with 0xff and moves on by a few bytes, so that every record below lies on old content.
        let soil = |consumer: &mut Consumer| {
            for _ in 0..2 {
                let size = 2040;
                match (&single, &many) {
                    (Some(producer), _) => {
                        let mut record = producer.begin_forward(size).unwrap();
                        record.put(&[0xff; 2032]);
                        record.commit(1, 0);
                    }
                    (_, Some(producer)) => {
                        let mut record = producer.begin_forward(size).unwrap();
                        record.put(&[0xff; 2032]);
                        record.commit(1, 0);
                    }
                    _ => unreachable!(),
                }
                drain(consumer);
            }
        };
        macro_rules! on {
            ($producer:expr) => {{
                // Committed as reserved, with part of it written.
                for filled in [0, 1, 7, 8, 100] {
                    soil(&mut consumer);
                    let mut record = $producer.begin_forward(208).unwrap();
                    record.put(&vec![0x11; filled]);
                    assert_eq!(record.remaining(), 200 - filled);
                    record.commit(2, 0);
                    let bytes = &drain(&mut consumer)[0].bytes;
                    assert!(bytes[8..8 + filled].iter().all(|&byte| byte == 0x11));
                    assert!(bytes[8 + filled..].iter().all(|&byte| byte == 0), "{filled}");
                }
                // Committed shorter.
                soil(&mut consumer);
                let mut record = $producer.begin_forward(208).unwrap();
                record.put(&[0x11; 3]);
                record.commit_len(104, 2, 0).unwrap();
                let bytes = &drain(&mut consumer)[0].bytes;
                assert_eq!((bytes.len(), &bytes[8..12]), (104, &[0x11, 0x11, 0x11, 0][..]));
                assert!(bytes[11..].iter().all(|&byte| byte == 0));
                // Lent as slices.
                soil(&mut consumer);
                let mut record = $producer.begin_forward(208).unwrap();
                record.put(&[0x11; 3]);
                let (first, second) = record.body_mut();
                let lent = [&*first, &*second].concat();
                assert_eq!((lent.len(), &lent[..4]), (200, &[0x11, 0x11, 0x11, 0][..]));
                assert!(lent[3..].iter().all(|&byte| byte == 0));
                record.commit(2, 0);
                // After a discarded one, over what was written into that.
                soil(&mut consumer);
                let mut record = $producer.begin_forward(208).unwrap();
                record.put(&[0x22; 200]);
                drop(record);
                $producer.begin_forward(208).unwrap().commit(3, 0);
                let records = drain(&mut consumer);
                assert_eq!((records.len(), records[0].header.type_), (1, 3));
                assert!(records[0].bytes[8..].iter().all(|&byte| byte == 0));
            }};
        }
        match (&single, &many) {
            (Some(producer), _) => on!(producer),
            (_, Some(producer)) => on!(producer),
            _ => unreachable!(),
        }
    }
}

#[test]
fn padding_leaks_no_old_content_to_readers_of_the_memory() {
    let ring = Ring::confined(4).memfd().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let data = File::from(ring.fds().unwrap().data);
    for _ in 0..4 {
        let mut record = producer.begin_forward_in_page(4096).unwrap();
        record.put(&[0xff; 4088]);
        record.commit(1, 0);
        drain(&mut consumer);
    }
    let discarded = producer.begin_forward_in_page(104).unwrap();
    let short = producer.begin_forward_in_page(104).unwrap();
    push(&producer, 16, 2);
    drop(discarded);
    short.commit_len(24, 3, 0).unwrap();
    let mut bytes = [0; 208];
    data.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[8..104].iter().all(|&byte| byte == 0));
    assert!(bytes[112..128].iter().all(|&byte| byte == 0));
    assert!(bytes[136..208].iter().all(|&byte| byte == 0));
    assert_eq!(types(&mut consumer), [3, 2]);
    assert_eq!(consumer.stats().padding, 104 + 80);
}

// Full rings and what was lost.

#[test]
fn losses_are_counted_and_reported_before_the_next_success() {
    let (producer, mut consumer) = ends(Ring::confined(4).lost_record(Some(LostRecord::bare(77))));
    let mut written = 0;
    while producer.begin_forward_in_page(64).map(|record| record.commit(9, 0)).is_ok() {
        written += 1;
    }
    for _ in 0..4 {
        assert!(matches!(producer.begin_forward_in_page(64), Err(BeginError::Full { .. })));
    }
    assert_eq!((producer.lost_total(), producer.lost_pending()), (5, 5));
    assert_eq!(consumer.lost_total(), Some(5));
    assert_eq!(types(&mut consumer), vec![9; written]);
    push(&producer, 64, 10);
    assert_eq!((producer.lost_total(), producer.lost_pending()), (5, 0));
    let records = drain(&mut consumer);
    assert_eq!(records.len(), 2);
    assert_eq!((lost_count(&records[0]), records[1].header.type_), (5, 10));
    assert_eq!(records[0].bytes[8..16], 77u64.to_ne_bytes());
    // Reported once.
    push(&producer, 64, 11);
    assert_eq!(types(&mut consumer), [11]);
}

#[test]
fn losses_are_reported_first_also_where_the_head_went_back() {
    let (producer, mut consumer) = ends(Ring::free(1));
    push(&producer, 8, 1);
    let open = producer.begin_forward_in_page(512).unwrap();
    assert!(matches!(producer.begin_forward(4080), Err(BeginError::Full { .. })));
    drop(open);
    let record = producer.begin_forward(8).unwrap();
    assert_eq!(record.position(), 8 + 24);
    record.commit(3, 0);
    let records = drain(&mut consumer);
    assert_eq!(records.iter().map(|record| record.header.type_).collect::<Vec<_>>(), [1, LOST, 3]);
    assert_eq!(lost_count(&records[1]), 1);
}

#[test]
fn written_is_read_plus_lost_plus_pending() {
    for builder in [Ring::confined(4), Ring::free(1), Ring::confined(4).start_position(NEAR_WRAP)] {
        let (producer, mut consumer) = ends(builder);
        let (mut tried, mut read, mut lost) = (0u64, 0, 0);
        for round in 0..300u64 {
            for i in 0..round % 90 {
                tried += 1;
                let size = (round * 13 + i * 29) % 60 * 8 + 8;
                if let Ok(record) = producer.begin_forward_in_page(size as usize) {
                    record.commit(9, 0);
                }
            }
            for record in drain(&mut consumer) {
                match record.header.type_ {
                    LOST => lost += lost_count(&record),
                    _ => read += 1,
                }
            }
            assert_eq!(tried, read + lost + producer.lost_pending());
            assert_eq!(consumer.lost_total(), Some(lost + producer.lost_pending()));
        }
        assert!(lost > 0);
    }
}

#[test]
fn flush_lost_reports_without_a_record() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    producer.flush_lost().unwrap();
    assert!(!consumer.is_ready());
    while producer.begin_forward_in_page(8).map(|record| record.commit(9, 0)).is_ok() {}
    assert_eq!(producer.flush_lost().unwrap_err(), BeginError::Full { needed: 8 + 24, free: 0 });
    assert_eq!((producer.lost_total(), producer.lost_pending()), (1, 1));
    drain(&mut consumer);
    producer.flush_lost().unwrap();
    let records = drain(&mut consumer);
    assert_eq!(records.len(), 1);
    assert_eq!(lost_count(&records[0]), 1);
    assert_eq!((producer.lost_total(), producer.lost_pending()), (1, 0));
}

#[test]
fn flush_lost_beneath_an_open_reservation_waits_for_it() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    let open = producer.begin_forward_in_page(4096).unwrap();
    while producer.begin_forward_in_page(4096).map(|record| record.commit(2, 0)).is_ok() {}
    assert_eq!(producer.lost_pending(), 1);
    producer.flush_lost().unwrap();
    assert!(drain(&mut consumer).is_empty());
    open.commit(1, 0);
    let records = drain(&mut consumer);
    assert_eq!(records.iter().map(|record| record.header.type_).collect::<Vec<_>>(), [1, 2, 2, LOST]);
}

#[test]
fn a_lost_record_and_its_record_are_confined_each_on_its_own() {
    let template = |len: u16| {
        let mut bytes = RecordHeader { type_: LOST, misc: 0, size: len }.to_bytes().to_vec();
        bytes.resize(usize::from(len), 0x55);
        bytes
    };
    for size in [8, 48, 1000, 2048, 4096] {
        for lost in [24, 1000, 4096] {
            for filled in [8, 1000, 4000, 4088] {
                let lost = LostRecord::from_template(template(lost), 16).unwrap();
                let (producer, mut consumer) = ends(Ring::confined(4).lost_record(Some(lost.clone())));
                while producer.begin_forward_in_page(4096).map(|record| record.commit(1, 0)).is_ok() {}
                drain(&mut consumer);
                // The pending report goes with the first, and there is another for the last.
                push(&producer, filled, 2);
                while producer.begin_forward_in_page(4096).map(|record| record.commit(3, 0)).is_ok() {}
                drain(&mut consumer);
                push(&producer, size, 4);
                let records = drain(&mut consumer);
                assert_eq!(records.iter().map(|record| record.header.type_).collect::<Vec<_>>(), [LOST, 4]);
                assert_eq!(lost_count(&records[0]), 1);
                for record in records {
                    let last = record.position + record.bytes.len() as u64 - 1;
                    assert_eq!(record.position / PAGE, last / PAGE);
                }
            }
        }
    }
}

fn ticks() -> u64 {
    0x0123_4567_89ab_cdef
}

#[test]
fn the_lost_template_and_clock_are_the_owners() {
    let mut template = RecordHeader { type_: LOST, misc: 5, size: 48 }.to_bytes().to_vec();
    template.extend(42u64.to_ne_bytes());
    template.extend([0; 8]);
    template.extend([0xaa; 24]);
    let lost = LostRecord::from_template(template.clone(), 16).unwrap().with_time(32, ticks).unwrap();
    for shared in [false, true] {
        let ring = Ring::confined(4).lost_record(Some(lost.clone())).private().unwrap();
        let mut consumer = ring.consumer().unwrap();
        if shared {
            let producer = ring.shared_producer().unwrap();
            while producer.begin_forward_in_page(4096).map(|record| record.commit(1, 0)).is_ok() {}
            drain(&mut consumer);
            producer.begin_forward_in_page(16).unwrap().commit(2, 0);
        } else {
            let producer = ring.producer().unwrap();
            while producer.begin_forward_in_page(4096).map(|record| record.commit(1, 0)).is_ok() {}
            drain(&mut consumer);
            producer.begin_forward_in_page(16).unwrap().commit(2, 0);
        }
        let mut expected = template.clone();
        expected[16..24].copy_from_slice(&1u64.to_ne_bytes());
        expected[32..40].copy_from_slice(&ticks().to_ne_bytes());
        let records = drain(&mut consumer);
        assert_eq!(records[0].bytes, expected);
        assert_eq!((records[0].header.misc, records[1].header.type_), (5, 2));
    }
}

fn lost_with_clock(clock: fn() -> u64) -> LostRecord {
    let template = [RecordHeader { type_: LOST, misc: 0, size: 32 }.to_bytes().as_slice(), &[0; 24]].concat();
    LostRecord::from_template(template, 16).unwrap().with_time(24, clock).unwrap()
}

thread_local! {
    /// The producer that [`reentering`] uses.
    static PRODUCER: OnceCell<Producer> = const { OnceCell::new() };
    /// What it reserved there.
    static RESERVED: Cell<Option<OpenReservation>> = const { Cell::new(None) };
}

/// A clock that reserves, once, from the producer that looks at it, and leaves that open.
fn reentering() -> u64 {
    if RESERVED.get().is_none() {
        // Before it comes back here: the count is still to be reported.
        RESERVED.set(Some(OpenReservation { position: 0, size: 0 }));
        PRODUCER.with(|producer| {
            let record = producer.get().unwrap().begin_forward_in_page(1024).unwrap();
            RESERVED.set(Some(OpenReservation { position: record.position(), size: record.size() }));
            std::mem::forget(record);
        });
    }
    ticks()
}

#[test]
fn a_clock_that_reserves_gets_bytes_of_its_own() {
    let (producer, mut consumer) = ends(Ring::confined(4).lost_record(Some(lost_with_clock(reentering))));
    while producer.begin_forward_in_page(1024).map(|record| record.commit(1, 0)).is_ok() {}
    drain(&mut consumer);
    PRODUCER.with(|cell| {
        let producer = cell.get_or_init(|| producer);
        let outer = producer.begin_forward_in_page(1024).unwrap();
        let (outer_at, inner) = (outer.position(), RESERVED.get().expect("the clock was read"));
        assert_eq!(inner.size, 1024);
        assert!(inner.position + 1024 <= outer_at, "{inner:?} and one at {outer_at}");
        let outer_open = OpenReservation { position: outer_at, size: 1024 };
        assert_eq!(producer.open_reservations(), [inner, outer_open]);
        outer.commit(2, 0);
        assert_eq!(producer.open_reservations(), [inner]);
        assert_eq!((producer.lost_total(), producer.lost_pending()), (1, 0));
    });
    // What was lost is reported once, before what is open for good.
    let records = drain(&mut consumer);
    assert_eq!(records.iter().map(lost_count).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_clock_that_panics_blocks_no_shared_producer() {
    thread_local! {
        static SOUND: Cell<bool> = const { Cell::new(false) };
    }
    fn panicking() -> u64 {
        assert!(SOUND.get(), "the clock's panic, which this test wants");
        ticks()
    }
    let ring = Ring::confined(4).lost_record(Some(lost_with_clock(panicking))).private().unwrap();
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    while producer.begin_forward_in_page(1024).map(|record| record.commit(1, 0)).is_ok() {}
    drain(&mut consumer);
    for _ in 0..3 {
        let begun = catch_unwind(AssertUnwindSafe(|| producer.begin_forward_in_page(1024).map(|_| ())));
        assert!(begun.is_err());
        assert_eq!(producer.open_reservations(), []);
    }
    assert_eq!((producer.lost_total(), producer.lost_pending()), (1, 1));
    SOUND.set(true);
    producer.begin_forward_in_page(1024).unwrap().commit(2, 0);
    let records = drain(&mut consumer);
    assert_eq!((lost_count(&records[0]), records[1].header.type_, records.len()), (1, 2, 2));
}

#[test]
fn bad_lost_templates_are_typed_errors() {
    let header = |size| RecordHeader { type_: LOST, misc: 0, size }.to_bytes().to_vec();
    let whole = |size: u16| [header(size), vec![0; usize::from(size) - 8]].concat();
    let refused = |template: Vec<u8>, at| {
        let len = template.len();
        match LostRecord::from_template(template, at) {
            Err(SetupError::LostTemplate { len: found, .. }) => assert_eq!(found, len),
            other => panic!("{other:?}"),
        }
    };
    refused(Vec::new(), 0);
    refused(vec![0; 7], 0);
    refused(header(24), 8);
    refused([header(20), vec![0; 12]].concat(), 8);
    refused(whole(24), 0);
    refused(whole(24), 17);
    refused(whole(24), usize::MAX);
    refused(header(8), 8);
    assert!(LostRecord::from_template(whole(16), 8).is_ok());
    let lost = LostRecord::from_template(whole(24), 8).unwrap();
    for at in [0, 7, 17, usize::MAX] {
        assert!(matches!(lost.clone().with_time(at, ticks), Err(SetupError::LostTemplate { .. })));
    }
    let large = LostRecord::from_template(whole(4104), 8).unwrap();
    let error = Ring::confined(4).lost_record(Some(large)).private().map(|_| ()).unwrap_err();
    assert!(matches!(error, SetupError::LostTemplate { len: 4104, .. }));
}

#[test]
fn without_a_lost_record_only_the_counter_tells() {
    let (producer, mut consumer) = ends(Ring::confined(4).lost_record(None));
    while producer.begin_forward_in_page(4096).map(|record| record.commit(1, 0)).is_ok() {}
    assert_eq!((producer.lost_total(), producer.lost_pending()), (1, 0));
    drain(&mut consumer);
    push(&producer, 16, 2);
    assert_eq!(types(&mut consumer), [2]);
    assert_eq!(consumer.lost_total(), Some(1));
}

#[test]
fn a_report_that_cannot_go_with_a_record_waits_for_a_smaller_one() {
    let (producer, mut consumer) = ends(Ring::free(1));
    producer.begin_forward(4088).unwrap().commit(1, 0);
    assert!(producer.begin_forward(8).is_err());
    drain(&mut consumer);
    producer.begin_forward(4088).unwrap().commit(2, 0);
    assert_eq!(types(&mut consumer), [2]);
    assert_eq!(producer.lost_pending(), 1);
    producer.begin_forward(4064).unwrap().commit(3, 0);
    assert_eq!(types(&mut consumer), [LOST, 3]);
}

// Overwriting rings.

fn write(producer: &perfring::ring::OverwriteProducer, forward: bool, i: u64, size: usize) {
    let begun = if forward { producer.begin_forward_in_page(size) } else { producer.begin_backward(size) };
    let mut record = begun.unwrap();
    record.put(&i.to_ne_bytes());
    record.put(&body(i, size - 16));
    record.commit(9, 0);
}

fn number(record: &OwnedRecord) -> u64 {
    let i = u64::from_ne_bytes(record.bytes[8..16].try_into().unwrap());
    assert_eq!(record.bytes[16..], body(i, record.bytes.len() - 16));
    i
}

#[test]
fn overwrite_forward_keeps_the_newest_granules() {
    for (padding, start) in [(Padding::Zero, 0), (Padding::Header, NEAR_WRAP), (Padding::Zero, NEAR_WRAP - 3 * SIZE)] {
        let ring =
            Ring::confined(4).mode(Mode::OverwriteForward).padding(padding).start_position(start).private().unwrap();
        let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
        for i in 0..1000 {
            write(&producer, true, i, 104 + (i as usize % 7) * 8);
        }
        let numbers: Vec<_> = drain(&mut consumer).iter().map(number).collect();
        assert_eq!(numbers, (1000 - numbers.len() as u64..1000).collect::<Vec<_>>());
        assert!(numbers.len() as u64 > 3 * PAGE / 160, "{}", numbers.len());
        // While it goes on: only what is new, and no pause.
        for i in 1000..1050 {
            write(&producer, true, i, 104);
        }
        let numbers: Vec<_> = drain(&mut consumer).iter().map(number).collect();
        assert_eq!(numbers, (1000..1050).collect::<Vec<_>>());
        assert_eq!(consumer.stats().skipped, 0);
        assert_eq!(producer.lost_total(), 0);
    }
}

#[test]
fn overwrite_forward_from_its_start_is_read_whole() {
    let ring = Ring::confined(4).mode(Mode::OverwriteForward).start_position(NEAR_WRAP).private().unwrap();
    let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
    assert!(drain(&mut consumer).is_empty());
    for i in 0..SIZE / 128 {
        write(&producer, true, i, 128);
    }
    assert_eq!(drain(&mut consumer).len() as u64, SIZE / 128);
}

#[test]
fn what_was_overwritten_unread_is_reported() {
    let ring = Ring::confined(4).mode(Mode::OverwriteForward).private().unwrap();
    let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
    write(&producer, true, 0, 64);
    assert_eq!(drain(&mut consumer).len(), 1);
    for i in 1..1000 {
        write(&producer, true, i, 64);
    }
    let mut numbers = Vec::new();
    let mut missing = 0;
    for result in consumer.drain().owned() {
        match result {
            Ok(record) => numbers.push(number(&record)),
            Err(error) => {
                assert_eq!((error.kind, error.position), (ReadErrorKind::Overwritten, 64));
                missing += error.skipped;
            }
        }
    }
    assert_eq!(numbers.last(), Some(&999));
    assert_eq!(missing, (numbers[0] - 1) * 64);
    assert_eq!(consumer.stats().skipped, missing);
}

#[test]
fn overwrite_backward_gives_the_newest_first() {
    for start in [0, NEAR_WRAP, 2 * SIZE] {
        let ring = Ring::free(4).mode(Mode::OverwriteBackward).start_position(start).private().unwrap();
        let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
        assert!(drain(&mut consumer).is_empty());
        for i in 0..10 {
            write(&producer, false, i, 104);
        }
        let numbers: Vec<_> = drain(&mut consumer).iter().map(number).collect();
        assert_eq!(numbers, (0..10).rev().collect::<Vec<_>>());
        assert!(drain(&mut consumer).is_empty());
        for i in 10..1000 {
            write(&producer, false, i, 104);
        }
        let (mut numbers, mut errors) = (Vec::new(), Vec::new());
        for result in consumer.drain().owned() {
            match result {
                Ok(record) => numbers.push(number(&record)),
                Err(error) => errors.push(error),
            }
        }
        let kept = SIZE / 104;
        assert_eq!(numbers, (1000 - kept..1000).rev().collect::<Vec<_>>());
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].kind, ReadErrorKind::Overwritten);
        write(&producer, false, 1000, 104);
        let numbers: Vec<_> = drain(&mut consumer).iter().map(number).collect();
        assert_eq!(numbers, [1000]);
    }
}

#[test]
fn an_open_reservation_is_never_lapped() {
    let ring = Ring::confined(4).mode(Mode::OverwriteForward).private().unwrap();
    let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
    for i in 0..500 {
        write(&producer, true, i, 104);
    }
    let mut open = producer.begin_forward_in_page(104).unwrap();
    let position = open.position();
    open.put(&500u64.to_ne_bytes());
    let mut nested = 500;
    loop {
        match producer.begin_forward_in_page(104) {
            Ok(mut record) => {
                nested += 1;
                record.put(&u64::to_ne_bytes(nested));
                record.put(&body(nested, 88));
                record.commit(9, 0);
            }
            Err(error) => {
                assert!(matches!(error, BeginError::Full { .. }));
                break;
            }
        }
    }
    assert_eq!(producer.lost_total(), 1);
    assert_eq!(producer.open_reservations(), [OpenReservation { position, size: 104 }]);
    open.put(&body(500, 88));
    open.commit(9, 0);
    let numbers: Vec<_> = drain(&mut consumer).iter().map(number).collect();
    // The one that was open may share its granule with what the last nested one had given up.
    assert_eq!(*numbers.last().unwrap(), nested);
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert!(numbers.len() as u64 * 104 > 2 * PAGE);

    let ring = Ring::free(4).mode(Mode::OverwriteBackward).private().unwrap();
    let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
    let mut open = producer.begin_backward(104).unwrap();
    open.put(&0u64.to_ne_bytes());
    open.put(&body(0, 88));
    let mut nested = 0;
    while let Ok(mut record) = producer.begin_backward(104) {
        nested += 1;
        record.put(&u64::to_ne_bytes(nested));
        record.put(&body(nested, 88));
        record.commit(9, 0);
    }
    assert_eq!(nested + 1, (SIZE - 8) / 104);
    assert!(!consumer.is_ready());
    open.commit(9, 0);
    let numbers: Vec<_> = drain(&mut consumer).iter().map(number).collect();
    assert_eq!(numbers, (0..=nested).rev().collect::<Vec<_>>());
    assert_eq!(producer.lost_pending(), 1);
}

#[test]
fn overwriting_rings_commit_shorter_discard_and_zero() {
    for forward in [true, false] {
        let (ring, mode) = if forward {
            (Ring::confined(4), Mode::OverwriteForward)
        } else {
            (Ring::free(4), Mode::OverwriteBackward)
        };
        let ring = ring.mode(mode).private().unwrap();
        let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
        let begin =
            |size| if forward { producer.begin_forward_in_page(size) } else { producer.begin_backward(size) }.unwrap();
        for _ in 0..10 {
            let mut record = begin(4096);
            record.put(&[0xff; 4088]);
            record.commit(1, 0);
        }
        let _ = consumer.for_each(|_| ());
        let mut one = begin(104);
        one.put(&[0x11; 13]);
        one.commit(2, 0);
        let mut two = begin(104);
        two.put(&[0x22; 70]);
        two.commit_len(40, 3, 0).unwrap();
        begin(104).discard();
        let outer = begin(64);
        let mut inner = begin(48);
        inner.put(&[0x33; 5]);
        inner.commit(4, 0);
        drop(outer);
        let bad = begin(48);
        assert_eq!(bad.commit_len(49, 1, 0).unwrap_err(), CommitLenError { size: 49, reserved: 48 });
        let mut records = drain(&mut consumer);
        if !forward {
            records.reverse();
        }
        assert_eq!(records.iter().map(|record| record.header.type_).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(records[0].bytes[8..21], [0x11; 13]);
        assert!(records[0].bytes[21..].iter().all(|&byte| byte == 0));
        assert_eq!(records[1].bytes[8..], [0x22; 32]);
        assert_eq!(records[2].bytes[8..13], [0x33; 5]);
        assert!(records[2].bytes[13..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn overwriting_rings_report_losses_too() {
    for forward in [true, false] {
        let builder = if forward {
            Ring::confined(4).mode(Mode::OverwriteForward)
        } else {
            Ring::free(4).mode(Mode::OverwriteBackward)
        };
        let ring = builder.private().unwrap();
        let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
        let begin = |size| if forward { producer.begin_forward_in_page(size) } else { producer.begin_backward(size) };
        let open = begin(4096).unwrap();
        while begin(4096).map(|record| record.commit(1, 0)).is_ok() {}
        open.commit(1, 0);
        assert_eq!((producer.lost_total(), producer.lost_pending()), (1, 1));
        begin(16).unwrap().commit(5, 0);
        let records = drain(&mut consumer);
        let at = records.iter().position(|record| record.header.type_ == LOST).unwrap();
        assert_eq!(lost_count(&records[at]), 1);
        let beside = if forward { at + 1 } else { at - 1 };
        assert_eq!(records[beside].header.type_, 5);
        assert_eq!(producer.lost_pending(), 0);
    }
}

#[test]
fn an_overwriting_ring_is_read_while_it_is_written() {
    let ring = Ring::confined(4).mode(Mode::OverwriteForward).private().unwrap();
    let mut consumer = ring.consumer().unwrap();
    let producer = ring.overwrite_producer().unwrap();
    const COUNT: u64 = 60_000;
    let writer = std::thread::spawn(move || {
        for i in 0..COUNT {
            write(&producer, true, i, 64 + (i as usize % 5) * 40);
        }
    });
    let mut next = 0;
    let mut read = 0;
    loop {
        let finished = writer.is_finished();
        for result in consumer.drain().owned() {
            match result {
                Ok(record) => {
                    let i = number(&record);
                    assert!(i >= next, "{i} after {next}");
                    next = i + 1;
                    read += 1;
                }
                Err(error) => assert_eq!(error.kind, ReadErrorKind::Overwritten),
            }
        }
        if finished {
            break;
        }
    }
    writer.join().unwrap();
    assert_eq!(next, COUNT);
    assert!(read > 100);
}

// The consumer.

#[test]
fn space_comes_back_during_a_long_drain() {
    for (every, builder) in [
        (None, Ring::confined(8)),
        (Some(0), Ring::confined(8)),
        (Some(1000), Ring::free(8).start_position(NEAR_WRAP)),
        (Some(u64::MAX), Ring::confined(8)),
    ] {
        let (producer, mut consumer) = ends(builder.lost_record(None));
        let bound = every.unwrap_or(consumer.size() / 4);
        if let Some(every) = every {
            consumer.set_release_every(every);
        }
        while producer.begin_forward_in_page(64).map(|record| record.commit(1, 0)).is_ok() {}
        let (mut seen, mut held_most, mut came_back) = (0u64, 0, 0);
        consumer
            .for_each(|record| {
                assert_eq!(record.header().type_, 1);
                // What was read before this record, less what came back as space so far.
                while producer.begin_forward_in_page(64).map(|record| record.commit(2, 0)).is_ok() {
                    came_back += 64;
                }
                held_most = held_most.max((seen * 64).saturating_sub(came_back));
                seen += 1;
            })
            .unwrap();
        if bound == u64::MAX {
            assert_eq!(came_back, 0);
        } else {
            assert!(held_most <= bound + 64, "{held_most} bytes held, {bound} allowed");
        }
        // The rest comes back when the drain is dropped.
        while producer.begin_forward_in_page(64).map(|record| record.commit(2, 0)).is_ok() {
            came_back += 64;
        }
        assert_eq!(came_back, seen * 64);
    }
}

#[test]
fn a_drain_dropped_early_gives_back_what_it_read_and_goes_on_behind() {
    let (producer, mut consumer) = ends(Ring::confined(4).lost_record(None));
    for i in 0..4 {
        let size = if i == 3 { 4088 } else { 4096 };
        push(&producer, size, i);
    }
    assert!(producer.begin_forward_in_page(4096).is_err());
    let mut drain_once = consumer.drain();
    assert_eq!(drain_once.next().unwrap().unwrap().header().type_, 0);
    assert!(producer.begin_forward_in_page(4096).is_err());
    drop(drain_once);
    push(&producer, 4080, 4);
    assert_eq!(types(&mut consumer), [1, 2, 3, 4]);
}

#[test]
fn a_drain_ends_although_the_producer_keeps_producing() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    for _ in 0..10 {
        push(&producer, 64, 1);
    }
    let read = consumer.for_each(|_| _ = push(&producer, 64, 2)).unwrap();
    assert_eq!(read, 10);
    assert_eq!(types(&mut consumer), [2; 10]);
}

#[test]
fn owned_records_outlive_the_drain() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    let positions: Vec<_> = (0..3).map(|i| push(&producer, 64, i)).collect();
    let records: Vec<OwnedRecord> = consumer.drain().owned().collect::<Result<_, _>>().unwrap();
    for _ in 0..4 {
        push(&producer, 4032, 7);
        drain(&mut consumer);
    }
    for (i, record) in records.iter().enumerate() {
        assert_eq!((record.header.type_, record.position), (i as u32, positions[i]));
        assert_eq!(record.bytes[8..], body(positions[i], 56));
        assert_eq!(record.bytes[..8], record.header.to_bytes());
    }
}

#[test]
fn a_lent_record_shows_header_body_and_position() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    push(&producer, 64, 1);
    let position = push(&producer, 24, 0xffff_ffff);
    let mut drain = consumer.drain();
    assert_eq!(drain.next().unwrap().unwrap().bytes().len(), 64);
    let record = drain.next().unwrap().unwrap();
    assert_eq!(record.header(), RecordHeader { type_: 0xffff_ffff, misc: 0, size: 24 });
    assert_eq!((record.body(), record.position()), (&body(position, 16)[..], position));
    assert!(drain.next().is_none());
    assert!(drain.next().is_none());
}

// Wake-ups.

#[test]
fn wait_says_what_it_ended_with() {
    let (producer, mut consumer) = ends(Ring::confined(4));
    assert_eq!(consumer.wait(Some(Duration::from_millis(1))).unwrap(), Wait::TimedOut);
    assert_eq!(consumer.wait(Some(Duration::ZERO)).unwrap(), Wait::TimedOut);
    push(&producer, 64, 1);
    assert_eq!(consumer.wait(LONG).unwrap(), Wait::Ready);
    // What was published before the ring closed is ready first.
    drop(producer);
    assert!(consumer.is_closed());
    assert_eq!(consumer.wait(LONG).unwrap(), Wait::Ready);
    assert_eq!(types(&mut consumer), [1]);
    assert_eq!(consumer.wait(LONG).unwrap(), Wait::Closed);
    assert_eq!(consumer.wait(None).unwrap(), Wait::Closed);
}

#[test]
fn a_sleeping_consumer_is_woken_by_records_and_by_the_end() {
    for wake in [Wake::Events(1), Wake::Bytes(0), Wake::Never] {
        let ring = Ring::confined(4).wake(wake).private().unwrap();
        let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            loop {
                match consumer.wait(LONG).unwrap() {
                    Wait::Ready => seen += drain(&mut consumer).len(),
                    end => return (seen, end),
                }
            }
        });
        for i in 0..200 {
            while producer.begin_forward_in_page(512).map(|record| record.commit(i, 0)).is_err() {
                std::thread::yield_now();
            }
            if i % 50 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let reported = producer.lost_total();
        drop(producer);
        let (seen, end) = reader.join().unwrap();
        assert_eq!(end, Wait::Closed);
        assert!(seen >= 200 && seen as u64 <= 200 + reported);
    }
}

#[test]
fn the_bell_rings_at_the_watermark_and_not_before() {
    // Publications of 64 bytes each until the descriptor is readable.
    let rings_after = |wake, shared: bool| {
        let ring = Ring::confined(4).wake(wake).private().unwrap();
        let mut consumer = ring.consumer().unwrap();
        let (single, many): (Option<Producer>, Option<SharedProducer>) =
            if shared { (None, ring.shared_producer().ok()) } else { (ring.producer().ok(), None) };
        let mut counts = Vec::new();
        for _ in 0..3 {
            drain(&mut consumer);
            assert!(!consumer.arm());
            assert!(!readable(consumer.as_fd().unwrap()));
            let mut count = 0;
            while !readable(consumer.as_fd().unwrap()) {
                count += 1;
                if let Some(producer) = &single {
                    producer.begin_forward_in_page(64).unwrap().commit(1, 0);
                }
                if let Some(producer) = &many {
                    producer.begin_forward_in_page(64).unwrap().commit(1, 0);
                }
            }
            assert!(consumer.arm());
            counts.push(count);
        }
        counts
    };
    for shared in [false, true] {
        assert_eq!(rings_after(Wake::Events(1), shared), [1, 1, 1]);
        assert_eq!(rings_after(Wake::Events(0), shared), [1, 1, 1]);
        assert_eq!(rings_after(Wake::Events(5), shared), [5, 5, 5]);
        assert_eq!(rings_after(Wake::Bytes(0), shared), [1, 1, 1]);
        assert_eq!(rings_after(Wake::Bytes(640), shared), [10, 10, 10]);
        assert_eq!(rings_after(Wake::Bytes(65), shared)[0], 2);
    }
}

#[test]
fn flush_rings_below_the_watermark_only_if_the_consumer_wants_it() {
    let ring = Ring::confined(4).wake(Wake::Events(1000)).private().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    assert!(!consumer.arm());
    push(&producer, 64, 1);
    assert!(!readable(consumer.as_fd().unwrap()));
    producer.flush();
    assert!(readable(consumer.as_fd().unwrap()));
    assert!(consumer.arm());
    assert!(!readable(consumer.as_fd().unwrap()));
    drain(&mut consumer);
    producer.flush();
    assert!(readable(consumer.as_fd().unwrap()));
    // The bell was answered but not armed again.
    let mut count = [0; 8];
    std::io::Read::read_exact(&mut File::from(consumer.as_fd().unwrap().try_clone_to_owned().unwrap()), &mut count)
        .unwrap();
    producer.flush();
    assert!(!readable(consumer.as_fd().unwrap()));
}

#[test]
fn overwriting_rings_wake_their_reader() {
    let ring = Ring::confined(4).mode(Mode::OverwriteForward).wake(Wake::Events(3)).private().unwrap();
    let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
    assert!(!consumer.arm());
    write(&producer, true, 0, 64);
    write(&producer, true, 1, 64);
    assert!(!readable(consumer.as_fd().unwrap()));
    write(&producer, true, 2, 64);
    assert!(readable(consumer.as_fd().unwrap()));
    assert_eq!(drain(&mut consumer).len(), 3);
    drop(producer);
    assert_eq!(consumer.wait(LONG).unwrap(), Wait::Closed);
}

// Many producers.

#[test]
fn records_of_many_threads_all_arrive_in_each_threads_order() {
    const THREADS: u64 = 4;
    const EACH: u64 = 10_000;
    let builders = [
        Ring::confined(4),
        Ring::confined(8).padding(Padding::Header).start_position(NEAR_WRAP),
        Ring::free(4).start_position(NEAR_WRAP),
        Ring::confined(16).granule(16384),
    ];
    for (which, builder) in builders.into_iter().enumerate() {
        let builder = builder.lost_record(None);
        // In one ring the header page is not this process's alone.
        let ring = if which == 1 { builder.memfd() } else { builder.private() }.unwrap();
        let shared = ring.shared_producer().unwrap();
        let mut consumer = ring.consumer().unwrap();
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let producer = shared.clone();
                std::thread::spawn(move || {
                    for i in 0..EACH {
                        let size = 24 + ((thread * 7 + i * 13) % 40) as usize * 8;
                        let head = [thread.to_ne_bytes(), i.to_ne_bytes()].concat();
                        let rest = body(thread << 32 | i, size - 24);
                        loop {
                            let done = if which == 2 && i % 2 == 0 {
                                producer.begin_forward(size).map(|mut record| {
                                    record.put(&head);
                                    record.put(&rest);
                                    record.commit(9, 0);
                                })
                            } else {
                                producer.begin_forward_in_page(size).map(|mut record| {
                                    record.put(&head);
                                    record.put(&rest);
                                    if i % 11 == 0 {
                                        // A nested one that is given up.
                                        drop(producer.begin_forward_in_page(40));
                                    }
                                    record.commit(9, 0);
                                })
                            };
                            match done {
                                Ok(()) => break,
                                Err(BeginError::Full { .. }) => std::thread::yield_now(),
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                })
            })
            .collect();
        drop(shared);
        let mut next = [0; THREADS as usize];
        loop {
            let end = consumer.wait(LONG).unwrap();
            consumer
                .for_each(|record| {
                    let body_ = record.body();
                    let thread = u64::from_ne_bytes(body_[..8].try_into().unwrap());
                    let i = u64::from_ne_bytes(body_[8..16].try_into().unwrap());
                    assert_eq!(i, next[thread as usize], "thread {thread}");
                    assert_eq!(body_[16..], body(thread << 32 | i, body_.len() - 16));
                    next[thread as usize] += 1;
                })
                .unwrap();
            match end {
                Wait::Ready => {}
                Wait::Closed => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(next, [EACH; THREADS as usize]);
        for writer in writers {
            writer.join().unwrap();
        }
    }
}

#[test]
fn losses_of_many_threads_are_counted_exactly() {
    const THREADS: u64 = 4;
    const EACH: u64 = 5_000;
    for start in [0, NEAR_WRAP] {
        let ring = Ring::confined(4).start_position(start).private().unwrap();
        let shared = ring.shared_producer().unwrap();
        let mut consumer = ring.consumer().unwrap();
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let producer = shared.clone();
                std::thread::spawn(move || {
                    let mut refused = 0;
                    for i in 0..EACH {
                        match producer.begin_forward_in_page(64 + ((thread + i) % 50) as usize * 8) {
                            Ok(record) => record.commit(9, 0),
                            Err(BeginError::Full { .. }) => refused += 1,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    refused
                })
            })
            .collect();
        let (mut read, mut lost) = (0, 0);
        let mut count = |record: perfring::ring::Record<'_>| match record.header().type_ {
            LOST => lost += lost_count(&record.into()),
            _ => read += 1,
        };
        while writers.iter().any(|writer| !writer.is_finished()) {
            consumer.for_each(&mut count).unwrap();
        }
        consumer.for_each(&mut count).unwrap();
        let refused: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        assert_eq!(read + refused, THREADS * EACH);
        assert_eq!(shared.lost_total(), refused);
        assert_eq!(THREADS * EACH, read + lost + shared.lost_pending());
    }
}

#[test]
fn shared_reservations_are_contiguous_zeroed_and_wrap_as_single_ones() {
    let ring = Ring::free(1).private().unwrap();
    let (shared, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let mut record = shared.begin_forward(4064).unwrap();
    record.put(&[0xff; 4056]);
    record.commit(1, 0);
    drain(&mut consumer);
    let mut record = shared.begin_forward(64).unwrap();
    let (first, second) = record.body_mut();
    assert_eq!((first.len(), second.len()), (24, 32));
    assert!(first.iter().chain(&*second).all(|&byte| byte == 0));
    second[31] = 7;
    record.commit(2, 0);
    let record = &drain(&mut consumer)[0];
    assert_eq!(record.bytes[8..63], [0; 55]);
    assert_eq!(record.bytes[63], 7);
}

// Handles and errors.

#[test]
fn each_end_is_given_out_once_and_only_for_its_mode() {
    let ring = Ring::confined(4).private().unwrap();
    assert!(matches!(ring.overwrite_producer().map(|_| ()), Err(SetupError::WrongMode { mode: Mode::Lossless, .. })));
    let producer = ring.producer().unwrap();
    assert!(matches!(ring.producer().map(|_| ()), Err(SetupError::Taken { handle: "producer" })));
    assert!(matches!(ring.shared_producer().map(|_| ()), Err(SetupError::Taken { handle: "producer" })));
    let consumer = ring.consumer().unwrap();
    assert!(matches!(ring.consumer().map(|_| ()), Err(SetupError::Taken { handle: "consumer" })));
    drop((producer, consumer));
    assert!(matches!(ring.producer().map(|_| ()), Err(SetupError::Taken { .. })));

    let ring = Ring::confined(4).mode(Mode::OverwriteForward).private().unwrap();
    for refused in [ring.producer().map(|_| ()), ring.shared_producer().map(|_| ())] {
        assert!(matches!(refused, Err(SetupError::WrongMode { mode: Mode::OverwriteForward, .. })));
    }
    let producer = ring.overwrite_producer().unwrap();
    assert!(matches!(ring.overwrite_producer().map(|_| ()), Err(SetupError::Taken { handle: "producer" })));
    assert_eq!(
        producer.begin_backward(64).map(|_| ()).unwrap_err(),
        BeginError::Direction { mode: Mode::OverwriteForward }
    );
    let ring = Ring::free(4).mode(Mode::OverwriteBackward).private().unwrap();
    let producer = ring.overwrite_producer().unwrap();
    assert_eq!(
        producer.begin_forward_in_page(64).map(|_| ()).unwrap_err(),
        BeginError::Direction { mode: Mode::OverwriteBackward }
    );
    assert_eq!(producer.lost_total(), 0);
    assert!(matches!(ring.fds().map(|_| ()), Err(SetupError::Io { .. })));
}

#[test]
fn a_consumer_outlives_ring_and_producer() {
    let ring = Ring::confined(4).private().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    push(&producer, 64, 1);
    drop((ring, producer));
    assert_eq!(types(&mut consumer), [1]);
    assert!(consumer.is_closed());
}

#[test]
fn a_ring_describes_itself_inline_and_on_overflow_pages() {
    let small: Vec<u8> = (0..136).map(|i| i as u8).collect();
    let large: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
    for (attrs, offset) in [
        (vec![], 4096),
        (vec![(small.clone(), vec![1, 2, 3])], 4096),
        (vec![(small.clone(), vec![]), (vec![1, 2, 3], vec![u64::MAX])], 4096),
        (vec![(small.clone(), (0..400).collect())], 8192),
        (vec![(large.clone(), vec![7]), (small.clone(), vec![8, 9])], 4096 + 20480),
    ] {
        let mut builder = Ring::confined(32).granule(16384).padding(Padding::Header).start_position(NEAR_WRAP);
        for (attr, ids) in &attrs {
            builder = builder.attr(attr.clone(), ids.clone());
        }
        let ring = builder.memfd().unwrap();
        let producer = ring.producer().unwrap();
        push(&producer, 64, 1);
        let consumer = Consumer::attach(ring.fds().unwrap()).unwrap();
        let found = consumer.description().unwrap();
        assert_eq!((found.data_offset, found.data_size), (offset, 32 * PAGE));
        assert_eq!((found.mode, found.padding, found.confined), (Mode::Lossless, Padding::Header, true));
        assert_eq!((found.granule, found.producer_pid), (16384, std::process::id()));
        let start = NEAR_WRAP & !16383;
        assert_eq!((found.data_head, found.data_tail), (start.wrapping_add(64), start));
        assert_eq!(found.attrs.iter().map(|entry| (entry.attr.clone(), entry.ids.clone())).collect::<Vec<_>>(), attrs);
        assert_eq!(ring.description().attrs, found.attrs);
        assert_eq!((found.len(), found.is_empty(), found.closed), (offset + 32 * PAGE, false, false));
    }
    let huge = Ring::confined(4).attr(vec![0; 5 << 20], vec![]).private().map(|_| ()).unwrap_err();
    assert!(matches!(huge, SetupError::AttrsTooLarge { .. }));
}

#[test]
fn descriptors_go_over_a_socket() {
    use std::os::fd::AsFd;
    let ring = Ring::confined(4).memfd().unwrap();
    let producer = ring.producer().unwrap();
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    ring.fds().unwrap().send(here.as_fd()).unwrap();
    let fds = perfring::ring::RingFds::receive(there.as_fd()).unwrap();
    assert!(fds.bell.is_some());
    let mut consumer = Consumer::attach(fds).unwrap();
    assert!(!consumer.arm());
    push(&producer, 64, 5);
    assert!(readable(consumer.as_fd().unwrap()));
    assert_eq!(types(&mut consumer), [5]);
    drop(here);
    assert!(perfring::ring::RingFds::receive(there.as_fd()).is_err());
}

#[test]
fn a_forked_childs_producer_is_dead() {
    let ring = Ring::confined(4).memfd().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let open = producer.begin_forward_in_page(64).unwrap();
    // SAFETY: the child takes no lock but that of malloc, which glibc makes usable in a child, and ends by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let dead = matches!(producer.begin_forward_in_page(64), Err(BeginError::Forked));
        open.commit(66, 0);
        drop(producer);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if dead { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: the status lives across the call; the child is ours.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
    assert!(!consumer.is_closed());
    assert!(!consumer.is_ready());
    open.commit(1, 0);
    assert_eq!(types(&mut consumer), [1]);
}

#[test]
fn what_can_be_reserved_fits_into_an_empty_ring_of_one_granule_wherever_its_head_is() {
    let ring = Ring::free(1).private().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    for before in (16..4096).step_by(8) {
        producer.begin_forward(before.min(4088)).unwrap().commit(9, 0);
        consumer.for_each(|_| ()).unwrap();
        producer.begin_forward_in_page(2048).unwrap().commit(9, 0);
        consumer.for_each(|_| ()).unwrap();
    }
    assert_eq!(producer.lost_total(), 0);
}

#[test]
fn a_pause_refuses_records_and_counts_them() {
    let ring = Ring::free(1).mode(Mode::OverwriteBackward).private().unwrap();
    let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
    producer.begin_backward(16).unwrap().commit(9, 0);
    consumer.pause();
    assert_eq!(producer.begin_backward(16).map(|_| ()), Err(BeginError::Paused));
    assert_eq!((producer.lost_total(), consumer.lost_total()), (1, Some(1)));
    assert_eq!(consumer.for_each(|record| assert_eq!(record.header().type_, 9)), Ok(1));
    consumer.resume();
    producer.begin_backward(16).unwrap().commit(10, 0);
    let mut types = Vec::new();
    consumer.for_each(|record| types.push(record.header().type_)).unwrap();
    assert_eq!(types, [10, 2], "the newest first, and before it what was lost");
}

// Spans.

/// What `count` records of growing size are in a free ring, at once or in pieces.
fn fill(producer: &Producer, sizes: impl IntoIterator<Item = usize>, expected: &mut Vec<u8>) {
    for size in sizes {
        let bytes = body(size as u64, size - HEADER_SIZE);
        let mut record = producer.begin_forward(size).unwrap();
        record.put(&bytes);
        record.commit(9, 3);
        expected.extend(9_u32.to_ne_bytes());
        expected.extend([3, size as u16].map(u16::to_ne_bytes).concat());
        expected.extend(bytes);
    }
}

#[test]
fn a_span_is_all_that_is_published_and_wraps() {
    for start in [0, 0u64.wrapping_sub(SIZE), NEAR_WRAP] {
        let (producer, mut consumer) = ends(Ring::free(4).start_position(start));
        let (mut expected, mut taken, mut wrapped, mut straddled) = (Vec::new(), Vec::new(), 0, 0);
        assert_eq!(consumer.take_span(|_, _| ()), Ok(None));
        for round in 0..200_usize {
            let sizes = (1..=round % 7).map(|index| 8 * (1 + (round * 13 + index * 29) % 100));
            fill(&producer, sizes, &mut expected);
            let position = consumer.position();
            let len = expected.len() - taken.len();
            let span = consumer.take_span(|first, second| {
                let before_end = (SIZE - position % SIZE) as usize;
                assert_eq!(first.len(), len.min(before_end));
                wrapped += usize::from(!second.is_empty());
                // Does the last record of the first piece end in the second?
                let mut rest = first;
                while let Some(header) = rest.first_chunk().map(|word| RecordHeader::from_bytes(*word)) {
                    straddled += usize::from(usize::from(header.size) > rest.len());
                    rest = rest.get(usize::from(header.size)..).unwrap_or_default();
                }
                taken.extend([first, second].concat());
            });
            assert_eq!(span, Ok((len > 0).then_some(())));
            assert_eq!(consumer.position(), position.wrapping_add(len as u64));
            assert!(taken == expected);
        }
        assert!(wrapped > 5 && straddled > 2, "{wrapped} wrapped, {straddled} straddled");
        // As much as there can be: the space was given back.
        fill(&producer, [SIZE as usize / 2, SIZE as usize / 2 - 8], &mut expected);
        assert_eq!(consumer.take_span(|first, second| first.len() + second.len()), Ok(Some(SIZE as usize - 8)));
        assert_eq!(producer.lost_total(), 0);
    }
}

#[test]
fn spans_and_drains_take_turns() {
    let (producer, mut consumer) = ends(Ring::free(4));
    let mut expected = Vec::new();
    fill(&producer, [16, 24, 32], &mut expected);
    assert_eq!(consumer.drain().next().unwrap().unwrap().bytes(), &expected[..16]);
    // A panic gives nothing back.
    catch_unwind(AssertUnwindSafe(|| consumer.take_span(|_, _| panic!("no disk")))).unwrap_err();
    assert_eq!(consumer.take_span(|first, second| [first, second].concat()), Ok(Some(expected[16..].to_vec())));
    fill(&producer, [40], &mut Vec::new());
    assert_eq!(types(&mut consumer), [9]);
    // What was discarded is a record that readers step over.
    let (discarded, record) = (producer.begin_forward(16).unwrap(), producer.begin_forward(16).unwrap());
    discarded.discard();
    record.commit(9, 0);
    let span = consumer.take_span(|first, _| RecordHeader::from_bytes(*first.first_chunk().unwrap()));
    assert_eq!(span, Ok(Some(RecordHeader { type_: RECORD_PADDING, misc: 0, size: 16 })));
}

#[test]
fn other_rings_have_no_spans() {
    let refused = |consumer: &mut Consumer, what: &str| {
        let error = consumer.take_span(|_, _| ()).unwrap_err();
        assert_eq!((error.kind, error.skipped, error.position), (ReadErrorKind::NoSpans, 0, 0), "{what}");
    };
    for (builder, what) in [
        (Ring::confined(4), "gaps"),
        (Ring::confined(4).padding(Padding::Header), "gaps that are records"),
        (Ring::confined(4).mode(Mode::OverwriteForward), "overwritten"),
        (Ring::free(4).mode(Mode::OverwriteBackward), "backward"),
    ] {
        let ring = builder.private().unwrap();
        refused(&mut ring.consumer().unwrap(), what);
    }
    let ring = Ring::free(4).memfd().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut expected = Vec::new();
    fill(&producer, [16], &mut expected);
    refused(&mut consumer, "others can write it");

    // A mapping of its own, of which it is said that nobody else writes it.
    let mut consumer = Consumer::attach(ring.fds().unwrap()).unwrap();
    // SAFETY: the producer is in this process, and its own.
    unsafe { consumer.trust_producer() };
    assert_eq!(consumer.take_span(|first, second| [first, second].concat()), Ok(Some(expected)));
    let header = File::from(ring.fds().unwrap().header);
    for head in [20, 16 + SIZE + 8, 8] {
        header.write_all_at(&u64::to_ne_bytes(head), 1024).unwrap();
        let kind = consumer.take_span(|_, _| ()).map_err(|error| error.kind);
        assert_eq!(kind, Err(ReadErrorKind::Head { head }));
    }
}
