//! The probes of a recording: its events, fired as they were when it was made.

use super::error::SessionError;
use super::events::{Event, Events, SourceStats, What, info_of, names_of};
use super::name::{Pattern, ProbeName};
use super::probe::ProbeInfo;
use super::session::Session;
use super::tracing_data::{TracingDataFormats, formats};
use crate::bpf::{MAX_CPUS, Program, ProgramType};
use crate::record::{ByteOrder, RecordType};
use crate::replay::perf_data::{Feature, FeatureId};
use crate::replay::{OpenError, Order, ReadError, Recording, Records};
use std::path::Path;
use thiserror::Error;

/// Why the events of a recording cannot fire probes.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordedProbeError {
    /// The recording cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It was made on a machine of the other byte order: its programs would not find what they expect.
    #[error("a recording of {0:?} endian, which is not this machine's")]
    ByteOrder(ByteOrder),
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
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

/// `PERF_TYPE_TRACEPOINT`
const TRACEPOINT: u32 = 2;
/// `PERF_TYPE_SOFTWARE`
const SOFTWARE: u32 = 1;
/// `PERF_COUNT_SW_CPU_CLOCK`, `PERF_COUNT_SW_TASK_CLOCK`
const CLOCKS: [u64; 2] = [0, 1];

/// The probes of a recording: for a tracepoint `tracepoint:SYSTEM::NAME`, and of system calls `syscall::CALL:entry` and `:return`, for
/// a clock `profile:::NAME`, for other events `event:::NAME`.
///
/// ```no_run
/// use perfring::bpf::elf::Object;
/// use perfring::dtrace::{Item, RecordedProbes, Session};
///
/// let object = Object::parse(&std::fs::read("tracer.bpf.o")?)?;
/// let mut recorded = RecordedProbes::open("perf.data")?;
/// let mut session = Session::builder().cpus(recorded.cpus()).load(&object)?;
/// for (program, pattern) in session.wanted().to_vec() {
///     let program = session.loaded().programs[&program].clone();
///     session.attach(&program, &pattern)?;
///     recorded.attach(&mut session, &program, &pattern)?;
/// }
/// session.enable()?;
/// while recorded.fire(&mut session, 64) != 0 {
///     session.read(|item| if let Item::Sample { data, .. } = item { println!("{data:02x?}") });
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecordedProbes {
    records: Records,
    events: Events,
    /// By event.
    probes: Vec<Vec<ProbeInfo>>,
    cpus: usize,
}

impl std::fmt::Debug for RecordedProbes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordedProbes").field("probes", &self.probes).field("cpus", &self.cpus).finish_non_exhaustive()
    }
}

impl RecordedProbes {
    /// Those of a file: `perf.data`, a directory of it, or a ring image.
    ///
    /// # Errors
    /// [`RecordedProbeError`]
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RecordedProbeError> {
        Self::new(Recording::open(path)?)
    }

    /// Those of a recording. What a stream says of its events has to stand at its start.
    ///
    /// # Errors
    /// [`RecordedProbeError::ByteOrder`]
    pub fn new(recording: Recording) -> Result<Self, RecordedProbeError> {
        let metadata = recording.metadata();
        let order = metadata.order();
        if order != ByteOrder::NATIVE {
            return Err(RecordedProbeError::ByteOrder(order));
        }
        let known = match metadata.feature_bytes(FeatureId::TRACING_DATA) {
            Ok(Some(bytes)) => formats(&bytes),
            _ => TracingDataFormats::default(),
        };
        let cpus = match metadata.feature_bytes(FeatureId::NRCPUS) {
            Ok(Some(bytes)) => match Feature::decode(FeatureId::NRCPUS, &bytes, order) {
                Ok(Feature::NrCpus(cpus)) => cpus.available as usize,
                _ => 1,
            },
            _ => 1,
        };
        let mut probes = Vec::new();
        let mut events = Vec::new();
        for event in metadata.events() {
            let name = event.name.as_deref().unwrap_or("unknown");
            let (infos, what) = match event.attr.type_ {
                TRACEPOINT => {
                    let format = known.get(event.attr.config);
                    let (system, name) = match (name.split_once(':'), format) {
                        (Some((system, name)), _) => (system, name),
                        (None, Some((system, format))) => (&**system, format.name()),
                        (None, None) => ("", name),
                    };
                    let format = format.map(|(_, format)| format.clone());
                    let names = names_of(system, name).into_iter();
                    let infos = names.map(|name| info_of(name, format.as_ref())).collect();
                    (infos, What::of_tracepoint(system, name, format))
                }
                SOFTWARE if CLOCKS.contains(&event.attr.config) => {
                    let name = ProbeName::new("profile", "", "", name);
                    (vec![ProbeInfo::new(name)], What::Other { cpu: None })
                }
                _ => {
                    let name = ProbeName::new("event", "", "", name);
                    (vec![ProbeInfo::new(name)], What::Other { cpu: None })
                }
            };
            probes.push(infos);
            events.push(Event::new(what, Vec::new()));
        }
        let records = recording.records(Order::default());
        let cpus = cpus.clamp(1, MAX_CPUS);
        Ok(Self { records, events: Events::new(events, false), probes, cpus })
    }

    /// What is known of its probes.
    pub fn probes(&self) -> impl Iterator<Item = &ProbeInfo> {
        self.probes.iter().flatten()
    }

    /// CPUs of the machine that it was made on: a session has to have as many for all of it.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// Attaches a program of the session to each probe that the pattern matches; gives how many there are.
    ///
    /// # Errors
    /// [`RecordedProbeError`]; that nothing matches is none.
    pub fn attach(
        &mut self,
        session: &mut Session,
        program: &Program,
        pattern: &Pattern,
    ) -> Result<usize, RecordedProbeError> {
        let mut count = 0;
        for (event, infos) in self.events.events_mut().iter_mut().zip(&self.probes) {
            for info in infos.iter().filter(|info| pattern.matches(&info.name)) {
                if program.type_() == ProgramType::tracepoint() && matches!(event.what, What::Other { .. }) {
                    return Err(RecordedProbeError::ProgramType {
                        program: program.name().to_owned(),
                        type_: program.type_().name().to_owned(),
                        probe: Box::new(info.name.clone()),
                    });
                }
                let id = session.attach_external(program, info)?;
                if !event.probes.contains(&id) {
                    event.probes.push(id);
                }
                count += 1;
            }
        }
        Ok(count)
    }

    /// Fires what the next records say, in the order of time, `most` of them at the most; gives how many there were: 0 at the end.
    pub fn fire(&mut self, session: &mut Session, most: usize) -> usize {
        for count in 0..most {
            match self.records.next() {
                None => return count,
                Some(Ok(entry)) => match entry.decode() {
                    Ok(decoded) => {
                        let event = match entry.type_() {
                            RecordType::SAMPLE => decoded.event(),
                            _ => None,
                        };
                        self.events.fire(session, event, &decoded);
                    }
                    Err(_) => self.events.damaged(),
                },
                Some(Err(error)) => self.damaged(&error),
            }
        }
        most
    }

    fn damaged(&mut self, _error: &ReadError) {
        self.events.damaged();
    }

    /// What came of the records.
    pub fn stats(&self) -> SourceStats {
        self.events.stats(None)
    }
}
