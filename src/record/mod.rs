//! Records: what the bytes in a ring, or in a recording, mean.
//!
//! A record is a [`Header`] and a body. What the body holds depends on the header's type, and of the types that an event
//! chooses the fields of, on the event's [`Attr`]. A [`Decoder`] works that out once for each event; decoding a record then
//! finds its fields, checks that they lie inside, and lends them: nothing is copied, and nothing allocated. An [`Encoder`]
//! writes what the decoder reads.
//!
//! ```
//! use perfring::record::{Attr, Body, ByteOrder, Decoder, Encoder, Misc, SampleFields, SampleType, Tid};
//!
//! let attr = Attr { sample_type: SampleType::IP | SampleType::TID | SampleType::CALLCHAIN, ..Attr::default() };
//! let chain = [0x1000, 0x2000, 0x3000];
//! let fields = SampleFields {
//!     ip: Some(0x1000),
//!     tid: Some(Tid { pid: 7, tid: 8 }),
//!     callchain: Some(chain[..].into()),
//!     ..SampleFields::default()
//! };
//! let mut record = Vec::new();
//! Encoder::new(&attr, ByteOrder::NATIVE)?.sample(Misc::empty(), &fields, &mut record)?;
//!
//! let decoder = Decoder::new(&attr)?;
//! match decoder.decode(&record)?.body {
//!     Body::Sample(sample) => {
//!         assert_eq!(sample.tid().map(|tid| tid.tid), Some(8));
//!         assert_eq!(sample.callchain().map(|chain| chain.len()), Some(3));
//!         assert_eq!(sample.fields(), fields);
//!     }
//!     other => panic!("not a sample: {other:?}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The records of a ring are decoded from [`ring::Record::bytes`](crate::ring::Record::bytes), whoever wrote them; for those
//! of the kernel, `Event::decoder` of the module `kernel` gives the decoder.
//!
//! # Several events in one stream
//!
//! [`Decoder::push`] takes each event with its ids. When all have the same layout every record can be decoded, and the id says
//! whose it is. When they differ, each record has to carry an id at a place that is the same for all: give all events
//! [`SampleType::IDENTIFIER`], and `sample_id_all`.
//!
//! # What is not known, and what is damaged
//!
//! A record of a type that is not known is a [`Body::Unknown`], and bytes behind the fields that are known are
//! [`Decoded::rest`]: a newer kernel wrote them, and nothing is wrong. A record that ends before its fields do is a
//! [`DecodeError`], which says in which type, at which byte, in which field and why. No bytes make a decoder panic, read
//! outside of them, or take longer than their length explains.
//!
//! # Byte order
//!
//! Both are read and written. That is more than swapping words: a word of two `u32`s is swapped in halves, and bit fields
//! that the uapi declares without regard to the byte order, as those of `perf_event_attr` and of `perf_branch_entry`, are laid
//! out from the other end. Flags are given where little-endian machines have them.
//!
//! The reference for all of it is the uapi header `linux/perf_event.h`; names are its names in lower case.
//!
#![doc = include_str!("coverage.md")]

mod attr;
mod branch;
pub(crate) mod bytes;
mod callchain;
mod data_src;
mod decode;
mod display;
mod encode;
mod error;
mod formats;
mod header;
mod kernel;
mod layout;
mod read;
mod regs;
mod regs_names;
mod sample;
#[cfg(feature = "serde")]
pub(crate) mod serialize;
mod transaction;
pub mod user;

pub use attr::{Attr, AttrError, AttrFlags};
pub use branch::{BranchEntries, BranchEntry, BranchFlags, BranchStack};
pub use bytes::{ByteOrder, EncodeError, Text, Words, WordsIter};
pub use callchain::{Callchain, CallchainContext, CallchainEntry, Ips};
pub use data_src::{
    DataSrc, MemBlk, MemHops, MemLock, MemLvl, MemLvlNum, MemOp, MemRegion, MemRemote, MemSnoop, MemSnoopx, MemTlb,
};
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
pub use regs_names::Arch;
pub use sample::{Sample, SampleFields, Tid, Weight};
pub use transaction::{Transaction, TxnFlags};
pub use user::User;
