//! Records as JSON: every field of every type is there, under its name, with its value, and no key twice.

#![cfg(all(feature = "serde", feature = "cli"))]

mod json;

use perfring::record::user::*;
use perfring::record::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::BTreeSet;

const ORDERS: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];

fn value_of(data: &impl serde::Serialize) -> Value {
    let text = serde_json::to_string(data).expect("serializes");
    json::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn decoder(attr: &Attr, order: ByteOrder) -> Decoder {
    let mut decoder = Decoder::empty(order);
    decoder.push(attr, &[]).expect("an attribute that can be decoded");
    decoder
}

/// All that a trailer can hold.
fn trailer() -> (Attr, SampleId, Value) {
    let sample_type = SampleType::TID
        | SampleType::TIME
        | SampleType::ID
        | SampleType::STREAM_ID
        | SampleType::CPU
        | SampleType::IDENTIFIER;
    let attr = Attr {
        sample_type,
        flags: AttrFlags::SAMPLE_ID_ALL,
        read_format: ReadFormat::from_bits_retain(31),
        ..Attr::default()
    };
    let id = SampleId {
        tid: Some(Tid { pid: 11, tid: 12 }),
        time: Some(u64::MAX - 1),
        id: Some(13),
        stream_id: Some(14),
        cpu: Some(15),
        identifier: Some(16),
    };
    let value = json!({
        "pid": 11, "tid": 12, "time": u64::MAX - 1, "id": 13, "stream_id": 14, "cpu": 15, "identifier": 16,
    });
    (attr, id, value)
}

/// The object is the header, exactly these fields, and the trailer, in both byte orders and in this order.
fn check(misc: Misc, body: Body<'_>, fields: Value) {
    let (attr, id, trailer) = trailer();
    for order in ORDERS {
        let mut record = Vec::new();
        let header = Encoder::new(&attr, order).unwrap().encode(misc, &body, &id, &mut record).unwrap();
        let decoder = decoder(&attr, order);
        let decoded = decoder.decode(&record).unwrap();
        assert_eq!(decoded.body, body);
        let mut expected =
            json!({ "type": header.type_.name().unwrap(), "misc": header.misc.bits(), "size": record.len() });
        let object = expected.as_object_mut().unwrap();
        let Value::Object(fields) = fields.clone() else { panic!("no object: {fields}") };
        for (key, value) in fields {
            assert!(object.insert(key.clone(), value).is_none(), "{key}");
        }
        if header.type_.is_kernel() {
            object.insert("sample_id".into(), trailer.clone());
        }
        assert_eq!(value_of(&decoded), expected, "{order:?}");
        let text = serde_json::to_string(&decoded).unwrap();
        assert!(text.starts_with("{\"type\":\""), "{text}");
        assert!(!header.type_.is_kernel() || text.ends_with("\"identifier\":16}}"), "{text}");
        TESTED.with_borrow_mut(|tested| tested.insert(header.type_));
    }
}

thread_local! {
    static TESTED: std::cell::RefCell<BTreeSet<RecordType>> = const { std::cell::RefCell::new(BTreeSet::new()) };
}

const NONE: Misc = Misc::empty();

fn kernel_types() {
    let filename = "/a \"b\"\n".into();
    let (pid, tid, addr, len, pgoff) = (1, 2, 0xffff_ffff_8100_0000, 4, 5);
    let mapping = json!({ "pid": 1, "tid": 2, "addr": addr, "len": 4, "pgoff": 5, "filename": "/a \"b\"\n" });
    check(Misc::MMAP_DATA, Body::Mmap(Mmap { pid, tid, addr, len, pgoff, filename }), mapping.clone());
    let (prot, flags) = (6, 7);
    let with = |more: Value| {
        let mut object = mapping.as_object().unwrap().clone();
        object.extend([("prot".to_owned(), json!(6)), ("flags".to_owned(), json!(7))]);
        object.extend(more.as_object().unwrap().clone());
        Value::Object(object)
    };
    let file = MappedFile::Inode { maj: 8, min: 9, ino: 10, ino_generation: u64::MAX };
    let mmap2 = Mmap2 { pid, tid, addr, len, pgoff, file, prot, flags, filename };
    check(NONE, Body::Mmap2(mmap2), with(json!({ "maj": 8, "min": 9, "ino": 10, "ino_generation": u64::MAX })));
    let file = MappedFile::BuildId(BuildId::new(&[0xab, 0xc, 0]).unwrap());
    check(NONE, Body::Mmap2(Mmap2 { file, ..mmap2 }), with(json!({ "build_id": "ab0c00" })));

    check(NONE, Body::Lost(Lost { id: 1, lost: 2 }), json!({ "id": 1, "lost": 2 }));
    let comm = |comm| Body::Comm(Comm { pid: 1, tid: u32::MAX, comm });
    check(Misc::COMM_EXEC, comm("é".into()), json!({ "pid": 1, "tid": u32::MAX, "comm": "é" }));
    let damaged = json!({ "pid": 1, "tid": u32::MAX, "comm": { "bytes": "61ff" } });
    check(NONE, comm(Text::from(&b"a\xff"[..])), damaged);
    let task = Task { pid: 1, ppid: 2, tid: 3, ptid: 4, time: 5 };
    let fields = json!({ "pid": 1, "ppid": 2, "tid": 3, "ptid": 4, "time": 5 });
    check(NONE, Body::Fork(task), fields.clone());
    check(NONE, Body::Exit(task), fields);
    let throttle = Throttle { time: 1, id: 2, stream_id: 3 };
    let fields = json!({ "time": 1, "id": 2, "stream_id": 3 });
    check(NONE, Body::Throttle(throttle), fields.clone());
    check(NONE, Body::Unthrottle(throttle), fields);
    let words = [2, 100, 200, 7, 8, 9, 17, 18, 19];
    let values = ReadValues::new(ReadFormat::from_bits_retain(31), Words::from(&words)).unwrap();
    let fields = json!({
        "pid": 1, "tid": 2, "time_enabled": 100, "time_running": 200,
        "values": [{ "value": 7, "id": 8, "lost": 9 }, { "value": 17, "id": 18, "lost": 19 }],
    });
    check(NONE, Body::Read(Read { pid, tid, values }), fields);
    let flags = AuxFlags::PARTIAL | AuxFlags::from_bits_retain(1 << 63);
    let fields = json!({ "aux_offset": 1, "aux_size": 2, "flags": (1_u64 << 63) + 4 });
    check(NONE, Body::Aux(Aux { aux_offset: 1, aux_size: 2, flags }), fields);
    check(NONE, Body::ItraceStart(ItraceStart { pid, tid }), json!({ "pid": 1, "tid": 2 }));
    check(NONE, Body::LostSamples(LostSamples { lost: 1 }), json!({ "lost": 1 }));
    check(Misc::SWITCH_OUT, Body::Switch(Switch {}), json!({}));
    let switch = SwitchCpuWide { next_prev_pid: 1, next_prev_tid: 2 };
    check(NONE, Body::SwitchCpuWide(switch), json!({ "next_prev_pid": 1, "next_prev_tid": 2 }));
    let links: Vec<u64> = (0..16).collect();
    let names = ["net", "uts", "ipc", "pid", "user", "mnt", "cgroup"];
    let named = names.iter().enumerate().map(|(at, name)| json!({ "name": name, "dev": 2 * at, "inode": 2 * at + 1 }));
    let link_info: Vec<Value> = named.chain([json!({ "dev": 14, "inode": 15 })]).collect();
    let namespaces = Namespaces { pid, tid, links: Words::from(&links[..]) };
    check(NONE, Body::Namespaces(namespaces), json!({ "pid": 1, "tid": 2, "link_info": link_info }));
    let symbol = Ksymbol { addr, len: 2, ksym_type: 3, flags: 4, name: "f".into() };
    let fields = json!({ "addr": addr, "len": 2, "ksym_type": 3, "flags": 4, "name": "f" });
    check(NONE, Body::Ksymbol(symbol), fields);
    let event = BpfEvent { type_: 1, flags: 2, id: 3, tag: [0xde, 0xad, 0, 1, 2, 3, 4, 5] };
    let fields = json!({ "bpf_event_type": 1, "flags": 2, "id": 3, "tag": "dead000102030405" });
    check(NONE, Body::BpfEvent(event), fields);
    check(NONE, Body::Cgroup(Cgroup { id: 1, path: "/".into() }), json!({ "id": 1, "path": "/" }));
    let poke = TextPoke { addr, old: &[], new: &[0x90, 0xe9] };
    check(NONE, Body::TextPoke(poke), json!({ "addr": addr, "old": "", "new": "90e9" }));
    check(NONE, Body::AuxOutputHwId(AuxOutputHwId { hw_id: 1 }), json!({ "hw_id": 1 }));
    let chain = [CallchainContext::USER.0, 1];
    let deferred = CallchainDeferred { cookie: 9, callchain: chain[..].into() };
    check(NONE, Body::CallchainDeferred(deferred), json!({ "cookie": 9, "callchain": chain }));
}

fn check_user(user: User<'_>, fields: Value) {
    check(NONE, Body::User(user), fields);
}

fn user_types() {
    let attr = Attr { type_: 1, config: u64::MAX, ..Attr::default() };
    let attribute = HeaderAttr { attr, ids: Words::from(&[1, u64::MAX]) };
    check_user(User::HeaderAttr(attribute), json!({ "attr": value_of(&attr), "ids": [1, u64::MAX] }));
    let name = HeaderEventType { event_id: 1, name: "n".into() };
    check_user(User::HeaderEventType(name), json!({ "event_id": 1, "name": "n" }));
    let data = HeaderTracingData { size: 1 };
    check_user(User::HeaderTracingData(data), json!({ "header_tracing_data_size": 1 }));
    let build_id = HeaderBuildId { pid: -1, build_id: &[0x1f; 20], filename: "[k]".into() };
    let fields = json!({ "pid": -1, "build_id": "1f".repeat(20), "filename": "[k]" });
    check_user(User::HeaderBuildId(build_id), fields);
    check_user(User::FinishedRound, json!({}));
    check_user(User::FinishedInit, json!({}));
    let entries = [IdIndexEntry { id: 1, idx: 2, cpu: u64::MAX, tid: 4 }];
    let guests = [IdIndexGuest { machine_pid: 5, vcpu: 6 }];
    let index = IdIndex { entries: Array::from(&entries), guests: None };
    let fields = json!({ "entries": [{ "id": 1, "idx": 2, "cpu": u64::MAX, "tid": 4 }] });
    check_user(User::IdIndex(index), fields.clone());
    let mut fields = fields;
    fields["guests"] = json!([{ "machine_pid": 5, "vcpu": 6 }]);
    check_user(User::IdIndex(IdIndex { guests: Some(Array::from(&guests)), ..index }), fields);

    let info = |type_| User::AuxtraceInfo(AuxtraceInfo { type_, priv_: Words::from(&[1, 2]) });
    check_user(info(AuxtraceType::INTEL_PT), json!({ "auxtrace_info_type": "INTEL_PT", "priv": [1, 2] }));
    check_user(info(AuxtraceType(99)), json!({ "auxtrace_info_type": 99, "priv": [1, 2] }));
    let auxtrace = Auxtrace { size: 1, offset: 2, reference: 3, idx: 4, tid: 5, cpu: 6, reserved: 7 };
    let fields = json!({
        "auxtrace_size": 1, "offset": 2, "reference": 3, "idx": 4, "tid": 5, "cpu": 6, "reserved": 7,
    });
    check_user(User::Auxtrace(auxtrace), fields);
    let error = AuxtraceError {
        type_: 1,
        code: 2,
        cpu: 3,
        pid: 4,
        tid: 5,
        fmt: 0,
        ip: 7,
        time: None,
        msg: "m".into(),
        guest: None,
    };
    let fields = json!({
        "auxtrace_error_type": 1, "code": 2, "cpu": 3, "pid": 4, "tid": 5, "fmt": 0, "ip": 7, "msg": "m",
    });
    check_user(User::AuxtraceError(error), fields.clone());
    let guest = AuxtraceGuest { machine_pid: 9, vcpu: 10 };
    let mut fields = fields;
    for (key, value) in [("fmt", 2), ("time", 8), ("machine_pid", 9), ("vcpu", 10)] {
        fields[key] = json!(value);
    }
    check_user(User::AuxtraceError(AuxtraceError { fmt: 2, time: Some(8), guest: Some(guest), ..error }), fields);

    let threads = [ThreadMapEntry { pid: 1, comm: "a".into() }, ThreadMapEntry { pid: u64::MAX, comm: "".into() }];
    let fields = json!({ "entries": [{ "pid": 1, "comm": "a" }, { "pid": u64::MAX, "comm": "" }] });
    check_user(User::ThreadMap(ThreadMap { entries: Array::from(&threads) }), fields);
    for (map, fields) in cpu_maps() {
        let mut of_record: Map<String, Value> = fields.as_object().unwrap().clone();
        let type_ = of_record.remove("type").unwrap();
        of_record.insert("cpu_map_type".into(), type_);
        // What fills up a record is part of bytes whose form is not known.
        check_user(User::CpuMap(map), of_record.into());
        let update = EventUpdate { id: 5, update: Update::Cpus(map) };
        if !matches!(map, CpuMap::Other { .. }) {
            let fields = json!({ "event_update_type": "CPUS", "id": 5, "cpus": fields });
            check_user(User::EventUpdate(update), fields);
        }
    }
    let config = [StatConfigEntry { tag: 1, val: 2 }];
    let fields = json!({ "data": [{ "tag": 1, "val": 2 }] });
    check_user(User::StatConfig(StatConfig { data: Array::from(&config) }), fields);
    let stat = Stat { id: 1, cpu: 2, thread: 3, val: 4, ena: 5, run: 6 };
    check_user(User::Stat(stat), json!({ "id": 1, "cpu": 2, "thread": 3, "val": 4, "ena": 5, "run": 6 }));
    check_user(User::StatRound(StatRound { type_: 1, time: 2 }), json!({ "stat_round_type": 1, "time": 2 }));
    let updates = [
        (Update::Unit("J".into()), json!({ "event_update_type": "UNIT", "unit": "J" })),
        (Update::Scale(0.25.into()), json!({ "event_update_type": "SCALE", "scale": 0.25 })),
        (Update::Scale(Scale(u64::MAX)), json!({ "event_update_type": "SCALE", "scale": { "bits": u64::MAX } })),
        (Update::Name("n".into()), json!({ "event_update_type": "NAME", "name": "n" })),
        (Update::Other { type_: 9, data: &[0xff; 8] }, json!({ "event_update_type": 9, "data": "ff".repeat(8) })),
    ];
    for (update, mut fields) in updates {
        fields["id"] = json!(5);
        check_user(User::EventUpdate(EventUpdate { id: 5, update }), fields);
    }
    let conv = TimeConv { time_shift: 1, time_mult: 2, time_zero: 3, short: None };
    let fields = json!({ "time_shift": 1, "time_mult": 2, "time_zero": 3 });
    check_user(User::TimeConv(conv), fields.clone());
    let short = TimeConvShort {
        time_cycles: 4,
        time_mask: 5,
        cap_user_time_zero: 6,
        cap_user_time_short: 7,
        reserved: [0, 1, 2, 3, 4, 0xff],
    };
    let mut fields = fields;
    for (key, value) in [("time_cycles", 4), ("time_mask", 5), ("cap_user_time_zero", 6), ("cap_user_time_short", 7)] {
        fields[key] = json!(value);
    }
    fields["reserved"] = json!("0001020304ff");
    check_user(User::TimeConv(TimeConv { short: Some(short), ..conv }), fields);
    let data: Vec<u8> = (0..200).collect();
    let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    let feature = HeaderFeature { feat_id: 1, data: &data };
    check_user(User::HeaderFeature(feature), json!({ "feat_id": 1, "data": hex }));
    check_user(User::Compressed(Compressed { data: &data }), json!({ "data": hex }));
    check_user(User::Compressed2(Compressed2 { data: &data[..199] }), json!({ "data": hex[..398] }));
    let variables = [BpfMetadataEntry { key: "k".into(), value: Text::from(&[0x80][..]) }];
    let metadata = BpfMetadata { prog_name: "p".into(), entries: Array::from(&variables), id_sample: &[1; 8] };
    let fields = json!({
        "prog_name": "p", "entries": [{ "key": "k", "value": { "bytes": "80" } }], "id_sample": "01".repeat(8),
    });
    check_user(User::BpfMetadata(metadata), fields);
    schedstat();
}

fn cpu_maps() -> [(CpuMap<'static>, Value); 5] {
    static DATA: [u8; 6] = [0xa; 6];
    [
        (CpuMap::Cpus(Array::from(&[1, u16::MAX])), json!({ "type": "CPUS", "cpu": [1, u16::MAX] })),
        (CpuMap::Mask32(Array::from(&[5, 6])), json!({ "type": "MASK", "long_size": 4, "mask": [5, 6] })),
        (CpuMap::Mask64(Array::from(&[u64::MAX])), json!({ "type": "MASK", "long_size": 8, "mask": [u64::MAX] })),
        (
            CpuMap::Range { any_cpu: 1, start_cpu: 2, end_cpu: 3 },
            json!({ "type": "RANGE_CPUS", "any_cpu": 1, "start_cpu": 2, "end_cpu": 3 }),
        ),
        (CpuMap::Other { type_: 9, data: &DATA }, json!({ "type": 9, "data": "0a".repeat(6) })),
    ]
}

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
    let cpu = SchedstatCpu { timestamp: 11, cpu: 12, version: 17, counters: CpuCounters::V15(counters) };
    let fields = json!({
        "timestamp": 11, "cpu": 12, "version": 17, "yld_count": 1, "array_exp": 2, "sched_count": 3, "sched_goidle": 4,
        "ttwu_count": 5, "ttwu_local": 6, "rq_cpu_time": 7, "run_delay": 8, "pcount": 9,
    });
    check_user(User::SchedstatCpu(cpu), fields);
    let other = SchedstatCpu { version: 18, counters: CpuCounters::Other(&[1; 8]), ..cpu };
    let fields = json!({ "timestamp": 11, "cpu": 12, "version": 18, "counters": "01".repeat(8) });
    check_user(User::SchedstatCpu(other), fields);
    for version in 15..=18 {
        let values: Vec<u32> = (100..100 + SchedstatDomain::names(version).map_or(4, <[_]>::len) as u32).collect();
        let counters = Array::from(&values[..]);
        let domain = SchedstatDomain { timestamp: 11, cpu: 12, version, domain: 13, counters };
        let mut fields = json!({ "timestamp": 11, "cpu": 12, "version": version, "domain": 13 });
        match SchedstatDomain::names(version) {
            Some(names) => names.iter().zip(&values).for_each(|(name, value)| fields[*name] = json!(value)),
            None => fields["counters"] = json!(values),
        }
        check_user(User::SchedstatDomain(domain), fields);
    }
}

#[test]
fn every_type_but_samples() {
    kernel_types();
    user_types();
    let mut tested = TESTED.take();
    assert!(tested.insert(RecordType::SAMPLE), "samples are tested apart");
    assert_eq!(tested.into_iter().collect::<Vec<_>>(), RecordType::ALL, "every type");
}

/// An event whose samples have all fields, and such a sample.
fn with_all_fields(weight: Weight, test: impl Fn(&Attr, &SampleFields<'_>)) {
    let weights = match weight {
        Weight::Full(_) => SampleType::WEIGHT,
        Weight::Struct { .. } => SampleType::WEIGHT_STRUCT,
    };
    let attr = Attr {
        sample_type: SampleType::from_bits_retain((1 << 24) - 1).difference(SampleType::WEIGHT) | weights,
        read_format: ReadFormat::GROUP | ReadFormat::ID | ReadFormat::TOTAL_TIME_ENABLED,
        branch_sample_type: BranchSampleType::HW_INDEX | BranchSampleType::COUNTERS,
        // ax, ip, a register without a name, and both halves of xmm0.
        sample_regs_user: 1 | 1 << 8 | 1 << 25 | 3 << 32,
        sample_regs_intr: 1 << 7,
        sample_stack_user: 16,
        flags: AttrFlags::SAMPLE_ID_ALL,
        ..Attr::default()
    };
    let stack: Vec<u8> = (0x10..0x20).collect();
    // A word of flags has its fields elsewhere in the other byte order, so that the words are those of this machine's.
    let flags = match ByteOrder::NATIVE {
        ByteOrder::Little => 1 | 1 << 3 | 0x1234 << 4 | 9 << 20 | 1 << 24 | 2 << 26 | 5 << 30 | 7 << 33,
        ByteOrder::Big => 0,
    };
    let branch = [0x1000, 0x2000, flags];
    let fields = SampleFields {
        identifier: Some(1),
        ip: Some(u64::MAX),
        tid: Some(Tid { pid: 2, tid: 3 }),
        time: Some(4),
        addr: Some(5),
        id: Some(6),
        stream_id: Some(7),
        cpu: Some(8),
        period: Some(9),
        read: ReadValues::new(attr.read_format, Words::from(&[1, 20, 30, 40])),
        callchain: Some([CallchainContext::USER.0, 10][..].into()),
        raw: Some(&[0xca, 0xfe, 0, 1]),
        branch_stack: Some(BranchStack {
            hw_idx: Some(11),
            entries: BranchEntries::from_words(&branch),
            counters: Some(Words::from(&[12])),
        }),
        regs_user: Regs::new(RegsAbi::Abi64, attr.sample_regs_user, Words::from(&[13, 14, 15, 16, 17])),
        stack_user: Some(StackUser { data: &stack, dyn_size: 8 }),
        weight: Some(weight),
        data_src: Some(
            DataSrc(1 << 60)
                .with_mem_op(MemOp::LOAD)
                .with_mem_lvl(MemLvl::HIT | MemLvl::L2)
                .with_mem_lvl_num(MemLvlNum::L3)
                .with_mem_hops(MemHops(7))
                .with_mem_snoopx(MemSnoopx::PEER),
        ),
        transaction: Some(Transaction(0x7_0000_0022)),
        regs_intr: Some(Regs::NONE),
        phys_addr: Some(18),
        cgroup: Some(19),
        data_page_size: Some(4096),
        code_page_size: Some(1 << 21),
        aux: Some(&[0xee; 8]),
    };
    test(&attr, &fields);
}

fn expected_sample(size: usize) -> Value {
    json!({
        "type": "SAMPLE", "misc": 2, "size": size,
        "identifier": 1, "ip": u64::MAX, "pid": 2, "tid": 3, "time": 4, "addr": 5, "id": 6, "stream_id": 7, "cpu": 8,
        "period": 9,
        "read": { "time_enabled": 20, "values": [{ "value": 30, "id": 40 }] },
        "callchain": [CallchainContext::USER.0, 10],
        "raw": "cafe0001",
        "hw_idx": 11,
        "branch_stack": [{
            "from": 0x1000, "to": 0x2000, "mispred": true, "predicted": false, "in_tx": false, "abort": true,
            "cycles": 0x1234, "type": 9, "spec": 1, "new_type": 2, "priv": 5, "reserved": 7, "counters": 12,
        }],
        "regs_user": { "abi": 2, "mask": 1 | 1 << 8 | 1 << 25 | 3_u64 << 32, "values": [13, 14, 15, 16, 17] },
        "stack_user": { "size": 16, "dyn_size": 8, "data": "101112131415161718191a1b1c1d1e1f" },
        "data_src": {
            "val": (1_u64 << 60) | 2 | (0x22 << 5) | (3 << 33) | (2 << 38) | (7 << 43),
            "mem_op": ["LOAD"], "mem_lvl": ["HIT", "L2"], "mem_lvl_num": "L3", "mem_snoopx": ["PEER"], "mem_hops": 7,
            "mem_rsvd": 512,
        },
        "transaction": 0x7_0000_0022_u64,
        "regs_intr": { "abi": 0, "mask": 0, "values": [] },
        "phys_addr": 18, "cgroup": 19, "data_page_size": 4096, "code_page_size": 1 << 21,
        "aux": "ee".repeat(8),
    })
}

#[test]
#[cfg(target_endian = "little")]
fn a_sample_with_all_fields() {
    for weight in [Weight::Full(u64::MAX), Weight::Struct { var1_dw: 1, var2_w: 2, var3_w: 3 }] {
        with_all_fields(weight, |attr, fields| {
            for order in ORDERS {
                let mut record = Vec::new();
                Encoder::new(attr, order).unwrap().sample(Misc::from_bits_retain(2), fields, &mut record).unwrap();
                let mut decoder = decoder(attr, order);
                let mut expected = expected_sample(record.len());
                match weight {
                    Weight::Full(weight) => expected["weight"] = json!(weight),
                    Weight::Struct { var1_dw, var2_w, var3_w } => {
                        expected["weight"] = json!(var1_dw);
                        expected["var2_w"] = json!(var2_w);
                        expected["var3_w"] = json!(var3_w);
                    }
                }
                assert_eq!(value_of(&decoder.decode(&record).unwrap()), expected, "{order:?}");

                decoder.set_arch(Some(Arch::X86_64));
                let decoded = decoder.decode(&record).unwrap();
                expected["regs_user"] = json!({
                    "abi": 2, "mask": attr.sample_regs_user,
                    "registers": { "ax": 13, "ip": 14, "25": 15, "xmm0": 16, "xmm0_high": 17 },
                });
                expected["regs_intr"] = json!({ "abi": 0, "mask": 0, "registers": {} });
                assert_eq!(value_of(&decoded), expected, "{order:?}");
            }
        });
    }
}

#[test]
fn registers_have_their_names_on_this_machine() {
    assert_eq!(Decoder::new(&Attr::default()).unwrap().arch(), Arch::NATIVE);
    assert_eq!(Decoder::empty(ByteOrder::NATIVE).arch(), None, "records of another machine");
    for arch in [Arch::X86_64, Arch::Arm64] {
        let mask = u64::MAX;
        let values: Vec<u64> = (0..64).collect();
        let attr = Attr { sample_type: SampleType::REGS_USER, sample_regs_user: mask, ..Attr::default() };
        let regs_user = Regs::new(RegsAbi::Abi64, mask, Words::from(&values[..]));
        let mut record = Vec::new();
        let encoder = Encoder::new(&attr, ByteOrder::NATIVE).unwrap();
        encoder.sample(NONE, &SampleFields { regs_user, ..SampleFields::default() }, &mut record).unwrap();
        let mut decoder = Decoder::new(&attr).unwrap();
        decoder.set_arch(Some(arch));
        let value = value_of(&decoder.decode(&record).unwrap());
        let registers = value["regs_user"]["registers"].as_object().unwrap();
        assert_eq!(registers.len(), 64, "{arch:?}: every name once");
        for (name, value) in registers {
            let index = arch.register_index(name).map(u64::from);
            let index = index.or_else(|| Some(u64::from(arch.register_index(name.strip_suffix("_high")?)?) + 1));
            assert_eq!(value.as_u64(), index.or_else(|| name.parse().ok()), "{name}");
        }
    }
}

#[test]
fn what_is_not_known_is_there_as_bytes() {
    let (attr, id, trailer) = trailer();
    let encoder = Encoder::new(&attr, ByteOrder::Little).unwrap();
    let mut record = Vec::new();
    encoder.encode(NONE, &Body::Lost(Lost { id: 1, lost: 2 }), &id, &mut record).unwrap();
    record.splice(24..24, [0xab; 8]);
    record[6] += 8;
    let decoder = decoder(&attr, ByteOrder::Little);
    let expected = json!({
        "type": "LOST", "misc": 0, "size": record.len(), "id": 1, "lost": 2, "sample_id": trailer, "rest": "ab".repeat(8),
    });
    assert_eq!(value_of(&decoder.decode(&record).unwrap()), expected);

    record[..4].copy_from_slice(&63_u32.to_le_bytes());
    let body: String = record[8..].iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = json!({ "type": 63, "misc": 0, "size": record.len(), "body": body, "sample_id": trailer });
    assert_eq!(value_of(&decoder.decode(&record).unwrap()), expected);
    record[..4].copy_from_slice(&4000_u32.to_le_bytes());
    let expected = json!({ "type": 4000, "misc": 0, "size": record.len(), "body": body });
    assert_eq!(value_of(&decoder.decode(&record).unwrap()), expected);

    // A sample, too, and without a trailer there is none.
    let attr = Attr { sample_type: SampleType::IP, ..Attr::default() };
    let mut record = Vec::new();
    let encoder = Encoder::new(&attr, ByteOrder::Little).unwrap();
    encoder.sample(NONE, &SampleFields { ip: Some(1), ..SampleFields::default() }, &mut record).unwrap();
    record.extend([1; 8]);
    record[6] += 8;
    let decoder = self::decoder(&attr, ByteOrder::Little);
    let expected = json!({ "type": "SAMPLE", "misc": 0, "size": 24, "ip": 1, "rest": "01".repeat(8) });
    assert_eq!(value_of(&decoder.decode(&record).unwrap()), expected);
}

#[test]
fn an_attribute_names_its_bits() {
    let attr = Attr {
        type_: 2,
        size: 144,
        config: 1,
        sample_period: u64::MAX,
        sample_type: SampleType::IP | SampleType::WEIGHT_STRUCT | SampleType::from_bits_retain(1 << 40),
        read_format: ReadFormat::GROUP | ReadFormat::LOST,
        flags: (AttrFlags::DISABLED | AttrFlags::MMAP2 | AttrFlags::from_bits_retain(1 << 63)).with_precise_ip(2),
        wakeup_events: 3,
        bp_type: 4,
        config1: 5,
        config2: 6,
        branch_sample_type: BranchSampleType::ANY,
        sample_regs_user: 7,
        sample_stack_user: 8,
        clockid: -9,
        sample_regs_intr: 10,
        aux_watermark: 11,
        sample_max_stack: 12,
        aux_sample_size: 13,
        aux_action: 14,
        sig_data: 15,
        config3: 16,
        config4: 17,
    };
    let expected = json!({
        "type": 2, "size": 144, "config": 1, "sample_period": u64::MAX,
        "sample_type": ["IP", "WEIGHT_STRUCT", 1_u64 << 40],
        "read_format": ["GROUP", "LOST"],
        "flags": ["disabled", "mmap2", 1_u64 << 63],
        "precise_ip": 2, "wakeup_events": 3, "bp_type": 4, "config1": 5, "config2": 6,
        "branch_sample_type": ["ANY"],
        "sample_regs_user": 7, "sample_stack_user": 8, "clockid": -9, "sample_regs_intr": 10, "aux_watermark": 11,
        "sample_max_stack": 12, "aux_sample_size": 13, "aux_action": 14, "sig_data": 15, "config3": 16, "config4": 17,
    });
    assert_eq!(value_of(&attr), expected);
}

#[test]
fn parts_are_data_of_their_own() {
    let header = Header { type_: RecordType(63), misc: Misc::COMM_EXEC, size: 8 };
    assert_eq!(value_of(&header), json!({ "type": 63, "misc": 1 << 13, "size": 8 }));
    assert_eq!(value_of(&RecordType::MMAP2), json!("MMAP2"));
    let (_, id, trailer) = trailer();
    assert_eq!(value_of(&id), trailer);
    assert_eq!(value_of(&SampleId { cpu: Some(1), ..SampleId::default() }), json!({ "cpu": 1 }));
    assert_eq!(value_of(&StatRound { type_: 1, time: 2 }), json!({ "type": 1, "time": 2 }));
    assert_eq!(value_of(&User::StatRound(StatRound { type_: 1, time: 2 })), json!({ "type": 1, "time": 2 }));
    assert_eq!(value_of(&Body::LostSamples(LostSamples { lost: 3 })), json!({ "lost": 3 }));
    let stack = BranchStack { hw_idx: None, entries: BranchEntries::from_words(&[1, 2, 0]), counters: None };
    assert_eq!(value_of(&stack)["entries"][0]["to"], json!(2));
}

/// Words of which many are small, so that they count and mean something.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![3 => 0..4_u64, 1 => any::<u64>(), 1 => (0..4_u64, 0..4_u64).prop_map(|(a, b)| a << 32 | b)];
    (prop::collection::vec(word, 0..60), prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(words, tail)| {
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.extend(tail);
        bytes
    })
}

#[test]
fn all_that_decodes_is_valid_json_with_each_key_once() {
    let decoded = Cell::new([0_u32; 100]);
    // Samples are as varied as all others together.
    let types = prop_oneof![2 => 0..24_u32, 3 => 64..88_u32, 2 => Just(9)];
    let bits = any::<[u64; 2]>().prop_map(|[a, b]| a & b);
    let attrs = (bits.clone(), bits.clone(), bits, 0..32_u64, any::<bool>(), 0..1_u64 << 20);
    let strategy = (types, any::<u16>(), body(), attrs, any::<bool>());
    let config = ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(&strategy, |(type_, misc, body, attr, big)| {
        let (sample_type, sample_regs_user, sample_regs_intr, read_format, id_all, branches) = attr;
        let attr = Attr {
            sample_type: SampleType::from_bits_retain(sample_type),
            read_format: ReadFormat::from_bits_retain(read_format),
            branch_sample_type: BranchSampleType::from_bits_retain(branches),
            flags: if id_all { AttrFlags::SAMPLE_ID_ALL } else { AttrFlags::empty() },
            sample_regs_user,
            sample_regs_intr,
            ..Attr::default()
        };
        let order = ORDERS[usize::from(big)];
        let mut decoder = Decoder::empty(order);
        if decoder.push(&attr, &[]).is_err() {
            return Ok(());
        }
        decoder.set_arch([None, Some(Arch::X86_64), Some(Arch::Arm64)][usize::from(misc % 3)]);
        let size = (Header::SIZE + body.len()) as u16;
        let header = Header { type_: RecordType(type_), misc: Misc::from_bits_retain(misc), size };
        let record = [&header.to_bytes(order)[..], &body].concat();
        if let Ok(record) = decoder.decode(&record) {
            let text = serde_json::to_string(&record).expect("serializes");
            let value = json::parse(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
            prop_assert_eq!(&value["type"], &header.type_.name().map_or(json!(type_), Value::from));
            prop_assert_eq!(&value["size"], &json!(size));
            prop_assert_eq!(
                value.get("sample_id").is_some(),
                !matches!(record.body, Body::Sample(_)) && record.sample_id() != SampleId::default()
            );
            let mut counts = decoded.get();
            counts[type_ as usize] += 1;
            decoded.set(counts);
        }
        Ok(())
    });
    run.unwrap();
    let never: Vec<_> = RecordType::ALL.iter().filter(|type_| decoded.get()[type_.0 as usize] == 0).collect();
    assert!(never.is_empty(), "bytes of every type decode: {never:?}");
}
