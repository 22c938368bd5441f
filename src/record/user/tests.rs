use super::*;
use crate::record::{Attr, ByteOrder, DefectKind, Text, Words};
use proptest::prelude::*;

const ORDERS: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];
const NONE: Misc = Misc::empty();

fn encoded(user: &User<'_>, misc: Misc, order: ByteOrder) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_user(user, misc, &mut Writer::new(&mut bytes, order)).expect("encodes");
    bytes
}

fn refused(user: &User<'_>, misc: Misc) -> EncodeError {
    put_user(user, misc, &mut Writer::new(&mut Vec::new(), ByteOrder::NATIVE)).expect_err("is refused")
}

fn decoded(type_: RecordType, misc: Misc, body: &[u8], order: ByteOrder) -> Result<User<'_>, Defect> {
    get_user(type_, misc, &mut Cursor::new(body, order)).expect("a type of perf's")
}

/// What is written is read again, cut anywhere it is an error or a smaller record, and whatever else its bytes are it never
/// panics; all that a smaller or other record holds can be walked.
fn check(user: User<'_>, misc: Misc) {
    for order in ORDERS {
        let bytes = encoded(&user, misc, order);
        assert_eq!(decoded(user.type_(), misc, &bytes, order), Ok(user), "{order:?}");
        for len in 0..bytes.len() {
            if let Ok(cut) = decoded(user.type_(), misc, &bytes[..len], order) {
                walk(&cut);
                let mut again = Vec::new();
                if put_user(&cut, misc, &mut Writer::new(&mut again, order)).is_ok() {
                    assert_eq!(decoded(user.type_(), misc, &again, order), Ok(cut), "{len}, {order:?}");
                }
            }
        }
        for at in (0..bytes.len()).step_by(2) {
            let mut hostile = bytes.clone();
            let end = hostile.len().min(at + 8);
            hostile[at..end].fill(0xff);
            if let Ok(hostile) = decoded(user.type_(), misc, &hostile, order) {
                walk(&hostile);
            }
        }
    }
}

/// Debug output goes through all there is.
fn walk(user: &User<'_>) {
    assert!(!format!("{user:?}").is_empty());
    if let User::CpuMap(map) = user {
        assert!(map.cpus().count() <= 8 * 65528);
    }
}

/// The bytes of a record by its fields, in either order.
struct Bytes(Vec<u8>, ByteOrder);

impl Bytes {
    fn new(order: ByteOrder) -> Self {
        Self(Vec::new(), order)
    }

    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str, len: usize) -> Self {
        self.raw(text.as_bytes()).raw(&vec![0; len - text.len()])
    }
}

macro_rules! ints {
    ($($int:ident)+) => {
        impl Bytes {
            $(
                fn $int(self, value: $int) -> Self {
                    let bytes = match self.1 {
                        ByteOrder::Little => value.to_le_bytes(),
                        ByteOrder::Big => value.to_be_bytes(),
                    };
                    self.raw(&bytes)
                }
            )+
        }
    };
}
ints!(u16 u32 u64 i32);

fn reads(misc: Misc, user: User<'_>, bytes: impl Fn(Bytes) -> Bytes) {
    for order in ORDERS {
        let Bytes(bytes, _) = bytes(Bytes::new(order));
        assert_eq!(decoded(user.type_(), misc, &bytes, order), Ok(user), "{order:?}");
    }
    check(user, misc);
}

fn fails(type_: RecordType, misc: Misc, field: &str, bytes: impl Fn(Bytes) -> Bytes) {
    for order in ORDERS {
        let Bytes(bytes, _) = bytes(Bytes::new(order));
        let defect = decoded(type_, misc, &bytes, order).expect_err("is an error");
        assert_eq!(defect.field, field, "{defect:?}");
    }
}

#[test]
fn types_of_perf_are_known_and_no_others() {
    for type_ in 0..200 {
        let known = get_user(RecordType(type_), NONE, &mut Cursor::new(&[], ByteOrder::NATIVE)).is_some();
        assert_eq!(known, (64..=86).contains(&type_), "{type_}");
    }
    assert_eq!(RecordType::ALL.iter().filter(|type_| !type_.is_kernel()).count(), 23);
}

#[test]
fn header_attr() {
    for size in [64, 72, 128, 144] {
        let attr = Attr { type_: 1, size, config: 3, ..Attr::default() };
        let user = User::HeaderAttr(HeaderAttr { attr, ids: Words::from(&[5, u64::MAX]) });
        check(user, NONE);
        let bytes = encoded(&user, NONE, ByteOrder::Big);
        assert_eq!(bytes.len(), size as usize + 16);
    }
    // An attr of size 0 is one of the first version.
    reads(
        NONE,
        User::HeaderAttr(HeaderAttr { attr: Attr { size: 64, ..Attr::default() }, ids: Words::from(&[7]) }),
        |b| b.raw(&[0; 4]).u32(64).raw(&[0; 56]).u64(7),
    );
    let type_ = RecordType::HEADER_ATTR;
    fails(type_, NONE, "size", |b| b.u32(0).u32(63).raw(&[0; 200]));
    fails(type_, NONE, "attr", |b| b.u32(0).u32(u32::MAX).raw(&[0; 200]));
    fails(type_, NONE, "attr", |b| b.u32(0).u32(152).raw(&[0; 137]).raw(&[1; 16]));
    fails(type_, NONE, "attr", |b| b.u32(0));
    fails(type_, NONE, "id", |b| b.u32(0).u32(64).raw(&[0; 60]));
}

#[test]
fn header_event_type() {
    reads(NONE, User::HeaderEventType(HeaderEventType { event_id: 9, name: Text::from("cycles") }), |b| {
        b.u64(9).text("cycles", 64)
    });
    for order in ORDERS {
        let Bytes(short, _) = Bytes::new(order).u64(1).text("12345678", 8);
        let read = decoded(RecordType::HEADER_EVENT_TYPE, NONE, &short, order);
        assert_eq!(read, Ok(User::HeaderEventType(HeaderEventType { event_id: 1, name: Text::from("12345678") })));
    }
    let long = "x".repeat(65);
    let user = User::HeaderEventType(HeaderEventType { event_id: 1, name: Text::from(&*long) });
    assert!(matches!(refused(&user, NONE), EncodeError::Shape { field: "name", .. }));
}

#[test]
fn header_tracing_data() {
    let user = User::HeaderTracingData(HeaderTracingData { size: 0x1000 });
    assert_eq!(user.payload(), 0x1000);
    reads(NONE, user, |b| b.u32(0x1000));
    reads(NONE, user, |b| b.u32(0x1000).u32(0));
    assert_eq!(encoded(&user, NONE, ByteOrder::NATIVE).len(), 8);
}

#[test]
fn header_build_id() {
    let id: Vec<u8> = (1..=20).collect();
    let with = |len: usize| {
        User::HeaderBuildId(HeaderBuildId { pid: -1, build_id: &id[..len], filename: Text::from("/bin/true") })
    };
    reads(NONE, with(20), |b| b.i32(-1).raw(&id).raw(&[0; 4]).text("/bin/true", 64));
    for len in 0..=20 {
        let size = len as u8;
        reads(Misc::BUILD_ID_SIZE, with(len), |b| {
            b.i32(-1).raw(&id[..len]).raw(&[0xaa; 20][len..]).u8(size).raw(&[0; 3]).text("/bin/true", 12)
        });
    }
    for size in [21, 24, 255] {
        let bytes = |b: Bytes| b.i32(1).raw(&[1; 20]).u8(size).raw(&[0; 3]).text("x", 8);
        fails(RecordType::HEADER_BUILD_ID, Misc::BUILD_ID_SIZE, "size", bytes);
        // Without the bit the byte means nothing.
        let Bytes(bytes, order) = bytes(Bytes::new(ByteOrder::NATIVE));
        assert!(decoded(RecordType::HEADER_BUILD_ID, NONE, &bytes, order).is_ok());
    }
    fails(RecordType::HEADER_BUILD_ID, NONE, "filename", |b| b.i32(1).raw(&[1; 24]).raw(b"no end!!"));
    assert!(matches!(refused(&with(19), NONE), EncodeError::Shape { field: "build_id", .. }));
    let long = User::HeaderBuildId(HeaderBuildId { pid: 1, build_id: &[0; 21], filename: Text::from("x") });
    assert!(matches!(refused(&long, Misc::BUILD_ID_SIZE), EncodeError::Shape { field: "build_id", .. }));
}

#[test]
fn rounds() {
    for user in [User::FinishedRound, User::FinishedInit] {
        reads(NONE, user, |b| b);
        reads(NONE, user, |b| b.u64(1));
    }
}

#[test]
fn id_index() {
    let entries =
        [IdIndexEntry { id: 1, idx: 2, cpu: 3, tid: u64::MAX }, IdIndexEntry { id: 5, idx: 6, cpu: u64::MAX, tid: 8 }];
    let guests = [IdIndexGuest { machine_pid: 9, vcpu: 10 }, IdIndexGuest { machine_pid: 11, vcpu: 12 }];
    let index = IdIndex { entries: Array::from(&entries), guests: None };
    let first = |b: Bytes| [2, 1, 2, 3, u64::MAX, 5, 6, u64::MAX, 8].into_iter().fold(b, Bytes::u64);
    reads(NONE, User::IdIndex(index), first);
    let both = IdIndex { guests: Some(Array::from(&guests)), ..index };
    reads(NONE, User::IdIndex(both), |b| (9..13).fold(first(b), Bytes::u64));
    // The second array is whole, or it does not count.
    reads(NONE, User::IdIndex(index), |b| (9..12).fold(first(b), Bytes::u64));
    // Of no entries there are no guests, whatever follows.
    reads(NONE, User::IdIndex(IdIndex { entries: Array::default(), guests: None }), |b| b.u64(0).u64(1));
    let uneven = IdIndex { guests: Some(Array::from(&guests[..1])), ..index };
    assert!(matches!(refused(&User::IdIndex(uneven), NONE), EncodeError::Shape { field: "machine_pid", .. }));
    for nr in [2, u64::MAX, u64::MAX / 32 + 2, 1 << 59] {
        fails(RecordType::ID_INDEX, NONE, "entries", |b| b.u64(nr).raw(&[0; 63]));
    }
}

#[test]
fn auxtrace() {
    let priv_ = [1, 2, u64::MAX];
    let info = User::AuxtraceInfo(AuxtraceInfo { type_: AuxtraceType::INTEL_PT, priv_: Words::from(&priv_) });
    reads(NONE, info, |b| b.u32(1).u32(0).u64(1).u64(2).u64(u64::MAX));
    fails(RecordType::AUXTRACE_INFO, NONE, "priv", |b| b.u64(0).u32(1));

    let trace = Auxtrace { size: u64::MAX, offset: 2, reference: 3, idx: 4, tid: 5, cpu: 6, reserved: 0 };
    assert_eq!(User::Auxtrace(trace).payload(), u64::MAX);
    reads(NONE, User::Auxtrace(trace), |b| b.u64(u64::MAX).u64(2).u64(3).u32(4).u32(5).u32(6).u32(0));
    assert_eq!(User::FinishedRound.payload(), 0);
}

#[test]
fn auxtrace_error() {
    let error = AuxtraceError {
        type_: 1,
        code: 5,
        cpu: 2,
        pid: 3,
        tid: 4,
        fmt: 0,
        ip: 0x1000,
        time: None,
        msg: Text::from("Lost trace data"),
        guest: None,
    };
    let head = |b: Bytes, fmt| b.u32(1).u32(5).u32(2).u32(3).u32(4).u32(fmt).u64(0x1000);
    let timed = AuxtraceError { fmt: 1, time: Some(77), ..error };
    let guest = AuxtraceError { fmt: 2, guest: Some(AuxtraceGuest { machine_pid: 8, vcpu: 9 }), ..timed };
    // The message's place ends with it in the first two forms.
    reads(NONE, User::AuxtraceError(error), |b| head(b, 0).text("Lost trace data", 16));
    reads(NONE, User::AuxtraceError(timed), |b| head(b, 1).u64(77).text("Lost trace data", 64));
    reads(NONE, User::AuxtraceError(timed), |b| head(b, 1).u64(77).text("Lost trace data", 72));
    reads(NONE, User::AuxtraceError(guest), |b| head(b, 2).u64(77).text("Lost trace data", 64).u32(8).u32(9));
    let short = AuxtraceError { guest: None, ..guest };
    reads(NONE, User::AuxtraceError(short), |b| head(b, 2).u64(77).text("Lost trace data", 16));
    fails(RecordType::AUXTRACE_ERROR, NONE, "vcpu", |b| head(b, 2).u64(77).text("x", 64).u32(8));

    let without = User::AuxtraceError(AuxtraceError { time: None, ..timed });
    assert_eq!(refused(&without, NONE), EncodeError::Missing { field: "time" });
    let too_much = User::AuxtraceError(AuxtraceError { time: Some(1), ..error });
    assert_eq!(refused(&too_much, NONE), EncodeError::NotInLayout { field: "time" });
    let no_guest = User::AuxtraceError(AuxtraceError { fmt: 1, ..guest });
    assert_eq!(refused(&no_guest, NONE), EncodeError::NotInLayout { field: "machine_pid" });
}

#[test]
fn thread_map() {
    let entries = [
        ThreadMapEntry { pid: u64::MAX, comm: Text::default() },
        ThreadMapEntry { pid: 7, comm: Text::from("sixteen letters!") },
    ];
    reads(NONE, User::ThreadMap(ThreadMap { entries: Array::from(&entries) }), |b| {
        b.u64(2).u64(u64::MAX).text("", 16).u64(7).raw(b"sixteen letters!")
    });
    for nr in [2, u64::MAX, u64::MAX / 24 + 1] {
        fails(RecordType::THREAD_MAP, NONE, "entries", |b| b.u64(nr).raw(&[0; 47]));
    }
}

#[test]
fn cpu_map() {
    let cpus = |map: CpuMap<'_>| (map.any_cpu(), map.cpus().collect::<Vec<_>>());

    let numbers = [3, CpuMap::ANY, 1];
    let map = CpuMap::Cpus(Array::from(&numbers));
    reads(NONE, User::CpuMap(map), |b| b.u16(0).u16(3).u16(3).u16(u16::MAX).u16(1));
    assert_eq!(cpus(map), (true, vec![3, 1]));

    let mask = [0x8000_0001, 0, 2];
    let map = CpuMap::Mask32(Array::from(&mask));
    reads(NONE, User::CpuMap(map), |b| b.u16(1).u16(3).u16(4).u32(0x8000_0001).u32(0).u32(2));
    assert_eq!(cpus(map), (false, vec![0, 31, 65]));

    let mask = [1 << 63, 5];
    let map = CpuMap::Mask64(Array::from(&mask));
    reads(NONE, User::CpuMap(map), |b| b.u16(1).u16(2).u16(8).raw(&[0; 4]).u64(1 << 63).u64(5));
    assert_eq!(cpus(map), (false, vec![63, 64, 66]));

    let map = CpuMap::Range { any_cpu: 1, start_cpu: 2, end_cpu: 4 };
    reads(NONE, User::CpuMap(map), |b| b.u16(2).u8(1).u8(0).u16(2).u16(4));
    assert_eq!(cpus(map), (true, vec![2, 3, 4]));
    assert_eq!(CpuMap::Range { any_cpu: 0, start_cpu: 0, end_cpu: u16::MAX }.cpus().count(), 65536);
    assert_eq!(CpuMap::Range { any_cpu: 0, start_cpu: 5, end_cpu: 4 }.cpus().count(), 0);

    let map = CpuMap::Other { type_: 9, data: &[1, 2, 3, 4, 5, 6] };
    reads(NONE, User::CpuMap(map), |b| b.u16(9).raw(&[1, 2, 3, 4, 5, 6]));
    assert_eq!(cpus(map), (false, vec![]));

    let type_ = RecordType::CPU_MAP;
    fails(type_, NONE, "cpu", |b| b.u16(0).u16(u16::MAX).raw(&[0; 4]));
    fails(type_, NONE, "mask", |b| b.u16(1).u16(u16::MAX).u16(8).raw(&[0; 12]));
    for size in [0, 1, 2, 16, u16::MAX] {
        fails(type_, NONE, "long_size", |b| b.u16(1).u16(1).u16(size).raw(&[0; 18]));
    }
    let many = vec![0_u16; 65536];
    let map = User::CpuMap(CpuMap::Cpus(Array::from(&many[..])));
    assert!(matches!(refused(&map, NONE), EncodeError::Shape { field: "nr", .. }));
    let own = User::CpuMap(CpuMap::Other { type_: 1, data: &[] });
    assert!(matches!(refused(&own, NONE), EncodeError::Shape { field: "type", .. }));
}

#[test]
fn stats() {
    let data = [
        StatConfigEntry { tag: StatConfig::AGGR_MODE, val: 1 },
        StatConfigEntry { tag: StatConfig::INTERVAL, val: 1000 },
    ];
    reads(NONE, User::StatConfig(StatConfig { data: Array::from(&data) }), |b| {
        [2, 0, 1, 1, 1000].into_iter().fold(b, Bytes::u64)
    });
    fails(RecordType::STAT_CONFIG, NONE, "data", |b| b.u64(u64::MAX).raw(&[0; 64]));
    reads(NONE, User::Stat(Stat { id: 1, cpu: 2, thread: 3, val: 4, ena: 5, run: 6 }), |b| {
        b.u64(1).u32(2).u32(3).u64(4).u64(5).u64(6)
    });
    reads(NONE, User::StatRound(StatRound { type_: StatRound::FINAL, time: 9 }), |b| b.u64(1).u64(9));
}

#[test]
fn event_update() {
    let of = |update| User::EventUpdate(EventUpdate { id: 3, update });
    let head = |b: Bytes, type_| b.u64(type_).u64(3);
    reads(NONE, of(Update::Unit(Text::from("Joules"))), |b| head(b, 0).text("Joules", 8));
    reads(NONE, of(Update::Scale(Scale::from(2.5))), |b| head(b, 1).u64(2.5_f64.to_bits()));
    reads(NONE, of(Update::Name(Text::from("instructions"))), |b| head(b, 2).text("instructions", 16));
    // As perf 6.1 writes them: it counts the 16 bytes before the data twice.
    reads(NONE, of(Update::Unit(Text::from("msec"))), |b| head(b, 0).text("msec", 24));
    reads(NONE, of(Update::Scale(Scale::from(1e-6))), |b| head(b, 1).u64(0x3eb0_c6f7_a0b5_ed8d).raw(&[0; 16]));
    let cpus = CpuMap::Range { any_cpu: 0, start_cpu: 1, end_cpu: 3 };
    reads(NONE, of(Update::Cpus(cpus)), |b| head(b, 3).u16(2).u16(0).u16(1).u16(3));
    let data = [1, 2, 3, 4, 5, 6, 7, 8];
    reads(NONE, of(Update::Other { type_: 4, data: &data }), |b| head(b, 4).raw(&data));
    assert_eq!(Scale::from(2.5).get(), 2.5);
    let own = of(Update::Other { type_: 1, data: &data });
    assert!(matches!(refused(&own, NONE), EncodeError::Shape { field: "type", .. }));
    fails(RecordType::EVENT_UPDATE, NONE, "name", |b| head(b, 2).raw(b"no end!!"));
}

#[test]
fn time_conv() {
    let old = TimeConv { time_shift: 31, time_mult: 5, time_zero: 7, short: None };
    reads(NONE, User::TimeConv(old), |b| b.u64(31).u64(5).u64(7));
    let short = TimeConvShort {
        time_cycles: 1000,
        time_mask: 0xff,
        cap_user_time_zero: 1,
        cap_user_time_short: 1,
        reserved: [0; 6],
    };
    let new = TimeConv { time_shift: 0, time_mult: 2, short: Some(short), ..old };
    reads(NONE, User::TimeConv(new), |b| b.u64(0).u64(2).u64(7).u64(1000).u64(0xff).u8(1).u8(1).raw(&[0; 6]));
    // The counter has 8 bits: 1000 is 0xe8 in them, and 0x10 comes 0x28 cycles later.
    assert_eq!(new.time(0x10), Some(7 + 2 * (1000 + 0x28)));
    assert_eq!(old.time(1 << 31), Some(12));
    assert_eq!(TimeConv { time_shift: 64, ..old }.time(1), None);
    assert_eq!(TimeConv { time_shift: u64::MAX, ..old }.time(1), None);
    fails(RecordType::TIME_CONV, NONE, "time_mask", |b| b.u64(0).u64(2).u64(7).u64(1000));
}

#[test]
fn raw_data() {
    let data = [1, 2, 3, 4, 5];
    let feature = User::HeaderFeature(HeaderFeature { feat_id: 3, data: &data });
    reads(NONE, feature, |b| b.u64(3).raw(&data));
    let compressed = User::Compressed(Compressed { data: &data });
    reads(NONE, compressed, |b| b.raw(&data));
    assert_eq!(encoded(&compressed, NONE, ByteOrder::Big), data);
    let padded = User::Compressed2(Compressed2 { data: &data });
    reads(NONE, padded, |b| b.u64(5).raw(&data).raw(&[0; 3]));
    assert_eq!(encoded(&padded, NONE, ByteOrder::Big).len(), 16);
    for size in [6, u64::MAX] {
        fails(RecordType::COMPRESSED2, NONE, "data", |b| b.u64(size).raw(&data));
    }
}

#[test]
fn bpf_metadata() {
    let entries = [BpfMetadataEntry { key: Text::from("version"), value: Text::from("1.2") }];
    let of = |id_sample| {
        User::BpfMetadata(BpfMetadata {
            prog_name: Text::from("bpf_prog_0011_x"),
            entries: Array::from(&entries),
            id_sample,
        })
    };
    let head = |b: Bytes| b.text("bpf_prog_0011_x", 256).u64(1).text("version", 64).text("1.2", 256);
    reads(NONE, of(&[]), head);
    reads(NONE, of(&[9; 16]), |b| head(b).raw(&[9; 16]));
    fails(RecordType::BPF_METADATA, NONE, "entries", |b| b.text("x", 256).u64(u64::MAX).raw(&[0; 640]));
    fails(RecordType::BPF_METADATA, NONE, "prog_name", |b| b.text("x", 255));
}

#[test]
fn schedstat() {
    let counters = SchedstatCpuCounters {
        yld_count: 1,
        array_exp: 2,
        sched_count: 3,
        sched_goidle: 4,
        ttwu_count: 5,
        ttwu_local: 6,
        rq_cpu_time: 7,
        run_delay: 8,
        pcount: 9,
    };
    let cpu = SchedstatCpu { timestamp: 11, cpu: 2, version: 17, counters: CpuCounters::V15(counters) };
    let head = |b: Bytes, version| b.u64(11).u32(2).u16(version).u16(0);
    reads(NONE, User::SchedstatCpu(cpu), |b| (7..10).fold((1..7).fold(head(b, 17), Bytes::u32), Bytes::u64));
    let other = SchedstatCpu { version: 18, counters: CpuCounters::Other(&[1; 8]), ..cpu };
    reads(NONE, User::SchedstatCpu(other), |b| head(b, 18).raw(&[1; 8]));
    let wrong = User::SchedstatCpu(SchedstatCpu { version: 18, ..cpu });
    assert!(matches!(refused(&wrong, NONE), EncodeError::Shape { field: "counters", .. }));

    for (version, len) in [(15, 36), (16, 36), (17, 45), (18, 8)] {
        let values: Vec<u32> = (0..len).collect();
        let domain = SchedstatDomain { timestamp: 11, cpu: 2, version, domain: 0, counters: Array::from(&values[..]) };
        let named: Option<Vec<_>> = domain.named().map(Iterator::collect);
        assert_eq!(named.is_some(), version < 18);
        if let Some(named) = named {
            assert_eq!(named.len(), len as usize);
            assert_eq!(named[0].0, &if version == 15 { "idle_lb_count" } else { "busy_lb_count" });
            assert_eq!(named.last(), Some(&(&"ttwu_move_balance", len - 1)));
        }
        reads(NONE, User::SchedstatDomain(domain), |b| (0..len).fold(head(b, version), Bytes::u32));
    }
    let short = SchedstatDomain { timestamp: 1, cpu: 2, version: 17, domain: 1, counters: Array::default() };
    assert!(matches!(refused(&User::SchedstatDomain(short), NONE), EncodeError::Shape { field: "counters", .. }));
    assert_eq!(SchedstatDomain::names(17).unwrap()[44 - 12 + 1], "alb_count");
    fails(RecordType::SCHEDSTAT_DOMAIN, NONE, "counters", |b| head(b, 15).raw(&[0; 143]));
}

#[test]
fn defects_say_where() {
    let bytes = [0xff; 16];
    let defect = decoded(RecordType::ID_INDEX, NONE, &bytes, ByteOrder::NATIVE).unwrap_err();
    assert_eq!(
        defect,
        Defect { offset: 8, field: "entries", kind: DefectKind::Truncated { needed: u64::MAX, left: 8 } }
    );
}

fn text(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1_u8.., 0..=len)
}

fn bytes(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=len)
}

fn words(len: usize) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(any::<u64>(), 0..=len)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn headers_round_trip(
        ids in words(4), config: u64, event_id: u64, name in text(64), pid: i32, data in bytes(40), file in text(40),
        build_id in prop::collection::vec(any::<u8>(), 0..=20),
    ) {
        let attr = Attr { config, ..Attr::default() };
        check(User::HeaderAttr(HeaderAttr { attr, ids: Words::from(&ids[..]) }), NONE);
        check(User::HeaderEventType(HeaderEventType { event_id, name: Text::from(&name[..]) }), NONE);
        check(User::HeaderFeature(HeaderFeature { feat_id: event_id, data: &data }), NONE);
        check(User::Compressed(Compressed { data: &data }), NONE);
        check(User::Compressed2(Compressed2 { data: &data }), NONE);
        let build_id = HeaderBuildId { pid, build_id: &build_id, filename: Text::from(&file[..]) };
        check(User::HeaderBuildId(build_id), Misc::BUILD_ID_SIZE);
    }

    #[test]
    fn tables_round_trip(
        entries in prop::collection::vec(any::<(u64, u64, u64, u64)>(), 1..4), guests: bool,
        threads in prop::collection::vec((any::<u64>(), text(16)), 0..4),
        terms in prop::collection::vec(any::<(u64, u64)>(), 0..4), time: u64, priv_ in words(5), type_: u32,
    ) {
        let second: Vec<_> = entries.iter().map(|&(machine_pid, vcpu, ..)| IdIndexGuest { machine_pid, vcpu }).collect();
        let entries: Vec<_> =
            entries.into_iter().map(|(id, idx, cpu, tid)| IdIndexEntry { id, idx, cpu, tid }).collect();
        let guests = guests.then_some(Array::from(&second[..]));
        check(User::IdIndex(IdIndex { entries: Array::from(&entries[..]), guests }), NONE);
        let threads: Vec<_> =
            threads.iter().map(|(pid, comm)| ThreadMapEntry { pid: *pid, comm: Text::from(&comm[..]) }).collect();
        check(User::ThreadMap(ThreadMap { entries: Array::from(&threads[..]) }), NONE);
        let terms: Vec<_> = terms.into_iter().map(|(tag, val)| StatConfigEntry { tag, val }).collect();
        check(User::StatConfig(StatConfig { data: Array::from(&terms[..]) }), NONE);
        check(User::StatRound(StatRound { type_: time, time }), NONE);
        let info = AuxtraceInfo { type_: AuxtraceType(type_), priv_: Words::from(&priv_[..]) };
        check(User::AuxtraceInfo(info), NONE);
        check(User::HeaderTracingData(HeaderTracingData { size: type_ }), NONE);
    }

    #[test]
    fn cpu_maps_round_trip(
        cpus in prop::collection::vec(any::<u16>(), 0..9), mask in prop::collection::vec(any::<u32>(), 0..5),
        mask64 in words(4), any_cpu: u8, start_cpu: u16, end_cpu: u16, id: u64, scale: u64, unit in text(20),
    ) {
        let range = CpuMap::Range { any_cpu, start_cpu, end_cpu };
        let maps = [CpuMap::Cpus(Array::from(&cpus[..])), CpuMap::Mask32(Array::from(&mask[..])),
            CpuMap::Mask64(Array::from(&mask64[..])), range];
        for map in maps {
            check(User::CpuMap(map), NONE);
            check(User::EventUpdate(EventUpdate { id, update: Update::Cpus(map) }), NONE);
        }
        let bits: u32 = mask64.iter().map(|word| word.count_ones()).sum();
        prop_assert_eq!(CpuMap::Mask64(Array::from(&mask64[..])).cpus().count(), bits as usize);
        check(User::EventUpdate(EventUpdate { id, update: Update::Unit(Text::from(&unit[..])) }), NONE);
        check(User::EventUpdate(EventUpdate { id, update: Update::Name(Text::from(&unit[..])) }), NONE);
        check(User::EventUpdate(EventUpdate { id, update: Update::Scale(Scale(scale)) }), NONE);
    }

    #[test]
    fn fixed_records_round_trip(values: [u64; 5], small: [u32; 6], bytes: [u8; 8], msg in text(64), fmt in 0..4_u32) {
        let [size, offset, reference, ip, time] = values;
        let [idx, tid, cpu, pid, code, reserved] = small;
        check(User::Auxtrace(Auxtrace { size, offset, reference, idx, tid, cpu, reserved }), NONE);
        check(User::Stat(Stat { id: size, cpu, thread: tid, val: offset, ena: reference, run: ip }), NONE);
        let error = AuxtraceError { type_: idx, code, cpu, pid, tid, fmt, ip, time: (fmt > 0).then_some(time),
            msg: Text::from(&msg[..]),
            guest: (fmt > 1 && reserved % 2 == 0).then_some(AuxtraceGuest { machine_pid: pid, vcpu: cpu }) };
        check(User::AuxtraceError(error), NONE);
        let short = TimeConvShort { time_cycles: ip, time_mask: time, cap_user_time_zero: bytes[0],
            cap_user_time_short: bytes[1], reserved: [bytes[2]; 6] };
        let conv = TimeConv { time_shift: size, time_mult: offset, time_zero: reference, short: None };
        check(User::TimeConv(conv), NONE);
        check(User::TimeConv(TimeConv { short: Some(short), ..conv }), NONE);
        let _ = TimeConv { short: Some(short), ..conv }.time(time);
    }

    #[test]
    fn programs_and_statistics_round_trip(
        name in text(256), key in text(64), value in text(256), id_sample in bytes(24), timestamp: u64, cpu: u32,
        version in 14..20_u16, counters in prop::collection::vec(any::<u32>(), 45), domain: u16,
    ) {
        let entries = [BpfMetadataEntry { key: Text::from(&key[..]), value: Text::from(&value[..]) }];
        for entries in [&entries[..], &[]] {
            let metadata = BpfMetadata { prog_name: Text::from(&name[..]), entries: Array::from(entries),
                id_sample: &id_sample };
            check(User::BpfMetadata(metadata), NONE);
        }
        let len = SchedstatDomain::names(version).map_or(4, <[_]>::len);
        let domain = SchedstatDomain { timestamp, cpu, version, domain, counters: Array::from(&counters[..len]) };
        check(User::SchedstatDomain(domain), NONE);
        let counters = if (15..=17).contains(&version) {
            CpuCounters::V15(SchedstatCpuCounters { yld_count: cpu, array_exp: 1, sched_count: 2, sched_goidle: 3,
                ttwu_count: 4, ttwu_local: 5, rq_cpu_time: timestamp, run_delay: 7, pcount: 8 })
        } else {
            CpuCounters::Other(&id_sample)
        };
        check(User::SchedstatCpu(SchedstatCpu { timestamp, cpu, version, counters }), NONE);
    }

    #[test]
    fn any_bytes_are_read_without_panics(type_ in 60..90_u32, misc: u16, body in bytes(200), big: bool) {
        let order = ORDERS[usize::from(big)];
        let mut from = Cursor::new(&body, order);
        if let Some(Ok(user)) = get_user(RecordType(type_), Misc::from_bits_retain(misc), &mut from) {
            walk(&user);
        }
    }
}
