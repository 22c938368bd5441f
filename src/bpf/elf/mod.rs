//! Objects that clang makes for `-target bpf`: their programs, maps, types and lines.
//!
//! [`Object::parse`] goes from bytes to descriptions: nothing is loaded, and nothing is run. An object of either byte order can
//! be read, also of the instruction sets v1 to v4, with and without debug information.
//!
//! - Programs are the global functions of all sections of instructions but `.text`. Each is linked with what it calls, so that
//!   it stands for itself; maps are referred to by their index in [`Object::maps`].
//! - Maps are described by `struct bpf_map_def` in section `maps`, by BTF in section `.maps`, and by sections `.rodata`,
//!   `.data` and `.bss`, which are arrays with one entry each.
//! - Instructions are not checked beyond what they refer to: [`Code`](crate::bpf::insn::Code) does that.
//!
//! Not supported, each a typed error: what another object or the kernel would have (kfuncs, weak symbols, `.kconfig`), maps in
//! maps, and addresses in data.
//!
//! What is read takes memory in proportion to the file, and linked programs have at most [`Object::MAX_INSNS`] instructions.

mod btf_map;
mod error;
mod file;
mod function;
mod line;
mod link;
mod map;
mod section;

use crate::bpf::btf::{Btf, CoreRelo, Ext, TypeId};
use crate::bpf::insn::Insn;
use crate::record::ByteOrder;
use file::File;
use function::Functions;
use link::Linker;
use map::Maps;
use std::sync::Arc;

pub use error::{ObjectError, Place};
pub use line::{LineTable, SourceLine};
pub use map::{Global, MapKind, MapSpec};
pub use section::{ProgramKind, SectionName, SlotError};

/// A function of a linked program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkedFunction {
    /// Slot of its first instruction.
    pub insn: usize,
    /// Its name.
    pub name: Arc<str>,
    /// Its [`Type::Func`](crate::bpf::btf::Type::Func), where BTF says it.
    pub type_: Option<TypeId>,
}

/// A program, linked with every function that it calls.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramSpec {
    /// Its function.
    pub name: String,
    /// The section that it is in.
    pub section: String,
    /// Its instructions, those of the functions that it calls behind them. Maps are referred to by their index in
    /// [`Object::maps`] (the sources 5 and 6 of 64-bit immediates), functions by the distance.
    pub insns: Vec<Insn>,
    /// Where maps are referred to: the slot of the instruction, and the map's index in [`Object::maps`].
    pub maps: Vec<(usize, usize)>,
    /// Its functions in the order of their instructions; the first is the program itself.
    pub functions: Vec<LinkedFunction>,
    /// Its lines.
    pub lines: LineTable,
    /// What depends on the layout of the platform's types, by the slots of the linked program. It has not been applied.
    pub core_relos: Vec<CoreRelo>,
}

impl ProgramSpec {
    /// What the section says of the program.
    pub fn section_name(&self) -> SectionName<'_> {
        let unknown = SectionName { kind: None, rest: &self.section, autoload: true };
        // It was taken apart before.
        SectionName::parse(&self.section).unwrap_or(unknown)
    }

    /// The function that the instruction in a slot belongs to.
    pub fn function_of(&self, insn: usize) -> Option<&LinkedFunction> {
        if insn >= self.insns.len() {
            return None;
        }
        let behind = self.functions.partition_point(|function| function.insn <= insn);
        self.functions.get(behind.checked_sub(1)?)
    }
}

/// What an object file has in it.
///
/// ```no_run
/// use perfring::bpf::elf::Object;
///
/// let object = Object::parse(&std::fs::read("tracer.bpf.o")?)?;
/// for program in &object.programs {
///     println!("{} in {}: {} instructions", program.name, program.section, program.insns.len());
///     for (insn, map) in &program.maps {
///         println!("  {insn}: map {}", object.maps[*map].name);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// The byte order of instructions, data and BTF.
    pub byte_order: ByteOrder,
    /// Section `license`.
    pub license: Option<String>,
    /// Section `version`: the kernel that it was made for, as old kernels wanted it.
    pub version: Option<u32>,
    /// Its types.
    pub btf: Option<Btf>,
    /// Its maps: those of section `maps`, those of section `.maps`, then data.
    pub maps: Vec<MapSpec>,
    /// Its variables in data that have symbols.
    pub globals: Vec<Global>,
    /// Its programs, in the order of their symbols.
    pub programs: Vec<ProgramSpec>,
    /// What section `.probes` says, in which each text is `PROGRAM=PROBES`: the programs, and to which probes they are attached.
    pub probes: Vec<(String, String)>,
    /// What section `.formats` says, in which each text is `STRUCT=FORMAT`: how records of a type are printed.
    pub formats: Vec<(String, String)>,
}

impl Object {
    /// Instructions that all linked programs may have together.
    pub const MAX_INSNS: usize = 1_000_000;

    /// Reads an object.
    ///
    /// # Errors
    ///
    /// It is no object for BPF, damaged, or has in it what is not supported; the error says where.
    pub fn parse(data: &[u8]) -> Result<Self, ObjectError> {
        let file = File::parse(data)?;
        let license = file.bytes_of("license").map(license).transpose()?;
        let version = file.bytes_of("version").map(|bytes| version(bytes, file.order)).transpose()?;
        let (btf, ext) = read_btf(&file)?;

        let mut functions = Functions::find(&file)?;
        for program in &functions.programs {
            let section = functions.list.get(program.function).and_then(|function| file.sections.get(function.section));
            SectionName::parse(section.map_or("", |section| section.name))?;
        }
        let mut maps = Maps::default();
        maps.add_legacy(&file)?;
        maps.add_btf(&file, btf.as_ref(), &functions)?;
        maps.add_data(&file, &btf.as_ref().map(Btf::datasecs).unwrap_or_default())?;
        maps.check_names()?;
        functions.resolve(&file, &maps, btf.as_ref().map(|btf| (btf, ext.as_ref())))?;

        let (btf_ref, ext_ref) = (btf.as_ref(), ext.as_ref());
        let mut linker =
            Linker { file: &file, functions: &functions, btf: btf_ref, ext: ext_ref, left: Self::MAX_INSNS };
        let programs = functions.programs.iter().map(|program| linker.link(program)).collect::<Result<_, _>>()?;
        let globals = maps.globals(&file);
        let texts = |section| file.bytes_of(section).map(|bytes| pairs(section, bytes)).transpose();
        let (probes, formats) = (texts(".probes")?.unwrap_or_default(), texts(".formats")?.unwrap_or_default());
        Ok(Self { byte_order: file.order, license, version, btf, maps: maps.list, globals, programs, probes, formats })
    }

    /// The program of this name.
    pub fn program(&self, name: &str) -> Option<&ProgramSpec> {
        self.programs.iter().find(|program| program.name == name)
    }

    /// The map of this name.
    pub fn map(&self, name: &str) -> Option<&MapSpec> {
        self.maps.iter().find(|map| map.name == name)
    }
}

/// The types in an ELF file of any machine (`vmlinux`, an object), or in a file that has nothing else, as those in `/sys/kernel/btf`.
///
/// # Errors
///
/// It is neither, is damaged, or has no section `.BTF`.
pub fn types(data: &[u8]) -> Result<Btf, ObjectError> {
    let types = match data.starts_with(&object::elf::ELFMAG) {
        true => file::section_of_any(data, ".BTF")?.ok_or(ObjectError::NoBtf)?,
        false => data,
    };
    Btf::parse(types).map_err(|source| ObjectError::Btf { section: ".BTF", source })
}

fn license(bytes: &[u8]) -> Result<String, ObjectError> {
    let text = std::ffi::CStr::from_bytes_until_nul(bytes).map_err(|_| ObjectError::License)?;
    text.to_str().map(str::to_owned).map_err(|_| ObjectError::License)
}

/// Texts `NAME=TEXT`, each with a 0 behind it, or more than one where the next is aligned.
fn pairs(section: &'static str, bytes: &[u8]) -> Result<Vec<(String, String)>, ObjectError> {
    let mut pairs = Vec::new();
    let mut offset = 0;
    for text in bytes.split_inclusive(|byte| *byte == 0) {
        let error = || ObjectError::Pairs { section, offset };
        let text_only = text.strip_suffix(&[0]).ok_or_else(error)?;
        if !text_only.is_empty() {
            let text = std::str::from_utf8(text_only).map_err(|_| error())?;
            let (name, rest) = text.split_once('=').ok_or_else(error)?;
            pairs.push((name.to_owned(), rest.to_owned()));
        }
        offset += text.len();
    }
    Ok(pairs)
}

fn version(bytes: &[u8], order: ByteOrder) -> Result<u32, ObjectError> {
    let number = bytes.try_into().map_err(|_| ObjectError::Version { len: bytes.len() })?;
    Ok(match order {
        ByteOrder::Little => u32::from_le_bytes(number),
        ByteOrder::Big => u32::from_be_bytes(number),
    })
}

fn read_btf(file: &File<'_>) -> Result<(Option<Btf>, Option<Ext>), ObjectError> {
    let (types, ext) = (file.bytes_of(".BTF"), file.bytes_of(".BTF.ext"));
    let Some(types) = types else {
        return if ext.is_some() { Err(ObjectError::ExtWithoutBtf) } else { Ok((None, None)) };
    };
    let btf = Btf::parse(types).map_err(|source| ObjectError::Btf { section: ".BTF", source })?;
    let ext = ext.map(|ext| btf.parse_ext(ext)).transpose();
    let ext = ext.map_err(|source| ObjectError::Btf { section: ".BTF.ext", source })?;
    Ok((Some(btf), ext))
}
