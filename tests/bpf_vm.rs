//! Programs that run: every instruction, every trap, tail calls, reservations.

use perfring::bpf::insn::{AluOp, AtomicOp, ByteSwap, Callee, Imm64, Insn, JmpOp, Op, Operand, Reg, Size, Width};
use perfring::bpf::{Context, HelperId, Machine, Program, ProgramType, RunError, TrapKind};

fn encode(ops: &[Op]) -> Vec<Insn> {
    ops.iter().flat_map(|op| op.encode().to_vec()).collect()
}

fn run_on(ops: &[Op], memory: &mut [u8]) -> Result<u64, RunError> {
    let program = Program::builder("test", ProgramType::memory()).load(encode(ops)).unwrap();
    Machine::new(1).run(&program, Context::new(memory))
}

fn run(ops: &[Op]) -> u64 {
    run_on(ops, &mut []).unwrap()
}

fn mov(dst: Reg, value: i32) -> Op {
    Op::Mov { width: Width::W64, dst, src: Operand::Imm(value) }
}

fn load64(dst: Reg, value: u64) -> Op {
    Op::LoadImm64 { dst, imm: Imm64::Value(value) }
}

#[test]
fn smoke() {
    assert_eq!(run(&[mov(Reg::R0, 7), Op::Exit]), 7);
    let add = Op::Alu { width: Width::W64, op: AluOp::Add, dst: Reg::R0, src: Operand::Imm(-8) };
    assert_eq!(run(&[mov(Reg::R0, 7), add, Op::Exit]), u64::MAX);
}
