//! `perf_event_attr`: what an event was opened with, which decides what its records hold.

use crate::record::bytes::{Cursor, Writer};
use crate::record::{BranchSampleType, ByteOrder, Defect, ReadFormat, SampleType};
use thiserror::Error;

bitflags::bitflags! {
    /// The one-bit flags of `perf_event_attr`, by their uapi names, and `precise_ip`, which has two bits.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AttrFlags: u64 {
        /// Off at first.
        const DISABLED = 1;
        /// Children count, too.
        const INHERIT = 1 << 1;
        /// Must always be on the PMU.
        const PINNED = 1 << 2;
        /// Must be the only group on the PMU.
        const EXCLUSIVE = 1 << 3;
        /// Not in user space.
        const EXCLUDE_USER = 1 << 4;
        /// Not in the kernel.
        const EXCLUDE_KERNEL = 1 << 5;
        /// Not in the hypervisor.
        const EXCLUDE_HV = 1 << 6;
        /// Not when idle.
        const EXCLUDE_IDLE = 1 << 7;
        /// `MMAP` records.
        const MMAP = 1 << 8;
        /// `COMM` records.
        const COMM = 1 << 9;
        /// `sample_freq` rather than `sample_period`.
        const FREQ = 1 << 10;
        /// Counts per task that inherits.
        const INHERIT_STAT = 1 << 11;
        /// On when the task executes a program.
        const ENABLE_ON_EXEC = 1 << 12;
        /// `FORK` and `EXIT` records.
        const TASK = 1 << 13;
        /// `wakeup_watermark` rather than `wakeup_events`.
        const WATERMARK = 1 << 14;
        /// The two bits of [`AttrFlags::precise_ip`].
        const PRECISE_IP = 3 << 15;
        /// Mappings that are not executable, too.
        const MMAP_DATA = 1 << 17;
        /// A trailer in all records that are no samples.
        const SAMPLE_ID_ALL = 1 << 18;
        /// Not in the host.
        const EXCLUDE_HOST = 1 << 19;
        /// Not in guests.
        const EXCLUDE_GUEST = 1 << 20;
        /// Call chains without the kernel.
        const EXCLUDE_CALLCHAIN_KERNEL = 1 << 21;
        /// Call chains without user space.
        const EXCLUDE_CALLCHAIN_USER = 1 << 22;
        /// `MMAP2` records.
        const MMAP2 = 1 << 23;
        /// `COMM` records of an exec are marked.
        const COMM_EXEC = 1 << 24;
        /// Times by the clock `clockid`.
        const USE_CLOCKID = 1 << 25;
        /// `SWITCH` records.
        const CONTEXT_SWITCH = 1 << 26;
        /// The ring is written from its end.
        const WRITE_BACKWARD = 1 << 27;
        /// `NAMESPACES` records.
        const NAMESPACES = 1 << 28;
        /// `KSYMBOL` records.
        const KSYMBOL = 1 << 29;
        /// `BPF_EVENT` records.
        const BPF_EVENT = 1 << 30;
        /// Data go to the AUX area of the group's leader.
        const AUX_OUTPUT = 1 << 31;
        /// `CGROUP` records.
        const CGROUP = 1 << 32;
        /// `TEXT_POKE` records.
        const TEXT_POKE = 1 << 33;
        /// Build ids in `MMAP2` records.
        const BUILD_ID = 1 << 34;
        /// Only threads inherit.
        const INHERIT_THREAD = 1 << 35;
        /// Gone when the task executes a program.
        const REMOVE_ON_EXEC = 1 << 36;
        /// A signal instead of a sample.
        const SIGTRAP = 1 << 37;
        /// The user part of call chains may come later.
        const DEFER_CALLCHAIN = 1 << 38;
        /// Wants the `CALLCHAIN_DEFERRED` records.
        const DEFER_OUTPUT = 1 << 39;
        const _ = !0;
    }
}

impl AttrFlags {
    /// How exact `ip` has to be, from 0 (any skid) to 3 (none).
    pub fn precise_ip(self) -> u8 {
        ((self.bits() >> 15) & 3) as u8
    }

    /// With this value of `precise_ip`, of which two bits count.
    #[must_use]
    pub fn with_precise_ip(self, value: u8) -> Self {
        Self::from_bits_retain((self.bits() & !Self::PRECISE_IP.bits()) | u64::from(value & 3) << 15)
    }
}

/// Bit fields are laid out from the other end on a machine with the other byte order: what stands in a word at `at` bits
/// from the least significant bit for one stands there from the most significant for the other.
pub(crate) fn big_endian_fields<const N: usize>(word: u64, fields: [(u32, u32); N]) -> u64 {
    fields.into_iter().fold(0, |value, (at, width)| {
        let mask = u64::MAX >> (64 - width);
        value | ((word >> (64 - at - width)) & mask) << at
    })
}

/// The opposite of [`big_endian_fields`].
pub(crate) fn to_big_endian_fields<const N: usize>(value: u64, fields: [(u32, u32); N]) -> u64 {
    fields.into_iter().fold(0, |word, (at, width)| {
        let mask = u64::MAX >> (64 - width);
        word | ((value >> at) & mask) << (64 - at - width)
    })
}

/// All bits are fields of their own but those of `precise_ip`, whose two keep their order.
fn flags_of(word: u64, order: ByteOrder) -> AttrFlags {
    let bits = match order {
        ByteOrder::Little => word,
        ByteOrder::Big => swap_precise(word.reverse_bits()),
    };
    AttrFlags::from_bits_retain(bits)
}

fn flags_word(flags: AttrFlags, order: ByteOrder) -> u64 {
    match order {
        ByteOrder::Little => flags.bits(),
        ByteOrder::Big => swap_precise(flags.bits()).reverse_bits(),
    }
}

fn swap_precise(bits: u64) -> u64 {
    let (low, high) = ((bits >> 15) & 1, (bits >> 16) & 1);
    (bits & !(3 << 15)) | low << 16 | high << 15
}

/// `struct perf_event_attr`, with the uapi's names. Where the uapi has a union, the name is that of the member that needs no
/// flag; [`AttrFlags::FREQ`] and [`AttrFlags::WATERMARK`] make it the other.
///
/// ```
/// use perfring::record::{Attr, ByteOrder, SampleType};
///
/// let attr = Attr { type_: 1, sample_type: SampleType::IP | SampleType::TID, ..Attr::default() };
/// let bytes = attr.to_bytes(ByteOrder::Big);
/// let (read, rest) = Attr::from_bytes(&bytes, ByteOrder::Big)?;
/// assert_eq!((read, rest.len()), (attr, 0));
/// # Ok::<(), perfring::record::AttrError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attr {
    /// `PERF_TYPE_*`, or that of a dynamic PMU.
    pub type_: u32,
    /// Bytes in the attr: a reader's is what the writer knew, so what lies beyond is zero here.
    pub size: u32,
    /// Which event of the type.
    pub config: u64,
    /// Events between samples, or with `FREQ` samples a second (`sample_freq`).
    pub sample_period: u64,
    /// What samples hold.
    pub sample_type: SampleType,
    /// What `READ` holds.
    pub read_format: ReadFormat,
    /// The flags.
    pub flags: AttrFlags,
    /// Samples, or with `WATERMARK` bytes (`wakeup_watermark`), between wake-ups.
    pub wakeup_events: u32,
    /// The kind of a breakpoint.
    pub bp_type: u32,
    /// `bp_addr`, `kprobe_func`, `uprobe_path`, by the type.
    pub config1: u64,
    /// `bp_len`, `kprobe_addr`, `probe_offset`, by the type.
    pub config2: u64,
    /// Which branches `BRANCH_STACK` holds, and what of them.
    pub branch_sample_type: BranchSampleType,
    /// Which registers `REGS_USER` holds.
    pub sample_regs_user: u64,
    /// Bytes of `STACK_USER`.
    pub sample_stack_user: u32,
    /// The clock of the times, with `USE_CLOCKID`.
    pub clockid: i32,
    /// Which registers `REGS_INTR` holds.
    pub sample_regs_intr: u64,
    /// Bytes of the AUX area between wake-ups.
    pub aux_watermark: u32,
    /// The most entries of a call chain.
    pub sample_max_stack: u16,
    /// Bytes of `AUX`.
    pub aux_sample_size: u32,
    /// `aux_start_paused`, `aux_pause`, `aux_resume`: bits 0, 1 and 2.
    pub aux_action: u32,
    /// What the signal of `SIGTRAP` carries.
    pub sig_data: u64,
    /// More of the event, by the type.
    pub config3: u64,
    /// More of the event, by the type.
    pub config4: u64,
}

impl Default for Attr {
    fn default() -> Self {
        Self {
            type_: 0,
            size: Self::SIZE as u32,
            config: 0,
            sample_period: 0,
            sample_type: SampleType::empty(),
            read_format: ReadFormat::empty(),
            flags: AttrFlags::empty(),
            wakeup_events: 0,
            bp_type: 0,
            config1: 0,
            config2: 0,
            branch_sample_type: BranchSampleType::empty(),
            sample_regs_user: 0,
            sample_stack_user: 0,
            clockid: 0,
            sample_regs_intr: 0,
            aux_watermark: 0,
            sample_max_stack: 0,
            aux_sample_size: 0,
            aux_action: 0,
            sig_data: 0,
            config3: 0,
            config4: 0,
        }
    }
}

/// What is wrong with the bytes of an attr.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttrError {
    /// Fewer bytes than the attr's own size says, or than the 8 that hold it.
    #[error("a perf_event_attr of {size} bytes, of which {len} are there")]
    Truncated {
        /// Its own size, 8 if that is not there either.
        size: u32,
        /// Bytes that are there.
        len: usize,
    },
    /// Smaller than the first version.
    #[error("a perf_event_attr of {size} bytes: the first version already had 64")]
    Size {
        /// Its own size.
        size: u32,
    },
    /// A version that is not known, with something in it.
    #[error("a perf_event_attr of {size} bytes with {value:#04x} at byte {at}, in a field that is not known")]
    Unknown {
        /// Its own size.
        size: u32,
        /// Where the first byte that is not zero lies.
        at: usize,
        /// That byte.
        value: u8,
    },
}

impl Attr {
    /// Bytes in the first version, the least that there is (`PERF_ATTR_SIZE_VER0`).
    pub const SIZE_VER0: usize = 64;
    /// Bytes in the version that this crate knows (`PERF_ATTR_SIZE_VER9`).
    pub const SIZE: usize = 144;

    /// Reads an attr of any version from the start of `bytes`, and gives what lies behind it. As for the kernel, a size of 0
    /// means the first version, and a larger attr than is known is fine when the rest of it is zero.
    ///
    /// # Errors
    ///
    /// [`AttrError`]
    pub fn from_bytes(bytes: &[u8], order: ByteOrder) -> Result<(Self, &[u8]), AttrError> {
        let len = bytes.len();
        let mut start = Cursor::new(bytes, order);
        let size = start
            .int::<u32>("type")
            .and_then(|_| start.int::<u32>("size"))
            .map_err(|_| AttrError::Truncated { size: 8, len })?;
        let size = if size == 0 { Self::SIZE_VER0 as u32 } else { size };
        if (size as usize) < Self::SIZE_VER0 {
            return Err(AttrError::Size { size });
        }
        let (own, rest) = bytes.split_at_checked(size as usize).ok_or(AttrError::Truncated { size, len })?;
        let mut whole = [0; Self::SIZE];
        let known = own.len().min(Self::SIZE);
        whole[..known].copy_from_slice(&own[..known]);
        if let Some((at, &value)) = own.iter().enumerate().skip(Self::SIZE).find(|(_, byte)| **byte != 0) {
            return Err(AttrError::Unknown { size, at, value });
        }
        let attr = Self::read(&mut Cursor::new(&whole, order)).map_err(|_| AttrError::Truncated { size, len })?;
        Ok((Self { size, ..attr }, rest))
    }

    fn read(from: &mut Cursor<'_>) -> Result<Self, Defect> {
        let order = from.order();
        Ok(Self {
            type_: from.int("type")?,
            size: from.int("size")?,
            config: from.int("config")?,
            sample_period: from.int("sample_period")?,
            sample_type: SampleType::from_bits_retain(from.int("sample_type")?),
            read_format: ReadFormat::from_bits_retain(from.int("read_format")?),
            flags: flags_of(from.int("flags")?, order),
            wakeup_events: from.int("wakeup_events")?,
            bp_type: from.int("bp_type")?,
            config1: from.int("config1")?,
            config2: from.int("config2")?,
            branch_sample_type: BranchSampleType::from_bits_retain(from.int("branch_sample_type")?),
            sample_regs_user: from.int("sample_regs_user")?,
            sample_stack_user: from.int("sample_stack_user")?,
            clockid: from.int("clockid")?,
            sample_regs_intr: from.int("sample_regs_intr")?,
            aux_watermark: from.int("aux_watermark")?,
            sample_max_stack: {
                let value = from.int("sample_max_stack")?;
                from.int::<u16>("__reserved_2")?;
                value
            },
            aux_sample_size: from.int("aux_sample_size")?,
            aux_action: match order {
                ByteOrder::Little => from.int("aux_action")?,
                ByteOrder::Big => from.int::<u32>("aux_action")?.reverse_bits(),
            },
            sig_data: from.int("sig_data")?,
            config3: from.int("config3")?,
            config4: from.int("config4")?,
        })
    }

    /// The attr as `size` bytes, but at least [`Attr::SIZE_VER0`] and at most [`Attr::SIZE`] of them; what does not fit into
    /// a smaller version is left out.
    pub fn to_bytes(&self, order: ByteOrder) -> Vec<u8> {
        let size = (self.size as usize).clamp(Self::SIZE_VER0, Self::SIZE);
        let mut bytes = Vec::with_capacity(Self::SIZE);
        let mut to = Writer::new(&mut bytes, order);
        to.int(self.type_);
        to.int(size as u32);
        to.int(self.config);
        to.int(self.sample_period);
        to.int(self.sample_type.bits());
        to.int(self.read_format.bits());
        to.int(flags_word(self.flags, order));
        to.int(self.wakeup_events);
        to.int(self.bp_type);
        to.int(self.config1);
        to.int(self.config2);
        to.int(self.branch_sample_type.bits());
        to.int(self.sample_regs_user);
        to.int(self.sample_stack_user);
        to.int(self.clockid);
        to.int(self.sample_regs_intr);
        to.int(self.aux_watermark);
        to.int(self.sample_max_stack);
        to.int(0_u16);
        to.int(self.aux_sample_size);
        to.int(match order {
            ByteOrder::Little => self.aux_action,
            ByteOrder::Big => self.aux_action.reverse_bits(),
        });
        to.int(self.sig_data);
        to.int(self.config3);
        to.int(self.config4);
        debug_assert_eq!(to.len(), Self::SIZE);
        bytes.truncate(size);
        bytes
    }
}
