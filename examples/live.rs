//! Streams the kernel's records, decoded, one line each and in the order of time.
//!
//! `live [-e EVENT]... [-F HZ | -c N] [-g] [-a | -p PID | -- CMD ARGS...]`: an EVENT is named as for perf (`page-faults`, which
//! is the default, `cpu-clock:u`, `sched:sched_switch`, `mem:0x1000:w`...). It observes every CPU, a process, or a command and
//! its children; without any of these the program watches itself cause page faults for a second.

use std::io::{self, BufWriter, Write};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;
use perfring::kernel::{Error, EventBuilder, RingSet, SampleType, SetError, SetTarget, StoppedCommand};
use perfring::ring::Wait;

/// What one ring holds, in pages.
const PAGES: usize = 64;

/// The kernel wakes the reader after this many bytes.
const WATERMARK: u32 = 2048;

// `PERF_TYPE_*`
const HARDWARE: u32 = 0;
const SOFTWARE: u32 = 1;
const HW_CACHE: u32 = 3;
const RAW: u32 = 4;

// `PERF_COUNT_SW_*`
const CPU_CLOCK: u64 = 0;
const TASK_CLOCK: u64 = 1;

/// Streams the kernel's records, decoded, one line each and in the order of time.
#[derive(Parser)]
#[command(name = "live")]
struct Arguments {
    /// An event, named as for perf; may be given several times
    #[arg(short, default_value = "page-faults")]
    event: Vec<String>,
    /// Take about so many samples a second
    #[arg(short = 'F', value_name = "HZ", conflicts_with = "count", value_parser = clap::value_parser!(u64).range(1..))]
    freq: Option<u64>,
    /// Take a sample each so many events
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// With call chains
    #[arg(short = 'g')]
    callchain: bool,
    /// Observe every CPU until interrupted, or until the command ends
    #[arg(short, conflicts_with = "pid")]
    all: bool,
    /// Observe the threads of a process until it ends
    #[arg(short, value_name = "PID")]
    pid: Option<u32>,
    /// A command to observe, with its children
    #[arg(last = true, conflicts_with = "pid")]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            let refusal = match error.downcast_ref::<SetError>() {
                Some(SetError::Kernel(error)) => Some(error),
                _ => error.downcast_ref::<Error>(),
            };
            match (refusal, error.downcast_ref::<io::Error>()) {
                (Some(refusal), _) if refusal.is_refusal() => {
                    println!("SKIPPED: {refusal}");
                    ExitCode::SUCCESS
                }
                // Whoever read this has seen enough.
                (_, Some(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
                _ => {
                    eprintln!("live: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

impl Arguments {
    fn builders(&self) -> Result<Vec<EventBuilder>, Error> {
        let mut what = SampleType::IP | SampleType::TID | SampleType::TIME | SampleType::CPU | SampleType::PERIOD;
        what.set(SampleType::CALLCHAIN, self.callchain);
        let mut builders = Vec::new();
        for (number, name) in self.event.iter().enumerate() {
            let event = EventBuilder::parse(name)?;
            let event = match (self.freq, self.count) {
                (Some(freq), _) => event.sample_freq(freq),
                (None, Some(count)) => event.sample_period(count),
                (None, None) => match (event.attr().type_, event.attr().config) {
                    // A period of these is in nanoseconds, or is that of something that happens all the time.
                    (SOFTWARE, CPU_CLOCK | TASK_CLOCK) | (HARDWARE | HW_CACHE | RAW, _) => event.sample_freq(1000),
                    _ => event.sample_period(1),
                },
            };
            let is_first = number == 0;
            let event = event.sample_type(what).wakeup_watermark(WATERMARK).disabled(true);
            // One of them tells what the tasks do.
            builders.push(event.comm(is_first).mmap(is_first).task(is_first));
        }
        Ok(builders)
    }

    fn open(&self, target: SetTarget, adjust: impl Fn(EventBuilder) -> EventBuilder) -> Result<RingSet, SetError> {
        let builders = self.builders()?;
        let open = |adjust: &dyn Fn(EventBuilder) -> EventBuilder| {
            let set = RingSet::builder().target(target).pages(PAGES);
            builders.iter().cloned().fold(set, |set, event| set.event(adjust(event))).open()
        };
        match open(&adjust) {
            // Without the kernel's code, if that is all that is allowed.
            Err(SetError::Kernel(Error::Permission { allowed_at: 1, .. })) => {
                open(&|event| adjust(event).exclude_kernel(true).exclude_hv(true))
            }
            opened => opened,
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut output = Output { out: BufWriter::new(io::stdout().lock()), failed: None };
    let command = match arguments.command.split_first() {
        Some((program, rest)) => {
            let mut command = Command::new(program);
            command.args(rest);
            Some(StoppedCommand::spawn(command)?)
        }
        None => None,
    };
    let (mut set, code) = match (command, arguments.pid) {
        (Some(command), _) => {
            let mut set = if arguments.all {
                arguments.open(SetTarget::Cpus, |event| event)?
            } else {
                let target = SetTarget::Task { pid: command.pid() };
                arguments.open(target, |event| event.inherit(true).enable_on_exec(true))?
            };
            if arguments.all {
                set.enable()?;
            }
            let mut child = command.start()?;
            let code = output.until_the_end_of(&mut set, &mut child)?;
            (set, code)
        }
        (None, Some(pid)) => {
            let mut set = arguments.open(SetTarget::Threads { pid }, |event| event)?;
            set.enable()?;
            while set.wait(None)? != Wait::Closed {
                output.drain(&mut set)?;
            }
            (set, ExitCode::SUCCESS)
        }
        (None, None) if arguments.all => {
            let mut set = arguments.open(SetTarget::Cpus, |event| event)?;
            set.enable()?;
            loop {
                if set.wait(None)? == Wait::Closed {
                    break (set, ExitCode::SUCCESS);
                }
                output.drain(&mut set)?;
            }
        }
        (None, None) => {
            let mut set = arguments.open(SetTarget::Threads { pid: std::process::id() }, |event| event)?;
            watch_self(&mut set, &mut output)?;
            (set, ExitCode::SUCCESS)
        }
    };
    output.finish(&mut set)?;
    Ok(code)
}

fn watch_self(set: &mut RingSet, output: &mut Output<impl Write>) -> Result<(), Box<dyn std::error::Error>> {
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        // Fresh pages each time, which an allocator's memory would not be.
        let mut pages = memmap2::MmapMut::map_anon(128 << 10)?;
        set.enable()?;
        pages.fill(1);
        set.disable()?;
        if set.wait(Some(Duration::from_millis(50)))? == Wait::Ready {
            output.drain(set)?;
        }
    }
    Ok(())
}

struct Output<W> {
    out: W,
    /// The first record that could not be written.
    failed: Option<io::Error>,
}

impl<W: Write> Output<W> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        if self.failed.is_none() {
            self.failed = writeln!(self.out, "{line}").err();
        }
    }

    fn drain(&mut self, set: &mut RingSet) -> io::Result<()> {
        let mut drain = set.drain();
        self.print(&mut drain)
    }

    fn print(&mut self, drain: &mut perfring::kernel::SetDrain<'_>) -> io::Result<()> {
        while let Some(record) = drain.next() {
            match record {
                Ok(record) => match record.decode() {
                    Ok(decoded) => self.line(format_args!("{decoded}")),
                    Err(damaged) => self.line(format_args!("{damaged}")),
                },
                Err(damaged) => self.line(format_args!("{damaged}")),
            }
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }

    fn until_the_end_of(
        &mut self,
        set: &mut RingSet,
        child: &mut Child,
    ) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let ended = loop {
            match set.wait(Some(Duration::from_millis(100)))? {
                // Nothing more will come; the command may still run.
                Wait::Closed => break child.wait()?,
                Wait::Ready => self.drain(set)?,
                _ => {}
            }
            if let Some(status) = child.try_wait()? {
                break status;
            }
        };
        Ok(match ended.code() {
            Some(0) => ExitCode::SUCCESS,
            _ => {
                eprintln!("live: the command ended with {ended}");
                ExitCode::FAILURE
            }
        })
    }

    /// What is left, and how much there was.
    fn finish(&mut self, set: &mut RingSet) -> io::Result<()> {
        let mut drain = set.drain_all();
        self.print(&mut drain)?;
        drop(drain);
        let records = set.stats().delivered;
        // What was lost behind the last record only the kernel knows; what the hardware lost only the records.
        let told: u64 = set.rings().map(|ring| ring.lost).sum();
        let lost = set.lost().map_err(io::Error::other)?.unwrap_or(told).max(told);
        let lost = lost + set.rings().map(|ring| ring.lost_samples).sum::<u64>();
        let wakeups: u64 = set.rings().map(|ring| ring.wakeups).sum();
        writeln!(self.out, "{records} records, {lost} lost, {wakeups} wake-ups")?;
        self.out.flush()
    }
}
