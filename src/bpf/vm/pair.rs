//! Pairs of instructions that verified programs run at once: to find what an instruction does takes longer than to do it.
//!
//! They are pairs that compilers make, and those that loops end with. Each slot keeps its place: the first of a pair stands for
//! both, and the second stays what it is, for jumps that lead there.

use super::{Code, Inst};

/// Calls a macro with all of them: what the pair is called, and which two it is.
macro_rules! pairs {
    ($with:ident) => {
        $with! {
            Mov64RegMov64Reg = Mov64Reg Mov64Reg,
            Mov64RegMovImm = Mov64Reg MovImm,
            Mov64RegAdd64Imm = Mov64Reg Add64Imm,
            Mov64RegAdd64Reg = Mov64Reg Add64Reg,
            Mov64RegSub64Reg = Mov64Reg Sub64Reg,
            Mov64RegMul64Reg = Mov64Reg Mul64Reg,
            Mov64RegAnd64Imm = Mov64Reg And64Imm,
            Mov64RegRsh64Imm = Mov64Reg Rsh64Imm,
            Mov64RegLsh64Imm = Mov64Reg Lsh64Imm,
            Mov64RegLoadImm64 = Mov64Reg LoadImm64,
            Mov64RegCallHelper = Mov64Reg CallHelper,
            Mov64RegStackStore64Reg = Mov64Reg StackStore64Reg,
            Mov64RegLoad64 = Mov64Reg Load64,
            MovImmMov64Reg = MovImm Mov64Reg,
            MovImmMovImm = MovImm MovImm,
            MovImmCallHelper = MovImm CallHelper,
            MovImmBufferReserve = MovImm BufferReserve,
            MovImmBufferCommit = MovImm BufferCommit,
            MovImmExit = MovImm Exit,
            MovImmStackStore64Reg = MovImm StackStore64Reg,
            MovImmStackStore32Reg = MovImm StackStore32Reg,
            MovImmLoadImm64 = MovImm LoadImm64,
            MovImmAdd64Reg = MovImm Add64Reg,
            Add64ImmMov64Reg = Add64Imm Mov64Reg,
            Add64ImmMovImm = Add64Imm MovImm,
            Add64ImmAdd64Imm = Add64Imm Add64Imm,
            Add64ImmAdd64Reg = Add64Imm Add64Reg,
            Add64ImmLookup = Add64Imm Lookup,
            Add64ImmSub64Imm = Add64Imm Sub64Imm,
            Add64ImmLoadImm64 = Add64Imm LoadImm64,
            Add64ImmJNe64Imm = Add64Imm JNe64Imm,
            Add64ImmJNe64Reg = Add64Imm JNe64Reg,
            Add64ImmJLt64Imm = Add64Imm JLt64Imm,
            Add64ImmJLt64Reg = Add64Imm JLt64Reg,
            Add64ImmJGt64Reg = Add64Imm JGt64Reg,
            Add64ImmJump = Add64Imm Jump,
            Add64ImmLoad8 = Add64Imm Load8,
            Add64ImmLoad64 = Add64Imm Load64,
            Add64RegAdd64Reg = Add64Reg Add64Reg,
            Add64RegAdd64Imm = Add64Reg Add64Imm,
            Add64RegSub64Imm = Add64Reg Sub64Imm,
            Add64RegMov64Reg = Add64Reg Mov64Reg,
            Add64RegLoad8 = Add64Reg Load8,
            Add64RegLoad32 = Add64Reg Load32,
            Add64RegLoad64 = Add64Reg Load64,
            Add64RegXor64Reg = Add64Reg Xor64Reg,
            Add64RegJNe64Imm = Add64Reg JNe64Imm,
            Add64RegStore64Reg = Add64Reg Store64Reg,
            Sub64ImmJNe64Imm = Sub64Imm JNe64Imm,
            Sub64ImmMov64Reg = Sub64Imm Mov64Reg,
            And64ImmJEq64Imm = And64Imm JEq64Imm,
            And64ImmJNe64Imm = And64Imm JNe64Imm,
            And64ImmAdd64Reg = And64Imm Add64Reg,
            And64ImmMov64Reg = And64Imm Mov64Reg,
            Xor64RegMul64Imm = Xor64Reg Mul64Imm,
            Xor64RegMov64Reg = Xor64Reg Mov64Reg,
            Xor64RegAdd64Reg = Xor64Reg Add64Reg,
            Lsh64ImmRsh64Imm = Lsh64Imm Rsh64Imm,
            Lsh64ImmArsh64Imm = Lsh64Imm Arsh64Imm,
            Lsh64ImmOr64Reg = Lsh64Imm Or64Reg,
            Lsh64ImmAdd64Reg = Lsh64Imm Add64Reg,
            Rsh64ImmMov64Reg = Rsh64Imm Mov64Reg,
            Rsh64ImmAdd64Reg = Rsh64Imm Add64Reg,
            Rsh64ImmAnd64Imm = Rsh64Imm And64Imm,
            Rsh64ImmXor64Reg = Rsh64Imm Xor64Reg,
            Mul64ImmSub64Imm = Mul64Imm Sub64Imm,
            Mul64ImmAdd64Reg = Mul64Imm Add64Reg,
            Mul64ImmAdd64Imm = Mul64Imm Add64Imm,
            Mul64ImmXor64Reg = Mul64Imm Xor64Reg,
            Load8Load8 = Load8 Load8,
            Load8Add64Reg = Load8 Add64Reg,
            Load8JNe64Imm = Load8 JNe64Imm,
            Load8JEq64Imm = Load8 JEq64Imm,
            Load8JNe64Reg = Load8 JNe64Reg,
            Load8Lsh64Imm = Load8 Lsh64Imm,
            Load8Mov64Reg = Load8 Mov64Reg,
            Load32Load32 = Load32 Load32,
            Load32JEq64Imm = Load32 JEq64Imm,
            Load32JNe64Imm = Load32 JNe64Imm,
            Load32Add64Reg = Load32 Add64Reg,
            Load32Mov64Reg = Load32 Mov64Reg,
            Load64Load64 = Load64 Load64,
            Load64JEq64Imm = Load64 JEq64Imm,
            Load64Mov64Reg = Load64 Mov64Reg,
            Load64StackStore64Reg = Load64 StackStore64Reg,
            Load64Add64Reg = Load64 Add64Reg,
            Load64Store64Reg = Load64 Store64Reg,
            StackLoad64StackLoad64 = StackLoad64 StackLoad64,
            StackLoad64StackLoad32 = StackLoad64 StackLoad32,
            StackLoad64Add64Reg = StackLoad64 Add64Reg,
            StackLoad64Mov64Reg = StackLoad64 Mov64Reg,
            StackStore64RegStackStore64Reg = StackStore64Reg StackStore64Reg,
            StackStore64RegStackStore32Reg = StackStore64Reg StackStore32Reg,
            StackStore64RegStackLoad64 = StackStore64Reg StackLoad64,
            StackStore64RegMov64Reg = StackStore64Reg Mov64Reg,
            StackStore64RegLoad64 = StackStore64Reg Load64,
            StackStore32RegStackStore32Reg = StackStore32Reg StackStore32Reg,
            StackStore32RegMov64Reg = StackStore32Reg Mov64Reg,
            StackStore32RegStackLoad64 = StackStore32Reg StackLoad64,
            LoadImm64LoadImm64 = LoadImm64 LoadImm64,
            LoadImm64Mov64Reg = LoadImm64 Mov64Reg,
            LoadImm64MovImm = LoadImm64 MovImm,
            LoadImm64CallHelper = LoadImm64 CallHelper,
            LoadImm64BufferReserve = LoadImm64 BufferReserve,
            LoadImm64BufferCommit = LoadImm64 BufferCommit,
            LoadImm64Load32 = LoadImm64 Load32,
            LoadImm64Load64 = LoadImm64 Load64,
        }
    };
}
pub(super) use pairs;

/// Makes pairs of what may be run at once.
pub(crate) fn make_pairs(insts: &mut [Inst]) {
    for first in 0..insts.len() {
        // What is paired is never the second of a pair that is made later: those are made of instructions that stand before.
        let second = first + if insts[first].code == Code::LoadImm64 { 2 } else { 1 };
        let pair = insts.get(second).and_then(|second| Code::pair(insts[first].code, second.code));
        if let Some(pair) = pair {
            insts[first].code = pair;
        }
    }
}
