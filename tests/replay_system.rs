//! What a recorder says of its machine: as perf says it of this one, and of machines that are made of files.

#![cfg(feature = "replay")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use common::{TempDir, skip};
use perfring::record::Text;
use perfring::replay::perf_data::features::{
    Cache, ClockData, CpuPlace, CpuTopology, MemTopology, NrCpus, NumaNode, PmuCap, PmuCaps, PmuMapping,
};
use perfring::replay::perf_data::{Feature, FeatureId};
use perfring::replay::{Recording, System};

/// A recording that perf has made of nothing much; none if there is no perf, or it cannot record.
fn recorded_by_perf(dir: &TempDir) -> Option<Recording> {
    if let Err(error) = Command::new("perf").arg("--version").stdout(Stdio::null()).status() {
        skip(format_args!("perf: {error}"));
        return None;
    }
    let path = dir.path().join("perf.data");
    let mut record = Command::new("perf");
    record.args(["record", "-q", "-k", "CLOCK_MONOTONIC", "-e", "cpu-clock:u", "-o"]).arg(&path).args(["--", "true"]);
    let output = record.output().unwrap();
    if !output.status.success() {
        skip(format_args!("{record:?}: {}", String::from_utf8_lossy(&output.stderr)));
        return None;
    }
    Some(Recording::open(&path).unwrap())
}

#[test]
fn this_machine_is_described_as_perf_describes_it() {
    let dir = TempDir::new("system-perf");
    let Some(recording) = recorded_by_perf(&dir) else { return };
    let metadata = recording.metadata();
    let system = System::collect().with_clock(1, 1, || 7);
    let mut compared = BTreeSet::new();
    for id in metadata.features() {
        let section = metadata.feature_bytes(id).unwrap().expect("it is listed");
        let perf = Feature::decode(id, &section, metadata.order()).unwrap_or_else(|error| panic!("{error}"));
        let Some(ours) = system.feature(id) else { continue };
        compared.insert(id);
        match (&ours, &perf) {
            (Feature::Version(version), Feature::Version(_)) => {
                assert_eq!(version.to_string(), concat!("perfring ", env!("CARGO_PKG_VERSION")));
            }
            // Directories have no order.
            (Feature::PmuMappings(ours), Feature::PmuMappings(perf)) => {
                let sorted = |pmus: &[PmuMapping<'_>]| -> BTreeSet<_> {
                    pmus.iter().map(|pmu| (pmu.name.to_string(), pmu.type_)).collect()
                };
                assert_eq!(sorted(ours), sorted(perf));
            }
            (Feature::CpuPmuCaps(ours), Feature::CpuPmuCaps(perf)) => assert_eq!(caps(ours), caps(perf)),
            (Feature::PmuCaps(ours), Feature::PmuCaps(perf)) => {
                let sorted = |pmus: &[PmuCaps<'_>]| -> BTreeSet<_> {
                    pmus.iter().map(|pmu| (pmu.pmu_name.to_string(), caps(&pmu.caps))).collect()
                };
                assert_eq!(sorted(ours), sorted(perf));
            }
            // What is free changes.
            (Feature::NumaTopology(ours), Feature::NumaTopology(perf)) => {
                let fixed = |nodes: &[NumaNode<'_>]| -> Vec<_> {
                    nodes.iter().map(|node| (node.nodenr, node.mem_total, node.cpus.to_string())).collect()
                };
                assert_eq!(fixed(ours), fixed(perf));
                assert!(ours.iter().all(|node| node.mem_free <= node.mem_total));
            }
            (Feature::ClockData(ours), Feature::ClockData(perf)) => {
                assert_eq!((ours.version, ours.clockid), (perf.version, perf.clockid));
                assert_eq!(ours.clockid_time_ns, 7);
            }
            _ => assert_eq!(ours, perf, "{id}"),
        }
    }
    // perf leaves out less than this only where the machine does not say it.
    for id in [FeatureId::HOSTNAME, FeatureId::OSRELEASE, FeatureId::ARCH, FeatureId::NRCPUS, FeatureId::CLOCK_DATA] {
        assert!(compared.contains(&id), "{id} was not compared, only {compared:?}");
    }
    // Whatever perf has written of the machine is here, too.
    let of_the_recording = [
        FeatureId::BUILD_ID,
        FeatureId::CMDLINE,
        FeatureId::EVENT_DESC,
        FeatureId::SAMPLE_TIME,
        FeatureId::BPF_PROG_INFO,
        FeatureId::BPF_BTF,
        FeatureId::HYBRID_TOPOLOGY,
        FeatureId::CPU_DOMAIN_INFO,
        FeatureId::E_MACHINE,
        FeatureId::CLN_SIZE,
    ];
    let missing: Vec<_> =
        metadata.features().filter(|id| !of_the_recording.contains(id) && !compared.contains(id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn caps(caps: &[PmuCap<'_>]) -> BTreeSet<(String, String)> {
    caps.iter().map(|cap| (cap.name.to_string(), cap.value.to_string())).collect()
}

/// Files of `/proc` and `/sys`, each with a newline at its end.
fn machine(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }
}

/// Where nothing is mounted.
#[test]
fn what_is_hidden_is_left_out() {
    let dir = TempDir::new("system-empty");
    let system = System::collect_from(dir.path());
    let ids: Vec<_> = system.sections().map(|(id, _)| id).filter(|id| *id != FeatureId::ARCH).collect();
    assert_eq!(ids, [FeatureId::VERSION]);
    // Files without what is looked for say nothing, either.
    machine(
        dir.path(),
        &[
            ("proc/sys/kernel/hostname", ""),
            ("proc/cpuinfo", "processor : 0\nstepping : 1\n"),
            ("proc/meminfo", "MemTotal: lots"),
            ("sys/devices/system/cpu/present", "0-4000000000"),
            ("sys/devices/system/cpu/online", "all"),
            ("sys/devices/system/node/online", "0"),
            ("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: 12 kB"),
            ("sys/devices/system/memory/block_size_bytes", "none"),
        ],
    );
    assert_eq!(System::collect_from(dir.path()), system);
}

#[test]
fn a_machine_with_cpus_that_are_offline_and_memory_of_two_nodes() {
    let dir = TempDir::new("system-large");
    let cpu = |cpu: u32, file: &str| format!("sys/devices/system/cpu/cpu{cpu}/{file}");
    let mut files: Vec<(String, &str)> = Vec::new();
    // CPU 2 is offline.
    for (number, core, package, threads, die) in
        [(0, "4", "0-1", "0-1", "0"), (1, "4", "0-1", "0-1", "0"), (3, "9", "3", "3", "1")]
    {
        files.push((cpu(number, "topology/core_id"), core));
        files.push((cpu(number, "topology/physical_package_id"), if number == 3 { "1" } else { "0" }));
        files.push((cpu(number, "topology/die_id"), die));
        // The older names, and the newer ones.
        files.push((
            cpu(number, if number == 3 { "topology/core_siblings_list" } else { "topology/package_cpus_list" }),
            package,
        ));
        files.push((cpu(number, "topology/thread_siblings_list"), threads));
        files.push((cpu(number, "topology/die_cpus_list"), threads));
        for (index, level, type_, size) in [(0, "1", "Data", "32K"), (1, "2", "Unified", "1024K")] {
            let mut file = |name: &str, text| files.push((cpu(number, &format!("cache/index{index}/{name}")), text));
            file("level", level);
            file("type", type_);
            file("size", size);
            file("coherency_line_size", "64");
            file("number_of_sets", "128");
            file("ways_of_associativity", "8");
            file("shared_cpu_list", threads);
        }
    }
    let others = [
        ("proc/sys/kernel/hostname", "big"),
        ("proc/sys/kernel/osrelease", "6.99.0"),
        ("proc/sys/kernel/arch", "x86_64"),
        ("proc/cpuinfo", CPUINFO),
        ("proc/meminfo", "MemTotal:       1000 kB\nMemFree:  10 kB"),
        ("sys/devices/system/cpu/present", "0-3"),
        ("sys/devices/system/cpu/online", "0-1,3"),
        ("sys/devices/system/node/online", "0,2"),
        ("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: 600 kB\nNode 0 MemFree: 5 kB"),
        ("sys/devices/system/node/node0/cpulist", "0-3"),
        ("sys/devices/system/node/node2/meminfo", "Node 2 MemTotal: 400 kB\nNode 2 MemFree: 4 kB"),
        ("sys/devices/system/node/node2/cpulist", ""),
        ("sys/devices/system/node/node0/memory0/state", "online"),
        ("sys/devices/system/node/node0/memory65/state", "online"),
        ("sys/devices/system/node/node2/memory1/state", "online"),
        ("sys/devices/system/memory/block_size_bytes", "8000000"),
        ("sys/bus/event_source/devices/cpu/type", "4"),
        ("sys/bus/event_source/devices/cpu/caps/branches", "32"),
        ("sys/bus/event_source/devices/cpu/caps/pmu_name", "large"),
        ("sys/bus/event_source/devices/software/type", "1"),
        ("sys/bus/event_source/devices/intel_pt/type", "8"),
        ("sys/bus/event_source/devices/intel_pt/caps/mtc", "1"),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&path[..], *text)).chain(others).collect();
    machine(dir.path(), &files);
    let system = System::collect_from(dir.path());
    let text = |text: &'static str| Text::from(text);
    let feature = |id| system.feature(id).unwrap_or_else(|| panic!("no {id}"));
    assert_eq!(feature(FeatureId::HOSTNAME), Feature::Hostname(text("big")));
    assert_eq!(feature(FeatureId::OSRELEASE), Feature::OsRelease(text("6.99.0")));
    assert_eq!(feature(FeatureId::ARCH), Feature::Arch(text("x86_64")));
    assert_eq!(feature(FeatureId::NRCPUS), Feature::NrCpus(NrCpus { available: 4, online: 3 }));
    assert_eq!(feature(FeatureId::CPUDESC), Feature::CpuDesc(text("Some CPU @ 2.00GHz")));
    assert_eq!(feature(FeatureId::CPUID), Feature::CpuId(text("GenuineIntel,6,85,7")));
    assert_eq!(feature(FeatureId::TOTAL_MEM), Feature::TotalMem(1000));
    let place = |core_id, socket_id, die_id| CpuPlace { core_id, socket_id, die_id: Some(die_id) };
    assert_eq!(
        feature(FeatureId::CPU_TOPOLOGY),
        Feature::CpuTopology(CpuTopology {
            sockets: vec![text("0-1"), text("3")],
            threads: vec![text("0-1"), text("3")],
            cpus: vec![place(4, 0, 0), place(4, 0, 0), place(-1, -1, -1), place(9, 1, 1)],
            dies: vec![text("0-1"), text("3")],
        })
    );
    let cache = |level, type_, size, map| Cache {
        level,
        line_size: 64,
        sets: 128,
        ways: 8,
        type_: text(type_),
        size: text(size),
        map: text(map),
    };
    assert_eq!(
        feature(FeatureId::CACHE),
        Feature::Cache(vec![
            cache(1, "Data", "32K", "0-1"),
            cache(1, "Data", "32K", "3"),
            cache(2, "Unified", "1024K", "0-1"),
            cache(2, "Unified", "1024K", "3"),
        ])
    );
    let node = |nodenr, mem_total, mem_free, cpus| NumaNode { nodenr, mem_total, mem_free, cpus: text(cpus) };
    assert_eq!(
        feature(FeatureId::NUMA_TOPOLOGY),
        Feature::NumaTopology(vec![node(0, 600, 5, "0-3"), node(2, 400, 4, "")])
    );
    let Feature::MemTopology(MemTopology { block_size, nodes }) = feature(FeatureId::MEM_TOPOLOGY) else { panic!() };
    let ranges: Vec<_> = nodes.iter().map(|node| (node.node, node.size, node.ranges().collect::<Vec<_>>())).collect();
    assert_eq!((block_size, ranges), (1 << 27, vec![(0, 66, vec![0..=0, 65..=65]), (2, 2, vec![1..=1])]));
    let pmu = |type_, name| PmuMapping { type_, name: text(name) };
    assert_eq!(
        feature(FeatureId::PMU_MAPPINGS),
        Feature::PmuMappings(vec![pmu(4, "cpu"), pmu(8, "intel_pt"), pmu(1, "software")])
    );
    let cap = |name, value| PmuCap { name: text(name), value: text(value) };
    assert_eq!(
        feature(FeatureId::CPU_PMU_CAPS),
        Feature::CpuPmuCaps(vec![cap("branches", "32"), cap("pmu_name", "large")])
    );
    let caps = PmuCaps { caps: vec![cap("mtc", "1")], pmu_name: text("intel_pt") };
    assert_eq!(feature(FeatureId::PMU_CAPS), Feature::PmuCaps(vec![caps]));
    // In the order of a file.
    let sections = system.clone().into_sections();
    assert!(sections.is_sorted_by_key(|(id, _)| *id));
    assert_eq!(sections.len(), system.features().count());
}

const CPUINFO: &str = "processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Some  CPU @ 2.00GHz
stepping\t: 7
flags\t\t: fpu

processor\t: 1
model\t\t: 99";

#[test]
fn the_command_and_the_clock_are_what_the_caller_says() {
    let dir = TempDir::new("system-caller");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut clock = 100;
    let system =
        System::collect_from(dir.path()).with_cmdline(["perfring", "record", ""]).unwrap().with_clock(1, 4, || {
            clock += 1;
            clock
        });
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let args = ["perfring", "record", ""].map(Text::from).to_vec();
    assert_eq!(system.feature(FeatureId::CMDLINE), Some(Feature::Cmdline(args)));
    assert_eq!(system.feature(FeatureId::CLOCKID), Some(Feature::ClockId(4)));
    let Some(Feature::ClockData(ClockData { version, clockid, wall_clock_ns, clockid_time_ns })) =
        system.feature(FeatureId::CLOCK_DATA)
    else {
        panic!("{system:?}")
    };
    assert_eq!((version, clockid), (1, 1));
    assert!((before..=after).contains(&wall_clock_ns), "{wall_clock_ns} is not in {before}..={after}");
    assert!((101..=clock).contains(&clockid_time_ns), "{clockid_time_ns} of {clock}");
    let error = System::collect_from(dir.path()).with_cmdline(["a\0b"]).unwrap_err();
    assert_eq!(error.to_string(), "the field cmdline has a NUL at byte 1");
}
