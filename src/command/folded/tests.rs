use super::*;
use perfring::record::{
    Attr, ByteOrder, CallchainContext, Comm, Decoder, Encoder, Ksymbol, Misc, Mmap, SampleFields, SampleId, SampleType,
    Tid,
};
use perfring::replay::symbolize;
use perfring::replay::{Order, Recording};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

#[path = "../../../tests/common/mod.rs"]
mod common;

const USER: Misc = Misc::from_bits_retain(2);
const KERNEL: Misc = Misc::from_bits_retain(1);

/// A recording whose functions have names by `KSYMBOL` records.
struct Stream {
    attr: Attr,
    spaces: AddressSpaces,
    symbolizer: Symbolizer,
    folded: Folded,
}

impl Stream {
    fn new(options: Options) -> Self {
        let sample_type = SampleType::IP | SampleType::TID | SampleType::CALLCHAIN | SampleType::PERIOD;
        Self {
            attr: Attr { sample_type, ..Attr::default() },
            spaces: AddressSpaces::new(),
            symbolizer: Symbolizer::new(symbolize::Options::default()),
            folded: Folded::new(options),
        }
    }

    fn record(&mut self, misc: Misc, body: Body<'_>) {
        let mut bytes = Vec::new();
        let encoder = Encoder::new(&self.attr, ByteOrder::NATIVE).unwrap();
        encoder.encode(misc, &body, &SampleId::default(), &mut bytes).unwrap();
        self.spaces.observe(&Decoder::new(&self.attr).unwrap().decode(&bytes).unwrap());
    }

    /// Functions of 16 bytes, the first of them at 16.
    fn functions(&mut self, names: &[&str]) {
        for (at, name) in names.iter().enumerate() {
            let addr = at as u64 * 16 + 16;
            let symbol = Ksymbol { addr, len: 16, ksym_type: 1, flags: 0, name: (*name).into() };
            self.record(Misc::empty(), Body::Ksymbol(symbol));
        }
    }

    fn sample(&mut self, misc: Misc, ip: u64, chain: &[u64], period: u64) {
        let fields = SampleFields {
            ip: Some(ip),
            tid: Some(Tid { pid: 7, tid: 8 }),
            callchain: Some(chain.into()),
            period: Some(period),
            ..SampleFields::default()
        };
        let mut bytes = Vec::new();
        Encoder::new(&self.attr, ByteOrder::NATIVE).unwrap().sample(misc, &fields, &mut bytes).unwrap();
        let decoder = Decoder::new(&self.attr).unwrap();
        let decoded = decoder.decode(&bytes).unwrap();
        self.folded.sample(&self.spaces, &mut self.symbolizer, &decoded, 1);
    }

    fn lines(&self) -> Vec<String> {
        lines(&self.folded)
    }
}

fn lines(folded: &Folded) -> Vec<String> {
    let mut out = Vec::new();
    folded.write_folded(&mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn stacks_are_lines_from_the_thread_to_the_innermost_function() {
    let mut stream = Stream::new(Options::default());
    stream.functions(&["leaf", "middle", "outer"]);
    let kernel = CallchainContext::KERNEL.0;
    // The second of two calls returns to the start of the next function.
    stream.sample(KERNEL, 0, &[kernel, 16, 48, 64], 10);
    stream.sample(KERNEL, 0, &[kernel, 17, 48, 50], 10);
    stream.sample(KERNEL, 47, &[], 10);
    assert_eq!(stream.lines(), [":8;middle 1", ":8;outer;middle;leaf 2"]);
    stream.record(USER, Body::Comm(Comm { pid: 7, tid: 8, comm: "two words;".into() }));
    stream.sample(KERNEL, 47, &[], 10);
    assert_eq!(stream.lines(), [":8;middle 1", ":8;outer;middle;leaf 2", "two_words:;middle 1"]);
    assert_eq!((stream.folded.total(), stream.folded.left_out()), (4, 0));
}

#[test]
fn functions_without_a_name_have_that_of_the_file() {
    let mut stream = Stream::new(Options::default());
    for (addr, filename) in [(0x1000, "/usr/lib/lib;x.so"), (0x2000, "[vdso]"), (0x3000, "//anon"), (0x4000, "/dir/")] {
        let mmap = Mmap { pid: 7, tid: 7, addr, len: 0x1000, pgoff: 0, filename: filename.into() };
        stream.record(USER, Body::Mmap(mmap));
    }
    let kernel =
        Mmap { pid: u32::MAX, tid: 0, addr: 1 << 63, len: 16, pgoff: 0, filename: "[kernel.kallsyms]_text".into() };
    stream.record(KERNEL, Body::Mmap(kernel));
    let chain = [
        CallchainContext::KERNEL.0,
        1 << 63,
        CallchainContext::USER_DEFERRED.0,
        0xc00,
        CallchainContext::USER.0,
        0x1000,
        0x2001,
        0x3001,
        0x4001,
        0x5001,
    ];
    stream.sample(KERNEL, 0, &chain, 1);
    stream.sample(USER, 0, &[CallchainContext::USER.0], 1);
    let stack = ":8;[deferred];[unknown];[unknown];[anon];[vdso];[lib:x.so];[kernel.kallsyms] 1";
    assert_eq!(stream.lines(), [stack, ":8;[unknown] 1"]);
}

#[test]
fn samples_may_count_for_their_periods_and_the_kernel_be_marked() {
    let mut stream = Stream::new(Options { weight: Weight::Period, annotate_kernel: true });
    stream.functions(&["f(int)"]);
    stream.sample(KERNEL, 16, &[], 100);
    stream.sample(KERNEL, 16, &[], 11);
    stream.sample(Misc::empty(), 16, &[], 5);
    assert_eq!(stream.lines(), [":8;f 5", ":8;f_[k] 111"]);
    stream.sample(KERNEL, 16, &[], u64::MAX - 100);
    assert_eq!((stream.folded.total(), stream.folded.left_out()), (116, 1));
    stream.sample(KERNEL, 16, &[], u64::MAX - 116);
    assert_eq!(stream.folded.total(), u64::MAX);
    assert!(stream.folded.write_svg("huge", &mut Vec::new()).is_ok());
}

#[test]
fn names_end_before_their_arguments() {
    for (name, short) in [
        ("f(int)", "f"),
        ("f(int) const", "f"),
        ("ns::(anonymous namespace)::f(char)", "ns::(anonymous namespace)::f"),
        ("g<void (int)>::operator()(int)", "g<void (int)>::operator"),
        ("pkg.(*T).Method", "pkg.(*T).Method"),
        ("<T as Trait>::f::{{closure}}", "<T as Trait>::f::{{closure}}"),
        ("do_syscall_64", "do_syscall_64"),
        ("", ""),
    ] {
        assert_eq!(without_arguments(name), short);
    }
}

#[test]
fn names_stay_in_their_place() {
    for (name, safe) in [
        ("[u8; 8]", "[u8: 8]"),
        ("a\nb\u{0}\u{ffff}", "a_b__"),
        (" f 12 ", "f_12"),
        ("f 1.5", "f_1.5"),
        ("f 12a", "f 12a"),
        ("12", "12"),
    ] {
        assert_eq!(escaped(name), safe);
    }
}

#[test]
fn a_flame_graph_shows_the_stacks() {
    let mut stream = Stream::new(Options::default());
    stream.functions(&["leaf<&>", "outer 7"]);
    assert!(matches!(stream.folded.write_svg("none", &mut Vec::new()), Err(PictureError::Empty)));
    for _ in 0..3 {
        stream.sample(KERNEL, 0, &[CallchainContext::KERNEL.0, 16, 40], 1);
    }
    stream.sample(KERNEL, 32, &[], 1);
    let draw = || {
        let mut svg = Vec::new();
        stream.folded.write_svg("<all> of\nit", &mut svg).unwrap();
        String::from_utf8(svg).unwrap()
    };
    let svg = draw();
    for part in ["&lt;all&gt; of it", "leaf&lt;&amp;&gt; (3 samples, 75.00%)", "outer_7 (4 samples, 100.00%)", "</svg>"]
    {
        assert!(svg.contains(part), "{part} is not in {svg}");
    }
    assert_eq!(svg, draw());
}

proptest! {
    /// Against stacks as strings.
    #[test]
    fn lines_are_sorted_and_each_stack_is_one(
        stacks in prop::collection::vec(prop::collection::vec(0_usize..6, 1..6), 1..60),
    ) {
        const NAMES: [&str; 6] = ["a", "a b", "a:b", "aa", "é", "a;"];
        let mut stream = Stream::new(Options::default());
        stream.functions(&NAMES);
        let mut expected = BTreeMap::new();
        for stack in &stacks {
            let mut chain = vec![CallchainContext::KERNEL.0];
            chain.extend(stack.iter().rev().map(|name| *name as u64 * 16 + 20));
            stream.sample(KERNEL, 0, &chain, 1);
            let names: Vec<_> = stack.iter().map(|name| NAMES[*name].replace(';', ":")).collect();
            *expected.entry(format!(":8;{}", names.join(";"))).or_insert(0) += 1;
        }
        let expected: Vec<_> = expected.into_iter().map(|(stack, count)| format!("{stack} {count}")).collect();
        prop_assert_eq!(stream.lines(), expected);
    }
}

const PROGRAM: &str = "
static volatile unsigned long sink;
__attribute__((noinline)) void perfring_leaf(unsigned long n) { while (n--) sink += n; }
__attribute__((noinline)) void perfring_outer(unsigned long n) { perfring_leaf(n); sink++; }
int main(void) { for (int i = 0; i < 300; i++) { perfring_outer(1000000); perfring_leaf(1000000); } return 0; }
";

/// What `perf record` made of the program above, if that is possible here.
fn record(dir: &Path) -> Option<std::path::PathBuf> {
    let (source, program, data) = (dir.join("program.c"), dir.join("program"), dir.join("perf.data"));
    std::fs::write(&source, PROGRAM).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-O0", "-fno-omit-frame-pointer", "-o"]).arg(&program).arg(&source);
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-g", "-e", "cpu-clock:u", "-F", "1000", "-o"]).arg(&data).arg("--").arg(&program);
    for command in [&mut cc, &mut perf] {
        let result = command.stdout(Stdio::null()).output();
        if !result.as_ref().is_ok_and(|output| output.status.success()) {
            common::skip(format_args!("{command:?}: {result:?}"));
            return None;
        }
    }
    Some(data)
}

#[test]
fn inferno_folds_the_same_of_what_perf_prints() {
    use inferno::collapse::Collapse as _;

    let dir = common::TempDir::new("folded-perf");
    let Some(data) = record(dir.path()) else { return };
    // perf prints the periods, unless it is told what to print.
    let fields = ["-F", "comm,tid,time,event,ip,sym,dso"];
    for (weight, fields) in [(Weight::Period, &[][..]), (Weight::Samples, &fields)] {
        let script = Command::new("perf").args(["script", "-i"]).arg(&data).args(fields).output().unwrap();
        assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
        let mut collapsed = Vec::new();
        inferno::collapse::perf::Folder::default().collapse(&*script.stdout, &mut collapsed).unwrap();
        let collapsed = String::from_utf8(collapsed).unwrap();
        // In the loader perf takes some return addresses for the start of the next function.
        let of_the_program = |line: &&str| line.contains(";perfring_");
        let theirs: Vec<_> = collapsed.lines().filter(of_the_program).collect();

        let recording = Recording::open(&data).unwrap();
        let mut symbolizer = Symbolizer::new(symbolize::Options::of(recording.metadata()).unwrap());
        let options = Options { weight, ..Options::default() };
        let (mut spaces, mut folded) = (AddressSpaces::new(), Folded::new(options));
        let mut records = recording.records(Order::Time { window: 1 << 26 });
        while let Some(entry) = records.next() {
            let decoded = entry.unwrap().decode().unwrap();
            spaces.observe(&decoded);
            folded.sample(&spaces, &mut symbolizer, &decoded, 1);
        }
        let lines = lines(&folded);
        let ours: Vec<_> = lines.iter().map(String::as_str).filter(of_the_program).collect();
        assert!(ours.iter().any(|line| line.contains(";main;perfring_outer;perfring_leaf ")), "{ours:?}");
        assert_eq!(ours, theirs, "{weight:?}");
    }
}
