//! What registers hold, for messages.

use std::fmt;

/// The kind of what a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Nothing that may be read.
    Uninitialised,
    /// A number.
    Scalar,
    /// The context.
    Context,
    /// A map.
    Map,
    /// The address of a value of a map.
    Value,
    /// The address of a value of a map, or 0.
    ValueOrNull,
    /// An address in the stack.
    Stack,
    /// An address in the packet.
    Packet,
    /// The packet's end.
    PacketEnd,
    /// An address in the writable buffer with this id.
    Buffer(u32),
    /// The end of that buffer.
    BufferEnd(u32),
    /// An address in an open record of a ring buffer.
    Record,
    /// An address in an open record of a ring buffer, or 0.
    RecordOrNull,
    /// A function of the program.
    Function,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Uninitialised => "not initialised",
            Self::Scalar => "a number",
            Self::Context => "the context",
            Self::Map => "a map",
            Self::Value => "the address of a map's value",
            Self::ValueOrNull => "the address of a map's value, or 0",
            Self::Stack => "an address in the stack",
            Self::Packet => "an address in the packet",
            Self::PacketEnd => "the packet's end",
            Self::Buffer(id) => return write!(f, "an address in buffer {id}"),
            Self::BufferEnd(id) => return write!(f, "the end of buffer {id}"),
            Self::Record => "an address in a record",
            Self::RecordOrNull => "the address of a record, or 0",
            Self::Function => "a function",
        };
        f.write_str(text)
    }
}

/// From the least to the most that a number may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    /// The least.
    pub min: i64,
    /// The most.
    pub max: i64,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { self.min.fmt(f) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}
