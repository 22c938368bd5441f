//! Names of probes, and patterns that several match.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The name of a probe: `provider:module:function:name`.
///
/// ```
/// use perfring::dtrace::ProbeName;
///
/// let name = ProbeName::new("syscall", "", "write", "entry");
/// assert_eq!(name.to_string(), "syscall::write:entry");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeName {
    /// Who offers it: `syscall`, `tracepoint`, `uprobe`, `usdt`, `profile`, `dtrace`, or what a program calls itself.
    pub provider: String,
    /// Where it lies: a subsystem, a binary, a module of a program; may be empty.
    pub module: String,
    /// In which function; may be empty.
    pub function: String,
    /// What it is.
    pub name: String,
}

impl ProbeName {
    /// A name of these parts.
    pub fn new(provider: &str, module: &str, function: &str, name: &str) -> Self {
        let [provider, module, function, name] = [provider, module, function, name].map(str::to_owned);
        Self { provider, module, function, name }
    }

    fn parts(&self) -> [&str; 4] {
        [&self.provider, &self.module, &self.function, &self.name]
    }
}

impl fmt::Display for ProbeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, module, function, name } = self;
        f.pad(&format!("{provider}:{module}:{function}:{name}"))
    }
}

/// Why a text is no pattern, or no name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// More than three colons.
    #[error("{text:?} has {parts} parts, where provider:module:function:name has 4")]
    Parts {
        /// The text.
        text: String,
        /// Parts.
        parts: usize,
    },
    /// A `[` without its `]`.
    #[error("{text:?} has a [ at {at} without its ]")]
    Bracket {
        /// The text.
        text: String,
        /// Bytes before it.
        at: usize,
    },
    /// A `\` with nothing behind it.
    #[error("{text:?} ends with a \\")]
    Escape {
        /// The text.
        text: String,
    },
    /// A pattern where a name is wanted.
    #[error("{text:?} is a pattern, where the name of one probe is wanted")]
    NotAName {
        /// The text.
        text: String,
    },
}

/// What stands for one or more characters of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
    /// `[a-z]`, `[!a-z]`
    Class {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
}

/// A pattern: for each part of a name a glob of `*`, `?`, `[a-z]`, `[!a-z]` and `\` before what is meant as it stands. A part that is
/// empty matches everything, and parts that are left out, from the left, are empty: `entry` is `:::entry`.
///
/// ```
/// use perfring::dtrace::{Pattern, ProbeName};
///
/// let write = ProbeName::new("syscall", "", "write", "entry");
/// assert!("syscall::*write*:entry".parse::<Pattern>()?.matches(&write));
/// assert!("write:".parse::<Pattern>()?.matches(&write));
/// assert!(!"write".parse::<Pattern>()?.matches(&write), "that is the last part");
/// # Ok::<(), perfring::dtrace::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: [Vec<Piece>; 4],
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let mut parts: Vec<Vec<Piece>> = vec![Vec::new()];
        let mut chars = text.char_indices();
        while let Some((at, char)) = chars.next() {
            let piece = match char {
                ':' => {
                    parts.push(Vec::new());
                    continue;
                }
                '*' => Piece::Any,
                '?' => Piece::One,
                '\\' => {
                    let (_, char) = chars.next().ok_or_else(|| PatternError::Escape { text: text.to_owned() })?;
                    Piece::Char(char)
                }
                '[' => class(&mut chars).ok_or_else(|| PatternError::Bracket { text: text.to_owned(), at })?,
                char => Piece::Char(char),
            };
            let part = parts.last_mut().expect("there is always one");
            // Several mean what one means.
            if piece != Piece::Any || part.last() != Some(&Piece::Any) {
                part.push(piece);
            }
        }
        let count = parts.len();
        let missing = 4_usize.checked_sub(count);
        let missing = missing.ok_or_else(|| PatternError::Parts { text: text.to_owned(), parts: count })?;
        parts.splice(0..0, vec![Vec::new(); missing]);
        let parts = parts.try_into().expect("4 of them");
        Ok(Self { text: text.to_owned(), parts })
    }
}

/// What follows a `[`, to its `]`.
fn class(chars: &mut std::str::CharIndices<'_>) -> Option<Piece> {
    let mut inside = Vec::new();
    loop {
        match chars.next()?.1 {
            ']' if !inside.is_empty() && inside != ['!'] => break,
            ':' => return None,
            char => inside.push(char),
        }
    }
    let (negated, mut rest) = match inside.split_first() {
        Some(('!', rest)) => (true, rest),
        _ => (false, &inside[..]),
    };
    let mut ranges = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        (ranges, rest) = match after {
            ['-', last, after @ ..] => ([&ranges[..], &[(*first, *last)]].concat(), after),
            _ => ([&ranges[..], &[(*first, *first)]].concat(), after),
        };
    }
    Some(Piece::Class { ranges, negated })
}

impl Piece {
    fn is(&self, char: char) -> bool {
        match self {
            Self::Char(wanted) => *wanted == char,
            Self::One | Self::Any => true,
            Self::Class { ranges, negated } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&char)) != *negated
            }
        }
    }
}

/// Whether the pieces are a glob of the text. Goes back to the last `*` only: time is at most the product of the lengths.
fn matches(pieces: &[Piece], text: &str) -> bool {
    let (mut pieces, mut rest) = (pieces, text.chars());
    let mut star: Option<(&[Piece], std::str::Chars<'_>)> = None;
    loop {
        let before = rest.clone();
        match (pieces.split_first(), rest.next()) {
            (None, None) => return true,
            (Some((Piece::Any, after)), _) => {
                star = Some((after, before.clone()));
                (pieces, rest) = (after, before);
            }
            (Some((piece, after)), Some(char)) if piece.is(char) => pieces = after,
            _ => {
                let Some((after, from)) = &mut star else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pieces, rest) = (after, from.clone());
            }
        }
    }
}

/// The text of pieces without globs.
fn plain(pieces: &[Piece]) -> Option<String> {
    let char = |piece: &Piece| match piece {
        Piece::Char(char) => Some(*char),
        _ => None,
    };
    pieces.iter().map(char).collect()
}

impl Pattern {
    /// Whether the name is one of those that are meant.
    pub fn matches(&self, name: &ProbeName) -> bool {
        self.parts.iter().zip(name.parts()).all(|(part, text)| part.is_empty() || matches(part, text))
    }

    /// Whether a probe of this provider can be meant.
    pub fn matches_provider(&self, provider: &str) -> bool {
        self.parts[0].is_empty() || matches(&self.parts[0], provider)
    }

    /// Provider and module, where each is a text that is not empty.
    #[cfg(all(feature = "kernel", feature = "symbols"))]
    pub(super) fn file(&self) -> Option<(String, String)> {
        let [provider, module, ..] = self.parts.each_ref().map(|part| plain(part).filter(|text| !text.is_empty()));
        Some((provider?, module?))
    }

    /// What the parts say, where each is a text without globs: the name of one probe, in which empty parts are empty.
    ///
    /// # Errors
    /// [`PatternError::NotAName`]
    pub fn name(&self) -> Result<ProbeName, PatternError> {
        let [provider, module, function, name] = self.parts.each_ref().map(|part| plain(part));
        let not = || PatternError::NotAName { text: self.text.clone() };
        Ok(ProbeName {
            provider: provider.ok_or_else(not)?,
            module: module.ok_or_else(not)?,
            function: function.ok_or_else(not)?,
            name: name.ok_or_else(not)?,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is(pattern: &str, name: &str) -> bool {
        let name: Vec<_> = name.split(':').collect();
        pattern.parse::<Pattern>().unwrap().matches(&ProbeName::new(name[0], name[1], name[2], name[3]))
    }

    #[test]
    fn globs() {
        for pattern in
            ["", ":::", "*", "a:b:c:d", "d", "c:d", "b:c:", "a:::", "[a-c]:?::[!x]", "a*:*b:*c*:**d", "\\a:::"]
        {
            assert!(is(pattern, "a:b:c:d"), "{pattern}");
        }
        for pattern in ["a", "b:c:d:", "a:b:c:", "x:::", "::c:e", "[!a]:::", "ab*:::", "\\*:::", ":::d?"] {
            assert_eq!(is(pattern, "a:b:c:d"), pattern == "a:b:c:", "{pattern}");
        }
        assert!(is("*sys*open*at*", "::: sys_enter_openat2"));
        assert!(is("[]x]", ":::]") && is("[!]]", ":::x") && is("[a-]", ":::-"));
    }

    #[test]
    fn what_is_no_pattern() {
        let error = |text: &str| text.parse::<Pattern>().unwrap_err().to_string();
        assert_eq!(error("a:b:c:d:e"), "\"a:b:c:d:e\" has 5 parts, where provider:module:function:name has 4");
        assert_eq!(error("a[b:::"), "\"a[b:::\" has a [ at 1 without its ]");
        assert_eq!(error("a\\"), "\"a\\\\\" ends with a \\");
        assert!("a:b*::".parse::<Pattern>().unwrap().name().is_err());
        assert_eq!("a:\\*::".parse::<Pattern>().unwrap().name().unwrap(), ProbeName::new("a", "*", "", ""));
    }

    /// By the definition, and slowly.
    fn slow(pieces: &[Piece], text: &[char]) -> bool {
        match pieces.split_first() {
            None => text.is_empty(),
            Some((Piece::Any, rest)) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
            Some((piece, rest)) => text.split_first().is_some_and(|(char, after)| piece.is(*char) && slow(rest, after)),
        }
    }

    proptest! {
        #[test]
        fn as_the_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let pieces = &pattern.parse::<Pattern>().unwrap().parts[3];
            let chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(matches(pieces, &text), slow(pieces, &chars));
        }

        #[test]
        fn any_text_is_a_pattern_or_not(text in any::<String>()) {
            if let Ok(pattern) = text.parse::<Pattern>() {
                pattern.matches(&ProbeName::new("a", "b", "c", &text));
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
