//! A line of `/proc/PID/maps`, as proc_pid_maps(5) describes it.

use super::lines::{decimal, hex, unescape};
use std::borrow::Cow;

pub(super) const PROT_READ: u32 = 1;
pub(super) const PROT_WRITE: u32 = 2;
pub(super) const PROT_EXEC: u32 = 4;
const MAP_SHARED: u32 = 1;
const MAP_PRIVATE: u32 = 2;

/// The longest line that is read whole: a path has at most 4096 bytes, of which each may be written as four.
pub(super) const LINE: usize = 4 * PATH + 256;
/// Bytes of a path and its NUL (`PATH_MAX`).
const PATH: usize = 4096;

/// A mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping<'a> {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) prot: u32,
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) maj: u32,
    pub(super) min: u32,
    pub(super) inode: u64,
    /// As it stands in the line.
    pub(super) name: &'a [u8],
}

impl<'a> Mapping<'a> {
    /// Reads a line without its newline; none if it is no such line.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut rest = line;
        let mut word = || {
            let len = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
            let (word, behind) = rest.split_at_checked(len)?;
            rest = behind.get(1..).unwrap_or_default();
            Some(word)
        };
        let (range, perms, offset, device, inode) = (word()?, word()?, word()?, word()?, word()?);
        let (start, end) = split(range, b'-')?;
        let (start, end) = (hex(start)?, hex(end)?);
        let (maj, min) = split(device, b':')?;
        let &[r, w, x, shared] = perms else { return None };
        let bit = |letter: u8, is: u8, bit: u32| match letter {
            b'-' => Some(0),
            letter => (letter == is).then_some(bit),
        };
        Some(Self {
            start,
            end: (start < end).then_some(end)?,
            prot: bit(r, b'r', PROT_READ)? | bit(w, b'w', PROT_WRITE)? | bit(x, b'x', PROT_EXEC)?,
            flags: match shared {
                b's' => MAP_SHARED,
                b'p' => MAP_PRIVATE,
                _ => return None,
            },
            offset: hex(offset)?,
            maj: hex(maj)?.try_into().ok()?,
            min: hex(min)?.try_into().ok()?,
            inode: decimal(inode)?,
            // Blanks fill up to the column of the names, none of which begins with one.
            name: rest.trim_ascii_start(),
        })
    }

    /// Whether the name was changed to fit into a line, or happens to look so.
    pub(super) fn is_escaped(&self) -> bool {
        self.name.windows(NEWLINE.len()).any(|part| part == NEWLINE)
    }

    /// Whether a file of this name would be written so.
    pub(super) fn is_named(&self, file: &[u8]) -> bool {
        let mut rest = self.name;
        let is_prefix = file.iter().all(|byte| {
            let written = if *byte == b'\n' { NEWLINE } else { std::slice::from_ref(byte) };
            rest.strip_prefix(written).map(|behind| rest = behind).is_some()
        });
        is_prefix && rest.is_empty()
    }

    /// The name that the kernel's own records have for such a mapping.
    pub(super) fn filename(&self) -> Cow<'a, [u8]> {
        let name = self.name;
        if name.is_empty() || name.starts_with(b"[anon:") {
            // A name of anonymous memory (PR_SET_VMA_ANON_NAME) is shown here only.
            return Cow::Borrowed(b"//anon");
        }
        let name = if self.is_escaped() { Cow::Owned(unescape(name, b"\n")) } else { Cow::Borrowed(name) };
        if name.len() < PATH { name } else { Cow::Borrowed(b"//toolong") }
    }
}

/// The one thing that the kernel escapes in this file.
const NEWLINE: &[u8] = br"\012";

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = text.iter().position(|&byte| byte == at)?;
    Some((text.get(..index)?, text.get(index + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBC: &[u8] =
        b"7f8e10a46000-7f8e10a6c000 r-xp 00001000 fe:1a 325843                     /usr/lib/a b.so (deleted)";

    #[test]
    fn lines_are_read() {
        let mapping = Mapping::parse(LIBC).unwrap();
        let expected = Mapping {
            start: 0x7f8e10a46000,
            end: 0x7f8e10a6c000,
            prot: PROT_READ | PROT_EXEC,
            flags: MAP_PRIVATE,
            offset: 0x1000,
            maj: 0xfe,
            min: 0x1a,
            inode: 325843,
            name: b"/usr/lib/a b.so (deleted)",
        };
        assert_eq!(mapping, expected);
        assert_eq!(*mapping.filename(), *expected.name);
    }

    #[test]
    fn names_are_those_of_the_kernels_records() {
        let name = |name: &str| {
            let line = format!("1000-2000 rwxs 00000000 00:00 0 {name}");
            Mapping::parse(line.as_bytes()).unwrap().filename().into_owned()
        };
        assert_eq!(name(""), b"//anon");
        assert_eq!(name("     "), b"//anon");
        assert_eq!(name("                 [anon:glibc: malloc]"), b"//anon");
        assert_eq!(name("         [vdso]"), b"[vdso]");
        assert_eq!(name("     /new\\012line \\040"), b"/new\nline \\040");
        assert_eq!(name(&"x".repeat(4095)), "x".repeat(4095).as_bytes());
        assert_eq!(name(&"x".repeat(4096)), b"//toolong");
        assert_eq!(name(&"\\012".repeat(4095)), "\n".repeat(4095).as_bytes());
        // Without the blank behind the inode, which some kernels leave out.
        assert_eq!(*Mapping::parse(b"1000-2000 rw-p 00000000 00:00 0").unwrap().filename(), *b"//anon");
    }

    #[test]
    fn names_that_look_the_same_are_told_apart_by_who_knows() {
        let mapping = Mapping::parse(br"1000-2000 r-xp 0 00:00 7 /a\012b").unwrap();
        assert!(mapping.is_escaped());
        assert!(mapping.is_named(b"/a\nb") && mapping.is_named(br"/a\012b"));
        for other in [&b"/a\nb\n"[..], b"/a\n", b"/a", b"", br"/a\012bc"] {
            assert!(!mapping.is_named(other), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_such_line_is_none() {
        for line in [
            &b""[..],
            b"1000",
            b"1000-2000",
            b"1000-2000 r-xp 0 00:00",
            b"1000-2000 r-xp 0 00:00 ",
            b"1000-2000 r-xp 0 00:00 x",
            b"1000-2000 r-x 0 00:00 0",
            b"1000-2000 r-xpp 0 00:00 0",
            b"1000-2000 x-rp 0 00:00 0",
            b"1000-2000 r-xq 0 00:00 0",
            b"2000-1000 r-xp 0 00:00 0",
            b"1000-1000 r-xp 0 00:00 0",
            b"1000 2000 r-xp 0 00:00 0",
            b"-1000-2000 r-xp 0 00:00 0",
            b"+1000-2000 r-xp 0 00:00 0",
            b"1000-10000000000000000 r-xp 0 00:00 0",
            b"1000-2000 r-xp 0 0000 0",
            b"1000-2000 r-xp 0 100000000:00 0",
            b"1000-2000 r-xp 0 00:00 18446744073709551616",
            b"\xff\xfe-\x00 r-xp 0 00:00 0",
        ] {
            assert_eq!(Mapping::parse(line), None, "{}", line.escape_ascii());
        }
        // Cut off at every byte: no panic, and never more than the name is missing.
        for len in 0..LIBC.len() {
            if let Some(mapping) = Mapping::parse(&LIBC[..len]) {
                assert_eq!((mapping.start, mapping.offset, mapping.maj), (0x7f8e10a46000, 0x1000, 0xfe));
            }
        }
    }
}
