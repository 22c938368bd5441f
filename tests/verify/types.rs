//! The program types, the helpers and the maps of the tables.

use super::table::{Case, MapLine};
use perfring::bpf::insn::assemble_with;
use perfring::bpf::map::{Map, MapDef, MapFlags, MapType, UpdateFlags};
use perfring::bpf::program_type::{ContextLayout, Field, Pointer};
use perfring::bpf::{Arg, HelperId, Helpers, LoadError, MapTypes, Program, ProgramType, Prototype};
use std::sync::LazyLock;

/// The type of this name: one of the crate's, or
/// - `buffers`: a `u64` at 0; a `u32` at 8 that may be written; a hole at 12; a `u64` at 16 that is loaded whole; the buffers 24
///   (its start at 24, its end at 32) and 40 (40, 48); a packet (`u32`s at 56 and 60); four `u16` at 64; the two fields of
///   `finalize_context` at 72; a hole at 80, and three `u32` at 84 that are loaded in any size. All helpers.
/// - `dtrace`: the same context. It is called from programs of the type `kprobe`.
/// - `closed`: a `u64` at 0, no helpers, and nobody but its own programs calls it.
pub fn named(name: &str) -> Option<&'static ProgramType> {
    static OTHERS: LazyLock<[ProgramType; 3]> = LazyLock::new(|| {
        let closed = ContextLayout::fields(8, [Field::read_only("word", 0, 8, 1)]).expect("a layout");
        [
            ProgramType::builder("buffers", layout()).all_helpers().finalized_at(72, 76).build(),
            ProgramType::builder("dtrace", layout())
                .all_helpers()
                .finalized_at(72, 76)
                .casts(|source| source == ProgramType::kprobe(), |conversion| conversion.copy(0, 0, 8))
                .build(),
            ProgramType::builder("closed", closed).build(),
        ]
    });
    ProgramType::builtin().chain([ProgramType::memory()]).chain(OTHERS.iter()).find(|type_| type_.name() == name)
}

fn layout() -> ContextLayout {
    let fields = [
        Field::read_only("word", 0, 8, 1),
        Field::read_only("half", 8, 4, 1).writable(),
        Field::read_only("whole", 16, 8, 1).whole(),
        Field::pointer("a", 24, 8, Pointer::Buffer(24)),
        Field::pointer("a_end", 32, 8, Pointer::BufferEnd(24)),
        Field::pointer("b", 40, 8, Pointer::Buffer(40)),
        Field::pointer("b_end", 48, 8, Pointer::BufferEnd(40)),
        Field::pointer("data", 56, 4, Pointer::Packet),
        Field::pointer("data_end", 60, 4, Pointer::PacketEnd),
        Field::read_only("shorts", 64, 2, 4),
        Field::read_only("ecb_id", 72, 4, 1),
        Field::read_only("probe_id", 76, 4, 1),
        Field::read_only("any", 84, 4, 3).whole().any_size(),
    ];
    ContextLayout::fields(96, fields).expect("a layout")
}

/// Those of the crate, and one for each kind of argument.
pub fn helpers() -> &'static Helpers {
    static HELPERS: LazyLock<Helpers> = LazyLock::new(|| {
        use Arg::{
            Any, ConstStr, Constant, Context, Key, Memory, MemoryOrNull, Scalar, Size, SizeOrZero, StackOrNull,
            UninitMemory, Value,
        };
        let data = Arg::Map(MapTypes::DATA);
        let own: &[(&'static str, &[Arg])] = &[
            ("take_any", &[Any]),
            ("take_scalar", &[Scalar]),
            ("take_constant", &[Constant]),
            ("take_memory", &[Memory, Size]),
            ("take_memory_or_nothing", &[Memory, SizeOrZero]),
            ("take_memory_or_null", &[MemoryOrNull, SizeOrZero]),
            ("fill_memory", &[UninitMemory, Size]),
            ("fill_memory_or_nothing", &[UninitMemory, SizeOrZero]),
            ("take_key", &[data, Key]),
            ("take_value", &[data, Value]),
            ("take_text", &[ConstStr]),
            ("take_stack", &[StackOrNull]),
            ("take_context", &[Context]),
            ("take_any_map", &[Arg::Map(MapTypes::all())]),
        ];
        let mut helpers = Helpers::standard().clone();
        for ((name, args), id) in own.iter().zip(100_000..) {
            let mut prototype = Prototype::new(*name, args);
            if *name == "take_context" {
                prototype = prototype.ctx_update();
            }
            helpers
                .register(HelperId(id), prototype, |call| {
                    let mut read = [0; 16];
                    call.read(0, &mut read);
                    call.write(0, &[7; 16]);
                    call.arg(0)
                })
                .expect("a number of its own");
        }
        helpers
    });
    &HELPERS
}

/// A map, as it is when programs are loaded.
pub fn map(line: &MapLine) -> Result<Map, String> {
    let kind = MapType::from_name(&line.kind).ok_or_else(|| format!("no kind of maps is called {:?}", line.kind))?;
    let mut flags = MapFlags::empty();
    for name in &line.flags {
        let flag = MapFlags::from_name(&name.to_uppercase()).ok_or_else(|| format!("there is no flag {name:?}"))?;
        flags |= flag;
    }
    let def = MapDef::new(&line.name, kind, line.key, line.value, line.entries).flags(flags);
    let made = if let Some(owner) = &line.owner {
        let owner = named(owner).ok_or_else(|| format!("no type is called {owner:?}"))?;
        Map::prog_array(&def, owner)
    } else {
        Map::new(&def, 1)
    };
    let map = made.map_err(|error| format!("the map {}: {error}", line.name))?;
    if let Some(text) = &line.text {
        let mut value = text.as_bytes().to_vec();
        value.resize(line.value as usize, 0);
        map.update(&[0; 4], &value, UpdateFlags::Any).map_err(|error| format!("the map {}: {error}", line.name))?;
        map.freeze();
    }
    Ok(map)
}

/// The program of a case. The outer error is one of the case.
pub fn program(case: &Case) -> Result<Result<Program, LoadError>, String> {
    let type_ = named(&case.type_).ok_or_else(|| format!("no type is called {:?}", case.type_))?;
    let maps = case.maps.iter().map(map).collect::<Result<Vec<_>, _>>()?;
    let number = |name: &str| helpers().number(name).map(|id| id.0);
    let insns = assemble_with(&case.program, &number).map_err(|error| format!("{error}\n{}", case.program))?;
    let mut builder = Program::builder("case", type_)
        .helpers(helpers())
        .maps(maps)
        .license(&case.options.license)
        .callx(case.options.callx);
    if let Some(slot) = case.options.unresolved {
        builder = builder.unresolved(slot, "the offset of name in struct file: the platform has no such type");
    }
    Ok(builder.load(insns))
}
