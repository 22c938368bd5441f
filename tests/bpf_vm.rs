//! Programs that run: every instruction with its edges, calls, and what is left after them.

use perfring::bpf::insn::{Insn, Op, assemble, assemble_with};
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::{Arg, Context, HelperId, Helpers, Machine, Program, ProgramType, Prototype, RunError, TrapKind};
use std::collections::BTreeSet;

fn insns(text: &str) -> Vec<Insn> {
    let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
    assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

fn run_on(text: &str, memory: &mut [u8]) -> Result<u64, RunError> {
    let program = Program::builder("test", ProgramType::memory()).load(insns(text)).unwrap();
    Machine::new(1).run(&program, Context::new(memory))
}

fn run(text: &str) -> u64 {
    run_on(text, &mut []).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

const MIN: u64 = i64::MIN as u64;
const MIN32: u64 = i32::MIN as u32 as u64;

/// What stands in `r0` after an operation, with `r0` and `r1` set before.
const ALU: &[(&str, u64, u64, u64)] = &[
    ("r0 += r1", 5, u64::MAX, 4),
    ("r0 += -1", 0, 0, u64::MAX),
    ("w0 += w1", 0xffff_ffff_ffff_ffff, 1, 0),
    ("w0 += -2", 1, 0, 0xffff_ffff),
    ("r0 -= r1", 0, 1, u64::MAX),
    ("r0 -= -1", u64::MAX, 0, 0),
    ("w0 -= w1", 0x1_0000_0000, 1, 0xffff_ffff),
    ("w0 -= 1", 0x5_0000_0000, 0, 0xffff_ffff),
    ("r0 *= r1", u64::MAX, u64::MAX, 1),
    ("r0 *= -3", 7, 0, (-21_i64) as u64),
    ("w0 *= w1", 0x1_0001_0000, 0x1_0000, 0),
    ("w0 *= 3", 0xffff_ffff, 0, 0xffff_fffd),
    ("r0 /= r1", u64::MAX, 2, u64::MAX / 2),
    ("r0 /= r1", 7, 0, 0),
    ("r0 /= -1", u64::MAX - 1, 0, 0),
    ("w0 /= w1", 0xffff_ffff_0000_0009, 0xffff_ffff_0000_0002, 4),
    ("w0 /= w1", 0xffff_ffff_0000_0009, 0xffff_ffff_0000_0000, 0),
    ("w0 /= 4", 0xffff_ffff_ffff_ffff, 0, 0x3fff_ffff),
    ("r0 s/= r1", (-7_i64) as u64, 2, (-3_i64) as u64),
    ("r0 s/= r1", MIN, u64::MAX, MIN),
    ("r0 s/= r1", 9, 0, 0),
    ("r0 s/= -2", 9, 0, (-4_i64) as u64),
    ("w0 s/= w1", 0xffff_fff9, 2, 0xffff_fffd),
    ("w0 s/= w1", MIN32, 0xffff_ffff, MIN32),
    ("w0 s/= w1", 9, 0x1_0000_0000, 0),
    ("w0 s/= -3", 9, 0, 0xffff_fffd),
    ("r0 %= r1", 7, 4, 3),
    ("r0 %= r1", 7, 0, 7),
    ("r0 %= -1", u64::MAX, 0, 0),
    ("w0 %= w1", 0xf_0000_0007, 0xf_0000_0004, 3),
    ("w0 %= w1", 0xf_0000_0007, 0xf_0000_0000, 7),
    ("w0 %= 5", 0xffff_ffff_0000_0008, 0, 3),
    ("r0 s%= r1", (-7_i64) as u64, 3, (-1_i64) as u64),
    ("r0 s%= r1", MIN, u64::MAX, 0),
    ("r0 s%= r1", (-7_i64) as u64, 0, (-7_i64) as u64),
    ("r0 s%= -4", 7, 0, 3),
    ("w0 s%= w1", 0xffff_fff9, 3, 0xffff_ffff),
    ("w0 s%= w1", MIN32, 0xffff_ffff, 0),
    ("w0 s%= w1", 0xf_ffff_fff9, 0, 0xffff_fff9),
    ("w0 s%= -4", 0xffff_fff9, 0, 0xffff_fffd),
    ("r0 |= r1", 0xf0, 0x0f, 0xff),
    ("r0 |= -16", 1, 0, (-15_i64) as u64),
    ("w0 |= w1", 0xf_0000_00f0, 0xf_0000_000f, 0xff),
    ("w0 |= -16", 1, 0, 0xffff_fff1),
    ("r0 &= r1", 0xff, 0x0ff0, 0xf0),
    ("r0 &= -2", u64::MAX, 0, u64::MAX - 1),
    ("w0 &= w1", u64::MAX, u64::MAX, 0xffff_ffff),
    ("w0 &= -2", u64::MAX, 0, 0xffff_fffe),
    ("r0 ^= r1", 0xff, 0x0f, 0xf0),
    ("r0 ^= -1", 0, 0, u64::MAX),
    ("w0 ^= w1", 0xf_0000_00ff, 0, 0xff),
    ("w0 ^= -1", 0, 0, 0xffff_ffff),
    ("r0 <<= r1", 1, 63, MIN),
    ("r0 <<= r1", 1, 65, 2),
    ("r0 <<= 32", 0xffff_ffff_0000_0001, 0, 0x1_0000_0000),
    ("w0 <<= w1", 1, 33, 2),
    ("w0 <<= 31", 3, 0, MIN32),
    ("r0 >>= r1", MIN, 63, 1),
    ("r0 >>= r1", 4, 65, 2),
    ("r0 >>= 4", u64::MAX, 0, u64::MAX >> 4),
    ("w0 >>= w1", 0xffff_ffff_0000_0004, 33, 2),
    ("w0 >>= 1", 0xffff_ffff_ffff_ffff, 0, 0x7fff_ffff),
    ("r0 s>>= r1", MIN, 63, u64::MAX),
    ("r0 s>>= r1", MIN, 64, MIN),
    ("r0 s>>= 1", MIN, 0, 0xc000_0000_0000_0000),
    ("w0 s>>= w1", 0xffff_ffff, 35, 0xffff_ffff),
    ("w0 s>>= 31", MIN32, 0, 0xffff_ffff),
    ("r0 = -r0", 1, 0, u64::MAX),
    ("r0 = -r0", MIN, 0, MIN),
    ("w0 = -w0", 0xf_0000_0001, 0, 0xffff_ffff),
    ("w0 = -w0", MIN32, 0, MIN32),
    ("r0 = r1", 1, u64::MAX, u64::MAX),
    ("r0 = -5", 1, 0, (-5_i64) as u64),
    ("w0 = w1", 1, u64::MAX, 0xffff_ffff),
    ("w0 = -5", u64::MAX, 0, 0xffff_fffb),
    ("r0 = (s8)r1", 0, 0x1_80, (-128_i64) as u64),
    ("r0 = (s8)r1", 0, 0x1_7f, 127),
    ("r0 = (s16)r1", 0, 0x1_8000, (-32768_i64) as u64),
    ("r0 = (s32)r1", 0, 0x1_8000_0000, 0xffff_ffff_8000_0000),
    ("w0 = (s8)w1", u64::MAX, 0x80, 0xffff_ff80),
    ("w0 = (s16)w1", u64::MAX, 0x8000, 0xffff_8000),
    ("r0 = bswap16 r0", 0x1122_3344_5566_7788, 0, 0x8877),
    ("r0 = bswap32 r0", 0x1122_3344_5566_7788, 0, 0x8877_6655),
    ("r0 = bswap64 r0", 0x1122_3344_5566_7788, 0, 0x8877_6655_4433_2211),
    ("r0 = le16 r0", 0x1122_3344_5566_7788, 0, 0x7788),
    ("r0 = le32 r0", 0x1122_3344_5566_7788, 0, 0x5566_7788),
    ("r0 = le64 r0", 0x1122_3344_5566_7788, 0, 0x1122_3344_5566_7788),
    ("r0 = be16 r0", 0x1122_3344_5566_7788, 0, 0x8877),
    ("r0 = be32 r0", 0x1122_3344_5566_7788, 0, 0x8877_6655),
    ("r0 = be64 r0", 0x1122_3344_5566_7788, 0, 0x8877_6655_4433_2211),
];

#[cfg(target_endian = "little")]
#[test]
fn arithmetic() {
    for (op, r0, r1, expected) in ALU {
        let text = format!("r0 = {r0:#x} ll\nr1 = {r1:#x} ll\n{op}\nexit");
        assert_eq!(run(&text), *expected, "{op} with {r0:#x}, {r1:#x}");
    }
}

/// A comparison, its operands, and whether it jumps with 64 and with 32 bits.
const JUMPS: &[(&str, u64, u64, bool, bool)] = &[
    ("==", 5, 5, true, true),
    ("==", 0x1_0000_0005, 5, false, true),
    ("!=", 0x1_0000_0005, 5, true, false),
    ("!=", 5, 5, false, false),
    ("&", 0x1_0000_0000, 0x1_0000_0000, true, false),
    ("&", 6, 1, false, false),
    (">", u64::MAX, 0, true, true),
    (">", 0x1_0000_0000, 1, true, false),
    (">", 5, 5, false, false),
    (">=", 5, 5, true, true),
    (">=", 4, u64::MAX, false, false),
    ("<", 4, u64::MAX, true, true),
    ("<", 0x1_0000_0000, 1, false, true),
    ("<", 5, 5, false, false),
    ("<=", 5, 5, true, true),
    ("<=", u64::MAX, 5, false, false),
    ("s>", 0, u64::MAX, true, true),
    ("s>", u64::MAX, 0, false, false),
    ("s>", 0x7fff_ffff_ffff_ffff, 1, true, false),
    ("s>=", u64::MAX, u64::MAX, true, true),
    ("s>=", MIN, 0, false, true),
    ("s<", u64::MAX, 0, true, true),
    ("s<", MIN, 1, true, true),
    ("s<", 1, MIN, false, false),
    ("s<=", 5, 5, true, true),
    ("s<=", 6, 5, false, false),
    ("s<=", 0x8000_0000, 0, false, true),
];

#[test]
fn jumps() {
    for (op, a, b, wide, narrow) in JUMPS {
        for (register, taken) in [('r', *wide), ('w', *narrow)] {
            let text = format!(
                "r0 = 0\nr1 = {a:#x} ll\nr2 = {b:#x} ll\nif {register}1 {op} {register}2 goto yes\nexit\nyes:\nr0 = 1\nexit"
            );
            assert_eq!(run(&text), u64::from(taken), "{register}: {a:#x} {op} {b:#x}");
            // The same with an immediate, where it is one.
            if let Ok(b) = i32::try_from(*b as i64) {
                let text =
                    format!("r0 = 0\nr1 = {a:#x} ll\nif {register}1 {op} {b} goto yes\nexit\nyes:\nr0 = 1\nexit");
                assert_eq!(run(&text), u64::from(taken), "{register}: {a:#x} {op} {b}");
            }
        }
    }
    assert_eq!(run("r0 = 1\ngoto +1\nr0 = 2\nexit"), 1);
    assert_eq!(run("r0 = 1\ngotol +1\nr0 = 2\nexit"), 1);
    assert_eq!(run("r0 = 0\nr1 = 5\nback:\nr0 += r1\nr1 -= 1\nif r1 != 0 goto back\nexit"), 15);
}

#[cfg(target_endian = "little")]
#[test]
fn loads_and_stores() {
    let memory = [0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0x11];
    for (text, expected) in [
        ("r0 = *(u8 *)(r1 +1)", 0xf2),
        ("r0 = *(u16 *)(r1 +1)", 0xf3f2),
        ("r0 = *(u32 *)(r1 +1)", 0xf5f4_f3f2),
        ("r0 = *(u64 *)(r1 +1)", 0x11f8_f7f6_f5f4_f3f2),
        ("r0 = *(s8 *)(r1 +1)", 0xffff_ffff_ffff_fff2),
        ("r0 = *(s16 *)(r1 +1)", 0xffff_ffff_ffff_f3f2),
        ("r0 = *(s32 *)(r1 +1)", 0xffff_ffff_f5f4_f3f2),
        ("r0 = *(s8 *)(r1 +8)", 0x11),
        ("r1 += 9\nr0 = *(u8 *)(r1 -9)", 0xf1),
    ] {
        assert_eq!(run_on(&format!("{text}\nexit"), &mut memory.clone()).unwrap(), expected, "{text}");
    }
    for (text, expected) in [
        ("*(u8 *)(r1 +1) = 0x1ff", [0, 0xff, 0, 0, 0, 0, 0, 0, 0]),
        ("*(u16 *)(r1 +1) = 0x1234", [0, 0x34, 0x12, 0, 0, 0, 0, 0, 0]),
        ("*(u32 *)(r1 +1) = -2", [0, 0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        ("*(u64 *)(r1 +1) = -2", [0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("*(u8 *)(r1 +8) = r2", [0, 0, 0, 0, 0, 0, 0, 0, 0x88]),
        ("*(u16 *)(r1 +0) = r2", [0x88, 0x77, 0, 0, 0, 0, 0, 0, 0]),
        ("*(u32 *)(r1 +0) = r2", [0x88, 0x77, 0x66, 0x55, 0, 0, 0, 0, 0]),
        ("*(u64 *)(r1 +0) = r2", [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0]),
    ] {
        let mut memory = [0; 9];
        run_on(&format!("r2 = 0x1122334455667788 ll\n{text}\nr0 = 0\nexit"), &mut memory).unwrap();
        assert_eq!(memory, expected, "{text}");
    }
    // The same in the frame, relative to r10, which is another instruction of the interpreter's.
    let stack = "r1 = 0x1122334455f67788 ll\n*(u64 *)(r10 -8) = r1\n";
    for (text, expected) in [
        ("r0 = *(u8 *)(r10 -8)", 0x88),
        ("r0 = *(u16 *)(r10 -7)", 0xf677),
        ("r0 = *(u32 *)(r10 -8)", 0x55f6_7788),
        ("r0 = *(u64 *)(r10 -8)", 0x1122_3344_55f6_7788),
        ("r0 = *(s8 *)(r10 -8)", 0xffff_ffff_ffff_ff88),
        ("r0 = *(s16 *)(r10 -7)", 0xffff_ffff_ffff_f677),
        ("r0 = *(s32 *)(r10 -7)", 0x4455_f677),
        ("*(u8 *)(r10 -8) = 1\nr0 = *(u64 *)(r10 -8)", 0x1122_3344_55f6_7701),
        ("*(u16 *)(r10 -8) = 1\nr0 = *(u64 *)(r10 -8)", 0x1122_3344_55f6_0001),
        ("*(u32 *)(r10 -8) = 1\nr0 = *(u64 *)(r10 -8)", 0x1122_3344_0000_0001),
        ("*(u64 *)(r10 -8) = -1\nr0 = *(u64 *)(r10 -8)", u64::MAX),
        ("*(u8 *)(r10 -1) = r1\nr0 = *(u64 *)(r10 -8)", 0x8822_3344_55f6_7788),
        ("*(u16 *)(r10 -2) = r1\nr0 = *(u64 *)(r10 -8)", 0x7788_3344_55f6_7788),
        ("*(u32 *)(r10 -4) = r1\nr0 = *(u64 *)(r10 -8)", 0x55f6_7788_55f6_7788),
        ("r2 = r10\nr2 += -8\nr0 = *(u64 *)(r2 +0)", 0x1122_3344_55f6_7788),
        ("r0 = *(u64 *)(r10 -512)", 0),
    ] {
        assert_eq!(run(&format!("{stack}{text}\nexit")), expected, "{text}");
    }
}

#[cfg(target_endian = "little")]
#[test]
fn atomics() {
    // Before: 8 bytes at r10 - 16, and their neighbours all ones. r2 is the operand.
    let run_one = |op: &str, value: u64, r0: u64, operand: u64| {
        let text = format!(
            "r0 = {value:#x} ll\n*(u64 *)(r10 -16) = r0\n*(u64 *)(r10 -8) = -1\n*(u64 *)(r10 -24) = -1\nr0 = {r0:#x} ll\nr2 = {operand:#x} ll\n{op}\n\
             *(u64 *)(r1 +0) = r0\n*(u64 *)(r1 +8) = r2\nr3 = *(u64 *)(r10 -16)\n*(u64 *)(r1 +16) = r3\nr0 = *(u64 *)(r10 -8)\nr3 = *(u64 *)(r10 -24)\nr0 &= r3\nexit"
        );
        let mut seen = [0; 24];
        assert_eq!(run_on(&text, &mut seen).unwrap(), u64::MAX, "{op} touched its neighbours");
        let word = |at: usize| u64::from_ne_bytes(seen[at..at + 8].try_into().unwrap());
        (word(0), word(8), word(16))
    };
    let high = 0xaaaa_bbbb_0000_0000_u64;
    for (op, value, r0, operand, expected) in [
        ("lock *(u64 *)(r10 -16) += r2", u64::MAX, 7, 2, (7, 2, 1)),
        ("lock *(u32 *)(r10 -16) += r2", high | 0xffff_ffff, 7, 2, (7, 2, high | 1)),
        ("lock *(u64 *)(r10 -16) |= r2", 1, 7, 6, (7, 6, 7)),
        ("lock *(u32 *)(r10 -16) |= r2", high | 1, 7, high | 6, (7, high | 6, high | 7)),
        ("lock *(u64 *)(r10 -16) &= r2", 7, 7, 5, (7, 5, 5)),
        ("lock *(u32 *)(r10 -16) &= r2", high | 7, 7, 5, (7, 5, high | 5)),
        ("lock *(u64 *)(r10 -16) ^= r2", 7, 7, 5, (7, 5, 2)),
        ("lock *(u32 *)(r10 -16) ^= r2", high | 7, 7, 5, (7, 5, high | 2)),
        ("r2 = atomic64_fetch_add((u64 *)(r10 -16), r2)", high, 7, 2, (7, high, high + 2)),
        ("r2 = atomic_fetch_add((u32 *)(r10 -16), r2)", high | 9, 7, u64::MAX, (7, 9, high | 8)),
        ("r2 = atomic64_fetch_or((u64 *)(r10 -16), r2)", 8, 7, 2, (7, 8, 10)),
        ("r2 = atomic_fetch_or((u32 *)(r10 -16), r2)", high | 8, 7, 2, (7, 8, high | 10)),
        ("r2 = atomic64_fetch_and((u64 *)(r10 -16), r2)", 12, 7, 6, (7, 12, 4)),
        ("r2 = atomic_fetch_and((u32 *)(r10 -16), r2)", high | 12, 7, 6, (7, 12, high | 4)),
        ("r2 = atomic64_fetch_xor((u64 *)(r10 -16), r2)", 12, 7, 6, (7, 12, 10)),
        ("r2 = atomic_fetch_xor((u32 *)(r10 -16), r2)", high | 12, 7, 6, (7, 12, high | 10)),
        ("r2 = atomic64_xchg((u64 *)(r10 -16), r2)", 12, 7, 6, (7, 12, 6)),
        ("r2 = atomic_xchg((u32 *)(r10 -16), r2)", high | 12, 7, u64::MAX, (7, 12, high | 0xffff_ffff)),
        ("r0 = atomic64_cmpxchg((u64 *)(r10 -16), r0, r2)", 12, 12, 6, (12, 6, 6)),
        ("r0 = atomic64_cmpxchg((u64 *)(r10 -16), r0, r2)", 12, 11, 6, (12, 6, 12)),
        ("r0 = atomic_cmpxchg((u32 *)(r10 -16), r0, r2)", high | 12, 0xf_0000_000c, 6, (12, 6, high | 6)),
        ("r0 = atomic_cmpxchg((u32 *)(r10 -16), r0, r2)", high | 12, 11, 6, (12, 6, high | 12)),
        ("r2 = load_acquire((u64 *)(r10 -16))", high | 12, 7, 6, (7, high | 12, high | 12)),
        ("r2 = load_acquire((u8 *)(r10 -16))", 0x1234, 7, 6, (7, 0x34, 0x1234)),
        ("r2 = load_acquire((u16 *)(r10 -16))", 0x1_2345, 7, 6, (7, 0x2345, 0x1_2345)),
        ("r2 = load_acquire((u32 *)(r10 -16))", high | 5, 7, 6, (7, 5, high | 5)),
        ("store_release((u64 *)(r10 -16), r2)", 12, 7, high, (7, high, high)),
        ("store_release((u32 *)(r10 -16), r2)", high, 7, 5, (7, 5, high | 5)),
        ("store_release((u16 *)(r10 -16), r2)", u64::MAX, 7, 0, (7, 0, !0xffff)),
        ("store_release((u8 *)(r10 -16), r2)", u64::MAX, 7, 0, (7, 0, !0xff)),
    ] {
        assert_eq!(run_one(op, value, r0, operand), expected, "{op} of {value:#x}, {r0:#x}, {operand:#x}");
    }
}

#[test]
fn wide_immediates() {
    assert_eq!(run("r0 = 0x1122334455667788 ll\nexit"), 0x1122_3344_5566_7788);
    let map = Map::new(&MapDef::array("values", 16, 1), 1).unwrap();
    let value = [[1_u8; 8], [2_u8; 8]].concat();
    map.update(&[0; 4], &value, Default::default()).unwrap();
    let load = |text: &str| Program::builder("test", ProgramType::memory()).maps([map.clone()]).load(insns(text));
    let run_with_map = |text: &str| Machine::new(1).run(&load(text).unwrap(), Context::new(&mut []));
    assert_eq!(run_with_map("r1 = map[idx:0][0]+8 ll\nr0 = *(u64 *)(r1 +0)\nexit").unwrap(), 0x0202_0202_0202_0202);
    // Its last byte, and none behind it.
    assert!(load("r1 = map[idx:0][0]+15 ll\nr0 = 0\nexit").is_ok());
    assert_eq!(
        load("r1 = map[idx:0][0]+16 ll\nr0 = 0\nexit").unwrap_err().to_string(),
        "test: instruction 0: address of byte 16 of the first value of values, which has 16"
    );
    assert_eq!(load("r1 = map[idx:1] ll\nr0 = 0\nexit").unwrap_err().to_string(), "test: instruction 0: map 1 of 1");
    // A map for a slot: whatever number stands there, but nowhere else than in a 64-bit immediate.
    let map_at = |text: &str, insn: usize| {
        let program = Program::builder("test", ProgramType::memory()).map_at(insn, &map).load(insns(text));
        program.map(|program| Machine::new(1).run(&program, Context::new(&mut [])).unwrap())
    };
    let value = "r0 = 0\nr1 = map[fd:77][0]+8 ll\nr0 = *(u64 *)(r1 +0)\nexit";
    assert_eq!(map_at(value, 1), Ok(0x0202_0202_0202_0202));
    for insn in [0, 2, 3, 5, usize::MAX] {
        assert_eq!(
            map_at(value, insn).unwrap_err().to_string(),
            format!("test: instruction {insn}: no 64-bit immediate, which the map values was given for")
        );
    }
    let function = "r2 = subprog[+6] ll\nr1 = 4\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit\nr0 = 0\nif r1 != 2 goto out\nr0 = 1\nout:\nexit";
    // It ends with the call that does not give 0.
    assert_eq!(run(function), 3);
}

#[test]
fn calls() {
    // Registers from r6 on are kept, frames are their own, and an address of the caller's is good in the callee.
    let text = "
        r6 = 6
        r7 = 7
        r8 = 8
        r9 = 9
        *(u64 *)(r10 -8) = 100
        r1 = r10
        r1 += -8
        call callee
        r0 += r6
        r0 += r7
        r0 += r8
        r0 += r9
        r1 = *(u64 *)(r10 -8)
        r0 += r1
        exit
    callee:
        r2 = *(u64 *)(r1 +0)
        r2 += 1
        *(u64 *)(r1 +0) = r2
        *(u64 *)(r10 -8) = 55
        r6 = 0
        r7 = 0
        r8 = 0
        r9 = 0
        r0 = r2
        exit";
    assert_eq!(run(text), 101 + 6 + 7 + 8 + 9 + 101);
    // Eight frames, and no ninth.
    let nested = |depth: u64| {
        format!("r1 = {depth}\ncall f\nexit\nf:\nr0 = 0\nif r1 == 0 goto out\nr1 -= 1\ncall f\nr0 += 1\nout:\nexit")
    };
    assert_eq!(run(&nested(6)), 6);
    let Err(RunError::Trap(trap)) = run_on(&nested(7), &mut []) else { panic!() };
    assert_eq!((trap.insn, trap.kind), (6, TrapKind::CallDepth));
    // The frame of a function is zero, whatever another left there.
    let dirty = "call f\ncall g\nexit\nf:\n*(u64 *)(r10 -8) = 7\nr0 = 0\nexit\ng:\nr0 = *(u64 *)(r10 -8)\nexit";
    assert_eq!(run(dirty), 0);
}

#[test]
fn calls_through_registers() {
    let mut helpers = Helpers::none();
    helpers.register(HelperId(5), Prototype::new("first", &[Arg::Scalar]), |call| call.arg(0)).unwrap();
    let load = |text: &str, callx| {
        Program::builder("test", ProgramType::memory()).helpers(&helpers).callx(callx).load(insns(text))
    };
    let text = "r1 = 77\nr3 = 5\ncallx r3\nexit";
    assert_eq!(
        load(text, false).unwrap_err().to_string(),
        "test: instruction 2: calls through registers are not allowed"
    );
    let machine = Machine::new(1);
    assert_eq!(machine.run(&load(text, true).unwrap(), Context::new(&mut [])), Ok(77));
    let function = "r3 = subprog[+3] ll\ncallx r3\nexit\nr0 = 9\nexit";
    assert_eq!(machine.run(&load(function, true).unwrap(), Context::new(&mut [])), Ok(9));
    for target in ["6", "-1", "0x7fffffff"] {
        let program = load(&format!("r3 = {target}\ncallx r3\nexit"), true).unwrap();
        let Err(RunError::Trap(trap)) = machine.run(&program, Context::new(&mut [])) else { panic!("{target}") };
        assert_eq!(trap.insn, 1);
        assert!(matches!(trap.kind, TrapKind::CallTarget { .. }), "{trap}");
    }
}

/// Calls by a number are calls: what a program may not name, it may not number.
#[test]
fn calls_through_registers_are_no_way_round() {
    let machine = Machine::new(1);
    let run = |type_: &ProgramType, license: &str, helper: HelperId| {
        let text = format!("r9 = {}\nr1 = r10\nr1 += -8\nr2 = 8\nr3 = 0\ncallx r9\nr0 = 0\nexit", helper.0);
        let program = Program::builder("test", type_).license(license).callx(true).load(insns(&text)).unwrap();
        let mut context = vec![0; type_.context().size().unwrap_or(0)];
        machine.run(&program, Context::new(&mut context)).map_err(|error| match error {
            RunError::Trap(trap) => trap.kind,
            other => panic!("{other}"),
        })
    };
    let refused = |helper: HelperId| Err(TrapKind::CallTarget { target: i64::from(helper.0) as u64 });
    let (memory, xdp) = (ProgramType::memory(), ProgramType::xdp());
    assert_eq!(run(memory, "GPL", HelperId::GET_CURRENT_COMM), Ok(0));
    assert_eq!(run(memory, "", HelperId::GET_CURRENT_COMM), Ok(0));
    assert_eq!(run(memory, "GPL", HelperId::PROBE_READ), Ok(0));
    assert_eq!(run(memory, "", HelperId::PROBE_READ), refused(HelperId::PROBE_READ), "the licence");
    assert_eq!(run(xdp, "GPL", HelperId::PROBE_READ), refused(HelperId::PROBE_READ), "the type");
    assert_eq!(run(memory, "GPL", HelperId::TAIL_CALL), refused(HelperId::TAIL_CALL), "an instruction of its own");
}

#[test]
fn may_goto_runs_out() {
    let text = "r0 = 0\nback:\nmay_goto out\nr0 += 1\ngoto back\nout:\nexit";
    let program = Program::builder("test", ProgramType::memory()).load(insns(text)).unwrap();
    let machine = Machine::builder(1).fuel(None).build();
    assert_eq!(machine.run(&program, Context::new(&mut [])), Ok(8 << 20));
}

#[test]
fn legacy_loads_from_packets() {
    let type_ = ProgramType::socket_filter();
    let run = |text: &str| {
        let program = Program::builder("test", type_).load(insns(text)).unwrap();
        let mut packet = [1, 2, 3, 4, 5, 6, 7, 8];
        Machine::new(1).run(&program, Context::new(&mut [0; 192]).packet(&mut packet)).unwrap()
    };
    assert_eq!(run("r6 = r1\nr0 = *(u8 *)skb[3]\nexit"), 4);
    assert_eq!(run("r6 = r1\nr0 = *(u16 *)skb[3]\nexit"), 0x0405);
    assert_eq!(run("r6 = r1\nr0 = *(u32 *)skb[4]\nexit"), 0x0506_0708);
    assert_eq!(run("r6 = r1\nr7 = 2\nr0 = *(u16 *)skb[r7 + 1]\nexit"), 0x0405);
    // What is not all there ends the program.
    assert_eq!(run("r6 = r1\nr0 = *(u32 *)skb[5]\nr0 = 1\nexit"), 0);
    assert_eq!(run("r6 = r1\nr0 = *(u8 *)skb[-1]\nr0 = 1\nexit"), 0);
    let error =
        Program::builder("test", ProgramType::xdp()).load(insns("r6 = r1\nr0 = *(u8 *)skb[3]\nexit")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "test: instruction 1: legacy access to packets, which programs of type xdp may not use"
    );
}

/// Every variant of [`Op`] that the decoder knows has run in a test above, but those that are refused when a program is loaded.
#[test]
fn every_operation_has_run() {
    let name = |op: &Op| format!("{op:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    let alu = ALU.iter().flat_map(|(op, ..)| assemble(op).unwrap());
    let mut seen = BTreeSet::new();
    for insn in alu {
        let slots = [insn, Insn::default()];
        seen.insert(name(&Op::decode(&slots, 0).unwrap()));
    }
    // The bytes of the operations: all that the ALU classes have.
    let opcodes: BTreeSet<u8> = ALU.iter().map(|(op, ..)| assemble(op).unwrap()[0].opcode).collect();
    let classes = |opcode: u8| matches!(opcode & 7, 4 | 7);
    let defined = (0..=255_u8).filter(|opcode| classes(*opcode)).filter(|opcode| {
        // Some register and immediate make it an instruction, if anything does.
        [0, 16].into_iter().any(|imm| {
            [0, 1].into_iter().any(|src| {
                let insn = Insn { opcode: *opcode, dst: 0, src, offset: 0, imm };
                Op::decode(&[insn], 0).is_ok()
            })
        })
    });
    let missing: Vec<u8> = defined.filter(|opcode| !opcodes.contains(opcode)).collect();
    assert_eq!(missing, [] as [u8; 0], "opcodes without a case");
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["Alu", "ByteSwap", "Mov", "MovSx", "Neg"]);
}

#[test]
fn what_threads_share() {
    fn shared<T: Send + Sync>() {}
    shared::<Machine>();
    shared::<Program>();
    shared::<ProgramType>();
    shared::<Helpers>();
    shared::<Map>();
    let program = Program::builder("test", ProgramType::memory()).load(insns("r0 = r2\nexit")).unwrap();
    let machine = Machine::new(4);
    std::thread::scope(|scope| {
        for len in 0..4 {
            let (machine, program) = (&machine, &program);
            scope.spawn(move || {
                for _ in 0..1000 {
                    assert_eq!(machine.run(program, Context::new(&mut vec![0; len])), Ok(len as u64));
                }
            });
        }
    });
    assert_eq!(machine.stats().unwrap().runs, 4000);
}
