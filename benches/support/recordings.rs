//! Recordings to read, as large as asked for: files that `perf` accepts, and the same each time.
//!
//! As in a recording of all CPUs, four rings are written in rounds: of each ring a run of records that ascend in time, and
//! behind the runs, which overlap in time, a `FINISHED_ROUND`. Each round overlaps with the one before it.

#![allow(dead_code, reason = "each bench uses its part")]

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use perfring::record::{
    Attr, AttrFlags, Body, ByteOrder, Callchain, CallchainContext, Comm, Encoder, Header, MappedFile, Misc, Mmap,
    Mmap2, ReadFormat, RecordType, Regs, RegsAbi, SampleFields, SampleId, SampleType, StackUser, Task, Tid, Words,
};

const CPUS: u32 = 4;
const PROCESSES: u32 = 24;
const FIRST_PID: u32 = 1000;
/// Where each process has its program.
const PROGRAM: u64 = 0x40_0000;
const PROGRAM_LEN: u64 = 0x10_0000;
const KERNEL: u64 = 0xffff_ffff_8100_0000;
const KERNEL_LEN: u64 = 0x120_0000;
/// Bytes of a run, about.
const RUN: usize = 24 << 10;
/// Nanoseconds of a round. The last quarter of it is the first one of the next.
const ROUND: u64 = 1_000_000;
const STACK: usize = 8192;
/// The registers of x86-64 as `perf` records them: all but ds, es, fs and gs.
const REGS: u64 = 0xff_0fff;
/// The format of `perf_event_attr` that `perf` 6.1 knows.
const ATTR_SIZE: u32 = 128;
/// What a file starts with, in the byte order of the machine.
const MAGIC: [u8; 8] = *b"PERFILE2";
const FILE_HEADER: u64 = 104;
const SECTION: u64 = 16;

/// What the samples of a recording are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A tracepoint with call chains of 4 to 30 entries: 232 bytes a sample.
    Chains,
    /// Four tracepoints of different sizes without call chains: 110 bytes a sample.
    Tracepoints,
    /// Registers and 8 KiB of stack: 8.5 kB a sample.
    Stacks,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the file.
    pub bytes: u64,
    /// How many records of each type.
    pub counts: Vec<(RecordType, u64)>,
}

impl Summary {
    /// All records.
    pub fn records(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Those of a type.
    pub fn count(&self, type_: RecordType) -> u64 {
        self.counts.iter().find(|(counted, _)| *counted == type_).map_or(0, |(_, count)| *count)
    }
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Chains, Self::Tracepoints, Self::Stacks];

    /// For tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chains => "chains",
            Self::Tracepoints => "tracepoints",
            Self::Stacks => "stacks",
        }
    }

    /// The size of the recording that is measured.
    pub fn size(self) -> u64 {
        match self {
            Self::Chains => 208 << 20,
            Self::Tracepoints => 249 << 20,
            Self::Stacks => 200 << 20,
        }
    }

    /// Writes a file with at least this many bytes of records.
    pub fn create(self, bytes: u64, path: &Path) -> io::Result<Summary> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let summary = self.write(bytes, &mut file)?;
        file.flush()?;
        Ok(summary)
    }

    /// Writes at least this many bytes of records, and what makes a file of them, from where `out` is: its start.
    pub fn write(self, bytes: u64, out: &mut (impl Write + Seek)) -> io::Result<Summary> {
        let events = self.events();
        let ids_len = 8 * u64::from(CPUS);
        let attrs = FILE_HEADER + ids_len * events.len() as u64;
        let data = attrs + (u64::from(ATTR_SIZE) + SECTION) * events.len() as u64;

        out.write_all(&[0; FILE_HEADER as usize])?;
        for event in &events {
            words(out, (0..CPUS).map(|cpu| event.id(cpu)))?;
        }
        for (index, event) in events.iter().enumerate() {
            out.write_all(&event.attr.to_bytes(ByteOrder::NATIVE))?;
            words(out, [FILE_HEADER + ids_len * index as u64, ids_len])?;
        }

        let mut records = Records::new(self, &events);
        records.processes();
        let mut written = 0;
        while written < bytes {
            records.round();
            written += records.buffer.len() as u64;
            out.write_all(&records.buffer)?;
            records.buffer.clear();
        }

        // The features: only what `perf` needs for tracepoints.
        let formats = self.tracing_data();
        let table = data + written;
        let mut features = 0;
        if !formats.is_empty() {
            const TRACING_DATA: u64 = 1 << 1;
            features = TRACING_DATA;
            words(out, [table + SECTION, formats.len() as u64])?;
            out.write_all(&formats)?;
        }
        let bytes = out.stream_position()?;

        out.seek(SeekFrom::Start(0))?;
        let attr_size = u64::from(ATTR_SIZE) + SECTION;
        let sections = [attrs, data - attrs, data, written, 0, 0];
        words(out, [u64::from_le_bytes(MAGIC), FILE_HEADER, attr_size])?;
        words(out, sections.into_iter().chain([features, 0, 0, 0]))?;
        out.seek(SeekFrom::End(0))?;
        Ok(Summary { bytes, counts: records.counts })
    }

    fn events(self) -> Vec<Event> {
        let common = SampleType::IDENTIFIER | SampleType::IP | SampleType::TID | SampleType::TIME | SampleType::CPU;
        let event = |index: u64, type_, config, sample_type, raw| Event {
            attr: Attr {
                type_,
                size: ATTR_SIZE,
                config,
                sample_period: 1,
                sample_type: common | SampleType::PERIOD | sample_type,
                read_format: ReadFormat::ID,
                flags: AttrFlags::SAMPLE_ID_ALL
                    | AttrFlags::MMAP
                    | AttrFlags::MMAP2
                    | AttrFlags::COMM
                    | AttrFlags::COMM_EXEC
                    | AttrFlags::TASK
                    | AttrFlags::EXCLUDE_GUEST,
                sample_regs_user: if sample_type.contains(SampleType::REGS_USER) { REGS } else { 0 },
                sample_stack_user: if sample_type.contains(SampleType::STACK_USER) { STACK as u32 } else { 0 },
                ..Attr::default()
            },
            first_id: 100 + index * u64::from(CPUS),
            raw,
        };
        const SOFTWARE: u32 = 1;
        const TRACEPOINT: u32 = 2;
        match self {
            Self::Chains => {
                vec![event(0, TRACEPOINT, tracepoint_id(0), SampleType::CALLCHAIN | SampleType::RAW, RAW[0])]
            }
            Self::Tracepoints => (0..)
                .zip(RAW)
                .map(|(index, raw)| event(index, TRACEPOINT, tracepoint_id(index), SampleType::RAW, raw))
                .collect(),
            Self::Stacks => {
                let fields = SampleType::CALLCHAIN | SampleType::REGS_USER | SampleType::STACK_USER;
                vec![event(0, SOFTWARE, 0, fields, 0)]
            }
        }
    }

    /// The section that holds the formats of the tracepoints (`perf.data-file-format.txt`, trace.dat(5)).
    fn tracing_data(self) -> Vec<u8> {
        let tracepoints = match self {
            Self::Chains => 1,
            Self::Tracepoints => RAW.len(),
            Self::Stacks => return Vec::new(),
        };
        let mut out = b"\x17\x08\x44tracing0.6\0".to_vec();
        out.extend([u8::from(cfg!(target_endian = "big")), 8]);
        out.extend(4096_u32.to_ne_bytes());
        let mut sized = |name: &[u8], text: &str| {
            out.extend(name);
            out.extend((text.len() as u64).to_ne_bytes());
            out.extend(text.as_bytes());
        };
        sized(
            b"header_page\0",
            "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
             \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
             \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
             \tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n",
        );
        sized(b"header_event\0", "");
        out.extend(0_u32.to_ne_bytes());
        out.extend(1_u32.to_ne_bytes());
        out.extend(b"bench\0");
        out.extend((tracepoints as u32).to_ne_bytes());
        for (index, raw) in (0_u64..).zip(RAW).take(tracepoints) {
            let text = format(index, raw);
            out.extend((text.len() as u64).to_ne_bytes());
            out.extend(text.as_bytes());
        }
        // No symbols of the kernel, no format strings, no names of tasks.
        out.extend([0; 4 + 4 + 8]);
        out
    }
}

/// Bytes of the raw data of each tracepoint, as written by it: with its length of 4 bytes it is a multiple of 8.
const RAW: [usize; 4] = [28, 44, 52, 76];

fn tracepoint_id(index: u64) -> u64 {
    500 + index
}

/// The text that tracefs has of a tracepoint: what all have, a number, and as much text as there is room for.
fn format(index: u64, raw: usize) -> String {
    let field = |what: &str, offset: usize, size: usize, signed: u8| {
        format!("\tfield:{what};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n")
    };
    let text = format!("char text[{}]", raw - 16);
    format!(
        "name: event_{index}\nID: {}\nformat:\n{}{}{}{}\n{}{}\nprint fmt: \"number=%llu\", REC->number\n",
        tracepoint_id(index),
        field("unsigned short common_type", 0, 2, 0),
        field("unsigned char common_flags", 2, 1, 0),
        field("unsigned char common_preempt_count", 3, 1, 0),
        field("int common_pid", 4, 4, 1),
        field("u64 number", 8, 8, 0),
        field(&text, 16, raw - 16, 0),
    )
}

fn words(out: &mut impl Write, words: impl IntoIterator<Item = u64>) -> io::Result<()> {
    words.into_iter().try_for_each(|word| out.write_all(&word.to_ne_bytes()))
}

struct Event {
    attr: Attr,
    first_id: u64,
    raw: usize,
}

impl Event {
    fn id(&self, cpu: u32) -> u64 {
        self.first_id + u64::from(cpu)
    }
}

/// Values that repeat no pattern that a predictor could take advantage of.
struct Values(u64);

impl Values {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    /// From 0 to below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn tid(&mut self) -> Tid {
        let pid = FIRST_PID + 10 * self.below(PROCESSES.into()) as u32;
        Tid { pid, tid: pid + self.below(4) as u32 }
    }

    fn user_ip(&mut self) -> u64 {
        PROGRAM + self.below(PROGRAM_LEN)
    }

    fn kernel_ip(&mut self) -> u64 {
        KERNEL + self.below(KERNEL_LEN)
    }
}

struct Records<'e> {
    shape: Shape,
    events: Vec<(&'e Event, Encoder)>,
    values: Values,
    /// The newest time of each ring.
    newest: [u64; CPUS as usize],
    rounds: u64,
    /// Random words, of which pieces become stacks and raw data.
    noise: Vec<u8>,
    buffer: Vec<u8>,
    counts: Vec<(RecordType, u64)>,
}

impl<'e> Records<'e> {
    fn new(shape: Shape, events: &'e [Event]) -> Self {
        let mut values = Values(shape as u64 + 1);
        let encoder = |event: &Event| Encoder::new(&event.attr, ByteOrder::NATIVE).expect("a layout");
        Self {
            shape,
            events: events.iter().map(|event| (event, encoder(event))).collect(),
            noise: (0..2 * STACK / 8).flat_map(|_| values.next().to_ne_bytes()).collect(),
            values,
            newest: [0; CPUS as usize],
            rounds: 0,
            buffer: Vec::new(),
            counts: Vec::new(),
        }
    }

    fn count(&mut self, header: Header) {
        match self.counts.iter_mut().find(|(type_, _)| *type_ == header.type_) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((header.type_, 1)),
        }
    }

    /// A record that is no sample.
    fn side(&mut self, misc: Misc, body: &Body<'_>, id: SampleId) {
        let (_, encoder) = &self.events[0];
        let header = encoder.encode(misc, body, &id, &mut self.buffer).expect("a record");
        self.count(header);
    }

    /// What `perf` writes of the kernel, and of the processes that are there already: at time 0, and of no event.
    fn processes(&mut self) {
        let id =
            |tid| SampleId { tid: Some(tid), time: Some(0), cpu: Some(0), identifier: Some(0), ..Default::default() };
        let kernel = Mmap {
            pid: u32::MAX,
            tid: 0,
            addr: KERNEL,
            len: KERNEL_LEN,
            pgoff: KERNEL,
            filename: "[kernel.kallsyms]_text".into(),
        };
        self.side(Misc::from_bits_retain(1), &Body::Mmap(kernel), id(Tid { pid: 0, tid: 0 }));
        for pid in (0..PROCESSES).map(|index| FIRST_PID + 10 * index) {
            self.process(pid, Misc::empty(), id(Tid { pid, tid: pid }));
            for tid in pid + 1..pid + 4 {
                let comm = format!("thread-{tid}");
                self.side(
                    Misc::empty(),
                    &Body::Comm(Comm { pid, tid, comm: comm.as_str().into() }),
                    id(Tid { pid, tid }),
                );
            }
        }
    }

    /// A name and a program.
    fn process(&mut self, pid: u32, misc: Misc, id: SampleId) {
        let (comm, filename) = (format!("bench-{pid}"), format!("/usr/bin/bench-{pid}"));
        self.side(misc, &Body::Comm(Comm { pid, tid: pid, comm: comm.as_str().into() }), id);
        let program = Mmap2 {
            pid,
            tid: pid,
            addr: PROGRAM,
            len: PROGRAM_LEN,
            pgoff: 0,
            file: MappedFile::Inode { maj: 8, min: 1, ino: pid.into(), ino_generation: 1 },
            prot: 5,
            flags: 2,
            filename: filename.as_str().into(),
        };
        self.side(Misc::from_bits_retain(2), &Body::Mmap2(program), id);
    }

    fn round(&mut self) {
        let start = 1_000_000_000_000 + self.rounds * ROUND;
        let end = start + ROUND + ROUND / 4;
        for cpu in 0..CPUS {
            let from = self.buffer.len();
            let len = RUN / 2 + self.values.below(RUN as u64) as usize;
            let mut time = self.newest[cpu as usize].max(start) + self.values.below(ROUND / 8);
            // So that the run spans the round, whatever a sample of this shape has on the average.
            let step = 2 * (end - time) * self.shape.mean() / len as u64;
            if self.rounds % 16 == u64::from(cpu) {
                self.starts(cpu, time);
            }
            while self.buffer.len() - from < len {
                // Two rings may have the same time.
                time = (time + 1 + self.values.below(step)).min(end);
                self.sample(cpu, time);
            }
            self.newest[cpu as usize] = time;
        }
        let finished = Header { type_: RecordType::FINISHED_ROUND, misc: Misc::empty(), size: Header::SIZE as u16 };
        self.buffer.extend(finished.to_bytes(ByteOrder::NATIVE));
        self.count(finished);
        self.rounds += 1;
    }

    /// A process that starts, and ends at once.
    fn starts(&mut self, cpu: u32, time: u64) {
        let pid = 30_000 + (self.rounds / 16 % 30_000) as u32;
        let parent = self.values.tid();
        let identifier = Some(self.events[0].0.id(cpu));
        let id = |tid| SampleId { tid: Some(tid), time: Some(time), cpu: Some(cpu), identifier, ..Default::default() };
        let own = Tid { pid, tid: pid };
        let task = Task { pid, ppid: parent.pid, tid: pid, ptid: parent.tid, time };
        self.side(Misc::empty(), &Body::Fork(task), id(parent));
        self.process(pid, Misc::COMM_EXEC, id(own));
        self.side(Misc::empty(), &Body::Exit(task), id(own));
    }

    fn sample(&mut self, cpu: u32, time: u64) {
        let values = &mut self.values;
        let (event, encoder) = &self.events[values.below(self.events.len() as u64) as usize];
        let has = |field| event.attr.sample_type.contains(field);
        let tid = values.tid();
        let in_kernel = self.shape != Shape::Stacks;
        let ip = if in_kernel { values.kernel_ip() } else { values.user_ip() };

        let mut chain = [0; 30];
        let entries = match self.shape {
            Shape::Stacks => 2,
            _ => 4 + values.below(27) as usize,
        };
        if has(SampleType::CALLCHAIN) {
            // What the kernel's part has, if there is one, and then that of user space.
            let kernel = if in_kernel { 1 + entries / 3 } else { 0 };
            for (index, entry) in chain[..entries].iter_mut().enumerate() {
                *entry = match index {
                    0 if in_kernel => CallchainContext::KERNEL.0,
                    1 if in_kernel => ip,
                    index if index == kernel => CallchainContext::USER.0,
                    index if index < kernel => values.kernel_ip(),
                    1 => ip,
                    _ => values.user_ip(),
                };
            }
        }

        let mut raw = [0; RAW[3]];
        if has(SampleType::RAW) {
            raw[..2].copy_from_slice(&(event.attr.config as u16).to_ne_bytes());
            raw[4..8].copy_from_slice(&tid.tid.to_ne_bytes());
            raw[8..16].copy_from_slice(&values.next().to_ne_bytes());
            let at = values.below(1024) as usize;
            for (to, noise) in raw[16..event.raw - 1].iter_mut().zip(&self.noise[at..]) {
                *to = b'a' + noise % 26;
            }
        }

        let mut regs = [0; REGS.count_ones() as usize];
        if has(SampleType::REGS_USER) {
            regs.fill_with(|| values.next());
            // bp, sp, ip
            (regs[6], regs[7], regs[8]) = (0x7ffc_0000_1000, 0x7ffc_0000_0000, ip);
        }
        let at = 8 * values.below(STACK as u64 / 8) as usize;
        let stack = &self.noise[at..at + STACK];

        let fields = SampleFields {
            identifier: Some(event.id(cpu)),
            ip: Some(ip),
            tid: Some(tid),
            time: Some(time),
            cpu: Some(cpu),
            period: Some(1),
            callchain: has(SampleType::CALLCHAIN).then(|| Callchain::from(&chain[..entries])),
            raw: has(SampleType::RAW).then(|| &raw[..event.raw]),
            regs_user: has(SampleType::REGS_USER)
                .then(|| Regs::new(RegsAbi::Abi64, REGS, Words::from(&regs[..])).expect("all registers")),
            stack_user: has(SampleType::STACK_USER).then_some(StackUser { data: stack, dyn_size: STACK as u64 }),
            ..SampleFields::default()
        };
        let mode = if in_kernel { 1 } else { 2 };
        let header = encoder.sample(Misc::from_bits_retain(mode), &fields, &mut self.buffer).expect("a sample");
        self.count(header);
    }
}

impl Shape {
    /// Bytes of a sample on the average.
    fn mean(self) -> u64 {
        match self {
            Self::Chains => 232,
            Self::Tracepoints => 110,
            Self::Stacks => 8456,
        }
    }
}
