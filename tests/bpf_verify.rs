//! What the verifier says of programs: the tables in `verify/`, and the examples in the documentation.
//!
//! With `PERFRING_VERIFY_CASE=TEXT` only cases are run of which file, line and title contain the text, and the verifier's log is
//! printed. With `PERFRING_VERIFY_KERNEL=1` what the running kernel says is printed beside each case that it can load, and where
//! it says something else the case must have a note, and only there.

mod bpf_kernel;
mod common;
mod verify;

use perfring::bpf::map::MapType;
use perfring::bpf::verifier::{LogLevel, VerifyOptions};
use perfring::bpf::{Context, Event, Helpers, Machine, Program, RunError, TrapKind};
use perfring::record::SampleType;
use perfring::ring::Ring;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use verify::table::{self, Case, Verdict};
use verify::types;

fn tables() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify");
    let entries = std::fs::read_dir(&dir).expect("the tables");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 20, "{} tables", files.len());
    let mut cases = Vec::new();
    for path in files {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a table");
        cases.extend(table::parse(&name, &text).unwrap_or_else(|defect| panic!("{defect}")));
    }
    cases
}

fn options(case: &Case) -> VerifyOptions {
    let mut options = VerifyOptions::default();
    options.refuse_dead_code = case.options.dead;
    options.insns = case.options.insns.unwrap_or(options.insns);
    options.memory = case.options.memory.unwrap_or(options.memory);
    options.stack = case.options.stack.unwrap_or(options.stack);
    options
}

/// What was said of a case.
struct Said {
    /// What is wrong with it.
    failure: Option<String>,
    /// The name of the refusal.
    refusal: Option<String>,
    log: String,
}

impl Said {
    fn wrong(failure: String) -> Self {
        Self { failure: Some(failure), refusal: None, log: String::new() }
    }
}

fn place(at: Option<usize>) -> String {
    at.map_or("nowhere".to_owned(), |at| format!("instruction {at}"))
}

fn judge(case: &Case, level: LogLevel) -> Said {
    let loaded = match types::program(case) {
        Ok(loaded) => loaded,
        Err(defect) => return Said::wrong(format!("the case is malformed: {defect}")),
    };
    let program = match (loaded, &case.verdict) {
        (Err(error), Verdict::Unloaded { at, message }) => {
            let right = at.is_none_or(|at| error.insn == Some(at)) && error.to_string().ends_with(message.as_str());
            let failure = (!right).then(|| format!("not loaded, at {}: {error}", place(error.insn)));
            return Said { failure, refusal: None, log: String::new() };
        }
        (Err(error), _) => return Said::wrong(format!("not loaded: {error}")),
        (Ok(_), Verdict::Unloaded { .. }) => return Said::wrong("it is loaded".to_owned()),
        (Ok(program), _) => program,
    };
    let mut options = options(case);
    options.log = level;
    match (program.verify(&options), &case.verdict) {
        (Ok(verified), Verdict::Accepted) => {
            let failure = run(case, &program).err();
            Said { failure, refusal: None, log: verified.log().to_owned() }
        }
        (Ok(verified), _) => {
            Said { failure: Some("accepted".to_owned()), refusal: None, log: verified.log().to_owned() }
        }
        (Err(error), verdict) => {
            let found = error.kind.to_string();
            let right = matches!(verdict, Verdict::Refused { at, message }
                if at.is_none_or(|at| error.insn == at) && found.starts_with(message.as_str()));
            let debug = format!("{:?}", error.kind);
            let name = debug.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
            let failure = (!right).then(|| format!("refused at instruction {}: {found}", error.insn));
            Said { failure, refusal: Some(name), log: error.log }
        }
    }
}

/// What a run left: the result, if it came to its end, the context and the packet.
type Left = (Option<u64>, Vec<u8>, Vec<u8>);

/// Runs a program on several inputs, with events and without.
fn runs(program: &Program) -> Result<Vec<Left>, RunError> {
    let mut left = Vec::new();
    for filled in [false, true] {
        let machine = Machine::builder(1).fuel(Some(1 << 18)).build();
        let ring = Ring::confined(4).private().expect("a ring");
        // Reservations fail where there is no event.
        let events = program.maps().iter().find(|map| map.def().type_ == MapType::PerfEventArray);
        if let Some(map) = events.filter(|_| filled) {
            let producer = ring.producer().expect("the only one");
            let event = Event::new(producer, &Event::bpf_output_attr(SampleType::empty()), 1).expect("an event");
            machine.set_event(map, 0, 0, event).expect("a slot");
        }
        for byte in [0, 0xff] {
            for packet in [0, 64] {
                let mut context = vec![byte; program.type_().context().size().unwrap_or(8192)];
                let mut packet = vec![byte; packet];
                let result = match machine.run(program, Context::new(&mut context).packet(&mut packet)) {
                    Ok(result) => Some(result),
                    // A loop that ends may take longer than this machine has patience.
                    Err(RunError::Trap(trap)) if trap.kind == TrapKind::Fuel => None,
                    Err(error) => return Err(error),
                };
                left.push((result, context, packet));
            }
        }
    }
    Ok(left)
}

/// Runs a program that was accepted in checked mode, and then as it was verified, with new maps: what went wrong.
fn run(case: &Case, program: &Program) -> Result<(), String> {
    let checked = runs(program).map_err(|error| format!("accepted, and then, in checked mode: {error}"))?;
    let again = types::program(case)?.map_err(|error| error.to_string())?;
    let verified = again.verify(&options(case)).map_err(|error| format!("accepted, and the next time: {error}"))?;
    let verified = runs(verified.program()).map_err(|error| format!("accepted, and then, without tests: {error}"))?;
    let varies = ["_ktime_", "_prandom_", "_current_"].iter().any(|helper| case.program.contains(helper));
    if checked.iter().zip(&verified).any(|(a, b)| !varies && a.0.is_some() && b.0.is_some() && a != b) {
        return Err("with tests and without it does not the same".to_owned());
    }
    Ok(())
}

/// The names of the refusals that there are.
fn refusals() -> BTreeSet<String> {
    let source = include_str!("../src/bpf/verifier/error.rs");
    let (_, body) = source.split_once("pub enum Refusal {").expect("the enum");
    let (body, _) = body.split_once("\n}").expect("its end");
    let names = body.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?.trim_end_matches([' ', '{', ',']);
        let named = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(char::is_alphanumeric);
        named.then(|| name.to_owned())
    });
    let names: BTreeSet<String> = names.collect();
    assert!(names.len() > 40, "{names:?}");
    names
}

#[test]
fn every_case_gets_its_verdict_and_every_refusal_has_a_case() {
    let wanted = std::env::var("PERFRING_VERIFY_CASE").ok();
    let level = if wanted.is_some() { LogLevel::All } else { LogLevel::None };
    let (mut count, mut failures, mut named) = (0, 0, BTreeSet::new());
    let (mut listing, mut accepted) = (String::new(), Vec::new());
    for case in tables() {
        let at = format!("{}:{}: {}", case.file, case.line, case.title);
        if wanted.as_ref().is_some_and(|wanted| !at.contains(wanted.as_str())) {
            continue;
        }
        count += 1;
        let said = judge(&case, level);
        named.extend(said.refusal);
        if case.verdict == Verdict::Accepted {
            accepted.push(case.program.clone());
        }
        if wanted.is_some() {
            println!("{at}\n{}", said.log);
        }
        if let Some(failure) = said.failure {
            failures += 1;
            let _ = write!(listing, "\n{at}\n  wanted: {:?}\n  found: {failure}\n", case.verdict);
            for (slot, line) in case.program.lines().enumerate() {
                let _ = writeln!(listing, "    {slot:3}  {line}");
            }
        }
    }
    assert!(failures == 0, "{failures} of {count} cases:\n{listing}");
    if wanted.is_none() {
        let accepted: BTreeSet<&str> = accepted.iter().flat_map(|program| program.lines()).collect();
        let called = |name: &str| accepted.contains(format!("call {name}").as_str());
        let names = Helpers::standard().ids().filter_map(|id| Helpers::standard().prototype(id));
        let missing: Vec<_> = names.map(|prototype| &prototype.name).filter(|name| !called(name)).collect();
        assert!(missing.is_empty(), "no case that is accepted for {missing:?}");
        let missing: Vec<_> = refusals().into_iter().filter(|name| !named.contains(name)).collect();
        assert!(missing.is_empty(), "no case for {missing:?}");
        println!("{count} cases");
    }
}

/// The case that an example of the documentation is: its comments have what stands before the program, and behind what is refused
/// stand instruction and message.
fn example(name: &str, code: &str, said: Option<&str>) -> Case {
    let mut text = format!("{}: {name}\n", if said.is_some() { "refused" } else { "accepted" });
    let mut program = String::new();
    for line in code.lines() {
        match line.strip_prefix("; ") {
            Some(directive) => text += &format!("{directive}\n"),
            None => program += &format!("    {line}\n"),
        }
    }
    if let Some((_, message)) = said.and_then(|said| said.split_once(": ")) {
        text += &format!("anywhere: {message}\n");
    }
    let cases = table::parse(name, &(text + &program)).unwrap_or_else(|defect| panic!("{defect}"));
    cases.into_iter().next().expect("a case")
}

#[test]
fn the_documentation_shows_each_refusal_and_how_it_is_mended() {
    let page = include_str!("../src/bpf/verifier/refusals.md");
    let mut failures = String::new();
    let mut sections: BTreeSet<String> = BTreeSet::new();
    for section in page.split("\n## `").skip(1) {
        let (name, text) = section.split_once('`').expect("the end of the name");
        assert!(sections.insert(name.to_owned()), "{name} has two sections");
        let examples: Vec<&str> = text
            .split("```text\n")
            .skip(1)
            .map(|rest| rest.split_once("```").expect("the end of the example").0)
            .collect();
        let said: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("> ")).collect();
        let ([refused, mended], [said]) = (&examples[..], &said[..]) else {
            panic!("{name}: {} examples and {} messages", examples.len(), said.len())
        };
        let case = example(name, refused, Some(said));
        match types::program(&case).expect("an example").expect("it is loaded").verify(&options(&case)) {
            Ok(_) => failures += &format!("{name}: the first example is accepted\n"),
            Err(error) => {
                let place = if said.starts_with("anywhere: ") { "anywhere".to_owned() } else { error.insn.to_string() };
                let found = format!("{place}: {}", error.kind);
                if !format!("{:?}", error.kind).starts_with(name) || !found.starts_with(said) {
                    failures += &format!("{name}: the first example is refused by {found} ({:?})\n", error.kind);
                }
            }
        }
        if let Some(failure) = judge(&example(name, mended, None), LogLevel::None).failure {
            failures += &format!("{name}: the mended example: {failure}\n");
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert_eq!(sections, refusals());
}

/// Prints what the kernel says beside each case, if that is asked for.
#[test]
fn the_kernel_agrees_or_a_note_says_why() {
    if std::env::var_os("PERFRING_VERIFY_KERNEL").is_none_or(|value| value != "1") || !bpf_kernel::require_bpf() {
        return;
    }
    let wanted = std::env::var("PERFRING_VERIFY_CASE").unwrap_or_default();
    let mut cases = tables();
    cases.retain(|case| format!("{}:{}: {}", case.file, case.line, case.title).contains(&wanted));
    let mut unexplained = String::new();
    let mut counts = [0; 3];
    for (case, said) in cases.iter().zip(verify::kernel::ask(&cases)) {
        let Some(said) = said else { continue };
        let ours = case.verdict == Verdict::Accepted;
        let show = |said: &Result<(), String>| said.as_ref().map_or_else(Clone::clone, |()| "accepted".to_owned());
        let same = said.accepts() == ours;
        let line = format!(
            "{} {}:{}: {}\n    root: {}\n    bpf:  {}\n",
            if same { "  " } else { "!=" },
            case.file,
            case.line,
            case.title,
            show(&said.root),
            said.bpf.as_ref().map_or("-".to_owned(), show)
        );
        print!("{line}");
        counts[if same { 0 } else { 1 + usize::from(case.note.is_none()) }] += 1;
        if same == case.note.is_some() {
            unexplained.push_str(&line);
        }
    }
    println!("{} alike, {} differ with a note, {} without", counts[0], counts[1], counts[2]);
    assert!(unexplained.is_empty(), "differences without a note, or notes without a difference:\n{unexplained}");
}

#[test]
fn malformed_tables_are_told() {
    let defect = |text: &str| table::parse("t", text).map(|cases| cases.len()).map_err(|defect| defect.to_string());
    let told = |text: &str| Err(text.to_owned());
    let good = "type: xdp\n\naccepted: one\n    r0 = 0\n    exit\n";
    assert_eq!(defect(good), Ok(1));
    assert_eq!(defect(&format!("{good}\n{good}")), told("t:7: what counts for all cases stands before them"));
    assert_eq!(
        defect("accepted: one\n    exit\n\naccepted: one\n    exit"),
        told("t:4: the case in line 1 is called \"one\" too")
    );
    assert_eq!(defect("accepted: none"), told("t:1: no program"));
    assert_eq!(defect("refused: none\n    exit"), told("t:1: no message"));
    assert_eq!(defect("accepted: one\n    exit\n    ^ no"), told("t:1: a message, of a program that is accepted"));
    assert_eq!(defect("refused: one\n    ^ no\n    exit"), told("t:2: no instruction before it"));
    assert_eq!(defect("refused: one\n    exit\n    ^ no\nanywhere: no"), told("t:4: a second message"));
    assert_eq!(defect("refused: one\n    exit\n    ^"), told("t:3: a message that says nothing"));
    assert_eq!(
        defect("refused: one\nmap m hash\n    exit"),
        told("t:2: neither a word with a colon nor indented: \"map m hash\"")
    );
    assert_eq!(defect("accepted: one\nmap m: hash key\n    exit"), told("t:2: \"key\" of a map has no value"));
    assert_eq!(defect("accepted: one\nmap m: hash key=x\n    exit"), told("t:2: \"x\" is no number"));
    assert_eq!(defect("accepted: one\noptions: alive\n    exit"), told("t:2: there is no option \"alive\""));
    assert_eq!(defect("accepted: one\n    r1 = map[m]"), told("t:2: there is no map \"m\""));
    assert_eq!(defect("accepted: one\n    .s"), told("t:2: there is no snippet \"s\""));
    assert_eq!(defect("accepted: $a\neach a b: 1 2 | 3\n    exit"), told("t:2: 1 words for 2 names: \"3\""));
    assert_eq!(defect("accepted: one\n    $a"), told("t:2: no row says what is in the place of this: \"    $a\""));
    assert_eq!(defect("accepted: $a $b\neach a: 1 | 2\neach b: 3 | 4\n    exit"), Ok(4));
}
