//! Objects, and how their programs are chosen and loaded.

use crate::command::output::Failure;
use perfring::bpf::btf::Btf;
use perfring::bpf::elf::{Object, ProgramKind, ProgramSpec, types};
use perfring::bpf::map::MapType;
use perfring::bpf::{Loaded, Loader, LoaderError, Machine, ProgramType};
use std::io::ErrorKind;
use std::path::Path;

pub(super) fn read(path: &Path) -> Result<Object, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::file("read", path, error))?;
    Object::parse(&bytes).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}

/// The types of the platform, if a program of the object depends on their layout: those of `file`, or else of the running kernel.
/// None where that does not show them; then the loader says what it is that depends on them.
pub(in crate::command) fn target_types(object: &Object, file: Option<&Path>) -> Result<Option<Btf>, Failure> {
    if object.programs.iter().all(|program| program.core_relos.is_empty()) {
        return Ok(None);
    }
    let path = file.unwrap_or(Path::new(Btf::OF_KERNEL));
    let bytes = match std::fs::read(path) {
        Err(error) if file.is_none() && error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|error| Failure::file("read", path, error))?,
    };
    types(&bytes).map(Some).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}

/// The type that has this name.
pub(super) fn type_named(name: &str) -> Result<&'static ProgramType, Failure> {
    let types = || ProgramType::builtin().chain([ProgramType::memory(), perfring::dtrace::program_type()]);
    types().find(|type_| type_.name() == name).ok_or_else(|| {
        let names: Vec<_> = types().map(ProgramType::name).collect();
        Failure::Usage(format!("there is no program type {name}: there are {}", names.join(", ")))
    })
}

/// Loads this program alone, as one of the type `type_`, or else of that which its section says, for a platform with the types
/// `target`.
pub(super) fn load(
    object: &Object,
    spec: &ProgramSpec,
    type_: Option<&'static ProgramType>,
    machine: &Machine,
    target: Option<&Btf>,
) -> Result<Loaded, LoaderError> {
    let mut loader = Loader::new(object, machine).only(&spec.name);
    if let Some(target) = target {
        loader = loader.target_types(target);
    }
    let Some(type_) = type_.or_else(|| of_section(spec)) else {
        return loader.load();
    };
    loader = loader.type_of(&spec.name, type_);
    for map in object.maps.iter().filter(|map| map.type_ == MapType::ProgArray as u32) {
        // The programs that the object puts there say the type. Of one that has none nothing is known: its programs would
        // be of the same type.
        let first = map.values.first().and_then(|(_, name)| object.programs.iter().find(|other| other.name == *name));
        let owner = first.filter(|first| first.name != spec.name).and_then(of_section).unwrap_or(type_);
        loader = loader.owner(&map.name, owner);
    }
    loader.load()
}

/// The type that the section says.
pub(super) fn of_section(spec: &ProgramSpec) -> Option<&'static ProgramType> {
    Some(match spec.section_name().kind? {
        ProgramKind::Tracepoint => ProgramType::tracepoint(),
        ProgramKind::RawTracepoint => ProgramType::raw_tracepoint(),
        ProgramKind::PerfEvent => ProgramType::perf_event(),
        ProgramKind::Xdp => ProgramType::xdp(),
        ProgramKind::Socket => ProgramType::socket_filter(),
        ProgramKind::Dtrace { .. } => perfring::dtrace::program_type(),
        _ => ProgramType::kprobe(),
    })
}
