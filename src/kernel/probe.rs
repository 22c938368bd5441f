//! Probes: events at places in programs and in the kernel's code.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::kernel::{Error, EventBuilder, Pmu};

/// The string that `config1` of a probe points to while it is opened.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// The type for which this is so.
    pub(super) type_: u32,
    /// The path of the file, or the kernel's symbol.
    text: CString,
    /// Whether it is a path.
    user: bool,
}

impl Probe {
    /// One in the kernel, without asking whether it knows any.
    #[cfg(test)]
    pub(super) fn of_kernel(type_: u32, text: &CStr) -> Self {
        Self { type_, text: text.into(), user: false }
    }

    pub(super) fn text(&self) -> &CStr {
        &self.text
    }

    /// Whether it is one in the kernel.
    pub(super) fn is_kernel(&self) -> bool {
        !self.user
    }

    /// The file of a probe in user space.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.user.then(|| std::ffi::OsStr::from_bytes(self.text.to_bytes()).into())
    }
}

impl EventBuilder {
    /// A probe in a program or library: an event each time the instruction at `offset` in the file is about to run, in
    /// whichever process the target says.
    ///
    /// `offset` counts bytes from the start of the file; it is not an address. For a function it is its symbol's value,
    /// less the address and plus the file offset of the loadable segment that holds it (`readelf -sl`); the feature
    /// `symbols` has `uprobe_symbol`, which finds it. Needs `CAP_PERFMON`, whatever `perf_event_paranoid` is.
    ///
    /// It cannot be [inherited](Self::inherit) ([`Error::InheritedProbe`]): to follow a command's children, open it on all CPUs.
    ///
    /// It must be the first byte of an instruction. The kernel replaces that byte, and cannot tell whether an instruction
    /// starts there: a probe in the middle of one makes every process that runs it do something else, or crash, this one
    /// included.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPmu`] when the kernel has no uprobes, [`Error::ProbeText`] for a path with a NUL,
    /// [`Error::Read`]. That the file does not exist is found by [`open`](Self::open): [`Error::ProbeFile`],
    /// [`Error::ProbeOffset`].
    ///
    /// ```no_run
    /// use perfring::kernel::{EventBuilder, Target};
    /// # fn main() -> Result<(), perfring::kernel::Error> {
    /// let event = EventBuilder::uprobe("/bin/sh", 0x4000)?.open(Target::CallingThread)?;
    /// println!("{} calls", event.read()?.value);
    /// # Ok(())
    /// # }
    /// ```
    pub fn uprobe(path: impl AsRef<Path>, offset: u64) -> Result<Self, Error> {
        Self::user_probe(path.as_ref(), offset, false)
    }

    /// As [`uprobe`](Self::uprobe), but an event each time a function returns to its caller; `offset` is that of the
    /// function's first instruction.
    ///
    /// # Errors
    ///
    /// As for [`uprobe`](Self::uprobe).
    pub fn uretprobe(path: impl AsRef<Path>, offset: u64) -> Result<Self, Error> {
        Self::user_probe(path.as_ref(), offset, true)
    }

    fn user_probe(path: &Path, offset: u64, on_return: bool) -> Result<Self, Error> {
        let name = if on_return { "uretprobe" } else { "uprobe" };
        let label = format!("{name} {}+{offset:#x}", path.display());
        Self::of_pmu("uprobe", path.as_os_str().as_bytes(), offset, on_return, label)
    }

    /// A probe in the kernel's code: an event each time the instruction `offset` bytes behind `symbol` is about to run.
    ///
    /// Needs `CAP_PERFMON`, whatever `perf_event_paranoid` is.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPmu`] when the kernel has no kprobes, [`Error::ProbeText`] for a symbol with a NUL,
    /// [`Error::Read`].
    pub fn kprobe(symbol: &str, offset: u64) -> Result<Self, Error> {
        Self::of_pmu("kprobe", symbol.as_bytes(), offset, false, format!("kprobe {symbol}+{offset:#x}"))
    }

    /// As [`kprobe`](Self::kprobe), but an event each time the function returns.
    ///
    /// # Errors
    ///
    /// As for [`kprobe`](Self::kprobe).
    pub fn kretprobe(symbol: &str) -> Result<Self, Error> {
        Self::of_pmu("kprobe", symbol.as_bytes(), 0, true, format!("kretprobe {symbol}"))
    }

    fn of_pmu(pmu: &str, text: &[u8], offset: u64, on_return: bool, label: String) -> Result<Self, Error> {
        let text = CString::new(text)
            .map_err(|error| Error::ProbeText { probe: label.clone(), position: error.nul_position() })?;
        let user = pmu == "uprobe";
        let pmu = Pmu::find(pmu)?;
        let mut builder = Self::new(pmu.type_(), 0);
        if on_return {
            pmu.set(&mut builder.attr, "retprobe", 1)?;
        }
        builder.attr.config2 = offset;
        builder.set_probe(Probe { type_: pmu.type_(), text, user });
        builder.set_label(label);
        Ok(builder)
    }

    /// Where, in the file of a uprobe, the counter is that the kernel raises while the probe is there: the semaphore of
    /// a statically defined probe. 0: none.
    ///
    /// It must be the offset of such a counter: whatever two bytes are there, every process that maps them writable gets
    /// them changed.
    ///
    /// # Errors
    ///
    /// [`Error::NotAUprobe`], [`Error::PmuTerm`] when the kernel knows no such counters, and those of [`Pmu::find`].
    pub fn ref_ctr_offset(mut self, offset: u32) -> Result<Self, Error> {
        let label = self.describe();
        if self.probe().is_none_or(|probe| !probe.user) {
            return Err(Error::NotAUprobe { event: label });
        }
        Pmu::find("uprobe")?.set(&mut self.attr, "ref_ctr_offset", offset.into())?;
        self.set_label(label);
        Ok(self)
    }
}
