//! Names of types, with and without their flavours.

use super::{CoreErrorKind, Result};
use crate::bpf::btf::{Btf, Kind, TypeId};

/// Bytes that a name, and the way to a field, may have: the kernel's `KSYM_NAME_LEN`.
const MOST: usize = 512;

/// The string at an offset.
pub(super) fn short(btf: &Btf, offset: u32) -> Result<&str> {
    btf.strings().short(offset, MOST).ok_or(CoreErrorKind::Name { offset })
}

/// The name of a type; empty if it has none.
pub(super) fn of_type(btf: &Btf, id: TypeId) -> Result<&str> {
    btf.entry(id).map_or(Ok(""), |entry| short(btf, entry.name))
}

/// A name without its flavour: what follows the last `___` that is not part of more underscores.
pub(super) fn essential(name: &str) -> &str {
    let bytes = name.as_bytes();
    let is_flavour =
        |window: &[u8]| matches!(window, [first, b'_', b'_', b'_', last] if *first != b'_' && *last != b'_');
    match bytes.windows(5).rposition(is_flavour) {
        // Behind the first byte of the five, which may be one of a longer character.
        Some(at) => name.get(..=at).unwrap_or(name),
        None => name,
    }
}

/// A type as C has it, for messages.
pub(super) fn describe(btf: &Btf, id: TypeId) -> String {
    let name = of_type(btf, id).unwrap_or("?");
    let kind = btf.type_(id).map_or(Kind::Void, |type_| type_.kind());
    let word = match kind {
        Kind::Struct => "struct",
        Kind::Union => "union",
        Kind::Enum | Kind::Enum64 => "enum",
        Kind::Fwd => "declared",
        _ => "type",
    };
    match name {
        "" => format!("an unnamed {word}, type {id} of the object"),
        name if word == "type" => name.to_owned(),
        name => format!("{word} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::essential;

    #[test]
    fn a_flavour_is_between_three_underscores_and_the_end() {
        for (name, without) in [
            ("file", "file"),
            ("file___old", "file"),
            ("file___old___older", "file___old"),
            ("file__old", "file__old"),
            ("file____old", "file____old"),
            ("___old", "___old"),
            ("file___", "file___"),
            ("a___b", "a"),
            ("é___b", "é"),
            ("", ""),
        ] {
            assert_eq!(essential(name), without, "{name}");
        }
    }
}
