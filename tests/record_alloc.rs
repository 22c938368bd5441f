//! Decoding allocates nothing: not for a sample, not for any other record, not when a field is asked for. Nor does writing
//! records into a recording, or as JSON.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use perfring::record::{Body, Decoder};

#[path = "../benches/support/samples.rs"]
#[allow(dead_code, reason = "the bench adds up what it reads")]
mod samples;

thread_local! {
    /// Of this thread only: the test harness has others.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: all calls go to the system's allocator as they are; the counter is a plain cell of a thread, without a
// destructor, so that it never allocates and is there as long as the thread is.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| drop(black_box(vec![0_u8; 100]))), 1, "zeroed memory comes through alloc, too");
}

/// Decodes all records of `bytes`, and touches everything that a caller can ask for.
fn read(decoder: &Decoder, bytes: &[u8]) -> usize {
    let mut records = 0;
    let mut rest = bytes;
    while let [_, _, _, _, _, _, low, high, ..] = rest {
        let (record, behind) = rest.split_at(usize::from(u16::from_ne_bytes([*low, *high])));
        let decoded = decoder.decode(record).expect("a sound record");
        black_box((decoded.sample_id(), decoded.time(), decoded.event(), decoded.rest(), decoder.time(record)));
        match decoded.body {
            Body::Sample(sample) => {
                black_box(sample.fields());
                if let Some(read) = sample.read() {
                    black_box(read.iter().fold(0, |sum, counter| sum ^ counter.value));
                }
                if let Some(chain) = sample.callchain() {
                    black_box(chain.ips().fold(0, |sum, (_, ip)| sum ^ ip));
                    black_box(chain.words().as_slice());
                }
                if let Some(regs) = sample.regs_user() {
                    black_box(regs.iter().fold(0, |sum, (_, value)| sum ^ value));
                }
                black_box((sample.raw(), sample.raw_payload(48), sample.stack_user(), sample.rest()));
            }
            Body::Mmap2(mmap) => {
                black_box(mmap.filename.to_str());
            }
            Body::Comm(comm) => {
                black_box(comm.comm.as_bytes());
            }
            other => panic!("{other:?}"),
        }
        records += 1;
        rest = behind;
    }
    records
}

#[test]
fn decoding_and_reading_every_field_allocates_nothing() {
    let mut streams = samples::all(50);
    streams.push(samples::samples("all of them", samples::STACK | samples::TRACEPOINT | samples::GROUP, 50));
    for stream in streams {
        let (decoder, bytes) = (Decoder::new(&stream.attr).expect("a layout"), stream.bytes());
        let mut records = 0;
        let count = allocations(|| records = read(&decoder, &bytes));
        assert_eq!((records, count), (stream.records, 0), "{}: records, allocations", stream.name);
    }
}

#[cfg(all(feature = "serde", feature = "cli"))]
#[test]
fn writing_json_allocates_nothing() {
    use perfring::record::Arch;
    use serde::Serialize as _;

    let mut streams = samples::all(5);
    streams.push(samples::samples("all of them", samples::STACK | samples::TRACEPOINT | samples::GROUP, 5));
    for stream in streams {
        let (mut decoder, bytes) = (Decoder::new(&stream.attr).expect("a layout"), stream.bytes());
        decoder.set_arch(Some(Arch::X86_64));
        let mut json = vec![0; 16 * bytes.len()];
        let mut left = 0;
        let count = allocations(|| {
            let (mut out, mut rest) = (&mut json[..], &bytes[..]);
            while let [_, _, _, _, _, _, low, high, ..] = rest {
                let (record, behind) = rest.split_at(usize::from(u16::from_ne_bytes([*low, *high])));
                let decoded = decoder.decode(record).expect("a sound record");
                decoded.serialize(&mut serde_json::Serializer::new(&mut out)).expect("it is long enough");
                rest = behind;
            }
            left = out.len();
        });
        json.truncate(json.len() - left);
        let objects = serde_json::Deserializer::from_slice(&json).into_iter::<serde_json::Value>();
        assert_eq!((objects.flatten().count(), count), (stream.records, 0), "{}: records, allocations", stream.name);
    }
}

#[test]
fn refusing_a_record_allocates_nothing() {
    let stream = samples::samples("typical", samples::TYPICAL, 1);
    let (decoder, bytes) = (Decoder::new(&stream.attr).expect("a layout"), stream.bytes());
    let count = allocations(|| {
        for len in 0..bytes.len() {
            assert!(decoder.decode(&bytes[..len]).is_err());
        }
    });
    assert_eq!(count, 0);
}

#[cfg(feature = "zstd")]
#[test]
fn writing_records_allocates_nothing() {
    use perfring::record::Attr;
    use perfring::replay::perf_data::{WriteOptions, Writer};

    let record: [u8; 16] = std::array::from_fn(|at| [9, 0, 0, 0, 0, 0, 16, 0].get(at).copied().unwrap_or(7));
    let span = record.repeat(20_000);
    for options in [WriteOptions::default(), WriteOptions::default().zstd(1)] {
        let mut writer = Writer::pipe(std::io::sink(), options).expect("a writer");
        writer.event(&Attr::default(), &[1], "an event").expect("an event");
        writer.start().expect("a start");
        let allocated = allocations(|| {
            for _ in 0..100 {
                writer.record(&record).expect("a record");
                writer.span(&span[..32], &[]).expect("a small span");
                writer.span(&span[..span.len() - 24], &span[..24]).expect("a large one");
                writer.round().expect("a round");
                writer.sync_header().expect("a header");
            }
        });
        assert_eq!(allocated, 0);
        assert_eq!(writer.finish().expect("an end").lost, 0);
    }
}
