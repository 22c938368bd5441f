//! What can be wrong with a text.

use crate::bpf::insn::{Code, InsnError};
use thiserror::Error;

/// A text that is no program: where, and why.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{line}:{column}: {kind}")]
pub struct AsmError {
    /// The line, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub kind: AsmErrorKind,
}

/// What is wrong with a text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AsmErrorKind {
    /// Something else has to stand here.
    #[error("expected {expected}, not {found}")]
    Expected {
        /// What has to stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A number does not fit.
    #[error("the number does not fit into {bits} bits")]
    TooLarge {
        /// Bits that there are.
        bits: u32,
    },
    /// The index before an instruction is not its own.
    #[error("this is instruction {is}, not {given}")]
    Index {
        /// What the text says.
        given: String,
        /// What it is.
        is: usize,
    },
    /// The opcode before an instruction is not its own.
    #[error("the opcode of this is {is:#04x}, not {given:#04x}")]
    Opcode {
        /// What the text says.
        given: u8,
        /// What it is.
        is: u8,
    },
    /// No helper and no label has this name.
    #[error("there is no helper and no label `{name}`")]
    Name {
        /// The name.
        name: String,
    },
    /// A helper has another number.
    #[error("helper `{name}` has number {is}, not {given}")]
    HelperNumber {
        /// The helper's name.
        name: String,
        /// What the text says.
        given: i32,
        /// What it is.
        is: i32,
    },
    /// There is no such label.
    #[error("there is no label `{name}`")]
    NoLabel {
        /// The label.
        name: String,
    },
    /// There are two such labels.
    #[error("label `{name}` stands in line {line} already")]
    Twice {
        /// The label.
        name: String,
        /// The line of the first.
        line: usize,
    },
    /// A label is too far away for this jump.
    #[error("label `{name}` is {offset} instructions away, too far")]
    TooFar {
        /// The label.
        name: String,
        /// Instructions from the one behind this one.
        offset: i64,
    },
    /// The instruction is not defined.
    #[error(transparent)]
    Insn(#[from] InsnError),
    /// There are more than [`Code::MAX_LEN`] slots.
    #[error("more than {} instructions", Code::MAX_LEN)]
    TooLong,
}
