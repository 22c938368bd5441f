//! What the event builder makes of its sources and options, on the kernel that is there.

#![cfg(feature = "kernel")]
#![allow(unsafe_code, reason = "a BPF program is loaded by a system call")]

mod common;

use std::fs::File;
use std::hint::black_box;
use std::io::{Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Need, is_rerun, require_kernel, rerun_unprivileged, skip, with_tracefs};
use memmap2::{Advice, MmapMut};
use perfring::kernel::{
    Access, BranchSampleType, ClockId, Diagnosis, Error, Event, EventBuilder, Hardware, Pmu, ReadFormat, SampleType,
    Software, Target, Tracepoint, online_cpus,
};
use perfring::ring::Consumer;

const LOST: u32 = 2;
const SAMPLE: u32 = 9;

/// The types and bodies of the records that are in the ring now.
fn records(consumer: &mut Consumer) -> Vec<(u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut drain = consumer.drain();
    while let Some(record) = drain.next() {
        let record = record.expect("the kernel's records are whole");
        all.push((record.header().type_, record.body().to_vec()));
    }
    all
}

fn samples(consumer: &mut Consumer) -> Vec<Vec<u8>> {
    records(consumer).into_iter().filter(|(type_, _)| *type_ == SAMPLE).map(|(_, body)| body).collect()
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_ne_bytes(bytes[offset..][..8].try_into().unwrap())
}

/// A breakpoint on stores to `word`, switched off.
fn watch(word: &AtomicU64) -> EventBuilder {
    EventBuilder::breakpoint(word.as_ptr().addr() as u64, 8, Access::W)
        .exclude_kernel(true)
        .exclude_hv(true)
        .disabled(true)
}

fn store(word: &AtomicU64, times: u64) {
    for value in 0..times {
        black_box(word).store(value, Ordering::Relaxed);
    }
}

fn page_faults() -> EventBuilder {
    EventBuilder::software(Software::PageFaults).exclude_kernel(true).exclude_hv(true).disabled(true)
}

/// Touches as many pages for the first time.
#[inline(never)]
fn fault(pages: usize) {
    // Pages have 64 KiB at most.
    const PAGE: usize = 1 << 16;
    let mut memory = MmapMut::map_anon(pages * PAGE).expect("memory");
    let _ = memory.advise(Advice::NoHugePage);
    for page in 0..pages {
        black_box(&mut memory)[page * PAGE] = 1;
    }
}

/// Where probes are put.
#[inline(never)]
extern "C" fn probed(value: u64) -> u64 {
    black_box(value) + 1
}

/// The file that holds the code at this address, and where in it.
fn file_offset(address: usize) -> (PathBuf, u64) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("a number");
    for line in maps.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (start, end) = fields[0].split_once('-').expect("a range");
        if (hex(start)..hex(end)).contains(&(address as u64)) {
            return (fields[5].into(), address as u64 - hex(start) + hex(fields[2]));
        }
    }
    panic!("{address:#x} is in no file");
}

#[test]
fn a_breakpoint_counts_stores() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let (word, other) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut event = watch(&word).sample_period(1).sample_type(SampleType::ADDR).open(Target::CallingThread).unwrap();
    let mut consumer = event.mmap(8).unwrap();
    store(&word, 3);
    event.enable().unwrap();
    store(&word, 7);
    store(&other, 5);
    event.disable().unwrap();
    store(&word, 2);
    assert_eq!(event.read().unwrap().value, 7);
    let samples = samples(&mut consumer);
    assert_eq!(samples.len(), 7);
    assert!(samples.iter().all(|sample| u64_at(sample, 0) == word.as_ptr().addr() as u64));

    event.reset().unwrap();
    assert_eq!(event.read().unwrap().value, 0);
    // The same event on another address.
    event.modify_attributes(&watch(&other).sample_period(1).sample_type(SampleType::ADDR)).unwrap();
    event.enable().unwrap();
    store(&word, 7);
    store(&other, 5);
    event.disable().unwrap();
    assert_eq!(event.read().unwrap().value, 5);

    // Whether it is on is what the attribute says.
    event.enable().unwrap();
    event.modify_attributes(&watch(&word).sample_period(1).sample_type(SampleType::ADDR)).unwrap();
    store(&word, 7);
    assert_eq!(event.read().unwrap().value, 5);
    let on = watch(&word).sample_period(1).sample_type(SampleType::ADDR).disabled(false);
    event.modify_attributes(&on).unwrap();
    store(&word, 7);
    assert_eq!(event.read().unwrap().value, 12);
    event.set_period(2).unwrap();
    assert!(matches!(event.modify_attributes(&on), Err(Error::Ioctl { .. })));
    event.modify_attributes(&on.sample_period(2)).unwrap();

    // The same by text.
    let text = format!("mem:{:#x}/8:w:u", word.as_ptr().addr());
    let event = EventBuilder::parse(&text).unwrap().disabled(true).open(Target::CallingThread).unwrap();
    event.enable().unwrap();
    store(&word, 4);
    event.disable().unwrap();
    assert_eq!(event.read().unwrap().value, 4);
}

#[test]
fn breakpoints_run_out() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let words: [AtomicU64; 64] = std::array::from_fn(|_| AtomicU64::new(0));
    let mut events = Vec::new();
    for word in &words {
        match watch(word).open(Target::CallingThread) {
            Ok(event) => events.push(event),
            Err(error) => {
                assert!(matches!(error, Error::NoBreakpoint { .. }) && error.is_refusal(), "{error}");
                assert!(error.to_string().contains("breakpoint register"), "{error}");
                break;
            }
        }
    }
    assert!((1..64).contains(&events.len()), "{}", events.len());
}

#[test]
fn probes_count_calls_and_returns() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let (path, offset) = file_offset(probed as *const () as usize);
    let entry = EventBuilder::uprobe(&path, offset).unwrap();
    let builders = [
        entry.clone(),
        EventBuilder::uretprobe(&path, offset).unwrap(),
        EventBuilder::parse(&format!("uprobe:{}+{offset:#x}", path.display())).unwrap(),
        EventBuilder::parse(&format!("uretprobe:{}+{offset}:u", path.display())).unwrap(),
        entry.clone().clone(),
    ];
    // The path belongs to each clone.
    drop(entry);
    for builder in builders {
        let event = builder.disabled(true).open(Target::CallingThread).unwrap();
        assert_eq!(event.attr().config1, 0, "no address is kept");
        black_box(probed)(1);
        event.enable().unwrap();
        for value in 0..5 {
            assert_eq!(black_box(probed)(value), value + 1);
        }
        event.disable().unwrap();
        black_box(probed)(1);
        assert_eq!(event.read().unwrap().value, 5, "{event:?}");
    }
}

#[cfg(feature = "symbols")]
#[test]
fn probes_are_found_by_their_symbols() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let program = std::env::current_exe().unwrap();
    let (_, offset) = file_offset(perfring_probed_by_name as *const () as usize);
    for builder in [
        EventBuilder::uprobe_symbol(&program, "perfring_probed_by_name").unwrap(),
        EventBuilder::uretprobe_symbol(&program, "perfring_probed_by_name").unwrap(),
    ] {
        assert_eq!(builder.attr().config2, offset);
        let event = builder.disabled(true).open(Target::CallingThread).unwrap();
        event.enable().unwrap();
        for value in 0..4 {
            black_box(perfring_probed_by_name)(value);
        }
        event.disable().unwrap();
        assert_eq!(event.read().unwrap().value, 4);
    }
    // The kernel would let no fork of this thread succeed.
    let error = EventBuilder::uprobe_symbol(&program, "perfring_probed_by_name").unwrap().inherit(true);
    let error = error.open(Target::CallingThread).unwrap_err();
    assert!(matches!(error, Error::InheritedProbe { .. }), "{error}");
    let error = EventBuilder::uprobe_symbol(&program, "perfring_probed_by_nmae").unwrap_err();
    assert!(error.to_string().contains("did you mean perfring_probed_by_name"), "{error}");
    black_box(&PERFRING_DATA_BY_NAME);
    let error = EventBuilder::uprobe_symbol(&program, "PERFRING_DATA_BY_NAME").unwrap_err();
    assert!(matches!(error, Error::NoSymbol { .. }), "{error}");
    // Functions of glibc that choose others, or that have several versions.
    let (libc, _) = file_offset(libc::getpid as *const () as usize);
    for name in ["strlen", "memcpy"] {
        let result = EventBuilder::uprobe_symbol(&libc, name);
        if cfg!(all(target_env = "gnu", target_arch = "x86_64")) {
            assert!(matches!(result, Err(Error::ProbeElf { .. })), "{name}: {result:?}");
        }
    }
    assert!(matches!(EventBuilder::uprobe_symbol("Cargo.toml", "main"), Err(Error::ProbeElf { .. })));
    assert!(matches!(EventBuilder::uprobe_symbol("/nonexistent", "main"), Err(Error::ProbeFile { .. })));
}

#[cfg(feature = "symbols")]
#[unsafe(no_mangle)]
static PERFRING_DATA_BY_NAME: [u64; 4] = [1, 2, 3, 4];

#[cfg(feature = "symbols")]
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn perfring_probed_by_name(value: u64) -> u64 {
    black_box(value) + 2
}

#[test]
fn a_probe_that_cannot_be_says_why() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let open =
        |path: &str, offset| EventBuilder::uprobe(path, offset).unwrap().open(Target::CallingThread).unwrap_err();
    let error = open("/nonexistent/program", 0);
    assert!(matches!(error, Error::ProbeFile { .. }) && error.to_string().contains("/nonexistent"), "{error}");
    assert!(matches!(open("/", 0), Error::ProbeFile { .. }));
    let program = std::env::current_exe().unwrap();
    let error = open(program.to_str().unwrap(), 1 << 40);
    assert!(matches!(error, Error::ProbeOffset { offset: 0x100_0000_0000, .. }), "{error}");
    // The kernel would take these.
    let len = program.metadata().unwrap().len();
    for beyond in [len, 1 << 63, u64::MAX] {
        let error = open(program.to_str().unwrap(), beyond);
        assert!(matches!(error, Error::ProbeOffset { offset, .. } if offset == beyond), "{error}");
    }
    assert!(matches!(EventBuilder::uprobe("/a\0b", 0), Err(Error::ProbeText { position: 2, .. })));

    // Whatever is done to the attribute, no address of anything but the path is passed.
    let mut builder = EventBuilder::uprobe(&program, 1 << 40).unwrap();
    builder.attr_mut().config1 = 1;
    assert!(matches!(builder.open(Target::CallingThread), Err(Error::ProbeOffset { .. })));
    builder.attr_mut().type_ = perfring::kernel::bindings::PERF_TYPE_SOFTWARE;
    builder.open(Target::CallingThread).unwrap();

    let error = EventBuilder::software(Software::Dummy).ref_ctr_offset(8).unwrap_err();
    assert!(matches!(error, Error::NotAUprobe { .. }), "{error}");
    let builder = EventBuilder::uretprobe(&program, 0).unwrap().ref_ctr_offset(8).unwrap();
    assert_eq!(builder.attr().config, 8 << 32 | 1);

    match EventBuilder::kprobe("do_exit", 0) {
        Ok(builder) => drop(builder.open(Target::CallingThread)),
        Err(error) => {
            assert!(matches!(error, Error::UnknownPmu { .. }), "{error}");
            assert!(error.to_string().contains("CONFIG_KPROBE_EVENTS"), "{error}");
        }
    }
}

#[test]
fn a_group_is_read_at_once() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let word = AtomicU64::new(0);
    let times = ReadFormat::TOTAL_TIME_ENABLED | ReadFormat::TOTAL_TIME_RUNNING;
    let group = page_faults()
        .read_format(times | ReadFormat::LOST)
        .open_group(Target::CallingThread, &[watch(&word).disabled(false), watch(&AtomicU64::new(0)).disabled(false)])
        .unwrap();
    assert!(group.read().unwrap().counts.iter().all(|count| count.value == 0 && count.scaled().is_none()));
    group.enable().unwrap();
    fault(10);
    store(&word, 4);
    group.disable().unwrap();
    let read = group.read().unwrap();
    let values: Vec<_> = read.counts.iter().map(|count| count.value).collect();
    assert!(values[0] >= 10, "{values:?}");
    assert_eq!(values[1..], [4, 0]);
    assert!(read.time_running.unwrap() > 0 && read.time_running <= read.time_enabled);
    for (event, count) in group.events().iter().zip(&read.counts) {
        assert_eq!(count.id, Some(event.id().unwrap()));
        assert_eq!(read.get(event.id().unwrap()), Some(count));
        assert_eq!(count.lost, Some(0));
        // Software is never short of counters.
        assert_eq!(count.scaled(), Some(count.value));
        // Each by itself says the same.
        assert_eq!(event.read().unwrap().value, count.value);
    }
    group.reset().unwrap();
    assert!(group.read().unwrap().counts.iter().all(|count| count.value == 0));

    // The kernel counts members only while the leader does.
    let events = group.into_events();
    assert_eq!(events.len(), 3);
}

#[test]
fn a_large_group_needs_a_large_read() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let members = vec![EventBuilder::software(Software::Dummy).exclude_kernel(true).exclude_hv(true); 40];
    let group = page_faults().read_format(ReadFormat::LOST).open_group(Target::CallingThread, &members).unwrap();
    assert_eq!(group.read().unwrap().counts.len(), 41);
}

#[test]
fn a_group_that_cannot_be_read_is_not_made() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    // With an id and a number of lost records, 682 events have 16 KiB.
    let members = vec![EventBuilder::software(Software::Dummy).exclude_kernel(true).exclude_hv(true); 700];
    let leader = page_faults().read_format(ReadFormat::LOST);
    match leader.open_group(Target::CallingThread, &members) {
        Err(error @ Error::TooManyFiles { .. }) => skip(error),
        Err(error) => assert!(matches!(error, Error::GroupTooLarge { .. }), "{error}"),
        Ok(_) => panic!("such a group cannot be read"),
    }
}

#[test]
fn a_size_that_leaves_something_out_is_refused() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let open = |builder: &EventBuilder, size| {
        let mut builder = builder.clone();
        builder.attr_mut().size = size;
        builder.open(Target::CallingThread)
    };
    for size in [0, 64] {
        let event = open(&page_faults(), size).unwrap();
        assert_eq!(event.attr_bytes().len(), 64);
        event.decoder().unwrap();
        let error = open(&page_faults().clockid(ClockId::Monotonic), size).unwrap_err();
        assert!(error.to_string().contains("leaves out what is set in clockid"), "{error}");
        let error = open(&watch(&AtomicU64::new(0)), size).unwrap_err();
        assert!(error.to_string().contains("leaves out what is set in config2"), "{error}");
    }
    let error = open(&page_faults(), 63).unwrap_err();
    assert!(matches!(error, Error::AttrSize { .. }) && error.to_string().contains("64 at least"), "{error}");
    let error = open(&page_faults(), 1 << 20).unwrap_err();
    assert!(error.to_string().contains("unknown beyond byte"), "{error}");
}

#[test]
fn a_group_without_ids_cannot_tell_its_own() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let member = page_faults().read_format(ReadFormat::GROUP);
    let group = page_faults().open_group(Target::CallingThread, std::slice::from_ref(&member)).unwrap();
    assert!(matches!(group.events()[1].read(), Err(Error::ReadWhich { events: 2, .. })));
    // Alone there is no doubt.
    assert_eq!(member.open(Target::CallingThread).unwrap().read().unwrap().value, 0);
}

#[test]
fn what_a_member_may_not_be_is_named() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let error = page_faults().open_group(Target::CallingThread, &[page_faults().pinned(true)]).unwrap_err();
    assert!(
        matches!(&error, Error::InvalidAttr { diagnosis: Diagnosis::AnyOf(any), .. } if any == &["pinned"]),
        "{error}"
    );
}

#[test]
fn every_read_format_is_what_the_kernel_gives() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    for bits in 0..32 {
        let format = ReadFormat::from_bits_retain(bits);
        let event = page_faults().read_format(format).open(Target::CallingThread).unwrap();
        event.enable().unwrap();
        fault(2);
        event.disable().unwrap();
        let count = event.read().unwrap();
        assert!(count.value >= 2, "{format:?}");
        assert_eq!(count.time_enabled.is_some(), format.contains(ReadFormat::TOTAL_TIME_ENABLED));
        assert_eq!(count.time_running.is_some(), format.contains(ReadFormat::TOTAL_TIME_RUNNING));
        assert_eq!(count.id, format.contains(ReadFormat::ID).then(|| event.id().unwrap()));
        assert_eq!(count.lost, format.contains(ReadFormat::LOST).then_some(0));
    }
}

#[test]
fn lost_samples_are_read() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let word = AtomicU64::new(0);
    let mut event = watch(&word)
        .sample_period(1)
        .sample_type(SampleType::ADDR)
        .read_format(ReadFormat::LOST)
        .open(Target::CallingThread)
        .unwrap();
    let mut consumer = event.mmap(1).unwrap();
    event.enable().unwrap();
    // More than the largest page holds.
    store(&word, 5000);
    event.disable().unwrap();
    let count = event.read().unwrap();
    let read = records(&mut consumer);
    assert!(read.iter().all(|(type_, _)| [SAMPLE, LOST].contains(type_)));
    let kept = read.iter().filter(|(type_, _)| *type_ == SAMPLE).count() as u64;
    assert_eq!(count.value, 5000);
    assert!(count.lost > Some(0));
    assert_eq!(count.lost, Some(5000 - kept));
}

#[test]
fn refresh_stops_after_as_many() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = page_faults().sample_period(1).open(Target::CallingThread).unwrap();
    let mut consumer = event.mmap(8).unwrap();
    for (overflows, faults) in [(3, 10), (1, 5), (4, 4)] {
        event.refresh(overflows).unwrap();
        fault(faults);
        assert_eq!(samples(&mut consumer).len() as u32, overflows);
    }
    // Off, without having been told so.
    fault(5);
    assert_eq!(samples(&mut consumer).len(), 0);

    assert!(matches!(event.refresh(0), Err(Error::RefreshCount { overflows: 0 })));
    assert!(matches!(event.refresh(u32::MAX), Err(Error::RefreshCount { .. })));
    let counting = page_faults().open(Target::CallingThread).unwrap();
    let error = counting.refresh(1).unwrap_err();
    assert!(matches!(error, Error::NotSampling { .. }) && error.to_string().contains("sample_period"), "{error}");
    let inherited = page_faults().sample_period(1).inherit(true).open(Target::CallingThread).unwrap();
    assert!(matches!(inherited.refresh(1), Err(Error::RefreshInherited)));
}

#[test]
fn the_period_can_be_changed() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let word = AtomicU64::new(0);
    let mut event = watch(&word).sample_period(1000).open(Target::CallingThread).unwrap();
    let mut consumer = event.mmap(8).unwrap();
    event.enable().unwrap();
    store(&word, 20);
    assert_eq!(samples(&mut consumer).len(), 0);
    event.set_period(1).unwrap();
    store(&word, 20);
    event.disable().unwrap();
    let found = samples(&mut consumer).len();
    // The period that was under way may end first.
    assert!((19..=20).contains(&found), "{found}");
    assert_eq!(event.read().unwrap().value, 40);

    for period in [0, 1 << 63] {
        assert!(matches!(event.set_period(period), Err(Error::Period { .. })));
    }
    let counting = page_faults().open(Target::CallingThread).unwrap();
    assert!(matches!(counting.set_period(1), Err(Error::NotSampling { .. })));
    let freq = page_faults().sample_freq(10).open(Target::CallingThread).unwrap();
    freq.set_period(20).unwrap();
    let error = freq.set_period(1 << 40).unwrap_err();
    assert!(error.to_string().contains("perf_event_max_sample_rate"), "{error}");
}

#[test]
fn two_events_write_one_ring() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let (one, two) = (AtomicU64::new(0), AtomicU64::new(0));
    let open = |word| -> Event {
        let builder = watch(word).sample_period(1).sample_type(SampleType::IDENTIFIER | SampleType::ADDR);
        builder.open(Target::CallingThread).unwrap()
    };
    let (mut first, mut second) = (open(&one), open(&two));
    assert!(matches!(second.set_output(&first), Err(Error::OutputNotMapped)));
    let mut consumer = first.mmap(8).unwrap();
    second.set_output(&first).unwrap();
    let error = second.mmap(8).unwrap_err();
    assert!(matches!(error, Error::Redirected), "{error}");
    for event in [&first, &second] {
        event.enable().unwrap();
    }
    for _ in 0..3 {
        store(&one, 1);
        store(&two, 2);
    }
    let ids = [first.id().unwrap(), second.id().unwrap()];
    let found: Vec<_> = samples(&mut consumer).iter().map(|sample| (u64_at(sample, 0), u64_at(sample, 8))).collect();
    let expected = [(ids[0], &one), (ids[1], &two), (ids[1], &two)].map(|(id, word)| (id, word.as_ptr().addr() as u64));
    assert_eq!(found, expected.repeat(3));

    // A third by way of the second.
    let three = AtomicU64::new(0);
    let mut third = open(&three);
    third.set_output(&second).unwrap();
    third.enable().unwrap();
    store(&three, 1);
    assert_eq!(samples(&mut consumer).len(), 1);

    // On its own again.
    second.unset_output().unwrap();
    let mut own = second.mmap(8).unwrap();
    store(&one, 1);
    store(&two, 2);
    assert_eq!((samples(&mut consumer).len(), samples(&mut own).len()), (1, 2));
    assert!(matches!(second.set_output(&first), Err(Error::AlreadyMapped)));
    assert!(matches!(first.unset_output(), Err(Error::AlreadyMapped)));

    // Without its ring the third is silent; it never reads one that is gone.
    drop((consumer, first));
    store(&three, 1);
    assert!(matches!(third.mmap(8), Err(Error::Redirected)));
    third.unset_output().unwrap();
    let mut own = third.mmap(8).unwrap();
    store(&three, 2);
    assert_eq!(samples(&mut own).len(), 2);
}

#[test]
fn outputs_that_do_not_go_together_say_why() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let builder = page_faults().sample_period(1);
    let mut ring = builder.open(Target::CallingThread).unwrap();
    let consumer = ring.mmap(1).unwrap();
    let refused = |builder: &EventBuilder, target| builder.open(target).unwrap().set_output(&ring).unwrap_err();
    let error = refused(&builder.clone().clockid(ClockId::Monotonic), Target::CallingThread);
    assert!(matches!(error, Error::OutputClock) && error.to_string().contains("clockid"), "{error}");
    let error = refused(&builder.clone().write_backward(true), Target::CallingThread);
    assert!(matches!(error, Error::OutputDirection) && error.to_string().contains("write_backward"), "{error}");
    let error = refused(&builder.clone().inherit(true), Target::CallingThread);
    assert!(matches!(error, Error::OutputInherited) && error.to_string().contains("inherit"), "{error}");
    let error = refused(&builder, Target::Task { pid: 1 });
    assert!(matches!(error, Error::OutputTask { .. }), "{error}");
    let error = refused(&builder, Target::Cpu { cpu: 0 });
    assert!(matches!(error, Error::OutputCpu { cpu: Some(0), output: None }), "{error}");
    let mut other = std::thread::scope(|scope| {
        scope.spawn(|| builder.open(Target::CallingThread).unwrap()).join().expect("an event of another thread")
    });
    let error = other.set_output(&ring).unwrap_err();
    assert!(matches!(error, Error::OutputGone) && error.to_string().contains("different threads"), "{error}");
    drop(consumer);
    let error = refused(&builder, Target::CallingThread);
    assert!(matches!(error, Error::OutputGone) && error.to_string().contains("consumer was dropped"), "{error}");
}

#[test]
fn a_filter_lets_only_matches_through() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        let tracepoint = Tracepoint::find("syscalls:sys_enter_lseek").unwrap();
        let format = tracepoint.format().unwrap();
        assert_eq!((format.name(), format.id()), ("sys_enter_lseek", tracepoint.id()));
        let offset = format.field("offset").unwrap();
        let mut file = File::open("/proc/self/maps").unwrap();
        // What a filter leaves of seeking to 0, 1, 2... 9.
        let mut places = |filter: Option<&str>| -> Vec<i128> {
            let mut event = EventBuilder::from(&tracepoint)
                .sample_period(1)
                .sample_type(SampleType::RAW)
                .disabled(true)
                .open(Target::CallingThread)
                .unwrap();
            if let Some(filter) = filter {
                event.set_filter(filter).unwrap();
                let error = event.set_filter("offset == 0").unwrap_err();
                assert!(matches!(error, Error::FilterSet { .. }), "{error}");
            }
            let mut consumer = event.mmap(8).unwrap();
            event.enable().unwrap();
            for place in 0..10 {
                file.seek(SeekFrom::Start(place)).unwrap();
            }
            event.disable().unwrap();
            let samples = samples(&mut consumer);
            assert_eq!(event.read().unwrap().value, samples.len() as u64);
            // The raw data follow their length.
            samples.iter().map(|sample| offset.int(&sample[4..]).unwrap()).collect()
        };
        assert_eq!(places(None), (0..10).collect::<Vec<_>>());
        assert_eq!(places(Some("offset > 6 || offset == 2")), [2, 7, 8, 9]);
        assert_eq!(places(Some("offset > 100")), [0; 0]);

        let event = EventBuilder::from(&tracepoint).open(Target::CallingThread).unwrap();
        for wrong in ["no_such_field == 1", "offset ===", "offset == 1\0"] {
            let error = event.set_filter(wrong).unwrap_err();
            assert!(matches!(error, Error::Filter { .. }) && error.to_string().contains("fields"), "{error}");
        }
    });
    let error = page_faults().open(Target::CallingThread).unwrap().set_filter("a == 1").unwrap_err();
    assert!(matches!(error, Error::Filter { .. }), "{error}");
}

/// A BPF program that returns this number.
fn bpf_program(type_: u32, number: u32) -> std::io::Result<OwnedFd> {
    /// The start of `union bpf_attr` for `BPF_PROG_LOAD`.
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log: [u64; 3],
    }
    // mov r0, number; exit. The fields of an instruction that are not bytes are 0, or in the upper half.
    let code = if cfg!(target_endian = "little") { [0xb7, 0x95] } else { [0xb7 << 56, 0x95 << 56] };
    let immediate = if cfg!(target_endian = "little") { u64::from(number) << 32 } else { u64::from(number) };
    let insns = [code[0] | immediate, code[1]];
    let load = Load {
        prog_type: type_,
        insn_cnt: 2,
        insns: insns.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        log: [0; 3],
    };
    const PROG_LOAD: libc::c_int = 5;
    // SAFETY: the kernel reads the struct, of the size that is passed, and the arrays that it points to, all of which
    // live until the end of this function.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    match libc::c_int::try_from(fd) {
        // SAFETY: a new descriptor that nobody else has.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[test]
fn a_bpf_program_decides_on_samples() {
    const TRACEPOINT: u32 = 5;
    const PERF_EVENT: u32 = 7;
    if !require_kernel(Need::Privileged) {
        return;
    }
    let (deny, allow) = match (bpf_program(PERF_EVENT, 0), bpf_program(PERF_EVENT, 1)) {
        (Ok(deny), Ok(allow)) => (deny, allow),
        (Err(error), _) | (_, Err(error)) => return skip(format_args!("no BPF: {error}")),
    };
    for (program, expected) in [(&deny, 0), (&allow, 3)] {
        let mut event = page_faults().sample_period(1).open(Target::CallingThread).unwrap();
        let mut consumer = event.mmap(8).unwrap();
        event.set_bpf(program).unwrap();
        event.enable().unwrap();
        fault(3);
        event.disable().unwrap();
        assert_eq!(samples(&mut consumer).len().min(3), expected);
        assert!(event.read().unwrap().value >= 3);
        assert!(event.set_bpf(program).is_err(), "one program only");
    }
    let error = page_faults().open(Target::CallingThread).unwrap().query_bpf().unwrap_err();
    assert!(error.to_string().contains("PERF_EVENT_IOC_QUERY_BPF"), "{error}");

    let programs: Vec<_> = (0..40).map(|_| bpf_program(TRACEPOINT, 1).unwrap()).collect();
    with_tracefs(|| {
        let builder = EventBuilder::tracepoint("sched:sched_process_exec").unwrap().disabled(true);
        let open = || builder.open(Target::CallingThread).unwrap();
        let before = open().query_bpf().unwrap().len();
        let events: Vec<_> = programs
            .iter()
            .map(|program| {
                let event = open();
                event.set_bpf(program).unwrap();
                event
            })
            .collect();
        let ids = events[0].query_bpf().unwrap();
        assert!(ids.len() >= before.max(40), "{ids:?}");
        assert!(ids.iter().all(|id| *id != 0));
    });
}

#[test]
fn every_format_of_this_kernel_is_understood() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        let root = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
        let root = root.map(PathBuf::from).into_iter().find(|root| root.is_dir()).unwrap();
        let mut seen = 0;
        for subsystem in root.read_dir().unwrap().flatten().filter(|entry| entry.path().is_dir()) {
            for event in subsystem.path().read_dir().unwrap().flatten() {
                if !event.path().join("id").exists() {
                    continue;
                }
                let name = format!("{}:{}", subsystem.file_name().display(), event.file_name().display());
                // One that goes away meanwhile is no defect.
                let Ok(found) = Tracepoint::find(&name) else { continue };
                match found.format() {
                    Ok(format) => {
                        assert_eq!(format.id(), found.id(), "{name}");
                        assert!(format.field("common_type").is_some_and(|field| field.is_common()), "{name}");
                        seen += 1;
                    }
                    Err(Error::Read { .. }) => {}
                    Err(error) => panic!("{name}: {error}"),
                }
            }
        }
        assert!(seen > 50, "{seen}");
    });
}

#[test]
fn tracepoints_are_suggested() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        let error = EventBuilder::parse("sched:sched_swtich").unwrap_err();
        assert!(error.to_string().contains("did you mean sched:sched_switch"), "{error}");
        assert!(matches!(error, Error::NoTracepoint { suggestions, .. } if suggestions[0] == "sched:sched_switch"));
        let error = EventBuilder::parse("sched_switch").unwrap_err();
        assert!(error.to_string().contains("did you mean sched:sched_switch"), "{error}");
        let event = EventBuilder::parse("sched:sched_switch:k").unwrap();
        assert_eq!((event.attr().exclude_user(), event.attr().exclude_kernel()), (1, 0));
        assert!(matches!(EventBuilder::parse("sched:sched_switch:z"), Err(Error::UnknownModifier { .. })));
    });
}

/// What the error says would do.
fn blamed(error: &Error) -> Vec<String> {
    match error {
        Error::InvalidAttr { diagnosis, .. } | Error::UnsupportedEvent { diagnosis, .. } => match diagnosis {
            Diagnosis::AnyOf(parts) | Diagnosis::AllOf(parts) => parts.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other}"),
    }
}

#[test]
fn the_option_that_is_refused_is_named() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let refused = |builder: EventBuilder| builder.open(Target::CallingThread).unwrap_err();
    let builder = page_faults().sample_period(1).sample_type(SampleType::IP | SampleType::TID).comm(true);
    let sample = |bits| builder.clone().sample_type(SampleType::from_bits_retain(bits));
    assert_eq!(blamed(&refused(sample(3 | 1 << 40))), ["sample_type bit 40"]);
    assert_eq!(blamed(&refused(sample(3 | 1 << 40 | 1 << 50))), ["sample_type bit 40", "sample_type bit 50"]);
    let error = refused(builder.clone().read_format(ReadFormat::from_bits_retain(1 << 9 | 1)));
    assert_eq!(blamed(&error), ["read_format bit 9"]);
    assert!(error.to_string().contains("without read_format bit 9"), "{error}");
    let mut reserved = builder.clone();
    reserved.attr_mut().set___reserved_1(1);
    assert_eq!(blamed(&refused(reserved)), ["__reserved_1"]);
    let branches = sample(3).sample_type(SampleType::BRANCH_STACK | SampleType::IP);
    let error = refused(branches.clone());
    assert!(error.to_string().contains("branch_sample_type"), "{error}");
    let error = refused(branches.branch_sample_type(BranchSampleType::ANY | BranchSampleType::USER));
    assert_eq!(blamed(&error), ["sample_type BRANCH_STACK"]);
    let error = refused(builder.clone().sigtrap(true));
    assert!(error.to_string().contains("sigtrap needs remove_on_exec"), "{error}");
    builder.clone().sigtrap(true).remove_on_exec(true).sig_data(7).open(Target::CallingThread).unwrap();
    assert_eq!(blamed(&refused(builder.clone().aux_pause(true))), ["aux_pause"]);
    let error = refused(builder.clone().aux_output(true));
    assert_eq!(blamed(&error), ["aux_output"]);
    let error = refused(builder.clone().sample_type(SampleType::CALLCHAIN).sample_max_stack(u16::MAX));
    assert!(matches!(error, Error::SampleMaxStack { frames: u16::MAX, max: Some(_) }), "{error}");
    assert!(error.to_string().contains("perf_event_max_stack"), "{error}");
    let error = refused(EventBuilder::breakpoint(1, 8, Access::W).exclude_kernel(true));
    assert!(matches!(error, Error::InvalidAttr { .. }), "{error}");
    let error = refused(EventBuilder::new(perfring::kernel::bindings::PERF_TYPE_SOFTWARE, 999).exclude_kernel(true));
    assert!(matches!(error, Error::UnsupportedEvent { diagnosis: Diagnosis::Source, .. }), "{error}");
    if let Err(error) = EventBuilder::hardware(Hardware::CpuCycles).exclude_kernel(true).open(Target::CallingThread) {
        assert!(error.is_refusal() && error.to_string().contains("hardware event cpu_cycles"), "{error}");
    }
    let error = page_faults().open(Target::CallingThread).unwrap().set_bpf(File::open("/dev/null").unwrap().as_fd());
    assert!(error.unwrap_err().to_string().contains("PERF_EVENT_IOC_SET_BPF"));
}

#[test]
fn each_flag_reaches_the_kernel() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let builder = || EventBuilder::software(Software::Dummy).sample_id_all(true);
    let plain: Vec<(&str, EventBuilder)> = vec![
        ("pinned", builder().pinned(true)),
        ("exclude_idle", builder().exclude_idle(true)),
        ("exclude_host", builder().exclude_host(true)),
        ("exclude_guest", builder().exclude_guest(true)),
        ("exclude_callchain_kernel", builder().exclude_callchain_kernel(true)),
        ("exclude_callchain_user", builder().exclude_callchain_user(true)),
        ("inherit_stat", builder().inherit(true).inherit_stat(true)),
        ("inherit_thread", builder().inherit(true).inherit_thread(true)),
        ("remove_on_exec", builder().remove_on_exec(true)),
        ("namespaces", builder().namespaces(true)),
        ("ksymbol", builder().ksymbol(true)),
        ("bpf_event", builder().bpf_event(true)),
        ("cgroup", builder().cgroup(true)),
        ("text_poke", builder().text_poke(true)),
        ("build_id", builder().mmap(true).mmap2(true).build_id(true)),
    ];
    for (name, builder) in plain {
        if let Err(error) = builder.open(Target::CallingThread) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn the_machines_pmus_are_read() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let names = Pmu::names().unwrap();
    assert!(names.iter().any(|name| name == "software"), "{names:?}");
    for name in &names {
        let pmu = Pmu::find(name).unwrap();
        for (alias, terms) in pmu.aliases() {
            if !terms.contains('?') {
                pmu.event(alias).unwrap();
            }
        }
        // Every bit of every term can be set.
        for (term, _) in pmu.terms() {
            pmu.event(&format!("{term}=1")).unwrap();
        }
    }
    let error = Pmu::find("softwear").unwrap_err();
    assert!(error.to_string().contains("did you mean software"), "{error}");
    assert!(matches!(error, Error::UnknownPmu { suggestions, .. } if suggestions[0] == "software"));

    if names.iter().any(|name| name == "msr") {
        let builder = EventBuilder::parse("msr/tsc/").unwrap();
        let error = EventBuilder::parse("msr/tcs/").unwrap_err();
        assert!(error.to_string().contains("did you mean tsc"), "{error}");
        let events = builder.open_cpus().unwrap();
        assert_eq!(events.len(), online_cpus().unwrap().len());
        let (before, after) = (events[0].read().unwrap().value, events[0].read().unwrap().value);
        assert!(before < after, "{before} {after}");
        // It counts everywhere or not at all.
        let error = EventBuilder::parse("msr/tsc/u").unwrap().open(Target::Cpu { cpu: 0 }).unwrap_err();
        assert_eq!(blamed(&error), ["exclude_kernel", "exclude_hv"]);
        assert!(error.to_string().contains("together"), "{error}");
    }
}

#[test]
fn without_privileges_capabilities_are_named() {
    if is_rerun() {
        return unprivileged();
    }
    rerun_unprivileged("");
}

fn unprivileged() {
    let capable = std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("CapEff:") && !line.ends_with("\t0000000000000000"))
    });
    if capable || !require_kernel(Need::OwnEvents) {
        return skip("this process has capabilities, or may open nothing");
    }
    let program = std::env::current_exe().unwrap();
    for builder in [EventBuilder::uprobe(program, 0).unwrap(), page_faults().namespaces(true)] {
        let error = builder.exclude_kernel(true).exclude_hv(true).open(Target::CallingThread).unwrap_err();
        assert!(matches!(error, Error::Capability { .. }) && error.is_refusal(), "{error}");
        assert!(error.to_string().contains("CAP_PERFMON"), "{error}");
    }
    let error = EventBuilder::breakpoint(u64::MAX - 7, 8, Access::W).open(Target::CallingThread).unwrap_err();
    assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
    // The mount point is there whether or not something is mounted; what is there is root's.
    let error = EventBuilder::parse("sched:sched_switch").unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("tracefs"), "{error}");
}
