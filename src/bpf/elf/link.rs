//! Programs with everything that they call.

use super::file::File;
use super::function::{Functions, Program, Target};
use super::{LineTable, LinkedFunction, ObjectError, ProgramSpec};
use crate::bpf::btf::{Btf, CoreRelo, Ext};
use crate::bpf::insn::Insn;
use std::collections::HashMap;

/// In the source register of a 64-bit immediate: a map by its index.
const MAP_INDEX: u8 = 5;
/// Likewise: a byte of the value of a map by its index.
const MAP_INDEX_VALUE: u8 = 6;
/// Likewise: a function of the program.
const LOCAL_ADDRESS: u8 = 4;
/// The opcode of a 64-bit immediate.
const LDDW: u8 = 0x18;

pub(super) struct Linker<'a, 'f> {
    pub(super) file: &'a File<'f>,
    pub(super) functions: &'a Functions,
    pub(super) btf: Option<&'a Btf>,
    pub(super) ext: Option<&'a Ext>,
    /// Instructions that may still be made.
    pub(super) left: usize,
}

impl Linker<'_, '_> {
    /// Puts the functions that a program calls, and those that they call, behind it: each once.
    pub(super) fn link(&mut self, program: &Program) -> Result<ProgramSpec, ObjectError> {
        let list = &self.functions.list;
        let section = list.get(program.function).map_or("", |function| self.section(function.section));
        let mut spec = ProgramSpec {
            name: program.name.clone(),
            section: section.to_owned(),
            insns: Vec::new(),
            maps: Vec::new(),
            functions: Vec::new(),
            lines: LineTable::new(self.btf.map(|btf| btf.strings().clone())),
            core_relos: Vec::new(),
        };
        let mut order = vec![program.function];
        let mut starts = HashMap::from([(program.function, 0)]);
        // Where the next one that is found will start.
        let mut end = 0;
        let mut done = 0;
        end += self.claim(program.function, program)?;
        while let Some(&function) = order.get(done) {
            done += 1;
            let Some(of) = list.get(function) else { break };
            let start = spec.insns.len();
            self.copy(function, start, &mut spec);
            for reference in &of.references {
                let at = start + reference.insn;
                let (map, offset) = match reference.target {
                    Target::Map(map) => (map, None),
                    Target::Value(map, offset) => (map, Some(offset)),
                    Target::Function(callee) => {
                        let target = match starts.get(&callee) {
                            Some(target) => *target,
                            None => {
                                starts.insert(callee, end);
                                order.push(callee);
                                let target = end;
                                end += self.claim(callee, program)?;
                                target
                            }
                        };
                        if let Some(insn) = spec.insns.get_mut(at) {
                            // Both are at most `Object::MAX_INSNS`.
                            insn.imm = (target as i64 - at as i64 - 1) as i32;
                            if insn.opcode == LDDW {
                                insn.src = LOCAL_ADDRESS;
                                set_second(&mut spec.insns, at, 0);
                            }
                        }
                        continue;
                    }
                };
                if let Some(insn) = spec.insns.get_mut(at) {
                    // There are fewer maps than bytes in the file, and the limit of instructions is far smaller.
                    insn.imm = map as i32;
                    insn.src = if offset.is_some() { MAP_INDEX_VALUE } else { MAP_INDEX };
                    set_second(&mut spec.insns, at, offset.unwrap_or_default());
                }
                spec.maps.push((at, map));
            }
        }
        Ok(spec)
    }

    fn section(&self, number: usize) -> &str {
        self.file.sections.get(number).map_or("", |section| section.name)
    }

    /// The length of a function that is about to be copied.
    fn claim(&mut self, function: usize, program: &Program) -> Result<usize, ObjectError> {
        let len = self.functions.list.get(function).map_or(0, |function| function.len());
        let most = super::Object::MAX_INSNS;
        let too_large = || ObjectError::TooLarge { program: program.name.clone(), most };
        self.left = self.left.checked_sub(len).ok_or_else(too_large)?;
        Ok(len)
    }

    /// A function with its lines, to where the program ends.
    fn copy(&self, function: usize, start: usize, spec: &mut ProgramSpec) {
        let Some(of) = self.functions.list.get(function) else { return };
        let insns = self.functions.insns.get(&of.section).and_then(|insns| insns.get(of.start..of.end));
        spec.insns.extend_from_slice(insns.unwrap_or_default());
        let section = self.section(of.section);
        let ext = self.ext;
        let types = ext.map_or(&[][..], |ext| ext.funcs(section));
        let type_ = types.binary_search_by_key(&of.start, |info| info.insn).ok().and_then(|at| types.get(at));
        let type_ = type_.map(|info| info.type_);
        spec.functions.push(LinkedFunction { insn: start, name: of.name.clone(), type_ });
        let lines = within(ext.map_or(&[], |ext| ext.lines(section)), of.start, of.end, |line| line.insn);
        if lines.first().is_none_or(|first| first.insn != of.start) {
            spec.lines.push(start, None);
        }
        for line in lines {
            let insn = line.insn - of.start + start;
            spec.lines.push(insn, Some(crate::bpf::btf::LineInfo { insn, ..*line }));
        }
        let relos = within(ext.map_or(&[], |ext| ext.core_relos(section)), of.start, of.end, |relo| relo.insn);
        spec.core_relos.extend(relos.iter().map(|relo| CoreRelo { insn: relo.insn - of.start + start, ..*relo }));
    }
}

/// What is on the slots from `start` to `end`, of a list in their order.
fn within<T>(list: &[T], start: usize, end: usize, insn: impl Fn(&T) -> usize) -> &[T] {
    let from = list.partition_point(|item| insn(item) < start);
    let to = list.partition_point(|item| insn(item) < end);
    list.get(from..to).unwrap_or_default()
}

/// Sets the upper half of the 64-bit immediate at `at`.
fn set_second(insns: &mut [Insn], at: usize, imm: u32) {
    if let Some(second) = insns.get_mut(at + 1) {
        second.imm = imm as i32;
    }
}
