//! The functions of an object, and what their instructions refer to.

use super::ObjectError;
use super::error::Place;
use super::file::{Class, File, R_BPF_64_32, R_BPF_64_64, Relocation, Symbol};
use super::map::Maps;
use crate::bpf::btf::{Btf, Ext};
use crate::bpf::insn::Insn;
use std::collections::HashMap;
use std::sync::Arc;

/// The opcode of a 64-bit immediate, which takes two slots.
const LDDW: u8 = 0x18;
/// The opcode of a call.
const CALL: u8 = 0x85;
/// In the source register of a call: of a function of the program.
const LOCAL_CALL: u8 = 1;
/// In the source register of a 64-bit immediate: a function of the program.
const LOCAL_ADDRESS: u8 = 4;

pub(super) struct Function {
    pub(super) name: Arc<str>,
    pub(super) section: usize,
    /// Index of its first slot in the section.
    pub(super) start: usize,
    /// Behind its last.
    pub(super) end: usize,
    pub(super) references: Vec<Reference>,
}

impl Function {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }
}

/// What an instruction refers to.
#[derive(Clone, Copy)]
pub(super) struct Reference {
    /// Index of its slot in the function.
    pub(super) insn: usize,
    pub(super) target: Target,
}

#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A map, by its index.
    Map(usize),
    /// Data, by the index of their map and the byte.
    Value(usize, u32),
    /// A function, by its index.
    Function(usize),
}

/// Where a program starts.
pub(super) struct Program {
    pub(super) name: String,
    /// Its index.
    pub(super) function: usize,
}

/// All functions, by section and start.
pub(super) struct Functions {
    pub(super) list: Vec<Function>,
    pub(super) programs: Vec<Program>,
    /// The slots of sections of instructions.
    pub(super) insns: HashMap<usize, Vec<Insn>>,
    /// By section and start.
    at: HashMap<(usize, usize), usize>,
    /// The first program of a function.
    program_of: HashMap<usize, usize>,
}

impl Functions {
    /// Finds them; what they refer to is not known yet.
    pub(super) fn find(file: &File<'_>) -> Result<Self, ObjectError> {
        let (list, programs) = (Vec::new(), Vec::new());
        let (insns, at, program_of) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut functions = Self { list, programs, insns, at, program_of };
        for (number, section) in file.of_class(Class::Code).filter(|(_, section)| !section.bytes.is_empty()) {
            let insns = Insn::parse_in(section.bytes, file.order)
                .map_err(|error| ObjectError::CodeLength { section: section.name.to_owned(), len: error.len })?;
            functions.insns.insert(number, insns);
        }
        let mut symbols: Vec<_> = (file.symbols.iter().filter(|symbol| symbol.is_function()))
            .filter_map(|symbol| Some((symbol.section?, symbol)))
            .filter(|(section, _)| functions.insns.contains_key(section))
            .collect();
        // Of those that start at the same place the one with a length, and the one that others see, say what it is.
        symbols.sort_by_key(|(section, symbol)| (*section, symbol.value, symbol.size == 0, !symbol.global));
        for (index, (section, symbol)) in symbols.iter().enumerate() {
            functions.add(file, *section, symbol, symbols.get(index + 1..).unwrap_or_default())?;
        }
        functions.check_covered(file)?;
        // In the order of the symbols.
        for symbol in file.symbols.iter().filter(|symbol| symbol.is_function() && symbol.global) {
            let Some(section) = symbol.section else { continue };
            if file.sections.get(section).is_some_and(|section| section.name == ".text") {
                continue;
            }
            if let Some(function) = functions.at_byte(section, symbol.value) {
                functions.program_of.entry(function).or_insert(functions.programs.len());
                functions.programs.push(Program { name: symbol.name.to_owned(), function });
            }
        }
        Ok(functions)
    }

    fn add(
        &mut self,
        file: &File<'_>,
        section: usize,
        symbol: &Symbol<'_>,
        behind: &[(usize, &Symbol<'_>)],
    ) -> Result<(), ObjectError> {
        let name_of_section = file.sections.get(section).map_or("", |section| section.name);
        let slots = self.insns.get(&section).map_or(0, Vec::len) as u64;
        let range = ObjectError::FunctionRange {
            function: symbol.name.to_owned(),
            section: name_of_section.to_owned(),
            offset: symbol.value,
            size: symbol.size,
        };
        let next = behind.first().filter(|(of, _)| *of == section).map_or(slots * 8, |(_, next)| next.value);
        // Another name for the last one.
        if let Some(last) = self.list.last()
            && last.section == section
            && last.start as u64 * 8 == symbol.value
        {
            let len = (last.len() as u64) * 8;
            return if symbol.size == 0 || symbol.size == len { Ok(()) } else { Err(range) };
        }
        let size = if symbol.size == 0 { next.saturating_sub(symbol.value) } else { symbol.size };
        let end = symbol.value.checked_add(size).filter(|end| *end <= slots * 8 && end % 8 == 0);
        let (Some(end), true) = (end, size != 0 && symbol.value.is_multiple_of(8)) else { return Err(range) };
        // Both are at most the number of slots.
        let (start, end) = ((symbol.value / 8) as usize, (end / 8) as usize);
        if let Some(last) = self.list.last()
            && last.section == section
            && last.end > start
        {
            return Err(ObjectError::FunctionsOverlap {
                first: last.name.to_string(),
                second: symbol.name.to_owned(),
                section: name_of_section.to_owned(),
            });
        }
        self.at.insert((section, start), self.list.len());
        self.list.push(Function { name: symbol.name.into(), section, start, end, references: Vec::new() });
        Ok(())
    }

    /// Every instruction is in a function: none is lost.
    fn check_covered(&self, file: &File<'_>) -> Result<(), ObjectError> {
        let mut ends: HashMap<usize, usize> = self.insns.keys().map(|section| (*section, 0)).collect();
        let lost = |section: usize, insn| {
            let section = file.sections.get(section).map_or("", |section| section.name);
            ObjectError::NoFunction { section: section.to_owned(), insn }
        };
        for function in &self.list {
            let end = ends.insert(function.section, function.end).unwrap_or_default();
            if end != function.start {
                return Err(lost(function.section, end));
            }
        }
        let cut =
            ends.into_iter().filter(|(section, end)| self.insns.get(section).is_some_and(|all| all.len() != *end));
        cut.min().map_or(Ok(()), |(section, end)| Err(lost(section, end)))
    }

    fn at_byte(&self, section: usize, byte: u64) -> Option<usize> {
        let slot = usize::try_from(byte / 8).ok().filter(|_| byte.is_multiple_of(8))?;
        self.at.get(&(section, slot)).copied()
    }

    /// The name of the program that starts at this byte.
    pub(super) fn program_at(&self, section: usize, byte: u64) -> Option<&str> {
        let program = self.program_of.get(&self.at_byte(section, byte)?)?;
        Some(&self.programs.get(*program)?.name)
    }

    /// Finds out what instructions refer to.
    pub(super) fn resolve(
        &mut self,
        file: &File<'_>,
        maps: &Maps,
        btf: Option<(&Btf, Option<&Ext>)>,
    ) -> Result<(), ObjectError> {
        let mut all = Vec::with_capacity(self.list.len());
        for function in &self.list {
            all.push(Resolver { file, maps, btf, functions: self, function }.references()?);
        }
        for (function, references) in self.list.iter_mut().zip(all) {
            function.references = references;
        }
        Ok(())
    }
}

struct Resolver<'a, 'f> {
    file: &'a File<'f>,
    maps: &'a Maps,
    btf: Option<(&'a Btf, Option<&'a Ext>)>,
    functions: &'a Functions,
    function: &'a Function,
}

impl<'f> Resolver<'_, 'f> {
    fn references(&self) -> Result<Vec<Reference>, ObjectError> {
        let Function { section, start, end, .. } = *self.function;
        let Some((code, all)) = self.file.sections.get(section).zip(self.functions.insns.get(&section)) else {
            return Ok(Vec::new());
        };
        let insns = all.get(start..end).unwrap_or_default();
        // A function is in its section, so these do not overflow.
        let from = code.relocations.partition_point(|relocation| relocation.offset < start as u64 * 8);
        let to = code.relocations.partition_point(|relocation| relocation.offset < end as u64 * 8);
        let mut relocations = code.relocations.get(from..to).unwrap_or_default().iter().peekable();
        // Every section's last function sees what is behind it.
        if let Some(behind) = code.relocations.get(to).filter(|_| end == all.len()) {
            return Err(self.no_insn(behind));
        }
        let mut references = Vec::new();
        let mut at = 0;
        while let Some(insn) = insns.get(at) {
            let here = (start + at) as u64 * 8;
            if let Some(relocation) = relocations.next_if(|relocation| relocation.offset == here) {
                let target = self.relocated(at, insn, insns.get(at + 1), relocation)?;
                references.push(Reference { insn: at, target });
            } else if let Some(target) = self.called(at, insn, all.len())? {
                references.push(Reference { insn: at, target });
            }
            at += if insn.opcode == LDDW { 2 } else { 1 };
            if let Some(skipped) = relocations.peek().filter(|relocation| relocation.offset < (start + at) as u64 * 8) {
                return Err(self.no_insn(skipped));
            }
        }
        Ok(references)
    }

    fn no_insn(&self, relocation: &Relocation) -> ObjectError {
        ObjectError::RelocationOffset { section: self.section(self.function.section), offset: relocation.offset }
    }

    fn section(&self, number: usize) -> String {
        self.file.sections.get(number).map_or("", |section| section.name).to_owned()
    }

    /// The instruction of this index in the function, for a message.
    fn place(&self, at: usize) -> Box<Place> {
        let section = self.section(self.function.section);
        let insn = self.function.start + at;
        let line = self.btf.and_then(|(btf, ext)| {
            let lines = ext?.lines(&section);
            let last = lines.partition_point(|line| line.insn <= insn).checked_sub(1)?;
            let line = lines.get(last).filter(|line| line.insn >= self.function.start && line.line != 0)?;
            Some((line.file(btf).to_owned(), line.line))
        });
        Box::new(Place { section, function: self.function.name.to_string(), insn, line })
    }

    /// Where a call, or the address of a function, leads that is not relocated: into its own section.
    fn called(&self, at: usize, insn: &Insn, slots: usize) -> Result<Option<Target>, ObjectError> {
        let local = match insn.opcode {
            CALL => insn.src == LOCAL_CALL,
            LDDW => insn.src == LOCAL_ADDRESS,
            _ => false,
        };
        if !local {
            return Ok(None);
        }
        let Function { section, start, end, .. } = *self.function;
        let target = (start + at) as i64 + 1 + i64::from(insn.imm);
        let slot = usize::try_from(target).ok().filter(|slot| *slot < slots);
        match slot.and_then(|slot| self.functions.at.get(&(section, slot))) {
            Some(function) => Ok(Some(Target::Function(*function))),
            // It moves with its function, so the distance stays.
            None if slot.is_some_and(|slot| (start..end).contains(&slot)) => Ok(None),
            None => {
                Err(ObjectError::FunctionReference { place: self.place(at), section: self.section(section), target })
            }
        }
    }

    fn relocated(
        &self,
        at: usize,
        insn: &Insn,
        second: Option<&Insn>,
        relocation: &Relocation,
    ) -> Result<Target, ObjectError> {
        let Some(symbol) = self.file.symbols.get(relocation.symbol) else { return Err(self.no_insn(relocation)) };
        let name = || self.file.symbol_name(symbol).to_owned();
        let (opcode, type_) = (insn.opcode, relocation.type_);
        let wrong = || ObjectError::RelocationInsn { place: self.place(at), symbol: name(), type_, opcode };
        let Some(section) = symbol.section else {
            let place = self.place(at);
            return Err(match symbol.undefined {
                true => ObjectError::Extern { place, symbol: name(), weak: symbol.weak },
                false => ObjectError::RelocationTarget { place, symbol: name(), section: String::new() },
            });
        };
        // A symbol is at most where its section ends, or wrong in any case.
        let value = i64::try_from(symbol.value).unwrap_or(i64::MAX);
        match (type_, opcode) {
            (R_BPF_64_64, LDDW) => {
                let Some(second) = second else { return Err(wrong()) };
                let addend = i64::from(second.imm) << 32 | i64::from(insn.imm as u32);
                self.address(at, symbol, section, value.saturating_add(addend))
            }
            (R_BPF_64_32, CALL) if insn.src == LOCAL_CALL => {
                let target = (value / 8).saturating_add(i64::from(insn.imm)).saturating_add(1);
                match value % 8 {
                    0 => self.function(at, section, target),
                    _ => Err(wrong()),
                }
            }
            (R_BPF_64_64 | R_BPF_64_32, _) => Err(wrong()),
            _ => Err(ObjectError::RelocationType { place: self.place(at), symbol: name(), type_ }),
        }
    }

    /// What is at byte `offset` of a section.
    fn address(&self, at: usize, symbol: &Symbol<'f>, section: usize, offset: i64) -> Result<Target, ObjectError> {
        let class = self.file.sections.get(section).map_or(Class::Other, |section| section.class);
        let (place, name) = (|| self.place(at), || self.file.symbol_name(symbol).to_owned());
        let of = |map: usize| self.maps.list.get(map);
        match class {
            Class::LegacyMaps | Class::BtfMaps => {
                let map = u64::try_from(offset).ok().and_then(|offset| self.maps.at.get(&(section, offset)));
                let section = self.section(section);
                map.map(|map| Target::Map(*map)).ok_or_else(|| ObjectError::MapReference {
                    place: place(),
                    symbol: name(),
                    section,
                    offset,
                })
            }
            Class::Data => {
                let map = self.maps.data.get(&section).and_then(|map| Some((*map, of(*map)?.value_size)));
                let (map, size) = map.unwrap_or((0, 0));
                match u32::try_from(offset) {
                    Ok(inside) if inside < size => Ok(Target::Value(map, inside)),
                    _ => {
                        let section = self.section(section);
                        Err(ObjectError::DataReference { place: place(), symbol: name(), section, offset, size })
                    }
                }
            }
            Class::Code if offset % 8 == 0 => self.function(at, section, offset / 8),
            Class::Code => {
                let section = self.section(section);
                Err(ObjectError::FunctionReference { place: place(), section, target: offset / 8 })
            }
            Class::Other => {
                let section = self.section(section);
                Err(ObjectError::RelocationTarget { place: place(), symbol: name(), section })
            }
        }
    }

    fn function(&self, at: usize, section: usize, target: i64) -> Result<Target, ObjectError> {
        let found = usize::try_from(target).ok().and_then(|slot| self.functions.at.get(&(section, slot)));
        found.map(|function| Target::Function(*function)).ok_or_else(|| ObjectError::FunctionReference {
            place: self.place(at),
            section: self.section(section),
            target,
        })
    }
}
