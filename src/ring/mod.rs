//! The ring: perf records in memory laid out as Linux lays out a perf_event ring.
//!
//! A header page (`struct perf_event_mmap_page`) holds `data_head`, which the producer stores, and `data_tail`, which the
//! consumer stores; behind it lies the data area, a power of two of pages. Positions are free-running `u64`s that wrap;
//! `head == tail` means empty, and 8 bytes always stay free. Records start with a [`RecordHeader`] and are multiples of 8
//! bytes.
//!
//! [`Ring::confined`] makes a ring in which no record crosses the end of a *granule* (a page by default): a record is always
//! one contiguous slice, for the producer as for the consumer, and every granule starts with a record, so that a reader can
//! enter at any of them. [`Ring::free`] makes one whose records wrap as the kernel's do. The memory is
//! [private](Builder::private), a pair of [memfds](Builder::memfd), a [file](Builder::create_file), or a
//! [kernel mapping](Consumer::from_kernel). Producers are [`Producer`] (one thread), [`SharedProducer`] (many threads and
//! signal handlers) and [`OverwriteProducer`] (keeps the newest). [`Consumer`] reads them all.
//!
//! The other parts of a perf mapping are here, too: [`TimePage`] reads the times and the clock's conversion that the header
//! page holds, and [`AuxConsumer`] and [`AuxSnapshot`] the AUX area, a second ring for the bytes of a hardware trace.
//!
//! # Padding
//!
//! Where a record does not fit into the rest of a granule, that rest is a gap: zeros, or with [`Padding::Header`] a record
//! of type [`RECORD_PADDING`], for readers that do not know zeros. A discarded reservation becomes such a record, too.
//! Consumers step over both.

//!
//! # Memory order
//!
//! Who stores a position gives up bytes, and who loads it takes them over:
//!
//! | store | order | load | order |
//! |---|---|---|---|
//! | producer: `data_head` | release | consumer: `data_head` | acquire |
//! | consumer: `data_tail` | release | producer: `data_tail` | acquire |
//! | last producer: `closed` | release | consumer: `closed` | acquire |
//! | overwriting producer: `reserved`, then the records | release fence between them | reader: the records, then `reserved` | acquire fence between them |
//! | AUX producer: `aux_head` | release | AUX consumer: `aux_head` | acquire |
//! | AUX consumer: `aux_tail` | release | AUX producer: `aux_tail` | acquire |
//! | time page: the fields, then an even `lock` | release | its reader: `lock`, then the fields | acquire |
//! | time page: an odd `lock`, then the fields | release fence between them | its reader: the fields, then `lock` | acquire fence between them |
//! | producer: `data_head`, then look at `need_wake` | SeqCst fence between them | consumer: `need_wake`, then look at `data_head` | SeqCst fence between them |
//!
//! The whole table, with the words that shared producers have among themselves, is `src/ring/order.rs`: each row has its
//! pair and the loom models that cover it, and `loom-tests/run` weakens every order in turn and sees a model fail.

mod aux;
mod consumer;
mod describe;
mod error;
#[cfg(not(perfring_loom))]
mod image;
#[cfg(not(perfring_loom))]
mod inspect;
mod instructions;
mod layout;
mod lost;
mod memory;
#[cfg(not(perfring_loom))]
mod open;
mod order;
mod overwrite;
mod producer;
mod reservation;
mod setup;
mod shared;
mod source;
#[cfg(not(perfring_loom))]
mod sys;
#[cfg(all(feature = "dtrace", feature = "kernel"))]
pub(crate) use sys::pidfd;
#[cfg(all(feature = "dtrace", not(perfring_loom)))]
pub(crate) use sys::poll_any;
mod time_page;
mod wait;
mod wakeup;

pub use aux::{AuxConsumer, AuxData, AuxError, AuxProducer, AuxRing, AuxSnapshot, AuxSnapshotInfo, AuxWritten};
pub use consumer::{Consumer, ConsumerStats, Drain, KernelDirection, OwnedRecord, Record, Wait};
pub use describe::{AttrEntry, Description};
pub use error::{AttachError, BeginError, ReadError, ReadErrorKind, SetupError};
#[cfg(not(perfring_loom))]
pub use image::{ImageError, ImageWriter};
#[cfg(not(perfring_loom))]
pub use inspect::{InspectError, Inspection, Page, Pages, RecordState, Segment, SegmentKind};
pub use layout::{HEADER_SIZE, MAX_RECORD_SIZE, RECORD_OPEN, RECORD_PADDING, RecordHeader};
pub use lost::LostRecord;
#[cfg(all(feature = "kernel", not(perfring_loom)))]
pub(crate) use memory::announce_aux;
#[cfg(not(perfring_loom))]
pub use open::RingFds;
pub use overwrite::{OverwriteProducer, OverwriteReservation};
pub use producer::{OpenReservation, Producer};
pub use reservation::{CommitLenError, Owner, Reservation, SplitReservation};
pub use setup::{Builder, Ring};
pub use shared::SharedProducer;
pub use time_page::{
    Clock, ShortClock, TimeCapabilities, TimeFields, TimePage, TimePageError, TimePageWriter, TimeSnapshot,
};
pub use wakeup::Wake;

/// Bytes in a page of this machine: rings are multiples of it.
#[cfg(not(perfring_loom))]
pub fn page_size() -> usize {
    sys::page_size()
}

/// The rows of the order table, for the model runner: site, order, operation, pair, models.
#[cfg(perfring_loom)]
#[doc(hidden)]
pub fn order_table() -> &'static [[&'static str; 5]] {
    order::Site::TABLE
}

use std::fmt;

/// What happens when a ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// New records are refused and counted until the consumer gives space back.
    Lossless,
    /// New records overwrite the oldest granules. Confined rings only; can be read while it is written.
    OverwriteForward,
    /// New records overwrite the oldest, and each stands in front of the one before it, as in a kernel ring with
    /// `write_backward`: the head is where the newest starts.
    OverwriteBackward,
}

impl Mode {
    fn number(self) -> u32 {
        match self {
            Self::Lossless => 0,
            Self::OverwriteForward => 1,
            Self::OverwriteBackward => 2,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        [Self::Lossless, Self::OverwriteForward, Self::OverwriteBackward]
            .into_iter()
            .find(|mode| mode.number() == number)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lossless => "lossless",
            Self::OverwriteForward => "forward overwriting",
            Self::OverwriteBackward => "backward overwriting",
        })
    }
}

/// How gaps are filled in a confined ring. In a free ring they are always padding records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Padding {
    /// With zeros.
    Zero,
    /// With a record of type [`RECORD_PADDING`], for readers that do not know zeros: perf, and the raw callbacks of aya and
    /// libbpf, skip it as a type that they do not know.
    Header,
}

impl Padding {
    fn number(self) -> u32 {
        match self {
            Self::Zero => 0,
            Self::Header => 1,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        [Self::Zero, Self::Header].into_iter().find(|padding| padding.number() == number)
    }
}
