//! `perfring replay`.

use super::output::{Complaints, Failure, Outcome, Progress, open, stdout};
use perfring::replay::{Metadata, Order, Replay, ReplayError, Shape, Step, original};
use perfring::ring::{self, Consumer};
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

/// Push a recording through a ring, and print what the consumer sees.
///
/// The kernel's records go through the ring, in the order of their times, paced as they were recorded or as fast as they
/// can; what perf adds goes beside it. When the ring is full, the replay waits for the consumer: nothing is lost. What the
/// consumer prints was decoded by what the ring says of itself. How much it was is said on the standard error.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A perf.data file, directory or stream (`-`: the standard input), or a ring image.
    file: PathBuf,
    /// Replay so many times as fast as it was recorded; without this, as fast as possible.
    #[arg(long, value_name = "X", value_parser = parse_speed)]
    speed: Option<f64>,
    /// Pages of the ring, a power of two; `auto`: enough for the largest record that there can be.
    #[arg(long, value_name = "N", default_value = "auto")]
    ring_pages: Pages,
    /// Bytes that no record crosses a multiple of: a power of two from the page size to 65536.
    #[arg(long, value_name = "BYTES", conflicts_with = "free")]
    granule: Option<usize>,
    /// Let records cross pages, and wrap at the end of the ring, as the kernel's do.
    #[arg(long)]
    free: bool,
    /// Replay records as they stand in the recording.
    #[arg(long, conflicts_with = "speed")]
    unordered: bool,
    /// Print nothing but the summary.
    #[arg(short, long)]
    quiet: bool,
    /// Write an image of a ring that holds all records, instead of replaying.
    #[arg(long, value_name = "RING", conflicts_with_all = ["speed", "quiet"])]
    image: Option<PathBuf>,
    /// Write a perf.data file that holds all records, instead of replaying: of a ring image, say, or of a stream.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["speed", "quiet", "image", "free", "granule"])]
    data: Option<PathBuf>,
    /// Compress that file with zstd, at this level from 1 to 22.
    #[arg(short = 'z', value_name = "LEVEL", requires = "data", num_args = 0..=1, require_equals = true, default_missing_value = "1", value_parser = clap::value_parser!(u8).range(1..=22))]
    level: Option<u8>,
}

/// How many pages.
#[derive(Clone, Copy)]
enum Pages {
    Auto,
    Number(usize),
}

impl FromStr for Pages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<usize>() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(pages) if pages.is_power_of_two() && pages <= 1 << 30 => Ok(Self::Number(pages)),
            _ => Err("a power of two, or auto".to_owned()),
        }
    }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("a number greater than 0".to_owned()),
    }
}

impl Arguments {
    fn shape(&self) -> Shape {
        let shape = match self.ring_pages {
            Pages::Auto => Shape::auto(),
            Pages::Number(pages) => Shape::confined(pages),
        };
        let shape = if self.free { shape.unconfined() } else { shape };
        match self.granule {
            Some(granule) => shape.granule(granule),
            None => shape,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let order = if arguments.unordered { Order::Recorded } else { Order::default() };
    let recording = open(&arguments.file)?;
    if let Some(data) = &arguments.data {
        return super::image::write_data(recording, order, arguments.level, &arguments.file, data);
    }
    let records = recording.records(order);
    if let Some(image) = &arguments.image {
        return super::image::write(records, arguments.shape(), &arguments.file, image);
    }
    let (mut replay, ring) = Replay::start(records, arguments.shape(), ring::Builder::private, |_| {})?;
    if let Some(speed) = arguments.speed {
        replay = replay.speed(speed);
    }
    let mut consumer = ring.consumer().map_err(|error| Failure::Other(error.to_string()))?;
    let mut seen = Seen::new(&consumer, arguments.quiet);
    let mut complaints = Complaints::default();
    let mut progress = Progress::of_file(&arguments.file, !arguments.quiet);
    loop {
        // Few enough that what was written is still in the cache when it is read.
        let step = match replay.step(1024) {
            Ok(step) => step,
            Err(ReplayError::Read(error)) => {
                complaints.defect(&error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        seen.drain(&mut consumer, &mut complaints)?;
        progress.at(|| replay.records().current().map_or(0, |entry| entry.position()));
        match step {
            Step::Done => break,
            Step::NotDue(wait) => {
                seen.out.flush()?;
                std::thread::sleep(wait);
            }
            _ => {}
        }
    }
    drop(progress);
    seen.out.flush()?;
    complaints.warnings(replay.records().metadata());
    let stats = replay.stats();
    say!(
        "{} records, {} bytes, through a ring of {} bytes, full {} times; {} records beside it, {} lost",
        stats.records,
        stats.bytes,
        consumer.size(),
        stats.full,
        stats.beside,
        consumer.lost_total().unwrap_or(0),
    );
    if seen.records != stats.records {
        return Ok(Outcome::AtFault(format!("{} records were written, and {} read", stats.records, seen.records)));
    }
    Ok(complaints.outcome(&arguments.file))
}

/// What the consumer sees.
struct Seen {
    out: std::io::BufWriter<std::io::StdoutLock<'static>>,
    /// What the ring says of itself.
    ring: Option<Metadata>,
    is_quiet: bool,
    records: u64,
    bytes: Vec<u8>,
}

impl Seen {
    fn new(consumer: &Consumer, is_quiet: bool) -> Self {
        let ring = consumer.description().map(Metadata::of_ring);
        Self { out: stdout(), ring, is_quiet, records: 0, bytes: Vec::new() }
    }

    fn drain(&mut self, consumer: &mut Consumer, complaints: &mut Complaints) -> Result<(), Failure> {
        let mut drain = consumer.drain();
        while let Some(record) = drain.next() {
            let record = record.map_err(|error| Failure::Other(error.to_string()))?;
            self.records += 1;
            let Some(ring) = self.ring.as_ref().filter(|_| !self.is_quiet) else { continue };
            original(&record, ring.order(), &mut self.bytes);
            match ring.decoder().decode(&self.bytes) {
                Ok(decoded) => writeln!(self.out, "{decoded}")?,
                Err(error) => {
                    complaints.damaged(record.position(), error);
                    writeln!(self.out, "{:<16} damaged: {error}", error.type_)?;
                }
            }
        }
        Ok(())
    }
}
