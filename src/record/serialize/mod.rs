//! Records as data of serde.

mod attr;
mod kernel;
mod sample;
mod user;

use crate::record::user::{Array, ArrayItem};
use crate::record::{Arch, Decoded, Header, RecordType, SampleId, Text, Tid, Words};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use std::fmt;

/// An object while its entries are written.
pub(crate) struct Object<'a, M> {
    map: &'a mut M,
    /// The record that the object is, if it is one as a whole.
    record: Option<RecordType>,
    /// Whose registers samples hold.
    arch: Option<Arch>,
}

impl<M: SerializeMap> Object<'_, M> {
    fn entry<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), M::Error> {
        let name = self.record.map_or(name, |record| key(record, name));
        self.map.serialize_entry(name, value)
    }

    fn entry_if<T: Serialize>(&mut self, name: &'static str, value: Option<T>) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.entry(name, &value))
    }

    fn tid(&mut self, tid: Option<Tid>) -> Result<(), M::Error> {
        self.entry_if("pid", tid.map(|tid| tid.pid))?;
        self.entry_if("tid", tid.map(|tid| tid.tid))
    }
}

/// The key of a field in the object of a whole record, where those of the header have their names already.
fn key(record: RecordType, name: &'static str) -> &'static str {
    match (name, record) {
        ("type", RecordType::BPF_EVENT) => "bpf_event_type",
        ("type", RecordType::AUXTRACE_INFO) => "auxtrace_info_type",
        ("type", RecordType::AUXTRACE_ERROR) => "auxtrace_error_type",
        ("type", RecordType::CPU_MAP) => "cpu_map_type",
        ("type", RecordType::STAT_ROUND) => "stat_round_type",
        ("type", RecordType::EVENT_UPDATE) => "event_update_type",
        ("size", RecordType::AUXTRACE) => "auxtrace_size",
        ("size", RecordType::HEADER_TRACING_DATA) => "header_tracing_data_size",
        _ => name,
    }
}

/// What has named fields.
pub(crate) trait Fields {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error>;
}

/// An object of the fields alone.
pub(crate) fn object<S: Serializer>(fields: &impl Fields, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    fields.fields(&mut Object { map: &mut map, record: None, arch: None })?;
    map.end()
}

/// How the value of a field stands in an object: as an entry, as several, or not at all.
pub(crate) trait Value {
    fn put<M: SerializeMap>(&self, name: &'static str, to: &mut Object<'_, M>) -> Result<(), M::Error>;
}

/// Values that are entries.
macro_rules! entries {
    ($($type:ty)+) => {
        $(
            impl $crate::record::serialize::Value for $type {
                fn put<M: ::serde::ser::SerializeMap>(
                    &self,
                    name: &'static str,
                    to: &mut $crate::record::serialize::Object<'_, M>,
                ) -> Result<(), M::Error> {
                    to.entry(name, self)
                }
            }
        )+
    };
}
use entries;
entries! { u8 u16 u32 u64 i32 Text<'_> Words<'_> }

impl<'a, T: ArrayItem<'a> + Serialize> Value for Array<'a, T> {
    fn put<M: SerializeMap>(&self, name: &'static str, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry(name, self)
    }
}

impl<const N: usize> Value for [u8; N] {
    fn put<M: SerializeMap>(&self, name: &'static str, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry(name, &Hex(self))
    }
}

impl Value for &[u8] {
    fn put<M: SerializeMap>(&self, name: &'static str, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry(name, &Hex(self))
    }
}

impl<T: Value> Value for Option<T> {
    fn put<M: SerializeMap>(&self, name: &'static str, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        self.as_ref().map_or(Ok(()), |value| value.put(name, to))
    }
}

/// Structs whose fields are their entries, all of them in the order that is given here.
macro_rules! fields {
    ($($type:ty: $($field:ident)*;)+) => {
        $(
            impl $crate::record::serialize::Fields for $type {
                fn fields<M: ::serde::ser::SerializeMap>(
                    &self,
                    to: &mut $crate::record::serialize::Object<'_, M>,
                ) -> Result<(), M::Error> {
                    $($crate::record::serialize::Value::put(
                        &self.$field,
                        const { $crate::record::bytes::field_name(stringify!($field)) },
                        to,
                    )?;)*
                    Ok(())
                }
            }

            $crate::record::serialize::objects! { $type: "The fields, under their uapi names." }
        )+
    };
}
use fields;

/// What has fields is an object of them.
macro_rules! objects {
    ($($type:ty: $doc:literal)+) => {
        $(
            #[doc = $doc]
            impl ::serde::Serialize for $type {
                fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    $crate::record::serialize::object(self, serializer)
                }
            }
        )+
    };
}
pub(crate) use objects;

/// Bytes in lower-case hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [[0; 2]; 64];
        for bytes in self.0.chunks(text.len()) {
            for (two, byte) in text.iter_mut().zip(bytes) {
                *two = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
            }
            let text = text.get(..bytes.len()).unwrap_or_default().as_flattened();
            f.write_str(std::str::from_utf8(text).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A name, or a number that has none.
fn name_or<S: Serializer>(
    name: Option<&'static str>,
    number: impl Into<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match name {
        Some(name) => serializer.serialize_str(name),
        None => serializer.serialize_u64(number.into()),
    }
}

/// The names of the flags that are set, and behind them the other bits as one number, if there are any.
struct FlagNames<F>(F);

impl<F: bitflags::Flags<Bits: Into<u64>>> FlagNames<F> {
    /// With each name as `show` has it.
    fn serialize_as<S: Serializer, T: Serialize>(
        &self,
        show: impl Fn(&'static str) -> T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        let mut names = self.0.iter_names();
        for (name, _) in names.by_ref() {
            seq.serialize_element(&show(name))?;
        }
        match names.remaining().bits().into() {
            0 => {}
            others => seq.serialize_element(&others)?,
        }
        seq.end()
    }
}

impl<F: bitflags::Flags<Bits: Into<u64>>> Serialize for FlagNames<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_as(|name| name, serializer)
    }
}

/// A string; an object `{"bytes": HEX}` where it is not UTF-8.
impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.collect_map([("bytes", Hex(self.as_bytes()))]),
        }
    }
}

/// An array of numbers.
impl Serialize for Words<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// An array.
impl<'a, T: ArrayItem<'a> + Serialize> Serialize for Array<'a, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// The uapi name without `PERF_RECORD_`; of a type that is not known the number.
impl Serialize for RecordType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        name_or(self.name(), self.0, serializer)
    }
}

impl Fields for Header {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry("type", &self.type_)?;
        to.entry("misc", &self.misc.bits())?;
        to.entry("size", &self.size)
    }
}

impl Fields for SampleId {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.tid(self.tid)?;
        to.entry_if("time", self.time)?;
        to.entry_if("id", self.id)?;
        to.entry_if("stream_id", self.stream_id)?;
        to.entry_if("cpu", self.cpu)?;
        to.entry_if("identifier", self.identifier)
    }
}

objects! {
    Header: "`type`, the uapi name without `PERF_RECORD_` or a number that has no name; the number `misc`; and `size`."
    SampleId: "Those of `pid`, `tid`, `time`, `id`, `stream_id`, `cpu` and `identifier` that are there."
}

/// One object for a record, of whatever type: meant for formats that say what they hold, such as JSON.
///
/// | key | value |
/// |---|---|
/// | `type` | the uapi name without `PERF_RECORD_`; of a type that is not known the number |
/// | `misc`, `size` | the numbers of the header |
/// | the fields | under their uapi names, in the order in which they stand in the record |
/// | `sample_id` | of records that are no samples: the trailer, an object of those of `pid`, `tid`, `time`, `id`, `stream_id`, `cpu` and `identifier` that are there; left out if there are none |
/// | `rest` | [`Decoded::rest`]; left out if there is none |
///
/// Numbers are numbers, also where they are addresses or flags; they can need all of 64 bits. Bytes are a string of
/// lower-case hexadecimal digits. Text is a string, and where it is not UTF-8 an object `{"bytes": HEX}`. Fields that
/// are not in the record are left out. Counts of what is an array here, and what fills up a record, are left out, too.
///
/// - A field that the uapi calls `type` or `size` has the name of the record before it: `bpf_event_type`,
///   `auxtrace_info_type`, `auxtrace_error_type`, `cpu_map_type`, `stat_round_type`, `event_update_type`,
///   `auxtrace_size`, `header_tracing_data_size`.
/// - Samples: `pid` and `tid` are keys of their own. `callchain` is an array of addresses and markers, `raw` and `aux`
///   are bytes. `weight` is the weight, of `WEIGHT_STRUCT` the first, beside which `var2_w` and `var3_w` stand.
/// - `read`: an object of `time_enabled`, `time_running` and `values`, an array of objects of `value`, `id` and `lost`.
///   In the record `READ` those three stand beside `pid` and `tid`.
/// - `branch_stack`: an array of objects, of `from`, `to` and the bit fields of `struct perf_branch_entry`: numbers,
///   but `mispred`, `predicted`, `in_tx` and `abort`, which are true or false; with `counters`, if they were asked for.
///   `hw_idx` stands beside the array.
/// - `regs_user`, `regs_intr`: an object of `abi`, `mask`, and the array `values`, from the lowest bit of the mask up.
///   Where it is [known](Decoded::arch) whose registers they are, there is instead of `values` the object `registers`
///   of values by name; those without a name have the number of their bit, and the high half of `xmm0` is `xmm0_high`.
/// - `stack_user`: an object of `size`, how many bytes there was room for; `dyn_size`, how many were really copied; and
///   `data`, all of the former.
/// - `data_src`: an object of `val`, the number, and those of the fields of `union perf_mem_data_src` that are not 0:
///   names, or arrays of names, without their prefixes; a number stands for what has no name.
/// - `MMAP2`: either `maj`, `min`, `ino` and `ino_generation`, or `build_id`. `NAMESPACES`: `link_info`, an array of
///   objects of `name`, if it is known, `dev` and `inode`. `TEXT_POKE`: the bytes `old` and `new`.
/// - `HEADER_ATTR`: `attr`, as an [`Attr`](crate::record::Attr), and `ids`. `ID_INDEX`: the arrays `entries` and, if
///   there, `guests`.
/// - `CPU_MAP`: by `cpu_map_type` the array `cpu` (`CPUS`), `long_size` and the array `mask` (`MASK`), or `any_cpu`,
///   `start_cpu` and `end_cpu` (`RANGE_CPUS`). `EVENT_UPDATE`: by `event_update_type` `unit`, `scale`, `name`, or
///   `cpus`, an object as that of a `CPU_MAP`, with `type`. Of others the type is a number, and `data` are the bytes. A
///   `scale` that is not finite is an object `{"bits": NUMBER}`.
/// - `SCHEDSTAT_CPU`, `SCHEDSTAT_DOMAIN`: the counters by their names; of a version that is not known `counters`:
///   bytes, or an array.
/// - A record of a type that is not known: `body`, the bytes behind the header, those of a trailer included.
///
/// ```
/// use perfring::record::{Attr, AttrFlags, Body, ByteOrder, Comm, Decoder, Encoder, Misc, SampleId, SampleType};
///
/// let attr = Attr { sample_type: SampleType::TIME, flags: AttrFlags::SAMPLE_ID_ALL, ..Attr::default() };
/// let (id, comm) = (SampleId { time: Some(5), ..SampleId::default() }, Comm { pid: 7, tid: 8, comm: "cat".into() });
/// let mut record = Vec::new();
/// Encoder::new(&attr, ByteOrder::NATIVE)?.encode(Misc::COMM_EXEC, &Body::Comm(comm), &id, &mut record)?;
///
/// let decoder = Decoder::new(&attr)?;
/// assert_eq!(
///     serde_json::to_string(&decoder.decode(&record)?)?,
///     r#"{"type":"COMM","misc":8192,"size":32,"pid":7,"tid":8,"comm":"cat","sample_id":{"time":5}}"#
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Serialize for Decoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.header.fields(&mut Object { map: &mut map, record: None, arch: None })?;
        self.body.fields(&mut Object { map: &mut map, record: Some(self.header.type_), arch: self.arch() })?;
        if !matches!(self.body, crate::record::Body::Sample(_)) {
            let id = self.sample_id();
            if id != SampleId::default() {
                map.serialize_entry("sample_id", &id)?;
            }
        }
        if !self.rest().is_empty() {
            map.serialize_entry("rest", &Hex(self.rest()))?;
        }
        map.end()
    }
}
