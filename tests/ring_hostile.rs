//! Rings whose other side is hostile, or whose memory is damaged.
#![allow(unsafe_code)]

use perfring::ring::{
    AttachError, BeginError, Builder, Consumer, Description, HEADER_SIZE, Mode, OwnedRecord, Padding, Producer,
    RECORD_OPEN, RECORD_PADDING, ReadError, ReadErrorKind, RecordHeader, Ring, RingFds, SetupError, Wait, Wake,
};
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

const PAGE: u64 = 4096;
const SIZE: u64 = 4 * PAGE;
const NEAR_WRAP: u64 = 0u64.wrapping_sub(PAGE);

// Where things stand in a header page.
const DATA_HEAD: u64 = 1024;
const DATA_TAIL: u64 = 1032;
const DATA_OFFSET: u64 = 1040;
const DATA_SIZE: u64 = 1048;
const MAGIC: u64 = 1152;
const VERSION: u64 = 1160;
const BYTE_ORDER: u64 = 1164;
const MODE: u64 = 1168;
const CONFINED: u64 = 1172;
const GRANULE: u64 = 1176;
const PADDING: u64 = 1184;
const ATTRS_OFFSET: u64 = 1200;
const ATTRS_SIZE: u64 = 1208;
const RESERVED: u64 = 1344;
const NEED_WAKE: u64 = 1408;

/// Bounds a wait that must not take that long.
const LONG: Option<Duration> = Some(Duration::from_secs(60));

fn body(position: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (position.wrapping_mul(31).wrapping_add(i * 7) % 251 + 1) as u8).collect()
}

fn push(producer: &Producer, size: usize, type_: u32) -> u64 {
    let mut record = producer.begin_forward_in_page(size).unwrap();
    let position = record.position();
    record.put(&body(position, size - HEADER_SIZE));
    record.commit(type_, 0);
    position
}

fn set(file: &File, at: u64, value: u64) {
    file.write_all_at(&value.to_ne_bytes(), at).unwrap();
}

fn set32(file: &File, at: u64, value: u32) {
    file.write_all_at(&value.to_ne_bytes(), at).unwrap();
}

fn get(file: &File, at: u64) -> u64 {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    u64::from_ne_bytes(word)
}

fn word_of(type_: u32, size: u16) -> u64 {
    u64::from_ne_bytes(RecordHeader { type_, misc: 0, size }.to_bytes())
}

/// Everything up to the head: records and defects, in order. Panics when there is no end to it.
fn read_all(consumer: &mut Consumer) -> Vec<Result<OwnedRecord, ReadError>> {
    let most = consumer.size() as usize / 8 + 16;
    let items: Vec<_> = consumer.drain().owned().take(most).collect();
    assert!(items.len() < most, "no end");
    items
}

fn records(items: &[Result<OwnedRecord, ReadError>]) -> Vec<(u32, u64)> {
    items.iter().flatten().map(|record| (record.header.type_, record.position)).collect()
}

fn errors(items: &[Result<OwnedRecord, ReadError>]) -> Vec<ReadError> {
    items.iter().filter_map(|item| item.as_ref().err().copied()).collect()
}

/// A finished ring file: nobody writes it any more, so it can be damaged.
struct Image {
    _dir: TempDir,
    path: PathBuf,
    file: File,
}

impl Image {
    /// Of a ring that `fill` fills.
    fn of(builder: Builder, fill: impl FnOnce(&Ring)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        // SAFETY: nobody else knows the file; it is damaged only when the ring and its producer are gone.
        let ring = unsafe { builder.create_file(&path) }.unwrap();
        fill(&ring);
        drop(ring);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        Self { _dir: dir, path, file }
    }

    /// A confined one of four granules, the first three with 31 records of 128 bytes and a gap each, from type 0 on.
    fn granules() -> Self {
        Self::of(Ring::confined(4), |ring| {
            let producer = ring.producer().unwrap();
            for i in 0..93 {
                let size = if i % 31 == 30 { 240 } else { 128 };
                push(&producer, size, i);
            }
            push(&producer, 64, 93);
        })
    }

    fn open(&self) -> Consumer {
        Consumer::open_file(&self.path).unwrap()
    }

    fn refused(&self) -> AttachError {
        // SAFETY: nobody else writes the file.
        match unsafe { Ring::open_file(&self.path, None) } {
            Err(SetupError::Attach(_)) => {}
            other => panic!("the writer: {:?}", other.map(|_| ())),
        }
        Consumer::open_file(&self.path).map(|_| ()).unwrap_err()
    }

    fn word(&self, position: u64, word: u64) {
        set(&self.file, PAGE + position % SIZE, word);
    }
}

// A hostile consumer.

fn hostile_tails(head: u64) -> Vec<u64> {
    let near = [0, 1, 7, 8, 4096, SIZE - 8, SIZE - 1, SIZE, SIZE + 8, 2 * SIZE, 1 << 32, 1 << 63, u64::MAX];
    near.iter().flat_map(|&by| [head.wrapping_sub(by), head.wrapping_add(by), by]).collect()
}

#[test]
fn any_data_tail_leaves_the_producer_inside_and_its_reservations_apart() {
    for builder in [Ring::confined(4), Ring::free(4), Ring::confined(4).start_position(NEAR_WRAP)] {
        for shared in [false, true] {
            let ring = builder.clone().memfd().unwrap();
            let fds = ring.fds().unwrap();
            let (header, data) = (File::from(fds.header), File::from(fds.data));
            let (single, many) =
                if shared { (None, ring.shared_producer().ok()) } else { (ring.producer().ok(), None) };
            let begin = |size| -> Result<u64, BeginError> {
                match (&single, &many) {
                    (Some(producer), _) => producer.begin_forward_in_page(size).map(|record| {
                        let position = record.position();
                        std::mem::forget(record);
                        position
                    }),
                    (_, Some(producer)) => producer.begin_forward_in_page(size).map(|record| {
                        let position = record.position();
                        std::mem::forget(record);
                        position
                    }),
                    _ => unreachable!(),
                }
            };
            // What is open lies in the ring without overlap, whatever the tail says.
            let mut open: Vec<(u64, u64)> = Vec::new();
            let (mut corrupt, mut full) = (0, 0);
            for round in 0..4 {
                let published = get(&header, DATA_HEAD);
                for tail in hostile_tails(published) {
                    set(&header, DATA_TAIL, tail);
                    let size = [8, 64, 1000, 4096][round];
                    let sound = published.wrapping_sub(tail) <= SIZE && tail % 8 == 0;
                    match begin(size) {
                        Ok(position) => {
                            let end = position.wrapping_add(size as u64);
                            for &(other, other_end) in &open {
                                assert!(
                                    other_end.wrapping_sub(position) as i64 <= 0 || end.wrapping_sub(other) as i64 <= 0
                                );
                            }
                            open.push((position, end));
                        }
                        Err(BeginError::CorruptTail { tail: found, head }) => {
                            assert!(!sound);
                            assert_eq!((found, head), (tail, published));
                            corrupt += 1;
                        }
                        Err(BeginError::Full { .. }) => {
                            assert!(sound);
                            full += 1;
                        }
                        Err(error) => panic!("{error}"),
                    }
                    if let (Some(&(first, _)), Some(&(_, last))) = (open.first(), open.last()) {
                        assert!(last.wrapping_sub(first) < SIZE);
                    }
                }
            }
            assert!(corrupt > 20 && full > 4 && !open.is_empty(), "{corrupt} {full} {}", open.len());
            assert_eq!(data.metadata().unwrap().len(), SIZE);
            let lost = single.as_ref().map_or_else(|| many.as_ref().unwrap().lost_total(), Producer::lost_total);
            assert_eq!(lost, corrupt + full);
        }
    }
}

#[test]
fn a_producer_recovers_when_the_tail_is_sound_again() {
    let ring = Ring::confined(4).memfd().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let header = File::from(ring.fds().unwrap().header);
    for i in 0..3 {
        push(&producer, 4096, i);
    }
    // Beyond the head, which would free the whole ring twice.
    set(&header, DATA_TAIL, 4 * PAGE);
    assert_eq!(
        producer.begin_forward_in_page(4096).map(|_| ()),
        Err(BeginError::CorruptTail { tail: 4 * PAGE, head: 3 * PAGE })
    );
    assert_eq!(producer.flush_lost(), Err(BeginError::CorruptTail { tail: 4 * PAGE, head: 3 * PAGE }));
    assert_eq!((producer.lost_total(), producer.lost_pending()), (1, 1));
    assert_eq!(records(&read_all(&mut consumer)), [(0, 0), (1, PAGE), (2, 2 * PAGE)]);
    push(&producer, 64, 3);
    assert_eq!(records(&read_all(&mut consumer)), [(2, 3 * PAGE), (3, 3 * PAGE + 24)]);
}

#[test]
fn a_tail_that_moves_while_reservations_are_open_lets_nothing_overlap() {
    let ring = Ring::free(4).memfd().unwrap();
    let producer = ring.producer().unwrap();
    let header = File::from(ring.fds().unwrap().header);
    push(&producer, 4096, 1);
    set(&header, DATA_TAIL, PAGE);
    let mut first = producer.begin_forward(8192).unwrap();
    first.put(&vec![1; 8184]);
    // A sound tail that goes back, and none goes beyond what is published: the head of what is open does not count.
    set(&header, DATA_TAIL, 0);
    assert_eq!(
        producer.begin_forward(8192).map(|_| ()).unwrap_err(),
        BeginError::Full { needed: 8192, free: SIZE - 8 - 3 * PAGE }
    );
    set(&header, DATA_TAIL, 3 * PAGE);
    assert!(matches!(producer.begin_forward(8192).map(|_| ()).unwrap_err(), BeginError::CorruptTail { .. }));
    let (body, rest) = first.body_mut();
    assert!(body.iter().all(|&byte| byte == 1) && rest.is_empty());
    first.commit(2, 0);
    assert_eq!(get(&header, DATA_HEAD), 3 * PAGE);
}

// A hostile producer: the header page changes under an attached consumer.

#[test]
fn any_header_page_leaves_an_attached_consumer_sound() {
    let values = {
        let mut values: Vec<u64> = [0, 8, PAGE, SIZE, 1 << 40, 1 << 62, 1 << 63].to_vec();
        values.extend([1, 3, 4, 5, 7, 13, SIZE + 1]);
        values.extend((0..values.len()).map(|i| values[i].wrapping_neg()).collect::<Vec<_>>());
        values
    };
    for mode in [Mode::Lossless, Mode::OverwriteForward, Mode::OverwriteBackward] {
        let builder = if mode == Mode::OverwriteBackward { Ring::free(4) } else { Ring::confined(4) };
        let ring = builder.mode(mode).memfd().unwrap();
        let header = File::from(ring.fds().unwrap().header);
        if mode == Mode::Lossless {
            push(&ring.producer().unwrap(), 64, 1);
        } else {
            let producer = ring.overwrite_producer().unwrap();
            for _ in 0..500 {
                if mode == Mode::OverwriteForward {
                    producer.begin_forward_in_page(64).unwrap().commit(1, 0);
                } else {
                    producer.begin_backward(64).unwrap().commit(1, 0);
                }
            }
        }
        let sound = [DATA_HEAD, DATA_TAIL, RESERVED].map(|at| (at, get(&header, at)));
        // Fresh consumers, and one that goes on through all of it.
        let mut old = Consumer::attach(ring.fds().unwrap()).unwrap();
        let (mut defects, mut read) = (0, 0);
        for &head in &values {
            for &other in &values {
                for relative in [false, true] {
                    for (at, value) in sound {
                        set(&header, at, value);
                    }
                    let mut fresh = Consumer::attach(ring.fds().unwrap()).unwrap();
                    let base = if relative { sound[0].1 } else { 0 };
                    set(&header, DATA_HEAD, base.wrapping_add(head));
                    set(&header, DATA_TAIL, base.wrapping_add(other));
                    set(&header, RESERVED, base.wrapping_add(other));
                    for consumer in [&mut fresh, &mut old] {
                        let items = read_all(consumer);
                        defects += errors(&items).len();
                        read += records(&items).len();
                        let items = read_all(consumer);
                        defects += errors(&items).len();
                        consumer.wait(Some(Duration::ZERO)).unwrap();
                    }
                }
            }
        }
        assert!(defects > 100, "{mode}: {defects}");
        assert!(read > 0);
    }
}

#[test]
fn a_head_outside_of_the_ring_is_a_typed_error_and_moves_nothing() {
    let ring = Ring::confined(4).memfd().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let header = File::from(ring.fds().unwrap().header);
    push(&producer, 64, 1);
    for head in [4, 65, 0u64.wrapping_sub(8), SIZE + 8, 1 << 63, u64::MAX] {
        set(&header, DATA_HEAD, head);
        let items = read_all(&mut consumer);
        assert_eq!(errors(&items), [ReadError { position: 0, kind: ReadErrorKind::Head { head }, skipped: 0 }]);
        assert_eq!((items.len(), consumer.position(), get(&header, DATA_TAIL)), (1, 0, 0));
    }
    set(&header, DATA_HEAD, 64);
    assert_eq!(records(&read_all(&mut consumer)), [(1, 0)]);
}

#[test]
fn a_head_that_moves_the_wrong_way_is_a_typed_error() {
    for (mode, wrong) in [(Mode::OverwriteForward, -64i64), (Mode::OverwriteBackward, 64)] {
        let builder = if mode == Mode::OverwriteBackward { Ring::free(4) } else { Ring::confined(4) };
        let ring = builder.mode(mode).memfd().unwrap();
        let (producer, mut consumer) = (ring.overwrite_producer().unwrap(), ring.consumer().unwrap());
        let header = File::from(ring.fds().unwrap().header);
        for _ in 0..10 {
            let begun = match mode {
                Mode::OverwriteForward => producer.begin_forward_in_page(64),
                _ => producer.begin_backward(64),
            };
            begun.unwrap().commit(1, 0);
        }
        assert_eq!(records(&read_all(&mut consumer)).len(), 10);
        let head = get(&header, DATA_HEAD);
        for by in [wrong, 16 * wrong, 1 << 62] {
            let wrong = head.wrapping_add_signed(if mode == Mode::OverwriteForward && by > 0 { -by } else { by });
            set(&header, DATA_HEAD, wrong);
            let items = read_all(&mut consumer);
            assert_eq!(items.len(), 1, "{mode} {by}");
            assert_eq!(errors(&items)[0].kind, ReadErrorKind::Head { head: wrong }, "{mode}");
        }
        set(&header, DATA_HEAD, head);
        assert!(read_all(&mut consumer).is_empty());
    }
}

// Damaged records.

#[test]
fn who_waits_is_told_once_of_a_head_that_cannot_be() {
    let ring = Ring::confined(4).memfd().unwrap();
    let (producer, mut consumer) = (ring.producer().unwrap(), Consumer::attach(ring.fds().unwrap()).unwrap());
    let header = File::from(ring.fds().unwrap().header);
    let (bad, short) = (1 << 40, Some(Duration::from_millis(20)));
    for head in [bad, bad + 8] {
        set(&header, DATA_HEAD, head);
        assert_eq!(consumer.wait(LONG).unwrap(), Wait::Ready);
        let error = ReadError { position: 0, kind: ReadErrorKind::Head { head }, skipped: 0 };
        assert_eq!(errors(&read_all(&mut consumer)), [error]);
        assert!(!consumer.is_ready());
        assert_eq!(consumer.wait(short).unwrap(), Wait::TimedOut);
    }
    // The producer knows its head: its next record is there, and so is the ring's end.
    push(&producer, 16, 9);
    assert_eq!(consumer.wait(LONG).unwrap(), Wait::Ready);
    assert_eq!(records(&read_all(&mut consumer)), [(9, 0)]);
    set(&header, DATA_HEAD, bad);
    assert_eq!(consumer.wait(LONG).unwrap(), Wait::Ready);
    assert_eq!(read_all(&mut consumer).len(), 1);
    drop(producer);
    assert_eq!(consumer.wait(LONG).unwrap(), Wait::Closed);
}

/// Runs `work` in a thread of its own, and gives what it came to, unless it is stuck.
fn not_stuck<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    result.recv_timeout(Duration::from_secs(60)).expect("it ends")
}

/// Makes the bell block whoever uses it without saying otherwise, as the other process can.
fn blocking(fds: &RingFds) -> i32 {
    let bell = fds.bell.as_ref().unwrap().as_raw_fd();
    // SAFETY: sets the flags of a descriptor that is open; takes no pointer.
    assert_eq!(unsafe { libc::fcntl(bell, libc::F_SETFL, 0) }, 0);
    bell
}

#[test]
fn no_bell_makes_a_producer_wait() {
    let ring = Ring::confined(4).wake(Wake::Events(1)).memfd().unwrap();
    let producer = ring.producer().unwrap();
    let fds = ring.fds().unwrap();
    let bell = blocking(&fds);
    let header = File::from(ring.fds().unwrap().header);
    // A reader that does not hear: it asks for a wake-up each time.
    not_stuck(move || {
        for _ in 0..5000 {
            set32(&header, NEED_WAKE, 1);
            producer.begin_forward_in_page(16).unwrap().commit(9, 0);
            set(&header, DATA_TAIL, get(&header, DATA_HEAD));
        }
    });
    let mut poll = libc::pollfd { fd: bell, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which lives across the call.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 1);
    drop(fds);
}

#[test]
fn no_bell_makes_a_consumer_wait() {
    let ring = Ring::confined(4).memfd().unwrap();
    let fds = ring.fds().unwrap();
    blocking(&fds);
    let mut consumer = Consumer::attach(fds).unwrap();
    let short = Some(Duration::from_millis(20));
    assert_eq!(not_stuck(move || consumer.wait(short).unwrap()), Wait::TimedOut);
}

#[test]
fn who_reads_beside_the_consumer_and_is_overtaken_goes_on_at_its_tail() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("ring");
    // SAFETY: nobody else knows the file.
    let ring = unsafe { Ring::confined(4).create_file(&path).unwrap() };
    let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut beside = Consumer::open_file(&path).unwrap();
    for _ in 0..100 {
        for _ in 0..20 {
            push(&producer, 64, 9);
        }
        assert_eq!(consumer.for_each(|_| ()), Ok(20));
    }
    push(&producer, 64, 10);
    let tail = consumer.position();
    assert!(tail > SIZE);
    let items = read_all(&mut beside);
    assert_eq!(errors(&items), [ReadError { position: 0, kind: ReadErrorKind::Overwritten, skipped: tail }]);
    let rest = if records(&items).is_empty() { read_all(&mut beside) } else { items };
    assert_eq!(records(&rest), [(10, tail)]);
    assert_eq!(beside.stats().skipped, tail);
    assert!(!beside.is_ready());
    assert_eq!(consumer.for_each(|_| ()), Ok(1));
}

#[test]
fn a_damaged_record_costs_its_granule_and_says_where() {
    use ReadErrorKind::*;
    let kinds = [
        (0, ZeroHeader),
        (word_of(5, 0), TooSmall { size: 0 }),
        (word_of(0, 4), TooSmall { size: 4 }),
        (word_of(5, 7), TooSmall { size: 7 }),
        (word_of(5, 9), Unaligned { size: 9 }),
        (word_of(5, 65535), Unaligned { size: 65535 }),
        (word_of(5, 4104), CrossesGranule { size: 4104, left: 4096 }),
        (word_of(5, 8192), CrossesGranule { size: 8192, left: 4096 }),
        (word_of(5, 65528), BeyondHead { size: 65528, left: 8192 + 64 }),
        (word_of(RECORD_OPEN, 128), Open { size: 128 }),
        (word_of(RECORD_PADDING, 8192), CrossesGranule { size: 8192, left: 4096 }),
        (word_of(RECORD_PADDING, 0), TooSmall { size: 0 }),
        (word_of(RECORD_PADDING, 12), Unaligned { size: 12 }),
    ];
    for (word, kind) in kinds {
        let image = Image::granules();
        image.word(PAGE, word);
        let mut consumer = image.open();
        let items = read_all(&mut consumer);
        assert_eq!(errors(&items), [ReadError { position: PAGE, kind, skipped: PAGE }]);
        let read = records(&items);
        assert_eq!(read.iter().map(|record| record.0).collect::<Vec<_>>(), (0..31).chain(62..94).collect::<Vec<_>>());
        assert!(items[31].is_err());
        for record in items.iter().flatten() {
            assert_eq!(record.bytes[8..], body(record.position, record.bytes.len() - 8));
        }
        assert_eq!(consumer.stats().skipped, PAGE);
        assert_eq!(consumer.wait(Some(Duration::ZERO)).unwrap(), Wait::Closed);
    }
}

#[test]
fn damage_in_the_middle_of_a_granule_costs_the_rest_of_it() {
    let image = Image::granules();
    image.word(PAGE + 128, 0);
    let items = read_all(&mut image.open());
    // A zero header is a gap there, with the old records in it.
    let word = get(&image.file, 2 * PAGE + 136);
    let kind = ReadErrorKind::DirtyGap { word };
    assert_eq!(errors(&items), [ReadError { position: PAGE + 128, kind, skipped: PAGE - 128 }]);
    assert_eq!(records(&items).len(), 94 - 30);

    let image = Image::granules();
    image.word(2 * PAGE + 128, word_of(5, 4096));
    let items = read_all(&mut image.open());
    let kind = ReadErrorKind::BeyondHead { size: 4096, left: PAGE - 128 + 64 };
    assert_eq!(errors(&items), [ReadError { position: 2 * PAGE + 128, kind, skipped: PAGE - 128 }]);
}

#[test]
fn a_gap_must_be_zero_to_its_granules_end() {
    // 30 * 128 + 240 = 4080: a gap of 16.
    let image = Image::granules();
    assert_eq!((get(&image.file, PAGE + 4080), get(&image.file, PAGE + 4088)), (0, 0));
    image.word(PAGE - 8, 7);
    let items = read_all(&mut image.open());
    let kind = ReadErrorKind::DirtyGap { word: 7 };
    assert_eq!(errors(&items), [ReadError { position: 4080, kind, skipped: 16 }]);
    assert_eq!(records(&items).len(), 94);
}

#[test]
fn a_gap_that_the_head_ends_in_is_a_zero_header() {
    let image = Image::of(Ring::confined(4), |ring| _ = push(&ring.producer().unwrap(), 64, 1));
    set(&image.file, DATA_HEAD, 128);
    let items = read_all(&mut image.open());
    let kind = ReadErrorKind::ZeroHeader;
    assert_eq!(errors(&items), [ReadError { position: 64, kind, skipped: 64 }]);
    assert_eq!(records(&items), [(1, 0)]);
}

#[test]
fn zeros_are_never_padding_in_a_free_ring() {
    let image = Image::of(Ring::free(4), |ring| {
        let producer = ring.producer().unwrap();
        for i in 0..4 {
            push(&producer, 64, i);
        }
    });
    image.word(64, 0);
    let mut consumer = image.open();
    let items = read_all(&mut consumer);
    let kind = ReadErrorKind::ZeroHeader;
    assert_eq!(errors(&items), [ReadError { position: 64, kind, skipped: 192 }]);
    assert_eq!(records(&items), [(0, 0)]);
    assert_eq!((consumer.position(), consumer.stats().skipped), (256, 192));
}

#[test]
fn for_each_gives_the_first_defect_and_goes_on_with_the_next_call() {
    let image = Image::granules();
    image.word(PAGE, 0);
    image.word(2 * PAGE, 0);
    let mut consumer = image.open();
    assert_eq!(consumer.for_each(|_| ()).unwrap_err().position, PAGE);
    assert_eq!(consumer.for_each(|_| ()).unwrap_err().position, 2 * PAGE);
    assert_eq!(consumer.for_each(|_| ()).unwrap(), 1);
    assert_eq!(consumer.for_each(|_| ()).unwrap(), 0);
}

#[test]
fn a_damaged_granule_of_an_overwriting_ring_costs_only_itself() {
    let image = Image::of(Ring::confined(4).mode(Mode::OverwriteForward), |ring| {
        let producer = ring.overwrite_producer().unwrap();
        for i in 0..1000 {
            producer.begin_forward_in_page(128).unwrap().commit(i, 0);
        }
    });
    let before = records(&read_all(&mut image.open()));
    let granule = before.iter().map(|record| record.1).find(|at| at % PAGE == 0 && *at != before[0].1).unwrap();
    image.word(granule, word_of(1, 12));
    let items = read_all(&mut image.open());
    let kind = ReadErrorKind::Unaligned { size: 12 };
    assert_eq!(errors(&items), [ReadError { position: granule, kind, skipped: PAGE }]);
    let expected: Vec<_> = before.into_iter().filter(|record| record.1 / PAGE != granule / PAGE).collect();
    assert_eq!(records(&items), expected);
}

// Files that are no rings, or not whole.

#[test]
fn truncated_files_are_typed_errors() {
    for len in [0, 1, 1024, 4095] {
        let image = Image::granules();
        image.file.set_len(len).unwrap();
        assert!(matches!(image.refused(), AttachError::TooShort { len: found } if found == len), "{len}");
    }
    for len in [PAGE, PAGE + 1, PAGE + SIZE - 1] {
        let image = Image::granules();
        image.file.set_len(len).unwrap();
        let error = image.refused();
        let needed = PAGE + SIZE;
        assert!(matches!(error, AttachError::Truncated { len: found, needed: n } if found == len && n == needed));
    }
    assert!(matches!(Consumer::open_file("/nonexistent/ring").map(|_| ()).unwrap_err(), AttachError::Io { .. }));
}

#[test]
fn a_file_truncated_while_it_is_read_is_an_error_and_no_signal() {
    let image = Image::granules();
    let mut consumer = image.open();
    let mut drain = consumer.drain();
    assert!(drain.next().unwrap().is_ok());
    image.file.set_len(PAGE + PAGE).unwrap();
    let items: Vec<_> = drain.owned().take(200).collect();
    let file = ReadErrorKind::File(std::io::ErrorKind::UnexpectedEof);
    assert_eq!(errors(&items), [ReadError { position: PAGE, kind: file, skipped: 0 }]);
    assert_eq!(items.len(), 31);
    // Nothing was skipped: it can be read when it is back.
    image.file.set_len(0).unwrap();
    assert_eq!(errors(&read_all(&mut consumer)), [ReadError { position: PAGE, kind: file, skipped: 0 }]);
    // Who waits is told why nothing comes.
    assert_eq!(consumer.wait(None).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(consumer.lost_total(), None);
    assert_eq!(consumer.position(), PAGE);
}

#[test]
fn a_backward_file_truncated_for_a_while_loses_nothing() {
    let image = Image::of(Ring::free(4).mode(Mode::OverwriteBackward), |ring| {
        let producer = ring.overwrite_producer().unwrap();
        for i in 0..20 {
            producer.begin_backward(64).unwrap().commit(i, 0);
        }
    });
    let mut whole = Vec::new();
    std::io::Read::read_to_end(&mut File::open(&image.path).unwrap(), &mut whole).unwrap();
    let head = get(&image.file, DATA_HEAD);
    // First the older half.
    set(&image.file, DATA_HEAD, head.wrapping_add(640));
    let mut consumer = image.open();
    assert_eq!(records(&read_all(&mut consumer)).len(), 10);
    set(&image.file, DATA_HEAD, head);
    image.file.set_len(PAGE + 8).unwrap();
    let items = read_all(&mut consumer);
    assert!(matches!(errors(&items)[..], [ReadError { kind: ReadErrorKind::File(_), .. }]));
    image.file.write_all_at(&whole, 0).unwrap();
    let read: Vec<_> = records(&read_all(&mut consumer)).iter().map(|record| record.0).collect();
    assert_eq!(read, (10..20).rev().collect::<Vec<_>>());
}

#[test]
fn wrong_header_fields_are_typed_errors() {
    let refused = |damage: &dyn Fn(&File)| {
        let image = Image::granules();
        damage(&image.file);
        image.refused()
    };
    use AttachError as E;
    assert!(matches!(refused(&|f| set(f, MAGIC, 7)), E::Magic { found: 7 }));
    assert!(matches!(refused(&|f| f.write_all_at(&[0; 4096], 0).unwrap()), E::Magic { found: 0 }));
    assert!(matches!(refused(&|f| set32(f, VERSION, 2)), E::Version { found: 2, known: 1 }));
    assert!(matches!(refused(&|f| set32(f, BYTE_ORDER, 5)), E::ByteOrderMark { found: 5 }));
    assert!(matches!(refused(&|f| set32(f, BYTE_ORDER, 0x0102_0304u32.swap_bytes())), E::ByteOrder));
    assert!(matches!(
        refused(&|f| {
            set(f, MAGIC, get(f, MAGIC).swap_bytes());
            set32(f, BYTE_ORDER, 0x0102_0304u32.swap_bytes());
            set32(f, VERSION, 1u32.swap_bytes());
        }),
        E::ByteOrder
    ));
    assert!(matches!(refused(&|f| set32(f, MODE, 3)), E::Mode { found: 3 }));
    assert!(matches!(refused(&|f| set32(f, PADDING, 2)), E::Padding { found: 2 }));
    assert!(matches!(refused(&|f| set32(f, CONFINED, 2)), E::Confined { found: 2 }));
    assert!(matches!(refused(&|f| set32(f, MODE, 2)), E::ModeConfined { confined: true, .. }));
    assert!(matches!(
        refused(&|f| {
            set32(f, MODE, 1);
            set32(f, CONFINED, 0);
        }),
        E::ModeConfined { confined: false, .. }
    ));
    for offset in [0, 8, 4097, 1 << 40, u64::MAX, !4095] {
        assert!(matches!(refused(&|f| set(f, DATA_OFFSET, offset)), E::DataOffset { found } if found == offset));
    }
    for size in [0, 1, 2048, SIZE - 8, SIZE + PAGE, 1 << 63, u64::MAX] {
        assert!(matches!(refused(&|f| set(f, DATA_SIZE, size)), E::DataSize { found } if found == size));
    }
    for size in [2 * SIZE, 1 << 40, 1 << 62] {
        assert!(matches!(refused(&|f| set(f, DATA_SIZE, size)), E::Truncated { .. }));
    }
    assert!(matches!(refused(&|f| set(f, DATA_SIZE, PAGE)), E::Granule { found: PAGE, data_size: PAGE }));
    for granule in [0, 8, 2048, 5000, 2 * PAGE, 131_072, u64::MAX, 1 << 63] {
        assert!(matches!(refused(&|f| set(f, GRANULE, granule)), E::Granule { found, .. } if found == granule));
    }
    // A head behind its tail, further from it than the ring is long, or unaligned.
    for (head, tail) in [(8, 16), (0, SIZE), (SIZE + 8, 0), (u64::MAX - 7, 0), (4, 0), (8, 1)] {
        let error = refused(&|f| {
            set(f, DATA_HEAD, head);
            set(f, DATA_TAIL, tail);
        });
        assert!(matches!(error, E::Positions { head: h, tail: t, .. } if (h, t) == (head, tail)), "{error}");
    }
    for (offset, size) in [(0, 8), (8, 8), (4096, 8), (4095, 8), (u64::MAX, 8), (1472, u64::MAX), (1472, 4096)] {
        let error = refused(&|f| {
            set(f, ATTRS_OFFSET, offset);
            set(f, ATTRS_SIZE, size);
        });
        assert!(matches!(error, E::Attrs { offset: o, size: s, .. } if (o, s) == (offset, size)), "{error}");
    }
    assert!(matches!(refused(&|f| set(f, ATTRS_SIZE, 0)), E::AttrsCut { entry: 0 }));
    assert!(matches!(refused(&|f| set32(f, 1472, 1)), E::AttrsCut { entry: 0 }));
    assert!(matches!(refused(&|f| set32(f, 1472, u32::MAX)), E::AttrsCut { .. }));
    let lengths = |attr: u32, ids: u32| {
        refused(&|f| {
            set32(f, 1472, 1);
            set(f, ATTRS_SIZE, 4096 - 1472);
            set32(f, 1480, attr);
            set32(f, 1484, ids);
        })
    };
    for (attr, ids) in [(u32::MAX, 0), (0, u32::MAX), (3000, 0), (0, 400), (2000, 100)] {
        assert!(matches!(lengths(attr, ids), E::AttrsCut { entry: 0 }));
    }
}

#[test]
fn a_writer_refuses_overwriting_files_whose_reservations_cannot_be() {
    for (mode, reserved) in [(1, -8i64), (1, SIZE as i64 + 8), (2, 8), (2, -(SIZE as i64) - 8)] {
        let mode = if mode == 1 { Mode::OverwriteForward } else { Mode::OverwriteBackward };
        let builder = if mode == Mode::OverwriteForward { Ring::confined(4) } else { Ring::free(4) };
        let image = Image::of(builder.mode(mode), |_| ());
        set(&image.file, RESERVED, get(&image.file, DATA_HEAD).wrapping_add_signed(reserved));
        // SAFETY: nobody else writes the file.
        let error = unsafe { Ring::open_file(&image.path, None) }.map(|_| ()).unwrap_err();
        assert!(matches!(error, SetupError::Attach(AttachError::Positions { .. })));
    }
}

#[test]
fn one_writer_at_a_time() {
    let image = Image::granules();
    // SAFETY: nobody else writes the file.
    let ring = unsafe { Ring::open_file(&image.path, None) }.unwrap();
    // SAFETY: as above; it is refused.
    assert!(matches!(unsafe { Ring::open_file(&image.path, None) }.map(|_| ()), Err(SetupError::Locked)));
    let producer = ring.producer().unwrap();
    drop(ring);
    // SAFETY: as above.
    assert!(matches!(unsafe { Ring::open_file(&image.path, None) }.map(|_| ()), Err(SetupError::Locked)));
    push(&producer, 64, 94);
    drop(producer);
    // SAFETY: as above.
    assert!(unsafe { Ring::open_file(&image.path, None) }.is_ok());
    assert_eq!(records(&read_all(&mut image.open())).len(), 95);
    // SAFETY: a file that exists is not made anew.
    assert!(matches!(unsafe { Ring::confined(4).create_file(&image.path) }.map(|_| ()), Err(SetupError::Io { .. })));
}

#[test]
fn a_huge_sparse_image_does_not_make_the_reader_allocate_it() {
    for mode in [Mode::Lossless, Mode::OverwriteForward, Mode::OverwriteBackward] {
        let builder = if mode == Mode::OverwriteBackward { Ring::free(4) } else { Ring::confined(4) };
        let image = Image::of(builder.mode(mode), |_| ());
        // More than there are addresses; a memfd, as not every file system has files of that length.
        let size = 1u64 << 47;
        let file = memfd(PAGE + size, None);
        file.write_all_at(&std::fs::read(&image.path).unwrap()[..PAGE as usize], 0).unwrap();
        set(&file, DATA_SIZE, size);
        let head = if mode == Mode::OverwriteBackward { 0u64.wrapping_sub(size) } else { size };
        for at in [DATA_HEAD, RESERVED] {
            set(&file, at, head);
        }
        let mut consumer = Consumer::open_file(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let items: Vec<_> = consumer.drain().owned().take(100).collect();
        assert!(!errors(&items).is_empty());
        assert!(records(&items).is_empty());
    }
}

// Memfds.

fn memfd(len: u64, seals: Option<i32>) -> File {
    let flags = libc::MFD_CLOEXEC | if seals.is_some() { libc::MFD_ALLOW_SEALING } else { 0 };
    // SAFETY: the name is a C string; the result is checked.
    let fd = unsafe { libc::memfd_create(c"test".as_ptr(), flags) };
    assert!(fd >= 0);
    // SAFETY: a fresh descriptor that nobody else owns.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(len).unwrap();
    file
}

fn seal(file: &File, seals: i32) {
    // SAFETY: a plain fcntl on a descriptor that is open.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
}

/// Copies of a sound ring's memfds, of other lengths and with other seals.
fn copies(header_len: u64, header_seals: i32, data_len: u64, data_seals: i32, damage: impl Fn(&File)) -> RingFds {
    let ring = Ring::confined(4).memfd().unwrap();
    push(&ring.producer().unwrap(), 64, 1);
    let fds = ring.fds().unwrap();
    let copy = |from: OwnedFd, len: u64| {
        let from = File::from(from);
        let mut bytes = vec![0; len.min(from.metadata().unwrap().len()) as usize];
        from.read_exact_at(&mut bytes, 0).unwrap();
        let to = memfd(len, Some(0));
        to.write_all_at(&bytes, 0).unwrap();
        to
    };
    let (header, data) = (copy(fds.header, header_len), copy(fds.data, data_len));
    damage(&header);
    seal(&header, header_seals);
    seal(&data, data_seals);
    RingFds { header: header.into(), data: data.into(), bell: None }
}

const SIZED: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
const READ_ONLY: i32 = SIZED | libc::F_SEAL_FUTURE_WRITE;

fn attach_refused(fds: RingFds) -> AttachError {
    Consumer::attach(fds).map(|_| ()).unwrap_err()
}

#[test]
fn copies_with_the_right_seals_are_attached() {
    let mut consumer = Consumer::attach(copies(PAGE, SIZED, SIZE, READ_ONLY, |_| ())).unwrap();
    assert_eq!(records(&read_all(&mut consumer)), [(1, 0)]);
    assert!(consumer.as_fd().is_none());
}

#[test]
fn memfds_without_seals_are_refused() {
    for (header, data, refused) in [
        (0, READ_ONLY, "header"),
        (libc::F_SEAL_SHRINK, READ_ONLY, "header"),
        (libc::F_SEAL_GROW, READ_ONLY, "header"),
        (SIZED, 0, "data"),
        (SIZED, SIZED, "data"),
        (SIZED, libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE, "data"),
        (SIZED, libc::F_SEAL_SHRINK | libc::F_SEAL_FUTURE_WRITE, "data"),
    ] {
        let error = attach_refused(copies(PAGE, header, SIZE, data, |_| ()));
        match error {
            AttachError::Seals { which, found, needed } => {
                assert_eq!(which, refused);
                assert_ne!(found & needed, needed);
            }
            error => panic!("{error}"),
        }
    }
    // Not sealable, and not memfds at all.
    let plain = || RingFds { header: memfd(PAGE, None).into(), data: memfd(SIZE, None).into(), bell: None };
    assert!(matches!(attach_refused(plain()), AttachError::Seals { which: "header", .. }));
    let image = Image::granules();
    let file = || OwnedFd::from(image.file.try_clone().unwrap());
    let error = attach_refused(RingFds { header: file(), data: file(), bell: None });
    assert!(matches!(error, AttachError::Io { .. } | AttachError::Seals { .. }), "{error}");
}

#[test]
fn memfds_that_are_too_small_are_refused() {
    let (header, data) = (SIZED, READ_ONLY);
    for len in [0, 8, 1032, 4095] {
        let error = attach_refused(copies(len, header, SIZE, data, |_| ()));
        assert!(matches!(error, AttachError::TooShort { len: found } if found == len), "{error}");
    }
    for len in [0, PAGE, SIZE - PAGE, SIZE - 1] {
        let error = attach_refused(copies(PAGE, header, len, data, |_| ()));
        assert!(matches!(error, AttachError::Truncated { needed, .. } if needed == PAGE + SIZE), "{error}");
    }
    let error = attach_refused(copies(PAGE, header, SIZE, data, |f| set(f, DATA_SIZE, 2 * SIZE)));
    assert!(matches!(error, AttachError::Truncated { .. }), "{error}");
    let error = attach_refused(copies(PAGE, header, SIZE, data, |f| set(f, DATA_OFFSET, 2 * PAGE)));
    assert!(matches!(error, AttachError::Truncated { .. } | AttachError::Attrs { .. }), "{error}");
}

#[test]
fn memfds_with_wrong_headers_are_refused() {
    let refused = |damage: &dyn Fn(&File)| attach_refused(copies(PAGE, SIZED, SIZE, READ_ONLY, damage));
    assert!(matches!(refused(&|f| set(f, MAGIC, 7)), AttachError::Magic { found: 7 }));
    assert!(matches!(refused(&|f| set32(f, VERSION, 9)), AttachError::Version { found: 9, .. }));
    assert!(matches!(refused(&|f| set32(f, BYTE_ORDER, 0x0403_0201)), AttachError::ByteOrder));
    assert!(matches!(refused(&|f| set(f, DATA_TAIL, 4)), AttachError::Positions { .. }));
    assert!(matches!(refused(&|f| set(f, DATA_SIZE, 12288)), AttachError::DataSize { .. }));
    assert!(matches!(refused(&|f| set(f, GRANULE, 3)), AttachError::Granule { .. }));
}

#[test]
fn a_readers_descriptors_cannot_write_shrink_or_grow_the_data() {
    let ring = Ring::confined(4).memfd().unwrap();
    let producer = ring.producer().unwrap();
    let fds = ring.fds().unwrap();
    let (header, data) = (File::from(fds.header), File::from(fds.data));
    assert!(data.write_all_at(&[1; 8], 0).is_err());
    for len in [0, PAGE, 2 * SIZE] {
        assert!(data.set_len(len).is_err());
        assert!(header.set_len(len + 1).is_err());
    }
    // SAFETY: asks for a fresh mapping, which is refused.
    let map = unsafe {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), SIZE as usize, prot, libc::MAP_SHARED, data.as_raw_fd(), 0)
    };
    assert_eq!(map, libc::MAP_FAILED);
    // The producer still can.
    push(&producer, 64, 1);
    assert_eq!(get(&data, 0), word_of(1, 64));
}

// Random damage.

/// A ring image as bytes, with what an undamaged reader finds in it.
fn sound_image(builder: Builder, laps: u64) -> (Vec<u8>, Vec<OwnedRecord>, bool) {
    let mut consumed = 0;
    let image = Image::of(builder, |ring| {
        let mode = ring.description().mode;
        let mut size = 40;
        let mut next = || {
            size = (size * 7 + 24) % 1000 / 8 * 8 + 8;
            size
        };
        if mode == Mode::Lossless {
            let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
            while consumed < laps * SIZE {
                consumer.for_each(|_| ()).unwrap();
                consumed = 0;
                for i in 0..12 {
                    push(&producer, next(), i);
                }
                consumed += consumer.position().wrapping_sub(ring.description().data_tail);
            }
            consumer.for_each(|_| ()).unwrap();
            for i in 0.. {
                let Ok(mut record) = producer.begin_forward_in_page(next()) else { break };
                record.put(&body(record.position(), record.remaining()));
                record.commit(i, 0);
            }
        } else {
            let producer = ring.overwrite_producer().unwrap();
            for i in 0..laps as u32 * 40 {
                let mut record = match mode {
                    Mode::OverwriteForward => producer.begin_forward_in_page(next()).unwrap(),
                    _ => producer.begin_backward(next()).unwrap(),
                };
                record.put(&body(record.position(), record.remaining()));
                record.commit(i, 0);
            }
        }
    });
    let mut consumer = image.open();
    let items = read_all(&mut consumer);
    let confined = consumer.description().unwrap().confined;
    let bytes = std::fs::read(&image.path).unwrap();
    (bytes, items.into_iter().map(Result::unwrap).collect(), confined)
}

/// Drains `image` until nothing more comes; gives records and defects.
fn read_image(image: &[u8]) -> Result<Vec<Result<OwnedRecord, ReadError>>, AttachError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(image, 0).unwrap();
    let mut consumer = Consumer::open_file_and_release(file.path())?;
    let from = consumer.position();
    let items = read_all(&mut consumer);
    let again = read_all(&mut consumer);
    assert!(records(&again).is_empty());
    let stats = consumer.stats();
    let read: u64 = items.iter().flatten().map(|record| record.bytes.len() as u64).sum();
    if consumer.mode() == Mode::Lossless {
        assert_eq!(read + stats.padding + stats.skipped, consumer.position().wrapping_sub(from));
    }
    assert_eq!(errors(&items).iter().map(|error| error.skipped).sum::<u64>(), stats.skipped);
    consumer.wait(Some(Duration::ZERO)).unwrap();
    let _ = consumer.description().map(Description::len);
    for record in items.iter().flatten() {
        assert_eq!(usize::from(record.header.size), record.bytes.len());
        assert_eq!(record.bytes[..8], record.header.to_bytes());
    }
    Ok(items)
}

fn builders() -> [Builder; 6] {
    [
        Ring::confined(4),
        Ring::confined(4).padding(Padding::Header).start_position(NEAR_WRAP),
        Ring::free(4).start_position(NEAR_WRAP),
        Ring::confined(4).mode(Mode::OverwriteForward),
        Ring::confined(4).mode(Mode::OverwriteForward).start_position(NEAR_WRAP - SIZE),
        Ring::free(4).mode(Mode::OverwriteBackward),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_data_costs_no_more_than_the_damaged_granules(
        which in 0..6usize,
        laps in 0..4u64,
        damage in prop::collection::vec((0..SIZE, prop_oneof![(0..8u32).prop_map(|bit| 1 << bit), any::<u8>()]), 1..12),
    ) {
        let (mut image, sound, confined) = sound_image(builders()[which].clone(), laps);
        let mut hit = [false; 4];
        for (at, mask) in damage {
            image[(PAGE + at) as usize] ^= mask;
            hit[(at / PAGE) as usize] |= mask != 0;
        }
        let items = read_image(&image).unwrap();
        let read: Vec<_> = items.iter().flatten().cloned().collect();
        let apart =
            |pair: &[OwnedRecord]| pair[1].position.wrapping_sub(pair[0].position) >= pair[0].bytes.len() as u64;
        prop_assert!(read.windows(2).all(apart));
        if confined {
            let intact = |record: &&OwnedRecord| !hit[(record.position % SIZE / PAGE) as usize];
            let expected: Vec<_> = sound.iter().filter(intact).collect();
            let found: Vec<_> = read.iter().filter(intact).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn damaged_headers_are_refused_or_read_to_an_end(
        which in 0..6usize,
        damage in prop::collection::vec((prop_oneof![1024..1056usize, 1152..1496usize, 0..4096usize], any::<u8>()), 1..6),
    ) {
        let (mut image, sound, _) = sound_image(builders()[which].clone(), 1);
        prop_assert!(!sound.is_empty());
        for (at, mask) in damage {
            image[at] ^= mask;
        }
        if let Ok(items) = read_image(&image) {
            prop_assert!(items.len() as u64 <= SIZE / 8 + 1);
        }
    }

    #[test]
    fn random_bytes_behind_a_sound_header_are_read_to_an_end(
        which in 0..6usize,
        seed in any::<u64>(),
        sparse in prop::bool::ANY,
    ) {
        let (mut image, ..) = sound_image(builders()[which].clone(), 2);
        let mut state = seed | 1;
        for word in image[PAGE as usize..].as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Small sizes, so that now and then a record is sound.
            let value = if sparse { state & 0x00f8_0003_0000_0007 } else { state };
            *word = value.to_ne_bytes();
        }
        prop_assert!(read_image(&image).unwrap().len() as u64 <= SIZE / 8);
    }

    #[test]
    fn random_bytes_are_no_ring(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert!(read_image(&bytes).is_err());
        prop_assert!(Description::parse(&bytes, u64::MAX).is_err());
    }
}
