//! The records that are made of what already runs, compared with procfs, and with those of `perf`.

#![cfg(feature = "replay")]
#![allow(unsafe_code, reason = "files are mapped, which others could change meanwhile")]

mod common;
mod reexec;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{TempDir, skip};
use memmap2::{MmapMut, MmapOptions};
use perfring::record::{
    Attr, AttrFlags, Body, BuildId, ByteOrder, Decoder, Encoder, MappedFile, Misc, Mmap, RecordType, SampleId,
    SampleType, Tid, User,
};
use perfring::replay::perf_data::FeatureId;
use perfring::replay::synthesize::{BuildIds, Kernel, KernelText, Processes, SynthesizeError, Synthesizer, build_id};
use perfring::replay::{Order, Recording};

const ENTRY: &str = "workload";
/// Files that the workload maps, in the directory that it is told.
const BLANK: &str = "with a blank.so";
const NEWLINE: &str = "with a\nnewline.so";
const BACKSLASH: &str = r"with a\012backslash.so";
const GONE: &str = "gone.so";
const READY: &str = "ready";

/// What the other process does: not a test, but for the others.
#[test]
fn workload() {
    let Some([dir]) = reexec::role().map(|role| <[String; 1]>::try_from(role).expect("a directory")) else { return };
    let dir = Path::new(&dir);
    let map = |name: &str| {
        let path = dir.join(name);
        fs::copy("/proc/self/exe", &path).expect("a copy of this program");
        let file = File::open(path).expect("that copy");
        // SAFETY: nobody changes the file, nor is what it holds looked at.
        unsafe { MmapOptions::new().len(8192).map_exec(&file) }.expect("a mapping")
    };
    let files: Vec<_> = [BLANK, NEWLINE, BACKSLASH, GONE].into_iter().map(map).collect();
    fs::remove_file(dir.join(GONE)).expect("a file");
    let anonymous = MmapMut::map_anon(4096).and_then(MmapMut::make_exec).expect("memory");
    let thread = std::thread::Builder::new().name("a thread".to_owned());
    let ready = dir.join(READY);
    thread
        .spawn(move || {
            // A thread names itself, before it does anything.
            fs::write(ready, "").expect("a file");
            loop {
                std::thread::park();
            }
        })
        .expect("a thread");
    // Until the other side goes away.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop((files, anonymous));
}

/// A process with mappings of all kinds.
struct Workload {
    process: reexec::Process,
    dir: TempDir,
}

impl Workload {
    fn start(test: &str) -> Self {
        let dir = TempDir::new(&format!("synthesize-{test}"));
        let process = reexec::start(ENTRY, &[dir.path().to_str().expect("a plain name")]);
        let end = Instant::now() + reexec::PATIENCE;
        while !dir.path().join(READY).exists() {
            assert!(Instant::now() < end, "the workload does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { process, dir }
    }

    fn id(&self) -> u32 {
        self.process.id()
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir.path().display())
    }
}

const ALL: AttrFlags = AttrFlags::MMAP
    .union(AttrFlags::MMAP2)
    .union(AttrFlags::COMM)
    .union(AttrFlags::TASK)
    .union(AttrFlags::SAMPLE_ID_ALL);

fn attr(flags: AttrFlags) -> Attr {
    let sample_type = SampleType::TID
        | SampleType::TIME
        | SampleType::ID
        | SampleType::STREAM_ID
        | SampleType::CPU
        | SampleType::IDENTIFIER;
    Attr { sample_type, flags, ..Attr::default() }
}

/// All records that are made.
fn collect<T>(
    make: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), Infallible>) -> Result<T, SynthesizeError<Infallible>>,
) -> (T, Vec<Vec<u8>>) {
    let mut records = Vec::new();
    let result = make(&mut |record| {
        records.push(record.to_vec());
        Ok(())
    });
    (result.expect("records"), records)
}

fn process(attr: &Attr, pid: u32) -> (Processes, Vec<Vec<u8>>) {
    let mut to = Synthesizer::new(attr).unwrap();
    collect(|mut out| to.process(pid, &mut out))
}

/// What a mapping's record says, of those lines of `/proc/PID/maps` that are wanted: start, end, offset, device, inode,
/// `rwx`, name.
type Line = (u64, u64, u64, u32, u32, u64, u32, u32, Vec<u8>);

fn lines_of_maps(pid: u32, wanted: impl Fn(&str) -> bool) -> Vec<Line> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the workload's mappings");
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("a number");
    let line = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [range, perms, offset, device, inode, ..] = fields[..] else { panic!("{line}") };
        let name = line.splitn(6, ' ').nth(5).unwrap_or_default().trim_start();
        let (start, end) = range.split_once('-').expect("a range");
        let (maj, min) = device.split_once(':').expect("a device");
        let prot: u32 =
            perms.chars().zip([(1, 'r'), (2, 'w'), (4, 'x')]).map(|(is, (bit, c))| bit * u32::from(is == c)).sum();
        let name = match name {
            "" => "//anon".to_owned(),
            name if name.starts_with("[anon:") => "//anon".to_owned(),
            // Of the two that look so, one has a backslash.
            name if name.ends_with("backslash.so") => name.to_owned(),
            name => name.replace("\\012", "\n"),
        };
        let flags = if perms.ends_with('s') { 1 } else { 2 };
        (
            hex(start),
            hex(end),
            hex(offset),
            hex(maj) as u32,
            hex(min) as u32,
            inode.parse().unwrap(),
            prot,
            flags,
            name.into(),
        )
    };
    text.lines().filter(|line| wanted(line.split(' ').nth(1).expect("permissions"))).map(line).collect()
}

fn lines_of_records(attr: &Attr, records: &[Vec<u8>]) -> Vec<Line> {
    let decoder = Decoder::new(attr).unwrap();
    let mut lines = Vec::new();
    for record in records {
        let Body::Mmap2(mmap) = decoder.decode(record).unwrap().body else { continue };
        let MappedFile::Inode { maj, min, ino, ino_generation: 0 } = mmap.file else { panic!("{mmap:?}") };
        let end = mmap.addr + mmap.len;
        let name = mmap.filename.as_bytes().to_vec();
        lines.push((mmap.addr, end, mmap.pgoff, maj, min, ino, mmap.prot, mmap.flags, name));
    }
    lines
}

/// Whether the names of files that are mapped can be read as they are.
fn sees_map_files(workload: &Workload) -> bool {
    let mut entries = fs::read_dir(format!("/proc/{}/map_files", workload.id())).into_iter().flatten().flatten();
    entries.next().is_some_and(|entry| fs::read_link(entry.path()).is_ok())
}

#[test]
fn mappings_are_those_of_procfs() {
    let workload = Workload::start("maps");
    let code = attr(ALL);
    let (counts, records) = process(&code, workload.id());
    let expected = lines_of_maps(workload.id(), |perms| perms.contains('x'));
    let mut lines = lines_of_records(&code, &records);
    if !sees_map_files(&workload) {
        // Then a backslash cannot be told from a newline.
        let backslash = workload.path(BACKSLASH).into_bytes();
        let line = lines.iter_mut().find(|line| line.8 == workload.path(BACKSLASH).replace("\\012", "\n").into_bytes());
        line.expect("the file with a backslash").8 = backslash;
    }
    assert_eq!(lines, expected);
    assert_eq!(
        counts,
        Processes { processes: 1, threads: counts.threads, mappings: lines.len() as u64, ..Default::default() }
    );
    let names: BTreeSet<_> = lines.iter().map(|line| String::from_utf8_lossy(&line.8).into_owned()).collect();
    let gone = format!("{GONE} (deleted)");
    for name in [BLANK, NEWLINE, BACKSLASH, &gone] {
        assert!(names.contains(&workload.path(name)), "{name:?} in {names:?}");
    }
    assert!(names.contains("//anon"), "{names:?}");

    let data = attr(ALL | AttrFlags::MMAP_DATA);
    let (_, records) = process(&data, workload.id());
    let expected = lines_of_maps(workload.id(), |perms| perms.contains('x') || perms.starts_with('r'));
    let all = lines_of_records(&data, &records);
    assert!(all.len() > lines.len());
    assert_eq!(all.len(), expected.len());
    for record in &records {
        let decoder = Decoder::new(&data).unwrap();
        let decoded = decoder.decode(record).unwrap();
        if let Body::Mmap2(mmap) = decoded.body {
            assert_eq!(decoded.header.misc.contains(Misc::MMAP_DATA), mmap.prot & 4 == 0, "{mmap}");
            assert_eq!(decoded.header.misc.bits() & 7, 2);
        }
    }
}

#[test]
fn the_older_record_says_the_same() {
    let workload = Workload::start("older");
    let (new, old) = (attr(ALL), attr(ALL - AttrFlags::MMAP2));
    let (_, records) = process(&new, workload.id());
    let expected: Vec<_> =
        lines_of_records(&new, &records).into_iter().map(|line| (line.0, line.1, line.2, line.8)).collect();
    let (_, records) = process(&old, workload.id());
    let decoder = Decoder::new(&old).unwrap();
    let mut lines = Vec::new();
    for record in &records {
        if let Body::Mmap(mmap) = decoder.decode(record).unwrap().body {
            lines.push((mmap.addr, mmap.addr + mmap.len, mmap.pgoff, mmap.filename.as_bytes().to_vec()));
        }
    }
    assert_eq!(lines, expected);
}

#[test]
fn threads_have_names_parents_and_namespaces() {
    let workload = Workload::start("threads");
    let attr = attr(ALL | AttrFlags::NAMESPACES);
    let mut to = Synthesizer::new(&attr).unwrap();
    let (counts, records) = collect(|mut out| to.all_processes(&mut out));
    assert!(counts.processes >= 2 && counts.threads > counts.processes && counts.malformed == 0, "{counts:?}");
    let decoder = Decoder::new(&attr).unwrap();
    let (pid, me) = (workload.id(), std::process::id());
    let (mut forks, mut comms, mut namespaces, mut order) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), Vec::new());
    let mut pids = Vec::new();
    for record in &records {
        let decoded = decoder.decode(record).unwrap();
        assert!(decoded.rest().is_empty());
        let id = decoded.sample_id();
        assert_eq!((id.tid, id.time, id.id), (Some(Tid { pid: 0, tid: 0 }), Some(0), Some(0)));
        assert_eq!((id.stream_id, id.cpu, id.identifier), (Some(0), Some(0), Some(0)));
        let of = match decoded.body {
            Body::Fork(task) => {
                assert_eq!((decoded.header.misc, task.time, task.ptid), (Misc::FORK_EXEC, 0, task.ppid));
                if task.pid == pid {
                    forks.insert(task.tid, task.ppid);
                }
                if task.pid == task.tid {
                    pids.push(task.pid);
                }
                task.pid
            }
            Body::Comm(comm) => {
                if comm.pid == pid {
                    comms.insert(comm.tid, comm.comm.to_string());
                }
                comm.pid
            }
            Body::Namespaces(all) => {
                if all.pid == pid {
                    namespaces.insert(all.tid, all.iter().map(|one| (one.dev, one.inode)).collect::<Vec<_>>());
                }
                all.pid
            }
            Body::Mmap2(mmap) => mmap.pid,
            other => panic!("{other:?}"),
        };
        if of == pid {
            order.push(decoded.header.type_);
        }
    }
    assert!(pids.is_sorted() && pids.contains(&me), "{pids:?}");
    let tids: Vec<u32> = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    assert!(tids.len() >= 2);
    for tid in &tids {
        let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).unwrap();
        assert_eq!(comms.get(tid).map(String::as_str), Some(name.trim_end()));
        assert_eq!(forks.get(tid), Some(if *tid == pid { &me } else { &pid }));
        let mut expected = Vec::new();
        for name in perfring::record::Namespaces::NAMES {
            let file = fs::metadata(format!("/proc/{pid}/task/{tid}/ns/{name}")).unwrap();
            expected.push((file.dev(), file.ino()));
        }
        assert_eq!(namespaces.get(tid), Some(&expected));
    }
    assert!(comms.values().any(|comm| comm == "a thread"), "{comms:?}");
    assert_eq!((comms.len(), forks.len()), (tids.len(), tids.len()));
    let first = [RecordType::FORK, RecordType::NAMESPACES, RecordType::COMM, RecordType::MMAP2];
    assert_eq!(order[..4], first);
}

#[test]
fn a_thread_stands_for_its_process() {
    let workload = Workload::start("thread");
    let attr = attr(ALL);
    let whole = process(&attr, workload.id());
    let entries = fs::read_dir(format!("/proc/{}/task", workload.id())).unwrap();
    let tids = entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<u32>().unwrap());
    for tid in tids {
        assert_eq!(process(&attr, tid), whole);
    }
    // Nobody is started by anybody, where only one is looked at.
    let decoder = Decoder::new(&attr).unwrap();
    assert!(whole.1.iter().all(|record| !matches!(decoder.decode(record).unwrap().body, Body::Fork(_))));
    // What the flags do not ask for is not there.
    let (counts, records) = process(&Attr::default(), workload.id());
    assert_eq!((counts.processes, counts.mappings, records.len()), (1, 0, 0));
}

#[test]
fn who_is_gone_is_counted() {
    let mut child = Command::new("true").spawn().expect("true runs");
    let pid = child.id();
    child.wait().expect("it ends");
    let (counts, records) = process(&attr(ALL), pid);
    assert_eq!((counts, records.len()), (Processes { gone: 1, ..Default::default() }, 0));
}

#[test]
fn whoever_takes_no_more_is_heard() {
    let mut taken = 0;
    let made = Synthesizer::new(&attr(ALL)).unwrap().process(std::process::id(), &mut |_: &[u8]| {
        taken += 1;
        if taken == 3 { Err(std::io::Error::other("full")) } else { Ok(()) }
    });
    assert!(matches!(made, Err(SynthesizeError::Out(error)) if error.to_string() == "full"));
    assert_eq!(taken, 3);
}

#[test]
fn without_privileges_what_is_hidden_is_counted() {
    if !common::is_rerun() {
        return common::rerun_unprivileged("");
    }
    let attr = attr(ALL | AttrFlags::NAMESPACES | AttrFlags::BUILD_ID);
    let mut to = Synthesizer::new(&attr).unwrap();
    let (kernel, _) = collect(|mut out| to.kernel(&mut out));
    let shown = fs::read_to_string("/proc/kallsyms")
        .is_ok_and(|text| text.lines().any(|line| line.ends_with(" T _text") && !line.starts_with("0000000000000000")));
    assert_eq!(matches!(kernel.text, KernelText::Written { .. }), shown, "{kernel:?}");
    let (counts, records) = collect(|mut out| to.all_processes(&mut out));
    assert!(counts.processes > 0 && !records.is_empty(), "{counts:?}");
    if File::open("/proc/1/maps").is_err() {
        assert!(counts.denied > 0, "{counts:?}");
    }
    // Of oneself all is known.
    let (counts, _) = process(&attr, std::process::id());
    assert_eq!((counts.processes, counts.denied, counts.gone), (1, 0, 0), "{counts:?}");
    assert!(counts.mappings > 2);
}

#[test]
fn cgroups_are_those_of_the_hierarchy() {
    let attr = attr(ALL | AttrFlags::CGROUP);
    let mut to = Synthesizer::new(&attr).unwrap();
    let (count, records) = collect(|mut out| to.cgroups(&mut out));
    if count == 0 {
        return skip("no hierarchy of cgroups is mounted that events know");
    }
    assert_eq!(records.len() as u64, count);
    let decoder = Decoder::new(&attr).unwrap();
    let mut seen = BTreeSet::new();
    for record in &records {
        let Body::Cgroup(cgroup) = decoder.decode(record).unwrap().body else { panic!("no cgroup") };
        let path = cgroup.path.to_string();
        let parent = path.rfind('/').map(|at| path[..at.max(1)].to_owned());
        assert!(path == "/" || parent.is_some_and(|parent| seen.contains(&parent)), "{path} before its parent");
        assert!(seen.insert(path), "{cgroup} twice");
        assert_ne!(cgroup.id, 0);
    }
    // And none where none is asked for.
    let mut to = Synthesizer::new(&attr).unwrap().records(ALL);
    assert_eq!(collect(|mut out| to.cgroups(&mut out)), (0, vec![]));
}

/// A machine made of files.
fn machine(test: &str, files: &[(&str, &[u8])]) -> TempDir {
    let dir = TempDir::new(&format!("machine-{test}"));
    for (path, bytes) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

/// A note with the build id 0x07….
fn gnu_note() -> Vec<u8> {
    let words: Vec<u8> = [4_u32, 20, 3].into_iter().flat_map(u32::to_ne_bytes).collect();
    [&words[..], b"GNU\0", &[7; 20]].concat()
}

/// Type, address, length, offset, name.
type KernelMapping = (RecordType, u64, u64, u64, String);

fn kernel_of(attr: &Attr, root: &Path) -> (Kernel, Vec<KernelMapping>) {
    let mut to = Synthesizer::new(attr).unwrap().root(root);
    let (kernel, records) = collect(|mut out| to.kernel(&mut out));
    let decoder = Decoder::new(attr).unwrap();
    let decoded = records.iter().map(|record| {
        let decoded = decoder.decode(record).unwrap();
        assert_eq!(decoded.header.misc.bits() & 7, 1);
        let type_ = decoded.header.type_;
        match decoded.body {
            Body::Mmap(m) => {
                assert_eq!((m.pid, m.tid), (u32::MAX, 0));
                (type_, m.addr, m.len, m.pgoff, m.filename.to_string())
            }
            Body::Mmap2(m) => {
                assert_eq!((m.pid, m.tid, m.prot, m.flags), (u32::MAX, 0, 0, 0));
                assert_eq!(m.file, MappedFile::BuildId(BuildId::new(&[7; 20]).unwrap()));
                (type_, m.addr, m.len, m.pgoff, m.filename.to_string())
            }
            other => panic!("{other:?}"),
        }
    });
    (kernel, decoded.collect())
}

const KALLSYMS: &[u8] = b"ffff0000 T _stext\nffff0000 T _text\nffff8000 T _etext\n";
const MODULES: &[u8] = b"snd_x 4096 0 - Live 0x20000\nunindexed 8192 1 snd_x, Live 0x40000 (O)\n";

#[test]
fn modules_are_named_by_their_files() {
    let note = gnu_note();
    let dir = machine(
        "indexed",
        &[
            ("proc/kallsyms", KALLSYMS),
            ("proc/modules", MODULES),
            ("proc/sys/kernel/osrelease", b"6.1.0-x\n"),
            ("lib/modules/6.1.0-x/modules.dep", b"kernel/sound/snd-x.ko.xz: kernel/other.ko\n"),
            ("sys/kernel/notes", &note),
            ("sys/module/snd_x/notes/.note.gnu.build-id", &note),
            ("sys/module/unindexed/notes/.note.gnu.build-id", &note),
        ],
    );
    let files = [
        (0xffff0000, 0x8000, 0xffff0000, "[kernel.kallsyms]_text".to_owned()),
        (0x20000, 4096, 0, "/lib/modules/6.1.0-x/kernel/sound/snd-x.ko.xz".to_owned()),
        (0x40000, 8192, 0, "[unindexed]".to_owned()),
    ];
    let written = KernelText::Written { addr: 0xffff0000, len: 0x8000 };
    let expected = Kernel { text: written, modules: 2, hidden_modules: 0, malformed: 0 };
    for (flags, type_) in [(ALL, RecordType::MMAP), (ALL | AttrFlags::BUILD_ID, RecordType::MMAP2)] {
        let records = files.iter().cloned().map(|(addr, len, pgoff, name)| (type_, addr, len, pgoff, name)).collect();
        assert_eq!(kernel_of(&attr(flags), dir.path()), (expected, records));
    }

    // The same files by name, in the list of builds.
    let attr = attr(ALL);
    let (decoder, mut ids) = (Decoder::new(&attr).unwrap(), BuildIds::new().root(dir.path()));
    let mut to = Synthesizer::new(&attr).unwrap().root(dir.path());
    let mut observe = |record: &[u8]| {
        ids.observe(&decoder.decode(record).unwrap());
        Ok::<(), Infallible>(())
    };
    to.kernel(&mut observe).unwrap();
    assert_eq!(ids.resolve(), 3);
    let names: Vec<_> = ids.iter().map(|entry| (entry.misc.bits(), entry.record.filename.to_string())).collect();
    let expected = ["/lib/modules/6.1.0-x/kernel/sound/snd-x.ko.xz", "[kernel.kallsyms]", "[unindexed]"];
    assert_eq!(names, expected.map(|name| (0x8001, name.to_owned())));
    assert!(ids.iter().all(|entry| entry.record.build_id == [7; 20]));
}

#[test]
fn modules_are_found_without_an_index() {
    let dir = machine(
        "unindexed",
        &[
            ("proc/modules", MODULES),
            ("proc/sys/kernel/osrelease", b"6.1.0-x\n"),
            ("lib/modules/6.1.0-x/updates/dkms/snd-x.ko", b""),
            ("lib/modules/6.1.0-x/kernel/README", b""),
        ],
    );
    // A link that leads back must not be followed for ever.
    std::os::unix::fs::symlink(".", dir.path().join("lib/modules/6.1.0-x/build")).unwrap();
    let (kernel, records) = kernel_of(&attr(ALL), dir.path());
    assert_eq!(kernel, Kernel { text: KernelText::Absent, modules: 2, hidden_modules: 0, malformed: 0 });
    let names: Vec<_> = records.iter().map(|record| &record.4[..]).collect();
    assert_eq!(names, ["/lib/modules/6.1.0-x/updates/dkms/snd-x.ko", "[unindexed]"]);
}

#[test]
fn a_kernel_that_hides_is_left_out() {
    let dir = machine(
        "hidden",
        &[
            ("proc/kallsyms", b"0000000000000000 T _stext\n0000000000000000 T _text\n0000000000000000 T _etext\n"),
            ("proc/modules", b"x 4096 0 - Live 0x0000000000000000\nnonsense\n"),
        ],
    );
    let (kernel, records) = kernel_of(&attr(ALL), dir.path());
    assert_eq!(kernel, Kernel { text: KernelText::Hidden, modules: 0, hidden_modules: 1, malformed: 1 });
    assert!(records.is_empty());
    let empty = TempDir::new("machine-empty");
    assert_eq!(kernel_of(&attr(ALL), empty.path()).0.text, KernelText::Absent);
    // But a machine without processes is none.
    let mut to = Synthesizer::new(&attr(ALL)).unwrap().root(empty.path());
    let failed = to.all_processes(&mut |_: &[u8]| Ok::<(), Infallible>(()));
    assert!(matches!(failed, Err(SynthesizeError::Read { .. })), "{failed:?}");
}

#[test]
fn a_procfs_may_say_anything() {
    let maps = [
        b"1000-2000 r-xp 00000000 00:00 1 /fine\n".to_vec(),
        b"nonsense\n2000-1000 r-xp 0 00:00 1 /x\n\n".to_vec(),
        b"3000-4000 r-xp 0 00:00 1 /with\0nul\n".to_vec(),
        [&b"5000-6000 r-xp 0 00:00 1 /"[..], &vec![b'y'; 1 << 20], b"\n"].concat(),
        b"7000-8000 r-xp 0 00:00 0".to_vec(),
    ];
    let maps = maps.concat();
    let status: &[u8] = b"Name:\tx\nTgid:\t9\nPPid:\t1\n";
    let dir = machine(
        "hostile",
        &[
            ("proc/9/status", status),
            ("proc/9/task/9/comm", b"a name that is much too long\0\n"),
            ("proc/9/task/9/maps", &maps),
            ("proc/9/task/x/comm", b"no thread"),
            ("proc/10/status", b"Tgid:\tnonsense\n"),
            ("proc/12/status", b"Tgid:\t4294967295\nPPid:\t0\n"),
            ("proc/99999999999/status", status),
        ],
    );
    let attr = attr(ALL | AttrFlags::NAMESPACES);
    let mut to = Synthesizer::new(&attr).unwrap().root(dir.path());
    let (counts, records) = collect(|mut out| to.all_processes(&mut out));
    // Gone: the namespaces of 9, and the process 4294967295.
    let expected = Processes { processes: 1, threads: 1, mappings: 3, gone: 2, denied: 0, malformed: 5 };
    assert_eq!(counts, expected);
    let names: Vec<_> = lines_of_records(&attr, &records).into_iter().map(|line| line.8).collect();
    assert_eq!(names, [&b"/fine"[..], b"//toolong", b"//anon"]);
    let decoder = Decoder::new(&attr).unwrap();
    let comms = records.iter().filter_map(|record| match decoder.decode(record).unwrap().body {
        Body::Comm(comm) => Some(comm.comm.to_string()),
        _ => None,
    });
    assert_eq!(comms.collect::<Vec<_>>(), ["a name that is "]);
}

#[test]
fn a_first_thread_that_ended_has_the_mappings_of_others() {
    let dir = machine(
        "zombie",
        &[
            ("proc/9/status", b"Name:\tx\nTgid:\t9\nPPid:\t1\n"),
            ("proc/9/task/9/comm", b"first\n"),
            ("proc/9/task/9/maps", b""),
            ("proc/9/task/5/comm", b"second\n"),
            ("proc/9/task/5/maps", b"1000-2000 r-xp 00000000 00:00 1 /fine\n"),
            ("proc/9/task/12/comm", b"third\n"),
            ("proc/9/task/12/maps", b"1000-2000 r-xp 00000000 00:00 1 /fine\n"),
        ],
    );
    let attr = attr(ALL);
    let mut to = Synthesizer::new(&attr).unwrap().root(dir.path());
    let (_, records) = collect(|mut out| to.process(9, &mut out));
    let decoder = Decoder::new(&attr).unwrap();
    let said = records.iter().map(|record| match decoder.decode(record).unwrap().body {
        Body::Comm(comm) => (comm.pid, comm.tid, comm.comm.to_string()),
        Body::Mmap2(mmap) => (mmap.pid, mmap.tid, mmap.filename.to_string()),
        other => panic!("{other:?}"),
    });
    let expected = [(9, 9, "first"), (9, 5, "second"), (9, 9, "/fine"), (9, 12, "third")];
    assert_eq!(said.collect::<Vec<_>>(), expected.map(|(pid, tid, name)| (pid, tid, name.to_owned())));
}

#[test]
fn build_ids_of_mapped_files_are_found() {
    let Ok(own) = build_id::of_file("/proc/self/exe") else { return skip("this program has no build id") };
    let workload = Workload::start("build-ids");
    let attr = attr(ALL);
    let (_, records) = process(&attr, workload.id());
    let (decoder, mut ids) = (Decoder::new(&attr).unwrap(), BuildIds::new());
    records.iter().for_each(|record| ids.observe(&decoder.decode(record).unwrap()));
    assert!(ids.resolve() >= 2);
    let found: BTreeMap<_, _> =
        ids.iter().map(|entry| (entry.record.filename.to_string(), entry.record.build_id)).collect();
    let exe = fs::read_link("/proc/self/exe").unwrap();
    assert_eq!(found.get(exe.to_str().unwrap()), Some(&own.as_bytes()));
    for name in [BLANK, NEWLINE] {
        assert_eq!(found.get(&workload.path(name)), Some(&own.as_bytes()), "{name:?}");
    }
    if sees_map_files(&workload) {
        let gone = workload.path(GONE) + " (deleted)";
        assert_eq!(found.get(&gone), Some(&own.as_bytes()), "{found:?}");
    }
    if let Ok(vdso) = build_id::of_vdso() {
        assert_eq!(found.get("[vdso]"), Some(&vdso.as_bytes()));
    }
    // The same in the records of mappings.
    let by_id = Attr { flags: attr.flags | AttrFlags::BUILD_ID, ..attr };
    let (_, records) = process(&by_id, workload.id());
    let decoder = Decoder::new(&by_id).unwrap();
    let mut seen = 0;
    for record in &records {
        let Body::Mmap2(mmap) = decoder.decode(record).unwrap().body else { continue };
        if let MappedFile::BuildId(id) = mmap.file {
            assert_eq!(found.get(&mmap.filename.to_string()), Some(&id.as_bytes()));
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen}");
}

#[test]
fn files_are_looked_for_where_the_process_sees_them() {
    let Ok(own) = build_id::of_file("/proc/self/exe") else { return skip("this program has no build id") };
    let dir = machine("namespaces", &[("proc/7/root/lib/x.so", b""), ("lib/x.so", b"another"), ("lib/y.so", b"")]);
    for path in ["proc/7/root/lib/x.so", "lib/y.so"] {
        fs::copy("/proc/self/exe", dir.path().join(path)).unwrap();
    }
    let attr = Attr::default();
    let (encoder, decoder) = (Encoder::new(&attr, ByteOrder::NATIVE).unwrap(), Decoder::new(&attr).unwrap());
    let mut ids = BuildIds::new().root(dir.path());
    // The second process is gone, and the third file is not there at all.
    for (pid, name) in [(7, "/lib/x.so"), (8, "/lib/y.so"), (8, "/lib/z.so")] {
        let (addr, len, pgoff, filename) = (0x1000, 0x1000, 0, name.into());
        let body = Body::Mmap(Mmap { pid, tid: pid, addr, len, pgoff, filename });
        let mut record = Vec::new();
        encoder.encode(Misc::from_bits_retain(2), &body, &SampleId::default(), &mut record).unwrap();
        ids.observe(&decoder.decode(&record).unwrap());
    }
    assert_eq!((ids.files(), ids.resolve()), (3, 2));
    let found: Vec<_> = ids.iter().map(|entry| (entry.record.filename.to_string(), entry.record.build_id)).collect();
    assert_eq!(found, [("/lib/x.so".to_owned(), own.as_bytes()), ("/lib/y.so".to_owned(), own.as_bytes())]);
}

/// A recording by `perf`, if it can make one: of everything, with these options.
fn recorded_by_perf(file: &Path, options: &[&str]) -> bool {
    let mut record = Command::new("perf");
    record.args(["record", "-q", "-e", "cpu-clock", "-o"]).arg(file).args(options).args(["--", "sleep", "0.1"]);
    match record.stdout(Stdio::null()).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            skip(format_args!("perf record {options:?}: {}", String::from_utf8_lossy(&output.stderr)));
            false
        }
        Err(error) => {
            skip(format_args!("perf: {error}"));
            false
        }
    }
}

/// The records that `perf` made up, the first event, and the flags of all: with `-a` another event keeps track of tasks.
fn made_by_perf(file: &Path) -> (Attr, AttrFlags, Vec<Vec<u8>>) {
    let recording = Recording::open(file).expect("a recording");
    let events = recording.metadata().events();
    let (attr, flags) = (events[0].attr, events.iter().fold(AttrFlags::empty(), |all, event| all | event.attr.flags));
    let mut records = Vec::new();
    let mut all = recording.records(Order::Recorded);
    while let Some(entry) = all.next() {
        let entry = entry.expect("a whole record");
        let decoded = entry.decode().expect("a whole record");
        if decoded.header.type_ != RecordType::SAMPLE && decoded.time().unwrap_or(0) == 0 {
            records.push(entry.bytes().to_vec());
        }
    }
    (attr, flags, records)
}

/// The records of one process and of the kernel, without those of files that `perf` describes otherwise.
fn of_process(attr: &Attr, pid: u32, records: &[Vec<u8>], is_left_out: impl Fn(&str) -> bool) -> BTreeSet<Vec<u8>> {
    let decoder = Decoder::new(attr).unwrap();
    let wanted = |record: &[u8]| match decoder.decode(record).unwrap().body {
        Body::Mmap2(mmap) => (mmap.pid == pid || mmap.pid == u32::MAX) && !is_left_out(&mmap.filename.to_string()),
        Body::Mmap(mmap) => mmap.pid == pid || mmap.pid == u32::MAX,
        Body::Comm(comm) => comm.pid == pid,
        Body::Fork(task) => task.pid == pid,
        Body::Namespaces(namespaces) => namespaces.pid == pid,
        _ => false,
    };
    records.iter().filter(|record| wanted(record)).cloned().collect()
}

#[test]
fn the_records_are_byte_for_byte_those_of_perf() {
    let workload = Workload::start("perf");
    let pid = workload.id().to_string();
    let file = workload.dir.path().join("perf.data");
    let is_odd = |name: &str| name.ends_with("newline.so") || name.ends_with("backslash.so");
    // Of files that are gone perf cannot tell the build id.
    let is_odd_or_gone = |name: &str| is_odd(name) || name.ends_with(" (deleted)");
    let variants: [(&[&str], bool, bool); 5] = [
        (&["-p", &pid], false, false),
        (&["-p", &pid, "-d"], false, false),
        (&["-p", &pid, "--namespaces"], false, false),
        (&["-p", &pid, "--buildid-mmap"], false, true),
        (&["-a", "--namespaces", "--all-cgroups"], true, false),
    ];
    let cgroups = |attr: &Attr| {
        let mut to = Synthesizer::new(attr).unwrap().records(AttrFlags::CGROUP);
        BTreeSet::from_iter(collect(|mut out| to.cgroups(&mut out)).1)
    };
    for (options, is_all, by_build_id) in variants {
        if !recorded_by_perf(&file, options) {
            return;
        }
        let (attr, flags, by_perf) = made_by_perf(&file);
        let mut to = Synthesizer::new(&attr).unwrap().records(flags);
        let ((), ours) = collect(|mut out| {
            to.kernel(&mut out)?;
            let _: Processes = if is_all { to.all_processes(&mut out)? } else { to.process(workload.id(), &mut out)? };
            Ok(())
        });
        let left_out = |name: &str| if by_build_id { is_odd_or_gone(name) } else { is_odd(name) };
        let expected = of_process(&attr, workload.id(), &by_perf, left_out);
        let records = of_process(&attr, workload.id(), &ours, left_out);
        let decoder = Decoder::new(&attr).unwrap();
        let show = |records: &BTreeSet<Vec<u8>>, others: &BTreeSet<Vec<u8>>| {
            let only = records.difference(others).map(|record| format!("{:?}", decoder.decode(record).unwrap().body));
            only.collect::<Vec<_>>().join("\n")
        };
        assert!(
            expected == records,
            "{options:?}: of perf only\n{}\nours only\n{}",
            show(&expected, &records),
            show(&records, &expected)
        );
        assert!(records.len() > 5);

        // Others may make cgroups, or remove them: those that are there all the time.
        if flags.contains(AttrFlags::CGROUP) {
            let before = cgroups(&attr);
            assert!(recorded_by_perf(&file, options));
            let by_perf = BTreeSet::from_iter(made_by_perf(&file).2);
            let after = cgroups(&attr);
            assert!(!before.is_empty());
            assert!(before.intersection(&after).all(|record| by_perf.contains(record)), "{before:?}\n{after:?}");
        }

        // Its own events.
        for record in &by_perf {
            match decoder.decode(record).unwrap().body {
                Body::User(User::CpuMap(map)) => {
                    let cpus: Vec<_> = map.cpus().map(|cpu| cpu as u16).collect();
                    assert_eq!(collect(|mut out| to.cpu_map(&cpus, &mut out)).1, [&record[..]]);
                }
                Body::User(User::ThreadMap(map)) => {
                    let threads: Vec<_> = map.entries.iter().collect();
                    assert_eq!(collect(|mut out| to.thread_map(&threads, &mut out)).1, [&record[..]]);
                }
                Body::User(User::IdIndex(index)) => {
                    let entries: Vec<_> = index.entries.iter().collect();
                    assert_eq!(collect(|mut out| to.id_index(&entries, &mut out)).1, [&record[..]]);
                }
                _ => {}
            }
        }
    }
}

/// Names and build ids in a section as `perf` writes it.
fn read_section(section: &[u8]) -> BTreeMap<(u16, String), Vec<u8>> {
    let decoder = Decoder::empty(ByteOrder::NATIVE);
    let (mut files, mut rest) = (BTreeMap::new(), section);
    while let Some(size) = rest.get(6..8) {
        let (record, behind) = rest.split_at(usize::from(u16::from_ne_bytes([size[0], size[1]])));
        let mut record = record.to_vec();
        record[..4].copy_from_slice(&RecordType::HEADER_BUILD_ID.0.to_ne_bytes());
        let decoded = decoder.decode(&record).unwrap();
        let Body::User(User::HeaderBuildId(file)) = decoded.body else { panic!("{decoded:?}") };
        assert_eq!(file.pid, -1);
        files.insert((decoded.header.misc.bits(), file.filename.to_string()), file.build_id.to_vec());
        rest = behind;
    }
    files
}

#[test]
fn the_builds_are_those_that_perf_finds_and_lists() {
    let workload = Workload::start("perf-builds");
    let file = workload.dir.path().join("perf.data");
    if !recorded_by_perf(&file, &["--buildid-all", "-p", &workload.id().to_string()]) {
        return;
    }
    let recording = Recording::open(&file).unwrap();
    let header = *recording.metadata().header().expect("a file");
    let features: Vec<_> = recording.metadata().features().collect();
    let by_perf = read_section(&recording.metadata().feature_bytes(FeatureId::BUILD_ID).unwrap().expect("build ids"));
    let mut ids = BuildIds::new();
    let mut records = recording.records(Order::Recorded);
    while let Some(entry) = records.next() {
        ids.observe(&entry.unwrap().decode().unwrap());
    }
    ids.resolve();
    let encoder = Encoder::new(&Attr::default(), ByteOrder::NATIVE).unwrap();
    let mut section = Vec::new();
    ids.section(&encoder, &mut section).unwrap();
    let ours = read_section(&section);
    for (name, id) in &by_perf {
        assert_eq!(ours.get(name), Some(id), "{name:?} in {ours:?}");
    }
    assert!(by_perf.len() > 3, "{by_perf:?}");

    // And perf reads ours: at the end of its file, instead of its own.
    let mut bytes = fs::read(&file).unwrap();
    let index = features.iter().position(|feature| *feature == FeatureId::BUILD_ID).unwrap();
    let table = header.data.end().unwrap() as usize + 16 * index;
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let place = [bytes.len() as u64, section.len() as u64].map(u64::to_ne_bytes);
    bytes[table..table + 16].copy_from_slice(place.as_flattened());
    bytes.extend(&section);
    fs::write(&file, bytes).unwrap();
    let list = Command::new("perf").args(["buildid-list", "-i"]).arg(&file).output().unwrap();
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    let listed = String::from_utf8(list.stdout).unwrap();
    for ((_, name), id) in &ours {
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(listed.contains(&format!("{id} {name}\n")), "{id} {name} in\n{listed}");
    }
}
