//! The bits of opcodes and the values of `imm`, `src` and `offset` that choose an operation, by their names in the uapi
//! headers `linux/bpf.h` and `linux/bpf_common.h`.

/// The bits of the class.
pub(super) const CLASS: u8 = 0x07;
pub(super) const BPF_LD: u8 = 0x00;
pub(super) const BPF_LDX: u8 = 0x01;
pub(super) const BPF_ST: u8 = 0x02;
pub(super) const BPF_STX: u8 = 0x03;
pub(super) const BPF_ALU: u8 = 0x04;
pub(super) const BPF_JMP: u8 = 0x05;
pub(super) const BPF_JMP32: u8 = 0x06;
pub(super) const BPF_ALU64: u8 = 0x07;

/// The bits of the size, in the classes of loads and stores.
pub(super) const SIZE: u8 = 0x18;
pub(super) const BPF_W: u8 = 0x00;
pub(super) const BPF_H: u8 = 0x08;
pub(super) const BPF_B: u8 = 0x10;
pub(super) const BPF_DW: u8 = 0x18;

/// The bits of the mode, in the classes of loads and stores.
pub(super) const MODE: u8 = 0xe0;
pub(super) const BPF_IMM: u8 = 0x00;
pub(super) const BPF_ABS: u8 = 0x20;
pub(super) const BPF_IND: u8 = 0x40;
pub(super) const BPF_MEM: u8 = 0x60;
pub(super) const BPF_MEMSX: u8 = 0x80;
pub(super) const BPF_ATOMIC: u8 = 0xc0;

/// The bit of the source, in the classes of arithmetic and jumps: set where the second operand is a register.
pub(super) const BPF_X: u8 = 0x08;
pub(super) const BPF_K: u8 = 0x00;
/// The same bit, of `BPF_END`: to little or to big endian.
pub(super) const BPF_TO_LE: u8 = 0x00;
pub(super) const BPF_TO_BE: u8 = 0x08;

/// The bits of the operation, in the classes of arithmetic and jumps.
pub(super) const OP: u8 = 0xf0;
pub(super) const BPF_ADD: u8 = 0x00;
pub(super) const BPF_SUB: u8 = 0x10;
pub(super) const BPF_MUL: u8 = 0x20;
pub(super) const BPF_DIV: u8 = 0x30;
pub(super) const BPF_OR: u8 = 0x40;
pub(super) const BPF_AND: u8 = 0x50;
pub(super) const BPF_LSH: u8 = 0x60;
pub(super) const BPF_RSH: u8 = 0x70;
pub(super) const BPF_NEG: u8 = 0x80;
pub(super) const BPF_MOD: u8 = 0x90;
pub(super) const BPF_XOR: u8 = 0xa0;
pub(super) const BPF_MOV: u8 = 0xb0;
pub(super) const BPF_ARSH: u8 = 0xc0;
pub(super) const BPF_END: u8 = 0xd0;

pub(super) const BPF_JA: u8 = 0x00;
pub(super) const BPF_JEQ: u8 = 0x10;
pub(super) const BPF_JGT: u8 = 0x20;
pub(super) const BPF_JGE: u8 = 0x30;
pub(super) const BPF_JSET: u8 = 0x40;
pub(super) const BPF_JNE: u8 = 0x50;
pub(super) const BPF_JSGT: u8 = 0x60;
pub(super) const BPF_JSGE: u8 = 0x70;
pub(super) const BPF_CALL: u8 = 0x80;
pub(super) const BPF_EXIT: u8 = 0x90;
pub(super) const BPF_JLT: u8 = 0xa0;
pub(super) const BPF_JLE: u8 = 0xb0;
pub(super) const BPF_JSLT: u8 = 0xc0;
pub(super) const BPF_JSLE: u8 = 0xd0;
pub(super) const BPF_JCOND: u8 = 0xe0;

/// `imm` of atomic operations; the simple ones are the bits of the arithmetic.
pub(super) const ATOMIC_ADD: i32 = BPF_ADD as i32;
pub(super) const ATOMIC_OR: i32 = BPF_OR as i32;
pub(super) const ATOMIC_AND: i32 = BPF_AND as i32;
pub(super) const ATOMIC_XOR: i32 = BPF_XOR as i32;
pub(super) const BPF_FETCH: i32 = 0x01;
pub(super) const BPF_XCHG: i32 = 0xe0 | BPF_FETCH;
pub(super) const BPF_CMPXCHG: i32 = 0xf0 | BPF_FETCH;
pub(super) const BPF_LOAD_ACQ: i32 = 0x100;
pub(super) const BPF_STORE_REL: i32 = 0x110;

/// `src` of wide instructions.
pub(super) const BPF_PSEUDO_MAP_FD: u8 = 1;
pub(super) const BPF_PSEUDO_MAP_VALUE: u8 = 2;
pub(super) const BPF_PSEUDO_BTF_ID: u8 = 3;
pub(super) const BPF_PSEUDO_FUNC: u8 = 4;
pub(super) const BPF_PSEUDO_MAP_IDX: u8 = 5;
pub(super) const BPF_PSEUDO_MAP_IDX_VALUE: u8 = 6;

/// `src` of calls.
pub(super) const BPF_PSEUDO_CALL: u8 = 1;
pub(super) const BPF_PSEUDO_KFUNC_CALL: u8 = 2;

/// `offset` of divisions and remainders that are signed.
pub(super) const SIGNED: i16 = 1;
