//! From bytes to whole records.

use crate::record::bytes::int_at;
use crate::record::{ByteOrder, Header, RecordType};
use crate::replay::chunks::{CHUNK, Chunks, Place};
use crate::replay::error::ReadError;
#[cfg(feature = "zstd")]
use crate::replay::inflate::Inflater;
use crate::replay::input::Input;
use std::io;
use std::ops::Range;

/// A whole record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) size: u16,
    pub(crate) type_: RecordType,
}

/// Bytes of which records are found, one behind the other.
#[derive(Default)]
struct Window {
    chunk: Option<u32>,
    at: usize,
}

enum Parsed {
    Whole(Found),
    /// There are fewer bytes than these.
    Needs(usize),
    /// A size that cannot be.
    Damaged(u16),
}

impl Window {
    #[inline]
    fn parse(&self, chunks: &Chunks, order: ByteOrder) -> Parsed {
        let Some(chunk) = self.chunk else { return Parsed::Needs(Header::SIZE) };
        let rest = chunks.filled(chunk).get(self.at..).unwrap_or_default();
        let Some(Header { type_, size, .. }) = Header::from_bytes(rest, order) else {
            return Parsed::Needs(Header::SIZE);
        };
        if usize::from(size) < Header::SIZE {
            return Parsed::Damaged(size);
        }
        if rest.len() < usize::from(size) {
            return Parsed::Needs(size.into());
        }
        Parsed::Whole(Found { place: Place { chunk, start: self.at as u32 }, size, type_ })
    }

    fn give_back(&mut self, chunks: &mut Chunks) {
        if let Some(chunk) = self.chunk.take() {
            chunks.release(chunk);
        }
        self.at = 0;
    }

    /// Bytes that are no record yet.
    fn left(&self, chunks: &Chunks) -> usize {
        self.chunk.map_or(0, |chunk| chunks.filled(chunk).len().saturating_sub(self.at))
    }

    /// Makes room for `needed` bytes from the first on that is no record yet, and gives the chunk.
    fn make_room(&mut self, chunks: &mut Chunks, needed: usize) -> u32 {
        let chunk = match self.chunk {
            None => chunks.take(),
            Some(chunk) if self.at + needed > CHUNK => {
                let next = chunks.carry(chunk, self.at);
                chunks.release(chunk);
                self.at = 0;
                next
            }
            Some(chunk) => chunk,
        };
        self.chunk = Some(chunk);
        chunk
    }

    /// Where the next record is, or would be.
    fn position(&self, chunks: &Chunks) -> Option<u64> {
        self.chunk.map(|chunk| chunks.position(Place { chunk, start: self.at as u32 }))
    }
}

/// Finds the records of a file's data, or of a stream, those that were compressed among them.
pub(crate) struct Scanner {
    input: Input,
    order: ByteOrder,
    window: Window,
    /// Bytes behind the last record that belong to it.
    payload: u64,
    compressed: Compressed,
    /// Whether the end may lie inside a record.
    is_unfinished: bool,
    /// Where such a record begins, and how many bytes of it there are.
    partial: Option<(u64, u64)>,
    has_ended: bool,
}

/// Records inside of records.
#[derive(Default)]
struct Compressed {
    #[cfg(feature = "zstd")]
    inflater: Option<Inflater>,
    window: Window,
    /// What is being decompressed.
    piece: Option<Piece>,
    is_broken: bool,
}

/// Compressed bytes: where they are, and where the record that holds them stands in the recording.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "zstd"), allow(dead_code, reason = "nothing is decompressed"))]
struct Piece {
    chunk: u32,
    start: usize,
    end: usize,
    position: u64,
}

impl Piece {
    /// Where a piece is that its record has no room for.
    const NONE: Range<usize> = CHUNK..2 * CHUNK;
}

impl Scanner {
    pub(crate) fn new(input: Input, order: ByteOrder, is_unfinished: bool) -> Self {
        Self {
            input,
            order,
            window: Window::default(),
            payload: 0,
            compressed: Compressed::default(),
            is_unfinished,
            partial: None,
            has_ended: false,
        }
    }

    /// What an unfinished recording ends with: where a record begins that is not whole, and how many bytes of it there are.
    pub(crate) fn take_partial(&mut self) -> Option<(u64, u64)> {
        self.partial.take()
    }

    /// Goes over the kernel's records that lie in memory whole, one behind the other, as long as `each` takes them, and
    /// gives in which chunk they lie and how many there were.
    #[inline]
    pub(crate) fn run(&mut self, chunks: &Chunks, mut each: impl FnMut(Place, &[u8]) -> bool) -> Option<(u32, u32)> {
        let window = match (&self.compressed.piece, self.payload) {
            (Some(_), _) => &mut self.compressed.window,
            (None, 0) => &mut self.window,
            (None, _) => return None,
        };
        let chunk = window.chunk?;
        let filled = chunks.filled(chunk);
        let (mut at, mut count) = (window.at, 0);
        while let Some(rest) = filled.get(at..)
            && let Some(Header { type_, size, .. }) = Header::from_bytes(rest, self.order)
            && type_.is_kernel()
            && usize::from(size) >= Header::SIZE
            && let Some(record) = rest.get(..size.into())
            && each(Place { chunk, start: at as u32 }, record)
        {
            at += record.len();
            count += 1;
        }
        window.at = at;
        (count > 0).then_some((chunk, count))
    }

    /// The next record. It stays where it is until something else is asked for; who holds its chunk has it for longer.
    pub(crate) fn next(&mut self, chunks: &mut Chunks) -> Result<Option<Found>, ReadError> {
        if self.has_ended {
            return Ok(None);
        }
        if let Some(piece) = self.compressed.piece {
            match self.compressed.next(chunks, self.order, piece) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => self.compressed.piece = None,
                Err(error) => {
                    self.compressed.piece = None;
                    self.compressed.is_broken = true;
                    return Err(error);
                }
            }
        }
        let found = self.outer(chunks);
        self.has_ended = !matches!(found, Ok(Some(_)));
        if self.has_ended {
            // Of many files few are read at a time.
            self.window.give_back(chunks);
            self.compressed.window.give_back(chunks);
        }
        found
    }

    /// The next record that was not compressed.
    fn outer(&mut self, chunks: &mut Chunks) -> Result<Option<Found>, ReadError> {
        self.skip_payload(chunks)?;
        loop {
            match self.window.parse(chunks, self.order) {
                Parsed::Whole(found) => {
                    self.window.at += usize::from(found.size);
                    self.look_inside(chunks, found);
                    return Ok(Some(found));
                }
                Parsed::Damaged(size) => {
                    let position = self.window.position(chunks).unwrap_or_default();
                    return Err(ReadError::Size { position, size });
                }
                Parsed::Needs(needed) => {
                    if !self.fill(chunks, needed)? {
                        return self.end(chunks, needed).map(|()| None);
                    }
                }
            }
        }
    }

    /// What follows a record, or is in it.
    fn look_inside(&mut self, chunks: &Chunks, found: Found) {
        let bytes = chunks.bytes(found.place, found.size.into());
        let start = found.place.start as usize;
        let piece = match found.type_ {
            RecordType::HEADER_TRACING_DATA => {
                self.payload = int_at::<u32>(bytes, Header::SIZE, self.order).unwrap_or(0).into();
                return;
            }
            RecordType::AUXTRACE => {
                self.payload = int_at(bytes, Header::SIZE, self.order).unwrap_or(0);
                return;
            }
            RecordType::COMPRESSED => Header::SIZE..bytes.len(),
            RecordType::COMPRESSED2 => {
                let size = int_at::<u64>(bytes, Header::SIZE, self.order).unwrap_or(0);
                let start = Header::SIZE + 8;
                match usize::try_from(size).ok().and_then(|size| start.checked_add(size)) {
                    Some(end) if end <= bytes.len() => start..end,
                    _ => Piece::NONE,
                }
            }
            _ => return,
        };
        if !self.compressed.is_broken {
            self.compressed.piece = Some(Piece {
                chunk: found.place.chunk,
                start: start + piece.start,
                end: start + piece.end,
                position: chunks.position(found.place),
            });
        }
    }

    /// Reads until there are `needed` bytes. Whether there are.
    fn fill(&mut self, chunks: &mut Chunks, needed: usize) -> Result<bool, ReadError> {
        let chunk = self.window.make_room(chunks, needed);
        while self.window.left(chunks) < needed {
            let position = self.input.next();
            match self.input.read(chunks.rest_mut(chunk)) {
                Ok(0) => return Ok(false),
                Ok(read) => chunks.fill(chunk, read, position, true),
                Err(source) => return Err(ReadError::Io { position, source }),
            }
        }
        Ok(true)
    }

    /// What the end of the bytes means, where a record of `needed` bytes should be.
    fn end(&mut self, chunks: &Chunks, needed: usize) -> Result<(), ReadError> {
        let position = self.input.next();
        let left = self.window.left(chunks);
        match self.input.missing() {
            0 => {}
            missing => return Err(ReadError::Truncated { position, missing }),
        }
        // Those that were compressed end with the last piece.
        let (window, needed) = match self.compressed.window.left(chunks) {
            0 => (&self.window, needed),
            _ if self.compressed.is_broken => (&self.window, needed),
            inside => match self.compressed.window.parse(chunks, self.order) {
                Parsed::Needs(needed) => (&self.compressed.window, needed.max(inside)),
                _ => (&self.window, needed),
            },
        };
        let left = left.max(window.left(chunks));
        if left == 0 {
            return Ok(());
        }
        if self.is_unfinished {
            self.partial = Some((window.position(chunks).unwrap_or(position), left as u64));
            return Ok(());
        }
        Err(ReadError::Truncated { position, missing: needed.saturating_sub(left).max(1) as u64 })
    }

    /// Bytes left of what follows the last record and belongs to it.
    pub(crate) fn payload(&self) -> u64 {
        self.payload
    }

    /// Reads from what follows the last record and belongs to it.
    pub(crate) fn read_payload(&mut self, chunks: &mut Chunks, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.payload).unwrap_or(usize::MAX).min(into.len());
        let Some(into) = into.get_mut(..most) else { return Ok(0) };
        if into.is_empty() {
            return Ok(0);
        }
        let there = self.window.chunk.and_then(|chunk| chunks.filled(chunk).get(self.window.at..)).unwrap_or_default();
        let read = if there.is_empty() {
            self.input.read(into)?
        } else {
            let len = there.len().min(into.len());
            into[..len].copy_from_slice(&there[..len]);
            self.window.at += len;
            len
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.window.left(chunks) == 0 {
            self.start_anew(chunks);
        }
        self.payload -= read as u64;
        Ok(read)
    }

    /// What was read ends here, and what is read next stands elsewhere.
    fn start_anew(&mut self, chunks: &mut Chunks) {
        self.window.give_back(chunks);
    }

    fn skip_payload(&mut self, chunks: &mut Chunks) -> Result<(), ReadError> {
        if self.payload == 0 {
            return Ok(());
        }
        let left = self.window.left(chunks);
        let inside = usize::try_from(self.payload).unwrap_or(usize::MAX).min(left);
        self.window.at += inside;
        self.payload -= inside as u64;
        if self.payload > 0 {
            self.start_anew(chunks);
            let position = self.input.next();
            let skipped = self.input.skip(self.payload).map_err(|source| ReadError::Io { position, source })?;
            self.payload -= skipped;
            if self.payload > 0 {
                let missing = self.payload;
                self.payload = 0;
                let position = self.input.next();
                if self.is_unfinished {
                    self.partial = Some((position, 0));
                    return Ok(());
                }
                return Err(ReadError::Truncated { position, missing });
            }
        }
        Ok(())
    }
}

impl Compressed {
    /// The next record that ends in a piece; none when all of the piece was used.
    #[cfg(feature = "zstd")]
    fn next(&mut self, chunks: &mut Chunks, order: ByteOrder, piece: Piece) -> Result<Option<Found>, ReadError> {
        let Piece { chunk: from, start, end, position } = piece;
        let failed = |reason| ReadError::Zstd { position, reason };
        let inflater = match &mut self.inflater {
            Some(inflater) => inflater,
            empty => empty.insert(Inflater::new().map_err(failed)?),
        };
        let mut start = start;
        loop {
            let needed = match self.window.parse(chunks, order) {
                Parsed::Whole(found) => {
                    self.window.at += usize::from(found.size);
                    self.piece = Some(Piece { start, ..piece });
                    return Ok(Some(found));
                }
                Parsed::Damaged(size) => return Err(ReadError::Size { position, size }),
                Parsed::Needs(needed) => needed,
            };
            // Nothing that fits is left undone: the stream may hold back what it had no room for.
            let to = self.window.make_room(chunks, needed);
            let Some((bytes, into)) = chunks.two(from, to) else { return Ok(None) };
            let Some(compressed) = bytes.get(start..end) else {
                return Err(failed("the record is shorter than what it says to hold".to_owned()));
            };
            let (read, written) = inflater.run(compressed, into).map_err(failed)?;
            start += read;
            chunks.fill(to, written, position, false);
            if written == 0 {
                if start >= end {
                    return Ok(None);
                }
                if read == 0 {
                    return Err(failed("it does not go on".to_owned()));
                }
            }
        }
    }

    #[cfg(not(feature = "zstd"))]
    fn next(&mut self, _: &mut Chunks, _: ByteOrder, piece: Piece) -> Result<Option<Found>, ReadError> {
        Err(ReadError::NoZstd { position: piece.position })
    }
}
