//! BTF: types of compiled objects against a second opinion, hand-made types of every kind, and what is damaged.

mod common;

use std::fmt::Write as _;
use std::process::Command;

use object::read::elf::{ElfFile64, FileHeader};
use object::read::{Object as _, ObjectSection as _};
use perfring::bpf::btf::{Btf, BtfError, CoreReloKind, Kind, Linkage, Type, TypeId};
use perfring::record::ByteOrder;

/// Objects with BTF.
const OBJECTS: &[(&str, &[u8])] = &[
    ("maps", include_bytes!("bpf/maps.bpf.o")),
    ("data", include_bytes!("bpf/data.bpf.o")),
    ("calls", include_bytes!("bpf/calls.bpf.o")),
    ("calls.be", include_bytes!("bpf/calls.be.bpf.o")),
    ("calls.v4", include_bytes!("bpf/calls.v4.bpf.o")),
    ("core", include_bytes!("bpf/core.bpf.o")),
];

fn section(object: &[u8], name: &str) -> Vec<u8> {
    let file: ElfFile64<'_> = ElfFile64::parse(object).unwrap();
    assert!(file.elf_header().is_class_64());
    file.section_by_name(name).unwrap().data().unwrap().to_vec()
}

fn of(name: &str) -> (Btf, Vec<u8>) {
    let (_, object) = OBJECTS.iter().find(|(object, _)| *object == name).unwrap();
    let btf = Btf::parse(&section(object, ".BTF")).unwrap();
    (btf, section(object, ".BTF.ext"))
}

/// As `bpftool btf dump` writes it.
fn dump(btf: &Btf) -> String {
    let mut out = String::new();
    let anon = |name: &str| if name.is_empty() { "(anon)".to_owned() } else { name.to_owned() };
    for (id, type_) in btf.types().skip(1) {
        let name = anon(btf.name(id));
        let (kind, rest) = match type_ {
            Type::Int { size, bits, offset, signed, char_, bool_ } => {
                let encoding = match (signed, char_, bool_) {
                    (true, _, _) => "SIGNED",
                    (_, true, _) => "CHAR",
                    (_, _, true) => "BOOL",
                    _ => "(none)",
                };
                ("INT", format!("size={size} bits_offset={offset} nr_bits={bits} encoding={encoding}"))
            }
            Type::Ptr { target } => ("PTR", format!("type_id={target}")),
            Type::Typedef { target } => ("TYPEDEF", format!("type_id={target}")),
            Type::Volatile { target } => ("VOLATILE", format!("type_id={target}")),
            Type::Const { target } => ("CONST", format!("type_id={target}")),
            Type::Array { element, index, len } => {
                ("ARRAY", format!("type_id={element} index_type_id={index} nr_elems={len}"))
            }
            Type::Struct { size, .. } | Type::Union { size, .. } => {
                let kind = if type_.kind() == Kind::Struct { "STRUCT" } else { "UNION" };
                let mut text = format!("size={size} vlen={}", btf.members(id).unwrap().len());
                for member in btf.members(id).unwrap() {
                    let (name, at) = (anon(member.name), member.bit_offset);
                    write!(text, "\n\t'{name}' type_id={} bits_offset={at}", member.type_).unwrap();
                    if let Some(bits) = member.bits {
                        write!(text, " bitfield_size={bits}").unwrap();
                    }
                }
                (kind, text)
            }
            Type::Enum { size, signed, values, .. } => {
                let encoding = if *signed { "SIGNED" } else { "UNSIGNED" };
                let mut text = format!("encoding={encoding} size={size} vlen={}", values.len());
                for value in values {
                    write!(text, "\n\t'{}' val={}", btf.enumerator_name(value), value.value).unwrap();
                }
                ("ENUM", text)
            }
            Type::Func { proto, linkage } => ("FUNC", format!("type_id={proto} linkage={}", linkage_name(*linkage))),
            Type::FuncProto { returns, params } => {
                let mut text = format!("ret_type_id={returns} vlen={}", params.len());
                for param in params {
                    write!(text, "\n\t'{}' type_id={}", anon(btf.param_name(param)), param.type_).unwrap();
                }
                ("FUNC_PROTO", text)
            }
            Type::Var { type_, linkage } => ("VAR", format!("type_id={type_}, linkage={}", linkage_name(*linkage))),
            Type::Datasec { size, vars } => {
                let mut text = format!("size={size} vlen={}", vars.len());
                for var in vars {
                    let name = btf.name(var.var);
                    write!(text, "\n\ttype_id={} offset={} size={} (VAR '{name}')", var.var, var.offset, var.size)
                        .unwrap();
                }
                ("DATASEC", text)
            }
            Type::Float { size } => ("FLOAT", format!("size={size}")),
            other => panic!("{other:?} is in none of the objects"),
        };
        writeln!(out, "[{id}] {kind} '{name}' {rest}").unwrap();
    }
    out
}

fn linkage_name(linkage: Linkage) -> &'static str {
    match linkage {
        Linkage::Static => "static",
        Linkage::Global => "global",
        Linkage::Extern => "extern",
        _ => "(unknown)",
    }
}

#[test]
fn types_are_those_that_bpftool_finds() {
    for (name, _) in OBJECTS {
        let path = format!("{}/tests/bpf/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"));
        let tool = ["bpftool", "/usr/sbin/bpftool"].iter().find_map(|tool| {
            Command::new(tool)
                .args(["btf", "dump", "file", &path])
                .output()
                .ok()
                .filter(|output| output.status.success())
        });
        let Some(output) = tool else { return common::lacks("bpftool") };
        // Older ones do not say whether an enumeration is signed.
        let same = |text: &str| text.replace("encoding=SIGNED size", "size").replace("encoding=UNSIGNED size", "size");
        let theirs = same(&String::from_utf8(output.stdout).unwrap());
        let ours = same(&dump(&of(name).0));
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn a_struct_of_a_compiled_object_is_described_in_full() {
    let (btf, _) = of("core");
    assert_eq!(btf.byte_order(), ByteOrder::Little);
    let task = btf.find("task_struct", Kind::Struct).unwrap();
    let members: Vec<_> = btf.members(task).unwrap().map(|m| (m.name, m.bit_offset, m.bits)).collect();
    assert_eq!(members, [("pid", 0, None), ("tgid", 32, None), ("group_leader", 64, None)]);
    assert_eq!(btf.size_of(task).unwrap(), 16);
    let last = btf.find("last", Kind::Var).unwrap();
    assert_eq!(btf.size_of(last).unwrap(), 4);
    let Some(Type::Var { type_, linkage: Linkage::Global }) = btf.type_(last) else { panic!() };
    let union_ = btf.resolve(*type_).unwrap();
    assert_eq!(btf.type_(union_).unwrap().kind(), Kind::Union);
    let bits: Vec<_> = btf.members(*type_).unwrap().map(|m| m.bits).collect();
    assert_eq!(bits, [Some(3), Some(29), None]);
    assert_eq!(btf.find("task_struct", Kind::Union), None);
    assert_eq!(btf.find("task_struc", Kind::Struct), None);
}

#[test]
fn lines_functions_and_relocations_of_a_section_are_found() {
    let (btf, ext) = of("core");
    let ext = btf.parse_ext(&ext).unwrap();
    let section = "kprobe/wake_up";
    let [function] = ext.funcs(section) else { panic!("{:?}", ext.funcs(section)) };
    assert_eq!((function.insn, btf.name(function.type_)), (0, "wake"));
    let first = ext.lines(section).first().unwrap();
    assert_eq!((first.insn, first.file(&btf), first.line), (0, "./core.bpf.c", 33));
    assert_eq!(first.text(&btf).trim(), "struct task_struct *task = *context, *leader;");
    let relos: Vec<_> =
        ext.core_relos(section).iter().map(|r| (btf.name(r.type_), r.access(&btf).to_owned(), r.kind)).collect();
    let wanted = |access: &str, kind| ("task_struct", access.to_owned(), kind);
    assert_eq!(
        relos,
        [
            wanted("0:2", CoreReloKind::FieldByteOffset),
            wanted("0:1", CoreReloKind::FieldByteOffset),
            wanted("0:0", CoreReloKind::FieldExists),
        ]
    );
    assert!(ext.lines("kprobe").is_empty() && ext.funcs("").is_empty());
}

#[test]
fn both_byte_orders_say_the_same() {
    let (little, big) = (of("calls"), of("calls.be"));
    assert_eq!(big.0.byte_order(), ByteOrder::Big);
    assert_eq!(dump(&little.0), dump(&big.0));
    let (little_ext, big_ext) = (little.0.parse_ext(&little.1).unwrap(), big.0.parse_ext(&big.1).unwrap());
    for section in [".text", "xdp/one", "raw_tp/sys_enter"] {
        assert_eq!(little_ext.lines(section), big_ext.lines(section));
        assert_eq!(little_ext.funcs(section), big_ext.funcs(section));
        assert!(!little_ext.lines(section).is_empty());
    }
}

fn words(order: ByteOrder, words: &[u32]) -> Vec<u8> {
    let bytes = |word: &u32| match order {
        ByteOrder::Little => word.to_le_bytes(),
        ByteOrder::Big => word.to_be_bytes(),
    };
    words.iter().flat_map(bytes).collect()
}

fn make(order: ByteOrder, types: &[u32], strings: &[u8]) -> Vec<u8> {
    let mut bytes = match order {
        ByteOrder::Little => vec![0x9f, 0xeb, 1, 0],
        ByteOrder::Big => vec![0xeb, 0x9f, 1, 0],
    };
    let len = types.len() as u32 * 4;
    bytes.extend(words(order, &[24, 0, len, len, strings.len() as u32]));
    bytes.extend(words(order, types));
    bytes.extend(strings);
    bytes
}

fn little(types: &[u32], strings: &[u8]) -> Vec<u8> {
    make(ByteOrder::Little, types, strings)
}

/// `info` of a type.
const fn info(kind: u32, count: u32, flag: u32) -> u32 {
    flag << 31 | kind << 24 | count
}

#[test]
fn every_kind_is_read_in_both_orders() {
    // a is at 1, bb at 3.
    let strings = b"\0a\0bb\0";
    let types: &[&[u32]] = &[
        &[1, info(1, 0, 0), 8, 1 << 24 | 3 << 16 | 60],          // 1 INT
        &[0, info(2, 0, 0), 1],                                  // 2 PTR
        &[0, info(3, 0, 0), 0, 1, 1, 5],                         // 3 ARRAY
        &[1, info(4, 2, 0), 16, 1, 1, 0, 3, 2, 64],              // 4 STRUCT
        &[3, info(5, 1, 1), 8, 1, 1, 7 << 24 | 9],               // 5 UNION of a bit field
        &[1, info(6, 1, 1), 4, 3, u32::MAX],                     // 6 ENUM, signed
        &[1, info(7, 0, 1), 0],                                  // 7 FWD of a union
        &[3, info(8, 0, 0), 9],                                  // 8 TYPEDEF
        &[0, info(9, 0, 0), 10],                                 // 9 VOLATILE
        &[0, info(10, 0, 0), 11],                                // 10 CONST
        &[0, info(11, 0, 0), 18],                                // 11 RESTRICT
        &[1, info(12, 1, 0), 13],                                // 12 FUNC
        &[0, info(13, 2, 0), 1, 3, 2, 0, 0],                     // 13 FUNC_PROTO with any number
        &[1, info(14, 0, 0), 3, 2],                              // 14 VAR, extern
        &[3, info(15, 1, 0), 99, 14, 8, 40],                     // 15 DATASEC
        &[1, info(16, 0, 0), 8],                                 // 16 FLOAT
        &[3, info(17, 0, 0), 4, 1],                              // 17 DECL_TAG of a member
        &[3, info(18, 0, 0), 4],                                 // 18 TYPE_TAG
        &[1, info(19, 2, 1), 8, 1, 2, 1, 3, u32::MAX, u32::MAX], // 19 ENUM64, signed
        &[0, info(19, 1, 0), 8, 1, u32::MAX, u32::MAX],          // 20 ENUM64
        &[3, info(17, 0, 0), 4, u32::MAX],                       // 21 DECL_TAG of the whole
    ];
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let btf = Btf::parse(&make(order, &types.concat(), strings)).unwrap();
        let type_ = |id| btf.type_(TypeId(id)).unwrap().clone();
        assert_eq!((btf.len(), btf.byte_order()), (22, order));
        let int = Type::Int { size: 8, bits: 60, offset: 3, signed: true, char_: false, bool_: false };
        assert_eq!(type_(1), int);
        assert_eq!(type_(2), Type::Ptr { target: TypeId(1) });
        assert_eq!(type_(3), Type::Array { element: TypeId(1), index: TypeId(1), len: 5 });
        let members =
            |id| btf.members(TypeId(id)).unwrap().map(|m| (m.name, m.type_.0, m.bit_offset, m.bits)).collect();
        let (of_struct, of_union): (Vec<_>, Vec<_>) = (members(4), members(5));
        assert_eq!(of_struct, [("a", 1, 0, None), ("bb", 2, 64, None)]);
        assert_eq!(of_union, [("a", 1, 9, Some(7))]);
        let Type::Enum { signed: true, wide: false, values, .. } = type_(6) else { panic!() };
        assert_eq!((btf.enumerator_name(&values[0]), values[0].value), ("bb", -1));
        assert_eq!(type_(7), Type::Fwd { union_: true });
        // 8 to 11 and 18 lead to the struct.
        assert_eq!(btf.resolve(TypeId(8)), Ok(TypeId(4)));
        assert_eq!(btf.size_of(TypeId(8)), Ok(16));
        assert!(matches!(type_(11), Type::Restrict { target: TypeId(18) }));
        assert_eq!(type_(12), Type::Func { proto: TypeId(13), linkage: Linkage::Global });
        let Type::FuncProto { returns: TypeId(1), params } = type_(13) else { panic!() };
        assert_eq!((btf.param_name(&params[0]), params[0].type_), ("bb", TypeId(2)));
        assert_eq!((btf.param_name(&params[1]), params[1].type_), ("", TypeId::VOID));
        assert_eq!(type_(14), Type::Var { type_: TypeId(3), linkage: Linkage::Extern });
        assert_eq!(btf.size_of(TypeId(14)), Ok(40));
        let Type::Datasec { size: 99, vars } = type_(15) else { panic!() };
        assert_eq!((vars[0].var, vars[0].offset, vars[0].size), (TypeId(14), 8, 40));
        assert_eq!(type_(16), Type::Float { size: 8 });
        assert_eq!(type_(17), Type::DeclTag { target: TypeId(4), component: Some(1) });
        assert_eq!(type_(21), Type::DeclTag { target: TypeId(4), component: None });
        let Type::Enum { signed: true, wide: true, values, .. } = type_(19) else { panic!() };
        assert_eq!(values.iter().map(|v| v.value).collect::<Vec<_>>(), [1 << 32 | 2, -1]);
        let Type::Enum { signed: false, wide: true, values, .. } = type_(20) else { panic!() };
        assert_eq!(values[0].value, u64::MAX.into());
        assert_eq!(type_(20).kind(), Kind::Enum64);
        for id in [0, 7, 12, 13, 17] {
            assert_eq!(btf.size_of(TypeId(id)), Err(BtfError::NoSize { id: TypeId(id) }));
        }
        assert_eq!(btf.members(TypeId(1)).map(drop), Err(BtfError::NoMembers { id: TypeId(1) }));
        assert!(matches!(btf.resolve(TypeId(22)), Err(BtfError::TypeId { id: TypeId(22), count: 22, .. })));
        assert_eq!(btf.type_(TypeId(u32::MAX)), None);
    }
}

#[test]
fn circles_and_giants_end() {
    // 1 and 2 are typedefs of each other; 3 is an array of itself; 4 to 6 are arrays of 2^16 each.
    let types = [
        &[0, info(8, 0, 0), 2][..],
        &[0, info(8, 0, 0), 1],
        &[0, info(3, 0, 0), 0, 3, 0, 1],
        &[0, info(3, 0, 0), 0, 5, 0, 1 << 16],
        &[0, info(3, 0, 0), 0, 6, 0, 1 << 16],
        &[0, info(16, 0, 0), 8],
    ];
    let btf = Btf::parse(&little(&types.concat(), b"\0")).unwrap();
    for id in [TypeId(1), TypeId(2)] {
        assert_eq!(btf.resolve(id), Err(BtfError::Depth { id }));
        assert_eq!(btf.members(id).map(drop), Err(BtfError::Depth { id }));
    }
    assert_eq!(btf.size_of(TypeId(3)), Err(BtfError::Depth { id: TypeId(3) }));
    assert_eq!(btf.size_of(TypeId(4)), Err(BtfError::ArraySize { id: TypeId(4) }));
    assert_eq!(btf.size_of(TypeId(5)), Ok(1 << 19));
    // As deep as allowed, and one deeper.
    for (depth, fits) in [(31, true), (32, false)] {
        let mut types: Vec<u32> = (0..depth).flat_map(|id| [0, info(10, 0, 0), id + 2]).collect();
        types.extend([0, info(16, 0, 0), 4]);
        let btf = Btf::parse(&little(&types, b"\0")).unwrap();
        assert_eq!(btf.resolve(TypeId(1)).is_ok(), fits, "{depth}");
    }
}

#[test]
fn each_defect_has_its_error() {
    let float = [0, info(16, 0, 0), 4];
    let good = little(&float, b"\0");
    assert!(Btf::parse(&good).is_ok());
    let with = |at: usize, byte| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Btf::parse(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 0), BtfError::Magic { magic: 0xeb00 });
    assert_eq!(with(2, 2), BtfError::Version { version: 2 });
    assert_eq!(with(4, 20), BtfError::HeaderLength { len: 20 });
    assert!(matches!(with(4, 200), BtfError::Truncated { what: "header", at: 0, wanted: 200, left: 37 }));
    assert_eq!(with(12, 16), BtfError::Part { part: "types", offset: 0, len: 16, left: 13 });
    assert_eq!(with(19, 0x80), BtfError::Part { part: "strings", offset: 0x8000_000c, len: 1, left: 13 });
    assert_eq!(with(36, b'a'), BtfError::Strings);
    assert_eq!(with(31, 20), BtfError::Kind { id: TypeId(1), at: 24, kind: 20 });
    assert_eq!(with(24, 1), BtfError::StringOffset { what: "type", index: 1, offset: 1, len: 1 });
    // A struct with more members than bytes.
    let cut = little(&[0, info(4, 0xffff, 0), 4], b"\0");
    assert!(matches!(Btf::parse(&cut), Err(BtfError::Truncated { what: "members", at: 36, wanted: 786_420, left: 0 })));
    let missing = little(&[0, info(2, 0, 0), 2], b"\0");
    let wanted = BtfError::TypeId { what: "type", index: 1, id: TypeId(2), count: 2 };
    assert_eq!(Btf::parse(&missing), Err(wanted));
    // Within a character.
    assert!(matches!(
        Btf::parse(&little(&[2, info(16, 0, 0), 4], "\0é\0".as_bytes())),
        Err(BtfError::StringOffset { .. })
    ));
    // What is no UTF-8 keeps its length.
    let latin = Btf::parse(&little(&[1, info(16, 0, 0), 4], b"\0a\xe9b\0")).unwrap();
    assert_eq!(latin.name(TypeId(1)), "a?b");
}

fn ext(funcs: &[u32], lines: &[u32]) -> Vec<u8> {
    let (funcs_len, lines_len) = (funcs.len() as u32 * 4, lines.len() as u32 * 4);
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    bytes.extend(words(ByteOrder::Little, &[24, 0, funcs_len, funcs_len, lines_len]));
    bytes.extend(words(ByteOrder::Little, &[funcs, lines].concat()));
    bytes
}

#[test]
fn each_defect_of_what_is_said_of_instructions_has_its_error() {
    let mut strings = b"\0s\0".to_vec();
    strings.extend([b'x'; 600]);
    strings.push(0);
    let btf = Btf::parse(&little(&[1, info(16, 0, 0), 4], &strings)).unwrap();
    let parse = |funcs: &[u32], lines: &[u32]| btf.parse_ext(&ext(funcs, lines));
    // The first format, and longer records of a later one.
    let good = parse(&[8, 1, 2, 0, 1, 16, 1], &[20, 1, 1, 8, 1, 1, 5 << 10 | 3, 77]).unwrap();
    assert_eq!(good.funcs("s").iter().map(|f| f.insn).collect::<Vec<_>>(), [0, 2]);
    let [line] = good.lines("s") else { panic!() };
    assert_eq!((line.insn, line.file(&btf), line.line, line.column), (1, "s", 5, 3));
    assert!(good.core_relos("s").is_empty());
    let part = "function information";
    let section = || "s".to_owned();
    assert_eq!(parse(&[4], &[]), Err(BtfError::RecordLength { part, len: 4 }));
    assert_eq!(parse(&[8, 1, 1, 4, 1], &[]), Err(BtfError::InsnOffset { part, section: section(), offset: 4 }));
    assert_eq!(parse(&[8, 1, 2, 8, 1, 8, 1], &[]), Err(BtfError::Twice { part, section: section(), insn: 1 }));
    assert_eq!(parse(&[8, 1, 0, 1, 0], &[]), Err(BtfError::SectionTwice { part, section: section() }));
    assert_eq!(parse(&[8, 3, 0], &[]), Err(BtfError::SectionName { part, offset: 3 }));
    assert!(matches!(parse(&[8, 9999, 0], &[]), Err(BtfError::StringOffset { offset: 9999, .. })));
    assert!(matches!(parse(&[8, 1, 1, 0, 7], &[]), Err(BtfError::TypeId { id: TypeId(7), index: 0, .. })));
    let most = BtfError::Truncated { what: part, at: 36, wanted: 8 * 0xffff_ffff, left: 8 };
    assert_eq!(parse(&[8, 1, u32::MAX, 0, 1], &[]), Err(most));
    let huge = parse(&[u32::MAX, 1, u32::MAX], &[]).unwrap_err();
    assert!(matches!(huge, BtfError::Truncated { left: 0, .. }), "{huge}");
    assert!(matches!(parse(&[], &[16, 1, 1, 0, 9999, 0, 0]), Err(BtfError::StringOffset { offset: 9999, .. })));
}

#[test]
fn what_is_cut_or_changed_never_panics() {
    let mut errors = 0;
    for (name, object) in OBJECTS {
        let (bytes, ext) = (section(object, ".BTF"), section(object, ".BTF.ext"));
        let btf = Btf::parse(&bytes).unwrap();
        for len in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..len]).is_err(), "{name}: {len}");
        }
        for len in 0..ext.len() {
            assert!(btf.parse_ext(&ext[..len]).is_err(), "{name}: {len}");
        }
        for (at, change) in (0..bytes.len()).flat_map(|at| [1, 0x80, 0xff].map(|change| (at, change))) {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            match Btf::parse(&changed) {
                Ok(btf) => {
                    for (id, _) in btf.types() {
                        let _ = (btf.size_of(id), btf.members(id).map(Iterator::count), btf.name(id));
                    }
                }
                Err(error) => errors += usize::from(!error.to_string().is_empty()),
            }
        }
        for (at, change) in (0..ext.len()).flat_map(|at| [1, 0x80, 0xff].map(|change| (at, change))) {
            let mut changed = ext.clone();
            changed[at] ^= change;
            errors += usize::from(btf.parse_ext(&changed).is_err());
        }
    }
    assert!(errors > 1000, "{errors}");
}
