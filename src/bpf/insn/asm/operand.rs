//! Registers, numbers and places in memory, as text.

use super::lex::{Lexer, Token};
use super::{AsmError, AsmErrorKind};
use crate::bpf::insn::{Operand, Reg, Size, Width};

/// A register, if there is one, and whether it is written as a half.
pub(super) fn reg(lexer: &mut Lexer<'_>) -> Result<Option<(Width, Reg)>, AsmError> {
    let Token::Word(word) = lexer.peek()? else { return Ok(None) };
    let (width, number) = match word.split_at_checked(1) {
        Some(("r", number)) => (Width::W64, number),
        Some(("w", number)) => (Width::W32, number),
        _ => return Ok(None),
    };
    if number.len() > 1 && number.starts_with('0') || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let Some(reg) = number.parse().ok().and_then(Reg::new) else { return Ok(None) };
    lexer.next()?;
    Ok(Some((width, reg)))
}

pub(super) fn reg64(lexer: &mut Lexer<'_>) -> Result<Reg, AsmError> {
    let start = *lexer;
    match reg(lexer)? {
        Some((Width::W64, reg)) => Ok(reg),
        _ => Err(start.expected("a register r0 to r10")),
    }
}

/// A register of this width.
pub(super) fn half(lexer: &mut Lexer<'_>, width: Width) -> Result<Reg, AsmError> {
    let start = *lexer;
    match reg(lexer)? {
        Some((found, reg)) if found == width => Ok(reg),
        _ => Err(start.expected(match width {
            Width::W64 => "a register r0 to r10",
            Width::W32 => "a register w0 to w10",
        })),
    }
}

/// This register.
pub(super) fn same(lexer: &mut Lexer<'_>, width: Width, wanted: Reg) -> Result<(), AsmError> {
    let start = *lexer;
    if half(lexer, width)? == wanted { Ok(()) } else { Err(start.expected("the same register")) }
}

/// A number with its sign, if there is one, and whether it is hexadecimal.
pub(super) fn number(lexer: &mut Lexer<'_>) -> Result<Option<(i128, bool)>, AsmError> {
    let mut next = *lexer;
    let minus = next.sign("-")?;
    if !minus {
        next.sign("+")?;
    }
    let Token::Number { value, hex } = next.next()? else { return Ok(None) };
    *lexer = next;
    let value = i128::from(value);
    Ok(Some((if minus { -value } else { value }, hex)))
}

/// A number that a field of this type takes.
pub(super) fn int<T: TryFrom<i128>>(lexer: &mut Lexer<'_>) -> Result<T, AsmError> {
    lexer.skip_space();
    let start = *lexer;
    let Some((value, _)) = number(lexer)? else { return Err(start.expected("a number")) };
    let bits = u32::try_from(size_of::<T>() * 8).unwrap_or(u32::MAX);
    T::try_from(value).map_err(|_| start.error(AsmErrorKind::TooLarge { bits }))
}

/// Which numbers of 32 bits without sign are meant by their bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bits {
    /// None: they would be sign-extended.
    Signed,
    /// Hexadecimal ones.
    Hex,
    /// All.
    Any,
}

pub(super) fn immediate(start: &Lexer<'_>, (value, hex): (i128, bool), bits: Bits) -> Result<i32, AsmError> {
    let too_large = || start.error(AsmErrorKind::TooLarge { bits: 32 });
    match i32::try_from(value) {
        Ok(imm) => Ok(imm),
        Err(_) if bits == Bits::Any || bits == Bits::Hex && hex => {
            u32::try_from(value).map(u32::cast_signed).map_err(|_| too_large())
        }
        Err(_) => Err(too_large()),
    }
}

pub(super) fn operand(lexer: &mut Lexer<'_>, width: Width, bits: Bits) -> Result<Operand, AsmError> {
    lexer.skip_space();
    let start = *lexer;
    if let Some((found, reg)) = reg(lexer)? {
        return if found == width {
            Ok(Operand::Reg(reg))
        } else {
            Err(start.expected("a register of the same width"))
        };
    }
    match number(lexer)? {
        Some(value) => Ok(Operand::Imm(immediate(&start, value, bits)?)),
        None => Err(start.expected(match width {
            Width::W64 => "a register r0 to r10 or a number",
            Width::W32 => "a register w0 to w10 or a number",
        })),
    }
}

/// `name:5`
pub(super) fn named<T: TryFrom<i128>>(lexer: &mut Lexer<'_>, name: &'static str) -> Result<T, AsmError> {
    if !lexer.take(Token::Word(name))? {
        return Err(lexer.expected(name));
    }
    lexer.signs(&[":"])?;
    int(lexer)
}

/// `[name:5`
pub(super) fn field<T: TryFrom<i128>>(lexer: &mut Lexer<'_>, name: &'static str) -> Result<T, AsmError> {
    lexer.signs(&["["])?;
    named(lexer, name)
}

/// `u64 *)`, and whether it is `s64 *)`.
pub(super) fn size(lexer: &mut Lexer<'_>) -> Result<(Size, bool), AsmError> {
    let start = *lexer;
    let size = match lexer.next()? {
        Token::Word("u8") => (Size::B, false),
        Token::Word("u16") => (Size::H, false),
        Token::Word("u32") => (Size::W, false),
        Token::Word("u64") => (Size::DW, false),
        Token::Word("s8") => (Size::B, true),
        Token::Word("s16") => (Size::H, true),
        Token::Word("s32") => (Size::W, true),
        _ => return Err(start.expected("u8, u16, u32, u64, s8, s16 or s32")),
    };
    lexer.signs(&["*", ")"])?;
    Ok(size)
}

pub(super) fn unsigned(lexer: &mut Lexer<'_>) -> Result<Size, AsmError> {
    let start = *lexer;
    match size(lexer)? {
        (size, false) => Ok(size),
        _ => Err(start.expected("u8, u16, u32 or u64")),
    }
}

/// `r1 +8` and what ends it.
pub(super) fn base(lexer: &mut Lexer<'_>, end: &'static str) -> Result<(Reg, i16), AsmError> {
    let base = reg64(lexer)?;
    if lexer.sign(end)? {
        return Ok((base, 0));
    }
    let start = *lexer;
    let Token::Sign("+" | "-") = lexer.peek()? else { return Err(start.expected("a signed number or the end")) };
    let offset = int(lexer)?;
    lexer.signs(&[end])?;
    Ok((base, offset))
}

/// `(u64 *)(r1 +8)`
pub(super) fn place(lexer: &mut Lexer<'_>) -> Result<(Size, Reg, i16), AsmError> {
    lexer.signs(&["("])?;
    let size = unsigned(lexer)?;
    lexer.signs(&["("])?;
    let (base, offset) = base(lexer, ")")?;
    Ok((size, base, offset))
}

/// The register of an atomic operation.
pub(super) fn atomic_operand(lexer: &mut Lexer<'_>, size: Size) -> Result<Reg, AsmError> {
    let start = *lexer;
    match reg(lexer)? {
        Some((Width::W64, reg)) => Ok(reg),
        Some((Width::W32, reg)) if size != Size::DW => Ok(reg),
        _ => Err(start.expected("a register r0 to r10")),
    }
}
