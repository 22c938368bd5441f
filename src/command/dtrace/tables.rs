//! Aggregations as text.

use super::print::hex;
use perfring::bpf::btf::Value;
use perfring::dtrace::{Aggregate, Function, Row, Table};
use std::io::{self, Write};

/// A line of a table: its cells, and whether they stand left.
type Line = Vec<(String, bool)>;

/// Prints a table: a line for each key, the greatest last, and distributions drawn below the line of theirs.
pub(super) fn print(out: &mut impl Write, table: &Table<'_>) -> io::Result<()> {
    writeln!(out, "\n{}:", table.map())?;
    let mut lines = vec![heads(table)];
    lines.extend(table.rows().iter().map(|row| line(table, row)));
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|(cell, _)| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut rows = table.rows().iter();
    for (index, line) in lines.iter().enumerate() {
        let mut text = String::new();
        for (cell, (&width, last)) in
            line.iter().zip(widths.iter().zip((0..columns).map(|column| column + 1 == columns)))
        {
            let (cell, left) = cell;
            text += "  ";
            let missing = width - cell.chars().count();
            let space = " ".repeat(missing);
            match (left, last) {
                (true, true) => text += cell,
                (true, false) => text.extend([cell.as_str(), &space]),
                (false, _) => text.extend([&space, cell.as_str()]),
            }
        }
        if !text.trim().is_empty() {
            writeln!(out, "{}", text.trim_end())?;
        }
        if index != 0
            && let Some(row) = rows.next()
        {
            for ((name, _), value) in table.columns().zip(&row.values) {
                if let Aggregate::Quantize(distribution) = value {
                    let head = if name.is_empty() { String::new() } else { format!("  {name}\n") };
                    writeln!(out, "{head}{distribution}")?;
                }
            }
        }
    }
    Ok(())
}

/// The names of the key's fields, and of the columns.
fn heads(table: &Table<'_>) -> Line {
    let fields = table.key().map(|key| key.fields()).unwrap_or_default();
    let mut line: Line = fields.iter().map(|field| (field.name().to_owned(), true)).collect();
    if fields.is_empty() {
        line.push(("key".to_owned(), true));
    }
    for (name, function) in table.columns().filter(|(_, function)| *function != Function::Quantize) {
        line.push((if name.is_empty() { function.name().to_owned() } else { name.to_owned() }, false));
    }
    line
}

fn line(table: &Table<'_>, row: &Row) -> Line {
    let plain = |value: Value<'_>| {
        let text = value.to_string();
        // Texts stand without quotation marks where those say nothing.
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        (inner.filter(|inner| !inner.is_empty()).map_or(text.clone(), str::to_owned), true)
    };
    let mut line: Line = match table.key_value(row) {
        Some(Value::Struct(fields)) => fields.map(|(_, value)| plain(value)).collect(),
        Some(value) => vec![plain(value)],
        None => vec![(hex(&row.key), true)],
    };
    for value in &row.values {
        let text = match value {
            Aggregate::Count(count) => count.to_string(),
            Aggregate::Sum(sum) => sum.to_string(),
            Aggregate::Min(number) | Aggregate::Max(number) => {
                number.map_or("-".to_owned(), |number| number.to_string())
            }
            Aggregate::Avg { count, sum } => match i128::try_from(*count) {
                Ok(0) => "-".to_owned(),
                Ok(count) => (sum / count).to_string(),
                Err(_) => "0".to_owned(),
            },
            _ => continue,
        };
        line.push((text, false));
    }
    line
}
