//! `perfring bpf`, run as its users run it.

mod common;

use std::process::Command;

use perfring::bpf::btf::Btf;

/// The status, the standard output and the standard error.
fn perfring(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_perfring")).args(arguments).output().expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

fn object(name: &str) -> String {
    format!("{}/tests/bpf/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn programs_are_printed_with_lines_maps_and_functions() {
    let (status, out, err) = perfring(&["bpf", "disasm", &object("calls")]);
    assert_eq!((status, err.as_str()), (0, ""));
    let start = "\
program one, section xdp/one, 47 instructions
one:
; int here = (int)*context; @ ./calls.bpf.c:72
0: (61) r6 = *(u32 *)(r1 +0)
; return beside(hidden(here)) + inlined(here) + middle(here); @ ./calls.bpf.c:73
1: (bc) w1 = w6
2: (85) call pc+11 ; hidden
3: (bc) w1 = w0
4: (85) call pc+17 ; beside
";
    assert!(out.starts_with(start), "{out}");
    let hidden = "\
hidden:
; calls += 2; @ ./calls.bpf.c:41
14: (18) r2 = map[idx:0][0]+0 ll ; .data+0
16: (61) r3 = *(u32 *)(r2 +0)
";
    assert!(out.contains(hidden), "{out}");
    assert!(out.contains("\n\nprogram two, section xdp/one, 11 instructions\ntwo:\n"), "{out}");
    assert!(out.contains(" ll ; step\n") && out.contains("call bpf_loop#181\n"), "{out}");
    assert!(!out.contains(":0\n"), "line 0 is none: {out}");
}

#[test]
fn an_object_without_lines_is_printed_too() {
    let (status, out, _) = perfring(&["bpf", "disasm", &object("legacy")]);
    assert_eq!(status, 0);
    assert!(out.contains("count:\n0: (b7) r1 = 3\n"), "{out}");
    assert!(out.contains("4: (18) r1 = map[idx:0] ll ; map counts\n6: (85) call bpf_map_lookup_elem#1\n"), "{out}");
}

#[test]
fn a_section_is_chosen() {
    let (status, out, _) = perfring(&["bpf", "disasm", &object("maps"), "--section", "?dtrace/5"]);
    assert_eq!((status, out.matches("program ").count()), (0, 1));
    assert!(out.starts_with("program second, section ?dtrace/5, 13 instructions\n"), "{out}");
    let (status, out, err) = perfring(&["bpf", "disasm", &object("maps"), "--section", "dtrace"]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert_eq!(err, format!("perfring: {}: no program is in section dtrace\n", object("maps")));
}

#[test]
fn a_bad_object_is_told_of_in_one_line() {
    let reason = "section kprobe/do_exit, function leave, instruction 0 (./extern.bpf.c:21): bpf_of_kernel is not in this \
                  object, and that is not supported";
    let (status, out, err) = perfring(&["bpf", "disasm", &object("extern")]);
    assert_eq!((status, out.as_str(), err), (1, "", format!("perfring: {}: {reason}\n", object("extern"))));
    let source = format!("{}/tests/bpf/calls.bpf.c", env!("CARGO_MANIFEST_DIR"));
    for (path, what) in [(source.as_str(), "no sound ELF file"), ("/nonexistent", "cannot read /nonexistent")] {
        let (status, _, err) = perfring(&["bpf", "disasm", path]);
        assert_eq!((status, err.lines().count()), (1, 1));
        assert!(err.contains(what), "{err}");
    }
}

#[test]
fn a_bad_instruction_is_told_of_with_its_line() {
    let mut bytes = std::fs::read(object("maps")).expect("the fixture");
    // Instruction 1 of the first program, behind the header of 64 bytes.
    assert_eq!(bytes[72], 0x63);
    bytes[72] = 0xff;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("a file");
    let path = file.path().to_str().expect("text");
    let (status, out, err) = perfring(&["bpf", "disasm", path]);
    let reason = "section dtrace/1, program first (./maps.bpf.c:69): instruction 1: opcode 0xff is not defined";
    assert_eq!((status, out.as_str(), err), (1, "", format!("perfring: {path}: {reason}\n")));
}

#[test]
fn arguments_are_checked() {
    for arguments in [&["bpf"][..], &["bpf", "disasm"], &["bpf", "disasm", "x", "--sections", "y"], &["bpf", "other"]] {
        let (status, out, err) = perfring(arguments);
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains("Usage:"), "{err}");
    }
    let (status, out, _) = perfring(&["bpf", "disasm", "--help"]);
    assert_eq!(status, 0);
    assert!(
        out.contains("--section <S>") && out.contains("\n  INDEX: (OPCODE) INSTRUCTION ; WHAT IT REFERS TO\n"),
        "{out}"
    );
}

#[test]
fn a_program_is_run() {
    let (status, out, err) = perfring(&["bpf", "run", &object("data")]);
    // What it says by bpf_trace_printk goes to the standard error.
    assert_eq!((status, out.as_str(), err.as_str()), (0, "returned 0x1122334455667788\n", "total 17\n"));
    let (status, out, err) = perfring(&["bpf", "run", &object("calls"), "--program", "one"]);
    assert_eq!((status, out.as_str(), err.as_str()), (0, "returned 0x3f1\n", ""));
    let (status, out, _) = perfring(&["bpf", "run", &object("maps"), "--section", "kprobe/do_exit"]);
    let expected = "returned 0x1\nmap events: 0 records, 0 lost\nmap ring: 0 records, 0 lost\n";
    assert_eq!((status, out.as_str()), (0, expected));
    let (status, out, _) = perfring(&["bpf", "run", &object("calls"), "--program", "one", "--repeat", "3"]);
    assert!(status == 0 && out.starts_with("returned 0x3f1\n3 runs, ") && out.ends_with(" ns each\n"), "{out}");
}

#[test]
fn a_context_and_a_packet_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (context, packet) = (path("context"), path("packet"));
    std::fs::write(&packet, [7; 64]).unwrap();
    let run = |bytes: &[u8]| {
        std::fs::write(&context, bytes).unwrap();
        perfring(&["bpf", "run", &object("calls"), "--program", "one", "--ctx", &context, "--packet", &packet])
    };
    let (status, out, _) = run(&[0; 24]);
    assert!(status == 0 && out.starts_with("returned 0x"), "{out}");
    let (status, out, err) = run(&[0; 23]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert_eq!(err, format!("perfring: {context}: 23 bytes, and a context of xdp has 24\n"));
}

#[test]
fn a_program_that_does_what_it_may_not_is_stopped() {
    // The first 8 bytes of a tracepoint's record are not for programs.
    let (status, out, err) = perfring(&["bpf", "run", &object("calls"), "--program", "three", "--type", "tracepoint"]);
    assert_eq!((status, out.as_str()), (1, ""));
    let line = "three: instruction 10 (./calls.bpf.c:79: return beside(*context);): load of 4 bytes at 0x";
    assert!(err.starts_with(&format!("perfring: {}: {line}", object("calls"))), "{err}");
    assert_eq!(err.lines().count(), 1);
}

#[test]
fn what_cannot_be_run_is_told_of_in_one_line() {
    let refused = |arguments: &[&str]| {
        let (status, out, err) = perfring(&[&["bpf", "run"], arguments].concat());
        assert_eq!((out.as_str(), err.lines().count()), ("", 1), "{err}");
        (status, err.trim_end().to_owned())
    };
    let (status, err) = refused(&[&object("calls")]);
    assert_eq!(status, 2);
    assert_eq!(
        err,
        "perfring: --section or --program has to say which of one in xdp/one, two in xdp/one, three in raw_tp/sys_enter"
    );
    let (status, err) = refused(&[&object("calls"), "--program", "four"]);
    assert!(
        status == 1
            && err.ends_with("no such program: there are one in xdp/one, two in xdp/one, three in raw_tp/sys_enter"),
        "{err}"
    );
    let (status, err) = refused(&[&object("data"), "--type", "file"]);
    let types = "socket_filter, kprobe, tracepoint, xdp, perf_event, raw_tracepoint, memory, dtrace";
    assert_eq!((status, err), (2, format!("perfring: there is no program type file: there are {types}")));
    let (status, err) = refused(&[&object("core"), "--btf", &object("legacy")]);
    assert!(status == 1 && err.ends_with("legacy.bpf.o: no section .BTF"), "{err}");
    let (status, err) = refused(&[&object("core"), "--btf", "not/there"]);
    assert!(status == 1 && err.contains("not/there"), "{err}");
    let (status, err) = refused(&[&object("core"), "--btf", &object("platform")]);
    let lacks = "the offset of group_leader in struct task_struct: the platform has no such type";
    assert!(status == 1 && err.contains("wake: instruction 3 (./core.bpf.c:") && err.ends_with(lacks), "{err}");
    let (status, err) = refused(&[&object("calls.be"), "--program", "one"]);
    assert!(status == 1 && err.ends_with("an object of Big endian, which is not this machine's"), "{err}");
    let (status, err) = refused(&[&object("reserve"), "--section", "uprobe"]);
    assert!(status == 1 && err.contains("programs of type kprobe may not call bpf_buffer_reserve#"), "{err}");
}

#[test]
fn programs_are_fitted_to_the_types_of_a_platform() {
    // That of the object itself.
    let (status, out, err) = perfring(&["bpf", "run", &object("core"), "--btf", &object("core")]);
    assert_eq!((status, out.as_str(), err.as_str()), (0, "returned 0x0\n", ""));
    let (status, out, err) = perfring(&["bpf", "verify", &object("core"), "--btf", &object("platform")]);
    let refused = "the offset of group_leader in struct task_struct: the platform has no such type";
    assert!(status == 1 && out.contains(refused) && err.contains(refused), "{out}{err}");
    if !std::path::Path::new(Btf::OF_KERNEL).exists() {
        return common::skip("the kernel does not show its types");
    }
    let (status, out, err) = perfring(&["bpf", "run", &object("kernel"), "--program", "kernel_fields", "--verify"]);
    assert_eq!((status, out.as_str(), err.as_str()), (0, "returned 0x0\n", ""));
}

#[test]
fn helpers_of_this_crate_have_names_in_listings() {
    let (status, out, _) = perfring(&["bpf", "disasm", &object("reserve")]);
    assert_eq!(status, 0);
    assert!(out.contains(") call bpf_buffer_reserve#") && !out.contains("unknown"), "{out}");
}
