//! What is known of the records that programs send.

use super::format::{Format, FormatError};
use crate::bpf::btf::{Btf, BtfError, Kind, Layout, Type, TypeId};
use crate::bpf::elf::Object;
use std::collections::BTreeMap;
use thiserror::Error;

/// What `DTRACE_RECORD` names its variables by.
const PREFIX: &str = "dtrace_record__";

/// What an object says of its records is wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordTypeError {
    /// The types cannot be used.
    #[error("the record {name}: {source}")]
    Btf {
        /// The variable in section `.records`.
        name: String,
        /// Why.
        source: BtfError,
    },
    /// A variable in section `.records` that is not one of `DTRACE_RECORD`.
    #[error("section .records has a variable {name}, which DTRACE_RECORD has not declared")]
    Name {
        /// The variable.
        name: String,
    },
    /// A record of a map that is not there.
    #[error("there is no map {map} for the record {record}")]
    NoMap {
        /// The map.
        map: String,
        /// The type.
        record: String,
    },
    /// A type without fields.
    #[error("the record of map {map} is no struct")]
    NoFields {
        /// The map.
        map: String,
    },
    /// Two types for a map that cannot be told apart by their sizes.
    #[error("records {first} and {second} of map {map} are both sent as {size} bytes, and cannot be told apart")]
    Ambiguous {
        /// The map.
        map: String,
        /// One type.
        first: String,
        /// The other.
        second: String,
        /// Bytes of both, with what fills them up.
        size: usize,
    },
    /// A format that is none, or not of this type.
    #[error("the format of {record}: {source}")]
    Format {
        /// The type.
        record: String,
        /// Why.
        source: FormatError,
    },
    /// A format of a type that no record has.
    #[error("there is a format of {record}, which no map has as a record")]
    NoRecord {
        /// The type.
        record: String,
    },
}

/// A type of records, and how they are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordType {
    layout: Layout,
    format: Option<Format>,
}

impl RecordType {
    /// The struct.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How it is printed, where that was said.
    pub fn format(&self) -> Option<&Format> {
        self.format.as_ref()
    }
}

/// The types of the records that programs send to each map, by what the object says: `DTRACE_RECORD` in `perfring_dtrace.h`, or the
/// type of the values of a ring buffer.
///
/// A map may have several types: they are told apart by their sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordTypes {
    maps: BTreeMap<String, Vec<RecordType>>,
}

/// How many bytes a record has in a sample: with the length before it a multiple of 8.
fn sent(size: usize) -> usize {
    (size + 4).next_multiple_of(8) - 4
}

impl RecordTypes {
    /// Those of an object. One without types has none.
    ///
    /// # Errors
    ///
    /// What it says is wrong.
    pub fn of(object: &Object) -> Result<Self, RecordTypeError> {
        let mut types = Self::default();
        let Some(btf) = &object.btf else { return Ok(types) };
        if let Some(Type::Datasec { vars, .. }) = btf.find(".records", Kind::Datasec).and_then(|id| btf.type_(id)) {
            for var in vars {
                let name = btf.name(var.var);
                let unknown = || RecordTypeError::Name { name: name.to_owned() };
                // Behind the map stands what makes the name another one.
                let (map, _) = name.strip_prefix(PREFIX).and_then(|name| name.rsplit_once("__")).ok_or_else(unknown)?;
                let wrong = |source| RecordTypeError::Btf { name: name.to_owned(), source };
                let record = pointed_at(btf, var.var).map_err(wrong)?.ok_or_else(unknown)?;
                let layout = btf.layout(record).map_err(wrong)?;
                if object.map(map).is_none() {
                    let record = layout.name().to_owned();
                    return Err(RecordTypeError::NoMap { map: map.to_owned(), record });
                }
                types.add(map, layout)?;
            }
        }
        for map in &object.maps {
            // BPF_MAP_TYPE_RINGBUF
            if map.type_ == 27
                && !types.maps.contains_key(&map.name)
                && let Some(value) = map.value_type
                && let Ok(layout) = btf.layout(value)
                && !layout.fields().is_empty()
            {
                types.add(&map.name, layout)?;
            }
        }
        for (record, text) in &object.formats {
            let wrong = |source| RecordTypeError::Format { record: record.clone(), source };
            let format: Format = text.parse().map_err(wrong)?;
            let mut found = false;
            for type_ in types.maps.values_mut().flatten().filter(|type_| type_.layout.name() == record) {
                format.check(&type_.layout).map_err(wrong)?;
                type_.format = Some(format.clone());
                found = true;
            }
            if !found {
                return Err(RecordTypeError::NoRecord { record: record.clone() });
            }
        }
        Ok(types)
    }

    /// Adds a type to a map.
    ///
    /// # Errors
    ///
    /// It is no struct, or cannot be told from another one of the map.
    pub fn add(&mut self, map: &str, layout: Layout) -> Result<(), RecordTypeError> {
        if layout.fields().is_empty() {
            return Err(RecordTypeError::NoFields { map: map.to_owned() });
        }
        let types = self.maps.entry(map.to_owned()).or_default();
        let size = sent(layout.size());
        if let Some(other) = types.iter().find(|other| sent(other.layout.size()) == size) {
            if other.layout == layout {
                return Ok(());
            }
            return Err(RecordTypeError::Ambiguous {
                map: map.to_owned(),
                first: other.layout.name().to_owned(),
                second: layout.name().to_owned(),
                size,
            });
        }
        types.push(RecordType { layout, format: None });
        Ok(())
    }

    /// Has all types that have the fields of the format printed so.
    ///
    /// # Errors
    ///
    /// None has: what the first one lacks.
    pub fn set_format(&mut self, format: &Format) -> Result<(), FormatError> {
        let mut first = None;
        let mut found = false;
        for type_ in self.maps.values_mut().flatten() {
            match format.check(&type_.layout) {
                Ok(()) => {
                    type_.format = Some(format.clone());
                    found = true;
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        match first {
            Some(error) if !found => Err(error),
            _ => Ok(()),
        }
    }

    /// The type of what was sent through a map.
    pub fn get(&self, map: &str, data: &[u8]) -> Option<&RecordType> {
        self.maps.get(map)?.iter().find(|type_| sent(type_.layout.size()) == data.len())
    }

    /// The maps and their types.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RecordType)> {
        self.maps.iter().flat_map(|(map, types)| types.iter().map(move |type_| (map.as_str(), type_)))
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.maps.is_empty()
    }
}

/// What a variable points at.
fn pointed_at(btf: &Btf, var: TypeId) -> Result<Option<TypeId>, BtfError> {
    let Some(Type::Var { type_, .. }) = btf.type_(var) else { return Ok(None) };
    match btf.type_(btf.resolve(*type_)?) {
        Some(Type::Ptr { target }) => Ok(Some(btf.resolve(*target)?)),
        _ => Ok(None),
    }
}
