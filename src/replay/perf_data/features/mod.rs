//! The feature sections of a recording: what it says of the machine, the events and itself.
//!
//! A section is the same in a file, whose header names it, and in a stream, where it is the data of a
//! [`HeaderFeature`](crate::record::user::HeaderFeature).

mod bpf;
mod cpu;
mod display;
mod event;
mod items;
mod memory;
mod recording;

pub use bpf::{BpfBtf, BpfProgInfo};
pub use cpu::{Cache, CpuDomain, CpuDomainInfo, CpuDomains, CpuPlace, CpuTopology, EMachine, HybridPmu, NrCpus};
pub use event::{EventDesc, GroupDesc, PmuCap, PmuCaps, PmuMapping};
pub use memory::{MemTopology, MemoryNode, NumaNode};
pub use recording::{AuxtraceIndexEntry, BuildIdEntry, ClockData, Compressed, SampleTime};

use crate::record::bytes::{Cursor, Writer};
use crate::record::{ByteOrder, Defect, DefectKind, EncodeError, Text};
use crate::replay::perf_data::FeatureId;
use items::Item;
use thiserror::Error;

/// A feature section, decoded. Text and data are lent from the section; lists take memory by the bytes that they have there,
/// whatever their count says.
///
/// Layouts are those of `perf.data-file-format.txt` of perf, as perf writes them.
///
/// ```
/// use perfring::record::ByteOrder;
/// use perfring::replay::perf_data::{Feature, FeatureId, features::NrCpus};
///
/// let section = [8, 0, 0, 0, 6, 0, 0, 0];
/// let feature = Feature::decode(FeatureId::NRCPUS, &section, ByteOrder::Little)?;
/// assert_eq!(feature, Feature::NrCpus(NrCpus { available: 8, online: 6 }));
/// assert_eq!(feature.to_string(), "CPUs: 6 online, 8 available");
///
/// let mut again = Vec::new();
/// feature.encode(ByteOrder::Little, &mut again)?;
/// assert_eq!(again, section);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature<'a> {
    /// The formats of tracepoints, as `trace.dat` files have them.
    TracingData(&'a [u8]),
    /// The build ids of the files that were mapped.
    BuildId(Vec<BuildIdEntry<'a>>),
    /// The name of the machine.
    Hostname(Text<'a>),
    /// The kernel's release.
    OsRelease(Text<'a>),
    /// The version of the recorder.
    Version(Text<'a>),
    /// The machine's architecture, as `uname -m` has it.
    Arch(Text<'a>),
    /// How many CPUs there are.
    NrCpus(NrCpus),
    /// The CPU in words.
    CpuDesc(Text<'a>),
    /// The CPU as numbers: on x86 vendor, family, model and stepping.
    CpuId(Text<'a>),
    /// The memory, in KiB.
    TotalMem(u64),
    /// The command that recorded, and its arguments.
    Cmdline(Vec<Text<'a>>),
    /// The events.
    EventDesc(Vec<EventDesc<'a>>),
    /// Which CPUs share a core, a die, a socket.
    CpuTopology(CpuTopology<'a>),
    /// The nodes of memory.
    NumaTopology(Vec<NumaNode<'a>>),
    /// Samples have branch stacks. There is nothing in the section.
    BranchStack,
    /// The names of the PMUs.
    PmuMappings(Vec<PmuMapping<'a>>),
    /// The groups of events that have more than one.
    GroupDesc(Vec<GroupDesc<'a>>),
    /// Where the data of the AUX area are.
    Auxtrace(Vec<AuxtraceIndexEntry>),
    /// It is the recording of counters. There is nothing in the section.
    Stat,
    /// The caches.
    Cache(Vec<Cache<'a>>),
    /// The times of the first and the last sample.
    SampleTime(SampleTime),
    /// Which blocks of memory are whose.
    MemTopology(MemTopology<'a>),
    /// The resolution of the clock of the times, in nanoseconds.
    ClockId(u64),
    /// The recording is a directory: the version of its layout, 1.
    DirFormat(u64),
    /// BPF programs.
    BpfProgInfo(Vec<BpfProgInfo<'a>>),
    /// Types of BPF programs.
    BpfBtf(Vec<BpfBtf<'a>>),
    /// How records are compressed.
    Compressed(Compressed),
    /// What the PMU `cpu` can do.
    CpuPmuCaps(Vec<PmuCap<'a>>),
    /// What the clock of the times showed at a time of day.
    ClockData(ClockData),
    /// Which CPUs are of which kind.
    HybridTopology(Vec<HybridPmu<'a>>),
    /// What other PMUs can do.
    PmuCaps(Vec<PmuCaps<'a>>),
    /// The scheduler's domains of each CPU.
    CpuDomainInfo(CpuDomainInfo<'a>),
    /// The machine that programs are compiled for.
    EMachine(EMachine),
    /// Bytes in a line of the cache.
    ClnSize(u32),
    /// A feature that is not known.
    Unknown {
        /// Which one.
        id: FeatureId,
        /// The section.
        bytes: &'a [u8],
    },
}

/// A feature section that cannot be decoded: which one, where in it, and why.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{feature} section, byte {offset}, {field}: {kind}")]
pub struct FeatureError {
    /// The feature.
    pub feature: FeatureId,
    /// Where in the section.
    pub offset: usize,
    /// perf's name of the field.
    pub field: &'static str,
    /// What is wrong.
    pub kind: DefectKind,
}

/// Reads a section from its start.
fn read<'a, T>(
    feature: FeatureId,
    section: &'a [u8],
    order: ByteOrder,
    get: impl FnOnce(&mut Cursor<'a>) -> Result<T, Defect>,
) -> Result<T, FeatureError> {
    get(&mut Cursor::new(section, order)).map_err(|Defect { offset, field, kind }| FeatureError {
        feature,
        offset,
        field,
        kind,
    })
}

/// Says once which variant is which feature.
macro_rules! features {
    (
        empty { $($empty:ident $empty_id:ident;)+ }
        items { $($item:ident $item_id:ident $name:literal;)+ }
        own { $($own:ident $own_id:ident $get:expr, $put:expr;)+ }
    ) => {
        impl<'a> Feature<'a> {
            /// Decodes the section of a feature. Bytes behind the last field that is known, which a newer perf has written, are
            /// ignored.
            ///
            /// # Errors
            ///
            /// [`FeatureError`]; a feature that is not known is no error, but [`Feature::Unknown`].
            pub fn decode(id: FeatureId, section: &'a [u8], order: ByteOrder) -> Result<Self, FeatureError> {
                read(id, section, order, |from| Ok(match id {
                    $(FeatureId::$empty_id => Self::$empty,)+
                    $(FeatureId::$item_id => Self::$item(Item::get(from, $name)?),)+
                    $(FeatureId::$own_id => Self::$own($get(from)?),)+
                    FeatureId::TRACING_DATA => Self::TracingData(section),
                    _ => Self::Unknown { id, bytes: section },
                }))
            }

            /// Writes the section behind what `out` holds.
            ///
            /// # Errors
            ///
            /// [`EncodeError`]; `out` is as it was then.
            pub fn encode(&self, order: ByteOrder, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                let mut to = Writer::new(out, order);
                let written = match self {
                    $(Self::$empty => Ok(()),)+
                    $(Self::$item(item) => item.put(&mut to, $name),)+
                    $(Self::$own(own) => $put(own, &mut to),)+
                    Self::TracingData(bytes) | Self::Unknown { bytes, .. } => {
                        to.bytes(bytes);
                        Ok(())
                    }
                };
                if written.is_err() {
                    to.undo();
                }
                written
            }

            /// Which feature it is.
            pub fn id(&self) -> FeatureId {
                match self {
                    $(Self::$empty => FeatureId::$empty_id,)+
                    $(Self::$item(_) => FeatureId::$item_id,)+
                    $(Self::$own(_) => FeatureId::$own_id,)+
                    Self::TracingData(_) => FeatureId::TRACING_DATA,
                    Self::Unknown { id, .. } => *id,
                }
            }
        }
    };
}

features! {
    empty {
        BranchStack BRANCH_STACK;
        Stat STAT;
    }
    items {
        Hostname HOSTNAME "hostname";
        OsRelease OSRELEASE "osrelease";
        Version VERSION "version";
        Arch ARCH "arch";
        NrCpus NRCPUS "nrcpus";
        CpuDesc CPUDESC "cpudesc";
        CpuId CPUID "cpuid";
        TotalMem TOTAL_MEM "total_mem";
        Cmdline CMDLINE "cmdline";
        NumaTopology NUMA_TOPOLOGY "nodes";
        PmuMappings PMU_MAPPINGS "pmus";
        GroupDesc GROUP_DESC "groups";
        SampleTime SAMPLE_TIME "sample_time";
        ClockId CLOCKID "clockid";
        DirFormat DIR_FORMAT "version";
        BpfProgInfo BPF_PROG_INFO "bpf_prog_info";
        BpfBtf BPF_BTF "bpf_btf";
        Compressed COMPRESSED "compressed";
        CpuPmuCaps CPU_PMU_CAPS "caps";
        ClockData CLOCK_DATA "clock_data";
        HybridTopology HYBRID_TOPOLOGY "pmus";
        PmuCaps PMU_CAPS "pmus";
        EMachine E_MACHINE "e_machine";
        ClnSize CLN_SIZE "cln_size";
    }
    own {
        BuildId BUILD_ID recording::get_build_ids, |entries: &Vec<_>, to| recording::put_build_ids(entries, to);
        EventDesc EVENT_DESC event::get_events, |events: &Vec<_>, to| event::put_events(events, to);
        CpuTopology CPU_TOPOLOGY |from| CpuTopology::get(from, None), CpuTopology::put;
        Auxtrace AUXTRACE get_auxtrace, |entries: &Vec<_>, to| put_auxtrace(entries, to);
        Cache CACHE cpu::get_caches, cpu::put_caches;
        MemTopology MEM_TOPOLOGY MemTopology::get, MemTopology::put;
        CpuDomainInfo CPU_DOMAIN_INFO CpuDomainInfo::get, CpuDomainInfo::put;
    }
}

/// The entries of the index, whose count has 64 bits.
fn get_auxtrace(from: &mut Cursor<'_>) -> Result<Vec<AuxtraceIndexEntry>, Defect> {
    let count = from.int("nr")?;
    items::get_list(from, count, "entries")
}

fn put_auxtrace(entries: &[AuxtraceIndexEntry], to: &mut Writer<'_>) -> Result<(), EncodeError> {
    to.int(entries.len() as u64);
    items::put_list(to, entries, "entries")
}
