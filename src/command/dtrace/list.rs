//! The probes that there are.

use crate::command::output::{Failure, Outcome, open, stdout};
use perfring::dtrace::{Pattern, ProbeInfo, ProbeName, RecordedProbes, kernel_probes, probes};
use std::io::Write;
use std::path::Path;

/// As many are shown with their arguments.
const WITH_ARGUMENTS: usize = 50;

pub(super) fn run(pattern: &str, input: Option<&Path>) -> Result<Outcome, Failure> {
    let text = pattern;
    let pattern: Pattern = pattern.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    let matching = |info: &ProbeInfo| pattern.matches(&info.name);
    let mut found: Vec<ProbeInfo> = match input {
        Some(path) => {
            let recorded = RecordedProbes::new(open(path)?);
            let recorded = recorded.map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?;
            recorded.probes().filter(|info| matching(info)).cloned().collect()
        }
        None => {
            let of_kernel = kernel_probes(&pattern).map_err(|error| Failure::Other(error.to_string()))?;
            let own = ["BEGIN", "END", "ERROR"].map(|name| ProbeInfo::new(ProbeName::new("dtrace", "", "", name)));
            let own = own.into_iter().chain(probes().map(|probe| probe.info())).filter(matching);
            own.chain(of_kernel.iter().map(|probe| probe.info().clone())).collect()
        }
    };
    found.sort_by(|one, other| one.name.cmp(&other.name));
    let mut out = stdout();
    for info in &found {
        writeln!(out, "{}", info.name)?;
        if found.len() <= WITH_ARGUMENTS {
            for (at, arg) in info.args.iter().enumerate() {
                writeln!(out, "    args[{at}]: {} {}", arg.type_, arg.name)?;
            }
        }
    }
    out.flush()?;
    match found.is_empty() {
        true => Ok(Outcome::AtFault(format!("no probe matches {text:?}{}", hint(&pattern)))),
        false => Ok(Outcome::Fine),
    }
}

/// What may be missing.
pub(super) fn hint(pattern: &Pattern) -> &'static str {
    let of_tracefs = pattern.matches_provider("syscall") || pattern.matches_provider("tracepoint");
    match of_tracefs && perfring::kernel::Tracepoint::names().is_empty() {
        true => {
            ": tracefs, which has those of the kernel, is not mounted, or may not be read (mount -t tracefs nodev /sys/kernel/tracing)"
        }
        false => "",
    }
}
