//! Stacks of functions and how often each was seen: as lines, and as a flame graph.

use crate::command::picture::{self, PictureError};
use perfring::record::{Body, CpuMode, Decoded};
use perfring::replay::symbolize::Symbolizer;
use perfring::replay::{AddressSpaces, Frames, Mapping};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

/// What a sample counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// One.
    #[default]
    Samples,
    /// Its period: the number of events that it stands for.
    Period,
}

/// How stacks are counted and named.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What a sample counts for.
    pub weight: Weight,
    /// Functions of the kernel end with `_[k]`, which gives them a color of their own in some palettes.
    pub annotate_kernel: bool,
}

/// Counts the stacks of samples.
///
/// The lines are those of `inferno-collapse-perf` with its defaults, but for the count: that takes the period where
/// `perf script` prints it. They are the name of the thread, `:TID` if it is not known, then
/// the functions from the outermost, separated by semicolons, and the count. Functions without arguments; those that were
/// inlined like others; where none is known, the name of the file in brackets, or `[unknown]`. In names, semicolons become
/// colons, and other characters that would end a line or the name, underscores; in names of threads, so do spaces.
///
/// There is one node for each stack and each start of one: at most [`MAX_NODES`](Self::MAX_NODES) of some 50 bytes, and at
/// most [`MAX_TEXT`](Self::MAX_TEXT) bytes of names. Samples whose stacks would need more are [left out](Self::left_out).
#[derive(Debug, Default)]
pub struct Folded {
    options: Options,
    nodes: Vec<Node>,
    by_parent: HashMap<(u32, u32), u32>,
    names: Vec<Arc<str>>,
    by_text: HashMap<Arc<str>, u32>,
    /// The names of functions as they were before, and whether they are the kernel's.
    by_function: HashMap<(Arc<str>, bool), u32>,
    text: usize,
    total: u64,
    left_out: u64,
    /// The functions of the sample at hand, from the innermost.
    stack: Vec<u32>,
}

/// A function, or a thread, below the one that called it.
#[derive(Debug)]
struct Node {
    parent: u32,
    name: u32,
    count: u64,
}

/// The parent of threads.
const NONE: u32 = u32::MAX;

impl Folded {
    /// Most nodes.
    pub const MAX_NODES: usize = 1 << 22;
    /// Most bytes of names.
    pub const MAX_TEXT: usize = 1 << 28;

    /// Nothing is counted yet.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// The sum of all counts.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many samples were not counted, because there were too many different stacks, or the sum would be too large.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Counts a sample; other records are nothing to count. One without a period of its own has that of its event:
    /// `attr.sample_period`, or 1 where that is a frequency.
    pub fn sample(&mut self, spaces: &AddressSpaces, symbolizer: &mut Symbolizer, record: &Decoded<'_>, period: u64) {
        let Body::Sample(sample) = &record.body else { return };
        let (pid, tid) = sample.tid().map_or((u32::MAX, u32::MAX), |tid| (tid.pid, tid.tid));
        let mut stack = std::mem::take(&mut self.stack);
        stack.clear();
        let mut is_whole = true;
        for frame in Frames::new(&record.header, sample) {
            let location = spaces.resolve(pid, frame.cpumode, frame.address);
            let symbols = location.map(|location| symbolizer.symbols(&location));
            let symbols = symbols.as_deref().unwrap_or_default();
            let is_kernel = self.options.annotate_kernel && frame.cpumode == CpuMode::Kernel;
            for symbol in symbols {
                is_whole &= self.function(&symbol.name, is_kernel).map(|name| stack.push(name)).is_some();
            }
            if symbols.is_empty() {
                let text = location.map_or(Cow::Borrowed("[unknown]"), |location| file_name(location.mapping));
                is_whole &= self.intern(&text).map(|name| stack.push(name)).is_some();
            }
        }
        if sample.callchain().is_some_and(|chain| chain.deferred_cookie().is_some()) {
            is_whole &= self.intern("[deferred]").map(|name| stack.push(name)).is_some();
        }
        if stack.is_empty() {
            is_whole &= self.intern("[unknown]").map(|name| stack.push(name)).is_some();
        }
        let comm = match spaces.comm(pid, tid) {
            Some(comm) if !comm.is_empty() => {
                escaped(&String::from_utf8_lossy(comm)).replace(char::is_whitespace, "_").into()
            }
            _ if tid == u32::MAX => Cow::Borrowed(":-1"),
            _ => Cow::Owned(format!(":{tid}")),
        };
        is_whole &= self.intern(&comm).map(|name| stack.push(name)).is_some();

        let weight = match self.options.weight {
            Weight::Samples => 1,
            Weight::Period => sample.period().unwrap_or(period),
        };
        match self.total.checked_add(weight).filter(|_| is_whole) {
            Some(total) if self.count(&stack, weight) => self.total = total,
            _ => self.left_out += 1,
        }
        self.stack = stack;
    }

    /// Adds to the count of a stack.
    fn count(&mut self, stack: &[u32], weight: u64) -> bool {
        let mut at = NONE;
        for &name in stack.iter().rev() {
            at = match self.by_parent.get(&(at, name)) {
                Some(known) => *known,
                None if self.nodes.len() >= Self::MAX_NODES => return false,
                None => {
                    let new = self.nodes.len() as u32;
                    self.nodes.push(Node { parent: at, name, count: 0 });
                    self.by_parent.insert((at, name), new);
                    new
                }
            };
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            // Not above the total, which was checked.
            node.count += weight;
        }
        true
    }

    /// The number of a function's name.
    fn function(&mut self, name: &Arc<str>, is_kernel: bool) -> Option<u32> {
        let key = (name.clone(), is_kernel);
        if let Some(known) = self.by_function.get(&key) {
            return Some(*known);
        }
        let mut text = escaped(without_arguments(name)).into_owned();
        if text.is_empty() {
            text.push_str("[unknown]");
        }
        if is_kernel {
            text.push_str("_[k]");
        }
        let number = self.intern(&text)?;
        self.text += name.len();
        self.by_function.insert(key, number);
        Some(number)
    }

    /// The number of a name, if it is known or there is room for it.
    fn intern(&mut self, text: &str) -> Option<u32> {
        if let Some(known) = self.by_text.get(text) {
            return Some(*known);
        }
        if self.names.len() >= Self::MAX_NODES || self.text + text.len() > Self::MAX_TEXT {
            return None;
        }
        let (number, text) = (self.names.len() as u32, Arc::<str>::from(text));
        self.text += text.len();
        self.names.push(text.clone());
        self.by_text.insert(text, number);
        Some(number)
    }

    /// Writes the lines, in the order of their bytes.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write_folded(&self, out: &mut impl Write) -> io::Result<()> {
        let parent_of = |node: u32| self.nodes.get(node as usize).map_or(NONE, |node| node.parent);
        let mut by_parent: Vec<_> = (0..self.nodes.len() as u32).collect();
        by_parent.sort_by_key(|node| parent_of(*node));
        let children = |parent| {
            let start = by_parent.partition_point(|node| parent_of(*node) < parent);
            let end = by_parent.partition_point(|node| parent_of(*node) <= parent);
            by_parent.get(start..end).unwrap_or_default()
        };
        // What is below a node: lines that end there, and lines that go on.
        let lines_of = |parent| {
            let mut items = Vec::new();
            for &child in children(parent) {
                items.extend(self.nodes.get(child as usize).filter(|node| node.count > 0).map(|_| (child, false)));
                items.extend(Some((child, true)).filter(|_| !children(child).is_empty()));
            }
            // A line that goes on does so with a semicolon, which is not the smallest character.
            items.sort_by_cached_key(|(child, goes_on)| {
                let end: &[u8] = if *goes_on { b";" } else { b"" };
                [self.name_of(*child).as_bytes(), end].concat()
            });
            items.into_iter()
        };
        let mut line = String::new();
        let mut open = vec![(lines_of(NONE), 0)];
        while let Some((items, len)) = open.last_mut() {
            line.truncate(*len);
            let Some((node, is_caller)) = items.next() else {
                open.pop();
                continue;
            };
            line.push_str(self.name_of(node));
            if is_caller {
                line.push(';');
                open.push((lines_of(node), line.len()));
            } else {
                let count = self.nodes.get(node as usize).map_or(0, |node| node.count);
                writeln!(out, "{line} {count}")?;
            }
        }
        Ok(())
    }

    /// Draws the stacks as a flame graph. Its colors depend on nothing but the names.
    ///
    /// # Errors
    ///
    /// [`PictureError::Empty`] if nothing was counted, [`PictureError::TooLarge`] if the lines are too many to be drawn, and
    /// those of writing.
    pub fn write_svg(&self, title: &str, out: &mut impl Write) -> Result<(), PictureError> {
        if self.total == 0 {
            return Err(PictureError::Empty);
        }
        let mut lines = picture::Lines::default();
        self.write_folded(&mut lines).map_err(|_| PictureError::TooLarge)?;
        let count_name = match self.options.weight {
            Weight::Samples => "samples",
            Weight::Period => "events",
        };
        picture::flamegraph(lines.as_str().lines(), title, count_name, out)
    }

    fn name_of(&self, node: u32) -> &str {
        let name = self.nodes.get(node as usize).and_then(|node| self.names.get(node.name as usize));
        name.map_or("", |name| name)
    }
}

/// `[libc.so.6]`, and `[vdso]` as it is.
fn file_name(mapping: &Mapping) -> Cow<'static, str> {
    let name = String::from_utf8_lossy(mapping.filename());
    // The kernel's name is followed by that of a symbol.
    let in_brackets = name.strip_prefix('[').and_then(|name| name.split(']').next());
    let base = in_brackets.or_else(|| name.rsplit('/').next()).unwrap_or_default();
    match base.is_empty() {
        true => "[unknown]".into(),
        false => format!("[{}]", escaped(base)).into(),
    }
}

/// What would end a name, a line or the stack is replaced.
fn escaped(name: &str) -> Cow<'_, str> {
    let replacement = |c: char| match c {
        ';' => Some(':'),
        // XML has no place for the last two.
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => Some('_'),
        _ => None,
    };
    let name = name.trim();
    let mut name = match name.chars().any(|c| replacement(c).is_some()) {
        true => Cow::Owned(name.chars().map(|c| replacement(c).unwrap_or(c)).collect()),
        false => Cow::Borrowed(name),
    };
    // A number at the end would be taken for the count.
    if let Some((start, last)) = name.rsplit_once(' ')
        && last.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        name = format!("{start}_{last}").into();
    }
    name
}

/// A function's name up to the parenthesis before its arguments. Those in brackets belong to the name, and so do those of
/// C++'s `(anonymous namespace)` and those of the types of methods in Go, which follow a period.
fn without_arguments(name: &str) -> &str {
    let (mut depth, mut before) = (0_i64, ' ');
    for (at, c) in name.char_indices() {
        match c {
            '(' if depth == 0 && before != '.' && !name[at..].starts_with("(anonymous namespace)") => {
                return name[..at].trim_end();
            }
            '<' | '{' | '[' | '(' => depth += 1,
            '>' | '}' | ']' | ')' => depth -= 1,
            _ => {}
        }
        before = c;
    }
    name
}

#[cfg(test)]
mod tests;
