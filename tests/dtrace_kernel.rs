//! The kernel's probes: functions of a process, clocks, system calls, fired after the fact.
#![cfg(all(feature = "dtrace", feature = "kernel", feature = "symbols"))]
#![allow(unsafe_code, reason = "a function that has a name for uprobes")]

mod common;

use common::{Need, is_root, require_kernel, with_tracefs};
use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Helpers, Program, ProgramType};
use perfring::dtrace::{Item, KernelProbes, Pattern, Session, SourceStats, program_type};
use perfring::kernel::{SetTarget, StoppedCommand, online_cpus};
use std::hint::black_box;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const ROLE: &str = "PERFRING_TEST_TRACED";
const CALLS: u64 = 50;

/// What is traced.
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn perfring_test_traced(first: u64, second: i32) -> u64 {
    black_box(first.wrapping_mul(3).wrapping_add(second as u64))
}

/// In the process that is traced: calls the function, and keeps the CPU busy.
#[test]
fn traced() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    for number in 0..CALLS {
        black_box(perfring_test_traced(number, -1));
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(200) {
        black_box(start);
    }
}

/// Two arguments, the stack pointer, process and parent, and how many bytes of the user's call chain there are.
const FILL: &str = "
    r6 = r1
    r1 = r6
    r2 = r10
    r2 += -256
    r3 = 160
    r4 = 256
    call bpf_get_stack
    r7 = r0
    r2 = 232
    r3 = map[idx:0] ll
    r4 = 48
    r1 = r6
    call bpf_buffer_reserve
    if r0 != 0 goto out
    r1 = *(u64 *)(r6 +232)
    r2 = *(u64 *)(r6 +240)
    r3 = r1
    r3 += 48
    if r3 > r2 goto commit
    r2 = *(u64 *)(r6 +248)
    *(u64 *)(r1 +0) = r2
    r2 = *(u64 *)(r6 +256)
    *(u64 *)(r1 +8) = r2
    r2 = *(u64 *)(r6 +152)
    *(u64 *)(r1 +16) = r2
    r2 = *(u32 *)(r6 +204)
    *(u32 *)(r1 +24) = r2
    r2 = *(u32 *)(r6 +208)
    *(u32 *)(r1 +28) = r2
    *(u64 *)(r1 +32) = r7
    r2 = *(u32 *)(r6 +172)
    *(u32 *)(r1 +40) = r2
commit:
    r1 = r6
    r2 = 232
    r3 = map[idx:0] ll
    call bpf_buffer_commit
out:
    r0 = 0
    exit";

fn fill(events: &Map) -> Program {
    let insns = assemble_with(FILL, &|name| Helpers::standard().number(name).map(|id| id.0)).expect("a program");
    let program =
        Program::builder("fill", program_type()).maps([events.clone()]).license("GPL").load(insns).expect("loads");
    program.verify(&VerifyOptions::default()).unwrap_or_else(|error| panic!("{error}")).program().clone()
}

fn half(data: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(data[at..at + 4].try_into().expect("4 bytes"))
}

fn word(data: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(data[at..at + 8].try_into().expect("8 bytes"))
}

/// Runs this binary as what is traced; gives its id, the records and what came of the source.
fn observe(pattern: &str) -> (u32, Vec<Vec<u8>>, SourceStats) {
    let cpus = online_cpus().expect("CPUs").into_iter().max().expect("one") as usize + 1;
    let mut session = Session::builder().cpus(cpus).pages(256).build().expect("a session");
    let events = Map::new(&MapDef::perf_event_array("events", cpus as u32), cpus).expect("a map");
    session.add_rings(&events).expect("rings");
    let mut kernel = KernelProbes::new();
    let pattern: Pattern = pattern.parse().expect("a pattern");
    assert_eq!(kernel.attach(&mut session, &fill(&events), &pattern).expect("probes"), 1);
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["traced", "--exact", "--test-threads=1"]).env(ROLE, "1").stdout(std::process::Stdio::null());
    let stopped = StoppedCommand::spawn(command).expect("a process");
    let pid = stopped.pid();
    let mut source = kernel.open(SetTarget::Task { pid }).expect("events");
    session.enable().expect("once");
    source.enable().expect("events");
    let mut child: Child = stopped.start().expect("it starts");
    let mut records = Vec::new();
    let mut keep = |item: Item<'_>| match item {
        Item::Sample { data, .. } => records.push(data.to_vec()),
        other => panic!("{other:?}"),
    };
    while child.try_wait().expect("a child").is_none() {
        source.wait(Duration::from_millis(20)).expect("rings");
        while source.fire(&mut session, 64) != 0 {
            session.read(&mut keep);
        }
    }
    source.disable().expect("events");
    while source.fire_all(&mut session, 64) != 0 {
        session.read(&mut keep);
    }
    session.close().expect("nothing runs");
    session.read(&mut keep);
    let stats = session.stats().expect("nothing runs");
    assert_eq!((stats.dropped(), source.stats().lost), (0, 0), "{stats:?}");
    assert_eq!(stats.read, source.stats().fired);
    (pid, records, source.stats())
}

fn allowed() -> bool {
    require_kernel(Need::Privileged)
}

fn traced_function(end: &str) -> String {
    let exe = std::env::current_exe().expect("this binary");
    format!("uprobe:{}:perfring_test_traced:{end}", exe.display())
}

#[test]
fn a_function_has_its_arguments_and_its_callers() {
    if !allowed() {
        return;
    }
    let (pid, records, stats) = observe(&traced_function("entry"));
    assert_eq!((records.len() as u64, stats.damaged), (CALLS, 0));
    for (number, data) in (0..).zip(&records) {
        assert_eq!((word(data, 0), word(data, 8) as i32), (number, -1));
        assert_ne!(word(data, 16), 0, "a stack pointer");
        assert_eq!((half(data, 24), half(data, 28)), (pid, std::process::id()));
        let chain = word(data, 32) as i64;
        assert!(chain >= 8 && chain % 8 == 0, "{chain}");
        assert_eq!(half(data, 40), 1, "the first probe of the session");
    }
}

#[test]
fn a_function_that_returns_has_what_it_returns() {
    if !allowed() {
        return;
    }
    let (_, records, _) = observe(&traced_function("return"));
    assert_eq!(records.len() as u64, CALLS);
    for (number, data) in (0_u64..).zip(&records) {
        assert_eq!(word(data, 0), number.wrapping_mul(3).wrapping_sub(1));
        assert_eq!(word(data, 8), word(data, 0));
    }
}

#[test]
fn a_clock_fires_while_the_process_runs() {
    if !allowed() {
        return;
    }
    let (pid, records, _) = observe("profile:::profile-997");
    assert!(!records.is_empty());
    for data in records {
        assert_eq!(half(&data, 24), pid);
        assert_eq!((word(&data, 0), word(&data, 8)), (0, 0), "it has no arguments");
    }
}

#[test]
fn a_system_call_has_its_arguments() {
    if !allowed() || !is_root() {
        return;
    }
    with_tracefs(|| {
        let (pid, records, _) = observe("syscall::exit_group:entry");
        assert_eq!(records.len(), 1);
        assert_eq!((word(&records[0], 0), half(&records[0], 24)), (0, pid));
    });
}

#[test]
fn one_event_for_many_system_calls_says_the_same() {
    if !allowed() || !is_root() {
        return;
    }
    with_tracefs(|| {
        let cpus = online_cpus().expect("CPUs").into_iter().max().expect("one") as usize + 1;
        let mut session = Session::builder().cpus(cpus).build().expect("a session");
        let program = Program::builder("nothing", ProgramType::kprobe())
            .load(assemble_with("r0 = 0\nexit", &|_| None).expect("a program"))
            .expect("loads");
        let mut kernel = KernelProbes::new();
        let count = kernel.attach(&mut session, &program, &"syscall:::".parse().expect("a pattern")).expect("probes");
        assert!(count > 500, "{count}");
        let mut command = Command::new("dd");
        command.args(["if=/dev/zero", "of=/dev/null", "bs=1", "count=300", "status=none"]);
        let stopped = StoppedCommand::spawn(command).expect("a process");
        let mut source = kernel.open(SetTarget::Task { pid: stopped.pid() }).expect("few events");
        session.enable().expect("once");
        source.enable().expect("events");
        assert!(stopped.start().expect("it starts").wait().expect("it ends").success());
        source.disable().expect("events");
        while source.fire_all(&mut session, 64) != 0 {}
        // Each of 300 reads and of 300 writes starts and ends.
        let fired = source.stats().fired;
        assert!(fired >= 1200, "{fired}");
        assert_eq!(session.stats().expect("nothing runs").machine.runs, fired);
    });
}
