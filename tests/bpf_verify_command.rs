//! `perfring bpf verify`, and `perfring bpf run --verify`, run as their users run them.

use perfring::bpf::insn::assemble;
use perfring::record::ByteOrder;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The status, the standard output and the standard error.
type Said = (i32, String, String);

fn perfring(arguments: &[&str], input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_perfring"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    // One that finds its arguments wrong reads nothing.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

fn verify(arguments: &[&str]) -> Said {
    perfring(&[&["bpf", "verify"], arguments].concat(), "")
}

fn object(name: &str) -> String {
    format!("{}/tests/bpf/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"))
}

fn hex(text: &str) -> String {
    let insns = assemble(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let bytes = insns.iter().flat_map(|insn| insn.to_bytes(ByteOrder::NATIVE));
    bytes.map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Verifies a program on the standard input.
fn verify_hex(text: &str, arguments: &[&str]) -> Said {
    perfring(&[&["bpf", "verify", "--hex", "-"], arguments].concat(), &hex(text))
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

const LOOKUP: &str = "*(u64 *)(r10 -8) = 0\nr2 = r10\nr2 += -8\nr1 = 0 ll\ncall 1\nif r0 == 0 goto out\nr1 = *(u64 *)(r0 +40)\n\
    out:\nr0 = 0\nexit";
const LOOKUP_MAP: &str = r#"[{"insn": 3, "kind": "hash", "key": 8, "value": 48, "entries": 1}]"#;

#[test]
fn programs_of_an_object_are_accepted() {
    let (status, out, err) = verify(&[&object("legacy")]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 5, "{out}");
    assert_eq!(lines[0], "program count, section socket/count, type socket_filter, 12 instructions");
    assert!(lines[1].starts_with("accepted: insns ") && lines[1].ends_with(", stack 16, frames 1"), "{out}");
    assert_eq!(lines[2..4], ["", "program see, section socket/count, type socket_filter, 13 instructions"]);

    let (status, out, _) = verify(&[&object("legacy"), "--program", "see", "--json"]);
    let report = json(&out);
    assert_eq!((status, out.lines().count()), (0, 1));
    assert_eq!(report["program"], "see");
    assert_eq!(report["section"], "socket/count");
    assert_eq!(report["type"], "socket_filter");
    assert_eq!((&report["verdict"], &report["slots"]), (&json("\"accepted\""), &json("13")));
    for number in ["insns", "states", "peak_states", "pruned", "memory", "stack", "frames"] {
        assert!(report["stats"][number].is_u64(), "{number}: {out}");
    }
    assert_eq!(report["stats"]["dead"], json("[]"));
}

#[test]
fn callbacks_are_followed() {
    let (status, out, err) = verify(&[&object("calls"), "--section", "raw_tp/sys_enter"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("\naccepted: ") && out.contains(", frames 2\n"), "{out}");
}

#[test]
fn every_program_of_an_object_gets_its_verdict() {
    let path = object("maps");
    let (status, out, err) = verify(&[&path, "--json"]);
    let reports: Vec<_> = out.lines().map(json).collect();
    let verdicts: Vec<_> =
        reports.iter().map(|report| (&report["program"], &report["verdict"])).map(|(a, b)| format!("{a}{b}")).collect();
    assert_eq!(verdicts, [r#""first""accepted""#, r#""second""accepted""#, r#""enter""accepted""#]);
    let types: Vec<_> = reports.iter().map(|report| &report["type"]).collect();
    assert_eq!(types, ["dtrace", "dtrace", "kprobe"]);
    assert_eq!((status, err.as_str()), (0, ""));

    let other = object("calls.be");
    let (status, out, err) = verify(&[&other, "--json"]);
    assert_eq!(status, 1);
    let reports: Vec<_> = out.lines().map(json).collect();
    assert_eq!(reports.len(), 3);
    for report in reports {
        assert_eq!(report["verdict"], "not_loaded");
        assert_eq!(report["reason"], "an object of Big endian, which is not this machine's");
    }
    assert!(err.ends_with("3 of 3 programs are not accepted\n"), "{err}");

    let (status, out, err) = verify(&[&path, "--section", "kprobe/do_exit"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(
        out.starts_with("program enter, section kprobe/do_exit, type kprobe, 17 instructions\naccepted: "),
        "{out}"
    );
    // The type is said, whatever the section says.
    let (status, out, _) = verify(&[&path, "--section", "dtrace/1", "--type", "kprobe"]);
    assert!(out.starts_with("program first, section dtrace/1, type kprobe, 12 instructions\n"), "{out}");
    assert!((0..=1).contains(&status) && !out.contains("not loaded"), "{out}");
}

#[test]
fn what_an_object_does_wrong_is_told_of_with_its_line() {
    let path = object("calls");
    // The first 8 bytes of a tracepoint's record are not for programs.
    let (status, out, err) = verify(&[&path, "--program", "three", "--type", "tracepoint"]);
    assert_eq!(status, 1);
    let place = "three: instruction 10 (./calls.bpf.c:79: return beside(*context);): ";
    assert!(err.starts_with(&format!("perfring: {path}: {place}")) && err.lines().count() == 1, "{err}");
    assert!(out.contains(&format!("\nrefused: {place}")), "{out}");

    let (_, out, _) = verify(&[&path, "--program", "three", "--type", "tracepoint", "--log", "1", "--json"]);
    let report = json(&out);
    assert_eq!((&report["verdict"], &report["insn"]), (&json("\"refused\""), &json("10")));
    assert_eq!(report["line"], "./calls.bpf.c:79: return beside(*context);");
    let path = report["path"].as_array().expect("a list");
    assert_eq!((path.first(), path.last()), (Some(&json("0")), Some(&json("10"))));
    let log = report["log"].as_str().expect("text");
    assert!(log.contains("; ./calls.bpf.c:79: return beside(*context);\n10: "), "{log}");
}

#[test]
fn what_cannot_be_verified_is_told_of_in_one_line() {
    let path = object("calls");
    let (status, out, err) = verify(&[&path, "--program", "four"]);
    assert_eq!((status, out.as_str()), (1, ""));
    let there = "one in xdp/one, two in xdp/one, three in raw_tp/sys_enter";
    assert_eq!(err, format!("perfring: {path}: no such program: there are {there}\n"));
    let source = format!("{}/tests/bpf/calls.bpf.c", env!("CARGO_MANIFEST_DIR"));
    for (path, what) in [(source.as_str(), "no sound ELF file"), ("/nonexistent", "cannot read /nonexistent")] {
        for arguments in [&[path][..], &["--hex", path]] {
            let (status, out, err) = verify(arguments);
            assert_eq!((status, out.as_str(), err.lines().count()), (1, "", 1), "{err}");
            assert!(err.contains(what) || err.contains("line 1, column 1: '/' is no digit of hex"), "{err}");
        }
    }
    let (status, out, _) = verify(&[&object("calls.be"), "--program", "one"]);
    assert!(
        status == 1 && out.ends_with("not loaded: an object of Big endian, which is not this machine's\n"),
        "{out}"
    );
}

#[test]
fn a_program_is_given_as_hex() {
    let (status, out, err) = verify_hex("r0 = 0\nexit", &[]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.starts_with("program raw, type socket_filter, 2 instructions\naccepted: insns 2, states 0, "), "{out}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program");
    std::fs::write(&file, hex("r0 = *(u64 *)(r1 +0)\nexit").replace(' ', "\n")).unwrap();
    let file = file.to_str().unwrap();
    let (status, out, _) = verify(&["--hex", file, "--type", "kprobe"]);
    assert!(status == 0 && out.contains(", type kprobe, 2 instructions\n"), "{out}");
    let (status, out, err) = verify(&["--hex", file, "--type", "xdp"]);
    assert!(status == 1 && out.contains("\nrefused: raw: instruction 0: "), "{out}");
    assert!(err.starts_with(&format!("perfring: {file}: raw: instruction 0: ")), "{err}");
}

#[test]
fn what_is_no_program_is_refused() {
    for (text, insn) in [("exit", 0), ("r0 = 0\nr1 = 0", 1), ("r0 = 0\ncall 9999\nexit", 1)] {
        let (status, out, _) = verify_hex(text, &["--json"]);
        let report = json(&out);
        assert_eq!((status, &report["verdict"]), (1, &json("\"refused\"")), "{out}");
        assert_eq!(report["insn"], insn, "{out}");
    }
    for (text, error) in [
        ("b7 0", "line 1, column 4: the last of 3 digits has none to make a byte with"),
        ("b7\n00 0g", "line 2, column 5: 'g' is no digit of hex"),
        ("b7", "1 bytes, and an instruction has 8"),
        ("", "there are no instructions"),
    ] {
        let (status, out, err) = perfring(&["bpf", "verify", "--hex", "-"], text);
        assert_eq!((status, out.as_str(), err), (1, "", format!("perfring: -: {error}\n")));
    }
    let (status, _, err) = verify(&["--hex", "/dev/zero"]);
    assert_eq!((status, err.as_str()), (1, "perfring: /dev/zero: more than 64 MiB\n"));
}

#[test]
fn maps_stand_at_their_instructions() {
    let (status, out, err) = verify_hex(LOOKUP, &["--maps", LOOKUP_MAP]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(LOOKUP_MAP.replace("48", "40").as_bytes()).unwrap();
    let (status, out, _) = verify_hex(LOOKUP, &["--maps", file.path().to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(out.contains("refused: raw: instruction 7: ") && out.contains("map0"), "{out}");
    // Without its map the immediate is a number.
    let (status, out, _) = verify_hex(LOOKUP, &[]);
    assert!(status == 1 && out.contains("refused: raw: instruction 5: "), "{out}");
}

#[test]
fn an_array_of_programs_has_the_type_that_its_owner_says() {
    let text = "r2 = 0 ll\nr3 = 0\ncall 12\nr0 = 0\nexit";
    let of = |owner: &str| {
        let spec = format!(r#"[{{"insn": 0, "kind": "prog_array", "key": 4, "value": 4, "entries": 1{owner}}}]"#);
        verify_hex(text, &["--type", "xdp", "--maps", &spec])
    };
    assert_eq!(of("").0, 0);
    assert_eq!(of(r#", "owner": "xdp""#).0, 0);
    let (status, out, _) = of(r#", "owner": "kprobe""#);
    assert!(status == 1 && out.contains("programs of type kprobe are not called from those of type xdp"), "{out}");
}

#[test]
fn flags_of_maps_and_the_licence_count() {
    let store = LOOKUP.replace("r1 = *(u64 *)(r0 +40)", "*(u64 *)(r0 +40) = 7");
    let of = |flags: &str| {
        let spec = LOOKUP_MAP.replace(r#""entries""#, &format!(r#""flags": [{flags}], "entries""#));
        verify_hex(&store, &["--maps", &spec]).0
    };
    assert_eq!((of(""), of(r#""no_prealloc""#), of(r#""rdonly_prog""#)), (0, 0, 1));
    let output = "*(u64 *)(r10 -8) = 0\nr2 = 0 ll\nr3 = 0\nr4 = r10\nr4 += -8\nr5 = 8\ncall 25\nexit";
    let maps = r#"[{"insn": 1, "kind": "perf_event_array", "entries": 4}]"#;
    let (status, out, _) = verify_hex(output, &["--maps", maps]);
    assert_eq!(status, 0, "{out}");
    let (status, out, _) = verify_hex(output, &["--maps", maps, "--license", "MIT"]);
    assert!(status == 1 && out.contains("licence"), "{out}");
}

#[test]
fn what_is_wrong_with_maps_is_wrong_with_the_command_line() {
    for (spec, error) in [
        ("[", "EOF while parsing a list at line 1 column 1".to_owned()),
        ("{}", "invalid type: map, expected a sequence at line 1 column 0".to_owned()),
        (&LOOKUP_MAP.replace("3", "4"), "map 0: instruction 4 is no 64-bit immediate, but opcode 0x00".to_owned()),
        (&LOOKUP_MAP.replace("3", "99"), "map 0: there is no instruction 99: the program has 10".to_owned()),
        (&LOOKUP_MAP.replace("48", "-1"), "invalid value: integer `-1`, expected u32 at line 1 column 50".to_owned()),
        (&LOOKUP_MAP.replace("1}", "0}"), "map 0: a hash map of 0 entries".to_owned()),
    ] {
        let (status, out, err) = verify_hex(LOOKUP, &["--maps", spec]);
        assert_eq!((status, out.as_str(), err), (2, "", format!("perfring: --maps: {error}\n")));
    }
    let (status, _, err) = verify_hex(LOOKUP, &["--maps", &LOOKUP_MAP.replace("hash", "stack_trace")]);
    assert!(status == 2 && err.contains("there is no kind \"stack_trace\": there are hash, array, "), "{err}");
    let (status, _, err) = verify_hex(LOOKUP, &["--maps", "/nonexistent"]);
    assert!(status == 1 && err.starts_with("perfring: cannot read /nonexistent: "), "{err}");
}

#[test]
fn the_log_has_the_path_or_all_paths() {
    let text = "r0 = *(u32 *)(r1 +0)\nif r0 == 5 goto wrong\nr0 = 1\nexit\nwrong:\nr0 = r7\nexit";
    let log = |text: &str, level: &str| verify_hex(text, &["--log", level]).1;
    assert_eq!(log(text, "0").lines().count(), 2, "{}", log(text, "0"));
    let path = log(text, "1");
    assert!(path.contains("\n1: if r0 == 0x5 goto pc+2") && path.contains("\n4: r0 = r7"), "{path}");
    assert!(!path.contains("\n3: exit"), "{path}");
    let all = log(text, "2");
    assert!(all.contains("\n3: exit") && all.contains("\n4: r0 = r7"), "{all}");
    let sound = text.replace("r7", "7");
    assert_eq!(log(&sound, "1").lines().count(), 2, "there is no path to where it is refused");
    assert!(log(&sound, "2").contains("\n4: r0 = 7 ; R0=7\n"), "{}", log(&sound, "2"));
}

#[test]
fn limits_are_set() {
    let text = "r0 = 0\nloop:\nr0 += 1\nif r0 != 1000 goto loop\nexit";
    assert_eq!(verify_hex(text, &[]).0, 0);
    let (status, out, _) = verify_hex(text, &["--max-insns", "100"]);
    assert!(status == 1 && out.contains("more than 100 instructions were followed"), "{out}");
    let stack = "*(u64 *)(r10 -256) = 0\nr0 = 0\nexit";
    assert_eq!(verify_hex(stack, &["--max-stack", "256"]).0, 0);
    let (status, out, _) = verify_hex(stack, &["--max-stack", "128"]);
    assert!(status == 1 && out.contains("take 256 bytes of stack, of which there are 128"), "{out}");
    let dead = "r0 = 0\nif r0 == 0 goto out\nr0 = 1\nr0 = 2\nout:\nexit";
    let (status, out, _) = verify_hex(dead, &[]);
    assert!(status == 0 && out.ends_with("\nnever reached: 2..4\n"), "{out}");
    let (status, out, _) = verify_hex(dead, &["--refuse-dead-code"]);
    assert!(status == 1 && out.contains("instruction 2 is never reached"), "{out}");
    // Of the path all is remembered, and now and then a state.
    let long = text.replace("1000", "100000");
    let (status, out, _) = verify_hex(&long, &["--max-memory", "1"]);
    assert!(status == 1 && out.contains("more than 1048576 bytes are needed to follow the program"), "{out}");
    assert_eq!(verify_hex(&long, &["--max-memory", "1000"]).0, 0);
}

#[test]
fn arguments_are_checked() {
    let path = object("legacy");
    for arguments in [
        &[][..],
        &[&path, "--hex", "-"],
        &[&path, "--maps", "[]"],
        &[&path, "--license", "GPL"],
        &["--hex", "-", "--section", "xdp"],
        &["--hex", "-", "--program", "p"],
        &[&path, "--log", "3"],
        &[&path, "--max-insns", "0"],
        &[&path, "--max-memory", "0"],
        &[&path, "--max-stack", "-1"],
    ] {
        let (status, out, err) = verify(arguments);
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains("For more information, try '--help'"), "{err}");
    }
    let (status, _, err) = verify(&[&path, "--type", "file"]);
    assert!(
        status == 2 && err.starts_with("perfring: there is no program type file: there are socket_filter, "),
        "{err}"
    );
    let (status, out, _) = verify(&["--help"]);
    assert!(status == 0 && out.contains("Exit status:") && out.contains("--refuse-dead-code"), "{out}");
    let (_, script, _) = perfring(&["completions", "bash"], "");
    assert!(script.contains("--refuse-dead-code"));
}

/// A copy of an object in which one byte is another.
fn changed(name: &str, from: &[u8], to: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let mut bytes = std::fs::read(Path::new(&object(name))).expect("the fixture");
    let places: Vec<_> = bytes.windows(from.len()).enumerate().filter(|(_, bytes)| *bytes == from).collect();
    assert!(!places.is_empty());
    let at = places[0].0;
    bytes[at..at + to.len()].copy_from_slice(to);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn text_of_an_object_does_not_reach_the_terminal() {
    let (_folder, path) = changed("calls", b"return beside(*context);", b"\x1b[31mn");
    let path = path.to_str().unwrap();
    let (status, out, err) = verify(&[path, "--program", "three", "--type", "tracepoint", "--log", "1"]);
    assert_eq!(status, 1);
    assert!(out.contains("\\u{1b}[31mn") && err.contains("\\u{1b}[31mn"), "{out:?} {err:?}");
    assert!(!out.contains('\x1b') && !err.contains('\x1b'), "{out:?} {err:?}");
}

#[test]
fn a_program_is_run_when_it_is_accepted() {
    let run = |arguments: &[&str]| perfring(&[&["bpf", "run"], arguments].concat(), "");
    let path = object("maps");
    let arguments = [path.as_str(), "--section", "kprobe/do_exit"];
    let unverified = run(&arguments);
    assert_eq!((unverified.0, unverified.2.as_str()), (0, ""));
    assert_eq!(run(&[&arguments[..], &["--verify"]].concat()), unverified);

    // It computes with the address of its packet, which does no harm, and would be leaked.
    let path = object("calls");
    let (status, out, _) = run(&[&path, "--program", "one"]);
    assert!(status == 0 && out.starts_with("returned "), "{out}");
    let (status, out, err) = run(&[&path, "--program", "one", "--verify"]);
    assert_eq!((status, out.as_str(), err.lines().count()), (1, "", 1));
    assert!(err.starts_with(&format!("perfring: {path}: refused: one: instruction ")), "{err}");
}
