//! Maps from Rust, and beside programs.

use perfring::bpf::insn::{Insn, assemble_with};
use perfring::bpf::map::{Map, MapDef, MapError, MapFlags, MapType, UpdateFlags};
use perfring::bpf::{Context, Helpers, Machine, Program, ProgramType, RunOptions};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use UpdateFlags::{Any, Exist, NoExist};

const ENOTSUPP: i32 = 524;

fn map(def: &MapDef) -> Map {
    Map::new(def, 2).unwrap()
}

fn word(value: u64) -> [u8; 8] {
    value.to_ne_bytes()
}

fn key(key: u32) -> [u8; 4] {
    key.to_ne_bytes()
}

fn insns(text: &str) -> Vec<Insn> {
    let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
    assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

fn program(map: &Map, text: &str) -> Program {
    Program::builder("test", ProgramType::memory()).maps([map.clone()]).load(insns(text)).unwrap()
}

/// Looks the first 4 bytes of its memory up; gives the first 8 bytes of the value.
const LOOKUP: &str = "
    r2 = r1
    r1 = map[idx:0] ll
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r0 = *(u64 *)(r0 +0)
out:
    exit";

/// Updates with the first 4 bytes of its memory as key, those from 8 on as value, and those at 4 as flags.
const UPDATE: &str = "
    r2 = r1
    r3 = r1
    r3 += 8
    r4 = *(u32 *)(r1 +4)
    r1 = map[idx:0] ll
    call bpf_map_update_elem
    exit";

const DELETE: &str = "
    r2 = r1
    r1 = map[idx:0] ll
    call bpf_map_delete_elem
    exit";

fn memory(of_key: u32, flags: u32, value: u64) -> [u8; 16] {
    let mut memory = [0; 16];
    memory[..4].copy_from_slice(&key(of_key));
    memory[4..8].copy_from_slice(&flags.to_ne_bytes());
    memory[8..].copy_from_slice(&word(value));
    memory
}

#[test]
fn kinds_by_number_and_name() {
    let expected = [
        (1, "hash"),
        (2, "array"),
        (3, "prog_array"),
        (4, "perf_event_array"),
        (5, "percpu_hash"),
        (6, "percpu_array"),
        (9, "lru_hash"),
        (27, "ringbuf"),
    ];
    assert_eq!(MapType::ALL.iter().map(|kind| (*kind as u32, kind.name())).collect::<Vec<_>>(), expected);
    for number in 0..64 {
        let name = expected.iter().find(|(of, _)| *of == number).map(|(_, name)| *name);
        assert_eq!(MapType::from_number(number).map(MapType::name), name);
        assert_eq!(name.and_then(MapType::from_name).map(|kind| kind as u32), name.map(|_| number));
    }
    assert_eq!(MapType::from_name("queue"), None);
    assert_eq!(
        [0, 1, 2, 3, 4, u64::MAX].map(|flags| UpdateFlags::try_from(flags).map_err(|error| error.errno())),
        [Ok(Any), Ok(NoExist), Ok(Exist), Err(libc::EINVAL), Err(libc::EINVAL), Err(libc::EINVAL)]
    );
}

#[test]
fn definitions_that_are_refused() {
    use MapType::*;
    let flags = MapFlags::from_bits_retain;
    for (kind, key_size, value_size, entries, bits, errno) in [
        (Hash, 0, 8, 1, 0, libc::EINVAL),
        (Hash, 4, 0, 1, 0, libc::EINVAL),
        (Hash, 4, 8, 0, 0, libc::EINVAL),
        (Hash, 513, 8, 1, 0, libc::E2BIG),
        (Hash, u32::MAX, 8, 1, 0, libc::E2BIG),
        (Hash, 4, (4 << 20) - 52, 1, 0, libc::E2BIG),
        (Hash, 4, u32::MAX, 1, 0, libc::E2BIG),
        (Hash, 4, 8, 1 << 31, 0, libc::E2BIG),
        (Hash, 4, 8, u32::MAX, 0, libc::E2BIG),
        (Hash, 4, 8, 1, 1 << 1, libc::EINVAL),
        (Hash, 4, 8, 1, 1 << 3 | 1 << 4, libc::EINVAL),
        (Hash, 4, 8, 1, 1 << 7 | 1 << 8, libc::EINVAL),
        (Hash, 4, 8, 1, 1 << 10, libc::EINVAL),
        (Hash, 4, 8, 1, 1 << 31, libc::EINVAL),
        (LruHash, 4, 8, 1, 1, ENOTSUPP),
        (LruHash, 4, 8, u32::MAX, 0, libc::E2BIG),
        (PercpuHash, 4, (32 << 10) + 1, 1, 0, libc::E2BIG),
        (Array, 3, 8, 1, 0, libc::EINVAL),
        (Array, 8, 8, 1, 0, libc::EINVAL),
        (Array, 4, 0, 1, 0, libc::EINVAL),
        (Array, 4, 8, 0, 0, libc::EINVAL),
        (Array, 4, 1 << 31, 1, 0, libc::E2BIG),
        (Array, 4, 1 << 20, u32::MAX, 0, libc::ENOMEM),
        (Array, 4, 8, 1, 1, libc::EINVAL),
        (Array, 4, 8, 1, 1 << 6, libc::EINVAL),
        (PercpuArray, 4, (32 << 10) + 1, 1, 0, libc::E2BIG),
        (PercpuArray, 4, 8, 1, 1 << 10, libc::EINVAL),
        (PerfEventArray, 4, 8, 1, 0, libc::EINVAL),
        (PerfEventArray, 8, 4, 1, 0, libc::EINVAL),
        (PerfEventArray, 4, 4, 1, 1 << 7, libc::EINVAL),
        (ProgArray, 4, 4, 1, 0, libc::EINVAL),
        (Ringbuf, 4, 0, 1 << 16, 0, libc::EINVAL),
        (Ringbuf, 600, 0, 1 << 16, 0, libc::EINVAL),
        (Ringbuf, 0, 4, 1 << 16, 0, libc::EINVAL),
        (Ringbuf, 0, 0, 0, 0, libc::EINVAL),
        (Ringbuf, 0, 0, (1 << 16) + 1, 0, libc::EINVAL),
    ] {
        let def = MapDef::new("refused", kind, key_size, value_size, entries).flags(flags(bits));
        match Map::new(&def, 2) {
            Ok(_) => panic!("{def:?}"),
            Err(error) => assert_eq!(error.errno(), errno, "{def:?}: {error}"),
        }
    }
    // And the largest that there are.
    for (kind, value_size, entries) in
        [(Hash, (4 << 20) - 53, 1), (Array, i32::MAX as u32, 1), (PercpuArray, 32 << 10, 4), (Hash, 8, 1 << 22)]
    {
        Map::new(&MapDef::new("large", kind, 4, value_size, entries), 2).unwrap();
    }
}

#[test]
fn arrays() {
    let map = map(&MapDef::array("array", 6, 3));
    assert_eq!((map.len(), map.value_size()), (3, 6));
    assert_eq!(map.lookup(&key(2)).unwrap(), Some(vec![0; 6]));
    assert_eq!(map.lookup(&key(3)).unwrap(), None);
    map.update(&key(2), b"second", Any).unwrap();
    map.update(&key(2), b"third.", Exist).unwrap();
    assert_eq!(map.update(&key(2), b"fourth", NoExist), Err(MapError::Exists));
    assert_eq!(map.lookup(&key(2)).unwrap().as_deref(), Some(&b"third."[..]));
    let beyond = map.update(&key(3), b"fourth", Any).unwrap_err();
    assert_eq!((&beyond, beyond.errno()), (&MapError::Index { index: 3, entries: 3 }, libc::E2BIG));
    assert_eq!(map.delete(&key(0)).map_err(|error| error.errno()), Err(libc::EINVAL));
    assert_eq!(map.lookup_and_delete(&key(0)).map_err(|error| error.errno()), Err(ENOTSUPP));
    assert_eq!(map.lookup_and_delete_batch(0, 1).map_err(|error| error.errno()), Err(ENOTSUPP));
    assert_eq!(map.delete_batch([&key(0)[..]]).map_err(|(done, error)| (done, error.errno())), Err((0, ENOTSUPP)));
    let keys = std::iter::successors(map.next_key(None).unwrap(), |key| map.next_key(Some(key)).unwrap());
    assert_eq!(keys.collect::<Vec<_>>(), [key(0), key(1), key(2)]);
    assert_eq!(map.next_key(Some(&key(9))).unwrap(), Some(key(0).to_vec()));
    let batch = map.lookup_batch(1, 1).unwrap();
    assert_eq!((batch.elements, batch.next), (vec![(key(1).to_vec(), vec![0; 6])], Some(2)));
    let batch = map.lookup_batch(2, 5).unwrap();
    assert_eq!((batch.elements, batch.next), (vec![(key(2).to_vec(), b"third.".to_vec())], None));
    assert_eq!(map.lookup_batch(usize::MAX, 1).unwrap(), Default::default());
}

#[test]
fn keys_and_values_of_other_sizes() {
    for def in [MapDef::hash("hash", 4, 6, 3), MapDef::array("array", 6, 3)] {
        let map = map(&def);
        for size in [0, 3, 5, 512] {
            let key = vec![0; size];
            let wrong = MapError::Key { size, expected: 4 };
            assert_eq!(wrong.errno(), libc::EINVAL);
            assert_eq!(map.lookup(&key), Err(wrong.clone()));
            assert_eq!(map.update(&key, &[0; 6], Any), Err(wrong.clone()));
            assert_eq!(map.delete(&key), Err(wrong.clone()));
            assert_eq!(map.next_key(Some(&key)), Err(wrong));
        }
        for size in [0, 5, 7, 8] {
            let wrong = MapError::Value { size, expected: 6 };
            assert_eq!(map.update(&key(0), &vec![0; size], Any), Err(wrong.clone()));
            assert_eq!(map.lookup_into(&key(0), &mut vec![0; size]), Err(wrong));
        }
    }
}

#[test]
fn per_cpu_values() {
    for (kind, of_key) in [(MapType::PercpuArray, 1), (MapType::PercpuHash, 77)] {
        // 12 bytes take 16 for each CPU.
        let map = Map::new(&MapDef::new("values", kind, 4, 12, 3), 3).unwrap();
        assert_eq!(map.value_size(), 48);
        let machine = Machine::new(3);
        let update = program(&map, UPDATE);
        let lookup = program(&map, LOOKUP);
        let run = |program: &Program, cpu: u32, memory: &mut [u8]| {
            machine.run_with(program, Context::new(memory), RunOptions::new().cpu(cpu)).unwrap()
        };
        let copies = || {
            let value = map.lookup(&key(of_key)).unwrap().unwrap();
            value.chunks(16).map(|copy| (copy[0], copy[11], copy[12..] == [0; 4])).collect::<Vec<_>>()
        };
        let mut memory = [memory(of_key, 0, 0).as_slice(), &[7; 4]].concat();
        memory[8..20].fill(7);
        assert_eq!(run(&update, 1, &mut memory), 0);
        assert_eq!(copies(), [(0, 0, true), (7, 7, true), (0, 0, true)], "only that of the CPU");
        map.update(&key(of_key), &[9; 48], Exist).unwrap();
        assert_eq!(copies(), [(9, 9, true); 3], "all, and nothing of what lies between them");
        memory[8..20].fill(5);
        assert_eq!(run(&update, 2, &mut memory), 0);
        assert_eq!(copies(), [(9, 9, true), (9, 9, true), (5, 5, true)]);
        assert_eq!([0, 1, 2].map(|cpu| run(&lookup, cpu, &mut memory) as u8), [9, 9, 5]);
        assert_eq!(map.update(&key(of_key), &[9; 12], Any), Err(MapError::Value { size: 12, expected: 48 }));
        let found: Vec<_> = map.iter().map(Result::unwrap).filter(|(_, value)| value[0] == 9).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].0[..], found[0].1.len()), (&key(of_key)[..], 48));
    }
}

#[test]
fn hashes() {
    for kind in [MapType::Hash, MapType::LruHash] {
        let map = map(&MapDef::new("hash", kind, 5, 3, 2));
        assert_eq!(map.lookup(b"alpha").unwrap(), None);
        assert_eq!(map.update(b"alpha", b"one", Exist).map_err(|error| error.errno()), Err(libc::ENOENT));
        map.update(b"alpha", b"one", NoExist).unwrap();
        assert_eq!(map.update(b"alpha", b"two", NoExist).map_err(|error| error.errno()), Err(libc::EEXIST));
        assert_eq!(map.lookup(b"alpha").unwrap().as_deref(), Some(&b"one"[..]));
        map.update(b"alpha", b"two", Exist).unwrap();
        map.update(b"alphb", b"tri", Any).unwrap();
        assert_eq!((map.len(), map.is_empty()), (2, false));
        let found: BTreeMap<_, _> = map.iter().map(Result::unwrap).collect();
        let expected = [(b"alpha", b"two"), (b"alphb", b"tri")].map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(found, BTreeMap::from(expected));
        if kind == MapType::Hash {
            let full = map.update(b"gamma", b"for", Any).unwrap_err();
            assert_eq!((&full, full.errno()), (&MapError::Full { entries: 2 }, libc::E2BIG));
            map.update(b"alphb", b"thr", Any).expect("what is there is replaced in a full map");
        }
        assert_eq!(map.lookup_and_delete(b"alpha").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(map.lookup_and_delete(b"alpha").unwrap(), None);
        assert_eq!(map.delete(b"alpha").map_err(|error| error.errno()), Err(libc::ENOENT));
        map.delete(b"alphb").unwrap();
        assert!(map.is_empty());
        assert_eq!(map.next_key(None).unwrap(), None);
        assert_eq!(map.iter().count(), 0);
    }
}

#[test]
fn batches() {
    let map = map(&MapDef::hash("hash", 4, 8, 1000));
    let elements: Vec<_> = (0..1000_u32).map(|i| (key(i), word(u64::from(i) * 3))).collect();
    let pairs = elements.iter().map(|(key, value)| (&key[..], &value[..]));
    assert_eq!(map.update_batch(pairs, NoExist), Ok(1000));
    let again = elements[990..].iter().map(|(key, value)| (&key[..], &value[..]));
    assert_eq!(map.update_batch(again, NoExist), Err((0, MapError::Exists)));
    let more = [key(3), key(5000)];
    let more = more.iter().map(|key| (&key[..], &[0; 8][..]));
    assert_eq!(map.update_batch(more, Any), Err((1, MapError::Full { entries: 1000 })));
    map.update(&key(3), &word(9), Any).unwrap();

    let (mut from, mut found, mut batches) = (Some(0), BTreeMap::new(), 0);
    while let Some(at) = from {
        let batch = map.lookup_batch(at, 100).unwrap();
        assert!(batch.elements.len() >= 100 || batch.next.is_none());
        for (key, value) in batch.elements {
            assert_eq!(found.insert(key, value), None);
        }
        (from, batches) = (batch.next, batches + 1);
    }
    let expected: BTreeMap<_, _> = elements.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert_eq!(found, expected);
    // Each has 100 at least, and behind the last of them there may be one with nothing.
    assert!((2..=11).contains(&batches), "{batches}");

    let some = [key(7), key(8), key(7)];
    assert_eq!(map.delete_batch(some.iter().map(|key| &key[..])), Err((2, MapError::NotFound)));
    let mut taken = BTreeMap::new();
    let mut from = Some(0);
    while let Some(at) = from {
        let batch = map.lookup_and_delete_batch(at, 64).unwrap();
        taken.extend(batch.elements);
        from = batch.next;
    }
    assert_eq!(taken.len(), 998);
    assert!(taken.iter().all(|(key, value)| expected[key] == *value));
    assert!(map.is_empty());
}

#[test]
fn who_may_do_what() {
    let hash = |flags| map(&MapDef::hash("hash", 4, 8, 4).flags(flags));
    let refused = |what| Err(MapError::Permission { what });
    let map = hash(MapFlags::RDONLY);
    assert_eq!(map.update(&key(1), &word(1), Any), refused("written"));
    assert_eq!(map.delete(&key(1)), refused("written"));
    assert_eq!(map.lookup_and_delete(&key(1)).map(drop), refused("written"));
    assert_eq!(Machine::new(1).run(&program(&map, UPDATE), Context::new(&mut memory(1, 0, 5))).unwrap(), 0);
    assert_eq!(map.lookup(&key(1)).unwrap(), Some(word(5).to_vec()));

    let map = hash(MapFlags::WRONLY);
    map.update(&key(1), &word(1), Any).unwrap();
    assert_eq!(map.lookup(&key(1)).map(drop), refused("read"));
    assert_eq!(map.next_key(None).map(drop), refused("read"));
    assert_eq!(map.lookup_batch(0, 1).map(drop), refused("read"));
    assert_eq!(map.iter().collect::<Result<Vec<_>, _>>().map(drop), refused("read"));
    map.delete(&key(1)).unwrap();

    let map = hash(MapFlags::RDONLY_PROG);
    map.update(&key(1), &word(3), Any).unwrap();
    for text in [UPDATE, DELETE] {
        let result = Machine::new(1).run(&program(&map, text), Context::new(&mut memory(1, 0, 5))).unwrap();
        assert_eq!(result as i64, i64::from(-libc::EPERM));
    }
    assert_eq!(map.lookup(&key(1)).unwrap(), Some(word(3).to_vec()));

    let map = hash(MapFlags::empty());
    map.update(&key(1), &word(3), Any).unwrap();
    map.freeze();
    assert_eq!(map.update(&key(1), &word(1), Any), refused("written"));
    assert_eq!(map.delete_batch([&key(1)[..]]), Err((0, MapError::Permission { what: "written" })));
    assert_eq!(map.lookup_and_delete_batch(0, 1).map(drop), refused("written"));
    assert_eq!(refused("written").map_err(|error| error.errno()), Err::<(), _>(libc::EPERM));
    assert_eq!(map.lookup(&key(1)).unwrap(), Some(word(3).to_vec()));
    assert_eq!(Machine::new(1).run(&program(&map, UPDATE), Context::new(&mut memory(1, 0, 5))).unwrap(), 0);
    assert_eq!(map.lookup(&key(1)).unwrap(), Some(word(5).to_vec()));
}

#[test]
fn errno_values_that_programs_get() {
    let map = map(&MapDef::hash("hash", 4, 8, 2));
    let (update, delete) = (program(&map, UPDATE), program(&map, DELETE));
    let run = |program: &Program, of_key, flags| {
        Machine::new(1).run(program, Context::new(&mut memory(of_key, flags, 1))).unwrap() as i64 as i32
    };
    assert_eq!(run(&update, 1, 3), -libc::EINVAL);
    assert_eq!(run(&update, 1, 2), -libc::ENOENT);
    assert_eq!(run(&update, 1, 1), 0);
    assert_eq!(run(&update, 1, 1), -libc::EEXIST);
    assert_eq!(run(&update, 2, 0), 0);
    assert_eq!(run(&update, 3, 0), -libc::E2BIG);
    assert_eq!(run(&delete, 3, 0), -libc::ENOENT);
    assert_eq!(run(&delete, 2, 0), 0);
    assert_eq!(run(&update, 3, 0), 0);
}

/// A program keeps what it looked up, whatever it does to the key.
#[test]
fn a_program_keeps_what_it_looked_up() {
    let text = "
        r6 = r1
        r2 = r1
        r1 = map[idx:0] ll
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r7 = r0
        r2 = r6
        r1 = map[idx:0] ll
        call bpf_map_delete_elem
        r8 = 1000
    again:
        *(u64 *)(r10 -8) = r8
        *(u64 *)(r10 -16) = -1
        r2 = r10
        r2 += -8
        r3 = r10
        r3 += -16
        r4 = 0
        r1 = map[idx:0] ll
        call bpf_map_update_elem
        if r0 != 0 goto out
        r2 = r10
        r2 += -8
        r1 = map[idx:0] ll
        call bpf_map_delete_elem
        r8 += -1
        if r8 != 0 goto again
        r0 = *(u64 *)(r7 +0)
    out:
        exit";
    let map = map(&MapDef::hash("hash", 4, 8, 1));
    map.update(&key(9), &word(1234), Any).unwrap();
    let run = || Machine::new(1).run(&program(&map, text), Context::new(&mut memory(9, 0, 0))).unwrap();
    assert_eq!(run(), 1234);
    assert_eq!((run(), map.len()), (0, 0));
}

#[test]
fn what_is_used_does_not_give_way() {
    const HOT: u32 = 10;
    for by_update in [false, true] {
        let map = map(&MapDef::new("lru", MapType::LruHash, 4, 8, 100));
        let lookup = program(&map, LOOKUP);
        let machine = Machine::new(1);
        for hot in 0..HOT {
            map.update(&key(hot), &word(u64::from(hot) + 1), Any).unwrap();
        }
        for cold in 0..5000 {
            for hot in 0..HOT {
                let value = u64::from(hot) + 1;
                if by_update {
                    map.update(&key(hot), &word(value), Exist).expect("it is still there");
                } else {
                    assert_eq!(machine.run(&lookup, Context::new(&mut memory(hot, 0, 0))).unwrap(), value);
                }
            }
            map.update(&key(1000 + cold), &word(0), NoExist).unwrap();
            assert!(map.lookup(&key(1000 + cold)).unwrap().is_some(), "what just came stays");
            assert!(map.len() <= 100);
        }
        assert_eq!((map.len(), map.iter().count()), (100, 100));
    }
}

/// Who lists an LRU hash from Rust does not use what is in it.
#[test]
fn listing_is_not_using() {
    let map = map(&MapDef::new("lru", MapType::LruHash, 4, 8, 64));
    let lookup = program(&map, LOOKUP);
    for i in 0..64 {
        map.update(&key(i), &word(1), Any).unwrap();
    }
    let used: BTreeSet<u32> = (0..64).step_by(4).collect();
    for round in 0..32 {
        for i in &used {
            assert_eq!(Machine::new(1).run(&lookup, Context::new(&mut memory(*i, 0, 0))).unwrap(), 1);
        }
        for i in 0..64 {
            _ = map.lookup(&key(i)).unwrap();
        }
        map.update(&key(1000 + round), &word(0), Any).unwrap();
    }
    assert!(used.iter().all(|i| map.lookup(&key(*i)).unwrap().is_some()));
}

#[test]
fn a_walk_beside_changes_ends_and_misses_nothing() {
    let map = map(&MapDef::hash("hash", 4, 8, 4096));
    let stays: BTreeSet<u32> = (0..500).map(|i| i * 8).collect();
    for i in &stays {
        map.update(&key(*i), &word(u64::from(*i)), Any).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 1..3_u32 {
            let (map, stop, stays) = (&map, &stop, &stays);
            scope.spawn(move || {
                let mut i = thread;
                while !stop.load(Relaxed) {
                    let moving = (i % 4000 / 8) * 8 + thread;
                    map.update(&key(moving), &word(u64::from(moving)), Any).unwrap();
                    let replaced = moving - thread;
                    assert!(stays.contains(&replaced));
                    map.update(&key(replaced), &word(u64::from(replaced)), Exist).unwrap();
                    _ = map.delete(&key(moving / 16 * 8 + thread));
                    i = i.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) >> 1;
                }
            });
        }
        // Also where a check fails: nobody changes it for ever then.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _stop = Stop(&stop);
        for _ in 0..50 {
            let mut seen = BTreeMap::new();
            for element in &map {
                let (of_key, value) = element.unwrap();
                let of_key = u32::from_ne_bytes(of_key.try_into().unwrap());
                assert_eq!(value, word(u64::from(of_key)));
                *seen.entry(of_key).or_insert(0) += 1;
            }
            for i in &stays {
                assert_eq!(seen.get(i), Some(&1), "{i}");
            }
        }
    });
}

/// Threads with keys of their own, more than there is room for: each knows what it has, and all together never too much.
#[test]
fn capacity_is_exact_beside_other_threads() {
    const ROOM: u32 = 64;
    for kind in [MapType::Hash, MapType::PercpuHash] {
        let map = Map::new(&MapDef::new("hash", kind, 4, 8, ROOM), 1).unwrap();
        let models: Vec<HashMap<u32, u64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4_u32)
                .map(|thread| {
                    let map = &map;
                    scope.spawn(move || {
                        let (mut model, mut random) = (HashMap::new(), u64::from(thread) + 1);
                        for _ in 0..20_000 {
                            random =
                                random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                            let of_key = (random >> 33) as u32 % 32 * 4 + thread;
                            if random >> 60 < 6 {
                                let there = model.remove(&of_key).is_some();
                                assert_eq!(map.delete(&key(of_key)).is_ok(), there);
                            } else {
                                match map.update(&key(of_key), &word(random), Any) {
                                    Ok(()) => _ = model.insert(of_key, random),
                                    Err(error) => {
                                        assert_eq!(error, MapError::Full { entries: ROOM });
                                        assert!(!model.contains_key(&of_key));
                                    }
                                }
                            }
                            assert!(map.len() <= ROOM as usize);
                            assert_eq!(
                                map.lookup(&key(of_key)).unwrap(),
                                model.get(&of_key).map(|value| word(*value).to_vec())
                            );
                        }
                        model
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let expected: BTreeMap<_, _> =
            models.iter().flatten().map(|(of_key, value)| (key(*of_key).to_vec(), word(*value).to_vec())).collect();
        assert_eq!(map.iter().map(Result::unwrap).collect::<BTreeMap<_, _>>(), expected);
        assert_eq!(map.len(), expected.len());
        let added = (1000..2000).take_while(|i| map.update(&key(*i), &word(0), NoExist).is_ok()).count();
        assert_eq!(added + expected.len(), ROOM as usize);
    }
}

/// An LRU hash beside other threads: never too much, and what is there is whole.
#[test]
fn evictions_beside_other_threads() {
    for room in [1, 2, 50] {
        let map = map(&MapDef::new("lru", MapType::LruHash, 4, 8, room));
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let map = &map;
                scope.spawn(move || {
                    for i in 0..10_000_u32 {
                        let of_key = (i * 7 + thread * 3) % 200;
                        map.update(&key(of_key), &word(u64::from(of_key)), Any).unwrap();
                        let other = map.lookup(&key(i % 200)).unwrap();
                        assert!(other.is_none_or(|value| value == word(u64::from(i % 200))));
                        assert!(map.len() <= room as usize);
                    }
                });
            }
        });
        let found: Vec<_> = map.iter().map(Result::unwrap).collect();
        assert_eq!((found.len(), map.len()), (room as usize, room as usize));
    }
}

#[derive(Clone, Debug)]
enum Op {
    Update(u8, u64, UpdateFlags),
    Lookup(u8),
    Delete(u8),
    Take(u8),
    List,
}

fn op() -> impl Strategy<Value = Op> {
    let flags = prop_oneof![3 => Just(Any), 1 => Just(NoExist), 1 => Just(Exist)];
    prop_oneof![
        6 => (0_u8..24, any::<u64>(), flags).prop_map(|(key, value, flags)| Op::Update(key, value, flags)),
        2 => (0_u8..24).prop_map(Op::Lookup),
        2 => (0_u8..24).prop_map(Op::Delete),
        1 => (0_u8..24).prop_map(Op::Take),
        1 => Just(Op::List),
    ]
}

proptest! {
    #[test]
    fn as_a_hash_map(ops in proptest::collection::vec(op(), 0..200), key_size in 1_u32..20, room in 1_u32..20) {
        let map = map(&MapDef::hash("hash", key_size, 8, room));
        let key = |key: u8| (0..key_size as u8).map(|at| key.wrapping_mul(at | 1).rotate_left(u32::from(at))).collect::<Vec<_>>();
        let mut model = HashMap::new();
        for op in ops {
            match op {
                Op::Update(at, value, flags) => {
                    let there = model.contains_key(&key(at));
                    let expected = match flags {
                        NoExist if there => Err(MapError::Exists),
                        Exist if !there => Err(MapError::NotFound),
                        _ if !there && model.len() == room as usize => Err(MapError::Full { entries: room }),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(map.update(&key(at), &word(value), flags), expected.clone());
                    if expected.is_ok() {
                        model.insert(key(at), word(value).to_vec());
                    }
                }
                Op::Lookup(at) => prop_assert_eq!(map.lookup(&key(at)).unwrap(), model.get(&key(at)).cloned()),
                Op::Delete(at) => {
                    prop_assert_eq!(map.delete(&key(at)), model.remove(&key(at)).map(drop).ok_or(MapError::NotFound));
                }
                Op::Take(at) => prop_assert_eq!(map.lookup_and_delete(&key(at)).unwrap(), model.remove(&key(at))),
                Op::List => {
                    prop_assert_eq!(&map.iter().map(Result::unwrap).collect::<HashMap<_, _>>(), &model);
                    let keys = std::iter::successors(map.next_key(None).unwrap(), |key| map.next_key(Some(key)).unwrap());
                    let keys: Vec<_> = keys.take(100).collect();
                    prop_assert_eq!(keys.len(), model.len());
                    prop_assert!(keys.iter().all(|key| model.contains_key(key)));
                }
            }
            prop_assert_eq!(map.len(), model.len());
        }
    }
}
