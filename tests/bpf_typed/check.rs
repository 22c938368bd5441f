//! An accepted program, run with every access tested, and without.

use super::world::World;
use super::{Case, Choices};
use perfring::bpf::map::UpdateFlags;
use perfring::bpf::verifier::Verified;
use perfring::bpf::{Context, Environment, ProbeRead, Program, RunError, RunOptions, TrapKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a run left.
#[derive(Debug, PartialEq)]
struct Left {
    result: Result<u64, TrapKind>,
    context: Vec<u8>,
    packet: Vec<u8>,
    values: Vec<(usize, Vec<u8>, Vec<u8>)>,
    records: Vec<Vec<u8>>,
}

/// How many runs there were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runs {
    pub ended: u64,
    /// Those that were stopped for lack of fuel.
    pub fuel: u64,
    /// Those of both modes that were compared.
    pub compared: u64,
    /// Those while another thread changed the maps.
    pub beside: u64,
}

/// A world in which everything is the same once more: only the numbers go on, from the start.
struct Same(AtomicU64);

impl Environment for Same {
    fn ktime_get_ns(&self) -> u64 {
        1
    }

    fn ktime_get_boot_ns(&self) -> u64 {
        2
    }

    fn pid_tgid(&self) -> u64 {
        let state = self.0.fetch_add(1, Ordering::Relaxed);
        let number = Choices::of_seed(state).next();
        number >> (state % 3 * 24)
    }

    fn uid_gid(&self) -> u64 {
        3
    }

    fn comm(&self) -> [u8; 16] {
        *b"sixteen bytes 16"
    }

    fn probe_read(&self, read: ProbeRead, to: &mut [u8]) -> usize {
        to.fill(read.address as u8);
        to.len() / 2 + read.address as usize % 3 * to.len() / 4
    }
}

/// What makes each run another than the one before, and the same in both modes.
#[derive(Clone, Copy)]
struct Conditions {
    seed: u64,
    /// Records that are in the rings before.
    filled: usize,
    /// There is no event.
    eventless: bool,
}

impl World {
    /// Runs an accepted program; what is wrong, if anything is.
    pub fn check(&mut self, case: &Case, verified: &Verified, seed: u64) -> Result<Runs, String> {
        let mut choices = Choices::of_seed(!seed);
        let mut runs = Runs::default();
        let conditions = Conditions {
            seed,
            filled: if choices.one_in(4) { choices.pick(&[60, 120, 128]) } else { 0 },
            eventless: choices.one_in(8),
        };
        let left = self.left(&case.program, conditions);
        runs.count("with every access tested", &left)?;
        let unchecked = self.left(verified.program(), conditions);
        runs.count("without tests", &unchecked)?;
        // How much fits into a ring depends on where its next record starts.
        if !case.differs() && conditions.filled == 0 {
            for (input, (one, other)) in left.iter().zip(&unchecked).enumerate() {
                let fuel = Err(TrapKind::Fuel);
                if one.result == fuel || other.result == fuel || one.is_much() || other.is_much() {
                    break;
                }
                if one != other {
                    return Err(format!("with tests and without, input {input}: {}", one.difference(other)));
                }
                runs.compared += 1;
            }
        }
        if choices.one_in(8) {
            let beside = self.beside(&case.program, verified, conditions);
            runs.beside += beside.len() as u64;
            runs.count("while another thread changed the maps", &beside)?;
        }
        Ok(runs)
    }

    /// Runs a program with every access tested, and no other way.
    pub fn check_tested(&mut self, program: &Program, seed: u64) -> Result<Runs, String> {
        let mut runs = Runs::default();
        let left = self.left(program, Conditions { seed, filled: 0, eventless: false });
        runs.count("with every access tested", &left)?;
        Ok(runs)
    }

    /// Runs a program on a few contexts and packets.
    fn left(&mut self, program: &Program, conditions: Conditions) -> Vec<Left> {
        self.reset(conditions.seed);
        // One record, before which stands what was lost, if anything was.
        self.fill(1);
        self.drain();
        self.fill(conditions.filled);
        let event = conditions.eventless.then(|| self.machine.take_event(&self.maps[5], 0).expect("a slot")).flatten();
        let mut choices = Choices::of_seed(!conditions.seed);
        let mut all = Vec::new();
        let lengths: [usize; 5] = [0, 1, 13, 64, 70_000];
        for (input, length) in lengths.into_iter().enumerate() {
            let size = self.type_.context().size().unwrap_or(256);
            let mut context: Vec<u8> = (0..size).map(|_| choices.next() as u8).collect();
            let mut packet = vec![length as u8; length];
            let same = Same(AtomicU64::new(conditions.seed));
            let options = RunOptions::new().cpu(0).environment(&same);
            let given = Context::new(&mut context).packet(&mut packet);
            let result = match self.machine.run_with(program, given, options) {
                Ok(r0) => Ok(r0),
                Err(RunError::Trap(trap)) => Err(trap.kind),
                Err(error) => panic!("{error}"),
            };
            let keeps = conditions.filled != 0 && input % 2 != 0;
            let records = if keeps { Vec::new() } else { self.taken() };
            let values = if input == lengths.len() - 1 { self.values() } else { Vec::new() };
            all.push(Left { result, context, packet, values, records });
        }
        if let Some(event) = event {
            self.machine.set_event(&self.maps[5], 0, 0, event).expect("the slot it was in");
        }
        self.drain();
        all
    }

    /// Puts so many records into each ring.
    fn fill(&mut self, records: usize) {
        let mut context = vec![0; self.type_.context().size().unwrap_or(256)];
        for _ in 0..records {
            let options = RunOptions::new().cpu(0);
            self.machine.run_with(&self.filler, Context::new(&mut context), options).expect("it only writes");
        }
    }

    /// The same in both modes, while another thread changes the maps.
    fn beside(&mut self, program: &Program, verified: &Verified, conditions: Conditions) -> Vec<Left> {
        let maps = self.maps.clone();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut choices = Choices::of_seed(conditions.seed ^ 1);
                while !over.load(Ordering::Relaxed) {
                    let map = &maps[choices.pick(&[0, 1, 1, 2, 3, 9])];
                    let key = (choices.below(4) as u64).to_ne_bytes();
                    let key = &key[..map.def().key_size as usize];
                    // There may be no place, or nothing to delete.
                    if choices.one_in(2) {
                        let _ = map.delete(key);
                    } else {
                        let byte = choices.next() as u8;
                        let _ = map.update(key, &vec![byte; map.value_size()], UpdateFlags::Any);
                    }
                }
            });
            let mut all = self.left(program, conditions);
            all.extend(self.left(verified.program(), conditions));
            over.store(true, Ordering::Relaxed);
            all
        })
    }

    fn values(&self) -> Vec<(usize, Vec<u8>, Vec<u8>)> {
        let mut values = Vec::new();
        for map in [0, 1, 2, 8, 9] {
            for (key, value) in self.maps[map].iter().flatten() {
                values.push((map, key, value));
            }
        }
        values.sort();
        values
    }
}

impl Left {
    /// Whether a ring may have been full.
    fn is_much(&self) -> bool {
        self.records.iter().map(Vec::len).sum::<usize>() > 8 << 10
    }

    fn difference(&self, other: &Self) -> String {
        if self.result != other.result {
            format!("{:?} and {:?}", self.result, other.result)
        } else if self.context != other.context {
            format!("contexts {:?} and {:?}", self.context, other.context)
        } else if self.packet != other.packet {
            "packets".to_owned()
        } else if self.values != other.values {
            let at = self.values.iter().zip(&other.values).take_while(|(one, other)| one == other).count();
            format!("values {:?} and {:?}", self.values.get(at), other.values.get(at))
        } else {
            let at = self.records.iter().zip(&other.records).take_while(|(one, other)| one == other).count();
            let records = [&self.records, &other.records].map(|records| records.get(at));
            format!("of {} and {} records {at}, {records:?}", self.records.len(), other.records.len())
        }
    }
}

impl Runs {
    fn count(&mut self, how: &str, all: &[Left]) -> Result<(), String> {
        for (input, left) in all.iter().enumerate() {
            match &left.result {
                Ok(_) => self.ended += 1,
                Err(TrapKind::Fuel) => self.fuel += 1,
                Err(trap) => return Err(format!("accepted, and stopped {how}, input {input}: {trap}")),
            }
        }
        Ok(())
    }
}
