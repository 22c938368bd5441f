//! Why a program was stopped.

use crate::bpf::helper::{Arg, HelperId};
use std::fmt;
use thiserror::Error;

/// What a program did that it may not.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrapKind {
    /// A load from where it may not.
    #[error("load of {size} bytes at {address:#x}, which is not the program's to read")]
    Load {
        /// Address.
        address: u64,
        /// Bytes.
        size: usize,
    },
    /// A store to where it may not.
    #[error("store of {size} bytes at {address:#x}, which is not the program's to write")]
    Store {
        /// Address.
        address: u64,
        /// Bytes.
        size: usize,
    },
    /// An atomic operation where it may not, or at an address that is not a multiple of its size.
    #[error("atomic operation on {size} bytes at {address:#x}, which is misaligned or not memory for that")]
    Atomic {
        /// Address.
        address: u64,
        /// Bytes.
        size: usize,
    },
    /// An argument that the helper does not take.
    #[error("helper {name}#{helper}: argument {at} is {value:#x}, and has to be {wanted:?}")]
    Argument {
        /// The helper.
        helper: HelperId,
        /// Its name.
        name: String,
        /// From 1 on.
        at: usize,
        /// What it was.
        value: u64,
        /// What it has to be.
        wanted: Arg,
    },
    /// A call beyond 8 frames.
    #[error("calls nested deeper than 8 frames")]
    CallDepth,
    /// A call of what is no function.
    #[error("call of {target:#x}, which is no function")]
    CallTarget {
        /// What was called.
        target: u64,
    },
    /// A tail call from a function that a helper calls back.
    #[error("tail call in a callback")]
    TailCall,
    /// An instruction that needs what is not there: see
    /// [`ProgramBuilder::unresolved`](crate::bpf::ProgramBuilder::unresolved).
    #[error("{reason}")]
    Unresolved {
        /// What it needs, and why that is not there.
        reason: String,
    },
    /// The instruction budget is used up.
    #[error("the instruction budget is used up")]
    Fuel,
}

/// A program that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trap {
    /// The program: another than the one that was started where there was a tail call.
    pub program: String,
    /// The slot of the instruction.
    pub insn: usize,
    /// The line of C that it came from, where that is known.
    pub line: Option<String>,
    /// What it did.
    pub kind: TrapKind,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: instruction {}", self.program, self.insn)?;
        if let Some(line) = &self.line {
            write!(f, " ({line})")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for Trap {}
