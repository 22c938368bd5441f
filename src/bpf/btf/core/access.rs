//! The way to a field: as the object was compiled, and on the platform.

use super::compatible::{self, resolved};
use super::field::Field;
use super::{CoreErrorKind, Result, Work, name};
use crate::bpf::btf::{Btf, BtfError, CoreRelo, Enumerator, Type, TypeId};
use std::fmt::Write as _;

/// Steps that a way may have.
const MAX_STEPS: usize = 64;

/// A step from a type to a part of it.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// To a member; with its type in the object.
    Member { name: &'a str, type_: TypeId },
    /// To an element of an array.
    Element(u32),
}

/// A field as it was accessed by the program that was compiled.
#[derive(Debug)]
pub(super) struct Access<'a> {
    root: TypeId,
    /// Which element, where the pointer to the type is used as an array.
    index: u32,
    steps: Vec<Step<'a>>,
    /// Where it leads in the object's own types.
    pub(super) field: Field,
}

/// Decimal numbers with colons between them.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    text.split(':').map(number).collect::<Option<Vec<u32>>>().filter(|numbers| numbers.len() <= MAX_STEPS)
}

impl<'a> Access<'a> {
    pub(super) fn of(btf: &'a Btf, relo: &CoreRelo, work: &mut Work) -> Result<Self> {
        let text = name::short(btf, relo.access)?;
        let wrong = || CoreErrorKind::Access { access: text.to_owned() };
        let numbers = numbers(text).ok_or_else(wrong)?;
        let (&index, rest) = numbers.split_first().ok_or_else(wrong)?;
        let mut field = Field::root(btf, relo.type_, index)?.ok_or_else(wrong)?;
        let mut steps = Vec::new();
        let mut is_unnamed = false;
        for &number in rest {
            work.spend()?;
            is_unnamed = false;
            let (_, type_) = resolved((btf, field.type_))?;
            match type_ {
                Type::Struct { members, .. } | Type::Union { members, .. } => {
                    let at = number as usize;
                    let member = members.list.get(at).ok_or_else(wrong)?;
                    field = field.member(btf, type_, members, at)?.ok_or_else(wrong)?;
                    match name::short(btf, member.name)? {
                        "" => is_unnamed = true,
                        name => steps.push(Step::Member { name, type_: member.type_ }),
                    }
                }
                Type::Array { .. } => {
                    field = field.at(btf, type_, number)?.ok_or_else(wrong)?;
                    steps.push(Step::Element(number));
                }
                _ => return Err(wrong()),
            }
        }
        // Nothing would say what to look for.
        if is_unnamed {
            return Err(wrong());
        }
        Ok(Self { root: relo.type_, index, steps, field })
    }

    /// The same field in a type of the platform; none if there is no such one.
    pub(super) fn follow(&self, local: &Btf, target: &Btf, root: TypeId, work: &mut Work) -> Result<Option<Field>> {
        if !compatible::fields((local, self.root), (target, root), work)? {
            return Ok(None);
        }
        let Some(mut field) = Field::root(target, root, self.index)? else { return Ok(None) };
        for step in &self.steps {
            work.spend()?;
            let next = match *step {
                Step::Member { name, type_ } => match find(target, field, name, Btf::MAX_DEPTH, work)? {
                    Some(found) if compatible::fields((local, type_), (target, found.type_), work)? => Some(found),
                    _ => None,
                },
                Step::Element(number) => {
                    let (_, type_) = resolved((target, field.type_))?;
                    field.at(target, type_, number)?
                }
            };
            match next {
                Some(next) => field = next,
                None => return Ok(None),
            }
        }
        Ok(Some(field))
    }

    /// As C has it: `files[2].name`.
    pub(super) fn text(&self) -> String {
        let mut text = if self.index == 0 { String::new() } else { format!("[{}]", self.index) };
        for step in &self.steps {
            // A string takes everything.
            let _ = match step {
                Step::Member { name, .. } if text.is_empty() => write!(text, "{name}"),
                Step::Member { name, .. } => write!(text, ".{name}"),
                Step::Element(number) => write!(text, "[{number}]"),
            };
        }
        text
    }
}

/// The member of this name, also in members that have none.
fn find(btf: &Btf, of: Field, name: &str, depth: u32, work: &mut Work) -> Result<Option<Field>> {
    let depth = depth.checked_sub(1).ok_or(CoreErrorKind::Btf(BtfError::Depth { id: of.type_ }))?;
    let (_, type_) = resolved((btf, of.type_))?;
    let (Type::Struct { members, .. } | Type::Union { members, .. }) = type_ else { return Ok(None) };
    for (at, member) in members.list.iter().enumerate() {
        work.spend()?;
        if btf.strings().is(member.name, name) {
            return of.member(btf, type_, members, at);
        }
        if btf.strings().is(member.name, "")
            && let Some(within) = of.member(btf, type_, members, at)?
            && let Some(found) = find(btf, within, name, depth, work)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The enumerator that a relocation names, without its flavour, and its value.
pub(super) fn enumerator<'a>(btf: &'a Btf, relo: &CoreRelo, extends: bool) -> Result<(&'a str, u64)> {
    let text = name::short(btf, relo.access)?;
    let wrong = || CoreErrorKind::Access { access: text.to_owned() };
    let (id, type_) = resolved((btf, relo.type_))?;
    let Type::Enum { values, .. } = type_ else { return Err(wrong()) };
    let [index] = numbers(text).ok_or_else(wrong)?[..] else { return Err(wrong()) };
    let value = values.get(index as usize).ok_or_else(wrong)?;
    let name = name::essential(name::short(btf, value.name)?);
    Ok((name, enumerator_value(btf, id, value, extends)?))
}

/// A value as a register has it. One of 32 bits with the highest bit set, of an enumeration that is not said to be signed, is negative if
/// `extends`: compilers did not always say it.
pub(super) fn enumerator_value(btf: &Btf, id: TypeId, value: &Enumerator, extends: bool) -> Result<u64> {
    let is_told = !matches!(btf.known(id)?, Type::Enum { wide: false, signed: false, .. });
    // Both kinds of values fit: they were read from 64 bits or fewer.
    let number = value.value as u64;
    Ok(if extends && !is_told { number as u32 as i32 as u64 } else { number })
}
