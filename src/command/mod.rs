//! What the command `perfring` does.

use std::process::ExitCode;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    eprintln!("perfring: no command yet");
    ExitCode::from(2)
}
