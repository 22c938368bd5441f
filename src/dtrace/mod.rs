//! Probes that fire eBPF programs, and what these send.

mod argument;
mod enabling;
mod error;
mod name;
mod order;
mod own;
mod probe;
mod program_type;
mod session;

pub use self::argument::{Argument, Arguments};
pub use self::enabling::ProbeError;
pub use self::error::SessionError;
pub use self::name::{Pattern, PatternError, ProbeName};
pub use self::probe::{ArgInfo, Probe, ProbeInfo, Stability, probes};
pub use self::program_type::{MAX_ARGS, REGS, program_type};
pub use self::session::{Firing, Item, ProbeId, ProbeStats, Session, SessionBuilder, SessionStats};

/// For the macro.
#[doc(hidden)]
pub mod __private {
    pub use super::probe::{PROBES, is_name};
    pub use linkme;
}
