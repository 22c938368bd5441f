//! The kernel as a producer: events of perf_event_open(2), whose records arrive in a ring.
//!
//! An [`EventBuilder`] describes an event: its source, when it samples, what a sample holds and which other records
//! come along. [`open`](EventBuilder::open) makes it an [`Event`] on a [`Target`]: the calling thread, a task, a CPU. A
//! command is observed from its first instruction by means of [`StoppedCommand`]. [`Event::mmap`] gives the ring's
//! [`Consumer`](crate::ring::Consumer), the same type that reads every other ring of this crate.
//!
//! Names are those of the uapi header `linux/perf_event.h`; the man page perf_event_open(2) is the reference for their
//! meaning. What the builder has no method for can be set in the `perf_event_attr` itself: [`EventBuilder::attr_mut`].
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
mod command;
mod cpu;
mod error;
mod event;
mod mmap;
mod sys;
mod time_page;
mod tracepoint;

pub use command::StoppedCommand;
pub use cpu::online_cpus;
pub use error::Error;
pub(crate) use event::error_from_limits;
pub use event::{ClockId, Event, EventBuilder, SampleType, Software, Target, poll};
pub use tracepoint::Tracepoint;

/// The raw bindings that [`EventBuilder::attr_mut`] speaks.
pub use perf_event_open_sys::bindings;
