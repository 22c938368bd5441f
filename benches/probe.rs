//! What a probe costs in the process that has it: disabled, and with a program that reserves, fills and commits a record of 48 bytes.
//!
//! A disabled probe is measured as what a loop takes longer with it. Firings are of one thread, and of two at once, each with a ring
//! of its own of 32 pages; a turn fires as often as such a ring holds, and the rings are read between the turns: by the thread itself,
//! or by another one, so that each line of the ring has to come back from its CPU. Medians of many turns.

use criterion as _;
use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Helpers, Program};
use perfring::dtrace::{Item, Session, program_type};
use perfring::ring::Wake;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

#[path = "support/mode.rs"]
mod mode;

perfring::probe! {
    fn step(number: u64, other: u64) = "bench:probe:loop:step";
}

/// 48 bytes of the context, field by field; 28 instructions.
const FILL: &str = "
    r6 = r1
    r2 = 232
    r3 = map[idx:0] ll
    r4 = 48
    call bpf_buffer_reserve
    if r0 != 0 goto out
    r1 = *(u64 *)(r6 +232)
    r2 = *(u64 *)(r6 +240)
    r3 = r1
    r3 += 48
    if r3 > r2 goto commit
    r2 = *(u64 *)(r6 +248)
    *(u64 *)(r1 +0) = r2
    r2 = *(u64 *)(r6 +256)
    *(u64 *)(r1 +8) = r2
    r2 = *(u32 *)(r6 +172)
    *(u32 *)(r1 +16) = r2
    r2 = *(u32 *)(r6 +204)
    *(u32 *)(r1 +20) = r2
    r2 = *(u32 *)(r6 +200)
    *(u32 *)(r1 +24) = r2
    r2 = *(u64 *)(r6 +176)
    *(u64 *)(r1 +32) = r2
commit:
    r1 = r6
    r2 = 232
    r3 = map[idx:0] ll
    call bpf_buffer_commit
out:
    r0 = 0
    exit";

/// Firings of a turn: a ring of 32 pages, as sessions have them, holds their records.
const FIRINGS: u64 = 1_500;
const PAGES: usize = 32;

/// Some work, with a probe in it.
#[inline(never)]
pub fn with_probe(rounds: u64) -> u64 {
    let mut sum = 0;
    for round in 0..rounds {
        sum = black_box(sum + round);
        step(round, sum);
    }
    sum
}

/// Without.
#[inline(never)]
pub fn without_probe(rounds: u64) -> u64 {
    let mut sum = 0;
    for round in 0..rounds {
        sum = black_box(sum + round);
    }
    sum
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e9
}

fn time(run: impl FnOnce() -> u64) -> Duration {
    let start = Instant::now();
    black_box(run());
    start.elapsed()
}

fn disabled(turns: usize) {
    const ROUNDS: u64 = 1_000_000;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        without.push(time(|| without_probe(black_box(ROUNDS))));
        with.push(time(|| with_probe(black_box(ROUNDS))));
    }
    let (with, without) = (median(with) / ROUNDS as f64, median(without) / ROUNDS as f64);
    println!("| ns a round | without a probe | with one, disabled | it costs |\n|---|---|---|---|");
    println!("| loop | {without:.2} | {with:.2} | **{:.2}** |\n", with - without);
}

/// A session whose rings hold what a turn fires.
fn session(threads: usize, fills: bool) -> Session {
    let builder = Session::builder().cpus(threads).per_thread().pages(PAGES).wake(Wake::Never);
    let mut session = builder.build().expect("a session");
    let events = Map::new(&MapDef::perf_event_array("events", threads as u32), threads).expect("a map");
    session.add_rings(&events).expect("rings");
    let insns = match fills {
        true => assemble_with(FILL, &|name| Helpers::standard().number(name).map(|id| id.0)).expect("a program"),
        false => assemble_with("r0 = 0\nexit", &|_| None).expect("a program"),
    };
    let program = Program::builder("fill", program_type()).maps([events]).license("GPL").load(insns).expect("loads");
    let verified = program.verify(&VerifyOptions::default()).expect("it is safe");
    assert_eq!(session.attach(verified.program(), &"bench:::step".parse().expect("a pattern")).expect("it fits"), 1);
    session.enable().expect("nobody has it");
    session
}

/// Reads a turn's records.
fn read(session: &mut Session, expected: u64) {
    let mut read = 0;
    session.read(|item| read += u64::from(matches!(item, Item::Sample { .. })));
    assert_eq!(read, expected, "nothing is lost");
}

fn fire() -> u64 {
    (0..FIRINGS).for_each(|number| step(number, number));
    FIRINGS
}

/// Nanoseconds a firing on this thread, which reads the ring, too.
fn alone(fills: bool, turns: usize) -> f64 {
    let mut session = session(1, fills);
    let turn = |_| {
        let time = time(fire);
        read(&mut session, if fills { FIRINGS } else { 0 });
        time
    };
    median((0..turns).map(turn).collect()) / FIRINGS as f64
}

/// Nanoseconds a firing, on so many threads at once, as each of them measures it.
fn fired(threads: usize, fills: bool, turns: usize) -> f64 {
    let mut session = session(threads, fills);
    let (start, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    let times = std::thread::scope(|scope| {
        let work = || {
            let mut times = Vec::with_capacity(turns);
            for _ in 0..turns {
                start.wait();
                times.push(time(fire));
                end.wait();
            }
            times
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for _ in 0..turns {
            start.wait();
            end.wait();
            read(&mut session, if fills { threads as u64 * FIRINGS } else { 0 });
        }
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    median(times) / FIRINGS as f64
}

fn main() {
    let turns = if mode::is_trial() { 1 } else { 2001 };
    disabled(turns.min(51));
    println!("| ns a firing | nothing | reserve 48 bytes, fill, commit |\n|---|---|---|");
    let alone = [false, true].map(|fills| alone(fills, turns));
    println!("| one thread, which reads its ring, too | {:.1} | **{:.1}** |", alone[0], alone[1]);
    let one = [false, true].map(|fills| fired(1, fills, turns));
    let two = [false, true].map(|fills| fired(2, fills, turns));
    println!("| one thread, another one reads | {:.1} | **{:.1}** |", one[0], one[1]);
    println!("| two threads at once, each, another one reads | {:.1} | **{:.1}** |", two[0], two[1]);
    println!(
        "| what two threads do of what one does | {:.2} | **{:.2}** |",
        2.0 * one[0] / two[0],
        2.0 * one[1] / two[1]
    );
}
