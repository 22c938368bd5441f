//! The kernel as a producer: events of perf_event_open(2), whose records arrive in a ring.
//!
//! An [`EventBuilder`] describes an event: its source, when it samples, what a sample holds and which other records
//! come along. [`open`](EventBuilder::open) makes it an [`Event`] on a [`Target`]: the calling thread, a task, a CPU. A
//! command is observed from its first instruction by means of [`StoppedCommand`]. [`Event::mmap`] gives the ring's
//! [`Consumer`](crate::ring::Consumer), the same type that reads every other ring of this crate.
//!
//! Events that count together are a [`Group`]; events that write into one ring are made so by [`Event::set_output`].
//!
//! Names are those of the uapi header `linux/perf_event.h`; the man page perf_event_open(2) is the reference for their
//! meaning. What the builder has no method for can be set in the `perf_event_attr` itself: [`EventBuilder::attr_mut`].
//! [`EventBuilder::parse`] takes an event as perf(1) does, as text.
//!
//! Who may open what depends on `/proc/sys/kernel/perf_event_paranoid` and on capabilities; an [`Error`] says which
//! value or capability would have been needed.
//!
//! ```no_run
//! use perfring::kernel::{EventBuilder, SampleType, Software, Target};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut event = EventBuilder::software(Software::PageFaults)
//!     .sample_period(1)
//!     .sample_type(SampleType::TID | SampleType::ADDR)
//!     .exclude_kernel(true)
//!     .exclude_hv(true)
//!     .disabled(true)
//!     .open(Target::CallingThread)?;
//! let mut consumer = event.mmap(8)?;
//! event.enable()?;
//! let touched = vec![1_u8; 1 << 20];
//! event.disable()?;
//! let mut drain = consumer.drain();
//! while let Some(record) = drain.next() {
//!     let record = record?;
//!     println!("type {} with {} bytes", record.header().type_, record.header().size);
//! }
//! # drop(touched);
//! # Ok(())
//! # }
//! ```

mod aux;
mod breakpoint;
mod builder;
mod cache;
mod clock;
mod command;
mod count;
mod cpu;
mod decode;
mod diagnose;
mod error;
mod event;
mod group;
mod hardware;
mod mmap;
mod open;
mod parse;
mod pmu;
mod probe;
mod set;
mod software;
#[cfg(feature = "tokio")]
mod stream;
mod suggest;
#[cfg(feature = "symbols")]
mod symbol;
mod sys;
mod target;
mod time_page;
mod tracepoint;
mod tracepoint_format;
#[cfg(feature = "symbols")]
mod usdt;

pub use breakpoint::Access;
pub use builder::EventBuilder;
pub use cache::{CacheId, CacheOp, CacheResult};
pub use clock::ClockId;
pub use command::StoppedCommand;
pub use count::{Count, GroupCount};
pub use cpu::online_cpus;
pub use decode::DecoderError;
pub use diagnose::Diagnosis;
pub use error::Error;
pub use event::{Event, poll};
pub use group::Group;
pub use hardware::Hardware;
pub(crate) use open::error_from_limits;
pub use pmu::Pmu;
pub use set::{RingSet, RingSetBuilder, RingStats, SetDrain, SetError, SetId, SetRecord, SetSpan, SetTarget};
pub use software::Software;
#[cfg(feature = "tokio")]
pub use stream::{AsyncRing, AsyncRingSet};
#[cfg(feature = "symbols")]
pub use symbol::function_names;
pub use target::Target;
pub use tracepoint::Tracepoint;
pub use tracepoint_format::{Field, FieldKind, FormatError, TracepointFormat};
#[cfg(feature = "symbols")]
pub use usdt::{UsdtSite, usdt_sites};

pub use crate::record::{BranchSampleType, ReadFormat, SampleType};

/// The raw bindings that [`EventBuilder::attr_mut`] speaks.
pub use perf_event_open_sys::bindings;
