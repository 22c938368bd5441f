//! What `perf` prints of recordings is understood, and what is committed of the recordings is what it prints.

#![cfg(feature = "replay")]

mod common;
mod perf_oracle;
#[path = "../benches/support/recordings.rs"]
mod recordings;

use perf_oracle::{
    Expected, Fields, Oracle, OracleError, Sampled, fixture, fixture_names, parse_stats, stats, version,
};
use perfring::record::RecordType;
use recordings::Shape;

/// Recordings that `perf` 6.1 does not read: their recorders were killed.
const KILLED: [&str; 2] = ["killed", "killed_zstd"];

/// Those that `perf script` reads, and `perf report --stats` does not: pipes with tracing data or compression.
const NO_STATS: [&str; 2] = ["pipe_tracepoints", "pipe_zstd"];

/// The records of a text that `perf script -D` printed.
fn printed(text: &str) -> Vec<perf_oracle::OracleRecord> {
    text.parse::<Oracle>().unwrap_or_else(|error| panic!("{error}")).records
}

#[test]
fn records_of_tasks_and_mappings() {
    let records = printed(include_str!("fixtures/perf_script/tasks.txt"));
    let types: Vec<_> = records.iter().map(|record| record.type_.to_string()).collect();
    let expected = [
        "ID_INDEX",
        "CPU_MAP",
        "MMAP",
        "COMM",
        "NAMESPACES",
        "FINISHED_INIT",
        "COMM",
        "MMAP2",
        "MMAP2",
        "FORK",
        "SWITCH",
        "SWITCH",
        "EXIT",
        "FINISHED_ROUND",
    ];
    assert_eq!(types, expected);
    let (init, exec) = (&records[5], &records[6]);
    assert_eq!((init.size, init.bytes.as_slice()), (8, &[82, 0, 0, 0, 0, 0, 8, 0][..]));
    assert_eq!((exec.offset, exec.size, exec.misc, exec.time), (0x2c0, 0x28, 0x2000, Some(25022962537229)));
    assert_eq!(exec.fields, Fields::Comm { pid: 1767, tid: 1767, exec: true, comm: "a b: c".into() });
    let Fields::Namespaces { pid, ref links, .. } = records[4].fields else { panic!("{:?}", records[4]) };
    assert_eq!((pid, links.len(), links[0], links[6]), (1767, 7, (4, 0xeffffff9), (4, 0xf0000153)));
    assert_eq!(
        records[2].fields,
        Fields::Mmap {
            pid: u32::MAX,
            tid: 0,
            addr: 0xffffffff81000000,
            len: 0x1209988,
            pgoff: 0xffffffff81000000,
            filename: "[kernel.kallsyms]_text".into(),
        }
    );
    assert_eq!(
        records[7].fields,
        Fields::Mmap2 {
            pid: 1767,
            tid: 1767,
            addr: 0x7f398d7a0000,
            len: 0x156000,
            pgoff: 0x26000,
            file: "fe:00 326279 0".into(),
            prot: "r-xp".into(),
            filename: "/usr/lib/x86_64-linux-gnu/libc.so.6".into(),
        }
    );
    let Fields::Mmap2 { ref file, ref filename, .. } = records[8].fields else { panic!("{:?}", records[8]) };
    assert_eq!((file.as_str(), filename.as_str()), ("5964ee7f82af717a308be0536489716e85beb218", "/tmp/fixture/load"));
    assert_eq!(records[9].fields, Fields::Task { pid: 1741, tid: 1742, ppid: 1741, ptid: 1740 });
    assert_eq!(records[10].fields, Fields::Switch { out: true, preempt: true });
    assert_eq!(records[11].fields, Fields::Switch { out: false, preempt: false });
}

#[test]
fn samples_with_all_that_perf_prints() {
    let records = printed(include_str!("fixtures/perf_script/samples.txt"));
    let samples: Vec<&Sampled> = records
        .iter()
        .map(|record| match &record.fields {
            Fields::Sample(sample) => &**sample,
            other => panic!("{other:?}"),
        })
        .collect();
    let [chain, regs, group, data] = samples[..] else { panic!("{} samples", samples.len()) };
    assert_eq!((records[0].cpu, records[0].time), (Some(1), Some(25020890906851)));
    assert_eq!((chain.misc, chain.pid, chain.tid, chain.ip, chain.period, chain.addr), (2, 1709, 1710, 0x4012b9, 1, 0));
    assert_eq!(chain.callchain, Some(vec![0xfffffffffffffe00, 0x4012b9, 0x40138a, 0x7f74fbcc424a]));
    let user = regs.user_regs.as_ref().unwrap();
    assert_eq!((user.mask, user.abi.as_str(), user.values.len()), (0x8101c0, "64-bit", 5));
    assert_eq!(user.values[4], ("R15".into(), 0x7f35490a5500));
    assert_eq!(regs.intr_regs.as_ref().map(|regs| regs.mask), Some(0x183));
    assert_eq!((regs.stack_size, regs.callchain.as_deref()), (Some(512), Some(&[][..])));
    let read = group.read.as_ref().unwrap();
    assert_eq!((read.group, read.enabled, read.running), (true, Some(0x4f50a), Some(0x4f50b)));
    assert_eq!((read.values.len(), read.values[1].id, read.values[1].value), (2, 0x10eaf, 7));
    assert_eq!(read.values[1].lost, Some(3));
    assert_eq!((records[2].cpu, records[2].time), (None, None), "no time was recorded");
    assert_eq!((data.addr, data.data_src, data.phys_addr), (0x7f499dd31e06, Some(0x1e05080021), Some(0x1000)));
}

#[test]
fn what_was_lost_and_read() {
    let records = printed(include_str!("fixtures/perf_script/counts.txt"));
    let fields: Vec<_> = records.into_iter().map(|record| (record.time, record.fields)).collect();
    assert_eq!(fields[0], (Some(25029551668596), Fields::Lost { id: 69416, lost: 2 }));
    assert_eq!(fields[1], (Some(0), Fields::LostSamples { id: Some(69415), lost: 5 }));
    let read = Fields::Read {
        pid: 1879,
        tid: 1881,
        event: "cpu-clock:u".into(),
        value: 9,
        enabled: Some(6544967),
        running: Some(8),
        id: Some(69331),
    };
    assert_eq!(fields[2], (Some(25026329267450), read));
    let name = "bpf_prog_835c9789889461bb_fixture".into();
    let symbol = Fields::Ksymbol { addr: 0xffffffffc002204c, len: 79, type_: 1, flags: 0, name };
    assert_eq!(fields[3], (Some(25027234294089), symbol));
    assert_eq!(fields[4].1, Fields::BpfEvent { type_: 1, flags: 0, id: 1832 });
    assert_eq!(fields[5].1, Fields::Cgroup { id: 1, path: "/a b".into() });
    assert_eq!(fields.len(), 6);
}

#[test]
fn a_pipe_is_counted_from_its_first_record() {
    let records = printed(include_str!("fixtures/perf_script/pipe.txt"));
    assert_eq!((records[0].offset, records[0].type_), (16, RecordType::HEADER_ATTR));
    assert_eq!((records[1].offset, records[1].type_), (0xa8, RecordType::HEADER_FEATURE));
    assert_eq!(records[1].bytes.len(), 20, "the last line of the dump is short");
}

#[test]
fn what_is_not_understood_is_said() {
    let text = include_str!("fixtures/perf_script/pipe.txt");
    for (from, to) in
        [("PERF_RECORD_ATTR", "PERF_ATTR"), (".  0000:  40 00", ".  0000:  41 00"), (".  0010:  ", "0010:  ")]
    {
        assert!(text.contains(from), "{from}");
        let error = text.replacen(from, to, 1).parse::<Oracle>().unwrap_err();
        assert!(matches!(error, OracleError::Output(_)), "{to}: {error}");
    }
}

#[test]
fn counts_of_perf_report() {
    let stats = parse_stats(include_str!("fixtures/perf_script/stats.txt")).unwrap();
    let expected = [("HEADER_ATTR", 1), ("HEADER_FEATURE", 19), ("MMAP2", 4), ("SAMPLE", 71), ("TOTAL", 95)];
    assert_eq!(stats, expected.map(|(name, count)| (name.to_owned(), count)).into_iter().collect());
    assert_eq!(parse_stats("Error:\nfailed to process sample\n"), None);
}

#[test]
fn all_recordings_have_expectations_that_agree() {
    let names = fixture_names();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let expected = Expected::of(&name);
        let count = |kernel: bool| -> u64 {
            let is_kernel =
                |name: &str| RecordType::ALL.iter().any(|type_| type_.name() == Some(name) && type_.is_kernel());
            expected
                .stats
                .iter()
                .filter(|(name, _)| *name != "TOTAL" && is_kernel(name) == kernel)
                .map(|(_, n)| n)
                .sum()
        };
        assert_eq!(expected.stats["TOTAL"], count(true) + count(false), "{name}");
        if let Some(records) = &expected.records {
            assert_eq!(records.len(), Expected::RECORDS.min(count(true) as usize), "{name}");
        }
        if let Some(order) = &expected.order {
            assert_eq!(order.len() as u64, count(true), "{name}");
        }
        if let Some(times) = &expected.times {
            assert_eq!(times.len() as u64, count(true), "{name}");
        }
    }
}

#[test]
fn perf_says_what_is_expected() {
    match version() {
        Ok(version) if version.starts_with("6.1.") => {}
        Ok(version) => return common::skip(format_args!("perf is {version}, and what is expected is of 6.1")),
        Err(error) => return common::skip(error),
    }
    for name in fixture_names() {
        let expected = Expected::of(&name);
        let oracle = match Oracle::of(&fixture(&name)) {
            Err(OracleError::Refused(_)) if KILLED.contains(&name.as_str()) => continue,
            other => other.unwrap_or_else(|error| panic!("{name}: {error}")),
        };
        let mut counts = expected.stats.clone();
        // It prints what is in them, and not them.
        let compressed = counts.remove("COMPRESSED").unwrap_or(0);
        counts.entry("TOTAL".into()).and_modify(|total| *total -= compressed);
        assert_eq!(oracle.counts(), counts, "{name}");
        match stats(&fixture(&name)) {
            Err(_) if NO_STATS.contains(&name.as_str()) => {}
            other => assert_eq!(other.unwrap_or_else(|error| panic!("{name}: {error}")), expected.stats, "{name}"),
        }
        if let Some(order) = &expected.order {
            let delivered: Vec<_> = oracle.delivered().map(|record| record.offset).collect();
            assert_eq!(&delivered, order, "{name}");
        }
        if let Some(times) = &expected.times {
            let delivered: Vec<_> = oracle.delivered().map(|record| (record.type_.to_string(), record.time)).collect();
            assert_eq!(&delivered, times, "{name}");
        }
        if let Some(expected) = &expected.records {
            let of_kernel = oracle.in_file_order().into_iter().filter(|record| record.type_.is_kernel());
            for (index, (record, expected)) in of_kernel.zip(expected).enumerate() {
                let record = (record.type_.to_string(), record.size, record.misc, record.time);
                let expected = (expected.type_.clone(), expected.size, expected.misc, expected.time);
                assert_eq!(record, expected, "{name}: record {index}");
            }
        }
    }
}

#[test]
fn perf_reads_what_the_benches_read() {
    let dir = common::TempDir::new("bench-recordings");
    for shape in Shape::ALL {
        let file = dir.path().join(shape.name());
        let summary = shape.create(1 << 20, &file).expect("a temporary file");
        assert_eq!(summary.bytes, std::fs::metadata(&file).expect("it was written").len());
        let again = dir.path().join("again");
        assert_eq!(shape.create(1 << 20, &again).expect("a temporary file"), summary, "{shape:?}");
        assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&file).unwrap(), "{shape:?}");

        let mut expected: perf_oracle::Stats =
            summary.counts.iter().map(|(type_, count)| (type_.to_string(), *count)).collect();
        expected.insert("TOTAL".into(), summary.records());
        let oracle = match Oracle::of(&file) {
            Err(error @ OracleError::NoPerf(_)) => return common::skip(error),
            other => other.unwrap_or_else(|error| panic!("{shape:?}: {error}")),
        };
        assert_eq!(oracle.warnings, "", "{shape:?}: nothing is lost, and nothing out of order");
        assert_eq!(oracle.counts(), expected, "{shape:?}");
        assert_eq!(stats(&file).unwrap_or_else(|error| panic!("{shape:?}: {error}")), expected, "{shape:?}");

        // The rounds are such that the order of time is that of the whole file.
        let mut order: Vec<_> = oracle.in_file_order().into_iter().filter(|record| record.type_.is_kernel()).collect();
        let in_file: Vec<_> = order.iter().map(|record| record.offset).collect();
        order.sort_by_key(|record| record.time);
        let order: Vec<_> = order.iter().map(|record| record.offset).collect();
        assert_ne!(order, in_file, "{shape:?}: runs overlap");
        assert_eq!(oracle.delivered().map(|record| record.offset).collect::<Vec<_>>(), order, "{shape:?}");
        let is_chain = |record: &perf_oracle::OracleRecord| matches!(&record.fields, Fields::Sample(sample) if sample.callchain.as_ref().is_some_and(|chain| chain.len() > 20));
        assert_eq!(oracle.records.iter().any(is_chain), shape == Shape::Chains, "{shape:?}");
    }
}
