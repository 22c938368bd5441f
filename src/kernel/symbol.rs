//! Where in a file the code of a function is.

use std::fs::File;
use std::path::Path;

use object::SymbolFlags;
use object::elf::{STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE};
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

fn file_offset(path: &Path, symbol: &str) -> Result<u64, Error> {
    let file = File::open(path).map_err(|source| Error::ProbeFile { path: path.into(), source })?;
    // Reads the parts that are asked for, not the whole file.
    let parts = ReadCache::new(file);
    let damaged = |reason: String| Error::ProbeElf { path: path.into(), reason };
    let elf = object::File::parse(&parts).map_err(|error| damaged(error.to_string()))?;
    // Data would never be hit.
    let functions = || {
        elf.symbols().chain(elf.dynamic_symbols()).filter(|found| !found.is_undefined()).filter_map(|found| {
            let SymbolFlags::Elf { st_info, .. } = found.flags() else { return None };
            let kind = st_info.st_type();
            [STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE].contains(&kind).then_some((found, kind))
        })
    };
    let mut address = None;
    for (found, kind) in functions().filter(|(found, _)| found.name() == Ok(symbol)) {
        if kind == STT_GNU_IFUNC {
            return Err(damaged(format!(
                "{symbol} is an IFUNC, which chooses a function when a program starts: name the one that it chooses"
            )));
        }
        // The same function may be in both tables.
        if address.replace(found.address()).is_some_and(|other| other != found.address()) {
            return Err(damaged(format!("it has several functions {symbol}: say the offset of the one that is meant")));
        }
    }
    let Some(address) = address else {
        let names = functions().filter_map(|(found, _)| found.name().ok());
        let suggestions = suggest::near(symbol, names);
        return Err(Error::NoSymbol { path: path.into(), symbol: symbol.to_owned(), suggestions });
    };
    elf.segments()
        .find_map(|segment| {
            let inside = address.checked_sub(segment.address())?;
            let (start, len) = segment.file_range();
            (inside < len).then(|| start.checked_add(inside)).flatten()
        })
        .ok_or_else(|| {
            damaged(format!("symbol {symbol} at {address:#x} is in no segment that is loaded from the file"))
        })
}
