//! What the header of a file holds, as records of a stream that has none.

use super::array::{put_text, take_text};
use crate::record::bytes::{Cursor, Field, Writer};
use crate::record::{Attr, AttrError, Defect, DefectKind, EncodeError, Misc, Text, Words};

/// `HEADER_ATTR`: an event's attribute, and the ids by which its records name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderAttr<'a> {
    /// The attribute, of any version.
    pub attr: Attr,
    /// The event's ids, one for each CPU and task.
    pub ids: Words<'a>,
}

impl<'a> Field<'a> for HeaderAttr<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let bytes = from.rest();
        let (attr, ids) = Attr::from_bytes(bytes, from.order()).map_err(|error| {
            let (offset, field, kind) = match error {
                AttrError::Size { size } => (4, "size", DefectKind::Value { value: size.into() }),
                AttrError::Unknown { at, value, .. } => (at, "attr", DefectKind::Value { value: value.into() }),
                AttrError::Truncated { size, len } => {
                    (0, "attr", DefectKind::Truncated { needed: size.into(), left: len })
                }
            };
            Defect { offset: from.at() + offset, field, kind }
        })?;
        from.take((bytes.len() - ids.len()) as u64, "attr")?;
        Ok(Self { attr, ids: from.words(ids.len().div_ceil(8) as u64, "id")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.bytes(&self.attr.to_bytes(to.order()));
        to.words(self.ids);
        Ok(())
    }
}

/// `HEADER_EVENT_TYPE`: an event's name; `perf` does not write it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderEventType<'a> {
    /// `config` of the event's attribute.
    pub event_id: u64,
    /// Its name, at most 64 bytes.
    pub name: Text<'a>,
}

impl HeaderEventType<'_> {
    /// Bytes that a name can have (`MAX_EVENT_NAME`).
    const NAME_LEN: usize = 64;
}

impl<'a> Field<'a> for HeaderEventType<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let event_id = from.int("event_id")?;
        // Records end with the name, rather than with its place.
        let len = from.rest().len().min(Self::NAME_LEN);
        Ok(Self { event_id, name: take_text(from, len, "name")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.int(self.event_id);
        put_text(to, self.name, Self::NAME_LEN, "name")
    }
}

/// `HEADER_TRACING_DATA`: the formats of tracepoints. They follow the record and are not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderTracingData {
    /// Bytes that follow the record, before the next one.
    pub size: u32,
}

impl<'a> Field<'a> for HeaderTracingData {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        // Older `perf`s end the record here.
        Ok(Self { size: from.int("size")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.int(self.size);
        to.pad();
        Ok(())
    }
}

impl Misc {
    /// `HEADER_BUILD_ID`: the record says how long the build id is (`PERF_RECORD_MISC_BUILD_ID_SIZE`).
    pub const BUILD_ID_SIZE: Self = Self::EXT_RESERVED;
}

/// `HEADER_BUILD_ID`: which build a file is.
///
/// Such records are the feature section of build ids in a file, too; there their headers have the type 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderBuildId<'a> {
    /// The process that has mapped it; -1 for the kernel and its modules.
    pub pid: i32,
    /// The build id: at most 20 bytes, and just 20 in a record without [`Misc::BUILD_ID_SIZE`].
    pub build_id: &'a [u8],
    /// The file's path, or a name in brackets, such as `[kernel.kallsyms]`.
    pub filename: Text<'a>,
}

impl<'a> HeaderBuildId<'a> {
    /// The longest build id, a SHA-1.
    pub const MAX: usize = 20;

    pub(crate) fn get(from: &mut Cursor<'a>, misc: Misc) -> Result<Self, Defect> {
        let pid = from.int("pid")?;
        let all = from.take(Self::MAX as u64, "build_id")?;
        let at_size = *from;
        let size: u8 = from.int("size")?;
        from.take(3, "reserved")?;
        let build_id = if misc.contains(Misc::BUILD_ID_SIZE) {
            all.get(..size.into()).ok_or_else(|| at_size.defect("size", DefectKind::Value { value: size.into() }))?
        } else {
            all
        };
        Ok(Self { pid, build_id, filename: Field::get(from, "filename")? })
    }

    pub(crate) fn put(&self, misc: Misc, to: &mut Writer<'_>) -> Result<(), EncodeError> {
        let len = self.build_id.len();
        let sized = misc.contains(Misc::BUILD_ID_SIZE);
        if len > Self::MAX {
            return Err(EncodeError::Shape { field: "build_id", what: "longer than 20 bytes" });
        }
        if !sized && len != Self::MAX {
            return Err(EncodeError::Shape {
                field: "build_id",
                what: "not 20 bytes, and misc says nothing of a size",
            });
        }
        to.int(self.pid);
        to.bytes(self.build_id);
        to.bytes([0; Self::MAX].get(len..).unwrap_or_default());
        to.int(if sized { len as u8 } else { 0 });
        to.bytes(&[0; 3]);
        self.filename.put(to, "filename")
    }
}

/// `HEADER_FEATURE`: a feature section of the file header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFeature<'a> {
    /// Which feature: its bit in the flags of a file header (`HEADER_*`).
    pub feat_id: u64,
    /// The section, as it stands in a file. Its length need not be a multiple of 8.
    pub data: &'a [u8],
}

impl<'a> Field<'a> for HeaderFeature<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        Ok(Self { feat_id: from.int("feat_id")?, data: from.take(from.rest().len() as u64, "data")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.int(self.feat_id);
        to.bytes(self.data);
        Ok(())
    }
}
