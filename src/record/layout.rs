//! Where the fields of samples and trailers stand, computed once for an event.

use crate::record::bytes::int_at;
use crate::record::{Attr, AttrFlags, BranchSampleType, ByteOrder, ReadFormat, SampleId, SampleType, Tid};
use thiserror::Error;

/// Where the fields stand in the samples of an event, and in the trailers of its other records.
///
/// ```
/// use perfring::record::{Attr, ByteOrder, SampleLayout, SampleType};
/// let attr = Attr { sample_type: SampleType::IP | SampleType::TIME, ..Attr::default() };
/// let layout = SampleLayout::new(&attr, ByteOrder::NATIVE)?;
/// assert!(layout.sample_type().contains(SampleType::TIME));
/// # Ok::<(), perfring::record::LayoutError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleLayout {
    pub(crate) sample_type: SampleType,
    pub(crate) read_format: ReadFormat,
    /// Of its bits those that decide what a branch stack holds.
    pub(crate) branch_sample_type: BranchSampleType,
    pub(crate) regs_user: u64,
    pub(crate) regs_intr: u64,
    pub(crate) order: ByteOrder,
    /// Offsets in a sample.
    pub(crate) sample: Offsets,
    /// Bytes that the fields of fixed size take at a sample's start.
    pub(crate) sample_len: usize,
    /// Whether other fields follow.
    pub(crate) is_open_ended: bool,
    /// Offsets in the trailer of the other records.
    pub(crate) trailer: Offsets,
    /// Bytes of the trailer: 0 without `sample_id_all`.
    pub(crate) trailer_len: usize,
}

/// Where fields of fixed size begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) identifier: Offset,
    pub(crate) ip: Offset,
    pub(crate) tid: Offset,
    pub(crate) time: Offset,
    pub(crate) addr: Offset,
    pub(crate) id: Offset,
    pub(crate) stream_id: Offset,
    pub(crate) cpu: Offset,
    pub(crate) period: Offset,
}

impl Offsets {
    /// The fields that trailers have, of bytes that begin where the offsets do.
    #[inline(always)]
    pub(crate) fn sample_id(&self, bytes: &[u8], order: ByteOrder) -> SampleId {
        SampleId {
            tid: self.tid.pair(bytes, order).map(|(pid, tid)| Tid { pid, tid }),
            time: self.time.word(bytes, order),
            id: self.id.word(bytes, order),
            stream_id: self.stream_id.word(bytes, order),
            cpu: self.cpu.pair(bytes, order).map(|(cpu, _)| cpu),
            identifier: self.identifier.word(bytes, order),
        }
    }
}

/// Where a field begins, if it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset(u8);

impl Offset {
    const ABSENT: Self = Self(u8::MAX);

    /// The word at this place of `bytes`.
    #[inline(always)]
    pub(crate) fn word(self, bytes: &[u8], order: ByteOrder) -> Option<u64> {
        if self == Self::ABSENT { None } else { int_at(bytes, usize::from(self.0), order) }
    }

    /// The two halves of the word at this place, in the order of their addresses.
    #[inline(always)]
    pub(crate) fn pair(self, bytes: &[u8], order: ByteOrder) -> Option<(u32, u32)> {
        if self == Self::ABSENT {
            return None;
        }
        let at = usize::from(self.0);
        Some((int_at(bytes, at, order)?, int_at(bytes, at + 4, order)?))
    }

    fn get(self) -> Option<usize> {
        (self != Self::ABSENT).then_some(usize::from(self.0))
    }
}

/// The fields of fixed size at a sample's start, in their order.
pub(crate) const FIXED: SampleType = SampleType::IDENTIFIER
    .union(SampleType::IP)
    .union(SampleType::TID)
    .union(SampleType::TIME)
    .union(SampleType::ADDR)
    .union(SampleType::ID)
    .union(SampleType::STREAM_ID)
    .union(SampleType::CPU)
    .union(SampleType::PERIOD);

/// What cannot be decoded, whatever the bytes.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// Bits of `read_format` that are not known decide where everything behind `READ` stands.
    #[error("a read_format of {bits:#x} has bits that are not known")]
    ReadFormat {
        /// All bits.
        bits: u64,
    },
    /// Two weights at the same place: the kernel refuses such an attr.
    #[error("a sample_type of {bits:#x} has both WEIGHT and WEIGHT_STRUCT")]
    Weights {
        /// All bits.
        bits: u64,
    },
}

impl SampleLayout {
    /// The layout of an event's records. Fields of `sample_type` that are not known are taken to stand behind those that are:
    /// they are left in [`Sample::rest`](crate::record::Sample::rest). The uapi does not promise that, and so far the kernel has
    /// put new fields before `AUX`; samples with both may not be read rightly.
    ///
    /// # Errors
    ///
    /// [`LayoutError`]
    pub fn new(attr: &Attr, order: ByteOrder) -> Result<Self, LayoutError> {
        let sample_type = attr.sample_type;
        let reads = sample_type.contains(SampleType::READ);
        if attr.read_format.bits() >= 32 && reads {
            return Err(LayoutError::ReadFormat { bits: attr.read_format.bits() });
        }
        if sample_type.contains(SampleType::WEIGHT | SampleType::WEIGHT_STRUCT) {
            return Err(LayoutError::Weights { bits: sample_type.bits() });
        }
        let place = |all: &[SampleType]| {
            let mut at = 0_u8;
            let mut next = |field: SampleType| {
                if !all.contains(&field) || !sample_type.contains(field) {
                    return Offset::ABSENT;
                }
                at += 8;
                Offset(at - 8)
            };
            let mut offsets = Offsets {
                identifier: next(SampleType::IDENTIFIER),
                ip: next(SampleType::IP),
                tid: next(SampleType::TID),
                time: next(SampleType::TIME),
                addr: next(SampleType::ADDR),
                id: next(SampleType::ID),
                stream_id: next(SampleType::STREAM_ID),
                cpu: next(SampleType::CPU),
                period: next(SampleType::PERIOD),
            };
            // In a trailer the identifier is the last.
            if all.last() == Some(&SampleType::IDENTIFIER) && offsets.identifier != Offset::ABSENT {
                for offset in
                    [&mut offsets.tid, &mut offsets.time, &mut offsets.id, &mut offsets.stream_id, &mut offsets.cpu]
                {
                    offset.0 = offset.get().map_or(u8::MAX, |at| at as u8 - 8);
                }
                offsets.identifier = Offset(at - 8);
            }
            (offsets, usize::from(at))
        };
        use SampleType as S;
        let (sample, sample_len) =
            place(&[S::IDENTIFIER, S::IP, S::TID, S::TIME, S::ADDR, S::ID, S::STREAM_ID, S::CPU, S::PERIOD]);
        let (trailer, trailer_len) = if attr.flags.contains(AttrFlags::SAMPLE_ID_ALL) {
            place(&[S::TID, S::TIME, S::ID, S::STREAM_ID, S::CPU, S::IDENTIFIER])
        } else {
            place(&[])
        };
        let has = |field, value| if sample_type.contains(field) { value } else { 0 };
        Ok(Self {
            sample_type,
            read_format: attr.read_format,
            branch_sample_type: match sample_type.contains(S::BRANCH_STACK) {
                true => attr.branch_sample_type.intersection(BranchSampleType::HW_INDEX | BranchSampleType::COUNTERS),
                false => BranchSampleType::empty(),
            },
            regs_user: has(S::REGS_USER, attr.sample_regs_user),
            regs_intr: has(S::REGS_INTR, attr.sample_regs_intr),
            order,
            sample,
            sample_len,
            is_open_ended: !FIXED.contains(sample_type),
            trailer,
            trailer_len,
        })
    }

    /// What the samples hold.
    pub fn sample_type(&self) -> SampleType {
        self.sample_type
    }

    /// The shape of `READ`.
    pub fn read_format(&self) -> ReadFormat {
        self.read_format
    }

    /// The byte order of the records.
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// Whether records that are no samples end with a trailer that is not empty.
    pub fn has_trailer(&self) -> bool {
        self.trailer_len != 0
    }

    /// Where the event's id stands, from the start of a sample.
    pub(crate) fn id_in_sample(&self) -> Option<usize> {
        self.sample.identifier.get().or(self.sample.id.get())
    }

    /// Where the event's id stands, from the end of a record that is no sample.
    pub(crate) fn id_before_end(&self) -> Option<usize> {
        let at = self.trailer.identifier.get().or(self.trailer.id.get())?;
        Some(self.trailer_len - at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(sample_type: SampleType) -> SampleLayout {
        let attr = Attr { sample_type, flags: AttrFlags::SAMPLE_ID_ALL, ..Attr::default() };
        SampleLayout::new(&attr, ByteOrder::NATIVE).unwrap()
    }

    #[test]
    fn the_identifier_is_first_in_samples_and_last_in_trailers() {
        let all = layout(FIXED);
        let in_sample = [
            all.sample.identifier,
            all.sample.ip,
            all.sample.tid,
            all.sample.time,
            all.sample.addr,
            all.sample.id,
            all.sample.stream_id,
            all.sample.cpu,
            all.sample.period,
        ];
        assert_eq!(in_sample.map(Offset::get), [0, 8, 16, 24, 32, 40, 48, 56, 64].map(Some));
        let in_trailer = [
            all.trailer.tid,
            all.trailer.time,
            all.trailer.id,
            all.trailer.stream_id,
            all.trailer.cpu,
            all.trailer.identifier,
        ];
        assert_eq!(in_trailer.map(Offset::get), [0, 8, 16, 24, 32, 40].map(Some));
        assert_eq!(
            (all.trailer.ip, all.trailer.addr, all.trailer.period),
            (Offset::ABSENT, Offset::ABSENT, Offset::ABSENT)
        );
        assert_eq!((all.sample_len, all.trailer_len, all.is_open_ended), (72, 48, false));
        assert_eq!((all.id_in_sample(), all.id_before_end()), (Some(0), Some(8)));
        let without = layout(FIXED.difference(SampleType::IDENTIFIER));
        assert_eq!((without.id_in_sample(), without.id_before_end()), (Some(32), Some(24)));
        let neither = layout(SampleType::TID | SampleType::RAW);
        assert_eq!((neither.id_in_sample(), neither.id_before_end(), neither.is_open_ended), (None, None, true));
    }
}
