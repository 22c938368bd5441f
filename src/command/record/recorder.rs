//! From rings to a recording.

use super::super::output::{Failure, Outcome};
use super::events::Chosen;
use super::{Arguments, keep_old};
use perfring::bpf::{Environment, Live};
use perfring::kernel::{RingSet, SetTarget};
use perfring::record::{
    Attr, Body, ByteOrder, Encoder, Header, LostSamples, Misc, RecordType, SampleId, SampleType, Tid,
};
use perfring::replay::perf_data::{FeatureId, WriteError, WriteOptions, Writer, Written, tracing_data};
use perfring::replay::synthesize::{BuildIds, SynthesizeError, Synthesizer};
use perfring::replay::{Order, Recording, System};
use perfring::ring::Wait;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How often it is looked whether the command still runs, or a signal has come.
const LOOK: Duration = Duration::from_millis(100);

/// How often what was written so far becomes part of the file.
const SYNC: Duration = Duration::from_secs(1);

/// Rounds without a look at anything else.
const AT_MOST: usize = 64;

/// The signals that end a recording.
pub(in crate::command) struct Signals(signal_hook::iterator::Signals);

impl Signals {
    pub(in crate::command) fn catch() -> Result<Self, Failure> {
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
            .map(Self)
            .map_err(|error| Failure::Other(format!("cannot catch signals: {error}")))
    }

    pub(in crate::command) fn has_come(&mut self) -> bool {
        self.0.pending().next().is_some()
    }
}

/// How a recording came to its end.
pub(super) enum Ended {
    /// By a signal, or there was nothing more to observe.
    Fine,
    Command(ExitStatus),
}

/// Writes what the rings of a set hold into a recording.
pub(super) struct Recorder<'a> {
    arguments: &'a Arguments,
    set: RingSet,
    writer: Writer<'static>,
    /// Where it is written to; none: a pipe.
    path: Option<PathBuf>,
    attr: Attr,
    /// Ids that the recording has.
    ids: usize,
    synced: Instant,
    /// Bytes of a round after which the next one follows at once.
    busy: u64,
    has_told_of_late_rings: bool,
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

impl<'a> Recorder<'a> {
    /// Starts the recording: its events, and what is known of the machine.
    pub(super) fn start(
        arguments: &'a Arguments,
        chosen: &[Chosen],
        set: RingSet,
        target: SetTarget,
    ) -> Result<Self, Failure> {
        let options = WriteOptions::default();
        let options = match arguments.level {
            Some(level) => options.zstd(level),
            None => options,
        };
        let path = (arguments.output.as_os_str() != "-").then(|| arguments.output.clone());
        let writer = match &path {
            Some(path) => {
                keep_old(path)?;
                let file = create(path).map_err(|error| Failure::file("create", path, error))?;
                Writer::file(file, options)
            }
            None => Writer::pipe(std::io::stdout(), options),
        };
        let attr = *set.attr(0).ok_or_else(|| other("no event"))?;
        let mut writer = writer.map_err(|error| named(&path, error))?;
        for (number, chosen) in chosen.iter().enumerate() {
            let attr = set.attr(number).ok_or_else(|| other("an event without rings"))?;
            let ids: Vec<u64> = set.ids().iter().filter(|id| id.event == number).map(|id| id.id).collect();
            writer.event(attr, &ids, &chosen.name).map_err(|error| named(&path, error))?;
        }
        let ids = set.ids().len();
        let busy = (arguments.mmap_pages.saturating_mul(perfring::ring::page_size()) / 8) as u64;
        let mut recorder = Self {
            arguments,
            set,
            writer,
            path,
            attr,
            ids,
            synced: Instant::now(),
            busy,
            has_told_of_late_rings: false,
        };
        recorder.describe_machine(chosen, target)?;
        Ok(recorder)
    }

    fn written(&self, result: Result<(), WriteError>) -> Result<(), Failure> {
        result.map_err(|error| named(&self.path, error))
    }

    fn describe_machine(&mut self, chosen: &[Chosen], _target: SetTarget) -> Result<(), Failure> {
        let system = System::collect().with_cmdline(std::env::args_os()).map_err(other)?;
        for (feature, section) in system.into_sections() {
            let result = self.writer.feature(feature, &section);
            self.written(result)?;
        }
        let Some(tracefs) = chosen.iter().find_map(Chosen::tracefs) else { return Ok(()) };
        let tracepoints = chosen.iter().filter_map(|chosen| chosen.tracepoint.as_ref());
        let names = tracepoints.map(|tracepoint| (tracepoint.subsystem(), tracepoint.name()));
        let section = tracing_data(&tracefs, names).map_err(other)?;
        let result = self.writer.feature(FeatureId::TRACING_DATA, &section);
        self.written(result)
    }

    /// Writes what the kernel does not tell, since it was there before.
    pub(super) fn describe_what_runs(&mut self, target: SetTarget) -> Result<(), Failure> {
        let mut synthesizer = Synthesizer::new(&self.attr).map_err(other)?;
        let writer = &mut self.writer;
        let mut out = |record: &[u8]| writer.record(record);
        let path = &self.path;
        let failed = |error| match error {
            SynthesizeError::Out(error) => named(path, error),
            error => other(error),
        };
        synthesizer.kernel(&mut out).map_err(failed)?;
        match target {
            SetTarget::Task { pid } | SetTarget::Threads { pid } => {
                synthesizer.process(pid, &mut out).map_err(failed)?
            }
            _ => synthesizer.all_processes(&mut out).map_err(failed)?,
        };
        let result = self.writer.record(&bare(RecordType::FINISHED_INIT));
        self.written(result)
    }

    pub(super) fn enable(&mut self) -> Result<(), Failure> {
        self.set.enable().map_err(other)
    }

    /// Copies what comes, until a signal, the end of the command, or that of all that is observed.
    pub(super) fn record(&mut self, mut child: Option<Child>, signals: &mut Signals) -> Result<Ended, Failure> {
        let ended = loop {
            let wait = self.set.wait(Some(LOOK)).map_err(other)?;
            for _ in 0..AT_MOST {
                // As long as much comes there is no time to wait.
                if self.copy()? < self.busy {
                    break;
                }
            }
            if let Some(child) = &mut child
                && let Some(status) = child.try_wait().map_err(other)?
            {
                break Ended::Command(status);
            }
            if signals.has_come() {
                break match &mut child {
                    // It has got the signal, too, if it came from the terminal; else it goes on unobserved.
                    Some(child) => child.try_wait().map_err(other)?.map_or(Ended::Fine, Ended::Command),
                    None => Ended::Fine,
                };
            }
            if wait == Wait::Closed {
                break match &mut child {
                    Some(child) => Ended::Command(child.wait().map_err(other)?),
                    None => Ended::Fine,
                };
            }
            if self.synced.elapsed() >= SYNC {
                let result = self.writer.sync_header();
                self.written(result)?;
                self.synced = Instant::now();
            }
        };
        self.set.disable().map_err(other)?;
        self.copy()?;
        self.tell_losses()?;
        Ok(ended)
    }

    /// Writes what each event lost as the kernel counts it, as perf(1) does: of what was lost behind the last record of a ring nothing
    /// else tells.
    fn tell_losses(&mut self) -> Result<(), Failure> {
        for event in 0.. {
            let Some(attr) = self.set.attr(event) else { return Ok(()) };
            let Some(lost @ 1..) = self.set.lost_of(event).map_err(other)? else { continue };
            let id = self.set.ids().iter().find(|id| id.event == event).map(|id| id.id);
            let has = |field| attr.sample_type.contains(field);
            // Of no thread, and of all CPUs.
            let id = SampleId {
                tid: has(SampleType::TID).then(Tid::default),
                time: has(SampleType::TIME).then(|| Live::new().ktime_get_ns()),
                id: id.filter(|_| has(SampleType::ID)),
                stream_id: id.filter(|_| has(SampleType::STREAM_ID)),
                cpu: has(SampleType::CPU).then_some(u32::MAX),
                identifier: id.filter(|_| has(SampleType::IDENTIFIER)),
            };
            let mut record = Vec::new();
            let body = Body::LostSamples(LostSamples { lost });
            let encoder = Encoder::new(attr, ByteOrder::NATIVE).map_err(other)?;
            encoder.encode(Misc::empty(), &body, &id, &mut record).map_err(other)?;
            let result = self.writer.record(&record);
            self.written(result)?;
        }
        Ok(())
    }

    /// Copies what is in the rings, as it is: that is a round. Gives how many bytes it was.
    fn copy(&mut self) -> Result<u64, Failure> {
        let (writer, mut failed) = (&mut self.writer, None);
        let bytes = self.set.take_spans(|span| match span {
            Ok(span) if failed.is_none() => failed = writer.span(span.first, span.second).err().map(Fault::Write),
            Ok(_) => {}
            Err(error) => failed = Some(Fault::Ring(error.to_string())),
        });
        match failed {
            Some(Fault::Write(error)) => return Err(named(&self.path, error)),
            Some(Fault::Ring(error)) => return Err(Failure::Other(error)),
            None => {}
        }
        self.announce_ids()?;
        if bytes > 0 {
            let result = self.writer.round();
            self.written(result)?;
        }
        Ok(bytes)
    }

    /// Adds the ids of rings that came later: a file has them in the end; a stream cannot.
    fn announce_ids(&mut self) -> Result<(), Failure> {
        let new = self.set.ids().get(self.ids..).unwrap_or_default();
        if new.is_empty() {
            return Ok(());
        }
        for id in new {
            match self.writer.add_ids(id.event, &[id.id]) {
                Ok(()) => {}
                Err(WriteError::Started) if self.has_told_of_late_rings => {}
                Err(WriteError::Started) => {
                    self.has_told_of_late_rings = true;
                    say!(
                        "perfring: warning: rings came later, of threads or CPUs, and a stream cannot say whose they are"
                    );
                }
                Err(error) => return Err(named(&self.path, error)),
            }
        }
        self.ids = self.set.ids().len();
        Ok(())
    }

    /// Writes what belongs to the end, and says how much there was.
    pub(super) fn finish(mut self, ended: Ended) -> Result<Outcome, Failure> {
        let mut seen = Seen::default();
        if let Some(path) = self.path.clone() {
            let result = self.writer.sync_header();
            self.written(result)?;
            seen = Seen::look(&path)?;
            if !self.arguments.no_buildid {
                seen.build_ids.resolve();
                let encoder = Encoder::new(&Attr::default(), ByteOrder::NATIVE).map_err(other)?;
                let mut section = Vec::new();
                seen.build_ids.section(&encoder, &mut section).map_err(other)?;
                let result = self.writer.feature(FeatureId::BUILD_ID, &section);
                self.written(result)?;
            }
            if let Some((first, last)) = seen.times {
                let section = [first.to_ne_bytes(), last.to_ne_bytes()].concat();
                let result = self.writer.feature(FeatureId::SAMPLE_TIME, &section);
                self.written(result)?;
            }
        }
        if let Ok(Some(lost)) = self.set.lost() {
            seen.lost = seen.lost.max(lost);
        }
        let path = self.path.clone();
        let written = self.writer.finish().map_err(|error| named(&path, error))?;
        if !self.arguments.quiet {
            summarize(&path, &written, &seen);
        }
        Ok(match ended {
            Ended::Command(status) if !status.success() => Outcome::AtFault(format!("the command ended with {status}")),
            _ => Outcome::Fine,
        })
    }
}

fn summarize(path: &Option<PathBuf>, written: &Written, seen: &Seen) {
    let Some(path) = path else {
        return say!("{} bytes of records, {} lost", written.data, seen.lost);
    };
    let compressed = match written.plain {
        0 => String::new(),
        plain => format!(" ({plain} before they were compressed)"),
    };
    say!(
        "{}: {} samples, {} records, {} bytes{compressed}, {} lost",
        path.display(),
        seen.samples,
        seen.records,
        written.data,
        seen.lost
    );
}

/// Makes a file that others cannot read: it holds what was in memory.
fn create(path: &Path) -> io::Result<File> {
    // To open one would wait for a reader, whatever signals come.
    if path.metadata().is_ok_and(|found| found.file_type().is_fifo()) {
        return Err(io::Error::other("it is a FIFO: write to the standard output, -o -, and redirect that"));
    }
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

enum Fault {
    Write(WriteError),
    Ring(String),
}

/// A failure to write, with the file's name.
fn named(path: &Option<PathBuf>, error: WriteError) -> Failure {
    match (path, error) {
        (None, WriteError::Io { source, .. }) => source.into(),
        (None, error) => other(error),
        (Some(path), error) => Failure::file("write", path, error),
    }
}

/// A record of nothing but its header.
fn bare(type_: RecordType) -> [u8; Header::SIZE] {
    Header { type_, misc: Misc::empty(), size: Header::SIZE as u16 }.to_bytes(ByteOrder::NATIVE)
}

/// What a look at the records shows.
#[derive(Default)]
struct Seen {
    build_ids: BuildIds,
    samples: u64,
    records: u64,
    lost: u64,
    times: Option<(u64, u64)>,
}

impl Seen {
    /// Reads the recording that was written so far.
    fn look(path: &Path) -> Result<Self, Failure> {
        let failed = |source| Failure::Open { path: path.display().to_string(), source };
        let mut records = Recording::open(path).map_err(failed)?.records(Order::Recorded);
        let (mut seen, mut told) = (Self::default(), 0);
        while let Some(entry) = records.next() {
            let entry = entry.map_err(|error| Failure::file("read", path, error))?;
            seen.records += 1;
            match entry.type_() {
                RecordType::SAMPLE => {
                    seen.samples += 1;
                    if let Some(time) = entry.time() {
                        let (first, last) = seen.times.get_or_insert((time, time));
                        (*first, *last) = ((*first).min(time), (*last).max(time));
                    }
                }
                RecordType::MMAP | RecordType::MMAP2 => {
                    if let Ok(decoded) = entry.decode() {
                        seen.build_ids.observe(&decoded);
                    }
                }
                RecordType::LOST | RecordType::LOST_SAMPLES => match entry.decode().map(|decoded| decoded.body) {
                    Ok(Body::Lost(lost)) => told += lost.lost,
                    // The same once more, and what was lost behind it.
                    Ok(Body::LostSamples(lost)) => seen.lost += lost.lost,
                    _ => {}
                },
                _ => {}
            }
        }
        seen.lost = seen.lost.max(told);
        Ok(seen)
    }
}
