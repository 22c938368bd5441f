//! Events: describing, opening, switching, waiting.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use perf_event_open_sys::bindings::{self, perf_event_attr};

use crate::kernel::mmap::{MapError, PerfFd};
use crate::kernel::{Error, StoppedCommand, Tracepoint, cpu, sys};
use crate::ring::{Consumer, Wait};

/// Events that the kernel itself provides, on every machine (`PERF_TYPE_SOFTWARE`).
///
/// From a string: the name in lower case, with `_` or `-`.
///
/// ```
/// use perfring::kernel::Software;
/// assert_eq!("page-faults".parse::<Software>().unwrap(), Software::PageFaults);
/// assert_eq!(Software::PageFaults.name(), "page_faults");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Software {
    /// Time by a high-resolution timer of each CPU; periods are nanoseconds.
    CpuClock,
    /// Time that the task ran; periods are nanoseconds.
    TaskClock,
    /// Page faults, minor and major. A sample's `ADDR` is the address that faulted.
    PageFaults,
    /// Context switches. They happen in the kernel: with `exclude_kernel` there are none.
    ContextSwitches,
    /// Moves of a task from one CPU to another.
    CpuMigrations,
    /// Page faults that needed no input.
    PageFaultsMin,
    /// Page faults that needed input from a disk.
    PageFaultsMaj,
    /// Unaligned accesses that the kernel fixed up; never on x86.
    AlignmentFaults,
    /// Instructions that the kernel emulated.
    EmulationFaults,
    /// Counts nothing: carries the other records (`mmap`, `comm`, `task`...) without samples.
    Dummy,
    /// Samples come from BPF programs that call `bpf_perf_event_output`, with the payload in `RAW`.
    BpfOutput,
    /// Context switches to a task of another cgroup.
    CgroupSwitches,
}

impl Software {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 12] = [
        Self::CpuClock,
        Self::TaskClock,
        Self::PageFaults,
        Self::ContextSwitches,
        Self::CpuMigrations,
        Self::PageFaultsMin,
        Self::PageFaultsMaj,
        Self::AlignmentFaults,
        Self::EmulationFaults,
        Self::Dummy,
        Self::BpfOutput,
        Self::CgroupSwitches,
    ];

    /// The uapi name without `PERF_COUNT_SW_`, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CpuClock => "cpu_clock",
            Self::TaskClock => "task_clock",
            Self::PageFaults => "page_faults",
            Self::ContextSwitches => "context_switches",
            Self::CpuMigrations => "cpu_migrations",
            Self::PageFaultsMin => "page_faults_min",
            Self::PageFaultsMaj => "page_faults_maj",
            Self::AlignmentFaults => "alignment_faults",
            Self::EmulationFaults => "emulation_faults",
            Self::Dummy => "dummy",
            Self::BpfOutput => "bpf_output",
            Self::CgroupSwitches => "cgroup_switches",
        }
    }

    /// The `config` of the event: its `PERF_COUNT_SW_*` value.
    pub const fn config(self) -> u64 {
        let id = match self {
            Self::CpuClock => bindings::PERF_COUNT_SW_CPU_CLOCK,
            Self::TaskClock => bindings::PERF_COUNT_SW_TASK_CLOCK,
            Self::PageFaults => bindings::PERF_COUNT_SW_PAGE_FAULTS,
            Self::ContextSwitches => bindings::PERF_COUNT_SW_CONTEXT_SWITCHES,
            Self::CpuMigrations => bindings::PERF_COUNT_SW_CPU_MIGRATIONS,
            Self::PageFaultsMin => bindings::PERF_COUNT_SW_PAGE_FAULTS_MIN,
            Self::PageFaultsMaj => bindings::PERF_COUNT_SW_PAGE_FAULTS_MAJ,
            Self::AlignmentFaults => bindings::PERF_COUNT_SW_ALIGNMENT_FAULTS,
            Self::EmulationFaults => bindings::PERF_COUNT_SW_EMULATION_FAULTS,
            Self::Dummy => bindings::PERF_COUNT_SW_DUMMY,
            Self::BpfOutput => bindings::PERF_COUNT_SW_BPF_OUTPUT,
            Self::CgroupSwitches => bindings::PERF_COUNT_SW_CGROUP_SWITCHES,
        };
        id as u64
    }
}

impl FromStr for Software {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let wanted = name.replace('-', "_");
        Self::ALL
            .into_iter()
            .find(|event| event.name() == wanted)
            .ok_or_else(|| Error::UnknownSoftware { name: name.to_owned() })
    }
}

bitflags::bitflags! {
    /// What each sample holds (`PERF_SAMPLE_*`). The fields stand in the sample in the order of perf_event_open(2), not
    /// of the bits.
    ///
    /// ```
    /// use perfring::kernel::SampleType;
    /// assert_eq!((SampleType::IP | SampleType::TID).bits(), 3);
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SampleType: u64 {
        /// The instruction pointer.
        const IP = bindings::PERF_SAMPLE_IP as u64;
        /// Process and thread id.
        const TID = bindings::PERF_SAMPLE_TID as u64;
        /// The time in nanoseconds, by the clock that was chosen.
        const TIME = bindings::PERF_SAMPLE_TIME as u64;
        /// The address that the event is about, such as that of a page fault.
        const ADDR = bindings::PERF_SAMPLE_ADDR as u64;
        /// The values of the counters, as `read_format` says.
        const READ = bindings::PERF_SAMPLE_READ as u64;
        /// The call chain.
        const CALLCHAIN = bindings::PERF_SAMPLE_CALLCHAIN as u64;
        /// The id of the group leader's event.
        const ID = bindings::PERF_SAMPLE_ID as u64;
        /// The CPU.
        const CPU = bindings::PERF_SAMPLE_CPU as u64;
        /// The period that was in force.
        const PERIOD = bindings::PERF_SAMPLE_PERIOD as u64;
        /// The id of the event itself.
        const STREAM_ID = bindings::PERF_SAMPLE_STREAM_ID as u64;
        /// Raw data: the fields of a tracepoint, or a BPF program's payload.
        const RAW = bindings::PERF_SAMPLE_RAW as u64;
        /// The branch stack.
        const BRANCH_STACK = bindings::PERF_SAMPLE_BRANCH_STACK as u64;
        /// The user registers that `sample_regs_user` selects.
        const REGS_USER = bindings::PERF_SAMPLE_REGS_USER as u64;
        /// `sample_stack_user` bytes of the user stack.
        const STACK_USER = bindings::PERF_SAMPLE_STACK_USER as u64;
        /// A weight that the hardware gives.
        const WEIGHT = bindings::PERF_SAMPLE_WEIGHT as u64;
        /// Where in the memory hierarchy the data came from.
        const DATA_SRC = bindings::PERF_SAMPLE_DATA_SRC as u64;
        /// The id of the event, at a place that does not depend on the other bits.
        const IDENTIFIER = bindings::PERF_SAMPLE_IDENTIFIER as u64;
        /// Flags of a transaction's abort.
        const TRANSACTION = bindings::PERF_SAMPLE_TRANSACTION as u64;
        /// The registers at the interrupt that `sample_regs_intr` selects.
        const REGS_INTR = bindings::PERF_SAMPLE_REGS_INTR as u64;
        /// The physical address.
        const PHYS_ADDR = bindings::PERF_SAMPLE_PHYS_ADDR as u64;
        /// A snapshot of the AUX area.
        const AUX = bindings::PERF_SAMPLE_AUX as u64;
        /// The id of the cgroup.
        const CGROUP = bindings::PERF_SAMPLE_CGROUP as u64;
        /// The size of the page of the data address.
        const DATA_PAGE_SIZE = bindings::PERF_SAMPLE_DATA_PAGE_SIZE as u64;
        /// The size of the page of the instruction pointer.
        const CODE_PAGE_SIZE = bindings::PERF_SAMPLE_CODE_PAGE_SIZE as u64;
        /// Several weights that the hardware gives.
        const WEIGHT_STRUCT = bindings::PERF_SAMPLE_WEIGHT_STRUCT as u64;
        // A newer kernel may know more.
        const _ = !0;
    }
}

/// A clock for the times in the records, see clock_gettime(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClockId {
    /// Wall-clock time, which may jump.
    Realtime,
    /// Time since some point in the past, without jumps; the clock of the records that this crate writes.
    Monotonic,
    /// As `Monotonic`, not steered by NTP.
    MonotonicRaw,
    /// As `Monotonic`, going on during suspend.
    Boottime,
    /// International atomic time.
    Tai,
}

impl ClockId {
    /// The `CLOCK_*` value.
    pub const fn id(self) -> i32 {
        match self {
            Self::Realtime => libc::CLOCK_REALTIME,
            Self::Monotonic => libc::CLOCK_MONOTONIC,
            Self::MonotonicRaw => libc::CLOCK_MONOTONIC_RAW,
            Self::Boottime => libc::CLOCK_BOOTTIME,
            Self::Tai => libc::CLOCK_TAI,
        }
    }
}

/// What an event observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// The thread that opens the event, on whichever CPU it runs.
    CallingThread,
    /// One thread, on whichever CPU it runs. A process id means the process' main thread.
    Task {
        /// The thread's id; never 0.
        pid: u32,
    },
    /// One thread, while it runs on one CPU.
    TaskOnCpu {
        /// The thread's id; never 0.
        pid: u32,
        /// The CPU.
        cpu: u32,
    },
    /// Everything that runs on one CPU.
    Cpu {
        /// The CPU.
        cpu: u32,
    },
}

impl Target {
    fn cpu(&self) -> Option<u32> {
        match *self {
            Self::TaskOnCpu { cpu, .. } | Self::Cpu { cpu } => Some(cpu),
            Self::CallingThread | Self::Task { .. } => None,
        }
    }

    fn pid(&self) -> Option<u32> {
        match *self {
            Self::Task { pid } | Self::TaskOnCpu { pid, .. } => Some(pid),
            Self::CallingThread | Self::Cpu { .. } => None,
        }
    }

    /// The arguments `pid` and `cpu` of perf_event_open.
    fn arguments(&self) -> Result<(libc::pid_t, libc::c_int), Error> {
        let pid = match (self, self.pid()) {
            (_, Some(pid)) => libc::pid_t::try_from(pid)
                .ok()
                // 0 would silently mean the calling thread.
                .filter(|&pid| pid != 0)
                .ok_or(Error::NoSuchTask { pid })?,
            (Self::Cpu { .. }, None) => -1,
            (_, None) => 0,
        };
        let cpu = match self.cpu() {
            Some(cpu) => libc::c_int::try_from(cpu).map_err(|_| no_such_cpu(cpu))?,
            None => -1,
        };
        Ok((pid, cpu))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CallingThread => f.write_str("the calling thread"),
            Self::Task { pid } => write!(f, "task {pid}"),
            Self::TaskOnCpu { pid, cpu } => write!(f, "task {pid} on CPU {cpu}"),
            Self::Cpu { cpu } => write!(f, "CPU {cpu}"),
        }
    }
}

/// A description of an event: a builder over `perf_event_attr`.
///
/// Everything not set is zero, as in the uapi: the event counts but does not sample, starts enabled, and no side
/// records come along. The description is reusable: each `open` makes another event of it.
///
/// ```
/// use perfring::kernel::{EventBuilder, SampleType, Software};
///
/// let builder = EventBuilder::software(Software::CpuClock)
///     .sample_freq(99)
///     .sample_type(SampleType::IP | SampleType::TID)
///     .exclude_kernel(true);
/// assert_eq!(builder.attr().sample_type, 3);
/// assert_eq!(builder.attr().freq(), 1);
/// ```
#[derive(Clone)]
pub struct EventBuilder {
    attr: perf_event_attr,
    /// What the attr was made for, and the type and config for which that is still so.
    label: Option<(String, u32, u64)>,
}

/// Methods that set one bit of the attr.
macro_rules! flags {
    ($($(#[$doc:meta])+ $name:ident, $set:ident;)+) => {
        $(
            $(#[$doc])+
            #[must_use]
            pub fn $name(mut self, on: bool) -> Self {
                self.attr.$set(on.into());
                self
            }
        )+
    };
}

impl EventBuilder {
    /// An event of the kernel itself.
    pub fn software(event: Software) -> Self {
        let mut builder = Self::new(bindings::PERF_TYPE_SOFTWARE, event.config());
        builder.set_label(format!("software event {}", event.name()));
        builder
    }

    /// A tracepoint by its name, `subsystem:name`.
    ///
    /// Reading raw data (`SampleType::RAW`) needs `CAP_PERFMON` or a `perf_event_paranoid` of -1, with few exceptions.
    ///
    /// # Errors
    ///
    /// Those of [`Tracepoint::find`].
    pub fn tracepoint(name: &str) -> Result<Self, Error> {
        Tracepoint::find(name).map(|found| Self::from(&found))
    }

    /// An event by its `type` and `config`, for what has no constructor here.
    pub fn new(type_: u32, config: u64) -> Self {
        let attr = perf_event_attr { type_, size: size_of::<perf_event_attr>() as u32, config, ..Default::default() };
        Self { attr, label: None }
    }

    /// An event by the attribute itself.
    pub fn from_attr(attr: perf_event_attr) -> Self {
        Self { attr, label: None }
    }

    fn set_label(&mut self, text: String) {
        self.label = Some((text, self.attr.type_, self.attr.config));
    }

    /// The description so far.
    pub fn attr(&self) -> &perf_event_attr {
        &self.attr
    }

    /// The description itself, for what has no method here.
    ///
    /// `size` may be made smaller, down to 64, to speak an older ABI; a larger one is refused.
    ///
    /// ```
    /// use perfring::kernel::{EventBuilder, Software};
    /// let mut builder = EventBuilder::software(Software::Dummy);
    /// builder.attr_mut().set_ksymbol(1);
    /// assert_eq!(builder.attr().ksymbol(), 1);
    /// ```
    pub fn attr_mut(&mut self) -> &mut perf_event_attr {
        &mut self.attr
    }

    /// Take a sample each `period` events (nanoseconds for clocks); 0: never.
    #[must_use]
    pub fn sample_period(mut self, period: u64) -> Self {
        self.attr.sample_period = period;
        self.attr.set_freq(0);
        self
    }

    /// Take about `freq` samples a second: the kernel adjusts the period. At most
    /// `/proc/sys/kernel/perf_event_max_sample_rate`.
    #[must_use]
    pub fn sample_freq(mut self, freq: u64) -> Self {
        self.attr.sample_freq = freq;
        self.attr.set_freq(1);
        self
    }

    /// What each sample holds; with [`sample_id_all`](Self::sample_id_all), parts of it end the other records as well.
    #[must_use]
    pub fn sample_type(mut self, what: SampleType) -> Self {
        self.attr.sample_type = what.bits();
        self
    }

    /// Bytes of the user stack in each sample with `STACK_USER`: a multiple of 8, less than 65536.
    #[must_use]
    pub fn sample_stack_user(mut self, bytes: u32) -> Self {
        self.attr.sample_stack_user = bytes;
        self
    }

    /// The user registers in each sample with `REGS_USER`: bits as in the architecture's `asm/perf_regs.h`.
    #[must_use]
    pub fn sample_regs_user(mut self, mask: u64) -> Self {
        self.attr.sample_regs_user = mask;
        self
    }

    /// Wake the reader after `n` samples. Other records do not count; 0 means every half ring.
    ///
    /// Unsets [`wakeup_watermark`](Self::wakeup_watermark).
    #[must_use]
    pub fn wakeup_events(mut self, n: u32) -> Self {
        self.attr.wakeup_events = n;
        self.attr.set_watermark(0);
        self
    }

    /// Wake the reader after `bytes` bytes of records of any kind; the kernel takes at most half the ring, also for 0.
    ///
    /// Sets the flag `watermark`, and unsets [`wakeup_events`](Self::wakeup_events).
    #[must_use]
    pub fn wakeup_watermark(mut self, bytes: u32) -> Self {
        self.attr.wakeup_watermark = bytes;
        self.attr.set_watermark(1);
        self
    }

    /// Take times from this clock (`use_clockid`) rather than from the kernel's own trace clock.
    #[must_use]
    pub fn clockid(mut self, clock: ClockId) -> Self {
        self.attr.clockid = clock.id();
        self.attr.set_use_clockid(1);
        self
    }

    flags! {
        /// Start switched off, until [`Event::enable`] or `enable_on_exec`.
        disabled, set_disabled;
        /// Count in children that the task makes from now on, too.
        ///
        /// Such an event can be mapped only if it is bound to a CPU: [`open_task_on_cpus`](Self::open_task_on_cpus).
        inherit, set_inherit;
        /// Do not count while in user space.
        exclude_user, set_exclude_user;
        /// Do not count while in the kernel. Without privileges, this is required where `perf_event_paranoid` is 2.
        exclude_kernel, set_exclude_kernel;
        /// Do not count while in the hypervisor.
        exclude_hv, set_exclude_hv;
        /// Report executable mappings (`PERF_RECORD_MMAP`).
        mmap, set_mmap;
        /// Report executable mappings with device, inode and protection (`PERF_RECORD_MMAP2` instead of
        /// `PERF_RECORD_MMAP`).
        mmap2, set_mmap2;
        /// Report mappings that are not executable, too.
        mmap_data, set_mmap_data;
        /// Report changes of a task's name (`PERF_RECORD_COMM`).
        comm, set_comm;
        /// Mark, in the misc field of `PERF_RECORD_COMM`, those that come from an exec.
        comm_exec, set_comm_exec;
        /// Report forks and exits (`PERF_RECORD_FORK`, `PERF_RECORD_EXIT`); `comm` and the `mmap` flags do so, too.
        task, set_task;
        /// End the records that are no samples with those of `TID`, `TIME`, `ID`, `STREAM_ID`, `CPU` and `IDENTIFIER`
        /// that are in the sample type.
        sample_id_all, set_sample_id_all;
        /// Switch on when the task executes a program; meant for events that start `disabled`.
        enable_on_exec, set_enable_on_exec;
        /// Report context switches (`PERF_RECORD_SWITCH`, or `PERF_RECORD_SWITCH_CPU_WIDE` on a CPU).
        context_switch, set_context_switch;
        /// Write from the end of the ring to its start, overwriting the oldest records: [`Event::mmap`] maps such a
        /// ring read-only.
        write_backward, set_write_backward;
    }

    /// What the event is, for messages.
    fn describe(&self) -> String {
        match &self.label {
            Some((text, type_, config)) if (self.attr.type_, self.attr.config) == (*type_, *config) => text.clone(),
            _ => format!("event of type {} with config {:#x}", self.attr.type_, self.attr.config),
        }
    }

    /// Opens the event.
    ///
    /// # Errors
    ///
    /// [`Error::Permission`], [`Error::TooManyFiles`], [`Error::UnsupportedEvent`], [`Error::NoDevice`],
    /// [`Error::NoSuchCpu`], [`Error::NoSuchTask`], [`Error::AttrSize`], [`Error::SampleFreq`], [`Error::InvalidAttr`],
    /// [`Error::NoPerfEvents`]; whatever else the kernel answers is an [`Error::Open`].
    ///
    /// ```no_run
    /// use perfring::kernel::{EventBuilder, Software, Target};
    /// # fn main() -> Result<(), perfring::kernel::Error> {
    /// let event = EventBuilder::software(Software::TaskClock).open(Target::CallingThread)?;
    /// println!("opened with id {}", event.id()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(&self, target: Target) -> Result<Event, Error> {
        let (pid, cpu) = target.arguments()?;
        let mut attr = self.attr;
        match PerfFd::open(&mut attr, pid, cpu) {
            Ok(fd) => Ok(Event { fd, attr, name: self.describe(), target }),
            Err(error) => Err(self.open_error(target, attr.size, error)),
        }
    }

    /// Opens the event on each CPU that is online, for everything that runs there.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), and [`Error::Read`] when the online CPUs cannot be read. CPUs that go offline
    /// meanwhile are left out.
    pub fn open_cpus(&self) -> Result<Vec<Event>, Error> {
        self.open_each(|cpu| Target::Cpu { cpu })
    }

    /// Opens the event on a task once for each CPU that is online: what an event with `inherit` needs to be mapped.
    ///
    /// # Errors
    ///
    /// As for [`open_cpus`](Self::open_cpus).
    pub fn open_task_on_cpus(&self, pid: u32) -> Result<Vec<Event>, Error> {
        self.open_each(|cpu| Target::TaskOnCpu { pid, cpu })
    }

    fn open_each(&self, target: impl Fn(u32) -> Target) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        let mut gone = None;
        for cpu in cpu::online_cpus()? {
            match self.open(target(cpu)) {
                Ok(event) => events.push(event),
                Err(error @ Error::NoSuchCpu { .. }) => gone = Some(error),
                Err(error) => return Err(error),
            }
        }
        match gone {
            Some(error) if events.is_empty() => Err(error),
            _ => Ok(events),
        }
    }

    /// Opens the event on a command that is about to start, switched on by its exec: sets `disabled` and
    /// `enable_on_exec`.
    ///
    /// Map the event, then [start](StoppedCommand::start) the command. To follow the command's children, use
    /// [`StoppedCommand::spawn`], `inherit`, and [`open_task_on_cpus`](Self::open_task_on_cpus).
    ///
    /// # Errors
    ///
    /// Those of [`StoppedCommand::spawn`] and of [`open`](Self::open).
    ///
    /// ```no_run
    /// use perfring::kernel::{EventBuilder, Software};
    /// use std::process::Command;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (command, mut event) = EventBuilder::software(Software::Dummy)
    ///     .comm(true)
    ///     .open_command(Command::new("true"))?;
    /// let mut consumer = event.mmap(8)?;
    /// command.start()?.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_command(&self, command: Command) -> Result<(StoppedCommand, Event), Error> {
        let command = StoppedCommand::spawn(command)?;
        let event = self.clone().disabled(true).enable_on_exec(true).open(Target::Task { pid: command.pid() })?;
        Ok((command, event))
    }

    /// The cause behind an errno of perf_event_open.
    fn open_error(&self, target: Target, size_after: u32, source: io::Error) -> Error {
        let event = || self.describe();
        let source = match error_from_limits(source) {
            Ok(error) => return error,
            Err(source) => source,
        };
        // An offline CPU is ENODEV, one that can never be is EINVAL.
        if let Some(cpu) = target.cpu()
            && matches!(source.raw_os_error(), Some(libc::ENODEV | libc::EINVAL | libc::ENXIO))
            && cpu::online_cpus().is_ok_and(|online| !online.contains(&cpu))
        {
            return no_such_cpu(cpu);
        }
        match source.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => Error::Permission {
                event: event(),
                target,
                paranoid: proc_number("kernel/perf_event_paranoid"),
                allowed_at: self.allowed_at(target),
                source,
            },
            Some(libc::ENOENT | libc::EOPNOTSUPP) => Error::UnsupportedEvent { event: event(), source },
            Some(libc::ENODEV | libc::ENXIO) => Error::NoDevice { event: event(), source },
            Some(libc::ESRCH) if target.pid().is_some() => Error::NoSuchTask { pid: target.pid().unwrap_or_default() },
            Some(libc::E2BIG) => Error::AttrSize {
                size: self.attr.size,
                known: match size_after {
                    kernel if kernel != self.attr.size => kernel,
                    _ => size_of::<perf_event_attr>() as u32,
                },
            },
            Some(libc::ENOSYS) => Error::NoPerfEvents,
            Some(libc::EINVAL) => {
                let freq = self.attr.sample_freq;
                let max = proc_number("kernel/perf_event_max_sample_rate").and_then(|max| u64::try_from(max).ok());
                match max {
                    Some(max) if self.attr.freq() == 1 && freq > max => Error::SampleFreq { freq, max },
                    _ => Error::InvalidAttr { event: event(), target },
                }
            }
            _ => Error::Open { event: event(), target, source },
        }
    }

    /// The highest perf_event_paranoid at which a process without privileges may open this, as perf_event_open(2) lists
    /// them.
    fn allowed_at(&self, target: Target) -> i64 {
        let sample_type = SampleType::from_bits_retain(self.attr.sample_type);
        if self.attr.type_ == bindings::PERF_TYPE_TRACEPOINT && sample_type.contains(SampleType::RAW) {
            -1
        } else if matches!(target, Target::Cpu { .. }) {
            0
        } else if self.attr.exclude_kernel() == 0 || sample_type.contains(SampleType::PHYS_ADDR) {
            1
        } else {
            2
        }
    }
}

impl From<&Tracepoint> for EventBuilder {
    fn from(tracepoint: &Tracepoint) -> Self {
        let mut builder = Self::new(bindings::PERF_TYPE_TRACEPOINT, tracepoint.id());
        builder.set_label(format!("tracepoint {tracepoint}"));
        builder
    }
}

impl fmt::Debug for EventBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBuilder").field("event", &self.describe()).field("attr", &self.attr).finish()
    }
}

/// An open event: a file descriptor of perf_event_open(2), closed on exec and on drop.
///
/// A [`Consumer`] made from it has a descriptor of its own and outlives it; the event goes on as long as either is
/// there.
pub struct Event {
    pub(super) fd: PerfFd,
    attr: perf_event_attr,
    pub(super) name: String,
    target: Target,
}

impl Event {
    /// Maps a ring of `pages` data pages, a power of two, and a header page.
    ///
    /// With `write_backward` the ring is mapped read-only and the kernel overwrites the oldest records; pause the
    /// output ([`pause_output`](Self::pause_output)) while reading. Without, records that find no space are lost, and
    /// counted.
    ///
    /// An event is mapped once in its life.
    ///
    /// # Errors
    ///
    /// [`Error::Pages`], [`Error::AlreadyMapped`], [`Error::HeaderMapped`], [`Error::MapInherited`], [`Error::MlockLimit`],
    /// [`Error::TooManyFiles`], [`Error::Map`], [`Error::Attach`].
    pub fn mmap(&mut self, pages: usize) -> Result<Consumer, Error> {
        let page_size = sys::page_size();
        let len = pages
            .checked_add(1)
            .and_then(|pages| pages.checked_mul(page_size))
            .filter(|&len| pages.is_power_of_two() && isize::try_from(len).is_ok())
            .ok_or(Error::Pages { pages })?;
        self.check_mappable()?;
        self.fd.consumer(len).map_err(|error| map_error(pages, page_size, error))
    }

    /// Whether the kernel maps such an event.
    pub(super) fn check_mappable(&self) -> Result<(), Error> {
        match self.attr.inherit() == 1 && self.target.cpu().is_none() {
            true => Err(Error::MapInherited),
            false => Ok(()),
        }
    }

    /// Switches the event on (`PERF_EVENT_IOC_ENABLE`).
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn enable(&self) -> Result<(), Error> {
        sys::enable(self.fd.as_fd()).map_err(|source| self.ioctl_error("PERF_EVENT_IOC_ENABLE", source))
    }

    /// Switches the event off (`PERF_EVENT_IOC_DISABLE`). Samples stop; the side records (`comm`, `mmap`...) stop too.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn disable(&self) -> Result<(), Error> {
        sys::disable(self.fd.as_fd()).map_err(|source| self.ioctl_error("PERF_EVENT_IOC_DISABLE", source))
    }

    /// Stops writing to the ring (`PERF_EVENT_IOC_PAUSE_OUTPUT`), so that a backward ring can be read. What would have
    /// been written is lost, and counts as such.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`], also when the event is not mapped.
    pub fn pause_output(&self) -> Result<(), Error> {
        sys::pause_output(self.fd.as_fd(), true)
            .map_err(|source| self.ioctl_error("PERF_EVENT_IOC_PAUSE_OUTPUT", source))
    }

    /// Goes on writing to the ring after [`pause_output`](Self::pause_output).
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`], also when the event is not mapped.
    pub fn resume_output(&self) -> Result<(), Error> {
        sys::pause_output(self.fd.as_fd(), false)
            .map_err(|source| self.ioctl_error("PERF_EVENT_IOC_PAUSE_OUTPUT", source))
    }

    /// The event's id (`PERF_EVENT_IOC_ID`): what `IDENTIFIER`, `ID` and `STREAM_ID` in its records say.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn id(&self) -> Result<u64, Error> {
        sys::id(self.fd.as_fd()).map_err(|source| self.ioctl_error("PERF_EVENT_IOC_ID", source))
    }

    fn ioctl_error(&self, request: &'static str, source: io::Error) -> Error {
        Error::Ioctl { request, event: self.name.clone(), source }
    }

    /// The attribute with which the event was opened.
    pub fn attr(&self) -> &perf_event_attr {
        &self.attr
    }

    /// The attribute as the kernel read it: `attr().size` bytes in this machine's byte order.
    pub fn attr_bytes(&self) -> &[u8] {
        sys::attr_bytes(&self.attr)
    }

    /// What the event observes.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Waits until the kernel wakes the reader, the task has ended, or the timeout has passed; without one, for ever.
    ///
    /// A wake-up is reported once, to whoever polls first: to this, to [`poll`], or to the consumer's own wait. It says
    /// that a watermark was crossed, so always drain again before waiting, and drain once more after `Closed`.
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`], [`Error::Poll`].
    pub fn poll(&self, timeout: Option<Duration>) -> Result<Wait, Error> {
        poll(std::slice::from_ref(self), timeout)
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}

impl From<Event> for OwnedFd {
    fn from(event: Event) -> Self {
        event.fd.into()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("fd", &self.fd)
            .field("name", &self.name)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Waits until the kernel wakes the reader of any of these events, all their tasks have ended, or the timeout has
/// passed; without one, for ever. See [`Event::poll`].
///
/// # Errors
///
/// [`Error::NotMapped`] if one of them has no ring, [`Error::Poll`].
pub fn poll(events: &[Event], timeout: Option<Duration>) -> Result<Wait, Error> {
    if events.iter().any(|event| !event.fd.is_mapped()) {
        return Err(Error::NotMapped);
    }
    let mut fds: Vec<_> =
        events.iter().map(|event| libc::pollfd { fd: event.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    let deadline = timeout.and_then(|timeout| std::time::Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()));
        if sys::poll(&mut fds, left).map_err(Error::Poll)? == 0 {
            return Ok(Wait::TimedOut);
        }
        if fds.iter().any(|fd| fd.revents & libc::POLLIN != 0) {
            return Ok(Wait::Ready);
        }
        // The rest have hung up, and would say so for ever: do not ask them again.
        for fd in fds.iter_mut().filter(|fd| fd.revents != 0) {
            fd.fd = -1;
            fd.revents = 0;
        }
        if fds.iter().all(|fd| fd.fd < 0) {
            return Ok(Wait::Closed);
        }
    }
}

/// The cause behind a mapping that failed.
pub(super) fn map_error(pages: usize, page_size: usize, error: MapError) -> Error {
    match error {
        MapError::AlreadyMapped => Error::AlreadyMapped,
        MapError::HeaderMapped => Error::HeaderMapped,
        MapError::Attach(error) => Error::Attach(error),
        MapError::System(source) => match error_from_limits(source) {
            Ok(error) => error,
            Err(source) if source.raw_os_error() == Some(libc::EPERM) => Error::MlockLimit {
                pages,
                page_size,
                mlock_kb: proc_number("kernel/perf_event_mlock_kb"),
                memlock: sys::memlock_limit(),
                source,
            },
            Err(source) => Error::Map { pages, source },
        },
    }
}

/// The error when a limit on open files was hit, else the answer itself.
pub(crate) fn error_from_limits(source: io::Error) -> Result<Error, io::Error> {
    match source.raw_os_error() {
        Some(libc::EMFILE) => Ok(Error::TooManyFiles { limit: sys::nofile_limit() }),
        Some(libc::ENFILE) => Ok(Error::TooManyFilesInSystem { limit: proc_number("fs/file-max") }),
        _ => Err(source),
    }
}

fn no_such_cpu(cpu: u32) -> Error {
    Error::NoSuchCpu { cpu, online: cpu::online_text() }
}

/// A number in /proc/sys.
fn proc_number(name: &str) -> Option<i64> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_lead_back() {
        for (id, event) in Software::ALL.into_iter().enumerate() {
            assert_eq!(event.config(), id as u64);
            assert_eq!(event.name().parse::<Software>().unwrap(), event);
            assert_eq!(event.name().replace('_', "-").parse::<Software>().unwrap(), event);
        }
        let error = "page-fault".parse::<Software>().unwrap_err();
        assert!(error.to_string().contains("\"page-fault\"") && error.to_string().contains("page_faults"), "{error}");
    }

    #[test]
    fn sample_type_has_every_bit_of_the_header() {
        let named: u64 = SampleType::all().iter_names().map(|(_, bit)| bit.bits()).sum();
        assert_eq!(named, u64::from(bindings::PERF_SAMPLE_MAX) - 1);
    }

    #[test]
    fn methods_set_the_attr() {
        let builder = EventBuilder::software(Software::PageFaults)
            .sample_freq(99)
            .sample_period(7)
            .wakeup_events(3)
            .clockid(ClockId::Monotonic)
            .disabled(true)
            .exclude_kernel(true)
            .exclude_kernel(false)
            .exclude_hv(true);
        let attr = builder.attr();
        assert_eq!((attr.type_, attr.config, attr.size as usize), (1, 2, size_of::<perf_event_attr>()));
        assert_eq!((attr.sample_period, attr.freq()), (7, 0));
        assert_eq!((attr.wakeup_events, attr.watermark()), (3, 0));
        assert_eq!((attr.use_clockid(), attr.clockid), (1, libc::CLOCK_MONOTONIC));
        assert_eq!((attr.disabled(), attr.exclude_kernel(), attr.exclude_hv()), (1, 0, 1));
        let builder = builder.wakeup_watermark(4096).sample_freq(99);
        assert_eq!((builder.attr().wakeup_watermark, builder.attr().watermark()), (4096, 1));
        assert_eq!((builder.attr().sample_freq, builder.attr().freq()), (99, 1));
    }

    #[test]
    fn bytes_are_those_of_the_attr() {
        let builder = EventBuilder::new(0x0102_0304, 0x1112_1314_1516_1718).disabled(true);
        let bytes = sys::attr_bytes(builder.attr());
        assert_eq!(bytes.len(), size_of::<perf_event_attr>());
        assert_eq!(bytes[..4], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(bytes[4..8], (bytes.len() as u32).to_ne_bytes());
        assert_eq!(bytes[8..16], 0x1112_1314_1516_1718_u64.to_ne_bytes());
        let mut damaged = *builder.attr();
        damaged.size = u32::MAX;
        assert_eq!(sys::attr_bytes(&damaged).len(), bytes.len());
        damaged.size = 64;
        assert_eq!(sys::attr_bytes(&damaged).len(), 64);
    }

    #[test]
    fn a_label_does_not_outlive_what_it_names() {
        let mut builder = EventBuilder::software(Software::Dummy);
        assert_eq!(builder.describe(), "software event dummy");
        builder.attr_mut().config = 0x99;
        assert_eq!(builder.describe(), "event of type 1 with config 0x99");
    }

    #[test]
    fn targets_become_arguments() {
        assert_eq!(Target::CallingThread.arguments().unwrap(), (0, -1));
        assert_eq!(Target::Task { pid: 7 }.arguments().unwrap(), (7, -1));
        assert_eq!(Target::TaskOnCpu { pid: 7, cpu: 1 }.arguments().unwrap(), (7, 1));
        assert_eq!(Target::Cpu { cpu: 0 }.arguments().unwrap(), (-1, 0));
        for pid in [0, u32::MAX, 1 << 31] {
            assert!(matches!(Target::Task { pid }.arguments(), Err(Error::NoSuchTask { .. })));
        }
        assert!(matches!(Target::Cpu { cpu: u32::MAX }.arguments(), Err(Error::NoSuchCpu { .. })));
    }

    #[test]
    fn paranoid_levels() {
        let builder = EventBuilder::software(Software::PageFaults);
        assert_eq!(builder.allowed_at(Target::CallingThread), 1);
        assert_eq!(builder.allowed_at(Target::Cpu { cpu: 0 }), 0);
        assert_eq!(builder.exclude_kernel(true).allowed_at(Target::CallingThread), 2);
        let raw = EventBuilder::new(bindings::PERF_TYPE_TRACEPOINT, 1).sample_type(SampleType::RAW);
        assert_eq!(raw.allowed_at(Target::CallingThread), -1);
    }

    #[test]
    fn each_errno_has_its_variant() {
        let error = |errno, target| {
            EventBuilder::software(Software::PageFaults).open_error(target, 64, io::Error::from_raw_os_error(errno))
        };
        let thread = Target::CallingThread;
        assert!(matches!(error(libc::EACCES, thread), Error::Permission { allowed_at: 1, .. }));
        assert!(matches!(error(libc::EPERM, thread), Error::Permission { .. }));
        assert!(matches!(error(libc::EMFILE, thread), Error::TooManyFiles { limit: Some(_) }));
        assert!(matches!(error(libc::ENFILE, thread), Error::TooManyFilesInSystem { .. }));
        assert!(matches!(error(libc::ENOENT, thread), Error::UnsupportedEvent { .. }));
        assert!(matches!(error(libc::EOPNOTSUPP, thread), Error::UnsupportedEvent { .. }));
        assert!(matches!(error(libc::ENODEV, thread), Error::NoDevice { .. }));
        assert!(matches!(error(libc::ENODEV, Target::Cpu { cpu: 1 << 24 }), Error::NoSuchCpu { .. }));
        assert!(matches!(error(libc::ESRCH, Target::Task { pid: 5 }), Error::NoSuchTask { pid: 5 }));
        assert!(matches!(error(libc::ENOSYS, thread), Error::NoPerfEvents));
        assert!(matches!(error(libc::EINVAL, thread), Error::InvalidAttr { .. }));
        assert!(matches!(error(libc::EIO, thread), Error::Open { .. }));
        assert!(matches!(error(libc::E2BIG, thread), Error::AttrSize { known: 64, .. }));
    }
}
