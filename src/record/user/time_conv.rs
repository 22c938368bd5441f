//! `TIME_CONV`.

use crate::record::bytes::{Cursor, Field, Writer, wire};
use crate::record::{Defect, EncodeError};

/// `TIME_CONV`: how the CPU's counter of cycles becomes the time of records, by the fields of those names in the header page
/// of a ring.
///
/// ```
/// use perfring::record::user::TimeConv;
/// let conv = TimeConv { time_shift: 1, time_mult: 3, time_zero: 100, short: None };
/// assert_eq!(conv.time(20), Some(130));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeConv {
    /// Bits by which products are shifted right.
    pub time_shift: u64,
    /// By what cycles are multiplied.
    pub time_mult: u64,
    /// The time at cycle 0, in nanoseconds.
    pub time_zero: u64,
    /// What the records of older `perf`s do not hold.
    pub short: Option<TimeConvShort>,
}

wire! {
    /// What a [`TimeConv`] says of counters that are narrower than 64 bits.
    pub struct TimeConvShort {
        /// The counter at some point in time.
        pub time_cycles: u64,
        /// The bits that the counter has.
        pub time_mask: u64,
        /// Not 0 when `time_zero` is known.
        pub cap_user_time_zero: u8,
        /// Not 0 when the counter is narrow, so that the two fields above count.
        pub cap_user_time_short: u8,
        /// 0.
        pub reserved: [u8; 6],
    }
}

impl TimeConv {
    /// The time, in nanoseconds, at which the counter stood at `cycles`. It wraps as the kernel's does; a shift of 64 or more
    /// gives none.
    pub fn time(&self, cycles: u64) -> Option<u64> {
        let shift = u32::try_from(self.time_shift).ok().filter(|&shift| shift < u64::BITS)?;
        let cycles = match self.short {
            Some(short) if short.cap_user_time_short != 0 => {
                short.time_cycles.wrapping_add(cycles.wrapping_sub(short.time_cycles) & short.time_mask)
            }
            _ => cycles,
        };
        let (quot, rem) = (cycles >> shift, cycles & !(u64::MAX << shift));
        let time = quot.wrapping_mul(self.time_mult).wrapping_add(rem.wrapping_mul(self.time_mult) >> shift);
        Some(self.time_zero.wrapping_add(time))
    }
}

impl<'a> Field<'a> for TimeConv {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        Ok(Self {
            time_shift: from.int("time_shift")?,
            time_mult: from.int("time_mult")?,
            time_zero: from.int("time_zero")?,
            short: if from.rest().is_empty() { None } else { Some(Field::get(from, "time_cycles")?) },
        })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.int(self.time_shift);
        to.int(self.time_mult);
        to.int(self.time_zero);
        self.short.map_or(Ok(()), |short| short.put(to, "time_cycles"))
    }
}
