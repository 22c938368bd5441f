//! The interpreter.
//!
//! Registers, frames and reservations belong to an [`Execution`], which lasts from the start of a program to the end of the
//! outermost one. [`Execution::run`] runs its instructions. In checked mode every access is tested against what the program may
//! touch then: its frames, its context, the packet, open buffers and records, the values of its maps.
//!
//! # Unchecked
//!
//! A program that the verifier accepted has a [`Proof`](super::proof::Proof), and runs without these tests. What follows is the
//! contract of `Execution::run::<false>`: whatever the program is run on, whatever maps hold, whatever helpers give within their
//! prototypes, and whatever other threads do meanwhile. `Program::with_proof`, which is unsafe, is where it is entered into.
//!
//! What the verifier guarantees, wherever an instruction is reached:
//!
//! - **L**, loads: all of the bytes are of one of these. A frame that is there, the current one or a caller's, and there they
//!   were stored before, since the frame was made. The context: where it has fields, what [`ContextLayout::access`] says are
//!   bytes; where it is plain memory, up to the proof's `context_len` and not the hidden ones. The packet, an open buffer: a
//!   comparison with its end showed that they are there. An open record. A value of one of the program's own maps that it may
//!   read. A load of an address from the context is of a slot that the facts name with the one field that it loads from; of such
//!   a slot no other load is ever made.
//! - **S**, stores: the same; in the context what may be written, and values of maps that it may write.
//! - **A**, atomic operations, and loads and stores with an order: in frames, values and records alone, at addresses that are
//!   multiples of the size. Frames and values start at a multiple of 8; records start 4 behind one.
//! - **H**, arguments of helpers, by what the prototype ([`Arg`]) wants. `Context`: its start. `Map`: one of the program's, of one
//!   of the kinds. `Key`, `Value`: as many bytes as the first map among the arguments has, to be read as under L. `Memory`: as
//!   many as the lower 32 bits of the next argument say, as under L; `MemoryOrNull`: or 0, with a size of 0; `UninitMemory`: to be
//!   written as under S, where bytes of frames count as stored afterwards only if the place and the size are known, or if they
//!   were before. `Size`: 1 to `i32::MAX`; `SizeOrZero`: bounded as 64 bits. `ConstStr`: in a value of a map that is constant
//!   ([`Map::is_constant`]), a 0 behind it. `Function`: one of the program's. `StackOrNull`: 0, or a byte of a frame. `Record`: the
//!   start of an open one. What is called through a register is a helper or a function that the program may call.
//! - **R**, registers: nothing is read that was not set: after a call not `r1` to `r5`, at the start of a function, a callback or a
//!   program nothing but its arguments and `r10`.
//! - **F**, frames: no address of a frame is kept when it ends, in a register or in another frame. There are never more than the
//!   proof's `frames` above those of the program's callers.
//! - **T**, tail calls: none in callbacks and what they call, none while a buffer or a record is open. When one of a function is
//!   made, the program goes on behind the call of that function, with any number in `r0`.
//! - **E**, the end: `r0` is a number. Nothing is open.
//! - **N**: that an address is 0 is excluded only of those of frames, functions, maps, values and records. Two loads of a place are
//!   not taken to give the same, unless it is in a frame, or in a map that is constant.
//!
//! What it gets in return:
//!
//! - Values of maps stay where they are, and their memory stays that of values of the same map, until the execution ends: arrays
//!   for good, and those of hashes under the guard, which is taken before the first look-up and given back behind the last
//!   instruction. The maps are the program's own; a program that was tail-called stays under the same guard.
//! - A look-up in an array gives the address of the element, where the array has one with this index. So it is for those of each
//!   CPU: programs are started and tail-called only where their maps have values for all CPUs of the machine.
//! - The context and the packet are lent to the execution alone. A context that a cast made lies in one of two areas of the depth at
//!   which it was made: the other one than the context that it is made from. What a caller has is in areas of its own depth, or
//!   above. So a caller finds its context as it left it.
//! - Buffers and records do not move while they are open. They are closed by their own helpers, by those that change the context,
//!   and by tail calls; a buffer that is closed has its start and its end at 0.
//! - Nobody writes a frame but by an address that a helper or a callback was given by the program itself: a program that it
//!   tail-calls and that is verified has addresses of its own frames alone, and where it calls one that is not, the execution goes
//!   on checked, to its end.
//! - A map that is constant keeps its content, and no thread is in the middle of changing it.
//! - Programs with a proof are started and tail-called only where the context is as long as `context_len` says, if it is plain
//!   memory, and where `frames` more fit.
//! - Helpers of this crate give what [`verifier`](super::verifier) takes them to give: the number of a CPU is below `MAX_CPUS`,
//!   what `bpf_buffer_reserve` and the like give is 0 or a negative errno, 0 from `bpf_buffer_reserve` exactly where the buffer was
//!   opened, and no `bpf_probe_read_*_str`, nor `bpf_get_stack`, gives more than its size.
//! - Frames are not made zero for a program that can't show what they held. One that calls a helper that may leave some of the
//!   bytes it is given to write, or that tail-calls from a function, has them made zero as in checked mode.
//!
//! What is tested in unchecked mode, too: the budget of instructions, which is the only thing that stops a verified program; the
//! depth of frames, tail calls in callbacks, targets of calls through registers, callbacks, indices of maps and of helpers.
//!
//! [`Arg`]: super::Arg
//! [`ContextLayout::access`]: super::program_type::ContextLayout::access
//! [`Map::is_constant`]: super::map::Map

mod buffers;
mod compile;
mod exec;
mod execution;
mod frames;
mod inst;
mod pair;
#[cfg(test)]
mod tests;
mod trap;

pub(crate) use buffers::INDEX_MASK;
pub(crate) use compile::inst;
pub(crate) use execution::{Execution, Lent, Span};
#[cfg(test)]
pub(crate) use inst::cmp;
pub(crate) use inst::{Code, Inst, alu};
pub(crate) use pair::make_pairs;
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
