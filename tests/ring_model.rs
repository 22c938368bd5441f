//! The ring against a model: a queue of byte vectors, and the arithmetic of positions done naively.
#![allow(unsafe_code)]

use perfring::ring::{
    BeginError, Builder, HEADER_SIZE, Mode, OpenReservation, OverwriteProducer, OwnedRecord, Owner, Padding, Producer,
    ReadErrorKind, RecordHeader, Reservation, Ring, SharedProducer, SplitReservation,
};
use proptest::prelude::*;
use std::collections::VecDeque;
use tempfile::TempDir;

const PAGE: u64 = 4096;
const LOST: u32 = 2;
const LOST_SIZE: u64 = 24;

#[derive(Clone, Debug)]
enum Op {
    /// Reserve this many words.
    Begin {
        words: usize,
        in_page: bool,
    },
    /// Store this many bytes into an open reservation, or into its slices.
    Put {
        which: usize,
        len: usize,
        slices: bool,
    },
    Commit {
        which: usize,
    },
    /// Commit this part (of 256) of what was reserved.
    CommitLen {
        which: usize,
        part: usize,
    },
    Discard {
        which: usize,
    },
    FlushLost,
    /// Read at most this many records.
    Consume {
        most: usize,
    },
    /// Read them all by `for_each`.
    ForEach,
}

#[derive(Clone, Copy, Debug)]
enum Home {
    Private,
    Memfd,
    File,
}

#[derive(Clone, Debug)]
struct Setup {
    pages: usize,
    granule: Option<usize>,
    confined: bool,
    padding: Padding,
    home: Home,
    start: u64,
    release_every: Option<u64>,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let words =
        prop_oneof![4 => 1..20usize, 3 => 20..300usize, 2 => 300..520usize, 1 => 505..515usize, 1 => 0..8192usize];
    let op = prop_oneof![
        8 => (words, prop::bool::weighted(0.7)).prop_map(|(words, in_page)| Op::Begin { words, in_page }),
        4 => (0..8usize, 0..600usize, prop::bool::ANY).prop_map(|(which, len, slices)| Op::Put { which, len, slices }),
        6 => (0..8usize).prop_map(|which| Op::Commit { which }),
        2 => (0..8usize, 0..=256usize).prop_map(|(which, part)| Op::CommitLen { which, part }),
        2 => (0..8usize).prop_map(|which| Op::Discard { which }),
        1 => Just(Op::FlushLost),
        1 => Just(Op::ForEach),
        3 => prop_oneof![0..4usize, Just(usize::MAX)].prop_map(|most| Op::Consume { most }),
    ];
    prop::collection::vec(op, 1..120)
}

fn start() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        (0..20u64).prop_map(|pages| pages * PAGE),
        (1..20u64).prop_map(|pages| 0u64.wrapping_sub(pages * PAGE)),
        any::<u64>(),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    let shape = prop_oneof![
        4 => Just((4, None, true)),
        1 => Just((8, None, true)),
        1 => Just((16, Some(16384), true)),
        1 => Just((1, None, false)),
        3 => Just((4, None, false)),
        1 => Just((8, Some(16384), false)),
    ];
    let padding = prop_oneof![Just(Padding::Zero), Just(Padding::Header)];
    let home = prop_oneof![2 => Just(Home::Private), 1 => Just(Home::Memfd), 1 => Just(Home::File)];
    let release_every = prop_oneof![Just(None), (0..20_000u64).prop_map(Some)];
    (shape, padding, home, start(), release_every).prop_map(
        |((pages, granule, confined), padding, home, start, release_every)| Setup {
            pages,
            granule,
            confined,
            padding,
            home,
            start,
            release_every,
        },
    )
}

fn build(setup: &Setup, mode: Mode, dir: &TempDir) -> Ring {
    let builder = if setup.confined { Ring::confined(setup.pages) } else { Ring::free(setup.pages) };
    let builder = builder.mode(mode).padding(setup.padding).start_position(setup.start);
    let builder: Builder = match setup.granule {
        Some(granule) => builder.granule(granule),
        None => builder,
    };
    match setup.home {
        Home::Private => builder.private(),
        Home::Memfd => builder.memfd(),
        // SAFETY: nobody else knows the file.
        Home::File => unsafe { builder.create_file(dir.path().join("ring")) },
    }
    .unwrap()
}

/// What the two producers of lossless rings have in common.
trait Lossless: Owner + Sized {
    const SHARED: bool;
    fn page(&self, size: usize) -> Result<Reservation<'_, Self>, BeginError>;
    fn split(&self, size: usize) -> Result<SplitReservation<'_, Self>, BeginError>;
    fn lost(&self) -> (u64, u64);
    fn open(&self) -> Vec<OpenReservation>;
    fn flush_lost(&self) -> Option<Result<(), BeginError>>;
}

impl Lossless for Producer {
    const SHARED: bool = false;
    fn page(&self, size: usize) -> Result<Reservation<'_, Self>, BeginError> {
        self.begin_forward_in_page(size)
    }
    fn split(&self, size: usize) -> Result<SplitReservation<'_, Self>, BeginError> {
        self.begin_forward(size)
    }
    fn lost(&self) -> (u64, u64) {
        (self.lost_total(), self.lost_pending())
    }
    fn open(&self) -> Vec<OpenReservation> {
        self.open_reservations()
    }
    fn flush_lost(&self) -> Option<Result<(), BeginError>> {
        Some(self.flush_lost())
    }
}

impl Lossless for SharedProducer {
    const SHARED: bool = true;
    fn page(&self, size: usize) -> Result<Reservation<'_, Self>, BeginError> {
        self.begin_forward_in_page(size)
    }
    fn split(&self, size: usize) -> Result<SplitReservation<'_, Self>, BeginError> {
        self.begin_forward(size)
    }
    fn lost(&self) -> (u64, u64) {
        (self.lost_total(), self.lost_pending())
    }
    fn open(&self) -> Vec<OpenReservation> {
        self.open_reservations()
    }
    fn flush_lost(&self) -> Option<Result<(), BeginError>> {
        None
    }
}

enum Held<'a, P: Owner> {
    Page(Reservation<'a, P>),
    Split(SplitReservation<'a, P>),
}

macro_rules! on_held {
    ($held:expr, $record:ident => $action:expr) => {
        match $held {
            Held::Page($record) => $action,
            Held::Split($record) => $action,
        }
    };
}

fn header(type_: u32, misc: u16, size: usize) -> [u8; HEADER_SIZE] {
    RecordHeader { type_, misc, size: size as u16 }.to_bytes()
}

#[derive(Debug)]
enum Content {
    Padding,
    Open,
    Record(Vec<u8>),
}

#[derive(Debug)]
struct Entry {
    position: u64,
    size: u64,
    claim: usize,
    content: Content,
}

/// An open reservation in the model: what was written into its body so far.
struct Draft {
    claim: usize,
    position: u64,
    claim_start: u64,
    size: usize,
    body: Vec<u8>,
}

struct Model {
    size: u64,
    granule: u64,
    confined: bool,
    shared: bool,
    head: u64,
    published: u64,
    read: u64,
    claims: usize,
    /// In the order of positions: what lies in [read, head).
    entries: VecDeque<Entry>,
    drafts: Vec<Draft>,
    lost_total: u64,
    lost_pending: u64,
    padding_read: u64,
    /// For `written = read + lost + pending`.
    tried: u64,
    gone: u64,
}

impl Model {
    fn gap(&self, at: u64, size: u64, confine: bool) -> u64 {
        let left = self.granule - at % self.granule;
        if confine && size > left { left } else { 0 }
    }

    fn free(&self) -> u64 {
        self.size - 8 - self.head.wrapping_sub(self.read)
    }

    fn lay(&mut self, size: u64, claim: usize, content: Content) -> u64 {
        let position = self.head;
        if size != 0 {
            self.entries.push_back(Entry { position, size, claim, content });
            self.head = position.wrapping_add(size);
        }
        position
    }

    fn lay_lost(&mut self, claim: usize) {
        let gap = self.gap(self.head, LOST_SIZE, self.confined);
        self.lay(gap, claim, Content::Padding);
        let count = self.lost_pending.to_ne_bytes();
        let bytes = [header(LOST, 0, 24), [0; 8], count].concat();
        self.lay(LOST_SIZE, claim, Content::Record(bytes));
        self.lost_pending = 0;
    }

    fn begin(&mut self, size: usize, in_page: bool) -> Result<u64, BeginError> {
        if !in_page && self.confined {
            return Err(BeginError::Confined);
        }
        let (granule, capacity) = (self.granule as usize, self.size as usize - 8);
        match size {
            0 => return Err(BeginError::ZeroSize),
            65529.. => return Err(BeginError::TooLarge { size }),
            _ if in_page && size > granule => return Err(BeginError::OverGranule { size, granule }),
            _ if size > capacity => return Err(BeginError::OverRing { size, capacity }),
            _ => {}
        }
        self.tried += 1;
        let size64 = size as u64;
        let mut with_lost = false;
        let mut needed = self.gap(self.head, size64, in_page) + size64;
        if self.lost_pending != 0 {
            let mut after = self.gap(self.head, LOST_SIZE, self.confined) + LOST_SIZE;
            after += self.gap(self.head.wrapping_add(after), size64, in_page) + size64;
            if after <= self.size - 8 {
                (with_lost, needed) = (true, after);
            }
        }
        let free = self.free();
        if needed > free {
            self.lost_total += 1;
            self.lost_pending += 1;
            return Err(BeginError::Full { needed, free });
        }
        let claim = self.claims;
        self.claims += 1;
        let claim_start = self.head;
        if with_lost {
            self.lay_lost(claim);
        }
        let gap = self.gap(self.head, size64, in_page);
        self.lay(gap, claim, Content::Padding);
        let position = self.lay(size64, claim, Content::Open);
        self.drafts.push(Draft { claim, position, claim_start, size, body: Vec::new() });
        Ok(position)
    }

    fn close(&mut self, which: usize, used: usize, type_: u32, misc: u16) {
        let mut draft = self.drafts.remove(which);
        let at = self.entries.iter().position(|entry| entry.position == draft.position).unwrap();
        let last = draft.position.wrapping_add(draft.size as u64) == self.head && !self.shared;
        let claim = draft.claim;
        self.entries.remove(at);
        let rest = (draft.size - used) as u64;
        if rest != 0 {
            let position = draft.position.wrapping_add(used as u64);
            if last {
                self.head = position;
            } else {
                self.entries.insert(at, Entry { position, size: rest, claim, content: Content::Padding });
            }
        }
        if used != 0 {
            draft.body.resize(used - HEADER_SIZE, 0);
            let bytes = [&header(type_, misc, used)[..], &draft.body].concat();
            let entry = Entry { position: draft.position, size: used as u64, claim, content: Content::Record(bytes) };
            self.entries.insert(at, entry);
        } else {
            self.gone += 1;
        }
        self.publish();
    }

    fn publish(&mut self) {
        // A shared producer publishes whole claims, gap and lost record and record; the other each on its own.
        let open = |entry: &&Entry| match (self.shared, &entry.content) {
            (true, _) => self.drafts.iter().any(|draft| draft.claim == entry.claim),
            (false, content) => matches!(content, Content::Open),
        };
        let first_open = self.entries.iter().find(open).map(|entry| entry.position);
        self.published = first_open.unwrap_or(self.head);
    }

    /// The next record that can be read.
    fn read(&mut self) -> Option<OwnedRecord> {
        while self.read != self.published {
            let entry = self.entries.pop_front().unwrap();
            assert_eq!(entry.position, self.read);
            self.read = self.read.wrapping_add(entry.size);
            match entry.content {
                Content::Padding => self.padding_read += entry.size,
                Content::Open => panic!("published while open"),
                Content::Record(bytes) => {
                    let header = RecordHeader::from_bytes(bytes[..8].try_into().unwrap());
                    return Some(OwnedRecord { bytes, header, position: entry.position });
                }
            }
        }
        None
    }
}

fn run<P: Lossless>(setup: &Setup, ops: &[Op], ring: &Ring, producer: &P) -> Result<(), TestCaseError> {
    let mut consumer = ring.consumer().unwrap();
    if let Some(bytes) = setup.release_every {
        consumer.set_release_every(bytes);
    }
    let description = ring.description();
    let start = description.data_head;
    let mut model = Model {
        size: description.data_size,
        granule: description.granule,
        confined: setup.confined,
        shared: P::SHARED,
        head: start,
        published: start,
        read: start,
        claims: 0,
        entries: VecDeque::new(),
        drafts: Vec::new(),
        lost_total: 0,
        lost_pending: 0,
        padding_read: 0,
        tried: 0,
        gone: 0,
    };
    let mut held: Vec<Held<'_, P>> = Vec::new();
    let (mut seed, mut records_read, mut lost_read) = (0u64, 0, 0);
    let ops = ops.iter().cloned();
    // In the end everything is closed and read.
    let mut tail = vec![Op::Commit { which: 0 }; 120];
    tail.push(Op::Consume { most: usize::MAX });
    for op in ops.chain(tail) {
        seed += 1;
        let open = held.len();
        match op {
            Op::Begin { words, in_page } => {
                let size = words * 8;
                let begun = match in_page {
                    true => producer.page(size).map(Held::Page),
                    false => producer.split(size).map(Held::Split),
                };
                match (begun, model.begin(size, in_page)) {
                    (Ok(record), Ok(expected)) => {
                        let (position, size_, remaining) =
                            on_held!(&record, record => (record.position(), record.size(), record.remaining()));
                        prop_assert_eq!((position, size_, remaining), (expected, size, size - HEADER_SIZE));
                        held.push(record);
                    }
                    (Err(error), Err(expected)) => prop_assert_eq!(error, expected),
                    (begun, expected) => prop_assert!(false, "{:?} for {:?}", begun.map(|_| ()), expected),
                }
            }
            Op::Put { which, len, slices } if open != 0 => {
                let which = which % open;
                let draft = &mut model.drafts[which];
                let bytes: Vec<u8> = (0..len as u64).map(|i| (seed * 37 + i) as u8).collect();
                if slices {
                    draft.body.resize(draft.size - HEADER_SIZE, 0);
                    let len = len.min(draft.body.len());
                    let from = draft.body.len() - len;
                    draft.body[from..].copy_from_slice(&bytes[..len]);
                    let (first, second) = match &mut held[which] {
                        Held::Page(record) => (record.body_mut(), &mut [][..]),
                        Held::Split(record) => record.body_mut(),
                    };
                    let split = first.len();
                    prop_assert_eq!(split + second.len(), draft.body.len());
                    let wraps = draft.position % model.size + 8 + draft.body.len() as u64 > model.size;
                    prop_assert_eq!(!second.is_empty(), wraps);
                    for (i, byte) in bytes[..len].iter().enumerate() {
                        let at = from + i;
                        if at < split { first[at] = *byte } else { second[at - split] = *byte }
                    }
                    prop_assert_eq!(&draft.body[..split], first);
                    prop_assert_eq!(&draft.body[split..], second);
                } else {
                    let len = len.min(draft.size - HEADER_SIZE - draft.body.len());
                    draft.body.extend(&bytes[..len]);
                    on_held!(&mut held[which], record => record.put(&bytes[..len]));
                }
            }
            Op::Commit { which } if open != 0 => {
                let which = which % open;
                let (type_, misc) = (100 + seed as u32, seed as u16);
                on_held!(held.remove(which), record => record.commit(type_, misc));
                model.close(which, model.drafts[which].size, type_, misc);
            }
            Op::CommitLen { which, part } if open != 0 => {
                let which = which % open;
                let size = model.drafts[which].size;
                // Also sizes that are refused: 0, and unaligned ones.
                let used = size * part / 256;
                let used = if part % 5 == 0 { used } else { used / 8 * 8 };
                let done = on_held!(held.remove(which), record => record.commit_len(used, 7, 7));
                let sound = used >= HEADER_SIZE && used % 8 == 0;
                prop_assert_eq!(done.is_ok(), sound);
                model.close(which, if sound { used } else { 0 }, 7, 7);
            }
            Op::Discard { which } if open != 0 => {
                let which = which % open;
                drop(held.remove(which));
                model.close(which, 0, 0, 0);
            }
            Op::FlushLost => {
                let Some(done) = producer.flush_lost() else { continue };
                let needed = model.gap(model.head, LOST_SIZE, model.confined) + LOST_SIZE;
                let free = model.free();
                if model.lost_pending != 0 && needed > free {
                    prop_assert_eq!(done, Err(BeginError::Full { needed, free }));
                } else {
                    prop_assert_eq!(done, Ok(()));
                    if model.lost_pending != 0 {
                        let claim = model.claims;
                        model.claims += 1;
                        model.lay_lost(claim);
                        if model.drafts.is_empty() {
                            model.publish();
                        }
                    }
                }
            }
            Op::ForEach => {
                let mut records = Vec::new();
                let count = consumer.for_each(|record| records.push(OwnedRecord::from(record))).unwrap();
                prop_assert_eq!(count, records.len() as u64);
                for record in records {
                    match record.header.type_ {
                        LOST => lost_read += u64::from_ne_bytes(record.bytes[16..24].try_into().unwrap()),
                        _ => records_read += 1,
                    }
                    prop_assert_eq!(Some(record), model.read());
                }
                prop_assert_eq!(model.read(), None);
                prop_assert_eq!(consumer.position(), model.read);
                prop_assert_eq!((consumer.stats().padding, consumer.stats().skipped), (model.padding_read, 0));
            }
            Op::Consume { most } => {
                prop_assert_eq!(consumer.is_ready(), model.read != model.published);
                let mut drain = consumer.drain();
                for _ in 0..most {
                    let record = drain.next().transpose().unwrap().map(OwnedRecord::from);
                    let expected = model.read();
                    prop_assert_eq!(&record, &expected);
                    let Some(record) = record else { break };
                    match record.header.type_ {
                        LOST => lost_read += u64::from_ne_bytes(record.bytes[16..24].try_into().unwrap()),
                        _ => records_read += 1,
                    }
                }
                drop(drain);
                prop_assert_eq!(consumer.position(), model.read);
                prop_assert_eq!((consumer.stats().padding, consumer.stats().skipped), (model.padding_read, 0));
                prop_assert_eq!(consumer.lost_total(), Some(model.lost_total));
            }
            _ => {}
        }
        prop_assert_eq!(producer.lost(), (model.lost_total, model.lost_pending));
        let mut expected: Vec<OpenReservation> = Vec::new();
        for draft in &model.drafts {
            let end = draft.position.wrapping_add(draft.size as u64);
            // A shared producer knows whole claims, and those side by side as one.
            let position = if P::SHARED { draft.claim_start } else { draft.position };
            match expected.last_mut() {
                Some(last) if P::SHARED && last.position.wrapping_add(last.size as u64) == position => {
                    last.size = end.wrapping_sub(last.position) as usize;
                }
                _ => expected.push(OpenReservation { position, size: end.wrapping_sub(position) as usize }),
            }
        }
        prop_assert_eq!(producer.open(), expected);
    }
    prop_assert_eq!(model.read, model.head);
    prop_assert_eq!(model.tried, records_read + lost_read + model.lost_pending + model.gone);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_producer_is_a_queue_of_byte_vectors(setup in setup(), ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let ring = build(&setup, Mode::Lossless, &dir);
        let producer = ring.producer().unwrap();
        run(&setup, &ops, &ring, &producer)?;
    }

    #[test]
    fn a_shared_producer_is_a_queue_of_byte_vectors(setup in setup(), ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let ring = build(&setup, Mode::Lossless, &dir);
        let producer = ring.shared_producer().unwrap();
        run(&setup, &ops, &ring, &producer)?;
    }
}

// Rings that overwrite.

struct Overwriting {
    forward: bool,
    size: u64,
    granule: u64,
    start: u64,
    head: u64,
    published: u64,
    /// The furthest that was reserved.
    reserved: u64,
    lost_total: u64,
    lost_pending: u64,
}

impl Overwriting {
    /// How far `position` is from the start, in the direction of growth.
    fn far(&self, position: u64) -> u64 {
        if self.forward { position.wrapping_sub(self.start) } else { self.start.wrapping_sub(position) }
    }

    fn gap(&self, at: u64, size: u64) -> u64 {
        let left = self.granule - at % self.granule;
        if self.forward && size > left { left } else { 0 }
    }

    /// Position of the lost record, if there is one, and of the record; or how Full it is.
    fn begin(&mut self, size: u64) -> Result<(Option<u64>, u64), BeginError> {
        let mut lost = None;
        let mut total = self.gap(self.head, size) + size;
        if self.lost_pending != 0 {
            let gap = self.gap(self.head, LOST_SIZE);
            let mut both = gap + LOST_SIZE;
            both += self.gap(self.head.wrapping_add(both), size) + size;
            if both <= self.size - 8 {
                (lost, total) = (Some(gap), both);
            }
        }
        let free = self.size - 8 - (self.far(self.head) - self.far(self.published));
        if total > free {
            self.lost_total += 1;
            self.lost_pending += 1;
            return Err(BeginError::Full { needed: total, free });
        }
        let start = self.head;
        self.head = if self.forward { start.wrapping_add(total) } else { start.wrapping_sub(total) };
        if self.far(self.head) > self.far(self.reserved) {
            self.reserved = self.head;
        }
        Ok(if self.forward {
            (lost.map(|gap| start.wrapping_add(gap)), self.head.wrapping_sub(size))
        } else {
            (lost.map(|_| start.wrapping_sub(LOST_SIZE)), self.head)
        })
    }

    /// The first position of a forward ring that is still whole.
    fn whole_from(&self) -> u64 {
        if self.far(self.reserved) <= self.size {
            return self.start;
        }
        let from = self.reserved.wrapping_sub(self.size);
        let from = from.wrapping_add(self.granule - 1) & !(self.granule - 1);
        if self.far(from) < self.far(self.published) { from } else { self.published }
    }
}

/// Runs the operations on a ring that overwrites: a reader sees the newest records that are whole, each exactly once.
fn overwrite(forward: bool, ops: &[Op], ring: &Ring) -> Result<(), TestCaseError> {
    let producer: OverwriteProducer = ring.overwrite_producer().unwrap();
    let mut consumer = ring.consumer().unwrap();
    let description = ring.description();
    let start = description.data_head;
    let mut model = Overwriting {
        forward,
        size: description.data_size,
        granule: description.granule,
        start,
        head: start,
        published: start,
        reserved: start,
        lost_total: 0,
        lost_pending: 0,
    };
    let capacity = model.size as usize - 8;
    // What is published, in the order of growth, and what was closed and is not.
    let (mut log, mut waiting): (Vec<OwnedRecord>, Vec<OwnedRecord>) = (Vec::new(), Vec::new());
    let mut held = Vec::new();
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    let (mut seed, mut position, mut fresh, mut partial) = (0u64, start, true, false);
    let mut tail = vec![Op::Commit { which: 0 }; 120];
    tail.push(Op::Consume { most: usize::MAX });
    let record_of = |position, bytes: Vec<u8>| {
        let header = RecordHeader::from_bytes(bytes[..8].try_into().unwrap());
        OwnedRecord { bytes, header, position }
    };
    for op in ops.iter().cloned().chain(tail) {
        seed += 1;
        let open: usize = held.len();
        match op {
            Op::Begin { words, .. } => {
                let size = words * 8;
                let most = if forward { (model.granule as usize).min(65528) } else { capacity.min(65528) };
                let begun = if forward { producer.begin_forward_in_page(size) } else { producer.begin_backward(size) };
                if size == 0 || size > most {
                    prop_assert!(begun.is_err());
                    continue;
                }
                let pending = model.lost_pending;
                match (begun, model.begin(size as u64)) {
                    (Ok(record), Ok((lost, expected))) => {
                        prop_assert_eq!(record.position(), expected);
                        if let Some(at) = lost {
                            let bytes = [header(LOST, 0, 24), [0; 8], pending.to_ne_bytes()].concat();
                            waiting.push(record_of(at, bytes));
                            model.lost_pending = 0;
                        }
                        held.push(record);
                        bodies.push(Vec::new());
                    }
                    (Err(error), Err(expected)) => prop_assert_eq!(error, expected),
                    (begun, expected) => prop_assert!(false, "{:?} for {:?}", begun, expected),
                }
            }
            Op::Put { which, len, .. } if open != 0 => {
                let (record, body) = (&mut held[which % open], &mut bodies[which % open]);
                let len = len.min(record.remaining());
                let bytes: Vec<u8> = (0..len as u64).map(|i| (seed * 37 + i) as u8).collect();
                record.put(&bytes);
                body.extend(bytes);
            }
            Op::Commit { which } | Op::CommitLen { which, .. } | Op::Discard { which } if open != 0 => {
                let record = held.remove(which % open);
                let mut body = bodies.remove(which % open);
                let (at, size) = (record.position(), record.size());
                let used = match op {
                    Op::Commit { .. } => size,
                    Op::CommitLen { part, .. } => (size * part / 256 / 8 * 8).max(8),
                    _ => 0,
                };
                match used {
                    0 => record.discard(),
                    _ => record.commit_len(used, 100, seed as u16).unwrap(),
                }
                if used != 0 {
                    body.resize(used - HEADER_SIZE, 0);
                    waiting.push(record_of(at, [&header(100, seed as u16, used)[..], &body].concat()));
                }
                // The newest one is given back.
                let end = at.wrapping_add(size as u64);
                if forward && end == model.head {
                    model.head = at.wrapping_add(used as u64);
                } else if !forward && used == 0 && at == model.head {
                    model.head = end;
                }
                // The oldest that is open is the first in the order of growth.
                let oldest = held.iter().min_by_key(|record| model.far(record.position()));
                model.published = oldest.map_or(model.head, |record| match forward {
                    true => record.position(),
                    false => record.position().wrapping_add(record.size() as u64),
                });
                waiting.sort_by_key(|record| model.far(record.position));
                let closed = |record: &OwnedRecord| {
                    let (at, end) = (model.far(record.position), model.far(model.published));
                    if forward { at < end } else { at <= end }
                };
                let count = waiting.iter().take_while(|record| closed(record)).count();
                log.extend(waiting.drain(..count));
            }
            Op::Consume { most } => {
                let (mut records, mut errors) = (Vec::new(), Vec::new());
                for result in consumer.drain().owned().take(most) {
                    match result {
                        Ok(record) => records.push(record),
                        Err(error) => errors.push(error),
                    }
                }
                if most == 0 {
                    // Making the drain decided where it starts.
                    (position, fresh) = (if fresh && forward { model.whole_from() } else { position }, false);
                    if !forward {
                        position = model.published;
                    }
                    prop_assert_eq!(consumer.position(), position);
                    continue;
                }
                for error in &errors {
                    prop_assert_eq!(error.kind, ReadErrorKind::Overwritten);
                }
                for record in &records {
                    prop_assert!(log.contains(record), "{:?}", record);
                }
                let grown = |pair: &[OwnedRecord]| model.far(pair[0].position) < model.far(pair[1].position);
                if forward {
                    prop_assert!(records.windows(2).all(grown));
                    let from = match (fresh, model.reserved.wrapping_sub(position) <= model.size) {
                        (true, _) => model.whole_from(),
                        (false, true) => position,
                        (false, false) if position == model.published => position,
                        (false, false) => model.whole_from(),
                    };
                    if most == usize::MAX && !partial {
                        let expected: Vec<_> = log
                            .iter()
                            .filter(|record| model.far(record.position) >= model.far(from))
                            .cloned()
                            .collect();
                        prop_assert_eq!(&records, &expected);
                        let skipped: u64 = errors.iter().map(|error| error.skipped).sum();
                        prop_assert_eq!(skipped, if fresh { 0 } else { from.wrapping_sub(position) });
                    }
                    partial = most != usize::MAX;
                    position = consumer.position();
                } else {
                    let wanted =
                        if fresh { model.far(model.published) } else { position.wrapping_sub(model.published) };
                    let whole = model.reserved.wrapping_add(model.size).wrapping_sub(model.published);
                    let have = wanted.min(whole);
                    let expected = log
                        .iter()
                        .rev()
                        .filter(|record| {
                            let at = record.position.wrapping_sub(model.published);
                            at < have && record.bytes.len() as u64 <= have - at
                        })
                        .take(most)
                        .cloned()
                        .collect::<Vec<_>>();
                    prop_assert_eq!(&records, &expected);
                    if most == usize::MAX {
                        let skipped: u64 = errors.iter().map(|error| error.skipped).sum();
                        prop_assert_eq!(skipped, if fresh { 0 } else { wanted - have });
                    }
                    position = model.published;
                }
                fresh = false;
            }
            _ => {}
        }
        prop_assert_eq!((producer.lost_total(), producer.lost_pending()), (model.lost_total, model.lost_pending));
        prop_assert_eq!(producer.open_reservations().len(), held.len());
    }
    prop_assert_eq!(consumer.lost_total(), Some(model.lost_total));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn overwriting_forward_shows_the_newest(setup in setup(), ops in prop::collection::vec(ops(), 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup { pages: setup.pages.max(4), confined: true, ..setup };
        let setup = if setup.granule.is_some() { Setup { pages: 16, ..setup } } else { setup };
        let ring = build(&setup, Mode::OverwriteForward, &dir);
        overwrite(true, &ops.concat(), &ring)?;
    }

    #[test]
    fn overwriting_backward_shows_the_newest(setup in setup(), ops in prop::collection::vec(ops(), 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup { confined: false, ..setup };
        let ring = build(&setup, Mode::OverwriteBackward, &dir);
        overwrite(false, &ops.concat(), &ring)?;
    }
}
