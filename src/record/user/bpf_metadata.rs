//! `BPF_METADATA`.

use super::array::{Array, array_item, put_count, put_text, take_text};
use crate::record::bytes::{Cursor, Field, Writer};
use crate::record::{Defect, EncodeError, Text};

/// A variable of a BPF program whose name begins with `bpf_metadata_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfMetadataEntry<'a> {
    /// The rest of the name, at most 64 bytes.
    pub key: Text<'a>,
    /// The value as text, at most 256 bytes.
    pub value: Text<'a>,
}

impl BpfMetadataEntry<'_> {
    const KEY_LEN: usize = 64;
    const VALUE_LEN: usize = 256;
}

impl<'a> Field<'a> for BpfMetadataEntry<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        Ok(Self { key: take_text(from, Self::KEY_LEN, "key")?, value: take_text(from, Self::VALUE_LEN, "value")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        put_text(to, self.key, Self::KEY_LEN, "key")?;
        put_text(to, self.value, Self::VALUE_LEN, "value")
    }
}

array_item! {
    BpfMetadataEntry<'a> = 320;
}

/// `BPF_METADATA`: what a BPF program says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfMetadata<'a> {
    /// The name of the program, or of one of its functions, at most 256 bytes; the same as in its `KSYMBOL` record.
    pub prog_name: Text<'a>,
    /// The variables.
    pub entries: Array<'a, BpfMetadataEntry<'a>>,
    /// What lies behind: `perf` leaves space for the fields that `sample_id_all` asks for.
    pub id_sample: &'a [u8],
}

impl BpfMetadata<'_> {
    const PROG_NAME_LEN: usize = 256;
}

impl<'a> Field<'a> for BpfMetadata<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let prog_name = take_text(from, Self::PROG_NAME_LEN, "prog_name")?;
        let nr_entries = from.int("nr_entries")?;
        let entries = Array::take(from, nr_entries, "entries")?;
        Ok(Self { prog_name, entries, id_sample: from.take(from.rest().len() as u64, "id_sample")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        put_text(to, self.prog_name, Self::PROG_NAME_LEN, "prog_name")?;
        put_count(to, self.entries.len());
        self.entries.put(to, "entries")?;
        to.bytes(self.id_sample);
        Ok(())
    }
}
