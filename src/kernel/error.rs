//! What can go wrong between a program and the kernel's perf events, and what would put it right.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use perf_event_open_sys::bindings::PERF_ATTR_SIZE_VER0;

use crate::kernel::diagnose::Diagnosis;
use crate::kernel::suggest::question;
use crate::kernel::{FormatError, ReadFormat, Target};

/// An error of the kernel side: one variant per cause, whose text names the knob that matters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused for lack of privilege (`EACCES` or `EPERM`).
    #[error("{}", explain_permission(event, target, *paranoid, *allowed_at))]
    Permission {
        /// The event that was asked for.
        event: String,
        /// What it was to observe.
        target: Target,
        /// `/proc/sys/kernel/perf_event_paranoid`, if it could be read.
        paranoid: Option<i64>,
        /// The highest `perf_event_paranoid` at which a process without `CAP_PERFMON` may open this.
        allowed_at: i64,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The process has no file descriptor left (`EMFILE`).
    #[error(
        "too many open files: RLIMIT_NOFILE is {}; each event takes a file descriptor, and each mapped ring another: raise the limit (ulimit -n) or open fewer",
        known(limit)
    )]
    TooManyFiles {
        /// The soft `RLIMIT_NOFILE`, if it could be read.
        limit: Option<u64>,
    },

    /// The system has no file descriptor left (`ENFILE`).
    #[error("too many open files in the whole system: /proc/sys/fs/file-max is {}", known(limit))]
    TooManyFilesInSystem {
        /// `/proc/sys/fs/file-max`, if it could be read.
        limit: Option<i64>,
    },

    /// Nothing in this kernel or machine provides the event (`ENOENT`, `EOPNOTSUPP`).
    #[error("{event} is not supported here: {}", explain_unsupported(diagnosis))]
    UnsupportedEvent {
        /// The event that was asked for.
        event: String,
        /// Which option is at fault, or that it is the event.
        diagnosis: Diagnosis,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The device behind the event is absent (`ENODEV`, `ENXIO`).
    #[error("{event} needs a device that is absent (virtual machines often have no hardware counters)")]
    NoDevice {
        /// The event that was asked for.
        event: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The CPU does not exist or is offline.
    #[error("CPU {cpu} does not exist or is offline; online are {online}")]
    NoSuchCpu {
        /// The CPU that was asked for.
        cpu: u32,
        /// The CPUs that are online, as the kernel lists them (`0-3,6`).
        online: String,
    },

    /// The task does not exist, or has ended (`ESRCH`).
    #[error("there is no task {pid}: it has ended, or never was in this pid namespace")]
    NoSuchTask {
        /// The task that was asked for.
        pid: u32,
    },

    /// The attributes are larger than the kernel, or this crate, knows (`E2BIG`), or `size` leaves out what is set.
    #[error("{}", explain_attr_size(*size, *known, fields))]
    AttrSize {
        /// `perf_event_attr.size` as it was asked for.
        size: u32,
        /// The size that would have been understood.
        known: u32,
        /// The fields that are set beyond it.
        fields: Vec<&'static str>,
    },

    /// The group has so many events that they cannot be read at once (`E2BIG`).
    #[error("no place in the group for {event}: the values that a read of a group gives have 16 KiB at most")]
    GroupTooLarge {
        /// The event that found no place.
        event: String,
    },

    /// More samples a second were asked for than the kernel allows.
    #[error("a sample_freq of {freq} Hz is above /proc/sys/kernel/perf_event_max_sample_rate, which is {max}")]
    SampleFreq {
        /// The frequency that was asked for, in samples per second.
        freq: u64,
        /// The kernel's limit, in samples per second.
        max: u64,
    },

    /// The kernel finds the attributes invalid or contradictory (`EINVAL`).
    #[error("the kernel finds the attributes of {event} on {target} invalid (EINVAL): {diagnosis}")]
    InvalidAttr {
        /// The event that was asked for.
        event: String,
        /// What it was to observe.
        target: Target,
        /// Which option is at fault.
        diagnosis: Diagnosis,
    },

    /// The kernel refused something that `perf_event_paranoid` cannot allow (`EACCES` or `EPERM`).
    #[error("not allowed to open {event}: {what}, whatever /proc/sys/kernel/perf_event_paranoid is")]
    Capability {
        /// The event that was asked for.
        event: String,
        /// What needs which capability.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },

    /// Deeper call chains were asked for than the kernel allows (`EOVERFLOW`).
    #[error("a sample_max_stack of {frames} is above /proc/sys/kernel/perf_event_max_stack, which is {}", known(max))]
    SampleMaxStack {
        /// The number of frames that was asked for.
        frames: u16,
        /// The kernel's limit, if it could be read.
        max: Option<i64>,
    },

    /// The CPU has no breakpoint register left (`ENOSPC`).
    #[error(
        "no breakpoint register is free for {event} on {target}: CPUs have about four; close other breakpoints, also those of debuggers"
    )]
    NoBreakpoint {
        /// The event that was asked for.
        event: String,
        /// What it was to observe.
        target: Target,
    },

    /// Another event has the hardware for itself (`EBUSY`).
    #[error("{event} cannot be opened on {target} while another event has its hardware exclusively")]
    Busy {
        /// The event that was asked for.
        event: String,
        /// What it was to observe.
        target: Target,
    },

    /// The path of a probe, or its symbol, has a NUL in it.
    #[error("{probe}: the name has a NUL at byte {position}")]
    ProbeText {
        /// The probe that was asked for.
        probe: String,
        /// Where the NUL is.
        position: usize,
    },

    /// Only uprobes have a `ref_ctr_offset`.
    #[error("{event} is no uprobe: only those have a ref_ctr_offset")]
    NotAUprobe {
        /// The event.
        event: String,
    },

    /// A probe that tasks inherit. The kernel reads its name again for each child, in the memory of the parent, where it is not: each
    /// fork would fail.
    #[error(
        "{event} cannot be inherited: tasks that were observed could not make others; observe them on all CPUs instead"
    )]
    InheritedProbe {
        /// The event.
        event: String,
    },

    /// The file of a probe cannot be used.
    #[error("no probe can be put into {}: {source}", path.display())]
    ProbeFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// The file of a probe is no ELF file that can be read, or its symbol leads to no single function.
    #[error("no probe can be put into {} by the name of a function: {reason}", path.display())]
    ProbeElf {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },

    /// The file of a probe defines no such symbol.
    #[error("{} defines no symbol {symbol:?} (it may be stripped){}", path.display(), question(suggestions))]
    NoSymbol {
        /// The file.
        path: PathBuf,
        /// The symbol that was looked up.
        symbol: String,
        /// Names that are near.
        suggestions: Vec<String>,
    },

    /// The offset of a probe is not in its file.
    #[error(
        "a probe at offset {offset:#x} of {} is beyond its {len} bytes: the offset is one in the file, not an address",
        path.display()
    )]
    ProbeOffset {
        /// The file.
        path: PathBuf,
        /// The offset in bytes that was asked for.
        offset: u64,
        /// The length of the file in bytes.
        len: u64,
    },

    /// There is no perf_event_open (`ENOSYS`).
    #[error(
        "perf_event_open does not exist here (ENOSYS): the kernel was built without CONFIG_PERF_EVENTS, or a seccomp filter hides it"
    )]
    NoPerfEvents,

    /// perf_event_open failed for another reason.
    #[error("cannot open {event} on {target}: {source}")]
    Open {
        /// The event that was asked for.
        event: String,
        /// What it was to observe.
        target: Target,
        /// The kernel's answer.
        source: io::Error,
    },

    /// A ring has 1, 2, 4, 8... data pages.
    #[error(
        "a ring of {pages} pages: the number of data pages must be a power of two, and its bytes fit the address space"
    )]
    Pages {
        /// The number that was asked for.
        pages: usize,
    },

    /// The event was mapped before. Its ring has one reader; a second would free what the first still reads.
    #[error("the event is already mapped: a ring has one consumer, open another event for a second")]
    AlreadyMapped,

    /// The event writes into another event's ring.
    #[error("the event writes into another event's ring: it has none of its own to map, before unset_output")]
    Redirected,

    /// The event to whose ring another is to be redirected has none.
    #[error("the event that records are to be redirected to is not mapped: map it first")]
    OutputNotMapped,

    /// Only events of the same CPU can write into one ring.
    #[error(
        "an event {} cannot write into the ring of one {}: both must be opened on the same CPU",
        on_cpu(cpu),
        on_cpu(output)
    )]
    OutputCpu {
        /// The CPU of the event; `None` follows a task over all.
        cpu: Option<u32>,
        /// The CPU of the event that has the ring.
        output: Option<u32>,
    },

    /// Only events of the same task can write into one ring, if they are not bound to a CPU.
    #[error(
        "an event on {target} cannot write into the ring of one on {output}: bind both to one CPU, or open both on one task"
    )]
    OutputTask {
        /// What the event observes.
        target: Target,
        /// What the event that has the ring observes.
        output: Target,
    },

    /// Only events with the same clock can write into one ring.
    #[error("two events with different clocks cannot write into one ring: give both the same clockid")]
    OutputClock,

    /// Only events that write in the same direction can write into one ring.
    #[error("two events cannot write into one ring when write_backward is set in one of them only")]
    OutputDirection,

    /// There is no ring any longer to redirect records to, or it is another thread's.
    #[error(
        "the event that records are to be redirected to has lost its ring, since the consumer was dropped; or both were opened on the calling thread, by different threads"
    )]
    OutputGone,

    /// Events that follow a task and its children over all CPUs can write into no ring.
    #[error(
        "an event with inherit that follows a task over all CPUs cannot write into another's ring: open one event per CPU (open_task_on_cpus), or do not inherit"
    )]
    OutputInherited,

    /// The request is for events that sample.
    #[error("{request} on {event}: it takes no samples; give it a sample_period or sample_freq")]
    NotSampling {
        /// The request by its uapi name.
        request: &'static str,
        /// The event.
        event: String,
    },

    /// Events that are inherited cannot be refreshed.
    #[error("an event with inherit cannot be refreshed: its children would overflow as well")]
    RefreshInherited,

    /// A refresh is for one overflow at least.
    #[error("cannot refresh for {overflows} overflows: from 1 to 2^31 - 1 are possible")]
    RefreshCount {
        /// The number that was asked for.
        overflows: u32,
    },

    /// A period is at least 1 and below 2^63.
    #[error("a sample_period of {period} is impossible: from 1 to 2^63 - 1 are")]
    Period {
        /// The period that was asked for.
        period: u64,
    },

    /// The filter was refused.
    #[error(
        "{event} does not take the filter {filter:?}: {source}; a tracepoint's filter compares fields that its format lists, and other events take none or address ranges"
    )]
    Filter {
        /// The filter that was asked for.
        filter: String,
        /// The event.
        event: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The event has a filter already (`EEXIST`).
    #[error("{event} has a filter, and the kernel takes one only: open another event for another filter")]
    FilterSet {
        /// The event.
        event: String,
    },

    /// An event cannot be read.
    #[error("cannot read {event}: {source}")]
    ReadEvent {
        /// The event.
        event: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The event has nothing to read any longer: the hardware had no place for it although it is pinned.
    #[error("{event} is in an error state and gives no values: it is pinned, and the hardware had no place for it")]
    ReadEnded {
        /// The event.
        event: String,
    },

    /// What was read has another length than the `read_format` makes.
    #[error("{bytes} bytes were read, which is not what {format:?} gives")]
    ReadLength {
        /// The bytes that were read.
        bytes: usize,
        /// The format.
        format: ReadFormat,
    },

    /// The `read_format` has bits that this crate does not know, so it cannot tell what is what.
    #[error("read_format has unknown bits: {bits:#x}")]
    ReadFormat {
        /// The unknown bits.
        bits: u64,
    },

    /// The read gave the values of a whole group, without ids.
    #[error(
        "{event} reads {events} values of its group: which is its own cannot be told without ID in the read_format"
    )]
    ReadWhich {
        /// The event.
        event: String,
        /// The number of values.
        events: usize,
    },

    /// The event's header page is mapped alone, by a time page that was taken before the ring was mapped.
    #[error(
        "the event's header page is mapped alone, for a time page: map the ring first, or drop the time page before"
    )]
    HeaderMapped,

    /// The event's AUX area was mapped before; it has one reader.
    #[error("the event's AUX area is already mapped: it has one reader")]
    AuxAlreadyMapped,

    /// An AUX area needs the event's ring: its header page says where the area is, and its records what is in it.
    #[error("the event has no ring that an AUX area could go with: mmap comes first, and its consumer must be there")]
    AuxNotMapped,

    /// The header page of a backward ring is read-only, so that it cannot say where an AUX area is to be.
    #[error("an event with write_backward has no AUX area: its ring is mapped read-only")]
    AuxBackward,

    /// The event's PMU has no AUX area (`EOPNOTSUPP`).
    #[error(
        "{event} has no AUX area: only events of an AUX-capable PMU have one (intel_pt, intel_bts, cs_etm, arm_spe...; /sys/bus/event_source/devices lists those of this machine)"
    )]
    NoAux {
        /// The event that was asked.
        event: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// Mapping the AUX area failed for another reason.
    #[error("cannot map {pages} pages of the AUX area of {event}: {source}")]
    MapAux {
        /// The event that was asked.
        event: String,
        /// Pages asked for.
        pages: usize,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The event has no ring to wait for.
    #[error("the event is not mapped: nothing can become ready to be read before mmap")]
    NotMapped,

    /// The kernel gives no ring to an inherited event that follows a task over all CPUs.
    #[error(
        "an event with inherit that follows a task over all CPUs cannot be mapped: open one event per CPU (open_task_on_cpus), or do not inherit"
    )]
    MapInherited,

    /// The ring needs more locked memory than this user may have (`EPERM` from mmap).
    #[error("{}", explain_mlock(*pages, *page_size, *mlock_kb, *memlock))]
    MlockLimit {
        /// Data pages asked for; one header page is added.
        pages: usize,
        /// Bytes in a page.
        page_size: usize,
        /// `/proc/sys/kernel/perf_event_mlock_kb`, in KiB per CPU and user, if it could be read.
        mlock_kb: Option<i64>,
        /// The soft `RLIMIT_MEMLOCK` in bytes, if it could be read; `u64::MAX` is unlimited.
        memlock: Option<u64>,
        /// The kernel's answer.
        source: io::Error,
    },

    /// mmap failed for another reason.
    #[error("cannot map {pages} data pages of an event: {source}")]
    Map {
        /// Data pages asked for.
        pages: usize,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The mapping is no ring that can be read.
    #[error("the kernel's mapping cannot be read as a ring: {0}")]
    Attach(#[source] crate::ring::AttachError),

    /// An ioctl on an open event failed.
    #[error("{request} on {event} failed: {source}")]
    Ioctl {
        /// The request by its uapi name.
        request: &'static str,
        /// The event it was sent to.
        event: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// Waiting for events failed.
    #[error("waiting for events failed: {0}")]
    Poll(#[source] io::Error),

    /// A software event of this name is unknown.
    #[error("there is no software event {name:?}; there are: {}{}", known_software(), question(suggestions))]
    UnknownSoftware {
        /// The name that was looked up.
        name: String,
        /// Names that are near.
        suggestions: Vec<String>,
    },

    /// A hardware event of this name is unknown.
    #[error("there is no hardware event {name:?}{}", question(suggestions))]
    UnknownHardware {
        /// The name that was looked up.
        name: String,
        /// Names that are near.
        suggestions: Vec<String>,
    },

    /// No event of any kind has this name.
    #[error("there is no event {name:?}{}", question(suggestions))]
    UnknownEvent {
        /// The name that was looked up.
        name: String,
        /// Names that are near.
        suggestions: Vec<String>,
    },

    /// The text of an event is not of the form that its beginning promises.
    #[error("cannot understand event {event:?}: expected {expected}")]
    EventSyntax {
        /// The text.
        event: String,
        /// What was expected.
        expected: &'static str,
    },

    /// A modifier of an event is unknown, or repeated too often.
    #[error("unknown modifier {modifier:?} in event {event:?}: there are u, k, h, G, H, I, D, e, and up to three p")]
    UnknownModifier {
        /// The text.
        event: String,
        /// The modifier.
        modifier: char,
    },

    /// The kernel has no PMU of this name.
    #[error("there is no PMU {name:?} in /sys/bus/event_source/devices{}{}", missing_pmu(name), question(suggestions))]
    UnknownPmu {
        /// The name that was looked up.
        name: String,
        /// Names that are near.
        suggestions: Vec<String>,
    },

    /// The PMU has no such term or event.
    #[error("PMU {pmu} has no term or event {term:?}{}", question(suggestions))]
    PmuTerm {
        /// The PMU.
        pmu: String,
        /// The term.
        term: String,
        /// Names that are near.
        suggestions: Vec<String>,
    },

    /// The value of a PMU's term is impossible.
    #[error("{term}={value} of PMU {pmu}: {reason}")]
    PmuValue {
        /// The PMU.
        pmu: String,
        /// The term.
        term: String,
        /// The value.
        value: String,
        /// Why.
        reason: &'static str,
    },

    /// The kernel describes a term in a way that this crate does not know.
    #[error("the format of term {term} of PMU {pmu} is not understood: {format:?}")]
    PmuFormat {
        /// The PMU.
        pmu: String,
        /// The term.
        term: String,
        /// The text of the format.
        format: String,
    },

    /// The name of a tracepoint is not of the form `subsystem:name`.
    #[error("{name:?} does not name a tracepoint: expected subsystem:name, as in sched:sched_switch")]
    TracepointSyntax {
        /// The name that was looked up.
        name: String,
    },

    /// No tracefs, so no tracepoint can be found by name.
    #[error(
        "no tracefs to look up tracepoint {name}: looked for events/ in {}; as root: mount -t tracefs tracefs /sys/kernel/tracing",
        list(looked)
    )]
    NoTracefs {
        /// The tracepoint that was looked up.
        name: String,
        /// The directories where tracefs is expected.
        looked: Vec<PathBuf>,
    },

    /// Tracefs may not be read.
    #[error(
        "not allowed to read {} for tracepoint {name}: tracefs is root's unless it is mounted with a gid and mode for others",
        path.display()
    )]
    TracefsPermission {
        /// The tracepoint that was looked up.
        name: String,
        /// The file or directory that could not be read.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The kernel has no such tracepoint.
    #[error(
        "there is no tracepoint {name}: {} does not exist (its module may not be loaded, or the kernel lacks it){}",
        path.display(),
        question(suggestions)
    )]
    NoTracepoint {
        /// The tracepoint that was looked up.
        name: String,
        /// The file that would have held its id.
        path: PathBuf,
        /// Names that are near.
        suggestions: Vec<String>,
    },

    /// The description of a tracepoint's fields cannot be understood.
    #[error("cannot understand {}: {source}", path.display())]
    TracepointFormat {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FormatError,
    },

    /// A file of the kernel could not be read, or holds what it should not.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// The command could not be started: no process, no pipe, or no such program.
    #[error("cannot run {program:?}: {source}")]
    Command {
        /// The program, as it was given.
        program: String,
        /// Why, as `execve(2)` or `fork(2)` put it.
        source: io::Error,
    },
}

impl Error {
    /// Whether this is the machine's refusal (privileges, limits of the kernel, absent support) rather than a mistake
    /// in the request: a program that can do without the kernel may go on.
    ///
    /// ```
    /// use perfring::kernel::Error;
    /// assert!(Error::NoPerfEvents.is_refusal());
    /// assert!(!Error::Pages { pages: 3 }.is_refusal());
    /// ```
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Error::Permission { .. }
                | Error::UnsupportedEvent { .. }
                | Error::NoDevice { .. }
                | Error::Capability { .. }
                | Error::NoBreakpoint { .. }
                | Error::Busy { .. }
                | Error::NoPerfEvents
                | Error::MlockLimit { .. }
                | Error::NoAux { .. }
                | Error::NoTracefs { .. }
                | Error::TracefsPermission { .. }
        )
    }
}

fn known<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "unreadable".to_owned(), T::to_string)
}

fn on_cpu(cpu: &Option<u32>) -> String {
    cpu.map_or_else(|| "on all CPUs".to_owned(), |cpu| format!("on CPU {cpu}"))
}

fn explain_unsupported(diagnosis: &Diagnosis) -> String {
    match diagnosis {
        Diagnosis::Source => {
            "no PMU of this kernel and machine provides it (virtual machines often have no hardware counters)"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// What makes the kernel have it.
fn missing_pmu(name: &str) -> &'static str {
    match name {
        "uprobe" => " (the kernel was built without CONFIG_UPROBE_EVENTS)",
        "kprobe" => " (the kernel was built without CONFIG_KPROBE_EVENTS)",
        "cpu" => " (virtual machines often have no hardware counters)",
        _ => "",
    }
}

fn explain_attr_size(size: u32, known: u32, fields: &[&str]) -> String {
    let fields = fields.join(", ");
    if size < PERF_ATTR_SIZE_VER0 {
        format!("a perf_event_attr of {size} bytes is none: it has {PERF_ATTR_SIZE_VER0} at least")
    } else if size == known {
        format!("a perf_event_attr of {size} bytes leaves out what is set in {fields}")
    } else {
        format!(
            "perf_event_attr has {size} bytes with fields set that are unknown beyond byte {known}{}{fields}",
            if fields.is_empty() { "" } else { ": a newer kernel is needed for " },
        )
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" and ")
}

fn known_software() -> String {
    let names: Vec<_> = crate::kernel::Software::ALL.iter().map(|event| event.name()).collect();
    names.join(", ")
}

fn explain_permission(event: &str, target: &Target, paranoid: Option<i64>, allowed_at: i64) -> String {
    let mut text = format!("not allowed to open {event} on {target}: ");
    // Writing to a String cannot fail.
    let _ = match paranoid {
        Some(now) if now > allowed_at => write!(
            text,
            "/proc/sys/kernel/perf_event_paranoid is {now}; {allowed_at} or less, or CAP_PERFMON, would allow it{}",
            match allowed_at {
                1 => " (with exclude_kernel and exclude_hv, 2 is enough)",
                _ => "",
            }
        ),
        Some(now) => write!(
            text,
            "/proc/sys/kernel/perf_event_paranoid is {now}, which would allow it; the task may belong to another user \
             (CAP_PERFMON would help), or a seccomp filter, a security module or kernel lockdown forbids it"
        ),
        None => write!(
            text,
            "/proc/sys/kernel/perf_event_paranoid cannot be read; {allowed_at} or less, or CAP_PERFMON, would allow it"
        ),
    };
    text
}

fn explain_mlock(pages: usize, page_size: usize, mlock_kb: Option<i64>, memlock: Option<u64>) -> String {
    let kib = (pages as u128 + 1) * page_size as u128 / 1024;
    let memlock = match memlock {
        Some(u64::MAX) => "unlimited".to_owned(),
        Some(bytes) => format!("{} KiB", bytes / 1024),
        None => "unreadable".to_owned(),
    };
    format!(
        "not allowed to lock {kib} KiB for a ring of {pages} pages of {page_size} bytes and its header page: a user's rings may \
         take /proc/sys/kernel/perf_event_mlock_kb ({} KiB) times the CPUs, and beyond that RLIMIT_MEMLOCK ({memlock}); \
         ask for fewer pages, raise one of them, or run with CAP_IPC_LOCK",
        known(&mlock_kb)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(paranoid: Option<i64>, allowed_at: i64) -> String {
        Error::Permission {
            event: "software event page_faults".to_owned(),
            target: Target::CallingThread,
            paranoid,
            allowed_at,
            source: io::Error::from_raw_os_error(libc::EACCES),
        }
        .to_string()
    }

    #[test]
    fn permission_names_the_value_that_would_do() {
        let text = permission(Some(3), 1);
        assert!(text.contains("perf_event_paranoid is 3; 1 or less, or CAP_PERFMON"), "{text}");
        assert!(text.contains("exclude_kernel"), "{text}");
        assert!(!permission(Some(3), 0).contains("exclude_kernel"));
    }

    #[test]
    fn permission_does_not_blame_a_paranoid_that_allows_it() {
        let text = permission(Some(-1), 2);
        assert!(text.contains("seccomp") && text.contains("is -1, which would allow it"), "{text}");
        assert!(permission(None, 2).contains("cannot be read"));
    }

    #[test]
    fn mlock_names_both_limits_and_the_pages() {
        let text = Error::MlockLimit {
            pages: 1024,
            page_size: 4096,
            mlock_kb: Some(516),
            memlock: Some(65536),
            source: io::Error::from_raw_os_error(libc::EPERM),
        }
        .to_string();
        assert!(text.contains("4100 KiB") && text.contains("1024 pages"), "{text}");
        assert!(text.contains("516 KiB") && text.contains("64 KiB") && text.contains("CAP_IPC_LOCK"), "{text}");
        assert!(explain_mlock(usize::MAX, 65536, None, Some(u64::MAX)).contains("unlimited"));
    }
}
