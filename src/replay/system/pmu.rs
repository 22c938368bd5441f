//! PMUs: their names, and what they can do.

use super::System;
use super::files::Files;
use crate::record::Text;
use crate::replay::perf_data::Feature;
use crate::replay::perf_data::features::{PmuCap, PmuCaps, PmuMapping};

const PMUS: &str = "sys/bus/event_source/devices";

/// `PMU_MAPPINGS`, `CPU_PMU_CAPS` and `PMU_CAPS`.
pub(super) fn pmus(files: &Files, system: &mut System) {
    let Some(names) = files.names(PMUS) else { return };
    let mut mappings = Vec::new();
    for name in &names {
        if let Some(type_) = files.number(&format!("{PMUS}/{name}/type")) {
            mappings.push(PmuMapping { type_, name: Text::from(&name[..]) });
        }
    }
    system.add(&Feature::PmuMappings(mappings));
    let caps: Vec<_> =
        names.iter().map(|name| (name, caps(files, name))).filter(|(_, caps)| !caps.is_empty()).collect();
    // The PMU of all CPUs has a section of its own.
    let is_cpu = |name: &str| name == "cpu";
    if let Some((_, caps)) = caps.iter().find(|(name, _)| is_cpu(name)) {
        system.add(&Feature::CpuPmuCaps(texts(caps)));
    }
    let mut others = Vec::new();
    for (pmu_name, caps) in caps.iter().filter(|(name, _)| !is_cpu(name)) {
        others.push(PmuCaps { caps: texts(caps), pmu_name: Text::from(&pmu_name[..]) });
    }
    system.add(&Feature::PmuCaps(others));
}

/// The files in a PMU's directory of what it can do.
fn caps(files: &Files, pmu: &str) -> Vec<(String, String)> {
    let dir = format!("{PMUS}/{pmu}/caps");
    let names = files.names(&dir).unwrap_or_default();
    names.into_iter().filter_map(|name| files.text(&format!("{dir}/{name}")).map(|value| (name, value))).collect()
}

fn texts(caps: &[(String, String)]) -> Vec<PmuCap<'_>> {
    caps.iter().map(|(name, value)| PmuCap { name: Text::from(&name[..]), value: Text::from(&value[..]) }).collect()
}
