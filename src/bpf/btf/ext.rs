//! What a compiler says of instructions: section `.BTF.ext`.

use super::read::{Reader, header};
use super::{Btf, BtfError, MAX_SECTION, TypeId};
use std::collections::BTreeMap;

/// Bytes of the first header that there was: without relocations.
const HEADER: u32 = 24;

/// That a function starts at an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncInfo {
    /// Index of the instruction's slot in the section.
    pub insn: usize,
    /// A [`Type::Func`](super::Type::Func).
    pub type_: TypeId,
}

/// The line of which an instruction was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// Index of the instruction's slot in the section.
    pub insn: usize,
    pub(crate) file: u32,
    pub(crate) text: u32,
    /// From 1 on; 0 for what no line has caused.
    pub line: u32,
    /// From 1 on; 0 if it is not known.
    pub column: u16,
}

impl LineInfo {
    /// The file's name, as the compiler was given it.
    pub fn file<'a>(&self, btf: &'a Btf) -> &'a str {
        btf.strings().text(self.file)
    }

    /// The line; empty if the compiler did not find it.
    pub fn text<'a>(&self, btf: &'a Btf) -> &'a str {
        btf.strings().text(self.text)
    }
}

/// What is to be put into an instruction: `enum bpf_core_relo_kind` of the uapi header `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of the uapi header")]
#[non_exhaustive]
pub enum CoreReloKind {
    FieldByteOffset,
    FieldByteSize,
    FieldExists,
    FieldSigned,
    FieldLshiftU64,
    FieldRshiftU64,
    TypeIdLocal,
    TypeIdTarget,
    TypeExists,
    TypeSize,
    EnumvalExists,
    EnumvalValue,
    TypeMatches,
    Other(u32),
}

impl From<u32> for CoreReloKind {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::FieldByteOffset,
            1 => Self::FieldByteSize,
            2 => Self::FieldExists,
            3 => Self::FieldSigned,
            4 => Self::FieldLshiftU64,
            5 => Self::FieldRshiftU64,
            6 => Self::TypeIdLocal,
            7 => Self::TypeIdTarget,
            8 => Self::TypeExists,
            9 => Self::TypeSize,
            10 => Self::EnumvalExists,
            11 => Self::EnumvalValue,
            12 => Self::TypeMatches,
            other => Self::Other(other),
        }
    }
}

/// That an instruction depends on the layout of the types of the platform (CO-RE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreRelo {
    /// Index of the instruction's slot: in the section, or in the linked program.
    pub insn: usize,
    /// The type that the program was compiled with.
    pub type_: TypeId,
    pub(crate) access: u32,
    /// What is asked of it.
    pub kind: CoreReloKind,
}

impl CoreRelo {
    /// Which part of the type: numbers of members and indices, with colons between them.
    pub fn access<'a>(&self, btf: &'a Btf) -> &'a str {
        btf.strings().text(self.access)
    }
}

/// A piece of information on an instruction.
trait Info: Sized {
    /// Its name in errors.
    const PART: &'static str;
    /// Bytes of the first format that there was.
    const LEN: u32;
    fn read(reader: &mut Reader<'_>, btf: &Btf, insn: usize, index: usize) -> Result<Self, BtfError>;
    fn insn(&self) -> usize;
}

impl Info for FuncInfo {
    const PART: &'static str = "function information";
    const LEN: u32 = 8;

    fn read(reader: &mut Reader<'_>, btf: &Btf, insn: usize, index: usize) -> Result<Self, BtfError> {
        let type_ = TypeId(reader.u32(Self::PART)?);
        btf.check_type(Self::PART, index, type_)?;
        Ok(Self { insn, type_ })
    }

    fn insn(&self) -> usize {
        self.insn
    }
}

impl Info for LineInfo {
    const PART: &'static str = "line information";
    const LEN: u32 = 16;

    fn read(reader: &mut Reader<'_>, btf: &Btf, insn: usize, index: usize) -> Result<Self, BtfError> {
        let (file, text, place) = (reader.u32(Self::PART)?, reader.u32(Self::PART)?, reader.u32(Self::PART)?);
        btf.check_string(Self::PART, index, file)?;
        btf.check_string(Self::PART, index, text)?;
        Ok(Self { insn, file, text, line: place >> 10, column: (place & 0x3ff) as u16 })
    }

    fn insn(&self) -> usize {
        self.insn
    }
}

impl Info for CoreRelo {
    const PART: &'static str = "relocations of types";
    const LEN: u32 = 16;

    fn read(reader: &mut Reader<'_>, btf: &Btf, insn: usize, index: usize) -> Result<Self, BtfError> {
        let (type_, access) = (TypeId(reader.u32(Self::PART)?), reader.u32(Self::PART)?);
        let kind = reader.u32(Self::PART)?.into();
        btf.check_type(Self::PART, index, type_)?;
        btf.check_string(Self::PART, index, access)?;
        Ok(Self { insn, type_, access, kind })
    }

    fn insn(&self) -> usize {
        self.insn
    }
}

/// Information of a kind by the names of sections of instructions.
type Sections<T> = BTreeMap<Box<str>, Vec<T>>;

/// What a `.BTF.ext` section says: for each section of instructions, in the order of the instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext {
    funcs: Sections<FuncInfo>,
    lines: Sections<LineInfo>,
    core_relos: Sections<CoreRelo>,
}

impl Ext {
    /// The functions of a section.
    pub fn funcs(&self, section: &str) -> &[FuncInfo] {
        self.funcs.get(section).map_or(&[], Vec::as_slice)
    }

    /// The lines of a section: one counts up to the next.
    pub fn lines(&self, section: &str) -> &[LineInfo] {
        self.lines.get(section).map_or(&[], Vec::as_slice)
    }

    /// The relocations of types in a section.
    pub fn core_relos(&self, section: &str) -> &[CoreRelo] {
        self.core_relos.get(section).map_or(&[], Vec::as_slice)
    }
}

pub(super) fn parse(btf: &Btf, bytes: &[u8]) -> Result<Ext, BtfError> {
    let (_, mut fields, rest) = header(bytes, HEADER)?;
    let mut part = |name| -> Result<Reader<'_>, BtfError> {
        // A header of the first format ends before the last.
        if fields.is_empty() {
            return rest.part(name, 0, 0);
        }
        rest.part(name, fields.u32("header")?, fields.u32("header")?)
    };
    let (funcs, lines) = (part(FuncInfo::PART)?, part(LineInfo::PART)?);
    let core_relos = part(CoreRelo::PART)?;
    Ok(Ext { funcs: sections(funcs, btf)?, lines: sections(lines, btf)?, core_relos: sections(core_relos, btf)? })
}

fn sections<T: Info>(mut reader: Reader<'_>, btf: &Btf) -> Result<Sections<T>, BtfError> {
    let mut sections: Sections<T> = BTreeMap::new();
    if reader.is_empty() {
        return Ok(sections);
    }
    let len = reader.u32(T::PART)?;
    if len < T::LEN {
        return Err(BtfError::RecordLength { part: T::PART, len });
    }
    while !reader.is_empty() {
        let (name, count) = (reader.u32(T::PART)?, reader.u32(T::PART)?);
        btf.check_string(T::PART, sections.len(), name)?;
        let Some(section) = btf.strings().short(name, MAX_SECTION) else {
            return Err(BtfError::SectionName { part: T::PART, offset: name });
        };
        let mut records = reader.take(T::PART, u64::from(len).saturating_mul(count.into()))?;
        let mut list: Vec<T> = Vec::new();
        while !records.is_empty() {
            let mut record = records.take(T::PART, len.into())?;
            let offset = record.u32(T::PART)?;
            if offset % 8 != 0 {
                return Err(BtfError::InsnOffset { part: T::PART, section: section.to_owned(), offset });
            }
            list.push(T::read(&mut record, btf, offset as usize / 8, list.len())?);
        }
        list.sort_by_key(Info::insn);
        if let Some([_, second]) = list.array_windows().find(|[first, second]| first.insn() == second.insn()) {
            return Err(BtfError::Twice { part: T::PART, section: section.to_owned(), insn: second.insn() });
        }
        if sections.insert(section.into(), list).is_some() {
            return Err(BtfError::SectionTwice { part: T::PART, section: section.to_owned() });
        }
    }
    Ok(sections)
}
