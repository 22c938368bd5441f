//! Where the bytes of a recording come from.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes that can be read at any place, without a mapping of them: a file that gets shorter meanwhile is an error, not a
/// signal.
pub trait ReadAt: Send + Sync {
    /// Reads into the start of `into` what stands at `offset`, and gives how much it was; 0 at the end.
    ///
    /// # Errors
    ///
    /// Those of pread(2).
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Bytes there are.
    ///
    /// # Errors
    ///
    /// Those of fstat(2).
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(into, offset)
    }

    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }
}

/// Reads all of `into`, or gives how much there was.
pub(crate) fn read_full_at(source: &dyn ReadAt, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        let Some(at) = offset.checked_add(done as u64) else { break };
        match source.read_at(&mut into[done..], at) {
            Ok(0) => break,
            // More than there is room for would be a lie.
            Ok(read) => done += read.min(into.len() - done),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Bytes one after the other.
pub(crate) enum Input {
    /// A part of a file.
    At {
        source: Arc<dyn ReadAt>,
        next: u64,
        end: u64,
    },
    Stream {
        source: Box<dyn Read + Send>,
        next: u64,
    },
}

impl Input {
    /// How far was read.
    pub(crate) fn next(&self) -> u64 {
        match self {
            Self::At { next, .. } | Self::Stream { next, .. } => *next,
        }
    }

    /// What is missing where the bytes end: those up to the end that was announced.
    pub(crate) fn missing(&self) -> u64 {
        match self {
            Self::At { next, end, .. } => end.saturating_sub(*next),
            Self::Stream { .. } => 0,
        }
    }

    /// Reads at least a byte, unless there is none any more.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::At { source, next, end } => {
                    let left = usize::try_from(end.saturating_sub(*next)).unwrap_or(usize::MAX);
                    let len = left.min(into.len());
                    source.read_at(&mut into[..len], *next)
                }
                Self::Stream { source, .. } => source.read(into),
            };
            match result {
                Ok(read) => {
                    let read = read.min(into.len());
                    let (Self::At { next, .. } | Self::Stream { next, .. }) = self;
                    *next = next.saturating_add(read as u64);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Steps over bytes, and gives how many there were.
    pub(crate) fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        match self {
            Self::At { source, next, end } => {
                let there = (*end).min(source.size()?);
                let skipped = bytes.min(there.saturating_sub(*next));
                *next += skipped;
                Ok(skipped)
            }
            Self::Stream { source, next } => {
                let skipped = io::copy(&mut source.take(bytes), &mut io::sink())?;
                *next = next.saturating_add(skipped);
                Ok(skipped)
            }
        }
    }
}
