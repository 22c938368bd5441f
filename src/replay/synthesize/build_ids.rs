//! Which files were mapped, and in which build.

use super::build_id::{module_notes, of_file, of_notes, of_vdso};
use super::modules::module_of;
use super::{MISC_KERNEL, MISC_USER};
use crate::record::user::HeaderBuildId;
use crate::record::{Body, BuildId, CpuMode, Decoded, EncodeError, Encoder, MappedFile, Misc, SampleId, Text, User};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The most files that are kept.
const FILES: usize = 1 << 16;
/// The most bytes of their names.
const BYTES: usize = 16 << 20;
/// The longest name, as for the kernel (`PATH_MAX`).
const NAME: usize = 4096;

const KERNEL: &[u8] = b"[kernel.kallsyms]";
const VDSO: &[u8] = b"[vdso]";

/// Collects the files that the mappings of a recording are of, and finds out which build each is, so that whoever reads the
/// recording does not take another for it.
///
/// [`observe`](Self::observe) is cheap, and for every record; [`resolve`](Self::resolve) reads the files, as late as after the
/// last record, but better while the processes still run: of those the very file that is mapped is found, also in another
/// mount namespace, or deleted. [`section`](Self::section) makes a file's feature section, [`records`](Self::records) the
/// records of a pipe.
///
/// ```
/// use perfring::record::{Attr, AttrFlags, ByteOrder, Decoder, Encoder};
/// use perfring::replay::synthesize::{BuildIds, Synthesizer};
///
/// let attr = Attr { flags: AttrFlags::MMAP | AttrFlags::MMAP2, ..Attr::default() };
/// let (decoder, mut files) = (Decoder::new(&attr)?, BuildIds::new());
/// Synthesizer::new(&attr)?.process(std::process::id(), &mut |record: &[u8]| {
///     files.observe(&decoder.decode(record).expect("a record that was just made"));
///     Ok::<(), std::io::Error>(())
/// })?;
/// files.resolve();
/// let mut section = Vec::new();
/// files.section(&Encoder::new(&attr, ByteOrder::NATIVE)?, &mut section)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BuildIds {
    files: BTreeMap<Box<[u8]>, Mapped>,
    bytes: usize,
    left_out: u64,
    root: PathBuf,
}

/// A file, and where it was seen first.
#[derive(Clone, Copy, Debug)]
struct Mapped {
    misc: Misc,
    pid: u32,
    start: u64,
    end: u64,
    id: Option<BuildId>,
    is_read: bool,
}

/// A file whose build is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildIdEntry<'a> {
    /// For whom it is code: the CPU mode of the kernel or of user space, and [`Misc::BUILD_ID_SIZE`].
    pub misc: Misc,
    /// Its name and build id.
    pub record: HeaderBuildId<'a>,
}

impl Default for BuildIds {
    fn default() -> Self {
        Self::new()
    }
}

impl BuildIds {
    /// None yet.
    pub fn new() -> Self {
        Self { files: BTreeMap::new(), bytes: 0, left_out: 0, root: PathBuf::from("/") }
    }

    /// Where `proc`, `sys` and the files are, if not in `/`, as for [`Synthesizer::root`](super::Synthesizer::root).
    #[must_use]
    pub fn root(mut self, path: impl Into<PathBuf>) -> Self {
        self.root = path.into();
        self
    }

    /// Takes note of the file if the record is a mapping with code: of files the first one of each name counts. Guests have
    /// files of their own, which are not looked at.
    pub fn observe(&mut self, record: &Decoded<'_>) {
        let (pid, addr, len, name, id) = match &record.body {
            Body::Mmap(mmap) => (mmap.pid, mmap.addr, mmap.len, mmap.filename, None),
            Body::Mmap2(mmap) => {
                let id = match mmap.file {
                    MappedFile::BuildId(id) if !id.as_bytes().is_empty() => Some(id),
                    _ => None,
                };
                (mmap.pid, mmap.addr, mmap.len, mmap.filename, id)
            }
            _ => return,
        };
        let misc = record.header.misc;
        let name = name.as_bytes();
        let (misc, name) = match misc.cpumode() {
            CpuMode::Kernel if name.starts_with(KERNEL) => (MISC_KERNEL, KERNEL),
            CpuMode::Kernel => (MISC_KERNEL, name),
            CpuMode::User if !misc.contains(Misc::MMAP_DATA) && is_file(name) => (MISC_USER, name),
            _ => return,
        };
        self.add(name, Mapped { misc, pid, start: addr, end: addr.saturating_add(len), id, is_read: id.is_some() });
    }

    fn add(&mut self, name: &[u8], mapped: Mapped) {
        if let Some(known) = self.files.get_mut(name) {
            if known.id.is_none() && mapped.id.is_some() {
                *known = mapped;
            }
            return;
        }
        if name.len() >= NAME || self.files.len() >= FILES || self.bytes + name.len() > BYTES {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        self.bytes += name.len();
        if let Entry::Vacant(place) = self.files.entry(name.into()) {
            place.insert(mapped);
        }
    }

    /// Mappings of files that were not taken note of: there were more than 65536 files, or 16 MiB of names, or a name longer
    /// than paths can be.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How many files there are, known by their build or not.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Reads the build ids of the files that were not looked at yet; gives of how many files it is known by now. Files that
    /// cannot be read, or have none, are not asked again.
    pub fn resolve(&mut self) -> usize {
        for (name, mapped) in &mut self.files {
            if !mapped.is_read {
                mapped.is_read = true;
                mapped.id = mapped.read(name, &self.root);
            }
        }
        self.iter().count()
    }

    /// The files whose build is known, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = BuildIdEntry<'_>> {
        self.files.iter().filter_map(|(name, mapped)| {
            let build_id = mapped.id.as_ref()?.as_bytes();
            let record = HeaderBuildId { pid: -1, build_id, filename: Text::from(&name[..]) };
            Some(BuildIdEntry { misc: mapped.misc | Misc::BUILD_ID_SIZE, record })
        })
    }

    /// Writes the feature section [`BUILD_ID`](crate::replay::perf_data::FeatureId::BUILD_ID) behind what `out` holds, in the
    /// byte order of the encoder: the records in it have the type 0.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; `out` is as it was then.
    pub fn section(&self, encoder: &Encoder, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let written = self.iter().try_for_each(|entry| {
            let at = out.len();
            entry.encode(encoder, out)?;
            out.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0);
            Ok(())
        });
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Hands on `HEADER_BUILD_ID` records, which a recording in a pipe has instead of the section.
    ///
    /// # Errors
    ///
    /// Those of `out`, as [`SynthesizeError::Out`](super::SynthesizeError::Out), and
    /// [`SynthesizeError::Encode`](super::SynthesizeError::Encode).
    pub fn records<E>(
        &self,
        encoder: &Encoder,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), super::SynthesizeError<E>> {
        let mut record = Vec::new();
        self.iter().try_for_each(|entry| {
            record.clear();
            entry.encode(encoder, &mut record)?;
            out(&record).map_err(super::SynthesizeError::Out)
        })
    }
}

impl BuildIdEntry<'_> {
    fn encode(&self, encoder: &Encoder, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let body = Body::User(User::HeaderBuildId(self.record));
        encoder.encode(self.misc, &body, &SampleId::default(), out).map(drop)
    }
}

/// Whether a name can be that of an ELF file, rather than of memory.
fn is_file(name: &[u8]) -> bool {
    let memory: [&[u8]; 4] = [b"//", b"/dev/zero", b"/anon_hugepage", b"/SYSV"];
    name == VDSO || name.starts_with(b"/") && !memory.iter().any(|memory| name.starts_with(memory))
}

impl Mapped {
    fn read(&self, name: &[u8], root: &Path) -> Option<BuildId> {
        if self.misc == MISC_KERNEL {
            return self.read_kernel(name, root);
        }
        if name == VDSO {
            return of_vdso().ok();
        }
        let process = root.join("proc").join(self.pid.to_string());
        let link = process.join("map_files").join(format!("{:x}-{:x}", self.start, self.end));
        // There may be something else by now.
        let is_it = std::fs::read_link(&link).is_ok_and(|target| target.as_os_str().as_bytes() == name);
        let path = Path::new(OsStr::from_bytes(name.strip_prefix(b"/").unwrap_or(name)));
        is_it
            .then(|| of_file(&link).ok())
            .flatten()
            .or_else(|| of_file(process.join("root").join(path)).ok())
            .or_else(|| of_file(root.join(path)).ok())
    }

    fn read_kernel(&self, name: &[u8], root: &Path) -> Option<BuildId> {
        if name == KERNEL {
            return of_notes(&root.join("sys/kernel/notes")).ok();
        }
        let bracketed = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]"));
        let module = bracketed.map(<[u8]>::to_vec).or_else(|| module_of(name))?;
        // What is loaded rather than what may be on the disk by now; without the latter for what is compressed.
        let loaded = of_notes(&module_notes(root, Path::new(OsStr::from_bytes(&module))));
        let file = || of_file(root.join(OsStr::from_bytes(name.strip_prefix(b"/")?))).ok();
        loaded.ok().or_else(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attr, ByteOrder, Decoder, Mmap, Mmap2};

    fn mmap(misc: Misc, name: &[u8]) -> (Misc, Body<'_>) {
        (misc, Body::Mmap(Mmap { pid: 0, tid: 0, addr: 1, len: u64::MAX, pgoff: 0, filename: Text::from(name) }))
    }

    fn observed(records: &[(Misc, Body<'_>)]) -> BuildIds {
        let attr = Attr::default();
        let (encoder, decoder) = (Encoder::new(&attr, ByteOrder::NATIVE).unwrap(), Decoder::new(&attr).unwrap());
        let mut files = BuildIds::new();
        for (misc, body) in records {
            let mut record = Vec::new();
            encoder.encode(*misc, body, &SampleId::default(), &mut record).unwrap();
            files.observe(&decoder.decode(&record).unwrap());
        }
        files
    }

    #[test]
    fn files_with_code_are_kept_once() {
        let guest = Misc::from_bits_retain(5);
        let files = observed(&[
            mmap(MISC_USER, b"/bin/true"),
            mmap(MISC_USER, b"/bin/true"),
            mmap(MISC_USER, b"[vdso]"),
            mmap(MISC_USER, b"[heap]"),
            mmap(MISC_USER, b"//anon"),
            mmap(MISC_USER, b"/dev/zero (deleted)"),
            mmap(MISC_USER | Misc::MMAP_DATA, b"/usr/share/data"),
            mmap(guest, b"/bin/guest"),
            mmap(MISC_KERNEL, b"[kernel.kallsyms]_text"),
            mmap(MISC_KERNEL, b"[kernel.kallsyms]_stext"),
            mmap(MISC_KERNEL, b"[ext4]"),
        ]);
        let names: Vec<_> = files.files.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, ["/bin/true", "[ext4]", "[kernel.kallsyms]", "[vdso]"]);
        assert_eq!((files.files(), files.left_out(), files.iter().count()), (4, 0, 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let long = vec![b'x'; NAME];
        let mut files = observed(&[mmap(MISC_KERNEL, &long), mmap(MISC_KERNEL, &long[1..])]);
        assert_eq!((files.files(), files.left_out()), (1, 1));
        let mapped = *files.files.values().next().unwrap();
        for index in 0..FILES + 7 {
            files.add(format!("/{index}").as_bytes(), mapped);
        }
        assert_eq!((files.files(), files.left_out()), (FILES, 1 + 8));
        // Of those that are known nothing is left out.
        files.add(b"/0", mapped);
        assert_eq!(files.left_out(), 9);
    }

    #[test]
    fn sections_and_records_say_the_same() {
        let id = BuildId::new(&[9; 16]).unwrap();
        let mapped = |name: &'static str, misc| {
            let (file, filename) = (MappedFile::BuildId(id), Text::from(name));
            let mmap = Mmap2 { pid: 1, tid: 1, addr: 0, len: 1, pgoff: 0, file, prot: 5, flags: 2, filename };
            (misc, Body::Mmap2(mmap))
        };
        let mut files = observed(&[
            mmap(MISC_USER, b"/has/none"),
            mapped("/a file", MISC_USER),
            mapped("[kernel.kallsyms]_text", MISC_KERNEL),
            mmap(MISC_USER, b"/a file"),
        ]);
        assert_eq!(files.resolve(), 2);
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let encoder = Encoder::new(&Attr::default(), order).unwrap();
            let mut section = vec![1];
            files.section(&encoder, &mut section).unwrap();
            let mut records = Vec::new();
            let mut out = |record: &[u8]| {
                assert_eq!(record.len() % 8, 0);
                records.push(record.to_vec());
                Ok::<(), std::convert::Infallible>(())
            };
            files.records(&encoder, &mut out).unwrap();
            let decoder = Decoder::empty(order);
            let read: Vec<_> = records
                .iter()
                .map(|record| {
                    let decoded = decoder.decode(record).unwrap();
                    let Body::User(User::HeaderBuildId(record)) = decoded.body else { panic!("{decoded:?}") };
                    (decoded.header.misc.bits(), record.pid, record.build_id, record.filename.to_str().unwrap())
                })
                .collect();
            let expected = [(0x8002, -1, &[9; 16][..], "/a file"), (0x8001, -1, &[9; 16][..], "[kernel.kallsyms]")];
            assert_eq!(read, expected);
            records.iter_mut().for_each(|record| record[..4].fill(0));
            assert_eq!(section[1..], records.concat());
        }
    }
}
