//! `perfring record`.

mod events;
mod recorder;

pub(super) use recorder::Signals;

use super::output::{Failure, Outcome};
use perfring::kernel::{RingSet, SetError, SetTarget, StoppedCommand};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Record events of the kernel into perf.data.
///
/// Observes a command and its children from its first instruction, the threads of a process (-p), or every CPU (-a), until
/// the command ends, the process does, or SIGINT or SIGTERM comes. What is written opens in `perf report` and
/// `perf script`, also when the recorder was killed. An existing FILE becomes FILE.old.
///
/// A command that still runs when the recording ends goes on, unobserved.
///
/// Without the privilege to observe the kernel, only user space is recorded, with a warning.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// An event, named as for perf: `cpu-clock`, `page-faults:u`, `sched:sched_switch`, `mem:0x1000:w`; may be given several
    /// times. The default is `cycles`, or `cpu-clock` where the hardware does not count cycles.
    #[arg(short, long, value_name = "EVENT")]
    event: Vec<String>,
    /// Take about so many samples a second. The default for clocks and hardware events is 4000.
    #[arg(short = 'F', long, value_name = "HZ", conflicts_with = "count", value_parser = clap::value_parser!(u64).range(1..))]
    freq: Option<u64>,
    /// Take a sample each so many events. The default for other events is 1.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// With call chains, by frame pointers.
    #[arg(short = 'g')]
    callchain: bool,
    /// With call chains, by frame pointers (`fp`), or with registers and a piece of the user stack to unwind them from later
    /// (`dwarf`, or `dwarf,BYTES`; the default is 8192 bytes).
    #[arg(long, value_name = "HOW", conflicts_with = "callchain")]
    call_graph: Option<events::CallGraph>,
    /// Observe every CPU.
    #[arg(short, long, conflicts_with = "pid")]
    all_cpus: bool,
    /// Observe the threads of a process.
    #[arg(short, long, value_name = "PID", conflicts_with = "command", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Data pages of each ring, a power of two.
    #[arg(short, long, value_name = "PAGES", default_value_t = 128, value_parser = parse_pages)]
    mmap_pages: usize,
    /// Write to this file; `-`: to the standard output, as a stream that needs no seeking.
    #[arg(short, long, value_name = "FILE", default_value = "perf.data")]
    output: PathBuf,
    /// Compress with zstd, at this level from 1 to 22.
    #[arg(short = 'z', long = "compression-level", value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "1", value_parser = clap::value_parser!(u8).range(1..=22))]
    level: Option<u8>,
    /// Do not look up the build ids of the files that were mapped: `perf` then takes them to be those that are there now.
    #[arg(long)]
    no_buildid: bool,
    /// Say nothing about what was recorded.
    #[arg(short, long)]
    quiet: bool,
    /// The command to observe.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

fn parse_pages(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(pages) if pages.is_power_of_two() => Ok(pages),
        _ => Err("a power of two".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let is_pipe = arguments.output.as_os_str() == "-";
    if is_pipe && std::io::stdout().is_terminal() {
        return Err(Failure::Other("a recording is not written to a terminal: use -o FILE, or a pipe".to_owned()));
    }
    let stopped = match arguments.command.split_first() {
        None if !arguments.all_cpus && arguments.pid.is_none() => {
            return Err(Failure::Usage("nothing to observe: give a command behind --, or -a, or -p PID".to_owned()));
        }
        None => None,
        Some((program, rest)) => {
            let mut command = Command::new(program);
            command.args(rest);
            Some(StoppedCommand::spawn(command).map_err(|error| Failure::Other(error.to_string()))?)
        }
    };
    // Before anything is opened, so that none is lost.
    let mut signals = recorder::Signals::catch()?;
    let target = match (&stopped, arguments.pid) {
        _ if arguments.all_cpus => SetTarget::Cpus,
        (Some(command), _) => SetTarget::Task { pid: command.pid() },
        (None, pid) => SetTarget::Threads { pid: pid.unwrap_or_default() },
    };
    let chosen = events::choose(arguments)?;
    let set = open(arguments, &chosen, target)?;
    let mut recorder = recorder::Recorder::start(arguments, &chosen, set, target)?;
    recorder.describe_what_runs(target)?;
    let child = match stopped {
        Some(command) => {
            if arguments.all_cpus {
                recorder.enable()?;
            }
            Some(command.start().map_err(|error| Failure::Other(error.to_string()))?)
        }
        None => {
            recorder.enable()?;
            None
        }
    };
    let ended = recorder.record(child, &mut signals)?;
    recorder.finish(ended)
}

/// Opens the rings: without the kernel's code where that is not allowed.
fn open(arguments: &Arguments, chosen: &[events::Chosen], target: SetTarget) -> Result<RingSet, Failure> {
    let is_command = matches!(target, SetTarget::Task { .. });
    let open = |is_user_only: bool| {
        let set = RingSet::builder().target(target).pages(arguments.mmap_pages);
        let events = chosen.iter().map(|chosen| {
            let event = chosen.builder.clone().inherit(is_command).enable_on_exec(is_command);
            if is_user_only { event.exclude_kernel(true).exclude_hv(true) } else { event }
        });
        events.fold(set, |set, event| set.event(event)).open()
    };
    let failed = |error: SetError| Failure::Other(error.to_string());
    match open(false) {
        Err(SetError::Kernel(perfring::kernel::Error::Permission { allowed_at: 1, .. })) => {
            say!("perfring: warning: not allowed to observe the kernel: user space only");
            open(true).map_err(failed)
        }
        opened => opened.map_err(failed),
    }
}

/// Moves a file that is there out of the way.
fn keep_old(path: &Path) -> Result<(), Failure> {
    let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file());
    if !is_file {
        return Ok(());
    }
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    std::fs::rename(path, old).map_err(|error| Failure::file("rename", path, error))
}
