//! The interpreter.
//!
//! Registers, frames and reservations belong to an [`Execution`], which lasts from the start of a program to the end of the
//! outermost one. [`run`](exec::run) runs its instructions. In checked mode every access is tested against what the program
//! may touch then: its frames, its context, the packet, open buffers and records, the values of its maps.

mod compile;
mod exec;
mod execution;
mod inst;
mod trap;

pub(crate) use compile::inst;
pub(crate) use execution::{Buffer, Execution, Lent, Span};
#[cfg(test)]
pub(crate) use inst::cmp;
pub(crate) use inst::{Code, Inst, alu};
pub use trap::{Trap, TrapKind};

/// Bytes in a frame.
pub(crate) const FRAME_SIZE: usize = 512;
/// Frames of a program and the functions that it calls, one in the other.
pub(crate) const MAX_FRAMES: usize = 8;
/// Tail calls that follow each other.
pub(crate) const MAX_TAIL_CALLS: u32 = 33;
/// How often a function goes on at its `may_goto`s.
pub(crate) const MAX_LOOPS: u32 = 8 << 20;

/// Where the numbers of maps begin: addresses that no memory has, so that a map is not taken for one.
const MAP_HANDLES: u64 = 0xffff_8000_0000_0000;
/// Where those of functions begin.
const FUNCTION_HANDLES: u64 = 0xffff_9000_0000_0000;

/// What a program has in a register for the map of this index.
pub(crate) fn map_handle(index: u32) -> u64 {
    MAP_HANDLES + u64::from(index)
}

/// The index of the map, if `value` is what a program has for one.
pub(crate) fn map_index(value: u64) -> usize {
    usize::try_from(value.wrapping_sub(MAP_HANDLES)).unwrap_or(usize::MAX)
}

/// What a program has in a register for the function that starts at this slot.
pub(crate) fn function_handle(slot: usize) -> u64 {
    FUNCTION_HANDLES + slot as u64
}

/// The slot of a function, if `value` is what a program has for one.
pub(crate) fn function_slot(value: u64) -> Option<usize> {
    usize::try_from(value.checked_sub(FUNCTION_HANDLES)?).ok().filter(|slot| *slot < 1 << 32)
}
