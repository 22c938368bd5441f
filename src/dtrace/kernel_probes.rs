//! The kernel's probes: tracepoints, system calls, functions of processes, clocks.

use super::error::SessionError;
use super::events::{Event, Events, SourceStats, What, info_of, names_of};
use super::name::{Pattern, PatternError, ProbeName};
use super::probe::{ArgInfo, ProbeInfo, Stability};
use super::session::{ProbeId, Session};
use super::syscalls;
use crate::bpf::insn::{Callee, Op};
use crate::bpf::{HelperId, Program, ProgramType};
use crate::kernel::{self, EventBuilder, RingSet, SampleType, SetError, SetTarget, Software, Tracepoint, online_cpus};
use crate::record::Arch;
use crate::ring::Wait;
use std::collections::BTreeMap;
use std::time::Duration;
use thiserror::Error;

/// Why probes of the kernel cannot be found or enabled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KernelProbeError {
    /// The kernel, or what is known of it.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The rings.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A clock without a rate, or with one that there is not.
    #[error(
        "{name} is no clock: profile-N and tick-N have a rate in hertz from 1 to 10000, or a time as in 10ms, 1s, 500us"
    )]
    Clock {
        /// What was named.
        name: String,
    },
    /// A program that a probe does not fire: the context of tracepoints' programs is the record of a tracepoint.
    #[error("{program}: programs of type {type_} are not for {probe}")]
    ProgramType {
        /// The program.
        program: String,
        /// Its type.
        type_: String,
        /// The probe.
        probe: Box<ProbeName>,
    },
}

/// How an event is opened.
#[derive(Clone)]
enum Opens {
    Tracepoint(String),
    /// A path and a function.
    Function {
        path: String,
        function: String,
        returns: bool,
    },
    /// Each so many nanoseconds.
    Clock {
        period: u64,
    },
}

impl PartialEq for Opens {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tracepoint(one), Self::Tracepoint(other)) => one == other,
            (
                Self::Function { path, function, returns },
                Self::Function { path: path2, function: function2, returns: returns2 },
            ) => (path, function, returns) == (path2, function2, returns2),
            // Two clocks of one rate are two clocks: one may be of one CPU.
            _ => false,
        }
    }
}

/// A probe that the kernel offers.
#[derive(Clone)]
pub struct KernelProbe {
    info: ProbeInfo,
    opens: Opens,
    what: What,
}

impl std::fmt::Debug for KernelProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelProbe").field("info", &self.info).finish_non_exhaustive()
    }
}

impl KernelProbe {
    /// What is known of it.
    pub fn info(&self) -> &ProbeInfo {
        &self.info
    }
}

/// The probes that the kernel offers, and that the pattern matches:
///
/// - `tracepoint:SYSTEM::NAME`, and `syscall::CALL:entry` and `:return`: where tracefs can be read. Arguments are the fields, or those
///   of the call; what a call returns.
/// - `uprobe:PATH:FUNCTION:entry` and `:return`: where path and function are named, not by patterns. Arguments are those that
///   registers have; what a function returns.
/// - `profile:::profile-N`, N times a second on each CPU, and `profile:::tick-N`, on one; N may be a time, as in `10ms`. Listed
///   are those that are often used; others are there when they are named.
///
/// # Errors
/// [`KernelProbeError`]; that nothing matches is none.
pub fn kernel_probes(pattern: &Pattern) -> Result<Vec<KernelProbe>, KernelProbeError> {
    let mut found = Vec::new();
    if pattern.matches_provider("tracepoint") || pattern.matches_provider("syscall") {
        for tracepoint in Tracepoint::names() {
            let Some((system, name)) = tracepoint.split_once(':') else { continue };
            let names: Vec<_> = names_of(system, name).into_iter().filter(|name| pattern.matches(name)).collect();
            if names.is_empty() {
                continue;
            }
            // ftrace's own entries are there, too, and are no events.
            let Ok(format) = Tracepoint::find(&tracepoint).and_then(|found| found.format()) else { continue };
            for probe in names {
                found.push(KernelProbe {
                    info: info_of(probe, Some(&format)),
                    opens: Opens::Tracepoint(tracepoint.clone()),
                    what: What::of_tracepoint(system, name, Some(format.clone())),
                });
            }
        }
    }
    if let Ok(name) = pattern.name() {
        match name.provider.as_str() {
            "uprobe" => found.extend(function(name)),
            "profile" => found.push(clock(name)?),
            _ => {}
        }
    } else if pattern.matches_provider("profile") {
        for name in ["profile-97", "profile-199", "profile-499", "profile-997", "tick-1s", "tick-10s"] {
            let name = ProbeName::new("profile", "", "", name);
            if pattern.matches(&name) {
                found.push(clock(name)?);
            }
        }
    }
    Ok(found)
}

fn function(name: ProbeName) -> Option<KernelProbe> {
    let returns = match name.name.as_str() {
        "entry" => false,
        "return" => true,
        _ => return None,
    };
    let arg = |name: String| ArgInfo { name, type_: "u64".to_owned() };
    let args = match returns {
        true => vec![arg("ret".to_owned()), arg("ret".to_owned())],
        false => (0..6).map(|at| arg(format!("arg{at}"))).collect(),
    };
    let opens = Opens::Function { path: name.module.clone(), function: name.function.clone(), returns };
    let info = ProbeInfo { name, args, stability: Stability::Unstable };
    Some(KernelProbe { info, opens, what: What::Function { returns } })
}

fn clock(name: ProbeName) -> Result<KernelProbe, KernelProbeError> {
    let error = || KernelProbeError::Clock { name: name.name.clone() };
    let (on_one, rate) = match name.name.split_once('-') {
        Some(("profile", rate)) => (false, rate),
        Some(("tick", rate)) => (true, rate),
        _ => return Err(error()),
    };
    let digits = rate.find(|c: char| !c.is_ascii_digit()).unwrap_or(rate.len());
    let (number, unit) = rate.split_at(digits);
    let number: u64 = number.parse().ok().filter(|number| *number != 0).ok_or_else(error)?;
    let nanoseconds = match unit {
        "" | "hz" => Some(1_000_000_000 / number),
        "ns" | "nsec" => Some(number),
        "us" | "usec" => number.checked_mul(1_000),
        "ms" | "msec" => number.checked_mul(1_000_000),
        "s" | "sec" => number.checked_mul(1_000_000_000),
        "m" | "min" => number.checked_mul(60_000_000_000),
        _ => None,
    };
    // Faster than that the machine does nothing else; slower, a counter's period does not fit.
    let period = nanoseconds.filter(|period| (100_000..1 << 62).contains(period)).ok_or_else(error)?;
    let cpu = if on_one { Some(online_cpus()?.first().copied().unwrap_or(0)) } else { None };
    let info = ProbeInfo { stability: Stability::Stable, ..ProbeInfo::new(name) };
    Ok(KernelProbe { info, opens: Opens::Clock { period }, what: What::Other { cpu } })
}

/// What is wanted of an event, beside its occurrences.
#[derive(Clone, Copy, Default)]
struct Wants {
    regs: bool,
    stack: bool,
    callchain: bool,
}

/// An event that is wanted.
struct Chosen {
    probe: KernelProbe,
    probes: Vec<ProbeId>,
    wants: Wants,
    /// See [`Event::by_number`].
    by_number: BTreeMap<u32, Vec<ProbeId>>,
}

/// With more system calls than these it takes less time to observe all of them: each event takes the kernel a while to open and to
/// close.
const TOGETHER: usize = 16;

/// Observes system calls by one event where there are many.
fn together(chosen: Vec<Chosen>) -> Vec<Chosen> {
    let mut chosen = chosen;
    for (prefix, all) in
        [("syscalls:sys_enter_", "raw_syscalls:sys_enter"), ("syscalls:sys_exit_", "raw_syscalls:sys_exit")]
    {
        let number = |chosen: &Chosen| match &chosen.probe.opens {
            Opens::Tracepoint(name) => syscalls::number(name.strip_prefix(prefix)?),
            _ => None,
        };
        let (numbered, mut others): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|chosen| number(chosen).is_some());
        if numbered.len() <= TOGETHER {
            others.extend(numbered);
            chosen = others;
            continue;
        }
        let mut whole: Option<Chosen> = None;
        for one in numbered {
            let of = number(&one);
            let whole = whole.get_or_insert_with(|| Chosen {
                probe: KernelProbe { opens: Opens::Tracepoint(all.to_owned()), ..one.probe.clone() },
                probes: Vec::new(),
                wants: Wants::default(),
                by_number: BTreeMap::new(),
            });
            whole.wants.add(one.wants);
            whole.by_number.extend(of.map(|number| (number, one.probes)));
        }
        others.extend(whole);
        chosen = others;
    }
    chosen
}

impl Wants {
    fn add(&mut self, other: Self) {
        self.regs |= other.regs;
        self.stack |= other.stack;
        self.callchain |= other.callchain;
    }
}

/// Probes of the kernel to which programs of a session are attached.
#[derive(Default)]
pub struct KernelProbes {
    chosen: Vec<Chosen>,
    pages: Option<usize>,
    stack: Option<u32>,
}

impl std::fmt::Debug for KernelProbes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelProbes").field("events", &self.chosen.len()).finish_non_exhaustive()
    }
}

/// Bytes of the user's stack that samples of functions have.
const STACK: u32 = 512;
/// Pages of the kernel's rings together, about.
const ALL_PAGES: usize = 1 << 14;

impl KernelProbes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Data pages of each of the kernel's rings, a power of two. Without this from 8 to 256: the fewer rings there are, the more.
    #[must_use]
    pub fn pages(mut self, pages: usize) -> Self {
        self.pages = Some(pages);
        self
    }

    /// Bytes of the user's stack that samples have of functions: what `bpf_probe_read_user` reaches. A multiple of 8 below 65536.
    /// Without this 512.
    #[must_use]
    pub fn stack(mut self, bytes: u32) -> Self {
        self.stack = Some(bytes);
        self
    }

    /// Whether no program is attached.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Attaches a program of the session to each probe of the kernel that the pattern matches; gives how many there are.
    ///
    /// # Errors
    /// [`KernelProbeError`]; that nothing matches is none.
    pub fn attach(
        &mut self,
        session: &mut Session,
        program: &Program,
        pattern: &Pattern,
    ) -> Result<usize, KernelProbeError> {
        let found = kernel_probes(pattern)?;
        let count = found.len();
        for probe in found {
            if program.type_() == ProgramType::tracepoint() && !matches!(probe.opens, Opens::Tracepoint(_)) {
                return Err(KernelProbeError::ProgramType {
                    program: program.name().to_owned(),
                    type_: program.type_().name().to_owned(),
                    probe: Box::new(probe.info.name),
                });
            }
            let id = session.attach_external(program, &probe.info)?;
            let of_records = [ProgramType::tracepoint(), ProgramType::raw_tracepoint()];
            let regs = !of_records.contains(&program.type_());
            let is_function = matches!(probe.what, What::Function { .. });
            let wants =
                Wants { regs: regs || is_function, stack: is_function, callchain: calls(program, HelperId::GET_STACK) };
            match self.chosen.iter_mut().find(|other| other.probe.opens == probe.opens) {
                Some(same) => {
                    if !same.probes.contains(&id) {
                        same.probes.push(id);
                    }
                    same.wants.add(wants);
                }
                None => {
                    self.chosen.push(Chosen { probe, probes: vec![id], wants, by_number: BTreeMap::new() });
                }
            }
        }
        Ok(count)
    }

    /// Opens the events, which are disabled yet.
    ///
    /// # Errors
    /// [`KernelProbeError`]
    pub fn open(self, target: SetTarget) -> Result<KernelSource, KernelProbeError> {
        // Probes of functions are not inherited: what the command's children do is found among what all do.
        let has_functions = self.chosen.iter().any(|chosen| matches!(chosen.probe.what, What::Function { .. }));
        let (on, only) = match target {
            SetTarget::Task { pid } if has_functions => (SetTarget::Cpus, Some(pid)),
            target => (target, None),
        };
        let inherit = matches!(on, SetTarget::Task { .. });
        let what = SampleType::TID | SampleType::TIME | SampleType::CPU | SampleType::PERIOD | SampleType::ADDR;
        let cpus = online_cpus()?.len();
        let rings = (self.chosen.len().min(TOGETHER) + 1) * cpus;
        let pages = self.pages.unwrap_or_else(|| (ALL_PAGES / rings).clamp(8, 256).next_power_of_two());
        let tasks = EventBuilder::software(Software::Dummy)
            .sample_type(what)
            .comm(true)
            .task(true)
            .inherit(inherit)
            .disabled(true);
        let mut set = RingSet::builder().target(on).pages(pages).event(tasks);
        let mut events = vec![Event::new(What::Other { cpu: None }, Vec::new())];
        for Chosen { probe, probes, wants, by_number } in together(self.chosen) {
            let mut what = what;
            let builder = match &probe.opens {
                Opens::Tracepoint(name) => {
                    what |= SampleType::RAW;
                    EventBuilder::tracepoint(name)?.sample_period(1)
                }
                Opens::Function { path, function, returns } => {
                    open_function(path, function, *returns)?.sample_period(1)
                }
                Opens::Clock { period } => EventBuilder::software(Software::CpuClock).sample_period(*period),
            };
            let mut builder = builder.inherit(inherit).disabled(true).wakeup_events(1);
            if wants.callchain {
                what |= SampleType::CALLCHAIN;
            }
            if let (true, Some(arch)) = (wants.regs, Arch::NATIVE) {
                what |= SampleType::REGS_USER;
                builder = builder.sample_regs_user(arch.general_registers());
            }
            if wants.stack {
                what |= SampleType::STACK_USER;
                builder = builder.sample_stack_user(self.stack.unwrap_or(STACK));
            }
            set = set.event(builder.sample_type(what));
            events.push(Event { by_number, ..Event::new(probe.what, probes) });
        }
        let mut source = KernelSource { set: set.open()?, events: Events::new(events, true) };
        if let Some(pid) = only {
            source.events.only(pid);
        }
        match target {
            SetTarget::Task { pid } | SetTarget::Threads { pid } => source.events.tasks.look_at(pid),
            _ => source.events.tasks.look_at_all(),
        }
        Ok(source)
    }
}

#[cfg(feature = "symbols")]
fn open_function(path: &str, function: &str, returns: bool) -> Result<EventBuilder, kernel::Error> {
    match returns {
        false => EventBuilder::uprobe_symbol(path, function),
        true => EventBuilder::uretprobe_symbol(path, function),
    }
}

/// Without symbols a function is an offset in the file, `0x1234`.
#[cfg(not(feature = "symbols"))]
fn open_function(path: &str, function: &str, returns: bool) -> Result<EventBuilder, kernel::Error> {
    let digits = function.strip_prefix("0x").unwrap_or(function);
    let offset = u64::from_str_radix(digits, 16).unwrap_or(u64::MAX);
    match returns {
        false => EventBuilder::uprobe(path, offset),
        true => EventBuilder::uretprobe(path, offset),
    }
}

/// Whether a program, or one that it tail-calls, may call the helper.
fn calls(program: &Program, id: HelperId) -> bool {
    let is_call = |op: &Op| *op == Op::Call(Callee::Helper(id.0));
    // What slots of program arrays hold later is not known.
    program.code().iter().any(|(_, op)| is_call(op)) || program.maps().iter().any(|map| map.owner().is_some())
}

/// The kernel's events, enabled or not, and what their records fire.
#[derive(Debug)]
pub struct KernelSource {
    set: RingSet,
    events: Events,
}

impl KernelSource {
    /// Enables the events.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enable(&mut self) -> Result<(), KernelProbeError> {
        Ok(self.set.enable()?)
    }

    /// Disables the events. What was written before can be read.
    ///
    /// # Errors
    /// The kernel's.
    pub fn disable(&mut self) -> Result<(), KernelProbeError> {
        Ok(self.set.disable()?)
    }

    /// Waits for records, but no longer than `timeout`.
    ///
    /// # Errors
    /// [`KernelProbeError::Set`]
    pub fn wait(&mut self, timeout: Duration) -> Result<Wait, KernelProbeError> {
        Ok(self.set.wait(Some(timeout))?)
    }

    /// Fires what the records say that are old enough to be in the order of time, `most` of them at the most; gives how many records
    /// there were.
    pub fn fire(&mut self, session: &mut Session, most: usize) -> usize {
        Self::drain(&mut self.events, self.set.drain(), session, most)
    }

    /// The same for all records that are there: for the end, when nothing comes any more.
    pub fn fire_all(&mut self, session: &mut Session, most: usize) -> usize {
        Self::drain(&mut self.events, self.set.drain_all(), session, most)
    }

    fn drain(events: &mut Events, mut drain: kernel::SetDrain<'_>, session: &mut Session, most: usize) -> usize {
        for count in 0..most {
            match drain.next() {
                None => return count,
                Some(Ok(record)) => match record.decode() {
                    Ok(decoded) => events.fire(session, Some(record.event), &decoded),
                    Err(_) => events.damaged(),
                },
                Some(Err(_)) => events.damaged(),
            }
        }
        most
    }

    /// What came of the records.
    pub fn stats(&self) -> SourceStats {
        self.events.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        let period = |name: &str| match clock(ProbeName::new("profile", "", "", name)) {
            Ok(KernelProbe { opens: Opens::Clock { period }, what: What::Other { cpu }, .. }) => {
                Ok((period, cpu.is_some()))
            }
            Ok(_) => unreachable!(),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(period("profile-100"), Ok((10_000_000, false)));
        assert_eq!(period("profile-100hz"), Ok((10_000_000, false)));
        assert_eq!(period("tick-1s"), Ok((1_000_000_000, true)));
        assert_eq!(period("tick-250ms"), Ok((250_000_000, true)));
        for wrong in
            ["profile-0", "profile", "tick-", "tick-1x", "profile-20000", "profile-99999999999999999999", "x-1"]
        {
            assert!(period(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn functions_have_to_be_named() {
        let found = |text: &str| {
            let found = kernel_probes(&text.parse().unwrap()).unwrap();
            found.iter().map(|probe| probe.info().name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("uprobe:/bin/sh:main:entry"), ["uprobe:/bin/sh:main:entry"]);
        assert_eq!(found("uprobe:/bin/sh:main:middle"), [""; 0]);
        assert_eq!(found("profile:::tick-7ms"), ["profile:::tick-7ms"]);
        assert_eq!(found("profile:::profile-*").len(), 4);
    }
}
