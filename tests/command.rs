//! The command `perfring`, run as its users run it, with perf as a second opinion.

mod common;
#[path = "perf_oracle/mod.rs"]
mod perf_oracle;

use common::{Need, require_kernel, skip};
use perf_oracle::{Expected, fixture, fixture_names};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Some work for a shell: it takes a while, and makes processes.
const WORK: &str = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; ls / >/dev/null";

fn perfring(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_perfring")).args(arguments).output().expect("the command runs")
}

fn fine(arguments: &[&str]) -> String {
    let output = perfring(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What a failure says: the status, and the standard error.
fn failed(arguments: &[&str]) -> (i32, String) {
    let output = perfring(arguments);
    let text = String::from_utf8(output.stderr).expect("text");
    (output.status.code().expect("no signal"), text)
}

fn perf(arguments: &[&str]) -> Option<String> {
    let output = match Command::new("perf").args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => {
            skip(format_args!("perf: {error}"));
            return None;
        }
    };
    assert!(output.status.success(), "perf {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

/// What `perfring dump --stats` prints.
fn stats(path: &Path) -> BTreeMap<String, u64> {
    let lines = fine(&["dump", "--stats", text(path)]);
    lines
        .lines()
        .map(|line| {
            let (name, count) = line.split_once(' ').expect("NAME COUNT");
            (name.to_owned(), count.parse().expect("a number"))
        })
        .collect()
}

fn record(path: &Path, arguments: &[&str]) {
    let all = [&["record", "-o", text(path)], arguments, &["--", "sh", "-c", WORK]].concat();
    fine(&all);
}

/// `COMM PID TIME` of each sample, sorted, by perf.
fn samples_by_perf(path: &Path) -> Option<Vec<String>> {
    let out = perf(&["script", "--ns", "-G", "-F", "comm,pid,time", "-i", text(path)])?;
    let mut samples: Vec<String> = out
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let [comm @ .., pid, time] = &words[..] else { panic!("{line}") };
            format!("{} {pid} {}", comm.join(" "), time.trim_end_matches(':'))
        })
        .collect();
    samples.sort();
    Some(samples)
}

/// The same by this crate's text: pid, time, and the name that the last `COMM` gave the thread.
fn samples_by_us(path: &Path) -> Vec<String> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    names.insert("0".to_owned(), "swapper".to_owned());
    let mut samples = Vec::new();
    let out = fine(&["dump", text(path)]);
    for line in out.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let behind = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).map(|word| (*word).to_owned())
        };
        match words.first() {
            Some(&"COMM") => {
                // Of its own fields, behind those of the trailer.
                let (_, own) = line.rsplit_once(" pid ").expect("a COMM record names its task");
                let tid = own.split_whitespace().nth(2).expect("pid PID tid TID");
                let name = own.split_once('"').and_then(|(_, name)| name.split_once('"')).expect("a name in quotes").0;
                names.insert(tid.to_owned(), name.to_owned());
            }
            Some(&"FORK") => {
                let (_, own) = line.rsplit_once(" ppid ").expect("a FORK record names the parent");
                let own: Vec<_> = own.split_whitespace().collect();
                let [_, "tid", tid, "ptid", parent, ..] = own[..] else { panic!("{line}") };
                if let Some(name) = names.get(parent).cloned() {
                    names.insert(tid.to_owned(), name);
                }
            }
            Some(&"SAMPLE") => {
                let tid = behind("tid").expect("a thread");
                let name = names.get(&tid).cloned().unwrap_or_else(|| format!(":{tid}"));
                samples.push(format!(
                    "{name} {} {}",
                    behind("pid").expect("a process"),
                    behind("time").expect("a time")
                ));
            }
            _ => {}
        }
    }
    samples.sort();
    samples
}

#[test]
fn perf_reads_what_was_recorded_and_agrees() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("perf.data");
    let kinds: [&[&str]; 7] = [
        &["-F", "999", "-g"],
        &["-F", "999", "-z"],
        &["-F", "499", "--call-graph", "dwarf,1024", "-e", "cpu-clock:u"],
        &["-e", "page-faults", "-c", "1", "-e", "context-switches", "-c", "1"],
        &["-e", "task-clock:u", "-c", "500000", "-z=9", "-g"],
        &["-a", "-F", "499"],
        &["-F", "999", "--no-buildid", "-m", "4"],
    ];
    for kind in kinds {
        // `-c` and `-F` hold for all events.
        let kind: Vec<&str> = match kind.iter().filter(|word| **word == "-c").count() {
            2 => kind.iter().copied().take(4).chain(kind.iter().copied().skip(4).take(2)).collect(),
            _ => kind.to_vec(),
        };
        record(&path, &kind);
        let ours = stats(&path);
        assert!(ours["SAMPLE"] > 0, "{kind:?}: {ours:?}");
        let Some(report) = perf(&["report", "--stats", "-i", text(&path)]) else { return };
        let theirs = perf_oracle::parse_stats(&report).expect("the counts of perf");
        for (name, count) in &ours {
            assert_eq!(theirs.get(name), Some(count), "{kind:?}: {name}: {ours:?} {theirs:?}");
        }
        let (Some(theirs), ours) = (samples_by_perf(&path), samples_by_us(&path)) else { return };
        assert_eq!(theirs.len(), ours.len(), "{kind:?}");
        let differs = theirs.iter().zip(&ours).find(|(theirs, ours)| theirs != ours);
        assert_eq!(differs, None, "{kind:?}");
    }
}

#[test]
fn perf_reads_what_went_through_a_pipe() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pipe");
    for kind in [&["-F", "999"][..], &["-F", "999", "-g", "-z"]] {
        let all = [&["record", "-o", "-"], kind, &["--", "sh", "-c", WORK]].concat();
        let file = File::create(&path).expect("a file");
        let status = Command::new(env!("CARGO_BIN_EXE_perfring"))
            .args(&all)
            .stdout(file)
            .stderr(Stdio::null())
            .status()
            .expect("the command runs");
        assert!(status.success());
        let ours = stats(&path);
        assert_eq!(ours["HEADER_ATTR"], 1);
        let (Some(theirs), ours) = (samples_by_perf(&path), samples_by_us(&path)) else { return };
        assert!(!ours.is_empty());
        assert_eq!(theirs, ours, "{kind:?}");
    }
}

#[test]
fn functions_are_those_of_perf() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("perf.data");
    record(&path, &["-F", "4999", "-e", "cpu-clock:u"]);
    let Some(script) = perf(&["script", "-F", "comm,ip,sym", "-i", text(&path)]) else { return };
    let mut theirs: BTreeMap<String, i64> = BTreeMap::new();
    for line in script.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let [comm, _, function] = words[..]
            && !function.starts_with('[')
        {
            *theirs.entry(format!("{comm};{function}")).or_default() += 1;
        }
    }
    let known: i64 = theirs.values().sum();
    assert!(known > 20, "{theirs:?}");
    let folded = fine(&["dump", "--folded", text(&path)]);
    let mut ours: BTreeMap<String, i64> = BTreeMap::new();
    for line in folded.lines() {
        let (stack, count) = line.rsplit_once(' ').expect("STACK COUNT");
        let count: i64 = count.parse().expect("a number");
        // Behind the function itself stand those that were inlined into it.
        let function = stack.split(';').take(2).collect::<Vec<_>>().join(";");
        *ours.entry(function).or_default() += count;
    }
    let same: i64 = theirs.iter().map(|(function, count)| ours.get(function).copied().unwrap_or(0).min(*count)).sum();
    // Of functions at one address each takes the name that it likes best.
    assert!(same * 10 >= known * 9, "{same} of {known}: {theirs:?} {ours:?}");

    let svg = dir.path().join("flame.svg");
    fine(&["dump", "--flamegraph", text(&svg), text(&path)]);
    let svg = std::fs::read_to_string(svg).expect("a picture");
    assert!(svg.contains("<svg") && svg.contains("<title>sh"), "{}", svg.len());
}

#[test]
fn tracepoints_have_their_formats() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("perf.data");
    common::with_tracefs(|| {
        record(&path, &["-a", "-e", "sched:sched_switch"]);
        let Some(shown) = perf(&["script", "-i", text(&path)]) else { return };
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len() as u64, stats(&path)["SAMPLE"]);
        assert!(lines.iter().all(|line| line.contains("sched:sched_switch: prev_comm=")), "{:?}", lines.first());
    });
}

fn spawn(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_perfring"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs")
}

/// Until the recording has samples, and its header says so: then it runs.
fn wait_for_samples(path: &Path) {
    for _ in 0..600 {
        std::thread::sleep(Duration::from_millis(50));
        let output = perfring(&["dump", "--stats", text(path)]);
        if String::from_utf8_lossy(&output.stdout).contains("SAMPLE") && output.stderr.is_empty() {
            return;
        }
    }
    panic!("nothing was recorded in half a minute");
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

#[test]
fn an_interrupt_ends_a_recording_in_order() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("perf.data");
    for name in ["-INT", "-TERM"] {
        let mut child = spawn(&["record", "-a", "-F", "499", "-o", text(&path)]);
        wait_for_samples(&path);
        signal(&child, name);
        assert!(child.wait().expect("our child").success());
        let header = fine(&["dump", "--header", text(&path)]);
        assert!(header.contains("cpu-clock") || header.contains("cycles"), "{header}");
        assert!(stats(&path)["SAMPLE"] > 0);
        if let Some(report) = perf(&["report", "--stats", "-i", text(&path)]) {
            assert_eq!(perf_oracle::parse_stats(&report).expect("counts")["SAMPLE"], stats(&path)["SAMPLE"]);
        }
    }
    assert!(dir.path().join("perf.data.old").exists());
}

#[test]
fn what_is_not_recorded_is_counted() {
    if !require_kernel(Need::Privileged) || !common::is_root() {
        return;
    }
    common::with_tracefs(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("perf.data");
        // A ring of one page, which is soon full.
        let event = ["record", "-e", "syscalls:sys_enter_write", "-m", "1", "-o", text(&path), "--"];
        let output = perfring(&[&event[..], &["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=30000"]].concat());
        assert!(output.status.success(), "{output:?}");
        let of_type = |name: &str| {
            let lines = fine(&["dump", text(&path)]);
            let lost = lines.lines().filter(|line| line.split(' ').next() == Some(name)).map(|line| {
                let (_, lost) = line.rsplit_once(" lost ").expect("how many");
                lost.parse::<u64>().expect("a number")
            });
            lost.sum::<u64>()
        };
        let (told, lost) = (of_type("LOST"), of_type("LOST_SAMPLES"));
        let samples = stats(&path).get("SAMPLE").copied().unwrap_or(0);
        // dd itself says three lines; and a few of those lost may tell of mappings.
        assert!((30_003..30_100).contains(&(samples + lost)), "{samples} {told} {lost}");
        assert!(told <= lost, "{told} {lost}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!(" {lost} lost\n")), "{said}");
        if let Some(report) = perf(&["report", "--stats", "-i", text(&path)])
            && lost > 0
        {
            assert!(report.contains("LOST_SAMPLES events:"), "{report}");
        }
    });
}

#[test]
fn the_file_of_a_recorder_that_was_killed_opens() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("perf.data");
    for kind in [&["-F", "499"][..], &["-F", "499", "-z"]] {
        let mut child = spawn(&[&["record", "-a", "-o", text(&path)], kind].concat());
        wait_for_samples(&path);
        child.kill().expect("our child");
        child.wait().expect("our child");
        let output = perfring(&["dump", "--stats", text(&path)]);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{kind:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(shown.contains("SAMPLE "), "{kind:?}: {shown}");
        if let Some(script) = perf(&["script", "-F", "pid", "-i", text(&path)]) {
            assert!(script.lines().count() > 0, "{kind:?}");
        }
    }
}

#[test]
fn a_process_is_observed_until_it_ends() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("perf.data");
    let work = "sleep 0.3; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    let mut work = Command::new("sh").args(["-c", work]).spawn().expect("a shell");
    let pid = work.id().to_string();
    fine(&["record", "-p", &pid, "-F", "999", "-e", "cpu-clock:u", "-o", text(&path)]);
    work.wait().expect("our child");
    let counts = stats(&path);
    assert!(counts["SAMPLE"] > 0 && counts["MMAP2"] > 0, "{counts:?}");
}

#[test]
fn what_cannot_be_written_is_said_in_a_line() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = Command::new(env!("CARGO_BIN_EXE_perfring"))
        .args(["record", "-e", "cpu-clock:u", "-F", "999", "-o", "-", "--", "sh", "-c", WORK])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .expect("the command runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(said.lines().filter(|line| !line.contains("warning")).count(), 1, "{said}");
}

#[test]
fn the_status_says_who_is_at_fault() {
    assert_eq!(failed(&[]).0, 2);
    assert_eq!(failed(&["dump"]).0, 2);
    assert_eq!(failed(&["dump", "--json", "--stats", "x"]).0, 2);
    assert_eq!(failed(&["record"]).0, 2);
    assert_eq!(failed(&["record", "-F", "0", "--", "true"]).0, 2);
    assert_eq!(failed(&["record", "-m", "3", "--", "true"]).0, 2);
    assert_eq!(failed(&["replay", "x", "--ring-pages", "3"]).0, 2);
    assert_eq!(failed(&["replay", "x", "--speed", "-1"]).0, 2);
    for arguments in [&["dump", "/nonexistent"][..], &["dump", "/dev/null"], &["replay", "/nonexistent"]] {
        let (status, said) = failed(arguments);
        assert_eq!(status, 1, "{arguments:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("perfring: "), "{said}");
    }
    let help = fine(&["--help"]);
    assert!(help.contains("Exit status"), "{help}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(fine(&["completions", shell]).contains("perfring"), "{shell}");
    }
}

#[test]
fn what_is_read_is_not_written_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let [path, link] = ["perf.data", "link"].map(|name| dir.path().join(name));
    std::fs::copy(fixture("rounds"), &path).expect("a copy");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    for option in ["--image", "--data"] {
        for out in [&path, &link] {
            let (status, said) = failed(&["replay", option, text(out), text(&path)]);
            assert!(status == 1 && said.contains("is what is read"), "{said}");
        }
    }
    assert_eq!(std::fs::read(&path).expect("it is there"), std::fs::read(fixture("rounds")).expect("a recording"));
}

#[test]
fn neither_the_standard_input_nor_a_file_of_a_directory_is_written_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("data");
    std::fs::copy(fixture("rounds"), &path).expect("a copy");
    for option in ["--data", "--image"] {
        let output = Command::new(env!("CARGO_BIN_EXE_perfring"))
            .args(["replay", "-", option, text(&path)])
            .stdin(File::open(&path).expect("it is there"))
            .output()
            .expect("the command runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("is what is read"), "{said}");
        let (status, said) = failed(&["replay", text(dir.path()), option, text(&path)]);
        assert!(status == 1 && said.contains("is what is read"), "{said}");
    }
    assert_eq!(std::fs::read(&path).expect("it is there"), std::fs::read(fixture("rounds")).expect("a recording"));
}

#[test]
fn what_a_stream_says_before_its_records_is_copied() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["pipe", "pipe_tracepoints"] {
        let (from, to) = (fixture(name), dir.path().join(name));
        fine(&["replay", text(&from), "--data", text(&to)]);
        let (mut from, mut to) = (stats(&from), stats(&to));
        for counts in [&mut from, &mut to] {
            // What a file has in its header, rounds, and the sum.
            counts.retain(|name, _| {
                !["HEADER_ATTR", "HEADER_FEATURE", "HEADER_TRACING_DATA", "EVENT_UPDATE", "FINISHED_ROUND", "TOTAL"]
                    .contains(&name.as_str())
            });
        }
        assert!(from.contains_key("THREAD_MAP"), "{from:?}");
        assert_eq!(from, to, "{name}");
    }
}

#[test]
fn an_error_that_nobody_reads_is_no_panic() {
    let full = || File::options().write(true).open("/dev/full").expect("/dev/full");
    let path = fixture("rounds");
    let cases = [(&["replay", "-q", text(&path)][..], 0), (&["dump", "/nonexistent"], 1)];
    for (arguments, expected) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perfring"));
        let status = command.args(arguments).stdout(Stdio::null()).stderr(full()).status().expect("the command runs");
        assert_eq!(status.code(), Some(expected), "{arguments:?}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_perfring"));
    let output = command.args(["completions", "bash"]).stdout(full()).output().expect("the command runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
}

#[test]
fn a_recording_is_its_owners_and_no_fifo() {
    use std::os::unix::fs::PermissionsExt;
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (path, fifo) = (dir.path().join("data"), dir.path().join("fifo"));
    fine(&["record", "-q", "-e", "cpu-clock:u", "-o", text(&path), "--", "true"]);
    assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o077, 0);
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("coreutils").success());
    let (status, said) = failed(&["record", "-q", "-e", "cpu-clock:u", "-o", text(&fifo), "--", "true"]);
    assert!(status == 1 && said.contains("FIFO"), "{said}");
}

#[test]
fn an_event_that_does_not_exist_gets_suggestions() {
    let (status, said) = failed(&["record", "-e", "page-fault", "-o", "/dev/null", "--", "true"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("page-faults"), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let path = fixture("rounds");
    for arguments in [&["dump"][..], &["replay"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_perfring"))
            .args(arguments)
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        assert!(child.wait().expect("our child").success());
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert!(!said.contains("perfring:"), "{said}");
    }
}

#[test]
fn what_is_intact_is_printed() {
    let whole = std::fs::read(fixture("rounds")).expect("a recording");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cut");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("half a recording");
    let output = perfring(&["dump", text(&path)]);
    assert_eq!(output.status.code(), Some(1));
    let lines = String::from_utf8_lossy(&output.stdout).lines().count();
    assert!(lines > 100, "{lines}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().filter(|line| !line.contains(" warning: ")).count(), 1, "{said}");
    assert!(said.contains("bytes are missing"), "{said}");
}

#[test]
fn counts_are_those_that_are_expected() {
    for name in fixture_names() {
        let expected: BTreeMap<_, _> = Expected::of(&name).stats.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(stats(&fixture(&name)), expected, "{name}");
        let lines = fine(&["dump", "--unordered", text(&fixture(&name))]);
        assert_eq!(lines.lines().count() as u64, expected["TOTAL"], "{name}");
    }
}

#[test]
fn the_consumer_of_a_replay_sees_every_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = dir.path().join("image");
    for name in fixture_names() {
        let path = fixture(&name);
        let printed = fine(&["dump", text(&path)]);
        // What perf adds goes beside the ring.
        let kernel: Vec<_> = printed
            .lines()
            .filter(|line| {
                let type_ = line.split(' ').next().unwrap_or_default();
                perfring::record::RecordType::ALL.iter().any(|known| known.is_kernel() && known.name() == Some(type_))
            })
            .collect();
        for shape in [&["--ring-pages", "8", "--free"][..], &["--ring-pages", "auto"], &[]] {
            let seen = fine(&[&["replay", text(&path)], shape].concat());
            assert!(seen.lines().eq(kernel.iter().copied()), "{name} {shape:?}");
        }
        fine(&["replay", "--image", text(&image), text(&path)]);
        let seen = fine(&["dump", "--unordered", text(&image)]);
        assert!(seen.lines().eq(kernel.iter().copied()), "{name}");
    }
}

#[test]
fn a_record_that_no_page_holds_says_what_it_needs() {
    let (status, said) = failed(&["replay", "--ring-pages", "8", text(&fixture("callgraph_dwarf_8k"))]);
    assert_eq!(status, 1);
    assert!(said.contains("that takes 16 pages, with granules of 16384 bytes"), "{said}");
    let arguments = ["replay", "-q", "--ring-pages", "16", "--granule", "16384"];
    fine(&[&arguments[..], &[text(&fixture("callgraph_dwarf_8k"))]].concat());
}
