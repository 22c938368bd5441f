//! Records: what the bytes in a ring, or in a recording, mean.

mod attr;
mod bytes;
mod error;
mod formats;
mod header;

pub use attr::{Attr, AttrError, AttrFlags};
pub use bytes::{ByteOrder, EncodeError, Text, Words, WordsIter};
pub(crate) use error::Defect;
pub use error::{DecodeError, DefectKind};
pub use formats::{BranchSampleType, ReadFormat, SampleType};
pub use header::{CpuMode, Header, Misc, RecordType};
