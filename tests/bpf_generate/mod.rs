//! Random programs that the kernel's verifier takes, nearly always.
//!
//! All registers and the whole frame hold numbers before the first random statement and after each; what a statement needs
//! of pointers it makes and forgets. So no statement is refused for what others did, and any can be left out.

mod generator;
mod lower;
mod random;

use generator::Generator;
use lower::Lower;
use perfring::bpf::insn::{AtomicOp, Insn, JmpOp, Op, Operand, Reg, Width};
use perfring::record::ByteOrder;
pub use random::Random;

/// Bytes of a frame that programs use.
const FRAME: i16 = 64;
/// The frame's slot behind them, for what a statement keeps for a moment.
const SPARE: i16 = -FRAME - 8;
/// Bytes of the map's value that programs use: what they are given, and work on.
pub const DATA: usize = 64;
/// Bytes of the map's value: behind the data, what a program leaves its registers and its frame in.
pub const VALUE: usize = DATA + 10 * 8 + FRAME as usize;

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

impl Program {
    /// The program of this seed.
    pub fn generate(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let functions = random.pick(&[1, 1, 2, FUNCTIONS]);
        let functions = (0..functions)
            .map(|function| {
                let mut generator = Generator::new(&mut random, function, functions);
                if function == 0 { generator.main() } else { generator.sub() }
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
