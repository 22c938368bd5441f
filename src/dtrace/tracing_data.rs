//! The formats of tracepoints in a recording: the feature section `TRACING_DATA` of `perf.data`.

use crate::kernel::TracepointFormat;
use std::collections::BTreeMap;
use std::ffi::CStr;

/// The most systems, and events of one, that are looked at.
const MOST: u32 = 1 << 14;

/// The formats, by the ids of the tracepoints; with the system of each.
#[derive(Debug, Default)]
pub(super) struct TracingDataFormats(BTreeMap<u64, (String, TracepointFormat)>);

impl TracingDataFormats {
    pub(super) fn get(&self, id: u64) -> Option<&(String, TracepointFormat)> {
        self.0.get(&id)
    }
}

/// Reads what is there; what is damaged ends it.
///
/// The layout is that of trace-cmd's `trace.dat(5)`, versions 5 and 6: a magic, a version, byte order and size of a long, the size
/// of a page, the files `header_page` and `header_event`, the formats of ftrace's own events, those of the events by systems.
pub(super) fn formats(bytes: &[u8]) -> TracingDataFormats {
    let mut found = TracingDataFormats::default();
    let _ = read(Rest(bytes), &mut found);
    found
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        let text = CStr::from_bytes_until_nul(self.0).ok()?;
        self.take(text.count_bytes() + 1)?;
        text.to_str().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    /// A file with its size of 8 bytes before it.
    fn file(&mut self) -> Option<&'a [u8]> {
        let size = self.take(8)?.try_into().ok().map(u64::from_ne_bytes)?;
        self.take(usize::try_from(size).ok()?)
    }
}

fn read(mut rest: Rest<'_>, found: &mut TracingDataFormats) -> Option<()> {
    if rest.take(10)? != b"\x17\x08\x44tracing" {
        return None;
    }
    let _version = rest.text()?;
    let big = rest.take(1)?[0] != 0;
    if big != cfg!(target_endian = "big") {
        return None;
    }
    let _long_and_page = rest.take(5)?;
    for name in ["header_page", "header_event"] {
        if rest.text()? != name {
            return None;
        }
        rest.file()?;
    }
    for _ in 0..rest.u32()?.min(MOST) {
        rest.file()?;
    }
    for _ in 0..rest.u32()?.min(MOST) {
        let system = rest.text()?;
        for _ in 0..rest.u32()?.min(MOST) {
            let text = rest.file()?;
            if let Ok(format) = TracepointFormat::parse(&String::from_utf8_lossy(text)) {
                found.0.insert(format.id(), (system.to_owned(), format));
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> Vec<u8> {
        let mut bytes = b"\x17\x08\x44tracing0.6\0".to_vec();
        bytes.push(u8::from(cfg!(target_endian = "big")));
        bytes.push(8);
        bytes.extend(4096_u32.to_ne_bytes());
        let file = |bytes: &mut Vec<u8>, text: &[u8]| {
            bytes.extend((text.len() as u64).to_ne_bytes());
            bytes.extend(text);
        };
        for name in ["header_page", "header_event"] {
            bytes.extend(name.as_bytes());
            bytes.push(0);
            file(&mut bytes, b"fields");
        }
        bytes.extend(1_u32.to_ne_bytes());
        file(&mut bytes, b"an event of ftrace");
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend(b"sched\0");
        bytes.extend(2_u32.to_ne_bytes());
        file(&mut bytes, b"no format");
        let format =
            b"name: wakeup\nID: 7\nformat:\n\tfield:pid_t pid;\toffset:4;\tsize:4;\tsigned:1;\n\nprint fmt: \"\"\n";
        file(&mut bytes, format);
        bytes
    }

    #[test]
    fn formats_are_found_by_their_ids() {
        let bytes = section();
        let found = formats(&bytes);
        let (system, format) = found.get(7).unwrap();
        assert_eq!((system.as_str(), format.name()), ("sched", "wakeup"));
        for cut in 0..bytes.len() {
            assert!(formats(&bytes[..cut]).get(7).is_none(), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0xff;
            formats(&bytes);
        }
    }
}
