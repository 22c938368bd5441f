//! Fields: where they are, and what there is to say of them.

use super::compatible::resolved;
use super::{CoreErrorKind, Result, Value};
use crate::bpf::btf::{Btf, BtfError, CoreReloKind, Kind, Members, Type, TypeId};
use crate::record::ByteOrder;

/// A part of a type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) type_: TypeId,
    /// From the start of the type.
    bit_offset: u64,
    /// The bits of a bit field; none for what is none.
    pub(super) bits: Option<u8>,
    /// Whether it is the last member of a struct: an array without a length may have any element there.
    is_last: bool,
}

/// What a load or store accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) class: Class,
    /// Bytes of its type; of an array those of an element.
    pub(super) size: u32,
    /// Of a bit field: where it starts, and its bits.
    pub(super) bits: Option<(u64, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Pointer,
    Unsigned,
    Signed,
    Other,
}

/// The word that a field is loaded with.
struct Word {
    offset: u64,
    size: u32,
}

impl Field {
    /// Element `index` of an array of this type; none if it is too far.
    pub(super) fn root(btf: &Btf, type_: TypeId, index: u32) -> Result<Option<Self>> {
        let start = Self { type_, bit_offset: 0, bits: None, is_last: false };
        if index == 0 { Ok(Some(start)) } else { start.moved(btf, type_, index) }
    }

    fn moved(self, btf: &Btf, type_: TypeId, elements: u32) -> Result<Option<Self>> {
        // 2^32 times 2^32 times 8 would be too much.
        let bits = u64::from(btf.size_of(type_)?).checked_mul(elements.into()).and_then(|bytes| bytes.checked_mul(8));
        let bit_offset = bits.and_then(|bits| bits.checked_add(self.bit_offset));
        Ok(bit_offset.map(|bit_offset| Self { type_, bit_offset, bits: None, is_last: false }))
    }

    /// A member of `of`, which is this field's type without typedefs.
    pub(super) fn member(self, btf: &Btf, of: &Type, members: &Members, at: usize) -> Result<Option<Self>> {
        let Some(member) = members.list.get(at) else { return Ok(None) };
        let (mut bits, mut offset) = (None, member.offset);
        if members.bit_fields {
            (bits, offset) = (Some((offset >> 24) as u8).filter(|bits| *bits != 0), offset & 0x00ff_ffff);
        } else if let (_, Type::Int { size, bits: of_int, .. }) = resolved((btf, member.type_))?
            && u32::from(*of_int) != size.saturating_mul(8)
        {
            // As it was said before structs said it.
            bits = Some(*of_int);
        }
        let bit_offset = self.bit_offset.checked_add(offset.into());
        let is_last = matches!(of, Type::Struct { .. }) && at + 1 == members.list.len();
        Ok(bit_offset.map(|bit_offset| Self { type_: member.type_, bit_offset, bits, is_last }))
    }

    /// An element of `of`, which is this field's type without typedefs; none if that is no array, or too short.
    pub(super) fn at(self, btf: &Btf, of: &Type, index: u32) -> Result<Option<Self>> {
        let Type::Array { element, len, .. } = of else { return Ok(None) };
        if index >= *len && !(*len == 0 && self.is_last) {
            return Ok(None);
        }
        self.moved(btf, *element, index)
    }

    /// Its type, or that of the elements of the innermost array.
    pub(super) fn element(&self, btf: &Btf) -> Result<TypeId> {
        let mut id = self.type_;
        for _ in 0..Btf::MAX_DEPTH {
            match resolved((btf, id))? {
                (_, Type::Array { element, .. }) => id = *element,
                (resolved, _) => return Ok(resolved),
            }
        }
        Err(CoreErrorKind::Btf(BtfError::Depth { id: self.type_ }))
    }

    /// What is asked for.
    pub(super) fn value(&self, kind: CoreReloKind, btf: &Btf) -> Result<Value> {
        let number = match kind {
            CoreReloKind::FieldExists => 1,
            CoreReloKind::FieldSigned => u64::from(self.class(btf)? == Class::Signed),
            CoreReloKind::FieldByteSize => self.word(btf)?.size.into(),
            CoreReloKind::FieldByteOffset => {
                return Ok(Value { number: self.word(btf)?.offset, part: Some(self.part(btf)?) });
            }
            _ => self.shift(kind, btf)?,
        };
        Ok(Value { number, part: None })
    }

    fn class(&self, btf: &Btf) -> Result<Class> {
        Ok(match btf.known(self.element(btf)?)? {
            Type::Ptr { .. } => Class::Pointer,
            Type::Int { signed: true, .. } | Type::Enum { signed: true, .. } => Class::Signed,
            Type::Int { .. } => Class::Unsigned,
            _ => Class::Other,
        })
    }

    fn part(&self, btf: &Btf) -> Result<Part> {
        let id = self.element(btf)?;
        // A load of an enumeration stays one of its size.
        let class =
            if matches!(btf.known(id)?.kind(), Kind::Enum | Kind::Enum64) { Class::Other } else { self.class(btf)? };
        Ok(Part { class, size: btf.size_of(id)?, bits: self.bits.map(|bits| (self.bit_offset, bits)) })
    }

    /// Of a bit field the least word of its type's size, or more, that has all of it.
    fn word(&self, btf: &Btf) -> Result<Word> {
        let mut size = btf.size_of(self.type_)?;
        let Some(bits) = self.bits else {
            if !self.bit_offset.is_multiple_of(8) {
                return Err(CoreErrorKind::Unaligned { bit: self.bit_offset });
            }
            return Ok(Word { offset: self.bit_offset / 8, size });
        };
        let (first, end) = (self.bit_offset, self.bit_offset.saturating_add(bits.into()));
        while matches!(size, 1 | 2 | 4 | 8) {
            let word = u64::from(size) * 8;
            let start = first / word * word;
            if end - start <= word {
                return Ok(Word { offset: start / 8, size });
            }
            size *= 2;
        }
        Err(CoreErrorKind::BitField { bits, size: btf.size_of(self.type_)? })
    }

    /// By how much the word, in a register of 64 bits, is shifted to the left, and then to the right.
    fn shift(&self, kind: CoreReloKind, btf: &Btf) -> Result<u64> {
        let word = self.word(btf)?;
        let size = u64::from(word.size);
        if size > 8 {
            return Err(CoreErrorKind::Shift { size: word.size });
        }
        let bits = self.bits.map_or(size * 8, u64::from);
        let right = 64_u64.checked_sub(bits).ok_or(CoreErrorKind::Shift { size: word.size })?;
        if kind == CoreReloKind::FieldRshiftU64 {
            return Ok(right);
        }
        // The field is in the word: its offset there is below 64, and with its bits at most that.
        let within = self.bit_offset - word.offset * 8;
        Ok(match btf.byte_order() {
            ByteOrder::Little => right.saturating_sub(within),
            ByteOrder::Big => (8 - size) * 8 + within,
        })
    }
}
