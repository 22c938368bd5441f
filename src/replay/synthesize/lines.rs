//! Text of procfs, read piece by piece.

use std::fs::File;
use std::io::{self, BufRead, Read as _};
use std::path::Path;

/// Reads the next line into `line`, without its newline and at most `limit` bytes of it; what is longer is stepped over.
/// False at the end of the text.
pub(super) fn next_line(from: &mut impl BufRead, limit: usize, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut is_there = false;
    loop {
        let bytes = match from.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            return Ok(is_there);
        }
        is_there = true;
        let newline = bytes.iter().position(|&byte| byte == b'\n');
        let text = &bytes[..newline.unwrap_or(bytes.len())];
        line.extend_from_slice(&text[..text.len().min(limit - line.len())]);
        let used = text.len() + usize::from(newline.is_some());
        from.consume(used);
        if newline.is_some() {
            return Ok(true);
        }
    }
}

/// The first `limit` bytes of a file.
pub(super) fn read_start(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A number in hexadecimal digits.
pub(super) fn hex(digits: &[u8]) -> Option<u64> {
    number(digits, 16)
}

/// A number in decimal digits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    number(digits, 10)
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    // `from_str_radix` would take a sign.
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u64::from_str_radix(digits, radix).ok()
}

/// Undoes `\` with three octal digits, for those bytes that the kernel writes so in some place.
pub(super) fn unescape(text: &[u8], escaped: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.first_chunk::<3>().filter(|_| byte == b'\\');
        let value = digits
            .filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)))
            .map(|digits| digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0')))
            .and_then(|value| u8::try_from(value).ok())
            .filter(|value| escaped.contains(value));
        match value {
            Some(value) => {
                plain.push(value);
                rest = &behind[3..];
            }
            None => {
                plain.push(byte);
                rest = behind;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn lines(text: &[u8], limit: usize, capacity: usize) -> Vec<Vec<u8>> {
        let (mut from, mut line, mut all) = (BufReader::with_capacity(capacity, text), Vec::new(), Vec::new());
        while next_line(&mut from, limit, &mut line).unwrap() {
            all.push(line.clone());
        }
        all
    }

    #[test]
    fn lines_are_cut_off_not_split() {
        let text = b"a\n\nlonger than it may be\nlast";
        for capacity in [1, 2, 3, 64] {
            assert_eq!(lines(text, 100, capacity), [&b"a"[..], b"", b"longer than it may be", b"last"]);
            assert_eq!(lines(text, 6, capacity), [&b"a"[..], b"", b"longer", b"last"]);
            assert_eq!(lines(b"", 6, capacity), [&b""[..]; 0]);
        }
    }

    #[test]
    fn numbers_have_no_signs() {
        assert_eq!((hex(b"ff"), hex(b"+f"), hex(b"-f"), hex(b""), hex(b" f")), (Some(255), None, None, None, None));
        assert_eq!((hex(b"ffffffffffffffff"), hex(b"10000000000000000")), (Some(u64::MAX), None));
        assert_eq!((decimal(b"18446744073709551615"), decimal(b"18446744073709551616")), (Some(u64::MAX), None));
        assert_eq!(decimal(b"\xff"), None);
    }

    #[test]
    fn only_what_the_kernel_escapes_is_undone() {
        assert_eq!(unescape(br"a\012b\040c", b"\n"), b"a\nb\\040c");
        assert_eq!(unescape(br"\040\011\012\134", b" \t\n\\"), b" \t\n\\");
        assert_eq!(unescape(br"\777\01", b"\n\xff"), br"\777\01");
        assert_eq!(unescape(br"\018\", b"\n"), br"\018\");
        assert_eq!(unescape(br"\\012", b"\n"), b"\\\n");
    }
}
