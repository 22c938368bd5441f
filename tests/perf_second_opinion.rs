//! The same workload under `perf record` and under this crate: both count the same samples.

#![cfg(feature = "kernel")]
#![allow(unsafe_code, reason = "the workload makes a system call that has no safe interface")]

mod common;
mod reexec;

use std::process::{Command, Stdio};

use common::{Need, TempDir, require_kernel, skip, with_tracefs};
use memmap2::{Advice, MmapMut};
use perfring::kernel::{EventBuilder, SampleType, Software};
use perfring::record::Body;

const TIMES: usize = 3000;
const ENTRY: &str = "workload";

/// What the child does: not a test, but for the others.
#[test]
fn workload() {
    match reexec::role().as_deref() {
        Some([what]) if what == "faults" => {
            // SAFETY: sysconf has no preconditions.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
            let mut memory = MmapMut::map_anon(TIMES * page).expect("memory");
            let _ = memory.advise(Advice::NoHugePage);
            (0..TIMES).for_each(|index| std::hint::black_box(&mut memory)[index * page] = 1);
        }
        Some([what]) if what == "calls" => {
            for _ in 0..TIMES {
                // SAFETY: getppid has no preconditions.
                unsafe { libc::getppid() };
            }
        }
        _ => {}
    }
}

/// Fills in what runs the workload in another process.
fn child(command: &mut Command, role: &str) {
    command.args([ENTRY, "--exact", "--nocapture", "--test-threads=1"]).env("PERFRING_TEST_ROLE", role);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
}

/// How many samples `perf` takes, if it is there.
fn samples_by_perf(event: &str, role: &str) -> Option<usize> {
    if let Err(error) = Command::new("perf").arg("--version").stdout(Stdio::null()).status() {
        skip(format_args!("perf: {error}"));
        return None;
    }
    let dir = TempDir::new(&format!("perf-{role}"));
    let file = dir.path().join("perf.data");
    let mut record = Command::new("perf");
    record.args(["record", "-q", "-m", "1024", "-e", event, "-c", "1", "-o"]).arg(&file).arg("--");
    record.arg(std::env::current_exe().unwrap());
    child(&mut record, role);
    assert!(record.status().unwrap().success(), "{record:?}");
    let script = Command::new("perf").args(["script", "-F", "event", "-i"]).arg(&file).output().unwrap();
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    Some(script.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count())
}

/// How many samples this crate takes.
fn samples_by_us(builder: EventBuilder, role: &str) -> usize {
    let mut command = Command::new(std::env::current_exe().unwrap());
    child(&mut command, role);
    let command = perfring::kernel::StoppedCommand::spawn(command).unwrap();
    let builder = builder
        .sample_period(1)
        .sample_type(SampleType::IP | SampleType::TID | SampleType::TIME)
        .inherit(true)
        .disabled(true)
        .enable_on_exec(true);
    let mut events = builder.open_task_on_cpus(command.pid()).unwrap();
    let mut consumers: Vec<_> = events.iter_mut().map(|event| event.mmap(1024).unwrap()).collect();
    assert!(command.start().unwrap().wait().unwrap().success());
    let mut samples = 0;
    for (event, consumer) in events.iter().zip(&mut consumers) {
        let decoder = event.decoder().unwrap();
        let count = |record: perfring::ring::Record<'_>| match decoder.decode(record.bytes()).unwrap().body {
            Body::Sample(_) => samples += 1,
            other => panic!("{other:?}"),
        };
        consumer.for_each(count).unwrap();
    }
    samples
}

#[test]
fn perf_counts_the_same_calls() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        const EVENT: &str = "syscalls:sys_enter_getppid";
        let Some(by_perf) = samples_by_perf(EVENT, "calls") else { return };
        let by_us = samples_by_us(EventBuilder::tracepoint(EVENT).unwrap(), "calls");
        // Nothing else in the child asks for its parent.
        assert_eq!((by_perf, by_us), (TIMES, TIMES));
    });
}

#[test]
fn perf_counts_the_same_page_faults() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    // Where perf finds no tracefs it may mount one for all.
    with_tracefs(|| {
        let Some(by_perf) = samples_by_perf("page-faults:u", "faults") else { return };
        let faults = EventBuilder::software(Software::PageFaults).exclude_kernel(true).exclude_hv(true);
        let by_us = samples_by_us(faults, "faults");
        // Starting the program faults, too, not always equally often: the loader's work and libtest's threads.
        assert!(by_perf >= TIMES && by_us >= TIMES, "{by_perf} and {by_us}");
        assert!(by_perf.abs_diff(by_us) < TIMES / 20, "{by_perf} and {by_us}");
    });
}
