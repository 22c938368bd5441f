//! Random programs that are nearly what the verifier takes: pointers of every kind, bounded in many ways, and mistakes.
//!
//! Before each statement, and after it, `r6` is the context, `r7` to `r9` are numbers, and so are the first slots of the frame; what
//! a statement needs of pointers it makes and forgets, or keeps in the slots behind for a later one to take up.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod check;
mod forms;
mod pointers;
mod statements;
mod tally;
mod world;

pub use check::Runs;
pub use tally::Tally;
pub use world::{Case, World};

use std::fmt::Write as _;

/// What decides: a seed, or bytes that somebody else makes up.
pub struct Choices<'b> {
    state: u64,
    bytes: Option<std::slice::Iter<'b, u8>>,
}

impl<'b> Choices<'b> {
    pub fn of_seed(seed: u64) -> Self {
        Self { state: seed, bytes: None }
    }

    /// Where they are used up, what is left is all zeros.
    pub fn of_bytes(bytes: &'b [u8]) -> Self {
        Self { state: 0, bytes: Some(bytes.iter()) }
    }

    pub fn next(&mut self) -> u64 {
        if let Some(bytes) = &mut self.bytes {
            return bytes.by_ref().take(2).fold(0, |word, byte| word << 8 | u64::from(*byte)) << 32;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 32) as usize % end
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    pub fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

/// What runs the programs, and so what their context is and which helpers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// This crate, with all that it has.
    Own,
    /// The kernel too, with a packet.
    Xdp,
    /// The kernel too, with loads from a packet by instructions of their own.
    Socket,
    /// The kernel too, with helpers that trace.
    Tracepoint,
}

impl Profile {
    pub fn is_kernel(self) -> bool {
        self != Self::Own
    }
}

/// How seldom a choice is a wrong one: where verdicts are compared there are programs with many.
const MISTAKES: [usize; 2] = [24, 6];

/// A program that comes to be.
pub struct Generator<'c, 'b> {
    pub choices: &'c mut Choices<'b>,
    text: String,
    /// Functions that are behind the main one.
    functions: Vec<String>,
    labels: usize,
    /// Statements in statements.
    depth: usize,
    /// Frames.
    level: usize,
    /// Whether the frame's slot at -80 has a pointer to a value of this map.
    kept: Option<usize>,
    profile: Profile,
    mistakes: usize,
    /// What was used, for whoever counts.
    pub features: std::collections::BTreeSet<&'static str>,
}

impl<'c, 'b> Generator<'c, 'b> {
    /// The text of a program.
    pub fn program(
        choices: &'c mut Choices<'b>,
        profile: Profile,
    ) -> (String, std::collections::BTreeSet<&'static str>) {
        let mistakes = if profile.is_kernel() { choices.pick(&MISTAKES) } else { MISTAKES[0] };
        let mut this = Self {
            choices,
            text: String::new(),
            functions: Vec::new(),
            labels: 0,
            depth: 0,
            level: 0,
            kept: None,
            profile,
            mistakes,
            features: std::collections::BTreeSet::new(),
        };
        this.emit("r6 = r1");
        this.numbers();
        let count = 1 + this.choices.below(8);
        this.statements(count);
        let result = this.choices.pick(&["r0 = 0", "r0 = r7", "w0 = w8"]);
        this.emit(result);
        this.emit("exit");
        let mut text = this.text;
        for function in &this.functions {
            text += function;
        }
        (text, this.features)
    }

    fn emit(&mut self, line: impl AsRef<str>) {
        self.text += line.as_ref();
        self.text.push('\n');
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("l{}", self.labels)
    }

    fn place(&mut self, label: &str) {
        let _ = write!(self.text, "{label}: ");
    }

    fn mistake(&mut self) -> bool {
        self.choices.one_in(self.mistakes)
    }

    fn feature(&mut self, name: &'static str) {
        self.features.insert(name);
    }

    /// A number, often one at an edge.
    fn number(&mut self) -> i32 {
        match self.choices.below(5) {
            0 => self.choices.pick(&[0, 1, 2, 7, 8, 31, 32, 33, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff]),
            1 => self.choices.pick(&[i32::MIN, i32::MAX, -1, -2, -8, 1 << 16, 1 << 29]),
            2 => self.choices.below(256) as i32,
            _ => self.choices.next().rotate_left(17) as i32,
        }
    }

    /// Fills the registers and slots that are numbers.
    fn numbers(&mut self) {
        for reg in 7..10 {
            match self.choices.below(4) {
                0 => {
                    let number = self.number();
                    self.emit(format!("r{reg} = {number}"));
                }
                1 if self.level == 0 => {
                    let size = self.choices.pick(&["u64", "u32", "u16", "u8"]);
                    self.emit(match self.profile {
                        Profile::Own | Profile::Tracepoint => format!("r{reg} = *({size} *)(r6 +8)"),
                        Profile::Xdp => format!("r{reg} = *(u32 *)(r6 +12)"),
                        Profile::Socket => format!("r{reg} = *(u32 *)(r6 +0)"),
                    });
                }
                _ => {
                    let any = self.any_number();
                    self.emit(any);
                    self.emit(format!("r{reg} = r0"));
                }
            }
        }
        for slot in 1..=8 {
            let reg = self.choices.pick(&["r7", "r8", "r9", "0", "1"]);
            // Of more than six copies of a number the kernel does not narrow all.
            let reg = if self.profile.is_kernel() && slot > 3 { self.choices.pick(&["0", "1", "2"]) } else { reg };
            self.emit(format!("*(u64 *)(r10 -{}) = {reg}", 8 * slot));
        }
    }

    /// The call of a helper that gives a number; the kernel knows less of random ones than is known here.
    fn any_number(&self) -> &'static str {
        if self.profile.is_kernel() { "call bpf_ktime_get_ns#5" } else { "call bpf_get_prandom_u32#7" }
    }

    fn scratch(&mut self) -> String {
        format!("r{}", 7 + self.choices.below(3))
    }

    fn statements(&mut self, count: usize) {
        for _ in 0..count {
            self.statement();
        }
    }
}
