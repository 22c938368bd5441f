//! Program arrays: `BPF_MAP_TYPE_PROG_ARRAY`.

use super::MapError;
use super::slots::Slots;
use crate::bpf::program::Program;
use crate::bpf::program_type::ProgramType;
use crate::sync::epoch::Guard;

/// Programs of one type, for tail calls.
pub(crate) struct Programs {
    owner: ProgramType,
    slots: Slots<Program>,
}

impl Programs {
    pub(crate) fn new(owner: &ProgramType, entries: u32) -> Self {
        Self { owner: owner.clone(), slots: Slots::new(entries as usize) }
    }

    /// The type of the programs: fixed when the array is made.
    pub(crate) fn owner(&self) -> &ProgramType {
        &self.owner
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn load<'g>(&'g self, index: usize, guard: &'g Guard) -> Option<&'g Program> {
        self.slots.load(index, guard)
    }

    pub(crate) fn store(&self, index: usize, program: Option<Program>) -> Result<(), MapError> {
        self.slots.store(index, program)
    }
}
