//! From instructions as they are meant to those that run.

use super::{Code, FRAME_SIZE, Inst};
use crate::bpf::insn::{AluOp, AtomicOp, ByteSwap, Callee, JmpOp, Op, Operand, Reg, Size, Width};

/// The last of the registers that there are for the interpreter alone.
const NO_REGISTER: u8 = 15;

fn alu(op: AluOp) -> [Code; 4] {
    match op {
        AluOp::Add => [Code::Add64Reg, Code::Add64Imm, Code::Add32Reg, Code::Add32Imm],
        AluOp::Sub => [Code::Sub64Reg, Code::Sub64Imm, Code::Sub32Reg, Code::Sub32Imm],
        AluOp::Mul => [Code::Mul64Reg, Code::Mul64Imm, Code::Mul32Reg, Code::Mul32Imm],
        AluOp::Or => [Code::Or64Reg, Code::Or64Imm, Code::Or32Reg, Code::Or32Imm],
        AluOp::And => [Code::And64Reg, Code::And64Imm, Code::And32Reg, Code::And32Imm],
        AluOp::Xor => [Code::Xor64Reg, Code::Xor64Imm, Code::Xor32Reg, Code::Xor32Imm],
        AluOp::Lsh => [Code::Lsh64Reg, Code::Lsh64Imm, Code::Lsh32Reg, Code::Lsh32Imm],
        AluOp::Rsh => [Code::Rsh64Reg, Code::Rsh64Imm, Code::Rsh32Reg, Code::Rsh32Imm],
        AluOp::Arsh => [Code::Arsh64Reg, Code::Arsh64Imm, Code::Arsh32Reg, Code::Arsh32Imm],
        AluOp::Div => [Code::Div64Reg, Code::Div64Imm, Code::Div32Reg, Code::Div32Imm],
        AluOp::Mod => [Code::Mod64Reg, Code::Mod64Imm, Code::Mod32Reg, Code::Mod32Imm],
        AluOp::Sdiv => [Code::Sdiv64Reg, Code::Sdiv64Imm, Code::Sdiv32Reg, Code::Sdiv32Imm],
        AluOp::Smod => [Code::Smod64Reg, Code::Smod64Imm, Code::Smod32Reg, Code::Smod32Imm],
    }
}

fn jump(op: JmpOp) -> [Code; 4] {
    match op {
        JmpOp::Eq => [Code::JEq64Reg, Code::JEq64Imm, Code::JEq32Reg, Code::JEq32Imm],
        JmpOp::Ne => [Code::JNe64Reg, Code::JNe64Imm, Code::JNe32Reg, Code::JNe32Imm],
        JmpOp::Set => [Code::JSet64Reg, Code::JSet64Imm, Code::JSet32Reg, Code::JSet32Imm],
        JmpOp::Gt => [Code::JGt64Reg, Code::JGt64Imm, Code::JGt32Reg, Code::JGt32Imm],
        JmpOp::Ge => [Code::JGe64Reg, Code::JGe64Imm, Code::JGe32Reg, Code::JGe32Imm],
        JmpOp::Lt => [Code::JLt64Reg, Code::JLt64Imm, Code::JLt32Reg, Code::JLt32Imm],
        JmpOp::Le => [Code::JLe64Reg, Code::JLe64Imm, Code::JLe32Reg, Code::JLe32Imm],
        JmpOp::Sgt => [Code::JSgt64Reg, Code::JSgt64Imm, Code::JSgt32Reg, Code::JSgt32Imm],
        JmpOp::Sge => [Code::JSge64Reg, Code::JSge64Imm, Code::JSge32Reg, Code::JSge32Imm],
        JmpOp::Slt => [Code::JSlt64Reg, Code::JSlt64Imm, Code::JSlt32Reg, Code::JSlt32Imm],
        JmpOp::Sle => [Code::JSle64Reg, Code::JSle64Imm, Code::JSle32Reg, Code::JSle32Imm],
    }
}

/// Of 64 bits with register and immediate, and of 32 with them: the one that fits.
fn choose(codes: [Code; 4], width: Width, src: Operand) -> Inst {
    let at = if width == Width::W64 { 0 } else { 2 };
    operand(codes[at], codes[at + 1], src)
}

fn operand(reg: Code, imm: Code, src: Operand) -> Inst {
    match src {
        Operand::Reg(src) => Inst { src: src.number(), ..Inst::new(reg) },
        Operand::Imm(value) => Inst { imm: i64::from(value) as u64, ..Inst::new(imm) },
    }
}

fn bytes(size: Size) -> i32 {
    match size {
        Size::B => 1,
        Size::H => 2,
        Size::W => 4,
        Size::DW => 8,
    }
}

/// Whether an access relative to this register is always in the frame: `r10` is what it was when the frame was made.
fn in_frame(base: Reg, offset: i16, size: Size) -> bool {
    base == Reg::R10 && i32::from(offset) >= -(FRAME_SIZE as i32) && i32::from(offset) + bytes(size) <= 0
}

fn atomic_number(op: AtomicOp) -> u64 {
    match op {
        AtomicOp::Add { fetch } => u64::from(fetch),
        AtomicOp::Or { fetch } => 2 + u64::from(fetch),
        AtomicOp::And { fetch } => 4 + u64::from(fetch),
        AtomicOp::Xor { fetch } => 6 + u64::from(fetch),
        AtomicOp::Xchg => 8,
        AtomicOp::Cmpxchg => 9,
    }
}

/// The instruction for `op`, which is not one that needs to know maps or helpers.
pub(crate) fn inst(op: &Op) -> Inst {
    match *op {
        Op::Alu { width, op, dst, src } => Inst { dst: dst.number(), ..choose(alu(op), width, src) },
        Op::Neg { width, dst } => {
            let code = if width == Width::W64 { Code::Neg64 } else { Code::Neg32 };
            Inst { dst: dst.number(), ..Inst::new(code) }
        }
        Op::Mov { width, dst, src } => {
            let mov = match (width, src) {
                (Width::W64, Operand::Reg(src)) => Inst { src: src.number(), ..Inst::new(Code::Mov64Reg) },
                (Width::W32, Operand::Reg(src)) => Inst { src: src.number(), ..Inst::new(Code::Mov32Reg) },
                (Width::W64, Operand::Imm(value)) => Inst { imm: i64::from(value) as u64, ..Inst::new(Code::MovImm) },
                (Width::W32, Operand::Imm(value)) => Inst { imm: u64::from(value as u32), ..Inst::new(Code::MovImm) },
            };
            Inst { dst: dst.number(), ..mov }
        }
        Op::MovSx { width, from, dst, src } => {
            let code = match (width, from) {
                (Width::W32, Size::B) => Code::MovSx8To32,
                (Width::W32, _) => Code::MovSx16To32,
                (Width::W64, Size::B) => Code::MovSx8To64,
                (Width::W64, Size::H) => Code::MovSx16To64,
                (Width::W64, _) => Code::MovSx32To64,
            };
            Inst { dst: dst.number(), src: src.number(), ..Inst::new(code) }
        }
        Op::ByteSwap { kind, size, dst } => {
            let little = cfg!(target_endian = "little");
            let swap = match kind {
                ByteSwap::Swap => true,
                ByteSwap::ToBe => little,
                ByteSwap::ToLe => !little,
            };
            let code = match (swap, size) {
                (true, Size::H) => Code::Swap16,
                (true, Size::W) => Code::Swap32,
                (true, _) => Code::Swap64,
                (false, Size::H) => Code::Truncate16,
                (false, Size::W) => Code::Truncate32,
                (false, _) => return Inst { dst: dst.number(), src: dst.number(), ..Inst::new(Code::Mov64Reg) },
            };
            Inst { dst: dst.number(), ..Inst::new(code) }
        }
        Op::Load { size, signed, dst, src, offset } => {
            let [general, stack] = match (size, signed) {
                (Size::B, false) => [Code::Load8, Code::StackLoad8],
                (Size::H, false) => [Code::Load16, Code::StackLoad16],
                (Size::W, false) => [Code::Load32, Code::StackLoad32],
                (Size::DW, _) => [Code::Load64, Code::StackLoad64],
                (Size::B, true) => [Code::LoadSx8, Code::StackLoadSx8],
                (Size::H, true) => [Code::LoadSx16, Code::StackLoadSx16],
                (Size::W, true) => [Code::LoadSx32, Code::StackLoadSx32],
            };
            let code = if in_frame(src, offset, size) { stack } else { general };
            Inst { dst: dst.number(), src: src.number(), offset: offset.into(), ..Inst::new(code) }
        }
        Op::Store { size, dst, offset, src } => {
            let [reg, stack_reg, imm, stack_imm] = match size {
                Size::B => [Code::Store8Reg, Code::StackStore8Reg, Code::Store8Imm, Code::StackStore8Imm],
                Size::H => [Code::Store16Reg, Code::StackStore16Reg, Code::Store16Imm, Code::StackStore16Imm],
                Size::W => [Code::Store32Reg, Code::StackStore32Reg, Code::Store32Imm, Code::StackStore32Imm],
                Size::DW => [Code::Store64Reg, Code::StackStore64Reg, Code::Store64Imm, Code::StackStore64Imm],
            };
            let [reg, imm] = if in_frame(dst, offset, size) { [stack_reg, stack_imm] } else { [reg, imm] };
            Inst { dst: dst.number(), offset: offset.into(), ..operand(reg, imm, src) }
        }
        Op::Atomic { op, size, dst, offset, src } => {
            let code = if size == Size::DW { Code::Atomic64 } else { Code::Atomic32 };
            let (dst, src) = (dst.number(), src.number());
            Inst { dst, src, offset: offset.into(), imm: atomic_number(op), ..Inst::new(code) }
        }
        Op::LoadAcquire { size, dst, src, offset } => {
            let (dst, src) = (dst.number(), src.number());
            Inst { dst, src, offset: offset.into(), imm: bytes(size) as u64, ..Inst::new(Code::LoadAcquire) }
        }
        Op::StoreRelease { size, dst, src, offset } => {
            let (dst, src) = (dst.number(), src.number());
            Inst { dst, src, offset: offset.into(), imm: bytes(size) as u64, ..Inst::new(Code::StoreRelease) }
        }
        Op::LoadPacket { size, index, offset } => {
            // Without an index register: one that no instruction names, and that is 0.
            let src = index.map_or(NO_REGISTER, Reg::number);
            Inst { src, offset, imm: bytes(size) as u64, ..Inst::new(Code::LoadPacket) }
        }
        Op::Jump { offset, .. } => Inst { offset, ..Inst::new(Code::Jump) },
        Op::JumpIf { width, op, dst, src, offset } => {
            Inst { dst: dst.number(), offset: offset.into(), ..choose(jump(op), width, src) }
        }
        Op::MayGoto { offset } => Inst { offset: offset.into(), ..Inst::new(Code::MayGoto) },
        Op::Call(Callee::Local(offset)) => Inst { offset, ..Inst::new(Code::CallLocal) },
        Op::Call(Callee::Register(reg)) => Inst { src: reg.number(), ..Inst::new(Code::CallRegister) },
        Op::Exit => Inst::new(Code::Exit),
        Op::Call(Callee::Helper(_) | Callee::Kfunc { .. }) | Op::LoadImm64 { .. } => Inst::new(Code::Unreachable),
    }
}
