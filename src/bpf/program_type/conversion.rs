//! From the context of a caller to that of the program it calls.

use super::ProgramType;
use crate::bpf::environment::Environment;
use crate::bpf::memory::Readable;
use std::fmt;

/// What `convert_ctx` has: the context of the caller, to be read, and that of the callee, to be written.
pub struct Conversion<'a> {
    pub(crate) source: &'a ProgramType,
    pub(crate) from: Readable,
    pub(crate) to: &'a mut [u8],
    pub(crate) cpu: u32,
    pub(crate) environment: &'a dyn Environment,
}

impl fmt::Debug for Conversion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversion").field("source", &self.source).field("cpu", &self.cpu).finish_non_exhaustive()
    }
}

impl Conversion<'_> {
    /// The type of the caller.
    pub fn source(&self) -> &ProgramType {
        self.source
    }

    /// The CPU on which the programs run.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// What the programs are told of the world.
    pub fn environment(&self) -> &dyn Environment {
        self.environment
    }

    /// Bytes in the caller's context.
    pub fn source_size(&self) -> usize {
        self.from.len()
    }

    /// Reads `N` bytes of the caller's context; none if they end behind it.
    pub fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.from.part(offset, N)?.copy_out(&mut bytes);
        Some(bytes)
    }

    /// The context of the callee: zero at first.
    pub fn target(&mut self) -> &mut [u8] {
        self.to
    }

    /// Copies `size` bytes of the caller's context to that of the callee; false, and nothing is done, if they end behind
    /// either.
    #[must_use]
    pub fn copy(&mut self, from: usize, to: usize, size: usize) -> bool {
        let part = self.from.part(from, size);
        let (Some(part), Some(target)) = (part, to.checked_add(size).and_then(|end| self.to.get_mut(to..end))) else {
            return false;
        };
        part.copy_out(target);
        true
    }
}
