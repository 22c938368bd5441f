//! Slots: kept while they may be looked at, used again then, none lost.

use super::hash::{Hash, Source};
use super::{MapError, UpdateFlags};
use crate::bpf::memory::Readable;
use crate::sync::epoch::{self, Guard};
use std::collections::{BTreeMap, HashSet};
use std::sync::Barrier;

fn hash(max_entries: u32, slots: u32, lru: bool) -> Hash {
    Hash::with_slots(4, 8, max_entries, slots, None, lru, true).unwrap()
}

fn update(hash: &Hash, key: u32, value: u64, guard: &Guard) -> Result<(), MapError> {
    hash.update(&key.to_ne_bytes(), Source::Bytes(&value.to_ne_bytes()), UpdateFlags::Any, guard)
}

fn delete(hash: &Hash, key: u32, guard: &Guard) -> Result<(), MapError> {
    hash.delete(&key.to_ne_bytes(), guard)
}

fn find(hash: &Hash, key: u32, guard: &Guard) -> Option<usize> {
    hash.find(&key.to_ne_bytes(), guard)
}

fn value(hash: &Hash, slot: usize) -> u64 {
    let mut bytes = [0; 8];
    hash.values().read(slot, 0, &mut bytes);
    u64::from_ne_bytes(bytes)
}

/// Has all that waits given back, as far as guards of other threads let it: those of other tests, and those of threads that have
/// been joined but whose last steps are still to come.
fn settle(hash: &Hash) -> u32 {
    for _ in 0..10_000 {
        if hash.waiting() == 0 {
            break;
        }
        epoch::pin().flush();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    hash.waiting()
}

/// What was found under a guard stays what it is, whatever is done to its key, and however many others come.
#[test]
fn what_was_found_stays_while_the_guard_is_there() {
    for lru in [false, true] {
        let hash = hash(8, 64, lru);
        let inner = epoch::pin();
        for key in 0..4 {
            update(&hash, key, u64::from(key) + 100, &inner).unwrap();
        }
        drop(inner);
        let guard = epoch::pin();
        let found = [0, 1, 2, 3].map(|key| find(&hash, key, &guard).unwrap());
        let address = found.map(|slot| hash.values().address(slot, 0));
        delete(&hash, 0, &guard).unwrap();
        update(&hash, 1, 7, &guard).unwrap();
        update(&hash, 2, 8, &guard).unwrap();
        delete(&hash, 2, &guard).unwrap();
        let mut refused = 0;
        std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut refused = 0;
                for round in 0..1000_u32 {
                    let guard = epoch::pin();
                    let key = 1000 + round % 3;
                    refused += u32::from(update(&hash, key, u64::MAX, &guard).is_err());
                    refused += u32::from(delete(&hash, key, &guard).is_err());
                    guard.flush();
                }
                refused
            });
            refused = others.join().unwrap();
        });
        assert!(refused > 0, "slots ran out, and none was taken from who looks at it");
        assert_eq!(found.map(|slot| value(&hash, slot)), [100, 101, 102, 103]);
        assert_eq!(found.map(|slot| hash.values().address(slot, 0)), address);
        assert_eq!(find(&hash, 0, &guard), None);
        assert_eq!(find(&hash, 1, &guard).map(|slot| value(&hash, slot)), Some(7));
        assert_ne!(find(&hash, 1, &guard), Some(found[1]));
        drop(guard);
        assert_eq!(settle(&hash), 0);
    }
}

/// Without slots an insertion is refused, and what is there is replaced where it lies; when guards are gone, all are there again.
#[test]
fn slots_that_run_out_come_back() {
    let hash = hash(4, 6, false);
    let guard = epoch::pin();
    for key in 0..6 {
        update(&hash, key % 3, u64::from(key), &guard).unwrap();
    }
    let slot = find(&hash, 0, &guard).unwrap();
    update(&hash, 0, 50, &guard).unwrap();
    assert_eq!(find(&hash, 0, &guard), Some(slot));
    assert_eq!(value(&hash, slot), 50);
    let error = update(&hash, 9, 9, &guard).unwrap_err();
    assert_eq!((&error, error.errno()), (&MapError::NoElement { waiting: 3 }, libc::ENOMEM));
    assert_eq!(hash.len(), 3);
    drop(guard);
    assert_eq!(settle(&hash), 0);
    let guard = epoch::pin();
    update(&hash, 9, 9, &guard).unwrap();
    assert_eq!(update(&hash, 10, 9, &guard), Err(MapError::Full { entries: 4 }));
    assert_eq!(hash.len(), 4);
}

/// An LRU hash without slots has nothing give way in vain.
#[test]
fn nothing_is_evicted_in_vain() {
    let hash = hash(2, 3, true);
    let guard = epoch::pin();
    for key in 0..3 {
        update(&hash, key, 0, &guard).unwrap();
    }
    assert_eq!(update(&hash, 3, 0, &guard), Err(MapError::NoElement { waiting: 1 }));
    assert_eq!(hash.len(), 2);
    assert_eq!((0..4).filter(|key| find(&hash, *key, &guard).is_some()).count(), 2);
}

/// After threads did what they liked, each slot is either that of an element, or can be taken, once.
#[test]
fn no_slot_is_lost() {
    const SLOTS: u32 = 512;
    for lru in [false, true] {
        let hash = hash(100, SLOTS, lru);
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let hash = &hash;
                scope.spawn(move || {
                    let mut random = thread + 1;
                    for _ in 0..20_000 {
                        random ^= random << 13;
                        random ^= random >> 17;
                        random ^= random << 5;
                        let guard = epoch::pin();
                        let key = random >> 8 & 255;
                        if random & 3 == 0 {
                            _ = delete(hash, key, &guard);
                        } else {
                            _ = update(hash, key, u64::from(key), &guard);
                        }
                    }
                });
            }
        });
        assert_eq!(settle(&hash), 0);
        let guard = epoch::pin();
        let keys: Vec<_> = (0..hash.buckets()).flat_map(|bucket| hash.keys(bucket, &guard)).collect();
        let slots: HashSet<_> = keys.iter().map(|(_, slot)| *slot).collect();
        assert_eq!((keys.len(), slots.len()), (hash.len() as usize, hash.len() as usize));
        assert!(hash.len() <= 100);
        for (key, slot) in keys {
            assert_eq!(value(&hash, slot), u64::from(u32::from_ne_bytes(key.try_into().unwrap())));
        }
        let free: HashSet<_> = std::iter::from_fn(|| hash.take_slot()).collect();
        assert_eq!(free.len() as u32, SLOTS - hash.len());
        assert!(free.iter().all(|slot| !slots.contains(&(*slot as usize))));
    }
}

/// Threads that delete, and then do nothing for ever, do not keep slots to themselves.
#[test]
fn idle_threads_keep_no_slots() {
    const THREADS: usize = 40;
    let hash = hash(64, 64 + 1024, false);
    let patiently = |key| {
        for _ in 0..10_000 {
            match update(&hash, key, 0, &epoch::pin()) {
                Err(MapError::NoElement { .. }) => epoch::pin().flush(),
                result => return result,
            }
        }
        Err(MapError::NoElement { waiting: hash.waiting() })
    };
    let (done, end) = (Barrier::new(2), Barrier::new(THREADS + 1));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let made = (0..60).all(|key| patiently(key).is_ok());
                let deleted = (0..60).all(|key| delete(&hash, key, &epoch::pin()).is_ok());
                done.wait();
                end.wait();
                assert!(made && deleted);
            });
            done.wait();
        }
        let result = (0..10_000).try_for_each(|i| patiently(i % 64));
        end.wait();
        assert_eq!(result, Ok(()));
    });
}

/// Keys that a bad hash would put together.
#[test]
fn chains_are_short() {
    for seeded in [false, true] {
        for shift in [0, 4, 8, 12, 20, 40, 52] {
            let hash = Hash::with_slots(8, 8, 4096, 4096, None, false, seeded).unwrap();
            let mut chains = BTreeMap::new();
            for i in 0..4096_u64 {
                *chains.entry(hash.bucket(&(i << shift).to_ne_bytes())).or_insert(0) += 1;
            }
            // Of 4096 thrown at random into as many, one has more than 16 once in 10^11 times.
            assert!(chains.values().all(|len| *len <= 16), "{shift}: {:?}", chains.values().max());
        }
    }
}

/// The copies of a new element are zero but for that of the CPU that made it, also where the slot was used before.
#[test]
fn copies_of_a_new_element() {
    let hash = Hash::with_slots(4, 12, 1, 1, Some(3), false, true).unwrap();
    let key = 1_u32.to_ne_bytes();
    let copies = |hash: &Hash| {
        let mut copies = [0; 48];
        hash.values().read_all(find(hash, 1, &epoch::pin()).unwrap(), &mut copies);
        copies.chunks(16).map(|copy| copy[0]).collect::<Vec<_>>()
    };
    hash.update(&key, Source::Bytes(&[9; 48]), UpdateFlags::Any, &epoch::pin()).unwrap();
    assert_eq!(copies(&hash), [9, 9, 9]);
    hash.delete(&key, &epoch::pin()).unwrap();
    assert_eq!(settle(&hash), 0);
    let value = [5; 12];
    let program = |cpu| Source::Program(Readable::of(&value), cpu);
    hash.update(&key, program(1), UpdateFlags::Any, &epoch::pin()).unwrap();
    assert_eq!(copies(&hash), [0, 5, 0]);
    hash.update(&key, program(2), UpdateFlags::Exist, &epoch::pin()).unwrap();
    assert_eq!(copies(&hash), [0, 5, 5]);
}
