//! eBPF programs as producers: instructions, objects, maps and the interpreter.
//!
//! Instructions are those of RFC 9669; types, maps, helpers and errno values are those of the uapi header `linux/bpf.h`.

#[cfg(not(perfring_loom))]
pub mod btf;
#[cfg(not(perfring_loom))]
pub mod elf;
#[cfg(not(perfring_loom))]
pub mod insn;
pub mod map;
#[cfg(not(perfring_loom))]
mod memory;
