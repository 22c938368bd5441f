//! What sessions are made of: objects, and what these say of their probes.

use super::enabling::Core;
use super::error::SessionError;
use super::item::TimeOf;
use super::name::Pattern;
use super::program_type::{DtraceContext, program_type};
use super::session::Session;
use crate::bpf::elf::{Object, ProgramKind, ProgramSpec};
use crate::bpf::map::Map;
use crate::bpf::verifier::VerifyOptions;
use crate::bpf::{Event, Loaded, Loader, Machine};
use crate::merge::Merge;
use crate::record::{Decoder, SampleType};
use crate::ring::Wake;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

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
    pub(super) fn new() -> Self {
        Self {
            cpus: None,
            pages: PAGES,
            per_thread: false,
            sample_type: SampleType::empty(),
            wake: Wake::Events(0),
            verify: Some(VerifyOptions::default()),
            trace: None,
        }
    }

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
            by_name: HashMap::new(),
            enablings: 0,
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
