//! The same accesses on loom's cells: one cell a word, so that a data access that is not ordered fails the model.

use crate::ring::layout::{Geometry, RecordHeader};
use crate::sync::{AtomicU32, AtomicU64, UnsafeCell};

/// Nothing to keep alive.
pub(crate) struct Backing;

pub(crate) struct HeaderWords {
    data_head: AtomicU64,
    data_tail: AtomicU64,
    lost_total: AtomicU64,
    closed: AtomicU32,
    reserved: AtomicU64,
    need_wake: AtomicU32,
    paused: AtomicU32,
}

impl HeaderWords {
    pub(crate) fn model(start: u64) -> Self {
        Self {
            data_head: AtomicU64::new(start),
            data_tail: AtomicU64::new(start),
            lost_total: AtomicU64::new(0),
            closed: AtomicU32::new(0),
            reserved: AtomicU64::new(start),
            need_wake: AtomicU32::new(1),
            paused: AtomicU32::new(0),
        }
    }

    pub(crate) fn data_head(&self) -> &AtomicU64 {
        &self.data_head
    }
    pub(crate) fn data_tail(&self) -> &AtomicU64 {
        &self.data_tail
    }
    pub(crate) fn lost_total(&self) -> &AtomicU64 {
        &self.lost_total
    }
    pub(crate) fn closed(&self) -> &AtomicU32 {
        &self.closed
    }
    pub(crate) fn reserved(&self) -> &AtomicU64 {
        &self.reserved
    }
    pub(crate) fn need_wake(&self) -> &AtomicU32 {
        &self.need_wake
    }
    pub(crate) fn paused(&self) -> &AtomicU32 {
        &self.paused
    }
}

/// The seqlock, and three of the words that it covers: the search is exponential in them, and two would do.
pub(crate) struct TimeWords {
    lock: AtomicU32,
    index: AtomicU32,
    fields: [AtomicU64; 2],
}

impl TimeWords {
    pub(crate) fn model() -> Self {
        Self { lock: AtomicU32::new(0), index: AtomicU32::new(0), fields: [AtomicU64::new(0), AtomicU64::new(0)] }
    }

    pub(crate) fn lock(&self) -> &AtomicU32 {
        &self.lock
    }
    pub(crate) fn index(&self) -> &AtomicU32 {
        &self.index
    }
    pub(crate) fn fields(&self) -> &[AtomicU64] {
        &self.fields
    }
}

pub(crate) struct AuxWords {
    aux_head: AtomicU64,
    aux_tail: AtomicU64,
}

impl AuxWords {
    pub(crate) fn model(start: u64) -> Self {
        Self { aux_head: AtomicU64::new(start), aux_tail: AtomicU64::new(start) }
    }

    pub(crate) fn aux_head(&self) -> &AtomicU64 {
        &self.aux_head
    }
    pub(crate) fn aux_tail(&self) -> &AtomicU64 {
        &self.aux_tail
    }
}

/// The data area: cells in lossless rings, atomics in overwrite rings.
pub(crate) struct Data {
    cells: Vec<UnsafeCell<u64>>,
    words: Vec<AtomicU64>,
    size: usize,
}

impl Data {
    pub(crate) fn model(geometry: Geometry, lossless: bool) -> Self {
        let size = geometry.size() as usize;
        let count = size / 8;
        Self {
            cells: (0..if lossless { count } else { 0 }).map(|_| UnsafeCell::new(0)).collect(),
            words: (0..if lossless { 0 } else { count }).map(|_| AtomicU64::new(0)).collect(),
            size,
        }
    }

    fn update(&self, offset: usize, update: impl FnOnce(&mut [u8; 8])) {
        self.cells[(offset & (self.size - 1)) / 8].with_mut(|word| {
            // SAFETY: loom fails the model when another thread accesses the cell meanwhile, which is the point.
            let word = unsafe { &mut *word };
            let mut bytes = word.to_ne_bytes();
            update(&mut bytes);
            *word = u64::from_ne_bytes(bytes);
        });
    }

    fn each_word(&self, start: usize, at: usize, len: usize, mut update: impl FnMut(usize, &mut u8)) {
        let mut done = 0;
        while done < len {
            let within = (start + at + done) % 8;
            let here = (8 - within).min(len - done);
            self.update(start + at + done, |word| {
                for i in 0..here {
                    update(done + i, &mut word[within + i]);
                }
            });
            done += here;
        }
    }

    /// # Safety
    /// None under loom: a violation of the protocol fails the model.
    pub(crate) unsafe fn claim(&self, position: u64, len: usize) -> Span<'_> {
        Span { data: self, offset: position as usize & (self.size - 1), len }
    }

    /// # Safety
    /// As for `claim`.
    pub(crate) unsafe fn claim_run(&self, position: u64, len: usize) -> Span<'_> {
        // SAFETY: the same contract.
        unsafe { self.claim(position, len) }
    }

    /// # Safety
    /// As for `claim`.
    pub(crate) unsafe fn read_word(&self, offset: usize) -> u64 {
        // SAFETY: loom fails the model when another thread writes the cell meanwhile.
        self.cells[offset / 8].with(|word| unsafe { *word })
    }

    /// # Safety
    /// As for `claim`.
    pub(crate) unsafe fn lend<'a>(&'a self, offset: usize, len: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        scratch.clear();
        for at in (0..len).step_by(8) {
            // SAFETY: as above.
            let word = unsafe { self.read_word((offset + at) & (self.size - 1)) };
            scratch.extend_from_slice(&word.to_ne_bytes());
        }
        scratch
    }

    /// # Safety
    /// As for `claim`.
    pub(crate) unsafe fn lend_run(&self, offset: usize, len: usize) -> &[u8] {
        let mut copy = Vec::new();
        // SAFETY: the same contract.
        unsafe { self.lend(offset, len, &mut copy) };
        // There is no slice of cells. A copy that nobody frees is one that lives long enough; executions are short.
        copy.leak()
    }

    /// # Safety
    /// As for `claim`.
    pub(crate) unsafe fn write(&self, position: u64, bytes: &[u8]) {
        let offset = position as usize & (self.size - 1);
        self.each_word(offset, 0, bytes.len(), |i, byte| *byte = bytes[i]);
    }

    pub(crate) fn atomic_word(&self, offset: usize) -> &AtomicU64 {
        &self.words[offset / 8]
    }
}

/// A reserved range.
pub(crate) struct Span<'a> {
    data: &'a Data,
    offset: usize,
    len: usize,
}

impl Span<'_> {
    pub(crate) fn reborrow(&mut self) -> Span<'_> {
        Span { data: self.data, offset: self.offset, len: self.len }
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len);
        self.data.each_word(self.offset, at, bytes.len(), |i, byte| *byte = bytes[i]);
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn zero(self, at: usize, end: usize) {
        assert!(at <= end && end <= self.len);
        self.data.each_word(self.offset, at, end - at, |_, byte| *byte = 0);
    }

    pub(crate) fn header(&mut self, header: RecordHeader) {
        self.data.update(self.offset, |bytes| *bytes = header.to_bytes());
    }

    pub(crate) fn split_off(self, at: usize) -> Self {
        assert!(at < self.len);
        Span { data: self.data, offset: (self.offset + at) & (self.data.size - 1), len: self.len - at }
    }
}
