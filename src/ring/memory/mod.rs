//! The memory that a ring lies in, and every access to it.
//!
//! A data area is used in one of two ways, fixed by the ring's mode. In *lossless* rings plain accesses under a protocol
//! of ownership: a byte range belongs to the producer from its reservation to the store of `data_head` that publishes it,
//! and to the consumer from there to the store of `data_tail` that gives it back. [`Memory::claim`] and [`Memory::lend`]
//! are where that protocol becomes a slice, and are `unsafe` for that reason. In *overwrite* rings nobody owns anything:
//! both sides use relaxed atomic words ([`Words`]), and readers validate after copying.
#![allow(unsafe_code)]

mod aux;
mod fork;
#[cfg(not(perfring_loom))]
mod map;
#[cfg(perfring_loom)]
mod model;
#[cfg(not(perfring_loom))]
mod raw;

pub(crate) use aux::AuxMemory;
pub(crate) use fork::ForkGuard;
#[cfg(all(feature = "kernel", not(perfring_loom)))]
pub(crate) use map::announce_aux;
#[cfg(not(perfring_loom))]
pub(crate) use map::{
    Backing, FileLock, MapError, kernel_aux, kernel_time_page, map_file, map_kernel, map_memfd, map_memfd_reader,
    map_private, private_aux, private_time_page, seal,
};
#[cfg(perfring_loom)]
pub(crate) use model::{AuxWords, Backing, Data, HeaderWords, Span, TimeWords};
#[cfg(not(perfring_loom))]
pub(crate) use raw::{AuxWords, Data, HeaderWords, Span, TimeWords};

use super::Mode;
use super::layout::Geometry;

/// How far the bytes of a memory can be relied on to stay as they are while the consumer looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Written by the kernel or by this process through this crate: published bytes do not change until given back.
    Exclusive,
    /// Another process can write it at any time: copied word by word, each word once, and then validated.
    Untrusted,
}

/// A mapped ring: header page, data area, geometry. Shared by whoever works on it.
pub(crate) struct Memory {
    header: HeaderWords,
    data: Data,
    geometry: Geometry,
    mode: Mode,
    trust: Trust,
    /// Keeps the mapping alive; dropped last.
    _backing: Backing,
}

impl Memory {
    pub(crate) fn new(
        header: HeaderWords,
        data: Data,
        geometry: Geometry,
        mode: Mode,
        trust: Trust,
        backing: Backing,
    ) -> Self {
        Self { header, data, geometry, mode, trust, _backing: backing }
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &HeaderWords {
        &self.header
    }

    #[inline(always)]
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[inline(always)]
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    #[inline(always)]
    pub(crate) fn trust(&self) -> Trust {
        self.trust
    }

    /// Treats the memory as exclusive from now on.
    pub(crate) fn set_exclusive(&mut self) {
        self.trust = Trust::Exclusive;
    }

    /// The `len` bytes from `position` on, for the producer to write.
    ///
    /// # Safety
    /// The ring is lossless; position and `len` are multiples of 8, `len` from 8 to its size; and until the span is dropped nobody else reads or writes those
    /// bytes: they are reserved by the caller, and neither published nor claimed a second time.
    #[inline(always)]
    pub(crate) unsafe fn claim(&self, position: u64, len: usize) -> Span<'_> {
        debug_assert!(self.mode == Mode::Lossless && (8..=self.geometry.size()).contains(&(len as u64)));
        // SAFETY: the data area has the geometry's size; exclusiveness is the caller's contract.
        unsafe { self.data.claim(position, len) }
    }

    /// As [`claim`](Self::claim), for bytes that do not wrap at the end of the data area.
    ///
    /// # Safety
    /// As for `claim`, and the bytes do not wrap.
    #[inline(always)]
    pub(crate) unsafe fn claim_run(&self, position: u64, len: usize) -> Span<'_> {
        debug_assert!(self.mode == Mode::Lossless && len >= 8);
        // SAFETY: as in `claim`; that they do not wrap is the caller's contract.
        unsafe { self.data.claim_run(position, len) }
    }

    /// The header word at `position`, read plainly.
    ///
    /// # Safety
    /// The memory is exclusive and lossless, `position` is a multiple of 8, and nobody writes the word meanwhile: it is
    /// published and not given back, or a header in what the caller has reserved.
    #[inline(always)]
    pub(crate) unsafe fn read_header(&self, position: u64) -> u64 {
        debug_assert!(position.is_multiple_of(8));
        // SAFETY: the offset is a multiple of 8 below the size, so the word is inside the area and aligned; that nobody
        // writes it meanwhile is the caller's contract.
        unsafe { self.data.read_word(self.geometry.offset(position)) }
    }

    /// `len` bytes from `position` on, in place.
    ///
    /// # Safety
    /// As for [`lend`](Self::lend), and the bytes do not wrap at the end of the data area.
    #[inline(always)]
    pub(crate) unsafe fn lend_run(&self, position: u64, len: usize) -> &[u8] {
        // SAFETY: that nobody writes the bytes, and that they do not wrap, is the caller's contract.
        unsafe { self.data.lend_run(self.geometry.offset(position), len) }
    }

    /// `len` bytes from `position` on, in place where they are contiguous, else by way of `scratch`.
    ///
    /// # Safety
    /// The memory is exclusive and lossless, and the bytes are published and not given back while the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn lend<'a>(&'a self, position: u64, len: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        debug_assert!(len as u64 <= self.geometry.size());
        // SAFETY: the offset is below the size and len at most the size, which is what `lend` asks of bounds; that
        // nobody writes the bytes is the caller's contract.
        unsafe { self.data.lend(self.geometry.offset(position), len, scratch) }
    }

    /// The data area as words that anybody may change at any time, for overwrite rings and for memory that another
    /// process writes.
    #[inline(always)]
    pub(crate) fn words(&self) -> Option<Words<'_>> {
        (self.mode != Mode::Lossless || self.trust == Trust::Untrusted)
            .then_some(Words { data: &self.data, geometry: self.geometry })
    }
}

/// The data area as relaxed atomic words.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    data: &'a Data,
    geometry: Geometry,
}

impl Words<'_> {
    /// Loads the word at `position`, a multiple of 8.
    #[inline(always)]
    pub(crate) fn load(&self, position: u64) -> u64 {
        self.data.atomic_word(self.geometry.offset(position)).load(super::order::Site::WordLoad.order())
    }

    /// Stores the word at `position`, a multiple of 8.
    #[inline(always)]
    pub(crate) fn store(&self, position: u64, word: u64) {
        self.data.atomic_word(self.geometry.offset(position)).store(word, super::order::Site::WordStore.order());
    }

    /// Copies `len` bytes, a multiple of 8, from `position` on to the end of `into`.
    pub(crate) fn copy(&self, position: u64, len: usize, into: &mut Vec<u8>) {
        into.reserve(len);
        for at in (0..len as u64).step_by(8) {
            into.extend_from_slice(&self.load(position.wrapping_add(at)).to_ne_bytes());
        }
    }
}
