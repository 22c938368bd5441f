//! CPUs: how many, where they sit, what they share.

use super::items::{Item, get_list, get_version, items, put_count};
use super::{FeatureError, read};
use crate::record::bytes::{Cursor, Writer};
use crate::record::{ByteOrder, Defect, DefectKind, EncodeError, Text};
use crate::replay::perf_data::FeatureId;

items! {
    /// How many CPUs there are.
    pub struct NrCpus {
        /// CPUs that can be online. In the file it comes first.
        pub available: u32,
        /// CPUs that are online.
        pub online: u32,
    }

    /// CPUs of one kind, of a machine with several.
    pub struct HybridPmu<'a> {
        /// The PMU of these CPUs, such as `cpu_core`.
        pub name: Text<'a>,
        /// The CPUs, as a list such as `0-3,8`.
        pub cpus: Text<'a>,
    }

    /// The machine that programs are compiled for, as ELF has it.
    pub struct EMachine {
        /// `e_machine` (`EM_*`).
        pub e_machine: u32,
        /// `e_flags`.
        pub e_flags: u32,
    }

    /// A cache, which CPUs may share: `/sys/devices/system/cpu/cpu*/cache/index*`.
    pub struct Cache<'a> {
        /// 1 is nearest to the CPU.
        pub level: u32,
        /// Bytes in a line.
        pub line_size: u32,
        /// Sets of lines.
        pub sets: u32,
        /// Lines in a set.
        pub ways: u32,
        /// `Data`, `Instruction` or `Unified`.
        pub type_: Text<'a>,
        /// How large it is, as text with a unit, such as `32K`.
        pub size: Text<'a>,
        /// The CPUs that share it, as a list.
        pub map: Text<'a>,
    }
}

/// The version of the layout, the caches.
pub(super) fn get_caches<'a>(from: &mut Cursor<'a>) -> Result<Vec<Cache<'a>>, Defect> {
    get_version::<u32>(from, 1)?;
    Item::get(from, "cache")
}

pub(super) fn put_caches(caches: &Vec<Cache<'_>>, to: &mut Writer<'_>) -> Result<(), EncodeError> {
    to.int(1_u32);
    caches.put(to, "cache")
}

/// Which CPUs share a core, a die, a socket.
///
/// Three versions of perf write this, each with more behind what the one before wrote; how many CPUs there are is told in
/// another section ([`NrCpus::available`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTopology<'a> {
    /// For each socket its CPUs, as a list such as `0-3`.
    pub sockets: Vec<Text<'a>>,
    /// For each core its CPUs.
    pub threads: Vec<Text<'a>>,
    /// Where each CPU is, by its number. An old perf does not say.
    pub cpus: Vec<CpuPlace>,
    /// For each die its CPUs. An old perf, or one on a machine that does not know of dies, does not say.
    pub dies: Vec<Text<'a>>,
}

/// Where a CPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuPlace {
    /// Its core, by a number that is its own within the socket, or the die; -1 if it is not known, as of CPUs that are offline.
    pub core_id: i32,
    /// Its socket; -1 if it is not known.
    pub socket_id: i32,
    /// Its die, within the socket. All CPUs have it, or none.
    pub die_id: Option<i32>,
}

impl<'a> CpuTopology<'a> {
    /// Decodes the section of a recording of a machine with so many CPUs available. Bytes behind the last field are ignored.
    ///
    /// [`Feature::decode`](super::Feature::decode), which does not know the number, finds that with which the section ends
    /// where its fields do.
    ///
    /// # Errors
    ///
    /// [`FeatureError`]
    pub fn decode(section: &'a [u8], order: ByteOrder, cpus: u32) -> Result<Self, FeatureError> {
        read(FeatureId::CPU_TOPOLOGY, section, order, |from| Self::get(from, Some(cpus)))
    }

    pub(super) fn get(from: &mut Cursor<'a>, cpus: Option<u32>) -> Result<Self, Defect> {
        let (sockets, threads) = (Item::get(from, "cores")?, Item::get(from, "threads")?);
        let mut topology = Self { sockets, threads, ..Self::default() };
        if from.rest().is_empty() {
            return Ok(topology);
        }
        let cpus = match cpus {
            Some(cpus) => u64::from(cpus),
            None => Self::find_cpus(*from).unwrap_or(from.rest().len().div_ceil(Self::PLACE) as u64),
        };
        let places: Vec<Place> = get_list(from, cpus, "cpus")?;
        if from.rest().is_empty() {
            let place = |Place { core_id, socket_id }| CpuPlace { core_id, socket_id, die_id: None };
            topology.cpus = places.into_iter().map(place).collect();
            return Ok(topology);
        }
        topology.dies = Item::get(from, "dies")?;
        let die_ids: Vec<i32> = get_list(from, cpus, "die_id")?;
        let place = |(Place { core_id, socket_id }, die_id)| CpuPlace { core_id, socket_id, die_id: Some(die_id) };
        topology.cpus = places.into_iter().zip(die_ids).map(place).collect();
        Ok(topology)
    }

    /// Bytes of the numbers of a core and a socket.
    const PLACE: usize = 8;
    /// The most CPUs that are looked for: the most that Linux is built for. It is also less than two characters of a list are
    /// as a count, so that no section makes the search long.
    const MAX_CPUS: usize = 8192;

    /// The number of CPUs with which `from` are their cores and sockets, the dies, and just as many numbers of dies. Numbers of
    /// cores and sockets are not taken for dies, which are lists of CPUs in words, and no more than there are CPUs.
    fn find_cpus(from: Cursor<'a>) -> Option<u64> {
        let is_list = |list: &[u8]| {
            let digits = list.iter().position(|&byte| byte == 0).unwrap_or(0);
            let (list, zeros) = list.split_at(digits);
            !list.is_empty()
                && list.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b','))
                && zeros.iter().all(|&byte| byte == 0)
        };
        let fits = |cpus: &usize| {
            let mut from = from;
            let mut dies = || {
                from.take((cpus * Self::PLACE) as u64, "").ok()?;
                let dies: u32 = from.int("").ok()?;
                if dies == 0 || dies as usize > *cpus {
                    return None;
                }
                for _ in 0..dies {
                    <&[u8]>::get(&mut from, "").ok().filter(|list| is_list(list))?;
                }
                Some(from.rest().len())
            };
            dies() == Some(cpus * 4)
        };
        let most = (from.rest().len() / (Self::PLACE + 4)).min(Self::MAX_CPUS);
        (1..=most).find(fits).map(|cpus| cpus as u64)
    }

    pub(super) fn put(&self, to: &mut Writer<'_>) -> Result<(), EncodeError> {
        self.sockets.put(to, "cores")?;
        self.threads.put(to, "threads")?;
        let with_die = self.cpus.iter().filter(|cpu| cpu.die_id.is_some()).count();
        if with_die != if self.dies.is_empty() { 0 } else { self.cpus.len() } || with_die == 0 && !self.dies.is_empty()
        {
            return Err(EncodeError::Shape {
                field: "die_id",
                what: "dies and the numbers of all CPUs' dies belong together",
            });
        }
        for cpu in &self.cpus {
            to.int(cpu.core_id);
            to.int(cpu.socket_id);
        }
        if !self.dies.is_empty() {
            self.dies.put(to, "dies")?;
            self.cpus.iter().filter_map(|cpu| cpu.die_id).for_each(|die| to.int(die));
        }
        Ok(())
    }
}

items! {
    /// As it stands in the section.
    pub struct Place {
        /// The core.
        pub core_id: i32,
        /// The socket.
        pub socket_id: i32,
    }
}

/// The domains among which the scheduler balances, by CPU: those of `/proc/schedstat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuDomainInfo<'a> {
    /// The version of `/proc/schedstat`. Domains have names from 17 on.
    pub schedstat_version: u32,
    /// The most domains of a CPU.
    pub max_sched_domains: u32,
    /// The CPUs that have domains.
    pub cpus: Vec<CpuDomains<'a>>,
}

/// The scheduler's domains of a CPU, from the smallest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuDomains<'a> {
    /// The CPU.
    pub cpu: u32,
    /// Its domains.
    pub domains: Vec<CpuDomain<'a>>,
}

/// A domain of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuDomain<'a> {
    /// Its number.
    pub domain: u32,
    /// Its name, such as `MC`.
    pub dname: Option<Text<'a>>,
    /// Its CPUs, as a mask in hexadecimal.
    pub cpumask: Text<'a>,
    /// Its CPUs, as a list.
    pub cpulist: Text<'a>,
}

impl<'a> CpuDomainInfo<'a> {
    /// The version of `/proc/schedstat` that names domains.
    const NAMES: u32 = 17;

    pub(super) fn get(from: &mut Cursor<'a>) -> Result<Self, Defect> {
        let [schedstat_version, max_sched_domains] = [from.int("schedstat_version")?, from.int("max_sched_domains")?];
        let mut cpus = Vec::new();
        while !from.rest().is_empty() {
            let [cpu, count]: [u32; 2] = [from.int("cpu")?, from.int("nr_domains")?];
            let mut domains = Vec::new();
            let needed = u64::from(count) * 12;
            let left = from.rest().len();
            if needed > left as u64 {
                return Err(from.defect("domains", DefectKind::Truncated { needed, left }));
            }
            for _ in 0..count {
                domains.push(CpuDomain {
                    domain: from.int("domain")?,
                    dname: match schedstat_version {
                        Self::NAMES.. => Some(Item::get(from, "dname")?),
                        _ => None,
                    },
                    cpumask: Item::get(from, "cpumask")?,
                    cpulist: Item::get(from, "cpulist")?,
                });
            }
            cpus.push(CpuDomains { cpu, domains });
        }
        Ok(Self { schedstat_version, max_sched_domains, cpus })
    }

    pub(super) fn put(&self, to: &mut Writer<'_>) -> Result<(), EncodeError> {
        to.int(self.schedstat_version);
        to.int(self.max_sched_domains);
        for CpuDomains { cpu, domains } in &self.cpus {
            to.int(*cpu);
            put_count(to, domains.len(), "nr_domains")?;
            for domain in domains {
                to.int(domain.domain);
                match (domain.dname, self.schedstat_version) {
                    (Some(dname), Self::NAMES..) => dname.put(to, "dname")?,
                    (None, Self::NAMES..) => return Err(EncodeError::Missing { field: "dname" }),
                    (Some(_), _) => return Err(EncodeError::NotInLayout { field: "dname" }),
                    (None, _) => {}
                }
                domain.cpumask.put(to, "cpumask")?;
                domain.cpulist.put(to, "cpulist")?;
            }
        }
        Ok(())
    }
}
