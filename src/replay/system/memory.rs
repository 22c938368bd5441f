//! Memory: how much there is, and of which nodes.

use super::System;
use super::files::Files;
use crate::record::{Text, Words};
use crate::replay::perf_data::Feature;
use crate::replay::perf_data::features::{MemTopology, MemoryNode, NumaNode};

/// A line such as `MemTotal:   1024 kB`, after what may stand before the name.
fn kib(info: &str, name: &str) -> Option<u64> {
    let mut lines = info.lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.split_whitespace().next_back() == Some(name)).then_some(value)
    });
    lines.next()?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The memory, in KiB.
pub(super) fn total(files: &Files) -> Option<u64> {
    kib(&files.text("proc/meminfo")?, "MemTotal")
}

const NODES: &str = "sys/devices/system/node";

/// `NUMA_TOPOLOGY`.
pub(super) fn nodes(files: &Files, system: &mut System) {
    let Some(online) = files.list(&format!("{NODES}/online")) else { return };
    let read = |node| {
        let info = files.text(&format!("{NODES}/node{node}/meminfo"))?;
        // That of a node without CPUs is empty.
        let cpus = files.text(&format!("{NODES}/node{node}/cpulist")).unwrap_or_default();
        Some((node, kib(&info, "MemTotal")?, kib(&info, "MemFree")?, cpus))
    };
    let Some(nodes) = online.into_iter().map(read).collect::<Option<Vec<_>>>() else { return };
    let mut features = Vec::new();
    for (nodenr, mem_total, mem_free, cpus) in &nodes {
        let (nodenr, mem_total, mem_free) = (*nodenr, *mem_total, *mem_free);
        features.push(NumaNode { nodenr, mem_total, mem_free, cpus: Text::from(&cpus[..]) });
    }
    system.add(&Feature::NumaTopology(features));
}

/// `MEM_TOPOLOGY`.
pub(super) fn blocks(files: &Files, system: &mut System) {
    /// More blocks than there can be: a bit for each is kept.
    const MAX: u32 = 1 << 24;
    let block_size = files.text("sys/devices/system/memory/block_size_bytes");
    let Some(block_size) = block_size.and_then(|size| u64::from_str_radix(size.trim_start_matches("0x"), 16).ok())
    else {
        return;
    };
    let mut nodes = Vec::new();
    for node in files.numbered(NODES, "node").unwrap_or_default() {
        let blocks = files.numbered(&format!("{NODES}/node{node}"), "memory").unwrap_or_default();
        let size = blocks.last().map_or(0, |last| last.saturating_add(1));
        if size > MAX {
            return;
        }
        let mut words = vec![0_u64; (size as usize).div_ceil(64)];
        for block in blocks {
            if let Some(word) = words.get_mut(block as usize / 64) {
                *word |= 1 << (block % 64);
            }
        }
        nodes.push((node, size, words));
    }
    if nodes.iter().all(|(_, size, _)| *size == 0) {
        return;
    }
    let mut features = Vec::new();
    for (node, size, words) in &nodes {
        features.push(MemoryNode { node: (*node).into(), size: (*size).into(), blocks: Words::from(&words[..]) });
    }
    system.add(&Feature::MemTopology(MemTopology { block_size, nodes: features }));
}
