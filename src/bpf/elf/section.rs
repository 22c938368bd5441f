//! What the name of a section says of its programs.

use thiserror::Error;

/// The type of a program, and how it is attached, as the name of its section says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProgramKind {
    /// `kprobe`: where a function of the kernel starts, or at an instruction.
    Kprobe,
    /// `kretprobe`: where it returns.
    Kretprobe,
    /// `ksyscall`: where a system call starts.
    Ksyscall,
    /// `kretsyscall`: where it returns.
    Kretsyscall,
    /// `uprobe`, `uprobe.s`: where a function of a process starts, or at an instruction.
    Uprobe,
    /// `uretprobe`, `uretprobe.s`: where it returns.
    Uretprobe,
    /// `tracepoint`, `tp`
    Tracepoint,
    /// `raw_tracepoint`, `raw_tp`
    RawTracepoint,
    /// `perf_event`
    PerfEvent,
    /// `xdp`, `xdp.frags`
    Xdp,
    /// `socket`
    Socket,
    /// `dtrace/<n>`: slot `n` of a program array. `dtrace/<n>/<probes>`, `dtrace/<probes>` and `dtrace`: of probes.
    Dtrace {
        /// The slot, of a program that has one.
        slot: Option<u32>,
    },
}

/// The name of a section of programs, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SectionName<'a> {
    /// The type of its programs; none if the name is not known.
    pub kind: Option<ProgramKind>,
    /// What follows the first `/`, and the slot, if there is one: to what programs are attached. The whole name (without `?`) if
    /// it is not known.
    pub rest: &'a str,
    /// Whether programs are loaded unless the user says otherwise: there is no `?` in front.
    pub autoload: bool,
}

/// What follows `dtrace/` is neither a number of 32 bits nor a pattern of probes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "section {name}: {slot:?} is neither a slot of a program array, a decimal number below 2^32, nor a pattern of probes"
)]
pub struct SlotError {
    /// The section.
    pub name: String,
    /// What stands where the slot should.
    pub slot: String,
}

impl<'a> SectionName<'a> {
    /// Takes a name apart. One that is not known is no error.
    ///
    /// # Errors
    ///
    /// What follows `dtrace/` is no number, and has no colon as a pattern of probes would.
    ///
    /// ```
    /// use perfring::bpf::elf::{ProgramKind, SectionName};
    ///
    /// let name = SectionName::parse("?kprobe/do_exit")?;
    /// assert_eq!((name.kind, name.rest, name.autoload), (Some(ProgramKind::Kprobe), "do_exit", false));
    /// assert_eq!(SectionName::parse("dtrace/39")?.kind, Some(ProgramKind::Dtrace { slot: Some(39) }));
    /// let name = SectionName::parse("dtrace/syscall::write:entry")?;
    /// assert_eq!((name.kind, name.rest), (Some(ProgramKind::Dtrace { slot: None }), "syscall::write:entry"));
    /// assert_eq!(SectionName::parse("mine/own")?.kind, None);
    /// # Ok::<(), perfring::bpf::elf::SlotError>(())
    /// ```
    pub fn parse(name: &'a str) -> Result<Self, SlotError> {
        let (whole, autoload) = match name.strip_prefix('?') {
            Some(whole) => (whole, false),
            None => (name, true),
        };
        let (prefix, rest) = whole.split_once('/').unwrap_or((whole, ""));
        let kind = match prefix {
            "kprobe" => ProgramKind::Kprobe,
            "kretprobe" => ProgramKind::Kretprobe,
            "ksyscall" => ProgramKind::Ksyscall,
            "kretsyscall" => ProgramKind::Kretsyscall,
            "uprobe" | "uprobe.s" => ProgramKind::Uprobe,
            "uretprobe" | "uretprobe.s" => ProgramKind::Uretprobe,
            "tracepoint" | "tp" => ProgramKind::Tracepoint,
            "raw_tracepoint" | "raw_tp" => ProgramKind::RawTracepoint,
            "perf_event" => ProgramKind::PerfEvent,
            "xdp" | "xdp.frags" => ProgramKind::Xdp,
            "socket" => ProgramKind::Socket,
            "dtrace" => {
                let (number, probes) = rest.split_once('/').unwrap_or((rest, ""));
                return match whole == "dtrace" || number.contains(':') {
                    true => Ok(Self { kind: Some(ProgramKind::Dtrace { slot: None }), rest, autoload }),
                    false => {
                        let slot = Some(slot(name, number)?);
                        Ok(Self { kind: Some(ProgramKind::Dtrace { slot }), rest: probes, autoload })
                    }
                };
            }
            _ => return Ok(Self { kind: None, rest: whole, autoload }),
        };
        Ok(Self { kind: Some(kind), rest, autoload })
    }
}

fn slot(name: &str, text: &str) -> Result<u32, SlotError> {
    // `parse` would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| SlotError { name: name.to_owned(), slot: text.to_owned() })
}
