//! Hardware events by name.

use std::str::FromStr;

use perf_event_open_sys::bindings;

use crate::kernel::{Error, suggest};

/// Events of the CPU that most machines have under some name (`PERF_TYPE_HARDWARE`); virtual machines often have none.
///
/// From a string: the name in lower case, with `_` or `-`, or one of the names that perf(1) gives it.
///
/// ```
/// use perfring::kernel::Hardware;
/// assert_eq!("cycles".parse::<Hardware>().unwrap(), Hardware::CpuCycles);
/// assert_eq!(Hardware::CpuCycles.name(), "cpu_cycles");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hardware {
    /// Cycles of the CPU, at whatever frequency it runs.
    CpuCycles,
    /// Instructions that retired.
    Instructions,
    /// Accesses of a cache, usually of the last level.
    CacheReferences,
    /// Misses of a cache, usually of the last level.
    CacheMisses,
    /// Branch instructions that retired.
    BranchInstructions,
    /// Branches that were predicted wrongly.
    BranchMisses,
    /// Cycles of the bus.
    BusCycles,
    /// Cycles in which nothing was issued.
    StalledCyclesFrontend,
    /// Cycles in which nothing retired.
    StalledCyclesBackend,
    /// Cycles at a frequency that does not change.
    RefCpuCycles,
}

impl Hardware {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 10] = [
        Self::CpuCycles,
        Self::Instructions,
        Self::CacheReferences,
        Self::CacheMisses,
        Self::BranchInstructions,
        Self::BranchMisses,
        Self::BusCycles,
        Self::StalledCyclesFrontend,
        Self::StalledCyclesBackend,
        Self::RefCpuCycles,
    ];

    /// The uapi name without `PERF_COUNT_HW_`, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CpuCycles => "cpu_cycles",
            Self::Instructions => "instructions",
            Self::CacheReferences => "cache_references",
            Self::CacheMisses => "cache_misses",
            Self::BranchInstructions => "branch_instructions",
            Self::BranchMisses => "branch_misses",
            Self::BusCycles => "bus_cycles",
            Self::StalledCyclesFrontend => "stalled_cycles_frontend",
            Self::StalledCyclesBackend => "stalled_cycles_backend",
            Self::RefCpuCycles => "ref_cpu_cycles",
        }
    }

    /// The `config` of the event: its `PERF_COUNT_HW_*` value.
    pub const fn config(self) -> u64 {
        let id = match self {
            Self::CpuCycles => bindings::PERF_COUNT_HW_CPU_CYCLES,
            Self::Instructions => bindings::PERF_COUNT_HW_INSTRUCTIONS,
            Self::CacheReferences => bindings::PERF_COUNT_HW_CACHE_REFERENCES,
            Self::CacheMisses => bindings::PERF_COUNT_HW_CACHE_MISSES,
            Self::BranchInstructions => bindings::PERF_COUNT_HW_BRANCH_INSTRUCTIONS,
            Self::BranchMisses => bindings::PERF_COUNT_HW_BRANCH_MISSES,
            Self::BusCycles => bindings::PERF_COUNT_HW_BUS_CYCLES,
            Self::StalledCyclesFrontend => bindings::PERF_COUNT_HW_STALLED_CYCLES_FRONTEND,
            Self::StalledCyclesBackend => bindings::PERF_COUNT_HW_STALLED_CYCLES_BACKEND,
            Self::RefCpuCycles => bindings::PERF_COUNT_HW_REF_CPU_CYCLES,
        };
        id as u64
    }

    /// The names that perf(1) knows, the first being the one that it prints.
    pub(super) const fn perf_names(self) -> &'static [&'static str] {
        match self {
            Self::CpuCycles => &["cycles", "cpu-cycles"],
            Self::Instructions => &["instructions"],
            Self::CacheReferences => &["cache-references"],
            Self::CacheMisses => &["cache-misses"],
            Self::BranchInstructions => &["branches", "branch-instructions"],
            Self::BranchMisses => &["branch-misses"],
            Self::BusCycles => &["bus-cycles"],
            Self::StalledCyclesFrontend => &["stalled-cycles-frontend", "idle-cycles-frontend"],
            Self::StalledCyclesBackend => &["stalled-cycles-backend", "idle-cycles-backend"],
            Self::RefCpuCycles => &["ref-cycles"],
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        let uapi = name.replace('-', "_");
        Self::ALL.into_iter().find(|event| event.name() == uapi || event.perf_names().contains(&name))
    }
}

impl FromStr for Hardware {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::by_name(name).ok_or_else(|| Error::UnknownHardware {
            name: name.to_owned(),
            suggestions: suggest::near(name, Self::ALL.iter().flat_map(|event| event.perf_names()).copied()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (id, event) in Hardware::ALL.into_iter().enumerate() {
            assert_eq!(event.config(), id as u64);
            assert_eq!(event.name().parse::<Hardware>().unwrap(), event);
            for name in event.perf_names() {
                assert_eq!(name.parse::<Hardware>().unwrap(), event);
            }
        }
        let error = "cylces".parse::<Hardware>().unwrap_err();
        assert!(error.to_string().contains("did you mean cycles"), "{error}");
    }
}
