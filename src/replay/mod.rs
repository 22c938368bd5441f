//! Recordings as a producer: `perf.data` in all its forms, and images of rings; read, put in the order of time, written,
//! and replayed through a ring.
//!
//! [`Recording::open`] takes a file, a directory, a pipe or a ring image, and says what the recording knows of itself;
//! [`Recording::records`] reads its records, in the order in which they stand or in that of their times, and lends them one
//! by one, whatever their number: what is held in memory is bounded.

mod chunks;
mod error;
#[cfg(feature = "zstd")]
mod inflate;
mod input;
mod metadata;
mod order;
mod part;
pub mod perf_data;
mod recording;
mod records;
mod ring_image;
mod scan;
mod system;

pub use error::{OpenError, ReadError, Warning};
pub use input::ReadAt;
pub use metadata::{Form, Metadata, RecordedEvent};
pub use order::{Order, OrderStats};
pub use recording::Recording;
pub use records::{Entry, Records};
pub use system::System;
