//! Programs that are started where one runs already: from a signal handler, from a helper; and many threads on few CPUs.
#![allow(unsafe_code)]

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef, MapError, UpdateFlags};
use perfring::bpf::{
    Context, Environment, Event, HelperId, Helpers, Machine, ProbeRead, Program, ProgramType, Prototype, RunError,
    RunOptions, SetEventError,
};
use perfring::record::SampleType;
use perfring::ring::Ring;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, MutexGuard};
use std::time::Duration;

const HOOK: HelperId = HelperId(100_000);

fn program(helpers: &Helpers, maps: &[Map], text: &str) -> Program {
    let number = |name: &str| helpers.number(name).map(|id| id.0);
    let insns = assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let builder = Program::builder("test", ProgramType::memory()).helpers(helpers).maps(maps.iter().cloned());
    builder.license("GPL").load(insns).unwrap()
}

/// The helpers that there are, and one more, `hook`.
fn with_hook(hook: impl Fn() -> u64 + Send + Sync + 'static) -> Helpers {
    let mut helpers = Helpers::standard().clone();
    helpers.register(HOOK, Prototype::new("hook", &[]), move |_| hook()).unwrap();
    helpers
}

fn run(machine: &Machine, program: &Program) -> Result<u64, RunError> {
    machine.run(program, Context::new(&mut []))
}

/// What the handler runs, while it is installed.
static PROGRAM: AtomicPtr<Fired> = AtomicPtr::new(std::ptr::null_mut());
static RUNS: AtomicU64 = AtomicU64::new(0);
static REENTRANT: AtomicU64 = AtomicU64::new(0);
static OTHER: AtomicU64 = AtomicU64::new(0);

/// What a handler runs, and where.
struct Fired {
    machine: Machine,
    program: Program,
}

extern "C" fn handler(_signal: libc::c_int) {
    // SAFETY: set to something that lives until the handler is uninstalled.
    let Some(fired) = (unsafe { PROGRAM.load(Relaxed).as_ref() }) else { return };
    let counter = match run(&fired.machine, &fired.program) {
        Ok(1) => &RUNS,
        Err(RunError::Reentrant) => &REENTRANT,
        _ => &OTHER,
    };
    counter.fetch_add(1, Relaxed);
}

/// Handlers are of the process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The handler is installed until this is dropped.
struct Installed<'a> {
    before: libc::sigaction,
    _fired: &'a Fired,
    _alone: MutexGuard<'static, ()>,
}

const SIGNAL: libc::c_int = libc::SIGUSR1;

fn install(fired: &Fired) -> Installed<'_> {
    let alone = alone();
    for counter in [&RUNS, &REENTRANT, &OTHER] {
        counter.store(0, Relaxed);
    }
    // The first time on a thread something is allocated, for which a handler is no place.
    assert_eq!(run(&fired.machine, &fired.program), Ok(1));
    PROGRAM.store(std::ptr::from_ref(fired).cast_mut(), Relaxed);
    // SAFETY: a sigaction of zeros is a valid one, with an empty mask.
    let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: both structs live across the call; what the handler does, is made for handlers.
    assert_eq!(unsafe { libc::sigaction(SIGNAL, &raw const action, &raw mut before) }, 0);
    Installed { before, _fired: fired, _alone: alone }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        // SAFETY: puts back what was there.
        assert_eq!(unsafe { libc::sigaction(SIGNAL, &raw const self.before, std::ptr::null_mut()) }, 0);
        PROGRAM.store(std::ptr::null_mut(), Relaxed);
    }
}

fn raise() {
    // SAFETY: only called where the handler is installed.
    assert_eq!(unsafe { libc::raise(SIGNAL) }, 0);
}

/// What a handler saw.
fn seen() -> [u64; 3] {
    [&RUNS, &REENTRANT, &OTHER].map(|counter| counter.load(Relaxed))
}

#[test]
fn a_handler_runs_a_program_unless_one_runs() {
    let fired = Fired { machine: Machine::new(2), program: program(Helpers::standard(), &[], "r0 = 1\nexit") };
    let hook = with_hook(|| {
        raise();
        5
    });
    let interrupted = program(&hook, &[], "call hook\nr0 += 1\nexit");
    let _installed = install(&fired);
    raise();
    assert_eq!(seen(), [1, 0, 0], "outside of programs");
    // There is another CPU, and still: on this thread a program runs. The machine does not matter.
    assert_eq!(run(&fired.machine, &interrupted), Ok(6));
    assert_eq!(seen(), [1, 1, 0]);
    let elsewhere = Machine::new(1);
    assert_eq!(run(&elsewhere, &interrupted), Ok(6));
    assert_eq!(seen(), [1, 2, 0]);
    raise();
    assert_eq!(seen(), [2, 2, 0], "afterwards");
    // Counted where it was to run. `install` ran it once.
    let stats = fired.machine.stats().unwrap();
    assert_eq!((stats.runs, stats.reentrant, stats.no_cpu, stats.traps), (4, 2, 0, 0));
    let stats = elsewhere.stats().unwrap();
    assert_eq!((stats.runs, stats.reentrant), (1, 0));
}

#[test]
fn handlers_interrupt_programs_anywhere() {
    let map = Map::new(&MapDef::hash("counts", 4, 8, 16), 2).unwrap();
    let ring = Ring::confined(4).private().unwrap();
    let events = Map::new(&MapDef::perf_event_array("events", 2), 2).unwrap();
    let attr = Event::bpf_output_attr(SampleType::empty());
    // Counts, and tells of it.
    let text = "
        r6 = r1
        *(u32 *)(r10 -4) = 7
        r1 = map[idx:0] ll
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto none
        r1 = 1
        lock *(u64 *)(r0 +0) += r1
    none:
        *(u64 *)(r10 -16) = 9
        r1 = r6
        r2 = map[idx:1] ll
        r3 = 0xffffffff ll
        r4 = r10
        r4 += -16
        r5 = 12
        call bpf_perf_event_output
        r0 = 1
        exit";
    let fired =
        Fired { machine: Machine::new(2), program: program(Helpers::standard(), &[map.clone(), events.clone()], text) };
    let producer = ring.shared_producer().unwrap();
    for cpu in 0..2 {
        let event = Event::shared(producer.clone(), &attr, 0).unwrap();
        fired.machine.set_event(&events, cpu, cpu, event).unwrap();
    }
    map.update(&7_u32.to_ne_bytes(), &0_u64.to_ne_bytes(), UpdateFlags::Any).unwrap();
    let mut consumer = ring.consumer().unwrap();
    let installed = install(&fired);
    // SAFETY: takes nothing and cannot fail.
    let this_thread = unsafe { libc::pthread_self() };
    let (stop, mut mine, mut samples, mut lost) = (AtomicBool::new(false), 1_u64, 0_u64, 0_u64);
    let mut drain = || {
        consumer
            .for_each(|record| match record.header().type_ {
                2 => lost += record.body().as_chunks().0.get(1).map_or(0, |word| u64::from_ne_bytes(*word)),
                type_ => {
                    assert_eq!((type_, record.bytes().len()), (9, 24));
                    samples += 1;
                }
            })
            .unwrap();
        samples + lost
    };
    struct StopOnDrop<'a>(&'a AtomicBool);
    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                // SAFETY: the thread waits for this one, so it is there; the handler is installed until then.
                assert_eq!(unsafe { libc::pthread_kill(this_thread, SIGNAL) }, 0);
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        let _stop = StopOnDrop(&stop);
        while seen()[0] < 300 || seen()[1] < 300 {
            for _ in 0..50 {
                // No handler has anything to do with it: the program that runs is this one.
                assert_eq!(run(&fired.machine, &fired.program), Ok(1));
                mine += 1;
            }
            // Handlers run in here, too, but never where the lock is held.
            let _ = map.lookup(&7_u32.to_ne_bytes());
            drain();
        }
    });
    drop(installed);
    let [runs, reentrant, other] = seen();
    assert_eq!(other, 0);
    let stats = fired.machine.stats().unwrap();
    assert_eq!((stats.runs, stats.reentrant, stats.no_cpu), (mine + runs, reentrant, 0));
    let count = u64::from_ne_bytes(map.lookup(&7_u32.to_ne_bytes()).unwrap().unwrap().try_into().unwrap());
    assert_eq!(count, mine + runs);
    // The LOST record for what was lost last comes with the next that has room.
    drain();
    assert_eq!(run(&fired.machine, &fired.program), Ok(1));
    assert_eq!(drain(), mine + runs + 1, "each has sent a record, or it is counted as lost");
}

#[test]
fn a_helper_starts_no_program() {
    let machine = Machine::new(4);
    let inner = program(Helpers::standard(), &[], "r0 = 1\nexit");
    let (clone, events) = (machine.clone(), Map::new(&MapDef::perf_event_array("events", 4), 4).unwrap());
    let ring = Ring::confined(4).private().unwrap();
    let producer = ring.shared_producer().unwrap();
    let event = move || {
        let attr = Event::bpf_output_attr(SampleType::empty());
        Event::shared(producer.clone(), &attr, 0).unwrap()
    };
    machine.set_event(&events, 0, 0, event()).unwrap();
    let map = events.clone();
    let hook = with_hook(move || {
        assert_eq!(run(&clone, &inner), Err(RunError::Reentrant));
        let on_third = clone.run_with(&inner, Context::new(&mut []), RunOptions::new().cpu(3));
        assert_eq!(on_third, Err(RunError::Reentrant));
        // Who would wait for the CPU that this thread has, is told so.
        assert_eq!(clone.stats(), Err(SetEventError::Reentrant));
        assert_eq!(clone.set_event(&map, 1, 0, event()), Err(SetEventError::Reentrant));
        assert_eq!(clone.take_event(&map, 0).unwrap_err(), SetEventError::Reentrant);
        3
    });
    assert_eq!(run(&machine, &program(&hook, &[], "call hook\nexit")), Ok(3));
    let stats = machine.stats().unwrap();
    assert_eq!((stats.runs, stats.reentrant), (1, 2));
    assert!(machine.take_event(&events, 0).unwrap().is_some(), "it was left where it was");
}

/// An environment that is asked for the time by a program that runs, and starts another.
struct Starts(Machine, Program);

impl Environment for Starts {
    fn ktime_get_ns(&self) -> u64 {
        u64::from(run(&self.0, &self.1) == Err(RunError::Reentrant))
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

    fn probe_read(&self, _read: ProbeRead, _to: &mut [u8]) -> usize {
        usize::MAX
    }
}

#[test]
fn nor_does_an_environment() {
    let machine = Machine::new(2);
    let starts = Starts(machine.clone(), program(Helpers::standard(), &[], "r0 = 1\nexit"));
    let time = program(Helpers::standard(), &[], "call bpf_ktime_get_ns\nexit");
    let options = RunOptions::new().environment(&starts);
    assert_eq!(machine.run_with(&time, Context::new(&mut []), options), Ok(1));
    assert_eq!(machine.stats().unwrap().reentrant, 1);
    // One that says it read more than there was place for is not believed.
    let read = "r1 = r10\nr1 += -8\nr2 = 8\nr3 = 1\ncall bpf_probe_read_kernel\nexit";
    let read = program(Helpers::standard(), &[], read);
    assert_eq!(machine.run_with(&read, Context::new(&mut []), options), Ok(0));
}

#[test]
fn maps_are_changed_while_a_program_runs() {
    // A helper may do so: the locks of maps are held by nobody then.
    let map = Map::new(&MapDef::hash("map", 4, 8, 4), 1).unwrap();
    let changed = map.clone();
    let hook = with_hook(move || {
        changed.update(&[1; 4], &[2; 8], UpdateFlags::Any).unwrap();
        assert_eq!(changed.lookup(&[1; 4]).unwrap().unwrap(), [2; 8]);
        changed.delete(&[1; 4]).unwrap();
        assert_eq!(changed.delete(&[1; 4]), Err(MapError::NotFound));
        u64::from(changed.lookup(&[1; 4]).unwrap().is_some())
    });
    // The program has the address of a value when the helper deletes it: it stays what it is until the program ends.
    let text = "
        *(u32 *)(r10 -4) = 0x01010101
        r1 = map[idx:0] ll
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto none
        r6 = r0
        call hook
        r0 = *(u8 *)(r6 +0)
        *(u64 *)(r6 +0) = 4
        exit
    none:
        r0 = 77
        exit";
    map.update(&[1; 4], &[9; 8], UpdateFlags::Any).unwrap();
    let machine = Machine::new(1);
    let program = program(&hook, std::slice::from_ref(&map), text);
    assert_eq!(run(&machine, &program), Ok(9), "neither the update nor the deletion is of what the program has");
    assert_eq!(map.lookup(&[1; 4]).unwrap(), None);
    assert_eq!(run(&machine, &program), Ok(77));
}

#[test]
fn a_panic_of_a_helper_leaves_the_machine() {
    let machine = Machine::new(1);
    let ring = Ring::confined(4).private().unwrap();
    let events = Map::new(&MapDef::perf_event_array("events", 1), 1).unwrap();
    let ringbuf = Map::new(&MapDef::new("ringbuf", perfring::bpf::map::MapType::Ringbuf, 0, 0, 4096), 1).unwrap();
    let attr = Event::bpf_output_attr(SampleType::empty());
    machine.set_event(&events, 0, 0, Event::new(ring.producer().unwrap(), &attr, 0).unwrap()).unwrap();
    let hook = with_hook(|| panic!("a helper that panics"));
    let text = "r1 = map[idx:0] ll\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\ncall hook\nexit";
    let panics = program(&hook, std::slice::from_ref(&ringbuf), text);
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| run(&machine, &panics)));
    assert_eq!(result.unwrap_err().downcast_ref(), Some(&"a helper that panics"));
    // Neither the thread, nor the CPU, nor the ring is held.
    let output =
        "*(u64 *)(r10 -8) = 5\nr1 = map[idx:0] ll\nr2 = r10\nr2 += -8\nr3 = 8\nr4 = 0\ncall bpf_ringbuf_output\nexit";
    let output = program(Helpers::standard(), std::slice::from_ref(&ringbuf), output);
    assert_eq!(run(&machine, &output), Ok(0));
    let mut seen = 0;
    let mut consumer = ringbuf.take_consumer().unwrap().unwrap();
    consumer.for_each(|record| seen += u32::from(record.bytes()[12] == 5)).unwrap();
    assert_eq!(seen, 1);
    assert_eq!(machine.stats().unwrap().reentrant, 0);
}

#[test]
fn a_cpu_is_one_threads_alone() {
    let machine = Machine::new(1);
    let (inside, outside) = (std::sync::Arc::new(Barrier::new(2)), std::sync::Arc::new(Barrier::new(2)));
    let hook = with_hook({
        let (inside, outside) = (inside.clone(), outside.clone());
        move || {
            inside.wait();
            outside.wait();
            0
        }
    });
    let waits = program(&hook, &[], "call hook\nexit");
    let quick = program(Helpers::standard(), &[], "r0 = 1\nexit");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| run(&machine, &waits));
        inside.wait();
        assert_eq!(run(&machine, &quick), Err(RunError::NoCpu));
        let options = RunOptions::new().cpu(0);
        assert_eq!(machine.run_with(&quick, Context::new(&mut []), options), Err(RunError::NoCpu));
        let none = machine.run_with(&quick, Context::new(&mut []), RunOptions::new().cpu(1));
        assert_eq!(none, Err(RunError::UnknownCpu { cpu: 1, cpus: 1 }), "which is no drop");
        outside.wait();
        assert_eq!(waiting.join().unwrap(), Ok(0));
    });
    assert_eq!(run(&machine, &quick), Ok(1));
    let stats = machine.stats().unwrap();
    assert_eq!((stats.runs, stats.no_cpu, stats.reentrant), (2, 2, 0));
}

#[test]
fn many_threads_on_few_cpus() {
    const THREADS: u64 = 8;
    const RUNS: u64 = 2000;
    const CPUS: usize = 2;
    let machine = Machine::new(CPUS);
    let percpu = perfring::bpf::map::MapType::PercpuArray;
    let map = Map::new(&MapDef::new("counts", percpu, 4, 8, 1), CPUS).unwrap();
    // A CPU's own value: neither a lock nor an atomic operation is needed.
    let text = "
        *(u32 *)(r10 -4) = 0
        r1 = map[idx:0] ll
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto none
        r6 = *(u64 *)(r0 +0)
        r7 = 30
    again:
        r7 -= 1
        if r7 != 0 goto again
        r6 += 1
        *(u64 *)(r0 +0) = r6
        call bpf_get_smp_processor_id
        exit
    none:
        r0 = -1
        exit";
    let program = program(Helpers::standard(), std::slice::from_ref(&map), text);
    let (ran, dropped) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..RUNS {
                    match run(&machine, &program) {
                        Ok(cpu) => {
                            assert!(cpu < CPUS as u64);
                            ran.fetch_add(1, Relaxed);
                        }
                        Err(RunError::NoCpu) => _ = dropped.fetch_add(1, Relaxed),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let (ran, dropped) = (ran.into_inner(), dropped.into_inner());
    assert_eq!(ran + dropped, THREADS * RUNS);
    let stats = machine.stats().unwrap();
    assert_eq!((stats.runs, stats.no_cpu, stats.reentrant, stats.traps), (ran, dropped, 0, 0));
    let values = map.lookup(&[0; 4]).unwrap().unwrap();
    let counts: u64 = values.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).sum();
    assert_eq!(counts, ran, "no CPU was two threads' at once");
}
