//! Describing an event: a builder over `perf_event_attr`.

use std::fmt;

use perf_event_open_sys::bindings::{self, perf_event_attr};

use crate::kernel::probe::Probe;
use crate::kernel::{
    BranchSampleType, CacheId, CacheOp, CacheResult, ClockId, Error, Hardware, ReadFormat, SampleType, Software,
    Tracepoint,
};

/// A description of an event: a builder over `perf_event_attr`.
///
/// Everything not set is zero, as in the uapi: the event counts but does not sample, starts enabled, and no side
/// records come along. The description is reusable: each `open` makes another event of it.
///
/// ```
/// use perfring::kernel::{EventBuilder, SampleType, Software};
///
/// let builder = EventBuilder::software(Software::CpuClock)
///     .sample_freq(99)
///     .sample_type(SampleType::IP | SampleType::TID)
///     .exclude_kernel(true);
/// assert_eq!(builder.attr().sample_type, 3);
/// assert_eq!(builder.attr().freq(), 1);
/// ```
#[derive(Clone)]
pub struct EventBuilder {
    pub(super) attr: perf_event_attr,
    /// What the attr was made for, and the type and configs for which that is still so.
    label: Option<(String, [u64; 4])>,
    /// What `config1` points to while a probe is being opened; and only then.
    probe: Option<Probe>,
    /// The CPUs that an event of the whole machine is opened on, if the PMU says so.
    pub(super) cpus: Option<Vec<u32>>,
}

/// The uapi declares bit fields, which compilers lay out from the other end on big-endian machines.
pub(super) const fn aux_action_bit(place: u32) -> u32 {
    1 << if cfg!(target_endian = "big") { 31 - place } else { place }
}

/// Methods that set one bit of the attr.
macro_rules! flags {
    ($($(#[$doc:meta])+ $name:ident, $set:ident;)+) => {
        $(
            $(#[$doc])+
            #[must_use]
            pub fn $name(mut self, on: bool) -> Self {
                self.attr.$set(on.into());
                self
            }
        )+
    };
}

impl EventBuilder {
    /// An event of the kernel itself.
    pub fn software(event: Software) -> Self {
        let mut builder = Self::new(bindings::PERF_TYPE_SOFTWARE, event.config());
        builder.set_label(format!("software event {}", event.name()));
        builder
    }

    /// An event of the CPU.
    pub fn hardware(event: Hardware) -> Self {
        let mut builder = Self::new(bindings::PERF_TYPE_HARDWARE, event.config());
        builder.set_label(format!("hardware event {}", event.name()));
        builder
    }

    /// Accesses of a cache.
    ///
    /// ```
    /// use perfring::kernel::{CacheId, CacheOp, CacheResult, EventBuilder};
    /// let misses = EventBuilder::cache(CacheId::Ll, CacheOp::Read, CacheResult::Miss);
    /// assert_eq!(misses.attr().config, 0x1_0002);
    /// ```
    pub fn cache(cache: CacheId, op: CacheOp, result: CacheResult) -> Self {
        let config = crate::kernel::cache::config(cache, op, result);
        let mut builder = Self::new(bindings::PERF_TYPE_HW_CACHE, config);
        builder.set_label(format!("cache event {} {} {}", cache.name(), op.name(), result.name()));
        builder
    }

    /// An event of the CPU by the number that its manual gives it, in the encoding of the CPU's PMU.
    pub fn raw(config: u64) -> Self {
        let mut builder = Self::new(bindings::PERF_TYPE_RAW, config);
        builder.set_label(format!("raw event {config:#x}"));
        builder
    }

    /// A tracepoint by its name, `subsystem:name`.
    ///
    /// Reading raw data (`SampleType::RAW`) needs `CAP_PERFMON` or a `perf_event_paranoid` of -1, with few exceptions.
    ///
    /// # Errors
    ///
    /// Those of [`Tracepoint::find`].
    pub fn tracepoint(name: &str) -> Result<Self, Error> {
        Tracepoint::find(name).map(|found| Self::from(&found))
    }

    /// An event by its `type` and `config`, for what has no constructor here.
    pub fn new(type_: u32, config: u64) -> Self {
        let attr = perf_event_attr { type_, size: size_of::<perf_event_attr>() as u32, config, ..Default::default() };
        Self { attr, label: None, probe: None, cpus: None }
    }

    /// An event by the attribute itself.
    pub fn from_attr(attr: perf_event_attr) -> Self {
        Self { attr, label: None, probe: None, cpus: None }
    }

    pub(super) fn set_label(&mut self, text: String) {
        self.label = Some((text, self.source()));
    }

    /// What chooses the source of the event.
    fn source(&self) -> [u64; 4] {
        [self.attr.type_.into(), self.attr.config, self.attr.config1, self.attr.config2]
    }

    pub(super) fn set_probe(&mut self, probe: Probe) {
        self.probe = Some(probe);
    }

    /// The probe that this describes, unless its type was changed since.
    pub(super) fn probe(&self) -> Option<&Probe> {
        self.probe.as_ref().filter(|probe| probe.type_ == self.attr.type_)
    }

    /// The description so far.
    pub fn attr(&self) -> &perf_event_attr {
        &self.attr
    }

    /// The description itself, for what has no method here.
    ///
    /// `size` may be made smaller, down to 64, to speak an older ABI; a larger one is refused, and one that leaves out a
    /// field that is set. The `config1` of a probe
    /// is set when it is opened, whatever it is here.
    ///
    /// ```
    /// use perfring::kernel::{EventBuilder, Software};
    /// let mut builder = EventBuilder::software(Software::Dummy);
    /// builder.attr_mut().config2 = 1;
    /// assert_eq!(builder.attr().config2, 1);
    /// ```
    pub fn attr_mut(&mut self) -> &mut perf_event_attr {
        &mut self.attr
    }

    /// Take a sample each `period` events (nanoseconds for clocks); 0: never.
    #[must_use]
    pub fn sample_period(mut self, period: u64) -> Self {
        self.attr.sample_period = period;
        self.attr.set_freq(0);
        self
    }

    /// Take about `freq` samples a second: the kernel adjusts the period. At most
    /// `/proc/sys/kernel/perf_event_max_sample_rate`.
    #[must_use]
    pub fn sample_freq(mut self, freq: u64) -> Self {
        self.attr.sample_freq = freq;
        self.attr.set_freq(1);
        self
    }

    /// What each sample holds; with [`sample_id_all`](Self::sample_id_all), parts of it end the other records as well.
    #[must_use]
    pub fn sample_type(mut self, what: SampleType) -> Self {
        self.attr.sample_type = what.bits();
        self
    }

    /// Bytes of the user stack in each sample with `STACK_USER`: a multiple of 8, less than 65536.
    #[must_use]
    pub fn sample_stack_user(mut self, bytes: u32) -> Self {
        self.attr.sample_stack_user = bytes;
        self
    }

    /// The user registers in each sample with `REGS_USER`: bits as in the architecture's `asm/perf_regs.h`.
    #[must_use]
    pub fn sample_regs_user(mut self, mask: u64) -> Self {
        self.attr.sample_regs_user = mask;
        self
    }

    /// The registers at the interrupt in each sample with `REGS_INTR`: bits as in the architecture's `asm/perf_regs.h`.
    #[must_use]
    pub fn sample_regs_intr(mut self, mask: u64) -> Self {
        self.attr.sample_regs_intr = mask;
        self
    }

    /// The most frames that a call chain holds; 0 means `/proc/sys/kernel/perf_event_max_stack`, which is the limit.
    #[must_use]
    pub fn sample_max_stack(mut self, frames: u16) -> Self {
        self.attr.sample_max_stack = frames;
        self
    }

    /// Which branches the branch stack of samples with `BRANCH_STACK` holds.
    #[must_use]
    pub fn branch_sample_type(mut self, what: BranchSampleType) -> Self {
        self.attr.branch_sample_type = what.bits();
        self
    }

    /// What [reading](crate::kernel::Event::read) the event gives.
    #[must_use]
    pub fn read_format(mut self, what: ReadFormat) -> Self {
        self.attr.read_format = what.bits();
        self
    }

    /// How near the instruction pointer of a sample is to what caused it: 0 any distance, 1 the same one always, 2 none
    /// if possible, 3 none. Larger numbers mean 3. What the hardware cannot do is refused.
    #[must_use]
    pub fn precise_ip(mut self, level: u8) -> Self {
        self.attr.set_precise_ip(level.min(3).into());
        self
    }

    /// Wake the reader of the AUX area after this many bytes; 0 means half of it.
    #[must_use]
    pub fn aux_watermark(mut self, bytes: u32) -> Self {
        self.attr.aux_watermark = bytes;
        self
    }

    /// The most bytes of the AUX area in each sample with `AUX`.
    #[must_use]
    pub fn aux_sample_size(mut self, bytes: u32) -> Self {
        self.attr.aux_sample_size = bytes;
        self
    }

    /// Start with the AUX area paused, for an event that writes one.
    #[must_use]
    pub fn aux_start_paused(self, on: bool) -> Self {
        self.aux_action(0, on)
    }

    /// Pause the AUX area of the group's leader when this event overflows.
    #[must_use]
    pub fn aux_pause(self, on: bool) -> Self {
        self.aux_action(1, on)
    }

    /// Resume the AUX area of the group's leader when this event overflows.
    #[must_use]
    pub fn aux_resume(self, on: bool) -> Self {
        self.aux_action(2, on)
    }

    fn aux_action(mut self, place: u32, on: bool) -> Self {
        let bit = aux_action_bit(place);
        let others = self.attr.aux_action & !bit;
        self.attr.aux_action = if on { others | bit } else { others };
        self
    }

    /// What `si_perf_data` of the `SIGTRAP` that [`sigtrap`](Self::sigtrap) sends says.
    #[must_use]
    pub fn sig_data(mut self, data: u64) -> Self {
        self.attr.sig_data = data;
        self
    }

    /// The first extension of `config`, as the PMU defines it. Of a probe it is set when it is opened.
    #[must_use]
    pub fn config1(mut self, config: u64) -> Self {
        self.attr.config1 = config;
        self
    }

    /// The second extension of `config`, as the PMU defines it.
    #[must_use]
    pub fn config2(mut self, config: u64) -> Self {
        self.attr.config2 = config;
        self
    }

    /// The third extension of `config`, as the PMU defines it.
    #[must_use]
    pub fn config3(mut self, config: u64) -> Self {
        self.attr.config3 = config;
        self
    }

    /// The fourth extension of `config`, as the PMU defines it.
    #[must_use]
    pub fn config4(mut self, config: u64) -> Self {
        self.attr.config4 = config;
        self
    }

    /// Wake the reader after `n` samples. Other records do not count; 0 means every half ring.
    ///
    /// Unsets [`wakeup_watermark`](Self::wakeup_watermark).
    #[must_use]
    pub fn wakeup_events(mut self, n: u32) -> Self {
        self.attr.wakeup_events = n;
        self.attr.set_watermark(0);
        self
    }

    /// Wake the reader after `bytes` bytes of records of any kind; the kernel takes at most half the ring, also for 0.
    ///
    /// Sets the flag `watermark`, and unsets [`wakeup_events`](Self::wakeup_events).
    #[must_use]
    pub fn wakeup_watermark(mut self, bytes: u32) -> Self {
        self.attr.wakeup_watermark = bytes;
        self.attr.set_watermark(1);
        self
    }

    /// Take times from this clock (`use_clockid`) rather than from the kernel's own trace clock.
    #[must_use]
    pub fn clockid(mut self, clock: ClockId) -> Self {
        self.attr.clockid = clock.id();
        self.attr.set_use_clockid(1);
        self
    }

    flags! {
        /// Start switched off, until [`Event::enable`](crate::kernel::Event::enable) or `enable_on_exec`.
        disabled, set_disabled;
        /// Count in children that the task makes from now on, too.
        ///
        /// Such an event can be mapped only if it is bound to a CPU: [`open_task_on_cpus`](Self::open_task_on_cpus).
        inherit, set_inherit;
        /// Do not count while in user space.
        exclude_user, set_exclude_user;
        /// Do not count while in the kernel. Without privileges, this is required where `perf_event_paranoid` is 2.
        exclude_kernel, set_exclude_kernel;
        /// Do not count while in the hypervisor.
        exclude_hv, set_exclude_hv;
        /// Report executable mappings (`PERF_RECORD_MMAP`).
        mmap, set_mmap;
        /// Report executable mappings with device, inode and protection (`PERF_RECORD_MMAP2` instead of
        /// `PERF_RECORD_MMAP`).
        mmap2, set_mmap2;
        /// Report mappings that are not executable, too.
        mmap_data, set_mmap_data;
        /// Report changes of a task's name (`PERF_RECORD_COMM`).
        comm, set_comm;
        /// Mark, in the misc field of `PERF_RECORD_COMM`, those that come from an exec.
        comm_exec, set_comm_exec;
        /// Report forks and exits (`PERF_RECORD_FORK`, `PERF_RECORD_EXIT`); `comm` and the `mmap` flags do so, too.
        task, set_task;
        /// End the records that are no samples with those of `TID`, `TIME`, `ID`, `STREAM_ID`, `CPU` and `IDENTIFIER`
        /// that are in the sample type.
        sample_id_all, set_sample_id_all;
        /// Switch on when the task executes a program; meant for events that start `disabled`.
        enable_on_exec, set_enable_on_exec;
        /// Report context switches (`PERF_RECORD_SWITCH`, or `PERF_RECORD_SWITCH_CPU_WIDE` on a CPU).
        context_switch, set_context_switch;
        /// Write from the end of the ring to its start, overwriting the oldest records: [`Event::mmap`](crate::kernel::Event::mmap) maps such a
        /// ring read-only.
        write_backward, set_write_backward;
        /// Keep the event on the hardware at all times, or put it into an error state when that is impossible. For
        /// leaders of groups only.
        pinned, set_pinned;
        /// Let no other group share the hardware. For leaders of groups only.
        exclusive, set_exclusive;
        /// Do not count while the CPU is idle.
        exclude_idle, set_exclude_idle;
        /// Do not count in the host of virtual machines.
        exclude_host, set_exclude_host;
        /// Do not count in guests.
        exclude_guest, set_exclude_guest;
        /// Leave the kernel's part out of call chains.
        exclude_callchain_kernel, set_exclude_callchain_kernel;
        /// Leave the user's part out of call chains.
        exclude_callchain_user, set_exclude_callchain_user;
        /// Read `sample_period` as a frequency; [`sample_freq`](Self::sample_freq) sets this.
        freq, set_freq;
        /// With `inherit`: keep counts by task and report them when a task ends (`PERF_RECORD_READ`).
        inherit_stat, set_inherit_stat;
        /// With `inherit`: only threads of the task, not children that are processes.
        inherit_thread, set_inherit_thread;
        /// Close the event when the task executes a program.
        remove_on_exec, set_remove_on_exec;
        /// Send the task `SIGTRAP` at each overflow, at once. Needs [`remove_on_exec`](Self::remove_on_exec).
        sigtrap, set_sigtrap;
        /// Wake by bytes rather than samples; [`wakeup_watermark`](Self::wakeup_watermark) sets this.
        watermark, set_watermark;
        /// Take times from `clockid`; [`clockid`](Self::clockid) sets this.
        use_clockid, set_use_clockid;
        /// Report namespaces of new tasks (`PERF_RECORD_NAMESPACES`). Needs `CAP_PERFMON`.
        namespaces, set_namespaces;
        /// Report symbols that the kernel gains and loses (`PERF_RECORD_KSYMBOL`).
        ksymbol, set_ksymbol;
        /// Report BPF programs that come and go (`PERF_RECORD_BPF_EVENT`).
        bpf_event, set_bpf_event;
        /// Write to the AUX area of the group's leader instead of the ring.
        aux_output, set_aux_output;
        /// Report cgroups that are made (`PERF_RECORD_CGROUP`).
        cgroup, set_cgroup;
        /// Report changes of the kernel's code (`PERF_RECORD_TEXT_POKE`).
        text_poke, set_text_poke;
        /// Give the build id instead of device and inode in `PERF_RECORD_MMAP2`.
        build_id, set_build_id;
        /// Ask for call chains of user space on the way back to it (`PERF_RECORD_CALLCHAIN_DEFERRED`), not in the
        /// sample. Needs Linux 6.19.
        defer_callchain, set_defer_callchain;
        /// Take part in the output of deferred call chains that another event asks for. Needs Linux 6.19.
        defer_output, set_defer_output;
    }

    /// What the event is, for messages.
    pub(super) fn describe(&self) -> String {
        match &self.label {
            Some((text, source)) if self.source() == *source => text.clone(),
            _ => format!("event of type {} with config {:#x}", self.attr.type_, self.attr.config),
        }
    }
}

impl From<&Tracepoint> for EventBuilder {
    fn from(tracepoint: &Tracepoint) -> Self {
        let mut builder = Self::new(bindings::PERF_TYPE_TRACEPOINT, tracepoint.id());
        builder.set_label(format!("tracepoint {tracepoint}"));
        builder
    }
}

impl fmt::Debug for EventBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBuilder").field("event", &self.describe()).field("attr", &self.attr).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sys;

    #[test]
    fn methods_set_the_attr() {
        let builder = EventBuilder::software(Software::PageFaults)
            .sample_freq(99)
            .sample_period(7)
            .wakeup_events(3)
            .clockid(ClockId::Monotonic)
            .disabled(true)
            .exclude_kernel(true)
            .exclude_kernel(false)
            .exclude_hv(true);
        let attr = builder.attr();
        assert_eq!((attr.type_, attr.config, attr.size as usize), (1, 2, size_of::<perf_event_attr>()));
        assert_eq!((attr.sample_period, attr.freq()), (7, 0));
        assert_eq!((attr.wakeup_events, attr.watermark()), (3, 0));
        assert_eq!((attr.use_clockid(), attr.clockid), (1, libc::CLOCK_MONOTONIC));
        assert_eq!((attr.disabled(), attr.exclude_kernel(), attr.exclude_hv()), (1, 0, 1));
        let builder = builder.wakeup_watermark(4096).sample_freq(99);
        assert_eq!((builder.attr().wakeup_watermark, builder.attr().watermark()), (4096, 1));
        assert_eq!((builder.attr().sample_freq, builder.attr().freq()), (99, 1));
    }

    #[test]
    fn bytes_are_those_of_the_attr() {
        let builder = EventBuilder::new(0x0102_0304, 0x1112_1314_1516_1718).disabled(true);
        let bytes = sys::attr_bytes(builder.attr());
        assert_eq!(bytes.len(), size_of::<perf_event_attr>());
        assert_eq!(bytes[..4], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(bytes[4..8], (bytes.len() as u32).to_ne_bytes());
        assert_eq!(bytes[8..16], 0x1112_1314_1516_1718_u64.to_ne_bytes());
        let mut damaged = *builder.attr();
        damaged.size = u32::MAX;
        assert_eq!(sys::attr_bytes(&damaged).len(), bytes.len());
        damaged.size = 64;
        assert_eq!(sys::attr_bytes(&damaged).len(), 64);
        damaged.size = 0;
        assert_eq!(sys::attr_bytes(&damaged).len(), 64);
    }

    #[test]
    fn a_label_does_not_outlive_what_it_names() {
        let mut builder = EventBuilder::software(Software::Dummy);
        assert_eq!(builder.describe(), "software event dummy");
        builder.attr_mut().config = 0x99;
        assert_eq!(builder.describe(), "event of type 1 with config 0x99");
    }
}
