//! What `perf` writes.

use super::{Fields, Hex, Object, Value, entries, fields, name_or, objects};
use crate::record::user::{
    AuxtraceError, AuxtraceGuest, AuxtraceInfo, AuxtraceType, BpfMetadata, BpfMetadataEntry, Compressed, Compressed2,
    CpuCounters, CpuMap, EventUpdate, HeaderAttr, HeaderBuildId, HeaderEventType, HeaderFeature, HeaderTracingData,
    IdIndex, Scale, SchedstatCpu, SchedstatDomain, StatConfig, ThreadMap, ThreadMapEntry, TimeConv, TimeConvShort,
    Update, User,
};
use serde::ser::{Serialize, SerializeMap, Serializer};

fields! {
    HeaderAttr<'_>: attr ids;
    HeaderEventType<'_>: event_id name;
    HeaderTracingData: size;
    HeaderBuildId<'_>: pid build_id filename;
    HeaderFeature<'_>: feat_id data;
    IdIndex<'_>: entries guests;
    AuxtraceInfo<'_>: type_ priv_;
    AuxtraceError<'_>: type_ code cpu pid tid fmt ip time msg guest;
    ThreadMap<'_>: entries;
    ThreadMapEntry<'_>: pid comm;
    StatConfig<'_>: data;
    TimeConv: time_shift time_mult time_zero short;
    Compressed<'_>: data;
    Compressed2<'_>: data;
    BpfMetadata<'_>: prog_name entries id_sample;
    BpfMetadataEntry<'_>: key value;
    SchedstatCpu<'_>: timestamp cpu version counters;
}

entries! { AuxtraceType }

/// The name without `PERF_AUXTRACE_`; a number that has none.
impl Serialize for AuxtraceType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        name_or(self.name(), self.0, serializer)
    }
}

/// The last fields of a record, which not all of them have.
macro_rules! last_fields {
    ($($type:ty)+) => {
        $(
            impl Value for $type {
                fn put<M: SerializeMap>(&self, _: &'static str, to: &mut Object<'_, M>) -> Result<(), M::Error> {
                    self.fields(to)
                }
            }
        )+
    };
}
last_fields! { TimeConvShort AuxtraceGuest }

impl Value for CpuCounters<'_> {
    fn put<M: SerializeMap>(&self, name: &'static str, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        match self {
            Self::V15(counters) => counters.fields(to),
            Self::Other(bytes) => to.entry(name, &Hex(bytes)),
        }
    }
}

impl Fields for SchedstatDomain<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry("timestamp", &self.timestamp)?;
        to.entry("cpu", &self.cpu)?;
        to.entry("version", &self.version)?;
        to.entry("domain", &self.domain)?;
        match self.named() {
            Some(mut named) => named.try_for_each(|(name, counter)| to.entry(name, &counter)),
            None => to.entry("counters", &self.counters),
        }
    }
}

impl Fields for CpuMap<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        match self {
            Self::Cpus(cpus) => {
                to.entry("type", "CPUS")?;
                to.entry("cpu", cpus)
            }
            Self::Mask32(mask) => {
                to.entry("type", "MASK")?;
                to.entry("long_size", &4)?;
                to.entry("mask", mask)
            }
            Self::Mask64(mask) => {
                to.entry("type", "MASK")?;
                to.entry("long_size", &8)?;
                to.entry("mask", mask)
            }
            Self::Range { any_cpu, start_cpu, end_cpu } => {
                to.entry("type", "RANGE_CPUS")?;
                to.entry("any_cpu", any_cpu)?;
                to.entry("start_cpu", start_cpu)?;
                to.entry("end_cpu", end_cpu)
            }
            Self::Other { type_, data } => {
                to.entry("type", type_)?;
                to.entry("data", &Hex(data))
            }
        }
    }
}

/// The number, if it is finite; else an object `{"bits": NUMBER}`.
impl Serialize for Scale {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.get() {
            scale if scale.is_finite() => serializer.serialize_f64(scale),
            _ => serializer.collect_map([("bits", self.0)]),
        }
    }
}

impl Fields for EventUpdate<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        match self.update {
            Update::Unit(_) => to.entry("type", "UNIT"),
            Update::Scale(_) => to.entry("type", "SCALE"),
            Update::Name(_) => to.entry("type", "NAME"),
            Update::Cpus(_) => to.entry("type", "CPUS"),
            Update::Other { type_, .. } => to.entry("type", &type_),
        }?;
        to.entry("id", &self.id)?;
        match self.update {
            Update::Unit(text) => to.entry("unit", &text),
            Update::Scale(scale) => to.entry("scale", &scale),
            Update::Name(text) => to.entry("name", &text),
            Update::Cpus(cpus) => to.entry("cpus", &cpus),
            Update::Other { data, .. } => to.entry("data", &Hex(data)),
        }
    }
}

impl Fields for User<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        match self {
            Self::HeaderAttr(record) => record.fields(to),
            Self::HeaderEventType(record) => record.fields(to),
            Self::HeaderTracingData(record) => record.fields(to),
            Self::HeaderBuildId(record) => record.fields(to),
            Self::FinishedRound | Self::FinishedInit => Ok(()),
            Self::IdIndex(record) => record.fields(to),
            Self::AuxtraceInfo(record) => record.fields(to),
            Self::Auxtrace(record) => record.fields(to),
            Self::AuxtraceError(record) => record.fields(to),
            Self::ThreadMap(record) => record.fields(to),
            Self::CpuMap(record) => record.fields(to),
            Self::StatConfig(record) => record.fields(to),
            Self::Stat(record) => record.fields(to),
            Self::StatRound(record) => record.fields(to),
            Self::EventUpdate(record) => record.fields(to),
            Self::TimeConv(record) => record.fields(to),
            Self::HeaderFeature(record) => record.fields(to),
            Self::Compressed(record) => record.fields(to),
            Self::Compressed2(record) => record.fields(to),
            Self::BpfMetadata(record) => record.fields(to),
            Self::SchedstatCpu(record) => record.fields(to),
            Self::SchedstatDomain(record) => record.fields(to),
        }
    }
}

objects! {
    SchedstatDomain<'_>: "The fields, and the counters by name; if the version is not known, as the array `counters`."
    CpuMap<'_>: "`type`, and by it `cpu`, `long_size` and `mask`, `any_cpu`, `start_cpu` and `end_cpu`, or `data`."
    EventUpdate<'_>: "`type`, `id`, and by the type `unit`, `scale`, `name`, `cpus` or `data`."
    User<'_>: "The fields, as in the object of a [`Decoded`](crate::record::Decoded), but under their uapi names."
}
