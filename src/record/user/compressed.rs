//! Records that were compressed.

use crate::record::bytes::{Cursor, Field, Writer};
use crate::record::{Defect, EncodeError};

/// `COMPRESSED`: a piece of the zstd stream in which records are.
///
/// The pieces of a file, or of one file of a directory, are to be joined: records may begin in one and end in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed<'a> {
    /// The piece. Its length need not be a multiple of 8.
    pub data: &'a [u8],
}

impl<'a> Field<'a> for Compressed<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        Ok(Self { data: from.take(from.rest().len() as u64, "data")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.bytes(self.data);
        Ok(())
    }
}

/// `COMPRESSED2`: the same in a record that is filled up to a multiple of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed2<'a> {
    /// The piece, without what fills up the record; `data_size` is its length.
    pub data: &'a [u8],
}

impl<'a> Field<'a> for Compressed2<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let data_size = from.int("data_size")?;
        Ok(Self { data: from.take(data_size, "data")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.int(self.data.len() as u64);
        to.bytes(self.data);
        to.pad();
        Ok(())
    }
}
