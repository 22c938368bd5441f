//! One loop that reads two rings: one that an eBPF program writes, run here by the interpreter, and one that the kernel writes.
//!
//! Needs no privileges. Where the kernel refuses, it says `SKIPPED` and why.

use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef};
use perfring::bpf::program_type::{ContextLayout, Field, Pointer};
use perfring::bpf::{Context, Event, HelperId, Helpers, Machine, Program, ProgramType};
use perfring::record::SampleType;
use perfring::ring::{Consumer, Record, Ring};
use std::error::Error;

const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_SAMPLE: u32 = 9;

fn main() -> Result<(), Box<dyn Error>> {
    interpreter()?;
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

/// Reserves a record of the size that the context says in the ring of this CPU, fills it in place with the number that the
/// context says, and commits it. Returns 0, or why there was no record.
const PROGRAM: &str = "
    r6 = r1
    r2 = 8                      ; the buffer: its start is at offset 8 of the context
    r3 = map[idx:0] ll
    r4 = *(u32 *)(r6 +4)        ; size
    call bpf_buffer_reserve
    if r0 != 0 goto out
    r1 = *(u64 *)(r6 +8)        ; where the record's data start
    r2 = *(u64 *)(r6 +16)       ; and end
    r3 = *(u32 *)(r6 +0)        ; number
next:
    r4 = r1
    r4 += 4
    if r4 > r2 goto done
    *(u32 *)(r1 +0) = r3
    r1 = r4
    goto next
done:
    r1 = r6
    r2 = 8
    r3 = map[idx:0] ll
    call bpf_buffer_commit
out:
    exit
";

/// A program that is run here, and stores straight into a ring. No record in it crosses a page, so each is written and read
/// as one slice.
fn interpreter() -> Result<(), Box<dyn Error>> {
    let ring = Ring::confined(4).private()?;
    let mut consumer = ring.consumer()?;
    let machine = Machine::new(1);
    let events = Map::new(&MapDef::perf_event_array("events", 1), machine.cpus())?;
    let attr = Event::bpf_output_attr(SampleType::empty());
    machine.set_event(&events, 0, 0, Event::new(ring.producer()?, &attr, 0)?)?;

    let fields = [
        Field::read_only("number", 0, 4, 1),
        Field::read_only("size", 4, 4, 1),
        Field::pointer("buf", 8, 8, Pointer::Buffer(8)),
        Field::pointer("buf_end", 16, 8, Pointer::BufferEnd(8)),
    ];
    let helpers = [HelperId::BUFFER_RESERVE, HelperId::BUFFER_COMMIT];
    let probe = ProgramType::builder("probe", ContextLayout::fields(24, fields)?).helpers(helpers).build();
    let insns = assemble_with(PROGRAM, &|name| Helpers::standard().number(name).map(|id| id.0))?;
    let program = Program::builder("quickstart", &probe).maps([events]).load(insns)?;
    let fire = |number: u32, size: u32| {
        let mut context = [0; 24];
        context[..4].copy_from_slice(&number.to_ne_bytes());
        context[4..8].copy_from_slice(&size.to_ne_bytes());
        machine.run(&program, Context::new(&mut context))
    };

    // Two of these fit into a page, and behind them there is a gap. The last four find the ring full.
    for number in 0..12 {
        fire(number, 1400)?;
    }
    show("interpreter, page-confined", &mut consumer)?;
    // Now there is room, and the ring says what was lost before.
    for number in 12..15 {
        fire(number, 40)?;
    }
    show("interpreter, again", &mut consumer)
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
