//! Objects of clang, field by field; hand-made ones with one defect each; and what is cut off or changed.

mod common;

use std::process::Command;

use perfring::bpf::btf::{CoreReloKind, Kind};
use perfring::bpf::elf::{MapKind, MapSpec, Object, ObjectError, Place, ProgramKind, ProgramSpec, SectionName};
use perfring::bpf::insn::{Callee, Code, CodeOptions, Imm64, Op};
use perfring::record::ByteOrder;

const LEGACY: &[u8] = include_bytes!("bpf/legacy.bpf.o");
const MAPS: &[u8] = include_bytes!("bpf/maps.bpf.o");
const DATA: &[u8] = include_bytes!("bpf/data.bpf.o");
const CALLS: &[u8] = include_bytes!("bpf/calls.bpf.o");
const CALLS_BE: &[u8] = include_bytes!("bpf/calls.be.bpf.o");
const CALLS_PLAIN: &[u8] = include_bytes!("bpf/calls.plain.bpf.o");
const CALLS_V4: &[u8] = include_bytes!("bpf/calls.v4.bpf.o");
const CORE: &[u8] = include_bytes!("bpf/core.bpf.o");
const EXTERN: &[u8] = include_bytes!("bpf/extern.bpf.o");
const WEAK: &[u8] = include_bytes!("bpf/weak.bpf.o");
const POINTER: &[u8] = include_bytes!("bpf/pointer.bpf.o");
const OUTPUT: &[u8] = include_bytes!("bpf/output.bpf.o");

const GOOD: &[(&str, &[u8])] = &[
    ("legacy", LEGACY),
    ("maps", MAPS),
    ("data", DATA),
    ("calls", CALLS),
    ("calls.be", CALLS_BE),
    ("calls.plain", CALLS_PLAIN),
    ("calls.v4", CALLS_V4),
    ("core", CORE),
    ("output", OUTPUT),
];

fn parse(bytes: &[u8]) -> Object {
    Object::parse(bytes).unwrap_or_else(|error| panic!("{error}"))
}

fn code(program: &ProgramSpec) -> Code {
    Code::new(program.insns.clone(), CodeOptions::default()).unwrap_or_else(|error| panic!("{}: {error}", program.name))
}

fn numbers(map: &MapSpec) -> (&str, u32, u32, u32, u32, u32) {
    (&map.name, map.type_, map.key_size, map.value_size, map.max_entries, map.flags)
}

#[test]
fn legacy_maps_are_read() {
    let object = parse(LEGACY);
    assert_eq!((object.license.as_deref(), object.version), (Some("GPL"), Some(0x06_0100)));
    assert_eq!((object.byte_order, object.btf.is_none()), (ByteOrder::Little, true));
    let maps: Vec<_> = object.maps.iter().map(numbers).collect();
    assert_eq!(maps, [("counts", 2, 4, 8, 16, 0), ("seen", 1, 8, 4, 1024, 1)]);
    assert!(object.maps.iter().all(|map| map.kind == MapKind::Legacy && map.key_type.is_none()));
    let programs: Vec<_> = object.programs.iter().map(|p| (p.name.as_str(), p.section.as_str(), &p.maps[..])).collect();
    assert_eq!(programs, [("count", "socket/count", &[(4, 0)][..]), ("see", "socket/count", &[(8, 1)])]);
    let [count, see] = &object.programs[..] else { panic!() };
    let map = Op::LoadImm64 { dst: perfring::bpf::insn::Reg::R1, imm: Imm64::MapIndex(0) };
    assert_eq!(code(count).op(4), Some(&map));
    assert_eq!((count.insns.len(), see.insns.len()), (12, 13));
    assert!(count.lines.is_empty() && count.lines.at(0).is_none() && count.core_relos.is_empty());
    assert_eq!(count.section_name().kind, Some(ProgramKind::Socket));
}

#[test]
fn maps_that_btf_describes_are_read() {
    let object = parse(MAPS);
    let btf = object.btf.as_ref().unwrap();
    let maps: Vec<_> = object.maps.iter().map(numbers).collect();
    assert_eq!(
        maps,
        [
            ("programs", 3, 4, 4, 8, 0),
            ("ring", 27, 0, 0, 4096, 0),
            ("pinned", 1, 12, 40, 300, 1),
            ("ecbs", 2, 4, 8, 128, 0),
            ("events", 4, 4, 4, 0, 0),
            (".rodata", 2, 4, 5, 1, 0x80),
        ]
    );
    let values = [(1, "first".to_owned()), (5, "second".to_owned())];
    assert_eq!(object.map("programs").unwrap().values, values);
    assert_eq!(object.map("pinned").unwrap().pinning, 1);
    assert_eq!(object.map("ring").unwrap().pinning, 0);
    let ecbs = object.map("ecbs").unwrap();
    assert_eq!(btf.name(ecbs.key_type.unwrap()), "u32");
    // A typedef of a constant struct.
    assert_eq!(btf.name(ecbs.value_type.unwrap()), "entry");
    let members: Vec<_> = btf.members(ecbs.value_type.unwrap()).unwrap().map(|member| member.name).collect();
    assert_eq!(members, ["id", "probe_id"]);
    assert_eq!(ecbs.kind, MapKind::Btf);

    let kinds: Vec<_> =
        object.programs.iter().map(|program| (program.section_name().kind, program.section_name().autoload)).collect();
    let dtrace = |slot| Some(ProgramKind::Dtrace { slot: Some(slot) });
    assert_eq!(kinds, [(dtrace(1), true), (dtrace(5), false), (Some(ProgramKind::Kprobe), true)]);
    let enter = object.program("enter").unwrap();
    let used: Vec<_> = enter.maps.iter().map(|(insn, map)| (*insn, object.maps[*map].name.as_str())).collect();
    assert_eq!(used, [(5, "ecbs"), (11, "programs")]);
    assert_eq!(btf.name(enter.functions[0].type_.unwrap()), "enter");
    let line = enter.lines.at(0).unwrap();
    assert_eq!((line.file, line.text), ("./maps.bpf.c", "int enter(void *context)"));
}

#[test]
fn sections_of_data_are_maps() {
    let object = parse(DATA);
    let btf = object.btf.as_ref().unwrap();
    let maps: Vec<_> = object.maps.iter().map(numbers).collect();
    assert_eq!(
        maps,
        [
            (".rodata", 2, 4, 8, 1, 0x80),
            (".data", 2, 4, 16, 1, 0),
            (".data.own", 2, 4, 4, 1, 0),
            (".rodata.fixed", 2, 4, 8, 1, 0x80),
            (".bss", 2, 4, 36, 1, 0),
            (".rodata.str1.1", 2, 4, 10, 1, 0x80),
        ]
    );
    let bytes = |name| match &object.map(name).unwrap().kind {
        MapKind::Data { section, bytes } if section == name => bytes.clone(),
        kind => panic!("{kind:?}"),
    };
    assert_eq!(bytes(".rodata"), [10, 0, 0, 0, 4, 3, 2, 1]);
    assert_eq!(bytes(".data"), [5, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0]);
    assert_eq!(bytes(".data.own"), 77_u32.to_le_bytes());
    assert_eq!(bytes(".rodata.fixed"), 0x1122_3344_5566_7788_u64.to_le_bytes());
    assert_eq!(bytes(".bss"), []);
    assert_eq!(bytes(".rodata.str1.1"), b"total %d\n\0");
    let types = object.map(".bss").unwrap().value_type.unwrap();
    assert_eq!((btf.name(types), btf.type_(types).unwrap().kind()), (".bss", Kind::Datasec));
    let code = code(object.program("add").unwrap());
    let values: Vec<_> = code
        .iter()
        .filter_map(|(_, op)| match op {
            Op::LoadImm64 { imm: Imm64::MapIndexValue { index, offset }, .. } => Some((*index, *offset)),
            _ => None,
        })
        .collect();
    // total, limit, wanted; step, the hidden one by the section's symbol, zeros, own, last, the format, fixed.
    let wanted = [(1, 0), (0, 0), (0, 4), (1, 8), (1, 12), (4, 0), (2, 0), (4, 32), (5, 0), (3, 0)];
    assert_eq!(values, wanted);
    let program = object.program("add").unwrap();
    assert_eq!(program.maps.len(), values.len());
    assert!(program.maps.iter().zip(values).all(|((_, map), (index, _))| *map == index as usize));
}

/// Functions of a program, and for each those that it calls or takes the address of.
fn calls(program: &ProgramSpec) -> Vec<(String, Vec<String>)> {
    let code = code(program);
    let name = |at| program.function_of(at).unwrap().name.to_string();
    let mut calls: Vec<_> = program.functions.iter().map(|function| (function.name.to_string(), Vec::new())).collect();
    for (at, op) in code.iter() {
        if op.function().is_some() {
            let target = code.target(at).unwrap();
            assert_eq!(program.function_of(target).unwrap().insn, target);
            let (_, list) = calls.iter_mut().find(|(caller, _)| *caller == name(at)).unwrap();
            list.push(name(target));
        }
    }
    calls
}

#[test]
fn what_is_called_is_linked_behind_each_program_once() {
    for (name, bytes) in GOOD.iter().filter(|(name, _)| name.starts_with("calls")) {
        let object = parse(bytes);
        let names: Vec<_> = object.programs.iter().map(|program| program.name.as_str()).collect();
        assert_eq!(names, ["one", "two", "three"], "{name}: nothing of .text, and nothing static, is a program");
        let list = |of: &[(&str, &[&str])]| -> Vec<(String, Vec<String>)> {
            let owned = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
            of.iter().map(|(name, calls)| ((*name).to_owned(), owned(calls))).collect()
        };
        let one = list(&[
            ("one", &["hidden", "beside", "middle"]),
            ("hidden", &["middle"]),
            ("beside", &[]),
            ("middle", &["leaf", "leaf"]),
            ("leaf", &[]),
        ]);
        assert_eq!(calls(&object.programs[0]), one, "{name}");
        assert_eq!(calls(&object.programs[1]), list(&[("two", &["beside"]), ("beside", &[])]), "{name}");
        let three = list(&[("three", &["step", "beside"]), ("step", &[]), ("beside", &[])]);
        assert_eq!(calls(&object.programs[2]), three, "{name}");
        // The callback's address.
        let code = code(&object.programs[2]);
        let callback = code.iter().find(|(_, op)| matches!(op, Op::LoadImm64 { imm: Imm64::Function(_), .. })).unwrap();
        let step = &object.programs[2].functions[1];
        assert_eq!((code.target(callback.0), &*step.name), (Some(step.insn), "step"));
        assert!(code.iter().any(|(_, op)| matches!(op, Op::Call(Callee::Helper(181)))));
    }
}

#[test]
fn byte_orders_and_debug_information_make_no_difference() {
    let (little, big, plain) = (parse(CALLS), parse(CALLS_BE), parse(CALLS_PLAIN));
    assert_eq!((little.byte_order, big.byte_order), (ByteOrder::Little, ByteOrder::Big));
    assert_eq!(little.programs.len(), 3);
    for (little, big) in little.programs.iter().zip(&big.programs) {
        assert_eq!((&little.insns, &little.maps, &little.functions), (&big.insns, &big.maps, &big.functions));
        let lines = |program: &ProgramSpec| {
            program.lines.iter().map(|(at, line)| (at, line.line, line.text.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(lines(little), lines(big));
        assert!(!lines(little).is_empty());
    }
    let initial = |object: &Object| match &object.map(".data").unwrap().kind {
        MapKind::Data { bytes, .. } => bytes.clone(),
        _ => panic!(),
    };
    assert_eq!((initial(&little), initial(&big)), (vec![1, 0, 0, 0], vec![0, 0, 0, 1]));
    assert!(plain.btf.is_none() && plain.programs.iter().all(|program| program.lines.is_empty()));
}

#[test]
fn lines_follow_the_functions() {
    let object = parse(CALLS);
    let source = include_str!("bpf/calls.bpf.c");
    for program in &object.programs {
        for (at, line) in program.lines.iter().filter(|(_, line)| line.line != 0) {
            assert_eq!(line.file, "./calls.bpf.c");
            assert_eq!(Some(line.text), source.lines().nth(line.line as usize - 1), "{at}");
            assert_eq!(program.lines.at(at), Some(line));
        }
    }
    let one = object.program("one").unwrap();
    let first_line = |name| {
        let function = one.functions.iter().find(|function| &*function.name == name).unwrap();
        one.lines.at(function.insn).unwrap().text.trim()
    };
    assert_eq!(first_line("leaf"), "NOINLINE int leaf(int x)");
    assert_eq!(first_line("hidden"), "calls += 2;");
    let v4 = parse(CALLS_V4);
    let divides = |program: &ProgramSpec| {
        code(program).iter().any(|(_, op)| matches!(op, Op::Alu { op: perfring::bpf::insn::AluOp::Sdiv, .. }))
    };
    assert!(divides(v4.program("one").unwrap()), "the fixture has instructions of version 4");
}

#[test]
fn relocations_of_types_move_with_their_instructions() {
    let object = parse(CORE);
    let btf = object.btf.as_ref().unwrap();
    let program = object.program("wake").unwrap();
    let relos: Vec<_> = program.core_relos.iter().map(|r| (r.access(btf), r.kind)).collect();
    use CoreReloKind::{FieldByteOffset, FieldExists};
    assert_eq!(relos, [("0:2", FieldByteOffset), ("0:1", FieldByteOffset), ("0:0", FieldExists)]);
    // What the compiler put in: the offset of the member, and that it exists.
    let imm: Vec<_> = program.core_relos.iter().map(|relo| program.insns[relo.insn].imm).collect();
    assert_eq!(imm, [8, 4, 1]);
}

#[test]
fn names_of_sections_say_the_type() {
    use ProgramKind::*;
    let known: &[(&str, ProgramKind, &str)] = &[
        ("kprobe/do_exit", Kprobe, "do_exit"),
        ("kprobe", Kprobe, ""),
        ("kretprobe/a/b", Kretprobe, "a/b"),
        ("ksyscall/read", Ksyscall, "read"),
        ("kretsyscall/read", Kretsyscall, "read"),
        ("uprobe//bin/sh:main", Uprobe, "/bin/sh:main"),
        ("uprobe.s/x", Uprobe, "x"),
        ("uretprobe/x", Uretprobe, "x"),
        ("tp/sched/sched_switch", Tracepoint, "sched/sched_switch"),
        ("tracepoint/a/b", Tracepoint, "a/b"),
        ("raw_tp/x", RawTracepoint, "x"),
        ("raw_tracepoint/x", RawTracepoint, "x"),
        ("perf_event", PerfEvent, ""),
        ("xdp", Xdp, ""),
        ("xdp.frags/x", Xdp, "x"),
        ("socket", Socket, ""),
        ("dtrace/0", Dtrace { slot: Some(0) }, ""),
        ("dtrace/1/a:b:c:d", Dtrace { slot: Some(1) }, "a:b:c:d"),
        ("dtrace/1/2", Dtrace { slot: Some(1) }, "2"),
        ("dtrace", Dtrace { slot: None }, ""),
        ("dtrace/a:b:c:d", Dtrace { slot: None }, "a:b:c:d"),
        ("dtrace/4294967295", Dtrace { slot: Some(u32::MAX) }, ""),
    ];
    for &(name, kind, rest) in known {
        let wanted = SectionName { kind: Some(kind), rest, autoload: true };
        assert_eq!(SectionName::parse(name), Ok(wanted), "{name}");
        let optional = format!("?{name}");
        assert_eq!(SectionName::parse(&optional).unwrap(), SectionName { autoload: false, ..wanted });
    }
    for name in ["", "kprobes/x", "kprobe.multi/x", "lsm/x", "socket1", "dtracer/1", "prog"] {
        assert_eq!(SectionName::parse(name), Ok(SectionName { kind: None, rest: name, autoload: true }));
    }
    for slot in ["", "+1", "-1", " 1", "1 ", "0x1", "4294967296", "one"] {
        let error = SectionName::parse(&format!("dtrace/{slot}")).unwrap_err();
        assert_eq!(error.slot, slot);
    }
    assert!(SectionName::parse("dtrace/").is_err());
}

#[test]
fn functions_are_those_that_objdump_finds() {
    for (name, bytes) in GOOD {
        let path = format!("{}/tests/bpf/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"));
        let found = ["llvm-objdump-19", "llvm-objdump"].iter().find_map(|tool| {
            let output = Command::new(tool).args(["-d", "--mcpu=v4", &path]).output().ok()?;
            output.status.success().then_some(output)
        });
        let Some(output) = found else { return common::lacks("llvm-objdump") };
        let text = String::from_utf8(output.stdout).unwrap();
        let mut theirs: Vec<(String, Vec<u8>)> = Vec::new();
        for line in text.lines() {
            if let Some((_, name)) = line.strip_suffix(">:").and_then(|line| line.split_once('<')) {
                // Labels are local symbols of the same section.
                if !name.starts_with("LBB") {
                    theirs.push((name.to_owned(), Vec::new()));
                }
            } else if let Some((_, rest)) = line.trim().split_once(":\t") {
                // The first line says the format.
                let Some((_, opcodes)) = theirs.last_mut() else { continue };
                opcodes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
            }
        }
        let object = parse(bytes);
        let mut checked = 0;
        for program in &object.programs {
            let code = code(program);
            for function in &program.functions {
                let ours: Vec<_> = (code.iter().map(|(at, _)| at))
                    .filter(|at| program.function_of(*at) == Some(function))
                    .map(|at| program.insns[at].opcode)
                    .collect();
                let (_, theirs) = theirs.iter().find(|(name, _)| **name == *function.name).unwrap();
                assert_eq!(&ours, theirs, "{name}: {}", function.name);
                checked += 1;
            }
        }
        assert!(checked > 0);
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let place = Place {
        section: "kprobe/do_exit".to_owned(),
        function: "leave".to_owned(),
        insn: 0,
        line: Some(("./extern.bpf.c".to_owned(), 21)),
    };
    let error = Object::parse(EXTERN).unwrap_err();
    let missing =
        |weak| ObjectError::Extern { place: Box::new(place.clone()), symbol: "bpf_of_kernel".to_owned(), weak };
    assert_eq!(error, missing(false));
    assert_eq!(
        error.to_string(),
        "section kprobe/do_exit, function leave, instruction 0 (./extern.bpf.c:21): bpf_of_kernel is not in this object, \
         and that is not supported"
    );
    assert_eq!(Object::parse(WEAK), Err(missing(true)));
    let pointer = ObjectError::DataRelocation { section: ".data".to_owned(), offset: 8, symbol: "value".to_owned() };
    assert_eq!(Object::parse(POINTER), Err(pointer));
}

/// What holds of every object that was read.
fn check(object: &Object) {
    let mut total = 0;
    for program in &object.programs {
        total += program.insns.len();
        assert_eq!(program.functions.first().map(|function| function.insn), Some(0));
        assert!(program.functions.is_sorted_by(|a, b| a.insn < b.insn));
        for (insn, map) in &program.maps {
            let spec = &object.maps[*map];
            let slot = program.insns[*insn];
            assert_eq!((slot.opcode, slot.imm as usize), (0x18, *map));
            if slot.src == 6 {
                assert!((program.insns[insn + 1].imm as u32) < spec.value_size);
            }
        }
        assert!(program.core_relos.iter().all(|relo| relo.insn < program.insns.len()));
        assert!(program.lines.iter().all(|(insn, _)| insn < program.insns.len()));
        let _ = Code::new(program.insns.clone(), CodeOptions::default());
    }
    assert!(total <= Object::MAX_INSNS);
}

#[test]
fn what_is_cut_off_is_an_error() {
    for (name, bytes) in GOOD {
        check(&parse(bytes));
        for len in 0..bytes.len() {
            // Some end in section headers, which all matter.
            assert!(Object::parse(&bytes[..len]).is_err(), "{name}: {len}");
        }
    }
}

#[test]
fn what_is_changed_never_panics() {
    let mut errors = 0;
    for (_, bytes) in GOOD {
        for at in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = bytes.to_vec();
                changed[at] ^= change;
                match Object::parse(&changed) {
                    Ok(object) => check(&object),
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        errors += 1;
                    }
                }
            }
        }
    }
    assert!(errors > 5000, "{errors}");
}
