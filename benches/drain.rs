//! A kernel ring of 20,000 records of 40 bytes, emptied by several readers; filling it is not measured.
//!
//! First a table: the readers in turn, ns a record, and each one's ratio to the minimal loop in the same turn. Then
//! criterion's figures, where a time is that of a whole drain.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group};

#[path = "support/bpf.rs"]
mod bpf;
#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/drains.rs"]
mod drains;
#[path = "support/feed.rs"]
mod feed;
#[path = "support/mode.rs"]
mod mode;

use drains::{Drain, Setup};
use feed::{Kind, RECORDS};

/// The first one is what the others are compared with.
const READERS: &[Setup] = &[drains::MINIMAL, drains::OURS, drains::LIBBPF, drains::AYA, drains::PERF_EVENT2];

struct Reader {
    name: &'static str,
    drain: Box<dyn Drain>,
}

/// The readers that can run here, how their rings are filled, and the names and reasons of those that cannot.
struct Field {
    kind: Kind,
    readers: Vec<Reader>,
    skipped: Vec<(&'static str, String)>,
}

fn field() -> Result<Field, String> {
    let cpu = cpu::allowed()[0] as u32;
    // A BPF program's records go to the ring of the CPU that it runs on.
    cpu::pin(cpu as usize).map_err(|error| error.to_string())?;
    let mut reasons = Vec::new();
    for kind in [Kind::Bpf, Kind::Faults] {
        let (name, setup) = READERS[0];
        match setup(kind, cpu) {
            Err(reason) => reasons.push(format!("{kind:?}: {reason}")),
            Ok(drain) => {
                let mut field = Field { kind, readers: vec![Reader { name, drain }], skipped: Vec::new() };
                for &(name, setup) in &READERS[1..] {
                    match setup(kind, cpu) {
                        Ok(drain) => field.readers.push(Reader { name, drain }),
                        Err(reason) => field.skipped.push((name, reason)),
                    }
                }
                return Ok(field);
            }
        }
    }
    Err(reasons.join("; "))
}

/// One fill and one drain; the time of the drain.
fn turn(reader: &mut Reader, kind: Kind) -> Duration {
    reader.drain.fill().expect("a filled ring");
    let start = Instant::now();
    let seen = black_box(reader.drain.drain());
    let elapsed = start.elapsed();
    assert!(seen.is_fill(kind), "{} saw {seen:?}", reader.name);
    elapsed
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table(field: &mut Field) {
    let turns = if mode::is_trial() { 1 } else { 101 };
    let mut times = vec![Vec::new(); field.readers.len()];
    for round in 0..turns + turns / 10 {
        for (reader, times) in field.readers.iter_mut().zip(&mut times) {
            let elapsed = turn(reader, field.kind);
            // The first tenth warms up.
            if round >= turns / 10 {
                times.push(elapsed.as_nanos() as f64 / RECORDS as f64);
            }
        }
    }
    println!("{turns} turns, filled by {:?}\n", field.kind);
    println!("| reader | ns/record median | min | max | ratio to the minimal loop, median |");
    println!("|---|---|---|---|---|");
    for (reader, of_reader) in field.readers.iter().zip(&times) {
        let mut ratios: Vec<f64> = of_reader.iter().zip(&times[0]).map(|(a, b)| a / b).collect();
        let mut sorted = of_reader.clone();
        let middle = median(&mut sorted);
        println!(
            "| {} | {middle:.2} | {:.2} | {:.2} | **{:.2}** |",
            reader.name,
            sorted[0],
            sorted[sorted.len() - 1],
            median(&mut ratios),
        );
    }
    println!();
    for (name, reason) in &field.skipped {
        println!("SKIPPED: {name}: {reason}");
    }
}

fn criterion_figures(c: &mut Criterion, field: &mut Field) {
    let mut group = c.benchmark_group("drain");
    group.throughput(Throughput::Elements(RECORDS));
    // A fill takes many times as long as the drain that is measured.
    group.sample_size(31).warm_up_time(Duration::from_millis(20)).measurement_time(Duration::from_millis(200));
    let kind = field.kind;
    for reader in &mut field.readers {
        group.bench_function(reader.name, |bencher| {
            bencher.iter_custom(|drains| (0..drains).map(|_| turn(reader, kind)).sum());
        });
    }
    group.finish();
}

fn drain(c: &mut Criterion) {
    match field() {
        Err(reason) => println!("SKIPPED: drain: no kernel ring can be had here: {reason}"),
        Ok(mut field) => {
            table(&mut field);
            criterion_figures(c, &mut field);
        }
    }
}

criterion_group!(benches, drain);
criterion::criterion_main!(benches);
