//! `perfring dtrace`.

mod json;
mod list;
mod print;
mod run;
mod tables;

use super::output::{Failure, Outcome};
use perfring::dtrace::Format;
use std::path::PathBuf;
use std::time::Duration;

/// Fire the programs of an object by probes, and print what they send.
///
/// Which probes fire which program the object says: in the names of its sections (dtrace/PROBES, kprobe/sys_write, tracepoint/SYSTEM/NAME,
/// uprobe/PATH:FUNCTION) and in its section .probes. --probe adds probes. A probe is provider:module:function:name, each part a pattern
/// of *, ?, [a-z]; an empty part is any. There are syscall::CALL:entry and :return, tracepoint:SYSTEM::NAME, uprobe:PATH:FUNCTION:entry
/// and :return, usdt:PATH:PROVIDER:NAME, profile:::profile-N, profile:::tick-N, and dtrace:::BEGIN, END and ERROR.
///
/// Programs run in this process, on the kernel's records of the command and its children, of a process (-p), of the whole system (-a, but
/// of this process), or of a recording (-i). What live programs ask of the kernel comes from the record: what that does not say is -1,
/// or an error. Programs are verified first, unless --unverified says otherwise.
///
/// Records are printed by the names of their fields where the object says of which type they are (DTRACE_RECORD), and maps of the types
/// of perfring_aggregations.h at the end, as one over all CPUs.
///
/// It ends when the command does, the process, the recording, or by SIGINT or SIGTERM. What was lost is said, and where programs were
/// stopped the exit status is 1.
#[derive(clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  perfring dtrace -l 'syscall::*write*:'
  perfring dtrace -l 'usdt:/usr/lib/x86_64-linux-gnu/libc.so.6::'
  perfring dtrace sample.bpf.o -- cat /etc/hostname
  perfring dtrace syscalls.bpf.o -a --interval 1s
  perfring dtrace sample.bpf.o --format '{$time} {pid} {flags:x}' -- make
  perfring dtrace sample.bpf.o -i perf.data"
)]
pub(super) struct Arguments {
    /// The object file.
    #[arg(value_name = "OBJ", required_unless_present = "list")]
    object: Option<PathBuf>,
    /// List the probes that there are, and that match; their arguments, too, where few do.
    #[arg(short, long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["object", "probe", "command", "pid", "all"])]
    list: Option<String>,
    /// Attach a program to these probes, too: PROGRAM=PROBES. Without PROGRAM those of which the object says none.
    #[arg(long, value_name = "PROBES")]
    probe: Vec<String>,
    /// How many rings there are, and CPUs that programs run on; the default is one for each CPU of the machine.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    rings: Option<u16>,
    /// Pages of each ring, a power of two.
    #[arg(long, value_name = "PAGES", default_value_t = 32, value_parser = parse_pages)]
    ring_pages: usize,
    /// Print JSON: one object a line.
    #[arg(long)]
    json: bool,
    /// Print records so: {field}, {field:-20}, {field:08x}, {$cpu}, {$time}, {$map}; records that have not all fields as without it.
    #[arg(long, value_name = "FORMAT", conflicts_with = "json", value_parser = parse_format)]
    format: Option<Format>,
    /// Sum the integers in the values of this map over the CPUs, too, and print them. Maps whose types say what they are need no
    /// option.
    #[arg(long, value_name = "MAP")]
    sum: Vec<String>,
    /// Print what has been counted so often, too: 1s, 500ms.
    #[arg(long, value_name = "TIME", value_parser = parse_interval, conflicts_with = "input")]
    interval: Option<Duration>,
    /// Do not verify the programs: each access is tested instead, and one that they may not make stops them.
    #[arg(long)]
    unverified: bool,
    /// The types of the platform, where programs depend on their layout (CO-RE): an ELF file with a section .BTF, or BTF alone.
    /// Without it those of the running kernel, also for a recording of another.
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// Observe the whole system.
    #[arg(short, long, conflicts_with_all = ["pid", "input"])]
    all: bool,
    /// Observe a process: all its threads, those too that it makes later; what it forks is not of it.
    #[arg(short, long, value_name = "PID", conflicts_with_all = ["command", "input"], value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Fire the probes of a recording: perf.data, a directory of it, a stream (-), or a ring image.
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    input: Option<PathBuf>,
    /// Say nothing at the end.
    #[arg(short, long)]
    quiet: bool,
    /// The command to observe.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

fn parse_format(text: &str) -> Result<Format, String> {
    text.parse().map_err(|error: perfring::dtrace::FormatError| error.to_string())
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let number = units.iter().find_map(|(unit, millis)| Some((text.strip_suffix(unit)?.parse::<u32>().ok()?, *millis)));
    match number {
        Some((number @ 1.., millis)) => Ok(Duration::from_millis(u64::from(number) * millis)),
        _ => Err("a number and ms, s or m".to_owned()),
    }
}

fn parse_pages(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(pages) if pages.is_power_of_two() && pages >= 4 => Ok(pages),
        _ => Err("a power of two, at least 4".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    match &arguments.list {
        Some(pattern) => list::run(pattern, arguments.input.as_deref()),
        None => run::run(arguments),
    }
}
