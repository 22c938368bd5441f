//! Probes that fire eBPF programs, and what these send.

mod name;
mod program_type;

pub use self::name::{Pattern, PatternError, ProbeName};
pub use self::program_type::{MAX_ARGS, REGS, program_type};
