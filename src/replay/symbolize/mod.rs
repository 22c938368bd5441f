//! Functions and source lines of the addresses in a recording.
//!
//! A [`Symbolizer`] takes a [`Location`], which says which byte of which file was executed, opens that file here, and looks
//! the byte up: in its symbol table, or in that of the file with its debugging information, and for functions that were
//! inlined and for lines in DWARF. Names of Rust and C++ are demangled.
//!
//! # Which files are read
//!
//! A recording names files, and comes from anywhere. So only regular files are opened, no device, pipe or directory, and
//! only whole paths that do not lead upwards. Files are read, not mapped: one that is cut short meanwhile is an error, not a
//! signal. Looked for are the file itself, `/usr/lib/debug/.build-id/xx/yyyy.debug`, and `/usr/lib/debug/PATH.debug`, all of
//! them below [`Options::sysroot`] if there is one. A file whose build id is not the recorded one is not used.
//!
//! The files themselves are trusted to be what compilers and linkers make: a damaged one gives wrong names or none, and
//! takes no more memory than the [bounds](Symbolizer#bounds) say, but what it says of a function is believed.
//!
//! # The kernel
//!
//! Names of its functions come from `/proc/kallsyms`, if the kernel that runs is the recorded one: by build id, or if none
//! is known, by release. Addresses of an earlier start of it are moved to where it is now. BPF programs have the names that
//! `KSYMBOL` records gave them.
//!
//! # What is not there
//!
//! Stubs of the procedure linkage table have names on x86 and arm64 only. Of DWARF, files of split units (`.dwo`, `.dwp`) are not read, and
//! neither are compressed kernel modules, nor symbols in `.gnu_debugdata`. JIT compilers' maps (`/tmp/perf-PID.map`) are not
//! read: whoever may write there could say anything.
//!
//! ```no_run
//! use perfring::record::CpuMode;
//! use perfring::replay::AddressSpaces;
//! use perfring::replay::symbolize::{Options, Symbolizer};
//!
//! # let spaces = AddressSpaces::new();
//! let mut symbolizer = Symbolizer::new(Options::default());
//! if let Some(location) = spaces.resolve(7, CpuMode::User, 0x40_0010) {
//!     for symbol in &*symbolizer.symbols(&location) {
//!         println!("{}", symbol.name);
//!     }
//! }
//! for warning in symbolizer.warnings() {
//!     eprintln!("{warning}");
//! }
//! ```

mod demangle;
mod dwarf;
mod elf;
mod kernel;
mod module;
mod options;
mod stubs;
mod table;

pub use elf::ElfError;
pub use options::Options;

use crate::record::{BuildId, MappedFile};
use crate::replay::{Location, Mapping, MappingKind};
use kernel::Kernel;
use module::Module;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// A function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// Its name, demangled, of at most 16 KiB.
    pub name: Arc<str>,
    /// Whether it was inlined into the next one.
    pub is_inlined: bool,
    /// Bytes from its start, if its symbol is known.
    pub offset: Option<u64>,
    /// The source file, if there is DWARF.
    pub file: Option<Arc<str>>,
    /// The line in it.
    pub line: Option<u32>,
}

/// Why a file has no symbols, or not all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SymbolizeError {
    /// The file, or a part of it, cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ElfError,
    },
    /// It is not the file that was recorded.
    #[error("{}: it is not the recorded file: the build id is {}, not {recorded}", path.display(), or_none(found))]
    BuildId {
        /// The file.
        path: PathBuf,
        /// The build id in the recording; for a file of debugging information, that of the file that it should belong to.
        recorded: BuildId,
        /// The build id of the file that is there.
        found: Option<BuildId>,
    },
    /// The file's DWARF is damaged. Its symbol table is used.
    #[error("{}: damaged DWARF: {reason}", path.display())]
    Dwarf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The running kernel's symbols cannot be read.
    #[error("symbols of the kernel: {source}")]
    Kernel {
        /// Why.
        source: io::Error,
    },
    /// The running kernel is not the recorded one.
    #[error("symbols of the kernel: {running} is running, {recorded} was recorded")]
    KernelDiffers {
        /// The recorded kernel's build id, or release.
        recorded: String,
        /// The running kernel's.
        running: String,
    },
    /// The recording does not say which kernel it is of.
    #[error("symbols of the kernel: neither its build id nor its release is in the recording")]
    KernelUnknown,
    /// The running kernel does not show the addresses of its functions: `kernel.kptr_restrict`, or missing privileges.
    #[error("symbols of the kernel: their addresses are hidden")]
    KernelHidden,
    /// The recording refers to a symbol that the running kernel does not have.
    #[error("symbols of the kernel: it may have been elsewhere")]
    KernelMoved,
}

fn or_none(id: &Option<BuildId>) -> String {
    id.map_or("missing".to_owned(), |id| id.to_string())
}

/// Finds functions and lines for the locations of a recording.
///
/// # Bounds
///
/// Of one file at most 1 GiB of symbols and DWARF is read, of all together [`MAX_LOADED`](Self::MAX_LOADED) is kept, and
/// besides that what was parsed of it; those that were not used for longest go first. Files beyond 16 GiB are not opened. The
/// last [`MAX_CACHED`](Self::MAX_CACHED) answers are remembered, and what is wrong with at most
/// [`MAX_WARNINGS`](Self::MAX_WARNINGS) files.
pub struct Symbolizer {
    options: Options,
    files: HashMap<Key, Known>,
    kernel: Kernel,
    cache: HashMap<(u32, u64), Arc<[Symbol]>>,
    none: Arc<[Symbol]>,
    loaded: u64,
    uses: u64,
    warnings: Vec<SymbolizeError>,
    warned: HashSet<String>,
    warnings_left_out: u64,
}

/// Files are told apart by name and build id.
type Key = (Arc<[u8]>, Option<BuildId>);

/// A file, and its number in the cache.
struct Known {
    number: u32,
    state: State,
}

enum State {
    /// It has no symbols.
    Unusable,
    /// It made room for others.
    Unloaded,
    Loaded(Box<Module>),
}

impl Symbolizer {
    /// Most bytes of symbols and DWARF in memory, but for the file that was used last.
    pub const MAX_LOADED: u64 = 1 << 31;
    /// Most files that are known at a time.
    pub const MAX_FILES: usize = 1 << 14;
    /// Most answers that are remembered.
    pub const MAX_CACHED: usize = 1 << 17;
    /// Most warnings.
    pub const MAX_WARNINGS: usize = 1 << 10;

    /// No file was looked for yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            files: HashMap::new(),
            kernel: Kernel::default(),
            cache: HashMap::new(),
            none: Arc::from([]),
            loaded: 0,
            uses: 0,
            warnings: Vec::new(),
            warned: HashSet::new(),
            warnings_left_out: 0,
        }
    }

    /// What was wrong with files so far, each thing once.
    pub fn warnings(&self) -> &[SymbolizeError] {
        &self.warnings
    }

    /// How many warnings there would be beyond [`MAX_WARNINGS`](Self::MAX_WARNINGS).
    pub fn warnings_left_out(&self) -> u64 {
        self.warnings_left_out
    }

    /// The functions at a location, from the innermost: those that were inlined, and the one that they were inlined into.
    /// Empty if none is known.
    ///
    /// For a return address, look up the byte before: [`Frame::address`](crate::replay::Frame::address).
    pub fn symbols(&mut self, location: &Location<'_>) -> Arc<[Symbol]> {
        let mut warnings = Vec::new();
        let symbols = match location.mapping.kind {
            MappingKind::Symbol => {
                let name = String::from_utf8_lossy(location.mapping.filename()).into();
                [Symbol { name, offset: Some(location.offset), ..Symbol::default() }].into()
            }
            MappingKind::Kernel => self.of_kernel(location, &mut warnings),
            MappingKind::Process => self.of_process(location, &mut warnings),
        };
        for warning in warnings {
            self.warn(warning);
        }
        symbols
    }

    fn of_kernel(&mut self, location: &Location<'_>, warnings: &mut Vec<SymbolizeError>) -> Arc<[Symbol]> {
        let mapping = location.mapping;
        if !self.kernel.is_recorded(&self.options, mapping, warnings) {
            return self.none.clone();
        }
        match self.kernel.function(mapping, location.ip, warnings) {
            Some((name, offset)) => {
                let name = String::from_utf8_lossy(name).into();
                [Symbol { name, offset: Some(offset), ..Symbol::default() }].into()
            }
            None => self.none.clone(),
        }
    }

    fn of_process(&mut self, location: &Location<'_>, warnings: &mut Vec<SymbolizeError>) -> Arc<[Symbol]> {
        let mapping = location.mapping;
        let in_record = match mapping.file {
            Some(MappedFile::BuildId(id)) => Some(id),
            _ => None,
        };
        let id = in_record.or_else(|| self.options.build_ids.get(mapping.filename()).copied());
        let key = (mapping.name.clone(), id.filter(|id| !id.as_bytes().is_empty()));
        if let Some(file) = self.files.get(&key)
            && let Some(known) = self.cache.get(&(file.number, location.offset))
        {
            return known.clone();
        }
        self.uses += 1;
        let number = self.load(&key, mapping, warnings);
        let found = match self.files.get_mut(&key).map(|file| &mut file.state) {
            Some(State::Loaded(module)) => {
                module.used = self.uses;
                module.symbols(location.offset, warnings)
            }
            _ => return self.none.clone(),
        };
        self.make_room();
        if self.cache.len() >= Self::MAX_CACHED {
            self.cache.clear();
        }
        let symbols: Arc<[Symbol]> = if found.is_empty() { self.none.clone() } else { found.into() };
        self.cache.insert((number, location.offset), symbols.clone());
        symbols
    }

    /// Loads a file if it is not, and gives its number.
    fn load(&mut self, key: &Key, mapping: &Mapping, warnings: &mut Vec<SymbolizeError>) -> u32 {
        let number = match self.files.get(key) {
            Some(Known { number, state: State::Unusable | State::Loaded(_) }) => return *number,
            Some(Known { number, state: State::Unloaded }) => *number,
            None => {
                if self.files.len() >= Self::MAX_FILES {
                    self.files.clear();
                    self.cache.clear();
                    self.loaded = 0;
                }
                self.files.len() as u32
            }
        };
        let (name, id) = key;
        let module = match &**name {
            b"[vdso]" => self.vdso(mapping, warnings),
            name => Module::find(&self.options, name, *id, warnings),
        };
        let state = match module {
            Some(module) => {
                self.loaded = self.loaded.saturating_add(module.size);
                State::Loaded(Box::new(module))
            }
            None => State::Unusable,
        };
        self.files.insert(key.clone(), Known { number, state });
        number
    }

    /// Unloads files until the others are few enough; the one that was used last stays.
    fn make_room(&mut self) {
        while self.loaded > Self::MAX_LOADED {
            let loaded = self.files.values_mut().filter_map(|file| match &file.state {
                State::Loaded(module) if module.used != self.uses => Some((module.used, module.size, file)),
                _ => None,
            });
            let Some((_, size, file)) = loaded.min_by_key(|(used, ..)| *used) else { return };
            file.state = State::Unloaded;
            self.loaded = self.loaded.saturating_sub(size);
        }
    }

    /// The code that the kernel maps into each process: if it is the recorded kernel's, that of this process.
    fn vdso(&mut self, mapping: &Mapping, warnings: &mut Vec<SymbolizeError>) -> Option<Module> {
        // Not worth a warning: it is not the kernel that was asked for.
        if !self.kernel.is_recorded(&self.options, mapping, &mut Vec::new()) {
            return None;
        }
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let range = maps.lines().find(|line| line.ends_with(" [vdso]"))?.split(' ').next()?;
        let (start, end) = range.split_once('-')?;
        let [start, end] = [start, end].map(|digits| u64::from_str_radix(digits, 16).ok());
        let (start, len) = (start?, end?.checked_sub(start?)?);
        // Processes of another word size have another one.
        let is_high = |address: u64| address > u32::MAX.into();
        if len != mapping.len || is_high(start) != is_high(mapping.start) {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, start).ok()?;
        Module::in_memory("[vdso]", bytes, warnings)
    }

    fn warn(&mut self, warning: SymbolizeError) {
        let text = warning.to_string();
        if self.warned.contains(&text) {
            return;
        }
        if self.warnings.len() >= Self::MAX_WARNINGS {
            self.warnings_left_out += 1;
            return;
        }
        self.warned.insert(text);
        self.warnings.push(warning);
    }
}

impl std::fmt::Debug for Symbolizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { options, files, loaded, warnings, .. } = self;
        f.debug_struct("Symbolizer")
            .field("options", options)
            .field("files", &files.len())
            .field("loaded", loaded)
            .field("warnings", warnings)
            .finish_non_exhaustive()
    }
}
