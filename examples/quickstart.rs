//! One loop that reads two rings: one that this program writes itself, and one that the kernel writes about it.
//!
//! Needs no privileges. Where the kernel refuses, it says `SKIPPED` and why.

use perfring::ring::{BeginError, Consumer, Producer, Record, Ring};
use std::error::Error;

const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_SAMPLE: u32 = 9;

fn main() -> Result<(), Box<dyn Error>> {
    user_space()?;
    println!();
    kernel()
}

/// Prints what a ring holds. It does not know who wrote it.
fn show(name: &str, consumer: &mut Consumer) -> Result<(), Box<dyn Error>> {
    const LINES: u64 = 12;
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

/// A ring in this process. No record in it crosses a page, so each is written and read as one slice.
fn user_space() -> Result<(), Box<dyn Error>> {
    let ring = Ring::confined(4).private()?;
    let (producer, mut consumer) = (ring.producer()?, ring.consumer()?);
    // Two of these fit into a page, and behind them there is a gap. The last four find the ring full.
    for i in 0..12 {
        match write(&producer, i, 1400) {
            Ok(()) | Err(BeginError::Full { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    show("user space, page-confined", &mut consumer)?;
    // Now there is room, and the ring says what was lost before.
    for i in 12..15 {
        write(&producer, i, 40)?;
    }
    show("user space, again", &mut consumer)
}

/// Writes a `PERF_RECORD_SAMPLE` that holds `RAW`: a u32 size, and that many bytes.
fn write(producer: &Producer, number: u32, payload: usize) -> Result<(), BeginError> {
    let size = (8 + 4 + payload).next_multiple_of(8);
    let mut record = producer.begin_forward_in_page(size)?;
    let body = record.body_mut();
    let raw = (body.len() - 4) as u32;
    body[..4].copy_from_slice(&raw.to_ne_bytes());
    body[4..].fill(number as u8);
    record.commit(PERF_RECORD_SAMPLE, 0);
    Ok(())
}

/// The page faults of this thread, as the kernel sees them.
#[cfg(feature = "kernel")]
fn kernel() -> Result<(), Box<dyn Error>> {
    use perfring::kernel::{EventBuilder, SampleType, Software, Target};

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
