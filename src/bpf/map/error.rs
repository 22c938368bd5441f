//! What can be wrong with a map, and with what is done to it.

use super::{MapFlags, MapType};
use thiserror::Error;

/// The kernel's own errno value for what is not supported, which escapes it here.
const ENOTSUPP: i32 = 524;

/// Why a map was not made, or something was not done to it. [`MapError::errno`] is what bpf(2) gives there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// Keys of a size that this kind has not.
    #[error("a {type_} map with keys of {size} bytes", type_ = .type_.name())]
    KeySize {
        /// The kind.
        type_: MapType,
        /// Bytes.
        size: u32,
    },
    /// Values of a size that this kind has not.
    #[error("a {type_} map with values of {size} bytes", type_ = .type_.name())]
    ValueSize {
        /// The kind.
        type_: MapType,
        /// Bytes.
        size: u32,
    },
    /// A number of elements, or of bytes of a ring, that this kind has not.
    #[error("a {type_} map of {entries} entries", type_ = .type_.name())]
    MaxEntries {
        /// The kind.
        type_: MapType,
        /// `max_entries`
        entries: u32,
    },
    /// Flags that this kind has not, or that contradict each other.
    #[error("a {type_} map with the flags {flags:?}", type_ = .type_.name())]
    Flags {
        /// The kind.
        type_: MapType,
        /// The flags.
        flags: MapFlags,
    },
    /// More memory than a map may have.
    #[error("a map of {bytes} bytes")]
    TooLarge {
        /// Bytes, as far as they can be counted.
        bytes: u128,
    },
    /// The system has no memory for it.
    #[error("no memory for a map of {bytes} bytes: {error}")]
    NoMemory {
        /// Bytes.
        bytes: usize,
        /// What the system said.
        error: String,
    },
    /// An array of programs was to be made without the type of the programs.
    #[error("an array of programs without a type of programs")]
    NoOwner,
    /// A program of another type than the array has.
    #[error("a program of type {type_} in an array of programs of type {owner}")]
    ProgramType {
        /// The type of the program.
        type_: String,
        /// The type that the array has.
        owner: String,
    },
    /// A key of another size than the map has.
    #[error("a key of {size} bytes in a map that has keys of {expected}")]
    Key {
        /// Bytes that were given.
        size: usize,
        /// Bytes that it has.
        expected: usize,
    },
    /// A value of another size than the map has.
    #[error("a value of {size} bytes in a map that has values of {expected}")]
    Value {
        /// Bytes that were given.
        size: usize,
        /// Bytes that it has: of per-CPU kinds from Rust those of all CPUs, each rounded up to 8.
        expected: usize,
    },
    /// A CPU that the map was not made for.
    #[error("CPU {cpu} in a map for {cpus} CPUs")]
    Cpu {
        /// The CPU.
        cpu: usize,
        /// For how many CPUs it was made.
        cpus: usize,
    },
    /// An index beyond the last.
    #[error("index {index} of {entries}")]
    Index {
        /// The index.
        index: u32,
        /// How many there are.
        entries: u32,
    },
    /// Flags of an update that are none.
    #[error("an update with the flags {flags:#x}")]
    UpdateFlags {
        /// The flags.
        flags: u64,
    },
    /// The element is there, and was not to be.
    #[error("the element is there")]
    Exists,
    /// The element is not there.
    #[error("the element is not there")]
    NotFound,
    /// There are as many elements as there may be.
    #[error("{entries} elements, and no more may be")]
    Full {
        /// How many there may be.
        entries: u32,
    },
    /// All memory for elements is taken: by those that there are, and by those that are gone but that a program may still
    /// look at.
    #[error("no memory for another element: {waiting} that are gone may still be looked at")]
    NoElement {
        /// How many are gone and not free yet.
        waiting: u32,
    },
    /// The map is read-only, or write-only, for whoever asked.
    #[error("the map may not be {what} from here")]
    Permission {
        /// What was tried.
        what: &'static str,
    },
    /// Elements of an array can't be deleted.
    #[error("elements of an array can't be deleted")]
    Delete,
    /// This kind has no such operation.
    #[error("{type_} maps have no {operation}", type_ = .type_.name())]
    Unsupported {
        /// The kind.
        type_: MapType,
        /// What was tried.
        operation: &'static str,
    },
    /// This thread was interrupted while it held a lock of a map.
    #[error("this thread changes a map already")]
    Busy,
}

impl MapError {
    /// The errno value that bpf(2), or the helper, gives: positive.
    pub fn errno(&self) -> i32 {
        match self {
            Self::KeySize { type_, size } if type_.is_hash() && *size > super::def::MAX_KEY_SIZE => libc::E2BIG,
            Self::ValueSize { type_, size } if type_.is_data() && *size > 0 => libc::E2BIG,
            Self::MaxEntries { type_, entries } if type_.is_hash() && *entries > 0 => libc::E2BIG,
            Self::Flags { type_: type_ @ MapType::LruHash, flags }
                if flags.contains(MapFlags::NO_PREALLOC)
                    && (MapFlags::allowed(*type_) | MapFlags::NO_PREALLOC).contains(*flags) =>
            {
                ENOTSUPP
            }
            Self::KeySize { .. }
            | Self::ValueSize { .. }
            | Self::MaxEntries { .. }
            | Self::Flags { .. }
            | Self::NoOwner
            | Self::ProgramType { .. }
            | Self::Key { .. }
            | Self::Value { .. }
            | Self::Cpu { .. }
            | Self::UpdateFlags { .. }
            | Self::Delete => libc::EINVAL,
            Self::Index { .. } | Self::Full { .. } => libc::E2BIG,
            Self::TooLarge { .. } | Self::NoMemory { .. } | Self::NoElement { .. } => libc::ENOMEM,
            Self::Exists => libc::EEXIST,
            Self::NotFound => libc::ENOENT,
            Self::Permission { .. } => libc::EPERM,
            Self::Unsupported { .. } => ENOTSUPP,
            Self::Busy => libc::EBUSY,
        }
    }
}
