//! Which file is mapped where in which process, and what threads are called.

use crate::record::{Body, Comm, CpuMode, Decoded, Ksymbol, MappedFile, Misc, Task};
use crate::replay::range_map::{Nodes, RangeMap};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// What records say of the memory of processes and of the kernel, and of the names of threads.
///
/// It is told one record after the other, in the order of time, and answers for the time of the last one:
///
/// - `MMAP` and `MMAP2` map; where something is mapped already, the new mapping takes its place. Those of the kernel are
///   shared by all processes.
/// - `COMM` names a thread, and if the name comes from an exec, the process has nothing mapped any more.
/// - `FORK` of a process gives it all that its parent has mapped, and the name. One that `perf` made up for a process that
///   already ran ([`Misc::FORK_EXEC`]) gives the name only.
/// - `EXIT` ends a thread. What is known of it stays, since a sample may come after it, until its number is used again, or
///   until [`MAX_ENDED`](Self::MAX_ENDED) others have ended.
/// - `KSYMBOL` names code of the kernel: a BPF program, or code out of line.
///
/// A process and its copies share what is the same, and no order of records takes more than logarithmic time for each.
/// Nothing is kept of guests.
///
/// ```
/// use perfring::record::{Attr, Body, ByteOrder, CpuMode, Decoder, Encoder, Misc, Mmap, SampleId};
/// use perfring::replay::AddressSpaces;
///
/// let attr = Attr::default();
/// let mut record = Vec::new();
/// let mmap = Mmap { pid: 7, tid: 7, addr: 0x40_0000, len: 0x2000, pgoff: 0x1000, filename: "/bin/true".into() };
/// let user = Misc::from_bits_retain(2);
/// Encoder::new(&attr, ByteOrder::NATIVE)?.encode(user, &Body::Mmap(mmap), &SampleId::default(), &mut record)?;
///
/// let decoder = Decoder::new(&attr)?;
/// let mut spaces = AddressSpaces::new();
/// spaces.observe(&decoder.decode(&record)?);
/// let location = spaces.resolve(7, CpuMode::User, 0x40_0010).ok_or("not mapped")?;
/// assert_eq!(location.mapping.filename(), b"/bin/true");
/// assert_eq!(location.offset, 0x1010);
/// assert!(spaces.resolve(8, CpuMode::User, 0x40_0010).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct AddressSpaces {
    tasks: HashMap<u32, Thread>,
    processes: HashMap<u32, Process>,
    kernel: RangeMap<Arc<Mapping>>,
    symbols: RangeMap<Arc<Mapping>>,
    nodes: Nodes,
    names: Names,
    ended_tasks: VecDeque<(u32, u64)>,
    ended_processes: VecDeque<(u32, u64)>,
    ends: u64,
    forgotten: u64,
}

/// Something that is mapped, as the record has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Whose it is.
    pub kind: MappingKind,
    /// Where it begins.
    pub start: u64,
    /// Its bytes. Some of them may have been mapped anew.
    pub len: u64,
    /// Where in the file it begins, in bytes. Of the kernel itself, the address of the symbol that the name ends with.
    pub pgoff: u64,
    /// Which file it is, if the record says more than the name.
    pub file: Option<MappedFile>,
    /// `PROT_*` of mmap(2), if the record says them.
    pub prot: Option<u32>,
    /// `MAP_*` of mmap(2), if the record says them.
    pub flags: Option<u32>,
    pub(crate) name: Arc<[u8]>,
}

impl Mapping {
    /// The file, or a name such as `[vdso]`, `//anon`, `[kernel.kallsyms]_text`; of a symbol, that.
    pub fn filename(&self) -> &[u8] {
        &self.name
    }
}

/// Whose a [`Mapping`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MappingKind {
    /// A process's.
    Process,
    /// The kernel's: its own code, or a module's.
    Kernel,
    /// No mapping, but code of the kernel with a name of its own: a `KSYMBOL`.
    Symbol,
}

/// What an address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location<'a> {
    /// What is mapped there.
    pub mapping: &'a Mapping,
    /// The address.
    pub ip: u64,
    /// The byte of the file: the address's distance from the start, and [`Mapping::pgoff`].
    pub offset: u64,
}

#[derive(Debug, Default)]
struct Process {
    maps: RangeMap<Arc<Mapping>>,
    /// Threads that are known and have not ended.
    live: u32,
    /// Which end it was, if it ended.
    ended: Option<u64>,
}

#[derive(Debug)]
struct Thread {
    pid: u32,
    comm: Option<Arc<[u8]>>,
    /// Which end it was, if it ended.
    ended: Option<u64>,
}

impl AddressSpaces {
    /// Most threads that are known at a time, and most processes.
    pub const MAX_TASKS: usize = 1 << 20;
    /// Most threads that are known after they ended, and most processes.
    pub const MAX_ENDED: usize = 1 << 14;
    /// Most mappings at a time, those that forked processes share counted once: each takes some 200 bytes. Those of
    /// processes that ended go first.
    pub const MAX_MAPPINGS: usize = 1 << 21;
    /// Most bytes in all the different names of files and threads.
    pub const MAX_NAMES: usize = 1 << 28;

    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many mappings, names and threads were not remembered, because the bounds were reached.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Learns from a record. Those that say nothing of memory and names are fine.
    pub fn observe(&mut self, record: &Decoded<'_>) {
        let misc = record.header.misc;
        match &record.body {
            Body::Mmap(mmap) => {
                let mapping = New { start: mmap.addr, len: mmap.len, pgoff: mmap.pgoff, ..New::default() };
                self.map(misc, mmap.pid, mmap.filename.as_bytes(), mapping);
            }
            Body::Mmap2(mmap) => {
                let mapping = New {
                    start: mmap.addr,
                    len: mmap.len,
                    pgoff: mmap.pgoff,
                    file: Some(mmap.file),
                    prot: Some(mmap.prot),
                    flags: Some(mmap.flags),
                };
                self.map(misc, mmap.pid, mmap.filename.as_bytes(), mapping);
            }
            Body::Comm(comm) => self.name(misc, comm),
            Body::Fork(task) => self.fork(misc, task),
            Body::Exit(task) => self.leave(task.tid),
            Body::Ksymbol(symbol) => self.symbol(symbol),
            _ => {}
        }
    }

    /// The name of a thread, if a record said it. That of the idle tasks is known.
    pub fn comm(&self, pid: u32, tid: u32) -> Option<&[u8]> {
        let named = self.tasks.get(&tid).filter(|task| task.pid == pid).and_then(|task| task.comm.as_deref());
        if (pid, tid) == (0, 0) { named.or(Some(b"swapper")) } else { named }
    }

    /// What is mapped at an address of a process, or of the kernel, by the mode in which it was executed. In an unknown mode
    /// it is an address of the process, or else of the kernel. Those of guests and hypervisors mean nothing here.
    pub fn resolve(&self, pid: u32, cpumode: CpuMode, ip: u64) -> Option<Location<'_>> {
        let user = || self.processes.get(&pid)?.maps.get(ip);
        let kernel = || self.symbols.get(ip).or_else(|| self.kernel.get(ip));
        let mapping = match cpumode {
            CpuMode::User => user(),
            CpuMode::Kernel => kernel(),
            CpuMode::Unknown => user().or_else(kernel),
            _ => None,
        }?;
        Some(Location { mapping, ip, offset: ip.wrapping_sub(mapping.start).wrapping_add(mapping.pgoff) })
    }

    fn map(&mut self, misc: Misc, pid: u32, name: &[u8], new: New) {
        let kind = match misc.cpumode() {
            CpuMode::Kernel => MappingKind::Kernel,
            CpuMode::User | CpuMode::Unknown => MappingKind::Process,
            _ => return,
        };
        // An empty one maps nothing, and one that goes beyond the last address ends there.
        let Some(beyond) = new.len.checked_sub(1) else { return };
        let last = new.start.saturating_add(beyond);
        let Some(mapping) = self.mapping(kind, name, new) else { return };
        let nodes = match kind {
            MappingKind::Kernel => return self.kernel.insert(new.start, last, mapping, &mut self.nodes),
            _ => &mut self.nodes,
        };
        match process(&mut self.processes, pid) {
            Some(process) => process.maps.insert(new.start, last, mapping, nodes),
            None => self.forgotten += 1,
        }
    }

    fn mapping(&mut self, kind: MappingKind, name: &[u8], new: New) -> Option<Arc<Mapping>> {
        while self.nodes.count() >= Self::MAX_MAPPINGS && self.forget_process() {}
        let has_room = self.nodes.count() < Self::MAX_MAPPINGS;
        let Some(name) = Some(name).filter(|_| has_room).and_then(|name| self.names.intern(name)) else {
            self.forgotten += 1;
            return None;
        };
        let New { start, len, pgoff, file, prot, flags } = new;
        Some(Arc::new(Mapping { kind, start, len, pgoff, file, prot, flags, name }))
    }

    fn symbol(&mut self, symbol: &Ksymbol<'_>) {
        const UNREGISTER: u16 = 1;
        let Some(beyond) = u64::from(symbol.len).checked_sub(1) else { return };
        let last = symbol.addr.saturating_add(beyond);
        if symbol.flags & UNREGISTER != 0 {
            return self.symbols.remove(symbol.addr, last, &mut self.nodes);
        }
        let new = New { start: symbol.addr, len: symbol.len.into(), ..New::default() };
        if let Some(mapping) = self.mapping(MappingKind::Symbol, symbol.name.as_bytes(), new) {
            self.symbols.insert(symbol.addr, last, mapping, &mut self.nodes);
        }
    }

    fn name(&mut self, misc: Misc, record: &Comm<'_>) {
        let comm = self.names.intern(record.comm.as_bytes());
        self.forgotten += u64::from(comm.is_none());
        self.enter(record.pid, record.tid, comm);
        if misc.contains(Misc::COMM_EXEC)
            && let Some(process) = self.processes.get_mut(&record.pid)
        {
            process.maps = RangeMap::default();
        }
    }

    fn fork(&mut self, misc: Misc, task: &Task) {
        let comm = self.tasks.get(&task.ptid).and_then(|parent| parent.comm.clone());
        if task.pid != task.ppid {
            let maps = match self.processes.get(&task.ppid) {
                Some(parent) if !misc.contains(Misc::FORK_EXEC) => parent.maps.clone(),
                _ => RangeMap::default(),
            };
            self.leave(task.tid);
            match process(&mut self.processes, task.pid) {
                Some(process) => *process = Process { maps, live: 0, ended: None },
                None => self.forgotten += 1,
            }
        }
        self.enter(task.pid, task.tid, comm);
    }

    /// There is a thread of this name.
    fn enter(&mut self, pid: u32, tid: u32, comm: Option<Arc<[u8]>>) {
        if let Some(task) = self.tasks.get_mut(&tid)
            && task.pid == pid
            && task.ended.is_none()
        {
            task.comm = comm;
            return;
        }
        self.leave(tid);
        if self.tasks.len() >= Self::MAX_TASKS && !self.tasks.contains_key(&tid) {
            self.forgotten += 1;
            return;
        }
        match process(&mut self.processes, pid) {
            Some(process) => process.live = process.live.saturating_add(1),
            None => self.forgotten += 1,
        }
        self.tasks.insert(tid, Thread { pid, comm, ended: None });
    }

    /// A thread ends, if it is known.
    fn leave(&mut self, tid: u32) {
        let Some(task) = self.tasks.get_mut(&tid).filter(|task| task.ended.is_none()) else { return };
        self.ends += 1;
        task.ended = Some(self.ends);
        self.ended_tasks.push_back((tid, self.ends));
        if let Some(process) = self.processes.get_mut(&task.pid)
            && process.ended.is_none()
        {
            process.live = process.live.saturating_sub(1);
            if process.live == 0 {
                process.ended = Some(self.ends);
                self.ended_processes.push_back((task.pid, self.ends));
            }
        }
        // Whose number is used again has another end by now, or none.
        if self.ended_tasks.len() > Self::MAX_ENDED
            && let Some((tid, end)) = self.ended_tasks.pop_front()
            && self.tasks.get(&tid).is_some_and(|task| task.ended == Some(end))
        {
            self.tasks.remove(&tid);
        }
        if self.ended_processes.len() > Self::MAX_ENDED {
            self.forget_process();
        }
    }

    /// Of those that ended, the first goes, if there is one.
    fn forget_process(&mut self) -> bool {
        let Some((pid, end)) = self.ended_processes.pop_front() else { return false };
        if self.processes.get(&pid).is_some_and(|process| process.ended == Some(end)) {
            self.processes.remove(&pid);
        }
        true
    }
}

/// A process that lives: a new one if the number was another's.
fn process(processes: &mut HashMap<u32, Process>, pid: u32) -> Option<&mut Process> {
    if processes.len() >= AddressSpaces::MAX_TASKS && !processes.contains_key(&pid) {
        return None;
    }
    let process = processes.entry(pid).or_default();
    if process.ended.is_some() {
        *process = Process::default();
    }
    Some(process)
}

/// What a mapping is made from.
#[derive(Clone, Copy, Default)]
struct New {
    start: u64,
    len: u64,
    pgoff: u64,
    file: Option<MappedFile>,
    prot: Option<u32>,
    flags: Option<u32>,
}

/// Each name once.
#[derive(Debug)]
struct Names {
    /// Most bytes.
    limit: usize,
    names: HashSet<Arc<[u8]>>,
    bytes: usize,
    /// How often there was no room since those that nobody uses went.
    refused: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { limit: AddressSpaces::MAX_NAMES, names: HashSet::new(), bytes: 0, refused: 0 }
    }
}

impl Names {
    /// What a name takes beyond its bytes.
    const OVERHEAD: usize = 48;

    fn intern(&mut self, name: &[u8]) -> Option<Arc<[u8]>> {
        if let Some(name) = self.names.get(name) {
            return Some(name.clone());
        }
        let size = name.len() + Self::OVERHEAD;
        if self.bytes + size > self.limit {
            // Looking at all of them now and then only.
            if self.refused == 0 {
                self.names.retain(|name| Arc::strong_count(name) > 1);
                self.bytes = self.names.iter().map(|name| name.len() + Self::OVERHEAD).sum();
            }
            self.refused = if self.refused > self.names.len() { 0 } else { self.refused + 1 };
            if self.bytes + size > self.limit {
                return None;
            }
        }
        let name = Arc::from(name);
        self.names.insert(Arc::clone(&name));
        self.bytes += size;
        Some(name)
    }
}

#[cfg(test)]
mod tests;
