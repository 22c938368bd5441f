//! Whether a type of the platform may stand for one of the object.

use super::candidate::same_kind;
use super::{CoreErrorKind, Result, Work, name};
use crate::bpf::btf::{Btf, BtfError, Type, TypeId};

/// A type of the object, or of the platform.
pub(super) type Of<'a> = (&'a Btf, TypeId);

/// The same without typedefs and modifiers.
pub(super) fn resolved<'a>((btf, id): Of<'a>) -> Result<(TypeId, &'a Type)> {
    let id = btf.resolve(id)?;
    Ok((id, btf.known(id)?))
}

/// Whether both are called the same, flavours aside; both may have no name.
pub(super) fn same_name(local: Of<'_>, target: Of<'_>) -> Result<bool> {
    // The platform's may be longer than any that is looked for.
    let Ok(other) = name::of_type(target.0, target.1) else { return Ok(false) };
    Ok(name::essential(name::of_type(local.0, local.1)?) == name::essential(other))
}

/// Of fields, and of the types that fields are looked up in.
pub(super) fn fields(local: Of<'_>, target: Of<'_>, work: &mut Work) -> Result<bool> {
    let (mut local, mut target) = (local, target);
    for _ in 0..Btf::MAX_DEPTH {
        work.spend()?;
        let ((local_id, one), (target_id, other)) = (resolved(local)?, resolved(target)?);
        return Ok(match (one, other) {
            (Type::Struct { .. } | Type::Union { .. }, Type::Struct { .. } | Type::Union { .. }) => true,
            (Type::Ptr { .. }, Type::Ptr { .. }) | (Type::Float { .. }, Type::Float { .. }) => true,
            (Type::Int { offset: 0, .. }, Type::Int { offset: 0, .. }) => true,
            (Type::Enum { .. }, Type::Enum { .. }) | (Type::Fwd { .. }, Type::Fwd { .. }) => {
                let (local, target) = ((local.0, local_id), (target.0, target_id));
                let is_unnamed = |(btf, id): Of<'_>| name::of_type(btf, id).is_ok_and(str::is_empty);
                is_unnamed(local) || is_unnamed(target) || same_name(local, target)?
            }
            (Type::Array { element: one, .. }, Type::Array { element: other, .. }) => {
                (local.1, target.1) = (*one, *other);
                continue;
            }
            _ => false,
        });
    }
    Err(CoreErrorKind::Btf(BtfError::Depth { id: target.1 }))
}

/// Of types that are asked for as a whole: the shape, without names, sizes and members.
pub(super) fn types(local: Of<'_>, target: Of<'_>, work: &mut Work) -> Result<bool> {
    types_within(local, target, Btf::MAX_DEPTH, work)
}

fn types_within(local: Of<'_>, target: Of<'_>, depth: u32, work: &mut Work) -> Result<bool> {
    let (mut local, mut target) = (local, target);
    for left in (0..depth).rev() {
        work.spend()?;
        let ((_, one), (_, other)) = (resolved(local)?, resolved(target)?);
        match (one, other) {
            (Type::Ptr { target: one }, Type::Ptr { target: other })
            | (Type::Array { element: one, .. }, Type::Array { element: other, .. }) => {
                (local.1, target.1) = (*one, *other);
            }
            (Type::FuncProto { returns: one, params: own }, Type::FuncProto { returns: other, params: others }) => {
                if own.len() != others.len() {
                    return Ok(false);
                }
                for (own, other) in own.iter().zip(others) {
                    if !types_within((local.0, own.type_), (target.0, other.type_), left, work)? {
                        return Ok(false);
                    }
                }
                (local.1, target.1) = (*one, *other);
            }
            (Type::Int { offset, .. }, Type::Int { offset: other, .. }) => return Ok(*offset == 0 && *other == 0),
            _ => return Ok(same_kind(one.kind(), other.kind())),
        }
    }
    Err(CoreErrorKind::Btf(BtfError::Depth { id: target.1 }))
}
