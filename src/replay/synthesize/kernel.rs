//! The kernel's own code, and that of its modules.

use super::build_id::{module_notes, of_notes};
use super::lines::{hex, next_line, read_start};
use super::modules::{Loaded, Modules, files};
use super::{MISC_KERNEL, SynthesizeError, Synthesizer};
use crate::record::{AttrFlags, Body, BuildId, MappedFile, Mmap, Mmap2, Text};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What [`Synthesizer::kernel`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel itself.
    pub text: KernelText,
    /// Modules that have a record.
    pub modules: u64,
    /// Modules that have none, because their addresses are not shown.
    pub hidden_modules: u64,
    /// Lines of `/proc/modules` that say of no module where it is.
    pub malformed: u64,
}

/// Whether there is a record of the kernel's own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelText {
    /// There is: the code lies here.
    Written {
        /// Where it begins.
        addr: u64,
        /// Its bytes.
        len: u64,
    },
    /// There is none: `kernel.kptr_restrict` keeps addresses from this process.
    Hidden,
    /// There is none: `/proc/kallsyms` is not there, or has no `_text`, `_stext` and `_etext`.
    Absent,
}

/// The longest line of `/proc/kallsyms` that is read whole.
const LINE: usize = 1 << 10;

impl Synthesizer {
    /// `MMAP` records of the kernel's code, `[kernel.kallsyms]_text`, and of its modules; [`Kernel`] says whether there are
    /// any, since not everybody may know where they are. Those of modules are named by their files, or `[NAME]`.
    ///
    /// # Errors
    ///
    /// [`SynthesizeError`]
    pub fn kernel<E>(&mut self, out: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<Kernel, SynthesizeError<E>> {
        let path = self.proc().join("kallsyms");
        let found = match File::open(&path) {
            Ok(file) => find_text(&mut BufReader::with_capacity(64 << 10, file), &mut self.line),
            Err(error) => Err(error),
        };
        let text = match found {
            Ok(found) => found,
            Err(error) if is_absent(&error) => Found::default(),
            Err(error) => return Err(SynthesizeError::read(&path)(error)),
        };
        let text = text.result();
        if let (KernelText::Written { addr, len }, reference) = text {
            let name = [b"[kernel.kallsyms]", reference].concat();
            let notes = self.root.join("sys/kernel/notes");
            self.kernel_mapping(Loaded { addr, len }, addr, &name, || of_notes(&notes).ok(), out)?;
        }
        let path = self.proc().join("modules");
        let modules = match File::open(&path).and_then(|file| Modules::read(&mut BufReader::new(file))) {
            Ok(modules) => modules,
            Err(error) if is_absent(&error) => Modules::default(),
            Err(error) => return Err(SynthesizeError::read(&path)(error)),
        };
        self.modules(&modules, out)?;
        Ok(Kernel {
            text: text.0,
            modules: modules.loaded.len() as u64,
            hidden_modules: modules.hidden,
            malformed: modules.malformed,
        })
    }

    fn modules<E>(
        &mut self,
        modules: &Modules,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), SynthesizeError<E>> {
        if modules.loaded.is_empty() {
            return Ok(());
        }
        let release = read_start(&self.proc().join("sys/kernel/osrelease"), 1 << 10).unwrap_or_default();
        let release = Path::new(OsStr::from_bytes(release.trim_ascii()));
        let dir = Path::new("/lib/modules").join(release);
        let here = self.root.join("lib/modules").join(release.strip_prefix("/").unwrap_or(release));
        let files = files(&here, &modules.loaded);
        for (name, loaded) in &modules.loaded {
            let notes = module_notes(&self.root, Path::new(OsStr::from_bytes(name)));
            let path = match files.get(name) {
                // What begins with `/` stands for itself.
                Some(file) => dir.join(OsStr::from_bytes(file)).into_os_string().as_bytes().to_vec(),
                None => [b"[", &name[..], b"]"].concat(),
            };
            self.kernel_mapping(*loaded, 0, &path, || of_notes(&notes).ok(), out)?;
        }
        Ok(())
    }

    /// A record of the older kind, as of `perf`, unless build ids are wanted.
    fn kernel_mapping<E>(
        &mut self,
        Loaded { addr, len }: Loaded,
        pgoff: u64,
        name: &[u8],
        id: impl FnOnce() -> Option<BuildId>,
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), SynthesizeError<E>> {
        let (pid, tid, filename) = (u32::MAX, 0, Text::from(name));
        let is_by_id = self.records.contains(AttrFlags::MMAP2 | AttrFlags::BUILD_ID);
        let body = match is_by_id.then(id).flatten() {
            Some(id) => {
                let file = MappedFile::BuildId(id);
                Body::Mmap2(Mmap2 { pid, tid, addr, len, pgoff, file, prot: 0, flags: 0, filename })
            }
            None => Body::Mmap(Mmap { pid, tid, addr, len, pgoff, filename }),
        };
        self.to.emit(MISC_KERNEL, &body, out)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// The symbols between which the kernel's code lies.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    text: Option<u64>,
    stext: Option<u64>,
    etext: Option<u64>,
}

impl Found {
    /// And the symbol at which the code begins.
    fn result(&self) -> (KernelText, &'static [u8]) {
        let (addr, name): (_, &[u8]) = match self.text {
            Some(addr) => (Some(addr), b"_text"),
            None => (self.stext, b"_stext"),
        };
        let text = match (addr, self.etext) {
            (Some(0), Some(0)) => KernelText::Hidden,
            (Some(addr), Some(end)) if addr != 0 && addr < end => KernelText::Written { addr, len: end - addr },
            _ => KernelText::Absent,
        };
        (text, name)
    }
}

/// Looks through `ADDRESS TYPE NAME` and, for symbols of modules, `\t[MODULE]`; the kernel's come first.
fn find_text(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Found> {
    let mut found = Found::default();
    while next_line(from, LINE, line)? {
        if line.ends_with(b"]") && line.contains(&b'\t') {
            break;
        }
        let mut fields = line.splitn(3, |&byte| byte == b' ');
        let (Some(addr), Some(_), Some(name)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let place = match name {
            b"_text" => &mut found.text,
            b"_stext" => &mut found.stext,
            b"_etext" => &mut found.etext,
            _ => continue,
        };
        if place.is_none() {
            *place = hex(addr);
        }
        if found.text.is_some() && found.etext.is_some() {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use KernelText::{Absent, Hidden, Written};

    fn text(kallsyms: &[u8]) -> (KernelText, &'static str) {
        let (text, name) = find_text(&mut &kallsyms[..], &mut Vec::new()).unwrap().result();
        (text, std::str::from_utf8(name).unwrap())
    }

    #[test]
    fn the_kernels_code_is_found() {
        let x86 = b"0000000000000000 A fixed_percpu_data\nffffffff81000000 T _stext\nffffffff81000000 T _text\n\
            ffffffff81000010 t _text_poke\nffffffff82209988 T _etext\n";
        assert_eq!(text(x86), (Written { addr: 0xffffffff81000000, len: 0x1209988 }, "_text"));
        let without = b"c0008000 T _stext\nc0009000 T _etext";
        assert_eq!(text(without), (Written { addr: 0xc0008000, len: 0x1000 }, "_stext"));
    }

    #[test]
    fn code_that_is_hidden_is_told_from_none() {
        assert_eq!(text(b"0000000000000000 T _text\n0000000000000000 T _etext\n").0, Hidden);
        assert_eq!(text(b"").0, Absent);
        assert_eq!(text(b"ffffffff81000000 T _text\n").0, Absent);
        assert_eq!(text(b"2000 T _text\n1000 T _etext\n").0, Absent);
        assert_eq!(text(b"0 T _text\n1000 T _etext\n").0, Absent);
        // Symbols of a module are no symbols of the kernel.
        assert_eq!(text(b"1000 t _text\t[evil]\n1000 T _text\n2000 T _etext\n").0, Absent);
        assert_eq!(text(b"x T _text\n10000000000000000 T _etext\n\xff\n   \n_text _text _text\n").0, Absent);
        assert_eq!(text(&b"1".repeat(10_000)).0, Absent);
    }
}
