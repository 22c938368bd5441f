//! The stacks of a recording's samples: as lines, and as a flame graph.

use super::folded::{Folded, Options, Weight};
use super::output::{Complaints, Failure, Progress, create, finish, stdout};
use perfring::record::{AttrFlags, Decoded};
use perfring::replay::symbolize::{self, Symbolizer};
use perfring::replay::{AddressSpaces, Metadata, Records};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What becomes of stacks.
#[derive(clap::Args)]
#[group(id = "stacks")]
pub(super) struct Arguments {
    /// Print the stacks of samples instead of records, one a line: the thread and the functions from the outermost, and how
    /// often it was seen. Symbols are looked up in the files that were mapped, if these are still the recorded ones.
    #[arg(long, conflicts_with_all = ["json", "stats", "header", "unordered"])]
    folded: bool,
    /// Draw the stacks of samples as a flame graph.
    #[arg(long, value_name = "SVG", conflicts_with_all = ["json", "stats", "header", "unordered"])]
    flamegraph: Option<PathBuf>,
    /// Let each sample count for the events that it stands for, instead of one.
    #[arg(long)]
    period: bool,
    /// Mark functions of the kernel by `_[k]`.
    #[arg(long)]
    annotate_kernel: bool,
    /// Look for the files that were mapped below this directory.
    #[arg(long, value_name = "DIR")]
    symfs: Option<PathBuf>,
}

impl Arguments {
    /// Whether stacks are asked for.
    pub(super) fn is_asked_for(&self) -> bool {
        self.folded || self.flamegraph.is_some()
    }
}

/// Counts the stacks, and writes what is asked for.
pub(super) fn write(
    arguments: &Arguments,
    path: &Path,
    mut records: Records,
    complaints: &mut Complaints,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let weight = if arguments.period { Weight::Period } else { Weight::Samples };
    let mut folded = Folded::new(Options { weight, annotate_kernel: arguments.annotate_kernel });
    let mut spaces = AddressSpaces::new();
    let mut symbolizer = None;
    while let Some(entry) = records.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                complaints.defect(&error);
                continue;
            }
        };
        progress.at(|| entry.position());
        match entry.decode() {
            Ok(decoded) => {
                spaces.observe(&decoded);
                let symbolizer = match &mut symbolizer {
                    Some(symbolizer) => symbolizer,
                    // A stream says what it knows before its first sample.
                    None => symbolizer.insert(start(arguments, path, entry.metadata())?),
                };
                folded.sample(&spaces, symbolizer, &decoded, period(&decoded, entry.metadata()));
            }
            Err(error) => complaints.damaged(entry.position(), error),
        }
    }
    complaints.warnings(records.metadata());
    if let Some(symbolizer) = &symbolizer {
        symbolizer.warnings().iter().for_each(|warning| say!("perfring: warning: {warning}"));
    }
    if folded.left_out() > 0 {
        say!("perfring: warning: {} samples were left out: there are too many different stacks", folded.left_out());
    }
    if folded.total() == 0 {
        say!("perfring: warning: there is no sample");
    }
    if let Some(svg) = &arguments.flamegraph {
        let mut file = BufWriter::new(create(svg, path)?);
        let title = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        folded.write_svg(&title, &mut file).map_err(|error| Failure::file("draw", svg, error))?;
        finish(file, svg)?;
    }
    if arguments.folded {
        let mut out = stdout();
        folded.write_folded(&mut out)?;
        out.flush()?;
    }
    Ok(())
}

fn start(arguments: &Arguments, path: &Path, metadata: &Metadata) -> Result<Symbolizer, Failure> {
    let options = symbolize::Options::of(metadata).map_err(|error| Failure::file("read", path, error))?;
    Ok(Symbolizer::new(symbolize::Options { sysroot: arguments.symfs.clone(), symbol_tables_only: false, ..options }))
}

/// What a sample stands for that does not say it.
fn period(decoded: &Decoded<'_>, metadata: &Metadata) -> u64 {
    match decoded.event().and_then(|event| metadata.events().get(event)) {
        Some(event) if !event.attr.flags.contains(AttrFlags::FREQ) => event.attr.sample_period.max(1),
        _ => 1,
    }
}
