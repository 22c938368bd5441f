//! What can be wrong with a record.

use crate::record::RecordType;
use thiserror::Error;

/// A record that cannot be decoded: which one, where in it, and why.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{type_} record, byte {offset}, {field}: {kind}")]
pub struct DecodeError {
    /// The record's type.
    pub type_: RecordType,
    /// Where in the record, from the start of its header.
    pub offset: usize,
    /// The uapi name of the field.
    pub field: &'static str,
    /// What is wrong.
    pub kind: DefectKind,
}

/// What is wrong with a field of a record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefectKind {
    /// The record ends before the field does.
    #[error("needs {needed} bytes, and {left} are left")]
    Truncated {
        /// Bytes that the field takes, by its own size or count.
        needed: u64,
        /// Bytes left of the record.
        left: usize,
    },
    /// The size in the header is not the number of bytes that there are.
    #[error("the header says {size} bytes, and the record has {len}")]
    Size {
        /// What the header says.
        size: u16,
        /// Bytes that were given.
        len: usize,
    },
    /// Text does not end.
    #[error("no NUL in the {left} bytes that are left")]
    NoNul {
        /// Bytes left of the record.
        left: usize,
    },
    /// No event is known by the id that the record carries.
    #[error("no event has the id {id}")]
    UnknownId {
        /// The id.
        id: u64,
    },
    /// The event is known by its ids only, and the record carries none.
    #[error("several events write here, and the record does not say which one wrote it")]
    NoId,
    /// A value that means nothing.
    #[error("{value:#x} has no meaning here")]
    Value {
        /// The value.
        value: u64,
    },
}

/// A defect in a body, before it is known which record it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Defect {
    /// From the start of the body.
    pub(crate) offset: usize,
    pub(crate) field: &'static str,
    pub(crate) kind: DefectKind,
}
