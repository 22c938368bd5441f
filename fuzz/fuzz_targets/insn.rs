//! Programs that look like programs, run in checked mode with a budget: each ends, touches nothing but what it may, and
//! leaves a machine on which the next one runs as ever.
//!
//! What a program may not touch is filled differently in two runs: who reads it, ends differently.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perfring::bpf::insn::Insn;
use perfring::bpf::map::{Map, MapDef, MapFlags, MapType, UpdateFlags};
use perfring::bpf::program_type::{ContextLayout, Field, Pointer};
use perfring::bpf::{
    Arg, Context, Environment, Event, HelperId, Helpers, Machine, ProbeRead, Program, ProgramType, Prototype, RunError,
};
use perfring::record::SampleType;
use perfring::ring::{Consumer, Ring};
use std::sync::{Mutex, OnceLock};

/// What a run that starts again where one runs already must give.
const REENTER: HelperId = HelperId(100_000);
/// Reads one memory and writes another.
const COPY: HelperId = HelperId(100_001);
/// Bytes before and behind what is lent to a program.
const GUARD: usize = 64;
const SAMPLE: u32 = 9;
const LOST: u32 = 2;

/// A world that is always the same.
struct Fixed;

impl Environment for Fixed {
    fn ktime_get_ns(&self) -> u64 {
        1
    }

    fn ktime_get_boot_ns(&self) -> u64 {
        2
    }

    fn pid_tgid(&self) -> u64 {
        3 << 32 | 4
    }

    fn uid_gid(&self) -> u64 {
        5 << 32 | 6
    }

    fn comm(&self) -> [u8; 16] {
        *b"sixteen bytes 16"
    }

    fn probe_read(&self, read: ProbeRead, to: &mut [u8]) -> usize {
        // More than there is place for, sometimes, and text without an end.
        to.fill(read.address as u8);
        (read.address % 600) as usize
    }
}

/// The types of programs: plain memory, and fields with a packet and buffers.
struct Types {
    memory: ProgramType,
    fields: ProgramType,
    helpers: Helpers,
}

const FIELDS: usize = 64;
/// The field that programs may write.
const WRITABLE: std::ops::Range<usize> = 8..12;

fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(|| {
        let mut helpers = Helpers::standard().clone();
        helpers
            .register(REENTER, Prototype::new("reenter", &[]), |call| {
                static OTHER: OnceLock<(Machine, Program)> = OnceLock::new();
                let (machine, program) = OTHER.get_or_init(|| (Machine::new(1), three(call.program_type())));
                let size = program.type_().context().size().unwrap_or(0);
                let result = machine.run(program, Context::new(&mut vec![0; size]));
                assert_eq!(result, Err(RunError::Reentrant));
                7
            })
            .expect("a number of its own");
        let copy = Prototype::new("copy", &[Arg::Memory, Arg::Size, Arg::UninitMemory, Arg::SizeOrZero]);
        helpers
            .register(COPY, copy, |call| {
                let mut bytes = [0; 300];
                let read = call.read(0, &mut bytes);
                assert_eq!(Some(read), call.size(0).map(|size| size.min(300)));
                call.write(2, &bytes[..read]) as u64
            })
            .expect("a number of its own");
        // All but what is never twice the same.
        let all = helpers.ids().filter(|id| *id != HelperId::GET_PRANDOM_U32);
        let all: Vec<_> = all.collect();
        let fields = [
            Field::read_only("id", 0, 4, 1),
            Field::read_only("probe_id", 4, 4, 1),
            Field::read_only("word", 8, 4, 1).writable(),
            Field::read_only("bytes", 12, 1, 3).whole(),
            Field::read_only("args", 16, 8, 1),
            Field::pointer("buf", 24, 8, Pointer::Buffer(24)),
            Field::pointer("buf_end", 32, 8, Pointer::BufferEnd(24)),
            Field::pointer("data", 40, 4, Pointer::Packet),
            Field::pointer("data_end", 44, 4, Pointer::PacketEnd),
            Field::pointer("buf2", 48, 8, Pointer::Buffer(40)),
            Field::pointer("buf2_end", 56, 8, Pointer::BufferEnd(40)),
        ];
        let fields = ContextLayout::fields(FIELDS as u32, fields).expect("a layout");
        let fields = ProgramType::builder("fields", fields)
            .helpers(all.iter().copied())
            .legacy_packet()
            .finalized_at(0, 4)
            .casts(
                |source| source.name() == "memory",
                |conversion| {
                    conversion.target()[..8].fill(1);
                    conversion.copy(0, 16, 8)
                },
            )
            .build();
        let memory = ProgramType::builder("memory", ContextLayout::memory(true, 0)).helpers(all).length().build();
        Types { memory, fields, helpers }
    })
}

fn three(type_: &ProgramType) -> Program {
    let [mut three, mut exit] = [Insn::default(); 2];
    (three.opcode, three.imm, exit.opcode) = (0xb7, 3, 0x95);
    Program::builder("three", type_).load(vec![three, exit]).expect("a program")
}

/// What the bytes of the input decide; 0 behind their end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A register that may be written.
    fn dst(&mut self) -> u8 {
        self.byte() % 10
    }

    fn src(&mut self) -> u8 {
        self.byte() % 11
    }

    fn imm(&mut self) -> i32 {
        const IMMS: [i32; 24] =
            [0, 1, -1, 2, 3, 4, 7, 8, 9, 12, 16, 31, 32, 33, 63, 64, 65, 255, -8, -64, 4096, 24, i32::MAX, i32::MIN];
        match self.byte() {
            255 => i32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
            chosen => IMMS[usize::from(chosen) % IMMS.len()],
        }
    }

    fn offset(&mut self) -> i16 {
        const OFFSETS: [i16; 28] = [
            0,
            8,
            -8,
            4,
            -4,
            1,
            -1,
            -2,
            2,
            12,
            16,
            24,
            32,
            40,
            44,
            48,
            56,
            -16,
            -24,
            -32,
            -505,
            -512,
            -513,
            7,
            63,
            64,
            i16::MIN,
            i16::MAX,
        ];
        match self.byte() {
            255 => i16::from_le_bytes([self.byte(), self.byte()]),
            chosen => OFFSETS[usize::from(chosen) % OFFSETS.len()],
        }
    }
}

/// A part of a function, whose targets are known when all of it is there.
#[derive(Clone, Copy)]
enum Item {
    Insn(Insn),
    Wide(Insn, i32),
    /// To the item of this number, of as many as there are then.
    Jump(Insn, usize),
    Gotol(usize),
    /// To the function of this number, likewise.
    Call(usize),
    Function(u8, usize),
}

impl Item {
    fn slots(self) -> usize {
        if matches!(self, Self::Wide(..) | Self::Function(..)) { 2 } else { 1 }
    }
}

fn insn(opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Item {
    Item::Insn(Insn { opcode, dst, src, offset, imm })
}

fn map(dst: u8, index: usize) -> Item {
    Item::Wide(Insn { opcode: 0x18, dst, src: 5, offset: 0, imm: index as i32 }, 0)
}

fn mov(dst: u8, imm: i32) -> Item {
    insn(0xb7, dst, 0, 0, imm)
}

fn call(id: HelperId) -> Item {
    insn(0x85, 0, 0, 0, id.0)
}

/// Makes `dst` an address in the frame.
fn frame(dst: u8, offset: i16) -> [Item; 2] {
    [insn(0xbf, dst, 10, 0, 0), insn(0x07, dst, 0, 0, offset.into())]
}

/// Sizes of loads and stores: W, H, B, DW.
const SIZES: [u8; 4] = [0x00, 0x08, 0x10, 0x18];
/// How many maps there are, and which is which.
const MAPS: usize = 9;
const READ_ONLY: usize = 2;
const EVENTS: usize = 5;
const RINGBUF: usize = 6;
const PROGRAMS: usize = 7;

/// Appends an instruction, or the few that a call of a helper takes.
fn part(input: &mut Input<'_>, items: &mut Vec<Item>) {
    match input.below(16) {
        0 | 1 => {
            let class = input.one(&[0x07, 0x04]);
            let op = input.one(&[0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0, 0xb0, 0xc0]);
            let (dst, offset) = (input.dst(), if matches!(op, 0x30 | 0x90) { i16::from(input.byte() & 1) } else { 0 });
            match input.byte() & 1 {
                0 => items.push(insn(class | op, dst, 0, offset, input.imm())),
                _ => items.push(insn(class | op | 8, dst, input.src(), offset, 0)),
            }
        }
        2 => {
            let dst = input.dst();
            items.push(match input.below(5) {
                0 => insn(0x87, dst, 0, 0, 0),
                1 => insn(0x84, dst, 0, 0, 0),
                2 => insn(0xbf, dst, input.src(), input.one(&[8, 16, 32]), 0),
                3 => insn(0xbc, dst, input.src(), input.one(&[8, 16]), 0),
                _ => insn(input.one(&[0xd4, 0xdc, 0xd7]), dst, 0, 0, input.one(&[16, 32, 64])),
            });
        }
        3 => {
            let class = input.one(&[0x05, 0x06]);
            let op = input.one(&[0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0]);
            let (dst, target) = (input.src(), usize::from(input.byte()));
            let (src, imm) = if input.byte() & 1 == 0 { (None, input.imm()) } else { (Some(input.src()), 0) };
            let opcode = class | op | if src.is_some() { 8 } else { 0 };
            items.push(Item::Jump(Insn { opcode, dst, src: src.unwrap_or(0), offset: 0, imm }, target));
        }
        4 => {
            let target = usize::from(input.byte());
            items.push(match input.below(3) {
                0 => Item::Jump(Insn { opcode: 0x05, ..Insn::default() }, target),
                1 => Item::Jump(Insn { opcode: 0xe5, ..Insn::default() }, target),
                _ => Item::Gotol(target),
            });
        }
        // Loads and stores, most of them by r1 as it was at first, and by r10.
        5 | 6 => {
            let (dst, src) = (input.dst(), input.one(&[6, 10, 0, 1, 2, 7, 8, 9]));
            let (mode, size) = input.one(&[
                (0x61, 0x00),
                (0x61, 0x08),
                (0x61, 0x10),
                (0x61, 0x18),
                (0x81, 0x00),
                (0x81, 0x08),
                (0x81, 0x10),
            ]);
            items.push(insn(mode | size, dst, src, input.offset(), 0));
        }
        7 => {
            let (dst, size) = (input.one(&[6, 10, 0, 1, 2, 7, 8, 9]), input.one(&SIZES));
            items.push(match input.byte() & 1 {
                0 => insn(0x62 | size, dst, 0, input.offset(), input.imm()),
                _ => insn(0x63 | size, dst, input.src(), input.offset(), 0),
            });
        }
        8 => {
            let imm = input.one(&[0, 1, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1, 0x100, 0x110]);
            let size = if imm >= 0x100 { input.one(&SIZES) } else { input.one(&[0x00, 0x18]) };
            let (dst, src) = (input.one(&[10, 6, 0, 7, 1, 8, 9]), input.one(&[0, 1, 2, 6, 7]));
            // A load has its address in the other register.
            let (dst, src) = if imm == 0x100 { (src, dst) } else { (dst, src) };
            items.push(insn(0xc3 | size, dst, src, input.offset(), imm));
        }
        9 => {
            let dst = input.dst();
            items.push(match input.below(4) {
                0 => Item::Wide(Insn { opcode: 0x18, dst, imm: input.imm(), ..Insn::default() }, input.imm()),
                1 => map(dst, input.below(MAPS)),
                2 => {
                    // Values of 12 and of 8 bytes.
                    let (imm, offset) = input.one(&[(0, 0), (0, 11), (0, 4), (2, 0), (2, 7), (3, 0), (1, 0)]);
                    Item::Wide(Insn { opcode: 0x18, dst, src: 6, offset: 0, imm }, offset)
                }
                _ => Item::Function(dst, usize::from(input.byte())),
            });
        }
        10 => items.push(match input.below(4) {
            0 => Item::Call(usize::from(input.byte())),
            1 => insn(0x8d, input.src(), 0, 0, 0),
            2 => insn(input.one(&[0x20, 0x28, 0x30]), 0, 0, 0, input.imm()),
            _ => insn(input.one(&[0x40, 0x48, 0x50]), 0, input.src(), 0, input.imm()),
        }),
        11 | 12 => helper(input, items),
        13 => {
            let all: Vec<_> = types().helpers.ids().collect();
            items.push(call(input.one(&all)));
        }
        14 => items.push(insn(0x95, 0, 0, 0, 0)),
        // Anything.
        _ => {
            let bytes = std::array::from_fn(|_| input.byte());
            items.push(Item::Insn(Insn::from_bytes(bytes, perfring::record::ByteOrder::Little)));
        }
    }
}

/// Appends a call of a helper with arguments that it may well take. The context is in `r6`.
fn helper(input: &mut Input<'_>, items: &mut Vec<Item>) {
    let context = insn(0xbf, 1, 6, 0, 0);
    let unless_null = insn(0x15, 0, 0, 1, 0);
    match input.below(17) {
        0 => {
            items.push(map(1, input.below(5)));
            items.extend(frame(2, -8));
            items.extend([call(HelperId::MAP_LOOKUP_ELEM), unless_null]);
            items.push(insn(0x61 | input.one(&SIZES), input.dst(), 0, input.offset(), 0));
            items.push(unless_null);
            items.push(insn(0x63 | input.one(&SIZES), 0, 1, input.offset(), 0));
        }
        1 => {
            items.push(map(1, input.below(5)));
            items.extend(frame(2, -8));
            items.extend(frame(3, input.offset()));
            items.extend([mov(4, input.below(4) as i32), call(HelperId::MAP_UPDATE_ELEM)]);
        }
        2 => {
            items.push(map(1, input.below(5)));
            items.extend(frame(2, -8));
            items.push(call(HelperId::MAP_DELETE_ELEM));
        }
        3 => {
            items.extend([context, map(2, EVENTS), insn(0xb4, 3, 0, 0, input.one(&[-1, 0, 1, 4]))]);
            items.extend(frame(4, input.one(&[-16, -512, -8])));
            items.extend([mov(5, input.imm()), call(HelperId::PERF_EVENT_OUTPUT)]);
        }
        4 | 5 => {
            let id = input.one(&[24, 40, 7]);
            items.extend([context, mov(2, id), map(3, EVENTS), mov(4, input.imm()), call(HelperId::BUFFER_RESERVE)]);
            items.push(insn(0x79, 7, 6, input.one(&[24, 48, 32]), 0));
        }
        6 => {
            let id = input.one(&[24, 40, 7]);
            items.extend([context, mov(2, id), map(3, EVENTS), call(HelperId::BUFFER_COMMIT)]);
        }
        7 => items.extend([context, map(2, input.below(MAPS)), call(HelperId::FINALIZE_CONTEXT)]),
        8 => {
            items.extend([context, map(2, PROGRAMS + input.below(2)), mov(3, input.below(5) as i32)]);
            items.push(call(HelperId::TAIL_CALL));
        }
        9 => {
            items.extend([map(1, RINGBUF), mov(2, input.imm()), mov(3, 0), call(HelperId::RINGBUF_RESERVE)]);
            items.extend([insn(0xbf, 9, 0, 0, 0), unless_null]);
            items.push(insn(0x63 | input.one(&SIZES), 9, 1, input.offset(), 0));
        }
        10 => {
            let id = input.one(&[HelperId::RINGBUF_SUBMIT, HelperId::RINGBUF_DISCARD]);
            items.extend([insn(0xbf, 1, 9, 0, 0), mov(2, input.below(4) as i32), call(id)]);
        }
        11 => {
            items.push(map(1, RINGBUF));
            items.extend(frame(2, input.offset()));
            items.extend([mov(3, input.imm()), mov(4, 0), call(HelperId::RINGBUF_OUTPUT)]);
        }
        12 => {
            items.extend([mov(1, input.imm()), Item::Function(2, usize::from(input.byte()))]);
            items.extend(frame(3, -8));
            items.extend([mov(4, 0), call(HelperId::LOOP)]);
        }
        13 => {
            items.extend(frame(1, input.offset()));
            let id = input.one(&[HelperId::GET_CURRENT_COMM, HelperId::PROBE_READ, HelperId::PROBE_READ_STR]);
            items.extend([mov(2, input.imm()), mov(3, input.imm()), call(id)]);
        }
        14 => {
            // "%5d %s" and the like.
            let bytes = [b'%', input.one(b"50-l%"), input.one(b"dsxcp%"), input.byte(), b'%', input.one(b"ds\0"), 0, 0];
            let word = u64::from_le_bytes(bytes);
            let wide = Insn { opcode: 0x18, dst: 1, imm: word as i32, ..Insn::default() };
            items.extend([Item::Wide(wide, (word >> 32) as i32), insn(0x7b, 10, 1, -8, 0)]);
            items.extend(frame(1, -8));
            items.extend([mov(2, input.one(&[8, 4, 1, 9])), call(HelperId::TRACE_PRINTK)]);
        }
        15 => {
            // The packet's start or its end, and an access there.
            items.push(insn(0x61, 7, 6, input.one(&[40, 44]), 0));
            items.push(insn(input.one(&[0x61, 0x63, 0x81]) | input.one(&SIZES), 7, 7, input.offset(), 0));
        }
        _ => {
            items.extend(frame(1, input.offset()));
            items.push(mov(2, input.imm()));
            items.extend(frame(3, input.offset()));
            items.extend([mov(4, input.imm()), call(COPY)]);
        }
    }
}

/// A program of a few functions.
fn program(input: &mut Input<'_>) -> Vec<Insn> {
    let functions: Vec<Vec<Item>> = (0..1 + input.below(3))
        .map(|_| {
            // The context, or the first argument.
            let mut items = vec![insn(0xbf, 6, 1, 0, 0)];
            for _ in 0..input.below(24) {
                part(input, &mut items);
            }
            items.push(insn(0x95, 0, 0, 0, 0));
            items
        })
        .collect();
    let slots = |items: &[Item]| items.iter().map(|item| item.slots()).sum::<usize>();
    let starts: Vec<usize> =
        (0..functions.len()).map(|at| functions[..at].iter().map(|items| slots(items)).sum()).collect();
    let mut insns: Vec<Insn> = Vec::new();
    for (items, start) in functions.iter().zip(&starts) {
        for item in items {
            let here = insns.len() as i32 + 1;
            let of_item = |target: usize| (start + slots(&items[..target % items.len()])) as i32 - here;
            let of_function = |target: usize| starts[target % starts.len()] as i32 - here;
            let blank = Insn::default();
            match *item {
                Item::Insn(insn) => insns.push(insn),
                Item::Wide(insn, high) => insns.extend([insn, Insn { imm: high, ..blank }]),
                Item::Jump(insn, target) => insns.push(Insn { offset: of_item(target) as i16, ..insn }),
                Item::Gotol(target) => insns.push(Insn { opcode: 0x06, imm: of_item(target), ..blank }),
                Item::Call(target) => insns.push(Insn { opcode: 0x85, src: 1, imm: of_function(target), ..blank }),
                Item::Function(dst, target) => {
                    insns.extend([Insn { opcode: 0x18, dst, src: 4, imm: of_function(target), ..blank }, blank]);
                }
            }
        }
    }
    insns
}

/// A machine with what programs may use.
struct Setting {
    machine: Machine,
    maps: Vec<Map>,
    /// Of the rings: none where there are none.
    consumers: Vec<Consumer>,
}

impl Setting {
    /// With rings and hashes, or with arrays in their places, of which nothing is left once they are cleared.
    fn new(rings: bool) -> Self {
        let machine = Machine::builder(1).fuel(Some(4000)).environment(Fixed).trace(|line| assert!(line.len() <= 1024));
        let machine = machine.build();
        let array = |name| MapDef::array(name, 8, 2);
        let or_array = |def: MapDef| if rings { def } else { array("instead") };
        let defs = [
            MapDef::array("values", 12, 2),
            or_array(MapDef::hash("hash", 4, 8, 4)),
            array("read_only").flags(MapFlags::RDONLY_PROG),
            array("ecbs"),
            or_array(MapDef::new("lru", MapType::LruHash, 4, 16, 2)),
            or_array(MapDef::perf_event_array("events", 2)),
            or_array(MapDef::new("ringbuf", MapType::Ringbuf, 0, 0, 4096)),
        ];
        let mut maps: Vec<_> = defs.iter().map(|def| Map::new(def, 1).expect("a map")).collect();
        for owner in [&types().memory, &types().fields] {
            maps.push(Map::prog_array(&MapDef::prog_array("programs", 3), owner).expect("an array"));
        }
        let mut consumers = Vec::new();
        if rings {
            let ring = Ring::confined(4).private().expect("a ring");
            let attr = Event::bpf_output_attr(SampleType::empty());
            let event = Event::new(ring.producer().expect("a producer"), &attr, 0).expect("an event");
            machine.set_event(&maps[EVENTS], 0, 0, event).expect("a slot");
            consumers.push(ring.consumer().expect("a consumer"));
            consumers.push(maps[RINGBUF].take_consumer().expect("a ring").expect("the first"));
        }
        Self { machine, maps, consumers }
    }

    fn load(&self, type_: &ProgramType, callx: bool, insns: Vec<Insn>) -> Option<Program> {
        // From a program with fields there is no way back to one on memory.
        let callable = |map: &Map| map.owner().is_none_or(|owner| owner.is_valid_tail_call(type_));
        let maps = self.maps.iter().map(|map| if callable(map) { map } else { &self.maps[PROGRAMS + 1] }).cloned();
        let builder = Program::builder("fuzz", type_).helpers(&types().helpers).maps(maps).license("GPL");
        builder.callx(callx).load(insns).ok()
    }

    /// The maps as they were at first.
    fn clear(&self) {
        for map in self.maps.iter().filter(|map| matches!(map.def().type_, MapType::Hash | MapType::LruHash)) {
            for element in map {
                map.delete(&element.expect("an element").0).expect("it is there");
            }
        }
        for map in self.maps.iter().filter(|map| map.def().type_ == MapType::Array) {
            let byte = if map.def().flags.contains(MapFlags::RDONLY_PROG) { 0x2a } else { 0 };
            for index in 0..2_u32 {
                let value = vec![byte; map.def().value_size as usize];
                map.update(&index.to_ne_bytes(), &value, UpdateFlags::Any).expect("an element");
            }
        }
    }

    fn values(&self) -> Vec<Vec<u8>> {
        let arrays = self.maps.iter().filter(|map| map.def().type_ == MapType::Array);
        arrays.flat_map(|map| map.iter().map(|element| element.expect("an element").1).collect::<Vec<_>>()).collect()
    }

    /// Reads all records: each is one of ours, and whole. Gives how many samples there are in each ring.
    fn drain(&mut self) -> Vec<usize> {
        let drain = |consumer: &mut Consumer| {
            let mut samples = 0;
            consumer
                .for_each(|record| {
                    let bytes = record.bytes();
                    match record.header().type_ {
                        LOST => {}
                        SAMPLE => {
                            let size = u32::from_ne_bytes(bytes[8..12].try_into().expect("4 bytes"));
                            assert_eq!(size as usize, bytes.len() - 12);
                            samples += 1;
                        }
                        type_ => panic!("a record of type {type_}"),
                    }
                })
                .expect("records");
            samples
        };
        self.consumers.iter_mut().map(drain).collect()
    }
}

/// Memory that is lent, with a guard on both sides.
struct Guarded {
    bytes: Vec<u8>,
}

impl Guarded {
    fn new(len: usize) -> Self {
        Self { bytes: vec![0; len + 2 * GUARD] }
    }

    fn fill(&mut self, guard: u8) -> &mut [u8] {
        self.bytes.fill(guard);
        let end = self.bytes.len() - GUARD;
        let inside = &mut self.bytes[GUARD..end];
        inside.iter_mut().zip(0..).for_each(|(byte, at)| *byte = at);
        inside
    }

    /// What is inside; what is around it is as it was.
    fn check(&self, guard: u8) -> &[u8] {
        let end = self.bytes.len() - GUARD;
        assert!(self.bytes[..GUARD].iter().chain(&self.bytes[end..]).all(|byte| *byte == guard), "a store outside");
        &self.bytes[GUARD..end]
    }
}

/// What can be seen of a run.
#[derive(Debug, PartialEq)]
struct Seen {
    result: Result<u64, RunError>,
    context: Vec<u8>,
    packet: Vec<u8>,
    values: Vec<Vec<u8>>,
}

fn run(setting: &Setting, program: &Program, context: &mut Guarded, packet: &mut Guarded, guard: u8) -> Seen {
    setting.clear();
    let lent = Context::new(context.fill(guard)).packet(packet.fill(guard));
    let result = setting.machine.run(program, lent);
    Seen {
        result,
        context: context.check(guard).to_vec(),
        packet: packet.check(guard).to_vec(),
        values: setting.values(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let choice = input.byte();
    let (fields, rings, callx) = (choice & 1 != 0, choice & 2 != 0, choice & 4 != 0);
    let type_ = if fields { &types().fields } else { &types().memory };
    const LENGTHS: [usize; 8] = [16, 8, 0, 1, 7, 12, 24, 64];
    let mut context = Guarded::new(if fields { FIELDS } else { input.one(&LENGTHS) });
    let mut packet = Guarded::new(input.one(&LENGTHS));
    // Made once, as that is most of the work; cleared between runs.
    static SETTINGS: OnceLock<[Mutex<Setting>; 2]> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| [false, true].map(|rings| Mutex::new(Setting::new(rings))));
    let mut setting = settings[usize::from(rings)].lock().expect("a failure ends the process");
    let before = setting.machine.stats().expect("no program runs");
    let Some(main) = setting.load(type_, callx, program(&mut input)) else { return };
    for (map, type_) in [(PROGRAMS, &types().memory), (PROGRAMS + 1, &types().fields)] {
        let target = setting.load(type_, callx, program(&mut input));
        setting.maps[map].set_program(0, target.as_ref()).expect("of its type");
        let main = (type_ == main.type_()).then_some(&main);
        setting.maps[map].set_program(1, main).expect("of its type");
    }

    let seen = run(&setting, &main, &mut context, &mut packet, 0xa5);
    match &seen.result {
        Ok(_) => {}
        Err(RunError::Trap(trap)) => {
            assert_eq!(trap.program, "fuzz");
            assert!(!trap.to_string().is_empty());
        }
        Err(error) => panic!("{error}"),
    }
    if fields {
        let inside = (0..FIELDS).filter(|at| !WRITABLE.contains(at) && *at >= 8);
        inside.for_each(|at| assert_eq!(seen.context[at], at as u8, "a store to what may not be written"));
    }
    for element in &setting.maps[READ_ONLY] {
        assert_eq!(element.expect("an element").1, [0x2a; 8], "a store to what may not be written");
    }
    let stats = setting.machine.stats().expect("no program runs");
    assert_eq!(stats.runs - before.runs, 1);
    assert_eq!(stats.traps - before.traps, u64::from(seen.result.is_err()));
    assert_eq!((stats.reentrant, stats.no_cpu), (0, 0));
    if !rings {
        assert_eq!(seen, run(&setting, &main, &mut context, &mut packet, 0x5a), "it saw what it may not see");
    }

    // Nothing is left open, and the next program runs as ever.
    setting.drain();
    assert_eq!(setting.machine.run(&three(&types().memory), Context::new(&mut [])), Ok(3));
    if rings {
        let mut insns: Vec<Insn> = Vec::new();
        let output = |items: &mut Vec<Item>, ring: usize| match ring {
            0 => {
                items.extend([map(2, EVENTS), insn(0xb4, 3, 0, 0, -1)]);
                items.extend(frame(4, -16));
                items.extend([mov(5, 12), call(HelperId::PERF_EVENT_OUTPUT)]);
            }
            _ => {
                items.push(map(1, RINGBUF));
                items.extend(frame(2, -16));
                items.extend([mov(3, 12), mov(4, 0), call(HelperId::RINGBUF_OUTPUT)]);
            }
        };
        for ring in 0..2 {
            let mut items = Vec::new();
            output(&mut items, ring);
            items.push(insn(0x95, 0, 0, 0, 0));
            insns.clear();
            for item in items {
                match item {
                    Item::Insn(insn) => insns.push(insn),
                    Item::Wide(insn, high) => insns.extend([insn, Insn { imm: high, ..Insn::default() }]),
                    _ => unreachable!("neither jumps nor calls"),
                }
            }
            let next = setting.load(&types().memory, callx, insns.clone()).expect("a program");
            assert_eq!(setting.machine.run(&next, Context::new(&mut [])), Ok(0));
            assert_eq!(setting.drain(), if ring == 0 { [1, 0] } else { [0, 1] });
        }
    }
});
