//! Values in instructions.

use super::field::{Class, Part};
use super::{CoreErrorKind, Result, Value};
use crate::bpf::insn::Insn;

/// The opcode of a 64-bit immediate.
const LDDW: u8 = 0x18;
/// Operations of arithmetic that have no number of the program's own as an immediate.
const NEG: u8 = 0x80;
const END: u8 = 0xd0;
/// Classes.
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
/// Modes of loads and stores.
const MEM: u8 = 0x60;
const MEMSX: u8 = 0x80;
const ATOMIC: u8 = 0xc0;

/// Where a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The immediate of an operation with 64 bits, which extends its sign.
    Immediate64,
    /// The immediate of one with 32.
    Immediate32,
    /// A 64-bit immediate.
    Wide,
    /// The offset of a load or a store.
    Access,
}

impl Place {
    /// The one that the instruction at `at` has.
    pub(super) fn of(insns: &[Insn], at: usize) -> Result<Self> {
        let insn = insns.get(at).ok_or(CoreErrorKind::NoInsn)?;
        let has_immediate = insn.opcode & 8 == 0 && !matches!(insn.opcode & 0xf0, NEG | END);
        match (insn.opcode & 7, insn.opcode & 0xe0) {
            (7, _) if has_immediate => Ok(Self::Immediate64),
            (4, _) if has_immediate => Ok(Self::Immediate32),
            (LDX, MEM | MEMSX) | (ST, MEM) | (STX, MEM | ATOMIC) => Ok(Self::Access),
            // Another source says that it is a map or a function.
            _ if insn.opcode == LDDW && insn.src == 0 && at + 1 < insns.len() => Ok(Self::Wide),
            _ => Err(CoreErrorKind::Insn { opcode: insn.opcode }),
        }
    }
}

/// What an instruction holds there.
pub(super) fn current(insns: &[Insn], at: usize, place: Place) -> i64 {
    let Some(insn) = insns.get(at) else { return 0 };
    match place {
        Place::Immediate64 | Place::Immediate32 => insn.imm.into(),
        Place::Wide => {
            let high = insns.get(at + 1).map_or(0, |second| second.imm);
            i64::from(high) << 32 | i64::from(insn.imm as u32)
        }
        // Compilers cut off what is more than 16 bits.
        Place::Access => (insn.offset as u16).into(),
    }
}

pub(super) struct Patch {
    pub(super) place: Place,
    /// What was so when the program was compiled.
    pub(super) local: Value,
    /// Whether the instruction has to say so.
    pub(super) is_certain: bool,
    /// Whether a load may be one of a word, of several loads with a size each, of which one is done.
    pub(super) is_shifted: bool,
    /// What is so on the platform.
    pub(super) target: Value,
}

impl Patch {
    /// Changes the instruction, or leaves it as it is.
    pub(super) fn put(&self, insns: &mut [Insn], at: usize) -> Result<()> {
        let found = current(insns, at, self.place);
        let wanted = match self.place {
            Place::Immediate64 | Place::Wide => self.local.number as i64,
            Place::Immediate32 => self.local.number as i32 as i64,
            Place::Access => (self.local.number as u16).into(),
        };
        if self.is_certain && found != wanted {
            return Err(CoreErrorKind::Value { found, wanted });
        }
        let too_large = CoreErrorKind::TooLarge { value: self.target.number };
        let number = self.target.number;
        let Some(insn) = insns.get_mut(at) else { return Err(CoreErrorKind::NoInsn) };
        match self.place {
            Place::Immediate64 => insn.imm = i32::try_from(number as i64).map_err(|_| too_large)?,
            Place::Immediate32 => {
                let fits = i32::try_from(number as i64).is_ok() || u32::try_from(number).is_ok();
                insn.imm = if fits { number as i32 } else { return Err(too_large) };
            }
            Place::Wide => {
                insn.imm = number as i32;
                if let Some(second) = insns.get_mut(at + 1) {
                    second.imm = (number >> 32) as i32;
                }
            }
            Place::Access => {
                let (Some(local), Some(target)) = (self.local.part, self.target.part) else {
                    return Err(CoreErrorKind::Insn { opcode: insn.opcode });
                };
                let offset = match (local.bits, target.bits) {
                    _ if self.is_shifted => i64::try_from(number).ok(),
                    (None, None) => i64::try_from(number).ok(),
                    (Some(from), Some(to)) => moved(insn, from, to)?,
                    _ => return Err(CoreErrorKind::BitFieldAccess),
                };
                let offset = offset.and_then(|offset| i16::try_from(offset).ok()).ok_or(too_large)?;
                let is_whole = local.bits.is_none() && target.bits.is_none();
                if is_whole && !(self.is_shifted && bytes(insn.opcode) != local.size) {
                    insn.opcode = resized(insn, local, target)?;
                }
                insn.offset = offset;
            }
        }
        Ok(())
    }
}

/// Bytes of an access.
fn bytes(opcode: u8) -> u32 {
    match opcode & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

/// Where the word lies that the program takes a bit field out of by itself; none if that is too far to be said.
fn moved(insn: &Insn, (from, bits): (u64, u8), (to, target_bits): (u64, u8)) -> Result<Option<i64>> {
    let start = i64::from(insn.offset as u16);
    let word = start.unsigned_abs() * 8;
    let is_within = from >= word && from.saturating_add(bits.into()) <= word + u64::from(bytes(insn.opcode)) * 8;
    if !is_within {
        return Err(CoreErrorKind::BitFieldWord { offset: insn.offset });
    }
    if bits != target_bits || from % 8 != to % 8 {
        return Err(CoreErrorKind::BitFieldAccess);
    }
    let distance = |from: u64, to: u64| i64::try_from((to - from) / 8).ok();
    let moved = if to >= from { distance(from, to) } else { distance(to, from).map(|back| -back) };
    // Before the type there is nothing of it.
    Ok(moved.and_then(|moved| start.checked_add(moved)).filter(|offset| *offset >= 0))
}

/// The opcode for a field of another size, if the access can be one of it.
fn resized(insn: &Insn, local: Part, target: Part) -> Result<u8> {
    if local.size == target.size {
        return Ok(insn.opcode);
    }
    let refused = Err(CoreErrorKind::Resized { local: local.size, target: target.size });
    let size = match target.size {
        1 => 0x10,
        2 => 0x08,
        4 => 0x00,
        8 => 0x18,
        _ => return refused,
    };
    let is_number = matches!(local.class, Class::Unsigned | Class::Signed);
    if !is_number || local.class != target.class || bytes(insn.opcode) != local.size {
        return refused;
    }
    let (class, mode) = (insn.opcode & 7, insn.opcode & 0xe0);
    let narrower = target.size < local.size;
    let mode = match (class, mode, local.class) {
        (LDX, MEM, Class::Unsigned) => MEM,
        // All of a register, or extended to it.
        (LDX, MEM, _) if local.size == 8 => MEMSX,
        (LDX, MEMSX, Class::Signed) if target.size == 8 => MEM,
        (LDX, MEMSX, Class::Signed) => MEMSX,
        (STX, MEM, _) if narrower => MEM,
        (ST, MEM, _) if narrower || (insn.imm >= 0 && u64::from(insn.imm as u32) >> (local.size * 8 - 1) == 0) => MEM,
        _ => return refused,
    };
    Ok(class | mode | size)
}
