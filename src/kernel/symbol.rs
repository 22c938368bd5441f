//! Where in a file the code of a function is.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use object::SymbolFlags;
use object::elf::{STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, SymbolType};
use object::read::{Object as _, ObjectSegment as _, ObjectSymbol as _, ReadCache};

use crate::kernel::{Error, EventBuilder, suggest};

impl EventBuilder {
    /// A [`uprobe`](Self::uprobe) at the first instruction of a function, by the name that its symbol has in the ELF
    /// file: mangled, and not stripped from it. Needs the feature `symbols`.
    ///
    /// # Errors
    ///
    /// Those of [`uprobe`](Self::uprobe); [`Error::ProbeFile`]; [`Error::ProbeElf`], also for a name that several
    /// functions have, and for one that stands for whichever function suits the CPU (an IFUNC, as `strlen` of glibc);
    /// and [`Error::NoSymbol`] with names that are near.
    ///
    /// ```no_run
    /// use perfring::kernel::EventBuilder;
    /// # fn main() -> Result<(), perfring::kernel::Error> {
    /// let allocations = EventBuilder::uprobe_symbol("/lib/x86_64-linux-gnu/libc.so.6", "malloc")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn uprobe_symbol(path: impl AsRef<Path>, symbol: &str) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::uprobe(path, file_offset(path, symbol)?)
    }

    /// As [`uprobe_symbol`](Self::uprobe_symbol), but an event each time the function returns.
    ///
    /// # Errors
    ///
    /// As for [`uprobe_symbol`](Self::uprobe_symbol).
    pub fn uretprobe_symbol(path: impl AsRef<Path>, symbol: &str) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::uretprobe(path, file_offset(path, symbol)?)
    }
}

/// The names of the functions that [`EventBuilder::uprobe_symbol`] finds in an ELF file, in their order; those that several functions
/// have, or that stand for whichever suits the CPU, are left out. Needs the feature `symbols`.
///
/// # Errors
///
/// [`Error::ProbeFile`], [`Error::ProbeElf`].
pub fn function_names(path: impl AsRef<Path>) -> Result<Vec<String>, Error> {
    with_elf(path.as_ref(), |elf| {
        // None: it cannot be said which one.
        let mut addresses: BTreeMap<String, Option<u64>> = BTreeMap::new();
        for (found, kind) in functions(elf) {
            let Ok(name) = found.name() else { continue };
            let address = (kind == STT_FUNC && found.address() != 0).then(|| found.address());
            match addresses.get_mut(name) {
                Some(other) if *other != address => *other = None,
                Some(_) => {}
                None => _ = addresses.insert(name.to_owned(), address),
            }
        }
        Ok(addresses.into_iter().filter(|(_, address)| address.is_some()).map(|(name, _)| name).collect())
    })
}

/// Why a file is not what is needed, beside that it cannot be read.
pub(super) enum ElfProblem {
    Damaged(String),
    Other(Error),
}

impl From<object::Error> for ElfProblem {
    fn from(error: object::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

pub(super) type Parts = ReadCache<File>;
pub(super) type Elf<'a> = object::File<'a, &'a Parts>;

/// Reads the parts of an ELF file that are asked for, not the whole.
pub(super) fn with_elf<T>(path: &Path, action: impl FnOnce(&Elf<'_>) -> Result<T, ElfProblem>) -> Result<T, Error> {
    let file = File::open(path).map_err(|source| Error::ProbeFile { path: path.into(), source })?;
    let parts = ReadCache::new(file);
    let parsed = object::File::parse(&parts).map_err(ElfProblem::from);
    parsed.and_then(|elf| action(&elf)).map_err(|problem| match problem {
        ElfProblem::Damaged(reason) => Error::ProbeElf { path: path.into(), reason },
        ElfProblem::Other(error) => error,
    })
}

/// Symbols of code, and their kinds: data would never be hit.
fn functions<'a, 'b>(elf: &'b Elf<'a>) -> impl Iterator<Item = (object::Symbol<'a, 'b, &'a Parts>, SymbolType)> {
    elf.symbols().chain(elf.dynamic_symbols()).filter(|found| !found.is_undefined()).filter_map(|found| {
        let SymbolFlags::Elf { st_info, .. } = found.flags() else { return None };
        let kind = st_info.st_type();
        [STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE].contains(&kind).then_some((found, kind))
    })
}

/// Where in the file an address is; none where it is in no segment that is loaded from the file.
pub(super) fn offset_of(elf: &Elf<'_>, address: u64) -> Option<u64> {
    elf.segments().find_map(|segment| {
        let inside = address.checked_sub(segment.address())?;
        let (start, len) = segment.file_range();
        (inside < len).then(|| start.checked_add(inside)).flatten()
    })
}

fn file_offset(path: &Path, symbol: &str) -> Result<u64, Error> {
    with_elf(path, |elf| {
        let damaged = |reason: String| Err(ElfProblem::Damaged(reason));
        let mut address = None;
        for (found, kind) in functions(elf).filter(|(found, _)| found.name() == Ok(symbol)) {
            if kind == STT_GNU_IFUNC {
                return damaged(format!(
                    "{symbol} is an IFUNC, which chooses a function when a program starts: name the one that it chooses"
                ));
            }
            // The same function may be in both tables.
            if address.replace(found.address()).is_some_and(|other| other != found.address()) {
                return damaged(format!("it has several functions {symbol}: say the offset of the one that is meant"));
            }
        }
        let Some(address) = address else {
            let names = functions(elf).filter_map(|(found, _)| found.name().ok());
            let suggestions = suggest::near(symbol, names);
            let (path, symbol) = (path.into(), symbol.to_owned());
            return Err(ElfProblem::Other(Error::NoSymbol { path, symbol, suggestions }));
        };
        match offset_of(elf, address) {
            Some(offset) => Ok(offset),
            None => damaged(format!("symbol {symbol} at {address:#x} is in no segment that is loaded from the file")),
        }
    })
}
