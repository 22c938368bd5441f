//! The command `perfring`.

mod command;

fn main() -> std::process::ExitCode {
    command::main()
}
