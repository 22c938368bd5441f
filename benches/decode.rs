//! Records in memory, decoded: every field of the layout is read, and the call chain added up.
//!
//! First a table: the decoders in turn, ns a record, and each one's ratio to linux-perf-event-reader in the same turn.
//! Then whole recordings of 200 MB and more, sorted by time. Then criterion's figures for the typical sample. All decoders have to come to the same sum; one that does not, or
//! that refuses a record, is left out and named.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group};

#[path = "support/decoders.rs"]
mod decoders;
#[path = "support/files.rs"]
mod files;
#[path = "support/mode.rs"]
mod mode;
#[path = "support/recordings.rs"]
mod recordings;
#[path = "support/samples.rs"]
mod samples;

use decoders::{Contender, Headers, Ours, PerfEventData, Reader};
use samples::Stream;

/// So few that they stay in the second level cache, but for the stacks.
const RECORDS: usize = 500;

type Decode = Box<dyn Fn(&[u8]) -> Result<u64, String>>;

/// A decoder of one layout.
struct Entry {
    name: &'static str,
    decode: Decode,
}

fn entry<C: Contender + 'static, const FIELDS: u64>(stream: &Stream) -> Entry {
    let contender = C::new(&stream.attr);
    Entry { name: C::NAME, decode: Box::new(move |records| contender.sum::<FIELDS>(records)) }
}

/// The floor, this crate, and the others: the first is not asked for the sum, the second is the sum that counts.
fn entries<const FIELDS: u64>(stream: &Stream) -> Vec<Entry> {
    vec![
        entry::<Headers, FIELDS>(stream),
        entry::<Ours, FIELDS>(stream),
        entry::<Reader, FIELDS>(stream),
        entry::<PerfEventData, FIELDS>(stream),
    ]
}

fn entries_of(stream: &Stream) -> Vec<Entry> {
    match stream.attr.sample_type.bits() {
        samples::SMALL => entries::<{ samples::SMALL }>(stream),
        samples::TYPICAL => entries::<{ samples::TYPICAL }>(stream),
        samples::TRACEPOINT => entries::<{ samples::TRACEPOINT }>(stream),
        samples::STACK => entries::<{ samples::STACK }>(stream),
        samples::GROUP => entries::<{ samples::GROUP }>(stream),
        _ => entries::<{ samples::SIDE }>(stream),
    }
}

/// The decoders that come to the right sum, and the names of the others with what is wrong.
fn sound(stream: &Stream) -> (Vec<Entry>, Vec<(&'static str, String)>) {
    let bytes = stream.bytes();
    let (mut sound, mut wrong) = (Vec::new(), Vec::new());
    let mut expected = None;
    for entry in entries_of(stream) {
        match (entry.decode)(&bytes) {
            Ok(_) if entry.name == Headers::NAME => sound.push(entry),
            Ok(sum) if *expected.get_or_insert(sum) == sum => sound.push(entry),
            Ok(_) => wrong.push((entry.name, "it decodes other values".into())),
            Err(error) => wrong.push((entry.name, error)),
        }
    }
    assert!(sound.iter().any(|entry| entry.name == Ours::NAME), "{}: {wrong:?}", stream.name);
    (sound, wrong)
}

fn turn(entry: &Entry, words: &[u64]) -> Duration {
    let bytes = zerocopy::IntoBytes::as_bytes(black_box(words));
    let start = Instant::now();
    let sum = (entry.decode)(bytes);
    let elapsed = start.elapsed();
    black_box(sum).expect("it was decoded before");
    elapsed
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table() {
    let turns = if mode::is_trial() { 1 } else { 1001 };
    println!("{turns} turns of {RECORDS} records\n");
    println!("| records | bytes | decoder | ns/record median | min | ratio to {}, median |", Reader::NAME);
    println!("|---|---|---|---|---|---|");
    let mut notes = Vec::new();
    for stream in samples::all(RECORDS) {
        let (entries, wrong) = sound(&stream);
        let mut times = vec![Vec::new(); entries.len()];
        for round in 0..turns + turns / 10 {
            for (entry, times) in entries.iter().zip(&mut times) {
                let elapsed = turn(entry, &stream.words);
                // The first tenth warms up.
                if round >= turns / 10 {
                    times.push(elapsed.as_nanos() as f64 / stream.records as f64);
                }
            }
        }
        let reference = entries.iter().position(|entry| entry.name == Reader::NAME).map(|at| times[at].clone());
        for (entry, times) in entries.iter().zip(&mut times) {
            let ratio = match &reference {
                Some(reference) => {
                    let mut ratios: Vec<f64> = times.iter().zip(reference).map(|(one, other)| one / other).collect();
                    format!("**{:.3}**", median(&mut ratios))
                }
                None => "-".into(),
            };
            let middle = median(times);
            println!(
                "| {} | {} | {} | {middle:.2} | {:.2} | {ratio} |",
                stream.name,
                stream.words.len() * 8 / stream.records,
                entry.name,
                times[0],
            );
        }
        notes.extend(wrong.into_iter().map(|(name, reason)| format!("{name} cannot do {}: {reason}", stream.name)));
    }
    println!();
    notes.iter().for_each(|note| println!("LEFT OUT: {note}"));
}

fn decode(c: &mut Criterion) {
    table();
    files::table(mode::is_trial());
    files::compressed(mode::is_trial());
    let stream = samples::samples("typical", samples::TYPICAL, RECORDS);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(stream.records as u64));
    group.sample_size(31).warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(500));
    for entry in sound(&stream).0 {
        group.bench_function(entry.name, |bencher| bencher.iter(|| turn(&entry, &stream.words)));
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion::criterion_main!(benches);
