//! The format of `perf.data`.

pub mod features;
mod layout;

pub use features::{Feature, FeatureError};
pub use layout::{FeatureId, Features, FileHeader, Section};
