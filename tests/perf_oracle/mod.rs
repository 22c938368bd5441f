//! What `perf` says of a recording: the records that `perf script -D` prints, the counts of `perf report --stats`, and what
//! stands of both in `tests/fixtures/perf_data/expected`.

#![allow(dead_code, reason = "each test binary uses its part")]

mod fields;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::str::FromStr;
use std::{fmt, fs, io};

use perfring::record::RecordType;

#[allow(unused_imports, reason = "each test binary uses its part")]
pub use fields::{Fields, Registers, Sampled, Value, Values};

/// Counts by the names of types, and `TOTAL`.
pub type Stats = BTreeMap<String, u64>;

/// Why there is no answer of `perf`.
#[derive(Debug)]
pub enum OracleError {
    /// `perf` cannot be run.
    NoPerf(io::Error),
    /// `perf` ran, and could not read the recording. It says so, if not by its exit status.
    Refused(String),
    /// What `perf` printed is not understood.
    Output(String),
}

impl fmt::Display for OracleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPerf(error) => write!(f, "perf: {error}"),
            Self::Refused(why) => write!(f, "perf does not read it: {why}"),
            Self::Output(what) => write!(f, "not understood: {what}"),
        }
    }
}

/// The records of a recording as `perf` has them.
#[derive(Debug, Default)]
pub struct Oracle {
    /// In the order in which `perf` prints them: of the kernel's records, that in which it delivers them.
    pub records: Vec<OracleRecord>,
    /// What `perf` says besides, such as how much was lost or out of order.
    pub warnings: String,
}

/// A record as `perf` has it.
#[derive(Clone, Debug, PartialEq)]
pub struct OracleRecord {
    /// Where it begins in the file: of records that were compressed, where the compressed record begins.
    pub offset: u64,
    /// The file: of a directory, which one.
    pub file: String,
    /// Its size with the header.
    pub size: u16,
    /// Its type.
    pub type_: RecordType,
    /// Of the header.
    pub misc: u16,
    /// All of it, in this machine's byte order.
    pub bytes: Vec<u8>,
    /// The CPU, where `perf` prints it.
    pub cpu: Option<u32>,
    /// When; none if the record does not say so, and 0 for records that were there before the kernel recorded.
    pub time: Option<u64>,
    /// What is in it.
    pub fields: Fields,
}

/// Bytes in front of the records of a pipe, from behind which `perf` counts.
const PIPE_HEADER: u64 = 16;

impl Oracle {
    /// What `perf script -D` says of this recording.
    pub fn of(recording: &Path) -> Result<Self, OracleError> {
        let output = perf(&["script", "-D"], recording)?;
        let mut oracle: Self = String::from_utf8_lossy(&output.stdout).parse()?;
        oracle.warnings = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if oracle.records.is_empty() || !output.status.success() {
            return Err(OracleError::Refused(oracle.warnings));
        }
        Ok(oracle)
    }

    /// The records of the kernel, in the order in which `perf` delivers them.
    pub fn delivered(&self) -> impl Iterator<Item = &OracleRecord> {
        self.records.iter().filter(|record| record.type_.is_kernel())
    }

    /// All records in the order of the file. Of recordings that are compressed offsets repeat, and those of directories are
    /// in several files.
    pub fn in_file_order(&self) -> Vec<&OracleRecord> {
        let mut records: Vec<_> = self.records.iter().collect();
        records.sort_by_key(|record| record.offset);
        records
    }

    /// How many there are of each type.
    pub fn counts(&self) -> Stats {
        let mut stats = Stats::new();
        for record in &self.records {
            *stats.entry(record.type_.to_string()).or_default() += 1;
        }
        stats.insert("TOTAL".into(), self.records.len() as u64);
        stats
    }
}

/// Reads what `perf script -D` or `perf report -D` printed.
impl FromStr for Oracle {
    type Err = OracleError;

    fn from_str(text: &str) -> Result<Self, OracleError> {
        let mut records = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((offset, file, size, type_)) = announced(line) else { continue };
            let mut block = Vec::new();
            while let Some(line) = lines.next_if(|line| announced(line).is_none()) {
                block.push(line);
            }
            let fault = |what| OracleError::Output(format!("{what} of the record announced by {line:?}"));
            let mut bytes: Vec<u8> = block.iter().filter_map(|line| dumped(line)).flatten().collect();
            bytes.truncate(usize::from(size));
            let misc = bytes.get(4..6).and_then(|misc| misc.try_into().ok()).ok_or_else(|| fault("the header"))?;
            if bytes.len() != usize::from(size) || bytes[..4] != type_.to_ne_bytes() {
                return Err(fault("the bytes"));
            }
            let (at, front, head) = heading(&block).ok_or_else(|| fault("the heading"))?;
            let (cpu, time) = cpu_and_time(front);
            let fields = Fields::read(type_, head, &block[at + 1..]).ok_or_else(|| fault("the fields"))?;
            records.push(OracleRecord {
                offset: offset + if file == "pipe" { PIPE_HEADER } else { 0 },
                file: file.to_owned(),
                size,
                type_: RecordType(type_),
                misc: u16::from_ne_bytes(misc),
                bytes,
                cpu,
                time,
                fields,
            });
        }
        Ok(Self { records, warnings: String::new() })
    }
}

/// The line that begins a record: `0x228@perf.data [0x28]: event: 3`.
fn announced(line: &str) -> Option<(u64, &str, u16, u32)> {
    let (offset, rest) = line.split_once('@')?;
    let (rest, type_) = rest.rsplit_once("]: event: ")?;
    let (file, size) = rest.rsplit_once(" [")?;
    Some((number(offset)?, file, u16::try_from(number(size)?).ok()?, type_.parse().ok()?))
}

/// A line of the bytes: `.  0010:  6c 6f 61 64 ...`.
fn dumped(line: &str) -> Option<Vec<u8>> {
    let (at, rest) = line.strip_prefix(".  ")?.split_once(":  ")?;
    u32::from_str_radix(at, 16).ok()?;
    // Sixteen bytes, of three characters each, and then what of them can be read.
    let bytes = rest.get(..48).unwrap_or(rest);
    bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

/// Where the line is that says what the record is, `[CPU] [TIME] OFFSET [SIZE]: PERF_RECORD_...`: what stands in front of
/// the record's name, and from there on.
fn heading<'a>(block: &[&'a str]) -> Option<(usize, &'a str, &'a str)> {
    let mark = "]: PERF_RECORD_";
    let at = block.iter().position(|line| !line.starts_with('.') && line.contains(mark))?;
    let (front, head) = block[at].split_once(mark)?;
    Some((at, front, head))
}

/// What stands in front of `OFFSET [SIZE`. Without a trailer perf prints -1 for both.
fn cpu_and_time(front: &str) -> (Option<u32>, Option<u64>) {
    let mut words = front.rsplit(' ').skip(2);
    let time = words.next().and_then(|time| time.parse().ok()).filter(|time| *time != u64::MAX);
    (words.next().and_then(|cpu| cpu.parse().ok()), time)
}

/// A number in hexadecimal, as perf prints it: without `0x` if it is 0.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The counts of `perf report --stats`.
pub fn stats(recording: &Path) -> Result<Stats, OracleError> {
    let output = perf(&["report", "--stats"], recording)?;
    let warnings = String::from_utf8_lossy(&output.stderr);
    match parse_stats(&String::from_utf8_lossy(&output.stdout)) {
        Some(stats) if output.status.success() && !warnings.contains("unexpected end") => Ok(stats),
        _ => Err(OracleError::Refused(warnings.trim().to_owned())),
    }
}

/// Reads what `perf report --stats` printed; none if that is no table.
pub fn parse_stats(text: &str) -> Option<Stats> {
    let (_, table) = text.split_once("Aggregated stats:\n")?;
    // Behind the table are those of each event.
    let table = table.lines().take_while(|line| !line.ends_with(" stats:"));
    let stats: Stats = table
        .filter_map(|line| {
            let (name, rest) = line.trim_start().split_once(" events:")?;
            Some((uapi_name(name).to_owned(), rest.split_whitespace().next()?.parse().ok()?))
        })
        .collect();
    stats.contains_key("TOTAL").then_some(stats)
}

/// perf leaves out the `HEADER_` of some of its types.
fn uapi_name(name: &str) -> &str {
    match name {
        "ATTR" => "HEADER_ATTR",
        "EVENT_TYPE" => "HEADER_EVENT_TYPE",
        "TRACING_DATA" => "HEADER_TRACING_DATA",
        "BUILD_ID" => "HEADER_BUILD_ID",
        "FEATURE" => "HEADER_FEATURE",
        name => name,
    }
}

/// The version of `perf`, such as `6.1.187`.
pub fn version() -> Result<String, OracleError> {
    let output = Command::new("perf").arg("--version").output().map_err(OracleError::NoPerf)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().strip_prefix("perf version ");
    version.map(str::to_owned).ok_or_else(|| OracleError::Output(text.trim().to_owned()))
}

fn perf(args: &[&str], recording: &Path) -> Result<Output, OracleError> {
    Command::new("perf")
        .args(args)
        .arg("-i")
        .arg(recording)
        .stdin(Stdio::null())
        // Neither the user's settings nor a cache of files that they have recorded.
        .env("PERF_CONFIG", "/dev/null")
        .env("PERF_BUILDID_DIR", "/dev/null")
        .env("LC_ALL", "C")
        .output()
        .map_err(OracleError::NoPerf)
}

/// What is committed of a recording.
#[derive(Debug)]
pub struct Expected {
    /// Counts of all records.
    pub stats: Stats,
    /// The first of the kernel's records in the order of the file, if there is such a list.
    pub records: Option<Vec<ExpectedRecord>>,
    /// Where the kernel's records are, in the order in which `perf` delivers them.
    pub order: Option<Vec<u64>>,
    /// Types and times of the kernel's records in that order, where offsets are ambiguous.
    pub times: Option<Vec<(String, Option<u64>)>>,
}

/// A line of `NAME.records`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedRecord {
    /// The name of the type.
    pub type_: String,
    /// With the header.
    pub size: u16,
    /// Of the header.
    pub misc: u16,
    /// None if the record does not say so.
    pub time: Option<u64>,
}

impl Expected {
    /// Records that `NAME.records` has at most.
    pub const RECORDS: usize = 200;

    /// What is committed of this recording.
    pub fn of(name: &str) -> Self {
        let stats = lines(name, "stats", |line| {
            let (type_, count) = line.split_once(' ')?;
            Some((type_.to_owned(), count.parse().ok()?))
        });
        let record = |line: &str| {
            let words: Vec<_> = line.split(' ').collect();
            let [type_, size, misc, at] = words[..] else { return None };
            let (size, misc) = (size.parse().ok()?, number(misc)?.try_into().ok()?);
            Some(ExpectedRecord { type_: type_.to_owned(), size, misc, time: time(at)? })
        };
        let type_and_time = |line: &str| {
            let (type_, at) = line.split_once(' ')?;
            Some((type_.to_owned(), time(at)?))
        };
        Self {
            stats: stats.unwrap_or_else(|| panic!("there is no expected/{name}.stats")).into_iter().collect(),
            records: lines(name, "records", record),
            order: lines(name, "order", number),
            times: lines(name, "times", type_and_time),
        }
    }
}

/// The lines of what is expected; none if there is no such file.
fn lines<T>(name: &str, kind: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let file = fixtures().join(format!("expected/{name}.{kind}"));
    let text = fs::read_to_string(file).ok()?;
    Some(text.lines().map(|line| read(line).unwrap_or_else(|| panic!("expected/{name}.{kind}: {line:?}"))).collect())
}

fn time(text: &str) -> Option<Option<u64>> {
    if text == "-" { Some(None) } else { text.parse().ok().map(Some) }
}

/// Where the recordings are.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/perf_data")
}

/// The recording of this name.
pub fn fixture(name: &str) -> PathBuf {
    fixtures().join(format!("{name}.data"))
}

/// The names of all recordings, sorted.
pub fn fixture_names() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(fixtures())
        .expect("the recordings are part of the sources")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".data")?.to_owned()))
        .collect();
    names.sort();
    names
}
