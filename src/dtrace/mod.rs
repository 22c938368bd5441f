//! Probes that fire eBPF programs, and what these send.

mod aggregation;
mod argument;
mod builder;
mod distribution;
mod enabling;
mod error;
#[cfg(feature = "kernel")]
mod events;
mod format;
mod item;
#[cfg(feature = "kernel")]
mod kernel_probes;
mod metadata;
mod name;
#[cfg(feature = "kernel")]
mod offered;
#[cfg(all(feature = "kernel", feature = "symbols"))]
mod operand;
mod order;
mod own;
mod past;
mod probe;
mod program_type;
mod record_type;
#[cfg(all(feature = "kernel", feature = "replay"))]
mod recording;
mod session;
#[cfg(feature = "kernel")]
mod syscalls;
#[cfg_attr(not(feature = "kernel"), allow(dead_code))]
mod tasks;
#[cfg(all(feature = "kernel", feature = "replay"))]
mod tracing_data;

pub use self::aggregation::{Aggregate, AggregationError, Aggregations, Function, Row, Table, aggregation_drops};
pub use self::argument::{Argument, Arguments};
pub use self::builder::SessionBuilder;
pub use self::distribution::{BUCKETS, Distribution};
pub use self::enabling::ProbeError;
pub use self::error::SessionError;
#[cfg(feature = "kernel")]
pub use self::events::SourceStats;
pub use self::format::{Format, FormatError, RecordContext};
pub use self::item::{Item, ProbeId, ProbeStats, SessionStats};
#[cfg(feature = "kernel")]
pub use self::kernel_probes::{KernelProbeError, KernelProbes, KernelSource};
pub use self::name::{Pattern, PatternError, ProbeName};
#[cfg(feature = "kernel")]
pub use self::offered::{KernelProbe, kernel_probes};
pub use self::past::Past;
pub use self::probe::{ArgInfo, Probe, ProbeInfo, Stability, probes};
pub use self::program_type::{MAX_ARGS, REGS, program_type};
pub use self::record_type::{RecordType, RecordTypeError, RecordTypes};
#[cfg(all(feature = "kernel", feature = "replay"))]
pub use self::recording::{RecordedProbeError, RecordedProbes};
pub use self::session::Session;

/// For the macro.
#[doc(hidden)]
pub mod __private {
    pub use super::probe::{PROBES, is_name};
    pub use linkme;
}
