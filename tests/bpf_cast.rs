//! Tail calls, the casts of contexts that they make, and the writable buffers of contexts.

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef, MapError, UpdateFlags};
use perfring::bpf::program_type::{ContextLayout, Field, Pointer};
use perfring::bpf::{
    Context, Event, HelperId, Helpers, LoadError, Machine, Program, ProgramType, RunError, RunOptions, TrapKind,
};
use perfring::record::{Attr, Body, Decoder, SampleType};
use perfring::ring::{Consumer, Ring};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// `id` at 0, `probe_id` at 4, `cpu` at 8, `arg` at 16; two buffers, at 24 and at 40.
fn layout() -> ContextLayout {
    let fields = [
        Field::read_only("id", 0, 4, 1),
        Field::read_only("probe_id", 4, 4, 1),
        Field::read_only("cpu", 8, 4, 1),
        Field::read_only("arg", 16, 8, 1),
        Field::pointer("buf", 24, 8, Pointer::Buffer(24)),
        Field::pointer("buf_end", 32, 8, Pointer::BufferEnd(24)),
        Field::pointer("buf2", 40, 8, Pointer::Buffer(40)),
        Field::pointer("buf2_end", 48, 8, Pointer::BufferEnd(40)),
    ];
    ContextLayout::fields(56, fields).unwrap()
}

const SIZE: usize = 56;

struct Types {
    target: ProgramType,
    conversions: Arc<AtomicU32>,
}

/// A type that is called from kprobes, and whose context has the caller's first register in `arg`; none if that is 0.
fn types() -> Types {
    let conversions = Arc::new(AtomicU32::new(0));
    let count = conversions.clone();
    let target = ProgramType::builder("target", layout())
        .all_helpers()
        .finalized_at(0, 4)
        .casts(
            |source| source == ProgramType::kprobe(),
            move |conversion| {
                count.fetch_add(1, Relaxed);
                assert_eq!(conversion.source(), ProgramType::kprobe());
                assert_eq!(conversion.source_size(), 168);
                assert!(conversion.target().iter().all(|byte| *byte == 0));
                assert_eq!(conversion.read::<8>(161), None);
                assert!(!conversion.copy(0, 50, 8), "not beyond the context");
                let cpu = conversion.cpu();
                conversion.target()[8..12].copy_from_slice(&cpu.to_ne_bytes());
                conversion.copy(0, 16, 8) && conversion.read::<8>(0) != Some([0; 8])
            },
        )
        .build();
    Types { target, conversions }
}

fn load(type_: &ProgramType, maps: &[&Map], text: &str) -> Result<Program, LoadError> {
    let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
    let insns = assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    Program::builder("test", type_).maps(maps.iter().map(|map| (*map).clone())).license("GPL").load(insns)
}

fn prog_array(owner: &ProgramType) -> Map {
    Map::prog_array(&MapDef::prog_array("programs", 4), owner).unwrap()
}

/// Tail-calls slot 1, and gives 100 if that falls through.
const CALL_1: &str = "r2 = map[idx:0] ll\nr3 = 1\ncall bpf_tail_call\nr0 = 100\nexit";

/// The registers, of which the first is `first`.
fn registers(first: u64) -> [u8; 168] {
    let mut bytes = [0; 168];
    bytes[..8].copy_from_slice(&first.to_ne_bytes());
    bytes
}

#[test]
fn a_type_that_says_nothing_denies_every_cast() {
    let plain = ProgramType::builder("plain", layout()).all_helpers().build();
    assert!(plain.is_valid_tail_call(&plain));
    assert!(!plain.is_valid_tail_call(ProgramType::kprobe()));
    let error = load(ProgramType::kprobe(), &[&prog_array(&plain)], CALL_1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "test: tail calls through programs: programs of type plain are not called from those of type kprobe"
    );
}

#[test]
fn casts_are_checked_when_the_caller_is_loaded() {
    let Types { target, conversions } = types();
    let array = prog_array(&target);
    assert!(load(ProgramType::kprobe(), &[&array], CALL_1).is_ok());
    let error = load(ProgramType::xdp(), &[&array], CALL_1).unwrap_err().to_string();
    assert_eq!(
        error,
        "test: tail calls through programs: programs of type target are not called from those of type xdp"
    );
    assert_eq!(conversions.load(Relaxed), 0);
}

#[test]
fn an_array_has_programs_of_one_type() {
    let Types { target, .. } = types();
    let array = prog_array(&target);
    let error = array.set_program(0, Some(&load(ProgramType::kprobe(), &[], "r0 = 0\nexit").unwrap())).unwrap_err();
    assert_eq!(error, MapError::ProgramType { type_: "kprobe".to_owned(), owner: "target".to_owned() });
    array.set_program(0, Some(&load(&target, &[], "r0 = 0\nexit").unwrap())).unwrap();
    // The owner stays when it is emptied.
    array.set_program(0, None).unwrap();
    assert_eq!(array.owner(), Some(&target));
    let end = array.set_program(4, None).unwrap_err();
    assert_eq!((end.errno(), end), (libc::E2BIG, MapError::Index { index: 4, entries: 4 }));
    assert_eq!(Map::new(&MapDef::prog_array("programs", 4), 1).unwrap_err(), MapError::NoOwner);
}

#[test]
fn the_context_is_converted_across_types_only() {
    let Types { target, conversions } = types();
    let (array, own) =
        (prog_array(&target), Map::prog_array(&MapDef::prog_array("own", 4), ProgramType::kprobe()).unwrap());
    let machine = Machine::new(3);
    // Behind a cast the context is the target's, and that of the caller is out of reach.
    array
        .set_program(
            1,
            Some(
                &load(&target, &[], "r0 = *(u64 *)(r1 +16)\nr2 = *(u32 *)(r1 +8)\nr2 <<= 32\nr0 += r2\nexit").unwrap(),
            ),
        )
        .unwrap();
    let caller = load(ProgramType::kprobe(), &[&array], CALL_1).unwrap();
    let run = |program: &Program, first: u64| {
        machine.run_with(program, Context::new(&mut registers(first)), RunOptions::new().cpu(2))
    };
    assert_eq!(run(&caller, 55), Ok(55 + (2 << 32)));
    assert_eq!(conversions.load(Relaxed), 1);
    // None is made of this context: as if the slot were empty.
    assert_eq!(run(&caller, 0), Ok(100));
    assert_eq!(conversions.load(Relaxed), 2);
    // One type on both sides: the context passes as it is.
    own.set_program(1, Some(&load(ProgramType::kprobe(), &[], "r0 = *(u64 *)(r1 +0)\nexit").unwrap())).unwrap();
    let same = load(ProgramType::kprobe(), &[&own], CALL_1).unwrap();
    assert_eq!(run(&same, 66), Ok(66));
    array
        .set_program(
            2,
            Some(&load(&target, &[&array], "r2 = map[idx:0] ll\nr3 = 1\ncall bpf_tail_call\nr0 = 200\nexit").unwrap()),
        )
        .unwrap();
    let twice =
        load(ProgramType::kprobe(), &[&array], "r2 = map[idx:0] ll\nr3 = 2\ncall bpf_tail_call\nr0 = 100\nexit")
            .unwrap();
    assert_eq!(run(&twice, 77), Ok(77 + (2 << 32)));
    assert_eq!(conversions.load(Relaxed), 3);
    // The caller's context, passed on to where it is none any more.
    array.set_program(3, Some(&load(&target, &[], "r0 = *(u64 *)(r1 +160)\nexit").unwrap())).unwrap();
    let beyond =
        load(ProgramType::kprobe(), &[&array], "r2 = map[idx:0] ll\nr3 = 3\ncall bpf_tail_call\nr0 = 100\nexit")
            .unwrap();
    assert!(
        matches!(run(&beyond, 1), Err(RunError::Trap(trap)) if matches!(trap.kind, TrapKind::Load { .. }) && trap.insn == 0)
    );
}

#[test]
fn calls_that_fall_through() {
    let kprobe = ProgramType::kprobe();
    let array = prog_array(kprobe);
    let machine = Machine::new(1);
    let run = |text: &str| machine.run(&load(kprobe, &[&array], text).unwrap(), Context::new(&mut registers(1)));
    assert_eq!(run(CALL_1), Ok(100), "an empty slot");
    for index in ["4", "-1", "0x7fffffff"] {
        assert_eq!(
            run(&format!("r2 = map[idx:0] ll\nr3 = {index}\ncall bpf_tail_call\nr0 = 100\nexit")),
            Ok(100),
            "{index}"
        );
    }
    // Of the index 32 bits count.
    array.set_program(1, Some(&load(kprobe, &[], "r0 = 7\nexit").unwrap())).unwrap();
    assert_eq!(run("r2 = map[idx:0] ll\nr3 = 0x100000001 ll\ncall bpf_tail_call\nr0 = 100\nexit"), Ok(7));
    // What is not the context is no context.
    assert!(matches!(
        run("r1 = r10\nr2 = map[idx:0] ll\nr3 = 1\ncall bpf_tail_call\nr0 = 100\nexit"),
        Err(RunError::Trap(_))
    ));
}

#[test]
fn there_are_33_calls_in_a_row() {
    let kprobe = ProgramType::kprobe();
    let array = prog_array(kprobe);
    let count = Map::new(&MapDef::array("count", 8, 1), 1).unwrap();
    let text = "r4 = map[idx:1][0]+0 ll\nr0 = *(u64 *)(r4 +0)\nr0 += 1\n*(u64 *)(r4 +0) = r0\nr2 = map[idx:0] ll\nr3 = 1\ncall bpf_tail_call\nr0 = 100\nexit";
    let program = load(kprobe, &[&array, &count], text).unwrap();
    array.set_program(1, Some(&program)).unwrap();
    let machine = Machine::new(1);
    for turn in 1..3_u64 {
        assert_eq!(machine.run(&program, Context::new(&mut registers(1))), Ok(100));
        // Once on its own, and 33 times called.
        assert_eq!(count.lookup(&[0; 4]).unwrap().unwrap(), (34 * turn).to_ne_bytes());
    }
}

#[test]
fn a_function_is_left_by_the_end_of_what_it_calls() {
    let Types { target, .. } = types();
    let array = prog_array(&target);
    array.set_program(1, Some(&load(&target, &[], "r0 = *(u64 *)(r1 +16)\nexit").unwrap())).unwrap();
    // The function ends with the target; its caller goes on with its own context, registers and maps.
    let text = "r6 = r1\ncall f\nr1 = *(u64 *)(r6 +8)\nr0 += r1\nexit\nf:\nr2 = map[idx:0] ll\nr3 = 1\ncall bpf_tail_call\nr0 = 100\nexit";
    let program = load(ProgramType::kprobe(), &[&array], text).unwrap();
    let mut context = registers(30);
    context[8..16].copy_from_slice(&4_u64.to_ne_bytes());
    assert_eq!(Machine::new(1).run(&program, Context::new(&mut context)), Ok(34));
}

#[test]
fn an_array_that_nobody_has_is_empty() {
    let kprobe = ProgramType::kprobe();
    let array = prog_array(kprobe);
    // A program that is in the array it calls through: neither would ever go away.
    let program = load(kprobe, &[&array], CALL_1).unwrap();
    array.set_program(1, Some(&load(kprobe, &[], "r0 = 7\nexit").unwrap())).unwrap();
    let machine = Machine::new(1);
    assert_eq!(machine.run(&program, Context::new(&mut registers(1))), Ok(7));
    let clone = array.clone();
    drop(array);
    assert_eq!(machine.run(&program, Context::new(&mut registers(1))), Ok(7));
    drop(clone);
    assert_eq!(machine.run(&program, Context::new(&mut registers(1))), Ok(100));
}

struct Output {
    machine: Machine,
    events: Map,
    consumer: Consumer,
    type_: ProgramType,
}

impl Output {
    /// A machine of two CPUs, of which the first has a ring.
    fn with(attr: &Attr) -> Self {
        let ring = Ring::confined(4).private().unwrap();
        let machine = Machine::new(2);
        let events = Map::new(&MapDef::perf_event_array("events", 2), 2).unwrap();
        let event = Event::new(ring.producer().unwrap(), attr, 9).unwrap();
        machine.set_event(&events, 0, 0, event).unwrap();
        Self { machine, events, consumer: ring.consumer().unwrap(), type_: types().target }
    }

    fn new() -> Self {
        Self::with(&Event::bpf_output_attr(SampleType::empty()))
    }

    fn run_on(&self, cpu: u32, text: &str) -> Result<u64, RunError> {
        let program = load(&self.type_, &[&self.events], text).unwrap();
        self.machine.run_with(&program, Context::new(&mut [0; SIZE]), RunOptions::new().cpu(cpu))
    }

    fn run(&self, text: &str) -> Result<u64, RunError> {
        self.run_on(0, text)
    }

    fn records(&mut self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        self.consumer.for_each(|record| records.push(record.bytes().to_vec())).unwrap();
        records
    }
}

const HEAD: &str = "r6 = r1\n";
/// Reserves `size` bytes as a buffer; gives up with what reserve gave.
fn reserve(id: i32, size: i64) -> String {
    format!("r1 = r6\nr2 = {id}\nr3 = map[idx:0] ll\nr4 = {size}\ncall bpf_buffer_reserve\nif r0 == 0 goto +1\nexit\n")
}

fn commit(id: i32) -> String {
    format!("r1 = r6\nr2 = {id}\nr3 = map[idx:0] ll\ncall bpf_buffer_commit\n")
}

/// Fills the buffer at this offset of the context with copies of a number of 4 bytes.
fn fill(offset: i32, number: u32, label: &str) -> String {
    format!(
        "r1 = *(u64 *)(r6 +{offset})\nr2 = *(u64 *)(r6 +{})\n{label}:\nr3 = r1\nr3 += 4\nif r3 > r2 goto {label}_end\n*(u32 *)(r1 +0) = {number}\nr1 = r3\ngoto {label}\n{label}_end:\n",
        offset + 8
    )
}

const END: &str = "r0 = 0\nexit";

#[test]
fn a_record_is_the_one_that_output_makes() {
    for sample_type in [
        SampleType::empty(),
        SampleType::IDENTIFIER
            | SampleType::IP
            | SampleType::TID
            | SampleType::ADDR
            | SampleType::ID
            | SampleType::STREAM_ID
            | SampleType::CPU
            | SampleType::PERIOD,
    ] {
        let attr = Event::bpf_output_attr(sample_type);
        let mut output = Output::with(&attr);
        for size in [0_usize, 1, 4, 5, 12, 44, 48, 200, 512] {
            let padded = (size + 4).next_multiple_of(8) - 4;
            let store: String = (1..=512 / 8).map(|at| format!("*(u64 *)(r10 -{}) = 0x11223344\n", at * 8)).collect();
            // Whole words of a pattern in the frame, output; the same bytes stored through the buffer, one by one.
            let output_text = format!(
                "{HEAD}{store}r1 = r6\nr2 = map[idx:0] ll\nr3 = 0xffffffff ll\nr4 = r10\nr4 += -512\nr5 = {size}\ncall bpf_perf_event_output\nexit"
            );
            let stores: String = (0..size)
                .map(|at| format!("r2 = *(u8 *)(r10 {:+})\n*(u8 *)(r1 +{at}) = r2\n", at as i64 - 512))
                .collect();
            let reserve_text =
                format!("{HEAD}{store}{}r1 = *(u64 *)(r6 +24)\n{stores}{}{END}", reserve(24, size as i64), commit(24));
            assert_eq!(output.run(&output_text), Ok(0));
            assert_eq!(output.run(&reserve_text), Ok(0));
            let records = output.records();
            assert_eq!(records.len(), 2);
            assert_eq!(records[0], records[1], "{size} bytes with {sample_type:?}");
            let decoder = Decoder::new(&attr).unwrap();
            let decoded = decoder.decode(&records[0]).unwrap();
            let Body::Sample(sample) = decoded.body else { panic!() };
            let raw = sample.raw().unwrap();
            assert_eq!(raw.len(), padded);
            assert!(raw[size..].iter().all(|byte| *byte == 0));
            if sample_type.contains(SampleType::TID) {
                let tid = sample.tid().unwrap();
                assert_eq!(u64::from(tid.pid), u64::from(std::process::id()));
                assert_eq!((sample.id(), sample.cpu().map(u64::from)), (Some(9), Some(0)));
            }
        }
    }
}

#[test]
fn buffers_close_in_either_order() {
    for (first, second) in [(24, 40), (40, 24)] {
        let mut output = Output::new();
        let text = format!(
            "{HEAD}{}{}{}{}{}r7 = 1\n{}{END}",
            reserve(24, 12),
            reserve(40, 20),
            fill(24, 1, "one"),
            fill(40, 2, "two"),
            commit(first),
            commit(second)
        );
        assert_eq!(output.run(&text), Ok(0));
        let records = output.records();
        assert_eq!(records.iter().map(Vec::len).collect::<Vec<_>>(), [24, 32]);
        assert!(records[0][12..].chunks(4).all(|word| word == [1, 0, 0, 0]), "{records:?}");
        assert!(records[1][12..].chunks(4).all(|word| word == [2, 0, 0, 0]), "{records:?}");
    }
}

#[test]
fn output_while_a_buffer_is_open() {
    let mut output = Output::new();
    let nested = "*(u64 *)(r10 -8) = 7\nr1 = r6\nr2 = map[idx:0] ll\nr3 = 0xffffffff ll\nr4 = r10\nr4 += -8\nr5 = 8\ncall bpf_perf_event_output\nif r0 == 0 goto +1\nexit\n";
    let text = format!("{HEAD}{}{nested}{}{}{END}", reserve(24, 12), fill(24, 1, "one"), commit(24));
    assert_eq!(output.run(&text), Ok(0));
    let records = output.records();
    assert_eq!(records.iter().map(|record| record[12]).collect::<Vec<_>>(), [1, 7]);
}

#[test]
fn what_is_not_committed_is_given_up() {
    let Types { target, .. } = types();
    let array = prog_array(&target);
    array.set_program(1, Some(&load(&target, &[], "r0 = 5\nexit").unwrap())).unwrap();
    let mut output = Output::new();
    output.type_ = target.clone();
    let open = format!("{HEAD}{}", reserve(24, 48));
    let program = |text: &str| load(&target, &[&output.events, &array], text).unwrap();
    let run =
        |text: &str| output.machine.run_with(&program(text), Context::new(&mut [0; SIZE]), RunOptions::new().cpu(0));
    assert_eq!(run(&format!("{open}{END}")), Ok(0), "exit");
    assert_eq!(
        run(&format!("{open}r1 = r6\nr2 = map[idx:1] ll\nr3 = 1\ncall bpf_tail_call\n{END}")),
        Ok(5),
        "tail call"
    );
    assert!(run(&format!("{open}r1 = 0\nr0 = *(u8 *)(r1 +0)\nexit")).is_err(), "trap");
    assert!(run(&format!("{open}back:\ngoto back\nexit")).is_err(), "end of the budget");
    let stats = output.machine.stats().unwrap();
    assert_eq!((stats.discarded, stats.traps), (4, 2));
    assert_eq!(output.records(), [] as [Vec<u8>; 0]);
    // A tail call that falls through leaves it open.
    let through = format!(
        "{open}r1 = r6\nr2 = map[idx:1] ll\nr3 = 2\ncall bpf_tail_call\n{}{}{END}",
        fill(24, 3, "three"),
        commit(24)
    );
    let program = load(&target, &[&output.events, &array], &through).unwrap();
    assert_eq!(output.machine.run_with(&program, Context::new(&mut [0; SIZE]), RunOptions::new().cpu(0)), Ok(0));
    assert_eq!(output.records().len(), 1);
}

#[test]
fn a_closed_buffer_is_out_of_reach() {
    let output = Output::new();
    let insn = |text: &str| match output.run(text) {
        Err(RunError::Trap(trap)) => (trap.kind.to_string().split(' ').next().unwrap().to_owned(), trap.insn),
        other => panic!("{other:?}:\n{text}"),
    };
    // Before it is reserved both addresses are 0.
    assert_eq!(output.run("r2 = *(u64 *)(r1 +24)\nr0 = *(u64 *)(r1 +32)\nr0 |= r2\nexit"), Ok(0));
    let open = format!("{HEAD}{}r7 = *(u64 *)(r6 +24)\n", reserve(24, 12));
    let slots =
        |text: &str| assemble_with(text, &|name| Helpers::standard().number(name).map(|id| id.0)).unwrap().len();
    // 12 bytes, as asked, and not one more.
    assert_eq!(output.run(&format!("{open}*(u32 *)(r7 +8) = 1\n{}{END}", commit(24))), Ok(0));
    assert_eq!(insn(&format!("{open}*(u32 *)(r7 +9) = 1\n{END}")), ("store".to_owned(), slots(&open)));
    // Once it is committed, not by the address that was good before, nor after a good access.
    let committed = format!("{open}*(u64 *)(r7 +0) = 1\n{}", commit(24));
    assert_eq!(insn(&format!("{committed}*(u64 *)(r7 +0) = 1\n{END}")), ("store".to_owned(), slots(&committed)));
    assert_eq!(insn(&format!("{committed}r0 = *(u64 *)(r7 +0)\n{END}")), ("load".to_owned(), slots(&committed)));
    assert_eq!(insn(&format!("{open}lock *(u32 *)(r7 +0) += r7\n{END}")), ("atomic".to_owned(), slots(&open)));
}

fn errno(errno: i32) -> Result<u64, RunError> {
    Ok((-i64::from(errno)) as u64)
}

#[test]
fn errors_of_reserve_and_commit() {
    let mut output = Output::new();
    let text = |id: i32, size: i64| format!("{HEAD}{}{END}", reserve(id, size));
    assert_eq!(output.run(&text(0, 8)), errno(libc::EINVAL), "no such buffer");
    assert_eq!(output.run(&text(32, 8)), errno(libc::EINVAL), "the end of one is no buffer");
    assert_eq!(output.run(&text(-1, 8)), errno(libc::EINVAL));
    assert_eq!(output.run(&format!("{HEAD}{}{}{END}", reserve(24, 8), reserve(24, 8))), errno(libc::EBUSY));
    assert_eq!(output.run_on(1, &text(24, 8)), errno(libc::ENOENT), "no event in the slot");
    assert_eq!(output.run(&text(24, -1)), errno(libc::ENOSPC));
    assert_eq!(output.run(&text(24, 4096)), errno(libc::ENOSPC), "more than a page");
    assert_eq!(output.run(&text(24, 0x7fff_ffff)), errno(libc::ENOSPC));
    assert_eq!(output.run(&format!("{HEAD}{}r0 += 3\nexit", commit(24))), Ok(3), "nothing open");
    assert_eq!(output.run(&format!("{HEAD}{}exit", commit(23))), errno(libc::EINVAL));
    // The ring of another CPU.
    let ring = Ring::confined(4).private().unwrap();
    let attr = Event::bpf_output_attr(SampleType::empty());
    output.machine.set_event(&output.events, 1, 0, Event::new(ring.producer().unwrap(), &attr, 0).unwrap()).unwrap();
    assert_eq!(output.run_on(1, &text(24, 8)), errno(libc::EOPNOTSUPP));
    // An event that is not for this.
    let clock = Attr { config: 0, ..attr };
    let ring = Ring::confined(4).private().unwrap();
    output.machine.set_event(&output.events, 1, 1, Event::new(ring.producer().unwrap(), &clock, 0).unwrap()).unwrap();
    assert_eq!(output.run_on(1, &text(24, 8)), errno(libc::EINVAL));
    // A map with fewer slots than there are CPUs.
    output.events = Map::new(&MapDef::perf_event_array("events", 1), 2).unwrap();
    assert_eq!(output.run_on(1, &text(24, 8)), errno(libc::E2BIG));
    // A machine of others.
    let other = Output::new();
    output.events = other.events.clone();
    assert_eq!(output.run(&text(24, 8)), errno(libc::EOPNOTSUPP));
}

#[test]
fn a_full_ring_loses_and_says_so() {
    let mut output = Output::new();
    let text = format!("{HEAD}{}{}{END}", reserve(24, 2000), commit(24));
    let results: Vec<_> = (0..12).map(|_| output.run(&text).unwrap()).collect();
    assert_eq!(results.iter().filter(|result| **result == 0).count(), 8);
    assert!(results[8..].iter().all(|result| *result as i64 == -i64::from(libc::ENOSPC)));
    assert_eq!(output.consumer.lost_total(), Some(4));
    assert_eq!(output.records().len(), 8);
}

#[test]
fn errors_of_finalize() {
    let Types { target, .. } = types();
    let machine = Machine::new(3);
    let ecb = |id: u32, probe: u32| [id.to_ne_bytes(), probe.to_ne_bytes()].concat();
    let run = |type_: &ProgramType, map: &Map, cpu: u32, rest: &str| {
        let text = format!("r6 = r1\nr2 = map[idx:0] ll\ncall bpf_finalize_context\n{rest}");
        let program = load(type_, &[map], &text).unwrap();
        let mut context = vec![0; type_.context().size().unwrap()];
        machine.run_with(&program, Context::new(&mut context), RunOptions::new().cpu(cpu))
    };
    let map = Map::new(&MapDef::array("ecbs", 8, 2), 3).unwrap();
    map.update(&1_u32.to_ne_bytes(), &ecb(7, 123), UpdateFlags::Any).unwrap();
    let both = "if r0 != 0 goto out\nr0 = *(u32 *)(r6 +4)\nr0 <<= 32\nr1 = *(u32 *)(r6 +0)\nr0 |= r1\nout:\nexit";
    assert_eq!(run(&target, &map, 1, both), Ok(123 << 32 | 7), "what the caller left for this CPU");
    assert_eq!(run(&target, &map, 0, both), Ok(0));
    assert_eq!(run(&target, &map, 2, both), errno(libc::E2BIG));
    assert_eq!(run(&target, &Map::new(&MapDef::array("ecbs", 16, 4), 3).unwrap(), 1, both), errno(libc::EINVAL));
    assert_eq!(run(&target, &Map::new(&MapDef::hash("ecbs", 4, 8, 4), 3).unwrap(), 1, both), errno(libc::EINVAL));
    let plain = ProgramType::builder("plain", layout()).helpers([HelperId::FINALIZE_CONTEXT]).build();
    assert_eq!(run(&plain, &map, 1, both), errno(libc::EINVAL), "a context that has no place for it");
    // It closes what is open.
    let mut output = Output::new();
    output.type_ = target.clone();
    let text = format!(
        "{HEAD}{}r1 = r6\nr2 = map[idx:1] ll\ncall bpf_finalize_context\nr0 = *(u64 *)(r6 +24)\nexit",
        reserve(24, 8)
    );
    let program = load(&target, &[&output.events, &map], &text).unwrap();
    assert_eq!(output.machine.run_with(&program, Context::new(&mut [0; SIZE]), RunOptions::new().cpu(0)), Ok(0));
    assert_eq!(output.records(), [] as [Vec<u8>; 0]);
}
