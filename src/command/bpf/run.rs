//! `perfring bpf run`.

use super::object;
use crate::command::output::{Failure, Outcome, stdout};
use perfring::bpf::elf::{Object, ProgramSpec};
use perfring::bpf::map::MapType;
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Context, Event, Loaded, Machine, Program, RunError};
use perfring::record::{Body, Decoder, SampleType};
use perfring::ring::{Consumer, Ring};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pages of the ring behind each perf event array, and what its records lie in.
const PAGES: usize = 256;
const GRANULE: usize = 64 << 10;
/// Records that are printed.
const PRINTED: u64 = 16;

/// Run a program of an object in the interpreter.
///
/// Every access is tested while it runs, and one that it may not make stops it (exit status 1). With --verify it is proved before
/// that it makes none, and runs without the tests; what is refused is not run (exit status 1), as `perfring bpf verify` tells. It
/// runs on a machine of one CPU, whose perf event arrays have a ring in slot 0. Printed are what the program returned, the
/// records that it wrote, at most 16 of them, and, with --repeat, how long a run took.
///
/// The section's name gives the type of the program, as in kprobe/do_exit; --type says another.
#[derive(clap::Args)]
pub(in crate::command) struct Arguments {
    /// The object file.
    #[arg(value_name = "OBJ")]
    object: PathBuf,
    /// The section of the program, where the object has several programs; its whole name.
    #[arg(long, value_name = "S")]
    section: Option<String>,
    /// The name of the program, where its section has several.
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// The type of the program: socket_filter, kprobe, tracepoint, xdp, perf_event, raw_tracepoint, or memory, whose context
    /// is any bytes, with their number in r2.
    #[arg(long = "type", value_name = "T")]
    type_: Option<String>,
    /// The bytes of the context. Without it they are zero, as many as the type has.
    #[arg(long, value_name = "FILE")]
    ctx: Option<PathBuf>,
    /// The bytes of the packet, for types that have one.
    #[arg(long, value_name = "FILE")]
    packet: Option<PathBuf>,
    /// The types of the platform, where programs depend on their layout (CO-RE): an ELF file with a section .BTF, or BTF alone.
    /// Without it those of the running kernel.
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// Verify the program first, and run it without tests.
    #[arg(long)]
    verify: bool,
    /// How often it is run; each time from the same context and packet.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,
}

pub(in crate::command) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let path = &arguments.object;
    let at_fault = |error: &dyn std::fmt::Display| Failure::Other(format!("{}: {error}", path.display()));
    let object = object::read(path)?;
    let spec = choose(arguments, &object)?;
    let type_ = arguments.type_.as_deref().map(object::type_named).transpose()?;

    let machine = Machine::builder(1).trace(|line| say!("{}", line.trim_end())).fuel(None).build();
    let target = object::target_types(&object, arguments.btf.as_deref())?;
    let loaded = object::load(&object, spec, type_, &machine, target.as_ref()).map_err(|error| at_fault(&error))?;
    let mut rings = rings(&loaded, &machine).map_err(|error| at_fault(&error))?;
    let Some(program) = loaded.programs.get(&spec.name) else {
        return Err(at_fault(&format!("program {} was not loaded", spec.name)));
    };
    let verified = match arguments.verify.then(|| program.verify(&VerifyOptions::default())) {
        Some(Err(error)) => return Ok(Outcome::AtFault(format!("{}: refused: {error}", path.display()))),
        Some(Ok(verified)) => Some(verified),
        None => None,
    };
    let program = verified.as_ref().map_or(program, |verified| verified.program());
    let input = Input::read(arguments, program)?;

    let mut out = stdout();
    let (mut elapsed, mut returned) = (Duration::ZERO, 0);
    for turn in 0..arguments.repeat {
        let (mut context, mut packet) = (input.context.clone(), input.packet.clone());
        let start = Instant::now();
        let result = machine.run(program, Context::new(&mut context).packet(&mut packet));
        elapsed += start.elapsed();
        returned = match result {
            Ok(returned) => returned,
            Err(error @ RunError::Trap(_)) => return Ok(Outcome::AtFault(format!("{}: {error}", path.display()))),
            Err(error) => return Err(at_fault(&error)),
        };
        for ring in &mut rings {
            ring.drain(turn == 0, &mut out)?;
        }
    }
    writeln!(out, "returned {returned:#x}")?;
    for ring in &rings {
        writeln!(out, "map {}: {} records, {} lost", ring.map, ring.records, ring.consumer.lost_total().unwrap_or(0))?;
    }
    if arguments.repeat > 1 {
        let nanoseconds = elapsed.as_nanos() as f64 / arguments.repeat as f64;
        writeln!(out, "{} runs, {nanoseconds:.1} ns each", arguments.repeat)?;
    }
    out.flush()?;
    Ok(Outcome::Fine)
}

/// The one program that is meant.
fn choose<'a>(arguments: &Arguments, object: &'a Object) -> Result<&'a ProgramSpec, Failure> {
    let is_meant = |program: &&ProgramSpec| {
        arguments.section.as_ref().is_none_or(|section| program.section == *section)
            && arguments.program.as_ref().is_none_or(|name| program.name == *name)
    };
    let meant: Vec<_> = object.programs.iter().filter(is_meant).collect();
    let names = |programs: &mut dyn Iterator<Item = &ProgramSpec>| {
        programs.map(|program| format!("{} in {}", program.name, program.section)).collect::<Vec<_>>().join(", ")
    };
    let path = arguments.object.display();
    match meant[..] {
        [program] => Ok(program),
        [] => Err(Failure::Other(format!("{path}: no such program: there are {}", names(&mut object.programs.iter())))),
        _ => Err(Failure::Usage(format!(
            "--section or --program has to say which of {}",
            names(&mut meant.iter().copied())
        ))),
    }
}

/// What the program is run on.
struct Input {
    context: Vec<u8>,
    packet: Vec<u8>,
}

impl Input {
    fn read(arguments: &Arguments, program: &Program) -> Result<Self, Failure> {
        let file = |path: &Path| std::fs::read(path).map_err(|error| Failure::file("read", path, error));
        let packet = arguments.packet.as_deref().map(file).transpose()?.unwrap_or_default();
        let size = program.type_().context().size();
        let context = match &arguments.ctx {
            Some(path) => {
                let context = file(path)?;
                if let Some(size) = size.filter(|size| *size != context.len()) {
                    let (path, given, type_) = (path.display(), context.len(), program.type_());
                    return Err(Failure::Other(format!("{path}: {given} bytes, and a context of {type_} has {size}")));
                }
                context
            }
            None => vec![0; size.unwrap_or(0)],
        };
        Ok(Self { context, packet })
    }
}

/// A ring that the program writes.
struct OutputRing {
    map: String,
    consumer: Consumer,
    decoder: Decoder,
    records: u64,
}

/// A ring in slot 0 of each perf event array, and those of the ring buffers.
fn rings(loaded: &Loaded, machine: &Machine) -> Result<Vec<OutputRing>, Box<dyn std::error::Error>> {
    let mut rings = Vec::new();
    let attr = Event::bpf_output_attr(SampleType::empty());
    for (name, map) in &loaded.maps {
        let consumer = match map.def().type_ {
            MapType::PerfEventArray => {
                let ring = Ring::confined(PAGES).granule(GRANULE).private()?;
                machine.set_event(map, 0, 0, Event::new(ring.producer()?, &attr, 0)?)?;
                Some(ring.consumer()?)
            }
            MapType::Ringbuf => map.take_consumer()?,
            _ => None,
        };
        if let Some(consumer) = consumer {
            let decoder = Decoder::new(&attr)?;
            rings.push(OutputRing { map: name.clone(), consumer, decoder, records: 0 });
        }
    }
    Ok(rings)
}

impl OutputRing {
    /// Reads what is there, and prints some of it.
    fn drain(&mut self, print: bool, out: &mut impl Write) -> Result<(), Failure> {
        let failure = |error: &dyn std::fmt::Display| Failure::Other(format!("map {}: {error}", self.map));
        let mut drain = self.consumer.drain();
        while let Some(record) = drain.next() {
            let record = record.map_err(|error| failure(&error))?;
            self.records += 1;
            if !print || self.records > PRINTED {
                continue;
            }
            let decoded = self.decoder.decode(record.bytes()).map_err(|error| failure(&error))?;
            match decoded.body {
                Body::Sample(sample) => {
                    let data = sample.raw().unwrap_or_default();
                    write!(out, "map {}: {} bytes:", self.map, data.len())?;
                    for byte in data {
                        write!(out, " {byte:02x}")?;
                    }
                    writeln!(out)?;
                }
                other => writeln!(out, "map {}: {other:?}", self.map)?,
            }
        }
        Ok(())
    }
}
