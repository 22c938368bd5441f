//! The decoders that are compared. Each reads the same fields of the same records and adds them up.

use std::borrow::Cow;

use linux_perf_event_reader::{
    Endianness, EventRecord, Mmap2FileId, PerfEventAttr, RawData, RawEventRecord, RecordParseInfo, RecordType,
};
use perf_event::data::endian::Native;
use perf_event::data::parse::{ParseConfig, Parser};
use perf_event::data::{self, RecordMetadata, Visitor};
use perfring::record::{Attr, Body, ByteOrder, Decoder, MappedFile, SampleType};

use crate::samples::{REGS_READ, Sum};

/// A decoder set up for the records of one event.
pub trait Contender: Sized {
    const NAME: &'static str;

    fn new(attr: &Attr) -> Self;

    /// Adds up the fields of `FIELDS` of all records in `records`; an error says what could not be decoded.
    fn sum<const FIELDS: u64>(&self, records: &[u8]) -> Result<u64, String>;
}

const fn has(fields: u64, field: SampleType) -> bool {
    fields & field.bits() != 0
}

/// Cuts `bytes` into records by the sizes in their headers.
#[inline(always)]
fn walk<'a>(bytes: &'a [u8], mut each: impl FnMut(&'a [u8]) -> Result<(), String>) -> Result<(), String> {
    let mut rest = bytes;
    while let Some(header) = rest.first_chunk::<8>() {
        let size = usize::from(u16::from_ne_bytes([header[6], header[7]]));
        let (record, behind) = rest.split_at_checked(size.max(8)).ok_or("a record that is cut off")?;
        each(record)?;
        rest = behind;
    }
    Ok(())
}

/// The floor: looks at each header, and at nothing else.
pub struct Headers;

impl Contender for Headers {
    const NAME: &'static str = "header walk";

    fn new(_: &Attr) -> Self {
        Self
    }

    fn sum<const FIELDS: u64>(&self, records: &[u8]) -> Result<u64, String> {
        let mut total = 0;
        walk(records, |record| {
            total += record.len() as u64;
            Ok(())
        })?;
        Ok(total)
    }
}

/// This crate.
pub struct Ours(Decoder);

impl Contender for Ours {
    const NAME: &'static str = "perfring";

    fn new(attr: &Attr) -> Self {
        Self(Decoder::new(attr).expect("a layout"))
    }

    fn sum<const FIELDS: u64>(&self, records: &[u8]) -> Result<u64, String> {
        let mut sum = Sum::default();
        walk(records, |record| {
            let decoded = self.0.decode(record).map_err(|error| error.to_string())?;
            match decoded.body {
                Body::Sample(sample) => {
                    if const { has(FIELDS, SampleType::IDENTIFIER) } {
                        sum.add(0, sample.identifier().unwrap_or(0));
                    }
                    if const { has(FIELDS, SampleType::IP) } {
                        sum.add(1, sample.ip().unwrap_or(0));
                    }
                    if const { has(FIELDS, SampleType::TID) } {
                        let tid = sample.tid().unwrap_or_default();
                        sum.add(2, tid.pid.into());
                        sum.add(3, tid.tid.into());
                    }
                    if const { has(FIELDS, SampleType::TIME) } {
                        sum.add(4, sample.time().unwrap_or(0));
                    }
                    if const { has(FIELDS, SampleType::CPU) } {
                        sum.add(5, sample.cpu().unwrap_or(0).into());
                    }
                    if const { has(FIELDS, SampleType::PERIOD) } {
                        sum.add(6, sample.period().unwrap_or(0));
                    }
                    if const { has(FIELDS, SampleType::READ) }
                        && let Some(read) = sample.read()
                    {
                        sum.add(7, read.time_enabled().unwrap_or(0));
                        sum.add(8, read.time_running().unwrap_or(0));
                        read.iter().for_each(|counter| sum.add_counter(counter.value, counter.id));
                    }
                    if const { has(FIELDS, SampleType::CALLCHAIN) }
                        && let Some(chain) = sample.callchain()
                    {
                        sum.add(9, chain.words().iter().fold(0, u64::wrapping_add));
                    }
                    if const { has(FIELDS, SampleType::RAW) } {
                        sum.add_bytes(10, sample.raw().unwrap_or_default());
                    }
                    if const { has(FIELDS, SampleType::REGS_USER) }
                        && let Some(regs) = sample.regs_user()
                    {
                        REGS_READ.iter().for_each(|&reg| sum.add(12, regs.get(reg).unwrap_or(0)));
                    }
                    if const { has(FIELDS, SampleType::STACK_USER) }
                        && let Some(stack) = sample.stack_user()
                    {
                        sum.add_bytes(13, stack.data);
                        sum.add(15, stack.dyn_size);
                    }
                    return Ok(());
                }
                Body::Comm(comm) => {
                    sum.add(20, comm.pid.into());
                    sum.add(21, comm.tid.into());
                    sum.add_bytes(22, comm.comm.as_bytes());
                }
                Body::Mmap2(mmap) => {
                    sum.add(20, mmap.pid.into());
                    sum.add(21, mmap.tid.into());
                    sum.add(24, mmap.addr);
                    sum.add(25, mmap.len);
                    sum.add(26, mmap.pgoff);
                    let MappedFile::Inode { maj, min, ino, ino_generation } = mmap.file else {
                        return Err("a build id".into());
                    };
                    sum.add(27, maj.into());
                    sum.add(28, min.into());
                    sum.add(29, ino);
                    sum.add(30, ino_generation);
                    sum.add(31, mmap.prot.into());
                    sum.add(32, mmap.flags.into());
                    sum.add_bytes(22, mmap.filename.as_bytes());
                }
                other => return Err(format!("{other:?}")),
            }
            let id = decoded.sample_id();
            let tid = id.tid.unwrap_or_default();
            sum.add(2, tid.pid.into());
            sum.add(3, tid.tid.into());
            sum.add(4, id.time.unwrap_or(0));
            sum.add(5, id.cpu.unwrap_or(0).into());
            Ok(())
        })?;
        Ok(sum.0)
    }
}

/// linux-perf-event-reader, which linux-perf-data and samply use.
pub struct Reader(RecordParseInfo);

impl Contender for Reader {
    const NAME: &'static str = "linux-perf-event-reader";

    fn new(attr: &Attr) -> Self {
        let bytes = attr.to_bytes(ByteOrder::NATIVE);
        let (attr, _) = PerfEventAttr::parse::<_, byteorder::NativeEndian>(&bytes[..]).expect("an attr");
        let endian = if cfg!(target_endian = "little") { Endianness::LittleEndian } else { Endianness::BigEndian };
        Self(RecordParseInfo::new(&attr, endian))
    }

    fn sum<const FIELDS: u64>(&self, records: &[u8]) -> Result<u64, String> {
        let mut sum = Sum::default();
        walk(records, |record| {
            let type_ = RecordType(u32::from_ne_bytes([record[0], record[1], record[2], record[3]]));
            let misc = u16::from_ne_bytes([record[4], record[5]]);
            let raw = RawEventRecord::new(type_, misc, RawData::Single(&record[8..]), self.0);
            match raw.parse().map_err(|error| error.to_string())? {
                EventRecord::Sample(sample) => {
                    if const { has(FIELDS, SampleType::IDENTIFIER) } {
                        sum.add(0, sample.id.unwrap_or(0));
                    }
                    if const { has(FIELDS, SampleType::IP) } {
                        sum.add(1, sample.ip.unwrap_or(0));
                    }
                    if const { has(FIELDS, SampleType::TID) } {
                        sum.add(2, (sample.pid.unwrap_or(0) as u32).into());
                        sum.add(3, (sample.tid.unwrap_or(0) as u32).into());
                    }
                    if const { has(FIELDS, SampleType::TIME) } {
                        sum.add(4, sample.timestamp.unwrap_or(0));
                    }
                    if const { has(FIELDS, SampleType::CPU) } {
                        sum.add(5, sample.cpu.unwrap_or(0).into());
                    }
                    if const { has(FIELDS, SampleType::PERIOD) } {
                        sum.add(6, sample.period.unwrap_or(0));
                    }
                    if const { has(FIELDS, SampleType::READ) } {
                        return Err("it skips the counters, and gives none of them".into());
                    }
                    if const { has(FIELDS, SampleType::CALLCHAIN) }
                        && let Some(chain) = &sample.callchain
                    {
                        let words = (0..chain.len()).map(|at| chain.get(at).unwrap_or(0));
                        sum.add(9, words.fold(0, u64::wrapping_add));
                    }
                    if const { has(FIELDS, SampleType::RAW) } {
                        sum.add_bytes(10, slice(sample.raw.unwrap_or(RawData::empty()))?);
                    }
                    if const { has(FIELDS, SampleType::REGS_USER) }
                        && let Some(regs) = &sample.user_regs
                    {
                        REGS_READ.iter().for_each(|&reg| sum.add(12, regs.get(reg.into()).unwrap_or(0)));
                    }
                    if const { has(FIELDS, SampleType::STACK_USER) }
                        && let Some((stack, dyn_size)) = sample.user_stack
                    {
                        sum.add_bytes(13, slice(stack)?);
                        sum.add(15, dyn_size);
                    }
                    return Ok(());
                }
                EventRecord::Comm(comm) => {
                    sum.add(20, (comm.pid as u32).into());
                    sum.add(21, (comm.tid as u32).into());
                    sum.add_bytes(22, slice(comm.name)?);
                }
                EventRecord::Mmap2(mmap) => {
                    sum.add(20, (mmap.pid as u32).into());
                    sum.add(21, (mmap.tid as u32).into());
                    sum.add(24, mmap.address);
                    sum.add(25, mmap.length);
                    sum.add(26, mmap.page_offset);
                    let Mmap2FileId::InodeAndVersion(file) = &mmap.file_id else { return Err("a build id".into()) };
                    sum.add(27, file.major.into());
                    sum.add(28, file.minor.into());
                    sum.add(29, file.inode);
                    sum.add(30, file.inode_generation);
                    sum.add(31, mmap.protection.into());
                    sum.add(32, mmap.flags.into());
                    sum.add_bytes(22, slice(mmap.path)?);
                }
                other => return Err(format!("{other:?}")),
            }
            let id = raw.common_data().map_err(|error| error.to_string())?;
            sum.add(2, (id.pid.unwrap_or(0) as u32).into());
            sum.add(3, (id.tid.unwrap_or(0) as u32).into());
            sum.add(4, id.timestamp.unwrap_or(0));
            sum.add(5, id.cpu.unwrap_or(0).into());
            Ok(())
        })?;
        Ok(sum.0)
    }
}

#[inline(always)]
fn slice(data: RawData<'_>) -> Result<&[u8], String> {
    match data.as_slice() {
        Cow::Borrowed(bytes) => Ok(bytes),
        Cow::Owned(_) => Err("data in two parts".into()),
    }
}

/// perf-event-data, which is perf-event2's decoder.
pub struct PerfEventData(ParseConfig<Native>);

impl Contender for PerfEventData {
    const NAME: &'static str = "perf-event-data";

    fn new(attr: &Attr) -> Self {
        let mut own = perf_event::Builder::new(perf_event::events::Software::DUMMY).attrs().to_owned();
        own.sample_type = attr.sample_type.bits();
        own.read_format = attr.read_format.bits();
        own.sample_regs_user = attr.sample_regs_user;
        own.set_sample_id_all(1);
        Self(own.into())
    }

    fn sum<const FIELDS: u64>(&self, records: &[u8]) -> Result<u64, String> {
        let mut sum = Sum::default();
        walk(records, |record| {
            let mut parser = Parser::new(record, self.0.clone());
            parser.parse_record(Adder::<FIELDS>(&mut sum)).map_err(|error| error.to_string())?
        })?;
        Ok(sum.0)
    }
}

struct Adder<'s, const FIELDS: u64>(&'s mut Sum);

impl<const FIELDS: u64> Adder<'_, FIELDS> {
    #[inline(always)]
    fn add_id(self, metadata: &RecordMetadata) -> Result<(), String> {
        let id = metadata.sample_id();
        self.0.add(2, id.pid().unwrap_or(0).into());
        self.0.add(3, id.tid().unwrap_or(0).into());
        self.0.add(4, id.time().unwrap_or(0));
        self.0.add(5, id.cpu().unwrap_or(0).into());
        Ok(())
    }
}

impl<'a, const FIELDS: u64> Visitor<'a> for Adder<'_, FIELDS> {
    type Output = Result<(), String>;

    fn visit_unimplemented(self, metadata: RecordMetadata) -> Self::Output {
        Err(format!("a record of type {}", metadata.ty()))
    }

    #[inline(always)]
    fn visit_sample(self, sample: data::Sample<'a>, _: RecordMetadata) -> Self::Output {
        let Self(sum) = self;
        if const { has(FIELDS, SampleType::IDENTIFIER) } {
            sum.add(0, sample.id().unwrap_or(0));
        }
        if const { has(FIELDS, SampleType::IP) } {
            sum.add(1, sample.ip().unwrap_or(0));
        }
        if const { has(FIELDS, SampleType::TID) } {
            sum.add(2, sample.pid().unwrap_or(0).into());
            sum.add(3, sample.tid().unwrap_or(0).into());
        }
        if const { has(FIELDS, SampleType::TIME) } {
            sum.add(4, sample.time().unwrap_or(0));
        }
        if const { has(FIELDS, SampleType::CPU) } {
            sum.add(5, sample.cpu().unwrap_or(0).into());
        }
        if const { has(FIELDS, SampleType::PERIOD) } {
            sum.add(6, sample.period().unwrap_or(0));
        }
        if const { has(FIELDS, SampleType::READ) }
            && let Some(read) = sample.values()
        {
            sum.add(7, read.time_enabled().unwrap_or(0));
            sum.add(8, read.time_running().unwrap_or(0));
            read.entries().for_each(|counter| sum.add_counter(counter.value(), counter.id()));
        }
        if const { has(FIELDS, SampleType::CALLCHAIN) }
            && let Some(chain) = sample.callchain()
        {
            sum.add(9, chain.iter().copied().fold(0, u64::wrapping_add));
        }
        if const { has(FIELDS, SampleType::RAW) } {
            sum.add_bytes(10, sample.raw().unwrap_or_default());
        }
        if const { has(FIELDS, SampleType::REGS_USER) }
            && let Some(regs) = sample.regs_user()
        {
            for reg in REGS_READ {
                let index = (regs.mask & ((1 << reg) - 1)).count_ones();
                sum.add(12, regs.regs.get(index as usize).copied().unwrap_or(0));
            }
        }
        if const { has(FIELDS, SampleType::STACK_USER) }
            && let Some(stack) = sample.stack_user()
        {
            sum.add_bytes(13, stack);
            // It cuts the stack to dyn_size.
            sum.add(15, stack.len() as u64);
        }
        Ok(())
    }

    #[inline(always)]
    fn visit_comm(self, comm: data::Comm<'a>, metadata: RecordMetadata) -> Self::Output {
        self.0.add(20, comm.pid.into());
        self.0.add(21, comm.tid.into());
        self.0.add_bytes(22, &comm.comm);
        self.add_id(&metadata)
    }

    #[inline(always)]
    fn visit_mmap2(self, mmap: data::Mmap2<'a>, metadata: RecordMetadata) -> Self::Output {
        self.0.add(20, mmap.pid.into());
        self.0.add(21, mmap.tid.into());
        self.0.add(24, mmap.addr);
        self.0.add(25, mmap.len);
        self.0.add(26, mmap.pgoff);
        self.0.add(27, mmap.maj().unwrap_or(0).into());
        self.0.add(28, mmap.min().unwrap_or(0).into());
        self.0.add(29, mmap.ino().unwrap_or(0));
        self.0.add(30, mmap.ino_generation().unwrap_or(0));
        self.0.add(31, mmap.prot.into());
        self.0.add(32, mmap.flags.into());
        self.0.add_bytes(22, &mmap.filename);
        self.add_id(&metadata)
    }
}
