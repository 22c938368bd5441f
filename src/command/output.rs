//! Where the commands write to, and how they end.

use indicatif::{ProgressBar, ProgressStyle};
use perfring::replay::{Metadata, OpenError, ReadError, Recording, ReplayError};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How a command ended that came to its end.
pub(super) enum Outcome {
    Fine,
    /// All that could be done was done, and yet the input is damaged.
    AtFault(String),
}

/// Why a command did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody reads the output any more.
    #[error("the output was closed")]
    Closed,
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    #[error("{path}: {source}")]
    Open { path: String, source: OpenError },
    #[error("{0}{hint}", hint = hint(.0))]
    Replay(#[from] ReplayError),
    /// The arguments do not go together.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Other(String),
}

/// What would help.
fn hint(error: &ReplayError) -> &'static str {
    match error {
        ReplayError::TooLarge { .. } => "; --ring-pages auto holds any record, and with --free records cross pages",
        _ => "",
    }
}

/// What writing to the standard output says.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Output(error),
        }
    }
}

impl Failure {
    /// That something could not be done with a file.
    pub(super) fn file(doing: &str, path: &Path, error: impl Display) -> Self {
        Self::Other(format!("cannot {doing} {}: {error}", path.display()))
    }
}

/// Opens a recording; `-` is the standard input.
pub(super) fn open(path: &Path) -> Result<Recording, Failure> {
    let failed = |source| Failure::Open { path: path.display().to_string(), source };
    if path.as_os_str() != "-" {
        return Recording::open(path).map_err(failed);
    }
    // A file that is the standard input is as good as one with a name.
    match io::stdin().as_fd().try_clone_to_owned() {
        Ok(input) => Recording::from_file(input.into()).map_err(failed),
        Err(source) => Err(failed(OpenError::Io { what: "read the standard input".to_owned(), source })),
    }
}

/// The standard output, buffered.
pub(super) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Says on the standard error what is wrong with a recording, once each.
#[derive(Default)]
pub(super) struct Complaints {
    warned: usize,
    errors: u64,
    first: Option<String>,
}

impl Complaints {
    /// The warnings that were added since the last time.
    pub(super) fn warnings(&mut self, metadata: &Metadata) {
        for warning in metadata.warnings().get(self.warned..).unwrap_or_default() {
            say!("perfring: warning: {warning}");
        }
        self.warned = metadata.warnings().len();
    }

    /// A defect between records.
    pub(super) fn defect(&mut self, error: &ReadError) {
        self.errors += 1;
        self.first.get_or_insert_with(|| error.to_string());
    }

    /// A record that cannot be decoded.
    pub(super) fn damaged(&mut self, position: u64, error: impl Display) {
        self.errors += 1;
        self.first.get_or_insert_with(|| format!("at {position}: {error}"));
    }

    /// A feature section that cannot be decoded.
    pub(super) fn feature(&mut self, error: &dyn Display) {
        self.errors += 1;
        self.first.get_or_insert_with(|| error.to_string());
    }

    /// What it all comes to.
    pub(super) fn outcome(self, path: &Path) -> Outcome {
        match (self.first, self.errors) {
            (None, _) => Outcome::Fine,
            (Some(first), 1) => Outcome::AtFault(format!("{}: {first}", path.display())),
            (Some(first), errors) => {
                Outcome::AtFault(format!("{}: {first}, and {} defects more", path.display(), errors - 1))
            }
        }
    }
}

/// How far long work has come: shown where the standard error is a terminal that the output does not write on, too.
pub(super) struct Progress {
    bar: ProgressBar,
    calls: u32,
}

impl Progress {
    /// Of a file with so many bytes; of a stream nobody knows.
    pub(super) fn of_file(path: &Path, writes_lines: bool) -> Self {
        let len = std::fs::metadata(path).ok().filter(|file| file.is_file()).map(|file| file.len());
        let bar = match len {
            _ if writes_lines && io::stdout().is_terminal() => ProgressBar::hidden(),
            Some(len) => ProgressBar::new(len),
            None => ProgressBar::no_length(),
        };
        if let Ok(style) = ProgressStyle::with_template("{bytes:>10} {wide_bar} {percent:>3} % {eta:>4}") {
            bar.set_style(style);
        }
        Self { bar, calls: 0 }
    }

    /// Now at this byte.
    #[inline]
    pub(super) fn at(&mut self, position: impl FnOnce() -> u64) {
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(1 << 14) {
            self.bar.set_position(position());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Makes a file, but not of the one that is read.
pub(super) fn create(path: &Path, read: &Path) -> Result<File, Failure> {
    let of = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let read = if read.as_os_str() == "-" { Path::new("/dev/stdin") } else { read };
    // Of a directory, neither itself nor a file in it.
    let is_inside = || read.is_dir() && path.canonicalize().is_ok_and(|path| path.parent().and_then(of) == of(read));
    if of(path).is_some_and(|file| of(read) == Some(file)) || is_inside() {
        return Err(Failure::Other(format!("{} is what is read: choose another file to write", path.display())));
    }
    File::create(path).map_err(|error| Failure::file("create", path, error))
}

/// Makes sure that all of a file is written.
pub(super) fn finish(mut file: impl Write, path: &Path) -> Result<(), Failure> {
    file.flush().map_err(|error| Failure::file("write", path, error))
}
