//! Values by their types: what bytes that a program stored say.

use super::value::{Bits, Elements, Fields, Value};
use super::{Btf, BtfError, Type, TypeId};
use crate::record::ByteOrder;
use std::collections::HashMap;
use std::sync::Arc;

/// What a layout may cost: a part of it counts as 64, and each byte of a name as one. Types refer to each other as often as they
/// like, so a small table can describe what has no end.
const BUDGET: usize = 4 << 20;
/// Structs and arrays within each other.
const MAX_NESTING: u32 = 32;

/// How a value of a type lies in memory.
///
/// ```no_run
/// use perfring::bpf::btf::{Kind, Value};
/// use perfring::bpf::elf::Object;
///
/// let object = Object::parse(&std::fs::read("tracer.bpf.o")?)?;
/// let btf = object.btf.as_ref().ok_or("compiled without -g")?;
/// let event = btf.layout(btf.find("event", Kind::Struct).ok_or("no struct event")?)?;
/// let bytes = vec![0; event.size()];
/// if let Some(Value::Struct(fields)) = event.value(&bytes) {
///     for (name, value) in fields {
///         println!("{name}: {value}");
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(super) name: String,
    pub(super) size: usize,
    pub(super) order: ByteOrder,
    pub(super) shape: Shape,
}

/// The names of an enumeration's values.
pub(super) type Names = Arc<Vec<(i128, String)>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Int {
        signed: bool,
    },
    Bool,
    Float,
    Pointer,
    Enum {
        signed: bool,
        names: Names,
    },
    /// Characters up to the first 0.
    Text,
    Array {
        element: Box<Layout>,
        len: usize,
    },
    Struct(Vec<Field>),
}

/// A field of a struct or union; those of one without a name are among those of the struct that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub(super) name: String,
    pub(super) bit_offset: usize,
    /// Of a bit field.
    pub(super) bits: Option<u8>,
    pub(super) layout: Layout,
}

impl Field {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its value lies in memory.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bits from the start of the struct.
    pub fn bit_offset(&self) -> usize {
        self.bit_offset
    }

    /// The bits of a bit field; none for what is none.
    pub fn bits(&self) -> Option<u8> {
        self.bits
    }
}

impl Layout {
    /// The name of the type without typedefs and modifiers: of a struct its tag. Empty if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The fields of a struct or union, in their order; of other types there are none.
    pub fn fields(&self) -> &[Field] {
        match &self.shape {
            Shape::Struct(fields) => fields,
            _ => &[],
        }
    }

    /// The elements of an array, which is not one of characters: of what, and how many.
    pub fn elements(&self) -> Option<(&Layout, usize)> {
        match &self.shape {
            Shape::Array { element, len } => Some((element, *len)),
            _ => None,
        }
    }

    /// Whether it is an integer, which is neither a truth value nor of an enumeration.
    pub fn is_integer(&self) -> bool {
        matches!(self.shape, Shape::Int { .. })
    }

    /// The value that starts with these bytes; none where there are fewer than it has.
    pub fn value<'a>(&'a self, bytes: &'a [u8]) -> Option<Value<'a>> {
        let bytes = bytes.get(..self.size)?;
        Some(match &self.shape {
            Shape::Array { element, len } => Value::Array(Elements::new(element, bytes, *len)),
            Shape::Struct(fields) => Value::Struct(Fields::new(fields, bytes)),
            Shape::Text => Value::Text(bytes.split(|byte| *byte == 0).next().unwrap_or_default()),
            _ => self.scalar(Bits::of(bytes, 0, bytes.len() * 8, self.order)),
        })
    }

    /// The part that a path leads to: names of fields, and numbers of elements.
    #[cfg_attr(not(feature = "dtrace"), allow(dead_code))]
    pub(crate) fn place<'a>(&'a self, path: impl IntoIterator<Item = Step<'a>>) -> Option<Place<'a>> {
        let mut place = Place { bit_offset: 0, bits: None, layout: self };
        for step in path {
            match (step, &place.layout.shape) {
                (Step::Field(name), Shape::Struct(fields)) => {
                    let field = fields.iter().find(|field| field.name == name)?;
                    let bit_offset = place.bit_offset + field.bit_offset;
                    place = Place { bit_offset, bits: field.bits, layout: &field.layout };
                }
                (Step::Index(index), Shape::Array { element, len }) if index < *len => {
                    let bit_offset = place.bit_offset + index * element.size * 8;
                    place = Place { bit_offset, bits: None, layout: element };
                }
                _ => return None,
            }
        }
        Some(place)
    }

    /// What these bits say of a type that has no parts.
    pub(super) fn scalar(&self, bits: Bits) -> Value<'_> {
        match &self.shape {
            Shape::Int { signed: true } => Value::Signed(bits.signed()),
            Shape::Bool => Value::Bool(bits.unsigned() != 0),
            Shape::Float if self.size == 4 => Value::Float(f32::from_bits(bits.unsigned() as u32).into()),
            Shape::Float => Value::Float(f64::from_bits(bits.unsigned() as u64)),
            Shape::Pointer => Value::Pointer(bits.unsigned() as u64),
            Shape::Enum { signed, names } => {
                // An unsigned one has no more than 64 bits.
                let number = if *signed { bits.signed() } else { bits.unsigned() as i128 };
                let name = names.iter().find(|(value, _)| *value == number).map(|(_, name)| name.as_str());
                Value::Enum { number, name }
            }
            _ => Value::Unsigned(bits.unsigned()),
        }
    }
}

/// A step from what has parts to one of them.
#[cfg_attr(not(feature = "dtrace"), allow(dead_code))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

/// A part of a value.
#[cfg_attr(not(feature = "dtrace"), allow(dead_code))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) bit_offset: usize,
    /// Of a bit field.
    pub(crate) bits: Option<u8>,
    pub(crate) layout: &'a Layout,
}

#[cfg_attr(not(feature = "dtrace"), allow(dead_code))]
impl<'a> Place<'a> {
    /// What it is in these bytes of the whole value; none where there are too few.
    pub(crate) fn value(&self, bytes: &'a [u8]) -> Option<Value<'a>> {
        match self.bits {
            Some(bits) => {
                bytes.get((self.bit_offset + usize::from(bits)).div_ceil(8).checked_sub(1)?)?;
                Some(self.layout.scalar(Bits::of(bytes, self.bit_offset, bits.into(), self.layout.order)))
            }
            None => self.layout.value(bytes.get(self.bit_offset / 8..)?),
        }
    }

    /// Bits that it has.
    pub(crate) fn width(&self) -> usize {
        self.bits.map_or(self.layout.size * 8, usize::from)
    }
}

/// Makes layouts of the types of one table.
struct Builder<'a> {
    btf: &'a Btf,
    budget: usize,
    names: HashMap<TypeId, Names>,
}

pub(super) fn layout(btf: &Btf, id: TypeId) -> Result<Layout, BtfError> {
    Builder { btf, budget: BUDGET, names: HashMap::new() }.layout(id, id, MAX_NESTING)
}

impl Builder<'_> {
    fn pay(&mut self, whole: TypeId, name: &str) -> Result<(), BtfError> {
        let left = self.budget.checked_sub(64 + name.len());
        self.budget = left.ok_or(BtfError::TooLarge { id: whole })?;
        Ok(())
    }

    fn layout(&mut self, whole: TypeId, id: TypeId, nesting: u32) -> Result<Layout, BtfError> {
        let (btf, order) = (self.btf, self.btf.order);
        let nesting = nesting.checked_sub(1).ok_or(BtfError::TooLarge { id: whole })?;
        let id = btf.resolve(id)?;
        let name = btf.name(id);
        self.pay(whole, name)?;
        let size = btf.size_of(id)? as usize;
        let shape = match btf.known(id)? {
            Type::Int { bool_: true, .. } if size <= 16 => Shape::Bool,
            Type::Int { signed, .. } if size <= 16 => Shape::Int { signed: *signed },
            Type::Float { .. } if size == 4 || size == 8 => Shape::Float,
            Type::Ptr { .. } => Shape::Pointer,
            Type::Enum { signed, .. } if size <= 8 => Shape::Enum { signed: *signed, names: self.names(whole, id)? },
            Type::Array { element, len, .. } => {
                let element = self.layout(whole, *element, nesting)?;
                match element.size {
                    1 if element.name == "char" => Shape::Text,
                    // Elements without bytes are none.
                    0 => Shape::Array { element: Box::new(element), len: 0 },
                    _ => Shape::Array { element: Box::new(element), len: *len as usize },
                }
            }
            Type::Struct { .. } | Type::Union { .. } => {
                let mut fields = Vec::new();
                self.fields(&mut fields, whole, id, (0, size), nesting)?;
                Shape::Struct(fields)
            }
            _ => return Err(BtfError::NoValue { id }),
        };
        Ok(Layout { name: name.to_owned(), size, order, shape })
    }

    /// Adds the fields of a struct that starts `from` bits behind the start of one of `size` bytes.
    fn fields(
        &mut self,
        fields: &mut Vec<Field>,
        whole: TypeId,
        id: TypeId,
        (from, size): (usize, usize),
        nesting: u32,
    ) -> Result<(), BtfError> {
        let btf = self.btf;
        for member in btf.members(id)? {
            let bit_offset = from + member.bit_offset as usize;
            let resolved = btf.resolve(member.type_)?;
            let has_members = matches!(btf.known(resolved)?, Type::Struct { .. } | Type::Union { .. });
            if member.name.is_empty() {
                self.pay(whole, "")?;
                if has_members {
                    let nesting = nesting.checked_sub(1).ok_or(BtfError::TooLarge { id: whole })?;
                    self.fields(fields, whole, resolved, (bit_offset, size), nesting)?;
                }
                // Bits without a name are there to fill up.
                continue;
            }
            self.pay(whole, member.name)?;
            let mut layout = self.layout(whole, member.type_, nesting)?;
            let (mut bit_offset, mut bits) = (bit_offset, member.bits);
            if let Type::Int { bits: width, offset, .. } = btf.known(resolved)?
                && bits.is_none()
                && usize::from(*width) < layout.size * 8
            {
                // As tables say it that have no widths in members.
                (bit_offset, bits) = (bit_offset + usize::from(*offset), Some(*width));
            }
            let width = bits.map_or(layout.size * 8, usize::from);
            let outside = bit_offset + width > size * 8;
            let crooked = bits.is_none() && bit_offset % 8 != 0;
            let no_bits = bits.is_some_and(|bits| usize::from(bits) > layout.size * 8)
                || bits.is_some() && !matches!(layout.shape, Shape::Int { .. } | Shape::Bool | Shape::Enum { .. });
            if outside || crooked || no_bits {
                return Err(BtfError::Member { id, name: member.name.chars().take(64).collect() });
            }
            if matches!(&layout.shape, Shape::Array { .. }) && layout.size == 0 {
                // What lies behind the struct has no known length.
                layout.name.clear();
            }
            fields.push(Field { name: member.name.to_owned(), bit_offset, bits, layout });
        }
        Ok(())
    }

    fn names(&mut self, whole: TypeId, id: TypeId) -> Result<Names, BtfError> {
        if let Some(names) = self.names.get(&id) {
            return Ok(names.clone());
        }
        let mut names = Vec::new();
        if let Type::Enum { values, .. } = self.btf.known(id)? {
            for value in values {
                let name = self.btf.enumerator_name(value);
                self.pay(whole, name)?;
                names.push((value.value, name.to_owned()));
            }
        }
        let names = Arc::new(names);
        self.names.insert(id, names.clone());
        Ok(names)
    }
}
