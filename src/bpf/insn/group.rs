//! The conformance groups of RFC 9669.

use super::{AluOp, Callee, Imm64, Op, Size, Width};
use std::fmt;

/// A conformance group (RFC 9669 section 2.4): what a platform has to have if it has any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConformanceGroup {
    /// 32-bit instructions, calls, jumps: what every platform has.
    Base32,
    /// 64-bit instructions, and `Base32`.
    Base64,
    /// 32-bit atomic operations.
    Atomic32,
    /// 64-bit atomic operations, and `Atomic32`.
    Atomic64,
    /// 32-bit multiplication, division and remainder.
    Divmul32,
    /// 64-bit multiplication, division and remainder, and `Divmul32`.
    Divmul64,
    /// The legacy access to packets.
    Packet,
}

impl ConformanceGroup {
    /// The RFC's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base32 => "base32",
            Self::Base64 => "base64",
            Self::Atomic32 => "atomic32",
            Self::Atomic64 => "atomic64",
            Self::Divmul32 => "divmul32",
            Self::Divmul64 => "divmul64",
            Self::Packet => "packet",
        }
    }

    /// Whether a platform that has this group has the other.
    pub fn includes(self, other: Self) -> bool {
        self == other
            || matches!(
                (self, other),
                (Self::Base64, Self::Base32) | (Self::Atomic64, Self::Atomic32) | (Self::Divmul64, Self::Divmul32)
            )
    }
}

impl fmt::Display for ConformanceGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

const fn base(width: Width) -> ConformanceGroup {
    match width {
        Width::W32 => ConformanceGroup::Base32,
        Width::W64 => ConformanceGroup::Base64,
    }
}

const fn access(size: Size) -> ConformanceGroup {
    match size {
        Size::DW => ConformanceGroup::Base64,
        Size::B | Size::H | Size::W => ConformanceGroup::Base32,
    }
}

impl Op {
    /// The conformance group that the instruction is of; none of what is not in the RFC (`may_goto`, `load_acquire`,
    /// `store_release`, `callx`, and the file descriptors of BTF other than the kernel's).
    ///
    /// The RFC puts the class of `exit` into base64 and IANA's registry `exit` itself into base32, without which no program
    /// of base32 could end: it is in base32 here. IANA's registry has the 64-bit `neg` in base32, against the RFC's section
    /// 4.1: it is in base64 here.
    pub const fn conformance_group(&self) -> Option<ConformanceGroup> {
        Some(match *self {
            Self::Alu { width, op, .. } => match (op, width) {
                (AluOp::Mul | AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod, Width::W32) => {
                    ConformanceGroup::Divmul32
                }
                (AluOp::Mul | AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod, Width::W64) => {
                    ConformanceGroup::Divmul64
                }
                _ => base(width),
            },
            Self::Neg { width, .. }
            | Self::Mov { width, .. }
            | Self::MovSx { width, .. }
            | Self::JumpIf { width, .. } => base(width),
            Self::ByteSwap { size, .. } | Self::Load { size, .. } | Self::Store { size, .. } => access(size),
            Self::LoadImm64 { imm: Imm64::Variable { btf_fd, .. }, .. } if btf_fd != 0 => return None,
            Self::LoadImm64 { .. } => ConformanceGroup::Base64,
            Self::Atomic { size: Size::DW, .. } => ConformanceGroup::Atomic64,
            Self::Atomic { .. } => ConformanceGroup::Atomic32,
            Self::LoadPacket { .. } => ConformanceGroup::Packet,
            Self::Call(Callee::Register(_)) => return None,
            Self::Call(Callee::Kfunc { btf, .. }) if btf != 0 => return None,
            Self::Call(_) | Self::Jump { .. } | Self::Exit => ConformanceGroup::Base32,
            Self::MayGoto { .. } | Self::LoadAcquire { .. } | Self::StoreRelease { .. } => return None,
        })
    }
}
