//! Random programs, in the kernel and in the interpreter: they return the same, and leave the same memory, registers and
//! frame.
//!
//! Each program runs on a few inputs. `PERFRING_BPF_PROGRAMS` is how many programs there are, `PERFRING_BPF_SEED` the seed of
//! the first; a million takes about ten minutes:
//!
//!     PERFRING_BPF_PROGRAMS=1000000 cargo test --release --test bpf_differential -- --nocapture
//!
//! A program that does something else in the two is made smaller before it is shown.
#![cfg(feature = "bpf")]

mod bpf_generate;
mod bpf_kernel;
mod common;

use bpf_generate::{DATA, Program, Random, VALUE, encode};
use bpf_kernel::{Input, Refused, map_type, prog_type, require_bpf};
use common::skip;
use perfring::bpf::insn::{ByteSwap, Op, Operand, Reg, Size};
use perfring::bpf::map::{Map, MapDef, UpdateFlags};
use perfring::bpf::{Context, Machine, ProgramType};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

const PROGRAMS: u64 = 8000;
const INPUTS: usize = 3;
/// Bytes in a `struct __sk_buff`.
const SK_BUFF: usize = 192;

/// What a program leaves: what it returns, and the map's value.
type Left = (u32, Vec<u8>);

/// What the map's value is before the runs.
fn inputs(seed: u64) -> Vec<Vec<u8>> {
    let mut random = Random::new(!seed);
    let mut input = || -> Vec<u8> {
        let words = (0..DATA / 8).flat_map(|_| random.number().to_ne_bytes());
        words.chain(std::iter::repeat_n(0, VALUE - DATA)).collect()
    };
    (0..INPUTS).map(|_| input()).collect()
}

struct Kernel {
    map: bpf_kernel::Map,
}

impl Kernel {
    /// None where it knows fewer instructions.
    fn new() -> Option<Self> {
        let newest = [
            Op::Store { size: Size::DW, dst: Reg::R10, offset: -8, src: Operand::Imm(1) },
            Op::MayGoto { offset: 0 },
            Op::LoadAcquire { size: Size::DW, dst: Reg::R0, src: Reg::R10, offset: -8 },
            Op::ByteSwap { kind: ByteSwap::Swap, size: Size::DW, dst: Reg::R0 },
            Op::Exit,
        ];
        if let Err(refused) = bpf_kernel::Program::load(prog_type::SOCKET_FILTER, &encode(&newest), &[]) {
            skip(format_args!("a kernel before 6.15, or with an interpreter: {}", reason(&refused)));
            return None;
        }
        let map = bpf_kernel::Map::create(bpf_kernel::Def {
            map_type: map_type::ARRAY,
            key_size: 4,
            value_size: VALUE as u32,
            max_entries: 1,
            flags: 0,
        });
        Some(Self { map: map.expect("a map") })
    }

    fn run(&self, ops: &[Op], inputs: &[Vec<u8>]) -> Result<Vec<Left>, Refused> {
        let program = bpf_kernel::Program::load(prog_type::SOCKET_FILTER, &encode(ops), &[&self.map])?;
        let packet = Input { data: vec![0; 64], ..Input::default() };
        let run = |input: &Vec<u8>| {
            self.map.update(&[0; 4], input, 0).expect("an update");
            let output = program.test_run(&packet).expect("a run");
            (output.retval, self.map.lookup(&[0; 4], 0).expect("the value"))
        };
        Ok(inputs.iter().map(run).collect())
    }
}

struct Interpreter {
    machine: Machine,
    map: Map,
}

impl Interpreter {
    fn new() -> Self {
        Self { machine: Machine::new(1), map: Map::new(&MapDef::array("value", VALUE as u32, 1), 1).expect("a map") }
    }

    fn run(&self, ops: &[Op], inputs: &[Vec<u8>]) -> Vec<Left> {
        let insns = ops.iter().flat_map(|op| op.encode().to_vec()).collect();
        let program = perfring::bpf::Program::builder("random", ProgramType::socket_filter())
            .maps([self.map.clone()])
            .license("GPL")
            .load(insns)
            .expect("what the verifier takes is sound");
        let run = |input: &Vec<u8>| {
            self.map.update(&[0; 4], input, UpdateFlags::Any).expect("an update");
            let r0 = self.machine.run(&program, Context::new(&mut [0; SK_BUFF]));
            let r0 = r0.expect("what the verifier takes is not stopped");
            (r0 as u32, self.map.lookup(&[0; 4]).expect("a lookup").expect("the value"))
        };
        inputs.iter().map(run).collect()
    }
}

/// All that tells two instructions from each other, but operands.
type Kind = (u8, u8, i16, i32);

/// The kind of an instruction, and in a long list of programs how many kinds there are: 52 of two operands, 2 negations, 9
/// moves, 9 of the order of bytes, 3 of 64-bit immediates, 7 loads, 8 stores, 28 atomic ones, 2 jumps and 44 that depend,
/// may_goto, 2 calls, and exit.
const KINDS: usize = 168;

fn kind(op: &Op) -> Kind {
    let insn = op.encode()[0];
    match op {
        Op::LoadImm64 { .. } | Op::Call(_) => (insn.opcode, insn.src, 0, 0),
        Op::Alu { .. } | Op::MovSx { .. } => (insn.opcode, 0, insn.offset, 0),
        Op::ByteSwap { .. } | Op::Atomic { .. } | Op::LoadAcquire { .. } | Op::StoreRelease { .. } => {
            (insn.opcode, 0, 0, insn.imm)
        }
        _ => (insn.opcode, 0, 0, 0),
    }
}

#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    instructions: usize,
    kinds: BTreeSet<Kind>,
    /// Why others were refused.
    refused: BTreeMap<String, u64>,
}

/// What the verifier says last, without numbers.
fn reason(refused: &Refused) -> String {
    let line = refused.log.lines().rev().find(|line| !line.starts_with("processed ") && !line.is_empty());
    let words = line.unwrap_or_default().replace(|char: char| char.is_ascii_digit(), "#");
    format!("{:?}: {words}", refused.errno)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect(name))
}

/// Leaves out what it can of a program, so that kernel and interpreter still do not do the same.
fn shrink(mut program: Program, differs: impl Fn(&Program) -> bool) -> Program {
    loop {
        let smaller = program.smaller().find(&differs);
        match smaller {
            Some(smaller) => program = smaller,
            None => return program,
        }
    }
}

/// Shows what a program does in the two.
fn show(program: &Program, kernel: &Kernel, interpreter: &Interpreter, inputs: &[Vec<u8>]) -> String {
    let ops = program.ops();
    let mut text = String::new();
    let mut slot = 0;
    for op in &ops {
        text += &format!("{slot:4}: {op:?}\n");
        slot += op.slots();
    }
    let lefts = kernel.run(&ops, inputs).expect("it was taken before").into_iter().zip(interpreter.run(&ops, inputs));
    for (input, (kernel, interpreter)) in
        inputs.iter().zip(lefts).filter(|(_, (kernel, interpreter))| kernel != interpreter)
    {
        text += &format!("from {:x?}\nr0: {:#x} and {:#x}\n", &input[..DATA], kernel.0, interpreter.0);
        let words = |bytes: &[u8]| -> Vec<u64> {
            bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
        };
        for (index, (kernel, interpreter)) in words(&kernel.1).into_iter().zip(words(&interpreter.1)).enumerate() {
            let what = match index.checked_sub(DATA / 8) {
                None => format!("byte {} of the map", 8 * index),
                Some(register @ 0..=9) => format!("r{register}"),
                Some(slot) => format!("fp-{}", 8 * (slot - 9)),
            };
            if kernel != interpreter {
                text += &format!("{what}: {kernel:#x} and {interpreter:#x}\n");
            }
        }
    }
    text
}

#[test]
fn random_programs_do_the_same_in_the_kernel() {
    if !require_bpf() {
        return;
    }
    let Some(kernel) = Kernel::new() else { return };
    let programs = number("PERFRING_BPF_PROGRAMS").unwrap_or(PROGRAMS);
    let first = number("PERFRING_BPF_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos())) << 32
    });
    let mut tally = Tally::default();
    let interpreter = Interpreter::new();
    for seed in first..first + programs {
        let program = Program::generate(seed);
        let ops = program.ops();
        let inputs = inputs(seed);
        let left = match kernel.run(&ops, &inputs) {
            Ok(left) => left,
            Err(refused) => {
                *tally.refused.entry(reason(&refused)).or_default() += 1;
                continue;
            }
        };
        tally.accepted += 1;
        tally.instructions += ops.len();
        tally.kinds.extend(ops.iter().map(kind));
        if interpreter.run(&ops, &inputs) != left {
            let differs = |program: &Program| {
                let ops = program.ops();
                kernel.run(&ops, &inputs).is_ok_and(|left| interpreter.run(&ops, &inputs) != left)
            };
            let program = shrink(program, differs);
            panic!(
                "again with PERFRING_BPF_SEED={seed} PERFRING_BPF_PROGRAMS=1\n{}",
                show(&program, &kernel, &interpreter, &inputs)
            );
        }
    }
    let Tally { accepted, instructions, kinds, refused } = tally;
    println!("{accepted} programs of {instructions} instructions of {} kinds; others: {refused:?}", kinds.len());
    assert!(accepted * 100 >= programs * 80, "the verifier refuses too much: {refused:?}");
    if programs >= 1000 {
        assert_eq!(kinds.len(), KINDS, "{kinds:x?}");
    }
}
