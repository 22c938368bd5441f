//! Values of records and aggregations as JSON.

use perfring::bpf::btf::Value;
use perfring::dtrace::{Aggregate, Table};
use serde_json::{Map, Value as Json, json};

use super::print::hex;

/// Numbers are numbers where JSON has them: those of more than 64 bits, and floating points that are none, are texts.
pub(super) fn value(value: Value<'_>) -> Json {
    let big = |text: String| Json::from(text);
    match value {
        Value::Unsigned(number) => u64::try_from(number).map_or_else(|_| big(number.to_string()), Json::from),
        Value::Signed(number) | Value::Enum { number, name: None } => integer(number),
        Value::Bool(truth) => truth.into(),
        Value::Float(number) => {
            serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Json::from)
        }
        Value::Pointer(address) => address.into(),
        Value::Enum { name: Some(name), .. } => name.into(),
        Value::Text(bytes) => String::from_utf8_lossy(bytes).into(),
        Value::Array(elements) => elements.map(self::value).collect(),
        Value::Struct(fields) => fields.map(|(name, field)| (name.to_owned(), self::value(field))).collect(),
        other => other.to_string().into(),
    }
}

fn integer(number: i128) -> Json {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => number.into(),
        (_, Ok(number)) => number.into(),
        _ => number.to_string().into(),
    }
}

fn aggregate(aggregate: &Aggregate) -> Json {
    match aggregate {
        Aggregate::Count(count) => value(Value::Unsigned(*count)),
        Aggregate::Sum(sum) => integer(*sum),
        Aggregate::Min(number) | Aggregate::Max(number) => (*number).into(),
        Aggregate::Avg { count, sum } => json!({ "count": value(Value::Unsigned(*count)), "sum": integer(*sum) }),
        Aggregate::Quantize(distribution) => distribution
            .buckets()
            .map(|(from, count)| json!({ "value": from, "count": value(Value::Unsigned(count)) }))
            .collect(),
        _ => Json::Null,
    }
}

/// An aggregation: its rows, the greatest last.
pub(super) fn table(table: &Table<'_>) -> Json {
    let row = |row: &perfring::dtrace::Row| {
        let key = table.key_value(row).map_or_else(|| hex(&row.key).into(), value);
        let mut fields = Map::from_iter([("key".to_owned(), key)]);
        for ((name, function), of) in table.columns().zip(&row.values) {
            let name = if name.is_empty() { function.name() } else { name };
            fields.insert(name.to_owned(), aggregate(of));
        }
        Json::from(fields)
    };
    let rows: Json = table.rows().iter().map(row).collect();
    json!({ "type": "aggregation", "map": table.map(), "rows": rows })
}
