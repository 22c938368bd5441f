//! Why a program is refused.

use super::{Interval, Kind};
use crate::bpf::helper::Arg;
use crate::bpf::map::MapType;
use std::fmt;
use thiserror::Error;

/// A program that was not proved safe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyError {
    /// The program.
    pub program: String,
    /// The slot of the instruction.
    pub insn: usize,
    /// The line of C that it came from, where that is known.
    pub line: Option<String>,
    /// What is wrong.
    pub kind: Box<Refusal>,
    /// The slots that were followed from the program's start to the instruction, calls included; where they are more than
    /// [`VerifyError::MAX_PATH`], the last of them.
    pub path: Vec<usize>,
    /// The log, as far as it was asked for.
    pub log: String,
}

impl VerifyError {
    /// The most slots in [`path`](Self::path).
    pub const MAX_PATH: usize = 4096;
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: instruction {}", self.program, self.insn)?;
        if let Some(line) = &self.line {
            write!(f, " ({line})")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for VerifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.kind)
    }
}

/// Where a program would leave something open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Leave {
    /// At its end.
    Exit,
    /// At a tail call.
    TailCall,
    /// At a legacy load from a packet, which may end it.
    LegacyLoad,
    /// At `buffer_reserve` of the same buffer.
    Reserve,
    /// At `finalize_context`.
    Finalize,
    /// At the end of a function that a helper called back, which did not open it.
    Callback,
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exit => "at the exit",
            Self::TailCall => "at a tail call",
            Self::LegacyLoad => "at a load from the packet that may end the program",
            Self::Reserve => "where it is reserved again",
            Self::Finalize => "where the context is finalized",
            Self::Callback => "at the end of a callback",
        })
    }
}

/// What is wrong with a program. Registers are given by their numbers.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A register that was never written, or lost its value in a call.
    #[error("r{reg} is not initialised")]
    Uninitialised {
        /// Register.
        reg: u8,
    },
    /// An access through what is no address.
    #[error("r{reg} is {kind}, and no address")]
    NotAnAddress {
        /// Register.
        reg: u8,
        /// What it holds.
        kind: Kind,
    },
    /// An access through an address of nothing that can be read or written: the end of a packet, a map, a function.
    #[error("r{reg} is {kind}, of which there is nothing to access")]
    NotMemory {
        /// Register.
        reg: u8,
        /// What it holds.
        kind: Kind,
    },
    /// A use of an address that may be 0.
    #[error("r{reg} is {kind}: compare it with 0 before")]
    MaybeNull {
        /// Register.
        reg: u8,
        /// What it holds.
        kind: Kind,
    },
    /// One instruction through different kinds of addresses, on different paths, where it has to work differently.
    #[error("the instruction accesses {second} here, and {first} on another path")]
    MixedAccess {
        /// The one that was met first.
        first: Kind,
        /// The other.
        second: Kind,
    },
    /// An access outside of the stack frame.
    #[error("{size} bytes at {offset} of the frame, which goes from -512 to -1")]
    StackBounds {
        /// Bytes from the frame's end.
        offset: Interval,
        /// Bytes.
        size: u64,
    },
    /// An access of the stack that is not aligned.
    #[error("{size} bytes at {offset} of the frame are not aligned")]
    StackMisaligned {
        /// Bytes from the frame's end.
        offset: Interval,
        /// Bytes.
        size: u64,
    },
    /// Bytes of the stack that were never written.
    #[error("byte {byte} of the frame is not initialised, of {size} bytes from {offset} on")]
    StackUninitialised {
        /// The first such byte, from the frame's end.
        byte: i64,
        /// Where the access starts.
        offset: Interval,
        /// Bytes.
        size: u64,
    },
    /// A read of a part of an address that was spilled, or as something else than an address.
    #[error("byte {byte} of the frame is part of {kind} that was spilled, and is not read as that")]
    SpilledAddress {
        /// The first such byte, from the frame's end.
        byte: i64,
        /// What was spilled.
        kind: Kind,
    },
    /// A write over a part of an address that was spilled.
    #[error("byte {byte} of the frame is part of {kind} that was spilled: only all of it can be overwritten")]
    OverwrittenSpill {
        /// The first byte that is written, from the frame's end.
        byte: i64,
        /// What was spilled.
        kind: Kind,
    },
    /// An access outside of the value of a map.
    #[error("{size} bytes at {offset} of a value of {map}, which has {value_size}")]
    ValueBounds {
        /// The map.
        map: String,
        /// Bytes from its start.
        offset: Interval,
        /// Bytes.
        size: u64,
        /// Bytes that there are.
        value_size: u64,
    },
    /// A write to a map that is read-only for programs.
    #[error("{map} is read-only for programs")]
    ReadOnlyMap {
        /// The map.
        map: String,
    },
    /// A read of a map that is write-only for programs.
    #[error("{map} is write-only for programs")]
    WriteOnlyMap {
        /// The map.
        map: String,
    },
    /// An access outside of a record.
    #[error("{size} bytes at {offset} of a record of {record_size}")]
    RecordBounds {
        /// Bytes from its start.
        offset: Interval,
        /// Bytes.
        size: u64,
        /// Bytes that there are.
        record_size: u64,
    },
    /// An access of a packet of which no comparison with its end has shown that it is inside.
    #[error("{size} bytes at {offset} of the packet, of which {proved} are proved: compare with data_end before")]
    PacketBounds {
        /// Bytes from where the proof starts.
        offset: Interval,
        /// Bytes.
        size: u64,
        /// Bytes that a comparison has shown to be there.
        proved: u32,
    },
    /// An access of a writable buffer of which no comparison with its end has shown that it is inside.
    #[error("{size} bytes at {offset} of buffer {id}, of which {proved} are proved: compare with its end before")]
    BufferBounds {
        /// The buffer.
        id: u32,
        /// Bytes from where the proof starts.
        offset: Interval,
        /// Bytes.
        size: u64,
        /// Bytes that a comparison has shown to be there.
        proved: u32,
    },
    /// An access of a writable buffer that is not aligned to its start.
    #[error("{size} bytes at {offset} of buffer {id} are not aligned")]
    BufferMisaligned {
        /// The buffer.
        id: u32,
        /// Bytes from its start.
        offset: Interval,
        /// Bytes.
        size: u64,
    },
    /// An access that the context's layout does not allow.
    #[error("{access} of {size} bytes at {offset} of the context of {type_} programs", access = if *.write { "store" } else { "load" })]
    ContextAccess {
        /// Bytes from its start.
        offset: i64,
        /// Bytes.
        size: u64,
        /// Whether it is a store.
        write: bool,
        /// The program's type.
        type_: String,
    },
    /// An access of the context at an offset that is not known.
    #[error("an access of the context at {offset}, which has to be known")]
    ContextOffset {
        /// Bytes from its start.
        offset: Interval,
    },
    /// An atomic operation on what is not for it.
    #[error("atomic operation on {kind}")]
    AtomicOn {
        /// What the address leads to.
        kind: Kind,
    },
    /// An atomic operation that is not aligned.
    #[error("atomic operation on {size} bytes at {offset} of {kind}, where they are not aligned")]
    AtomicMisaligned {
        /// What the address leads to.
        kind: Kind,
        /// Bytes from its start.
        offset: Interval,
        /// Bytes.
        size: u64,
    },
    /// An address stored where others could read it.
    #[error("r{reg} is {kind}: stored to {to} it would be leaked")]
    Leak {
        /// Register.
        reg: u8,
        /// What it holds.
        kind: Kind,
        /// What it is stored to.
        to: Kind,
    },
    /// An address as the program's result.
    #[error("r0 is {kind}: as the result it would be leaked")]
    LeakedResult {
        /// What it holds.
        kind: Kind,
    },
    /// Arithmetic that makes no address.
    #[error("r{reg} is {kind}: {op} is not for it")]
    Arithmetic {
        /// Register.
        reg: u8,
        /// What it holds.
        kind: Kind,
        /// The operation.
        op: &'static str,
    },
    /// An address with an offset so large that sums with it could wrap.
    #[error("r{reg} is {kind} with the offset {offset}, which may be too large to go on with")]
    Offset {
        /// Register.
        reg: u8,
        /// What it holds.
        kind: Kind,
        /// Bytes.
        offset: Interval,
    },
    /// A comparison that would tell where something lies.
    #[error("r{reg} is {kind}, and compared with {other}, which would leak where it is")]
    Comparison {
        /// Register.
        reg: u8,
        /// What it holds.
        kind: Kind,
        /// What the other operand is.
        other: Kind,
    },
    /// An argument that the helper does not take.
    #[error("{helper}: argument {at} is {kind}, and has to be {wanted}", wanted = super::error::wanted(*.wanted))]
    Argument {
        /// The helper's name.
        helper: String,
        /// From 1 on.
        at: usize,
        /// What it is.
        kind: Kind,
        /// What it has to be.
        wanted: Arg,
    },
    /// A map of a kind that the helper does not take.
    #[error("{helper}: argument {at} is the map {map}, a {found}", found = .type_.name())]
    ArgumentMap {
        /// The helper's name.
        helper: String,
        /// From 1 on.
        at: usize,
        /// The map.
        map: String,
        /// Its kind.
        type_: MapType,
    },
    /// A number that has to be known before the program runs.
    #[error("{helper}: argument {at} is between {found}, and has to be known")]
    ArgumentUnknown {
        /// The helper's name.
        helper: String,
        /// From 1 on.
        at: usize,
        /// What it may be.
        found: Interval,
    },
    /// A size that may be 0 where it must not, or negative, or without bound.
    #[error("{helper}: argument {at} is a size between {found}{zero}", zero = if *.zero { ", and must not be 0" } else { ", and has to be bounded by what is there" })]
    ArgumentSize {
        /// The helper's name.
        helper: String,
        /// From 1 on.
        at: usize,
        /// What it may be.
        found: Interval,
        /// Whether it is refused because it may be 0.
        zero: bool,
    },
    /// A text that is not known to be one: its map can change, or it has no 0 at its end.
    #[error("{helper}: argument {at} is {kind}, which is no text that stays: {why}")]
    ArgumentText {
        /// The helper's name.
        helper: String,
        /// From 1 on.
        at: usize,
        /// What it is.
        kind: Kind,
        /// What it lacks.
        why: &'static str,
    },
    /// The context, but not at its start.
    #[error("{helper}: argument {at} is the context at the offset {offset}, and has to be its start")]
    ArgumentOffset {
        /// The helper's name.
        helper: String,
        /// From 1 on.
        at: usize,
        /// Bytes.
        offset: Interval,
    },
    /// A call of what a register holds.
    #[error("call of what r{reg} holds")]
    CallRegister {
        /// Register.
        reg: u8,
    },
    /// Calls that are nested too deeply.
    #[error("calls nested deeper than {limit} frames")]
    Frames {
        /// The most frames.
        limit: usize,
    },
    /// Frames that together are too large.
    #[error("the functions called take {bytes} bytes of stack, of which there are {limit}")]
    StackDepth {
        /// Bytes.
        bytes: u32,
        /// The most.
        limit: u32,
    },
    /// A tail call in a function that a helper calls back.
    #[error("tail call in a callback")]
    TailCallInCallback,
    /// A legacy load from a packet in a function that a helper calls back.
    #[error("load from the packet that may end the program, in a callback")]
    LegacyLoadInCallback,
    /// A function that a helper calls back and that may give something else than 0 and 1.
    #[error("the callback gives {found}, and has to give 0 or 1")]
    CallbackResult {
        /// What it may give.
        found: Interval,
    },
    /// A legacy load without the context in `r6`.
    #[error("r6 is {kind}, and has to be the context for a load from the packet")]
    LegacyContext {
        /// What it holds.
        kind: Kind,
    },
    /// A record of a ring buffer that is neither submitted nor discarded.
    #[error("the record reserved at instruction {reserved} is still open {leave}")]
    RecordOpen {
        /// The slot of the call that reserved it.
        reserved: usize,
        /// Where it would be lost.
        leave: Leave,
    },
    /// A writable buffer that is not committed.
    #[error("buffer {id}, reserved at instruction {reserved}, is still open {leave}")]
    BufferOpen {
        /// The buffer.
        id: u32,
        /// The slot of the call that reserved it.
        reserved: usize,
        /// Where it would be lost.
        leave: Leave,
    },
    /// A writable buffer that is not known to be closed, as the result of the reservation was not looked at.
    #[error("buffer {id}, reserved at instruction {reserved}, may still be open {leave}: test the result, or commit")]
    BufferMaybeOpen {
        /// The buffer.
        id: u32,
        /// The slot of the call that reserved it.
        reserved: usize,
        /// Where it would be lost.
        leave: Leave,
    },
    /// A writable buffer that the context has not.
    #[error("programs of type {type_} have no buffer {id}")]
    UnknownBuffer {
        /// What was asked for.
        id: u64,
        /// The program's type.
        type_: String,
    },
    /// A commit with another map than the reservation.
    #[error("buffer {id} was reserved in {reserved} at instruction {at}, and is committed to {committed}")]
    BufferMap {
        /// The buffer.
        id: u32,
        /// The map of the reservation.
        reserved: String,
        /// The slot of the call that reserved it.
        at: usize,
        /// The map of the commit.
        committed: String,
    },
    /// A loop that changes nothing, and so may never end.
    #[error("a loop that may never end: nothing has changed since instruction {insn} was reached before")]
    InfiniteLoop {
        /// The slot at which it is as it was before.
        insn: usize,
    },
    /// A program that takes too many steps to be followed.
    #[error("more than {limit} instructions were followed: the program is too complex, or has a loop without a bound")]
    TooComplex {
        /// The most that are followed.
        limit: u64,
    },
    /// A program with too many branches that wait for another to be followed to its end.
    #[error(
        "more than {limit} branches wait to be followed: the program is too complex, or has a loop without a bound"
    )]
    TooManyBranches {
        /// The most that wait.
        limit: usize,
    },
    /// A program that takes too much memory to be followed.
    #[error("more than {limit} bytes are needed to follow the program: it is too complex")]
    TooLarge {
        /// The most that are taken.
        limit: usize,
    },
    /// An instruction that needs what is not there: see
    /// [`ProgramBuilder::unresolved`](crate::bpf::ProgramBuilder::unresolved).
    #[error("{reason}")]
    Unresolved {
        /// What it needs, and why that is not there.
        reason: String,
    },
    /// An instruction that nothing leads to, where that is not allowed.
    #[error("instruction {insn} is never reached")]
    Dead {
        /// The slot.
        insn: usize,
    },
}

/// What an argument has to be, in words.
fn wanted(arg: Arg) -> &'static str {
    match arg {
        Arg::None => "nothing",
        Arg::Any => "initialised",
        Arg::Scalar => "a number",
        Arg::Constant => "a number that is known",
        Arg::Context => "the context",
        Arg::Map(_) => "a map of a kind that it takes",
        Arg::Key => "the address of a key",
        Arg::Value => "the address of a value",
        Arg::Memory => "the address of memory",
        Arg::UninitMemory => "the address of memory to be written",
        Arg::MemoryOrNull => "the address of memory, or 0",
        Arg::Size | Arg::SizeOrZero | Arg::AllocSize => "a size",
        Arg::ConstStr => "a text in a map that stays as it is",
        Arg::Function => "a function of the program",
        Arg::StackOrNull => "an address in the stack, or 0",
        Arg::Record => "an open record, at its start",
    }
}
