//! Programs that are nearly what the verifier takes: what it accepts is never stopped, where every access is tested, but for the
//! lack of fuel, and does the same where nothing is tested. Every 1000 programs it prints how many were accepted, what they
//! were made of, and why the others were not:
//!
//!     cargo +nightly fuzz run verify_then_run fuzz/corpus/verify_then_run fuzz/seeds/verify_then_run
#![no_main]

#[path = "../../tests/bpf_typed/mod.rs"]
mod bpf_typed;

use bpf_typed::{Choices, Tally, World};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

/// Programs between two reports.
const REPORT: u64 = 1000;

thread_local! {
    static STATE: RefCell<Option<(World, Tally)>> = const { RefCell::new(None) };
}

/// Of the input, what the maps and contexts hold.
fn seed(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fuzz_target!(|bytes: &[u8]| {
    STATE.with_borrow_mut(|state| {
        let (world, tally) = state.get_or_insert_with(|| {
            let mut world = World::new();
            // With the sanitizer a million would take longer than inputs should.
            world.options.insns = 100_000;
            (world, Tally::default())
        });
        let seed = seed(bytes);
        let case = world.generate(&mut Choices::of_bytes(bytes));
        tally.case(&case, seed);
        if tally.programs % REPORT == 0 {
            eprintln!("{tally:#?}");
        }
        let Ok(verified) = case.verdict.clone() else { return };
        let result = if cfg!(perfring_planted_bug) {
            // As if the verifier had taken values to be longer than they are.
            let program = world.with_short_values(&case.program);
            world.check_tested(&program, seed)
        } else {
            world.check(&case, &verified, seed)
        };
        match result {
            Ok(runs) => tally.runs(runs),
            Err(why) => panic!("{why}\n{}", case.listing()),
        }
    });
});
