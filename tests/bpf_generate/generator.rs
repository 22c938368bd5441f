//! Random statements.

use super::{DATA, FRAME, Function, LoopForm, Random, SPARE, Stmt, fetches, reg};
use perfring::bpf::insn::{AluOp, AtomicOp, ByteSwap, Callee, Imm64, JmpOp, Op, Operand, Reg, Size, Width};

/// `bpf_map_lookup_elem`.
const MAP_LOOKUP_ELEM: i32 = 1;

pub struct Generator<'a> {
    random: &'a mut Random,
    /// Which registers count loops.
    locked: u16,
    /// The function that is being made.
    function: usize,
    functions: usize,
    /// Calls that the function may still have, so that what the verifier walks through stays small.
    calls: usize,
    depth: usize,
}

impl<'a> Generator<'a> {
    pub fn new(random: &'a mut Random, function: usize, functions: usize) -> Self {
        Self { random, locked: 0, function, functions, calls: 3, depth: 0 }
    }

    fn readable(&mut self) -> Reg {
        reg(self.random.below(10))
    }

    fn writable(&mut self) -> Reg {
        loop {
            let number = self.random.below(10);
            if self.locked >> number & 1 == 0 {
                return reg(number);
            }
        }
    }

    fn other_than(&mut self, not: &[Reg]) -> Reg {
        loop {
            let reg = self.readable();
            if !not.contains(&reg) {
                return reg;
            }
        }
    }

    fn writable_other_than(&mut self, not: &[Reg]) -> Reg {
        loop {
            let reg = self.writable();
            if !not.contains(&reg) {
                return reg;
            }
        }
    }

    fn operand(&mut self) -> Operand {
        if self.random.one_in(2) { Operand::Reg(self.readable()) } else { Operand::Imm(self.random.imm()) }
    }

    /// Makes a number of what may be a pointer.
    fn set(&mut self, dst: Reg) -> Op {
        match self.random.below(3) {
            0 => Op::LoadImm64 { dst, imm: Imm64::Value(self.random.number()) },
            _ => Op::Mov { width: self.random.width(), dst, src: Operand::Imm(self.random.imm()) },
        }
    }

    fn alu(&mut self) -> Op {
        use AluOp::*;
        let op = self.random.pick(&[Add, Sub, Mul, Div, Sdiv, Mod, Smod, Or, And, Xor, Lsh, Rsh, Arsh]);
        let (width, dst) = (self.random.width(), self.writable());
        let mut src = self.operand();
        if let Operand::Imm(imm) = &mut src {
            match op {
                // What the verifier refuses of constants.
                Div | Sdiv | Mod | Smod if *imm == 0 => *imm = self.random.pick(&[1, -1, 3, -7]),
                Lsh | Rsh | Arsh => *imm &= if width == Width::W32 { 31 } else { 63 },
                _ => {}
            }
        }
        Op::Alu { width, op, dst, src }
    }

    fn unary(&mut self) -> Op {
        let dst = self.writable();
        match self.random.below(6) {
            0 => Op::Neg { width: self.random.width(), dst },
            1 | 2 => {
                let width = self.random.width();
                let from = match width {
                    Width::W32 => self.random.pick(&[Size::B, Size::H]),
                    Width::W64 => self.random.pick(&[Size::B, Size::H, Size::W]),
                };
                Op::MovSx { width, from, dst, src: self.readable() }
            }
            3 | 4 => Op::ByteSwap {
                kind: self.random.pick(&[ByteSwap::ToLe, ByteSwap::ToBe, ByteSwap::Swap]),
                size: self.random.pick(&[Size::H, Size::W, Size::DW]),
                dst,
            },
            _ => Op::Mov { width: self.random.width(), dst, src: self.operand() },
        }
    }

    /// An access through `base`, which points to `room` bytes behind `start`, of which none but aligned ones are accessed
    /// where `aligned`. `base` is not changed, nor stored, unless it is the destination of a load and may be.
    fn access(&mut self, base: Reg, start: i16, room: i16, aligned: bool) -> Op {
        let kind = self.random.below(9);
        // Atomic operations are aligned wherever they are.
        let (size, aligned) = match kind {
            0..=4 => (self.random.size(), aligned),
            5 | 6 => (self.random.pick(&[Size::W, Size::DW]), true),
            _ => (self.random.size(), true),
        };
        let bytes = size.bytes() as i16;
        let mut offset = self.random.below((room - bytes + 1) as usize) as i16;
        if aligned {
            offset -= offset % bytes;
        }
        let offset = start + offset;
        let not = [base];
        match kind {
            0..=2 => {
                let dst = if base == Reg::R10 { self.writable() } else { self.writable_other_than(&not) };
                Op::Load { size, signed: size != Size::DW && self.random.one_in(3), dst, src: base, offset }
            }
            3 => Op::Store { size, dst: base, offset, src: Operand::Reg(self.other_than(&not)) },
            4 => Op::Store { size, dst: base, offset, src: Operand::Imm(self.random.imm()) },
            5 | 6 => {
                let fetch = self.random.one_in(2);
                use AtomicOp::*;
                let op = self.random.pick(&[Add { fetch }, Or { fetch }, And { fetch }, Xor { fetch }, Xchg, Cmpxchg]);
                if op == Cmpxchg && base == Reg::R0 {
                    return Op::Atomic { op: Xchg, size, dst: base, offset, src: self.writable_other_than(&not) };
                }
                let src =
                    if op != Cmpxchg && fetches(op) { self.writable_other_than(&not) } else { self.other_than(&not) };
                Op::Atomic { op, size, dst: base, offset, src }
            }
            7 => Op::LoadAcquire { size, dst: self.writable_other_than(&not), src: base, offset },
            _ => Op::StoreRelease { size, dst: base, offset, src: self.other_than(&not) },
        }
    }

    /// On the frame.
    fn stack(&mut self) -> Vec<Op> {
        if !self.random.one_in(4) {
            return vec![self.access(Reg::R10, -FRAME, FRAME, true)];
        }
        // Through a copy of r10, at a place that only a run knows.
        let base = self.writable();
        let index = self.writable_other_than(&[base]);
        vec![
            Op::Mov { width: Width::W64, dst: base, src: Operand::Reg(Reg::R10) },
            Op::Alu { width: Width::W64, op: AluOp::Add, dst: base, src: Operand::Imm((-FRAME).into()) },
            Op::Alu { width: Width::W64, op: AluOp::And, dst: index, src: Operand::Imm(0x18) },
            Op::Alu { width: Width::W64, op: AluOp::Add, dst: base, src: Operand::Reg(index) },
            loop {
                // The verifier refuses atomic operations at such a place.
                match self.access(base, 0, FRAME - 0x18, true) {
                    Op::Atomic { .. } => {}
                    access => break access,
                }
            },
            self.set(base),
        ]
    }

    /// On the map's value.
    fn value(&mut self) -> Vec<Op> {
        let base = self.writable();
        let data = DATA as i16;
        let start = self.random.below(DATA) as i16;
        let mut ops = vec![Op::LoadImm64 { dst: base, imm: Imm64::MapIndexValue { index: 0, offset: start as u32 } }];
        if self.random.one_in(3) {
            let index = self.writable_other_than(&[base]);
            let width = self.random.width();
            ops.extend([
                Op::Alu { width, op: AluOp::And, dst: index, src: Operand::Imm(0x18) },
                Op::Alu { width: Width::W64, op: AluOp::Add, dst: base, src: Operand::Reg(index) },
                self.access(base, -start, data - 0x18, false),
            ]);
        } else {
            ops.push(self.access(base, -start, data, false));
        }
        ops.push(self.set(base));
        ops
    }

    /// A helper's call: the map's value, or null.
    fn lookup(&mut self) -> Vec<Op> {
        if self.locked & 0x3f != 0 {
            return vec![self.alu()];
        }
        let key = if self.random.one_in(2) {
            Operand::Imm(self.random.pick(&[0, 0, 1, -1]))
        } else {
            Operand::Reg(self.readable())
        };
        let mut ops = vec![
            Op::Store { size: Size::W, dst: Reg::R10, offset: SPARE, src: key },
            Op::LoadImm64 { dst: Reg::R1, imm: Imm64::MapIndex(0) },
            Op::Mov { width: Width::W64, dst: Reg::R2, src: Operand::Reg(Reg::R10) },
            Op::Alu { width: Width::W64, op: AluOp::Add, dst: Reg::R2, src: Operand::Imm(SPARE.into()) },
            Op::Call(Callee::Helper(MAP_LOOKUP_ELEM)),
            Op::JumpIf { width: Width::W64, op: JmpOp::Eq, dst: Reg::R0, src: Operand::Imm(0), offset: 1 },
            Op::Load {
                size: Size::DW,
                signed: false,
                dst: Reg::R0,
                src: Reg::R0,
                offset: self.random.below(57) as i16,
            },
        ];
        ops.extend(self.clobbered());
        ops
    }

    /// Sets the registers that a call clobbers.
    fn clobbered(&mut self) -> Vec<Op> {
        (1..=5)
            .map(|number| {
                let dst = reg(number);
                if self.random.one_in(2) {
                    return self.set(dst);
                }
                let src = self.random.pick(&[0, 6, 7, 8, 9]);
                Op::Mov { width: self.random.width(), dst, src: Operand::Reg(reg(src)) }
            })
            .collect()
    }

    fn plain(&mut self) -> Stmt {
        Stmt::Plain(match self.random.below(20) {
            0..=6 => vec![self.alu()],
            7..=10 => vec![self.unary()],
            11..=14 => self.stack(),
            15..=17 => self.value(),
            18 => {
                let dst = self.writable();
                vec![Op::LoadImm64 { dst, imm: Imm64::Value(self.random.number()) }]
            }
            _ => self.lookup(),
        })
    }

    fn comparison(&mut self) -> (Width, JmpOp, Reg, Operand) {
        (self.random.width(), self.random.jmp_op(), self.readable(), self.operand())
    }

    fn stmt(&mut self) -> Stmt {
        if self.depth >= 3 {
            return self.plain();
        }
        match self.random.below(24) {
            0..=2 => {
                let (width, op, dst, src) = self.comparison();
                self.depth += 1;
                let then = self.stmts(1..5);
                let otherwise = if self.random.one_in(2) { self.stmts(1..4) } else { Vec::new() };
                self.depth -= 1;
                Stmt::If { width, op, dst, src, long: self.random.one_in(2), then, otherwise }
            }
            3 => {
                let (width, op, dst, src) = self.comparison();
                Stmt::Leave { width, op, dst, src }
            }
            4 if self.locked == 0 => {
                // Calls keep these.
                let counter = reg(self.random.range(6..10));
                self.locked |= 1 << counter.number();
                self.depth += 1;
                let body = self.stmts(1..4);
                self.depth -= 1;
                self.locked &= !(1 << counter.number());
                let width = self.random.width();
                let form = match self.random.below(4) {
                    0 => LoopForm::Down(width),
                    1 => LoopForm::Up(width),
                    2 => LoopForm::Long,
                    _ => LoopForm::May,
                };
                Stmt::Loop { counter, times: self.random.range(1..7) as i32, form, body }
            }
            5 if self.function + 1 < self.functions && self.calls > 0 => {
                self.calls -= 1;
                let function = self.random.range(self.function + 1..self.functions);
                Stmt::Call { function, after: self.clobbered() }
            }
            _ => self.plain(),
        }
    }

    fn stmts(&mut self, count: std::ops::Range<usize>) -> Vec<Stmt> {
        (0..self.random.range(count)).map(|_| self.stmt()).collect()
    }

    /// Sets the frame from registers that hold numbers.
    fn init_frame(&mut self) -> Vec<Op> {
        (1..=FRAME / 8)
            .map(|slot| Op::Store { size: Size::DW, dst: Reg::R10, offset: -8 * slot, src: self.operand() })
            .collect()
    }

    pub fn main(&mut self) -> Function {
        let mut init = vec![Op::LoadImm64 { dst: Reg::R0, imm: Imm64::MapIndexValue { index: 0, offset: 0 } }];
        for number in (1..10).chain([0]) {
            let dst = reg(number);
            // Numbers that the verifier does not know, and some that it does.
            init.push(if self.random.one_in(4) {
                self.set(dst)
            } else {
                let size = self.random.size();
                let offset = self.random.below(DATA - size.bytes() + 1) as i16;
                Op::Load { size, signed: size != Size::DW && self.random.one_in(2), dst, src: Reg::R0, offset }
            });
        }
        init.extend(self.init_frame());
        let body = self.stmts(5..30);
        Function { init, body, end: dump() }
    }

    /// A function that is given its caller's frame in r1, and four numbers.
    pub fn sub(&mut self) -> Function {
        let frame = self.random.one_in(2);
        let mut init = Vec::new();
        for number in [0, 6, 7, 8, 9] {
            let src = if self.random.one_in(2) {
                Operand::Imm(self.random.imm())
            } else {
                Operand::Reg(reg(self.random.range(2..6)))
            };
            init.push(Op::Mov { width: self.random.width(), dst: reg(number), src });
        }
        if frame {
            for _ in 0..self.random.range(1..4) {
                init.push(self.access(Reg::R1, 0, FRAME, true));
            }
        }
        init.push(self.set(Reg::R1));
        init.extend(self.init_frame());
        let body = self.stmts(1..10);
        Function { init, body, end: fold() }
    }
}

/// `r0 = r0 * an odd number ^ other`
fn mix(other: Reg) -> [Op; 2] {
    [
        Op::Alu { width: Width::W64, op: AluOp::Mul, dst: Reg::R0, src: Operand::Imm(0x0100_0193) },
        Op::Alu { width: Width::W64, op: AluOp::Xor, dst: Reg::R0, src: Operand::Reg(other) },
    ]
}

/// Makes one number of the registers and the frame.
fn fold() -> Vec<Op> {
    let mut ops: Vec<_> = (1..10).flat_map(|number| mix(reg(number))).collect();
    for slot in 1..=FRAME / 8 {
        ops.push(Op::Load { size: Size::DW, signed: false, dst: Reg::R1, src: Reg::R10, offset: -8 * slot });
        ops.extend(mix(Reg::R1));
    }
    ops.push(Op::Exit);
    ops
}

/// Stores the registers and the frame in the map's value, and makes one number of them.
fn dump() -> Vec<Op> {
    let at = |index: i16| DATA as i16 + 8 * index;
    let store = |src, offset| Op::Store { size: Size::DW, dst: Reg::R1, offset, src: Operand::Reg(src) };
    let load = |offset| Op::Load { size: Size::DW, signed: false, dst: Reg::R2, src: Reg::R10, offset };
    let mut ops = vec![
        Op::Store { size: Size::DW, dst: Reg::R10, offset: SPARE, src: Operand::Reg(Reg::R1) },
        Op::LoadImm64 { dst: Reg::R1, imm: Imm64::MapIndexValue { index: 0, offset: 0 } },
        store(Reg::R0, at(0)),
    ];
    for number in 2..10 {
        ops.push(store(reg(number), at(number as i16)));
        ops.extend(mix(reg(number)));
    }
    ops.extend([load(SPARE), store(Reg::R2, at(1))]);
    ops.extend(mix(Reg::R2));
    for slot in 0..FRAME / 8 {
        ops.extend([load(-8 * (slot + 1)), store(Reg::R2, at(10 + slot))]);
        ops.extend(mix(Reg::R2));
    }
    ops.push(Op::Exit);
    ops
}
