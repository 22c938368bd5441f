//! CO-RE relocations: programs of clang on a platform whose types are laid out otherwise, against a second implementation and the
//! running kernel; and what is damaged or made to be expensive.

mod bpf_types;
mod common;

use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};

use bpf_types::Table;
use object::read::elf::ElfFile64;
use object::read::{Object as _, ObjectSection as _};
use perfring::bpf::btf::core::{CoreErrorKind, Relocator};
use perfring::bpf::btf::{Btf, BtfError, CoreReloKind, Kind, TypeId};
use perfring::bpf::elf::{Object, ObjectError, ProgramSpec, types};
use perfring::bpf::verifier::{Refusal, VerifyOptions};
use perfring::bpf::{Context, Live, Loaded, Loader, LoaderError, Machine, ProgramType, RunError, TrapKind};
use perfring::record::ByteOrder;

/// By clang 14, and by clang 19 with the instructions of `-mcpu=v4`.
const OBJECTS: [&[u8]; 2] = [include_bytes!("bpf/relocate.bpf.o"), include_bytes!("bpf/relocate.v4.bpf.o")];
const V4: usize = 1;
const PLATFORM: &[u8] = include_bytes!("bpf/platform.bpf.o");

// What platform.bpf.c has.

#[repr(C)]
#[derive(Default)]
struct Cred {
    usage: u64,
    gid: u32,
    uid: u32,
}

#[repr(C)]
#[derive(Default)]
struct Pair {
    before: i16,
    left: i16,
    between: i8,
    right: i32,
}

#[repr(C)]
struct Entity {
    other: i32,
    kind: u64,
    weight: i32,
}

#[repr(C)]
#[derive(Default)]
struct Task {
    flags_before: u64,
    tgid: i32,
    pid: i32,
    comm: [u8; 8],
    flag: u32,
    code_above: i32,
    parent: u64,
    cred: Cred,
    counts: [i32; 8],
    pairs: [Pair; 3],
    wider: u64,
    narrower: u8,
    shorter: u16,
    /// 7 of padding, 4 of `mode`, 1 of `ready`, 9 of `level`, from the lowest on.
    bits: [u8; 3],
    flagged: bool,
    state: i32,
    utime: u64,
    brand_new: u32,
    tail: [i8; 4],
}

#[repr(C)]
struct Near {
    before: [u64; 2],
    shifted: i8,
    padding: u8,
    /// 5 of `a`, 6 of `b`, 5 of `c`.
    bits: u16,
}

/// The bytes of a struct that is given by some of its fields.
macro_rules! bytes {
    ($type:ty { $($($field:ident).+ $([$at:expr])? = $value:expr),* $(,)? }) => {{
        let mut bytes = vec![0_u8; size_of::<$type>()];
        $({
            let value = $value.to_ne_bytes();
            let at = offset_of!($type, $($field).+) $(+ $at * value.len())?;
            bytes[at..][..value.len()].copy_from_slice(&value);
        })*
        bytes
    }};
}

fn platform() -> Btf {
    types(PLATFORM).expect("the platform")
}

fn object(index: usize) -> Object {
    Object::parse(OBJECTS[index]).expect("an object of clang")
}

fn load(object: &Object, program: &str, target: Option<&Btf>) -> Result<Loaded, LoaderError> {
    let machine = Machine::new(1);
    let loader = Loader::new(object, &machine).default_type(ProgramType::memory()).only(program);
    match target {
        Some(target) => loader.target_types(target).load(),
        None => loader.load(),
    }
}

/// What a run gives: `r0` and `out`.
type Ran = (i64, Vec<u64>);

/// Loads a program for the platform, and runs it as it is and verified: what both times came out, and the context behind.
fn run(index: usize, program: &str, context: &[u8]) -> (Ran, Vec<u8>) {
    let (object, platform) = (object(index), platform());
    let mut results = Vec::new();
    for verified in [false, true] {
        let machine = Machine::builder(1).environment(Live::reading(|read| !read.user)).build();
        let loaded = load(&object, program, Some(&platform)).expect(program);
        let mut text = loaded.programs[program].clone();
        if verified {
            text = text.verify(&VerifyOptions::default()).expect(program).into();
        }
        let mut context = context.to_vec();
        let result = machine.run(&text, Context::new(&mut context)).expect(program);
        let out = loaded.maps[".bss"].lookup(&[0; 4]).expect("an array").expect("its element");
        let out = out.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
        results.push(((result as i64, out), context));
    }
    let last = results.pop().unwrap();
    assert_eq!(results, std::slice::from_ref(&last), "{program}: with tests and without");
    last
}

/// Why a program is refused that was loaded for the platform; it stops there when it is run unverified.
fn refused(index: usize, program: &str, context: &[u8]) -> String {
    let (object, platform) = (object(index), platform());
    let loaded = load(&object, program, Some(&platform)).expect(program);
    let text = &loaded.programs[program];
    let error = text.verify(&VerifyOptions::default()).expect_err(program);
    let Refusal::Unresolved { reason } = &*error.kind else { panic!("{program}: {error}") };
    assert!(error.line.as_ref().is_some_and(|line| line.starts_with("./relocate.bpf.c:")), "{error:?}");
    let mut context = context.to_vec();
    match Machine::new(1).run(text, Context::new(&mut context)) {
        Err(RunError::Trap(trap)) => {
            assert_eq!(trap.kind, TrapKind::Unresolved { reason: reason.clone() });
            assert_eq!((trap.insn, &trap.line), (error.insn, &error.line));
            assert!(trap.to_string().ends_with(reason), "{trap}");
        }
        other => panic!("{program}: {other:?}"),
    }
    reason.clone()
}

fn task() -> Vec<u8> {
    bytes!(Task {
        flags_before = u64::MAX,
        tgid = 21_i32,
        pid = -22_i32,
        comm[3] = b'm',
        flag = -5_i32,
        code_above = 99_i32,
        cred.gid = 31_u32,
        cred.uid = 32_u32,
        counts[2] = 41_i32,
        pairs[0] = 0x7777_7777_7777_7777_u64,
        wider = 0x1_0000_0002_u64,
        narrower = 200_u8,
        shorter = 60_000_u16,
        flagged = 1_u8,
        state = -70_i32,
        utime = 51_u64,
        brand_new = 61_u32,
        tail[2] = -62_i8,
    })
}

#[test]
fn loads_are_of_what_the_platform_has() {
    for index in [0, V4] {
        let mut tasks = task();
        let right = offset_of!(Task, pairs) + size_of::<Pair>() + offset_of!(Pair, right);
        tasks[right..][..4].copy_from_slice(&(-42_i32).to_ne_bytes());
        let weight: [u8; 4] = tasks[offset_of!(Entity, weight)..][..4].try_into().unwrap();
        tasks.extend(bytes!(Task { pid = 23_i32 }));
        let ((_, out), _) = run(index, "loads", &tasks);
        let wanted: [i64; 17] = [
            -22,
            21,
            b'm'.into(),
            51,
            -5,
            0xffff_fffb,
            31,
            41,
            -42,
            0x1_0000_0002,
            200,
            60_000,
            1,
            -70,
            -62,
            23,
            i32::from_ne_bytes(weight).into(),
        ];
        assert_eq!(out[..17], wanted.map(|value| value as u64), "{index}");
    }
}

#[test]
fn stores_are_to_where_the_platform_has_it() {
    for index in [0, V4] {
        let before = task();
        let (_, after) = run(index, "stores", &before);
        let mut wanted = before.clone();
        let mut put = |at: usize, bytes: &[u8]| wanted[at..][..bytes.len()].copy_from_slice(bytes);
        let len = before.len();
        put(offset_of!(Task, tgid), &77_u32.to_ne_bytes());
        put(offset_of!(Task, cred.uid), &(len as u32).to_ne_bytes());
        // 64 bits in the object, and 16 on the platform.
        put(offset_of!(Task, shorter), &(len as u16).to_ne_bytes());
        assert_eq!(after, wanted, "{index}");
        // The verifier allows no atomic operation on a context.
        let (object, platform, mut after) = (object(index), platform(), before.clone());
        let loaded = load(&object, "adds", Some(&platform)).unwrap();
        assert_eq!(Machine::new(1).run(&loaded.programs["adds"], Context::new(&mut after)), Ok(0));
        let mut wanted = before;
        wanted[offset_of!(Task, counts) + 4..][..4].copy_from_slice(&4_u32.to_ne_bytes());
        assert_eq!(after, wanted, "{index}");
    }
    let mut wanted = task();
    wanted[offset_of!(Task, wider)..][..8].copy_from_slice(&5_u64.to_ne_bytes());
    assert_eq!(run(V4, "widens", &task()).1, wanted);
}

#[test]
fn fields_are_read_behind_a_pointer() {
    for index in [0, V4] {
        let mut parent = bytes!(Task { tgid = 71_i32, comm[0] = b'p' });
        let right = offset_of!(Task, pairs) + size_of::<Pair>() + offset_of!(Pair, right);
        parent[right..][..4].copy_from_slice(&(-72_i32).to_ne_bytes());
        let child = bytes!(Task { parent = parent.as_ptr() as u64 });
        let ((result, out), _) = run(index, "reads", &child);
        assert_eq!((result, &out[..2]), (-72, &[71, b'p'.into()][..]), "{index}");
    }
}

#[test]
fn bit_fields_are_taken_out_of_the_platform_s_words() {
    for index in [0, V4] {
        let mode = 0b1010_u32;
        for (ready, level) in [(0_u32, -200_i32), (1, 200)] {
            let bits = 0x55 | mode << 7 | ready << 11 | ((level as u32) & 0x1ff) << 12;
            let mut task = task();
            task[offset_of!(Task, bits)..][..3].copy_from_slice(&bits.to_le_bytes()[..3]);
            let ((_, out), _) = run(index, "bitfields", &task);
            let wanted = [u64::from(ready), mode.into(), i64::from(level) as u64, 200, -22_i64 as u64];
            assert_eq!(out[..5], wanted, "{index}");
        }
        // What was compiled for the object's own bits: they have moved by whole bytes.
        let bits = 21_u16 | 42 << 5 | (-6_i16 as u16) << 11;
        let near = bytes!(Near { before[0] = u64::MAX, shifted = -1_i8, padding = 0xff_u8, bits = bits });
        let ((_, out), after) = run(index, "near", &near);
        assert_eq!(out[..3], [21, 42, -6_i64 as u64], "{index}");
        let bits = 21_u16 | 9 << 5 | (-6_i16 as u16) << 11;
        assert_eq!(after, bytes!(Near { before[0] = u64::MAX, shifted = -1_i8, padding = 0xff_u8, bits = bits }));
    }
}

#[test]
fn questions_are_answered() {
    let platform = platform();
    for index in [0, V4] {
        let ((_, out), _) = run(index, "asks", &task());
        let object = object(index);
        let own = object.btf.as_ref().unwrap().find("cred", Kind::Struct).unwrap();
        let there = platform.find("cred", Kind::Struct).unwrap();
        assert_ne!(own, there);
        let wanted = [
            offset_of!(Task, parent) as u64,
            8, // comm
            1, // tgid is there
            0, // nowhere is not
            1, // level is signed
            0, // wider is not
            size_of::<Pair>() as u64,
            (offset_of!(Task, pairs) + size_of::<Pair>() + offset_of!(Pair, left)) as u64,
            8, // wider
            1, // struct task is there
            size_of::<Task>() as u64,
            0, // struct gone is not
            0, // which has no size
            size_of::<Entity>() as u64,
            4,                  // enum state
            20,                 // WAITING
            -70_i64 as u64,     // DEAD
            0,                  // NEVER is not there
            1,                  // RUNNING is
            0xc000_0000,        // FLAG_HIGH
            u64::from(own.0),   // the number of struct cred in the object
            u64::from(there.0), // and on the platform
            1,                  // brand_new is there
            0,                  // a field of struct gone is not
            1,                  // comm[4] is there
            0,                  // comm[12] is not
            offset_of!(Task, cred) as u64,
            offset_of!(Task, flag) as u64,
        ];
        assert_eq!(out[..wanted.len()], wanted, "{index}");
    }
}

#[test]
fn what_is_not_there_is_not_to_be_reached() {
    for index in [0, V4] {
        let ((result, _), _) = run(index, "guarded", &task());
        assert_eq!(result, 61);
        let task = bytes!(Task { pid = 1_i32 });
        let refused = |program: &str| refused(index, program, &task);
        assert_eq!(
            refused("reached"),
            "the offset of nowhere in struct task: the platform's type of this name has no such part"
        );
        assert_eq!(refused("lost"), "the offset of at in struct gone: the platform has no such type");
        assert_eq!(
            refused("lost_value"),
            "the value of NEVER in enum state: the platform's type of this name has no such part"
        );
    }
    // Where it is not reached it does no harm.
    let (object, platform) = (object(0), platform());
    let loaded = load(&object, "reached", Some(&platform)).unwrap();
    assert_eq!(Machine::new(1).run(&loaded.programs["reached"], Context::new(&mut task())), Ok(0));
}

#[test]
fn accesses_of_other_fields_are_refused() {
    let context = vec![0; 1 << 16];
    let sizes = |field: &str, target: u32| {
        let access = "and the access cannot be changed to that";
        format!(
            "the offset of {field} in struct changed: it has 4 bytes in the object and {target} on the platform, {access}"
        )
    };
    let bits = |field: &str| {
        let access = "the access is made for the bits that the object has, and the platform's are others";
        format!("the offset of {field} in struct changed: {access}")
    };
    let lacks = |field: &str| {
        format!("the offset of {field} in struct changed: the platform's type of this name has no such part")
    };
    for index in [0, V4] {
        let refused = |program: &str| refused(index, program, &context);
        assert_eq!(refused("made_signed"), sizes("made_signed", 8));
        // A pointer is no integer.
        assert_eq!(refused("made_pointer"), lacks("made_pointer"));
        assert_eq!(refused("made_bits"), bits("made_bits"));
        assert_eq!(refused("stored"), sizes("stored", 8));
        assert_eq!(refused("moved"), bits("moved"));
        assert_eq!(refused("thinner"), bits("thinner"));
        assert_eq!(refused("far"), "the offset of far in struct changed: 40065 does not fit into the instruction");
    }
    // Without the extension of the sign it would be lost.
    assert_eq!(refused(0, "widened", &context), sizes("widened", 8));
    let long = -(1_i64 << 40);
    assert_eq!(run(V4, "widened", &[&long.to_ne_bytes()[..], &context].concat()).0.0, long);
    let mut sized = [0; 16];
    sized[..8].copy_from_slice(&long.to_ne_bytes());
    sized[8..10].copy_from_slice(&(-3_i16).to_ne_bytes());
    sized[12..].copy_from_slice(&(-4_i32).to_ne_bytes());
    let ((_, out), _) = run(V4, "extends", &sized);
    assert_eq!(out[..3], [long, -3, -4].map(|value| value as u64));
}

#[test]
fn types_of_one_name_have_to_agree() {
    let (platform, agreed) = (platform(), [0, 7, 0].map(i32::to_ne_bytes).concat());
    for index in [0, V4] {
        let object = object(index);
        // At 4 in two of three, of which one has no such field; and in both of the others.
        assert_eq!(run(index, "agree", &agreed).0.0, 14);
        let error = load(&object, "disagree", Some(&platform)).unwrap_err();
        let text = error.to_string();
        let LoaderError::CoreRelo { program, line: Some(line), error } = error else { panic!("{error}") };
        assert_eq!((program.as_str(), error.insn), ("disagree", 0));
        assert!(line.starts_with("./relocate.bpf.c:") && line.ends_with(": return disputed->at;"), "{line}");
        let (first, second) =
            (platform.find("disputed", Kind::Struct).unwrap(), platform.find("disputed___2", Kind::Struct).unwrap());
        assert_eq!(error.reason, CoreErrorKind::Ambiguous { first, second });
        assert_eq!(
            text,
            format!(
                "program disagree: instruction 0 ({line}): the offset of at in struct disputed: the platform's types {first} \
                 and {second}, both of this name, disagree"
            )
        );
    }
}

#[test]
fn types_match_in_every_part() {
    let ((_, out), _) = run(V4, "matches", &[]);
    let matches = [1, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(out[..10], matches);
    assert_eq!(out[10..13], [1, 0x5_0000_0000, 1]);
}

#[test]
fn without_the_platform_s_types_nothing_is_loaded_that_needs_them() {
    for index in [0, V4] {
        let object = object(index);
        let error = load(&object, "reached", None).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("program reached: instruction 1 (./relocate.bpf.c:")
                && text.ends_with("): the offset of pid in struct task: the platform's types are not known"),
            "{text}"
        );
        // The number of a type in the object is known.
        let own = object.btf.as_ref().unwrap().find("cred", Kind::Struct).unwrap();
        let loaded = load(&object, "own", None).unwrap();
        let result = Machine::new(1).run(&loaded.programs["own"], Context::new(&mut []));
        assert_eq!(result, Ok(own.0.into()));
    }
}

#[test]
fn types_come_from_files_of_several_kinds() {
    let of_elf = types(PLATFORM).unwrap();
    let section = section(PLATFORM, ".BTF");
    assert_eq!(types(&section), Ok(of_elf));
    assert!(matches!(types(&PLATFORM[..100]), Err(ObjectError::Elf { .. })));
    assert!(matches!(types(b"text"), Err(ObjectError::Btf { .. })));
    assert_eq!(types(include_bytes!("bpf/legacy.bpf.o")), Err(ObjectError::NoBtf));
    let other = types(include_bytes!("bpf/calls.be.bpf.o")).unwrap();
    assert_eq!(other.byte_order(), ByteOrder::Big);
    let error = load(&object(0), "loads", Some(&other)).unwrap_err();
    assert_eq!(error, LoaderError::TargetByteOrder(ByteOrder::Big));
}

fn section(object: &[u8], name: &str) -> Vec<u8> {
    let file: ElfFile64<'_> = ElfFile64::parse(object).unwrap();
    file.section_by_name(name).unwrap().data().unwrap().to_vec()
}

#[test]
fn on_its_own_platform_a_program_stays_as_it_is() {
    let others: [&[u8]; 2] = [include_bytes!("bpf/core.bpf.o"), include_bytes!("bpf/kernel.bpf.o")];
    let mut count = 0;
    for bytes in OBJECTS.iter().chain(&others) {
        let object = Object::parse(bytes).unwrap();
        let btf = object.btf.as_ref().unwrap();
        // Clang takes a bit field out of 8 bytes.
        let is_fixed = |program: &&ProgramSpec| !["bitfields", "kernel_bits"].contains(&program.name.as_str());
        for program in object.programs.iter().filter(is_fixed) {
            for relo in &program.core_relos {
                count += 1;
                let mut insns = program.insns.clone();
                match Relocator::new(btf, Some(btf)).apply(&mut insns, &[*relo]) {
                    Ok(unresolved) => assert_eq!(unresolved, []),
                    // Its flavours are there, too.
                    Err(error) => {
                        assert_eq!((error.kind, error.type_.as_str()), (CoreReloKind::TypeSize, "struct task"))
                    }
                }
                assert_eq!(insns, program.insns, "{} {relo:?}", program.name);
            }
        }
    }
    assert!(count > 200, "{count}");
}

/// What aya's implementation puts into the instructions of a program: offset and immediate of a slot, or none where it found that the platform
/// has no answer.
fn by_aya(bytes: &[u8], target: &[u8]) -> BTreeMap<String, Vec<Option<(i16, i32)>>> {
    let mut programs = BTreeMap::new();
    // It knows no programs in sections of other names.
    let mut bytes = bytes.to_vec();
    let sections: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"memory/")).collect();
    for at in sections {
        bytes[at..at + 6].copy_from_slice(b"kprobe");
    }
    let mut object = aya_obj::Object::parse(&bytes).expect("an object");
    let target = aya_obj::btf::Btf::parse(&section(target, ".BTF"), Default::default()).expect("types");
    object.relocate_btf(&target).expect("relocations");
    for function in object.functions.values() {
        let is_poisoned = |insn: &aya_obj::generated::bpf_insn| insn.code == 0x85 && insn.imm == 0xbad_2310;
        let slots = function.instructions.iter().map(|insn| (!is_poisoned(insn)).then_some((insn.off, insn.imm)));
        programs.insert(function.name.clone(), slots.collect());
    }
    programs
}

#[test]
fn a_second_implementation_finds_the_same() {
    let platform = platform();
    let bytes = include_bytes!("bpf/relocate.plain.bpf.o");
    let object = Object::parse(bytes).unwrap();
    let btf = object.btf.as_ref().unwrap();
    let mut compared = 0;
    let theirs = by_aya(bytes, PLATFORM);
    let mut relocator = Relocator::new(btf, Some(&platform));
    for program in &object.programs {
        let mut insns = program.insns.clone();
        let unresolved = relocator.apply(&mut insns, &program.core_relos).unwrap();
        let theirs = &theirs[&program.name];
        for relo in &program.core_relos {
            let at = relo.insn;
            let ours = unresolved.iter().all(|error| error.insn != at).then_some((insns[at].offset, insns[at].imm));
            assert_eq!(ours, theirs[at], "{} {} {relo:?}", program.name, relo.access(btf));
            compared += 1;
        }
    }
    assert!(compared > 80, "{compared}");
}

/// What a program on the kernel's types finds; none where the kernel does not show them.
fn on_kernel(program: &str, kernel: &Btf) -> Vec<u64> {
    let object = Object::parse(include_bytes!("bpf/kernel.bpf.o")).expect("an object of clang");
    let machine = Machine::new(1);
    let loader = Loader::new(&object, &machine).only(program).target_types(kernel).verify(&VerifyOptions::default());
    let loaded = loader.load().expect(program);
    let size = ProgramType::raw_tracepoint().context().size().unwrap_or(0);
    machine.run(&loaded.programs[program], Context::new(&mut vec![0; size])).expect(program);
    let out = loaded.maps[".bss"].lookup(&[0; 4]).unwrap().unwrap();
    out.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn the_running_kernel_s_types_are_found() {
    let kernel = match Btf::of_running_kernel() {
        Ok(kernel) => kernel,
        Err(error) => return common::skip(format!("{}: {error}", Btf::OF_KERNEL)),
    };
    let Some(table) = Table::of_file(Btf::OF_KERNEL) else { return common::skip("there is no bpftool") };
    let find = |kind: &str, name: &str| table.find(kind, name).unwrap_or_else(|| panic!("{kind} {name}"));
    let (task, buffer) = (find("STRUCT", "task_struct"), find("STRUCT", "sk_buff"));
    let (maps, atomic) = (find("ENUM", "bpf_map_type"), find("TYPEDEF", "atomic_t"));
    let offset = |id: u64, way: &str| {
        let found = table.field(id, way).unwrap_or_else(|| panic!("{way}"));
        assert_eq!((found.bit_offset % 8, found.bits), (0, None), "{way}");
        found.bit_offset / 8
    };
    let comm = table.field(task, "comm").expect("comm");
    let wanted = [
        offset(task, "pid"),
        offset(task, "tgid"),
        offset(task, "comm"),
        comm.size,
        offset(task, "real_parent"),
        offset(task, "mm"),
        offset(task, "se.vruntime"),
        offset(task, "se.load.weight"),
        offset(find("STRUCT", "mm_struct"), "start_stack"),
        offset(find("STRUCT", "dentry"), "d_name.len"),
        offset(buffer, "len"),
        offset(atomic, "counter"),
        offset(task, "comm") + 7,
        0,
        u64::from(table.field(task, "in_execve").is_some()),
        0,
        u64::from(table.field(task, "pid").expect("pid").signed),
        u64::from(table.field(task, "se.vruntime").expect("vruntime").signed),
    ];
    assert_eq!(on_kernel("kernel_fields", &kernel)[..wanted.len()], wanted);

    let out = on_kernel("kernel_bits", &kernel);
    for (at, (id, way)) in [(task, "in_execve"), (task, "in_iowait"), (buffer, "pkt_type")].into_iter().enumerate() {
        let found = table.field(id, way).unwrap_or_else(|| panic!("{way}"));
        let [offset, size, left, right] = out[at * 4..][..4] else { unreachable!() };
        assert!(offset.is_multiple_of(size) && size <= 8, "{way}: {size} bytes at {offset}");
        let bits = found.bits.unwrap_or_else(|| panic!("{way} is no bit field"));
        // Of a word in the lower bytes of 64 bits, as little endian machines have it.
        #[cfg(target_endian = "little")]
        assert_eq!((64 - right, offset * 8 + 64 - left - bits), (bits, found.bit_offset), "{way}");
        #[cfg(target_endian = "big")]
        assert_eq!((64 - right, offset * 8 + left - (64 - size * 8)), (bits, found.bit_offset), "{way}");
    }

    let value = |id: u64, name: &str| table.enumerator(id, name).unwrap_or_else(|| panic!("{name}"));
    let wanted = [
        table.size(task),
        table.size(buffer),
        table.size(atomic),
        1,
        0,
        value(maps, "BPF_MAP_TYPE_HASH"),
        value(maps, "BPF_MAP_TYPE_RINGBUF"),
        value(find("ENUM", "pid_type"), "PIDTYPE_PGID"),
        0,
        1,
        buffer,
    ];
    assert_eq!(on_kernel("kernel_types", &kernel)[..wanted.len()], wanted);
}

// What is damaged, and what is made to be expensive.

/// `.BTF` from words of types and from names, which are given by their offsets.
fn btf(types: &[u32], names: &str) -> Btf {
    let (len, names_len) = (types.len() as u32 * 4, names.len() as u32);
    let words = [0x0001_eb9f, 24, 0, len, len, names_len];
    let mut bytes: Vec<u8> = words.iter().chain(types).flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(names.as_bytes());
    Btf::parse(&bytes).expect("types")
}

/// A relocation of the first instruction, by `.BTF.ext`.
fn relocation(btf: &Btf, type_: u32, access: u32, kind: u32) -> perfring::bpf::btf::CoreRelo {
    let words = [0x0001_eb9f, 32, 0, 0, 0, 0, 0, 28, 16, 1, 1, 0, type_, access, kind];
    let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    btf.parse_ext(&bytes).expect("information").core_relos("s")[0]
}

fn apply(local: &Btf, target: &Btf, relo: (u32, u32, u32), text: &str) -> Result<Vec<CoreErrorKind>, CoreErrorKind> {
    let mut insns = perfring::bpf::insn::assemble(text).expect("instructions");
    let before = insns.clone();
    let relo = relocation(local, relo.0, relo.1, relo.2);
    let result = Relocator::new(local, Some(target)).apply(&mut insns, &[relo]);
    let is_changed = matches!(&result, Ok(unresolved) if unresolved.is_empty());
    assert!(is_changed || insns == before);
    result.map(|errors| errors.into_iter().map(|error| error.reason).collect()).map_err(|error| error.reason)
}

const STRUCT: u32 = 4 << 24;
const INT: [u32; 4] = [0, 1 << 24, 4, 32];

#[test]
fn what_objects_say_wrongly_is_an_error() {
    // 1: int. 2: struct a { int b; }. 3: int[4]. 4: struct without a name. 5: typedef c of 5. 6: enum d { b }.
    let types = [
        &INT[..],
        &[3, STRUCT | 1, 4, 5, 1, 0],
        &[0, 3 << 24, 0, 1, 1, 4],
        &[0, STRUCT | 1, 4, 5, 1, 0],
        &[7, 8 << 24, 5],
        &[9, 6 << 24 | 1, 4, 5, 3],
    ];
    // 1: s, 3: a, 5: b, 7: c, 9: d, 11: 0, 13: 0:0, 17: 0:1, 21: 0:0:0, 27: +0, 30: empty, 31: 0:, 34: 99...
    let names = format!(
        "\0s\0a\0b\0c\0d\x000\x000:0\x000:1\x000:0:0\0+0\0\x000:\x00{}\0{}\0",
        "9".repeat(30),
        "0:".repeat(100)
    );
    let btf = btf(&types.concat(), &names);
    let mov = "r0 = 0\nexit";
    let kind = |relo, text| apply(&btf, &btf, relo, text);
    assert_eq!(kind((2, 13, 0), mov), Ok(vec![]));
    for access in [11_u32, 17, 21, 27, 30, 31, 34, 65] {
        let result = kind((2, access, 1), mov);
        // A struct without the way to a field has a size.
        if access == 11 {
            assert!(matches!(result, Err(CoreErrorKind::Value { found: 0, wanted: 4 })), "{result:?}");
        } else {
            assert!(matches!(result, Err(CoreErrorKind::Access { .. })), "{access}: {result:?}");
        }
    }
    assert_eq!(kind((4, 13, 0), mov), Err(CoreErrorKind::Unnamed));
    assert_eq!(kind((0, 13, 8), mov), Err(CoreErrorKind::Unnamed));
    assert_eq!(kind((2, 13, 13), mov), Err(CoreErrorKind::Kind { kind: 13 }));
    assert_eq!(kind((5, 13, 2), mov), Err(CoreErrorKind::Btf(BtfError::Depth { id: TypeId(5) })));
    assert!(matches!(kind((2, 11, 10), mov), Err(CoreErrorKind::Access { .. })));
    assert!(matches!(kind((6, 17, 10), mov), Err(CoreErrorKind::Access { .. })));
    assert_eq!(kind((6, 11, 11), "r0 = 3\nexit"), Ok(vec![]));
    assert_eq!(kind((6, 11, 11), mov), Err(CoreErrorKind::Value { found: 0, wanted: 3 }));
    // What the instruction is.
    assert_eq!(kind((2, 13, 0), "r0 = r1\nexit"), Err(CoreErrorKind::Insn { opcode: 0xbf }));
    assert_eq!(kind((2, 13, 0), "r0 = -r0\nexit"), Err(CoreErrorKind::Insn { opcode: 0x87 }));
    assert_eq!(kind((2, 13, 0), "r0 = be16 r0\nexit"), Err(CoreErrorKind::Insn { opcode: 0xdc }));
    assert_eq!(kind((2, 13, 0), "exit"), Err(CoreErrorKind::Insn { opcode: 0x95 }));
    assert_eq!(kind((2, 13, 0), "call 1\nexit"), Err(CoreErrorKind::Insn { opcode: 0x85 }));
    assert_eq!(kind((2, 13, 0), "r0 = map[idx:0] ll\nexit"), Err(CoreErrorKind::Insn { opcode: 0x18 }));
    assert_eq!(kind((2, 13, 1), "r0 = *(u32 *)(r1 +0)\nexit"), Err(CoreErrorKind::Insn { opcode: 0x61 }));
    let at_8 = "r0 = *(u32 *)(r1 +8)\nexit";
    assert_eq!(kind((2, 13, 0), at_8), Err(CoreErrorKind::Value { found: 8, wanted: 0 }));
    let relo = relocation(&btf, 2, 13, 0);
    let error = Relocator::new(&btf, Some(&btf)).apply(&mut [], &[relo]).unwrap_err();
    assert_eq!((error.reason, error.type_.as_str(), error.part.as_str()), (CoreErrorKind::NoInsn, "struct a", "b"));
}

#[test]
fn types_without_an_end_and_without_measure_are_an_error() {
    let mov = "r0 = 0\nexit";
    let names = "\0s\0a\0b\x000:0\x000:0:4294967295\x004294967295:0\0";
    // struct a { int b; }, and on the platform one that has itself, without a name, as a member: in the first place, and often.
    let local = btf(&[&INT[..], &[3, STRUCT | 1, 4, 5, 1, 0]].concat(), names);
    let endless = |members: u32| {
        let mut types = [&INT[..], &[3, STRUCT | members, 4]].concat();
        (0..members).for_each(|_| types.extend([0, 2, 0]));
        btf(&types, names)
    };
    let result = apply(&local, &endless(1), (2, 7, 2), mov);
    assert!(matches!(result, Err(CoreErrorKind::Btf(BtfError::Depth { .. }))), "{result:?}");
    // As wide as it is deep: types that have the next one as a member, often, and the last has nothing.
    let mut types = INT.to_vec();
    for next in 0..20 {
        types.extend([if next == 0 { 3 } else { 0 }, STRUCT | 100, 4]);
        (0..100).for_each(|_| types.extend([0, next + 3, 0]));
    }
    types.extend([0, STRUCT, 4]);
    let wide = btf(&types, names);
    assert_eq!(apply(&local, &wide, (2, 7, 2), mov), Err(CoreErrorKind::Work));
    // The same to be compared in full.
    assert_eq!(apply(&wide, &wide, (2, 7, 12), "r0 = 1\nexit"), Err(CoreErrorKind::Work));
    // Functions that take functions.
    let mut types = vec![3, 8 << 24, 2];
    for next in 0..20 {
        types.extend([0, 13 << 24 | 50, 0]);
        (0..50).for_each(|_| types.extend([0, next + 3]));
    }
    types.extend([0, 13 << 24, 0]);
    let functions = btf(&types, names);
    for kind in [8, 12] {
        assert_eq!(apply(&functions, &functions, (1, 7, kind), "r0 = 1\nexit"), Err(CoreErrorKind::Work), "{kind}");
    }
    // Arrays of arrays, and elements that are farther than can be said.
    // 2: struct a { int b[2^32 - 1]; }, 4: an array of itself.
    let array = [&INT[..], &[3, STRUCT | 1, 4, 5, 3, 0], &[0, 3 << 24, 0, 1, 1, u32::MAX]].concat();
    let far = btf(&array, names);
    let result = apply(&far, &far, (2, 11, 1), mov);
    assert!(matches!(result, Err(CoreErrorKind::Access { .. })), "{result:?}");
    let result = apply(&far, &far, (2, 7, 1), mov);
    assert!(matches!(result, Err(CoreErrorKind::Btf(BtfError::ArraySize { .. }))), "{result:?}");
    let itself = btf(&[&INT[..], &[3, STRUCT | 1, 4, 5, 3, 0], &[0, 3 << 24, 0, 3, 1, 1]].concat(), names);
    let result = apply(&itself, &itself, (2, 7, 0), mov);
    assert!(matches!(result, Err(CoreErrorKind::Btf(BtfError::Depth { .. }))), "{result:?}");
    // 2^32 elements of 2^32 bytes.
    let large = btf(&[&INT[..], &[3, STRUCT | 1, u32::MAX, 5, 1, 0]].concat(), names);
    let result = apply(&large, &large, (2, 26, 0), mov);
    assert!(matches!(result, Err(CoreErrorKind::Access { .. })), "{result:?}");
}

#[test]
fn changed_bytes_do_no_harm() {
    let program = |bytes: &[u8], target: &Btf| {
        let Ok(object) = Object::parse(bytes) else { return 0 };
        let Some(btf) = &object.btf else { return 0 };
        let mut relocator = Relocator::new(btf, Some(target));
        let mut failed = 0;
        for program in &object.programs {
            let mut insns = program.insns.clone();
            match relocator.apply(&mut insns, &program.core_relos) {
                Ok(unresolved) => {
                    failed += unresolved.iter().map(|error| error.to_string().len().min(1)).sum::<usize>()
                }
                Err(error) => failed += error.to_string().len().min(1),
            }
            assert_eq!(insns.len(), program.insns.len());
        }
        failed
    };
    let target = platform();
    let good = program(OBJECTS[0], &target);
    let mut differ = 0;
    // Of the object.
    for name in [".BTF", ".BTF.ext"] {
        let part = section(OBJECTS[0], name);
        let start = OBJECTS[0].windows(part.len()).position(|window| window == part).expect("the section");
        for at in (0..part.len()).step_by(7) {
            for value in [0, 1, 0xff, part[at] ^ 0x80] {
                let mut bytes = OBJECTS[0].to_vec();
                bytes[start + at] = value;
                differ += usize::from(program(&bytes, &target) != good);
            }
        }
    }
    assert!(differ > 100, "{differ}");
    // Of the platform.
    let types = section(PLATFORM, ".BTF");
    let mut read = 0;
    for at in (0..types.len()).step_by(5) {
        for value in [0, 1, 0xff, types[at] ^ 0x80] {
            let mut bytes = types.clone();
            bytes[at] = value;
            if let Ok(target) = Btf::parse(&bytes) {
                read += 1;
                program(OBJECTS[0], &target);
            }
        }
    }
    assert!(read > 1000, "{read}");
}
