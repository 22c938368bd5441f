//! What the bytes of a value say.

use super::layout::{Field, Layout};
use crate::record::ByteOrder;
use std::fmt::{self, Write as _};

/// A value of a type: a number, a text, or what has parts.
///
/// It is printed as `7`, `-7`, `true`, `1.5`, `0xffff800000000000`, `NAME` (a number where the enumeration has no name for it),
/// `"text"`, `[1, 2]` and `{pid=1 comm="cat"}`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Value<'a> {
    /// An integer.
    Unsigned(u128),
    /// A signed one.
    Signed(i128),
    /// A truth value.
    Bool(bool),
    /// A number with a floating point.
    Float(f64),
    /// An address.
    Pointer(u64),
    /// Of an enumeration.
    Enum {
        /// The number.
        number: i128,
        /// Its first name; none if it has none.
        name: Option<&'a str>,
    },
    /// The bytes of an array of `char` up to the first 0.
    Text(&'a [u8]),
    /// Elements.
    Array(Elements<'a>),
    /// Fields, also those of a union.
    Struct(Fields<'a>),
}

impl Value<'_> {
    /// An integer, truth value, address or number of an enumeration; none of others, and of what an `i128` cannot say.
    pub fn integer(&self) -> Option<i128> {
        match *self {
            Self::Unsigned(number) => i128::try_from(number).ok(),
            Self::Signed(number) | Self::Enum { number, .. } => Some(number),
            Self::Bool(truth) => Some(truth.into()),
            Self::Pointer(address) => Some(address.into()),
            _ => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(number) => write!(f, "{number}"),
            Self::Signed(number) | Self::Enum { number, name: None } => write!(f, "{number}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Pointer(address) => write!(f, "{address:#x}"),
            Self::Enum { name: Some(name), .. } => f.write_str(name),
            Self::Text(bytes) => write!(f, "\"{}\"", Escaped { bytes, quotes: true }),
            Self::Array(elements) => {
                f.write_char('[')?;
                for (index, element) in elements.clone().enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    element.fmt(f)?;
                }
                f.write_char(']')
            }
            Self::Struct(fields) => write!(f, "{{{fields}}}"),
        }
    }
}

/// A text of which nothing moves the cursor, or ends a line or a quotation.
pub(crate) struct Escaped<'a> {
    pub(crate) bytes: &'a [u8],
    /// Whether it stands in quotation marks.
    pub(crate) quotes: bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '"' | '\\' if self.quotes => write!(f, "\\{char}")?,
                    _ if char.is_control() => write!(f, "{}", char.escape_default())?,
                    _ => f.write_char(char)?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// The elements of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    element: &'a Layout,
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Elements<'a> {
    pub(super) fn new(element: &'a Layout, bytes: &'a [u8], len: usize) -> Self {
        Self { element, bytes, left: len }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let value = self.element.value(self.bytes)?;
        self.bytes = self.bytes.get(self.element.size..).unwrap_or_default();
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

/// The fields of a struct or union: their names and values. Printed as `pid=1 comm="cat"`.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    fields: std::slice::Iter<'a, Field>,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(fields: &'a [Field], bytes: &'a [u8]) -> Self {
        Self { fields: fields.iter(), bytes }
    }

    /// The value of the field of this name, of those that are left.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.clone().find(|(other, _)| *other == name).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<(&'a str, Value<'a>)> {
        let field = self.fields.next()?;
        let layout = &field.layout;
        let value = match field.bits {
            Some(bits) => layout.scalar(Bits::of(self.bytes, field.bit_offset, bits.into(), layout.order)),
            None => layout.value(self.bytes.get(field.bit_offset / 8..)?)?,
        };
        Some((&field.name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.fields.size_hint()
    }
}

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.clone().enumerate() {
            f.write_str(if index == 0 { "" } else { " " })?;
            write!(f, "{name}={value}")?;
        }
        Ok(())
    }
}

/// At most 128 bits out of bytes.
#[derive(Clone, Copy)]
pub(super) struct Bits {
    value: u128,
    width: usize,
}

impl Bits {
    /// `width` bits from bit `offset` on: of little endian bytes the least significant of a byte come first, of big endian bytes
    /// the most significant. Bits that are not there are 0.
    pub(super) fn of(bytes: &[u8], offset: usize, width: usize, order: ByteOrder) -> Self {
        let width = width.min(128);
        let bit = |at: usize| {
            let byte = bytes.get(at / 8).copied().unwrap_or_default();
            let shift = match order {
                ByteOrder::Little => at % 8,
                ByteOrder::Big => 7 - at % 8,
            };
            u128::from(byte >> shift & 1)
        };
        let value = if offset.is_multiple_of(8) && width.is_multiple_of(8) {
            let bytes = bytes.get(offset / 8..).unwrap_or_default();
            let bytes = &bytes[..bytes.len().min(width / 8)];
            let push = |value: u128, byte: &u8| value << 8 | u128::from(*byte);
            match order {
                ByteOrder::Little => bytes.iter().rev().fold(0, push),
                ByteOrder::Big => bytes.iter().fold(0, push),
            }
        } else {
            (0..width).fold(0, |value, index| match order {
                ByteOrder::Little => value | bit(offset + index) << index,
                ByteOrder::Big => value << 1 | bit(offset + index),
            })
        };
        Self { value, width }
    }

    pub(super) fn unsigned(self) -> u128 {
        self.value
    }

    pub(super) fn signed(self) -> i128 {
        match 128 - self.width {
            128 => 0,
            unused => (self.value << unused) as i128 >> unused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;
    use crate::record::ByteOrder;

    #[test]
    fn bits_are_those_of_both_byte_orders() {
        let bytes = [0x12, 0x34, 0xf6, 0x78];
        let of = |offset, width, order| {
            let bits = Bits::of(&bytes, offset, width, order);
            (bits.unsigned(), bits.signed())
        };
        assert_eq!(of(0, 32, ByteOrder::Little), (0x78f6_3412, 0x78f6_3412));
        assert_eq!(of(0, 32, ByteOrder::Big), (0x1234_f678, 0x1234_f678));
        assert_eq!(of(16, 8, ByteOrder::Little), (0xf6, -10));
        assert_eq!(of(4, 8, ByteOrder::Little), (0x41, 0x41));
        assert_eq!(of(4, 8, ByteOrder::Big), (0x23, 0x23));
        assert_eq!(of(12, 7, ByteOrder::Big), (0x27, 0x27));
        assert_eq!(of(17, 3, ByteOrder::Little), (0b011, 0b011));
        assert_eq!(of(20, 4, ByteOrder::Little), (0xf, -1));
        assert_eq!(of(0, 0, ByteOrder::Little), (0, 0));
    }
}
