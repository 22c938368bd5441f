//! The maps of an object.

use super::ObjectError;
use super::file::{Class, File, Symbol};
use crate::bpf::btf::TypeId;
use crate::record::ByteOrder;
use std::collections::{HashMap, HashSet};

/// How an object describes a map.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapKind {
    /// A `struct bpf_map_def` in section `maps`.
    Legacy,
    /// A variable in section `.maps`, which BTF describes.
    Btf,
    /// The variables of a section `.rodata`, `.data` or `.bss`: the only value of an array.
    Data {
        /// The section.
        section: String,
        /// What the value starts with, in the object's byte order. It has zeros behind; so `.bss` has nothing here.
        bytes: Vec<u8>,
    },
}

/// A map, as an object describes it. The numbers are those of the uapi header `linux/bpf.h`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapSpec {
    /// Its variable; for data the section.
    pub name: String,
    /// `BPF_MAP_TYPE_*`
    pub type_: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// Entries. 0 where the object does not say: for a perf event array it means one for each CPU.
    pub max_entries: u32,
    /// `BPF_F_*`
    pub flags: u32,
    /// How it is described.
    pub kind: MapKind,
    /// Type of the key, where BTF says it.
    pub key_type: Option<TypeId>,
    /// Type of the value, where BTF says it; of data the `DATASEC`.
    pub value_type: Option<TypeId>,
    /// Programs in slots of a program array: the slot, and the name of the program.
    pub values: Vec<(u32, String)>,
    /// Whether, and how, its name is to be shared: `LIBBPF_PIN_*`, 1 is by name.
    pub pinning: u32,
    /// `map_extra`: what some types need.
    pub extra: u64,
}

impl MapSpec {
    /// `BPF_MAP_TYPE_ARRAY`
    pub(super) const ARRAY: u32 = 2;
    /// `BPF_MAP_TYPE_PROG_ARRAY`
    pub(super) const PROG_ARRAY: u32 = 3;
    /// `BPF_F_RDONLY_PROG`: what the map of a `.rodata` section has, so that programs cannot write it.
    pub const RDONLY_PROG: u32 = 0x80;

    pub(super) fn new(name: &str, kind: MapKind) -> Self {
        Self {
            name: name.to_owned(),
            type_: 0,
            key_size: 0,
            value_size: 0,
            max_entries: 0,
            flags: 0,
            kind,
            key_type: None,
            value_type: None,
            values: Vec::new(),
            pinning: 0,
            extra: 0,
        }
    }
}

/// A variable in a section of data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Global {
    /// Its name.
    pub name: String,
    /// The index of its section's map in [`Object::maps`](super::Object::maps).
    pub map: usize,
    /// Bytes from the start of the map's value.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// The maps, and where they are.
#[derive(Default)]
pub(super) struct Maps {
    pub(super) list: Vec<MapSpec>,
    /// By section and byte.
    pub(super) at: HashMap<(usize, u64), usize>,
    /// By section, of data.
    pub(super) data: HashMap<usize, usize>,
}

impl Maps {
    /// Those of section `maps`.
    pub(super) fn add_legacy(&mut self, file: &File<'_>) -> Result<(), ObjectError> {
        for (number, section) in file.of_class(Class::LegacyMaps) {
            if let Some(relocation) = section.relocations.first() {
                let symbol = file.symbols.get(relocation.symbol).map_or("", |symbol| symbol.name);
                let (section, offset) = (section.name.to_owned(), relocation.offset);
                return Err(ObjectError::DataRelocation { section, offset, symbol: symbol.to_owned() });
            }
            let mut symbols: Vec<_> = (file.symbols.iter())
                .filter(|symbol| symbol.section == Some(number) && !symbol.is_section() && !symbol.name.is_empty())
                .collect();
            symbols.sort_by_key(|symbol| symbol.value);
            if symbols.first().is_none_or(|first| first.value != 0) && !section.bytes.is_empty() {
                return Err(ObjectError::MapsUnnamed { len: section.bytes.len() });
            }
            let ends = symbols.iter().skip(1).map(|next| next.value).chain([section.size]);
            for (symbol, end) in symbols.iter().zip(ends) {
                let (start, len) = (symbol.value, end.saturating_sub(symbol.value));
                let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
                let Some(bytes) = range.and_then(|(start, end)| section.bytes.get(start..end)) else {
                    return Err(ObjectError::MapLength { map: symbol.name.to_owned(), offset: start, len });
                };
                let Some((fields, tail)) = bytes.split_first_chunk::<20>() else {
                    return Err(ObjectError::MapLength { map: symbol.name.to_owned(), offset: start, len });
                };
                if let Some(at) = tail.iter().position(|&byte| byte != 0) {
                    let value = tail.get(at).copied().unwrap_or_default();
                    return Err(ObjectError::MapTail { map: symbol.name.to_owned(), at: at + 20, value });
                }
                let mut numbers = fields.as_chunks().0.iter().map(|&number| match file.order {
                    ByteOrder::Little => u32::from_le_bytes(number),
                    ByteOrder::Big => u32::from_be_bytes(number),
                });
                let mut next = || numbers.next().unwrap_or_default();
                let spec = MapSpec {
                    type_: next(),
                    key_size: next(),
                    value_size: next(),
                    max_entries: next(),
                    flags: next(),
                    ..MapSpec::new(symbol.name, MapKind::Legacy)
                };
                self.at.insert((number, start), self.list.len());
                self.list.push(spec);
            }
        }
        Ok(())
    }

    /// Those of sections of data.
    pub(super) fn add_data(&mut self, file: &File<'_>, types: &HashMap<&str, TypeId>) -> Result<(), ObjectError> {
        for (number, section) in file.of_class(Class::Data).filter(|(_, section)| section.size != 0) {
            if let Some(relocation) = section.relocations.first() {
                let symbol = file.symbols.get(relocation.symbol);
                return Err(ObjectError::DataRelocation {
                    section: section.name.to_owned(),
                    offset: relocation.offset,
                    symbol: symbol.map_or("", |symbol| file.symbol_name(symbol)).to_owned(),
                });
            }
            let Ok(value_size) = u32::try_from(section.size) else {
                return Err(ObjectError::DataSize { section: section.name.to_owned(), size: section.size });
            };
            let read_only = section.name.starts_with(".rodata");
            let kind = MapKind::Data { section: section.name.to_owned(), bytes: section.bytes.to_vec() };
            self.data.insert(number, self.list.len());
            self.list.push(MapSpec {
                type_: MapSpec::ARRAY,
                key_size: 4,
                value_size,
                max_entries: 1,
                flags: if read_only { MapSpec::RDONLY_PROG } else { 0 },
                value_type: types.get(section.name).copied(),
                ..MapSpec::new(section.name, kind)
            });
        }
        Ok(())
    }

    /// The variables in data, by their symbols.
    pub(super) fn globals(&self, file: &File<'_>) -> Vec<Global> {
        let global = |symbol: &Symbol<'_>| {
            let map = *self.data.get(&symbol.section?)?;
            let size = self.list.get(map)?.value_size;
            let (offset, len) = (u32::try_from(symbol.value).ok()?, u32::try_from(symbol.size).ok()?);
            let inside = len > 0 && offset.checked_add(len)? <= size && !symbol.is_section() && !symbol.name.is_empty();
            inside.then(|| Global { name: symbol.name.to_owned(), map, offset, size: len })
        };
        file.symbols.iter().filter_map(global).collect()
    }

    /// Names say which map is meant.
    pub(super) fn check_names(&self) -> Result<(), ObjectError> {
        let mut names = HashSet::new();
        match self.list.iter().find(|map| !names.insert(map.name.as_str())) {
            Some(map) => Err(ObjectError::MapTwice { map: map.name.clone() }),
            None => Ok(()),
        }
    }
}
