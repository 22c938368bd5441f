//! What can be wrong with BTF.

use super::TypeId;
use thiserror::Error;

/// BTF that cannot be read: where, and what is wrong with it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BtfError {
    /// It ends within something.
    #[error("{what} at byte {at} takes {wanted} bytes, and {left} are left")]
    Truncated {
        /// What is read.
        what: &'static str,
        /// Byte of the section.
        at: usize,
        /// Bytes that it takes.
        wanted: u64,
        /// Bytes that are left of the part that it is in.
        left: usize,
    },
    /// It does not start with the magic number, in neither byte order.
    #[error("the first bytes are {magic:#06x}, not the magic number 0xeb9f")]
    Magic {
        /// What is there, read as little endian.
        magic: u16,
    },
    /// Another version.
    #[error("version {version} is not known, only 1")]
    Version {
        /// What is there.
        version: u8,
    },
    /// The header is shorter than the first one that there was.
    #[error("a header of {len} bytes is too short")]
    HeaderLength {
        /// What is there.
        len: u32,
    },
    /// A part is not within the section.
    #[error("the {part} are {len} bytes at {offset} behind the header, and {left} are there")]
    Part {
        /// Types, strings, or a kind of information.
        part: &'static str,
        /// Where, from the end of the header.
        offset: u32,
        /// Its bytes.
        len: u32,
        /// Bytes behind the header.
        left: usize,
    },
    /// The strings do not start and end with a 0.
    #[error("the strings do not start and end with a 0")]
    Strings,
    /// A type of a kind that is not known: its length is not known either.
    #[error("type {id} at byte {at} is of kind {kind}, which is not known")]
    Kind {
        /// Which type.
        id: TypeId,
        /// Byte of the section.
        at: usize,
        /// What is there.
        kind: u8,
    },
    /// A string that is not there.
    #[error("{what} {index} has a string at {offset}, and there are {len} bytes of strings")]
    StringOffset {
        /// What has it.
        what: &'static str,
        /// Which one.
        index: usize,
        /// What is there.
        offset: u32,
        /// Bytes of strings.
        len: usize,
    },
    /// A type that is not there.
    #[error("{what} {index} refers to type {id}, and there are {count}, with void")]
    TypeId {
        /// What refers to it.
        what: &'static str,
        /// Which one.
        index: usize,
        /// What is there.
        id: TypeId,
        /// Types, with type 0, which is void.
        count: usize,
    },
    /// Typedefs, modifiers and arrays that lead too far, or in a circle.
    #[error("from type {id} it takes more than {} steps to something that has a size", super::Btf::MAX_DEPTH)]
    Depth {
        /// Where it starts.
        id: TypeId,
    },
    /// A type without a size.
    #[error("type {id} has no size")]
    NoSize {
        /// Which one.
        id: TypeId,
    },
    /// An array of more bytes than can be said.
    #[error("array {id} is larger than 2^32 bytes")]
    ArraySize {
        /// Which one.
        id: TypeId,
    },
    /// A type without members.
    #[error("type {id} is neither a struct nor a union")]
    NoMembers {
        /// Which one.
        id: TypeId,
    },
    /// A type that has no values that could be told: a function, say, or an integer of more than 128 bits.
    #[error("type {id} has no values")]
    NoValue {
        /// Which one.
        id: TypeId,
    },
    /// A type of more parts, or of longer names, than are worth to be told, or that is a part of itself.
    #[error("type {id} has too many parts")]
    TooLarge {
        /// Which one.
        id: TypeId,
    },
    /// A member that is not within its struct, not at a byte, or has bits that its type does not have.
    #[error("the member {name} of type {id} cannot be where it is said to be")]
    Member {
        /// The struct.
        id: TypeId,
        /// The member; of a long name the start.
        name: String,
    },
    /// Records shorter than the first that there were.
    #[error("{part} of {len} bytes each are too short")]
    RecordLength {
        /// Which kind of information.
        part: &'static str,
        /// What is there.
        len: u32,
    },
    /// Information on something that is not the start of an instruction slot.
    #[error("{part} for section {section} at byte {offset}, which is no multiple of 8")]
    InsnOffset {
        /// Which kind of information.
        part: &'static str,
        /// Section.
        section: String,
        /// What is there.
        offset: u32,
    },
    /// The name of a section that has more than 512 bytes.
    #[error("{part} for a section whose name, a string at {offset}, is longer than 512 bytes")]
    SectionName {
        /// Which kind of information.
        part: &'static str,
        /// Where the name is among the strings.
        offset: u32,
    },
    /// Two pieces of information of a kind on one section.
    #[error("{part} for section {section}: twice")]
    SectionTwice {
        /// Which kind of information.
        part: &'static str,
        /// Section.
        section: String,
    },
    /// Two pieces of information of a kind on one instruction.
    #[error("{part} for section {section}: two for instruction {insn}")]
    Twice {
        /// Which kind of information.
        part: &'static str,
        /// Section.
        section: String,
        /// Index in the section.
        insn: usize,
    },
}
