//! Probes that fire eBPF programs, and what these send.
