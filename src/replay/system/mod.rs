//! What a recorder says of the machine that it runs on.

mod cpu;
mod files;
mod memory;
mod pmu;

use crate::record::{ByteOrder, EncodeError, Text};
use crate::replay::perf_data::features::ClockData;
use crate::replay::perf_data::{Feature, FeatureId};
use files::Files;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What this machine is, as the feature sections that `perf record` writes, in its byte order: gathered from `/proc` and `/sys`
/// only. What they do not say, as in some containers, is left out.
///
/// ```
/// use perfring::replay::System;
/// use perfring::replay::perf_data::{Feature, FeatureId};
///
/// let system = System::collect().with_cmdline(std::env::args_os())?;
/// for feature in system.features() {
///     println!("{feature}");
/// }
/// let Some(Feature::Cmdline(args)) = system.feature(FeatureId::CMDLINE) else { panic!() };
/// assert_eq!(args.len(), std::env::args_os().len());
/// # Ok::<(), perfring::record::EncodeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct System {
    sections: BTreeMap<FeatureId, Vec<u8>>,
}

impl System {
    /// What this machine says of itself: [`HOSTNAME`](FeatureId::HOSTNAME), [`OSRELEASE`](FeatureId::OSRELEASE),
    /// [`VERSION`](FeatureId::VERSION), [`ARCH`](FeatureId::ARCH), [`NRCPUS`](FeatureId::NRCPUS),
    /// [`CPUDESC`](FeatureId::CPUDESC), [`CPUID`](FeatureId::CPUID), [`TOTAL_MEM`](FeatureId::TOTAL_MEM),
    /// [`CPU_TOPOLOGY`](FeatureId::CPU_TOPOLOGY), [`NUMA_TOPOLOGY`](FeatureId::NUMA_TOPOLOGY),
    /// [`PMU_MAPPINGS`](FeatureId::PMU_MAPPINGS), [`CACHE`](FeatureId::CACHE), [`MEM_TOPOLOGY`](FeatureId::MEM_TOPOLOGY),
    /// [`CPU_PMU_CAPS`](FeatureId::CPU_PMU_CAPS) and [`PMU_CAPS`](FeatureId::PMU_CAPS), so far as they are there.
    pub fn collect() -> Self {
        Self::collect_from(Path::new("/"))
    }

    /// As [`System::collect`], from the `proc` and `sys` in this directory.
    pub fn collect_from(root: &Path) -> Self {
        let files = Files::new(root);
        let mut system = Self { sections: BTreeMap::new() };
        system.add_text(Feature::Hostname, files.text("proc/sys/kernel/hostname").as_deref());
        system.add_text(Feature::OsRelease, files.text("proc/sys/kernel/osrelease").as_deref());
        system.add_text(Feature::Version, Some(Self::VERSION));
        system.add_text(Feature::Arch, files.text("proc/sys/kernel/arch").as_deref().or(arch()));
        let present = files.list("sys/devices/system/cpu/present");
        let online = files.list("sys/devices/system/cpu/online");
        // CPUs count up to the last one, as they do for perf.
        let available = present.and_then(|cpus| cpus.last().map(|last| last + 1));
        if let (Some(available), Some(online)) = (available, online) {
            system.add(&cpu::count(available, &online));
        }
        cpu::describe(&files, &mut system);
        if let Some(total) = memory::total(&files) {
            system.add(&Feature::TotalMem(total));
        }
        if let Some(available) = available {
            cpu::topology(&files, available, &mut system);
            cpu::caches(&files, available, &mut system);
        }
        memory::nodes(&files, &mut system);
        memory::blocks(&files, &mut system);
        pmu::pmus(&files, &mut system);
        system
    }

    /// The name and version of this crate, as the version of the recorder.
    const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

    /// With the command that records, and its arguments ([`FeatureId::CMDLINE`]).
    ///
    /// # Errors
    ///
    /// [`EncodeError::Nul`], which no argument of a process has.
    pub fn with_cmdline(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self, EncodeError> {
        let args: Vec<_> = args.into_iter().collect();
        let args = args.iter().map(|arg| Text::from(arg.as_ref().as_bytes())).collect();
        self.try_add(&Feature::Cmdline(args))?;
        Ok(self)
    }

    /// With the clock of the times: its resolution in nanoseconds ([`FeatureId::CLOCKID`]), and what it shows at which time of
    /// day ([`FeatureId::CLOCK_DATA`]), so that a reader can tell when a record was written.
    ///
    /// `now` reads the clock, in nanoseconds. It is read a few times between two readings of the time of day, and the reading
    /// for which these are closest counts, with the time in the middle.
    #[must_use]
    pub fn with_clock(mut self, clockid: u32, resolution: u64, mut now: impl FnMut() -> u64) -> Self {
        self.add(&Feature::ClockId(resolution));
        let wall = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            u64::try_from(since.as_nanos()).ok()
        };
        let read = |_| {
            let (before, clock, after) = (wall()?, now(), wall()?);
            // The time of day may be set meanwhile.
            let took = after.checked_sub(before)?;
            Some((took, before + took / 2, clock))
        };
        if let Some((_, wall_clock_ns, clockid_time_ns)) = (0..Self::READINGS).filter_map(read).min() {
            self.add(&Feature::ClockData(ClockData { version: 1, clockid, wall_clock_ns, clockid_time_ns }));
        }
        self
    }

    /// How often clocks are read.
    const READINGS: usize = 8;

    /// The features that are there, in ascending order.
    pub fn features(&self) -> impl Iterator<Item = Feature<'_>> {
        // They were encoded here.
        self.sections.iter().filter_map(|(id, section)| Feature::decode(*id, section, ByteOrder::NATIVE).ok())
    }

    /// This feature, if it is there.
    pub fn feature(&self, id: FeatureId) -> Option<Feature<'_>> {
        Feature::decode(id, self.sections.get(&id)?, ByteOrder::NATIVE).ok()
    }

    /// The sections that are there, in ascending order and in this machine's byte order.
    pub fn sections(&self) -> impl ExactSizeIterator<Item = (FeatureId, &[u8])> {
        self.sections.iter().map(|(id, section)| (*id, &section[..]))
    }

    /// As [`System::sections`], by value.
    pub fn into_sections(self) -> Vec<(FeatureId, Vec<u8>)> {
        self.sections.into_iter().collect()
    }

    /// What cannot be encoded, such as text with a NUL, is left out.
    fn add(&mut self, feature: &Feature<'_>) {
        let _ = self.try_add(feature);
    }

    fn try_add(&mut self, feature: &Feature<'_>) -> Result<(), EncodeError> {
        let mut section = Vec::new();
        feature.encode(ByteOrder::NATIVE, &mut section)?;
        self.sections.insert(feature.id(), section);
        Ok(())
    }

    fn add_text<'a>(&mut self, feature: fn(Text<'a>) -> Feature<'a>, text: Option<&'a str>) {
        if let Some(text) = text {
            self.add(&feature(Text::from(text)));
        }
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.features()).finish()
    }
}

/// What `uname -m` has for the architecture that this program is compiled for, where there is only one. Kernels before 6.1 tell
/// it by a system call only.
fn arch() -> Option<&'static str> {
    let little = cfg!(target_endian = "little");
    Some(match std::env::consts::ARCH {
        "aarch64" => {
            if little {
                "aarch64"
            } else {
                "aarch64_be"
            }
        }
        "powerpc64" => {
            if little {
                "ppc64le"
            } else {
                "ppc64"
            }
        }
        same @ ("x86_64" | "riscv64" | "s390x" | "loongarch64") => same,
        _ => return None,
    })
}
