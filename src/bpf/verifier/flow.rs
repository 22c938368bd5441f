//! What can be told of a program without following it: where paths meet, and which registers are read later.

use crate::bpf::helper::{Arg, HelperId, Helpers};
use crate::bpf::insn::{AtomicOp, Callee, Code, Op, Operand, Reg};

/// Registers, by the bits of their numbers.
pub(super) type Regs = u16;

const fn bit(reg: Reg) -> Regs {
    1 << reg.number()
}

/// `r0` to `r5`, which calls do not keep.
const CALLER_SAVED: Regs = 0b11_1111;
/// `r1` to `r5`
const ARGUMENTS: Regs = 0b11_1110;

#[derive(Debug)]
pub(super) struct Flow {
    /// By slot: the registers of which the value before the instruction may be read, by it or later.
    live: Box<[Regs]>,
    /// By slot: whether states are remembered there.
    meets: Box<[bool]>,
}

impl Flow {
    pub(super) fn new(code: &Code, helpers: &Helpers) -> Self {
        Self { live: live(code, helpers), meets: meets(code) }
    }

    pub(super) fn live(&self, at: usize) -> Regs {
        self.live[at]
    }

    pub(super) fn is_meeting(&self, at: usize) -> bool {
        self.meets[at]
    }
}

/// Where the program may go on in the same function, behind the instruction or where it jumps.
fn successors(code: &Code, at: usize, op: &Op) -> [Option<usize>; 2] {
    let behind = Some(at + op.slots()).filter(|_| !matches!(op, Op::Exit | Op::Jump { .. }));
    [behind, op.jump().and_then(|_| code.target(at))]
}

/// Where two paths come together, and where a path goes on after a call: functions have many ends.
fn meets(code: &Code) -> Box<[bool]> {
    let mut from = vec![0_u8; code.len() + 1];
    for (at, op) in code.iter() {
        let [behind, target] = successors(code, at, op);
        if let Some(behind) = behind {
            from[behind] = from[behind].saturating_add(1);
        }
        if let Some(target) = target {
            // What is jumped back to is a loop, even where nothing else leads there.
            from[target] = from[target].saturating_add(if target <= at { 2 } else { 1 });
        }
        if matches!(op, Op::Call(Callee::Local(_)) | Op::LoadPacket { .. }) {
            from[at + 1] = 2;
        }
        if matches!(op, Op::MayGoto { .. }) {
            from[at] = 2;
        }
    }
    from[..code.len()].iter().map(|count| *count > 1).collect()
}

/// What an instruction reads, and what it overwrites.
fn effect(op: &Op, helpers: &Helpers) -> (Regs, Regs) {
    let operand = |src: Operand| if let Operand::Reg(reg) = src { bit(reg) } else { 0 };
    match *op {
        Op::Alu { dst, src, .. } => (bit(dst) | operand(src), bit(dst)),
        Op::Neg { dst, .. } | Op::ByteSwap { dst, .. } => (bit(dst), bit(dst)),
        Op::Mov { dst, src, .. } => (operand(src), bit(dst)),
        Op::MovSx { dst, src, .. } => (bit(src), bit(dst)),
        Op::LoadImm64 { dst, .. } => (0, bit(dst)),
        Op::Load { dst, src, .. } | Op::LoadAcquire { dst, src, .. } => (bit(src), bit(dst)),
        Op::Store { dst, src, .. } => (bit(dst) | operand(src), 0),
        Op::StoreRelease { dst, src, .. } => (bit(dst) | bit(src), 0),
        Op::Atomic { op, dst, src, .. } => match op {
            AtomicOp::Cmpxchg => (bit(dst) | bit(src) | bit(Reg::R0), bit(Reg::R0)),
            AtomicOp::Xchg
            | AtomicOp::Add { fetch: true }
            | AtomicOp::Or { fetch: true }
            | AtomicOp::And { fetch: true }
            | AtomicOp::Xor { fetch: true } => (bit(dst) | bit(src), bit(src)),
            _ => (bit(dst) | bit(src), 0),
        },
        Op::LoadPacket { index, .. } => (bit(Reg::R6) | index.map_or(0, bit), CALLER_SAVED),
        Op::JumpIf { dst, src, .. } => (bit(dst) | operand(src), 0),
        Op::Jump { .. } | Op::MayGoto { .. } => (0, 0),
        Op::Call(Callee::Helper(id)) => {
            let count = helpers
                .prototype(HelperId(id))
                .map_or(5, |prototype| prototype.args.iter().take_while(|arg| **arg != Arg::None).count());
            (ARGUMENTS & ((1 << (count + 1)) - 1), CALLER_SAVED)
        }
        // What a function reads of its arguments is as good as all.
        Op::Call(Callee::Local(_) | Callee::Kfunc { .. }) => (ARGUMENTS, CALLER_SAVED),
        Op::Call(Callee::Register(reg)) => (ARGUMENTS | bit(reg), CALLER_SAVED),
        Op::Exit => (bit(Reg::R0), 0),
    }
}

fn live(code: &Code, helpers: &Helpers) -> Box<[Regs]> {
    // Who goes on at each slot, one list behind the other.
    let mut starts = vec![0_u32; code.len() + 2];
    let edges =
        || code.iter().flat_map(|(at, op)| successors(code, at, op).into_iter().flatten().map(move |to| (at, to)));
    for (_, to) in edges() {
        starts[to + 2] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut before = vec![0_u32; starts[code.len() + 1] as usize];
    for (at, to) in edges() {
        before[starts[to + 1] as usize] = at as u32;
        starts[to + 1] += 1;
    }
    // A register comes to be live at a slot once, so each edge is gone over at most as often as there are registers.
    let mut live = vec![0; code.len()].into_boxed_slice();
    let mut pending: Vec<usize> = code.iter().map(|(at, _)| at).collect();
    while let Some(at) = pending.pop() {
        let Some(op) = code.op(at) else { continue };
        let later = successors(code, at, op).into_iter().flatten().fold(0, |later, next| later | live[next]);
        let (reads, writes) = effect(op, helpers);
        let now = (later & !writes) | reads;
        if now != live[at] {
            live[at] = now;
            pending.extend(before[starts[at] as usize..starts[at + 1] as usize].iter().map(|at| *at as usize));
        }
    }
    live
}
