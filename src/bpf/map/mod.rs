//! Maps: what programs keep between their runs, and share with each other and with Rust.
//!
//! Kinds, flags, and errno values are those of bpf(2); [`Map`] is the side of the system call, helpers are the programs'.
//!
//! Programs hold the addresses of values while others update, delete and evict. A value stays where it is, and stays that of
//! its element, until every program that may have its address has ended. Updates of arrays and of per-CPU values overwrite
//! them, those of hashes put a new value in the place of the old one, and as in the kernel nothing orders what programs and
//! updates store in one value: aligned accesses of up to 8 bytes are not torn, anything else may be, and atomic instructions
//! are atomic among each other.
//!
//! What leaves a hash takes memory until nobody can look at it any more. There are spare elements for that: as many as there may
//! be elements, 4096 at the least, and more where they are small. When all of them wait, as a program does not end, nothing new
//! can be inserted (`ENOMEM`; from Rust after some patience), and what is there is replaced where it lies, as in an array.
//!
//! A thread that is interrupted by a signal handler while it changes or reads a map gets `EBUSY` for all maps there, and programs
//! are not run. Otherwise a handler may use maps, with keys and values that it has at hand ([`Map::lookup_into`],
//! [`Map::update`], [`Map::delete`]), but now and then that allocates or frees memory: a handler that may interrupt the allocator
//! is better off with a thread that does it.

#[cfg(not(perfring_loom))]
mod array;
mod cell;
mod def;
mod error;
#[cfg(not(perfring_loom))]
mod events;
#[cfg(not(perfring_loom))]
mod handle;
mod hash;
#[cfg(perfring_loom)]
#[doc(hidden)]
pub mod model;
mod order;
#[cfg(not(perfring_loom))]
mod programs;
#[cfg(not(perfring_loom))]
mod ringbuf;
#[cfg(all(test, not(perfring_loom)))]
mod tests;
#[cfg(not(perfring_loom))]
mod values;
#[cfg(perfring_loom)]
mod values_model;

#[cfg(all(feature = "dtrace", not(perfring_loom)))]
pub(crate) use cell::Cell;
pub use def::{MapDef, MapFlags, MapType, UpdateFlags};
pub use error::MapError;
#[cfg(not(perfring_loom))]
pub(crate) use events::Slot;
#[cfg(not(perfring_loom))]
pub use handle::{Batch, Elements, Map};
#[cfg(not(perfring_loom))]
pub(crate) use ringbuf::OpenRecord;
#[cfg(perfring_loom)]
use values_model as values;

/// The order table of the maps: site, order, operation, pair, models.
#[cfg(perfring_loom)]
#[doc(hidden)]
pub fn order_table() -> &'static [[&'static str; 5]] {
    order::Site::TABLE
}
