//! A ring image of arbitrary content, read by the consumer and, where nothing was overwritten, by a second reader that is
//! written as simply as the layout allows: both must find the same.
//!
//! The input is small: a kind of ring, edits of its header page, and a script that fills its data area.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perfring::ring::{
    Builder, Consumer, Description, Inspection, Mode, Padding, RECORD_OPEN, RECORD_PADDING, ReadErrorKind,
    RecordHeader, RecordState, Ring, SegmentKind,
};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

const PAGE: u64 = 4096;
const SIZE: u64 = 4 * PAGE;

const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;
const RESERVED: usize = 1344;
/// Fields of the header page that are worth an edit.
const FIELDS: [usize; 18] = [
    DATA_HEAD, DATA_TAIL, 1040, 1048, 1152, 1160, 1164, 1168, 1172, 1176, 1184, 1188, 1200, 1208, 1288, RESERVED, 1472,
    1480,
];

/// Header pages of sound, empty rings, and the one file that images are written to.
struct Setting {
    headers: Vec<Vec<u8>>,
    path: PathBuf,
    file: File,
}

fn setting() -> &'static Setting {
    static SETTING: OnceLock<Setting> = OnceLock::new();
    SETTING.get_or_init(|| {
        let path = PathBuf::from(format!("/dev/shm/perfring-fuzz-{}", std::process::id()));
        let header = |builder: Builder| {
            let _ = std::fs::remove_file(&path);
            // SAFETY: the file is this process's, and read only when the ring is gone.
            drop(unsafe { builder.create_file(&path) }.expect("a ring file"));
            let mut header = std::fs::read(&path).expect("its header");
            header.truncate(PAGE as usize);
            header
        };
        let headers = vec![
            header(Ring::confined(4)),
            header(Ring::confined(4).padding(Padding::Header)),
            header(Ring::free(4)),
            header(Ring::confined(4).mode(Mode::OverwriteForward)),
            header(Ring::free(4).mode(Mode::OverwriteBackward)),
        ];
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("an image file");
        // Without a name, nothing is left behind by a process that is killed.
        std::fs::remove_file(&path).expect("its name");
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Setting { headers, path, file }
    })
}

/// Takes bytes off the input; zeros when it is at its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let len = N.min(self.0.len());
        bytes[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        bytes
    }
    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }
    fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }
}

struct Image {
    header: Vec<u8>,
    data: Vec<u8>,
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl Image {
    fn word(&mut self, position: u64, value: u64) {
        put(&mut self.data, (position % SIZE) as usize, value);
    }

    fn record(&mut self, position: u64, type_: u32, words: u64, fill: u8) {
        let header = RecordHeader { type_, misc: 0, size: (words * 8) as u16 };
        self.word(position, u64::from_ne_bytes(header.to_bytes()));
        for i in 1..words {
            self.word(position.wrapping_add(i * 8), u64::from_ne_bytes([fill; 8]));
        }
    }

    fn build(input: &mut Input<'_>) -> Self {
        let kind = usize::from(input.byte()) % 5;
        let confined = kind != 2 && kind != 4;
        let start = match input.byte() % 4 {
            0 => 0,
            1 => 0u64.wrapping_sub(PAGE),
            2 => 3 * PAGE,
            _ => u64::from(input.half()) * 8,
        };
        let mut image = Self { header: setting().headers[kind].clone(), data: vec![0; SIZE as usize] };
        let edits: Vec<[u8; 4]> = (0..input.byte() % 8).map(|_| input.bytes()).collect();
        let mut tail = start;
        let mut at = start;
        while !input.0.is_empty() {
            let room = SIZE - 8 - at.wrapping_sub(start).min(SIZE - 8);
            let to_end = PAGE - at % PAGE;
            let op = input.byte() % 10;
            let words = match op {
                0 | 1 | 5 => 1 + u64::from(input.byte() % 64),
                2 => 1 + u64::from(input.half() % 512),
                3 => to_end / 8 % 512,
                6 | 7 => 1,
                _ => 0,
            };
            if words * 8 > room {
                break;
            }
            match op {
                0..=2 => {
                    let gap = if confined && words * 8 > to_end { to_end } else { 0 };
                    if gap + words * 8 > room {
                        break;
                    }
                    if gap != 0 && kind == 1 {
                        image.record(at, RECORD_PADDING, gap / 8, 0);
                    }
                    at = at.wrapping_add(gap);
                    image.record(at, 9, words, op + 1);
                }
                3 => (0..words).for_each(|i| image.word(at.wrapping_add(i * 8), 0)),
                4 => {
                    let where_ = usize::from(input.half()) % SIZE as usize;
                    image.data[where_] ^= input.byte();
                }
                5 => image.record(at, RECORD_PADDING, words, 0),
                6 => image.word(at, u64::from_ne_bytes(input.bytes())),
                7 => image.word(at, 0),
                8 => tail = at,
                _ => image.record(at, RECORD_OPEN, 1, 0),
            }
            at = at.wrapping_add(words * 8);
        }
        // In a backward ring the newest starts at the head, and the first one ended where it started.
        let (head, tail, reserved) = if kind == 4 { (start, at, start) } else { (at, tail, at) };
        put(&mut image.header, DATA_HEAD, head);
        put(&mut image.header, DATA_TAIL, if kind == 3 { start } else { tail });
        put(&mut image.header, RESERVED, reserved);
        for [field, op, low, high] in edits {
            let (field, value) =
                (FIELDS[usize::from(field) % FIELDS.len()], u64::from(u16::from_le_bytes([low, high])));
            let old = word(&image.header, field);
            let new = match op % 5 {
                0 => old.wrapping_add(value),
                1 => old.wrapping_sub(value),
                2 => old ^ value,
                3 => old ^ value << 48,
                _ => value,
            };
            put(&mut image.header, field, new);
        }
        image
    }
}

/// What a reader finds: a record or a defect, and where the next thing starts.
#[derive(Debug, PartialEq)]
enum Found {
    Record { position: u64, bytes: Vec<u8> },
    Defect { position: u64, skipped: u64 },
}

/// The second reader: everything from `from` to `end`, and the bytes of padding there.
fn read_simply(description: &Description, data: &[u8], from: u64, end: u64) -> (Vec<Found>, u64) {
    let (size, granule) = (description.data_size, description.granule);
    let at = |position: u64| word(data, (position % size) as usize);
    let (mut found, mut padding, mut position) = (Vec::new(), 0, from);
    while position != end {
        let left = end.wrapping_sub(position);
        let in_granule = if description.confined { granule - position % granule } else { u64::MAX };
        let header = RecordHeader::from_bytes(at(position).to_ne_bytes());
        let len = u64::from(header.size);
        let gap = description.confined
            && in_granule != granule
            && in_granule <= left
            && (0..in_granule).step_by(8).all(|i| at(position.wrapping_add(i)) == 0);
        let sound = len >= 8 && len % 8 == 0 && len <= left && len <= in_granule && header.type_ != RECORD_OPEN;
        let step = if gap {
            padding += in_granule;
            in_granule
        } else if !sound {
            let skipped = in_granule.min(left);
            found.push(Found::Defect { position, skipped });
            skipped
        } else if header.type_ == RECORD_PADDING {
            padding += len;
            len
        } else {
            let bytes = (0..len).map(|i| data[(position.wrapping_add(i) % size) as usize]).collect();
            found.push(Found::Record { position, bytes });
            len
        };
        position = position.wrapping_add(step);
    }
    (found, padding)
}

/// What an inspection calls unread or damaged, as a consumer gives it; its pages are tiled by what is in them.
fn inspect(inspection: &Inspection<'_>, image: &[u8]) -> Vec<Found> {
    let Description { data_head, data_size, data_offset, mode, .. } = *inspection.description();
    let origin = if mode == Mode::OverwriteBackward { data_head } else { data_head.wrapping_sub(data_size) };
    let (mut found, mut at) = (Vec::new(), 0);
    for page in inspection.pages() {
        for segment in page.expect("a page").segments {
            assert_eq!(segment.position % data_size, at % data_size);
            at += segment.len;
            let (position, len) = (segment.whole_position, segment.whole_len);
            match segment.kind {
                _ if !segment.is_first() => {}
                SegmentKind::Record { state: RecordState::Unread, .. } => {
                    let byte = |i| image[(data_offset + position.wrapping_add(i) % data_size) as usize];
                    found.push(Found::Record { position, bytes: (0..len).map(byte).collect() });
                }
                SegmentKind::Damaged(_) => found.push(Found::Defect { position, skipped: len }),
                _ => {}
            }
        }
    }
    assert_eq!(at, data_size);
    found.sort_by_key(|found| match found {
        Found::Record { position, .. } | Found::Defect { position, .. } => position.wrapping_sub(origin),
    });
    found
}

/// Drains up to the head: what was found, and whether it was not for want of a sound head or of the file.
fn drain(consumer: &mut Consumer) -> (Vec<Found>, bool) {
    let most = consumer.size() / 8 + 2;
    let (mut found, mut whole) = (Vec::new(), true);
    let mut drain = consumer.drain();
    while let Some(item) = drain.next() {
        match item {
            Ok(record) => {
                assert_eq!(record.bytes().len(), usize::from(record.header().size));
                assert_eq!(record.bytes()[..8], record.header().to_bytes());
                found.push(Found::Record { position: record.position(), bytes: record.bytes().to_vec() });
            }
            Err(error) => {
                use ReadErrorKind::{File, Head, Overwritten};
                whole &= !matches!(error.kind, Head { .. } | File(_) | Overwritten);
                found.push(Found::Defect { position: error.position, skipped: error.skipped });
            }
        }
        assert!(found.len() as u64 <= most, "no end");
    }
    (found, whole)
}

/// No record reaches into the next thing found.
fn assert_apart(found: &[Found]) {
    let mut last: Option<u64> = None;
    for item in found {
        let (position, len) = match item {
            Found::Record { position, bytes } => (*position, bytes.len() as u64),
            Found::Defect { position, skipped } => (*position, *skipped),
        };
        if let Some(last) = last {
            assert!(position.wrapping_sub(last) as i64 >= 0, "{position:#x} after {last:#x}");
        }
        last = Some(position.wrapping_add(len));
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let releases = input.byte() % 2 == 0;
    let image = Image::build(&mut input);
    let setting = setting();
    setting.file.write_all_at(&image.header, 0).expect("the header");
    setting.file.write_all_at(&image.data, PAGE).expect("the data");
    let parsed = Description::parse(&image.header, PAGE + SIZE);
    let opened = match releases {
        true => Consumer::open_file_and_release(&setting.path),
        false => Consumer::open_file(&setting.path),
    };
    let (description, mut consumer) = match (parsed, opened) {
        (Ok(description), Ok(consumer)) => (description, consumer),
        (Err(parsed), Err(opened)) => {
            assert_eq!(parsed.to_string(), opened.to_string());
            return;
        }
        (parsed, opened) => panic!("{parsed:?}, but {:?}", opened.map(|_| ())),
    };
    assert_eq!(consumer.description(), Some(&description));
    let Description { data_head: head, data_tail: tail, data_size: size, reserved, mode, .. } = description;
    let from = consumer.position();
    let (found, whole) = drain(&mut consumer);
    assert_apart(&found);
    let bytes = [&image.header[..], &image.data].concat();
    if let (Ok(inspection), true) = (Inspection::from_bytes(&bytes), whole) {
        assert_eq!(inspect(&inspection, &bytes), found);
    }
    let stats = consumer.stats();

    // From where to where everything is there, if nothing was overwritten.
    let range = match mode {
        Mode::OverwriteBackward => (reserved == head && tail.wrapping_sub(head) <= size).then_some((head, tail)),
        Mode::OverwriteForward => (reserved == head && head.wrapping_sub(tail) <= size).then_some((tail, head)),
        _ => Some((tail, head)),
    };
    if let Some((from, end)) = range {
        let (expected, padding) = read_simply(&description, &image.data_area(&description), from, end);
        assert_eq!(found, expected);
        assert!(whole);
        assert_eq!(stats.padding, padding);
    }
    let sum = |record: bool| -> u64 {
        let len = |item: &Found| match item {
            Found::Record { bytes, .. } if record => bytes.len() as u64,
            Found::Defect { skipped, .. } if !record => *skipped,
            _ => 0,
        };
        found.iter().map(len).sum()
    };
    assert_eq!(stats.skipped, sum(false));
    if mode == Mode::Lossless {
        assert_eq!(sum(true) + stats.padding + stats.skipped, head.wrapping_sub(tail));
        assert_eq!((from, consumer.position()), (tail, head));
        let mut stored = [0; 8];
        setting.file.read_exact_at(&mut stored, DATA_TAIL as u64).expect("the tail");
        assert_eq!(u64::from_ne_bytes(stored), if releases { head } else { tail });
    }
    // Nothing is left, however often one looks.
    for _ in 0..2 {
        let (again, _) = drain(&mut consumer);
        assert!(!again.iter().any(|item| matches!(item, Found::Record { .. })));
        consumer.wait(Some(Duration::ZERO)).expect("a wait");
    }
    let _ = (consumer.lost_total(), consumer.is_closed(), consumer.is_ready());
});

impl Image {
    /// The data area as the header places it, which an edit may have moved.
    fn data_area(&self, description: &Description) -> Vec<u8> {
        let file = [&self.header[..], &self.data].concat();
        let from = description.data_offset as usize;
        file[from..from + description.data_size as usize].to_vec()
    }
}
