//! Programs in both modes: as they are loaded, each access tested, and verified, none tested.

#![allow(dead_code, reason = "each test binary uses its part")]

use perfring::bpf::insn::{Insn, assemble_with};
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Helpers, Program, ProgramType, RunError, TrapKind};

/// Bytes in a `struct __sk_buff`.
pub const SK_BUFF: usize = 192;

pub fn assemble(text: &str) -> Vec<Insn> {
    let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
    assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

pub fn load(type_: &ProgramType, maps: &[&Map], text: &str) -> Program {
    let maps = maps.iter().map(|map| (*map).clone());
    Program::builder("test", type_).maps(maps).license("GPL").load(assemble(text)).unwrap()
}

#[track_caller]
pub fn verify(program: &Program) -> Program {
    let verified = program.verify(&VerifyOptions::default()).unwrap_or_else(|error| panic!("{error}\n{}", error.log));
    assert!(verified.is_verified());
    verified.into()
}

/// The program as it was loaded, and verified.
#[track_caller]
pub fn both(type_: &ProgramType, maps: &[&Map], text: &str) -> [Program; 2] {
    let program = load(type_, maps, text);
    assert!(!program.is_verified());
    let verified = verify(&program);
    [program, verified]
}

pub fn array(name: &str, size: u32, entries: u32) -> Map {
    Map::new(&MapDef::array(name, size, entries), 2).unwrap()
}

pub fn prog_array(owner: &ProgramType) -> Map {
    Map::prog_array(&MapDef::prog_array("programs", 8), owner).unwrap()
}

pub fn words(map: &Map) -> Vec<Vec<u8>> {
    map.iter().map(|element| element.unwrap().1).collect()
}

/// What comes out of both modes, which is the same.
#[track_caller]
pub fn same<T: PartialEq + std::fmt::Debug>(programs: &[Program; 2], mut run: impl FnMut(&Program) -> T) -> T {
    let [checked, verified] = programs.each_ref().map(&mut run);
    assert_eq!(checked, verified);
    verified
}

#[track_caller]
pub fn trap(result: Result<u64, RunError>) -> (usize, TrapKind) {
    match result {
        Err(RunError::Trap(trap)) => (trap.insn, trap.kind),
        other => panic!("{other:?}"),
    }
}
