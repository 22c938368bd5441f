//! The stubs of the procedure linkage table, through which functions of other files are called.

use super::elf::{Elf, ElfError, Section, text_at};
use super::table::{Function, SymbolTable};

const X86: u16 = 3;
const X86_64: u16 = 62;
const AARCH64: u16 = 183;
/// Bytes in a stub of these machines.
const STUB: u64 = 16;

/// The stubs by the names of the functions that they call, with `@plt` behind, as disassemblers and `perf` name them.
pub(super) fn load(elf: &Elf, budget: &mut u64) -> Result<Option<SymbolTable>, ElfError> {
    const RELA: u32 = 4;
    // A processor that checks where jumps lead to has what is called in a section of its own.
    let Some(stubs) = elf.section(".plt.sec").or_else(|| elf.section(".plt")) else { return Ok(None) };
    let Some(relocations) = elf.section(".rela.plt").or_else(|| elf.section(".rel.plt")) else { return Ok(None) };
    let parts = || {
        let symbols = elf.sections.get(relocations.link as usize).filter(|section| section.kind == Section::DYNSYM)?;
        Some((symbols, elf.sections.get(symbols.link as usize)?))
    };
    let Some((symbols, names)) = parts() else { return Ok(None) };
    let size = match (elf.format.is_64, relocations.kind == RELA) {
        (true, true) => 24,
        (true, false) => 16,
        (false, true) => 12,
        (false, false) => 8,
    };
    // The others are as long as the stubs are; before them stands what finds a function when it is called first.
    let count = relocations.size / size as u64;
    let Some(first) = stubs.size.checked_sub(count.saturating_mul(STUB)) else { return Ok(None) };
    if !matches!((elf.machine, first), (X86 | X86_64, 0 | 16) | (AARCH64, 32)) {
        return Ok(None);
    }

    let [relocations, symbols, names] =
        [elf.read(relocations, budget)?, elf.read(symbols, budget)?, elf.read(names, budget)?];
    let (mut functions, mut text) = (Vec::new(), Vec::new());
    for (index, relocation) in (0..).zip(relocations.chunks_exact(size)) {
        let start = stubs.address.saturating_add(first).saturating_add(index * STUB);
        let name = || {
            let info = elf.format.word(relocation, 8, 4)?;
            let symbol = usize::try_from(if elf.format.is_64 { info >> 32 } else { info >> 8 }).ok()?;
            let at = symbol.checked_mul(if elf.format.is_64 { 24 } else { 16 })?;
            text_at(&names, elf.format.u32(&symbols, at)?).filter(|name| !name.is_empty())
        };
        let Some(name) = name() else { continue };
        if (text.len() + name.len()) as u64 > *budget {
            break;
        }
        functions.push(Function { start, end: start.saturating_add(STUB), name: text.len() as u32 });
        text.extend([name, b"@plt\0"].concat());
    }
    Ok(SymbolTable::new(functions, text, budget))
}
