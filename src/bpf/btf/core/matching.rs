//! Whether a type of the platform has all that one of the object has (`BPF_CORE_TYPE_MATCHES`).

use super::compatible::{Of, resolved, same_name};
use super::{CoreErrorKind, Result, Work, name};
use crate::bpf::btf::{Btf, BtfError, Enumerator, Members, Type};

/// Of types that have the same name.
pub(super) fn types(local: Of<'_>, target: Of<'_>, work: &mut Work) -> Result<bool> {
    let ((local_id, _), (target_id, _)) = (resolved(local)?, resolved(target)?);
    let pair = Pair { local: (local.0, local_id), target: (target.0, target_id), behind_pointer: false };
    pair.same_shape(Btf::MAX_DEPTH, work)
}

#[derive(Clone, Copy)]
struct Pair<'a> {
    local: Of<'a>,
    target: Of<'a>,
    /// Members are not compared there.
    behind_pointer: bool,
}

impl Pair<'_> {
    fn with(self, local: crate::bpf::btf::TypeId, target: crate::bpf::btf::TypeId) -> Self {
        Self { local: (self.local.0, local), target: (self.target.0, target), ..self }
    }

    /// Of anything but the types that were looked up by name: structs, unions and enumerations have the same name, too.
    fn same(self, depth: u32, work: &mut Work) -> Result<bool> {
        let ((local, one), (target, _)) = (resolved(self.local)?, resolved(self.target)?);
        let pair = self.with(local, target);
        let named = matches!(one, Type::Struct { .. } | Type::Union { .. } | Type::Fwd { .. } | Type::Enum { .. });
        Ok((!named || same_name(pair.local, pair.target)?) && pair.same_shape(depth, work)?)
    }

    fn same_shape(self, depth: u32, work: &mut Work) -> Result<bool> {
        work.spend()?;
        let depth = depth.checked_sub(1).ok_or(CoreErrorKind::Btf(BtfError::Depth { id: self.target.1 }))?;
        let ((_, one), (_, other)) = (resolved(self.local)?, resolved(self.target)?);
        match (one, other) {
            (Type::Void, Type::Void) => Ok(true),
            (Type::Int { size, signed, .. }, Type::Int { size: other, signed: other_signed, .. }) => {
                Ok((size, signed) == (other, other_signed))
            }
            (Type::Float { size }, Type::Float { size: other }) => Ok(size == other),
            (Type::Ptr { target: one }, Type::Ptr { target: other }) => {
                Self { behind_pointer: true, ..self.with(*one, *other) }.same(depth, work)
            }
            (Type::Array { element: one, len, .. }, Type::Array { element: other, len: other_len, .. }) => {
                Ok(len == other_len && self.with(*one, *other).same(depth, work)?)
            }
            (Type::Struct { members: own, .. }, Type::Struct { members, .. })
            | (Type::Union { members: own, .. }, Type::Union { members, .. }) => {
                Ok(self.behind_pointer || self.same_members(own, members, depth, work)?)
            }
            (Type::Fwd { union_: one }, Type::Fwd { union_: other }) => Ok(one == other),
            (Type::Fwd { union_ }, type_ @ (Type::Struct { .. } | Type::Union { .. }))
            | (type_ @ (Type::Struct { .. } | Type::Union { .. }), Type::Fwd { union_ }) => {
                Ok(self.behind_pointer && *union_ == matches!(type_, Type::Union { .. }))
            }
            (Type::Enum { size, values: own, .. }, Type::Enum { size: other_size, values, .. }) => {
                Ok(size == other_size && self.same_enumerators(own, values, work)?)
            }
            (Type::FuncProto { returns: one, params: own }, Type::FuncProto { returns: other, params }) => {
                if own.len() != params.len() {
                    return Ok(false);
                }
                for (own, other) in own.iter().zip(params) {
                    if !self.with(own.type_, other.type_).same(depth, work)? {
                        return Ok(false);
                    }
                }
                self.with(*one, *other).same(depth, work)
            }
            _ => Ok(false),
        }
    }

    /// Whether the platform's type has each of the object's members: by its name, or, of those that have none, any.
    fn same_members(self, own: &Members, others: &Members, depth: u32, work: &mut Work) -> Result<bool> {
        for member in &own.list {
            let name = name::short(self.local.0, member.name)?;
            let mut found = false;
            for other in &others.list {
                work.spend()?;
                if self.target.0.strings().is(other.name, name)
                    && self.with(member.type_, other.type_).same(depth, work)?
                {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_enumerators(self, own: &[Enumerator], others: &[Enumerator], work: &mut Work) -> Result<bool> {
        for value in own {
            let wanted = name::essential(name::short(self.local.0, value.name)?);
            let mut found = false;
            for other in others {
                work.spend()?;
                if name::short(self.target.0, other.name).is_ok_and(|other| name::essential(other) == wanted) {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
