//! From an object to what its programs send.

use super::Arguments;
use super::list::hint;
use super::print::Printer;
use crate::command::bpf::target_types;
use crate::command::output::{Failure, Outcome, open, stdout};
use crate::command::record::Signals;
use perfring::bpf::elf::{Object, ProgramKind};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Loader, Program};
use perfring::dtrace::{
    Aggregations, KernelProbes, KernelSource, Pattern, RecordTypes, RecordedProbes, Session, SourceStats,
    aggregation_drops,
};
use perfring::kernel::{SetTarget, StoppedCommand, online_cpus};
use perfring::record::SampleType;
use perfring::ring::Wait;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How often it is looked whether the command still runs, or a signal has come.
const LOOK: Duration = Duration::from_millis(50);
/// Records that fire probes before what they sent is read.
const BATCH: usize = 256;

fn other(error: impl Display) -> Failure {
    Failure::Other(error.to_string())
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let Some(path) = &arguments.object else { return Err(Failure::Usage("which object?".to_owned())) };
    let bytes = std::fs::read(path).map_err(|error| Failure::file("read", path, error))?;
    let wrong = |error: &dyn Display| Failure::Other(format!("{}: {error}", path.display()));
    let object = Object::parse(&bytes).map_err(|error| wrong(&error))?;
    let mut types = RecordTypes::of(&object).map_err(|error| wrong(&error))?;
    if let Some(format) = &arguments.format {
        let none = || Failure::Usage("--format: the object does not say of what types its records are".to_owned());
        types.set_format(format).map_err(|error| Failure::Usage(format!("--format: {error}")))?;
        types.iter().next().ok_or_else(none)?;
    }
    let mut aggregations = Aggregations::of(&object).map_err(|error| wrong(&error))?;
    for map in &arguments.sum {
        aggregations.add(&object, map).map_err(|error| Failure::Usage(format!("--sum {map}: {error}")))?;
    }
    let printer = Printer::new(stdout(), arguments.json, types);
    let trace = Trace { arguments, path, object: &object, aggregations };
    match &arguments.input {
        Some(input) => trace.recorded(printer, input),
        None => trace.live(printer),
    }
}

/// An object whose programs are fired.
struct Trace<'a> {
    arguments: &'a Arguments,
    path: &'a Path,
    object: &'a Object,
    aggregations: Aggregations,
}

fn session(arguments: &Arguments, path: &Path, object: &Object, cpus: usize) -> Result<Session, Failure> {
    let verify = (!arguments.unverified).then(VerifyOptions::default);
    let builder = Session::builder()
        .cpus(arguments.rings.map_or(cpus, usize::from))
        .pages(arguments.ring_pages)
        .verify(verify)
        // What is printed is in the order of time, whatever ring it comes from.
        .sample_type(SampleType::TIME)
        .trace(|line| say!("{}", line.trim_end()));
    let types = target_types(object, arguments.btf.as_deref())?;
    let with = |loader| match &types {
        Some(types) => Loader::target_types(loader, types),
        None => loader,
    };
    builder.load_with(object, with).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}

/// A program, and the probes that are for it.
struct Wanted {
    program: Program,
    pattern: Pattern,
    /// Whether the command line says so, and not the object.
    is_asked_for: bool,
}

/// The programs and the probes that are for them.
fn wanted(arguments: &Arguments, object: &Object, session: &Session) -> Result<Vec<Wanted>, Failure> {
    let programs = &session.loaded().programs;
    let mut wanted = Vec::new();
    for (name, pattern) in session.wanted() {
        wanted.extend(programs.get(name).map(|program| Wanted {
            program: program.clone(),
            pattern: pattern.clone(),
            is_asked_for: false,
        }));
    }
    for text in &arguments.probe {
        let (name, pattern) = match text.split_once('=') {
            Some((name, pattern)) => (Some(name), pattern),
            None => (None, text.as_str()),
        };
        let pattern: Pattern = pattern.parse().map_err(|error| Failure::Usage(format!("--probe {text}: {error}")))?;
        let chosen: Vec<_> = match name {
            Some(name) => programs.get(name).into_iter().collect(),
            None => {
                // Those that nothing else fires: no probe, and no tail call.
                let is_for_slot = |name: &str| {
                    let spec = object.program(name);
                    let kind = spec.and_then(|spec| spec.section_name().kind);
                    matches!(kind, Some(ProgramKind::Dtrace { slot: Some(_) }))
                        || object.maps.iter().any(|map| map.values.iter().any(|(_, of)| of == name))
                };
                let says = |name: &str| session.wanted().iter().any(|(of, _)| of == name);
                programs.values().filter(|program| !is_for_slot(program.name()) && !says(program.name())).collect()
            }
        };
        if chosen.is_empty() {
            let names: Vec<_> = programs.keys().map(String::as_str).collect();
            let reason = match name {
                Some(name) => format!("there is no program {name}"),
                None => "the object says of all programs by what they are fired: say PROGRAM=PROBES".to_owned(),
            };
            return Err(Failure::Usage(format!("--probe {text}: {reason}; programs: {}", names.join(", "))));
        }
        wanted.extend(chosen.into_iter().map(|program| Wanted {
            program: program.clone(),
            pattern: pattern.clone(),
            is_asked_for: true,
        }));
    }
    if wanted.is_empty() {
        let path = arguments.object.as_deref().unwrap_or(Path::new("")).display();
        return Err(Failure::Other(format!("{path}: no program says by which probes it is fired: use --probe")));
    }
    Ok(wanted)
}

/// Attaches each program where `attach` finds probes. That what the object says matches nothing is an error only where nothing else
/// does.
fn attach(
    wanted: Vec<Wanted>,
    mut attach: impl FnMut(&Program, &Pattern) -> Result<usize, Failure>,
) -> Result<(), Failure> {
    let mut missed = Vec::new();
    let mut all = 0;
    for Wanted { program, pattern, is_asked_for } in wanted {
        let count = attach(&program, &pattern)?;
        all += count;
        if count == 0 {
            let text = pattern.to_string();
            let missing = format!("no probe matches {text:?}, of program {}{}", program.name(), hint(&pattern));
            if is_asked_for {
                return Err(Failure::Other(missing));
            }
            missed.push(missing);
        }
    }
    match missed.first() {
        Some(first) if all == 0 => Err(Failure::Other(first.clone())),
        _ => {
            for missing in missed {
                say!("perfring: warning: {missing}");
            }
            Ok(())
        }
    }
}

impl Trace<'_> {
    fn session(&self, cpus: usize) -> Result<Session, Failure> {
        session(self.arguments, self.path, self.object, cpus)
    }

    fn wanted(&self, session: &Session) -> Result<Vec<Wanted>, Failure> {
        wanted(self.arguments, self.object, session)
    }

    /// Fires the probes of a recording.
    fn recorded(&self, mut printer: Printer<impl Write>, input: &Path) -> Result<Outcome, Failure> {
        let failed = |error: &dyn Display| Failure::Other(format!("{}: {error}", input.display()));
        let mut recorded = RecordedProbes::new(open(input)?).map_err(|error| failed(&error))?;
        let mut session = self.session(recorded.cpus())?;
        attach(self.wanted(&session)?, |program, pattern| {
            let own = session.attach(program, pattern).map_err(other)?;
            Ok(own + recorded.attach(&mut session, program, pattern).map_err(|error| failed(&error))?)
        })
        .map_err(|error| failed(&error))?;
        session.enable().map_err(other)?;
        while recorded.fire(&mut session, BATCH) != 0 {
            session.read(|item| printer.print(&item));
            printer.failed()?;
        }
        let stats = recorded.stats();
        let outcome = self.end(&mut session, &mut printer, stats)?;
        match stats.damaged {
            0 => Ok(outcome),
            damaged => Ok(Outcome::AtFault(format!("{}: {damaged} damaged records", input.display()))),
        }
    }

    /// Fires the probes of the kernel.
    fn live(&self, mut printer: Printer<impl Write>) -> Result<Outcome, Failure> {
        let arguments = self.arguments;
        let last_cpu = online_cpus().map_err(other)?.into_iter().max().unwrap_or(0);
        let mut session = self.session(last_cpu as usize + 1)?;
        let mut kernel = KernelProbes::new();
        attach(self.wanted(&session)?, |program, pattern| {
            let own = session.attach(program, pattern).map_err(other)?;
            Ok(own + kernel.attach(&mut session, program, pattern).map_err(other)?)
        })?;
        let stopped = match arguments.command.split_first() {
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest);
                Some(StoppedCommand::spawn(command).map_err(other)?)
            }
            None if !arguments.all && arguments.pid.is_none() => {
                return Err(Failure::Usage(
                    "nothing to observe: give a command behind --, or -a, -p PID, or -i FILE".to_owned(),
                ));
            }
            None => None,
        };
        let target = match (&stopped, arguments.pid) {
            _ if arguments.all => SetTarget::Cpus,
            (Some(command), _) => SetTarget::Task { pid: command.pid() },
            (None, pid) => SetTarget::Threads { pid: pid.unwrap_or_default() },
        };
        // Until all is open, which may take the kernel long, a signal ends this at once.
        let mut source = kernel.open(target).map_err(other)?;
        let mut signals = Signals::catch()?;
        session.enable().map_err(other)?;
        source.enable().map_err(other)?;
        let child = stopped.map(StoppedCommand::start).transpose().map_err(other)?;
        let result = self.observe(&mut session, &mut source, &mut printer, child, &mut signals);
        source.disable().map_err(other)?;
        while source.fire_all(&mut session, BATCH) != 0 {
            session.read(|item| printer.print(&item));
        }
        result?;
        self.end(&mut session, &mut printer, source.stats())
    }

    /// Prints what comes, until a signal, the end of the command, or that of all that is observed.
    fn observe(
        &self,
        session: &mut Session,
        source: &mut KernelSource,
        printer: &mut Printer<impl Write>,
        mut child: Option<Child>,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        let mut next = self.arguments.interval.map(|interval| Instant::now() + interval);
        loop {
            let wait = source.wait(next.map_or(LOOK, |next| LOOK.min(next.saturating_duration_since(Instant::now()))));
            let wait = wait.map_err(other)?;
            loop {
                let records = source.fire(session, BATCH);
                session.read(|item| printer.print(&item));
                printer.failed()?;
                if records < BATCH || signals.has_come() || next.is_some_and(|next| next <= Instant::now()) {
                    break;
                }
            }
            if let (Some(due), Some(interval)) = (next, self.arguments.interval)
                && due <= Instant::now()
            {
                self.print_tables(session, printer)?;
                // Intervals that were missed are not made up for.
                next = Some((due + interval).max(Instant::now()));
            }
            printer.out.flush()?;
            let has_ended = match &mut child {
                Some(child) => child.try_wait().map_err(other)?.is_some(),
                None => false,
            };
            if has_ended || signals.has_come() || wait == Wait::Closed {
                return Ok(());
            }
        }
    }

    /// Prints what aggregations have come to.
    fn print_tables(&self, session: &Session, printer: &mut Printer<impl Write>) -> Result<(), Failure> {
        let tables = self.aggregations.read(session.loaded()).map_err(other)?;
        Ok(printer.print_tables(&tables)?)
    }

    /// Closes the session, prints what is left, and says what was lost and what went wrong.
    fn end(
        &self,
        session: &mut Session,
        printer: &mut Printer<impl Write>,
        source: SourceStats,
    ) -> Result<Outcome, Failure> {
        session.close().map_err(other)?;
        session.read(|item| printer.print(&item));
        printer.failed()?;
        self.print_tables(session, printer)?;
        printer.out.flush()?;
        let stats = session.stats().map_err(other)?;
        let of_probes = session.probe_stats();
        let errors: u64 = of_probes.iter().map(|probe| probe.errors).sum();
        if !self.arguments.quiet {
            say!("perfring: {} firings, {} records read, {} dropped", stats.fired(), stats.read, stats.dropped());
            if source.lost != 0 {
                say!("perfring: {} records of the kernel were lost before they fired a probe", source.lost);
            }
            if source.unknown_args != 0 {
                say!("perfring: {} arguments of probes were where no record reaches: 0", source.unknown_args);
            }
            if source.unknown_tasks != 0 {
                say!(
                    "perfring: of {} threads parent, user, group and priority are not known: -1",
                    source.unknown_tasks
                );
            }
        }
        let discarded = stats.machine.discarded;
        if discarded != 0 {
            say!("perfring: {discarded} records were reserved and never committed");
        }
        let drops = aggregation_drops(self.object, session.loaded());
        if drops != 0 {
            say!("perfring: {drops} times there was no room for a key in an aggregation");
        }
        for probe in of_probes.iter().filter(|probe| probe.errors + probe.no_cpu + probe.skipped != 0) {
            let dropped = probe.no_cpu + probe.skipped;
            say!("perfring: {}: {} errors, {dropped} dropped", probe.info.name, probe.errors);
        }
        match session.take_errors().first() {
            Some(first) => {
                let name =
                    session.probes().find(|(id, _)| id.0 == first.probe_id).map(|(_, info)| info.name.to_string());
                let name = name.unwrap_or_default();
                Ok(Outcome::AtFault(format!("{errors} programs were stopped, the first at {name}: {}", first.trap)))
            }
            None if errors != 0 => Ok(Outcome::AtFault(format!("{errors} programs could not be run"))),
            None => Ok(Outcome::Fine),
        }
    }
}
