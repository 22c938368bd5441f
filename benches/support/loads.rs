//! BPF_PROG_LOAD of this crate's programs, and how long it takes.

use super::bpf_kernel::{Code, Def, Errno, Functions, Map};
use perfring::bpf::insn::{Imm64, Insn, Op};
use perfring::bpf::map::{self, MapFlags, MapType};
use perfring::record::ByteOrder;
use std::time::{Duration, Instant};

/// A program for the kernel, with maps as its own are.
pub struct Load {
    type_: u32,
    insns: Vec<u64>,
    maps: Vec<Map>,
    functions: Option<Functions>,
}

impl Load {
    /// The program, with `before` in front of it.
    pub fn new(type_: u32, before: &[Insn], program: &perfring::bpf::Program) -> Result<Self, Errno> {
        let code = program.code();
        let words = before.iter().chain(code.insns()).map(|insn| u64::from_ne_bytes(insn.to_bytes(ByteOrder::NATIVE)));
        let maps = program.maps().iter().map(same_map).collect::<Result<_, _>>()?;
        let takes_address = |op: &Op| matches!(op, Op::LoadImm64 { imm: Imm64::Function(_), .. });
        let functions = match code.iter().any(|(_, op)| takes_address(op)) {
            true => {
                let start = |&at: &usize| if at == 0 { 0 } else { at + before.len() };
                Some(Functions::at(&code.functions().iter().map(start).collect::<Vec<_>>())?)
            }
            false => None,
        };
        Ok(Self { type_, insns: words.collect(), maps, functions })
    }

    fn with<T>(&self, run: impl FnOnce(Code<'_>) -> T) -> T {
        let maps: Vec<_> = self.maps.iter().collect();
        run(Code { prog_type: self.type_, insns: &self.insns, maps: &maps, functions: self.functions.as_ref() })
    }

    /// Whether it is accepted.
    pub fn verdict(&self) -> Result<(), Errno> {
        self.with(|code| code.load().map(drop))
    }

    /// How many instructions the kernel follows.
    pub fn processed(&self) -> Option<u64> {
        self.with(|code| code.processed())
    }

    /// How long it takes, without what closing the program takes.
    pub fn time(&self) -> Duration {
        self.with(|code| {
            let start = Instant::now();
            let result = code.load();
            let time = start.elapsed();
            drop(result);
            time
        })
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
