//! Cases of the verifier, as tables.
//!
//! A table is a text with a topic. It consists of cases, which blank lines part:
//!
//! ```text
//! refused: a register that nothing has written
//!     r0 = r5
//!     ^ r5 is not initialised
//!     exit
//! ```
//!
//! The first line has the verdict, and what the case shows. The verdicts are
//! - `accepted`: the program is verified. It is run, too, on several inputs, in checked mode and as it was verified: no run may trap,
//!   and both have to do the same.
//! - `refused`: it is loaded, and not verified. The line with `^` stands behind the instruction that is refused, and has how the
//!   message starts. Where it can't be said at which instruction a program is refused, a line without indent has it:
//!   `anywhere: MESSAGE`.
//! - `unloaded`: it is not even loaded: the structure is not sound, or a helper, a map or a licence is not right. Behind `^`, or
//!   `anywhere:`, stands how the message ends.
//!
//! Indented lines are the program, in the syntax of `assemble`; `map[NAME]` is a map. `.NAME` stands for the lines of a snippet,
//! which the head of the table has. Between the first line and the program there may be, in any order,
//! - `type: NAME`: the program's type, one of [`types::named`]; without it `socket_filter`.
//! - `map NAME: KIND key=8 value=48 entries=4`, and `flags=rdonly_prog,zero_seed`, for arrays of programs `owner=TYPE`, and
//!   `text=...` for what an array has in its first value before it is frozen. `bytes=` of a ring buffer is another word for
//!   `entries=`.
//! - `options: dead insns=N memory=N stack=N callx unresolved=N license=TEXT`: dead code is refused; limits; calls through
//!   registers are allowed; the instruction in this slot needs a type that the platform has not got; the licence, which is `GPL`
//!   without that.
//! - `note: TEXT`: why the kernel says something else, where it does.
//! - `each A B: 1 2 | 3 4`: the case is one for each row, with its words in the place of `$A` and `$B`, wherever they stand. With
//!   several such lines, one for each combination. Words that the title has no place for stand behind it.
//!
//! Lines with `#` at their start are comments. Before the first case, the head, are lines that count for all cases of the table
//! that do not say otherwise, and snippets: `snippet NAME:` with indented lines behind.

pub mod kernel;
pub mod table;
pub mod types;
