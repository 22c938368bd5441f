//! Formats of records.

use crate::bpf::btf::{Escaped, Layout, Place, Step, Value};
use std::fmt::{self, Write};
use std::str::FromStr;
use thiserror::Error;

/// Columns that a value may be made to take.
const MOST_COLUMNS: usize = 4096;

/// A text that is no format: where, and why. Places are bytes of the text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// A `{` without its `}`.
    #[error("the {{ at {at} has no }}; one that is printed is {{{{")]
    Unclosed {
        /// Where it is.
        at: usize,
    },
    /// A `}` without its `{`.
    #[error("the }} at {at} has no {{; one that is printed is }}}}")]
    Unopened {
        /// Where it is.
        at: usize,
    },
    /// No name of a field, `a.b`, `a[1]`, or one of `$cpu`, `$map`, `$time`.
    #[error("{text:?} at {at} is no field")]
    Name {
        /// Where it is.
        at: usize,
        /// What is there.
        text: String,
    },
    /// What follows the colon says no form: `-`, `0`, a width, and one of `d`, `u`, `x`, `X`, `s`.
    #[error("{text:?} at {at} is no form of a value, as -20, 08x or d are")]
    Form {
        /// Where it is.
        at: usize,
        /// What is there.
        text: String,
    },
    /// A `\` before what it does nothing to: it is for `\\`, `\n` and `\t`.
    #[error("\\{char} at {at} means nothing; a backslash is \\\\")]
    Escape {
        /// Where it is.
        at: usize,
        /// What follows it.
        char: char,
    },
    /// The record has no such field.
    #[error("{record} has no field {field}; it has {fields}")]
    NoField {
        /// The struct.
        record: String,
        /// The field.
        field: String,
        /// The fields that there are.
        fields: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As the value itself would have it.
    Plain,
    Signed,
    Unsigned,
    Hex,
    UpperHex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    left: bool,
    zeros: bool,
    width: usize,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Cpu(Form),
    Map(Form),
    Time(Form),
    Field(Path, Form),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum OwnStep {
    Field(String),
    Index(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    text: String,
    steps: Vec<OwnStep>,
}

/// How a record is printed: a text in which `{field}` stands for a value.
///
/// `{a.b}` is a field of a field, `{a[1]}` an element, `{$cpu}`, `{$map}` and `{$time}` tell of the record: the CPU of its ring, the
/// map, the nanoseconds. Behind a colon stands the form: `-` for left, `0` for zeros, a width, and `x` or `X` for hexadecimal, `d` for
/// a sign, `u` for none, `s` or nothing for what the value is; numbers stand right and texts left. `{{` and `}}` are braces, `\n` and
/// `\t` what they are in C.
///
/// ```
/// use perfring::dtrace::Format;
///
/// let format: Format = "{comm:-16} {pid:6} {address:016x}".parse()?;
/// assert!("{comm".parse::<Format>().is_err());
/// # Ok::<(), perfring::dtrace::FormatError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Part>);

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text.char_indices().peekable();
        while let Some((at, char)) = rest.next() {
            match char {
                '{' | '}' if rest.next_if(|(_, next)| *next == char).is_some() => plain.push(char),
                '}' => return Err(FormatError::Unopened { at }),
                '{' => {
                    let inner = &text[at + 1..];
                    let end = inner.find(['{', '}']).filter(|end| inner[*end..].starts_with('}'));
                    let inner = &inner[..end.ok_or(FormatError::Unclosed { at })?];
                    while rest.next_if(|(next, _)| *next <= at + 1 + inner.len()).is_some() {}
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part(inner, at + 1)?);
                }
                '\\' => match rest.next() {
                    Some((_, 'n')) => plain.push('\n'),
                    Some((_, 't')) => plain.push('\t'),
                    Some((_, '\\')) => plain.push('\\'),
                    Some((_, char)) => return Err(FormatError::Escape { at, char }),
                    None => return Err(FormatError::Escape { at, char: ' ' }),
                },
                _ => plain.push(char),
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }
}

fn part(text: &str, at: usize) -> Result<Part, FormatError> {
    let (name, form) = match text.split_once(':') {
        Some((name, form)) => (name, parse_form(form, at + name.len() + 1)?),
        None => (text, Form { left: false, zeros: false, width: 0, kind: Kind::Plain }),
    };
    Ok(match name {
        "$cpu" => Part::Cpu(form),
        "$map" => Part::Map(form),
        "$time" => Part::Time(form),
        _ => {
            let steps = steps(name).ok_or_else(|| FormatError::Name { at, text: name.to_owned() })?;
            Part::Field(Path { text: name.to_owned(), steps }, form)
        }
    })
}

fn steps(name: &str) -> Option<Vec<OwnStep>> {
    let mut steps = Vec::new();
    for part in name.split('.') {
        let (field, mut indices) = part.find('[').map_or((part, ""), |at| part.split_at(at));
        let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if field.is_empty() || !field.chars().all(is_name) || field.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        steps.push(OwnStep::Field(field.to_owned()));
        while !indices.is_empty() {
            let (index, rest) = indices.strip_prefix('[')?.split_once(']')?;
            let is_number = index.bytes().all(|byte| byte.is_ascii_digit());
            steps.push(OwnStep::Index(index.parse().ok().filter(|_| is_number)?));
            indices = rest;
        }
    }
    Some(steps)
}

fn parse_form(text: &str, at: usize) -> Result<Form, FormatError> {
    let error = || FormatError::Form { at, text: text.to_owned() };
    let (left, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (kind, rest) = match rest.char_indices().next_back() {
        Some((end, 'd')) => (Kind::Signed, &rest[..end]),
        Some((end, 'u')) => (Kind::Unsigned, &rest[..end]),
        Some((end, 'x')) => (Kind::Hex, &rest[..end]),
        Some((end, 'X')) => (Kind::UpperHex, &rest[..end]),
        Some((end, 's')) => (Kind::Plain, &rest[..end]),
        _ => (Kind::Plain, rest),
    };
    if !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error());
    }
    let zeros = rest.starts_with('0') && !left;
    let width = if rest.is_empty() { 0 } else { rest.parse().map_err(|_| error())? };
    if width > MOST_COLUMNS {
        return Err(error());
    }
    Ok(Form { left, zeros, width, kind })
}

/// What is known of a record beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordContext<'a> {
    /// The map that leads to its ring.
    pub map: &'a str,
    /// The CPU whose ring it is; none of a ring buffer.
    pub cpu: Option<u32>,
    /// When, in nanoseconds, where it is known.
    pub time: Option<u64>,
}

impl Format {
    /// Whether a record of this type can be printed so.
    ///
    /// # Errors
    ///
    /// The type has not all fields.
    pub fn check(&self, record: &Layout) -> Result<(), FormatError> {
        for part in &self.0 {
            if let Part::Field(path, _) = part
                && path.place(record).is_none()
            {
                let fields: Vec<_> = record.fields().iter().map(|field| field.name()).collect();
                return Err(FormatError::NoField {
                    record: record.name().to_owned(),
                    field: path.text.clone(),
                    fields: fields.join(", "),
                });
            }
        }
        Ok(())
    }

    /// Prints a record. What it does not have is `?`.
    ///
    /// # Errors
    ///
    /// What `to` says.
    pub fn write(
        &self,
        to: &mut impl Write,
        context: RecordContext<'_>,
        record: &Layout,
        bytes: &[u8],
    ) -> Result<(), fmt::Error> {
        let number = |number: Option<u64>| number.map(|number| Value::Unsigned(number.into()));
        for part in &self.0 {
            match part {
                Part::Text(text) => to.write_str(text)?,
                Part::Cpu(form) => form.write(to, number(context.cpu.map(u64::from)), 32)?,
                Part::Time(form) => form.write(to, number(context.time), 64)?,
                Part::Map(form) => form.write(to, Some(Value::Text(context.map.as_bytes())), 0)?,
                Part::Field(path, form) => {
                    let place = path.place(record);
                    let width = place.map_or(0, |place| place.width());
                    form.write(to, place.and_then(|place| place.value(bytes)), width)?;
                }
            }
        }
        Ok(())
    }
}

impl Path {
    fn place<'a>(&'a self, record: &'a Layout) -> Option<Place<'a>> {
        record.place(self.steps.iter().map(|step| match step {
            OwnStep::Field(name) => Step::Field(name),
            OwnStep::Index(index) => Step::Index(*index),
        }))
    }
}

impl Form {
    fn write(self, to: &mut impl Write, value: Option<Value<'_>>, bits: usize) -> fmt::Result {
        let number = value.as_ref().and_then(Value::integer);
        let mask = u128::MAX.checked_shr(128 - bits.min(128) as u32).unwrap_or(0);
        // The bits as they lie there, and with a sign.
        let raw = |number: i128| number as u128 & mask;
        let signed = |number: i128| {
            let unused = 128 - bits.clamp(1, 128);
            (number << unused) >> unused
        };
        let text = match (self.kind, number, &value) {
            (Kind::Signed, Some(number), _) => signed(number).to_string(),
            (Kind::Unsigned, Some(number), _) => raw(number).to_string(),
            (Kind::Hex, Some(number), _) => format!("{:x}", raw(number)),
            (Kind::UpperHex, Some(number), _) => format!("{:X}", raw(number)),
            (_, _, Some(Value::Text(bytes))) => Escaped { bytes, quotes: false }.to_string(),
            (_, _, Some(value)) => value.to_string(),
            (_, _, None) => "?".to_owned(),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        let is_number = number.is_some() && !matches!(value, Some(Value::Enum { name: Some(_), .. }))
            || matches!(value, Some(Value::Float(_)));
        match (self.left || !is_number, self.zeros && is_number) {
            (_, true) => {
                let (sign, digits) = text.strip_prefix('-').map_or(("", &*text), |digits| ("-", digits));
                write!(to, "{sign}{:0<missing$}{digits}", "")
            }
            (true, _) => write!(to, "{text}{:missing$}", ""),
            (false, _) => write!(to, "{:missing$}{text}", ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, FormatError};

    #[test]
    fn what_is_no_format_is_told_with_its_place() {
        let error = |text: &str| text.parse::<Format>().unwrap_err();
        assert_eq!(error("ab{c"), FormatError::Unclosed { at: 2 });
        assert_eq!(error("ab{c{d}"), FormatError::Unclosed { at: 2 });
        assert_eq!(error("{a}}"), FormatError::Unopened { at: 3 });
        assert_eq!(error("x}"), FormatError::Unopened { at: 1 });
        for name in ["", "1a", "a.", ".a", "a b", "$pid", "a[", "a[]", "a[x]", "a[+1]", "[1]", "a[1]b", "ä"] {
            let text = name.to_owned();
            assert_eq!(error(&format!("{{{name}}}")), FormatError::Name { at: 1, text }, "{name}");
        }
        for form in ["q", "1q", "--1", "x8", " 8", "+8", "4097", "99999999999999999999"] {
            let text = form.to_owned();
            assert_eq!(error(&format!("{{a:{form}}}")), FormatError::Form { at: 3, text }, "{form}");
        }
        assert_eq!(error("\\q"), FormatError::Escape { at: 0, char: 'q' });
        assert_eq!(error("a\\"), FormatError::Escape { at: 1, char: ' ' });
        for good in ["", "{{}}", "{a}", "{a.b[1][2].c:-08x}", "{$cpu:3}{$time}{$map}", "ä{a}ä\\n\\t\\\\"] {
            assert!(good.parse::<Format>().is_ok(), "{good}");
        }
    }
}
