//! The arguments of a probe, as programs get them: words, and memory that they may read.

use super::program_type::MAX_ARGS;
use crate::bpf::ProbeRead;

/// The most arguments that lend memory.
const MAX_MEMORY: usize = MAX_ARGS / 2;

/// The arguments of a firing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arguments<'a> {
    words: [u64; MAX_ARGS],
    count: usize,
    memory: [&'a [u8]; MAX_MEMORY],
    memory_count: usize,
}

impl<'a> Arguments<'a> {
    /// None yet.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a number behind the others; what is beyond [`MAX_ARGS`] is left out.
    #[inline]
    pub fn word(&mut self, word: u64) {
        if let Some(place) = self.words.get_mut(self.count) {
            *place = word;
            self.count += 1;
        }
    }

    /// Puts the address of these bytes and their number behind the others. Programs may read them, by `bpf_probe_read_user` and its
    /// like, while the firing lasts.
    #[inline]
    pub fn bytes(&mut self, bytes: &'a [u8]) {
        if let Some(place) = self.memory.get_mut(self.memory_count) {
            *place = bytes;
            self.memory_count += 1;
        }
        self.word(bytes.as_ptr().addr() as u64);
        self.word(bytes.len() as u64);
    }

    /// The words.
    #[inline]
    pub fn words(&self) -> &[u64] {
        &self.words[..self.count]
    }

    /// Copies what a program asks for, if it is in memory that was lent; gives how many bytes were copied.
    pub(crate) fn read(&self, read: ProbeRead, to: &mut [u8]) -> usize {
        let found = self.memory[..self.memory_count].iter().find_map(|bytes| {
            let offset = read.address.checked_sub(bytes.as_ptr().addr() as u64)?;
            bytes.get(usize::try_from(offset).ok()?..).filter(|rest| !rest.is_empty())
        });
        let Some(rest) = found else { return 0 };
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        count
    }
}

/// What can be an argument of a probe: a number takes one word, text and bytes take two.
pub trait Argument {
    /// The words that it takes.
    const WORDS: usize;

    /// Puts it behind the others: as many words.
    fn put<'a>(&'a self, to: &mut Arguments<'a>);
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Argument for $type {
            const WORDS: usize = 1;

            #[inline]
            fn put<'a>(&'a self, to: &mut Arguments<'a>) {
                // Numbers with a sign fill the word with it.
                to.word(*self as u64);
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, bool);

impl<T> Argument for *const T {
    const WORDS: usize = 1;

    #[inline]
    fn put<'a>(&'a self, to: &mut Arguments<'a>) {
        to.word(self.addr() as u64);
    }
}

impl<T> Argument for *mut T {
    const WORDS: usize = 1;

    #[inline]
    fn put<'a>(&'a self, to: &mut Arguments<'a>) {
        to.word(self.addr() as u64);
    }
}

impl Argument for [u8] {
    const WORDS: usize = 2;

    #[inline]
    fn put<'a>(&'a self, to: &mut Arguments<'a>) {
        to.bytes(self);
    }
}

impl Argument for str {
    const WORDS: usize = 2;

    #[inline]
    fn put<'a>(&'a self, to: &mut Arguments<'a>) {
        to.bytes(self.as_bytes());
    }
}

impl<T: Argument + ?Sized> Argument for &T {
    const WORDS: usize = T::WORDS;

    #[inline]
    fn put<'a>(&'a self, to: &mut Arguments<'a>) {
        (**self).put(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_memory() {
        let mut arguments = Arguments::new();
        let text = String::from("text of some length");
        (-1_i8).put(&mut arguments);
        text.as_str().put(&mut arguments);
        true.put(&mut arguments);
        let address = text.as_ptr().addr() as u64;
        assert_eq!(arguments.words(), [u64::MAX, address, 19, 1]);
        let read = |offset: u64, size: usize| {
            let mut to = vec![0; size];
            let read = ProbeRead { address: address.wrapping_add(offset), size, user: true };
            let count = arguments.read(read, &mut to);
            to.truncate(count);
            String::from_utf8(to).unwrap()
        };
        assert_eq!(read(0, 4), "text");
        assert_eq!(read(13, 10), "length");
        assert_eq!(read(19, 1), "");
        assert_eq!(read(u64::MAX, 1), "");
        for _ in 0..20 {
            text.as_str().put(&mut arguments);
        }
        assert_eq!(arguments.words().len(), MAX_ARGS);
    }
}
