//! The verifier beside the kernel's, on the same programs with the same maps.
//!
//! A table: medians of many turns, in which each program is verified once by each. This crate's time is that of
//! `Program::verify`, and beside it that with `ProgramBuilder::load`, which tests instructions and jumps, as that is part of what
//! the kernel does. The kernel's is that of BPF_PROG_LOAD without a log, which also makes machine code of what is accepted. The
//! fairer comparison is therefore the column behind it: the same program with a branch before it that is followed last, and is
//! refused, so that all is verified and no more is done.
//!
//! `followed` are the instructions on all paths together, this crate's and the kernel's, as they are not pruned alike; so many of
//! this crate's make the instructions a second of the last column but one. The last is the memory that was taken.

use criterion as _;
use perfring::bpf::Program;
use perfring::bpf::verifier::VerifyOptions;
use std::hint::black_box;
use std::time::{Duration, Instant};

#[path = "../tests/bpf_kernel/mod.rs"]
mod bpf_kernel;
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "support/loads.rs"]
mod loads;
#[path = "support/mode.rs"]
mod mode;
#[path = "support/subjects.rs"]
mod subjects;

use loads::Load;
use subjects::Subject;

/// What one turn measures.
const COLUMNS: usize = 4;

/// The program for the kernel, and that which is refused in the end.
struct Kernel {
    whole: Load,
    refused: Load,
    processed: u64,
}

impl Kernel {
    fn new(subject: &Subject) -> Result<Self, String> {
        let type_ = subject.kernel.ok_or("it has no such type")?;
        let of = |before: &[_]| {
            Load::new(type_, before, &subject.program).map_err(|errno| format!("its maps or functions: {errno:?}"))
        };
        let (whole, refused) = (of(&[])?, of(&subjects::refused_at_last())?);
        whole.verdict().map_err(|errno| format!("{errno:?}"))?;
        let processed = whole.processed().ok_or("it tells no statistics")?;
        // The branch before it changes a little where states are remembered.
        match (refused.verdict(), refused.processed()) {
            (Err(bpf_kernel::Errno(libc::EACCES)), Some(all)) if all >= processed / 10 * 9 => {}
            (verdict, all) => {
                return Err(format!("it was to be refused in the end: {verdict:?}, {all:?} of {processed}"));
            }
        }
        Ok(Self { whole, refused, processed })
    }
}

/// What load takes of what a program was made of.
fn load(program: &Program) -> Program {
    let builder = Program::builder(program.name(), program.type_()).maps(program.maps().to_vec()).license("GPL");
    builder.load(program.code().insns().to_vec()).expect("a sound program")
}

fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let result = black_box(run());
    let time = start.elapsed();
    drop(result);
    time
}

/// Medians in µs, by column; there are as many turns as fit in two seconds.
fn measure(subject: &Subject, kernel: Option<&Kernel>, trial: bool) -> [f64; COLUMNS] {
    let options = VerifyOptions::default();
    let verify = |program: &Program| program.verify(&options).expect("it was accepted before");
    let mut times: [Vec<f64>; COLUMNS] = Default::default();
    let start = Instant::now();
    loop {
        let turn = [
            timed(|| verify(&subject.program)),
            timed(|| verify(&load(&subject.program))),
            kernel.map_or(Duration::ZERO, |kernel| kernel.whole.time()),
            kernel.map_or(Duration::ZERO, |kernel| kernel.refused.time()),
        ];
        for (times, time) in times.iter_mut().zip(turn) {
            times.push(time.as_secs_f64() * 1e6);
        }
        let turns = times[0].len();
        if trial || turns == 1001 || (turns >= 5 && turns % 2 == 1 && start.elapsed() > Duration::from_secs(2)) {
            return times.each_mut().map(|times| median(times));
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A time in µs, with three digits.
fn shown(time: f64) -> String {
    match time {
        ..100.0 => format!("{time:.1}"),
        _ => format!("{time:.0}"),
    }
}

/// Ratios of a group of programs.
#[derive(Default)]
struct Ratios([Vec<f64>; 2]);

impl Ratios {
    fn mean(&self, column: usize) -> String {
        match &self.0[column] {
            ratios if ratios.is_empty() => "-".to_owned(),
            ratios => {
                let logs: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
                format!("**{:.2}**", (logs / ratios.len() as f64).exp())
            }
        }
    }
}

fn table(subjects: &[Subject], allowed: bool, trial: bool) {
    println!(
        "| µs a program | instructions | followed | by the kernel | verify | load and verify | kernel: load | \
         kernel: refused in the end | verify, of the kernel's load | load and verify, of refused | million insns/s | KiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let (mut ratios, mut left_out) = (Ratios::default(), Vec::new());
    for subject in subjects {
        let kernel = match allowed {
            true => Kernel::new(subject),
            false => Err("bpf(2) is not allowed".to_owned()),
        };
        let stats = match subject.program.verify(&VerifyOptions::default()) {
            Ok(verified) => verified.stats().clone(),
            Err(error) => {
                let kernel = match &kernel {
                    Ok(kernel) => format!("; the kernel follows {} instructions, and accepts it", kernel.processed),
                    Err(reason) if allowed => format!("; nor by the kernel: {reason}"),
                    Err(_) => String::new(),
                };
                left_out.push(format!("{}: instruction {}: {}{kernel}", subject.name, error.insn, error.kind));
                continue;
            }
        };
        let kernel = match kernel {
            Ok(kernel) => Some(kernel),
            Err(reason) => {
                if allowed {
                    left_out.push(format!("{}, by the kernel: {reason}", subject.name));
                }
                None
            }
        };
        let [verify, both, whole, refused] = measure(subject, kernel.as_ref(), trial);
        let of_kernel = kernel.as_ref().map(|_| [verify / whole, both / refused]);
        if let Some(of_kernel) = of_kernel {
            for (ratios, ratio) in ratios.0.iter_mut().zip(of_kernel) {
                ratios.push(ratio);
            }
        }
        let cell = |text: &dyn Fn(&Kernel) -> String| kernel.as_ref().map_or("-".to_owned(), text);
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {} |",
            subject.name,
            subject.program.code().len(),
            stats.insns,
            cell(&|kernel| kernel.processed.to_string()),
            shown(verify),
            shown(both),
            cell(&|_| shown(whole)),
            cell(&|_| shown(refused)),
            of_kernel.map_or("-".to_owned(), |[ratio, _]| format!("{ratio:.2}")),
            of_kernel.map_or("-".to_owned(), |[_, ratio]| format!("{ratio:.2}")),
            stats.insns as f64 / verify,
            stats.memory.div_ceil(1024),
        );
    }
    println!("| geometric mean | | | | | | | | {} | {} | | |", ratios.mean(0), ratios.mean(1));
    for reason in left_out {
        println!("Not accepted: {reason}");
    }
}

fn main() {
    let trial = mode::is_trial();
    // What there is to be allowed: a program of two instructions.
    let least = bpf_kernel::Code {
        prog_type: bpf_kernel::prog_type::SOCKET_FILTER,
        insns: &[0xb7, 0x95],
        maps: &[],
        functions: None,
    };
    let allowed = match least.load() {
        Ok(_) => true,
        Err(errno) => {
            println!("SKIPPED: the kernel: {}", std::io::Error::from(errno));
            false
        }
    };
    println!("Programs that clang made:\n");
    table(&subjects::of_objects(), allowed, trial);
    println!("\nGenerated programs:\n");
    table(&subjects::generated(), allowed, trial);
}
