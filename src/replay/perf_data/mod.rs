//! The format of `perf.data`.

mod layout;

pub use layout::{FeatureId, Features, FileHeader, Section};
