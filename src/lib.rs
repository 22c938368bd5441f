//! A stream of perf records in a ring laid out exactly as Linux lays out a perf_event ring, whoever writes it.
//!
//! The kernel writes such a ring, or a program writes one itself; [`ring::Consumer`] reads both with the same loop.
//!
//! | module | layer | what it is |
//! |---|---|---|
//! | [`ring`] | 1 | layout, memories, producers, the consumer, wake-ups |
//! | [`merge`] | 1 | several streams in the order of time |
//! | [`record`] | 1 | what the bytes of records mean: decoding and encoding |
#![cfg_attr(feature = "kernel", doc = "| [`kernel`] | 2 | the kernel as producer: events, mappings, polling |")]
#![cfg_attr(not(feature = "kernel"), doc = "| `kernel` | 2 | not in this build: needs the feature `kernel` |")]
#![cfg_attr(feature = "bpf", doc = "| [`bpf`] | 2 | eBPF programs as producers: instructions, maps, the interpreter |")]
#![cfg_attr(not(feature = "bpf"), doc = "| `bpf` | 2 | not in this build: needs the feature `bpf` |")]
#![cfg_attr(
    feature = "replay",
    doc = "| [`replay`] | 2 | recordings as producer: perf.data read, ordered, written, replayed |"
)]
#![cfg_attr(not(feature = "replay"), doc = "| `replay` | 2 | not in this build: needs the feature `replay` |")]
#![cfg_attr(feature = "dtrace", doc = "| [`dtrace`] | 3 | probes that fire programs, and what they send |")]
#![cfg_attr(not(feature = "dtrace"), doc = "| `dtrace` | 3 | not in this build: needs the feature `dtrace` |")]
//!
//! Below them lies the one file that names atomics and fences, so that loom's can take their place. A layer knows only
//! those below it.
//!
#![cfg_attr(
    doc,
    doc = "The [guides](guide) lead from an empty crate to a traced program, through the reading of rings, and into the virtual"
)]
#![cfg_attr(doc, doc = "machine. ")]
//! Where to start: [`Ring::confined`](ring::Ring::confined) and [`Ring::free`](ring::Ring::free) make rings;
//! [`Producer`](ring::Producer) writes them from one thread, [`SharedProducer`](ring::SharedProducer) from many,
//! [`OverwriteProducer`](ring::OverwriteProducer) keeps the newest records.
//!
//! ```
//! use perfring::ring::Ring;
//!
//! let ring = Ring::confined(4).private()?;
//! let (producer, mut consumer) = (ring.producer()?, ring.consumer()?);
//!
//! let mut record = producer.begin_forward_in_page(32)?;
//! record.body_mut().fill(7);
//! record.commit(9, 0);
//!
//! let read = consumer.for_each(|record| {
//!     assert_eq!(record.header().type_, 9);
//!     assert_eq!(record.body(), [7; 24]);
//! })?;
//! assert_eq!(read, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! - `kernel` (default): the module of that name.
//! - `symbols`: uprobes by the name of a function, looked up with the crate object.
//! - `replay`: the module of that name; with `zstd`, compressed recordings, too.
//! - `symbolize`: functions and source lines of the addresses in a recording.
//! - `bpf`: the module of that name.
//! - `dtrace`: the module of that name; with `kernel`, the kernel's probes, with `replay`, those of recordings.
//! - `serde`: decoded records as data of serde.
//! - `cli`: the command `perfring`.
//! - `tokio`: rings and sets of rings that are waited for asynchronously.
//! - `bench-libbpf`: libbpf as a contender of the bench `drain`. It needs the system's libelf and zlib, and changes
//!   nothing in this library.

// Under loom only what the models use is built.
#![cfg_attr(perfring_loom, allow(dead_code, unused_imports, unused_variables))]

#[cfg(feature = "bpf")]
pub mod bpf;
#[cfg(all(feature = "dtrace", not(perfring_loom)))]
pub mod dtrace;
#[cfg(any(doc, all(doctest, feature = "dtrace", feature = "kernel", feature = "replay")))]
pub mod guide;
#[cfg(all(feature = "kernel", not(perfring_loom)))]
pub mod kernel;
pub mod merge;
#[cfg(not(perfring_loom))]
pub mod record;
#[cfg(all(feature = "replay", not(perfring_loom)))]
pub mod replay;
pub mod ring;
mod sync;

/// The code in the README.
#[cfg(all(doctest, feature = "kernel"))]
#[doc = include_str!("../README.md")]
struct Readme;
