//! What a map is made with.

use super::MapError;

/// The most bytes of a key (`MAX_BPF_STACK`).
pub(crate) const MAX_KEY_SIZE: u32 = 512;

macro_rules! types {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// The kinds of maps that there are here, by their uapi numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum MapType {
            $($(#[$meta])* $name = $number,)*
        }

        impl MapType {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kind with this uapi number.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The kind with this name: the uapi's in lower case, without its prefix.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The uapi's name in lower case, without its prefix.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

types! {
    /// `BPF_MAP_TYPE_HASH`
    Hash = 1, "hash";
    /// `BPF_MAP_TYPE_ARRAY`
    Array = 2, "array";
    /// `BPF_MAP_TYPE_PROG_ARRAY`: programs, for tail calls.
    ProgArray = 3, "prog_array";
    /// `BPF_MAP_TYPE_PERF_EVENT_ARRAY`: events, which are rings here.
    PerfEventArray = 4, "perf_event_array";
    /// `BPF_MAP_TYPE_PERCPU_HASH`
    PercpuHash = 5, "percpu_hash";
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PercpuArray = 6, "percpu_array";
    /// `BPF_MAP_TYPE_LRU_HASH`: when it is full, what was not used for long gives way.
    LruHash = 9, "lru_hash";
    /// `BPF_MAP_TYPE_RINGBUF`: a ring that all CPUs write.
    Ringbuf = 27, "ringbuf";
}

impl MapType {
    /// Whether each CPU has values of its own.
    pub const fn is_percpu(self) -> bool {
        matches!(self, Self::PercpuHash | Self::PercpuArray)
    }

    /// Whether its keys are indices.
    pub const fn is_array(self) -> bool {
        matches!(self, Self::Array | Self::PercpuArray | Self::ProgArray | Self::PerfEventArray)
    }

    /// Whether it finds its elements by hashing their keys.
    pub(crate) const fn is_hash(self) -> bool {
        matches!(self, Self::Hash | Self::PercpuHash | Self::LruHash)
    }

    /// Whether programs look up, update and delete its values.
    pub const fn is_data(self) -> bool {
        matches!(self, Self::Hash | Self::Array | Self::PercpuHash | Self::PercpuArray | Self::LruHash)
    }
}

bitflags::bitflags! {
    /// `BPF_F_*` flags of the creation of maps, by their uapi names.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MapFlags: u32 {
        /// Memory for elements is taken when they come. Here that is always so: what is not touched costs nothing.
        const NO_PREALLOC = 1;
        /// Read-only from Rust, which is the side of the system call.
        const RDONLY = 1 << 3;
        /// Write-only from Rust.
        const WRONLY = 1 << 4;
        /// Keys are hashed without a seed.
        const ZERO_SEED = 1 << 6;
        /// Read-only for programs.
        const RDONLY_PROG = 1 << 7;
        /// Write-only for programs.
        const WRONLY_PROG = 1 << 8;
        /// The values of an array can be mapped into user space: nothing to be done here.
        const MMAPABLE = 1 << 10;
        const _ = !0;
    }
}

impl MapFlags {
    /// The flags that a map of this kind may have.
    pub(crate) fn allowed(type_: MapType) -> Self {
        let access = Self::RDONLY | Self::WRONLY | Self::RDONLY_PROG | Self::WRONLY_PROG;
        match type_ {
            MapType::Hash | MapType::PercpuHash => access | Self::NO_PREALLOC | Self::ZERO_SEED,
            MapType::LruHash => access | Self::ZERO_SEED,
            MapType::Array => access | Self::MMAPABLE,
            MapType::PercpuArray => access,
            MapType::ProgArray | MapType::PerfEventArray => Self::RDONLY | Self::WRONLY,
            MapType::Ringbuf => Self::empty(),
        }
    }
}

/// What is done where the key of an update is there, or is not (`BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UpdateFlags {
    /// The element is made, or replaced.
    #[default]
    Any,
    /// The element is made; it is an error if it is there.
    NoExist,
    /// The element is replaced; it is an error if it is not there.
    Exist,
}

impl TryFrom<u64> for UpdateFlags {
    type Error = MapError;

    fn try_from(flags: u64) -> Result<Self, MapError> {
        match flags {
            0 => Ok(Self::Any),
            1 => Ok(Self::NoExist),
            2 => Ok(Self::Exist),
            _ => Err(MapError::UpdateFlags { flags }),
        }
    }
}

/// What a map is made with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapDef {
    /// The name, for messages.
    pub name: String,
    /// The kind.
    pub type_: MapType,
    /// Bytes in a key: 4 for arrays, 0 for ring buffers.
    pub key_size: u32,
    /// Bytes in a value: 4 for arrays of programs and of events, 0 for ring buffers.
    pub value_size: u32,
    /// The most elements; of a ring buffer the bytes.
    pub max_entries: u32,
    /// Flags.
    pub flags: MapFlags,
}

impl MapDef {
    /// A map of this kind, without flags.
    pub fn new(name: &str, type_: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        Self { name: name.to_owned(), type_, key_size, value_size, max_entries, flags: MapFlags::empty() }
    }

    /// An array of values of so many bytes.
    pub fn array(name: &str, value_size: u32, max_entries: u32) -> Self {
        Self::new(name, MapType::Array, 4, value_size, max_entries)
    }

    /// A hash.
    pub fn hash(name: &str, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        Self::new(name, MapType::Hash, key_size, value_size, max_entries)
    }

    /// An array of programs. [`Map::prog_array`](super::Map::prog_array) makes it, as it has a type of programs.
    pub fn prog_array(name: &str, max_entries: u32) -> Self {
        Self::new(name, MapType::ProgArray, 4, 4, max_entries)
    }

    /// An array of events.
    pub fn perf_event_array(name: &str, max_entries: u32) -> Self {
        Self::new(name, MapType::PerfEventArray, 4, 4, max_entries)
    }

    /// A ring buffer of so many bytes.
    pub fn ringbuf(name: &str, bytes: u32) -> Self {
        Self::new(name, MapType::Ringbuf, 0, 0, bytes)
    }

    /// The same with these flags.
    #[must_use]
    pub fn flags(mut self, flags: MapFlags) -> Self {
        self.flags = flags;
        self
    }
}
