//! A stream of perf records in a ring laid out exactly as Linux lays out a perf_event ring, whoever writes it.

#[cfg(feature = "kernel")]
pub mod kernel;
pub mod ring;
mod sync;
