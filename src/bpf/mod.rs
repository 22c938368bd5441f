//! eBPF programs as producers: instructions, objects, maps and the interpreter.
//!
//! Instructions are those of RFC 9669; types, maps, helpers and errno values are those of the uapi header `linux/bpf.h`.
//!
//! | to | there is |
//! |---|---|
//! | read, write and show instructions | [`insn`] |
//! | read an object that clang made | [`elf::Object`], [`btf::Btf`] |
//! | make its maps and load its programs | [`Loader`]; [`Program::builder`] for instructions that come from elsewhere |
//! | fit programs to the types of a platform (CO-RE) | [`Loader::target_types`], [`btf::core`] |
//! | use maps from Rust | [`map::Map`] |
//! | run programs | [`Machine`], [`Context`]; [`RunOptions`] and [`Environment`] for those that run after the fact |
//! | receive what they send | [`Event`] in a slot of a perf event array, [`map::Map::take_consumer`] of a ring buffer |
//! | have helpers and program types of one's own | [`Helpers`], [`ProgramType::builder`] |
//!
//! # What a program may do
//!
//! It reads and writes its frames, its context as the layout of its type allows, the packet, records that it has open, and the
//! values of its maps, of any alignment; atomic operations are for frames, values and records of ring buffers, and for aligned
//! addresses. Every access is tested, and one that is not allowed ends the program with a [`Trap`]. The arguments of helpers are
//! tested against their [`Prototype`]. A budget of instructions ends programs that do not end themselves.
//!
//! A record that a program reserved and did not commit or submit is given up when it ends, when it tail-calls another, and when
//! it is stopped.
//!
//! # Verified programs
//!
//! A program that [`Program::verify`] accepted was proved to do only that, and runs without the tests
//! ([`Program::is_verified`]). Nothing but the budget stops it. What it was proved for, it has to be given: a context of plain
//! memory with as many bytes as it may touch ([`RunError::ContextShort`]). A tail call of a verified program falls through, as if
//! the slot were empty, where the context is shorter than that, or where its frames do not fit above those of its callers.
//!
//! Verified and other programs call each other. Where a verified one tail-calls one that is not, all is tested from there on, to
//! the end of the run.
//!
//! # Signal handlers
//!
//! A program may be started in a signal handler. Where the thread runs one already, or changes a map, it is not started, and
//! counted ([`RunError::Reentrant`]). The first run on a thread allocates, and so may updates and deletions of hash elements: a
//! handler should not be the first to run a program on its thread.

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
mod lease;
#[cfg(perfring_loom)]
#[doc(hidden)]
pub mod lease;
#[cfg(not(perfring_loom))]
mod loader;
#[cfg(not(perfring_loom))]
mod machine;
pub mod map;
#[cfg(not(perfring_loom))]
mod memory;
mod order;
#[cfg(not(perfring_loom))]
mod program;
#[cfg(not(perfring_loom))]
pub mod program_type;
#[cfg(not(perfring_loom))]
mod proof;
#[cfg(not(perfring_loom))]
mod reentry;
#[cfg(not(perfring_loom))]
mod sys;
#[cfg(not(perfring_loom))]
pub mod verifier;
#[cfg(not(perfring_loom))]
mod vm;

/// The order table of the machine: site, order, operation, pair, models.
#[cfg(perfring_loom)]
#[doc(hidden)]
pub fn order_table() -> &'static [[&'static str; 5]] {
    order::Site::TABLE
}

#[cfg(all(feature = "dtrace", not(perfring_loom)))]
pub(crate) use self::reentry::Pinned;
#[cfg(not(perfring_loom))]
pub use self::{
    environment::{Environment, Live, ProbeRead, Task},
    event::{Event, EventError},
    helper::{Arg, Call, HelperId, Helpers, MapTypes, Prototype, PrototypeError, RegisterError, Returns},
    loader::{Loaded, Loader, LoaderError},
    machine::{Context, MAX_CPUS, Machine, MachineBuilder, MachineStats, RunError, RunOptions, SetEventError},
    program::{LoadError, LoadErrorKind, Program, ProgramBuilder},
    program_type::ProgramType,
    vm::{Trap, TrapKind},
};
