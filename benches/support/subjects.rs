//! Programs to be verified: those of the committed objects, and generated ones that are large or hard.

use perfring::bpf::elf::Object;
use perfring::bpf::insn::{Insn, assemble};
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::program_type::{ContextLayout, Field, Pointer};
use perfring::bpf::{Loader, Machine, Program, ProgramType};
use std::fmt::Write as _;

/// A program, and as what the kernel loads it (`BPF_PROG_TYPE_*`), if it can.
pub struct Subject {
    pub name: String,
    pub program: Program,
    pub kernel: Option<u32>,
}

const OBJECTS: &[(&str, &[u8])] = &[
    ("calls", include_bytes!("../../tests/bpf/calls.bpf.o")),
    ("data", include_bytes!("../../tests/bpf/data.bpf.o")),
    ("equal", include_bytes!("../../tests/bpf/equal.bpf.o")),
    ("legacy", include_bytes!("../../tests/bpf/legacy.bpf.o")),
    ("maps", include_bytes!("../../tests/bpf/maps.bpf.o")),
    ("output", include_bytes!("../../tests/bpf/output.bpf.o")),
    ("reserve", include_bytes!("../../tests/bpf/reserve.bpf.o")),
];

fn kernel_type(type_: &ProgramType) -> Option<u32> {
    Some(match type_.name() {
        "socket_filter" => 1,
        "kprobe" | PROBE => 2,
        "tracepoint" => 5,
        "xdp" => 6,
        "perf_event" => 7,
        "raw_tracepoint" => 17,
        _ => return None,
    })
}

const PROBE: &str = "probe with a buffer";

/// Probes that may write into the ring; where they do not, the kernel's kprobes are the same.
fn probe() -> ProgramType {
    let mut fields: Vec<_> = vec![Field::read_only("regs", 0, 8, 21)];
    fields.push(Field::pointer("buf", 168, 8, Pointer::Buffer(168)));
    fields.push(Field::pointer("buf_end", 176, 8, Pointer::BufferEnd(168)));
    let layout = ContextLayout::fields(184, fields).expect("a layout");
    ProgramType::builder(PROBE, layout).all_helpers().build()
}

/// The programs of the objects.
pub fn of_objects() -> Vec<Subject> {
    let (machine, probe) = (Machine::new(1), probe());
    let mut subjects = Vec::new();
    for (file, bytes) in OBJECTS {
        let object = Object::parse(bytes).expect("a sound object");
        // The array of equal's programs is empty; those that call through it are of this type.
        let mut loader =
            Loader::new(&object, &machine).dtrace(ProgramType::kprobe()).owner("calls", ProgramType::xdp());
        // It can reserve records in a ring, and does not: the kernel would not know the helper.
        if *file == "reserve" {
            loader = loader.type_of("on_call", &probe);
        }
        let mut loaded = loader.load().expect("an object that can be loaded");
        for spec in &object.programs {
            let Some(program) = loaded.programs.remove(&spec.name) else { continue };
            let name = format!("{file}: {}", spec.name);
            subjects.push(Subject { name, kernel: kernel_type(program.type_()), program });
        }
    }
    subjects
}

/// A socket filter of this text, with this map.
fn subject(name: &str, text: &str, map: Option<MapDef>) -> Subject {
    let type_ = ProgramType::socket_filter();
    let insns = assemble(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let map = map.map(|def| Map::new(&def, 1).expect("a map"));
    let program = Program::builder(name, type_).maps(map).license("GPL").load(insns).expect("a sound program");
    Subject { name: name.to_owned(), kernel: kernel_type(type_), program }
}

/// Adds a line to a program.
macro_rules! line {
    ($text:expr, $($line:tt)*) => { writeln!($text, $($line)*).expect("strings take everything") };
}

pub fn generated() -> Vec<Subject> {
    vec![
        straight(4_000),
        branches(200),
        subject("loop of 10,000 rounds", "r0 = 0\nl: r0 += 1\nif r0 < 10000 goto l\nexit", None),
        sum(1_000),
        spills(60, 4),
        chain(100),
        tree(6),
        copies(16),
        subject(
            "loop of 330,000 rounds, 990,000 instructions",
            "r0 = 0\nr1 = 0\nl: r0 += 1\nr1 += r0\nif r0 < 330000 goto l\nexit",
            None,
        ),
        paths(17),
    ]
}

/// Arithmetic on two numbers.
fn straight(insns: usize) -> Subject {
    let mut text = "r6 = r1\nr0 = *(u32 *)(r6 +0)\nr1 = *(u32 *)(r6 +4)\n".to_owned();
    let steps = ["r0 += r1", "r1 ^= 5", "r0 &= 0xffff", "r1 <<= 1", "r1 -= r0", "r0 |= 3"];
    for at in 0..insns - 4 {
        line!(text, "{}", steps[at % steps.len()]);
    }
    subject(&format!("{insns} instructions in a row"), &(text + "exit"), None)
}

/// Branches one after the other, that come together again.
fn branches(count: usize) -> Subject {
    let mut text = "r6 = r1\nr7 = 0\n".to_owned();
    for at in 0..count {
        line!(text, "r0 = *(u32 *)(r6 +{})\nif r0 == {at} goto a{at}", 4 * (at % 12));
        line!(text, "r7 += 1\ngoto b{at}\na{at}: r7 += 2\nb{at}: r8 = {at}");
    }
    subject(&format!("{count} branches that join"), &(text + "r0 = r7\nexit"), None)
}

/// Adds up elements of an array, whose value each round looks up.
fn sum(rounds: usize) -> Subject {
    let text = format!(
        "r6 = 0\nr7 = 0\nl: *(u32 *)(r10 -4) = r6\nr2 = r10\nr2 += -4\nr1 = map[idx:0] ll\ncall 1\nif r0 == 0 goto out\n\
         r1 = *(u64 *)(r0 +0)\nr7 += r1\nr6 += 1\nif r6 < {rounds} goto l\nout: r0 = r7\nexit"
    );
    subject(&format!("loop of {rounds} lookups"), &text, Some(MapDef::array("values", 8, rounds as u32)))
}

/// Numbers of which each is bounded on one of two ways, spilled, and read again.
fn spills(slots: usize, rounds: usize) -> Subject {
    let mut text = "r6 = r1\nr7 = 0\n".to_owned();
    for round in 0..rounds {
        for slot in 0..slots {
            let at = round * slots + slot;
            line!(text, "r1 = *(u32 *)(r6 +{})\nif r1 < {} goto s{at}", 4 * (at % 12), at + 2);
            line!(text, "r1 = {at}\ns{at}: *(u64 *)(r10 -{}) = r1", 8 * (slot + 1));
        }
        for slot in 0..slots {
            line!(text, "r1 = *(u64 *)(r10 -{})\nr7 += r1", 8 * (slot + 1));
        }
    }
    subject(&format!("{} spills behind branches", slots * rounds), &(text + "r0 = r7\nexit"), None)
}

/// Functions that are called one after the other.
fn chain(functions: usize) -> Subject {
    let mut text = "r0 = 0\n".to_owned();
    for at in 0..functions {
        line!(text, "r1 = r0\nr2 = {at}\ncall f{at}");
    }
    text += "exit\n";
    for at in 0..functions {
        line!(text, "f{at}: *(u64 *)(r10 -8) = r1\nif r1 > r2 goto g{at}\nr1 += 7");
        line!(text, "g{at}: r0 = r1\nr3 = *(u64 *)(r10 -8)\nr0 ^= r3\nr0 &= 255\nexit");
    }
    subject(&format!("{functions} functions in a row"), text.trim_end(), None)
}

/// Functions of which each calls the next one twice.
fn tree(depth: usize) -> Subject {
    let mut text = "call f0\nexit\n".to_owned();
    for at in 0..depth {
        line!(text, "f{at}: r6 = r1\ncall f{}\nr7 = r0\nr1 = r6\ncall f{}\nr0 += r7\nexit", at + 1, at + 1);
    }
    line!(text, "f{depth}: r0 = *(u32 *)(r1 +0)\nif r0 > 100 goto out\nr0 += 1\nout: exit");
    subject(&format!("{depth} functions deep, each called twice"), text.trim_end(), None)
}

/// Bounded copies of bytes of the packet on the stack, at offsets that are not known.
fn copies(count: usize) -> Subject {
    let mut text = "r6 = r1\n".to_owned();
    for slot in 1..=8 {
        line!(text, "*(u64 *)(r10 -{}) = 0", 8 * slot);
    }
    for at in 0..count {
        line!(text, "r7 = *(u32 *)(r6 +{})\nif r7 > 63 goto out", 4 * (at % 12));
        line!(text, "r2 = r10\nr2 += -64\nr2 += r7\nr3 = *(u32 *)(r6 +0)\n*(u8 *)(r2 +0) = r3");
    }
    subject(&format!("{count} stores at variable offsets"), &(text + "out: r0 = 0\nexit"), None)
}

/// As many paths as there are numbers of so many bits: the sum of the bits is an offset, so that no path covers another.
fn paths(bits: usize) -> Subject {
    let mut text =
        "r6 = r1\nr7 = 0\n*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\nr1 = map[idx:0] ll\ncall 1\nif r0 == 0 goto out\n\
        r8 = r0\n"
            .to_owned();
    for bit in 0..bits {
        line!(text, "r0 = *(u32 *)(r6 +0)\nif r0 == {bit} goto b{bit}\nr7 += {}\nb{bit}:", 1 << bit);
    }
    text += "r8 += r7\nr0 = *(u8 *)(r8 +0)\nexit\nout: r0 = 0\nexit";
    subject(&format!("{} paths, none like another", 1 << bits), &text, Some(MapDef::array("bytes", 1 << bits, 1)))
}

/// What makes a program of which all is verified, and nothing more is done with it: put before it, a branch that nothing is known
/// of, of which the way that is followed last is refused.
pub fn refused_at_last() -> Vec<Insn> {
    let text = "r6 = r1\ncall 7\nif r0 == 1 goto wrong\ngoto right\nwrong: r0 = r2\nexit\nright: r1 = r6";
    assemble(text).expect("it is sound")
}
