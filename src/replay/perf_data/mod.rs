//! The format of `perf.data`.

pub mod features;
mod layout;
mod write;

pub use features::{Feature, FeatureError};
pub use layout::{FeatureId, Features, FileHeader, Section};
pub use write::{WriteError, WriteOptions, Writer, Written};
