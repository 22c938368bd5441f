//! BPF_PROG_LOAD of this crate's programs, and how long it takes.

use super::bpf_kernel::{Def, Errno, Map, Program};
use perfring::bpf::insn::Insn;
use perfring::bpf::map::{self, MapFlags, MapType};
use perfring::record::ByteOrder;
use std::time::{Duration, Instant};

/// A program for the kernel, with maps as its own are.
pub struct Load {
    type_: u32,
    insns: Vec<u64>,
    maps: Vec<Map>,
}

impl Load {
    /// `insns` name the maps by their index.
    pub fn new(type_: u32, insns: &[Insn], maps: &[map::Map]) -> Result<Self, Errno> {
        let words = insns.iter().map(|insn| u64::from_ne_bytes(insn.to_bytes(ByteOrder::NATIVE)));
        let maps = maps.iter().map(same_map).collect::<Result<_, _>>()?;
        Ok(Self { type_, insns: words.collect(), maps })
    }

    fn load(&self) -> Result<Program, Errno> {
        let maps: Vec<_> = self.maps.iter().collect();
        Program::try_load(self.type_, &self.insns, &maps)
    }

    /// Whether it is accepted.
    pub fn verdict(&self) -> Result<(), Errno> {
        self.load().map(drop)
    }

    /// How many instructions the kernel follows.
    pub fn processed(&self) -> Option<u64> {
        let maps: Vec<_> = self.maps.iter().collect();
        Program::processed(self.type_, &self.insns, &maps)
    }

    /// How long it takes, without what closing the program takes.
    pub fn time(&self) -> Duration {
        let start = Instant::now();
        let result = self.load();
        let time = start.elapsed();
        drop(result);
        time
    }
}

/// A map of the kernel that is as this one is; one that is constant has the same values.
fn same_map(map: &map::Map) -> Result<Map, Errno> {
    let def = map.def();
    let same = Map::create(Def {
        map_type: def.type_ as u32,
        key_size: def.key_size,
        value_size: def.value_size,
        max_entries: def.max_entries,
        flags: def.flags.bits(),
    })?;
    if def.type_ == MapType::Array && def.flags.contains(MapFlags::RDONLY_PROG) {
        for key in 0..def.max_entries {
            let key = key.to_ne_bytes();
            let value = map.lookup(&key).expect("an array's key").expect("arrays have all their elements");
            same.update(&key, &value, 0)?;
        }
        same.freeze()?;
    }
    Ok(same)
}
