//! The interpreter as a plugin of the public bpf_conformance runner: runs one program, and prints what it returned.
//!
//! The program comes as hex on the standard input, or after `--program`; white space in it does not matter. It is instructions,
//! or, as the runner sends it with `--elf`, an object with the function `main`. Argument 1, if there is one, is the memory, as hex,
//! too: `r1` is its address and `r2` its length, and both are 0 without. Printed is `r0`, as lower-case hex. A program that is
//! not sound, or is stopped, is a message on the standard error and the exit status 1.
//!
//! Helper 5 gives its first argument; calls of what a register holds are allowed. `--debug` and `--elf` are what the runner
//! passes; they change nothing: no instruction starts as an object does. An argument that is empty is none: older runners pass
//! their options as one argument, also when there are none.

use object::read::elf::ElfFile64;
use object::read::{Object as _, ObjectSection as _, ObjectSymbol as _};
use object::{Architecture, NativeEndian};
use perfring::bpf::insn::Insn;
use perfring::bpf::{Arg, Context, HelperId, Helpers, Machine, Program, ProgramType, Prototype};
use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bpf_conformance_plugin: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os()
        .skip(1)
        .map(|argument| argument.into_string().map_err(|argument| format!("{argument:?} is no text")));
    let (mut program, mut memory) = (None, None);
    while let Some(argument) = arguments.next().transpose()? {
        match argument.as_str() {
            "" => {}
            "--program" => program = Some(arguments.next().ok_or("--program needs a program")??),
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
    let program = bytes(&program)?;
    let insns = if program.starts_with(b"\x7fELF") { main_of(&program)? } else { Insn::parse(&program)? };

    let mut helpers = Helpers::none();
    helpers.register(HelperId(5), Prototype::new("first_argument", &[Arg::Any]), |call| call.arg(0))?;
    let program = Program::builder("program", ProgramType::memory()).helpers(&helpers).callx(true).load(insns)?;
    let r0 = Machine::new(1).run(&program, Context::new(&mut memory.unwrap_or_default()))?;
    writeln!(std::io::stdout(), "{r0:x}")?;
    Ok(())
}

/// The instructions of the section that `main` is in: the runner's objects have it in `.text`, and nothing else.
fn main_of(object: &[u8]) -> Result<Vec<Insn>, Box<dyn Error>> {
    let file = ElfFile64::<NativeEndian>::parse(object)?;
    if file.architecture() != Architecture::Bpf {
        return Err("the object is not of BPF".into());
    }
    let main = file.symbols().find(|symbol| symbol.name() == Ok("main")).ok_or("the object has no main")?;
    let section = main.section_index().ok_or("main is elsewhere")?;
    let section = file.section_by_index(section)?;
    if main.address() != 0 || section.relocations().next().is_some() {
        return Err("the object has more than main".into());
    }
    Ok(Insn::parse(section.data()?)?)
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
