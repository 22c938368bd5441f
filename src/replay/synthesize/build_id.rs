//! Build ids: the note by which a linker tells every build of a file from all others.

use super::lines::{next_line, read_start};
use super::maps::{LINE, Mapping};
use crate::record::BuildId;
use object::elf::{ELF_NOTE_GNU, FileHeader32, FileHeader64, NT_GNU_BUILD_ID, PT_NOTE, SHT_NOTE};
use object::endian::Endianness;
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader as _, SectionHeader as _};
use object::read::{FileKind, ReadCache, ReadRef};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the build id of a file is not known.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildIdError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a device, a pipe: opening those may wait, or do something.
    #[error("{} is no regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// It is no ELF file, or a damaged one.
    #[error("{} is no ELF file that can be read: {reason}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It has no note with a build id: linked without `--build-id`, or stripped of it.
    #[error("{} has no build id", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// Records have room for 20 bytes.
    #[error("the build id of {} has {len} bytes; records have room for 1 to 20", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes of the build id.
        len: usize,
    },
}

/// What is found where build ids are looked for.
enum Note {
    Absent,
    Length(usize),
    Found(BuildId),
}

impl Note {
    fn of(id: &[u8]) -> Self {
        match BuildId::new(id) {
            Some(found) if !id.is_empty() => Self::Found(found),
            _ => Self::Length(id.len()),
        }
    }

    fn or_error(self, path: &Path) -> Result<BuildId, BuildIdError> {
        let path = || path.to_owned();
        match self {
            Self::Found(id) => Ok(id),
            Self::Absent => Err(BuildIdError::Absent { path: path() }),
            Self::Length(len) => Err(BuildIdError::Length { path: path(), len }),
        }
    }
}

/// The build id of an ELF file, of any architecture.
///
/// Only the file's headers and notes are read, and at most 16 MiB of them, whatever they say.
///
/// ```
/// use perfring::replay::synthesize::build_id;
/// match build_id::of_file("/proc/self/exe") {
///     Ok(id) => assert_eq!(id.to_string().len(), 2 * id.as_bytes().len()),
///     Err(error) => eprintln!("{error}"),
/// }
/// ```
///
/// # Errors
///
/// [`BuildIdError`]
pub fn of_file(path: impl AsRef<Path>) -> Result<BuildId, BuildIdError> {
    let path = path.as_ref();
    let read = |source| BuildIdError::Read { path: path.to_owned(), source };
    let not_regular = || BuildIdError::NotRegular { path: path.to_owned() };
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(not_regular());
    }
    // Should it be another file by now, opening it does not wait.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(read)?;
    if !file.metadata().map_err(read)?.is_file() {
        return Err(not_regular());
    }
    let (cache, budget) = (ReadCache::new(file), Cell::new(BUDGET));
    let found = in_elf(Bounded { bytes: &cache, budget: &budget });
    found.map_err(|reason| BuildIdError::Elf { path: path.to_owned(), reason })?.or_error(path)
}

/// The build id of the running kernel, from `/sys/kernel/notes`.
///
/// # Errors
///
/// [`BuildIdError`]
pub fn of_kernel() -> Result<BuildId, BuildIdError> {
    of_notes(Path::new("/sys/kernel/notes"))
}

/// The build id of a module that is loaded, from `/sys/module/NAME/notes/.note.gnu.build-id`.
///
/// # Errors
///
/// [`BuildIdError`]
pub fn of_module(name: &str) -> Result<BuildId, BuildIdError> {
    of_notes(&module_notes(Path::new("/"), name.as_ref()))
}

pub(super) fn module_notes(root: &Path, name: &Path) -> PathBuf {
    // A name is no path: one with a slash in it, or `..`, is not found.
    let name = name.file_name().filter(|last| *last == name.as_os_str()).unwrap_or_default();
    root.join("sys/module").join(name).join("notes/.note.gnu.build-id")
}

/// The build id of the code that the kernel maps into processes, `[vdso]`: that of this process, so of programs of its width.
///
/// # Errors
///
/// [`BuildIdError`]
pub fn of_vdso() -> Result<BuildId, BuildIdError> {
    let path = Path::new("/proc/self/maps");
    let read = |source| BuildIdError::Read { path: path.to_owned(), source };
    let (mut maps, mut line) = (BufReader::new(File::open(path).map_err(read)?), Vec::new());
    while next_line(&mut maps, LINE, &mut line).map_err(read)? {
        let Some(mapping) = Mapping::parse(&line).filter(|mapping| mapping.name == b"[vdso]") else { continue };
        let memory = Path::new("/proc/self/mem");
        let len = (mapping.end - mapping.start).min(SMALL);
        let mut bytes = vec![0; len as usize];
        let read = File::open(memory).and_then(|file| file.read_exact_at(&mut bytes, mapping.start));
        read.map_err(|source| BuildIdError::Read { path: memory.to_owned(), source })?;
        let budget = Cell::new(BUDGET);
        let found = in_elf(Bounded { bytes: &bytes[..], budget: &budget });
        let damaged = |reason| BuildIdError::Elf { path: memory.to_owned(), reason };
        return found.map_err(damaged)?.or_error(Path::new("[vdso]"));
    }
    Err(BuildIdError::Absent { path: path.to_owned() })
}

/// The build id among the notes of a file that has nothing else, in this machine's byte order.
pub(super) fn of_notes(path: &Path) -> Result<BuildId, BuildIdError> {
    let notes = read_start(path, SMALL).map_err(|source| BuildIdError::Read { path: path.to_owned(), source })?;
    in_raw_notes(&notes).or_error(path)
}

/// The most that is read of what is small.
const SMALL: u64 = 1 << 20;
/// The most that is read of a file.
const BUDGET: u64 = 16 << 20;

/// What is read of a file, but for more than there is leave for: counts and sizes in a file are not to be believed.
#[derive(Clone, Copy)]
struct Bounded<'a, R> {
    bytes: R,
    budget: &'a Cell<u64>,
}

impl<'a, R: ReadRef<'a>> ReadRef<'a> for Bounded<'a, R> {
    fn len(self) -> Result<u64, ()> {
        self.bytes.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        let left = self.budget.get().checked_sub(size).ok_or(())?;
        self.budget.set(left);
        self.bytes.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let end = range.end.min(range.start.saturating_add(self.budget.get()));
        let found = self.bytes.read_bytes_at_until(range.start..end, delimiter)?;
        self.budget.set(self.budget.get().saturating_sub(found.len() as u64));
        Ok(found)
    }
}

fn in_elf<'a>(data: impl ReadRef<'a>) -> Result<Note, String> {
    let reason = |error: object::Error| error.to_string();
    match FileKind::parse(data).map_err(reason)? {
        FileKind::Elf32 => in_class::<FileHeader32<Endianness>>(data).map_err(reason),
        FileKind::Elf64 => in_class::<FileHeader64<Endianness>>(data).map_err(reason),
        kind => Err(format!("it is of another kind: {kind:?}")),
    }
}

fn in_class<'a, Elf>(data: impl ReadRef<'a>) -> Result<Note, object::Error>
where
    Elf: FileHeader<Endian = Endianness, Word: From<u32>>,
{
    let header = Elf::parse(data)?;
    let endian = header.endian()?;
    // Linkers align notes to 4 or 8, whatever else a header says.
    let notes = |align: u64, bytes| match NoteIterator::<Elf>::new(endian, if align == 8 { 8 } else { 4 }.into(), bytes)
    {
        Ok(notes) => in_notes(notes, endian),
        Err(_) => Note::Absent,
    };
    for segment in header.program_headers(endian, data)? {
        if segment.p_type(endian) == PT_NOTE
            && let Ok(bytes) = segment.data(endian, data)
            && let found @ (Note::Found(_) | Note::Length(_)) = notes(segment.p_align(endian).into(), bytes)
        {
            return Ok(found);
        }
    }
    // Modules of the kernel have sections only.
    for section in header.section_headers(endian, data)? {
        if section.sh_type(endian) == SHT_NOTE
            && let Ok(bytes) = section.data(endian, data)
            && let found @ (Note::Found(_) | Note::Length(_)) = notes(section.sh_addralign(endian).into(), bytes)
        {
            return Ok(found);
        }
    }
    Ok(Note::Absent)
}

fn in_raw_notes(bytes: &[u8]) -> Note {
    let endian = if cfg!(target_endian = "little") { Endianness::Little } else { Endianness::Big };
    // The headers of notes are the same in both classes.
    match NoteIterator::<FileHeader64<Endianness>>::new(endian, 4, bytes) {
        Ok(notes) => in_notes(notes, endian),
        Err(_) => Note::Absent,
    }
}

/// What stands before a note that is damaged is believed.
fn in_notes<Elf: FileHeader<Endian = Endianness>>(notes: NoteIterator<'_, Elf>, endian: Endianness) -> Note {
    notes
        .map_while(Result::ok)
        .find(|note| note.name() == ELF_NOTE_GNU && note.n_type(endian) == NT_GNU_BUILD_ID)
        .map_or(Note::Absent, |note| Note::of(note.desc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 20] = [7; 20];

    fn note(order_big: bool, name: &[u8], type_: u32, desc: &[u8]) -> Vec<u8> {
        let word = |value: u32| if order_big { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut note = Vec::new();
        [name.len() as u32, desc.len() as u32, type_].into_iter().for_each(|value| note.extend(word(value)));
        for part in [name, desc] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    /// An ELF file that is nothing but notes, in a segment or a section.
    fn elf(is_64: bool, is_big: bool, in_segment: bool, notes: &[u8]) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(is_64), 1 + u8::from(is_big), 1];
        file.resize(16, 0);
        let put = |file: &mut Vec<u8>, width: usize, value: u64| {
            let bytes =
                if is_big { value.to_be_bytes()[8 - width..].to_vec() } else { value.to_le_bytes()[..width].to_vec() };
            file.extend(bytes);
        };
        let word = if is_64 { 8 } else { 4 };
        let size: u64 = if is_64 { 64 } else { 52 };
        let (phentsize, shentsize) = if is_64 { (56, 64) } else { (32, 40) };
        let table = if in_segment { phentsize } else { 2 * shentsize };
        let at = size + table;
        [(2, 3), (2, 62), (4, 1)].into_iter().for_each(|(width, value)| put(&mut file, width, value));
        put(&mut file, word, 0);
        put(&mut file, word, if in_segment { size } else { 0 });
        put(&mut file, word, if in_segment { 0 } else { size });
        put(&mut file, 4, 0);
        let counts = if in_segment { [size, phentsize, 1, 0, 0, 0] } else { [size, 0, 0, shentsize, 2, 0] };
        counts.into_iter().for_each(|value| put(&mut file, 2, value));
        let len = notes.len() as u64;
        if in_segment {
            put(&mut file, 4, 4);
            if is_64 {
                put(&mut file, 4, 4);
            }
            [at, 0, 0, len, len].into_iter().for_each(|value| put(&mut file, word, value));
            if !is_64 {
                put(&mut file, 4, 4);
            }
            put(&mut file, word, 4);
        } else {
            file.resize(file.len() + shentsize as usize, 0);
            [0, 7].into_iter().for_each(|value| put(&mut file, 4, value));
            [0, 0, at, len].into_iter().for_each(|value| put(&mut file, word, value));
            [0, 0].into_iter().for_each(|value| put(&mut file, 4, value));
            [4, 0].into_iter().for_each(|value| put(&mut file, word, value));
        }
        assert_eq!(file.len() as u64, at);
        file.extend(notes);
        file
    }

    fn found(file: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let budget = Cell::new(BUDGET);
        Ok(match in_elf(Bounded { bytes: file, budget: &budget })? {
            Note::Found(id) => Some(id.as_bytes().to_vec()),
            Note::Absent => None,
            Note::Length(len) => panic!("{len} bytes"),
        })
    }

    #[test]
    fn notes_of_both_classes_and_orders_are_found() {
        for index in 0..8 {
            let (is_64, is_big, in_segment) = (index & 1 != 0, index & 2 != 0, index & 4 != 0);
            let notes = [
                note(is_big, b"GNU\0", 1, &[0; 16]),
                note(is_big, b"Xen\0", 3, &[1; 20]),
                note(is_big, b"GNU\0", 3, &ID),
            ];
            let file = elf(is_64, is_big, in_segment, &notes.concat());
            assert_eq!(found(&file), Ok(Some(ID.to_vec())), "{is_64} {is_big} {in_segment}");
            let without = elf(is_64, is_big, in_segment, &notes[..2].concat());
            assert_eq!(found(&without), Ok(None), "{is_64} {is_big} {in_segment}");
        }
    }

    #[test]
    fn damaged_files_are_no_more_than_that() {
        let file = elf(true, false, true, &note(false, b"GNU\0", 3, &ID));
        for len in 0..file.len() {
            assert!(!matches!(found(&file[..len]), Ok(Some(_))), "{len} bytes");
        }
        // Every byte of the headers, with every bit set: no panic, and no memory that the file does not have.
        for at in 0..120 {
            let mut damaged = file.clone();
            damaged[at] = 0xff;
            let _ = found(&damaged);
        }
        assert!(found(b"#!/bin/sh\necho this is a script\n").is_err());
    }

    #[test]
    fn sizes_of_files_are_not_believed() {
        // A file with a hole of a TiB, all of which is said to be notes.
        let path = std::env::temp_dir().join(format!("perfring-build-id-{}", std::process::id()));
        let mut file = elf(true, false, true, &note(false, b"GNU\0", 3, &ID));
        file[64 + 32..64 + 40].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        std::fs::write(&path, &file).unwrap();
        let grown = OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40);
        let result = of_file(&path);
        std::fs::remove_file(&path).unwrap();
        // Some file systems have no files so large.
        if grown.is_ok() {
            assert!(matches!(result, Err(BuildIdError::Absent { .. })), "{result:?}");
        }
    }

    #[test]
    fn build_ids_have_to_fit() {
        for len in [0, 21, 32] {
            let file = elf(true, false, true, &note(false, b"GNU\0", 3, &vec![1; len]));
            let budget = Cell::new(BUDGET);
            let found = in_elf(Bounded { bytes: &file[..], budget: &budget });
            assert!(matches!(found, Ok(Note::Length(is)) if is == len));
        }
        let short = elf(true, false, true, &note(false, b"GNU\0", 3, &[1; 8]));
        assert_eq!(found(&short), Ok(Some(vec![1; 8])));
    }

    #[test]
    fn devices_and_directories_are_not_opened() {
        for path in ["/dev/null", "/"] {
            assert!(matches!(of_file(path), Err(BuildIdError::NotRegular { .. })), "{path}");
        }
        assert!(matches!(of_file("/nowhere/at/all"), Err(BuildIdError::Read { .. })));
        assert!(matches!(of_module(".."), Err(BuildIdError::Read { .. })));
    }

    #[test]
    fn notes_alone_are_in_this_machines_order() {
        let is_big = cfg!(target_endian = "big");
        let notes = [note(is_big, b"Linux\0", 257, &[0]), note(is_big, b"GNU\0", 3, &ID)].concat();
        assert!(matches!(in_raw_notes(&notes), Note::Found(id) if id.as_bytes() == ID));
        assert!(matches!(in_raw_notes(&notes[..notes.len() - 1]), Note::Absent));
        assert!(matches!(in_raw_notes(&[]), Note::Absent));
    }
}
