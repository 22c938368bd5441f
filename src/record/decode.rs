//! From bytes to records.

use crate::record::bytes::{Cursor, Field, int_at};
use crate::record::{
    Arch, Attr, Aux, AuxOutputHwId, BpfEvent, ByteOrder, CallchainDeferred, Cgroup, Comm, DecodeError, Defect,
    DefectKind, Header, ItraceStart, Ksymbol, LayoutError, Lost, LostSamples, Misc, Mmap, Mmap2, Namespaces, Read,
    ReadFormat, RecordType, Sample, SampleLayout, SampleType, Switch, SwitchCpuWide, Task, TextPoke, Throttle, Tid,
    User, user,
};
use std::collections::BTreeMap;
use std::fmt;
use thiserror::Error;

/// A record, decoded: it borrows from the record's bytes and from the [`Decoder`].
#[derive(Clone, Copy)]
pub struct Decoded<'a> {
    /// The header.
    pub header: Header,
    /// What follows it.
    pub body: Body<'a>,
    /// The trailer, and its layout. For a sample: empty.
    trailer: Trailer<'a>,
    decoder: &'a Decoder,
    record: &'a [u8],
    rest: &'a [u8],
}

#[derive(Clone, Copy)]
struct Trailer<'a> {
    bytes: &'a [u8],
    layout: Option<&'a SampleLayout>,
}

impl Trailer<'_> {
    const NONE: Self = Self { bytes: &[], layout: None };

    fn sample_id(self) -> SampleId {
        match self.layout {
            Some(layout) => layout.trailer.sample_id(self.bytes, layout.order),
            None => SampleId::default(),
        }
    }
}

/// What follows the header of a record that is no sample.
struct Other<'a> {
    body: Body<'a>,
    trailer: Trailer<'a>,
    rest: &'a [u8],
}

/// What a record says, by its type.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Body<'a> {
    /// An executable mapping.
    Mmap(Mmap<'a>),
    /// Records that found no space.
    Lost(Lost),
    /// A task's name.
    Comm(Comm<'a>),
    /// The end of a task.
    Exit(Task),
    /// Samples are held back.
    Throttle(Throttle),
    /// Samples come again.
    Unthrottle(Throttle),
    /// A new task.
    Fork(Task),
    /// The counters of a task that ended.
    Read(Read<'a>),
    /// A sample.
    Sample(Sample<'a>),
    /// An executable mapping, with device and inode, or build id.
    Mmap2(Mmap2<'a>),
    /// New data in the AUX area.
    Aux(Aux),
    /// A hardware trace begins.
    ItraceStart(ItraceStart),
    /// Samples that the hardware lost.
    LostSamples(LostSamples),
    /// A context switch of the observed task.
    Switch(Switch),
    /// A context switch on the observed CPU.
    SwitchCpuWide(SwitchCpuWide),
    /// The namespaces of a task.
    Namespaces(Namespaces<'a>),
    /// A symbol of the kernel came or went.
    Ksymbol(Ksymbol<'a>),
    /// A BPF program came or went.
    BpfEvent(BpfEvent),
    /// A new cgroup.
    Cgroup(Cgroup<'a>),
    /// The kernel changed its own code.
    TextPoke(TextPoke<'a>),
    /// What the hardware calls an event whose data are in the AUX area.
    AuxOutputHwId(AuxOutputHwId),
    /// The user part of call chains.
    CallchainDeferred(CallchainDeferred<'a>),
    /// What `perf` adds in its files.
    User(User<'a>),
    /// A type that is not known: everything behind the header.
    Unknown(&'a [u8]),
}

/// What the trailer of a record says of it, and of a sample the fields of the same names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SampleId {
    /// The process and the thread.
    pub tid: Option<Tid>,
    /// Nanoseconds by the event's clock.
    pub time: Option<u64>,
    /// The event's id, that of the parent if it was inherited.
    pub id: Option<u64>,
    /// The id of the very event.
    pub stream_id: Option<u64>,
    /// The CPU.
    pub cpu: Option<u32>,
    /// The event's id.
    pub identifier: Option<u64>,
}

impl<'a> Decoded<'a> {
    /// Who, when, and where: the trailer that `sample_id_all` adds, or the sample's own fields.
    #[inline]
    pub fn sample_id(&self) -> SampleId {
        if let Body::Sample(sample) = &self.body {
            return sample.sample_id();
        }
        self.trailer.sample_id()
    }

    /// When, in nanoseconds by the event's clock. Where there is no trailer `FORK`, `EXIT`, `THROTTLE` and `UNTHROTTLE`
    /// still say it.
    #[inline]
    pub fn time(&self) -> Option<u64> {
        if let Body::Sample(sample) = &self.body {
            return sample.time();
        }
        // The kernel looks at the clock once for the trailer and once for the field: by the trailer the order is right.
        let time = self.trailer.layout.and_then(|layout| layout.trailer.time.word(self.trailer.bytes, layout.order));
        time.or(match &self.body {
            Body::Fork(task) | Body::Exit(task) => Some(task.time),
            Body::Throttle(throttle) | Body::Unthrottle(throttle) => Some(throttle.time),
            _ => None,
        })
    }

    /// Which event wrote it, by the number that [`Decoder::push`] gave. Of a decoder with one event: that one. None if the
    /// record does not say it, as those of `perf` itself.
    pub fn event(&self) -> Option<usize> {
        self.decoder.event_of(self.header, self.record)
    }

    /// The architecture of the machine that wrote the record, if the decoder [knows](Decoder::arch) it.
    pub fn arch(&self) -> Option<Arch> {
        self.decoder.arch
    }

    /// Bytes between the last field that is known and the trailer: fields of a newer kernel, or of a newer `perf`. Empty
    /// otherwise.
    pub fn rest(&self) -> &'a [u8] {
        match &self.body {
            Body::Sample(sample) => sample.rest(),
            _ => self.rest,
        }
    }
}

impl fmt::Debug for Decoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoded")
            .field("header", &self.header)
            .field("sample_id", &self.sample_id())
            .field("body", &self.body)
            .field("rest", &self.rest())
            .finish()
    }
}

/// Decodes the records of one event, or of several in one stream.
///
/// What its events' attributes say of the records is worked out once; decoding a record borrows from it, and allocates
/// nothing.
///
/// ```
/// use perfring::record::{Attr, AttrFlags, Body, ByteOrder, Decoder, Encoder, Lost, Misc, SampleId, SampleType};
///
/// let attr =
///     Attr { sample_type: SampleType::TIME, flags: AttrFlags::SAMPLE_ID_ALL, ..Attr::default() };
/// let mut record = Vec::new();
/// let id = SampleId { time: Some(5), ..SampleId::default() };
/// let lost = Body::Lost(Lost { id: 1, lost: 70 });
/// Encoder::new(&attr, ByteOrder::NATIVE)?.encode(Misc::empty(), &lost, &id, &mut record)?;
///
/// let decoder = Decoder::new(&attr)?;
/// let decoded = decoder.decode(&record)?;
/// assert_eq!(decoded.body, lost);
/// assert_eq!(decoded.time(), Some(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    order: ByteOrder,
    arch: Option<Arch>,
    layouts: Vec<SampleLayout>,
    /// The event of each id.
    ids: BTreeMap<u64, u32>,
    /// Whether the layout of a record is known without its id.
    is_uniform: bool,
    /// Whether that of a trailer is.
    is_trailer_uniform: bool,
    /// Whether that of what `READ` holds is.
    is_read_uniform: bool,
}

/// Why an event cannot be decoded beside the others.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecoderError {
    /// The attribute itself.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The records could not be told apart.
    #[error(
        "event {event} has other records than the first, and no id at the same place: all need the sample_type IDENTIFIER"
    )]
    Ambiguous {
        /// The number that the event would have had.
        event: usize,
    },
    /// Two events with one id.
    #[error("events {first} and {second} both have the id {id}")]
    DuplicateId {
        /// The id.
        id: u64,
        /// The event that had it before.
        first: usize,
        /// The number that the other event would have had.
        second: usize,
    },
}

impl Decoder {
    /// Decodes the records of one event, written by this machine.
    ///
    /// # Errors
    ///
    /// [`LayoutError`]
    pub fn new(attr: &Attr) -> Result<Self, LayoutError> {
        let layout = SampleLayout::new(attr, ByteOrder::NATIVE)?;
        Ok(Self { arch: Arch::NATIVE, layouts: vec![layout], ..Self::empty(ByteOrder::NATIVE) })
    }

    /// Knows no event yet: [`push`](Self::push) adds them.
    pub fn empty(order: ByteOrder) -> Self {
        Self {
            order,
            arch: None,
            layouts: Vec::new(),
            ids: BTreeMap::new(),
            is_uniform: true,
            is_trailer_uniform: true,
            is_read_uniform: true,
        }
    }

    /// Adds an event with its ids, and gives its number. The ids are those of `Event::id` of the module `kernel`, or of
    /// the recording: one for each CPU or task that the event was opened on.
    ///
    /// # Errors
    ///
    /// [`DecoderError`]; nothing was added then.
    pub fn push(&mut self, attr: &Attr, ids: &[u64]) -> Result<usize, DecoderError> {
        let layout = SampleLayout::new(attr, self.order)?;
        let event = self.layouts.len();
        let (mut is_uniform, mut is_trailer_uniform) = (self.is_uniform, self.is_trailer_uniform);
        let mut is_read_uniform = self.is_read_uniform;
        if let Some(first) = self.layouts.first() {
            is_trailer_uniform &= (first.trailer, first.trailer_len) == (layout.trailer, layout.trailer_len);
            is_read_uniform &= first.read_format == layout.read_format;
            is_uniform &= *first == layout;
            let same_sample_id = layout.id_in_sample().is_some() && first.id_in_sample() == layout.id_in_sample();
            let same_trailer_id = layout.id_before_end().is_some() && first.id_before_end() == layout.id_before_end();
            let is_told_apart = same_sample_id && (is_trailer_uniform && is_read_uniform || same_trailer_id);
            if !is_uniform && !is_told_apart {
                return Err(DecoderError::Ambiguous { event });
            }
        }
        let number = u32::try_from(event).map_err(|_| DecoderError::Ambiguous { event })?;
        if let Some((id, first)) = ids.iter().find_map(|id| Some((*id, self.by_id(*id)?))) {
            return Err(DecoderError::DuplicateId { id, first, second: event });
        }
        self.ids.extend(ids.iter().map(|&id| (id, number)));
        (self.is_uniform, self.is_trailer_uniform, self.is_read_uniform) =
            (is_uniform, is_trailer_uniform, is_read_uniform);
        self.layouts.push(layout);
        Ok(event)
    }

    /// Adds an event that [`push`](Self::push) refuses, so that those behind it keep their numbers: its samples cannot be
    /// decoded, and from now on those of others only if they carry an id. So it is with other records, if this event's have
    /// another trailer.
    pub fn push_undecodable(&mut self, attr: &Attr) -> usize {
        let known = Attr {
            read_format: attr.read_format.intersection(ReadFormat::from_bits_retain(31)),
            sample_type: attr.sample_type.difference(SampleType::WEIGHT_STRUCT),
            ..*attr
        };
        if let Ok(layout) = SampleLayout::new(&known, self.order) {
            if let Some(first) = self.layouts.first() {
                self.is_trailer_uniform &= (first.trailer, first.trailer_len) == (layout.trailer, layout.trailer_len);
            }
            self.layouts.push(layout);
        }
        self.is_uniform = false;
        self.layouts.len().saturating_sub(1)
    }

    /// The byte order of the records.
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// The architecture of the machine that wrote the records, if it is known: this machine's for [`Decoder::new`].
    pub fn arch(&self) -> Option<Arch> {
        self.arch
    }

    /// Says on which architecture the records were written. Nothing that is decoded depends on it: it names registers.
    pub fn set_arch(&mut self, arch: Option<Arch>) {
        self.arch = arch;
    }

    /// The layout of an event's records, by the event's number.
    pub fn layout(&self, event: usize) -> Option<&SampleLayout> {
        self.layouts.get(event)
    }

    fn by_id(&self, id: u64) -> Option<usize> {
        self.ids.get(&id).map(|event| *event as usize)
    }

    /// The id that a record carries.
    fn id_of(&self, header: Header, record: &[u8]) -> Option<(usize, u64)> {
        let first = self.layouts.first()?;
        let at = match header.type_ {
            RecordType::SAMPLE => Header::SIZE + first.id_in_sample()?,
            type_ if type_.is_kernel() => {
                record.len().checked_sub(first.id_before_end()?).filter(|at| *at >= Header::SIZE)?
            }
            _ => return None,
        };
        Some((at, int_at(record, at, self.order)?))
    }

    fn event_of(&self, header: Header, record: &[u8]) -> Option<usize> {
        match self.layouts.len() {
            1 if header.type_.is_kernel() => Some(0),
            _ => self.id_of(header, record).and_then(|(_, id)| self.by_id(id)),
        }
    }

    /// The layout of a sample.
    #[inline]
    fn layout_of_sample(&self, header: Header, record: &[u8]) -> Result<&SampleLayout, DecodeError> {
        match self.layouts.first() {
            Some(first) if self.is_uniform => Ok(first),
            _ => self.layout_by_id(header, record),
        }
    }

    fn layout_by_id(&self, header: Header, record: &[u8]) -> Result<&SampleLayout, DecodeError> {
        let (offset, kind) = match self.id_of(header, record) {
            Some((offset, id)) => match self.by_id(id).and_then(|event| self.layouts.get(event)) {
                Some(layout) => return Ok(layout),
                None => (offset, DefectKind::UnknownId { id }),
            },
            None => (Header::SIZE, DefectKind::NoId),
        };
        Err(DecodeError { type_: header.type_, offset, field: "identifier", kind })
    }

    /// Decodes a record: its bytes from the header's first to its last.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] where the record is damaged: shorter than its fields, or of an event that is not known. A type that is
    /// not known is no error.
    // Inlined, so that of a sample only the fields that the caller reads are ever built: passed through memory, what is
    // written in halfwords and read back in vectors costs more than all the rest.
    #[inline(always)]
    pub fn decode<'a>(&'a self, record: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        let (header, bytes) = Header::split(record, self.order)?;
        let (body, trailer, rest) = if header.type_ == RecordType::SAMPLE {
            let layout = self.layout_of_sample(header, record)?;
            match Sample::new(layout, bytes) {
                Ok(sample) => (Body::Sample(sample), Trailer::NONE, &[][..]),
                Err(defect) => return Err(Self::locate(header, defect)),
            }
        } else {
            let Other { body, trailer, rest } = self.decode_other(header, record, bytes)?;
            (body, trailer, rest)
        };
        Ok(Decoded { header, body, trailer, decoder: self, record, rest })
    }

    #[cold]
    fn locate(header: Header, defect: Defect) -> DecodeError {
        let Defect { offset, field, kind } = defect;
        DecodeError { type_: header.type_, offset: Header::SIZE + offset, field, kind }
    }

    /// A record's time, without decoding the rest of it: what a merge orders by.
    #[inline]
    pub fn time(&self, record: &[u8]) -> Option<u64> {
        let (header, body) = Header::split(record, self.order).ok()?;
        self.sampled_time(record).or_else(|| match header.type_ {
            RecordType::FORK | RecordType::EXIT => int_at(body, 16, self.order),
            RecordType::THROTTLE | RecordType::UNTHROTTLE => int_at(body, 0, self.order),
            _ => None,
        })
    }

    /// A record's time as its event was asked for it, in a sample or in a trailer: where that is missing, records cannot be
    /// put in order, even if some types have a time of their own.
    #[inline]
    pub(crate) fn sampled_time(&self, record: &[u8]) -> Option<u64> {
        let (header, body) = Header::split(record, self.order).ok()?;
        if header.type_ == RecordType::SAMPLE {
            return self.layout_of_sample(header, record).ok()?.sample.time.word(body, self.order);
        }
        if !header.type_.is_kernel() {
            return None;
        }
        let layout = self.layout_of_trailer(header, record).ok()??;
        let start = body.len().checked_sub(layout.trailer_len)?;
        layout.trailer.time.word(body.get(start..)?, self.order)
    }

    fn layout_of_trailer(&self, header: Header, record: &[u8]) -> Result<Option<&SampleLayout>, DecodeError> {
        let is_read = header.type_ == RecordType::READ;
        if self.is_trailer_uniform && (self.is_read_uniform || !is_read) {
            return Ok(self.layouts.first());
        }
        match self.layout_by_id(header, record) {
            // The kernel gives no event this id. `perf` fills the trailers of the records that it makes up for what was there
            // before with zeros, and makes them as long as those of its first event.
            Err(DecodeError { kind: DefectKind::UnknownId { id: 0 }, .. }) if !is_read => Ok(self.layouts.first()),
            layout => layout.map(Some),
        }
    }

    fn decode_other<'a>(&'a self, header: Header, record: &'a [u8], body: &'a [u8]) -> Result<Other<'a>, DecodeError> {
        let mut layout = None;
        if header.type_.is_kernel() {
            layout = match self.layout_of_trailer(header, record) {
                Ok(layout) => layout,
                // Where the id of a type that is not known stands, if there is one, is not known either.
                Err(_) if !header.type_.is_known() => None,
                Err(error) => return Err(error),
            };
        }
        let decoded = |body, trailer, rest| Other { body, trailer, rest };
        let trailer_len = layout.map_or(0, |layout| layout.trailer_len);
        let Some((fields, trailer)) = body.len().checked_sub(trailer_len).and_then(|at| body.split_at_checked(at))
        else {
            if !header.type_.is_known() {
                return Ok(decoded(Body::Unknown(body), Trailer::NONE, &[]));
            }
            return Err(Self::locate(header, Defect::truncated(0, "sample_id", trailer_len as u64, body.len())));
        };
        let trailer = Trailer { bytes: trailer, layout };
        let mut from = Cursor::new(fields, self.order);
        let format = layout.map_or_else(Default::default, |layout| layout.read_format);
        match Body::get(header, &mut from, format) {
            Ok(Body::Unknown(_)) => Ok(decoded(Body::Unknown(body), trailer, &[])),
            Ok(body) => Ok(decoded(body, trailer, from.rest())),
            Err(defect) => Err(Self::locate(header, defect)),
        }
    }
}

impl RecordType {
    fn is_known(self) -> bool {
        self.name().is_some()
    }
}

impl<'a> Body<'a> {
    fn get(header: Header, from: &mut Cursor<'a>, format: crate::record::ReadFormat) -> Result<Self, Defect> {
        fn field<'a, T: Field<'a>>(from: &mut Cursor<'a>) -> Result<T, Defect> {
            T::get(from, "body")
        }
        Ok(match header.type_ {
            RecordType::MMAP => Self::Mmap(field(from)?),
            RecordType::LOST => Self::Lost(field(from)?),
            RecordType::COMM => Self::Comm(field(from)?),
            RecordType::EXIT => Self::Exit(field(from)?),
            RecordType::THROTTLE => Self::Throttle(field(from)?),
            RecordType::UNTHROTTLE => Self::Unthrottle(field(from)?),
            RecordType::FORK => Self::Fork(field(from)?),
            RecordType::READ => Self::Read(Read::get(from, format)?),
            RecordType::MMAP2 if header.misc.contains(Misc::MMAP_BUILD_ID) => Self::Mmap2(Mmap2::by_build_id(from)?),
            RecordType::MMAP2 => Self::Mmap2(field(from)?),
            RecordType::AUX => Self::Aux(field(from)?),
            RecordType::ITRACE_START => Self::ItraceStart(field(from)?),
            RecordType::LOST_SAMPLES => Self::LostSamples(field(from)?),
            RecordType::SWITCH => Self::Switch(field(from)?),
            RecordType::SWITCH_CPU_WIDE => Self::SwitchCpuWide(field(from)?),
            RecordType::NAMESPACES => Self::Namespaces(field(from)?),
            RecordType::KSYMBOL => Self::Ksymbol(field(from)?),
            RecordType::BPF_EVENT => Self::BpfEvent(field(from)?),
            RecordType::CGROUP => Self::Cgroup(field(from)?),
            RecordType::TEXT_POKE => Self::TextPoke(field(from)?),
            RecordType::AUX_OUTPUT_HW_ID => Self::AuxOutputHwId(field(from)?),
            RecordType::CALLCHAIN_DEFERRED => Self::CallchainDeferred(field(from)?),
            _ => match user::get_user(header.type_, header.misc, from) {
                Some(user) => Self::User(user?),
                None => Self::Unknown(from.rest()),
            },
        })
    }
}
