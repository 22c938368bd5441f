//! Programs that run unchecked, on the strength of facts that are made here.

#![allow(unsafe_code)]

use super::MAX_FRAMES;
use crate::bpf::helper::{Arg, HelperId, Helpers, Prototype};
use crate::bpf::insn::assemble_with;
use crate::bpf::machine::{Context, Machine, RunError};
use crate::bpf::map::{Map, MapDef, MapFlags, UpdateFlags};
use crate::bpf::program::Program;
use crate::bpf::program_type::{ContextLayout, Field, Pointer, ProgramType};
use crate::bpf::proof::Facts;
use crate::bpf::vm::TrapKind;

/// Of programs under test a helper that gives its argument is number 1000, and one that writes nothing of what it may 1001.
fn helpers() -> Helpers {
    let mut helpers = Helpers::standard().clone();
    helpers.register(HelperId(1000), Prototype::new("same", &[Arg::Any]), |call| call.arg(0)).unwrap();
    let lazy = Prototype::new("lazy", &[Arg::UninitMemory, Arg::Size]);
    helpers.register(HelperId(1001), lazy, |_| 0).unwrap();
    helpers
}

fn load(type_: &ProgramType, maps: &[&Map], text: &str) -> Program {
    let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
    let insns = assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let maps = maps.iter().map(|map| (*map).clone());
    Program::builder("test", type_).maps(maps).helpers(&helpers()).license("GPL").load(insns).unwrap()
}

/// What is so of the programs here, unless they say otherwise: all of it is reached, with `frames` at once.
fn facts(program: &Program, frames: usize) -> Facts {
    Facts { reached: vec![true; program.code().len()].into(), frames, ..Facts::default() }
}

fn verified_with(program: &Program, facts: &Facts) -> Program {
    // SAFETY: the programs of these tests do what the contract says, and the facts are those of them; where they are not, it
    // is a test of what is looked at nevertheless.
    let verified = unsafe { program.with_proof(facts) };
    assert!(verified.is_verified() && !program.is_verified());
    verified
}

fn verified(program: &Program) -> Program {
    verified_with(program, &facts(program, 1))
}

fn run(program: &Program, context: &mut [u8]) -> Result<u64, RunError> {
    Machine::new(1).run(program, Context::new(context))
}

fn prog_array(owner: &ProgramType) -> Map {
    Map::prog_array(&MapDef::prog_array("programs", 4), owner).unwrap()
}

#[track_caller]
fn trap(result: Result<u64, RunError>) -> (String, usize, TrapKind) {
    match result {
        Err(RunError::Trap(trap)) => (trap.program, trap.insn, trap.kind),
        other => panic!("{other:?}"),
    }
}

/// Leaves 1000 in the last word of the first frame and of the second.
const MARK: &str = "*(u64 *)(r10 -8) = 1000\ncall f\nr0 = 0\nexit\nf:\n*(u64 *)(r10 -8) = 1000\nr0 = 0\nexit";

#[test]
fn nothing_is_tested_and_frames_stay_as_they_are() {
    let machine = Machine::new(1);
    let run = |program: &Program| machine.run(program, Context::new(&mut []));
    let mark = load(ProgramType::memory(), &[], MARK);
    // Not what a verifier accepts; but of the frame, so that it does no harm.
    let stale = load(ProgramType::memory(), &[], "r0 = *(u64 *)(r10 -8)\nr0 += 4\nexit");
    assert_eq!(run(&mark), Ok(0));
    assert_eq!(run(&stale), Ok(4));
    assert_eq!(run(&mark), Ok(0));
    assert_eq!(run(&verified(&stale)), Ok(1004));
}

#[test]
fn frames_are_made_zero_where_something_may_show_what_they_held() {
    let machine = Machine::new(1);
    let run = |program: &Program| machine.run(program, Context::new(&mut []));
    let memory = ProgramType::memory();
    let array = prog_array(memory);
    let mark = load(memory, &[], MARK);
    // A helper that writes nothing of what it may write: behind it all counts as stored.
    let lazy = "r1 = r10\nr1 += -8\nr2 = 8\ncall 1001\nr0 = *(u64 *)(r10 -8)\nr0 += 4\nexit";
    // Of a text it stores as much as there is; a text that can't be read is all zero.
    let text =
        "r1 = r10\nr1 += -16\nr2 = 8\nr3 = 8\ncall bpf_probe_read_kernel_str\nr0 = *(u64 *)(r10 -8)\nr0 += 4\nexit";
    // In a function that is called, too.
    let called = "call f\nexit\nf:\nr1 = r10\nr1 += -8\nr2 = 8\ncall 1001\nr0 = *(u64 *)(r10 -8)\nr0 += 4\nexit";
    for (text, frames) in [(lazy, 1), (text, 1), (called, 2)] {
        let program = load(memory, &[], text);
        for program in [program.clone(), verified_with(&program, &facts(&program, frames))] {
            assert_eq!(run(&mark), Ok(0));
            assert_eq!(run(&program), Ok(4), "{text}");
        }
    }
    // The caller's frame is above that of a program that its function calls; neither names its own.
    array.set_program(0, Some(&load(memory, &[], "r0 = *(u64 *)(r10 +504)\nr0 += 4\nexit"))).unwrap();
    let caller =
        load(memory, &[&array], "call f\nexit\nf:\nr2 = map[idx:0] ll\nr3 = 0\ncall bpf_tail_call\nr0 = 9\nexit");
    for program in [caller.clone(), verified_with(&caller, &facts(&caller, 2))] {
        assert_eq!(run(&mark), Ok(0));
        assert_eq!(run(&program), Ok(4));
    }
}

#[test]
fn addresses_in_the_context() {
    let fields = [
        Field::read_only("number", 0, 4, 1),
        Field::pointer("data", 4, 4, Pointer::Packet),
        Field::pointer("data_end", 8, 4, Pointer::PacketEnd),
        Field::pointer("buf", 16, 8, Pointer::Buffer(7)),
        Field::pointer("buf_end", 24, 8, Pointer::BufferEnd(7)),
    ];
    let type_ = ProgramType::builder("fields", ContextLayout::fields(32, fields).unwrap()).all_helpers().build();
    let text = "
        r2 = *(u32 *)(r1 +4)
        r3 = *(u32 *)(r1 +8)
        r4 = *(u64 *)(r1 +16)
        r5 = *(u64 *)(r1 +24)
        r0 = *(u32 *)(r1 +0)
        r3 -= r2
        r0 += r3
        r0 += r4
        r0 += r5
        r2 = *(u8 *)(r2 +2)
        r0 += r2
        exit";
    let program = load(&type_, &[], text);
    let pointers = [Pointer::Packet, Pointer::PacketEnd, Pointer::Buffer(7), Pointer::BufferEnd(7)];
    let facts = Facts { pointers: (0..).zip(pointers).collect(), ..facts(&program, 1) };
    let mut context = [0xff; 32];
    context[..4].copy_from_slice(&1000_u32.to_ne_bytes());
    for program in [program.clone(), verified_with(&program, &facts)] {
        let result = Machine::new(1).run(&program, Context::new(&mut context).packet(&mut [1, 2, 30]));
        assert_eq!(result, Ok(1000 + 3 + 30));
    }
    for (wrong, pointer) in [(4, Pointer::Packet), (0, Pointer::Buffer(8)), (5, Pointer::Packet), (9, Pointer::Packet)]
    {
        let mut facts = facts.clone();
        facts.pointers.insert(wrong, pointer);
        let proof = verified_with(&program, &facts);
        let code = proof.0.proof.as_ref().unwrap().fast[wrong].code;
        // A load of 4 bytes may be one; which field it is of the verifier alone knows.
        assert_eq!(code == super::Code::Unreachable, wrong != 4, "{wrong}");
    }
}

#[test]
#[should_panic(expected = "proved not to be reached")]
fn what_was_not_reached_is_not_run() {
    let program = load(ProgramType::memory(), &[], "if r2 == 0 goto out\nr0 = 1\nexit\nout:\nr0 = 2\nexit");
    let mut facts = facts(&program, 1);
    facts.reached[1] = false;
    let verified = verified_with(&program, &facts);
    assert_eq!(run(&verified, &mut []), Ok(2));
    let _ = run(&verified, &mut [0]);
}

#[test]
#[should_panic(expected = "proved not to be reached")]
fn facts_of_another_program_prove_nothing() {
    let program = load(ProgramType::memory(), &[], "r0 = 1\nexit");
    let _ = run(&verified_with(&program, &Facts::default()), &mut []);
}

#[test]
fn contexts_have_to_be_long_enough() {
    let memory = ProgramType::memory();
    let program = load(memory, &[], "r0 = *(u32 *)(r1 +12)\nexit");
    let verified = verified_with(&program, &Facts { context_len: 16, ..facts(&program, 1) });
    let short = RunError::ContextShort { size: 15, needed: 16 };
    assert_eq!(short.to_string(), "a context of 15 bytes, of which the program needs 16");
    assert_eq!(run(&verified, &mut [0; 15]), Err(short));
    assert_eq!(run(&verified, &mut [1; 16]), Ok(0x0101_0101));
    assert!(matches!(run(&program, &mut [0; 15]), Err(RunError::Trap(_))));
    // Called, it is as if its slot were empty, whatever calls it.
    let array = prog_array(memory);
    array.set_program(0, Some(&verified)).unwrap();
    let call = load(memory, &[&array], "r2 = map[idx:0] ll\nr3 = 0\ncall bpf_tail_call\nexit");
    for call in [call.clone(), self::verified(&call)] {
        assert_eq!(run(&call, &mut [0; 15]), Ok(-i64::from(libc::EINVAL) as u64));
        assert_eq!(run(&call, &mut [2; 16]), Ok(0x0202_0202));
    }
}

#[test]
fn frames_have_to_be_left() {
    let memory = ProgramType::memory();
    let array = prog_array(memory);
    // Itself and 6 functions, one in the other.
    let deep: String = (0..6).map(|at| format!("call f{at}\nexit\nf{at}:\n")).collect::<String>() + "r0 = 7\nexit";
    let deep = load(memory, &[], &deep);
    array.set_program(0, Some(&verified_with(&deep, &facts(&deep, 7)))).unwrap();
    array.set_program(1, Some(&deep)).unwrap();
    for (before, index, expected) in [(0, 0, Some(7)), (1, 0, Some(7)), (2, 0, None), (2, 1, Some(0))] {
        let calls: String = (0..before).map(|at| format!("call f{at}\nexit\nf{at}:\n")).collect();
        let text = format!("{calls}r2 = map[idx:0] ll\nr3 = {index}\ncall bpf_tail_call\nexit");
        let caller = load(memory, &[&array], &text);
        for caller in [caller.clone(), verified_with(&caller, &facts(&caller, before + 1))] {
            let result = run(&caller, &mut []);
            match expected {
                // What is not verified goes as far as it comes.
                Some(0) => assert_eq!(trap(result), ("test".to_owned(), 10, TrapKind::CallDepth)),
                Some(_) => assert_eq!(result, Ok(7), "{before} {index}"),
                None => assert_eq!(result, Ok(-i64::from(libc::E2BIG) as u64), "{before} {index}"),
            }
        }
    }
    // Whatever the facts say.
    let recursive = load(memory, &[], "call f\nexit\nf:\ncall f\nexit");
    let result = run(&verified_with(&recursive, &facts(&recursive, MAX_FRAMES)), &mut []);
    assert_eq!(trap(result).2, TrapKind::CallDepth);
}

#[test]
fn behind_a_program_that_is_not_verified_all_is_tested() {
    let memory = ProgramType::memory();
    let array = prog_array(memory);
    // It stores in the frame of the caller of the function that calls it: an address of nothing.
    array.set_program(0, Some(&load(memory, &[], "r1 = 64\n*(u64 *)(r10 +504) = r1\nr0 = r6\nexit"))).unwrap();
    let text = "
        *(u64 *)(r10 -16) = 5
        r6 = r10
        r6 += -16
        *(u64 *)(r10 -8) = r6
        r6 = 3
        call f
        r1 = *(u64 *)(r10 -8)
        r1 = *(u64 *)(r1 +0)
        r0 += r1
        exit
        f:
        r6 = 20
        r2 = map[idx:0] ll
        r3 = 0
        call bpf_tail_call
        r0 = 100
        exit";
    let caller = load(memory, &[&array], text);
    for caller in [caller.clone(), verified_with(&caller, &facts(&caller, 2))] {
        assert_eq!(trap(run(&caller, &mut [])), ("test".to_owned(), 7, TrapKind::Load { address: 64, size: 8 }));
        // And it goes on where it was, with what it had.
        array.set_program(1, Some(&load(memory, &[], "*(u64 *)(r10 +496) = 6\nr0 = r6\nexit"))).unwrap();
        let other = text.replace("r3 = 0", "r3 = 1");
        let other = load(memory, &[&array], &other);
        assert_eq!(run(&other, &mut []), Ok(6 + 20));
        assert_eq!(run(&verified_with(&other, &facts(&other, 2)), &mut []), Ok(6 + 20));
    }
    // One that is verified goes on unchecked, and so does its caller.
    let target = load(memory, &[], "r0 = 30\nexit");
    array.set_program(0, Some(&verified(&target))).unwrap();
    assert_eq!(run(&verified_with(&caller, &facts(&caller, 2)), &mut []), Ok(30 + 5));
}

/// `before`, then a call of `bpf_loop` with `callback`.
fn with_callback(count: u32, after: &str, callback: &str) -> String {
    let after = format!("r3 = r10\nr3 += -8\nr4 = 0\ncall bpf_loop\n{after}\nexit");
    let slots = assemble_with(&after, &|name| Helpers::standard().number(name).map(|id| id.0)).unwrap().len();
    format!("*(u64 *)(r10 -8) = 0\nr1 = {count}\nr2 = subprog[+{}] ll\n{after}\n{callback}", slots + 1)
}

#[test]
fn callbacks() {
    let memory = ProgramType::memory();
    let array = prog_array(memory);
    let sum =
        with_callback(5, "r0 = *(u64 *)(r10 -8)", "r3 = *(u64 *)(r2 +0)\nr3 += r1\n*(u64 *)(r2 +0) = r3\nr0 = 0\nexit");
    let sum = load(memory, &[], &sum);
    for sum in [sum.clone(), verified_with(&sum, &facts(&sum, 2))] {
        assert_eq!(run(&sum, &mut []), Ok(1 + 2 + 3 + 4));
    }
    // No verifier lets it; and no harm is done.
    array.set_program(0, Some(&load(memory, &[], "r0 = 0\nexit"))).unwrap();
    let calls = with_callback(5, "", "r2 = map[idx:0] ll\nr3 = 0\ncall bpf_tail_call\nr0 = 0\nexit");
    let calls = load(memory, &[&array], &calls);
    for calls in [calls.clone(), verified_with(&calls, &facts(&calls, 2))] {
        assert_eq!(trap(run(&calls, &mut [])).2, TrapKind::TailCall);
    }
    // A function that is none.
    let none = load(memory, &[], "r1 = 1\nr2 = 5\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit");
    assert_eq!(run(&verified(&none), &mut []), Ok(-i64::from(libc::EINVAL) as u64));
}

#[test]
fn the_budget_counts() {
    let memory = ProgramType::memory();
    let machine = Machine::builder(1).fuel(Some(1000)).build();
    let endless =
        ["loop:\nr0 = 0\ngoto loop", "loop:\nr1 = 0\ncall 1000\ngoto loop", &with_callback(5000, "", "r0 = 0\nexit")];
    for text in endless {
        let program = load(memory, &[], text);
        let run = |program: &Program| trap(machine.run(program, Context::new(&mut [])));
        let checked = run(&program);
        assert_eq!(checked.2, TrapKind::Fuel);
        assert_eq!(run(&verified_with(&program, &facts(&program, 2))), checked, "{text}");
    }
}

#[test]
fn constant_maps() {
    let def = MapDef::array("constant", 8, 1);
    let map = |flags: MapFlags| Map::new(&MapDef { flags, ..def.clone() }, 1).unwrap();
    let (constant, plain) = (map(MapFlags::RDONLY_PROG), map(MapFlags::empty()));
    assert!(!constant.is_constant() && !plain.is_constant());
    constant.update(&[0; 4], &[1; 8], UpdateFlags::Any).unwrap();
    constant.freeze();
    plain.freeze();
    assert!(constant.is_constant() && !plain.is_constant(), "programs write the other one");
    assert!(constant.update(&[0; 4], &[2; 8], UpdateFlags::Any).is_err());
    assert_eq!(constant.lookup(&[0; 4]).unwrap(), Some(vec![1; 8]));
}

/// What an update that goes on while the map is frozen stores is there when the map is found constant.
#[test]
fn a_map_is_constant_when_updates_have_ended() {
    for _ in 0..200 {
        let def = MapDef { flags: MapFlags::RDONLY_PROG, ..MapDef::array("constant", 4096, 1) };
        let map = Map::new(&def, 1).unwrap();
        std::thread::scope(|scope| {
            let updates = scope.spawn(|| {
                let mut at = 0_u8;
                while map.update(&[0; 4], &[at; 4096], UpdateFlags::Any).is_ok() {
                    at = at.wrapping_add(1);
                }
            });
            std::thread::yield_now();
            map.freeze();
            assert!(map.is_constant());
            let content = map.lookup(&[0; 4]).unwrap().unwrap();
            assert!(content.iter().all(|byte| *byte == content[0]), "in the middle of an update");
            updates.join().unwrap();
            assert_eq!(map.lookup(&[0; 4]).unwrap().unwrap(), content);
        });
    }
}
