//! Programs of the kernel.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use super::{Errno, Functions, Map, Result, address, address_mut, bpf, bpf_fd, cmd};

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
        let code = Code { prog_type, insns, maps, functions: None };
        // With the log the kernel is much slower. When it is full, what is at its end is kept.
        code.load().or_else(|errno| {
            let (result, log) = code.logged_load(1);
            result.map_err(|_| Refused { errno, log })
        })
    }

    /// `BPF_PROG_TEST_RUN`.
    pub fn test_run(&self, input: &Input) -> Result<Output> {
        test_run(self.fd.as_fd(), input)
    }
}

/// What is loaded, licensed under the GPL.
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    pub prog_type: u32,
    pub insns: &'a [u64],
    /// The maps, which the instructions name by their index.
    pub maps: &'a [&'a Map],
    /// The functions; only where the address of one is taken the kernel wants to know of them.
    pub functions: Option<&'a Functions>,
}

impl Code<'_> {
    /// Loads it, without a log.
    pub fn load(&self) -> Result<Program> {
        self.load_with(0, &mut [])
    }

    /// How many instructions the kernel's verifier processes; none where it does not come to that.
    pub fn processed(&self) -> Option<u64> {
        /// `BPF_LOG_STATS`
        const STATS: u32 = 4;
        let (_, log) = self.logged_load(STATS);
        log.split_once("processed ")?.1.split(' ').next()?.parse().ok()
    }

    /// Loads it, and gives the log.
    pub fn logged_load(&self, level: u32) -> (Result<Program>, String) {
        let mut log = vec![0_u8; 1 << 16];
        let result = self.load_with(level, &mut log);
        log.truncate(log.iter().position(|&byte| byte == 0).unwrap_or(log.len()));
        (result, String::from_utf8_lossy(&log).into_owned())
    }

    fn load_with(&self, log_level: u32, log: &mut [u8]) -> Result<Program> {
        let fds: Vec<i32> = self.maps.iter().map(|map| map.as_fd().as_raw_fd()).collect();
        let license = c"GPL";
        let info = self.functions.map_or(&[][..], Functions::info);
        let mut attr = ProgLoad {
            prog_type: self.prog_type,
            insn_cnt: self.insns.len() as u32,
            insns: address(self.insns),
            license: license.as_ptr() as u64,
            log_level,
            log_size: log.len() as u32,
            log_buf: if log.is_empty() { 0 } else { address_mut(log) },
            kern_version: 0,
            prog_flags: 0,
            prog_name: [0; 16],
            prog_ifindex: 0,
            expected_attach_type: 0,
            prog_btf_fd: self.functions.map_or(0, Functions::btf),
            func_info_rec_size: if info.is_empty() { 0 } else { size_of_val(&info[0]) as u32 },
            func_info: if info.is_empty() { 0 } else { address(info) },
            func_info_cnt: info.len() as u32,
            line_info_rec_size: 0,
            line_info: 0,
            line_info_cnt: 0,
            attach_btf_id: 0,
            attach_prog_fd: 0,
            core_relo_cnt: 0,
            fd_array: if fds.is_empty() { 0 } else { address(&fds) },
        };
        // SAFETY: the attr mirrors the command's part. The instructions are `insn_cnt` of 8 bytes, the licence ends in NUL, the
        // log has `log_size` bytes, or there is none, there are `func_info_cnt` functions, and `fds` has an entry for each
        // index that the instructions may name, as the caller says.
        unsafe { bpf_fd(cmd::PROG_LOAD, &mut attr).map(|fd| Program { fd }) }
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
