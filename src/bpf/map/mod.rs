//! Maps: what programs keep between their runs, and share with each other and with Rust.
