//! What can be wrong with a recording.

use crate::record::{AttrError, DecoderError};
use crate::replay::perf_data::{FeatureError, FeatureId, Section};
use crate::ring;
use std::io;
use thiserror::Error;

/// Why a recording cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It cannot be read.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It starts like nothing that is known.
    #[error("neither perf.data nor a ring image: it starts with {found:02x?}")]
    Magic {
        /// The first bytes, at most 8.
        found: Vec<u8>,
    },
    /// The format before that of perf 3.2, which has other records.
    #[error("the first version of perf.data, which is not read: perf of 2011 and before wrote it")]
    Version1,
    /// It ends inside its header.
    #[error("a header of {needed} bytes, of which {len} are there")]
    Header {
        /// Bytes that the header has.
        needed: u64,
        /// Bytes that are there.
        len: u64,
    },
    /// The header says a size of itself that no version has.
    #[error("a header of {found} bytes: that of a file has 104, that of a pipe 16")]
    HeaderSize {
        /// What it says.
        found: u64,
    },
    /// Entries of the list of events are smaller than the smallest `perf_event_attr`, or larger than a page.
    #[error("{found} bytes for an event: at least 80, for a perf_event_attr of 64 and a section, and at most 4096")]
    AttrSize {
        /// What the header says.
        found: u64,
    },
    /// The list of events is not inside the file, or no multiple of its entries.
    #[error("the list of events, {size} bytes at {offset}, is not {attr_size} bytes each in a file of {len}", offset = section.offset, size = section.size)]
    Attrs {
        /// Where it is said to be.
        section: Section,
        /// Bytes of an entry.
        attr_size: u64,
        /// Bytes in the file.
        len: u64,
    },
    /// An event's attribute.
    #[error("event {event}: {source}")]
    Attr {
        /// Which, from 0.
        event: usize,
        /// What is wrong.
        #[source]
        source: AttrError,
    },
    /// An event's ids are not inside the file, or no multiple of 8 bytes.
    #[error("the ids of event {event}, {size} bytes at {offset}, are not words in a file of {len}", offset = section.offset, size = section.size)]
    Ids {
        /// Which, from 0.
        event: usize,
        /// Where they are said to be.
        section: Section,
        /// Bytes in the file.
        len: u64,
    },
    /// More events than any machine has.
    #[error("{count} events: at most {max} are read", max = super::Metadata::MAX_EVENTS)]
    Events {
        /// How many.
        count: u64,
    },
    /// More ids than any machine has.
    #[error("{count} ids of events: at most {max} are read", max = super::Metadata::MAX_IDS)]
    TooManyIds {
        /// How many, so far.
        count: u64,
    },
    /// A directory without the file `data`.
    #[error("a directory without a file «data» is no recording")]
    Directory,
    /// A file in a directory that is a recording of its own kind.
    #[error("the file «data» of the directory has the form of a pipe")]
    PipeInDirectory,
    /// A file that cannot be read at any place, as its form needs.
    #[error(
        "a perf.data file cannot be read from a pipe: the places of its parts stand at its start, and lie anywhere"
    )]
    Seek,
    /// A ring image.
    #[error("a ring image: {0}")]
    Ring(#[from] ring::AttachError),
}

/// A defect between the records of a recording. Records before it were delivered; where it is possible, reading goes on
/// behind it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Reading failed.
    #[error("at {position}: {source}")]
    Io {
        /// Where, in bytes from the start.
        position: u64,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The recording ends before the end that it announces.
    #[error("it ends at {position}: {missing} bytes are missing")]
    Truncated {
        /// Where it ends.
        position: u64,
        /// Bytes up to the end that the header, a record or a payload announces; at least so many.
        missing: u64,
    },
    /// A size that no record has, so that the next one cannot be found.
    #[error("at {position}: a record of {size} bytes, fewer than its header's 8")]
    Size {
        /// Where the record begins.
        position: u64,
        /// Its size.
        size: u16,
    },
    /// Compressed records that cannot be decompressed. They are one stream, so that all compressed ones behind are lost,
    /// too.
    #[error("at {position}: compressed records: {reason}")]
    Zstd {
        /// Where the record that holds them begins.
        position: u64,
        /// What zstd says.
        reason: String,
    },
    /// Compressed records, and this build cannot read them.
    #[error("at {position}: compressed records, and this build has not the feature zstd")]
    NoZstd {
        /// Where the record that holds them begins.
        position: u64,
    },
    /// A defect in a ring image.
    #[error(transparent)]
    Ring(#[from] ring::ReadError),
}

/// Something that is wrong with a recording, and keeps nobody from reading its records.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The recorder did not come to its end: the header does not say how many bytes of records there are, and there are no
    /// feature sections.
    #[error("not finished: its recorder was killed. What it has written is read")]
    Unfinished,
    /// An unfinished recording ends inside a record.
    #[error("the last {left} bytes, at {position}, are the start of a record that is not whole")]
    Partial {
        /// Where it begins.
        position: u64,
        /// Bytes of it.
        left: u64,
    },
    /// The records are said to go on behind the end of the file.
    #[error("records are announced up to {end}, and the file ends at {len}")]
    Short {
        /// Where they are said to end.
        end: u64,
        /// Bytes in the file.
        len: u64,
    },
    /// An event's records cannot be decoded.
    #[error("event {event}: {error}")]
    Undecodable {
        /// Which, from 0.
        event: usize,
        /// Why.
        error: DecoderError,
    },
    /// An event has an attribute of a newer kernel, of which something is not known.
    #[error("event {event}: {error}")]
    NewerAttr {
        /// Which, from 0.
        event: usize,
        /// What is not known.
        error: AttrError,
    },
    /// The table of feature sections is not inside the file.
    #[error("the table of {count} feature sections at {offset} is cut off by the end of the file")]
    FeatureTable {
        /// Where it is.
        offset: u64,
        /// Entries that it has.
        count: usize,
    },
    /// A feature section is not inside the file.
    #[error("feature {feature}, {size} bytes at {offset}, is not inside the file", offset = section.offset, size = section.size)]
    Feature {
        /// Which one.
        feature: FeatureId,
        /// Where it is said to be.
        section: Section,
    },
    /// A feature section is damaged.
    #[error("{error}")]
    DamagedFeature {
        /// What is wrong.
        error: FeatureError,
    },
    /// More is said of events or features in a stream than is kept.
    #[error("at {position}: a {what} record that is not kept: there are too many, or they are too large")]
    NotKept {
        /// Where the record begins.
        position: u64,
        /// Its type.
        what: &'static str,
    },
    /// A record that says something of events or features, and is damaged.
    #[error("{error}")]
    Damaged {
        /// What is wrong.
        error: crate::record::DecodeError,
    },
}
