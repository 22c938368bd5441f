//! Hand-made objects, each with one defect, and the error that names it.

use perfring::bpf::elf::{MapSpec, Object, ObjectError, Place};
use perfring::bpf::insn::{Code, CodeOptions, Insn};
use perfring::record::ByteOrder;

fn numbers(map: &MapSpec) -> (&str, u32, u32, u32, u32, u32) {
    (&map.name, map.type_, map.key_size, map.value_size, map.max_entries, map.flags)
}

/// What holds of every object that was read.
fn check(object: &Object) {
    let mut total = 0;
    for program in &object.programs {
        total += program.insns.len();
        assert_eq!(program.functions.first().map(|function| function.insn), Some(0));
        assert!(program.functions.is_sorted_by(|a, b| a.insn < b.insn));
        for (insn, map) in &program.maps {
            let spec = &object.maps[*map];
            let slot = program.insns[*insn];
            assert_eq!((slot.opcode, slot.imm as usize), (0x18, *map));
            if slot.src == 6 {
                assert!((program.insns[insn + 1].imm as u32) < spec.value_size);
            }
        }
        assert!(program.core_relos.iter().all(|relo| relo.insn < program.insns.len()));
        assert!(program.lines.iter().all(|(insn, _)| insn < program.insns.len()));
        let _ = Code::new(program.insns.clone(), CodeOptions::default());
    }
    assert!(total <= Object::MAX_INSNS);
}

/// A symbol: name, value, size, `st_info`, section.
type Symbol<'a> = (&'a str, u64, u64, u8, u16);

/// A section's header: name, type, flags, offset, size, link, info, size of an entry.
type Header = (u32, u32, u64, u64, u64, u32, u32, u64);

/// A section: name, type, flags, link, info, bytes.
struct Section {
    name: String,
    type_: u32,
    flags: u64,
    info: u32,
    size: u64,
    bytes: Vec<u8>,
}

/// Makes objects: the sections that are given are 1 and on.
#[derive(Default)]
struct Maker<'a> {
    sections: Vec<Section>,
    symbols: Vec<Symbol<'a>>,
}

const PROGBITS: u32 = 1;
const NOBITS: u32 = 8;
const REL: u32 = 9;
const GLOBAL_FUNC: u8 = 0x12;
const LOCAL_FUNC: u8 = 0x02;
const GLOBAL_OBJECT: u8 = 0x11;
const SECTION: u8 = 0x03;
const ALLOC: u64 = 2;
const EXEC: u64 = 6;

const LDDW: Insn = Insn { opcode: 0x18, dst: 1, src: 0, offset: 0, imm: 0 };
const CALL: Insn = Insn { opcode: 0x85, dst: 0, src: 1, offset: 0, imm: -1 };
const EXIT: Insn = Insn { opcode: 0x95, dst: 0, src: 0, offset: 0, imm: 0 };
const SECOND: Insn = Insn { opcode: 0, dst: 0, src: 0, offset: 0, imm: 0 };

fn encode(insns: &[Insn]) -> Vec<u8> {
    insns.iter().flat_map(|insn| insn.to_bytes(ByteOrder::Little)).collect()
}

impl<'a> Maker<'a> {
    fn section(mut self, name: &str, type_: u32, flags: u64, bytes: &[u8]) -> Self {
        let (name, size) = (name.to_owned(), bytes.len() as u64);
        self.sections.push(Section { name, type_, flags, info: 0, size, bytes: bytes.to_vec() });
        self
    }

    fn code(self, name: &str, insns: &[Insn]) -> Self {
        self.section(name, PROGBITS, EXEC, &encode(insns))
    }

    /// Relocations of a section: offset, type, symbol (from 1 on).
    fn relocations(mut self, of: u32, list: &[(u64, u32, u32)]) -> Self {
        let bytes = list.iter().flat_map(|(offset, type_, symbol)| {
            [offset.to_le_bytes(), (u64::from(*symbol) << 32 | u64::from(*type_)).to_le_bytes()].concat()
        });
        self = self.section(".rel", REL, 0, &bytes.collect::<Vec<_>>());
        self.sections.last_mut().unwrap().info = of;
        self
    }

    fn symbols(mut self, symbols: &[Symbol<'a>]) -> Self {
        self.symbols.extend(symbols);
        self
    }

    fn bytes(self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut name = |name: &str| {
            let at = strings.len() as u32;
            strings.extend(name.bytes().chain([0]));
            at
        };
        let mut symbols = vec![0; 24];
        for (symbol, value, size, info, section) in &self.symbols {
            symbols.extend(name(symbol).to_le_bytes());
            symbols.extend([*info, 0]);
            symbols.extend(section.to_le_bytes());
            symbols.extend([value.to_le_bytes(), size.to_le_bytes()].concat());
        }
        let symtab = self.sections.len() as u32 + 1;
        let mut headers: Vec<Header> = vec![(0, 0, 0, 0, 0, 0, 0, 0)];
        let mut body: Vec<u8> = Vec::new();
        for section in &self.sections {
            let (offset, entry) = (64 + body.len() as u64, if section.type_ == REL { 16 } else { 0 });
            let link = if section.type_ == REL { symtab } else { 0 };
            headers.push((
                name(&section.name),
                section.type_,
                section.flags,
                offset,
                section.size,
                link,
                section.info,
                entry,
            ));
            body.extend(&section.bytes);
        }
        headers.push((0, 2, 0, 64 + body.len() as u64, symbols.len() as u64, symtab + 1, 1, 24));
        body.extend(&symbols);
        headers.push((0, 3, 0, 64 + body.len() as u64, strings.len() as u64, 0, 0, 0));
        body.extend(&strings);
        let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        out.extend([1_u16.to_le_bytes(), 247_u16.to_le_bytes()].concat());
        out.extend(1_u32.to_le_bytes());
        out.extend([0_u64.to_le_bytes(), 0_u64.to_le_bytes(), (64 + body.len() as u64).to_le_bytes()].concat());
        out.extend(0_u32.to_le_bytes());
        for half in [64, 0, 0, 64, headers.len() as u16, headers.len() as u16 - 1] {
            out.extend(half.to_le_bytes());
        }
        out.extend(body);
        for (name, type_, flags, offset, size, link, info, entry) in headers {
            out.extend([name.to_le_bytes(), type_.to_le_bytes()].concat());
            out.extend([flags, 0, offset, size].iter().flat_map(|word| word.to_le_bytes()));
            out.extend([link.to_le_bytes(), info.to_le_bytes()].concat());
            out.extend([1, entry].iter().flat_map(|word: &u64| word.to_le_bytes()));
        }
        out
    }

    fn parse(self) -> Result<Object, ObjectError> {
        let result = Object::parse(&self.bytes());
        if let Ok(object) = &result {
            check(object);
        }
        result
    }
}

fn maker<'a>() -> Maker<'a> {
    Maker::default()
}

/// A program `main` of these instructions in section `x`, which is 1; symbol 1.
fn main_of<'a>(insns: &[Insn]) -> Maker<'a> {
    maker().code("x", insns).symbols(&[("main", 0, insns.len() as u64 * 8, GLOBAL_FUNC, 1)])
}

fn at(insn: usize) -> Box<Place> {
    Box::new(Place { section: "x".to_owned(), function: "main".to_owned(), insn, line: None })
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn a_file_that_is_none_is_refused() {
    let good = main_of(&[EXIT]).bytes();
    assert_eq!(Object::parse(&good).unwrap().programs[0].insns, [EXIT]);
    let with = |at: usize, byte| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Object::parse(&bytes).unwrap_err()
    };
    assert!(matches!(with(0, 0), ObjectError::Elf { .. }));
    assert!(matches!(with(4, 1), ObjectError::Elf { .. }), "32 bits");
    assert_eq!(with(18, 62), ObjectError::Machine { machine: 62 });
    assert_eq!(with(16, 2), ObjectError::FileType { type_: 2 });
    assert!(matches!(Object::parse(b""), Err(ObjectError::Elf { .. })));
    // Sections that share their bytes.
    let mut shared = main_of(&[EXIT; 100]).section("y", PROGBITS, 0, &[]);
    shared.sections[1].size = 1 << 60;
    assert!(matches!(shared.parse(), Err(ObjectError::Sizes { .. })));
    // Only zeros take no memory.
    let mut zeros = main_of(&[EXIT]).section(".bss", NOBITS, ALLOC, &[]);
    zeros.sections[1].size = 1 << 60;
    let wanted = ObjectError::DataSize { section: text(".bss"), size: 1 << 60 };
    assert_eq!(zeros.parse(), Err(wanted));
    let long = "n".repeat(513);
    let named = |len| maker().code("x", &[EXIT]).symbols(&[(&long[..len], 0, 8, GLOBAL_FUNC, 1)]).parse();
    assert_eq!(named(512).unwrap().programs[0].name.len(), 512);
    assert_eq!(named(513), Err(ObjectError::Name { what: "symbol", index: 1 }));
    let outside = maker().symbols(&[("main", 0, 8, GLOBAL_FUNC, 77)]).parse();
    assert_eq!(outside, Err(ObjectError::SymbolSection { symbol: 1, section: 77, count: 3 }));
}

#[test]
fn small_sections_are_checked() {
    let license = |bytes: &[u8]| main_of(&[EXIT]).section("license", PROGBITS, ALLOC, bytes).parse();
    assert_eq!(license(b"GPL\0").unwrap().license.as_deref(), Some("GPL"));
    assert_eq!(license(b"GPL"), Err(ObjectError::License));
    assert_eq!(license(b"\xff\0"), Err(ObjectError::License));
    let version = |bytes: &[u8]| main_of(&[EXIT]).section("version", PROGBITS, ALLOC, bytes).parse();
    assert_eq!(version(&[1, 2, 0, 0]).unwrap().version, Some(0x201));
    assert_eq!(version(&[1, 2, 0]), Err(ObjectError::Version { len: 3 }));
    let ext = main_of(&[EXIT]).section(".BTF.ext", PROGBITS, 0, &[1]).parse();
    assert_eq!(ext, Err(ObjectError::ExtWithoutBtf));
    let btf = main_of(&[EXIT]).section(".BTF", PROGBITS, 0, &[1]).parse();
    assert!(matches!(btf, Err(ObjectError::Btf { section: ".BTF", .. })));
    let maps = main_of(&[EXIT]).section(".maps", PROGBITS, ALLOC, &[0; 8]).parse();
    assert_eq!(maps, Err(ObjectError::MapsWithoutBtf));
    let slot = maker().code("dtrace/x", &[EXIT]).symbols(&[("main", 0, 8, GLOBAL_FUNC, 1)]).parse();
    assert!(matches!(slot, Err(ObjectError::Slot(error)) if error.slot == "x"));
}

#[test]
fn every_instruction_is_in_one_function() {
    let of = |symbols: &[Symbol<'_>]| maker().code("x", &[EXIT; 4]).symbols(symbols).parse();
    let names = |object: Object| -> Vec<(String, usize)> {
        object.programs.iter().map(|program| (program.name.clone(), program.insns.len())).collect()
    };
    let main = |value, size| ("main", value, size, GLOBAL_FUNC, 1);
    let next = |value, size| ("next", value, size, GLOBAL_FUNC, 1);
    let both = |main_len, next_len| vec![(text("main"), main_len), (text("next"), next_len)];
    assert_eq!(names(of(&[main(0, 16), next(16, 16)]).unwrap()), both(2, 2));
    // Assemblers need not say how long a function is.
    assert_eq!(names(of(&[main(0, 0), next(8, 0)]).unwrap()), both(1, 3));
    // Another name for the same function.
    assert_eq!(names(of(&[main(0, 32), next(0, 32)]).unwrap()), both(4, 4));
    let range = |offset, size| {
        let (function, section) = (text("main"), text("x"));
        Err(ObjectError::FunctionRange { function, section, offset, size })
    };
    assert_eq!(of(&[main(0, 40)]), range(0, 40));
    assert_eq!(of(&[main(4, 8)]), range(4, 8));
    assert_eq!(of(&[main(0, 12)]), range(0, 12));
    assert_eq!(of(&[main(u64::MAX - 7, 16)]), range(u64::MAX - 7, 16));
    assert_eq!(of(&[main(32, 0)]), range(32, 0));
    let overlap = ObjectError::FunctionsOverlap { first: text("main"), second: text("next"), section: text("x") };
    assert_eq!(of(&[main(0, 32), next(8, 8)]), Err(overlap));
    let lost = |insn| Err(ObjectError::NoFunction { section: text("x"), insn });
    assert_eq!(of(&[]), lost(0));
    assert_eq!(of(&[main(8, 24)]), lost(0));
    assert_eq!(of(&[main(0, 8), next(16, 16)]), lost(1));
    assert_eq!(of(&[main(0, 24)]), lost(3));
    let odd = maker().section("x", PROGBITS, EXEC, &[0; 12]).parse();
    assert_eq!(odd, Err(ObjectError::CodeLength { section: text("x"), len: 12 }));
}

#[test]
fn each_bad_relocation_has_its_error() {
    let insns = [LDDW, SECOND, CALL, EXIT];
    // 1 main, 2 a variable of .data, 3 one that is elsewhere, 4 an absolute one, 5 one of a section that is nothing.
    let of = |list: &[(u64, u32, u32)]| {
        main_of(&insns)
            .section(".data", PROGBITS, ALLOC, &[0; 16])
            .section("other", PROGBITS, ALLOC, &[0; 16])
            .relocations(1, list)
            .symbols(&[
                ("variable", 8, 8, GLOBAL_OBJECT, 2),
                ("elsewhere", 0, 0, 0x10, 0),
                ("absolute", 5, 0, 0x10, 0xfff1),
                ("thing", 0, 8, GLOBAL_OBJECT, 3),
                ("far", 16, 8, GLOBAL_OBJECT, 2),
                ("odd", 4, 8, GLOBAL_OBJECT, 1),
            ])
            .parse()
    };
    let (call, symbol, section) = ((16, 10, 1), text, text("x"));
    let good = of(&[(0, 1, 2), call]).unwrap();
    assert_eq!(
        good.programs[0].insns,
        [Insn { src: 6, ..LDDW }, Insn { imm: 8, ..SECOND }, Insn { imm: -3, ..CALL }, EXIT]
    );
    assert_eq!(of(&[(0, 0, 2), (0, 1, 2), call]).unwrap(), good, "relocations of type 0 are none");
    // A call that is not relocated leads into its own section.
    assert_eq!(of(&[]).err(), None, "it is within the function, so that it moves with it");
    let outside = main_of(&[Insn { imm: 5, ..CALL }, EXIT]).parse();
    assert_eq!(outside, Err(ObjectError::FunctionReference { place: at(0), section: text("x"), target: 6 }));
    let offset = |offset| Err(ObjectError::RelocationOffset { section: section.clone(), offset });
    assert_eq!(of(&[(4, 1, 2)]), offset(4));
    assert_eq!(of(&[(8, 1, 2)]), offset(8));
    assert_eq!(of(&[(32, 1, 2)]), offset(32));
    assert_eq!(of(&[(u64::MAX, 1, 2)]), offset(u64::MAX));
    let twice = ObjectError::RelocatedTwice { section: text("x"), offset: 16 };
    assert_eq!(of(&[call, call]), Err(twice));
    let number = ObjectError::RelocationSymbol { section: text("x"), symbol: 99, count: 8 };
    assert_eq!(of(&[(0, 1, 99)]), Err(number));
    let type_ = |type_| Err(ObjectError::RelocationType { place: at(0), symbol: symbol("variable"), type_ });
    for number in [2, 3, 4, 77] {
        assert_eq!(of(&[(0, number, 2)]), type_(number));
    }
    let insn = |place, type_, opcode, name| {
        Err(ObjectError::RelocationInsn { place: at(place), symbol: text(name), type_, opcode })
    };
    assert_eq!(of(&[(0, 10, 1)]), insn(0, 10, 0x18, "main"));
    assert_eq!(of(&[(16, 1, 2)]), insn(2, 1, 0x85, "variable"));
    assert_eq!(of(&[(24, 1, 2)]), insn(3, 1, 0x95, "variable"));
    assert_eq!(of(&[(16, 10, 7)]), insn(2, 10, 0x85, "odd"));
    let missing = ObjectError::Extern { place: at(0), symbol: symbol("elsewhere"), weak: false };
    assert_eq!(of(&[(0, 1, 3)]), Err(missing));
    let target = |symbol, section| {
        Err(ObjectError::RelocationTarget { place: at(0), symbol: text(symbol), section: text(section) })
    };
    assert_eq!(of(&[(0, 1, 4)]), target("absolute", ""));
    assert_eq!(of(&[(0, 1, 5)]), target("thing", "other"));
    let data =
        ObjectError::DataReference { place: at(0), symbol: text("far"), section: text(".data"), offset: 16, size: 16 };
    assert_eq!(of(&[(0, 1, 6)]), Err(data));
    let none = ObjectError::FunctionReference { place: at(0), section: text("x"), target: 0 };
    assert_eq!(of(&[(0, 1, 7)]), Err(none));
    // A 64-bit immediate at the end of its function has no second slot.
    let cut = main_of(&[EXIT, LDDW]).section(".data", PROGBITS, ALLOC, &[0; 8]);
    let cut = cut.symbols(&[("v", 0, 8, GLOBAL_OBJECT, 2)]).relocations(1, &[(8, 1, 2)]).parse();
    assert_eq!(cut, insn(1, 1, 0x18, "v"));
    // An addend of 64 bits.
    let addend = [Insn { imm: -8, ..LDDW }, Insn { imm: -1, ..SECOND }, EXIT];
    let addend = main_of(&addend).section(".data", PROGBITS, ALLOC, &[0; 16]).relocations(1, &[(0, 1, 2)]);
    let addend = addend.symbols(&[("v", 12, 4, GLOBAL_OBJECT, 2)]).parse().unwrap();
    assert_eq!(addend.programs[0].insns[1].imm, 4);
    let mut rela = main_of(&[EXIT]).section("r", 4, 0, &[]);
    rela.sections[1].info = 1;
    assert_eq!(rela.parse(), Err(ObjectError::Addends { section: text("r") }));
    let nowhere = main_of(&[EXIT]).relocations(99, &[]).parse();
    assert_eq!(nowhere, Err(ObjectError::RelocatedSection { section: text(".rel"), target: 99 }));
}

#[test]
fn calls_by_section_and_by_function_are_the_same() {
    let functions = [("main", 0, 16, GLOBAL_FUNC, 1), ("f", 0, 8, LOCAL_FUNC, 2), ("g", 8, 8, LOCAL_FUNC, 2)];
    let of = |insn: Insn, symbol: u32, type_| {
        let insns: &[Insn] = if insn.opcode == 0x18 { &[insn, SECOND, EXIT] } else { &[insn, EXIT] };
        let mut functions = functions;
        functions[0].2 = insns.len() as u64 * 8;
        let object = maker().code("x", insns).code(".text", &[EXIT, EXIT]).symbols(&functions);
        object.symbols(&[("", 0, 0, SECTION, 2)]).relocations(1, &[(0, type_, symbol)]).parse()
    };
    let by_function = of(CALL, 3, 10).unwrap();
    assert_eq!(by_function.programs[0].insns, [Insn { imm: 1, ..CALL }, EXIT, EXIT]);
    assert_eq!(&*by_function.programs[0].functions[1].name, "g");
    // The section's symbol, and the instruction before the function, as the immediate.
    assert_eq!(of(Insn { imm: 0, ..CALL }, 4, 10).unwrap(), by_function);
    let none = ObjectError::FunctionReference { place: at(0), section: text(".text"), target: 2 };
    assert_eq!(of(Insn { imm: 1, ..CALL }, 4, 10), Err(none.clone()));
    let address = of(LDDW, 3, 1).unwrap();
    assert_eq!(address.programs[0].insns, [Insn { src: 4, imm: 2, ..LDDW }, SECOND, EXIT, EXIT]);
    assert_eq!(of(Insn { imm: 8, ..LDDW }, 4, 1).unwrap(), address);
    assert_eq!(of(Insn { imm: 16, ..LDDW }, 4, 1), Err(none));
    assert!(matches!(of(Insn { imm: 4, ..LDDW }, 4, 1), Err(ObjectError::FunctionReference { .. })));
}

#[test]
fn linked_programs_have_a_limit() {
    // Each of these programs, in a file of half a megabyte, calls the same large function.
    let (programs, len) = (40_u64, 30_000_usize);
    let callers: Vec<Insn> = (0..programs).flat_map(|_| [CALL, EXIT]).collect();
    let names: Vec<String> = (0..programs).map(|number| format!("p{number}")).collect();
    let list: Vec<_> = (0..programs).map(|number| (number * 16, 10, 1)).collect();
    let mut large = maker().code("x", &callers).code(".text", &vec![EXIT; len]).relocations(1, &list);
    large = large.symbols(&[("large", 0, len as u64 * 8, LOCAL_FUNC, 2)]);
    for (number, name) in (0..).zip(&names) {
        large = large.symbols(&[(name, number * 16, 16, GLOBAL_FUNC, 1)]);
    }
    let error = large.parse().unwrap_err();
    assert_eq!(error, ObjectError::TooLarge { program: text("p33"), most: 1_000_000 });
}

#[test]
fn each_bad_legacy_map_has_its_error() {
    let definition = |tail: &[u8]| [&[2, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0][..], tail].concat();
    let of = |bytes: &[u8], symbols: &[Symbol<'_>]| {
        main_of(&[EXIT]).section("maps", PROGBITS, ALLOC, bytes).symbols(symbols).parse()
    };
    let map = |value| ("m", value, 20, GLOBAL_OBJECT, 2);
    let object = of(&definition(&[0; 8]), &[map(0)]).unwrap();
    assert_eq!(numbers(&object.maps[0]), ("m", 2, 4, 8, 16, 1));
    let tail = ObjectError::MapTail { map: text("m"), at: 23, value: 9 };
    assert_eq!(of(&definition(&[0, 0, 0, 9]), &[map(0)]), Err(tail));
    let short = ObjectError::MapLength { map: text("m"), offset: 0, len: 19 };
    assert_eq!(of(&definition(&[])[..19], &[map(0)]), Err(short));
    let behind = ObjectError::MapLength { map: text("a"), offset: 0, len: 100 };
    assert_eq!(of(&definition(&[]), &[("a", 0, 20, GLOBAL_OBJECT, 2), map(100)]), Err(behind));
    assert_eq!(of(&definition(&[]), &[]), Err(ObjectError::MapsUnnamed { len: 20 }));
    assert_eq!(of(&definition(&[]), &[map(1)]), Err(ObjectError::MapsUnnamed { len: 20 }));
    let two = [definition(&[]), definition(&[])].concat();
    assert_eq!(of(&two, &[map(0), map(20)]), Err(ObjectError::MapTwice { map: text("m") }));
    // Instructions refer to where maps start.
    let of = |imm| {
        let insns = [Insn { imm, ..LDDW }, SECOND, EXIT];
        let object = main_of(&insns).section("maps", PROGBITS, ALLOC, &definition(&[])).symbols(&[map(0)]);
        object.relocations(1, &[(0, 1, 2)]).parse()
    };
    assert_eq!(of(0).unwrap().programs[0].insns[0], Insn { src: 5, ..LDDW });
    let (symbol, section) = (text("m"), text("maps"));
    assert_eq!(of(4), Err(ObjectError::MapReference { place: at(0), symbol, section, offset: 4 }));
}

/// BTF of a `.maps` section with a variable `m` of type `id`, behind these types, the first of which is 1.
///
/// Names: m 1, type 3, max_entries 8, value 20, value_size 26, values 37, other 44, key_size 50, .maps 59.
fn btf(types: &[&[u32]], id: u32) -> Vec<u8> {
    let strings = b"\0m\0type\0max_entries\0value\0value_size\0values\0other\0key_size\0.maps\0";
    let var = types.len() as u32 + 1;
    let last: [u32; 10] = [1, 14 << 24, id, 1, 59, 15 << 24 | 1, 0, var, 0, 8];
    let words = [&types.concat()[..], &last].concat();
    let len = words.len() as u32 * 4;
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, len, len, strings.len() as u32].iter().chain(&words) {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(strings);
    bytes
}

/// An object with a map of these fields (name and type), 8 bytes each, and relocations of it. Types: 1 int, 2 a pointer to it,
/// 3 an array of 3, 4 a pointer to it, 5 an array of 4, 6 a pointer to it, 7 a function's type, 8 a pointer to it, 9 an
/// array of such, 10 a pointer to itself, 11 an array of `void` pointers, 12 a pointer to 14, 13 an array of them, 14 the map.
fn map_of(fields: &[(u32, u32)], relocations: &[(u64, u32, u32)]) -> Result<Object, ObjectError> {
    let members = fields.iter().enumerate().flat_map(|(index, (name, type_))| [*name, *type_, index as u32 * 64]);
    let map: Vec<u32> = [0, 4 << 24 | fields.len() as u32, 8].into_iter().chain(members).collect();
    let types: &[&[u32]] = &[
        &[0, 1 << 24, 4, 32],
        &[0, 2 << 24, 1],
        &[0, 3 << 24, 0, 1, 1, 3],
        &[0, 2 << 24, 3],
        &[0, 3 << 24, 0, 1, 1, 4],
        &[0, 2 << 24, 5],
        &[0, 13 << 24, 1],
        &[0, 2 << 24, 7],
        &[0, 3 << 24, 0, 8, 1, 0],
        &[0, 8 << 24, 10],
        &[0, 3 << 24, 0, 2, 1, 0],
        &[0, 2 << 24, 14],
        &[0, 3 << 24, 0, 12, 1, 0],
        &map,
    ];
    let size = 64;
    let object = main_of(&[EXIT]).section(".maps", PROGBITS, ALLOC, &[0; 64]);
    let object = object.section(".BTF", PROGBITS, 0, &btf(types, 14)).relocations(2, relocations);
    object.symbols(&[("m", 0, size, GLOBAL_OBJECT, 2), ("f", 0, 8, LOCAL_FUNC, 1)]).parse()
}

#[test]
fn each_bad_map_that_btf_describes_has_its_error() {
    const TYPE: (u32, u32) = (3, 4);
    const ENTRIES: (u32, u32) = (8, 4);
    let map = || text("m");
    // Of type 3, with 3 entries, and the program in slot 2.
    let good = map_of(&[TYPE, ENTRIES, (37, 9)], &[(32, 2, 1)]).unwrap();
    assert_eq!(numbers(&good.maps[0]), ("m", 3, 4, 4, 3, 0));
    assert_eq!(good.maps[0].values, [(2, text("main"))]);

    assert_eq!(map_of(&[TYPE, (44, 4)], &[]), Err(ObjectError::MapField { map: map(), field: text("other") }));
    assert_eq!(map_of(&[TYPE, TYPE], &[]), Err(ObjectError::MapFieldTwice { map: map(), field: text("type") }));
    let number = "a number: a pointer to an array";
    for type_ in [1, 2, 3] {
        let shape = ObjectError::MapFieldShape { map: map(), field: "type", wanted: number };
        assert_eq!(map_of(&[(3, type_)], &[]), Err(shape));
    }
    let shape = ObjectError::MapFieldShape { map: map(), field: "value", wanted: "a pointer to a type" };
    assert_eq!(map_of(&[TYPE, (20, 1)], &[]), Err(shape));
    let wanted = "an array of pointers to programs";
    for type_ in [2, 3, 11] {
        let shape = ObjectError::MapFieldShape { map: map(), field: "values", wanted };
        assert_eq!(map_of(&[TYPE, (37, type_)], &[]), Err(shape));
    }
    let sizes = ObjectError::MapSizes { map: map(), field: "value_size", size: 3, of_type: 4 };
    assert_eq!(map_of(&[TYPE, (26, 4), (20, 2)], &[]), Err(sizes));
    assert_eq!(map_of(&[TYPE, (26, 6), (20, 2)], &[]).unwrap().maps[0].value_size, 4);
    assert_eq!(map_of(&[ENTRIES], &[]), Err(ObjectError::MapType { map: map() }));
    assert_eq!(map_of(&[TYPE, (37, 13)], &[]), Err(ObjectError::MapInMap { map: map() }));
    // Of type 4.
    assert_eq!(map_of(&[(3, 6), (37, 9)], &[]), Err(ObjectError::MapValues { map: map(), type_: 4 }));
    // A value of a function has no size; a type that is itself is none.
    assert!(matches!(map_of(&[TYPE, (20, 8)], &[]), Err(ObjectError::MapBtf { .. })));
    assert!(matches!(map_of(&[(3, 10)], &[]), Err(ObjectError::MapBtf { .. })));

    let with = |relocation| map_of(&[TYPE, ENTRIES, (37, 9)], &[relocation]);
    assert_eq!(with((40, 2, 1)), Err(ObjectError::MapSlot { map: map(), slot: 3, max_entries: 3 }));
    let program = ObjectError::MapSlotProgram { map: map(), slot: 0, symbol: map() };
    assert_eq!(with((16, 2, 2)), Err(program));
    let relocation = |offset, type_| Err(ObjectError::MapRelocation { offset, symbol: text("main"), type_ });
    assert_eq!(with((8, 2, 1)), relocation(8, 2));
    assert_eq!(with((20, 2, 1)), relocation(20, 2));
    assert_eq!(with((16, 10, 1)), relocation(16, 10));
    assert_eq!(with((640, 2, 1)), relocation(640, 2));

    let of = |types: &[&[u32]], id, symbol| {
        let object = main_of(&[EXIT]).section(".maps", PROGBITS, ALLOC, &[0; 8]);
        object.section(".BTF", PROGBITS, 0, &btf(types, id)).symbols(&[(symbol, 0, 8, GLOBAL_OBJECT, 2)]).parse()
    };
    let int: &[u32] = &[0, 1 << 24, 4, 32];
    assert_eq!(of(&[int], 1, "m"), Err(ObjectError::MapShape { map: map(), type_: 2 }));
    assert_eq!(of(&[int], 1, "other"), Err(ObjectError::MapSymbol { map: map() }));
}
