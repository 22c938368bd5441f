//! bpf(2), as it is: what the kernel does is what tests compare with, so there is no loader between.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unsafe_code, reason = "bpf(2) has no wrapper in libc")]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use crate::common::skip;

/// `enum bpf_cmd`.
mod cmd {
    pub const MAP_CREATE: libc::c_long = 0;
    pub const MAP_LOOKUP_ELEM: libc::c_long = 1;
    pub const MAP_UPDATE_ELEM: libc::c_long = 2;
    pub const MAP_DELETE_ELEM: libc::c_long = 3;
    pub const MAP_GET_NEXT_KEY: libc::c_long = 4;
    pub const PROG_LOAD: libc::c_long = 5;
    pub const PROG_TEST_RUN: libc::c_long = 10;
    pub const MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
    pub const MAP_FREEZE: libc::c_long = 22;
    pub const MAP_LOOKUP_BATCH: libc::c_long = 24;
    pub const MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
    pub const MAP_UPDATE_BATCH: libc::c_long = 26;
    pub const MAP_DELETE_BATCH: libc::c_long = 27;
}

/// `enum bpf_map_type`.
pub mod map_type {
    pub const HASH: u32 = 1;
    pub const ARRAY: u32 = 2;
    pub const PROG_ARRAY: u32 = 3;
    pub const PERF_EVENT_ARRAY: u32 = 4;
    pub const PERCPU_HASH: u32 = 5;
    pub const PERCPU_ARRAY: u32 = 6;
    pub const STACK_TRACE: u32 = 7;
    pub const LRU_HASH: u32 = 9;
    pub const RINGBUF: u32 = 27;
}

/// `enum bpf_prog_type`.
pub mod prog_type {
    pub const SOCKET_FILTER: u32 = 1;
    pub const KPROBE: u32 = 2;
    pub const TRACEPOINT: u32 = 5;
    pub const XDP: u32 = 6;
    pub const PERF_EVENT: u32 = 7;
    pub const RAW_TRACEPOINT: u32 = 17;
}

/// An `errno` value, shown by its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub i32);

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::E2BIG => "E2BIG",
            libc::EBADF => "EBADF",
            libc::EAGAIN => "EAGAIN",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EFAULT => "EFAULT",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::EINVAL => "EINVAL",
            libc::ENOSPC => "ENOSPC",
            libc::ERANGE => "ERANGE",
            libc::EDOM => "EDOM",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            // In the kernel's own range.
            524 => "ENOTSUPP",
            other => return write!(f, "errno {other}"),
        };
        f.write_str(name)
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

pub type Result<T> = std::result::Result<T, Errno>;

fn address<T>(bytes: &[T]) -> u64 {
    bytes.as_ptr() as u64
}

fn address_mut<T>(bytes: &mut [T]) -> u64 {
    bytes.as_mut_ptr() as u64
}

/// Runs a command of bpf(2).
///
/// # Safety
///
/// `attr` mirrors the command's part of `union bpf_attr`, and the addresses in it are of memory that is as long as the
/// command takes it to be.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> Result<i32> {
    loop {
        // SAFETY: the caller's contract; the size is that of `attr`.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
        if result >= 0 {
            return Ok(result as i32);
        }
        let errno = io::Error::last_os_error().raw_os_error().expect("a system call's error");
        // The verifier gives up when a signal arrives, which the tests of signals next door send.
        if command != cmd::PROG_LOAD || errno != libc::EAGAIN {
            return Err(Errno(errno));
        }
    }
}

/// As `bpf`, for commands that give a descriptor.
///
/// # Safety
///
/// As for `bpf`; the command gives a descriptor.
unsafe fn bpf_fd<T>(command: libc::c_long, attr: &mut T) -> Result<OwnedFd> {
    // SAFETY: the caller's contract; the descriptor is new, and nobody else's.
    unsafe { bpf(command, attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Whether bpf(2) is allowed here; if not, says so.
#[must_use]
pub fn require_bpf() -> bool {
    match Map::create(Def { map_type: map_type::ARRAY, key_size: 4, value_size: 8, max_entries: 1, flags: 0 })
        .and_then(|_| Program::load(prog_type::SOCKET_FILTER, &[0xb7, 0x95], &[]).map_err(|refused| refused.errno))
    {
        Ok(_) => true,
        Err(errno) => {
            skip(format_args!("bpf(2): {}", io::Error::from(errno)));
            false
        }
    }
}

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

/// A program of the kernel.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

/// A program that the kernel has refused, with the end of the verifier's log.
#[derive(Debug)]
pub struct Refused {
    pub errno: Errno,
    pub log: String,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_prog_fd: u32,
    core_relo_cnt: u32,
    fd_array: u64,
}

/// What a program is run on.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The packet.
    pub data: Vec<u8>,
    /// The context.
    pub context: Vec<u8>,
    /// How many times; the kernel takes 0 for 1.
    pub repeat: u32,
}

/// What a run left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The lower half of R0.
    pub retval: u32,
    /// The packet.
    pub data: Vec<u8>,
    /// The context.
    pub context: Vec<u8>,
    /// Nanoseconds, the mean of the runs.
    pub duration: u32,
}

#[repr(C)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    /// The kernel refuses what is not zero behind what it knows.
    padding: u32,
}

impl Program {
    /// Loads a program, licensed under the GPL, whose instructions name maps by their index in `maps`.
    pub fn load(prog_type: u32, insns: &[u64], maps: &[&Map]) -> std::result::Result<Self, Refused> {
        let fds: Vec<i32> = maps.iter().map(|map| map.fd.as_raw_fd()).collect();
        let license = c"GPL";
        let mut log = vec![0_u8; 1 << 16];
        let mut attr = ProgLoad {
            prog_type,
            insn_cnt: insns.len() as u32,
            insns: address(insns),
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
            prog_name: [0; 16],
            prog_ifindex: 0,
            expected_attach_type: 0,
            prog_btf_fd: 0,
            func_info_rec_size: 0,
            func_info: 0,
            func_info_cnt: 0,
            line_info_rec_size: 0,
            line_info: 0,
            line_info_cnt: 0,
            attach_btf_id: 0,
            attach_prog_fd: 0,
            core_relo_cnt: 0,
            fd_array: if fds.is_empty() { 0 } else { address(&fds) },
        };
        // SAFETY: the attr mirrors the command's part. The instructions are `insn_cnt` of 8 bytes, the licence ends in NUL,
        // there is no log, and `fds` has an entry for each index that the instructions may name, as the caller says.
        let errno = match unsafe { bpf_fd(cmd::PROG_LOAD, &mut attr) } {
            Ok(fd) => return Ok(Self { fd }),
            Err(errno) => errno,
        };
        // With the log the kernel is much slower. When it is full, what is at its end is kept.
        attr.log_level = 1;
        attr.log_size = log.len() as u32;
        attr.log_buf = address_mut(&mut log);
        // SAFETY: as above; the log has `log_size` bytes.
        match unsafe { bpf_fd(cmd::PROG_LOAD, &mut attr) } {
            Ok(fd) => Ok(Self { fd }),
            Err(_) => {
                log.truncate(log.iter().position(|&byte| byte == 0).unwrap_or(log.len()));
                Err(Refused { errno, log: String::from_utf8_lossy(&log).into_owned() })
            }
        }
    }

    /// `BPF_PROG_TEST_RUN`.
    pub fn test_run(&self, input: &Input) -> Result<Output> {
        test_run(self.fd.as_fd(), input)
    }
}

/// `BPF_PROG_TEST_RUN` of any program.
pub fn test_run(program: BorrowedFd<'_>, input: &Input) -> Result<Output> {
    // A program may make its packet longer.
    let mut out = vec![0; if input.data.is_empty() { 0 } else { input.data.len() + 256 }];
    let mut context = input.context.clone();
    // The kernel gives back a context only where there is a packet, and one went in.
    let with_context = !out.is_empty() && !context.is_empty();
    let or_null = |bytes: &[u8]| if bytes.is_empty() { 0 } else { address(bytes) };
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        retval: 0,
        data_size_in: input.data.len() as u32,
        data_size_out: out.len() as u32,
        data_in: or_null(&input.data),
        data_out: if out.is_empty() { 0 } else { address_mut(&mut out) },
        repeat: input.repeat,
        duration: 0,
        ctx_size_in: input.context.len() as u32,
        ctx_size_out: if with_context { context.len() as u32 } else { 0 },
        ctx_in: or_null(&input.context),
        ctx_out: if with_context { address_mut(&mut context) } else { 0 },
        flags: 0,
        cpu: 0,
        batch_size: 0,
        padding: 0,
    };
    // SAFETY: the attr mirrors the command's part; each address is of as many bytes as the size beside it says.
    unsafe { bpf(cmd::PROG_TEST_RUN, &mut attr)? };
    out.truncate(attr.data_size_out as usize);
    Ok(Output { retval: attr.retval, data: out, context, duration: attr.duration })
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
