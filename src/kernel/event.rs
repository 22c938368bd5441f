//! Open events: mapping, switching, reading, waiting.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use perf_event_open_sys::bindings::perf_event_attr;

use crate::kernel::mmap::{MapError, PerfFd};
use crate::kernel::open::{error_from_limits, proc_number};
use crate::kernel::{Count, Error, EventBuilder, GroupCount, ReadFormat, Target, count, sys};
use crate::ring::{Consumer, Wait};

/// An open event: a file descriptor of perf_event_open(2), closed on exec and on drop.
///
/// A [`Consumer`] made from it has a descriptor of its own and outlives it; the event goes on as long as either is
/// there.
pub struct Event {
    pub(super) fd: PerfFd,
    attr: perf_event_attr,
    pub(super) name: String,
    target: Target,
}

impl Event {
    pub(super) fn new(fd: PerfFd, attr: perf_event_attr, name: String, target: Target) -> Self {
        Self { fd, attr, name, target }
    }

    /// Maps a ring of `pages` data pages, a power of two, and a header page.
    ///
    /// With `write_backward` the ring is mapped read-only and the kernel overwrites the oldest records; pause the
    /// output ([`pause_output`](Self::pause_output)) while reading. Without, records that find no space are lost, and
    /// counted.
    ///
    /// An event is mapped once in its life.
    ///
    /// # Errors
    ///
    /// [`Error::Pages`], [`Error::AlreadyMapped`], [`Error::HeaderMapped`], [`Error::Redirected`], [`Error::MapInherited`],
    /// [`Error::MlockLimit`], [`Error::TooManyFiles`], [`Error::Map`], [`Error::Attach`].
    pub fn mmap(&mut self, pages: usize) -> Result<Consumer, Error> {
        let page_size = sys::page_size();
        let len = pages
            .checked_add(1)
            .and_then(|pages| pages.checked_mul(page_size))
            .filter(|&len| pages.is_power_of_two() && isize::try_from(len).is_ok())
            .ok_or(Error::Pages { pages })?;
        self.check_mappable()?;
        self.fd.consumer(len).map_err(|error| map_error(pages, page_size, error))
    }

    /// Whether the kernel maps such an event.
    pub(super) fn check_mappable(&self) -> Result<(), Error> {
        match self.attr.inherit() == 1 && self.target.cpu().is_none() {
            true => Err(Error::MapInherited),
            false => Ok(()),
        }
    }

    /// Switches the event on (`PERF_EVENT_IOC_ENABLE`).
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn enable(&self) -> Result<(), Error> {
        sys::enable(self.fd.as_fd(), false).map_err(|source| self.ioctl_error("PERF_EVENT_IOC_ENABLE", source))
    }

    /// Switches the event off (`PERF_EVENT_IOC_DISABLE`). Samples stop; the side records (`comm`, `mmap`...) stop too.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn disable(&self) -> Result<(), Error> {
        sys::disable(self.fd.as_fd(), false).map_err(|source| self.ioctl_error("PERF_EVENT_IOC_DISABLE", source))
    }

    /// Stops writing to the ring (`PERF_EVENT_IOC_PAUSE_OUTPUT`), so that a backward ring can be read. What would have
    /// been written is lost, and counts as such.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`], also when the event is not mapped.
    pub fn pause_output(&self) -> Result<(), Error> {
        sys::pause_output(self.fd.as_fd(), true)
            .map_err(|source| self.ioctl_error("PERF_EVENT_IOC_PAUSE_OUTPUT", source))
    }

    /// Goes on writing to the ring after [`pause_output`](Self::pause_output).
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`], also when the event is not mapped.
    pub fn resume_output(&self) -> Result<(), Error> {
        sys::pause_output(self.fd.as_fd(), false)
            .map_err(|source| self.ioctl_error("PERF_EVENT_IOC_PAUSE_OUTPUT", source))
    }

    /// Sets the value to 0 (`PERF_EVENT_IOC_RESET`); the times go on.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn reset(&self) -> Result<(), Error> {
        sys::reset(self.fd.as_fd(), false).map_err(|source| self.ioctl_error("PERF_EVENT_IOC_RESET", source))
    }

    /// Switches the event on for `overflows` more samples, after which it is off (`PERF_EVENT_IOC_REFRESH`). Adds to
    /// what is left of an earlier call. (On Linux 6.18 a breakpoint that stopped so goes on only
    /// after [`set_period`](Self::set_period).)
    ///
    /// # Errors
    ///
    /// [`Error::RefreshCount`], [`Error::NotSampling`], [`Error::RefreshInherited`], [`Error::Ioctl`].
    pub fn refresh(&self, overflows: u32) -> Result<(), Error> {
        let request = "PERF_EVENT_IOC_REFRESH";
        let count =
            libc::c_int::try_from(overflows).ok().filter(|&n| n > 0).ok_or(Error::RefreshCount { overflows })?;
        self.must_sample(request)?;
        if self.attr.inherit() == 1 {
            return Err(Error::RefreshInherited);
        }
        sys::refresh(self.fd.as_fd(), count).map_err(|source| self.ioctl_error(request, source))
    }

    /// Changes the period between samples, or, of an event with `freq`, their number a second
    /// (`PERF_EVENT_IOC_PERIOD`). It is in force at once, for inherited events too.
    ///
    /// # Errors
    ///
    /// [`Error::Period`], [`Error::NotSampling`], [`Error::SampleFreq`], [`Error::Ioctl`].
    pub fn set_period(&self, period: u64) -> Result<(), Error> {
        let request = "PERF_EVENT_IOC_PERIOD";
        self.must_sample(request)?;
        if period == 0 || (self.attr.freq() == 0 && period >> 63 != 0) {
            return Err(Error::Period { period });
        }
        sys::set_period(self.fd.as_fd(), period).map_err(|source| {
            match proc_number("kernel/perf_event_max_sample_rate").and_then(|max| u64::try_from(max).ok()) {
                Some(max) if self.attr.freq() == 1 && period > max => Error::SampleFreq { freq: period, max },
                _ => self.ioctl_error(request, source),
            }
        })
    }

    fn must_sample(&self, request: &'static str) -> Result<(), Error> {
        if self.attr.sample_period == 0 {
            return Err(Error::NotSampling { request, event: self.name.clone() });
        }
        Ok(())
    }

    /// Writes the records of this event into the ring of `output` from now on (`PERF_EVENT_IOC_SET_OUTPUT`).
    ///
    /// Both observe the same CPU, or the same task on all CPUs, by the same clock; this one was never mapped, and cannot
    /// be while it is redirected; `output` is mapped, or redirected itself. Wait on the event that is mapped. When the
    /// consumer of the ring is dropped,
    /// the records of both are lost. With [`SampleType::IDENTIFIER`](crate::kernel::SampleType::IDENTIFIER) the records
    /// tell whose they are.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyMapped`], [`Error::OutputNotMapped`], [`Error::OutputCpu`], [`Error::OutputTask`],
    /// [`Error::OutputClock`], [`Error::OutputDirection`], [`Error::OutputInherited`], [`Error::OutputGone`],
    /// [`Error::Ioctl`].
    pub fn set_output(&mut self, output: &Event) -> Result<(), Error> {
        if !output.fd.is_mapped() && !output.fd.is_redirected() {
            return Err(Error::OutputNotMapped);
        }
        self.fd.set_output(Some(&output.fd)).map_err(|error| match error {
            MapError::System(source) if source.raw_os_error() == Some(libc::EINVAL) => self.output_error(output),
            error => self.redirect_error(error),
        })
    }

    /// Undoes [`set_output`](Self::set_output): the event has no ring then, and may be mapped.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyMapped`], [`Error::Ioctl`].
    pub fn unset_output(&mut self) -> Result<(), Error> {
        self.fd.set_output(None).map_err(|error| self.redirect_error(error))
    }

    fn redirect_error(&self, error: MapError) -> Error {
        match error {
            MapError::AlreadyMapped => Error::AlreadyMapped,
            MapError::HeaderMapped => Error::HeaderMapped,
            MapError::Redirected => Error::Redirected,
            MapError::Spread => Error::OutputInherited,
            MapError::Attach(error) => Error::Attach(error),
            MapError::System(source) => self.ioctl_error("PERF_EVENT_IOC_SET_OUTPUT", source),
        }
    }

    /// Why the outputs cannot be joined.
    fn output_error(&self, output: &Event) -> Error {
        let clock = |attr: &perf_event_attr| (attr.use_clockid() == 1).then_some(attr.clockid);
        if self.attr.write_backward() != output.attr.write_backward() {
            Error::OutputDirection
        } else if clock(&self.attr) != clock(&output.attr) {
            Error::OutputClock
        } else if self.target.cpu() != output.target.cpu() {
            Error::OutputCpu { cpu: self.target.cpu(), output: output.target.cpu() }
        } else if self.target.cpu().is_none() && self.target != output.target {
            Error::OutputTask { target: self.target, output: output.target }
        } else {
            Error::OutputGone
        }
    }

    /// Lets only samples through that match (`PERF_EVENT_IOC_SET_FILTER`).
    ///
    /// Of a tracepoint this is an expression over its [fields](crate::kernel::Tracepoint::format), as in
    /// `prev_pid == 0 && next_comm ~ "sh*"`; of a PMU that traces instructions, address ranges as perf_event_open(2)
    /// describes them. What is filtered out does not count either. A tracepoint's event takes one filter in its life.
    ///
    /// # Errors
    ///
    /// [`Error::Filter`] when the expression is wrong, or the event takes none; [`Error::FilterSet`].
    pub fn set_filter(&self, filter: &str) -> Result<(), Error> {
        let failed = |source: io::Error| match source.raw_os_error() {
            Some(libc::EEXIST) => Error::FilterSet { event: self.name.clone() },
            _ => Error::Filter { filter: filter.to_owned(), event: self.name.clone(), source },
        };
        let text = CString::new(filter).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        sys::set_filter(self.fd.as_fd(), &text).map_err(failed)
    }

    /// Runs a BPF program at each overflow, or each hit of a tracepoint or probe (`PERF_EVENT_IOC_SET_BPF`).
    ///
    /// A program that returns 0 suppresses the sample. The kernel keeps the program as long as the event.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`], as when the program is of a type that does not go with the event.
    pub fn set_bpf(&self, program: impl AsFd) -> Result<(), Error> {
        sys::set_bpf(self.fd.as_fd(), program.as_fd())
            .map_err(|source| self.ioctl_error("PERF_EVENT_IOC_SET_BPF", source))
    }

    /// The ids of the BPF programs on the event's tracepoint, of whichever event they were set
    /// (`PERF_EVENT_IOC_QUERY_BPF`). Needs `CAP_PERFMON`.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`], also when the event is no tracepoint.
    pub fn query_bpf(&self) -> Result<Vec<u32>, Error> {
        // As many as a tracepoint can have; the kernel refuses to be asked for more.
        sys::query_bpf(self.fd.as_fd(), 64).map_err(|source| self.ioctl_error("PERF_EVENT_IOC_QUERY_BPF", source))
    }

    /// Changes what the event watches (`PERF_EVENT_IOC_MODIFY_ATTRIBUTES`): the kernel can do that for address, length
    /// and access of breakpoints. All else must be as it was, or as [`set_period`](Self::set_period) has changed it.
    ///
    /// Whether the event is on afterwards, the kernel takes from the attribute, not from how it was: it is off if the
    /// builder says `disabled`, and else on. After a refusal it is off if it was opened `disabled`.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn modify_attributes(&mut self, builder: &EventBuilder) -> Result<(), Error> {
        let mut attr = *builder.attr();
        sys::modify_attributes(self.fd.as_fd(), &mut attr)
            .map_err(|source| self.ioctl_error("PERF_EVENT_IOC_MODIFY_ATTRIBUTES", source))?;
        self.attr = attr;
        self.name = builder.describe();
        Ok(())
    }

    /// The value, and what else the event's `read_format` asks for.
    ///
    /// Of an event with `GROUP` in it, which reads its whole group, this picks the event's own.
    ///
    /// # Errors
    ///
    /// [`Error::ReadEnded`], [`Error::ReadLength`], [`Error::ReadFormat`], [`Error::ReadEvent`], and with `GROUP`
    /// [`Error::ReadWhich`].
    ///
    /// ```no_run
    /// use perfring::kernel::{EventBuilder, ReadFormat, Software, Target};
    ///
    /// # fn main() -> Result<(), perfring::kernel::Error> {
    /// let faults = EventBuilder::software(Software::PageFaults)
    ///     .exclude_kernel(true)
    ///     .read_format(ReadFormat::TOTAL_TIME_ENABLED | ReadFormat::TOTAL_TIME_RUNNING)
    ///     .open(Target::CallingThread)?;
    /// let count = faults.read()?;
    /// println!("{} faults, scaled {:?}", count.value, count.scaled());
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(&self) -> Result<Count, Error> {
        let format = self.read_format();
        let mut counts = self.read_all()?.counts;
        if counts.len() > 1 {
            if !format.contains(ReadFormat::ID) {
                return Err(Error::ReadWhich { event: self.name.clone(), events: counts.len() });
            }
            let id = self.id()?;
            counts.retain(|count| count.id == Some(id));
        }
        counts.pop().ok_or(Error::ReadLength { bytes: 0, format })
    }

    pub(super) fn read_format(&self) -> ReadFormat {
        ReadFormat::from_bits_retain(self.attr.read_format)
    }

    /// All that one read gives.
    pub(super) fn read_all(&self) -> Result<GroupCount, Error> {
        let mut few = [0; 32];
        match sys::read(self.fd.as_fd(), &mut few) {
            Ok(bytes) => self.parse_read(&few, bytes),
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                // The kernel makes no group whose values take more than 16 KiB.
                let mut many = vec![0; (16 << 10) / size_of::<u64>()];
                match sys::read(self.fd.as_fd(), &mut many) {
                    Ok(bytes) => self.parse_read(&many, bytes),
                    Err(source) => Err(Error::ReadEvent { event: self.name.clone(), source }),
                }
            }
            Err(source) => Err(Error::ReadEvent { event: self.name.clone(), source }),
        }
    }

    fn parse_read(&self, words: &[u64], bytes: usize) -> Result<GroupCount, Error> {
        if bytes == 0 {
            return Err(Error::ReadEnded { event: self.name.clone() });
        }
        let words = words.get(..bytes / size_of::<u64>()).filter(|_| bytes.is_multiple_of(size_of::<u64>()));
        let format = self.read_format();
        words.ok_or(Error::ReadLength { bytes, format }).and_then(|words| count::parse(format, words))
    }

    /// The event's id (`PERF_EVENT_IOC_ID`): what `IDENTIFIER`, `ID` and `STREAM_ID` in its records say.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn id(&self) -> Result<u64, Error> {
        sys::id(self.fd.as_fd()).map_err(|source| self.ioctl_error("PERF_EVENT_IOC_ID", source))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn ioctl_error(&self, request: &'static str, source: io::Error) -> Error {
        Error::Ioctl { request, event: self.name.clone(), source }
    }

    /// The attribute with which the event was opened.
    pub fn attr(&self) -> &perf_event_attr {
        &self.attr
    }

    /// The attribute as the kernel read it: `attr().size` bytes in this machine's byte order. Of a probe, `config1` is
    /// 0: the address of its path meant something during the opening only.
    pub fn attr_bytes(&self) -> &[u8] {
        sys::attr_bytes(&self.attr)
    }

    /// What the event observes.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Waits until the kernel wakes the reader, the task has ended, or the timeout has passed; without one, for ever.
    ///
    /// A wake-up is reported once, to whoever polls first: to this, to [`poll`], or to the consumer's own wait. It says
    /// that a watermark was crossed, so always drain again before waiting, and drain once more after `Closed`.
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`], [`Error::Poll`].
    pub fn poll(&self, timeout: Option<Duration>) -> Result<Wait, Error> {
        poll(std::slice::from_ref(self), timeout)
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}

impl From<Event> for OwnedFd {
    fn from(event: Event) -> Self {
        event.fd.into()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("fd", &self.fd)
            .field("name", &self.name)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// The cause behind a mapping that failed.
pub(super) fn map_error(pages: usize, page_size: usize, error: MapError) -> Error {
    match error {
        MapError::AlreadyMapped => Error::AlreadyMapped,
        MapError::HeaderMapped => Error::HeaderMapped,
        MapError::Redirected => Error::Redirected,
        MapError::Spread => Error::MapInherited,
        MapError::Attach(error) => Error::Attach(error),
        MapError::System(source) => match error_from_limits(source) {
            Ok(error) => error,
            Err(source) if source.raw_os_error() == Some(libc::EPERM) => Error::MlockLimit {
                pages,
                page_size,
                mlock_kb: proc_number("kernel/perf_event_mlock_kb"),
                memlock: sys::memlock_limit(),
                source,
            },
            Err(source) => Error::Map { pages, source },
        },
    }
}

/// Waits until the kernel wakes the reader of any of these events, all their tasks have ended, or the timeout has
/// passed; without one, for ever. See [`Event::poll`]. Of no events at all, all have ended.
///
/// # Errors
///
/// [`Error::NotMapped`] if one of them has no ring, [`Error::Poll`].
pub fn poll(events: &[Event], timeout: Option<Duration>) -> Result<Wait, Error> {
    if events.iter().any(|event| !event.fd.is_mapped()) {
        return Err(Error::NotMapped);
    }
    if events.is_empty() {
        return Ok(Wait::Closed);
    }
    let mut fds: Vec<_> =
        events.iter().map(|event| libc::pollfd { fd: event.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    let deadline = timeout.and_then(|timeout| std::time::Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()));
        if sys::poll(&mut fds, left).map_err(Error::Poll)? == 0 {
            return Ok(Wait::TimedOut);
        }
        if fds.iter().any(|fd| fd.revents & libc::POLLIN != 0) {
            return Ok(Wait::Ready);
        }
        // The rest have hung up, and would say so for ever: do not ask them again.
        for fd in fds.iter_mut().filter(|fd| fd.revents != 0) {
            fd.fd = -1;
            fd.revents = 0;
        }
        if fds.iter().all(|fd| fd.fd < 0) {
            return Ok(Wait::Closed);
        }
    }
}
