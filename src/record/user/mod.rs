//! The records that `perf` itself writes into its files: types 64 to 86.
//!
//! Their layouts are those of libperf's `perf/event.h`. As everywhere here, they borrow what they hold.

mod array;
mod auxtrace;
mod bpf_metadata;
mod compressed;
mod cpu_map;
mod event_update;
mod header;
mod id_index;
mod schedstat;
mod stat;
#[cfg(test)]
mod tests;
mod thread_map;
mod time_conv;

pub use array::{Array, ArrayItem, ArrayIter};
pub use auxtrace::{Auxtrace, AuxtraceError, AuxtraceGuest, AuxtraceInfo, AuxtraceType};
pub use bpf_metadata::{BpfMetadata, BpfMetadataEntry};
pub use compressed::{Compressed, Compressed2};
pub use cpu_map::{CpuMap, Cpus};
pub use event_update::{EventUpdate, Scale, Update};
pub use header::{HeaderAttr, HeaderBuildId, HeaderEventType, HeaderFeature, HeaderTracingData};
pub use id_index::{IdIndex, IdIndexEntry, IdIndexGuest};
pub use schedstat::{CpuCounters, SchedstatCpu, SchedstatCpuCounters, SchedstatDomain};
pub use stat::{Stat, StatConfig, StatConfigEntry, StatRound};
pub use thread_map::{ThreadMap, ThreadMapEntry};
pub use time_conv::{TimeConv, TimeConvShort};

use crate::record::bytes::{Cursor, Field, Writer};
use crate::record::{Defect, EncodeError, Misc, RecordType};

/// A record that `perf` wrote, rather than the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum User<'a> {
    /// An event's attribute and its ids.
    HeaderAttr(HeaderAttr<'a>),
    /// An event's name; not written any more.
    HeaderEventType(HeaderEventType<'a>),
    /// The formats of tracepoints, whose bytes follow the record.
    HeaderTracingData(HeaderTracingData),
    /// The build id of a file.
    HeaderBuildId(HeaderBuildId<'a>),
    /// Everything up to the round before may be sorted.
    FinishedRound,
    /// Which id belongs to which ring, CPU and thread.
    IdIndex(IdIndex<'a>),
    /// What decodes the data of the AUX area.
    AuxtraceInfo(AuxtraceInfo<'a>),
    /// Data of the AUX area, which follow the record.
    Auxtrace(Auxtrace),
    /// A defect in the data of the AUX area.
    AuxtraceError(AuxtraceError<'a>),
    /// Threads that are observed.
    ThreadMap(ThreadMap<'a>),
    /// CPUs that are observed.
    CpuMap(CpuMap<'a>),
    /// How counters are shown.
    StatConfig(StatConfig<'a>),
    /// A counter's value.
    Stat(Stat),
    /// The end of a round of counters.
    StatRound(StatRound),
    /// What is known of an event beyond its attribute.
    EventUpdate(EventUpdate<'a>),
    /// How the CPU's time becomes that of the records.
    TimeConv(TimeConv),
    /// A feature section of the file header.
    HeaderFeature(HeaderFeature<'a>),
    /// Compressed records.
    Compressed(Compressed<'a>),
    /// All that was there before recording is described.
    FinishedInit,
    /// Compressed records, padded.
    Compressed2(Compressed2<'a>),
    /// What is known of a BPF program.
    BpfMetadata(BpfMetadata<'a>),
    /// Statistics of the scheduler for a CPU.
    SchedstatCpu(SchedstatCpu<'a>),
    /// Statistics of the scheduler for a domain.
    SchedstatDomain(SchedstatDomain<'a>),
}

impl User<'_> {
    /// The record's type.
    pub fn type_(&self) -> RecordType {
        match self {
            Self::HeaderAttr(_) => RecordType::HEADER_ATTR,
            Self::HeaderEventType(_) => RecordType::HEADER_EVENT_TYPE,
            Self::HeaderTracingData(_) => RecordType::HEADER_TRACING_DATA,
            Self::HeaderBuildId(_) => RecordType::HEADER_BUILD_ID,
            Self::FinishedRound => RecordType::FINISHED_ROUND,
            Self::IdIndex(_) => RecordType::ID_INDEX,
            Self::AuxtraceInfo(_) => RecordType::AUXTRACE_INFO,
            Self::Auxtrace(_) => RecordType::AUXTRACE,
            Self::AuxtraceError(_) => RecordType::AUXTRACE_ERROR,
            Self::ThreadMap(_) => RecordType::THREAD_MAP,
            Self::CpuMap(_) => RecordType::CPU_MAP,
            Self::StatConfig(_) => RecordType::STAT_CONFIG,
            Self::Stat(_) => RecordType::STAT,
            Self::StatRound(_) => RecordType::STAT_ROUND,
            Self::EventUpdate(_) => RecordType::EVENT_UPDATE,
            Self::TimeConv(_) => RecordType::TIME_CONV,
            Self::HeaderFeature(_) => RecordType::HEADER_FEATURE,
            Self::Compressed(_) => RecordType::COMPRESSED,
            Self::FinishedInit => RecordType::FINISHED_INIT,
            Self::Compressed2(_) => RecordType::COMPRESSED2,
            Self::BpfMetadata(_) => RecordType::BPF_METADATA,
            Self::SchedstatCpu(_) => RecordType::SCHEDSTAT_CPU,
            Self::SchedstatDomain(_) => RecordType::SCHEDSTAT_DOMAIN,
        }
    }

    /// How many bytes follow the record in a file or stream, before the next record: those of `HEADER_TRACING_DATA` and
    /// `AUXTRACE`.
    pub fn payload(&self) -> u64 {
        match self {
            Self::HeaderTracingData(data) => data.size.into(),
            Self::Auxtrace(data) => data.size,
            _ => 0,
        }
    }
}

/// Reads the body of a record, and steps over what fills up its last field; none if `type_` is not one of `perf`'s, or not
/// known.
pub(crate) fn get_user<'a>(type_: RecordType, misc: Misc, from: &mut Cursor<'a>) -> Option<Result<User<'a>, Defect>> {
    fn get<'a, T: Field<'a>>(from: &mut Cursor<'a>) -> Result<T, Defect> {
        T::get(from, "")
    }
    let user = match type_ {
        RecordType::HEADER_ATTR => get(from).map(User::HeaderAttr),
        RecordType::HEADER_EVENT_TYPE => get(from).map(User::HeaderEventType),
        RecordType::HEADER_TRACING_DATA => get(from).map(User::HeaderTracingData),
        RecordType::HEADER_BUILD_ID => HeaderBuildId::get(from, misc).map(User::HeaderBuildId),
        RecordType::FINISHED_ROUND => Ok(User::FinishedRound),
        RecordType::ID_INDEX => get(from).map(User::IdIndex),
        RecordType::AUXTRACE_INFO => get(from).map(User::AuxtraceInfo),
        RecordType::AUXTRACE => get(from).map(User::Auxtrace),
        RecordType::AUXTRACE_ERROR => get(from).map(User::AuxtraceError),
        RecordType::THREAD_MAP => get(from).map(User::ThreadMap),
        RecordType::CPU_MAP => get(from).map(User::CpuMap),
        RecordType::STAT_CONFIG => get(from).map(User::StatConfig),
        RecordType::STAT => get(from).map(User::Stat),
        RecordType::STAT_ROUND => get(from).map(User::StatRound),
        RecordType::EVENT_UPDATE => get(from).map(User::EventUpdate),
        RecordType::TIME_CONV => get(from).map(User::TimeConv),
        RecordType::HEADER_FEATURE => get(from).map(User::HeaderFeature),
        RecordType::COMPRESSED => get(from).map(User::Compressed),
        RecordType::FINISHED_INIT => Ok(User::FinishedInit),
        RecordType::COMPRESSED2 => get(from).map(User::Compressed2),
        RecordType::BPF_METADATA => get(from).map(User::BpfMetadata),
        RecordType::SCHEDSTAT_CPU => get(from).map(User::SchedstatCpu),
        RecordType::SCHEDSTAT_DOMAIN => get(from).map(User::SchedstatDomain),
        _ => return None,
    };
    from.align();
    Some(user)
}

/// Writes the body of a record. Those of `HEADER_FEATURE` and `COMPRESSED` need not be a multiple of 8 bytes long and must not
/// be filled up; all others are one, unless they hold bytes of forms that are not known.
pub(crate) fn put_user(user: &User<'_>, misc: Misc, to: &mut Writer<'_>) -> Result<(), EncodeError> {
    match user {
        User::HeaderAttr(record) => record.put(to, ""),
        User::HeaderEventType(record) => record.put(to, ""),
        User::HeaderTracingData(record) => record.put(to, ""),
        User::HeaderBuildId(record) => record.put(misc, to),
        User::IdIndex(record) => record.put(to, ""),
        User::AuxtraceInfo(record) => record.put(to, ""),
        User::Auxtrace(record) => record.put(to, ""),
        User::AuxtraceError(record) => record.put(to, ""),
        User::ThreadMap(record) => record.put(to, ""),
        User::CpuMap(record) => record.put(to, ""),
        User::StatConfig(record) => record.put(to, ""),
        User::Stat(record) => record.put(to, ""),
        User::StatRound(record) => record.put(to, ""),
        User::EventUpdate(record) => record.put(to, ""),
        User::TimeConv(record) => record.put(to, ""),
        User::HeaderFeature(record) => record.put(to, ""),
        User::Compressed(record) => record.put(to, ""),
        User::Compressed2(record) => record.put(to, ""),
        User::BpfMetadata(record) => record.put(to, ""),
        User::SchedstatCpu(record) => record.put(to, ""),
        User::SchedstatDomain(record) => record.put(to, ""),
        User::FinishedRound | User::FinishedInit => Ok(()),
    }
}
