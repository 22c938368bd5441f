//! Verified programs that call others, and are called by them, verified or not; and what stops them.
#![cfg(feature = "bpf")]

mod bpf_modes;

use bpf_modes::{SK_BUFF, array, both, load, prog_array, same, trap, verify, words};
use perfring::bpf::map::{Map, MapDef, MapType, UpdateFlags};
use perfring::bpf::program_type::{ContextLayout, Field};
use perfring::bpf::{Context, Machine, Program, ProgramType, RunError, RunOptions, TrapKind};

/// Tail-calls a slot of the first map; falls through to what gives 1000.
fn call(index: u32) -> String {
    format!("r2 = map[idx:0] ll\nr3 = {index}\ncall bpf_tail_call\nr0 = 1000\nexit")
}

/// Verified and not, in any order: from a function, so that its caller goes on.
#[test]
fn tail_calls_of_each_kind() {
    let memory = ProgramType::memory();
    let programs = prog_array(memory);
    let trace = array("trace", 64, 1);
    // Each leaves its number in the trace, and goes on to the next slot.
    let step = |number: u32, next: u32| {
        let text = format!(
            "r6 = r1
            r1 = map[idx:1][0]+{at} ll
            r2 = {number}
            *(u64 *)(r1 +0) = r2
            *(u64 *)(r10 -8) = 6
            r1 = r6
            call f
            r1 = *(u64 *)(r10 -8)
            r0 += r1
            r0 += {number}
            exit
            f:
            r2 = map[idx:0] ll
            r3 = {next}
            call bpf_tail_call
            r0 = 0
            exit",
            at = 8 * (number - 1)
        );
        load(memory, &[&programs, &trace], &text)
    };
    let steps: Vec<Program> = (1..=4).map(|number| step(number, number)).collect();
    let machine = Machine::new(1);
    for verified in 0..16_u32 {
        trace.update(&[0; 4], &[0; 64], UpdateFlags::Any).unwrap();
        let mode = |at: usize| if verified >> at & 1 != 0 { verify(&steps[at]) } else { steps[at].clone() };
        for at in 1..4 {
            programs.set_program(at as u32, Some(&mode(at))).unwrap();
        }
        let result = machine.run(&mode(0), Context::new(&mut []));
        assert_eq!(result, Ok(4 * 6 + 1 + 2 + 3 + 4), "{verified:04b}");
        let expected: Vec<u8> = [1_u64, 2, 3, 4, 0, 0, 0, 0].iter().flat_map(|number| number.to_ne_bytes()).collect();
        assert_eq!(words(&trace), [expected], "{verified:04b}");
    }
}

#[test]
fn a_verified_program_is_called_only_where_its_frames_fit() {
    let memory = ProgramType::memory();
    let programs = prog_array(memory);
    let nested =
        |depth: usize, end: &str| (0..depth).map(|at| format!("call f{at}\nexit\nf{at}:\n")).collect::<String>() + end;
    // 5 frames.
    programs.set_program(0, Some(&verify(&load(memory, &[], &nested(4, "r0 = 7\nexit"))))).unwrap();
    let machine = Machine::new(1);
    for (depth, expected) in [(0, 7), (3, 7), (4, 1000), (5, 1000)] {
        let callers = both(memory, &[&programs], &nested(depth, &call(0)));
        assert_eq!(same(&callers, |program| machine.run(program, Context::new(&mut []))), Ok(expected), "{depth}");
    }
    // So does a callback's.
    let callback = |depth: usize| {
        let end = "r1 = 2\nr2 = subprog[+5] ll\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit\nr0 = 0\nexit";
        load(memory, &[], &nested(depth, end))
    };
    programs.set_program(1, Some(&verify(&callback(6)))).unwrap();
    for (depth, expected) in [(0, 2), (1, 1000)] {
        let callers = both(memory, &[&programs], &nested(depth, &call(1)));
        assert_eq!(same(&callers, |program| machine.run(program, Context::new(&mut []))), Ok(expected), "{depth}");
    }
}

#[test]
fn contexts_that_are_too_short() {
    let memory = ProgramType::memory();
    let machine = Machine::new(1);
    let text = "r0 = *(u64 *)(r1 +8)\nif r2 == 99 goto far\nexit\nfar:\nr0 = *(u8 *)(r1 +63)\nexit";
    let [program, verified] = both(memory, &[], text);
    let run = |program: &Program, size: usize| machine.run(program, Context::new(&mut vec![1; size]));
    assert_eq!(run(&program, 16), Ok(0x0101_0101_0101_0101));
    assert_eq!(run(&verified, 63), Err(RunError::ContextShort { size: 63, needed: 64 }));
    assert_eq!(run(&verified, 64), Ok(0x0101_0101_0101_0101));
    let programs = prog_array(memory);
    programs.set_program(0, Some(&verified)).unwrap();
    let callers = both(memory, &[&programs], &call(0));
    assert_eq!(same(&callers, |program| run(program, 63)), Ok(1000));
    assert_eq!(same(&callers, |program| run(program, 64)), Ok(0x0101_0101_0101_0101));
    // What the context is to be read for is a helper's.
    let ring = Map::new(&MapDef::ringbuf("ring", 4096), 1).unwrap();
    let text = "r3 = 0\nr4 = 0\nr2 = r1\nr2 += 8\nr1 = map[idx:0] ll\nr3 = 24\ncall bpf_ringbuf_output\nexit";
    let verified = verify(&load(memory, &[&ring], text));
    assert_eq!(run(&verified, 31), Err(RunError::ContextShort { size: 31, needed: 32 }));
    assert_eq!(run(&verified, 32), Ok(0));
}

#[test]
fn maps_for_too_few_cpus() {
    let memory = ProgramType::memory();
    let text = "*(u32 *)(r10 -8) = 3\nr2 = r10\nr2 += -8\nr1 = map[idx:0] ll
        call bpf_map_lookup_elem\nr0 = *(u64 *)(r0 +0)\nexit";
    let percpu = |cpus| Map::new(&MapDef::new("percpu", MapType::PercpuArray, 4, 8, 4), cpus).unwrap();
    for (has, cpus) in [(1, 2), (2, 2), (2, 1), (3, 4)] {
        let map = percpu(has);
        map.update(&3_u32.to_ne_bytes(), &9_u64.to_ne_bytes().repeat(has), UpdateFlags::Any).unwrap();
        let elements = both(memory, &[&map], text);
        let programs = prog_array(memory);
        let callers = both(memory, &[&programs], &call(0));
        let machine = Machine::new(cpus);
        for cpu in 0..cpus as u32 {
            let run = |program: &Program| machine.run_with(program, Context::new(&mut []), RunOptions::new().cpu(cpu));
            let lacks = RunError::MapCpus { map: "percpu".to_owned(), has, cpus };
            let expected = if has < cpus { Err(lacks) } else { Ok(9) };
            assert_eq!(same(&elements, run), expected, "{has} of {cpus}");
            for target in &elements {
                programs.set_program(0, Some(target)).unwrap();
                // The call falls through.
                assert_eq!(same(&callers, run), Ok(expected.clone().unwrap_or(1000)), "{has} of {cpus}");
            }
        }
    }
}

/// The context of a caller, and that of what it calls across types; the caller's frame, while others come and go above it.
#[test]
fn casts() {
    let layout = || ContextLayout::fields(16, [Field::read_only("first", 0, 8, 2)]).unwrap();
    let target = ProgramType::builder("target", layout())
        .all_helpers()
        .casts(|source| source == ProgramType::kprobe(), |conversion| conversion.copy(0, 8, 8))
        .build();
    let programs = prog_array(&target);
    let end = load(&target, &[], "r0 = *(u64 *)(r1 +8)\nr1 = *(u64 *)(r1 +0)\nr0 += r1\nexit");
    let text = "
        r6 = r1
        r7 = *(u64 *)(r6 +8)
        *(u64 *)(r10 -8) = r6
        call f
        r0 += r7
        r1 = *(u64 *)(r10 -8)
        r1 = *(u64 *)(r1 +0)
        r0 += r1
        exit
        f:
        r2 = map[idx:0] ll
        r3 = 0
        call bpf_tail_call
        r0 = 0
        exit";
    let callers = both(ProgramType::kprobe(), &[&programs], text);
    let mut registers = [0; 168];
    registers[..8].copy_from_slice(&500_u64.to_ne_bytes());
    registers[8..16].copy_from_slice(&3_u64.to_ne_bytes());
    for end in [end.clone(), verify(&end)] {
        programs.set_program(0, Some(&end)).unwrap();
        let result = same(&callers, |program| Machine::new(1).run(program, Context::new(&mut registers.clone())));
        assert_eq!(result, Ok(500 + 3 + 500));
    }
}

#[test]
fn the_budget_stops_verified_programs() {
    let memory = ProgramType::memory();
    let machine = Machine::builder(1).fuel(Some(5000)).build();
    let counted = "r0 = 0\nr6 = 100000\nloop:\nr0 += 1\nr6 -= 1\nif r6 != 0 goto loop\nexit";
    let may = "r0 = 0\nloop:\nr0 += 1\nmay_goto out\ngoto loop\nout:\nexit";
    let helpers = "r6 = 2500\nloop:\ncall bpf_get_prandom_u32\nr6 -= 1\nif r6 != 0 goto loop\nr0 = 0\nexit";
    let callbacks = "r1 = 6000\nr2 = subprog[+5] ll\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit\nr0 = 0\nexit";
    for text in [counted, may, helpers, callbacks] {
        let programs = both(memory, &[], text);
        let (_, kind) = same(&programs, |program| trap(machine.run(program, Context::new(&mut []))));
        assert_eq!(kind, TrapKind::Fuel, "{text}");
    }
    let stats = machine.stats().unwrap();
    assert_eq!((stats.runs, stats.traps), (8, 8));
}

/// Look-ups in arrays are done at once; what they give is the same.
#[test]
fn lookups_in_arrays() {
    let memory = ProgramType::memory();
    let text = "
        r8 = *(u32 *)(r1 +0)
        *(u32 *)(r10 -4) = r8
        r2 = r10
        r2 += -4
        r1 = map[idx:0] ll
        call bpf_map_lookup_elem
        if r0 == 0 goto none
        r0 = *(u8 *)(r0 +0)
        exit
        none:
        r0 = 77
        exit";
    let percpu = Map::new(&MapDef::new("percpu", MapType::PercpuArray, 4, 3, 5), 2).unwrap();
    let plain = array("plain", 3, 5);
    for key in 0..5_u32 {
        plain.update(&key.to_ne_bytes(), &[10 + key as u8; 3], UpdateFlags::Any).unwrap();
        let values: Vec<u8> = [20, 30].iter().flat_map(|cpu| [cpu + key as u8; 8]).collect();
        percpu.update(&key.to_ne_bytes(), &values, UpdateFlags::Any).unwrap();
    }
    let machine = Machine::builder(2).fuel(Some(1000)).build();
    let programs = prog_array(memory);
    let caller = verify(&load(memory, &[&programs], &call(0)));
    for key in [0_u32, 1, 4, 5, 6, 1 << 31, u32::MAX] {
        for (map, first) in [(&plain, 10), (&percpu, 30)] {
            let result = same(&both(memory, &[map], text), |program| {
                programs.set_program(0, Some(program)).unwrap();
                machine.run_with(&caller, Context::new(&mut key.to_ne_bytes()), RunOptions::new().cpu(1))
            });
            let expected = if key < 5 { first + u64::from(key) } else { 77 };
            assert_eq!(result, Ok(expected), "{key} in {}", map.def().name);
        }
    }
    // Each of them counts.
    let text = format!("r6 = 1200\nr7 = r1\nloop:\nr1 = r7\n{text}")
        .replace("r0 = *(u8 *)(r0 +0)\n        exit", "r6 -= 1\nif r6 != 0 goto loop");
    let (_, kind) =
        same(&both(memory, &[&plain], &text), |program| trap(machine.run(program, Context::new(&mut [0; 4]))));
    assert_eq!(kind, TrapKind::Fuel);
}

/// A legacy load from behind the packet ends its function, whose caller goes on.
#[test]
fn legacy_loads() {
    let text = "
        r6 = r1
        call f
        r7 = r0
        r0 = *(u16 *)skb[1]
        r0 += r7
        exit
        f:
        r6 = r1
        r0 = *(u32 *)skb[4]
        r0 = 9
        exit";
    let programs = both(ProgramType::socket_filter(), &[], text);
    for (packet, expected) in [(vec![], 0), (vec![1, 2, 3], 0x0203), (vec![1; 8], 0x0101 + 9), (vec![1; 7], 0x0101)] {
        let result = same(&programs, |program| {
            Machine::new(1).run(program, Context::new(&mut [0; SK_BUFF]).packet(&mut packet.clone()))
        });
        assert_eq!(result, Ok(expected));
    }
}
