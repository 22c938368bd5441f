//! From bytes to slots, and from slots to what they mean.

use super::opcode::*;
use super::{
    AluOp, AtomicOp, ByteSwap, Callee, Imm64, Insn, InsnError, JmpOp, LengthError, Op, Operand, Reg, Size, Width,
};
use crate::record::ByteOrder;

impl Insn {
    /// Bytes of a slot.
    pub const SIZE: usize = 8;

    /// The slot of these bytes. The order is that of the fields of several bytes and of the two registers in theirs.
    pub const fn from_bytes(bytes: [u8; Self::SIZE], order: ByteOrder) -> Self {
        let [opcode, regs, o0, o1, i0, i1, i2, i3] = bytes;
        let (low, high) = (regs & 0xf, regs >> 4);
        match order {
            ByteOrder::Little => Self {
                opcode,
                dst: low,
                src: high,
                offset: i16::from_le_bytes([o0, o1]),
                imm: i32::from_le_bytes([i0, i1, i2, i3]),
            },
            ByteOrder::Big => Self {
                opcode,
                dst: high,
                src: low,
                offset: i16::from_be_bytes([o0, o1]),
                imm: i32::from_be_bytes([i0, i1, i2, i3]),
            },
        }
    }

    /// The slots of little-endian bytes.
    ///
    /// # Errors
    ///
    /// The number of bytes is not a multiple of 8.
    ///
    /// ```
    /// use perfring::bpf::insn::{Insn, Op};
    ///
    /// let insns = Insn::parse(&[0xb7, 0, 0, 0, 7, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])?;
    /// assert_eq!(insns[0], Insn { opcode: 0xb7, imm: 7, ..Insn::default() });
    /// assert_eq!(Op::decode(&insns, 1)?, Op::Exit);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Vec<Self>, LengthError> {
        Self::parse_in(bytes, ByteOrder::Little)
    }

    /// The slots of bytes in this order.
    ///
    /// # Errors
    ///
    /// The number of bytes is not a multiple of 8.
    pub fn parse_in(bytes: &[u8], order: ByteOrder) -> Result<Vec<Self>, LengthError> {
        match bytes.as_chunks() {
            (slots, []) => Ok(slots.iter().map(|&slot| Self::from_bytes(slot, order)).collect()),
            _ => Err(LengthError { len: bytes.len() }),
        }
    }
}

/// A slot and its index.
#[derive(Clone, Copy)]
struct Slot {
    at: usize,
    insn: Insn,
}

impl Slot {
    fn undefined(self) -> InsnError {
        InsnError::Opcode { at: self.at, opcode: self.insn.opcode }
    }

    /// The destination as a register that is read.
    fn base(self) -> Result<Reg, InsnError> {
        Reg::new(self.insn.dst).ok_or(InsnError::Dst { at: self.at, dst: self.insn.dst })
    }

    /// The destination as a register that is written.
    fn dst(self) -> Result<Reg, InsnError> {
        self.writable(self.base()?)
    }

    fn src(self) -> Result<Reg, InsnError> {
        Reg::new(self.insn.src).ok_or(InsnError::Src { at: self.at, src: self.insn.src })
    }

    fn writable(self, reg: Reg) -> Result<Reg, InsnError> {
        if reg == Reg::R10 { Err(InsnError::ReadOnly { at: self.at }) } else { Ok(reg) }
    }

    fn no_dst(self) -> Result<(), InsnError> {
        if self.insn.dst == 0 { Ok(()) } else { Err(InsnError::ReservedDst { at: self.at, dst: self.insn.dst }) }
    }

    fn no_src(self) -> Result<(), InsnError> {
        if self.insn.src == 0 { Ok(()) } else { Err(InsnError::ReservedSrc { at: self.at, src: self.insn.src }) }
    }

    fn no_offset(self) -> Result<(), InsnError> {
        match self.insn.offset {
            0 => Ok(()),
            offset => Err(InsnError::ReservedOffset { at: self.at, offset }),
        }
    }

    fn no_imm(self) -> Result<(), InsnError> {
        match self.insn.imm {
            0 => Ok(()),
            imm => Err(InsnError::ReservedImm { at: self.at, imm }),
        }
    }

    /// The second operand, by the opcode's bit; what the other kind would use is reserved.
    fn operand(self) -> Result<Operand, InsnError> {
        if self.insn.opcode & BPF_X == 0 {
            self.no_src()?;
            return Ok(Operand::Imm(self.insn.imm));
        }
        self.no_imm()?;
        Ok(Operand::Reg(self.src()?))
    }

    fn size(self) -> Size {
        match self.insn.opcode & SIZE {
            BPF_W => Size::W,
            BPF_H => Size::H,
            BPF_B => Size::B,
            _ => Size::DW,
        }
    }

    fn alu(self, width: Width) -> Result<Op, InsnError> {
        let op = match self.insn.opcode & OP {
            BPF_ADD => AluOp::Add,
            BPF_SUB => AluOp::Sub,
            BPF_MUL => AluOp::Mul,
            BPF_OR => AluOp::Or,
            BPF_AND => AluOp::And,
            BPF_LSH => AluOp::Lsh,
            BPF_RSH => AluOp::Rsh,
            BPF_XOR => AluOp::Xor,
            BPF_ARSH => AluOp::Arsh,
            BPF_DIV => self.signed(AluOp::Div, AluOp::Sdiv)?,
            BPF_MOD => self.signed(AluOp::Mod, AluOp::Smod)?,
            BPF_MOV => return self.mov(width),
            BPF_NEG if self.insn.opcode & BPF_X == 0 => {
                self.no_src()?;
                self.no_offset()?;
                self.no_imm()?;
                return Ok(Op::Neg { width, dst: self.dst()? });
            }
            BPF_END => return self.swap(width),
            _ => return Err(self.undefined()),
        };
        if !matches!(op, AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod) {
            self.no_offset()?;
        }
        Ok(Op::Alu { width, op, dst: self.dst()?, src: self.operand()? })
    }

    fn signed(self, unsigned: AluOp, signed: AluOp) -> Result<AluOp, InsnError> {
        match self.insn.offset {
            0 => Ok(unsigned),
            SIGNED => Ok(signed),
            offset => Err(InsnError::DivisionOffset { at: self.at, offset }),
        }
    }

    fn mov(self, width: Width) -> Result<Op, InsnError> {
        let (dst, src) = (self.dst()?, self.operand()?);
        let Operand::Reg(reg) = src else {
            self.no_offset()?;
            return Ok(Op::Mov { width, dst, src });
        };
        let from = match (self.insn.offset, width) {
            (0, _) => return Ok(Op::Mov { width, dst, src }),
            (8, _) => Size::B,
            (16, _) => Size::H,
            (32, Width::W64) => Size::W,
            (offset, _) => return Err(InsnError::MoveOffset { at: self.at, offset }),
        };
        Ok(Op::MovSx { width, from, dst, src: reg })
    }

    fn swap(self, width: Width) -> Result<Op, InsnError> {
        let kind = match (width, self.insn.opcode & BPF_X) {
            (Width::W32, BPF_TO_LE) => ByteSwap::ToLe,
            (Width::W32, _) => ByteSwap::ToBe,
            (Width::W64, 0) => ByteSwap::Swap,
            (Width::W64, _) => return Err(self.undefined()),
        };
        self.no_src()?;
        self.no_offset()?;
        let size = match self.insn.imm {
            16 => Size::H,
            32 => Size::W,
            64 => Size::DW,
            imm => return Err(InsnError::SwapWidth { at: self.at, imm }),
        };
        Ok(Op::ByteSwap { kind, size, dst: self.dst()? })
    }

    fn jump(self, width: Width) -> Result<Op, InsnError> {
        let Insn { opcode, offset, imm, .. } = self.insn;
        let op = match opcode & OP {
            BPF_JEQ => JmpOp::Eq,
            BPF_JNE => JmpOp::Ne,
            BPF_JSET => JmpOp::Set,
            BPF_JGT => JmpOp::Gt,
            BPF_JGE => JmpOp::Ge,
            BPF_JLT => JmpOp::Lt,
            BPF_JLE => JmpOp::Le,
            BPF_JSGT => JmpOp::Sgt,
            BPF_JSGE => JmpOp::Sge,
            BPF_JSLT => JmpOp::Slt,
            BPF_JSLE => JmpOp::Sle,
            BPF_JA if opcode & BPF_X == 0 => {
                self.no_dst()?;
                self.no_src()?;
                return Ok(match width {
                    Width::W64 => {
                        self.no_imm()?;
                        Op::Jump { offset: offset.into(), long: false }
                    }
                    Width::W32 => {
                        self.no_offset()?;
                        Op::Jump { offset: imm, long: true }
                    }
                });
            }
            BPF_CALL if width == Width::W64 => return Ok(Op::Call(self.callee()?)),
            BPF_EXIT if width == Width::W64 && opcode & BPF_X == 0 => {
                self.no_dst()?;
                self.no_src()?;
                self.no_offset()?;
                self.no_imm()?;
                return Ok(Op::Exit);
            }
            BPF_JCOND if width == Width::W64 && opcode & BPF_X == 0 => {
                self.no_dst()?;
                // The kind of the condition; that of 0 is the only one.
                self.no_src()?;
                self.no_imm()?;
                return Ok(Op::MayGoto { offset });
            }
            _ => return Err(self.undefined()),
        };
        Ok(Op::JumpIf { width, op, dst: self.base()?, src: self.operand()?, offset })
    }

    fn callee(self) -> Result<Callee, InsnError> {
        let Insn { opcode, dst, src, offset, imm } = self.insn;
        if opcode & BPF_X != 0 {
            self.no_src()?;
            self.no_offset()?;
            if imm == 0 {
                return Ok(Callee::Register(self.base()?));
            }
            if dst != 0 {
                return Err(InsnError::ReservedImm { at: self.at, imm });
            }
            let reg = u8::try_from(imm).ok().and_then(Reg::new);
            return reg.map(Callee::Register).ok_or(InsnError::CallRegister { at: self.at, imm });
        }
        self.no_dst()?;
        if src != BPF_PSEUDO_KFUNC_CALL {
            self.no_offset()?;
        }
        match src {
            0 => Ok(Callee::Helper(imm)),
            BPF_PSEUDO_CALL => Ok(Callee::Local(imm)),
            BPF_PSEUDO_KFUNC_CALL => Ok(Callee::Kfunc { id: imm, btf: offset }),
            src => Err(InsnError::CallKind { at: self.at, src }),
        }
    }

    fn load(self) -> Result<Op, InsnError> {
        let (size, offset) = (self.size(), self.insn.offset);
        let signed = match (self.insn.opcode & MODE, size) {
            (BPF_MEM, _) => false,
            (BPF_MEMSX, Size::B | Size::H | Size::W) => true,
            _ => return Err(self.undefined()),
        };
        self.no_imm()?;
        Ok(Op::Load { size, signed, dst: self.dst()?, src: self.src()?, offset })
    }

    fn store_imm(self) -> Result<Op, InsnError> {
        if self.insn.opcode & MODE != BPF_MEM {
            return Err(self.undefined());
        }
        self.no_src()?;
        let src = Operand::Imm(self.insn.imm);
        Ok(Op::Store { size: self.size(), dst: self.base()?, offset: self.insn.offset, src })
    }

    fn store(self) -> Result<Op, InsnError> {
        let Insn { opcode, offset, .. } = self.insn;
        match opcode & MODE {
            BPF_MEM => {
                self.no_imm()?;
                Ok(Op::Store { size: self.size(), dst: self.base()?, offset, src: Operand::Reg(self.src()?) })
            }
            BPF_ATOMIC => self.atomic(),
            _ => Err(self.undefined()),
        }
    }

    fn atomic(self) -> Result<Op, InsnError> {
        let Insn { opcode, offset, imm, .. } = self.insn;
        let (at, size) = (self.at, self.size());
        let op = match imm {
            BPF_LOAD_ACQ => return Ok(Op::LoadAcquire { size, dst: self.dst()?, src: self.src()?, offset }),
            BPF_STORE_REL => return Ok(Op::StoreRelease { size, dst: self.base()?, offset, src: self.src()? }),
            BPF_XCHG => AtomicOp::Xchg,
            BPF_CMPXCHG => AtomicOp::Cmpxchg,
            _ => {
                let fetch = imm & BPF_FETCH != 0;
                match imm & !BPF_FETCH {
                    ATOMIC_ADD => AtomicOp::Add { fetch },
                    ATOMIC_OR => AtomicOp::Or { fetch },
                    ATOMIC_AND => AtomicOp::And { fetch },
                    ATOMIC_XOR => AtomicOp::Xor { fetch },
                    _ => return Err(InsnError::Atomic { at, imm }),
                }
            }
        };
        if matches!(size, Size::B | Size::H) {
            return Err(InsnError::AtomicSize { at, opcode, imm });
        }
        let src = self.src()?;
        if op.writes_src() {
            self.writable(src)?;
        }
        Ok(Op::Atomic { op, size, dst: self.base()?, offset, src })
    }

    fn packet(self, indirect: bool) -> Result<Op, InsnError> {
        let size = self.size();
        if size == Size::DW {
            return Err(self.undefined());
        }
        self.no_dst()?;
        self.no_offset()?;
        let index = if indirect {
            Some(self.src()?)
        } else {
            self.no_src()?;
            None
        };
        Ok(Op::LoadPacket { size, index, offset: self.insn.imm })
    }

    fn wide(self, second: Option<&Insn>) -> Result<Op, InsnError> {
        let Insn { src, imm, .. } = self.insn;
        let dst = self.dst()?;
        self.no_offset()?;
        if src > BPF_PSEUDO_MAP_IDX_VALUE {
            return Err(InsnError::Imm64Kind { at: self.at, src });
        }
        let Some(&second) = second else {
            return Err(InsnError::Cut { at: self.at });
        };
        let second = Self { at: self.at + 1, insn: second };
        if second.insn.opcode != 0 {
            return Err(InsnError::SecondOpcode { at: second.at, opcode: second.insn.opcode });
        }
        second.no_dst()?;
        second.no_src()?;
        second.no_offset()?;
        let next = second.insn.imm;
        if matches!(src, BPF_PSEUDO_MAP_FD | BPF_PSEUDO_FUNC | BPF_PSEUDO_MAP_IDX) {
            second.no_imm()?;
        }
        let imm = match src {
            BPF_PSEUDO_MAP_FD => Imm64::MapFd(imm),
            BPF_PSEUDO_MAP_VALUE => Imm64::MapFdValue { fd: imm, offset: next.cast_unsigned() },
            BPF_PSEUDO_BTF_ID => Imm64::Variable { id: imm, btf_fd: next },
            BPF_PSEUDO_FUNC => Imm64::Function(imm),
            BPF_PSEUDO_MAP_IDX => Imm64::MapIndex(imm),
            BPF_PSEUDO_MAP_IDX_VALUE => Imm64::MapIndexValue { index: imm, offset: next.cast_unsigned() },
            _ => Imm64::Value(u64::from(next.cast_unsigned()) << 32 | u64::from(imm.cast_unsigned())),
        };
        Ok(Op::LoadImm64 { dst, imm })
    }
}

impl Op {
    /// What the instruction in slot `at` means.
    ///
    /// Nothing passes that is not defined: fields that the instruction does not use are 0, registers exist, none writes
    /// `r10`. Where a jump leads is not looked at; [`Code`](super::Code) does.
    ///
    /// # Errors
    ///
    /// A variant for each defect.
    pub fn decode(insns: &[Insn], at: usize) -> Result<Self, InsnError> {
        let Some(&insn) = insns.get(at) else {
            return Err(InsnError::Missing { at, len: insns.len() });
        };
        let slot = Slot { at, insn };
        match insn.opcode & CLASS {
            BPF_ALU => slot.alu(Width::W32),
            BPF_ALU64 => slot.alu(Width::W64),
            BPF_JMP => slot.jump(Width::W64),
            BPF_JMP32 => slot.jump(Width::W32),
            BPF_LDX => slot.load(),
            BPF_ST => slot.store_imm(),
            BPF_STX => slot.store(),
            _ => match (insn.opcode & MODE, slot.size()) {
                (BPF_IMM, Size::DW) => slot.wide(insns.get(at + 1)),
                (BPF_ABS, _) => slot.packet(false),
                (BPF_IND, _) => slot.packet(true),
                _ => Err(slot.undefined()),
            },
        }
    }
}
