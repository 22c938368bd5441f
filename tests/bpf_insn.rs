//! Instructions: decoded, encoded, grouped, refused; and programs checked. The table in the documentation is the reference.

use perfring::bpf::insn::*;
use perfring::record::ByteOrder;
use proptest::prelude::*;

mod bpf_table;
use bpf_table::{Row, rows};

/// What the sweep puts into fields: what is defined, what is beside it, and the ends.
const REGISTERS: [u8; 9] = [0, 1, 2, 6, 7, 9, 10, 11, 15];
const OFFSETS: [i16; 8] = [0, 1, 2, 8, 16, 32, -1, i16::MIN];
const IMMS: [i32; 24] = [
    0,
    1,
    2,
    10,
    11,
    16,
    32,
    64,
    0x40,
    0x41,
    0x50,
    0x51,
    0xa0,
    0xa1,
    0xe0,
    0xe1,
    0xf0,
    0xf1,
    0x100,
    0x101,
    0x110,
    0x111,
    -1,
    i32::MIN,
];

#[test]
fn table_has_every_instruction_and_no_other() {
    let rows = rows();
    let mut defined = 0;
    for opcode in 0..=u8::MAX {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.opcode == opcode).collect();
        let mut any = false;
        for dst in REGISTERS {
            for src in REGISTERS {
                for offset in OFFSETS {
                    for imm in IMMS {
                        let insns = [Insn { opcode, dst, src, offset, imm }, Insn::default()];
                        let decoded = Op::decode(&insns, 0);
                        let row = rows.iter().find(|row| row.matches(&insns));
                        assert_eq!(decoded.is_ok(), row.is_some(), "{insns:?}: {decoded:?}, {row:?}");
                        let (Ok(op), Some(row)) = (decoded, row) else { continue };
                        any = true;
                        assert_eq!(bpf_table::variant(&op), row.variant, "{insns:?}");
                        assert!(row.old_callx() || op.encode()[0] == insns[0], "{insns:?}: {op:?}");
                    }
                }
            }
        }
        assert_eq!(any, !rows.is_empty(), "opcode {opcode:#04x}");
        if !any {
            assert_eq!(
                Op::decode(&[Insn { opcode, ..Insn::default() }; 2], 0),
                Err(InsnError::Opcode { at: 0, opcode })
            );
        }
        defined += usize::from(any);
    }
    // 12 operations of 2 sources and 2 widths, neg of 2 and three swaps; 11 jumps likewise, 2 goto, may_goto, 2 calls, exit;
    // 4 loads, 3 that extend, 8 stores, 4 atomic, one wide, 6 of packets.
    assert_eq!(defined, 48 + 2 + 3 + 44 + 2 + 1 + 2 + 1 + 4 + 3 + 8 + 4 + 1 + 6);
}

#[test]
fn table_has_groups_texts_and_operations() {
    for row in rows() {
        let insns = row.example();
        let op = Op::decode(&insns, 0).unwrap_or_else(|error| panic!("{row:?}: {error}"));
        assert_eq!(bpf_table::variant(&op), row.variant, "{row:?}");
        assert_eq!(op.conformance_group().map_or("", ConformanceGroup::name), row.group, "{row:?}");
        assert_eq!(op.to_string(), row.text);
        assert_eq!(op.slots(), if row.next.is_some() { 2 } else { 1 });
        let encoded = op.encode();
        if !row.old_callx() {
            assert_eq!(*encoded, insns[..encoded.len()], "{row:?}");
        }
        assert_eq!(assemble(&row.text).as_deref(), Ok(&*encoded), "{row:?}");
    }
}

#[test]
fn second_slots_are_reserved() {
    for row in rows().iter().filter(|row| row.next.is_some()) {
        let mut insns = row.example();
        insns[1].imm = 5;
        let is_map = matches!(row.src, bpf_table::Field::Exactly(1 | 4 | 5));
        let wanted = if is_map { Some(InsnError::ReservedImm { at: 1, imm: 5 }) } else { None };
        assert_eq!(Op::decode(&insns, 0).err(), wanted, "{row:?}");
        insns[1] = Insn { opcode: 0x18, ..Insn::default() };
        assert_eq!(Op::decode(&insns, 0), Err(InsnError::SecondOpcode { at: 1, opcode: 0x18 }));
        insns[1] = Insn { dst: 1, ..Insn::default() };
        assert_eq!(Op::decode(&insns, 0), Err(InsnError::ReservedDst { at: 1, dst: 1 }));
        insns[1] = Insn { src: 1, ..Insn::default() };
        assert_eq!(Op::decode(&insns, 0), Err(InsnError::ReservedSrc { at: 1, src: 1 }));
        insns[1] = Insn { offset: -1, ..Insn::default() };
        assert_eq!(Op::decode(&insns, 0), Err(InsnError::ReservedOffset { at: 1, offset: -1 }));
        assert_eq!(Op::decode(&insns[..1], 0), Err(InsnError::Cut { at: 0 }));
    }
}

#[test]
fn each_defect_has_its_error() {
    let insn = |opcode, dst, src, offset, imm| Insn { opcode, dst, src, offset, imm };
    let at = 1;
    for (bad, error) in [
        (insn(0xff, 0, 0, 0, 0), InsnError::Opcode { at, opcode: 0xff }),
        (insn(0, 0, 0, 0, 0), InsnError::Opcode { at, opcode: 0 }),
        (insn(0xdf, 0, 0, 0, 16), InsnError::Opcode { at, opcode: 0xdf }),
        (insn(0x8f, 0, 0, 0, 0), InsnError::Opcode { at, opcode: 0x8f }),
        (insn(0x86, 0, 0, 0, 0), InsnError::Opcode { at, opcode: 0x86 }),
        (insn(0x99, 0, 0, 0, 0), InsnError::Opcode { at, opcode: 0x99 }),
        (insn(0xb7, 11, 0, 0, 0), InsnError::Dst { at, dst: 11 }),
        (insn(0xbf, 0, 15, 0, 0), InsnError::Src { at, src: 15 }),
        (insn(0x79, 10, 1, 0, 0), InsnError::ReadOnly { at }),
        (insn(0xdb, 1, 10, 0, 1), InsnError::ReadOnly { at }),
        (insn(0x95, 1, 0, 0, 0), InsnError::ReservedDst { at, dst: 1 }),
        (insn(0x07, 0, 1, 0, 0), InsnError::ReservedSrc { at, src: 1 }),
        (insn(0x07, 0, 0, 1, 0), InsnError::ReservedOffset { at, offset: 1 }),
        (insn(0x0f, 0, 0, 0, 1), InsnError::ReservedImm { at, imm: 1 }),
        (insn(0x37, 0, 0, 2, 1), InsnError::DivisionOffset { at, offset: 2 }),
        (insn(0xbc, 0, 0, 32, 0), InsnError::MoveOffset { at, offset: 32 }),
        (insn(0xd4, 0, 0, 0, 8), InsnError::SwapWidth { at, imm: 8 }),
        (insn(0xc3, 0, 0, 0, 0xe0), InsnError::Atomic { at, imm: 0xe0 }),
        (insn(0xcb, 0, 0, 0, 0x41), InsnError::AtomicSize { at, opcode: 0xcb, imm: 0x41 }),
        (insn(0x85, 0, 3, 0, 0), InsnError::CallKind { at, src: 3 }),
        (insn(0x8d, 0, 0, 0, 11), InsnError::CallRegister { at, imm: 11 }),
        (insn(0x8d, 1, 0, 0, 1), InsnError::ReservedImm { at, imm: 1 }),
        (insn(0x18, 0, 7, 0, 0), InsnError::Imm64Kind { at, src: 7 }),
        (insn(0x18, 0, 0, 0, 0), InsnError::Cut { at }),
    ] {
        assert_eq!(Op::decode(&[Insn::default(), bad], at), Err(error));
        assert!(error.to_string().starts_with("instruction 1: "), "{error}");
    }
    assert_eq!(Op::decode(&[], 3), Err(InsnError::Missing { at: 3, len: 0 }));
    assert_eq!(Insn::parse(&[0; 17]), Err(LengthError { len: 17 }));
}

#[test]
fn bytes_in_both_orders() {
    // The RFC's example, section 3.1.
    let insn = Insn { opcode: 0x07, dst: 1, src: 0, offset: 0, imm: 0x1122_3344 };
    assert_eq!(insn.to_bytes(ByteOrder::Little), [0x07, 0x01, 0, 0, 0x44, 0x33, 0x22, 0x11]);
    assert_eq!(insn.to_bytes(ByteOrder::Big), [0x07, 0x10, 0, 0, 0x11, 0x22, 0x33, 0x44]);
    let insn = Insn { opcode: 0x7b, dst: 10, src: 1, offset: -8, imm: 0 };
    assert_eq!(insn.to_bytes(ByteOrder::Little), [0x7b, 0x1a, 0xf8, 0xff, 0, 0, 0, 0]);
    assert_eq!(insn.to_bytes(ByteOrder::Big), [0x7b, 0xa1, 0xff, 0xf8, 0, 0, 0, 0]);
    assert_eq!(Insn::parse_in(&insn.to_bytes(ByteOrder::Big), ByteOrder::Big), Ok(vec![insn]));
}

#[test]
fn what_does_not_exist_is_encoded_to_what_is_refused() {
    let (dst, src, offset) = (Reg::R1, Reg::R2, 0);
    for op in [
        Op::MovSx { width: Width::W64, from: Size::DW, dst, src },
        Op::MovSx { width: Width::W32, from: Size::W, dst, src },
        Op::ByteSwap { kind: ByteSwap::ToBe, size: Size::B, dst },
        Op::Load { size: Size::DW, signed: true, dst, src, offset },
        Op::Atomic { op: AtomicOp::Xchg, size: Size::H, dst, offset, src },
        Op::LoadPacket { size: Size::DW, index: None, offset: 0 },
        Op::LoadPacket { size: Size::DW, index: Some(src), offset: 0 },
        Op::Neg { width: Width::W64, dst: Reg::R10 },
    ] {
        assert!(Op::decode(&op.encode(), 0).is_err(), "{op:?}");
        assert!(assemble(&op.to_string()).is_err(), "{op}");
    }
    // This one exists, as a long jump.
    let far = Op::Jump { offset: 40_000, long: false };
    assert_eq!(Op::decode(&far.encode(), 0), Ok(Op::Jump { offset: 40_000, long: true }));
    assert_eq!(assemble(&far.to_string()).as_deref(), Ok(&*far.encode()));
}

#[test]
fn groups_include_others() {
    use ConformanceGroup::*;
    let all = [Base32, Base64, Atomic32, Atomic64, Divmul32, Divmul64, Packet];
    let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (a, b))).filter(|(a, b)| a != b && a.includes(**b));
    assert_eq!(
        pairs.map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>(),
        ["base64 base32", "atomic64 atomic32", "divmul64 divmul32"]
    );
    assert!(all.iter().all(|group| group.includes(*group)));
}

fn code(text: &str) -> Result<Code, CodeError> {
    Code::new(assemble(text).expect("it is defined"), CodeOptions::default())
}

#[test]
fn programs_have_functions_and_targets() {
    let code = code(
        "r6 = subprog[third] ll
         call second
         r1 = 0x1122334455667788 ll
         if r1 == 0x0 goto end
         may_goto end
         gotol end
     end: exit
  second: r0 = 1
         exit
   third: r0 = 2
         goto third",
    )
    .expect("it is sound");
    assert_eq!((code.len(), code.insns().len()), (13, 13));
    assert_eq!(code.functions(), [0, 9, 11]);
    assert_eq!(code.op(1), None);
    assert_eq!(code.op(13), None);
    assert_eq!(code.op(8), Some(&Op::Exit));
    assert_eq!(code.iter().map(|(at, _)| at).collect::<Vec<_>>(), [0, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]);
    let targets: Vec<_> = (0..14).map(|at| code.target(at)).collect();
    let (none, to) = (None, Some);
    let wanted = [to(11), none, to(9), none, none, to(8), to(8), to(8), none, none, none, none, to(11), none];
    assert_eq!(targets, wanted);
    let functions: Vec<_> = [0, 8, 9, 10, 11, 12, 13].map(|at| code.function_of(at)).into();
    assert_eq!(functions, [to(0), to(0), to(9), to(9), to(11), to(11), none]);
}

#[test]
fn programs_without_structure_are_refused() {
    assert_eq!(Code::new(vec![], CodeOptions::default()), Err(CodeError::Empty));
    let exit = Op::Exit.encode()[0];
    assert!(Code::new(vec![exit; Code::MAX_LEN], CodeOptions::default()).is_ok());
    let len = Code::MAX_LEN + 1;
    assert_eq!(Code::new(vec![exit; len], CodeOptions::default()), Err(CodeError::TooLong { len }));
    let bad = vec![exit, Insn::default()];
    let error = CodeError::Insn(InsnError::Opcode { at: 1, opcode: 0 });
    assert_eq!(Code::new(bad, CodeOptions::default()), Err(error));

    let callx = assemble("callx r1\nexit").expect("it is defined");
    assert_eq!(Code::new(callx.clone(), CodeOptions::default()), Err(CodeError::Callx { at: 0 }));
    assert!(Code::new(callx, CodeOptions { callx: true }).is_ok());

    for (text, error) in [
        ("goto pc+1\nexit", CodeError::JumpOutside { at: 0, target: 2 }),
        ("if r1 > 0x0 goto pc-2\nexit", CodeError::JumpOutside { at: 0, target: -1 }),
        ("gotol pc+2147483647\nexit", CodeError::JumpOutside { at: 0, target: 1 << 31 }),
        ("gotol pc-2147483648\nexit", CodeError::JumpOutside { at: 0, target: 1 - (1 << 31) }),
        ("may_goto pc+1\nr1 = 1 ll\nexit", CodeError::JumpIntoWide { at: 0, target: 2 }),
        ("call pc+1\nexit", CodeError::FunctionOutside { at: 0, target: 2 }),
        ("r1 = subprog[-2] ll\nexit", CodeError::FunctionOutside { at: 0, target: -1 }),
        ("r1 = subprog[+0] ll\nexit", CodeError::FunctionIntoWide { at: 0, target: 1 }),
        ("call pc+1\nr1 = 1 ll\nexit", CodeError::FunctionIntoWide { at: 0, target: 2 }),
        ("r0 = 0", CodeError::FallsThrough { at: 0, function: 0 }),
        ("r0 = 0\nr1 = 1 ll", CodeError::FallsThrough { at: 1, function: 0 }),
        ("exit\nif r0 == 0x0 goto pc-2", CodeError::FallsThrough { at: 1, function: 0 }),
        ("call pc+1\nr0 = 0\nexit", CodeError::FallsThrough { at: 1, function: 0 }),
        ("call pc+1\nexit\nr0 = 0", CodeError::FallsThrough { at: 2, function: 2 }),
        ("call pc+2\ngoto pc+2\nexit\nr0 = 0\nexit", CodeError::JumpOutOfFunction { at: 1, target: 4, function: 0 }),
        ("call pc+1\nexit\ngoto pc-2", CodeError::JumpOutOfFunction { at: 2, target: 1, function: 2 }),
    ] {
        assert_eq!(code(text), Err(error), "{text}");
    }
    // To itself, and round and round: sound in structure.
    assert!(code("goto pc-1").is_ok());
    assert!(code("call pc-1\nexit").is_ok());
}

prop_compose! {
    fn any_insn()(opcode: u8, dst in 0u8..16, src in 0u8..16, offset in small_i16(), imm in small_i32()) -> Insn {
        Insn { opcode, dst, src, offset, imm }
    }
}

fn small_i16() -> impl Strategy<Value = i16> {
    prop_oneof![3 => Just(0), 1 => proptest::sample::select(&OFFSETS[..]), 1 => any::<i16>()]
}

fn small_i32() -> impl Strategy<Value = i32> {
    prop_oneof![2 => Just(0), 2 => proptest::sample::select(&IMMS[..]), 1 => any::<i32>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_decoded_is_encoded_to_the_same(insns in [any_insn(), any_insn()], clear: bool) {
        let mut insns = insns;
        if clear {
            insns[1] = Insn { imm: insns[1].imm, ..Insn::default() };
        }
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let bytes: Vec<u8> = insns.iter().flat_map(|insn| insn.to_bytes(order)).collect();
            prop_assert_eq!(Insn::parse_in(&bytes, order), Ok(insns.to_vec()));
        }
        if let Ok(op) = Op::decode(&insns, 0) {
            let encoded = op.encode();
            prop_assert_eq!(Op::decode(&encoded, 0), Ok(op));
            let old_callx = insns[0].opcode == 0x8d && insns[0].imm != 0;
            prop_assert!(old_callx || *encoded == insns[..op.slots()]);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        match Insn::parse(&bytes) {
            Err(error) => prop_assert_eq!(error.len % 8 != 0, true),
            Ok(insns) => {
                for at in 0..=insns.len() {
                    let _ = Op::decode(&insns, at);
                }
                if let Ok(code) = Code::new(insns.clone(), CodeOptions { callx: true }) {
                    prop_assert_eq!(code.insns(), &*insns);
                }
            }
        }
    }

    #[test]
    fn rows_with_any_values_are_encoded_to_the_same(seed in any::<[u64; 4]>()) {
        let rows = rows_once();
        let row = &rows[(seed[0] % rows.len() as u64) as usize];
        let insns = row.fill(seed);
        let op = Op::decode(&insns, 0).map_err(|error| TestCaseError::fail(format!("{row:?}: {error}")))?;
        let encoded = op.encode();
        prop_assert!(row.old_callx() || *encoded == insns[..op.slots()]);
        prop_assert_eq!(Op::decode(&encoded, 0), Ok(op));
        let assembled = assemble(&op.to_string());
        prop_assert_eq!(assembled.as_deref(), Ok(&*encoded), "{}", op);
    }
}

fn rows_once() -> &'static [Row] {
    static ROWS: std::sync::OnceLock<Vec<Row>> = std::sync::OnceLock::new();
    ROWS.get_or_init(rows)
}
