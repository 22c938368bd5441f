//! Whole recordings: every record in the order of time, every field of the samples read and added up.

use std::fs::File;
use std::hint::black_box;
use std::io::{Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use linux_perf_data::{PerfFileReader, PerfFileRecord};
use linux_perf_event_reader::EventRecord;
use perfring::record::{Body, RecordType, Sample};
use perfring::replay::{Entry, Order, Recording};

use crate::recordings::Shape;

/// A sum over the samples of a recording, the same for everybody who reads them rightly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    samples: u64,
    fields: u64,
    /// Times in their order: whoever delivers in another order comes to something else.
    order: u64,
}

impl Sum {
    #[inline]
    fn add(&mut self, value: u64) {
        self.fields = self.fields.wrapping_add(value);
    }

    #[inline]
    fn at(&mut self, time: u64) {
        self.samples += 1;
        self.order = self.order.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(time);
        self.add(time);
    }
}

/// Who reads a recording.
pub struct Reader {
    pub name: &'static str,
    /// Reads it, and gives the sum if it comes to one.
    read: Box<Whole>,
}

type Whole = dyn Fn(&Path, &[u8]) -> Result<Option<Sum>, String>;

/// What they are compared with.
pub const REFERENCE: &str = "linux-perf-data, from memory";

fn reader(name: &'static str, read: impl Fn(&Path, &[u8]) -> Result<Option<Sum>, String> + 'static) -> Reader {
    Reader { name, read: Box::new(read) }
}

pub fn readers(shape: Shape) -> Vec<Reader> {
    vec![
        reader("header walk, from memory", |_, bytes| Ok(Some(walk(bytes)).filter(|_| false))),
        reader("header walk, from the file", |path, _| walk_file(path).map(|_| None)),
        reader("perfring, types counted, from the file", |path, _| count(path).map(|_| None)),
        reader("perfring, from the file", |path, _| ours(path).map(Some)),
        reader("perfring, from the file, two threads", move |path, _| ours_by_two(path, shape).map(|_| None)),
        reader(REFERENCE, |_, bytes| theirs(bytes).map(Some)),
        reader("perf report --stats", |path, _| perf(path).map(|()| None)),
    ]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The headers of the data section.
fn walk(bytes: &[u8]) -> Sum {
    let word =
        |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_ne_bytes(*word));
    let (start, size) = (word(40) as usize, word(48) as usize);
    let mut rest = bytes.get(start..start + size).unwrap_or_default();
    let mut sum = Sum::default();
    while let Some(header) = rest.first_chunk::<8>() {
        let size = usize::from(u16::from_ne_bytes([header[6], header[7]])).max(8);
        sum.samples += u64::from(header[0] == 9);
        rest = rest.get(size..).unwrap_or_default();
    }
    black_box(sum)
}

/// The same, with a buffer that stays in the cache.
fn walk_file(path: &Path) -> Result<u64, String> {
    let file = File::open(path).map_err(text)?;
    let mut buffer = vec![0; 256 << 10];
    file.read_exact_at(&mut buffer[..104], 0).map_err(text)?;
    let word = |at: usize| u64::from_ne_bytes(*buffer[at..].first_chunk().unwrap_or(&[0; 8]));
    let (mut at, end) = (word(40), word(40) + word(48));
    let (mut filled, mut counts) = (0, [0_u64; 128]);
    while at < end {
        let most = (buffer.len() - filled).min((end - at) as usize);
        let read = file.read_at(&mut buffer[filled..filled + most], at).map_err(text)?;
        if read == 0 {
            break;
        }
        at += read as u64;
        filled += read;
        let mut done = 0;
        while let Some(header) = buffer[done..filled].first_chunk::<8>() {
            let size = usize::from(u16::from_ne_bytes([header[6], header[7]])).max(8);
            if filled - done < size {
                break;
            }
            counts[usize::from(header[0]) % 128] += 1;
            done += size;
        }
        buffer.copy_within(done..filled, 0);
        filled -= done;
    }
    Ok(black_box(counts)[9])
}

/// What `perfring dump --stats` does.
fn count(path: &Path) -> Result<u64, String> {
    let mut records = Recording::open(path).map_err(text)?.records(Order::Recorded);
    let mut counts = [0_u64; 128];
    while let Some(batch) = records.next_batch(512) {
        for entry in batch.map_err(text)?.iter() {
            if let Some(count) = counts.get_mut(entry.type_().0 as usize) {
                *count += 1;
            }
        }
    }
    Ok(black_box(counts)[9])
}

#[inline]
fn add_sample(sum: &mut Sum, sample: &Sample<'_>) {
    sum.at(sample.time().unwrap_or(0));
    sum.add(sample.ip().unwrap_or(0));
    let tid = sample.tid().unwrap_or_default();
    sum.add(u64::from(tid.pid));
    sum.add(u64::from(tid.tid));
    sum.add(u64::from(sample.cpu().unwrap_or(0)));
    sum.add(sample.period().unwrap_or(0));
    if let Some(chain) = sample.callchain() {
        sum.add(chain.words().iter().fold(0, u64::wrapping_add));
    }
    if let Some(raw) = sample.raw() {
        sum.add(raw.len() as u64);
        sum.add(raw.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word)));
    }
    if let Some(regs) = sample.regs_user() {
        sum.add(regs.get(7).unwrap_or(0));
        sum.add(regs.get(8).unwrap_or(0));
    }
    if let Some(stack) = sample.stack_user() {
        sum.add(stack.dyn_size);
        sum.add(stack.data.len().min(stack.dyn_size as usize) as u64);
    }
}

#[inline]
fn add(sum: &mut Sum, entry: &Entry<'_>) -> Result<(), String> {
    let decoded = entry.decode().map_err(text)?;
    match &decoded.body {
        Body::Sample(sample) => add_sample(sum, sample),
        other => {
            black_box(other);
        }
    }
    Ok(())
}

fn ours(path: &Path) -> Result<Sum, String> {
    let mut records = Recording::open(path).map_err(text)?.records(Order::default());
    let mut sum = Sum::default();
    while let Some(entry) = records.next() {
        add(&mut sum, &entry.map_err(text)?)?;
    }
    Ok(sum)
}

/// Each batch in two halves, each of which comes to a sum of its own.
fn ours_by_two(path: &Path, shape: Shape) -> Result<[Sum; 2], String> {
    let mut records = Recording::open(path).map_err(text)?.records(Order::default());
    let mut sums = [Sum::default(); 2];
    // As much as the caches hold, so far as a count can say it.
    let at_once = match shape {
        Shape::Stacks => 256,
        _ => 1 << 13,
    };
    while let Some(batch) = records.next_batch(at_once) {
        let batch = batch.map_err(text)?;
        let half = batch.len() / 2;
        let [older, younger] = &mut sums;
        let add_all = |sum: &mut Sum, range: std::ops::Range<usize>| {
            range.filter_map(|number| batch.get(number)).try_for_each(|entry| add(sum, &entry))
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| add_all(older, 0..half));
            let own = add_all(younger, half..batch.len());
            other.join().unwrap_or_else(|_| Err("a thread".to_owned())).and(own)
        })?;
    }
    Ok(sums)
}

fn theirs(bytes: &[u8]) -> Result<Sum, String> {
    let PerfFileReader { mut record_iter, mut perf_file } =
        PerfFileReader::parse_file(Cursor::new(bytes)).map_err(text)?;
    let mut sum = Sum::default();
    while let Some(record) = record_iter.next_record(&mut perf_file).map_err(text)? {
        let PerfFileRecord::EventRecord { record, .. } = record else { continue };
        match record.parse().map_err(text)? {
            EventRecord::Sample(sample) => {
                sum.at(sample.timestamp.unwrap_or(0));
                sum.add(sample.ip.unwrap_or(0));
                sum.add(u64::from(sample.pid.unwrap_or(0) as u32));
                sum.add(u64::from(sample.tid.unwrap_or(0) as u32));
                sum.add(u64::from(sample.cpu.unwrap_or(0)));
                sum.add(sample.period.unwrap_or(0));
                if let Some(chain) = sample.callchain {
                    sum.add((0..chain.len()).filter_map(|index| chain.get(index)).fold(0, u64::wrapping_add));
                }
                if let Some(raw) = sample.raw {
                    sum.add(raw.len() as u64);
                    let bytes = raw.as_slice();
                    sum.add(bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word)));
                }
                if let Some(regs) = sample.user_regs {
                    sum.add(regs.get(7).unwrap_or(0));
                    sum.add(regs.get(8).unwrap_or(0));
                }
                if let Some((stack, dyn_size)) = sample.user_stack {
                    sum.add(dyn_size);
                    sum.add(stack.len().min(dyn_size as usize) as u64);
                }
            }
            other => {
                black_box(other);
            }
        }
    }
    Ok(sum)
}

fn perf(path: &Path) -> Result<(), String> {
    let out = Command::new("perf")
        .args(["report", "--stats", "-i"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("perf: {error}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    match text.contains("SAMPLE events:") {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Reads each recording by everybody in turns, and prints a table.
pub fn table(is_trial: bool) {
    let turns = if is_trial { 1 } else { 9 };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    println!("\nWhole recordings, sorted by time, all fields read; medians of {turns} turns\n");
    println!("| recording | reader | ms | MB/s | M records/s | ratio of time to {REFERENCE} |");
    println!("|---|---|---|---|---|---|");
    let mut notes = Vec::new();
    for shape in Shape::ALL {
        let path = dir.path().join(shape.name());
        let size = if is_trial { 1 << 20 } else { shape.size() };
        let summary = shape.create(size, &path).expect("a recording");
        let mut bytes = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("the recording");
        let expected = ours(&path).expect("our own");
        assert_eq!(expected.samples, summary.count(RecordType::SAMPLE), "{}", shape.name());
        let halves = ours_by_two(&path, shape).expect("our own");
        assert_eq!(halves[0].fields.wrapping_add(halves[1].fields), expected.fields, "{}", shape.name());

        let mut sound = Vec::new();
        for reader in readers(shape) {
            match (reader.read)(&path, &bytes) {
                Ok(None) => sound.push(reader),
                Ok(Some(sum)) if sum == expected => sound.push(reader),
                Ok(Some(sum)) => {
                    notes.push(format!("{} reads {} wrongly: {sum:?}, not {expected:?}", reader.name, shape.name()))
                }
                Err(error) => notes.push(format!("{} does not read {}: {error}", reader.name, shape.name())),
            }
        }
        let mut times = vec![Vec::new(); sound.len()];
        for _ in 0..turns {
            for (reader, times) in sound.iter().zip(&mut times) {
                let start = Instant::now();
                let sum = (reader.read)(&path, &bytes);
                let elapsed: Duration = start.elapsed();
                black_box(sum).expect("it was read before");
                times.push(elapsed.as_secs_f64());
            }
        }
        let reference = sound.iter().position(|reader| reader.name == REFERENCE).map(|at| times[at].clone());
        for (reader, times) in sound.iter().zip(&mut times) {
            let ratio = match &reference {
                Some(reference) => {
                    let mut ratios: Vec<f64> = times.iter().zip(reference).map(|(one, other)| one / other).collect();
                    format!("**{:.3}**", median(&mut ratios))
                }
                None => "-".to_owned(),
            };
            let middle = median(times);
            println!(
                "| {} | {} | {:.1} | {:.0} | {:.1} | {ratio} |",
                shape.name(),
                reader.name,
                middle * 1e3,
                bytes.len() as f64 / 1e6 / middle,
                summary.records() as f64 / 1e6 / middle,
            );
        }
        std::fs::remove_file(&path).expect("our own file");
    }
    println!();
    notes.iter().for_each(|note| println!("LEFT OUT: {note}"));
}

/// Bytes that a compressed recording is made of: so many that the caches do not hold them.
const COMPRESSED: u64 = 64 << 20;

/// The pieces of the zstd stream of a recording, one behind the other.
fn pieces(path: &Path) -> Vec<u8> {
    let mut records = Recording::open(path).expect("a recording").records(Order::Recorded);
    let mut pieces = Vec::new();
    while let Some(entry) = records.next() {
        let entry = entry.expect("a sound recording");
        if entry.type_() == RecordType::COMPRESSED {
            pieces.extend_from_slice(&entry.bytes()[8..]);
        }
    }
    pieces
}

/// The library alone, into a buffer that stays in the cache.
fn inflate(pieces: &[u8]) -> u64 {
    use zstd::stream::raw::{Decoder, Operation};
    let mut decoder = Decoder::new().expect("a decoder");
    let mut buffer = vec![0; 256 << 10];
    let (mut at, mut total) = (0, 0);
    loop {
        let status = decoder.run_on_buffers(&pieces[at..], &mut buffer).expect("a sound stream");
        at += status.bytes_read;
        total += status.bytes_written as u64;
        if status.bytes_written == 0 && at == pieces.len() {
            return total;
        }
    }
}

/// The library alone, flushed where the writer flushes, too.
fn deflate(bytes: &[u8], level: u8) -> u64 {
    use zstd::stream::raw::{Encoder, Operation, OutBuffer};
    let mut encoder = Encoder::new(level.into()).expect("an encoder");
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    for piece in bytes.chunks(SPAN) {
        let mut at = 0;
        while at < piece.len() {
            let status = encoder.run_on_buffers(&piece[at..], &mut buffer).expect("room");
            at += status.bytes_read;
            total += status.bytes_written as u64;
        }
        loop {
            let mut out = OutBuffer::around(&mut buffer[..]);
            let left = encoder.flush(&mut out).expect("room");
            total += out.pos() as u64;
            if left == 0 {
                break;
            }
        }
    }
    total
}

/// What a recorder takes out of a ring at once, about.
const SPAN: usize = 63 << 10;

/// Reading and writing compressed recordings, beside the library alone.
pub fn compressed(is_trial: bool) {
    use perfring::replay::perf_data::{WriteOptions, Writer};
    let turns = if is_trial { 1 } else { 9 };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    println!("\nCompressed recordings; medians of {turns} turns\n");
    println!("| recording | level | what | zstd alone, ms | perfring, ms | ratio |");
    println!("|---|---|---|---|---|---|");
    for shape in [Shape::Chains, Shape::Tracepoints] {
        let path = dir.path().join(shape.name());
        shape.create(if is_trial { 1 << 20 } else { COMPRESSED }, &path).expect("a recording");
        let recording = Recording::open(&path).expect("a recording");
        let events = recording.metadata().events().to_vec();
        let mut bytes = Vec::new();
        recording.records(Order::Recorded).for_each(|entry| {
            let entry = entry.expect("a sound recording");
            if entry.type_().is_kernel() {
                bytes.extend_from_slice(entry.bytes());
            }
        });
        for level in [1, 3] {
            let to = dir.path().join("compressed");
            let write = || {
                let file = File::create(&to).expect("a file");
                let mut writer = Writer::file(file, WriteOptions::default().zstd(level)).expect("a writer");
                for event in &events {
                    writer.event(&event.attr, &event.ids, "event").expect("an event");
                }
                bytes.chunks(SPAN).for_each(|span| writer.span(span, &[]).expect("a span"));
                writer.finish().expect("a file");
            };
            write();
            let pieces = pieces(&to);
            assert_eq!(inflate(&pieces), bytes.len() as u64);
            let mut times = [const { Vec::new() }; 4];
            for _ in 0..turns {
                let timed = |times: &mut Vec<f64>, run: &dyn Fn()| {
                    let start = Instant::now();
                    run();
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                };
                timed(&mut times[0], &|| {
                    black_box(inflate(&pieces));
                });
                timed(&mut times[1], &|| {
                    black_box(count(&to)).expect("it was read before");
                });
                timed(&mut times[2], &|| {
                    black_box(deflate(&bytes, level));
                });
                timed(&mut times[3], &write);
            }
            for (what, own, alone) in [("read", 1, 0), ("written", 3, 2)] {
                let mut ratios: Vec<f64> =
                    times[own].iter().zip(&times[alone]).map(|(own, alone)| own / alone).collect();
                let ratio = median(&mut ratios);
                let [alone, own] = [alone, own].map(|at| median(&mut times[at].clone()));
                println!("| {} | {level} | {what} | {alone:.1} | {own:.1} | **{ratio:.2}** |", shape.name());
            }
        }
        std::fs::remove_file(&path).expect("our own file");
    }
    println!();
}
