//! What cannot be written.

use crate::record::{DecodeError, EncodeError, LayoutError, RecordType};
use crate::replay::perf_data::FeatureId;
use std::io;
use thiserror::Error;

/// Why something cannot be written to a recording. But for [`WriteError::Io`] nothing of it was written then, and the
/// recording can go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Something that is no regular file: a recording can go there as a [pipe](crate::replay::perf_data::Writer::pipe).
    #[error("not a regular file")]
    NotAFile,
    /// A level that zstd does not have.
    #[error("no level of compression: {level}; there are those from 1 to 22")]
    Level {
        /// The level.
        level: u8,
    },
    /// There are records already, and with them the events that can be in them.
    #[error("the events have to be known before the first record")]
    Started,
    /// There is no event.
    #[error("a recording needs an event")]
    NoEvent,
    /// There is no event of this number.
    #[error("there is no event {event}")]
    NoSuchEvent {
        /// The number.
        event: usize,
    },
    /// A field of the attr is in use that not every `perf` reads.
    #[error("event {event}: byte {at} of the attr is in use, and perf reads 128")]
    AttrSize {
        /// The event's number.
        event: usize,
        /// The first byte behind what `perf` reads that is not 0.
        at: usize,
    },
    /// Samples with `READ`, for which `perf` wants [`ReadFormat::ID`](crate::record::ReadFormat::ID).
    #[error("event {event} has READ in its samples, but not ID in its read_format")]
    ReadWithoutId {
        /// The event's number.
        event: usize,
    },
    /// Records that say nothing of their event at the place where those of the first event do.
    #[error(
        "event {event} has no id where event 0 has it: all need the sample_type IDENTIFIER, and sample_id_all alike"
    )]
    NoCommonId {
        /// The event's number.
        event: usize,
    },
    /// What an event's records hold is not known.
    #[error("event {event}: {source}")]
    Layout {
        /// The event's number.
        event: usize,
        /// Why.
        source: LayoutError,
    },
    /// Two events with one id, or one event with an id twice.
    #[error("event {event} has the id {id}, which event {first} has")]
    DuplicateId {
        /// The number of the event that was to have it.
        event: usize,
        /// The id.
        id: u64,
        /// The number of the event that has it.
        first: usize,
    },
    /// A record of the writer's own cannot be.
    #[error("{type_}: {source}")]
    Encode {
        /// The record's type.
        type_: RecordType,
        /// Why.
        source: EncodeError,
    },
    /// A feature cannot be a section.
    #[error("{feature}: {source}")]
    Feature {
        /// The feature.
        feature: FeatureId,
        /// Why.
        source: EncodeError,
    },
    /// Bytes that are no record.
    #[error(transparent)]
    Record(#[from] DecodeError),
    /// A record that would leave those behind it where `perf` does not look for them.
    #[error("a {type_} record of {size} bytes, which is not a multiple of 8")]
    Unaligned {
        /// The record's type.
        type_: RecordType,
        /// Its size.
        size: usize,
    },
    /// Bytes of a ring that are not whole records.
    #[error("a span of {len} bytes, which is not a multiple of 8")]
    Span {
        /// Bytes in it.
        len: usize,
    },
    /// A payload that would leave the records behind it where `perf` does not look for them.
    #[error("a {type_} record with {size} bytes behind it, which is not a multiple of 8")]
    PayloadSize {
        /// The record's type.
        type_: RecordType,
        /// Bytes that are to follow it.
        size: u64,
    },
    /// The record before is not whole yet.
    #[error("{left} bytes that belong to the record before are still to come")]
    PayloadOwed {
        /// Bytes to come.
        left: u64,
    },
    /// More bytes than the record before has.
    #[error("{len} bytes for the record before, to which {left} are still to come")]
    PayloadExcess {
        /// Bytes to come.
        left: u64,
        /// Bytes that were given.
        len: usize,
    },
    /// A record that is compressed already, while this recording has a stream of its own.
    #[error("a {type_} record in a recording that is compressed anew")]
    Compressed {
        /// The record's type.
        type_: RecordType,
    },
    /// A feature that the writer describes itself.
    #[error("the feature {feature} is the writer's own")]
    OwnFeature {
        /// The feature.
        feature: FeatureId,
    },
    /// Build ids that are no records.
    #[error("the feature BUILD_ID is damaged at byte {at}")]
    BuildId {
        /// Where the entry begins that is not whole.
        at: usize,
    },
    /// A write failed before: only [`Writer::finish`](crate::replay::perf_data::Writer::finish) is left.
    #[error("a write failed before, and nothing can follow it")]
    Stopped,
    /// A write failed. What was written up to there is readable; nothing more can be added.
    #[error("cannot write the recording ({lost} bytes are lost): {source}")]
    Io {
        /// The system's answer.
        source: io::Error,
        /// Bytes that were to be written then and are not there: in a compressed recording compressed ones, without those
        /// that were still to be compressed.
        lost: u64,
    },
}
