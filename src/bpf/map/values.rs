//! Where values lie: in a mapping of their own, which is never referred to but by address.

#![allow(unsafe_code)]

use super::MapError;
use crate::bpf::memory;
pub(crate) use crate::bpf::memory::Readable;
use memmap2::{MmapOptions, MmapRaw};

/// The most bytes of the values of a map.
const MAX_BYTES: u128 = 1 << 40;
/// Values of one CPU start at a multiple of it, so that CPUs do not share cache lines.
const LINE: usize = 128;

/// Slots of values, of one copy each, or of a copy for each CPU. They are zero at first, and memory is taken when they are
/// touched.
///
/// Programs have the addresses, and may use them at any time, on any thread: every access goes through [`memory`].
pub(crate) struct Values {
    mapping: MmapRaw,
    slots: usize,
    size: usize,
    /// Bytes from a value to that of the next slot.
    stride: usize,
    /// Bytes from a CPU's copy of the first value to that of the next CPU; all of them, where there is one copy.
    area: usize,
    copies: usize,
    percpu: bool,
}

impl Values {
    /// As many slots, of values of `size` bytes, with a copy for each of so many CPUs, or with one for all.
    pub(crate) fn new(slots: usize, size: usize, cpus: Option<usize>) -> Result<Self, MapError> {
        let (copies, percpu) = (cpus.unwrap_or(1), cpus.is_some());
        let stride = size.next_multiple_of(8) as u128;
        let line = if copies > 1 { LINE as u128 } else { 8 };
        let area = (stride * slots as u128).next_multiple_of(line);
        let bytes = area * copies as u128;
        if bytes > MAX_BYTES {
            return Err(MapError::TooLarge { bytes });
        }
        let (stride, area, bytes) = (stride as usize, area as usize, (bytes as usize).max(8));
        // What a program may store behind no value is never there: the last value ends with the mapping, or before it.
        let mapping = MmapOptions::new()
            .len(bytes)
            .no_reserve_swap()
            .map_anon()
            .map_err(|error| MapError::NoMemory { bytes, error: error.to_string() })?;
        Ok(Self { mapping: MmapRaw::from(mapping), slots, size, stride, area, copies, percpu })
    }

    fn base(&self) -> u64 {
        self.mapping.as_mut_ptr().expose_provenance() as u64
    }

    /// The address of the value in a slot, of this CPU's copy where each has one.
    ///
    /// # Panics
    /// When there is no such slot, or no such CPU.
    pub(crate) fn address(&self, slot: usize, cpu: usize) -> u64 {
        assert!(slot < self.slots);
        let copy = if self.percpu { cpu } else { 0 };
        assert!(copy < self.copies);
        self.base() + (copy * self.area + slot * self.stride) as u64
    }

    /// Whether each CPU has a copy.
    pub(crate) fn is_percpu(&self) -> bool {
        self.percpu
    }

    /// How many copies each value has.
    pub(crate) fn copies(&self) -> usize {
        self.copies
    }

    /// Copies the value out: the first `to.len()` bytes, of which there are as many.
    pub(crate) fn read(&self, slot: usize, cpu: usize, to: &mut [u8]) {
        assert!(to.len() <= self.size);
        // SAFETY: `address` is that of a value of `size` bytes in the mapping, which lives as long as `self`; it is touched
        // by the functions of memory.rs alone.
        unsafe { memory::copy_out(self.address(slot, cpu), to) };
    }

    /// Overwrites the value with as many bytes as it has.
    pub(crate) fn write(&self, slot: usize, cpu: usize, from: &[u8]) {
        assert_eq!(from.len(), self.size);
        // SAFETY: as for `read`.
        unsafe { memory::copy_in(self.address(slot, cpu), from) };
    }

    /// Overwrites all copies of the value: with one value, or, where there are several, with one for each, each rounded up to 8
    /// bytes.
    pub(crate) fn write_all(&self, slot: usize, from: &[u8]) {
        let stride = self.copied_stride();
        for cpu in 0..self.copies {
            self.write(slot, cpu, &from[cpu * stride..][..self.size]);
        }
    }

    /// All copies of the value, as [`write_all`](Self::write_all) takes them.
    pub(crate) fn read_all(&self, slot: usize, to: &mut [u8]) {
        let stride = self.copied_stride();
        for cpu in 0..self.copies {
            self.read(slot, cpu, &mut to[cpu * stride..][..self.size]);
        }
    }

    /// Bytes that all copies of a value have outside of programs: of several, each is rounded up to 8.
    pub(crate) fn copied_size(&self) -> usize {
        self.copied_stride() * self.copies
    }

    fn copied_stride(&self) -> usize {
        if self.copies > 1 || self.percpu { self.size.next_multiple_of(8) } else { self.size }
    }

    /// Overwrites the value with as many bytes of a program as it has.
    pub(crate) fn write_from(&self, slot: usize, cpu: usize, from: Readable) {
        assert_eq!(from.len(), self.size);
        // SAFETY: as for `read`; and `from` may be read.
        unsafe { memory::copy(self.address(slot, cpu), from.address(), self.size) };
    }

    /// Makes the value zero.
    pub(crate) fn zero(&self, slot: usize, cpu: usize) {
        // SAFETY: as for `read`.
        unsafe { memory::zero(self.address(slot, cpu), self.size) };
    }

    /// The value that an address lies in: its start and its size. What lies between values is in none.
    pub(crate) fn find(&self, address: u64) -> Option<(u64, usize)> {
        let base = self.base();
        let offset = usize::try_from(address.checked_sub(base)?).ok()?;
        if offset >= self.area * self.copies || self.stride == 0 {
            return None;
        }
        let (within_area, area) = (offset % self.area, offset / self.area);
        let (slot, within) = (within_area / self.stride, within_area % self.stride);
        (slot < self.slots && within < self.size)
            .then(|| (base + (area * self.area + slot * self.stride) as u64, self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_values_is_in_none() {
        let values = Values::new(3, 13, Some(2)).unwrap();
        for cpu in 0..2 {
            for slot in 0..3 {
                let start = values.address(slot, cpu);
                for at in 0..16 {
                    let found = values.find(start + at);
                    assert_eq!(found, (at < 13).then_some((start, 13)), "{slot} {cpu} {at}");
                }
            }
            assert_eq!(values.find(values.address(2, cpu) + 16), None);
        }
        assert_eq!(values.find(values.address(0, 0) - 1), None);
        assert_eq!(values.find(values.base() + 256), None);
        assert_eq!(values.find(u64::MAX), None);
    }

    #[test]
    fn values_are_their_own() {
        let values = Values::new(2, 5, Some(2)).unwrap();
        values.write(0, 0, b"first");
        values.write(1, 1, b"other");
        let mut bytes = [0xff; 5];
        values.read(1, 0, &mut bytes);
        assert_eq!(bytes, [0; 5]);
        values.write_from(1, 0, Readable::of(b"third"));
        for (slot, cpu, expected) in [(0, 0, b"first"), (1, 1, b"other"), (1, 0, b"third"), (0, 1, &[0; 5])] {
            values.read(slot, cpu, &mut bytes);
            assert_eq!(&bytes, expected);
        }
        values.zero(0, 0);
        values.read(0, 0, &mut bytes);
        assert_eq!(bytes, [0; 5]);
    }

    #[test]
    fn sizes_that_no_machine_has() {
        let bytes = |slots, size, copies| match Values::new(slots, size, copies) {
            Err(MapError::TooLarge { bytes }) => bytes,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("made"),
        };
        assert_eq!(bytes(1 << 32, 1 << 31, None), 1 << 63);
        assert_eq!(bytes(1 << 32, 1 << 31, Some(4096)), 1 << 75);
    }
}
