//! The same slots under loom: words that are loom's atomics, of one copy.
//!
//! What the machine's instructions do to values is ordered by nothing but the maps: so are relaxed accesses.

use super::MapError;
use super::order::Site;
use crate::sync::{self, AtomicU64};

/// No model has programs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Readable {}

pub(crate) struct Values {
    words: Box<[AtomicU64]>,
}

impl Values {
    pub(crate) fn new(slots: usize, size: usize, cpus: Option<usize>) -> Result<Self, MapError> {
        assert!(size == 8 && cpus.is_none(), "models have values of a word");
        Ok(Self { words: sync::zeroed_u64(slots).expect("loom has no limit") })
    }

    pub(crate) fn is_percpu(&self) -> bool {
        false
    }

    pub(crate) fn copies(&self) -> usize {
        1
    }

    pub(crate) fn word(&self, slot: usize) -> u64 {
        self.words[slot].load(Site::KeyLoad.order())
    }

    pub(crate) fn write_all(&self, slot: usize, from: &[u8]) {
        let word = u64::from_ne_bytes(from.try_into().expect("a word"));
        self.words[slot].store(word, Site::KeyStore.order());
    }

    pub(crate) fn write_from(&self, _slot: usize, _cpu: usize, from: Readable) {
        match from {}
    }

    pub(crate) fn zero(&self, slot: usize, _cpu: usize) {
        self.words[slot].store(0, Site::KeyStore.order());
    }
}
