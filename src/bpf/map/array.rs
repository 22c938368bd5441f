//! Arrays: plain, and per-CPU.

use super::hash::Source;
use super::values::Values;
use super::{MapError, UpdateFlags};

/// An array: its elements are always there.
pub(crate) struct Array {
    values: Values,
    entries: u32,
}

impl Array {
    pub(crate) fn new(value_size: u32, entries: u32, cpus: Option<usize>) -> Result<Self, MapError> {
        Ok(Self { values: Values::new(entries as usize, value_size as usize, cpus)?, entries })
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// The slot of a key.
    pub(crate) fn slot(&self, key: &[u8]) -> Option<usize> {
        let index = u32::from_ne_bytes(key.try_into().ok()?);
        (index < self.entries).then_some(index as usize)
    }

    /// The address of an element, for a program on this CPU; none where it has none.
    #[inline]
    pub(crate) fn address(&self, index: u32, cpu: usize) -> Option<u64> {
        let is_there = index < self.entries && (!self.values.is_percpu() || cpu < self.values.copies());
        is_there.then(|| self.values.address(index as usize, cpu))
    }

    /// Overwrites an element.
    pub(crate) fn update(&self, key: &[u8], from: Source<'_>, flags: UpdateFlags) -> Result<(), MapError> {
        let index = key.try_into().map_or(u32::MAX, u32::from_ne_bytes);
        let slot = self.slot(key).ok_or(MapError::Index { index, entries: self.entries })?;
        if flags == UpdateFlags::NoExist {
            return Err(MapError::Exists);
        }
        match from {
            Source::Program(from, cpu) => self.values.write_from(slot, cpu, from),
            Source::Bytes(bytes) => self.values.write_all(slot, bytes),
        }
        Ok(())
    }
}
