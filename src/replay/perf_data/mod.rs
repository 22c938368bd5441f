//! The format of `perf.data`.
