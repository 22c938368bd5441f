//! Recordings as a producer: `perf.data` read, put in the order of time, written, and replayed through a ring.

pub mod perf_data;
