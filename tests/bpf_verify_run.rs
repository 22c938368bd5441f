//! What the verifier accepts is never stopped, where every access is tested, but for the lack of fuel.
//!
//! `PERFRING_VERIFY_PROGRAMS` is how many programs there are, `PERFRING_VERIFY_SEED` the seed of the first. With
//! `PERFRING_VERIFY_SECONDS` there are as many as fit, on all CPUs:
//!
//!     PERFRING_VERIFY_SECONDS=3600 cargo test --release --test bpf_verify_run -- --nocapture
#![cfg(feature = "bpf")]

mod bpf_typed;

use bpf_typed::{Choices, World};
use perfring::bpf::TrapKind;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PROGRAMS: u64 = 1500;

#[derive(Debug, Default)]
struct Tally {
    programs: u64,
    accepted: u64,
    /// Runs that ended, and those that ran out of fuel.
    ended: u64,
    fuel: u64,
    features: BTreeMap<&'static str, u64>,
    refused: BTreeMap<String, (u64, u64)>,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect(name))
}

/// Verifies and runs the program of a seed.
fn one(world: &mut World, seed: u64, tally: &mut Tally) {
    let case = world.generate(&mut Choices::of_seed(seed));
    tally.programs += 1;
    match &case.verdict {
        Ok(_) => {
            tally.accepted += 1;
            for feature in &case.features {
                *tally.features.entry(feature).or_default() += 1;
            }
            for run in world.run(&case.program, seed) {
                match run {
                    Ok(_) => tally.ended += 1,
                    Err(TrapKind::Fuel) => tally.fuel += 1,
                    Err(trap) => panic!(
                        "accepted, and stopped: {trap}\nagain with PERFRING_VERIFY_SEED={seed} PERFRING_VERIFY_PROGRAMS=1\n{}",
                        case.listing()
                    ),
                }
            }
        }
        Err(error) => {
            let kind = format!("{:?}", error.kind);
            let kind = kind.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            let count = tally.refused.entry(kind.to_owned()).or_insert((0, seed));
            count.0 += 1;
        }
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.programs += other.programs;
        self.accepted += other.accepted;
        self.ended += other.ended;
        self.fuel += other.fuel;
        for (feature, count) in other.features {
            *self.features.entry(feature).or_default() += count;
        }
        for (kind, (count, seed)) in other.refused {
            self.refused.entry(kind).or_insert((0, seed)).0 += count;
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
        assert!(tally.ended * 2 > tally.accepted, "too few ran to their end");
    }
}
