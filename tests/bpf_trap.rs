//! What programs may not do in checked mode: each stops them, says where, and harms nothing.

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef, MapFlags};
use perfring::bpf::{Context, Helpers, Machine, Program, ProgramType, RunError, TrapKind};

struct Case {
    machine: Machine,
    maps: Vec<Map>,
}

impl Case {
    fn new() -> Self {
        let machine = Machine::builder(1).fuel(Some(10_000)).build();
        let read_only = MapDef::array("read_only", 8, 1).flags(MapFlags::RDONLY_PROG);
        let maps = [MapDef::array("values", 12, 2), read_only, MapDef::hash("hash", 4, 8, 4)];
        let maps = maps.iter().map(|def| Map::new(def, 1).unwrap()).collect();
        Self { machine, maps }
    }

    fn program(&self, type_: &ProgramType, text: &str) -> Program {
        let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
        let insns = assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        Program::builder("test", type_).maps(self.maps.clone()).license("GPL").load(insns).unwrap()
    }

    fn run(&self, type_: &ProgramType, text: &str) -> Result<u64, RunError> {
        let mut context = vec![0; type_.context().size().unwrap_or(16)];
        let mut packet = [7; 20];
        self.machine.run(&self.program(type_, text), Context::new(&mut context).packet(&mut packet))
    }

    /// The trap of the program, after which another one runs as ever.
    #[track_caller]
    fn trap(&self, type_: &ProgramType, text: &str) -> (usize, TrapKind) {
        let trap = match self.run(type_, text) {
            Err(RunError::Trap(trap)) => trap,
            other => panic!("{other:?}:\n{text}"),
        };
        assert_eq!(self.run(ProgramType::memory(), "r0 = 3\nexit"), Ok(3));
        assert_eq!(trap.program, "test");
        (trap.insn, trap.kind)
    }

    /// The instruction at which an access is refused: load, store.
    #[track_caller]
    fn refused(&self, type_: &ProgramType, text: &str) -> (usize, &'static str) {
        match self.trap(type_, text) {
            (insn, TrapKind::Load { .. }) => (insn, "load"),
            (insn, TrapKind::Store { .. }) => (insn, "store"),
            (insn, TrapKind::Atomic { .. }) => (insn, "atomic"),
            other => panic!("{other:?}:\n{text}"),
        }
    }
}

#[test]
fn frames_end() {
    let case = Case::new();
    let memory = ProgramType::memory();
    for size in ["u8", "u16", "u32", "u64"] {
        let bytes = size[1..].parse::<i32>().unwrap() / 8;
        for offset in [1 - bytes, -513] {
            for base in ["r2 = r10", "r2 = r10\nr2 += 0"] {
                let load = format!("{base}\nr0 = *({size} *)(r2 {offset:+})\nexit");
                let at = base.lines().count();
                assert_eq!(case.refused(memory, &load), (at, "load"), "{load}");
                let store = format!("{base}\n*({size} *)(r2 {offset:+}) = 1\nr0 = 0\nexit");
                assert_eq!(case.refused(memory, &store), (at, "store"), "{store}");
            }
            // Relative to r10 itself, too.
            assert_eq!(case.refused(memory, &format!("r0 = *({size} *)(r10 {offset:+})\nexit")), (0, "load"));
        }
        for offset in [-bytes, -512] {
            assert_eq!(case.run(memory, &format!("r2 = r10\nr0 = *({size} *)(r2 {offset:+})\nexit")), Ok(0));
        }
    }
    // A function does not reach below its own frame, and after it its frame is gone.
    assert_eq!(case.refused(memory, "r1 = r10\ncall f\nexit\nf:\nr0 = *(u64 *)(r1 -1032)\nexit"), (3, "load"));
    assert_eq!(
        case.refused(memory, "call f\nr0 = *(u64 *)(r0 +0)\nexit\nf:\nr0 = r10\nr0 += -8\nr1 = *(u64 *)(r0 +0)\nexit"),
        (1, "load")
    );
}

#[test]
fn addresses_that_are_none() {
    let case = Case::new();
    let memory = ProgramType::memory();
    for value in ["0 ll", "1 ll", "-1", "0x7fffffffffffffff ll", "0xfffffffffffffff8 ll", "map[idx:0] ll"] {
        let slots = if value.ends_with("ll") { 2 } else { 1 };
        assert_eq!(
            case.refused(memory, &format!("r1 = {value}\nr0 = *(u8 *)(r1 +0)\nexit")),
            (slots, "load"),
            "{value}"
        );
        assert_eq!(
            case.refused(memory, &format!("r1 = {value}\n*(u64 *)(r1 +0) = 0\nexit")),
            (slots, "store"),
            "{value}"
        );
        assert_eq!(case.refused(memory, &format!("r1 = {value}\nlock *(u64 *)(r1 +0) += r1\nexit")), (slots, "atomic"));
    }
    assert_eq!(case.refused(memory, "r1 = subprog[+3] ll\nr0 = *(u64 *)(r1 +0)\nexit\nr0 = 0\nexit"), (2, "load"));
}

#[test]
fn memory_ends() {
    let case = Case::new();
    let memory = ProgramType::memory();
    assert_eq!(case.run(memory, "r0 = *(u64 *)(r1 +8)\nexit"), Ok(0));
    for (text, kind) in [
        ("r0 = *(u8 *)(r1 +16)\nexit", "load"),
        ("r0 = *(u64 *)(r1 +9)\nexit", "load"),
        ("r0 = *(u8 *)(r1 -1)\nexit", "load"),
        ("*(u32 *)(r1 +13) = 0\nr0 = 0\nexit", "store"),
        ("*(u64 *)(r1 -7) = 0\nr0 = 0\nexit", "store"),
    ] {
        assert_eq!(case.refused(memory, text), (0, kind), "{text}");
    }
    // Also once a good access has shown where the memory is.
    assert_eq!(case.refused(memory, "r0 = *(u64 *)(r1 +0)\nr0 = *(u64 *)(r1 +9)\nexit"), (1, "load"));
    assert_eq!(case.refused(memory, "*(u64 *)(r1 +0) = 1\n*(u16 *)(r1 +15) = 0\nr0 = 0\nexit"), (1, "store"));
}

#[test]
fn contexts_have_rules() {
    let case = Case::new();
    let kprobe = ProgramType::kprobe();
    assert_eq!(case.run(kprobe, "r0 = *(u64 *)(r1 +112)\nexit"), Ok(0));
    assert_eq!(case.run(kprobe, "r0 = *(u32 *)(r1 +4)\nexit"), Ok(0));
    assert_eq!(case.refused(kprobe, "r0 = *(u64 *)(r1 +4)\nexit"), (0, "load"));
    assert_eq!(case.refused(kprobe, "*(u64 *)(r1 +0) = 1\nr0 = 0\nexit"), (0, "store"));
    assert_eq!(case.refused(kprobe, "lock *(u64 *)(r1 +0) += r1\nr0 = 0\nexit"), (0, "atomic"));
    let xdp = ProgramType::xdp();
    assert_eq!(case.run(xdp, "r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr0 = r3\nr0 -= r2\nexit"), Ok(20));
    assert_eq!(case.run(xdp, "r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +19)\n*(u8 *)(r2 +19) = 1\nexit"), Ok(7));
    assert_eq!(case.refused(xdp, "r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +20)\nexit"), (1, "load"));
    assert_eq!(case.refused(xdp, "r2 = *(u32 *)(r1 +4)\nr0 = *(u16 *)(r2 -1)\nexit"), (1, "load"));
    assert_eq!(case.refused(xdp, "r2 = *(u32 *)(r1 +0)\nlock *(u32 *)(r2 +0) += r1\nr0 = 0\nexit"), (1, "atomic"));
    assert_eq!(case.refused(xdp, "r0 = *(u16 *)(r1 +0)\nexit"), (0, "load"), "a pointer is loaded whole");
    assert_eq!(case.refused(xdp, "*(u32 *)(r1 +0) = 0\nr0 = 0\nexit"), (0, "store"));
    let tracepoint = ProgramType::tracepoint();
    assert_eq!(case.run(tracepoint, "r0 = *(u64 *)(r1 +8)\nexit"), Ok(0));
    assert_eq!(case.refused(tracepoint, "r0 = *(u64 *)(r1 +0)\nexit"), (0, "load"));
    assert_eq!(case.refused(tracepoint, "r0 = *(u64 *)(r1 +8)\n*(u64 *)(r1 +8) = 1\nexit"), (1, "store"));
}

#[test]
fn values_end() {
    let case = Case::new();
    let memory = ProgramType::memory();
    // Values of 12 bytes, the second behind the first at 16: what lies between is nobody's.
    for (offset, size, fine) in
        [(8, "u32", true), (9, "u32", false), (12, "u8", false), (15, "u8", false), (16, "u8", true), (28, "u8", false)]
    {
        let text = format!("r1 = map[idx:0][0]+0 ll\nr0 = *({size} *)(r1 +{offset})\nexit");
        if fine {
            assert_eq!(case.run(memory, &text), Ok(0), "{text}");
        } else {
            assert_eq!(case.refused(memory, &text), (2, "load"), "{text}");
        }
    }
    assert_eq!(case.run(memory, "r1 = map[idx:1][0]+0 ll\nr0 = *(u64 *)(r1 +0)\nexit"), Ok(0));
    assert_eq!(
        case.refused(memory, "r1 = map[idx:1][0]+0 ll\nr0 = *(u64 *)(r1 +0)\n*(u64 *)(r1 +0) = 1\nexit"),
        (3, "store")
    );
    assert_eq!(case.refused(memory, "r1 = map[idx:1][0]+0 ll\nlock *(u64 *)(r1 +0) += r1\nexit"), (2, "atomic"));
    assert_eq!(
        case.refused(memory, "r1 = map[idx:0][0]+0 ll\nlock *(u64 *)(r1 +4) += r1\nexit"),
        (2, "atomic"),
        "misaligned"
    );
}

/// The helper, the number of the argument, and its value's name are in the message.
#[test]
fn arguments_of_helpers() {
    let case = Case::new();
    let memory = ProgramType::memory();
    let key = "*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\n";
    for (text, helper, at) in [
        (format!("{key}r1 = 0\ncall bpf_map_lookup_elem\nexit"), "bpf_map_lookup_elem", 1),
        (format!("{key}r1 = r10\ncall bpf_map_lookup_elem\nexit"), "bpf_map_lookup_elem", 1),
        ("r1 = map[idx:0] ll\nr2 = 0\ncall bpf_map_lookup_elem\nexit".to_owned(), "bpf_map_lookup_elem", 2),
        ("r1 = map[idx:0] ll\nr2 = r10\nr2 += -3\ncall bpf_map_lookup_elem\nexit".to_owned(), "bpf_map_lookup_elem", 2),
        (
            format!("{key}r1 = map[idx:2] ll\nr3 = r10\nr3 += -7\nr4 = 0\ncall bpf_map_update_elem\nexit"),
            "bpf_map_update_elem",
            3,
        ),
        ("r1 = r10\nr1 += -8\nr2 = 9\ncall bpf_get_current_comm\nexit".to_owned(), "bpf_get_current_comm", 1),
        ("r1 = r10\nr1 += -8\nr2 = 0\ncall bpf_get_current_comm\nexit".to_owned(), "bpf_get_current_comm", 2),
        ("r1 = r10\nr1 += -8\nr2 = -1\ncall bpf_get_current_comm\nexit".to_owned(), "bpf_get_current_comm", 1),
        ("r1 = 1\nr2 = r10\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit".to_owned(), "bpf_loop", 2),
        ("r1 = r10\nr1 += -8\nr2 = 8\nr3 = map[idx:0][0]+0 ll\ncall bpf_strncmp\nexit".to_owned(), "bpf_strncmp", 3),
        ("r1 = 1\nr2 = 0\ncall bpf_ringbuf_submit\nexit".to_owned(), "bpf_ringbuf_submit", 1),
        ("r2 = map[idx:0] ll\nr3 = 0\ncall bpf_tail_call\nexit".to_owned(), "bpf_tail_call", 2),
    ] {
        match case.trap(memory, &text).1 {
            TrapKind::Argument { name, at: found, .. } => assert_eq!((name.as_str(), found), (helper, at), "{text}"),
            other => panic!("{other}:\n{text}"),
        }
    }
    // A helper does not write to where programs may not.
    let comm = "r1 = map[idx:1][0]+0 ll\nr2 = 8\ncall bpf_get_current_comm\nexit";
    assert!(matches!(case.trap(memory, comm).1, TrapKind::Argument { at: 1, .. }));
}

#[test]
fn budgets_end() {
    let case = Case::new();
    let memory = ProgramType::memory();
    for text in [
        "back:\ngoto back\nexit",
        "r0 = 0\nback:\nr0 += 1\nif r0 != 0 goto back\nexit",
        "back:\nif w1 == w1 goto back\nexit",
        // Calls without any way back.
        "call a\ncall a\ncall a\nexit\na:\ncall b\ncall b\ncall b\ncall b\ncall b\ncall b\ncall b\ncall b\nexit\nb:\ncall c\ncall c\ncall c\ncall c\ncall c\ncall c\ncall c\ncall c\nexit\n\
         c:\ncall d\ncall d\ncall d\ncall d\ncall d\ncall d\ncall d\ncall d\nexit\nd:\ncall e\ncall e\ncall e\ncall e\ncall e\ncall e\ncall e\ncall e\nexit\ne:\nr0 = 0\nexit",
        "r1 = 1000000\nr2 = subprog[+5] ll\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit\nr0 = 0\nexit",
    ] {
        assert_eq!(case.trap(memory, text).1, TrapKind::Fuel, "{text}");
    }
}

#[test]
fn what_has_happened_is_counted() {
    let case = Case::new();
    assert!(case.run(ProgramType::memory(), "r0 = 0\nexit").is_ok());
    assert!(case.run(ProgramType::memory(), "r1 = 0\nr0 = *(u8 *)(r1 +0)\nexit").is_err());
    let stats = case.machine.stats().unwrap();
    assert_eq!((stats.runs, stats.traps, stats.reentrant, stats.no_cpu, stats.discarded), (2, 1, 0, 0, 0));
    let text = "test: instruction 1: load of 1 bytes at 0x0, which is not the program's to read";
    assert_eq!(case.run(ProgramType::memory(), "r1 = 0\nr0 = *(u8 *)(r1 +0)\nexit").unwrap_err().to_string(), text);
}
