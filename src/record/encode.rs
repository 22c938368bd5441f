//! From records to bytes.

use crate::record::bytes::{Field, Writer};
use crate::record::{
    Attr, Body, ByteOrder, EncodeError, Header, LayoutError, MappedFile, Misc, RecordType, SampleFields, SampleId,
    SampleLayout, SampleType, Tid, user,
};

/// Writes records as an event with some attribute would: the opposite of a [`Decoder`](crate::record::Decoder).
///
/// ```
/// use perfring::record::{Attr, ByteOrder, Encoder, Misc, SampleFields, SampleType};
/// let attr = Attr { sample_type: SampleType::IP | SampleType::CPU, ..Attr::default() };
/// let encoder = Encoder::new(&attr, ByteOrder::Little)?;
/// let mut record = Vec::new();
/// let fields = SampleFields { ip: Some(0x1000), cpu: Some(3), ..Default::default() };
/// encoder.sample(Misc::empty(), &fields, &mut record)?;
/// assert_eq!(record, [9, 0, 0, 0, 0, 0, 24, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    layout: SampleLayout,
}

impl Body<'_> {
    /// The type of the record; none if it is unknown.
    pub fn type_(&self) -> Option<RecordType> {
        Some(match self {
            Self::Mmap(_) => RecordType::MMAP,
            Self::Lost(_) => RecordType::LOST,
            Self::Comm(_) => RecordType::COMM,
            Self::Exit(_) => RecordType::EXIT,
            Self::Throttle(_) => RecordType::THROTTLE,
            Self::Unthrottle(_) => RecordType::UNTHROTTLE,
            Self::Fork(_) => RecordType::FORK,
            Self::Read(_) => RecordType::READ,
            Self::Sample(_) => RecordType::SAMPLE,
            Self::Mmap2(_) => RecordType::MMAP2,
            Self::Aux(_) => RecordType::AUX,
            Self::ItraceStart(_) => RecordType::ITRACE_START,
            Self::LostSamples(_) => RecordType::LOST_SAMPLES,
            Self::Switch(_) => RecordType::SWITCH,
            Self::SwitchCpuWide(_) => RecordType::SWITCH_CPU_WIDE,
            Self::Namespaces(_) => RecordType::NAMESPACES,
            Self::Ksymbol(_) => RecordType::KSYMBOL,
            Self::BpfEvent(_) => RecordType::BPF_EVENT,
            Self::Cgroup(_) => RecordType::CGROUP,
            Self::TextPoke(_) => RecordType::TEXT_POKE,
            Self::AuxOutputHwId(_) => RecordType::AUX_OUTPUT_HW_ID,
            Self::CallchainDeferred(_) => RecordType::CALLCHAIN_DEFERRED,
            Self::User(user) => user.type_(),
            Self::Unknown(_) => return None,
        })
    }
}

impl Encoder {
    /// Writes what an event with this attribute would write on a machine with this byte order.
    ///
    /// # Errors
    ///
    /// [`LayoutError`]
    pub fn new(attr: &Attr, order: ByteOrder) -> Result<Self, LayoutError> {
        SampleLayout::new(attr, order).map(|layout| Self { layout })
    }

    /// The layout of what it writes.
    pub fn layout(&self) -> &SampleLayout {
        &self.layout
    }

    /// Writes a sample behind what `out` holds, and gives its header.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; `out` is as it was then.
    pub fn sample(&self, misc: Misc, fields: &SampleFields<'_>, out: &mut Vec<u8>) -> Result<Header, EncodeError> {
        self.write(RecordType::SAMPLE, misc, out, |to| fields.put(to, &self.layout))
    }

    /// Writes a record behind what `out` holds, and gives its header. `id` becomes the trailer, with a value for exactly the
    /// fields that the attribute has; of a sample it is ignored, since the sample holds its own. The bit
    /// [`Misc::MMAP_BUILD_ID`] is that of the body. The records of `perf` have no trailer, and `id` is ignored, too.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], also for [`Body::Unknown`], whose type is not known: `out` is as it was then.
    pub fn encode(&self, misc: Misc, body: &Body<'_>, id: &SampleId, out: &mut Vec<u8>) -> Result<Header, EncodeError> {
        let type_ = body.type_().ok_or(EncodeError::Missing { field: "type" })?;
        let mut misc = misc;
        if let Body::Mmap2(mmap) = body {
            misc.set(Misc::MMAP_BUILD_ID, matches!(mmap.file, MappedFile::BuildId(_)));
        }
        self.write(type_, misc, out, |to| {
            let format = self.layout.read_format;
            match body {
                Body::Sample(sample) => return sample.fields().put(to, &self.layout),
                Body::Read(read) => read.put(to, format),
                Body::Mmap(body) => body.put(to, "mmap"),
                Body::Lost(body) => body.put(to, "lost"),
                Body::Comm(body) => body.put(to, "comm"),
                Body::Exit(body) | Body::Fork(body) => body.put(to, "task"),
                Body::Throttle(body) | Body::Unthrottle(body) => body.put(to, "throttle"),
                Body::Mmap2(body) => body.put(to, "mmap2"),
                Body::Aux(body) => body.put(to, "aux"),
                Body::ItraceStart(body) => body.put(to, "itrace_start"),
                Body::LostSamples(body) => body.put(to, "lost_samples"),
                Body::Switch(body) => body.put(to, "switch"),
                Body::SwitchCpuWide(body) => body.put(to, "switch_cpu_wide"),
                Body::Namespaces(body) => body.put(to, "namespaces"),
                Body::Ksymbol(body) => body.put(to, "ksymbol"),
                Body::BpfEvent(body) => body.put(to, "bpf_event"),
                Body::Cgroup(body) => body.put(to, "cgroup"),
                Body::TextPoke(body) => body.put(to, "text_poke"),
                Body::AuxOutputHwId(body) => body.put(to, "aux_output_hw_id"),
                Body::CallchainDeferred(body) => body.put(to, "callchain_deferred"),
                Body::User(user) => user::put_user(user, misc, to),
                Body::Unknown(_) => Err(EncodeError::Missing { field: "type" }),
            }?;
            if type_.is_kernel() { id.put(to, &self.layout) } else { Ok(()) }
        })
    }

    fn write(
        &self,
        type_: RecordType,
        misc: Misc,
        out: &mut Vec<u8>,
        put: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<Header, EncodeError> {
        let order = self.layout.order;
        let mut to = Writer::new(out, order);
        to.bytes(&Header { type_, misc, size: 0 }.to_bytes(order));
        let written = put(&mut to).and_then(|()| match u16::try_from(to.len()) {
            Ok(size) => Ok(size),
            Err(_) => Err(EncodeError::TooLarge { size: to.len() }),
        });
        match written {
            Ok(size) => {
                to.set_u16(6, size);
                Ok(Header { type_, misc, size })
            }
            Err(error) => {
                to.undo();
                Err(error)
            }
        }
    }
}

impl SampleId {
    fn put(&self, to: &mut Writer<'_>, layout: &SampleLayout) -> Result<(), EncodeError> {
        let has = |field| layout.trailer_len != 0 && layout.sample_type.contains(field);
        for (bit, is_there, field) in [
            (SampleType::TID, self.tid.is_some(), "tid"),
            (SampleType::TIME, self.time.is_some(), "time"),
            (SampleType::ID, self.id.is_some(), "id"),
            (SampleType::STREAM_ID, self.stream_id.is_some(), "stream_id"),
            (SampleType::CPU, self.cpu.is_some(), "cpu"),
            (SampleType::IDENTIFIER, self.identifier.is_some(), "identifier"),
        ] {
            match (has(bit), is_there) {
                (true, false) => return Err(EncodeError::Missing { field }),
                (false, true) => return Err(EncodeError::NotInLayout { field }),
                _ => {}
            }
        }
        if let Some(Tid { pid, tid }) = self.tid {
            to.int(pid);
            to.int(tid);
        }
        [self.time, self.id, self.stream_id].into_iter().flatten().for_each(|word| to.int(word));
        if let Some(cpu) = self.cpu {
            to.int(cpu);
            to.int(0_u32);
        }
        self.identifier.into_iter().for_each(|word| to.int(word));
        Ok(())
    }
}
