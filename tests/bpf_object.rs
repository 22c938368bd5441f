//! What a compiled BPF program sends, through rings of this crate, decoded.

#![cfg(feature = "kernel")]
#![allow(unsafe_code, reason = "an event is put into a BPF map by bpf(2)")]

mod common;

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use aya::maps::{Array, Map};
use aya::programs::TracePoint;
use common::{Need, require_kernel, skip, with_tracefs};
use perfring::kernel::{EventBuilder, SampleType, Software};
use perfring::record::{Body, Decoder};

const OBJECT: &[u8] = include_bytes!("bpf/output.bpf.o");
const CALLS: u32 = 500;
/// How the record of 48 bytes begins.
const MAGIC: u64 = 0x7065_7266_6e69_6e67;

/// `struct bpf_attr` of `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct MapUpdate {
    map_fd: u64,
    key: u64,
    value: u64,
    flags: u64,
}

/// Has `event` receive what is sent on `cpu`.
fn connect(array: BorrowedFd<'_>, cpu: u32, event: BorrowedFd<'_>) -> std::io::Result<()> {
    const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
    let value = event.as_raw_fd() as u32;
    let mut attr = MapUpdate {
        map_fd: array.as_raw_fd() as u64,
        key: (&raw const cpu) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    // SAFETY: the attr mirrors the command's part of the union, little endian, and key and value are addresses of four
    // bytes each, as the map was created with.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_ELEM, &raw mut attr, size_of::<MapUpdate>()) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..][..4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..][..8].try_into().unwrap())
}

/// Both records of a call, by the number of the call.
fn check_sample(decoder: &Decoder, record: &[u8], cpu: u32, calls: &mut Vec<u32>, odd: &mut Vec<u32>) {
    let decoded = decoder.decode(record).unwrap();
    let Body::Sample(sample) = decoded.body else { panic!("{decoded:?}") };
    assert!(sample.rest().is_empty());
    // SAFETY: gettid has no preconditions.
    let tid = unsafe { libc::gettid() as u32 };
    let pid = std::process::id();
    assert_eq!(sample.tid().map(|at| (at.pid, at.tid)), Some((pid, tid)));
    assert_eq!(sample.cpu(), Some(cpu));
    let raw = sample.raw().unwrap();
    // With the word for the size in front, padded to a multiple of 8, in both cases.
    match raw.len() {
        52 if u64_at(raw, 0) == MAGIC => {
            let call = sample.raw_payload(48).unwrap();
            assert_eq!(call, &raw[..48]);
            assert_eq!(u64_at(call, 8), u64::from(pid) << 32 | u64::from(tid));
            let number = u32_at(call, 16);
            assert_eq!(u32_at(call, 20), cpu);
            let words = [24, 32, 40].map(|at| u64_at(call, at));
            assert_eq!(words, [u64::from(number) * 3, !u64::from(number), 0x0123_4567_89ab_cdef]);
            calls.push(number);
        }
        52 => {
            let payload = sample.raw_payload(45).unwrap();
            let number = calls[calls.len() - 1];
            let expected: Vec<_> = (0..45).map(|byte| (number + byte) as u8).collect();
            assert_eq!(payload, expected);
            odd.push(number);
        }
        len => panic!("{len} bytes"),
    }
}

#[test]
fn a_compiled_program_sends_through_our_rings() {
    if !require_kernel(Need::Privileged) {
        return;
    }
    with_tracefs(|| {
        let mut object = match aya::Ebpf::load(OBJECT) {
            Ok(object) => object,
            Err(error) => return skip(format_args!("bpf(2): {error:?}")),
        };
        let Some(Map::PerfEventArray(array)) = object.take_map("events") else { panic!("no events") };
        let builder = EventBuilder::software(Software::BpfOutput)
            .sample_period(1)
            .sample_type(SampleType::TID | SampleType::TIME | SampleType::CPU | SampleType::RAW);
        let mut events = builder.open_cpus().unwrap();
        let mut rings = Vec::new();
        for event in &mut events {
            let perfring::kernel::Target::Cpu { cpu } = event.target() else { panic!("{event:?}") };
            let consumer = event.mmap(64).unwrap();
            connect(array.fd().as_fd(), cpu, event.as_fd()).unwrap();
            rings.push((cpu, event.decoder().unwrap(), consumer));
        }
        let mut config = Array::<_, u64>::try_from(object.map_mut("config").expect("config")).unwrap();
        // Whose calls count, and how many there were.
        config.set(0, u64::from(std::process::id()), 0).unwrap();
        let program: &mut TracePoint = object.program_mut("on_getppid").expect("the program").try_into().unwrap();
        program.load().unwrap();
        program.attach("syscalls", "sys_enter_getppid").unwrap();
        for _ in 0..CALLS {
            // SAFETY: getppid has no preconditions.
            unsafe { libc::getppid() };
        }
        let (mut calls, mut odd) = (Vec::new(), Vec::new());
        for (cpu, decoder, consumer) in &mut rings {
            consumer
                .for_each(|record| check_sample(decoder, record.bytes(), *cpu, &mut calls, &mut odd))
                .expect("the kernel's records are whole");
        }
        // A CPU's records are in order; this thread may have moved between CPUs.
        assert_eq!(calls, odd, "each call sends both");
        calls.sort_unstable();
        assert_eq!(calls, (0..CALLS).collect::<Vec<_>>());
    });
}
