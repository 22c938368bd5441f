//! The types of a program, its lines and its functions: sections `.BTF` and `.BTF.ext` of an object.
//!
//! The format is that of the uapi header `linux/btf.h` and of the kernel's documentation of BTF. Both byte orders are read.
//! Everything that a table refers to is checked when it is read, so that what can be asked for later is there.
//!
//! What a program asks of the types of the platform that it runs on is answered in [`core`].

pub mod core;
mod error;
mod ext;
mod layout;
mod parse;
mod read;
mod types;
mod value;

use crate::record::ByteOrder;
use std::collections::HashMap;
use std::sync::Arc;

pub use error::BtfError;
pub use ext::{CoreRelo, CoreReloKind, Ext, FuncInfo, LineInfo};
pub use layout::{Field, Layout};
#[cfg(feature = "dtrace")]
pub(crate) use layout::{Place, Step};
pub use types::{Enumerator, Kind, Linkage, Member, Members, Param, SectionVar, Type, TypeId};
#[cfg(feature = "dtrace")]
pub(crate) use value::Escaped;
pub use value::{Elements, Fields, Value};

/// Bytes that the name of a section may have: the kernel's `KSYM_NAME_LEN`.
const MAX_SECTION: usize = 512;

/// Strings, by the offset of their first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strings(Arc<str>);

impl Strings {
    /// Bytes that are not UTF-8 become `?`, so that offsets stay.
    fn new(bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '?'));
        }
        Self(text.into())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// From this offset to all that follows; none outside, and within a character.
    fn get(&self, offset: u32) -> Option<&str> {
        self.0.get(usize::try_from(offset).ok()?..).filter(|rest| !rest.is_empty())
    }

    /// Whether the string at this offset is this one. Looks at no more than that.
    fn is(&self, offset: u32, text: &str) -> bool {
        self.get(offset).and_then(|rest| rest.strip_prefix(text)).is_some_and(|rest| rest.starts_with('\0'))
    }

    /// The string at this offset; none if it has more bytes than `most`.
    fn short(&self, offset: u32, most: usize) -> Option<&str> {
        let rest = self.get(offset)?;
        let end = rest.bytes().take(most.saturating_add(1)).position(|byte| byte == 0)?;
        rest.get(..end)
    }

    /// The string at this offset; empty if there is none.
    pub(crate) fn text(&self, offset: u32) -> &str {
        let rest = self.get(offset).unwrap_or_default();
        rest.split_once('\0').map_or(rest, |(text, _)| text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: u32,
    type_: Type,
}

/// The types of a `.BTF` section.
///
/// Bytes of names and of source lines that are not UTF-8 read as `?`.
///
/// ```
/// use perfring::bpf::btf::{Btf, Type, TypeId};
///
/// let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
/// // Magic and version, the length of the header, then offset and length of types and strings.
/// let mut bytes = words(&[0x0001_eb9f, 24, 0, 28, 28, 7]);
/// // 1: int, 4 bytes, signed, of 32 bits. 2: typedef value of 1.
/// bytes.extend(words(&[0, 1 << 24, 4, 1 << 24 | 32, 1, 8 << 24, 1]));
/// bytes.extend(b"\0value\0");
/// let btf = Btf::parse(&bytes)?;
/// assert_eq!(btf.name(TypeId(2)), "value");
/// assert_eq!(btf.resolve(TypeId(2))?, TypeId(1));
/// assert_eq!(btf.size_of(TypeId(2))?, 4);
/// assert!(matches!(btf.type_(TypeId(1)), Some(Type::Int { signed: true, .. })));
/// # Ok::<(), perfring::bpf::btf::BtfError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Btf {
    order: ByteOrder,
    strings: Strings,
    /// The first is `void`.
    types: Vec<Entry>,
}

impl Btf {
    /// How many steps it may take from a type through typedefs, modifiers and arrays; the kernel's limit.
    pub const MAX_DEPTH: u32 = 32;

    /// Reads a `.BTF` section.
    ///
    /// # Errors
    ///
    /// It is cut off, of another version, has a kind that is not known, or refers to what is not there.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        parse::parse(bytes)
    }

    /// Reads the `.BTF.ext` section that belongs to it.
    ///
    /// # Errors
    ///
    /// It is cut off, or refers to what is not there.
    pub fn parse_ext(&self, bytes: &[u8]) -> Result<Ext, BtfError> {
        ext::parse(self, bytes)
    }

    /// The number of types, with `void`.
    #[allow(clippy::len_without_is_empty, reason = "void is always there")]
    pub fn len(&self) -> usize {
        self.types.len()
    }

    /// A type; none if there is none of this number.
    pub fn type_(&self, id: TypeId) -> Option<&Type> {
        self.entry(id).map(|entry| &entry.type_)
    }

    /// The name of a type; empty if it has none, or is not there.
    pub fn name(&self, id: TypeId) -> &str {
        self.entry(id).map_or("", |entry| self.strings.text(entry.name))
    }

    /// Every type with its number, `void` first.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        (0..).map(TypeId).zip(self.types.iter().map(|entry| &entry.type_))
    }

    /// The first type of this name and kind.
    pub fn find(&self, name: &str, kind: Kind) -> Option<TypeId> {
        let found = self.types.iter().position(|entry| entry.type_.kind() == kind && self.strings.is(entry.name, name));
        // There are fewer than 2^32.
        found.map(|index| TypeId(index as u32))
    }

    /// The type that a type is, without typedefs and modifiers.
    ///
    /// # Errors
    ///
    /// There is no such type, or it is too many steps away.
    pub fn resolve(&self, id: TypeId) -> Result<TypeId, BtfError> {
        let mut at = id;
        for _ in 0..Self::MAX_DEPTH {
            match self.known(at)? {
                Type::Typedef { target }
                | Type::Volatile { target }
                | Type::Const { target }
                | Type::Restrict { target }
                | Type::TypeTag { target } => at = *target,
                _ => return Ok(at),
            }
        }
        Err(BtfError::Depth { id })
    }

    /// The bytes of a value of a type: that of its type for a variable.
    ///
    /// # Errors
    ///
    /// There is no such type, or it has no size: `void`, functions, what is declared elsewhere.
    pub fn size_of(&self, id: TypeId) -> Result<u32, BtfError> {
        let (mut at, mut elements) = (id, 1_u32);
        for _ in 0..Self::MAX_DEPTH {
            at = self.resolve(at)?;
            let size = match self.known(at)? {
                Type::Int { size, .. }
                | Type::Struct { size, .. }
                | Type::Union { size, .. }
                | Type::Enum { size, .. }
                | Type::Float { size }
                | Type::Datasec { size, .. } => *size,
                Type::Ptr { .. } => 8,
                Type::Array { element, len, .. } => {
                    elements = elements.checked_mul(*len).ok_or(BtfError::ArraySize { id })?;
                    at = *element;
                    continue;
                }
                Type::Var { type_, .. } => {
                    at = *type_;
                    continue;
                }
                _ => return Err(BtfError::NoSize { id }),
            };
            return elements.checked_mul(size).ok_or(BtfError::ArraySize { id });
        }
        Err(BtfError::Depth { id })
    }

    /// How a value of a type lies in memory.
    ///
    /// # Errors
    ///
    /// There is no such type, it has no values, it describes more than is worth to be told, or members are where they cannot be.
    pub fn layout(&self, id: TypeId) -> Result<Layout, BtfError> {
        layout::layout(self, id)
    }

    /// The members of a struct or union, also through typedefs and modifiers, in their order.
    ///
    /// # Errors
    ///
    /// There is no such type, or it has no members.
    pub fn members(&self, id: TypeId) -> Result<impl ExactSizeIterator<Item = Member<'_>> + Clone, BtfError> {
        let resolved = self.resolve(id)?;
        let (Type::Struct { members, .. } | Type::Union { members, .. }) = self.known(resolved)? else {
            return Err(BtfError::NoMembers { id });
        };
        Ok(members.list.iter().map(|raw| {
            let (bits, bit_offset) = match members.bit_fields {
                true => ((raw.offset >> 24) as u8, raw.offset & 0x00ff_ffff),
                false => (0, raw.offset),
            };
            let bits = (bits != 0).then_some(bits);
            Member { name: self.strings.text(raw.name), type_: raw.type_, bit_offset, bits }
        }))
    }

    /// The name of an enumerator of one of these types.
    pub fn enumerator_name(&self, of: &Enumerator) -> &str {
        self.strings.text(of.name)
    }

    /// The name of a parameter of one of these types; empty if it has none.
    pub fn param_name(&self, of: &Param) -> &str {
        self.strings.text(of.name)
    }

    /// The types of sections, by their names; of those with the same name the first.
    pub(crate) fn datasecs(&self) -> HashMap<&str, TypeId> {
        let mut found = HashMap::new();
        for (id, entry) in (0..).map(TypeId).zip(&self.types) {
            if entry.type_.kind() == Kind::Datasec
                && let Some(name) = self.strings.short(entry.name, MAX_SECTION)
            {
                found.entry(name).or_insert(id);
            }
        }
        found
    }

    pub(crate) fn strings(&self) -> &Strings {
        &self.strings
    }

    fn entry(&self, id: TypeId) -> Option<&Entry> {
        self.types.get(usize::try_from(id.0).ok()?)
    }

    fn known(&self, id: TypeId) -> Result<&Type, BtfError> {
        self.type_(id).ok_or(BtfError::TypeId { what: "the question for", index: 0, id, count: self.types.len() })
    }
}
