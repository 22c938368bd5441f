//! The example `bpf_conformance_plugin`, spoken to as the public runner does: one case for each line of the table of opcodes.

mod bpf_table;

use perfring::bpf::insn::{Insn, assemble};
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

fn bytes_of(insns: &[Insn]) -> Vec<u8> {
    insns.iter().flat_map(|insn| insn.to_bytes(perfring::record::ByteOrder::NATIVE)).collect()
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

fn insns_of(text: &str) -> Vec<Insn> {
    assemble(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

fn hex(text: &str) -> String {
    hex_of(&bytes_of(&insns_of(text)))
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
    ("w0 = -7\nw0 s/= 2", "fffffffd"),
    ("w0 = 1\nw0 <<= 31\nw1 = -1\nw0 s/= w1", "80000000"),
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
    ("w0 = -7\nw0 s%= 4", "fffffffd"),
    ("w0 = 1\nw0 <<= 31\nw1 = -1\nw0 s%= w1", "0"),
    ("w0 = 7\nw0 ^= 2", "5"),
    ("w0 = 7\nw1 = 2\nw0 ^= w1", "5"),
    ("w0 = -1", "ffffffff"),
    ("w1 = -1\nw0 = w1", "ffffffff"),
    ("w3 = 0x80\nw0 = (s8)w3", "ffffff80"),
    ("w3 = 0x8000\nw0 = (s16)w3", "ffff8000"),
    ("w0 = -8\nw0 s>>= 1", "fffffffc"),
    ("w0 = -8\nw1 = 1\nw0 s>>= w1", "fffffffc"),
    ("r0 = 0x1122334455667788 ll\nr0 = le16 r0", "7788"),
    ("r0 = 0x1122334455667788 ll\nr0 = le32 r0", "55667788"),
    ("r0 = 0x1122334455667788 ll\nr0 = le64 r0", "1122334455667788"),
    ("r0 = 0x1122334455667788 ll\nr0 = be16 r0", "8877"),
    ("r0 = 0x1122334455667788 ll\nr0 = be32 r0", "88776655"),
    ("r0 = 0x1122334455667788 ll\nr0 = be64 r0", "8877665544332211"),
    ("r0 = 0x1122334455667788 ll\nr0 = bswap16 r0", "8877"),
    ("r0 = 0x1122334455667788 ll\nr0 = bswap32 r0", "88776655"),
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
    ("r0 = 1\nr0 <<= 63\nr3 = -1\nr0 s/= r3", "8000000000000000"),
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
    ("r0 = 1\nr0 <<= 63\nr3 = -1\nr0 s%= r3", "0"),
    ("r0 = 7\nr0 ^= 2", "5"),
    ("r0 = 7\nr3 = 2\nr0 ^= r3", "5"),
    ("r0 = -1", "ffffffffffffffff"),
    ("r3 = -1\nr0 = r3", "ffffffffffffffff"),
    ("r3 = 0x80\nr0 = (s8)r3", "ffffffffffffff80"),
    ("r3 = 0x8000\nr0 = (s16)r3", "ffffffffffff8000"),
    ("r3 = 0x80000000 ll\nr0 = (s32)r3", "ffffffff80000000"),
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
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nlock *(u32 *)(r10 -8) += r3\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "a16",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nr3 = atomic_fetch_add((u32 *)(r10 -8), r3)\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c16",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nlock *(u32 *)(r10 -8) |= r3\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "a0e",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nr3 = atomic_fetch_or((u32 *)(r10 -8), r3)\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c0e",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nlock *(u32 *)(r10 -8) &= r3\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "a08",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nr3 = atomic_fetch_and((u32 *)(r10 -8), r3)\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c08",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nlock *(u32 *)(r10 -8) ^= r3\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "a06",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nr3 = atomic_fetch_xor((u32 *)(r10 -8), r3)\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c06",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nr3 = atomic_xchg((u32 *)(r10 -8), r3)\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c0a",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nr0 = 12\nr0 = atomic_cmpxchg((u32 *)(r10 -8), r0, r3)\nr3 = r0\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c0a",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u32 *)(r10 -8) = r4\nr0 = 11\nr0 = atomic_cmpxchg((u32 *)(r10 -8), r0, r3)\nr3 = r0\nr0 = *(u32 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c0c",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nlock *(u64 *)(r10 -8) += r3\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "a16",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nr3 = atomic64_fetch_add((u64 *)(r10 -8), r3)\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c16",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nlock *(u64 *)(r10 -8) |= r3\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "a0e",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nr3 = atomic64_fetch_or((u64 *)(r10 -8), r3)\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c0e",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nlock *(u64 *)(r10 -8) &= r3\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "a08",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nr3 = atomic64_fetch_and((u64 *)(r10 -8), r3)\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c08",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nlock *(u64 *)(r10 -8) ^= r3\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "a06",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nr3 = atomic64_fetch_xor((u64 *)(r10 -8), r3)\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c06",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nr3 = atomic64_xchg((u64 *)(r10 -8), r3)\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c0a",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nr0 = 12\nr0 = atomic64_cmpxchg((u64 *)(r10 -8), r0, r3)\nr3 = r0\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c0a",
    ),
    (
        "r3 = 10\nr4 = 12\n*(u64 *)(r10 -8) = r4\nr0 = 11\nr0 = atomic64_cmpxchg((u64 *)(r10 -8), r0, r3)\nr3 = r0\nr0 = *(u64 *)(r10 -8)\nr3 <<= 8\nr0 |= r3",
        "c0c",
    ),
    ("r0 = load_acquire((u8 *)(r1 +0))", "10"),
    ("r3 = -1\nstore_release((u8 *)(r1 +0), r3)\nr0 = *(u64 *)(r1 +0)", "17161514131211ff"),
    ("r0 = load_acquire((u16 *)(r1 +0))", "1110"),
    ("r3 = -1\nstore_release((u16 *)(r1 +0), r3)\nr0 = *(u64 *)(r1 +0)", "171615141312ffff"),
    ("r0 = load_acquire((u32 *)(r1 +0))", "13121110"),
    ("r3 = -1\nstore_release((u32 *)(r1 +0), r3)\nr0 = *(u64 *)(r1 +0)", "17161514ffffffff"),
    ("r0 = load_acquire((u64 *)(r1 +0))", "1716151413121110"),
    ("r3 = -1\nstore_release((u64 *)(r1 +0), r3)\nr0 = *(u64 *)(r1 +0)", "ffffffffffffffff"),
    ("r0 = 1\ngoto +1\nr0 = 2", "1"),
    ("r0 = 1\ngotol +1\nr0 = 2", "1"),
    ("r0 = 1\nmay_goto +1\nr0 = 2", "2"),
    ("r1 = 5\ncall 5", "5"),
    ("r1 = 5\ncall pc+1\nexit\nr0 = r1", "5"),
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

/// Texts of lines that need what a program alone does not have: maps, types and functions of a kernel, a packet.
const REFUSED: &[&str] = &["map[", "btf[", "subprog[", "kfunc[", "skb["];

#[cfg(target_endian = "little")]
#[test]
fn one_case_for_each_line_of_the_table() {
    let mut rows = bpf_table::rows();
    for (text, expected) in CASES {
        let insns = insns_of(&format!("{text}\nexit"));
        assert_eq!(printed(&[MEMORY], &hex_of(&bytes_of(&insns))), format!("{expected}\n"), "{text}");
        for (at, insn) in insns.iter().enumerate() {
            let slots = [*insn, insns.get(at + 1).copied().unwrap_or_default()];
            rows.retain(|row| !row.matches(&slots));
        }
    }
    for row in rows {
        let [first, second] = row.example();
        let slots = if row.next.is_some() { vec![first, second] } else { vec![first] };
        if row.old_callx() {
            // The assembler has the register where compilers of today have it.
            let arguments = insns_of("r1 = 3\nr7 = 5");
            let program = [arguments, slots, insns_of("exit")].concat();
            assert_eq!(printed(&[], &hex_of(&bytes_of(&program))), "3\n");
            continue;
        }
        assert!(REFUSED.iter().any(|text| row.text.contains(text)), "no case: {row:?}");
        let program = [insns_of("r2 = 0\nr6 = r1\nr0 = 0"), slots, insns_of("exit")].concat();
        let output = run(&[MEMORY], &hex_of(&bytes_of(&program)));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{row:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("instruction 3"), "{row:?}: {output:?}");
    }
}

#[test]
fn the_protocol() {
    let length = hex("r0 = r2\nexit");
    assert_eq!(printed(&[], &length), "0\n");
    assert_eq!(printed(&["00 01 02"], &length), "3\n");
    assert_eq!(printed(&["--debug", "000102", "--elf"], &length), "3\n");
    assert_eq!(printed(&["--program", &length, "0001"], ""), "2\n");
    // Older runners: the memory, and all options, each an argument, whether there is something in it or not.
    assert_eq!(printed(&["", ""], &length), "0\n");
    assert_eq!(printed(&["00  01  ", ""], &length), "2\n");
    assert_eq!(printed(&[], &hex("r0 = r1\nexit")), "0\n");
    assert_eq!(printed(&[], &hex("r0 = -1\nexit").to_uppercase().replace(' ', "\n")), "ffffffffffffffff\n");
}

/// An object as the runner makes it for `--elf`: `name` in `.text`, and the names of symbols among those of sections.
#[cfg(target_endian = "little")]
fn object(machine: u16, name: &str, text: &[u8]) -> Vec<u8> {
    let strings = format!("\0.shstrtab\0.symtab\0.text\0{name}\0");
    let name_of = |wanted: &str| strings.find(&format!("\0{wanted}\0")).unwrap() as u32 + 1;
    let symbols =
        [&[0; 24][..], &name_of(name).to_le_bytes(), &[0x12, 0, 3, 0], &[0; 8], &text.len().to_le_bytes()].concat();
    let mut object = [&b"\x7fELF\x02\x01\x01"[..], &[0; 9], &[1, 0], &machine.to_le_bytes(), &[1, 0, 0, 0]].concat();
    let offsets = [64, 64 + strings.len(), 64 + strings.len() + symbols.len()];
    let sections = offsets[2] + text.len();
    object.extend([&[0; 16][..], &sections.to_le_bytes(), &[0; 4], &[64, 0, 0, 0, 0, 0, 64, 0, 4, 0, 1, 0]].concat());
    object.extend([strings.as_bytes(), &symbols, text].concat());
    object.extend([0; 64]);
    let headers = [
        (".shstrtab", 3_u32, 0_u64, strings.len(), 0_u32, 0_u32, 0_u64),
        (".symtab", 2, 0, symbols.len(), 1, 1, 24),
        (".text", 1, 6, text.len(), 0, 0, 0),
    ];
    for ((name, type_, flags, size, link, info, entry), offset) in headers.into_iter().zip(offsets) {
        object.extend([name_of(name), type_].map(u32::to_le_bytes).concat());
        object.extend([flags, 0, offset as u64, size as u64].map(u64::to_le_bytes).concat());
        object.extend([link, info].map(u32::to_le_bytes).concat());
        object.extend([1, entry].map(u64::to_le_bytes).concat());
    }
    object
}

#[cfg(target_endian = "little")]
#[test]
fn objects() {
    const BPF: u16 = 247;
    let main = bytes_of(&insns_of("r0 = *(u8 *)(r1 +0)\nr0 += r2\nexit"));
    let whole = object(BPF, "main", &main);
    assert_eq!(printed(&["10 11 12", "--elf"], &hex_of(&whole)), "13\n");
    assert_eq!(printed(&["--program", &hex_of(&whole), "10", "--debug", "--elf"], ""), "11\n");
    assert_eq!(refused(&["--elf"], &hex_of(&object(BPF, "other", &main))), "the object has no main");
    assert_eq!(refused(&["--elf"], &hex_of(&object(62, "main", &main))), "the object is not of BPF");
    assert!(refused(&["--elf"], &hex_of(&object(BPF, "main", &main[..9]))).contains("9"));
    // Cut anywhere.
    for len in (4..whole.len()).step_by(29) {
        assert!(!refused(&["00", "--elf"], &hex_of(&whole[..len])).is_empty());
    }
}

/// What is said of a program that does not run.
fn refused(arguments: &[&str], stdin: &str) -> String {
    let output = run(arguments, stdin);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty());
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().strip_prefix("bpf_conformance_plugin: ").unwrap().to_owned()
}

#[test]
fn what_is_wrong_is_said() {
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
    assert!(refused(&[], &hex("goto -1")).contains("the instruction budget is used up"));
    assert!(refused(&["--wrong"], "").contains("--wrong"));
    assert!(refused(&["00", "01"], "").contains("01"));
    assert!(refused(&["--program"], "").contains("--program"));
}
