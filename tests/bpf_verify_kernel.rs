//! What the running kernel says of random programs, and what is said here.
//!
//! The programs are of XDP, whose packets are what writable buffers are here, and whose records of ring buffers are what
//! reservations are. They are loaded as root: of the rules that are for those who may not leak addresses the tables of
//! `tests/verify` tell.
//!
//! `PERFRING_BPF_PROGRAMS` is how many there are, `PERFRING_BPF_SEED` the seed of the first.
#![cfg(feature = "bpf")]

mod bpf_kernel;
mod bpf_typed;
mod common;

use bpf_kernel::{Def, prog_type, require_bpf};
use bpf_typed::{Choices, World};
use perfring::bpf::ProgramType;
use perfring::bpf::insn::Insn;
use perfring::bpf::map::MapType;
use perfring::record::ByteOrder;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

const PROGRAMS: u64 = 2000;

/// What is refused here and not by the kernel, to root: it would leak addresses, or read what was not written.
const LEAKS: &[&str] =
    &["StackUninitialised", "SpilledAddress", "OverwrittenSpill", "Leak", "LeakedResult", "Comparison", "Arithmetic"];

/// What the kernel refuses and that is fine here: a part of its message, and why. Beside these there are comparisons that tell
/// more here (of a register with itself, of the end of a packet with its first byte, of more than six copies of a number), and the
/// bounds of rests: what is so accepted is run, and not stopped.
const FINE: &[(&str, &str)] = &[
    (
        "tail_calls are not allowed when call stack of previous frames is",
        "the kernel's stack is small; frames here are apart",
    ),
    ("combined stack size", "the kernel adds what it needs itself"),
    ("tail_call is not allowed in subprogs without BTF", "there is no need of it"),
    ("unreachable insn", "instructions that nothing leads to are left alone"),
];

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

/// What the verifier says last, without numbers.
fn reason(log: &str) -> String {
    let line = log.lines().rev().find(|line| !line.starts_with("processed ") && !line.is_empty());
    line.unwrap_or_default().replace(|char: char| char.is_ascii_digit(), "#")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect(name))
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
    let mut world = World::of(ProgramType::xdp().clone());
    let maps = kernel_maps(&world);
    let maps: Vec<&bpf_kernel::Map> = maps.iter().collect();
    let mut tally: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    let (mut both, mut kernels, mut more) = (0, 0, 0);
    let mut unsafely = Vec::new();
    for seed in first..first + programs {
        let case = world.generate(&mut Choices::of_seed(seed));
        let insns: Vec<u64> = case
            .program
            .code()
            .insns()
            .iter()
            .map(|insn: &Insn| u64::from_ne_bytes(insn.to_bytes(ByteOrder::NATIVE)))
            .collect();
        let kernel = bpf_kernel::Program::load(prog_type::XDP, &insns, &maps);
        let ours = match &case.verdict {
            Ok(_) => "accepted".to_owned(),
            Err(error) => {
                let kind = format!("{:?}", error.kind);
                kind.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned()
            }
        };
        let theirs = match &kernel {
            Ok(_) => "accepted".to_owned(),
            Err(refused) => reason(&refused.log),
        };
        if kernel.is_ok() && !LEAKS.contains(&&*ours) {
            kernels += 1;
            both += u64::from(case.verdict.is_ok());
        }
        if let (Err(_), Ok(verified)) = (&kernel, &case.verdict)
            && !FINE.iter().any(|(part, _)| theirs.contains(part))
        {
            more += 1;
            if let Err(why) = world.check(&case, verified, seed) {
                unsafely.push((seed, format!("{theirs}; {why}"), case.listing()));
            }
        }
        tally.entry((theirs, ours)).or_insert((0, seed)).0 += 1;
    }
    for ((theirs, ours), (count, seed)) in &tally {
        println!("{count:6} kernel: {theirs} | here: {ours} | such as {seed}");
    }
    if let Some((seed, theirs, listing)) = unsafely.first() {
        for (seed, theirs, _) in &unsafely {
            println!("{seed}: {theirs}");
        }
        panic!("{} accepted here only, and stopped, such as {seed}: {theirs}\n{listing}", unsafely.len());
    }
    println!("{both} of {kernels} that the kernel accepts, and {more} that it refuses");
    assert!(more * 100 <= programs * 2, "{more} accepted that the kernel refuses");
    assert!(both * 100 >= kernels * 95, "{both} of {kernels} that the kernel accepts are accepted");
}
