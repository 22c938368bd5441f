//! Programs that come as hex, with a description of their maps.

use crate::command::output::Failure;
use perfring::bpf::ProgramType;
use perfring::bpf::insn::Insn;
use perfring::bpf::map::{Map, MapDef, MapFlags, MapType};
use perfring::record::ByteOrder;
use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The most bytes that are read: a million instructions as hex, with room for as much white space.
const MOST: u64 = 64 << 20;
/// The opcode of 64-bit immediates.
const LDDW: u8 = 0x18;

/// Why text is no instructions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum HexError {
    #[error("line {line}, column {column}: {found} is no digit of hex")]
    Digit { line: usize, column: usize, found: String },
    #[error("line {line}, column {column}: the last of {digits} digits has none to make a byte with")]
    Odd { line: usize, column: usize, digits: usize },
    #[error("{bytes} bytes, and an instruction has 8")]
    Length { bytes: usize },
    #[error("there are no instructions")]
    Empty,
}

/// Instructions as hex, two digits a byte, in the machine's byte order; `-` is the standard input.
pub(super) fn read(path: &Path) -> Result<Vec<Insn>, Failure> {
    parse(&bytes_of(path)?).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = |mut from: io::Take<&mut dyn Read>| {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = match path.as_os_str() == "-" {
        true => read((&mut io::stdin().lock() as &mut dyn Read).take(MOST + 1)),
        false => File::open(path).and_then(|mut file| read((&mut file as &mut dyn Read).take(MOST + 1))),
    };
    match bytes.map_err(|error| Failure::file("read", path, error))? {
        bytes if bytes.len() as u64 > MOST => {
            Err(Failure::Other(format!("{}: more than {} MiB", path.display(), MOST >> 20)))
        }
        bytes => Ok(bytes),
    }
}

fn parse(text: &[u8]) -> Result<Vec<Insn>, HexError> {
    let (mut line, mut start) = (1, 0);
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut half = None;
    let mut last = (1, 1);
    for (at, &byte) in text.iter().enumerate() {
        if byte.is_ascii_whitespace() {
            if byte == b'\n' {
                (line, start) = (line + 1, at + 1);
            }
            continue;
        }
        let column = at - start + 1;
        let Some(digit) = char::from(byte).to_digit(16) else {
            let found = match byte {
                b' '..=b'~' => format!("{:?}", char::from(byte)),
                _ => format!("the byte {byte:#04x}"),
            };
            return Err(HexError::Digit { line, column, found });
        };
        last = (line, column);
        match half.take() {
            Some(high) => bytes.push((high << 4 | digit) as u8),
            None => half = Some(digit),
        }
    }
    if half.is_some() {
        return Err(HexError::Odd { line: last.0, column: last.1, digits: 2 * bytes.len() + 1 });
    }
    if bytes.is_empty() {
        return Err(HexError::Empty);
    }
    Insn::parse_in(&bytes, ByteOrder::NATIVE).map_err(|_| HexError::Length { bytes: bytes.len() })
}

/// A map, as `--maps` describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MapSpec {
    insn: Slots,
    kind: String,
    name: Option<String>,
    key: Option<u32>,
    value: Option<u32>,
    entries: u32,
    owner: Option<String>,
    #[serde(default)]
    flags: Vec<String>,
}

/// The 64-bit immediates that mean a map.
#[derive(Debug)]
struct Slots(Vec<usize>);

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Slots;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the index of an instruction, or a list of such")
            }

            fn visit_u64<E: de::Error>(self, slot: u64) -> Result<Slots, E> {
                let slot =
                    usize::try_from(slot).map_err(|_| E::custom(format_args!("there is no instruction {slot}")))?;
                Ok(Slots(vec![slot]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Slots, A::Error> {
                let mut slots = Vec::new();
                while let Some(slot) = list.next_element()? {
                    slots.push(slot);
                }
                Ok(Slots(slots))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

/// Why no maps were made of a description.
#[derive(Debug, thiserror::Error)]
enum SpecError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("map {at}: there is no kind {kind:?}: there are {}", MapType::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", "))]
    Kind { at: usize, kind: String },
    #[error("map {at}: a map of the kind {} needs {field:?}", .kind.name())]
    Missing { at: usize, kind: MapType, field: &'static str },
    #[error("map {at}: there is no flag {flag:?}: there are {}", flag_names().join(", "))]
    Flag { at: usize, flag: String },
    #[error("map {at}: \"owner\" is for the kind prog_array")]
    Owner { at: usize },
    #[error("map {at}: {error}")]
    Type { at: usize, error: String },
    #[error("map {at}: {error}")]
    Map { at: usize, error: perfring::bpf::map::MapError },
    #[error("map {at}: there is no instruction {insn}: the program has {insns}")]
    Beyond { at: usize, insn: usize, insns: usize },
    #[error("map {at}: instruction {insn} is no 64-bit immediate, but opcode {opcode:#04x}")]
    NotWide { at: usize, insn: usize, opcode: u8 },
    #[error("map {at}: instruction {insn} is that of map {other}")]
    Twice { at: usize, insn: usize, other: usize },
}

/// The flags of maps, in lower case.
fn flag_names() -> Vec<String> {
    MapFlags::all().iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

/// The maps of `spec`, which is JSON or the name of a file of it, with the instructions that mean them.
pub(super) fn maps(spec: &str, insns: &[Insn], type_: &ProgramType) -> Result<Vec<(usize, Map)>, Failure> {
    let is_json = spec.trim_start().starts_with(['[', '{']);
    let text = if is_json { spec.as_bytes().to_vec() } else { bytes_of(Path::new(spec))? };
    make(&text, insns, type_).map_err(|error| match is_json {
        true => Failure::Usage(format!("--maps: {error}")),
        false => Failure::Usage(format!("--maps: {spec}: {error}")),
    })
}

fn make(text: &[u8], insns: &[Insn], type_: &ProgramType) -> Result<Vec<(usize, Map)>, SpecError> {
    let specs: Vec<MapSpec> = serde_json::from_slice(text)?;
    let mut owners = BTreeMap::new();
    let mut maps = Vec::new();
    for (at, spec) in specs.iter().enumerate() {
        let map = one(at, spec, type_)?;
        for &insn in &spec.insn.0 {
            match insns.get(insn) {
                None => return Err(SpecError::Beyond { at, insn, insns: insns.len() }),
                Some(found) if found.opcode != LDDW => {
                    return Err(SpecError::NotWide { at, insn, opcode: found.opcode });
                }
                Some(_) => {}
            }
            if let Some(other) = owners.insert(insn, at) {
                return Err(SpecError::Twice { at, insn, other });
            }
            maps.push((insn, map.clone()));
        }
    }
    Ok(maps)
}

fn one(at: usize, spec: &MapSpec, type_: &ProgramType) -> Result<Map, SpecError> {
    let kind = MapType::from_name(&spec.kind).ok_or_else(|| SpecError::Kind { at, kind: spec.kind.clone() })?;
    // Where a kind has but one size, it need not be said.
    let (key, value) = match kind {
        MapType::Array | MapType::PercpuArray => (Some(4), None),
        MapType::ProgArray | MapType::PerfEventArray => (Some(4), Some(4)),
        MapType::Ringbuf => (Some(0), Some(0)),
        _ => (None, None),
    };
    let missing = |field| SpecError::Missing { at, kind, field };
    let mut flags = MapFlags::empty();
    for flag in &spec.flags {
        let named = MapFlags::all().iter_names().find(|(name, _)| name.to_ascii_lowercase() == *flag);
        let (_, named) = named.ok_or_else(|| SpecError::Flag { at, flag: flag.clone() })?;
        flags |= named;
    }
    let def = MapDef {
        name: spec.name.clone().unwrap_or_else(|| format!("map{at}")),
        type_: kind,
        key_size: spec.key.or(key).ok_or_else(|| missing("key"))?,
        value_size: spec.value.or(value).ok_or_else(|| missing("value"))?,
        max_entries: spec.entries,
        flags,
    };
    let map = match (kind, &spec.owner) {
        (MapType::ProgArray, None) => Map::prog_array(&def, type_),
        (MapType::ProgArray, Some(owner)) => {
            let owner = super::object::type_named(owner);
            Map::prog_array(&def, owner.map_err(|error| SpecError::Type { at, error: error.to_string() })?)
        }
        (_, Some(_)) => return Err(SpecError::Owner { at }),
        (_, None) => Map::new(&def, 1),
    };
    map.map_err(|error| SpecError::Map { at, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfring::bpf::insn::assemble;

    #[test]
    fn hex_is_read_with_any_white_space() {
        let text = b" b7 00\t0000\r\n\n0000 0000 9500000000000000\n";
        let insns = parse(text).unwrap();
        assert_eq!(insns, assemble("r0 = 0\nexit").unwrap());
        assert_eq!(parse(b"B70000000000000A").unwrap()[0].imm, i32::from_ne_bytes([0, 0, 0, 10]));
    }

    #[test]
    fn what_is_no_hex_is_told_of_with_its_place() {
        let digit = |line, column, found: &str| HexError::Digit { line, column, found: found.to_owned() };
        for (text, error) in [
            (&b""[..], HexError::Empty),
            (b" \n\t", HexError::Empty),
            (b"b7 0", HexError::Odd { line: 1, column: 4, digits: 3 }),
            (b"b7\n0 \n", HexError::Odd { line: 2, column: 1, digits: 3 }),
            (b"b7000000000000", HexError::Length { bytes: 7 }),
            (b"0xb7", digit(1, 2, "'x'")),
            (b"b7\n 0g", digit(2, 3, "'g'")),
            (b"b7\xff", digit(1, 3, "the byte 0xff")),
            (b"\x1b[0m", digit(1, 1, "the byte 0x1b")),
        ] {
            assert_eq!(parse(text), Err(error), "{}", text.escape_ascii());
        }
    }

    fn text_of(spec: &str) -> Result<String, String> {
        let insns = assemble("r1 = 1 ll\nr2 = 2 ll\nr0 = 0\nexit").unwrap();
        let maps = make(spec.as_bytes(), &insns, ProgramType::xdp()).map_err(|error| error.to_string())?;
        let text = |(insn, map): &(usize, Map)| {
            let MapDef { name, type_, key_size, value_size, max_entries, flags } = map.def();
            let owner = map.owner().map_or("nobody", ProgramType::name);
            format!("{insn} {name} {} {key_size} {value_size} {max_entries} {:#x} {owner}", type_.name(), flags.bits())
        };
        Ok(maps.iter().map(text).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn maps_are_made_as_they_are_described() {
        for (spec, maps) in [
            ("[]", ""),
            (r#"[{"insn": 0, "kind": "hash", "key": 8, "value": 48, "entries": 1}]"#, "0 map0 hash 8 48 1 0x0 nobody"),
            (
                r#"[{"insn": [0, 2], "kind": "array", "name": "a", "value": 8, "entries": 3, "flags": ["rdonly_prog", "mmapable"]}]"#,
                "0 a array 4 8 3 0x480 nobody; 2 a array 4 8 3 0x480 nobody",
            ),
            (
                r#"[{"insn": 2, "kind": "prog_array", "entries": 1}, {"insn": 0, "kind": "prog_array", "entries": 2, "owner": "kprobe"}]"#,
                "2 map0 prog_array 4 4 1 0x0 xdp; 0 map1 prog_array 4 4 2 0x0 kprobe",
            ),
            (r#"[{"insn": 2, "kind": "ringbuf", "entries": 4096}]"#, "2 map0 ringbuf 0 0 4096 0x0 nobody"),
        ] {
            assert_eq!(text_of(spec).as_deref(), Ok(maps), "{spec}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_description_is_told_of() {
        for (spec, error) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{}", "invalid type: map, expected a sequence at line 1 column 0"),
            (r#"[{"insn": 0}]"#, "missing field `kind` at line 1 column 12"),
            (
                r#"[{"insn": -1, "kind": "array", "value": 8, "entries": 1}]"#,
                "invalid type: integer `-1`, expected the index of an instruction, or a list of such at line 1 column 12",
            ),
            (
                r#"[{"insn": 0, "kind": "array", "value": 4294967296, "entries": 1}]"#,
                "invalid value: integer `4294967296`, expected u32 at line 1 column 49",
            ),
            (
                r#"[{"insn": 0, "kind": "queue", "value": 8, "entries": 1}]"#,
                "map 0: there is no kind \"queue\": there are hash, array, prog_array, perf_event_array, percpu_hash, percpu_array, \
                 lru_hash, ringbuf",
            ),
            (
                r#"[{"insn": 0, "kind": "hash", "value": 8, "entries": 1}]"#,
                "map 0: a map of the kind hash needs \"key\"",
            ),
            (
                r#"[{"insn": 0, "kind": "array", "value": 8, "entries": 1, "flags": ["readonly"]}]"#,
                "map 0: there is no flag \"readonly\": there are no_prealloc, rdonly, wronly, zero_seed, rdonly_prog, wronly_prog, \
                 mmapable",
            ),
            (
                r#"[{"insn": 0, "kind": "array", "value": 8, "entries": 1, "owner": "xdp"}]"#,
                "map 0: \"owner\" is for the kind prog_array",
            ),
            (
                r#"[{"insn": 0, "kind": "array", "key": 8, "value": 8, "entries": 1}]"#,
                "map 0: a array map with keys of 8 bytes",
            ),
            (r#"[{"insn": 0, "kind": "ringbuf", "entries": 5000}]"#, "map 0: a ringbuf map of 5000 entries"),
            (
                r#"[{"insn": 6, "kind": "array", "value": 8, "entries": 1}]"#,
                "map 0: there is no instruction 6: the program has 6",
            ),
            (
                r#"[{"insn": 1, "kind": "array", "value": 8, "entries": 1}]"#,
                "map 0: instruction 1 is no 64-bit immediate, but opcode 0x00",
            ),
            (
                r#"[{"insn": 0, "kind": "ringbuf", "entries": 4096}, {"insn": [2, 0], "kind": "ringbuf", "entries": 4096}]"#,
                "map 1: instruction 0 is that of map 0",
            ),
        ] {
            assert_eq!(text_of(spec), Err(error.to_owned()), "{spec}");
        }
        let spec = r#"[{"insn": 0, "kind": "prog_array", "entries": 1, "owner": "file"}]"#;
        assert!(
            text_of(spec).unwrap_err().starts_with("map 0: there is no program type file: there are socket_filter, ")
        );
        for depth in [r#"[{"insn": "#.to_owned() + &"[".repeat(100_000), "[".repeat(100_000)] {
            assert!(text_of(&depth).is_err());
        }
    }
}
