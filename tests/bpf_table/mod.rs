//! The table of opcodes in the documentation, as data.

#![allow(dead_code, reason = "each test binary uses its part")]

use perfring::bpf::insn::{Insn, Op};

/// What a field may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Any,
    /// 0 to 10.
    Register,
    /// 0 to 9.
    Written,
    Exactly(i32),
}

impl Field {
    fn parse(text: &str) -> Self {
        match text {
            "any" => Self::Any,
            "r" => Self::Register,
            "w" => Self::Written,
            text => Self::Exactly(match text.strip_prefix("0x") {
                Some(digits) => i32::from_str_radix(digits, 16).expect("a number"),
                None => text.parse().expect("a number"),
            }),
        }
    }

    fn matches(self, value: i32) -> bool {
        match self {
            Self::Any => true,
            Self::Register => (0..=10).contains(&value),
            Self::Written => (0..=9).contains(&value),
            Self::Exactly(wanted) => value == wanted,
        }
    }

    fn example(self, value: i32) -> i32 {
        if let Self::Exactly(wanted) = self { wanted } else { value }
    }

    fn fill(self, seed: i32) -> i32 {
        match self {
            Self::Any => seed,
            Self::Register => seed.rem_euclid(11),
            Self::Written => seed.rem_euclid(10),
            Self::Exactly(wanted) => wanted,
        }
    }
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub opcode: u8,
    pub dst: Field,
    pub src: Field,
    pub offset: Field,
    pub imm: Field,
    pub next: Option<Field>,
    pub text: String,
    pub group: String,
    pub variant: String,
}

impl Row {
    /// Whether the instruction is one of this line.
    pub fn matches(&self, insns: &[Insn; 2]) -> bool {
        let [first, second] = insns;
        self.opcode == first.opcode
            && self.dst.matches(first.dst.into())
            && self.src.matches(first.src.into())
            && self.offset.matches(first.offset.into())
            && self.imm.matches(first.imm)
            && self.next.is_none_or(|next| next.matches(second.imm))
    }

    /// The instruction that the text is of.
    pub fn example(&self) -> [Insn; 2] {
        self.with([1, 2, 3, 7, 9], Field::example)
    }

    /// Any instruction of this line.
    pub fn fill(&self, seed: [u64; 4]) -> [Insn; 2] {
        let [_, a, b, c] = seed;
        self.with([a as i32, (a >> 32) as i32, i32::from(b as i16), (b >> 32) as i32, c as i32], Field::fill)
    }

    fn with(&self, values: [i32; 5], choose: impl Fn(Field, i32) -> i32) -> [Insn; 2] {
        let [dst, src, offset, imm, next] = values;
        let first = Insn {
            opcode: self.opcode,
            dst: choose(self.dst, dst) as u8,
            src: choose(self.src, src) as u8,
            offset: choose(self.offset, offset) as i16,
            imm: choose(self.imm, imm),
        };
        [first, Insn { imm: self.next.map_or(0, |field| choose(field, next)), ..Insn::default() }]
    }

    /// Whether this is the `callx` that is encoded otherwise than it was decoded.
    pub fn old_callx(&self) -> bool {
        self.opcode == 0x8d && self.imm == Field::Register
    }
}

/// The lines of the table.
pub fn rows() -> Vec<Row> {
    let rows: Vec<Row> = include_str!("../../src/bpf/insn/opcodes.md")
        .lines()
        .filter(|line| line.starts_with("| `0x"))
        .map(|line| {
            // A bar of a text is escaped.
            let line = line.replace("\\|", "\u{1}");
            let cells: Vec<String> =
                line.split('|').map(|cell| cell.trim().trim_matches('`').replace('\u{1}', "|")).collect();
            let [_, opcode, dst, src, offset, imm, next, text, group, variant, _] = &cells[..] else {
                panic!("nine cells: {line}")
            };
            Row {
                opcode: u8::from_str_radix(opcode.trim_start_matches("0x"), 16).expect("an opcode"),
                dst: Field::parse(dst),
                src: Field::parse(src),
                offset: Field::parse(offset),
                imm: Field::parse(imm),
                next: (!next.is_empty()).then(|| Field::parse(next)),
                text: text.clone(),
                group: group.clone(),
                variant: variant.clone(),
            }
        })
        .collect();
    assert!(rows.len() > 180, "{} lines", rows.len());
    rows
}

/// The name of the operation.
pub fn variant(op: &Op) -> String {
    let debug = format!("{op:?}");
    debug.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
