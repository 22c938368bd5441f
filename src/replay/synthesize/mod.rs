//! What a recorder has to say of what already ran before it started.
//!
//! The kernel tells of tasks, names and mappings as they come. Of those that are there already it says nothing, so that a
//! recorder reads them from procfs and writes records as if the kernel had: without them the addresses in samples belong to
//! nothing. [`Synthesizer`] makes these records and hands them on one by one; [`BuildIds`] collects which files were mapped,
//! and in which build.
//!
//! ```
//! use perfring::record::{Attr, AttrFlags, Body, Decoder};
//! use perfring::replay::synthesize::Synthesizer;
//!
//! let attr = Attr { flags: AttrFlags::MMAP | AttrFlags::MMAP2 | AttrFlags::COMM, ..Attr::default() };
//! let decoder = Decoder::new(&attr)?;
//! let mut files = Vec::new();
//! let seen = Synthesizer::new(&attr)?.process(std::process::id(), &mut |record: &[u8]| {
//!     // A recorder would write it to its file.
//!     if let Body::Mmap2(mmap) = decoder.decode(record).expect("a record that was just made").body {
//!         files.push(mmap.filename.to_string());
//!     }
//!     Ok::<(), std::io::Error>(())
//! })?;
//! assert_eq!(seen.processes, 1);
//! assert!(!files.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The records are those that `perf record` makes up for the same tasks (observed with perf 6.1): their times are 0, and what
//! else trailers hold, too.

pub mod build_id;
mod build_ids;
mod cgroup;
mod kernel;
mod lines;
mod maps;
mod modules;
mod process;
mod user;

pub use build_ids::{BuildIdEntry, BuildIds};
pub use kernel::{Kernel, KernelText};
pub use process::Processes;

use crate::record::{
    Attr, AttrFlags, Body, ByteOrder, EncodeError, Encoder, LayoutError, Misc, SampleId, SampleType, Tid,
};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The bits of [`Misc`] for the kernel (`PERF_RECORD_MISC_KERNEL`).
const MISC_KERNEL: Misc = Misc::from_bits_retain(1);
/// For user space (`PERF_RECORD_MISC_USER`).
const MISC_USER: Misc = Misc::from_bits_retain(2);

/// Why records are not made any more.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SynthesizeError<E> {
    /// The one who takes the records does not.
    #[error("the records cannot be handed on")]
    Out(#[source] E),
    /// A file of procfs or sysfs cannot be read, for another reason than that the task is gone or another's.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It would be no record: of what the caller gave only, such as a name that is too long.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl<E> SynthesizeError<E> {
    fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

/// Makes the records of what was there before.
///
/// It holds one record and one line of text at a time; of processes and their threads, the ids.
#[derive(Clone, Debug)]
pub struct Synthesizer {
    to: Emitter,
    records: AttrFlags,
    root: PathBuf,
    line: Vec<u8>,
}

impl Synthesizer {
    /// For a recording whose first event is this: its trailers are those of the records, and its flags say which records there
    /// are, as for the kernel.
    ///
    /// # Errors
    ///
    /// [`LayoutError`]
    pub fn new(attr: &Attr) -> Result<Self, LayoutError> {
        let records = attr.flags;
        let has = |field| records.contains(AttrFlags::SAMPLE_ID_ALL) && attr.sample_type.contains(field);
        let id = SampleId {
            tid: has(SampleType::TID).then_some(Tid { pid: 0, tid: 0 }),
            time: has(SampleType::TIME).then_some(0),
            id: has(SampleType::ID).then_some(0),
            stream_id: has(SampleType::STREAM_ID).then_some(0),
            cpu: has(SampleType::CPU).then_some(0),
            identifier: has(SampleType::IDENTIFIER).then_some(0),
        };
        let encoder = Encoder::new(attr, ByteOrder::NATIVE)?;
        Ok(Self {
            to: Emitter { encoder, id, record: Vec::new() },
            records,
            root: PathBuf::from("/"),
            line: Vec::new(),
        })
    }

    /// Which records there are, if not those of the first event: as when another event of the recording keeps track of tasks.
    ///
    /// - `MMAP2`, else `MMAP`: mappings; with `MMAP_DATA` also those without code, with `BUILD_ID` and `MMAP2` with the build
    ///   ids of their files where there is one, which takes longer
    /// - `COMM`: names of threads
    /// - `TASK`: which thread was started by whom, of [all processes](Self::all_processes)
    /// - `NAMESPACES`: namespaces of threads
    /// - `CGROUP`: cgroups
    ///
    /// The other flags mean nothing here.
    #[must_use]
    pub fn records(mut self, flags: AttrFlags) -> Self {
        self.records = flags;
        self
    }

    /// Where `proc`, `sys` and `lib/modules` are, if not in `/`: in a container, the place where those of the host are
    /// mounted.
    #[must_use]
    pub fn root(mut self, path: impl Into<PathBuf>) -> Self {
        self.root = path.into();
        self
    }

    fn proc(&self) -> PathBuf {
        self.root.join("proc")
    }
}

/// Hands on records, which take turns in one buffer.
#[derive(Clone, Debug)]
struct Emitter {
    encoder: Encoder,
    id: SampleId,
    record: Vec<u8>,
}

impl Emitter {
    fn emit<E>(
        &mut self,
        misc: Misc,
        body: &Body<'_>,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), SynthesizeError<E>> {
        self.record.clear();
        self.encoder.encode(misc, body, &self.id, &mut self.record)?;
        out(&self.record).map_err(SynthesizeError::Out)
    }
}
