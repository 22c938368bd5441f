//! Programs at the probes that the kernel offers, and the events that fire them.

use super::error::SessionError;
use super::events::{Event, Events, Only, SourceStats, What};
use super::item::ProbeId;
use super::name::{Pattern, PatternError, ProbeName};
use super::offered::{KernelProbe, Opens, kernel_probes};
use super::program_type::{REGS, program_type};
use super::session::Session;
use super::syscalls;
use crate::bpf::insn::{Callee, Op};
use crate::bpf::{HelperId, Program, ProgramType};
use crate::kernel::{self, EventBuilder, RingSet, SampleType, SetError, SetTarget, Software, online_cpus};
use crate::record::Arch;
use crate::ring::{Wait, pidfd, poll_any};
#[cfg(feature = "symbols")]
use crate::{dtrace::operand::operands, dtrace::program_type::MAX_ARGS, kernel::UsdtSite};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
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
    /// Where they are.
    by_event: HashMap<ProbeName, usize>,
    pages: Option<usize>,
    stack: Option<u32>,
    wakeup_events: Option<u32>,
}

impl std::fmt::Debug for KernelProbes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelProbes").field("events", &self.chosen.len()).finish_non_exhaustive()
    }
}

/// How often it is looked whether a process has ended that is observed among all.
const LOOK: Duration = Duration::from_millis(50);
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

    /// Ends a wait after so many records in one of the kernel's rings. Without this once a quarter of one is full: to wake somebody costs
    /// a thread that is observed more than all else, so that a wait for what comes seldom is one for a time.
    #[must_use]
    pub fn wakeup_events(mut self, events: u32) -> Self {
        self.wakeup_events = Some(events);
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
            // A record with registers is twice as large, and takes the thread longer.
            let regs = match program.type_() == program_type() {
                true => program.may_read_context_below(8 * REGS as u64),
                false => !of_records.contains(&program.type_()),
            };
            let is_function = probe.what.is_in_process();
            let wants =
                Wants { regs: regs || is_function, stack: is_function, callchain: calls(program, HelperId::GET_STACK) };
            let new = self.chosen.len();
            let at = probe.event_name().map_or(new, |name| *self.by_event.entry(name).or_insert(new));
            match self.chosen.get_mut(at) {
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
    /// Of a process ([`SetTarget::Threads`]) nothing is missed that threads do which it makes later: what all processes do is recorded,
    /// and that of others left out. Where the system does not allow that, the threads are observed themselves, and new ones are found
    /// within a second.
    ///
    /// # Errors
    /// [`KernelProbeError`]
    pub fn open(self, target: SetTarget) -> Result<KernelSource, KernelProbeError> {
        let pages = self.pages;
        let stack = self.stack.unwrap_or(STACK);
        let wakeup_events = self.wakeup_events;
        let has_functions = self.chosen.iter().any(|chosen| chosen.probe.what.is_in_process());
        let chosen = together(self.chosen);
        let open = |on| open_set(&chosen, on, pages, stack, wakeup_events);
        let mut process = None;
        let (set, events, only) = match target {
            // Probes of functions are not inherited: what the command's children do is found among what all do.
            SetTarget::Task { pid } if has_functions => {
                let (set, events) = open(SetTarget::Cpus)?;
                (set, events, Some(Only::family(pid)))
            }
            SetTarget::Threads { pid } => {
                let found = Process::find(pid)?;
                match open(SetTarget::Cpus) {
                    Err(KernelProbeError::Set(SetError::Kernel(kernel::Error::Permission { .. }))) => {
                        let (set, events) = open(target)?;
                        (set, events, None)
                    }
                    opened => {
                        let (set, events) = opened?;
                        let only = Only::Process(found.pid);
                        process = Some(found);
                        (set, events, Some(only))
                    }
                }
            }
            target => {
                let (set, events) = open(target)?;
                (set, events, None)
            }
        };
        let mut source = KernelSource { set, events: Events::new(events, true), process };
        source.events.only(only);
        match target {
            SetTarget::Task { pid } | SetTarget::Threads { pid } => source.events.tasks.look_at(pid),
            _ => source.events.tasks.look_at_all(),
        }
        Ok(source)
    }
}

/// A process that is observed among all.
#[derive(Debug)]
struct Process {
    pid: u32,
    /// Readable once it has ended.
    fd: OwnedFd,
}

impl Process {
    /// That of a thread.
    fn find(tid: u32) -> Result<Self, SetError> {
        let failed = |source| SetError::Threads { pid: tid, source };
        let status = std::fs::read(format!("/proc/{tid}/status")).map_err(failed)?;
        let status = String::from_utf8_lossy(&status);
        let pid = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok()).unwrap_or(tid);
        Ok(Self { pid, fd: pidfd(pid).map_err(failed)? })
    }

    fn has_ended(&self) -> bool {
        poll_any([self.fd.as_fd()], Some(Instant::now())).unwrap_or(false)
    }
}

/// Opens the events, and the one that tells of processes and their names.
fn open_set(
    chosen: &[Chosen],
    on: SetTarget,
    pages: Option<usize>,
    stack: u32,
    wakeup_events: Option<u32>,
) -> Result<(RingSet, Vec<Event>), KernelProbeError> {
    let inherit = matches!(on, SetTarget::Task { .. });
    let what = SampleType::TID | SampleType::TIME | SampleType::CPU | SampleType::PERIOD | SampleType::ADDR;
    let cpus = online_cpus()?.len();
    let rings = (chosen.len() + 1) * cpus;
    let pages = pages.unwrap_or_else(|| (ALL_PAGES / rings).clamp(8, 256).next_power_of_two());
    let tasks =
        EventBuilder::software(Software::Dummy).sample_type(what).comm(true).task(true).inherit(inherit).disabled(true);
    let mut set = RingSet::builder().target(on).pages(pages).event(tasks);
    let mut events = vec![Event::new(What::Other { cpu: None }, Vec::new())];
    for Chosen { probe, probes, wants, by_number } in chosen {
        for (builder, of_event) in builders(probe)? {
            let mut what =
                what | if matches!(probe.opens, Opens::Tracepoint(_)) { SampleType::RAW } else { SampleType::empty() };
            let mut builder = builder.inherit(inherit).disabled(true);
            builder = match wakeup_events {
                Some(events) => builder.wakeup_events(events),
                // Pages have at least 4096 bytes.
                None => builder.wakeup_watermark(u32::try_from(pages * 1024).unwrap_or(u32::MAX)),
            };
            if wants.callchain {
                what |= SampleType::CALLCHAIN;
            }
            if let (true, Some(arch)) = (wants.regs, Arch::NATIVE) {
                what |= SampleType::REGS_USER;
                builder = builder.sample_regs_user(arch.general_registers());
            }
            if wants.stack {
                what |= SampleType::STACK_USER;
                builder = builder.sample_stack_user(stack);
            }
            set = set.event(builder.sample_type(what));
            events.push(Event { by_number: by_number.clone(), ..Event::new(of_event, probes.clone()) });
        }
    }
    Ok((set.open()?, events))
}

/// The events of a probe, and what their samples are.
fn builders(probe: &KernelProbe) -> Result<Vec<(EventBuilder, What)>, KernelProbeError> {
    let one = match &probe.opens {
        Opens::Tracepoint(name) => EventBuilder::tracepoint(name)?.sample_period(1),
        Opens::Function { path, function, returns } => open_function(path, function, *returns)?.sample_period(1),
        Opens::Clock { period } => EventBuilder::software(Software::CpuClock).sample_period(*period),
        #[cfg(feature = "symbols")]
        Opens::Usdt { path, sites } => {
            let event = |site: &UsdtSite| {
                let what = What::Usdt(operands(&site.arguments, MAX_ARGS).into());
                Ok((EventBuilder::usdt(path, site)?.sample_period(1), what))
            };
            return sites.iter().map(event).collect();
        }
    };
    Ok(vec![(one, probe.what.clone())])
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
    /// Where all are recorded for the sake of one.
    process: Option<Process>,
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

    /// Waits until there is something to read, or [`KernelProbes::wakeup_events`] wakes this thread, but no longer than `timeout`. What is
    /// there then can be read, also where it is less than wakes. [`Wait::Closed`] says that what is observed has ended: what is left
    /// [`fire_all`](Self::fire_all) reads.
    ///
    /// # Errors
    /// [`KernelProbeError::Set`]
    pub fn wait(&mut self, timeout: Duration) -> Result<Wait, KernelProbeError> {
        let Some(process) = &self.process else { return Ok(self.set.wait(Some(timeout))?) };
        let start = Instant::now();
        loop {
            if process.has_ended() {
                return Ok(Wait::Closed);
            }
            let left = timeout.saturating_sub(start.elapsed());
            let wait = self.set.wait(Some(left.min(LOOK)))?;
            if wait != Wait::TimedOut || left <= LOOK {
                return Ok(wait);
            }
        }
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

    /// What came of the records. What was lost the kernel is asked for: a system call for each event on each CPU, which interrupts that
    /// CPU.
    pub fn stats(&self) -> SourceStats {
        self.events.stats(self.set.lost().ok().flatten().or(Some(0)))
    }
}
