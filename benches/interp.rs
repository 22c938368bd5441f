//! Interpreters side by side, on the same programs: this crate's, on programs as they are loaded, and on the same verified, which
//! run without tests; rbpf's; and solana-sbpf's; and, as the limit, the kernel's machine code where bpf(2) is allowed.
//!
//! A table: the median of many turns, in which each runs each program once, in ns an instruction, and the geometric mean.
//! solana-sbpf runs its version 0, the one that is plain eBPF, verified, with its address translation, which is what makes it
//! a checked interpreter, and without its instruction meter; this crate's counts its budget. rbpf tests each access, too.
//!
//! Then what a probe costs: a run that reserves 48 bytes in a ring, fills them, and commits; the same by
//! `bpf_perf_event_output`; and a run of nothing.

use criterion as _;
use perfring::bpf::insn::{Insn, assemble_with};
use perfring::bpf::map::{Map, MapDef, UpdateFlags};
use perfring::bpf::program_type::{ContextLayout, Field, Pointer};
use perfring::bpf::verifier::VerifyOptions;
use perfring::bpf::{Arg, Context, Event, HelperId, Helpers, Machine, Program, ProgramType, Prototype, RunOptions};
use perfring::record::{ByteOrder, SampleType};
use perfring::ring::{Ring, Wake};
use solana_sbpf::aligned_memory::AlignedMemory;
use solana_sbpf::declare_builtin_function;
use solana_sbpf::ebpf;
use solana_sbpf::elf::Executable;
use solana_sbpf::memory_region::{MemoryMapping, MemoryRegion};
use solana_sbpf::program::{BuiltinProgram, FunctionRegistry, SBPFVersion};
use solana_sbpf::verifier::RequisiteVerifier;
use solana_sbpf::vm::{CallFrame, Config, ContextObject, EbpfVm, ExecutionMode};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

#[path = "support/bpf.rs"]
#[allow(dead_code, reason = "it is for other benches, too")]
mod kernel;
#[path = "support/mode.rs"]
mod mode;

/// Bytes of memory that programs have.
const MEMORY: usize = 2048;

/// A program: what it is called, its text, and whether the kernel can verify it.
struct Text {
    name: &'static str,
    text: &'static str,
    kernel: bool,
}

const PROGRAMS: &[Text] = &[
    Text {
        name: "ALU loop",
        text: "r0 = 0\nr1 = 1000\nr2 = 3\nloop:\nr0 += r2\nr0 ^= r1\nr2 *= 5\nr0 -= 7\nr3 = r0\nr3 >>= 3\nr0 += r3\nr1 -= 1\nif r1 != 0 goto loop\nexit",
        kernel: true,
    },
    Text {
        name: "stack traffic",
        text: "r0 = 0\nr1 = 1000\nloop:\n*(u64 *)(r10 -8) = r0\n*(u32 *)(r10 -16) = r1\nr2 = *(u64 *)(r10 -8)\nr3 = *(u32 *)(r10 -16)\nr2 += r3\nr0 = r2\nr1 -= 1\nif r1 != 0 goto loop\nexit",
        kernel: true,
    },
    Text {
        name: "memory sum",
        text: "r0 = 0\nr3 = r1\nr4 = 2048\nloop:\nr6 = *(u8 *)(r3 +0)\nr0 += r6\nr3 += 1\nr4 -= 1\nif r4 != 0 goto loop\nexit",
        kernel: false,
    },
    Text {
        name: "string compare",
        text: "r0 = 0\nr2 = r1\nr2 += 1024\nr3 = 1024\nloop:\nr4 = *(u8 *)(r1 +0)\nr5 = *(u8 *)(r2 +0)\nif r4 != r5 goto out\nr1 += 1\nr2 += 1\nr3 -= 1\nif r3 != 0 goto loop\nr0 = 1\nout:\nexit",
        kernel: false,
    },
    Text {
        name: "primes",
        text: "r0 = 0\nr1 = 2\nnext:\nr2 = 2\ntry:\nr3 = r2\nr3 *= r2\nif r3 > r1 goto prime\nr4 = r1\nr4 %= r2\nif r4 == 0 goto composite\nr2 += 1\ngoto try\nprime:\nr0 += 1\ncomposite:\nr1 += 1\nif r1 < 300 goto next\nexit",
        kernel: true,
    },
    Text {
        name: "helper calls",
        text: "r6 = 0\nr7 = 1000\nloop:\nr1 = r7\ncall 5\nr6 += r0\nr7 -= 1\nif r7 != 0 goto loop\nr0 = r6\nexit",
        kernel: false,
    },
];

/// Looks 1,000 keys up in an array of 64; only for those that have maps.
const LOOKUPS: Text = Text {
    name: "map lookups",
    text: "r6 = 0\nr7 = 1000\nloop:\nr1 = r7\nr1 &= 63\n*(u32 *)(r10 -4) = r1\nr1 = map[idx:0] ll\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto bad\nr1 = *(u64 *)(r0 +0)\nr6 += r1\nr7 -= 1\nif r7 != 0 goto loop\nr0 = r6\nexit\nbad:\nr0 = -1\nexit",
    kernel: true,
};
/// Instructions in a run of it.
const LOOKUP_INSNS: u64 = 2 + 13 * 1000 + 2;

fn insns(text: &str) -> Vec<Insn> {
    let number = |name: &str| Helpers::standard().number(name).map(|id| id.0);
    assemble_with(text, &number).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

fn bytes(insns: &[Insn]) -> Vec<u8> {
    insns.iter().flat_map(|insn| insn.to_bytes(ByteOrder::NATIVE)).collect()
}

fn words(insns: &[Insn]) -> Vec<u64> {
    insns.iter().map(|insn| u64::from_ne_bytes(insn.to_bytes(ByteOrder::NATIVE))).collect()
}

/// Something that runs one program.
type Contender = Box<dyn FnMut() -> u64>;

/// How a program of ours runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// As it is loaded: each access is tested.
    Checked,
    /// As the verifier proved it.
    Verified,
}

impl Mode {
    fn of(self, program: Program) -> Program {
        match self {
            Self::Checked => program,
            Self::Verified => program.verify(&VerifyOptions::default()).expect("a sound program").into(),
        }
    }
}

fn ours(text: &str, mode: Mode) -> Contender {
    let mut helpers = Helpers::none();
    helpers.register(HelperId(5), Prototype::new("same", &[Arg::Scalar]), |call| call.arg(0)).expect("a new number");
    let program =
        Program::builder("bench", ProgramType::memory()).helpers(&helpers).load(insns(text)).expect("a program");
    let program = mode.of(program);
    let machine = Machine::new(1);
    let mut memory = vec![1; MEMORY];
    Box::new(move || machine.run(&program, Context::new(&mut memory)).expect("a program that ends"))
}

fn ours_with_map(text: &str, mode: Mode) -> Contender {
    let map = Map::new(&MapDef::array("values", 8, 64), 1).expect("a map");
    for key in 0..64_u32 {
        map.update(&key.to_ne_bytes(), &[0; 8], UpdateFlags::Any).expect("an element");
    }
    let program = Program::builder("bench", ProgramType::memory()).maps([map]).load(insns(text)).expect("a program");
    let program = mode.of(program);
    let machine = Machine::new(1);
    Box::new(move || machine.run(&program, Context::new(&mut [])).expect("a program that ends"))
}

fn rbpf(text: &str) -> Contender {
    let program: &'static [u8] = bytes(&insns(text)).leak();
    let mut vm = rbpf::EbpfVmRaw::new(Some(program)).expect("a program");
    vm.register_helper(5, |a, _, _, _, _| a).expect("a helper");
    let memory: &'static mut [u8] = vec![1; MEMORY].leak();
    Box::new(move || vm.execute_program(memory).expect("a program that ends"))
}

/// What solana-sbpf wants of its embedder.
struct Meter {
    mapping: MemoryMapping,
    remaining: u64,
}

impl ContextObject for Meter {
    fn consume(&mut self, amount: u64) {
        self.remaining = self.remaining.saturating_sub(amount);
    }

    fn get_remaining(&self) -> u64 {
        self.remaining
    }

    fn active_mapping_ptr(&mut self) -> NonNull<MemoryMapping> {
        NonNull::from_mut(&mut self.mapping)
    }
}

declare_builtin_function!(
    /// Gives its first argument.
    Same,
    fn rust(
        _context: &mut Meter,
        a: u64,
        _b: u64,
        _c: u64,
        _d: u64,
        _e: u64,
    ) -> Result<u64, Box<dyn std::error::Error>> {
        Ok(a)
    }
);

/// Runs the program, with or without its meter; gives `r0`, and with it how many instructions ran.
fn sbpf(text: &str, meter: bool) -> Box<dyn FnMut() -> (u64, u64)> {
    let config = Config {
        enable_instruction_meter: meter,
        enabled_sbpf_versions: SBPFVersion::V0..=SBPFVersion::V0,
        ..Config::default()
    };
    let mut loader = BuiltinProgram::new_loader(config);
    loader.register_definition::<Same>("same").expect("a function");
    let loader = Arc::new(loader);
    let mut insns = insns(text);
    for insn in insns.iter_mut().filter(|insn| insn.opcode == 0x85) {
        insn.imm = ebpf::hash_symbol_name(b"same") as i32;
    }
    let executable =
        Executable::from_text_bytes(&bytes(&insns), loader.clone(), SBPFVersion::V0, FunctionRegistry::default());
    let executable = executable.expect("a program");
    executable.verify::<RequisiteVerifier>().expect("a program that is sound");
    let version = executable.get_sbpf_version();
    let stack =
        Box::leak(Box::new(AlignedMemory::<{ ebpf::HOST_ALIGN }>::zero_filled(executable.get_config().stack_size())));
    let stack_len = stack.len();
    let memory: &'static mut [u8] = vec![1; MEMORY].leak();
    let regions = vec![
        executable.get_ro_region(),
        MemoryRegion::new(&mut *stack, ebpf::MM_STACK_START),
        MemoryRegion::new(&raw mut *memory, ebpf::MM_INPUT_START),
    ];
    // SAFETY: stack and memory are leaked, and the program's text is the executable's, which lives as long as the closure.
    #[allow(unsafe_code)]
    let mapping = unsafe { MemoryMapping::new(regions, executable.get_config(), version).expect("regions apart") };
    let context: &'static mut Meter = Box::leak(Box::new(Meter { mapping, remaining: 0 }));
    let mut vm = EbpfVm::new(loader, version, context, stack_len);
    let mut frames = vec![CallFrame::default(); executable.get_config().max_call_depth];
    let mut registers = vm.registers;
    registers[1] = ebpf::MM_INPUT_START;
    Box::new(move || {
        vm.registers = registers;
        vm.call_depth = 0;
        vm.context().remaining = u64::MAX / 2;
        let (count, result) = vm.execute_program(&executable, &mut ExecutionMode::Interpreted, &mut frames);
        let result: Result<u64, _> = result.into();
        (result.expect("a program that ends"), count)
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// ns of one run, each contender once in a turn.
fn turns(contenders: &mut [&mut dyn FnMut() -> u64], turns: usize, runs: usize) -> Vec<f64> {
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..turns {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..runs {
                black_box(contender());
            }
            times.push(start.elapsed().as_nanos() as f64 / runs as f64);
        }
    }
    times.iter_mut().map(|times| median(times)).collect()
}

/// ns of a run in the kernel; none where it does not load it.
fn kernel_time(insns: &[Insn], map: Option<[u32; 4]>, expected: u64, repeat: u32) -> Result<f64, String> {
    let runner = kernel::Runner::new(&words(insns), map).map_err(|error| error.to_string())?;
    let (result, time) = runner.run(repeat).map_err(|error| error.to_string())?;
    assert_eq!(result, expected as u32, "what a program returns has 32 bits there");
    Ok(f64::from(time))
}

/// The times of both modes, of the better peer's.
fn ratios(times: &[f64]) -> String {
    let peer = times[2].min(times[3]);
    format!("**{:.3}** | **{:.3}**", times[0] / peer, times[1] / peer)
}

fn interpreters(trial: bool) {
    let (count, runs) = if trial { (1, 1) } else { (101, 20) };
    println!(
        "| ns an instruction | perfring, checked | perfring, verified | rbpf | solana-sbpf | kernel, machine code | of the better \
         peer, checked | verified |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (mut logs, mut skipped) = ([0.0; 4], None);
    for Text { name, text, kernel } in PROGRAMS {
        let (mut checked, mut verified) = (ours(text, Mode::Checked), ours(text, Mode::Verified));
        let (mut rbpf, mut sbpf_fast) = (rbpf(text), sbpf(text, false));
        let (expected, insns_run) = sbpf(text, true)();
        assert_eq!(checked(), expected, "{name}");
        assert_eq!(verified(), expected, "{name}");
        assert_eq!(rbpf(), expected, "{name}");
        let mut sbpf = || sbpf_fast().0;
        let times = turns(&mut [&mut *checked, &mut *verified, &mut *rbpf, &mut sbpf], count, runs);
        let each: Vec<f64> = times.iter().map(|time| time / insns_run as f64).collect();
        for (log, each) in logs.iter_mut().zip(&each) {
            *log += each.ln();
        }
        let limit = match kernel.then(|| kernel_time(&insns(text), None, expected, if trial { 1 } else { 1000 })) {
            Some(Ok(time)) => format!("{:.3}", time / insns_run as f64),
            Some(Err(reason)) => {
                skipped = Some(reason);
                "-".to_owned()
            }
            None => "-".to_owned(),
        };
        let [checked, verified, rbpf, sbpf] = each[..] else { unreachable!("as many as contenders") };
        println!("| {name} | {checked:.3} | {verified:.3} | {rbpf:.3} | {sbpf:.3} | {limit} | {} |", ratios(&each));
    }
    let means @ [checked, verified, rbpf, sbpf] = logs.map(|log| (log / PROGRAMS.len() as f64).exp());
    println!("| geometric mean | {checked:.3} | {verified:.3} | {rbpf:.3} | {sbpf:.3} | | {} |", ratios(&means));
    let [mut checked, mut verified] = [Mode::Checked, Mode::Verified].map(|mode| ours_with_map(LOOKUPS.text, mode));
    assert_eq!((checked(), verified()), (0, 0));
    let times = turns(&mut [&mut *checked, &mut *verified], count, runs);
    let array = [2, 4, 8, 64];
    let limit = match kernel_time(&insns(LOOKUPS.text), Some(array), 0, if trial { 1 } else { 1000 }) {
        Ok(time) => format!("{:.3}", time / LOOKUP_INSNS as f64),
        Err(reason) => {
            skipped = Some(reason);
            "-".to_owned()
        }
    };
    println!(
        "| {}, of which 1 in 13 is one | {:.3} | {:.3} | no maps | no maps | {limit} | | |",
        LOOKUPS.name,
        times[0] / LOOKUP_INSNS as f64,
        times[1] / LOOKUP_INSNS as f64
    );
    if let Some(reason) = skipped {
        println!("SKIPPED: the kernel: {reason}");
    }
}

const RESERVE: &str = "r6 = r1\nr2 = 8\nr3 = map[idx:0] ll\nr4 = 48\ncall bpf_buffer_reserve\nif r0 != 0 goto out\nr1 = *(u64 *)(r6 +8)\nr2 = *(u64 *)(r6 +16)\nr3 = *(u32 *)(r6 +0)\nr4 = r1\nr4 += 48\nif r4 > r2 goto commit\n\
    *(u64 *)(r1 +0) = r3\n*(u64 *)(r1 +8) = r3\n*(u64 *)(r1 +16) = r3\n*(u64 *)(r1 +24) = r3\n*(u64 *)(r1 +32) = r3\n*(u64 *)(r1 +40) = r3\ncommit:\nr1 = r6\nr2 = 8\nr3 = map[idx:0] ll\ncall bpf_buffer_commit\nout:\nexit";
const OUTPUT: &str = "r3 = *(u32 *)(r1 +0)\n*(u64 *)(r10 -48) = r3\n*(u64 *)(r10 -40) = r3\n*(u64 *)(r10 -32) = r3\n*(u64 *)(r10 -24) = r3\n*(u64 *)(r10 -16) = r3\n*(u64 *)(r10 -8) = r3\n\
    r2 = map[idx:0] ll\nr3 = 0xffffffff ll\nr4 = r10\nr4 += -48\nr5 = 48\ncall bpf_perf_event_output\nexit";

fn probes(trial: bool) {
    // A reader that wants to be woken for half a ring: it is looked for that seldom.
    let ring = Ring::confined(64).wake(Wake::Bytes(128 << 10)).private().expect("a ring");
    let mut consumer = ring.consumer().expect("its consumer");
    let machine = Machine::new(1);
    let events = Map::new(&MapDef::perf_event_array("events", 1), 1).expect("a map");
    let attr = Event::bpf_output_attr(SampleType::empty());
    let event = Event::new(ring.producer().expect("its producer"), &attr, 0).expect("an event");
    machine.set_event(&events, 0, 0, event).expect("a slot");
    let fields = [
        Field::read_only("number", 0, 4, 2),
        Field::pointer("buf", 8, 8, Pointer::Buffer(8)),
        Field::pointer("buf_end", 16, 8, Pointer::BufferEnd(8)),
    ];
    let layout = ContextLayout::fields(24, fields).expect("a layout");
    let probe = ProgramType::builder("probe", layout).all_helpers().build();
    let load = |text: &str, mode: Mode| {
        let builder = Program::builder("probe", &probe).maps([events.clone()]).license("Dual MIT/GPL");
        mode.of(builder.load(insns(text)).expect("a program"))
    };
    let programs = [
        ("reserve 48 bytes, fill, commit", RESERVE, 1_u32),
        ("perf_event_output of 48 bytes", OUTPUT, 1),
        ("nothing", "r0 = 0\nexit", 0),
    ];
    let programs = programs
        .map(|(name, text, records)| (name, [Mode::Checked, Mode::Verified].map(|mode| load(text, mode)), records));
    // As many as have room.
    let (count, runs) = if trial { (1, 10_u32) } else { (1001, 2000) };
    let mut times = [const { [const { Vec::new() }; 2] }; 3];
    for _ in 0..count {
        for ((_, modes, records), times) in programs.iter().zip(&mut times) {
            for (program, times) in modes.iter().zip(times) {
                let mut context = [7; 24];
                let start = Instant::now();
                for _ in 0..runs {
                    let result = machine.run_with(program, Context::new(&mut context), RunOptions::new());
                    assert_eq!(result, Ok(0));
                }
                times.push(start.elapsed().as_nanos() as f64 / f64::from(runs));
                assert_eq!(consumer.for_each(|_| {}).expect("sound records"), u64::from(runs * records));
            }
        }
    }
    println!("| ns a run | checked | verified |\n|---|---|---|");
    for ((name, ..), [checked, verified]) in programs.iter().zip(&mut times) {
        println!("| {name} | {:.1} | {:.1} |", median(checked), median(verified));
    }
}

fn main() {
    let trial = mode::is_trial();
    interpreters(trial);
    println!();
    probes(trial);
}
