//! Events of the caches.

use perf_event_open_sys::bindings;

/// A cache (`PERF_COUNT_HW_CACHE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheId {
    /// The data cache of the first level.
    L1d,
    /// The instruction cache of the first level.
    L1i,
    /// The last level.
    Ll,
    /// The translations of data addresses.
    Dtlb,
    /// The translations of instruction addresses.
    Itlb,
    /// The branch predictor.
    Bpu,
    /// The memory of the node.
    Node,
}

/// What is done to a [cache](CacheId) (`PERF_COUNT_HW_CACHE_OP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheOp {
    /// Loads.
    Read,
    /// Stores.
    Write,
    /// Prefetches.
    Prefetch,
}

/// Which of the accesses of a [cache](CacheId) count (`PERF_COUNT_HW_CACHE_RESULT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheResult {
    /// All of them.
    Access,
    /// Those that found nothing.
    Miss,
}

impl CacheId {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 7] = [Self::L1d, Self::L1i, Self::Ll, Self::Dtlb, Self::Itlb, Self::Bpu, Self::Node];

    /// The uapi name without `PERF_COUNT_HW_CACHE_`, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1d => "l1d",
            Self::L1i => "l1i",
            Self::Ll => "ll",
            Self::Dtlb => "dtlb",
            Self::Itlb => "itlb",
            Self::Bpu => "bpu",
            Self::Node => "node",
        }
    }

    /// The `PERF_COUNT_HW_CACHE_*` value.
    pub const fn id(self) -> u64 {
        let id = match self {
            Self::L1d => bindings::PERF_COUNT_HW_CACHE_L1D,
            Self::L1i => bindings::PERF_COUNT_HW_CACHE_L1I,
            Self::Ll => bindings::PERF_COUNT_HW_CACHE_LL,
            Self::Dtlb => bindings::PERF_COUNT_HW_CACHE_DTLB,
            Self::Itlb => bindings::PERF_COUNT_HW_CACHE_ITLB,
            Self::Bpu => bindings::PERF_COUNT_HW_CACHE_BPU,
            Self::Node => bindings::PERF_COUNT_HW_CACHE_NODE,
        };
        id as u64
    }

    /// The names that perf(1) knows, the first being the one that it prints.
    const fn perf_names(self) -> &'static [&'static str] {
        match self {
            Self::L1d => &["L1-dcache", "l1-d", "l1d"],
            Self::L1i => &["L1-icache", "l1-i", "l1i"],
            Self::Ll => &["LLC", "L2", "ll"],
            Self::Dtlb => &["dTLB", "d-tlb"],
            Self::Itlb => &["iTLB", "i-tlb"],
            Self::Bpu => &["branch", "bpu"],
            Self::Node => &["node"],
        }
    }
}

impl CacheOp {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Prefetch];

    /// The uapi name without `PERF_COUNT_HW_CACHE_OP_`, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Prefetch => "prefetch",
        }
    }

    /// The `PERF_COUNT_HW_CACHE_OP_*` value.
    pub const fn id(self) -> u64 {
        let id = match self {
            Self::Read => bindings::PERF_COUNT_HW_CACHE_OP_READ,
            Self::Write => bindings::PERF_COUNT_HW_CACHE_OP_WRITE,
            Self::Prefetch => bindings::PERF_COUNT_HW_CACHE_OP_PREFETCH,
        };
        id as u64
    }

    /// The names that perf(1) knows: for accesses, for misses, and others.
    const fn perf_names(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["loads", "load", "read"],
            Self::Write => &["stores", "store", "write"],
            Self::Prefetch => &["prefetches", "prefetch"],
        }
    }
}

impl CacheResult {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 2] = [Self::Access, Self::Miss];

    /// The uapi name without `PERF_COUNT_HW_CACHE_RESULT_`, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Miss => "miss",
        }
    }

    /// The `PERF_COUNT_HW_CACHE_RESULT_*` value.
    pub const fn id(self) -> u64 {
        let id = match self {
            Self::Access => bindings::PERF_COUNT_HW_CACHE_RESULT_ACCESS,
            Self::Miss => bindings::PERF_COUNT_HW_CACHE_RESULT_MISS,
        };
        id as u64
    }

    const fn perf_names(self) -> &'static [&'static str] {
        match self {
            Self::Access => &["refs", "access"],
            Self::Miss => &["misses", "miss"],
        }
    }
}

/// The `config` of a `PERF_TYPE_HW_CACHE` event: the cache, and in the next bytes the operation and its result.
pub(super) const fn config(cache: CacheId, op: CacheOp, result: CacheResult) -> u64 {
    cache.id() | op.id() << 8 | result.id() << 16
}

/// `L1-dcache-load-misses` and the like. Without an operation it is loads, without a result, accesses.
pub(super) fn by_name(name: &str) -> Option<(CacheId, CacheOp, CacheResult)> {
    let strip = |text: &str, prefix: &str| -> Option<String> {
        let rest = text.get(prefix.len()..)?;
        (text.get(..prefix.len())?.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('-')))
            .then(|| rest.trim_start_matches('-').to_owned())
    };
    let mut found = CacheId::ALL
        .into_iter()
        .flat_map(|cache| cache.perf_names().iter().filter_map(move |prefix| Some((cache, strip(name, prefix)?))));
    let (cache, rest) = found.next()?;
    if rest.is_empty() {
        return None;
    }
    let words = |names: &[&str], word: &str| names.iter().any(|name| name.eq_ignore_ascii_case(word));
    let op = |word: &str| CacheOp::ALL.into_iter().find(|op| words(op.perf_names(), word));
    let result = |word: &str| CacheResult::ALL.into_iter().find(|result| words(result.perf_names(), word));
    match rest.split_once('-') {
        Some((first, second)) => Some((cache, op(first)?, result(second)?)),
        None => match (op(&rest), result(&rest)) {
            (Some(op), _) => Some((cache, op, CacheResult::Access)),
            (None, Some(result)) => Some((cache, CacheOp::Read, result)),
            (None, None) => None,
        },
    }
}

/// The names that perf(1) prints, for suggestions.
pub(super) fn names() -> impl Iterator<Item = String> {
    CacheId::ALL.into_iter().flat_map(|cache| {
        CacheOp::ALL.into_iter().flat_map(move |op| {
            let (cache, op) = (cache.perf_names()[0], op.perf_names());
            [format!("{cache}-{}", op[0]), format!("{cache}-{}-misses", op[1])]
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_configs() {
        let config = |name: &str| by_name(name).map(|(cache, op, result)| config(cache, op, result));
        assert_eq!(config("L1-dcache-loads"), Some(0));
        assert_eq!(config("L1-dcache-load-misses"), Some(0x1_0000));
        assert_eq!(config("LLC-store-misses"), Some(0x1_0102));
        assert_eq!(config("l1d-misses"), Some(0x1_0000));
        assert_eq!(config("node-prefetches"), Some(0x206));
        for wrong in ["L1-dcache", "L1-dcache-", "L1-dcacheloads", "L3-loads", "LLC-loads-", "LLC-foo-misses", "é"] {
            assert_eq!(config(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_name_that_is_suggested_is_known() {
        let names: Vec<_> = names().collect();
        assert_eq!(names.len(), 42);
        let mut configs: Vec<_> = names
            .iter()
            .map(|name| by_name(name).map(|(cache, op, result)| config(cache, op, result)).expect(name))
            .collect();
        configs.sort_unstable();
        configs.dedup();
        assert_eq!(configs.len(), 42);
    }
}
