//! Probes that are fired where few look: by signal handlers which interrupt programs, in forked children, by threads that end.
#![cfg(feature = "dtrace")]
#![allow(unsafe_code, reason = "a signal handler")]

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Helpers, Program};
use perfring::dtrace::{Item, Session, program_type};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

perfring::probe! {
    fn outer(number: u64) = "test:dtrace_signal:outer:fired";
    fn handled(number: u64) = "test:dtrace_signal:handler:fired";
}

/// The handler is the process's.
static TURN: Mutex<()> = Mutex::new(());

/// Sends the first argument.
const SEND: &str = "
    r6 = r1
    r2 = 232
    r3 = map[idx:0] ll
    r4 = 8
    call bpf_buffer_reserve
    if r0 != 0 goto out
    r1 = *(u64 *)(r6 +232)
    r2 = *(u64 *)(r6 +240)
    r3 = r1
    r3 += 8
    if r3 > r2 goto commit
    r2 = *(u64 *)(r6 +248)
    *(u64 *)(r1 +0) = r2
commit:
    r1 = r6
    r2 = 232
    r3 = map[idx:0] ll
    call bpf_buffer_commit
out:
    r0 = 0
    exit";

/// Takes its time: so many rounds.
const ROUNDS: &str = "
    r1 = 0
    r2 = 20000
again:
    r1 += 1
    if r1 < r2 goto again
    r0 = 0
    exit";

/// How often the handler came.
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn handler(_: libc::c_int) {
    handled(HANDLED.fetch_add(1, Relaxed));
}

/// The handler of SIGALRM, until this is dropped.
struct Installed(libc::sigaction);

impl Installed {
    fn new() -> Self {
        // SAFETY: a sigaction of zeros is a valid one, with an empty mask.
        let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: both structs live across the call; what the handler does is what is tested.
        assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, &raw mut before) }, 0);
        Self(before)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // SAFETY: puts back what was there.
        assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &raw const self.0, std::ptr::null_mut()) }, 0);
    }
}

/// Interrupts the thread that makes it each so many microseconds, until this is dropped.
struct Timer(libc::timer_t);

impl Timer {
    fn start(microseconds: i64) -> Self {
        // SAFETY: a sigevent of zeros is a valid one.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        // SAFETY: no arguments.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = std::ptr::null_mut();
        // SAFETY: both live across the call.
        assert_eq!(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) }, 0);
        let each = libc::timespec { tv_sec: 0, tv_nsec: microseconds * 1000 };
        let each = libc::itimerspec { it_interval: each, it_value: each };
        // SAFETY: the timer was just made, and the struct lives across the call.
        assert_eq!(unsafe { libc::timer_settime(timer, 0, &raw const each, std::ptr::null_mut()) }, 0);
        Self(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: nobody else deletes it.
        assert_eq!(unsafe { libc::timer_delete(self.0) }, 0);
    }
}

fn verified(events: &Map, text: &str) -> Program {
    let insns = assemble_with(text, &|name| Helpers::standard().number(name).map(|id| id.0)).expect("a program");
    let program = Program::builder("test", program_type()).maps([events.clone()]).license("GPL").load(insns);
    let program = program.expect("loads");
    program.verify(&VerifyOptions::default()).unwrap_or_else(|error| panic!("{error}")).program().clone()
}

fn session(of_outer: &str) -> Session {
    let mut session = Session::builder().cpus(2).pages(4).build().expect("a session");
    let events = Map::new(&MapDef::perf_event_array("events", 2), 2).expect("a map");
    session.add_rings(&events).expect("rings");
    for (probe, text) in [("test:dtrace_signal:outer:", of_outer), ("test:dtrace_signal:handler:", SEND)] {
        let program = verified(&events, text);
        assert_eq!(session.attach(&program, &probe.parse().expect("a pattern")).expect("attaches"), 1);
    }
    session.enable().expect("starts");
    session
}

fn read(session: &mut Session) -> u64 {
    let mut count = 0;
    session.read(|item| count += u64::from(matches!(item, Item::Sample { .. })));
    count
}

/// One test at a time, with the handler.
fn alone(test: impl FnOnce()) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let _installed = Installed::new();
    test();
}

#[test]
fn a_probe_in_a_handler_that_interrupts_a_program_is_skipped_and_counted() {
    alone(|| {
        let mut session = session(ROUNDS);
        let before = HANDLED.load(Relaxed);
        let timer = Timer::start(200);
        let skipped = |session: &Session| session.probe_stats()[1].skipped;
        let mut rounds = 0_u64;
        // The timer may find this thread between two programs.
        while skipped(&session) < 20 {
            outer(rounds);
            rounds += 1;
            assert!(rounds < 1_000_000, "no program is ever interrupted");
        }
        drop(timer);
        session.close().expect("no program runs");
        let fired = HANDLED.load(Relaxed) - before;
        let read = read(&mut session);
        let stats = session.stats().expect("no program runs");
        assert_eq!(fired, read + stats.dropped(), "{stats:?}");
        assert_eq!(stats.machine.runs, rounds + read + stats.lost, "{stats:?}");
    });
}

#[test]
fn what_handlers_and_threads_fire_is_read_or_counted() {
    alone(|| {
        const EACH: u64 = 50_000;
        let mut session = session(SEND);
        let before = HANDLED.load(Relaxed);
        let mut count = 0;
        std::thread::scope(|scope| {
            let work = || {
                let _timer = Timer::start(50);
                (0..EACH).for_each(outer);
            };
            let threads = [(); 2].map(|()| scope.spawn(work));
            while threads.iter().any(|thread| !thread.is_finished()) {
                count += read(&mut session);
            }
        });
        session.close().expect("no program runs");
        count += read(&mut session);
        let fired = HANDLED.load(Relaxed) - before + 2 * EACH;
        let stats = session.stats().expect("no program runs");
        assert_eq!(fired, count + stats.dropped(), "{stats:?}");
        assert_eq!(stats.read, count);
    });
}

#[test]
fn what_a_forked_child_fires_is_not_in_the_rings_of_its_parent() {
    alone(|| {
        let mut session = session(SEND);
        outer(1);
        // SAFETY: the child only fires probes, which take no lock that another thread may hold, and ends.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            (0..1000).for_each(outer);
            // SAFETY: ends the child without anything of the test's.
            unsafe { libc::_exit(7) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
        outer(2);
        session.close().expect("no program runs");
        assert_eq!(read(&mut session), 2);
        let stats = session.stats().expect("no program runs");
        assert_eq!((stats.machine.runs, stats.dropped()), (2, 0), "{stats:?}");
    });
}

/// Fires while its thread's own data is given up.
struct Last;

impl Drop for Last {
    fn drop(&mut self) {
        outer(3);
    }
}

thread_local! {
    static LAST: Last = const { Last };
}

#[test]
fn threads_fire_until_they_end() {
    alone(|| {
        let mut session = session(SEND);
        std::thread::scope(|scope| {
            // The one that is first used is given up last.
            scope.spawn(|| {
                LAST.with(|_| ());
                outer(1);
            });
            scope.spawn(|| {
                outer(2);
                LAST.with(|_| ());
            });
            scope.spawn(|| LAST.with(|_| ()));
        });
        // Threads are joined once what they ran has ended, which is before their own data is given up.
        let start = std::time::Instant::now();
        while session.stats().expect("no program runs").machine.runs
            + session.stats().expect("no program runs").dropped()
            < 5
        {
            assert!(start.elapsed().as_secs() < 20, "{:?}", session.stats());
            std::thread::yield_now();
        }
        session.close().expect("no program runs");
        let count = read(&mut session);
        let stats = session.stats().expect("no program runs");
        assert_eq!(count + stats.dropped(), 5, "{stats:?}");
    });
}
