//! What the kernel writes, but for samples.

use super::{Fields, Hex, Object, Value, entries, fields, objects};
use crate::record::{
    AuxFlags, Body, BuildId, Callchain, CallchainDeferred, CounterValue, MappedFile, Namespace, Namespaces, Read,
    ReadValues, TextPoke,
};
use serde::ser::{Serialize, SerializeMap, Serializer};

fields! {
    TextPoke<'_>: addr old new;
    CallchainDeferred<'_>: cookie callchain;
    CounterValue: value id lost;
    Namespace: dev inode;
}

/// An array of the addresses and markers.
impl Serialize for Callchain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.words().serialize(serializer)
    }
}

/// The number.
impl Serialize for AuxFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.bits())
    }
}

/// A string of hexadecimal digits.
impl Serialize for BuildId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Hex(self.as_bytes()).serialize(serializer)
    }
}

entries! { Callchain<'_> AuxFlags }

impl Fields for MappedFile {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        match *self {
            Self::Inode { maj, min, ino, ino_generation } => {
                to.entry("maj", &maj)?;
                to.entry("min", &min)?;
                to.entry("ino", &ino)?;
                to.entry("ino_generation", &ino_generation)
            }
            Self::BuildId(id) => to.entry("build_id", &id),
        }
    }
}

/// Its fields are those of the record.
impl Value for MappedFile {
    fn put<M: SerializeMap>(&self, _: &'static str, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        self.fields(to)
    }
}

struct Link(Option<&'static str>, Namespace);

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        super::object(self, serializer)
    }
}

impl Fields for Link {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry_if("name", self.0)?;
        self.1.fields(to)
    }
}

struct Links<'a>(&'a Namespaces<'a>);

impl Serialize for Links<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = Namespaces::NAMES.into_iter().map(Some).chain(std::iter::repeat(None));
        serializer.collect_seq(names.zip(self.0.iter()).map(|(name, link)| Link(name, link)))
    }
}

impl Fields for Namespaces<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry("pid", &self.pid)?;
        to.entry("tid", &self.tid)?;
        to.entry("link_info", &Links(self))
    }
}

struct Counters<'a>(&'a ReadValues<'a>);

impl Serialize for Counters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

impl Fields for ReadValues<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry_if("time_enabled", self.time_enabled())?;
        to.entry_if("time_running", self.time_running())?;
        to.entry("values", &Counters(self))
    }
}

impl Fields for Read<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry("pid", &self.pid)?;
        to.entry("tid", &self.tid)?;
        self.values.fields(to)
    }
}

impl Fields for Body<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        match self {
            Self::Mmap(body) => body.fields(to),
            Self::Lost(body) => body.fields(to),
            Self::Comm(body) => body.fields(to),
            Self::Exit(body) | Self::Fork(body) => body.fields(to),
            Self::Throttle(body) | Self::Unthrottle(body) => body.fields(to),
            Self::Read(body) => body.fields(to),
            Self::Sample(body) => Fields::fields(body, to),
            Self::Mmap2(body) => body.fields(to),
            Self::Aux(body) => body.fields(to),
            Self::ItraceStart(body) => body.fields(to),
            Self::LostSamples(body) => body.fields(to),
            Self::Switch(body) => body.fields(to),
            Self::SwitchCpuWide(body) => body.fields(to),
            Self::Namespaces(body) => body.fields(to),
            Self::Ksymbol(body) => body.fields(to),
            Self::BpfEvent(body) => body.fields(to),
            Self::Cgroup(body) => body.fields(to),
            Self::TextPoke(body) => body.fields(to),
            Self::AuxOutputHwId(body) => body.fields(to),
            Self::CallchainDeferred(body) => body.fields(to),
            Self::User(body) => body.fields(to),
            Self::Unknown(bytes) => to.entry("body", &Hex(bytes)),
        }
    }
}

objects! {
    MappedFile: "`maj`, `min`, `ino` and `ino_generation`, or `build_id`."
    Namespaces<'_>: "`pid`, `tid` and `link_info`, an array of objects of `name`, `dev` and `inode`."
    ReadValues<'_>: "`time_enabled` and `time_running`, if they are there, and `values`, an array."
    Read<'_>: "`pid`, `tid`, and the fields of the values."
    Body<'_>: "The fields, as in the object of a [`Decoded`](crate::record::Decoded), but under their uapi names."
}
