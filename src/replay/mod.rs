//! Recordings as a producer: `perf.data` read, put in the order of time, written, and replayed through a ring.

mod address_space;
mod frames;
pub mod perf_data;
mod range_map;

pub use address_space::{AddressSpaces, Location, Mapping, MappingKind};
pub use frames::{Frame, Frames};
