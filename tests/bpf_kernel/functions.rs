//! What the kernel has to be told of the functions of a program before it takes the address of one.

use perfring::bpf::insn::Insn;
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, OwnedFd};

use super::{Result, address, bpf_fd, cmd};

/// The functions of a program: all static, without arguments, and giving an int, as far as the kernel knows.
#[derive(Debug)]
pub struct Functions {
    btf: OwnedFd,
    /// Slot and BTF id of each (`struct bpf_func_info`).
    info: Vec<[u32; 2]>,
}

#[repr(C)]
struct BtfLoad {
    btf: u64,
    btf_log_buf: u64,
    btf_size: u32,
    btf_log_size: u32,
    btf_log_level: u32,
    /// The kernel refuses what is not zero behind what it knows.
    padding: u32,
}

impl Functions {
    /// Functions that start at these slots, in their order; the first is the program.
    pub fn at(starts: &[usize]) -> Result<Self> {
        let btf = btf();
        let mut attr = BtfLoad {
            btf: address(&btf),
            btf_log_buf: 0,
            btf_size: btf.len() as u32,
            btf_log_size: 0,
            btf_log_level: 0,
            padding: 0,
        };
        // SAFETY: the attr mirrors the command's part; `btf` has `btf_size` bytes, and there is no log.
        let btf = unsafe { bpf_fd(cmd::BTF_LOAD, &mut attr)? };
        Ok(Self { btf, info: starts.iter().map(|&start| [start as u32, FUNCTION]).collect() })
    }

    /// The functions that a program calls, or takes the address of; none where there are none.
    pub fn of(insns: &[Insn]) -> Result<Option<Self>> {
        let mut starts = BTreeSet::from([0]);
        for (slot, insn) in insns.iter().enumerate() {
            if matches!((insn.opcode, insn.src), (0x85, 1) | (0x18, 4)) {
                starts.insert((slot as i64 + 1 + i64::from(insn.imm)) as usize);
            }
        }
        let starts: Vec<usize> = starts.into_iter().collect();
        if starts.len() > 1 { Self::at(&starts).map(Some) } else { Ok(None) }
    }

    pub fn btf(&self) -> u32 {
        self.btf.as_raw_fd() as u32
    }

    pub fn info(&self) -> &[[u32; 2]] {
        &self.info
    }
}

/// The BTF id of the one function.
const FUNCTION: u32 = 3;

/// BTF (Documentation/bpf/btf.rst) of `static int f()`.
fn btf() -> Vec<u8> {
    const INT: u32 = 1 << 24;
    const FUNC: u32 = 12 << 24;
    const FUNC_PROTO: u32 = 13 << 24;
    let strings = b"\0int\0f\0";
    // Name, kind, and size or type of each; an int also says how it is encoded: signed, 32 bits.
    let types = [1, INT, 4, 1 << 24 | 32, 0, FUNC_PROTO, 1, 5, FUNC, 2];
    let (types_len, strings_len) = (size_of_val(&types) as u32, strings.len() as u32);
    // Magic and version, the length of the header, and where types and strings are behind it.
    let header: [u32; 6] = [0x0001_eb9f, 24, 0, types_len, types_len, strings_len];
    let words = header.iter().chain(&types).flat_map(|word: &u32| word.to_ne_bytes());
    words.chain(*strings).collect()
}
