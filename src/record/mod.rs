//! Records: what the bytes in a ring, or in a recording, mean.
//!
#![doc = include_str!("coverage.md")]

mod attr;
mod branch;
mod bytes;
mod callchain;
mod decode;
mod encode;
mod error;
mod formats;
mod header;
mod kernel;
mod layout;
mod read;
mod regs;
mod sample;

pub use attr::{Attr, AttrError, AttrFlags};
pub use branch::{BranchEntries, BranchEntry, BranchFlags, BranchStack};
pub use bytes::{ByteOrder, EncodeError, Text, Words, WordsIter};
pub use callchain::{Callchain, CallchainContext, CallchainEntry, Ips};
pub use decode::{Body, Decoded, Decoder, DecoderError, SampleId};
pub use encode::Encoder;
pub(crate) use error::Defect;
pub use error::{DecodeError, DefectKind};
pub use formats::{BranchSampleType, ReadFormat, SampleType};
pub use header::{CpuMode, Header, Misc, RecordType};
pub use kernel::{
    Aux, AuxFlags, AuxOutputHwId, BpfEvent, BuildId, CallchainDeferred, Cgroup, Comm, ItraceStart, Ksymbol, Lost,
    LostSamples, MappedFile, Mmap, Mmap2, Namespace, Namespaces, Read, Switch, SwitchCpuWide, Task, TextPoke, Throttle,
};
pub use layout::{LayoutError, SampleLayout};
pub use read::{CounterValue, ReadValues, scaled};
pub use regs::{Regs, RegsAbi, StackUser};
pub use sample::{Sample, SampleFields, Tid, Weight};
/// temp
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSrc(pub u64);
/// temp
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction(pub u64);
