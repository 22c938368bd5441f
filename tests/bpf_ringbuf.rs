//! Ring buffers of programs: records that are reserved and stored into, and the consumer's side of them.

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef, MapType};
use perfring::bpf::{Arg, Context, Helpers, Machine, Program, ProgramType, RunError, TrapKind};
use perfring::ring::Consumer;

const SIZE: u32 = 1 << 16;

struct Case {
    machine: Machine,
    map: Map,
    array: Map,
    consumer: Consumer,
}

impl Case {
    fn new() -> Self {
        let map = Map::new(&MapDef::new("ring", MapType::Ringbuf, 0, 0, SIZE), 1).unwrap();
        let consumer = map.take_consumer().unwrap().unwrap();
        assert!(map.take_consumer().unwrap().is_none(), "there is one");
        let array = Map::prog_array(&MapDef::prog_array("programs", 1), ProgramType::memory()).unwrap();
        Self { machine: Machine::builder(1).fuel(Some(10_000)).build(), map, array, consumer }
    }

    fn program(&self, text: &str) -> Program {
        let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
        let insns = assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        let maps = [self.map.clone(), self.array.clone()];
        Program::builder("test", ProgramType::memory()).maps(maps).license("GPL").load(insns).unwrap()
    }

    fn run(&self, text: &str) -> Result<u64, RunError> {
        self.machine.run(&self.program(text), Context::new(&mut [0; 8]))
    }

    #[track_caller]
    fn trap(&self, text: &str) -> TrapKind {
        match self.run(text) {
            Err(RunError::Trap(trap)) => trap.kind,
            other => panic!("{other:?}:\n{text}"),
        }
    }

    /// The data of the records that there are now.
    fn records(&mut self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        self.consumer.for_each(|record| records.push(record.bytes()[12..].to_vec())).unwrap();
        records
    }
}

/// Reserves so many bytes, and keeps their address in this register; ends with 100 where there is no room.
fn reserve(register: &str, size: i64) -> String {
    format!(
        "r1 = map[idx:0] ll\nr2 = {size}\nr3 = 0\ncall bpf_ringbuf_reserve\nif r0 != 0 goto +2\nr0 = 100\nexit\n{register} = r0\n"
    )
}

fn end(register: &str, how: &str) -> String {
    format!("r1 = {register}\nr2 = 0\ncall bpf_ringbuf_{how}\n")
}

const OK: &str = "r0 = 0\nexit";

#[test]
fn records_that_are_submitted() {
    let mut case = Case::new();
    for size in [0_usize, 1, 4, 5, 12, 100] {
        let stores: String = (0..size).map(|at| format!("*(u8 *)(r6 +{at}) = {}\n", at + 1)).collect();
        assert_eq!(case.run(&format!("{}{stores}{}{OK}", reserve("r6", size as i64), end("r6", "submit"))), Ok(0));
        let mut expected: Vec<u8> = (1..=size as u8).collect();
        expected.resize((size + 4).next_multiple_of(8) - 4, 0);
        assert_eq!(case.records(), [expected], "{size} bytes");
    }
    // The same by one call.
    assert_eq!(
        case.run("*(u64 *)(r10 -8) = 7\nr1 = map[idx:0] ll\nr2 = r10\nr2 += -8\nr3 = 5\nr4 = 0\ncall bpf_ringbuf_output\nexit"),
        Ok(0)
    );
    assert_eq!(case.records(), [[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]);
}

#[test]
fn in_either_order_and_discarded() {
    let mut case = Case::new();
    let both = format!("{}{}*(u32 *)(r6 +0) = 1\n*(u32 *)(r7 +0) = 2\n", reserve("r6", 4), reserve("r7", 4));
    for (first, second) in [("r6", "r7"), ("r7", "r6")] {
        assert_eq!(case.run(&format!("{both}{}{}{OK}", end(first, "submit"), end(second, "submit"))), Ok(0));
        assert_eq!(case.records(), [[1, 0, 0, 0], [2, 0, 0, 0]]);
    }
    assert_eq!(case.run(&format!("{both}{}{}{OK}", end("r6", "discard"), end("r7", "submit"))), Ok(0));
    assert_eq!(case.records(), [[2, 0, 0, 0]]);
    assert_eq!(case.machine.stats().unwrap().discarded, 0, "what a program discards it has not left open");
}

#[test]
fn what_is_left_open_is_given_up() {
    let mut case = Case::new();
    case.array.set_program(0, Some(&case.program("r0 = 5\nexit"))).unwrap();
    let open = format!("r8 = r1\n{}*(u64 *)(r6 +0) = 1\n", reserve("r6", 8));
    assert_eq!(case.run(&format!("{open}{OK}")), Ok(0));
    assert_eq!(case.run(&format!("{open}r1 = r8\nr2 = map[idx:1] ll\nr3 = 0\ncall bpf_tail_call\n{OK}")), Ok(5));
    assert!(matches!(case.trap(&format!("{open}r0 = *(u8 *)(r6 +8)\nexit")), TrapKind::Load { size: 1, .. }));
    assert_eq!(case.trap(&format!("{open}back:\ngoto back\nexit")), TrapKind::Fuel);
    let stats = case.machine.stats().unwrap();
    assert_eq!((stats.discarded, stats.traps), (4, 2));
    assert_eq!(case.run(&format!("{open}{}{OK}", end("r6", "submit"))), Ok(0));
    assert_eq!(case.records(), [[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]], "the ring goes on");
}

#[test]
fn the_reach_of_a_record() {
    let case = Case::new();
    // What was asked for, and not what fills the record up.
    let open = reserve("r6", 5);
    assert_eq!(case.run(&format!("{open}*(u8 *)(r6 +4) = 1\n{}{OK}", end("r6", "submit"))), Ok(0));
    for (access, size) in [("*(u8 *)(r6 +5) = 1", 1), ("*(u16 *)(r6 +4) = 1", 2), ("*(u8 *)(r6 -1) = 1", 1)] {
        match case.trap(&format!("{open}{access}\n{OK}")) {
            TrapKind::Store { size: found, .. } => assert_eq!(found, size, "{access}"),
            other => panic!("{other}"),
        }
    }
    // Memory for helpers and for atomic operations.
    let updates = format!(
        "{}r1 = 3\nlock *(u32 *)(r6 +0) += r1\nr1 = r6\nr2 = 16\ncall bpf_get_current_comm\nr7 = r0\n",
        reserve("r6", 16)
    );
    assert_eq!(case.run(&format!("{updates}{}r0 = r7\nexit", end("r6", "submit"))), Ok(0));
    // Once it is closed, it is out of reach, after a good access too, and closed by a function that was called.
    let closed = format!("{}*(u64 *)(r6 +0) = 1\n{}", reserve("r6", 8), end("r6", "submit"));
    assert!(matches!(case.trap(&format!("{closed}*(u64 *)(r6 +0) = 1\n{OK}")), TrapKind::Store { size: 8, .. }));
    assert!(matches!(case.trap(&format!("{closed}r0 = *(u64 *)(r6 +0)\nexit")), TrapKind::Load { size: 8, .. }));
    let called = format!(
        "{}r0 = *(u64 *)(r6 +0)\ncall f\nr0 = *(u64 *)(r6 +0)\nexit\nf:\n{}{OK}",
        reserve("r6", 8),
        end("r6", "discard")
    );
    assert!(matches!(case.trap(&called), TrapKind::Load { size: 8, .. }));
    // Neither twice nor from its middle.
    for twice in [format!("{closed}{}{OK}", end("r6", "submit")), format!("{closed}{}{OK}", end("r6", "discard"))] {
        assert!(matches!(case.trap(&twice), TrapKind::Argument { at: 1, wanted: Arg::Record, .. }), "{twice}");
    }
    let middle = format!("{}r6 += 4\n{}{OK}", reserve("r6", 8), end("r6", "submit"));
    assert!(matches!(case.trap(&middle), TrapKind::Argument { at: 1, wanted: Arg::Record, .. }));
}

#[test]
fn what_is_refused() {
    let mut case = Case::new();
    let errno = |errno: i32| Ok(-i64::from(errno) as u64);
    let plain = |size: &str, flags: &str| {
        format!(
            "r1 = map[idx:0] ll\nr2 = {size}\nr3 = {flags}\ncall bpf_ringbuf_reserve\nif r0 == 0 goto +1\nr0 = 1\nexit"
        )
    };
    assert_eq!(case.run(&plain("8", "0")), Ok(1));
    assert_eq!(case.run(&plain("8", "1")), Ok(0), "flags");
    for size in ["0x10000", "0x7fffffff", "-1", "0x8000000000000000 ll"] {
        assert_eq!(case.run(&plain(size, "0")), Ok(0), "{size} bytes");
    }
    // Eight at once.
    let nine: String = (0..9).map(|_| reserve("r6", 8)).collect();
    assert_eq!(case.run(&format!("{nine}r0 = 1\nexit")), Ok(100));
    assert_eq!(case.machine.stats().unwrap().discarded, 1 + 8);
    let output = |flags: i32, size: i32| {
        format!("r1 = map[idx:0] ll\nr2 = r10\nr2 += -512\nr3 = {size}\nr4 = {flags}\ncall bpf_ringbuf_output\nexit")
    };
    assert_eq!(case.run(&output(4, 8)), errno(libc::EINVAL));
    for flags in 0..3 {
        assert_eq!(case.run(&output(flags, 8)), Ok(0), "{flags}");
    }
    assert_eq!(case.records().len(), 3);
    // Full: what does not fit is refused, and what was there stays.
    let mut sent = 0;
    while case.run(&output(0, 512)) == Ok(0) {
        sent += 1;
        assert!(sent <= SIZE / 512);
    }
    assert_eq!(case.run(&output(0, 512)), errno(libc::EAGAIN));
    let query =
        |what: i32| case.run(&format!("r1 = map[idx:0] ll\nr2 = {what}\ncall bpf_ringbuf_query\nexit")).unwrap();
    assert_eq!((query(1), query(4)), (u64::from(SIZE), 0));
    assert_eq!(query(0), query(3) - query(2));
    assert!(query(0) >= u64::from(sent) * 528 && query(0) <= u64::from(SIZE));
    assert_eq!(case.records().iter().filter(|record| record.len() == 516).count(), sent as usize);
}
