//! The verifier: which programs can run without tests.
//!
//! [`Program::verify`] follows a program on all its paths, and proves of each instruction that it does only what it may, whatever
//! the program is run on, whatever its maps hold, and whatever others do to them meanwhile. A [`Verified`] program runs
//! without tests. One that is refused comes with the instruction, its line of C, what is wrong with it, and the path that led
//! there.
//!
//! ```
//! use perfring::bpf::insn::assemble;
//! use perfring::bpf::map::{Map, MapDef};
//! use perfring::bpf::verifier::{Refusal, VerifyOptions};
//! use perfring::bpf::{Program, ProgramType};
//!
//! let text = "
//!     *(u64 *)(r10 -8) = 0
//!     r1 = map[idx:0] ll
//!     r2 = r10
//!     r2 += -8
//!     call bpf_map_lookup_elem#1
//!     r0 = *(u64 *)(r0 +0)
//!     exit";
//! let map = Map::new(&MapDef::hash("counts", 8, 8, 16), 1)?;
//! let program = Program::builder("first", ProgramType::kprobe()).maps([map]).load(assemble(text)?)?;
//! let refused = program.verify(&VerifyOptions::default()).expect_err("the element may be missing");
//! assert!(matches!(*refused.kind, Refusal::MaybeNull { reg: 0, .. }));
//! assert_eq!(
//!     refused.to_string(),
//!     "first: instruction 6: r0 is the address of a map's value, or 0: compare it with 0 before"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is proved
//!
//! Of a program that is accepted, on every run:
//!
//! - Each load and store is of bytes that the program may touch then: of its frames and those of its callers, of the value of a
//!   map, of a record or a buffer that is open, of the packet before its end, of the context as its layout says.
//! - Nothing of the stack is read that was not written.
//! - Atomic operations are on the stack, on values and on records, and aligned.
//! - The arguments of helpers are what the prototypes say.
//! - Every loop ends, or is one of `bpf_loop` or `may_goto`, which are bounded when they run; calls are nested no deeper than 8
//!   frames, and their frames take no more than [`VerifyOptions::stack`].
//! - What was reserved is given up once: at the end, at a tail call, and where it would be reserved again nothing is open.
//! - No address gets out: to a map, a buffer, a record, the context, or as the result. (Numbers that were the address of a record
//!   or a buffer remain, when that has been given up.)
//!
//! # Why that holds
//!
//! A *state* says of one point of a path what every register and every byte of the stack may hold, which records and buffers are
//! open, and which functions have been called. It stands for all runs that are as it says. These are the invariants:
//!
//! 1. **Start.** The first state stands for every start of the program: `r1` is the context, nothing else is known.
//! 2. **Step.** If a run is as a state says before an instruction, it is as one of the states behind it says; where that could not be
//!    said of every run, the program is refused. Ranges include whatever the interpreter computes of numbers in the operands' ranges
//!    (held to the interpreter's own arithmetic by tests); loads from what others may write give any number; helpers give
//!    whatever their prototype allows.
//! 3. **Branches.** Of a comparison both ways are followed, but those that no run can take; and the numbers compared, and all that are
//!    known to be the same number, are narrowed to those that go that way.
//! 4. **Covering.** A path ends early only where a state that was remembered at the same point stands for all of its runs, as far
//!    as they matter: from there on, each of them does what a run of that state does.
//! 5. **What matters** is known when all paths from the remembered state have come to their end. It is followed back as the
//!    numbers are derived: with each range goes a note of the ranges of the remembered state that it came from, and where a range is
//!    made use of, to bound an address or a size or to leave out a way of a branch, those are marked. When a path is covered, the ranges of
//!    its own that correspond to marked ones are marked in turn.
//! 6. **Loops without a bound of their own**, by `may_goto` and `bpf_loop`, end in a state that is covered, in everything that may be
//!    read later, by an earlier one of the same path. There nothing is known yet of what matters, so all of it does. Such a state is
//!    one that each round comes to, whatever their number.
//! 7. **End.** When no path is left, every run has been followed.
//!
//! The verifier rests on what the interpreter and the maps promise: values of maps stay where they are while a program runs, maps that
//! are frozen keep their contents, buffers and records stay where they are while they are open, and helpers keep their
//! prototypes. A helper that gives an address is `unsafe` to register for that reason.
//!
//! # What is known of numbers and addresses
//!
//! Of numbers: which bits are known, and bounds, as 64 and as 32 bits, unsigned and signed. Of addresses: what they lead to, and a
//! fixed and a variable offset. Registers and slots of the stack that are the same number, or the same address that may be 0, have
//! an id in common, so that a test of one is a test of all. What is looked up in an array is not 0 where the key is a known number
//! below its entries.
//!
//! A writable buffer, or a packet, is accessed through an address that was compared with its end: after `if buf + n > buf_end goto
//! out` there are `n` bytes, for all addresses to which the same numbers were added. Helpers that change the context make numbers
//! of them. A reservation is closed, open, or *maybe* open, until its result is tested.
//!
//! The rules are those of the kernel's verifier, as its documentation (`Documentation/bpf/verifier.rst`) and its behaviour tell, for
//! programs that may not leak addresses (`CAP_BPF` without `CAP_PERFMON`).

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

/// Why programs are refused, and how they are mended.
///
#[doc = include_str!("refusals.md")]
#[cfg(doc)]
pub mod refusals {}

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
    /// How many instructions are followed, on all paths together, before the program is given up as too complex:
    /// 2^30 at most, whatever it says.
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
