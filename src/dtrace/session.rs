//! Sessions: programs, the probes that fire them, and the rings that they write.

use super::enabling::{Core, Counts, Enabling, Kind, ProbeError};
use super::error::SessionError;
use super::metadata;
use super::name::{Pattern, ProbeName};
use super::order::Site;
use super::own;
use super::past::Past;
use super::probe::{Probe, ProbeInfo, probes};
use super::program_type::{DtraceContext, program_type};
use crate::bpf::elf::{Object, ProgramKind, ProgramSpec};
use crate::bpf::map::{Map, MapType};
use crate::bpf::verifier::VerifyOptions;
use crate::bpf::{Event, Loaded, Loader, Machine, MachineStats, Program, RunOptions};
use crate::merge::{Merge, Merged, StreamError};
use crate::record::{Attr, Body, ByteOrder, Decoded, Decoder, SampleType};
use crate::ring::{Consumer, ReadError, Record, Ring, Wake, poll_any};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pages of a ring, unless it is said otherwise.
const PAGES: usize = 32;

type Trace = Box<dyn Fn(&str) + Send + Sync>;

/// Makes a [`Session`].
pub struct SessionBuilder {
    cpus: Option<usize>,
    pages: usize,
    per_thread: bool,
    sample_type: SampleType,
    wake: Wake,
    verify: Option<VerifyOptions>,
    trace: Option<Trace>,
}

impl fmt::Debug for SessionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionBuilder").field("cpus", &self.cpus).field("pages", &self.pages).finish_non_exhaustive()
    }
}

impl SessionBuilder {
    /// How many CPUs programs run on, and so how many rings each perf event array has. Without this as many as the system has.
    ///
    /// A firing that finds none free is dropped, and counted. As a thread that is preempted in a program keeps its CPU, programs with
    /// more busy threads than the system has CPUs want one for each of these.
    #[must_use]
    pub fn cpus(mut self, cpus: usize) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// Gives each thread that fires a CPU of its own, of the first as many threads as there are CPUs: what a ring holds is then of
    /// one thread. Without this a firing takes the CPU that the thread runs on, or one near.
    #[must_use]
    pub fn per_thread(mut self) -> Self {
        self.per_thread = true;
        self
    }

    /// Pages in a ring: a power of two, at least 4. Without this 32.
    #[must_use]
    pub fn pages(mut self, pages: usize) -> Self {
        self.pages = pages;
        self
    }

    /// What samples say beside what programs send: `TIME`, `CPU`, `TID` and what else [`Event`] can fill in. Without this nothing.
    #[must_use]
    pub fn sample_type(mut self, sample_type: SampleType) -> Self {
        self.sample_type = sample_type;
        self
    }

    /// When a ring wakes whoever waits for the session. Without this at each record, if somebody sleeps.
    #[must_use]
    pub fn wake(mut self, wake: Wake) -> Self {
        self.wake = wake;
        self
    }

    /// How programs are verified; none: they are not, and each access is tested while they run. One that does what it may not is
    /// stopped, and fires `dtrace:::ERROR`. Without this they are verified.
    #[must_use]
    pub fn verify(mut self, options: Option<VerifyOptions>) -> Self {
        self.verify = options;
        self
    }

    /// What is done with the lines of `bpf_trace_printk`. Without this they go nowhere.
    #[must_use]
    pub fn trace(mut self, trace: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.trace = Some(Box::new(trace));
        self
    }

    /// A session without an object: programs and maps come from elsewhere.
    ///
    /// # Errors
    /// [`SessionError`]
    pub fn build(self) -> Result<Session, SessionError> {
        let online = || std::thread::available_parallelism().map_or(1, usize::from);
        let mut machine = Machine::builder(self.cpus.unwrap_or_else(online)).keep_context(DtraceContext::WORDS);
        if let Some(trace) = self.trace {
            machine = machine.trace(trace);
        }
        let core = Arc::new(Core::new(machine.build(), self.per_thread));
        let attr = Event::bpf_output_attr(self.sample_type);
        let decoder = Decoder::new(&attr).map_err(SessionError::SampleType)?;
        let times = decoder.clone();
        let has_times = attr.sample_type.contains(SampleType::TIME);
        let time: TimeOf = Box::new(move |_, record| times.time(record.bytes()).filter(|_| has_times));
        let ringbuf = Event::bpf_output_attr(SampleType::empty());
        let ringbuf = Decoder::new(&ringbuf).map_err(SessionError::SampleType)?;
        Ok(Session {
            core,
            pages: self.pages,
            wake: self.wake,
            attr,
            decoder,
            ringbuf,
            loaded: Loaded::default(),
            wanted: Vec::new(),
            rings: Merge::new([], time),
            names: Vec::new(),
            ringbufs: Vec::new(),
            probes: Vec::new(),
            enabled: false,
            closed: false,
            read: 0,
        })
    }

    /// Loads an object: its maps, a ring for each CPU in each of its perf event arrays, and its programs.
    ///
    /// # Errors
    /// [`SessionError`]
    pub fn load(self, object: &Object) -> Result<Session, SessionError> {
        self.load_with(object, |loader| loader)
    }

    /// The same, with a loader that was told more: values of variables, say.
    ///
    /// # Errors
    /// [`SessionError`]
    pub fn load_with<'a>(
        self,
        object: &'a Object,
        with: impl FnOnce(Loader<'a>) -> Loader<'a>,
    ) -> Result<Session, SessionError> {
        let verify = self.verify.clone();
        let mut session = self.build()?;
        let mut loader = Loader::new(object, session.machine()).dtrace(program_type());
        if let Some(options) = &verify {
            loader = loader.verify(options);
        }
        session.loaded = with(loader).load()?;
        let maps: Vec<Map> = session.loaded.maps.values().cloned().collect();
        for map in &maps {
            session.add_rings(map)?;
        }
        for spec in &object.programs {
            if session.loaded.programs.contains_key(&spec.name)
                && let Some(pattern) = wanted(spec)?
            {
                session.wanted.push((spec.name.clone(), pattern));
            }
        }
        for (program, pattern) in &object.probes {
            if !session.loaded.programs.contains_key(program) {
                return Err(SessionError::NoProgram { program: program.clone() });
            }
            session.wanted.push((program.clone(), pattern.parse()?));
        }
        Ok(session)
    }
}

/// The probes that the section of a program says.
fn wanted(spec: &ProgramSpec) -> Result<Option<Pattern>, SessionError> {
    let section = spec.section_name();
    let syscall = |function: &str| {
        let plain = ["__x64_sys_", "__arm64_sys_", "__se_sys_", "sys_"].iter().find_map(|p| function.strip_prefix(p));
        plain.map(str::to_owned)
    };
    // What stands in a name is meant as it stands.
    let plain = |text: &str| -> String {
        text.chars().flat_map(|c| matches!(c, '*' | '?' | '[' | '\\').then_some('\\').into_iter().chain([c])).collect()
    };
    let text = match section.kind {
        Some(ProgramKind::Dtrace { .. }) if !section.rest.is_empty() => section.rest.to_owned(),
        Some(ProgramKind::Kprobe) => match syscall(section.rest) {
            Some(name) => format!("syscall::{}:entry", plain(&name)),
            None => return Ok(None),
        },
        Some(ProgramKind::Kretprobe) => match syscall(section.rest) {
            Some(name) => format!("syscall::{}:return", plain(&name)),
            None => return Ok(None),
        },
        Some(ProgramKind::Ksyscall) if !section.rest.is_empty() => format!("syscall::{}:entry", plain(section.rest)),
        Some(ProgramKind::Kretsyscall) if !section.rest.is_empty() => {
            format!("syscall::{}:return", plain(section.rest))
        }
        Some(ProgramKind::Tracepoint) => match section.rest.split_once('/') {
            Some((system, name)) => format!("tracepoint:{}::{}", plain(system), plain(name)),
            None => return Ok(None),
        },
        Some(kind @ (ProgramKind::Uprobe | ProgramKind::Uretprobe)) => match section.rest.rsplit_once(':') {
            Some((path, function)) => {
                let end = if kind == ProgramKind::Uprobe { "entry" } else { "return" };
                format!("uprobe:{}:{}:{end}", plain(path), plain(function))
            }
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(text.parse()?))
}

/// Whose ring it is.
#[derive(Debug)]
struct RingName {
    map: String,
    /// None of a ring buffer, which all CPUs write.
    cpu: Option<u32>,
}

type TimeOf = Box<dyn Fn(usize, &Record<'_>) -> Option<u64> + Send + Sync>;

/// Hands on a record of a ring; gives whether it is a sample.
fn hand_on(decoder: &Decoder, name: &RingName, record: Record<'_>, action: &mut impl FnMut(Item<'_>)) -> bool {
    let (map, cpu) = (&*name.map, name.cpu);
    match decoder.decode(record.bytes()) {
        Ok(Decoded { body: Body::Sample(sample), .. }) => {
            let data = sample.raw().unwrap_or_default();
            action(Item::Sample { map, cpu, time: sample.time(), data });
            return true;
        }
        Ok(Decoded { body: Body::Lost(lost), .. }) => action(Item::Lost { map, cpu, lost: lost.lost }),
        _ => action(Item::Other { map, cpu, record: record.bytes() }),
    }
    false
}

/// Who fires a probe.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The probe itself, on the threads that come by.
    Static(&'static Probe),
    /// The session, when it starts, ends, and finds a program stopped.
    Own(Own),
    /// [`Session::fire`]
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Begin,
    End,
    Error,
}

const OWN: [(&str, Own); 3] = [("BEGIN", Own::Begin), ("END", Own::End), ("ERROR", Own::Error)];

/// A probe with programs.
#[derive(Debug)]
struct Attached {
    info: ProbeInfo,
    source: Source,
    enablings: Vec<Enabling>,
    fired: u64,
    /// What the probe had skipped before it was enabled.
    skipped_before: u64,
    skipped: u64,
}

/// The number of a probe in a session, from 1 on: programs find it in `probe_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u32);

/// What went on at a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeStats {
    /// The probe.
    pub info: ProbeInfo,
    /// Its number.
    pub id: ProbeId,
    /// Programs that are attached to it.
    pub programs: usize,
    /// Programs that were stopped: [`Session::take_errors`] has the first of them.
    pub errors: u64,
    /// Programs that were not started, as no CPU was free.
    pub no_cpu: u64,
    /// Programs that were not started, as the thread ran one already, or was interrupted at a bad time.
    pub skipped: u64,
}

/// What went on in a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// The machine's: what was started, and what was not.
    pub machine: MachineStats,
    /// Firings in which nothing was started, as they came at a bad time.
    pub skipped: u64,
    /// Records that were lost, as a ring was full.
    pub lost: u64,
    /// Samples that were read.
    pub read: u64,
}

impl SessionStats {
    /// Firings of which nothing is in a ring: lost records, and programs that were not started.
    pub fn dropped(&self) -> u64 {
        self.lost + self.skipped + self.machine.no_cpu + self.machine.reentrant
    }
}

/// What a session hands on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Item<'a> {
    /// What a program sent.
    Sample {
        /// The map that leads to the ring.
        map: &'a str,
        /// The CPU whose ring it is; none of a ring buffer.
        cpu: Option<u32>,
        /// When, in nanoseconds of CLOCK_MONOTONIC, where samples have the time.
        time: Option<u64>,
        /// What was sent, and zeros up to a multiple of 8 less 4.
        data: &'a [u8],
    },
    /// Records that were lost, as the ring was full.
    Lost {
        /// The map that leads to the ring.
        map: &'a str,
        /// The CPU whose ring it is; none of a ring buffer.
        cpu: Option<u32>,
        /// How many.
        lost: u64,
    },
    /// A record that programs do not send.
    Other {
        /// The map that leads to the ring.
        map: &'a str,
        /// The CPU whose ring it is; none of a ring buffer.
        cpu: Option<u32>,
        /// The whole record.
        record: &'a [u8],
    },
    /// A defect in a ring.
    Defect {
        /// The map that leads to the ring.
        map: &'a str,
        /// The CPU whose ring it is; none of a ring buffer.
        cpu: Option<u32>,
        /// The defect.
        error: ReadError,
    },
}

/// Programs, the probes that fire them, and the rings that they write.
///
/// What is fired while a session is enabled is in its rings, or counted: [`SessionStats`]. Closing it waits for programs that run,
/// so that what they committed can be read. Dropping it closes it.
pub struct Session {
    core: Arc<Core>,
    pages: usize,
    wake: Wake,
    attr: Attr,
    decoder: Decoder,
    /// Of ring buffers.
    ringbuf: Decoder,
    loaded: Loaded,
    /// What the object says of the probes of its programs.
    wanted: Vec<(String, Pattern)>,
    rings: Merge<Consumer, TimeOf>,
    /// Of the rings, by their numbers.
    names: Vec<RingName>,
    ringbufs: Vec<(RingName, Consumer)>,
    probes: Vec<Attached>,
    enabled: bool,
    closed: bool,
    read: u64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("machine", &self.core.machine)
            .field("probes", &self.probes)
            .field("enabled", &self.enabled)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// As many CPUs as the system has, rings of 32 pages, verified programs.
    pub fn builder() -> SessionBuilder {
        SessionBuilder {
            cpus: None,
            pages: PAGES,
            per_thread: false,
            sample_type: SampleType::empty(),
            wake: Wake::Events(0),
            verify: Some(VerifyOptions::default()),
            trace: None,
        }
    }

    /// The machine that programs run on.
    pub fn machine(&self) -> &Machine {
        &self.core.machine
    }

    /// The maps and programs of the object.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// What the object says of which programs are for which probes: the names of its sections, and `.probes`.
    pub fn wanted(&self) -> &[(String, Pattern)] {
        &self.wanted
    }

    /// Makes the rings of a map: one for each CPU of a perf event array, and that of a ring buffer. Other maps have none.
    ///
    /// # Errors
    /// [`SessionError`]
    pub fn add_rings(&mut self, map: &Map) -> Result<(), SessionError> {
        let name = &map.def().name;
        match map.def().type_ {
            MapType::PerfEventArray => {
                let cpus = (self.machine().cpus() as u32).min(map.def().max_entries);
                let attr = self.attr.to_bytes(ByteOrder::NATIVE);
                for cpu in 0..cpus {
                    let ring = Ring::confined(self.pages).wake(self.wake).attr(attr.clone(), []).private()?;
                    let event = Event::new(ring.producer()?, &self.attr, 0).map_err(SessionError::Event)?;
                    self.core.machine.set_event(map, cpu, cpu, event)?;
                    let consumer = ring.consumer()?;
                    self.rings.push(consumer);
                    self.names.push(RingName { map: name.clone(), cpu: Some(cpu) });
                }
            }
            MapType::Ringbuf => {
                if let Some(consumer) = map.take_consumer()? {
                    self.ringbufs.push((RingName { map: name.clone(), cpu: None }, consumer));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Attaches a program to each static probe of this process, and to each of `dtrace:::BEGIN`, `dtrace:::END` and
    /// `dtrace:::ERROR`, that the pattern matches; gives how many there are. They fire once the session is enabled.
    ///
    /// # Errors
    /// [`SessionError`]; that nothing matches is none.
    pub fn attach(&mut self, program: &Program, pattern: &Pattern) -> Result<usize, SessionError> {
        let mut count = 0;
        for (name, own) in OWN {
            let name = ProbeName::new("dtrace", "", "", name);
            if pattern.matches(&name) {
                self.add(program, ProbeInfo::new(name), Source::Own(own))?;
                count += 1;
            }
        }
        for probe in probes() {
            let info = probe.info();
            if pattern.matches(&info.name) {
                self.add(program, info, Source::Static(probe))?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Attaches a program to a probe that [`Session::fire`] fires; gives the number of the probe.
    ///
    /// # Errors
    /// [`SessionError`]
    pub fn attach_external(&mut self, program: &Program, info: &ProbeInfo) -> Result<ProbeId, SessionError> {
        self.add(program, info.clone(), Source::External)
    }

    fn add(&mut self, program: &Program, info: ProbeInfo, source: Source) -> Result<ProbeId, SessionError> {
        if self.enabled || self.closed {
            return Err(SessionError::Enabled);
        }
        let type_ = || SessionError::ProgramType {
            program: program.name().to_owned(),
            type_: program.type_().name().to_owned(),
            probe: Box::new(info.name.clone()),
        };
        let kind = Kind::of(program.type_()).ok_or_else(type_)?;
        if kind == Kind::Tracepoint && !matches!(source, Source::External) {
            return Err(type_());
        }
        let found = self.probes.iter().position(|probe| probe.info.name == info.name);
        let at = found.unwrap_or(self.probes.len());
        let ecb_id = self.probes.iter().map(|probe| probe.enablings.len() as u32).sum::<u32>() + 1;
        let enabling = Enabling {
            core: self.core.clone(),
            program: program.clone(),
            kind,
            probe_id: at as u32 + 1,
            ecb_id,
            stability: info.stability,
            counts: Arc::new(Counts::default()),
        };
        if found.is_none() {
            self.probes.push(Attached { info, source, enablings: Vec::new(), fired: 0, skipped_before: 0, skipped: 0 });
        }
        self.probes[at].enablings.push(enabling);
        Ok(ProbeId(at as u32 + 1))
    }

    /// What is known of the probes that have programs, by their numbers.
    pub fn probes(&self) -> impl ExactSizeIterator<Item = (ProbeId, &ProbeInfo)> {
        self.probes.iter().enumerate().map(|(at, probe)| (ProbeId(at as u32 + 1), &probe.info))
    }

    /// Runs the programs of `dtrace:::BEGIN`, and enables the other probes.
    ///
    /// # Errors
    /// [`SessionError::Enabled`] if it was enabled before, [`SessionError::Reentrant`] in a signal handler that came at a bad time.
    pub fn enable(&mut self) -> Result<(), SessionError> {
        if self.enabled || self.closed {
            return Err(SessionError::Enabled);
        }
        if let Some(map) = self.loaded.maps.get(metadata::MAP) {
            metadata::fill(map, self.probes.iter().map(|probe| &probe.info))?;
        }
        self.enabled = true;
        own::forget();
        let on_error = self.own(Own::Error);
        // It is set once, here.
        let _ = self.core.on_error.set(on_error);
        self.fire_own(Own::Begin);
        for attached in &mut self.probes {
            if let Source::Static(probe) = attached.source {
                attached.skipped_before = probe.skipped();
                if !probe.change(|enablings| enablings.extend(attached.enablings.iter().cloned())) {
                    return Err(SessionError::Reentrant);
                }
            }
        }
        Ok(())
    }

    fn own(&self, own: Own) -> Vec<Enabling> {
        let is = |probe: &&Attached| matches!(probe.source, Source::Own(other) if other == own);
        self.probes.iter().filter(is).flat_map(|probe| probe.enablings.iter().cloned()).collect()
    }

    fn fire_own(&self, own: Own) {
        for enabling in self.own(own) {
            enabling.fire(&super::Arguments::new());
        }
    }

    /// Fires a probe that was attached by [`Session::attach_external`]: runs its programs, on the CPU that the firing says, in
    /// the world that it tells of. Does nothing before the session is enabled.
    ///
    /// # Errors
    /// [`SessionError::NoProbe`]
    pub fn fire(&mut self, id: ProbeId, past: &Past<'_>) -> Result<(), SessionError> {
        let no_probe = SessionError::NoProbe { id: id.0 };
        let at = id.0.checked_sub(1).ok_or(no_probe.clone())? as usize;
        let enabled = self.enabled;
        let attached = self.probes.get_mut(at).filter(|probe| matches!(probe.source, Source::External));
        let attached = attached.ok_or(no_probe)?;
        if enabled {
            attached.fired += 1;
            // Where there are fewer CPUs several share one.
            let cpu = past.cpu() % self.core.machine.cpus() as u32;
            let options = RunOptions::new().environment(past).cpu(cpu);
            for enabling in &attached.enablings {
                enabling.run(past, past.occurrence(), options);
            }
        }
        Ok(())
    }

    /// Hands on what is in the rings: in the order of time where samples have the time, else one ring after the other, as it is with
    /// ring buffers. Gives how many items there were. It ends, also while programs go on.
    pub fn read(&mut self, mut action: impl FnMut(Item<'_>)) -> u64 {
        let mut count = 0;
        let mut merged = self.rings.drain(None);
        while let Some(next) = merged.next() {
            count += 1;
            match next {
                Ok(Merged { stream, record, .. }) => {
                    self.read += u64::from(hand_on(&self.decoder, &self.names[stream], record, &mut action));
                }
                Err(StreamError { stream, error }) => {
                    let RingName { map, cpu } = &self.names[stream];
                    action(Item::Defect { map, cpu: *cpu, error });
                }
            }
        }
        for (name, consumer) in &mut self.ringbufs {
            let mut drain = consumer.drain();
            while let Some(next) = drain.next() {
                count += 1;
                match next {
                    Ok(record) => self.read += u64::from(hand_on(&self.ringbuf, name, record, &mut action)),
                    Err(error) => action(Item::Defect { map: &name.map, cpu: None, error }),
                }
            }
        }
        count
    }

    /// The rings of perf event arrays themselves: the map and the CPU of each, and its reader. What is read there is not counted in
    /// [`SessionStats::read`].
    pub fn rings_mut(&mut self) -> impl Iterator<Item = (&str, u32, &mut Consumer)> {
        let names = self.names.iter().map(|name| (name.map.as_str(), name.cpu.unwrap_or_default()));
        names.zip(self.rings.streams_mut()).map(|((map, cpu), consumer)| (map, cpu, consumer))
    }

    /// The readers of all rings.
    fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.rings.streams().iter().chain(self.ringbufs.iter().map(|(_, consumer)| consumer))
    }

    /// Sleeps until there is something to read, but no longer than `timeout`; gives whether there is.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let mut ready = false;
        let ringbufs = self.ringbufs.iter_mut().map(|(_, consumer)| consumer);
        for consumer in self.rings.streams_mut().iter_mut().chain(ringbufs) {
            ready |= consumer.arm();
        }
        if ready {
            return Ok(true);
        }
        poll_any(self.consumers().filter_map(Consumer::as_fd), Instant::now().checked_add(timeout))?;
        Ok(self.consumers().any(Consumer::is_ready))
    }

    /// Disables the probes, runs the programs of `dtrace:::END`, and waits for programs that run: what they committed can be read
    /// then, and nothing comes after it. To do it again does nothing.
    ///
    /// # Errors
    /// [`SessionError::Reentrant`] on a thread that runs a program, or in a signal handler that came at a bad time.
    pub fn close(&mut self) -> Result<(), SessionError> {
        if self.closed {
            return Ok(());
        }
        for attached in &mut self.probes {
            if let Source::Static(probe) = attached.source {
                let own = |enabling: &Enabling| Arc::ptr_eq(&enabling.core, &self.core);
                if !probe.change(|enablings| enablings.retain(|enabling| !own(enabling))) {
                    return Err(SessionError::Reentrant);
                }
                if self.enabled {
                    attached.skipped = probe.skipped() - attached.skipped_before;
                }
            }
        }
        if self.enabled {
            self.fire_own(Own::End);
        }
        self.core.machine.stop().map_err(|_| SessionError::Reentrant)?;
        self.closed = true;
        self.enabled = false;
        Ok(())
    }

    /// The programs that were stopped since this was asked last: the first of them.
    pub fn take_errors(&self) -> Vec<ProbeError> {
        self.core.take_errors().into()
    }

    /// What went on at each probe, by their numbers.
    pub fn probe_stats(&self) -> Vec<ProbeStats> {
        let stats = |(at, probe): (usize, &Attached)| {
            let sum = |of: fn(&Counts) -> &crate::sync::AtomicU64| {
                probe.enablings.iter().map(|enabling| of(&enabling.counts).load(Site::Skipped.order())).sum::<u64>()
            };
            let missed = self.skipped(probe) * probe.enablings.len() as u64;
            ProbeStats {
                info: probe.info.clone(),
                id: ProbeId(at as u32 + 1),
                programs: probe.enablings.len(),
                errors: sum(|counts| &counts.errors),
                no_cpu: sum(|counts| &counts.no_cpu),
                skipped: sum(|counts| &counts.reentrant) + missed,
            }
        };
        self.probes.iter().enumerate().map(stats).collect()
    }

    fn skipped(&self, attached: &Attached) -> u64 {
        match attached.source {
            Source::Static(probe) if self.enabled => probe.skipped() - attached.skipped_before,
            _ => attached.skipped,
        }
    }

    /// What went on. Waits for programs that run now.
    ///
    /// # Errors
    /// [`SessionError::Reentrant`] on a thread that runs a program.
    pub fn stats(&self) -> Result<SessionStats, SessionError> {
        let machine = self.core.machine.stats().map_err(|_| SessionError::Reentrant)?;
        let skipped = self.probes.iter().map(|probe| self.skipped(probe) * probe.enablings.len() as u64).sum();
        let lost = self.consumers().filter_map(Consumer::lost_total).sum();
        Ok(SessionStats { machine, skipped, lost, read: self.read })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Where it cannot be closed now its probes stay enabled: they have what they need.
        let _ = self.close();
    }
}
