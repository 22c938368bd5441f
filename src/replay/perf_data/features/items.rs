//! What sections are made of: integers, strings with their length before them, and lists with their count before them.

use crate::record::bytes::{Cursor, Int, Writer};
use crate::record::{Defect, DefectKind, EncodeError, Text};

/// A part of a section.
pub(super) trait Item<'a>: Sized {
    /// The fewest bytes that it takes.
    const MIN: u64;

    fn get(from: &mut Cursor<'a>, name: &'static str) -> Result<Self, Defect>;
    fn put(&self, to: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError>;
}

macro_rules! ints {
    ($($int:ty)+) => {
        $(
            impl Item<'_> for $int {
                const MIN: u64 = <$int as Int>::SIZE as u64;

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
ints!(u32 u64 i32);

/// perf fills strings up to a multiple of this.
const STRING_ALIGN: usize = 64;

impl<'a> Item<'a> for Text<'a> {
    const MIN: u64 = <u32 as Item>::MIN;

    fn get(from: &mut Cursor<'a>, name: &'static str) -> Result<Self, Defect> {
        let len: u32 = from.int(name)?;
        let field = from.take(len.into(), name)?;
        // All of perf's end in a NUL; a string without one is no less clear.
        Ok(Text::until_nul(field).unwrap_or(Text::from(field)))
    }

    fn put(&self, to: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError> {
        let bytes = self.as_bytes();
        if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
            return Err(EncodeError::Nul { field: name, at });
        }
        let padded = (bytes.len() + 1).next_multiple_of(STRING_ALIGN);
        put_count(to, padded, name)?;
        to.bytes(bytes);
        to.bytes(&[0; STRING_ALIGN][..padded - bytes.len()]);
        Ok(())
    }
}

/// Bytes with their number before them.
impl<'a> Item<'a> for &'a [u8] {
    const MIN: u64 = <u32 as Item>::MIN;

    fn get(from: &mut Cursor<'a>, name: &'static str) -> Result<Self, Defect> {
        let len: u32 = from.int(name)?;
        from.take(len.into(), name)
    }

    fn put(&self, to: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError> {
        put_count(to, self.len(), name)?;
        to.bytes(self);
        Ok(())
    }
}

/// A list with its count before it.
impl<'a, T: Item<'a>> Item<'a> for Vec<T> {
    const MIN: u64 = <u32 as Item>::MIN;

    fn get(from: &mut Cursor<'a>, name: &'static str) -> Result<Self, Defect> {
        let count: u32 = from.int(name)?;
        get_list(from, count.into(), name)
    }

    fn put(&self, to: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError> {
        put_count(to, self.len(), name)?;
        put_list(to, self, name)
    }
}

/// `count` items. Memory is taken as they are found, so that it is bounded by the bytes of the section, whatever the count.
pub(super) fn get_list<'a, T: Item<'a>>(
    from: &mut Cursor<'a>,
    count: u64,
    name: &'static str,
) -> Result<Vec<T>, Defect> {
    let (needed, left) = (count.saturating_mul(T::MIN), from.rest().len());
    if needed > left as u64 {
        return Err(from.defect(name, DefectKind::Truncated { needed, left }));
    }
    (0..count).map(|_| T::get(from, name)).collect()
}

pub(super) fn put_list<'a, T: Item<'a>>(
    to: &mut Writer<'_>,
    items: &[T],
    name: &'static str,
) -> Result<(), EncodeError> {
    items.iter().try_for_each(|item| item.put(to, name))
}

/// A count, or a length, of 32 bits.
pub(super) fn put_count(to: &mut Writer<'_>, count: usize, name: &'static str) -> Result<(), EncodeError> {
    match u32::try_from(count) {
        Ok(count) => {
            to.int(count);
            Ok(())
        }
        Err(_) => Err(EncodeError::Shape { field: name, what: "more than 32 bits can count" }),
    }
}

/// The number of a layout, of which only one is known.
pub(super) fn get_version<T: Int + Into<u64>>(from: &mut Cursor<'_>, known: u64) -> Result<(), Defect> {
    let at = *from;
    match from.int::<T>("version")?.into() {
        version if version == known => Ok(()),
        value => Err(at.defect("version", DefectKind::Value { value })),
    }
}

/// Structs whose fields stand one after the other.
macro_rules! items {
    ($($(#[$meta:meta])* pub struct $name:ident $(<$life:lifetime>)? {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    })+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $name $(<$life>)? {
                $($(#[$field_meta])* pub $field: $type,)*
            }

            impl<'item $(, $life)?> $crate::replay::perf_data::features::items::Item<'item> for $name $(<$life>)?
            $(where 'item: $life)?
            {
                const MIN: u64 =
                    0 $(+ <$type as $crate::replay::perf_data::features::items::Item<'_>>::MIN)*;

                fn get(
                    from: &mut $crate::record::bytes::Cursor<'item>,
                    _: &'static str,
                ) -> Result<Self, $crate::record::Defect> {
                    Ok(Self { $($field: $crate::replay::perf_data::features::items::Item::get(
                        from,
                        const { $crate::record::bytes::field_name(stringify!($field)) },
                    )?,)* })
                }

                fn put(
                    &self,
                    to: &mut $crate::record::bytes::Writer<'_>,
                    _: &'static str,
                ) -> Result<(), $crate::record::EncodeError> {
                    $($crate::replay::perf_data::features::items::Item::put(
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
pub(super) use items;
