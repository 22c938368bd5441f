//! `perfring bpf verify`.

use super::{clean, object, raw};
use crate::command::output::{Failure, Outcome, stdout};
use perfring::bpf::elf::ProgramSpec;
use perfring::bpf::verifier::{LogLevel, Verified, VerifyError, VerifyOptions, VerifyStats};
use perfring::bpf::{LoadError, LoaderError, Machine, Program, ProgramType};
use serde::Serialize;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What a program that came as hex is called.
const RAW: &str = "raw";

/// What `--help` ends with.
const OUTPUT: &str = "\
Output:
  program NAME, section SECTION, type TYPE, COUNT instructions
  LOG
  accepted: insns N, states N, peak_states N, pruned N, memory N, stack N, frames N
  never reached: INDEX..INDEX

  or, behind the log, `refused:` with the reason, or `not loaded:` where the program did not get
  as far. Programs have an empty line between them. The numbers:
    insns        instructions that were followed, on all paths together
    states       states that were remembered to be compared with later ones
    peak_states  the most of them at once
    pruned       paths that ended because one that covers them had been followed before
    memory       the most bytes taken at once, about
    stack        bytes of stack of the deepest call chain
    frames       the most frames at once

  --json has the same numbers as `stats`, with what is never reached as `dead`; and of a program
  that is refused `insn`, `line`, `reason`, and as `path` the instructions that led there.

Exit status:
  0 when every program is accepted; 1 when one is refused, or cannot be loaded or read, which one
  line on the standard error explains; 2 when the command line is wrong, --maps included.

Programs as hex:
  The instructions as they lie in memory, two digits a byte; white space is ignored. --maps has
  the maps, as JSON or in a file: a list of objects with
    \"insn\"     the index of the 64-bit immediate that means the map, or a list of such
    \"kind\"     hash, array, prog_array, perf_event_array, percpu_hash, percpu_array, lru_hash or
               ringbuf
    \"key\", \"value\", \"entries\"
               sizes in bytes, which may be left out where the kind has only one, and the most
               elements; of a ringbuf the bytes
    \"owner\"    of a prog_array: the type of its programs; that of the program if it is left out
    \"flags\"    no_prealloc, rdonly, wronly, zero_seed, rdonly_prog, wronly_prog, mmapable
    \"name\"     for messages

Examples:
  perfring bpf verify tracer.bpf.o
  perfring bpf verify tracer.bpf.o --section kprobe/do_exit --log 1
  echo 'b700000000000000 9500000000000000' | perfring bpf verify --hex -
  perfring bpf verify --hex program.hex --type xdp \\
    --maps '[{\"insn\": 3, \"kind\": \"hash\", \"key\": 8, \"value\": 48, \"entries\": 1}]'";

/// Prove programs safe, or say why that cannot be done.
///
/// A program that is accepted does nothing that it may not do, whatever it is run on, and runs without tests. Nothing is run. The
/// programs are those of an object, each by itself, or one that is given as hex.
///
/// The section's name gives the type of a program, as in kprobe/do_exit; --type says another.
#[derive(clap::Args)]
#[command(after_long_help = OUTPUT)]
pub(in crate::command) struct Arguments {
    /// The object file.
    #[arg(value_name = "OBJ", required_unless_present = "hex", conflicts_with = "hex")]
    object: Option<PathBuf>,
    /// Only the programs of this section; its whole name, as in kprobe/do_exit.
    #[arg(long, value_name = "S", conflicts_with = "hex")]
    section: Option<String>,
    /// Only the program of this name.
    #[arg(long, value_name = "NAME", conflicts_with = "hex")]
    program: Option<String>,
    /// The type of the programs: socket_filter, kprobe, tracepoint, xdp, perf_event, raw_tracepoint, or memory, whose context
    /// is any bytes, with their number in r2. Of hex without it: socket_filter.
    #[arg(long = "type", value_name = "T")]
    type_: Option<String>,
    /// The types of the platform, where programs depend on their layout (CO-RE): an ELF file with a section .BTF, or BTF alone.
    /// Without it those of the running kernel.
    #[arg(long, value_name = "FILE", conflicts_with = "hex")]
    btf: Option<PathBuf>,
    /// Instructions as hex, instead of an object (`-`: the standard input).
    #[arg(long, value_name = "FILE")]
    hex: Option<PathBuf>,
    /// The maps of that program: JSON, or a file of it.
    #[arg(long, value_name = "SPEC", requires = "hex", conflicts_with = "object")]
    maps: Option<String>,
    /// The licence of that program.
    #[arg(long, value_name = "L", requires = "hex", conflicts_with = "object", default_value = "GPL")]
    license: String,
    /// The log: 0 is none, 1 the path to where a program is refused, 2 all paths.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    log: u8,
    /// Print an object of JSON a line, one for each program.
    #[arg(long)]
    json: bool,
    /// How many instructions are followed, on all paths of a program together, before it is too complex.
    #[arg(long, value_name = "N", default_value_t = VerifyOptions::default().insns, value_parser = clap::value_parser!(u64).range(1..))]
    max_insns: u64,
    /// How many MiB are taken for a program before it is too complex.
    #[arg(long, value_name = "MIB", default_value_t = (VerifyOptions::default().memory >> 20) as u64, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    max_memory: u64,
    /// How many bytes of stack the functions of a call chain may have together.
    #[arg(long, value_name = "BYTES", default_value_t = VerifyOptions::default().stack)]
    max_stack: u32,
    /// Refuse programs with instructions that no path reaches.
    #[arg(long)]
    refuse_dead_code: bool,
}

impl Arguments {
    fn options(&self) -> VerifyOptions {
        let mut options = VerifyOptions::default();
        options.log = match self.log {
            0 => LogLevel::None,
            1 => LogLevel::Path,
            _ => LogLevel::All,
        };
        options.insns = self.max_insns;
        options.memory = (self.max_memory as usize) << 20;
        options.stack = self.max_stack;
        options.refuse_dead_code = self.refuse_dead_code;
        options
    }
}

pub(in crate::command) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let type_ = arguments.type_.as_deref().map(object::type_named).transpose()?;
    let options = arguments.options();
    let mut out = Output { out: stdout(), json: arguments.json, programs: 0, refused: 0, first: None };
    let path = match (&arguments.object, &arguments.hex) {
        (_, Some(path)) => {
            let type_ = type_.unwrap_or(ProgramType::socket_filter());
            out.report(&of_hex(arguments, path, type_, &options)?)?;
            path
        }
        (Some(path), None) => {
            of_object(arguments, path, type_, &options, &mut out)?;
            path
        }
        (None, None) => return Err(Failure::Usage("an object is missing, or --hex".to_owned())),
    };
    out.finish(path)
}

/// Verifies a program that is hex.
fn of_hex(arguments: &Arguments, path: &Path, type_: &ProgramType, options: &VerifyOptions) -> Result<Report, Failure> {
    let insns = raw::read(path)?;
    let maps = match &arguments.maps {
        Some(spec) => raw::maps(spec, &insns, type_)?,
        None => Vec::new(),
    };
    let slots = insns.len();
    let mut builder = Program::builder(RAW, type_).license(&arguments.license);
    for (insn, map) in &maps {
        builder = builder.map_at(*insn, map);
    }
    let verdict = match builder.load(insns) {
        Ok(program) => Verdict::of(&program, options),
        Err(error) => Verdict::unsound(error),
    };
    Ok(Report { program: RAW.to_owned(), section: None, type_: Some(type_.name().to_owned()), slots, verdict })
}

/// Verifies the programs of an object that are meant.
fn of_object(
    arguments: &Arguments,
    path: &Path,
    type_: Option<&'static ProgramType>,
    options: &VerifyOptions,
    out: &mut Output,
) -> Result<(), Failure> {
    let object = object::read(path)?;
    let is_meant = |program: &&ProgramSpec| {
        arguments.section.as_ref().is_none_or(|section| program.section == *section)
            && arguments.program.as_ref().is_none_or(|name| program.name == *name)
    };
    let meant: Vec<_> = object.programs.iter().filter(is_meant).collect();
    if meant.is_empty() {
        let all: Vec<_> =
            object.programs.iter().map(|program| format!("{} in {}", program.name, program.section)).collect();
        let reason = match all[..] {
            [] => "there are no programs".to_owned(),
            _ => format!("no such program: there are {}", all.join(", ")),
        };
        return Err(Failure::Other(format!("{}: {}", path.display(), clean(&reason))));
    }
    let machine = Machine::new(1);
    let target = object::target_types(&object, arguments.btf.as_deref())?;
    for spec in meant {
        let verdict = match object::load(&object, spec, type_, &machine, target.as_ref()) {
            Ok(loaded) => match loaded.programs.get(&spec.name) {
                Some(program) => Verdict::of(program, options),
                None => Verdict::not_loaded(format!("program {} was not loaded", spec.name)),
            },
            Err(LoaderError::Program(error)) => Verdict::unsound(error),
            Err(error) => Verdict::not_loaded(error.to_string()),
        };
        out.report(&Report {
            program: spec.name.clone(),
            section: Some(spec.section.clone()),
            type_: type_.or_else(|| object::of_section(spec)).map(|type_| type_.name().to_owned()),
            slots: spec.insns.len(),
            verdict,
        })?;
    }
    Ok(())
}

/// What is said of a program.
#[derive(Serialize)]
struct Report {
    program: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    section: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    type_: Option<String>,
    slots: usize,
    #[serde(flatten)]
    verdict: Verdict,
}

#[derive(Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
enum Verdict {
    Accepted {
        stats: Stats,
        #[serde(skip_serializing_if = "String::is_empty")]
        log: String,
    },
    Refused(Refused),
    NotLoaded {
        reason: String,
    },
}

/// Why a program is refused.
#[derive(Serialize)]
struct Refused {
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    insn: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    path: Vec<usize>,
    #[serde(skip_serializing_if = "String::is_empty")]
    log: String,
    /// All of it in a line, with the program's name.
    #[serde(skip)]
    message: String,
}

#[derive(Serialize)]
struct Stats {
    insns: u64,
    states: u64,
    peak_states: usize,
    pruned: u64,
    memory: usize,
    stack: u32,
    frames: usize,
    /// The first slot, and the one behind the last.
    dead: Vec<[usize; 2]>,
}

impl From<&VerifyStats> for Stats {
    fn from(stats: &VerifyStats) -> Self {
        let VerifyStats { insns, states, peak_states, pruned, memory, stack, frames, .. } = *stats;
        let dead = stats.dead.iter().map(|&Range { start, end }| [start, end]).collect();
        Self { insns, states, peak_states, pruned, memory, stack, frames, dead }
    }
}

impl Verdict {
    fn of(program: &Program, options: &VerifyOptions) -> Self {
        match program.verify(options) {
            Ok(verified) => Self::accepted(&verified, options),
            Err(error) => Self::refused(error),
        }
    }

    fn accepted(verified: &Verified, options: &VerifyOptions) -> Self {
        // The path that was followed last leads nowhere.
        let log = if options.log == LogLevel::All { verified.log() } else { "" };
        Self::Accepted { stats: verified.stats().into(), log: log.to_owned() }
    }

    fn refused(error: VerifyError) -> Self {
        let (message, reason) = (error.to_string(), error.kind.to_string());
        let VerifyError { insn, line, path, log, .. } = error;
        Self::Refused(Refused { reason, insn: Some(insn), line, path, log, message })
    }

    /// Of a program that cannot run at all: its instructions, or what they name, are not there.
    fn unsound(error: LoadError) -> Self {
        let message = error.to_string();
        let reason = error.kind.to_string();
        Self::Refused(Refused {
            reason,
            insn: error.insn,
            line: error.line,
            path: Vec::new(),
            log: String::new(),
            message,
        })
    }

    fn not_loaded(reason: String) -> Self {
        Self::NotLoaded { reason }
    }
}

/// Where reports go, and what they come to.
struct Output {
    out: std::io::BufWriter<std::io::StdoutLock<'static>>,
    json: bool,
    programs: usize,
    refused: usize,
    first: Option<String>,
}

impl Output {
    fn report(&mut self, report: &Report) -> Result<(), Failure> {
        let reason = match &report.verdict {
            Verdict::Accepted { .. } => None,
            Verdict::Refused(refused) => Some(&refused.message),
            Verdict::NotLoaded { reason } => Some(reason),
        };
        if let Some(reason) = reason {
            self.refused += 1;
            self.first.get_or_insert_with(|| clean(reason));
        }
        if self.json {
            serde_json::to_writer(&mut self.out, report).map_err(std::io::Error::from)?;
            writeln!(self.out)?;
        } else {
            if self.programs > 0 {
                writeln!(self.out)?;
            }
            self.text(report)?;
        }
        self.programs += 1;
        Ok(())
    }

    fn text(&mut self, report: &Report) -> Result<(), Failure> {
        let out = &mut self.out;
        write!(out, "program {}", clean(&report.program))?;
        for (what, name) in [("section", &report.section), ("type", &report.type_)] {
            if let Some(name) = name {
                write!(out, ", {what} {}", clean(name))?;
            }
        }
        writeln!(out, ", {} instructions", report.slots)?;
        match &report.verdict {
            Verdict::Accepted { stats, log } => {
                lines(out, log)?;
                let Stats { insns, pruned, states, peak_states, memory, frames, stack, dead } = stats;
                writeln!(
                    out,
                    "accepted: insns {insns}, states {states}, peak_states {peak_states}, pruned {pruned}, memory {memory}, \
                     stack {stack}, frames {frames}"
                )?;
                for (number, [start, end]) in dead.iter().enumerate() {
                    write!(out, "{}{start}..{end}", if number == 0 { "never reached: " } else { ", " })?;
                }
                if !dead.is_empty() {
                    writeln!(out)?;
                }
            }
            Verdict::Refused(refused) => {
                lines(out, &refused.log)?;
                writeln!(out, "refused: {}", clean(&refused.message))?;
            }
            Verdict::NotLoaded { reason } => writeln!(out, "not loaded: {}", clean(reason))?,
        }
        Ok(())
    }

    fn finish(mut self, path: &Path) -> Result<Outcome, Failure> {
        self.out.flush()?;
        Ok(match (self.first, self.refused) {
            (None, _) => Outcome::Fine,
            (Some(first), 1) => Outcome::AtFault(format!("{}: {first}", path.display())),
            (Some(first), refused) => Outcome::AtFault(format!(
                "{}: {first}; {} of {} programs are not accepted",
                path.display(),
                refused,
                self.programs
            )),
        })
    }
}

/// The log, which has lines of the object in it.
fn lines(out: &mut impl Write, log: &str) -> Result<(), Failure> {
    for line in log.lines() {
        writeln!(out, "{}", clean(line))?;
    }
    Ok(())
}
