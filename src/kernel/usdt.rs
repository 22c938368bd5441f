//! Statically defined probes of programs (USDT), as `sys/sdt.h` of SystemTap puts them into ELF files.

use std::path::Path;

use object::read::{Object as _, ObjectSection as _};

use super::symbol::{Elf, ElfProblem, offset_of, with_elf};
use crate::kernel::{Error, EventBuilder};

/// The section of the notes, and that whose address says how far others were moved since.
const NOTES: &str = ".note.stapsdt";
const BASE: &str = ".stapsdt.base";
/// The name and the type of a note.
const OWNER: &[u8] = b"stapsdt\0";
const TYPE: u32 = 3;

/// A place in a program where it has a statically defined probe. A probe may have several: where functions were inlined, say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsdtSite {
    /// Who defines it.
    pub provider: String,
    /// The probe.
    pub name: String,
    /// Where its arguments are at this place, in the syntax of the assembler, each behind its size: `-4@%edi 8@-16(%rbp)`. A size
    /// below 0 is that of a signed number.
    pub arguments: String,
    /// Where it is in the file.
    pub offset: u64,
    /// Where its semaphore is in the file: the counter that says whether somebody observes the probe. None: it has none.
    pub semaphore: Option<u64>,
}

/// The places of the statically defined probes of an ELF file, in the order of its notes. Needs the feature `symbols`.
///
/// # Errors
///
/// [`Error::ProbeFile`]; [`Error::ProbeElf`] for a file that is none, and for notes that are damaged, or lead to no code.
///
/// ```no_run
/// use perfring::kernel::{EventBuilder, Target, usdt_sites};
///
/// let path = "/usr/lib/x86_64-linux-gnu/libc.so.6";
/// for site in usdt_sites(path)?.iter().filter(|site| site.name == "setjmp") {
///     let event = EventBuilder::usdt(path, site)?.open(Target::CallingThread)?;
///     println!("{}", event.read()?.value);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn usdt_sites(path: impl AsRef<Path>) -> Result<Vec<UsdtSite>, Error> {
    with_elf(path.as_ref(), sites)
}

impl EventBuilder {
    /// A [`uprobe`](Self::uprobe) at a place that [`usdt_sites`] found in the same file. The kernel raises its semaphore while the event
    /// is there, in each process that has the file mapped and that the event observes.
    ///
    /// It raises what it finds in the first writable mapping of the semaphore's part of the file. Where a linker puts the end of what is
    /// protected after relocation (RELRO) into the same page of the file as the data, as lld does, that is the wrong one until the
    /// process has started: such a semaphore is raised in processes that run when the event is opened, but not in those that start
    /// later.
    ///
    /// # Errors
    ///
    /// Those of [`uprobe`](Self::uprobe), and of [`ref_ctr_offset`](Self::ref_ctr_offset); [`Error::ProbeElf`] for a semaphore that
    /// is beyond the first 4 GiB.
    pub fn usdt(path: impl AsRef<Path>, site: &UsdtSite) -> Result<Self, Error> {
        let path = path.as_ref();
        let builder = Self::uprobe(path, site.offset)?;
        match site.semaphore.map(u32::try_from) {
            None => Ok(builder),
            Some(Ok(semaphore)) => builder.ref_ctr_offset(semaphore),
            Some(Err(_)) => {
                Err(Error::ProbeElf { path: path.into(), reason: format!("the semaphore of {} is too far", site.name) })
            }
        }
    }
}

fn sites(elf: &Elf<'_>) -> Result<Vec<UsdtSite>, ElfProblem> {
    let base = elf.section_by_name(BASE).map(|section| section.address());
    let mut sites = Vec::new();
    for section in elf.sections().filter(|section| section.name() == Ok(NOTES)) {
        let data = section.data()?;
        let mut notes = Notes { bytes: data, at: 0, wide: elf.is_64(), little: elf.is_little_endian() };
        while let Some(found) = notes.next(base).map_err(ElfProblem::Damaged)? {
            let Found { provider, name, arguments, address, semaphore } = found;
            let no_code = |what: &str, address: u64| {
                let at = format!("{what} of the probe {provider}:{name} at {address:#x}");
                ElfProblem::Damaged(format!("{at} is in no segment that is loaded from the file"))
            };
            let offset = offset_of(elf, address).ok_or_else(|| no_code("a place", address))?;
            let semaphore = match semaphore {
                0 => None,
                at => Some(offset_of(elf, at).ok_or_else(|| no_code("the semaphore", at))?),
            };
            sites.push(UsdtSite { provider, name, arguments, offset, semaphore });
        }
    }
    Ok(sites)
}

/// What a note says.
struct Found {
    provider: String,
    name: String,
    arguments: String,
    address: u64,
    semaphore: u64,
}

struct Notes<'a> {
    bytes: &'a [u8],
    at: usize,
    wide: bool,
    little: bool,
}

impl<'a> Notes<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..len).ok_or_else(|| format!("the section {NOTES} ends within a note, at {}", self.at))?;
        self.at += len;
        Ok(taken)
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if self.little { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) }
    }

    fn word(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        Ok(self.number(bytes) as u32)
    }

    /// The part of a note that has this length, and what fills it up to a multiple of 4.
    fn part(&mut self, len: u32) -> Result<&'a [u8], String> {
        let bytes = self.take(len as usize)?;
        // The last need not be filled up.
        self.at = self.at.next_multiple_of(4);
        Ok(bytes)
    }

    /// The next note of a probe.
    fn next(&mut self, base: Option<u64>) -> Result<Option<Found>, String> {
        while self.at < self.bytes.len() {
            let at = self.at;
            let (name_len, len, type_) = (self.word()?, self.word()?, self.word()?);
            let owner = self.part(name_len)?;
            let bytes = self.part(len)?;
            if owner == OWNER && type_ == TYPE {
                return self.found(bytes, base).map(Some).ok_or_else(|| {
                    format!("the note at {at} of section {NOTES} does not say an address, a provider and a name")
                });
            }
        }
        Ok(None)
    }

    fn found(&self, bytes: &[u8], base: Option<u64>) -> Option<Found> {
        let size = if self.wide { 8 } else { 4 };
        let (numbers, texts) = bytes.split_at_checked(3 * size)?;
        let mut numbers = numbers.chunks_exact(size).map(|bytes| self.number(bytes));
        let [address, noted, semaphore] = [numbers.next()?, numbers.next()?, numbers.next()?];
        let mut texts = texts.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        let [provider, name] = [texts.next()?, texts.next().filter(|name| !name.is_empty())?];
        // Prelinking moves sections, and does not change notes.
        let moved = base.map_or(0, |base| base.wrapping_sub(noted));
        let semaphore = if semaphore == 0 { 0 } else { semaphore.wrapping_add(moved) };
        let arguments = texts.next()?;
        Some(Found { provider, name, arguments, address: address.wrapping_add(moved), semaphore })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(owner: &[u8], type_: u32, bytes: &[u8]) -> Vec<u8> {
        let mut note = [owner.len() as u32, bytes.len() as u32, type_].map(u32::to_le_bytes).concat();
        for part in [owner, bytes] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    fn all(bytes: &[u8], base: Option<u64>) -> Result<Vec<(u64, u64, String)>, String> {
        let mut notes = Notes { bytes, at: 0, wide: true, little: true };
        let mut found = Vec::new();
        while let Some(note) = notes.next(base)? {
            let text = format!("{}:{} {}", note.provider, note.name, note.arguments);
            found.push((note.address, note.semaphore, text));
        }
        Ok(found)
    }

    #[test]
    fn notes_say_where_probes_are() {
        let numbers = |semaphore: u64| [0x1000_u64, 0x500, semaphore].map(u64::to_le_bytes).concat();
        let one = [&numbers(0)[..], b"provider\0name\0-4@%edi\0"].concat();
        let two = [&numbers(0x2000)[..], b"p\0n\0\0"].concat();
        let bytes = [note(OWNER, TYPE, &one), note(b"GNU\0", 3, b"else"), note(OWNER, 4, b""), note(OWNER, TYPE, &two)]
            .concat();
        let expected = |moved: u64| {
            let first = (0x1000 + moved, 0, "provider:name -4@%edi".to_owned());
            vec![first, (0x1000 + moved, 0x2000 + moved, "p:n ".to_owned())]
        };
        assert_eq!(all(&bytes, None), Ok(expected(0)));
        assert_eq!(all(&bytes, Some(0x600)), Ok(expected(0x100)));
        for cut in 1..bytes.len() {
            if let Ok(found) = all(&bytes[..cut], None) {
                assert!(found.len() < 3, "{cut}");
            }
        }
        for wrong in [&numbers(0)[..20], &numbers(0)[..], b"\0", &[&numbers(0)[..], b"p\0\0\0"].concat()] {
            assert!(all(&note(OWNER, TYPE, wrong), None).is_err());
        }
        let huge = [8_u32, u32::MAX, TYPE].map(u32::to_le_bytes).concat();
        assert!(all(&[&huge[..], OWNER].concat(), None).is_err());
    }
}
