//! Where a recording is written to, and what is done when that fails.

use crate::record::{ByteOrder, Header};
use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// Bytes that are gathered before they are written.
const BUFFER: usize = 64 << 10;
/// What is larger is not copied into the buffer, but written at once.
const SMALL: usize = 4 << 10;

/// A write that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) source: io::Error,
    /// Bytes that were to be written and are not there.
    pub(super) lost: u64,
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self { source, lost: 0 }
    }
}

enum Sink<'w> {
    File(File),
    Pipe(Box<dyn Write + Send + 'w>),
}

/// A sequence of bytes that ends with a whole record, whatever happens: what a failed write leaves of one is cut off.
pub(super) struct Output<'w> {
    sink: Sink<'w>,
    order: ByteOrder,
    buffer: Vec<u8>,
    /// Bytes that were written.
    position: u64,
    /// Where something begins that is of use only as a whole, and that is not whole yet.
    open: Option<u64>,
    /// Bytes that failed writes have lost.
    lost: u64,
}

impl<'w> Output<'w> {
    /// Empties the file.
    pub(super) fn file(mut file: File, order: ByteOrder) -> io::Result<Self> {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self::new(Sink::File(file), order))
    }

    pub(super) fn pipe(pipe: impl Write + Send + 'w, order: ByteOrder) -> Self {
        Self::new(Sink::Pipe(Box::new(pipe)), order)
    }

    fn new(sink: Sink<'w>, order: ByteOrder) -> Self {
        let buffer = Vec::with_capacity(BUFFER);
        Self { sink, order, buffer, position: 0, open: None, lost: 0 }
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.sink, Sink::File(_))
    }

    /// Where the last whole record that was written ends.
    pub(super) fn end(&self) -> u64 {
        self.open.unwrap_or(self.position)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// What follows is of use only as a whole, up to [`close`](Self::close).
    pub(super) fn open(&mut self) -> Result<(), Failure> {
        self.flush()?;
        self.open = Some(self.position);
        Ok(())
    }

    pub(super) fn close(&mut self) -> Result<(), Failure> {
        self.flush()?;
        self.open = None;
        Ok(())
    }

    /// Writes whole records, or parts of what is open: two pieces of them, one behind the other.
    pub(super) fn put(&mut self, first: &[u8], second: &[u8]) -> Result<(), Failure> {
        let len = first.len().saturating_add(second.len());
        if len <= SMALL && len <= BUFFER - self.buffer.len().min(BUFFER) {
            self.buffer.extend_from_slice(first);
            self.buffer.extend_from_slice(second);
            return Ok(());
        }
        self.write(first, second)
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        if self.buffer.is_empty() { Ok(()) } else { self.write(&[], &[]) }
    }

    /// As [`flush`](Self::flush), and whoever reads a pipe sees it.
    pub(super) fn hand_on(&mut self) -> Result<(), Failure> {
        self.flush()?;
        match &mut self.sink {
            Sink::File(_) => Ok(()),
            Sink::Pipe(pipe) => pipe.flush().map_err(|source| source.into()),
        }
    }

    /// Writes over what stands at the start of a file. The position stays.
    pub(super) fn overwrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match &self.sink {
            Sink::File(file) => file.write_all_at(bytes, at),
            Sink::Pipe(_) => Ok(()),
        }
    }

    fn write(&mut self, first: &[u8], second: &[u8]) -> Result<(), Failure> {
        let pieces = [&self.buffer[..], first, second];
        let total = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let (written, result) = match &mut self.sink {
            Sink::File(file) => write_all(file, pieces),
            Sink::Pipe(pipe) => write_all(pipe, pieces),
        };
        let Err(source) = result else {
            self.position = self.position.saturating_add(total);
            self.buffer.clear();
            return Ok(());
        };
        let before = self.position;
        self.position = match self.open {
            Some(start) => start,
            None => before.saturating_add(whole_records(pieces, written, self.order)),
        };
        let lost = before.saturating_add(total).saturating_sub(self.position);
        self.lost = self.lost.saturating_add(lost);
        self.open = None;
        self.buffer.clear();
        if let Sink::File(file) = &mut self.sink {
            // Where that is not possible the header leaves the rest out.
            let _ = file.set_len(self.position);
            if let Err(error) = file.seek(SeekFrom::Start(self.position)) {
                return Err(Failure { source: error, lost });
            }
        }
        Err(Failure { source, lost })
    }
}

/// Writes all pieces, if possible at once; gives how many bytes were written, also of those of a failure.
fn write_all(to: &mut impl Write, pieces: [&[u8]; 3]) -> (u64, io::Result<()>) {
    let mut slices = pieces.map(IoSlice::new);
    let mut rest = &mut slices[..];
    let mut written = 0;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match to.write_vectored(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(len) => {
                written += len as u64;
                IoSlice::advance_slices(&mut rest, len);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// How many of the first `written` bytes are whole records.
#[cold]
fn whole_records(pieces: [&[u8]; 3], written: u64, order: ByteOrder) -> u64 {
    let mut bytes = pieces.into_iter().flatten();
    let mut whole = 0_u64;
    loop {
        let mut header = [0; Header::SIZE];
        for byte in &mut header {
            match bytes.next() {
                Some(next) => *byte = *next,
                None => return whole,
            }
        }
        let size = Header::from_bytes(&header, order).map_or(0, |header| usize::from(header.size));
        let end = whole.saturating_add(size as u64);
        if size < Header::SIZE || end > written {
            return whole;
        }
        whole = end;
        if size > Header::SIZE {
            bytes.nth(size - Header::SIZE - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(size: u16) -> Vec<u8> {
        let mut bytes = vec![0xff; size.into()];
        bytes[..4].copy_from_slice(&9_u32.to_le_bytes());
        bytes[6..8].copy_from_slice(&size.to_le_bytes());
        bytes
    }

    #[test]
    fn whole_records_are_those_that_end_before_what_was_written() {
        let all = [record(16), record(8), record(24)].concat();
        // A header that straddles two pieces.
        for cut in 0..=all.len() {
            let (first, second) = all.split_at(cut);
            for written in 0..=all.len() as u64 {
                let expected = [48, 24, 16, 0].into_iter().find(|end| *end <= written).unwrap();
                assert_eq!(whole_records([first, &[], second], written, ByteOrder::Little), expected);
            }
        }
        assert_eq!(whole_records([&record(16), &[0; 8], &[]], 24, ByteOrder::Little), 16, "a size of 0");
    }

    /// Takes some bytes at a time, is interrupted, and then full.
    struct Narrow(Vec<u8>, usize, bool);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.2 = !self.2;
            if self.2 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let len = bytes.len().min(5).min(self.1 - self.0.len());
            if len == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn short_writes_go_on_and_failures_say_what_is_lost() {
        let mut narrow = Narrow(Vec::new(), 8200, false);
        let mut output = Output::pipe(&mut narrow, ByteOrder::Little);
        output.put(&record(40), &[]).unwrap();
        let large = record(8160);
        output.put(&large[..3], &large[3..]).unwrap();
        output.put(&record(40), &[]).unwrap();
        let failure = output.flush().unwrap_err();
        assert_eq!((failure.source.kind(), failure.lost), (io::ErrorKind::StorageFull, 40));
        assert_eq!((output.end(), output.lost()), (8200, 40));
        drop(output);
        assert_eq!(narrow.0, [record(40), large].concat());
    }
}
