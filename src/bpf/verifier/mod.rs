//! The verifier: which programs can run without tests.

mod alu;
mod bounds;
mod branch;
mod call;
mod cover;
mod error;
mod flow;
mod kind;
mod log;
mod memory;
mod range;
#[cfg(test)]
mod range_tests;
mod rule;
mod stack;
mod state;
mod step;
mod tnum;
mod trace;
mod walk;

pub use error::{Leave, Refusal, VerifyError};
pub use kind::{Interval, Kind};

use super::program::Program;
use std::ops::{Deref, Range};

/// What frames are rounded up to where those of a chain of calls are added up.
const FRAME_GRANULE: u32 = 16;

/// How much is written to the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// Nothing.
    #[default]
    None,
    /// Of a program that is refused, the path to where it is: every instruction, and the registers that it changed.
    Path,
    /// All paths, in the order in which they were followed.
    All,
}

/// How a program is verified.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The log.
    pub log: LogLevel,
    /// How many instructions are followed, on all paths together, before the program is given up as too complex.
    pub insns: u64,
    /// How many bytes are taken, before the program is given up as too complex.
    pub memory: usize,
    /// Bytes of stack that the functions of a call chain may have together.
    pub stack: u32,
    /// Whether instructions that no path reaches are refused.
    pub refuse_dead_code: bool,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { log: LogLevel::None, insns: 1_000_000, memory: 1 << 30, stack: 512, refuse_dead_code: false }
    }
}

/// What verification took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyStats {
    /// Instructions that were followed, on all paths together.
    pub insns: u64,
    /// States that were remembered to be compared with later ones.
    pub states: u64,
    /// The most of them at once.
    pub peak_states: usize,
    /// Paths that ended because one that covers them had been followed before.
    pub pruned: u64,
    /// The most bytes taken at once, about.
    pub memory: usize,
    /// Bytes of stack that the functions of the deepest call chain have together.
    pub stack: u32,
    /// The most frames at once.
    pub frames: usize,
    /// Slots of instructions that no path reaches.
    pub dead: Vec<Range<usize>>,
}

/// A program that was proved safe: it runs without tests.
///
/// It keeps its maps, its type and its helpers, which the proof is about. Only [`Program::verify`] makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    program: Program,
    stats: VerifyStats,
    log: String,
}

impl Program {
    /// Proves that the program does only what it may, on whatever it is run.
    ///
    /// # Errors
    /// [`VerifyError`]: what could not be proved.
    #[expect(unsafe_code, reason = "that what was accepted runs without tests is what verification is for")]
    pub fn verify(&self, options: &VerifyOptions) -> Result<Verified, VerifyError> {
        let (facts, stats, log) = walk::Walk::new(&self.0, options).run()?;
        // SAFETY: the facts are of this program, of which the walk followed all paths and refused none.
        let program = unsafe { self.with_proof(&facts) };
        Ok(Verified::new(program, stats, log))
    }
}

impl Verified {
    pub(crate) fn new(program: Program, stats: VerifyStats, log: String) -> Self {
        Self { program, stats, log }
    }

    /// The program, for maps of programs and for machines. It stays verified.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What it took.
    pub fn stats(&self) -> &VerifyStats {
        &self.stats
    }

    /// The log, as far as it was asked for.
    pub fn log(&self) -> &str {
        &self.log
    }
}

impl Deref for Verified {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl From<Verified> for Program {
    fn from(verified: Verified) -> Self {
        verified.program
    }
}
