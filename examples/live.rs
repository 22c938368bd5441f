//! Streams the kernel's records of a command, or of this program itself, one line each.
//!
//! `live [-e EVENT] [-- CMD ARGS...]`: EVENT is a software event (`page-faults`, which is the default, `cpu-clock`,
//! `context-switches`...) or a tracepoint (`sched:sched_switch`). The command's children are followed; the stream ends
//! with the command. Without a command, the program watches itself cause page faults for a second.

use std::io::{self, BufWriter, Write};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use perfring::kernel::{Error, Event, EventBuilder, SampleType, Software, StoppedCommand, Target, bindings, poll};
use perfring::ring::{Consumer, Wait};

/// What one ring holds, in pages.
const PAGES: usize = 64;

/// The kernel wakes the reader after this many bytes.
const WATERMARK: u32 = 2048;

const USAGE: &str = "usage: live [-e EVENT] [-- CMD ARGS...]";

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("live: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<Error>() {
            Some(refusal) if refusal.is_refusal() => {
                println!("SKIPPED: {refusal}");
                ExitCode::SUCCESS
            }
            _ => match error.downcast_ref::<io::Error>() {
                // Whoever read this has seen enough.
                Some(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
                _ => {
                    eprintln!("live: {error}");
                    ExitCode::FAILURE
                }
            },
        },
    }
}

struct Arguments {
    event: String,
    command: Vec<String>,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self { event: "page-faults".to_owned(), command: Vec::new() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "-e" => parsed.event = arguments.next().ok_or("-e needs an event")?,
                "--" => {
                    parsed.command = arguments.collect();
                    return match parsed.command.is_empty() {
                        true => Err("-- needs a command".to_owned()),
                        false => Ok(parsed),
                    };
                }
                _ => return Err(format!("unexpected argument {argument:?}")),
            }
        }
        Ok(parsed)
    }
}

/// Where a record's pid, tid and CPU stand follows from this.
const SAMPLE_TYPE: SampleType = SampleType::TID.union(SampleType::TIME).union(SampleType::CPU);

fn builder(event: &str) -> Result<EventBuilder, Error> {
    let builder = match event.contains(':') {
        true => EventBuilder::tracepoint(event)?.sample_period(1),
        false => match event.parse()? {
            // A period of these is in nanoseconds.
            clock @ (Software::CpuClock | Software::TaskClock) => {
                EventBuilder::software(clock).sample_period(1_000_000)
            }
            event => EventBuilder::software(event).sample_period(1),
        },
    };
    Ok(builder
        .sample_type(SAMPLE_TYPE)
        .sample_id_all(true)
        .wakeup_watermark(WATERMARK)
        .comm(true)
        .mmap(true)
        .task(true)
        .disabled(true))
}

/// Opens with the kernel's code observed, or without it if that is all that is allowed.
fn open<T>(builder: &EventBuilder, open: impl Fn(&EventBuilder) -> Result<T, Error>) -> Result<T, Error> {
    match open(builder) {
        Err(Error::Permission { allowed_at: 1, .. }) => open(&builder.clone().exclude_kernel(true).exclude_hv(true)),
        opened => opened,
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let builder = builder(&arguments.event)?;
    let mut output = Output { out: BufWriter::new(io::stdout().lock()), records: 0, lost: 0, wakeups: 0 };
    let code = match arguments.command.split_first() {
        Some((program, rest)) => {
            let mut command = Command::new(program);
            command.args(rest);
            watch_command(&builder, command, &mut output)?
        }
        None => {
            watch_self(&builder, &mut output)?;
            ExitCode::SUCCESS
        }
    };
    let Output { mut out, records, lost, wakeups } = output;
    writeln!(out, "{records} records, {lost} lost, {wakeups} wake-ups")?;
    out.flush()?;
    Ok(code)
}

fn watch_command(
    builder: &EventBuilder,
    command: Command,
    output: &mut Output<impl Write>,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let command = StoppedCommand::spawn(command)?;
    // An inherited event has a ring only where it is bound to a CPU.
    let builder = builder.clone().inherit(true).enable_on_exec(true);
    let mut events = open(&builder, |builder| builder.open_task_on_cpus(command.pid()))?;
    let mut consumers = events.iter_mut().map(|event| event.mmap(PAGES)).collect::<Result<Vec<_>, _>>()?;
    let mut child = command.start()?;
    let ended = loop {
        // Below the watermark nobody wakes us, so look now and then.
        match poll(&events, Some(Duration::from_millis(50)))? {
            Wait::Ready => output.wakeups += 1,
            // Its rings have hung up, so the command is about to be reaped.
            Wait::Closed => break child.wait()?,
            _ => {}
        }
        output.drain_all(&mut consumers)?;
        if let Some(status) = child.try_wait()? {
            break status;
        }
    };
    output.drain_all(&mut consumers)?;
    Ok(match ended.code() {
        Some(0) => ExitCode::SUCCESS,
        _ => {
            eprintln!("live: the command ended with {ended}");
            ExitCode::FAILURE
        }
    })
}

fn watch_self(builder: &EventBuilder, output: &mut Output<impl Write>) -> Result<(), Box<dyn std::error::Error>> {
    let mut event: Event = open(builder, |builder| builder.open(Target::CallingThread))?;
    let mut consumers = [event.mmap(PAGES)?];
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        // Fresh pages each time, which an allocator's memory would not be.
        let mut pages = memmap2::MmapMut::map_anon(128 << 10)?;
        event.enable()?;
        pages.fill(1);
        event.disable()?;
        if event.poll(Some(Duration::ZERO))? == Wait::Ready {
            output.wakeups += 1;
        }
        output.drain_all(&mut consumers)?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

struct Output<W> {
    out: W,
    records: u64,
    lost: u64,
    wakeups: u64,
}

impl<W: Write> Output<W> {
    fn drain_all(&mut self, consumers: &mut [Consumer]) -> Result<(), Box<dyn std::error::Error>> {
        for consumer in consumers {
            let mut drain = consumer.drain();
            while let Some(record) = drain.next() {
                let record = record?;
                let header = record.header();
                self.record(header.type_, header.misc, header.size, record.body())?;
            }
        }
        self.out.flush()?;
        Ok(())
    }

    fn record(&mut self, type_: u32, misc: u16, size: u16, body: &[u8]) -> io::Result<()> {
        self.records += 1;
        match type_ {
            // u64 id; u64 lost
            bindings::PERF_RECORD_LOST => self.lost += u64_at(body, 8).unwrap_or(0),
            // u64 lost
            bindings::PERF_RECORD_LOST_SAMPLES => self.lost += u64_at(body, 0).unwrap_or(0),
            _ => {}
        }
        let out = &mut self.out;
        match name(type_) {
            Some(name) => write!(out, "{name:<16}")?,
            None => write!(out, "type {type_:<11}")?,
        }
        write!(out, " misc {misc:#06x} size {size:5}")?;
        // u32 pid, tid; u64 time; u32 cpu, res: all of a sample, and the end of every other record.
        const ID: usize = 24;
        let id = match type_ {
            bindings::PERF_RECORD_SAMPLE => body.get(..ID),
            _ => body.len().checked_sub(ID).map(|start| &body[start..]),
        };
        if let Some(id) = id
            && let (Some(pid), Some(tid), Some(time), Some(cpu)) =
                (u32_at(id, 0), u32_at(id, 4), u64_at(id, 8), u32_at(id, 16))
        {
            write!(
                out,
                " cpu {cpu:3} pid {pid:7} tid {tid:7} time {}.{:09}",
                time / 1_000_000_000,
                time % 1_000_000_000
            )?;
        }
        writeln!(out)
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

fn name(type_: u32) -> Option<&'static str> {
    Some(match type_ {
        bindings::PERF_RECORD_MMAP => "MMAP",
        bindings::PERF_RECORD_LOST => "LOST",
        bindings::PERF_RECORD_COMM => "COMM",
        bindings::PERF_RECORD_EXIT => "EXIT",
        bindings::PERF_RECORD_THROTTLE => "THROTTLE",
        bindings::PERF_RECORD_UNTHROTTLE => "UNTHROTTLE",
        bindings::PERF_RECORD_FORK => "FORK",
        bindings::PERF_RECORD_READ => "READ",
        bindings::PERF_RECORD_SAMPLE => "SAMPLE",
        bindings::PERF_RECORD_MMAP2 => "MMAP2",
        bindings::PERF_RECORD_LOST_SAMPLES => "LOST_SAMPLES",
        bindings::PERF_RECORD_SWITCH => "SWITCH",
        bindings::PERF_RECORD_SWITCH_CPU_WIDE => "SWITCH_CPU_WIDE",
        _ => return None,
    })
}
