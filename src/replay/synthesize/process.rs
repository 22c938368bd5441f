//! Processes: their threads, names, namespaces and mappings.

use super::build_id::of_file;
use super::lines::{decimal, next_line, read_start};
use super::maps::{LINE, Mapping, PROT_EXEC, PROT_READ};
use super::{MISC_USER, SynthesizeError, Synthesizer};
use crate::record::{AttrFlags, Body, BuildId, Comm, MappedFile, Misc, Mmap, Mmap2, Namespaces, Task, Text, Words};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader};
use std::ops::AddAssign;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What [`Synthesizer::process`] and [`Synthesizer::all_processes`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// Processes that were there.
    pub processes: u64,
    /// Their threads.
    pub threads: u64,
    /// Records of mappings.
    pub mappings: u64,
    /// Processes and threads that ended before all was read: nothing, or not all, is said of them.
    pub gone: u64,
    /// Processes and threads of which not all could be read for lack of privileges, as mappings of another user.
    pub denied: u64,
    /// Files and lines of procfs that are not as they should be. What they say is left out.
    pub malformed: u64,
}

impl AddAssign for Processes {
    fn add_assign(&mut self, other: Self) {
        self.processes += other.processes;
        self.threads += other.threads;
        self.mappings += other.mappings;
        self.gone += other.gone;
        self.denied += other.denied;
        self.malformed += other.malformed;
    }
}

/// The most that is read of a file that is small.
const SMALL: u64 = 64 << 10;
/// Bytes of a name, without a NUL (`TASK_COMM_LEN`).
const COMM: usize = 15;

/// Why something of a task cannot be read.
enum Failure {
    Gone,
    Denied,
    Other(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Self::Gone,
            _ if error.kind() == io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Other(error),
        }
    }
}

impl Failure {
    /// Counts it, or fails.
    fn count<E>(self, counts: &mut Processes, path: &Path) -> Result<(), SynthesizeError<E>> {
        match self {
            Self::Gone => counts.gone += 1,
            Self::Denied => counts.denied += 1,
            Self::Other(error) => return Err(SynthesizeError::read(path)(error)),
        }
        Ok(())
    }
}

/// The value, or else the failure is counted and `$otherwise` follows.
macro_rules! or_count {
    ($result:expr, $counts:expr, $path:expr, $otherwise:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => {
                Failure::from(error).count($counts, $path)?;
                $otherwise
            }
        }
    };
}

impl Synthesizer {
    /// The records of a process, by the id of any of its threads: of each thread `NAMESPACES` and `COMM`, and of the process
    /// its mappings, `MMAP2` or `MMAP`; of these, those that [the flags](Self::records) ask for. One that is not there any
    /// more is no error.
    ///
    /// Mappings have the names that the kernel gives them in records: `//anon` for memory without a file, ` (deleted)` behind
    /// a file that was. The text of `/proc/PID/maps` writes `\012` for a newline in a path; that is undone.
    ///
    /// # Errors
    ///
    /// [`SynthesizeError`]
    pub fn process<E>(
        &mut self,
        pid: u32,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Processes, SynthesizeError<E>> {
        let mut counts = Processes::default();
        self.describe(pid, false, &mut counts, out)?;
        Ok(counts)
    }

    /// The records of all processes there are, in the order of their ids: as those of [one](Self::process), and before what
    /// else there is of a thread a `FORK` if [the flags](Self::records) have `TASK`. A process is started by its parent, and a
    /// thread by the first of its process, which is all that procfs knows.
    ///
    /// # Errors
    ///
    /// [`SynthesizeError`]
    pub fn all_processes<E>(
        &mut self,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Processes, SynthesizeError<E>> {
        let (mut counts, proc) = (Processes::default(), self.proc());
        for pid in ids(&proc).map_err(SynthesizeError::read(&proc))? {
            self.describe(pid, true, &mut counts, out)?;
        }
        Ok(counts)
    }

    fn describe<E>(
        &mut self,
        id: u32,
        with_forks: bool,
        counts: &mut Processes,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), SynthesizeError<E>> {
        let path = self.proc().join(id.to_string()).join("status");
        let status = or_count!(read_start(&path, SMALL), counts, &path, return Ok(()));
        let Some(Status { tgid: pid, ppid }) = Status::parse(&status) else {
            counts.malformed += 1;
            return Ok(());
        };
        let tasks = self.proc().join(pid.to_string()).join("task");
        let mut tids = or_count!(ids(&tasks), counts, &tasks, return Ok(()));
        // The first thread first: the others are known by it.
        tids.sort_by_key(|&tid| (tid != pid, tid));
        let mut is_mapped = !self.records.intersects(AttrFlags::MMAP | AttrFlags::MMAP2);
        let mut is_there = false;
        for tid in tids {
            let task = tasks.join(tid.to_string());
            let path = task.join("comm");
            let comm = or_count!(read_start(&path, SMALL), counts, &path, continue);
            counts.processes += u64::from(!is_there);
            counts.threads += 1;
            is_there = true;
            if with_forks && self.records.contains(AttrFlags::TASK) {
                let parent = if tid == pid { ppid } else { pid };
                let fork = Task { pid, ppid: parent, tid, ptid: parent, time: 0 };
                // It says that the mappings are not those of the parent.
                self.to.emit(Misc::FORK_EXEC, &Body::Fork(fork), out)?;
            }
            if self.records.contains(AttrFlags::NAMESPACES) {
                match namespaces(&task.join("ns")) {
                    Ok(links) => {
                        let body = Namespaces { pid, tid, links: Words::from(&links) };
                        self.to.emit(Misc::empty(), &Body::Namespaces(body), out)?;
                    }
                    Err(failure) => failure.count(counts, &task)?,
                }
            }
            if self.records.contains(AttrFlags::COMM) {
                let body = Comm { pid, tid, comm: Text::from(name_of(&comm)) };
                self.to.emit(Misc::empty(), &Body::Comm(body), out)?;
            }
            // A first thread that ended before the others has no mappings any more; theirs are the process's.
            if !is_mapped {
                is_mapped = self.mappings(pid, &task, counts, out)?;
            }
        }
        Ok(())
    }

    /// The records of a process's mappings; whether there was any mapping, or else no reason to ask another thread.
    fn mappings<E>(
        &mut self,
        pid: u32,
        task: &Path,
        counts: &mut Processes,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, SynthesizeError<E>> {
        let path = task.join("maps");
        let mut maps = match File::open(&path) {
            Ok(file) => BufReader::new(file),
            Err(error) => {
                let failure = Failure::from(error);
                let is_denied = matches!(failure, Failure::Denied);
                failure.count(counts, &path)?;
                return Ok(is_denied);
            }
        };
        let mut is_any = false;
        while or_count!(next_line(&mut maps, LINE, &mut self.line), counts, &path, return Ok(is_any)) {
            is_any = true;
            let Some(mapping) = Mapping::parse(&self.line).filter(|mapping| !mapping.name.contains(&0)) else {
                counts.malformed += 1;
                continue;
            };
            let is_code = mapping.prot & PROT_EXEC != 0;
            if !is_code && (!self.records.contains(AttrFlags::MMAP_DATA) || mapping.prot & PROT_READ == 0) {
                continue;
            }
            let filename = filename(task, &mapping);
            let is_by_id = self.records.contains(AttrFlags::MMAP2 | AttrFlags::BUILD_ID);
            let id = if is_by_id { build_id(task, &mapping, &filename) } else { None };
            let (addr, len, pgoff, tid) = (mapping.start, mapping.end - mapping.start, mapping.offset, pid);
            let filename = Text::from(&filename[..]);
            let body = if self.records.contains(AttrFlags::MMAP2) {
                let Mapping { maj, min, inode: ino, prot, flags, .. } = mapping;
                // Only the file system knows the generation.
                let inode = MappedFile::Inode { maj, min, ino, ino_generation: 0 };
                let file = id.map_or(inode, MappedFile::BuildId);
                Body::Mmap2(Mmap2 { pid, tid, addr, len, pgoff, file, prot, flags, filename })
            } else {
                Body::Mmap(Mmap { pid, tid, addr, len, pgoff, filename })
            };
            let misc = if is_code { MISC_USER } else { MISC_USER | Misc::MMAP_DATA };
            self.to.emit(misc, &body, out)?;
            counts.mappings += 1;
        }
        Ok(is_any)
    }
}

/// The link to a mapping's file, which says its name as it is. Not everybody may follow it.
fn link(task: &Path, mapping: &Mapping<'_>) -> PathBuf {
    // Of the process: its threads have no such directory.
    let process = task.parent().and_then(Path::parent).unwrap_or(task);
    process.join("map_files").join(format!("{:x}-{:x}", mapping.start, mapping.end))
}

fn filename<'a>(task: &Path, mapping: &Mapping<'a>) -> Cow<'a, [u8]> {
    // A path with a newline and one with a backslash and three digits look the same.
    if mapping.is_escaped()
        && let Ok(target) = std::fs::read_link(link(task, mapping))
        && mapping.is_named(target.as_os_str().as_bytes())
    {
        return Cow::Owned(target.into_os_string().into_vec());
    }
    mapping.filename()
}

fn build_id(task: &Path, mapping: &Mapping<'_>, filename: &[u8]) -> Option<BuildId> {
    if mapping.inode == 0 || !filename.starts_with(b"/") {
        return None;
    }
    let path = filename.strip_prefix(b"/").unwrap_or(filename);
    let in_its_root = || task.join("root").join(OsStr::from_bytes(path));
    of_file(link(task, mapping)).or_else(|_| of_file(in_its_root())).ok()
}

/// The entries of a directory that are numbers, in their order.
fn ids(dir: &Path) -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let id = decimal(entry?.file_name().as_bytes()).and_then(|id| u32::try_from(id).ok());
        ids.extend(id);
    }
    ids.sort_unstable();
    Ok(ids)
}

/// The name in a file `comm`, which ends in a newline that is not part of it.
fn name_of(comm: &[u8]) -> &[u8] {
    let name = comm.strip_suffix(b"\n").unwrap_or(comm);
    // Threads of the kernel may have longer names here than elsewhere.
    let name = name.get(..COMM).unwrap_or(name);
    name.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Device and inode of each namespace; 0 for those that this kernel does not have.
fn namespaces(dir: &Path) -> Result<[u64; 14], Failure> {
    let (mut links, mut is_any) = ([0; 14], false);
    for (link, name) in links.as_chunks_mut::<2>().0.iter_mut().zip(Namespaces::NAMES) {
        match std::fs::metadata(dir.join(name)).map_err(Failure::from) {
            Ok(namespace) => (*link, is_any) = ([namespace.dev(), namespace.ino()], true),
            Err(Failure::Gone) => {}
            Err(failure) => return Err(failure),
        }
    }
    if is_any { Ok(links) } else { Err(Failure::Gone) }
}

/// What is needed of `/proc/PID/status`.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    tgid: u32,
    ppid: u32,
}

impl Status {
    fn parse(text: &[u8]) -> Option<Self> {
        // A newline in a task's name is escaped, so that names cannot pretend to be other lines.
        let value = |name: &[u8]| {
            let line = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name))?;
            u32::try_from(decimal(line.trim_ascii())?).ok()
        };
        Some(Self { tgid: value(b"Tgid:")?, ppid: value(b"PPid:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_may_hold_anything() {
        let text = b"Name:\tx\\nTgid:\t9\nState:\tS (sleeping)\nTgid:\t28989\nPid:\t28990\nPPid:\t1\n";
        assert_eq!(Status::parse(text), Some(Status { tgid: 28989, ppid: 1 }));
        for hostile in
            [&b""[..], b"Tgid:\t1\n", b"Tgid:\t-1\nPPid:\t1", b"Tgid:\nPPid:\n", b"Tgid: 4294967296\nPPid: 1"]
        {
            assert_eq!(Status::parse(hostile), None, "{}", hostile.escape_ascii());
        }
    }

    #[test]
    fn names_are_as_long_as_the_kernels() {
        assert_eq!(name_of(b"sleep\n"), b"sleep");
        assert_eq!(name_of(b"a\nb\n\n"), b"a\nb\n");
        assert_eq!(name_of(b"\n"), b"");
        assert_eq!(name_of(b"kworker/0:0H-events_highpri\n"), b"kworker/0:0H-ev");
        assert_eq!(name_of(b"a\0b\n"), b"a");
    }
}
