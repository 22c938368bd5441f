//! The probes that the kernel offers: tracepoints, system calls, functions and statically defined probes of processes, clocks.

use super::events::{What, info_of, names_of};
use super::kernel_probes::KernelProbeError;
use super::name::{Pattern, ProbeName};
use super::probe::{ArgInfo, ProbeInfo, Stability};
#[cfg(feature = "symbols")]
use super::{
    operand::{Operand, operands},
    program_type::MAX_ARGS,
};
use crate::kernel::{Tracepoint, online_cpus};
#[cfg(feature = "symbols")]
use crate::kernel::{UsdtSite, function_names, usdt_sites};
#[cfg(feature = "symbols")]
use std::collections::{HashMap, hash_map::Entry};

/// How an event is opened.
#[derive(Clone)]
pub(super) enum Opens {
    Tracepoint(String),
    /// A path and a function.
    Function {
        path: String,
        function: String,
        returns: bool,
    },
    /// A path and the places of a statically defined probe.
    #[cfg(feature = "symbols")]
    Usdt {
        path: String,
        sites: Vec<UsdtSite>,
    },
    /// Each so many nanoseconds.
    Clock {
        period: u64,
    },
}

/// A probe that the kernel offers.
#[derive(Clone)]
pub struct KernelProbe {
    pub(super) info: ProbeInfo,
    pub(super) opens: Opens,
    pub(super) what: What,
}

impl std::fmt::Debug for KernelProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelProbe").field("info", &self.info).finish_non_exhaustive()
    }
}

impl KernelProbe {
    /// What its event is known by, where other probes may have the same. Two clocks of one rate are two: one may be of one CPU.
    pub(super) fn event_name(&self) -> Option<ProbeName> {
        match &self.opens {
            Opens::Tracepoint(name) => Some(ProbeName::new("tracepoint", name, "", "")),
            Opens::Clock { .. } => None,
            _ => Some(self.info.name.clone()),
        }
    }

    /// What is known of it.
    pub fn info(&self) -> &ProbeInfo {
        &self.info
    }
}

/// The probes that the kernel offers, and that the pattern matches:
///
/// - `tracepoint:SYSTEM::NAME`, and `syscall::CALL:entry` and `:return`: where tracefs can be read. Arguments are the fields, or those
///   of the call; what a call returns.
/// - `uprobe:PATH:FUNCTION:entry` and `:return`: where the path is named, not by a pattern. Arguments are those that registers have;
///   what a function returns. Functions by patterns need the feature `symbols`.
/// - `usdt:PATH:PROVIDER:NAME`: the statically defined probes of the file, where its path is named. Arguments are what its notes say; 0
///   where they are in memory that the record does not have. Needs the feature `symbols`.
/// - `profile:::profile-N`, N times a second on each CPU, and `profile:::tick-N`, on one; N may be a time, as in `10ms`. Listed
///   are those that are often used; others are there when they are named.
///
/// # Errors
/// [`KernelProbeError`]; that nothing matches is none.
pub fn kernel_probes(pattern: &Pattern) -> Result<Vec<KernelProbe>, KernelProbeError> {
    let mut found = Vec::new();
    if pattern.matches_provider("tracepoint") || pattern.matches_provider("syscall") {
        for tracepoint in Tracepoint::names() {
            let Some((system, name)) = tracepoint.split_once(':') else { continue };
            let names: Vec<_> = names_of(system, name).into_iter().filter(|name| pattern.matches(name)).collect();
            if names.is_empty() {
                continue;
            }
            // ftrace's own entries are there, too, and are no events.
            let Ok(format) = Tracepoint::find(&tracepoint).and_then(|found| found.format()) else { continue };
            for probe in names {
                found.push(KernelProbe {
                    info: info_of(probe, Some(&format)),
                    opens: Opens::Tracepoint(tracepoint.clone()),
                    what: What::of_tracepoint(system, name, Some(format.clone())),
                });
            }
        }
    }
    if let Ok(name) = pattern.name()
        && ["uprobe", "profile"].contains(&name.provider.as_str())
        && (name.provider != "uprobe" || !name.function.is_empty() && !name.name.is_empty())
    {
        match name.provider.as_str() {
            "uprobe" => found.extend(function(name)),
            _ => found.push(clock(name)?),
        }
        return Ok(found);
    }
    #[cfg(feature = "symbols")]
    of_file(pattern, &mut found)?;
    if pattern.matches_provider("profile") {
        for name in ["profile-97", "profile-199", "profile-499", "profile-997", "tick-1s", "tick-10s"] {
            let name = ProbeName::new("profile", "", "", name);
            if pattern.matches(&name) {
                found.push(clock(name)?);
            }
        }
    }
    Ok(found)
}

/// The functions and the statically defined probes of a file that the pattern names.
#[cfg(feature = "symbols")]
fn of_file(pattern: &Pattern, found: &mut Vec<KernelProbe>) -> Result<(), KernelProbeError> {
    let Some((provider, path)) = pattern.file() else { return Ok(()) };
    if provider == "uprobe" {
        for name in function_names(&path)? {
            for end in ["entry", "return"] {
                let name = ProbeName::new("uprobe", &path, &name, end);
                if pattern.matches(&name) {
                    found.extend(function(name));
                }
            }
        }
    }
    if provider == "usdt" {
        let mut all: Vec<(ProbeName, Vec<UsdtSite>)> = Vec::new();
        let mut at = HashMap::<_, usize>::new();
        for site in usdt_sites(&path)? {
            let name = ProbeName::new("usdt", &path, &site.provider, &site.name);
            if !pattern.matches(&name) {
                continue;
            }
            match at.entry((site.provider.clone(), site.name.clone())) {
                Entry::Occupied(at) => all[*at.get()].1.push(site),
                Entry::Vacant(at) => {
                    at.insert(all.len());
                    all.push((name, vec![site]));
                }
            }
        }
        for (name, sites) in all {
            let places: Vec<_> = sites.iter().map(|site| operands(&site.arguments, MAX_ARGS)).collect();
            // One place may know more than another.
            let most = places.iter().max_by_key(|place| place.len());
            let arg =
                |(at, operand): (usize, &Operand)| ArgInfo { name: format!("arg{at}"), type_: operand.type_text() };
            let args = most.into_iter().flatten().enumerate().map(arg).collect();
            let info = ProbeInfo { name, args, stability: Stability::Evolving };
            // Each place has its own: they are told when it is opened.
            let what = What::Usdt(Vec::new().into());
            found.push(KernelProbe { info, opens: Opens::Usdt { path: path.clone(), sites }, what });
        }
    }
    Ok(())
}

fn function(name: ProbeName) -> Option<KernelProbe> {
    let returns = match name.name.as_str() {
        "entry" => false,
        "return" => true,
        _ => return None,
    };
    let arg = |name: String| ArgInfo { name, type_: "u64".to_owned() };
    let args = match returns {
        true => vec![arg("ret".to_owned()), arg("ret".to_owned())],
        false => (0..6).map(|at| arg(format!("arg{at}"))).collect(),
    };
    let opens = Opens::Function { path: name.module.clone(), function: name.function.clone(), returns };
    let info = ProbeInfo { name, args, stability: Stability::Unstable };
    Some(KernelProbe { info, opens, what: What::Function { returns } })
}

fn clock(name: ProbeName) -> Result<KernelProbe, KernelProbeError> {
    let error = || KernelProbeError::Clock { name: name.name.clone() };
    let (on_one, rate) = match name.name.split_once('-') {
        Some(("profile", rate)) => (false, rate),
        Some(("tick", rate)) => (true, rate),
        _ => return Err(error()),
    };
    let digits = rate.find(|c: char| !c.is_ascii_digit()).unwrap_or(rate.len());
    let (number, unit) = rate.split_at(digits);
    let number: u64 = number.parse().ok().filter(|number| *number != 0).ok_or_else(error)?;
    let nanoseconds = match unit {
        "" | "hz" => Some(1_000_000_000 / number),
        "ns" | "nsec" => Some(number),
        "us" | "usec" => number.checked_mul(1_000),
        "ms" | "msec" => number.checked_mul(1_000_000),
        "s" | "sec" => number.checked_mul(1_000_000_000),
        "m" | "min" => number.checked_mul(60_000_000_000),
        _ => None,
    };
    // Faster than that the machine does nothing else; slower, a counter's period does not fit.
    let period = nanoseconds.filter(|period| (100_000..1 << 62).contains(period)).ok_or_else(error)?;
    let cpu = if on_one { Some(online_cpus()?.first().copied().unwrap_or(0)) } else { None };
    let info = ProbeInfo { stability: Stability::Stable, ..ProbeInfo::new(name) };
    Ok(KernelProbe { info, opens: Opens::Clock { period }, what: What::Other { cpu } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        let period = |name: &str| match clock(ProbeName::new("profile", "", "", name)) {
            Ok(KernelProbe { opens: Opens::Clock { period }, what: What::Other { cpu }, .. }) => {
                Ok((period, cpu.is_some()))
            }
            Ok(_) => unreachable!(),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(period("profile-100"), Ok((10_000_000, false)));
        assert_eq!(period("profile-100hz"), Ok((10_000_000, false)));
        assert_eq!(period("tick-1s"), Ok((1_000_000_000, true)));
        assert_eq!(period("tick-250ms"), Ok((250_000_000, true)));
        for wrong in
            ["profile-0", "profile", "tick-", "tick-1x", "profile-20000", "profile-99999999999999999999", "x-1"]
        {
            assert!(period(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn functions_have_to_be_named() {
        let found = |text: &str| {
            let found = kernel_probes(&text.parse().unwrap()).unwrap();
            found.iter().map(|probe| probe.info().name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("uprobe:/bin/sh:main:entry"), ["uprobe:/bin/sh:main:entry"]);
        assert_eq!(found("uprobe:/bin/sh:main:middle"), [""; 0]);
        assert_eq!(found("profile:::tick-7ms"), ["profile:::tick-7ms"]);
        assert_eq!(found("profile:::profile-*").len(), 4);
    }
}
