//! The header page of live events: times, the clock's conversion, and what the kernel says to AUX areas.

#![cfg(feature = "kernel")]

mod common;

use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::os::fd::AsFd as _;

use common::{Need, lacks, require_kernel};
use perfring::kernel::{ClockId, Error, Event, EventBuilder, SampleType, Software, Target, bindings};
use perfring::ring::{Consumer, TimeCapabilities, TimePage, TimeSnapshot};

const SAMPLE: u32 = 9;

fn own(event: Software) -> EventBuilder {
    EventBuilder::software(event).exclude_kernel(true).exclude_hv(true)
}

fn open(builder: &EventBuilder) -> Event {
    builder.open(Target::CallingThread).expect("an event of our own")
}

fn read(page: &TimePage) -> TimeSnapshot {
    page.read().expect("the kernel's page holds still")
}

/// As [`own`], read(2) giving the times, too.
fn counting() -> EventBuilder {
    let mut builder = own(Software::TaskClock);
    builder.attr_mut().read_format =
        u64::from(bindings::PERF_FORMAT_TOTAL_TIME_ENABLED | bindings::PERF_FORMAT_TOTAL_TIME_RUNNING);
    builder
}

/// Value, time enabled, time running, as read(2) gives them.
fn counted(event: &Event) -> [u64; 3] {
    let mut file = File::from(event.as_fd().try_clone_to_owned().expect("a descriptor"));
    let mut words = [[0; 8]; 3];
    let read = file.read(words.as_flattened_mut()).expect("the counts");
    assert_eq!(read, 24);
    words.map(u64::from_ne_bytes)
}

/// Touches fresh pages.
fn fault() {
    let mut fresh = vec![0_u8; 1 << 16];
    fresh.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    black_box(&fresh);
}

/// The times of the samples in the ring.
fn times(consumer: &mut Consumer) -> Vec<u64> {
    let mut times = Vec::new();
    consumer
        .for_each(|record| {
            if record.header().type_ == SAMPLE {
                times.push(u64::from_ne_bytes(record.body()[..8].try_into().expect("a time")));
            }
        })
        .expect("sound records");
    times
}

#[test]
fn a_time_page_needs_no_ring() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = open(&counting());
    let page = event.time_page().expect("the header page alone");
    let snapshot = read(&page);
    assert!(snapshot.fields.capabilities.contains(TimeCapabilities::BIT0_IS_DEPRECATED));
    // A software event is on no counter.
    assert_eq!((snapshot.fields.index, snapshot.counter, snapshot.count()), (0, None, None));
    // Both page and descriptor are there for as long as one of them is used.
    let again = event.time_page().expect("the same mapping");
    drop(event);
    read(&again);
    read(&page);
}

#[test]
fn a_ring_waits_for_the_time_page_alone_and_shares_its_own() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = open(&own(Software::PageFaults).sample_period(1).sample_type(SampleType::TIME));
    let page = event.time_page().expect("the header page alone");
    assert!(matches!(event.mmap(8), Err(Error::HeaderMapped)));
    drop(page);
    let mut consumer = event.mmap(8).expect("a ring");
    let page = event.time_page().expect("the ring's header page");
    fault();
    assert!(!times(&mut consumer).is_empty());
    read(&page);
    drop(consumer);
    // The ring remains mapped by its time page, and lends it to others.
    read(&page);
    read(&event.time_page().expect("the ring's header page"));
    drop(page);
    read(&event.time_page().expect("the header page alone"));
    assert!(matches!(event.mmap(8), Err(Error::AlreadyMapped)));
}

#[test]
fn times_on_the_page_are_those_that_read_gives() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = open(&counting());
    let page = event.time_page().expect("a time page");
    for _ in 0..1000 {
        let [_, enabled_before, running_before] = counted(&event);
        let snapshot = read(&page);
        let [_, enabled_after, running_after] = counted(&event);
        assert!(enabled_before <= enabled_after && running_before <= running_after);
        assert!(snapshot.fields.time_enabled <= enabled_after);
        assert!(snapshot.fields.time_running <= running_after);
        if let Some(now) = snapshot.enabled_now() {
            assert!(now >= snapshot.fields.time_enabled);
            assert!((enabled_before..=enabled_after).contains(&now), "{now} not in {enabled_before}..={enabled_after}");
        }
        black_box((0..1000).sum::<u64>());
    }
    event.disable().expect("an event to switch off");
    let [_, enabled, running] = counted(&event);
    let snapshot = read(&page);
    assert!(snapshot.fields.time_enabled <= enabled && snapshot.fields.time_running <= running);
}

#[test]
fn the_clock_says_what_records_say() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = open(&own(Software::PageFaults).sample_period(1).sample_type(SampleType::TIME));
    let mut consumer = event.mmap(8).expect("a ring");
    let page = event.time_page().expect("a time page");
    let fields = read(&page).fields;
    if fields.clock().is_none() {
        assert!(!fields.capabilities.contains(TimeCapabilities::USER_TIME_ZERO));
        return lacks("cap_user_time_zero is not granted: the kernel's clock is not the machine's");
    }
    let mut last = 0;
    for _ in 0..100 {
        times(&mut consumer);
        let before = read(&page).time().expect("granted before");
        fault();
        let after = read(&page).time().expect("granted before");
        assert!(last <= before && before <= after);
        last = after;
        let seen = times(&mut consumer);
        assert!(!seen.is_empty());
        for time in seen {
            assert!((before..=after).contains(&time), "{time} not in {before}..={after}");
            // And back: the cycles of that moment lie between as well.
            let clock = read(&page).fields.clock().expect("granted before");
            let cycles = clock.cycles(time).expect("cycles of a time that was");
            assert!(clock.ns(cycles) <= time);
        }
    }
}

#[test]
fn an_event_with_a_clock_of_its_own_has_no_conversion() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = open(&own(Software::Dummy).clockid(ClockId::Monotonic));
    let snapshot = read(&event.time_page().expect("a time page"));
    assert_eq!((snapshot.fields.clock(), snapshot.time()), (None, None));
}

#[test]
fn an_inherited_event_has_no_page() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = open(&own(Software::Dummy).inherit(true));
    assert!(matches!(event.time_page(), Err(Error::MapInherited)));
}

#[test]
fn a_software_event_has_no_aux_area() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = open(&own(Software::Dummy));
    assert!(matches!(event.mmap_aux(3), Err(Error::Pages { pages: 3 })));
    assert!(matches!(event.mmap_aux(usize::MAX / 2 + 1), Err(Error::Pages { .. })));
    assert!(matches!(event.mmap_aux(4), Err(Error::AuxNotMapped)));
    let page = event.time_page().expect("the header page alone");
    assert!(matches!(event.mmap_aux(4), Err(Error::AuxNotMapped)));
    drop(page);
    let consumer = event.mmap(8).expect("a ring");
    for error in [event.mmap_aux(4).map(drop), event.mmap_aux_snapshot(4).map(drop)] {
        let error = error.expect_err("a software event has no AUX area");
        assert!(matches!(error, Error::NoAux { .. }), "{error:?}");
        assert!(error.is_refusal());
        let text = error.to_string();
        assert!(text.contains("software event dummy") && text.contains("AUX-capable PMU"), "{text}");
    }
    drop(consumer);
    assert!(matches!(event.mmap_aux(4), Err(Error::AuxNotMapped)));
}

#[test]
fn a_backward_ring_has_no_aux_area() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = open(&own(Software::Dummy).write_backward(true));
    let _consumer = event.mmap(8).expect("a ring");
    assert!(matches!(event.mmap_aux_snapshot(4), Err(Error::AuxBackward)));
    read(&event.time_page().expect("the header page of a ring that is read-only"));
}
