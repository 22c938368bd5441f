//! Access to mapped memory.

use crate::ring::layout::{self, describe};
use crate::sync::{AtomicU32, AtomicU64};
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
        debug_assert!(offset < self.size);
        // wrapping_add: in bounds for every caller, and no claim that must be proved here.
        self.base.as_ptr().wrapping_add(offset)
    }

    /// Splits `len` bytes from `start + at` on into the run up to the end of the area and the run from its start on.
    #[inline(always)]
    fn runs(&self, start: usize, at: usize, len: usize) -> (usize, usize, usize) {
        let first = (start + at) & (self.size - 1);
        let before_end = len.min(self.size - first);
        (first, before_end, len - before_end)
    }

    /// # Safety
    /// `start < size`, `at + bytes.len() <= size`, and the range is the caller's alone.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, start: usize, at: usize, bytes: &[u8]) {
        let (first, len, rest) = self.runs(start, at, bytes.len());
        if rest == 0 {
            // SAFETY: `runs` gives first + len <= size; exclusive by contract, so it does not overlap `bytes`.
            unsafe { self.at(first).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        } else {
            // SAFETY: both runs lie in the area by `runs`, and their lengths add up to bytes.len(); exclusive by contract.
            unsafe {
                self.at(first).copy_from_nonoverlapping(bytes.as_ptr(), len);
                self.at(0).copy_from_nonoverlapping(bytes.as_ptr().add(len), rest);
            }
        }
    }

    /// # Safety
    /// As for `write`, with `len` for the bytes' length.
    #[inline(always)]
    pub(crate) unsafe fn zero(&self, start: usize, at: usize, len: usize) {
        let (first, len, rest) = self.runs(start, at, len);
        // SAFETY: both runs lie in the area by `runs`; exclusive by contract.
        unsafe {
            self.at(first).write_bytes(0, len);
            if rest != 0 {
                self.at(0).write_bytes(0, rest);
            }
        }
    }

    /// # Safety
    /// As for `write`; `start` and `at` are multiples of 8.
    #[inline(always)]
    pub(crate) unsafe fn write_word(&self, start: usize, at: usize, word: u64) {
        let offset = (start + at) & (self.size - 1);
        // SAFETY: a multiple of 8 below a size that is a multiple of 8: in the area, aligned. Exclusive by contract.
        unsafe { self.at(offset).cast::<u64>().write(word) }
    }

    /// # Safety
    /// `start < size`, `at + len <= size`, and the range is the caller's alone while the slices live.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slices_mut(&self, start: usize, at: usize, len: usize) -> (&mut [u8], &mut [u8]) {
        let (first, len, rest) = self.runs(start, at, len);
        // SAFETY: the runs lie in the area, do not overlap each other (together at most `size` bytes), hold initialised
        // bytes (mapped memory), and are exclusive by contract.
        unsafe {
            (std::slice::from_raw_parts_mut(self.at(first), len), std::slice::from_raw_parts_mut(self.at(0), rest))
        }
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
            // SAFETY: in the area, initialised, and not written while borrowed, by contract.
            unsafe { std::slice::from_raw_parts(self.at(offset), len) }
        } else {
            // SAFETY: as above, for the two runs.
            unsafe { self.lend_wrapped(offset, len, scratch) }
        }
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

    /// The word at `offset`, a multiple of 8, as an atomic. Callers go through [`Words`](super::Words), which exists only
    /// where no plain access does.
    #[inline(always)]
    pub(crate) fn atomic_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset < self.size && offset.is_multiple_of(8));
        // SAFETY: in the area and aligned (asserted); lives as long as the mapping; `Words` is handed out only for overwrite
        // rings, which are never claimed or lent, and for mappings that this process only reads.
        unsafe { AtomicU64::from_ptr(self.at(offset).cast()) }
    }
}

// SAFETY: the values are pointers into a mapping that outlives them; header words are atomics, and access to data is either
// atomic or under the contracts of the unsafe functions, which speak of all threads.
unsafe impl Send for HeaderWords {}
// SAFETY: as above.
unsafe impl Sync for HeaderWords {}
// SAFETY: as above.
unsafe impl Send for Data {}
// SAFETY: as above.
unsafe impl Sync for Data {}
