//! Maps: what programs keep between their runs, and share with each other and with Rust.

mod events;
mod programs;
mod ringbuf;
mod slots;
mod stub;

pub(crate) use events::{Events, Slot};
pub(crate) use programs::Programs;
pub(crate) use ringbuf::{OpenRecord, RingBuffer};
pub use stub::*;
