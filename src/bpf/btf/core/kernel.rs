//! The types of the running kernel.

use crate::bpf::btf::Btf;
use std::io;
use std::path::Path;

impl Btf {
    /// Where the kernel has its types, if it was built with `CONFIG_DEBUG_INFO_BTF`.
    pub const OF_KERNEL: &str = "/sys/kernel/btf/vmlinux";

    /// The types of the running kernel, without those of its modules.
    ///
    /// # Errors
    ///
    /// The kernel does not show them, or they cannot be read ([`io::ErrorKind::InvalidData`], with a
    /// [`BtfError`](super::super::BtfError)).
    pub fn of_running_kernel() -> io::Result<Self> {
        let bytes = std::fs::read(Path::new(Self::OF_KERNEL))?;
        Self::parse(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}
