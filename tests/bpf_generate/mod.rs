//! Random programs that the kernel's verifier takes, nearly always.
//!
//! All registers and the whole frame hold numbers before the first random statement and after each; what a statement needs
//! of pointers it makes and forgets. So no statement is refused for what others did, and any can be left out.

use perfring::bpf::insn::{AluOp, AtomicOp, ByteSwap, Callee, Imm64, Insn, JmpOp, Op, Operand, Reg, Size, Width};
use perfring::record::ByteOrder;

/// Bytes of a frame that programs use.
const FRAME: i16 = 64;
/// The frame's slot behind them, for what a statement keeps for a moment.
const SPARE: i16 = -FRAME - 8;
/// Bytes of the map's value that programs use: what they are given, and work on.
pub const DATA: usize = 64;
/// Bytes of the map's value: behind the data, what a program leaves its registers and its frame in.
pub const VALUE: usize = DATA + 10 * 8 + FRAME as usize;
/// `bpf_map_lookup_elem`.
const MAP_LOOKUP_ELEM: i32 = 1;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Less than `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 32) as usize % end
    }

    fn range(&mut self, range: std::ops::Range<usize>) -> usize {
        range.start + self.below(range.len())
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }

    /// A number, often one at an edge.
    pub fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => self.pick(&[0, 1, 2, 7, 8, 31, 32, 33, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff]),
            1 => {
                self.pick(&[i64::MIN, i64::MAX, -1, -2, i32::MIN.into(), i32::MAX.into(), 0xffff_ffff, 1 << 32]) as u64
            }
            2 => self.next() & 0xff,
            3 => self.next() & 0xffff_ffff,
            4 => (self.next() as i32) as u64,
            _ => self.next(),
        }
    }

    fn imm(&mut self) -> i32 {
        self.number() as i32
    }

    fn width(&mut self) -> Width {
        self.pick(&[Width::W32, Width::W64])
    }

    fn size(&mut self) -> Size {
        self.pick(&[Size::B, Size::H, Size::W, Size::DW])
    }

    fn jmp_op(&mut self) -> JmpOp {
        use JmpOp::*;
        self.pick(&[Eq, Ne, Set, Gt, Ge, Lt, Le, Sgt, Sge, Slt, Sle])
    }
}

fn reg(number: usize) -> Reg {
    Reg::new(number as u8).expect("a register")
}

/// Whether a register becomes the old value.
fn fetches(op: AtomicOp) -> bool {
    use AtomicOp::*;
    match op {
        Add { fetch } | Or { fetch } | And { fetch } | Xor { fetch } => fetch,
        Xchg | Cmpxchg => true,
    }
}

/// A part of a program.
#[derive(Clone, Debug)]
pub enum Stmt {
    /// One after the other.
    Plain(Vec<Op>),
    /// One of two parts. `long` is how the jump over the second is encoded.
    If { width: Width, op: JmpOp, dst: Reg, src: Operand, long: bool, then: Vec<Self>, otherwise: Vec<Self> },
    /// Leaves the function if the comparison holds.
    Leave { width: Width, op: JmpOp, dst: Reg, src: Operand },
    /// So many times; the body leaves the counter alone.
    Loop { counter: Reg, times: i32, form: LoopForm, body: Vec<Self> },
    /// A call of the function of this index, after which the registers that it clobbers are set.
    Call { function: usize, after: Vec<Op> },
}

/// How a loop counts and jumps back.
#[derive(Clone, Copy, Debug)]
pub enum LoopForm {
    /// Down to 0.
    Down(Width),
    /// Up, with a comparison.
    Up(Width),
    /// Down, over a long jump back.
    Long,
    /// Down, with a `may_goto` out of it.
    May,
}

/// A function: what sets all registers and the frame, and the rest.
#[derive(Clone, Debug)]
pub struct Function {
    init: Vec<Op>,
    body: Vec<Stmt>,
    end: Vec<Op>,
}

/// A program: its functions, of which the first is run.
#[derive(Clone, Debug)]
pub struct Program {
    functions: Vec<Function>,
}

/// The most functions of a program.
const FUNCTIONS: usize = 3;

struct Generator<'a> {
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

impl Generator<'_> {
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

    fn main(&mut self) -> Function {
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
    fn sub(&mut self, frame: bool) -> Function {
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

/// The index of an operation, and of its slot.
#[derive(Clone, Copy)]
struct Place {
    op: usize,
    slot: usize,
}

/// Puts statements one behind the other.
#[derive(Default)]
struct Lower {
    ops: Vec<Op>,
    slots: usize,
    /// Jumps to the end of the function that is being put.
    leaves: Vec<Place>,
    calls: Vec<(Place, usize)>,
}

impl Lower {
    fn push(&mut self, op: Op) -> Place {
        let place = Place { op: self.ops.len(), slot: self.slots };
        self.slots += op.slots();
        self.ops.push(op);
        place
    }

    /// Makes the jump at `from` lead to this slot.
    fn lead(&mut self, from: Place, to: usize) {
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

    fn stmts(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            self.stmt(stmt);
        }
    }

    fn plain(&mut self, ops: &[Op]) {
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

impl Program {
    /// The program of this seed.
    pub fn generate(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let functions = random.pick(&[1, 1, 2, FUNCTIONS]);
        let functions = (0..functions)
            .map(|function| {
                let mut generator =
                    Generator { random: &mut random, locked: 0, function, functions, calls: 3, depth: 0 };
                if function == 0 {
                    generator.main()
                } else {
                    let frame = generator.random.one_in(2);
                    generator.sub(frame)
                }
            })
            .collect();
        Self { functions }
    }

    /// Its instructions, which name their only map by index 0.
    pub fn ops(&self) -> Vec<Op> {
        let mut lower = Lower::default();
        let mut starts = Vec::new();
        for (index, function) in self.functions.iter().enumerate() {
            // A function that nothing calls would be refused.
            if index > 0 && !self.calls_to(index) {
                starts.push(None);
                continue;
            }
            starts.push(Some(lower.slots));
            lower.plain(&function.init);
            lower.stmts(&function.body);
            let end = lower.slots;
            for leave in std::mem::take(&mut lower.leaves) {
                lower.lead(leave, end);
            }
            lower.plain(&function.end);
        }
        for (place, function) in std::mem::take(&mut lower.calls) {
            lower.lead(place, starts[function].expect("a function that is called is there"));
        }
        lower.ops
    }

    /// Whether a function that is there calls this one.
    fn calls_to(&self, index: usize) -> bool {
        fn calls(stmts: &[Stmt], index: usize) -> bool {
            stmts.iter().any(|stmt| match stmt {
                Stmt::Call { function, .. } => *function == index,
                Stmt::If { then, otherwise, .. } => calls(then, index) || calls(otherwise, index),
                Stmt::Loop { body, .. } => calls(body, index),
                Stmt::Plain(_) | Stmt::Leave { .. } => false,
            })
        }
        let mut callers = self.functions.iter().enumerate().take(index);
        callers.any(|(caller, function)| (caller == 0 || self.calls_to(caller)) && calls(&function.body, index))
    }

    /// As this program, without one of its statements each.
    pub fn smaller(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.functions.len()).flat_map(move |function| {
            (0..).map_while(move |mut index| {
                let mut program = self.clone();
                remove(&mut program.functions[function].body, &mut index).then_some(program)
            })
        })
    }
}

/// Removes the statement of this index, counted in depth; what is inside one that is removed takes its place.
fn remove(stmts: &mut Vec<Stmt>, index: &mut usize) -> bool {
    for at in 0..stmts.len() {
        if *index == 0 {
            let inside = match stmts.remove(at) {
                Stmt::If { mut then, otherwise, .. } => {
                    then.extend(otherwise);
                    then
                }
                Stmt::Loop { body, .. } => body,
                _ => Vec::new(),
            };
            stmts.splice(at..at, inside);
            return true;
        }
        *index -= 1;
        let removed = match &mut stmts[at] {
            Stmt::If { then, otherwise, .. } => remove(then, index) || remove(otherwise, index),
            Stmt::Loop { body, .. } => remove(body, index),
            _ => false,
        };
        if removed {
            return true;
        }
    }
    false
}

/// As the kernel takes them.
pub fn encode(ops: &[Op]) -> Vec<u64> {
    let slots = ops.iter().flat_map(|op| op.encode().to_vec());
    slots.map(|insn: Insn| u64::from_ne_bytes(insn.to_bytes(ByteOrder::NATIVE))).collect()
}
