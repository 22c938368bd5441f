//! The parts of an ELF file that matter here, with everything checked that refers to something else.

use super::ObjectError;
use crate::record::ByteOrder;
use object::Endianness;
use object::elf::{
    EM_BPF, ET_REL, FileHeader64, SHF_ALLOC, SHF_EXECINSTR, SHT_NOBITS, SHT_NULL, SHT_PROGBITS, SHT_REL, SHT_RELA,
    SHT_SYMTAB, STB_LOCAL, STB_WEAK, STT_FUNC, STT_SECTION, SymbolType,
};
use object::read::elf::{FileHeader as _, Rel as _, SectionHeader as _, SectionTable, Sym as _};

/// Bytes that a name may have: the kernel's `KSYM_NAME_LEN`. Names may share their bytes, so that many long ones would take
/// far more memory than the file.
const MAX_NAME: usize = 512;

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Instructions.
    Code,
    /// `struct bpf_map_def`.
    LegacyMaps,
    /// Maps that BTF describes.
    BtfMaps,
    /// `.rodata`, `.data` or `.bss`.
    Data,
    /// Something else, by its name.
    Other,
}

pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    pub(super) class: Class,
    /// None of a section that is not in the file (`.bss`).
    pub(super) bytes: &'a [u8],
    pub(super) size: u64,
    /// In the order of their offsets.
    pub(super) relocations: Vec<Relocation>,
}

pub(super) struct Symbol<'a> {
    pub(super) name: &'a str,
    pub(super) type_: SymbolType,
    pub(super) global: bool,
    pub(super) weak: bool,
    pub(super) undefined: bool,
    /// None for one that is undefined, absolute or common.
    pub(super) section: Option<usize>,
    pub(super) value: u64,
    pub(super) size: u64,
}

impl Symbol<'_> {
    pub(super) fn is_function(&self) -> bool {
        self.type_ == STT_FUNC
    }

    pub(super) fn is_section(&self) -> bool {
        self.type_ == STT_SECTION
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Relocation {
    pub(super) offset: u64,
    pub(super) type_: u32,
    pub(super) symbol: usize,
}

pub(super) struct File<'a> {
    pub(super) order: ByteOrder,
    /// By their numbers in the file; the first is none.
    pub(super) sections: Vec<Section<'a>>,
    /// Likewise.
    pub(super) symbols: Vec<Symbol<'a>>,
}

type Header = FileHeader64<Endianness>;

fn damaged(error: object::read::Error) -> ObjectError {
    ObjectError::Elf { reason: error.to_string() }
}

impl<'a> File<'a> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, ObjectError> {
        let header = Header::parse(data).map_err(damaged)?;
        let endian = header.endian().map_err(damaged)?;
        if header.e_machine(endian) != EM_BPF {
            return Err(ObjectError::Machine { machine: header.e_machine(endian).0 });
        }
        if header.e_type(endian) != ET_REL {
            return Err(ObjectError::FileType { type_: header.e_type(endian).0 });
        }
        let order = match endian {
            Endianness::Little => ByteOrder::Little,
            Endianness::Big => ByteOrder::Big,
        };
        let table = header.sections(endian, data).map_err(damaged)?;
        check_sizes(&table, endian, data)?;
        let mut sections = read_sections(header, &table, endian, data)?;
        let symbols = read_symbols(&table, &sections, endian, data)?;
        read_relocations(&table, &mut sections, &symbols, endian, data)?;
        Ok(Self { order, sections, symbols })
    }

    /// The name of a symbol; of one that stands for a section that of the section.
    pub(super) fn symbol_name(&self, symbol: &Symbol<'a>) -> &'a str {
        let section = symbol.section.and_then(|section| self.sections.get(section));
        match section {
            Some(section) if symbol.is_section() => section.name,
            _ => symbol.name,
        }
    }

    /// A relocation in section `.maps` that is no slot of a map.
    pub(super) fn map_relocation(&self, relocation: Relocation) -> ObjectError {
        let symbol = self.symbols.get(relocation.symbol).map_or("", |symbol| self.symbol_name(symbol));
        let (offset, type_) = (relocation.offset, relocation.type_);
        ObjectError::MapRelocation { offset, symbol: symbol.to_owned(), type_ }
    }

    /// The first section of this name that has bytes.
    pub(super) fn bytes_of(&self, name: &str) -> Option<&'a [u8]> {
        self.sections.iter().find(|section| section.name == name && !section.bytes.is_empty()).map(|found| found.bytes)
    }

    /// The sections of a class, with their numbers.
    pub(super) fn of_class(&self, class: Class) -> impl Iterator<Item = (usize, &Section<'a>)> {
        self.sections.iter().enumerate().filter(move |(_, section)| section.class == class)
    }
}

/// The bytes of the first section of this name, in an ELF file of whatever machine.
pub(super) fn section_of_any<'a>(data: &'a [u8], wanted: &str) -> Result<Option<&'a [u8]>, ObjectError> {
    let header = Header::parse(data).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let table = header.sections(endian, data).map_err(damaged)?;
    let found = table.section_by_name(endian, wanted.as_bytes());
    found.map(|(_, section)| section.data(endian, data).map_err(damaged)).transpose()
}

/// Sections that share bytes would make many times the file of them.
fn check_sizes(table: &SectionTable<'_, Header>, endian: Endianness, data: &[u8]) -> Result<(), ObjectError> {
    let in_file = table.iter().filter(|section| ![SHT_NULL, SHT_NOBITS].contains(&section.sh_type(endian)));
    let total = in_file.fold(0_u64, |total, section| total.saturating_add(section.sh_size(endian)));
    match total > data.len() as u64 {
        true => Err(ObjectError::Sizes { total, len: data.len() }),
        false => Ok(()),
    }
}

/// The string at this offset of a table.
fn name<'a>(strings: &'a [u8], offset: u32, what: &'static str, index: usize) -> Result<&'a str, ObjectError> {
    let bad = || ObjectError::Name { what, index };
    let rest = usize::try_from(offset).ok().and_then(|offset| strings.get(offset..)).ok_or_else(bad)?;
    let end = rest.iter().take(MAX_NAME + 1).position(|&byte| byte == 0).ok_or_else(bad)?;
    rest.get(..end).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or_else(bad)
}

fn read_sections<'a>(
    header: &Header,
    table: &SectionTable<'a, Header>,
    endian: Endianness,
    data: &'a [u8],
) -> Result<Vec<Section<'a>>, ObjectError> {
    let mut strings: &[u8] = &[];
    if !table.is_empty() {
        let index = header.section_strings_index(endian, data).map_err(damaged)?;
        strings = table.section(index).and_then(|section| section.data(endian, data)).map_err(damaged)?;
    }
    let mut sections = Vec::new();
    for (index, raw) in table.enumerate() {
        let name = name(strings, raw.sh_name(endian), "section", index.0)?;
        let (type_, flags) = (raw.sh_type(endian), raw.sh_flags(endian));
        let has = |flag| flags.0 & flag != 0;
        let (code, alloc) = (has(SHF_EXECINSTR.0), has(SHF_ALLOC.0));
        let is = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let class = match type_ {
            SHT_PROGBITS if code => Class::Code,
            SHT_PROGBITS if name == "maps" => Class::LegacyMaps,
            SHT_PROGBITS if name == ".maps" => Class::BtfMaps,
            SHT_PROGBITS if alloc && (is(".rodata") || is(".data")) => Class::Data,
            SHT_NOBITS if alloc && (is(".bss") || is(".data")) => Class::Data,
            _ => Class::Other,
        };
        let bytes = match type_ {
            SHT_NULL => &[],
            _ => raw.data(endian, data).map_err(damaged)?,
        };
        sections.push(Section { name, class, bytes, size: raw.sh_size(endian), relocations: Vec::new() });
    }
    Ok(sections)
}

fn read_symbols<'a>(
    table: &SectionTable<'a, Header>,
    sections: &[Section<'a>],
    endian: Endianness,
    data: &'a [u8],
) -> Result<Vec<Symbol<'a>>, ObjectError> {
    let raw = table.symbols(endian, data, SHT_SYMTAB).map_err(damaged)?;
    let strings = sections.get(raw.string_section().0).map_or(&[][..], |section| section.bytes);
    let mut symbols = Vec::new();
    // The first is none, and `enumerate` leaves it out.
    for (number, symbol) in raw.iter().enumerate() {
        let index = object::SymbolIndex(number);
        let section = raw.symbol_section(endian, symbol, index).map_err(damaged)?.map(|section| section.0);
        if let Some(section) = section
            && section >= sections.len()
        {
            return Err(ObjectError::SymbolSection { symbol: number, section, count: sections.len() });
        }
        symbols.push(Symbol {
            name: name(strings, symbol.st_name(endian), "symbol", number)?,
            type_: symbol.st_type(),
            global: symbol.st_bind() != STB_LOCAL,
            weak: symbol.st_bind() == STB_WEAK,
            undefined: symbol.is_undefined(endian),
            section,
            value: symbol.st_value(endian),
            size: symbol.st_size(endian),
        });
    }
    Ok(symbols)
}

fn read_relocations<'a>(
    table: &SectionTable<'a, Header>,
    sections: &mut [Section<'a>],
    symbols: &[Symbol<'a>],
    endian: Endianness,
    data: &'a [u8],
) -> Result<(), ObjectError> {
    for (index, raw) in table.enumerate() {
        if ![SHT_REL, SHT_RELA].contains(&raw.sh_type(endian)) {
            continue;
        }
        let name = sections.get(index.0).map_or("", |section| section.name);
        let target = raw.sh_info(endian) as usize;
        let Some(section) = sections.get_mut(target) else {
            return Err(ObjectError::RelocatedSection { section: name.to_owned(), target });
        };
        // Those of BTF and of DWARF say what their sections say already.
        if section.class == Class::Other {
            continue;
        }
        let Some((list, _)) = raw.rel(endian, data).map_err(damaged)? else {
            return Err(ObjectError::Addends { section: name.to_owned() });
        };
        for rel in list {
            let relocation = Relocation {
                offset: rel.r_offset(endian),
                type_: rel.r_type(endian).0,
                symbol: rel.r_sym(endian) as usize,
            };
            if relocation.symbol >= symbols.len() {
                let (symbol, count) = (relocation.symbol, symbols.len());
                return Err(ObjectError::RelocationSymbol { section: section.name.to_owned(), symbol, count });
            }
            if relocation.type_ != R_BPF_NONE {
                section.relocations.push(relocation);
            }
        }
    }
    for section in sections {
        section.relocations.sort_by_key(|relocation| relocation.offset);
        if let Some([_, second]) = section.relocations.array_windows().find(|[a, b]| a.offset == b.offset) {
            return Err(ObjectError::RelocatedTwice { section: section.name.to_owned(), offset: second.offset });
        }
    }
    Ok(())
}

pub(super) const R_BPF_NONE: u32 = 0;
pub(super) const R_BPF_64_64: u32 = 1;
pub(super) const R_BPF_64_ABS64: u32 = 2;
pub(super) const R_BPF_64_32: u32 = 10;
