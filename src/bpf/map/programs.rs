//! Program arrays: `BPF_MAP_TYPE_PROG_ARRAY`.

use super::MapError;
use super::cell::Cell;
use crate::bpf::program::Program;
use crate::bpf::program_type::ProgramType;
use crate::bpf::reentry;
use crate::sync::epoch::{self, Guard};

/// The most slots.
const MAX_ENTRIES: u32 = 1 << 24;

/// Programs of one type, for tail calls.
pub(crate) struct Programs {
    owner: ProgramType,
    slots: Box<[Cell<Program>]>,
}

impl Programs {
    pub(crate) fn new(owner: &ProgramType, entries: u32) -> Result<Self, MapError> {
        // Nobody has so many programs.
        if entries > MAX_ENTRIES {
            return Err(MapError::TooLarge { bytes: 8 * u128::from(entries) });
        }
        Ok(Self { owner: owner.clone(), slots: (0..entries).map(|_| Cell::new()).collect() })
    }

    /// The type of the programs: fixed when the array is made.
    pub(crate) fn owner(&self) -> &ProgramType {
        &self.owner
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn load<'g>(&self, index: usize, guard: &'g Guard) -> Option<&'g Program> {
        self.slots.get(index)?.load(guard)
    }

    /// Replaces what is in a slot, with the lock of `reentry` held; gives whether there was something.
    pub(crate) fn set(&self, index: u32, program: Option<Program>) -> Result<bool, MapError> {
        let entries = self.slots.len() as u32;
        let slot = self.slots.get(index as usize).ok_or(MapError::Index { index, entries })?;
        if let Some(program) = &program
            && *program.type_() != self.owner
        {
            let (type_, owner) = (program.type_().name().to_owned(), self.owner.name().to_owned());
            return Err(MapError::ProgramType { type_, owner });
        }
        Ok(slot.swap(program, &epoch::pin()))
    }

    /// Empties all slots.
    pub(crate) fn clear(&self) {
        // It may be that a change of this thread drops the last handle of an array of programs: that holds the lock already.
        let _locked = reentry::lock().ok();
        let guard = epoch::pin();
        for slot in &self.slots {
            slot.swap(None, &guard);
        }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.clear();
    }
}
