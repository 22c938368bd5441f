//! The fields of a tracepoint, as its `format` file in tracefs describes them.

use std::ops::Range;

/// What the raw data (`RAW`) of a tracepoint's samples holds: the text of `events/SUBSYSTEM/NAME/format`, parsed.
///
/// ```
/// use perfring::kernel::TracepointFormat;
///
/// let format = TracepointFormat::parse(
///     "name: wakeup\nID: 7\nformat:\n\
///      \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
///      \tfield:pid_t pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
///      print fmt: \"pid=%d\", REC->pid\n",
/// )?;
/// let raw = [7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
/// assert_eq!(format.field("pid").unwrap().int(&raw)?, -1);
/// # Ok::<(), perfring::kernel::FormatError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracepointFormat {
    name: String,
    id: u64,
    fields: Vec<Field>,
    print_fmt: String,
}

/// A field of a tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    name: String,
    type_text: String,
    offset: usize,
    size: usize,
    signed: bool,
    common: bool,
    kind: FieldKind,
}

/// Where the bytes of a [field](Field) are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldKind {
    /// One value, in its place.
    Value,
    /// So many values one after the other, in their place.
    Array(usize),
    /// Elsewhere in the data (`__data_loc`): the place holds a word whose upper half is the length in bytes, and whose
    /// lower half the offset from the start of the data.
    DataLoc,
    /// As `DataLoc`, with an offset from the end of the field (`__rel_loc`).
    RelLoc,
}

/// Why the description of a tracepoint, or a field of it, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A line is not what it should be.
    #[error("line {line} of the tracepoint's format is not {expected}: {text:?}")]
    Line {
        /// The line's number; the first is 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
        /// The line's first bytes.
        text: String,
    },
    /// A part is missing.
    #[error("the tracepoint's format has no {0}")]
    Missing(&'static str),
    /// A field's size or place is impossible.
    #[error("field {field} of {size} bytes at offset {offset} cannot be: records have 64 KiB at most")]
    Extent {
        /// The field.
        field: String,
        /// Its offset in bytes.
        offset: usize,
        /// Its size in bytes.
        size: usize,
    },
    /// The data is shorter than the field says.
    #[error("field {field} is at bytes {start}..{end}, the data has {len}")]
    Bounds {
        /// The field.
        field: String,
        /// Its first byte.
        start: usize,
        /// The byte after it.
        end: usize,
        /// The length of the data in bytes.
        len: usize,
    },
    /// The field is no integer.
    #[error("field {field} ({type_text}) of {size} bytes is no integer")]
    NotAnInteger {
        /// The field.
        field: String,
        /// Its type as in C.
        type_text: String,
        /// Its size in bytes.
        size: usize,
    },
}

/// No record is longer.
const MOST: usize = 1 << 16;

impl TracepointFormat {
    /// Parses the text of a `format` file.
    ///
    /// # Errors
    ///
    /// [`FormatError::Line`], [`FormatError::Missing`], [`FormatError::Extent`].
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let (mut name, mut id, mut print_fmt) = (None, None, None);
        let mut fields = Vec::new();
        // The common fields come first, ended by an empty line.
        let mut common = true;
        let mut lines = text.lines().zip(1..);
        for (line, number) in lines.by_ref() {
            let wrong = |expected| FormatError::Line { line: number, expected, text: line.chars().take(80).collect() };
            if let Some(value) = line.strip_prefix("name:") {
                name = Some(value.trim().to_owned());
            } else if let Some(value) = line.strip_prefix("ID:") {
                id = Some(value.trim().parse().map_err(|_| wrong("ID: and a number"))?);
            } else if line.trim() == "format:" {
            } else if line.trim().is_empty() {
                common = common && fields.is_empty();
            } else if let Some(value) = line.strip_prefix("print fmt:") {
                print_fmt = Some((value.trim_start().to_owned(), number));
                break;
            } else {
                let field =
                    Field::parse(line.trim(), common).ok_or_else(|| wrong("a field with its offset, size and sign"))?;
                if field.offset.checked_add(field.size).is_none_or(|end| end > MOST) {
                    return Err(FormatError::Extent { field: field.name, offset: field.offset, size: field.size });
                }
                fields.push(field);
            }
        }
        let (mut print_fmt, _) = print_fmt.ok_or(FormatError::Missing("print fmt"))?;
        // It may go on over more lines.
        for (line, _) in lines {
            print_fmt.push('\n');
            print_fmt.push_str(line);
        }
        Ok(Self {
            name: name.ok_or(FormatError::Missing("name"))?,
            id: id.ok_or(FormatError::Missing("ID"))?,
            fields,
            print_fmt,
        })
    }

    /// The tracepoint's name, without its subsystem.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tracepoint's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// All fields, in the order of the text; those that every tracepoint has come first.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// How the kernel prints the fields, as it says in C.
    pub fn print_fmt(&self) -> &str {
        &self.print_fmt
    }
}

impl Field {
    /// `field:char comm[16]; offset:8; size:16; signed:0;`, with tabs between.
    fn parse(line: &str, common: bool) -> Option<Self> {
        let mut parts = line.strip_suffix(';').unwrap_or(line).split(';').map(str::trim);
        let declaration = parts.next()?.strip_prefix("field:")?.trim();
        let (mut offset, mut size, mut signed) = (None, None, None);
        for part in parts {
            match part.split_once(':')? {
                ("offset", value) => offset = Some(value.trim().parse().ok()?),
                ("size", value) => size = Some(value.trim().parse().ok()?),
                ("signed", value) => signed = Some(value.trim() == "1"),
                // Newer kernels may say more.
                _ => {}
            }
        }
        let (mut kind, declaration) = match declaration.split_once(' ') {
            Some(("__data_loc", rest)) => (FieldKind::DataLoc, rest),
            Some(("__rel_loc", rest)) => (FieldKind::RelLoc, rest),
            _ => (FieldKind::Value, declaration),
        };
        // The name is the last word, but for the brackets of an array.
        let (before, length) = match declaration.strip_suffix(']').and_then(|text| text.rsplit_once('[')) {
            Some((before, length)) => (before.trim_end(), Some(length.trim())),
            None => (declaration, None),
        };
        let at = before
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
        let (type_text, name) = before.split_at(at);
        let (name, mut type_text) = (name.to_owned(), type_text.trim().to_owned());
        if name.is_empty() || type_text.is_empty() {
            return None;
        }
        if let Some(length) = length {
            type_text = format!("{type_text}[{length}]");
            if kind == FieldKind::Value {
                // The length may be a constant by name; the size then tells how much there is.
                kind = FieldKind::Array(length.parse().unwrap_or(0));
            }
        }
        let (size, signed) = (size?, signed.unwrap_or(false));
        if matches!(kind, FieldKind::DataLoc | FieldKind::RelLoc) && size != 4 {
            return None;
        }
        Some(Self { name, type_text, offset: offset?, size, signed, common, kind })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type as in C, with the brackets of an array, without `__data_loc` and `__rel_loc`.
    pub fn type_text(&self) -> &str {
        &self.type_text
    }

    /// Where it is, in bytes from the start of the data.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its size in bytes: of `DataLoc` and `RelLoc`, that of the word.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether its integers are signed.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// Whether every tracepoint has it.
    pub fn is_common(&self) -> bool {
        self.common
    }

    /// Where its bytes are.
    pub fn kind(&self) -> FieldKind {
        self.kind
    }

    /// The bytes of the field in the raw data of a sample: of a dynamic array, those that its word leads to.
    ///
    /// # Errors
    ///
    /// [`FormatError::Bounds`]
    pub fn bytes<'a>(&self, raw: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let place = self.range(raw, self.offset..self.offset.saturating_add(self.size))?;
        let base = match self.kind {
            FieldKind::Value | FieldKind::Array(_) => return Ok(place),
            FieldKind::DataLoc => 0,
            FieldKind::RelLoc => self.offset.saturating_add(self.size),
        };
        // Four bytes, which the parser checked.
        let word = place.try_into().map_or(0, u32::from_ne_bytes);
        let start = base.saturating_add((word & 0xffff) as usize);
        self.range(raw, start..start.saturating_add((word >> 16) as usize))
    }

    fn range<'a>(&self, raw: &'a [u8], range: Range<usize>) -> Result<&'a [u8], FormatError> {
        let Range { start, end } = range;
        raw.get(range).ok_or_else(|| FormatError::Bounds { field: self.name.clone(), start, end, len: raw.len() })
    }

    /// The integer in the field: sign-extended when it is signed, so that every 8-byte value fits.
    ///
    /// # Errors
    ///
    /// [`FormatError::NotAnInteger`] for arrays and sizes other than 1, 2, 4 and 8; [`FormatError::Bounds`].
    pub fn int(&self, raw: &[u8]) -> Result<i128, FormatError> {
        match self.kind {
            FieldKind::Value => self.int_of(self.bytes(raw)?),
            _ => Err(self.no_integer(self.size)),
        }
    }

    /// The integers of an array of either kind; of a single value, that one.
    ///
    /// # Errors
    ///
    /// As for [`int`](Self::int), when the values have no size of an integer.
    pub fn ints(&self, raw: &[u8]) -> Result<Vec<i128>, FormatError> {
        let bytes = self.bytes(raw)?;
        let size = match self.kind {
            FieldKind::Value => self.size,
            FieldKind::Array(length) => self.size.checked_div(length).unwrap_or(0),
            FieldKind::DataLoc | FieldKind::RelLoc => self.element_size().unwrap_or(0),
        };
        if !matches!(size, 1 | 2 | 4 | 8) || !bytes.len().is_multiple_of(size) {
            return Err(self.no_integer(size));
        }
        bytes.chunks_exact(size).map(|value| self.int_of(value)).collect()
    }

    /// The size of a dynamic array's elements, for which there is only the type's name.
    fn element_size(&self) -> Option<usize> {
        let name = self.type_text.split('[').next()?.trim();
        let long = size_of::<libc::c_long>();
        Some(match name {
            "char" | "unsigned char" | "signed char" | "u8" | "s8" | "__u8" | "__s8" | "uint8_t" | "int8_t"
            | "bool" => 1,
            "short" | "unsigned short" | "u16" | "s16" | "__u16" | "__s16" | "uint16_t" | "int16_t" | "__le16"
            | "__be16" => 2,
            "int" | "unsigned int" | "unsigned" | "u32" | "s32" | "__u32" | "__s32" | "uint32_t" | "int32_t"
            | "__le32" | "__be32" | "pid_t" => 4,
            "long long" | "unsigned long long" | "u64" | "s64" | "__u64" | "__s64" | "uint64_t" | "int64_t"
            | "__le64" | "__be64" => 8,
            "long" | "unsigned long" | "size_t" => long,
            pointer if pointer.ends_with('*') => long,
            _ => return None,
        })
    }

    fn int_of(&self, bytes: &[u8]) -> Result<i128, FormatError> {
        Ok(match (bytes, self.signed) {
            (&[a], false) => a.into(),
            (&[a], true) => a.cast_signed().into(),
            (&[a, b], false) => u16::from_ne_bytes([a, b]).into(),
            (&[a, b], true) => i16::from_ne_bytes([a, b]).into(),
            (&[a, b, c, d], false) => u32::from_ne_bytes([a, b, c, d]).into(),
            (&[a, b, c, d], true) => i32::from_ne_bytes([a, b, c, d]).into(),
            (&[a, b, c, d, e, f, g, h], false) => u64::from_ne_bytes([a, b, c, d, e, f, g, h]).into(),
            (&[a, b, c, d, e, f, g, h], true) => i64::from_ne_bytes([a, b, c, d, e, f, g, h]).into(),
            _ => return Err(self.no_integer(bytes.len())),
        })
    }

    fn no_integer(&self, size: usize) -> FormatError {
        FormatError::NotAnInteger { field: self.name.clone(), type_text: self.type_text.clone(), size }
    }

    /// The bytes of a string: those before the first NUL, or all if there is none. They need not be UTF-8.
    ///
    /// # Errors
    ///
    /// [`FormatError::Bounds`]
    pub fn str<'a>(&self, raw: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let bytes = self.bytes(raw)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Ok(&bytes[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCH: &str = include_str!("../../tests/data/tracefs/sched_switch.format");
    const EXEC: &str = include_str!("../../tests/data/tracefs/sched_process_exec.format");
    const ENTER: &str = include_str!("../../tests/data/tracefs/sys_enter.format");
    const REL: &str = include_str!("../../tests/data/tracefs/rel_loc.format");

    #[test]
    fn values_and_strings_in_place() {
        let format = TracepointFormat::parse(SWITCH).unwrap();
        assert_eq!((format.name(), format.fields().len()), ("sched_switch", 11));
        assert_eq!(format.fields().iter().filter(|field| field.is_common()).count(), 4);
        assert!(format.print_fmt().starts_with("\"prev_comm=%s"));
        let mut raw = vec![0; 64];
        raw[8..14].copy_from_slice(b"sh\0xyz");
        raw[24..28].copy_from_slice(&(-5_i32).to_ne_bytes());
        raw[32..40].copy_from_slice(&i64::MIN.to_ne_bytes());
        raw[40..56].copy_from_slice(b"0123456789abcdef");
        let field = |name| format.field(name).unwrap();
        assert_eq!(field("prev_comm").kind(), FieldKind::Array(16));
        assert_eq!(field("prev_comm").type_text(), "char[16]");
        assert_eq!(field("prev_comm").str(&raw).unwrap(), b"sh");
        assert_eq!(field("next_comm").str(&raw).unwrap(), b"0123456789abcdef");
        assert_eq!(field("prev_pid").int(&raw).unwrap(), -5);
        assert_eq!(field("prev_state").int(&raw).unwrap(), i64::MIN.into());
        assert!(matches!(field("prev_comm").int(&raw), Err(FormatError::NotAnInteger { .. })));
        assert_eq!(format.field("nothing"), None);
        // Data of any length gives values or an error.
        for len in 0..raw.len() {
            for field in format.fields() {
                assert_eq!(field.bytes(&raw[..len]).is_ok(), field.offset() + field.size() <= len);
            }
        }
    }

    #[test]
    fn dynamic_arrays() {
        let format = TracepointFormat::parse(EXEC).unwrap();
        let filename = format.field("filename").unwrap();
        assert_eq!((filename.kind(), filename.type_text()), (FieldKind::DataLoc, "char[]"));
        let mut raw = vec![0; 28];
        raw[8..12].copy_from_slice(&(8_u32 << 16 | 20).to_ne_bytes());
        raw[20..28].copy_from_slice(b"/bin/ls\0");
        assert_eq!(filename.str(&raw).unwrap(), b"/bin/ls");
        assert_eq!(filename.ints(&raw).unwrap()[..2], [i128::from(b'/'), i128::from(b'b')]);
        assert!(matches!(filename.str(&raw[..27]), Err(FormatError::Bounds { start: 20, end: 28, len: 27, .. })));
        raw[8..12].copy_from_slice(&[0xff; 4]);
        assert!(filename.str(&raw).is_err());
    }

    #[test]
    fn relative_arrays() {
        let format = TracepointFormat::parse(REL).unwrap();
        let values = format.field("values").unwrap();
        assert_eq!(values.kind(), FieldKind::RelLoc);
        let mut raw = vec![0; 24];
        raw[8..12].copy_from_slice(&(8_u32 << 16 | 4).to_ne_bytes());
        raw[16..20].copy_from_slice(&7_u32.to_ne_bytes());
        raw[20..24].copy_from_slice(&9_u32.to_ne_bytes());
        assert_eq!(values.ints(&raw).unwrap(), [7, 9]);
    }

    #[test]
    fn arrays_of_integers() {
        let format = TracepointFormat::parse(ENTER).unwrap();
        let mut raw = vec![0; 64];
        raw[24..32].copy_from_slice(&u64::MAX.to_ne_bytes());
        let args = format.field("args").unwrap();
        assert_eq!(args.kind(), FieldKind::Array(6));
        assert_eq!(args.ints(&raw).unwrap(), [0, u64::MAX.into(), 0, 0, 0, 0]);
    }

    proptest::proptest! {
        #[test]
        fn damaged_text_and_any_data_never_panic(
            at in 0..EXEC.len(), byte in 0_u8..128, raw in proptest::collection::vec(0_u8.., 0..64)
        ) {
            let mut text = EXEC.as_bytes().to_vec();
            text[at] = byte;
            let Ok(format) = TracepointFormat::parse(std::str::from_utf8(&text).unwrap()) else { return Ok(()) };
            for field in format.fields() {
                let _ = (field.str(&raw), field.int(&raw), field.ints(&raw));
            }
        }
    }

    #[test]
    fn hostile_text_is_an_error() {
        let field = |line: &str| format!("name: a\nID: 1\nformat:\n{line}\nprint fmt: \"\"\n");
        assert!(TracepointFormat::parse(&field("\tfield:int a;\toffset:0;\tsize:4;\tsigned:1;")).is_ok());
        for line in [
            "garbage",
            "\tfield:int;\toffset:0;\tsize:4;\tsigned:1;",
            "\tfield:int a;\tsize:4;\tsigned:1;",
            "\tfield:int a;\toffset:0;\tsigned:1;",
            "\tfield:int a;\toffset:-1;\tsize:4;\tsigned:1;",
            "\tfield:int a;\toffset:99999999999999999999999;\tsize:4;\tsigned:1;",
            "\tfield:int a[;\toffset:0;\tsize:4;\tsigned:1;",
            "\tfield:__data_loc char[] a;\toffset:0;\tsize:8;\tsigned:1;",
            "\tfield:;",
            "\tfield:é;\toffset:0;\tsize:4;\tsigned:1;",
        ] {
            assert!(matches!(TracepointFormat::parse(&field(line)), Err(FormatError::Line { line: 4, .. })), "{line}");
        }
        for (offset, size) in [(usize::MAX, 4), (0, usize::MAX), (65536, 1), (1, 65536)] {
            let line = format!("\tfield:int a;\toffset:{offset};\tsize:{size};\tsigned:1;");
            assert!(matches!(TracepointFormat::parse(&field(&line)), Err(FormatError::Extent { .. })), "{line}");
        }
        assert_eq!(TracepointFormat::parse(""), Err(FormatError::Missing("print fmt")));
        assert_eq!(TracepointFormat::parse("print fmt: x"), Err(FormatError::Missing("name")));
        assert!(matches!(TracepointFormat::parse("ID: x"), Err(FormatError::Line { line: 1, .. })));
        // Prefixes of real texts never panic.
        for text in [SWITCH, EXEC, ENTER, REL] {
            for end in 0..text.len() {
                let _ = TracepointFormat::parse(&text[..end]);
            }
        }
    }
}
