//! What operations on maps give, errno values included: the kernel's maps, by bpf(2), beside ours.
//!
//! Each test is a script that runs on both. What it prints is the table: the operation, and what both gave.
#![cfg(feature = "bpf")]

mod bpf_kernel;
mod common;

use std::os::fd::AsFd as _;

use bpf_kernel::{Def, Errno, Result, connect, map_type, possible_cpus, prog_type, require_bpf};
use perfring::bpf::map::{Map, MapDef, MapError, MapFlags, MapType, UpdateFlags};

/// A map of either side.
trait Operations: Sized {
    fn create(def: Def) -> Result<Self>;
    fn lookup(&self, key: &[u8]) -> Result<Vec<u8>>;
    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()>;
    fn delete(&self, key: &[u8]) -> Result<()>;
    fn lookup_and_delete(&self, key: &[u8]) -> Result<Vec<u8>>;
    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>>;
    fn freeze(&self) -> Result<()>;
    /// The result, and how many were done.
    fn update_batch(&self, elements: &[(Vec<u8>, Vec<u8>)], flags: u64) -> (Result<()>, usize);
    fn delete_batch(&self, keys: &[Vec<u8>]) -> (Result<()>, usize);
    /// All elements, sorted.
    fn all(&self, delete: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
    fn value_len(&self) -> usize;
}

impl Operations for bpf_kernel::Map {
    fn create(def: Def) -> Result<Self> {
        Self::create(def)
    }

    fn lookup(&self, key: &[u8]) -> Result<Vec<u8>> {
        self.lookup(key, 0)
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        self.update(key, value, flags)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.delete(key)
    }

    fn lookup_and_delete(&self, key: &[u8]) -> Result<Vec<u8>> {
        self.lookup_and_delete(key)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>> {
        self.next_key(key)
    }

    fn freeze(&self) -> Result<()> {
        self.freeze()
    }

    fn update_batch(&self, elements: &[(Vec<u8>, Vec<u8>)], flags: u64) -> (Result<()>, usize) {
        let (keys, values): (Vec<_>, Vec<_>) = elements.iter().cloned().unzip();
        let (result, done) = self.update_batch(&keys.concat(), &values.concat(), flags);
        (result, done as usize)
    }

    fn delete_batch(&self, keys: &[Vec<u8>]) -> (Result<()>, usize) {
        let (result, done) = self.delete_batch(&keys.concat());
        (result, done as usize)
    }

    fn all(&self, delete: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut elements = Vec::new();
        let mut from = None;
        loop {
            let count = self.def().max_entries;
            let batch = if delete {
                self.lookup_and_delete_batch(from.as_deref(), count)
            } else {
                self.lookup_batch(from.as_deref(), count)
            };
            elements.extend(batch.entries);
            match batch.result {
                Ok(()) => from = Some(batch.next),
                Err(Errno(libc::ENOENT)) => break,
                Err(errno) => return Err(errno),
            }
        }
        elements.sort();
        Ok(elements)
    }

    fn value_len(&self) -> usize {
        self.value_len()
    }
}

fn errno(error: MapError) -> Errno {
    Errno(error.errno())
}

fn done(result: std::result::Result<usize, (usize, MapError)>) -> (Result<()>, usize) {
    match result {
        Ok(done) => (Ok(()), done),
        Err((done, error)) => (Err(errno(error)), done),
    }
}

impl Operations for Map {
    fn create(def: Def) -> Result<Self> {
        let type_ = MapType::from_number(def.map_type).expect("one that is here");
        let flags = MapFlags::from_bits_retain(def.flags);
        let def = MapDef::new("map", type_, def.key_size, def.value_size, def.max_entries).flags(flags);
        if type_ == MapType::ProgArray {
            return Self::prog_array(&def, perfring::bpf::ProgramType::kprobe()).map_err(errno);
        }
        Self::new(&def, possible_cpus()).map_err(errno)
    }

    fn lookup(&self, key: &[u8]) -> Result<Vec<u8>> {
        self.lookup(key).map_err(errno)?.ok_or(Errno(libc::ENOENT))
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        UpdateFlags::try_from(flags).and_then(|flags| self.update(key, value, flags)).map_err(errno)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.delete(key).map_err(errno)
    }

    fn lookup_and_delete(&self, key: &[u8]) -> Result<Vec<u8>> {
        self.lookup_and_delete(key).map_err(errno)?.ok_or(Errno(libc::ENOENT))
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>> {
        self.next_key(key).map_err(errno)?.ok_or(Errno(libc::ENOENT))
    }

    fn freeze(&self) -> Result<()> {
        self.freeze();
        Ok(())
    }

    fn update_batch(&self, elements: &[(Vec<u8>, Vec<u8>)], flags: u64) -> (Result<()>, usize) {
        let flags = match UpdateFlags::try_from(flags) {
            Ok(flags) => flags,
            Err(error) => return (Err(errno(error)), 0),
        };
        done(self.update_batch(elements.iter().map(|(key, value)| (&key[..], &value[..])), flags))
    }

    fn delete_batch(&self, keys: &[Vec<u8>]) -> (Result<()>, usize) {
        done(self.delete_batch(keys.iter().map(|key| &key[..])))
    }

    fn all(&self, delete: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (mut elements, mut from) = (Vec::new(), Some(0));
        while let Some(place) = from {
            let most = self.def().max_entries as usize;
            let batch = if delete { self.lookup_and_delete_batch(place, most) } else { self.lookup_batch(place, most) };
            let batch = batch.map_err(errno)?;
            elements.extend(batch.elements);
            from = batch.next;
        }
        elements.sort();
        Ok(elements)
    }

    fn value_len(&self) -> usize {
        self.value_size()
    }
}

/// What operations gave.
#[derive(Default)]
struct Table(Vec<(String, String)>);

impl Table {
    fn row(&mut self, operation: impl Into<String>, gave: impl std::fmt::Debug) {
        self.0.push((operation.into(), format!("{gave:?}")));
    }
}

/// Where ours are meant to be different: the operation, what the kernel gives, and what ours give.
type Different = (&'static str, &'static str, &'static str);

/// Runs a script on both sides, prints what the kernel gave, and finds the same of ours but for what is meant to differ.
fn compare(kernel: impl FnOnce(&mut Table), ours: impl FnOnce(&mut Table), different: &[Different]) {
    let (mut of_kernel, mut of_ours) = (Table::default(), Table::default());
    kernel(&mut of_kernel);
    ours(&mut of_ours);
    for (operation, gave) in &of_kernel.0 {
        println!("{operation:44} {gave}");
    }
    assert_eq!(of_kernel.0.len(), of_ours.0.len());
    let rows = of_kernel.0.iter().zip(&of_ours.0).filter(|(kernel, ours)| kernel != ours);
    let found: Vec<_> = rows.map(|((operation, kernel), (_, ours))| (&**operation, &**kernel, &**ours)).collect();
    assert_eq!(found, different);
}

fn key(number: u32) -> Vec<u8> {
    number.to_ne_bytes().to_vec()
}

const TYPES: [(u32, &str); 8] = [
    (map_type::HASH, "hash"),
    (map_type::ARRAY, "array"),
    (map_type::PROG_ARRAY, "prog_array"),
    (map_type::PERF_EVENT_ARRAY, "perf_event_array"),
    (map_type::PERCPU_HASH, "percpu_hash"),
    (map_type::PERCPU_ARRAY, "percpu_array"),
    (map_type::LRU_HASH, "lru_hash"),
    (map_type::RINGBUF, "ringbuf"),
];

/// The sizes that are right for a type: key, value, entries.
fn usual(map_type: u32) -> (u32, u32, u32) {
    match map_type {
        map_type::RINGBUF => (0, 0, 16384),
        map_type::PROG_ARRAY | map_type::PERF_EVENT_ARRAY => (4, 4, 4),
        _ => (4, 8, 4),
    }
}

fn sizes<M: Operations>(table: &mut Table) {
    for (map_type, name) in TYPES {
        let (key, value, entries) = usual(map_type);
        let mut tried = vec![(key, value, entries)];
        tried.extend([0, 1, 3, 4, 5, 8, 512, 513, 1 << 16, 1 << 31, u32::MAX].map(|key| (key, value, entries)));
        tried.extend([0, 1, 4, 5, 8, 32768, 32769].map(|value| (key, value, entries)));
        tried.extend([0, 1, 5].map(|entries| (key, value, entries)));
        tried.extend([(0, 0, 0), (4, 0, 0), (0, 8, 4), (513, 0, 4), (513, 8, 0), (5, 0, 4)]);
        for (key_size, value_size, max_entries) in tried {
            let created = M::create(Def { map_type, key_size, value_size, max_entries, flags: 0 });
            table.row(format!("{name} key {key_size} value {value_size} entries {max_entries}"), created.map(drop));
        }
    }
    for max_entries in [0, 1, 4095, 4096, 4097, 8192, 12288, 16384, 1 << 20, 3 << 20] {
        let def = Def { map_type: map_type::RINGBUF, key_size: 0, value_size: 0, max_entries, flags: 0 };
        table.row(format!("ringbuf of {max_entries}"), M::create(def).map(drop));
    }
}

/// Keys of a hash have at most 512 bytes here, as they had in older kernels.
const SIZES: &[Different] = &[
    ("hash key 513 value 8 entries 4", "Ok(())", "Err(E2BIG)"),
    ("hash key 65536 value 8 entries 4", "Ok(())", "Err(E2BIG)"),
    ("percpu_hash key 513 value 8 entries 4", "Ok(())", "Err(E2BIG)"),
    ("percpu_hash key 65536 value 8 entries 4", "Ok(())", "Err(E2BIG)"),
    ("lru_hash key 513 value 8 entries 4", "Ok(())", "Err(E2BIG)"),
    ("lru_hash key 65536 value 8 entries 4", "Ok(())", "Err(E2BIG)"),
];

#[test]
fn sizes_of_maps() {
    if require_bpf() {
        compare(sizes::<bpf_kernel::Map>, sizes::<Map>, SIZES);
    }
}

/// Sizes that are too large. What is refused for good and what for want of memory is not told apart, as it is another matter
/// in each version.
fn huge<M: Operations>(table: &mut Table) {
    for (map_type, name) in TYPES {
        let (key_size, value_size, max_entries) = usual(map_type);
        let tried = match map_type {
            map_type::PROG_ARRAY | map_type::PERF_EVENT_ARRAY | map_type::RINGBUF => vec![(value_size, u32::MAX)],
            _ => vec![
                (1 << 31, max_entries),
                (u32::MAX, max_entries),
                (u32::MAX - 7, max_entries),
                (1 << 20, 1 << 31),
                (u32::MAX, u32::MAX),
            ],
        };
        for (value_size, max_entries) in tried {
            let created = M::create(Def { map_type, key_size, value_size, max_entries, flags: 0 }).map(drop);
            let created: std::result::Result<(), _> = match created {
                Err(Errno(libc::E2BIG | libc::ENOMEM)) => Err("too large"),
                Err(Errno(libc::EINVAL)) => Err("EINVAL"),
                other => panic!("{name} of {max_entries} values of {value_size}: {other:?}"),
            };
            table.row(format!("{name} value {value_size} entries {max_entries}"), created);
        }
    }
}

#[test]
fn huge_maps() {
    if require_bpf() {
        compare(huge::<bpf_kernel::Map>, huge::<Map>, &[]);
    }
}

fn flags<M: Operations>(table: &mut Table) {
    for (map_type, name) in TYPES {
        let (key_size, value_size, max_entries) = usual(map_type);
        let pairs = [1 << 3 | 1 << 4, 1 << 7 | 1 << 8, 1 << 3 | 1 << 7, 1 << 4 | 1 << 8, u32::MAX];
        for flags in (0..32).map(|bit| 1 << bit).chain(pairs) {
            let created = M::create(Def { map_type, key_size, value_size, max_entries, flags });
            table.row(format!("{name} flags {flags:#x}"), created.map(drop));
        }
    }
}

/// Flags that would mean nothing here are refused.
const FLAGS: &[Different] = &[
    ("hash flags 0x4", "Ok(())", "Err(EINVAL)"),
    ("array flags 0x4", "Ok(())", "Err(EINVAL)"),
    ("array flags 0x1000", "Ok(())", "Err(EINVAL)"),
    ("prog_array flags 0x4", "Ok(())", "Err(EINVAL)"),
    ("perf_event_array flags 0x4", "Ok(())", "Err(EINVAL)"),
    ("perf_event_array flags 0x800", "Ok(())", "Err(EINVAL)"),
    ("lru_hash flags 0x2", "Ok(())", "Err(EINVAL)"),
    ("lru_hash flags 0x4", "Ok(())", "Err(EINVAL)"),
    ("ringbuf flags 0x4", "Ok(())", "Err(EINVAL)"),
];

#[test]
fn flags_of_maps() {
    if require_bpf() {
        compare(flags::<bpf_kernel::Map>, flags::<Map>, FLAGS);
    }
}

fn value(map: &impl Operations, byte: u8) -> Vec<u8> {
    vec![byte; map.value_len()]
}

const BAD_FLAGS: [u64; 8] = [3, 4, 5, 6, 7, 16, 1 << 32, 1 << 63];

fn array<M: Operations>(map_type: u32, table: &mut Table) {
    let map = M::create(Def { map_type, key_size: 4, value_size: 8, max_entries: 4, flags: 0 }).expect("a map");
    table.row("bytes of a value", map.value_len());
    for index in [0, 3, 4, u32::MAX] {
        table.row(format!("lookup {index}"), map.lookup(&key(index)));
        for flags in [0, 1, 2].into_iter().chain(BAD_FLAGS) {
            let value = value(&map, index as u8 ^ flags as u8);
            table.row(format!("update {index} flags {flags:#x}"), map.update(&key(index), &value, flags));
        }
        table.row(format!("lookup {index}"), map.lookup(&key(index)));
        table.row(format!("delete {index}"), map.delete(&key(index)));
        table.row(format!("lookup and delete {index}"), map.lookup_and_delete(&key(index)));
        table.row(format!("next of {index}"), map.next_key(Some(&key(index))));
    }
    table.row("next of none", map.next_key(None));
    table.row("all", map.all(false));
    table.row("all, deleted", map.all(true));
    let elements: Vec<_> = [0, 1, 7, 2].map(|index| (key(index), value(&map, 9))).into();
    table.row("update batch", map.update_batch(&elements, 0));
    table.row("update batch, bad flags", map.update_batch(&elements, 16));
    table.row("all", map.all(false));
    table.row("freeze", map.freeze());
    table.row("update", map.update(&key(0), &value(&map, 1), 0));
    table.row("delete", map.delete(&key(0)));
    table.row("lookup", map.lookup(&key(0)));
    table.row("update batch", map.update_batch(&elements, 0));
}

#[test]
fn arrays() {
    if require_bpf() {
        compare(
            |table| array::<bpf_kernel::Map>(map_type::ARRAY, table),
            |table| array::<Map>(map_type::ARRAY, table),
            &[],
        );
    }
}

#[test]
fn percpu_arrays() {
    if require_bpf() {
        compare(
            |table| array::<bpf_kernel::Map>(map_type::PERCPU_ARRAY, table),
            |table| array::<Map>(map_type::PERCPU_ARRAY, table),
            &[],
        );
    }
}

fn hash<M: Operations>(map_type: u32, table: &mut Table) {
    let def = Def { map_type, key_size: 4, value_size: 8, max_entries: 4, flags: 0 };
    let map = M::create(def).expect("a map");
    table.row("bytes of a value", map.value_len());
    table.row("lookup in none", map.lookup(&key(1)));
    table.row("delete in none", map.delete(&key(1)));
    table.row("lookup and delete in none", map.lookup_and_delete(&key(1)));
    table.row("next of none in none", map.next_key(None));
    table.row("next of 1 in none", map.next_key(Some(&key(1))));
    table.row("all of none", map.all(false));
    for number in 1..=6 {
        for flags in BAD_FLAGS.into_iter().chain([2, 1, 1, 2, 0]) {
            // Of LRU maps it is not said what gives way.
            if map_type == map_type::LRU_HASH && number > 4 {
                continue;
            }
            let value = value(&map, number as u8 ^ (flags as u8) << 4);
            table.row(format!("update {number} flags {flags:#x}"), map.update(&key(number), &value, flags));
        }
        if map_type != map_type::LRU_HASH {
            table.row(format!("lookup {number}"), map.lookup(&key(number)));
        }
    }
    if map_type == map_type::LRU_HASH {
        return;
    }
    let keys = |map: &M| {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        while let Ok(next) = map.next_key(keys.last().map(Vec::as_slice)) {
            assert!(keys.len() < 10, "it goes round");
            keys.push(next);
        }
        keys
    };
    let walked = keys(&map);
    table.row("keys", walked.len());
    table.row("next of the last", map.next_key(walked.last().map(Vec::as_slice)));
    table.row("next of 77 is the first", map.next_key(Some(&key(77))).as_ref() == Ok(&walked[0]));
    table.row("all", map.all(false));
    table.row("replaced while full", map.update(&key(2), &value(&map, 0xee), 2));
    table.row("delete 2", map.delete(&key(2)));
    table.row("delete 2", map.delete(&key(2)));
    table.row("update 5", map.update(&key(5), &value(&map, 5), 1));
    table.row("update 6", map.update(&key(6), &value(&map, 5), 1));
    table.row("lookup and delete 5", map.lookup_and_delete(&key(5)));
    table.row("lookup and delete 5", map.lookup_and_delete(&key(5)));
    table.row("all, deleted", map.all(true));
    table.row("all", map.all(false));
    let elements: Vec<_> = [10, 11, 10, 12, 13, 14, 15].map(|number| (key(number), value(&map, number as u8))).into();
    table.row("update batch that does not fit", map.update_batch(&elements, 0));
    table.row("update batch, bad flags", map.update_batch(&elements, 16));
    table.row("delete batch", map.delete_batch(&[key(10), key(99), key(11)]));
    table.row("all", map.all(false));
    table.row("freeze", map.freeze());
    table.row("update", map.update(&key(11), &value(&map, 1), 0));
    table.row("delete", map.delete(&key(11)));
    table.row("lookup and delete", map.lookup_and_delete(&key(11)));
    table.row("lookup", map.lookup(&key(11)));
    table.row("all, deleted", map.all(true).map(drop));
}

#[test]
fn hashes() {
    if require_bpf() {
        compare(
            |table| hash::<bpf_kernel::Map>(map_type::HASH, table),
            |table| hash::<Map>(map_type::HASH, table),
            &[],
        );
    }
}

#[test]
fn percpu_hashes() {
    if require_bpf() {
        compare(
            |table| hash::<bpf_kernel::Map>(map_type::PERCPU_HASH, table),
            |table| hash::<Map>(map_type::PERCPU_HASH, table),
            &[],
        );
    }
}

/// What is sure of any LRU hash.
fn lru<M: Operations>(table: &mut Table) {
    hash::<M>(map_type::LRU_HASH, table);
    let entries = 64;
    let def = Def { map_type: map_type::LRU_HASH, key_size: 4, value_size: 8, max_entries: entries, flags: 0 };
    let map = M::create(def).expect("a map");
    for number in 0..10 * entries {
        let updated = map.update(&key(number), &value(&map, number as u8), 1);
        assert_eq!(updated, Ok(()), "there is always room");
        assert_eq!(map.lookup(&key(number)), Ok(value(&map, number as u8)), "the newest is there");
    }
    let all = map.all(false).expect("a lookup");
    assert!((1..=entries as usize).contains(&all.len()), "{}", all.len());
    for (number, found) in all {
        assert_eq!(found, value(&map, number[0]));
    }
    table.row("update one that has given way, if there", map.update(&key(entries * 10), &value(&map, 0), 2));
    table.row("delete the newest", map.delete(&key(10 * entries - 1)));
    table.row("delete it again", map.delete(&key(10 * entries - 1)));
}

#[test]
fn lru_hashes() {
    if require_bpf() {
        compare(lru::<bpf_kernel::Map>, lru::<Map>, &[]);
    }
}

/// Values that are no multiple of 8 bytes, in maps that have one for each CPU.
fn percpu<M: Operations>(table: &mut Table) {
    for (map_type, name) in [(map_type::PERCPU_ARRAY, "array"), (map_type::PERCPU_HASH, "hash")] {
        for value_size in [1, 5, 8, 12] {
            let def = Def { map_type, key_size: 4, value_size, max_entries: 2, flags: 0 };
            let map = M::create(def).expect("a map");
            let stride = (value_size as usize).next_multiple_of(8);
            let of_cpu =
                |cpu| (0..stride).map(move |at| if at < value_size as usize { (10 * cpu + at) as u8 } else { 0 });
            let value: Vec<u8> = (0..possible_cpus()).flat_map(of_cpu).collect();
            table.row(format!("{name} of {value_size}: bytes"), map.value_len());
            table.row(format!("{name} of {value_size}: update"), map.update(&key(1), &value, 0));
            table.row(format!("{name} of {value_size}: lookup"), map.lookup(&key(1)));
        }
    }
}

#[test]
fn percpu_layouts() {
    if require_bpf() {
        compare(percpu::<bpf_kernel::Map>, percpu::<Map>, &[]);
    }
}

fn access<M: Operations>(table: &mut Table) {
    for (map_type, name) in TYPES {
        let (key_size, value_size, max_entries) = usual(map_type);
        if map_type == map_type::RINGBUF {
            continue;
        }
        for (flags, kind) in [(1 << 3, "read-only"), (1 << 4, "write-only")] {
            let map = M::create(Def { map_type, key_size, value_size, max_entries, flags }).expect("a map");
            let data = !matches!(map_type, map_type::PROG_ARRAY | map_type::PERF_EVENT_ARRAY);
            let mut row =
                |operation: &str, gave: Result<Vec<u8>>| table.row(format!("{kind} {name}: {operation}"), gave);
            if data {
                row("update", map.update(&key(0), &value(&map, 1), 0).map(|()| Vec::new()));
                row("lookup", map.lookup(&key(0)));
                row("lookup and delete", map.lookup_and_delete(&key(0)));
                row("all", map.all(false).map(|all| vec![all.len() as u8]));
            }
            row("delete", map.delete(&key(0)).map(|()| Vec::new()));
            row("next", map.next_key(None));
        }
    }
}

/// Events are taken out by the machine that they are in.
const ACCESS: &[Different] = &[("write-only perf_event_array: delete", "Err(ENOENT)", "Err(ENOTSUPP)")];

#[test]
fn access_of_user_space() {
    if require_bpf() {
        compare(access::<bpf_kernel::Map>, access::<Map>, ACCESS);
    }
}

/// What there is of operations on maps without data.
fn without_data<M: Operations>(table: &mut Table) {
    for (map_type, name) in [(map_type::PROG_ARRAY, "prog_array"), (map_type::PERF_EVENT_ARRAY, "perf_event_array")] {
        let def = Def { map_type, key_size: 4, value_size: 4, max_entries: 4, flags: 0 };
        let map = M::create(def).expect("a map");
        for index in [0, 3, 4, u32::MAX] {
            table.row(format!("{name}: lookup {index}"), map.lookup(&key(index)));
            table.row(format!("{name}: delete {index}"), map.delete(&key(index)));
            table.row(format!("{name}: next of {index}"), map.next_key(Some(&key(index))));
            table.row(format!("{name}: lookup and delete {index}"), map.lookup_and_delete(&key(index)));
        }
        table.row(format!("{name}: next of none"), map.next_key(None));
        table.row(format!("{name}: all"), map.all(false));
    }
    let def = Def { map_type: map_type::RINGBUF, key_size: 0, value_size: 0, max_entries: 16384, flags: 0 };
    let map = M::create(def).expect("a map");
    table.row("ringbuf: lookup", map.lookup(&[]));
    table.row("ringbuf: update", map.update(&[], &[], 0));
    table.row("ringbuf: delete", map.delete(&[]));
    table.row("ringbuf: next of none", map.next_key(None));
    table.row("ringbuf: lookup and delete", map.lookup_and_delete(&[]));
    table.row("ringbuf: all", map.all(false));
}

/// A program array does not tell the ids of programs, of which there are none, and events are taken out by the machine that
/// they are in.
const WITHOUT_DATA: &[Different] = &[
    ("prog_array: lookup 0", "Err(ENOENT)", "Err(ENOTSUPP)"),
    ("prog_array: lookup 3", "Err(ENOENT)", "Err(ENOTSUPP)"),
    ("prog_array: lookup 4", "Err(ENOENT)", "Err(ENOTSUPP)"),
    ("prog_array: lookup 4294967295", "Err(ENOENT)", "Err(ENOTSUPP)"),
    ("perf_event_array: delete 0", "Err(ENOENT)", "Err(ENOTSUPP)"),
    ("perf_event_array: delete 3", "Err(ENOENT)", "Err(ENOTSUPP)"),
    ("perf_event_array: delete 4", "Err(E2BIG)", "Err(ENOTSUPP)"),
    ("perf_event_array: delete 4294967295", "Err(E2BIG)", "Err(ENOTSUPP)"),
];

#[test]
fn maps_without_data() {
    if require_bpf() {
        compare(without_data::<bpf_kernel::Map>, without_data::<Map>, WITHOUT_DATA);
    }
}

/// A program that returns at once.
const RETURN: [u64; 2] = [0xb7, 0x95];

#[test]
fn programs_in_arrays() {
    use perfring::bpf::insn::Insn;
    use perfring::bpf::{Program, ProgramType};

    if !require_bpf() {
        return;
    }
    let def = Def { map_type: map_type::PROG_ARRAY, key_size: 4, value_size: 4, max_entries: 2, flags: 0 };
    let indices = [0, 1, 2, u32::MAX];
    let kernel = |table: &mut Table| {
        let program = |type_| bpf_kernel::Program::load(type_, &RETURN, &[]).expect("a program");
        let (right, wrong) = (program(prog_type::KPROBE), program(prog_type::XDP));
        let array = bpf_kernel::Map::create(def).expect("a map");
        for index in indices {
            table.row(format!("put {index}"), connect(array.as_fd(), index, right.as_fd()));
            table.row(format!("put {index}, of another type"), connect(array.as_fd(), index, wrong.as_fd()));
            table.row(format!("delete {index}"), array.delete(&key(index)));
            table.row(format!("delete {index} again"), array.delete(&key(index)));
        }
        // What is no program, and nothing at all.
        assert_eq!(connect(array.as_fd(), 0, array.as_fd()), Err(Errno(libc::EINVAL)));
        assert_eq!(array.update(&key(0), &(-1_i32).to_ne_bytes(), 0), Err(Errno(libc::EBADF)));
        assert_eq!(array.update(&key(0), &(-1_i32).to_ne_bytes(), 1), Err(Errno(libc::EINVAL)), "flags come first");
    };
    let ours = |table: &mut Table| {
        let insns = || Insn::parse(RETURN.map(u64::to_ne_bytes).as_flattened()).expect("whole");
        let program = |type_| Program::builder("returns", type_).load(insns()).expect("a program");
        let (right, wrong) = (program(ProgramType::kprobe()), program(ProgramType::xdp()));
        let array = <Map as Operations>::create(def).expect("a map");
        for index in indices {
            let put = |program| array.set_program(index, Some(program)).map_err(errno);
            table.row(format!("put {index}"), put(&right));
            table.row(format!("put {index}, of another type"), put(&wrong));
            table.row(format!("delete {index}"), array.delete(&key(index)).map_err(errno));
            table.row(format!("delete {index} again"), array.delete(&key(index)).map_err(errno));
        }
    };
    compare(kernel, ours, &[]);
}
