//! Static probes in this process, and the sessions that enable them.
#![cfg(feature = "dtrace")]

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Helpers, Program, ProgramType};
use perfring::dtrace::{
    Item, Past, Pattern, ProbeInfo, ProbeName, Session, SessionBuilder, SessionError, probes, program_type,
};
use perfring::record::SampleType;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

perfring::probe! {
    /// Some work is done.
    #[stability(Evolving)]
    fn work(thread: u64, number: u64) = "test:dtrace_probe:work:step";
    fn text(text: &str, bytes: &[u8], sign: i32) = "test:dtrace_probe:text:seen";
    fn nested(number: u64) = "test:dtrace_probe:nested:step";
    fn empty() = "test:dtrace_probe::empty";
}

/// Names that the macro could take for its own, where nothing is in scope.
#[no_implicit_prelude]
mod names {
    ::perfring::probe! {
        pub fn enabled(enabled: u64, arguments: &str, probe: bool) = "names:dtrace_probe::enabled";
        pub(super) fn r#match(r#type: u64, r#match: i8) = "names:dtrace_probe::match";
        pub(super) fn most(
            a: u8, b: u16, c: u32, d: u64, e: usize, f: i8, g: i16, h: i32, i: i64, j: isize, k: bool, l: *const u8,
        ) = "names:dtrace_probe::most";
    }
}

/// Probes are the process's: tests that enable them take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> impl Drop {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A record of 48 bytes: probe and thread, the arguments, and what is known of the thread.
const FILL: &str = "
    r6 = r1
    r2 = 232
    r3 = map[idx:0] ll
    r4 = 48
    call bpf_buffer_reserve
    if r0 != 0 goto out
    r7 = *(u64 *)(r6 +232)
    r8 = *(u64 *)(r6 +240)
    r1 = r7
    r1 += 48
    if r1 > r8 goto commit
    r1 = *(u32 *)(r6 +172)
    *(u32 *)(r7 +0) = r1
    r1 = *(u32 *)(r6 +168)
    *(u32 *)(r7 +4) = r1
    r1 = *(u64 *)(r6 +248)
    *(u64 *)(r7 +8) = r1
    r1 = *(u64 *)(r6 +256)
    *(u64 *)(r7 +16) = r1
    r1 = *(u32 *)(r6 +204)
    *(u32 *)(r7 +24) = r1
    r1 = *(u32 *)(r6 +196)
    *(u32 *)(r7 +28) = r1
    r1 = *(u64 *)(r6 +176)
    *(u64 *)(r7 +32) = r1
    r1 = *(u32 *)(r6 +344)
    *(u32 *)(r7 +40) = r1
    r1 = *(u32 *)(r6 +348)
    *(u32 *)(r7 +44) = r1
commit:
    r1 = r6
    r2 = 232
    r3 = map[idx:0] ll
    call bpf_buffer_commit
out:
    r0 = 0
    exit";

fn program(type_: &ProgramType, maps: &[&Map], text: &str) -> Program {
    let insns = assemble_with(text, &|name| Helpers::standard().number(name).map(|id| id.0)).expect("a program");
    Program::builder("test", type_)
        .maps(maps.iter().map(|map| (*map).clone()))
        .license("GPL")
        .load(insns)
        .expect("loads")
}

fn verified(maps: &[&Map], text: &str) -> Program {
    let program = program(program_type(), maps, text);
    program.verify(&VerifyOptions::default()).unwrap_or_else(|error| panic!("{error}")).program().clone()
}

struct Fixture {
    session: Session,
    events: Map,
}

fn session(builder: SessionBuilder) -> Fixture {
    let mut session = builder.build().expect("a session");
    let cpus = session.machine().cpus();
    let events = Map::new(&MapDef::perf_event_array("events", cpus as u32), cpus).expect("a map");
    session.add_rings(&events).expect("rings");
    Fixture { session, events }
}

fn pattern(text: &str) -> Pattern {
    text.parse().expect("a pattern")
}

fn word(data: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(data[at..at + 8].try_into().expect("8 bytes"))
}

fn half(data: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(data[at..at + 4].try_into().expect("4 bytes"))
}

#[test]
fn probes_are_found_by_their_names() {
    let found = |text: &str| {
        let pattern = pattern(text);
        let names = probes().map(|probe| probe.info()).filter(|info| pattern.matches(&info.name));
        names.map(|info| info.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found("work:step"), ["test:dtrace_probe:work:step"]);
    assert_eq!(found("test:::").len(), 4);
    assert_eq!(found("step"), ["test:dtrace_probe:nested:step", "test:dtrace_probe:work:step"]);
    let info = probes().map(|probe| probe.info()).find(|info| info.name.function == "text").expect("it is declared");
    assert_eq!(info.args_text(), "text: &str, bytes: &[u8], sign: i32");
    let info = probes().map(|probe| probe.info()).find(|info| info.name.function == "work").expect("it is declared");
    assert_eq!(info.stability.to_string(), "Evolving");
}

#[test]
fn probes_may_have_any_names() {
    let _turn = turn();
    let Fixture { mut session, events } = session(Session::builder().cpus(1));
    assert_eq!(session.attach(&verified(&[&events], FILL), &pattern("names:::")).unwrap(), 3);
    session.enable().unwrap();
    names::enabled(1, "text", true);
    names::r#match(2, -3);
    names::most(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, true, std::ptr::null());
    session.close().unwrap();
    let mut counts = Vec::new();
    session.read(|item| {
        if let Item::Sample { data, .. } = item {
            counts.push(half(data, 40));
        }
    });
    assert_eq!(counts, [4, 2, 12]);
    let info = probes().map(|probe| probe.info()).find(|info| info.name.name == "match").expect("it is declared");
    assert_eq!(info.args_text(), "type: u64, match: i8");
}

#[test]
fn a_program_has_the_probe_its_arguments_and_the_thread() {
    let _turn = turn();
    let Fixture { mut session, events } = session(Session::builder().cpus(2));
    let program = verified(&[&events], FILL);
    assert_eq!(session.attach(&program, &pattern("test:::")).unwrap(), 4);
    work(1, 2);
    assert!(!work::is_enabled());
    session.enable().unwrap();
    assert!(work::is_enabled());
    work(17, u64::MAX);
    text("some text", &[1, 2, 3], -1);
    empty();
    session.close().unwrap();
    assert!(!work::is_enabled());
    work(3, 4);
    let mut seen = Vec::new();
    session.read(|item| match item {
        Item::Sample { map: "events", cpu: Some(_), time: None, data } => seen.push(data.to_vec()),
        other => panic!("{other:?}"),
    });
    seen.sort_by_key(|data| half(data, 0));
    let names: Vec<_> = session.probes().map(|(id, info)| (id.0, info.name.function.clone())).collect();
    let id = |function: &str| names.iter().find(|(_, name)| name == function).expect("a probe").0;
    let find = |id: u32| seen.iter().find(|data| half(data, 0) == id).expect("a record");
    let of_work = find(id("work"));
    assert_eq!(of_work.len(), 52);
    assert_eq!((word(of_work, 8), word(of_work, 16)), (17, u64::MAX));
    assert_eq!(half(of_work, 24), std::process::id());
    assert!(half(of_work, 28) < 2);
    assert_ne!(word(of_work, 32), 0);
    assert_eq!((half(of_work, 40), half(of_work, 44)), (2, 5));
    let of_text = find(id("text"));
    assert_eq!((word(of_text, 16), half(of_text, 40), half(of_text, 44)), (9, 5, 4));
    assert_eq!(half(find(id("")), 40), 0);
    assert_eq!(seen.len(), 3);
    let stats = session.stats().unwrap();
    assert_eq!((stats.read, stats.lost, stats.machine.runs, stats.dropped()), (3, 0, 3, 0));
    assert!(matches!(session.enable(), Err(SessionError::Enabled)));
}

#[test]
fn a_program_reads_the_memory_that_arguments_lend_and_no_other() {
    let _turn = turn();
    let Fixture { mut session, events } = session(Session::builder().cpus(1));
    let reads = "
        r6 = r1
        r3 = *(u64 *)(r6 +248)
        r1 = r10
        r1 += -16
        r2 = 9
        call bpf_probe_read_user
        *(u64 *)(r10 -32) = r0
        r3 = *(u64 *)(r6 +248)
        r3 += 9
        r1 = r10
        r1 += -8
        r2 = 1
        call bpf_probe_read_user
        *(u64 *)(r10 -24) = r0
        r1 = r6
        r2 = map[idx:0] ll
        r3 = 0xffffffff ll
        r4 = r10
        r4 += -32
        r5 = 28
        call bpf_perf_event_output
        r0 = 0
        exit";
    let program = program(program_type(), &[&events], reads);
    session.attach(&program, &pattern("text:seen")).unwrap();
    session.enable().unwrap();
    text("some text", &[], 0);
    session.close().unwrap();
    let mut seen = Vec::new();
    session.read(|item| {
        if let Item::Sample { data, .. } = item {
            seen.push(data.to_vec())
        }
    });
    assert_eq!(seen.len(), 1);
    assert_eq!(word(&seen[0], 0), 0);
    assert_eq!(word(&seen[0], 8) as i64, -14, "EFAULT");
    assert_eq!(&seen[0][16..24], b"some tex");
}

/// Fires from several threads, and counts on its own.
fn storm(session: &mut Session, threads: u64, each: u64, mut reading: bool) -> (u64, Vec<Vec<u8>>) {
    let mut seen = Vec::new();
    let mut keep = |item: Item<'_>| {
        if let Item::Sample { data, .. } = item {
            seen.push(data.to_vec());
        }
    };
    let fired = std::thread::scope(|scope| {
        let fire = |thread| {
            move || {
                for number in 0..each {
                    work(thread, number);
                }
                each
            }
        };
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(fire(thread))).collect();
        while reading {
            reading = !threads.iter().all(|thread| thread.is_finished());
            session.read(&mut keep);
        }
        let fired = threads.into_iter().map(|thread| thread.join().expect("a thread")).sum();
        session.close().expect("nothing runs here");
        session.read(&mut keep);
        fired
    });
    (fired, seen)
}

#[test]
fn what_is_fired_is_read_or_counted() {
    const THREADS: u64 = 4;
    const EACH: u64 = 100_000;
    let _turn = turn();
    // Rings that hold all of it, each thread with its own.
    let Fixture { mut session, events } = session(Session::builder().cpus(THREADS as usize).per_thread().pages(2048));
    session.attach(&verified(&[&events], FILL), &pattern("work:step")).unwrap();
    session.enable().unwrap();
    let (fired, seen) = storm(&mut session, THREADS, EACH, true);
    let stats = session.stats().unwrap();
    assert_eq!(fired, THREADS * EACH);
    assert_eq!(stats.dropped(), 0, "{stats:?}");
    assert_eq!((stats.read, stats.machine.runs), (fired, fired));
    let each: BTreeSet<_> = seen.iter().map(|data| (word(data, 8), word(data, 16))).collect();
    assert_eq!(each.len() as u64, fired, "no firing twice, none missing");

    // Few CPUs, and small rings that nobody reads.
    let Fixture { mut session, events } = self::session(Session::builder().cpus(2).pages(4));
    session.attach(&verified(&[&events], FILL), &pattern("work:step")).unwrap();
    session.enable().unwrap();
    let (fired, seen) = storm(&mut session, THREADS, EACH, false);
    let stats = session.stats().unwrap();
    assert!(stats.lost > 0, "{stats:?}");
    assert_eq!(stats.read, seen.len() as u64);
    assert_eq!((fired, fired), (stats.read + stats.dropped(), stats.fired()), "{stats:?}");
    let of_probe = &session.probe_stats()[0];
    assert_eq!(of_probe.no_cpu, stats.machine.no_cpu);
    assert_eq!((of_probe.errors, of_probe.programs), (0, 1));
}

#[test]
fn closing_while_threads_fire_loses_nothing_that_was_committed() {
    let _turn = turn();
    for _ in 0..20 {
        let Fixture { mut session, events } = session(Session::builder().cpus(3).pages(256));
        session.attach(&verified(&[&events], FILL), &pattern("work:step")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let stop = &stop;
                scope.spawn(move || {
                    let mut number = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        work(thread, number);
                        number += 1;
                    }
                });
            }
            session.enable().unwrap();
            session.wait(Duration::from_secs(10)).unwrap();
            session.close().unwrap();
            let before = session.stats().unwrap();
            let mut read = 0;
            session.read(|item| read += u64::from(matches!(item, Item::Sample { .. })));
            // They fire on, to nobody.
            std::thread::yield_now();
            assert_eq!(session.read(|item| panic!("{item:?}")), 0);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            let stats = session.stats().unwrap();
            assert_eq!(stats.machine, before.machine, "nothing is started any more");
            assert_eq!(stats.machine.runs, read + stats.lost, "{stats:?}");
            assert!(read > 0);
        });
    }
}

#[test]
fn the_sessions_own_probes() {
    let _turn = turn();
    let Fixture { mut session, events } = session(Session::builder().cpus(1).verify(None));
    let fill = program(program_type(), &[&events], FILL);
    let wrong = program(program_type(), &[], "r1 = *(u64 *)(r1 +232)\n*(u64 *)(r1 +0) = 7\nr0 = 0\nexit");
    for (program, text) in [(&fill, "dtrace:::"), (&wrong, "nested:step")] {
        assert!(session.attach(program, &pattern(text)).unwrap() > 0);
    }
    let past = ProbeInfo::new(ProbeName::new("test", "", "", "past"));
    let past = session.attach_external(&wrong, &past).unwrap();
    session.enable().unwrap();
    nested(1);
    nested(2);
    session.fire(past, &Past::new(0, 77, 78)).unwrap();
    session.close().unwrap();
    let mut seen = Vec::new();
    session.read(|item| {
        if let Item::Sample { data, .. } = item {
            seen.push(data.to_vec())
        }
    });
    let names: Vec<_> = session.probes().map(|(_, info)| info.name.name.clone()).collect();
    let fired: Vec<_> = seen.iter().map(|data| &*names[half(data, 0) as usize - 1]).collect();
    assert_eq!(fired, ["BEGIN", "ERROR", "ERROR", "ERROR", "END"]);
    // In the world of the firing that failed.
    let own = std::process::id();
    assert_eq!([1, 2, 3].map(|at| half(&seen[at], 24)), [own, own, 77]);
    // The probe that failed, and the instruction.
    let failed = names.iter().position(|name| name == "step").unwrap() as u64 + 1;
    assert_eq!((word(&seen[1], 8), word(&seen[1], 16)), (failed, 1));
    let errors = session.take_errors();
    assert_eq!(errors.len(), 3);
    assert_eq!((u64::from(errors[0].probe_id), errors[0].trap.insn), (failed, 1));
    let stats = session.probe_stats();
    assert_eq!(stats.iter().map(|stats| stats.errors).collect::<Vec<_>>(), [0, 0, 0, 2, 1]);
}

#[test]
fn a_sink_of_lines_that_panics_takes_nothing_with_it() {
    let _turn = turn();
    let first = AtomicBool::new(true);
    let sink = move |_: &str| assert!(!first.swap(false, Ordering::Relaxed), "on purpose");
    let Fixture { mut session, events } = session(Session::builder().cpus(1).trace(sink));
    let print = "r6 = r1
        *(u64 *)(r10 -8) = 97
        r1 = r10
        r1 += -8
        r2 = 2
        call bpf_trace_printk
        r1 = r6";
    session.attach(&verified(&[&events], &FILL.replace("r6 = r1", print)), &pattern("work:step")).unwrap();
    session.enable().unwrap();
    std::panic::catch_unwind(|| work(1, 1)).unwrap_err();
    work(1, 2);
    session.close().unwrap();
    let mut seen = Vec::new();
    session.read(|item| {
        if let Item::Sample { data, .. } = item {
            seen.push(word(data, 16))
        }
    });
    assert_eq!((seen, session.probe_stats()[0].errors), (vec![2], 0));
}

#[test]
fn two_sessions_at_one_probe() {
    let _turn = turn();
    let mut first = session(Session::builder().cpus(1));
    let mut second = session(Session::builder().cpus(1).sample_type(SampleType::TIME));
    for of in [&mut first, &mut second] {
        let program = verified(&[&of.events], FILL);
        of.session.attach(&program, &pattern("work:step")).unwrap();
        of.session.enable().unwrap();
    }
    work(1, 1);
    first.session.close().unwrap();
    work(1, 2);
    drop(first.session);
    work(1, 3);
    let mut times = Vec::new();
    second.session.read(|item| match item {
        Item::Sample { time: Some(time), data, .. } => times.push((time, word(data, 16))),
        other => panic!("{other:?}"),
    });
    assert!(times.is_sorted());
    assert_eq!(times.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [1, 2, 3]);
    drop(second.session);
    assert!(!work::is_enabled());
}

#[test]
fn programs_that_a_probe_does_not_fire() {
    let Fixture { mut session, .. } = session(Session::builder().cpus(1));
    let ends = "r0 = 0\nexit";
    for type_ in [ProgramType::xdp(), ProgramType::tracepoint()] {
        let error = session.attach(&program(type_, &[], ends), &pattern("work:step")).unwrap_err();
        let wanted = format!("test: the probe test:dtrace_probe:work:step does not fire programs of type {type_}");
        assert_eq!(error.to_string(), wanted);
    }
    assert_eq!(session.attach(&program(program_type(), &[], ends), &pattern("no:such:probe:here")).unwrap(), 0);
    for type_ in [ProgramType::kprobe(), ProgramType::perf_event(), ProgramType::raw_tracepoint()] {
        assert_eq!(session.attach(&program(type_, &[], ends), &pattern("work:step")).unwrap(), 1);
    }
}
