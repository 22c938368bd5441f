//! Aggregations: what programs counted on several CPUs, as one.

use super::distribution::{BUCKETS, Distribution};
use crate::bpf::Loaded;
use crate::bpf::btf::{Btf, BtfError, Layout, TypeId, Value};
use crate::bpf::elf::Object;
use crate::bpf::map::{Map, MapError, MapType};
use std::collections::BTreeMap;
use thiserror::Error;

/// What counts what found no room in its map.
const DROPS: &str = "dtrace_aggregation_drops";

/// A map cannot be taken for an aggregation.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AggregationError {
    /// There is no such map.
    #[error("there is no map {map}")]
    NoMap {
        /// The map.
        map: String,
    },
    /// Nothing says what its values are.
    #[error("the object does not say of what type the values of map {map} are")]
    NoType {
        /// The map.
        map: String,
    },
    /// Its values are not integers.
    #[error("the values of map {map} have nothing that could be summed: {type_}")]
    NoNumbers {
        /// The map.
        map: String,
        /// The type of the values.
        type_: String,
    },
    /// The types of the map cannot be used.
    #[error("map {map}: {source}")]
    Btf {
        /// The map.
        map: String,
        /// Why.
        source: BtfError,
    },
    /// The map could not be read.
    #[error("map {map}: {source}")]
    Map {
        /// The map.
        map: String,
        /// Why.
        source: MapError,
    },
}

/// How numbers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Function {
    /// How many there were: `struct dtrace_count`.
    Count,
    /// Their sum: `struct dtrace_sum`, and integers of maps that were added by name.
    Sum,
    /// The least: `struct dtrace_min`.
    Min,
    /// The greatest: `struct dtrace_max`.
    Max,
    /// The average: `struct dtrace_avg`.
    Avg,
    /// How they are distributed: `struct dtrace_quantize`.
    Quantize,
}

impl Function {
    fn of(tag: &str) -> Option<Self> {
        Some(match tag {
            "dtrace_count" => Self::Count,
            "dtrace_sum" => Self::Sum,
            "dtrace_min" => Self::Min,
            "dtrace_max" => Self::Max,
            "dtrace_avg" => Self::Avg,
            "dtrace_quantize" => Self::Quantize,
            _ => return None,
        })
    }

    /// The fields of its struct: bytes that it has, all in 8.
    fn words(self) -> usize {
        match self {
            Self::Count | Self::Sum => 1,
            Self::Min | Self::Max | Self::Avg => 2,
            Self::Quantize => BUCKETS,
        }
    }

    /// Its name, as in the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
            Self::Quantize => "quantize",
        }
    }
}

/// What came of the numbers of all CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Aggregate {
    /// [`Function::Count`]
    Count(u128),
    /// [`Function::Sum`]
    Sum(i128),
    /// [`Function::Min`]; none of no numbers.
    Min(Option<i64>),
    /// [`Function::Max`]; none of no numbers.
    Max(Option<i64>),
    /// [`Function::Avg`]
    Avg {
        /// How many.
        count: u128,
        /// Their sum.
        sum: i128,
    },
    /// [`Function::Quantize`]
    Quantize(Distribution),
}

impl Aggregate {
    fn new(function: Function) -> Self {
        match function {
            Function::Count => Self::Count(0),
            Function::Sum => Self::Sum(0),
            Function::Min => Self::Min(None),
            Function::Max => Self::Max(None),
            Function::Avg => Self::Avg { count: 0, sum: 0 },
            Function::Quantize => Self::Quantize(Distribution::default()),
        }
    }

    /// Adds what one CPU has: the words of the struct.
    fn add(&mut self, words: impl Fn(usize) -> u64) {
        match self {
            Self::Count(count) => *count += u128::from(words(0)),
            Self::Sum(sum) => *sum += i128::from(words(0) as i64),
            Self::Min(least) if words(0) != 0 => {
                let number = words(1) as i64;
                *least = Some(least.map_or(number, |least| least.min(number)));
            }
            Self::Max(greatest) if words(0) != 0 => {
                let number = words(1) as i64;
                *greatest = Some(greatest.map_or(number, |greatest| greatest.max(number)));
            }
            Self::Min(_) | Self::Max(_) => {}
            Self::Avg { count, sum } => {
                *count += u128::from(words(0));
                *sum += i128::from(words(1) as i64);
            }
            Self::Quantize(distribution) => {
                for bucket in 0..BUCKETS {
                    distribution.add(bucket, words(bucket));
                }
            }
        }
    }

    /// By what rows are put in order: how many there are, the sum, and so on.
    fn weight(&self) -> i128 {
        match self {
            Self::Count(count) => i128::try_from(*count).unwrap_or(i128::MAX),
            Self::Sum(sum) => *sum,
            Self::Min(number) | Self::Max(number) => number.map_or(i128::MIN, i128::from),
            Self::Avg { count: 0, .. } => i128::MIN,
            Self::Avg { count, sum } => i128::try_from(*count).map_or(0, |count| sum / count),
            Self::Quantize(distribution) => i128::try_from(distribution.total()).unwrap_or(i128::MAX),
        }
    }

    /// Whether nothing was added.
    fn is_nothing(&self) -> bool {
        match self {
            Self::Count(count) | Self::Avg { count, .. } => *count == 0,
            Self::Sum(sum) => *sum == 0,
            Self::Min(number) | Self::Max(number) => number.is_none(),
            Self::Quantize(distribution) => distribution.bounds().is_none(),
        }
    }
}

/// A part of the values of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    /// Empty where the value has no parts.
    name: String,
    function: Function,
    /// Of the value.
    offset: usize,
    /// Bytes of an integer that is summed, and whether it has a sign; of the header's types none.
    plain: Option<(usize, bool)>,
}

/// A map whose values become one over the CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    map: String,
    key: Option<Layout>,
    columns: Vec<Column>,
}

/// The aggregations of an object: maps whose values are of the types of `perfring_aggregations.h`, or structs of nothing else, and those
/// that were added by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregations(Vec<Source>);

/// What an aggregation has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    source: &'a Source,
    rows: Vec<Row>,
}

/// A key, and what there is for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// What came of each column.
    pub values: Vec<Aggregate>,
}

impl Table<'_> {
    /// The name of the map.
    pub fn map(&self) -> &str {
        &self.source.map
    }

    /// What the columns are called, and what they are; the name is empty where values have just one.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&str, Function)> {
        self.source.columns.iter().map(|column| (column.name.as_str(), column.function))
    }

    /// How keys lie in memory, where that is known.
    pub fn key(&self) -> Option<&Layout> {
        self.source.key.as_ref()
    }

    /// The value of a key.
    pub fn key_value<'b>(&'b self, row: &'b Row) -> Option<Value<'b>> {
        self.key()?.value(&row.key)
    }

    /// The keys and what there is for them, the greatest last. Of arrays, which have all keys from the start, those for which there is
    /// nothing but 0 are left out.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl Aggregations {
    /// Those that are known by their types.
    ///
    /// # Errors
    ///
    /// Types cannot be used.
    pub fn of(object: &Object) -> Result<Self, AggregationError> {
        let mut aggregations = Self::default();
        let Some(btf) = &object.btf else { return Ok(aggregations) };
        for map in &object.maps {
            let has_values = matches!(map.type_, 1 | 2 | 5 | 6 | 9 | 10);
            let (Some(value), true) = (map.value_type, has_values) else { continue };
            // What is not for aggregations is nothing to complain of.
            let Ok(layout) = btf.layout(value) else { continue };
            if let Some(columns) = typed(&layout) {
                aggregations.0.push(Source { map: map.name.clone(), key: key_of(btf, map.key_type), columns });
            }
        }
        Ok(aggregations)
    }

    /// Adds a map of which all integers in the values are summed, unless it is there already.
    ///
    /// # Errors
    ///
    /// There is no such map, or its values have no integers.
    pub fn add(&mut self, object: &Object, name: &str) -> Result<(), AggregationError> {
        if self.0.iter().any(|source| source.map == name) {
            return Ok(());
        }
        let no_map = || AggregationError::NoMap { map: name.to_owned() };
        let no_type = || AggregationError::NoType { map: name.to_owned() };
        let map = object.map(name).ok_or_else(no_map)?;
        let (btf, value) = object.btf.as_ref().zip(map.value_type).ok_or_else(no_type)?;
        let wrong = |source| AggregationError::Btf { map: name.to_owned(), source };
        let layout = btf.layout(value).map_err(wrong)?;
        let mut columns = Vec::new();
        if layout.is_integer() {
            columns.extend(plain("", 0, &layout));
        }
        for field in layout.fields().iter().filter(|field| field.bits().is_none()) {
            columns.extend(plain(field.name(), field.bit_offset() / 8, field.layout()));
        }
        if columns.is_empty() || !matches!(map.type_, 1 | 2 | 5 | 6 | 9 | 10) {
            return Err(AggregationError::NoNumbers { map: name.to_owned(), type_: layout.name().to_owned() });
        }
        self.0.push(Source { map: name.to_owned(), key: key_of(btf, map.key_type), columns });
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they have come to, while programs may go on.
    ///
    /// # Errors
    ///
    /// A map is not there, or cannot be read.
    pub fn read(&self, loaded: &Loaded) -> Result<Vec<Table<'_>>, AggregationError> {
        self.0.iter().map(|source| source.read(loaded)).collect()
    }
}

/// How often programs found no room for a key, where they counted it: what `perfring_aggregations.h` does.
pub fn aggregation_drops(object: &Object, loaded: &Loaded) -> u64 {
    let Some(global) = object.globals.iter().find(|global| global.name == DROPS) else { return 0 };
    let map = object.maps.get(global.map).and_then(|spec| loaded.maps.get(&spec.name));
    let value = map.and_then(|map| map.lookup(&0_u32.to_ne_bytes()).ok().flatten());
    value.map_or(0, |value| word(&value, global.offset as usize))
}

fn key_of(btf: &Btf, key: Option<TypeId>) -> Option<Layout> {
    btf.layout(key?).ok()
}

/// The columns of a value that is an aggregation, or a struct of them.
fn typed(layout: &Layout) -> Option<Vec<Column>> {
    let column = |name: &str, offset: usize, layout: &Layout| {
        let function = Function::of(layout.name())?;
        let fits = layout.size() == function.words() * 8 && offset.is_multiple_of(8);
        fits.then(|| Column { name: name.to_owned(), function, offset, plain: None })
    };
    if let Some(whole) = column("", 0, layout) {
        return Some(vec![whole]);
    }
    let columns: Option<Vec<_>> = layout
        .fields()
        .iter()
        .map(|field| column(field.name(), field.bit_offset() / 8, field.layout()).filter(|_| field.bits().is_none()))
        .collect();
    columns.filter(|columns| !columns.is_empty())
}

fn plain(name: &str, offset: usize, layout: &Layout) -> Option<Column> {
    let zeros = [0; 8].get(..layout.size()).filter(|_| layout.is_integer())?;
    let plain = Some((layout.size(), matches!(layout.value(zeros), Some(Value::Signed(_)))));
    Some(Column { name: name.to_owned(), function: Function::Sum, offset, plain })
}

/// 8 bytes of a value.
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

impl Column {
    /// Adds what one CPU has for a key.
    fn add(&self, to: &mut Aggregate, value: &[u8]) {
        match (self.plain, to) {
            (Some((size, signed)), Aggregate::Sum(sum)) => {
                let mut bytes = [0; 8];
                let from = value.get(self.offset..self.offset + size).unwrap_or_default();
                let at = if cfg!(target_endian = "little") { 0 } else { 8 - from.len() };
                bytes[at..at + from.len()].copy_from_slice(from);
                let number = u64::from_ne_bytes(bytes);
                let unused = 64 - 8 * size as u32;
                *sum += match signed {
                    true => i128::from((number << unused) as i64 >> unused),
                    false => i128::from(number),
                };
            }
            (_, to) => to.add(|index| word(value, self.offset + index * 8)),
        }
    }
}

impl Source {
    fn read(&self, loaded: &Loaded) -> Result<Table<'_>, AggregationError> {
        let no_map = || AggregationError::NoMap { map: self.map.clone() };
        let map: &Map = loaded.maps.get(&self.map).ok_or_else(no_map)?;
        let wrong = |source| AggregationError::Map { map: self.map.clone(), source };
        let per_cpu = matches!(map.def().type_, MapType::PercpuArray | MapType::PercpuHash);
        let has_all_keys = matches!(map.def().type_, MapType::Array | MapType::PercpuArray);
        let size = map.def().value_size as usize;
        let step = if per_cpu { size.next_multiple_of(8) } else { map.value_size() };
        // What is found twice, as others change the map meanwhile, is there once.
        let mut rows = BTreeMap::new();
        for element in map.iter() {
            let (key, bytes) = element.map_err(wrong)?;
            let mut values: Vec<_> = self.columns.iter().map(|column| Aggregate::new(column.function)).collect();
            for value in bytes.chunks_exact(step.max(1)) {
                for (column, to) in self.columns.iter().zip(&mut values) {
                    column.add(to, value);
                }
            }
            if !has_all_keys || !values.iter().all(Aggregate::is_nothing) {
                rows.insert(key, values);
            }
        }
        let mut rows: Vec<_> = rows.into_iter().map(|(key, values)| Row { key, values }).collect();
        let weights = |row: &Row| row.values.iter().map(Aggregate::weight).collect::<Vec<_>>();
        rows.sort_by_cached_key(weights);
        Ok(Table { source: self, rows })
    }
}
