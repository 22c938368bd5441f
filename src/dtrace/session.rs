//! Sessions: programs, the probes that fire them, and the rings that they write.

use super::builder::SessionBuilder;
use super::enabling::{Core, Counts, Enabling, Kind, ProbeError};
use super::error::SessionError;
use super::item::{Item, ProbeId, ProbeStats, RingName, SessionStats, TimeOf, hand_on};
use super::metadata;
use super::name::{Pattern, ProbeName};
use super::order::Site;
use super::own;
use super::past::Past;
use super::probe::{Probe, ProbeInfo, probes};
use crate::bpf::map::{Map, MapType};
use crate::bpf::{Event, Loaded, Machine, Program, RunOptions};
use crate::merge::{Merge, Merged, StreamError};
use crate::record::{Attr, ByteOrder, Decoder};
use crate::ring::{Consumer, Ring, Wake, poll_any};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
pub(super) struct Attached {
    info: ProbeInfo,
    source: Source,
    enablings: Vec<Enabling>,
    fired: u64,
    /// What the probe had skipped before it was enabled.
    skipped_before: u64,
    skipped: u64,
}

/// Programs, the probes that fire them, and the rings that they write.
///
/// What is fired while a session is enabled is in its rings, or counted: [`SessionStats`]. Closing it waits for programs that run,
/// so that what they committed can be read. Dropping it closes it.
pub struct Session {
    pub(super) core: Arc<Core>,
    pub(super) pages: usize,
    pub(super) wake: Wake,
    pub(super) attr: Attr,
    pub(super) decoder: Decoder,
    /// Of ring buffers.
    pub(super) ringbuf: Decoder,
    pub(super) loaded: Loaded,
    /// What the object says of the probes of its programs.
    pub(super) wanted: Vec<(String, Pattern)>,
    pub(super) rings: Merge<Consumer, TimeOf>,
    /// Of the rings, by their numbers.
    pub(super) names: Vec<RingName>,
    pub(super) ringbufs: Vec<(RingName, Consumer)>,
    pub(super) probes: Vec<Attached>,
    /// The indices of the probes.
    pub(super) by_name: HashMap<ProbeName, usize>,
    /// How many programs the probes have.
    pub(super) enablings: u32,
    pub(super) enabled: bool,
    pub(super) closed: bool,
    pub(super) read: u64,
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
        SessionBuilder::new()
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
        let at = *self.by_name.entry(info.name.clone()).or_insert(self.probes.len());
        self.enablings += 1;
        let enabling = Enabling {
            core: self.core.clone(),
            program: program.clone(),
            kind,
            probe_id: at as u32 + 1,
            ecb_id: self.enablings,
            stability: info.stability,
            counts: Arc::new(Counts::default()),
        };
        if at == self.probes.len() {
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
        // Before anything is done that could not be undone.
        if !self.core.machine.may_stop() {
            return Err(SessionError::Reentrant);
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
            // These fire once, and have no other occasion.
            enabling.fire_once_possible();
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
        // Before anything is done that would be done again then.
        if !self.core.machine.may_stop() {
            return Err(SessionError::Reentrant);
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
        let enablings = self.probes.iter().flat_map(|probe| &probe.enablings);
        let errors: u64 = enablings.map(|enabling| enabling.counts.errors.load(Site::Skipped.order())).sum();
        let refused = errors.saturating_sub(machine.traps);
        Ok(SessionStats { machine, skipped, refused, lost, read: self.read })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Where it cannot be closed now its probes stay enabled: they have what they need.
        let _ = self.close();
    }
}
