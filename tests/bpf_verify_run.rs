//! What the verifier accepts is never stopped, where every access is tested, but for the lack of fuel; and does the same where
//! nothing is tested.
//!
//! `PERFRING_VERIFY_PROGRAMS` is how many programs there are, `PERFRING_VERIFY_SEED` the seed of the first. With
//! `PERFRING_VERIFY_SECONDS` there are as many as fit, on all CPUs:
//!
//!     PERFRING_VERIFY_SECONDS=3600 cargo test --release --test bpf_verify_run -- --nocapture
#![cfg(feature = "bpf")]

mod bpf_typed;

use bpf_typed::{Choices, Tally, World};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PROGRAMS: u64 = 1500;

/// What programs are made of that must be in accepted ones.
const FEATURES: &[&str] = &[
    "address in steps",
    "atomic",
    "buffer",
    "callback",
    "compare and exchange",
    "constant",
    "context",
    "delete",
    "direct value",
    "fetch",
    "finalize_context",
    "function",
    "load-acquire",
    "loop",
    "loop over a value",
    "loop with a bound that is not known",
    "may_goto",
    "memory of a size that is not known",
    "memory written by a helper",
    "packet",
    "packet in a function",
    "packet over a call",
    "perf_event_output",
    "probe_read",
    "record",
    "record in a function",
    "record returned",
    "ringbuf_output",
    "ringbuf_query",
    "sign-extending load",
    "sign-extending move",
    "slot or value",
    "slot written in part",
    "smp_processor_id",
    "spill",
    "spilled value",
    "spilled value in a function",
    "store-release",
    "strncmp",
    "tail call",
    "update",
    "value",
    "value in a callback",
    "value in a function",
    "value kept",
    "value returned",
    "value written by a helper",
    "variable packet offset",
    "variable stack offset",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect(name))
}

/// Verifies and runs the program of a seed.
fn one(world: &mut World, seed: u64, tally: &mut Tally) {
    let case = world.generate(&mut Choices::of_seed(seed));
    tally.case(&case, seed);
    let Ok(verified) = case.verdict.clone() else { return };
    match world.check(&case, &verified, seed) {
        Ok(runs) => tally.runs(runs),
        Err(why) => {
            let listing = case.listing();
            let (case, least) = world.smallest(case, why.clone(), seed);
            panic!(
                "{why}\nagain with PERFRING_VERIFY_SEED={seed} PERFRING_VERIFY_PROGRAMS=1\n{listing}\n\
                 of which is enough, {least}:\n{}",
                case.listing()
            );
        }
    }
}

#[test]
fn what_is_accepted_is_not_stopped() {
    let first = number("PERFRING_VERIFY_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos())) << 32
    });
    let seconds = number("PERFRING_VERIFY_SECONDS");
    let programs = number("PERFRING_VERIFY_PROGRAMS").unwrap_or(PROGRAMS);
    let threads =
        if seconds.is_some() { std::thread::available_parallelism().map_or(1, usize::from) as u64 } else { 1 };
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(u64::from(u32::MAX)));
    let all = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let all = &all;
            scope.spawn(move || {
                let (mut world, mut tally) = (World::new(), Tally::default());
                let mut seed = first.wrapping_add(thread << 48);
                let mut left = if seconds.is_some() { u64::MAX } else { programs };
                while left != 0 && Instant::now() < until {
                    one(&mut world, seed, &mut tally);
                    seed = seed.wrapping_add(1);
                    left -= 1;
                }
                all.lock().expect("no thread has failed").add(tally);
            });
        }
    });
    let tally = all.into_inner().expect("no thread has failed");
    println!("{tally:#?}");
    if tally.programs >= 1000 {
        assert!(tally.accepted * 100 >= tally.programs * 30, "of too few programs is anything known");
        assert!(tally.runs.ended * 2 > tally.accepted, "too few ran to their end");
        assert!(tally.runs.compared > tally.accepted, "too few were compared");
        let missing: Vec<_> = FEATURES.iter().filter(|feature| !tally.features.contains_key(*feature)).collect();
        assert!(missing.is_empty(), "no accepted program has {missing:?}");
    }
}
