//! Ring files whose writer is killed with SIGKILL: nothing whose commit had returned is lost, unless it stood behind an
//! open reservation or was overwritten.
//!
//! The writer is this binary again. It posts what it has committed, and where it holds open reservations, in a second file
//! that it maps; stores to both survive the kill. `PERFRING_CRASH_RUNS` is how many times a writer is killed, in all.
#![allow(unsafe_code)]

mod reexec;

use memmap2::MmapRaw;
use perfring::ring::{
    BeginError, Consumer, LostRecord, Mode, OverwriteProducer, OverwriteReservation, Owner, Producer, ReadErrorKind,
    Record, Reservation, Ring, SetupError, SharedProducer, SplitReservation,
};
use reexec::{Process, end_with_parent, role, start, wait_for};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const RECORD: u32 = 1 << 20;
const PAGES: usize = 16;
const THREADS: usize = 3;
/// Reservations that a thread holds open at once.
const DEPTH: usize = 4;
/// Positions that a thread's log holds: more than the records of a full ring.
const LOG: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Confined,
    Free,
    Shared,
    Overwrite,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Confined, Self::Free, Self::Shared, Self::Overwrite];

    fn threads(self) -> usize {
        if self == Self::Shared { THREADS } else { 1 }
    }
}

/// What the writer posts, in a file that both sides map.
struct Post {
    map: MmapRaw,
}

/// A reservation of the writer, as far as it has got with it.
#[derive(Clone, Copy, Debug)]
enum State {
    None,
    /// Some bytes at or behind this position may be reserved.
    Beginning(u64),
    Open(u64),
}

impl Post {
    const THREAD: usize = 8 + DEPTH + LOG as usize;
    const LEN: usize = 8 * (8 + THREADS * Self::THREAD);

    fn map(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(Self::LEN as u64).unwrap();
        Self { map: MmapRaw::map_raw(&file).unwrap() }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < Self::LEN / 8);
        // SAFETY: the mapping has LEN bytes, page-aligned, lives as long as `self`, and is only accessed by atomics; the file
        // is not truncated while the test runs.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(at)) }
    }

    /// How far the writer is: 1 when the ring is there, 2 when it holds its reservations for ever.
    fn stage(&self) -> &AtomicU64 {
        self.word(0)
    }

    fn committed(&self, thread: usize) -> &AtomicU64 {
        self.word(8 + thread * Self::THREAD)
    }

    fn state_word(&self, thread: usize, at: usize) -> &AtomicU64 {
        self.word(8 + thread * Self::THREAD + 8 + at)
    }

    fn log(&self, thread: usize, serial: u64) -> &AtomicU64 {
        self.word(8 + thread * Self::THREAD + 8 + DEPTH + (serial % LOG) as usize)
    }

    fn set_state(&self, thread: usize, at: usize, state: State) {
        let word = match state {
            State::None => 0,
            State::Beginning(position) => position << 2 | 1,
            State::Open(position) => position << 2 | 2,
        };
        self.state_word(thread, at).store(word, Ordering::SeqCst);
    }

    fn states(&self) -> impl Iterator<Item = State> {
        (0..THREADS * DEPTH).map(|i| {
            let word = self.state_word(i / DEPTH, i % DEPTH).load(Ordering::SeqCst);
            match word & 3 {
                0 => State::None,
                1 => State::Beginning(word >> 2),
                _ => State::Open(word >> 2),
            }
        })
    }

    /// Says that a record of this thread is committed: its serial number is then the count.
    fn commit(&self, thread: usize, position: u64) {
        let serial = self.committed(thread).load(Ordering::Relaxed) + 1;
        self.log(thread, serial).store(position, Ordering::SeqCst);
        self.committed(thread).store(serial, Ordering::SeqCst);
    }

    /// A position that everything reserved from now on lies at or behind.
    fn reached(&self) -> u64 {
        (0..THREADS)
            .map(|thread| match self.committed(thread).load(Ordering::SeqCst) {
                0 => 0,
                serial => self.log(thread, serial).load(Ordering::SeqCst) + 8,
            })
            .max()
            .unwrap_or(0)
    }

    /// Everything committed that lies before this position stood behind nothing open.
    fn limit(&self) -> u64 {
        self.states()
            .filter_map(|state| match state {
                State::None => None,
                State::Beginning(position) | State::Open(position) => Some(position),
            })
            .min()
            .unwrap_or(u64::MAX)
    }
}

struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(mix(seed) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        mix(self.0) % end
    }
}

fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (word ^ word >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// What all reservations can do.
trait Open {
    fn position(&self) -> u64;
    fn remaining(&self) -> usize;
    fn size(&self) -> usize;
    fn put(&mut self, bytes: &[u8]);
    fn close(self, size: usize);
}

macro_rules! open {
    ($([$($of:tt)*] $Type:ty;)*) => {$(
        impl<$($of)*> Open for $Type {
            fn position(&self) -> u64 {
                self.position()
            }
            fn remaining(&self) -> usize {
                self.remaining()
            }
            fn size(&self) -> usize {
                self.size()
            }
            fn put(&mut self, bytes: &[u8]) {
                self.put(bytes);
            }
            fn close(self, size: usize) {
                if size == self.size() {
                    self.commit(RECORD, 0);
                } else {
                    self.commit_len(size, RECORD, 0).expect("a size in the reservation");
                }
            }
        }
    )*};
}

open! {
    ['p, P: Owner] Reservation<'p, P>;
    ['p, P: Owner] SplitReservation<'p, P>;
    ['p] OverwriteReservation<'p>;
}

/// A record's words: those that follow from where it lies, and at its end whose it is.
fn filler(position: u64, at: usize) -> u64 {
    mix(position + at as u64)
}

fn write_filler(record: &mut impl Open, words: usize) {
    for _ in 0..words {
        let at = record.size() - record.remaining();
        record.put(&filler(record.position(), at).to_ne_bytes());
    }
}

/// Ends a record with its tag, and commits it there.
fn write_tag(mut record: impl Open, thread: usize, serial: u64) {
    record.put(&((thread as u64) << 48 | serial).to_ne_bytes());
    let size = record.size() - record.remaining();
    record.close(size);
}

/// Checks every byte of a record and gives its thread and serial number.
fn read_tag(record: &Record<'_>) -> (usize, u64) {
    let words = record.body().as_chunks::<8>().0;
    let (tag, words) = words.split_last().expect("a tag");
    for (at, word) in words.iter().enumerate() {
        assert_eq!(u64::from_ne_bytes(*word), filler(record.position(), 8 + 8 * at), "in {record:?}");
    }
    let tag = u64::from_ne_bytes(*tag);
    ((tag >> 48) as usize, tag & 0xffff_ffff_ffff)
}

/// One thread of the writer: opens and closes reservations in any order, for ever.
struct Worker<'a> {
    post: &'a Post,
    thread: usize,
    rng: Rng,
    /// Stop after so many steps, holding two reservations open.
    park_after: Option<u64>,
    deadline: Instant,
}

impl Worker<'_> {
    fn run<R: Open>(mut self, begin: impl Fn(usize) -> Result<R, BeginError>) {
        let mut held: Vec<(R, usize)> = Vec::new();
        for step in 0u64.. {
            if self.park_after == Some(step) {
                while !held.is_empty() {
                    self.close(&mut held, true);
                }
                self.park(&mut held, &begin);
            }
            // Whatever is open now is what many of the kills find.
            if self.rng.below(64) == 0 {
                self.pause();
            }
            let full = match held.len() {
                DEPTH => true,
                _ => self.rng.below(4) == 0 && self.open(&mut held, &begin).is_err(),
            };
            match held.is_empty() {
                true if full => self.pause(),
                true => {}
                false if full || self.rng.below(3) == 0 => self.close(&mut held, false),
                false => {}
            }
        }
    }

    fn pause(&self) {
        assert!(Instant::now() < self.deadline);
        std::thread::sleep(Duration::from_micros(50));
    }

    fn open<R: Open>(
        &mut self,
        held: &mut Vec<(R, usize)>,
        begin: impl Fn(usize) -> Result<R, BeginError>,
    ) -> Result<(), BeginError> {
        let at = (0..DEPTH).find(|at| held.iter().all(|(_, taken)| at != taken)).expect("fewer than DEPTH are held");
        let words = match self.rng.below(16) {
            0 => 200 + self.rng.below(200),
            _ => 2 + self.rng.below(20),
        };
        self.post.set_state(self.thread, at, State::Beginning(self.post.reached()));
        let mut record = match begin(8 + 8 * words as usize) {
            Ok(record) => record,
            Err(error) => {
                assert!(matches!(error, BeginError::Full { .. }), "{error}");
                self.post.set_state(self.thread, at, State::None);
                return Err(error);
            }
        };
        self.post.set_state(self.thread, at, State::Open(record.position()));
        let now = self.rng.below(words - 1);
        write_filler(&mut record, now as usize);
        held.push((record, at));
        Ok(())
    }

    fn close<R: Open>(&mut self, held: &mut Vec<(R, usize)>, discard: bool) {
        let (mut record, at) = held.swap_remove(self.rng.below(held.len() as u64) as usize);
        match self.rng.below(8) {
            _ if discard => drop(record),
            0 => drop(record),
            how => {
                if how != 1 {
                    let words = record.remaining() / 8 - 1;
                    write_filler(&mut record, words);
                }
                let position = record.position();
                write_tag(record, self.thread, self.post.committed(self.thread).load(Ordering::Relaxed) + 1);
                self.post.commit(self.thread, position);
            }
        }
        self.post.set_state(self.thread, at, State::None);
    }

    /// Holds one open reservation in front of a committed record and one behind it, until the kill.
    fn park<R: Open>(&mut self, held: &mut Vec<(R, usize)>, begin: impl Fn(usize) -> Result<R, BeginError>) {
        while held.len() < 3 {
            if self.open(held, &begin).is_err() {
                // What is held keeps the other threads' records from being read, so there will be no room.
                while !held.is_empty() {
                    self.close(held, true);
                }
                self.pause();
            }
        }
        let (record, at) = held.remove(1);
        let position = record.position();
        write_tag(record, self.thread, self.post.committed(self.thread).load(Ordering::Relaxed) + 1);
        self.post.commit(self.thread, position);
        self.post.set_state(self.thread, at, State::None);
        self.post.stage().store(2, Ordering::SeqCst);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// The process that is killed.
#[test]
fn writer() {
    let Some(role) = role() else { return };
    let [kind, seed, park, dir] = &role[..] else { panic!("{role:?}") };
    end_with_parent();
    let kind = Kind::ALL.into_iter().find(|known| format!("{known:?}") == *kind).expect("a kind");
    let (seed, dir) = (seed.parse::<u64>().unwrap(), Path::new(dir));
    let builder = match kind {
        Kind::Confined | Kind::Shared => Ring::confined(PAGES),
        Kind::Free => Ring::free(PAGES),
        Kind::Overwrite => Ring::confined(PAGES).mode(Mode::OverwriteForward),
    };
    // SAFETY: in a new directory of the test that started this process, which only reads the file while we live.
    let ring = unsafe { builder.create_file(dir.join("ring")) }.unwrap();
    let post = &Post::map(&dir.join("post"));
    let worker = |thread| Worker {
        post,
        thread,
        rng: Rng::new(seed + thread as u64),
        park_after: (park == "park" && thread == 0).then_some(500),
        deadline: Instant::now() + reexec::PATIENCE,
    };
    let ready = || post.stage().store(1, Ordering::SeqCst);
    match kind {
        Kind::Confined => {
            let producer: Producer = ring.producer().unwrap();
            ready();
            worker(0).run(|size| producer.begin_forward_in_page(size));
        }
        Kind::Free => {
            let producer: Producer = ring.producer().unwrap();
            ready();
            worker(0).run(|size| producer.begin_forward(size));
        }
        Kind::Shared => {
            let producer: SharedProducer = ring.shared_producer().unwrap();
            ready();
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (producer, worker) = (producer.clone(), worker(thread));
                    scope.spawn(move || worker.run(|size| producer.begin_forward_in_page(size)));
                }
            });
        }
        Kind::Overwrite => {
            let producer: OverwriteProducer = ring.overwrite_producer().unwrap();
            ready();
            worker(0).run(|size| producer.begin_forward_in_page(size));
        }
    }
}

/// What a reader has found: where each record of each thread lies.
#[derive(Default)]
struct Found {
    records: HashMap<(usize, u64), u64>,
    errors: Vec<ReadErrorKind>,
}

impl Found {
    fn drain(&mut self, consumer: &mut Consumer) {
        let mut drain = consumer.drain();
        while let Some(record) = drain.next() {
            match record {
                Ok(record) if record.header().type_ == RECORD => {
                    let before = self.records.insert(read_tag(&record), record.position());
                    assert_eq!(before, None, "read twice: {record:?}");
                }
                Ok(record) => assert_eq!(record.header().type_, 2, "only lost records besides: {record:?}"),
                Err(error) => self.errors.push(error.kind),
            }
        }
    }
}

fn run(kind: Kind, seed: u64, dir: &Path) -> Tally {
    let rng = &mut Rng::new(seed);
    let (path, post) = (dir.join("ring"), Post::map(&dir.join("post")));
    let (park, early, live) = (rng.below(4) == 0, rng.below(12) == 0, rng.below(4) != 0);
    let (kind_name, seed_text) = (format!("{kind:?}"), seed.to_string());
    let role = [kind_name.as_str(), &seed_text, if park { "park" } else { "go" }, dir.to_str().unwrap()];
    let mut child = start("writer", &role);
    let mut found = Found::default();
    let mut consumer = None;
    if early {
        std::thread::sleep(Duration::from_micros(rng.below(8000)));
    } else {
        ready(&mut child, &post, 1);
        consumer = Some(attach(kind, &path));
        let end = Instant::now() + Duration::from_micros(rng.below(12_000));
        while if park { post.stage().load(Ordering::SeqCst) < 2 } else { Instant::now() < end } {
            assert!(child.ended().is_none(), "the writer failed");
            match &mut consumer {
                Some(consumer) if live || park => found.drain(consumer),
                _ => std::thread::sleep(Duration::from_micros(100)),
            }
        }
    }
    child.kill();
    let stage = post.stage().load(Ordering::SeqCst);
    assert!(stage == 0 || path.exists());
    if stage == 0 {
        // Killed while it made the ring: there is one, or there is an error, or there is none.
        if let Ok(mut consumer) = Consumer::open_file(&path) {
            found.drain(&mut consumer);
            assert!(found.records.is_empty() && found.errors.is_empty());
        }
        return Tally { runs: 1, ..Tally::default() };
    }
    if kind == Kind::Overwrite {
        // A fresh reader finds what the last one had, too.
        found = Found::default();
        consumer = None;
    }
    let mut consumer = consumer.unwrap_or_else(|| attach(kind, &path));
    found.drain(&mut consumer);
    assert_eq!(found.errors, []);
    check(kind, &path, &post, &found, stage == 2);
    drop(consumer);
    write_on(kind, &path, &found);
    Tally {
        runs: 1,
        open: u64::from(post.limit() != u64::MAX),
        parked: u64::from(stage == 2),
        records: found.records.len() as u64,
        committed: (0..THREADS).map(|thread| post.committed(thread).load(Ordering::SeqCst)).sum(),
    }
}

/// What the runs have covered.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    runs: u64,
    /// Killed with something open.
    open: u64,
    /// Killed with nested reservations open.
    parked: u64,
    records: u64,
    committed: u64,
}

fn ready(child: &mut Process, post: &Post, stage: u64) {
    wait_for(|| {
        assert!(child.ended().is_none(), "the writer failed");
        (post.stage().load(Ordering::SeqCst) >= stage).then_some(())
    });
}

fn attach(kind: Kind, path: &Path) -> Consumer {
    match kind {
        Kind::Overwrite => Consumer::open_file(path).unwrap(),
        _ => Consumer::open_file_and_release(path).unwrap(),
    }
}

fn check(kind: Kind, path: &Path, post: &Post, found: &Found, parked: bool) {
    let description = Consumer::open_file(path).unwrap().description().unwrap().clone();
    let head = description.data_head;
    // What lies before this was overwritten.
    let oldest = match kind {
        Kind::Overwrite => description.reserved.saturating_sub(description.data_size).next_multiple_of(4096),
        _ => 0,
    };
    let limit = post.limit();
    for thread in 0..kind.threads() {
        let committed = post.committed(thread).load(Ordering::SeqCst);
        for serial in 1..=committed {
            let logged = committed - serial < LOG;
            let position = post.log(thread, serial).load(Ordering::SeqCst);
            match found.records.get(&(thread, serial)) {
                Some(&read) => assert!(!logged || read == position, "record {serial} read at {read}, not {position}"),
                None if logged => assert!(
                    position >= limit || position < oldest,
                    "record {serial} of thread {thread} at {position} is lost: open from {limit}, overwritten to {oldest}, \
                     head {head}, {:?}",
                    post.states().collect::<Vec<_>>(),
                ),
                None => assert!(kind == Kind::Overwrite, "record {serial} of thread {thread} of {committed} is lost"),
            }
        }
    }
    for &(thread, serial) in found.records.keys() {
        assert!(thread < kind.threads());
        // One more at most: its commit had not returned, or not been posted.
        assert!(serial <= post.committed(thread).load(Ordering::SeqCst) + 1);
    }
    if parked {
        let last = post.committed(0).load(Ordering::SeqCst);
        assert!(!found.records.contains_key(&(0, last)), "a record behind an open reservation is visible");
    }
}

/// Opens the ring again, writes on, and reads what is there then.
fn write_on(kind: Kind, path: &Path, before: &Found) {
    const NEW: u64 = 20;
    // SAFETY: its writer is dead, and nobody else knows the file.
    let ring = unsafe { Ring::open_file(path, Some(LostRecord::bare(0))) }.unwrap();
    // SAFETY: as above.
    let second = unsafe { Ring::open_file(path, None) };
    assert!(matches!(second, Err(SetupError::Locked)), "two writers");
    let write = |mut record: OverwriteOr<'_>, serial| {
        write_filler(&mut record, 10);
        write_tag(record, THREADS, serial);
    };
    match kind {
        Kind::Overwrite => {
            let producer = ring.overwrite_producer().unwrap();
            for serial in 1..=NEW {
                write(OverwriteOr::Overwrite(producer.begin_forward_in_page(200).unwrap()), serial);
            }
        }
        Kind::Shared => {
            let producer = ring.shared_producer().unwrap();
            for serial in 1..=NEW {
                write(OverwriteOr::Shared(producer.begin_forward_in_page(200).unwrap()), serial);
            }
        }
        Kind::Confined | Kind::Free => {
            let producer = ring.producer().unwrap();
            for serial in 1..=NEW {
                write(OverwriteOr::Single(producer.begin_forward_in_page(200).unwrap()), serial);
            }
        }
    }
    drop(ring);
    let mut found = Found::default();
    let mut consumer = attach(kind, path);
    found.drain(&mut consumer);
    assert_eq!(found.errors, []);
    assert!(consumer.is_closed());
    for serial in 1..=NEW {
        assert!(found.records.remove(&(THREADS, serial)).is_some(), "new record {serial} is lost");
    }
    for (tag, position) in &found.records {
        assert_eq!(kind, Kind::Overwrite, "{tag:?} was given back before");
        assert_eq!(before.records.get(tag), Some(position), "{tag:?} is read only now");
    }
    assert!(kind != Kind::Overwrite || before.records.is_empty() || !found.records.is_empty());
}

enum OverwriteOr<'p> {
    Overwrite(OverwriteReservation<'p>),
    Shared(Reservation<'p, SharedProducer>),
    Single(Reservation<'p, Producer>),
}

macro_rules! each {
    ($of:expr, $record:ident => $do:expr) => {
        match $of {
            OverwriteOr::Overwrite($record) => $do,
            OverwriteOr::Shared($record) => $do,
            OverwriteOr::Single($record) => $do,
        }
    };
}

impl Open for OverwriteOr<'_> {
    fn position(&self) -> u64 {
        each!(self, record => record.position())
    }
    fn remaining(&self) -> usize {
        each!(self, record => record.remaining())
    }
    fn size(&self) -> usize {
        each!(self, record => record.size())
    }
    fn put(&mut self, bytes: &[u8]) {
        each!(self, record => record.put(bytes));
    }
    fn close(self, size: usize) {
        each!(self, record => Open::close(record, size));
    }
}

fn runs(kind: Kind) {
    let number = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    let all = number("PERFRING_CRASH_RUNS").unwrap_or(50);
    let first = number("PERFRING_CRASH_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos())) << 20
    });
    let index = Kind::ALL.iter().position(|&known| known == kind).unwrap() as u64;
    let mut tally = Tally::default();
    for run_number in 0..(all + 3 - index) / 4 {
        let seed = first + run_number;
        let dir = tempfile::tempdir().unwrap();
        let result = std::panic::catch_unwind(|| run(kind, seed, dir.path()));
        match result {
            Ok(run) => {
                tally.runs += run.runs;
                tally.open += run.open;
                tally.parked += run.parked;
                tally.records += run.records;
                tally.committed += run.committed;
            }
            Err(panic) => {
                eprintln!("{kind:?}, run {run_number}: again with PERFRING_CRASH_SEED={seed} PERFRING_CRASH_RUNS=4");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{kind:?}: {tally:?}");
}

#[test]
fn a_killed_producer_of_a_confined_ring_loses_nothing() {
    runs(Kind::Confined);
}

#[test]
fn a_killed_producer_of_a_free_ring_loses_nothing() {
    runs(Kind::Free);
}

#[test]
fn a_killed_shared_producer_loses_nothing() {
    runs(Kind::Shared);
}

#[test]
fn a_killed_overwriting_producer_loses_only_what_it_overwrote() {
    runs(Kind::Overwrite);
}

#[test]
fn a_ring_file_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (path, post) = (dir.path().join("ring"), Post::map(&dir.path().join("post")));
    let open = || {
        // SAFETY: the file is this test's and the writer's, and is never truncated.
        unsafe { Ring::open_file(&path, None) }
    };
    let mut child = start("writer", &["Confined", "1", "park", dir.path().to_str().unwrap()]);
    ready(&mut child, &post, 1);
    let mut consumer = attach(Kind::Confined, &path);
    let mut found = Found::default();
    while post.stage().load(Ordering::SeqCst) < 2 {
        found.drain(&mut consumer);
        assert!(matches!(open(), Err(SetupError::Locked)), "the writer lives");
    }
    child.kill();
    let ring = open().expect("the writer is dead");
    assert!(matches!(open(), Err(SetupError::Locked)), "this process writes it");
    let producer = ring.producer().unwrap();
    drop(ring);
    assert!(matches!(open(), Err(SetupError::Locked)), "its producer lives");
    drop(producer);
    assert!(open().is_ok());
}
