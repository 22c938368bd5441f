//! What can be wrong with an object.

use super::SlotError;
use crate::bpf::btf::BtfError;
use std::fmt;
use thiserror::Error;

/// An instruction of an object, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Section.
    pub section: String,
    /// The function that has it.
    pub function: String,
    /// Index of its slot in the section.
    pub insn: usize,
    /// File and number of the line that it comes from, where the object says so.
    pub line: Option<(String, u32)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "section {}, function {}, instruction {}", self.section, self.function, self.insn)?;
        match &self.line {
            Some((file, line)) => write!(f, " ({file}:{line})"),
            None => Ok(()),
        }
    }
}

/// Why an object cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectError {
    /// It is no ELF file of 64 bits, or damaged.
    #[error("no sound ELF file of 64 bits: {reason}")]
    Elf {
        /// What is wrong.
        reason: String,
    },
    /// It is for another machine.
    #[error("an ELF file for machine {machine}, not for BPF ({})", object::elf::EM_BPF.0)]
    Machine {
        /// `e_machine`.
        machine: u16,
    },
    /// It is no object file.
    #[error("an ELF file of type {type_}, not an object file ({})", object::elf::ET_REL.0)]
    FileType {
        /// `e_type`.
        type_: u16,
    },
    /// The sections have more bytes than the file.
    #[error("the sections have {total} bytes together, and the file has {len}")]
    Sizes {
        /// Theirs.
        total: u64,
        /// The file's.
        len: usize,
    },
    /// A name is outside of its table, longer than 512 bytes, or no UTF-8.
    #[error("{what} {index} has no usable name: it is missing, longer than 512 bytes, or no UTF-8")]
    Name {
        /// A section or a symbol.
        what: &'static str,
        /// Its number.
        index: usize,
    },
    /// A symbol is in a section that does not exist.
    #[error("symbol {symbol} is in section {section}, and there are {count}")]
    SymbolSection {
        /// Number of the symbol.
        symbol: usize,
        /// What is there.
        section: usize,
        /// Sections.
        count: usize,
    },
    /// Relocations of a section that does not exist.
    #[error("section {section} relocates section {target}, which does not exist")]
    RelocatedSection {
        /// The section of relocations.
        section: String,
        /// What is there.
        target: usize,
    },
    /// Relocations with addends, which BPF does not have.
    #[error("section {section} has relocations with addends, which are not used for BPF")]
    Addends {
        /// The section of relocations.
        section: String,
    },
    /// A relocation by a symbol that does not exist.
    #[error("section {section} is relocated by symbol {symbol}, and there are {count}")]
    RelocationSymbol {
        /// Section.
        section: String,
        /// What is there.
        symbol: usize,
        /// Symbols.
        count: usize,
    },
    /// Two relocations of the same bytes.
    #[error("section {section} is relocated twice at byte {offset}")]
    RelocatedTwice {
        /// Section.
        section: String,
        /// Where.
        offset: u64,
    },
    /// The licence is no text.
    #[error("the section license is no text that ends with a 0")]
    License,
    /// What is in section `.probes` or `.formats` is no text `NAME=TEXT` with a 0 behind it.
    #[error("the section {section} has no text NAME=TEXT that ends with a 0 at {offset}")]
    Pairs {
        /// The section.
        section: &'static str,
        /// Bytes before it.
        offset: usize,
    },
    /// The version is no number.
    #[error("the section version has {len} bytes, not 4")]
    Version {
        /// Its bytes.
        len: usize,
    },
    /// BTF is damaged.
    #[error("section {section}: {source}")]
    Btf {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// What is wrong.
        source: BtfError,
    },
    /// It has no types.
    #[error("no section .BTF")]
    NoBtf,
    /// There is a section `.BTF.ext`, and no `.BTF` with its strings.
    #[error("there is a section .BTF.ext, and no .BTF")]
    ExtWithoutBtf,
    /// The slot of a section `dtrace/<n>` is no number.
    #[error(transparent)]
    Slot(#[from] SlotError),

    /// A section of instructions whose length is no multiple of 8.
    #[error("section {section} has {len} bytes, which is no whole number of instructions")]
    CodeLength {
        /// Section.
        section: String,
        /// Its bytes.
        len: usize,
    },
    /// A function that is not within its section, or not at whole instructions.
    #[error("function {function}: {size} bytes at {offset} are not whole instructions of section {section}")]
    FunctionRange {
        /// Its name.
        function: String,
        /// Section.
        section: String,
        /// Where.
        offset: u64,
        /// Its bytes.
        size: u64,
    },
    /// A function that starts within another.
    #[error("functions {first} and {second} of section {section} overlap")]
    FunctionsOverlap {
        /// The one that is in front.
        first: String,
        /// The one behind it.
        second: String,
        /// Section.
        section: String,
    },
    /// Instructions that belong to no function.
    #[error("section {section}: instruction {insn} belongs to no function: no symbol of type FUNC covers it")]
    NoFunction {
        /// Section.
        section: String,
        /// Index in the section.
        insn: usize,
    },
    /// More instructions than all programs may have together, with all that they call.
    #[error("program {program}: with all that it calls, programs have more than {most} instructions")]
    TooLarge {
        /// Which program is too much.
        program: String,
        /// How many there may be.
        most: usize,
    },

    /// Several maps have the same name.
    #[error("there are several maps {map}")]
    MapTwice {
        /// Their name.
        map: String,
    },
    /// There is a section of maps without BTF that describes it.
    #[error("there is a section .maps, and no BTF that describes its maps")]
    MapsWithoutBtf,
    /// A map has no symbol in its section that says where it is.
    #[error("map {map}: no symbol in section .maps says where it is")]
    MapSymbol {
        /// Its name.
        map: String,
    },
    /// What describes a map is not a variable that is a struct.
    #[error("map {map}: type {type_} does not describe a map: it is no variable that is a struct")]
    MapShape {
        /// Its name.
        map: String,
        /// BTF id.
        type_: u32,
    },
    /// BTF that describes a map is damaged.
    #[error("map {map}: {source}")]
    MapBtf {
        /// Its name.
        map: String,
        /// What is wrong.
        source: BtfError,
    },
    /// A map has a field that is not known.
    #[error("map {map}: field {field} is not known")]
    MapField {
        /// Its name.
        map: String,
        /// What is there.
        field: String,
    },
    /// A field of a map is there twice.
    #[error("map {map}: field {field} is there twice")]
    MapFieldTwice {
        /// Its name.
        map: String,
        /// Which one.
        field: String,
    },
    /// A field of a map has a type that says nothing.
    #[error("map {map}: field {field} is not {wanted}")]
    MapFieldShape {
        /// Its name.
        map: String,
        /// Which one.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A map gives a size and a type of another size.
    #[error("map {map}: {field} says {size} bytes, and the type has {of_type}")]
    MapSizes {
        /// Its name.
        map: String,
        /// `key_size` or `value_size`.
        field: &'static str,
        /// What it says.
        size: u32,
        /// The bytes of the type.
        of_type: u32,
    },
    /// A map without a type.
    #[error("map {map}: it has no type")]
    MapType {
        /// Its name.
        map: String,
    },
    /// A map of maps.
    #[error("map {map}: maps in maps are not supported")]
    MapInMap {
        /// Its name.
        map: String,
    },
    /// A map has initial values and is no program array.
    #[error("map {map}: it is of type {type_}, and only a program array (3) can have programs in it")]
    MapValues {
        /// Its name.
        map: String,
        /// Its type.
        type_: u32,
    },
    /// A slot of a program array behind its end.
    #[error("map {map}: slot {slot} of {max_entries}")]
    MapSlot {
        /// Its name.
        map: String,
        /// Which slot.
        slot: u64,
        /// How many there are.
        max_entries: u32,
    },
    /// What is put into a slot of a program array is no program.
    #[error("map {map}: {symbol} in slot {slot} is no program")]
    MapSlotProgram {
        /// Its name.
        map: String,
        /// Which slot.
        slot: u64,
        /// What is there.
        symbol: String,
    },
    /// A relocation that is in no map's values.
    #[error("section .maps is relocated at byte {offset} by {symbol}, type {type_}: that is no slot of a map")]
    MapRelocation {
        /// Where.
        offset: u64,
        /// Symbol.
        symbol: String,
        /// Type of the relocation.
        type_: u32,
    },
    /// A definition of a map that is cut off.
    #[error("map {map}: {len} bytes at {offset} of section maps are no definition, which has at least 20")]
    MapLength {
        /// Its name.
        map: String,
        /// Where.
        offset: u64,
        /// How many there are up to the next.
        len: u64,
    },
    /// A definition of a map has fields behind those that are known.
    #[error("map {map}: byte {at} of its definition is {value}: there is no field that is known")]
    MapTail {
        /// Its name.
        map: String,
        /// Byte of the definition.
        at: usize,
        /// What is there.
        value: u8,
    },
    /// A section of maps that no symbol names.
    #[error("section maps has {len} bytes, and no symbol names a map at its start")]
    MapsUnnamed {
        /// Its bytes.
        len: usize,
    },
    /// A section of data that is too large for a map.
    #[error("section {section} has {size} bytes, more than a map's value can have")]
    DataSize {
        /// Section.
        section: String,
        /// Its bytes.
        size: u64,
    },
    /// Data that hold an address.
    #[error("section {section} holds the address of {symbol} at byte {offset}: that is not supported")]
    DataRelocation {
        /// Section.
        section: String,
        /// Where.
        offset: u64,
        /// Whose address.
        symbol: String,
    },

    /// A relocation in the middle of an instruction, or behind the last one.
    #[error("section {section} is relocated at byte {offset}, where no instruction starts")]
    RelocationOffset {
        /// Section.
        section: String,
        /// Where.
        offset: u64,
    },
    /// A relocation of a type that does not belong into instructions.
    #[error("{place}: relocation by {symbol} of type {type_}, which is not for instructions")]
    RelocationType {
        /// Where.
        place: Box<Place>,
        /// Symbol.
        symbol: String,
        /// Type.
        type_: u32,
    },
    /// A relocation of an instruction that has no place for it.
    #[error("{place}: relocation by {symbol} of type {type_}, and opcode {opcode:#04x} takes none such")]
    RelocationInsn {
        /// Where.
        place: Box<Place>,
        /// Symbol.
        symbol: String,
        /// Type.
        type_: u32,
        /// What is there.
        opcode: u8,
    },
    /// Something that another object, or the kernel, would have.
    #[error("{place}: {}{symbol} is not in this object, and that is not supported", if *.weak { "the weak symbol " } else { "" })]
    Extern {
        /// Where.
        place: Box<Place>,
        /// What is missing.
        symbol: String,
        /// Whether the program could do without it.
        weak: bool,
    },
    /// Something in a section that instructions cannot refer to.
    #[error("{place}: {symbol} is in section {section}, which is neither maps, nor data, nor instructions")]
    RelocationTarget {
        /// Where.
        place: Box<Place>,
        /// Symbol.
        symbol: String,
        /// Section; empty if it is in none.
        section: String,
    },
    /// A map is expected where there is none.
    #[error("{place}: {symbol}, byte {offset} of section {section}: no map starts there")]
    MapReference {
        /// Where.
        place: Box<Place>,
        /// Symbol.
        symbol: String,
        /// Its section.
        section: String,
        /// Byte of the section.
        offset: i64,
    },
    /// Data behind their section's end.
    #[error("{place}: {symbol}, byte {offset} of section {section}, which has {size}")]
    DataReference {
        /// Where.
        place: Box<Place>,
        /// Symbol.
        symbol: String,
        /// Its section.
        section: String,
        /// Byte of the section.
        offset: i64,
        /// Its bytes.
        size: u32,
    },
    /// A function is expected where none starts.
    #[error("{place}: instruction {target} of section {section}: no function starts there")]
    FunctionReference {
        /// Where.
        place: Box<Place>,
        /// The section of what is called.
        section: String,
        /// Index in the section; with a fraction of 8 left out.
        target: i64,
    },
}
