//! Reading and writing bytes in either byte order: cursors that cannot leave their bytes.

use crate::record::{Defect, DefectKind};
use std::ffi::CStr;
use std::fmt;
use zerocopy::{FromBytes, IntoBytes};

/// The byte order of a machine, and of the records that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// The least significant byte first: x86, arm64, RISC-V.
    Little,
    /// The most significant byte first: s390x, many others before.
    Big,
}

impl ByteOrder {
    /// This machine's.
    pub const NATIVE: Self = if cfg!(target_endian = "little") { Self::Little } else { Self::Big };

    /// Whether it is this machine's.
    #[inline]
    pub const fn is_native(self) -> bool {
        matches!((self, Self::NATIVE), (Self::Little, Self::Little) | (Self::Big, Self::Big))
    }
}

impl Default for ByteOrder {
    fn default() -> Self {
        Self::NATIVE
    }
}

/// An integer whose bytes may stand in either order.
pub(crate) trait Int: Copy {
    const SIZE: usize;
    /// The integer at the start of `bytes`, if they are enough.
    fn first(bytes: &[u8], order: ByteOrder) -> Option<Self>;
    fn append(self, out: &mut Vec<u8>, order: ByteOrder);
}

macro_rules! int {
    ($($int:ty)+) => {
        $(
            impl Int for $int {
                const SIZE: usize = size_of::<$int>();

                #[inline(always)]
                fn first(bytes: &[u8], order: ByteOrder) -> Option<Self> {
                    let value = Self::from_ne_bytes(*bytes.first_chunk()?);
                    Some(if order.is_native() { value } else { value.swap_bytes() })
                }

                #[inline]
                fn append(self, out: &mut Vec<u8>, order: ByteOrder) {
                    let value = if order.is_native() { self } else { self.swap_bytes() };
                    out.extend_from_slice(&value.to_ne_bytes());
                }
            }
        )+
    };
}
int!(u8 u16 u32 u64 i32 i64);

/// The integer at `at`, if it lies inside.
#[inline(always)]
pub(crate) fn int_at<T: Int>(bytes: &[u8], at: usize, order: ByteOrder) -> Option<T> {
    // One comparison where it is known that `at` is small.
    T::first(bytes.get(at..at.checked_add(T::SIZE)?)?, order)
}

/// The body of a record, read from its start.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    order: ByteOrder,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], order: ByteOrder) -> Self {
        Self { bytes, at: 0, order }
    }

    pub(crate) fn order(&self) -> ByteOrder {
        self.order
    }

    /// How many bytes were read.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What is left.
    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        // `at` only ever moves over bytes that are there.
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The defect of a field that begins at the next byte.
    pub(crate) fn defect(&self, field: &'static str, kind: DefectKind) -> Defect {
        Defect { offset: self.at, field, kind }
    }

    #[inline(always)]
    pub(crate) fn int<T: Int>(&mut self, field: &'static str) -> Result<T, Defect> {
        match T::first(self.rest(), self.order) {
            Some(value) => {
                self.at += T::SIZE;
                Ok(value)
            }
            None => Err(self.truncated(field, T::SIZE as u64)),
        }
    }

    #[cold]
    fn truncated(&self, field: &'static str, needed: u64) -> Defect {
        self.defect(field, DefectKind::Truncated { needed, left: self.rest().len() })
    }

    /// `len` bytes.
    pub(crate) fn take(&mut self, len: u64, field: &'static str) -> Result<&'a [u8], Defect> {
        let rest = self.rest();
        let taken =
            usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or_else(|| self.truncated(field, len))?;
        self.at += taken.len();
        Ok(taken)
    }

    /// Steps over what is left up to the next multiple of 8: it fills up the field before.
    pub(crate) fn align(&mut self) {
        self.at += (self.at.next_multiple_of(8) - self.at).min(self.rest().len());
    }

    /// `count` words.
    pub(crate) fn words(&mut self, count: u64, field: &'static str) -> Result<Words<'a>, Defect> {
        let order = self.order;
        // A count whose bytes overflow needs more than there can be.
        self.take(count.saturating_mul(8), field).map(|bytes| Words { bytes, order })
    }
}

/// A field of a record: how it is read and written.
pub(crate) trait Field<'a>: Sized {
    fn get(from: &mut Cursor<'a>, name: &'static str) -> Result<Self, Defect>;
    fn put(&self, to: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError>;
}

macro_rules! int_field {
    ($($int:ty)+) => {
        $(
            impl Field<'_> for $int {
                #[inline(always)]
                fn get(from: &mut Cursor<'_>, name: &'static str) -> Result<Self, Defect> {
                    from.int(name)
                }

                fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
                    to.int(*self);
                    Ok(())
                }
            }
        )+
    };
}
int_field!(u8 u16 u32 u64 i32 i64);

impl<'a, const N: usize> Field<'a> for [u8; N] {
    fn get(from: &mut Cursor<'a>, name: &'static str) -> Result<Self, Defect> {
        let bytes = from.take(N as u64, name)?;
        Ok(std::array::from_fn(|at| bytes[at]))
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.bytes(self);
        Ok(())
    }
}

/// Shown in hexadecimal.
pub(crate) struct Hex(pub(crate) u64);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// What cannot be written as a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The layout has a field for which there is no value.
    #[error("the field {field} is in the layout, but has no value")]
    Missing {
        /// The field's uapi name.
        field: &'static str,
    },
    /// There is a value for a field that the layout does not have.
    #[error("the field {field} has a value, but is not in the layout")]
    NotInLayout {
        /// The field's uapi name.
        field: &'static str,
    },
    /// A value has not the shape that the layout or the record asks for.
    #[error("the field {field} does not fit: {what}")]
    Shape {
        /// The field's uapi name.
        field: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// Text with a NUL inside: a reader would see its start only.
    #[error("the field {field} has a NUL at byte {at}")]
    Nul {
        /// The field's uapi name.
        field: &'static str,
        /// The NUL's index.
        at: usize,
    },
    /// A record's size is 16 bits wide.
    #[error("the record would have {size} bytes; at most 65535 are possible")]
    TooLarge {
        /// Bytes of the record, its header included.
        size: usize,
    },
}

/// The bytes of a record while they are written.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    order: ByteOrder,
}

impl<'a> Writer<'a> {
    /// Writes behind what `out` holds.
    pub(crate) fn new(out: &'a mut Vec<u8>, order: ByteOrder) -> Self {
        let start = out.len();
        Self { out, start, order }
    }

    pub(crate) fn order(&self) -> ByteOrder {
        self.order
    }

    pub(crate) fn int<T: Int>(&mut self, value: T) {
        value.append(self.out, self.order);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn words(&mut self, words: Words<'_>) {
        if words.order == self.order {
            self.bytes(words.bytes);
        } else {
            words.iter().for_each(|word| self.int(word));
        }
    }

    /// How many bytes were written.
    pub(crate) fn len(&self) -> usize {
        self.out.len() - self.start
    }

    /// Zeros up to the next multiple of 8.
    pub(crate) fn pad(&mut self) {
        self.out.resize(self.start + self.len().next_multiple_of(8), 0);
    }

    /// Overwrites a `u16` written before.
    pub(crate) fn set_u16(&mut self, at: usize, value: u16) {
        let value = if self.order.is_native() { value } else { value.swap_bytes() };
        if let Some(two) = self.out.get_mut(self.start + at..).and_then(<[u8]>::first_chunk_mut) {
            *two = value.to_ne_bytes();
        }
    }

    /// Takes back what was written.
    pub(crate) fn undo(&mut self) {
        self.out.truncate(self.start);
    }
}

/// A run of `u64`s in a record, which may stand at any address and in either byte order.
///
/// ```
/// use perfring::record::Words;
/// let words = Words::from(&[1, 2, 3]);
/// assert_eq!(words.get(1), Some(2));
/// assert_eq!(words.iter().sum::<u64>(), 6);
/// ```
#[derive(Clone, Copy, Default)]
pub struct Words<'a> {
    /// A multiple of 8 of them.
    pub(crate) bytes: &'a [u8],
    pub(crate) order: ByteOrder,
}

impl<'a> Words<'a> {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() / 8
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The one at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<u64> {
        int_at(self.bytes, index.checked_mul(8)?, self.order)
    }

    /// All of them, from the first.
    #[inline]
    pub fn iter(&self) -> WordsIter<'a> {
        WordsIter { chunks: self.bytes.as_chunks().0.iter(), order: self.order }
    }

    /// The words in place, if they are in this machine's byte order and aligned: so for the records of a ring, unless a piece
    /// of a stack before them is no multiple of 8.
    #[inline]
    pub fn as_slice(&self) -> Option<&'a [u64]> {
        if self.order.is_native() { <[u64]>::ref_from_bytes(self.bytes).ok() } else { None }
    }

    /// The bytes in which they stand.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The byte order in which they stand.
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// Words `from..to`, which must lie inside.
    #[inline]
    pub(crate) fn part(&self, from: usize, to: usize) -> Self {
        let bytes = self.bytes.get(from.saturating_mul(8)..to.saturating_mul(8)).unwrap_or_default();
        Self { bytes, order: self.order }
    }
}

impl<'a> From<&'a [u64]> for Words<'a> {
    fn from(words: &'a [u64]) -> Self {
        Self { bytes: words.as_bytes(), order: ByteOrder::NATIVE }
    }
}

impl<'a, const N: usize> From<&'a [u64; N]> for Words<'a> {
    fn from(words: &'a [u64; N]) -> Self {
        words.as_slice().into()
    }
}

/// By value, whatever the byte orders.
impl PartialEq for Words<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(*other)
    }
}

impl Eq for Words<'_> {}

impl fmt::Debug for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Hex)).finish()
    }
}

impl<'a> IntoIterator for Words<'a> {
    type Item = u64;
    type IntoIter = WordsIter<'a>;

    #[inline]
    fn into_iter(self) -> WordsIter<'a> {
        self.iter()
    }
}

/// The words of a [`Words`].
#[derive(Clone, Debug)]
pub struct WordsIter<'a> {
    chunks: std::slice::Iter<'a, [u8; 8]>,
    order: ByteOrder,
}

impl Iterator for WordsIter<'_> {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        let value = u64::from_ne_bytes(*self.chunks.next()?);
        Some(if self.order.is_native() { value } else { value.swap_bytes() })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.chunks.size_hint()
    }

    #[inline]
    fn fold<B, F: FnMut(B, u64) -> B>(self, start: B, mut f: F) -> B {
        if self.order.is_native() {
            self.chunks.fold(start, |value, word| f(value, u64::from_ne_bytes(*word)))
        } else {
            self.chunks.fold(start, |value, word| f(value, u64::from_ne_bytes(*word).swap_bytes()))
        }
    }
}

impl DoubleEndedIterator for WordsIter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<u64> {
        let value = u64::from_ne_bytes(*self.chunks.next_back()?);
        Some(if self.order.is_native() { value } else { value.swap_bytes() })
    }
}

impl ExactSizeIterator for WordsIter<'_> {}

/// Text in a record: up to a NUL, as the kernel hands on file names and names of tasks, which need not be UTF-8.
///
/// In the record it is padded with NULs to a multiple of 8 bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// The bytes, without the NUL.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The text, if it is UTF-8.
    pub fn to_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }

    /// The text up to its NUL in `field`, which fills a place of fixed length.
    pub(crate) fn until_nul(field: &'a [u8]) -> Option<Self> {
        // It looks at whole words, which a search by bytes does not.
        CStr::from_bytes_until_nul(field).ok().map(|text| Self(text.to_bytes()))
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(text: &'a [u8]) -> Self {
        Self(text)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(self.0))
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl<'a> Field<'a> for Text<'a> {
    fn get(from: &mut Cursor<'a>, name: &'static str) -> Result<Self, Defect> {
        let rest = from.rest();
        let text = Self::until_nul(rest).ok_or_else(|| from.defect(name, DefectKind::NoNul { left: rest.len() }))?;
        let start = from.at;
        // Records are multiples of 8, so the padding ends where the body does, at the latest.
        let padded = (start + text.0.len() + 1).next_multiple_of(8) - start;
        from.at = start + padded.min(rest.len());
        Ok(text)
    }

    fn put(&self, to: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError> {
        if let Some(at) = self.0.iter().position(|&byte| byte == 0) {
            return Err(EncodeError::Nul { field: name, at });
        }
        to.bytes(self.0);
        to.int(0_u8);
        to.pad();
        Ok(())
    }
}

/// The uapi's name of a field whose name here would be a keyword without the underscore behind it.
pub(crate) const fn field_name(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [name @ .., b'_'] => match std::str::from_utf8(name) {
            Ok(name) => name,
            Err(_) => panic!("a name without its last character"),
        },
        _ => name,
    }
}

/// A struct whose fields stand one after the other, as named, in the record's byte order.
macro_rules! wire {
    ($($(#[$meta:meta])* pub struct $name:ident $(<$life:lifetime>)? {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    })+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $name $(<$life>)? {
                $($(#[$field_meta])* pub $field: $type,)*
            }

            /// The fields, each behind its name.
            impl $(<$life>)? ::std::fmt::Display for $name $(<$life>)? {
                #[allow(unused_variables, reason = "structs without fields have nothing to show")]
                fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                    $($crate::record::display::show(f, stringify!($field).trim_end_matches('_'), &self.$field)?;)*
                    Ok(())
                }
            }

            #[cfg(feature = "serde")]
            impl $(<$life>)? $crate::record::serialize::Fields for $name $(<$life>)? {
                #[allow(unused_variables, reason = "structs without fields have nothing to write")]
                fn fields<M: ::serde::ser::SerializeMap>(
                    &self,
                    to: &mut $crate::record::serialize::Object<'_, M>,
                ) -> Result<(), M::Error> {
                    $($crate::record::serialize::Value::put(
                        &self.$field,
                        const { $crate::record::bytes::field_name(stringify!($field)) },
                        to,
                    )?;)*
                    Ok(())
                }
            }

            /// An object of the fields, under their uapi names.
            #[cfg(feature = "serde")]
            impl $(<$life>)? ::serde::Serialize for $name $(<$life>)? {
                fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    $crate::record::serialize::object(self, serializer)
                }
            }

            impl<'wire $(, $life)?> $crate::record::bytes::Field<'wire> for $name $(<$life>)?
            $(where 'wire: $life)?
            {
                #[allow(unused_variables, reason = "structs without fields have nothing to read")]
                fn get(
                    from: &mut $crate::record::bytes::Cursor<'wire>,
                    _: &'static str,
                ) -> Result<Self, $crate::record::Defect> {
                    Ok(Self { $($field: $crate::record::bytes::Field::get(
                        from,
                        const { $crate::record::bytes::field_name(stringify!($field)) },
                    )?,)* })
                }

                #[allow(unused_variables, reason = "structs without fields have nothing to write")]
                fn put(
                    &self,
                    to: &mut $crate::record::bytes::Writer<'_>,
                    _: &'static str,
                ) -> Result<(), $crate::record::EncodeError> {
                    $($crate::record::bytes::Field::put(
                        &self.$field,
                        to,
                        const { $crate::record::bytes::field_name(stringify!($field)) },
                    )?;)*
                    Ok(())
                }
            }
        )+
    };
}
pub(crate) use wire;
