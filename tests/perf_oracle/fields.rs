//! What `perf` prints of the fields of a record.

use super::number;

/// The fields of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Fields {
    /// `SAMPLE`
    Sample(Box<Sampled>),
    /// `MMAP`: pid, tid, addr, len, pgoff, and the name.
    Mmap { pid: u32, tid: u32, addr: u64, len: u64, pgoff: u64, filename: String },
    /// `MMAP2`: in `file` the device, the inode and its generation, or else the build id in hexadecimal.
    Mmap2 { pid: u32, tid: u32, addr: u64, len: u64, pgoff: u64, file: String, prot: String, filename: String },
    /// `COMM`
    Comm { pid: u32, tid: u32, exec: bool, comm: String },
    /// `FORK` and `EXIT`
    Task { pid: u32, tid: u32, ppid: u32, ptid: u32 },
    /// `LOST`
    Lost { id: u64, lost: u64 },
    /// `LOST_SAMPLES`, with the id of the trailer.
    LostSamples { id: Option<u64>, lost: u64 },
    /// `READ`: the event is named as the recording names it. Fields that the event has not are none.
    Read { pid: u32, tid: u32, event: String, value: u64, enabled: Option<u64>, running: Option<u64>, id: Option<u64> },
    /// `SWITCH`
    Switch { out: bool, preempt: bool },
    /// `SWITCH_CPU_WIDE`
    SwitchCpuWide { out: bool, preempt: bool, pid: i32, tid: i32 },
    /// `CGROUP`
    Cgroup { id: u64, path: String },
    /// `KSYMBOL`
    Ksymbol { addr: u64, len: u32, type_: u16, flags: u16, name: String },
    /// `BPF_EVENT`
    BpfEvent { type_: u16, flags: u16, id: u32 },
    /// `NAMESPACES`: device and inode of each.
    Namespaces { pid: u32, tid: u32, links: Vec<(u64, u64)> },
    /// What else is printed behind the name.
    Other(String),
}

/// The fields of a sample that `perf` prints for every sample, and those that it prints if they are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampled {
    pub misc: u16,
    pub pid: u32,
    pub tid: u32,
    pub ip: u64,
    pub period: u64,
    pub addr: u64,
    pub callchain: Option<Vec<u64>>,
    pub user_regs: Option<Registers>,
    pub intr_regs: Option<Registers>,
    /// How many bytes are valid, as `perf` calls the size of the stack.
    pub stack_size: Option<u64>,
    pub read: Option<Values>,
    pub data_src: Option<u64>,
    pub phys_addr: Option<u64>,
}

/// Registers by perf's names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registers {
    pub mask: u64,
    pub abi: String,
    pub values: Vec<(String, u64)>,
}

/// Values that a sample holds: of an event, or of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    pub group: bool,
    pub enabled: Option<u64>,
    pub running: Option<u64>,
    pub values: Vec<Value>,
}

/// The value of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Value {
    pub id: u64,
    pub value: u64,
    pub lost: Option<u64>,
}

impl Fields {
    /// Reads what stands behind `PERF_RECORD_`, and the lines that follow.
    pub(super) fn read(type_: u32, head: &str, details: &[&str]) -> Option<Self> {
        let name_len = head.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
        let (_, rest) = head.split_at(name_len.unwrap_or(head.len()));
        match type_ {
            1 => mmap(rest),
            2 => {
                let (id, lost) = rest.strip_prefix(": id:")?.split_once(": lost:")?;
                Some(Self::Lost { id: id.parse().ok()?, lost: lost.parse().ok()? })
            }
            3 => comm(rest),
            4 | 7 => {
                let numbers: Option<Vec<u32>> = rest
                    .trim_matches(['(', ')'])
                    .split([':', '(', ')'])
                    .filter(|n| !n.is_empty())
                    .map(signed)
                    .collect();
                let [pid, tid, ppid, ptid] = numbers?[..] else { return None };
                Some(Self::Task { pid, tid, ppid, ptid })
            }
            8 => read(rest, details),
            9 => Some(Self::Sample(Box::new(Sampled::read(rest, details)?))),
            10 => mmap2(rest),
            13 => {
                let (front, lost) = rest.rsplit_once(':')?;
                let id = front.split_once("id:").and_then(|(_, id)| id.split(':').next()?.parse().ok());
                Some(Self::LostSamples { id, lost: lost.parse().ok()? })
            }
            14 => {
                let (out, preempt) = in_or_out(rest)?;
                Some(Self::Switch { out, preempt })
            }
            15 => {
                let (out, preempt) = in_or_out(rest)?;
                let (pid, tid) = rest.rsplit_once(": ")?.1.trim().split_once('/')?;
                Some(Self::SwitchCpuWide { out, preempt, pid: pid.trim().parse().ok()?, tid: tid.trim().parse().ok()? })
            }
            16 => namespaces(rest, details),
            17 => {
                let words = words_after(rest, &["addr ", " len ", " type ", " flags ", " name "])?;
                let [addr, len, type_, flags, name] = words[..] else { return None };
                Some(Self::Ksymbol {
                    addr: u64::from_str_radix(addr, 16).ok()?,
                    len: len.parse().ok()?,
                    type_: type_.parse().ok()?,
                    flags: number(flags)? as u16,
                    name: name.to_owned(),
                })
            }
            18 => {
                let words = words_after(rest, &["type ", ", flags ", ", id "])?;
                let [type_, flags, id] = words[..] else { return None };
                Some(Self::BpfEvent { type_: type_.parse().ok()?, flags: flags.parse().ok()?, id: id.parse().ok()? })
            }
            19 => {
                let (id, path) = rest.trim_start().strip_prefix("cgroup: ")?.split_once(' ')?;
                Some(Self::Cgroup { id: id.parse().ok()?, path: path.to_owned() })
            }
            _ => Some(Self::Other(rest.to_owned())),
        }
    }
}

/// What stands between marks that follow each other, and behind the last.
fn words_after<'a>(text: &'a str, marks: &[&str]) -> Option<Vec<&'a str>> {
    let mut rest = text.split_once(marks.first()?)?.1;
    let mut words = Vec::new();
    for mark in &marks[1..] {
        let (word, tail) = rest.split_once(mark)?;
        words.push(word);
        rest = tail;
    }
    words.push(rest);
    Some(words)
}

/// perf prints pids as signed numbers.
fn signed(text: &str) -> Option<u32> {
    text.trim().parse::<i32>().ok().map(|number| number as u32)
}

fn pid_tid(text: &str) -> Option<(u32, u32)> {
    let (pid, tid) = text.split_once('/')?;
    Some((signed(pid)?, signed(tid)?))
}

/// ` PID/TID: [ADDR(LEN) @ PGOFF`
fn mapping(text: &str) -> Option<(u32, u32, u64, u64, u64)> {
    let (ids, range) = text.trim_start().split_once(": [")?;
    let (addr, rest) = range.split_once('(')?;
    let (len, pgoff) = rest.split_once(") @ ")?;
    let (pid, tid) = pid_tid(ids)?;
    Some((pid, tid, number(addr)?, number(len)?, number(pgoff)?))
}

/// ` -1/0: [0xffffffff81000000(0x1209988) @ 0xffffffff81000000]: x [kernel.kallsyms]_text`
fn mmap(rest: &str) -> Option<Fields> {
    let (front, behind) = rest.split_once("]: ")?;
    let (pid, tid, addr, len, pgoff) = mapping(front)?;
    Some(Fields::Mmap { pid, tid, addr, len, pgoff, filename: behind.split_once(' ')?.1.to_owned() })
}

/// ` 1/1: [0x401000(0x1000) @ 0x1000 fe:00 10051654 1713635230]: r-xp /bin/true`
fn mmap2(rest: &str) -> Option<Fields> {
    let (front, behind) = rest.split_once("]: ")?;
    let at = front.find(" @ ")? + 3;
    let (_, file) = front[at..].split_once(' ')?;
    let (pid, tid, addr, len, pgoff) = mapping(&front[..front.len() - file.len() - 1])?;
    let (prot, filename) = behind.split_once(' ')?;
    let (file, prot, filename) = (file.trim_matches(['<', '>']).to_owned(), prot.to_owned(), filename.to_owned());
    Some(Fields::Mmap2 { pid, tid, addr, len, pgoff, file, prot, filename })
}

/// ` exec: NAME:PID/TID`, where the name may hold anything.
fn comm(rest: &str) -> Option<Fields> {
    let (exec, rest) = match rest.strip_prefix(" exec: ") {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix(": ")?),
    };
    let (comm, ids) = rest.rsplit_once(':')?;
    let (pid, tid) = pid_tid(ids)?;
    Some(Fields::Comm { pid, tid, exec, comm: comm.to_owned() })
}

/// ` IN`, ` OUT`, ` OUT preempt`, and the task behind a colon.
fn in_or_out(rest: &str) -> Option<(bool, bool)> {
    let mut words = rest.split_whitespace();
    match words.next()? {
        "IN" => Some((false, false)),
        "OUT" => Some((true, words.next() == Some("preempt"))),
        _ => None,
    }
}

/// `: PID TID EVENT VALUE`, and lines for the rest.
fn read(rest: &str, details: &[&str]) -> Option<Fields> {
    let (front, value) = rest.strip_prefix(": ")?.rsplit_once(' ')?;
    let mut words = front.splitn(3, ' ');
    let (pid, tid) = (signed(words.next()?)?, signed(words.next()?)?);
    let event = words.next()?.to_owned();
    let line = |name: &str| {
        let line = details.iter().find_map(|line| line.strip_prefix("... ")?.strip_prefix(name))?;
        line.trim_start().strip_prefix(": ")?.parse().ok()
    };
    let (enabled, running, id) = (line("time enabled"), line("time running"), line("id"));
    Some(Fields::Read { pid, tid, event, value: value.parse().ok()?, enabled, running, id })
}

/// ` PID/TID - nr_namespaces: 7`, and lines with `0/net: 4/0xeffffff9, ...`.
fn namespaces(rest: &str, details: &[&str]) -> Option<Fields> {
    let (ids, count) = rest.trim_start().split_once(" - nr_namespaces: ")?;
    let (pid, tid) = pid_tid(ids)?;
    let links: Option<Vec<_>> = details
        .iter()
        .take_while(|line| line.starts_with(['\t', ' ']))
        .flat_map(|line| line.split(['[', ',', ']']))
        .filter(|link| !link.trim().is_empty())
        .map(|link| {
            let (dev, inode) = link.split_once(": ")?.1.split_once('/')?;
            Some((dev.parse().ok()?, number(inode)?))
        })
        .collect();
    links.filter(|links| Some(links.len()) == count.parse().ok()).map(|links| Fields::Namespaces { pid, tid, links })
}

impl Sampled {
    /// `(IP, 0x2): 7/8: 0x40129c period: 1000000 addr: 0`, and lines for the rest.
    fn read(rest: &str, details: &[&str]) -> Option<Self> {
        let (misc, rest) = rest.strip_prefix("(IP, ")?.split_once("): ")?;
        let (ids, rest) = rest.split_once(": ")?;
        let (ip, rest) = rest.split_once(" period: ")?;
        let (period, addr) = rest.split_once(" addr: ")?;
        let (pid, tid) = pid_tid(ids)?;
        let mut sample = Self {
            misc: number(misc)? as u16,
            pid,
            tid,
            ip: number(ip)?,
            period: period.parse().ok()?,
            addr: number(addr)?,
            ..Self::default()
        };
        let mut lines = details.iter().peekable();
        // What follows is about the task, and what the tracepoint's fields are.
        while let Some(line) = lines.next_if(|line| !line.starts_with(" ... thread")) {
            if let Some((_, count)) = line.split_once("chain: nr:") {
                let is_entry = |line: &&&str| line.starts_with("..... ");
                let chain: Option<Vec<u64>> = std::iter::from_fn(|| lines.next_if(is_entry))
                    .map(|line| u64::from_str_radix(line.rsplit_once(": ")?.1.trim(), 16).ok())
                    .collect();
                sample.callchain = Some(chain.filter(|chain| count.parse() == Ok(chain.len()))?);
            } else if let Some(head) = line.strip_prefix("... user regs: mask ") {
                sample.user_regs = Some(registers(head, &mut lines)?);
            } else if let Some(head) = line.strip_prefix("... intr regs: mask ") {
                sample.intr_regs = Some(registers(head, &mut lines)?);
            } else if let Some(size) = line.strip_prefix("... ustack: size ") {
                sample.stack_size = Some(size.split(',').next()?.parse().ok()?);
            } else if line.starts_with("... sample_read:") {
                sample.read = Some(values(&mut lines)?);
            } else if let Some(word) = line.strip_prefix(" . data_src: ") {
                sample.data_src = Some(number(word)?);
            } else if let Some(word) = line.strip_prefix(" .. phys_addr: ") {
                sample.phys_addr = Some(number(word)?);
            }
        }
        Some(sample)
    }
}

type Lines<'a> = std::iter::Peekable<std::slice::Iter<'a, &'a str>>;

/// `0xff0fff ABI 64-bit`, and a line for each register.
fn registers(head: &str, lines: &mut Lines<'_>) -> Option<Registers> {
    let (mask, abi) = head.split_once(" ABI ")?;
    let values: Option<Vec<_>> = std::iter::from_fn(|| lines.next_if(|line| line.starts_with(".... ")))
        .map(|line| {
            let mut words = line.strip_prefix(".... ")?.split_whitespace();
            Some((words.next()?.to_owned(), number(words.next()?)?))
        })
        .collect();
    Some(Registers { mask: number(mask)?, abi: abi.to_owned(), values: values? })
}

fn values(lines: &mut Lines<'_>) -> Option<Values> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut read = Values::default();
    while let Some(line) = lines.next_if(|line| line.starts_with("....")) {
        let line = line.trim_start_matches(['.', ' ']);
        if let Some(time) = line.strip_prefix("time enabled ") {
            read.enabled = Some(hex(time)?);
        } else if let Some(time) = line.strip_prefix("time running ") {
            read.running = Some(hex(time)?);
        } else if line.starts_with("group nr ") {
            read.group = true;
        } else {
            let mut value = Value::default();
            for part in line.split(", ") {
                match part.split_once(' ')? {
                    ("id", id) => value.id = hex(id)?,
                    ("value", count) => value.value = hex(count)?,
                    ("lost", lost) => value.lost = Some(lost.parse().ok()?),
                    _ => return None,
                }
            }
            read.values.push(value);
        }
    }
    Some(read)
}
