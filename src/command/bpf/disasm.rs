//! `perfring bpf disasm`.

use super::{clean, object};
use crate::command::output::{Failure, Outcome, stdout};
use perfring::bpf::elf::{MapSpec, ProgramSpec};
use perfring::bpf::insn::{Code, CodeError, CodeOptions, Imm64, Op};
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

/// What `--help` ends with.
const OUTPUT: &str = "\
Output:
  program NAME, section SECTION, COUNT instructions
  FUNCTION:
  ; LINE OF SOURCE @ FILE:NUMBER
  INDEX: (OPCODE) INSTRUCTION ; WHAT IT REFERS TO

  Programs have an empty line between them. Index and count are in slots of 8 bytes, of which a
  64-bit immediate takes two. What an instruction refers to is a map, a byte of a section of data
  (.data+8), or a function. Lines are there where the object was compiled with -g.

Exit status:
  0 when all is well; 1 when the object cannot be used, which one line on the standard error
  explains, with section, function, instruction and C line where they are known; 2 when the
  command line is wrong.

Example:
  clang -target bpf -mcpu=v3 -O2 -g -c tracer.bpf.c -o tracer.bpf.o
  perfring bpf disasm tracer.bpf.o --section kprobe/do_exit";

/// Print the programs of an object as text.
///
/// A program is a global function of any section but .text. It is printed as it would run: linked with every function that it
/// calls, those behind it, each once, and in the syntax of the kernel's verifier log. Maps are referred to by their index.
/// Nothing is loaded, and nothing is run.
#[derive(clap::Args)]
#[command(after_long_help = OUTPUT)]
pub(in crate::command) struct Arguments {
    /// The object file.
    #[arg(value_name = "OBJ")]
    object: PathBuf,
    /// Print only the programs of this section; its whole name, as in kprobe/do_exit.
    #[arg(long, value_name = "S")]
    section: Option<String>,
}

pub(in crate::command) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let path = &arguments.object;
    let object = object::read(path)?;
    let is_wanted =
        |program: &&ProgramSpec| arguments.section.as_ref().is_none_or(|section| program.section == *section);
    let mut programs = object.programs.iter().filter(is_wanted).peekable();
    if programs.peek().is_none() {
        let reason = match &arguments.section {
            Some(section) => format!("{}: no program is in section {section}", path.display()),
            None => format!("{}: there are no programs", path.display()),
        };
        return Err(Failure::Other(reason));
    }
    let mut out = stdout();
    for (number, program) in programs.enumerate() {
        let code = Code::new(program.insns.clone(), CodeOptions { callx: true })
            .map_err(|error| Failure::Other(format!("{}: {}", path.display(), explain(program, &error))))?;
        if number > 0 {
            writeln!(out)?;
        }
        write(&mut out, program, &code, &object.maps)?;
    }
    out.flush()?;
    Ok(Outcome::Fine)
}

/// What is wrong with a program, and where; the instruction is one of the linked program.
fn explain(program: &ProgramSpec, error: &CodeError) -> String {
    let at = match *error {
        CodeError::JumpOutside { at, .. }
        | CodeError::JumpIntoWide { at, .. }
        | CodeError::JumpOutOfFunction { at, .. }
        | CodeError::FunctionOutside { at, .. }
        | CodeError::FunctionIntoWide { at, .. }
        | CodeError::FallsThrough { at, .. } => Some(at),
        CodeError::Insn(ref error) => Some(error.at()),
        _ => None,
    };
    let mut text = format!("section {}, program {}", clean(&program.section), clean(&program.name));
    let line = at.and_then(|at| program.lines.at(at)).filter(|line| line.line != 0);
    if let Some(line) = line {
        // A string takes everything.
        let _ = write!(text, " ({}:{})", clean(line.file), line.line);
    }
    format!("{text}: {error}")
}

fn write(out: &mut impl Write, program: &ProgramSpec, code: &Code, maps: &[MapSpec]) -> Result<(), Failure> {
    let (name, section) = (clean(&program.name), clean(&program.section));
    writeln!(out, "program {name}, section {section}, {} instructions", code.len())?;
    let mut functions = program.functions.iter().peekable();
    let mut lines = program.lines.iter().peekable();
    let mut last = None;
    for (at, op) in code.iter() {
        while let Some(function) = functions.next_if(|function| function.insn <= at) {
            writeln!(out, "{}:", clean(&function.name))?;
            last = None;
        }
        while let Some((_, line)) = lines.next_if(|(insn, _)| *insn <= at) {
            // A line is there for each of its columns, and line 0 is none.
            if last.replace((line.file, line.line)) != Some((line.file, line.line)) && line.line != 0 {
                writeln!(out, "; {} @ {}:{}", clean(line.text.trim()), clean(line.file), line.line)?;
            }
        }
        let opcode = code.insns().get(at).map_or(0, |insn| insn.opcode);
        write!(out, "{at}: ({opcode:02x}) {op}")?;
        match refers_to(op, at, code, program, maps) {
            Some(name) => writeln!(out, " ; {}", clean(&name))?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

/// The name of what an instruction refers to.
fn refers_to(op: &Op, at: usize, code: &Code, program: &ProgramSpec, maps: &[MapSpec]) -> Option<String> {
    let map = |index: i32| maps.get(usize::try_from(index).ok()?).map(|map| map.name.as_str());
    match op {
        Op::LoadImm64 { imm: Imm64::MapIndex(index), .. } => Some(format!("map {}", map(*index)?)),
        Op::LoadImm64 { imm: Imm64::MapIndexValue { index, offset }, .. } => Some(format!("{}+{offset}", map(*index)?)),
        _ if op.function().is_some() => {
            let target = code.target(at)?;
            let function = program.function_of(target)?;
            (function.insn == target).then(|| function.name.to_string())
        }
        _ => None,
    }
}
