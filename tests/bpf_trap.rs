//! What programs may not do in checked mode: each stops them, says where, and harms nothing.

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef, MapFlags, MapType};
use perfring::bpf::{Arg, Context, Helpers, Machine, Program, ProgramType, RunError, TrapKind};

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

/// What makes register `r` an argument that a helper takes, and what it is.
fn good(arg: Arg, r: usize) -> Option<String> {
    Some(match arg {
        Arg::Any | Arg::Scalar | Arg::Constant | Arg::AllocSize | Arg::StackOrNull => format!("r{r} = 0\n"),
        Arg::Context => format!("r{r} = r6\n"),
        Arg::Map(types) => {
            let map =
                [(MapType::Hash, 2), (MapType::PerfEventArray, 3), (MapType::Ringbuf, 4), (MapType::ProgArray, 5)]
                    .into_iter()
                    .find(|(type_, _)| types.has(*type_))?;
            format!("r{r} = map[idx:{}] ll\n", map.1)
        }
        Arg::Key | Arg::Value | Arg::Memory | Arg::UninitMemory | Arg::MemoryOrNull => {
            format!("r{r} = r10\nr{r} += -64\n")
        }
        Arg::Size | Arg::SizeOrZero => format!("r{r} = 8\n"),
        Arg::ConstStr => format!("r{r} = map[idx:1][0]+0 ll\n"),
        // Comes last in the text: behind the call and the exit.
        Arg::Function => format!("r{r} = subprog[FUNCTION] ll\n"),
        _ => return None,
    })
}

/// Instructions that make register `r` what a helper does not take, and the value, where that is known.
fn bad(arg: Arg, r: usize) -> Vec<(String, Option<u64>)> {
    let number = |value: i32| (format!("r{r} = {value}\n"), Some(i64::from(value) as u64));
    let frame = (format!("r{r} = r10\nr{r} += -64\n"), None);
    let map = |index: usize| (format!("r{r} = map[idx:{index}] ll\n"), None);
    match arg {
        Arg::Context => vec![number(0), number(1), frame, (format!("r{r} = r6\nr{r} += 1\n"), None)],
        // A kind that no helper takes along with the others of the list is among them, unless it takes all.
        Arg::Map(types) => {
            let kinds = [MapType::Hash, MapType::PerfEventArray, MapType::Ringbuf, MapType::ProgArray];
            let others =
                kinds.into_iter().zip(2..).filter(|(type_, _)| !types.has(*type_)).map(|(_, index)| map(index));
            [number(0), number(-1), frame].into_iter().chain(others).collect()
        }
        Arg::Key | Arg::Value | Arg::Memory | Arg::UninitMemory => {
            // The frame's last bytes: 3 of a key of 4, 7 of a size of 8.
            let short = (format!("r{r} = r10\nr{r} += -3\n"), None);
            vec![number(0), number(1), number(-1), map(0), short]
        }
        // More bytes than there are is what the memory before it is refused for.
        Arg::Size => vec![number(0), (format!("r{r} = 0x100000000 ll\n"), Some(1 << 32))],
        Arg::ConstStr => vec![number(0), frame, (format!("r{r} = map[idx:0][0]+0 ll\n"), None)],
        Arg::Function => vec![number(0), frame, map(0)],
        Arg::StackOrNull => vec![number(1), number(-1)],
        Arg::Record => vec![number(0), frame],
        _ => vec![],
    }
}

#[test]
fn each_argument_of_each_helper() {
    let mut case = Case::new();
    let memory = ProgramType::memory();
    case.maps.push(Map::new(&MapDef::perf_event_array("events", 1), 1).unwrap());
    case.maps.push(Map::new(&MapDef::new("ring", MapType::Ringbuf, 0, 0, 4096), 1).unwrap());
    case.maps.push(Map::prog_array(&MapDef::prog_array("programs", 1), memory).unwrap());
    let slots = |text: &str| {
        let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
        assemble_with(&text.replace("FUNCTION", "+0"), &number).unwrap().len()
    };
    let mut refused = 0;
    for id in Helpers::standard().ids() {
        let prototype = Helpers::standard().prototype(id).unwrap();
        for (at, wanted) in prototype.args.into_iter().enumerate() {
            for (bad, value) in bad(wanted, at + 1) {
                let mut text = "r6 = r1\n".to_owned();
                let mut function_at = None;
                for (other, arg) in prototype.args.into_iter().enumerate().filter(|(_, arg)| *arg != Arg::None) {
                    if other == at {
                        text += &bad;
                        continue;
                    }
                    function_at = function_at.or((arg == Arg::Function).then(|| slots(&text)));
                    text += &good(arg, other + 1).unwrap_or_else(|| panic!("{arg:?} of {}", prototype.name));
                }
                let call = slots(&text);
                text += &format!("call {}\nr0 = 0\nexit\n", prototype.name);
                if let Some(function_at) = function_at {
                    // From the slot behind the first of the wide instruction.
                    text = text.replace("FUNCTION", &format!("+{}", slots(&text) - function_at - 1));
                    text += "r0 = 0\nexit\n";
                }
                let expected = (call, id, at + 1, wanted);
                match case.trap(memory, &text) {
                    (insn, TrapKind::Argument { helper, name, at, value: found, wanted }) => {
                        assert_eq!((insn, helper, at, wanted), expected, "{text}");
                        assert_eq!(name, prototype.name);
                        assert!(value.is_none_or(|value| value == found), "{text}");
                    }
                    other => panic!("{other:?} of {}:\n{text}", prototype.name),
                }
                refused += 1;
            }
        }
    }
    assert!(refused > 150, "{refused}");
}

#[test]
fn ordered_loads_and_stores() {
    let case = Case::new();
    let memory = ProgramType::memory();
    // They are atomic operations: aligned, and where those are.
    for (size, bytes) in [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)] {
        let load = format!("r0 = load_acquire(({size} *)(r10 -8))\nexit");
        assert_eq!(case.run(memory, &load), Ok(0));
        let store = format!("store_release(({size} *)(r10 -8), r1)\nr0 = 0\nexit");
        assert_eq!(case.run(memory, &store), Ok(0));
        // One beyond the end of the frame.
        assert_eq!(case.refused(memory, &load.replace("-8", "+0")), (0, "atomic"));
        assert_eq!(case.refused(memory, &store.replace("-8", "+0")), (0, "atomic"));
        if bytes > 1 {
            assert_eq!(case.refused(memory, &load.replace("-8", "-9")), (0, "atomic"));
            assert_eq!(case.refused(memory, &store.replace("-8", "-9")), (0, "atomic"));
        }
    }
    // Values of maps; of one that is read-only loads alone.
    assert_eq!(case.run(memory, "r1 = map[idx:1][0]+0 ll\nr0 = load_acquire((u64 *)(r1 +0))\nexit"), Ok(0));
    assert_eq!(case.refused(memory, "r1 = map[idx:1][0]+0 ll\nstore_release((u64 *)(r1 +0), r1)\nexit"), (2, "atomic"));
    // Neither contexts nor packets, as in the kernel.
    assert_eq!(case.refused(ProgramType::kprobe(), "r0 = load_acquire((u64 *)(r1 +0))\nexit"), (0, "atomic"));
    let xdp = ProgramType::xdp();
    assert_eq!(case.refused(xdp, "r0 = load_acquire((u32 *)(r1 +0))\nexit"), (0, "atomic"));
    let packet = "r2 = *(u32 *)(r1 +0)\n";
    assert_eq!(case.refused(xdp, &format!("{packet}r0 = load_acquire((u8 *)(r2 +0))\nexit")), (1, "atomic"));
    assert_eq!(case.refused(xdp, &format!("{packet}store_release((u8 *)(r2 +0), r1)\nr0 = 0\nexit")), (1, "atomic"));
    // An address has no sign to extend.
    assert_eq!(case.refused(xdp, "r0 = *(s32 *)(r1 +0)\nexit"), (0, "load"));
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
