//! The memory in which records lie while they wait for their turn.

use crate::record::{ByteOrder, Header};

/// Bytes in a chunk: several of the largest records, and no more than a core's cache holds.
pub(crate) const CHUNK: usize = 256 << 10;

/// Where a record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) chunk: u32,
    pub(crate) start: u32,
}

/// What stands in a chunk from some byte on.
#[derive(Clone, Copy)]
struct Origin {
    start: u32,
    /// Where it stands in the recording.
    position: u64,
    /// Whether the bytes behind it stand behind it there, too: not those that were compressed.
    moves: bool,
}

struct Chunk {
    bytes: Box<[u8]>,
    filled: usize,
    /// Records in it that wait, and those who fill it.
    users: u32,
    /// Records in it that are lent in a batch.
    lent: u32,
    origins: Vec<Origin>,
}

/// Chunks of memory that are filled one after the other, and used again when nothing in them waits.
#[derive(Default)]
pub(crate) struct Chunks {
    all: Vec<Chunk>,
    free: Vec<u32>,
    /// Chunks that have users.
    used: usize,
    /// Their origins.
    origins: usize,
}

impl Chunks {
    /// An empty chunk, with one user.
    pub(crate) fn take(&mut self) -> u32 {
        self.used += 1;
        if let Some(id) = self.free.pop() {
            let chunk = &mut self.all[id as usize];
            chunk.filled = 0;
            chunk.users = 1;
            return id;
        }
        self.all.push(Chunk { bytes: vec![0; CHUNK].into(), filled: 0, users: 1, lent: 0, origins: Vec::new() });
        (self.all.len() - 1) as u32
    }

    /// Bytes of the chunks in which something waits. What is lent in a batch is whoever's who asked for it.
    pub(crate) fn memory(&self) -> usize {
        // While a list grows there are two of it.
        self.used * CHUNK + self.origins * size_of::<Origin>() * 3
    }

    #[inline]
    pub(crate) fn hold(&mut self, chunk: u32, users: u32) {
        let chunk = &mut self.all[chunk as usize];
        if chunk.users == 0 {
            self.used += 1;
            self.origins += chunk.origins.len();
        }
        chunk.users += users;
    }

    #[inline]
    pub(crate) fn release(&mut self, chunk: u32) {
        let users = &mut self.all[chunk as usize].users;
        *users -= 1;
        if *users == 0 {
            self.used -= 1;
            self.origins -= self.all[chunk as usize].origins.len();
            self.free_if_unused(chunk);
        }
    }

    /// Holds a chunk for a record of a batch.
    #[inline]
    pub(crate) fn lend(&mut self, chunk: u32) {
        self.all[chunk as usize].lent += 1;
    }

    #[inline]
    pub(crate) fn give_back(&mut self, chunk: u32) {
        let lent = &mut self.all[chunk as usize].lent;
        *lent -= 1;
        if *lent == 0 {
            self.free_if_unused(chunk);
        }
    }

    fn free_if_unused(&mut self, id: u32) {
        let chunk = &mut self.all[id as usize];
        if (chunk.users, chunk.lent) == (0, 0) {
            chunk.origins.clear();
            // Few pieces are so small that there are more in a chunk.
            chunk.origins.shrink_to(1000);
            self.free.push(id);
        }
    }

    /// What is filled of a chunk.
    #[inline]
    pub(crate) fn filled(&self, chunk: u32) -> &[u8] {
        let chunk = &self.all[chunk as usize];
        &chunk.bytes[..chunk.filled]
    }

    /// What can still be filled.
    pub(crate) fn rest_mut(&mut self, chunk: u32) -> &mut [u8] {
        let chunk = &mut self.all[chunk as usize];
        &mut chunk.bytes[chunk.filled..]
    }

    /// The filled bytes of one chunk, and what can be filled of another.
    pub(crate) fn two(&mut self, from: u32, to: u32) -> Option<(&[u8], &mut [u8])> {
        let [from, to] = self.all.get_disjoint_mut([from as usize, to as usize]).ok()?;
        Some((&from.bytes[..from.filled], &mut to.bytes[to.filled..]))
    }

    /// Says that `bytes` more are filled, which stand at `position` in the recording.
    pub(crate) fn fill(&mut self, chunk: u32, bytes: usize, position: u64, moves: bool) {
        if bytes == 0 {
            return;
        }
        let chunk = &mut self.all[chunk as usize];
        let start = chunk.filled as u32;
        chunk.filled += bytes;
        let goes_on = chunk.origins.last().is_some_and(|last| {
            last.moves == moves
                && match moves {
                    true => last.position.wrapping_add(u64::from(start - last.start)) == position,
                    false => last.position == position,
                }
        });
        if !goes_on {
            chunk.origins.push(Origin { start, position, moves });
            self.origins += 1;
        }
    }

    /// A new chunk that starts with the bytes of another from `at` on, of which there are fewer than a record can have.
    pub(crate) fn carry(&mut self, from: u32, at: usize) -> u32 {
        let to = self.take();
        let (position, moves) = self.origin(Place { chunk: from, start: at as u32 });
        let Some((old, new)) = self.two(from, to) else { return to };
        let tail = old.get(at..).unwrap_or_default();
        let len = tail.len();
        new[..len].copy_from_slice(tail);
        if len > 0 {
            self.fill(to, len, position, moves);
        }
        to
    }

    fn origin(&self, place: Place) -> (u64, bool) {
        let origins = &self.all[place.chunk as usize].origins;
        let behind = origins.partition_point(|origin| origin.start <= place.start);
        match behind.checked_sub(1).and_then(|at| origins.get(at)) {
            Some(origin) if origin.moves => (origin.position.wrapping_add(u64::from(place.start - origin.start)), true),
            Some(origin) => (origin.position, false),
            None => (0, true),
        }
    }

    /// Where what stands at a place stands in the recording.
    #[inline]
    pub(crate) fn position(&self, place: Place) -> u64 {
        self.origin(place).0
    }

    /// The record that was found at a place.
    #[inline]
    pub(crate) fn record(&self, place: Place, order: ByteOrder) -> Option<(Header, &[u8])> {
        let bytes = self.all.get(place.chunk as usize)?.bytes.get(place.start as usize..)?;
        let header = Header::from_bytes(bytes, order)?;
        Some((header, bytes.get(..header.size.into())?))
    }

    /// `len` bytes from a place on, which were found there.
    #[inline]
    pub(crate) fn bytes(&self, place: Place, len: usize) -> &[u8] {
        let start = place.start as usize;
        &self.all[place.chunk as usize].bytes[start..start + len]
    }
}
