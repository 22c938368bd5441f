//! Functions, callbacks, tail calls and casts, one in the other.

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::program_type::{ContextLayout, Field};
use perfring::bpf::{Context, Helpers, Machine, Program, ProgramType, RunError, TrapKind};

fn slots(text: &str) -> usize {
    assemble(text).len()
}

fn assemble(text: &str) -> Vec<perfring::bpf::insn::Insn> {
    let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
    assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

/// `before`, then `r2` set to the address of the function `callback`, then `after`.
fn with_callback(before: &str, after: &str, callback: &str) -> String {
    let offset = slots(after) + 1;
    format!("{before}\nr2 = subprog[+{offset}] ll\n{after}\n{callback}")
}

fn load(type_: &ProgramType, maps: &[&Map], text: &str) -> Program {
    let maps = maps.iter().map(|map| (*map).clone());
    Program::builder("test", type_).maps(maps).license("GPL").load(assemble(text)).unwrap()
}

fn run(text: &str) -> Result<u64, RunError> {
    let machine = Machine::builder(1).fuel(Some(100_000)).build();
    let result = machine.run(&load(ProgramType::memory(), &[], text), Context::new(&mut []));
    assert_eq!(machine.run(&load(ProgramType::memory(), &[], "r0 = 3\nexit"), Context::new(&mut [])), Ok(3));
    result
}

#[track_caller]
fn trap(result: Result<u64, RunError>) -> (usize, TrapKind) {
    match result {
        Err(RunError::Trap(trap)) => (trap.insn, trap.kind),
        other => panic!("{other:?}"),
    }
}

const LOOP: &str = "r3 = 0\nr4 = 0\ncall bpf_loop\nexit";

#[test]
fn how_often_a_callback_is_called() {
    let errno = |errno: i32| Ok(-i64::from(errno) as u64);
    let times = |count: &str, callback: &str| run(&with_callback(&format!("r1 = {count}"), LOOP, callback));
    assert_eq!(times("0", "r0 = 1\nexit"), Ok(0));
    assert_eq!(times("1", "r0 = 1\nexit"), Ok(1));
    assert_eq!(times("5", "r0 = 0\nexit"), Ok(5));
    assert_eq!(times("5", "r0 = 0\nif r1 != 3 goto out\nr0 = 1\nout:\nexit"), Ok(4), "the call that ends it counts");
    assert_eq!(times("0x100000002 ll", "r0 = 0\nexit"), Ok(2), "an u32");
    assert_eq!(times("0x800001", "r0 = 0\nexit"), errno(libc::E2BIG));
    assert_eq!(times("-1", "r0 = 0\nexit"), errno(libc::E2BIG));
    let flags = with_callback("r1 = 1", "r3 = 0\nr4 = 1\ncall bpf_loop\nexit", "r0 = 0\nexit");
    assert_eq!(run(&flags), errno(libc::EINVAL));
}

#[test]
fn a_callback_has_a_frame_and_registers_of_its_own() {
    // It counts in the caller's frame; the caller's registers from r6 on are what they were, whatever it does to them.
    let before = "r6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\n*(u64 *)(r10 -8) = 0\nr1 = 4";
    let after = "
        r3 = r10
        r3 += -8
        r4 = 0
        call bpf_loop
        r1 = *(u64 *)(r10 -8)
        r0 = r1
        r0 += r6
        r0 += r7
        r0 += r8
        r0 += r9
        exit";
    let callback = "
        r6 = *(u64 *)(r10 -8)
        r7 = *(u64 *)(r2 +0)
        r7 += r1
        r7 += r6
        *(u64 *)(r2 +0) = r7
        *(u64 *)(r10 -8) = 1000
        r8 = 0
        r9 = 0
        r0 = 0
        exit";
    assert_eq!(run(&with_callback(before, after, callback)), Ok((1 + 2 + 3) + 6 + 7 + 8 + 9));
    // Below the frame of the callback nothing is, and when it has ended, neither is that.
    let below = with_callback("r1 = 1", LOOP, "r0 = *(u64 *)(r2 -1032)\nexit");
    let below = below.replacen("r3 = 0\n", "r3 = r10\nr3 += -8\n", 1);
    // Two slots more, between the address and the function.
    let below = below.replace("subprog[+5]", "subprog[+6]");
    assert!(matches!(trap(run(&below)), (8, TrapKind::Load { size: 8, .. })));
    let keeps = "*(u64 *)(r10 -8) = 0\nr1 = 1";
    let reads = "r3 = r10\nr3 += -8\nr4 = 0\ncall bpf_loop\nr1 = *(u64 *)(r10 -8)\nr0 = *(u64 *)(r1 +0)\nexit";
    let gives =
        with_callback(keeps, reads, "r1 = r10\nr1 += -8\n*(u64 *)(r1 +0) = 1\n*(u64 *)(r2 +0) = r1\nr0 = 0\nexit");
    assert!(matches!(trap(run(&gives)), (9, TrapKind::Load { size: 8, .. })));
}

#[test]
fn callbacks_in_callbacks() {
    // 3 times 4 calls, counted in the outermost frame.
    let inner = "r3 = *(u64 *)(r2 +0)\nr3 += 1\n*(u64 *)(r2 +0) = r3\nr0 = 0\nexit";
    let middle_after = "r4 = 0\ncall bpf_loop\nr0 = 0\nexit";
    let middle = with_callback("r3 = r2\nr1 = 4", middle_after, inner);
    let text = with_callback(
        "*(u64 *)(r10 -8) = 0\nr1 = 3",
        "r3 = r10\nr3 += -8\nr4 = 0\ncall bpf_loop\nr0 = *(u64 *)(r10 -8)\nexit",
        &middle,
    );
    assert_eq!(run(&text), Ok(12));
    // Without an end: of frames, or of the budget.
    let recursive = "r1 = 1\nr2 = subprog[+5] ll\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit\nr1 = 1\nr2 = subprog[-2] ll\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit";
    assert_eq!(trap(run(recursive)), (12, TrapKind::CallDepth));
    let endless = with_callback("r1 = 0x800000", LOOP, "back:\nr0 = 0\ngoto back\nexit");
    assert_eq!(trap(run(&endless)), (8, TrapKind::Fuel));
}

#[test]
fn what_a_callback_may_not() {
    let kprobe = ProgramType::kprobe();
    let array = Map::prog_array(&MapDef::prog_array("programs", 1), kprobe).unwrap();
    array.set_program(0, Some(&load(kprobe, &[], "r0 = 1\nexit"))).unwrap();
    let machine = Machine::new(1);
    let callback = "r1 = r2\nr2 = map[idx:0] ll\nr3 = 0\ncall bpf_tail_call\nr0 = 0\nexit";
    let text = with_callback("r1 = 1", LOOP, callback);
    let result = machine.run(&load(kprobe, &[&array], &text), Context::new(&mut [0; 168]));
    assert_eq!(trap(result), (11, TrapKind::TailCall));
    // Nor a function that it calls.
    let called = with_callback("r1 = 1", LOOP, &format!("call f\nexit\nf:\n{callback}"));
    let result = machine.run(&load(kprobe, &[&array], &called), Context::new(&mut [0; 168]));
    assert_eq!(trap(result), (13, TrapKind::TailCall));
    // The next program may.
    let plain = "r2 = map[idx:0] ll\nr3 = 0\ncall bpf_tail_call\nr0 = 100\nexit";
    assert_eq!(machine.run(&load(kprobe, &[&array], plain), Context::new(&mut [0; 168])), Ok(1));
}

#[test]
fn legacy_loads_end_their_function() {
    let type_ = ProgramType::socket_filter();
    let run = |text: &str| {
        let mut packet = [1, 2, 3, 4, 5, 6, 7, 8];
        Machine::new(1).run(&load(type_, &[], text), Context::new(&mut [0; 192]).packet(&mut packet))
    };
    // As an `exit` with 0 in it would; its caller goes on.
    assert_eq!(run("r6 = r1\ncall f\nr0 += 5\nexit\nf:\nr0 = *(u8 *)skb[8]\nr0 = 1\nexit"), Ok(5));
    assert_eq!(run("r6 = r1\ncall f\nr0 += 5\nexit\nf:\nr0 = *(u8 *)skb[7]\nexit"), Ok(13));
    // In a callback: of that call.
    let counted = with_callback("r6 = r1\nr1 = 3", LOOP, "r0 = *(u8 *)skb[100]\nr0 = 1\nexit");
    assert_eq!(run(&counted), Ok(3));
    // Any register is an index, and of it 32 bits count, as an `int`.
    assert_eq!(run("r6 = r1\nr7 = 0xf00000003 ll\nr0 = *(u8 *)skb[r7 + 1]\nexit"), Ok(5));
    assert_eq!(run("r6 = r1\nr7 = -2\nr0 = *(u8 *)skb[r7 + 3]\nexit"), Ok(2));
    assert_eq!(run("r6 = r1\nr7 = 0x7fffffff\nr0 = *(u8 *)skb[r7 + 2147483647]\nr0 = 1\nexit"), Ok(0));
    assert_eq!(run("r6 = r1\nr0 = *(u8 *)skb[r10 + 0]\nr0 = 1\nexit"), Ok(0), "the frame is beyond the packet");
}

/// Three types, of which each is called from the one before. Contexts have a word, which grows by 1 with each cast.
fn chain() -> Vec<ProgramType> {
    let layout = || ContextLayout::fields(8, [Field::read_only("word", 0, 8, 1)]).unwrap();
    let mut types: Vec<ProgramType> = vec![ProgramType::builder("type 0", layout()).all_helpers().build()];
    for number in 1..4 {
        let before = types[number - 1].clone();
        let builder = ProgramType::builder(&format!("type {number}"), layout()).all_helpers();
        let builder = builder.casts(
            move |source| *source == before,
            |conversion| {
                let word = u64::from_ne_bytes(conversion.read(0).unwrap());
                conversion.target().copy_from_slice(&(word + 1).to_ne_bytes());
                true
            },
        );
        types.push(builder.build());
    }
    types
}

#[test]
fn casts_in_a_row_and_in_functions() {
    let types = chain();
    let arrays: Vec<_> =
        types.iter().map(|owner| Map::prog_array(&MapDef::prog_array("programs", 1), owner).unwrap()).collect();
    // Each calls the next; the last gives the word.
    let last = load(&types[3], &[], "r0 = *(u64 *)(r1 +0)\nexit");
    arrays[3].set_program(0, Some(&last)).unwrap();
    for number in (1..3).rev() {
        let text = "r2 = map[idx:0] ll\nr3 = 0\ncall bpf_tail_call\nr0 = 100\nexit";
        arrays[number].set_program(0, Some(&load(&types[number], &[&arrays[number + 1]], text))).unwrap();
    }
    // The same in a function, twice: each has its context again when the function has ended, and the second cast does not
    // lie where the first one's was read.
    let text = "
        r6 = r1
        call f
        r7 = r0
        r1 = r6
        call f
        r0 <<= 8
        r0 |= r7
        r1 = *(u64 *)(r6 +0)
        r0 <<= 8
        r0 |= r1
        exit
    f:
        r2 = map[idx:0] ll
        r3 = 0
        call bpf_tail_call
        r0 = 100
        exit";
    let program = load(&types[0], &[&arrays[1]], text);
    let machine = Machine::new(1);
    for word in [0_u8, 40, 7] {
        let mut context = u64::from(word).to_ne_bytes();
        let three = u64::from(word) + 3;
        let result = machine.run(&program, Context::new(&mut context));
        assert_eq!(result, Ok(three << 16 | three << 8 | u64::from(word)));
        assert_eq!(context, u64::from(word).to_ne_bytes(), "what was lent is not written");
    }
}

#[test]
fn tail_calls_are_counted_through_functions() {
    let kprobe = ProgramType::kprobe();
    let array = Map::prog_array(&MapDef::prog_array("programs", 1), kprobe).unwrap();
    let count = Map::new(&MapDef::array("count", 8, 1), 1).unwrap();
    // Ends at once; the caller calls it 40 times, from a function.
    let counts = "r4 = map[idx:0][0]+0 ll\nr0 = 1\nlock *(u64 *)(r4 +0) += r0\nr0 = 0\nexit";
    array.set_program(0, Some(&load(kprobe, &[&count], counts))).unwrap();
    let text = "
        r6 = r1
        r7 = 40
        r8 = 0
    again:
        r1 = r6
        call f
        r8 += r0
        r7 -= 1
        if r7 != 0 goto again
        r0 = r8
        exit
    f:
        r2 = map[idx:0] ll
        r3 = 0
        call bpf_tail_call
        r0 = 1
        exit";
    let program = load(kprobe, &[&array], text);
    let machine = Machine::new(1);
    assert_eq!(machine.run(&program, Context::new(&mut [0; 168])), Ok(40 - 33));
    assert_eq!(count.lookup(&[0; 4]).unwrap().unwrap(), 33_u64.to_ne_bytes());
}

#[test]
fn may_goto_is_counted_by_function() {
    // What a function used of it, its caller has still, and the next call has it all again.
    let text = "
        r6 = 0
    again:
        may_goto out
        r6 += 1
        call f
        if r6 != 3 goto again
    out:
        r0 = r6
        exit
    f:
        r0 = 0
    back:
        may_goto end
        r0 += 1
        if r0 == 1000 goto end
        goto back
    end:
        exit";
    assert_eq!(run(text), Ok(3));
}
