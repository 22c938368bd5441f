//! The format of `perf.data`.

pub mod features;
mod layout;
mod tracing_data;
mod write;

pub use features::{Feature, FeatureError};
pub use layout::{FeatureId, Features, FileHeader, Section};
pub use tracing_data::{TracingDataError, tracing_data};
pub use write::{WriteError, WriteOptions, Writer, Written};
