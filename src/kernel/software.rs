//! Software events by name.

use std::str::FromStr;

use perf_event_open_sys::bindings;

use crate::kernel::{Error, suggest};

/// Events that the kernel itself provides, on every machine (`PERF_TYPE_SOFTWARE`).
///
/// From a string: the name in lower case, with `_` or `-`, or one of the names that perf(1) gives it.
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

    /// The names that perf(1) knows, the first being the one that it prints.
    pub(super) const fn perf_names(self) -> &'static [&'static str] {
        match self {
            Self::CpuClock => &["cpu-clock"],
            Self::TaskClock => &["task-clock"],
            Self::PageFaults => &["page-faults", "faults"],
            Self::ContextSwitches => &["context-switches", "cs"],
            Self::CpuMigrations => &["cpu-migrations", "migrations"],
            Self::PageFaultsMin => &["minor-faults"],
            Self::PageFaultsMaj => &["major-faults"],
            Self::AlignmentFaults => &["alignment-faults"],
            Self::EmulationFaults => &["emulation-faults"],
            Self::Dummy => &["dummy"],
            Self::BpfOutput => &["bpf-output"],
            Self::CgroupSwitches => &["cgroup-switches"],
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        let uapi = name.replace('-', "_");
        Self::ALL.into_iter().find(|event| event.name() == uapi || event.perf_names().contains(&name))
    }
}

impl FromStr for Software {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::by_name(name).ok_or_else(|| Error::UnknownSoftware {
            name: name.to_owned(),
            suggestions: suggest::near(name, Self::ALL.iter().flat_map(|event| event.perf_names()).copied()),
        })
    }
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
}
