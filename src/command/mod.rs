//! What the command `perfring` does.

/// Prints a line on the standard error. That nobody reads it, or that it is full, keeps nothing from going on.
macro_rules! say {
    ($($text:tt)*) => {{
        let line = format!("{}\n", format_args!($($text)*));
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    }};
}

mod bpf;
mod dtrace;
mod dump;
mod folded;
mod header;
mod image;
mod inspect;
mod output;
mod picture;
mod record;
mod replay;
mod stacks;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use output::{Failure, Outcome};
use std::io::{self, Write};
use std::process::ExitCode;

/// Records, reads, orders and replays perf recordings, and looks into rings.
///
/// A recording is a perf.data file, a directory as `perf record --threads` makes it, a stream as `perf record -o -` writes
/// it, or an image of a ring.
///
/// Exit status: 0 when all is well, 1 when the input or the program is at fault (one line on the standard error says what),
/// 2 when the command line is. A reader that closes the pipe is no error.
#[derive(Parser)]
#[command(name = "perfring", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Record(record::Arguments),
    Dump(dump::Arguments),
    Replay(replay::Arguments),
    Inspect(inspect::Arguments),
    Bpf(bpf::Arguments),
    Dtrace(dtrace::Arguments),
    /// Write a shell's completions for this command.
    ///
    /// For bash: `perfring completions bash >~/.local/share/bash-completion/completions/perfring`.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Command::Record(arguments) => record::run(arguments),
        Command::Dump(arguments) => dump::run(arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Inspect(arguments) => {
            let mut out = output::stdout();
            inspect::run(arguments, &mut out).and_then(|outcome| {
                out.flush()?;
                Ok(outcome)
            })
        }
        Command::Bpf(arguments) => bpf::run(arguments),
        Command::Dtrace(arguments) => dtrace::run(arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "perfring", &mut script);
            let mut out = io::stdout().lock();
            out.write_all(&script).and_then(|()| out.flush()).map(|()| Outcome::Fine).map_err(Failure::from)
        }
    };
    match outcome {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::AtFault(reason)) => {
            say!("perfring: {reason}");
            ExitCode::FAILURE
        }
        Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(failure @ Failure::Usage(_)) => {
            say!("perfring: {failure}");
            ExitCode::from(2)
        }
        Err(failure) => {
            say!("perfring: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        super::Arguments::command().debug_assert();
    }
}
