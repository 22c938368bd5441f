//! What is lost when a process calls the system as fast as it can, and each call fires a program that sends 48 bytes: a program here, of
//! which each record of the kernel is a firing, and one in the kernel. The rings are of the same size.
//!
//! The process counts its calls, and what was read and what was lost is checked against that.
#![allow(unsafe_code)]

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Helpers, Program};
use perfring::dtrace::{Item, KernelProbes, KernelSource, Pattern, Session, program_type};
use perfring::kernel::{Event, EventBuilder, SetTarget, Software, Target, Tracepoint};
use perfring::record::{Attr, Body, Decoder, SampleType};
use perfring::ring::{Consumer, Wake};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

#[path = "support/bpf.rs"]
mod bpf;
#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/mode.rs"]
mod mode;

use bpf::Sender;

/// Says that this process is the one that calls: on which CPU, and how many milliseconds.
const CALLER: &str = "PERFRING_BENCH_CALLER";
/// Pages of each ring.
const PAGES: usize = 256;
/// The longest wait.
const WAIT: Duration = Duration::from_millis(10);
type Error = Box<dyn std::error::Error>;

/// Who, when and where, as the program in the kernel sends it.
const FILL: &str = "
    r6 = r1
    r2 = 232
    r3 = map[idx:0] ll
    r4 = 48
    call bpf_buffer_reserve
    if r0 != 0 goto out
    r7 = *(u64 *)(r6 +232)
    r2 = *(u64 *)(r6 +240)
    r3 = r7
    r3 += 48
    if r3 > r2 goto commit
    r2 = *(u32 *)(r6 +204)
    *(u32 *)(r7 +4) = r2
    r2 = *(u32 *)(r6 +200)
    *(u32 *)(r7 +0) = r2
    call bpf_ktime_get_ns
    *(u64 *)(r7 +8) = r0
    r2 = *(u32 *)(r6 +212)
    *(u32 *)(r7 +16) = r2
    r2 = *(u32 *)(r6 +216)
    *(u32 *)(r7 +20) = r2
    r2 = *(u32 *)(r6 +196)
    *(u64 *)(r7 +24) = r2
    r2 = *(u32 *)(r6 +172)
    *(u64 *)(r7 +32) = r2
commit:
    r1 = r6
    r2 = 232
    r3 = map[idx:0] ll
    call bpf_buffer_commit
out:
    r0 = 0
    exit";

/// The process that calls.
struct Caller {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Caller {
    fn new(cpu: usize, duration: Duration) -> Result<Self, Error> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(CALLER, format!("{cpu} {}", duration.as_millis()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("a pipe")?);
        let mut caller = Self { child, lines };
        assert_eq!(caller.answer()?, 0, "it is ready");
        Ok(caller)
    }

    fn go_on(&mut self) -> Result<(), Error> {
        Ok(self.child.stdin.as_mut().ok_or("a pipe")?.write_all(b"\n")?)
    }

    /// How often it has called.
    fn answer(&mut self) -> Result<u64, Error> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }

    /// Whether it has answered, or is about to.
    fn has_answered(&mut self) -> bool {
        use std::os::fd::AsRawFd;
        let mut fd = libc::pollfd { fd: self.lines.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which is open, valid for the call.
        unsafe { libc::poll(&raw mut fd, 1, 0) != 0 }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn call(text: &str) -> Result<(), Error> {
    let (cpu, millis) = text.split_once(' ').ok_or("a CPU and milliseconds")?;
    cpu::pin(cpu.parse()?)?;
    let duration = Duration::from_millis(millis.parse()?);
    let (mut lines, mut calls) = (std::io::stdin().lines(), 0_u64);
    println!("0");
    while lines.next().is_some() {
        let (start, is_first) = (Instant::now(), calls == 0);
        // Later once: the kernel says what was lost with the record behind it.
        while {
            for _ in 0..if is_first { 256 } else { 1 } {
                // SAFETY: a call without arguments, that std does not make.
                unsafe { libc::syscall(libc::SYS_getppid) };
                calls += 1;
            }
            is_first && start.elapsed() < duration
        } {}
        println!("{calls}");
    }
    Ok(())
}

#[derive(Clone, Copy, Default)]
struct Seen {
    read: u64,
    lost: u64,
}

trait Reader {
    /// Reads what is there; with `all` also what is too young to be in order.
    fn read(&mut self, all: bool) -> Seen;

    /// Waits until a quarter of a ring is full, but not for long.
    fn wait(&mut self);
}

struct Here {
    session: Session,
    source: KernelSource,
}

impl Here {
    fn new(pid: u32) -> Result<Self, Error> {
        let mut session = Session::builder().pages(PAGES).wake(Wake::Never).build()?;
        let cpus = session.machine().cpus();
        let events = Map::new(&MapDef::perf_event_array("events", cpus as u32), cpus)?;
        session.add_rings(&events)?;
        let insns = assemble_with(FILL, &|name| Helpers::standard().number(name).map(|id| id.0))?;
        let program = Program::builder("fill", program_type()).maps([events]).license("GPL").load(insns)?;
        let verified = program.verify(&VerifyOptions::default())?;
        let mut kernel = KernelProbes::new().pages(PAGES);
        let pattern: Pattern = "syscall::getppid:entry".parse()?;
        assert_eq!(kernel.attach(&mut session, verified.program(), &pattern)?, 1);
        let mut source = kernel.open(SetTarget::Threads { pid })?;
        session.enable()?;
        source.enable()?;
        Ok(Self { session, source })
    }
}

impl Reader for Here {
    fn read(&mut self, all: bool) -> Seen {
        loop {
            let records = match all {
                true => self.source.fire_all(&mut self.session, 256),
                false => self.source.fire(&mut self.session, 256),
            };
            self.session.read(|item| assert!(matches!(item, Item::Sample { data, .. } if data.len() == 52)));
            if records < 256 {
                break;
            }
        }
        let stats = self.session.stats().expect("no program runs");
        // The kernel is asked only at the end: that interrupts its CPUs.
        let lost = if all { self.source.stats().lost } else { 0 };
        Seen { read: stats.read, lost: stats.dropped() + lost }
    }

    fn wait(&mut self) {
        self.source.wait(WAIT).expect("events that are open");
    }
}

struct InKernel {
    _probe: Event,
    output: Event,
    _sender: Sender,
    consumer: Consumer,
    decoder: Decoder,
    seen: Seen,
}

impl InKernel {
    fn new(pid: u32, cpu: u32) -> Result<Self, Error> {
        let sender = Sender::of_tracepoint(cpu + 1, pid)?;
        let sample_type = SampleType::TID | SampleType::TIME | SampleType::CPU | SampleType::RAW;
        let output = EventBuilder::software(Software::BpfOutput).sample_period(1).sample_type(sample_type);
        let output = output.wakeup_watermark((PAGES * 1024) as u32);
        let mut output = output.open(Target::Cpu { cpu })?;
        let consumer = output.mmap(PAGES)?;
        sender.connect(cpu, std::os::fd::AsFd::as_fd(&output))?;
        let probe = EventBuilder::tracepoint("syscalls:sys_enter_getppid")?.sample_period(1);
        let probe = probe.open(Target::Task { pid })?;
        probe.set_bpf(sender.program())?;
        let decoder = Decoder::new(&Attr { sample_type, ..Attr::default() })?;
        Ok(Self { _probe: probe, output, _sender: sender, consumer, decoder, seen: Seen::default() })
    }
}

impl Reader for InKernel {
    fn read(&mut self, _all: bool) -> Seen {
        let (decoder, seen) = (&self.decoder, &mut self.seen);
        let result = self.consumer.for_each(|record| match decoder.decode(record.bytes()).expect("a record").body {
            Body::Sample(sample) => {
                assert!(sample.raw().is_some_and(|raw| raw.len() == 52));
                seen.read += 1;
            }
            Body::Lost(lost) => seen.lost += lost.lost,
            other => panic!("{other:?}"),
        });
        result.expect("sound records");
        *seen
    }

    fn wait(&mut self) {
        self.output.poll(Some(WAIT)).expect("an event that is open");
    }
}

/// One storm: the calls, and what came of them.
fn storm(
    caller: &mut Caller,
    reader: Option<&mut dyn Reader>,
    duration: Duration,
    waits: bool,
) -> Result<(u64, Seen, f64), Error> {
    let Some(reader) = reader else {
        caller.go_on()?;
        return Ok((caller.answer()?, Seen::default(), 0.0));
    };
    let before = cpu::time();
    caller.go_on()?;
    while !caller.has_answered() {
        if waits {
            reader.wait();
        }
        reader.read(false);
    }
    let busy = (cpu::time() - before).as_secs_f64() / duration.as_secs_f64();
    let calls = caller.answer()?;
    reader.read(true);
    caller.go_on()?;
    let last = caller.answer()?;
    let seen = reader.read(true);
    assert_eq!(seen.read + seen.lost, last, "each call was read or lost");
    Ok((calls, seen, busy))
}

/// Has tracefs in a mount namespace of this process's own, where nobody has mounted it; what keeps it from that is told later.
fn mount_tracefs() {
    if !Tracepoint::names().is_empty() {
        return;
    }
    let (none, root, tracefs, at) =
        (c"none".as_ptr(), c"/".as_ptr(), c"tracefs".as_ptr(), c"/sys/kernel/tracing".as_ptr());
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: takes flags; there is one thread. The strings are static and end in NUL; data, which is null, is not looked at.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, root, std::ptr::null(), flags, std::ptr::null()) == 0
        {
            libc::mount(tracefs, at, tracefs, 0, std::ptr::null());
        }
    }
}

fn main() -> Result<(), Error> {
    if let Ok(text) = std::env::var(CALLER) {
        return call(&text);
    }
    let [own, other, ..] = cpu::allowed()[..] else {
        println!("SKIPPED: firings: it needs two CPUs");
        return Ok(());
    };
    mount_tracefs();
    let (turns, duration) = if mode::is_trial() { (1, 20) } else { (7, 1000) };
    let duration = Duration::from_millis(duration);
    let first = Caller::new(other, duration)?;
    if let Err(reason) = Here::new(first.child.id()) {
        println!("SKIPPED: firings: {reason}");
        return Ok(());
    }
    drop(first);
    cpu::pin(own)?;
    println!(
        "Rings of {PAGES} pages, {turns} turns of {} ms each; calls on CPU {other}, reader on CPU {own}\n",
        duration.as_millis()
    );
    for (title, waits) in [("the reader never sleeps", false), ("the reader sleeps until a quarter is full", true)] {
        println!("### {title}\n");
        table(turns, duration, waits, other)?;
        println!();
    }
    Ok(())
}

fn table(turns: u32, duration: Duration, waits: bool, cpu: usize) -> Result<(), Error> {
    println!(
        "| turn | programs run | calls, M/s | read | lost | loss | reader on its CPU |\n|---|---|---|---|---|---|---|"
    );
    let mut sums = ["nowhere", "here", "in the kernel"].map(|name| (name, 0, Seen::default(), 0.0));
    for turn in 1..=turns {
        for (at, (name, all, sum, all_busy)) in sums.iter_mut().enumerate() {
            let mut caller = Caller::new(cpu, duration)?;
            let pid = caller.child.id();
            let (mut here, mut in_kernel);
            let reader: Option<&mut dyn Reader> = match at {
                0 => None,
                1 => {
                    here = Here::new(pid)?;
                    Some(&mut here)
                }
                _ => {
                    in_kernel = InKernel::new(pid, cpu as u32)?;
                    Some(&mut in_kernel)
                }
            };
            let (calls, seen, busy) = storm(&mut caller, reader, duration, waits)?;
            print(&turn.to_string(), name, calls, duration.as_secs_f64(), seen, busy);
            *all += calls;
            sum.read += seen.read;
            sum.lost += seen.lost;
            *all_busy += busy / f64::from(turns);
        }
    }
    for (name, calls, seen, busy) in sums {
        print("all", name, calls, duration.as_secs_f64() * f64::from(turns), seen, busy);
    }
    Ok(())
}

fn print(turn: &str, name: &str, calls: u64, seconds: f64, seen: Seen, busy: f64) {
    let Seen { read, lost } = seen;
    let (rate, loss) = (calls as f64 / seconds / 1e6, lost as f64 / calls as f64 * 100.0);
    println!("| {turn} | {name} | {rate:.2} | {read} | {lost} | **{loss:.4} %** | {:.0} % |", busy * 100.0);
}
