//! The format of `bpf_trace_printk`.

use crate::bpf::environment::{Environment, ProbeRead};
use crate::bpf::memory::Readable;
use libc::EINVAL;
use std::fmt::Write as _;

/// The longest line (`BPF_TRACE_PRINTK_SIZE`), as the kernel has it.
const LINE: usize = 1024;
/// The most bytes of a text that is printed.
const TEXT: usize = 512;

/// A line in place, as programs may run where nothing can be allocated.
pub(crate) struct Line {
    bytes: [u8; LINE],
    len: usize,
}

impl Line {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len])
            .unwrap_or_else(|error| std::str::from_utf8(&self.bytes[..error.valid_up_to()]).unwrap_or_default())
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// Sizes of integers: `hh`, `h`, none, `l` and `ll`.
#[derive(Clone, Copy)]
enum Length {
    Char,
    Short,
    Int,
    Long,
}

impl Length {
    fn unsigned(self, value: u64) -> u64 {
        match self {
            Self::Char => u64::from(value as u8),
            Self::Short => u64::from(value as u16),
            Self::Int => u64::from(value as u32),
            Self::Long => value,
        }
    }

    fn signed(self, value: u64) -> i64 {
        match self {
            Self::Char => i64::from(value as i8),
            Self::Short => i64::from(value as i16),
            Self::Int => i64::from(value as i32),
            Self::Long => value as i64,
        }
    }
}

/// Formats as `bpf_trace_printk` does: `%d %i %u %x %X %o %c %p %s` with `hh`, `h`, `l`, `ll`, a width, `0` and `-`; the error is
/// the errno value. Texts are read by their address, as the environment allows.
pub(crate) fn format(format: Readable, args: [u64; 3], environment: &dyn Environment) -> Result<Line, i32> {
    let mut line = Line { bytes: [0; LINE], len: 0 };
    let mut args = args.into_iter();
    let byte = |at: usize| {
        let mut byte = [0];
        format.part(at, 1).map(|part| part.copy_out(&mut byte)).map(|()| byte[0])
    };
    // The format ends with its first 0, and has one.
    let end = (0..format.len()).find(|at| byte(*at) == Some(0)).ok_or(EINVAL)?;
    let mut at = 0;
    while at < end {
        let mut next = || {
            at += 1;
            byte(at - 1).filter(|byte| *byte != 0)
        };
        let first = next().ok_or(EINVAL)?;
        if first != b'%' {
            if !first.is_ascii() || (first.is_ascii_control() && !first.is_ascii_whitespace()) {
                return Err(EINVAL);
            }
            line.push(first);
            continue;
        }
        let mut conversion = next().ok_or(EINVAL)?;
        if conversion == b'%' {
            line.push(b'%');
            continue;
        }
        let (mut left, mut zero, mut width) = (false, false, 0_usize);
        while matches!(conversion, b'-' | b'0' | b'+' | b' ' | b'#') {
            left |= conversion == b'-';
            zero |= conversion == b'0';
            conversion = next().ok_or(EINVAL)?;
        }
        while conversion.is_ascii_digit() {
            width = (width * 10 + usize::from(conversion - b'0')).min(LINE);
            conversion = next().ok_or(EINVAL)?;
        }
        let mut length = Length::Int;
        loop {
            length = match (conversion, length) {
                (b'l', _) => Length::Long,
                (b'h', Length::Short) => Length::Char,
                (b'h', _) => Length::Short,
                _ => break,
            };
            conversion = next().ok_or(EINVAL)?;
        }
        let value = args.next().ok_or(EINVAL)?;
        if conversion == b's' {
            text(&mut line, value, width, left, environment);
            continue;
        }
        let mut number = Line { bytes: [0; LINE], len: 0 };
        let written = match conversion {
            b'd' | b'i' => write!(number, "{}", length.signed(value)),
            b'u' => write!(number, "{}", length.unsigned(value)),
            b'x' => write!(number, "{:x}", length.unsigned(value)),
            b'X' => write!(number, "{:X}", length.unsigned(value)),
            b'o' => write!(number, "{:o}", length.unsigned(value)),
            b'p' => write!(number, "{value:016x}"),
            b'c' => write!(number, "{}", char::from(value as u8)),
            _ => return Err(EINVAL),
        };
        written.map_err(|_| EINVAL)?;
        pad(&mut line, number.as_str(), width, left, zero);
    }
    Ok(line)
}

/// `text` in a field of `width`.
fn pad(line: &mut Line, text: &str, width: usize, left: bool, zero: bool) {
    let missing = width.saturating_sub(text.len());
    if left {
        let _ = line.write_str(text);
        (0..missing).for_each(|_| line.push(b' '));
        return;
    }
    // Zeros go behind the sign.
    let (sign, digits) = if zero && text.starts_with('-') { text.split_at(1) } else { ("", text) };
    let _ = line.write_str(sign);
    (0..missing).for_each(|_| line.push(if zero { b'0' } else { b' ' }));
    let _ = line.write_str(digits);
}

/// The text at an address, up to its 0.
fn text(line: &mut Line, address: u64, width: usize, left: bool, environment: &dyn Environment) {
    let mut bytes = [0; TEXT];
    let count = environment.probe_read(ProbeRead { address, size: TEXT, user: false }, &mut bytes).min(TEXT);
    let text = &bytes[..count];
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text)
        .unwrap_or_else(|error| std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default());
    pad(line, text, width, left, false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::environment::Live;

    fn printed(text: &str, args: [u64; 3]) -> Result<String, i32> {
        let bytes = [text.as_bytes(), &[0]].concat();
        let readable = Readable::of(&bytes);
        format(readable, args, &Live::reading(|_| true)).map(|line| line.as_str().to_owned())
    }

    #[test]
    fn conversions() {
        let minus = -5_i64 as u64;
        assert_eq!(printed("plain 100%%", [0; 3]).unwrap(), "plain 100%");
        assert_eq!(printed("%d %u %x", [minus, 7, 255]).unwrap(), "-5 7 ff");
        assert_eq!(printed("%u %lu %hhu", [minus, minus, minus]).unwrap(), "4294967291 18446744073709551611 251");
        assert_eq!(printed("[%5d][%-5d][%05d]", [minus; 3]).unwrap(), "[   -5][-5   ][-0005]");
        assert_eq!(printed("%p %c %llX", [1, 65, 0xabc]).unwrap(), "0000000000000001 A ABC");
        let name = c"a name";
        let address = name.as_ptr().expose_provenance() as u64;
        // The 512 bytes from there on may not all be readable; those that are hold the text.
        assert!(["a name|  a name", "|"].contains(&printed("%s|%8s", [address, address, 0]).unwrap().trim_end()));
    }

    #[test]
    fn formats_that_make_no_sense() {
        assert_eq!(printed("%", [0; 3]).unwrap_err(), EINVAL);
        assert_eq!(printed("%q", [0; 3]).unwrap_err(), EINVAL);
        assert_eq!(printed("%d%d%d%d", [0; 3]).unwrap_err(), EINVAL);
        assert_eq!(printed("\u{e9}", [0; 3]).unwrap_err(), EINVAL);
        assert_eq!(printed("%999999999999999999999d", [0; 3]).unwrap().len(), LINE);
    }
}
