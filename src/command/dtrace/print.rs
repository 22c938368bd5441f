//! What programs send, as text or JSON.

use perfring::dtrace::Item;
use serde_json::{Value, json};
use std::io::{self, Write};

/// What `tag` is in a record of the sample program.
const TAG: u32 = 0xdace;
/// Its size, and with what fills it up.
const SAMPLE_SIZES: [usize; 2] = [48, 52];

/// Prints items.
pub(super) struct Printer<W: Write> {
    pub(super) out: W,
    json: bool,
    failed: Option<io::Error>,
}

/// A record of the sample program.
struct Sample {
    probe_id: u32,
    flags: u32,
    pid: u32,
    ppid: u32,
    cpu: u32,
    euid: u32,
    egid: u32,
    task: u64,
}

impl Sample {
    fn of(data: &[u8]) -> Option<Self> {
        let half = |at: usize| data.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        if !SAMPLE_SIZES.contains(&data.len()) || half(40)? != TAG {
            return None;
        }
        let task = data.get(32..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))?;
        let (probe_id, flags, pid, ppid) = (half(0)?, half(4)?, half(8)?, half(12)?);
        Some(Self { probe_id, flags, pid, ppid, cpu: half(16)?, euid: half(20)?, egid: half(24)?, task })
    }
}

/// As the tool of the design prints numbers: with a sign.
fn signed(number: u32) -> i32 {
    number as i32
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, json: bool) -> Self {
        Self { out, json, failed: None }
    }

    /// What writing said.
    pub(super) fn failed(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    pub(super) fn print(&mut self, item: &Item<'_>) {
        if self.failed.is_none() {
            self.failed = if self.json { self.print_json(item) } else { self.print_text(item) }.err();
        }
    }

    fn print_text(&mut self, item: &Item<'_>) -> io::Result<()> {
        match item {
            Item::Sample { cpu, data, map, .. } => match Sample::of(data) {
                Some(sample) => {
                    let Sample { probe_id, flags, pid, ppid, cpu, euid, egid, task } = sample;
                    let [cpu, probe, flags, pid] = [cpu, probe_id, flags, pid].map(signed);
                    let [ppid, euid, egid] = [ppid, euid, egid].map(signed);
                    writeln!(
                        self.out,
                        "CPU-{cpu}: [{probe}/{flags}] PID {pid} PPID {ppid} EUID {euid} EGID {egid} TASK {task:08x}"
                    )
                }
                None => {
                    match cpu {
                        Some(cpu) => write!(self.out, "CPU-{cpu}: ")?,
                        None => write!(self.out, "{map}: ")?,
                    }
                    writeln!(self.out, "{}", hex(data))
                }
            },
            Item::Lost { lost, .. } => writeln!(self.out, "[{lost} probes dropped]"),
            Item::Defect { error, map, .. } => writeln!(self.out, "{map}: {error}"),
            Item::Other { record, map, .. } => writeln!(self.out, "{map}: another record: {}", hex(record)),
            _ => Ok(()),
        }
    }

    fn print_json(&mut self, item: &Item<'_>) -> io::Result<()> {
        let value = match item {
            Item::Sample { map, cpu, time, data } => {
                let mut value = json!({ "type": "sample", "map": map });
                set(&mut value, "cpu", cpu.map(Value::from));
                set(&mut value, "time", time.map(Value::from));
                match Sample::of(data) {
                    Some(sample) => {
                        value["record"] = json!({
                            "probe_id": sample.probe_id, "flags": sample.flags, "pid": sample.pid, "ppid": sample.ppid,
                            "cpu": sample.cpu, "euid": sample.euid, "egid": sample.egid, "task": sample.task,
                        });
                    }
                    None => value["data"] = hex(data).into(),
                }
                value
            }
            Item::Lost { map, cpu, lost } => {
                let mut value = json!({ "type": "lost", "map": map, "lost": lost });
                set(&mut value, "cpu", cpu.map(Value::from));
                value
            }
            Item::Defect { map, error, .. } => json!({ "type": "defect", "map": map, "error": error.to_string() }),
            Item::Other { map, record, .. } => json!({ "type": "other", "map": map, "record": hex(record) }),
            _ => return Ok(()),
        };
        writeln!(self.out, "{value}")
    }
}

fn set(value: &mut Value, name: &str, field: Option<Value>) {
    if let Some(field) = field {
        value[name] = field;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
