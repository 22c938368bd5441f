//! From text to instructions.

mod error;
mod lex;
mod operand;
mod parse;

use super::{Code, Insn, Op, helper_number};
pub use error::{AsmError, AsmErrorKind};
use lex::Lexer;
use parse::{Line, Target};
use std::collections::HashMap;

/// Where a label stands in a program, and in which line of the text.
type Labels<'a> = HashMap<&'a str, (usize, usize)>;

/// An instruction whose target is a label, or whose helper may be one.
struct Open<'a> {
    at: usize,
    name: &'a str,
    op: Op,
    /// For errors: where the name stands.
    lexer: Lexer<'a>,
    given: Option<i32>,
}

/// The instructions of a text, in the syntax of [`Op`]'s `Display`, which is that of the kernel verifier's log.
///
/// An instruction a line. Numbers are decimal or hexadecimal (`0x`). A comment goes from `;`, `//` or `#` to the end of the
/// line. Before an instruction may stand its index (`5:`) and its opcode (`(bf)`), so that a [`Listing`](super::Listing) can be
/// read again, and labels (`name:`). A target is `pc+3`, `+3` or a label; `call` takes `pc+3`, a label, a number, or the name
/// of a helper with its number (`bpf_map_lookup_elem#1`) or without; a `goto` that leads too far becomes a `gotol`. The syntax of
/// llvm for the same instructions is understood too: spaces around offsets, `w` registers in loads and stores.
///
/// A number that would be sign-extended to another value is refused: `r1 = 0xffffffff` is, where `r1 = -1` and
/// `r1 = 0xffffffff ll` are what may be meant. Hexadecimal numbers in jumps are 32 bits, as in the kernel's log.
///
/// # Errors
///
/// The first defect of the text, with line and column. Every instruction is one that [`Op::decode`] takes; where jumps lead is
/// not looked at, unless to a label.
///
/// ```
/// use perfring::bpf::insn::{Op, assemble};
///
/// let insns = assemble("r1 = *(u64 *)(r10 -8) ; an argument\ncall bpf_ktime_get_ns\nexit")?;
/// assert_eq!(Op::decode(&insns, 0)?.to_string(), "r1 = *(u64 *)(r10 -8)");
/// let error = assemble("r0 = 1\nr0 += x").unwrap_err();
/// assert_eq!(error.to_string(), "2:7: expected a register r0 to r10 or a number, not x");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn assemble(text: &str) -> Result<Vec<Insn>, AsmError> {
    assemble_with(text, &helper_number)
}

/// As [`assemble`], with names of helpers from `names`.
///
/// # Errors
///
/// As of [`assemble`].
pub fn assemble_with(text: &str, names: &dyn Fn(&str) -> Option<i32>) -> Result<Vec<Insn>, AsmError> {
    let mut insns: Vec<Insn> = Vec::new();
    let mut labels = Labels::new();
    let mut open = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let mut lexer = Lexer::new(line, number);
        let at = insns.len();
        loop {
            lexer.skip_space();
            let before = lexer;
            if let Some(index) = lexer.index() {
                if index.parse() != Ok(at) {
                    let given = index.chars().take(40).collect();
                    return Err(before.error(AsmErrorKind::Index { given, is: at }));
                }
            } else if let Some(name) = lexer.label() {
                if let Some((_, line)) = labels.insert(name, (at, number)) {
                    return Err(before.error(AsmErrorKind::Twice { name: short(name), line }));
                }
            } else {
                break;
            }
        }
        lexer.skip_space();
        let start = lexer;
        let opcode = lexer.opcode();
        let Some(Line { op, target }) = parse::line(&mut lexer, opcode)? else {
            if opcode.is_some() {
                return Err(lexer.expected("an instruction"));
            }
            continue;
        };
        let encoded = op.encode();
        if insns.len() + encoded.len() > Code::MAX_LEN {
            return Err(start.error(AsmErrorKind::TooLong));
        }
        insns.extend_from_slice(&encoded);
        Op::decode(&insns, at).map_err(|error| start.error(error.into()))?;
        if let Some(given) = opcode
            && given != encoded[0].opcode
        {
            return Err(start.error(AsmErrorKind::Opcode { given, is: encoded[0].opcode }));
        }
        if let Some(Target { name, given, lexer }) = target {
            open.push(Open { at, name, op, lexer, given });
        }
    }
    for open in open {
        let at = open.at;
        insns[at] = close(open, &labels, names)?;
    }
    Ok(insns)
}

/// A name for a message.
fn short(name: &str) -> String {
    name.chars().take(100).collect()
}

/// The (first) slot of an instruction, its name resolved.
fn close(open: Open<'_>, labels: &Labels<'_>, names: &dyn Fn(&str) -> Option<i32>) -> Result<Insn, AsmError> {
    let Open { at, name, op, lexer, given } = open;
    let label = if given.is_none() { labels.get(name) } else { None };
    let Some(&(target, _)) = label else {
        let Op::Call(_) = op else {
            return Err(lexer.error(AsmErrorKind::NoLabel { name: short(name) }));
        };
        let number = match (names(name), given) {
            (Some(is), Some(given)) if is != given => {
                return Err(lexer.error(AsmErrorKind::HelperNumber { name: short(name), given, is }));
            }
            (Some(is), _) => is,
            (None, Some(given)) if name == "unknown" => given,
            (None, _) => return Err(lexer.error(AsmErrorKind::Name { name: short(name) })),
        };
        return Ok(parse::helper(number).encode()[0]);
    };
    // Indices are at most `MAX_LEN`.
    let offset = target as i64 - at as i64 - 1;
    let op = parse::aimed(op, offset).ok_or_else(|| lexer.error(AsmErrorKind::TooFar { name: short(name), offset }))?;
    Ok(op.encode()[0])
}
