//! Perf event arrays: `BPF_MAP_TYPE_PERF_EVENT_ARRAY`.

use super::MapError;
use crate::bpf::order::Site;
use crate::sync::{self, AtomicU64};

/// Where the event of a slot is: in which machine, on which of its CPUs, and in which of the CPU's places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) machine: u32,
    pub(crate) cpu: u16,
    pub(crate) place: u16,
}

impl Slot {
    /// Not 0.
    fn word(self) -> u64 {
        u64::from(self.machine) << 32 | u64::from(self.cpu) << 16 | u64::from(self.place)
    }

    fn of(word: u64) -> Option<Self> {
        // Machines are numbered from 1 on.
        (word != 0).then_some(Self { machine: (word >> 32) as u32, cpu: (word >> 16) as u16, place: word as u16 })
    }
}

/// Events, which are rings of the CPUs of a machine. The slots only say where they are: who looks at one has leased its CPU,
/// and whoever changes it takes the CPU for that.
pub(crate) struct Events {
    slots: Box<[AtomicU64]>,
}

impl Events {
    pub(crate) fn new(entries: u32) -> Result<Self, MapError> {
        let bytes = 8 * entries as usize;
        let none = || MapError::NoMemory { bytes, error: "the allocator has none".to_owned() };
        Ok(Self { slots: sync::zeroed_u64(entries as usize).ok_or_else(none)? })
    }

    pub(crate) fn check(&self, index: u32) -> Result<(), MapError> {
        let entries = self.slots.len() as u32;
        if index < entries { Ok(()) } else { Err(MapError::Index { index, entries }) }
    }

    /// None if there is no such slot, and none in it if it is empty.
    pub(crate) fn get(&self, index: u32) -> Option<Option<Slot>> {
        self.slots.get(index as usize).map(|slot| Slot::of(slot.load(Site::EventSlot.order())))
    }

    /// Replaces what is in a slot; gives what was there.
    pub(crate) fn set(&self, index: u32, slot: Option<Slot>) -> Option<Slot> {
        let word = slot.map_or(0, Slot::word);
        Slot::of(self.slots.get(index as usize)?.swap(word, Site::EventSlot.order()))
    }
}
