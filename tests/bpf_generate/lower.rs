//! From statements to instructions.

use super::{FRAME, LoopForm, SPARE, Stmt, fetches};
use perfring::bpf::insn::{AluOp, AtomicOp, Callee, JmpOp, Op, Operand, Reg, Size, Width};

/// The index of an operation, and of its slot.
#[derive(Clone, Copy)]
pub struct Place {
    op: usize,
    slot: usize,
}

/// Puts statements one behind the other.
#[derive(Default)]
pub struct Lower {
    pub ops: Vec<Op>,
    pub slots: usize,
    /// Jumps to the end of the function that is being put.
    pub leaves: Vec<Place>,
    pub calls: Vec<(Place, usize)>,
}

impl Lower {
    fn push(&mut self, op: Op) -> Place {
        let place = Place { op: self.ops.len(), slot: self.slots };
        self.slots += op.slots();
        self.ops.push(op);
        place
    }

    /// Makes the jump at `from` lead to this slot.
    pub fn lead(&mut self, from: Place, to: usize) {
        let distance = to as i64 - from.slot as i64 - 1;
        match &mut self.ops[from.op] {
            Op::Jump { offset, .. } => *offset = distance as i32,
            Op::JumpIf { offset, .. } | Op::MayGoto { offset } => {
                *offset = distance.try_into().expect("a short program")
            }
            Op::Call(Callee::Local(offset)) => *offset = distance as i32,
            other => unreachable!("{other:?}"),
        }
    }

    pub fn stmts(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            self.stmt(stmt);
        }
    }

    pub fn plain(&mut self, ops: &[Op]) {
        for &op in ops {
            self.push(op);
            match op {
                // Two things of Linux 6.18's verifier. It goes back over an atomic operation as if that left the register, so
                // that what depends on the old value is no reason to walk a path with another one: jumps are removed that
                // are taken. And the upper half of r0 is cleared only where it sees a use, not where it need not walk again
                // the path that has one. So all of the old value is used, and forgotten: that a slot holds what it held when
                // one of its bytes is stored again is not known to the verifier.
                Op::Atomic { op, src, .. } if fetches(op) => {
                    let old = if op == AtomicOp::Cmpxchg { Reg::R0 } else { src };
                    let store = |size, offset| Op::Store { size, dst: Reg::R10, offset, src: Operand::Reg(old) };
                    self.push(store(Size::DW, SPARE));
                    self.push(Op::Alu { width: Width::W64, op: AluOp::Rsh, dst: old, src: Operand::Imm(56) });
                    self.push(store(Size::B, SPARE + 7));
                    let load = Op::Load { size: Size::DW, signed: false, dst: old, src: Reg::R10, offset: SPARE };
                    self.push(load);
                }
                // Where a register was stored in the frame, Linux 6.18 takes what is loaded with its sign for the same
                // number, and removes jumps that depend on the one as if they did on the other. This tells them apart.
                Op::Load { signed: true, dst, .. } => {
                    self.push(Op::Alu { width: Width::W64, op: AluOp::Or, dst, src: Operand::Imm(0) });
                }
                _ => {}
            }
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Plain(ops) => self.plain(ops),
            &Stmt::Leave { width, op, dst, src } => {
                let place = self.push(Op::JumpIf { width, op, dst, src, offset: 0 });
                self.leaves.push(place);
            }
            Stmt::If { width, op, dst, src, long, then, otherwise } => {
                let over = self.push(Op::JumpIf { width: *width, op: *op, dst: *dst, src: *src, offset: 0 });
                self.stmts(then);
                if otherwise.is_empty() {
                    return self.lead(over, self.slots);
                }
                let skip = self.push(Op::Jump { offset: 0, long: *long });
                self.lead(over, self.slots);
                self.stmts(otherwise);
                self.lead(skip, self.slots);
            }
            Stmt::Call { function, after } => {
                // The callee may take the frame's address.
                self.push(Op::Mov { width: Width::W64, dst: Reg::R1, src: Operand::Reg(Reg::R10) });
                let add =
                    Op::Alu { width: Width::W64, op: AluOp::Add, dst: Reg::R1, src: Operand::Imm((-FRAME).into()) };
                self.push(add);
                let place = self.push(Op::Call(Callee::Local(0)));
                self.calls.push((place, *function));
                self.plain(after);
            }
            Stmt::Loop { counter, times, form, body } => self.repeat(*counter, *times, *form, body),
        }
    }

    fn repeat(&mut self, counter: Reg, times: i32, form: LoopForm, body: &[Stmt]) {
        let (first, step) = if let LoopForm::Up(_) = form { (0, 1) } else { (times, -1) };
        let width = if let LoopForm::Up(width) | LoopForm::Down(width) = form { width } else { Width::W64 };
        self.push(Op::Mov { width, dst: counter, src: Operand::Imm(first) });
        let top = self.slots;
        let out = matches!(form, LoopForm::May).then(|| self.push(Op::MayGoto { offset: 0 }));
        self.stmts(body);
        self.push(Op::Alu { width, op: AluOp::Add, dst: counter, src: Operand::Imm(step) });
        let jump = |op, limit| Op::JumpIf { width, op, dst: counter, src: Operand::Imm(limit), offset: 0 };
        let back = match form {
            LoopForm::Up(_) => self.push(jump(JmpOp::Lt, times)),
            LoopForm::Down(_) | LoopForm::May => self.push(jump(JmpOp::Ne, 0)),
            LoopForm::Long => {
                let done = self.push(jump(JmpOp::Eq, 0));
                let back = self.push(Op::Jump { offset: 0, long: true });
                self.lead(done, self.slots);
                back
            }
        };
        self.lead(back, top);
        if let Some(out) = out {
            self.lead(out, self.slots);
        }
    }
}
