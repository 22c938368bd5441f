//! Maps of the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use super::{Errno, Result, address, address_mut, bpf, bpf_fd, cmd, map_type};

/// What a map is created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Def {
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
}

/// A map of the kernel.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    def: Def,
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
    map_ifindex: u32,
}

#[repr(C)]
struct MapElem {
    map_fd: u64,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct MapBatch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// What a batch command found.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub result: Result<()>,
    /// Keys and values, as many as the kernel says it has filled in.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// What the next batch starts with.
    pub next: Vec<u8>,
}

impl Map {
    pub fn create(def: Def) -> Result<Self> {
        let Def { map_type, key_size, value_size, max_entries, flags } = def;
        let mut attr = MapCreate {
            map_type,
            key_size,
            value_size,
            max_entries,
            map_flags: flags,
            inner_map_fd: 0,
            numa_node: 0,
            map_name: [0; 16],
            map_ifindex: 0,
        };
        // SAFETY: the attr mirrors the command's part, without addresses, and a map's descriptor comes back.
        let fd = unsafe { bpf_fd(cmd::MAP_CREATE, &mut attr)? };
        Ok(Self { fd, def })
    }

    /// A map that somebody else made so.
    pub fn of(fd: BorrowedFd<'_>, def: Def) -> io::Result<Self> {
        Ok(Self { fd: fd.try_clone_to_owned()?, def })
    }

    pub fn def(&self) -> Def {
        self.def
    }

    /// The bytes of a value as bpf(2) takes and gives them.
    pub fn value_len(&self) -> usize {
        let size = self.def.value_size as usize;
        match self.def.map_type {
            map_type::PERCPU_HASH | map_type::PERCPU_ARRAY => size.next_multiple_of(8) * possible_cpus(),
            _ => size,
        }
    }

    /// The attr of an operation, whose slices have been checked.
    fn elem(&self, key: Option<&[u8]>, value: u64, flags: u64) -> MapElem {
        if let Some(key) = key {
            assert_eq!(key.len(), self.def.key_size as usize);
        }
        // Of maps without keys the kernel wants the address to be null.
        let key = key.filter(|key| !key.is_empty()).map_or(0, address);
        MapElem { map_fd: self.fd.as_raw_fd() as u64, key, value, flags }
    }

    fn lookup_by(&self, command: libc::c_long, key: &[u8], flags: u64) -> Result<Vec<u8>> {
        let mut value = vec![0; self.value_len()];
        let mut attr = self.elem(Some(key), address_mut(&mut value), flags);
        // SAFETY: the attr mirrors the command's part; key and value are as long as the kernel takes them to be.
        unsafe { bpf(command, &mut attr)? };
        Ok(value)
    }

    pub fn lookup(&self, key: &[u8], flags: u64) -> Result<Vec<u8>> {
        self.lookup_by(cmd::MAP_LOOKUP_ELEM, key, flags)
    }

    pub fn lookup_and_delete(&self, key: &[u8]) -> Result<Vec<u8>> {
        self.lookup_by(cmd::MAP_LOOKUP_AND_DELETE_ELEM, key, 0)
    }

    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        assert_eq!(value.len(), self.value_len());
        let mut attr = self.elem(Some(key), address(value), flags);
        // SAFETY: the attr mirrors the command's part; key and value are as long as the kernel takes them to be.
        unsafe { bpf(cmd::MAP_UPDATE_ELEM, &mut attr).map(drop) }
    }

    pub fn delete(&self, key: &[u8]) -> Result<()> {
        let mut attr = self.elem(Some(key), 0, 0);
        // SAFETY: the attr mirrors the command's part; the key is as long as the kernel takes it to be.
        unsafe { bpf(cmd::MAP_DELETE_ELEM, &mut attr).map(drop) }
    }

    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>> {
        let mut next = vec![0; self.def.key_size as usize];
        let mut attr = self.elem(key, address_mut(&mut next), 0);
        // SAFETY: the attr mirrors the command's part; both keys are as long as the kernel takes them to be, and no key
        // is null.
        unsafe { bpf(cmd::MAP_GET_NEXT_KEY, &mut attr)? };
        Ok(next)
    }

    /// Every key, in the kernel's order.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            match self.next_key(keys.last().map(Vec::as_slice)) {
                Ok(key) => keys.push(key),
                Err(Errno(libc::ENOENT)) => return Ok(keys),
                Err(errno) => return Err(errno),
            }
        }
    }

    pub fn freeze(&self) -> Result<()> {
        let mut attr = self.elem(None, 0, 0);
        // SAFETY: the command reads the map's descriptor only; the rest is zero.
        unsafe { bpf(cmd::MAP_FREEZE, &mut attr).map(drop) }
    }

    fn read_batch(&self, command: libc::c_long, from: Option<&[u8]>, count: u32) -> Batch {
        let (key_size, value_size) = (self.def.key_size as usize, self.value_len());
        // Where a batch goes on is told by a word, or by a key.
        let mut next = vec![0; key_size.max(4)];
        if let Some(from) = from {
            assert_eq!(from.len(), next.len());
        }
        let mut keys = vec![0; key_size * count as usize];
        let mut values = vec![0; value_size * count as usize];
        let mut attr = MapBatch {
            in_batch: from.map_or(0, address),
            out_batch: address_mut(&mut next),
            keys: address_mut(&mut keys),
            values: address_mut(&mut values),
            count,
            map_fd: self.fd.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the attr mirrors the command's part; there is room for `count` keys and values, and for what tells where
        // to go on.
        let result = unsafe { bpf(command, &mut attr).map(drop) };
        let filled = match result {
            Ok(()) | Err(Errno(libc::ENOENT)) => attr.count.min(count) as usize,
            Err(_) => 0,
        };
        let entries = keys
            .chunks_exact(key_size.max(1))
            .zip(values.chunks_exact(value_size.max(1)))
            .take(filled)
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        Batch { result, entries, next }
    }

    pub fn lookup_batch(&self, from: Option<&[u8]>, count: u32) -> Batch {
        self.read_batch(cmd::MAP_LOOKUP_BATCH, from, count)
    }

    pub fn lookup_and_delete_batch(&self, from: Option<&[u8]>, count: u32) -> Batch {
        self.read_batch(cmd::MAP_LOOKUP_AND_DELETE_BATCH, from, count)
    }

    /// The result, and how many entries were done: where nothing is done, the kernel leaves the number as it was.
    fn write_batch(&self, command: libc::c_long, keys: &[u8], values: u64, flags: u64) -> (Result<()>, u32) {
        let count = (keys.len() / self.def.key_size as usize) as u32;
        let mut attr = MapBatch {
            in_batch: 0,
            out_batch: 0,
            keys: address(keys),
            values,
            count,
            map_fd: self.fd.as_raw_fd() as u32,
            elem_flags: flags,
            flags: 0,
        };
        // SAFETY: the attr mirrors the command's part; there are `count` keys, and the callers see to the values.
        let result = unsafe { bpf(command, &mut attr).map(drop) };
        let done = if result.is_err() && attr.count == count { 0 } else { attr.count };
        (result, done)
    }

    pub fn update_batch(&self, keys: &[u8], values: &[u8], flags: u64) -> (Result<()>, u32) {
        assert_eq!(values.len() / self.value_len(), keys.len() / self.def.key_size as usize);
        self.write_batch(cmd::MAP_UPDATE_BATCH, keys, address(values), flags)
    }

    pub fn delete_batch(&self, keys: &[u8]) -> (Result<()>, u32) {
        self.write_batch(cmd::MAP_DELETE_BATCH, keys, 0, 0)
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Puts a descriptor (of a program, or an event) into a slot of an array of such.
pub fn connect(array: BorrowedFd<'_>, index: u32, what: BorrowedFd<'_>) -> Result<()> {
    let value = what.as_raw_fd() as u32;
    let mut attr = MapElem {
        map_fd: array.as_raw_fd() as u64,
        key: (&raw const index) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    // SAFETY: the attr mirrors the command's part; key and value have the four bytes each that such an array takes.
    unsafe { bpf(cmd::MAP_UPDATE_ELEM, &mut attr).map(drop) }
}

/// The CPUs there may ever be: so many values a per-CPU map has.
pub fn possible_cpus() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").expect("sysfs");
    let last = text.trim().rsplit(['-', ',']).next().expect("a list");
    last.parse::<usize>().expect("a number") + 1
}
