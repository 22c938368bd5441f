//! Live events of this kernel, read through the ring's consumer.

#![cfg(feature = "kernel")]

mod common;

use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{
    Need, Pages, TempDir, is_rerun, page_size, require_kernel, rerun, rerun_unprivileged, skip, with_tracefs,
};
use perfring::kernel::{
    ClockId, Error, Event, EventBuilder, SampleType, Software, StoppedCommand, Target, Tracepoint, online_cpus, poll,
};
use perfring::ring::{Consumer, ReadError, ReadErrorKind, Wait};

const MMAP: u32 = 1;
const LOST: u32 = 2;
const COMM: u32 = 3;
const EXIT: u32 = 4;
const SAMPLE: u32 = 9;
const MMAP2: u32 = 10;
const MISC_COMM_EXEC: u16 = 1 << 13;
const MISC_USER: u16 = 2;

/// Long enough for the slowest machine; waiting ends as soon as there is something.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

/// A record that was copied out of the ring.
#[derive(Debug)]
struct Record {
    type_: u32,
    misc: u16,
    position: u64,
    bytes: Vec<u8>,
}

impl Record {
    fn u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.body()[offset..][..4].try_into().unwrap())
    }

    fn u64(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.body()[offset..][..8].try_into().unwrap())
    }

    fn body(&self) -> &[u8] {
        &self.bytes[8..]
    }

    /// The NUL-terminated string at `offset`.
    fn str(&self, offset: usize) -> &str {
        let text = &self.body()[offset..];
        let end = text.iter().position(|&byte| byte == 0).expect("a NUL");
        std::str::from_utf8(&text[..end]).expect("UTF-8")
    }
}

/// Everything that is in the ring now.
fn records(consumer: &mut Consumer) -> Vec<Record> {
    collect(consumer, |error| panic!("the kernel's records are whole: {error}"))
}

/// Everything that is in a backward ring now. That older records were overwritten is told, and no defect.
fn newest(consumer: &mut Consumer) -> Vec<Record> {
    collect(consumer, |error| assert_eq!(error.kind, ReadErrorKind::Overwritten, "{error}"))
}

fn collect(consumer: &mut Consumer, defect: impl Fn(ReadError)) -> Vec<Record> {
    let mut all = Vec::new();
    let mut drain = consumer.drain();
    while let Some(record) = drain.next() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                defect(error);
                continue;
            }
        };
        let header = record.header();
        assert_eq!(usize::from(header.size), record.bytes().len());
        assert_eq!(record.body(), &record.bytes()[8..]);
        all.push(Record {
            type_: header.type_,
            misc: header.misc,
            position: record.position(),
            bytes: record.bytes().to_vec(),
        });
    }
    all
}

fn page_faults() -> EventBuilder {
    EventBuilder::software(Software::PageFaults).sample_period(1).exclude_kernel(true).exclude_hv(true).disabled(true)
}

/// The event's counter.
fn count(event: &Event) -> u64 {
    let mut value = [0; 8];
    File::from(event.as_fd().try_clone_to_owned().unwrap()).read_exact(&mut value).expect("a count");
    u64::from_ne_bytes(value)
}

#[test]
fn page_faults_come_with_their_addresses() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = page_faults()
        .sample_type(SampleType::IP | SampleType::TID | SampleType::TIME | SampleType::ADDR | SampleType::PERIOD)
        .clockid(ClockId::Monotonic)
        .open(Target::CallingThread)
        .unwrap();
    let mut consumer = event.mmap(8).unwrap();
    let mut pages = Pages::new(64);
    event.enable().unwrap();
    pages.touch(0..64);
    event.disable().unwrap();
    let records = records(&mut consumer);
    let mut time = 0;
    let mut seen = Vec::new();
    for record in &records {
        assert_eq!(record.type_, SAMPLE);
        assert_eq!(record.misc & 7, MISC_USER);
        assert_eq!(record.body().len(), 40);
        assert_ne!(record.u64(0), 0, "ip");
        assert_eq!(record.u32(8), std::process::id());
        assert!(record.u64(16) >= time, "a thread's samples are in order of time");
        time = record.u64(16);
        assert_eq!(record.u64(32), 1, "period");
        seen.push(record.u64(24));
    }
    // Other faults of the thread may come in between; these come once each, in order.
    let range = pages.address(0)..pages.address(64);
    seen.retain(|address| range.contains(address));
    assert_eq!(seen, (0..64).map(|page| pages.address(page)).collect::<Vec<_>>());
}

#[test]
fn what_finds_no_space_is_reported_before_the_next_record() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = page_faults().sample_type(SampleType::ADDR).open(Target::CallingThread).unwrap();
    let mut consumer = event.mmap(1).unwrap();
    // More than fit: each takes 16 bytes.
    let many = page_size() / 16 * 2;
    let mut pages = Pages::new(many + 1);
    event.enable().unwrap();
    pages.touch(0..many);
    event.disable().unwrap();
    let first = records(&mut consumer);
    let written = first.len() as u64;
    assert!(first.iter().all(|record| record.type_ == SAMPLE), "nothing is lost as far as the ring tells");
    let missed = count(&event) - written;
    assert!(missed > 0);

    assert!(records(&mut consumer).is_empty(), "a loss alone writes nothing");

    event.enable().unwrap();
    pages.touch(many..many + 1);
    event.disable().unwrap();
    let second = records(&mut consumer);
    assert_eq!(second[0].type_, LOST);
    assert_eq!(second[0].u64(0), event.id().unwrap());
    assert_eq!(second[0].u64(8), missed);
    assert!(second[1..].iter().all(|record| record.type_ == SAMPLE));
    assert_eq!(second.last().unwrap().u64(0), pages.address(many));
    assert_eq!(count(&event), written + missed + (second.len() as u64 - 1));
}

const MARKER_WORDS: usize = 512;

/// Faults on a page with a recognisable array on the stack.
#[inline(never)]
fn touch_below_marker(pages: &mut Pages, page: usize) {
    let marker: [u64; MARKER_WORDS] = std::array::from_fn(|word| ((page * MARKER_WORDS + word) as u64) << 32 | 0x5a5a);
    black_box(&marker);
    black_box(&mut pages.memory)[page * pages.page_size] = 1;
    black_box(&marker);
}

#[test]
fn records_that_wrap_come_whole() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    const STACK: u32 = 12_008;
    let mut event = page_faults()
        .sample_type(SampleType::ADDR | SampleType::STACK_USER)
        .sample_stack_user(STACK)
        .open(Target::CallingThread)
        .unwrap();
    let ring_pages = (32 << 10) / page_size().min(32 << 10);
    let mut consumer = event.mmap(ring_pages).unwrap();
    let ring = (ring_pages * page_size()) as u64;
    let mut pages = Pages::new(64);
    let (mut wrapped, mut wrapped_in_marker) = (0, 0);
    for page in 0..64 {
        event.enable().unwrap();
        touch_below_marker(&mut pages, page);
        event.disable().unwrap();
        for record in records(&mut consumer) {
            if record.type_ != SAMPLE || record.u64(0) != pages.address(page) {
                continue;
            }
            // u64 addr; u64 size; bytes; u64 dyn_size
            assert_eq!(record.u64(8), u64::from(STACK));
            assert_eq!(record.bytes.len(), 8 + 8 + 8 + STACK as usize + 8);
            let dyn_size = record.u64(16 + STACK as usize) as usize;
            assert!(dyn_size <= STACK as usize);
            let stack = &record.body()[16..][..dyn_size];
            let words: Vec<_> =
                stack.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
            let expected: Vec<_> =
                (0..MARKER_WORDS).map(|word| ((page * MARKER_WORDS + word) as u64) << 32 | 0x5a5a).collect();
            let at = words
                .windows(MARKER_WORDS)
                .position(|window| window == expected)
                .expect("the marker stands in the stack dump");
            let split = ring - record.position % ring;
            if split < record.bytes.len() as u64 {
                wrapped += 1;
                let marker = (24 + at * 8) as u64;
                wrapped_in_marker += u32::from((marker..marker + 8 * MARKER_WORDS as u64).contains(&split));
            }
        }
    }
    assert!(wrapped > 0, "records of {STACK} bytes must have wrapped in {ring}");
    assert!(wrapped_in_marker > 0, "of {wrapped} records that wrapped, none did so inside the marker");
}

#[test]
fn a_tracepoint_is_found_by_its_name() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        let tracepoint = Tracepoint::find("sched:sched_switch").unwrap();
        let mut event = EventBuilder::from(&tracepoint)
            .sample_period(1)
            .sample_type(SampleType::RAW)
            .disabled(true)
            .open(Target::CallingThread)
            .unwrap();
        let mut consumer = event.mmap(8).unwrap();
        event.enable().unwrap();
        let mut samples = Vec::new();
        for _ in 0..1000 {
            std::thread::sleep(Duration::from_millis(1));
            samples = records(&mut consumer);
            if !samples.is_empty() {
                break;
            }
        }
        assert!(!samples.is_empty(), "a thread that sleeps is switched");
        for sample in samples {
            assert_eq!(sample.type_, SAMPLE);
            assert_eq!(sample.u32(0) as usize + 4, sample.body().len());
            // Raw data of a tracepoint start with u16 common_type.
            assert_eq!(u64::from(sample.u32(4) & 0xffff), tracepoint.id());
        }

        let error = EventBuilder::tracepoint("sched:no_such_tracepoint").unwrap_err();
        assert!(matches!(error, Error::NoTracepoint { .. }), "{error}");
        assert!(error.to_string().contains("sched:no_such_tracepoint"), "{error}");
    });
}

#[test]
fn a_command_is_seen_from_its_exec_on() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let (command, mut event) = EventBuilder::software(Software::Dummy)
        .sample_type(SampleType::TID)
        .exclude_kernel(true)
        .exclude_hv(true)
        .comm(true)
        .comm_exec(true)
        .mmap(true)
        .task(true)
        .open_command(Command::new("true"))
        .unwrap();
    let pid = command.pid();
    let mut consumer = event.mmap(8).unwrap();
    assert!(records(&mut consumer).is_empty(), "the program has not started");
    let mut child = command.start().unwrap();
    assert_eq!(child.id(), pid);
    assert!(child.wait().unwrap().success());
    let records = records(&mut consumer);
    let first = records.first().expect("records of the exec");
    assert_eq!((first.type_, first.misc & MISC_COMM_EXEC), (COMM, MISC_COMM_EXEC));
    assert_eq!((first.u32(0), first.u32(4), first.str(8)), (pid, pid, "true"));
    // u32 pid, tid; u64 addr, len, pgoff; char filename[]
    let maps: Vec<_> = records.iter().filter(|record| record.type_ == MMAP).collect();
    assert!(maps.iter().any(|map| !map.str(32).is_empty()), "{maps:?}");
    assert!(maps.iter().all(|map| map.u32(0) == pid));
    let last = records.last().unwrap();
    assert_eq!((last.type_, last.u32(0)), (EXIT, pid));

    let mut closed = false;
    for _ in 0..1000 {
        closed = event.poll(PATIENCE).unwrap() == Wait::Closed;
        if closed {
            break;
        }
    }
    assert!(closed, "an event whose task has ended says so");
}

#[test]
fn mmap2_replaces_mmap() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let (command, mut event) = EventBuilder::software(Software::Dummy)
        .exclude_kernel(true)
        .exclude_hv(true)
        .mmap(true)
        .mmap2(true)
        .open_command(Command::new("true"))
        .unwrap();
    let mut consumer = event.mmap(8).unwrap();
    command.start().unwrap().wait().unwrap();
    let records = records(&mut consumer);
    assert!(records.iter().any(|record| record.type_ == MMAP2));
    assert!(records.iter().all(|record| record.type_ != MMAP));
}

#[test]
fn children_of_a_command_are_followed_on_each_cpu() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut command = Command::new("sh");
    command.args(["-c", "true & wait; exit 3"]);
    let command = StoppedCommand::spawn(command).unwrap();
    let mut events = EventBuilder::software(Software::Dummy)
        .exclude_kernel(true)
        .exclude_hv(true)
        .inherit(true)
        .task(true)
        .disabled(true)
        .enable_on_exec(true)
        .open_task_on_cpus(command.pid())
        .unwrap();
    let mut consumers: Vec<_> = events.iter_mut().map(|event| event.mmap(8).unwrap()).collect();
    let pid = command.pid();
    assert_eq!(command.start().unwrap().wait().unwrap().code(), Some(3));
    let exits: Vec<_> = consumers
        .iter_mut()
        .flat_map(records)
        .filter(|record| record.type_ == EXIT)
        .map(|record| record.u32(0))
        .collect();
    assert!(exits.contains(&pid), "{exits:?}");
    assert!(exits.iter().any(|&exit| exit != pid), "{exits:?}");
}

#[test]
fn a_backward_ring_keeps_the_newest() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event =
        page_faults().sample_type(SampleType::ADDR).write_backward(true).open(Target::CallingThread).unwrap();
    assert!(matches!(event.pause_output(), Err(Error::Ioctl { .. })), "there is no output yet");
    let mut consumer = event.mmap(1).unwrap();
    let fit = page_size() / 16;
    let mut pages = Pages::new(6 * fit);
    for (start, end) in [(0, fit / 2), (fit / 2, 3 * fit), (3 * fit, 6 * fit)] {
        event.enable().unwrap();
        pages.touch(start..end);
        event.disable().unwrap();
        event.pause_output().unwrap();
        let records = newest(&mut consumer);
        assert!(records.len() <= fit);
        assert!(records.iter().all(|record| record.type_ == SAMPLE));
        let range = pages.address(0)..pages.address(6 * fit);
        let seen: Vec<_> =
            records.iter().map(|record| record.u64(0)).filter(|address| range.contains(address)).collect();
        // Newest first, without a gap. Few other faults can have taken places in the ring.
        assert!(seen.len() >= fit / 2 - 16, "{} of {fit}", seen.len());
        let expected: Vec<_> = (0..end).rev().take(seen.len()).map(|page| pages.address(page)).collect();
        assert_eq!(seen, expected);
        event.resume_output().unwrap();
    }
}

#[test]
fn waiting_ends_with_a_record() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = page_faults().sample_type(SampleType::ADDR).wakeup_events(1).open(Target::CallingThread).unwrap();
    assert!(matches!(event.poll(PATIENCE), Err(Error::NotMapped)));
    let mut consumer = event.mmap(8).unwrap();
    let mut pages = Pages::new(3);
    assert_eq!(event.poll(Some(Duration::ZERO)).unwrap(), Wait::TimedOut);

    event.enable().unwrap();
    pages.touch(0..1);
    event.disable().unwrap();
    assert_eq!(event.poll(PATIENCE).unwrap(), Wait::Ready);
    assert!(!records(&mut consumer).is_empty());

    event.enable().unwrap();
    pages.touch(1..2);
    event.disable().unwrap();
    assert_eq!(consumer.wait(PATIENCE).unwrap(), Wait::Ready);
    assert!(!records(&mut consumer).is_empty());

    // The consumer does not need the event.
    event.enable().unwrap();
    pages.touch(2..3);
    drop(event);
    assert_eq!(consumer.wait(PATIENCE).unwrap(), Wait::Ready);
    let left: Vec<_> = records(&mut consumer).iter().map(|record| record.u64(0)).collect();
    assert!(left.contains(&pages.address(2)));
}

#[test]
fn each_cpu_has_its_event() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let mut events = EventBuilder::software(Software::ContextSwitches)
        .sample_period(1)
        .sample_type(SampleType::CPU)
        .wakeup_events(1)
        .open_cpus()
        .unwrap();
    assert_eq!(events.len(), online_cpus().unwrap().len());
    let ids: std::collections::HashSet<_> = events.iter().map(|event| event.id().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
    let mut consumers: Vec<_> = events.iter_mut().map(|event| event.mmap(8).unwrap()).collect();
    let mut found = false;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(poll(&events, PATIENCE).unwrap(), Wait::Ready);
        for (event, consumer) in events.iter().zip(&mut consumers) {
            let Target::Cpu { cpu } = event.target() else { panic!("{:?}", event.target()) };
            for record in records(consumer).iter().filter(|record| record.type_ == SAMPLE) {
                assert_eq!(record.u32(0), cpu);
                found = true;
            }
        }
        if found {
            break;
        }
    }
    assert!(found, "this thread was switched");
}

#[test]
fn the_finished_attr_is_what_was_asked_for() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut builder = page_faults();
    builder.attr_mut().set_precise_ip(0);
    builder.attr_mut().size = 64;
    let event = builder.open(Target::CallingThread).unwrap();
    assert_eq!(event.attr().sample_period, 1);
    assert_eq!(event.attr_bytes().len(), 64);
    assert_eq!(event.attr_bytes()[4], 64);
}

#[test]
fn only_a_power_of_two_of_pages() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = page_faults().open(Target::CallingThread).unwrap();
    for pages in [0, 3, 12, usize::MAX, 1 << (usize::BITS - 1), usize::MAX / page_size() + 1] {
        let error = event.mmap(pages).unwrap_err();
        assert!(matches!(error, Error::Pages { pages: named } if named == pages), "{error}");
    }
    // A refusal leaves the event as it was.
    let _consumer = event.mmap(1).unwrap();
    assert!(matches!(event.mmap(1), Err(Error::AlreadyMapped)));

    let mut inherited = page_faults().inherit(true).open(Target::CallingThread).unwrap();
    assert!(matches!(inherited.mmap(1), Err(Error::MapInherited)));
}

#[test]
fn requests_that_cannot_be_met_say_why() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let error = page_faults().open(Target::Task { pid: child.id() }).unwrap_err();
    assert!(matches!(error, Error::NoSuchTask { pid } if pid == child.id()), "{error}");

    let error = page_faults().open(Target::TaskOnCpu { pid: std::process::id(), cpu: 1 << 20 }).unwrap_err();
    assert!(matches!(error, Error::NoSuchCpu { cpu: 0x10_0000, .. }), "{error}");

    let error = EventBuilder::new(1, 999).exclude_kernel(true).open(Target::CallingThread).unwrap_err();
    assert!(matches!(error, Error::UnsupportedEvent { .. }), "{error}");
    assert!(error.to_string().contains("type 1 with config 0x3e7"), "{error}");

    let error = page_faults().sample_freq(1 << 40).open(Target::CallingThread).unwrap_err();
    assert!(matches!(error, Error::SampleFreq { freq: 0x100_0000_0000, .. }), "{error}");

    let error =
        page_faults().sample_type(SampleType::STACK_USER).sample_stack_user(7).open(Target::CallingThread).unwrap_err();
    assert!(matches!(error, Error::InvalidAttr { .. }), "{error}");

    let mut builder = page_faults();
    builder.attr_mut().size = 4096;
    let error = builder.open(Target::CallingThread).unwrap_err();
    assert!(matches!(error, Error::AttrSize { size: 4096, .. }), "{error}");
}

#[test]
fn running_out_of_files_names_the_limit() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    if !is_rerun() {
        return rerun("ulimit -n 40", |_| {}, &std::env::current_exe().unwrap());
    }
    let mut open = Vec::new();
    let error = loop {
        match page_faults().open(Target::CallingThread) {
            Ok(event) => open.push(event),
            Err(error) => break error,
        }
        assert!(open.len() < 40);
    };
    assert!(matches!(error, Error::TooManyFiles { limit: Some(40) }), "{error}");
    assert!(error.to_string().contains("RLIMIT_NOFILE is 40"), "{error}");
    // The last descriptor goes to the consumer.
    let error = open.last_mut().unwrap().mmap(1).unwrap_err();
    assert!(matches!(error, Error::TooManyFiles { .. }), "{error}");
    let error = StoppedCommand::spawn(Command::new("true")).unwrap_err();
    assert!(matches!(error, Error::TooManyFiles { .. }), "{error}");
}

#[test]
fn without_privileges_the_knob_is_named() {
    if is_rerun() {
        return unprivileged();
    }
    rerun_unprivileged("ulimit -l 64");
}

fn unprivileged() {
    let paranoid: i64 = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid")
        .unwrap_or_default()
        .trim()
        .parse()
        .unwrap_or(-1);
    let capable = std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("CapEff:") && !line.ends_with("\t0000000000000000"))
    });
    if capable || paranoid < 2 {
        return skip(format_args!("perf_event_paranoid is {paranoid}, or this process has capabilities"));
    }
    let builder = EventBuilder::software(Software::PageFaults);
    let error = builder.open(Target::CallingThread).unwrap_err();
    assert!(matches!(error, Error::Permission { allowed_at: 1, .. }), "{error}");
    assert!(error.is_refusal());
    let text = error.to_string();
    assert!(
        text.contains(&format!("perf_event_paranoid is {paranoid}; 1 or less")) && text.contains("CAP_PERFMON"),
        "{text}"
    );

    let error = builder.clone().exclude_kernel(true).open(Target::Cpu { cpu: 0 }).unwrap_err();
    assert!(matches!(error, Error::Permission { allowed_at: 0, .. }), "{error}");

    // Init belongs to root: it is not the paranoid value that forbids this.
    if paranoid == 2 {
        let error = page_faults().open(Target::Task { pid: 1 }).unwrap_err();
        assert!(matches!(error, Error::Permission { allowed_at: 2, .. }), "{error}");
        assert!(error.to_string().contains("another user"), "{error}");
    }

    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mlock_kb: usize =
        std::fs::read_to_string("/proc/sys/kernel/perf_event_mlock_kb").unwrap().trim().parse().unwrap();
    let too_much = (mlock_kb + 64) * 1024 * (online_cpus().unwrap().len() + 1) * 2;
    let pages = (too_much / page_size()).next_power_of_two();
    let mut event = page_faults().open(Target::CallingThread).unwrap();
    let error = event.mmap(pages).unwrap_err();
    assert!(matches!(error, Error::MlockLimit { memlock: Some(0x10000), .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("({mlock_kb} KiB)")) && text.contains(&format!("{pages} pages")), "{text}");
    // Less of it is granted afterwards.
    event.mmap(1).unwrap();
}

#[test]
fn a_program_that_does_not_exist_is_reported() {
    let command = StoppedCommand::spawn(Command::new("/nonexistent/program")).unwrap();
    let error = command.start().unwrap_err();
    assert!(
        matches!(&error, Error::Command { program, source } if program == "/nonexistent/program" && source.kind() == std::io::ErrorKind::NotFound),
        "{error}"
    );
    let mut command = Command::new("true");
    command.current_dir("/nonexistent");
    assert!(matches!(StoppedCommand::spawn(command), Err(Error::Command { .. })));
}

#[test]
fn a_command_that_is_dropped_does_not_run() {
    let dir = TempDir::new("dropped");
    let file = dir.path().join("ran");
    let make = || {
        let mut command = Command::new("touch");
        command.arg(&file);
        StoppedCommand::spawn(command).unwrap()
    };
    // Two at a time: the second child holds copies of what belongs to the first.
    let (first, second) = (make(), make());
    let pids = [first.pid(), second.pid()];
    drop(first);
    drop(second);
    assert!(!file.exists());
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "no zombie is left");
    }
    assert!(make().start().unwrap().wait().unwrap().success());
    assert!(file.exists());
}

#[test]
fn a_command_that_is_killed_while_it_waits_is_returned() {
    let command = StoppedCommand::spawn(Command::new("true")).unwrap();
    let killed = Command::new("kill").args(["-9", &command.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    if let Ok(mut child) = command.start() {
        assert!(!child.wait().unwrap().success());
    }
}

#[test]
fn commands_that_wait_end_with_their_parent() {
    const PIDS: &str = "PERFRING_TEST_PIDS";
    if is_rerun() {
        let stopped: Vec<_> = (0..2)
            .map(|_| {
                let mut command = Command::new("true");
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                StoppedCommand::spawn(command).unwrap()
            })
            .collect();
        let pids: Vec<_> = stopped.iter().map(|command| command.pid().to_string()).collect();
        std::fs::write(std::env::var_os(PIDS).unwrap(), pids.join(" ")).unwrap();
        // As if the process were killed: nobody tells the children anything.
        std::mem::forget(stopped);
        return;
    }
    let dir = TempDir::new("orphans");
    let file = dir.path().join("pids");
    rerun(
        "",
        |command| {
            command.env(PIDS, &file);
        },
        &std::env::current_exe().unwrap(),
    );
    for pid in std::fs::read_to_string(&file).unwrap().split(' ') {
        // A zombie that init has not reaped yet has ended, too.
        let waits = || {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
        };
        let mut patience = 20_000;
        while waits() {
            patience -= 1;
            assert!(patience > 0, "{pid} still waits");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_command_inherits_and_leaves_no_files() {
    if !is_rerun() {
        // Alone in its process, where no other test opens files.
        return rerun("", |_| {}, &std::env::current_exe().unwrap());
    }
    let list = || {
        let mut command = Command::new("ls");
        command.arg("/proc/self/fd").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    };
    let here = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let plain = list().spawn().unwrap().wait_with_output().unwrap();
    let before = here();
    for _ in 0..10 {
        let stopped = StoppedCommand::spawn(list()).unwrap();
        let output = stopped.start().unwrap().wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&plain.stdout));
        drop(StoppedCommand::spawn(list()).unwrap());
        drop(StoppedCommand::spawn(Command::new("/nonexistent")).unwrap().start());
    }
    assert_eq!(here(), before);
}

#[test]
fn commands_that_are_made_at_once_start_one_by_one() {
    if !is_rerun() {
        // Alone in its process, where no other test forks.
        return rerun("", |_| {}, &std::env::current_exe().unwrap());
    }
    let make = || StoppedCommand::spawn(Command::new("true")).expect("a process");
    for _ in 0..30 {
        let (first, second) = std::thread::scope(|scope| {
            let (first, second) = (scope.spawn(make), scope.spawn(make));
            (first.join().expect("a command"), second.join().expect("a command"))
        });
        for command in [first, second] {
            assert!(command.start().expect("true runs").wait().expect("its end").success());
        }
    }
}

#[test]
fn nothing_to_wait_for_has_ended() {
    assert_eq!(poll(&[], None).expect("no events are no error"), Wait::Closed);
}
