//! What programs send, as text or JSON.

use super::{json, tables};
use perfring::dtrace::{Item, RecordContext, RecordTypes, Table};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Prints items.
pub(super) struct Printer<W: Write> {
    pub(super) out: W,
    json: bool,
    types: RecordTypes,
    /// A line.
    line: String,
    failed: Option<io::Error>,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, json: bool, types: RecordTypes) -> Self {
        Self { out, json, types, line: String::new(), failed: None }
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

    /// Prints what aggregations have come to.
    pub(super) fn print_tables(&mut self, tables: &[Table<'_>]) -> io::Result<()> {
        for table in tables {
            if self.json {
                writeln!(self.out, "{}", json::table(table))?;
            } else {
                tables::print(&mut self.out, table)?;
            }
        }
        Ok(())
    }

    fn print_text(&mut self, item: &Item<'_>) -> io::Result<()> {
        match item {
            Item::Sample { cpu, data, map, time } => {
                self.line.clear();
                let context = RecordContext { map, cpu: *cpu, time: *time };
                match self.types.get(map, data).map(|type_| (type_, type_.layout().value(data))) {
                    Some((type_, Some(value))) => match type_.format() {
                        // Writing to a string does not fail.
                        Some(format) => format.write(&mut self.line, context, type_.layout(), data).unwrap_or_default(),
                        None => {
                            let fields = value.to_string();
                            let fields = fields.strip_prefix('{').and_then(|fields| fields.strip_suffix('}'));
                            self.line += &from(map, *cpu);
                            self.line.extend([type_.layout().name(), " ", fields.unwrap_or_default()]);
                        }
                    },
                    _ => self.line.extend([&*from(map, *cpu), &hex(data)]),
                }
                self.line.push('\n');
                self.out.write_all(self.line.as_bytes())
            }
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
                match self.types.get(map, data).and_then(|type_| Some((type_, type_.layout().value(data)?))) {
                    Some((type_, record)) => {
                        value["record"] = json::value(record);
                        value["struct"] = type_.layout().name().into();
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

/// Where a record comes from.
fn from(map: &str, cpu: Option<u32>) -> String {
    cpu.map_or_else(|| format!("{map}: "), |cpu| format!("CPU-{cpu}: "))
}

fn set(value: &mut Value, name: &str, field: Option<Value>) {
    if let Some(field) = field {
        value[name] = field;
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
