//! Opening what a builder describes, and the cause behind each refusal.

use std::io;
use std::os::fd::BorrowedFd;
use std::process::Command;

use perf_event_open_sys::bindings::{self, perf_event_attr};

use crate::kernel::diagnose::{Diagnosis, diagnose, fields_beyond};
use crate::kernel::mmap::PerfFd;
use crate::kernel::probe::Probe;
use crate::kernel::{BranchSampleType, Error, Event, EventBuilder, SampleType, StoppedCommand, Target, cpu, sys};

impl EventBuilder {
    /// Opens the event.
    ///
    /// # Errors
    ///
    /// [`Error::Permission`], [`Error::TooManyFiles`], [`Error::UnsupportedEvent`], [`Error::NoDevice`],
    /// [`Error::NoSuchCpu`], [`Error::NoSuchTask`], [`Error::AttrSize`], [`Error::SampleFreq`], [`Error::InvalidAttr`],
    /// [`Error::NoPerfEvents`], [`Error::Capability`], [`Error::SampleMaxStack`], [`Error::NoBreakpoint`],
    /// [`Error::Busy`], [`Error::ProbeFile`], [`Error::ProbeOffset`]; whatever else the kernel answers is an
    /// [`Error::Open`].
    ///
    /// ```no_run
    /// use perfring::kernel::{EventBuilder, Software, Target};
    /// # fn main() -> Result<(), perfring::kernel::Error> {
    /// let event = EventBuilder::software(Software::TaskClock).open(Target::CallingThread)?;
    /// println!("opened with id {}", event.id()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(&self, target: Target) -> Result<Event, Error> {
        self.open_in(target, None)
    }

    /// Opens the event, as a member of a leader's group if there is one.
    pub(super) fn open_in(&self, target: Target, leader: Option<BorrowedFd<'_>>) -> Result<Event, Error> {
        let (pid, cpu) = target.arguments()?;
        let mut attr = self.attr;
        let size = sys::attr_size(&attr);
        if (bindings::PERF_ATTR_SIZE_VER0..size_of::<perf_event_attr>() as u32).contains(&size) {
            // The kernel would not see them, and open something else than what is described.
            let fields = fields_beyond(&attr, size);
            if !fields.is_empty() {
                return Err(Error::AttrSize { size, known: size, fields });
            }
        }
        // The kernel takes some of these, such as negative ones: the probe would never be hit.
        if let Some(error) = self.probe_beyond() {
            return Err(error);
        }
        if self.probe().is_some() && attr.inherit() != 0 && pid >= 0 {
            return Err(Error::InheritedProbe { event: self.describe() });
        }
        match PerfFd::open(&mut attr, pid, cpu, leader, self.probe().map(Probe::text)) {
            Ok(fd) => Ok(Event::new(fd, attr, self.describe(), target)),
            Err(error) => Err(self.open_error(target, leader, attr.size, error)),
        }
    }

    /// Opens the event on each CPU that is online, for everything that runs there; an event of a PMU that counts for
    /// several CPUs at once, on those that its [`cpus`](crate::kernel::Pmu::cpus) name.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), and [`Error::Read`] when the online CPUs cannot be read. CPUs that go offline
    /// meanwhile are left out.
    pub fn open_cpus(&self) -> Result<Vec<Event>, Error> {
        let cpus = match &self.cpus {
            Some(cpus) => cpus.clone(),
            None => cpu::online_cpus()?,
        };
        self.open_each(cpus, |cpu| Target::Cpu { cpu })
    }

    /// Opens the event on a task once for each CPU that is online: what an event with `inherit` needs to be mapped.
    ///
    /// # Errors
    ///
    /// As for [`open_cpus`](Self::open_cpus).
    pub fn open_task_on_cpus(&self, pid: u32) -> Result<Vec<Event>, Error> {
        self.open_each(cpu::online_cpus()?, |cpu| Target::TaskOnCpu { pid, cpu })
    }

    fn open_each(&self, cpus: Vec<u32>, target: impl Fn(u32) -> Target) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        let mut gone = None;
        for cpu in cpus {
            match self.open(target(cpu)) {
                Ok(event) => events.push(event),
                Err(error @ Error::NoSuchCpu { .. }) => gone = Some(error),
                Err(error) => return Err(error),
            }
        }
        match gone {
            Some(error) if events.is_empty() => Err(error),
            _ => Ok(events),
        }
    }

    /// Opens the event on a command that is about to start, switched on by its exec: sets `disabled` and
    /// `enable_on_exec`.
    ///
    /// Map the event, then [start](StoppedCommand::start) the command. To follow the command's children, use
    /// [`StoppedCommand::spawn`], `inherit`, and [`open_task_on_cpus`](Self::open_task_on_cpus).
    ///
    /// # Errors
    ///
    /// Those of [`StoppedCommand::spawn`] and of [`open`](Self::open).
    ///
    /// ```no_run
    /// use perfring::kernel::{EventBuilder, Software};
    /// use std::process::Command;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (command, mut event) = EventBuilder::software(Software::Dummy)
    ///     .comm(true)
    ///     .open_command(Command::new("true"))?;
    /// let mut consumer = event.mmap(8)?;
    /// command.start()?.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_command(&self, command: Command) -> Result<(StoppedCommand, Event), Error> {
        let command = StoppedCommand::spawn(command)?;
        let event = self.clone().disabled(true).enable_on_exec(true).open(Target::Task { pid: command.pid() })?;
        Ok((command, event))
    }

    /// The cause behind an errno of perf_event_open.
    fn open_error(&self, target: Target, leader: Option<BorrowedFd<'_>>, size_after: u32, source: io::Error) -> Error {
        let event = || self.describe();
        let source = match error_from_limits(source) {
            Ok(error) => return error,
            Err(source) => source,
        };
        // An offline CPU is ENODEV, one that can never be is EINVAL.
        if let Some(cpu) = target.cpu()
            && matches!(source.raw_os_error(), Some(libc::ENODEV | libc::EINVAL | libc::ENXIO))
            && cpu::online_cpus().is_ok_and(|online| !online.contains(&cpu))
        {
            return Error::NoSuchCpu { cpu, online: cpu::online_text() };
        }
        if let Some(error) = self.probe_error(&source) {
            return error;
        }
        match source.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) if self.capability().is_some() => {
                Error::Capability { event: event(), what: self.capability().unwrap_or_default(), source }
            }
            Some(libc::EACCES | libc::EPERM) => Error::Permission {
                event: event(),
                target,
                paranoid: proc_number("kernel/perf_event_paranoid"),
                allowed_at: self.allowed_at(target),
                source,
            },
            Some(libc::ENOENT) if self.probe().is_some_and(Probe::is_kernel) => Error::UnsupportedEvent {
                event: event(),
                diagnosis: Diagnosis::Rule("/proc/kallsyms has no such symbol, or its module is not loaded"),
                source,
            },
            Some(libc::ENOENT | libc::EOPNOTSUPP) => {
                Error::UnsupportedEvent { event: event(), diagnosis: self.diagnose(target, leader), source }
            }
            Some(libc::ENOSPC) if self.attr.type_ == bindings::PERF_TYPE_BREAKPOINT => {
                Error::NoBreakpoint { event: event(), target }
            }
            Some(libc::EBUSY) => Error::Busy { event: event(), target },
            Some(libc::EOVERFLOW) if self.attr.sample_max_stack != 0 => Error::SampleMaxStack {
                frames: self.attr.sample_max_stack,
                max: proc_number("kernel/perf_event_max_stack"),
            },
            Some(libc::ENODEV | libc::ENXIO) => Error::NoDevice { event: event(), source },
            Some(libc::ESRCH) if target.pid().is_some() => Error::NoSuchTask { pid: target.pid().unwrap_or_default() },
            // The attribute was understood.
            Some(libc::E2BIG)
                if leader.is_some()
                    && size_after == self.attr.size
                    && self.attr.size as usize <= size_of::<perf_event_attr>() =>
            {
                Error::GroupTooLarge { event: event() }
            }
            Some(libc::E2BIG) => {
                let known = match size_after {
                    kernel if kernel != self.attr.size => kernel,
                    _ => size_of::<perf_event_attr>() as u32,
                };
                Error::AttrSize { size: self.attr.size, known, fields: fields_beyond(&self.attr, known) }
            }
            Some(libc::ENOSYS) => Error::NoPerfEvents,
            Some(libc::EINVAL) => {
                let freq = self.attr.sample_freq;
                let max = proc_number("kernel/perf_event_max_sample_rate").and_then(|max| u64::try_from(max).ok());
                match max {
                    Some(max) if self.attr.freq() == 1 && freq > max => Error::SampleFreq { freq, max },
                    _ => Error::InvalidAttr { event: event(), target, diagnosis: self.diagnose(target, leader) },
                }
            }
            _ => Error::Open { event: event(), target, source },
        }
    }

    /// What the kernel does not accept, by experiments.
    fn diagnose(&self, target: Target, leader: Option<BorrowedFd<'_>>) -> Diagnosis {
        let Ok((pid, cpu)) = target.arguments() else { return Diagnosis::Source };
        let accepts = |attr: &perf_event_attr, leader| {
            PerfFd::open(&mut { *attr }, pid, cpu, leader, self.probe().map(Probe::text)).is_ok()
        };
        let found = diagnose(&self.attr, |attr| accepts(attr, leader));
        let mut alone = self.attr;
        alone.set_disabled(1);
        if leader.is_some() && found == Diagnosis::Source && accepts(&alone, None) {
            return Diagnosis::Group;
        }
        found
    }

    /// What is wrong with the file of a uprobe.
    fn probe_error(&self, source: &io::Error) -> Option<Error> {
        if !matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EINVAL | libc::EACCES)) {
            return None;
        }
        let path = self.probe()?.path()?;
        match path.metadata() {
            Err(source) => Some(Error::ProbeFile { path, source }),
            Ok(file) if !file.is_file() => {
                let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
                Some(Error::ProbeFile { path, source })
            }
            Ok(_) => self.probe_beyond(),
        }
    }

    /// Whether the offset of a uprobe is outside of its file.
    fn probe_beyond(&self) -> Option<Error> {
        let path = self.probe()?.path()?;
        let offset = self.attr.config2;
        let file = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        (offset >= file.len()).then_some(Error::ProbeOffset { path, offset, len: file.len() })
    }

    /// The capability that this needs, and for what, whatever perf_event_paranoid is.
    fn capability(&self) -> Option<&'static str> {
        // The upper half of the addresses is the kernel's.
        if self.attr.type_ == bindings::PERF_TYPE_BREAKPOINT && self.attr.bp_addr.cast_signed() < 0 {
            Some("a breakpoint on an address of the kernel needs CAP_SYS_ADMIN")
        } else if self.probe().is_some() {
            Some("a probe needs CAP_PERFMON")
        } else if self.attr.namespaces() == 1 {
            Some("the flag namespaces needs CAP_PERFMON")
        } else {
            None
        }
    }

    /// The highest perf_event_paranoid at which a process without privileges may open this, as perf_event_open(2) lists
    /// them.
    fn allowed_at(&self, target: Target) -> i64 {
        let sample_type = SampleType::from_bits_retain(self.attr.sample_type);
        let branches = BranchSampleType::from_bits_retain(self.attr.branch_sample_type);
        if self.attr.type_ == bindings::PERF_TYPE_TRACEPOINT && sample_type.contains(SampleType::RAW) {
            -1
        } else if matches!(target, Target::Cpu { .. }) {
            0
        } else if self.attr.exclude_kernel() == 0
            || sample_type.contains(SampleType::PHYS_ADDR)
            || (sample_type.contains(SampleType::BRANCH_STACK)
                && branches.intersects(BranchSampleType::KERNEL | BranchSampleType::HV))
        {
            1
        } else {
            2
        }
    }
}

/// The error when a limit on open files was hit, else the answer itself.
pub(crate) fn error_from_limits(source: io::Error) -> Result<Error, io::Error> {
    match source.raw_os_error() {
        Some(libc::EMFILE) => Ok(Error::TooManyFiles { limit: sys::nofile_limit() }),
        Some(libc::ENFILE) => Ok(Error::TooManyFilesInSystem { limit: proc_number("fs/file-max") }),
        _ => Err(source),
    }
}

/// A number in /proc/sys.
pub(super) fn proc_number(name: &str) -> Option<i64> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Software;

    #[test]
    fn paranoid_levels() {
        let builder = EventBuilder::software(Software::PageFaults);
        assert_eq!(builder.allowed_at(Target::CallingThread), 1);
        assert_eq!(builder.allowed_at(Target::Cpu { cpu: 0 }), 0);
        assert_eq!(builder.exclude_kernel(true).allowed_at(Target::CallingThread), 2);
        let user = || EventBuilder::software(Software::PageFaults).exclude_kernel(true);
        let branches = |levels| user().sample_type(SampleType::BRANCH_STACK).branch_sample_type(levels);
        assert_eq!(branches(BranchSampleType::USER).allowed_at(Target::CallingThread), 2);
        assert_eq!(branches(BranchSampleType::KERNEL).allowed_at(Target::CallingThread), 1);
        let raw = EventBuilder::new(bindings::PERF_TYPE_TRACEPOINT, 1).sample_type(SampleType::RAW);
        assert_eq!(raw.allowed_at(Target::CallingThread), -1);
    }

    #[test]
    fn each_errno_has_its_variant() {
        let error = |errno, target| {
            EventBuilder::software(Software::PageFaults).open_error(
                target,
                None,
                64,
                io::Error::from_raw_os_error(errno),
            )
        };
        let thread = Target::CallingThread;
        assert!(matches!(error(libc::EACCES, thread), Error::Permission { allowed_at: 1, .. }));
        assert!(matches!(error(libc::EPERM, thread), Error::Permission { .. }));
        assert!(matches!(error(libc::EMFILE, thread), Error::TooManyFiles { limit: Some(_) }));
        assert!(matches!(error(libc::ENFILE, thread), Error::TooManyFilesInSystem { .. }));
        assert!(matches!(error(libc::ENOENT, thread), Error::UnsupportedEvent { .. }));
        assert!(matches!(error(libc::EOPNOTSUPP, thread), Error::UnsupportedEvent { .. }));
        assert!(matches!(error(libc::ENODEV, thread), Error::NoDevice { .. }));
        assert!(matches!(error(libc::ENODEV, Target::Cpu { cpu: 1 << 24 }), Error::NoSuchCpu { .. }));
        assert!(matches!(error(libc::ESRCH, Target::Task { pid: 5 }), Error::NoSuchTask { pid: 5 }));
        assert!(matches!(error(libc::ENOSYS, thread), Error::NoPerfEvents));
        assert!(matches!(error(libc::EINVAL, thread), Error::InvalidAttr { .. }));
        assert!(matches!(error(libc::EIO, thread), Error::Open { .. }));
        assert!(matches!(error(libc::E2BIG, thread), Error::AttrSize { known: 64, .. }));

        let mut builder = EventBuilder::new(77, 0);
        builder.set_probe(Probe::of_kernel(77, c"no_such_function"));
        let error = builder.open_error(thread, None, 64, io::Error::from_raw_os_error(libc::ENOENT));
        assert!(error.to_string().contains("no such symbol"), "{error}");
    }
}
