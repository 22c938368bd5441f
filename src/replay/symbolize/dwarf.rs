//! DWARF in memory: what reads it for addr2line.

use super::elf::{Elf, ElfError};
use addr2line::Context;
use addr2line::gimli::{Dwarf, Error, Reader, ReaderOffsetId, Result, RunTimeEndian};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Functions and lines, if there is DWARF: of the file, and of one that several files share their DWARF in.
pub(super) fn load(
    elf: &Elf,
    shared: Option<&Elf>,
    budget: &mut u64,
) -> std::result::Result<Option<Context<Bytes>>, DwarfError> {
    if elf.section(".debug_info").is_none_or(|section| section.size == 0) {
        return Ok(None);
    }
    let mut dwarf = sections(elf, budget)?;
    if let Some(shared) = shared {
        dwarf.set_sup(sections(shared, budget)?);
    }
    Ok(Some(Context::from_dwarf(dwarf)?))
}

/// Why there is no use in the DWARF of a file.
pub(super) enum DwarfError {
    Elf(ElfError),
    Dwarf(Error),
}

impl From<Error> for DwarfError {
    fn from(error: Error) -> Self {
        Self::Dwarf(error)
    }
}

fn sections(elf: &Elf, budget: &mut u64) -> std::result::Result<Dwarf<Bytes>, DwarfError> {
    // The others say where variables are, and the like.
    const NEEDED: [&str; 10] = [
        ".debug_abbrev",
        ".debug_addr",
        ".debug_aranges",
        ".debug_info",
        ".debug_line",
        ".debug_line_str",
        ".debug_ranges",
        ".debug_rnglists",
        ".debug_str",
        ".debug_str_offsets",
    ];
    let endian = if elf.format.is_big { RunTimeEndian::Big } else { RunTimeEndian::Little };
    Dwarf::load(|id| {
        let section = NEEDED.contains(&id.name()).then(|| elf.section(id.name())).flatten();
        let bytes = section.map_or(Ok(Vec::new()), |section| elf.read(section, budget));
        let bytes = bytes.map_err(DwarfError::Elf)?;
        Ok(Bytes { start: 0, end: bytes.len(), bytes: Arc::new(bytes), endian })
    })
}

/// A part of a section.
#[derive(Clone)]
pub(super) struct Bytes {
    bytes: Arc<Vec<u8>>,
    start: usize,
    /// Not before the start, and not beyond the end of the section.
    end: usize,
    endian: RunTimeEndian,
}

impl Bytes {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn too_short(&self) -> Error {
        Error::UnexpectedEof(self.offset_id())
    }

    /// The byte `len` behind the first, if it is not beyond the end.
    fn at(&self, len: usize) -> Result<usize> {
        if len <= self.end - self.start { Ok(self.start + len) } else { Err(self.too_short()) }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} of {} bytes", self.start, self.end, self.bytes.len())
    }
}

impl Reader for Bytes {
    type Endian = RunTimeEndian;
    type Offset = usize;

    fn endian(&self) -> RunTimeEndian {
        self.endian
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    fn empty(&mut self) {
        self.start = self.end;
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.end = self.at(len)?;
        Ok(())
    }

    fn offset_from(&self, base: &Self) -> usize {
        self.start.saturating_sub(base.start)
    }

    fn offset_id(&self) -> ReaderOffsetId {
        // An address, so that it tells sections apart.
        ReaderOffsetId(self.bytes.as_ptr() as u64 + self.start as u64)
    }

    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        let offset = usize::try_from(id.0.checked_sub(self.offset_id().0)?).ok()?;
        (offset <= self.len()).then_some(offset)
    }

    fn find(&self, byte: u8) -> Result<usize> {
        self.rest().iter().position(|found| *found == byte).ok_or_else(|| self.too_short())
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        self.start = self.at(len)?;
        Ok(())
    }

    fn split(&mut self, len: usize) -> Result<Self> {
        let end = self.at(len)?;
        let first = Self { end, ..self.clone() };
        self.start = end;
        Ok(first)
    }

    fn to_slice(&self) -> Result<Cow<'_, [u8]>> {
        Ok(self.rest().into())
    }

    fn to_string(&self) -> Result<Cow<'_, str>> {
        std::str::from_utf8(self.rest()).map(Cow::from).map_err(|_| Error::BadUtf8)
    }

    fn to_string_lossy(&self) -> Result<Cow<'_, str>> {
        Ok(String::from_utf8_lossy(self.rest()))
    }

    fn read_slice(&mut self, to: &mut [u8]) -> Result<()> {
        let end = self.at(to.len())?;
        to.copy_from_slice(self.bytes.get(self.start..end).ok_or_else(|| self.too_short())?);
        self.start = end;
        Ok(())
    }
}
