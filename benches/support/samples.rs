//! Records to decode, of several layouts, made by the encoder.

use perfring::record::{
    Attr, AttrFlags, Body, ByteOrder, Callchain, CallchainContext, Comm, Encoder, MappedFile, Misc, Mmap2, ReadFormat,
    ReadValues, Regs, RegsAbi, SampleFields, SampleId, SampleType, StackUser, Tid, Words,
};

/// Records of one event, one after the other.
pub struct Stream {
    pub name: &'static str,
    pub attr: Attr,
    /// Words, as the records of a ring are aligned to 8.
    pub words: Vec<u64>,
    pub records: usize,
}

impl Stream {
    pub fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}

pub const SMALL: u64 = SampleType::IP.union(SampleType::TID).union(SampleType::TIME).union(SampleType::CPU).bits();
pub const TYPICAL: u64 = SMALL | SampleType::PERIOD.union(SampleType::CALLCHAIN).bits();
pub const TRACEPOINT: u64 = SMALL | SampleType::IDENTIFIER.union(SampleType::PERIOD).union(SampleType::RAW).bits();
pub const STACK: u64 = TYPICAL | SampleType::REGS_USER.union(SampleType::STACK_USER).bits();
pub const GROUP: u64 = SMALL | SampleType::PERIOD.union(SampleType::READ).bits();
/// The trailers of records that are no samples.
pub const SIDE: u64 = SampleType::TID.union(SampleType::TIME).union(SampleType::CPU).bits();

const CALLCHAIN: usize = 16;
/// The general registers of x86-64 as `perf` records them, but for three.
const REGS: u64 = 0x1_ffff;
/// Those that an unwinder starts from: bp, sp, ip.
pub const REGS_READ: [u32; 3] = [6, 7, 8];
const STACK_BYTES: usize = 1024;
const COUNTERS: u64 = 3;

/// Values that repeat no pattern a predictor or a checksum could take advantage of.
struct Values(u64);

impl Values {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 17
    }
}

fn attr(sample_type: u64) -> Attr {
    Attr {
        sample_type: SampleType::from_bits_retain(sample_type),
        read_format: if sample_type & SampleType::READ.bits() == 0 {
            ReadFormat::empty()
        } else {
            ReadFormat::GROUP | ReadFormat::ID | ReadFormat::TOTAL_TIME_ENABLED | ReadFormat::TOTAL_TIME_RUNNING
        },
        flags: AttrFlags::SAMPLE_ID_ALL,
        sample_regs_user: if sample_type & SampleType::REGS_USER.bits() == 0 { 0 } else { REGS },
        sample_stack_user: STACK_BYTES as u32,
        ..Attr::default()
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let (words, rest) = bytes.as_chunks::<8>();
    assert!(rest.is_empty(), "records are multiples of 8");
    words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}

/// `records` samples of one layout.
pub fn samples(name: &'static str, sample_type: u64, records: usize) -> Stream {
    let attr = attr(sample_type);
    let encoder = Encoder::new(&attr, ByteOrder::NATIVE).expect("a layout");
    let mut values = Values(sample_type);
    let mut out = Vec::new();
    for _ in 0..records {
        let mut chain: Vec<u64> = (0..CALLCHAIN).map(|_| values.next()).collect();
        (chain[0], chain[4]) = (CallchainContext::KERNEL.0, CallchainContext::USER.0);
        let raw: Vec<u8> = (0..48).map(|_| values.next() as u8).collect();
        let regs: Vec<u64> = (0..REGS.count_ones()).map(|_| values.next()).collect();
        let stack: Vec<u8> = (0..STACK_BYTES).map(|_| values.next() as u8).collect();
        let group: Vec<u64> = [COUNTERS].into_iter().chain((0..2 + 2 * COUNTERS).map(|_| values.next())).collect();
        let mut next = |field: SampleType| (sample_type & field.bits() != 0).then(|| values.next());
        let fields = SampleFields {
            identifier: next(SampleType::IDENTIFIER),
            ip: next(SampleType::IP),
            tid: next(SampleType::TID).map(|value| Tid { pid: value as u32 >> 8, tid: value as u32 }),
            time: next(SampleType::TIME),
            cpu: next(SampleType::CPU).map(|value| value as u32 % 64),
            period: next(SampleType::PERIOD),
            read: next(SampleType::READ).and_then(|_| ReadValues::new(attr.read_format, Words::from(&group[..]))),
            callchain: next(SampleType::CALLCHAIN).map(|_| Callchain::from(&chain[..])),
            raw: next(SampleType::RAW).map(|_| &raw[..]),
            regs_user: next(SampleType::REGS_USER)
                .and_then(|_| Regs::new(RegsAbi::Abi64, REGS, Words::from(&regs[..]))),
            stack_user: next(SampleType::STACK_USER).map(|_| StackUser { data: &stack, dyn_size: STACK_BYTES as u64 }),
            ..SampleFields::default()
        };
        encoder.sample(Misc::from_bits_retain(2), &fields, &mut out).expect("a sample");
    }
    Stream { name, attr, words: words(&out), records }
}

/// The records that describe tasks: three of four `MMAP2`, one `COMM`.
pub fn side(name: &'static str, records: usize) -> Stream {
    let attr = attr(SIDE);
    let encoder = Encoder::new(&attr, ByteOrder::NATIVE).expect("a layout");
    let mut values = Values(1);
    let mut out = Vec::new();
    for record in 0..records {
        let (pid, tid) = (values.next() as u32, values.next() as u32);
        let path = format!("/usr/lib/x86_64-linux-gnu/lib{}.so.{}", values.next() % 100_000, record % 10);
        let body = if record % 4 == 3 {
            Body::Comm(Comm { pid, tid, comm: path[25..].into() })
        } else {
            Body::Mmap2(Mmap2 {
                pid,
                tid,
                addr: values.next(),
                len: values.next(),
                pgoff: values.next(),
                file: MappedFile::Inode {
                    maj: values.next() as u32,
                    min: values.next() as u32,
                    ino: values.next(),
                    ino_generation: values.next(),
                },
                prot: 5,
                flags: 2,
                filename: path.as_str().into(),
            })
        };
        let id = SampleId {
            tid: Some(Tid { pid, tid }),
            time: Some(values.next()),
            cpu: Some(values.next() as u32 % 64),
            ..SampleId::default()
        };
        encoder.encode(Misc::empty(), &body, &id, &mut out).expect("a record");
    }
    Stream { name, attr, words: words(&out), records }
}

/// All streams, `records` of each, with the fields to read.
pub fn all(records: usize) -> Vec<Stream> {
    vec![
        samples("small", SMALL, records),
        samples("typical", TYPICAL, records),
        samples("tracepoint", TRACEPOINT, records),
        samples("regs+stack", STACK, records),
        samples("group read", GROUP, records),
        side("mmap2/comm", records),
    ]
}

/// What the contenders add up, each field turned by another number of bits, so that fields cannot stand for each other.
#[derive(Default)]
pub struct Sum(pub u64);

impl Sum {
    #[inline(always)]
    pub fn add(&mut self, field: u32, value: u64) {
        self.0 = self.0.wrapping_add(value.rotate_left(field));
    }

    /// A run of bytes: its length and both ends, since to read all of it costs everybody the same.
    #[inline(always)]
    pub fn add_bytes(&mut self, field: u32, bytes: &[u8]) {
        self.add(field, bytes.len() as u64);
        if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            self.add(field, u64::from_ne_bytes(*first));
            self.add(field + 1, u64::from_ne_bytes(*last));
        }
    }

    #[inline(always)]
    pub fn add_counter(&mut self, value: u64, id: Option<u64>) {
        self.add(50, value);
        self.add(51, id.unwrap_or(0));
    }
}
