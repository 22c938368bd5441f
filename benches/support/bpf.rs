//! Just enough bpf(2) to have the kernel write records on demand: a perf event array, and a program that sends one
//! record to this CPU's entry of it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What each record carries. With the record header (8) and the size word (4) it makes 40 bytes.
pub const PAYLOAD: usize = 28;
/// Each payload word of the program, sign extended from 32 bits.
pub const WORD: u64 = 0x1234_5678;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_MAP_TYPE_PERF_EVENT_ARRAY: u32 = 4;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_TRACEPOINT: u32 = 5;

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    key: u64,
    value: u64,
    flags: u64,
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
}

/// # Safety
/// `T` must be laid out as the kernel's union bpf_attr is for `command`, without padding that is not zero, and the
/// addresses in it must be good for what the command does with them.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes size_of::<T>() bytes of `attr`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// # Safety
/// `fd` must be a descriptor that nobody else owns.
unsafe fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// One instruction: opcode, destination, source, offset, immediate.
fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    u64::from(code) | u64::from(src << 4 | dst) << 8 | u64::from(off as u16) << 16 | u64::from(imm as u32) << 32
}

/// A perf event array and the program that writes to it.
pub struct Sender {
    array: OwnedFd,
    program: OwnedFd,
}

impl Sender {
    #[allow(dead_code, reason = "each bench uses its part")]
    pub fn new(entries: u32) -> io::Result<Self> {
        Self::load(BPF_PROG_TYPE_SCHED_CLS, entries, |array| {
            vec![
                // The payload, at r10 - 32.
                insn(0x7a, 10, 0, -32, WORD as i32),
                insn(0x7a, 10, 0, -24, WORD as i32),
                insn(0x7a, 10, 0, -16, WORD as i32),
                insn(0x62, 10, 0, -8, WORD as i32),
                // r2 = the array, r3 = BPF_F_CURRENT_CPU, r4 = the payload, r5 = its length; r1 is still the context.
                insn(0x18, 2, 1, 0, array),
                insn(0, 0, 0, 0, 0),
                insn(0xb4, 3, 0, 0, -1),
                insn(0xbf, 4, 10, 0, 0),
                insn(0x07, 4, 0, 0, -32),
                insn(0xb7, 5, 0, 0, PAYLOAD as i32),
                insn(0x85, 0, 0, 0, 25),
                insn(0x95, 0, 0, 0, 0),
            ]
        })
    }

    /// One for tracepoints: sends 48 bytes for each occurrence in this process, with what helpers tell of it.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub fn of_tracepoint(entries: u32, pid: u32) -> io::Result<Self> {
        Self::load(BPF_PROG_TYPE_TRACEPOINT, entries, |array| {
            vec![
                insn(0xbf, 6, 1, 0, 0),
                // bpf_get_current_pid_tgid
                insn(0x85, 0, 0, 0, 14),
                insn(0xbf, 1, 0, 0, 0),
                insn(0x77, 1, 0, 0, 32),
                insn(0x56, 1, 0, 19, pid as i32),
                insn(0x7b, 10, 0, -48, 0),
                // bpf_ktime_get_ns, bpf_get_current_uid_gid, bpf_get_smp_processor_id
                insn(0x85, 0, 0, 0, 5),
                insn(0x7b, 10, 0, -40, 0),
                insn(0x85, 0, 0, 0, 15),
                insn(0x7b, 10, 0, -32, 0),
                insn(0x85, 0, 0, 0, 8),
                insn(0x7b, 10, 0, -24, 0),
                // The number of the call.
                insn(0x61, 1, 6, 8, 0),
                insn(0x7b, 10, 1, -16, 0),
                insn(0x7a, 10, 0, -8, WORD as i32),
                insn(0xbf, 1, 6, 0, 0),
                insn(0x18, 2, 1, 0, array),
                insn(0, 0, 0, 0, 0),
                insn(0x18, 3, 0, 0, -1),
                insn(0, 0, 0, 0, 0),
                insn(0xbf, 4, 10, 0, 0),
                insn(0x07, 4, 0, 0, -48),
                insn(0xb7, 5, 0, 0, 48),
                insn(0x85, 0, 0, 0, 25),
                insn(0xb7, 0, 0, 0, 0),
                insn(0x95, 0, 0, 0, 0),
            ]
        })
    }

    /// Makes the array, and loads the program that `insns` makes for its descriptor.
    fn load(prog_type: u32, entries: u32, insns: impl FnOnce(RawFd) -> Vec<u64>) -> io::Result<Self> {
        let mut attr = MapCreate {
            map_type: BPF_MAP_TYPE_PERF_EVENT_ARRAY,
            key_size: 4,
            value_size: 4,
            max_entries: entries,
            ..MapCreate::default()
        };
        // SAFETY: MapCreate mirrors the command's part of the union and has no padding; the result is a new descriptor.
        let array = unsafe { own(bpf(BPF_MAP_CREATE, &mut attr)?) };
        let program = insns(array.as_raw_fd());
        // The helper is only for programs under a licence compatible with the GPL.
        let license = c"Dual MIT/GPL";
        let mut attr = ProgLoad {
            prog_type,
            insn_cnt: program.len() as u32,
            insns: program.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
        };
        // SAFETY: ProgLoad mirrors the command's part of the union, has no padding, and points to `program` and
        // `license`, which outlive the call; the result is a new descriptor.
        let program = unsafe { own(bpf(BPF_PROG_LOAD, &mut attr)?) };
        Ok(Self { array, program })
    }

    /// The program.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// The array, for libraries that put their own event into it.
    #[allow(dead_code, reason = "one of two contenders that use it sits behind a feature")]
    pub fn array(&self) -> BorrowedFd<'_> {
        self.array.as_fd()
    }

    /// Has `event` receive what is sent on `cpu`.
    pub fn connect(&self, cpu: u32, event: BorrowedFd<'_>) -> io::Result<()> {
        let value = event.as_raw_fd() as u32;
        let mut attr = MapUpdate {
            map_fd: self.array.as_raw_fd() as u32,
            key: std::ptr::from_ref(&cpu) as u64,
            value: std::ptr::from_ref(&value) as u64,
            flags: 0,
        };
        // SAFETY: MapUpdate mirrors the command's part of the union; the kernel ignores the padding after map_fd, and
        // key and value are addresses of four bytes each, as the map was created with.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr)? };
        Ok(())
    }

    /// Sends `records` records on the CPU of the caller, all of which must find space.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub fn send(&self, records: u32) -> io::Result<()> {
        match self.run(records)? {
            0 => Ok(()),
            retval => Err(io::Error::other(format!("bpf_perf_event_output returned {}", retval as i32))),
        }
    }

    /// Sends `records` records on the CPU of the caller; those that find no space are lost.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub fn send_lossy(&self, records: u32) -> io::Result<()> {
        match self.run(records)? as i32 {
            0 => Ok(()),
            retval if retval == -libc::ENOSPC => Ok(()),
            retval => Err(io::Error::other(format!("bpf_perf_event_output returned {retval}"))),
        }
    }

    /// Runs the program so many times, and gives what the last run returned.
    fn run(&self, records: u32) -> io::Result<u32> {
        let packet = [0u8; 64];
        let mut attr = TestRun {
            prog_fd: self.program.as_raw_fd() as u32,
            retval: 0,
            data_size_in: packet.len() as u32,
            data_size_out: 0,
            data_in: packet.as_ptr() as u64,
            data_out: 0,
            repeat: records,
            duration: 0,
        };
        // SAFETY: TestRun mirrors the command's part of the union, has no padding, and points to `packet`, whose length
        // it gives and which outlives the call.
        unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr)? };
        Ok(attr.retval)
    }
}

/// Runs a program of the caller's in the kernel.
#[allow(dead_code, reason = "each bench uses its part")]
pub struct Runner {
    program: OwnedFd,
    _map: Option<OwnedFd>,
}

#[allow(dead_code, reason = "each bench uses its part")]
impl Runner {
    /// Loads a program; the map of each 64-bit immediate with a map in it is this one.
    pub fn new(insns: &[u64], map: Option<[u32; 4]>) -> io::Result<Self> {
        let map = map.map(|[map_type, key_size, value_size, max_entries]| {
            let mut attr = MapCreate { map_type, key_size, value_size, max_entries, map_flags: 0 };
            // SAFETY: MapCreate mirrors the command's part of the union and has no padding; the result is a new descriptor.
            unsafe { bpf(BPF_MAP_CREATE, &mut attr).map(|fd| own(fd)) }
        });
        let map = map.transpose()?;
        let mut insns = insns.to_vec();
        if let Some(map) = &map {
            // BPF_PSEUDO_MAP_IDX becomes BPF_PSEUDO_MAP_FD.
            for insn in insns.iter_mut().filter(|insn| **insn as u8 == 0x18 && (**insn >> 12) & 15 == 5) {
                *insn = (*insn & 0x0000_0000_ffff_0fff) | 1 << 12 | (map.as_raw_fd() as u64) << 32;
            }
        }
        let license = c"Dual MIT/GPL";
        let mut attr = ProgLoad {
            prog_type: BPF_PROG_TYPE_SCHED_CLS,
            insn_cnt: insns.len() as u32,
            insns: insns.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
        };
        // SAFETY: ProgLoad mirrors the command's part of the union, has no padding, and points to `insns` and `license`,
        // which outlive the call; the result is a new descriptor.
        let program = unsafe { own(bpf(BPF_PROG_LOAD, &mut attr)?) };
        Ok(Self { program, _map: map })
    }

    /// Runs it so many times; gives what it returned, and the nanoseconds of a run as the kernel measures them.
    pub fn run(&self, repeat: u32) -> io::Result<(u32, u32)> {
        let packet = [0u8; 64];
        let mut attr = TestRun {
            prog_fd: self.program.as_raw_fd() as u32,
            retval: 0,
            data_size_in: packet.len() as u32,
            data_size_out: 0,
            data_in: packet.as_ptr() as u64,
            data_out: 0,
            repeat,
            duration: 0,
        };
        // SAFETY: as in `Sender::run`.
        unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr)? };
        Ok((attr.retval, attr.duration))
    }
}
