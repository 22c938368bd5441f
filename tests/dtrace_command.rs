//! `perfring dtrace`, run as its users run it.
#![cfg(feature = "cli")]
#![allow(unsafe_code, reason = "a function that has a name for uprobes")]

mod common;

use common::{Need, is_root, require_kernel, with_tracefs};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

/// The status, the standard output and the standard error.
fn perfring(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_perfring")).arg("dtrace").args(arguments).output();
    let output = output.expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

fn object(name: &str) -> String {
    format!("{}/examples/dtrace/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/perf_data/{name}.data", env!("CARGO_MANIFEST_DIR"))
}

/// What a line in the tool's format says: probe, flags, PID, PPID, EUID, EGID; none if it is in another.
fn parse(line: &str) -> Option<[i64; 6]> {
    let rest = line.strip_prefix("CPU-")?;
    let (cpu, rest) = rest.split_once(": [")?;
    cpu.parse::<u32>().ok()?;
    let (probe, rest) = rest.split_once('/')?;
    let (flags, rest) = rest.split_once("] PID ")?;
    let (pid, rest) = rest.split_once(" PPID ")?;
    let (ppid, rest) = rest.split_once(" EUID ")?;
    let (euid, rest) = rest.split_once(" EGID ")?;
    let (egid, task) = rest.split_once(" TASK ")?;
    assert!(task.len() >= 8 && u64::from_str_radix(task, 16).is_ok_and(|task| task != 0), "{line}");
    let numbers = [probe, flags, pid, ppid, euid, egid].map(str::parse);
    let [Ok(probe), Ok(flags), Ok(pid), Ok(ppid), Ok(euid), Ok(egid)] = numbers else { return None };
    Some([probe, flags, pid, ppid, euid, egid])
}

/// Whether the kernel lets its tracepoints be observed.
fn allowed() -> bool {
    require_kernel(Need::Privileged)
        && (is_root() || {
            common::skip("tracefs is root's");
            false
        })
}

#[test]
fn the_sample_prints_a_line_for_each_write() {
    if !allowed() {
        return;
    }
    with_tracefs(|| {
        // The shell says who it is, becomes dd, and that writes as often as it is told.
        let command = "echo $$ $PPID; exec dd if=/dev/zero of=/dev/null bs=1 count=3000 status=none";
        let (status, out, err) = perfring(&[&object("sample"), "--", "sh", "-c", command]);
        assert_eq!(status, 0, "{err}");
        let (lines, said): (Vec<&str>, Vec<&str>) = out.lines().partition(|line| line.starts_with("CPU-"));
        let [said] = said[..] else { panic!("{said:?}") };
        let ids: Vec<i64> = said.split(' ').map(|id| id.parse().expect("an id")).collect();
        let euid = if is_root() { 0 } else { -1 };
        assert_eq!(lines.len(), 3001, "{err}");
        for line in lines {
            let numbers = parse(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(numbers, [123, 0, ids[0], ids[1], euid, 0], "{line}");
        }
        assert_eq!(err, "perfring: 3001 firings, 3001 records read, 0 dropped\n");
    });
}

/// However few pages there are, and whoever is too slow.
#[test]
fn what_is_not_printed_is_counted() {
    if !allowed() {
        return;
    }
    with_tracefs(|| {
        let command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=30000", "status=none"];
        let (status, out, err) = perfring(&[&[&object("sample"), "--ring-pages", "4", "--"], &command[..]].concat());
        assert_eq!(status, 0, "{err}");
        let summary = err.lines().next().expect("a summary");
        let numbers: Vec<u64> = summary.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [fired, read, dropped] = numbers[..] else { panic!("{err}") };
        let lost = err.lines().find_map(|line| {
            let (count, _) = line.strip_prefix("perfring: ")?.split_once(" records of the kernel were lost")?;
            Some(count.parse::<u64>().expect("a number"))
        });
        assert_eq!(fired + lost.unwrap_or(0), 30_000, "{err}");
        let lines = out.lines().filter(|line| line.starts_with("CPU-")).count() as u64;
        assert_eq!((lines, read + dropped), (read, fired), "{err}");
    });
}

#[test]
fn with_a_hash_the_context_is_never_completed() {
    if !allowed() {
        return;
    }
    with_tracefs(|| {
        let (status, out, err) = perfring(&[&object("sample_hash"), "--", "sh", "-c", "echo hello"]);
        assert_eq!((status, out.as_str()), (0, "hello\n"), "{err}");
        assert_eq!(err, "perfring: 1 firings, 0 records read, 0 dropped\n");
    });
}

#[test]
fn children_are_known_by_their_parents() {
    if !allowed() {
        return;
    }
    with_tracefs(|| {
        let command = "echo $$; sh -c 'echo $$; exec /bin/echo child'";
        let (status, out, err) = perfring(&["--json", &object("sample"), "--", "sh", "-c", command]);
        assert_eq!(status, 0, "{err}");
        let (records, said): (Vec<&str>, Vec<&str>) = out.lines().partition(|line| line.starts_with('{'));
        let records: Vec<serde_json::Value> =
            records.into_iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let pids: Vec<u64> = said.iter().filter_map(|line| line.parse().ok()).collect();
        let [parent, child] = pids[..] else { panic!("{said:?}") };
        let found: Vec<_> =
            records.iter().map(|record| (&record["record"]["pid"], &record["record"]["ppid"])).collect();
        assert_eq!(found.len(), 3, "{out}");
        assert_eq!(*found[0].0, parent);
        for (pid, ppid) in &found[1..] {
            assert_eq!((pid.as_u64(), ppid.as_u64()), (Some(child), Some(parent)), "{out}");
        }
        assert!(records.iter().all(|record| record["record"]["euid"] == 0 && record["map"] == "events"));
    });
}

#[test]
fn a_command_whose_functions_are_observed_can_fork() {
    if !allowed() {
        return;
    }
    with_tracefs(|| {
        let exe = std::env::current_exe().expect("this binary");
        let probe = format!("on_write=uprobe:{}:perfring_test_observed:entry", exe.display());
        let command = format!("echo one; {} observed --exact --quiet; true", exe.display());
        let rest = ["--probe", &probe, "--", "sh", "-c", &command];
        let output = Command::new(env!("CARGO_BIN_EXE_perfring"))
            .args(["dtrace", &object("sample")])
            .args(rest)
            .env("PERFRING_TEST_OBSERVED", "1")
            .output()
            .expect("the command runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !err.contains("fork"), "{err}");
        // Beside the writes: the calls, of a thread of a child.
        let mut of = std::collections::BTreeMap::<i64, usize>::new();
        for numbers in out.lines().filter_map(parse) {
            *of.entry(numbers[2]).or_default() += 1;
        }
        assert!(of.len() >= 2 && of.values().any(|count| *count >= OBSERVED), "{out}");
    });
}

/// How often the function is called.
const OBSERVED: usize = 40;

/// What is observed.
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn perfring_test_observed(number: usize) -> usize {
    std::hint::black_box(number)
}

/// In the process that is observed.
#[test]
fn observed() {
    if std::env::var_os("PERFRING_TEST_OBSERVED").is_some() {
        for number in 0..OBSERVED {
            assert_eq!(std::hint::black_box(perfring_test_observed(number)), number);
        }
    }
}

/// Threads that the process makes, and what each of them writes.
const THREADS: u64 = 20;
const WRITES: u64 = 100;

/// In the process that is observed: makes threads once it is told to.
#[test]
fn observed_threads() {
    if std::env::var_os("PERFRING_TEST_OBSERVED").is_none() {
        return;
    }
    std::io::stdin().read_line(&mut String::new()).expect("a line");
    let mut null = std::fs::File::options().write(true).open("/dev/null").expect("it is there");
    for _ in 0..THREADS {
        let mut null = null.try_clone().expect("a descriptor");
        let write = move || (0..WRITES).for_each(|_| assert_eq!(null.write(b"x").expect("it takes all"), 1));
        std::thread::spawn(write).join().expect("a thread");
    }
    null.write_all(b"the last").expect("it takes all");
}

#[test]
fn of_a_process_nothing_is_missed_that_later_threads_do() {
    if !allowed() {
        return;
    }
    with_tracefs(|| {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["observed_threads", "--exact", "--quiet"])
            .env("PERFRING_TEST_OBSERVED", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("this binary");
        let pid = child.id();
        let mut perfring = Command::new(env!("CARGO_BIN_EXE_perfring"))
            .args(["dtrace", &object("sample"), "--probe", "on_write=dtrace:::BEGIN", "-p", &pid.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut out = BufReader::new(perfring.stdout.take().expect("a pipe"));
        // What BEGIN sends is printed once all is observed.
        let mut first = String::new();
        out.read_line(&mut first).expect("a line");
        child.stdin.take().expect("a pipe").write_all(b"go\n").expect("somebody reads");
        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("text");
        let output = perfring.wait_with_output().expect("it ends with the process");
        assert!(child.wait().expect("it ends").success());
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{err}");
        let lines: Vec<_> = rest.lines().filter_map(parse).collect();
        assert!(lines.iter().all(|numbers| numbers[2] == i64::from(pid)), "{rest}");
        // And what the test harness itself may have to say.
        assert!((THREADS * WRITES + 1..THREADS * WRITES + 20).contains(&(lines.len() as u64)), "{} {err}", lines.len());
    });
}

#[test]
fn how_long_a_function_takes_is_told_by_a_pair_of_probes() {
    if !allowed() {
        return;
    }
    with_tracefs(|| {
        let exe = std::env::current_exe().expect("this binary");
        let exe = exe.display();
        let [entry, end] = [("on_entry", "entry"), ("on_return", "return")]
            .map(|(program, name)| format!("{program}=uprobe:{exe}:perfring_test_observed:{name}"));
        let command = format!("PERFRING_TEST_OBSERVED=1 exec {exe} observed --exact --quiet");
        let rest = ["--probe", &entry, "--probe", &end, "--", "sh", "-c", &command];
        let (status, out, err) = perfring(&[&["--json", &object("latency")], &rest[..]].concat());
        assert_eq!(status, 0, "{err}");
        let json: Vec<serde_json::Value> =
            out.lines().filter(|line| line.starts_with('{')).map(|line| line.parse().expect("JSON")).collect();
        let (calls, tables): (Vec<_>, Vec<_>) = json.iter().partition(|value| value["type"] == "sample");
        assert_eq!(calls.len(), OBSERVED, "{out}");
        for call in &calls {
            let record = &call["record"];
            assert_eq!((&call["struct"], &record["depth"]), (&"call".into(), &0.into()));
            let end = record["start"].as_u64().zip(record["nanoseconds"].as_u64()).map(|(start, took)| start + took);
            assert!(end.is_some() && end == call["time"].as_u64(), "{call}");
        }
        let [table] = tables[..] else { panic!("{tables:?}") };
        let buckets = table["rows"][0]["quantize"].as_array().expect("a distribution");
        let of = |from: u64| {
            let fits = |call: &&&serde_json::Value| {
                let took = call["record"]["nanoseconds"].as_u64().expect("a number");
                took >= from && took / 2 < from
            };
            calls.iter().filter(fits).count()
        };
        for bucket in buckets {
            assert_eq!(bucket["count"], of(bucket["value"].as_u64().expect("a power")), "{table}");
        }
        let total: u64 = buckets.iter().filter_map(|bucket| bucket["count"].as_u64()).sum();
        assert_eq!(total, OBSERVED as u64);

        let format = ["--format", "{comm}={depth:02x}"];
        let (status, out, err) = perfring(&[&format[..], &[&object("latency")], &rest[..]].concat());
        assert_eq!(status, 0, "{err}");
        assert_eq!(out.lines().filter(|line| line.ends_with("=00")).count(), OBSERVED, "{out}");
        assert!(out.contains("\nnanoseconds:\n  key\n  0\n           value  ------------- Distribution"), "{out}");
        let format = ["--format", "{absent}"];
        let (status, _, err) = perfring(&[&format[..], &[&object("latency")], &rest[..]].concat());
        let has = "it has pid, tid, start, nanoseconds, depth, comm";
        assert_eq!((status, err), (2, format!("perfring: --format: call has no field absent; {has}\n")));
    });
}

#[test]
fn who_calls_and_who_writes_is_counted() {
    if !allowed() {
        return;
    }
    with_tracefs(|| {
        let command = "exec dd if=/dev/zero of=/dev/null bs=100 count=700 status=none";
        let (status, out, err) = perfring(&["--json", &object("writes"), "--", "sh", "-c", command]);
        assert_eq!(status, 0, "{err}");
        let table: serde_json::Value = out.parse().expect("one line");
        let row = &table["rows"][0];
        assert_eq!((&table["map"], &row["key"]["comm"]), (&"written".into(), &"dd".into()));
        assert_eq!((&row["writes"], &row["bytes"]), (&700.into(), &70_000.into()));
        assert_eq!(row["sizes"], serde_json::json!([{ "value": 64, "count": 700 }]));
        assert_eq!(table["rows"].as_array().map(Vec::len), Some(1));

        let (status, out, err) = perfring(&[&object("syscalls"), "--", "sh", "-c", command]);
        assert_eq!(status, 0, "{err}");
        let (head, lines) = out.split_once('\n').expect("a table");
        let lines: Vec<Vec<&str>> = lines.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!((head, &lines[0][..], &lines[1][..]), ("", &["calls:"][..], &["comm", "function", "count"][..]));
        assert!(lines.contains(&vec!["dd", "write", "700"]), "{out}");
        // All that was counted is all that was fired.
        let sum: u64 = lines[2..].iter().map(|line| line[2].parse::<u64>().expect("a number")).sum();
        assert!(err.starts_with(&format!("perfring: {sum} firings, 0 records read, 0 dropped")), "{err}");

        let plain = ["--sum", "ecbs", "--json", &object("sample"), "--", "true"];
        let (status, out, err) = perfring(&plain);
        assert_eq!((status, out.as_str()), (0, "{\"map\":\"ecbs\",\"rows\":[],\"type\":\"aggregation\"}\n"), "{err}");
        let (status, _, err) = perfring(&["--sum", "events", &object("sample"), "--", "true"]);
        let reason = "the object does not say of what type the values of map events are";
        assert_eq!((status, err), (2, format!("perfring: --sum events: {reason}\n")));
        // On an interval, and at the end.
        let sleep = ["--interval", "100ms", &object("writes"), "--", "sh", "-c", "echo; sleep 0.5; echo"];
        let (status, out, err) = perfring(&sleep);
        assert_eq!(status, 0, "{err}");
        assert!(out.matches("written:").count() >= 3 && out.contains("sh         2      2\n"), "{out}");
        let (status, _, _) = perfring(&["--interval", "0s", &object("writes"), "--", "true"]);
        assert_eq!(status, 2);
    });
}

#[test]
fn programs_that_do_what_they_may_not_are_refused_with_the_rule() {
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bpf/refused.bpf.o");
    let output = Command::new(env!("CARGO_BIN_EXE_perfring")).args(["bpf", "verify", object]).output();
    let out = String::from_utf8(output.expect("the command runs").stdout).expect("text");
    let refused: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("refused: ")).collect();
    let expected = [
        ("never_commits", "buffer 232, reserved at instruction 4, may still be open at the exit"),
        ("exits_with_an_open_buffer", "buffer 232, reserved at instruction 5, is still open at the exit"),
        ("writes_past_it", "8 bytes at 8 of buffer 232, of which 8 are proved: compare with its end before"),
        ("writes_after_commit", "r7 is a number, and no address"),
        ("takes_it_for_another_type", "load of 4 bytes at 0 of the context of dtrace programs"),
        ("writes_the_context", "store of 4 bytes at 204 of the context of dtrace programs"),
        ("takes_registers_for_the_context", "load of 4 bytes at 204 of the context of kprobe programs"),
    ];
    assert_eq!(refused.len(), expected.len(), "{out}");
    for (line, (program, rule)) in refused.iter().zip(expected) {
        assert!(line.starts_with(&format!("{program}: instruction ")) && line.contains(rule), "{line}");
    }
    let (status, out, err) = perfring(&[object, "--", "true"]);
    assert!(status == 1 && out.is_empty() && err.contains("never_commits: instruction 6 ("), "{err}");
    // Unverified they are run, and it is said what came of it.
    let probes = ["--probe", "never_commits=dtrace:::BEGIN", "--probe", "writes_past_it=dtrace:::END"];
    let (status, _, err) = perfring(&[&[object, "--unverified", "-i", &fixture("tracepoint")], &probes[..]].concat());
    let lines: Vec<_> = err.lines().filter(|line| !line.starts_with("perfring: warning: ")).collect();
    assert_eq!(status, 0, "{err}");
    let expected =
        ["perfring: 2 firings, 1 records read, 0 dropped", "perfring: 1 records were reserved and never committed"];
    assert_eq!(lines, expected, "{err}");
}

#[test]
fn probes_are_listed() {
    let (status, out, err) = perfring(&["-l", "dtrace:::"]);
    assert_eq!((status, out.as_str(), err.as_str()), (0, "dtrace:::BEGIN\ndtrace:::END\ndtrace:::ERROR\n", ""));
    let (status, _, err) = perfring(&["-l", "no:such:probe:here"]);
    assert_eq!((status, err.as_str()), (1, "perfring: no probe matches \"no:such:probe:here\"\n"));
    let (status, _, err) = perfring(&["-l", "a:b:c:d:e"]);
    assert_eq!(status, 2, "{err}");
    let (status, out, _) = perfring(&["-l", "-i", &fixture("tracepoint")]);
    assert_eq!(status, 0);
    assert_eq!(
        out, "syscall::getppid:entry\ntracepoint:syscalls::sys_enter_getppid\n    args[0]: int __syscall_nr\n",
        "the recording says what its tracepoints have"
    );
    if !allowed() {
        return;
    }
    with_tracefs(|| {
        let (status, out, err) = perfring(&["-l", "syscall::write:entry"]);
        assert_eq!(status, 0, "{err}");
        let write = "syscall::write:entry\n    args[0]: unsigned int fd\n    args[1]: const char * buf\n    args[2]: size_t count\n";
        assert_eq!(out, write);
    });
}

#[test]
fn a_recording_fires_probes_without_privileges() {
    let data = fixture("tracepoint");
    let (status, out, err) = perfring(&[&object("sample"), "-i", &data]);
    // Of writes there are none in it.
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(
        err.starts_with(&format!("perfring: {data}: no probe matches \"syscall::write:entry\", of program on_write"))
    );
    let (status, out, err) = perfring(&[&object("sample"), "--probe", "on_write=syscall::getppid:", "-i", &data]);
    assert_eq!(status, 0, "{err}");
    assert!(err.starts_with("perfring: warning: no probe matches \"syscall::write:entry\""), "{err}");
    let lines: Vec<_> = out.lines().map(|line| parse(line).expect("a line in the tool's format")).collect();
    assert_eq!(lines.len(), 10, "{out}");
    let pid = lines[0][2];
    for line in lines {
        // The recording does not say who the process belongs to.
        assert_eq!(line, [123, 0, pid, line[3], -1, -1], "{out}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let (status, _, err) = perfring(&[&object("sample")]);
    if allowed() {
        with_tracefs(|| {
            let (status, _, err) = perfring(&[&object("sample")]);
            assert_eq!(
                (status, err.as_str()),
                (2, "perfring: nothing to observe: give a command behind --, or -a, -p PID, or -i FILE\n")
            );
            let (status, _, err) = perfring(&[&object("sample"), "--probe", "nobody=a:b:c:d", "--", "true"]);
            assert_eq!(status, 2);
            assert_eq!(
                err,
                "perfring: --probe nobody=a:b:c:d: there is no program nobody; programs: on_write, write_event\n"
            );
            let (status, _, err) = perfring(&[&object("sample"), "-p", "4194304"]);
            assert_eq!(status, 1, "{err}");
            assert!(err.contains("4194304"), "{err}");
            let (status, _, err) = perfring(&[&object("sample"), "--", "/no/such/program"]);
            assert_eq!(status, 1);
            assert!(err.contains("/no/such/program"), "{err}");
        });
    } else {
        assert_ne!(status, 0, "{err}");
    }
    let (status, _, err) = perfring(&["/no/such/object", "--", "true"]);
    assert_eq!(status, 1);
    assert!(err.starts_with("perfring: cannot read /no/such/object: "), "{err}");
    let calls = format!("{}/tests/bpf/calls.bpf.o", env!("CARGO_MANIFEST_DIR"));
    let (status, _, err) = perfring(&[&calls, "--unverified", "--", "true"]);
    assert_eq!(status, 1);
    assert!(err.contains("no program says by which probes it is fired"), "{err}");
    // What depends on the platform's types, which are another's, or the running kernel's.
    let bpf = |name: &str| format!("{}/tests/bpf/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"));
    let (status, _, err) = perfring(&[&bpf("kernel"), "--btf", &bpf("platform"), "--", "true"]);
    let lacks = "the offset of pid in struct task_struct___any: the platform has no such type\n";
    assert!(
        status == 1 && err.contains("kernel_fields: instruction 0 (./kernel.bpf.c:") && err.ends_with(lacks),
        "{err}"
    );
    if std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        let (status, _, err) = perfring(&[&bpf("kernel"), "--", "true"]);
        assert!(status == 1 && err.contains("no program says by which probes it is fired"), "{err}");
    }
}
