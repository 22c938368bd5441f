//! `perf.data` as it is written.

#[cfg(feature = "zstd")]
mod compress;
mod describe;
mod error;
mod options;
mod output;

pub use error::WriteError;
pub use options::{WriteOptions, Written};

use super::{Feature, FeatureId, Features, FileHeader, Section};
use crate::record::{Attr, ByteOrder, Encoder, Header, Misc, ReadFormat, RecordType, SampleLayout, SampleType};
#[cfg(feature = "zstd")]
use compress::Compressor;
use describe::Event;
use output::{Failure, Output};
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};

/// Bytes of an attr that every `perf` since 5.13 reads (`PERF_ATTR_SIZE_VER7`).
const ATTR_SIZE: usize = 128;
/// Where `data.size` stands in the header of a file.
const DATA_SIZE_AT: u64 = 48;

/// Writes a recording that `perf` opens, whichever its version: a file, or a stream for a pipe.
///
/// First come the [events](Self::event), then their records: one by one, or as [spans](Self::span) of a ring, unread. Where
/// each ring was read once, a [round](Self::round) ends: readers sort by that. What else is known of the recording are
/// [features](Self::feature).
///
/// Until it is [finished](Self::finish) a file is that of a recorder which was killed: it has no features, and the records up
/// to the last [`sync_header`](Self::sync_header). That is how dropping the writer leaves it, too. After a failed write, on a
/// full disk, say, the file ends with the last record that was whole, and can still be finished.
///
/// ```
/// use perfring::record::{Attr, ByteOrder, Encoder, Misc, SampleFields, SampleType};
/// use perfring::replay::perf_data::{WriteOptions, Writer};
///
/// let attr = Attr { type_: 1, sample_type: SampleType::IP | SampleType::TIME, ..Attr::default() };
/// let mut record = Vec::new();
/// let fields = SampleFields { ip: Some(0x1000), time: Some(5), ..Default::default() };
/// Encoder::new(&attr, ByteOrder::NATIVE)?.sample(Misc::empty(), &fields, &mut record)?;
///
/// let mut writer = Writer::file(tempfile::tempfile()?, WriteOptions::default())?;
/// writer.event(&attr, &[1], "cpu-clock")?;
/// writer.record(&record)?;
/// writer.round()?;
/// let written = writer.finish()?;
/// assert_eq!(written.data, record.len() as u64 + 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer<'w> {
    out: Output<'w>,
    order: ByteOrder,
    /// Of the records that the writer adds, which have no trailer.
    encoder: Encoder,
    /// Of the first event.
    layout: Option<SampleLayout>,
    events: Vec<Event>,
    /// By id.
    owners: BTreeMap<u64, usize>,
    features: BTreeMap<FeatureId, Vec<u8>>,
    header: FileHeader,
    has_started: bool,
    has_stopped: bool,
    is_finished: bool,
    /// There are ids that the file's start does not have.
    has_late_ids: bool,
    /// Bytes that belong to the last record and are still to come.
    owed: u64,
    #[cfg(feature = "zstd")]
    compressor: Option<Compressor>,
}

impl<'w> Writer<'w> {
    /// Writes a file, whose content up to now is given up. It was opened for writing, and not for appending: then the system
    /// would write the header, too, at its end.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotAFile`], [`WriteError::Level`], [`WriteError::Io`]
    pub fn file(file: File, options: WriteOptions) -> Result<Self, WriteError> {
        match file.metadata() {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err(WriteError::NotAFile),
            Err(source) => return Err(WriteError::Io { source, lost: 0 }),
        }
        Self::new(options, || Output::file(file, options.order))
    }

    /// Writes a stream that needs no seeking, as `perf record -o -` does: what a file has in its header stands before the
    /// records.
    ///
    /// # Errors
    ///
    /// [`WriteError::Level`], [`WriteError::Io`]
    pub fn pipe(pipe: impl Write + Send + 'w, options: WriteOptions) -> Result<Self, WriteError> {
        Self::new(options, || Ok(Output::pipe(pipe, options.order)))
    }

    /// Opens the output last: wrong options leave a file as it is.
    fn new(options: WriteOptions, out: impl FnOnce() -> io::Result<Output<'w>>) -> Result<Self, WriteError> {
        let order = options.order;
        let io = |source| WriteError::Io { source, lost: 0 };
        #[cfg(feature = "zstd")]
        let compressor = match options.level {
            None => None,
            Some(level @ 1..=22) => Some(Compressor::new(level, order).map_err(io)?),
            Some(level) => return Err(WriteError::Level { level }),
        };
        Ok(Self {
            encoder: Encoder::new(&Attr::default(), order).map_err(|source| WriteError::Layout { event: 0, source })?,
            out: out().map_err(io)?,
            order,
            layout: None,
            events: Vec::new(),
            owners: BTreeMap::new(),
            features: BTreeMap::new(),
            header: FileHeader {
                order,
                attr_size: (ATTR_SIZE + Section::SIZE) as u64,
                attrs: Section::default(),
                data: Section::default(),
                event_types: Section::default(),
                features: Features::default(),
            },
            has_started: false,
            has_stopped: false,
            is_finished: false,
            has_late_ids: false,
            owed: 0,
            #[cfg(feature = "zstd")]
            compressor,
        })
    }

    /// Adds an event, with the ids that its records carry (`Event::id` of the module `kernel`: one for each ring) and the name
    /// to show; gives its number.
    ///
    /// The attr is written as 128 bytes, whatever its size: those that are not there are 0, and those beyond have to be.
    ///
    /// # Errors
    ///
    /// What `perf` would refuse: [`WriteError::AttrSize`], [`WriteError::ReadWithoutId`], [`WriteError::NoCommonId`],
    /// [`WriteError::Layout`], [`WriteError::DuplicateId`]. [`WriteError::Feature`] for a name with a NUL; in a pipe, whose
    /// records cannot be larger than 64 KiB, [`WriteError::Encode`]. [`WriteError::Started`] after the first record.
    pub fn event(&mut self, attr: &Attr, ids: &[u64], name: &str) -> Result<usize, WriteError> {
        if self.has_started {
            return Err(WriteError::Started);
        }
        let event = self.events.len();
        let whole = Attr { size: Attr::SIZE as u32, ..*attr }.to_bytes(self.order);
        if let Some((at, _)) = whole.iter().enumerate().skip(ATTR_SIZE).find(|(_, byte)| **byte != 0) {
            return Err(WriteError::AttrSize { event, at });
        }
        if attr.sample_type.contains(SampleType::READ) && !attr.read_format.contains(ReadFormat::ID) {
            return Err(WriteError::ReadWithoutId { event });
        }
        let layout = SampleLayout::new(attr, self.order).map_err(|source| WriteError::Layout { event, source })?;
        if let Some(first) = &self.layout {
            let place = |layout: &SampleLayout| (layout.id_in_sample(), layout.id_before_end());
            if layout.id_in_sample().is_none() || place(&layout) != place(first) {
                return Err(WriteError::NoCommonId { event });
            }
        }
        let added = Event::new(attr, ids, name);
        // It is found out now that it cannot be described.
        if self.out.is_file() {
            describe::event_desc(std::slice::from_ref(&added), self.order)?;
        } else {
            added.put_records(&self.encoder, &mut Vec::new())?;
        }
        self.own(event, ids)?;
        self.layout.get_or_insert(layout);
        self.events.push(added);
        Ok(event)
    }

    /// Adds ids to an event: those of CPUs that came later, say. A file has them when it is finished.
    ///
    /// # Errors
    ///
    /// [`WriteError::NoSuchEvent`]; [`WriteError::DuplicateId`]; [`WriteError::Started`] in a pipe after the first record.
    pub fn add_ids(&mut self, event: usize, ids: &[u64]) -> Result<(), WriteError> {
        if self.has_started && !self.out.is_file() {
            return Err(WriteError::Started);
        }
        if event >= self.events.len() {
            return Err(WriteError::NoSuchEvent { event });
        }
        self.own(event, ids)?;
        if let Some(known) = self.events.get_mut(event) {
            known.ids.extend_from_slice(ids);
            self.has_late_ids |= self.has_started && !ids.is_empty();
        }
        Ok(())
    }

    /// Notes whose the ids are: all or none of them.
    fn own(&mut self, event: usize, ids: &[u64]) -> Result<(), WriteError> {
        let mut seen = BTreeSet::new();
        for &id in ids {
            let first = self.owners.get(&id).copied().or((!seen.insert(id)).then_some(event));
            if let Some(first) = first {
                return Err(WriteError::DuplicateId { event, id, first });
            }
        }
        self.owners.extend(seen.into_iter().map(|id| (id, event)));
        Ok(())
    }

    /// Writes the events, so that records can follow: the first record does so, too.
    ///
    /// # Errors
    ///
    /// [`WriteError::NoEvent`], [`WriteError::Stopped`], [`WriteError::Io`]
    pub fn start(&mut self) -> Result<(), WriteError> {
        if self.has_stopped {
            return Err(WriteError::Stopped);
        }
        if self.has_started {
            return Ok(());
        }
        if self.events.is_empty() {
            return Err(WriteError::NoEvent);
        }
        let mut start = Vec::new();
        let is_file = self.out.is_file();
        if is_file {
            let mut tables = Vec::new();
            self.header.attrs = describe::put_attrs(&self.events, self.order, FileHeader::SIZE as u64, &mut tables);
            self.header.data.offset = (FileHeader::SIZE + tables.len()) as u64;
            start.extend_from_slice(&self.header.to_bytes());
            start.append(&mut tables);
        } else {
            start.extend_from_slice(&self.header.to_pipe_bytes());
            for event in &self.events {
                event.put_records(&self.encoder, &mut start)?;
            }
        }
        self.has_started = true;
        let done = self.out.open().and_then(|()| self.out.put(&start, &[])).and_then(|()| self.out.close());
        self.check(done)?;
        #[cfg(feature = "zstd")]
        if let Some(section) = self.compressed()? {
            // In a file, too: who finds it without its features can decompress it all the same.
            self.put_feature_records(FeatureId::COMPRESSED, &section)?;
        }
        if !is_file {
            for (feature, section) in std::mem::take(&mut self.features) {
                self.put_feature_records(feature, &section)?;
            }
        }
        Ok(())
    }

    /// Writes a record.
    ///
    /// After one of `AUXTRACE` or `HEADER_TRACING_DATA` the bytes that it announces have to follow, by
    /// [`payload`](Self::payload). In a compressed recording the kernel's records are compressed; those of `perf` are not.
    ///
    /// # Errors
    ///
    /// [`WriteError::Record`] if `record` is not one, as long as its header says; [`WriteError::Unaligned`] if it is not a
    /// multiple of 8 bytes long, and not one of the types that need not be (66, 80, 81);
    /// [`WriteError::PayloadSize`], [`WriteError::PayloadOwed`], [`WriteError::Compressed`]; those of [`start`](Self::start).
    pub fn record(&mut self, record: &[u8]) -> Result<(), WriteError> {
        let (header, body) = Header::split(record, self.order)?;
        let type_ = header.type_;
        let is_free =
            matches!(type_, RecordType::HEADER_TRACING_DATA | RecordType::HEADER_FEATURE | RecordType::COMPRESSED);
        if !is_free && !record.len().is_multiple_of(8) {
            return Err(WriteError::Unaligned { type_, size: record.len() });
        }
        let payload = describe::payload(header, body, self.order)?;
        if let Some(size) = payload
            && !size.is_multiple_of(8)
        {
            return Err(WriteError::PayloadSize { type_, size });
        }
        self.ready()?;
        #[cfg(feature = "zstd")]
        if let Some(compressor) = &mut self.compressor {
            if matches!(type_, RecordType::COMPRESSED | RecordType::COMPRESSED2) {
                return Err(WriteError::Compressed { type_ });
            }
            if type_.is_kernel() {
                let done = compressor.push(record, &mut self.out);
                return self.check(done);
            }
        }
        self.end_stream()?;
        if let Some(size) = payload.filter(|size| *size != 0) {
            self.owed = size;
            let done = self.out.open();
            self.check(done)?;
        }
        let done = self.out.put(record, &[]);
        self.check(done)
    }

    /// Writes whole records that lie in a ring, in two pieces where they wrap, as `Consumer::take_span` gives them. They are not
    /// looked at, and not copied if they are many.
    ///
    /// # Errors
    ///
    /// [`WriteError::Span`] if they are not a multiple of 8 bytes long; [`WriteError::PayloadOwed`]; those of
    /// [`start`](Self::start).
    pub fn span(&mut self, first: &[u8], second: &[u8]) -> Result<(), WriteError> {
        let len = first.len().saturating_add(second.len());
        if !len.is_multiple_of(8) {
            return Err(WriteError::Span { len });
        }
        self.ready()?;
        #[cfg(feature = "zstd")]
        if let Some(compressor) = &mut self.compressor {
            let done = compressor.push(first, &mut self.out).and_then(|()| compressor.push(second, &mut self.out));
            return self.check(done);
        }
        let done = self.out.put(first, second);
        self.check(done)
    }

    /// Writes bytes that belong to the last record, which was one of `AUXTRACE` or `HEADER_TRACING_DATA`: all of them, or a
    /// piece that others follow.
    ///
    /// # Errors
    ///
    /// [`WriteError::PayloadExcess`], [`WriteError::Stopped`], [`WriteError::Io`]
    pub fn payload(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if self.has_stopped {
            return Err(WriteError::Stopped);
        }
        let left = self.owed.checked_sub(bytes.len() as u64);
        let Some(left) = left else { return Err(WriteError::PayloadExcess { left: self.owed, len: bytes.len() }) };
        let done = self.out.put(bytes, &[]);
        self.check(done)?;
        if left == 0 && self.owed != 0 {
            let done = self.out.close();
            self.check(done)?;
        }
        self.owed = left;
        Ok(())
    }

    /// Ends a round: every ring was read, so that all that comes later is younger than what the round before held.
    ///
    /// A pipe's reader gets what was written so far.
    ///
    /// # Errors
    ///
    /// [`WriteError::PayloadOwed`]; those of [`start`](Self::start).
    pub fn round(&mut self) -> Result<(), WriteError> {
        let size = Header::SIZE as u16;
        let header = Header { type_: RecordType::FINISHED_ROUND, misc: Misc::empty(), size };
        self.record(&header.to_bytes(self.order))?;
        if self.out.is_file() {
            return Ok(());
        }
        let done = self.out.hand_on();
        self.check(done)
    }

    /// Says what is known of the recording: the bytes of a feature section, as they stand in a file.
    ///
    /// A file holds them when it is finished; of several for one feature the last one. In a pipe they go out at once, behind
    /// the events, as records: those of `TRACING_DATA` and `BUILD_ID` as records of their own types. The writer adds
    /// `EVENT_DESC` to a file unless it is given, and `COMPRESSED`.
    ///
    /// # Errors
    ///
    /// [`WriteError::OwnFeature`]; in a pipe [`WriteError::Encode`] for one that is too large for a record, and
    /// [`WriteError::BuildId`].
    pub fn feature(&mut self, feature: FeatureId, section: &[u8]) -> Result<(), WriteError> {
        #[cfg(feature = "zstd")]
        if feature == FeatureId::COMPRESSED && self.compressor.is_some() {
            return Err(WriteError::OwnFeature { feature });
        }
        if !self.out.is_file() {
            // It is found out now that records cannot hold it.
            describe::put_feature(&self.encoder, feature, section, &mut Vec::new())?;
        }
        if self.out.is_file() || !self.has_started {
            self.features.insert(feature, section.to_vec());
            return Ok(());
        }
        self.put_feature_records(feature, section)
    }

    /// Says what is known of the recording, as [`feature`](Self::feature) does.
    ///
    /// ```
    /// use perfring::record::Attr;
    /// use perfring::replay::perf_data::{Feature, WriteOptions, Writer};
    /// let mut writer = Writer::pipe(std::io::sink(), WriteOptions::default())?;
    /// writer.event(&Attr::default(), &[1], "cpu-clock")?;
    /// writer.describe(&Feature::Cmdline(vec!["perfring".into(), "record".into()]))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`WriteError::Feature`], and those of [`feature`](Self::feature).
    pub fn describe(&mut self, feature: &Feature<'_>) -> Result<(), WriteError> {
        let section = describe::section(feature, self.order)?;
        self.feature(feature.id(), &section)
    }

    /// Makes what was written so far part of the file: the one of a recorder that is killed later holds it. In a pipe, its
    /// reader gets it.
    ///
    /// It takes a few system calls; once a second is often enough. It does not wait for the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError::Io`], and those of [`start`](Self::start) but for [`WriteError::Stopped`].
    pub fn sync_header(&mut self) -> Result<(), WriteError> {
        let mut failed = None;
        if !self.has_stopped {
            self.start()?;
            failed = self.hand_on().err();
        }
        if self.out.end() < self.header.data.offset {
            return Err(WriteError::Stopped);
        }
        self.header.data.size = self.data_size();
        let size = match self.order {
            ByteOrder::Little => self.header.data.size.to_le_bytes(),
            ByteOrder::Big => self.header.data.size.to_be_bytes(),
        };
        let done = self.out.overwrite(DATA_SIZE_AT, &size).map_err(|source| WriteError::Io { source, lost: 0 });
        match failed {
            Some(error) => Err(error),
            None => done,
        }
    }

    /// Writes what is left, and what the header of a file describes. After a failed write it does so for what is there.
    ///
    /// # Errors
    ///
    /// [`WriteError::PayloadOwed`]: the last record is left out. [`WriteError::Io`]: the file is as it was before, or without
    /// features, when there is no space for them. [`WriteError::NoEvent`]
    pub fn finish(mut self) -> Result<Written, WriteError> {
        if self.owed > 0 && !self.has_stopped {
            return Err(WriteError::PayloadOwed { left: self.owed });
        }
        if !self.has_stopped {
            self.start()?;
        }
        let mut failed = if self.has_stopped { None } else { self.hand_on().err() };
        self.header.data.size = self.data_size();
        if self.out.is_file() {
            if self.out.end() < self.header.data.offset {
                return Err(WriteError::Stopped);
            }
            let (tail, header) = self.tail()?;
            let done = self.out.open().and_then(|()| self.out.put(&tail, &[])).and_then(|()| self.out.flush());
            let header = if done.is_ok() { header } else { self.header };
            failed = failed.or(self.check(done).err());
            if let Err(source) = self.out.overwrite(0, &header.to_bytes()) {
                failed = failed.or(Some(WriteError::Io { source, lost: 0 }));
            }
        }
        self.is_finished = true;
        match failed {
            Some(error) => Err(error),
            None => Ok(Written { data: self.header.data.size, plain: self.plain(), lost: self.out.lost() }),
        }
    }

    /// What stands behind the records of a file, and the header that names it.
    fn tail(&mut self) -> Result<(Vec<u8>, FileHeader), WriteError> {
        #[cfg(feature = "zstd")]
        if let Some(section) = self.compressed()? {
            self.features.insert(FeatureId::COMPRESSED, section);
        }
        if let Entry::Vacant(place) = self.features.entry(FeatureId::EVENT_DESC) {
            place.insert(describe::event_desc(&self.events, self.order)?);
        }
        let start = self.header.data.end().unwrap_or(u64::MAX);
        let mut tail = Vec::new();
        let mut header = FileHeader { features: self.features.keys().copied().collect(), ..self.header };
        describe::put_sections(&self.features, self.order, start, &mut tail);
        if self.has_late_ids {
            tail.resize(tail.len().next_multiple_of(8), 0);
            header.attrs = describe::put_attrs(&self.events, self.order, start, &mut tail);
        }
        Ok((tail, header))
    }

    /// The feature `COMPRESSED`, if the recording is.
    #[cfg(feature = "zstd")]
    fn compressed(&self) -> Result<Option<Vec<u8>>, WriteError> {
        let feature =
            |compressor: &Compressor| describe::section(&Feature::Compressed(compressor.feature()), self.order);
        self.compressor.as_ref().map(feature).transpose()
    }

    fn put_feature_records(&mut self, feature: FeatureId, section: &[u8]) -> Result<(), WriteError> {
        let mut records = Vec::new();
        describe::put_feature(&self.encoder, feature, section, &mut records)?;
        self.ready()?;
        self.end_stream()?;
        let done = self.out.open().and_then(|()| self.out.put(&records, &[])).and_then(|()| self.out.close());
        self.check(done)
    }

    /// Something can be written that begins here.
    fn ready(&mut self) -> Result<(), WriteError> {
        if self.has_stopped {
            return Err(WriteError::Stopped);
        }
        if self.owed > 0 {
            return Err(WriteError::PayloadOwed { left: self.owed });
        }
        self.start()
    }

    /// Writes what is in the compressor, so that something can follow that is not compressed.
    fn end_stream(&mut self) -> Result<(), WriteError> {
        #[cfg(feature = "zstd")]
        if let Some(compressor) = &mut self.compressor {
            let done = compressor.flush(&mut self.out);
            return self.check(done);
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<(), WriteError> {
        self.end_stream()?;
        let done = self.out.hand_on();
        self.check(done)
    }

    /// Nothing is written behind a failure.
    fn check(&mut self, done: Result<(), Failure>) -> Result<(), WriteError> {
        done.map_err(|Failure { source, lost }| {
            self.has_stopped = true;
            WriteError::Io { source, lost }
        })
    }

    fn data_size(&self) -> u64 {
        self.out.end().saturating_sub(self.header.data.offset)
    }

    fn plain(&self) -> u64 {
        #[cfg(feature = "zstd")]
        return self.compressor.as_ref().map_or(0, Compressor::plain);
        #[cfg(not(feature = "zstd"))]
        0
    }
}

/// As a recorder that is killed, but with what was given to the writer so far.
impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if self.has_started && !self.is_finished {
            let _ = self.sync_header();
        }
    }
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("events", &self.events.len())
            .field("data", &self.data_size())
            .finish_non_exhaustive()
    }
}
