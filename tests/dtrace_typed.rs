//! Records and aggregations by their types.
#![cfg(feature = "dtrace")]

use perfring::bpf::btf::{Btf, BtfError, Kind, Layout, Value};
use perfring::bpf::elf::Object;
use perfring::bpf::map::UpdateFlags;
use perfring::dtrace::{
    Aggregate, AggregationError, Aggregations, Distribution, Format, FormatError, Function, Item, RecordContext,
    RecordTypeError, RecordTypes, Session, SessionError, aggregation_drops,
};

perfring::probe! {
    fn everything() = "test:typed::everything";
    #[stability(Stable)]
    fn number(key: i64, number: i64) = "test:typed::number";
}

const OBJECT: &[u8] = include_bytes!("bpf/typed.bpf.o");

fn object() -> Object {
    Object::parse(OBJECT).expect("an object")
}

/// A session with the programs of the object at their probes.
fn session(object: &Object) -> Session {
    let mut session = Session::builder().cpus(4).per_thread().load(object).expect("loads");
    for (name, pattern) in session.wanted().to_vec() {
        let program = session.loaded().programs[&name].clone();
        assert_eq!(session.attach(&program, &pattern).expect("attaches"), 1);
    }
    session.enable().expect("starts");
    session
}

fn written(format: &str, layout: &Layout, bytes: &[u8]) -> String {
    let format: Format = format.parse().expect("a format");
    format.check(layout).expect("has the fields");
    let mut text = String::new();
    let context = RecordContext { map: "events", cpu: Some(3), time: None };
    format.write(&mut text, context, layout, bytes).expect("a string");
    text
}

#[test]
fn a_record_is_told_by_the_names_of_its_fields() {
    let object = object();
    let types = RecordTypes::of(&object).expect("types");
    let names: Vec<_> = types.iter().map(|(map, type_)| (map, type_.layout().name())).collect();
    assert_eq!(names, [("events", "everything"), ("events", "number")]);
    let mut session = session(&object);
    everything();
    session.close().expect("ends");
    let mut found = Vec::new();
    session.read(|item| match item {
        Item::Sample { map, data, .. } => found.push((map.to_owned(), data.to_vec())),
        other => panic!("{other:?}"),
    });
    let [(map, data)] = &found[..] else { panic!("{found:?}") };
    let type_ = types.get(map, data).expect("its type");
    let layout = type_.layout();
    assert!(type_.format().is_none() && types.get(map, &data[..data.len() - 1]).is_none());
    let text = layout.value(data).expect("as long").to_string();
    // Of values of 64 bits clang 14 keeps half, so that the name of the wide one is not known.
    assert_eq!(
        text,
        "{time=5 low=5 middle=4097 high=65535 small=-3 truth=true colour=INFRARED unknown=99 wide=78187493520 \
         address=0xffff800000001000 points=[{x=1 y=-2}, {x=-3 y=4}] either={whole=67305985 part=[1, 2, 3, 4]} \
         inner=200 deep=-8 text=\"a\\\"\\n\\xff\" bytes=[1, 2, 255] huge=18446744073709551616}"
    );
    let Some(Value::Struct(fields)) = layout.value(data) else { panic!("a struct") };
    assert_eq!(fields.get("deep").and_then(|value| value.integer()), Some(-8));
    assert!(fields.get("shallow").is_none());
    for short in 0..layout.size() {
        assert!(layout.value(&data[..short]).is_none());
    }

    for (format, expected) in [
        ("{time}", "5"),
        ("{time:4}|{time:-4}|{time:04}|{time:-04}", "   5|5   |0005|5   "),
        ("{small}|{small:u}|{small:x}|{small:4}|{small:05}", "-3|29|1d|  -3|-0003"),
        ("{high:d}|{high}|{high:X}", "-1|65535|FFFF"),
        ("{points[1].x}|{points[1].x:x}|{points[0]}", "-3|fffffffd|{x=1 y=-2}"),
        ("{colour}|{colour:d}|{colour:x}|{colour:10}|{unknown:5}", "INFRARED|-7|fffffff9|INFRARED  |   99"),
        ("{address}|{address:x}|{address:d}", "0xffff800000001000|ffff800000001000|-140737488351232"),
        ("{text}|{text:6}|{bytes[2]:02x}", "a\"\\n\\xff|a\"\\n\\xff|ff"),
        ("{truth}|{truth:d}", "true|1"),
        ("{huge:x}|{$cpu:03}|{$map}|{$time}|{{}}", "10000000000000000|003|events|?|{}"),
        ("{either.part[3]}\\t{inner}\\\\", "4\t200\\"),
    ] {
        assert_eq!(written(format, layout, data), expected, "{format}");
    }
    for missing in ["{nothing}", "{time.x}", "{points[2]}", "{points.x}", "{text[0]}", "{time[0]}"] {
        let error = missing.parse::<Format>().expect("a format").check(layout).unwrap_err();
        assert!(matches!(error, FormatError::NoField { .. }), "{missing}: {error}");
    }
    assert_eq!(written("{number}", types.get("events", &[0; 12]).expect("the other").layout(), &[9; 3]), "?");
}

#[test]
fn a_format_is_for_those_that_have_its_fields() {
    let mut types = RecordTypes::of(&object()).expect("types");
    let formats = |types: &RecordTypes| types.iter().map(|(_, of)| of.format().cloned()).collect::<Vec<_>>();
    let own: Format = "number {number}".parse().expect("a format");
    assert_eq!(formats(&types), [None, Some(own.clone())]);
    let mine: Format = "{time} {inner}".parse().expect("a format");
    types.set_format(&mine).expect("one has the fields");
    assert_eq!(formats(&types), [Some(mine), Some(own)]);
    let error = types.set_format(&"{time} {number}".parse().expect("a format")).unwrap_err();
    assert!(matches!(error, FormatError::NoField { field, .. } if field == "number"));
}

#[test]
fn aggregations_are_one_over_the_threads() {
    let object = object();
    let mut aggregations = Aggregations::of(&object).expect("aggregations");
    aggregations.add(&object, "plain").expect("has integers");
    aggregations.add(&object, "plain").expect("is there");
    let mut session = session(&object);
    const EACH: i64 = 1000;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || (0..EACH).for_each(|n| number(thread % 2, n * (thread - 1))));
        }
    });
    number(7, i64::MIN);
    number(8, i64::MAX);
    // The fifth key finds no room.
    number(9, 1);
    session.close().expect("ends");
    assert_eq!(session.stats().expect("no program runs").dropped(), 0);
    assert_eq!(aggregation_drops(&object, session.loaded()), 1);

    let tables = aggregations.read(session.loaded()).expect("can be read");
    let names: Vec<_> = tables.iter().map(|table| table.map()).collect();
    assert_eq!(names, ["all", "buckets", "plain"]);
    let columns: Vec<_> = tables[0].columns().collect();
    use Function::{Avg, Count, Max, Min, Quantize, Sum};
    let expected = [("count", Count), ("sum", Sum), ("min", Min), ("max", Max), ("avg", Avg), ("sizes", Quantize)];
    assert_eq!(columns, expected);
    let key = |bytes: &[u8]| i64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
    let keys: Vec<_> = tables[0].rows().iter().map(|row| key(&row.key)).collect();
    // By how many there are, then by the sum: threads 0 and 2 have key 0 and come to nothing together.
    assert_eq!(keys, [7, 8, 0, 1]);
    assert_eq!(tables[0].key_value(&tables[0].rows()[0]).expect("a key").to_string(), "{number=7}");

    let model = |numbers: &[i64]| {
        let mut distribution = Distribution::default();
        for number in numbers {
            let bucket = match number {
                0 => 63,
                1.. => 64 + number.ilog2().min(62) as usize,
                _ => 62 - number.unsigned_abs().ilog2().min(62) as usize,
            };
            distribution.add(bucket, 1);
        }
        let sum: i128 = numbers.iter().map(|number| i128::from(*number)).sum();
        let count = numbers.len() as u128;
        vec![
            Aggregate::Count(count),
            Aggregate::Sum(sum),
            Aggregate::Min(numbers.iter().min().copied()),
            Aggregate::Max(numbers.iter().max().copied()),
            Aggregate::Avg { count, sum },
            Aggregate::Quantize(distribution),
        ]
    };
    let of = |threads: [i64; 2]| -> Vec<i64> {
        threads.iter().flat_map(|thread| (0..EACH).map(move |n| n * (thread - 1))).collect()
    };
    let values: Vec<_> = tables[0].rows().iter().map(|row| row.values.clone()).collect();
    assert_eq!(values, [model(&[i64::MIN]), model(&[i64::MAX]), model(&of([0, 2])), model(&of([1, 3]))]);

    let all: Vec<i64> = [of([0, 2]), of([1, 3]), vec![i64::MIN, i64::MAX, 1]].concat();
    let [row] = tables[1].rows() else { panic!("element 0 has nothing") };
    assert_eq!((&row.key[..], &row.values[0]), (&1_u32.to_ne_bytes()[..], &model(&all)[5]));
    // 4003 modulo 256, over the CPUs.
    let [row] = tables[2].rows() else { panic!("one element") };
    let columns: Vec<_> = tables[2].columns().map(|(name, _)| name).collect();
    assert_eq!(columns, ["byte", "negative", "large"]);
    let [Aggregate::Sum(bytes), Aggregate::Sum(negative), Aggregate::Sum(_)] = row.values[..] else {
        panic!("{row:?}")
    };
    assert_eq!((bytes % 256, negative), (4003 % 256, -4003));

    // What has come to nothing is not the same as what was never there.
    let map = &session.loaded().maps["all"];
    let gone = 8_i64.to_ne_bytes();
    let size = map.lookup(&gone).expect("can be read").expect("there").len();
    map.update(&gone, &vec![0; size], UpdateFlags::Any).expect("a key that is there");
    let tables = aggregations.read(session.loaded()).expect("can be read");
    let row = tables[0].rows().iter().find(|row| row.key == gone).expect("its key is there");
    assert_eq!(row.values[..3], [Aggregate::Count(0), Aggregate::Sum(0), Aggregate::Min(None)]);

    // What the program found of its probe.
    let seen = session.loaded().maps["seen"].lookup(&0_u32.to_ne_bytes()).expect("can be read").expect("an array");
    let text = |at: usize| seen[at..].split(|byte| *byte == 0).next().expect("a text");
    assert_eq!([text(0), text(64), text(128), text(256)], [&b"test"[..], b"typed", b"", b"number"]);
    assert_eq!(seen[320..], [2_u32.to_ne_bytes(), 6_u32.to_ne_bytes()].concat());
}

#[test]
fn what_is_wrong_with_types_is_told() {
    let mut aggregations = Aggregations::default();
    let missing = aggregations.add(&object(), "missing");
    assert_eq!(missing, Err(AggregationError::NoMap { map: "missing".to_owned() }));
    let events = aggregations.add(&object(), "events");
    assert_eq!(events, Err(AggregationError::NoType { map: "events".to_owned() }));
    let seen = aggregations.add(&object(), "dtrace_probes").map(|()| aggregations.is_empty());
    assert_eq!(seen, Ok(false), "its last fields are integers");

    let object = object();
    let btf = object.btf.as_ref().expect("types");
    let number = btf.find("number", Kind::Struct).expect("a struct");
    let point = btf.find("point", Kind::Struct).expect("a struct");
    let mut types = RecordTypes::of(&object).expect("types");
    types.add("events", btf.layout(number).expect("a layout")).expect("it is the same");
    let error = types.add("events", btf.layout(point).expect("a layout")).unwrap_err();
    let (map, first, second) = ("events".to_owned(), "number".to_owned(), "point".to_owned());
    assert_eq!(error, RecordTypeError::Ambiguous { map, first, second, size: 12 });
    let integer = btf.find("int", Kind::Int).expect("an integer");
    let error = types.add("events", btf.layout(integer).expect("a layout")).unwrap_err();
    assert_eq!(error, RecordTypeError::NoFields { map: "events".to_owned() });

    let mut changed = object.clone();
    changed.maps.retain(|map| map.name != "events");
    let error = RecordTypes::of(&changed).unwrap_err();
    let (map, record) = ("events".to_owned(), "everything".to_owned());
    assert_eq!(error, RecordTypeError::NoMap { map, record });
    let mut changed = object.clone();
    changed.formats[0].1 = "{no}".to_owned();
    assert!(matches!(RecordTypes::of(&changed), Err(RecordTypeError::Format { .. })));
    changed.formats[0].0 = "point".to_owned();
    assert_eq!(RecordTypes::of(&changed), Err(RecordTypeError::NoRecord { record: "point".to_owned() }));
}

#[test]
fn the_map_of_probes_is_as_the_header_says() {
    let mut object = object();
    let map = object.maps.iter_mut().find(|map| map.name == "dtrace_probes").expect("the map");
    map.max_entries = 1;
    let mut session = Session::builder().cpus(1).load(&object).expect("loads");
    let program = session.loaded().programs["on_number"].clone();
    session.attach(&program, &"test:typed::number".parse().expect("a pattern")).expect("attaches");
    assert!(matches!(session.enable(), Err(SessionError::TooManyProbes { probes: 1, entries: 1 })));
}

/// A table of types, from the words of its types.
fn btf(types: &[u32], strings: &[u8]) -> Btf {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let len = types.len() as u32 * 4;
    let mut bytes = words(&[0x0001_eb9f, 24, 0, len, len, strings.len() as u32]);
    bytes.extend(words(types));
    bytes.extend(strings);
    Btf::parse(&bytes).expect("a table")
}

#[test]
fn types_without_end_are_refused() {
    use perfring::bpf::btf::TypeId;
    const STRUCT: u32 = 4 << 24;
    let int = [0, 1 << 24, 4, 32];
    // 2: a struct in itself. 3: an array of 2^32 - 1 ints has too many bytes. 4: of it.
    let own = btf(&[&int[..], &[0, STRUCT | 1, 8, 1, 2, 0]].concat(), b"\0a\0");
    assert_eq!(own.layout(TypeId(2)), Err(BtfError::TooLarge { id: TypeId(2) }));
    // Each struct has the one before twice: 2^30 parts.
    let mut types = int.to_vec();
    for id in 1..=29 {
        types.extend([0, STRUCT | 2, 4, 1, id, 0, 1, id, 0]);
    }
    let doubled = btf(&types, b"\0a\0");
    assert_eq!(doubled.layout(TypeId(30)), Err(BtfError::TooLarge { id: TypeId(30) }));
    assert!(doubled.layout(TypeId(4)).is_ok());
    // Members that are not within, or not at a byte, or have bits that an int does not have.
    for (size, bit_offset, bits) in [(4, 8, 0), (4, 1, 0), (8, 0, 33), (4, 31, 2), (4, 0x00ff_ffff, 1)] {
        let flag = if bits == 0 { 0 } else { 1 << 31 };
        let member = [1, STRUCT | flag | 1, size, 1, 1, bits << 24 | bit_offset];
        let one = btf(&[&int[..], &member].concat(), b"\0a\0");
        let name = "a".to_owned();
        assert_eq!(one.layout(TypeId(2)), Err(BtfError::Member { id: TypeId(2), name }), "{bit_offset} {bits}");
    }
    // Elements without bytes, 2^32 - 1 of them.
    let empty = btf(&[&int[..], &[0, STRUCT, 0, 0, 3 << 24, 0, 2, 1, u32::MAX]].concat(), b"\0");
    let layout = empty.layout(TypeId(3)).expect("nothing");
    assert_eq!(layout.value(&[]).expect("nothing").to_string(), "[]");
    // An int of 255 bits' bytes, and functions.
    let odd = btf(&[0, 1 << 24, 32, 128, 0, 13 << 24, 0], b"\0");
    assert_eq!(odd.layout(TypeId(1)), Err(BtfError::NoValue { id: TypeId(1) }));
    assert_eq!(odd.layout(TypeId(2)), Err(BtfError::NoSize { id: TypeId(2) }));
}

/// Numbers that look random.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn types_that_are_damaged_are_told_or_refused() {
    use perfring::bpf::btf::TypeId;
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let (mut parsed, mut told) = (0, 0);
    for _ in 0..1500 {
        let mut bytes = OBJECT.to_vec();
        for _ in 0..1 + random(&mut state) % 6 {
            let at = random(&mut state) as usize % bytes.len();
            bytes[at] = match random(&mut state) % 3 {
                0 => 0xff,
                1 => bytes[at] ^ 1 << (random(&mut state) % 8),
                _ => random(&mut state) as u8,
            };
        }
        let Ok(object) = Object::parse(&bytes) else { continue };
        parsed += 1;
        let _ = RecordTypes::of(&object);
        let mut aggregations = Aggregations::of(&object).unwrap_or_default();
        for map in &object.maps {
            let _ = aggregations.add(&object, &map.name);
        }
        let Some(btf) = &object.btf else { continue };
        for id in 0..btf.len() as u32 {
            let Ok(layout) = btf.layout(TypeId(id)) else { continue };
            if layout.size() <= 4096 {
                told += layout.value(&vec![0xa5; layout.size()]).expect("as long").to_string().len();
            }
        }
    }
    assert!(parsed > 100 && told > 100_000, "{parsed} {told}");
}
