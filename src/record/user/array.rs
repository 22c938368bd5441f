//! Runs of entries of one size, and text in places of fixed length.

use crate::record::bytes::{Cursor, Field, Writer};
use crate::record::{ByteOrder, Defect, EncodeError, Text};
use std::fmt;

/// What an [`Array`] may hold: entries whose bytes always mean something.
///
/// It cannot be implemented elsewhere.
pub trait ArrayItem<'a>: Copy + sealed::Item<'a> {}

pub(crate) mod sealed {
    use crate::record::ByteOrder;

    pub trait Item<'a>: Sized {
        /// Bytes in an entry.
        const SIZE: usize;
        /// Of [`Item::SIZE`] bytes; fewer give nothing.
        fn read(bytes: &'a [u8], order: ByteOrder) -> Option<Self>;
    }
}

/// Entries of one size in a record, which may stand at any address and in either byte order; or, to be written, in a slice.
///
/// ```
/// use perfring::record::user::{Array, StatConfigEntry};
/// let entries = [StatConfigEntry { tag: 1, val: 1000 }, StatConfigEntry { tag: 2, val: 1 }];
/// let array = Array::from(&entries);
/// assert_eq!(array.get(1), Some(entries[1]));
/// assert_eq!(array.iter().map(|entry| entry.tag).sum::<u64>(), 3);
/// ```
#[derive(Clone, Copy)]
pub struct Array<'a, T>(Place<'a, T>);

#[derive(Clone, Copy)]
enum Place<'a, T> {
    /// A multiple of the entry's size of them.
    Record {
        bytes: &'a [u8],
        order: ByteOrder,
    },
    Slice(&'a [T]),
}

impl<'a, T: ArrayItem<'a>> Array<'a, T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self.0 {
            Place::Record { bytes, .. } => bytes.len() / T::SIZE,
            Place::Slice(items) => items.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one at `index`.
    pub fn get(&self, index: usize) -> Option<T> {
        match self.0 {
            Place::Record { bytes, order } => T::read(bytes.get(index.checked_mul(T::SIZE)?..)?, order),
            Place::Slice(items) => items.get(index).copied(),
        }
    }

    /// All of them, from the first.
    pub fn iter(&self) -> ArrayIter<'a, T> {
        ArrayIter { array: *self, at: 0, end: self.len() }
    }

    /// `count` of them from a record.
    pub(crate) fn take(from: &mut Cursor<'a>, count: u64, name: &'static str) -> Result<Self, Defect> {
        let order = from.order();
        // A count whose bytes overflow needs more than there can be.
        from.take(count.saturating_mul(T::SIZE as u64), name).map(|bytes| Self(Place::Record { bytes, order }))
    }

    /// As many as the rest of a record holds whole.
    pub(crate) fn take_rest(from: &mut Cursor<'a>, name: &'static str) -> Result<Self, Defect> {
        Self::take(from, (from.rest().len() / T::SIZE) as u64, name)
    }

    pub(crate) fn put(&self, to: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError>
    where
        T: Field<'a>,
    {
        match self.0 {
            Place::Record { bytes, order } if order == to.order() => {
                to.bytes(bytes);
                Ok(())
            }
            _ => self.iter().try_for_each(|item| item.put(to, name)),
        }
    }
}

/// None.
impl<T> Default for Array<'_, T> {
    fn default() -> Self {
        Self(Place::Slice(&[]))
    }
}

impl<'a, T> From<&'a [T]> for Array<'a, T> {
    fn from(items: &'a [T]) -> Self {
        Self(Place::Slice(items))
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for Array<'a, T> {
    fn from(items: &'a [T; N]) -> Self {
        items.as_slice().into()
    }
}

/// By value, wherever and in whichever byte order they stand.
impl<'a, T: ArrayItem<'a> + PartialEq> PartialEq for Array<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: ArrayItem<'a> + Eq> Eq for Array<'a, T> {}

impl<'a, T: ArrayItem<'a> + fmt::Debug> fmt::Debug for Array<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: ArrayItem<'a>> IntoIterator for Array<'a, T> {
    type Item = T;
    type IntoIter = ArrayIter<'a, T>;

    fn into_iter(self) -> ArrayIter<'a, T> {
        self.iter()
    }
}

/// The entries of an [`Array`].
#[derive(Clone)]
pub struct ArrayIter<'a, T> {
    array: Array<'a, T>,
    at: usize,
    end: usize,
}

impl<'a, T: ArrayItem<'a>> Iterator for ArrayIter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.at == self.end {
            return None;
        }
        let item = self.array.get(self.at)?;
        self.at += 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.at, Some(self.end - self.at))
    }
}

impl<'a, T: ArrayItem<'a>> DoubleEndedIterator for ArrayIter<'a, T> {
    fn next_back(&mut self) -> Option<T> {
        if self.at == self.end {
            return None;
        }
        let item = self.array.get(self.end - 1)?;
        self.end -= 1;
        Some(item)
    }
}

impl<'a, T: ArrayItem<'a>> ExactSizeIterator for ArrayIter<'a, T> {}

impl<'a, T: ArrayItem<'a> + fmt::Debug> fmt::Debug for ArrayIter<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.array.iter().skip(self.at).take(self.end - self.at)).finish()
    }
}

/// A type with a [`Field`] of `$size` bytes becomes one that arrays hold.
macro_rules! array_item {
    ($($type:ty = $size:expr;)+) => {
        $(
            impl<'a> $crate::record::user::array::sealed::Item<'a> for $type {
                const SIZE: usize = $size;

                fn read(bytes: &'a [u8], order: $crate::record::ByteOrder) -> Option<Self> {
                    let mut from = $crate::record::bytes::Cursor::new(bytes, order);
                    $crate::record::bytes::Field::get(&mut from, "").ok()
                }
            }

            impl<'a> $crate::record::user::array::ArrayItem<'a> for $type {}
        )+
    };
}
pub(super) use array_item;

array_item! {
    u16 = 2;
    u32 = 4;
    u64 = 8;
}

/// The next bytes, at most `len` of them, as text. Some of `perf`'s copies are cut off without a NUL, so that none is asked for.
pub(super) fn take_text<'a>(from: &mut Cursor<'a>, len: usize, name: &'static str) -> Result<Text<'a>, Defect> {
    let field = from.take(len as u64, name)?;
    Ok(Text::until_nul(field).unwrap_or(Text::from(field)))
}

/// Text in a place of `len` bytes, filled up with NULs.
pub(super) fn put_text(to: &mut Writer<'_>, text: Text<'_>, len: usize, name: &'static str) -> Result<(), EncodeError> {
    let bytes = text.as_bytes();
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        return Err(EncodeError::Nul { field: name, at });
    }
    let Some(zeros) = len.checked_sub(bytes.len()) else {
        return Err(EncodeError::Shape { field: name, what: "longer than its place in the record" });
    };
    to.bytes(bytes);
    (0..zeros).for_each(|_| to.int(0_u8));
    Ok(())
}

/// How many entries there are, as the records count them.
pub(super) fn put_count(to: &mut Writer<'_>, len: usize) {
    to.int(len as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_read_the_same_from_a_slice_and_from_either_order() {
        let items = [1_u32, 2, 0xfeed_0000];
        let slice = Array::from(&items);
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let mut bytes = Vec::new();
            slice.put(&mut Writer::new(&mut bytes, order), "x").unwrap();
            let read: Array<'_, u32> = Array::take(&mut Cursor::new(&bytes, order), 3, "x").unwrap();
            assert_eq!(read, slice);
            assert_eq!(
                (read.len(), read.get(2), read.get(3), read.get(usize::MAX)),
                (3, Some(0xfeed_0000), None, None)
            );
            assert_eq!(read.iter().rev().collect::<Vec<_>>(), [0xfeed_0000, 2, 1]);
            let mut again = Vec::new();
            read.put(&mut Writer::new(&mut again, ByteOrder::Big), "x").unwrap();
            assert_eq!(again.get(..4), Some(&[0, 0, 0, 1][..]));
        }
    }

    #[test]
    fn counts_that_do_not_fit_are_errors() {
        for count in [2, u64::MAX, u64::MAX / 4, u64::MAX / 8 + 1] {
            let taken: Result<Array<'_, u32>, _> =
                Array::take(&mut Cursor::new(&[0; 7], ByteOrder::NATIVE), count, "x");
            assert!(taken.is_err(), "{count}");
        }
    }

    #[test]
    fn text_has_its_place() {
        let mut bytes = Vec::new();
        let mut to = Writer::new(&mut bytes, ByteOrder::NATIVE);
        put_text(&mut to, Text::from("abcd"), 4, "x").unwrap();
        put_text(&mut to, Text::from("e"), 4, "x").unwrap();
        assert!(put_text(&mut to, Text::from("abcde"), 4, "x").is_err());
        assert!(put_text(&mut to, Text::from("a\0"), 4, "x").is_err());
        assert_eq!(bytes, *b"abcde\0\0\0");
        let mut from = Cursor::new(&bytes, ByteOrder::NATIVE);
        assert_eq!(take_text(&mut from, 4, "x").unwrap(), Text::from("abcd"));
        assert_eq!(take_text(&mut from, 4, "x").unwrap(), Text::from("e"));
        assert!(take_text(&mut from, 1, "x").is_err());
    }
}
