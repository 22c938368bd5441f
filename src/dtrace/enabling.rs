//! A program that a probe fires.

use super::argument::Arguments;
use super::order::Site;
use super::own::{InProcess, Own};
use super::probe::Stability;
use super::program_type::{DtraceContext, MAX_ARGS, REGS, program_type};
use crate::bpf::{Context, Environment, Machine, ProbeRead, Program, ProgramType, RunError, RunOptions, Task, Trap};
use crate::sync::{AtomicU64, Mutex, lock, try_lock};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use zerocopy::{FromBytes, IntoBytes};

/// Errors that are kept until somebody asks for them.
const KEPT_ERRORS: usize = 64;

/// What a session's firings share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) machine: Machine,
    /// Whether each thread has a CPU, and so a ring, of its own, as long as there are enough.
    pub(super) per_thread: bool,
    errors: Mutex<VecDeque<ProbeError>>,
    /// What the probe `dtrace:::ERROR` fires.
    pub(super) on_error: OnceLock<Vec<Enabling>>,
}

/// A program that a probe started was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeError {
    /// The probe.
    pub probe_id: u32,
    /// What stopped the program.
    pub trap: Trap,
}

/// What went wrong with a program at a probe.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) errors: AtomicU64,
    pub(super) no_cpu: AtomicU64,
    pub(super) reentrant: AtomicU64,
}

/// How the context of a program is made of a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dtrace,
    /// `struct pt_regs`
    Registers,
    /// `struct bpf_perf_event_data`
    PerfEvent,
    /// Words: the arguments.
    RawTracepoint,
    /// The record of a tracepoint.
    Tracepoint,
}

impl Kind {
    /// None for types that no probe fires.
    pub(super) fn of(type_: &ProgramType) -> Option<Self> {
        [
            (program_type(), Self::Dtrace),
            (ProgramType::kprobe(), Self::Registers),
            (ProgramType::perf_event(), Self::PerfEvent),
            (ProgramType::raw_tracepoint(), Self::RawTracepoint),
            (ProgramType::tracepoint(), Self::Tracepoint),
        ]
        .into_iter()
        .find_map(|(of, kind)| (of == type_).then_some(kind))
    }
}

/// What happened, beyond what programs ask the environment for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Occurrence<'a> {
    /// The registers of the thread, where they are known.
    pub(super) regs: Option<&'a [u64; REGS]>,
    /// The record of a tracepoint.
    pub(super) raw: &'a [u8],
    /// Where the address of the copy goes that a program has for its context.
    pub(super) copy: Option<&'a Cell<u64>>,
    pub(super) sample_period: u64,
    pub(super) addr: u64,
}

/// A program that a probe fires.
#[derive(Clone, Debug)]
pub(crate) struct Enabling {
    pub(super) core: Arc<Core>,
    pub(super) program: Program,
    pub(super) kind: Kind,
    pub(super) probe_id: u32,
    pub(super) ecb_id: u32,
    pub(super) stability: Stability,
    pub(super) counts: Arc<Counts>,
}

impl Core {
    pub(super) fn new(machine: Machine, per_thread: bool) -> Self {
        Self { machine, per_thread, errors: Mutex::default(), on_error: OnceLock::new() }
    }

    /// Takes out the errors that are kept: the first ones.
    pub(super) fn take_errors(&self) -> VecDeque<ProbeError> {
        std::mem::take(&mut *lock(&self.errors))
    }
}

/// The registers in which a function has its arguments, as indices, where the caller puts them there.
#[cfg(target_arch = "x86_64")]
const ARGUMENT_REGISTERS: [usize; 6] = [14, 13, 12, 11, 9, 8];
#[cfg(target_arch = "aarch64")]
const ARGUMENT_REGISTERS: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

/// The arguments, where a function that is called has them.
fn registers_of(args: &[u64]) -> [u64; REGS] {
    let mut regs = [0; REGS];
    for (register, arg) in ARGUMENT_REGISTERS.into_iter().zip(args) {
        regs[register] = *arg;
    }
    regs
}

impl Enabling {
    /// A firing on this thread, now.
    pub(super) fn fire(&self, arguments: &Arguments<'_>) {
        self.fire_with(arguments, RunOptions::new());
    }

    /// The same, once a CPU is free.
    pub(super) fn fire_once_possible(&self) {
        self.fire_with(&Arguments::new(), RunOptions::new().waiting());
    }

    #[inline(always)]
    fn fire_with(&self, arguments: &Arguments<'_>, options: RunOptions<'_>) {
        Own::with(|own| {
            let environment = InProcess { own, arguments };
            let mut options = options.environment(&environment);
            if self.core.per_thread {
                options = options.near(own.number());
            }
            self.run(&environment, Occurrence::default(), options);
        });
    }

    /// Runs the program; counts what goes wrong.
    #[inline(always)]
    pub(super) fn run(&self, environment: &impl Environment, occurrence: Occurrence<'_>, options: RunOptions<'_>) {
        let machine = &self.core.machine;
        let regs = || occurrence.regs.copied().unwrap_or_else(|| registers_of(environment.args()));
        let result = match self.kind {
            Kind::Dtrace => {
                let fill = |cpu: u32, bytes: &mut [u8]| {
                    // It has the size of one: that was checked, and words are aligned.
                    let Ok(context) = DtraceContext::mut_from_bytes(bytes) else { return };
                    context.fill(environment);
                    context.set_regs(occurrence.regs);
                    context.cpu = cpu;
                    context.ecb_id = self.ecb_id;
                    context.probe_id = self.probe_id;
                    context.stability = self.stability as u32;
                };
                machine.run_kept(&self.program, options, fill)
            }
            Kind::Registers => machine.run_with(&self.program, Context::new(regs().as_mut_bytes()), options),
            Kind::PerfEvent => {
                let mut context = [0; REGS + 2];
                context[..REGS].copy_from_slice(&regs());
                context[REGS] = occurrence.sample_period;
                context[REGS + 1] = occurrence.addr;
                machine.run_with(&self.program, Context::new(context.as_mut_bytes()), options)
            }
            Kind::RawTracepoint => {
                let mut context = [0; MAX_ARGS];
                let args = environment.args();
                context[..args.len().min(MAX_ARGS)].copy_from_slice(&args[..args.len().min(MAX_ARGS)]);
                machine.run_with(&self.program, Context::new(context.as_mut_bytes()), options)
            }
            Kind::Tracepoint => {
                let mut context = occurrence.raw.to_vec();
                if let Some(copy) = occurrence.copy {
                    copy.set(context.as_ptr().addr() as u64);
                }
                machine.run_with(&self.program, Context::new(&mut context), options)
            }
        };
        if let Err(error) = result {
            self.failed(error, environment, options);
        }
    }

    #[cold]
    fn failed(&self, error: RunError, world: &dyn Environment, options: RunOptions<'_>) {
        let counter = match &error {
            RunError::NoCpu => &self.counts.no_cpu,
            RunError::Reentrant => &self.counts.reentrant,
            // The session is over: it was no firing of its.
            RunError::Stopped => return,
            _ => &self.counts.errors,
        };
        counter.fetch_add(1, Site::Skipped.order());
        let RunError::Trap(trap) = error else { return };
        // Not where a handler interrupted who has them.
        if let Some(mut errors) = try_lock(&self.core.errors)
            && errors.len() < KEPT_ERRORS
        {
            errors.push_back(ProbeError { probe_id: self.probe_id, trap: trap.clone() });
        }
        let is_error =
            self.core.on_error.get().is_some_and(|on| on.iter().any(|other| Arc::ptr_eq(&other.counts, &self.counts)));
        if is_error {
            return;
        }
        let failure = Failure { world, args: [u64::from(self.probe_id), trap.insn as u64] };
        for enabling in self.core.on_error.get().into_iter().flatten() {
            enabling.run(&failure, Occurrence::default(), options.environment(&failure));
        }
    }
}

/// The world of a program that was stopped, for those that `dtrace:::ERROR` fires.
struct Failure<'w> {
    world: &'w dyn Environment,
    /// The probe, and the instruction.
    args: [u64; 2],
}

impl Environment for Failure<'_> {
    fn ktime_get_ns(&self) -> u64 {
        self.world.ktime_get_ns()
    }

    fn ktime_get_boot_ns(&self) -> u64 {
        self.world.ktime_get_boot_ns()
    }

    fn pid_tgid(&self) -> u64 {
        self.world.pid_tgid()
    }

    fn uid_gid(&self) -> u64 {
        self.world.uid_gid()
    }

    fn comm(&self) -> [u8; 16] {
        self.world.comm()
    }

    fn probe_read(&self, read: ProbeRead, to: &mut [u8]) -> usize {
        self.world.probe_read(read, to)
    }

    fn task(&self) -> Task {
        self.world.task()
    }

    fn callchain(&self, user: bool) -> Option<&[u64]> {
        self.world.callchain(user)
    }

    fn args(&self) -> &[u64] {
        &self.args
    }
}
