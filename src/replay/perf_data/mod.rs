//! The format of `perf.data`.

mod layout;
mod write;

pub use layout::{FeatureId, Features, FileHeader, Section};
pub use write::{WriteError, WriteOptions, Writer, Written};
