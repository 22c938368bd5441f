//! Reporting what was lost in the ring itself.

use super::error::SetupError;
use super::layout::{HEADER_SIZE, MAX_RECORD_SIZE, RECORD_PADDING, RecordHeader};
use super::memory::HeaderWords;
use super::order::Site;
use std::cell::Cell;

/// `PERF_RECORD_LOST` (uapi `linux/perf_event.h`).
const PERF_RECORD_LOST: u32 = 2;

/// The record that reports losses, as a template: the ring fills in the count and the time.
///
/// A ring knows nothing of records but their headers, so the owner supplies the bytes: for an event with
/// `sample_id_all` set they end with the trailer that its `sample_type` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRecord {
    template: Vec<u8>,
    lost_at: usize,
    time: Option<(usize, Clock)>,
}

/// A clock in nanoseconds, safe to read wherever the producer is used.
#[derive(Clone, Copy, Debug)]
struct Clock(fn() -> u64);

impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Eq for Clock {}

impl LostRecord {
    /// A bare `PERF_RECORD_LOST`: header, the `u64` id of the event, the `u64` count.
    pub fn bare(id: u64) -> Self {
        let header = RecordHeader { type_: PERF_RECORD_LOST, misc: 0, size: 24 };
        let template = [header.to_bytes(), id.to_ne_bytes(), [0; 8]].concat();
        Self { template, lost_at: 16, time: None }
    }

    /// A whole record, header included, with the count to be stored as a `u64` at `lost_at`.
    ///
    /// # Errors
    /// [`SetupError::LostTemplate`] when the header's size is not the template's length, that is not a multiple of 8 up to
    /// 65528, or the count would lie outside of the body.
    pub fn from_template(template: Vec<u8>, lost_at: usize) -> Result<Self, SetupError> {
        let len = template.len();
        let refuse = |reason| Err(SetupError::LostTemplate { len, reason });
        let Some(header) = template.first_chunk::<HEADER_SIZE>() else {
            return refuse("shorter than a header");
        };
        if !len.is_multiple_of(8) || len > MAX_RECORD_SIZE {
            return refuse("not a multiple of 8 up to 65528");
        }
        if usize::from(RecordHeader::from_bytes(*header).size) != len {
            return refuse("its header's size is another");
        }
        if RecordHeader::from_bytes(*header).type_ & !1 == RECORD_PADDING {
            return refuse("its type is one of the ring's own");
        }
        if lost_at < HEADER_SIZE || lost_at > len - 8 {
            return refuse("the count lies outside of its body");
        }
        Ok(Self { template, lost_at, time: None })
    }

    /// Stores what `clock` says as a `u64` at `time_at`, too: the time in the sample_id trailer.
    ///
    /// # Errors
    /// [`SetupError::LostTemplate`] when it would lie outside of the body.
    pub fn with_time(mut self, time_at: usize, clock: fn() -> u64) -> Result<Self, SetupError> {
        let len = self.template.len();
        if time_at < HEADER_SIZE || time_at > len - 8 {
            return Err(SetupError::LostTemplate { len, reason: "the time lies outside of its body" });
        }
        self.time = Some((time_at, Clock(clock)));
        Ok(self)
    }

    /// Bytes in the record.
    pub(crate) fn size(&self) -> usize {
        self.template.len()
    }

    /// Whether it has a time to be filled in.
    pub(crate) fn has_clock(&self) -> bool {
        self.time.is_some()
    }

    /// What the clock says, where there is one. Called before anything is reserved for the record.
    pub(crate) fn now(&self) -> Option<u64> {
        self.time.map(|(_, clock)| clock.0())
    }

    /// Calls `store` with what to store and where, the header first.
    pub(crate) fn fill(&self, lost: u64, now: Option<u64>, mut store: impl FnMut(usize, &[u8])) {
        store(0, &self.template);
        store(self.lost_at, &lost.to_ne_bytes());
        if let (Some((at, _)), Some(now)) = (self.time, now) {
            store(at, &now.to_ne_bytes());
        }
    }
}

/// What a producer for one thread has lost. The header page has the total for readers, who can write it.
pub(crate) struct Losses {
    /// Records lost that no record has reported yet; 0 where no record will.
    pending: Cell<u64>,
    total: Cell<u64>,
}

impl Losses {
    pub(crate) fn new(total: u64) -> Self {
        Self { pending: Cell::new(0), total: Cell::new(total) }
    }

    /// Counts a record, which `reports` says will be reported by one.
    pub(crate) fn count(&self, reports: bool, header: &HeaderWords) {
        self.pending.set(self.pending.get() + u64::from(reports));
        self.total.set(self.total.get() + 1);
        header.lost_total().store(self.total.get(), Site::Lost.order());
    }

    /// The record that is to report what is pending, if there is something and it is to be reported.
    pub(crate) fn to_report<'a>(&self, lost: &'a Option<LostRecord>) -> Option<&'a LostRecord> {
        lost.as_ref().filter(|_| self.pending.get() != 0)
    }

    /// The pending count, which the caller reports now.
    pub(crate) fn take(&self) -> u64 {
        self.pending.take()
    }

    pub(crate) fn pending(&self) -> u64 {
        self.pending.get()
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.get()
    }
}
