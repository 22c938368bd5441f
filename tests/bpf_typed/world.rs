//! What the programs run in.

use super::{Choices, Generator, Profile};
use perfring::bpf::insn::{Listing, assemble_with};
use perfring::bpf::map::{Map, MapDef, MapFlags, MapType, UpdateFlags};
use perfring::bpf::program_type::{ContextLayout, Field, Pointer};
use perfring::bpf::verifier::{Verified, VerifyError, VerifyOptions};
use perfring::bpf::{Event, Helpers, Machine, Program, ProgramType};
use perfring::record::SampleType;
use perfring::ring::{Consumer, Ring};

/// Of each map the sizes of key and value, and whether programs look it up.
pub const MAPS: [(u64, u64, bool); 10] = [
    (4, 64, true),
    (8, 48, true),
    (4, 40, true),
    (4, 24, true),
    (0, 0, false),
    (4, 4, false),
    (4, 4, false),
    (4, 64, false),
    (8, 16, true),
    (8, 32, true),
];

/// Those with values that may be read and written.
pub const VALUES: &[usize] = &[0, 1, 2, 3, 9];

const RANDOM: &str = "call bpf_get_prandom_u32#7";

const FILLER: &str = "
    r6 = r1
    r1 = r10
    r1 += -480
    r2 = 480
    call bpf_get_current_comm
    r1 = r6
    r2 = map[idx:5] ll
    r3 = 0
    r4 = r10
    r4 += -480
    r5 = 480
    call bpf_perf_event_output
    r1 = map[idx:4] ll
    r2 = r10
    r2 += -480
    r3 = 480
    r4 = 0
    call bpf_ringbuf_output
    r0 = 0
    exit";

const CONTEXT: usize = 80;
const CPUS: usize = 2;

/// Numbers at 0, a packet at 16, two buffers at 32 and 48, and at 64 numbers that may be written.
fn type_() -> ProgramType {
    let fields = [
        Field::read_only("ids", 0, 4, 2),
        Field::read_only("arg", 8, 8, 1),
        Field::pointer("data", 16, 8, Pointer::Packet),
        Field::pointer("data_end", 24, 8, Pointer::PacketEnd),
        Field::pointer("a", 32, 8, Pointer::Buffer(32)),
        Field::pointer("a_end", 40, 8, Pointer::BufferEnd(32)),
        Field::pointer("b", 48, 8, Pointer::Buffer(48)),
        Field::pointer("b_end", 56, 8, Pointer::BufferEnd(48)),
        Field::read_only("room", 64, 8, 2).writable(),
    ];
    let layout = ContextLayout::fields(CONTEXT as u32, fields).expect("a layout");
    ProgramType::builder("typed", layout).all_helpers().finalized_at(0, 4).build()
}

/// Types, maps and a machine, for many programs.
pub struct World {
    profile: Profile,
    pub type_: ProgramType,
    pub maps: Vec<Map>,
    pub(super) machine: Machine,
    /// How programs are verified.
    pub options: VerifyOptions,
    /// A program that puts a record into each ring.
    pub(super) filler: Program,
    rings: Vec<Consumer>,
    ringbuf: Consumer,
}

impl World {
    pub fn new() -> Self {
        Self::of(Profile::Own)
    }

    pub fn of(profile: Profile) -> Self {
        let type_ = match profile {
            Profile::Own => type_(),
            Profile::Xdp => ProgramType::xdp().clone(),
            Profile::Socket => ProgramType::socket_filter().clone(),
            Profile::Tracepoint => ProgramType::tracepoint().clone(),
        };
        let map = |def: MapDef| Map::new(&def, CPUS).expect("a map");
        let maps = vec![
            map(MapDef::array("array", 64, 1)),
            map(MapDef::hash("hash", 8, 48, 4)),
            map(MapDef::new("percpu", MapType::PercpuArray, 4, 40, 4)),
            map(MapDef::new("lru", MapType::LruHash, 4, 24, 4)),
            map(MapDef::ringbuf("ringbuf", 1 << 16)),
            map(MapDef::perf_event_array("events", CPUS as u32)),
            Map::prog_array(&MapDef::prog_array("programs", 2), &type_).expect("a map"),
            map(MapDef::array("constant", 64, 1).flags(MapFlags::RDONLY_PROG)),
            map(MapDef::hash("wronly", 8, 16, 4).flags(MapFlags::WRONLY_PROG)),
            map(MapDef::new("percpu_hash", MapType::PercpuHash, 8, 32, 4)),
        ];
        maps[7].update(&[0; 4], &Self::constant(), UpdateFlags::Any).expect("an update");
        maps[7].freeze();
        let machine = Machine::builder(CPUS).fuel(Some(200_000)).build();
        let mut rings = Vec::new();
        for cpu in 0..CPUS as u32 {
            let ring = Ring::confined(8).private().expect("a ring");
            let attr = Event::bpf_output_attr(SampleType::empty());
            let event = Event::new(ring.producer().expect("the producer"), &attr, 0).expect("an event");
            machine.set_event(&maps[5], cpu, cpu, event).expect("a slot");
            rings.push(ring.consumer().expect("the consumer"));
        }
        let ringbuf = maps[4].take_consumer().expect("a ring buffer").expect("its consumer");
        let filler = Self::load_of(&type_, &maps, FILLER).expect("a program");
        let world = Self { profile, type_, maps, machine, options: VerifyOptions::default(), filler, rings, ringbuf };
        let target = world.load("*(u64 *)(r10 -8) = r1\nr0 = 42\nexit").expect("a program");
        world.maps[6].set_program(0, Some(&target)).expect("a slot");
        world
    }

    pub fn load(&self, text: &str) -> Result<Program, String> {
        Self::load_of(&self.type_, &self.maps, text)
    }

    fn load_of(type_: &ProgramType, maps: &[Map], text: &str) -> Result<Program, String> {
        let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
        let insns = assemble_with(text, &number).map_err(|error| format!("{error}\n{text}"))?;
        let maps = maps.iter().cloned();
        let program = Program::builder("typed", type_).maps(maps).license("GPL").load(insns);
        program.map_err(|error| format!("{error}\n{text}"))
    }

    /// The same program with an array the values of which are 8 bytes shorter.
    pub fn with_short_values(&self, program: &Program) -> Program {
        let mut maps = self.maps.clone();
        maps[0] = Map::new(&MapDef::array("array", 56, 1), CPUS).expect("a map");
        let insns = program.code().insns().to_vec();
        let builder = Program::builder("short", &self.type_).maps(maps).license("GPL");
        builder.load(insns).expect("a program, as it was one before")
    }

    /// The maps as they were.
    pub fn reset(&mut self, seed: u64) {
        let mut choices = Choices::of_seed(seed);
        let mut bytes = |len: usize| -> Vec<u8> { (0..len).map(|_| choices.next() as u8).collect() };
        for map in [0, 2] {
            let def = self.maps[map].def().clone();
            for key in 0..def.max_entries {
                let value = bytes(self.maps[map].value_size());
                self.maps[map].update(&key.to_ne_bytes(), &value, UpdateFlags::Any).expect("an update");
            }
        }
        for map in [1, 3, 8, 9] {
            let keys: Vec<Vec<u8>> = self.maps[map].iter().filter_map(|element| Some(element.ok()?.0)).collect();
            for key in keys {
                let _ = self.maps[map].delete(&key);
            }
            for key in 0..2_u64 {
                let size = self.maps[map].def().key_size as usize;
                let value = bytes(self.maps[map].value_size());
                self.maps[map].update(&key.to_ne_bytes()[..size], &value, UpdateFlags::Any).expect("an update");
            }
        }
        self.drain();
    }

    /// What the map with the constant holds.
    pub fn constant() -> [u8; 64] {
        let mut constant = *b"text that stays\0\x03\0\0\0\0\0\0\0........................................";
        constant[24] = 9;
        constant
    }

    pub(super) fn drain(&mut self) {
        for ring in self.rings.iter_mut().chain([&mut self.ringbuf]) {
            while ring.for_each(|_| {}).is_ok_and(|count| count != 0) {}
        }
    }

    /// All records that are in the rings.
    pub(super) fn taken(&mut self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        for ring in self.rings.iter_mut().chain([&mut self.ringbuf]) {
            while ring.for_each(|record| records.push(record.bytes().to_vec())).is_ok_and(|count| count != 0) {}
        }
        records
    }

    /// A program, and what the verifier says of it.
    pub fn generate(&self, choices: &mut Choices<'_>) -> Case {
        let (mut text, features) = Generator::program(choices, self.profile);
        if self.profile == Profile::Own && choices.one_in(2) {
            // Of numbers that are the same once more.
            text = text.replace(RANDOM, "call bpf_get_current_pid_tgid#14");
        }
        let program = self.load(&text).unwrap_or_else(|error| panic!("{error}"));
        let verdict = program.verify(&self.options);
        Case { text, features, program, verdict }
    }

    /// As little of an accepted program as still fails, and how it does.
    pub fn smallest(&mut self, case: Case, why: String, seed: u64) -> (Case, String) {
        let (mut case, mut why) = (case, why);
        loop {
            let lines: Vec<String> = case.text.lines().map(str::to_owned).collect();
            let mut smaller = None;
            for line in (0..lines.len()).rev() {
                let text = [&lines[..line], &lines[line + 1..]].concat().join("\n");
                let Ok(program) = self.load(&text) else { continue };
                let Ok(verified) = program.verify(&self.options) else { continue };
                let candidate = Case { text, features: case.features.clone(), program, verdict: Ok(verified.clone()) };
                if let Err(error) = self.check(&candidate, &verified, seed) {
                    smaller = Some((candidate, error));
                    break;
                }
            }
            match smaller {
                Some(found) => (case, why) = found,
                None => return (case, why),
            }
        }
    }
}

/// A program that was verified.
pub struct Case {
    pub text: String,
    pub features: std::collections::BTreeSet<&'static str>,
    pub program: Program,
    pub verdict: Result<Verified, VerifyError>,
}

impl Case {
    /// Whether what it does is not the same each time.
    pub fn differs(&self) -> bool {
        // What such a map drops depends on what was in it before, and how much is in a ring on where its gaps are.
        [RANDOM, "idx:3]", "bpf_ringbuf_query"].iter().any(|part| self.text.contains(part))
    }

    pub fn listing(&self) -> String {
        Listing::new(self.program.code()).to_string()
    }
}
