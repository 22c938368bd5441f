//! Access to mapped memory.

use crate::ring::layout::{self, RecordHeader, describe};
use crate::sync::{AtomicU32, AtomicU64};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The words of the header page, by name.
pub(crate) struct HeaderWords {
    base: NonNull<u8>,
}

macro_rules! words {
    ($($name:ident: $Atomic:ident at $offset:expr;)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name(&self) -> &$Atomic {
                const { assert!($offset % align_of::<$Atomic>() == 0 && $offset + size_of::<$Atomic>() <= 4096) };
                // SAFETY: `new`'s contract: a page of at least 4096 bytes is mapped at `base`, page-aligned, for as long as
                // `self` lives, and all accesses to it are atomic. The offset is in the page and aligned (checked above).
                unsafe { $Atomic::from_ptr(self.base.as_ptr().add($offset).cast()) }
            }
        )*
    };
}

impl HeaderWords {
    /// # Safety
    /// A page-aligned header page is mapped at `base`, readable, and writable where a caller stores, for as long as the
    /// value lives; nobody in this process accesses the words named below other than atomically.
    pub(crate) unsafe fn new(base: NonNull<u8>) -> Self {
        Self { base }
    }

    words! {
        data_head: AtomicU64 at layout::DATA_HEAD;
        data_tail: AtomicU64 at layout::DATA_TAIL;
        data_offset: AtomicU64 at layout::DATA_OFFSET;
        data_size: AtomicU64 at layout::DATA_SIZE;
        lost_total: AtomicU64 at describe::LOST_TOTAL;
        closed: AtomicU32 at describe::CLOSED;
        reserved: AtomicU64 at describe::RESERVED;
        need_wake: AtomicU32 at describe::NEED_WAKE;
        paused: AtomicU32 at describe::PAUSED;
    }
}

/// The words of the header page that the seqlock covers, and it.
pub(crate) struct TimeWords {
    base: NonNull<u8>,
}

impl TimeWords {
    /// # Safety
    /// As for [`HeaderWords::new`], for the words named below.
    pub(crate) unsafe fn new(base: NonNull<u8>) -> Self {
        Self { base }
    }

    words! {
        lock: AtomicU32 at layout::LOCK;
        index: AtomicU32 at layout::INDEX;
    }

    /// The words from `offset` to `time_mask`.
    #[inline(always)]
    pub(crate) fn fields(&self) -> &[AtomicU64] {
        const {
            assert!(layout::time::FIRST.is_multiple_of(align_of::<AtomicU64>()));
            assert!(layout::time::FIRST + layout::time::COUNT * size_of::<AtomicU64>() <= 4096);
        };
        // SAFETY: `new`'s contract: a page of at least 4096 bytes is mapped at `base`, page-aligned, for as long as `self`
        // lives, and all accesses to these words are atomic. They are in the page and aligned (checked above), and an
        // AtomicU64 is laid out as the u64 that stands there.
        unsafe {
            let first = self.base.as_ptr().add(layout::time::FIRST).cast::<AtomicU64>();
            std::slice::from_raw_parts(first, layout::time::COUNT)
        }
    }
}

/// The words of the header page that describe the AUX area.
pub(crate) struct AuxWords {
    base: NonNull<u8>,
}

impl AuxWords {
    /// # Safety
    /// As for [`HeaderWords::new`], for the words named below.
    pub(crate) unsafe fn new(base: NonNull<u8>) -> Self {
        Self { base }
    }

    words! {
        aux_head: AtomicU64 at layout::AUX_HEAD;
        aux_tail: AtomicU64 at layout::AUX_TAIL;
        aux_offset: AtomicU64 at layout::AUX_OFFSET;
        aux_size: AtomicU64 at layout::AUX_SIZE;
    }
}

/// The data area: `size` bytes at `base`, a power of two, page-aligned.
pub(crate) struct Data {
    base: NonNull<u8>,
    size: usize,
}

impl Data {
    /// # Safety
    /// `size` bytes are mapped at `base`, 8-aligned, readable, and writable where a caller writes, for as long as the value
    /// lives, and are accessed in this process through this mapping only by way of the value.
    pub(crate) unsafe fn new(base: NonNull<u8>, size: usize) -> Self {
        Self { base, size }
    }

    #[inline(always)]
    fn at(&self, offset: usize) -> *mut u8 {
        // wrapping_add: in bounds for every caller, and no claim that must be proved here.
        self.base.as_ptr().wrapping_add(offset)
    }

    /// The `len` bytes from `position` on, around the end of the area where they reach beyond it.
    ///
    /// # Safety
    /// `8 <= len <= size`, all multiples of 8, and nobody else reads or writes those bytes while the span lives.
    #[inline(always)]
    pub(crate) unsafe fn claim(&self, position: u64, len: usize) -> Span<'_> {
        let offset = position as usize & (self.size - 1);
        // SAFETY: offset < size, so the pointer stays in the area.
        let start = unsafe { self.base.add(offset) };
        Span { start, run: len.min(self.size - offset), len, area: self.base, lives: PhantomData }
    }

    /// As `claim`, for bytes that do not reach beyond the end of the area.
    ///
    /// # Safety
    /// As for `claim`, and `position % size + len <= size`.
    #[inline(always)]
    pub(crate) unsafe fn claim_run(&self, position: u64, len: usize) -> Span<'_> {
        let offset = position as usize & (self.size - 1);
        debug_assert!(offset + len <= self.size);
        // SAFETY: offset < size, so the pointer stays in the area.
        let start = unsafe { self.base.add(offset) };
        Span { start, run: len, len, area: self.base, lives: PhantomData }
    }

    /// # Safety
    /// `offset` is a multiple of 8 below the size, and nobody writes the word meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn read_word(&self, offset: usize) -> u64 {
        // SAFETY: in the area and aligned by contract; not written meanwhile, by contract.
        unsafe { self.at(offset).cast::<u64>().read() }
    }

    /// # Safety
    /// `offset` is below the size, `len` at most the size, and nobody writes the range while the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn lend<'a>(&'a self, offset: usize, len: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if len <= self.size - offset {
            // SAFETY: does not wrap; the rest is the caller's contract.
            unsafe { self.lend_run(offset, len) }
        } else {
            // SAFETY: as above, for the two runs.
            unsafe { self.lend_wrapped(offset, len, scratch) }
        }
    }

    /// # Safety
    /// `offset + len <= size`, and nobody writes the range while the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn lend_run(&self, offset: usize, len: usize) -> &[u8] {
        debug_assert!(offset + len <= self.size);
        // SAFETY: in the area, initialised, and not written while borrowed, by contract.
        unsafe { std::slice::from_raw_parts(self.at(offset), len) }
    }

    /// # Safety
    /// As for `lend`, with `offset + len > size`.
    #[cold]
    unsafe fn lend_wrapped<'a>(&'a self, offset: usize, len: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let first = self.size - offset;
        scratch.clear();
        // SAFETY: [offset, size) and [0, len - first) lie in the area, as len <= size; not written meanwhile by contract.
        unsafe {
            scratch.extend_from_slice(std::slice::from_raw_parts(self.at(offset), first));
            scratch.extend_from_slice(std::slice::from_raw_parts(self.at(0), len - first));
        }
        scratch
    }

    /// Stores `bytes` from `position` on, around the end of the area where they reach beyond it.
    ///
    /// # Safety
    /// `bytes.len() <= size`, the area is writable, and nobody else reads or writes those bytes meanwhile.
    pub(crate) unsafe fn write(&self, position: u64, bytes: &[u8]) {
        let offset = position as usize & (self.size - 1);
        let (first, rest) = bytes.split_at(bytes.len().min(self.size - offset));
        // SAFETY: [offset, offset + first.len()) and [0, rest.len()) lie in the area, as offset < size and bytes.len() <=
        // size; nobody else accesses them, by contract, so they do not overlap `bytes` either.
        unsafe {
            self.at(offset).copy_from_nonoverlapping(first.as_ptr(), first.len());
            self.at(0).copy_from_nonoverlapping(rest.as_ptr(), rest.len());
        }
    }

    /// The word at `offset`, a multiple of 8, as an atomic. Callers go through [`Words`](super::Words) or
    /// [`AuxMemory`](super::AuxMemory), which give it only where no plain access exists.
    #[inline(always)]
    pub(crate) fn atomic_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset < self.size && offset.is_multiple_of(8));
        // SAFETY: in the area and aligned (asserted); lives as long as the mapping; `Words` is handed out only for overwrite
        // rings, which are never claimed or lent, and for mappings that this process only reads; `AuxMemory` gives words
        // only of areas that overwrite, and bytes only of those that do not.
        unsafe { AtomicU64::from_ptr(self.at(offset).cast()) }
    }
}

/// A reserved range of a lossless ring: nobody else touches it while this lives. It may wrap at the end of the data area.
///
/// Invariants: `run <= len`; the `run` bytes at `start` and the `len - run` bytes at `area`, where the data area starts, lie
/// in the data area and do not overlap. `len >= 8`, and all of it is a multiple of 8, as are both addresses.
pub(crate) struct Span<'a> {
    start: NonNull<u8>,
    run: usize,
    len: usize,
    area: NonNull<u8>,
    lives: PhantomData<&'a Data>,
}

impl Span<'_> {
    /// The same span for a shorter while: by value, so that passing it on does not force this one into memory.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> Span<'_> {
        Span { start: self.start, run: self.run, len: self.len, area: self.area, lives: PhantomData }
    }

    /// Bytes in the span.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Stores `bytes`, `at` bytes into the span.
    ///
    /// # Panics
    /// When they do not fit.
    #[inline(always)]
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        if at <= self.run && bytes.len() <= self.run - at {
            // SAFETY: [start + at, + bytes.len()) lies in the span's first run, so in the area; it is exclusively ours by the
            // contract of `claim`, so it does not overlap `bytes` either.
            unsafe { self.start.add(at).as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
        } else {
            self.reborrow().put_wrapped(at, bytes);
        }
    }

    #[cold]
    #[inline(never)]
    fn put_wrapped(mut self, at: usize, bytes: &[u8]) {
        let (first, rest) = self.slices(at, bytes.len());
        let (before_end, after) = bytes.split_at(first.len());
        first.copy_from_slice(before_end);
        rest.copy_from_slice(after);
    }

    /// Zeroes the bytes from `at` up to `end`.
    #[inline(always)]
    pub(crate) fn zero(mut self, at: usize, end: usize) {
        let (first, rest) = self.slices(at, end - at);
        first.fill(0);
        if !rest.is_empty() {
            rest.fill(0);
        }
    }

    /// Stores the header that the span starts with.
    #[inline(always)]
    pub(crate) fn header(&mut self, header: RecordHeader) {
        // SAFETY: the span has at least 8 bytes, and as its start and the area's end are multiples of 8, so has its first
        // run: in the area, aligned, and exclusively ours by the contract of `claim`.
        unsafe { self.start.cast::<u64>().write(header.to_word()) }
    }

    /// What is left of the span behind its first `at` bytes: a multiple of 8, less than all of it.
    pub(crate) fn split_off(self, at: usize) -> Self {
        assert!(at.is_multiple_of(8) && at < self.len);
        // SAFETY: in the first run, or (at - run < len - run) in the second.
        let (start, run) = unsafe {
            if at < self.run {
                (self.start.add(at), self.run - at)
            } else {
                (self.area.add(at - self.run), self.len - at)
            }
        };
        Span { start, run, len: self.len - at, area: self.area, lives: PhantomData }
    }

    /// The `len` bytes from `at` on: those before the end of the area, and those from its start on.
    ///
    /// # Panics
    /// When the span has fewer.
    #[inline(always)]
    pub(crate) fn slices(&mut self, at: usize, len: usize) -> (&mut [u8], &mut [u8]) {
        assert!(at <= self.len && len <= self.len - at, "{len} bytes at {at} of a reservation of {}", self.len);
        let before_end = len.min(self.run.saturating_sub(at));
        // SAFETY: the first slice is [start + at, + before_end) with at + before_end <= run, or empty at the run's end; the
        // second is [area + at - run, + len - before_end), empty or ending at area + at + len - run with at + len <= len of
        // the span. So both lie in the span's runs; initialised (mapped memory); exclusively ours by the contract of
        // `claim`, and of this borrow.
        unsafe {
            (
                std::slice::from_raw_parts_mut(self.start.add(at.min(self.run)).as_ptr(), before_end),
                std::slice::from_raw_parts_mut(self.area.add(at.saturating_sub(self.run)).as_ptr(), len - before_end),
            )
        }
    }
}

// SAFETY: the values are pointers into a mapping that outlives them; header words are atomics, and access to data is either
// atomic or under the contracts of the unsafe functions, which speak of all threads.
unsafe impl Send for HeaderWords {}
// SAFETY: as above.
unsafe impl Sync for HeaderWords {}
// SAFETY: as above.
unsafe impl Send for TimeWords {}
// SAFETY: as above.
unsafe impl Sync for TimeWords {}
// SAFETY: as above.
unsafe impl Send for AuxWords {}
// SAFETY: as above.
unsafe impl Sync for AuxWords {}
// SAFETY: as above.
unsafe impl Send for Data {}
// SAFETY: as above.
unsafe impl Sync for Data {}
// SAFETY: exclusive access to bytes, which may be used from whatever thread has it.
unsafe impl Send for Span<'_> {}
// SAFETY: `&Span` gives access to nothing.
unsafe impl Sync for Span<'_> {}
