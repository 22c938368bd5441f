//! `EVENT_UPDATE`.

use super::cpu_map::CpuMap;
use crate::record::bytes::{Cursor, Field, Writer};
use crate::record::{Defect, EncodeError, Text};

/// `EVENT_UPDATE`: what is known of an event beyond its attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventUpdate<'a> {
    /// One of the event's ids.
    pub id: u64,
    /// What is known.
    pub update: Update<'a>,
}

/// What an [`EventUpdate`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update<'a> {
    /// The unit of the counter's values (`PERF_EVENT_UPDATE__UNIT`).
    Unit(Text<'a>),
    /// By what the counter's values are multiplied to be in that unit (`PERF_EVENT_UPDATE__SCALE`).
    Scale(Scale),
    /// The event's name (`PERF_EVENT_UPDATE__NAME`).
    Name(Text<'a>),
    /// The CPUs on which it is open (`PERF_EVENT_UPDATE__CPUS`).
    Cpus(CpuMap<'a>),
    /// Something that this crate does not know.
    Other {
        /// `PERF_EVENT_UPDATE__*`.
        type_: u64,
        /// The rest of the record.
        data: &'a [u8],
    },
}

/// A floating point number by its bits, so that records can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scale(pub u64);

impl Scale {
    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl From<f64> for Scale {
    fn from(scale: f64) -> Self {
        Self(scale.to_bits())
    }
}

const UNIT: u64 = 0;
const SCALE: u64 = 1;
const NAME: u64 = 2;
const CPUS: u64 = 3;

impl<'a> Field<'a> for EventUpdate<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let type_ = from.int("type")?;
        let id = from.int("id")?;
        let update = match type_ {
            UNIT => Update::Unit(Field::get(from, "unit")?),
            SCALE => Update::Scale(Scale(from.int("scale")?)),
            NAME => Update::Name(Field::get(from, "name")?),
            CPUS => Update::Cpus(Field::get(from, "cpus")?),
            type_ => Update::Other { type_, data: from.take(from.rest().len() as u64, "data")? },
        };
        Ok(Self { id, update })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        let type_ = match self.update {
            Update::Unit(_) => UNIT,
            Update::Scale(_) => SCALE,
            Update::Name(_) => NAME,
            Update::Cpus(_) => CPUS,
            Update::Other { type_: UNIT | SCALE | NAME | CPUS, .. } => {
                return Err(EncodeError::Shape { field: "type", what: "a kind that has a variant of its own" });
            }
            Update::Other { type_, .. } => type_,
        };
        to.int(type_);
        to.int(self.id);
        match self.update {
            Update::Unit(text) => text.put(to, "unit"),
            Update::Scale(scale) => scale.0.put(to, "scale"),
            Update::Name(text) => text.put(to, "name"),
            Update::Cpus(cpus) => cpus.put(to, "cpus"),
            Update::Other { data, .. } => {
                to.bytes(data);
                Ok(())
            }
        }
    }
}
