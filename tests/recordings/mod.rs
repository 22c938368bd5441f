//! Recordings made byte by byte, and not by the crate's own writer, which is under test itself.

#![allow(dead_code, reason = "each test binary uses its part")]

use perfring::record::{
    Attr, AttrFlags, Body, ByteOrder, Encoder, Header, Misc, RecordType, SampleFields, SampleId, SampleType,
};
use perfring::replay::perf_data::{FeatureId, Features, FileHeader, Section};
use std::io::Write;
use std::path::Path;
use zstd::stream::write::Encoder as Zstd;

/// An integer's bytes in a byte order.
pub fn word(value: u64, order: ByteOrder) -> [u8; 8] {
    match order {
        ByteOrder::Little => value.to_le_bytes(),
        ByteOrder::Big => value.to_be_bytes(),
    }
}

/// A record of any type and content.
pub fn bare(type_: RecordType, body: &[u8], order: ByteOrder) -> Vec<u8> {
    let size = u16::try_from(Header::SIZE + body.len()).expect("a record's size");
    [&Header { type_, misc: Misc::empty(), size }.to_bytes(order)[..], body].concat()
}

/// An event with an identifier first and the time in all its records, whose attribute has `size` bytes.
pub fn attr(size: u32) -> Attr {
    let sample_type = SampleType::IDENTIFIER | SampleType::TIME | SampleType::IP;
    Attr { type_: 1, size, sample_type, flags: AttrFlags::SAMPLE_ID_ALL, ..Attr::default() }
}

/// A sample of such an event.
pub fn sample(id: u64, time: u64, ip: u64, order: ByteOrder) -> Vec<u8> {
    let fields = SampleFields { identifier: Some(id), time: Some(time), ip: Some(ip), ..SampleFields::default() };
    let mut record = Vec::new();
    encoder(order).sample(Misc::empty(), &fields, &mut record).expect("a sample");
    record
}

/// Another record of such an event.
pub fn other(body: &Body<'_>, id: u64, time: u64, order: ByteOrder) -> Vec<u8> {
    let id = SampleId { time: Some(time), identifier: Some(id), ..SampleId::default() };
    let mut record = Vec::new();
    encoder(order).encode(Misc::empty(), body, &id, &mut record).expect("a record");
    record
}

fn encoder(order: ByteOrder) -> Encoder {
    Encoder::new(&attr(Attr::SIZE as u32), order).expect("a layout")
}

/// Which record holds a piece of compressed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `COMPRESSED`
    First,
    /// `COMPRESSED2`
    Second,
}

/// A recording in the making: its events, and what stands behind them.
pub struct Builder {
    pub order: ByteOrder,
    events: Vec<(Attr, Vec<u64>)>,
    data: Vec<u8>,
    /// The records that are to be read, without those that hold compressed ones.
    records: Vec<Vec<u8>>,
    features: Vec<(FeatureId, Vec<u8>)>,
    zstd: Option<Zstd<'static, Vec<u8>>>,
}

impl Builder {
    pub fn new(order: ByteOrder) -> Self {
        Self { order, events: Vec::new(), data: Vec::new(), records: Vec::new(), features: Vec::new(), zstd: None }
    }

    /// Adds an event.
    pub fn event(&mut self, attr: Attr, ids: &[u64]) -> &mut Self {
        self.events.push((attr, ids.to_vec()));
        self
    }

    /// Adds a feature section.
    pub fn feature(&mut self, id: FeatureId, section: &[u8]) -> &mut Self {
        self.features.push((id, section.to_vec()));
        self.features.sort();
        self
    }

    /// Adds a record.
    pub fn record(&mut self, record: Vec<u8>) -> &mut Self {
        self.data.extend_from_slice(&record);
        self.records.push(record);
        self
    }

    /// Ends a round.
    pub fn round(&mut self) -> &mut Self {
        self.record(bare(RecordType::FINISHED_ROUND, &[], self.order))
    }

    /// Adds bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.data.extend_from_slice(bytes);
        self
    }

    /// Adds an `AUXTRACE`, and behind it what it announces.
    pub fn auxtrace(&mut self, payload: &[u8]) -> &mut Self {
        let body = [&word(payload.len() as u64, self.order)[..], &[0; 32]].concat();
        self.record(bare(RecordType::AUXTRACE, &body, self.order)).raw(payload)
    }

    /// Adds records that are compressed: flushed each `flush` bytes, wherever in a record that is, and in pieces of at most
    /// `piece` bytes.
    pub fn compressed(
        &mut self,
        records: &[Vec<u8>],
        compression: Compression,
        flush: usize,
        piece: usize,
    ) -> &mut Self {
        let zstd = self.zstd.get_or_insert_with(|| Zstd::new(Vec::new(), 1).expect("zstd"));
        let mut compressed = Vec::new();
        for bytes in records.concat().chunks(flush) {
            zstd.write_all(bytes).expect("zstd");
            zstd.flush().expect("zstd");
            compressed.append(zstd.get_mut());
        }
        for piece in compressed.chunks(piece) {
            let record = match compression {
                Compression::First => bare(RecordType::COMPRESSED, piece, self.order),
                Compression::Second => {
                    let mut body = word(piece.len() as u64, self.order).to_vec();
                    body.extend_from_slice(piece);
                    body.resize(body.len().next_multiple_of(8), 0);
                    bare(RecordType::COMPRESSED2, &body, self.order)
                }
            };
            self.data.extend_from_slice(&record);
        }
        self.records.extend_from_slice(records);
        self
    }

    /// The records that were added, those that were compressed among them.
    pub fn records(&self) -> &[Vec<u8>] {
        &self.records
    }

    /// The bytes of the data.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// A `perf.data` file.
    pub fn file(&self) -> Vec<u8> {
        let Self { order, events, data, features, .. } = self;
        let attr_len = events.iter().map(|(attr, _)| attr.to_bytes(*order).len()).max().unwrap_or(Attr::SIZE);
        let (mut ids, mut attrs) = (Vec::new(), Vec::new());
        for (attr, of_event) in events {
            let mut bytes = attr.to_bytes(*order);
            bytes.resize(attr_len, 0);
            attrs.extend(bytes);
            attrs.extend(word((FileHeader::SIZE + ids.len()) as u64, *order));
            attrs.extend(word(8 * of_event.len() as u64, *order));
            ids.extend(of_event.iter().flat_map(|id| word(*id, *order)));
        }
        let mut set = Features::default();
        features.iter().for_each(|(id, _)| set.insert(*id));
        let at_attrs = (FileHeader::SIZE + ids.len()) as u64;
        let at_data = at_attrs + attrs.len() as u64;
        let header = FileHeader {
            order: *order,
            attr_size: attr_len as u64 + 16,
            attrs: Section { offset: at_attrs, size: attrs.len() as u64 },
            data: Section { offset: at_data, size: data.len() as u64 },
            event_types: Section::default(),
            features: set,
        };
        let mut bytes = [&header.to_bytes()[..], &ids, &attrs, data].concat();
        let mut at = (bytes.len() + 16 * features.len()) as u64;
        for (_, section) in features {
            bytes.extend(word(at, *order));
            bytes.extend(word(section.len() as u64, *order));
            at += section.len() as u64;
        }
        features.iter().for_each(|(_, section)| bytes.extend_from_slice(section));
        bytes
    }

    /// The records that say in a pipe what the header of a file says.
    pub fn said(&self) -> Vec<Vec<u8>> {
        let event = |(attr, ids): &(Attr, Vec<u64>)| {
            let ids: Vec<u8> = ids.iter().flat_map(|id| word(*id, self.order)).collect();
            bare(RecordType::HEADER_ATTR, &[attr.to_bytes(self.order), ids].concat(), self.order)
        };
        let feature = |(id, section): &(FeatureId, Vec<u8>)| {
            let body = [&word(id.0.into(), self.order)[..], section].concat();
            bare(RecordType::HEADER_FEATURE, &body, self.order)
        };
        self.events.iter().map(event).chain(self.features.iter().map(feature)).collect()
    }

    /// A pipe.
    pub fn pipe(&self) -> Vec<u8> {
        let header = [&self.file()[..8], &word(FileHeader::PIPE_SIZE as u64, self.order)].concat();
        [header, self.said().concat(), self.data.clone()].concat()
    }

    /// A directory, with these files of records beside the file `data`.
    pub fn directory(&self, path: &Path, files: &[&[u8]]) {
        std::fs::write(path.join("data"), self.file()).expect("a file");
        for (number, records) in files.iter().enumerate() {
            std::fs::write(path.join(format!("data.{number}")), records).expect("a file");
        }
    }
}
