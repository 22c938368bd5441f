//! The instruction set of RFC 9669: instructions as they are encoded ([`Insn`]) and as they are meant ([`Op`]).
//!
//! [`Op::decode`] and [`Op::encode`] lead from one to the other; [`Code`] is a whole program whose structure is sound;
//! [`Listing`] and [`assemble`] lead to text and back. Beyond the RFC there are Linux's `may_goto`, `load_acquire`,
//! `store_release`, and calls through registers.
//!
#![doc = include_str!("opcodes.md")]

mod asm;
mod code;
mod decode;
mod disasm;
mod encode;
mod error;
mod group;
mod helpers;
mod opcode;

pub use asm::{AsmError, AsmErrorKind, assemble, assemble_with};
pub use code::{Code, CodeError, CodeOptions};
pub use disasm::Listing;
pub use encode::Encoded;
pub use error::{InsnError, LengthError};
pub use group::ConformanceGroup;
pub use helpers::{helper_name, helper_number};

/// A register: `r0` to `r10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(u8);

impl Reg {
    /// What a function returns; what `exit` gives.
    pub const R0: Self = Self(0);
    /// The first argument; the context when a program starts.
    pub const R1: Self = Self(1);
    /// The second argument.
    pub const R2: Self = Self(2);
    /// The third argument.
    pub const R3: Self = Self(3);
    /// The fourth argument.
    pub const R4: Self = Self(4);
    /// The fifth argument.
    pub const R5: Self = Self(5);
    /// Kept over calls.
    pub const R6: Self = Self(6);
    /// Kept over calls.
    pub const R7: Self = Self(7);
    /// Kept over calls.
    pub const R8: Self = Self(8);
    /// Kept over calls.
    pub const R9: Self = Self(9);
    /// The end of the frame; read-only.
    pub const R10: Self = Self(10);

    /// The register of this number; none beyond 10.
    pub const fn new(number: u8) -> Option<Self> {
        if number <= 10 { Some(Self(number)) } else { None }
    }

    /// From 0 to 10.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// An instruction slot as it is encoded: 8 bytes (RFC 9669 section 3). A wide instruction takes two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Insn {
    /// Class and operation.
    pub opcode: u8,
    /// Destination register, 4 bits of the byte of registers.
    pub dst: u8,
    /// Source register, the other 4 bits.
    pub src: u8,
    /// Offset of a jump or an access.
    pub offset: i16,
    /// Immediate operand.
    pub imm: i32,
}

/// Whether an operation works on the lower half of registers, and clears the upper, or on the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32 bits.
    W32,
    /// 64 bits.
    W64,
}

/// The size of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Size {
    /// 1 byte.
    B,
    /// 2 bytes.
    H,
    /// 4 bytes.
    W,
    /// 8 bytes.
    DW,
}

impl Size {
    /// From 1 to 8.
    pub const fn bytes(self) -> usize {
        match self {
            Self::B => 1,
            Self::H => 2,
            Self::W => 4,
            Self::DW => 8,
        }
    }

    /// From 8 to 64.
    pub const fn bits(self) -> u32 {
        match self {
            Self::B => 8,
            Self::H => 16,
            Self::W => 32,
            Self::DW => 64,
        }
    }
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A number; sign-extended where the operation has 64 bits.
    Imm(i32),
}

/// An arithmetic operation with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AluOp {
    /// `+=`, wrapping.
    Add,
    /// `-=`, wrapping.
    Sub,
    /// `*=`, wrapping.
    Mul,
    /// `/=`, unsigned; by 0 it gives 0.
    Div,
    /// `s/=`: signed; by 0 it gives 0, and the least value by -1 itself.
    Sdiv,
    /// `%=`, unsigned; by 0 it leaves the destination.
    Mod,
    /// `s%=`: signed; by 0 it leaves the destination, and by -1 it gives 0.
    Smod,
    /// `|=`
    Or,
    /// `&=`
    And,
    /// `^=`
    Xor,
    /// `<<=`, by the operand modulo the width.
    Lsh,
    /// `>>=`, likewise.
    Rsh,
    /// `s>>=`: shifts the sign in, likewise.
    Arsh,
}

/// A comparison that decides a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JmpOp {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `&`: whether the operands have a bit in common.
    Set,
    /// `>`, unsigned.
    Gt,
    /// `>=`, unsigned.
    Ge,
    /// `<`, unsigned.
    Lt,
    /// `<=`, unsigned.
    Le,
    /// `s>`: signed.
    Sgt,
    /// `s>=`: signed.
    Sge,
    /// `s<`: signed.
    Slt,
    /// `s<=`: signed.
    Sle,
}

/// What an atomic operation does with memory and its source register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomicOp {
    /// Adds; with `fetch` the source becomes the old value.
    Add {
        /// Whether the old value is wanted.
        fetch: bool,
    },
    /// Ors; likewise.
    Or {
        /// Whether the old value is wanted.
        fetch: bool,
    },
    /// Ands; likewise.
    And {
        /// Whether the old value is wanted.
        fetch: bool,
    },
    /// Xors; likewise.
    Xor {
        /// Whether the old value is wanted.
        fetch: bool,
    },
    /// Exchanges memory and source.
    Xchg,
    /// Stores the source if memory equals `r0`; `r0` becomes the old value.
    Cmpxchg,
}

/// What is done to the order of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteSwap {
    /// From the machine's order to little endian, or back.
    ToLe,
    /// From the machine's order to big endian, or back.
    ToBe,
    /// Reversed, whatever the machine.
    Swap,
}

/// Where a 64-bit immediate comes from (RFC 9669 section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Imm64 {
    /// The number itself.
    Value(u64),
    /// A map, by its file descriptor.
    MapFd(i32),
    /// The address of byte `offset` of the first value of a map, by the map's file descriptor.
    MapFdValue {
        /// File descriptor.
        fd: i32,
        /// Bytes.
        offset: u32,
    },
    /// The address of a variable of the platform, by its BTF id.
    Variable {
        /// BTF id.
        id: i32,
        /// The file descriptor of the BTF; 0 is the kernel's own.
        btf_fd: i32,
    },
    /// The address of a function of the program: slots from the one behind this one's first.
    Function(i32),
    /// A map, by its index in the program's list.
    MapIndex(i32),
    /// As `MapFdValue`, by the index.
    MapIndexValue {
        /// Index.
        index: i32,
        /// Bytes.
        offset: u32,
    },
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callee {
    /// A helper, by its number.
    Helper(i32),
    /// A function of the program: slots from the one behind this one.
    Local(i32),
    /// A function of the platform, by its BTF id.
    Kfunc {
        /// BTF id.
        id: i32,
        /// Index of the BTF's file descriptor; 0 is the kernel's own.
        btf: i16,
    },
    /// What the address in a register leads to. (Not in the RFC; some compilers make it.)
    Register(Reg),
}

/// An instruction as it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `dst op= src`
    Alu {
        /// Of the operation; the shift's modulus.
        width: Width,
        /// Operation.
        op: AluOp,
        /// Destination.
        dst: Reg,
        /// Second operand.
        src: Operand,
    },
    /// `dst = -dst`
    Neg {
        /// Of the operation.
        width: Width,
        /// Destination.
        dst: Reg,
    },
    /// `dst = src`
    Mov {
        /// Of the operation.
        width: Width,
        /// Destination.
        dst: Reg,
        /// What is moved.
        src: Operand,
    },
    /// `dst = (s8)src`: sign-extends from `from` to the width.
    MovSx {
        /// Of the operation.
        width: Width,
        /// Of what is extended: not `DW`; `W` only to 64 bits.
        from: Size,
        /// Destination.
        dst: Reg,
        /// What is extended.
        src: Reg,
    },
    /// Converts the order of the lower `size` bytes, and clears the others.
    ByteSwap {
        /// To what.
        kind: ByteSwap,
        /// `H`, `W` or `DW`.
        size: Size,
        /// Destination.
        dst: Reg,
    },
    /// `dst = imm64`: takes two slots.
    LoadImm64 {
        /// Destination.
        dst: Reg,
        /// What is loaded.
        imm: Imm64,
    },
    /// `dst = *(size *)(src + offset)`
    Load {
        /// Bytes.
        size: Size,
        /// Whether the value is sign-extended; not with `DW`.
        signed: bool,
        /// Destination.
        dst: Reg,
        /// Base.
        src: Reg,
        /// Bytes from the base.
        offset: i16,
    },
    /// `*(size *)(dst + offset) = src`
    Store {
        /// Bytes.
        size: Size,
        /// Base.
        dst: Reg,
        /// Bytes from the base.
        offset: i16,
        /// What is stored.
        src: Operand,
    },
    /// An atomic operation on `*(size *)(dst + offset)`.
    Atomic {
        /// Operation.
        op: AtomicOp,
        /// `W` or `DW`.
        size: Size,
        /// Base.
        dst: Reg,
        /// Bytes from the base.
        offset: i16,
        /// Operand, and where the old value goes.
        src: Reg,
    },
    /// `dst = load_acquire((size *)(src + offset))`. (Linux 6.15; not in the RFC.)
    LoadAcquire {
        /// Bytes.
        size: Size,
        /// Destination.
        dst: Reg,
        /// Base.
        src: Reg,
        /// Bytes from the base.
        offset: i16,
    },
    /// `store_release((size *)(dst + offset), src)`. (Linux 6.15; not in the RFC.)
    StoreRelease {
        /// Bytes.
        size: Size,
        /// Base.
        dst: Reg,
        /// Bytes from the base.
        offset: i16,
        /// What is stored.
        src: Reg,
    },
    /// `r0 = ntoh(*(size *)skb[imm])`: the legacy access to packets, relative to `src` too where there is one.
    LoadPacket {
        /// Not `DW`.
        size: Size,
        /// The index register of the indirect form.
        index: Option<Reg>,
        /// Bytes.
        offset: i32,
    },
    /// `goto`, by slots from the one behind this one.
    Jump {
        /// Slots. Encoded as `gotol` when it does not fit into 16 bits, or `long` is set.
        offset: i32,
        /// Whether it is encoded as `gotol`.
        long: bool,
    },
    /// `if dst op src goto`
    JumpIf {
        /// Of the comparison.
        width: Width,
        /// Comparison.
        op: JmpOp,
        /// First operand.
        dst: Reg,
        /// Second operand.
        src: Operand,
        /// Slots from the one behind this one.
        offset: i16,
    },
    /// `may_goto`: goes on for a while, and jumps after too many times. (Linux 6.9; not in the RFC.)
    MayGoto {
        /// Slots from the one behind this one.
        offset: i16,
    },
    /// `call`
    Call(Callee),
    /// `exit`
    Exit,
}
