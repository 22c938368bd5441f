//! From the bytes of `.BTF` to types.

use super::read::{Reader, header};
use super::types::{Enumerator, Members, Param, RawMember, SectionVar};
use super::{Btf, BtfError, Entry, Strings, Type, TypeId};
use crate::record::ByteOrder;

/// Bytes of the first header that there was.
const HEADER: u32 = 24;

pub(super) fn parse(bytes: &[u8]) -> Result<Btf, BtfError> {
    let (order, mut fields, rest) = header(bytes, HEADER)?;
    let [type_off, type_len, str_off, str_len] =
        [fields.u32("header")?, fields.u32("header")?, fields.u32("header")?, fields.u32("header")?];
    let strings = rest.part("strings", str_off, str_len)?.bytes();
    if strings.first() != Some(&0) || strings.last() != Some(&0) {
        return Err(BtfError::Strings);
    }
    let mut reader = rest.part("types", type_off, type_len)?;
    let mut types = vec![Entry { name: 0, type_: Type::Void }];
    while !reader.is_empty() {
        // Each takes 12 bytes of less than 2^32.
        let id = TypeId(types.len() as u32);
        types.push(entry(&mut reader, id)?);
    }
    let btf = Btf { order, strings: Strings::new(strings), types };
    check(&btf)?;
    Ok(btf)
}

fn entry(reader: &mut Reader<'_>, id: TypeId) -> Result<Entry, BtfError> {
    let at = reader.at();
    let (name, info, word) = (reader.u32("type")?, reader.u32("type")?, reader.u32("type")?);
    let (count, kind, flag) = (u64::from(info & 0xffff), (info >> 24 & 0x1f) as u8, info >> 31 == 1);
    let (size, target) = (word, TypeId(word));
    let type_ = match kind {
        1 => {
            let data = reader.u32("integer")?;
            let encoding = data >> 24;
            Type::Int {
                size,
                bits: data as u8,
                offset: (data >> 16) as u8,
                signed: encoding & 1 != 0,
                char_: encoding & 2 != 0,
                bool_: encoding & 4 != 0,
            }
        }
        2 => Type::Ptr { target },
        3 => Type::Array {
            element: TypeId(reader.u32("array")?),
            index: TypeId(reader.u32("array")?),
            len: reader.u32("array")?,
        },
        4 | 5 => {
            let members = Members {
                list: list(reader.take("members", count * 12)?, |reader| {
                    Ok(RawMember {
                        name: reader.u32("member")?,
                        type_: TypeId(reader.u32("member")?),
                        offset: reader.u32("member")?,
                    })
                })?,
                bit_fields: flag,
            };
            if kind == 4 { Type::Struct { size, members } } else { Type::Union { size, members } }
        }
        6 => Type::Enum {
            size,
            signed: flag,
            wide: false,
            values: list(reader.take("enumerators", count * 8)?, |reader| {
                let (name, value) = (reader.u32("enumerator")?, reader.u32("enumerator")?);
                Ok(Enumerator { name, value: if flag { (value as i32).into() } else { value.into() } })
            })?,
        },
        7 => Type::Fwd { union_: flag },
        8 => Type::Typedef { target },
        9 => Type::Volatile { target },
        10 => Type::Const { target },
        11 => Type::Restrict { target },
        // The field of the count says the linkage.
        12 => Type::Func { proto: target, linkage: (info & 0xffff).into() },
        13 => Type::FuncProto {
            returns: target,
            params: list(reader.take("parameters", count * 8)?, |reader| {
                Ok(Param { name: reader.u32("parameter")?, type_: TypeId(reader.u32("parameter")?) })
            })?,
        },
        14 => Type::Var { type_: target, linkage: reader.u32("variable")?.into() },
        15 => Type::Datasec {
            size,
            vars: list(reader.take("variables", count * 12)?, |reader| {
                Ok(SectionVar {
                    var: TypeId(reader.u32("variable")?),
                    offset: reader.u32("variable")?,
                    size: reader.u32("variable")?,
                })
            })?,
        },
        16 => Type::Float { size },
        17 => {
            let component = reader.u32("attribute")?;
            Type::DeclTag { target, component: (component != u32::MAX).then_some(component) }
        }
        18 => Type::TypeTag { target },
        19 => Type::Enum {
            size,
            signed: flag,
            wide: true,
            values: list(reader.take("enumerators", count * 12)?, |reader| {
                let name = reader.u32("enumerator")?;
                let (low, high) = (reader.u32("enumerator")?, reader.u32("enumerator")?);
                let value = u64::from(high) << 32 | u64::from(low);
                Ok(Enumerator { name, value: if flag { (value as i64).into() } else { value.into() } })
            })?,
        },
        kind => return Err(BtfError::Kind { id, at, kind }),
    };
    Ok(Entry { name, type_ })
}

fn list<T>(
    mut reader: Reader<'_>,
    mut next: impl FnMut(&mut Reader<'_>) -> Result<T, BtfError>,
) -> Result<Vec<T>, BtfError> {
    let mut items = Vec::new();
    while !reader.is_empty() {
        items.push(next(&mut reader)?);
    }
    Ok(items)
}

/// Every name is a string, and every type that is referred to is there.
fn check(btf: &Btf) -> Result<(), BtfError> {
    for (index, entry) in btf.types.iter().enumerate() {
        let name = |offset| btf.check_string("type", index, offset);
        let type_ = |id| btf.check_type("type", index, id);
        name(entry.name)?;
        match &entry.type_ {
            Type::Void | Type::Int { .. } | Type::Fwd { .. } | Type::Float { .. } => {}
            Type::Ptr { target }
            | Type::Typedef { target }
            | Type::Volatile { target }
            | Type::Const { target }
            | Type::Restrict { target }
            | Type::DeclTag { target, .. }
            | Type::TypeTag { target } => type_(*target)?,
            Type::Func { proto, .. } => type_(*proto)?,
            Type::Var { type_: of, .. } => type_(*of)?,
            Type::Array { element, index, .. } => {
                type_(*element)?;
                type_(*index)?;
            }
            Type::Struct { members, .. } | Type::Union { members, .. } => {
                for member in &members.list {
                    name(member.name)?;
                    type_(member.type_)?;
                }
            }
            Type::Enum { values, .. } => values.iter().try_for_each(|value| name(value.name))?,
            Type::FuncProto { returns, params } => {
                type_(*returns)?;
                for param in params {
                    name(param.name)?;
                    type_(param.type_)?;
                }
            }
            Type::Datasec { vars, .. } => vars.iter().try_for_each(|var| type_(var.var))?,
        }
    }
    Ok(())
}

impl Btf {
    /// In which byte order it was written.
    pub const fn byte_order(&self) -> ByteOrder {
        self.order
    }

    pub(super) fn check_string(&self, what: &'static str, index: usize, offset: u32) -> Result<(), BtfError> {
        match self.strings.get(offset) {
            Some(_) => Ok(()),
            None => Err(BtfError::StringOffset { what, index, offset, len: self.strings.len() }),
        }
    }

    pub(super) fn check_type(&self, what: &'static str, index: usize, id: TypeId) -> Result<(), BtfError> {
        if self.type_(id).is_some() || cfg!(perfring_planted_bug) {
            return Ok(());
        }
        Err(BtfError::TypeId { what, index, id, count: self.types.len() })
    }
}
