//! Maps that are variables of section `.maps`: BTF says what their fields are, and the fields' types are what they say.

use super::ObjectError;
use super::file::{Class, File, R_BPF_64_64, R_BPF_64_ABS64, Relocation, Symbol};
use super::function::Functions;
use super::map::{MapKind, MapSpec, Maps};
use crate::bpf::btf::{Btf, BtfError, Kind, Member, Type, TypeId};
use crate::record::ByteOrder;
use std::collections::{BTreeMap, HashMap, HashSet};

impl Maps {
    /// Those of section `.maps`.
    pub(super) fn add_btf(
        &mut self,
        file: &File<'_>,
        btf: Option<&Btf>,
        functions: &Functions,
    ) -> Result<(), ObjectError> {
        for (number, section) in file.of_class(Class::BtfMaps).filter(|(_, section)| section.size != 0) {
            let described = btf.and_then(|btf| Some((btf, btf.find(".maps", Kind::Datasec)?)));
            let Some((btf, datasec)) = described else { return Err(ObjectError::MapsWithoutBtf) };
            let Some(Type::Datasec { vars, .. }) = btf.type_(datasec) else { return Err(ObjectError::MapsWithoutBtf) };
            let symbols: HashMap<&str, &Symbol<'_>> = (file.symbols.iter())
                .filter(|symbol| symbol.section == Some(number) && !symbol.is_section())
                .map(|symbol| (symbol.name, symbol))
                .collect();
            // What is no slot of a map, or of two.
            let mut unused: BTreeMap<u64, Relocation> =
                section.relocations.iter().map(|relocation| (relocation.offset, *relocation)).collect();
            let mut seen = HashSet::new();
            for var in vars {
                let name = btf.name(var.var);
                let Some(symbol) = symbols.get(name) else {
                    return Err(ObjectError::MapSymbol { map: short(name) });
                };
                if !seen.insert(name) {
                    return Err(ObjectError::MapTwice { map: name.to_owned() });
                }
                let (mut map, slots) = describe(btf, name, var.var)?;
                if let Some(first) = slots {
                    let start = symbol.value.saturating_add(first);
                    let end = symbol.value.saturating_add(symbol.size);
                    let list = &section.relocations;
                    let from = list.partition_point(|relocation| relocation.offset < start);
                    let to = list.partition_point(|relocation| relocation.offset < end);
                    for relocation in list.get(from..to).unwrap_or_default() {
                        if unused.remove(&relocation.offset).is_none() {
                            return Err(file.map_relocation(*relocation));
                        }
                        map.values.push(slot(file, functions, &map, section.bytes, relocation, start)?);
                    }
                }
                self.at.insert((number, symbol.value), self.list.len());
                self.list.push(map);
            }
            if let Some(relocation) = unused.values().next() {
                return Err(file.map_relocation(*relocation));
            }
        }
        Ok(())
    }
}

/// A name for a message.
fn short(name: &str) -> String {
    name.chars().take(128).collect()
}

/// The program in a slot of a program array.
fn slot(
    file: &File<'_>,
    functions: &Functions,
    map: &MapSpec,
    bytes: &[u8],
    relocation: &Relocation,
    start: u64,
) -> Result<(u32, String), ObjectError> {
    let inside = relocation.offset.saturating_sub(start);
    if ![R_BPF_64_ABS64, R_BPF_64_64].contains(&relocation.type_) || !inside.is_multiple_of(8) {
        return Err(file.map_relocation(*relocation));
    }
    let number = inside / 8;
    let Some(slot) = u32::try_from(number).ok().filter(|slot| *slot < map.max_entries) else {
        return Err(ObjectError::MapSlot { map: map.name.clone(), slot: number, max_entries: map.max_entries });
    };
    let Some(symbol) = file.symbols.get(relocation.symbol) else { return Err(file.map_relocation(*relocation)) };
    let at = usize::try_from(relocation.offset).ok();
    let addend = at.and_then(|at| bytes.get(at..)?.first_chunk()).map(|bytes| match file.order {
        ByteOrder::Little => u64::from_le_bytes(*bytes),
        ByteOrder::Big => u64::from_be_bytes(*bytes),
    });
    let target = addend.and_then(|addend| symbol.value.checked_add(addend));
    let program = symbol.section.zip(target).and_then(|(section, target)| functions.program_at(section, target));
    match program {
        Some(program) => Ok((slot, program.to_owned())),
        None => {
            let symbol = file.symbol_name(symbol).to_owned();
            Err(ObjectError::MapSlotProgram { map: map.name.clone(), slot: number, symbol })
        }
    }
}

/// Reads the fields of a map; with the byte at which its slots start.
fn describe(btf: &Btf, name: &str, var: TypeId) -> Result<(MapSpec, Option<u64>), ObjectError> {
    let damaged = |source: BtfError| ObjectError::MapBtf { map: name.to_owned(), source };
    let shape = ObjectError::MapShape { map: name.to_owned(), type_: var.0 };
    let Some(Type::Var { type_, .. }) = btf.type_(var) else { return Err(shape) };
    let struct_ = btf.resolve(*type_).map_err(damaged)?;
    if !matches!(btf.type_(struct_), Some(Type::Struct { .. })) {
        return Err(shape);
    }
    let mut map = MapSpec::new(name, MapKind::Btf);
    let (mut seen, mut slots, mut type_is_said) = (HashSet::new(), None, false);
    let (mut key_size, mut value_size) = (None, None);
    for member in btf.members(struct_).map_err(damaged)? {
        let number = |field| number(btf, name, field, &member);
        if !seen.insert(member.name) {
            return Err(ObjectError::MapFieldTwice { map: name.to_owned(), field: short(member.name) });
        }
        match member.name {
            "type" => (map.type_, type_is_said) = (number("type")?, true),
            "max_entries" => map.max_entries = number("max_entries")?,
            "map_flags" => map.flags = number("map_flags")?,
            "pinning" => map.pinning = number("pinning")?,
            // Which node has the memory makes no difference to programs.
            "numa_node" => drop(number("numa_node")?),
            "map_extra" => map.extra = long(btf, name, &member)?,
            "key_size" => key_size = Some(number("key_size")?),
            "value_size" => value_size = Some(number("value_size")?),
            "key" => map.key_type = Some(pointee(btf, name, "key", &member)?),
            "value" => map.value_type = Some(pointee(btf, name, "value", &member)?),
            "values" => {
                check_values(btf, name, &member)?;
                slots = Some(u64::from(member.bit_offset) / 8);
            }
            field => return Err(ObjectError::MapField { map: name.to_owned(), field: short(field) }),
        }
    }
    if !type_is_said {
        return Err(ObjectError::MapType { map: name.to_owned() });
    }
    let size = |field, said: Option<u32>, type_: Option<TypeId>| {
        let of_type = type_.map(|type_| btf.size_of(type_)).transpose().map_err(damaged)?;
        match (said, of_type) {
            (Some(size), Some(of_type)) if size != of_type => {
                Err(ObjectError::MapSizes { map: name.to_owned(), field, size, of_type })
            }
            _ => Ok(said.or(of_type)),
        }
    };
    let (key_size, value_size) =
        (size("key_size", key_size, map.key_type)?, size("value_size", value_size, map.value_type)?);
    if slots.is_some() && map.type_ != MapSpec::PROG_ARRAY {
        return Err(ObjectError::MapValues { map: name.to_owned(), type_: map.type_ });
    }
    // What is in a program array needs no size to be said.
    let unsaid = if slots.is_some() { 4 } else { 0 };
    (map.key_size, map.value_size) = (key_size.unwrap_or(unsaid), value_size.unwrap_or(unsaid));
    Ok((map, slots))
}

/// What a pointer points to.
fn pointee(btf: &Btf, map: &str, field: &'static str, member: &Member<'_>) -> Result<TypeId, ObjectError> {
    let damaged = |source| ObjectError::MapBtf { map: map.to_owned(), source };
    match btf.type_(btf.resolve(member.type_).map_err(damaged)?) {
        Some(Type::Ptr { target }) => Ok(*target),
        _ => Err(ObjectError::MapFieldShape { map: map.to_owned(), field, wanted: "a pointer to a type" }),
    }
}

/// A number is said by a pointer to an array with so many elements.
fn number(btf: &Btf, map: &str, field: &'static str, member: &Member<'_>) -> Result<u32, ObjectError> {
    let damaged = |source| ObjectError::MapBtf { map: map.to_owned(), source };
    let wanted = "a number: a pointer to an array";
    let shape = || ObjectError::MapFieldShape { map: map.to_owned(), field, wanted };
    let Some(Type::Ptr { target }) = btf.type_(btf.resolve(member.type_).map_err(damaged)?) else {
        return Err(shape());
    };
    match btf.type_(btf.resolve(*target).map_err(damaged)?) {
        Some(Type::Array { len, .. }) => Ok(*len),
        _ => Err(shape()),
    }
}

/// A number of 64 bits is said by an enumeration with one value, too.
fn long(btf: &Btf, map: &str, member: &Member<'_>) -> Result<u64, ObjectError> {
    if let Some(Type::Enum { values, .. }) = btf.resolve(member.type_).ok().and_then(|id| btf.type_(id))
        && let [value] = values.as_slice()
    {
        // A negative one is as good.
        return Ok(value.value as u64);
    }
    number(btf, map, "map_extra", member).map(u64::from)
}

/// The values are programs.
fn check_values(btf: &Btf, map: &str, member: &Member<'_>) -> Result<(), ObjectError> {
    let damaged = |source| ObjectError::MapBtf { map: map.to_owned(), source };
    let wanted = "an array of pointers to programs";
    let shape = || ObjectError::MapFieldShape { map: map.to_owned(), field: "values", wanted };
    let Some(Type::Array { element, .. }) = btf.type_(btf.resolve(member.type_).map_err(damaged)?) else {
        return Err(shape());
    };
    let Some(Type::Ptr { target }) = btf.type_(btf.resolve(*element).map_err(damaged)?) else { return Err(shape()) };
    match btf.type_(btf.resolve(*target).map_err(damaged)?) {
        Some(Type::FuncProto { .. }) => Ok(()),
        Some(Type::Struct { .. }) => Err(ObjectError::MapInMap { map: map.to_owned() }),
        _ => Err(shape()),
    }
}
