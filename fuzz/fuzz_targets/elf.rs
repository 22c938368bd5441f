//! Arbitrary bytes as an object, and as BTF: what is read is sound in itself, whatever it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perfring::bpf::btf::core::Relocator;
use perfring::bpf::btf::{Btf, Type, TypeId};
use perfring::bpf::elf::{Object, ProgramSpec};
use perfring::bpf::insn::{Code, CodeOptions};

/// Every type that a type refers to is there.
fn check_types(btf: &Btf) {
    let is_there = |id: TypeId| assert!(btf.type_(id).is_some(), "type {id} of {}", btf.len());
    for (id, type_) in btf.types() {
        match type_ {
            Type::Ptr { target }
            | Type::Typedef { target }
            | Type::Volatile { target }
            | Type::Const { target }
            | Type::Restrict { target }
            | Type::DeclTag { target, .. }
            | Type::TypeTag { target } => is_there(*target),
            Type::Array { element, index, .. } => [*element, *index].into_iter().for_each(is_there),
            Type::Func { proto, .. } => is_there(*proto),
            Type::FuncProto { returns, params } => {
                is_there(*returns);
                params.iter().for_each(|param| is_there(param.type_));
            }
            Type::Var { type_, .. } => is_there(*type_),
            Type::Datasec { vars, .. } => vars.iter().for_each(|var| is_there(var.var)),
            Type::Struct { .. } | Type::Union { .. } => {
                btf.members(id).expect("a struct").for_each(|member| is_there(member.type_));
            }
            _ => {}
        }
        // These end, however types refer to each other.
        let _ = (btf.resolve(id), btf.size_of(id));
    }
}

/// Its functions, maps and lines are within the program.
fn check_program(object: &Object, program: &ProgramSpec) {
    assert_eq!(program.functions.first().map(|function| function.insn), Some(0));
    assert!(program.functions.is_sorted_by(|a, b| a.insn < b.insn));
    assert!(program.functions.iter().all(|function| function.insn < program.insns.len()));
    for (insn, map) in &program.maps {
        let slot = program.insns[*insn];
        assert_eq!((slot.opcode, slot.imm as usize), (0x18, *map));
        let spec = &object.maps[*map];
        assert!(slot.src == 5 || (program.insns[insn + 1].imm as u32) < spec.value_size);
    }
    assert!(program.core_relos.iter().all(|relo| relo.insn < program.insns.len()));
    let mut last = None;
    for (insn, line) in program.lines.iter() {
        assert!(insn < program.insns.len() && last.replace(insn) < Some(insn));
        assert_eq!(program.lines.at(insn), Some(line));
    }
    if let Some(btf) = &object.btf {
        let mut insns = program.insns.clone();
        let mut relocator = Relocator::new(btf, Some(btf));
        match relocator.apply(&mut insns, &program.core_relos) {
            Ok(unresolved) => assert!(unresolved.iter().all(|error| !error.to_string().is_empty())),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        assert_eq!(insns.len(), program.insns.len());
    }
    let _ = program.section_name();
    if let Ok(code) = Code::new(program.insns.clone(), CodeOptions { callx: true }) {
        assert_eq!(code.len(), program.insns.len());
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(btf) = Btf::parse(bytes) {
        check_types(&btf);
    }
    match Object::parse(bytes) {
        Ok(object) => {
            if let Some(btf) = &object.btf {
                check_types(btf);
            }
            object.programs.iter().for_each(|program| check_program(&object, program));
            let insns: usize = object.programs.iter().map(|program| program.insns.len()).sum();
            assert!(insns <= Object::MAX_INSNS);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
