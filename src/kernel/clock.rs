//! The clocks that records can take their times from.

/// A clock for the times in the records, see clock_gettime(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClockId {
    /// Wall-clock time, which may jump.
    Realtime,
    /// Time since some point in the past, without jumps; the clock of the records that this crate writes.
    Monotonic,
    /// As `Monotonic`, not steered by NTP.
    MonotonicRaw,
    /// As `Monotonic`, going on during suspend.
    Boottime,
    /// International atomic time.
    Tai,
}

impl ClockId {
    /// The `CLOCK_*` value.
    pub const fn id(self) -> i32 {
        match self {
            Self::Realtime => libc::CLOCK_REALTIME,
            Self::Monotonic => libc::CLOCK_MONOTONIC,
            Self::MonotonicRaw => libc::CLOCK_MONOTONIC_RAW,
            Self::Boottime => libc::CLOCK_BOOTTIME,
            Self::Tai => libc::CLOCK_TAI,
        }
    }
}
