//! Flame graphs.

use inferno::flamegraph::{Options, from_lines};
use std::io::{self, BufWriter, Write};
use thiserror::Error;

/// Why there is no picture.
#[derive(Debug, Error)]
pub enum PictureError {
    /// Nothing was counted.
    #[error("there is no sample to draw")]
    Empty,
    /// The lines take more than [`Lines::MAX`] bytes.
    #[error("there are too many different stacks to draw: write them as lines")]
    TooLarge,
    /// It cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Draws lines of stacks and their counts, which are in the order of their bytes.
///
/// # Errors
///
/// [`PictureError::Io`] for those of writing.
pub fn flamegraph<'a>(
    lines: impl Iterator<Item = &'a str>,
    title: &str,
    count_name: &str,
    out: &mut impl Write,
) -> Result<(), PictureError> {
    let mut options = Options::default();
    // Characters that XML has no place for.
    options.title = title.replace(char::is_control, " ");
    options.count_name = count_name.to_owned();
    // The same stacks make the same picture.
    options.deterministic = true;
    options.no_sort = true;
    let mut out = BufWriter::new(out);
    from_lines(&mut options, lines, &mut out)?;
    Ok(out.flush()?)
}

/// Lines in memory, but not without end.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Most bytes.
    const MAX: usize = 1 << 29;

    /// The lines.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > Self::MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
