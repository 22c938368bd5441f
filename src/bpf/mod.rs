//! eBPF programs as producers: instructions, objects, maps and the interpreter.
//!
//! Instructions are those of RFC 9669; types, maps, helpers and errno values are those of the uapi header `linux/bpf.h`.

#[cfg(not(perfring_loom))]
pub mod btf;
#[cfg(not(perfring_loom))]
pub mod elf;
#[cfg(not(perfring_loom))]
mod environment;
#[cfg(not(perfring_loom))]
mod event;
#[cfg(not(perfring_loom))]
mod helper;
#[cfg(not(perfring_loom))]
pub mod insn;
#[cfg(not(perfring_loom))]
mod loader;
#[cfg(not(perfring_loom))]
mod machine;
pub mod map;
#[cfg(not(perfring_loom))]
mod memory;
#[cfg(not(perfring_loom))]
mod order;
#[cfg(not(perfring_loom))]
mod program;
#[cfg(not(perfring_loom))]
pub mod program_type;
#[cfg(not(perfring_loom))]
mod reentry;
#[cfg(not(perfring_loom))]
mod sys;
#[cfg(not(perfring_loom))]
mod vm;

#[cfg(not(perfring_loom))]
pub use self::{
    environment::{Environment, Live, ProbeRead},
    event::{Event, EventError},
    helper::{Arg, Call, HelperId, Helpers, MapTypes, Prototype, PrototypeError, RegisterError, Returns},
    loader::{Loaded, Loader, LoaderError},
    machine::{Context, MAX_CPUS, Machine, MachineBuilder, MachineStats, RunError, RunOptions, SetEventError},
    program::{LoadError, LoadErrorKind, Program, ProgramBuilder},
    program_type::ProgramType,
    vm::{Trap, TrapKind},
};
