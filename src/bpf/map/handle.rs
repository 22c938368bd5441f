//! Maps, from Rust.

use super::array::Array;
use super::events::Events;
use super::hash::{Hash, Source};
use super::order::Site;
use super::programs::Programs;
use super::ringbuf::RingBuffer;
use super::values::Values;
use super::{MapDef, MapError, MapFlags, MapType, UpdateFlags, def};
use crate::bpf::memory::Readable;
use crate::bpf::program::Program;
use crate::bpf::program_type::ProgramType;
use crate::bpf::reentry;
use crate::ring::Consumer;
use crate::sync::epoch::{self, Guard};
use crate::sync::{self, AtomicBool, Mutex};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The first size of a key and its value in a hash that the kernel does not have: what it allocates at once, less its own.
const MAX_ELEMENT_SIZE: u32 = (4 << 20) - 48;
/// How often an update from Rust looks for slots that come back: at once, and after a millisecond each time.
const LOOKS: usize = 8;
const LOOKS_LATER: usize = 100;
/// Buckets that a batch walks under one guard.
const BUCKETS_AT_ONCE: usize = 256;

enum Kind {
    Array(Array),
    Hash(Hash),
    Programs(Programs),
    Events(Events),
    Ring(RingBuffer),
}

struct Inner {
    def: MapDef,
    cpus: usize,
    kind: Kind,
    frozen: AtomicBool,
    /// Of a map that programs can't write: held by who updates it, from the look at `frozen` on until all is stored.
    writing: Mutex<()>,
}

/// A map. Cheap to clone: the clones are one map, which any number of threads use at once.
///
/// ```
/// use perfring::bpf::map::{Map, MapDef, UpdateFlags};
///
/// let map = Map::new(&MapDef::hash("counts", 4, 8, 100), 1)?;
/// map.update(&7_u32.to_ne_bytes(), &1_u64.to_ne_bytes(), UpdateFlags::Any)?;
/// assert_eq!(map.lookup(&7_u32.to_ne_bytes())?.as_deref(), Some(&1_u64.to_ne_bytes()[..]));
/// map.delete(&7_u32.to_ne_bytes())?;
/// assert_eq!(map.lookup(&7_u32.to_ne_bytes())?, None);
/// # Ok::<(), perfring::bpf::map::MapError>(())
/// ```
#[derive(Clone)]
pub struct Map {
    inner: Arc<Inner>,
    /// Of an array of programs: when the last handle is gone, so are the programs, which may have the map themselves.
    _user: Option<Arc<User>>,
}

struct User(Weak<Inner>);

impl Drop for User {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade()
            && let Kind::Programs(programs) = &inner.kind
        {
            programs.clear();
        }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Map").field(&self.inner.def).finish()
    }
}

/// What a batch gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Keys and values.
    pub elements: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where to go on; none at the end.
    pub next: Option<usize>,
}

fn check(def: &MapDef) -> Result<(), MapError> {
    let MapDef { type_, key_size, value_size, max_entries, flags, .. } = *def;
    let flags_refused = || MapError::Flags { type_, flags };
    if !MapFlags::allowed(type_).contains(flags)
        || flags.contains(MapFlags::RDONLY | MapFlags::WRONLY)
        || flags.contains(MapFlags::RDONLY_PROG | MapFlags::WRONLY_PROG)
    {
        return Err(flags_refused());
    }
    let (key, value) = match type_ {
        MapType::Ringbuf => (key_size == 0, value_size == 0),
        MapType::ProgArray | MapType::PerfEventArray => (key_size == 4, value_size == 4),
        MapType::Array | MapType::PercpuArray => (key_size == 4, (1..=i32::MAX as u32).contains(&value_size)),
        MapType::Hash | MapType::PercpuHash | MapType::LruHash => (
            (1..=def::MAX_KEY_SIZE).contains(&key_size),
            value_size > 0 && value_size < MAX_ELEMENT_SIZE - key_size.min(def::MAX_KEY_SIZE),
        ),
    };
    // What is too large is told only of what is nothing worse.
    if !key && !(type_.is_hash() && key_size > 0 && (value_size == 0 || max_entries == 0)) {
        return Err(MapError::KeySize { type_, size: key_size });
    }
    if !value {
        return Err(MapError::ValueSize { type_, size: value_size });
    }
    if max_entries == 0 {
        return Err(MapError::MaxEntries { type_, entries: max_entries });
    }
    // The kernel's limit for memory of a CPU.
    if type_.is_percpu() && value_size.next_multiple_of(8) > 32 << 10 {
        return Err(MapError::ValueSize { type_, size: value_size });
    }
    Ok(())
}

impl Map {
    /// A map, with a value for each of `cpus` CPUs where it is per-CPU: as many as the machine has on which its programs run.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn new(def: &MapDef, cpus: usize) -> Result<Self, MapError> {
        check(def)?;
        let copies = def.type_.is_percpu().then_some(cpus.max(1));
        let seeded = !def.flags.contains(MapFlags::ZERO_SEED);
        let kind = match def.type_ {
            MapType::Array | MapType::PercpuArray => Kind::Array(Array::new(def.value_size, def.max_entries, copies)?),
            MapType::Hash | MapType::PercpuHash | MapType::LruHash => {
                let lru = def.type_ == MapType::LruHash;
                Kind::Hash(Hash::new(def.key_size, def.value_size, def.max_entries, copies, lru, seeded)?)
            }
            MapType::PerfEventArray => Kind::Events(Events::new(def.max_entries)?),
            MapType::Ringbuf => Kind::Ring(RingBuffer::new(def.max_entries)?),
            MapType::ProgArray => return Err(MapError::NoOwner),
        };
        Ok(Self::with(def, cpus, kind))
    }

    /// An array of programs of the type `owner`, for tail calls.
    ///
    /// When the last handle of the map is gone it is emptied, whatever programs still have it: as in the kernel, where a
    /// program in it may lead back to it.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn prog_array(def: &MapDef, owner: &ProgramType) -> Result<Self, MapError> {
        check(def)?;
        if def.type_ != MapType::ProgArray {
            return Err(MapError::Unsupported { type_: def.type_, operation: "programs" });
        }
        let mut this = Self::with(def, 1, Kind::Programs(Programs::new(owner, def.max_entries)?));
        this._user = Some(Arc::new(User(Arc::downgrade(&this.inner))));
        Ok(this)
    }

    fn with(def: &MapDef, cpus: usize, kind: Kind) -> Self {
        let (frozen, writing) = (AtomicBool::new(false), Mutex::new(()));
        let inner = Inner { def: def.clone(), cpus: cpus.max(1), kind, frozen, writing };
        Self { inner: Arc::new(inner), _user: None }
    }

    /// The same map, for a program: it does not keep an array of programs filled.
    pub(crate) fn for_program(&self) -> Self {
        Self { inner: self.inner.clone(), _user: None }
    }

    /// What it was made with.
    pub fn def(&self) -> &MapDef {
        &self.inner.def
    }

    /// Whether two handles are those of one map.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// For how many CPUs it was made.
    pub fn cpus(&self) -> usize {
        self.inner.cpus
    }

    /// Of an array of programs, their type.
    pub fn owner(&self) -> Option<&ProgramType> {
        self.programs().map(Programs::owner)
    }

    /// From now on Rust can't change it any more.
    pub fn freeze(&self) {
        self.inner.frozen.store(true, Site::Frozen.order());
    }

    fn unsupported(&self, operation: &'static str) -> MapError {
        MapError::Unsupported { type_: self.def().type_, operation }
    }

    fn may_read(&self) -> Result<(), MapError> {
        if self.def().flags.contains(MapFlags::WRONLY) {
            return Err(MapError::Permission { what: "read" });
        }
        Ok(())
    }

    fn may_write(&self) -> Result<(), MapError> {
        if self.def().flags.contains(MapFlags::RDONLY) || self.inner.frozen.load(Site::Frozen.order()) {
            return Err(MapError::Permission { what: "written" });
        }
        Ok(())
    }

    fn check_key(&self, key: &[u8]) -> Result<(), MapError> {
        let expected = self.def().key_size as usize;
        if key.len() == expected { Ok(()) } else { Err(MapError::Key { size: key.len(), expected }) }
    }

    /// Bytes of a value from Rust: of per-CPU kinds those of all CPUs, each rounded up to 8.
    pub fn value_size(&self) -> usize {
        self.data().map_or(self.def().value_size as usize, Values::copied_size)
    }

    /// Where values lie, of kinds that have some.
    fn data(&self) -> Option<&Values> {
        match &self.inner.kind {
            Kind::Array(array) => Some(array.values()),
            Kind::Hash(hash) => Some(hash.values()),
            _ => None,
        }
    }

    /// The value of a key; none if the key is not there. `BPF_MAP_LOOKUP_ELEM`.
    ///
    /// # Errors
    /// [`MapError`]: a key of another size, a map that may not be read, a kind without values.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        let mut value = vec![0; self.value_size()];
        Ok(self.lookup_into(key, &mut value)?.then_some(value))
    }

    /// Copies the value of a key to `to`; false if the key is not there.
    ///
    /// # Errors
    /// [`MapError`], as for [`lookup`](Self::lookup), and where `to` is not as long as a value.
    pub fn lookup_into(&self, key: &[u8], to: &mut [u8]) -> Result<bool, MapError> {
        let values = self.data().ok_or_else(|| self.unsupported("lookup"))?;
        self.may_read()?;
        self.check_key(key)?;
        if to.len() != values.copied_size() {
            return Err(MapError::Value { size: to.len(), expected: values.copied_size() });
        }
        let _locked = reentry::lock().map_err(|_| MapError::Busy)?;
        let guard = epoch::pin();
        let slot = match &self.inner.kind {
            Kind::Array(array) => array.slot(key),
            Kind::Hash(hash) => hash.find(key, &guard),
            _ => None,
        };
        slot.inspect(|slot| values.read_all(*slot, to));
        Ok(slot.is_some())
    }

    /// Makes or replaces an element. `BPF_MAP_UPDATE_ELEM`.
    ///
    /// Where a hash has no memory left, as a great many elements are gone that programs may still look at, this waits for them,
    /// for about a tenth of a second at the most.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn update(&self, key: &[u8], value: &[u8], flags: UpdateFlags) -> Result<(), MapError> {
        let values = self.data().ok_or_else(|| self.unsupported("update"))?;
        self.may_write()?;
        self.check_key(key)?;
        if value.len() != values.copied_size() {
            return Err(MapError::Value { size: value.len(), expected: values.copied_size() });
        }
        let _locked = reentry::lock().map_err(|_| MapError::Busy)?;
        let _writing = self.is_read_only_for_programs().then(|| sync::lock(&self.inner.writing));
        self.may_write()?;
        let mut looks = 0;
        loop {
            let result = self.store(key, Source::Bytes(value), flags, &epoch::pin());
            // Elements that are gone are given back as guards come and go.
            if !matches!(result, Err(MapError::NoElement { .. })) || looks == LOOKS + LOOKS_LATER {
                return result;
            }
            epoch::pin().flush();
            if looks < LOOKS {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
            looks += 1;
        }
    }

    fn store(&self, key: &[u8], from: Source<'_>, flags: UpdateFlags, guard: &Guard) -> Result<(), MapError> {
        match &self.inner.kind {
            Kind::Array(array) => array.update(key, from, flags),
            Kind::Hash(hash) => hash.update(key, from, flags, guard),
            _ => Err(self.unsupported("update")),
        }
    }

    /// Deletes an element. `BPF_MAP_DELETE_ELEM`.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.may_write()?;
        self.check_key(key)?;
        match &self.inner.kind {
            Kind::Array(_) => Err(MapError::Delete),
            Kind::Hash(hash) => {
                let _locked = reentry::lock().map_err(|_| MapError::Busy)?;
                hash.delete(key, &epoch::pin())
            }
            Kind::Programs(programs) => {
                let index = key.try_into().map_or(u32::MAX, u32::from_ne_bytes);
                let _locked = reentry::lock().map_err(|_| MapError::Busy)?;
                if programs.set(index, None)? { Ok(()) } else { Err(MapError::NotFound) }
            }
            _ => Err(self.unsupported("delete")),
        }
    }

    /// Deletes an element, and gives its value; none if it is not there. `BPF_MAP_LOOKUP_AND_DELETE_ELEM`.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn lookup_and_delete(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        self.may_read()?;
        self.may_write()?;
        let Kind::Hash(hash) = &self.inner.kind else { return Err(self.unsupported("lookup_and_delete")) };
        self.check_key(key)?;
        let mut value = vec![0; self.value_size()];
        let _locked = reentry::lock().map_err(|_| MapError::Busy)?;
        match hash.take(key, &epoch::pin(), |slot| hash.values().read_all(slot, &mut value)) {
            Ok(()) => Ok(Some(value)),
            Err(MapError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The key behind `key` in the order in which the map happens to have them; the first one where `key` is none, or is not
    /// there. None at the end. `BPF_MAP_GET_NEXT_KEY`.
    ///
    /// Who walks a map that others change may see keys twice; [`iter`](Self::iter) does not go round for ever.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        self.may_read()?;
        key.map_or(Ok(()), |key| self.check_key(key))?;
        match &self.inner.kind {
            Kind::Hash(hash) => {
                let _locked = reentry::lock().map_err(|_| MapError::Busy)?;
                let mut bucket = 0;
                if let Some(key) = key {
                    let own = hash.bucket(key);
                    let keys = hash.keys(own, &epoch::pin());
                    if let Some(at) = keys.iter().position(|(other, _)| other == key) {
                        if let Some((next, _)) = keys.into_iter().nth(at + 1) {
                            return Ok(Some(next));
                        }
                        bucket = own + 1;
                    }
                }
                Ok((bucket..hash.buckets())
                    .find_map(|bucket| hash.keys(bucket, &epoch::pin()).into_iter().next())
                    .map(|(key, _)| key))
            }
            Kind::Array(_) | Kind::Programs(_) | Kind::Events(_) => {
                let index = key.and_then(|key| key.try_into().ok()).map(u32::from_ne_bytes);
                let entries = self.def().max_entries;
                Ok(match index {
                    Some(index) if index < entries => Some(index + 1).filter(|next| *next < entries),
                    _ => Some(0),
                }
                .map(|next| next.to_ne_bytes().to_vec()))
            }
            Kind::Ring(_) => Err(self.unsupported("next_key")),
        }
    }

    /// Keys and values, as they are found. It ends, whatever others do meanwhile; what is there all the time is found once.
    pub fn iter(&self) -> Elements<'_> {
        Elements { map: self, next: Some(0), found: Vec::new().into_iter() }
    }

    /// The elements from a place on, at least `most` of them where there are as many, and all of a bucket; `from` is 0, or what
    /// the batch before said. `BPF_MAP_LOOKUP_BATCH`.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn lookup_batch(&self, from: usize, most: usize) -> Result<Batch, MapError> {
        self.batch(from, most, false)
    }

    /// The same, and they are deleted: each is given to one caller. `BPF_MAP_LOOKUP_AND_DELETE_BATCH`.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn lookup_and_delete_batch(&self, from: usize, most: usize) -> Result<Batch, MapError> {
        self.may_write()?;
        self.batch(from, most, true)
    }

    fn batch(&self, from: usize, most: usize, delete: bool) -> Result<Batch, MapError> {
        self.may_read()?;
        let values = self.data().ok_or_else(|| self.unsupported("batch"))?;
        let _locked = reentry::lock().map_err(|_| MapError::Busy)?;
        let mut batch = Batch::default();
        let mut at = from;
        let read = |slot: usize| {
            let mut value = vec![0; values.copied_size()];
            values.read_all(slot, &mut value);
            value
        };
        match &self.inner.kind {
            Kind::Array(_) if delete => return Err(self.unsupported("lookup_and_delete_batch")),
            Kind::Array(_) => {
                let entries = self.def().max_entries as usize;
                while at < entries && batch.elements.len() < most {
                    batch.elements.push(((at as u32).to_ne_bytes().to_vec(), read(at)));
                    at += 1;
                }
                batch.next = (at < entries).then_some(at);
            }
            Kind::Hash(hash) => {
                while at < hash.buckets() && batch.elements.len() < most {
                    // Elements that are gone are not kept from being given back for the time of a long walk.
                    let guard = epoch::pin();
                    let part = hash.buckets().min(at + BUCKETS_AT_ONCE);
                    while at < part && batch.elements.len() < most {
                        for (key, slot) in hash.keys(at, &guard) {
                            if !delete {
                                batch.elements.push((key, read(slot)));
                            } else if let Ok(value) = hash.take(&key, &guard, read) {
                                batch.elements.push((key, value));
                            }
                        }
                        at += 1;
                    }
                }
                batch.next = (at < hash.buckets()).then_some(at);
            }
            _ => return Err(self.unsupported("batch")),
        }
        Ok(batch)
    }

    /// Makes or replaces elements; the error says how many were before the one that failed. `BPF_MAP_UPDATE_BATCH`.
    ///
    /// # Errors
    /// How many were done, and [`MapError`].
    pub fn update_batch<'a>(
        &self,
        elements: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        flags: UpdateFlags,
    ) -> Result<usize, (usize, MapError)> {
        let mut done = 0;
        for (key, value) in elements {
            self.update(key, value, flags).map_err(|error| (done, error))?;
            done += 1;
        }
        Ok(done)
    }

    /// Deletes elements; the error says how many were before the one that failed. `BPF_MAP_DELETE_BATCH`.
    ///
    /// # Errors
    /// How many were done, and [`MapError`].
    pub fn delete_batch<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<usize, (usize, MapError)> {
        if !self.def().type_.is_hash() {
            return Err((0, self.unsupported("delete_batch")));
        }
        let mut done = 0;
        for key in keys {
            self.delete(key).map_err(|error| (done, error))?;
            done += 1;
        }
        Ok(done)
    }

    /// Elements of a hash that there are now; of an array all that there can be.
    pub fn len(&self) -> usize {
        match &self.inner.kind {
            Kind::Hash(hash) => hash.len() as usize,
            Kind::Ring(_) => 0,
            _ => self.def().max_entries as usize,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a program into an array of programs, or takes one out.
    ///
    /// # Errors
    /// [`MapError`]: a program of another type than the array has, no such slot.
    pub fn set_program(&self, index: u32, program: Option<&Program>) -> Result<(), MapError> {
        let programs = self.programs().ok_or_else(|| self.unsupported("programs"))?;
        self.may_write()?;
        let _locked = reentry::lock().map_err(|_| MapError::Busy)?;
        programs.set(index, program.cloned()).map(drop)
    }

    /// The consumer of a ring buffer: there is one, and it is given once.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn take_consumer(&self) -> Result<Option<Consumer>, MapError> {
        self.ringbuf().map(RingBuffer::take_consumer).ok_or_else(|| self.unsupported("consumer"))
    }

    /// The address of a value, for a program on this CPU; none where it has none. Elements of arrays are always there, and need no
    /// guard.
    #[inline]
    pub(crate) fn lookup_address<'g>(&self, key: &[u8], cpu: usize, guard: impl FnOnce() -> &'g Guard) -> Option<u64> {
        self.check_cpu(cpu).ok()?;
        match &self.inner.kind {
            Kind::Array(array) => Some(array.values().address(array.slot(key)?, cpu)),
            Kind::Hash(hash) => Some(hash.values().address(hash.lookup(key, guard())?, cpu)),
            _ => None,
        }
    }

    /// The array that the map is, if it is one.
    #[inline]
    pub(crate) fn array(&self) -> Option<&Array> {
        match &self.inner.kind {
            Kind::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Whether there are values of this CPU.
    fn check_cpu(&self, cpu: usize) -> Result<(), MapError> {
        let cpus = self.cpus();
        if self.def().type_.is_percpu() && cpu >= cpus { Err(MapError::Cpu { cpu, cpus }) } else { Ok(()) }
    }

    /// Makes or replaces an element, for a program on this CPU.
    pub(crate) fn update_from(
        &self,
        key: &[u8],
        cpu: usize,
        value: Readable,
        flags: UpdateFlags,
        guard: &Guard,
    ) -> Result<(), MapError> {
        if self.def().flags.contains(MapFlags::RDONLY_PROG) {
            return Err(MapError::Permission { what: "written" });
        }
        self.check_cpu(cpu)?;
        let _locked = reentry::lock().map_err(|_| MapError::Busy)?;
        self.store(key, Source::Program(value, cpu), flags, guard)
    }

    /// Deletes an element, for a program.
    pub(crate) fn delete_from(&self, key: &[u8], guard: &Guard) -> Result<(), MapError> {
        if self.def().flags.contains(MapFlags::RDONLY_PROG) {
            return Err(MapError::Permission { what: "written" });
        }
        let Kind::Hash(hash) = &self.inner.kind else { return Err(MapError::Delete) };
        let _locked = reentry::lock().map_err(|_| MapError::Busy)?;
        hash.delete(key, guard)
    }

    /// Where values lie that programs may have the addresses of.
    pub(crate) fn values(&self) -> Option<&Values> {
        self.data()
    }

    pub(crate) fn programs(&self) -> Option<&Programs> {
        match &self.inner.kind {
            Kind::Programs(programs) => Some(programs),
            _ => None,
        }
    }

    pub(crate) fn events(&self) -> Option<&Events> {
        match &self.inner.kind {
            Kind::Events(events) => Some(events),
            _ => None,
        }
    }

    pub(crate) fn ringbuf(&self) -> Option<&RingBuffer> {
        match &self.inner.kind {
            Kind::Ring(ring) => Some(ring),
            _ => None,
        }
    }

    /// Whether there is something that programs can't do with values.
    pub(crate) fn restricts_programs(&self) -> bool {
        self.def().flags.intersects(MapFlags::RDONLY_PROG | MapFlags::WRONLY_PROG)
    }

    /// Whether the values of this array are what they are for good: programs can't write it, Rust can't any more, and no update is
    /// left that began when it could.
    pub(crate) fn is_constant(&self) -> bool {
        if self.def().type_ != MapType::Array || !self.is_read_only_for_programs() {
            return false;
        }
        // An update in which this thread was interrupted would be waited for by itself.
        let Ok(_locked) = reentry::lock() else { return false };
        // Updates that looked before have stored what they store; those that look later find it frozen, too.
        let _writing = sync::lock(&self.inner.writing);
        self.inner.frozen.load(Site::Frozen.order())
    }

    /// Whether programs can't write it.
    pub(crate) fn is_read_only_for_programs(&self) -> bool {
        self.def().flags.contains(MapFlags::RDONLY_PROG)
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = Result<(Vec<u8>, Vec<u8>), MapError>;
    type IntoIter = Elements<'a>;

    fn into_iter(self) -> Elements<'a> {
        self.iter()
    }
}

/// The elements of a map: [`Map::iter`].
#[derive(Debug)]
pub struct Elements<'a> {
    map: &'a Map,
    next: Option<usize>,
    found: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
}

impl Iterator for Elements<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(element) = self.found.next() {
                return Some(Ok(element));
            }
            match self.map.lookup_batch(self.next?, 64) {
                Ok(batch) => (self.found, self.next) = (batch.elements.into_iter(), batch.next),
                Err(error) => {
                    self.next = None;
                    return Some(Err(error));
                }
            }
        }
    }
}
