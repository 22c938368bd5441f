//! What stands around the records: events and features, in the form of a file and of a pipe.

use super::{ATTR_SIZE, WriteError};
use crate::record::bytes::int_at;
use crate::record::user::{EventUpdate, HeaderAttr, HeaderFeature, HeaderTracingData, Update};
use crate::record::{
    Attr, Body, ByteOrder, DecodeError, DefectKind, EncodeError, Encoder, Header, Misc, RecordType, SampleId, Text,
    User, Words,
};
use crate::replay::perf_data::features::EventDesc;
use crate::replay::perf_data::{Feature, FeatureId, Section};
use std::collections::BTreeMap;

/// An event of the recording.
pub(super) struct Event {
    attr: Attr,
    pub(super) ids: Vec<u64>,
    name: String,
}

impl Event {
    pub(super) fn new(attr: &Attr, ids: &[u64], name: &str) -> Self {
        Self { attr: Attr { size: ATTR_SIZE as u32, ..*attr }, ids: ids.to_vec(), name: name.to_owned() }
    }

    /// The records by which a pipe knows the event.
    pub(super) fn put_records(&self, encoder: &Encoder, to: &mut Vec<u8>) -> Result<(), WriteError> {
        let ids = Words::from(&self.ids[..]);
        put(encoder, User::HeaderAttr(HeaderAttr { attr: self.attr, ids }), to)?;
        if let Some(&id) = self.ids.first() {
            let update = Update::Name(Text::from(self.name.as_str()));
            put(encoder, User::EventUpdate(EventUpdate { id, update }), to)?;
        }
        Ok(())
    }
}

fn put(encoder: &Encoder, user: User<'_>, to: &mut Vec<u8>) -> Result<(), WriteError> {
    let written = encoder.encode(Misc::empty(), &Body::User(user), &SampleId::default(), to);
    written.map(drop).map_err(|source| WriteError::Encode { type_: user.type_(), source })
}

pub(super) fn u64_bytes(value: u64, order: ByteOrder) -> [u8; 8] {
    match order {
        ByteOrder::Little => value.to_le_bytes(),
        ByteOrder::Big => value.to_be_bytes(),
    }
}

/// Writes the ids of all events, and behind them the attrs, into bytes that begin at `start` of the file; gives where the
/// attrs are.
pub(super) fn put_attrs(events: &[Event], order: ByteOrder, start: u64, to: &mut Vec<u8>) -> Section {
    let position = |to: &Vec<u8>| start.saturating_add(to.len() as u64);
    let mut attrs = Vec::new();
    for event in events {
        attrs.extend_from_slice(&event.attr.to_bytes(order));
        let size = event.ids.len() as u64 * 8;
        attrs.extend_from_slice(&u64_bytes(position(to), order));
        attrs.extend_from_slice(&u64_bytes(size, order));
        event.ids.iter().for_each(|id| to.extend_from_slice(&u64_bytes(*id, order)));
    }
    let section = Section { offset: position(to), size: attrs.len() as u64 };
    to.append(&mut attrs);
    section
}

/// Writes the table of the features, and their sections behind it, into bytes that begin at `start` of the file.
pub(super) fn put_sections(features: &BTreeMap<FeatureId, Vec<u8>>, order: ByteOrder, start: u64, to: &mut Vec<u8>) {
    let mut offset = start.saturating_add((features.len() * Section::SIZE) as u64);
    for section in features.values() {
        to.extend_from_slice(&u64_bytes(offset, order));
        to.extend_from_slice(&u64_bytes(section.len() as u64, order));
        offset = offset.saturating_add(section.len() as u64);
    }
    features.values().for_each(|section| to.extend_from_slice(section));
}

/// The feature `EVENT_DESC`: the events with their names.
pub(super) fn event_desc(events: &[Event], order: ByteOrder) -> Result<Vec<u8>, WriteError> {
    let events = events.iter().map(|Event { attr, ids, name }| EventDesc {
        attr: *attr,
        name: Text::from(name.as_str()),
        ids: Words::from(&ids[..]),
    });
    section(&Feature::EventDesc(events.collect()), order)
}

/// A feature as its section.
pub(super) fn section(feature: &Feature<'_>, order: ByteOrder) -> Result<Vec<u8>, WriteError> {
    let mut section = Vec::new();
    match feature.encode(order, &mut section) {
        Ok(()) => Ok(section),
        Err(source) => Err(WriteError::Feature { feature: feature.id(), source }),
    }
}

/// Writes the records that are a feature section in a pipe, with the bytes that follow them.
pub(super) fn put_feature(
    encoder: &Encoder,
    feature: FeatureId,
    section: &[u8],
    to: &mut Vec<u8>,
) -> Result<(), WriteError> {
    match feature {
        FeatureId::TRACING_DATA => {
            let len = section.len().next_multiple_of(8);
            let type_ = RecordType::HEADER_TRACING_DATA;
            let size = u32::try_from(len).map_err(|_| EncodeError::TooLarge { size: len });
            let size = size.map_err(|source| WriteError::Encode { type_, source })?;
            put(encoder, User::HeaderTracingData(HeaderTracingData { size }), to)?;
            to.extend_from_slice(section);
            to.resize(to.len() + (len - section.len()), 0);
            Ok(())
        }
        FeatureId::BUILD_ID => put_build_ids(encoder.layout().order(), section, to),
        _ => put(encoder, User::HeaderFeature(HeaderFeature { feat_id: feature.0.into(), data: section }), to),
    }
}

/// In a file build ids are the same records, without a type.
fn put_build_ids(order: ByteOrder, section: &[u8], to: &mut Vec<u8>) -> Result<(), WriteError> {
    let mut rest = section;
    while !rest.is_empty() {
        let at = section.len() - rest.len();
        let header = Header::from_bytes(rest, order)
            .filter(|header| usize::from(header.size) > Header::SIZE && header.size.is_multiple_of(8));
        let header = header.ok_or(WriteError::BuildId { at })?;
        let (record, after) = rest.split_at_checked(header.size.into()).ok_or(WriteError::BuildId { at })?;
        to.extend_from_slice(&Header { type_: RecordType::HEADER_BUILD_ID, ..header }.to_bytes(order));
        to.extend_from_slice(record.get(Header::SIZE..).unwrap_or_default());
        rest = after;
    }
    Ok(())
}

/// The count of bytes that follow a record: the first field of its body.
pub(super) fn payload(header: Header, body: &[u8], order: ByteOrder) -> Result<Option<u64>, DecodeError> {
    let size = match header.type_ {
        RecordType::HEADER_TRACING_DATA => int_at::<u32>(body, 0, order).map(u64::from),
        RecordType::AUXTRACE => int_at(body, 0, order),
        _ => return Ok(None),
    };
    let missing = || DecodeError {
        type_: header.type_,
        offset: Header::SIZE,
        field: "size",
        kind: DefectKind::Truncated { needed: 8, left: body.len() },
    };
    size.ok_or_else(missing).map(Some)
}
