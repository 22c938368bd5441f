//! Names as programmers write them, from those of symbols.

use addr2line::gimli::DW_LANG_Rust;
use cpp_demangle::{DemangleOptions, Symbol};
use std::fmt;
use std::sync::Arc;

/// The longest name. Mangled ones can be much shorter than what they stand for: each type may be twice the one before.
const MAX: usize = 1 << 14;

/// Of Rust and C++, the name that was mangled; others, and those that would be very long, as they are.
pub(super) fn demangled(name: &str) -> Arc<str> {
    if name.len() > MAX {
        return cut(name).into();
    }
    // Older names of Rust are names of C++, too.
    let rust = addr2line::demangle(name, DW_LANG_Rust).filter(|name| name.len() <= MAX);
    rust.or_else(|| cpp(name)).map_or_else(|| name.into(), Arc::from)
}

fn cpp(name: &str) -> Option<String> {
    if !name.starts_with("_Z") && !name.starts_with("__Z") {
        return None;
    }
    let mut text = Bounded(String::new());
    Symbol::new(name).ok()?.structured_demangle(&mut text, &DemangleOptions::default()).ok()?;
    Some(text.0)
}

/// The start of a name.
fn cut(name: &str) -> &str {
    name.get(..name.floor_char_boundary(MAX)).unwrap_or_default()
}

/// Text that does not become too long.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_in_the_source() {
        for (symbol, name) in [
            ("main", "main"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_RNvC8perfring4main", "perfring::main"),
            ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back(int const&)"),
            ("_Z1fi.cold", "f(int) [clone .cold]"),
            ("_Z9short", "_Z9short"),
        ] {
            assert_eq!(&*demangled(symbol), name);
        }
    }

    /// `f(P<A, A>, P<P<A, A>, P<A, A> >, ...)`: written out, each argument is twice as long as the one before.
    #[test]
    fn short_names_of_very_long_ones_stay() {
        let mut symbol = "_Z1f1PI1AS0_E".to_owned();
        for digit in ('1'..='9').chain('A'..='Z') {
            symbol.push_str(&format!("S_IS{digit}_S{digit}_E"));
            let name = demangled(&symbol);
            assert!(name.len() <= MAX);
            assert_eq!(name.starts_with("_Z"), digit > '9', "{symbol}");
        }
        assert_eq!(demangled(&"é".repeat(MAX)).len(), MAX);
    }
}
