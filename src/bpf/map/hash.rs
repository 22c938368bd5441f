//! Hashes: plain, per-CPU, and those in which what was not used for long gives way.
//!
//! An element is a slot: a key, a link to the next slot of its bucket, and a value. Whoever looks a key up follows links and
//! takes no lock; whoever changes a bucket holds its lock. A slot that left its bucket is used again only after every
//! execution that was running then has ended: until then its key, its link and its value stay as they are, so that who came
//! by it before goes on from there, and an address of its value stays that of this element.

use super::order::Site;
use super::values::{Readable, Values};
use super::{MapError, MapType, UpdateFlags};
use crate::sync::epoch::Guard;
use crate::sync::{self, Arc, AtomicU32, AtomicU64, Mutex, MutexGuard};
use std::hash::{BuildHasher, RandomState};

/// The end of a chain. Links hold the number of a slot plus 1.
const END: u32 = 0;
/// Locks, each of several buckets.
const STRIPES: usize = 64;
/// Slots beyond the most elements, for those that left and may still be looked at: as many as elements, within these bounds, and
/// more as far as they take no more than so many bytes. A thread that is put off while a program runs keeps all that leave
/// meanwhile, and others make some millions in a second. Slots that never were used take no memory but addresses.
const SPARE: std::ops::RangeInclusive<u32> = 4096..=1 << 20;
const SPARE_BYTES: usize = 64 << 20;
const SPARE_OF_BYTES: usize = 1 << 18;
/// When no more than so many of the spare slots are left, no thread keeps slots that left to itself any more.
const RESERVE: u32 = 2048;
/// The most elements (of the kernel's, which has this many buckets at the most).
const MAX_ENTRIES: u32 = 1 << 27;
/// How often an update of an LRU hash looks for an element that gives way, where others take the place first.
const ATTEMPTS: usize = 128;
/// The factor of hashes without a seed.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// What an LRU hash knows of an element: that it was not used for long, or is as good as new, or was used. The hand, passing,
/// makes each but the first one less; elements that were not used for long give way.
const OLD: u32 = 0;
const NEW: u32 = 1;
const USED: u32 = 2;

/// What an update stores.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// A value of a program, for one CPU.
    Program(Readable, usize),
    /// One value, or one for each CPU, each rounded up to 8 bytes.
    Bytes(&'a [u8]),
}

/// The slots, and those that are free.
struct Slots {
    links: Box<[AtomicU32]>,
    keys: Box<[AtomicU64]>,
    /// [`OLD`] to [`USED`]; only of an LRU hash.
    uses: Box<[AtomicU32]>,
    /// The first slot that is free, in the lower half, and a number that grows with each change, in the upper.
    free: AtomicU64,
    /// Slots from here on were never used.
    fresh: AtomicU32,
    /// Slots that left, and are not free yet.
    waiting: AtomicU32,
}

impl Slots {
    fn len(&self) -> u32 {
        self.links.len() as u32
    }

    /// A slot for its caller alone.
    fn take(&self) -> Option<u32> {
        let mut top = sync::peek(&self.free, Site::FreePeek.order());
        while top as u32 != END {
            let slot = top as u32 - 1;
            let next = self.links[slot as usize].load(Site::LinkOwn.order());
            let new = ((top >> 32) + 1) << 32 | u64::from(next);
            match self.free.compare_exchange(top, new, Site::FreePop.order(), Site::FreePeek.order()) {
                Ok(_) => return Some(slot),
                Err(now) => top = now,
            }
        }
        let fresh = self.fresh.fetch_add(1, Site::Live.order());
        if fresh < self.len() {
            return Some(fresh);
        }
        self.fresh.fetch_sub(1, Site::Live.order());
        None
    }

    /// Whether there is none to take, now.
    fn is_exhausted(&self) -> bool {
        self.free.load(Site::Waiting.order()) as u32 == END && self.fresh.load(Site::Live.order()) >= self.len()
    }

    /// Nobody has the slot any more.
    fn give_back(&self, slot: u32) {
        let mut top = sync::peek(&self.free, Site::Waiting.order());
        loop {
            self.links[slot as usize].store(top as u32, Site::LinkOwn.order());
            let new = ((top >> 32) + 1) << 32 | u64::from(slot + 1);
            match self.free.compare_exchange(top, new, Site::FreePush.order(), Site::Waiting.order()) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}

/// A hash.
pub(crate) struct Hash {
    buckets: Box<[AtomicU32]>,
    locks: Box<[Mutex<()>]>,
    slots: Arc<Slots>,
    values: Values,
    key_size: usize,
    key_words: usize,
    /// What hashes start with, and the factor.
    seed: (u64, u64),
    live: AtomicU64,
    max_entries: u32,
    /// When more slots wait than this, they are handed to all threads at once.
    pressure: u32,
    lru: bool,
    hand: AtomicU32,
}

/// Where an element of a bucket is.
#[derive(Clone, Copy)]
struct Found {
    /// The link that leads to it: of the bucket, or of the slot before.
    before: Option<u32>,
    slot: u32,
}

impl Hash {
    /// With as many elements at the most, and a value for each of so many CPUs, or one for all.
    pub(crate) fn new(
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        cpus: Option<usize>,
        lru: bool,
        seeded: bool,
    ) -> Result<Self, MapError> {
        if max_entries > MAX_ENTRIES {
            let type_ = match (lru, cpus) {
                (true, _) => MapType::LruHash,
                (false, Some(_)) => MapType::PercpuHash,
                (false, None) => MapType::Hash,
            };
            return Err(MapError::MaxEntries { type_, entries: max_entries });
        }
        let value = value_size.next_multiple_of(8) as usize * cpus.unwrap_or(1);
        let of_bytes = SPARE_BYTES / (value + key_size as usize + 16);
        let spare = max_entries.clamp(*SPARE.start(), *SPARE.end()).max(of_bytes.min(SPARE_OF_BYTES) as u32);
        let slots = max_entries + spare;
        Self::with_slots(key_size, value_size, max_entries, slots, cpus, lru, seeded)
    }

    /// The same with this number of slots.
    pub(crate) fn with_slots(
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        slots: u32,
        cpus: Option<usize>,
        lru: bool,
        seeded: bool,
    ) -> Result<Self, MapError> {
        let values = Values::new(slots as usize, value_size as usize, cpus)?;
        let buckets = max_entries.next_power_of_two() as usize;
        let key_words = (key_size as usize).div_ceil(8);
        let seed = if seeded {
            let state = RandomState::new();
            (state.hash_one(0), state.hash_one(1) | 1)
        } else {
            (0, FACTOR)
        };
        let spare = slots.saturating_sub(max_entries);
        Ok(Self {
            buckets: sync::zeroed_u32(buckets).ok_or_else(|| no_memory(4 * buckets))?,
            locks: (0..STRIPES.min(buckets)).map(|_| Mutex::new(())).collect(),
            slots: Arc::new(Slots {
                links: sync::zeroed_u32(slots as usize).ok_or_else(|| no_memory(4 * slots as usize))?,
                keys: sync::zeroed_u64(slots as usize * key_words)
                    .ok_or_else(|| no_memory(8 * slots as usize * key_words))?,
                uses: sync::zeroed_u32(if lru { slots as usize } else { 0 })
                    .ok_or_else(|| no_memory(4 * slots as usize))?,
                free: AtomicU64::new(0),
                fresh: AtomicU32::new(0),
                waiting: AtomicU32::new(0),
            }),
            values,
            key_size: key_size as usize,
            key_words,
            seed,
            live: AtomicU64::new(0),
            max_entries,
            pressure: spare - (spare / 2).min(RESERVE),
            lru,
            hand: AtomicU32::new(0),
        })
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// Elements that there are.
    pub(crate) fn len(&self) -> u32 {
        self.live.load(Site::Live.order()) as u32
    }

    /// How many buckets there are, for who walks them.
    pub(crate) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The words of a key: the last one filled with zeros.
    #[inline]
    fn words(key: &[u8]) -> impl Iterator<Item = u64> {
        let (whole, rest) = key.as_chunks::<8>();
        let last = match rest {
            [] => None,
            [a, b, c, d] => Some(u64::from(u32::from_le_bytes([*a, *b, *c, *d]))),
            rest => Some(rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))),
        };
        whole.iter().map(|bytes| u64::from_le_bytes(*bytes)).chain(last)
    }

    /// The bucket of a key: each word is folded in by a multiplication of 128 bits, with a factor that nobody knows.
    pub(crate) fn bucket(&self, key: &[u8]) -> usize {
        let (start, factor) = self.seed;
        let fold = |a: u64| {
            let product = u128::from(a) * u128::from(factor);
            product as u64 ^ (product >> 64) as u64
        };
        let hash = Self::words(key).fold(start ^ FACTOR, |hash, word| fold(hash ^ word).wrapping_add(FACTOR));
        fold(hash) as usize & (self.buckets.len() - 1)
    }

    fn has_key(&self, slot: u32, key: &[u8]) -> bool {
        Self::words(key).zip(self.words_of(slot)).all(|(word, own)| word == own)
    }

    /// The words of the key of a slot.
    fn words_of(&self, slot: u32) -> impl Iterator<Item = u64> {
        let at = slot as usize * self.key_words;
        self.slots.keys[at..at + self.key_words].iter().map(|word| word.load(Site::KeyLoad.order()))
    }

    /// The key of a slot.
    fn key(&self, slot: u32) -> Vec<u8> {
        let mut key: Vec<u8> = self.words_of(slot).flat_map(u64::to_le_bytes).collect();
        key.truncate(self.key_size);
        key
    }

    fn link(&self, before: Option<u32>, bucket: usize) -> &AtomicU32 {
        before.map_or(&self.buckets[bucket], |slot| &self.slots.links[slot as usize])
    }

    /// The slot of a key; needs no lock. It stays that of the element that it is now for as long as the guard is there.
    pub(crate) fn find(&self, key: &[u8], _guard: &Guard) -> Option<usize> {
        let mut link = self.buckets[self.bucket(key)].load(Site::LinkLoad.order());
        while link != END {
            let slot = link - 1;
            if self.has_key(slot, key) {
                return Some(slot as usize);
            }
            link = self.slots.links[slot as usize].load(Site::LinkLoad.order());
        }
        None
    }

    /// Where an element that `is` is in a bucket, whose lock is held.
    fn find_locked(&self, bucket: usize, is: impl Fn(u32) -> bool) -> Option<Found> {
        let mut before = None;
        loop {
            let link = self.link(before, bucket).load(Site::LinkOwn.order());
            if link == END {
                return None;
            }
            let slot = link - 1;
            if is(slot) {
                return Some(Found { before, slot });
            }
            before = Some(slot);
        }
    }

    fn lock(&self, bucket: usize) -> MutexGuard<'_, ()> {
        sync::lock(&self.locks[bucket % self.locks.len()])
    }

    /// The same for a program: an LRU hash remembers that the element was used. From Rust it does not, as in the kernel: who
    /// lists a map would otherwise use all of it.
    pub(crate) fn lookup(&self, key: &[u8], guard: &Guard) -> Option<usize> {
        let slot = self.find(key, guard)?;
        if self.lru {
            let uses = &self.slots.uses[slot];
            // Most often it says so already, and its cache line stays where it is.
            if uses.load(Site::Uses.order()) != USED {
                uses.store(USED, Site::Uses.order());
            }
        }
        Some(slot)
    }

    /// Copies a value in, for one CPU or for all; of a new element the others' copies become zero.
    fn store(&self, slot: u32, from: Source<'_>, new: bool) {
        let slot = slot as usize;
        match from {
            Source::Program(from, cpu) => {
                self.values.write_from(slot, cpu, from);
                if new && self.values.is_percpu() {
                    (0..self.values.copies())
                        .filter(|other| *other != cpu)
                        .for_each(|other| self.values.zero(slot, other));
                }
            }
            Source::Bytes(bytes) => self.values.write_all(slot, bytes),
        }
    }

    /// Makes or replaces an element.
    pub(crate) fn update(
        &self,
        key: &[u8],
        from: Source<'_>,
        flags: UpdateFlags,
        guard: &Guard,
    ) -> Result<(), MapError> {
        let bucket = self.bucket(key);
        let mut counted = false;
        for _ in 0..ATTEMPTS {
            let lock = self.lock(bucket);
            let found = self.find_locked(bucket, |slot| self.has_key(slot, key));
            let result = match (found, flags) {
                (Some(_), UpdateFlags::NoExist) => Err(MapError::Exists),
                (None, UpdateFlags::Exist) => Err(MapError::NotFound),
                (Some(found), _) => {
                    self.replace(bucket, found, key, from, guard);
                    Ok(())
                }
                (None, _) => {
                    counted = counted || self.count();
                    if counted {
                        let inserted = self.insert(bucket, key, from);
                        counted = inserted.is_err();
                        inserted
                    } else if !self.lru {
                        Err(MapError::Full { entries: self.max_entries })
                    } else if self.slots.is_exhausted() {
                        Err(self.no_element())
                    } else {
                        drop(lock);
                        counted = self.evict(guard);
                        if !counted {
                            // All that are counted are on their way in or out, on other threads.
                            sync::yield_now();
                        }
                        continue;
                    }
                }
            };
            if counted {
                self.live.fetch_sub(1, Site::Live.order());
            }
            return result;
        }
        Err(self.no_element())
    }

    fn no_element(&self) -> MapError {
        MapError::NoElement { waiting: self.waiting() }
    }

    /// How many slots left and are not free yet.
    pub(crate) fn waiting(&self) -> u32 {
        self.slots.waiting.load(Site::Waiting.order())
    }

    /// Takes a slot out of use.
    #[cfg(test)]
    pub(crate) fn take_slot(&self) -> Option<u32> {
        self.slots.take()
    }

    /// Counts another element; false if there are as many as there may be.
    fn count(&self) -> bool {
        let order = Site::Live.order();
        let mut live = sync::peek(&self.live, order);
        while live < u64::from(self.max_entries) {
            match self.live.compare_exchange(live, live + 1, order, order) {
                Ok(_) => return true,
                Err(now) => live = now,
            }
        }
        false
    }

    /// Makes an element, which is counted, the first of a bucket whose lock is held.
    fn insert(&self, bucket: usize, key: &[u8], from: Source<'_>) -> Result<(), MapError> {
        let slot = self.slots.take().ok_or_else(|| self.no_element())?;
        self.fill(slot, key, from, NEW);
        let first = self.buckets[bucket].load(Site::LinkOwn.order());
        self.slots.links[slot as usize].store(first, Site::LinkOwn.order());
        self.buckets[bucket].store(slot + 1, Site::LinkStore.order());
        Ok(())
    }

    fn fill(&self, slot: u32, key: &[u8], from: Source<'_>, uses: u32) {
        let at = slot as usize * self.key_words;
        for (word, to) in Self::words(key).zip(&self.slots.keys[at..]) {
            to.store(word, Site::KeyStore.order());
        }
        if self.lru {
            self.slots.uses[slot as usize].store(uses, Site::Uses.order());
        }
        self.store(slot, from, true);
    }

    /// Replaces an element by one that takes its place in the chain: who follows it finds one or the other. Per-CPU values are
    /// overwritten, as the copies of the other CPUs stay; so is the value where no slot is left.
    fn replace(&self, bucket: usize, found: Found, key: &[u8], from: Source<'_>, guard: &Guard) {
        let Some(slot) = (!self.values.is_percpu()).then(|| self.slots.take()).flatten() else {
            self.store(found.slot, from, false);
            return;
        };
        self.fill(slot, key, from, USED);
        let next = self.slots.links[found.slot as usize].load(Site::LinkOwn.order());
        self.slots.links[slot as usize].store(next, Site::LinkOwn.order());
        self.link(found.before, bucket).store(slot + 1, Site::LinkStore.order());
        self.retire(found.slot, guard);
    }

    /// Takes an element out of a bucket whose lock is held.
    fn unlink(&self, bucket: usize, found: Found, guard: &Guard) {
        let next = self.slots.links[found.slot as usize].load(Site::LinkOwn.order());
        self.link(found.before, bucket).store(next, Site::LinkStore.order());
        self.retire(found.slot, guard);
    }

    /// Frees a slot that nobody can come by any more, once those who did before have ended.
    fn retire(&self, slot: u32, guard: &Guard) {
        let slots = self.slots.clone();
        let waiting = slots.waiting.fetch_add(1, Site::Waiting.order());
        guard.defer(move || {
            slots.give_back(slot);
            slots.waiting.fetch_sub(1, Site::Waiting.order());
        });
        // Each thread collects some before it hands them to all; a thread that does nothing any more would keep those.
        if waiting >= self.pressure {
            guard.flush();
        }
    }

    /// Deletes an element.
    pub(crate) fn delete(&self, key: &[u8], guard: &Guard) -> Result<(), MapError> {
        self.take(key, guard, |_| ())
    }

    /// Deletes an element, and gives what `look` makes of its slot before.
    pub(crate) fn take<R>(&self, key: &[u8], guard: &Guard, look: impl FnOnce(usize) -> R) -> Result<R, MapError> {
        let bucket = self.bucket(key);
        let _lock = self.lock(bucket);
        let found = self.find_locked(bucket, |slot| self.has_key(slot, key)).ok_or(MapError::NotFound)?;
        let seen = look(found.slot as usize);
        self.unlink(bucket, found, guard);
        self.live.fetch_sub(1, Site::Live.order());
        Ok(seen)
    }

    /// Has an element give way that was not used for long; its count is the caller's, who holds no lock. The hand goes from
    /// bucket to bucket: there are not many more than elements.
    fn evict(&self, guard: &Guard) -> bool {
        // As often around as the hand passes an element that was just used until it gives way.
        for _ in 0..(USED as usize + 1) * self.buckets.len() {
            let bucket = self.hand.fetch_add(1, Site::Uses.order()) as usize & (self.buckets.len() - 1);
            if self.buckets[bucket].load(Site::LinkOwn.order()) == END {
                continue;
            }
            let _lock = self.lock(bucket);
            let found = self.find_locked(bucket, |slot| {
                let uses = &self.slots.uses[slot as usize];
                let before = uses.load(Site::Uses.order());
                uses.store(before.saturating_sub(1), Site::Uses.order());
                before == OLD
            });
            if let Some(found) = found {
                self.unlink(bucket, found, guard);
                return true;
            }
        }
        false
    }

    /// The keys in a bucket, as they are found on the way.
    pub(crate) fn keys(&self, bucket: usize, _guard: &Guard) -> Vec<(Vec<u8>, usize)> {
        let mut found = Vec::new();
        let mut link = self.buckets[bucket].load(Site::LinkLoad.order());
        // A chain that grows while it is walked ends nevertheless.
        while link != END && found.len() <= self.slots.len() as usize {
            let slot = link - 1;
            found.push((self.key(slot), slot as usize));
            link = self.slots.links[slot as usize].load(Site::LinkLoad.order());
        }
        found
    }
}

fn no_memory(bytes: usize) -> MapError {
    MapError::NoMemory { bytes, error: "the allocator has none".to_owned() }
}
