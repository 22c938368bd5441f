//! A machine of virtual CPUs, on which programs run.

use super::environment::{Environment, Live};
use super::event::Event;
use super::lease::{Lease, Leases, NoLease};
use super::map::{Map, MapError, Slot};
use super::order::Site;
use super::program::Program;
use super::program_type::MAX_CONTEXT_SIZE;
use super::reentry;
use super::sys;
use super::vm::{Execution, FRAME_SIZE, Lent, MAX_FRAMES, Trap};
use crate::sync::{self, AtomicU64, Mutex};
use std::cell::{Cell, OnceCell};
use std::fmt;
use std::sync::Arc;
use thiserror::Error;
use zerocopy::IntoBytes;

/// Instructions that a program may run unless the machine is told otherwise.
const FUEL: u64 = 1 << 26;
/// The most CPUs of a machine.
pub const MAX_CPUS: usize = 4096;

/// Memory of a CPU that programs touch: words, so that it is aligned, in cells, so that it may be written behind a shared
/// reference.
pub(crate) type Words = Box<[Cell<u64>]>;

/// The address of the first of these words, for programs.
pub(crate) fn address_of(words: &Words) -> u64 {
    words.as_ptr().expose_provenance() as u64
}

fn words(bytes: usize) -> Words {
    vec![Cell::new(0); bytes / 8].into()
}

/// Words between what CPUs keep, so that no two write into the same lines: processors fetch them in pairs.
const APART: usize = 16;

/// What a CPU has. Whoever holds its lease has it alone.
pub(crate) struct Cpu {
    pub(crate) number: u32,
    /// Frames, from the end on.
    pub(crate) stack: Words,
    /// Where converted contexts lie: two for each frame, in turns.
    pub(crate) contexts: [[Words; 2]; MAX_FRAMES],
    /// Events that were put into perf event arrays.
    pub(crate) events: Vec<Option<Event>>,
    /// The state of `bpf_get_prandom_u32`.
    pub(crate) random: Cell<u64>,
    /// The context of [`Machine::run_kept`], as the last run left it.
    kept: Cell<Box<[u64]>>,
    counts: Counts,
}

/// What has happened on a CPU.
#[derive(Debug, Default)]
struct Counts {
    runs: Cell<u64>,
    traps: Cell<u64>,
    discarded: Cell<u64>,
}

type Trace = dyn Fn(&str) + Send + Sync;

/// What the clones of a machine share.
pub(crate) struct Shared {
    /// Tells machines apart.
    pub(crate) id: u32,
    pub(crate) cpus: Leases<Cpu>,
    environment: Box<dyn Environment + Send + Sync>,
    pub(crate) trace: Option<Box<Trace>>,
    fuel: u64,
    reentrant: AtomicU64,
    no_cpu: AtomicU64,
}

/// A machine of virtual CPUs, on which programs run. Cheap to clone: the clones are one machine.
///
/// Threads move from CPU to CPU, so "this CPU" is one of the machine's, leased from the start of a program to the end of the
/// outermost one. It indexes per-CPU maps and perf event arrays, and `bpf_get_smp_processor_id` gives its number.
#[derive(Clone)]
pub struct Machine(Arc<Shared>);

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("cpus", &self.cpus()).finish_non_exhaustive()
    }
}

/// Makes a [`Machine`].
pub struct MachineBuilder {
    cpus: usize,
    environment: Box<dyn Environment + Send + Sync>,
    trace: Option<Box<Trace>>,
    fuel: Option<u64>,
    kept: usize,
}

impl fmt::Debug for MachineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineBuilder").field("cpus", &self.cpus).field("fuel", &self.fuel).finish_non_exhaustive()
    }
}

impl MachineBuilder {
    /// What programs are told of the world, unless a run says otherwise: without this [`Live::new`].
    #[must_use]
    pub fn environment(mut self, environment: impl Environment + Send + Sync + 'static) -> Self {
        self.environment = Box::new(environment);
        self
    }

    /// What is done with the lines of `bpf_trace_printk`. Without this they go nowhere.
    #[must_use]
    pub fn trace(mut self, trace: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.trace = Some(Box::new(trace));
        self
    }

    /// The instruction budget of a run; none lets programs run for ever. Without this it is 2^26.
    ///
    /// It is counted where programs go back, by as many instructions as they go back, and at calls: a run has at most as many
    /// instructions as the budget times the longest program. A call of a helper counts as one, however much it copies.
    #[must_use]
    pub fn fuel(mut self, fuel: Option<u64>) -> Self {
        self.fuel = fuel;
        self
    }

    /// Has each CPU keep a context of this many words for [`Machine::run_kept`].
    #[cfg_attr(not(feature = "dtrace"), allow(dead_code))]
    pub(crate) fn keep_context(mut self, words: usize) -> Self {
        self.kept = words;
        self
    }

    /// The machine.
    pub fn build(self) -> Machine {
        static NEXT: Mutex<u32> = Mutex::new(0);
        let id = {
            let mut next = sync::lock(&NEXT);
            *next = next.wrapping_add(1);
            *next
        };
        let cpu = |number: usize| Cpu {
            number: number as u32,
            stack: words(MAX_FRAMES * FRAME_SIZE),
            contexts: std::array::from_fn(|_| std::array::from_fn(|_| words(MAX_CONTEXT_SIZE))),
            events: Vec::new(),
            random: Cell::new(sys::clock(libc::CLOCK_MONOTONIC) ^ (number as u64 + 1) << 48 | 1),
            kept: Cell::new(vec![0; APART + self.kept + APART].into()),
            counts: Counts::default(),
        };
        Machine(Arc::new(Shared {
            id,
            cpus: Leases::new((0..self.cpus).map(cpu)),
            environment: self.environment,
            trace: self.trace,
            fuel: self.fuel.unwrap_or(u64::MAX),
            reentrant: AtomicU64::new(0),
            no_cpu: AtomicU64::new(0),
        }))
    }
}

/// What a program is run on.
#[derive(Debug)]
pub struct Context<'a> {
    bytes: &'a mut [u8],
    packet: &'a mut [u8],
}

impl<'a> Context<'a> {
    /// The bytes of the context. Where its type has fields, there are as many as its layout says.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, packet: &mut [] }
    }

    /// And those of a packet, for types whose context leads to one.
    #[must_use]
    pub fn packet(mut self, packet: &'a mut [u8]) -> Self {
        self.packet = packet;
        self
    }
}

/// Why a program was not run to its end.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// This thread runs a program already, or holds the lock of a map: it was interrupted by a signal there, or a helper
    /// wants to run a program. Counted.
    #[error("this thread runs a program, or changes a map, already")]
    Reentrant,
    /// All CPUs are leased, or the one that was asked for. Counted.
    #[error("no CPU is free")]
    NoCpu,
    /// The machine was stopped.
    #[error("the machine was stopped")]
    Stopped,
    /// The machine has no such CPU.
    #[error("the CPU {cpu} of a machine that has {cpus}")]
    UnknownCpu {
        /// What was asked for.
        cpu: u32,
        /// How many there are.
        cpus: usize,
    },
    /// A context of another size than its type has.
    #[error("a context of {size} bytes, where {type_} has {expected}")]
    ContextSize {
        /// Bytes that were given.
        size: usize,
        /// Bytes that the type has.
        expected: usize,
        /// The type.
        type_: String,
    },
    /// A context of fewer bytes than were proved to be touched.
    #[error("a context of {size} bytes, of which the program needs {needed}")]
    ContextShort {
        /// Bytes that were given.
        size: usize,
        /// Bytes that the program may touch.
        needed: usize,
    },
    /// A per-CPU map of the program was made for fewer CPUs than the machine has.
    #[error("the map {map} has values for {has} CPUs, and the machine has {cpus}")]
    MapCpus {
        /// The map.
        map: String,
        /// For how many CPUs it was made.
        has: usize,
        /// How many there are.
        cpus: usize,
    },
    /// The program was stopped. Counted.
    #[error(transparent)]
    Trap(#[from] Trap),
}

/// Why an event was not put into a map.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetEventError {
    /// The map is no perf event array.
    #[error("{map} is no perf event array")]
    NotEvents {
        /// The map.
        map: String,
    },
    /// The machine has no such CPU.
    #[error("the CPU {cpu} of a machine that has {cpus}")]
    UnknownCpu {
        /// What was asked for.
        cpu: u32,
        /// How many there are.
        cpus: usize,
    },
    /// The CPU has 65,536 events.
    #[error("the CPU {cpu} has no place for another event")]
    Full {
        /// The CPU.
        cpu: u32,
    },
    /// This thread runs a program: it would wait for itself.
    #[error("this thread runs a program, or changes a map, already")]
    Reentrant,
    /// The map has no such slot.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// How a program is run.
#[derive(Clone, Copy, Default)]
pub struct RunOptions<'a> {
    cpu: Option<u32>,
    near: Option<u32>,
    environment: Option<&'a dyn Environment>,
    waits: bool,
}

impl fmt::Debug for RunOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOptions").field("cpu", &self.cpu).finish_non_exhaustive()
    }
}

impl<'a> RunOptions<'a> {
    /// On any CPU that is free, in the machine's environment.
    pub fn new() -> Self {
        Self::default()
    }

    /// On this CPU and no other.
    #[must_use]
    pub fn cpu(mut self, cpu: u32) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// On this CPU, or on another if it is not free. Without it the CPU that is tried first is that of the thread.
    #[must_use]
    pub fn near(mut self, cpu: u32) -> Self {
        self.near = Some(cpu);
        self
    }

    /// Waits for a CPU, where none is free.
    #[cfg_attr(not(feature = "dtrace"), allow(dead_code))]
    pub(crate) fn waiting(mut self) -> Self {
        self.waits = true;
        self
    }

    /// In this environment.
    #[must_use]
    pub fn environment(mut self, environment: &'a dyn Environment) -> Self {
        self.environment = Some(environment);
        self
    }
}

/// What has happened on a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MachineStats {
    /// Programs that were started.
    pub runs: u64,
    /// Of these, stopped by a trap.
    pub traps: u64,
    /// Programs that were not started, as the thread ran one already.
    pub reentrant: u64,
    /// Programs that were not started, as no CPU was free.
    pub no_cpu: u64,
    /// Reservations that programs left open, and that were given up.
    pub discarded: u64,
}

impl Machine {
    /// A machine of as many CPUs, from 1 to [`MAX_CPUS`], whatever the number says.
    pub fn builder(cpus: usize) -> MachineBuilder {
        MachineBuilder {
            cpus: cpus.clamp(1, MAX_CPUS),
            environment: Box::new(Live::new()),
            trace: None,
            fuel: Some(FUEL),
            kept: 0,
        }
    }

    /// A machine of as many CPUs, all else as it is without saying more.
    pub fn new(cpus: usize) -> Self {
        Self::builder(cpus).build()
    }

    /// How many CPUs it has.
    pub fn cpus(&self) -> usize {
        self.0.cpus.len()
    }

    /// What has happened so far. Waits for programs that run now.
    ///
    /// # Errors
    /// [`SetEventError::Reentrant`] where this thread runs a program itself.
    pub fn stats(&self) -> Result<MachineStats, SetEventError> {
        let _held = reentry::lock_outside().map_err(|_| SetEventError::Reentrant)?;
        let mut stats = MachineStats {
            reentrant: self.0.reentrant.load(Site::Counter.order()),
            no_cpu: self.0.no_cpu.load(Site::Counter.order()),
            ..MachineStats::default()
        };
        for cpu in (0..self.cpus()).filter_map(|number| self.0.cpus.wait(number)) {
            stats.runs += cpu.counts.runs.get();
            stats.traps += cpu.counts.traps.get();
            stats.discarded += cpu.counts.discarded.get();
        }
        Ok(stats)
    }

    /// Starts no program any more, and waits for those that run now: when it returns none runs, and none will
    /// ([`RunError::Stopped`]). What they committed can be read.
    ///
    /// # Errors
    /// [`SetEventError::Reentrant`] where this thread runs a program itself: nothing is stopped.
    pub fn stop(&self) -> Result<(), SetEventError> {
        let _held = reentry::lock_outside().map_err(|_| SetEventError::Reentrant)?;
        self.0.cpus.stop();
        Ok(())
    }

    /// Whether this thread may [`stop`](Self::stop) it.
    #[cfg_attr(not(feature = "dtrace"), allow(dead_code))]
    pub(crate) fn may_stop(&self) -> bool {
        reentry::lock_outside().is_ok()
    }

    /// Puts an event into slot `index` of a perf event array, as one of the CPU `cpu` of this machine; an event of this machine that
    /// was there is dropped, one of another machine when that machine is. Waits for a program that runs there now.
    ///
    /// Programs that run elsewhere get `EOPNOTSUPP` for that slot, as in the kernel.
    ///
    /// # Errors
    /// [`SetEventError`]
    pub fn set_event(&self, map: &Map, index: u32, cpu: u32, event: Event) -> Result<(), SetEventError> {
        let array = map.events().ok_or_else(|| SetEventError::NotEvents { map: map.def().name.clone() })?;
        let known = u16::try_from(cpu).ok().filter(|number| usize::from(*number) < self.cpus());
        let number = known.ok_or(SetEventError::UnknownCpu { cpu, cpus: self.cpus() })?;
        let _held = reentry::lock_outside().map_err(|_| SetEventError::Reentrant)?;
        array.check(index)?;
        let mut of_cpu = self.0.cpus.wait(usize::from(number)).expect("one that there is");
        let place = of_cpu.events.iter().position(Option::is_none).unwrap_or(of_cpu.events.len());
        if place > usize::from(u16::MAX) {
            return Err(SetEventError::Full { cpu });
        }
        if place == of_cpu.events.len() {
            of_cpu.events.push(None);
        }
        of_cpu.events[place] = Some(event);
        drop(of_cpu);
        let slot = Slot { machine: self.0.id, cpu: number, place: place as u16 };
        self.0.forget(array.set(index, Some(slot)));
        Ok(())
    }

    /// Takes the event out of slot `index` of a perf event array; none where there is none of this machine. Waits for a
    /// program that runs there now.
    ///
    /// # Errors
    /// [`SetEventError`]
    pub fn take_event(&self, map: &Map, index: u32) -> Result<Option<Event>, SetEventError> {
        let array = map.events().ok_or_else(|| SetEventError::NotEvents { map: map.def().name.clone() })?;
        let _held = reentry::lock_outside().map_err(|_| SetEventError::Reentrant)?;
        array.check(index)?;
        if array.get(index).flatten().is_none_or(|slot| slot.machine != self.0.id) {
            return Ok(None);
        }
        Ok(self.0.forget(array.set(index, None)))
    }

    /// Runs a program; gives what it returned.
    ///
    /// # Errors
    /// [`RunError`]. Whatever the program had reserved and not committed is given up.
    pub fn run(&self, program: &Program, context: Context<'_>) -> Result<u64, RunError> {
        self.run_with(program, context, RunOptions::new())
    }

    /// Runs a program as `options` say; gives what it returned.
    ///
    /// # Errors
    /// [`RunError`]. Whatever the program had reserved and not committed is given up.
    pub fn run_with(&self, program: &Program, context: Context<'_>, options: RunOptions<'_>) -> Result<u64, RunError> {
        check_size(program, context.bytes.len())?;
        let (_entered, cpu) = self.enter(program, options)?;
        self.execute(program, &cpu, context, options)
    }

    /// The same on the context that the CPU keeps; `fill` has the number of the CPU, and the bytes of the context, as the last run
    /// left them.
    #[cfg_attr(not(feature = "dtrace"), allow(dead_code))]
    pub(crate) fn run_kept(
        &self,
        program: &Program,
        options: RunOptions<'_>,
        fill: impl FnOnce(u32, &mut [u8]),
    ) -> Result<u64, RunError> {
        let (_entered, cpu) = self.enter(program, options)?;
        let mut kept = Kept { words: cpu.kept.take(), of: &cpu.kept };
        let words = kept.words.len().saturating_sub(2 * APART);
        let bytes = kept.words.get_mut(APART..APART + words).unwrap_or_default().as_mut_bytes();
        check_size(program, bytes.len())?;
        fill(cpu.number, bytes);
        self.execute(program, &cpu, Context::new(bytes), options)
    }

    /// A CPU for a program, unless the thread runs one already.
    fn enter(&self, program: &Program, options: RunOptions<'_>) -> Result<(impl Drop, Lease<'_, Cpu>), RunError> {
        if let Some(map) = program.0.lacks_cpus(self.cpus()) {
            return Err(RunError::MapCpus { map: map.def().name.clone(), has: map.cpus(), cpus: self.cpus() });
        }
        let Some(entered) = reentry::program() else {
            self.0.reentrant.fetch_add(1, Site::Counter.order());
            return Err(RunError::Reentrant);
        };
        Ok((entered, self.0.lease(options)?))
    }

    #[inline(always)]
    fn execute(
        &self,
        program: &Program,
        cpu: &Cpu,
        context: Context<'_>,
        options: RunOptions<'_>,
    ) -> Result<u64, RunError> {
        let pinned = OnceCell::new();
        let mut execution = Execution::new(
            &self.0,
            cpu,
            &pinned,
            options.environment.unwrap_or(&*self.0.environment),
            &program.0,
            Lent {
                context: (context.bytes.as_mut_ptr().expose_provenance() as u64, context.bytes.len()),
                packet: (context.packet.as_mut_ptr().expose_provenance() as u64, context.packet.len()),
            },
            self.0.fuel,
        );
        // Before it runs, as code of an embedder may panic there.
        let counts = &cpu.counts;
        counts.runs.set(counts.runs.get() + 1);
        let result = execution.start();
        execution.discard();
        counts.discarded.set(counts.discarded.get() + execution.discarded);
        result.map_err(|kind| {
            counts.traps.set(counts.traps.get() + 1);
            RunError::Trap(execution.trap(kind))
        })
    }
}

/// The context that a CPU keeps, while a program has it. It is given back also where code of an embedder panics.
struct Kept<'c> {
    words: Box<[u64]>,
    of: &'c Cell<Box<[u64]>>,
}

impl Drop for Kept<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.of.set(std::mem::take(&mut self.words));
    }
}

/// Whether a context of this size is one for the program.
fn check_size(program: &Program, size: usize) -> Result<(), RunError> {
    let type_ = program.type_();
    if let Some(expected) = type_.context().size().filter(|expected| *expected != size) {
        return Err(RunError::ContextSize { size, expected, type_: type_.name().to_owned() });
    }
    if let Some(needed) = program.0.proof.as_ref().map(|proof| proof.context_len).filter(|needed| *needed > size) {
        return Err(RunError::ContextShort { size, needed });
    }
    Ok(())
}

impl Shared {
    /// Takes out of its CPU an event that no map has any more.
    fn forget(&self, slot: Option<Slot>) -> Option<Event> {
        let slot = slot.filter(|slot| slot.machine == self.id)?;
        let mut cpu = self.cpus.wait(usize::from(slot.cpu))?;
        cpu.events.get_mut(usize::from(slot.place)).and_then(Option::take)
    }

    /// A CPU for one execution: near the one that the thread runs on, so that threads seldom meet.
    fn lease(&self, options: RunOptions<'_>) -> Result<Lease<'_, Cpu>, RunError> {
        let cpus = self.cpus.len();
        let mut found = match options.cpu {
            Some(cpu) if cpu as usize >= cpus => return Err(RunError::UnknownCpu { cpu, cpus }),
            Some(cpu) => self.cpus.this(cpu as usize),
            None => self.cpus.any(options.near.map_or_else(sys::current_cpu, |near| near as usize) % cpus),
        };
        let mut rounds = 0_u32;
        while options.waits && matches!(found, Err(NoLease::Busy)) {
            sync::wait_for_others(rounds);
            rounds = rounds.saturating_add(1);
            found = self.cpus.any(0);
        }
        found.map_err(|none| match none {
            NoLease::Busy => {
                self.no_cpu.fetch_add(1, Site::Counter.order());
                RunError::NoCpu
            }
            NoLease::Stopped => RunError::Stopped,
        })
    }
}
