//! Objects, each in the kernel and in the interpreter, on the same inputs: what its programs return, what they do to packets,
//! contexts and maps, and the records that they send are the same.
//!
//! aya loads it for the kernel. The records of both are read by the same consumer and decoder. The programs know the registers
//! of x86-64.
#![cfg(all(feature = "bpf", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "a thread is bound to its CPU, and a function is probed by its name")]

mod bpf_kernel;
mod common;

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use aya::maps::MapData;
use aya::programs::{UProbe, Xdp};
use bpf_kernel::{Def, Input, connect, map_type, possible_cpus, test_run};
use common::{Need, require_kernel};
use perfring::bpf::elf::Object;
use perfring::bpf::program_type::{ContextLayout, Field, Pointer};
use perfring::bpf::{Context, Event, Live, Loaded, Loader, Machine, ProgramType, RunOptions};
use perfring::kernel::{EventBuilder, SampleType, Software, Target};
use perfring::record::{Body, ByteOrder, Decoder};
use perfring::ring::{Consumer, Ring};

const OBJECT: &[u8] = include_bytes!("bpf/equal.bpf.o");
/// Bytes in a `struct __sk_buff`.
const SK_BUFF: usize = 192;
/// Of an Ethernet header.
const ETHERNET: usize = 14;
const MISC_KERNEL: u16 = 1;
const MISC_USER: u16 = 2;

/// All that samples have here but what tells of the code that runs, and the time.
fn sample_type() -> SampleType {
    SampleType::IDENTIFIER
        | SampleType::TID
        | SampleType::ADDR
        | SampleType::ID
        | SampleType::STREAM_ID
        | SampleType::CPU
        | SampleType::PERIOD
        | SampleType::RAW
}

/// Binds the calling thread to the CPU on which it runs, and gives its number.
fn stay() -> u32 {
    // SAFETY: it has no preconditions.
    let cpu = unsafe { libc::sched_getcpu() };
    // SAFETY: all zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is that of a CPU.
    unsafe { libc::CPU_SET(cpu as usize, &mut set) };
    // SAFETY: the set is as long as the size says.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }, 0);
    cpu as u32
}

/// A record, without the bytes that fill it up, which the kernel leaves as they happen to be.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// From the header on, but without `misc`.
    bytes: Vec<u8>,
    cpu: Option<u32>,
    tid: Option<u32>,
    id: Option<u64>,
    payload: Vec<u8>,
}

/// The records that came, whose payloads should have these lengths, with this `misc`; `whole` gets the bytes of each.
fn read(
    consumer: &mut Consumer,
    decoder: &Decoder,
    lengths: &[usize],
    misc: u16,
    mut whole: impl FnMut(&[u8]),
) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut lengths = lengths.iter();
    let action = |record: perfring::ring::Record<'_>| {
        let length = *lengths.next().expect("a record too many");
        whole(record.bytes());
        let decoded = decoder.decode(record.bytes()).unwrap();
        let Body::Sample(sample) = decoded.body else { panic!("{decoded:?}") };
        assert_eq!(record.header().misc, misc);
        let raw = sample.raw().unwrap();
        let padding = raw.len().checked_sub(length).expect("the payload is there");
        assert!(padding < 8, "{length} bytes in {}", raw.len());
        let mut bytes = record.bytes()[..record.bytes().len() - padding].to_vec();
        bytes[4..6].fill(0);
        seen.push(Seen {
            bytes,
            cpu: sample.cpu(),
            tid: sample.tid().map(|tid| tid.tid),
            id: sample.id(),
            payload: sample.raw_payload(length).expect("the length").to_vec(),
        });
    };
    consumer.for_each(action).expect("whole records");
    assert_eq!(lengths.len(), 0, "records are missing: there are {seen:?}");
    seen
}

/// Keys and values, sorted.
type Elements = Vec<(Vec<u8>, Vec<u8>)>;

/// What a run leaves.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    retval: Option<u32>,
    packet: Vec<u8>,
    cb: Vec<u8>,
    records: Vec<Seen>,
    maps: BTreeMap<&'static str, Elements>,
}

const MAPS: [(&str, u32, u32); 7] = [
    ("counts", map_type::ARRAY, 4),
    ("of_cpu", map_type::PERCPU_ARRAY, 4),
    ("seen", map_type::HASH, 4),
    ("by_cpu", map_type::PERCPU_HASH, 4),
    ("recent", map_type::LRU_HASH, 4),
    (".data", map_type::ARRAY, 4),
    (".bss", map_type::ARRAY, 4),
];

struct Kernel {
    object: aya::Ebpf,
    cpu: u32,
    decoder: Decoder,
    /// By CPU.
    rings: BTreeMap<u32, (u64, Consumer)>,
    /// Kept, as the map's slots are emptied when their events are closed.
    _events: Vec<perfring::kernel::Event>,
    maps: Vec<(&'static str, bpf_kernel::Map)>,
}

fn data(map: &aya::maps::Map) -> &MapData {
    use aya::maps::Map::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, PerfEventArray, ProgramArray};
    match map {
        Array(data) | HashMap(data) | LruHashMap(data) | PerCpuArray(data) | PerCpuHashMap(data)
        | PerfEventArray(data) | ProgramArray(data) => data,
        other => panic!("{other:?}"),
    }
}

impl Kernel {
    fn load(object: &Object, cpu: u32) -> Option<Self> {
        let mut ebpf = match aya::Ebpf::load(OBJECT) {
            Ok(ebpf) => ebpf,
            Err(error) => {
                common::skip(format_args!("bpf(2): {error:?}"));
                return None;
            }
        };
        for (name, program) in ebpf.programs_mut() {
            let loaded = match program {
                aya::programs::Program::SocketFilter(program) => program.load(),
                aya::programs::Program::Xdp(program) => program.load(),
                aya::programs::Program::RawTracePoint(program) => program.load(),
                aya::programs::Program::UProbe(program) => program.load(),
                other => panic!("{name}: {other:?}"),
            };
            loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let builder = EventBuilder::software(Software::BpfOutput).sample_period(1).sample_type(sample_type());
        let mut events = builder.open_cpus().unwrap();
        let (mut rings, mut decoder) = (BTreeMap::new(), None);
        for event in &mut events {
            let Target::Cpu { cpu: of } = event.target() else { panic!("{event:?}") };
            let consumer = event.mmap(16).unwrap();
            connect(data(ebpf.map("events").unwrap()).fd().as_fd(), of, event.as_fd()).unwrap();
            rings.insert(of, (event.id().unwrap(), consumer));
            if of == cpu {
                decoder = Some(event.decoder().unwrap());
            }
        }
        let again: &Xdp = ebpf.program("again").unwrap().try_into().unwrap();
        connect(data(ebpf.map("calls").unwrap()).fd().as_fd(), 1, again.fd().unwrap().as_fd()).unwrap();
        let maps = MAPS.map(|(name, map_type, key_size)| {
            let spec = object.map(name).unwrap();
            let def = Def { map_type, key_size, value_size: spec.value_size, max_entries: spec.max_entries, flags: 0 };
            let fd = data(ebpf.map(name).unwrap_or_else(|| panic!("no {name}"))).fd().as_fd();
            (name, bpf_kernel::Map::of(fd, def).unwrap())
        });
        let decoder = decoder.expect("this CPU has an event");
        Some(Self { object: ebpf, cpu, decoder, rings, _events: events, maps: maps.into() })
    }

    fn program(&self, name: &str) -> std::os::fd::BorrowedFd<'_> {
        self.object.program(name).unwrap().fd().unwrap().as_fd()
    }

    /// What is there after a run.
    fn left(&mut self, output: Option<bpf_kernel::Output>, lengths: &[usize], misc: u16) -> Left {
        let maps = self.maps.iter().map(|(name, map)| {
            let keys = map.keys().unwrap();
            let mut elements: Vec<_> =
                keys.into_iter().map(|key| (key.clone(), map.lookup(&key, 0).unwrap())).collect();
            elements.sort();
            (*name, elements)
        });
        let maps = maps.collect();
        let records = read(&mut self.rings.get_mut(&self.cpu).unwrap().1, &self.decoder, lengths, misc, |_| {});
        let (retval, packet, context) = match output {
            Some(output) => (Some(output.retval), output.data, output.context),
            None => (None, Vec::new(), Vec::new()),
        };
        Left { retval, packet, cb: context.get(48..68).unwrap_or_default().to_vec(), records, maps }
    }
}

struct Ours {
    loaded: Loaded,
    machine: Machine,
    cpu: u32,
    decoder: Decoder,
    /// By CPU.
    consumers: BTreeMap<u32, Consumer>,
}

impl Ours {
    fn load(object: &Object, kernel: &Kernel) -> Self {
        let machine = Machine::builder(possible_cpus()).environment(Live::reading(|_| true)).build();
        let loaded = Loader::new(object, &machine).owner("calls", ProgramType::xdp()).load().unwrap();
        let attr = Event::bpf_output_attr(sample_type());
        let consumers = kernel.rings.iter().map(|(&cpu, (id, _))| {
            let ring = Ring::confined(16).attr(attr.to_bytes(ByteOrder::NATIVE), vec![*id]).private().unwrap();
            let event = Event::new(ring.producer().unwrap(), &attr, *id).unwrap();
            machine.set_event(&loaded.maps["events"], cpu, cpu, event).unwrap();
            (cpu, ring.consumer().unwrap())
        });
        let consumers = consumers.collect();
        loaded.maps["calls"].set_program(1, Some(&loaded.programs["again"])).unwrap();
        let decoder = Decoder::new(&attr).unwrap();
        Self { loaded, machine, cpu: kernel.cpu, decoder, consumers }
    }

    fn run(&mut self, program: &str, context: &mut [u8], mut packet: Vec<u8>, lengths: &[usize]) -> Left {
        let run = Context::new(context).packet(&mut packet);
        let options = RunOptions::new().cpu(self.cpu);
        let r0 = self.machine.run_with(&self.loaded.programs[program], run, options).unwrap();
        let maps = MAPS.iter().map(|(name, ..)| {
            let mut elements: Vec<_> = self.loaded.maps[*name].iter().collect::<Result<_, _>>().unwrap();
            elements.sort();
            (*name, elements)
        });
        Left {
            retval: Some(r0 as u32),
            cb: Vec::new(),
            records: read(self.consumers.get_mut(&self.cpu).unwrap(), &self.decoder, lengths, MISC_USER, |_| {}),
            maps: maps.collect(),
            packet,
        }
    }
}

/// Both sides, and numbers for inputs.
struct Both {
    kernel: Kernel,
    ours: Ours,
    state: u64,
}

impl Both {
    fn load() -> Option<Self> {
        if !require_kernel(Need::Privileged) {
            return None;
        }
        let object = Object::parse(OBJECT).unwrap();
        let kernel = Kernel::load(&object, stay())?;
        let ours = Ours::load(&object, &kernel);
        Some(Self { kernel, ours, state: 1 })
    }

    fn number(&mut self) -> u64 {
        // Marsaglia's xorshift.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.number() as u8).collect()
    }
}

#[test]
fn socket_filters() {
    let Some(mut both) = Both::load() else { return };
    for run in 0..60 {
        let len = ETHERNET + [0, 1, 4, 20, 21, 31, 32, 43, 44, 45, 100, 1000][run % 12];
        let mut packet = both.bytes(len);
        // Of few protocols, so that each is seen again.
        packet[12] = 0x86;
        packet[13] &= 7;
        let mut context = vec![0; SK_BUFF];
        context[8..12].copy_from_slice(&both.bytes(4));
        context[48..68].copy_from_slice(&both.bytes(20));
        let network = len - ETHERNET;
        let lengths = if network < 44 { vec![24 + network.min(21)] } else { vec![24 + 21, 24] };
        let input = Input { data: packet.clone(), context: context.clone(), repeat: 1 };
        let output = test_run(both.kernel.program("on_packet"), &input).unwrap();
        let mut kernel = both.kernel.left(Some(output), &lengths, MISC_KERNEL);
        // A filter of a socket sees the packet without its Ethernet header; zeros are given back for it.
        assert_eq!(kernel.packet.drain(..ETHERNET).collect::<Vec<_>>(), [0; ETHERNET]);
        context[..4].copy_from_slice(&(network as u32).to_ne_bytes());
        context[16..20].copy_from_slice(&[packet[12], packet[13], 0, 0]);
        let mut ours = both.ours.run("on_packet", &mut context, packet[ETHERNET..].to_vec(), &lengths);
        ours.cb = context[48..68].to_vec();
        assert_eq!(kernel, ours, "{input:?}");
    }
}

#[test]
fn packets() {
    let Some(mut both) = Both::load() else { return };
    for run in 0..60 {
        let len = [14, 33, 34, 35, 60, 64, 1500][run % 7];
        let mut packet = both.bytes(len);
        // Slot 1 has a program, of which 33 follow each other; others are empty, or are not there.
        let slot = [1, 0, 3, 4, 255][run % 5];
        if let Some(byte) = packet.get_mut(20) {
            *byte = slot;
        }
        let lengths = match (len, slot) {
            (..34, _) => vec![],
            (_, 1) => [vec![4 + 34], vec![4; 33]].concat(),
            _ => vec![4 + 34],
        };
        let input = Input { data: packet.clone(), repeat: 1, ..Input::default() };
        let output = test_run(both.kernel.program("rewrite"), &input).unwrap();
        let kernel = both.kernel.left(Some(output), &lengths, MISC_KERNEL);
        let ours = both.ours.run("rewrite", &mut [0; 24], packet, &lengths);
        assert_eq!(kernel, ours, "{input:?}");
    }
}

#[test]
fn raw_tracepoints() {
    let Some(mut both) = Both::load() else { return };
    for run in 0..60 {
        let mut arguments: Vec<u64> = (0..12).map(|_| both.number()).collect();
        arguments[3] %= 6;
        match run % 4 {
            0 => arguments[0] = u64::from_ne_bytes(*b"perfring"),
            1 => arguments[1] %= 20,
            _ => {}
        }
        let mut context: Vec<u8> = arguments.iter().flat_map(|argument| argument.to_ne_bytes()).collect();
        let input = Input { context: context.clone(), ..Input::default() };
        let output = test_run(both.kernel.program("on_arguments"), &input).unwrap();
        let mut kernel = both.kernel.left(Some(output), &[48], MISC_KERNEL);
        kernel.cb.clear();
        let ours = both.ours.run("on_arguments", &mut context, Vec::new(), &[48]);
        assert_eq!(kernel, ours, "{arguments:x?}");
    }
}

/// What is probed.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn perfring_equal_call(a: u64, b: u64, c: u64, d: u64) -> u64 {
    std::hint::black_box(a ^ b ^ c ^ d)
}

/// Puts the arguments of a call where the registers are in a `struct pt_regs`: di, si, dx and cx.
fn set_registers(context: &mut [u8], arguments: [u64; 4]) {
    for (register, value) in [14, 13, 12, 11].into_iter().zip(arguments) {
        context[8 * register..][..8].copy_from_slice(&value.to_ne_bytes());
    }
}

#[test]
fn uprobes() {
    let Some(mut both) = Both::load() else { return };
    let program = std::env::current_exe().unwrap();
    let probe = EventBuilder::uprobe_symbol(program, "perfring_equal_call").unwrap();
    let probe = probe.open(Target::CallingThread).unwrap();
    probe.set_bpf(both.kernel.program("on_call")).unwrap();
    for _ in 0..60 {
        let arguments: [u64; 4] = std::array::from_fn(|_| both.number());
        let [a, mut b, c, d] = arguments;
        b %= 6;
        let lengths = [72 + (d as usize & 63)];
        perfring_equal_call(a, b, c, d);
        let mut kernel = both.kernel.left(None, &lengths, MISC_USER);
        let mut registers = [0; 168];
        set_registers(&mut registers, [a, b, c, d]);
        let ours = both.ours.run("on_call", &mut registers, Vec::new(), &lengths);
        // What it returns is not told.
        kernel.retval = Some(0);
        assert_eq!(kernel, ours, "{arguments:x?}");
    }
}

/// What is probed for the text that it is given.
// SAFETY: no other function has the name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn perfring_equal_text(text: u64, bytes: u64, most: u64) -> u64 {
    std::hint::black_box(text ^ bytes ^ most)
}

#[test]
fn memory_of_the_process() {
    let Some(mut both) = Both::load() else { return };
    let program = std::env::current_exe().unwrap();
    let probe = EventBuilder::uprobe_symbol(program, "perfring_equal_text").unwrap();
    let probe = probe.open(Target::CallingThread).unwrap();
    probe.set_bpf(both.kernel.program("on_text")).unwrap();
    // Two pages, behind which there is one that may not be read.
    let mut pages = memmap2::MmapMut::map_anon(3 * 4096).unwrap();
    // SAFETY: the page is the last of that mapping, and is not touched any more.
    assert_eq!(unsafe { libc::mprotect(pages.as_mut_ptr().add(2 * 4096).cast(), 4096, libc::PROT_NONE) }, 0);
    let text = b"some text\0and what stands behind it, without an end, and more of it";
    pages[4096 - 20..][..text.len()].copy_from_slice(text);
    pages[2 * 4096 - 12..2 * 4096].copy_from_slice(b"to the brink");
    let start = pages.as_ptr() as u64;
    let places =
        [start + 4096 - 20, start + 4096 - 8, start + 2 * 4096 - 12, start + 2 * 4096 - 1, start + 2 * 4096, 0, 8];
    for place in places {
        for [bytes, most] in [[0, 0], [1, 1], [8, 2], [12, 9], [12, 10], [13, 11], [20, 12], [31, 13], [31, 31]] {
            perfring_equal_text(place, bytes, most);
            let mut kernel = both.kernel.left(None, &[80], MISC_USER);
            let mut registers = [0; 168];
            set_registers(&mut registers, [place, bytes, most, 0]);
            let ours = both.ours.run("on_text", &mut registers, Vec::new(), &[80]);
            kernel.retval = Some(0);
            assert_eq!(kernel, ours, "{bytes} bytes and {most} of text at {:#x}", place.wrapping_sub(start));
        }
    }
}

#[test]
fn ring_buffers() {
    let Some(mut both) = Both::load() else { return };
    let mut of_kernel = aya::maps::RingBuf::try_from(both.kernel.object.take_map("ring").unwrap()).unwrap();
    let mut of_ours = both.ours.loaded.maps["ring"].take_consumer().unwrap().unwrap();
    let attr = Event::bpf_output_attr(SampleType::empty());
    let decoder = Decoder::new(&attr).unwrap();
    for _ in 0..100 {
        let mut context = both.bytes(96);
        let input = Input { context: context.clone(), ..Input::default() };
        let output = test_run(both.kernel.program("on_ring"), &input).unwrap();
        let mut kernel = both.kernel.left(Some(output), &[], MISC_KERNEL);
        kernel.cb.clear();
        let ours = both.ours.run("on_ring", &mut context, Vec::new(), &[]);
        assert_eq!(kernel, ours, "{input:?}");
        let mut sent = Vec::new();
        while let Some(item) = of_kernel.next() {
            sent.push(item.to_vec());
        }
        let mut found = Vec::new();
        let action = |record: perfring::ring::Record<'_>| {
            let decoded = decoder.decode(record.bytes()).unwrap();
            let Body::Sample(sample) = decoded.body else { panic!("{decoded:?}") };
            // As much as fills up the record comes with it.
            let length: usize = sent.get(found.len()).map_or(0, Vec::len);
            assert_eq!(sample.raw().unwrap().len(), (length + 4).next_multiple_of(8) - 4);
            found.push(sample.raw().unwrap()[..length].to_vec());
        };
        of_ours.for_each(action).unwrap();
        assert_eq!(sent, found);
    }
}

/// The object that fills records where they lie in the ring, if its flag says that there are helpers for that.
const RESERVE: &[u8] = include_bytes!("bpf/reserve.bpf.o");

/// Runs that program in the interpreter, on calls with these arguments; gives its records.
fn reserved(object: &Object, cpu: u32, id: u64, reserve: bool, calls: &[[u64; 4]]) -> (Vec<Seen>, Vec<Vec<u8>>) {
    const REGISTERS: u32 = 168;
    let mut fields = vec![Field::read_only("regs", 0, 8, REGISTERS / 8)];
    fields.push(Field::pointer("buf", REGISTERS, 8, Pointer::Buffer(REGISTERS)));
    fields.push(Field::pointer("buf_end", REGISTERS + 8, 8, Pointer::BufferEnd(REGISTERS)));
    let layout = ContextLayout::fields(REGISTERS + 16, fields).unwrap();
    let type_ = ProgramType::builder("uprobe with a buffer", layout).all_helpers().build();
    let machine = Machine::new(possible_cpus());
    let loader = Loader::new(object, &machine).type_of("on_call", &type_);
    let loaded = loader.global("reserve", i32::from(reserve).to_ne_bytes()).load().unwrap();
    let attr = Event::bpf_output_attr(sample_type());
    let ring = Ring::confined(16).attr(attr.to_bytes(ByteOrder::NATIVE), vec![id]).private().unwrap();
    let event = Event::new(ring.producer().unwrap(), &attr, id).unwrap();
    machine.set_event(&loaded.maps["events"], cpu, cpu, event).unwrap();
    for call in calls {
        let mut context = [0; REGISTERS as usize + 16];
        set_registers(&mut context, *call);
        let options = RunOptions::new().cpu(cpu);
        let r0 = machine.run_with(&loaded.programs["on_call"], Context::new(&mut context), options);
        assert_eq!(r0, Ok(0));
    }
    let stats = machine.stats().unwrap();
    assert_eq!((stats.runs, stats.traps, stats.discarded), (calls.len() as u64, 0, 0));
    assert_eq!(loaded.maps[".bss"].lookup(&[0; 4]), Ok(Some(vec![0; 8])), "nothing failed");
    let mut consumer = ring.consumer().unwrap();
    let mut whole = Vec::new();
    let decoder = Decoder::new(&attr).unwrap();
    let lengths = vec![CALL; calls.len()];
    let seen = read(&mut consumer, &decoder, &lengths, MISC_USER, |bytes| whole.push(bytes.to_vec()));
    (seen, whole)
}

/// Bytes of data in a record of that program.
const CALL: usize = 48;

#[test]
fn records_are_filled_where_they_lie_or_sent() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let object = Object::parse(RESERVE).unwrap();
    let mut ebpf = match aya::Ebpf::load(RESERVE) {
        Ok(ebpf) => ebpf,
        Err(error) => return common::skip(format_args!("bpf(2): {error:?}")),
    };
    let on_call: &mut UProbe = ebpf.program_mut("on_call").unwrap().try_into().unwrap();
    on_call.load().expect("the kernel does not see the calls that it does not know");
    let mut with_calls = aya::EbpfLoader::new().override_global("reserve", &1_i32, true).load(RESERVE).unwrap();
    let with_calls: &mut UProbe = with_calls.program_mut("on_call").unwrap().try_into().unwrap();
    let refused = with_calls.load().expect_err("the kernel does not know those calls").to_string();
    assert!(refused.contains("1886519298"), "{refused}");
    let cpu = stay();
    let builder = EventBuilder::software(Software::BpfOutput).sample_period(1).sample_type(sample_type());
    let mut event = builder.open(Target::Cpu { cpu }).unwrap();
    let mut consumer = event.mmap(16).unwrap();
    connect(data(ebpf.map("events").unwrap()).fd().as_fd(), cpu, event.as_fd()).unwrap();
    let probe = EventBuilder::uprobe_symbol(std::env::current_exe().unwrap(), "perfring_equal_call").unwrap();
    let probe = probe.open(Target::CallingThread).unwrap();
    probe.set_bpf(ebpf.program("on_call").unwrap().fd().unwrap().as_fd()).unwrap();
    let mut state = 1_u64;
    let mut number = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        state
    };
    let calls: Vec<[u64; 4]> = (0..100).map(|_| std::array::from_fn(|_| number())).collect();
    for &[a, b, c, d] in &calls {
        perfring_equal_call(a, b, c, d);
    }
    let decoder = event.decoder().unwrap();
    let kernel = read(&mut consumer, &decoder, &vec![CALL; calls.len()], MISC_USER, |_| {});
    let id = event.id().unwrap();
    let (sent, bytes_sent) = reserved(&object, cpu, id, false, &calls);
    let (filled, bytes_filled) = reserved(&object, cpu, id, true, &calls);
    assert_eq!(kernel, sent);
    assert_eq!(kernel, filled);
    assert_eq!(bytes_sent, bytes_filled, "with what fills them up");
}
