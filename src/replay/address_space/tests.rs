use super::*;
use crate::record::{Attr, ByteOrder, Decoder, Encoder, Mmap, Mmap2, SampleId};
use proptest::prelude::*;
use std::collections::BTreeMap;

const USER: Misc = Misc::from_bits_retain(2);
const KERNEL: Misc = Misc::from_bits_retain(1);

/// Records go through their bytes.
struct Stream {
    encoder: Encoder,
    decoder: Decoder,
    spaces: AddressSpaces,
}

impl Stream {
    fn new() -> Self {
        let attr = Attr::default();
        Self {
            encoder: Encoder::new(&attr, ByteOrder::NATIVE).unwrap(),
            decoder: Decoder::new(&attr).unwrap(),
            spaces: AddressSpaces::new(),
        }
    }

    fn record(&mut self, misc: Misc, body: Body<'_>) {
        let mut bytes = Vec::new();
        self.encoder.encode(misc, &body, &SampleId::default(), &mut bytes).unwrap();
        self.spaces.observe(&self.decoder.decode(&bytes).unwrap());
    }

    fn map(&mut self, pid: u32, addr: u64, len: u64, filename: &str) {
        self.record(USER, Body::Mmap(Mmap { pid, tid: pid, addr, len, pgoff: 0, filename: filename.into() }));
    }

    fn comm(&mut self, misc: Misc, pid: u32, tid: u32, comm: &str) {
        self.record(misc, Body::Comm(Comm { pid, tid, comm: comm.into() }));
    }

    fn fork(&mut self, misc: Misc, (ppid, ptid): (u32, u32), (pid, tid): (u32, u32)) {
        self.record(misc, Body::Fork(Task { pid, ppid, tid, ptid, time: 0 }));
    }

    fn exit(&mut self, pid: u32, tid: u32) {
        self.record(Misc::empty(), Body::Exit(Task { pid, ppid: 1, tid, ptid: 1, time: 0 }));
    }

    fn at(&self, pid: u32, ip: u64) -> Option<(&str, u64)> {
        name(self.spaces.resolve(pid, CpuMode::User, ip))
    }

    fn kernel(&self, ip: u64) -> Option<(&str, u64)> {
        name(self.spaces.resolve(1, CpuMode::Kernel, ip))
    }

    fn comm_of(&self, pid: u32, tid: u32) -> Option<&str> {
        self.spaces.comm(pid, tid).map(|comm| std::str::from_utf8(comm).unwrap())
    }
}

fn name(location: Option<Location<'_>>) -> Option<(&str, u64)> {
    location.map(|location| (std::str::from_utf8(location.mapping.filename()).unwrap(), location.offset))
}

#[test]
fn a_new_mapping_takes_its_place_from_older_ones() {
    let mut stream = Stream::new();
    stream.map(1, 0x1000, 0x1000, "a");
    for (at, len, filename) in [(0x1000, 0x10, "start"), (0x1100, 0x10, "middle"), (0x1ff0, 0x20, "end")] {
        stream.map(1, at, len, filename);
        assert_eq!(stream.at(1, at), Some((filename, 0)));
        assert_eq!(stream.at(1, at + len - 1), Some((filename, len - 1)));
    }
    // What is left of the old one still knows where in the file it is.
    for at in [0x1010, 0x10ff, 0x1110, 0x1fef] {
        assert_eq!(stream.at(1, at), Some(("a", at - 0x1000)));
    }
    assert_eq!((stream.at(1, 0xfff), stream.at(1, 0x2010)), (None, None));
    stream.map(1, 0, 0x4000, "all");
    assert_eq!(stream.at(1, 0x1100), Some(("all", 0x1100)));
    assert_eq!(stream.spaces.nodes.count(), 1);
}

#[test]
fn a_forked_process_has_what_its_parent_had() {
    let mut stream = Stream::new();
    stream.comm(Misc::empty(), 1, 1, "parent");
    stream.map(1, 0x1000, 0x1000, "a");
    stream.fork(Misc::empty(), (1, 1), (2, 2));
    assert_eq!((stream.at(2, 0x1000), stream.comm_of(2, 2)), (Some(("a", 0)), Some("parent")));
    stream.map(1, 0x1000, 0x10, "later");
    stream.map(2, 0x3000, 0x10, "own");
    assert_eq!((stream.at(2, 0x1000), stream.at(1, 0x1000)), (Some(("a", 0)), Some(("later", 0))));
    assert_eq!((stream.at(2, 0x3000), stream.at(1, 0x3000)), (Some(("own", 0)), None));

    // One that perf made up has not its parent's mappings.
    stream.fork(Misc::FORK_EXEC, (1, 1), (3, 3));
    assert_eq!((stream.at(3, 0x1000), stream.comm_of(3, 3)), (None, Some("parent")));
}

#[test]
fn an_exec_clears_and_a_name_does_not() {
    let mut stream = Stream::new();
    stream.map(1, 0x1000, 0x1000, "a");
    stream.comm(Misc::empty(), 1, 1, "name");
    assert_eq!(stream.at(1, 0x1000), Some(("a", 0)));
    stream.fork(Misc::empty(), (1, 1), (2, 2));
    stream.comm(Misc::COMM_EXEC, 1, 1, "new");
    assert_eq!((stream.at(1, 0x1000), stream.comm_of(1, 1)), (None, Some("new")));
    assert_eq!((stream.at(2, 0x1000), stream.comm_of(2, 2)), (Some(("a", 0)), Some("name")));
    // A NUL in the name would end it; an empty name is one.
    stream.comm(Misc::empty(), 2, 2, "");
    assert_eq!(stream.comm_of(2, 2), Some(""));
}

#[test]
fn threads_share_memory_but_not_names() {
    let mut stream = Stream::new();
    stream.comm(Misc::empty(), 1, 1, "main");
    stream.map(1, 0x1000, 0x1000, "a");
    stream.fork(Misc::empty(), (1, 1), (1, 2));
    assert_eq!(stream.comm_of(1, 2), Some("main"));
    stream.comm(Misc::empty(), 1, 2, "worker");
    assert_eq!((stream.comm_of(1, 1), stream.comm_of(1, 2)), (Some("main"), Some("worker")));
    assert_eq!(stream.comm_of(9, 2), None);
    assert_eq!(stream.at(1, 0x1000), Some(("a", 0)));
    // The first thread may end before the others.
    stream.exit(1, 1);
    stream.map(1, 0x3000, 0x10, "b");
    assert_eq!((stream.at(1, 0x1000), stream.at(1, 0x3000)), (Some(("a", 0)), Some(("b", 0))));
}

#[test]
fn what_ended_stays_until_its_number_is_used_again() {
    let mut stream = Stream::new();
    stream.comm(Misc::empty(), 5, 5, "five");
    stream.map(5, 0x1000, 0x1000, "a");
    stream.exit(5, 5);
    assert_eq!((stream.at(5, 0x1000), stream.comm_of(5, 5)), (Some(("a", 0)), Some("five")));
    stream.comm(Misc::empty(), 5, 5, "new");
    assert_eq!((stream.at(5, 0x1000), stream.comm_of(5, 5)), (None, Some("new")));
    stream.map(5, 0x1000, 0x1000, "b");
    stream.exit(5, 5);
    stream.fork(Misc::empty(), (1, 1), (5, 5));
    assert_eq!((stream.at(5, 0x1000), stream.comm_of(5, 5)), (None, None));
}

#[test]
fn of_those_that_ended_only_so_many_are_known() {
    let mut stream = Stream::new();
    let last = AddressSpaces::MAX_ENDED as u32 + 100;
    for pid in 1..=last {
        stream.comm(Misc::empty(), pid, pid, "short");
        stream.map(pid, 0x1000, 0x1000, "a");
        stream.exit(pid, pid);
    }
    let spaces = &stream.spaces;
    assert_eq!((spaces.tasks.len(), spaces.processes.len()), (AddressSpaces::MAX_ENDED, AddressSpaces::MAX_ENDED));
    assert_eq!((spaces.ended_tasks.len(), spaces.nodes.count()), (AddressSpaces::MAX_ENDED, AddressSpaces::MAX_ENDED));
    assert_eq!((stream.at(100, 0x1000), stream.at(101, 0x1000)), (None, Some(("a", 0))));
    assert_eq!(stream.comm_of(last, last), Some("short"));
}

#[test]
fn the_kernel_is_shared() {
    let mut stream = Stream::new();
    let mmap = Mmap {
        pid: u32::MAX,
        tid: 0,
        addr: 0xffff_ffff_8100_0000,
        len: 0x100_0000,
        pgoff: 0xffff_ffff_8100_0000,
        filename: "[kernel.kallsyms]_text".into(),
    };
    stream.record(KERNEL, Body::Mmap(mmap));
    assert_eq!(stream.kernel(0xffff_ffff_8100_0010), Some(("[kernel.kallsyms]_text", 0xffff_ffff_8100_0010)));
    assert_eq!(stream.at(1, 0xffff_ffff_8100_0010), None);
    let ip = 0xffff_ffff_8100_0010;
    assert!(stream.spaces.resolve(4, CpuMode::Unknown, ip).is_some_and(|it| it.mapping.kind == MappingKind::Kernel));
    for mode in [CpuMode::Hypervisor, CpuMode::GuestKernel, CpuMode::GuestUser, CpuMode::Other(7)] {
        assert_eq!(stream.spaces.resolve(4, mode, ip), None);
    }
    // A guest's is nobody's.
    stream.record(Misc::from_bits_retain(4), Body::Mmap(Mmap { pid: 4, filename: "guest".into(), ..mmap }));
    assert_eq!(stream.kernel(ip), Some(("[kernel.kallsyms]_text", ip)));
    assert_eq!(stream.spaces.comm(0, 0), Some(&b"swapper"[..]));
}

#[test]
fn symbols_come_and_go() {
    let mut stream = Stream::new();
    stream.record(
        KERNEL,
        Body::Mmap(Mmap { pid: u32::MAX, tid: 0, addr: 0, len: 0x1000, pgoff: 0, filename: "k".into() }),
    );
    let symbol = Ksymbol { addr: 0x100, len: 0x20, ksym_type: 1, flags: 0, name: "bpf_prog".into() };
    stream.record(Misc::empty(), Body::Ksymbol(symbol));
    assert_eq!((stream.kernel(0x100), stream.kernel(0x120)), (Some(("bpf_prog", 0)), Some(("k", 0x120))));
    let location = stream.spaces.resolve(0, CpuMode::Kernel, 0x11f).unwrap();
    assert_eq!((location.mapping.kind, location.offset), (MappingKind::Symbol, 0x1f));
    stream.record(Misc::empty(), Body::Ksymbol(Ksymbol { flags: 1, ..symbol }));
    assert_eq!(stream.kernel(0x100), Some(("k", 0x100)));
}

#[test]
fn a_mapping_tells_what_the_record_told() {
    let mut stream = Stream::new();
    let file = MappedFile::Inode { maj: 8, min: 1, ino: 77, ino_generation: 2 };
    let (prot, flags) = (5, 2);
    let filename = "//anon".into();
    let mmap = Mmap2 { pid: 3, tid: 4, addr: 0x5000, len: 0x1000, pgoff: 0x7000, file, prot, flags, filename };
    stream.record(USER, Body::Mmap2(mmap));
    let location = stream.spaces.resolve(3, CpuMode::User, 0x5fff).unwrap();
    assert_eq!((location.ip, location.offset, location.mapping.filename()), (0x5fff, 0x7fff, &b"//anon"[..]));
    let Mapping { kind, start, len, pgoff, file: Some(read), prot: Some(5), flags: Some(2), .. } = *location.mapping
    else {
        panic!("{location:?}")
    };
    assert_eq!((kind, start, len, pgoff, read), (MappingKind::Process, 0x5000, 0x1000, 0x7000, file));
}

#[test]
fn addresses_end_where_they_end() {
    let mut stream = Stream::new();
    stream.map(1, 0x1000, 0, "empty");
    stream.map(1, u64::MAX - 1, 100, "wraps");
    stream.map(1, 0, u64::MAX, "nearly all");
    assert_eq!(stream.at(1, u64::MAX), Some(("wraps", 1)));
    assert_eq!(stream.at(1, u64::MAX - 1), Some(("nearly all", u64::MAX - 1)));
    let symbol = Ksymbol { addr: u64::MAX, len: 5, ksym_type: 1, flags: 0, name: "s".into() };
    stream.record(Misc::empty(), Body::Ksymbol(symbol));
    stream.record(Misc::empty(), Body::Ksymbol(Ksymbol { addr: 3, len: 0, ..symbol }));
    assert_eq!((stream.kernel(u64::MAX), stream.kernel(3)), (Some(("s", 0)), None));
    stream.map(1, 0, u64::MAX, "again");
    assert_eq!(stream.spaces.nodes.count(), 3);
    assert_eq!(stream.spaces.forgotten(), 0);
}

#[test]
fn very_many_mappings_and_forks_are_no_trouble() {
    const MANY: u64 = 50_000;
    let mut stream = Stream::new();
    for at in 0..MANY {
        // In an order that is neither ascending nor random.
        let at = at.reverse_bits() >> 44;
        stream.map(1, at * 2, 2, "a");
    }
    // Each child changes one mapping: a copy of the whole for each would be some 10^9 entries.
    for pid in 2..20_000_u32 {
        stream.fork(Misc::empty(), (1, 1), (pid, pid));
        stream.map(pid, u64::from(pid) * 2, 1, "b");
        stream.exit(pid, pid);
    }
    assert_eq!(stream.at(19_999, 39_998), Some(("b", 0)));
    assert_eq!(stream.spaces.forgotten(), 0);
}

#[test]
fn names_that_nobody_uses_make_room() {
    let mut names = Names { limit: 100 * (100 + Names::OVERHEAD), ..Names::default() };
    let name = |at: usize| format!("{at:>100}").into_bytes();
    let mut kept: Vec<_> = (0..100).map(|at| names.intern(&name(at)).unwrap()).collect();
    assert_eq!(names.intern(&name(1000)), None);
    kept.truncate(10);
    // It looks again after a while.
    let tries = (0..1000).position(|_| names.intern(&name(1000)).is_some());
    assert!(tries.is_some_and(|tries| tries > 0), "{tries:?}");
    assert_eq!((names.names.len(), names.bytes), (11, 11 * (100 + Names::OVERHEAD)));
}

#[derive(Clone, Debug)]
enum Step {
    Map { pid: u32, start: u64, len: u64 },
    Fork { parent: u32, child: u32, is_thread: bool, made_up: bool },
    Exec(u32),
    Comm(u32),
    Exit(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pid = 1_u32..5;
    let step = prop_oneof![
        4 => (pid.clone(), 0_u64..64, 0_u64..64).prop_map(|(pid, start, len)| Step::Map { pid, start, len }),
        2 => (pid.clone(), pid.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(parent, child, is_thread, made_up)| Step::Fork { parent, child, is_thread, made_up }),
        1 => pid.clone().prop_map(Step::Exec),
        1 => pid.clone().prop_map(Step::Comm),
        1 => pid.prop_map(Step::Exit),
    ];
    prop::collection::vec(step, 1..80)
}

/// A process by one entry for each address: which mapping it is, and its start.
#[derive(Clone, Default)]
struct Naive {
    bytes: BTreeMap<u64, (usize, u64)>,
    /// The only thread, if it is known, and whether it ended.
    task: Option<bool>,
    comm: Option<String>,
}

impl Naive {
    fn ended(&self) -> bool {
        self.task == Some(true)
    }
}

proptest! {
    #[test]
    fn spaces_are_tables_of_addresses(steps in steps()) {
        let mut stream = Stream::new();
        let mut model: [Naive; 5] = Default::default();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Map { pid, start, len } => {
                    stream.map(pid, start, len, &number.to_string());
                    let process = &mut model[pid as usize];
                    if len > 0 && process.ended() {
                        process.bytes.clear();
                        process.task = None;
                    }
                    process.bytes.extend((start..start + len).map(|at| (at, (number, start))));
                }
                Step::Fork { parent, child, is_thread, made_up } => {
                    let misc = if made_up { Misc::FORK_EXEC } else { Misc::empty() };
                    if is_thread || parent == child {
                        // A thread that is known to nobody.
                        let tid = 100 + number as u32;
                        stream.fork(misc, (parent, parent), (parent, tid));
                        stream.exit(parent, tid);
                        let process = &mut model[parent as usize];
                        // It is the only thread that is known, so the process ends with it.
                        if process.task != Some(false) {
                            if process.ended() {
                                process.bytes.clear();
                            }
                            process.task = Some(true);
                        }
                    } else {
                        stream.fork(misc, (parent, parent), (child, child));
                        let parent = model[parent as usize].clone();
                        let bytes = if made_up { BTreeMap::new() } else { parent.bytes };
                        model[child as usize] = Naive { bytes, task: Some(false), comm: parent.comm };
                    }
                }
                Step::Exec(pid) => {
                    stream.comm(Misc::COMM_EXEC, pid, pid, &number.to_string());
                    model[pid as usize] =
                        Naive { bytes: BTreeMap::new(), task: Some(false), comm: Some(number.to_string()) };
                }
                Step::Comm(pid) => {
                    stream.comm(Misc::empty(), pid, pid, &number.to_string());
                    let process = &mut model[pid as usize];
                    if process.ended() {
                        process.bytes.clear();
                    }
                    process.task = Some(false);
                    process.comm = Some(number.to_string());
                }
                Step::Exit(pid) => {
                    stream.exit(pid, pid);
                    let process = &mut model[pid as usize];
                    if process.task == Some(false) {
                        process.task = Some(true);
                    }
                }
            }
            for (pid, process) in (0..).zip(&model) {
                for at in 0..130 {
                    let expected = process.bytes.get(&at).map(|(number, start)| (number.to_string(), at - start));
                    let found = stream.at(pid, at).map(|(name, offset)| (name.to_owned(), offset));
                    prop_assert_eq!(found, expected, "{} of {} after step {}", at, pid, number);
                }
                if pid > 0 {
                    prop_assert_eq!(stream.comm_of(pid, pid), process.comm.as_deref());
                }
            }
        }
    }
}
