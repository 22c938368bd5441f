//! `perfring dump`.

use super::output::{Complaints, Failure, Outcome, Progress, open, stdout};
use perfring::record::{Header, RecordType};
use perfring::replay::{Entry, Form, Order, Records};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

/// Print the records of a recording, one a line.
///
/// Records come in the order of their times, as far as can be told within the window; with --unordered, as they stand.
/// Damaged records, and what else is wrong, are reported on the standard error; all that is intact is printed.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A perf.data file, directory or stream (`-`: the standard input), or a ring image.
    file: PathBuf,
    /// Print an object of JSON a line: type, misc, size, and the fields under their uapi names.
    #[arg(long, conflicts_with = "stats")]
    json: bool,
    /// Print how many records there are of each type, and in total.
    #[arg(long)]
    stats: bool,
    /// Print what the recording says of itself: its events, the machine, the command.
    #[arg(long, conflicts_with = "stats")]
    header: bool,
    #[command(flatten)]
    stacks: super::stacks::Arguments,
    /// Print records as they stand in the recording.
    #[arg(long)]
    unordered: bool,
    /// How many MiB of records may wait for older ones.
    #[arg(long, value_name = "MIB", default_value_t = Order::WINDOW >> 20, value_parser = parse_window, conflicts_with = "unordered")]
    window: usize,
}

fn parse_window(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(mib @ 1..=1_048_576) => Ok(mib),
        _ => Err("a number of MiB from 1 to 1048576".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let order = match arguments.unordered || arguments.stats {
        true => Order::Recorded,
        false => Order::Time { window: arguments.window << 20 },
    };
    let records = open(&arguments.file)?.records(order);
    let mut complaints = Complaints::default();
    let mut progress = Progress::of_file(&arguments.file, !arguments.stats);
    let result = match arguments {
        Arguments { stats: true, .. } => stats(records, &mut complaints, &mut progress),
        Arguments { header: true, .. } => super::header::write(&arguments.file, records, &mut complaints),
        Arguments { stacks, .. } if stacks.is_asked_for() => {
            super::stacks::write(stacks, &arguments.file, records, &mut complaints, &mut progress)
        }
        Arguments { json, .. } => lines(records, *json, &mut complaints, &mut progress),
    };
    drop(progress);
    result.map(|()| complaints.outcome(&arguments.file))
}

fn stats(mut records: Records, complaints: &mut Complaints, progress: &mut Progress) -> Result<(), Failure> {
    // Types that are known, and those that are not.
    let mut known = [0_u64; 128];
    let mut others: BTreeMap<RecordType, u64> = BTreeMap::new();
    while let Some(batch) = records.next_batch(512) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                complaints.defect(&error);
                continue;
            }
        };
        for entry in batch.iter() {
            let type_ = entry.type_();
            match known.get_mut(type_.0 as usize) {
                Some(count) => *count += 1,
                // Of a damaged recording there may be any number.
                None if others.len() < 10_000 => *others.entry(type_).or_default() += 1,
                None => *others.entry(RecordType(u32::MAX)).or_default() += 1,
            }
        }
        progress.at(|| batch.iter().next().map_or(0, |entry| entry.position()));
    }
    complaints.warnings(records.metadata());
    let known = known.into_iter().enumerate().map(|(type_, count)| (RecordType(type_ as u32), count));
    let mut total = 0;
    let mut out = stdout();
    for (type_, count) in known.chain(others).filter(|(_, count)| *count > 0) {
        writeln!(out, "{type_} {count}")?;
        total += count;
    }
    writeln!(out, "TOTAL {total}")?;
    Ok(out.flush()?)
}

fn lines(
    mut records: Records,
    json: bool,
    complaints: &mut Complaints,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut out = stdout();
    while let Some(entry) = records.next() {
        match entry {
            Ok(entry) => {
                line(&mut out, &entry, json, complaints)?;
                // Whoever looks at a recording while it is made sees each round.
                if entry.type_() == RecordType::FINISHED_ROUND && entry.metadata().form() == Form::Pipe {
                    out.flush()?;
                }
                progress.at(|| entry.position());
            }
            Err(error) => complaints.defect(&error),
        }
    }
    out.flush()?;
    complaints.warnings(records.metadata());
    let late = records.order_stats().late;
    if late > 0 {
        say!("perfring: warning: {late} records were found when younger ones had been printed");
    }
    Ok(())
}

fn line(out: &mut impl Write, entry: &Entry<'_>, json: bool, complaints: &mut Complaints) -> Result<(), Failure> {
    match entry.decode() {
        Ok(decoded) if json => json_line(out, &decoded)?,
        Ok(decoded) => writeln!(out, "{decoded}")?,
        Err(error) => {
            let header = entry.header();
            if json {
                json_line(out, &Damaged { header, error: error.to_string() })?;
            } else {
                let (type_, misc) = (header.type_, header.misc.bits());
                writeln!(out, "{type_:<16} misc {misc:#06x} damaged: {error}")?;
            }
            complaints.damaged(entry.position(), error);
        }
    }
    Ok(())
}

/// What is known of a record that is damaged.
#[derive(serde::Serialize)]
struct Damaged {
    #[serde(flatten)]
    header: Header,
    error: String,
}

fn json_line(out: &mut impl Write, value: &impl serde::Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
