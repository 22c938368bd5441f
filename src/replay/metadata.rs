//! What a recording says of itself.

use crate::record::{Arch, Attr, AttrError, ByteOrder, Decoder, DecoderError, Header, RecordType, User, user};
use crate::replay::error::{OpenError, Warning};
use crate::replay::input::{ReadAt, read_full_at};
use crate::replay::perf_data::{Feature, FeatureId, FileHeader, Section};
use crate::ring::Description;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Which of its forms a recording has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// A `perf.data` file.
    File,
    /// A directory of such a file and further files of records (`perf record --threads`).
    Directory,
    /// A stream, in which events and features are records.
    Pipe,
    /// An image of a ring.
    RingImage,
}

/// An event whose records are in a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedEvent {
    /// How it was opened.
    pub attr: Attr,
    /// The ids by which its records name it: one for each CPU or task.
    pub ids: Vec<u64>,
    /// Its name, as far as the recording has said it.
    pub name: Option<String>,
}

/// What a recording says of itself: its events, and the features of its header.
///
/// A stream says it little by little: whatever concerns a record was said before it.
pub struct Metadata {
    form: Form,
    order: ByteOrder,
    header: Option<FileHeader>,
    events: Vec<RecordedEvent>,
    /// The event of each id that a stream has named: the first one, where there are several.
    by_id: BTreeMap<u64, u32>,
    decoder: Decoder,
    features: BTreeMap<FeatureId, Place>,
    source: Option<Arc<dyn ReadAt>>,
    /// The header does not say where the records end.
    is_unfinished: bool,
    warnings: Vec<Warning>,
    /// Bytes and ids that are kept of a stream.
    kept: usize,
    ids: usize,
}

/// Where a feature section is.
enum Place {
    File(Section),
    Memory(Vec<u8>),
}

impl Metadata {
    /// The most events that are read.
    pub const MAX_EVENTS: usize = 1 << 14;
    /// The most ids of events that are read.
    pub const MAX_IDS: usize = 1 << 20;
    /// The largest feature section that is read, and the most bytes of features and of events' names that are kept of a
    /// stream.
    pub const MAX_FEATURE: usize = 64 << 20;
    /// The most warnings that are kept.
    pub const MAX_WARNINGS: usize = 1000;

    pub(crate) fn new(form: Form, order: ByteOrder) -> Self {
        Self {
            form,
            order,
            header: None,
            events: Vec::new(),
            by_id: BTreeMap::new(),
            decoder: Decoder::empty(order),
            features: BTreeMap::new(),
            source: None,
            is_unfinished: false,
            warnings: Vec::new(),
            kept: 0,
            ids: 0,
        }
    }

    /// What a ring says of itself.
    pub fn of_ring(description: &Description) -> Self {
        let order = match (description.swapped, ByteOrder::NATIVE) {
            (false, native) => native,
            (true, ByteOrder::Little) => ByteOrder::Big,
            (true, ByteOrder::Big) => ByteOrder::Little,
        };
        let mut metadata = Self::new(Form::RingImage, order);
        for entry in &description.attrs {
            metadata.push_bytes(&entry.attr, entry.ids.clone());
        }
        metadata
    }

    /// Reads what the header of a file names: events and the table of features.
    pub(crate) fn of_file(
        form: Form,
        header: FileHeader,
        source: Arc<dyn ReadAt>,
        len: u64,
    ) -> Result<Self, OpenError> {
        let mut metadata = Self::new(form, header.order);
        metadata.header = Some(header);
        metadata.source = Some(Arc::clone(&source));
        metadata.read_events(&header, &*source, len)?;
        metadata.read_feature_table(&header, &*source, len)?;
        metadata.read_names()?;
        metadata.read_arch()?;
        Ok(metadata)
    }

    /// Takes the names of events from the feature section that has them.
    fn read_names(&mut self) -> Result<(), OpenError> {
        let what = || "read the names of events".to_owned();
        let section =
            self.feature_bytes(FeatureId::EVENT_DESC).map_err(|source| OpenError::Io { what: what(), source })?;
        let Some(section) = section else { return Ok(()) };
        match Feature::decode(FeatureId::EVENT_DESC, &section, self.order) {
            Ok(Feature::EventDesc(descriptions)) => {
                // They stand in the order of the events.
                for (event, description) in self.events.iter_mut().zip(descriptions) {
                    event.name = Some(String::from_utf8_lossy(description.name.as_bytes()).into_owned());
                }
            }
            Ok(_) => {}
            Err(error) => self.warn(Warning::DamagedFeature { error }),
        }
        Ok(())
    }

    /// Tells the decoder whose registers samples hold.
    fn read_arch(&mut self) -> Result<(), OpenError> {
        let what = || "read the architecture".to_owned();
        let section = self.feature_bytes(FeatureId::ARCH).map_err(|source| OpenError::Io { what: what(), source })?;
        if let Some(section) = section {
            self.learn_arch(&section);
        }
        Ok(())
    }

    fn learn_arch(&mut self, section: &[u8]) {
        match Feature::decode(FeatureId::ARCH, section, self.order) {
            Ok(Feature::Arch(arch)) => self.decoder.set_arch(arch.to_str().and_then(Arch::from_machine)),
            Ok(_) => {}
            Err(error) => self.warn(Warning::DamagedFeature { error }),
        }
    }

    fn read_events(&mut self, header: &FileHeader, source: &dyn ReadAt, len: u64) -> Result<(), OpenError> {
        let FileHeader { attr_size, attrs: section, order, .. } = *header;
        let smallest = (Attr::SIZE_VER0 + Section::SIZE) as u64;
        if !(smallest..=4096).contains(&attr_size) {
            return Err(OpenError::AttrSize { found: attr_size });
        }
        if !section.is_inside(len) || !section.size.is_multiple_of(attr_size) {
            return Err(OpenError::Attrs { section, attr_size, len });
        }
        let count = section.size / attr_size;
        if count > Self::MAX_EVENTS as u64 {
            return Err(OpenError::Events { count });
        }
        for event in 0..count {
            let entry = read_section(source, Section { offset: section.offset + event * attr_size, size: attr_size })?;
            let event = event as usize;
            let (attr, ids) = entry.split_at(entry.len() - Section::SIZE);
            let attr = self.attr(event, attr, order)?;
            let outside = |section| OpenError::Ids { event, section, len };
            let ids = Section::from_bytes(ids, 0, order).unwrap_or_default();
            if !ids.is_inside(len) || !ids.size.is_multiple_of(8) {
                return Err(outside(ids));
            }
            let wanted = self.ids as u64 + ids.size / 8;
            if wanted > Self::MAX_IDS as u64 {
                return Err(OpenError::TooManyIds { count: wanted });
            }
            let ids = read_section(source, ids)?;
            let ids = ids.as_chunks::<8>().0.iter().map(|id| match order {
                ByteOrder::Little => u64::from_le_bytes(*id),
                ByteOrder::Big => u64::from_be_bytes(*id),
            });
            self.push(attr, ids.collect());
        }
        Ok(())
    }

    /// An attribute: that of a newer kernel is cut to what is known.
    fn attr(&mut self, event: usize, bytes: &[u8], order: ByteOrder) -> Result<Attr, OpenError> {
        match Attr::from_bytes(bytes, order) {
            // An old perf has written no size.
            Ok((attr, _)) => Ok(attr),
            Err(error @ AttrError::Unknown { .. }) => {
                self.warn(Warning::NewerAttr { event, error });
                let mut known = bytes.to_vec();
                known.get_mut(Attr::SIZE..).unwrap_or_default().fill(0);
                Attr::from_bytes(&known, order)
                    .map(|(attr, _)| attr)
                    .map_err(|source| OpenError::Attr { event, source })
            }
            Err(source) => Err(OpenError::Attr { event, source }),
        }
    }

    fn read_feature_table(&mut self, header: &FileHeader, source: &dyn ReadAt, len: u64) -> Result<(), OpenError> {
        let features: Vec<FeatureId> = header.features.iter().collect();
        let Some(offset) = header.data.end() else { return Ok(()) };
        let table = Section { offset, size: (features.len() * Section::SIZE) as u64 };
        let is_empty = header.data.size == 0;
        self.is_unfinished = is_empty;
        if !table.is_inside(len) || is_empty && features.is_empty() {
            if is_empty {
                return Ok(());
            }
            self.warn(Warning::FeatureTable { offset, count: features.len() });
            return Ok(());
        }
        let first = offset.saturating_add(table.size);
        let table = read_section(source, table)?;
        let section = |number| Section::from_bytes(&table, number * Section::SIZE, header.order).unwrap_or_default();
        // Where there is no record this may be a table, or what a recorder had written when it was killed: then it names no
        // places in the file.
        self.is_unfinished &= !(0..features.len()).map(section).all(|it| it.is_inside(len) && it.offset >= first);
        if self.is_unfinished {
            return Ok(());
        }
        for (number, feature) in features.into_iter().enumerate() {
            let section = section(number);
            if section.is_inside(len) && section.size <= Self::MAX_FEATURE as u64 {
                self.features.insert(feature, Place::File(section));
            } else {
                self.warn(Warning::Feature { feature, section });
            }
        }
        Ok(())
    }

    /// Adds an event.
    pub(crate) fn push(&mut self, attr: Attr, ids: Vec<u64>) {
        let event = self.events.len();
        if let Err(error) = self.decoder.push(&attr, &ids) {
            // What ids that are another event's stand for is that event.
            let is_without_ids =
                matches!(error, DecoderError::DuplicateId { .. }) && self.decoder.push(&attr, &[]).is_ok();
            if !is_without_ids {
                self.decoder.push_undecodable(&attr);
            }
            self.warn(Warning::Undecodable { event, error });
        }
        self.ids += ids.len();
        self.events.push(RecordedEvent { attr, ids, name: None });
    }

    /// Adds an event of a ring by the bytes of its attribute; one that cannot be is left out.
    pub(crate) fn push_bytes(&mut self, attr: &[u8], ids: Vec<u64>) {
        let event = self.events.len();
        match self.attr(event, attr, ByteOrder::NATIVE) {
            Ok(attr) => self.push(attr, ids),
            Err(OpenError::Attr { event, source }) => self.warn(Warning::NewerAttr { event, error: source }),
            Err(_) => {}
        }
    }

    pub(crate) fn set_form(&mut self, form: Form) {
        self.form = form;
    }

    pub(crate) fn warn(&mut self, warning: Warning) {
        if self.warnings.len() < Self::MAX_WARNINGS {
            self.warnings.push(warning);
        }
    }

    pub(crate) fn is_unfinished(&self) -> bool {
        self.is_unfinished
    }

    /// Learns of an event from a record of a stream: of an attribute of a newer kernel what is known.
    fn learn_attr(&mut self, record: &[u8], position: u64) {
        let body = record.get(Header::SIZE..).unwrap_or_default();
        let attr = match self.attr(self.events.len(), body, self.order) {
            Ok(attr) => attr,
            // Decoding it says what is wrong.
            Err(_) => {
                if let Err(error) = self.decoder.decode(record) {
                    self.warn(Warning::Damaged { error });
                }
                return;
            }
        };
        let ids = body.get(attr.size as usize..).unwrap_or_default().as_chunks::<8>().0;
        if self.events.len() >= Self::MAX_EVENTS || self.ids.saturating_add(ids.len()) > Self::MAX_IDS {
            return self.warn(Warning::NotKept { position, what: "HEADER_ATTR" });
        }
        let ids: Vec<u64> = ids
            .iter()
            .map(|id| match self.order {
                ByteOrder::Little => u64::from_le_bytes(*id),
                ByteOrder::Big => u64::from_be_bytes(*id),
            })
            .collect();
        let event = self.events.len() as u32;
        for id in &ids {
            self.by_id.entry(*id).or_insert(event);
        }
        self.push(attr, ids);
    }

    /// Learns from a record of a stream, which stands at `position`.
    pub(crate) fn learn(&mut self, record: &[u8], position: u64) {
        if Header::from_bytes(record, self.order).is_some_and(|header| header.type_ == RecordType::HEADER_ATTR) {
            return self.learn_attr(record, position);
        }
        let not_kept = |what: RecordType| Warning::NotKept { position, what: what.name().unwrap_or_default() };
        let user = match self.decoder.decode(record) {
            Ok(decoded) => match decoded.body {
                crate::record::Body::User(user) => user,
                _ => return,
            },
            Err(error) => return self.warn(Warning::Damaged { error }),
        };
        match user {
            User::EventUpdate(update) => {
                let user::Update::Name(name) = update.update else { return };
                let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
                let kept = self.kept.saturating_add(name.len());
                let Some(event) = self.by_id.get(&update.id).and_then(|event| self.events.get_mut(*event as usize))
                else {
                    return;
                };
                if kept > Self::MAX_FEATURE {
                    return self.warn(not_kept(RecordType::EVENT_UPDATE));
                }
                self.kept = kept;
                event.name = Some(name);
            }
            User::HeaderFeature(feature) => {
                let Ok(id) = u8::try_from(feature.feat_id) else { return };
                let data = feature.data.to_vec();
                if FeatureId(id) == FeatureId::ARCH {
                    self.learn_arch(&data);
                }
                if !self.keep(FeatureId(id), data) {
                    self.warn(not_kept(RecordType::HEADER_FEATURE));
                }
            }
            _ => {}
        }
    }

    /// Keeps a feature section of a stream, if that is not too much.
    fn keep(&mut self, feature: FeatureId, data: Vec<u8>) -> bool {
        let kept = self.kept.saturating_add(data.len());
        if kept > Self::MAX_FEATURE {
            return false;
        }
        self.kept = kept;
        self.features.insert(feature, Place::Memory(data));
        true
    }

    /// Which form the recording has.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The byte order of the machine that recorded.
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// The header of a file; a stream and a ring image have none.
    pub fn header(&self) -> Option<&FileHeader> {
        self.header.as_ref()
    }

    /// The events, by number.
    pub fn events(&self) -> &[RecordedEvent] {
        &self.events
    }

    /// Decodes the records; the events have the same numbers there.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The features whose sections are there, in ascending order.
    pub fn features(&self) -> impl Iterator<Item = FeatureId> + '_ {
        self.features.keys().copied()
    }

    /// A feature section as it stands in the recording; none if it is not there.
    ///
    /// # Errors
    ///
    /// Those of reading the file.
    pub fn feature_bytes(&self, feature: FeatureId) -> io::Result<Option<Vec<u8>>> {
        match (self.features.get(&feature), &self.source) {
            (Some(Place::Memory(bytes)), _) => Ok(Some(bytes.clone())),
            (Some(Place::File(section)), Some(source)) => {
                let mut bytes = vec![0; usize::try_from(section.size).unwrap_or(0)];
                match read_full_at(&**source, &mut bytes, section.offset)? {
                    read if read == bytes.len() => Ok(Some(bytes)),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            _ => Ok(None),
        }
    }

    /// What is wrong with the recording, so far as it was read, and kept nobody from reading on.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("form", &self.form)
            .field("order", &self.order)
            .field("events", &self.events)
            .field("features", &self.features.keys())
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// The bytes of a section that is known to be inside the file, and not large.
fn read_section(source: &dyn ReadAt, section: Section) -> Result<Vec<u8>, OpenError> {
    let io = |source| OpenError::Io { what: format!("read {} bytes at {}", section.size, section.offset), source };
    let mut bytes = vec![0; usize::try_from(section.size).unwrap_or(0)];
    match read_full_at(source, &mut bytes, section.offset).map_err(io)? {
        read if read == bytes.len() => Ok(bytes),
        // The file was truncated meanwhile.
        _ => Err(io(io::ErrorKind::UnexpectedEof.into())),
    }
}
