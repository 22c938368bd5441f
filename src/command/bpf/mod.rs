//! `perfring bpf`.

mod disasm;
mod run;

use super::output::{Failure, Outcome};
use clap::Subcommand;

/// Look into eBPF objects, and run their programs.
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
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    match &arguments.command {
        Command::Disasm(arguments) => disasm::run(arguments),
        Command::Run(arguments) => run::run(arguments),
    }
}
