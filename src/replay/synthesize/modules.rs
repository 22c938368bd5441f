//! The modules of the kernel, and their files.

use super::lines::{decimal, hex, next_line};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// The longest line that is read whole, of `/proc/modules` and, up to the `:`, of `modules.dep`.
const LINE: usize = 8 << 10;
/// The most modules: more than any kernel has.
pub(super) const MODULES: usize = 1 << 16;
/// The most files that are looked at where there is no index of them.
const FILES: usize = 1 << 18;

/// Where a module's code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) addr: u64,
    pub(super) len: u64,
}

/// What `/proc/modules` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Modules {
    /// By name, in the file's order.
    pub(super) loaded: Vec<(Vec<u8>, Loaded)>,
    /// Modules whose addresses are not shown.
    pub(super) hidden: u64,
    /// Lines that are none, and modules beyond [`MODULES`].
    pub(super) malformed: u64,
}

impl Modules {
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let (mut modules, mut line) = (Self::default(), Vec::new());
        while next_line(from, LINE, &mut line)? {
            match parse(&line) {
                Some((_, Loaded { addr: 0, .. })) => modules.hidden += 1,
                Some((name, loaded)) if modules.loaded.len() < MODULES => modules.loaded.push((name.to_vec(), loaded)),
                _ => modules.malformed += 1,
            }
        }
        Ok(modules)
    }
}

/// `NAME SIZE REFERENCES USERS STATE ADDRESS`.
fn parse(line: &[u8]) -> Option<(&[u8], Loaded)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let name = fields.next().filter(|name| is_name(name))?;
    let len = decimal(fields.next()?)?;
    let addr = hex(fields.nth(3)?.strip_prefix(b"0x")?)?;
    Some((name, Loaded { addr, len }))
}

/// Names are made of letters; they become parts of paths.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// The name of the module that a file holds: compressed or not, with `_` where files may have `-`.
pub(super) fn module_of(path: &[u8]) -> Option<Vec<u8>> {
    let file = path.rsplit(|&byte| byte == b'/').next()?;
    let end = file.windows(3).rposition(|part| part == b".ko")?;
    let is_whole = matches!(file.get(end + 3..)?, b"" | b".gz" | b".xz" | b".zst");
    let name = file.get(..end).filter(|name| is_whole && is_name(name))?;
    Some(name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }).collect())
}

/// Which files the modules of these names come from, by name, as paths below `dir`, `/lib/modules/RELEASE`: by
/// `modules.dep`, or where there is none by looking through the directory.
pub(super) fn files(dir: &Path, names: &[(Vec<u8>, Loaded)]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found: BTreeMap<_, _> = names.iter().map(|(name, _)| (name.clone(), None)).collect();
    let mut add = |path: &[u8]| {
        // What comes first wins, as for modprobe(8).
        if let Some(file @ None) = module_of(path).and_then(|name| found.get_mut(&name)) {
            *file = Some(path.to_vec());
        }
    };
    match File::open(dir.join("modules.dep")) {
        // Paths alone are missing when it cannot be read to its end.
        Ok(index) => _ = by_index(&mut BufReader::new(index), &mut add),
        Err(_) => by_walk(dir, &mut add),
    }
    found.into_iter().filter_map(|(name, file)| Some((name, file?))).collect()
}

/// `PATH: PATHS OF WHAT IT NEEDS`.
fn by_index(from: &mut impl BufRead, add: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    while next_line(from, LINE, &mut line)? {
        if let Some(colon) = line.iter().position(|&byte| byte == b':') {
            add(&line[..colon]);
        }
    }
    Ok(())
}

fn by_walk(dir: &Path, add: &mut impl FnMut(&[u8])) {
    let (mut open, mut seen) = (vec![OsString::new()], 0);
    while let Some(below) = open.pop() {
        for entry in std::fs::read_dir(dir.join(&below)).into_iter().flatten().flatten() {
            seen += 1;
            if seen > FILES {
                return;
            }
            let mut path = below.as_bytes().to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(entry.file_name().as_bytes());
            match entry.file_type() {
                // Not through links: `build` and `source` lead elsewhere.
                Ok(type_) if type_.is_dir() => open.push(OsString::from_vec(path)),
                Ok(type_) if type_.is_file() => add(&path),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_modules_are_read() {
        let text = b"ext4 1155072 2 - Live 0xffffffffc0800000\n\
            mbcache 16384 1 ext4, Live 0xffffffffc07f0000 (OE)\n\
            hidden 4096 0 - Live 0x0000000000000000\n\
            # no module\n\
            \n\
            short 4096 0 -\n\
            ../up 4096 0 - Live 0x1000\n\
            minus -1 0 - Live 0x1000\n\
            plain 4096 0 - Live 1000\n";
        let modules = Modules::read(&mut &text[..]).unwrap();
        let loaded = |addr, len| Loaded { addr, len };
        let expected = Modules {
            loaded: vec![
                (b"ext4".to_vec(), loaded(0xffffffffc0800000, 1155072)),
                (b"mbcache".to_vec(), loaded(0xffffffffc07f0000, 16384)),
            ],
            hidden: 1,
            malformed: 6,
        };
        assert_eq!(modules, expected);
    }

    #[test]
    fn modules_are_not_without_number() {
        let text: String = (0..MODULES + 5).map(|index| format!("m{index} 1 0 - Live 0x1000\n")).collect();
        let modules = Modules::read(&mut text.as_bytes()).unwrap();
        assert_eq!((modules.loaded.len(), modules.malformed), (MODULES, 5));
    }

    #[test]
    fn files_name_modules() {
        let name = |path: &str| module_of(path.as_bytes()).map(|name| String::from_utf8(name).unwrap());
        assert_eq!(name("kernel/fs/ext4/ext4.ko").as_deref(), Some("ext4"));
        assert_eq!(name("kernel/snd-hda-intel.ko.xz").as_deref(), Some("snd_hda_intel"));
        assert_eq!(name("x.ko.zst").as_deref(), Some("x"));
        for other in ["", "/", ".ko", "x.kobject", "x.ko.bak", "x.o", "..ko/"] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn an_index_may_hold_anything() {
        let text = b"kernel/a-b.ko.xz: kernel/c.ko\nupdates/a_b.ko:\nno colon\n:\n\xff\xfe:\nkernel/c.ko:";
        let mut paths = Vec::new();
        by_index(&mut &text[..], &mut |path: &[u8]| paths.extend(module_of(path))).unwrap();
        assert_eq!(paths, [&b"a_b"[..], b"a_b", b"c"]);
    }
}
