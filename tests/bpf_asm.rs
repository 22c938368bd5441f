//! Instructions as text and back: by themselves, in listings, beside llvm, and as the kernel's log has them.

#![allow(unsafe_code, reason = "bpf(2) asks the kernel for its text")]

use perfring::bpf::insn::*;
use perfring::bpf::{HelperId, Helpers};
use perfring::record::ByteOrder;
use proptest::prelude::*;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

mod bpf_table;
mod common;

fn one(text: &str) -> Result<Op, AsmError> {
    assemble(text).map(|insns| Op::decode(&insns, 0).expect("only what is defined is assembled"))
}

/// What the log of Linux 6.18 has for these, at level 2.
#[test]
fn text_is_as_in_the_kernels_log() {
    for (bytes, text) in [
        ([0x07, 0x01, 0, 0, 0xf8, 0xff, 0xff, 0xff], "r1 += -8"),
        ([0x3c, 0x21, 1, 0, 0, 0, 0, 0], "w1 s/= w2"),
        ([0xc7, 0x01, 0, 0, 7, 0, 0, 0], "r1 s>>= 7"),
        ([0x84, 0x01, 0, 0, 0, 0, 0, 0], "w1 = -w1"),
        ([0xbc, 0x21, 16, 0, 0, 0, 0, 0], "w1 = (s16)w2"),
        ([0xd7, 0x01, 0, 0, 64, 0, 0, 0], "r1 = bswap64 r1"),
        ([0xd4, 0x01, 0, 0, 16, 0, 0, 0], "r1 = le16 r1"),
        ([0x15, 0x01, 1, 0, 0xf8, 0xff, 0xff, 0xff], "if r1 == 0xfffffff8 goto pc+1"),
        ([0x75, 0x01, 0xf9, 0xff, 5, 0, 0, 0], "if r1 s>= 0x5 goto pc-7"),
        ([0x4e, 0x21, 0, 0, 0, 0, 0, 0], "if w1 & w2 goto pc+0"),
        ([0x61, 0x21, 0xf8, 0xff, 0, 0, 0, 0], "r1 = *(u32 *)(r2 -8)"),
        ([0x91, 0x21, 0, 0, 0, 0, 0, 0], "r1 = *(s8 *)(r2 +0)"),
        ([0x7a, 0x01, 0, 0, 0xfb, 0xff, 0xff, 0xff], "*(u64 *)(r1 +0) = -5"),
        ([0x73, 0x21, 8, 0, 0, 0, 0, 0], "*(u8 *)(r1 +8) = r2"),
        ([0xc3, 0x21, 0xf8, 0xff, 0xa0, 0, 0, 0], "lock *(u32 *)(r1 -8) ^= r2"),
        ([0xc3, 0x21, 0xf8, 0xff, 0x01, 0, 0, 0], "r2 = atomic_fetch_add((u32 *)(r1 -8), r2)"),
        ([0xdb, 0x21, 0xf8, 0xff, 0xe1, 0, 0, 0], "r2 = atomic64_xchg((u64 *)(r1 -8), r2)"),
        ([0xdb, 0x21, 0xf8, 0xff, 0xf1, 0, 0, 0], "r0 = atomic64_cmpxchg((u64 *)(r1 -8), r0, r2)"),
        ([0xd3, 0x21, 0xf8, 0xff, 0, 1, 0, 0], "r1 = load_acquire((u8 *)(r2 -8))"),
        ([0xcb, 0x21, 8, 0, 0x10, 1, 0, 0], "store_release((u16 *)(r1 +8), r2)"),
        ([0x20, 0, 0, 0, 0, 0xf0, 0xff, 0xff], "r0 = *(u32 *)skb[-4096]"),
        ([0x40, 0x60, 0, 0, 0xf2, 0xff, 0xff, 0xff], "r0 = *(u32 *)skb[r6 + -14]"),
        ([0x85, 0, 0, 0, 0xd3, 0, 0, 0], "call bpf_cgrp_storage_delete#211"),
        ([0x85, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "call unknown#-1"),
        ([0x85, 0x10, 0, 0, 2, 0, 0, 0], "call pc+2"),
        ([0x95, 0, 0, 0, 0, 0, 0, 0], "exit"),
    ] {
        let insns = Insn::parse(&bytes).expect("eight bytes");
        assert_eq!(Op::decode(&insns, 0).expect(text).to_string(), text);
        assert_eq!(assemble(text), Ok(insns));
    }
    // Only with its opcode before it is this one wide.
    assert_eq!(one("0: (18) r1 = 0x5"), one("r1 = 5 ll"));
    assert_ne!(one("r1 = 0x5"), one("r1 = 5 ll"));
}

#[test]
fn other_ways_to_write_the_same() {
    for (one_way, other) in [
        ("r1 = *(u64 *)(r10 -8)", "r1=*(u64*)(r10-8)// far"),
        ("r1 = *(u64 *)(r10 +0)", "r1 = *(u64 *)(r10)"),
        ("r1 = *(u32 *)(r2 +8)", "w1 = *(u32 *)(r2 + 8)"),
        ("*(u32 *)(r2 +8) = r1", "*(u32 *)(r2 + 0x8) = w1 # comment"),
        ("w1 = -1", "w1 = 0xffffffff"),
        ("w1 += -1", "w1 += 4294967295"),
        ("if r1 > 0xffffffff goto pc+3", "if r1 > -1 goto +3"),
        ("call bpf_map_lookup_elem#1", "call bpf_map_lookup_elem"),
        ("call bpf_map_lookup_elem#1", "call 1 ; by number"),
        ("call unknown#5000", "call 5000"),
        ("r1 = -1 ll", "r1 = 0xffffffffffffffff ll"),
        ("r1 = map[fd:5] ll", "r1 = map[fd:5]"),
        ("r1 = map[idx:5][0]+0 ll", "r1 = map[idx:5][0]"),
        ("goto pc+0", "goto next\nnext:"),
        ("goto pc-1", "self: 0: (05) goto self"),
        ("call pc-1", "self: call self"),
        ("gotol pc+40000", "goto pc+40000"),
        ("r0 = *(u8 *)skb[r2 + 0]", "r0 = *(u8 *)skb[r2]"),
        ("r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)", "r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)"),
    ] {
        assert_eq!(assemble(one_way), assemble(other), "{one_way} | {other}");
        assert!(assemble(one_way).is_ok(), "{one_way}");
    }
    assert_eq!(assemble(" ; nothing\n\n# at all\n// here\nlabel:"), Ok(vec![]));
    let names = |name: &str| (name == "ours").then_some(70_000);
    assert_eq!(assemble_with("call ours", &names), assemble("call 70000"));
    assert!(assemble_with("call bpf_map_lookup_elem", &names).is_err());
}

#[test]
fn errors_say_where_and_what() {
    for (text, message) in [
        ("r0 = 1\n  r0 += x", "2:9: expected a register r0 to r10 or a number, not x"),
        ("r0", "1:3: expected an assignment, not the end of the line"),
        ("r11 = 0", "1:1: expected an instruction, not r11"),
        ("r01 = 0", "1:1: expected an instruction, not r01"),
        ("é", "1:1: expected an instruction, not é"),
        ("r0 = 1 é", "1:8: expected an instruction, not é"),
        ("r0 = 1 2", "1:8: expected the end of the line, not 2"),
        ("r1 = w2", "1:6: expected a register of the same width, not w2"),
        ("r1 = be16 r2", "1:11: expected the same register, not r2"),
        ("r1 = 0xffffffff", "1:6: the number does not fit into 32 bits"),
        ("w1 = 0x100000000", "1:6: the number does not fit into 32 bits"),
        ("if r1 > 4294967295 goto pc+1", "1:9: the number does not fit into 32 bits"),
        ("r1 = 0x10000000000000000 ll", "1:6: the number does not fit into 64 bits"),
        ("r1 = -9223372036854775809 ll", "1:6: the number does not fit into 64 bits"),
        ("r1 = 12x", "1:6: expected a number, not 12x"),
        ("r1 = *(u64 *)(r2 +32768)", "1:18: the number does not fit into 16 bits"),
        ("if r1 > r2 goto pc+32768", "1:17: the number does not fit into 16 bits"),
        ("r1 = *(s64 *)(r2 +0)", "1:8: expected u8, u16, u32, u64, s8, s16 or s32, not s64"),
        (
            "r1 = atomic64_xchg((u32 *)(r2 +0), r1)",
            "1:6: expected an operation without 64, since its operand is smaller, not atomic64_xchg",
        ),
        ("r1 = atomic_xchg((u32 *)(r2 +0), r3)", "1:34: expected the register of the result, not r3"),
        ("7: exit", "1:1: this is instruction 0, not 7"),
        ("(bf) exit", "1:1: the opcode of this is 0x95, not 0xbf"),
        ("(bf)", "1:5: expected an instruction, not the end of the line"),
        ("r10 = 5", "1:1: instruction 0: r10 is read-only"),
        (
            "exit\nlock *(u8 *)(r1 +0) += r2",
            "2:1: instruction 1: atomic operation 0x0 takes 4 or 8 bytes, and opcode 0xd3 has fewer",
        ),
        ("goto nowhere", "1:6: there is no label `nowhere`"),
        ("call nothing", "1:6: there is no helper and no label `nothing`"),
        ("call bpf_task_acquire#12345", "1:6: there is no helper and no label `bpf_task_acquire`"),
        ("call bpf_map_lookup_elem#2", "1:6: helper `bpf_map_lookup_elem` has number 1, not 2"),
        ("a: exit\nb: a: exit", "2:4: label `a` stands in line 1 already"),
        ("w1 = atomic_xchg((u64 *)(r2 +0), r1)", "1:6: expected an operation of at most 4 bytes, not atomic_xchg"),
        ("goto pc", "1:6: expected pc and a signed number, or a label, not pc"),
    ] {
        let error = assemble(text).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
    let far = format!("if r1 > r2 goto end\n{}end: exit", "r0 = 0\n".repeat(40_000));
    assert_eq!(
        assemble(&far).expect_err("too far").to_string(),
        "1:17: label `end` is 40000 instructions away, too far"
    );
    let long = "exit\n".repeat(Code::MAX_LEN + 1);
    assert_eq!(assemble(&long).expect_err("too long").to_string(), "1000001:1: more than 1000000 instructions");
}

#[test]
fn helpers_have_the_names_of_the_uapi_and_of_this_crate() {
    for (number, name) in [
        (1, "bpf_map_lookup_elem"),
        (12, "bpf_tail_call"),
        (25, "bpf_perf_event_output"),
        (113, "bpf_probe_read_kernel"),
        (131, "bpf_ringbuf_reserve"),
        (181, "bpf_loop"),
        (209, "bpf_user_ringbuf_drain"),
        (211, "bpf_cgrp_storage_delete"),
        (HelperId::FINALIZE_CONTEXT.0, "bpf_finalize_context"),
        (HelperId::BUFFER_RESERVE.0, "bpf_buffer_reserve"),
        (HelperId::BUFFER_COMMIT.0, "bpf_buffer_commit"),
    ] {
        assert_eq!(helper_name(number), Some(name));
        assert_eq!(helper_number(name), Some(number));
    }
    assert!([0, 212, -1, i32::MIN, i32::MAX].iter().all(|&number| helper_name(number).is_none()));
    let standard = Helpers::standard();
    assert!(standard.ids().all(|id| helper_name(id.0) == standard.prototype(id).map(|prototype| &*prototype.name)));
    assert!((1..=211).all(|number| helper_name(number).and_then(helper_number) == Some(number)));
}

#[test]
fn listings_with_names_and_labels() {
    let insns =
        assemble("loop: call 70000\nif r0 != 0 goto loop\nr2 = subprog[f] ll\ncall f\nexit\nf: exit").expect("sound");
    let code = Code::new(insns, CodeOptions::default()).expect("sound");
    let names = |number: i32| (number == 70_000).then_some("ours");
    let listing = Listing::new(&code).with_names(&names).with_labels().to_string();
    assert_eq!(
        listing,
        "F0:\nL0:\n0: (85) call ours#70000\n1: (55) if r0 != 0x0 goto L0\n2: (18) r2 = subprog[F6] ll\n\
         4: (85) call F6\n5: (95) exit\nF6:\n6: (95) exit\n"
    );
    let numbers = |name: &str| (name == "ours").then_some(70_000);
    assert_eq!(assemble_with(&listing, &numbers).as_deref(), Ok(code.insns()));
}

/// The newest of this tool of llvm.
fn llvm(tool: &str) -> Option<String> {
    let names = (14..=24).rev().map(|version| format!("{tool}-{version}")).chain([tool.to_owned()]);
    let runs = |name: &String| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    let found = names.into_iter().find(runs);
    if found.is_none() {
        common::lacks(tool);
    }
    found
}

/// Runs a tool, and gives what it prints.
fn run(command: &mut Command) -> Option<Vec<u8>> {
    let output = command.output().expect("it ran before");
    output.status.success().then_some(output.stdout)
}

/// Assembles with llvm-mc, and gives the instructions; none if this llvm is too old for the processor.
fn llvm_assemble(mc: &str, objcopy: &str, dir: &Path, cpu: &str, text: &str) -> Option<Vec<Insn>> {
    let (source, object, bytes) = (dir.join("a.s"), dir.join("a.o"), dir.join("a.bin"));
    std::fs::write(&source, text).expect("our own directory");
    let mcpu = format!("-mcpu={cpu}");
    run(Command::new(mc).args(["-triple", "bpfel", &mcpu, "-filetype=obj", "-o"]).arg(&object).arg(&source))?;
    run(Command::new(objcopy).args(["-O", "binary", "--only-section=.text"]).arg(&object).arg(&bytes))
        .expect("an object");
    Some(Insn::parse(&std::fs::read(&bytes).expect("it is written")).expect("instructions"))
}

/// Both understand this.
const SHARED: &str = "
    r1 += 7
    r1 += r2
    r3 -= -5
    r3 *= r4
    r3 /= 3
    r3 %= r5
    r3 |= 1
    r3 &= r1
    r3 ^= 0x7f
    r3 <<= 5
    r3 >>= r2
    r3 s>>= 63
    r3 = -r3
    r3 = r4
    r3 = 1000
    w1 += 7
    w1 *= w2
    w1 s>>= w2
    w1 = -w1
    w1 = w3
    w1 = -1
    r1 = be16 r1
    r1 = be32 r1
    r1 = le64 r1
    r1 = 0x1122334455667788 ll
    r1 = -1 ll
    r1 = *(u8 *)(r2 + 1)
    r1 = *(u16 *)(r2 - 2)
    r1 = *(u32 *)(r2 + 4)
    r1 = *(u64 *)(r10 - 8)
    *(u8 *)(r2 + 1) = r1
    *(u16 *)(r2 + 2) = r1
    *(u32 *)(r2 + 4) = r1
    *(u64 *)(r10 - 8) = r1
    lock *(u32 *)(r1 + 0) += r2
    lock *(u64 *)(r1 + 8) += r2
    r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)
    r0 = *(u8 *)skb[14]
    r0 = *(u32 *)skb[r6]
    if r1 == 5 goto +1
    if r1 != r2 goto -3
    if r1 s> -5 goto +0
    if r1 s<= r2 goto +0
    if w1 > w2 goto +7
    if w1 < 3 goto +7
    goto +1
    goto -2
    call 1
    exit
";

/// Both understand this, from version 4 on.
const SHARED_V4: &str = "
    r1 = (s8)r2
    r1 = (s16)r2
    r1 = (s32)r2
    w1 = (s8)w2
    w1 = (s16)w2
    r1 s/= 3
    r1 s/= r2
    r1 s%= r2
    w1 s/= w2
    w1 s%= 5
    r1 = bswap16 r1
    r1 = bswap32 r1
    r1 = bswap64 r1
    r1 = *(s8 *)(r2 + 1)
    r1 = *(s16 *)(r2 - 2)
    r1 = *(s32 *)(r2 + 4)
    *(u8 *)(r2 + 1) = 1
    *(u64 *)(r2 + 8) = -1
    gotol -300
    gotol +3
";

#[test]
fn llvm_mc_assembles_the_same() {
    let (Some(mc), Some(objcopy)) = (llvm("llvm-mc"), llvm("llvm-objcopy")) else { return };
    let dir = common::TempDir::new("bpf_asm_mc");
    for (cpu, text) in [("v3", SHARED), ("v4", SHARED_V4)] {
        let Some(theirs) = llvm_assemble(&mc, &objcopy, dir.path(), cpu, text) else {
            assert_ne!(cpu, "v3", "{mc} does not assemble");
            common::lacks(format_args!("llvm-mc for {cpu}"));
            continue;
        };
        assert_eq!(assemble(text), Ok(theirs), "{cpu}");
    }
}

/// Every instruction of the table, as llvm-objdump writes it, is read as what it was.
#[test]
fn llvm_objdump_disassembles_to_the_same() {
    let (Some(mc), Some(objdump)) = (llvm("llvm-mc"), llvm("llvm-objdump")) else { return };
    let dir = common::TempDir::new("bpf_asm_objdump");
    let mut insns = Vec::new();
    // llvm has only numbers as 64-bit immediates, no offset behind an index, and kinds of calls by relocations. Before version
    // 20 it takes load_acquire and store_release for additions.
    let unknown = |row: &bpf_table::Row| match row.opcode {
        0xc3 | 0xdb if row.text.contains("load_acquire") || row.text.contains("store_release") => true,
        0x18 => row.src != bpf_table::Field::Exactly(0),
        0x40 | 0x48 | 0x50 | 0x85 => true,
        _ => row.old_callx(),
    };
    let rows: Vec<_> = bpf_table::rows().into_iter().filter(|row| !unknown(row)).collect();
    for row in &rows {
        insns.extend_from_slice(&row.example()[..if row.next.is_some() { 2 } else { 1 }]);
    }
    let bytes: Vec<String> =
        insns.iter().flat_map(|insn| insn.to_bytes(ByteOrder::Little)).map(|byte| format!(".byte {byte}\n")).collect();
    let (source, object) = (dir.path().join("a.s"), dir.path().join("a.o"));
    std::fs::write(&source, bytes.concat()).expect("our own directory");
    let mut assembler = Command::new(mc);
    assembler.args(["-triple", "bpfel", "-filetype=obj", "-o"]).arg(&object).arg(&source);
    run(&mut assembler).expect("bytes are assembled");
    let listing = [&["-d", "--mcpu=v4"][..], &["-d", "--mattr=+alu32"][..]]
        .into_iter()
        .find_map(|options| run(Command::new(&objdump).args(options).arg(&object)))
        .expect("it is disassembled");
    let listing = String::from_utf8(listing).expect("text");
    let mut compared = 0;
    for line in listing.lines() {
        // `       7:	07 01 00 00 07 00 00 00	r1 += 0x7`
        let mut columns = line.split('\t');
        let (Some(index), Some(_), Some(text)) = (columns.next(), columns.next(), columns.next()) else { continue };
        let Ok(at) = index.trim().trim_end_matches(':').parse::<usize>() else { continue };
        // The label of a target is behind it.
        let text = text.strip_suffix('>').and_then(|text| text.rsplit_once(" <")).map_or(text, |(text, _)| text);
        if text == "<unknown>" {
            continue;
        }
        let slots = Op::decode(&insns, at).expect("a line of the table").slots();
        assert_eq!(assemble(text).as_deref(), Ok(&insns[at..at + slots]), "{line}");
        compared += 1;
    }
    // The version 14 of llvm has no instructions of v4.
    assert!(compared > 120, "{compared} of {}", rows.len());
}

/// What the verifier logs of a program; it may refuse it.
fn kernels_log(insns: &[Insn]) -> std::io::Result<String> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_SOCKET_FILTER: u64 = 1;
    const LOG_SIZE: u32 = 1 << 16;
    let bytes: Vec<u8> = insns.iter().flat_map(|insn| insn.to_bytes(ByteOrder::NATIVE)).collect();
    let mut log = vec![0u8; LOG_SIZE as usize];
    // prog_type and insn_cnt, insns, license, log_level and log_size, log_buf: two `u32`s are a `u64` of little-endian machines.
    let pair = |first: u64, second: u64| {
        if cfg!(target_endian = "little") { second << 32 | first } else { first << 32 | second }
    };
    let attr: [u64; 5] = [
        pair(BPF_PROG_TYPE_SOCKET_FILTER, insns.len() as u64),
        bytes.as_ptr().expose_provenance() as u64,
        c"GPL".as_ptr().expose_provenance() as u64,
        pair(2, LOG_SIZE.into()),
        log.as_mut_ptr().expose_provenance() as u64,
    ];
    // SAFETY: the attribute says where the instructions, the license and the log are and how long, and all live until the end
    // of the call; the kernel writes only into the log.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, attr.as_ptr(), size_of_val(&attr)) };
    if fd >= 0 {
        // SAFETY: a file descriptor that the call made, and that nobody else has.
        drop(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) });
    } else if log[0] == 0 {
        return Err(std::io::Error::last_os_error());
    }
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    Ok(String::from_utf8_lossy(&log[..end]).into_owned())
}

/// Every instruction of the table that the kernel prints before it judges it.
#[test]
fn running_kernel_has_the_same_text() {
    let mut compared = 0;
    for row in bpf_table::rows() {
        // Addresses and names stand for maps, variables, functions and kfuncs; calls need a function.
        if row.opcode == 0x18 && row.src != bpf_table::Field::Exactly(0) || row.text.starts_with("call pc") {
            continue;
        }
        let example = row.example();
        let slots = if row.next.is_some() { 2 } else { 1 };
        // Everything is reached, whatever the instruction is.
        let mut insns = assemble(&format!("r0 = 0\nif r0 != 0 goto pc+{slots}")).expect("sound");
        insns.extend_from_slice(&example[..slots]);
        insns.extend(assemble(&format!("{}exit", "r0 = 0\n".repeat(9))).expect("sound"));
        let log = match kernels_log(&insns) {
            Ok(log) => log,
            Err(error) => return common::skip(format_args!("bpf(2): {error}")),
        };
        if log.contains("uses reserved fields") {
            // An older kernel, which does not know this instruction.
            continue;
        }
        let start = format!("2: ({:02x}) ", row.opcode);
        let Some(line) = log.lines().find_map(|line| line.strip_prefix(&start)) else { continue };
        let theirs = line.split(';').next().unwrap_or_default().trim();
        // The kernel has no `ll`.
        assert_eq!(theirs, row.text.trim_end_matches(" ll"), "{log}");
        compared += 1;
    }
    // Those of Linux 5.15 at least.
    assert!(compared > 130, "{compared}");
}

fn any_row() -> impl Strategy<Value = (bpf_table::Row, [u64; 4])> {
    (proptest::sample::select(bpf_table::rows()), any::<[u64; 4]>())
}

/// A program of any instructions, whose jumps lead to instructions.
fn program(rows: &[(bpf_table::Row, [u64; 4])]) -> Vec<Op> {
    let ops: Vec<Op> = rows.iter().map(|(row, seed)| Op::decode(&row.fill(*seed), 0).expect("of the table")).collect();
    let starts: Vec<usize> = ops.iter().scan(0, |at, op| Some(std::mem::replace(at, *at + op.slots()))).collect();
    let aim = |at: usize, seed: i32| {
        let target = starts[seed.unsigned_abs() as usize % starts.len()];
        i32::try_from(target).expect("short") - i32::try_from(starts[at]).expect("short") - 1
    };
    let mut ops: Vec<Op> = ops
        .into_iter()
        .enumerate()
        .map(|(at, op)| match op {
            Op::Jump { offset, long } => Op::Jump { offset: aim(at, offset), long },
            Op::JumpIf { width, op, dst, src, offset } => {
                Op::JumpIf { width, op, dst, src, offset: aim(at, offset.into()) as i16 }
            }
            Op::MayGoto { offset } => Op::MayGoto { offset: aim(at, offset.into()) as i16 },
            // Functions would have to end well.
            Op::Call(Callee::Local(_)) => Op::Call(Callee::Local(-i32::try_from(starts[at]).expect("short") - 1)),
            Op::LoadImm64 { dst, imm: Imm64::Function(_) } => {
                Op::LoadImm64 { dst, imm: Imm64::Function(-i32::try_from(starts[at]).expect("short") - 1) }
            }
            op => op,
        })
        .collect();
    ops.push(Op::Exit);
    ops
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn listings_are_read_as_what_they_are_of(rows in proptest::collection::vec(any_row(), 1..40)) {
        let insns: Vec<Insn> = program(&rows).iter().flat_map(|op| op.encode().to_vec()).collect();
        let code = Code::new(insns.clone(), CodeOptions { callx: true })
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        for listing in [Listing::new(&code), Listing::new(&code).with_labels()] {
            let text = listing.to_string();
            prop_assert_eq!(assemble(&text), Ok(insns.clone()), "{}", text);
        }
    }

    #[test]
    fn damaged_listings_are_refused_or_read(
        rows in proptest::collection::vec(any_row(), 1..4),
        at: proptest::sample::Index,
        with in "[ -~é]{0,3}",
        cut in 0usize..4,
    ) {
        let mut text: String = program(&rows).iter().map(|op| format!("{op}\n")).collect();
        let start = at.index(text.len());
        let end = (start + cut).min(text.len());
        text.replace_range(start..end, &with);
        match assemble(&text) {
            Ok(insns) => {
                let mut at = 0;
                while at < insns.len() {
                    at += Op::decode(&insns, at).map_err(|error| TestCaseError::fail(error.to_string()))?.slots();
                }
            }
            Err(error) => {
                let line = text.lines().nth(error.line - 1);
                prop_assert!(line.is_some_and(|line| error.column <= line.chars().count() + 1), "{} {:?}", text, error);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_assembler_panic(text in "\\PC*", words in "([rw][0-9]{1,2}|0x|[0-9]{1,22}|[-+*/%&|^=<>!()\\[\\],:;# \n\té]|s>|u64|goto|if|call|map|fd|ll|skb|lock){0,30}") {
        let _ = assemble(&text);
        let _ = assemble(&words);
    }
}
