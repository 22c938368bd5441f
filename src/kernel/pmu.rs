//! Dynamic PMUs: what `/sys/bus/event_source/devices` says of them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use perf_event_open_sys::bindings::perf_event_attr;

use crate::kernel::{Error, EventBuilder, cpu, suggest};

const DEVICES: &str = "/sys/bus/event_source/devices";

/// A source of events that the kernel describes in `/sys/bus/event_source/devices`: a PMU.
///
/// Its terms are the parts of `config` that have names (`format/*`), its aliases are events that have names
/// (`events/*`).
///
/// ```no_run
/// # fn main() -> Result<(), perfring::kernel::Error> {
/// let tsc = perfring::kernel::Pmu::find("msr")?.event("tsc")?;
/// let same = perfring::kernel::Pmu::find("msr")?.event("event=0x00")?;
/// assert_eq!(tsc.attr().config, same.attr().config);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pmu {
    name: String,
    type_: u32,
    /// As the files have them; a format that this crate cannot read is an error only for who uses it.
    formats: BTreeMap<String, String>,
    events: BTreeMap<String, String>,
    cpus: Option<Vec<u32>>,
}

/// Which word of the attribute a term is in, and the ranges of its bits, lowest bits of the value first.
#[derive(Debug, PartialEq, Eq)]
struct Format {
    word: Word,
    ranges: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Config,
    Config1,
    Config2,
    Config3,
    Config4,
}

impl Word {
    fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "config" => Self::Config,
            "config1" => Self::Config1,
            "config2" => Self::Config2,
            "config3" => Self::Config3,
            "config4" => Self::Config4,
            _ => return None,
        })
    }

    fn of(self, attr: &mut perf_event_attr) -> &mut u64 {
        match self {
            Self::Config => &mut attr.config,
            Self::Config1 => &mut attr.config1,
            Self::Config2 => &mut attr.config2,
            Self::Config3 => &mut attr.config3,
            Self::Config4 => &mut attr.config4,
        }
    }
}

/// `config:0-7,32`.
fn parse_format(text: &str) -> Option<Format> {
    let (word, bits) = text.trim().split_once(':')?;
    let mut ranges = Vec::new();
    let mut seen = 0_u64;
    for part in bits.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        let mask = mask(first, last)?;
        if seen & mask != 0 {
            return None;
        }
        seen |= mask;
        ranges.push((first, last));
    }
    Some(Format { word: Word::by_name(word)?, ranges })
}

fn mask(first: u32, last: u32) -> Option<u64> {
    (first <= last && last < 64).then(|| (u64::MAX >> (63 - (last - first))) << first)
}

impl Format {
    /// Spreads the value over the ranges; `None` when it has more bits than they hold.
    fn put(&self, attr: &mut perf_event_attr, mut value: u64) -> Option<()> {
        let word = self.word.of(attr);
        let mut result = *word;
        for &(first, last) in &self.ranges {
            let mask = mask(first, last)?;
            result = (result & !mask) | ((value << first) & mask);
            value = value.checked_shr(last - first + 1).unwrap_or(0);
        }
        if value != 0 {
            return None;
        }
        *word = result;
        Some(())
    }
}

/// Decimal, or hexadecimal with `0x`.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // A sign would be taken otherwise.
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        None if !text.starts_with('+') => text.parse().ok(),
        _ => None,
    }
}

impl Pmu {
    /// Looks a PMU up by its name, such as `cpu`, `msr` or `uprobe`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPmu`], with names that are near; [`Error::Read`] when a file of it cannot be read or is not what
    /// it should be.
    pub fn find(name: &str) -> Result<Self, Error> {
        Self::find_in(Path::new(DEVICES), name)
    }

    /// The names of all PMUs, in ascending order.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]
    pub fn names() -> Result<Vec<String>, Error> {
        names_in(Path::new(DEVICES)).map_err(|source| Error::Read { path: DEVICES.into(), source })
    }

    fn find_in(devices: &Path, name: &str) -> Result<Self, Error> {
        let unknown = || Error::UnknownPmu {
            name: name.to_owned(),
            suggestions: suggest::near(name, names_in(devices).unwrap_or_default()),
        };
        // One component, so that it does not lead elsewhere.
        if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(unknown());
        }
        let directory = devices.join(name);
        let file = directory.join("type");
        let type_ = match std::fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|error| invalid(&file, error))?,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(unknown());
            }
            Err(source) => return Err(Error::Read { path: file, source }),
        };
        let mut cpus = None;
        for list in ["cpumask", "cpus"] {
            let file = directory.join(list);
            match std::fs::read_to_string(&file) {
                Ok(text) => {
                    cpus = Some(cpu::parse(&text).ok_or_else(|| invalid(&file, "not a list of CPUs"))?);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Read { path: file, source }),
            }
        }
        let (formats, mut events) = (read_all(&directory.join("format"))?, read_all(&directory.join("events"))?);
        // Beside an event there are files that say how to show its value.
        events.retain(|name, _| {
            ![".scale", ".unit", ".per-pkg", ".snapshot"].iter().any(|suffix| name.ends_with(suffix))
        });
        Ok(Self { name: name.to_owned(), type_, formats, events, cpus })
    }

    /// The name that it was found by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `type` of its events. Valid until the machine restarts.
    pub fn type_(&self) -> u32 {
        self.type_
    }

    /// Its terms: name, and where its bits are (`config:0-7,32`).
    pub fn terms(&self) -> impl Iterator<Item = (&str, &str)> {
        self.formats.iter().map(|(name, format)| (name.as_str(), format.as_str()))
    }

    /// Its events that have names: name, and the terms that it stands for.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.events.iter().map(|(name, terms)| (name.as_str(), terms.as_str()))
    }

    /// The CPUs to open an event of the whole machine on, from `cpumask` or `cpus`; `None` when it does not say. An
    /// event made by [`event`](Self::event) is opened on these by
    /// [`open_cpus`](crate::kernel::EventBuilder::open_cpus).
    pub fn cpus(&self) -> Option<&[u32]> {
        self.cpus.as_deref()
    }

    /// An event by terms: `term=value,term,alias`, where a term without a value is 1.
    ///
    /// Besides its own terms every PMU has `config`, `config1` to `config4`, `period` and `freq`. Values are decimal, or
    /// hexadecimal with `0x`. Later terms overwrite earlier ones.
    ///
    /// # Errors
    ///
    /// [`Error::PmuTerm`] for a term that the PMU does not have, with names that are near; [`Error::PmuValue`],
    /// [`Error::PmuFormat`].
    pub fn event(&self, terms: &str) -> Result<EventBuilder, Error> {
        let mut builder = EventBuilder::new(self.type_, 0);
        self.apply(&mut builder, terms, true)?;
        builder.cpus.clone_from(&self.cpus);
        builder.set_label(format!("event {}/{terms}/", self.name));
        Ok(builder)
    }

    fn apply(&self, builder: &mut EventBuilder, terms: &str, aliases: bool) -> Result<(), Error> {
        for term in terms.split(',').map(str::trim).filter(|term| !term.is_empty()) {
            let (name, value) = match term.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (term, None),
            };
            // A term of the PMU goes before an alias of the same name, unless it stands alone.
            if aliases
                && value.is_none()
                && let Some(alias) = self.events.get(name)
            {
                self.apply(builder, alias, false)?;
                continue;
            }
            let bad = |reason| Error::PmuValue {
                pmu: self.name.clone(),
                term: name.to_owned(),
                value: value.unwrap_or_default().to_owned(),
                reason,
            };
            let number = match value {
                None => 1,
                Some("?") => return Err(bad("the event leaves it open: give a value after the event's name")),
                Some(text) => number(text).ok_or_else(|| bad("not a number of 64 bits"))?,
            };
            match name {
                "period" => *builder = builder.clone().sample_period(number),
                "freq" => *builder = builder.clone().sample_freq(number),
                _ => self.set(&mut builder.attr, name, number)?,
            }
        }
        Ok(())
    }

    /// Sets one term.
    pub(super) fn set(&self, attr: &mut perf_event_attr, term: &str, value: u64) -> Result<(), Error> {
        let Some(text) = self.formats.get(term) else {
            let Some(word) = Word::by_name(term) else {
                let known = self.formats.keys().chain(self.events.keys());
                return Err(Error::PmuTerm {
                    pmu: self.name.clone(),
                    term: term.to_owned(),
                    suggestions: suggest::near(term, known),
                });
            };
            *word.of(attr) = value;
            return Ok(());
        };
        let format = parse_format(text).ok_or_else(|| Error::PmuFormat {
            pmu: self.name.clone(),
            term: term.to_owned(),
            format: text.clone(),
        })?;
        format.put(attr, value).ok_or_else(|| Error::PmuValue {
            pmu: self.name.clone(),
            term: term.to_owned(),
            value: value.to_string(),
            reason: "more bits than the term has",
        })
    }
}

fn invalid(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Read { path: path.into(), source: io::Error::new(io::ErrorKind::InvalidData, error) }
}

fn names_in(devices: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(devices)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The files of a directory, by name; none if it does not exist.
fn read_all(directory: &Path) -> Result<BTreeMap<String, String>, Error> {
    let failed = |path: PathBuf| move |source| Error::Read { path, source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(failed(directory.into())(source)),
    };
    let mut all = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(failed(directory.into()))?;
        if let Ok(name) = entry.file_name().into_string() {
            let text = std::fs::read_to_string(entry.path()).map_err(failed(entry.path()))?;
            all.insert(name, text.trim().to_owned());
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pmu() -> Pmu {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Pmu {
            name: "cpu".to_owned(),
            type_: 4,
            formats: map(&[
                ("event", "config:0-7,32-35"),
                ("umask", "config:8-15"),
                ("inv", "config:23"),
                ("ldlat", "config1:0-15"),
                ("wide", "config2:0-63"),
                ("odd", "config9:0"),
            ]),
            events: map(&[("cycles", "event=0x76"), ("loads", "event=1,umask=2,ldlat=?"), ("loop", "loop")]),
            cpus: None,
        }
    }

    #[test]
    fn values_are_spread_over_ranges() {
        let attr = |terms: &str| {
            let attr = *pmu().event(terms).unwrap().attr();
            (attr.config, attr.config1, attr.config2)
        };
        assert_eq!(attr("event=0xabc,umask=1,inv"), (0xa_0080_01bc, 0, 0));
        assert_eq!(attr("wide=18446744073709551615,ldlat=0xffff"), (0, 0xffff, u64::MAX));
        assert_eq!(attr("cycles"), (0x76, 0, 0));
        assert_eq!(attr("cycles,event=1"), (1, 0, 0));
        assert_eq!(attr("config=0x10,config1=3"), (0x10, 3, 0));
        assert_eq!(pmu().event("cycles,period=7").unwrap().attr().sample_period, 7);
        assert_eq!(pmu().event("").unwrap().attr().type_, 4);
    }

    #[test]
    fn each_defect_is_told() {
        let error = |terms: &str| pmu().event(terms).unwrap_err();
        assert!(matches!(error("evnet=1"), Error::PmuTerm { suggestions, .. } if suggestions == ["event"]));
        assert!(matches!(error("event=0x1000"), Error::PmuValue { .. }));
        assert!(matches!(error("event=+1"), Error::PmuValue { .. }));
        assert!(matches!(error("event="), Error::PmuValue { .. }));
        assert!(matches!(error("inv=2"), Error::PmuValue { .. }));
        assert!(matches!(error("loads"), Error::PmuValue { .. }));
        assert!(matches!(error("odd=1"), Error::PmuFormat { .. }));
        // An alias is no other alias.
        assert!(matches!(error("loop"), Error::PmuTerm { .. }));
    }

    #[test]
    fn formats() {
        assert_eq!(parse_format("config:0-63\n").unwrap().ranges, [(0, 63)]);
        for wrong in ["", "config", "config:", "config:a", "config:64", "config:3-1", "config:0,0", "config:0-", "x:0"]
        {
            assert_eq!(parse_format(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_the_directory_says() {
        let devices = tempfile::tempdir().unwrap();
        let pmu = devices.path().join("uncore_imc");
        for directory in ["format", "events"] {
            std::fs::create_dir_all(pmu.join(directory)).unwrap();
        }
        let write = |file: &str, text: &str| std::fs::write(pmu.join(file), text).unwrap();
        write("type", "17\n");
        write("cpumask", "0,2\n");
        write("format/event", "config:0-7\n");
        write("events/reads", "event=0x4\n");
        write("events/reads.unit", "MiB\n");
        write("events/reads.scale", "6.1e-5\n");
        let found = Pmu::find_in(devices.path(), "uncore_imc").unwrap();
        assert_eq!((found.name(), found.type_(), found.cpus()), ("uncore_imc", 17, Some(&[0, 2][..])));
        assert_eq!(found.terms().collect::<Vec<_>>(), [("event", "config:0-7")]);
        assert_eq!(found.aliases().collect::<Vec<_>>(), [("reads", "event=0x4")]);
        let builder = found.event("reads").unwrap();
        assert_eq!((builder.attr().type_, builder.attr().config), (17, 4));
        assert_eq!(builder.cpus, Some(vec![0, 2]));

        let error = Pmu::find_in(devices.path(), "uncore_icm").unwrap_err();
        assert!(matches!(error, Error::UnknownPmu { suggestions, .. } if suggestions == ["uncore_imc"]));
        for (file, text) in [("cpumask", "0-"), ("type", "many")] {
            write(file, text);
            let error = Pmu::find_in(devices.path(), "uncore_imc").unwrap_err();
            assert!(matches!(&error, Error::Read { path, .. } if path.ends_with(file)), "{error}");
        }
    }

    #[test]
    fn names_stay_in_their_directory() {
        for name in ["", ".", "..", "a/b", "/", "a\0"] {
            assert!(matches!(Pmu::find_in(Path::new("/nonexistent"), name), Err(Error::UnknownPmu { .. })), "{name:?}");
        }
    }
}
