//! Types as `bpftool btf dump` writes them: read by other code than the crate's, and looked up in the simplest way.

use std::collections::HashMap;
use std::process::Command;

#[derive(Debug, Default)]
struct Described {
    kind: String,
    name: String,
    numbers: HashMap<String, u64>,
    signed: bool,
    parts: Vec<Described>,
}

impl Described {
    /// `'name' key=number ...`, with a kind in front of a type.
    fn parse(kind: &str, text: &str) -> Self {
        let (name, rest) = text.strip_prefix('\'').and_then(|text| text.split_once('\'')).expect("a name");
        let numbers = rest.split_whitespace().filter_map(|word| {
            let (key, value) = word.split_once('=')?;
            let value = value.trim_end_matches("ULL").trim_end_matches("LL");
            let value = value.parse().or_else(|_| value.parse::<i64>().map(|value| value as u64));
            Some((key.to_owned(), value.ok()?))
        });
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            numbers: numbers.collect(),
            signed: rest.contains("encoding=SIGNED"),
            parts: Vec::new(),
        }
    }

    fn number(&self, key: &str) -> u64 {
        self.numbers.get(key).copied().unwrap_or_else(|| panic!("{key} of {self:?}"))
    }
}

/// A field as it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub bit_offset: u64,
    /// Of a bit field.
    pub bits: Option<u64>,
    pub size: u64,
    pub signed: bool,
    id: u64,
}

/// All types.
#[derive(Debug)]
pub struct Table(HashMap<u64, Described>);

impl Table {
    /// As bpftool describes this file; none where there is no bpftool.
    pub fn of_file(path: &str) -> Option<Self> {
        let output = Command::new("bpftool").args(["btf", "dump", "file", path, "format", "raw"]).output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut types: HashMap<u64, Described> = HashMap::new();
        let mut last = 0;
        for line in String::from_utf8(output.stdout).expect("text").lines() {
            if let Some(line) = line.strip_prefix('[') {
                let (number, rest) = line.split_once("] ").expect("a number");
                let (kind, rest) = rest.split_once(' ').expect("a kind");
                last = number.parse().expect("a number");
                types.insert(last, Described::parse(kind, rest));
            } else if let Some(part) = line.strip_prefix('\t').filter(|part| part.starts_with('\'')) {
                types.get_mut(&last).expect("its type").parts.push(Described::parse("", part));
            }
        }
        Some(Self(types))
    }

    fn get(&self, id: u64) -> &Described {
        self.0.get(&id).unwrap_or_else(|| panic!("type {id}"))
    }

    fn resolve(&self, mut id: u64) -> u64 {
        while ["TYPEDEF", "CONST", "VOLATILE", "RESTRICT", "TYPE_TAG"].contains(&self.get(id).kind.as_str()) {
            id = self.get(id).number("type_id");
        }
        id
    }

    /// The first of this kind and name.
    pub fn find(&self, kind: &str, name: &str) -> Option<u64> {
        self.0.iter().filter(|(_, type_)| type_.kind == kind && type_.name == name).map(|(id, _)| *id).min()
    }

    pub fn size(&self, id: u64) -> u64 {
        let id = self.resolve(id);
        let type_ = self.get(id);
        match type_.kind.as_str() {
            "PTR" => 8,
            "ARRAY" => type_.number("nr_elems") * self.size(type_.number("type_id")),
            _ => type_.number("size"),
        }
    }

    fn found(&self, id: u64, bit_offset: u64, bits: Option<u64>) -> Found {
        Found { bit_offset, bits, size: self.size(id), signed: self.get(self.resolve(id)).signed, id }
    }

    fn member(&self, id: u64, name: &str) -> Option<Found> {
        let type_ = self.get(self.resolve(id));
        type_.parts.iter().find_map(|part| {
            let (of, offset) = (part.numbers.get("type_id")?, part.numbers.get("bits_offset")?);
            if part.name == name {
                return Some(self.found(*of, *offset, part.numbers.get("bitfield_size").copied()));
            }
            let within = if part.name == "(anon)" { self.member(*of, name)? } else { return None };
            Some(Found { bit_offset: within.bit_offset + offset, ..within })
        })
    }

    /// A field by the names on the way to it, with dots between them.
    pub fn field(&self, id: u64, way: &str) -> Option<Found> {
        way.split('.').try_fold(self.found(id, 0, None), |at, name| {
            let found = self.member(at.id, name)?;
            Some(Found { bit_offset: at.bit_offset + found.bit_offset, ..found })
        })
    }

    pub fn enumerator(&self, id: u64, name: &str) -> Option<u64> {
        self.get(id).parts.iter().find(|part| part.name == name).map(|part| part.number("val"))
    }
}
