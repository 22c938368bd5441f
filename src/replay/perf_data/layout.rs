//! The header of a `perf.data` file, and the sections that it names.

use crate::record::ByteOrder;
use crate::record::bytes::int_at;
use std::fmt;

/// What a little-endian file starts with; one of the other byte order starts with the same, reversed.
pub(crate) const MAGIC: [u8; 8] = *b"PERFILE2";

/// A part of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Section {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// Bytes in it.
    pub size: u64,
}

impl Section {
    /// Bytes that describe a section.
    pub(crate) const SIZE: usize = 16;

    /// Reads what says where a section is.
    pub(crate) fn from_bytes(bytes: &[u8], at: usize, order: ByteOrder) -> Option<Self> {
        Some(Self { offset: int_at(bytes, at, order)?, size: int_at(bytes, at.checked_add(8)?, order)? })
    }

    /// Whether it is inside a file of `len` bytes.
    pub(crate) fn is_inside(self, len: u64) -> bool {
        self.end().is_some_and(|end| end <= len)
    }

    /// Where it ends; none if that is not a number.
    pub fn end(self) -> Option<u64> {
        self.offset.checked_add(self.size)
    }
}

/// `struct perf_file_header`: what a file starts with. A pipe has only the first 16 bytes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The byte order of all that follows.
    pub order: ByteOrder,
    /// Bytes in an entry of `attrs`: those of a `perf_event_attr`, and the 16 that say where its ids are.
    pub attr_size: u64,
    /// The events.
    pub attrs: Section,
    /// The records. A recorder that was killed leaves the size 0.
    pub data: Section,
    /// Not written any more.
    pub event_types: Section,
    /// Which feature sections there are. A table behind the records says where.
    pub features: Features,
}

impl FileHeader {
    /// Bytes in the header of a file.
    pub const SIZE: usize = 104;
    /// Bytes in the header of a pipe.
    pub const PIPE_SIZE: usize = 16;

    /// The header as it stands in a file.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let sections = [self.attrs, self.data, self.event_types].into_iter().flat_map(|part| [part.offset, part.size]);
        let words = [u64::from_le_bytes(MAGIC), Self::SIZE as u64, self.attr_size]
            .into_iter()
            .chain(sections)
            .chain(self.features.0);
        let mut bytes = [0; Self::SIZE];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&self.word(word));
        }
        bytes
    }

    /// The header as it stands in a pipe.
    pub fn to_pipe_bytes(&self) -> [u8; Self::PIPE_SIZE] {
        let mut bytes = [0; Self::PIPE_SIZE];
        for (place, word) in bytes.chunks_exact_mut(8).zip([u64::from_le_bytes(MAGIC), Self::PIPE_SIZE as u64]) {
            place.copy_from_slice(&self.word(word));
        }
        bytes
    }

    fn word(&self, word: u64) -> [u8; 8] {
        match self.order {
            ByteOrder::Little => word.to_le_bytes(),
            ByteOrder::Big => word.to_be_bytes(),
        }
    }

    /// The byte order that the first 8 bytes stand for, if they are those of a recording.
    pub fn order_of(magic: [u8; 8]) -> Option<ByteOrder> {
        let mut reversed = MAGIC;
        reversed.reverse();
        match magic {
            MAGIC => Some(ByteOrder::Little),
            _ if magic == reversed => Some(ByteOrder::Big),
            _ => None,
        }
    }

    /// Reads the header of a file. None if it is not one, or shorter.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let order = Self::order_of(*bytes.first_chunk()?)?;
        let word = |at| int_at::<u64>(bytes, at, order);
        Some(Self {
            order,
            attr_size: word(16)?,
            attrs: Section::from_bytes(bytes, 24, order)?,
            data: Section::from_bytes(bytes, 40, order)?,
            event_types: Section::from_bytes(bytes, 56, order)?,
            features: Features([word(72)?, word(80)?, word(88)?, word(96)?]),
        })
    }
}

/// A set of features: `adds_features` of the header, 256 bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features(pub(crate) [u64; 4]);

impl Features {
    /// Features that fit.
    pub const CAPACITY: u8 = 255;

    /// Whether the set has this feature.
    pub fn contains(&self, feature: FeatureId) -> bool {
        self.0[usize::from(feature.0 / 64)] >> (feature.0 % 64) & 1 == 1
    }

    /// Adds a feature.
    pub fn insert(&mut self, feature: FeatureId) {
        self.0[usize::from(feature.0 / 64)] |= 1 << (feature.0 % 64);
    }

    /// The features, in ascending order: that of the table.
    pub fn iter(&self) -> impl Iterator<Item = FeatureId> + use<> {
        let set = *self;
        (0..=Self::CAPACITY).map(FeatureId).filter(move |feature| set.contains(*feature))
    }
}

impl FromIterator<FeatureId> for Features {
    fn from_iter<I: IntoIterator<Item = FeatureId>>(features: I) -> Self {
        let mut set = Self::default();
        features.into_iter().for_each(|feature| set.insert(feature));
        set
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A feature: the bit of the header that says that its section is there (`HEADER_*` of perf).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeatureId(pub u8);

macro_rules! features {
    ($($(#[$doc:meta])+ $name:ident = $bit:literal;)+) => {
        impl FeatureId {
            $($(#[$doc])+ pub const $name: Self = Self($bit);)+

            /// All that this crate knows, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name that perf has for it, without `HEADER_`, if it is known.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($bit => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

features! {
    /// The formats of tracepoints.
    TRACING_DATA = 1;
    /// The build ids of the files that were mapped.
    BUILD_ID = 2;
    /// The name of the machine.
    HOSTNAME = 3;
    /// The kernel's release.
    OSRELEASE = 4;
    /// The version of the recorder.
    VERSION = 5;
    /// The machine's architecture, as `uname -m` has it.
    ARCH = 6;
    /// CPUs there are, and CPUs online.
    NRCPUS = 7;
    /// The CPU in words.
    CPUDESC = 8;
    /// The CPU as vendor, family, model and stepping.
    CPUID = 9;
    /// The memory, in KiB.
    TOTAL_MEM = 10;
    /// The command that recorded.
    CMDLINE = 11;
    /// The events, with their names and ids.
    EVENT_DESC = 12;
    /// Which CPUs share a core, a die, a socket.
    CPU_TOPOLOGY = 13;
    /// The nodes of memory and their CPUs.
    NUMA_TOPOLOGY = 14;
    /// Samples have branch stacks. The section is empty.
    BRANCH_STACK = 15;
    /// The names of the PMUs.
    PMU_MAPPINGS = 16;
    /// The groups of events.
    GROUP_DESC = 17;
    /// Where the data of the AUX area are.
    AUXTRACE = 18;
    /// It is the recording of counters. The section is empty.
    STAT = 19;
    /// The CPU's caches.
    CACHE = 20;
    /// The times of the first and the last sample.
    SAMPLE_TIME = 21;
    /// Which blocks of memory are whose.
    MEM_TOPOLOGY = 22;
    /// The resolution of the clock of the times.
    CLOCKID = 23;
    /// The recording is a directory.
    DIR_FORMAT = 24;
    /// BPF programs.
    BPF_PROG_INFO = 25;
    /// Types of BPF programs.
    BPF_BTF = 26;
    /// How records are compressed.
    COMPRESSED = 27;
    /// What the CPU's PMU can do.
    CPU_PMU_CAPS = 28;
    /// What the clock of the times showed at a time of day.
    CLOCK_DATA = 29;
    /// Which CPUs are of which kind.
    HYBRID_TOPOLOGY = 30;
    /// What PMUs can do.
    PMU_CAPS = 31;
    /// The scheduler's domains of each CPU.
    CPU_DOMAIN_INFO = 32;
    /// The machine type of the programs, as ELF has it.
    E_MACHINE = 33;
    /// Bytes in a line of the cache.
    CLN_SIZE = 34;
}

impl fmt::Display for FeatureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl fmt::Debug for FeatureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
