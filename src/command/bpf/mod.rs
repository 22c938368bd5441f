//! `perfring bpf`.

mod disasm;

use super::output::{Failure, Outcome};
use clap::Subcommand;

/// Look into eBPF objects.
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
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    match &arguments.command {
        Command::Disasm(arguments) => disasm::run(arguments),
    }
}
