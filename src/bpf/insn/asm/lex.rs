//! A line of text as tokens.

use super::{AsmError, AsmErrorKind};

/// Tokens that are no word and no number, the longest first.
const SIGNS: [&str; 35] = [
    "s>>=", "s>=", "s<=", "s/=", "s%=", "<<=", ">>=", "s>", "s<", "+=", "-=", "*=", "/=", "%=", "|=", "&=", "^=", "==",
    "!=", ">=", "<=", ">", "<", "&", "=", "(", ")", "[", "]", "*", "+", "-", ",", ":", "#",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    Number { value: u64, hex: bool },
    Sign(&'static str),
    End,
}

/// What is left of a line.
#[derive(Clone, Copy)]
pub(super) struct Lexer<'a> {
    line: &'a str,
    number: usize,
    at: usize,
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$')
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(line: &'a str, number: usize) -> Self {
        Self { line, number, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.line.get(self.at..).unwrap_or_default()
    }

    fn word(&self) -> &'a str {
        let rest = self.rest();
        let len = rest.bytes().take_while(|&byte| is_word(byte)).count();
        rest.get(..len).unwrap_or_default()
    }

    pub(super) fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// An error where the lexer stands.
    pub(super) fn error(&self, kind: AsmErrorKind) -> AsmError {
        let column = self.line.get(..self.at).unwrap_or_default().chars().count() + 1;
        AsmError { line: self.number, column, kind }
    }

    /// `expected`, but what follows is here.
    pub(super) fn expected(mut self, expected: &'static str) -> AsmError {
        self.skip_space();
        let rest = self.rest();
        let word = match self.word() {
            "" => rest.get(..rest.chars().next().map_or(0, char::len_utf8)).unwrap_or_default(),
            word => word,
        };
        // Hostile text does not become a hostile message.
        let found = if rest.is_empty() { "the end of the line".into() } else { word.chars().take(40).collect() };
        self.error(AsmErrorKind::Expected { expected, found })
    }

    /// An index before the instruction: digits and a colon.
    pub(super) fn index(&mut self) -> Option<&'a str> {
        self.skip_space();
        let word = self.word();
        let colon = self.rest().as_bytes().get(word.len()) == Some(&b':');
        (colon && !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())).then(|| {
            self.at += word.len() + 1;
            word
        })
    }

    /// A label: a word and a colon.
    pub(super) fn label(&mut self) -> Option<&'a str> {
        self.skip_space();
        let word = self.word();
        let colon = self.rest().as_bytes().get(word.len()) == Some(&b':');
        (colon && word.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())).then(|| {
            self.at += word.len() + 1;
            word
        })
    }

    /// An opcode before the instruction: two hexadecimal digits in parentheses.
    pub(super) fn opcode(&mut self) -> Option<u8> {
        self.skip_space();
        let (digits, rest) = self.rest().strip_prefix('(')?.split_at_checked(2)?;
        if !rest.starts_with(')') || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u8::from_str_radix(digits, 16).ok()
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Result<Token<'a>, AsmError> {
        self.skip_space();
        let rest = self.rest();
        let Some(first) = rest.bytes().next() else { return Ok(Token::End) };
        // In `bpf_name#1` it is no comment.
        let joined = self.at > 0 && self.line.as_bytes().get(self.at - 1).is_some_and(|&byte| is_word(byte));
        if first == b';' || rest.starts_with("//") || first == b'#' && !joined {
            self.at = self.line.len();
            return Ok(Token::End);
        }
        if let Some(sign) = SIGNS.into_iter().find(|&sign| rest.starts_with(sign)) {
            self.at += sign.len();
            return Ok(Token::Sign(sign));
        }
        let word = self.word();
        if word.is_empty() {
            return Err(self.expected("an instruction"));
        }
        let token = if first.is_ascii_digit() { self.number(word)? } else { Token::Word(word) };
        self.at += word.len();
        Ok(token)
    }

    fn number(&self, word: &'a str) -> Result<Token<'a>, AsmError> {
        let (digits, radix) = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None => (word, 10),
        };
        if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
            return Err(self.expected("a number"));
        }
        let value = u64::from_str_radix(digits, radix).map_err(|_| self.error(AsmErrorKind::TooLarge { bits: 64 }))?;
        Ok(Token::Number { value, hex: radix == 16 })
    }

    /// The next token, which stays.
    pub(super) fn peek(&self) -> Result<Token<'a>, AsmError> {
        self.clone().next()
    }

    /// Takes the next token if it is this one.
    pub(super) fn take(&mut self, token: Token<'_>) -> Result<bool, AsmError> {
        let mut next = *self;
        let taken = next.next()? == token;
        if taken {
            *self = next;
        }
        Ok(taken)
    }

    pub(super) fn sign(&mut self, sign: &'static str) -> Result<bool, AsmError> {
        self.take(Token::Sign(sign))
    }

    /// These signs, one after the other.
    pub(super) fn signs(&mut self, signs: &[&'static str]) -> Result<(), AsmError> {
        for sign in signs {
            if !self.sign(sign)? {
                return Err(self.expected(sign));
            }
        }
        Ok(())
    }
}
