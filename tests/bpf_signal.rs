//! Programs and maps in signal handlers that interrupt programs and changes of maps.
#![allow(unsafe_code)]

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef, MapError, UpdateFlags};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Context, Environment, Helpers, Machine, ProbeRead, Program, ProgramType, RunError, SetEventError};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

/// Handlers are of the process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What the handler works with, and what it found.
struct Work {
    /// The one that is interrupted, and another.
    map: Map,
    other: Map,
    machine: Machine,
    program: Program,
    /// A page that may not be touched until the handler has come; or none.
    page: *mut u8,
    found: Found,
}

#[derive(Default)]
struct Found {
    calls: AtomicU64,
    updates: Counts,
    lookups: Counts,
    others: Counts,
    runs: Counts,
    stats: Counts,
}

/// What was done, what was refused as it would have had to wait for its own thread, and what went wrong otherwise.
#[derive(Default)]
struct Counts {
    done: AtomicU64,
    busy: AtomicU64,
    wrong: AtomicU64,
}

impl Counts {
    fn count<T, E>(&self, result: Result<T, E>, is_busy: impl FnOnce(&E) -> bool) {
        let counter = match &result {
            Ok(_) => &self.done,
            Err(error) if is_busy(error) => &self.busy,
            Err(_) => &self.wrong,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn get(&self) -> [u64; 3] {
        [&self.done, &self.busy, &self.wrong].map(|counter| counter.load(Relaxed))
    }
}

const DONE: [u64; 3] = [1, 0, 0];
const BUSY: [u64; 3] = [0, 1, 0];

static WORK: AtomicPtr<Work> = AtomicPtr::new(std::ptr::null_mut());

const PAGE: usize = 4096;
const KEY: [u8; 4] = [9; 4];

extern "C" fn handler(signal: libc::c_int) {
    // SAFETY: set to what lives until the handler is uninstalled.
    let Some(work) = (unsafe { WORK.load(Relaxed).as_ref() }) else {
        // SAFETY: nothing that this test does: the process is to end by it.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    let found = &work.found;
    found.calls.fetch_add(1, Relaxed);
    let busy = |error: &MapError| error.errno() == libc::EBUSY;
    found.updates.count(work.map.update(&KEY, &[5; 8], UpdateFlags::Any), busy);
    found.lookups.count(work.map.lookup_into(&KEY, &mut [0; 8]), busy);
    found.others.count(work.other.update(&KEY, &[6; 8], UpdateFlags::Any), busy);
    let result = work.machine.run(&work.program, Context::new(&mut []));
    found.runs.count(result, |error| matches!(error, RunError::Reentrant));
    found.stats.count(work.machine.stats(), |error| matches!(error, SetEventError::Reentrant));
    if !work.page.is_null() {
        // SAFETY: a page of this test's.
        unsafe { libc::mprotect(work.page.cast(), PAGE, libc::PROT_READ) };
    }
}

/// The handler is installed until this is dropped.
struct Installed<'a> {
    signal: libc::c_int,
    before: libc::sigaction,
    _work: &'a Work,
}

fn install(signal: libc::c_int, work: &Work) -> Installed<'_> {
    WORK.store(std::ptr::from_ref(work).cast_mut(), Relaxed);
    // SAFETY: a sigaction of zeros is a valid one, with an empty mask.
    let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: both structs live across the call; what the handler does is what is tested.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, &raw mut before) }, 0);
    Installed { signal, before, _work: work }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        // SAFETY: puts back what was there.
        assert_eq!(unsafe { libc::sigaction(self.signal, &raw const self.before, std::ptr::null_mut()) }, 0);
        WORK.store(std::ptr::null_mut(), Relaxed);
    }
}

fn program(map: &Map, text: &str) -> Program {
    let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
    let insns = assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    Program::builder("test", ProgramType::memory()).maps([map.clone()]).load(insns).unwrap()
}

fn work(machine: Machine, page: *mut u8) -> Work {
    let map = |name| Map::new(&MapDef::hash(name, 4, 8, 64), 2).unwrap();
    let (map, other) = (map("map"), map("other"));
    let text = "
        *(u32 *)(r10 -4) = 7
        *(u64 *)(r10 -16) = 7
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -16
        r4 = 0
        r1 = map[idx:0] ll
        call bpf_map_update_elem
        exit";
    // Handlers run it without tests.
    let program = program(&map, text).verify(&VerifyOptions::default()).unwrap().into();
    Work { map, other, machine, program, page, found: Found::default() }
}

#[test]
fn a_handler_interrupts_an_update() {
    let _alone = alone();
    // SAFETY: a new page, which is touched as a slice below, and unmapped at the end.
    let page = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_NONE, flags, -1, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    let work = work(Machine::new(2), page.cast());
    // SAFETY: zeros for whoever reads them: the handler of the fault makes them so. Nothing writes them.
    let value = unsafe { std::slice::from_raw_parts(work.page, 8) };
    let installed = install(libc::SIGSEGV, &work);
    // The value is copied with the locks held: there it faults.
    let result = work.map.update(&KEY, value, UpdateFlags::Any);
    drop(installed);
    assert_eq!(result, Ok(()));
    let found = &work.found;
    assert_eq!(found.calls.load(Relaxed), 1);
    assert_eq!(found.updates.get(), BUSY);
    assert_eq!(found.lookups.get(), BUSY);
    assert_eq!(found.others.get(), BUSY, "the thread's books of the epoch are those of all maps");
    assert_eq!(found.runs.get(), BUSY);
    assert_eq!(found.stats.get(), BUSY);
    let stats = work.machine.stats().unwrap();
    assert_eq!((stats.reentrant, stats.runs), (1, 0));
    assert_eq!(work.map.lookup(&KEY).unwrap(), Some(vec![0; 8]));
    assert!(work.other.is_empty());
    // And nothing is left of it.
    work.map.update(&KEY, &[1; 8], UpdateFlags::Exist).unwrap();
    assert_eq!(work.machine.run(&work.program, Context::new(&mut [])).unwrap(), 0);
    // SAFETY: nobody has it any more.
    assert_eq!(unsafe { libc::munmap(page, PAGE) }, 0);
}

/// Interrupts the thread where a program asks for the time.
struct Interrupting;

impl Environment for Interrupting {
    fn ktime_get_ns(&self) -> u64 {
        // SAFETY: the handler is installed.
        u64::from(unsafe { libc::raise(libc::SIGUSR1) } == 0)
    }
    fn ktime_get_boot_ns(&self) -> u64 {
        0
    }
    fn pid_tgid(&self) -> u64 {
        0
    }
    fn uid_gid(&self) -> u64 {
        0
    }
    fn comm(&self) -> [u8; 16] {
        [0; 16]
    }
    fn probe_read(&self, _: ProbeRead, _: &mut [u8]) -> usize {
        0
    }
}

#[test]
fn a_handler_interrupts_a_program() {
    let _alone = alone();
    let asks = |program: &dyn Fn(&Map) -> Program| {
        let work = work(Machine::builder(2).environment(Interrupting).build(), std::ptr::null_mut());
        is_interrupted(&work, &program(&work.map));
    };
    asks(&|map| program(map, ASKS));
    // One that runs without tests, too.
    asks(&|map| program(map, ASKS).verify(&VerifyOptions::default()).unwrap().into());
}

/// Asks for the time.
const ASKS: &str = "call bpf_ktime_get_ns\nexit";

/// What becomes of what a handler does while this program, which asks once for the time, runs.
fn is_interrupted(work: &Work, asking: &Program) {
    let _installed = install(libc::SIGUSR1, work);
    assert_eq!(work.machine.run(asking, Context::new(&mut [])).unwrap(), 1);
    let found = &work.found;
    assert_eq!(found.calls.load(Relaxed), 1);
    assert_eq!(found.runs.get(), BUSY, "one program at a time on a thread");
    assert_eq!(found.stats.get(), BUSY, "it would wait for the program that it interrupted");
    assert_eq!(found.updates.get(), DONE, "the program holds no lock there");
    assert_eq!(found.lookups.get(), DONE);
    assert_eq!(found.others.get(), DONE);
    let stats = work.machine.stats().unwrap();
    assert_eq!((stats.reentrant, stats.runs), (1, 1));
    assert_eq!(work.map.lookup(&KEY).unwrap(), Some(vec![5; 8]));
}

/// Signals from another thread, wherever they hit.
#[test]
fn handlers_interrupt_changes_anywhere() {
    let _alone = alone();
    let work = work(Machine::new(2), std::ptr::null_mut());
    // The first time on a thread there is something to be allocated.
    assert_eq!(work.machine.run(&work.program, Context::new(&mut [])).unwrap(), 0);
    let installed = install(libc::SIGUSR2, &work);
    // SAFETY: of this thread, which waits for the other one below.
    let this = unsafe { libc::pthread_self() };
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            // Until it hit both, and often; it may take a while on one CPU.
            let found = &work.found.updates;
            let is_enough = |sent| sent >= 2000 && found.get()[..2].iter().all(|count| *count > 0);
            for _ in (0..1_000_000).take_while(|sent| !is_enough(*sent)) {
                // SAFETY: the thread is there: it waits for this one.
                assert_eq!(unsafe { libc::pthread_kill(this, libc::SIGUSR2) }, 0);
                std::thread::yield_now();
            }
        });
        // Nothing here allocates but what holds the lock, under which handlers do nothing that does.
        let mut i = 0_u32;
        while !sender.is_finished() {
            let key = (100 + i % 8).to_ne_bytes();
            assert_eq!(work.map.update(&key, &[1; 8], UpdateFlags::Any), Ok(()));
            assert_eq!(work.map.delete(&key), Ok(()));
            i = i.wrapping_add(1);
        }
        sender.join()
    });
    // What is still pending comes before this returns.
    std::thread::yield_now();
    drop(installed);
    sent.unwrap();
    let found = &work.found;
    let calls = found.calls.load(Relaxed);
    assert!(calls > 0);
    for counts in [&found.updates, &found.lookups, &found.others, &found.runs, &found.stats] {
        let [done, busy, wrong] = counts.get();
        assert_eq!((done + busy, wrong), (calls, 0));
        assert_eq!([done, busy, wrong], found.updates.get(), "all of a handler, or none");
    }
    assert!(found.updates.get()[..2].iter().all(|count| *count > 0), "{:?}", found.updates.get());
    let stats = work.machine.stats().unwrap();
    assert_eq!((stats.reentrant, stats.runs), (found.runs.get()[1], found.runs.get()[0] + 1));
    let seven = work.map.lookup(&7_u32.to_ne_bytes()).unwrap();
    assert_eq!(seven.as_deref(), Some(&7_u64.to_ne_bytes()[..]));
    for (map, counts, value) in [(&work.map, &found.updates, 5), (&work.other, &found.others, 6)] {
        let expected = (counts.get()[0] > 0).then(|| vec![value; 8]);
        assert_eq!(map.lookup(&KEY).unwrap(), expected);
    }
}
