//! Samples.

use super::{Fields, FlagNames, Hex, Object, name_or, objects};
use crate::record::{
    Arch, BranchEntry, BranchFlags, BranchStack, DataSrc, MemHops, MemLvlNum, MemRegion, Regs, Sample, SampleFields,
    StackUser, Tid, Transaction, Weight,
};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

impl Fields for SampleFields<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        let arch = to.arch;
        to.entry_if("identifier", self.identifier)?;
        to.entry_if("ip", self.ip)?;
        to.tid(self.tid)?;
        to.entry_if("time", self.time)?;
        to.entry_if("addr", self.addr)?;
        to.entry_if("id", self.id)?;
        to.entry_if("stream_id", self.stream_id)?;
        to.entry_if("cpu", self.cpu)?;
        to.entry_if("period", self.period)?;
        to.entry_if("read", self.read)?;
        to.entry_if("callchain", self.callchain)?;
        to.entry_if("raw", self.raw.map(Hex))?;
        if let Some(stack) = &self.branch_stack {
            to.entry_if("hw_idx", stack.hw_idx)?;
            to.entry("branch_stack", &Branches(stack))?;
        }
        to.entry_if("regs_user", self.regs_user.map(|regs| Registers { regs, arch }))?;
        to.entry_if("stack_user", self.stack_user)?;
        if let Some(weight) = self.weight {
            weight.fields(to)?;
        }
        to.entry_if("data_src", self.data_src)?;
        to.entry_if("transaction", self.transaction)?;
        to.entry_if("regs_intr", self.regs_intr.map(|regs| Registers { regs, arch }))?;
        to.entry_if("phys_addr", self.phys_addr)?;
        to.entry_if("cgroup", self.cgroup)?;
        to.entry_if("data_page_size", self.data_page_size)?;
        to.entry_if("code_page_size", self.code_page_size)?;
        to.entry_if("aux", self.aux.map(Hex))
    }
}

impl Fields for Sample<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        Sample::fields(self).fields(to)
    }
}

impl Fields for Tid {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.tid(Some(*self))
    }
}

impl Fields for Weight {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        match self {
            Self::Full(weight) => to.entry("weight", weight),
            Self::Struct { var1_dw, var2_w, var3_w } => {
                to.entry("weight", var1_dw)?;
                to.entry("var2_w", var2_w)?;
                to.entry("var3_w", var3_w)
            }
        }
    }
}

impl Fields for StackUser<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry("size", &self.data.len())?;
        to.entry("dyn_size", &self.dyn_size)?;
        to.entry("data", &Hex(self.data))
    }
}

/// The number.
impl Serialize for Transaction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// The branches, each with its word of counts.
struct Branches<'a>(&'a BranchStack<'a>);

impl Serialize for Branches<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let BranchStack { entries, counters, .. } = *self.0;
        let counters = |index| counters.and_then(|counters| counters.get(index));
        let branches = entries.iter().enumerate();
        serializer.collect_seq(branches.map(|(index, entry)| Branch { entry, counters: counters(index) }))
    }
}

struct Branch {
    entry: BranchEntry,
    counters: Option<u64>,
}

impl Serialize for Branch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        super::object(self, serializer)
    }
}

impl Fields for Branch {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        self.entry.fields(to)?;
        to.entry_if("counters", self.counters)
    }
}

impl Fields for BranchEntry {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry("from", &self.from)?;
        to.entry("to", &self.to)?;
        self.flags.fields(to)
    }
}

impl Fields for BranchFlags {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry("mispred", &self.mispred())?;
        to.entry("predicted", &self.predicted())?;
        to.entry("in_tx", &self.in_tx())?;
        to.entry("abort", &self.abort())?;
        to.entry("cycles", &self.cycles())?;
        to.entry("type", &self.type_())?;
        to.entry("spec", &self.spec())?;
        to.entry("new_type", &self.new_type())?;
        to.entry("priv", &self.priv_())?;
        to.entry("reserved", &self.reserved())
    }
}

impl Fields for BranchStack<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry_if("hw_idx", self.hw_idx)?;
        to.entry("entries", &Branches(self))
    }
}

struct Registers<'a> {
    regs: Regs<'a>,
    arch: Option<Arch>,
}

impl Serialize for Registers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        super::object(self, serializer)
    }
}

impl Fields for Registers<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        let regs = &self.regs;
        to.entry("abi", &regs.abi().value())?;
        to.entry("mask", &regs.mask())?;
        match self.arch {
            Some(arch) => to.entry("registers", &Named { regs, arch }),
            None => to.entry("values", &regs.values()),
        }
    }
}

impl Fields for Regs<'_> {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        Registers { regs: *self, arch: None }.fields(to)
    }
}

/// The registers by name.
struct Named<'a> {
    regs: &'a Regs<'a>,
    arch: Arch,
}

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let arch = self.arch;
        serializer.collect_map(self.regs.iter().map(|(bit, value)| (Register { arch, bit }, value)))
    }
}

/// The name of a register, which no other one has.
struct Register {
    arch: Arch,
    bit: u32,
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.arch.register_name(self.bit) {
            Some(name) => {
                // Halves of a register have its name.
                let is_low = self.bit.checked_sub(1).and_then(|bit| self.arch.register_name(bit)) != Some(name);
                write!(f, "{name}{}", if is_low { "" } else { "_high" })
            }
            None => write!(f, "{}", self.bit),
        }
    }
}

impl Serialize for Register {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.arch.register_name(self.bit) {
            Some(name) if !name.starts_with("xmm") => serializer.serialize_str(name),
            _ => serializer.collect_str(self),
        }
    }
}

/// Numbers that have names.
macro_rules! numbers {
    ($($type:ty)+) => {
        $(
            /// The uapi name without its prefix; a number that has none.
            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    name_or(self.name(), self.0, serializer)
                }
            }
        )+
    };
}
numbers! { MemLvlNum MemHops MemRegion }

impl Fields for DataSrc {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry("val", &self.0)?;
        macro_rules! sets {
            ($($name:ident)+) => {
                $(if !self.$name().is_empty() { to.entry(stringify!($name), &FlagNames(self.$name()))?; })+
            };
        }
        macro_rules! numbers {
            ($($name:ident)+) => {
                $(if self.$name().0 != 0 { to.entry(stringify!($name), &self.$name())?; })+
            };
        }
        sets! { mem_op mem_lvl mem_snoop mem_lock mem_dtlb }
        numbers! { mem_lvl_num }
        sets! { mem_remote mem_snoopx mem_blk }
        numbers! { mem_hops mem_region }
        match self.0 >> 51 {
            0 => Ok(()),
            rest => to.entry("mem_rsvd", &rest),
        }
    }
}

objects! {
    SampleFields<'_>: "The fields that are there, as in the object of a [`Decoded`](crate::record::Decoded)."
    Sample<'_>: "The fields that are there, as in the object of a [`Decoded`](crate::record::Decoded)."
    Tid: "`pid` and `tid`."
    Weight: "`weight`; of a struct with `var2_w` and `var3_w`."
    StackUser<'_>: "`size`, `dyn_size` and `data`."
    BranchStack<'_>: "`hw_idx`, if it is there, and `entries`, each with its `counters`."
    BranchEntry: "`from`, `to`, and the bit fields."
    BranchFlags: "The bit fields, numbers or true or false."
    Regs<'_>: "`abi`, `mask` and `values`."
    DataSrc: "`val`, and those of the fields that are not 0, by name."
}
