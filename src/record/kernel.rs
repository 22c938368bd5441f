//! The records that the kernel writes, but for samples.

use crate::record::bytes::{Cursor, Field, Text, Words, Writer, wire};
use crate::record::{Callchain, Defect, DefectKind, EncodeError, ReadFormat, ReadValues};
use std::fmt;

wire! {
    /// `MMAP`: an executable mapping, or any with `mmap_data`.
    pub struct Mmap<'a> {
        /// The process; -1 as `u32` for the kernel's own.
        pub pid: u32,
        /// The thread.
        pub tid: u32,
        /// Where it begins.
        pub addr: u64,
        /// Its bytes.
        pub len: u64,
        /// Where in the file it begins, in bytes.
        pub pgoff: u64,
        /// The file, or a name such as `[vdso]` or `//anon`.
        pub filename: Text<'a>,
    }

    /// `MMAP2`: as [`Mmap`], with more of the file.
    pub struct Mmap2<'a> {
        /// The process; -1 as `u32` for the kernel's own.
        pub pid: u32,
        /// The thread.
        pub tid: u32,
        /// Where it begins.
        pub addr: u64,
        /// Its bytes.
        pub len: u64,
        /// Where in the file it begins, in bytes.
        pub pgoff: u64,
        /// Which file it is.
        pub file: MappedFile,
        /// `PROT_*` of mmap(2).
        pub prot: u32,
        /// `MAP_*` of mmap(2).
        pub flags: u32,
        /// The file, or a name such as `[vdso]` or `//anon`.
        pub filename: Text<'a>,
    }

    /// `LOST`: records that found no space in the ring.
    pub struct Lost {
        /// The id of the event that found space again.
        pub id: u64,
        /// How many records were lost.
        pub lost: u64,
    }

    /// `COMM`: a task's name.
    pub struct Comm<'a> {
        /// The process.
        pub pid: u32,
        /// The thread.
        pub tid: u32,
        /// The name: at most 15 bytes from the kernel.
        pub comm: Text<'a>,
    }

    /// `FORK` and `EXIT`: a task begins, or ends.
    pub struct Task {
        /// The process.
        pub pid: u32,
        /// The parent's process.
        pub ppid: u32,
        /// The thread.
        pub tid: u32,
        /// The parent's thread.
        pub ptid: u32,
        /// When, in nanoseconds by the event's clock.
        pub time: u64,
    }

    /// `THROTTLE` and `UNTHROTTLE`: samples are held back because there were too many, or come again.
    pub struct Throttle {
        /// When, in nanoseconds by the event's clock.
        pub time: u64,
        /// The event's id, that of the parent if it was inherited.
        pub id: u64,
        /// The id of the very event.
        pub stream_id: u64,
    }

    /// `AUX`: new data in the AUX area.
    pub struct Aux {
        /// Where they begin: a position that grows for ever.
        pub aux_offset: u64,
        /// Their bytes.
        pub aux_size: u64,
        /// `PERF_AUX_FLAG_*`.
        pub flags: AuxFlags,
    }

    /// `ITRACE_START`: a hardware trace of a task begins.
    pub struct ItraceStart {
        /// The process.
        pub pid: u32,
        /// The thread.
        pub tid: u32,
    }

    /// `LOST_SAMPLES`: samples that the hardware lost.
    pub struct LostSamples {
        /// How many.
        pub lost: u64,
    }

    /// `SWITCH`: a context switch of the observed task; [`Misc::SWITCH_OUT`](crate::record::Misc::SWITCH_OUT) says which way.
    pub struct Switch {}

    /// `SWITCH_CPU_WIDE`: a context switch on the observed CPU; the task itself stands in the trailer.
    pub struct SwitchCpuWide {
        /// The process switched to, or from, as [`Misc::SWITCH_OUT`](crate::record::Misc::SWITCH_OUT) says.
        pub next_prev_pid: u32,
        /// The thread switched to, or from.
        pub next_prev_tid: u32,
    }

    /// `KSYMBOL`: a symbol of the kernel came or went.
    pub struct Ksymbol<'a> {
        /// Where its code begins.
        pub addr: u64,
        /// Bytes of its code.
        pub len: u32,
        /// `PERF_RECORD_KSYMBOL_TYPE_*`: 1 is a BPF program, 2 other code out of line.
        pub ksym_type: u16,
        /// 1 (`PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER`) if it went.
        pub flags: u16,
        /// Its name.
        pub name: Text<'a>,
    }

    /// `BPF_EVENT`: a BPF program came or went.
    pub struct BpfEvent {
        /// `PERF_BPF_EVENT_*`: 1 is that it was loaded, 2 that it was unloaded.
        pub type_: u16,
        /// None are defined.
        pub flags: u16,
        /// The program's id.
        pub id: u32,
        /// The program's tag.
        pub tag: [u8; 8],
    }

    /// `CGROUP`: a cgroup of the perf_event subsystem.
    pub struct Cgroup<'a> {
        /// Its id, as in [`Sample::cgroup`](crate::record::Sample::cgroup).
        pub id: u64,
        /// Its path from the root of the hierarchy.
        pub path: Text<'a>,
    }

    /// `AUX_OUTPUT_HW_ID`: what the hardware calls an event whose data are in the AUX area.
    pub struct AuxOutputHwId {
        /// The hardware's id.
        pub hw_id: u64,
    }
}

/// `NAMESPACES`: the namespaces of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespaces<'a> {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Device and inode of each: [`Namespaces::iter`].
    pub links: Words<'a>,
}

/// A namespace as a file of `/proc/PID/ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// The device.
    pub dev: u64,
    /// The inode.
    pub inode: u64,
}

impl<'a> Namespaces<'a> {
    /// The names in `/proc/PID/ns`, in the order of the record.
    pub const NAMES: [&'static str; 7] = ["net", "uts", "ipc", "pid", "user", "mnt", "cgroup"];

    /// The namespaces, in the order of [`NAMES`](Self::NAMES); a newer kernel may have more.
    pub fn iter(&self) -> impl Iterator<Item = Namespace> + use<'a> {
        let links = self.links;
        (0..links.len() / 2)
            .map_while(move |index| Some(Namespace { dev: links.get(2 * index)?, inode: links.get(2 * index + 1)? }))
    }
}

impl<'a> Field<'a> for Namespaces<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let (pid, tid) = (from.int("pid")?, from.int("tid")?);
        let count: u64 = from.int("nr_namespaces")?;
        Ok(Self { pid, tid, links: from.words(count.saturating_mul(2), "link_info")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        if !self.links.len().is_multiple_of(2) {
            return Err(EncodeError::Shape { field: "link_info", what: "two words a namespace" });
        }
        to.int(self.pid);
        to.int(self.tid);
        to.int(self.links.len() as u64 / 2);
        to.words(self.links);
        Ok(())
    }
}

/// `TEXT_POKE`: the kernel changed its own code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TextPoke<'a> {
    /// Where.
    pub addr: u64,
    /// What was there; empty for new code.
    pub old: &'a [u8],
    /// What is there now; empty for code that went.
    pub new: &'a [u8],
}

impl fmt::Debug for TextPoke<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextPoke {{ addr: {:#x}, old: {:02x?}, new: {:02x?} }}", self.addr, self.old, self.new)
    }
}

impl<'a> Field<'a> for TextPoke<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let addr = from.int("addr")?;
        let (old_len, new_len): (u16, u16) = (from.int("old_len")?, from.int("new_len")?);
        let old = from.take(old_len.into(), "bytes")?;
        let new = from.take(new_len.into(), "bytes")?;
        // Up to the next multiple of 8, which the end of the record is, too.
        let padding = (12 + old.len() + new.len()).next_multiple_of(8) - (12 + old.len() + new.len());
        from.take(padding.min(from.rest().len()) as u64, "bytes")?;
        Ok(Self { addr, old, new })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        let len = |bytes: &[u8]| u16::try_from(bytes.len()).map_err(|_| EncodeError::TooLarge { size: bytes.len() });
        let (old_len, new_len) = (len(self.old)?, len(self.new)?);
        to.int(self.addr);
        to.int(old_len);
        to.int(new_len);
        to.bytes(self.old);
        to.bytes(self.new);
        to.pad();
        Ok(())
    }
}

/// `CALLCHAIN_DEFERRED`: the user part of the call chains of samples before it, taken when the task went back to user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallchainDeferred<'a> {
    /// The word that stands behind [`USER_DEFERRED`](crate::record::CallchainContext::USER_DEFERRED) in those samples.
    pub cookie: u64,
    /// The user part.
    pub callchain: Callchain<'a>,
}

impl<'a> Field<'a> for CallchainDeferred<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let cookie = from.int("cookie")?;
        let count = from.int("nr")?;
        Ok(Self { cookie, callchain: from.words(count, "ips")?.into() })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.int(self.cookie);
        to.int(self.callchain.len() as u64);
        to.words(self.callchain.words());
        Ok(())
    }
}

/// `READ`: the counters of a task that ended, with `inherit_stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read<'a> {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The counters.
    pub values: ReadValues<'a>,
}

impl<'a> Read<'a> {
    pub(crate) fn get(from: &mut Cursor<'a>, format: ReadFormat) -> Result<Self, Defect> {
        Ok(Self { pid: from.int("pid")?, tid: from.int("tid")?, values: ReadValues::get(from, format)? })
    }

    pub(crate) fn put(&self, to: &mut Writer<'_>, format: ReadFormat) -> Result<(), EncodeError> {
        to.int(self.pid);
        to.int(self.tid);
        self.values.put(to, format)
    }
}

bitflags::bitflags! {
    /// `PERF_AUX_FLAG_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AuxFlags: u64 {
        /// The data were cut off to fit.
        const TRUNCATED = 1;
        /// A snapshot: the data overwrote older ones.
        const OVERWRITE = 1 << 1;
        /// The data have gaps.
        const PARTIAL = 1 << 2;
        /// A sample collided with another one.
        const COLLISION = 1 << 3;
        /// The bits in which the PMU says in what format the data are.
        const PMU_FORMAT_TYPE_MASK = 0xff00;
        const _ = !0;
    }
}

impl Field<'_> for AuxFlags {
    fn get(from: &mut Cursor<'_>, name: &'static str) -> Result<Self, Defect> {
        from.int(name).map(Self::from_bits_retain)
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.int(self.bits());
        Ok(())
    }
}

/// Which file an [`Mmap2`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MappedFile {
    /// By device and inode.
    Inode {
        /// The device's major number.
        maj: u32,
        /// The device's minor number.
        min: u32,
        /// The inode.
        ino: u64,
        /// How often the inode was used.
        ino_generation: u64,
    },
    /// By build id, with [`Misc::MMAP_BUILD_ID`](crate::record::Misc::MMAP_BUILD_ID).
    BuildId(BuildId),
}

/// Reads a file by inode: which of the two it is stands in the header, so [`Mmap2::by_build_id`] reads the other.
impl Field<'_> for MappedFile {
    fn get(from: &mut Cursor<'_>, _: &'static str) -> Result<Self, Defect> {
        Ok(Self::Inode {
            maj: from.int("maj")?,
            min: from.int("min")?,
            ino: from.int("ino")?,
            ino_generation: from.int("ino_generation")?,
        })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        match *self {
            Self::Inode { maj, min, ino, ino_generation } => {
                to.int(maj);
                to.int(min);
                to.int(ino);
                to.int(ino_generation);
            }
            Self::BuildId(id) => {
                to.bytes(&[id.size, 0, 0, 0]);
                to.bytes(&id.bytes);
            }
        }
        Ok(())
    }
}

impl<'a> Mmap2<'a> {
    /// Reads one whose header has [`Misc::MMAP_BUILD_ID`](crate::record::Misc::MMAP_BUILD_ID).
    pub(crate) fn by_build_id(from: &mut Cursor<'a>) -> Result<Self, Defect> {
        const FILE: usize = 32;
        let mut id = *from;
        id.take(FILE as u64, "pgoff")?;
        let size: u8 = id.int("build_id_size")?;
        id.take(3, "build_id")?;
        let bytes = <[u8; BuildId::MAX]>::get(&mut id, "build_id")?;
        let id = BuildId::new(bytes.get(..usize::from(size)).unwrap_or(&[0; BuildId::MAX + 1])).ok_or(Defect {
            offset: FILE,
            field: "build_id_size",
            kind: DefectKind::Value { value: size.into() },
        })?;
        Ok(Self { file: MappedFile::BuildId(id), ..Self::get(from, "mmap2")? })
    }
}

/// A build id: at most 20 bytes that tell a file from all others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BuildId {
    size: u8,
    bytes: [u8; BuildId::MAX],
}

impl BuildId {
    /// The most bytes.
    pub const MAX: usize = 20;

    /// A build id of these bytes, if they are not too many.
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { size: id.len() as u8, bytes })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.size)).unwrap_or_default()
    }
}

/// In hexadecimal digits, as file(1) shows it.
impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
