//! From what instructions mean to slots, and from slots to bytes.

use super::opcode::*;
use super::{AluOp, AtomicOp, ByteSwap, Callee, Imm64, Insn, JmpOp, Op, Operand, Reg, Size, Width};
use crate::record::ByteOrder;
use std::ops::Deref;

impl Insn {
    /// The bytes of the slot. Registers have 4 bits each; what a field has above them is not encoded.
    pub const fn to_bytes(self, order: ByteOrder) -> [u8; Self::SIZE] {
        let Self { opcode, dst, src, offset, imm } = self;
        let (dst, src) = (dst & 0xf, src & 0xf);
        let (regs, [o0, o1], [i0, i1, i2, i3]) = match order {
            ByteOrder::Little => (src << 4 | dst, offset.to_le_bytes(), imm.to_le_bytes()),
            ByteOrder::Big => (dst << 4 | src, offset.to_be_bytes(), imm.to_be_bytes()),
        };
        [opcode, regs, o0, o1, i0, i1, i2, i3]
    }
}

/// An instruction encoded: one slot, or two of a wide one. A slice of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoded {
    slots: [Insn; 2],
    len: usize,
}

impl Encoded {
    const fn one(insn: Insn) -> Self {
        Self { slots: [insn, Insn { opcode: 0, dst: 0, src: 0, offset: 0, imm: 0 }], len: 1 }
    }
}

impl Deref for Encoded {
    type Target = [Insn];

    fn deref(&self) -> &[Insn] {
        &self.slots[..self.len]
    }
}

impl AluOp {
    const fn encode(self) -> (u8, i16) {
        match self {
            Self::Add => (BPF_ADD, 0),
            Self::Sub => (BPF_SUB, 0),
            Self::Mul => (BPF_MUL, 0),
            Self::Div => (BPF_DIV, 0),
            Self::Sdiv => (BPF_DIV, SIGNED),
            Self::Mod => (BPF_MOD, 0),
            Self::Smod => (BPF_MOD, SIGNED),
            Self::Or => (BPF_OR, 0),
            Self::And => (BPF_AND, 0),
            Self::Xor => (BPF_XOR, 0),
            Self::Lsh => (BPF_LSH, 0),
            Self::Rsh => (BPF_RSH, 0),
            Self::Arsh => (BPF_ARSH, 0),
        }
    }
}

impl JmpOp {
    const fn encode(self) -> u8 {
        match self {
            Self::Eq => BPF_JEQ,
            Self::Ne => BPF_JNE,
            Self::Set => BPF_JSET,
            Self::Gt => BPF_JGT,
            Self::Ge => BPF_JGE,
            Self::Lt => BPF_JLT,
            Self::Le => BPF_JLE,
            Self::Sgt => BPF_JSGT,
            Self::Sge => BPF_JSGE,
            Self::Slt => BPF_JSLT,
            Self::Sle => BPF_JSLE,
        }
    }
}

impl AtomicOp {
    /// Whether the source register becomes the old value.
    pub(super) const fn writes_src(self) -> bool {
        match self {
            Self::Add { fetch } | Self::Or { fetch } | Self::And { fetch } | Self::Xor { fetch } => fetch,
            Self::Xchg => true,
            Self::Cmpxchg => false,
        }
    }

    const fn encode(self) -> i32 {
        let (op, fetch) = match self {
            Self::Add { fetch } => (ATOMIC_ADD, fetch),
            Self::Or { fetch } => (ATOMIC_OR, fetch),
            Self::And { fetch } => (ATOMIC_AND, fetch),
            Self::Xor { fetch } => (ATOMIC_XOR, fetch),
            Self::Xchg => return BPF_XCHG,
            Self::Cmpxchg => return BPF_CMPXCHG,
        };
        if fetch { op | BPF_FETCH } else { op }
    }
}

impl Size {
    const fn encode(self) -> u8 {
        match self {
            Self::B => BPF_B,
            Self::H => BPF_H,
            Self::W => BPF_W,
            Self::DW => BPF_DW,
        }
    }
}

const fn alu(width: Width) -> u8 {
    match width {
        Width::W32 => BPF_ALU,
        Width::W64 => BPF_ALU64,
    }
}

const fn jmp(width: Width) -> u8 {
    match width {
        Width::W32 => BPF_JMP32,
        Width::W64 => BPF_JMP,
    }
}

/// The slot with this second operand.
const fn with(insn: Insn, operand: Operand) -> Insn {
    match operand {
        Operand::Reg(src) => Insn { opcode: insn.opcode | BPF_X, src: src.number(), ..insn },
        Operand::Imm(imm) => Insn { imm, ..insn },
    }
}

impl Op {
    /// The instruction as it is encoded.
    ///
    /// What [`Op::decode`] gave encodes to what was decoded. (But for `callx` by older compilers, which have the register in
    /// `imm`: it is encoded in `dst`.) An operation that does not exist, as a sign-extending load of 8 bytes or a change of
    /// `r10`, encodes to what `decode` refuses.
    ///
    /// ```
    /// use perfring::bpf::insn::{Op, Operand, Reg, Width};
    ///
    /// let op = Op::Mov { width: Width::W64, dst: Reg::R6, src: Operand::Reg(Reg::R1) };
    /// assert_eq!(op.encode()[0].opcode, 0xbf);
    /// assert_eq!(Op::decode(&op.encode(), 0), Ok(op));
    /// ```
    pub const fn encode(&self) -> Encoded {
        let none = Insn { opcode: 0, dst: 0, src: 0, offset: 0, imm: 0 };
        Encoded::one(match *self {
            Self::Alu { width, op, dst, src } => {
                let (bits, offset) = op.encode();
                with(Insn { opcode: alu(width) | bits, dst: dst.number(), offset, ..none }, src)
            }
            Self::Neg { width, dst } => Insn { opcode: alu(width) | BPF_NEG, dst: dst.number(), ..none },
            Self::Mov { width, dst, src } => {
                with(Insn { opcode: alu(width) | BPF_MOV, dst: dst.number(), ..none }, src)
            }
            Self::MovSx { width, from, dst, src } => {
                let offset = from.bits() as i16;
                with(Insn { opcode: alu(width) | BPF_MOV, dst: dst.number(), offset, ..none }, Operand::Reg(src))
            }
            Self::ByteSwap { kind, size, dst } => {
                let opcode = BPF_END
                    | match kind {
                        ByteSwap::ToLe => BPF_ALU | BPF_TO_LE,
                        ByteSwap::ToBe => BPF_ALU | BPF_TO_BE,
                        ByteSwap::Swap => BPF_ALU64,
                    };
                Insn { opcode, dst: dst.number(), imm: size.bits() as i32, ..none }
            }
            Self::LoadImm64 { dst, imm } => return wide(dst, imm),
            Self::Load { size, signed, dst, src, offset } => {
                let mode = if signed { BPF_MEMSX } else { BPF_MEM };
                let opcode = BPF_LDX | mode | size.encode();
                Insn { opcode, dst: dst.number(), src: src.number(), offset, imm: 0 }
            }
            Self::Store { size, dst, offset, src } => {
                let (class, src, imm) = match src {
                    Operand::Reg(src) => (BPF_STX, src.number(), 0),
                    Operand::Imm(imm) => (BPF_ST, 0, imm),
                };
                Insn { opcode: class | BPF_MEM | size.encode(), dst: dst.number(), src, offset, imm }
            }
            Self::Atomic { op, size, dst, offset, src } => atomic(size, dst, src, offset, op.encode()),
            Self::LoadAcquire { size, dst, src, offset } => atomic(size, dst, src, offset, BPF_LOAD_ACQ),
            Self::StoreRelease { size, dst, offset, src } => atomic(size, dst, src, offset, BPF_STORE_REL),
            Self::LoadPacket { size, index, offset } => {
                let (mode, src) = match index {
                    Some(index) => (BPF_IND, index.number()),
                    None => (BPF_ABS, 0),
                };
                Insn { opcode: BPF_LD | mode | size.encode(), src, imm: offset, ..none }
            }
            Self::Jump { offset, long } => {
                if long || offset != offset as i16 as i32 {
                    Insn { opcode: BPF_JMP32 | BPF_JA, imm: offset, ..none }
                } else {
                    Insn { opcode: BPF_JMP | BPF_JA, offset: offset as i16, ..none }
                }
            }
            Self::JumpIf { width, op, dst, src, offset } => {
                with(Insn { opcode: jmp(width) | op.encode(), dst: dst.number(), offset, ..none }, src)
            }
            Self::MayGoto { offset } => Insn { opcode: BPF_JMP | BPF_JCOND, offset, ..none },
            Self::Call(callee) => {
                let call = Insn { opcode: BPF_JMP | BPF_CALL | BPF_K, ..none };
                match callee {
                    Callee::Helper(imm) => Insn { imm, ..call },
                    Callee::Local(imm) => Insn { src: BPF_PSEUDO_CALL, imm, ..call },
                    Callee::Kfunc { id, btf } => Insn { src: BPF_PSEUDO_KFUNC_CALL, offset: btf, imm: id, ..call },
                    Callee::Register(reg) => Insn { opcode: call.opcode | BPF_X, dst: reg.number(), ..call },
                }
            }
            Self::Exit => Insn { opcode: BPF_JMP | BPF_EXIT, ..none },
        })
    }

    /// The slots that the instruction takes: 1, or 2 of a wide one.
    pub const fn slots(&self) -> usize {
        if matches!(self, Self::LoadImm64 { .. }) { 2 } else { 1 }
    }
}

const fn atomic(size: Size, dst: Reg, src: Reg, offset: i16, imm: i32) -> Insn {
    Insn { opcode: BPF_STX | BPF_ATOMIC | size.encode(), dst: dst.number(), src: src.number(), offset, imm }
}

const fn wide(dst: Reg, imm: Imm64) -> Encoded {
    let (src, imm, next) = match imm {
        Imm64::Value(value) => (0, value as i32, (value >> 32) as i32),
        Imm64::MapFd(fd) => (BPF_PSEUDO_MAP_FD, fd, 0),
        Imm64::MapFdValue { fd, offset } => (BPF_PSEUDO_MAP_VALUE, fd, offset.cast_signed()),
        Imm64::Variable { id, btf_fd } => (BPF_PSEUDO_BTF_ID, id, btf_fd),
        Imm64::Function(offset) => (BPF_PSEUDO_FUNC, offset, 0),
        Imm64::MapIndex(index) => (BPF_PSEUDO_MAP_IDX, index, 0),
        Imm64::MapIndexValue { index, offset } => (BPF_PSEUDO_MAP_IDX_VALUE, index, offset.cast_signed()),
    };
    let first = Insn { opcode: BPF_LD | BPF_IMM | BPF_DW, dst: dst.number(), src, offset: 0, imm };
    let second = Insn { opcode: 0, dst: 0, src: 0, offset: 0, imm: next };
    Encoded { slots: [first, second], len: 2 }
}
