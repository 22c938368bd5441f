//! Many rings of the kernel, read as one stream.

#![cfg(feature = "kernel")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Need, Pages, require_kernel};
use perfring::kernel::{
    AsyncRing, AsyncRingSet, ClockId, Error, EventBuilder, ReadFormat, RingSet, SampleType, SetError, SetTarget,
    Software, Target,
};
use perfring::record::{Body, ByteOrder, Decoder, RecordType};
use perfring::ring::Wait;

fn event(software: Software) -> EventBuilder {
    EventBuilder::software(software).sample_period(1).sample_type(SampleType::TID | SampleType::CPU).disabled(true)
}

fn own_faults() -> EventBuilder {
    event(Software::PageFaults).exclude_kernel(true).exclude_hv(true)
}

fn touch(pages: usize) {
    let mut fresh = memmap2::MmapMut::map_anon(pages * 4096).expect("memory");
    for page in 0..pages {
        fresh[page * 4096] = 1;
    }
}

fn this_process() -> SetTarget {
    SetTarget::Threads { pid: std::process::id() }
}

/// A process that waits for its end.
struct Waiting(std::process::Child);

impl Waiting {
    fn spawn() -> Self {
        let mut command = std::process::Command::new("cat");
        Self(command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().expect("cat"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn end(&mut self) {
        // Waiting closes its input first.
        self.0.wait().expect("its end");
    }
}

/// Two threads that switch and fault for a while.
fn work() {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..100 {
                    touch(4);
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
        }
    });
}

#[test]
fn records_of_all_cpus_come_in_the_order_of_time() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let mut set = RingSet::builder()
        .event(event(Software::ContextSwitches))
        .event(event(Software::PageFaults).sample_type(SampleType::IP | SampleType::TID))
        .pages(64)
        .open()
        .expect("a set");
    set.enable().expect("on");
    work();
    set.disable().expect("off");
    let (mut seen, mut last, mut own) = ([0_u64; 2], 0, [0_u64; 2]);
    set.flush(|record| {
        let record = record.expect("a whole record");
        let time = record.time.expect("each record has a time");
        last = last.max(time);
        let decoded = record.decode().expect("the ring knows what its event writes");
        assert!(decoded.rest().is_empty());
        if let Body::Sample(sample) = decoded.body {
            assert_eq!(sample.ip().is_some(), record.event == 1);
            assert_eq!(sample.time(), Some(time));
            own[record.event] += u64::from(sample.tid().is_some_and(|tid| tid.pid == std::process::id()));
            seen[record.event] += 1;
        }
    });
    assert!(own[0] >= 200 && own[1] >= 800, "of {seen:?} samples {own:?} are ours");
    let stats = set.stats();
    let rings: Vec<_> = set.rings().collect();
    assert_eq!(rings.iter().map(|ring| ring.records).sum::<u64>(), stats.delivered);
    assert!(rings.iter().map(|ring| ring.event).eq([0, 1].into_iter().cycle().take(rings.len())), "{rings:?}");
    assert_eq!(set.wait(Some(Duration::ZERO)).expect("a wait"), Wait::TimedOut);
}

/// A set with this delay holds back what was written just now, but for `flush`.
fn assert_holds_back(delay: Duration) {
    let mut set = RingSet::builder().event(own_faults()).target(this_process()).delay(delay).open().expect("a set");
    set.enable().expect("on");
    touch(10);
    set.for_each(|record| panic!("too young: {record:?}"));
    assert_eq!(set.wait(Some(Duration::from_millis(1))).expect("a wait"), Wait::TimedOut);
    let mut count = 0;
    set.flush(|_| count += 1);
    assert!(count >= 10, "{count}");
}

#[test]
fn what_is_younger_than_the_delay_waits_for_flush() {
    if require_kernel(Need::OwnEvents) {
        assert_holds_back(Duration::from_secs(86400 * 365 * 100));
    }
}

#[test]
fn a_delay_beyond_every_clock_holds_all_back() {
    if require_kernel(Need::OwnEvents) {
        assert_holds_back(Duration::MAX);
    }
}

#[test]
fn what_fills_a_ring_is_not_held_back() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut set = RingSet::builder()
        .event(own_faults())
        .target(this_process())
        .pages(1)
        .delay(Duration::from_secs(3600))
        .open()
        .expect("a set");
    set.enable().expect("on");
    touch(10);
    set.for_each(|record| panic!("too young: {record:?}"));
    // A sample has at least 8 bytes.
    touch(512);
    set.disable().expect("off");
    assert_eq!(set.wait(Some(Duration::from_secs(60))).expect("a wait"), Wait::Ready);
    let mut count = 0;
    set.for_each(|record| count += usize::from(record.is_ok()));
    assert!(count > 10, "{count}");
}

#[test]
fn a_thread_that_ended_gives_its_event_back() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let _ = stopped.recv();
    });
    let mut set = RingSet::builder().event(own_faults().task(true)).target(this_process()).open().expect("a set");
    set.enable().expect("on");
    let rings = set.rings().len();
    let held = |set: &RingSet| (0..rings).filter(|&ring| set.event(ring).is_some()).count();
    let before = held(&set);
    drop(stop);
    thread.join().expect("the thread");
    while held(&set) >= before {
        set.wait(Some(Duration::from_millis(1))).expect("a wait");
        set.flush(|record| assert!(record.is_ok()));
    }
    assert!(set.rings().len() >= rings, "what was read of it stays known");
}

#[test]
fn what_was_held_back_becomes_ready() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let delay = Duration::from_millis(5);
    let mut set = RingSet::builder().event(own_faults()).target(this_process()).delay(delay).open().expect("a set");
    set.enable().expect("on");
    touch(10);
    set.disable().expect("off");
    let mut count = 0;
    // Each wait is shorter than the delay, and yet they come to an end.
    while count < 10 {
        if set.wait(Some(Duration::from_millis(1))).expect("a wait") == Wait::Ready {
            set.for_each(|record| count += usize::from(record.is_ok()));
        }
    }
    assert_eq!(set.stats().late, 0);
}

#[test]
fn more_events_than_descriptors_are_refused_at_once() {
    const NAME: &str = "more_events_than_descriptors_are_refused_at_once";
    const LIMIT: u64 = 100;
    if std::env::var_os("PERFRING_TEST_LIMITED").is_none() {
        let script = format!("ulimit -n {LIMIT}; exec \"$0\" {NAME} --exact");
        let exe = std::env::current_exe().expect("this binary");
        let mut shell = std::process::Command::new("sh");
        let output = shell.args(["-c", &script]).arg(exe).env("PERFRING_TEST_LIMITED", "1").output().expect("a shell");
        return assert!(output.status.success(), "{output:?}");
    }
    let builder = RingSet::builder().target(SetTarget::Task { pid: std::process::id() });
    let refused = (0..=LIMIT).fold(builder, |set, _| set.event(event(Software::Dummy))).open().err();
    let is_limit = matches!(refused, Some(SetError::Kernel(Error::TooManyFiles { limit: Some(LIMIT) })));
    assert!(is_limit, "{refused:?}");
}

#[test]
fn losses_are_counted_by_ring() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut set = RingSet::builder()
        .event(own_faults())
        .target(this_process())
        .pages(1)
        .delay(Duration::ZERO)
        .open()
        .expect("a set");
    let tid = std::fs::read_link("/proc/thread-self").expect("a thread");
    let tid: u32 = tid.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).expect("its id");
    set.enable().expect("on");
    touch(1000);
    let mut read = 0;
    set.flush(|record| read += u64::from(record.is_ok()));
    // The loss is told by the next record that finds space.
    touch(10);
    set.disable().expect("off");
    set.flush(|record| {
        let record = record.expect("a whole record");
        read += u64::from(record.record.header().type_ == RecordType::SAMPLE.0);
    });
    let own = set.rings().find(|ring| ring.target == Target::Task { pid: tid }).expect("a ring for this thread");
    assert!(own.lost > 0, "{own:?}");
    assert!(own.lost + read >= 1010, "{own:?}, and {read} were read");
}

#[test]
fn what_is_lost_behind_the_last_record_is_counted() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let tid = std::fs::read_link("/proc/thread-self").expect("a thread");
    let tid: u32 = tid.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).expect("its id");
    let mut set = RingSet::builder()
        .event(own_faults())
        .target(SetTarget::Task { pid: tid })
        .pages(1)
        .delay(Duration::ZERO)
        .open()
        .expect("a set");
    set.enable().expect("on");
    touch(1000);
    set.disable().expect("off");
    let (mut samples, mut told) = (0, 0);
    set.flush(|record| match record.expect("a whole record").decode().expect("a record").body {
        Body::Sample(_) => samples += 1,
        Body::Lost(lost) => told += lost.lost,
        _ => {}
    });
    let events: Vec<_> = (0..set.rings().len()).filter_map(|ring| set.event(ring)).collect();
    let happened: u64 = events.iter().map(|event| event.read().expect("a count").value).sum();
    let Some(lost) = set.lost().expect("can be read") else { return println!("SKIPPED: the kernel does not count it") };
    assert_eq!((told, samples + lost), (0, happened), "nothing in the rings tells of it");
    assert!(happened >= 1000 && lost > 0, "{happened} {lost}");
}

#[test]
fn a_drain_ends_while_the_kernel_writes() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                touch(64);
            }
        })
    };
    let mut set = RingSet::builder().event(own_faults()).target(this_process()).open().expect("a set");
    set.enable().expect("on");
    let mut drains = 0;
    while drains < 20 {
        if set.wait(Some(Duration::from_millis(100))).expect("a wait") == Wait::Ready {
            let mut count = 0_u64;
            set.for_each(|_| count += 1);
            drains += u64::from(count > 0);
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer");
    assert!(set.stats().delivered >= 20);
}

#[test]
fn a_set_is_closed_when_its_task_has_ended() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut child = Waiting::spawn();
    let faults = own_faults().disabled(false).task(true);
    let mut set = RingSet::builder()
        .event(faults)
        .target(SetTarget::Task { pid: child.pid() })
        .delay(Duration::ZERO)
        .open()
        .expect("a set");
    child.end();
    let mut exits = 0;
    while set.wait(None).expect("a wait") != Wait::Closed {
        set.for_each(|record| {
            let body = record.expect("a whole record").decode().expect("a known one").body;
            exits += u64::from(matches!(body, Body::Exit(exit) if exit.pid == child.pid()));
        });
    }
    assert_eq!(exits, 1);
}

#[test]
fn events_that_have_no_common_order_are_refused() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let open = |events: &[EventBuilder]| {
        let set = RingSet::builder().target(this_process());
        events.iter().cloned().fold(set, |set, event| set.event(event)).open().map(drop)
    };
    assert!(matches!(open(&[]), Err(SetError::NoEvent)));
    let realtime = own_faults().clockid(ClockId::Realtime);
    match open(&[own_faults(), realtime.clone()]) {
        Err(SetError::Clocks { event: 1, clock: 0, first: 1 }) => {}
        other => panic!("{other:?}"),
    }
    open(std::slice::from_ref(&realtime)).expect("one clock of another kind");
    match open(&[own_faults().write_backward(true)]) {
        Err(SetError::Backward { event: 0 }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_asynchronous_set_wakes_up_and_can_be_cancelled() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut child = Waiting::spawn();
        let set = RingSet::builder()
            .event(own_faults().disabled(false).task(true).wakeup_events(1))
            .target(SetTarget::Task { pid: child.pid() })
            .delay(Duration::ZERO)
            .open()
            .expect("a set");
        let mut set = AsyncRingSet::new(set).expect("a reactor");
        let pid = child.pid();
        let ending = tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(20));
            child.end();
        });
        let mut exits = 0;
        loop {
            // Most of these are cancelled.
            let ready = tokio::time::timeout(Duration::from_millis(1), set.ready()).await;
            match ready {
                Err(_) => continue,
                Ok(Ok(Wait::Closed)) => break,
                Ok(Err(error)) => panic!("{error}"),
                Ok(_) => set.set_mut().for_each(|record| {
                    let body = record.expect("a whole record").decode().expect("a known one").body;
                    exits += u64::from(matches!(body, Body::Exit(exit) if exit.pid == pid));
                }),
            }
        }
        assert_eq!(exits, 1);
        ending.await.expect("its end");
    });
}

#[test]
fn an_asynchronous_ring_wakes_up_and_ends() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut child = Waiting::spawn();
        let builder = own_faults().disabled(false).task(true).wakeup_events(1);
        let mut event = builder.open(Target::Task { pid: child.pid() }).expect("an event");
        let decoder = event.decoder().expect("a decoder");
        let mut ring = AsyncRing::new(event.mmap(8).expect("a ring")).expect("a reactor");
        let ending = tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(20));
            child.end();
        });
        let mut exits = 0;
        loop {
            let wait = ring.ready().await.expect("a wait");
            let mut drain = ring.consumer_mut().drain();
            while let Some(record) = drain.next() {
                let record = record.expect("a whole record");
                exits += u64::from(matches!(decoder.decode(record.bytes()).expect("known").body, Body::Exit(_)));
            }
            if wait != Wait::Ready {
                assert_eq!(wait, Wait::Closed);
                break;
            }
        }
        assert_eq!(exits, 1);
        ending.await.expect("its end");
    });
}

/// The number of this thread.
fn this_thread() -> u32 {
    let path = std::fs::read_link("/proc/thread-self").expect("procfs");
    path.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("PID/task/TID")
}

#[test]
fn spans_hold_as_many_samples_as_were_counted() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    // Rings in which all has space, and such that lose some.
    for (size, rounds) in [(64, 30_usize), (1, 3)] {
        let fault = own_faults()
            .sample_type(SampleType::IDENTIFIER | SampleType::TID | SampleType::ADDR)
            .read_format(ReadFormat::ID | ReadFormat::LOST);
        let target = SetTarget::Task { pid: this_thread() };
        // Not a second event of page faults: of several with one config Linux 6.18 puts the id of one into all their samples.
        let minor = event(Software::PageFaultsMin).exclude_kernel(true).exclude_hv(true);
        let minor = minor.sample_type(SampleType::IDENTIFIER).read_format(ReadFormat::ID | ReadFormat::LOST);
        let set = RingSet::builder().event(fault).event(minor);
        let mut set = set.target(target).pages(size).open().expect("a set");
        assert!(set.take_spans(|span| panic!("nothing is there: {span:?}")) == 0);
        // As a recorder does: attrs and ids first, and a decoder for all of them.
        let mut decoder = Decoder::empty(ByteOrder::NATIVE);
        let mut ids = Vec::new();
        for event in 0..2 {
            ids.clear();
            ids.extend(set.ids().iter().filter(|id| id.event == event).map(|id| id.id));
            assert_eq!(ids.len() * 2, set.rings().len());
            assert_eq!(decoder.push(set.attr(event).expect("an event"), &ids).expect("ids"), event);
        }
        for id in set.ids() {
            assert_eq!(set.event(id.ring).expect("its event").id().expect("an id"), id.id);
            assert_eq!(set.rings().nth(id.ring).map(|ring| (ring.event, ring.target)), Some((id.event, id.target)));
        }
        set.enable().expect("on");
        let (mut taken, mut bytes) = (vec![Vec::new(); set.rings().len()], 0);
        let mut pages = Pages::new(200 * rounds);
        for round in 0..rounds {
            pages.touch(200 * round..200 * round + 200);
            if round == rounds - 1 {
                set.disable().expect("off");
            }
            bytes += set.take_spans(|span| {
                let span = span.expect("no defect");
                taken[span.ring].extend_from_slice(span.first);
                taken[span.ring].extend_from_slice(span.second);
                assert!(!span.first.is_empty() && span.event == span.ring % 2);
            });
        }
        assert_eq!(bytes, taken.iter().map(|bytes| bytes.len() as u64).sum::<u64>());
        assert_eq!(set.take_spans(|_| ()), 0);
        let (mut samples, mut lost) = ([0; 2], 0);
        for (ring, bytes) in taken.iter().enumerate() {
            let (mut rest, mut seen) = (&bytes[..], 0);
            while !rest.is_empty() {
                let (record, after) = rest.split_at(usize::from(u16::from_ne_bytes([rest[6], rest[7]])));
                match decoder.decode(record).expect("known").body {
                    Body::Sample(sample) => {
                        seen += 1;
                        assert_eq!(sample.identifier(), set.ids().iter().find(|id| id.ring == ring).map(|id| id.id));
                    }
                    Body::Lost(_) => {}
                    other => panic!("{other:?}"),
                }
                rest = after;
            }
            let count = set.event(ring).expect("its event").read().expect("its counter");
            assert_eq!(count.value, seen + count.lost.unwrap_or(0), "ring {ring} of {size} pages");
            samples[ring % 2] += seen;
            lost += count.lost.unwrap_or(0);
        }
        assert!(samples[0] >= 80 * rounds as u64, "{samples:?}");
        assert_eq!(lost > 0, size == 1, "{lost} lost");
        assert_eq!(set.stats().delivered, 0, "nothing was looked at");
    }
}
