//! Functions by address: the symbol tables of ELF files.

use super::elf::{Elf, ElfError, Section, text_at};
use std::cmp::Reverse;

/// The functions of one symbol table, in the order of their addresses.
#[derive(Debug)]
pub(super) struct SymbolTable {
    functions: Vec<Function>,
    names: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    pub(super) start: u64,
    /// Behind its last byte.
    pub(super) end: u64,
    /// Where its name begins.
    pub(super) name: u32,
}

impl SymbolTable {
    /// How many functions before an address are looked at: those that end before it, inside of a longer one.
    const NESTED: usize = 16;

    /// The table in sections of this kind, if there is one with functions.
    pub(super) fn load(elf: &Elf, kind: u32, budget: &mut u64) -> Result<Option<Self>, ElfError> {
        let Some(section) = elf.sections.iter().find(|section| section.kind == kind) else { return Ok(None) };
        let damaged = ElfError::Damaged { what: "symbol tables" };
        let names = elf.sections.get(section.link as usize).ok_or(damaged)?;
        let symbols = elf.read(section, budget)?;
        let names = elf.read(names, budget)?;
        Ok(Self::new(functions(elf, &symbols, &names), names, budget))
    }

    /// A table of functions that are in the order of their addresses, if there are any.
    pub(super) fn new(functions: Vec<Function>, names: Vec<u8>, budget: &mut u64) -> Option<Self> {
        // The names were read, and so counted.
        *budget = budget.saturating_sub((functions.len() * size_of::<Function>()) as u64);
        Some(Self { functions, names }).filter(|table| !table.functions.is_empty())
    }

    /// The name of the function with an address, and where it begins.
    pub(super) fn get(&self, address: u64) -> Option<(&[u8], u64)> {
        let before = self.functions.partition_point(|function| function.start <= address);
        let candidates = self.functions.get(..before)?.iter().rev().take(Self::NESTED);
        let function = candidates.into_iter().find(|function| address < function.end)?;
        Some((text_at(&self.names, function.name)?, function.start))
    }
}

/// The functions among symbols.
fn functions(elf: &Elf, symbols: &[u8], names: &[u8]) -> Vec<Function> {
    const ARM: u16 = 40;
    // The last bit says that the function is in Thumb code.
    let mask = if elf.machine == ARM { !1 } else { !0 };
    let mut code: Vec<_> = elf.sections.iter().filter(|section| section.is_code()).collect();
    code.sort_unstable_by_key(|section| section.address);

    let mut found = Vec::new();
    for symbol in symbols.chunks_exact(if elf.format.is_64 { 24 } else { 16 }) {
        if let Some(symbol) = Symbol::read(elf, symbol)
            && let Some(name) = text_at(names, symbol.name)
            && symbol.is_function(elf, name)
        {
            found.push(Symbol { start: symbol.start & mask, ..symbol });
        }
    }
    // Of several with one address the best comes first, and stays.
    found.sort_unstable_by_key(|symbol| {
        let name = text_at(names, symbol.name).unwrap_or_default();
        (symbol.start, Reverse(symbol.rank(name)))
    });
    found.dedup_by_key(|symbol| symbol.start);

    let mut functions: Vec<_> = found
        .iter()
        .map(|symbol| Function {
            start: symbol.start,
            end: symbol.start.saturating_add(symbol.size),
            name: symbol.name,
        })
        .collect();
    // One without a size goes on to the next, or to the end of its section.
    let mut next = u64::MAX;
    for function in functions.iter_mut().rev() {
        if function.end == function.start {
            let after = code.partition_point(|section| section.address <= function.start);
            let section = after.checked_sub(1).and_then(|at| code.get(at));
            let end = section.map_or(0, |section| section.address.saturating_add(section.size));
            function.end = end.min(next).max(function.start);
        }
        next = function.start;
    }
    functions.retain(|function| function.end > function.start);
    functions.shrink_to_fit();
    functions
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    name: u32,
    info: u8,
    section: u16,
    start: u64,
    size: u64,
}

impl Symbol {
    const NOTYPE: u8 = 0;
    const FUNC: u8 = 2;
    const GNU_IFUNC: u8 = 10;

    fn read(elf: &Elf, bytes: &[u8]) -> Option<Self> {
        let format = elf.format;
        let at = |at_64, at_32| if format.is_64 { at_64 } else { at_32 };
        Some(Self {
            name: format.u32(bytes, 0)?,
            info: *bytes.get(at(4, 12))?,
            section: format.u16(bytes, at(6, 14))?,
            start: format.word(bytes, 8, 4)?,
            size: format.word(bytes, 16, 8)?,
        })
    }

    fn is_function(&self, elf: &Elf, name: &[u8]) -> bool {
        const UNDEFINED: u16 = 0;
        if self.section == UNDEFINED || name.is_empty() {
            return false;
        }
        match self.info & 0xf {
            Self::FUNC | Self::GNU_IFUNC => true,
            // What an assembler's labels are; `$x` and the like tell code from data.
            Self::NOTYPE => {
                let section: Option<&Section> = elf.sections.get(usize::from(self.section));
                section.is_some_and(Section::is_code) && !name.starts_with(b"$") && !name.starts_with(b".L")
            }
            _ => false,
        }
    }

    /// Which of several names is taken, as `perf` chooses: one with a size, not weak, global, with fewer underscores in
    /// front, longer.
    fn rank(&self, name: &[u8]) -> (bool, bool, bool, Reverse<usize>, usize, Reverse<u32>) {
        const GLOBAL: u8 = 1;
        const WEAK: u8 = 2;
        let binding = self.info >> 4;
        let underscores = name.iter().take_while(|byte| **byte == b'_').count();
        let global = binding == GLOBAL;
        (self.size > 0, binding != WEAK, global, Reverse(underscores), name.len(), Reverse(self.name))
    }
}
