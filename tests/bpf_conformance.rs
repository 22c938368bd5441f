//! The example `bpf_conformance_plugin`, spoken to as the public runner does: one case for each opcode.

use perfring::bpf::insn::{Op, assemble};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Cargo builds the examples before it runs the tests, into the folder beside theirs.
fn plugin() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let path = path.join("examples/bpf_conformance_plugin");
    assert!(path.exists(), "{} is not there: `cargo test` without `--test` builds it", path.display());
    path
}

fn run(arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(plugin());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that does not want it closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn hex(text: &str) -> String {
    let insns = assemble(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    insns
        .iter()
        .flat_map(|insn| insn.to_bytes(perfring::record::ByteOrder::NATIVE))
        .map(|byte| format!("{byte:02x} "))
        .collect()
}

fn printed(arguments: &[&str], stdin: &str) -> String {
    let output = run(arguments, stdin);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

/// A program without its `exit`, and what it prints. The memory is the 16 bytes from 0x10 to 0x1f.
const CASES: &[(&str, &str)] = &[
    ("w0 = 7\nw0 += -1", "6"),
    ("w0 = 7\nw1 = 2\nw0 += w1", "9"),
    ("w0 = 7\nw0 -= 8", "ffffffff"),
    ("w0 = 7\nw1 = 2\nw0 -= w1", "5"),
    ("w0 = 7\nw0 *= 3", "15"),
    ("w0 = 7\nw1 = 2\nw0 *= w1", "e"),
    ("w0 = -2\nw0 /= 2", "7fffffff"),
    ("w0 = 7\nw1 = 0\nw0 /= w1", "0"),
    ("w0 = 7\nw0 |= 8", "f"),
    ("w0 = 7\nw1 = 8\nw0 |= w1", "f"),
    ("w0 = 7\nw0 &= 5", "5"),
    ("w0 = 7\nw1 = 5\nw0 &= w1", "5"),
    ("w0 = 1\nw0 <<= 31", "80000000"),
    ("w0 = 1\nw1 = 33\nw0 <<= w1", "2"),
    ("w0 = -1\nw0 >>= 28", "f"),
    ("w0 = -1\nw1 = 28\nw0 >>= w1", "f"),
    ("w0 = 7\nw0 = -w0", "fffffff9"),
    ("w0 = 7\nw0 %= 4", "3"),
    ("w0 = 7\nw1 = 0\nw0 %= w1", "7"),
    ("w0 = 7\nw0 ^= 2", "5"),
    ("w0 = 7\nw1 = 2\nw0 ^= w1", "5"),
    ("w0 = -1", "ffffffff"),
    ("w1 = -1\nw0 = w1", "ffffffff"),
    ("w0 = -8\nw0 s>>= 1", "fffffffc"),
    ("w0 = -8\nw1 = 1\nw0 s>>= w1", "fffffffc"),
    ("r0 = 0x1122334455667788 ll\nr0 = le16 r0", "7788"),
    ("r0 = 0x1122334455667788 ll\nr0 = be32 r0", "88776655"),
    ("r0 = 0x1122334455667788 ll\nr0 = bswap64 r0", "8877665544332211"),
    ("r0 = 7\nr0 += -8", "ffffffffffffffff"),
    ("r0 = 7\nr3 = 2\nr0 += r3", "9"),
    ("r0 = 7\nr0 -= 2", "5"),
    ("r0 = 7\nr3 = 8\nr0 -= r3", "ffffffffffffffff"),
    ("r0 = 7\nr0 *= -1", "fffffffffffffff9"),
    ("r0 = 7\nr3 = 2\nr0 *= r3", "e"),
    ("r0 = -2\nr0 /= 2", "7fffffffffffffff"),
    ("r0 = 7\nr3 = 0\nr0 /= r3", "0"),
    ("r0 = -7\nr0 s/= 2", "fffffffffffffffd"),
    ("r0 = 7\nr0 |= -8", "ffffffffffffffff"),
    ("r0 = 7\nr3 = 8\nr0 |= r3", "f"),
    ("r0 = 7\nr0 &= 5", "5"),
    ("r0 = 7\nr3 = 5\nr0 &= r3", "5"),
    ("r0 = 1\nr0 <<= 63", "8000000000000000"),
    ("r0 = 1\nr3 = 65\nr0 <<= r3", "2"),
    ("r0 = -1\nr0 >>= 60", "f"),
    ("r0 = -1\nr3 = 60\nr0 >>= r3", "f"),
    ("r0 = 7\nr0 = -r0", "fffffffffffffff9"),
    ("r0 = 7\nr0 %= 4", "3"),
    ("r0 = 7\nr3 = 0\nr0 %= r3", "7"),
    ("r0 = -7\nr0 s%= 4", "fffffffffffffffd"),
    ("r0 = 7\nr0 ^= 2", "5"),
    ("r0 = 7\nr3 = 2\nr0 ^= r3", "5"),
    ("r0 = -1", "ffffffffffffffff"),
    ("r3 = -1\nr0 = r3", "ffffffffffffffff"),
    ("r3 = 0x80\nr0 = (s8)r3", "ffffffffffffff80"),
    ("r0 = -8\nr0 s>>= 1", "fffffffffffffffc"),
    ("r0 = -8\nr3 = 1\nr0 s>>= r3", "fffffffffffffffc"),
    ("r0 = 0x1122334455667788 ll", "1122334455667788"),
    ("r0 = *(u32 *)(r1 +0)", "13121110"),
    ("r0 = *(u16 *)(r1 +2)", "1312"),
    ("r0 = *(u8 *)(r1 +15)", "1f"),
    ("r0 = *(u64 *)(r1 +8)", "1f1e1d1c1b1a1918"),
    ("*(u8 *)(r1 +0) = -1\nr0 = *(s8 *)(r1 +0)", "ffffffffffffffff"),
    ("*(u16 *)(r1 +0) = -2\nr0 = *(s16 *)(r1 +0)", "fffffffffffffffe"),
    ("*(u32 *)(r1 +0) = -2\nr0 = *(s32 *)(r1 +0)", "fffffffffffffffe"),
    ("*(u64 *)(r1 +0) = -2\nr0 = *(u64 *)(r1 +0)", "fffffffffffffffe"),
    ("*(u8 *)(r1 +0) = r2\nr0 = *(u16 *)(r1 +0)", "1110"),
    ("r3 = -1\n*(u16 *)(r1 +0) = r3\nr0 = *(u32 *)(r1 +0)", "1312ffff"),
    ("r3 = -1\n*(u32 *)(r1 +0) = r3\nr0 = *(u64 *)(r1 +0)", "17161514ffffffff"),
    ("r3 = -1\n*(u64 *)(r1 +0) = r3\nr0 = *(u64 *)(r1 +0)", "ffffffffffffffff"),
    ("w3 = 1\n*(u32 *)(r10 -8) = w3\nlock *(u32 *)(r10 -8) += r3\nr0 = *(u32 *)(r10 -8)", "2"),
    (
        "r3 = 1\n*(u64 *)(r10 -8) = r3\nr3 = atomic64_fetch_add((u64 *)(r10 -8), r3)\nr0 = *(u64 *)(r10 -8)\nr0 += r3",
        "3",
    ),
    ("r0 = 1\ngoto +1\nr0 = 2", "1"),
    ("r0 = 1\ngotol +1\nr0 = 2", "1"),
    ("r1 = 5\ncall 5", "5"),
    ("r1 = 5\nr3 = 5\ncallx r3", "5"),
    ("r0 = 0\nr3 = 1\nif r3 == 1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 1\nif r3 == r3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 1\nif r3 > 0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 1\nif r3 > r0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 1\nif r3 >= 1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 1\nif r3 >= r3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r3 & 2 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r3 & r3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r3 != 2 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r3 != r0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r3 s> -1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r3 s> r0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r3 s>= -1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r3 s>= r0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r3 < -1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r0 < r3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r3 <= 3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = 3\nif r0 <= r3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = -3\nif r3 s< -1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = -3\nif r3 s< r0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = -3\nif r3 s<= -3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nr3 = -3\nif r3 s<= r0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 1\nif w3 == 1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 1\nif w3 == w3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 1\nif w3 > 0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 1\nif w3 > w0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 1\nif w3 >= 1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 1\nif w3 >= w3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w3 & 2 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w3 & w3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w3 != 2 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w3 != w0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w3 s> -1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w3 s> w0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w3 s>= -1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w3 s>= w0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w3 < -1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w0 < w3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w3 <= 3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = 3\nif w0 <= w3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = -3\nif w3 s< -1 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = -3\nif w3 s< w0 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = -3\nif w3 s<= -3 goto +1\nr0 = 1", "0"),
    ("r0 = 0\nw3 = -3\nif w3 s<= w0 goto +1\nr0 = 1", "0"),
];

const MEMORY: &str = "101112131415161718191a1b1c1d1e1f";

#[cfg(target_endian = "little")]
#[test]
fn one_case_for_each_opcode() {
    let mut seen = BTreeSet::new();
    for (text, expected) in CASES {
        let text = format!("{text}\nexit");
        for insn in assemble(&text).unwrap() {
            seen.insert(insn.opcode);
        }
        assert_eq!(printed(&[MEMORY], &hex(&text)), format!("{expected}\n"), "{text}");
    }
    // What an opcode byte makes an instruction with some other fields. The legacy loads are for other types of programs, and
    // may_goto has a jump's opcode of its own.
    let defined = (0..=255_u8).filter(|opcode| {
        let with = |src: u8, imm: i32| perfring::bpf::insn::Insn { opcode: *opcode, dst: 0, src, offset: 0, imm };
        let mut fields = [0, 16, 1].into_iter().flat_map(|imm| [0, 1].map(|src| with(src, imm)));
        fields.any(|insn| {
            Op::decode(&[insn, Default::default()], 0)
                .is_ok_and(|op| !matches!(op, Op::LoadPacket { .. } | Op::MayGoto { .. }))
        })
    });
    let missing: Vec<String> =
        defined.filter(|opcode| !seen.contains(opcode)).map(|opcode| format!("{opcode:#04x}")).collect();
    assert_eq!(missing, [] as [String; 0]);
}

#[test]
fn the_protocol() {
    let length = hex("r0 = r2\nexit");
    assert_eq!(printed(&[], &length), "0\n");
    assert_eq!(printed(&["00 01 02"], &length), "3\n");
    assert_eq!(printed(&["--debug", "000102", "--elf"], &length), "3\n");
    assert_eq!(printed(&["--program", &length, "0001"], ""), "2\n");
    assert_eq!(printed(&[], &hex("r0 = r1\nexit")), "0\n");
    assert_eq!(printed(&[], &hex("r0 = -1\nexit").to_uppercase().replace(' ', "\n")), "ffffffffffffffff\n");
}

#[test]
fn what_is_wrong_is_said() {
    let refused = |arguments: &[&str], stdin: &str| {
        let output = run(arguments, stdin);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        text.trim_end().strip_prefix("bpf_conformance_plugin: ").unwrap().to_owned()
    };
    assert_eq!(refused(&[], "b7 0"), "\"0\" is no byte in hex");
    assert_eq!(refused(&["0g"], "95 00 00 00 00 00 00 00"), "\"0g\" is no byte in hex");
    assert!(refused(&[], "95 00").contains("8"));
    assert_eq!(refused(&[], ""), "program: there is no instruction");
    assert!(refused(&[], "ff 00 00 00 00 00 00 00").contains("0xff"));
    assert_eq!(
        refused(&[], &hex("r0 = 0")),
        "program: instruction 0: the function at 0 ends with it, and it is neither exit nor goto"
    );
    assert!(refused(&[], &hex("call 6\nexit")).contains("helper 6 is unknown"));
    assert!(refused(&[], &hex("r0 = *(u8 *)(r1 +0)\nexit")).contains("load of 1 bytes at 0x0"));
    assert!(refused(&["00"], &hex("r0 = *(u8 *)(r1 +1)\nexit")).contains("not the program's to read"));
    assert!(refused(&["--wrong"], "").contains("--wrong"));
    assert!(refused(&["00", "01"], "").contains("01"));
    assert!(refused(&["--program"], "").contains("--program"));
}
