//! Records that this kernel writes, decoded and compared with what made it write them.

#![cfg(feature = "kernel")]
#![allow(unsafe_code, reason = "what provokes the rarer records has no safe interface")]

mod common;

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Need, Pages, TempDir, page_size, require_kernel, skip, with_tracefs};
use memmap2::{Mmap, MmapOptions};
use perfring::kernel::{ClockId, Error, Event, EventBuilder, Software, Target, Tracepoint, bindings};
use perfring::record::{
    Body, ByteOrder, CallchainContext, CpuMode, Decoded, Decoder, MappedFile, Misc, Namespaces, ReadFormat, ReadValues,
    RecordType, RegsAbi, Sample, SampleType, Weight, Words,
};
use perfring::ring::{Consumer, ReadErrorKind};

/// Long enough for the slowest machine; waiting ends as soon as there is something.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the records of the kernel besides samples are asked to end with.
const TRAILER: SampleType = SampleType::TID
    .union(SampleType::TIME)
    .union(SampleType::ID)
    .union(SampleType::STREAM_ID)
    .union(SampleType::CPU)
    .union(SampleType::IDENTIFIER);

fn gettid() -> u32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() as u32 }
}

fn getppid() {
    // SAFETY: getppid has no preconditions.
    unsafe { libc::getppid() };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Everything that is in the ring now.
fn take(consumer: &mut Consumer) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    consumer.for_each(|record| all.push(record.bytes().to_vec())).expect("the kernel's records are whole");
    all
}

/// Decodes records of which no byte may be left unexplained.
fn decode<'a>(decoder: &'a Decoder, records: &'a [Vec<u8>]) -> Vec<Decoded<'a>> {
    let decode = |record: &'a Vec<u8>| {
        let decoded = decoder.decode(record).unwrap_or_else(|error| panic!("{error}: {record:02x?}"));
        assert!(decoded.rest().is_empty(), "{decoded:?}");
        assert!(!matches!(decoded.body, Body::Unknown(_)), "{decoded:?}");
        decoded
    };
    records.iter().map(decode).collect()
}

fn samples<'a>(decoder: &'a Decoder, records: &'a [Vec<u8>]) -> Vec<Sample<'a>> {
    let sample = |decoded: Decoded<'a>| match decoded.body {
        Body::Sample(sample) => sample,
        other => panic!("{other:?}"),
    };
    decode(decoder, records).into_iter().map(sample).collect()
}

/// Looks until there is something, but not for ever.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn page_faults(event: Software) -> EventBuilder {
    EventBuilder::software(event).sample_period(1).exclude_kernel(true).exclude_hv(true).disabled(true)
}

/// An event that carries only side records, all of them with whole trailers.
fn side_records() -> EventBuilder {
    EventBuilder::software(Software::Dummy)
        .sample_type(TRAILER)
        .sample_id_all(true)
        .clockid(ClockId::Monotonic)
        .disabled(true)
}

/// The trailer of a record of `event` that this thread made.
fn assert_trailer(decoded: &Decoded<'_>, event: &Event) {
    assert_trailer_of(decoded, event, std::process::id(), gettid());
}

fn assert_trailer_of(decoded: &Decoded<'_>, event: &Event, pid: u32, tid: u32) {
    let at = decoded.sample_id();
    let id = event.id().unwrap();
    assert_eq!(at.tid.map(|at| (at.pid, at.tid)), Some((pid, tid)), "{decoded:?}");
    assert_eq!((at.id, at.stream_id, at.identifier), (Some(id), Some(id), Some(id)), "{decoded:?}");
    assert!(at.time.is_some_and(|time| time > 0) && at.time == decoded.time());
    assert!(at.cpu.is_some_and(|cpu| cpu < 1 << 16));
    assert_eq!(decoded.event(), Some(0));
}

/// The address ranges of this process that may be executed.
fn executable() -> Vec<std::ops::Range<u64>> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
    let range = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        (rest.as_bytes()[2] == b'x').then_some(hex(start)?..hex(end)?)
    };
    maps.lines().filter_map(range).collect()
}

fn words_of(event: &Event) -> Vec<u64> {
    let mut bytes = [0; 256];
    let read = File::from(std::os::fd::AsFd::as_fd(event).try_clone_to_owned().unwrap()).read(&mut bytes).unwrap();
    bytes[..read].chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn live_samples_name_instruction_task_time_and_page() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let what = SampleType::IP | SampleType::ADDR | SampleType::PERIOD | TRAILER;
    let mut event = page_faults(Software::PageFaults).sample_type(what).clockid(ClockId::Monotonic);
    event = event.wakeup_events(1);
    let mut event = event.open(Target::CallingThread).unwrap();
    let mut consumer = event.mmap(16).unwrap();
    let decoder = event.decoder().unwrap();
    let mut pages = Pages::new(64);
    event.enable().unwrap();
    pages.touch(0..64);
    event.disable().unwrap();
    let records = take(&mut consumer);
    let decoded = decode(&decoder, &records);
    let code = executable();
    let mut last = 0;
    let mut addresses = Vec::new();
    for decoded in &decoded {
        assert_eq!(decoded.header.misc.cpumode(), CpuMode::User);
        let Body::Sample(sample) = &decoded.body else { panic!("{decoded:?}") };
        let ip = sample.ip().unwrap();
        assert!(code.iter().any(|range| range.contains(&ip)), "{ip:#x} in {code:x?}");
        assert_trailer(decoded, &event);
        assert!(sample.time().unwrap() >= last, "a thread's samples are in order of time");
        last = sample.time().unwrap();
        assert_eq!(sample.period(), Some(1));
        addresses.push(sample.addr().unwrap());
    }
    // Other faults of the thread may come in between; these come once each, in order.
    addresses.retain(|address| pages.addresses().contains(address));
    assert_eq!(addresses, (0..64).map(|page| pages.address(page)).collect::<Vec<_>>());
}

/// A field of a tracepoint's raw data: its place and size, from the tracepoint's `format`.
fn field(tracepoint: &str, name: &str) -> std::ops::Range<usize> {
    let path = tracepoint.replace(':', "/");
    let format = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .find_map(|root| std::fs::read_to_string(format!("{root}/events/{path}/format")).ok())
        .expect("tracefs");
    let number = |line: &str, key: &str| -> usize {
        line.split_once(key).and_then(|(_, rest)| rest.split_once(';')).expect(key).0.parse().expect(key)
    };
    let is_it = |line: &&str| {
        let declaration = line.split(';').next().unwrap_or_default();
        let last = declaration.split_whitespace().last().unwrap_or_default();
        last.split('[').next() == Some(name)
    };
    let line = format.lines().find(is_it).unwrap_or_else(|| panic!("no {name} in {format}"));
    let offset = number(line, "offset:");
    offset..offset + number(line, "size:")
}

fn uint(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let start = if cfg!(target_endian = "little") { 0 } else { word.len() - bytes.len() };
    word[start..][..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

#[test]
fn live_raw_fields_of_a_tracepoint() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        const NAME: &str = "raw_syscalls:sys_enter";
        let tracepoint = Tracepoint::find(NAME).unwrap();
        let mut event = EventBuilder::from(&tracepoint)
            .sample_period(1)
            .sample_type(SampleType::RAW | SampleType::TID)
            .disabled(true)
            .open(Target::CallingThread)
            .unwrap();
        let mut consumer = event.mmap(16).unwrap();
        let decoder = event.decoder().unwrap();
        event.enable().unwrap();
        for number in 0..20_u64 {
            // SAFETY: on a descriptor that cannot be, close only fails.
            unsafe { libc::syscall(libc::SYS_close, -7_000_i64 - number as i64, 0x1111, 0x2222) };
        }
        event.disable().unwrap();
        let records = take(&mut consumer);
        let (id, args, common) = (field(NAME, "id"), field(NAME, "args"), field(NAME, "common_type"));
        let common_pid = field(NAME, "common_pid");
        let mut seen = Vec::new();
        for sample in samples(&decoder, &records) {
            let raw = sample.raw().unwrap();
            assert_eq!((raw.len() + 4) % 8, 0);
            assert_eq!(uint(&raw[common.clone()]), tracepoint.id());
            assert_eq!(uint(&raw[common_pid.clone()]), u64::from(gettid()));
            if uint(&raw[id.clone()]) == libc::SYS_close as u64 {
                let args: Vec<_> = raw[args.clone()].chunks_exact(8).map(uint).collect();
                assert_eq!(args[1..3], [0x1111, 0x2222]);
                seen.push(args[0] as i64);
            }
        }
        assert_eq!(seen, (0..20).map(|number| -7_000 - number).collect::<Vec<_>>());
    });
}

#[test]
fn live_lost_says_what_a_full_ring_dropped() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut builder =
        page_faults(Software::PageFaults).sample_type(SampleType::ADDR | SampleType::IDENTIFIER).sample_id_all(true);
    builder.attr_mut().read_format = ReadFormat::LOST.bits();
    let mut event = builder.open(Target::CallingThread).unwrap();
    let mut consumer = event.mmap(1).unwrap();
    let decoder = event.decoder().unwrap();
    let many = page_size() / 24 * 2;
    let mut pages = Pages::new(many + 1);
    event.enable().unwrap();
    pages.touch(0..many);
    event.disable().unwrap();
    let first = take(&mut consumer);
    let written = words_of(&event);
    let read = samples(&decoder, &first).len() as u64;
    assert!(written[0] > read);
    let mut lost = written[0] - read;
    assert_eq!(written[1], lost, "read(2) counts the same");

    event.enable().unwrap();
    pages.touch(many..many + 1);
    event.disable().unwrap();
    let second = take(&mut consumer);
    let second = decode(&decoder, &second);
    let Body::Lost(record) = second[0].body else { panic!("{:?}", second[0]) };
    lost -= record.lost;
    assert_eq!((record.id, lost), (event.id().unwrap(), 0));
    assert_eq!(second[0].sample_id().identifier, Some(record.id));
    let Body::Sample(newest) = &second[second.len() - 1].body else { panic!("a sample follows") };
    assert_eq!(newest.addr(), Some(pages.address(many)));
}

const MARKER_WORDS: usize = 512;

/// The bits of the stack pointer and of the instruction pointer in `asm/perf_regs.h`.
#[cfg(target_arch = "x86_64")]
const SP_IP: Option<(u32, u32)> = Some((7, 8));
#[cfg(target_arch = "aarch64")]
const SP_IP: Option<(u32, u32)> = Some((31, 32));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const SP_IP: Option<(u32, u32)> = None;

fn marker(page: usize) -> [u64; MARKER_WORDS] {
    std::array::from_fn(|word| ((page * MARKER_WORDS + word) as u64) << 32 | 0x5a5a)
}

/// Faults on a page with a recognisable array on the stack, whose address it gives.
#[inline(never)]
fn touch_below_marker(pages: &mut Pages, page: usize) -> u64 {
    let marker = marker(page);
    black_box(&marker);
    black_box(&mut pages.memory)[page * pages.page_size] = 1;
    black_box(&marker).as_ptr() as u64
}

#[test]
fn live_stacks_are_whole_also_where_they_wrap() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    const STACK: u32 = 8 << 10;
    let Some((sp, ip)) = SP_IP else { return skip("the registers of this architecture are not known here") };
    let mut event = page_faults(Software::PageFaults)
        .sample_type(SampleType::IP | SampleType::ADDR | SampleType::REGS_USER | SampleType::STACK_USER)
        .sample_regs_user(1 << sp | 1 << ip)
        .sample_stack_user(STACK)
        .open(Target::CallingThread)
        .unwrap();
    // Room for other faults of the thread: a fork elsewhere in the process makes its stack fault once more.
    let ring_pages = (128 << 10) / page_size().min(128 << 10);
    let mut consumer = event.mmap(ring_pages).unwrap();
    let decoder = event.decoder().unwrap();
    let ring = (ring_pages * page_size()) as u64;
    let mut pages = Pages::new(64);
    let mut wrapped = 0;
    for page in 0..64 {
        event.enable().unwrap();
        let marker_at = touch_below_marker(&mut pages, page);
        event.disable().unwrap();
        let mut found = 0;
        consumer
            .for_each(|record| {
                let decoded = decoder.decode(record.bytes()).unwrap();
                let Body::Sample(sample) = &decoded.body else { panic!("{decoded:?}") };
                assert!(sample.rest().is_empty());
                if sample.addr() != Some(pages.address(page)) {
                    return;
                }
                found += 1;
                wrapped += u32::from(ring - record.position() % ring < record.bytes().len() as u64);
                let regs = sample.regs_user().unwrap();
                assert_eq!((regs.abi(), regs.iter().count()), (RegsAbi::Abi64, 2));
                assert_eq!(regs.get(ip), sample.ip());
                let stack = sample.stack_user().unwrap();
                assert_eq!(stack.data.len(), STACK as usize);
                assert!(stack.dyn_size > 8 * MARKER_WORDS as u64 && stack.dyn_size <= u64::from(STACK));
                // The dump begins at the stack pointer, so the marker lies as far behind it as in memory.
                let at = marker_at.checked_sub(regs.get(sp).unwrap()).expect("the stack grows down") as usize;
                let words: Vec<_> = stack.copied()[at..][..8 * MARKER_WORDS].chunks_exact(8).map(uint).collect();
                assert_eq!(words, marker(page));
            })
            .unwrap();
        assert_eq!(found, 1);
    }
    assert!(wrapped > 0, "records of {STACK} bytes must have wrapped in {ring}");
}

#[test]
fn live_a_backward_ring_gives_the_newest() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = page_faults(Software::PageFaults)
        .sample_type(SampleType::ADDR | SampleType::TIME)
        .write_backward(true)
        .open(Target::CallingThread)
        .unwrap();
    let mut consumer = event.mmap(1).unwrap();
    let decoder = event.decoder().unwrap();
    let many = page_size() / 24 * 3;
    let mut pages = Pages::new(many);
    event.enable().unwrap();
    pages.touch(0..many);
    event.disable().unwrap();
    event.pause_output().unwrap();
    let mut seen = Vec::new();
    let mut drain = consumer.drain();
    while let Some(record) = drain.next() {
        match record {
            Ok(record) => {
                let decoded = decoder.decode(record.bytes()).unwrap();
                let Body::Sample(sample) = decoded.body else { panic!("{decoded:?}") };
                seen.push(sample.addr().unwrap());
            }
            Err(error) => assert_eq!(error.kind, ReadErrorKind::Overwritten, "{error}"),
        }
    }
    seen.retain(|address| pages.addresses().contains(address));
    assert!(seen.len() > page_size() / 24 / 2, "{} of {many}", seen.len());
    // From the newest back, without a gap.
    let expected: Vec<_> = (0..many).rev().map(|page| pages.address(page)).take(seen.len()).collect();
    assert_eq!(seen, expected);
}

/// Opens an event in the group of another.
fn open_member(builder: &EventBuilder, leader: &Event) -> OwnedFd {
    let mut attr = *builder.attr();
    let flags = bindings::PERF_FLAG_FD_CLOEXEC;
    // SAFETY: the attr is a local and says its own size; a descriptor that was just made is nobody else's.
    unsafe {
        let fd = libc::syscall(libc::SYS_perf_event_open, &raw mut attr, 0, -1, leader.as_raw_fd(), flags);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}

#[test]
fn live_read_in_samples_is_what_read_gives() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    for bits in 0..32 {
        let format = ReadFormat::from_bits_retain(bits);
        let mut builder = page_faults(Software::PageFaults).sample_type(SampleType::READ | SampleType::ADDR);
        builder.attr_mut().read_format = bits;
        let mut event = builder.open(Target::CallingThread).unwrap();
        // Counts the same, without samples.
        let mut other = EventBuilder::software(Software::PageFaults).exclude_kernel(true).exclude_hv(true);
        other.attr_mut().read_format = bits;
        let _member = format.contains(ReadFormat::GROUP).then(|| open_member(&other, &event));
        let mut consumer = event.mmap(8).unwrap();
        let decoder = event.decoder().unwrap();
        let mut pages = Pages::new(16);
        event.enable().unwrap();
        pages.touch(0..16);
        event.disable().unwrap();
        let now = words_of(&event);
        let now = ReadValues::new(format, Words::from(&now[..])).expect("read(2) gives the same shape");
        let records = take(&mut consumer);
        let samples = samples(&decoder, &records);
        assert!(samples.len() >= 16);
        let mut enabled = 0;
        for (index, sample) in samples.iter().enumerate() {
            let read = sample.read().unwrap();
            assert_eq!(read.len(), if format.contains(ReadFormat::GROUP) { 2 } else { 1 });
            let leader = read.get_counter(0).unwrap();
            assert_eq!(leader.value, index as u64 + 1, "{format:?}");
            assert_eq!(leader.id, format.contains(ReadFormat::ID).then(|| event.id().unwrap()));
            assert_eq!(leader.lost, format.contains(ReadFormat::LOST).then_some(0));
            if let Some(member) = read.get_counter(1) {
                // It may be counted before the leader or after it.
                assert!(leader.value - member.value <= 1, "{format:?}: {member:?}");
                assert!(member.id.is_none_or(|id| Some(id) != leader.id && id != 0));
            }
            assert_eq!(read.time_enabled().is_some(), format.contains(ReadFormat::TOTAL_TIME_ENABLED));
            assert_eq!(read.time_running().is_some(), format.contains(ReadFormat::TOTAL_TIME_RUNNING));
            if let Some(time) = read.time_enabled() {
                assert!(time >= enabled && Some(time) <= now.time_enabled());
                enabled = time;
            }
            if let (Some(running), Some(enabled)) = (read.time_running(), read.time_enabled()) {
                assert!(running > 0 && running <= enabled);
            }
        }
        assert_eq!(now.get_counter(0).unwrap().value, samples.len() as u64);
        assert_eq!(now.get_counter(0).unwrap().id, format.contains(ReadFormat::ID).then(|| event.id().unwrap()));
    }
}

#[test]
fn live_call_chains_say_whose_addresses_follow() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = page_faults(Software::PageFaults)
        .sample_type(SampleType::IP | SampleType::CALLCHAIN)
        .open(Target::CallingThread)
        .unwrap();
    let mut consumer = event.mmap(16).unwrap();
    let decoder = event.decoder().unwrap();
    let mut pages = Pages::new(8);
    event.enable().unwrap();
    pages.touch(0..8);
    event.disable().unwrap();
    let records = take(&mut consumer);
    let samples = samples(&decoder, &records);
    assert!(samples.len() >= 8);
    for sample in samples {
        let chain = sample.callchain().unwrap();
        assert_eq!(chain.words().get(0), Some(CallchainContext::USER.0));
        assert_eq!(chain.ips().next(), Some((CallchainContext::USER, sample.ip().unwrap())));
        assert!(chain.ips().all(|(context, _)| context == CallchainContext::USER));
    }
}

#[test]
fn live_call_chains_through_the_kernel() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        // Tracepoints of system calls would give the registers of user space.
        let mut event = EventBuilder::tracepoint("sched:sched_switch")
            .unwrap()
            .sample_period(1)
            .sample_type(SampleType::IP | SampleType::CALLCHAIN)
            .disabled(true)
            .open(Target::CallingThread)
            .unwrap();
        let mut consumer = event.mmap(16).unwrap();
        let decoder = event.decoder().unwrap();
        event.enable().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        event.disable().unwrap();
        let records = take(&mut consumer);
        let samples = samples(&decoder, &records);
        assert!(!samples.is_empty(), "a thread that sleeps is switched");
        let code = executable();
        for sample in samples {
            let ips: Vec<_> = sample.callchain().unwrap().ips().collect();
            let (kernel, user): (Vec<_>, Vec<_>) =
                ips.iter().partition(|(context, _)| *context == CallchainContext::KERNEL);
            assert!(!kernel.is_empty() && kernel.iter().all(|(_, ip)| *ip >= 1 << 63), "{ips:x?}");
            assert_eq!(user[0].0, CallchainContext::USER);
            assert!(code.iter().any(|range| range.contains(&user[0].1)), "{ips:x?}");
            assert_eq!(ips[0].0, CallchainContext::KERNEL, "the innermost comes first");
        }
    });
}

#[test]
fn live_fields_of_hardware_and_of_places_on_a_software_event() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let places = SampleType::PHYS_ADDR | SampleType::CGROUP | SampleType::DATA_PAGE_SIZE | SampleType::CODE_PAGE_SIZE;
    let hardware = SampleType::DATA_SRC | SampleType::TRANSACTION;
    for weight in [SampleType::WEIGHT, SampleType::WEIGHT_STRUCT] {
        // Counted when the page is there already, unlike PageFaults.
        let mut event = page_faults(Software::PageFaultsMin)
            .sample_type(SampleType::IP | SampleType::ADDR | places | hardware | weight)
            .open(Target::CallingThread)
            .unwrap();
        let mut consumer = event.mmap(16).unwrap();
        let decoder = event.decoder().unwrap();
        let mut pages = Pages::new(16);
        event.enable().unwrap();
        pages.touch(0..16);
        event.disable().unwrap();
        let records = take(&mut consumer);
        let samples = samples(&decoder, &records);
        let ours: Vec<_> =
            samples.iter().filter(|sample| pages.addresses().contains(&sample.addr().unwrap())).collect();
        assert_eq!(ours.len(), 16);
        let mut physical: Vec<_> = ours.iter().map(|sample| sample.phys_addr().unwrap()).collect();
        assert!(physical.iter().all(|address| *address != 0 && address % page_size() as u64 == 0), "{physical:x?}");
        physical.sort_unstable();
        physical.dedup();
        assert_eq!(physical.len(), 16, "each page has a place of its own");
        for sample in ours {
            assert_eq!(sample.data_page_size(), Some(page_size() as u64));
            let code_page = sample.code_page_size().unwrap();
            assert!(code_page.is_power_of_two() && code_page >= page_size() as u64, "{code_page}");
            assert_ne!(sample.cgroup(), Some(0));
            assert_eq!(sample.cgroup(), samples[0].cgroup());
            // What only hardware knows is 0, or says that it is not known.
            assert_eq!(sample.transaction().map(|flags| flags.0), Some(0));
            assert!(sample.data_src().is_some());
            assert_eq!(
                sample.weight(),
                Some(match weight {
                    SampleType::WEIGHT => Weight::Full(0),
                    _ => Weight::Struct { var1_dw: 0, var2_w: 0, var3_w: 0 },
                })
            );
        }
    }
}

#[test]
fn live_all_fields_at_once_leave_no_byte_over() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let with = |what: SampleType| {
        let mut builder = page_faults(Software::PageFaultsMin).sample_type(what).sample_stack_user(512);
        builder = builder.sample_regs_user(if what.contains(SampleType::REGS_USER) { 0x1ff } else { 0 });
        let attr = builder.attr_mut();
        attr.read_format = ReadFormat::all().bits() & 31;
        attr.sample_regs_intr = if what.contains(SampleType::REGS_INTR) { 0x1f3 } else { 0 };
        if what.contains(SampleType::BRANCH_STACK) {
            attr.branch_sample_type = u64::from(bindings::PERF_SAMPLE_BRANCH_ANY | bindings::PERF_SAMPLE_BRANCH_USER);
        }
        builder
    };
    let mut all = SampleType::empty();
    for bit in
        (0..SampleType::WEIGHT_STRUCT.bits().trailing_zeros() + 1).map(|bit| SampleType::from_bits_retain(1 << bit))
    {
        if with(all | bit).open(Target::CallingThread).is_ok() {
            all |= bit;
        }
    }
    let refused = SampleType::from_bits_retain((1 << 25) - 1).difference(all);
    assert!(
        (SampleType::BRANCH_STACK | SampleType::WEIGHT_STRUCT | SampleType::AUX).contains(refused),
        "{refused:?} is for hardware, or for either weight"
    );
    let mut event = with(all).open(Target::CallingThread).unwrap();
    let mut consumer = event.mmap(64).unwrap();
    let decoder = event.decoder().unwrap();
    let mut pages = Pages::new(16);
    event.enable().unwrap();
    pages.touch(0..16);
    event.disable().unwrap();
    let records = take(&mut consumer);
    let samples = samples(&decoder, &records);
    let mut addresses: Vec<_> = samples.iter().map(|sample| sample.addr().unwrap()).collect();
    addresses.retain(|address| pages.addresses().contains(address));
    assert_eq!(addresses.len(), 16);
    for sample in samples {
        assert_eq!(sample.sample_type(), all);
        assert_eq!(sample.id(), Some(event.id().unwrap()));
        assert_eq!((sample.identifier(), sample.stream_id()), (sample.id(), sample.id()));
        assert_eq!(sample.raw().map(<[u8]>::len), Some(4), "no raw data are padding alone");
        assert_eq!(sample.stack_user().unwrap().data.len(), 512);
        assert_eq!(sample.regs_user().unwrap().iter().count(), 9);
        assert_eq!(sample.regs_intr().unwrap().values().len(), 7);
        assert_eq!(sample.aux().unwrap_or_default(), []);
        // The last of the fields, so what stands before them has the right length.
        assert_eq!(sample.data_page_size(), Some(page_size() as u64));
    }
}

#[test]
fn live_events_in_one_ring_are_told_apart() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        let mut faults = page_faults(Software::PageFaults)
            .sample_type(SampleType::IDENTIFIER | SampleType::ADDR)
            .sample_id_all(true)
            .comm(true)
            .open(Target::CallingThread)
            .unwrap();
        let calls = EventBuilder::tracepoint("syscalls:sys_enter_getppid")
            .unwrap()
            .sample_period(1)
            .sample_type(SampleType::IDENTIFIER | SampleType::TID | SampleType::TIME | SampleType::RAW)
            .sample_id_all(true)
            .disabled(true)
            .open(Target::CallingThread)
            .unwrap();
        let mut consumer = faults.mmap(16).unwrap();
        // SAFETY: both descriptors are open events.
        check(unsafe { perf_event_open_sys::ioctls::SET_OUTPUT(calls.as_raw_fd(), faults.as_raw_fd()) }).unwrap();
        let mut decoder = Decoder::empty(ByteOrder::NATIVE);
        assert_eq!(decoder.push(&faults.record_attr().unwrap(), &[faults.id().unwrap()]), Ok(0));
        assert_eq!(decoder.push(&calls.record_attr().unwrap(), &[calls.id().unwrap()]), Ok(1));
        let mut pages = Pages::new(10);
        faults.enable().unwrap();
        calls.enable().unwrap();
        for page in 0..10 {
            pages.touch(page..page + 1);
            getppid();
        }
        set_name(c"told-apart");
        faults.disable().unwrap();
        calls.disable().unwrap();
        let records = take(&mut consumer);
        let mut order = Vec::new();
        let mut comms = 0;
        for decoded in decode(&decoder, &records) {
            match (&decoded.body, decoded.event()) {
                (Body::Sample(sample), Some(0)) => {
                    let addr = sample.addr().unwrap();
                    order.extend(pages.addresses().contains(&addr).then_some(Some(addr)));
                }
                (Body::Sample(sample), Some(1)) => {
                    assert_eq!(sample.tid().unwrap().tid, gettid());
                    assert!(sample.raw().is_some_and(|raw| !raw.is_empty()));
                    order.push(None);
                }
                (Body::Comm(comm), Some(0)) => {
                    assert_eq!(comm.comm.to_str(), Some("told-apart"));
                    comms += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(order, (0..10).flat_map(|page| [Some(pages.address(page)), None]).collect::<Vec<_>>());
        assert_eq!(comms, 1);
    });
}

fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).unwrap();
}

fn only<'a>(records: &[Decoded<'a>], type_: RecordType) -> Vec<Decoded<'a>> {
    records.iter().filter(|decoded| decoded.header.type_ == type_).copied().collect()
}

/// The code of this binary's libc: a file with a build id.
fn libc_file() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    paths.filter(|path| path.contains("libc.so") || path.contains("/libc-")).map(PathBuf::from).next().expect("libc")
}

/// The build id of an ELF file: the payload of the note of type 3 by "GNU".
fn build_id(file: &Path) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    let note = [4_u32.to_le_bytes(), 20_u32.to_le_bytes(), 3_u32.to_le_bytes(), *b"GNU\0"].concat();
    let at = bytes.windows(note.len()).position(|window| window == note).expect("a build id of 20 bytes");
    bytes[at + note.len()..][..20].to_vec()
}

fn map_code(file: &File, pages: usize) -> Mmap {
    // SAFETY: nobody writes to the file, and the mapping is not used at all.
    unsafe { MmapOptions::new().offset(page_size() as u64).len(pages * page_size()).map_exec(file).unwrap() }
}

#[test]
fn live_mappings_by_name_inode_and_build_id() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let path = libc_file();
    let file = File::open(&path).unwrap();
    let stat = file.metadata().unwrap();
    for kind in 0..3 {
        let mut builder = side_records().exclude_kernel(true).mmap(true).mmap2(kind > 0);
        builder.attr_mut().set_build_id((kind == 2).into());
        let mut event = builder.open(Target::CallingThread).unwrap();
        let mut consumer = event.mmap(8).unwrap();
        let decoder = event.decoder().unwrap();
        event.enable().unwrap();
        let mapping = map_code(&file, 3);
        event.disable().unwrap();
        let records = take(&mut consumer);
        let decoded = decode(&decoder, &records);
        assert_eq!(decoded.len(), 1, "{decoded:?}");
        assert_trailer(&decoded[0], &event);
        let (at, len) = (mapping.as_ptr() as u64, 3 * page_size() as u64);
        let head = (std::process::id(), gettid(), at, len, page_size() as u64, path.to_str());
        match decoded[0].body {
            Body::Mmap(map) if kind == 0 => {
                assert_eq!((map.pid, map.tid, map.addr, map.len, map.pgoff, map.filename.to_str()), head);
            }
            Body::Mmap2(map) if kind > 0 => {
                assert_eq!((map.pid, map.tid, map.addr, map.len, map.pgoff, map.filename.to_str()), head);
                assert_eq!(map.prot, (libc::PROT_READ | libc::PROT_EXEC) as u32);
                assert_eq!(map.flags & libc::MAP_TYPE as u32, libc::MAP_SHARED as u32);
                match map.file {
                    MappedFile::Inode { maj, min, ino, .. } if kind == 1 => {
                        assert_eq!((maj, min), (libc::major(stat.dev()), libc::minor(stat.dev())));
                        assert_eq!(ino, stat.ino());
                    }
                    MappedFile::BuildId(id) if kind == 2 => assert_eq!(id.as_bytes(), build_id(&path)),
                    other => panic!("{other:?}"),
                }
                assert_eq!(decoded[0].header.misc.contains(Misc::MMAP_BUILD_ID), kind == 2);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn live_names_by_prctl_and_by_exec() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = side_records().exclude_kernel(true).comm(true).open(Target::CallingThread).unwrap();
    let mut consumer = event.mmap(8).unwrap();
    let decoder = event.decoder().unwrap();
    event.enable().unwrap();
    set_name(c"a-name-too-long-for-a-task");
    event.disable().unwrap();
    let records = take(&mut consumer);
    let decoded = decode(&decoder, &records);
    assert_eq!(decoded.len(), 1);
    assert_trailer(&decoded[0], &event);
    let Body::Comm(comm) = decoded[0].body else { panic!("{decoded:?}") };
    assert_eq!((comm.pid, comm.tid, comm.comm.to_str()), (std::process::id(), gettid(), Some("a-name-too-long")));
    assert!(!decoded[0].header.misc.contains(Misc::COMM_EXEC));

    let (command, mut event) =
        side_records().exclude_kernel(true).comm(true).comm_exec(true).open_command(Command::new("true")).unwrap();
    let pid = command.pid();
    let mut consumer = event.mmap(8).unwrap();
    let decoder = event.decoder().unwrap();
    assert!(command.start().unwrap().wait().unwrap().success());
    let records = take(&mut consumer);
    let decoded = decode(&decoder, &records);
    let comms = only(&decoded, RecordType::COMM);
    assert_eq!(comms.len(), 1);
    let Body::Comm(comm) = comms[0].body else { panic!("{comms:?}") };
    assert_eq!((comm.pid, comm.tid, comm.comm.to_str()), (pid, pid, Some("true")));
    assert!(comms[0].header.misc.contains(Misc::COMM_EXEC));
    assert_trailer_of(&comms[0], &event, pid, pid);
    // The event is the task's own, so its end is seen as well.
    let exits = only(&decoded, RecordType::EXIT);
    let [Body::Exit(exit)] = exits.iter().map(|exit| exit.body).collect::<Vec<_>>()[..] else { panic!("{exits:?}") };
    assert_eq!((exit.pid, exit.tid), (pid, pid));
}

#[test]
fn live_a_thread_begins_counts_and_ends() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut builder = EventBuilder::software(Software::PageFaults)
        .sample_type(TRAILER | SampleType::READ)
        .sample_id_all(true)
        .clockid(ClockId::Monotonic)
        .exclude_kernel(true)
        .exclude_hv(true)
        .disabled(true)
        .inherit(true)
        .task(true);
    builder.attr_mut().set_inherit_stat(1);
    builder.attr_mut().read_format =
        (ReadFormat::ID | ReadFormat::TOTAL_TIME_ENABLED | ReadFormat::TOTAL_TIME_RUNNING | ReadFormat::LOST).bits();
    // Events of a task without a CPU cannot be mapped when they are inherited.
    let mut events = builder.open_task_on_cpus(gettid()).unwrap();
    let mut consumers: Vec<_> = events.iter_mut().map(|event| event.mmap(8).unwrap()).collect();
    events.iter().for_each(|event| event.enable().unwrap());
    let child = std::thread::spawn(|| {
        Pages::new(50).touch(0..50);
        gettid()
    });
    let child = child.join().unwrap();
    let (pid, parent) = (std::process::id(), gettid());
    let (mut forks, mut exits, mut faults, mut reads) = (0, 0, 0, 0);
    // A thread can be joined before the kernel is done with it.
    wait_for("READ record of each event", || {
        for (event, consumer) in events.iter().zip(&mut consumers) {
            let decoder = event.decoder().unwrap();
            let records = take(consumer);
            for decoded in decode(&decoder, &records) {
                let at = decoded.sample_id();
                assert_eq!((at.id, at.identifier), (Some(event.id().unwrap()), at.id), "{decoded:?}");
                match decoded.body {
                    Body::Fork(task) => {
                        assert_eq!((task.pid, task.tid, task.ppid, task.ptid), (pid, child, pid, parent));
                        // The clock is read for the trailer first.
                        assert!(at.time.unwrap() <= task.time);
                        forks += 1;
                    }
                    Body::Exit(task) => {
                        // At its end a thread's parent is that of the process.
                        let ppid = std::os::unix::process::parent_id();
                        assert_eq!((task.pid, task.tid, task.ppid), (pid, child, ppid));
                        exits += 1;
                    }
                    Body::Read(read) => {
                        assert_eq!((read.pid, read.tid, read.values.len()), (pid, child, 1));
                        let counter = read.values.get_counter(0).unwrap();
                        assert_eq!((counter.id, counter.lost), (at.id, Some(0)));
                        assert!(read.values.time_running() <= read.values.time_enabled());
                        // The id is the parent's, that of the stream is the inherited event's own.
                        assert_ne!(at.stream_id, at.id);
                        faults += counter.value;
                        reads += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        (reads >= 1 && exits >= 1 && faults >= 50).then_some(())
    });
    assert_eq!((forks, exits), (1, 1));
    assert!(reads <= events.len());
}

#[test]
fn live_switches_of_this_thread() {
    if !require_kernel(Need::OwnEvents) {
        return;
    }
    let mut event = side_records().exclude_kernel(true).context_switch(true).open(Target::CallingThread).unwrap();
    let mut consumer = event.mmap(8).unwrap();
    let decoder = event.decoder().unwrap();
    event.enable().unwrap();
    std::thread::sleep(Duration::from_millis(2));
    event.disable().unwrap();
    let records = take(&mut consumer);
    let decoded = decode(&decoder, &records);
    let mut is_out = false;
    for decoded in &decoded {
        assert!(matches!(decoded.body, Body::Switch(_)), "{decoded:?}");
        assert_trailer(decoded, &event);
        assert_ne!(decoded.header.misc.contains(Misc::SWITCH_OUT), is_out, "out and in take turns");
        is_out = !is_out;
    }
    assert!(decoded.len() >= 2 && !is_out, "{decoded:?}");
    let slept = |decoded: &Decoded<'_>| {
        decoded.header.misc.contains(Misc::SWITCH_OUT) && !decoded.header.misc.contains(Misc::SWITCH_OUT_PREEMPT)
    };
    assert!(decoded.iter().any(slept), "a sleep is no preemption");
}

#[test]
fn live_switches_of_a_cpu() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let mut events = side_records().context_switch(true).open_cpus().unwrap();
    let mut consumers: Vec<_> = events.iter_mut().map(|event| event.mmap(64).unwrap()).collect();
    events.iter().for_each(|event| event.enable().unwrap());
    std::thread::sleep(Duration::from_millis(5));
    events.iter().for_each(|event| event.disable().unwrap());
    let (mut outs, mut ins) = (0, 0);
    for (event, consumer) in events.iter().zip(&mut consumers) {
        let decoder = event.decoder().unwrap();
        let records = take(consumer);
        for decoded in decode(&decoder, &records) {
            let at = decoded.sample_id();
            let Body::SwitchCpuWide(switch) = decoded.body else { panic!("{decoded:?}") };
            let Target::Cpu { cpu } = event.target() else { panic!("{event:?}") };
            assert_eq!(at.cpu, Some(cpu));
            let is_out = decoded.header.misc.contains(Misc::SWITCH_OUT);
            let own = at.tid.unwrap().tid;
            assert_ne!(switch.next_prev_tid, own, "{decoded:?}");
            outs += u32::from(is_out && own == gettid());
            ins += u32::from(!is_out && own == gettid());
        }
    }
    assert!(outs >= 1 && ins >= 1, "{outs} and {ins}");
}

/// The namespaces of this thread, as procfs shows them.
fn namespaces() -> Vec<Option<(u64, u64)>> {
    let link = |name: &&str| std::fs::metadata(format!("/proc/thread-self/ns/{name}")).ok();
    Namespaces::NAMES.iter().map(|name| link(name).map(|stat| (stat.dev(), stat.ino()))).collect()
}

#[test]
fn live_namespaces_when_one_is_left() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let mut builder = side_records();
    builder.attr_mut().set_namespaces(1);
    let mut event = builder.open(Target::CallingThread).unwrap();
    let mut consumer = event.mmap(8).unwrap();
    let decoder = event.decoder().unwrap();
    let before = namespaces();
    event.enable().unwrap();
    // SAFETY: takes flags only; the namespace is this thread's, and ends with it.
    check(unsafe { libc::unshare(libc::CLONE_NEWUTS) }).unwrap();
    event.disable().unwrap();
    let after = namespaces();
    assert_ne!(before, after);
    let records = take(&mut consumer);
    let decoded = decode(&decoder, &records);
    let [Body::Namespaces(found)] = decoded.iter().map(|decoded| decoded.body).collect::<Vec<_>>()[..] else {
        panic!("{decoded:?}")
    };
    assert_trailer(&decoded[0], &event);
    assert_eq!((found.pid, found.tid), (std::process::id(), gettid()));
    assert_eq!(found.iter().count(), Namespaces::NAMES.len());
    for ((found, expected), name) in found.iter().zip(after).zip(Namespaces::NAMES) {
        // A kernel without this kind of namespace writes zeros.
        assert_eq!((found.dev, found.inode), expected.unwrap_or_default(), "{name}");
    }
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    len: u32,
    info: u64,
}

/// The start of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    type_: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
}

/// # Safety
/// `T` must be laid out as the kernel's union bpf_attr is for `command`, and the addresses in it must be good.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes size_of::<T>() bytes of `attr`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Loads a program that does nothing.
fn load_program(name: &str) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
    // r0 = 0; exit.
    let program = [0xb7_u64, 0x95];
    let mut attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_SOCKET_FILTER,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        ..ProgLoad::default()
    };
    attr.prog_name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: ProgLoad mirrors the command's part of the union, and points to what outlives the call; the result is a
    // new descriptor.
    unsafe { bpf(BPF_PROG_LOAD, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

fn program_info(program: &OwnedFd) -> ProgInfo {
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
    let mut info = ProgInfo::default();
    let len = size_of::<ProgInfo>() as u32;
    let mut attr = GetInfo { fd: program.as_raw_fd() as u32, len, info: (&raw mut info) as u64 };
    // SAFETY: GetInfo mirrors the command's part of the union, and points to a local of the length that it says.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.unwrap();
    info
}

#[test]
fn live_a_bpf_program_and_its_symbol_come_and_go() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    let mut builder = side_records();
    builder.attr_mut().set_ksymbol(1);
    builder.attr_mut().set_bpf_event(1);
    // The kernel may let the program go on another CPU, and in a task of its own.
    let mut events = builder.open_cpus().unwrap();
    let mut consumers: Vec<_> = events.iter_mut().map(|event| event.mmap(16).unwrap()).collect();
    events.iter().for_each(|event| event.enable().unwrap());
    let name = format!("live_{}", gettid());
    let program = match load_program(&name) {
        Ok(program) => program,
        Err(error) => return skip(format_args!("bpf(2): {error}")),
    };
    let info = program_info(&program);
    drop(program);
    let tag: String = info.tag.iter().map(|byte| format!("{byte:02x}")).collect();
    let symbol = format!("bpf_prog_{tag}_{name}");
    let is_compiled = info.jited_prog_len > 0;
    let (mut events_seen, mut symbols) = (Vec::new(), Vec::new());
    wait_for("unloaded program", || {
        for (event, consumer) in events.iter().zip(&mut consumers) {
            let decoder = event.decoder().unwrap();
            let records = take(consumer);
            for decoded in decode(&decoder, &records) {
                let at = decoded.sample_id();
                assert_eq!(at.identifier, Some(event.id().unwrap()));
                match decoded.body {
                    // Other programs come and go as well, and may have the same code and so the same tag.
                    Body::BpfEvent(found) if found.id == info.id => {
                        assert_eq!((found.tag, found.flags), (info.tag, 0));
                        events_seen.push((at.time.unwrap(), found.type_));
                    }
                    Body::Ksymbol(found) if found.name.to_str() == Some(&symbol) => {
                        assert_eq!(found.ksym_type, 1);
                        // The header of the compiled code counts as well.
                        assert!(found.addr >= 1 << 63 && found.len > 0, "{found:?}");
                        symbols.push((at.time.unwrap(), found.flags, found.addr, found.len));
                    }
                    Body::BpfEvent(_) | Body::Ksymbol(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        (events_seen.len() >= 2 && (!is_compiled || symbols.len() >= 2)).then_some(())
    });
    events_seen.sort_unstable();
    symbols.sort_unstable();
    assert_eq!(events_seen.iter().map(|seen| seen.1).collect::<Vec<_>>(), [1, 2], "loaded, and unloaded");
    if is_compiled {
        assert_eq!(symbols.iter().map(|seen| seen.1).collect::<Vec<_>>(), [0, 1], "registered, and unregistered");
        assert_eq!((symbols[0].2, symbols[0].3), (symbols[1].2, symbols[1].3));
    }
}

/// A hierarchy that perf's cgroups belong to, mounted in a mount namespace of this thread's own.
fn mount_cgroups(at: &Path) -> io::Result<()> {
    // SAFETY: takes flags only; the calling thread gets a mount namespace of its own.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
    // SAFETY: the strings end in NUL; this kind of call ignores the type and the data.
    check(unsafe { libc::mount(none, root, std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) })?;
    let at = std::ffi::CString::new(at.to_str().expect("UTF-8")).expect("no NUL");
    // In a hierarchy of version 1 if it is there already, otherwise in that of version 2, which always has it.
    let first = std::fs::read_to_string("/proc/self/cgroup")?.lines().any(|line| line.contains("perf_event"));
    let (kind, data) = if first { (c"cgroup", c"perf_event".as_ptr()) } else { (c"cgroup2", std::ptr::null()) };
    // SAFETY: the strings end in NUL and outlive the call.
    check(unsafe { libc::mount(none, at.as_ptr(), kind.as_ptr(), 0, data.cast()) })
}

#[test]
fn live_a_new_cgroup_and_the_one_of_a_sample() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    // In a thread that ends with the test, and its mounts with it.
    let test = || {
        let dir = TempDir::new("cgroup");
        if let Err(error) = mount_cgroups(dir.path()) {
            return skip(format_args!("no cgroups: {error}"));
        }
        let name = format!("perfring-live-{}", std::process::id());
        let cgroup = dir.path().join(&name);
        let mut builder =
            page_faults(Software::PageFaults).sample_type(SampleType::CGROUP | SampleType::TIME).sample_id_all(true);
        builder.attr_mut().set_cgroup(1);
        let mut event = builder.open(Target::CallingThread).unwrap();
        let mut consumer = event.mmap(64).unwrap();
        let decoder = event.decoder().unwrap();
        event.enable().unwrap();
        let made = std::fs::create_dir(&cgroup);
        Pages::new(2).touch(0..2);
        event.disable().unwrap();
        let inode = std::fs::metadata(&cgroup).map(|stat| stat.ino());
        let _ = std::fs::remove_dir(&cgroup);
        // SAFETY: the path ends in NUL; nothing uses the mount.
        check(unsafe {
            let path = std::ffi::CString::new(dir.path().to_str().unwrap()).unwrap();
            libc::umount2(path.as_ptr(), libc::MNT_DETACH)
        })
        .unwrap();
        if let Err(error) = made {
            return skip(format_args!("no cgroup can be made: {error}"));
        }
        let records = take(&mut consumer);
        let decoded = decode(&decoder, &records);
        let cgroups = only(&decoded, RecordType::CGROUP);
        let [Body::Cgroup(found)] = cgroups.iter().map(|decoded| decoded.body).collect::<Vec<_>>()[..] else {
            panic!("{cgroups:?}")
        };
        assert_eq!(found.id, inode.unwrap());
        assert!(found.path.to_str().is_some_and(|path| path.starts_with('/') && path.ends_with(&name)), "{found:?}");
        let mut ids = decoded.iter().filter_map(|decoded| match decoded.body {
            Body::Sample(sample) => sample.cgroup(),
            _ => None,
        });
        let own = ids.next().unwrap();
        assert!(own != 0 && own != found.id && ids.all(|id| id == own), "this thread stays where it was");
    };
    in_a_thread(test);
}

/// Runs `test` in a thread with the name of this one, whose namespaces end with it.
fn in_a_thread(test: impl FnOnce() + Send) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let result = std::thread::scope(|scope| {
        std::thread::Builder::new().name(name).spawn_scoped(scope, test).expect("a thread").join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn live_text_pokes_are_plausible_where_there_are_any() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        let mut builder = side_records();
        builder.attr_mut().set_text_poke(1);
        let mut events = builder.open_cpus().unwrap();
        let mut consumers: Vec<_> = events.iter_mut().map(|event| event.mmap(64).unwrap()).collect();
        events.iter().for_each(|event| event.enable().unwrap());
        // A tracepoint that nobody else uses: its static branches are switched on, and off again.
        let tracepoint = EventBuilder::tracepoint("oom:oom_score_adj_update").unwrap().disabled(true);
        drop(tracepoint.open(Target::CallingThread).unwrap());
        // Not every kernel reports that: none have been seen from a 6.18 with jump labels and without kprobes.
        for (event, consumer) in events.iter().zip(&mut consumers) {
            let decoder = event.decoder().unwrap();
            let records = take(consumer);
            for decoded in decode(&decoder, &records) {
                let Body::TextPoke(poke) = decoded.body else { panic!("{decoded:?}") };
                assert!(poke.addr >= 1 << 63, "{poke:?}");
                assert!((1..=16).contains(&poke.new.len()), "{poke:?}");
                assert_eq!(poke.old.len(), poke.new.len());
                assert_ne!(poke.old, poke.new);
            }
        }
    });
}

#[test]
fn live_too_many_samples_are_held_back() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        // Each of these counts as many events as it has nanoseconds, and so makes more samples at once than a tick may.
        let mut event = EventBuilder::tracepoint("sched:sched_stat_runtime")
            .unwrap()
            .sample_period(100)
            .sample_type(TRAILER)
            .sample_id_all(true)
            .disabled(true)
            .open(Target::CallingThread)
            .unwrap();
        let mut consumer = event.mmap(512).unwrap();
        let decoder = event.decoder().unwrap();
        event.enable().unwrap();
        let (mut throttled, mut unthrottled) = (Vec::new(), Vec::new());
        wait_for("THROTTLE and UNTHROTTLE", || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(20) {
                std::hint::spin_loop();
            }
            let records = take(&mut consumer);
            for decoded in decode(&decoder, &records) {
                match decoded.body {
                    Body::Throttle(throttle) => throttled.push(throttle),
                    Body::Unthrottle(throttle) => unthrottled.push(throttle),
                    Body::Sample(_) | Body::Lost(_) => continue,
                    other => panic!("{other:?}"),
                }
                assert_eq!(decoded.sample_id().identifier, Some(event.id().unwrap()));
            }
            (!throttled.is_empty() && !unthrottled.is_empty()).then_some(())
        });
        event.disable().unwrap();
        let id = event.id().unwrap();
        assert!(throttled.iter().chain(&unthrottled).all(|record| (record.id, record.stream_id) == (id, id)));
        assert!(throttled[0].time < unthrottled[0].time);
    });
}

#[test]
fn live_deferred_call_chains_where_the_kernel_has_them() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        let mut builder = EventBuilder::tracepoint("sched:sched_switch")
            .unwrap()
            .sample_period(1)
            .sample_type(SampleType::IP | SampleType::CALLCHAIN | TRAILER)
            .sample_id_all(true)
            .disabled(true);
        builder.attr_mut().set_defer_callchain(1);
        builder.attr_mut().set_defer_output(1);
        let mut event = match builder.open(Target::CallingThread) {
            Ok(event) => event,
            // Linux before 6.19 does not know the flags, and says so.
            Err(error) => return assert!(matches!(error, Error::InvalidAttr { .. }), "{error}"),
        };
        let mut consumer = event.mmap(16).unwrap();
        let decoder = event.decoder().unwrap();
        event.enable().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        getppid();
        event.disable().unwrap();
        let records = take(&mut consumer);
        let (mut cookies, mut deferred) = (Vec::new(), Vec::new());
        for decoded in decode(&decoder, &records) {
            match decoded.body {
                Body::Sample(sample) => {
                    let words: Vec<_> = sample.callchain().unwrap().words().iter().collect();
                    let at = words.iter().position(|word| *word == CallchainContext::USER_DEFERRED.0);
                    cookies.extend(at.and_then(|at| words.get(at + 1)).copied());
                }
                Body::CallchainDeferred(chain) => {
                    assert!(!chain.callchain.is_empty());
                    deferred.push(chain.cookie);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(!deferred.is_empty() && deferred.iter().all(|cookie| cookies.contains(cookie)));
    });
}
