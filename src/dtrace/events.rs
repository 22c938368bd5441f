//! From the records of events to firings of probes.

use super::item::ProbeId;
use super::name::ProbeName;
#[cfg(feature = "symbols")]
use super::operand::Operand;
use super::past::Past;
use super::probe::{ArgInfo, ProbeInfo, Stability};
use super::program_type::{MAX_ARGS, REGS};
use super::session::Session;
use super::tasks::Tasks;
use crate::kernel::{FieldKind, TracepointFormat};
use crate::record::{Arch, Body, CallchainContext, Decoded, Regs, Sample};
use std::collections::{BTreeMap, HashMap};

/// `syscalls:sys_enter_*`: where the number and the first argument stand, behind the fields that all tracepoints have.
const SYSCALL_NR: usize = 8;
const SYSCALL_ARGS: usize = 16;
/// Arguments of a system call.
const SYSCALL_MOST: usize = 6;

/// What an event's samples are.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The start of a system call.
    SyscallEntry,
    /// Its end.
    SyscallReturn,
    /// A tracepoint, with its fields, where they are known.
    Tracepoint(Option<TracepointFormat>),
    /// A function of a process, or where it returns.
    Function {
        /// Whether it returns.
        returns: bool,
    },
    /// A place of a statically defined probe, and where its arguments are.
    #[cfg(feature = "symbols")]
    Usdt(std::sync::Arc<[Operand]>),
    /// Something that happens now and then: a clock, a counter. On one CPU only, where it says so.
    Other {
        /// The CPU.
        cpu: Option<u32>,
    },
}

impl What {
    /// Whether it is in the code of a process.
    #[cfg_attr(not(feature = "symbols"), allow(clippy::match_like_matches_macro))]
    pub(super) fn is_in_process(&self) -> bool {
        match self {
            Self::Function { .. } => true,
            #[cfg(feature = "symbols")]
            Self::Usdt(_) => true,
            _ => false,
        }
    }

    /// What a tracepoint is.
    pub(super) fn of_tracepoint(system: &str, name: &str, format: Option<TracepointFormat>) -> Self {
        match (system, name) {
            ("syscalls", name) if name.starts_with("sys_enter_") => Self::SyscallEntry,
            ("syscalls", name) if name.starts_with("sys_exit_") => Self::SyscallReturn,
            _ => Self::Tracepoint(format),
        }
    }
}

/// The names of a tracepoint: `tracepoint:SYSTEM::NAME`, and of a system call's also `syscall::CALL:entry` or `:return`.
pub(super) fn names_of(system: &str, name: &str) -> Vec<ProbeName> {
    let mut names = vec![ProbeName::new("tracepoint", system, "", name)];
    if system == "syscalls" {
        for (prefix, end) in [("sys_enter_", "entry"), ("sys_exit_", "return")] {
            if let Some(call) = name.strip_prefix(prefix) {
                names.push(ProbeName::new("syscall", "", call, end));
            }
        }
    }
    names
}

/// What is known of a probe, by the fields of its tracepoint.
pub(super) fn info_of(name: ProbeName, format: Option<&TracepointFormat>) -> ProbeInfo {
    let returns = name.provider == "syscall" && name.name == "return";
    let skip = usize::from(name.provider == "syscall" && !returns);
    let fields = format.into_iter().flat_map(TracepointFormat::fields).filter(|field| !field.is_common());
    let arg = |name: &str, type_: &str| ArgInfo { name: name.to_owned(), type_: type_.to_owned() };
    // The number of a system call is not one of its arguments.
    let args = match returns {
        true => vec![arg("ret", "long"), arg("ret", "long")],
        false => fields.skip(skip).take(MAX_ARGS).map(|field| arg(field.name(), field.type_text())).collect(),
    };
    let stability = if name.provider == "syscall" { Stability::Stable } else { Stability::Unstable };
    ProbeInfo { name, args, stability }
}

/// An event, and the probes that its samples fire.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) what: What,
    pub(super) probes: Vec<ProbeId>,
    /// Where all system calls are one event, the probes of each, by its number: those above are none.
    pub(super) by_number: BTreeMap<u32, Vec<ProbeId>>,
}

impl Event {
    pub(super) fn new(what: What, probes: Vec<ProbeId>) -> Self {
        Self { what, probes, by_number: BTreeMap::new() }
    }

    /// The probes that a sample fires.
    fn probes(&self, raw: &[u8]) -> &[ProbeId] {
        if self.by_number.is_empty() {
            return &self.probes;
        }
        number(raw).and_then(|number| self.by_number.get(&number)).map_or(&[], Vec::as_slice)
    }
}

/// The number of a system call.
fn number(raw: &[u8]) -> Option<u32> {
    raw.get(SYSCALL_NR..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// What came of a source's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceStats {
    /// Probes that were fired.
    pub fired: u64,
    /// Records that were lost before they got here; of a recording, as far as its records tell.
    pub lost: u64,
    /// Records that could not be decoded, or were damaged.
    pub damaged: u64,
    /// Threads of which parent, user, group or priority could not be found out: programs find -1 there.
    pub unknown_tasks: u64,
    /// Arguments of statically defined probes that are where the record does not reach: programs find 0 there.
    pub unknown_args: u64,
    /// Samples of this process, which are left out.
    pub own: u64,
}

/// Whose samples fire, where all are recorded.
#[derive(Debug)]
pub(super) enum Only {
    /// Those of a process.
    Process(u32),
    /// Those of processes, by the number of their threads, and of those that they make.
    Family(HashMap<u32, u32>),
}

impl Only {
    /// A process that has one thread, and those that it makes.
    pub(super) fn family(pid: u32) -> Self {
        Self::Family(HashMap::from([(pid, 1)]))
    }

    fn has(&self, pid: u32) -> bool {
        match self {
            Self::Process(own) => *own == pid,
            Self::Family(all) => all.contains_key(&pid),
        }
    }
}

/// Makes firings of records.
#[derive(Debug)]
pub(super) struct Events {
    events: Vec<Event>,
    pub(super) tasks: Tasks,
    /// The process whose samples are left out.
    own: Option<u32>,
    only: Option<Only>,
    kernel_chain: Vec<u64>,
    user_chain: Vec<u64>,
    /// Samples that were lost as `LOST_SAMPLES` records say: those that the hardware lost, and at the end of a recording, once more,
    /// what found no space.
    lost_samples: u64,
    stats: SourceStats,
}

impl Events {
    pub(super) fn new(events: Vec<Event>, live: bool) -> Self {
        Self {
            events,
            tasks: Tasks::new(live),
            own: live.then(std::process::id),
            only: None,
            kernel_chain: Vec::new(),
            user_chain: Vec::new(),
            lost_samples: 0,
            stats: SourceStats::default(),
        }
    }

    #[cfg(feature = "replay")]
    pub(super) fn events_mut(&mut self) -> &mut [Event] {
        &mut self.events
    }

    /// What came of the records, and how many the kernel itself says that were lost, where it was asked.
    pub(super) fn stats(&self, lost: Option<u64>) -> SourceStats {
        let lost = match lost {
            Some(lost) => lost.max(self.stats.lost).saturating_add(self.lost_samples),
            None => self.stats.lost.max(self.lost_samples),
        };
        SourceStats { unknown_tasks: self.tasks.unknown(), lost, ..self.stats }
    }

    /// Fires for these processes only.
    pub(super) fn only(&mut self, only: Option<Only>) {
        self.only = only;
    }

    /// Keeps account of the processes that are observed.
    fn follow(&mut self, decoded: &Decoded<'_>) {
        let Some(Only::Family(only)) = &mut self.only else { return };
        match &decoded.body {
            Body::Fork(task) if only.contains_key(&task.ppid) => *only.entry(task.pid).or_default() += 1,
            Body::Exit(task) => {
                // Its number may be another's soon.
                if let Some(threads) = only.get_mut(&task.pid) {
                    *threads = threads.saturating_sub(1);
                    if *threads == 0 {
                        only.remove(&task.pid);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn damaged(&mut self) {
        self.stats.damaged += 1;
    }

    /// Fires what a record of event `event` says.
    pub(super) fn fire(&mut self, session: &mut Session, event: Option<usize>, decoded: &Decoded<'_>) {
        match &decoded.body {
            Body::Sample(sample) => self.fire_sample(session, event, sample),
            Body::Lost(lost) => self.stats.lost = self.stats.lost.saturating_add(lost.lost),
            Body::LostSamples(lost) => self.lost_samples = self.lost_samples.saturating_add(lost.lost),
            _ => {
                self.follow(decoded);
                self.tasks.see(decoded);
            }
        }
    }

    fn fire_sample(&mut self, session: &mut Session, event: Option<usize>, sample: &Sample<'_>) {
        let Some(event) = event.and_then(|event| self.events.get(event)) else { return };
        let raw = sample.raw().unwrap_or_default();
        let probes = event.probes(raw);
        if probes.is_empty() {
            return;
        }
        let (pid, tid) = sample.tid().map_or((0, 0), |id| (id.pid, id.tid));
        if Some(pid) == self.own {
            self.stats.own += 1;
            return;
        }
        if self.only.as_ref().is_some_and(|only| !only.has(pid)) {
            return;
        }
        let cpu = sample.cpu().unwrap_or(0);
        if let What::Other { cpu: Some(only) } = event.what
            && only != cpu
        {
            return;
        }
        let known = self.tasks.get(pid, tid);
        let mut regs = sample.regs_user().and_then(registers);
        let mut args = [0; MAX_ARGS];
        #[allow(unused_mut, reason = "other probes have no places")]
        let mut count = arguments(&event.what, raw, &mut regs, &mut args);
        #[cfg(feature = "symbols")]
        if let What::Usdt(operands) = &event.what {
            count = operands.len().min(MAX_ARGS);
            self.stats.unknown_args += match &regs {
                Some(regs) => operand_values(operands, sample, regs, &mut args),
                None => count as u64,
            };
        }
        let mut past = Past::new(cpu, pid, tid)
            .time(sample.time().unwrap_or(0))
            .known(known)
            .raw(raw)
            .arguments(&args[..count])
            .sample(sample.period().unwrap_or(0), sample.addr().unwrap_or(0));
        if let Some(regs) = regs {
            past = past.regs(regs);
            if let Some(stack) = sample.stack_user() {
                past = past.stack(stack_pointer(&regs), stack.copied());
            }
        }
        if let Some(chain) = sample.callchain() {
            self.kernel_chain.clear();
            self.user_chain.clear();
            for (context, ip) in chain.ips() {
                match context {
                    CallchainContext::KERNEL => self.kernel_chain.push(ip),
                    CallchainContext::USER | CallchainContext::NONE => self.user_chain.push(ip),
                    _ => {}
                }
            }
            past = past.callchains(&self.kernel_chain, &self.user_chain);
        }
        for probe in probes {
            // It is one of the session's: it was attached there.
            if session.fire(*probe, &past).is_ok() {
                self.stats.fired += 1;
            }
        }
    }
}

fn word(raw: &[u8], at: usize) -> Option<u64> {
    raw.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// The arguments, and the registers that say them; gives how many arguments there are.
fn arguments(what: &What, raw: &[u8], regs: &mut Option<[u64; REGS]>, args: &mut [u64; MAX_ARGS]) -> usize {
    let nr = || number(raw).map(|number| i64::from(number as i32) as u64);
    match what {
        What::SyscallEntry => {
            // As many as the call has: what is behind them may be anything.
            let all = (0..SYSCALL_MOST).map_while(|at| word(raw, SYSCALL_ARGS + 8 * at));
            let mut count = 0;
            for (place, arg) in args.iter_mut().zip(all) {
                *place = arg;
                count += 1;
            }
            let regs = regs.get_or_insert([0; REGS]);
            for (register, arg) in SYSCALL_REGISTERS.into_iter().zip(&args[..count]) {
                regs[register] = *arg;
            }
            regs[SYSCALL_NUMBER] = nr().unwrap_or(u64::MAX);
            count
        }
        What::SyscallReturn => {
            let value = word(raw, SYSCALL_ARGS).unwrap_or(0);
            args[..2].fill(value);
            let regs = regs.get_or_insert([0; REGS]);
            regs[SYSCALL_NUMBER] = nr().unwrap_or(u64::MAX);
            regs[SYSCALL_VALUE] = value;
            2
        }
        What::Tracepoint(format) => {
            let fields = format.iter().flat_map(TracepointFormat::fields).filter(|field| !field.is_common());
            let mut count = 0;
            for (place, field) in args.iter_mut().zip(fields) {
                *place = match field.kind() {
                    FieldKind::Value => field.int(raw).map_or(0, |value| value as u64),
                    // Where it lies in the record, which programs may read.
                    _ => field.bytes(raw).map_or(0, |bytes| bytes.as_ptr().addr() as u64),
                };
                count += 1;
            }
            count
        }
        What::Function { returns: true } => {
            args[..2].fill(regs.map_or(0, |regs| regs[SYSCALL_VALUE]));
            if regs.is_some() { 2 } else { 0 }
        }
        What::Function { returns: false } => {
            let Some(regs) = regs else { return 0 };
            for (place, register) in args.iter_mut().zip(FUNCTION_REGISTERS) {
                *place = regs[register];
            }
            FUNCTION_REGISTERS.len()
        }
        // They need the stack, too.
        #[cfg(feature = "symbols")]
        What::Usdt(_) => 0,
        What::Other { .. } => 0,
    }
}

/// The arguments of a statically defined probe; gives how many of them are not known: 0 is there then.
#[cfg(feature = "symbols")]
fn operand_values(operands: &[Operand], sample: &Sample<'_>, regs: &[u64; REGS], args: &mut [u64; MAX_ARGS]) -> u64 {
    let stack = sample.stack_user().map_or(&[][..], |stack| stack.copied());
    let read = |address: u64, to: &mut [u8]| {
        let at = address.checked_sub(stack_pointer(regs)).and_then(|at| usize::try_from(at).ok());
        let Some(from) = at.and_then(|at| stack.get(at..)?.get(..to.len())) else { return false };
        to.copy_from_slice(from);
        true
    };
    let mut unknown = 0;
    for (place, operand) in args.iter_mut().zip(operands) {
        let value = operand.value(regs, read);
        unknown += u64::from(value.is_none());
        *place = value.unwrap_or(0);
    }
    unknown
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::REGS;

    /// Names in the order of `struct pt_regs`, as perf knows them.
    pub(super) const NAMES: [&str; REGS] = [
        "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "", "ip", "cs",
        "flags", "sp", "ss",
    ];
    /// `di`, `si`, `dx`, `r10`, `r8`, `r9`
    pub(super) const SYSCALL_REGISTERS: [usize; 6] = [14, 13, 12, 7, 9, 8];
    /// `orig_ax`
    pub(super) const SYSCALL_NUMBER: usize = 15;
    /// `ax`
    pub(super) const SYSCALL_VALUE: usize = 10;
    /// `di`, `si`, `dx`, `cx`, `r8`, `r9`
    pub(super) const FUNCTION_REGISTERS: [usize; 6] = [14, 13, 12, 11, 9, 8];
    pub(super) const STACK_POINTER: usize = 19;
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::REGS;

    /// Names in the order of `struct user_pt_regs`, as perf knows them.
    pub(super) const NAMES: [&str; REGS] = [
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16",
        "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "lr", "sp", "pc",
        "",
    ];
    pub(super) const SYSCALL_REGISTERS: [usize; 6] = [0, 1, 2, 3, 4, 5];
    /// `x8`
    pub(super) const SYSCALL_NUMBER: usize = 8;
    pub(super) const SYSCALL_VALUE: usize = 0;
    pub(super) const FUNCTION_REGISTERS: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
    pub(super) const STACK_POINTER: usize = 31;
}

use machine::{FUNCTION_REGISTERS, NAMES, STACK_POINTER, SYSCALL_NUMBER, SYSCALL_REGISTERS, SYSCALL_VALUE};

/// The user's registers as the context has them; what a sample does not have is 0, and the number of a system call -1. None of
/// threads that have none.
fn registers(regs: Regs<'_>) -> Option<[u64; REGS]> {
    if regs.mask() == 0 {
        return None;
    }
    let arch = Arch::NATIVE?;
    let mut all = [0; REGS];
    for (bit, value) in regs.iter() {
        let name = arch.register_name(bit)?;
        if let Some(at) = NAMES.iter().position(|other| *other == name) {
            all[at] = value;
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        all[SYSCALL_NUMBER] = u64::MAX;
    }
    Some(all)
}

fn stack_pointer(regs: &[u64; REGS]) -> u64 {
    regs[STACK_POINTER]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_system_call_as_the_convention_has_it() {
        let mut raw = vec![0; 16];
        raw[8..12].copy_from_slice(&1_i32.to_ne_bytes());
        for arg in 10..13_u64 {
            raw.extend(arg.to_ne_bytes());
        }
        let (mut regs, mut args) = (None, [0; MAX_ARGS]);
        assert_eq!(arguments(&What::SyscallEntry, &raw, &mut regs, &mut args), 3);
        assert_eq!(args[..4], [10, 11, 12, 0]);
        let regs = regs.unwrap();
        assert_eq!((regs[14], regs[13], regs[12], regs[15]), (10, 11, 12, 1));
        let mut regs = None;
        raw[16..24].copy_from_slice(&(-9_i64).to_ne_bytes());
        assert_eq!(arguments(&What::SyscallReturn, &raw, &mut regs, &mut args), 2);
        assert_eq!((args[0] as i64, regs.unwrap()[10] as i64), (-9, -9));
        for cut in 0..raw.len() {
            for what in [What::SyscallEntry, What::SyscallReturn, What::Function { returns: true }] {
                arguments(&what, &raw[..cut], &mut None, &mut args);
            }
        }
    }

    #[test]
    fn names_of_tracepoints() {
        let names = |system, name| names_of(system, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("sched", "sched_switch"), ["tracepoint:sched::sched_switch"]);
        let enter = names("syscalls", "sys_enter_write");
        assert_eq!(enter, ["tracepoint:syscalls::sys_enter_write", "syscall::write:entry"]);
        assert_eq!(names("syscalls", "sys_exit_write")[1], "syscall::write:return");
    }
}
