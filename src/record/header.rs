//! The header that every record starts with, and the types of records.

use crate::record::bytes::int_at;
use crate::record::{ByteOrder, DecodeError, DefectKind};
use std::fmt;

/// `struct perf_event_header`: the first 8 bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The record's type.
    pub type_: RecordType,
    /// What else is known of it.
    pub misc: Misc,
    /// Bytes in the record, this header included.
    pub size: u16,
}

impl Header {
    /// Bytes in a header.
    pub const SIZE: usize = 8;

    /// Reads a header. Fewer than 8 bytes give none.
    #[inline]
    pub fn from_bytes(bytes: &[u8], order: ByteOrder) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = bytes.first_chunk()?;
        Some(Self {
            type_: RecordType(int_at(bytes, 0, order)?),
            misc: Misc::from_bits_retain(int_at(bytes, 4, order)?),
            size: int_at(bytes, 6, order)?,
        })
    }

    /// The header as it stands in a record.
    pub fn to_bytes(self, order: ByteOrder) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (type_, misc, size) = match order {
            ByteOrder::Little => (self.type_.0.to_le_bytes(), self.misc.bits().to_le_bytes(), self.size.to_le_bytes()),
            ByteOrder::Big => (self.type_.0.to_be_bytes(), self.misc.bits().to_be_bytes(), self.size.to_be_bytes()),
        };
        bytes[..4].copy_from_slice(&type_);
        bytes[4..6].copy_from_slice(&misc);
        bytes[6..].copy_from_slice(&size);
        bytes
    }

    /// Splits a record into its header and its body.
    ///
    /// # Errors
    ///
    /// [`DefectKind::Truncated`] without a whole header, [`DefectKind::Size`] when `record` is not as long as the header
    /// says.
    #[inline]
    pub fn split(record: &[u8], order: ByteOrder) -> Result<(Self, &[u8]), DecodeError> {
        match (Self::from_bytes(record, order), record.get(Self::SIZE..)) {
            (Some(header), Some(body)) if usize::from(header.size) == record.len() => Ok((header, body)),
            (header, _) => Err(Self::damaged(header, record.len())),
        }
    }

    #[cold]
    fn damaged(header: Option<Self>, len: usize) -> DecodeError {
        match header {
            None => DecodeError {
                type_: RecordType(0),
                offset: 0,
                field: "header",
                kind: DefectKind::Truncated { needed: Self::SIZE as u64, left: len },
            },
            Some(header) => DecodeError {
                type_: header.type_,
                offset: 6,
                field: "size",
                kind: DefectKind::Size { size: header.size, len },
            },
        }
    }
}

bitflags::bitflags! {
    /// `misc` of a header. Some bits mean different things in records of different types.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Misc: u16 {
        /// The bits of the [`CpuMode`].
        const CPUMODE_MASK = 7;
        /// Reading `/proc/PID/maps` took too long, and some mappings are missing (`perf` writes such records).
        const PROC_MAP_PARSE_TIMEOUT = 1 << 12;
        /// `MMAP`: a mapping that is not executable.
        const MMAP_DATA = 1 << 13;
        /// `COMM`: the name comes from an exec.
        const COMM_EXEC = 1 << 13;
        /// `FORK`: `perf` made the record up for a task that already ran, whose mappings are not those of its parent.
        const FORK_EXEC = 1 << 13;
        /// `SWITCH` and `SWITCH_CPU_WIDE`: away from the task.
        const SWITCH_OUT = 1 << 13;
        /// `SAMPLE`: `ip` is exactly the instruction that made the event.
        const EXACT_IP = 1 << 14;
        /// `SWITCH` and `SWITCH_CPU_WIDE`: the task was runnable.
        const SWITCH_OUT_PREEMPT = 1 << 14;
        /// `MMAP2`: there is a build id instead of device and inode.
        const MMAP_BUILD_ID = 1 << 14;
        /// Reserved for later use by the kernel.
        const EXT_RESERVED = 1 << 15;
        const _ = !0;
    }
}

impl Misc {
    /// In which mode the CPU was.
    pub fn cpumode(self) -> CpuMode {
        match self.bits() & Self::CPUMODE_MASK.bits() {
            0 => CpuMode::Unknown,
            1 => CpuMode::Kernel,
            2 => CpuMode::User,
            3 => CpuMode::Hypervisor,
            4 => CpuMode::GuestKernel,
            5 => CpuMode::GuestUser,
            other => CpuMode::Other(other as u8),
        }
    }
}

/// In which mode the CPU was when the record came about (`PERF_RECORD_MISC_CPUMODE_MASK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CpuMode {
    /// Not known.
    Unknown,
    /// In the kernel.
    Kernel,
    /// In user space.
    User,
    /// In the hypervisor.
    Hypervisor,
    /// In the kernel of a guest.
    GuestKernel,
    /// In user space of a guest.
    GuestUser,
    /// A value that the uapi does not define: 6 or 7.
    Other(u8),
}

/// `type` of a record: `PERF_RECORD_*`.
///
/// ```
/// use perfring::record::RecordType;
/// assert_eq!(RecordType::MMAP2.to_string(), "MMAP2");
/// assert_eq!(RecordType(9), RecordType::SAMPLE);
/// assert_eq!(RecordType(4000).to_string(), "4000");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordType(pub u32);

macro_rules! record_types {
    ($($(#[$doc:meta])+ $name:ident = $value:literal;)+) => {
        impl RecordType {
            $($(#[$doc])+ pub const $name: Self = Self($value);)+

            /// All that this crate knows, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The uapi name without `PERF_RECORD_`, if there is one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

record_types! {
    /// An executable mapping.
    MMAP = 1;
    /// Records that found no space.
    LOST = 2;
    /// A task's name.
    COMM = 3;
    /// The end of a task.
    EXIT = 4;
    /// Samples are held back.
    THROTTLE = 5;
    /// Samples come again.
    UNTHROTTLE = 6;
    /// A new task.
    FORK = 7;
    /// The counters of a task that ended.
    READ = 8;
    /// A sample.
    SAMPLE = 9;
    /// An executable mapping, with device and inode, or build id.
    MMAP2 = 10;
    /// New data in the AUX area.
    AUX = 11;
    /// A hardware trace begins.
    ITRACE_START = 12;
    /// Samples that the hardware lost.
    LOST_SAMPLES = 13;
    /// A context switch of the task that is observed.
    SWITCH = 14;
    /// A context switch on the CPU that is observed.
    SWITCH_CPU_WIDE = 15;
    /// The namespaces of a task.
    NAMESPACES = 16;
    /// A symbol of the kernel came or went.
    KSYMBOL = 17;
    /// A BPF program came or went.
    BPF_EVENT = 18;
    /// A new cgroup.
    CGROUP = 19;
    /// The kernel changed its own code.
    TEXT_POKE = 20;
    /// What the hardware calls an event whose data are in the AUX area.
    AUX_OUTPUT_HW_ID = 21;
    /// The user part of a call chain that a sample before it left out.
    CALLCHAIN_DEFERRED = 22;
    /// An event's attribute.
    HEADER_ATTR = 64;
    /// An event's name; not written any more.
    HEADER_EVENT_TYPE = 65;
    /// The formats of tracepoints; their bytes follow the record.
    HEADER_TRACING_DATA = 66;
    /// The build id of a file.
    HEADER_BUILD_ID = 67;
    /// Everything up to the round before may be sorted.
    FINISHED_ROUND = 68;
    /// Which id belongs to which event, CPU and task.
    ID_INDEX = 69;
    /// What decodes the data of the AUX area.
    AUXTRACE_INFO = 70;
    /// Data of the AUX area; they follow the record.
    AUXTRACE = 71;
    /// A defect in the data of the AUX area.
    AUXTRACE_ERROR = 72;
    /// Threads that are observed.
    THREAD_MAP = 73;
    /// CPUs that are observed.
    CPU_MAP = 74;
    /// How counters are shown.
    STAT_CONFIG = 75;
    /// A counter's value.
    STAT = 76;
    /// The end of a round of counters.
    STAT_ROUND = 77;
    /// What is known of an event beyond its attribute.
    EVENT_UPDATE = 78;
    /// How the CPU's time becomes that of the records.
    TIME_CONV = 79;
    /// A feature section of the file header.
    HEADER_FEATURE = 80;
    /// Compressed records.
    COMPRESSED = 81;
    /// All that was there before recording is described.
    FINISHED_INIT = 82;
    /// Compressed records, padded.
    COMPRESSED2 = 83;
    /// What is known of a BPF program.
    BPF_METADATA = 84;
    /// Statistics of the scheduler for a CPU.
    SCHEDSTAT_CPU = 85;
    /// Statistics of the scheduler for a domain.
    SCHEDSTAT_DOMAIN = 86;
}

impl RecordType {
    /// The first of the types that `perf` defines for its files; the kernel's are smaller.
    pub const USER_TYPE_START: Self = Self(64);

    /// Whether the kernel writes such records, rather than `perf`.
    #[inline]
    pub const fn is_kernel(self) -> bool {
        self.0 < Self::USER_TYPE_START.0
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
