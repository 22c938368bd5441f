//! Feature sections: written and read again, cut off, with counts that lie, and as perf writes them.

#![cfg(feature = "replay")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::{Command, Stdio};

use common::{TempDir, skip};
use perfring::record::user::HeaderBuildId;
use perfring::record::{Attr, ByteOrder, DefectKind, EncodeError, Misc, SampleType, Text, Words};
use perfring::replay::Recording;
use perfring::replay::perf_data::features::{
    AuxtraceIndexEntry, BpfBtf, BpfProgInfo, BuildIdEntry, Cache, ClockData, Compressed, CpuDomain, CpuDomainInfo,
    CpuDomains, CpuPlace, CpuTopology, EMachine, EventDesc, GroupDesc, HybridPmu, MemTopology, MemoryNode, NrCpus,
    NumaNode, PmuCap, PmuCaps, PmuMapping, SampleTime,
};
use perfring::replay::perf_data::{Feature, FeatureId};
use proptest::prelude::*;

thread_local! {
    /// Bytes that this thread holds, and the most that it ever held.
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

struct Counting;

// SAFETY: all calls go to the system's allocator as they are; the counter is a plain cell of a thread, without a
// destructor, so that it never allocates and is there as long as the thread is.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (held, most) = HELD.get();
        let held = held.wrapping_add(layout.size());
        // What another thread allocated may be freed here.
        HELD.set((held, if held < usize::MAX / 2 { most.max(held) } else { most }));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let (held, most) = HELD.get();
        HELD.set((held.wrapping_sub(layout.size()), most));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `run` held at once.
fn most_held(run: impl FnOnce()) -> usize {
    HELD.set((0, 0));
    run();
    HELD.get().1
}

const ORDERS: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];

/// What features are made of.
#[derive(Debug)]
struct Seed {
    texts: Vec<Vec<u8>>,
    numbers: Vec<u32>,
    words: Vec<u64>,
    bytes: Vec<u8>,
    order: ByteOrder,
}

impl Seed {
    fn fixed(order: ByteOrder) -> Self {
        Self {
            texts: vec![b"0-3".to_vec(), b"a name".to_vec(), vec![b'x'; 63], vec![b'y'; 64], b"9".to_vec()],
            numbers: vec![7, 0x0102_0304, 99, u32::MAX, 0, 5],
            words: vec![1, u64::MAX, 0x0123_4567_89ab_cdef],
            bytes: (0..120).collect(),
            order,
        }
    }

    fn text(&self, at: usize) -> Text<'_> {
        Text::from(&self.texts[at % self.texts.len()][..])
    }

    fn number(&self, at: usize) -> u32 {
        self.numbers[at % self.numbers.len()]
    }

    fn word(&self, at: usize) -> u64 {
        self.words[at % self.words.len()]
    }

    fn each_text<'a, T>(&'a self, make: impl Fn(usize, Text<'a>) -> T) -> Vec<T> {
        (0..self.texts.len()).map(|at| make(at, self.text(at))).collect()
    }

    /// One of each, and more of those whose layouts differ.
    fn features(&self) -> Vec<Feature<'_>> {
        let (text, number, word) = (|at| self.text(at), |at| self.number(at), |at| self.word(at));
        let words = Words::from(&self.words[..]);
        let caps = || self.each_text(|at, name| PmuCap { name, value: text(at + 1) });
        let attr = |at: usize, size| Attr {
            type_: number(at),
            size,
            config: word(at),
            sample_type: SampleType::from_bits_retain(word(at + 1)),
            wakeup_events: number(at + 2),
            ..Attr::default()
        };
        let place =
            |at: usize, die_id| CpuPlace { core_id: number(at) as i32, socket_id: number(at + 1) as i32, die_id };
        let cpus = |with_die: bool| {
            (0..self.numbers.len()).map(|at| place(at, with_die.then_some(number(at + 2) as i32))).collect()
        };
        let lists = || self.each_text(|_, text| text);
        let domains = |named: bool| {
            self.each_text(|at, cpumask| CpuDomain {
                domain: number(at),
                dname: named.then_some(text(at + 2)),
                cpumask,
                cpulist: text(at + 1),
            })
        };
        let domain_info = |schedstat_version| CpuDomainInfo {
            schedstat_version,
            max_sched_domains: number(0),
            cpus: (0..3).map(|cpu| CpuDomains { cpu, domains: domains(schedstat_version >= 17) }).collect(),
        };
        let sha1 = &self.bytes[..20];
        vec![
            Feature::TracingData(&self.bytes),
            Feature::BuildId(self.each_text(|at, filename| {
                let (misc, len) = if at % 2 == 0 { (Misc::BUILD_ID_SIZE, at % 21) } else { (Misc::empty(), 20) };
                let build_id = HeaderBuildId { pid: number(at) as i32, build_id: &sha1[..len], filename };
                BuildIdEntry { misc: misc | Misc::from_bits_retain(2), build_id }
            })),
            Feature::Hostname(text(0)),
            Feature::OsRelease(text(1)),
            Feature::Version(text(2)),
            Feature::Arch(text(3)),
            Feature::NrCpus(NrCpus { available: number(0), online: number(1) }),
            Feature::CpuDesc(text(4)),
            Feature::CpuId(text(0)),
            Feature::TotalMem(word(0)),
            Feature::Cmdline(lists()),
            Feature::EventDesc(vec![
                EventDesc { attr: attr(0, 128), name: text(0), ids: words },
                EventDesc { attr: attr(1, 64), name: text(1), ids: Words::default() },
                EventDesc { attr: attr(2, 144), name: text(2), ids: words },
            ]),
            Feature::CpuTopology(CpuTopology { sockets: lists(), threads: lists(), ..CpuTopology::default() }),
            Feature::CpuTopology(CpuTopology { sockets: lists(), threads: vec![], cpus: cpus(false), dies: vec![] }),
            Feature::CpuTopology(CpuTopology {
                sockets: lists(),
                threads: lists(),
                cpus: cpus(true),
                dies: vec![Text::from("0-3,9"), Text::from("4")],
            }),
            Feature::NumaTopology(self.each_text(|at, cpus| NumaNode {
                nodenr: number(at),
                mem_total: word(at),
                mem_free: word(at + 1),
                cpus,
            })),
            Feature::BranchStack,
            Feature::PmuMappings(self.each_text(|at, name| PmuMapping { type_: number(at), name })),
            Feature::GroupDesc(self.each_text(|at, name| GroupDesc {
                name,
                leader_idx: number(at),
                nr_members: number(at + 1),
            })),
            Feature::Auxtrace(
                (0..self.words.len())
                    .map(|at| AuxtraceIndexEntry { file_offset: word(at), sz: word(at + 1) })
                    .collect(),
            ),
            Feature::Stat,
            Feature::Cache(self.each_text(|at, type_| Cache {
                level: number(at),
                line_size: number(at + 1),
                sets: number(at + 2),
                ways: number(at + 3),
                type_,
                size: text(at + 1),
                map: text(at + 2),
            })),
            Feature::SampleTime(SampleTime { first: word(0), last: word(1) }),
            Feature::MemTopology(MemTopology {
                block_size: word(0),
                nodes: vec![
                    MemoryNode { node: word(1), size: self.words.len() as u64 * 64 - 3, blocks: words },
                    MemoryNode { node: word(2), size: 0, blocks: Words::default() },
                ],
            }),
            Feature::ClockId(word(1)),
            Feature::DirFormat(word(2)),
            Feature::BpfProgInfo(vec![
                BpfProgInfo { order: self.order, arrays: word(0), info: &self.bytes[..80], data: &self.bytes },
                BpfProgInfo { order: self.order, arrays: word(1), info: &[], data: &[] },
            ]),
            Feature::BpfBtf(vec![BpfBtf { id: number(0), data: &self.bytes }, BpfBtf { id: number(1), data: &[] }]),
            Feature::Compressed(Compressed {
                version: number(0),
                type_: number(1),
                level: number(2),
                ratio: number(3),
                mmap_len: number(4),
            }),
            Feature::CpuPmuCaps(caps()),
            Feature::ClockData(ClockData {
                version: number(0),
                clockid: number(1),
                wall_clock_ns: word(0),
                clockid_time_ns: word(1),
            }),
            Feature::HybridTopology(self.each_text(|at, name| HybridPmu { name, cpus: text(at + 1) })),
            Feature::PmuCaps(self.each_text(|_, pmu_name| PmuCaps { caps: caps(), pmu_name })),
            Feature::CpuDomainInfo(domain_info(16)),
            Feature::CpuDomainInfo(domain_info(17)),
            Feature::EMachine(EMachine { e_machine: number(0), e_flags: number(1) }),
            Feature::ClnSize(number(2)),
            Feature::Unknown { id: FeatureId(200), bytes: &self.bytes },
        ]
    }
}

fn encoded(feature: &Feature<'_>, order: ByteOrder) -> Vec<u8> {
    let mut out = Vec::new();
    feature.encode(order, &mut out).unwrap_or_else(|error| panic!("{feature:?}: {error}"));
    out
}

/// Whether a byte order is in the feature itself.
fn keeps_order(feature: &Feature<'_>) -> bool {
    matches!(feature, Feature::BpfProgInfo(_))
}

#[test]
fn every_feature_that_is_known_is_decoded() {
    let seed = Seed::fixed(ByteOrder::Little);
    let ids: std::collections::BTreeSet<_> = seed.features().iter().map(Feature::id).collect();
    for id in FeatureId::ALL {
        assert!(ids.contains(id), "{id} is no case of this test");
        let decoded = Feature::decode(*id, &[0; 64], ByteOrder::Little);
        assert!(!matches!(decoded, Ok(Feature::Unknown { .. })), "{id}");
    }
    assert_eq!(FeatureId::ALL.len(), 34);
    assert_eq!(FeatureId::ALL.last(), Some(&FeatureId(34)));
    let unknown = Feature::decode(FeatureId(77), b"abc", ByteOrder::Little);
    assert_eq!(unknown, Ok(Feature::Unknown { id: FeatureId(77), bytes: b"abc" }));
}

/// Text without NULs, and now and then a list of CPUs.
fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let text =
        prop_oneof![proptest::collection::vec(1_u8.., 0..150), "[0-9]{1,3}(-[0-9]{1,3})?".prop_map(String::into)];
    proptest::collection::vec(text, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(
        texts in texts(),
        numbers in proptest::collection::vec(any::<u32>(), 2..40),
        words in proptest::collection::vec(any::<u64>(), 1..40),
        bytes in proptest::collection::vec(any::<u8>(), 80..200),
    ) {
        for order in ORDERS {
            let seed = Seed { texts: texts.clone(), numbers: numbers.clone(), words: words.clone(), bytes: bytes.clone(), order };
            for feature in seed.features() {
                let section = encoded(&feature, order);
                let decoded = Feature::decode(feature.id(), &section, order);
                prop_assert_eq!(decoded.as_ref(), Ok(&feature));
                // From what was read, into the other byte order.
                let other = ORDERS[usize::from(order == ORDERS[0])];
                if let (Ok(decoded), false) = (&decoded, keeps_order(&feature)) {
                    let section = encoded(decoded, other);
                    let decoded = Feature::decode(feature.id(), &section, other);
                    prop_assert_eq!(decoded.as_ref(), Ok(&feature));
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(id in 0_u8..40, bytes in proptest::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..300)) {
        for order in ORDERS {
            if let Ok(feature) = Feature::decode(FeatureId(id), &bytes, order) {
                let _ = feature.to_string();
                let _ = feature.encode(order, &mut Vec::new());
            }
        }
    }
}

#[test]
fn a_section_that_ends_early_is_an_error_or_an_older_layout() {
    for order in ORDERS {
        let seed = Seed::fixed(order);
        for feature in seed.features() {
            let section = encoded(&feature, order);
            for len in 0..section.len() {
                match Feature::decode(feature.id(), &section[..len], order) {
                    Err(error) => {
                        assert_eq!(error.feature, feature.id());
                        assert!(error.offset <= len, "{error} of {len} bytes");
                    }
                    Ok(shorter) => match &shorter {
                        Feature::CpuTopology(_) | Feature::CpuDomainInfo(_) | Feature::BuildId(_) => {
                            assert_ne!(shorter, feature);
                        }
                        Feature::TracingData(bytes) | Feature::Unknown { bytes, .. } => assert_eq!(bytes.len(), len),
                        other => panic!("{len} of {} bytes are {other:?}", section.len()),
                    },
                }
            }
            // More than is known is no error; of build ids and domains there is any number.
            let longer = [&section[..], &[0; 3]].concat();
            match (&feature, Feature::decode(feature.id(), &longer, order)) {
                (Feature::BuildId(_) | Feature::CpuDomainInfo(_) | Feature::CpuTopology(_), _) => {}
                (Feature::TracingData(_) | Feature::Unknown { .. }, decoded) => assert!(decoded.is_ok()),
                (_, decoded) => assert_eq!(decoded.as_ref(), Ok(&feature)),
            }
        }
    }
}

#[test]
fn counts_that_lie_take_no_memory() {
    assert!(most_held(|| drop(std::hint::black_box(vec![0_u8; 1 << 20]))) >= 1 << 20, "it is counted");
    let lies = [u64::MAX, 1 << 60, u64::from(u32::MAX), 1 << 31, 0x0fff_ffff, 1 << 20];
    for order in ORDERS {
        let seed = Seed::fixed(order);
        for feature in seed.features() {
            let section = encoded(&feature, order);
            for at in (0..section.len()).step_by(4) {
                for lie in lies {
                    let mut section = section.clone();
                    let both = match order {
                        ByteOrder::Little => (lie.to_le_bytes(), (lie as u32).to_le_bytes()),
                        ByteOrder::Big => (lie.to_be_bytes(), (lie as u32).to_be_bytes()),
                    };
                    for lie in [&both.0[..], &both.1[..]] {
                        let end = section.len().min(at + lie.len());
                        section[at..end].copy_from_slice(&lie[..end - at]);
                        let most = most_held(|| drop(Feature::decode(feature.id(), &section, order)));
                        assert!(most <= 16 * section.len() + 1024, "{}: {most} of {}", feature.id(), section.len());
                    }
                }
            }
        }
    }
}

#[test]
fn counts_that_lie_are_errors() {
    for id in FeatureId::ALL {
        for order in ORDERS {
            let decoded = Feature::decode(*id, &[0xff; 64], order);
            match *id {
                FeatureId::TRACING_DATA | FeatureId::BRANCH_STACK | FeatureId::STAT => assert!(decoded.is_ok(), "{id}"),
                // Numbers, all of which mean something.
                FeatureId::NRCPUS
                | FeatureId::TOTAL_MEM
                | FeatureId::SAMPLE_TIME
                | FeatureId::CLOCKID
                | FeatureId::DIR_FORMAT
                | FeatureId::COMPRESSED
                | FeatureId::CLOCK_DATA
                | FeatureId::E_MACHINE
                | FeatureId::CLN_SIZE => assert!(decoded.is_ok(), "{id}"),
                _ => assert!(decoded.is_err(), "{id}"),
            }
        }
    }
    let huge = |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let error = Feature::decode(FeatureId::AUXTRACE, &huge(&[1 << 60, 0, 0]), ByteOrder::Little).unwrap_err();
    assert_eq!((error.offset, error.field), (8, "entries"));
    assert_eq!(error.kind, DefectKind::Truncated { needed: u64::MAX, left: 16 });
    assert_eq!(
        error.to_string(),
        "AUXTRACE section, byte 8, entries: needs 18446744073709551615 bytes, and 16 are left"
    );
    let section = huge(&[1, 1, 1, 0, 1 << 60, 1 << 60]);
    let error = Feature::decode(FeatureId::MEM_TOPOLOGY, &section, ByteOrder::Little).unwrap_err();
    assert_eq!(error.kind, DefectKind::Truncated { needed: 1 << 57, left: 0 });
    let error = Feature::decode(FeatureId::MEM_TOPOLOGY, &huge(&[2, 1, 0]), ByteOrder::Little).unwrap_err();
    assert_eq!((error.offset, error.kind), (0, DefectKind::Value { value: 2 }));
}

#[test]
fn old_and_new_layouts_of_the_topology_are_told_apart() {
    let place = |core_id, socket_id, die_id| CpuPlace { core_id, socket_id, die_id };
    let places = |with_die: bool| -> Vec<_> {
        (0..64).map(|cpu| place(cpu / 2, cpu / 32, with_die.then_some(cpu / 16))).collect()
    };
    let lists = |of: &[&'static str]| -> Vec<Text<'static>> { of.iter().map(|list| Text::from(*list)).collect() };
    let newest = CpuTopology {
        sockets: lists(&["0-31", "32-63"]),
        threads: lists(&["0-1", "2-3"]),
        cpus: places(true),
        dies: lists(&["0-15", "16-31", "32-47", "48-63"]),
    };
    let older = CpuTopology { cpus: places(false), dies: vec![], ..newest.clone() };
    let oldest = CpuTopology { cpus: vec![], ..older.clone() };
    for order in ORDERS {
        for topology in [&newest, &older, &oldest] {
            let feature = Feature::CpuTopology(topology.clone());
            let section = encoded(&feature, order);
            assert_eq!(Feature::decode(FeatureId::CPU_TOPOLOGY, &section, order).as_ref(), Ok(&feature));
            assert_eq!(CpuTopology::decode(&section, order, 64).as_ref(), Ok(topology));
            // With the number of CPUs at hand, what a newer perf adds is ignored.
            if !topology.dies.is_empty() {
                let longer = [&section[..], &[1; 10]].concat();
                assert_eq!(CpuTopology::decode(&longer, order, 64).as_ref(), Ok(topology));
            }
        }
    }
    let section = encoded(&Feature::CpuTopology(newest.clone()), ByteOrder::Big);
    assert_eq!(CpuTopology::decode(&section, ByteOrder::Big, 999).unwrap_err().field, "cpus");
    for wrong in [CpuTopology { dies: vec![], ..newest.clone() }, CpuTopology { cpus: places(false), ..newest }] {
        let mut out = vec![7];
        let error = Feature::CpuTopology(wrong).encode(ByteOrder::NATIVE, &mut out).unwrap_err();
        assert!(matches!(error, EncodeError::Shape { field: "die_id", .. }), "{error}");
        assert_eq!(out, [7]);
    }
}

#[test]
fn a_topology_that_could_be_many_is_read_once() {
    // Each pair of words could be the count of the dies, and the length of a list of CPUs.
    for word in *b"00,,99" {
        let mut section = vec![0; 8];
        for _ in 0..100_000 {
            section.extend_from_slice(&[word, 0, 0, 0, 4, 0, 0, 0]);
        }
        let Ok(Feature::CpuTopology(topology)) = Feature::decode(FeatureId::CPU_TOPOLOGY, &section, ByteOrder::Little)
        else {
            panic!()
        };
        assert_eq!((topology.cpus.len(), topology.dies.len()), (100_000, 0));
    }
}

#[test]
fn an_attribute_of_a_newer_kernel_is_cut_to_what_is_known() {
    let attr = Attr { type_: 1, config: 3, ..Attr::default() };
    let mut section = Vec::new();
    section.extend_from_slice(&1_u32.to_le_bytes());
    section.extend_from_slice(&(Attr::SIZE as u32 + 16).to_le_bytes());
    let mut bytes = attr.to_bytes(ByteOrder::Little);
    bytes[4..8].copy_from_slice(&(Attr::SIZE as u32 + 16).to_le_bytes());
    section.extend_from_slice(&bytes);
    section.extend_from_slice(&[0xab; 16]);
    section.extend_from_slice(&2_u32.to_le_bytes());
    section.extend_from_slice(b"\x05\0\0\0evt\0\0");
    section.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let Ok(Feature::EventDesc(events)) = Feature::decode(FeatureId::EVENT_DESC, &section, ByteOrder::Little) else {
        panic!()
    };
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].attr, Attr { size: Attr::SIZE as u32 + 16, ..attr });
    assert_eq!((events[0].name, events[0].ids.iter().collect::<Vec<_>>()), (Text::from("evt"), vec![1, 2]));
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let nul = Text::from("a\0b");
    let domain = CpuDomain { domain: 0, dname: None, cpumask: Text::from("1"), cpulist: Text::from("0") };
    let info = CpuDomainInfo {
        schedstat_version: 17,
        max_sched_domains: 1,
        cpus: vec![CpuDomains { cpu: 0, domains: vec![domain] }],
    };
    let long = "x".repeat(70_000);
    let build_id = HeaderBuildId { pid: -1, build_id: &[0; 20], filename: Text::from(&long[..]) };
    let cases = [
        (Feature::Cmdline(vec![Text::from("perf"), nul]), EncodeError::Nul { field: "cmdline", at: 1 }),
        (Feature::CpuDomainInfo(info), EncodeError::Missing { field: "dname" }),
        (
            Feature::BuildId(vec![BuildIdEntry { misc: Misc::empty(), build_id }]),
            EncodeError::TooLarge { size: 8 + 28 + 70_004 },
        ),
    ];
    for (feature, expected) in cases {
        let mut out = vec![1, 2, 3];
        assert_eq!(feature.encode(ByteOrder::NATIVE, &mut out), Err(expected));
        assert_eq!(out, [1, 2, 3]);
    }
    let program = BpfProgInfo { order: ByteOrder::Big, arrays: 0, info: &[], data: &[] };
    let error = Feature::BpfProgInfo(vec![program]).encode(ByteOrder::Little, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, EncodeError::Shape { field: "info", .. }), "{error}");
}

#[test]
fn a_feature_is_shown_in_plain_lines() {
    let shown = |feature: Feature<'_>| feature.to_string();
    assert_eq!(shown(Feature::Hostname(Text::from("a\x1b[31mb"))), "host name: a\\u{1b}[31mb");
    assert_eq!(shown(Feature::Cmdline(vec![Text::from("perf"), Text::from("record")])), "command line: perf record");
    let words = [0b1110_1101, 1];
    let node = MemoryNode { node: 3, size: 65, blocks: Words::from(&words) };
    assert_eq!(node.count(), 7);
    assert_eq!(
        shown(Feature::MemTopology(MemTopology { block_size: 1 << 27, nodes: vec![node] })),
        "memory blocks of 128 MiB:\n  node 3: 896 MiB, blocks 0,2-3,5-7,64"
    );
    let caps = vec![PmuCap { name: Text::from("branches"), value: Text::from("32") }];
    let pmus = vec![PmuCaps { caps, pmu_name: Text::from("cpu_core") }];
    assert_eq!(shown(Feature::PmuCaps(pmus)), "abilities of PMUs:\n  cpu_core: branches=32");
    assert_eq!(shown(Feature::BuildId(vec![])), "build ids: none");
    for feature in Seed::fixed(ByteOrder::NATIVE).features() {
        let text = shown(feature);
        assert!(!text.ends_with('\n') && !text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
    }
}

/// Sections of a recording that perf 6.1 made while a socket filter of two instructions, `prog`, with BTF was loaded.
const BPF: [&str; 2] = [
    "\
        01000000e800000038000000f901000000000000010000002907000059f4a931744dcdc6140000001000000000000000 \
        000000000000000000000000f997e3e6581700000000000000000000000000000000000070726f670000000000000000 \
        000000000000000001000000000000000000000000000000000000000100000001000000180000000000000020000000 \
        00000000dd00000008000000280000000000000001000000000000003000000000000000300000000000000000000000 \
        100000000800000001000000300000000000000000000000000000000000000000000000000000000000000002000000 \
        0000000000000000000000000f1f4400000f1f00554889e531c0c9e984141ec22f2e7079482002c0ffffffff14000000 \
        7079656e000000000300000059f4a931744dcdc6",
    "\
        01000000dd000000470000009feb01001800000000000000280000002800000007000000010000000000000104000000 \
        20000001000000000000000d01000000050000000000000c0200000000696e74006600",
];

#[test]
fn bpf_programs_that_perf_wrote_are_read() {
    let [programs, types] = BPF.map(|hex| -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    });
    let decoded = Feature::decode(FeatureId::BPF_PROG_INFO, &programs, ByteOrder::Little).unwrap();
    let Feature::BpfProgInfo(found) = &decoded else { panic!("{decoded:?}") };
    let [program] = &found[..] else { panic!("{found:?}") };
    assert_eq!((program.type_(), program.id(), program.name()), (Some(1), Some(1833), Some(Text::from("prog"))));
    assert_eq!(program.tag(), Some([0x59, 0xf4, 0xa9, 0x31, 0x74, 0x4d, 0xcd, 0xc6]));
    assert_eq!((program.info.len(), program.data.len()), (232, 56));
    assert_eq!(decoded.to_string(), "BPF programs:\n  id 1833: type 1, tag 59f4a931744dcdc6, name prog");
    assert_eq!(encoded(&decoded, ByteOrder::Little), programs);
    let decoded = Feature::decode(FeatureId::BPF_BTF, &types, ByteOrder::Little).unwrap();
    let Feature::BpfBtf(found) = &decoded else { panic!("{decoded:?}") };
    assert_eq!(found.iter().map(|types| (types.id, types.data.len())).collect::<Vec<_>>(), [(221, 71)]);
    assert_eq!(found[0].data.get(..2), Some(&0xeb9f_u16.to_le_bytes()[..]));
    assert_eq!(encoded(&decoded, ByteOrder::Little), types);
}

/// A recording that perf has made, with these options; none if there is no perf, or it cannot record.
fn recorded_by_perf(dir: &TempDir, options: &[&str]) -> Option<(Recording, std::path::PathBuf)> {
    if let Err(error) = Command::new("perf").arg("--version").stdout(Stdio::null()).status() {
        skip(format_args!("perf: {error}"));
        return None;
    }
    let path = dir.path().join("perf.data");
    let mut record = Command::new("perf");
    record.arg("record").arg("-q").args(options).arg("-o").arg(&path).args(["--", "true"]);
    let output = record.output().unwrap();
    if !output.status.success() {
        skip(format_args!("{record:?}: {}", String::from_utf8_lossy(&output.stderr)));
        return None;
    }
    Some((Recording::open(&path).unwrap(), path))
}

/// What `perf report` says of the header: the lines without `# `.
fn header_by_perf(path: &std::path::Path) -> Vec<String> {
    let mut report = Command::new("perf");
    report.args(["report", "--header-only", "-I", "-f", "-i"]).arg(path);
    let output = report.output().unwrap();
    assert!(output.status.success(), "{report:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim_start_matches('#').trim().to_owned()).collect()
}

/// How perf shows this feature: lines that must be in its report.
fn lines_of_perf(feature: &Feature<'_>) -> Vec<String> {
    let seconds = |ns: u64| format!("{}.{:06}", ns / 1_000_000_000, ns / 1000 % 1_000_000);
    match feature {
        Feature::Hostname(text) => vec![format!("hostname : {text}")],
        Feature::OsRelease(text) => vec![format!("os release : {text}")],
        Feature::Version(text) => vec![format!("perf version : {text}")],
        Feature::Arch(text) => vec![format!("arch : {text}")],
        Feature::NrCpus(cpus) => {
            vec![format!("nrcpus online : {}", cpus.online), format!("nrcpus avail : {}", cpus.available)]
        }
        Feature::CpuDesc(text) => vec![format!("cpudesc : {text}")],
        Feature::CpuId(text) => vec![format!("cpuid : {text}")],
        Feature::TotalMem(kib) => vec![format!("total memory : {kib} kB")],
        Feature::Cmdline(args) => {
            vec![format!("cmdline : {}", args.iter().map(Text::to_string).collect::<Vec<_>>().join(" "))]
        }
        Feature::CpuTopology(topology) => {
            let lists = |what: &str, lists: &[Text<'_>]| -> Vec<String> {
                lists.iter().map(|list| format!("sibling {what}: {list}")).collect()
            };
            let cpus = topology.cpus.iter().enumerate().map(|(cpu, CpuPlace { core_id, socket_id, die_id })| {
                let die = die_id.map(|die| format!("Die ID {die}, ")).unwrap_or_default();
                format!("CPU {cpu}: Core ID {core_id}, {die}Socket ID {socket_id}")
            });
            let mut all = lists(if topology.dies.is_empty() { "cores   " } else { "sockets " }, &topology.sockets);
            all.extend(lists("dies    ", &topology.dies));
            all.extend(lists("threads ", &topology.threads));
            all.extend(cpus);
            all
        }
        Feature::NumaTopology(nodes) => nodes
            .iter()
            .flat_map(|node| {
                let (nr, total, free) = (node.nodenr, node.mem_total, node.mem_free);
                [
                    format!("node{nr} meminfo  : total = {total} kB, free = {free} kB"),
                    format!("node{nr} cpu list : {}", node.cpus),
                ]
            })
            .collect(),
        Feature::PmuMappings(pmus) => {
            let pmus: Vec<_> = pmus.iter().map(|pmu| format!("{} = {}", pmu.name, pmu.type_)).collect();
            vec![format!("pmu mappings: {}", pmus.join(", "))]
        }
        Feature::Cache(caches) => caches
            .iter()
            .map(|cache| format!("L{} {:<15} {:>8} [{}]", cache.level, cache.type_, cache.size, cache.map))
            .collect(),
        Feature::SampleTime(time) => vec![
            format!("time of first sample : {}", seconds(time.first)),
            format!("time of last sample : {}", seconds(time.last)),
        ],
        Feature::MemTopology(topology) => {
            let title = format!("memory nodes (nr {}, block size {:#x}):", topology.nodes.len(), topology.block_size);
            let nodes = topology.nodes.iter().map(|node| {
                let ranges = node.ranges().map(|range| match (range.start(), range.end()) {
                    (start, end) if start == end => start.to_string(),
                    (start, end) => format!("{start}-{end}"),
                });
                let gib = (node.count() * topology.block_size) >> 30;
                format!("{} [{gib}G]: {}", node.node, ranges.collect::<Vec<_>>().join(","))
            });
            std::iter::once(title).chain(nodes).collect()
        }
        Feature::ClockId(resolution) => vec![format!("clockid frequency: {} MHz", 1000 / resolution)],
        Feature::Compressed(how) => vec![format!("compressed : Zstd, level = {}, ratio = {}", how.level, how.ratio)],
        _ => vec![],
    }
}

#[test]
fn sections_that_perf_wrote_say_what_perf_reports() {
    let dir = TempDir::new("features-perf");
    let options = ["-k", "CLOCK_MONOTONIC", "-e", "{cpu-clock:u,page-faults:u}", "-e", "task-clock:u"];
    let Some((recording, path)) = recorded_by_perf(&dir, &options) else { return };
    let metadata = recording.metadata();
    let (order, report) = (metadata.order(), header_by_perf(&path));
    let mut seen = Vec::new();
    for id in metadata.features() {
        let section = metadata.feature_bytes(id).unwrap().expect("it is listed");
        let feature = Feature::decode(id, &section, order).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(feature.id(), id);
        assert!(!matches!(feature, Feature::Unknown { .. }), "{feature:?}");
        for line in lines_of_perf(&feature) {
            assert!(report.contains(&line), "{line:?} is not among {report:#?}");
        }
        // What perf has written is what is written here, byte for byte, but for the room behind file names.
        if !matches!(feature, Feature::BuildId(_)) {
            assert_eq!(encoded(&feature, order), section, "{id}");
        }
        match &feature {
            Feature::EventDesc(events) => {
                assert_eq!(events.len(), metadata.events().len());
                for (described, event) in events.iter().zip(metadata.events()) {
                    assert_eq!((described.attr, described.ids.iter().collect()), (event.attr, event.ids.clone()));
                    let ids: Vec<_> = event.ids.iter().map(u64::to_string).collect();
                    let line = format!("event : name = {}, , id = {{ {} }}, type = ", described.name, ids.join(", "));
                    assert!(report.iter().any(|found| found.starts_with(&line)), "{line:?} is not among {report:#?}");
                }
                assert_eq!(events[0].name, Text::from("cpu-clock:u"));
            }
            Feature::GroupDesc(groups) => {
                assert_eq!(*groups, [GroupDesc { name: Text::from("{anon_group}"), leader_idx: 0, nr_members: 2 }]);
            }
            Feature::ClockData(clock) => {
                assert_eq!((clock.version, clock.clockid), (1, 1));
                assert!(report.contains(&"clockid: monotonic (1)".to_owned()), "{report:#?}");
            }
            Feature::BuildId(entries) => {
                for BuildIdEntry { build_id, .. } in entries {
                    let hex: String = build_id.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
                    let list = Command::new("perf").args(["buildid-list", "-f", "-i"]).arg(&path).output().unwrap();
                    let list = String::from_utf8(list.stdout).unwrap();
                    let line = format!("{hex} {}", build_id.filename);
                    assert!(list.lines().any(|found| found.trim_end() == line), "{line:?} is not in {list}");
                }
            }
            _ => {}
        }
        seen.push(id);
    }
    for id in
        [FeatureId::HOSTNAME, FeatureId::NRCPUS, FeatureId::EVENT_DESC, FeatureId::CPU_TOPOLOGY, FeatureId::CLOCK_DATA]
    {
        assert!(seen.contains(&id), "perf has written no {id}, only {seen:?}");
    }
}
