#![allow(unsafe_code, missing_docs)]
use super::*;
use crate::bpf::memory::{self, Readable};
use crate::bpf::program_type::ProgramType;
use crate::sync::epoch::Guard;
use std::cell::Cell;
use std::sync::Arc;
bitflags::bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct MapFlags: u32 { const RDONLY_PROG = 1 << 7; const WRONLY_PROG = 1 << 8; }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapType {
    Hash = 1,
    Array = 2,
    ProgArray = 3,
    PerfEventArray = 4,
    PercpuHash = 5,
    PercpuArray = 6,
    LruHash = 9,
    Ringbuf = 27,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDef {
    pub name: String,
    pub type_: MapType,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: MapFlags,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpdateFlags {
    Any,
    NoExist,
    Exist,
}
impl TryFrom<u64> for UpdateFlags {
    type Error = MapError;
    fn try_from(v: u64) -> Result<Self, MapError> {
        match v {
            0 => Ok(Self::Any),
            1 => Ok(Self::NoExist),
            2 => Ok(Self::Exist),
            _ => Err(MapError::Invalid),
        }
    }
}
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    #[error("invalid")]
    Invalid,
    #[error("index")]
    Index,
}
impl MapError {
    pub fn errno(&self) -> i32 {
        match self {
            Self::Invalid => libc::EINVAL,
            Self::Index => libc::E2BIG,
        }
    }
}
pub struct Values {
    words: Box<[Cell<u64>]>,
    stride: usize,
    size: usize,
}
unsafe impl Send for Values {}
unsafe impl Sync for Values {}
impl Values {
    pub fn address(&self, slot: usize, _cpu: usize) -> u64 {
        self.words.as_ptr().expose_provenance() as u64 + (slot * self.stride) as u64
    }
    pub fn find(&self, address: u64) -> Option<(u64, usize)> {
        let base = self.address(0, 0);
        let off = address.checked_sub(base)?;
        if off >= (self.words.len() * 8) as u64 {
            return None;
        }
        let slot = off as usize / self.stride;
        (off as usize % self.stride < self.size).then(|| (base + (slot * self.stride) as u64, self.size))
    }
}
enum Kind {
    Array(Values),
    Programs(Programs),
    Events(Events),
    Ringbuf(RingBuffer),
}
struct Inner {
    def: MapDef,
    kind: Kind,
}
#[derive(Clone)]
pub struct Map(Arc<Inner>);
impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.def.fmt(f)
    }
}
impl Map {
    pub fn new(def: &MapDef, _cpus: usize) -> Result<Self, MapError> {
        let kind = match def.type_ {
            MapType::Array => {
                let stride = (def.value_size as usize).next_multiple_of(8);
                Kind::Array(Values {
                    words: vec![Cell::new(0); stride / 8 * def.max_entries as usize].into(),
                    stride,
                    size: def.value_size as usize,
                })
            }
            MapType::PerfEventArray => Kind::Events(Events::new(def.max_entries)),
            MapType::Ringbuf => Kind::Ringbuf(RingBuffer::new(def.max_entries)?),
            _ => return Err(MapError::Invalid),
        };
        Ok(Self(Arc::new(Inner { def: def.clone(), kind })))
    }
    pub fn def(&self) -> &MapDef {
        &self.0.def
    }
    pub fn values(&self) -> Option<&Values> {
        match &self.0.kind {
            Kind::Array(v) => Some(v),
            _ => None,
        }
    }
    pub fn lookup_address(&self, key: &[u8], _cpu: usize, _guard: &Guard) -> Option<u64> {
        let i = u32::from_ne_bytes(key.try_into().ok()?);
        (i < self.0.def.max_entries).then(|| self.values().map(|v| v.address(i as usize, 0))).flatten()
    }
    pub fn update_from(
        &self,
        key: &[u8],
        cpu: usize,
        value: Readable,
        _flags: UpdateFlags,
        guard: &Guard,
    ) -> Result<(), MapError> {
        let a = self.lookup_address(key, cpu, guard).ok_or(MapError::Index)?;
        let mut b = vec![0; value.len()];
        value.copy_out(&mut b);
        unsafe { memory::copy_in(a, &b) };
        Ok(())
    }
    pub fn delete_from(&self, _key: &[u8], _guard: &Guard) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }
    pub fn owner(&self) -> Option<&ProgramType> {
        self.prog_array().map(|p| p.owner())
    }
    pub(crate) fn prog_array(&self) -> Option<&Programs> {
        match &self.0.kind {
            Kind::Programs(p) => Some(p),
            _ => None,
        }
    }
    pub(crate) fn events(&self) -> Option<&Events> {
        match &self.0.kind {
            Kind::Events(p) => Some(p),
            _ => None,
        }
    }
    pub(crate) fn ringbuf(&self) -> Option<&RingBuffer> {
        match &self.0.kind {
            Kind::Ringbuf(p) => Some(p),
            _ => None,
        }
    }
    pub(crate) fn is_read_only_for_programs(&self) -> bool {
        self.0.def.flags.contains(MapFlags::RDONLY_PROG)
    }
}
