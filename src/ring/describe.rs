//! How a ring describes itself in its header area, so that it can be read without being told.

use super::error::AttachError;
use super::layout::{DATA_HEAD, DATA_OFFSET, DATA_SIZE, DATA_TAIL, Geometry, describe as at};
use super::{Mode, Padding};

/// The most that a header area may take: a bound for readers of hostile images.
pub(crate) const MAX_HEADER: u64 = 4 << 20;

/// A `perf_event_attr` as bytes, of whatever size its writer knew, and the ids of the events that have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttrEntry {
    /// The attr's bytes, in the ring's byte order; `attr.size` says how many it has.
    pub attr: Vec<u8>,
    /// `PERF_EVENT_IOC_ID` of the events.
    pub ids: Vec<u64>,
}

/// What a ring says of itself in its header area.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Bytes before the data area: `data_offset`.
    pub data_offset: u64,
    /// Bytes in the data area: `data_size`.
    pub data_size: u64,
    /// What happens when the ring is full.
    pub mode: Mode,
    /// Whether no record crosses a granule's end.
    pub confined: bool,
    /// The granule in bytes: what [`begin_forward_in_page`](super::Producer::begin_forward_in_page) does not cross.
    pub granule: u64,
    /// How gaps are filled.
    pub padding: Padding,
    /// The process that made the ring; 0 where it did not say.
    pub producer_pid: u32,
    /// When that process started, in clock ticks since boot: tells it from a later one of the same id.
    pub producer_start: u64,
    /// The pid namespace (its inode number) in which that id is the process's; 0 where it did not say.
    pub producer_pid_namespace: u64,
    /// Whether the bodies of the records are in the byte order that is not the ring's: those of a recording of another
    /// machine. All else is in the ring's own, headers of records and attrs among it.
    pub swapped: bool,
    /// The events that records in the ring belong to.
    pub attrs: Vec<AttrEntry>,
    /// `data_head` when the description was read.
    pub data_head: u64,
    /// `data_tail` when the description was read.
    pub data_tail: u64,
    /// Records lost since the ring was made.
    pub lost_total: u64,
    /// In overwrite modes, how far the producer has reserved.
    pub reserved: u64,
    /// Whether the last producer has left.
    pub closed: bool,
}

impl Description {
    pub(crate) fn geometry(&self) -> Option<Geometry> {
        Geometry::new(self.data_size, self.granule, self.confined)
    }

    /// Bytes in the header area and the data area together.
    pub fn len(&self) -> u64 {
        self.data_offset + self.data_size
    }

    /// Whether there is no data area; never true of a description that was parsed.
    pub fn is_empty(&self) -> bool {
        self.data_size == 0
    }

    /// Reads what the header area `header` says; `available` is how many bytes the whole ring image has.
    ///
    /// # Errors
    /// One variant of [`AttachError`] for each field that cannot be so.
    pub fn parse(header: &[u8], available: u64) -> Result<Self, AttachError> {
        let page = Fields(header);
        if header.len() < at::INLINE_ATTRS {
            return Err(AttachError::TooShort { len: header.len() as u64 });
        }
        let magic = page.u64(at::MAGIC);
        if magic != at::MAGIC_VALUE && magic != at::MAGIC_VALUE.swap_bytes() {
            return Err(AttachError::Magic { found: magic });
        }
        match page.u32(at::BYTE_ORDER) {
            at::BYTE_ORDER_VALUE => {}
            mark if mark == at::BYTE_ORDER_VALUE.swap_bytes() => {
                return Err(AttachError::ByteOrder);
            }
            found => return Err(AttachError::ByteOrderMark { found }),
        }
        let version = page.u32(at::VERSION);
        if version != at::VERSION_VALUE {
            return Err(AttachError::Version { found: version, known: at::VERSION_VALUE });
        }
        let mode = page.u32(at::MODE);
        let mode = Mode::from_number(mode).ok_or(AttachError::Mode { found: mode })?;
        let padding = page.u32(at::PADDING);
        let padding = Padding::from_number(padding).ok_or(AttachError::Padding { found: padding })?;
        let confined = match page.u32(at::CONFINED) {
            0 => false,
            1 => true,
            found => return Err(AttachError::Confined { found }),
        };
        let swapped = match page.u32(at::SWAPPED) {
            0 => false,
            1 => true,
            found => return Err(AttachError::Swapped { found }),
        };
        let data_offset = page.u64(DATA_OFFSET);
        if data_offset == 0 || !data_offset.is_multiple_of(4096) || data_offset > MAX_HEADER {
            return Err(AttachError::DataOffset { found: data_offset });
        }
        let data_size = page.u64(DATA_SIZE);
        if !data_size.is_power_of_two() || data_size < 4096 || isize::try_from(data_size).is_err() {
            return Err(AttachError::DataSize { found: data_size });
        }
        let granule = page.u64(at::GRANULE);
        let most = if confined { data_size / 4 } else { data_size };
        if !granule.is_power_of_two() || !(4096..=65536).contains(&granule) || granule > most {
            return Err(AttachError::Granule { found: granule, data_size });
        }
        if confined != (mode == Mode::OverwriteForward) && mode != Mode::Lossless {
            return Err(AttachError::ModeConfined { mode, confined });
        }
        if available < data_offset + data_size {
            return Err(AttachError::Truncated { len: available, needed: data_offset + data_size });
        }
        let (data_head, data_tail) = (page.u64(DATA_HEAD), page.u64(DATA_TAIL));
        let aligned = data_head.is_multiple_of(8) && data_tail.is_multiple_of(8);
        if !aligned || (mode == Mode::Lossless && data_head.wrapping_sub(data_tail) > data_size) {
            return Err(AttachError::Positions { head: data_head, tail: data_tail, data_size });
        }
        let attrs = parse_attrs(header, data_offset, page.u64(at::ATTRS_OFFSET), page.u64(at::ATTRS_SIZE))?;
        Ok(Self {
            data_offset,
            data_size,
            mode,
            confined,
            granule,
            padding,
            producer_pid: page.u32(at::PRODUCER_PID),
            producer_start: page.u64(at::PRODUCER_START),
            producer_pid_namespace: page.u64(at::PRODUCER_PID_NAMESPACE),
            swapped,
            attrs,
            data_head,
            data_tail,
            lost_total: page.u64(at::LOST_TOTAL),
            reserved: page.u64(at::RESERVED),
            closed: page.u32(at::CLOSED) != 0,
        })
    }

    /// Says that this process writes the ring.
    #[cfg(not(perfring_loom))]
    pub(crate) fn set_writer(&mut self) -> std::io::Result<()> {
        self.producer_pid = std::process::id();
        self.producer_start = super::sys::start_time(self.producer_pid)?;
        self.producer_pid_namespace = super::sys::pid_namespace()?;
        Ok(())
    }

    /// The header area that says this: a multiple of `page_size` bytes, which becomes `data_offset`.
    pub(crate) fn header_area(&self, page_size: usize) -> Vec<u8> {
        let attrs = encode_attrs(&self.attrs);
        let (offset, len) = if attrs.len() <= page_size - at::INLINE_ATTRS {
            (at::INLINE_ATTRS, page_size)
        } else {
            (page_size, page_size + attrs.len().next_multiple_of(page_size))
        };
        let mut area = vec![0; len];
        let mut put = |at: usize, bytes: &[u8]| area[at..at + bytes.len()].copy_from_slice(bytes);
        put(DATA_HEAD, &self.data_head.to_ne_bytes());
        put(DATA_TAIL, &self.data_tail.to_ne_bytes());
        put(DATA_OFFSET, &(len as u64).to_ne_bytes());
        put(DATA_SIZE, &self.data_size.to_ne_bytes());
        put(at::MAGIC, &at::MAGIC_VALUE.to_ne_bytes());
        put(at::VERSION, &at::VERSION_VALUE.to_ne_bytes());
        put(at::BYTE_ORDER, &at::BYTE_ORDER_VALUE.to_ne_bytes());
        put(at::MODE, &self.mode.number().to_ne_bytes());
        put(at::CONFINED, &u32::from(self.confined).to_ne_bytes());
        put(at::GRANULE, &self.granule.to_ne_bytes());
        put(at::PADDING, &self.padding.number().to_ne_bytes());
        put(at::PRODUCER_PID, &self.producer_pid.to_ne_bytes());
        put(at::PRODUCER_START, &self.producer_start.to_ne_bytes());
        put(at::PRODUCER_PID_NAMESPACE, &self.producer_pid_namespace.to_ne_bytes());
        put(at::SWAPPED, &u32::from(self.swapped).to_ne_bytes());
        put(at::ATTRS_OFFSET, &(offset as u64).to_ne_bytes());
        put(at::ATTRS_SIZE, &(attrs.len() as u64).to_ne_bytes());
        put(at::LOST_TOTAL, &self.lost_total.to_ne_bytes());
        put(at::CLOSED, &u32::from(self.closed).to_ne_bytes());
        put(at::RESERVED, &self.reserved.to_ne_bytes());
        put(at::NEED_WAKE, &1u32.to_ne_bytes());
        put(offset, &attrs);
        area
    }
}

/// Fields of a header page that is known to reach up to the attrs.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }
    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.array(at))
    }
    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.array(at))
    }
}

/// Bytes that [`encode_attrs`] makes of `attrs`.
pub(crate) fn attrs_size(attrs: &[AttrEntry]) -> usize {
    8 + attrs.iter().map(|entry| 8 + entry.attr.len().next_multiple_of(8) + 8 * entry.ids.len()).sum::<usize>()
}

/// u32 count, u32 0; for each entry u32 attr bytes, u32 ids, the attr padded to 8, the ids.
fn encode_attrs(attrs: &[AttrEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(attrs_size(attrs));
    bytes.extend((attrs.len() as u32).to_ne_bytes());
    bytes.extend([0; 4]);
    for entry in attrs {
        bytes.extend((entry.attr.len() as u32).to_ne_bytes());
        bytes.extend((entry.ids.len() as u32).to_ne_bytes());
        bytes.extend(&entry.attr);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(entry.ids.iter().flat_map(|id| id.to_ne_bytes()));
    }
    bytes
}

fn parse_attrs(header: &[u8], header_len: u64, offset: u64, size: u64) -> Result<Vec<AttrEntry>, AttachError> {
    let outside = AttachError::Attrs { offset, size, header_len };
    let inside = offset >= at::INLINE_ATTRS as u64 && offset.checked_add(size).is_some_and(|end| end <= header_len);
    if !inside {
        return Err(outside);
    }
    let Some(mut rest) = header.get(offset as usize..(offset + size) as usize) else {
        return Err(outside);
    };
    let mut take = |n: usize, entry: u32| -> Result<&[u8], AttachError> {
        let (bytes, after) = rest.split_at_checked(n).ok_or(AttachError::AttrsCut { entry })?;
        rest = after;
        Ok(bytes)
    };
    let number = |bytes: &[u8]| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let count = number(take(8, 0)?);
    let mut attrs = Vec::new();
    for entry in 0..count {
        let sizes = take(8, entry)?;
        let (attr_len, ids_len) = (number(sizes) as usize, number(&sizes[4..]) as usize);
        let padded = attr_len.checked_next_multiple_of(8).ok_or(AttachError::AttrsCut { entry })?;
        let attr = take(padded, entry)?[..attr_len].to_vec();
        let ids = take(ids_len.checked_mul(8).ok_or(AttachError::AttrsCut { entry })?, entry)?;
        let ids = ids.as_chunks::<8>().0.iter().map(|id| u64::from_ne_bytes(*id)).collect();
        attrs.push(AttrEntry { attr, ids });
    }
    Ok(attrs)
}
