//! Two producers, and one loop that reads both: probes of this process, which run an eBPF program on the threads that come by, and
//! the kernel, which reports page faults.
//!
//! Needs no privileges. Where the kernel refuses, it says `SKIPPED` and why.

use perfring::bpf::elf::Object;
use perfring::dtrace::Session;
use perfring::record::SampleType;
use perfring::ring::{Consumer, Record};
use std::error::Error;

const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_SAMPLE: u32 = 9;

perfring::probe! {
    /// A thread has done a piece of its work. Disabled, as it is at first, it costs a load and a branch.
    fn work_done(thread: u32, piece: u32) = "quickstart:main:work:done";
}

/// What clang made of examples/dtrace/sample.bpf.c: `on_write`, which any probe may fire, notes which probe it was and hands on to
/// `write_event`, a program of another type. That one reserves 48 bytes of the ring of its CPU, stores field by field, and commits.
const OBJECT: &[u8] = include_bytes!("dtrace/sample.bpf.o");

const THREADS: u32 = 2;
const PIECES: u32 = 60;

fn main() -> Result<(), Box<dyn Error>> {
    probes()?;
    println!();
    kernel()
}

/// Prints what a ring holds. It does not know who wrote it.
fn show(name: &str, consumer: &mut Consumer) -> Result<(), Box<dyn Error>> {
    const LINES: u64 = 4;
    let before = consumer.stats();
    let (mut records, mut lost) = (0, 0);
    println!("{name}: {} KiB", consumer.size() / 1024);
    let mut drain = consumer.drain();
    while let Some(record) = drain.next() {
        let record = record?;
        if record.header().type_ == PERF_RECORD_LOST {
            lost += record.body().last_chunk().map_or(0, |count| u64::from_ne_bytes(*count));
        }
        if records < LINES {
            print(&record);
        }
        records += 1;
    }
    drop(drain);
    if records > LINES {
        println!("  ... {} more", records - LINES);
    }
    println!("  {records} records, {} bytes of padding skipped", consumer.stats().padding - before.padding);
    match consumer.lost_total() {
        Some(total) => println!("  {lost} lost as records say, {total} as the header page says"),
        None => println!("  {lost} lost as records say"),
    }
    Ok(())
}

fn print(record: &Record<'_>) {
    let header = record.header();
    let name = match header.type_ {
        1 => "MMAP",
        PERF_RECORD_LOST => "LOST",
        3 => "COMM",
        4 => "EXIT",
        PERF_RECORD_SAMPLE => "SAMPLE",
        10 => "MMAP2",
        _ => "other",
    };
    let bytes: Vec<_> = record.body().chunks(8).take(4).map(hex).collect();
    println!("  at {:<6} {name:<6} {:>4} bytes: {} ..", record.position(), header.size, bytes.join(" "));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A probe that several threads fire, each into a ring of its own. The programs were proved safe, and run without tests; no record
/// crosses a page, so each is written and read as one slice.
fn probes() -> Result<(), Box<dyn Error>> {
    let object = Object::parse(OBJECT)?;
    let builder = Session::builder().cpus(THREADS as usize).per_thread().pages(4).sample_type(SampleType::TIME);
    let mut session = builder.load(&object)?;
    let program = session.loaded().programs["on_write"].clone();
    assert!(program.is_verified());
    work_done(0, 0); // nobody listens yet
    session.attach(&program, &"quickstart:::done".parse()?)?;
    session.enable()?;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || (0..PIECES).for_each(|piece| work_done(thread, piece)));
        }
    });
    session.close()?;

    for (map, cpu, ring) in session.rings_mut() {
        show(&format!("probes, map {map}, CPU {cpu}, page-confined"), ring)?;
    }
    let stats = session.stats()?;
    println!("{} firings, {} of them dropped", stats.machine.runs, stats.dropped());
    Ok(())
}

/// The page faults of this thread, as the kernel sees them.
#[cfg(feature = "kernel")]
fn kernel() -> Result<(), Box<dyn Error>> {
    use perfring::kernel::{EventBuilder, Software, Target};

    const NAME: &str = "kernel, page faults of this thread";
    let opened = EventBuilder::software(Software::PageFaults)
        .sample_period(1)
        .sample_type(SampleType::IP | SampleType::TID | SampleType::TIME | SampleType::ADDR)
        .exclude_kernel(true)
        .exclude_hv(true)
        .disabled(true)
        .open(Target::CallingThread)
        .and_then(|mut event| Ok((event.mmap(8)?, event)));
    let (mut consumer, event) = match opened {
        Ok(opened) => opened,
        Err(error) if error.is_refusal() => {
            println!("{NAME}\n  SKIPPED: {error}");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    event.enable()?;
    let mut touched = vec![0u8; 1 << 20];
    for page in touched.chunks_mut(4096) {
        page[0] = std::hint::black_box(1);
    }
    event.disable()?;
    show(NAME, &mut consumer)
}

#[cfg(not(feature = "kernel"))]
fn kernel() -> Result<(), Box<dyn Error>> {
    println!("kernel\n  SKIPPED: built without the feature `kernel`");
    Ok(())
}
