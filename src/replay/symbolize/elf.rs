//! What is needed of an ELF file: segments, sections, build id. Only parts that are asked for are read.

use crate::record::BuildId;
use object::read::{CompressedData, CompressionFormat};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use thiserror::Error;

/// Why an ELF file, or a part of it, cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The system does not let it be opened or read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is a directory, a device, a pipe or a socket, which are not even opened.
    #[error("it is no regular file")]
    NotRegular,
    /// It has more bytes than are read of any file.
    #[error("it has {size} bytes, more than are read of a file")]
    FileTooLarge {
        /// Its size.
        size: u64,
    },
    /// A section has more bytes than may be read of the file.
    #[error("its section {section} has {size} bytes, more than are read of a file")]
    SectionTooLarge {
        /// The section's name.
        section: String,
        /// Its size when it is not compressed.
        size: u64,
    },
    /// It does not begin as ELF files do.
    #[error("it is no ELF file")]
    NotElf,
    /// Something reaches beyond the end of the file.
    #[error("it is shorter than its {what} say")]
    Truncated {
        /// What does.
        what: &'static str,
    },
    /// Something has a form that it cannot have.
    #[error("its {what} are damaged")]
    Damaged {
        /// What has.
        what: &'static str,
    },
}

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Source {
    File(File, u64),
    Memory(Vec<u8>),
}

/// The largest file that is opened. Of one so large only some sections are read.
const MAX_FILE: u64 = 1 << 34;

impl Source {
    /// A regular file; others would block, or do something when they are opened.
    pub(super) fn open(path: &Path) -> Result<Self, ElfError> {
        let check = |meta: std::fs::Metadata| match meta.is_file() {
            true if meta.len() > MAX_FILE => Err(ElfError::FileTooLarge { size: meta.len() }),
            true => Ok(meta.len()),
            false => Err(ElfError::NotRegular),
        };
        check(std::fs::metadata(path)?)?;
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let len = check(file.metadata()?)?;
        Ok(Self::File(file, len))
    }

    fn len(&self) -> u64 {
        match self {
            Self::File(_, len) => *len,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Some bytes. What is allocated is there to be read.
    fn read(&self, offset: u64, len: u64, what: &'static str) -> Result<Vec<u8>, ElfError> {
        let truncated = ElfError::Truncated { what };
        let Some(end) = offset.checked_add(len).filter(|end| *end <= self.len()) else { return Err(truncated) };
        let (Ok(start), Ok(end), Ok(len)) = (usize::try_from(offset), usize::try_from(end), usize::try_from(len))
        else {
            return Err(truncated);
        };
        match self {
            Self::File(file, _) => {
                let mut bytes = vec![0; len];
                match file.read_exact_at(&mut bytes, offset) {
                    Ok(()) => Ok(bytes),
                    // It became shorter meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(truncated),
                    Err(error) => Err(error.into()),
                }
            }
            Self::Memory(bytes) => bytes.get(start..end).map(<[u8]>::to_vec).ok_or(truncated),
        }
    }
}

/// How integers stand in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) is_64: bool,
    pub(super) is_big: bool,
}

impl Format {
    fn bytes<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
        bytes.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    pub(super) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let raw = Self::bytes(bytes, at)?;
        Some(if self.is_big { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) })
    }

    pub(super) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let raw = Self::bytes(bytes, at)?;
        Some(if self.is_big { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) })
    }

    fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let raw = Self::bytes(bytes, at)?;
        Some(if self.is_big { u64::from_be_bytes(raw) } else { u64::from_le_bytes(raw) })
    }

    /// A word at one place in 64-bit files, and at another in 32-bit ones.
    pub(super) fn word(self, bytes: &[u8], at_64: usize, at_32: usize) -> Option<u64> {
        if self.is_64 { self.u64(bytes, at_64) } else { self.u32(bytes, at_32).map(u64::from) }
    }
}

/// A part of the file that is loaded: `PT_LOAD`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) is_executable: bool,
    offset: u64,
    address: u64,
    file_size: u64,
}

impl Segment {
    /// The address that a byte of the file gets.
    pub(super) fn address_of(&self, offset: u64) -> Option<u64> {
        let inside = offset.checked_sub(self.offset).filter(|inside| *inside < self.file_size)?;
        self.address.checked_add(inside)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    name: u32,
    pub(super) kind: u32,
    flags: u64,
    pub(super) address: u64,
    offset: u64,
    pub(super) size: u64,
    pub(super) link: u32,
}

impl Section {
    pub(super) const SYMTAB: u32 = 2;
    pub(super) const DYNSYM: u32 = 11;
    const NOTE: u32 = 7;
    const NOBITS: u32 = 8;

    pub(super) fn is_code(&self) -> bool {
        const EXECINSTR: u64 = 4;
        self.flags & EXECINSTR != 0
    }
}

#[derive(Debug)]
pub(super) struct Elf {
    source: Source,
    pub(super) format: Format,
    pub(super) machine: u16,
    pub(super) segments: Vec<Segment>,
    pub(super) sections: Vec<Section>,
    section_names: Vec<u8>,
    pub(super) build_id: Option<BuildId>,
}

impl Elf {
    /// More program or section headers are nothing that a linker makes.
    const MAX_HEADERS: u64 = 1 << 16;
    const MAX_NAMES: u64 = 1 << 24;
    const MAX_NOTES: u64 = 1 << 16;

    pub(super) fn new(source: Source) -> Result<Self, ElfError> {
        let header = source.read(0, source.len().min(64), "header")?;
        let format = match header.get(..6) {
            Some([0x7f, b'E', b'L', b'F', class @ 1..=2, data @ 1..=2]) => {
                Format { is_64: *class == 2, is_big: *data == 2 }
            }
            _ => return Err(ElfError::NotElf),
        };
        Self::parse(source, format, &header)
    }

    fn parse(source: Source, format: Format, header: &[u8]) -> Result<Self, ElfError> {
        let short = || ElfError::Truncated { what: "header" };
        let half = |at_64, at_32| format.u16(header, if format.is_64 { at_64 } else { at_32 }).ok_or_else(short);
        let machine = format.u16(header, 18).ok_or_else(short)?;
        let segments_at = format.word(header, 32, 28).ok_or_else(short)?;
        let sections_at = format.word(header, 40, 32).ok_or_else(short)?;
        let (segment_size, mut segment_count) = (half(54, 42)?, u64::from(half(56, 44)?));
        let (section_size, mut section_count) = (half(58, 46)?, u64::from(half(60, 48)?));
        let mut names_in = u32::from(half(62, 50)?);

        let section = |bytes: &[u8]| {
            Some(Section {
                name: format.u32(bytes, 0)?,
                kind: format.u32(bytes, 4)?,
                flags: format.word(bytes, 8, 8)?,
                address: format.word(bytes, 16, 12)?,
                offset: format.word(bytes, 24, 16)?,
                size: format.word(bytes, 32, 20)?,
                link: format.u32(bytes, if format.is_64 { 40 } else { 24 })?,
            })
        };
        if sections_at != 0 && section_size != 0 {
            // Counts that do not fit into the header stand in the first section's.
            let first = source.read(sections_at, section_size.into(), "section headers")?;
            let info = format.u32(&first, if format.is_64 { 44 } else { 28 });
            let (Some(first), Some(info)) = (section(&first), info) else {
                return Err(ElfError::Damaged { what: "section headers" });
            };
            if section_count == 0 {
                section_count = first.size;
            }
            if names_in == 0xffff {
                names_in = first.link;
            }
            if segment_count == 0xffff {
                segment_count = info.into();
            }
        } else {
            section_count = 0;
        }
        let table = |at, size: u16, count: u64, what| match count {
            0 => Ok(Vec::new()),
            1..=Self::MAX_HEADERS if size != 0 => source.read(at, u64::from(size) * count, what),
            _ => Err(ElfError::Damaged { what }),
        };

        let bytes = table(segments_at, segment_size, segment_count, "program headers")?;
        let (mut segments, mut notes) = (Vec::new(), Vec::new());
        for header in bytes.chunks_exact(usize::from(segment_size).max(1)) {
            const LOAD: u32 = 1;
            const NOTE: u32 = 4;
            const EXECUTABLE: u32 = 1;
            let read = || {
                let flags = format.u32(header, if format.is_64 { 4 } else { 24 })?;
                let segment = Segment {
                    is_executable: flags & EXECUTABLE != 0,
                    offset: format.word(header, 8, 4)?,
                    address: format.word(header, 16, 8)?,
                    file_size: format.word(header, 32, 16)?,
                };
                Some((format.u32(header, 0)?, segment))
            };
            match read() {
                Some((LOAD, segment)) => segments.push(segment),
                Some((NOTE, segment)) => notes.push((segment.offset, segment.file_size)),
                Some(_) => {}
                None => return Err(ElfError::Damaged { what: "program headers" }),
            }
        }

        let bytes = table(sections_at, section_size, section_count, "section headers")?;
        let sections: Option<Vec<_>> = bytes.chunks_exact(usize::from(section_size).max(1)).map(section).collect();
        let sections = sections.ok_or(ElfError::Damaged { what: "section headers" })?;
        let section_names = match sections.get(names_in as usize) {
            Some(names) if names.kind != Section::NOBITS && names.size <= Self::MAX_NAMES => {
                source.read(names.offset, names.size, "section names")?
            }
            _ => Vec::new(),
        };
        // A file with debugging information only has the program headers of another.
        let in_sections = sections.iter().filter(|section| section.kind == Section::NOTE);
        let build_id = in_sections
            .map(|section| (section.offset, section.size))
            .chain(notes)
            .filter(|(_, size)| *size <= Self::MAX_NOTES)
            .filter_map(|(offset, size)| source.read(offset, size, "notes").ok())
            .find_map(|notes| build_id(&notes, format));
        Ok(Self { source, format, machine, segments, sections, section_names, build_id })
    }

    /// The address that a byte of the file gets: rather as code than as data.
    pub(super) fn address_of(segments: &[Segment], offset: u64) -> Option<u64> {
        let code = segments.iter().filter(|segment| segment.is_executable);
        code.chain(segments).find_map(|segment| segment.address_of(offset))
    }

    pub(super) fn name_of(&self, section: &Section) -> &[u8] {
        text_at(&self.section_names, section.name).unwrap_or_default()
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| self.name_of(section) == name.as_bytes())
    }

    /// What is in a section, not compressed. It is taken from the number of bytes that may still be read.
    pub(super) fn read(&self, section: &Section, budget: &mut u64) -> Result<Vec<u8>, ElfError> {
        const COMPRESSED: u64 = 0x800;
        if section.kind == Section::NOBITS {
            return Ok(Vec::new());
        }
        let mut take = |size: u64| match budget.checked_sub(size) {
            Some(left) => {
                *budget = left;
                Ok(())
            }
            None => {
                let section = String::from_utf8_lossy(self.name_of(section)).into_owned();
                Err(ElfError::SectionTooLarge { section, size })
            }
        };
        take(section.size)?;
        let bytes = self.source.read(section.offset, section.size, "sections")?;
        if section.flags & COMPRESSED == 0 {
            return Ok(bytes);
        }
        let damaged = || ElfError::Damaged { what: "compressed sections" };
        let kind = self.format.u32(&bytes, 0).ok_or_else(damaged)?;
        let uncompressed_size = self.format.word(&bytes, 8, 4).ok_or_else(damaged)?;
        let data = bytes.get(if self.format.is_64 { 24 } else { 12 }..).ok_or_else(damaged)?;
        let format = match kind {
            1 => CompressionFormat::Zlib,
            2 => CompressionFormat::Zstandard,
            _ => return Err(damaged()),
        };
        take(uncompressed_size)?;
        let compressed = CompressedData { format, data, uncompressed_size };
        compressed.decompress().map(|bytes| bytes.into_owned()).map_err(|_| damaged())
    }
}

/// The text at an index, up to its NUL.
pub(super) fn text_at(bytes: &[u8], at: u32) -> Option<&[u8]> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    rest.split(|byte| *byte == 0).next()
}

/// The build id in a run of notes.
pub(super) fn build_id(mut notes: &[u8], format: Format) -> Option<BuildId> {
    const BUILD_ID: u32 = 3;
    loop {
        let [name_len, len, kind] = [0, 4, 8].map(|at| format.u32(notes, at));
        let padded = |len: u32| usize::try_from(len).ok()?.checked_next_multiple_of(4);
        let (name, after) = notes.get(12..)?.split_at_checked(padded(name_len?)?)?;
        if name == b"GNU\0" && kind? == BUILD_ID {
            return BuildId::new(after.get(..usize::try_from(len?).ok()?)?).filter(|id| !id.as_bytes().is_empty());
        }
        notes = after.get(padded(len?)?..)?;
    }
}
