//! One instruction.

use super::error::Refusal;
use super::range::Range;
use super::state::{Pointer, State, Target, Value};
use super::walk::{Next, Walk};
use crate::bpf::insn::{Imm64, Op};

impl Walk<'_> {
    pub(super) fn step(&mut self, state: &mut State, op: &Op) -> Result<Next, Refusal> {
        let pc = state.pc;
        if let Some(reason) = self.text.unresolved(pc) {
            return Err(Refusal::Unresolved { reason: reason.to_owned() });
        }
        let next = match *op {
            Op::Alu { .. } | Op::Neg { .. } | Op::Mov { .. } | Op::MovSx { .. } | Op::ByteSwap { .. } => {
                self.arithmetic(state, op)?
            }
            Op::LoadImm64 { dst, imm } => {
                let value = self.imm64(pc, imm)?;
                state.set(dst.number(), value);
                Next::On
            }
            Op::Load { size, signed, dst, src, offset } => self.load(state, (size, signed), dst, src, offset)?,
            Op::Store { size, dst, offset, src } => self.store(state, size, dst, offset, src)?,
            Op::Atomic { .. } | Op::LoadAcquire { .. } | Op::StoreRelease { .. } => self.atomic(state, op)?,
            Op::LoadPacket { size, index, .. } => return self.load_packet(state, size.bits(), index, pc),
            Op::Jump { .. } => {
                state.pc = self.target(pc)?;
                return Ok(Next::On);
            }
            Op::JumpIf { width, op, dst, src, .. } => {
                let target = self.target(pc)?;
                return self.branch(state, (op, width), dst, src, (pc + 1, target));
            }
            Op::MayGoto { .. } => {
                // What comes when there have been enough rounds is followed first: so it is known what matters behind the loop
                // when the next round begins.
                let mut round = state.clone();
                round.pc = pc + 1;
                self.later(round)?;
                state.pc = self.target(pc)?;
                return Ok(Next::On);
            }
            Op::Call(callee) => return self.call(state, callee, pc),
            Op::Exit => return self.exit(state),
        };
        state.pc = pc + op.slots();
        Ok(next)
    }

    fn target(&self, pc: usize) -> Result<usize, Refusal> {
        self.code.target(pc).ok_or(Refusal::Dead { insn: pc })
    }

    fn imm64(&self, pc: usize, imm: Imm64) -> Result<Value, Refusal> {
        Ok(match imm {
            Imm64::Value(value) => Value::known(value),
            Imm64::MapIndex(index) => Value::Pointer(Pointer::new(Target::Map(index as u32))),
            Imm64::MapIndexValue { index, offset } => {
                let target = Target::Value { map: index as u32, null: false };
                Value::Pointer(Pointer { offset: i64::from(offset), ..Pointer::new(target) })
            }
            Imm64::Function(_) => Value::Pointer(Pointer::new(Target::Function(self.target(pc)? as u32))),
            // No program with them is loaded.
            Imm64::MapFd(_) | Imm64::MapFdValue { .. } | Imm64::Variable { .. } => {
                Value::Scalar(super::state::Scalar::new(Range::UNKNOWN))
            }
        })
    }
}
