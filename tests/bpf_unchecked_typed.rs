//! Random programs with pointers of every kind, as they were loaded and verified: they do the same, tested and not.
//!
//! `PERFRING_VERIFY_PROGRAMS` is how many programs there are, `PERFRING_VERIFY_SEED` the seed of the first.
#![cfg(feature = "bpf")]

#[allow(unused_imports, reason = "each test binary uses its part")]
mod bpf_typed;

use bpf_typed::{Choices, World};
use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::Map;
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{
    Arg, Context, Event, HelperId, Helpers, Machine, MapTypes, Program, Prototype, RunError, RunOptions, TrapKind,
};
use perfring::record::SampleType;
use perfring::ring::{Consumer, Ring};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PROGRAMS: u64 = 400;
/// Maps whose values are what programs left, and nothing else.
const LEFT: [usize; 4] = [0, 1, 2, 9];
const CONTEXT: usize = 80;

/// What a run left.
#[derive(Debug, PartialEq)]
struct Left {
    result: Result<u64, TrapKind>,
    context: Vec<u8>,
    packet: Vec<u8>,
    maps: Vec<BTreeMap<Vec<u8>, Vec<u8>>>,
    records: Vec<Vec<u8>>,
}

/// A machine whose programs are given the same numbers each time.
struct Side {
    world: World,
    helpers: Helpers,
    numbers: Arc<AtomicU64>,
    machine: Machine,
    consumer: Consumer,
}

impl Side {
    fn new() -> Self {
        let world = World::new();
        let numbers = Arc::new(AtomicU64::new(0));
        let mut helpers = Helpers::standard().clone();
        let next = numbers.clone();
        let number = move |_: &mut perfring::bpf::Call<'_, '_>| {
            let number = next.fetch_add(0x9e37_79b9, Relaxed).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            number.rotate_left(32) & 0xffff_ffff
        };
        helpers.register(HelperId(1000), Prototype::new("number", &[]), number).unwrap();
        let query = Prototype::new("query", &[Arg::Map(MapTypes::RINGBUF), Arg::Scalar]);
        helpers.register(HelperId(1001), query, |call| call.arg(1)).unwrap();
        let machine = Machine::builder(2).fuel(Some(200_000)).build();
        let ring = Ring::confined(8).private().unwrap();
        let attr = Event::bpf_output_attr(SampleType::empty());
        let event = Event::new(ring.producer().unwrap(), &attr, 0).unwrap();
        machine.set_event(&world.maps[5], 0, 0, event).unwrap();
        Self { world, helpers, numbers, machine, consumer: ring.consumer().unwrap() }
    }

    /// The program of this text, with helpers that give the same each time.
    fn load(&self, text: &str) -> Program {
        let text = text.replace("call bpf_get_prandom_u32#7", "call 1000");
        let text = text.replace("call bpf_ringbuf_query#134", "call 1001");
        let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
        let insns = assemble_with(&text, &number).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let builder = Program::builder("typed", &self.world.type_).maps(self.world.maps.iter().cloned());
        builder.helpers(&self.helpers).license("GPL").load(insns).unwrap()
    }

    fn run(&mut self, program: &Program, seed: u64, length: usize) -> Left {
        self.world.reset(seed);
        self.numbers.store(seed, Relaxed);
        let mut choices = Choices::of_seed(!seed);
        let mut context: Vec<u8> = (0..CONTEXT).map(|_| choices.next() as u8).collect();
        let mut packet: Vec<u8> = (0..length).map(|_| choices.next() as u8).collect();
        let given = Context::new(&mut context).packet(&mut packet);
        let result = match self.machine.run_with(program, given, RunOptions::new().cpu(0)) {
            Ok(r0) => Ok(r0),
            Err(RunError::Trap(trap)) => Err(trap.kind),
            Err(error) => panic!("{error}"),
        };
        let values = |map: &Map| map.iter().map(|element| element.unwrap()).collect();
        let mut records = Vec::new();
        // What a ring starts its next page with depends on where it was.
        self.consumer.for_each(|record| records.push(record.bytes().to_vec())).unwrap();
        let maps = LEFT.map(|map| values(&self.world.maps[map])).into();
        Left { result, context, packet, maps, records }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect(name))
}

#[test]
fn random_programs_do_the_same() {
    let first = number("PERFRING_VERIFY_SEED").unwrap_or(1);
    let programs = number("PERFRING_VERIFY_PROGRAMS").unwrap_or(PROGRAMS);
    let mut side = Side::new();
    // A tail call leads to a program that is verified, or to one that is not.
    let target = side.load("*(u64 *)(r10 -8) = r1\nr0 = *(u32 *)(r1 +0)\nexit");
    let targets = [target.clone(), target.verify(&VerifyOptions::default()).unwrap().into()];
    let (mut accepted, mut ended, mut again) = (0, 0, 0);
    for seed in first..first + programs {
        let case = side.world.generate(&mut Choices::of_seed(seed));
        let program = side.load(&case.text);
        let Ok(verified) = program.verify(&VerifyOptions::default()) else { continue };
        accepted += 1;
        side.world.maps[6].set_program(0, Some(&targets[seed as usize % 2])).unwrap();
        for length in [0, 13, 64] {
            let (checked, fast) = (side.run(&program, seed, length), side.run(&verified, seed, length));
            ended += u64::from(checked.result.is_ok());
            assert!(matches!(fast.result, Ok(_) | Err(TrapKind::Fuel)), "{:?} of {seed}", fast.result);
            if checked == fast {
                continue;
            }
            // What gives way in an LRU hash, where there is room in a ring, and what numbers are that were addresses, is not
            // the same each time: then it differs among runs of one kind, too.
            again += 1;
            let mut runs =
                |program: &Program| -> Vec<Left> { (0..40).map(|_| side.run(program, seed, length)).collect() };
            let (checked, fast) = (runs(&program), runs(&verified));
            assert!(
                checked.iter().any(|left| fast.contains(left)) || checked.iter().any(|left| *left != checked[0]),
                "again with PERFRING_VERIFY_SEED={seed} PERFRING_VERIFY_PROGRAMS=1: {:?}\n{:?}\n{}",
                checked[0],
                fast[0],
                case.listing()
            );
        }
    }
    println!("{accepted} programs of {programs}, {ended} runs to the end, {again} looked at again");
    assert!(accepted * 100 >= programs * 30 && ended * 2 > accepted * 3, "too little was run");
    assert!(again * 20 < ended, "too much is not the same each time");
}
