//! From an object to maps and programs that can be run.

mod error;

pub use error::LoaderError;

use super::btf::Btf;
use super::btf::core::Relocator;
use super::elf::{MapKind, MapSpec, Object, ProgramKind, ProgramSpec};
use super::helper::Helpers;
use super::machine::Machine;
use super::map::{Map, MapDef, MapFlags, MapType, UpdateFlags};
use super::program::Program;
use super::program_type::ProgramType;
use super::verifier::VerifyOptions;
use crate::record::ByteOrder;
use std::collections::{BTreeMap, BTreeSet};

/// Loads an object for a machine.
///
/// ```no_run
/// use perfring::bpf::{Context, Loader, Machine};
/// use perfring::bpf::elf::Object;
///
/// let object = Object::parse(&std::fs::read("tracer.bpf.o")?)?;
/// let machine = Machine::new(4);
/// let loaded = Loader::new(&object, &machine).global("verbose", &[1]).load()?;
/// let mut registers = [0; 168];
/// machine.run(&loaded.programs["entry"], Context::new(&mut registers))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Loader<'a> {
    object: &'a Object,
    cpus: usize,
    helpers: Helpers,
    only: Option<BTreeSet<&'a str>>,
    types: BTreeMap<&'a str, &'a ProgramType>,
    dtrace: Option<&'a ProgramType>,
    default_type: Option<&'a ProgramType>,
    owners: BTreeMap<&'a str, &'a ProgramType>,
    given: BTreeMap<&'a str, Map>,
    globals: Vec<(&'a str, Vec<u8>)>,
    verify: Option<VerifyOptions>,
    target: Option<&'a Btf>,
}

/// What was loaded.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Loaded {
    /// The maps, by their names.
    pub maps: BTreeMap<String, Map>,
    /// The programs, by their names.
    pub programs: BTreeMap<String, Program>,
}

impl<'a> Loader<'a> {
    /// Loads `object` for `machine`: per-CPU maps have a value for each of its CPUs.
    pub fn new(object: &'a Object, machine: &Machine) -> Self {
        Self {
            object,
            cpus: machine.cpus(),
            helpers: Helpers::standard().clone(),
            only: None,
            types: BTreeMap::new(),
            dtrace: None,
            default_type: None,
            owners: BTreeMap::new(),
            given: BTreeMap::new(),
            globals: Vec::new(),
            verify: None,
            target: None,
        }
    }

    /// The helpers that there are. Without this those of [`Helpers::standard`].
    #[must_use]
    pub fn helpers(mut self, helpers: &Helpers) -> Self {
        self.helpers = helpers.clone();
        self
    }

    /// Loads this program, and others that are named so, and no more; also one whose section starts with `?`.
    #[must_use]
    pub fn only(mut self, program: &'a str) -> Self {
        self.only.get_or_insert_default().insert(program);
        self
    }

    /// The type of a program, whatever its section says.
    #[must_use]
    pub fn type_of(mut self, program: &'a str, type_: &'a ProgramType) -> Self {
        self.types.insert(program, type_);
        self
    }

    /// The type of programs in sections `dtrace/<n>`.
    #[must_use]
    pub fn dtrace(mut self, type_: &'a ProgramType) -> Self {
        self.dtrace = Some(type_);
        self
    }

    /// The type of programs whose section does not say it.
    #[must_use]
    pub fn default_type(mut self, type_: &'a ProgramType) -> Self {
        self.default_type = Some(type_);
        self
    }

    /// The type of the programs of a program array, where the object has none for it.
    #[must_use]
    pub fn owner(mut self, map: &'a str, type_: &'a ProgramType) -> Self {
        self.owners.insert(map, type_);
        self
    }

    /// Takes this map for the one that the object describes under the name: one that several objects share, say.
    #[must_use]
    pub fn map(mut self, name: &'a str, map: &Map) -> Self {
        self.given.insert(name, map.clone());
        self
    }

    /// What a variable of the object starts with, in the machine's byte order: those of `.rodata` cannot be changed later.
    #[must_use]
    pub fn global(mut self, name: &'a str, value: impl Into<Vec<u8>>) -> Self {
        self.globals.push((name, value.into()));
        self
    }

    /// The types of the platform, for programs that depend on their layout ([`btf::core`](super::btf::core)): those of the running
    /// kernel, say ([`Btf::of_running_kernel`]). What of a program asks for what the platform has not got is loaded, and must not be
    /// reached: the verifier refuses it, and the interpreter stops there. Without them such programs are not loaded.
    #[must_use]
    pub fn target_types(mut self, target: &'a Btf) -> Self {
        self.target = Some(target);
        self
    }

    /// Verifies all programs, also those in slots of program arrays: what is loaded runs without tests.
    #[must_use]
    pub fn verify(mut self, options: &VerifyOptions) -> Self {
        self.verify = Some(options.clone());
        self
    }

    /// Makes the maps, and loads the programs.
    ///
    /// # Errors
    /// [`LoaderError`]
    pub fn load(self) -> Result<Loaded, LoaderError> {
        if self.object.byte_order != ByteOrder::NATIVE {
            return Err(LoaderError::ByteOrder(self.object.byte_order));
        }
        if let Some(target) = self.target
            && target.byte_order() != ByteOrder::NATIVE
        {
            return Err(LoaderError::TargetByteOrder(target.byte_order()));
        }
        let mut typed = Vec::new();
        for program in &self.object.programs {
            let wanted = self.only.as_ref().is_none_or(|only| only.contains(program.name.as_str()));
            let named = self.only.is_some();
            if wanted && (named || program.section_name().autoload) {
                typed.push((program, self.type_for(program)?));
            }
        }
        let data = self.data()?;
        let slots = self.slots(&typed)?;
        let mut maps = Vec::new();
        for (index, spec) in self.object.maps.iter().enumerate() {
            let map = self.make(spec, data.get(&index).map(Vec::as_slice), slots.get(spec.name.as_str()), &typed)?;
            maps.push(map);
        }
        let mut loaded = Loaded::default();
        let mut relocator = self.object.btf.as_ref().map(|local| Relocator::new(local, self.target));
        for (spec, type_) in &typed {
            loaded.programs.insert(spec.name.clone(), self.program(spec, type_, &maps, relocator.as_mut())?);
        }
        for (spec, map) in self.object.maps.iter().zip(&maps) {
            for (slot, program) in slots.get(spec.name.as_str()).into_iter().flatten() {
                let error = |error| LoaderError::Map { map: spec.name.clone(), error };
                map.set_program(*slot, loaded.programs.get(*program)).map_err(error)?;
            }
            loaded.maps.insert(spec.name.clone(), map.clone());
        }
        Ok(loaded)
    }

    fn type_for(&self, program: &ProgramSpec) -> Result<&'a ProgramType, LoaderError> {
        use ProgramKind::{
            Dtrace, Kprobe, Kretprobe, Kretsyscall, Ksyscall, PerfEvent, RawTracepoint, Socket, Tracepoint, Uprobe,
            Uretprobe, Xdp,
        };
        if let Some(type_) = self.types.get(program.name.as_str()) {
            return Ok(type_);
        }
        let type_ = match program.section_name().kind {
            Some(Kprobe | Kretprobe | Ksyscall | Kretsyscall | Uprobe | Uretprobe) => Some(ProgramType::kprobe()),
            Some(Tracepoint) => Some(ProgramType::tracepoint()),
            Some(RawTracepoint) => Some(ProgramType::raw_tracepoint()),
            Some(PerfEvent) => Some(ProgramType::perf_event()),
            Some(Xdp) => Some(ProgramType::xdp()),
            Some(Socket) => Some(ProgramType::socket_filter()),
            Some(Dtrace { .. }) => self.dtrace,
            None => self.default_type,
        };
        type_.ok_or_else(|| LoaderError::NoType { program: program.name.clone(), section: program.section.clone() })
    }

    /// What the values of data start with, by the indices of their maps.
    fn data(&self) -> Result<BTreeMap<usize, Vec<u8>>, LoaderError> {
        let mut data = BTreeMap::new();
        for (index, spec) in self.object.maps.iter().enumerate() {
            if let MapKind::Data { bytes, .. } = &spec.kind {
                // Values are zero at first: of a section that is not in the file, however large, nothing is to be stored.
                let set = self
                    .object
                    .globals
                    .iter()
                    .any(|global| global.map == index && self.globals.iter().any(|(name, _)| *name == global.name));
                if set || !bytes.is_empty() {
                    let mut value = bytes.clone();
                    value.resize(spec.value_size as usize, 0);
                    data.insert(index, value);
                }
            }
        }
        for (name, value) in &self.globals {
            let global = self.object.globals.iter().find(|global| global.name == *name);
            let global = global.ok_or_else(|| LoaderError::NoGlobal { name: (*name).to_owned() })?;
            let (offset, size) = (global.offset as usize, global.size as usize);
            let place = data.get_mut(&global.map).and_then(|bytes| bytes.get_mut(offset..)?.get_mut(..size));
            match place {
                Some(place) if place.len() == value.len() => place.copy_from_slice(value),
                _ => {
                    let name = (*name).to_owned();
                    return Err(LoaderError::GlobalSize { name, size: global.size, given: value.len() });
                }
            }
        }
        Ok(data)
    }

    /// The programs of the program arrays, by their slots: those that the object puts there, and those of sections
    /// `dtrace/<n>`, which go into the one array that has none yet.
    fn slots(
        &self,
        typed: &[(&'a ProgramSpec, &'a ProgramType)],
    ) -> Result<BTreeMap<&'a str, BTreeMap<u32, &'a str>>, LoaderError> {
        let mut slots: BTreeMap<&str, BTreeMap<u32, &str>> = BTreeMap::new();
        let is_array = |spec: &&MapSpec| spec.type_ == MapType::ProgArray as u32;
        for spec in self.object.maps.iter().filter(is_array) {
            for (slot, program) in &spec.values {
                if !self.object.programs.iter().any(|other| other.name == *program) {
                    let (map, program) = (spec.name.clone(), program.clone());
                    return Err(LoaderError::NoProgram { map, slot: *slot, program });
                }
                // One that is not wanted leaves its slot empty.
                if typed.iter().any(|(other, _)| other.name == *program) {
                    slots.entry(&spec.name).or_default().insert(*slot, program);
                }
            }
        }
        let numbered = typed.iter().filter_map(|(program, _)| match program.section_name().kind {
            Some(ProgramKind::Dtrace { slot }) => Some((slot?, program.name.as_str())),
            _ => None,
        });
        let numbered: Vec<_> = numbered.collect();
        let free = |spec: &&MapSpec| spec.values.is_empty() && !self.owners.contains_key(spec.name.as_str());
        let mut candidates = self.object.maps.iter().filter(is_array).filter(free);
        if let (false, Some(array)) = (numbered.is_empty(), candidates.next()) {
            if let Some(second) = candidates.next() {
                return Err(LoaderError::TwoArrays { first: array.name.clone(), second: second.name.clone() });
            }
            for (slot, program) in numbered {
                if let Some(first) = slots.entry(&array.name).or_default().insert(slot, program) {
                    let (map, first, second) = (array.name.clone(), first.to_owned(), program.to_owned());
                    return Err(LoaderError::SlotTwice { map, slot, first, second });
                }
            }
        }
        Ok(slots)
    }

    fn make(
        &self,
        spec: &MapSpec,
        data: Option<&[u8]>,
        slots: Option<&BTreeMap<u32, &'a str>>,
        typed: &[(&'a ProgramSpec, &'a ProgramType)],
    ) -> Result<Map, LoaderError> {
        let name = || spec.name.clone();
        let error = |error| LoaderError::Map { map: name(), error };
        let type_ = MapType::from_number(spec.type_).ok_or(LoaderError::MapType { map: name(), type_: spec.type_ })?;
        let all_cpus = type_ == MapType::PerfEventArray && spec.max_entries == 0;
        let def = MapDef {
            name: name(),
            type_,
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: if all_cpus { self.cpus as u32 } else { spec.max_entries },
            flags: MapFlags::from_bits_retain(spec.flags),
        };
        if let Some(given) = self.given.get(spec.name.as_str()) {
            let text = |def: &MapDef| {
                format!(
                    "{}, key {}, value {}, entries {}",
                    def.type_.name(),
                    def.key_size,
                    def.value_size,
                    def.max_entries
                )
            };
            let (given_def, sizes) = (given.def(), |def: &MapDef| (def.type_, def.key_size, def.value_size));
            if sizes(given_def) != sizes(&def) {
                return Err(LoaderError::GivenMap { map: name(), given: text(given_def), described: text(&def) });
            }
            return Ok(given.clone());
        }
        if type_ == MapType::ProgArray {
            let first = slots.and_then(|slots| slots.values().next());
            let of_programs = first.and_then(|first| typed.iter().find(|(program, _)| program.name == **first));
            let owner = self.owners.get(spec.name.as_str()).copied().or(of_programs.map(|(_, type_)| *type_));
            let owner = owner.ok_or_else(|| LoaderError::NoOwner { map: name() })?;
            return Map::prog_array(&def, owner).map_err(error);
        }
        let map = Map::new(&def, self.cpus).map_err(error)?;
        if let Some(data) = data {
            map.update(&0_u32.to_ne_bytes(), data, UpdateFlags::Any).map_err(error)?;
        }
        if matches!(spec.kind, MapKind::Data { .. }) && map.is_read_only_for_programs() {
            map.freeze();
        }
        Ok(map)
    }

    fn program(
        &self,
        spec: &ProgramSpec,
        type_: &ProgramType,
        maps: &[Map],
        relocator: Option<&mut Relocator<'_>>,
    ) -> Result<Program, LoaderError> {
        let lines = spec.lines.clone();
        let line = move |insn: usize| {
            let line = lines.at(insn).filter(|line| line.line != 0)?;
            Some(format!("{}:{}: {}", line.file, line.line, line.text.trim()))
        };
        let mut insns = spec.insns.clone();
        let mut unresolved = Vec::new();
        // An object without types has no relocations of them.
        if let Some(relocator) = relocator {
            unresolved = relocator.apply(&mut insns, &spec.core_relos).map_err(|error| LoaderError::CoreRelo {
                program: spec.name.clone(),
                line: line(error.insn),
                error: Box::new(error),
            })?;
        }
        // Of the object's maps those that the program has, by new indices.
        let mut own: Vec<usize> = spec.maps.iter().map(|(_, map)| *map).collect();
        own.sort_unstable();
        own.dedup();
        for (insn, map) in &spec.maps {
            if let (Some(insn), Ok(index)) = (insns.get_mut(*insn), own.binary_search(map)) {
                insn.imm = index as i32;
            }
        }
        let builder = Program::builder(&spec.name, type_)
            .maps(own.iter().filter_map(|map| maps.get(*map).cloned()))
            .helpers(&self.helpers)
            .license(self.object.license.as_deref().unwrap_or_default())
            .lines(line);
        let builder =
            unresolved.iter().fold(builder, |builder, error| builder.unresolved(error.insn, error.to_string()));
        let program = builder.load(insns)?;
        match &self.verify {
            Some(options) => {
                let verified = program.verify(options).map_err(|error| LoaderError::Refused(Box::new(error)))?;
                Ok(verified.program().clone())
            }
            None => Ok(program),
        }
    }
}
