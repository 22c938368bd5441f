//! Statically defined probes of a program, which is this one.
#![cfg(all(feature = "cli", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "a place in the code, and a note that says where it is")]

mod common;

use common::{Need, is_root, require_kernel, with_tracefs};
use perfring::kernel::{EventBuilder, function_names, usdt_sites};
use std::arch::asm;
use std::cell::UnsafeCell;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// What the process that is observed says once it runs.
const READY: &str = "the process runs";
/// How often the probe is passed.
const TIMES: i64 = 40;

/// Raised by the kernel while somebody observes the probe.
// SAFETY: nothing else has this name, and the section is of data.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".probes")]
static PERFRING_TEST_SEMAPHORE: AtomicU16 = AtomicU16::new(0);

/// A probe: a number of 32 bits in a register, one of 64 bits in memory, one that no record reaches, and a constant.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn perfring_test_usdt(key: i32, number: i64) {
    let number = UnsafeCell::new(number);
    // SAFETY: an instruction that does nothing; the note is no part of the program. The memory is read by nobody here.
    unsafe {
        asm!(
            "990: nop",
            ".pushsection .note.stapsdt, \"\", @note",
            ".balign 4",
            ".4byte 992f-991f, 994f-993f, 3",
            "991: .asciz \"stapsdt\"",
            "992: .balign 4",
            "993: .8byte 990b",
            ".8byte _.stapsdt.base",
            ".8byte {semaphore}",
            ".asciz \"perfring_test\"",
            ".asciz \"step\"",
            ".asciz \"-4@{key:e} 8@({number}) 2@{semaphore}(%rip) 1@$7\"",
            "994: .balign 4",
            ".popsection",
            ".ifndef _.stapsdt.base",
            ".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat",
            ".weak _.stapsdt.base",
            ".hidden _.stapsdt.base",
            "_.stapsdt.base: .space 1",
            ".size _.stapsdt.base, 1",
            ".popsection",
            ".endif",
            key = in(reg) key,
            number = in(reg) number.get(),
            semaphore = sym PERFRING_TEST_SEMAPHORE,
            // Without `nostack`, which would allow the number below the stack pointer, where no record reaches.
            options(att_syntax, preserves_flags),
        );
    }
    std::hint::black_box(&number);
}

/// In the process that is observed: passes the probe once somebody does.
#[test]
fn observed() {
    if std::env::var_os("PERFRING_TEST_OBSERVED").is_none() {
        return;
    }
    println!("{READY}");
    let start = Instant::now();
    while PERFRING_TEST_SEMAPHORE.load(Ordering::Relaxed) == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "nobody raised the semaphore");
        std::thread::yield_now();
    }
    // It is raised when the first event is opened; they are enabled when all are.
    std::thread::sleep(Duration::from_millis(500));
    for number in 0..TIMES {
        perfring_test_usdt(-5, number);
    }
}

fn exe() -> String {
    std::env::current_exe().expect("this binary").display().to_string()
}

#[test]
fn places_are_those_of_the_notes() {
    let sites = usdt_sites(exe()).expect("an ELF file");
    let site = sites.iter().find(|site| site.provider == "perfring_test").expect("the note");
    assert_eq!(site.name, "step");
    assert!(site.arguments.starts_with("-4@%e") && site.arguments.ends_with("(%rip) 1@$7"), "{site:?}");
    assert!(site.semaphore.is_some_and(|semaphore| semaphore != site.offset));
    // At the place stands what was assembled.
    let bytes = std::fs::read(exe()).expect("this binary");
    assert_eq!(bytes[site.offset as usize], 0x90);
    let functions = function_names(exe()).expect("an ELF file");
    assert!(functions.iter().any(|name| name == "perfring_test_usdt"));
    assert!(usdt_sites("/etc/hostname").is_err() && function_names("/no/such/file").is_err());
    if require_kernel(Need::Privileged) {
        EventBuilder::usdt(exe(), site).expect("the kernel knows such probes");
    }
}

#[test]
fn the_probe_fires_programs_with_its_arguments() {
    if !require_kernel(Need::Privileged) || !is_root() {
        return;
    }
    let perfring = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perfring"));
        let output = command.arg("dtrace").args(arguments).output().expect("the command runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let exe = exe();
    let (status, out, err) = perfring(&["-l", &format!("usdt:{exe}:perf*:")]);
    let arguments = "    args[0]: s32 arg0\n    args[1]: u64 arg1\n    args[2]: u16 arg2\n    args[3]: u8 arg3\n";
    assert_eq!((status, out, err.as_str()), (Some(0), format!("usdt:{exe}:perfring_test:step\n{arguments}"), ""));
    let (status, out, _) = perfring(&["-l", &format!("uprobe:{exe}:perfring_test_*:")]);
    let function = format!("uprobe:{exe}:perfring_test_usdt");
    let lines: Vec<_> = out.lines().filter(|line| line.starts_with("uprobe:")).collect();
    assert_eq!((status, lines), (Some(0), vec![&*format!("{function}:entry"), &format!("{function}:return")]));

    with_tracefs(|| {
        let object = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bpf/typed.bpf.o");
        let probe = format!("on_number=usdt:{exe}:perfring_test:step");
        // Before it runs the dynamic linker has the end of what it protects later mapped writable, which with some linkers is a copy of
        // the page that the semaphore is in: the kernel would raise that.
        let mut child = Command::new(&exe)
            .args(["observed", "--exact", "--quiet", "--nocapture"])
            .env("PERFRING_TEST_OBSERVED", "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line == READY)));
        let pid = child.id().to_string();
        let (status, out, err) = perfring(&["--json", object, "--probe", &probe, "-p", &pid]);
        assert!(child.wait().expect("it ends").success(), "{out} {err}");
        assert_eq!(status, Some(0), "{out} {err}");
        let tables: Vec<serde_json::Value> =
            out.lines().filter(|line| line.starts_with('{')).map(|line| line.parse().expect("JSON")).collect();
        let all = tables.iter().find(|table| table["map"] == "all").expect("the aggregation");
        let [row] = all["rows"].as_array().expect("rows").as_slice() else { panic!("{all}") };
        assert_eq!(row["key"]["number"], -5, "{row}");
        let sum = TIMES * (TIMES - 1) / 2;
        assert_eq!((&row["count"], &row["sum"]), (&TIMES.into(), &sum.into()), "{row}");
        assert_eq!((&row["min"], &row["max"]), (&0.into(), &(TIMES - 1).into()), "{row}");
        let unknown = format!("perfring: {TIMES} arguments of probes were where no record reaches: 0");
        assert!(err.contains(&unknown), "{err}");
    });
}
