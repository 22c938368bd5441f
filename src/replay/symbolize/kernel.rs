//! The functions of the running kernel, if it is the recorded one.

use super::elf::{Format, build_id};
use super::module::is_same;
use super::{Options, SymbolizeError};
use crate::record::{ByteOrder, MappedFile};
use crate::replay::Mapping;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// What is known of the running kernel.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// Whether it is the recorded one, once that was found out.
    is_recorded: Option<bool>,
    /// Its symbols, once they were read.
    symbols: Option<Option<Symbols>>,
}

/// The name that perf gives to the kernel. The symbol that tells how far it moved follows.
const NAME: &[u8] = b"[kernel.kallsyms]";

impl Kernel {
    /// Whether the running kernel is the recorded one.
    pub(super) fn is_recorded(
        &mut self,
        options: &Options,
        mapping: &Mapping,
        warnings: &mut Vec<SymbolizeError>,
    ) -> bool {
        if let Some(known) = self.is_recorded {
            return known;
        }
        let in_record = match mapping.file {
            Some(MappedFile::BuildId(id)) if mapping.filename().starts_with(NAME) => Some(id),
            _ => None,
        };
        let recorded =
            in_record.or_else(|| options.build_ids.get(NAME).copied()).filter(|id| !id.as_bytes().is_empty());
        let running = read(Path::new("/sys/kernel/notes"), 1 << 20).ok();
        let format = Format { is_64: size_of::<usize>() == 8, is_big: ByteOrder::NATIVE == ByteOrder::Big };
        let running = running.and_then(|notes| build_id(&notes, format));
        let is_recorded = match (recorded, running, &options.os_release) {
            (Some(recorded), Some(running), _) => {
                is_same(recorded, running) || differs(recorded.to_string(), running.to_string(), warnings)
            }
            (_, _, Some(recorded)) => match read(Path::new("/proc/sys/kernel/osrelease"), 1 << 10) {
                Ok(running) => {
                    let running = String::from_utf8_lossy(&running).trim_end().to_owned();
                    running == *recorded || differs(recorded.clone(), running, warnings)
                }
                Err(source) => {
                    warnings.push(SymbolizeError::Kernel { source });
                    false
                }
            },
            _ => {
                // Another mapping may tell.
                warnings.push(SymbolizeError::KernelUnknown);
                return false;
            }
        };
        self.is_recorded = Some(is_recorded);
        is_recorded
    }

    /// The function at an address of the kernel or of a module, and the distance from its start.
    pub(super) fn function(
        &mut self,
        mapping: &Mapping,
        ip: u64,
        warnings: &mut Vec<SymbolizeError>,
    ) -> Option<(&[u8], u64)> {
        if self.symbols.is_none() {
            self.symbols = Some(Symbols::load().map_err(|error| warnings.push(error)).ok());
        }
        let symbols = self.symbols.as_mut()?.as_mut()?;
        if let Some(reference) = mapping.filename().strip_prefix(NAME) {
            // Where this symbol was then, and where it is now: each start of a kernel may be elsewhere.
            let then = mapping.pgoff;
            let now = if reference.is_empty() { Some(then) } else { symbols.address_of(reference) };
            let Some(now) = now else {
                warnings.push(SymbolizeError::KernelMoved);
                return None;
            };
            return symbols.function(ip.wrapping_sub(then).wrapping_add(now), None);
        }
        let module = module_name(mapping.filename());
        let now = *symbols.modules.get(&module)?;
        symbols.function(ip.wrapping_sub(mapping.start).wrapping_add(now), Some(&module))
    }
}

fn differs(recorded: String, running: String, warnings: &mut Vec<SymbolizeError>) -> bool {
    warnings.push(SymbolizeError::KernelDiffers { recorded, running });
    false
}

/// The start of a file.
fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `/lib/modules/.../virtio-net.ko.xz` and `[virtio_net]` are `virtio_net`.
fn module_name(filename: &[u8]) -> Vec<u8> {
    let base = filename.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let base = base.strip_prefix(b"[").and_then(|base| base.strip_suffix(b"]")).unwrap_or(base);
    let end = base.windows(3).position(|part| part == b".ko").unwrap_or(base.len());
    base.iter().take(end).map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect()
}

/// `/proc/kallsyms`: addresses, and their lines from the name on.
#[derive(Debug)]
struct Symbols {
    text: Vec<u8>,
    functions: Vec<(u64, u32)>,
    /// Where modules begin.
    modules: HashMap<Vec<u8>, u64>,
    /// Where symbols are that mappings referred to.
    references: HashMap<Vec<u8>, Option<u64>>,
}

impl Symbols {
    const MAX_TEXT: u64 = 1 << 28;
    const MAX_REFERENCES: usize = 16;

    fn load() -> Result<Self, SymbolizeError> {
        let kernel = |source| SymbolizeError::Kernel { source };
        let text = read(Path::new("/proc/kallsyms"), Self::MAX_TEXT).map_err(kernel)?;
        let modules = match read(Path::new("/proc/modules"), Self::MAX_TEXT) {
            Ok(modules) => modules,
            // A kernel may be unable to load any.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(kernel(error)),
        };
        Self::new(text, &modules).ok_or(SymbolizeError::KernelHidden)
    }

    /// None if all addresses are hidden.
    fn new(text: Vec<u8>, modules: &[u8]) -> Option<Self> {
        let mut functions = Vec::new();
        let mut at = 0;
        for line in text.split(|byte| *byte == b'\n') {
            if let Some((address, kind, name_at)) = fields(line)
                && address != 0
                && matches!(kind, b't' | b'T' | b'w' | b'W')
                && let Ok(name_at) = u32::try_from(at + name_at)
            {
                functions.push((address, name_at));
            }
            at += line.len() + 1;
        }
        if functions.is_empty() {
            return None;
        }
        functions.sort_unstable();
        let module = |line: &[u8]| {
            let mut words = line.split(|byte| *byte == b' ');
            let name = words.next()?.to_vec();
            let address = words.find_map(|word| hexadecimal(word.strip_prefix(b"0x")?))?;
            Some((name, address)).filter(|(_, address)| *address != 0)
        };
        let modules = modules.split(|byte| *byte == b'\n').filter_map(module).collect();
        Some(Self { text, functions, modules, references: HashMap::new() })
    }

    /// A name, and the module that it is of.
    fn name_at(&self, at: u32) -> Option<(&[u8], Option<&[u8]>)> {
        let line = self.text.get(at as usize..)?.split(|byte| *byte == b'\n').next()?;
        let mut parts = line.splitn(2, |byte| *byte == b'\t');
        let name = parts.next()?;
        let module = parts.next().and_then(|module| module.strip_prefix(b"[")?.strip_suffix(b"]"));
        Some((name, module.filter(|module| !module.starts_with(b"__builtin__"))))
    }

    fn function(&self, address: u64, module: Option<&[u8]>) -> Option<(&[u8], u64)> {
        let before = self.functions.get(..self.functions.partition_point(|(start, _)| *start <= address))?;
        let (start, _) = *before.last()?;
        let there = before.iter().rev().take_while(|(at, _)| *at == start);
        let names = there.filter_map(|(_, at)| Some((*at, self.name_at(*at)?))).filter(|(_, (_, of))| *of == module);
        let (_, (name, _)) = names.max_by_key(|(at, (name, _))| self.rank(*at, name))?;
        Some((name, address - start))
    }

    /// Which of several names is taken, as in the symbol tables of programs.
    fn rank(&self, at: u32, name: &[u8]) -> (bool, bool, Reverse<usize>, usize) {
        let kind = (at as usize).checked_sub(2).and_then(|at| self.text.get(at)).copied().unwrap_or_default();
        let underscores = name.iter().take_while(|byte| **byte == b'_').count();
        (!kind.eq_ignore_ascii_case(&b'w'), kind.is_ascii_uppercase(), Reverse(underscores), name.len())
    }

    fn address_of(&mut self, name: &[u8]) -> Option<u64> {
        if let Some(known) = self.references.get(name) {
            return *known;
        }
        if self.references.len() >= Self::MAX_REFERENCES {
            return None;
        }
        let is_it = |(_, at): &&(u64, u32)| self.name_at(*at) == Some((name, None));
        let found = self.functions.iter().find(is_it).map(|(address, _)| *address);
        self.references.insert(name.to_vec(), found);
        found
    }
}

/// Address, type, and where the name begins.
fn fields(line: &[u8]) -> Option<(u64, u8, usize)> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let [b' ', kind, b' ', ..] = line.get(space..)? else { return None };
    Some((hexadecimal(line.get(..space)?)?, *kind, space + 3))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &[u8] = b"ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81000100 t __do_work
ffffffff81000100 T do_work
ffffffff81000100 W do_weak_work
ffffffff81000200 D data
ffffffff81000300 t trampoline\t[__builtin__ftrace]
ffffffffc0201000 t init\t[virtio_net]
ffffffffc0201080 t bpf_prog\t[bpf]
damaged
";
    const MODULES: &[u8] = b"virtio_net 86016 0 - Live 0xffffffffc0201000\nhidden 4096 0 - Live 0x0000000000000000\n";

    #[test]
    fn names_are_found_by_address_and_module() {
        let mut symbols = Symbols::new(KALLSYMS.to_vec(), MODULES).unwrap();
        let kernel = |symbols: &Symbols, address| {
            symbols.function(address, None).map(|(name, at)| (String::from_utf8(name.to_vec()).unwrap(), at))
        };
        assert_eq!(kernel(&symbols, 0xffff_ffff_8100_0010), Some(("_stext".into(), 0x10)));
        assert_eq!(kernel(&symbols, 0xffff_ffff_8100_0210), Some(("do_work".into(), 0x110)));
        assert_eq!(kernel(&symbols, 0xffff_ffff_8100_0300), Some(("trampoline".into(), 0)));
        assert_eq!(kernel(&symbols, 0xffff_ffff_c020_1010), None);
        assert_eq!(kernel(&symbols, 0xffff_ffff_8000_0000), None);
        assert_eq!(symbols.function(0xffff_ffff_c020_1010, Some(b"virtio_net")), Some((&b"init"[..], 0x10)));
        assert_eq!(symbols.function(0xffff_ffff_c020_1090, Some(b"virtio_net")), None);
        assert_eq!(symbols.address_of(b"_text"), Some(0xffff_ffff_8100_0000));
        assert_eq!(symbols.address_of(b"init"), None);
        assert_eq!(symbols.modules.len(), 1);
        assert_eq!(module_name(b"/lib/modules/6.1/kernel/drivers/net/virtio-net.ko.xz"), b"virtio_net");
        assert_eq!(module_name(b"[virtio_net]"), b"virtio_net");
    }

    #[test]
    fn hidden_addresses_are_no_symbols() {
        assert!(Symbols::new(b"0000000000000000 T _text\n0000000000000000 t f\n".to_vec(), b"").is_none());
        assert!(Symbols::new(Vec::new(), b"").is_none());
    }

    /// A recording of an earlier start of the same kernel, which was elsewhere.
    #[test]
    fn a_kernel_that_moved_is_followed() {
        let mut kernel = Kernel { is_recorded: Some(true), symbols: Some(Symbols::new(KALLSYMS.to_vec(), MODULES)) };
        let then = 0xffff_ffff_9a00_0000;
        let mapping = |name: &[u8], start| Mapping {
            kind: crate::replay::MappingKind::Kernel,
            start,
            len: 0x1000,
            pgoff: start,
            file: None,
            prot: None,
            flags: None,
            name: name.into(),
        };
        let mut warnings = Vec::new();
        let text = mapping(b"[kernel.kallsyms]_text", then);
        assert_eq!(kernel.function(&text, then + 0x104, &mut warnings), Some((&b"do_work"[..], 4)));
        let module = mapping(b"[virtio_net]", 0xffff_ffff_c040_0000);
        assert_eq!(kernel.function(&module, 0xffff_ffff_c040_0003, &mut warnings), Some((&b"init"[..], 3)));
        assert!(warnings.is_empty());
        let other = mapping(b"[kernel.kallsyms]_start", then);
        assert_eq!(kernel.function(&other, then, &mut warnings), None);
        assert!(matches!(warnings[..], [SymbolizeError::KernelMoved]));
    }
}
