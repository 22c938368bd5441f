//! Verified programs, which run without tests, beside the same programs as they were loaded, each access of which is tested: they
//! return the same and leave the same.
#![cfg(feature = "bpf")]

#[allow(dead_code, reason = "it is for other tests, too")]
mod bpf_generate;
mod bpf_modes;

use bpf_generate::{DATA, Program as Generated, Random, VALUE};
use bpf_modes::{SK_BUFF, array, both, load, prog_array, same, verify, words};
use perfring::bpf::map::{Map, MapDef, MapFlags, MapType, UpdateFlags};
use perfring::bpf::program_type::{ContextLayout, Field, Pointer};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Context, Environment, Event, Machine, ProbeRead, Program, ProgramType, RunOptions};
use perfring::record::SampleType;
use perfring::ring::{Consumer, Ring};
use std::collections::BTreeMap;

#[test]
fn random_programs_do_the_same() {
    const PROGRAMS: u64 = 3000;
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    let (programs, first) =
        (variable("PERFRING_BPF_PROGRAMS").unwrap_or(PROGRAMS), variable("PERFRING_BPF_SEED").unwrap_or(1));
    let machine = Machine::new(1);
    let map = array("value", VALUE as u32, 1);
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    let mut accepted = 0;
    for seed in first..first + programs {
        let ops = Generated::generate(seed).ops();
        let insns = ops.iter().flat_map(|op| op.encode().to_vec()).collect();
        let builder = Program::builder("random", ProgramType::socket_filter()).maps([map.clone()]).license("GPL");
        let program = builder.load(insns).unwrap();
        let verified = match program.verify(&VerifyOptions::default()) {
            Ok(verified) => verified,
            Err(error) => {
                let kind = format!("{:?}", error.kind);
                let name = kind.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
                *refused.entry(name.to_owned()).or_default() += 1;
                continue;
            }
        };
        accepted += 1;
        let mut random = Random::new(!seed);
        for _ in 0..3 {
            let input: Vec<u8> = (0..DATA / 8).flat_map(|_| random.number().to_ne_bytes()).collect();
            let input: Vec<u8> = input.into_iter().chain(std::iter::repeat_n(0, VALUE - DATA)).collect();
            let run = |program: &Program| {
                map.update(&[0; 4], &input, UpdateFlags::Any).unwrap();
                (machine.run(program, Context::new(&mut [0; SK_BUFF])), words(&map))
            };
            let checked = run(&program);
            assert!(checked.0.is_ok(), "again with PERFRING_BPF_SEED={seed} PERFRING_BPF_PROGRAMS=1: {:?}", checked.0);
            assert_eq!(run(&verified), checked, "again with PERFRING_BPF_SEED={seed} PERFRING_BPF_PROGRAMS=1");
        }
    }
    println!("{accepted} programs; others: {refused:?}");
    assert!(accepted * 100 >= programs * 80, "too much is refused: {refused:?}");
}

/// Every place that a program has memory in: what is stored in each is what is loaded, and what is left.
#[test]
fn memory_of_all_kinds() {
    let fields = [
        Field::read_only("number", 0, 4, 2),
        Field::read_only("cb", 8, 4, 2).writable(),
        Field::pointer("data", 16, 8, Pointer::Packet),
        Field::pointer("data_end", 24, 8, Pointer::PacketEnd),
    ];
    let layout = ContextLayout::fields(32, fields).unwrap();
    let type_ = ProgramType::builder("all", layout).all_helpers().build();
    let (values, hash) = (array("values", 24, 4), Map::new(&MapDef::hash("hash", 4, 16, 8), 2).unwrap());
    let percpu = Map::new(&MapDef { type_: MapType::PercpuArray, ..MapDef::array("percpu", 8, 2) }, 2);
    let percpu = percpu.unwrap();
    let ring = Map::new(&MapDef::ringbuf("ring", 4096), 2).unwrap();
    let mut records = ring.take_consumer().unwrap().unwrap();
    hash.update(&[1, 0, 0, 0], &[9; 16], UpdateFlags::Any).unwrap();
    let text = "
        r6 = r1
        r7 = 0
        // The packet.
        r2 = *(u64 *)(r6 +16)
        r3 = *(u64 *)(r6 +24)
        r4 = r2
        r4 += 12
        if r4 > r3 goto context
        r7 = *(u32 *)(r2 +8)
        *(u16 *)(r2 +2) = r7
        r8 = *(s8 *)(r2 +5)
        r7 += r8
        context:
        r8 = *(u8 *)(r6 +5)
        r7 += r8
        *(u32 *)(r6 +12) = r7
        // A value of an array at a place that only the run knows.
        r8 = *(u32 *)(r6 +0)
        r8 &= 3
        *(u32 *)(r10 -4) = r8
        r1 = map[idx:0] ll
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto hash
        r8 <<= 2
        r0 += r8
        *(u32 *)(r0 +0) = r7
        r8 = 5
        lock *(u32 *)(r0 +8) += r8
        hash:
        *(u32 *)(r10 -8) = 1
        *(u64 *)(r10 -24) = 7
        *(u64 *)(r10 -16) = r7
        r1 = map[idx:1] ll
        r2 = r10
        r2 += -8
        r3 = r10
        r3 += -24
        r4 = 0
        call bpf_map_update_elem
        r1 = map[idx:1] ll
        r2 = r10
        r2 += -8
        call bpf_map_lookup_elem
        if r0 == 0 goto percpu
        r1 = *(u64 *)(r0 +8)
        r7 += r1
        r1 = 1
        r1 = atomic_fetch_add((u64 *)(r0 +0), r1)
        r7 += r1
        percpu:
        *(u32 *)(r10 -8) = 0
        r1 = map[idx:2] ll
        r2 = r10
        r2 += -8
        call bpf_map_lookup_elem
        if r0 == 0 goto ring
        *(u64 *)(r0 +0) = r7
        ring:
        r1 = map[idx:3] ll
        r2 = 20
        r3 = 0
        call bpf_ringbuf_reserve
        if r0 == 0 goto function
        *(u32 *)(r0 +0) = r7
        *(u64 *)(r0 +4) = 3
        *(u64 *)(r0 +12) = 4
        r1 = 2
        lock *(u32 *)(r0 +4) += r1
        r1 = r0
        r2 = 0
        call bpf_ringbuf_submit
        function:
        // A frame, from a function.
        *(u64 *)(r10 -32) = r7
        r1 = r10
        r1 += -32
        call f
        r1 = *(u64 *)(r10 -32)
        r0 += r1
        exit
        f:
        r2 = *(u64 *)(r1 +0)
        r2 += 100
        *(u64 *)(r1 +0) = r2
        *(u8 *)(r10 -1) = r2
        r0 = *(u8 *)(r10 -1)
        exit";
    let programs = both(&type_, &[&values, &hash, &percpu, &ring], text);
    let machine = Machine::new(2);
    let mut reserved = 0;
    for (number, length) in [(0_u32, 0), (1, 11), (2, 12), (0xffff_ffff, 64), (7, 13)] {
        let left = same(&programs, |program| {
            for key in 0..4_u32 {
                values.update(&key.to_ne_bytes(), &[3; 24], UpdateFlags::Any).unwrap();
            }
            hash.update(&[1, 0, 0, 0], &[9; 16], UpdateFlags::Any).unwrap();
            let mut context = [0x81; 32];
            context[..4].copy_from_slice(&number.to_ne_bytes());
            let mut packet: Vec<u8> = (0..length).map(|at| 0x70 + at).collect();
            let options = RunOptions::new().cpu(1);
            let result = machine.run_with(program, Context::new(&mut context).packet(&mut packet), options);
            let mut sent = Vec::new();
            records.for_each(|record| sent.push(record.bytes().to_vec())).unwrap();
            reserved += sent.len();
            (result.unwrap(), context, packet, words(&values), words(&hash), words(&percpu), sent)
        });
        assert_ne!(left.0, 0);
    }
    assert_eq!(reserved, 2 * 5);
}

/// A probe with two buffers.
fn probe() -> ProgramType {
    let fields = [
        Field::read_only("number", 0, 8, 1),
        Field::pointer("buf", 8, 8, Pointer::Buffer(8)),
        Field::pointer("buf_end", 16, 8, Pointer::BufferEnd(8)),
        Field::pointer("buf2", 24, 8, Pointer::Buffer(24)),
        Field::pointer("buf2_end", 32, 8, Pointer::BufferEnd(24)),
    ];
    ProgramType::builder("probe", ContextLayout::fields(40, fields).unwrap()).all_helpers().build()
}

fn output(machine: &Machine) -> (Map, Consumer) {
    let ring = Ring::confined(4).private().unwrap();
    let events = Map::new(&MapDef::perf_event_array("events", 1), 1).unwrap();
    let attr = Event::bpf_output_attr(SampleType::empty());
    machine.set_event(&events, 0, 0, Event::new(ring.producer().unwrap(), &attr, 9).unwrap()).unwrap();
    (events, ring.consumer().unwrap())
}

#[test]
fn writable_buffers() {
    let machine = Machine::new(1);
    let (events, mut consumer) = output(&machine);
    let text = "
        r6 = r1
        r7 = 0
        r2 = 8
        r3 = map[idx:0] ll
        r4 = 20
        call bpf_buffer_reserve
        if r0 != 0 goto second
        r1 = *(u64 *)(r6 +8)
        r2 = *(u64 *)(r6 +16)
        r3 = r1
        r3 += 16
        if r3 > r2 goto commit
        r4 = *(u64 *)(r6 +0)
        *(u64 *)(r1 +0) = r4
        *(u32 *)(r1 +8) = 77
        *(u16 *)(r1 +12) = 5
        *(u8 *)(r1 +14) = 6
        *(u8 *)(r1 +15) = 7
        r7 = *(u32 *)(r1 +4)
        commit:
        r1 = r6
        r2 = 8
        r3 = map[idx:0] ll
        call bpf_buffer_commit
        second:
        // A buffer that is closed has no bytes.
        r1 = *(u64 *)(r6 +24)
        r2 = *(u64 *)(r6 +32)
        r3 = r1
        r3 += 1
        if r3 > r2 goto out
        r7 = *(u8 *)(r1 +0)
        out:
        r0 = r7
        exit";
    let programs = both(&probe(), &[&events], text);
    let left = same(&programs, |program| {
        let mut context = [0; 40];
        context[..8].copy_from_slice(&0x1122_3344_5566_7788_u64.to_ne_bytes());
        let result = machine.run(program, Context::new(&mut context));
        let mut sent = Vec::new();
        consumer.for_each(|record| sent.push(record.bytes().to_vec())).unwrap();
        (result, sent)
    });
    assert_eq!((left.0, left.1.len()), (Ok(0x1122_3344), 1));
    // Without room for it there is none.
    drop(consumer);
    let empty = Map::new(&MapDef::perf_event_array("events", 1), 1).unwrap();
    let programs = both(&probe(), &[&empty], text);
    assert_eq!(same(&programs, |program| machine.run(program, Context::new(&mut [0; 40]))), Ok(0));
}

/// What an execution of another program leaves in the frames is nothing that a verified one gives away.
#[test]
fn texts_do_not_show_what_frames_held() {
    struct Text;
    impl Environment for Text {
        fn ktime_get_ns(&self) -> u64 {
            0
        }
        fn ktime_get_boot_ns(&self) -> u64 {
            0
        }
        fn pid_tgid(&self) -> u64 {
            0
        }
        fn uid_gid(&self) -> u64 {
            0
        }
        fn comm(&self) -> [u8; 16] {
            *b"a name\0\0\0\0\0\0\0\0\0\0"
        }
        fn probe_read(&self, read: ProbeRead, to: &mut [u8]) -> usize {
            to.fill(0);
            to[..2].copy_from_slice(b"ab");
            assert_ne!(read.size, 0);
            to.len()
        }
    }
    let machine = Machine::builder(1).environment(Text).build();
    let fill: String = (1..=64).map(|slot| format!("*(u64 *)(r10 -{}) = -1\n", 8 * slot)).collect();
    let fill = load(ProgramType::memory(), &[], &format!("{fill}r0 = 0\nexit"));
    let text = "
        r1 = r10
        r1 += -32
        r2 = 32
        r3 = 8
        call bpf_probe_read_user_str
        r0 = *(u64 *)(r10 -32)
        r1 = *(u64 *)(r10 -24)
        r0 += r1
        r1 = *(u64 *)(r10 -8)
        r0 += r1
        exit";
    let name = text.replace("r3 = 8\n", "").replace("bpf_probe_read_user_str", "bpf_get_current_comm");
    let bytes = text.replace("bpf_probe_read_user_str", "bpf_probe_read_user");
    let of = |text: &[u8; 8]| Ok(u64::from_ne_bytes(*text));
    for (text, expected) in [(text, of(b"ab\0\0\0\0\0\0")), (&name, of(b"a name\0\0")), (&bytes, of(b"ab\0\0\0\0\0\0"))]
    {
        let programs = both(ProgramType::memory(), &[], text);
        let result = same(&programs, |program| {
            assert_eq!(machine.run(&fill, Context::new(&mut [])), Ok(0));
            machine.run(program, Context::new(&mut []))
        });
        assert_eq!(result, expected, "{text}");
    }
}

/// What others do to maps while verified programs run.
#[test]
fn maps_that_change_meanwhile() {
    let hash = Map::new(&MapDef { type_: MapType::LruHash, ..MapDef::hash("hash", 4, 64, 16) }, 2).unwrap();
    let programs = prog_array(ProgramType::memory());
    // Both halves of the value are one number, whatever is evicted, deleted and updated: values are replaced, not overwritten.
    let text = "
        r6 = r1
        r7 = 500
        loop:
        call bpf_get_prandom_u32
        r0 &= 31
        *(u32 *)(r10 -4) = r0
        r1 = map[idx:1] ll
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto next
        r1 = *(u64 *)(r0 +0)
        r2 = *(u64 *)(r0 +56)
        r1 &= -256
        r2 &= -256
        if r1 != r2 goto torn
        next:
        r7 -= 1
        if r7 != 0 goto loop
        r1 = r6
        r2 = map[idx:0] ll
        r3 = 0
        call bpf_tail_call
        r0 = 0
        exit
        torn:
        r0 = 1
        exit";
    let target = "r0 = 0\nexit";
    let verified = verify(&load(ProgramType::memory(), &[&programs, &hash], text));
    let targets = both(ProgramType::memory(), &[], target);
    let machine = Machine::new(2);
    std::thread::scope(|scope| {
        let runs = scope.spawn(|| {
            for _ in 0..1000 {
                assert_eq!(machine.run(&verified, Context::new(&mut [])), Ok(0));
            }
        });
        let mut at = 0_u32;
        while !runs.is_finished() {
            at = at.wrapping_add(1);
            let value: Vec<u8> = std::iter::repeat_n(u64::from(at) << 8, 8).flat_map(u64::to_ne_bytes).collect();
            hash.update(&(at % 32).to_ne_bytes(), &value, UpdateFlags::Any).unwrap();
            let _ = hash.delete(&(at / 3 % 32).to_ne_bytes());
            programs.set_program(0, [None, Some(&targets[0]), Some(&targets[1])][at as usize % 3]).unwrap();
        }
        runs.join().unwrap();
    });
}

/// Numbers that are taken out of a map that is constant; one that is only frozen, or only read by programs, is not.
#[test]
fn constants() {
    let of = |flags: MapFlags| Map::new(&MapDef { flags, ..MapDef::array("constant", 8, 1) }, 1).unwrap();
    let text = "
        r1 = map[idx:0][0]+0 ll
        r1 = *(u64 *)(r1 +0)
        if r1 == 5 goto five
        r0 = 1
        exit
        five:
        r0 = 2
        exit";
    let constant = of(MapFlags::RDONLY_PROG);
    constant.update(&[0; 4], &5_u64.to_ne_bytes(), UpdateFlags::Any).unwrap();
    constant.freeze();
    let program = load(ProgramType::memory(), &[&constant], text);
    let verified = program.verify(&VerifyOptions::default()).unwrap();
    assert_eq!(verified.stats().dead, std::iter::once(4..6).collect::<Vec<_>>(), "the other way is not taken");
    assert_eq!(Machine::new(1).run(&verified, Context::new(&mut [])), Ok(2));
    let changing = of(MapFlags::RDONLY_PROG);
    let program = load(ProgramType::memory(), &[&changing], text);
    let verified = program.verify(&VerifyOptions::default()).unwrap();
    assert_eq!(verified.stats().dead, []);
    for (number, expected) in [(4_u64, 1), (5, 2), (6, 1)] {
        changing.update(&[0; 4], &number.to_ne_bytes(), UpdateFlags::Any).unwrap();
        assert_eq!(Machine::new(1).run(&verified, Context::new(&mut [])), Ok(expected));
    }
}
