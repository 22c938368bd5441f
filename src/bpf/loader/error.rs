//! Why objects are not loaded.

use crate::bpf::btf::core::CoreError;
use crate::bpf::map::MapError;
use crate::bpf::program::LoadError;
use crate::bpf::verifier::VerifyError;
use crate::record::ByteOrder;
use thiserror::Error;

/// Why an object was not loaded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoaderError {
    /// Its instructions are for machines of the other byte order.
    #[error("an object of {0:?} endian, which is not this machine's")]
    ByteOrder(ByteOrder),
    /// A map of a kind that there is not.
    #[error("map {map}: type {type_} is not supported")]
    MapType {
        /// The map.
        map: String,
        /// `BPF_MAP_TYPE_*`
        type_: u32,
    },
    /// A map that could not be made, or filled.
    #[error("map {map}: {error}")]
    Map {
        /// The map.
        map: String,
        /// Why.
        #[source]
        error: MapError,
    },
    /// A map was given that is not what the object describes.
    #[error("map {map}: the one given is of type {given}, and {described} is described")]
    GivenMap {
        /// The map.
        map: String,
        /// The type of what was given, with its sizes.
        given: String,
        /// The type of what is described, with its sizes.
        described: String,
    },
    /// Nothing says of which type the programs of a program array are.
    #[error("program array {map}: of which type its programs are is not known")]
    NoOwner {
        /// The map.
        map: String,
    },
    /// Programs of `dtrace/<n>` sections, and several program arrays that could be theirs.
    #[error("programs of dtrace/<n> sections belong into {first} or {second}")]
    TwoArrays {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Two programs for a slot.
    #[error("program array {map}: {first} and {second} are both for slot {slot}")]
    SlotTwice {
        /// The map.
        map: String,
        /// The slot.
        slot: u32,
        /// One program.
        first: String,
        /// The other.
        second: String,
    },
    /// A program in a slot that the object has not.
    #[error("program array {map}: there is no program {program} for slot {slot}")]
    NoProgram {
        /// The map.
        map: String,
        /// The slot.
        slot: u32,
        /// The program.
        program: String,
    },
    /// The section of a program does not say its type, or says one that there is not here.
    #[error("program {program}: the type of section {section} is not known")]
    NoType {
        /// The program.
        program: String,
        /// Its section.
        section: String,
    },
    /// A program that depends on the layout of the platform's types, which are not known; or what the object says of that is wrong.
    #[error("program {program}: instruction {}{at}: {error}", error.insn, at = line.as_ref().map(|line| format!(" ({line})")).unwrap_or_default())]
    CoreRelo {
        /// The program.
        program: String,
        /// The line of C that it came from, where that is known.
        line: Option<String>,
        /// The type, what of it is asked for, and why that cannot be answered.
        #[source]
        error: Box<CoreError>,
    },
    /// The types of a platform of the other byte order were given.
    #[error("types of a platform of {0:?} endian, which is not this machine's")]
    TargetByteOrder(ByteOrder),
    /// A variable was set that the object has not.
    #[error("there is no variable {name}")]
    NoGlobal {
        /// Its name.
        name: String,
    },
    /// A variable was set to a value of another size.
    #[error("the variable {name} has {size} bytes, and was set to {given}")]
    GlobalSize {
        /// Its name.
        name: String,
        /// Bytes.
        size: u32,
        /// Bytes that were given.
        given: usize,
    },
    /// A program that was not loaded.
    #[error(transparent)]
    Program(#[from] LoadError),
    /// A program that was not proved safe.
    #[error("{0}")]
    Refused(Box<VerifyError>),
}
