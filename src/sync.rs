//! Atomics and cells, std or loom.
