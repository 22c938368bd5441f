//! The lines of a linked program.

use crate::bpf::btf::{LineInfo, Strings};

/// A line of a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceLine<'a> {
    /// The file's name, as the compiler was given it.
    pub file: &'a str,
    /// From 1 on; 0 for what no line has caused.
    pub line: u32,
    /// From 1 on; 0 if it is not known.
    pub column: u16,
    /// The line itself; empty if the compiler did not find the file.
    pub text: &'a str,
}

/// Which lines the instructions of a program were made of; empty where the object has no debug information.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineTable {
    strings: Option<Strings>,
    /// From which slot on, ascending. Nothing is known where a function has no lines.
    entries: Vec<(usize, Option<LineInfo>)>,
}

impl LineTable {
    pub(super) fn new(strings: Option<Strings>) -> Self {
        Self { strings, entries: Vec::new() }
    }

    /// Behind all others.
    pub(super) fn push(&mut self, insn: usize, line: Option<LineInfo>) {
        self.entries.push((insn, line));
    }

    /// The line of the instruction in a slot.
    pub fn at(&self, insn: usize) -> Option<SourceLine<'_>> {
        let behind = self.entries.partition_point(|(start, _)| *start <= insn);
        let (_, line) = self.entries.get(behind.checked_sub(1)?)?;
        self.line(line.as_ref()?)
    }

    /// Where lines start: the slot, and the line that counts up to the next.
    pub fn iter(&self) -> impl Iterator<Item = (usize, SourceLine<'_>)> {
        self.entries.iter().filter_map(|(insn, line)| Some((*insn, self.line(line.as_ref()?)?)))
    }

    /// Whether no line is known.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    fn line(&self, info: &LineInfo) -> Option<SourceLine<'_>> {
        let strings = self.strings.as_ref()?;
        let (file, text) = (strings.text(info.file), strings.text(info.text));
        Some(SourceLine { file, line: info.line, column: info.column, text })
    }
}
