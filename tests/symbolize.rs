//! From addresses to functions: in this program, in programs that a compiler makes here, in the kernel, and as `perf` has it.

#![cfg(feature = "symbolize")]

mod common;

use common::{TempDir, lacks, skip};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use perfring::record::{
    Attr, Body, BuildId, ByteOrder, CpuMode, Decoder, Encoder, Ksymbol, MappedFile, Misc, Mmap2, SampleId,
};
use perfring::replay::symbolize::{ElfError, Options, Symbol, SymbolizeError, Symbolizer};
use perfring::replay::{AddressSpaces, Order, Recording};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

const PID: u32 = 77;
const USER: Misc = Misc::from_bits_retain(2);
const KERNEL: Misc = Misc::from_bits_retain(1);

fn observe(spaces: &mut AddressSpaces, misc: Misc, body: Body<'_>) {
    let attr = Attr::default();
    let mut bytes = Vec::new();
    Encoder::new(&attr, ByteOrder::NATIVE).unwrap().encode(misc, &body, &SampleId::default(), &mut bytes).unwrap();
    spaces.observe(&Decoder::new(&attr).unwrap().decode(&bytes).unwrap());
}

fn mmap(addr: u64, len: u64, pgoff: u64, filename: &str) -> Mmap2<'_> {
    let file = MappedFile::Inode { maj: 0, min: 0, ino: 0, ino_generation: 0 };
    Mmap2 { pid: PID, tid: PID, addr, len, pgoff, file, prot: 5, flags: 2, filename: filename.into() }
}

/// The functions at an offset of a file that is mapped somewhere.
fn symbols_at(symbolizer: &mut Symbolizer, filename: &str, build_id: Option<&[u8]>, offset: u64) -> Arc<[Symbol]> {
    let mut spaces = AddressSpaces::new();
    let page = offset & !0xfff;
    let (mut misc, mut map) = (USER, mmap(0x7f00_0000_0000, 0x1000, page, filename));
    if let Some(id) = build_id {
        misc |= Misc::MMAP_BUILD_ID;
        map.file = MappedFile::BuildId(BuildId::new(id).unwrap());
    }
    observe(&mut spaces, misc, Body::Mmap2(map));
    symbolizer.symbols(&spaces.resolve(PID, CpuMode::User, 0x7f00_0000_0000 + (offset - page)).unwrap())
}

fn names(symbols: &[Symbol]) -> Vec<&str> {
    symbols.iter().map(|symbol| &*symbol.name).collect()
}

/// Has a name.
#[inline(never)]
pub fn a_function_that_is_looked_for(number: u64) -> u64 {
    std::hint::black_box(number) + 1
}

#[test]
fn functions_of_this_program_are_found_by_its_mappings() {
    let address = a_function_that_is_looked_for as *const () as u64;
    assert_eq!(a_function_that_is_looked_for(1), 2);
    let mut spaces = AddressSpaces::new();
    for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next().unwrap_or("");
        let (range, _, pgoff, _, _, filename) = (word(), word(), word(), word(), word(), word());
        let (start, end) = range.split_once('-').unwrap();
        let [start, end, pgoff] = [start, end, pgoff].map(|digits| u64::from_str_radix(digits, 16).unwrap());
        observe(&mut spaces, USER, Body::Mmap2(mmap(start, end - start, pgoff, filename)));
    }
    let mut symbolizer = Symbolizer::new(Options::default());
    let location = spaces.resolve(PID, CpuMode::User, address).unwrap();
    let symbols = symbolizer.symbols(&location);
    assert_eq!(names(&symbols), ["symbolize::a_function_that_is_looked_for"]);
    assert_eq!(symbols[0].offset, Some(0));
    // Lines are known where the tests are built with debugging information.
    assert!(symbols[0].file.as_deref().is_none_or(|file| file.ends_with("tests/symbolize.rs")), "{symbols:?}");
    // The second time it comes from the cache.
    assert!(Arc::ptr_eq(&symbols, &symbolizer.symbols(&location)));
    assert!(symbolizer.warnings().is_empty(), "{:?}", symbolizer.warnings());

    // A function of the C library, by the symbols for the linker.
    let getpid = libc::getpid as *const () as u64;
    if let Some(location) = spaces.resolve(PID, CpuMode::User, getpid) {
        let found = symbolizer.symbols(&location);
        assert!(names(&found).first().is_some_and(|name| name.ends_with("getpid")), "{found:?}");
    }
}

const PROGRAM: &str = r#"
static volatile unsigned long sink;
__attribute__((always_inline)) static inline void perfring_inlined(unsigned long n) {
    for (unsigned long i = 0; i < n; i++) sink += i * i;
}
__attribute__((noinline)) void perfring_leaf(unsigned long n) { perfring_inlined(n); }
__attribute__((noinline)) void perfring_middle(unsigned long n) { perfring_leaf(n); sink++; }
__attribute__((noinline)) void perfring_outer(unsigned long n) { perfring_middle(n); sink++; }
int main(void) { for (int i = 0; i < 400; i++) perfring_outer(1000000); return 0; }
"#;

/// The program above, if there is a compiler that takes these arguments.
fn compile(dir: &Path, name: &str, args: &[&str]) -> Option<PathBuf> {
    compile_source(dir, name, PROGRAM, args)
}

fn compile_source(dir: &Path, name: &str, text: &str, args: &[&str]) -> Option<PathBuf> {
    let (source, program) = (dir.join(format!("{name}.c")), dir.join(name));
    std::fs::write(&source, text).unwrap();
    let output = Command::new("cc")
        .args(["-fno-omit-frame-pointer", "-Wl,--build-id"])
        .args(args)
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .output();
    match output {
        Ok(output) if output.status.success() => Some(program),
        Ok(output) => {
            lacks(format_args!("cc {args:?}: {}", String::from_utf8_lossy(&output.stderr)));
            None
        }
        Err(error) => {
            skip(format_args!("cc: {error}"));
            None
        }
    }
}

/// Whether a program of binutils did what it should.
fn run(program: &str, args: &[&Path]) -> bool {
    let result = Command::new(program).args(args).stdout(Stdio::null()).status();
    let fine = result.as_ref().is_ok_and(|status| status.success());
    if !fine {
        skip(format_args!("{program}: {result:?}"));
    }
    fine
}

/// Where in the file a function is, its size, and the file's build id.
fn place(program: &Path, function: &str) -> (u64, u64, Vec<u8>) {
    let bytes = std::fs::read(program).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let symbol = elf.symbols().find(|symbol| symbol.name() == Ok(function)).unwrap();
    let offset = elf.segments().find_map(|segment| {
        let inside = symbol.address().checked_sub(segment.address()).filter(|inside| *inside < segment.size())?;
        Some(segment.file_range().0 + inside)
    });
    (offset.unwrap(), symbol.size(), elf.build_id().unwrap().unwrap().to_vec())
}

#[test]
fn functions_are_found_wherever_a_linker_puts_them() {
    let dir = TempDir::new("symbolize-linked");
    // Not only position-independent ones: the address in the file is not the offset.
    for (name, args) in [
        ("pie", &["-O1", "-fPIE", "-pie"][..]),
        ("fixed", &["-O1", "-no-pie"]),
        ("moved", &["-O1", "-no-pie", "-Wl,-Ttext-segment=0x10000000"]),
        ("shared", &["-O1", "-fPIC", "-shared"]),
    ] {
        let Some(program) = compile(dir.path(), name, args) else { continue };
        let (offset, size, id) = place(&program, "perfring_middle");
        let path = program.to_str().unwrap();
        let mut symbolizer = Symbolizer::new(Options::default());
        for at in [0, size - 1] {
            let symbols = symbols_at(&mut symbolizer, path, Some(&id), offset + at);
            assert_eq!(names(&symbols), ["perfring_middle"], "{name}");
            assert_eq!((symbols[0].offset, &symbols[0].file), (Some(at), &None), "{name}");
        }
        assert_eq!(symbols_at(&mut symbolizer, path, None, 0x7fff_f000).len(), 0);
        assert!(symbolizer.warnings().is_empty(), "{:?}", symbolizer.warnings());
    }
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64"))]
fn stubs_have_the_names_of_what_they_call() {
    use object::ObjectSection as _;

    let dir = TempDir::new("symbolize-stubs");
    let calls = "#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) { return puts(\"x\") + rand() + getpid(); }
";
    for (name, args) in [
        ("lazy", &["-O1", "-Wl,-z,lazy"][..]),
        ("now", &["-O1", "-Wl,-z,now"]),
        ("checked", &["-O1", "-fcf-protection", "-Wl,-z,ibtplt"]),
    ] {
        let Some(program) = compile_source(dir.path(), name, calls, args) else { continue };
        let bytes = std::fs::read(&program).unwrap();
        let elf = object::File::parse(&*bytes).unwrap();
        let section = elf.section_by_name(".plt.sec").or_else(|| elf.section_by_name(".plt"));
        // The linker may have made them of another kind.
        let Some((start, len)) = section.and_then(|section| section.file_range()) else { continue };
        let mut symbolizer = Symbolizer::new(Options::default());
        let found: Vec<_> = (start..start + len)
            .step_by(16)
            .flat_map(|at| symbols_at(&mut symbolizer, program.to_str().unwrap(), None, at + 4).to_vec())
            .collect();
        let mut stubs = names(&found);
        stubs.retain(|name| ["puts@plt", "rand@plt", "getpid@plt"].contains(name));
        stubs.sort();
        assert_eq!(stubs, ["getpid@plt", "puts@plt", "rand@plt"], "{name}: {found:?}");
        assert!(found.iter().all(|symbol| symbol.offset == Some(4)), "{found:?}");
        assert!(symbolizer.warnings().is_empty(), "{:?}", symbolizer.warnings());
    }
}

/// The names at all bytes of the function into which another was inlined.
fn in_leaf(symbolizer: &mut Symbolizer, program: &Path, path: &str) -> Vec<Vec<String>> {
    let (offset, size, id) = place(program, "perfring_leaf");
    let symbols = (0..size).map(|at| symbols_at(symbolizer, path, Some(&id), offset + at));
    symbols
        .map(|symbols| {
            assert!(symbols.iter().rev().skip(1).all(|symbol| symbol.is_inlined), "{symbols:?}");
            assert!(symbols.last().is_some_and(|symbol| !symbol.is_inlined));
            symbols.iter().map(|symbol| symbol.name.to_string()).collect()
        })
        .collect()
}

#[test]
fn inlined_functions_are_found_in_dwarf() {
    let dir = TempDir::new("symbolize-dwarf");
    for (name, args) in [
        ("plain", &["-O2", "-g"][..]),
        ("dwarf4", &["-O2", "-g", "-gdwarf-4"]),
        ("zlib", &["-O2", "-g", "-gz=zlib"]),
        ("zstd", &["-O2", "-g", "-gz=zstd"]),
    ] {
        let Some(program) = compile(dir.path(), name, args) else { continue };
        let path = program.to_str().unwrap();
        let mut symbolizer = Symbolizer::new(Options::default());
        let found = in_leaf(&mut symbolizer, &program, path);
        assert!(found.contains(&vec!["perfring_inlined".into(), "perfring_leaf".into()]), "{name}: {found:?}");
        assert!(
            found.iter().all(|names| names.last().is_some_and(|name| name == "perfring_leaf")),
            "{name}: {found:?}"
        );
        let (offset, _, _) = place(&program, "perfring_leaf");
        let first = symbols_at(&mut symbolizer, path, None, offset);
        assert!(first[0].file.as_deref().is_some_and(|file| file.ends_with(&format!("{name}.c"))), "{first:?}");
        assert!(first[0].line.is_some_and(|line| (4..=6).contains(&line)), "{first:?}");
        assert!(symbolizer.warnings().is_empty(), "{:?}", symbolizer.warnings());

        let mut symbolizer = Symbolizer::new(Options { symbol_tables_only: true, ..Options::default() });
        let found = in_leaf(&mut symbolizer, &program, path);
        assert!(found.iter().all(|names| names == &["perfring_leaf"]), "{name}: {found:?}");
    }
}

#[test]
fn debugging_information_may_be_in_another_file_below_another_root() {
    let dir = TempDir::new("symbolize-split");
    let Some(program) = compile(dir.path(), "whole", &["-O2", "-g"]) else { return };
    let (root, path) = (dir.path().join("root"), "/opt/program");
    std::fs::create_dir_all(root.join("opt")).unwrap();
    let (stripped, debug) = (root.join("opt/program"), dir.path().join("debug"));
    let strip = run("objcopy", &["--strip-all".as_ref(), &program, &stripped])
        && run("objcopy", &["--only-keep-debug".as_ref(), &program, &debug]);
    if !strip {
        return;
    }
    let options = || Options { sysroot: Some(root.clone()), ..Options::default() };
    let (offset, _, id) = place(&program, "perfring_leaf");
    assert_eq!(symbols_at(&mut Symbolizer::new(options()), path, None, offset).len(), 0);

    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let by_id = root.join(format!("usr/lib/debug/.build-id/{}/{}.debug", &digits[..2], &digits[2..]));
    let by_path = root.join("usr/lib/debug/opt/program.debug");
    for place in [by_id, by_path] {
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(&debug, &place).unwrap();
        let mut symbolizer = Symbolizer::new(options());
        let found = in_leaf(&mut symbolizer, &program, path);
        assert!(found.contains(&vec!["perfring_inlined".into(), "perfring_leaf".into()]), "{found:?}");
        assert!(symbolizer.warnings().is_empty(), "{:?}", symbolizer.warnings());
        std::fs::remove_file(&place).unwrap();
    }

    // That of another program does not count.
    let Some(other) = compile(dir.path(), "other", &["-O1", "-g", "-Dsink=other"]) else { return };
    let place = root.join("usr/lib/debug/opt/program.debug");
    symlink(&other, &place).unwrap();
    let mut symbolizer = Symbolizer::new(options());
    assert_eq!(symbols_at(&mut symbolizer, path, None, offset).len(), 0);
    assert!(matches!(symbolizer.warnings(), [SymbolizeError::BuildId { path, .. }] if *path == place));
}

#[test]
fn another_file_than_the_recorded_one_is_not_used() {
    let dir = TempDir::new("symbolize-other");
    let Some(program) = compile(dir.path(), "program", &["-O1"]) else { return };
    let Some(without) = compile(dir.path(), "without", &["-O1", "-Wl,--build-id=none"]) else { return };
    let (offset, _, id) = place(&program, "perfring_outer");
    let path = program.to_str().unwrap();

    // The recording's list counts where the mapping says nothing.
    let other = BuildId::new(&[7; 20]).unwrap();
    let listed = |id| Options { build_ids: [(path.into(), id)].into(), ..Options::default() };
    let mut symbolizer = Symbolizer::new(listed(other));
    for _ in 0..2 {
        assert_eq!(symbols_at(&mut symbolizer, path, None, offset).len(), 0);
        assert_eq!(names(&symbols_at(&mut symbolizer, path, Some(&id), offset)), ["perfring_outer"]);
    }
    let [warning @ SymbolizeError::BuildId { recorded, found: Some(found), .. }] = symbolizer.warnings() else {
        panic!("{:?}", symbolizer.warnings())
    };
    assert_eq!((*recorded, found.as_bytes()), (other, &id[..]));
    assert!(warning.to_string().contains("0707"), "{warning}");

    // Older recordings fill build ids up.
    let mut padded = id.clone();
    padded.resize(BuildId::MAX, 0);
    let mut symbolizer = Symbolizer::new(listed(BuildId::new(&padded).unwrap()));
    assert_eq!(names(&symbols_at(&mut symbolizer, path, None, offset)), ["perfring_outer"]);
    // Where the recorded one was deleted there may still be the same.
    let deleted = format!("{path} (deleted)");
    assert_eq!(names(&symbols_at(&mut symbolizer, &deleted, Some(&id), offset)), ["perfring_outer"]);
    assert!(symbolizer.warnings().is_empty());
    assert_eq!(symbols_at(&mut symbolizer, &deleted, None, offset).len(), 0);

    let path = without.to_str().unwrap();
    assert_eq!(symbols_at(&mut symbolizer, path, Some(&id), 0x1000).len(), 0);
    assert!(matches!(symbolizer.warnings(), [.., SymbolizeError::BuildId { found: None, .. }]));
}

#[test]
fn names_of_what_is_no_program_lead_to_nothing() {
    let dir = TempDir::new("symbolize-hostile");
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut symbolizer = Symbolizer::new(Options::default());
    // No files, and so nothing to complain of.
    for name in ["", "//anon", "[heap]", "[vdso]", "/", "anon_inode:[perf_event]", "/../etc/passwd", "relative/path"] {
        assert_eq!(symbols_at(&mut symbolizer, name, None, 0).len(), 0, "{name}");
    }
    assert!(symbolizer.warnings().is_empty(), "{:?}", symbolizer.warnings());

    if !run("mkfifo", &[at("fifo").as_ref()]) {
        return;
    }
    std::fs::write(at("text"), "no program at all").unwrap();
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("short"), b"\x7fELF\x02\x01").unwrap();
    let big = std::fs::File::create(at("big")).unwrap();
    big.set_len(1 << 40).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    for (name, expected) in [
        (at("fifo"), "it is no regular file"),
        ("/dev/zero".into(), "it is no regular file"),
        (dir.path().to_str().unwrap().into(), "it is no regular file"),
        (at("text"), "it is no ELF file"),
        (at("empty"), "it is no ELF file"),
        (at("short"), "it is shorter than its header say"),
        (at("big"), "it has 1099511627776 bytes, more than are read of a file"),
        (at("missing"), "No such file or directory"),
        (at("loop"), "Too many levels of symbolic links"),
        ("/proc/self/maps".into(), "it is no ELF file"),
    ] {
        let mut symbolizer = Symbolizer::new(Options::default());
        assert_eq!(symbols_at(&mut symbolizer, &name, None, 0x1000).len(), 0, "{name}");
        assert_eq!(symbols_at(&mut symbolizer, &name, None, 0x2000).len(), 0, "{name}");
        let [SymbolizeError::File { source, .. }] = symbolizer.warnings() else {
            panic!("{name}: {:?}", symbolizer.warnings())
        };
        assert!(source.to_string().starts_with(expected), "{name}: {source}");
        assert_eq!(matches!(source, ElfError::NotRegular), expected == "it is no regular file");
    }
}

#[test]
fn there_are_only_so_many_warnings() {
    let mut symbolizer = Symbolizer::new(Options::default());
    for number in 0..Symbolizer::MAX_FILES + 10 {
        assert_eq!(symbols_at(&mut symbolizer, &format!("/nonexistent/{number}"), None, 0).len(), 0);
    }
    assert_eq!(symbolizer.warnings().len(), Symbolizer::MAX_WARNINGS);
    assert_eq!(symbolizer.warnings_left_out(), (Symbolizer::MAX_FILES + 10 - Symbolizer::MAX_WARNINGS) as u64);
}

/// Any damage gives wrong names or none, and nothing else.
#[test]
fn damaged_programs_are_no_trouble() {
    let dir = TempDir::new("symbolize-damaged");
    let Some(program) = compile(dir.path(), "program", &["-O2", "-g"]) else { return };
    let (offset, size, _) = place(&program, "perfring_leaf");
    let whole = std::fs::read(&program).unwrap();
    let damaged = dir.path().join("damaged");
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    // Headers stand at the start and at the end.
    let elf = object::File::parse(&*whole).unwrap();
    let mut targets = vec![0..1024, whole.len() - 2500..whole.len()];
    for name in [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str", ".debug_rnglists", ".symtab", ".strtab"] {
        use object::ObjectSection as _;
        let range = elf.section_by_name(name).and_then(|section| section.file_range());
        targets.extend(range.map(|(start, len)| start as usize..(start + len) as usize));
    }
    let mut changed = 0;
    for round in 0..1500 {
        let mut bytes = whole.clone();
        if round % 10 == 0 {
            bytes.truncate(random(whole.len()));
        } else {
            let target = &targets[random(targets.len())];
            for _ in 0..1 + random(4) {
                let at = target.start + random(target.len());
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
            }
        }
        std::fs::write(&damaged, &bytes).unwrap();
        let mut symbolizer = Symbolizer::new(Options::default());
        let path = damaged.to_str().unwrap();
        for at in [0, size / 2] {
            let found = symbols_at(&mut symbolizer, path, None, offset + at);
            changed += usize::from(names(&found).last() != Some(&"perfring_leaf"));
        }
    }
    assert!(changed > 100, "{changed}");
}

/// A function of the running kernel that has its address for itself, and where `_text` is.
fn a_kernel_function() -> Option<(String, u64, u64)> {
    let text = std::fs::read_to_string("/proc/kallsyms").ok()?;
    let mut by_address: BTreeMap<u64, Vec<(&str, &str)>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(kind), Some(name), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        by_address.entry(u64::from_str_radix(address, 16).unwrap()).or_default().push((kind, name));
    }
    let start = by_address.iter().find(|(_, names)| names.iter().any(|(_, name)| *name == "_text"))?;
    let after = by_address.range(start.0 + 0x1000..);
    let mut alone = after.filter(|(_, names)| matches!(names[..], [("T", _)]));
    let (address, names) = alone.nth(100)?;
    Some((names[0].1.to_owned(), *address, *start.0))
}

#[test]
fn functions_of_the_kernel_are_found_if_it_is_the_recorded_one() {
    let Some((name, address, start)) = a_kernel_function().filter(|(_, address, _)| *address != 0) else {
        return skip("/proc/kallsyms shows no addresses");
    };
    let mut spaces = AddressSpaces::new();
    let map = Mmap2 { pid: u32::MAX, tid: 0, ..mmap(start, 1 << 28, start, "[kernel.kallsyms]_text") };
    observe(&mut spaces, KERNEL, Body::Mmap2(map));
    let symbol = Ksymbol { addr: start + (1 << 29), len: 0x40, ksym_type: 1, flags: 0, name: "bpf_prog_x".into() };
    observe(&mut spaces, KERNEL, Body::Ksymbol(symbol));
    let location = spaces.resolve(PID, CpuMode::Kernel, address).unwrap();

    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned();
    let mut symbolizer = Symbolizer::new(Options { os_release: Some(release), ..Options::default() });
    let found = symbolizer.symbols(&location);
    assert_eq!((names(&found), found[0].offset), (vec![&*name], Some(0)));
    let bpf = spaces.resolve(PID, CpuMode::Kernel, symbol.addr + 8).unwrap();
    let found = symbolizer.symbols(&bpf);
    assert_eq!((names(&found), found[0].offset), (vec!["bpf_prog_x"], Some(8)));
    assert!(symbolizer.warnings().is_empty(), "{:?}", symbolizer.warnings());

    // In a recording of an earlier start of it.
    let mut earlier = AddressSpaces::new();
    let shift = 0x1200_0000;
    let map = Mmap2 { addr: start - shift, pgoff: start - shift, ..map };
    observe(&mut earlier, KERNEL, Body::Mmap2(map));
    let moved = earlier.resolve(PID, CpuMode::Kernel, address - shift + 1).unwrap();
    assert_eq!(names(&symbolizer.symbols(&moved)), [&*name]);

    let mut symbolizer = Symbolizer::new(Options { os_release: Some("2.4.18".into()), ..Options::default() });
    assert_eq!(symbolizer.symbols(&location).len(), 0);
    assert!(matches!(symbolizer.warnings(), [SymbolizeError::KernelDiffers { recorded, .. }] if recorded == "2.4.18"));
    let mut symbolizer = Symbolizer::new(Options::default());
    assert_eq!(symbolizer.symbols(&location).len(), 0);
    assert!(matches!(symbolizer.warnings(), [SymbolizeError::KernelUnknown]));
    let other = [(b"[kernel.kallsyms]".to_vec(), BuildId::new(&[1; 20]).unwrap())];
    let mut symbolizer = Symbolizer::new(Options { build_ids: other.into(), ..Options::default() });
    assert_eq!(symbolizer.symbols(&location).len(), 0);
    if Path::new("/sys/kernel/notes").exists() {
        assert!(
            matches!(symbolizer.warnings(), [SymbolizeError::KernelDiffers { recorded, .. }] if recorded.starts_with("0101"))
        );
    }
}

/// What `perf script` says of each address of a call chain: the function and the distance from its start.
type Chains = Vec<Vec<(u64, Option<(String, u64)>)>>;

fn chains_by_perf(data: &Path) -> Chains {
    let args = ["script", "-F", "comm,pid,ip,sym,symoff", "--no-inline", "-i"];
    let output = Command::new("perf").args(args).arg(data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let chain = |lines: &str| {
        let frames = lines.lines().filter(|line| line.starts_with([' ', '\t'])).filter_map(|line| {
            let (ip, symbol) = line.trim().split_once(' ')?;
            let symbol = symbol.rsplit_once("+0x");
            let symbol = symbol.map(|(name, at)| (name.to_owned(), u64::from_str_radix(at, 16).unwrap()));
            Some((u64::from_str_radix(ip, 16).ok()?, symbol))
        });
        frames.collect::<Vec<_>>()
    };
    text.split("\n\n").map(chain).filter(|chain| !chain.is_empty()).collect()
}

/// Where functions of the kernel are.
fn kernel_functions() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let words = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let functions = words.map(|words| (words[2].to_owned(), u64::from_str_radix(words[0], 16).unwrap()));
    functions.collect()
}

type Found = Option<(String, u64)>;

fn is_same_function(ours: &Found, theirs: &Found, kernel: &BTreeMap<String, u64>) -> bool {
    match (ours, theirs) {
        // perf makes names for stubs of the procedure linkage table on more machines.
        (None, Some((name, _))) if name.ends_with("@plt") => true,
        // Of the kernel's several names for one function perf takes not always the plainest.
        (Some((ours, at)), Some((theirs, there))) => {
            // It also says of which version it is.
            let theirs = theirs.split_once('@').filter(|(_, rest)| *rest != "plt").map_or(&**theirs, |(name, _)| name);
            at == there && (ours == theirs || kernel.contains_key(ours) && kernel.get(ours) == kernel.get(theirs))
        }
        (ours, theirs) => ours == theirs,
    }
}

#[test]
fn perf_finds_the_same_functions() {
    if let Err(error) = Command::new("perf").arg("--version").stdout(Stdio::null()).status() {
        return skip(format_args!("perf: {error}"));
    }
    let dir = TempDir::new("symbolize-perf");
    let Some(program) = compile(dir.path(), "measured", &["-O2", "-g"]) else { return };
    let data = dir.path().join("perf.data");
    let mut record = Command::new("perf");
    record.args(["record", "-q", "-g", "-e", "cpu-clock", "-F", "2000", "-o"]).arg(&data).arg("--").arg(&program);
    let output = record.output().unwrap();
    if !output.status.success() {
        return skip(format_args!("perf record: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let by_perf = chains_by_perf(&data);

    let recording = Recording::open(&data).unwrap();
    let mut symbolizer = Symbolizer::new(Options::of(recording.metadata()).unwrap());
    let mut spaces = AddressSpaces::new();
    let (mut by_us, mut in_program) = (Chains::new(), 0);
    let mut records = recording.records(Order::Time { window: 1 << 26 });
    while let Some(entry) = records.next() {
        let decoded = entry.unwrap().decode().unwrap();
        spaces.observe(&decoded);
        let Body::Sample(sample) = &decoded.body else { continue };
        let tid = sample.tid().unwrap();
        let frames = perfring::replay::Frames::new(&decoded.header, sample).map(|frame| {
            // perf looks return addresses up as they are.
            let location = spaces.resolve(tid.pid, frame.cpumode, frame.ip);
            let symbols = location.map(|location| symbolizer.symbols(&location));
            let last = symbols.and_then(|symbols| symbols.last().cloned());
            (frame.ip, last.map(|symbol| (symbol.name.to_string(), symbol.offset.unwrap_or(u64::MAX))))
        });
        let chain: Vec<_> = frames.collect();
        if chain.iter().any(|(_, symbol)| symbol.as_ref().is_some_and(|(name, _)| name == "perfring_leaf")) {
            in_program += 1;
            assert_eq!(spaces.comm(tid.pid, tid.tid), Some(&b"measured"[..]));
        }
        by_us.push(chain);
    }
    assert_eq!(by_us.len(), by_perf.len());
    assert!(in_program * 2 > by_us.len(), "{in_program} of {}", by_us.len());
    let kernel = kernel_functions();
    let (mut compared, mut different) = (0, Vec::new());
    for (ours, theirs) in by_us.iter().zip(&by_perf) {
        assert_eq!(ours.len(), theirs.len(), "{ours:?}\n{theirs:?}");
        for ((_, ours), (ip, theirs)) in ours.iter().zip(theirs) {
            compared += 1;
            if !is_same_function(ours, theirs, &kernel) {
                different.push(format!("{ip:#x}: {ours:?}, perf: {theirs:?}"));
            }
        }
    }
    different.sort();
    different.dedup();
    assert!(compared > 100, "{compared}");
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(symbolizer.warnings().is_empty(), "{:?}", symbolizer.warnings());
}
