//! A mapped file: found, checked, and read.

use super::demangle::demangled;
use super::dwarf::{self, Bytes, DwarfError};
use super::elf::{Elf, ElfError, Section, Segment, Source, text_at};
use super::stubs;
use super::table::SymbolTable;
use super::{Options, Symbol, SymbolizeError};
use crate::record::BuildId;
use addr2line::Context;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The functions of a file.
pub(super) struct Module {
    path: PathBuf,
    segments: Vec<Segment>,
    tables: Vec<SymbolTable>,
    dwarf: Option<Context<Bytes>>,
    /// Bytes in memory.
    pub(super) size: u64,
    /// When it was last used.
    pub(super) used: u64,
}

/// Most bytes that are kept of one file: symbols first, then DWARF.
const MAX_BYTES: u64 = 1 << 30;
/// More functions in one place than this are a damaged file's.
const MAX_INLINED: usize = 1 << 10;
const DEBUG: &str = "usr/lib/debug";

impl Module {
    /// The module that a mapping's name and build id lead to. None for names that are no file's.
    pub(super) fn find(
        options: &Options,
        name: &[u8],
        recorded: Option<BuildId>,
        warnings: &mut Vec<SymbolizeError>,
    ) -> Option<Self> {
        let mut path = path_of(options, name)?;
        let mut opened = open(&path);
        // Something else may have its place now, but not with the same build id.
        if recorded.is_some()
            && opened.as_ref().is_err_and(is_missing)
            && let Some(other) = name.strip_suffix(b" (deleted)").and_then(|name| path_of(options, name))
        {
            (opened, path) = (open(&other), other);
        }
        let elf = match opened {
            Ok(elf) => elf,
            Err(source) => {
                warnings.push(SymbolizeError::File { path, source });
                return None;
            }
        };
        if let Some(recorded) = recorded
            && elf.build_id.is_none_or(|found| !is_same(found, recorded))
        {
            warnings.push(SymbolizeError::BuildId { path, recorded, found: elf.build_id });
            return None;
        }
        let debug = debug_file(options, name, elf.build_id, warnings);
        Some(Self::load(options, path, elf, debug, warnings))
    }

    /// The module that stands in memory as its file would.
    pub(super) fn in_memory(name: &str, bytes: Vec<u8>, warnings: &mut Vec<SymbolizeError>) -> Option<Self> {
        let path = PathBuf::from(name);
        match Elf::new(Source::Memory(bytes)) {
            Ok(elf) => Some(Self::load(&Options::default(), path, elf, None, warnings)),
            Err(source) => {
                warnings.push(SymbolizeError::File { path, source });
                None
            }
        }
    }

    fn load(
        options: &Options,
        path: PathBuf,
        elf: Elf,
        debug: Option<(PathBuf, Elf)>,
        warnings: &mut Vec<SymbolizeError>,
    ) -> Self {
        let mut budget = MAX_BYTES;
        let mut tables = Vec::new();
        let mut table = |path: &Path, elf: &Elf, kind, tables: &mut Vec<SymbolTable>| match SymbolTable::load(
            elf,
            kind,
            &mut budget,
        ) {
            Ok(table) => tables.extend(table),
            Err(source) => warnings.push(SymbolizeError::File { path: path.into(), source }),
        };
        table(&path, &elf, Section::SYMTAB, &mut tables);
        if let (true, Some((path, elf))) = (tables.is_empty(), &debug) {
            table(path, elf, Section::SYMTAB, &mut tables);
        }
        if tables.is_empty() {
            table(&path, &elf, Section::DYNSYM, &mut tables);
        }
        match stubs::load(&elf, &mut budget) {
            Ok(table) => tables.extend(table),
            Err(source) => warnings.push(SymbolizeError::File { path: path.clone(), source }),
        }

        let mut dwarf = None;
        for (path, elf) in std::iter::once((&path, &elf)).chain(debug.as_ref().map(|(path, elf)| (path, elf))) {
            if !options.symbol_tables_only && dwarf.is_none() {
                let shared = shared_dwarf(options, path, elf);
                dwarf = dwarf::load(elf, shared.as_ref(), &mut budget).unwrap_or_else(|error| {
                    warnings.push(match error {
                        DwarfError::Elf(source) => SymbolizeError::File { path: path.clone(), source },
                        DwarfError::Dwarf(error) => {
                            SymbolizeError::Dwarf { path: path.clone(), reason: error.to_string() }
                        }
                    });
                    None
                });
            }
        }
        Self { path, segments: elf.segments, tables, dwarf, size: MAX_BYTES - budget, used: 0 }
    }

    /// The functions at a byte of the file, from the innermost.
    pub(super) fn symbols(&self, offset: u64, warnings: &mut Vec<SymbolizeError>) -> Vec<Symbol> {
        let Some(address) = Elf::address_of(&self.segments, offset) else { return Vec::new() };
        let mut symbols = Vec::new();
        let outermost = self.frames(address, &mut symbols).unwrap_or_else(|error| {
            warnings.push(SymbolizeError::Dwarf { path: self.path.clone(), reason: error.to_string() });
            None
        });
        // The table knows functions by what they really are, as `f.cold`; DWARF knows what was inlined into them.
        let in_table = self.tables.iter().find_map(|table| table.get(address)).map(|(name, start)| Symbol {
            name: demangled(without_version(&String::from_utf8_lossy(name))),
            offset: Some(address - start),
            ..Symbol::default()
        });
        let last = match (in_table, outermost) {
            (Some(known), Some(line)) => Some(Symbol { file: line.file, line: line.line, ..known }),
            (known, None) => known,
            (None, Some(line)) => Some(line).filter(|line| !line.name.is_empty()),
        };
        symbols.extend(last);
        symbols
    }

    /// Adds those that were inlined, and gives the one that they were inlined into. Its name may be empty: not known.
    fn frames(&self, address: u64, to: &mut Vec<Symbol>) -> Result<Option<Symbol>, addr2line::gimli::Error> {
        let Some(dwarf) = &self.dwarf else { return Ok(None) };
        let mut frames = dwarf.find_frames(address).skip_all_loads()?;
        let mut last: Option<Symbol> = None;
        while let Some(frame) = frames.next()? {
            let name = match &frame.function {
                Some(function) => demangled(&function.raw_name()?),
                None => Arc::from(""),
            };
            let location = frame.location.as_ref();
            let symbol = Symbol {
                name,
                file: location.and_then(|location| location.file).map(Arc::from),
                line: location.and_then(|location| location.line),
                ..Symbol::default()
            };
            if let Some(inlined) = last.replace(symbol) {
                to.push(Symbol { is_inlined: true, ..inlined });
            }
            if to.len() >= MAX_INLINED {
                break;
            }
        }
        Ok(last)
    }
}

/// `f` of `f@@VERSION`, which the symbols of libraries have that offer several.
fn without_version(name: &str) -> &str {
    match name.split_once('@') {
        Some((_, "plt")) | Some(("", _)) | None => name,
        Some((function, _)) => function,
    }
}

/// Where a mapping's file is. The kernel writes whole paths, and none that leads upwards.
fn path_of(options: &Options, name: &[u8]) -> Option<PathBuf> {
    let inside = name.strip_prefix(b"/")?;
    let leads_upwards = inside.split(|byte| *byte == b'/').any(|part| part == b"..");
    if inside.is_empty() || inside.starts_with(b"/") || leads_upwards {
        return None;
    }
    Some(root(options).join(OsStr::from_bytes(inside)))
}

fn root(options: &Options) -> &Path {
    options.sysroot.as_deref().unwrap_or(Path::new("/"))
}

fn open(path: &Path) -> Result<Elf, ElfError> {
    Elf::new(Source::open(path)?)
}

fn is_missing(error: &ElfError) -> bool {
    matches!(error, ElfError::Io(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Whether two build ids are the same: older recordings fill them up with zeros.
pub(super) fn is_same(a: BuildId, b: BuildId) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let common = a.len().min(b.len());
    let (a, b) = (a.split_at(common), b.split_at(common));
    a.0 == b.0 && a.1.iter().chain(b.1).all(|byte| *byte == 0)
}

/// `/usr/lib/debug/.build-id/xx/yyyy.debug`
fn path_by_build_id(options: &Options, id: BuildId) -> PathBuf {
    let digits = id.to_string();
    let (directory, file) = digits.split_at_checked(2).unwrap_or((&digits, ""));
    root(options).join(DEBUG).join(".build-id").join(directory).join(format!("{file}.debug"))
}

/// The file with debugging information that was split off a file.
fn debug_file(
    options: &Options,
    name: &[u8],
    id: Option<BuildId>,
    warnings: &mut Vec<SymbolizeError>,
) -> Option<(PathBuf, Elf)> {
    let by_name = path_of(options, &[b"/", DEBUG.as_bytes(), name, b".debug"].concat());
    for path in id.map(|id| path_by_build_id(options, id)).into_iter().chain(by_name) {
        match open(&path) {
            Ok(elf) if elf.build_id == id => return Some((path, elf)),
            Ok(elf) => {
                warnings.extend(id.map(|recorded| SymbolizeError::BuildId { path, recorded, found: elf.build_id }))
            }
            Err(error) if is_missing(&error) => {}
            Err(source) => warnings.push(SymbolizeError::File { path, source }),
        }
    }
    None
}

/// The file with the DWARF that several files have in common, if this one refers to one.
fn shared_dwarf(options: &Options, path: &Path, elf: &Elf) -> Option<Elf> {
    const LINK: u64 = 1 << 16;
    let section = elf.section(".gnu_debugaltlink")?;
    let link = elf.read(section, &mut LINK.clone()).ok()?;
    let name = text_at(&link, 0)?;
    let id = BuildId::new(link.get(name.len() + 1..)?)?;
    let by_name = match path_of(options, name) {
        Some(path) => path,
        None => path.parent()?.join(OsStr::from_bytes(name)),
    };
    let candidates = [path_by_build_id(options, id), by_name];
    candidates.iter().filter_map(|path| open(path).ok()).find(|elf| elf.build_id == Some(id))
}
