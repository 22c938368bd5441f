//! Recordings as a producer: `perf.data` in all its forms, and images of rings; read, put in the order of time, written,
//! and replayed through a ring.
//!
//! [`Recording::open`] takes a file, a directory, a pipe or a ring image, and says what the recording knows of itself;
//! [`Recording::records`] reads its records, in the order in which they stand or in that of their times, and lends them one
//! by one, whatever their number: what is held in memory is bounded.
//!
//! | to | there is |
//! |---|---|
//! | read | [`Recording`], [`Records`], [`Entry`]; [`Metadata`] for events and features |
//! | write `perf.data` | [`perf_data::Writer`]; [`copy`] from another recording |
//! | say what a recorder has to | [`synthesize`]: the tasks and mappings that are there already; [`System`]: the machine; [`perf_data::tracing_data`]: the formats of tracepoints |
//! | push through a ring | [`Replay`]; [`RingImage`] for one that holds all |
//! | get from addresses to files | [`AddressSpaces`], [`Frames`] |
//!
//! With the feature `symbolize`, the module of that name leads on to functions and lines.

mod address_space;
mod chunks;
mod copy;
mod error;
mod frames;
#[cfg(feature = "zstd")]
mod inflate;
mod input;
mod metadata;
mod order;
mod part;
pub mod perf_data;
mod producer;
mod range_map;
mod recording;
mod records;
mod ring_image;
mod scan;
#[cfg(feature = "symbolize")]
pub mod symbolize;
pub mod synthesize;
mod system;

pub use address_space::{AddressSpaces, Location, Mapping, MappingKind};
pub use copy::{Copied, CopyError, copy};
pub use error::{OpenError, ReadError, Warning};
pub use frames::{Frame, Frames};
pub use input::ReadAt;
pub use metadata::{Form, Metadata, RecordedEvent};
pub use order::{Order, OrderStats};
pub use producer::{Replay, ReplayError, ReplayStats, Shape, Step, original};
pub use recording::Recording;
pub use records::{Batch, Entry, Records};
pub use ring_image::RingImage;
pub use system::System;
