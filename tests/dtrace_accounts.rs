//! What is fired is read or counted, whatever becomes of the programs.
#![cfg(feature = "dtrace")]

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Helpers, Program, ProgramType};
use perfring::dtrace::{Item, Past, ProbeInfo, ProbeName, Session, SessionBuilder, SessionError, program_type};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

perfring::probe! {
    fn panics(number: u64) = "accounts:dtrace_accounts::panics";
    fn waits(number: u64) = "accounts:dtrace_accounts::waits";
    fn closes() = "accounts:dtrace_accounts::closes";
}

/// Sends the number of the probe.
const SEND: &str = "
    r6 = r1
    r1 = *(u32 *)(r6 +172)
    *(u64 *)(r10 -8) = r1
    r1 = r6
    r2 = map[idx:0] ll
    r3 = 0xffffffff ll
    r4 = r10
    r4 += -8
    r5 = 8
    call bpf_perf_event_output
";
const PRINT: &str = "
    *(u64 *)(r10 -8) = 97
    r1 = r10
    r1 += -8
    r2 = 2
    call bpf_trace_printk
";
const END: &str = "
    r0 = 0
    exit";

fn verified(type_: &ProgramType, maps: &[&Map], text: &str) -> Program {
    let insns = assemble_with(text, &|name| Helpers::standard().number(name).map(|id| id.0)).expect("a program");
    let program = Program::builder("test", type_).maps(maps.iter().map(|map| (*map).clone())).license("GPL");
    let program = program.load(insns).expect("loads");
    program.verify(&VerifyOptions::default()).unwrap_or_else(|error| panic!("{error}")).program().clone()
}

fn session(builder: SessionBuilder) -> (Session, Map) {
    let mut session = builder.build().expect("a session");
    let cpus = session.machine().cpus();
    let events = Map::new(&MapDef::perf_event_array("events", cpus as u32), cpus).expect("a map");
    session.add_rings(&events).expect("rings");
    (session, events)
}

/// The names of the probes of the samples.
fn names(session: &mut Session) -> Vec<String> {
    let mut numbers = Vec::new();
    session.read(|item| match item {
        Item::Sample { data, .. } => numbers.push(u32::from_ne_bytes(data[..4].try_into().expect("4 bytes"))),
        other => panic!("{other:?}"),
    });
    let name = |number| session.probes().find(|(id, _)| id.0 == number).expect("a probe").1.name.name.clone();
    numbers.into_iter().map(name).collect()
}

#[test]
fn a_firing_that_panics_is_one() {
    let (mut session, events) = session(Session::builder().cpus(1).trace(|_| panic!("on purpose")));
    let program = verified(program_type(), &[&events], &[SEND, PRINT, END].concat());
    session.attach(&program, &"accounts:::panics".parse().unwrap()).unwrap();
    session.enable().unwrap();
    for number in 0..3 {
        std::panic::catch_unwind(|| panics(number)).unwrap_err();
    }
    session.close().unwrap();
    assert_eq!(names(&mut session).len(), 3);
    let stats = session.stats().unwrap();
    assert_eq!((stats.fired(), stats.read + stats.dropped()), (3, 3), "{stats:?}");
}

#[test]
fn a_firing_that_is_refused_is_dropped() {
    let (mut session, events) = session(Session::builder().cpus(1));
    let send = SEND.replace("*(u32 *)(r6 +172)", "*(u64 *)(r6 +64)");
    let program = verified(ProgramType::tracepoint(), &[&events], &[&send, END].concat());
    let info = ProbeInfo::new(ProbeName::new("tracepoint", "", "", "short"));
    let id = session.attach_external(&program, &info).unwrap();
    session.enable().unwrap();
    for size in [72, 8, 72, 0] {
        session.fire(id, &Past::new(0, 1, 1).raw(&vec![0; size])).unwrap();
    }
    session.close().unwrap();
    assert_eq!(session.read(|_| {}), 2);
    let stats = session.stats().unwrap();
    assert_eq!((stats.refused, stats.fired(), stats.read + stats.dropped()), (2, 4, 4), "{stats:?}");
}

#[test]
fn the_end_waits_for_a_cpu() {
    let (reached, has_reached) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let sink = move |_: &str| {
        reached.send(()).unwrap();
        may_go.lock().unwrap().recv().unwrap();
    };
    let (mut session, events) = session(Session::builder().cpus(1).trace(sink));
    let print = verified(program_type(), &[&events], &[SEND, PRINT, END].concat());
    let send = verified(program_type(), &[&events], &[SEND, END].concat());
    session.attach(&print, &"accounts:::waits".parse().unwrap()).unwrap();
    session.attach(&send, &"dtrace:::END".parse().unwrap()).unwrap();
    session.enable().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| waits(1));
        has_reached.recv().unwrap();
        let closing = scope.spawn(|| session.close());
        while waits::is_enabled() {
            std::thread::yield_now();
        }
        // Long enough for the end to be fired while the only CPU is held; it must be, however long it takes.
        std::thread::sleep(Duration::from_millis(20));
        go.send(()).unwrap();
        closing.join().unwrap().unwrap();
    });
    assert_eq!(names(&mut session), ["waits", "END"]);
    let stats = session.stats().unwrap();
    assert_eq!((stats.fired(), stats.dropped()), (2, 0), "{stats:?}");
}

#[test]
fn the_end_is_fired_once() {
    let (mut other, events) = session(Session::builder().cpus(1));
    let send = verified(program_type(), &[&events], &[SEND, END].concat());
    other.attach(&send, &"dtrace:::END".parse().unwrap()).unwrap();
    other.enable().unwrap();
    let other = Arc::new(Mutex::new(other));
    let closes_other = other.clone();
    let sink = move |_: &str| {
        let result = closes_other.lock().unwrap().close();
        assert!(matches!(result, Err(SessionError::Reentrant)), "{result:?}");
    };
    let (mut session, _) = session(Session::builder().cpus(1).trace(sink));
    let print = verified(program_type(), &[], &[PRINT, END].concat());
    session.attach(&print, &"accounts:::closes".parse().unwrap()).unwrap();
    session.enable().unwrap();
    closes();
    session.close().unwrap();
    let mut other = other.lock().unwrap();
    other.close().unwrap();
    assert_eq!(names(&mut other), ["END"]);
    assert_eq!(other.stats().unwrap().fired(), 1);
}
