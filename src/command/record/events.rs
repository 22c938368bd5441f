//! Which events are recorded, and what of them.

use super::super::output::Failure;
use super::Arguments;
use perfring::kernel::{EventBuilder, Hardware, SampleType, Target, Tracepoint};
use std::path::PathBuf;
use std::str::FromStr;

// `PERF_TYPE_*`
const HARDWARE: u32 = 0;
const SOFTWARE: u32 = 1;
const TRACEPOINT: u32 = 2;
const HW_CACHE: u32 = 3;
const RAW: u32 = 4;

// `PERF_COUNT_SW_*`
const CPU_CLOCK: u64 = 0;
const TASK_CLOCK: u64 = 1;

/// Samples a second, unless it is said.
const FREQ: u64 = 4000;

/// How call chains are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallGraph {
    FramePointers,
    /// From so many bytes of the stack.
    Dwarf(u32),
}

impl FromStr for CallGraph {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (how, bytes) = text.split_once(',').map_or((text, None), |(how, bytes)| (how, Some(bytes)));
        match (how, bytes.map(str::parse)) {
            ("fp", None) => Ok(Self::FramePointers),
            ("dwarf", None) => Ok(Self::Dwarf(8192)),
            ("dwarf", Some(Ok(bytes @ 8..=65528))) if bytes % 8 == 0 => Ok(Self::Dwarf(bytes)),
            ("dwarf", Some(_)) => Err("a multiple of 8 from 8 to 65528 bytes of stack".to_owned()),
            _ => Err("fp, dwarf, or dwarf,BYTES".to_owned()),
        }
    }
}

/// An event that is recorded.
pub(super) struct Chosen {
    pub(super) name: String,
    pub(super) builder: EventBuilder,
    pub(super) tracepoint: Option<Tracepoint>,
}

impl Chosen {
    /// Where tracefs is mounted.
    pub(super) fn tracefs(&self) -> Option<PathBuf> {
        self.tracepoint.as_ref()?.directory().ancestors().nth(3).map(PathBuf::from)
    }
}

/// The events that the arguments name, with what is wanted of each.
pub(super) fn choose(arguments: &Arguments) -> Result<Vec<Chosen>, Failure> {
    let failed = |error: perfring::kernel::Error| Failure::Other(error.to_string());
    let names = match arguments.event.is_empty() {
        true => vec![default_event().to_owned()],
        false => arguments.event.clone(),
    };
    let mut chosen = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let parsed = EventBuilder::parse(&name).map_err(failed)?;
        let (type_, config) = (parsed.attr().type_, parsed.attr().config);
        let tracepoint = match type_ {
            TRACEPOINT => {
                // Behind the second colon there are modifiers.
                let end = name.match_indices(':').nth(1).map_or(name.len(), |(at, _)| at);
                Some(Tracepoint::find(name.get(..end).unwrap_or(&name)).map_err(failed)?)
            }
            _ => None,
        };
        let what = SampleType::IDENTIFIER
            | SampleType::IP
            | SampleType::TID
            | SampleType::TIME
            | SampleType::CPU
            | SampleType::PERIOD;
        let is_first = number == 0;
        // One of them tells what tasks do.
        let builder = parsed.comm(is_first).comm_exec(is_first).mmap(is_first).mmap2(is_first).task(is_first);
        let builder = match (arguments.freq, arguments.count) {
            (Some(freq), _) => builder.sample_freq(freq),
            (None, Some(count)) => builder.sample_period(count),
            (None, None) => match (type_, config) {
                // A period of these is in nanoseconds, or is that of something that happens all the time.
                (SOFTWARE, CPU_CLOCK | TASK_CLOCK) | (HARDWARE | HW_CACHE | RAW, _) => builder.sample_freq(FREQ),
                _ => builder.sample_period(1),
            },
        };
        let mut what = match tracepoint {
            Some(_) => what | SampleType::RAW,
            None => what,
        };
        let call_graph = arguments.call_graph.or(arguments.callchain.then_some(CallGraph::FramePointers));
        what.set(SampleType::CALLCHAIN, call_graph.is_some());
        let builder = match call_graph {
            Some(CallGraph::Dwarf(bytes)) => {
                what |= SampleType::REGS_USER | SampleType::STACK_USER;
                builder.sample_regs_user(REGISTERS).sample_stack_user(bytes).exclude_callchain_user(true)
            }
            _ => builder,
        };
        let bytes = arguments.mmap_pages.saturating_mul(perfring::ring::page_size());
        let watermark = u32::try_from(bytes / 4).unwrap_or(u32::MAX);
        let builder = builder.sample_type(what).wakeup_watermark(watermark).disabled(true);
        chosen.push(Chosen { name, builder, tracepoint });
    }
    Ok(chosen)
}

/// `cycles`, if there is such a counter.
fn default_event() -> &'static str {
    let cycles = EventBuilder::hardware(Hardware::CpuCycles).exclude_kernel(true).exclude_hv(true).disabled(true);
    match cycles.open(Target::CallingThread) {
        Ok(_) => "cycles",
        Err(_) => "cpu-clock",
    }
}

/// What unwinding needs (`PERF_REG_*` of `asm/perf_regs.h`): all but the segments and the flags that do not matter.
#[cfg(target_arch = "x86_64")]
const REGISTERS: u64 = 0xff_01ff;
/// All that there are.
#[cfg(target_arch = "aarch64")]
const REGISTERS: u64 = (1 << 33) - 1;
/// Those of other machines are not known here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REGISTERS: u64 = 0;

#[cfg(test)]
mod tests {
    use super::CallGraph;

    #[test]
    fn call_graphs_are_read() {
        assert_eq!("fp".parse(), Ok(CallGraph::FramePointers));
        assert_eq!("dwarf".parse(), Ok(CallGraph::Dwarf(8192)));
        assert_eq!("dwarf,512".parse(), Ok(CallGraph::Dwarf(512)));
        for wrong in ["", "lbr", "fp,1", "dwarf,", "dwarf,7", "dwarf,65536", "dwarf,-8"] {
            assert!(wrong.parse::<CallGraph>().is_err(), "{wrong}");
        }
    }
}
