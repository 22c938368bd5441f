//! `perfring dump --json`: every record of every recording is an object on a line, with the fields that `perf` prints.

#![cfg(feature = "cli")]

mod common;
mod json;
mod perf_oracle;

use perf_oracle::{
    Expected, Fields, Oracle, OracleError, OracleRecord, Registers, Sampled, Values, fixture, fixture_names,
};
use perfring::record::user::{HeaderAttr, HeaderFeature};
use perfring::record::{
    Attr, Body, ByteOrder, Encoder, Misc, RecordType, Regs, RegsAbi, SampleFields, SampleId, SampleType, User, Words,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

fn run(file: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perfring"));
    command.arg("dump").arg(file).arg("--json").args(options).output().expect("the command was built")
}

/// The objects of a recording that is sound.
fn dump(path: &Path, options: &[&str]) -> Vec<Value> {
    let (output, name) = (run(path, options), path.display());
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let parsed = text.lines().map(|line| json::parse(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}")));
    parsed.collect()
}

#[test]
fn a_line_is_an_object_and_every_record_has_one() {
    let names = fixture_names();
    assert!(names.len() >= 50, "{names:?}");
    for name in names {
        for options in [&[][..], &["--unordered"]] {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            let objects = dump(&fixture(&name), options);
            for object in &objects {
                let type_ = object["type"].as_str().unwrap_or_else(|| panic!("{name}: {object}"));
                assert!(object["misc"].is_u64() && object["size"].as_u64() >= Some(8), "{name}: {object}");
                assert!(object.get("error").is_none(), "{name}: {object}");
                *counts.entry(type_.to_owned()).or_default() += 1;
            }
            counts.insert("TOTAL".into(), objects.len() as u64);
            let expected: BTreeMap<_, _> = Expected::of(&name).stats.into_iter().filter(|(_, n)| *n > 0).collect();
            assert_eq!(counts, expected, "{name}");
        }
    }
}

/// How often each key was compared with what perf prints.
#[derive(Default)]
struct Compared(BTreeMap<&'static str, u64>);

impl Compared {
    /// The value of a key that is there is this one.
    fn same(&mut self, object: &Value, key: &'static str, expected: impl Into<Value>) {
        if let Some(value) = object.get(key) {
            assert_eq!(*value, expected.into(), "{key} of {object}");
            *self.0.entry(key).or_default() += 1;
        }
    }

    /// The key is there, and its value is this one.
    fn has(&mut self, object: &Value, key: &'static str, expected: impl Into<Value>) {
        assert!(object.get(key).is_some(), "no {key}: {object}");
        self.same(object, key, expected);
    }

    fn record(&mut self, object: &Value, record: &OracleRecord) {
        self.has(object, "type", record.type_.name().expect("a type of the kernel"));
        self.has(object, "misc", record.misc);
        self.has(object, "size", record.size);
        let who = if record.type_ == RecordType::SAMPLE { object } else { &object["sample_id"] };
        if let Some(cpu) = record.cpu {
            self.same(who, "cpu", cpu);
        }
        match record.time {
            Some(time) => self.has(who, "time", time),
            // To perf that is no time.
            None => self.same(who, "time", u64::MAX),
        }
        self.fields(object, &record.fields);
    }

    fn fields(&mut self, object: &Value, fields: &Fields) {
        match fields {
            Fields::Sample(sample) => self.sample(object, sample),
            Fields::Mmap { pid, tid, addr, len, pgoff, filename } => {
                self.mapping(object, (*pid, *tid), [*addr, *len, *pgoff], filename);
            }
            Fields::Mmap2 { pid, tid, addr, len, pgoff, file, prot, filename } => {
                self.mapping(object, (*pid, *tid), [*addr, *len, *pgoff], filename);
                let number = |key: &str| object[key].as_u64().unwrap_or_else(|| panic!("{key} of {object}"));
                match object.get("build_id") {
                    Some(_) => self.has(object, "build_id", file.as_str()),
                    None => {
                        let [maj, min, ino, generation] = ["maj", "min", "ino", "ino_generation"].map(number);
                        assert_eq!(format!("{maj:02x}:{min:02x} {ino} {generation}"), *file, "{object}");
                        *self.0.entry("ino").or_default() += 1;
                    }
                }
                let bits = number("prot");
                let letter = |bit, letter| if bits & bit != 0 { letter } else { '-' };
                let shared = if number("flags") & 1 != 0 { 's' } else { 'p' };
                let text: String = [letter(1, 'r'), letter(2, 'w'), letter(4, 'x'), shared].into_iter().collect();
                assert_eq!(text, *prot, "{object}");
                *self.0.entry("prot").or_default() += 1;
            }
            Fields::Comm { pid, tid, exec, comm } => {
                self.has(object, "pid", *pid);
                self.has(object, "tid", *tid);
                self.has(object, "comm", comm.as_str());
                assert_eq!(object["misc"].as_u64().map(|misc| misc & 0x2000 != 0), Some(*exec), "{object}");
            }
            Fields::Task { pid, tid, ppid, ptid } => {
                for (key, value) in [("pid", pid), ("tid", tid), ("ppid", ppid), ("ptid", ptid)] {
                    self.has(object, key, *value);
                }
            }
            Fields::Lost { id, lost } => {
                self.has(object, "id", *id);
                self.has(object, "lost", *lost);
            }
            Fields::LostSamples { lost, .. } => self.has(object, "lost", *lost),
            Fields::Read { pid, tid, value, enabled, running, id, .. } => {
                self.has(object, "pid", *pid);
                self.has(object, "tid", *tid);
                let counter = &object["values"][0];
                self.has(counter, "value", *value);
                id.iter().for_each(|id| self.has(counter, "id", *id));
                enabled.iter().for_each(|time| self.has(object, "time_enabled", *time));
                running.iter().for_each(|time| self.has(object, "time_running", *time));
            }
            Fields::SwitchCpuWide { pid, tid, .. } => {
                self.has(object, "next_prev_pid", *pid as u32);
                self.has(object, "next_prev_tid", *tid as u32);
            }
            Fields::Cgroup { id, path } => {
                self.has(object, "id", *id);
                self.has(object, "path", path.as_str());
            }
            Fields::Ksymbol { addr, len, type_, flags, name } => {
                self.has(object, "addr", *addr);
                self.has(object, "len", *len);
                self.has(object, "ksym_type", *type_);
                self.has(object, "flags", *flags);
                self.has(object, "name", name.as_str());
            }
            Fields::BpfEvent { type_, flags, id } => {
                self.has(object, "bpf_event_type", *type_);
                self.has(object, "flags", *flags);
                self.has(object, "id", *id);
            }
            Fields::Namespaces { pid, tid, links } => {
                self.has(object, "pid", *pid);
                self.has(object, "tid", *tid);
                let found = object["link_info"].as_array().map(|links| {
                    links.iter().filter_map(|link| Some((link["dev"].as_u64()?, link["inode"].as_u64()?))).collect()
                });
                assert_eq!(found, Some(links.clone()), "{object}");
                *self.0.entry("link_info").or_default() += 1;
            }
            Fields::Switch { .. } | Fields::Other(_) => {}
        }
    }

    fn mapping(&mut self, object: &Value, (pid, tid): (u32, u32), place: [u64; 3], filename: &str) {
        self.has(object, "pid", pid);
        self.has(object, "tid", tid);
        for (key, value) in ["addr", "len", "pgoff"].into_iter().zip(place) {
            self.has(object, key, value);
        }
        self.has(object, "filename", filename);
    }

    /// perf prints something for fields that a sample has not.
    fn sample(&mut self, object: &Value, sample: &Sampled) {
        self.same(object, "ip", sample.ip);
        self.same(object, "pid", sample.pid);
        self.same(object, "tid", sample.tid);
        self.same(object, "period", sample.period);
        self.same(object, "addr", sample.addr);
        match &sample.callchain {
            Some(chain) => self.has(object, "callchain", chain.clone()),
            None => assert!(object.get("callchain").is_none(), "{object}"),
        }
        for (key, regs) in [("regs_user", &sample.user_regs), ("regs_intr", &sample.intr_regs)] {
            regs.iter().for_each(|regs| self.registers(object, key, regs));
        }
        if let Some(size) = sample.stack_size {
            self.has(&object["stack_user"], "dyn_size", size);
        }
        if let Some(values) = &sample.read {
            self.values(&object["read"], values);
        }
        if let Some(data_src) = sample.data_src {
            self.has(&object["data_src"], "val", data_src);
        }
        sample.phys_addr.iter().for_each(|addr| self.has(object, "phys_addr", *addr));
    }

    fn registers(&mut self, object: &Value, key: &'static str, expected: &Registers) {
        let regs = &object[key];
        self.has(regs, "mask", expected.mask);
        let expected: BTreeMap<String, u64> =
            expected.values.iter().map(|(name, value)| (name.to_lowercase(), *value)).collect();
        self.has(regs, "registers", serde_json::to_value(expected).expect("names and numbers"));
        *self.0.entry(key).or_default() += 1;
    }

    fn values(&mut self, read: &Value, expected: &Values) {
        expected.enabled.iter().for_each(|time| self.has(read, "time_enabled", *time));
        expected.running.iter().for_each(|time| self.has(read, "time_running", *time));
        let values = read["values"].as_array().unwrap_or_else(|| panic!("no values: {read}"));
        assert_eq!(values.len(), expected.values.len(), "{read}");
        for (value, expected) in values.iter().zip(&expected.values) {
            self.has(value, "value", expected.value);
            self.same(value, "id", expected.id);
            expected.lost.iter().for_each(|lost| self.has(value, "lost", *lost));
        }
        *self.0.entry("read").or_default() += 1;
    }
}

impl Compared {
    /// The kernel's records, in the order in which perf delivers them.
    fn recording(&mut self, path: &Path, oracle: &Oracle) {
        let is_kernel = |object: &Value| {
            let type_ = object["type"].as_str();
            RecordType::ALL.iter().any(|known| known.is_kernel() && known.name() == type_)
        };
        let objects: Vec<_> = dump(path, &[]).into_iter().filter(is_kernel).collect();
        assert_eq!(objects.len(), oracle.delivered().count(), "{}", path.display());
        for (object, record) in objects.iter().zip(oracle.delivered()) {
            self.record(object, record);
        }
    }
}

/// Has perf record something, as the arguments say, to this file.
fn perf_record(path: &Path, arguments: &str) -> Result<(), OracleError> {
    let work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; ls / >/dev/null";
    let output = Command::new("perf")
        .args(["record", "-q", "-o"])
        .arg(path)
        .args(arguments.split(' '))
        .args(["--", "sh", "-c", work])
        .output()
        .map_err(OracleError::NoPerf)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(OracleError::Refused(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// What perf counts, where it says so.
fn counts(path: &Path) -> BTreeMap<String, u64> {
    let output = Command::new(env!("CARGO_BIN_EXE_perfring")).args(["dump", "--stats"]).arg(path).output();
    let output = output.expect("the command was built");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
        .collect()
}

#[test]
fn what_perf_records_now_is_what_it_prints() {
    if !common::require_kernel(common::Need::Privileged) {
        return;
    }
    match perf_oracle::version() {
        Ok(version) if version.contains("6.1") => {}
        Ok(version) => return common::skip(format_args!("perf is {version}, and what 6.1 prints is understood")),
        Err(error) => return common::skip(error),
    }
    common::with_tracefs(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let mut compared = Compared::default();
        for (number, arguments) in [
            "-e cpu-clock -F 999",
            "-e cpu-clock -F 999 -g",
            "-e cpu-clock:u -F 299 --call-graph dwarf",
            "-e sched:sched_switch -R -a",
            "-e page-faults -c 1 -e context-switches -c 1",
            "-e cpu-clock -F 499 -I",
            "-e cpu-clock:u -F 499 --user-regs=ax,bx,ip,sp",
            "-e page-faults -c 1 -d -T -W",
            "-e cpu-clock -F 499 --switch-events -a",
            "-e cpu-clock -F 999 -z -g",
            "-e cpu-clock -F 999 --threads -a",
            "-e {cpu-clock:u,page-faults:u}:S -i -c 200000",
            "-e cpu-clock -F 499 -k CLOCK_MONOTONIC",
            "-e cpu-clock -F 499 --namespaces --all-cgroups",
            "-e cpu-clock -F 499 --per-thread -s",
            "-e cpu-clock -F 499 -a --overwrite",
        ]
        .into_iter()
        .enumerate()
        {
            let path = dir.path().join(format!("{number}.data"));
            perf_record(&path, arguments).unwrap_or_else(|error| panic!("{arguments}: {error}"));
            let oracle = Oracle::of(&path).unwrap_or_else(|error| panic!("{arguments}: {error}"));
            compared.recording(&path, &oracle);
            let theirs = perf_oracle::stats(&path).unwrap_or_else(|error| panic!("{arguments}: {error}"));
            let ours = counts(&path);
            for (name, count) in &theirs {
                assert_eq!(ours.get(name), Some(count), "{arguments}: {name}: {ours:?} {theirs:?}");
            }
            assert_eq!(ours.len(), theirs.len(), "{arguments}: {ours:?} {theirs:?}");
        }
        assert!(compared.0["ip"] > 500 && compared.0["callchain"] > 20, "{:?}", compared.0);

        // As streams.
        for arguments in ["-e cpu-clock -F 999 -g", "-e cpu-clock -F 999 -z", "-e sched:sched_switch -R -a"] {
            let path = dir.path().join("pipe");
            let out = std::fs::File::create(&path).expect("a file");
            let status = Command::new("perf")
                .args(["record", "-q", "-o", "-"])
                .args(arguments.split(' '))
                .args(["--", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"])
                .stdout(out)
                .stderr(std::process::Stdio::null())
                .status()
                .expect("perf runs");
            assert!(status.success(), "{arguments}");
            let oracle = Oracle::of(&path).unwrap_or_else(|error| panic!("{arguments}: {error}"));
            compared.recording(&path, &oracle);
        }
    });
}

#[test]
fn fields_are_those_that_perf_prints() {
    let (mut compared, mut recordings) = (Compared::default(), 0);
    for name in fixture_names() {
        let oracle = match Oracle::of(&fixture(&name)) {
            Ok(oracle) => oracle,
            // Its recorder was killed.
            Err(OracleError::Refused(_)) if name.starts_with("killed") => continue,
            Err(error @ OracleError::NoPerf(_)) => return common::skip(error),
            Err(error) => panic!("{name}: {error}"),
        };
        compared.recording(&fixture(&name), &oracle);
        recordings += 1;
    }
    assert!(recordings >= 48, "{recordings}");
    for key in [
        "type",
        "misc",
        "size",
        "cpu",
        "time",
        "ip",
        "pid",
        "tid",
        "period",
        "addr",
        "callchain",
        "regs_user",
        "regs_intr",
        "registers",
        "dyn_size",
        "read",
        "value",
        "len",
        "pgoff",
        "filename",
        "ino",
        "build_id",
        "prot",
        "comm",
        "ppid",
        "ptid",
        "lost",
        "ksym_type",
        "bpf_event_type",
        "path",
        "phys_addr",
        "val",
        "link_info",
    ] {
        assert!(compared.0.get(key) > Some(&0), "{key} was never compared: {:?}", compared.0);
    }
}

#[test]
fn a_damaged_record_is_an_object_too() {
    // A stream of a COMM record whose name does not end.
    let mut stream = b"PERFILE2\x10\0\0\0\0\0\0\0".to_vec();
    stream.extend(3_u32.to_le_bytes());
    stream.extend([0, 0, 24, 0]);
    stream.extend([0x61; 16]);
    let dir = common::TempDir::new("damaged-json");
    let file = dir.path().join("stream");
    std::fs::write(&file, stream).expect("a temporary file");
    let output = run(&file, &[]);
    assert!(!output.status.success() && !output.stderr.is_empty());
    let object = json::parse(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    assert_eq!((&object["type"], &object["misc"], &object["size"]), (&"COMM".into(), &0.into(), &24.into()));
    let error = object["error"].as_str().unwrap();
    assert!(error.contains("comm"), "{error}");
    assert_eq!(object.as_object().unwrap().len(), 4);
}

#[test]
fn registers_are_named_as_the_recording_says() {
    let attr = Attr { sample_type: SampleType::REGS_USER, sample_regs_user: 1 << 31 | 1, ..Attr::default() };
    let encoder = Encoder::new(&attr, ByteOrder::Little).expect("a layout");
    let regs_user = Regs::new(RegsAbi::Abi64, attr.sample_regs_user, Words::from(&[5, 6]));
    let fields = SampleFields { regs_user, ..SampleFields::default() };
    let dir = common::TempDir::new("registers-json");
    let file = dir.path().join("stream");
    let mut stream = b"PERFILE2\x10\0\0\0\0\0\0\0".to_vec();
    let mut put = |user| {
        let none = SampleId::default();
        encoder.encode(Misc::empty(), &Body::User(user), &none, &mut stream).expect("a record");
    };
    put(User::HeaderAttr(HeaderAttr { attr, ids: Words::default() }));
    put(User::HeaderFeature(HeaderFeature { feat_id: 6, data: b"\x08\0\0\0aarch64\0" }));
    encoder.sample(Misc::empty(), &fields, &mut stream).expect("a sample");
    std::fs::write(&file, &stream).expect("a temporary file");
    let sample = |file: &Path| {
        let output = run(file, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        json::parse(text.lines().last().expect("the sample")).unwrap()
    };
    let expected = serde_json::json!({ "abi": 2, "mask": 1_u64 << 31 | 1, "registers": { "x0": 5, "sp": 6 } });
    assert_eq!(sample(&file)["regs_user"], expected);

    let at = stream.windows(7).position(|bytes| bytes == b"aarch64").expect("the feature");
    stream[at..at + 7].copy_from_slice(b"riscv64");
    std::fs::write(&file, &stream).expect("a temporary file");
    let expected = serde_json::json!({ "abi": 2, "mask": 1_u64 << 31 | 1, "values": [5, 6] });
    assert_eq!(sample(&file)["regs_user"], expected, "of a machine whose registers are not known");
}

#[test]
fn stats_are_no_json() {
    let output = run(&fixture("cpu_clock"), &["--stats"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}
