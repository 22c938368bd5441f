//! One recording out of another.

use crate::record::{Header, RecordType, Text, Words};
use crate::replay::error::ReadError;
use crate::replay::perf_data::features::EventDesc;
use crate::replay::perf_data::{Feature, FeatureId, WriteError, Writer, Written};
use crate::replay::producer::goes_through;
use crate::replay::records::Records;
use crate::replay::{Form, Metadata};
use std::io;
use thiserror::Error;

/// Why a recording cannot be copied.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CopyError {
    /// What is written cannot be.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A feature, or what follows a record, cannot be read.
    #[error("at {position}: {source}")]
    Read {
        /// Where.
        position: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The kernel's records.
    pub records: u64,
    /// Records of perf.
    pub user: u64,
    /// Records that are left out, since they are no multiple of 8 bytes.
    pub left_out: u64,
    /// Defects in the recording that was read.
    pub errors: u64,
    /// What was written.
    pub written: Written,
}

/// Records of the new recording after which a round ends.
const ROUND: u64 = 1 << 14;

/// Copies a recording: its events, its features, and its records in the order in which `records` gives them, into one that
/// perf opens. So a ring image becomes `perf.data`, a pipe a file, an unfinished recording a finished one.
///
/// What says where things are in the old one is not copied: the records of its own header, rounds, compressed records (what
/// is in them is), the index of `AUXTRACE`. `defect` is told what is wrong with the old one, behind which it goes on.
///
/// ```no_run
/// use perfring::replay::perf_data::{WriteOptions, Writer};
/// use perfring::replay::{Order, Recording, copy};
///
/// let recording = Recording::open("recorder.ring")?;
/// let options = WriteOptions::default().order(recording.metadata().order());
/// let writer = Writer::file(std::fs::File::create("perf.data")?, options)?;
/// let copied = copy(recording.records(Order::default()), writer, |defect| eprintln!("{defect}"))?;
/// println!("{} records", copied.records);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`CopyError`]; what was written by then is a recording that is not finished.
pub fn copy(
    mut records: Records,
    mut writer: Writer<'_>,
    mut defect: impl FnMut(&ReadError),
) -> Result<Copied, CopyError> {
    let mut copied = Copied::default();
    let mut has_events = false;
    let mut payload = vec![0; 64 << 10];
    let mut bytes = Vec::new();
    // What a stream says before its first record of the kernel's: of the threads, of the CPUs, counts.
    let mut early = Vec::new();
    loop {
        let entry = match records.next() {
            None => break,
            Some(Ok(entry)) => entry,
            Some(Err(error)) => {
                copied.errors += 1;
                defect(&error);
                continue;
            }
        };
        let (type_, position) = (entry.type_(), entry.position());
        let failed = |source| CopyError::Read { position, source };
        match type_ {
            RecordType::HEADER_TRACING_DATA => {
                bytes.clear();
                while records.payload() > 0 && bytes.len() < Metadata::MAX_FEATURE {
                    let read = records.read_payload(&mut payload).map_err(failed)?;
                    bytes.extend_from_slice(payload.get(..read).unwrap_or_default());
                }
                writer.feature(FeatureId::TRACING_DATA, &bytes)?;
                continue;
            }
            RecordType::HEADER_ATTR
            | RecordType::HEADER_EVENT_TYPE
            | RecordType::HEADER_FEATURE
            | RecordType::EVENT_UPDATE
            | RecordType::FINISHED_ROUND
            | RecordType::COMPRESSED
            | RecordType::COMPRESSED2 => continue,
            _ => {}
        }
        bytes.clear();
        bytes.extend_from_slice(entry.bytes());
        let is_kernel = goes_through(&entry);
        // A stream has told of its events by its first record of the kernel's.
        if is_kernel || records.metadata().form() != Form::Pipe {
            start(records.metadata(), &mut writer, &mut has_events, &mut early)?;
        }
        if !has_events && records.payload() == 0 && early.len() + bytes.len() <= Metadata::MAX_FEATURE {
            early.extend_from_slice(&bytes);
            copied.user += 1;
            continue;
        }
        start(records.metadata(), &mut writer, &mut has_events, &mut early)?;
        if type_.is_kernel() && !bytes.len().is_multiple_of(8) {
            copied.left_out += 1;
            continue;
        }
        writer.record(&bytes)?;
        while records.payload() > 0 {
            let read = records.read_payload(&mut payload).map_err(failed)?;
            writer.payload(payload.get(..read).unwrap_or_default())?;
        }
        if !is_kernel {
            copied.user += 1;
            continue;
        }
        copied.records += 1;
        if copied.records % ROUND == ROUND - 1 {
            writer.round()?;
        }
    }
    start(records.metadata(), &mut writer, &mut has_events, &mut early)?;
    name_events(records.metadata(), &mut writer)?;
    writer.round()?;
    copied.written = writer.finish()?;
    Ok(copied)
}

/// Says of the new recording what is known of the old one.
fn describe(metadata: &Metadata, writer: &mut Writer<'_>) -> Result<(), CopyError> {
    for (number, event) in metadata.events().iter().enumerate() {
        let name = event.name.clone().unwrap_or_else(|| format!("event {number}"));
        writer.event(&event.attr, &event.ids, &name)?;
    }
    for feature in metadata.features() {
        // The writer's own, and those that speak of places in the old recording.
        if [FeatureId::EVENT_DESC, FeatureId::COMPRESSED, FeatureId::AUXTRACE, FeatureId::DIR_FORMAT].contains(&feature)
        {
            continue;
        }
        let section = metadata.feature_bytes(feature).map_err(|source| CopyError::Read { position: 0, source })?;
        if let Some(section) = section {
            writer.feature(feature, &section)?;
        }
    }
    Ok(())
}

/// Describes the events before the first record, and writes what came before they were known.
fn start(
    metadata: &Metadata,
    writer: &mut Writer<'_>,
    has_events: &mut bool,
    early: &mut Vec<u8>,
) -> Result<(), CopyError> {
    if std::mem::replace(has_events, true) {
        return Ok(());
    }
    describe(metadata, writer)?;
    let mut rest = &std::mem::take(early)[..];
    while let Some(header) = Header::from_bytes(rest, metadata.order())
        && let Some((record, behind)) = rest.split_at_checked(header.size.into())
    {
        writer.record(record)?;
        rest = behind;
    }
    Ok(())
}

/// A stream may tell the names of events behind its first records.
fn name_events(metadata: &Metadata, writer: &mut Writer<'_>) -> Result<(), CopyError> {
    let events = metadata.events();
    if metadata.form() != Form::Pipe || events.iter().any(|event| event.name.is_none()) {
        return Ok(());
    }
    let descriptions = events.iter().map(|event| EventDesc {
        attr: event.attr,
        name: Text::from(event.name.as_deref().unwrap_or_default().as_bytes()),
        ids: Words::from(&event.ids[..]),
    });
    Ok(writer.describe(&Feature::EventDesc(descriptions.collect()))?)
}
