//! What the running kernel says of the cases.

use super::table::{Case, Verdict};
use super::types;
use crate::bpf_kernel::{self, Def, prog_type};
use perfring::bpf::map::{MapFlags, MapType};
use perfring::record::ByteOrder;

/// What the kernel says, with all privileges and, where it can be asked, without those for tracing.
#[derive(Debug)]
pub struct Said {
    pub root: Result<(), String>,
    pub bpf: Option<Result<(), String>>,
}

impl Said {
    /// Whether it accepts the program as this crate would: with the leaks refused that only the second tells of, and without
    /// what is refused for the sake of speculation only.
    pub fn accepts(&self) -> bool {
        let leaks = |why: &String| {
            let words = [
                "leak",
                "pointer comparison",
                "-= pointer",
                "pointer arithmetic prohibited",
                "part of pointer",
                "partial copy",
                "invalid read from stack",
                "corrupt spilled pointer",
            ];
            words.iter().any(|what| why.contains(what)) && !why.contains("!root")
        };
        self.root.is_ok() && !matches!(&self.bpf, Some(Err(why)) if leaks(why))
    }
}

fn number(type_: &str) -> Option<(u32, bool)> {
    Some(match type_ {
        "socket_filter" => (prog_type::SOCKET_FILTER, true),
        "xdp" => (prog_type::XDP, true),
        "kprobe" => (prog_type::KPROBE, false),
        "tracepoint" => (prog_type::TRACEPOINT, false),
        "perf_event" => (prog_type::PERF_EVENT, false),
        "raw_tracepoint" => (prog_type::RAW_TRACEPOINT, false),
        _ => return None,
    })
}

fn load(case: &Case, number: u32) -> Option<Result<(), String>> {
    let program = types::program(case).ok()?.ok()?;
    if program.maps().iter().filter_map(perfring::bpf::map::Map::owner).any(|owner| owner != program.type_()) {
        // There are no casts.
        return None;
    }
    let maps: Option<Vec<bpf_kernel::Map>> = program
        .maps()
        .iter()
        .map(|map| {
            let def = map.def();
            // As many CPUs as there may be is not what is asked here.
            let flags = def.flags & (MapFlags::RDONLY_PROG | MapFlags::WRONLY_PROG);
            let no_prealloc = u32::from(def.type_ == MapType::Hash);
            let made = bpf_kernel::Map::create(Def {
                map_type: def.type_ as u32,
                key_size: def.key_size,
                value_size: def.value_size,
                max_entries: def.max_entries,
                flags: flags.bits() | no_prealloc,
            })
            .ok()?;
            if let Some(text) = case.maps.iter().find(|line| line.name == def.name).and_then(|line| line.text.as_ref())
            {
                let mut value = text.as_bytes().to_vec();
                value.resize(def.value_size as usize, 0);
                made.update(&[0; 4], &value, 0).ok()?;
                made.freeze().ok()?;
            }
            Some(made)
        })
        .collect();
    let maps = maps?;
    let words: Vec<u64> =
        program.code().insns().iter().map(|insn| u64::from_le_bytes(insn.to_bytes(ByteOrder::Little))).collect();
    // Only where the address of one is taken the kernel has to know of functions.
    let functions = match case.program.contains("subprog[") {
        true => bpf_kernel::Functions::of(program.code().insns()).ok()?,
        false => None,
    };
    let maps: Vec<_> = maps.iter().collect();
    let code = bpf_kernel::Code { prog_type: number, insns: &words, maps: &maps, functions: functions.as_ref() };
    Some(code.load().map(drop).map_err(|errno| {
        let (_, log) = code.logged_load(1);
        let line = log.lines().rev().find(|line| {
            !line.is_empty()
                && !line.starts_with("processed ")
                && !line.starts_with("verification time")
                && !line.starts_with("stack depth")
        });
        format!("{errno:?}: {}", line.unwrap_or("no log"))
    }))
}

/// What the kernel says of each of the cases; none of those that it has no way to be asked about.
pub fn ask(cases: &[Case]) -> Vec<Option<Said>> {
    let asked = |case: &Case| {
        let own = case.options.dead || case.options.callx || case.options.unresolved.is_some();
        let limits = case.options.insns.is_some() || case.options.memory.is_some() || case.options.stack.is_some();
        if own || limits || matches!(case.verdict, Verdict::Unloaded { .. }) { None } else { number(&case.type_) }
    };
    let restricted: Vec<Option<Result<(), String>>> = bpf_kernel::without_tracing(|| {
        cases
            .iter()
            .map(|case| asked(case).filter(|(_, both)| *both).and_then(|(number, _)| load(case, number)))
            .collect()
    });
    cases.iter().zip(restricted).map(|(case, bpf)| Some(Said { root: load(case, asked(case)?.0)?, bpf })).collect()
}
