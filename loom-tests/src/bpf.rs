//! The models of maps. Nothing here runs a program: what one does with a map is to look up under a guard, as `reader` does,
//! and to read and write values, which nothing orders.

use crate::models::Model;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;
use perfring::bpf::lease::model::LeasesModel;
use perfring::bpf::map::MapError;
use perfring::bpf::map::model::{CellModel, HashModel, pin};

pub const MODELS: &[Model] = &[
    Model { name: "map_insert", preemptions: 4, at_least: 1500, run: map_insert },
    Model { name: "map_replace", preemptions: 4, at_least: 30000, run: map_replace },
    Model { name: "map_delete", preemptions: 4, at_least: 52000, run: map_delete },
    Model { name: "map_delete_reuse", preemptions: 4, at_least: 57000, run: map_delete_reuse },
    Model { name: "map_walk", preemptions: 4, at_least: 2100, run: map_walk },
    Model { name: "map_evict", preemptions: 4, at_least: 100000, run: map_evict },
    Model { name: "map_evict_twice", preemptions: 5, at_least: 29000, run: map_evict_twice },
    Model { name: "map_evict_apart", preemptions: 4, at_least: 21000, run: map_evict_apart },
    Model { name: "map_count_last", preemptions: 5, at_least: 190, run: map_count_last },
    Model { name: "map_count", preemptions: 4, at_least: 410, run: map_count },
    Model { name: "map_free", preemptions: 4, at_least: 2000, run: map_free },
    Model { name: "map_cell", preemptions: 4, at_least: 1200, run: map_cell },
    Model { name: "map_cell_swap", preemptions: 4, at_least: 100, run: map_cell_swap },
    Model { name: "fire_close", preemptions: 3, at_least: 100, run: fire_close },
    Model { name: "fire_enable", preemptions: 3, at_least: 100, run: fire_enable },
];

/// The value that belongs to a key in every model, unless it says otherwise.
fn value(key: u64) -> u64 {
    key * 1000
}

fn hash(max_entries: u32, slots: u32, lru: bool) -> Arc<HashModel> {
    Arc::new(HashModel::new(max_entries, slots, lru))
}

fn fill<const N: usize>(hash: &HashModel) -> [u64; N] {
    let keys = hash.keys_of(0);
    for key in keys {
        hash.update(key, value(key)).expect("there is room");
    }
    keys
}

/// Looks `key` up on another thread, as a program does: what it finds has one of the values `of`, and keeps it while the guard
/// is there. Gives whether it was there.
fn reader<const N: usize>(hash: &Arc<HashModel>, key: u64, of: [u64; N]) -> thread::JoinHandle<bool> {
    let hash = hash.clone();
    thread::spawn(move || {
        let pin = pin();
        let Some(slot) = hash.lookup(key, &pin) else { return false };
        let first = hash.value(slot);
        assert!(of.contains(&first), "{first}");
        thread::yield_now();
        assert_eq!(hash.value(slot), first, "the value of an element that may be looked at");
        true
    })
}

/// Insert against lookup, in a chain: the new elements come before those that are there.
fn map_insert() {
    let hash = hash(3, 3, false);
    let [there, first, second] = hash.keys_of(0);
    hash.update(there, value(there)).unwrap();
    let reader = {
        let (hash, own) = (hash.clone(), hash.clone());
        let other = self::reader(&own, first, [value(first)]);
        let pin = pin();
        hash.update(first, value(first)).unwrap();
        hash.update(second, value(second)).unwrap();
        let slot = hash.lookup(there, &pin).expect("it was there before");
        assert_eq!(hash.value(slot), value(there));
        other
    };
    reader.join().unwrap();
    assert_eq!(hash.counted(), 3);
}

/// Replace against lookup: one or the other is found.
fn map_replace() {
    let hash = hash(2, 4, false);
    let [last, first] = fill(&hash);
    let readers = [reader(&hash, first, [value(first), 7]), reader(&hash, last, [value(last)])];
    hash.update(first, 7).unwrap();
    for reader in readers {
        assert!(reader.join().unwrap(), "it is always there");
    }
    assert_eq!(hash.counted(), 2);
}

/// Delete against lookup: of what is behind it in the chain, and of itself.
fn map_delete() {
    let hash = hash(2, 2, false);
    let [last, first] = fill(&hash);
    let readers = [reader(&hash, first, [value(first)]), reader(&hash, last, [value(last)])];
    hash.delete(first).unwrap();
    assert_eq!(hash.delete(first), Err(MapError::NotFound));
    let [_, last] = readers.map(|reader| reader.join().unwrap());
    assert!(last, "it is always there");
}

/// A slot that is used again: not while it may be looked at, but then.
fn map_delete_reuse() {
    let hash = hash(1, 1, false);
    let [key, other] = hash.keys_of(0);
    hash.update(key, value(key)).unwrap();
    let readers = [reader(&hash, key, [value(key)]), reader(&hash, other, [value(other)])];
    hash.delete(key).unwrap();
    let early = hash.update(other, value(other));
    assert!(matches!(early, Ok(()) | Err(MapError::NoElement { waiting: 0..=1 })), "{early:?}");
    for reader in readers {
        reader.join().unwrap();
    }
    hash.update(other, value(other)).expect("nobody looks any more");
    assert_eq!(hash.counted(), 1);
}

/// Who walks a bucket finds what is there all the time, once.
fn map_walk() {
    let hash = hash(4, 5, false);
    let [last, middle, first, new] = hash.keys_of(0);
    for key in [last, middle, first] {
        hash.update(key, value(key)).unwrap();
    }
    let walker = {
        let hash = hash.clone();
        thread::spawn(move || hash.elements(0))
    };
    hash.delete(middle).unwrap();
    hash.update(first, 7).unwrap();
    hash.update(new, value(new)).unwrap();
    let found = walker.join().unwrap();
    for (key, values) in
        [(last, [value(last); 2]), (middle, [value(middle); 2]), (first, [value(first), 7]), (new, [value(new); 2])]
    {
        let of_key: Vec<_> = found.iter().filter(|(other, _)| *other == key).collect();
        assert!(of_key.len() <= 1, "{found:?}");
        assert!(!of_key.is_empty() || key == middle || key == new, "{found:?}");
        assert!(of_key.iter().all(|(_, value)| values.contains(value)), "{found:?}");
    }
}

/// Eviction against lookup.
fn map_evict() {
    let hash = hash(1, 2, true);
    let [key, other] = hash.keys_of(0);
    hash.update(key, value(key)).unwrap();
    let readers = [reader(&hash, key, [value(key)]), reader(&hash, other, [value(other)])];
    hash.update(other, value(other)).unwrap();
    for reader in readers {
        reader.join().unwrap();
    }
    assert_eq!(hash.elements(0), [(other, value(other))]);
    assert_eq!(hash.counted(), 1);
}

/// Two that need room at once: as many as may be are there in the end.
fn evict_twice(bucket: usize) {
    let hash = hash(2, 4, true);
    let _: [u64; 2] = fill(&hash);
    let ([_, _, third], [.., fourth]) = (hash.keys_of(0), hash.keys_of::<4>(bucket));
    let other = {
        let hash = hash.clone();
        thread::spawn(move || hash.update(third, value(third)))
    };
    let own = hash.update(fourth, value(fourth));
    assert_eq!((own, other.join().unwrap()), (Ok(()), Ok(())));
    let found = [hash.elements(0), hash.elements(1)].concat();
    assert_eq!((found.len(), hash.counted()), (2, 2), "{found:?}");
    assert!(found.iter().all(|(key, found)| *found == value(*key)), "{found:?}");
}

/// Under one lock.
fn map_evict_twice() {
    evict_twice(0);
}

/// Under locks of their own.
fn map_evict_apart() {
    evict_twice(1);
}

/// Two that take the last place, under locks of their own.
fn map_count() {
    let hash = hash(2, 3, false);
    let ([there, first], [second]) = (hash.keys_of(0), hash.keys_of(1));
    hash.update(there, value(there)).unwrap();
    let other = {
        let hash = hash.clone();
        thread::spawn(move || {
            let result = hash.update(first, value(first));
            (result.clone(), hash.delete(there))
        })
    };
    let own = hash.update(second, value(second));
    let (other, deleted) = other.join().unwrap();
    assert_eq!(deleted, Ok(()));
    let full = Err(MapError::Full { entries: 2 });
    assert!([&own, &other].iter().all(|result| **result == Ok(()) || **result == full), "{own:?} {other:?}");
    assert!(own.is_ok() || other.is_ok(), "one has it");
    let made = u32::from(own.is_ok()) + u32::from(other.is_ok());
    let found = hash.elements(0).len() + hash.elements(1).len();
    assert_eq!((hash.counted(), found), (made, made as usize));
}

/// The same without anything being deleted: one is refused.
fn map_count_last() {
    let hash = hash(2, 4, false);
    let ([there, first], [second]) = (hash.keys_of(0), hash.keys_of(1));
    hash.update(there, value(there)).unwrap();
    let other = {
        let hash = hash.clone();
        thread::spawn(move || hash.update(first, value(first)))
    };
    let results = [hash.update(second, value(second)), other.join().unwrap()];
    assert!(results.contains(&Ok(())) && results.contains(&Err(MapError::Full { entries: 2 })), "{results:?}");
    assert_eq!(hash.counted(), 2);
}

/// Slots that come back while others are taken: none is lost, and none is given twice.
fn map_free() {
    let hash = hash(2, 2, false);
    let ([last, first], [new]) = (hash.keys_of(0), hash.keys_of(1));
    // The slot of `last` has no link; when it becomes free, it leads to that of `first`.
    hash.update(last, value(last)).unwrap();
    hash.update(first, value(first)).unwrap();
    let other = {
        let hash = hash.clone();
        thread::spawn(move || {
            hash.delete(first).unwrap();
            hash.delete(last).unwrap();
        })
    };
    let early = hash.update(new, value(new));
    other.join().unwrap();
    if early.is_err() {
        hash.update(new, value(new)).expect("two slots are free");
    }
    hash.update(last, value(last)).expect("a slot is free");
    assert_eq!(hash.elements(0), [(last, value(last))]);
    assert_eq!(hash.elements(1), [(new, value(new))]);
}

/// A program, say: what it is made of is written before it is put anywhere, and dropped once.
struct Payload {
    word: AtomicU64,
    drops: Arc<AtomicU64>,
}

impl Payload {
    fn new(number: u64, drops: &Arc<AtomicU64>) -> Self {
        let this = Self { word: AtomicU64::new(0), drops: drops.clone() };
        this.word.store(number, Relaxed);
        this
    }

    fn number(&self) -> u64 {
        self.word.load(Relaxed)
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        // An access that loom refuses beside any other.
        self.word.with_mut(|word| assert_ne!(*word, 0, "it was made before it is dropped"));
        self.drops.fetch_add(1, Relaxed);
    }
}

/// An array of programs is updated while a program calls one of them.
fn map_cell() {
    let drops = Arc::new(AtomicU64::new(0));
    let cell = Arc::new(CellModel::new());
    assert!(!cell.swap(Some(Payload::new(1, &drops))));
    let caller = {
        let cell = cell.clone();
        thread::spawn(move || {
            let pin = pin();
            let found = cell.load(&pin).map(|found| (found, found.number()));
            if let Some((found, number)) = found {
                assert!(matches!(number, 1 | 2), "{number}");
                thread::yield_now();
                assert_eq!(found.number(), number);
            }
        })
    };
    assert!(cell.swap(Some(Payload::new(2, &drops))));
    assert!(cell.swap(None));
    caller.join().unwrap();
    drop(cell);
    assert_eq!(drops.load(Relaxed), 2);
}

/// Two update it at once, and it goes while it is full.
fn map_cell_swap() {
    let drops = Arc::new(AtomicU64::new(0));
    let cell = Arc::new(CellModel::new());
    let other = {
        let (cell, drops) = (cell.clone(), drops.clone());
        thread::spawn(move || cell.swap(Some(Payload::new(1, &drops))))
    };
    let own = cell.swap(Some(Payload::new(2, &drops)));
    let other = other.join().unwrap();
    assert!(own != other, "one found what the other had put there");
    drop(cell);
    assert_eq!(drops.load(Relaxed), 2);
}

/// A probe: whether it is enabled, and where those who come by find what for.
struct Probe {
    enabled: AtomicU64,
    enabling: CellModel<LeasesModel>,
}

impl Probe {
    fn new() -> Arc<Self> {
        Arc::new(Self { enabled: AtomicU64::new(0), enabling: CellModel::new() })
    }

    fn enable(&self, session: &LeasesModel) {
        self.enabling.swap(Some(session.clone()));
        self.enabled.store(1, Relaxed);
    }

    fn disable(&self) {
        self.enabling.swap(None);
        self.enabled.store(0, Relaxed);
    }

    /// Whether there is a record of it.
    fn fire(&self, near: usize) -> bool {
        if self.enabled.load(Relaxed) == 0 {
            return false;
        }
        let pin = pin();
        self.enabling.load(&pin).and_then(|session| session.fire(near)).unwrap_or(false)
    }
}

/// Firings against the end of a session: what is in its rings when it is closed is what was fired, and nothing comes behind it.
fn fire_close() {
    let (probe, session) = (Probe::new(), LeasesModel::new(2));
    probe.enable(&session);
    let threads: Vec<_> = (0..2)
        .map(|thread| {
            let probe = probe.clone();
            thread::spawn(move || u64::from(probe.fire(thread)))
        })
        .collect();
    probe.disable();
    session.stop();
    let records = session.records();
    let fired: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(fired, records, "what was committed is read, and nothing else was");
    assert!(!probe.fire(0));
}

/// Firings against the start of a session, and the end of another: who sees the new one sees all of it.
fn fire_enable() {
    let (probe, first, second) = (Probe::new(), LeasesModel::new(1), LeasesModel::new(1));
    probe.enable(&first);
    let thread = {
        let probe = probe.clone();
        thread::spawn(move || u64::from(probe.fire(0)) + u64::from(probe.fire(0)))
    };
    probe.enable(&second);
    first.stop();
    let before = first.records();
    probe.disable();
    second.stop();
    let fired = thread.join().unwrap();
    assert_eq!(fired, before + second.records());
}
