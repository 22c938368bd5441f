//! What the running kernel says of random programs, and what is said here.
//!
//! Packets of XDP programs are what writable buffers are here, and records of ring buffers what reservations are. Each program is
//! loaded as root, and, where its type allows, without the capabilities for tracing: only then the kernel refuses what
//! would leak an address, and what reads of the stack what was never written.
//!
//! With `--cfg perfring_mutants`, and `PERFRING_MUTANT=more-than-the-kernel`, the verifier knows of numbers what the kernel knows: then
//! nothing may be accepted here only.
//!
//! `PERFRING_BPF_PROGRAMS` is how many there are of each type, `PERFRING_BPF_SEED` the seed of the first. One alone is shown.
#![cfg(feature = "bpf")]

mod bpf_kernel;
mod bpf_typed;
mod common;

use bpf_kernel::{Code, Def, Functions, prog_type, require_bpf, without_tracing};
use bpf_typed::{Case, Choices, Profile, World};
use perfring::bpf::map::MapType;
use perfring::bpf::verifier::VerifyOptions;
use perfring::record::ByteOrder;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

const PROGRAMS: u64 = 1000;

/// The types, and whether they are loaded without the capabilities for tracing, too.
const TYPES: [(Profile, u32, bool); 3] = [
    (Profile::Xdp, prog_type::XDP, true),
    (Profile::Socket, prog_type::SOCKET_FILTER, true),
    (Profile::Tracepoint, prog_type::TRACEPOINT, false),
];

/// What is refused here and not to root: it would leak addresses, or read what was not written.
const LEAKS: &[&str] = &[
    "StackUninitialised",
    "SpilledAddress",
    "OverwrittenSpill",
    "Leak",
    "LeakedResult",
    "Comparison",
    "Arithmetic",
    "Uninitialised",
];

/// What the kernel refuses and that is fine here: a part of its message, and why.
///
/// Beside these there is what is known here and not to the kernel, of which no message tells: quotients and rests, shifts by what is
/// not known, a number less itself, or with itself by exclusive or, what loads from the packet may give, parts from the middle of
/// a number that was spilled, and keys of arrays that were stored with more beside them. The tables have cases for each. What is so
/// accepted is run, and not stopped, and there is little of it.
const FINE: [(&str, &str); 7] = [
    ("unreachable insn", "instructions that nothing leads to are left alone"),
    ("BPF program is too large", "paths are counted otherwise"),
    ("jumps is too complex", "more branches may wait here"),
    (
        "tail_calls are not allowed when call stack of previous frames is",
        "the kernel's stack is small, and frames here are apart",
    ),
    (
        "verifier bug: No program to jit",
        "the kernel loses functions whose address is taken only where nothing leads to",
    ),
    ("verifier bug: backtracking call unexpected regs", "the kernel loses its way back to where a number comes from"),
    (
        "verifier bug: static subprog leftover stack slots",
        "the kernel is at odds with itself about loads from the packet that end a function",
    ),
];

/// What the kernel refuses for what a CPU may do by speculation: nothing here runs natively.
const SPECULATION: &[&str] = &["prohibited for !root", "speculat"];

/// A program as the kernel takes it.
struct Loadable {
    insns: Vec<u64>,
    functions: Option<Functions>,
}

impl Loadable {
    fn of(case: &Case) -> Self {
        let insns = case.program.code().insns();
        let functions = Functions::of(insns).expect("BTF");
        let insns = insns.iter().map(|insn| u64::from_ne_bytes(insn.to_bytes(ByteOrder::NATIVE))).collect();
        Self { insns, functions }
    }

    fn code<'a>(&'a self, prog_type: u32, maps: &'a [&'a bpf_kernel::Map]) -> Code<'a> {
        Code { prog_type, insns: &self.insns, maps, functions: self.functions.as_ref() }
    }

    /// What the kernel says last, if it refuses.
    fn load(&self, prog_type: u32, maps: &[&bpf_kernel::Map]) -> Result<(), String> {
        let code = self.code(prog_type, maps);
        // The log takes the kernel long.
        code.load().map(drop).map_err(|errno| {
            let (_, log) = code.logged_load(1);
            let said = |line: &&str| {
                let statistics = ["processed ", "verification time", "stack depth"];
                !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start))
            };
            log.lines().rev().find(said).map_or_else(|| format!("{errno:?}"), str::to_owned)
        })
    }
}

/// The kernel's maps, as those of the world.
fn kernel_maps(world: &World) -> Vec<bpf_kernel::Map> {
    let make = |map: &perfring::bpf::map::Map| {
        let def = map.def();
        bpf_kernel::Map::create(Def {
            map_type: def.type_ as u32,
            key_size: def.key_size,
            value_size: def.value_size,
            max_entries: def.max_entries,
            flags: def.flags.bits(),
        })
        .unwrap_or_else(|error| panic!("{}: {error:?}", def.name))
    };
    let maps: Vec<_> = world.maps.iter().map(make).collect();
    assert_eq!(world.maps[7].def().type_, MapType::Array);
    maps[7].update(&[0; 4], &World::constant(), 0).expect("an update");
    maps[7].freeze().expect("a map that is frozen");
    maps
}

/// A message without what is of this program only.
fn class(message: &str) -> String {
    let mut class = String::new();
    for char in message.chars() {
        match char {
            '0'..='9' if class.ends_with('#') => {}
            '0'..='9' => class.push('#'),
            char => class.push(char),
        }
    }
    class
}

/// The name of a refusal.
fn refusal(case: &Case) -> Option<String> {
    let error = case.verdict.as_ref().err()?;
    let debug = format!("{:?}", error.kind);
    debug.split(|c: char| !c.is_ascii_alphanumeric()).next().map(str::to_owned)
}

/// As few lines of a program that is accepted here as the kernel refuses for the same reason.
fn smallest(world: &World, text: &str, refused: impl Fn(&Loadable) -> Option<String>) -> String {
    let why = |lines: &[String]| {
        let program = world.load(&lines.join("\n")).ok()?;
        let verdict = program.verify(&VerifyOptions::default());
        let case = Case { text: String::new(), features: Default::default(), program, verdict };
        case.verdict.is_ok().then(|| refused(&Loadable::of(&case)).map(|why| class(&why))).flatten()
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let wanted = why(&lines);
    if wanted.is_none() {
        return text.to_owned();
    }
    for len in [8, 4, 2, 1, 2, 1] {
        for start in (0..lines.len()).rev() {
            let rest = [&lines[..start], lines.get(start + len..).unwrap_or(&[])].concat();
            if why(&rest) == wanted {
                lines = rest;
            }
        }
    }
    lines.join("\n")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect(name))
}

/// Whether what is known here and not to the kernel is switched off.
fn knows_no_more() -> bool {
    cfg!(perfring_mutants) && std::env::var_os("PERFRING_MUTANT").is_some_and(|name| name == "more-than-the-kernel")
}

/// How many of a kind there are, and the seed of one.
type Tally = BTreeMap<(String, String), (u64, u64)>;

#[derive(Debug, Default)]
struct Figures {
    /// Programs that the kernel accepts, and those of them that are accepted here.
    kernel: u64,
    both: u64,
    /// Accepted here only, for no reason that is told above.
    more: u64,
    /// Those of them that were stopped when they ran.
    unsafely: Vec<String>,
    tally: Tally,
}

fn compare(profile: Profile, type_: u32, restricted: bool, seeds: std::ops::Range<u64>) -> Figures {
    let mut world = World::of(profile);
    let maps = kernel_maps(&world);
    let maps: Vec<&bpf_kernel::Map> = maps.iter().collect();
    let generate = |seed| world.generate(&mut Choices::of_seed(seed));
    let cases: Vec<(u64, Case)> = seeds.map(|seed| (seed, generate(seed))).collect();
    let loadable: Vec<Loadable> = cases.iter().map(|(_, case)| Loadable::of(case)).collect();
    let load = |program: &Loadable| program.load(type_, &maps);
    let root: Vec<_> = loadable.iter().map(load).collect();
    let careful: Vec<_> = match restricted {
        true => without_tracing(|| loadable.iter().map(load).map(Some).collect()),
        false => loadable.iter().map(|_| None).collect(),
    };
    let mut figures = Figures::default();
    for (((seed, case), root), careful) in cases.iter().zip(root).zip(careful) {
        if let [(_, case)] = &cases[..] {
            let ours = case.verdict.as_ref().map_or_else(ToString::to_string, |_| "accepted".to_owned());
            let program = Loadable::of(case);
            let (_, log) = program.code(type_, &maps).logged_load(2);
            println!("{}{ours}\n{log}\nroot: {root:?}", case.listing());
            println!("without the capabilities for tracing: {careful:?}");
            if case.verdict.is_ok() && root.is_err() {
                println!("smallest:\n{}\n", smallest(&world, &case.text, |program| program.load(type_, &maps).err()));
            }
        }
        let ours = refusal(case);
        let is_one_of = |among: &[&str], said: &str| among.iter().any(|part| said.contains(part));
        let (theirs, leaks_are_told) = match (root, careful) {
            (Err(why), _) => (Err(why), true),
            (Ok(()), None) => (Ok(()), false),
            (Ok(()), Some(Err(why))) if is_one_of(SPECULATION, &why) => {
                let said = ("(speculation) ".to_owned() + &class(&why), ours.clone().unwrap_or_default());
                figures.tally.entry(said).or_insert((0, *seed)).0 += 1;
                (Ok(()), false)
            }
            (Ok(()), Some(said)) => (said, true),
        };
        let leak = ours.as_ref().is_some_and(|ours| LEAKS.contains(&ours.as_str()));
        match (&theirs, &ours) {
            (Ok(()), Some(_)) if leak && !leaks_are_told => continue,
            (Ok(()), ours) => {
                figures.kernel += 1;
                figures.both += u64::from(ours.is_none());
            }
            (Err(why), None) => {
                if !is_one_of(&FINE.map(|(part, _)| part), why) {
                    figures.more += 1;
                    println!("{profile:?} {seed}: accepted here only: {why}");
                }
                if let Ok(verified) = &case.verdict
                    && let Err(wrong) = world.check(case, verified, *seed)
                {
                    figures.unsafely.push(format!("{profile:?} {seed}: {why}; {wrong}\n{}", case.listing()));
                }
            }
            (Err(_), _) => {}
        }
        let theirs = theirs.err().map_or_else(|| "accepted".to_owned(), |why| class(&why));
        let ours = ours.unwrap_or_else(|| "accepted".to_owned());
        figures.tally.entry((theirs, ours)).or_insert((0, *seed)).0 += 1;
    }
    figures
}

#[test]
fn random_programs_get_the_kernels_verdict() {
    if !require_bpf() {
        return;
    }
    let programs = number("PERFRING_BPF_PROGRAMS").unwrap_or(PROGRAMS);
    let first = number("PERFRING_BPF_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos())) << 32
    });
    let mut failures = String::new();
    for (profile, type_, restricted) in TYPES {
        let Figures { kernel, both, more, unsafely, tally } =
            compare(profile, type_, restricted, first..first + programs);
        println!("{profile:?}: {both} of {kernel} that the kernel accepts, and {more} that it refuses");
        let mut rows: Vec<_> = tally.into_iter().collect();
        rows.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for ((theirs, ours), (count, seed)) in rows {
            println!("{count:6} | {theirs} | {ours} | such as {seed}");
        }
        if let Some(example) = unsafely.first() {
            let _ = writeln!(failures, "{} accepted here only, and stopped, such as {example}", unsafely.len());
        }
        let most = if knows_no_more() { 0 } else { programs / 100 };
        if more > most {
            let _ = writeln!(failures, "{profile:?}: {more} are accepted that the kernel refuses");
        }
        if both * 100 < kernel * 95 {
            let _ = writeln!(failures, "{profile:?}: only {both} of {kernel} that the kernel accepts are accepted");
        }
        if programs >= 1000 {
            assert!(kernel * 5 > programs, "{profile:?}: of too few programs anything is known");
        }
    }
    assert!(failures.is_empty(), "first seed {first}\n{failures}");
}
