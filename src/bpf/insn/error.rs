//! What can be wrong with an instruction.

use crate::bpf::insn::Insn;
use thiserror::Error;

/// Bytes that are no whole number of instructions.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{len} bytes are no whole number of instructions, which have {} each", Insn::SIZE)]
pub struct LengthError {
    /// How many bytes there are.
    pub len: usize,
}

/// An instruction that is not defined: where, and what is wrong with it.
///
/// `at` is the index of the slot that is at fault; that of a wide instruction's second slot where the fault is there.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsnError {
    /// There is no slot of this index.
    #[error("instruction {at}: there are only {len}")]
    Missing {
        /// Index.
        at: usize,
        /// Slots that there are.
        len: usize,
    },
    /// No instruction has this opcode.
    #[error("instruction {at}: opcode {opcode:#04x} is not defined")]
    Opcode {
        /// Index.
        at: usize,
        /// Opcode.
        opcode: u8,
    },
    /// The destination is no register.
    #[error("instruction {at}: the destination r{dst} does not exist")]
    Dst {
        /// Index.
        at: usize,
        /// Number of the register.
        dst: u8,
    },
    /// The source is no register.
    #[error("instruction {at}: the source r{src} does not exist")]
    Src {
        /// Index.
        at: usize,
        /// Number of the register.
        src: u8,
    },
    /// It would change `r10`.
    #[error("instruction {at}: r10 is read-only")]
    ReadOnly {
        /// Index.
        at: usize,
    },
    /// The instruction has no destination, and this one is not 0.
    #[error("instruction {at}: the destination is reserved, and {dst}")]
    ReservedDst {
        /// Index.
        at: usize,
        /// What is there.
        dst: u8,
    },
    /// The instruction has no source, and this one is not 0.
    #[error("instruction {at}: the source is reserved, and {src}")]
    ReservedSrc {
        /// Index.
        at: usize,
        /// What is there.
        src: u8,
    },
    /// The instruction has no offset, and this one is not 0.
    #[error("instruction {at}: the offset is reserved, and {offset}")]
    ReservedOffset {
        /// Index.
        at: usize,
        /// What is there.
        offset: i16,
    },
    /// The instruction has no immediate, and this one is not 0.
    #[error("instruction {at}: the immediate is reserved, and {imm}")]
    ReservedImm {
        /// Index.
        at: usize,
        /// What is there.
        imm: i32,
    },
    /// The offset of a division or remainder is neither 0, unsigned, nor 1, signed.
    #[error("instruction {at}: offset {offset} of a division is neither 0 (unsigned) nor 1 (signed)")]
    DivisionOffset {
        /// Index.
        at: usize,
        /// What is there.
        offset: i16,
    },
    /// The offset of a move between registers is neither 0 nor a width from which to extend the sign.
    #[error("instruction {at}: offset {offset} of a move is neither 0 nor a width to extend from")]
    MoveOffset {
        /// Index.
        at: usize,
        /// What is there.
        offset: i16,
    },
    /// The bits whose order changes are not 16, 32 or 64.
    #[error("instruction {at}: the order of {imm} bits cannot be changed, only that of 16, 32 or 64")]
    SwapWidth {
        /// Index.
        at: usize,
        /// What is there.
        imm: i32,
    },
    /// There is no such atomic operation.
    #[error("instruction {at}: {imm:#x} is no atomic operation")]
    Atomic {
        /// Index.
        at: usize,
        /// What is there.
        imm: i32,
    },
    /// The atomic operation exists, but not for 1 or 2 bytes.
    #[error("instruction {at}: atomic operation {imm:#x} takes 4 or 8 bytes, and opcode {opcode:#04x} has fewer")]
    AtomicSize {
        /// Index.
        at: usize,
        /// Opcode.
        opcode: u8,
        /// Operation.
        imm: i32,
    },
    /// There is no such kind of calls.
    #[error("instruction {at}: {src} is no kind of call (0 helper, 1 local, 2 kfunc)")]
    CallKind {
        /// Index.
        at: usize,
        /// What is there.
        src: u8,
    },
    /// The register of a `callx`, in the immediate as older compilers have it, does not exist.
    #[error("instruction {at}: callx through r{imm}, which does not exist")]
    CallRegister {
        /// Index.
        at: usize,
        /// What is there.
        imm: i32,
    },
    /// There is no such kind of 64-bit immediates.
    #[error("instruction {at}: {src} is no kind of 64-bit immediate (0 to 6)")]
    Imm64Kind {
        /// Index.
        at: usize,
        /// What is there.
        src: u8,
    },
    /// The program ends before the second slot of a wide instruction.
    #[error("instruction {at}: the program ends before its second slot")]
    Cut {
        /// Index.
        at: usize,
    },
    /// The second slot of a wide instruction has an opcode.
    #[error("instruction {at}: this is the second slot of a wide instruction, and has opcode {opcode:#04x}")]
    SecondOpcode {
        /// Index.
        at: usize,
        /// Opcode.
        opcode: u8,
    },
}

impl InsnError {
    /// The slot that is at fault.
    pub fn at(&self) -> usize {
        match self {
            Self::Missing { at, .. }
            | Self::Opcode { at, .. }
            | Self::Dst { at, .. }
            | Self::Src { at, .. }
            | Self::ReadOnly { at, .. }
            | Self::ReservedDst { at, .. }
            | Self::ReservedSrc { at, .. }
            | Self::ReservedOffset { at, .. }
            | Self::ReservedImm { at, .. }
            | Self::DivisionOffset { at, .. }
            | Self::MoveOffset { at, .. }
            | Self::SwapWidth { at, .. }
            | Self::Atomic { at, .. }
            | Self::AtomicSize { at, .. }
            | Self::CallKind { at, .. }
            | Self::CallRegister { at, .. }
            | Self::Imm64Kind { at, .. }
            | Self::Cut { at, .. }
            | Self::SecondOpcode { at, .. } => *at,
        }
    }
}
