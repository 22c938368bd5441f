//! Instructions as the interpreter runs them: one for each slot of the program, so that targets are the program's own.

use super::pair::pairs;
use crate::bpf::program_type::Pointer;

macro_rules! codes {
    ($($pair:ident = $first:ident $second:ident,)*) => {
        /// What to do. `Reg` and `Imm` tell where the second operand is, 64 and 32 the width; `Stack` is access relative to `r10`
        /// that was found to be in the frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub(crate) enum Code {
            Add64Reg,
            Add64Imm,
            Add32Reg,
            Add32Imm,
            Sub64Reg,
            Sub64Imm,
            Sub32Reg,
            Sub32Imm,
            Mul64Reg,
            Mul64Imm,
            Mul32Reg,
            Mul32Imm,
            Or64Reg,
            Or64Imm,
            Or32Reg,
            Or32Imm,
            And64Reg,
            And64Imm,
            And32Reg,
            And32Imm,
            Xor64Reg,
            Xor64Imm,
            Xor32Reg,
            Xor32Imm,
            Lsh64Reg,
            Lsh64Imm,
            Lsh32Reg,
            Lsh32Imm,
            Rsh64Reg,
            Rsh64Imm,
            Rsh32Reg,
            Rsh32Imm,
            Arsh64Reg,
            Arsh64Imm,
            Arsh32Reg,
            Arsh32Imm,
            Div64Reg,
            Div64Imm,
            Div32Reg,
            Div32Imm,
            Mod64Reg,
            Mod64Imm,
            Mod32Reg,
            Mod32Imm,
            Sdiv64Reg,
            Sdiv64Imm,
            Sdiv32Reg,
            Sdiv32Imm,
            Smod64Reg,
            Smod64Imm,
            Smod32Reg,
            Smod32Imm,
            Neg64,
            Neg32,
            Mov64Reg,
            Mov32Reg,
            MovImm,
            MovSx8To32,
            MovSx16To32,
            MovSx8To64,
            MovSx16To64,
            MovSx32To64,
            Swap16,
            Swap32,
            Swap64,
            Truncate16,
            Truncate32,
            JEq64Reg,
            JEq64Imm,
            JEq32Reg,
            JEq32Imm,
            JNe64Reg,
            JNe64Imm,
            JNe32Reg,
            JNe32Imm,
            JSet64Reg,
            JSet64Imm,
            JSet32Reg,
            JSet32Imm,
            JGt64Reg,
            JGt64Imm,
            JGt32Reg,
            JGt32Imm,
            JGe64Reg,
            JGe64Imm,
            JGe32Reg,
            JGe32Imm,
            JLt64Reg,
            JLt64Imm,
            JLt32Reg,
            JLt32Imm,
            JLe64Reg,
            JLe64Imm,
            JLe32Reg,
            JLe32Imm,
            JSgt64Reg,
            JSgt64Imm,
            JSgt32Reg,
            JSgt32Imm,
            JSge64Reg,
            JSge64Imm,
            JSge32Reg,
            JSge32Imm,
            JSlt64Reg,
            JSlt64Imm,
            JSlt32Reg,
            JSlt32Imm,
            JSle64Reg,
            JSle64Imm,
            JSle32Reg,
            JSle32Imm,
            Load8,
            StackLoad8,
            Load16,
            StackLoad16,
            Load32,
            StackLoad32,
            Load64,
            StackLoad64,
            LoadSx8,
            StackLoadSx8,
            LoadSx16,
            StackLoadSx16,
            LoadSx32,
            StackLoadSx32,
            Store8Reg,
            StackStore8Reg,
            Store16Reg,
            StackStore16Reg,
            Store32Reg,
            StackStore32Reg,
            Store64Reg,
            StackStore64Reg,
            Store8Imm,
            StackStore8Imm,
            Store16Imm,
            StackStore16Imm,
            Store32Imm,
            StackStore32Imm,
            Store64Imm,
            StackStore64Imm,
            Atomic32,
            Atomic64,
            LoadAcquire,
            StoreRelease,
            LoadPacket,
            /// Of a field of the context that leads elsewhere: only where that is proved.
            LoadPointer,
            Jump,
            MayGoto,
            CallHelper,
            /// Of `bpf_map_lookup_elem`: only where its arguments are proved.
            Lookup,
            /// Of `bpf_buffer_reserve`: likewise.
            BufferReserve,
            /// Of `bpf_buffer_commit`: likewise.
            BufferCommit,
            CallLocal,
            CallRegister,
            TailCall,
            Exit,
            LoadImm64,
            FunctionAddress,
            Unreachable,
            /// Needs what is not there.
            Unresolved,
            $($pair,)*
        }

        impl Code {
            /// The two at once.
            pub(crate) const fn pair(first: Self, second: Self) -> Option<Self> {
                match (first, second) {
                    $((Self::$first, Self::$second) => Some(Self::$pair),)*
                    _ => None,
                }
            }
        }
    };
}
pairs!(codes);

impl Code {
    /// Whether it is a load that may be one of an address, which takes all of the field.
    pub(crate) const fn may_load_pointer(self) -> bool {
        matches!(self, Self::Load32 | Self::Load64)
    }

    /// Whether it is a load that extends a sign: of an address there is none.
    pub(crate) const fn is_sign_extending(self) -> bool {
        matches!(self, Self::LoadSx8 | Self::LoadSx16 | Self::LoadSx32)
    }
}

/// An instruction, ready to run.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Inst {
    /// What it stands for: sign-extended where it is an operand.
    pub(crate) imm: u64,
    /// Bytes from the base of an access; slots from the next one to the target of a jump.
    pub(crate) offset: i32,
    pub(crate) code: Code,
    pub(crate) dst: u8,
    pub(crate) src: u8,
}

const _: () = assert!(size_of::<Inst>() == 16);

impl Inst {
    pub(crate) const fn new(code: Code) -> Self {
        Self { imm: 0, offset: 0, code, dst: 0, src: 0 }
    }

    /// A load of what a field of the context leads to.
    pub(crate) const fn load_pointer(dst: u8, pointer: Pointer) -> Self {
        let (offset, id) = match pointer {
            Pointer::Packet => (0, 0),
            Pointer::PacketEnd => (1, 0),
            Pointer::Buffer(id) => (2, id),
            Pointer::BufferEnd(id) => (3, id),
        };
        Self { imm: id as u64, offset, dst, ..Self::new(Code::LoadPointer) }
    }

    /// What such a load gives.
    pub(crate) const fn pointer(&self) -> Pointer {
        let id = self.imm as u32;
        match self.offset {
            0 => Pointer::Packet,
            1 => Pointer::PacketEnd,
            2 => Pointer::Buffer(id),
            _ => Pointer::BufferEnd(id),
        }
    }
}

/// Arithmetic of RFC 9669 section 4.1.
pub(crate) mod alu {
    macro_rules! both {
        ($($name64:ident, $name32:ident: |$a:ident, $b:ident| $u64:expr, $u32:expr;)*) => {
            $(
                #[inline(always)]
                pub(crate) fn $name64($a: u64, $b: u64) -> u64 {
                    $u64
                }

                #[inline(always)]
                pub(crate) fn $name32($a: u64, $b: u64) -> u64 {
                    let ($a, $b) = ($a as u32, $b as u32);
                    u64::from($u32)
                }
            )*
        };
    }

    both! {
        add64, add32: |a, b| a.wrapping_add(b), a.wrapping_add(b);
        sub64, sub32: |a, b| a.wrapping_sub(b), a.wrapping_sub(b);
        mul64, mul32: |a, b| a.wrapping_mul(b), a.wrapping_mul(b);
        or64, or32: |a, b| a | b, a | b;
        and64, and32: |a, b| a & b, a & b;
        xor64, xor32: |a, b| a ^ b, a ^ b;
        lsh64, lsh32: |a, b| a.wrapping_shl(b as u32), a.wrapping_shl(b);
        rsh64, rsh32: |a, b| a.wrapping_shr(b as u32), a.wrapping_shr(b);
        arsh64, arsh32: |a, b| (a as i64).wrapping_shr(b as u32) as u64, (a as i32).wrapping_shr(b) as u32;
        div64, div32: |a, b| a.checked_div(b).unwrap_or(0), a.checked_div(b).unwrap_or(0);
        mod64, mod32: |a, b| a.checked_rem(b).unwrap_or(a), a.checked_rem(b).unwrap_or(a);
        sdiv64, sdiv32: |a, b| if b == 0 { 0 } else { (a as i64).wrapping_div(b as i64) as u64 },
            if b == 0 { 0 } else { (a as i32).wrapping_div(b as i32) as u32 };
        smod64, smod32: |a, b| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 },
            if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 };
    }
}

/// Comparisons of RFC 9669 section 4.3.
pub(crate) mod cmp {
    macro_rules! both {
        ($($name64:ident, $name32:ident: |$a:ident, $b:ident| $u64:expr, $u32:expr;)*) => {
            $(
                #[inline(always)]
                pub(crate) fn $name64($a: u64, $b: u64) -> bool {
                    $u64
                }

                #[inline(always)]
                pub(crate) fn $name32($a: u64, $b: u64) -> bool {
                    let ($a, $b) = ($a as u32, $b as u32);
                    $u32
                }
            )*
        };
    }

    both! {
        eq64, eq32: |a, b| a == b, a == b;
        ne64, ne32: |a, b| a != b, a != b;
        set64, set32: |a, b| a & b != 0, a & b != 0;
        gt64, gt32: |a, b| a > b, a > b;
        ge64, ge32: |a, b| a >= b, a >= b;
        lt64, lt32: |a, b| a < b, a < b;
        le64, le32: |a, b| a <= b, a <= b;
        sgt64, sgt32: |a, b| a as i64 > b as i64, a as i32 > b as i32;
        sge64, sge32: |a, b| a as i64 >= b as i64, a as i32 >= b as i32;
        slt64, slt32: |a, b| (a as i64) < b as i64, (a as i32) < b as i32;
        sle64, sle32: |a, b| a as i64 <= b as i64, a as i32 <= b as i32;
    }
}
