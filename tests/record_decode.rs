//! Records whose bytes are put together by hand, field by field as the uapi says, so that encoder and decoder cannot agree on
//! a mistake: all types and fields, in both byte orders, whole, cut off at every byte, and with counts that cannot be.

#![allow(unsafe_code, reason = "the bytes of the bindings' perf_event_attr")]

use perf_event_open_sys::bindings as sys;
use perfring::record::*;

const ORDERS: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];

/// The body of a record, while it is put together.
struct Bytes {
    order: ByteOrder,
    out: Vec<u8>,
}

impl Bytes {
    fn new(order: ByteOrder) -> Self {
        Self { order, out: Vec::new() }
    }

    fn put(&mut self, little: &[u8]) -> &mut Self {
        match self.order {
            ByteOrder::Little => self.out.extend(little),
            ByteOrder::Big => self.out.extend(little.iter().rev()),
        }
        self
    }

    fn u8s(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend(bytes);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u64s(&mut self, values: &[u64]) -> &mut Self {
        for &value in values {
            self.u64(value);
        }
        self
    }

    /// All six fields of a trailer.
    fn trailer(&mut self) -> &mut Self {
        self.u32(7).u32(8).u64s(&[1_000_000, 70, 71]).u32(3).u32(0).u64(70)
    }

    fn record(&self, type_: RecordType, misc: u16) -> Vec<u8> {
        let size = u16::try_from(8 + self.out.len()).unwrap();
        let mut record = Self::new(self.order);
        record.u32(type_.0).u16(misc).u16(size).u8s(&self.out);
        record.out
    }

    fn sample(&self) -> Vec<u8> {
        self.record(RecordType::SAMPLE, 0)
    }
}

const TRAILER: SampleId = SampleId {
    tid: Some(Tid { pid: 7, tid: 8 }),
    time: Some(1_000_000),
    id: Some(70),
    stream_id: Some(71),
    cpu: Some(3),
    identifier: Some(70),
};

fn with_trailer() -> Attr {
    use SampleType as S;
    Attr {
        sample_type: S::TID | S::TIME | S::ID | S::STREAM_ID | S::CPU | S::IDENTIFIER,
        flags: AttrFlags::SAMPLE_ID_ALL,
        ..Attr::default()
    }
}

fn sampled(sample_type: SampleType) -> Attr {
    Attr { sample_type, ..Attr::default() }
}

fn decoder(attr: &Attr, order: ByteOrder) -> Decoder {
    let mut decoder = Decoder::empty(order);
    decoder.push(attr, &[]).unwrap();
    decoder
}

fn sample<'a>(decoder: &'a Decoder, record: &'a [u8]) -> Sample<'a> {
    match decoder.decode(record).unwrap().body {
        Body::Sample(sample) => sample,
        other => panic!("{other:?}"),
    }
}

/// The record's first `len` bytes, with a header that says so.
fn cut(record: &[u8], len: usize, order: ByteOrder) -> Vec<u8> {
    let mut record = record[..len].to_vec();
    if let Some(size) = record.get_mut(6..8) {
        size.copy_from_slice(Bytes::new(order).u16(len as u16).out.as_slice());
    }
    record
}

/// Cuts the record off at every byte: an error that says where and why, or what `is_whole` accepts.
fn cut_everywhere(decoder: &Decoder, record: &[u8], is_whole: impl Fn(&Body<'_>) -> bool) {
    let type_ = Header::from_bytes(record, decoder.order()).unwrap().type_;
    for len in 0..record.len() {
        let error = decoder.decode(&record[..len]).unwrap_err();
        match len {
            0..8 => assert_eq!(error.kind, DefectKind::Truncated { needed: 8, left: len }),
            _ => assert_eq!(error.kind, DefectKind::Size { size: record.len() as u16, len }),
        }
        let shorter = cut(record, len, decoder.order());
        let _ = decoder.time(&shorter);
        match decoder.decode(&shorter) {
            Ok(decoded) => assert!(is_whole(&decoded.body), "{len} of {} bytes: {decoded:?}", record.len()),
            Err(_) if len < 8 => {}
            Err(error) => {
                assert_eq!(error.type_, type_);
                assert!((8..=len).contains(&error.offset), "{len}: {error}");
                assert!(!error.field.is_empty());
                match error.kind {
                    DefectKind::Truncated { needed, left } => {
                        assert!(needed > left as u64 && error.offset + left <= len, "{len}: {error}");
                    }
                    DefectKind::NoNul { left } => assert!(error.offset + left <= len, "{len}: {error}"),
                    // What was shifted into the place of a field by the cut.
                    DefectKind::Value { .. } => {}
                    other => panic!("{len}: {other:?}"),
                }
            }
        }
    }
}

/// Decodes what `put` writes: alone, with a trailer, with fields of a newer kernel in between, and cut off.
fn check(type_: RecordType, misc: u16, expected: Body<'_>, put: impl Fn(&mut Bytes)) {
    let own_time = match expected {
        Body::Fork(task) | Body::Exit(task) => Some(task.time),
        Body::Throttle(throttle) | Body::Unthrottle(throttle) => Some(throttle.time),
        _ => None,
    };
    for order in ORDERS {
        for (attr, id) in [(Attr::default(), SampleId::default()), (with_trailer(), TRAILER)] {
            let decoder = decoder(&attr, order);
            let has_trailer = id == TRAILER;
            let mut bytes = Bytes::new(order);
            put(&mut bytes);
            for rest in [&[][..], &[0x5a; 16][..]] {
                let mut bytes = Bytes { order, out: [&bytes.out, rest].concat() };
                if has_trailer {
                    bytes.trailer();
                }
                let record = bytes.record(type_, misc);
                let decoded = decoder.decode(&record).unwrap_or_else(|error| panic!("{order:?}: {error}"));
                assert_eq!(decoded.body, expected, "{order:?}");
                assert_eq!(
                    decoded.header,
                    Header { type_, misc: Misc::from_bits_retain(misc), size: record.len() as u16 }
                );
                assert_eq!(decoded.sample_id(), id, "{order:?}");
                assert_eq!(decoded.time(), id.time.or(own_time), "{order:?}");
                assert_eq!(decoder.time(&record), decoded.time(), "{order:?}");
                assert_eq!(decoded.event(), Some(0));
                assert_eq!(decoded.rest(), rest, "{order:?}");
                assert_eq!(expected.type_(), Some(type_));
                if rest.is_empty() {
                    // Without a trailer only the padding can be cut off; with one, the cut moves it into the fields.
                    cut_everywhere(&decoder, &record, |body| has_trailer || *body == expected);
                }
            }
        }
    }
}

#[test]
fn mmap() {
    let expected = Mmap { pid: 1, tid: 2, addr: 0x4000, len: 0x1000, pgoff: 0x2000, filename: "/bin/true".into() };
    check(RecordType::MMAP, 2, Body::Mmap(expected), |to| {
        to.u32(1).u32(2).u64s(&[0x4000, 0x1000, 0x2000]).u8s(b"/bin/true\0\0\0\0\0\0\0");
    });
}

#[test]
fn mmap_filename_stops_before_the_trailer() {
    // Eight bytes with the NUL: nothing pads, and a trailer without zeros follows.
    let attr = Attr { sample_type: SampleType::TIME, flags: AttrFlags::SAMPLE_ID_ALL, ..Attr::default() };
    for order in ORDERS {
        let mut bytes = Bytes::new(order);
        bytes.u32(1).u32(2).u64s(&[3, 4, 5]).u8s(b"//anon!\0").u64(0x4141_4141_4141_4141);
        let (decoder, record) = (decoder(&attr, order), bytes.record(RecordType::MMAP, 0));
        let decoded = decoder.decode(&record).unwrap();
        let Body::Mmap(mmap) = decoded.body else { panic!("{decoded:?}") };
        assert_eq!((mmap.filename.as_bytes(), decoded.time()), (&b"//anon!"[..], Some(0x4141_4141_4141_4141)));
        // Without its NUL the name does not go on in the trailer.
        let mut bytes = Bytes::new(order);
        bytes.u32(1).u32(2).u64s(&[3, 4, 5]).u8s(b"//anon!!").u64(0);
        let error = decoder.decode(&bytes.record(RecordType::MMAP, 0)).map(|_| ()).unwrap_err();
        assert_eq!((error.field, error.kind), ("filename", DefectKind::NoNul { left: 8 }));
        assert_eq!(error.to_string(), "MMAP record, byte 40, filename: no NUL in the 8 bytes that are left");
    }
}

#[test]
fn lost() {
    check(RecordType::LOST, 0, Body::Lost(Lost { id: 70, lost: 33_786 }), |to| {
        to.u64s(&[70, 33_786]);
    });
}

#[test]
fn comm() {
    check(RecordType::COMM, 0x2000, Body::Comm(Comm { pid: 1, tid: 2, comm: "kworker/0:1-ev".into() }), |to| {
        to.u32(1).u32(2).u8s(b"kworker/0:1-ev\0\0");
    });
}

#[test]
fn exit() {
    let task = Task { pid: 1, ppid: 2, tid: 3, ptid: 4, time: 5 };
    check(RecordType::EXIT, 0, Body::Exit(task), |to| {
        to.u32(1).u32(2).u32(3).u32(4).u64(5);
    });
}

#[test]
fn throttle() {
    check(RecordType::THROTTLE, 0, Body::Throttle(Throttle { time: 1, id: 2, stream_id: 3 }), |to| {
        to.u64s(&[1, 2, 3]);
    });
}

#[test]
fn unthrottle() {
    check(RecordType::UNTHROTTLE, 0, Body::Unthrottle(Throttle { time: 1, id: 2, stream_id: 3 }), |to| {
        to.u64s(&[1, 2, 3]);
    });
}

#[test]
fn fork() {
    let task = Task { pid: 1, ppid: 2, tid: 3, ptid: 4, time: 5 };
    check(RecordType::FORK, 0, Body::Fork(task), |to| {
        to.u32(1).u32(2).u32(3).u32(4).u64(5);
    });
}

#[test]
fn read() {
    let values = ReadValues::new(ReadFormat::empty(), Words::from(&[9])).unwrap();
    check(RecordType::READ, 0, Body::Read(Read { pid: 1, tid: 2, values }), |to| {
        to.u32(1).u32(2).u64(9);
    });
}

#[test]
fn mmap2() {
    let expected = Mmap2 {
        pid: 1,
        tid: 2,
        addr: 0x4000,
        len: 0x1000,
        pgoff: 0x2000,
        file: MappedFile::Inode { maj: 8, min: 1, ino: 1234, ino_generation: 99 },
        prot: 5,
        flags: 2,
        filename: "/lib/x.so".into(),
    };
    check(RecordType::MMAP2, 2, Body::Mmap2(expected), |to| {
        to.u32(1).u32(2).u64s(&[0x4000, 0x1000, 0x2000]).u32(8).u32(1).u64s(&[1234, 99]).u32(5).u32(2);
        to.u8s(b"/lib/x.so\0\0\0\0\0\0\0");
    });
}

const BUILD_ID: [u8; 20] = *b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14";

#[test]
fn mmap2_with_build_id() {
    for size in [0, 8, 16, 20] {
        let expected = Mmap2 {
            pid: 1,
            tid: 2,
            addr: 0x4000,
            len: 0x1000,
            pgoff: 0x2000,
            file: MappedFile::BuildId(BuildId::new(&BUILD_ID[..size]).unwrap()),
            prot: 5,
            flags: 2,
            filename: "/lib/x.so".into(),
        };
        check(RecordType::MMAP2, 0x4002, Body::Mmap2(expected), |to| {
            to.u32(1).u32(2).u64s(&[0x4000, 0x1000, 0x2000]).u8s(&[size as u8, 0, 0, 0]);
            to.u8s(&BUILD_ID).u32(5).u32(2).u8s(b"/lib/x.so\0\0\0\0\0\0\0");
        });
    }
}

#[test]
fn build_id_longer_than_20_is_an_error() {
    for order in ORDERS {
        for size in [21, 128, 255] {
            let mut bytes = Bytes::new(order);
            bytes.u32(1).u32(2).u64s(&[3, 4, 5]).u8s(&[size, 0, 0, 0]).u8s(&BUILD_ID).u32(5).u32(2).u8s(b"/lib/x\0\0");
            let decoder = decoder(&Attr::default(), order);
            let error = decoder.decode(&bytes.record(RecordType::MMAP2, 0x4000)).map(|_| ()).unwrap_err();
            let expected = DecodeError {
                type_: RecordType::MMAP2,
                offset: 40,
                field: "build_id_size",
                kind: DefectKind::Value { value: size.into() },
            };
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn aux() {
    let expected = Aux { aux_offset: 1 << 40, aux_size: 4096, flags: AuxFlags::TRUNCATED | AuxFlags::PARTIAL };
    check(RecordType::AUX, 0, Body::Aux(expected), |to| {
        to.u64s(&[1 << 40, 4096, 5]);
    });
}

#[test]
fn itrace_start() {
    check(RecordType::ITRACE_START, 0, Body::ItraceStart(ItraceStart { pid: 1, tid: 2 }), |to| {
        to.u32(1).u32(2);
    });
}

#[test]
fn lost_samples() {
    check(RecordType::LOST_SAMPLES, 0, Body::LostSamples(LostSamples { lost: 5 }), |to| {
        to.u64(5);
    });
}

#[test]
fn switch() {
    check(RecordType::SWITCH, 0x2000, Body::Switch(Switch {}), |_| {});
}

#[test]
fn switch_cpu_wide() {
    let expected = SwitchCpuWide { next_prev_pid: 1, next_prev_tid: 2 };
    check(RecordType::SWITCH_CPU_WIDE, 0x6000, Body::SwitchCpuWide(expected), |to| {
        to.u32(1).u32(2);
    });
}

#[test]
fn namespaces() {
    let expected = Namespaces { pid: 1, tid: 2, links: Words::from(&[4, 0xf000_0001, 5, 0xf000_0002, 6, 7]) };
    check(RecordType::NAMESPACES, 0, Body::Namespaces(expected), |to| {
        to.u32(1).u32(2).u64s(&[3, 4, 0xf000_0001, 5, 0xf000_0002, 6, 7]);
    });
    let all: Vec<_> = expected.iter().map(|namespace| (namespace.dev, namespace.inode)).collect();
    assert_eq!(all, [(4, 0xf000_0001), (5, 0xf000_0002), (6, 7)]);
}

#[test]
fn ksymbol() {
    let expected = Ksymbol {
        addr: 0xffff_ffff_c000_0000,
        len: 640,
        ksym_type: 1,
        flags: 1,
        name: "bpf_prog_6deef7357e7b4530".into(),
    };
    check(RecordType::KSYMBOL, 0, Body::Ksymbol(expected), |to| {
        to.u64(0xffff_ffff_c000_0000).u32(640).u16(1).u16(1).u8s(b"bpf_prog_6deef7357e7b4530\0\0\0\0\0\0\0");
    });
}

#[test]
fn bpf_event() {
    let expected = BpfEvent { type_: 2, flags: 3, id: 77, tag: *b"\x6d\xee\xf7\x35\x7e\x7b\x45\x30" };
    check(RecordType::BPF_EVENT, 0, Body::BpfEvent(expected), |to| {
        to.u16(2).u16(3).u32(77).u8s(b"\x6d\xee\xf7\x35\x7e\x7b\x45\x30");
    });
}

#[test]
fn cgroup() {
    check(RecordType::CGROUP, 0, Body::Cgroup(Cgroup { id: 42, path: "/user.slice".into() }), |to| {
        to.u64(42).u8s(b"/user.slice\0\0\0\0\0");
    });
}

#[test]
fn text_poke() {
    let expected = TextPoke { addr: 0xffff_ffff_8100_0000, old: &[0x90; 5], new: &[0xe8, 1, 2, 3, 4] };
    check(RecordType::TEXT_POKE, 1, Body::TextPoke(expected), |to| {
        to.u64(0xffff_ffff_8100_0000).u16(5).u16(5).u8s(&[0x90; 5]).u8s(&[0xe8, 1, 2, 3, 4]).u8s(&[0; 2]);
    });
    let fresh = TextPoke { addr: 1, old: &[], new: &[1, 2, 3, 4] };
    check(RecordType::TEXT_POKE, 1, Body::TextPoke(fresh), |to| {
        to.u64(1).u16(0).u16(4).u8s(&[1, 2, 3, 4]);
    });
}

#[test]
fn aux_output_hw_id() {
    check(RecordType::AUX_OUTPUT_HW_ID, 0, Body::AuxOutputHwId(AuxOutputHwId { hw_id: 9 }), |to| {
        to.u64(9);
    });
}

#[test]
fn callchain_deferred() {
    let expected = CallchainDeferred { cookie: 5, callchain: Callchain::from(&[0x401000, 0x402000][..]) };
    check(RecordType::CALLCHAIN_DEFERRED, 0, Body::CallchainDeferred(expected), |to| {
        to.u64s(&[5, 2, 0x401000, 0x402000]);
    });
}

#[test]
fn unknown_types_are_no_error() {
    for order in ORDERS {
        for type_ in [0, 23, 63, 87, 1000, u32::MAX].map(RecordType) {
            for body in [&[][..], &[1, 2, 3, 4, 5, 6, 7, 8], &[9; 80], &[9; 13]] {
                let record = Bytes { order, out: body.to_vec() }.record(type_, 5);
                for attr in [Attr::default(), with_trailer()] {
                    let decoder = decoder(&attr, order);
                    let decoded = decoder.decode(&record).unwrap();
                    assert_eq!(decoded.body, Body::Unknown(body));
                    assert_eq!(decoder.time(&record), decoded.time());
                }
            }
        }
    }
}

#[test]
fn unknown_types_are_no_error_where_ids_tell_the_events_apart() {
    for order in ORDERS {
        let decoder = two_events(order);
        for body in [&[][..], &[0xee; 8], &[0xee; 64]] {
            let record = Bytes { order, out: body.to_vec() }.record(RecordType(50), 0);
            let decoded = decoder.decode(&record).unwrap();
            assert_eq!(decoded.body, Body::Unknown(body));
            assert_eq!((decoded.sample_id(), decoded.event()), (SampleId::default(), None));
        }
    }
}

/// Two events whose samples and trailers differ, told apart by `IDENTIFIER`.
fn two_events(order: ByteOrder) -> Decoder {
    use SampleType as S;
    let flags = AttrFlags::SAMPLE_ID_ALL;
    let mut decoder = Decoder::empty(order);
    assert_eq!(decoder.push(&Attr { sample_type: S::IDENTIFIER | S::IP, flags, ..Attr::default() }, &[10, 11]), Ok(0));
    let other = Attr { sample_type: S::IDENTIFIER | S::TIME | S::ADDR, flags, ..Attr::default() };
    assert_eq!(decoder.push(&other, &[20]), Ok(1));
    decoder
}

#[test]
fn identifier_tells_events_apart() {
    for order in ORDERS {
        let decoder = two_events(order);
        let record = Bytes::new(order).u64s(&[11, 0x1000]).sample();
        assert_eq!((sample(&decoder, &record).ip(), sample(&decoder, &record).time()), (Some(0x1000), None));
        assert_eq!(decoder.decode(&record).unwrap().event(), Some(0));
        let record = Bytes::new(order).u64s(&[20, 5, 0x2000]).sample();
        let fields = sample(&decoder, &record).fields();
        assert_eq!((fields.identifier, fields.time, fields.addr, fields.ip), (Some(20), Some(5), Some(0x2000), None));
        assert_eq!(decoder.decode(&record).unwrap().event(), Some(1));
        assert_eq!(decoder.time(&record), Some(5));
        // In trailers it stands last.
        let record = Bytes::new(order).u64s(&[1, 2, 10]).record(RecordType::LOST, 0);
        let decoded = decoder.decode(&record).unwrap();
        assert_eq!((decoded.event(), decoded.time()), (Some(0), None));
        let record = Bytes::new(order).u64s(&[1, 2, 99, 20]).record(RecordType::LOST, 0);
        let decoded = decoder.decode(&record).unwrap();
        assert_eq!((decoded.event(), decoded.time(), decoder.time(&record)), (Some(1), Some(99), Some(99)));
    }
}

#[test]
fn ids_at_one_place_tell_events_apart() {
    use SampleType as S;
    let flags = AttrFlags::SAMPLE_ID_ALL;
    for order in ORDERS {
        let mut decoder = Decoder::empty(order);
        decoder.push(&Attr { sample_type: S::TID | S::ID | S::CPU, flags, ..Attr::default() }, &[1]).unwrap();
        let other = Attr { sample_type: S::TID | S::ID | S::CPU | S::PERIOD, flags, ..Attr::default() };
        decoder.push(&other, &[2]).unwrap();
        let record = Bytes::new(order).u32(5).u32(6).u64(2).u32(3).u32(0).u64(1000).sample();
        let fields = sample(&decoder, &record).fields();
        assert_eq!((fields.tid, fields.id, fields.period), (Some(Tid { pid: 5, tid: 6 }), Some(2), Some(1000)));
        let record = Bytes::new(order).u32(5).u32(6).u64(1).u32(3).u32(0).sample();
        assert_eq!(decoder.decode(&record).unwrap().event(), Some(0));
    }
}

#[test]
fn ids_that_tell_nothing_apart_are_refused() {
    use SampleType as S;
    for order in ORDERS {
        let mut decoder = Decoder::empty(order);
        decoder.push(&sampled(S::IP), &[1]).unwrap();
        assert_eq!(decoder.push(&sampled(S::IP), &[2]), Ok(1), "the same layout needs no id");
        let error = decoder.push(&sampled(S::IP | S::TIME), &[3]).unwrap_err();
        assert_eq!(error, DecoderError::Ambiguous { event: 2 });
        // Nothing was added.
        assert!(decoder.layout(2).is_none());
        let record = Bytes::new(order).u64(0x1000).sample();
        assert_eq!(sample(&decoder, &record).ip(), Some(0x1000));
        // Which branches there are does not change how they stand.
        let mut decoder = Decoder::empty(order);
        let of = |branch_sample_type| Attr { branch_sample_type, ..sampled(S::BRANCH_STACK) };
        decoder.push(&of(BranchSampleType::USER | BranchSampleType::ANY), &[1]).unwrap();
        assert_eq!(decoder.push(&of(BranchSampleType::USER | BranchSampleType::ANY_CALL), &[2]), Ok(1));
        let error = decoder.push(&of(BranchSampleType::USER | BranchSampleType::HW_INDEX), &[3]).unwrap_err();
        assert_eq!(error, DecoderError::Ambiguous { event: 2 });
        // An id at another place.
        let mut decoder = Decoder::empty(order);
        decoder.push(&sampled(S::IP | S::ID), &[1]).unwrap();
        assert_eq!(decoder.push(&sampled(S::TIME | S::IP | S::ID), &[2]), Err(DecoderError::Ambiguous { event: 1 }));
        // Samples that can be told apart, and trailers that cannot.
        let mut decoder = Decoder::empty(order);
        let flags = AttrFlags::SAMPLE_ID_ALL;
        decoder.push(&Attr { sample_type: S::IDENTIFIER, flags, ..Attr::default() }, &[1]).unwrap();
        assert_eq!(decoder.push(&sampled(S::IDENTIFIER), &[2]), Err(DecoderError::Ambiguous { event: 1 }));
    }
}

#[test]
fn duplicate_ids_are_refused() {
    for order in ORDERS {
        let mut decoder = two_events(order);
        let attr = Attr { flags: AttrFlags::SAMPLE_ID_ALL, ..sampled(SampleType::IDENTIFIER) };
        let error = decoder.push(&attr, &[30, 20]).unwrap_err();
        assert_eq!(error, DecoderError::DuplicateId { id: 20, first: 1, second: 2 });
        assert_eq!(decoder.push(&attr, &[30, 30]), Ok(2), "twice the same event's");
        // Between and before those that are there.
        assert_eq!(decoder.push(&attr, &[15, 5, 25]), Ok(3));
        for (id, event) in [(5, 3), (15, 3), (25, 3), (30, 2)] {
            let record = Bytes::new(order).u64(id).sample();
            assert_eq!(decoder.decode(&record).unwrap().event(), Some(event));
        }
    }
}

#[test]
fn unknown_and_missing_ids_are_errors() {
    for order in ORDERS {
        let decoder = two_events(order);
        let error = decoder.decode(&Bytes::new(order).u64s(&[12, 0x1000]).sample()).map(|_| ()).unwrap_err();
        assert_eq!((error.offset, error.kind), (8, DefectKind::UnknownId { id: 12 }));
        assert_eq!(error.to_string(), "SAMPLE record, byte 8, identifier: no event has the id 12");
        let error = decoder.decode(&Bytes::new(order).u64s(&[1, 2, 12]).record(RecordType::LOST, 0)).map(|_| ());
        let error = error.unwrap_err();
        assert_eq!((error.offset, error.kind), (24, DefectKind::UnknownId { id: 12 }));
        let error = decoder.decode(&Bytes::new(order).sample()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, DefectKind::NoId);
        let error = Decoder::empty(order).decode(&Bytes::new(order).u64(1).sample()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, DefectKind::NoId);
        // Without events there is nothing that could follow the fields.
        let record = Bytes::new(order).u64s(&[1, 2]).record(RecordType::LOST, 0);
        let empty = Decoder::empty(order);
        let decoded = empty.decode(&record).unwrap();
        assert_eq!((decoded.body, decoded.event()), (Body::Lost(Lost { id: 1, lost: 2 }), None));
    }
}

#[test]
fn read_records_of_events_with_other_read_formats() {
    use SampleType as S;
    for order in ORDERS {
        let mut decoder = Decoder::empty(order);
        let of =
            |read_format| Attr { read_format, flags: AttrFlags::SAMPLE_ID_ALL, ..sampled(S::IDENTIFIER | S::READ) };
        decoder.push(&of(ReadFormat::empty()), &[1]).unwrap();
        decoder.push(&of(ReadFormat::GROUP), &[2]).unwrap();
        for (words, values) in [(&[7, 1][..], &[7][..]), (&[2, 7, 8, 2], &[7, 8])] {
            let mut bytes = Bytes::new(order);
            let record = bytes.u32(5).u32(6).u64s(words).record(RecordType::READ, 0);
            let decoded = decoder.decode(&record).unwrap();
            let Body::Read(read) = decoded.body else { panic!("{decoded:?}") };
            assert!(read.values.iter().map(|counter| counter.value).eq(values.iter().copied()));
            assert!(decoded.rest().is_empty());
        }
    }
}

#[test]
fn records_that_perf_makes_up_belong_to_no_event() {
    use SampleType as S;
    let of = |sample_type, read_format| Attr { read_format, flags: AttrFlags::SAMPLE_ID_ALL, ..sampled(sample_type) };
    for order in ORDERS {
        // A group and an event beside it, whose trailers are the same though what they read is not.
        let mut uniform = Decoder::empty(order);
        uniform.push(&of(S::IDENTIFIER | S::TID | S::READ, ReadFormat::GROUP), &[1]).unwrap();
        uniform.push(&of(S::IDENTIFIER | S::TID, ReadFormat::ID), &[2]).unwrap();
        let mut other = Decoder::empty(order);
        other.push(&of(S::IDENTIFIER | S::TID, ReadFormat::empty()), &[1]).unwrap();
        other.push(&of(S::IDENTIFIER | S::TID | S::TIME, ReadFormat::empty()), &[2]).unwrap();
        for decoder in [uniform, other] {
            let record = Bytes::new(order).u32(7).u32(8).u8s(b"init\0\0\0\0").u64s(&[0, 0]).record(RecordType::COMM, 0);
            let decoded = decoder.decode(&record).unwrap();
            assert_eq!(decoded.body, Body::Comm(Comm { pid: 7, tid: 8, comm: "init".into() }));
            let (zeros, id) = (Tid { pid: 0, tid: 0 }, decoded.sample_id());
            assert_eq!((id.tid, id.identifier, id.time), (Some(zeros), Some(0), None));
            assert_eq!((decoded.event(), decoded.time(), decoded.rest()), (None, None, &[][..]));
            assert_eq!(decoder.time(&record), None);
        }
    }
}

#[test]
fn an_id_does_not_lie_in_the_header() {
    for order in ORDERS {
        let decoder = two_events(order);
        for len in 0..8 {
            let record = Bytes { order, out: vec![0; len] }.record(RecordType::LOST, 0);
            assert_eq!(decoder.decode(&record).map(|_| ()).unwrap_err().kind, DefectKind::NoId);
            let record = Bytes { order, out: vec![0; len] }.sample();
            assert_eq!(decoder.decode(&record).map(|_| ()).unwrap_err().kind, DefectKind::NoId);
        }
    }
}

/// Every combination of the read format's bits, of one counter or of three in a group.
fn put_read(to: &mut Bytes, format: u64, counters: &[u64]) {
    let given = |bit: u64, word: u64| (format & bit != 0).then_some(word);
    let times: Vec<u64> = [given(1, 1000), given(2, 500)].into_iter().flatten().collect();
    let group = format & 8 != 0;
    if group {
        to.u64(counters.len() as u64).u64s(&times);
    }
    for &value in counters {
        to.u64(value);
        if !group {
            to.u64s(&times);
        }
        let more: Vec<u64> = [given(4, value + 1), given(16, value + 2)].into_iter().flatten().collect();
        to.u64s(&more);
    }
}

fn assert_read(read: ReadValues<'_>, format: u64, counters: &[u64]) {
    assert_eq!(read.format().bits(), format);
    assert_eq!(read.time_enabled(), (format & 1 != 0).then_some(1000), "{format:#x}");
    assert_eq!(read.time_running(), (format & 2 != 0).then_some(500), "{format:#x}");
    assert_eq!((read.len(), read.is_empty()), (counters.len(), counters.is_empty()), "{format:#x}");
    let expected = counters.iter().map(|&value| CounterValue {
        value,
        id: (format & 4 != 0).then_some(value + 1),
        lost: (format & 16 != 0).then_some(value + 2),
    });
    assert!(read.iter().eq(expected), "{format:#x}: {read:?}");
}

#[test]
fn all_read_formats_in_samples_and_read_records() {
    for order in ORDERS {
        for format in 0..32 {
            let all = [100, 200, 300];
            let counts: &[usize] = if format & 8 != 0 { &[0, 1, 3] } else { &[1] };
            for &count in counts {
                let counters = &all[..count];
                let attr = Attr {
                    read_format: ReadFormat::from_bits_retain(format),
                    flags: AttrFlags::SAMPLE_ID_ALL,
                    ..sampled(SampleType::READ | SampleType::TIME | SampleType::RAW)
                };
                let decoder = decoder(&attr, order);
                let mut bytes = Bytes::new(order);
                bytes.u64(55);
                put_read(&mut bytes, format, counters);
                bytes.u32(4).u8s(b"rawd");
                let record = bytes.sample();
                let found = sample(&decoder, &record);
                assert_read(found.read().unwrap(), format, counters);
                assert_eq!((found.raw(), found.rest()), (Some(&b"rawd"[..]), &[][..]));
                cut_everywhere(&decoder, &record, |_| false);

                let mut bytes = Bytes::new(order);
                bytes.u32(1).u32(2);
                put_read(&mut bytes, format, counters);
                let record = bytes.u64(55).record(RecordType::READ, 0);
                let decoded = decoder.decode(&record).unwrap();
                let Body::Read(read) = decoded.body else { panic!("{decoded:?}") };
                assert_read(read.values, format, counters);
                assert_eq!((read.pid, read.tid, decoded.time(), decoded.rest()), (1, 2, Some(55), &[][..]));
                cut_everywhere(&decoder, &record, |_| true);
            }
        }
    }
}

#[test]
fn group_read_is_not_inverted() {
    for order in ORDERS {
        for (format, words, values) in [
            (ReadFormat::GROUP, &[2, 7, 8][..], &[7, 8][..]),
            (ReadFormat::empty(), &[7], &[7]),
            (ReadFormat::GROUP | ReadFormat::TOTAL_TIME_ENABLED, &[1, 1000, 7], &[7]),
            (ReadFormat::TOTAL_TIME_ENABLED, &[7, 1000], &[7]),
        ] {
            let attr = Attr { read_format: format, ..sampled(SampleType::READ) };
            let (decoder, record) = (decoder(&attr, order), Bytes::new(order).u64s(words).sample());
            let read = sample(&decoder, &record).read().unwrap();
            assert!(read.iter().map(|counter| counter.value).eq(values.iter().copied()), "{format:?}: {read:?}");
        }
    }
}

#[test]
fn lost_of_a_counter_follows_its_id() {
    for order in ORDERS {
        let format = ReadFormat::ID | ReadFormat::LOST;
        let attr = Attr { read_format: format, ..sampled(SampleType::READ | SampleType::CALLCHAIN) };
        let (decoder, record) = (decoder(&attr, order), Bytes::new(order).u64s(&[7, 8, 9, 1, 0x1000]).sample());
        let found = sample(&decoder, &record);
        let counter = found.read().unwrap().get_counter(0).unwrap();
        assert_eq!(counter, CounterValue { value: 7, id: Some(8), lost: Some(9) });
        assert_eq!(found.callchain(), Some(Callchain::from(&[0x1000][..])));
    }
}

const ALL: SampleType = SampleType::from_bits_retain((1 << 25) - 1);

/// An attr that has all of `sample_type`, and of each field as much as there is.
fn full(sample_type: SampleType) -> Attr {
    Attr {
        read_format: ReadFormat::from_bits_retain(31),
        branch_sample_type: BranchSampleType::HW_INDEX | BranchSampleType::COUNTERS,
        sample_regs_user: 0b1011,
        sample_regs_intr: 1 << 63 | 1,
        ..sampled(sample_type)
    }
}

/// mispred, cycles 0x1234, type 9, priv 5.
const LITTLE_FLAGS: u64 = 1 | 0x1234 << 4 | 9 << 20 | 5 << 30;
const BIG_FLAGS: u64 = 1 << 63 | 0x1234 << 44 | 9 << 40 | 5 << 31;
const NATIVE_FLAGS: u64 = if cfg!(target_endian = "little") { LITTLE_FLAGS } else { BIG_FLAGS };

type Put<'a> = &'a dyn Fn(&mut Bytes) -> &mut Bytes;

/// The fields of a [`full`] attr, in the order of the kernel's output.
fn put_sample(to: &mut Bytes, sample_type: SampleType) {
    use SampleType as S;
    let flags = if to.order == ByteOrder::Little { LITTLE_FLAGS } else { BIG_FLAGS };
    let put: [(SampleType, Put<'_>); 25] = [
        (S::IDENTIFIER, &|to| to.u64(70)),
        (S::IP, &|to| to.u64(0x401000)),
        (S::TID, &|to| to.u32(7).u32(8)),
        (S::TIME, &|to| to.u64(1_000_000)),
        (S::ADDR, &|to| to.u64(0x7000)),
        (S::ID, &|to| to.u64(70)),
        (S::STREAM_ID, &|to| to.u64(71)),
        (S::CPU, &|to| to.u32(3).u32(0)),
        (S::PERIOD, &|to| to.u64(4000)),
        (S::READ, &|to| to.u64s(&[2, 1000, 500, 11, 12, 13, 21, 22, 23])),
        (S::CALLCHAIN, &|to| to.u64s(&[3, -512_i64 as u64, 0x401000, 0x402000])),
        (S::RAW, &|to| to.u32(12).u8s(b"raw payload\0")),
        (S::BRANCH_STACK, &|to| to.u64s(&[2, 99, 1, 2, flags, 3, 4, 0, 0xc1, 0xc2])),
        (S::REGS_USER, &|to| to.u64s(&[2, 0xa0, 0xa1, 0xa3])),
        (S::STACK_USER, &|to| to.u64(16).u8s(b"stack of a user!").u64(11)),
        (S::WEIGHT, &|to| to.u64(0x1111_2222_3333_4444)),
        (S::WEIGHT_STRUCT, &|to| match to.order {
            ByteOrder::Little => to.u32(0x3333_4444).u16(0x2222).u16(0x1111),
            ByteOrder::Big => to.u16(0x1111).u16(0x2222).u32(0x3333_4444),
        }),
        (S::DATA_SRC, &|to| to.u64(0x5555)),
        (S::TRANSACTION, &|to| to.u64(0x6666)),
        (S::REGS_INTR, &|to| to.u64s(&[1, 0xb0, 0xbf])),
        (S::PHYS_ADDR, &|to| to.u64(0x8000)),
        (S::CGROUP, &|to| to.u64(42)),
        (S::DATA_PAGE_SIZE, &|to| to.u64(4096)),
        (S::CODE_PAGE_SIZE, &|to| to.u64(2 << 20)),
        (S::AUX, &|to| to.u64(8).u8s(b"aux data")),
    ];
    put.iter().filter(|(bit, _)| sample_type.contains(*bit)).for_each(|(_, put)| {
        put(to);
    });
}

/// What [`put_sample`] wrote.
fn expected(sample_type: SampleType) -> SampleFields<'static> {
    use SampleType as S;
    static BRANCHES: [u64; 6] = [1, 2, NATIVE_FLAGS, 3, 4, 0];
    let weight = Weight::Struct { var1_dw: 0x3333_4444, var2_w: 0x2222, var3_w: 0x1111 };
    let weight = if sample_type.contains(S::WEIGHT) { Weight::Full(0x1111_2222_3333_4444) } else { weight };
    fn given<T>(there: bool, value: T) -> Option<T> {
        there.then_some(value)
    }
    let has = |bit| sample_type.intersects(bit);
    let format = ReadFormat::from_bits_retain(31);
    SampleFields {
        identifier: given(has(S::IDENTIFIER), 70),
        ip: given(has(S::IP), 0x401000),
        tid: given(has(S::TID), Tid { pid: 7, tid: 8 }),
        time: given(has(S::TIME), 1_000_000),
        addr: given(has(S::ADDR), 0x7000),
        id: given(has(S::ID), 70),
        stream_id: given(has(S::STREAM_ID), 71),
        cpu: given(has(S::CPU), 3),
        period: given(has(S::PERIOD), 4000),
        read: given(
            has(S::READ),
            ReadValues::new(format, Words::from(&[2, 1000, 500, 11, 12, 13, 21, 22, 23])).unwrap(),
        ),
        callchain: given(has(S::CALLCHAIN), Callchain::from(&[-512_i64 as u64, 0x401000, 0x402000][..])),
        raw: given(has(S::RAW), &b"raw payload\0"[..]),
        branch_stack: given(
            has(S::BRANCH_STACK),
            BranchStack {
                hw_idx: Some(99),
                entries: BranchEntries::from_words(&BRANCHES),
                counters: Some(Words::from(&[0xc1, 0xc2])),
            },
        ),
        regs_user: given(
            has(S::REGS_USER),
            Regs::new(RegsAbi::Abi64, 0b1011, Words::from(&[0xa0, 0xa1, 0xa3])).unwrap(),
        ),
        stack_user: given(has(S::STACK_USER), StackUser { data: b"stack of a user!", dyn_size: 11 }),
        weight: given(has(S::WEIGHT | S::WEIGHT_STRUCT), weight),
        data_src: given(has(S::DATA_SRC), DataSrc(0x5555)),
        transaction: given(has(S::TRANSACTION), Transaction(0x6666)),
        regs_intr: given(
            has(S::REGS_INTR),
            Regs::new(RegsAbi::Abi32, 1 << 63 | 1, Words::from(&[0xb0, 0xbf])).unwrap(),
        ),
        phys_addr: given(has(S::PHYS_ADDR), 0x8000),
        cgroup: given(has(S::CGROUP), 42),
        data_page_size: given(has(S::DATA_PAGE_SIZE), 4096),
        code_page_size: given(has(S::CODE_PAGE_SIZE), 2 << 20),
        aux: given(has(S::AUX), &b"aux data"[..]),
    }
}

fn check_sample(sample_type: SampleType, order: ByteOrder) -> (Decoder, Vec<u8>) {
    let decoder = decoder(&full(sample_type), order);
    let mut bytes = Bytes::new(order);
    put_sample(&mut bytes, sample_type);
    for rest in [&[][..], &[0x5a; 8]] {
        let record = Bytes { order, out: [&bytes.out, rest].concat() }.sample();
        let decoded = decoder.decode(&record).unwrap_or_else(|error| panic!("{sample_type:?} {order:?}: {error}"));
        let Body::Sample(found) = decoded.body else { panic!("{decoded:?}") };
        assert_eq!(found.fields(), expected(sample_type), "{sample_type:?} {order:?}");
        assert_eq!((found.rest(), decoded.rest()), (rest, rest), "{sample_type:?} {order:?}");
        let fields = found.fields();
        let id = SampleId {
            tid: fields.tid,
            time: fields.time,
            id: fields.id,
            stream_id: fields.stream_id,
            cpu: fields.cpu,
            identifier: fields.identifier,
        };
        assert_eq!((decoded.sample_id(), decoded.time()), (id, fields.time));
        assert_eq!(decoder.time(&record), fields.time);
    }
    (decoder, bytes.sample())
}

#[test]
fn sample_fields_alone_and_in_pairs() {
    for order in ORDERS {
        for one in ALL.iter() {
            for other in ALL.iter() {
                if one | other != SampleType::WEIGHT | SampleType::WEIGHT_STRUCT {
                    check_sample(one | other, order);
                }
            }
        }
    }
}

#[test]
fn sample_with_all_fields() {
    for order in ORDERS {
        for without in [SampleType::WEIGHT, SampleType::WEIGHT_STRUCT] {
            let (decoder, record) = check_sample(ALL - without, order);
            cut_everywhere(&decoder, &record, |_| false);
        }
    }
    let both = SampleLayout::new(&sampled(ALL), ByteOrder::NATIVE);
    assert_eq!(both, Err(LayoutError::Weights { bits: ALL.bits() }));
}

#[test]
fn samples_of_fields_left_out_one_by_one() {
    for order in ORDERS {
        for left_out in ALL.iter() {
            let (decoder, record) = check_sample(ALL - SampleType::WEIGHT - left_out, order);
            cut_everywhere(&decoder, &record, |_| false);
        }
    }
}

#[test]
fn cgroup_page_sizes_and_aux_come_in_the_kernels_order() {
    // By their bits AUX would come before CGROUP and the page sizes.
    use SampleType as S;
    for order in ORDERS {
        let all = S::PHYS_ADDR | S::CGROUP | S::DATA_PAGE_SIZE | S::CODE_PAGE_SIZE | S::AUX;
        let decoder = decoder(&sampled(all), order);
        let record = Bytes::new(order).u64s(&[1, 2, 3, 4, 8]).u8s(b"snapshot").sample();
        let fields = sample(&decoder, &record).fields();
        assert_eq!((fields.phys_addr, fields.cgroup), (Some(1), Some(2)));
        assert_eq!((fields.data_page_size, fields.code_page_size), (Some(3), Some(4)));
        assert_eq!(fields.aux, Some(&b"snapshot"[..]));
    }
}

#[test]
fn fields_do_not_come_in_the_order_of_their_bits() {
    // CPU and PERIOD have lower bits than STREAM_ID, WEIGHT a lower one than REGS_INTR; IDENTIFIER is first.
    use SampleType as S;
    for order in ORDERS {
        let all = S::CPU | S::PERIOD | S::STREAM_ID | S::IDENTIFIER | S::TRANSACTION | S::WEIGHT_STRUCT | S::REGS_INTR;
        let decoder = decoder(&Attr { sample_regs_intr: 1, ..sampled(all) }, order);
        let mut bytes = Bytes::new(order);
        bytes.u64s(&[1, 2]).u32(3).u32(0).u64s(&[4, 5, 6, 1, 7]);
        let record = bytes.sample();
        let fields = sample(&decoder, &record).fields();
        assert_eq!(
            (fields.identifier, fields.stream_id, fields.cpu, fields.period),
            (Some(1), Some(2), Some(3), Some(4))
        );
        assert_eq!(fields.weight, Some(Weight::Struct { var1_dw: 5, var2_w: 0, var3_w: 0 }));
        assert_eq!((fields.transaction, fields.regs_intr.unwrap().get(0)), (Some(Transaction(6)), Some(7)));
    }
}

#[test]
fn weight_struct_is_three_weights() {
    let decoder = decoder(&sampled(SampleType::WEIGHT_STRUCT), ByteOrder::Little);
    let record = Bytes::new(ByteOrder::Little).u32(1).u16(2).u16(3).sample();
    assert_eq!(sample(&decoder, &record).weight(), Some(Weight::Struct { var1_dw: 1, var2_w: 2, var3_w: 3 }));
    let decoder = self::decoder(&sampled(SampleType::WEIGHT_STRUCT), ByteOrder::Big);
    let record = Bytes::new(ByteOrder::Big).u16(3).u16(2).u32(1).sample();
    assert_eq!(sample(&decoder, &record).weight(), Some(Weight::Struct { var1_dw: 1, var2_w: 2, var3_w: 3 }));
}

#[test]
fn branch_counters_follow_the_entries() {
    for order in ORDERS {
        for hw_index in [false, true] {
            for counters in [false, true] {
                let mut kind = BranchSampleType::ANY | BranchSampleType::TYPE_SAVE;
                kind.set(BranchSampleType::HW_INDEX, hw_index);
                kind.set(BranchSampleType::COUNTERS, counters);
                let all = SampleType::BRANCH_STACK | SampleType::DATA_SRC;
                let decoder = decoder(&Attr { branch_sample_type: kind, ..sampled(all) }, order);
                let mut bytes = Bytes::new(order);
                bytes.u64(2);
                hw_index.then(|| bytes.u64(u64::MAX).order);
                bytes.u64s(&[0x10, 0x20, 0, 0x30, 0x40, 0]);
                counters.then(|| bytes.u64s(&[0xc1, 0xc2]).order);
                let record = bytes.u64(5).sample();
                let found = sample(&decoder, &record);
                let stack = found.branch_stack().unwrap();
                assert_eq!(stack.hw_idx, hw_index.then_some(u64::MAX));
                assert_eq!(stack.counters, counters.then_some(Words::from(&[0xc1, 0xc2])));
                assert!(stack.entries.iter().map(|entry| (entry.from, entry.to)).eq([(0x10, 0x20), (0x30, 0x40)]));
                assert_eq!((found.data_src(), found.rest()), (Some(DataSrc(5)), &[][..]));
            }
        }
    }
}

#[test]
fn empty_branch_stacks_with_and_without_hw_idx() {
    use SampleType as S;
    let kind = BranchSampleType::HW_INDEX | BranchSampleType::COUNTERS;
    for order in ORDERS {
        for more in [S::empty(), S::REGS_USER | S::STACK_USER | S::WEIGHT, S::AUX, S::CODE_PAGE_SIZE] {
            for hw_idx in [None, Some(7)] {
                let attr = Attr { branch_sample_type: kind, sample_regs_user: 3, ..sampled(S::BRANCH_STACK | more) };
                let decoder = decoder(&attr, order);
                let mut bytes = Bytes::new(order);
                bytes.u64(0);
                hw_idx.map(|index| bytes.u64(index).order);
                let tail: &[u64] = match () {
                    () if more.contains(S::WEIGHT) => &[2, 0xa0, 0xa1, 0, 9],
                    () if more.contains(S::AUX) => &[8, 0x4141],
                    () if more.contains(S::CODE_PAGE_SIZE) => &[4096],
                    () => &[],
                };
                let record = bytes.u64s(tail).sample();
                let found = sample(&decoder, &record);
                let stack = found.branch_stack().unwrap();
                assert_eq!((stack.hw_idx, stack.entries.len()), (hw_idx, 0), "{more:?}");
                assert_eq!(found.rest(), [0; 0], "{more:?}");
                assert_eq!(found.weight(), more.contains(S::WEIGHT).then_some(Weight::Full(9)));
                assert_eq!(found.code_page_size(), more.contains(S::CODE_PAGE_SIZE).then_some(4096));
                assert_eq!(found.aux().map(<[u8]>::len), more.contains(S::AUX).then_some(8));
            }
        }
    }
}

#[test]
fn empty_branch_stacks_that_could_be_read_in_two_ways() {
    let attr = Attr {
        branch_sample_type: BranchSampleType::HW_INDEX,
        sample_regs_user: 3,
        ..sampled(SampleType::BRANCH_STACK | SampleType::REGS_USER)
    };
    for order in ORDERS {
        let decoder = decoder(&attr, order);
        for (words, hw_idx, regs, rest) in [
            // As an index and no registers a word would be left over.
            (&[0, 2, 0, 5][..], None, 2, 0),
            (&[0, 9, 0], Some(9), 0, 0),
            (&[0, 9, 1, 4, 5], Some(9), 2, 0),
            // Something is left over both ways: fields of a newer kernel.
            (&[0, 0, 0, 5, 6], Some(0), 0, 16),
        ] {
            let record = Bytes::new(order).u64s(words).sample();
            let found = sample(&decoder, &record);
            assert_eq!(found.branch_stack().unwrap().hw_idx, hw_idx, "{words:?}");
            assert_eq!(found.regs_user().unwrap().values().len(), regs, "{words:?}");
            assert_eq!(found.rest().len(), rest, "{words:?}");
        }
    }
}

#[test]
fn registers_by_the_bits_of_the_mask() {
    for order in ORDERS {
        let (decoder, record) = check_sample(SampleType::REGS_USER | SampleType::REGS_INTR, order);
        let found = sample(&decoder, &record);
        let (user, intr) = (found.regs_user().unwrap(), found.regs_intr().unwrap());
        assert_eq!(
            [0, 1, 2, 3, 4, 64].map(|bit| user.get(bit)),
            [Some(0xa0), Some(0xa1), None, Some(0xa3), None, None]
        );
        assert!(user.iter().eq([(0, 0xa0), (1, 0xa1), (3, 0xa3)]));
        assert_eq!([0, 1, 62, 63].map(|bit| intr.get(bit)), [Some(0xb0), None, None, Some(0xbf)]);
        assert_eq!((user.abi(), user.mask(), intr.abi()), (RegsAbi::Abi64, 0b1011, RegsAbi::Abi32));
    }
}

#[test]
fn stack_up_to_what_was_copied() {
    for order in ORDERS {
        let decoder = decoder(&sampled(SampleType::STACK_USER), order);
        for (dyn_size, copied) in [(0, 0), (11, 11), (16, 16), (17, 16), (u64::MAX, 16)] {
            let record = Bytes::new(order).u64(16).u8s(b"stack of a user!").u64(dyn_size).sample();
            let stack = sample(&decoder, &record).stack_user().unwrap();
            assert_eq!((stack.dyn_size, stack.copied()), (dyn_size, &b"stack of a user!"[..copied]));
        }
    }
}

#[test]
fn markers_in_call_chains() {
    use CallchainEntry::{Context, Ip};
    for order in ORDERS {
        let decoder = decoder(&sampled(SampleType::CALLCHAIN), order);
        let words = [5, sys::PERF_CONTEXT_KERNEL, 1, sys::PERF_CONTEXT_USER, -4096_i64 as u64, -4095_i64 as u64];
        let record = Bytes::new(order).u64s(&words).sample();
        let chain = sample(&decoder, &record).callchain().unwrap();
        assert!(chain.entries().eq([
            Context(CallchainContext::KERNEL),
            Ip(1),
            Context(CallchainContext::USER),
            Ip(-4096_i64 as u64),
            Context(CallchainContext::MAX),
        ]));
        assert!(chain.ips().eq([(CallchainContext::KERNEL, 1), (CallchainContext::USER, -4096_i64 as u64)]));
        assert_eq!(chain.deferred_cookie(), None);
    }
    // A cookie is no address, and no marker either.
    for cookie in [7, u64::MAX] {
        let words = [CallchainContext::KERNEL.0, 1, CallchainContext::USER_DEFERRED.0, cookie];
        let chain = Callchain::from(&words[..]);
        assert!(chain.ips().eq([(CallchainContext::KERNEL, 1)]));
        assert_eq!(chain.deferred_cookie(), Some(cookie));
        let chain = Callchain::from(&words[..3]);
        assert_eq!((chain.ips().count(), chain.deferred_cookie()), (1, None));
    }
    for (ours, theirs) in [
        (CallchainContext::HV, sys::PERF_CONTEXT_HV),
        (CallchainContext::USER_DEFERRED, sys::PERF_CONTEXT_USER_DEFERRED),
        (CallchainContext::GUEST, sys::PERF_CONTEXT_GUEST),
        (CallchainContext::GUEST_KERNEL, sys::PERF_CONTEXT_GUEST_KERNEL),
        (CallchainContext::GUEST_USER, sys::PERF_CONTEXT_GUEST_USER),
        (CallchainContext::MAX, sys::PERF_CONTEXT_MAX),
    ] {
        assert_eq!(ours.0, theirs);
    }
}

#[test]
fn branch_flags_are_those_of_the_bindings() {
    let flags = |set: &dyn Fn(&mut sys::perf_branch_entry)| {
        let mut entry = sys::perf_branch_entry { from: 1, to: 2, ..Default::default() };
        set(&mut entry);
        // SAFETY: both have 24 bytes, all of them are initialised, since the fields leave no gaps.
        let words: [u64; 3] = unsafe { std::mem::transmute(entry) };
        let entry = BranchEntries::from_words(&words).get(0).unwrap();
        assert_eq!((entry.from, entry.to), (1, 2));
        entry.flags
    };
    assert!(flags(&|entry| entry.set_mispred(1)).mispred());
    assert!(flags(&|entry| entry.set_predicted(1)).predicted());
    assert!(flags(&|entry| entry.set_in_tx(1)).in_tx());
    assert!(flags(&|entry| entry.set_abort(1)).abort());
    assert_eq!(flags(&|entry| entry.set_cycles(0xabcd)).cycles(), 0xabcd);
    assert_eq!(flags(&|entry| entry.set_type(0xd)).type_(), 0xd);
    assert_eq!(flags(&|entry| entry.set_spec(2)).spec(), 2);
    assert_eq!(flags(&|entry| entry.set_new_type(0xd)).new_type(), 0xd);
    assert_eq!(flags(&|entry| entry.set_priv(5)).priv_(), 5);
    assert_eq!(flags(&|entry| entry.set_reserved(0x4000_0001)).reserved(), 0x4000_0001);
}

#[test]
fn regs_without_abi_take_no_words() {
    use SampleType as S;
    for order in ORDERS {
        let all = S::REGS_USER | S::STACK_USER | S::REGS_INTR | S::CGROUP;
        let attr = Attr { sample_regs_user: u64::MAX, sample_regs_intr: 0xff, ..sampled(all) };
        let (decoder, record) = (decoder(&attr, order), Bytes::new(order).u64s(&[0, 0, 0, 42]).sample());
        let fields = sample(&decoder, &record).fields();
        assert_eq!((fields.regs_user, fields.regs_intr), (Some(Regs::NONE), Some(Regs::NONE)));
        assert_eq!((fields.stack_user, fields.cgroup), (Some(StackUser { data: &[], dyn_size: 0 }), Some(42)));
        let error = decoder.decode(&Bytes::new(order).u64s(&[9, 0, 0, 42]).sample()).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "SAMPLE record, byte 8, regs_user: 0x9 has no meaning here");
    }
}

#[test]
fn u32_pairs_are_not_swapped() {
    // In a record of a big-endian machine the process stands before the thread, as in all others.
    for order in ORDERS {
        let decoder = decoder(&sampled(SampleType::TID | SampleType::CPU), order);
        let record = Bytes::new(order).u32(100).u32(200).u32(5).u32(0).sample();
        let found = sample(&decoder, &record);
        assert_eq!((found.tid(), found.cpu()), (Some(Tid { pid: 100, tid: 200 }), Some(5)));
        let mut bytes = Bytes::new(order);
        bytes.u32(1).u32(2).u64s(&[3, 4, 5]).u32(6).u32(7).u64s(&[8, 9]).u32(10).u32(11).u8s(b"x\0\0\0\0\0\0\0");
        let record = bytes.record(RecordType::MMAP2, 0);
        let Body::Mmap2(mmap) = decoder.decode(&record).unwrap().body else { panic!() };
        assert_eq!((mmap.pid, mmap.tid, mmap.prot, mmap.flags), (1, 2, 10, 11));
        assert_eq!(mmap.file, MappedFile::Inode { maj: 6, min: 7, ino: 8, ino_generation: 9 });
    }
}

#[test]
fn raw_size_includes_padding() {
    for order in ORDERS {
        let decoder = decoder(&sampled(SampleType::RAW | SampleType::DATA_SRC), order);
        for len in 0..40_usize {
            let size = (4 + len).next_multiple_of(8) - 4;
            let mut raw = vec![0xaa; len];
            raw.resize(size, 0);
            let record = Bytes::new(order).u32(size as u32).u8s(&raw).u64(77).sample();
            let found = sample(&decoder, &record);
            assert_eq!((found.raw(), found.data_src()), (Some(&raw[..]), Some(DataSrc(77))));
            assert_eq!(found.raw_payload(len), Some(&raw[..len]));
            assert_eq!(found.raw_payload(size + 1), None);
        }
        // Padding does not explain what is left over where there is none.
        let record = Bytes::new(order).u32(10).u8s(&[0xaa; 10]).u64(77).sample();
        let found = sample(&decoder, &record);
        assert_eq!((found.raw_payload(10), found.raw_payload(9)), (Some(&[0xaa; 10][..]), None));
    }
}

#[test]
fn attr_of_any_size() {
    for order in ORDERS {
        let mut bytes = Bytes::new(order);
        bytes.u32(5).u32(0).u64s(&[1, 2, 3, 4, 0]).u32(6).u32(7).u64s(&[8, 9, 10, 11]).u32(12).u32(13);
        bytes.u64(14).u32(15).u16(16).u16(0).u32(17).u32(0).u64s(&[18, 19, 20]);
        let whole = bytes.out;
        assert_eq!(whole.len(), Attr::SIZE);
        for size in (64..=144).chain([152, 4096]) {
            let mut bytes = whole.clone();
            bytes[4..8].copy_from_slice(&Bytes::new(order).u32(size as u32).out);
            bytes.resize(size, 0);
            let more = [&bytes[..], b"behind"].concat();
            let (attr, rest) = Attr::from_bytes(&more, order).unwrap();
            assert_eq!(rest, b"behind");
            assert_eq!((attr.size, attr.type_, attr.bp_type), (size as u32, 5, 7));
            for (end, value, expected) in [
                (64, attr.config1, 8),
                (72, attr.config2, 9),
                (80, attr.branch_sample_type.bits(), 10),
                (88, attr.sample_regs_user, 11),
                (92, attr.sample_stack_user.into(), 12),
                (96, attr.clockid as u64, 13),
                (104, attr.sample_regs_intr, 14),
                (108, attr.aux_watermark.into(), 15),
                (110, attr.sample_max_stack.into(), 16),
                (116, attr.aux_sample_size.into(), 17),
                (128, attr.sig_data, 18),
                (136, attr.config3, 19),
                (144, attr.config4, 20),
            ] {
                if size >= end {
                    assert_eq!(value, expected, "{size} bytes, field that ends at {end}");
                } else if size <= end - 8 {
                    assert_eq!(value, 0, "{size} bytes, field that ends at {end}");
                }
            }
            for len in 0..size {
                let error = Attr::from_bytes(&bytes[..len], order).unwrap_err();
                let needed = if len < 8 { 8 } else { size as u32 };
                assert_eq!(error, AttrError::Truncated { size: needed, len });
            }
        }
        // A size of 0 is the first version's, a smaller one never was.
        assert_eq!(Attr::from_bytes(&whole, order).unwrap().1.len(), 80);
        for size in [1, 8, 63] {
            let mut bytes = whole.clone();
            bytes[4..8].copy_from_slice(&Bytes::new(order).u32(size).out);
            assert_eq!(Attr::from_bytes(&bytes, order), Err(AttrError::Size { size }));
        }
        // A tail that is not zero.
        let mut bytes = whole.clone();
        bytes[4..8].copy_from_slice(&Bytes::new(order).u32(160).out);
        bytes.resize(160, 0);
        bytes[150] = 3;
        let error = Attr::from_bytes(&bytes, order).unwrap_err();
        assert_eq!(error, AttrError::Unknown { size: 160, at: 150, value: 3 });
        assert_eq!(
            error.to_string(),
            "a perf_event_attr of 160 bytes with 0x03 at byte 150, in a field that is not known"
        );
    }
}

fn attr_bytes(attr: &sys::perf_event_attr) -> [u8; 144] {
    // SAFETY: both have 144 bytes, all of them are initialised, since the fields leave no gaps, and bytes may have any value.
    unsafe { std::mem::transmute(*attr) }
}

#[test]
fn attr_of_the_bindings() {
    assert_eq!(size_of::<sys::perf_event_attr>(), Attr::SIZE);
    assert_eq!(sys::PERF_ATTR_SIZE_VER0 as usize, Attr::SIZE_VER0);
    let mut theirs = sys::perf_event_attr {
        type_: 1,
        size: 144,
        config: 2,
        sample_type: 3,
        read_format: 4,
        bp_type: 5,
        branch_sample_type: 6,
        sample_regs_user: 7,
        sample_stack_user: 8,
        clockid: -9,
        sample_regs_intr: 10,
        aux_watermark: 11,
        sample_max_stack: 12,
        aux_sample_size: 13,
        sig_data: 14,
        config3: 15,
        config4: 16,
        ..Default::default()
    };
    theirs.__bindgen_anon_1.sample_period = 17;
    theirs.__bindgen_anon_2.wakeup_events = 18;
    theirs.__bindgen_anon_3.config1 = 19;
    theirs.__bindgen_anon_4.config2 = 20;
    theirs.__bindgen_anon_5.aux_action = 5;
    theirs.set_sample_id_all(1);
    theirs.set_precise_ip(2);
    let expected = Attr {
        type_: 1,
        size: 144,
        config: 2,
        sample_period: 17,
        sample_type: SampleType::from_bits_retain(3),
        read_format: ReadFormat::from_bits_retain(4),
        flags: AttrFlags::SAMPLE_ID_ALL.with_precise_ip(2),
        wakeup_events: 18,
        bp_type: 5,
        config1: 19,
        config2: 20,
        branch_sample_type: BranchSampleType::from_bits_retain(6),
        sample_regs_user: 7,
        sample_stack_user: 8,
        clockid: -9,
        sample_regs_intr: 10,
        aux_watermark: 11,
        sample_max_stack: 12,
        aux_sample_size: 13,
        aux_action: 5,
        sig_data: 14,
        config3: 15,
        config4: 16,
    };
    let bytes = attr_bytes(&theirs);
    assert_eq!(Attr::from_bytes(&bytes, ByteOrder::NATIVE), Ok((expected, &[][..])));
    assert_eq!(expected.to_bytes(ByteOrder::NATIVE), bytes);
}

#[test]
fn attr_flags_are_those_of_the_bindings() {
    let mut seen = AttrFlags::empty();
    let mut compare = |flag: AttrFlags, set: &dyn Fn(&mut sys::perf_event_attr)| {
        let mut attr = sys::perf_event_attr { size: 144, ..Default::default() };
        set(&mut attr);
        assert_eq!(Attr::from_bytes(&attr_bytes(&attr), ByteOrder::NATIVE).unwrap().0.flags, flag);
        seen |= flag;
    };
    macro_rules! flags {
        ($($flag:ident $set:ident)+) => { $(compare(AttrFlags::$flag, &|attr| attr.$set(1));)+ };
    }
    flags! {
        DISABLED set_disabled INHERIT set_inherit PINNED set_pinned EXCLUSIVE set_exclusive EXCLUDE_USER set_exclude_user
        EXCLUDE_KERNEL set_exclude_kernel EXCLUDE_HV set_exclude_hv EXCLUDE_IDLE set_exclude_idle MMAP set_mmap
        COMM set_comm FREQ set_freq INHERIT_STAT set_inherit_stat ENABLE_ON_EXEC set_enable_on_exec TASK set_task
        WATERMARK set_watermark MMAP_DATA set_mmap_data SAMPLE_ID_ALL set_sample_id_all EXCLUDE_HOST set_exclude_host
        EXCLUDE_GUEST set_exclude_guest EXCLUDE_CALLCHAIN_KERNEL set_exclude_callchain_kernel
        EXCLUDE_CALLCHAIN_USER set_exclude_callchain_user MMAP2 set_mmap2 COMM_EXEC set_comm_exec
        USE_CLOCKID set_use_clockid CONTEXT_SWITCH set_context_switch WRITE_BACKWARD set_write_backward
        NAMESPACES set_namespaces KSYMBOL set_ksymbol BPF_EVENT set_bpf_event AUX_OUTPUT set_aux_output
        CGROUP set_cgroup TEXT_POKE set_text_poke BUILD_ID set_build_id INHERIT_THREAD set_inherit_thread
        REMOVE_ON_EXEC set_remove_on_exec SIGTRAP set_sigtrap DEFER_CALLCHAIN set_defer_callchain
        DEFER_OUTPUT set_defer_output
    }
    for value in 0..4 {
        let flag = AttrFlags::empty().with_precise_ip(value);
        assert_eq!(flag.precise_ip(), value);
        compare(flag, &|attr| attr.set_precise_ip(value.into()));
    }
    assert_eq!(seen.bits(), (1 << 40) - 1);
    // The bindings have no more: their first reserved bit is the next.
    let mut attr = sys::perf_event_attr { size: 144, ..Default::default() };
    attr.set___reserved_1(1);
    assert_eq!(Attr::from_bytes(&attr_bytes(&attr), ByteOrder::NATIVE).unwrap().0.flags.bits(), 1 << 40);
}

#[test]
fn flags_of_a_big_endian_attr() {
    // Bit fields count from the most significant bit there, and precise_ip keeps the order of its two bits.
    for (flags, word) in [
        (AttrFlags::DISABLED, 1 << 63),
        (AttrFlags::SAMPLE_ID_ALL, 1 << 45),
        (AttrFlags::DEFER_OUTPUT, 1 << 24),
        (AttrFlags::empty().with_precise_ip(1), 1 << 47),
        (AttrFlags::empty().with_precise_ip(2), 1 << 48),
        (AttrFlags::WATERMARK.with_precise_ip(3) | AttrFlags::MMAP_DATA, 1 << 49 | 3 << 47 | 1 << 46),
    ] {
        let mut bytes = Bytes::new(ByteOrder::Big);
        bytes.u32(0).u32(144).u64s(&[0, 0, 0, 0, word]).u8s(&[0; 96]);
        let (attr, _) = Attr::from_bytes(&bytes.out, ByteOrder::Big).unwrap();
        assert_eq!(attr.flags, flags);
        assert_eq!(attr.to_bytes(ByteOrder::Big), bytes.out);
    }
    let mut bytes = Bytes::new(ByteOrder::Big);
    bytes.u32(0).u32(144).u8s(&[0; 108]).u32(1 << 31 | 1 << 29).u8s(&[0; 24]);
    assert_eq!(Attr::from_bytes(&bytes.out, ByteOrder::Big).unwrap().0.aux_action, 0b101);
}

/// Compares each constant with that of the same name in the bindings.
macro_rules! compare {
    ($type:ident: $($name:ident = $theirs:ident)+) => {{
        let ours = [$((stringify!($name), u64::from($type::$name.bits()), u64::from(sys::$theirs))),+];
        for (name, ours, theirs) in ours {
            assert_eq!(ours, theirs, "{name}");
        }
        ours.len()
    }};
}

#[test]
fn bit_sets_are_those_of_the_bindings() {
    let bits = compare! { SampleType:
        IP = PERF_SAMPLE_IP TID = PERF_SAMPLE_TID TIME = PERF_SAMPLE_TIME ADDR = PERF_SAMPLE_ADDR READ = PERF_SAMPLE_READ
        CALLCHAIN = PERF_SAMPLE_CALLCHAIN ID = PERF_SAMPLE_ID CPU = PERF_SAMPLE_CPU PERIOD = PERF_SAMPLE_PERIOD
        STREAM_ID = PERF_SAMPLE_STREAM_ID RAW = PERF_SAMPLE_RAW BRANCH_STACK = PERF_SAMPLE_BRANCH_STACK
        REGS_USER = PERF_SAMPLE_REGS_USER STACK_USER = PERF_SAMPLE_STACK_USER WEIGHT = PERF_SAMPLE_WEIGHT
        DATA_SRC = PERF_SAMPLE_DATA_SRC IDENTIFIER = PERF_SAMPLE_IDENTIFIER TRANSACTION = PERF_SAMPLE_TRANSACTION
        REGS_INTR = PERF_SAMPLE_REGS_INTR PHYS_ADDR = PERF_SAMPLE_PHYS_ADDR AUX = PERF_SAMPLE_AUX
        CGROUP = PERF_SAMPLE_CGROUP DATA_PAGE_SIZE = PERF_SAMPLE_DATA_PAGE_SIZE
        CODE_PAGE_SIZE = PERF_SAMPLE_CODE_PAGE_SIZE WEIGHT_STRUCT = PERF_SAMPLE_WEIGHT_STRUCT
    };
    assert_eq!(1 << bits, sys::PERF_SAMPLE_MAX);
    let bits = compare! { ReadFormat:
        TOTAL_TIME_ENABLED = PERF_FORMAT_TOTAL_TIME_ENABLED TOTAL_TIME_RUNNING = PERF_FORMAT_TOTAL_TIME_RUNNING
        ID = PERF_FORMAT_ID GROUP = PERF_FORMAT_GROUP LOST = PERF_FORMAT_LOST
    };
    assert_eq!(1 << bits, sys::PERF_FORMAT_MAX);
    let bits = compare! { BranchSampleType:
        USER = PERF_SAMPLE_BRANCH_USER KERNEL = PERF_SAMPLE_BRANCH_KERNEL HV = PERF_SAMPLE_BRANCH_HV
        ANY = PERF_SAMPLE_BRANCH_ANY ANY_CALL = PERF_SAMPLE_BRANCH_ANY_CALL ANY_RETURN = PERF_SAMPLE_BRANCH_ANY_RETURN
        IND_CALL = PERF_SAMPLE_BRANCH_IND_CALL ABORT_TX = PERF_SAMPLE_BRANCH_ABORT_TX IN_TX = PERF_SAMPLE_BRANCH_IN_TX
        NO_TX = PERF_SAMPLE_BRANCH_NO_TX COND = PERF_SAMPLE_BRANCH_COND CALL_STACK = PERF_SAMPLE_BRANCH_CALL_STACK
        IND_JUMP = PERF_SAMPLE_BRANCH_IND_JUMP CALL = PERF_SAMPLE_BRANCH_CALL NO_FLAGS = PERF_SAMPLE_BRANCH_NO_FLAGS
        NO_CYCLES = PERF_SAMPLE_BRANCH_NO_CYCLES TYPE_SAVE = PERF_SAMPLE_BRANCH_TYPE_SAVE
        HW_INDEX = PERF_SAMPLE_BRANCH_HW_INDEX PRIV_SAVE = PERF_SAMPLE_BRANCH_PRIV_SAVE
        COUNTERS = PERF_SAMPLE_BRANCH_COUNTERS
    };
    assert_eq!(1 << bits, sys::PERF_SAMPLE_BRANCH_MAX);
    let _ = compare! { Misc:
        CPUMODE_MASK = PERF_RECORD_MISC_CPUMODE_MASK PROC_MAP_PARSE_TIMEOUT = PERF_RECORD_MISC_PROC_MAP_PARSE_TIMEOUT
        MMAP_DATA = PERF_RECORD_MISC_MMAP_DATA COMM_EXEC = PERF_RECORD_MISC_COMM_EXEC FORK_EXEC = PERF_RECORD_MISC_FORK_EXEC
        SWITCH_OUT = PERF_RECORD_MISC_SWITCH_OUT EXACT_IP = PERF_RECORD_MISC_EXACT_IP
        SWITCH_OUT_PREEMPT = PERF_RECORD_MISC_SWITCH_OUT_PREEMPT MMAP_BUILD_ID = PERF_RECORD_MISC_MMAP_BUILD_ID
        EXT_RESERVED = PERF_RECORD_MISC_EXT_RESERVED
    };
    let _ = compare! { AuxFlags:
        TRUNCATED = PERF_AUX_FLAG_TRUNCATED OVERWRITE = PERF_AUX_FLAG_OVERWRITE PARTIAL = PERF_AUX_FLAG_PARTIAL
        COLLISION = PERF_AUX_FLAG_COLLISION PMU_FORMAT_TYPE_MASK = PERF_AUX_FLAG_PMU_FORMAT_TYPE_MASK
    };
}

#[test]
fn record_types_and_modes_are_those_of_the_bindings() {
    let mut types = 0;
    macro_rules! types {
        ($($name:ident = $theirs:ident)+) => {
            $(assert_eq!(RecordType::$name.0, sys::$theirs, stringify!($name)); types += 1;)+
        };
    }
    types! {
        MMAP = PERF_RECORD_MMAP LOST = PERF_RECORD_LOST COMM = PERF_RECORD_COMM EXIT = PERF_RECORD_EXIT
        THROTTLE = PERF_RECORD_THROTTLE UNTHROTTLE = PERF_RECORD_UNTHROTTLE FORK = PERF_RECORD_FORK READ = PERF_RECORD_READ
        SAMPLE = PERF_RECORD_SAMPLE MMAP2 = PERF_RECORD_MMAP2 AUX = PERF_RECORD_AUX
        ITRACE_START = PERF_RECORD_ITRACE_START LOST_SAMPLES = PERF_RECORD_LOST_SAMPLES SWITCH = PERF_RECORD_SWITCH
        SWITCH_CPU_WIDE = PERF_RECORD_SWITCH_CPU_WIDE NAMESPACES = PERF_RECORD_NAMESPACES KSYMBOL = PERF_RECORD_KSYMBOL
        BPF_EVENT = PERF_RECORD_BPF_EVENT CGROUP = PERF_RECORD_CGROUP TEXT_POKE = PERF_RECORD_TEXT_POKE
        AUX_OUTPUT_HW_ID = PERF_RECORD_AUX_OUTPUT_HW_ID CALLCHAIN_DEFERRED = PERF_RECORD_CALLCHAIN_DEFERRED
    }
    assert_eq!(types + 1, sys::PERF_RECORD_MAX);
    assert_eq!(RecordType::ALL.iter().filter(|type_| type_.is_kernel()).count(), types as usize);
    for (bits, mode) in [
        (sys::PERF_RECORD_MISC_CPUMODE_UNKNOWN, CpuMode::Unknown),
        (sys::PERF_RECORD_MISC_KERNEL, CpuMode::Kernel),
        (sys::PERF_RECORD_MISC_USER, CpuMode::User),
        (sys::PERF_RECORD_MISC_HYPERVISOR, CpuMode::Hypervisor),
        (sys::PERF_RECORD_MISC_GUEST_KERNEL, CpuMode::GuestKernel),
        (sys::PERF_RECORD_MISC_GUEST_USER, CpuMode::GuestUser),
        (6, CpuMode::Other(6)),
    ] {
        assert_eq!(Misc::from_bits_retain(bits as u16 | 0xfff8).cpumode(), mode);
    }
}

/// Counts that no record can hold.
const IMPOSSIBLE: [u64; 11] = [
    u64::MAX,
    u64::MAX / 8,
    u64::MAX / 8 + 1,
    1 << 61,
    (1 << 61) + 1,
    1 << 63,
    (1 << 63) + 1,
    // Three times this is 2.
    u64::MAX / 3 + 1,
    u64::MAX / 24 + 1,
    1 << 32,
    8191,
];

#[test]
fn impossible_counts_in_samples() {
    use SampleType as S;
    for order in ORDERS {
        for count in IMPOSSIBLE {
            for (bit, field) in [
                (S::READ, "read"),
                (S::CALLCHAIN, "callchain"),
                (S::BRANCH_STACK, "branch_stack"),
                (S::STACK_USER, "stack_user"),
                (S::AUX, "aux"),
            ] {
                for group in [ReadFormat::GROUP, ReadFormat::from_bits_retain(31)] {
                    let decoder = decoder(&Attr { read_format: group, ..full(bit) }, order);
                    let record = Bytes::new(order).u64s(&[count, 1, 2, 3, 4, 5, 6, 7, 8, 9]).sample();
                    let error = decoder.decode(&record).map(|_| ()).unwrap_err();
                    assert_eq!((error.type_, error.field), (RecordType::SAMPLE, field));
                    assert!(
                        matches!(error.kind, DefectKind::Truncated { needed, left } if needed > left as u64),
                        "{error}"
                    );
                }
            }
            let decoder = decoder(&sampled(S::RAW), order);
            let record = Bytes::new(order).u32(count as u32 | 1 << 16).u32(1).u64(2).sample();
            let error = decoder.decode(&record).map(|_| ()).unwrap_err();
            assert_eq!((error.field, error.offset), ("raw", 8));
        }
    }
}

#[test]
fn impossible_counts_in_other_records() {
    for order in ORDERS {
        for count in IMPOSSIBLE {
            let group = Attr { read_format: ReadFormat::GROUP | ReadFormat::LOST, ..Attr::default() };
            for (attr, type_, words, field, offset) in [
                (group, RecordType::READ, &[0, count, 1, 2][..], "read", 16),
                (Attr::default(), RecordType::NAMESPACES, &[0, count, 1, 2], "link_info", 24),
                (Attr::default(), RecordType::CALLCHAIN_DEFERRED, &[0, count, 1, 2], "ips", 24),
            ] {
                let record = Bytes::new(order).u64s(words).record(type_, 0);
                let error = decoder(&attr, order).decode(&record).map(|_| ()).unwrap_err();
                assert_eq!((error.type_, error.field, error.offset), (type_, field, offset), "{count:#x}");
                assert!(
                    matches!(error.kind, DefectKind::Truncated { needed, left } if needed > left as u64),
                    "{error}"
                );
            }
        }
        for (old, new) in [(u16::MAX, 0), (0, u16::MAX), (u16::MAX, u16::MAX)] {
            let record = Bytes::new(order).u64(1).u16(old).u16(new).u32(0).record(RecordType::TEXT_POKE, 0);
            let error = decoder(&Attr::default(), order).decode(&record).map(|_| ()).unwrap_err();
            assert_eq!((error.field, error.offset), ("bytes", 20));
        }
    }
}

#[test]
fn headers_that_do_not_fit() {
    for order in ORDERS {
        let decoder = decoder(&with_trailer(), order);
        for size in (0..=80).filter(|size| *size != 24) {
            let mut bytes = Bytes::new(order);
            bytes.u32(2).u16(0).u16(size).u64s(&[1, 2]);
            let error = decoder.decode(&bytes.out).map(|_| ()).unwrap_err();
            assert_eq!(error.kind, DefectKind::Size { size, len: 24 });
            assert_eq!((error.type_, error.offset, error.field), (RecordType::LOST, 6, "size"));
            assert_eq!(decoder.time(&bytes.out), None);
        }
        let mut bytes = Bytes::new(order);
        bytes.u32(2).u16(0).u16(16).u64s(&[1, 2]);
        let error = decoder.decode(&bytes.out).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "LOST record, byte 6, size: the header says 16 bytes, and the record has 24");
    }
    let error = Decoder::empty(ByteOrder::Little).decode(&[1, 2, 3]).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "0 record, byte 0, header: needs 8 bytes, and 3 are left");
}

#[test]
fn read_formats_that_are_not_known_are_refused() {
    let attr = Attr { read_format: ReadFormat::from_bits_retain(1 << 5 | 1), ..sampled(SampleType::READ) };
    let error = Decoder::new(&attr).map(|_| ()).unwrap_err();
    assert_eq!(error, LayoutError::ReadFormat { bits: 33 });
    assert_eq!(error.to_string(), "a read_format of 0x21 has bits that are not known");
    // They do not matter where nothing is read.
    assert!(Decoder::new(&Attr { sample_type: SampleType::IP, ..attr }).is_ok());
}

#[test]
fn fields_that_are_not_known_are_the_rest() {
    for order in ORDERS {
        let attr = sampled(SampleType::from_bits_retain(1 << 40 | 1));
        let (decoder, record) = (decoder(&attr, order), Bytes::new(order).u64s(&[0x1000, 2, 3]).sample());
        let found = sample(&decoder, &record);
        assert_eq!((found.ip(), found.rest()), (Some(0x1000), &record[16..]));
    }
}

#[test]
fn user_types_have_no_trailer() {
    // Those that perf writes end with their fields, whatever sample_id_all says.
    for order in ORDERS {
        let decoder = decoder(&with_trailer(), order);
        for &type_ in RecordType::ALL.iter().filter(|type_| !type_.is_kernel()) {
            for len in [0, 8, 56, 400] {
                let record = Bytes { order, out: vec![0; len] }.record(type_, 0);
                assert_eq!(decoder.time(&record), None, "{type_}");
                if let Ok(decoded) = decoder.decode(&record) {
                    assert_eq!((decoded.sample_id(), decoded.time()), (SampleId::default(), None), "{type_}");
                    assert_eq!(decoded.event(), None, "{type_}");
                }
            }
        }
    }
}

#[test]
fn what_a_newer_perf_adds_is_the_rest() {
    for order in ORDERS {
        let decoder = decoder(&with_trailer(), order);
        let rest = |to: &Bytes, type_| decoder.decode(&to.record(type_, 0)).unwrap().rest().len();
        assert_eq!(rest(Bytes::new(order).u64s(&[1, 2]), RecordType::STAT_ROUND), 0);
        assert_eq!(rest(Bytes::new(order).u64s(&[1, 2, 3]), RecordType::STAT_ROUND), 8);
        assert_eq!(rest(Bytes::new(order).u64s(&[7]), RecordType::FINISHED_ROUND), 8);
        // What fills up a record is nothing new: the number of a CPU, and the size of the formats of tracepoints.
        assert_eq!(rest(Bytes::new(order).u16(0).u16(1).u16(5).u16(0), RecordType::CPU_MAP), 0);
        assert_eq!(rest(Bytes::new(order).u16(0).u16(1).u16(5).u16(0).u64(9), RecordType::CPU_MAP), 8);
        assert_eq!(rest(Bytes::new(order).u32(5).u32(0), RecordType::HEADER_TRACING_DATA), 0);
        assert_eq!(rest(Bytes::new(order).u32(5), RecordType::HEADER_TRACING_DATA), 0);
        // Such records are as long as those of the version with the most counters.
        let mut domain = Bytes::new(order);
        let domain = domain.u64(1).u32(2).u16(15).u16(0).u8s(&[0; 45 * 4 + 4]);
        assert_eq!(rest(domain, RecordType::SCHEDSTAT_DOMAIN), 0);
    }
}

/// The rows of the table in the documentation: a name, and the tests that cover it.
fn covered() -> Vec<(&'static str, Vec<&'static str>)> {
    include_str!("../src/record/coverage.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let mut cells = line.trim_end_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'));
            (cells.next().unwrap(), cells.flat_map(|cell| cell.split("`, `")).collect())
        })
        .collect()
}

#[test]
fn every_test_of_the_table_exists() {
    let sources = [
        ("record_decode", include_str!("record_decode.rs")),
        ("record_roundtrip", include_str!("record_roundtrip.rs")),
        ("record::user::tests", include_str!("../src/record/user/tests.rs")),
    ];
    for (row, tests) in covered() {
        assert_eq!(tests.len(), 2, "{row}");
        for test in tests.into_iter().filter(|test| *test != "-") {
            let (file, name) = test.rsplit_once("::").unwrap_or_else(|| panic!("{row}: {test}"));
            let source = sources.iter().find(|(name, _)| *name == file).unwrap_or_else(|| panic!("{row}: {test}")).1;
            let definition = format!("fn {name}(");
            let before = source.find(&definition).map(|at| source[..at].trim_end());
            assert!(before.is_some_and(|before| before.ends_with("#[test]")), "{row}: there is no test {test}");
        }
    }
}

#[test]
fn the_table_has_every_type_and_field() {
    let rows: Vec<_> = covered().into_iter().map(|(row, _)| row.to_owned()).collect();
    let types = RecordType::ALL.iter().map(|type_| format!("PERF_RECORD_{type_}"));
    let fields = ALL.iter_names().map(|(name, _)| format!("PERF_SAMPLE_{name}"));
    let expected: Vec<_> = types.chain(fields).collect();
    assert_eq!(rows, expected);
}
