//! CPUs: what they are, where they sit, what they share.

use super::System;
use super::files::Files;
use crate::record::Text;
use crate::replay::perf_data::Feature;
use crate::replay::perf_data::features::{Cache, CpuPlace, CpuTopology, NrCpus};

pub(super) fn count<'a>(available: u32, online: &[u32]) -> Feature<'a> {
    Feature::NrCpus(NrCpus { available, online: online.len() as u32 })
}

/// `CPUDESC` and `CPUID`.
pub(super) fn describe(files: &Files, system: &mut System) {
    let info = files.text("proc/cpuinfo").unwrap_or_default();
    // The first CPU stands for all.
    let first: Vec<_> = info
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let value = |key| first.iter().find(|(found, _)| *found == key).map(|(_, value)| *value);
    // By architecture: x86 and Arm; LoongArch; MIPS; Power.
    let name = ["model name", "Model Name", "cpu model", "cpu"].into_iter().find_map(value);
    let name = name.map(|name| name.split_whitespace().collect::<Vec<_>>().join(" "));
    system.add_text(Feature::CpuDesc, name.as_deref());
    let x86 = ["vendor_id", "cpu family", "model", "stepping"].map(value);
    let id = match x86 {
        [Some(vendor), Some(family), Some(model), Some(stepping)] => Some([vendor, family, model, stepping].join(",")),
        // That of Arm is a register.
        _ => files.text("sys/devices/system/cpu/cpu0/regs/identification/midr_el1"),
    };
    system.add_text(Feature::CpuId, id.as_deref());
}

/// `CPU_TOPOLOGY`: a CPU that is offline is nowhere.
pub(super) fn topology(files: &Files, available: u32, system: &mut System) {
    let path = |cpu: u32, name: &str| format!("sys/devices/system/cpu/cpu{cpu}/topology/{name}");
    // Each list once, by the first CPU in it. Older kernels have the second name.
    let lists = |names: [&str; 2]| {
        let mut lists: Vec<String> = Vec::new();
        for cpu in 0..available {
            let list = names.into_iter().find_map(|name| files.text(&path(cpu, name)));
            lists.extend(list.filter(|list| !lists.contains(list)));
        }
        lists
    };
    let sockets = lists(["package_cpus_list", "core_siblings_list"]);
    let threads = lists(["core_cpus_list", "thread_siblings_list"]);
    if sockets.is_empty() || threads.is_empty() {
        return;
    }
    let number = |cpu, name| files.number::<i32>(&path(cpu, name));
    // Where there are no dies, the number is missing, or negative.
    let has_dies = (0..available).any(|cpu| number(cpu, "die_id").is_some_and(|die| die >= 0));
    let dies = if has_dies { lists(["die_cpus_list", "die_cpus_list"]) } else { Vec::new() };
    let has_dies = !dies.is_empty();
    let place = |cpu| CpuPlace {
        core_id: number(cpu, "core_id").unwrap_or(-1),
        socket_id: number(cpu, "physical_package_id").unwrap_or(-1),
        die_id: has_dies.then(|| number(cpu, "die_id").unwrap_or(-1)),
    };
    system.add(&Feature::CpuTopology(CpuTopology {
        sockets: texts(&sockets),
        threads: texts(&threads),
        cpus: (0..available).map(place).collect(),
        dies: texts(&dies),
    }));
}

fn texts(lists: &[String]) -> Vec<Text<'_>> {
    lists.iter().map(|list| Text::from(&list[..])).collect()
}

/// `CACHE`: each cache once, from the first level.
pub(super) fn caches(files: &Files, available: u32, system: &mut System) {
    let mut caches: Vec<Found> = Vec::new();
    for cpu in 0..available {
        let dir = format!("sys/devices/system/cpu/cpu{cpu}/cache");
        for index in files.numbered(&dir, "index").unwrap_or_default() {
            // One of which not all is known is left out.
            caches.extend(Found::read(files, &format!("{dir}/index{index}")).filter(|cache| !caches.contains(cache)));
        }
    }
    if caches.is_empty() {
        return;
    }
    caches.sort_by_key(|cache| cache.level);
    system.add(&Feature::Cache(caches.iter().map(Found::cache).collect()));
}

/// A [`Cache`] that owns its text.
#[derive(PartialEq)]
struct Found {
    level: u32,
    line_size: u32,
    sets: u32,
    ways: u32,
    type_: String,
    size: String,
    map: String,
}

impl Found {
    fn read(files: &Files, dir: &str) -> Option<Self> {
        let path = |name| format!("{dir}/{name}");
        Some(Self {
            level: files.number(&path("level"))?,
            line_size: files.number(&path("coherency_line_size"))?,
            sets: files.number(&path("number_of_sets"))?,
            ways: files.number(&path("ways_of_associativity"))?,
            type_: files.text(&path("type"))?,
            size: files.text(&path("size"))?,
            map: files.text(&path("shared_cpu_list"))?,
        })
    }

    fn cache(&self) -> Cache<'_> {
        let Self { level, line_size, sets, ways, type_, size, map } = self;
        let [type_, size, map] = [type_, size, map].map(|text| Text::from(&text[..]));
        Cache { level: *level, line_size: *line_size, sets: *sets, ways: *ways, type_, size, map }
    }
}
