//! Features as text.

use super::{
    BpfProgInfo, Cache, ClockData, Compressed, CpuDomainInfo, CpuPlace, CpuTopology, Feature, MemTopology, PmuCap,
    SampleTime,
};
use crate::record::Text;
use std::fmt::{self, Display, Write as _};

/// Text of a recording, without what would control a terminal.
struct Shown<'a>(Text<'a>);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in String::from_utf8_lossy(self.0.as_bytes()).chars() {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// What stands between items, each but the first.
fn join<T>(
    f: &mut fmt::Formatter<'_>,
    between: &str,
    items: impl IntoIterator<Item = T>,
    mut show: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        show(f, item)?;
    }
    Ok(())
}

/// A line of its own for each item.
fn lines<T>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    items: impl IntoIterator<Item = T>,
    mut show: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    let mut none = true;
    write!(f, "{title}:")?;
    for item in items {
        none = false;
        f.write_str("\n  ")?;
        show(f, item)?;
    }
    if none { f.write_str(" none") } else { Ok(()) }
}

fn caps(f: &mut fmt::Formatter<'_>, caps: &[PmuCap<'_>]) -> fmt::Result {
    if caps.is_empty() {
        return f.write_str("none");
    }
    join(f, ", ", caps, |f, cap| write!(f, "{}={}", Shown(cap.name), Shown(cap.value)))
}

/// Nanoseconds in seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09} s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// One line, or a title and a line for each item; no newline behind the last one. What could control a terminal is escaped.
impl Display for Feature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TracingData(bytes) => write!(f, "tracepoint formats: {} bytes", bytes.len()),
            Self::BuildId(entries) => lines(f, "build ids", entries, |f, entry| {
                entry.build_id.build_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                write!(f, " {}", Shown(entry.build_id.filename))
            }),
            Self::Hostname(text) => write!(f, "host name: {}", Shown(*text)),
            Self::OsRelease(text) => write!(f, "kernel release: {}", Shown(*text)),
            Self::Version(text) => write!(f, "recorder version: {}", Shown(*text)),
            Self::Arch(text) => write!(f, "architecture: {}", Shown(*text)),
            Self::NrCpus(cpus) => write!(f, "CPUs: {} online, {} available", cpus.online, cpus.available),
            Self::CpuDesc(text) => write!(f, "CPU: {}", Shown(*text)),
            Self::CpuId(text) => write!(f, "CPU id: {}", Shown(*text)),
            Self::TotalMem(kib) => write!(f, "memory: {kib} KiB"),
            Self::Cmdline(args) => {
                f.write_str("command line:")?;
                args.iter().try_for_each(|arg| write!(f, " {}", Shown(*arg)))
            }
            Self::EventDesc(events) => lines(f, "events", events, |f, event| {
                let attr = &event.attr;
                write!(f, "{}: type {}, config {:#x}, ids ", Shown(event.name), attr.type_, attr.config)?;
                join(f, " ", event.ids, |f, id| write!(f, "{id}"))
            }),
            Self::CpuTopology(topology) => topology.fmt(f),
            Self::NumaTopology(nodes) => lines(f, "memory nodes", nodes, |f, node| {
                let cpus = Shown(node.cpus);
                write!(f, "{}: {} KiB, {} KiB free, CPUs {cpus}", node.nodenr, node.mem_total, node.mem_free)
            }),
            Self::BranchStack => f.write_str("samples have branch stacks"),
            Self::PmuMappings(pmus) => {
                f.write_str("PMUs: ")?;
                join(f, ", ", pmus, |f, pmu| write!(f, "{} = {}", Shown(pmu.name), pmu.type_))
            }
            Self::GroupDesc(groups) => lines(f, "groups", groups, |f, group| {
                let name = Shown(group.name);
                write!(f, "{name}: {} events, of which {} leads", group.nr_members, group.leader_idx)
            }),
            Self::Auxtrace(entries) => {
                lines(f, "AUX data", entries, |f, entry| write!(f, "{} bytes at {:#x}", entry.sz, entry.file_offset))
            }
            Self::Stat => f.write_str("a recording of counters"),
            Self::Cache(caches) => lines(f, "caches", caches, |f, cache| cache.fmt(f)),
            Self::SampleTime(SampleTime { first, last }) => {
                write!(f, "samples: from {} to {}", Seconds(*first), Seconds(*last))
            }
            Self::MemTopology(topology) => topology.fmt(f),
            Self::ClockId(resolution) => write!(f, "clock resolution: {resolution} ns"),
            Self::DirFormat(version) => write!(f, "directory: version {version}"),
            Self::BpfProgInfo(programs) => lines(f, "BPF programs", programs, |f, program| program.fmt(f)),
            Self::BpfBtf(types) => {
                lines(f, "BPF types", types, |f, types| write!(f, "id {}: {} bytes", types.id, types.data.len()))
            }
            Self::Compressed(Compressed { type_, level, ratio, mmap_len, .. }) => {
                match type_ {
                    1 => f.write_str("compression: zstd")?,
                    other => write!(f, "compression: type {other}")?,
                }
                write!(f, ", level {level}, ratio {ratio}, at most {mmap_len} bytes at once")
            }
            Self::CpuPmuCaps(list) => {
                f.write_str("abilities of the PMU cpu: ")?;
                caps(f, list)
            }
            Self::ClockData(clock) => clock.fmt(f),
            Self::HybridTopology(pmus) => {
                lines(f, "kinds of CPUs", pmus, |f, pmu| write!(f, "{}: CPUs {}", Shown(pmu.name), Shown(pmu.cpus)))
            }
            Self::PmuCaps(pmus) => lines(f, "abilities of PMUs", pmus, |f, pmu| {
                write!(f, "{}: ", Shown(pmu.pmu_name))?;
                caps(f, &pmu.caps)
            }),
            Self::CpuDomainInfo(info) => info.fmt(f),
            Self::EMachine(machine) => {
                write!(f, "ELF machine: {}, flags {:#x}", machine.e_machine, machine.e_flags)
            }
            Self::ClnSize(bytes) => write!(f, "cache line: {bytes} bytes"),
            Self::Unknown { id, bytes } => write!(f, "feature {id}: {} bytes", bytes.len()),
        }
    }
}

impl Display for CpuTopology<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CPU topology:")?;
        for (what, lists) in [("sockets", &self.sockets), ("dies", &self.dies), ("cores", &self.threads)] {
            if !lists.is_empty() {
                write!(f, "\n  {what}: CPUs ")?;
                join(f, "; ", lists, |f, list| write!(f, "{}", Shown(*list)))?;
            }
        }
        for (cpu, CpuPlace { core_id, socket_id, die_id }) in self.cpus.iter().enumerate() {
            write!(f, "\n  CPU {cpu}: core {core_id}")?;
            if let Some(die) = die_id {
                write!(f, ", die {die}")?;
            }
            write!(f, ", socket {socket_id}")?;
        }
        Ok(())
    }
}

impl Display for Cache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [type_, size, map] = [self.type_, self.size, self.map].map(Shown);
        write!(f, "L{} {type_}: {size}, {} ways, lines of {} bytes, ", self.level, self.ways, self.line_size)?;
        write!(f, "CPUs {map}")
    }
}

impl Display for MemTopology<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("memory blocks of {} MiB", self.block_size >> 20);
        lines(f, &title, &self.nodes, |f, node| {
            let mib = (u128::from(node.count()) * u128::from(self.block_size)) >> 20;
            write!(f, "node {}: {mib} MiB, blocks ", node.node)?;
            join(f, ",", node.ranges(), |f, range| match (range.start(), range.end()) {
                (start, end) if start == end => write!(f, "{start}"),
                (start, end) => write!(f, "{start}-{end}"),
            })
        })
    }
}

impl Display for BpfProgInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.id(), self.type_(), self.tag()) {
            (Some(id), Some(type_), Some(tag)) => {
                write!(f, "id {id}: type {type_}, tag {:016x}", u64::from_be_bytes(tag))?;
            }
            _ => write!(f, "{} bytes", self.info.len())?,
        }
        match self.name() {
            Some(name) => write!(f, ", name {}", Shown(name)),
            None => Ok(()),
        }
    }
}

impl Display for ClockData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.clockid {
            0 => f.write_str("clock realtime")?,
            1 => f.write_str("clock monotonic")?,
            4 => f.write_str("clock monotonic_raw")?,
            7 => f.write_str("clock boottime")?,
            11 => f.write_str("clock tai")?,
            other => write!(f, "clock {other}")?,
        }
        let [clock, wall] = [self.clockid_time_ns, self.wall_clock_ns].map(Seconds);
        write!(f, ": showed {clock} at {wall} since 1970")
    }
}

impl Display for CpuDomainInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines(f, "scheduler domains", &self.cpus, |f, cpu| {
            write!(f, "CPU {}: ", cpu.cpu)?;
            join(f, "; ", &cpu.domains, |f, domain| {
                write!(f, "{}", domain.domain)?;
                if let Some(name) = domain.dname {
                    write!(f, " {}", Shown(name))?;
                }
                write!(f, " CPUs {}", Shown(domain.cpulist))
            })
        })
    }
}
