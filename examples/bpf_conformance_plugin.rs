//! The interpreter as a plugin of the public bpf_conformance runner: runs one program, and prints what it returned.
//!
//! The program comes as hex on the standard input, or after `--program`; white space in it does not matter. Argument 1, if there
//! is one, is the memory, as hex, too: `r1` is its address and `r2` its length, and both are 0 without. Printed is `r0`, as
//! lower-case hex. A program that is not sound, or is stopped, is a message on the standard error and the exit status 1.
//!
//! Helper 5 gives its first argument; calls of what a register holds are allowed. `--debug` and `--elf` are what the runner
//! passes; they change nothing.

use perfring::bpf::insn::Insn;
use perfring::bpf::{Arg, Context, HelperId, Helpers, Machine, Program, ProgramType, Prototype};
use std::error::Error;
use std::io::Read;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(r0) => {
            println!("{r0:x}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bpf_conformance_plugin: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u64, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut program, mut memory) = (None, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--program" => program = Some(arguments.next().ok_or("--program needs a program")?),
            "--debug" | "--elf" => {}
            option if option.starts_with("--") => return Err(format!("there is no option {option}").into()),
            _ if memory.is_some() => return Err(format!("one memory is enough: {argument}").into()),
            _ => memory = Some(bytes(&argument)?),
        }
    }
    let program = match program {
        Some(program) => program,
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
    };
    let insns = Insn::parse(&bytes(&program)?)?;

    let mut helpers = Helpers::none();
    helpers.register(HelperId(5), Prototype::new("first_argument", &[Arg::Any]), |call| call.arg(0))?;
    let program = Program::builder("program", ProgramType::memory()).helpers(&helpers).callx(true).load(insns)?;
    Ok(Machine::new(1).run(&program, Context::new(&mut memory.unwrap_or_default()))?)
}

/// Hex, two digits a byte, white space where it likes.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| match pair {
        [high, low] => Some((high.to_digit(16)? * 16 + low.to_digit(16)?) as u8),
        _ => None,
    };
    let wrong = |pair: &[char]| format!("{:?} is no byte in hex", pair.iter().collect::<String>());
    digits.chunks(2).map(|pair| byte(pair).ok_or_else(|| wrong(pair))).collect()
}
