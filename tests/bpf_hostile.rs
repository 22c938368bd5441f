//! What a hostile program, a careless helper or a damaged object tries.

use perfring::bpf::elf::{MapKind, Object};
use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef, MapFlags, UpdateFlags};
use perfring::bpf::{
    Arg, Context, HelperId, Helpers, Loader, Machine, MapTypes, Program, ProgramBuilder, ProgramType, Prototype,
    RunError, TrapKind,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

const CUSTOM: HelperId = HelperId(100_000);

fn load(builder: ProgramBuilder<'_>, text: &str) -> Program {
    let number = |name: &str| match name {
        "custom" => Some(CUSTOM.0),
        name => Helpers::standard().number(name).map(|id| id.0),
    };
    let insns = assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    builder.load(insns).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

fn memory() -> ProgramBuilder<'static> {
    Program::builder("test", ProgramType::memory())
}

fn run(machine: &Machine, program: &Program) -> Result<u64, RunError> {
    machine.run(program, Context::new(&mut [0; 16]).packet(&mut [0; 8]))
}

#[test]
fn a_helper_called_through_a_register_minds_the_licence() {
    let machine = Machine::new(1);
    let text = "r1 = r10\nr1 += -8\n*(u64 *)(r10 -8) = 0\nr2 = 8\nr6 = 6\ncallx r6\nr0 = 1\nexit";
    assert_eq!(run(&machine, &load(memory().callx(true).license("GPL"), text)), Ok(1));
    match run(&machine, &load(memory().callx(true).license("Proprietary"), text)) {
        Err(RunError::Trap(trap)) => assert_eq!((trap.insn, trap.kind), (5, TrapKind::CallTarget { target: 6 })),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_helper_looks_up_with_keys_of_any_size() {
    let machine = Machine::new(1);
    for def in [MapDef::hash("map", 8, 8, 4), MapDef::array("map", 8, 1)] {
        let map = Map::new(&def, 1).unwrap();
        map.update(&vec![0; def.key_size as usize], &[1; 8], UpdateFlags::Any).unwrap();
        let found = Arc::new(Mutex::new(Vec::new()));
        let mut helpers = Helpers::standard().clone();
        let prototype = Prototype::new("custom", &[Arg::Map(MapTypes::all()), Arg::Memory, Arg::SizeOrZero]);
        let to = found.clone();
        helpers
            .register(CUSTOM, prototype, move |call| {
                to.lock().unwrap().push(call.lookup(0, 1).is_some());
                0
            })
            .unwrap();
        for size in [0, 1, 4, 8, 12, 16, 24, 512] {
            let text = format!("r1 = map[idx:0] ll\nr2 = r10\nr2 += -512\nr3 = {size}\ncall custom\nr0 = 0\nexit");
            let program = load(memory().maps([map.clone()]).helpers(&helpers), &text);
            assert_eq!(run(&machine, &program), Ok(0));
            let expected = size == def.key_size;
            assert_eq!(found.lock().unwrap().pop(), Some(expected), "{size} bytes for {def:?}");
        }
    }
}

#[test]
fn an_atomic_operation_reads_too() {
    let machine = Machine::new(1);
    let text = "*(u32 *)(r10 -4) = 0\nr1 = map[idx:0] ll\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem\n\
        if r0 == 0 goto out\nr1 = 0\nr1 = atomic_fetch_add((u64 *)(r0 +0), r1)\nr0 = r1\nout:\nexit";
    for (flags, allowed) in [(MapFlags::empty(), true), (MapFlags::WRONLY_PROG, false)] {
        let map = Map::new(&MapDef::array("values", 8, 1).flags(flags), 1).unwrap();
        map.update(&[0; 4], &42_u64.to_ne_bytes(), UpdateFlags::Any).unwrap();
        match run(&machine, &load(memory().maps([map]), text)) {
            Ok(value) => assert_eq!((value, allowed), (42, true)),
            Err(RunError::Trap(trap)) => {
                assert!(!allowed && matches!(trap.kind, TrapKind::Atomic { size: 8, .. }), "{trap}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_large_section_of_zeros_takes_no_memory() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bpf/data.bpf.o");
    let mut object = Object::parse(&std::fs::read(file).unwrap()).unwrap();
    object.programs.clear();
    let zeros =
        |map: &&mut perfring::bpf::elf::MapSpec| matches!(&map.kind, MapKind::Data { bytes, .. } if bytes.is_empty());
    object.maps.iter_mut().find(zeros).unwrap().value_size = 1 << 30;
    let peak = || -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = peak();
    let loaded = Loader::new(&object, &Machine::new(1)).load().unwrap();
    assert!(loaded.maps.values().any(|map| map.def().value_size == 1 << 30));
    assert!(peak() - before < 256 << 10, "{} KiB", peak() - before);
}

#[test]
fn a_map_is_for_a_64_bit_immediate() {
    let machine = Machine::new(1);
    let [first, second] = ["first", "second"].map(|name| {
        let map = Map::new(&MapDef::array(name, 8, 1), 1).unwrap();
        map.update(&[0; 4], &(name.len() as u64).to_ne_bytes(), UpdateFlags::Any).unwrap();
        map
    });
    // Whichever is called first, each means what it says.
    let text = "r1 = map[idx:0][0]+0 ll\nr2 = map[idx:9][0]+0 ll\nr0 = *(u64 *)(r1 +0)\nr2 = *(u64 *)(r2 +0)\n\
        r0 <<= 8\nr0 |= r2\nexit";
    let expected = Ok(5 << 8 | 6);
    assert_eq!(run(&machine, &load(memory().maps([first.clone()]).map_at(2, &second), text)), expected);
    assert_eq!(run(&machine, &load(memory().map_at(2, &second).maps([first.clone()]), text)), expected);
    // An instruction that has registers does not get another one.
    let insns = assemble_with("r0 = r1\nr0 = 0\nexit", &|_| None).unwrap();
    for at in [0, 1, 2, 3, usize::MAX] {
        let error = memory().map_at(at, &first).load(insns.clone()).unwrap_err();
        assert_eq!(error.insn, Some(at));
        assert!(error.kind.to_string().contains("no 64-bit immediate"), "{error}");
    }
}

#[test]
fn a_legacy_load_behind_the_packet_ends_its_function() {
    let machine = Machine::new(1);
    let socket = || Program::builder("test", ProgramType::socket_filter());
    let run = |text: &str| {
        let size = ProgramType::socket_filter().context().size().unwrap();
        machine.run(&load(socket(), text), Context::new(&mut vec![0; size]).packet(&mut [1; 4]))
    };
    assert_eq!(run("r6 = r1\ncall f\nr0 += 7\nexit\nf:\nr6 = r1\nr0 = *(u8 *)skb[4]\nr0 = 1\nexit"), Ok(7));
    assert_eq!(run("r6 = r1\nr0 = *(u8 *)skb[4]\nr0 = 1\nexit"), Ok(0));
}

#[test]
fn a_helper_that_panics_leaves_the_machine_as_it_was() {
    let machine = Machine::new(1);
    let ring = Map::new(&MapDef::ringbuf("ring", 1 << 16), 1).unwrap();
    let mut helpers = Helpers::standard().clone();
    helpers.register(CUSTOM, Prototype::new("custom", &[]), |_| panic!("on purpose")).unwrap();
    let text = "r1 = map[idx:0] ll\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\nr6 = r0\ncall custom\n\
        r1 = r6\nr2 = 0\ncall bpf_ringbuf_submit\nr0 = 0\nexit";
    let program = load(memory().maps([ring.clone()]).helpers(&helpers), text);
    assert!(catch_unwind(AssertUnwindSafe(|| run(&machine, &program))).is_err());
    let sends = text.replace("call custom\n", "");
    assert_eq!(run(&machine, &load(memory().maps([ring.clone()]), &sends)), Ok(0));
    let mut seen = 0;
    ring.take_consumer().unwrap().unwrap().for_each(|_| seen += 1).unwrap();
    assert_eq!(seen, 1, "what was open at the panic was given up, and holds nothing back");
}

#[test]
fn a_helper_enters_nothing_twice() {
    let machine = Machine::new(2);
    let inner = load(memory(), "r0 = 1\nexit");
    let mut helpers = Helpers::standard().clone();
    let of_helper = machine.clone();
    let body = move |_: &mut perfring::bpf::Call<'_, '_>| {
        assert_eq!(run(&of_helper, &inner), Err(RunError::Reentrant));
        assert_eq!(of_helper.stats(), Err(perfring::bpf::SetEventError::Reentrant));
        3
    };
    helpers.register(CUSTOM, Prototype::new("custom", &[]), body).unwrap();
    assert_eq!(run(&machine, &load(memory().helpers(&helpers), "call custom\nexit")), Ok(3));
    assert_eq!(machine.stats().unwrap().reentrant, 1);
}

#[test]
fn what_was_closed_is_out_of_reach() {
    let machine = Machine::new(1);
    let ring = Map::new(&MapDef::ringbuf("ring", 1 << 16), 1).unwrap();
    let reserve = "r1 = map[idx:0] ll\nr2 = 16\nr3 = 0\ncall bpf_ringbuf_reserve\nr6 = r0\n*(u64 *)(r6 +0) = 1\n";
    for close in ["bpf_ringbuf_submit", "bpf_ringbuf_discard"] {
        let close_it = format!("r1 = r6\nr2 = 0\ncall {close}\n");
        let number = Helpers::standard().number(close).unwrap();
        for close in [close_it.clone(), format!("r1 = r6\nr2 = 0\nr7 = {number}\ncallx r7\n", number = number.0)] {
            for touch in ["*(u64 *)(r6 +0) = 2", "r0 = *(u64 *)(r6 +0)", "lock *(u64 *)(r6 +0) += r6"] {
                let text = format!("{reserve}{close}{touch}\nr0 = 0\nexit");
                let program = load(memory().callx(true).maps([ring.clone()]), &text);
                assert!(matches!(run(&machine, &program), Err(RunError::Trap(_))), "{text}");
            }
            // Closed by a function.
            let text = format!(
                "{reserve}r1 = r6\ncall f\n*(u64 *)(r6 +0) = 2\nr0 = 0\nexit\nf:\nr6 = r1\n*(u64 *)(r6 +0) = 3\n{close}\
                r0 = 0\nexit"
            );
            let program = load(memory().callx(true).maps([ring.clone()]), &text);
            assert!(matches!(run(&machine, &program), Err(RunError::Trap(_))), "{text}");
        }
    }
}

#[test]
fn what_a_callback_closed_is_out_of_reach() {
    let machine = Machine::new(1);
    let ring = Map::new(&MapDef::ringbuf("ring", 1 << 16), 1).unwrap();
    for close in ["bpf_ringbuf_submit", "bpf_ringbuf_discard"] {
        for touch in ["*(u64 *)(r6 +0) = 2", "r0 = *(u64 *)(r6 +0)", "lock *(u64 *)(r6 +0) += r0"] {
            let text = format!(
                "r1 = map[idx:0] ll\nr2 = 16\nr3 = 0\ncall bpf_ringbuf_reserve\nr6 = r0\n*(u64 *)(r6 +0) = 1\n\
                *(u64 *)(r10 -8) = r6\nr2 = subprog[+9] ll\nr1 = 1\nr3 = r10\nr3 += -8\nr4 = 0\ncall bpf_loop\n{touch}\n\
                r0 = 0\nexit\nr1 = *(u64 *)(r2 +0)\n*(u64 *)(r1 +0) = 3\nr2 = 0\ncall {close}\nr0 = 0\nexit"
            );
            match run(&machine, &load(memory().maps([ring.clone()]), &text)) {
                Err(RunError::Trap(trap)) => assert_eq!(trap.insn, 15, "{trap}\n{text}"),
                other => panic!("{other:?}\n{text}"),
            }
        }
    }
    assert_eq!(machine.stats().unwrap().discarded, 0, "the callback closed it");
}

#[test]
fn a_legacy_load_behind_the_packet_ends_a_callback() {
    let machine = Machine::new(1);
    let socket = Program::builder("test", ProgramType::socket_filter());
    // The callback counts its runs before the load.
    let text = "*(u64 *)(r10 -8) = 0\nr6 = r1\nr2 = subprog[+8] ll\nr1 = 5\nr3 = r10\nr3 += -8\nr4 = 0\ncall bpf_loop\n\
        r0 = *(u64 *)(r10 -8)\nexit\nr1 = *(u64 *)(r2 +0)\nr1 += 1\n*(u64 *)(r2 +0) = r1\nr6 = 0\nr0 = *(u8 *)skb[4]\n\
        r0 = 1\nexit";
    let mut context = vec![0; ProgramType::socket_filter().context().size().unwrap()];
    let ran = machine.run(&load(socket, text), Context::new(&mut context).packet(&mut [1; 4]));
    assert_eq!(ran, Ok(5), "each time the callback gave 0");
}
