//! A stream of perf records in a ring laid out exactly as Linux lays out a perf_event ring, whoever writes it.

// Under loom only what the models use is built.
#![cfg_attr(perfring_loom, allow(dead_code, unused_imports, unused_variables))]

#[cfg(all(feature = "kernel", not(perfring_loom)))]
pub mod kernel;
pub mod merge;
pub mod ring;
mod sync;
