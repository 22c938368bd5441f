//! Records: what the bytes in a ring, or in a recording, mean.

mod attr;
mod bytes;
mod data_src;
mod error;
mod formats;
mod header;
mod regs_names;
mod transaction;
#[allow(dead_code, reason = "decoding does not call it yet")]
mod user;

pub use attr::{Attr, AttrError, AttrFlags};
pub use bytes::{ByteOrder, EncodeError, Text, Words, WordsIter};
pub use data_src::{
    DataSrc, MemBlk, MemHops, MemLock, MemLvl, MemLvlNum, MemOp, MemRegion, MemRemote, MemSnoop, MemSnoopx, MemTlb,
};
pub(crate) use error::Defect;
pub use error::{DecodeError, DefectKind};
pub use formats::{BranchSampleType, ReadFormat, SampleType};
pub use header::{CpuMode, Header, Misc, RecordType};
pub use regs_names::Arch;
pub use transaction::{Transaction, TxnFlags};
pub use user::{
    Array, ArrayItem, ArrayIter, Auxtrace, AuxtraceError, AuxtraceGuest, AuxtraceInfo, AuxtraceType, BpfMetadata,
    BpfMetadataEntry, Compressed, Compressed2, CpuCounters, CpuMap, Cpus, EventUpdate, HeaderAttr, HeaderBuildId,
    HeaderEventType, HeaderFeature, HeaderTracingData, IdIndex, IdIndexEntry, IdIndexGuest, Scale, SchedstatCpu,
    SchedstatCpuCounters, SchedstatDomain, Stat, StatConfig, StatConfigEntry, StatRound, ThreadMap, ThreadMapEntry,
    TimeConv, TimeConvShort, Update, User,
};
