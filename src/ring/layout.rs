//! What lies where: the header page, record headers, and the arithmetic of positions.

use perf_event_open_sys::bindings::{perf_event_header, perf_event_mmap_page};
use std::mem::{offset_of, size_of};

/// Offset of `data_head` in the header page.
pub(crate) const DATA_HEAD: usize = 1024;
/// Offset of `data_tail` in the header page.
pub(crate) const DATA_TAIL: usize = 1032;
/// Offset of `data_offset` in the header page.
pub(crate) const DATA_OFFSET: usize = 1040;
/// Offset of `data_size` in the header page.
pub(crate) const DATA_SIZE: usize = 1048;

/// Offset of `aux_head` in the header page.
pub(crate) const AUX_HEAD: usize = 1056;
/// Offset of `aux_tail` in the header page.
pub(crate) const AUX_TAIL: usize = 1064;
/// Offset of `aux_offset` in the header page.
pub(crate) const AUX_OFFSET: usize = 1072;
/// Offset of `aux_size` in the header page.
pub(crate) const AUX_SIZE: usize = 1080;
/// Offset of `lock` in the header page, the seqlock of what is in `time`.
pub(crate) const LOCK: usize = 8;
/// Offset of `index` in the header page.
pub(crate) const INDEX: usize = 12;

/// The words from `offset` to `time_mask`, which the seqlock covers: their indices, from [`time::FIRST`] on.
pub(crate) mod time {
    /// Offset of `offset`, the first of the words.
    pub(crate) const FIRST: usize = 16;
    pub(crate) const COUNT: usize = 10;

    pub(crate) const OFFSET: usize = 0;
    pub(crate) const TIME_ENABLED: usize = 1;
    pub(crate) const TIME_RUNNING: usize = 2;
    pub(crate) const CAPABILITIES: usize = 3;
    /// `pmc_width` and `time_shift`, 16 bits each, and `time_mult`, 32 bits, in the order of memory.
    pub(crate) const WIDTHS: usize = 4;
    pub(crate) const TIME_OFFSET: usize = 5;
    pub(crate) const TIME_ZERO: usize = 6;
    pub(crate) const TIME_CYCLES: usize = 8;
    pub(crate) const TIME_MASK: usize = 9;

    /// The offset of word `index` in the header page.
    pub(super) const fn at(index: usize) -> usize {
        FIRST + 8 * index
    }
}

const _: () = {
    assert!(offset_of!(perf_event_mmap_page, aux_head) == AUX_HEAD);
    assert!(offset_of!(perf_event_mmap_page, aux_tail) == AUX_TAIL);
    assert!(offset_of!(perf_event_mmap_page, aux_offset) == AUX_OFFSET);
    assert!(offset_of!(perf_event_mmap_page, aux_size) == AUX_SIZE);
    assert!(offset_of!(perf_event_mmap_page, lock) == LOCK);
    assert!(offset_of!(perf_event_mmap_page, index) == INDEX);
    assert!(offset_of!(perf_event_mmap_page, offset) == time::at(time::OFFSET));
    assert!(offset_of!(perf_event_mmap_page, time_enabled) == time::at(time::TIME_ENABLED));
    assert!(offset_of!(perf_event_mmap_page, time_running) == time::at(time::TIME_RUNNING));
    assert!(offset_of!(perf_event_mmap_page, __bindgen_anon_1) == time::at(time::CAPABILITIES));
    assert!(offset_of!(perf_event_mmap_page, pmc_width) == time::at(time::WIDTHS));
    assert!(offset_of!(perf_event_mmap_page, time_shift) == time::at(time::WIDTHS) + 2);
    assert!(offset_of!(perf_event_mmap_page, time_mult) == time::at(time::WIDTHS) + 4);
    assert!(offset_of!(perf_event_mmap_page, time_offset) == time::at(time::TIME_OFFSET));
    assert!(offset_of!(perf_event_mmap_page, time_zero) == time::at(time::TIME_ZERO));
    assert!(offset_of!(perf_event_mmap_page, time_cycles) == time::at(time::TIME_CYCLES));
    assert!(offset_of!(perf_event_mmap_page, time_mask) == time::at(time::TIME_MASK));
    assert!(offset_of!(perf_event_mmap_page, data_head) == DATA_HEAD);
    assert!(offset_of!(perf_event_mmap_page, data_tail) == DATA_TAIL);
    assert!(offset_of!(perf_event_mmap_page, data_offset) == DATA_OFFSET);
    assert!(offset_of!(perf_event_mmap_page, data_size) == DATA_SIZE);
    assert!(size_of::<perf_event_mmap_page>() <= describe::MAGIC);
    assert!(size_of::<perf_event_header>() == HEADER_SIZE);
    assert!(offset_of!(perf_event_header, misc) == 4);
    assert!(offset_of!(perf_event_header, size) == 6);
};

/// Where a ring of ours describes itself: in the part of the header page that the kernel leaves unused. The words that
/// change while the ring is in use have a cache line each.
pub(crate) mod describe {
    pub(crate) const MAGIC: usize = 1152;
    pub(crate) const VERSION: usize = 1160;
    pub(crate) const BYTE_ORDER: usize = 1164;
    pub(crate) const MODE: usize = 1168;
    pub(crate) const CONFINED: usize = 1172;
    pub(crate) const GRANULE: usize = 1176;
    pub(crate) const PADDING: usize = 1184;
    pub(crate) const PRODUCER_PID: usize = 1188;
    pub(crate) const PRODUCER_START: usize = 1192;
    pub(crate) const ATTRS_OFFSET: usize = 1200;
    pub(crate) const ATTRS_SIZE: usize = 1208;
    pub(crate) const PRODUCER_PID_NAMESPACE: usize = 1216;
    /// 1 where the bodies of records are in the other byte order; rings of before have 0 here.
    pub(crate) const SWAPPED: usize = 1224;
    pub(crate) const LOST_TOTAL: usize = 1280;
    pub(crate) const CLOSED: usize = 1288;
    pub(crate) const RESERVED: usize = 1344;
    pub(crate) const NEED_WAKE: usize = 1408;
    pub(crate) const PAUSED: usize = 1412;
    /// The attrs start here when they fit into the header page.
    pub(crate) const INLINE_ATTRS: usize = 1472;

    pub(crate) const MAGIC_VALUE: u64 = u64::from_le_bytes(*b"perfring");
    pub(crate) const VERSION_VALUE: u32 = 1;
    /// Reads back as `0x0403_0201` where the byte order is not the reader's.
    pub(crate) const BYTE_ORDER_VALUE: u32 = 0x0102_0304;
}

/// Bytes in a `perf_event_header`, the least that a record has.
pub const HEADER_SIZE: usize = 8;

/// The largest record: the greatest multiple of 8 that the 16-bit size field holds.
pub const MAX_RECORD_SIZE: usize = 65528;

/// The type of a padding record: a discarded reservation, the unused rest of one that was committed short, or, with
/// [`Padding::Header`](super::Padding::Header), a gap at the end of a granule. Consumers of ours step over it; others
/// skip it as a type that they do not know.
pub const RECORD_PADDING: u32 = 0x7072_6700;

/// The type of a record that is reserved and not yet closed. It is never published; diagnosis and the recovery of a ring
/// whose producer died find it beyond `data_head`.
pub const RECORD_OPEN: u32 = 0x7072_6701;

/// A `perf_event_header` (uapi `linux/perf_event.h`): what every record starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordHeader {
    /// The record's type: `PERF_RECORD_*`.
    pub type_: u32,
    /// `PERF_RECORD_MISC_*` bits.
    pub misc: u16,
    /// Bytes in the record, this header included. A multiple of 8 in every ring.
    pub size: u16,
}

impl RecordHeader {
    /// The header as the eight bytes that stand in memory.
    #[inline]
    pub fn to_bytes(self) -> [u8; HEADER_SIZE] {
        self.to_word().to_ne_bytes()
    }

    /// Reads a header from the eight bytes that stand in memory, in the byte order of this machine.
    #[inline]
    pub fn from_bytes(bytes: [u8; HEADER_SIZE]) -> Self {
        Self::from_word(u64::from_ne_bytes(bytes))
    }

    #[inline(always)]
    pub(crate) fn to_word(self) -> u64 {
        if cfg!(target_endian = "little") {
            u64::from(self.type_) | u64::from(self.misc) << 32 | u64::from(self.size) << 48
        } else {
            u64::from(self.type_) << 32 | u64::from(self.misc) << 16 | u64::from(self.size)
        }
    }

    #[inline(always)]
    pub(crate) fn from_word(word: u64) -> Self {
        if cfg!(target_endian = "little") {
            Self { type_: word as u32, misc: (word >> 32) as u16, size: (word >> 48) as u16 }
        } else {
            Self { type_: (word >> 32) as u32, misc: (word >> 16) as u16, size: word as u16 }
        }
    }
}

/// Sizes of a ring, fixed when it is made, and the arithmetic of positions in it.
///
/// Positions are free-running: they wrap at 2^64, and `position % size` is the offset in the data area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    size: u64,
    granule: u64,
    confined: bool,
}

impl Geometry {
    /// `size` and `granule` are powers of two with `8 <= granule <= size`.
    pub(crate) fn new(size: u64, granule: u64, confined: bool) -> Option<Self> {
        let sound = size.is_power_of_two() && granule.is_power_of_two() && granule >= 8 && granule <= size;
        sound.then_some(Self { size, granule, confined })
    }

    #[inline(always)]
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    #[inline(always)]
    pub(crate) fn granule(&self) -> u64 {
        self.granule
    }

    #[inline(always)]
    pub(crate) fn confined(&self) -> bool {
        self.confined
    }

    /// Bytes that can be in the ring at once: one stays free, so that full and empty differ, and positions are multiples of 8.
    #[inline(always)]
    pub(crate) fn capacity(&self) -> u64 {
        self.size - 8
    }

    #[inline(always)]
    pub(crate) fn offset(&self, position: u64) -> usize {
        (position & (self.size - 1)) as usize
    }

    /// Bytes from `position` to the end of its granule.
    #[inline(always)]
    pub(crate) fn left_in_granule(&self, position: u64) -> u64 {
        self.granule - (position & (self.granule - 1))
    }

    /// The gap that a record of `size` bytes at `position` needs before it so that it does not cross a granule.
    #[inline(always)]
    pub(crate) fn gap(&self, position: u64, size: u64) -> u64 {
        let left = self.left_in_granule(position);
        if size <= left { 0 } else { left }
    }

    /// How far records can be read from `position` on without looking at anything but them: to `end`, to where space is given
    /// back, to the end of the granule where records do not cross it, to the end of the data area.
    #[inline]
    pub(crate) fn run(&self, position: u64, end: u64, released: u64, release_every: u64) -> Option<u64> {
        let left = end.wrapping_sub(position);
        if left == 0 {
            return None;
        }
        let unit = if self.confined { self.granule } else { self.size };
        let in_unit = unit - (position & (unit - 1));
        // At least a record, and a multiple of 8.
        let to_release = (release_every.saturating_sub(position.wrapping_sub(released)) & !7).max(8);
        Some(left.min(in_unit).min(to_release))
    }

    /// The start of the granule after the one that `position` is in.
    #[inline(always)]
    pub(crate) fn next_granule(&self, position: u64) -> u64 {
        position.wrapping_add(self.left_in_granule(position))
    }

    /// The first granule start at or after `position`.
    #[inline(always)]
    pub(crate) fn granule_from(&self, position: u64) -> u64 {
        let within = position & (self.granule - 1);
        if within == 0 { position } else { self.next_granule(position) }
    }
}

/// Whether `a` comes before `b`, for positions less than 2^63 apart.
#[inline(always)]
pub(crate) fn before(a: u64, b: u64) -> bool {
    (a.wrapping_sub(b) as i64) < 0
}

#[cfg(all(test, not(perfring_loom)))]
mod tests {
    use super::*;

    #[test]
    fn header_word_is_the_uapi_struct() {
        let header = RecordHeader { type_: 9, misc: 0x4002, size: 48 };
        let mut bytes = Vec::new();
        bytes.extend(9u32.to_ne_bytes());
        bytes.extend(0x4002u16.to_ne_bytes());
        bytes.extend(48u16.to_ne_bytes());
        assert_eq!(header.to_bytes().as_slice(), bytes);
        assert_eq!(RecordHeader::from_bytes(header.to_bytes()), header);
    }

    #[test]
    fn gaps_appear_only_when_the_record_does_not_fit() {
        let g = Geometry::new(16384, 4096, true).unwrap();
        assert_eq!(g.gap(0, 4096), 0);
        assert_eq!(g.gap(8, 4096), 4088);
        assert_eq!(g.gap(4048, 48), 0);
        assert_eq!(g.gap(4056, 48), 40);
        assert_eq!(g.gap(4096, 48), 0);
        let near_wrap = 0u64.wrapping_sub(16);
        assert_eq!(g.gap(near_wrap, 16), 0);
        assert_eq!(g.gap(near_wrap, 24), 16);
        assert_eq!(g.next_granule(near_wrap), 0);
        assert_eq!(g.granule_from(near_wrap), 0);
        assert_eq!(g.granule_from(0), 0);
    }

    #[test]
    fn geometry_refuses_what_is_not_a_power_of_two() {
        assert_eq!(Geometry::new(12288, 4096, true), None);
        assert_eq!(Geometry::new(16384, 4095, true), None);
        assert_eq!(Geometry::new(4096, 8192, true), None);
        assert_eq!(Geometry::new(0, 8, false), None);
    }

    #[test]
    fn before_holds_across_the_wrap() {
        assert!(before(u64::MAX, 0));
        assert!(!before(0, u64::MAX));
        assert!(!before(5, 5));
    }
}
