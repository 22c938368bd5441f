//! What the loom models use of maps.

use super::cell::Cell;
use super::hash::{Hash, Source};
use super::{MapError, UpdateFlags};
use crate::sync::epoch::{self, Guard};

/// As long as it is there, what was looked up under it stays what it is.
pub struct Pin(Guard);

/// Pins this thread, as an execution of a program does.
pub fn pin() -> Pin {
    Pin(epoch::pin())
}

/// A hash of words by words.
pub struct HashModel(Hash);

impl HashModel {
    /// With as many elements at the most, in as many slots.
    pub fn new(max_entries: u32, slots: u32, lru: bool) -> Self {
        Self(Hash::with_slots(8, 8, max_entries, slots, None, lru, false).expect("a hash"))
    }

    /// As many keys of a bucket.
    pub fn keys_of<const N: usize>(&self, bucket: usize) -> [u64; N] {
        let mut keys = (1_u64..).filter(|key| self.0.bucket(&key.to_ne_bytes()) == bucket);
        std::array::from_fn(|_| keys.next().expect("each bucket has keys"))
    }

    /// The slot of a key.
    pub fn lookup(&self, key: u64, pin: &Pin) -> Option<usize> {
        self.0.lookup(&key.to_ne_bytes(), &pin.0)
    }

    /// The value in a slot.
    pub fn value(&self, slot: usize) -> u64 {
        self.0.values().word(slot)
    }

    /// The keys of a bucket and their values.
    pub fn elements(&self, bucket: usize) -> Vec<(u64, u64)> {
        let guard = epoch::pin();
        let keys = self.0.keys(bucket, &guard);
        let word = |key: Vec<u8>| u64::from_ne_bytes(key.try_into().expect("a word"));
        keys.into_iter().map(|(key, slot)| (word(key), self.value(slot))).collect()
    }

    /// Makes or replaces an element.
    pub fn update(&self, key: u64, value: u64) -> Result<(), MapError> {
        let from = value.to_ne_bytes();
        self.0.update(&key.to_ne_bytes(), Source::Bytes(&from), UpdateFlags::Any, &epoch::pin())
    }

    /// Deletes an element.
    pub fn delete(&self, key: u64) -> Result<(), MapError> {
        self.0.delete(&key.to_ne_bytes(), &epoch::pin())
    }

    /// Elements that are counted.
    pub fn counted(&self) -> u32 {
        self.0.len()
    }
}

/// A slot of an array of programs, or of anything.
pub struct CellModel<T: Send + Sync + 'static>(Cell<T>);

impl<T: Send + Sync + 'static> CellModel<T> {
    /// Empty.
    #[expect(clippy::new_without_default, reason = "of a model")]
    pub fn new() -> Self {
        Self(Cell::new())
    }

    /// What is there.
    pub fn load<'p>(&self, pin: &'p Pin) -> Option<&'p T> {
        self.0.load(&pin.0)
    }

    /// Replaces what is there; gives whether there was something.
    pub fn swap(&self, value: Option<T>) -> bool {
        self.0.swap(value, &epoch::pin())
    }
}
