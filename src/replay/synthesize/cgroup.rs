//! The cgroups that are there.

use super::lines::{next_line, unescape};
use super::{Emitter, SynthesizeError, Synthesizer};
use crate::record::{AttrFlags, Body, Cgroup, Misc, Text};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The longest line of `/proc/mounts` that is read whole: a page for each of its fields.
const LINE: usize = 16 << 10;

impl Synthesizer {
    /// `CGROUP` records of all cgroups in the hierarchy that the kernel takes the cgroups of samples from: that of the
    /// controller perf_event, or else the unified one. Gives how many there are: 0 where none is mounted, or where
    /// [the flags](Self::records) have no `CGROUP`.
    ///
    /// The id is the inode of the cgroup's directory. On 64-bit machines that is the kernel's id, the one in samples, since
    /// Linux 5.5; elsewhere it is half of it.
    ///
    /// # Errors
    ///
    /// [`SynthesizeError`]
    pub fn cgroups<E>(&mut self, out: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<u64, SynthesizeError<E>> {
        if !self.records.contains(AttrFlags::CGROUP) {
            return Ok(0);
        }
        let mounts = self.proc().join("mounts");
        let mounted = File::open(&mounts).and_then(|file| hierarchy(&mut BufReader::new(file), &mut self.line));
        let Some(place) = mounted.map_err(SynthesizeError::read(&mounts))? else { return Ok(0) };
        let place = self.root.join(place.strip_prefix("/").unwrap_or(&place));
        walk(&place, &mut self.to, out)
    }
}

/// Where the cgroups of samples are mounted.
fn hierarchy(mounts: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<PathBuf>> {
    let mut unified = None;
    while next_line(mounts, LINE, line)? {
        let mut fields = line.split(|&byte| byte == b' ').skip(1);
        let (Some(place), Some(type_), Some(options)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if !place.starts_with(b"/") {
            continue;
        }
        let place = || PathBuf::from(OsString::from_vec(unescape(place, b" \t\n\\#")));
        match type_ {
            b"cgroup" if options.split(|&byte| byte == b',').any(|option| option == b"perf_event") => {
                return Ok(Some(place()));
            }
            b"cgroup2" if unified.is_none() => unified = Some(place()),
            _ => {}
        }
    }
    Ok(unified)
}

/// Parents before their children. What goes away meanwhile is left out.
fn walk<E>(
    place: &Path,
    to: &mut Emitter,
    out: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<u64, SynthesizeError<E>> {
    let mut count = 0;
    let mut open = vec![(place.to_owned(), std::fs::metadata(place).map_err(SynthesizeError::read(place))?.ino())];
    while let Some((dir, id)) = open.pop() {
        let below = dir.strip_prefix(place).unwrap_or(&dir).as_os_str().as_bytes();
        let path = [b"/", below].concat();
        to.emit(Misc::empty(), &Body::Cgroup(Cgroup { id, path: Text::from(&path[..]) }), out)?;
        count += 1;
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        // Not through links, of which a hierarchy has none.
        let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|type_| type_.is_dir()));
        open.extend(below.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.ino()))));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(mounts: &str) -> Option<PathBuf> {
        hierarchy(&mut mounts.as_bytes(), &mut Vec::new()).unwrap()
    }

    #[test]
    fn the_hierarchy_of_samples_is_found() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/uni\\040fied cgroup2 rw 0 0\n";
        assert_eq!(place(hybrid), Some("/sys/fs/cgroup/uni fied".into()));
        let both = format!("{hybrid}cgroup /c/perf cgroup rw,relatime,perf_event 0 0\n");
        assert_eq!(place(&both), Some("/c/perf".into()));
        assert_eq!(place("cgroup /c/cpu cgroup rw,cpu 0 0\n"), None);
        assert_eq!(place("cgroup2 /first cgroup2 rw 0 0\ncgroup2 /second cgroup2 rw 0 0"), Some("/first".into()));
        for hostile in ["", "\n\n", "cgroup2", "cgroup2 /x cgroup2", " cgroup2 cgroup2 ", "\u{0}"] {
            assert_eq!(place(hostile), None, "{hostile:?}");
        }
    }
}
