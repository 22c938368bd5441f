//! `perfring bpf`.

mod disasm;
mod object;
mod raw;
mod run;
mod verify;

pub(super) use object::target_types;

use super::output::{Failure, Outcome};
use clap::Subcommand;
use std::fmt::Write as _;

/// Look into eBPF objects, verify their programs, and run them.
///
/// An object is an ELF file as `clang -target bpf -c` makes it, of either byte order, with or without debug information.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Disasm(disasm::Arguments),
    Run(run::Arguments),
    Verify(verify::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    match &arguments.command {
        Command::Disasm(arguments) => disasm::run(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
    }
}

/// Text of an object, without what a terminal would obey.
fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => clean.push(' '),
            c if c.is_control() => {
                // A string takes everything.
                let _ = write!(clean, "{}", c.escape_default());
            }
            c => clean.push(c),
        }
    }
    clean
}
