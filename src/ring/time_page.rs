//! The part of a perf event's header page that its seqlock covers: times, the clock's conversion, the counter.
#![allow(unsafe_code)]

use super::layout::time;
use super::memory::{Backing, TimeWords};
use super::order::Site;
use crate::sync::fence_at;
use std::fmt;
use std::sync::Arc;
use std::thread::ThreadId;

bitflags::bitflags! {
    /// What the kernel grants to user space (`capabilities` of `struct perf_event_mmap_page`), each bit where it stands on
    /// little-endian machines.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct TimeCapabilities: u64 {
        /// Always set since Linux 3.12: the others mean what their names say. Where it is not set, none of the others is
        /// believed.
        const BIT0_IS_DEPRECATED = 1 << 1;
        /// The counter can be read with `rdpmc`.
        const USER_RDPMC = 1 << 2;
        /// `time_shift`, `time_mult` and `time_offset` are valid.
        const USER_TIME = 1 << 3;
        /// `time_zero` is valid: the hardware's clock and the times in records can be converted into each other.
        const USER_TIME_ZERO = 1 << 4;
        /// `time_cycles` and `time_mask` are valid: the hardware's clock has less than 64 bits.
        const USER_TIME_SHORT = 1 << 5;
        // A newer kernel may know more.
        const _ = !0;
    }
}

/// The fields of `struct perf_event_mmap_page` that its `lock` covers, under their uapi names; their meaning is that of the
/// header `linux/perf_event.h` and of perf_event_open(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TimeFields {
    /// The hardware counter's number and 1, 0 while the event is on none (software events never are).
    pub index: u32,
    /// What to add to the hardware counter's value to get the event's count; the count at the last update where `index`
    /// is 0.
    pub offset: i64,
    /// Nanoseconds that the event was enabled, up to the last update of the page.
    pub time_enabled: u64,
    /// Nanoseconds that the event was counting, up to the last update of the page.
    pub time_running: u64,
    /// What the kernel grants.
    pub capabilities: TimeCapabilities,
    /// Bits that the hardware counter has.
    pub pmc_width: u16,
    /// Bits by which a product of cycles and `time_mult` is shifted right to get nanoseconds.
    pub time_shift: u16,
    /// Nanoseconds a cycle, times 2 to the power of `time_shift`.
    pub time_mult: u32,
    /// Nanoseconds to add to converted cycles to get the time since the last update of the page.
    pub time_offset: u64,
    /// Nanoseconds to add to converted cycles to get the time that records have.
    pub time_zero: u64,
    /// Full cycles at some moment, for clocks of less than 64 bits.
    pub time_cycles: u64,
    /// The bits that such a clock has.
    pub time_mask: u64,
}

type Words = [u64; time::COUNT];

/// On big-endian machines C fills a bit-field from the top.
fn capability_bits(word: u64) -> u64 {
    if cfg!(target_endian = "big") { word.reverse_bits() } else { word }
}

impl TimeFields {
    fn from_words(index: u32, words: &Words) -> Self {
        let [a, b, c, d, mult @ ..] = words[time::WIDTHS].to_ne_bytes();
        let mut capabilities = TimeCapabilities::from_bits_retain(capability_bits(words[time::CAPABILITIES]));
        if !capabilities.contains(TimeCapabilities::BIT0_IS_DEPRECATED) {
            capabilities = TimeCapabilities::empty();
        }
        Self {
            index,
            offset: words[time::OFFSET].cast_signed(),
            time_enabled: words[time::TIME_ENABLED],
            time_running: words[time::TIME_RUNNING],
            capabilities,
            pmc_width: u16::from_ne_bytes([a, b]),
            time_shift: u16::from_ne_bytes([c, d]),
            time_mult: u32::from_ne_bytes(mult),
            time_offset: words[time::TIME_OFFSET],
            time_zero: words[time::TIME_ZERO],
            time_cycles: words[time::TIME_CYCLES],
            time_mask: words[time::TIME_MASK],
        }
    }

    fn to_words(self) -> Words {
        let mut words = [0; time::COUNT];
        words[time::OFFSET] = self.offset.cast_unsigned();
        words[time::TIME_ENABLED] = self.time_enabled;
        words[time::TIME_RUNNING] = self.time_running;
        words[time::CAPABILITIES] = capability_bits(self.capabilities.bits());
        let ([a, b], [c, d], [e, f, g, h]) =
            (self.pmc_width.to_ne_bytes(), self.time_shift.to_ne_bytes(), self.time_mult.to_ne_bytes());
        words[time::WIDTHS] = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        words[time::TIME_OFFSET] = self.time_offset;
        words[time::TIME_ZERO] = self.time_zero;
        words[time::TIME_CYCLES] = self.time_cycles;
        words[time::TIME_MASK] = self.time_mask;
        words
    }

    fn has(&self, what: TimeCapabilities) -> bool {
        self.capabilities.contains(what)
    }

    fn conversion(&self, zero: u64) -> Clock {
        let short = self.has(TimeCapabilities::USER_TIME_SHORT);
        Clock {
            shift: self.time_shift,
            mult: self.time_mult,
            zero,
            short: short.then_some(ShortClock { cycles: self.time_cycles, mask: self.time_mask }),
        }
    }

    /// The conversion between the hardware's clock and the times in records: `None` unless
    /// [`USER_TIME_ZERO`](TimeCapabilities::USER_TIME_ZERO) is granted.
    ///
    /// The kernel does not grant it for an event with a clock of its own (`use_clockid`), nor where its own clock is not the
    /// hardware's, as in many virtual machines.
    pub fn clock(&self) -> Option<Clock> {
        self.has(TimeCapabilities::USER_TIME_ZERO).then(|| self.conversion(self.time_zero))
    }

    /// Nanoseconds from the last update of the page until the hardware's clock said `cycles`: `None` unless
    /// [`USER_TIME`](TimeCapabilities::USER_TIME) is granted. (The uapi header calls it `delta`.)
    pub fn delta(&self, cycles: u64) -> Option<u64> {
        self.has(TimeCapabilities::USER_TIME).then(|| self.conversion(self.time_offset).ns(cycles))
    }
}

/// A hardware clock of less than 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShortClock {
    /// Full cycles at some moment (`time_cycles`).
    pub cycles: u64,
    /// The bits that the clock has (`time_mask`).
    pub mask: u64,
}

/// The conversion between a hardware's clock (x86: the time stamp counter) and nanoseconds, as the uapi header
/// `linux/perf_event.h` defines it. It changes when the kernel corrects its clock: take it anew now and then.
///
/// ```
/// use perfring::ring::Clock;
///
/// // 2.5 GHz: 0.4 ns a cycle.
/// let clock = Clock { shift: 31, mult: 858_993_459, zero: 1_000, short: None };
/// assert_eq!(clock.ns(0), 1_000);
/// assert_eq!(clock.ns(25_000), 1_000 + 9_999);
/// assert_eq!(clock.cycles(1_000 + 10_000), Some(25_000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clock {
    /// `time_shift`.
    pub shift: u16,
    /// `time_mult`.
    pub mult: u32,
    /// Nanoseconds at cycle 0: `time_zero`, which may lie before 0 and then has wrapped.
    pub zero: u64,
    /// Set where the hardware's clock has less than 64 bits.
    pub short: Option<ShortClock>,
}

impl Clock {
    /// The time at which the hardware's clock said `cycles`, in nanoseconds.
    ///
    /// As in the uapi header `zero + quot * mult + ((rem * mult) >> shift)`, without its intermediate overflows; the sum
    /// wraps as the kernel's does.
    #[inline]
    pub fn ns(&self, cycles: u64) -> u64 {
        let cycles = match self.short {
            Some(short) => short.cycles.wrapping_add(cycles.wrapping_sub(short.cycles) & short.mask),
            None => cycles,
        };
        let product = u128::from(cycles) * u128::from(self.mult);
        self.zero.wrapping_add(product.checked_shr(self.shift.into()).unwrap_or(0) as u64)
    }

    /// What the hardware's clock said at the time `ns`, in cycles, of which a short one has the lower bits:
    /// `None` when that is more than 64 bits, or `mult` is 0.
    ///
    /// As in the uapi header `(quot << shift) + (rem << shift) / mult`, without its intermediate overflows. It is exact but
    /// for the rounding down, so `clock.ns(cycles)` is at most `ns`.
    pub fn cycles(&self, ns: u64) -> Option<u64> {
        let time = u128::from(ns.wrapping_sub(self.zero));
        let shift = u32::from(self.shift);
        // What is shifted out is not there; 64 more bits always are.
        let shifted = match time {
            0 => 0,
            _ if shift <= 64 => time << shift,
            _ => return None,
        };
        let cycles = shifted.checked_div(u128::from(self.mult))?;
        u64::try_from(cycles).ok()
    }
}

/// The fields of the page at one moment, and what the hardware's registers said at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeSnapshot {
    /// The fields.
    pub fields: TimeFields,
    /// The time stamp counter: `None` unless [`USER_TIME`](TimeCapabilities::USER_TIME) is granted and the machine is an
    /// x86-64.
    pub cycles: Option<u64>,
    /// The hardware counter, its sign extended from `pmc_width` bits: `None` unless the kernel grants to read it, the event
    /// is on a counter now, belongs to the reading thread, and the machine is an x86-64.
    pub counter: Option<i64>,
}

impl TimeSnapshot {
    /// The event's count: `None` where the hardware counter could not be read. (What `fields.offset` holds then is the
    /// count at the page's last update, which for a software event may be long ago.)
    pub fn count(&self) -> Option<u64> {
        // Both wrap, as in the kernel.
        self.counter.map(|counter| self.fields.offset.wrapping_add(counter).cast_unsigned())
    }

    /// The time at which this snapshot was taken, in nanoseconds on the clock that records have by default: `None` unless
    /// [`USER_TIME_ZERO`](TimeCapabilities::USER_TIME_ZERO) is granted and the machine is an x86-64.
    pub fn time(&self) -> Option<u64> {
        Some(self.fields.clock()?.ns(self.cycles?))
    }

    /// Nanoseconds that an event that is enabled was so, up to this snapshot: `None` where
    /// [`USER_TIME`](TimeCapabilities::USER_TIME) is not granted. For one that is disabled `fields.time_enabled` is all.
    pub fn enabled_now(&self) -> Option<u64> {
        Some(self.fields.time_enabled.wrapping_add(self.fields.delta(self.cycles?)?))
    }

    /// As [`enabled_now`](Self::enabled_now), nanoseconds that it was counting. While the event is on no hardware counter
    /// (`index` is 0) this is `fields.time_running`.
    pub fn running_now(&self) -> Option<u64> {
        let delta = self.fields.delta(self.cycles?)?;
        let more = if self.fields.index == 0 { 0 } else { delta };
        Some(self.fields.time_running.wrapping_add(more))
    }

    /// The count that the event would have had if it had been counting as long as it was enabled: `None` where there is no
    /// [`count`](Self::count), it was never counting, or the result has more than 64 bits.
    pub fn scaled_count(&self) -> Option<u64> {
        let count = self.count()?;
        let (mut enabled, mut running) = (self.fields.time_enabled, self.fields.time_running);
        if enabled == running {
            return Some(count);
        }
        if let (Some(enabled_now), Some(running_now)) = (self.enabled_now(), self.running_now()) {
            (enabled, running) = (enabled_now, running_now);
        }
        let scaled = (u128::from(count) * u128::from(enabled)).checked_div(u128::from(running))?;
        u64::try_from(scaled).ok()
    }
}

/// Why a time page could not be read.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimePageError {
    /// The page was being written whenever it was looked at.
    #[error("the time page's lock is {lock}, held by its writer, after {tries} tries")]
    Locked {
        /// The odd `lock` found last.
        lock: u32,
        /// How often it was tried.
        tries: u32,
    },
    /// The page was written anew each time while it was read.
    #[error("the time page's lock went from {before} to {after} during the last of {tries} tries")]
    Changing {
        /// `lock` before the fields were read the last time.
        before: u32,
        /// `lock` after that.
        after: u32,
        /// How often it was tried.
        tries: u32,
    },
}

/// How often a read is tried. The kernel writes the page in less than a microsecond and is not preempted there, but the
/// CPU of a virtual machine may be: with the pauses between them these are some milliseconds.
const TRIES: u32 = if cfg!(perfring_loom) { 2 } else { 1 << 16 };

/// The mapped words, with what keeps them mapped behind them.
struct TimeMemory {
    words: TimeWords,
    _backing: Backing,
}

/// Reads the times, the clock's conversion and the counter of a perf event from its header page, without a system call.
///
/// The kernel orders its writes for the CPU that they are made on: what is read is exact for an event of the calling
/// thread. Of the events of others x86 shows a consistent page, too, which may be some time old.
pub struct TimePage {
    memory: Arc<TimeMemory>,
    /// The thread that may read the hardware counter, which is one of the CPU that the thread runs on.
    counter: Option<ThreadId>,
}

impl TimePage {
    /// The time page of a perf event's mapping.
    ///
    /// `thread` is the one that the event observes, on whichever CPU it runs; only there the hardware counter is read
    /// (`rdpmc`), because any other thread would read another counter. With `None` it never is.
    ///
    /// # Errors
    /// [`AttachError::TooShort`](super::AttachError::TooShort) when the mapping is shorter than a header page.
    ///
    /// # Safety
    /// `map` is a mapping, from offset 0, of a perf event of which `thread` says the truth, and its header page is accessed
    /// otherwise only atomically.
    #[cfg(not(perfring_loom))]
    pub unsafe fn from_kernel(
        map: impl Into<Arc<memmap2::MmapRaw>>,
        thread: Option<ThreadId>,
    ) -> Result<Self, super::AttachError> {
        let map = map.into();
        let len = map.len() as u64;
        // SAFETY: a perf event's mapping from offset 0, whose header page is accessed only atomically, by contract.
        let page = unsafe { super::memory::kernel_time_page(map) };
        let (words, backing) = page.ok_or(super::AttachError::TooShort { len })?;
        Ok(Self { memory: Arc::new(TimeMemory { words, _backing: backing }), counter: thread })
    }

    /// A time page in private memory that [`TimePageWriter`] writes, for tests and for programs that imitate the kernel.
    /// All its fields are 0.
    ///
    /// # Errors
    /// [`SetupError::Io`](super::SetupError::Io)
    ///
    /// ```
    /// use perfring::ring::{TimeCapabilities, TimeFields, TimePage};
    ///
    /// let (mut writer, page) = TimePage::private()?;
    /// let fields = TimeFields {
    ///     time_enabled: 250,
    ///     time_mult: 1,
    ///     time_zero: 1_000,
    ///     capabilities: TimeCapabilities::BIT0_IS_DEPRECATED | TimeCapabilities::USER_TIME_ZERO,
    ///     ..TimeFields::default()
    /// };
    /// writer.write(&fields);
    /// let snapshot = page.read()?;
    /// assert_eq!(snapshot.fields, fields);
    /// assert_eq!(snapshot.fields.clock().map(|clock| clock.ns(5)), Some(1_005));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(not(perfring_loom))]
    pub fn private() -> Result<(TimePageWriter, Self), super::SetupError> {
        let (words, backing) = super::memory::private_time_page()
            .map_err(|source| super::SetupError::Io { doing: "map a time page", source })?;
        Ok(Self::shared(words, backing))
    }

    /// A time page of loom's atomics.
    #[cfg(perfring_loom)]
    pub fn model() -> (TimePageWriter, Self) {
        Self::shared(TimeWords::model(), Backing)
    }

    fn shared(words: TimeWords, backing: Backing) -> (TimePageWriter, Self) {
        let memory = Arc::new(TimeMemory { words, _backing: backing });
        (TimePageWriter { memory: memory.clone(), lock: 0 }, Self { memory, counter: None })
    }

    /// Reads the page, as the uapi header describes it: again and again while the kernel writes it, but not for ever.
    ///
    /// # Errors
    /// [`TimePageError`] when the page did not hold still for some milliseconds: no kernel does that.
    pub fn read(&self) -> Result<TimeSnapshot, TimePageError> {
        self.read_while(|| ())
    }

    /// As [`read`](Self::read); `between` runs in each try, between the looks at `lock`.
    #[inline]
    fn read_while(&self, mut between: impl FnMut()) -> Result<TimeSnapshot, TimePageError> {
        // Asked once: a thread remains the same.
        let own = self.counter.is_some_and(|thread| thread == std::thread::current().id());
        let mut last = TimePageError::Locked { lock: 0, tries: 0 };
        for tries in 1..=TRIES {
            match self.try_read(own, tries, &mut between) {
                Ok(snapshot) => return Ok(snapshot),
                Err(error) => last = error,
            }
            std::hint::spin_loop();
        }
        Err(last)
    }

    #[inline]
    fn try_read(&self, own: bool, tries: u32, between: &mut impl FnMut()) -> Result<TimeSnapshot, TimePageError> {
        let words = &self.memory.words;
        let before = words.lock().load(Site::TimeLockLoad.order());
        if !before.is_multiple_of(2) {
            return Err(TimePageError::Locked { lock: before, tries });
        }
        let index = words.index().load(Site::TimeField.order());
        let mut raw = [0; time::COUNT];
        for (into, word) in raw.iter_mut().zip(words.fields()) {
            *into = word.load(Site::TimeField.order());
        }
        let fields = TimeFields::from_words(index, &raw);
        let (cycles, counter) = registers(&fields, own);
        between();
        fence_at!(Site::TimeReadFence);
        let after = words.lock().load(Site::TimeLockCheck.order());
        if before != after {
            return Err(TimePageError::Changing { before, after, tries });
        }
        Ok(TimeSnapshot { fields, cycles, counter })
    }
}

/// The time stamp counter and the performance counter, where they are granted.
#[inline]
fn registers(fields: &TimeFields, own: bool) -> (Option<u64>, Option<i64>) {
    let time = TimeCapabilities::USER_TIME | TimeCapabilities::USER_TIME_ZERO;
    let cycles = if fields.capabilities.intersects(time) { super::instructions::cycles() } else { None };
    let granted = own && fields.has(TimeCapabilities::USER_RDPMC) && (1..=64).contains(&fields.pmc_width);
    // SAFETY: `own` is only set for a perf event's mapping (`from_kernel`), which is alive, and the kernel says in it that
    // this process may execute the instruction. (It takes that back only with the mapping, or when the administrator
    // forbids it to all; then the fault ends the process, which is no worse than safe code may do.)
    let counter = if granted { unsafe { super::instructions::counter(fields.index) } } else { None };
    (cycles, counter.map(|counter| sign_extend(counter, fields.pmc_width)))
}

/// The lower `width` bits, 1 to 64, as a signed number.
fn sign_extend(counter: u64, width: u16) -> i64 {
    let unused = 64_u32.saturating_sub(width.into()).min(63);
    counter.wrapping_shl(unused).cast_signed() >> unused
}

impl fmt::Debug for TimePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimePage").field("counter", &self.counter).finish_non_exhaustive()
    }
}

/// Writes a [private time page](TimePage::private) as the kernel writes its own.
pub struct TimePageWriter {
    memory: Arc<TimeMemory>,
    /// What `lock` holds: always even.
    lock: u32,
}

impl TimePageWriter {
    /// Writes all fields; readers see either all the old ones or all the new ones.
    pub fn write(&mut self, fields: &TimeFields) {
        let words = &self.memory.words;
        words.lock().store(self.lock.wrapping_add(1), Site::TimeLock.order());
        fence_at!(Site::TimeWriteFence);
        words.index().store(fields.index, Site::TimeField.order());
        for (word, value) in words.fields().iter().zip(fields.to_words()) {
            word.store(value, Site::TimeField.order());
        }
        self.lock = self.lock.wrapping_add(2);
        words.lock().store(self.lock, Site::TimeUnlock.order());
    }
}

impl fmt::Debug for TimePageWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimePageWriter").field("lock", &self.lock).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(perfring_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GHZ_2_5: Clock = Clock { shift: 31, mult: 858_993_459, zero: 0, short: None };

    /// The uapi header's formula, in numbers that cannot overflow.
    fn by_the_header(clock: &Clock, cycles: u64) -> u64 {
        let (cycles, mult, shift) = (u128::from(cycles), u128::from(clock.mult), clock.shift);
        let (quot, rem) = (cycles >> shift, cycles & ((1 << shift) - 1));
        clock.zero.wrapping_add((quot * mult + ((rem * mult) >> shift)) as u64)
    }

    #[test]
    fn known_conversions() {
        assert_eq!(GHZ_2_5.ns(0), 0);
        assert_eq!(GHZ_2_5.ns(1 << 31), 858_993_459);
        assert_eq!(GHZ_2_5.ns(2_500_000_000), 999_999_999);
        assert_eq!(GHZ_2_5.cycles(858_993_459), Some(1 << 31));
        let exact = Clock { shift: 0, mult: 1, zero: 7, short: None };
        assert_eq!((exact.ns(u64::MAX), exact.cycles(6)), (6, Some(u64::MAX)));
        // Linux's own for a 3 GHz clock: mult 1431655765, shift 32.
        let ghz_3 = Clock { shift: 32, mult: 1_431_655_765, zero: 100, short: None };
        assert_eq!(ghz_3.ns(3_000_000_000), 100 + 999_999_999);
        assert_eq!(ghz_3.cycles(100 + 1_000_000_000), Some(3_000_000_000));
    }

    #[test]
    fn hostile_factors_have_an_answer() {
        let clock = |shift, mult| Clock { shift, mult, zero: 3, short: None };
        assert_eq!(clock(u16::MAX, u32::MAX).ns(u64::MAX), 3);
        assert_eq!(clock(95, u32::MAX).ns(u64::MAX), 3 + 1);
        assert_eq!(clock(128, u32::MAX).ns(u64::MAX), 3);
        assert_eq!(clock(0, 0).cycles(9), None);
        assert_eq!(clock(u16::MAX, 1).cycles(9), None);
        assert_eq!(clock(u16::MAX, 1).cycles(3), Some(0));
        assert_eq!(clock(64, 1).cycles(4), None);
        assert_eq!(clock(64, u32::MAX).cycles(2), None);
        assert_eq!(clock(0, u32::MAX).cycles(2), Some(u64::MAX / u64::from(u32::MAX)));
    }

    #[test]
    fn short_clocks_are_made_whole() {
        let short = ShortClock { cycles: 0x1_ffff_fff0, mask: 0xffff_ffff };
        let clock = Clock { shift: 0, mult: 1, zero: 0, short: Some(short) };
        assert_eq!(clock.ns(0xffff_fff5), 0x1_ffff_fff5);
        // It has wrapped since.
        assert_eq!(clock.ns(0x5), 0x2_0000_0005);
    }

    #[test]
    fn signs_are_extended_from_the_counters_width() {
        assert_eq!(sign_extend(0xffff_ffff_ffff, 48), -1);
        assert_eq!(sign_extend(0x7fff_ffff_ffff, 48), 0x7fff_ffff_ffff);
        assert_eq!(sign_extend(0xffff_0000_0000_0001, 48), 1);
        assert_eq!(sign_extend(u64::MAX, 64), -1);
        assert_eq!(sign_extend(1, 1), -1);
        assert_eq!(sign_extend(5, 0), -1, "0 bits are none; callers do not ask");
        assert_eq!(sign_extend(5, u16::MAX), 5);
    }

    fn snapshot(fields: TimeFields, cycles: Option<u64>, counter: Option<i64>) -> TimeSnapshot {
        TimeSnapshot { fields, cycles, counter }
    }

    fn fields() -> TimeFields {
        TimeFields {
            index: 1,
            offset: 100,
            time_enabled: 900,
            time_running: 300,
            capabilities: TimeCapabilities::BIT0_IS_DEPRECATED | TimeCapabilities::USER_TIME,
            time_mult: 1,
            time_offset: 0u64.wrapping_sub(5_000),
            ..TimeFields::default()
        }
    }

    #[test]
    fn counts_are_scaled_as_the_header_says() {
        let counted = snapshot(fields(), Some(5_100), Some(-20));
        assert_eq!(counted.count(), Some(80));
        assert_eq!((counted.enabled_now(), counted.running_now()), (Some(1_000), Some(400)));
        assert_eq!(counted.scaled_count(), Some(200));
        assert_eq!(counted.time(), None, "time_zero is not granted");
        let idle = snapshot(TimeFields { index: 0, ..fields() }, Some(5_100), None);
        assert_eq!((idle.running_now(), idle.count(), idle.scaled_count()), (Some(300), None, None));
        let never = snapshot(TimeFields { time_running: 0, ..fields() }, None, Some(0));
        assert_eq!(never.scaled_count(), None);
        let huge = snapshot(TimeFields { offset: -1, time_running: 1, ..fields() }, None, Some(0));
        assert_eq!((huge.count(), huge.scaled_count()), (Some(u64::MAX), None));
    }

    #[test]
    fn a_lock_that_is_stuck_is_an_error() {
        let (writer, page) = TimePage::private().unwrap();
        writer.memory.words.lock().store(7, Site::TimeLock.order());
        assert_eq!(page.read(), Err(TimePageError::Locked { lock: 7, tries: TRIES }));
        writer.memory.words.lock().store(8, Site::TimeLock.order());
        assert_eq!(page.read().unwrap().fields, TimeFields::default());
    }

    #[test]
    fn a_lock_that_never_stands_still_is_an_error() {
        let (mut writer, page) = TimePage::private().unwrap();
        let mut writes = 0;
        let changing = page.read_while(|| {
            writer.write(&fields());
            writes += 1;
        });
        assert_eq!(writes, TRIES);
        let (before, after) = (2 * TRIES - 2, 2 * TRIES);
        assert_eq!(changing, Err(TimePageError::Changing { before, after, tries: TRIES }));
        let mut writes = 0;
        let once = page.read_while(|| {
            writes += 1;
            if writes == 1 {
                writer.write(&TimeFields { time_zero: 9, ..fields() });
            }
        });
        assert_eq!((once.unwrap().fields.time_zero, writes), (9, 2));
    }

    #[test]
    fn another_thread_reads_what_was_written_at_once() {
        let (mut writer, page) = TimePage::private().unwrap();
        std::thread::scope(|scope| {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let mut generation = 0;
                while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    generation += 1;
                    let fields = TimeFields { time_enabled: generation, time_mask: generation, ..fields() };
                    writer.write(&TimeFields { time_zero: generation, ..fields });
                }
            });
            for _ in 0..10_000 {
                if let Ok(TimeSnapshot { fields, .. }) = page.read() {
                    assert_eq!((fields.time_zero, fields.time_enabled), (fields.time_mask, fields.time_mask));
                }
            }
            drop(stop);
        });
    }

    #[test]
    fn time_goes_on_by_the_machines_clock() {
        let (mut writer, page) = TimePage::private().unwrap();
        writer.write(&TimeFields { time_mult: 1, time_shift: 0, ..fields() });
        let (mut last, x86_64) = (0, cfg!(target_arch = "x86_64"));
        for _ in 0..1000 {
            let read = page.read().unwrap();
            assert_eq!((read.cycles.is_some(), read.enabled_now().is_some()), (x86_64, x86_64));
            let cycles = read.cycles.unwrap_or_default();
            assert!(last <= cycles, "{cycles} after {last}");
            last = cycles;
        }
    }

    #[test]
    fn old_kernels_grant_nothing() {
        let (mut writer, page) = TimePage::private().unwrap();
        let capabilities = TimeCapabilities::all().difference(TimeCapabilities::BIT0_IS_DEPRECATED);
        writer.write(&TimeFields { capabilities, ..fields() });
        let read = page.read().unwrap();
        assert_eq!((read.fields.capabilities, read.cycles), (TimeCapabilities::empty(), None));
    }

    #[test]
    fn a_page_of_ours_never_leads_to_rdpmc() {
        let (mut writer, page) = TimePage::private().unwrap();
        writer.write(&TimeFields { capabilities: TimeCapabilities::all(), pmc_width: 48, ..fields() });
        assert_eq!(page.read().unwrap().counter, None);
    }

    proptest! {
        #[test]
        fn conversion_is_the_headers(cycles: u64, mult: u32, shift in 0..64u16, zero: u64) {
            let clock = Clock { shift, mult, zero, short: None };
            prop_assert_eq!(clock.ns(cycles), by_the_header(&clock, cycles));
        }

        /// There and back loses less than the rounding of one step.
        #[test]
        fn there_and_back(time in 0..=u64::MAX >> 1, mult in 1..=u32::MAX, shift in 0..=32u16, zero: u64) {
            let clock = Clock { shift, mult, zero, short: None };
            let ns = zero.wrapping_add(time);
            if let Some(cycles) = clock.cycles(ns) {
                let lost = ns.wrapping_sub(clock.ns(cycles));
                prop_assert!(u128::from(lost) <= (u128::from(mult) >> shift) + 1, "{} lost", lost);
                if let Some(next) = cycles.checked_add(1) {
                    prop_assert!(u128::from(next) * u128::from(mult) > u128::from(time) << shift);
                }
            } else {
                prop_assert!((u128::from(time) << shift) / u128::from(mult) > u128::from(u64::MAX));
            }
        }

        #[test]
        fn conversion_is_monotone(a: u64, b: u64, mult: u32, shift in 32..64u16) {
            let clock = Clock { shift, mult, zero: 0, short: None };
            prop_assert!(clock.ns(a.min(b)) <= clock.ns(a.max(b)));
        }

        #[test]
        fn fields_and_words(words: Words, index: u32) {
            let mut words = words;
            words[time::CAPABILITIES] |= capability_bits(TimeCapabilities::BIT0_IS_DEPRECATED.bits());
            // `size` is no field of ours.
            words[7] = 0;
            let fields = TimeFields::from_words(index, &words);
            prop_assert_eq!(fields.index, index);
            prop_assert_eq!(fields.to_words(), words);
        }
    }
}
