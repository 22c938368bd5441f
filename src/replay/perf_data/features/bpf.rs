//! BPF programs that were loaded, and their types.

use super::items::{Item, items};
use crate::record::bytes::{Cursor, Writer, int_at};
use crate::record::{ByteOrder, Defect, EncodeError, Text};

items! {
    /// The types of programs (BTF).
    pub struct BpfBtf<'a> {
        /// The kernel's number of it.
        pub id: u32,
        /// The data, as `Documentation/bpf/btf.rst` of the kernel describes them.
        pub data: &'a [u8],
    }
}

/// What the kernel knows of a program, with the arrays that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfProgInfo<'a> {
    /// The byte order of `info` and of what is in `data`.
    pub order: ByteOrder,
    /// Which arrays are in `data`: a bit for each (`PERF_BPIL_*`).
    pub arrays: u64,
    /// A `struct bpf_prog_info`, as long as the recorder knew it. What points to arrays are offsets in `data`.
    pub info: &'a [u8],
    /// The arrays.
    pub data: &'a [u8],
}

impl<'a> BpfProgInfo<'a> {
    /// `type`: the type of the program (`BPF_PROG_TYPE_*`).
    pub fn type_(&self) -> Option<u32> {
        int_at(self.info, 0, self.order)
    }

    /// `id`: the kernel's number of it.
    pub fn id(&self) -> Option<u32> {
        int_at(self.info, 4, self.order)
    }

    /// `tag`: a hash of its instructions.
    pub fn tag(&self) -> Option<[u8; 8]> {
        self.info.get(8..)?.first_chunk().copied()
    }

    /// `name`: its name, at most 15 bytes.
    pub fn name(&self) -> Option<Text<'a>> {
        Text::until_nul(self.info.get(64..80)?)
    }
}

/// Its length, that of the arrays, which they are; then both.
impl<'a> Item<'a> for BpfProgInfo<'a> {
    const MIN: u64 = 16;

    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let [info, data]: [u32; 2] = [from.int("info_len")?, from.int("data_len")?];
        Ok(Self {
            order: from.order(),
            arrays: from.int("arrays")?,
            info: from.take(info.into(), "info")?,
            data: from.take(data.into(), "data")?,
        })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        if to.order() != self.order {
            return Err(EncodeError::Shape { field: "info", what: "of the other byte order" });
        }
        super::items::put_count(to, self.info.len(), "info_len")?;
        super::items::put_count(to, self.data.len(), "data_len")?;
        to.int(self.arrays);
        to.bytes(self.info);
        to.bytes(self.data);
        Ok(())
    }
}
