//! A line as an instruction.

use super::lex::{Lexer, Token};
use super::operand::*;
use super::{AsmError, AsmErrorKind};
use crate::bpf::insn::opcode::{BPF_DW, BPF_IMM, BPF_LD};
use crate::bpf::insn::{AluOp, AtomicOp, ByteSwap, Callee, Imm64, JmpOp, Op, Operand, Reg, Size, Width};

/// An instruction; its target, or what it calls, may be a name.
pub(super) struct Line<'a> {
    pub(super) op: Op,
    pub(super) target: Option<Target<'a>>,
}

pub(super) struct Target<'a> {
    pub(super) name: &'a str,
    /// A helper's number behind its name.
    pub(super) given: Option<i32>,
    pub(super) lexer: Lexer<'a>,
}

/// A target: a distance, or a label.
enum To<'a> {
    Offset(i64),
    Label(Target<'a>),
}

/// What a name stands for, until it is known.
const UNKNOWN: i32 = 0;

pub(super) const fn helper(number: i32) -> Op {
    Op::Call(Callee::Helper(number))
}

/// `op` with this target; none if it is too far.
pub(super) fn aimed(op: Op, offset: i64) -> Option<Op> {
    Some(match op {
        Op::Jump { long, .. } => Op::Jump { offset: offset.try_into().ok()?, long },
        Op::JumpIf { width, op, dst, src, .. } => Op::JumpIf { width, op, dst, src, offset: offset.try_into().ok()? },
        Op::MayGoto { .. } => Op::MayGoto { offset: offset.try_into().ok()? },
        Op::Call(_) => Op::Call(Callee::Local(offset.try_into().ok()?)),
        Op::LoadImm64 { dst, .. } => Op::LoadImm64 { dst, imm: Imm64::Function(offset.try_into().ok()?) },
        _ => return None,
    })
}

/// What the line has, if it has anything.
pub(super) fn line<'a>(lexer: &mut Lexer<'a>, opcode: Option<u8>) -> Result<Option<Line<'a>>, AsmError> {
    let start = *lexer;
    let line = match lexer.next()? {
        Token::End => return Ok(None),
        Token::Word("exit") => plain(Op::Exit),
        Token::Word("goto") => aim(lexer, Op::Jump { offset: UNKNOWN, long: false })?,
        Token::Word("gotol") => aim(lexer, Op::Jump { offset: UNKNOWN, long: true })?,
        Token::Word("may_goto") => aim(lexer, Op::MayGoto { offset: 0 })?,
        Token::Word("if") => jump_if(lexer)?,
        Token::Word("call") => call(lexer)?,
        Token::Word("callx") => plain(Op::Call(Callee::Register(reg64(lexer)?))),
        Token::Word("lock") => plain(lock(lexer)?),
        Token::Word("store_release") => plain(store_release(lexer)?),
        Token::Sign("*") => plain(store(lexer)?),
        Token::Word(_) => {
            *lexer = start;
            match reg(lexer)? {
                Some((width, dst)) => assignment(lexer, width, dst, opcode)?,
                None => return Err(start.expected("an instruction")),
            }
        }
        _ => return Err(start.expected("an instruction")),
    };
    if lexer.peek()? != Token::End {
        return Err(lexer.expected("the end of the line"));
    }
    Ok(Some(line))
}

const fn plain<'a>(op: Op) -> Line<'a> {
    Line { op, target: None }
}

/// `pc+3`, `+3`, or a label.
fn to<'a>(lexer: &mut Lexer<'a>) -> Result<To<'a>, AsmError> {
    lexer.skip_space();
    let start = *lexer;
    let mut next = start;
    let pc = next.take(Token::Word("pc"))?;
    let signed = matches!(next.peek()?, Token::Sign("+" | "-"));
    if signed {
        let offset: i32 = int(&mut next)?;
        *lexer = next;
        return Ok(To::Offset(offset.into()));
    }
    match lexer.next()? {
        Token::Word(name) if !pc => Ok(To::Label(Target { name, given: None, lexer: start })),
        _ => Err(start.expected("pc and a signed number, or a label")),
    }
}

/// The target of `op`.
fn aim<'a>(lexer: &mut Lexer<'a>, op: Op) -> Result<Line<'a>, AsmError> {
    lexer.skip_space();
    let start = *lexer;
    match to(lexer)? {
        To::Label(target) => Ok(Line { op, target: Some(target) }),
        To::Offset(offset) => {
            aimed(op, offset).map(plain).ok_or_else(|| start.error(AsmErrorKind::TooLarge { bits: 16 }))
        }
    }
}

fn jump_if<'a>(lexer: &mut Lexer<'a>) -> Result<Line<'a>, AsmError> {
    let start = *lexer;
    let Some((width, dst)) = reg(lexer)? else { return Err(start.expected("a register")) };
    let start = *lexer;
    let Token::Sign(sign) = lexer.next()? else { return Err(start.expected("a comparison")) };
    let Some(&(op, _)) = JmpOp::TEXTS.iter().find(|(_, text)| *text == sign) else {
        return Err(start.expected("a comparison"));
    };
    let bits = if width == Width::W32 { Bits::Any } else { Bits::Hex };
    let src = operand(lexer, width, bits)?;
    if !lexer.take(Token::Word("goto"))? {
        return Err(lexer.expected("goto"));
    }
    aim(lexer, Op::JumpIf { width, op, dst, src, offset: 0 })
}

fn call<'a>(lexer: &mut Lexer<'a>) -> Result<Line<'a>, AsmError> {
    lexer.skip_space();
    let start = *lexer;
    let mut next = start;
    match next.next()? {
        Token::Word("pc") => aim(lexer, Op::Call(Callee::Local(UNKNOWN))),
        Token::Word("kfunc") if next.peek()? == Token::Sign("[") => {
            *lexer = next;
            let id = field(lexer, "id")?;
            let btf = if lexer.sign(",")? { named(lexer, "btf")? } else { 0 };
            lexer.signs(&["]"])?;
            Ok(plain(Op::Call(Callee::Kfunc { id, btf })))
        }
        Token::Word(name) => {
            let given = if next.sign("#")? { Some(int(&mut next)?) } else { None };
            *lexer = next;
            Ok(Line { op: helper(UNKNOWN), target: Some(Target { name, given, lexer: start }) })
        }
        Token::Number { .. } | Token::Sign("-" | "+") => Ok(plain(helper(int(lexer)?))),
        _ => Err(start.expected("pc and a signed number, a label, a number or a helper's name")),
    }
}

/// What is stored: llvm has halves of registers where there are no more than 4 bytes.
fn stored(lexer: &mut Lexer<'_>, size: Size) -> Result<Operand, AsmError> {
    let mut next = *lexer;
    if let Some((Width::W32, reg)) = reg(&mut next)?
        && size != Size::DW
    {
        *lexer = next;
        return Ok(Operand::Reg(reg));
    }
    operand(lexer, Width::W64, if size == Size::DW { Bits::Signed } else { Bits::Any })
}

fn store(lexer: &mut Lexer<'_>) -> Result<Op, AsmError> {
    let (size, dst, offset) = place(lexer)?;
    lexer.signs(&["="])?;
    Ok(Op::Store { size, dst, offset, src: stored(lexer, size)? })
}

fn store_release(lexer: &mut Lexer<'_>) -> Result<Op, AsmError> {
    lexer.signs(&["("])?;
    let (size, dst, offset) = place(lexer)?;
    lexer.signs(&[","])?;
    let src = atomic_operand(lexer, size)?;
    lexer.signs(&[")"])?;
    Ok(Op::StoreRelease { size, dst, offset, src })
}

fn lock(lexer: &mut Lexer<'_>) -> Result<Op, AsmError> {
    lexer.signs(&["*"])?;
    let (size, dst, offset) = place(lexer)?;
    let start = *lexer;
    let op = match lexer.next()? {
        Token::Sign("+=") => AtomicOp::Add { fetch: false },
        Token::Sign("|=") => AtomicOp::Or { fetch: false },
        Token::Sign("&=") => AtomicOp::And { fetch: false },
        Token::Sign("^=") => AtomicOp::Xor { fetch: false },
        _ => return Err(start.expected("+=, |=, &= or ^=")),
    };
    Ok(Op::Atomic { op, size, dst, offset, src: atomic_operand(lexer, size)? })
}

/// What follows a register.
fn assignment<'a>(lexer: &mut Lexer<'a>, width: Width, dst: Reg, opcode: Option<u8>) -> Result<Line<'a>, AsmError> {
    let start = *lexer;
    let Token::Sign(sign) = lexer.next()? else { return Err(start.expected("an assignment")) };
    if sign != "=" {
        let Some(&(op, _)) = AluOp::TEXTS.iter().find(|(_, text)| *text == sign) else {
            return Err(start.expected("an assignment"));
        };
        let bits = if width == Width::W32 { Bits::Any } else { Bits::Signed };
        return Ok(plain(Op::Alu { width, op, dst, src: operand(lexer, width, bits)? }));
    }
    lexer.skip_space();
    let start = *lexer;
    match lexer.next()? {
        Token::Sign("-") if matches!(lexer.peek()?, Token::Word(_)) => {
            same(lexer, width, dst)?;
            Ok(plain(Op::Neg { width, dst }))
        }
        Token::Sign("(") => {
            let start = *lexer;
            let from = match lexer.next()? {
                Token::Word("s8") => Size::B,
                Token::Word("s16") => Size::H,
                Token::Word("s32") => Size::W,
                _ => return Err(start.expected("s8, s16 or s32")),
            };
            lexer.signs(&[")"])?;
            Ok(plain(Op::MovSx { width, from, dst, src: half(lexer, width)? }))
        }
        Token::Sign("*") => load(lexer, width, dst).map(plain),
        Token::Word(word) => {
            *lexer = start;
            if let Some((found, src)) = reg(lexer)? {
                if found != width {
                    return Err(start.expected("a register of the same width"));
                }
                return Ok(plain(Op::Mov { width, dst, src: Operand::Reg(src) }));
            }
            lexer.next()?;
            called(lexer, word, start, width, dst)
        }
        _ => {
            *lexer = start;
            let Some(value) = number(lexer)? else {
                return Err(start.expected("a register, a number or an operation"));
            };
            let wide = lexer.take(Token::Word("ll"))? || opcode == Some(BPF_LD | BPF_IMM | BPF_DW);
            if wide && width == Width::W64 {
                let bits = match (u64::try_from(value.0), i64::try_from(value.0)) {
                    (Ok(bits), _) => bits,
                    (_, Ok(bits)) => bits.cast_unsigned(),
                    _ => return Err(start.error(AsmErrorKind::TooLarge { bits: 64 })),
                };
                return Ok(plain(Op::LoadImm64 { dst, imm: Imm64::Value(bits) }));
            }
            if wide {
                return Err(start.expected("a number of 32 bits"));
            }
            let bits = if width == Width::W32 { Bits::Any } else { Bits::Signed };
            Ok(plain(Op::Mov { width, dst, src: Operand::Imm(immediate(&start, value, bits)?) }))
        }
    }
}

/// `(u64 *)(r1 +8)` or `(u8 *)skb[…]`
fn load(lexer: &mut Lexer<'_>, width: Width, dst: Reg) -> Result<Op, AsmError> {
    lexer.signs(&["("])?;
    let start = *lexer;
    let (size, signed) = size(lexer)?;
    // llvm has halves of registers where the upper half becomes 0.
    if width == Width::W32 && (signed || size == Size::DW) {
        return Err(start.expected("u8, u16 or u32"));
    }
    if lexer.take(Token::Word("skb"))? {
        lexer.signs(&["["])?;
        let index = reg(lexer)?.map(|(_, reg)| reg);
        let offset = if index.is_some() && lexer.peek()? == Token::Sign("]") {
            0
        } else {
            // `r6 + -14`
            let mut next = *lexer;
            if index.is_some() && next.sign("+")? && matches!(next.peek()?, Token::Sign("-")) {
                *lexer = next;
            }
            int(lexer)?
        };
        lexer.signs(&["]"])?;
        if signed || dst != Reg::R0 {
            return Err(start.expected("an unsigned load into r0"));
        }
        return Ok(Op::LoadPacket { size, index, offset });
    }
    lexer.signs(&["("])?;
    let (src, offset) = base(lexer, ")")?;
    Ok(Op::Load { size, signed, dst, src, offset })
}

/// `bswap16 r1`, `load_acquire(…)`, `atomic_…(…)`, `map[…]` and others.
fn called<'a>(
    lexer: &mut Lexer<'a>,
    word: &'a str,
    start: Lexer<'a>,
    width: Width,
    dst: Reg,
) -> Result<Line<'a>, AsmError> {
    if let Some((kind, size)) = swap(word) {
        same(lexer, width, dst)?;
        if width == Width::W32 {
            return Err(start.expected("a byte swap of a register r0 to r10"));
        }
        return Ok(plain(Op::ByteSwap { kind, size, dst }));
    }
    if word == "load_acquire" {
        lexer.signs(&["("])?;
        let (size, src, offset) = place(lexer)?;
        lexer.signs(&[")"])?;
        if width == Width::W32 && size == Size::DW {
            return Err(start.expected("a load of at most 4 bytes"));
        }
        return Ok(plain(Op::LoadAcquire { size, dst, src, offset }));
    }
    if let Some(operation) = atomic(word) {
        return fetch(lexer, operation, start, width, dst).map(plain);
    }
    if width == Width::W32 {
        return Err(start.expected("a register, a number or an operation"));
    }
    let imm = match word {
        "map" => map(lexer)?,
        "btf" => {
            let id = field(lexer, "id")?;
            let btf_fd = if lexer.sign(",")? { named(lexer, "fd")? } else { 0 };
            lexer.signs(&["]"])?;
            Imm64::Variable { id, btf_fd }
        }
        "subprog" => {
            lexer.signs(&["["])?;
            let line = aim(lexer, Op::LoadImm64 { dst, imm: Imm64::Function(UNKNOWN) })?;
            lexer.signs(&["]"])?;
            lexer.take(Token::Word("ll"))?;
            return Ok(line);
        }
        _ => return Err(start.expected("a register, a number or an operation")),
    };
    lexer.take(Token::Word("ll"))?;
    Ok(plain(Op::LoadImm64 { dst, imm }))
}

fn swap(word: &str) -> Option<(ByteSwap, Size)> {
    let kinds = [("le", ByteSwap::ToLe), ("be", ByteSwap::ToBe), ("bswap", ByteSwap::Swap)];
    let (kind, bits) = kinds.iter().find_map(|&(name, kind)| Some((kind, word.strip_prefix(name)?)))?;
    let size = match bits {
        "16" => Size::H,
        "32" => Size::W,
        "64" => Size::DW,
        _ => return None,
    };
    Some((kind, size))
}

/// How the operand of an atomic operation is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `(u32 *)(r1 +8)`, or of any size.
    Any,
    /// `(u64 *)(r1 +8)`
    Double,
    /// `r1 + 8`, as llvm has it where the name tells the size.
    Bare(Size),
}

/// An atomic operation that gives the old value, by its name.
fn atomic(word: &str) -> Option<(AtomicOp, Form)> {
    match word {
        "xchg32_32" => return Some((AtomicOp::Xchg, Form::Bare(Size::W))),
        "xchg_64" => return Some((AtomicOp::Xchg, Form::Bare(Size::DW))),
        "cmpxchg32_32" => return Some((AtomicOp::Cmpxchg, Form::Bare(Size::W))),
        "cmpxchg_64" => return Some((AtomicOp::Cmpxchg, Form::Bare(Size::DW))),
        _ => {}
    }
    let (name, form) = match word.strip_prefix("atomic_") {
        Some(name) => (name, Form::Any),
        None => (word.strip_prefix("atomic64_")?, Form::Double),
    };
    let op = match name {
        "fetch_add" => AtomicOp::Add { fetch: true },
        "fetch_or" => AtomicOp::Or { fetch: true },
        "fetch_and" => AtomicOp::And { fetch: true },
        "fetch_xor" => AtomicOp::Xor { fetch: true },
        "xchg" => AtomicOp::Xchg,
        "cmpxchg" => AtomicOp::Cmpxchg,
        _ => return None,
    };
    Some((op, form))
}

/// `((u64 *)(r1 +8), r2)`, the result in `result`.
fn fetch(
    lexer: &mut Lexer<'_>,
    (op, form): (AtomicOp, Form),
    start: Lexer<'_>,
    width: Width,
    result: Reg,
) -> Result<Op, AsmError> {
    lexer.signs(&["("])?;
    let (size, dst, offset) = if let Form::Bare(size) = form {
        let (dst, offset) = base(lexer, ",")?;
        (size, dst, offset)
    } else {
        let place = place(lexer)?;
        lexer.signs(&[","])?;
        place
    };
    if form == Form::Double && size != Size::DW {
        return Err(start.expected("an operation without 64, since its operand is smaller"));
    }
    if width == Width::W32 && size == Size::DW {
        return Err(start.expected("an operation of at most 4 bytes"));
    }
    if op == AtomicOp::Cmpxchg {
        let start = *lexer;
        if atomic_operand(lexer, size)? != Reg::R0 || result != Reg::R0 {
            return Err(start.expected("r0, here and as the result"));
        }
        lexer.signs(&[","])?;
    }
    let start = *lexer;
    let src = atomic_operand(lexer, size)?;
    if op != AtomicOp::Cmpxchg && src != result {
        return Err(start.expected("the register of the result"));
    }
    lexer.signs(&[")"])?;
    Ok(Op::Atomic { op, size, dst, offset, src })
}

/// `[fd:5]`, `[idx:5]`, and `[0]+8` behind it.
fn map(lexer: &mut Lexer<'_>) -> Result<Imm64, AsmError> {
    lexer.signs(&["["])?;
    let start = *lexer;
    let by_fd = match lexer.next()? {
        Token::Word("fd") => true,
        Token::Word("idx") => false,
        _ => return Err(start.expected("fd or idx")),
    };
    lexer.signs(&[":"])?;
    let map: i32 = int(lexer)?;
    lexer.signs(&["]"])?;
    if !lexer.sign("[")? {
        return Ok(if by_fd { Imm64::MapFd(map) } else { Imm64::MapIndex(map) });
    }
    let start = *lexer;
    if !matches!(lexer.next()?, Token::Number { value: 0, .. }) {
        return Err(start.expected("0, the first value"));
    }
    lexer.signs(&["]"])?;
    let offset = if lexer.peek()? == Token::Sign("+") { int(lexer)? } else { 0 };
    Ok(if by_fd { Imm64::MapFdValue { fd: map, offset } } else { Imm64::MapIndexValue { index: map, offset } })
}
