//! The AUX area: bytes without structure, in memory that the two positions of the header page divide.
#![allow(unsafe_code)]

use super::{AuxWords, Backing, Data};
use crate::ring::order::Site;

/// A mapped AUX area and the words of the header page that belong to it.
///
/// As a ring's data area, it is used in one of two ways, fixed when it is made: by plain accesses under the protocol of
/// ownership that `aux_head` and `aux_tail` are, or, where it overwrites, by relaxed atomic words.
pub(crate) struct AuxMemory {
    words: AuxWords,
    data: Data,
    size: u64,
    overwrites: bool,
    /// Keeps the mapping alive; dropped last.
    _backing: Backing,
}

impl AuxMemory {
    /// `data` has `size` bytes, a power of two of at least 8.
    pub(crate) fn new((words, data, backing): (AuxWords, Data, Backing), size: u64, overwrites: bool) -> Self {
        Self { words, data, size, overwrites, _backing: backing }
    }

    pub(crate) fn words(&self) -> &AuxWords {
        &self.words
    }

    /// Bytes in the area.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn offset(&self, position: u64) -> usize {
        (position & (self.size - 1)) as usize
    }

    /// The `len` bytes from `position` on: those before the end of the area, and those from its start on.
    ///
    /// # Panics
    /// When the area overwrites, or has fewer bytes.
    ///
    /// # Safety
    /// Nobody writes those bytes while the slices live.
    pub(crate) unsafe fn lend(&self, position: u64, len: u64) -> (&[u8], &[u8]) {
        assert!(!self.overwrites && len <= self.size);
        let (offset, len) = (self.offset(position), len as usize);
        let first = len.min(self.size as usize - offset);
        // SAFETY: [offset, offset + first) and [0, len - first) lie in the area, as offset < size and len <= size; nobody
        // writes them, by contract, and no atomics of them exist, as the area does not overwrite.
        unsafe { (self.data.lend_run(offset, first), self.data.lend_run(0, len - first)) }
    }

    /// Stores `bytes` from `position` on.
    ///
    /// # Panics
    /// When the area overwrites, or is smaller.
    ///
    /// # Safety
    /// The area is writable, and nobody else reads or writes those bytes meanwhile.
    pub(crate) unsafe fn write(&self, position: u64, bytes: &[u8]) {
        assert!(!self.overwrites && bytes.len() as u64 <= self.size);
        // SAFETY: not more than the area has (asserted); exclusiveness is the caller's contract.
        unsafe { self.data.write(position, bytes) }
    }

    /// Stores `bytes` from `position` on over whatever is there, as words.
    ///
    /// # Panics
    /// When the area does not overwrite.
    ///
    /// # Safety
    /// The area is writable. (Who reads it meanwhile may see some of the bytes and not others.)
    pub(crate) unsafe fn overwrite(&self, position: u64, bytes: &[u8]) {
        assert!(self.overwrites);
        let (mut position, mut bytes) = (position, bytes);
        while !bytes.is_empty() {
            let within = (position % 8) as usize;
            let (here, rest) = bytes.split_at(bytes.len().min(8 - within));
            let word = self.data.atomic_word(self.offset(position) & !7);
            // A whole word needs no look at what is there, and has none, for loom's sake.
            let mut whole = if here.len() == 8 { [0; 8] } else { word.load(Site::AuxWord.order()).to_ne_bytes() };
            whole[within..within + here.len()].copy_from_slice(here);
            word.store(u64::from_ne_bytes(whole), Site::AuxWord.order());
            (position, bytes) = (position.wrapping_add(here.len() as u64), rest);
        }
    }

    /// Appends the `len` bytes from `offset` on, which do not reach beyond the area's end, to `into`; word by word, for
    /// areas that somebody may be writing.
    ///
    /// # Panics
    /// When the area does not overwrite.
    pub(crate) fn copy(&self, offset: u64, len: u64, into: &mut Vec<u8>) {
        assert!(self.overwrites && offset <= self.size && len <= self.size - offset);
        let (mut at, end) = (offset as usize, (offset + len) as usize);
        while at < end {
            let word = self.data.atomic_word(at & !7).load(Site::AuxWord.order()).to_ne_bytes();
            let until = (8 - at % 8).min(end - at);
            into.extend_from_slice(&word[at % 8..at % 8 + until]);
            at += until;
        }
    }
}
