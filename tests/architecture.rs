//! The directions of imports, who may name atomics and memory orders, and who may be unsafe: read from the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The modules under `src/` and their layers. Imports go down; `lib.rs`, which names them all, is in none.
const LAYERS: &[(&str, u32)] = &[
    ("sync", 0),
    ("ring", 1),
    ("record", 1),
    ("merge", 1),
    ("kernel", 2),
    ("bpf", 2),
    ("replay", 2),
    ("dtrace", 3),
    ("guide", 4),
    ("command", 4),
    ("main", 4),
];

/// Imports within a layer. Everything else in a layer does not know its neighbours.
const SIDEWAYS: &[(&str, &str)] = &[("merge", "ring"), ("main", "command")];

/// Names that only `src/sync.rs` may use, unless this says otherwise: file, name, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/bpf/map/order.rs", "memory order", "the order table of maps"),
    ("src/bpf/order.rs", "memory order", "the order table of the machine"),
    ("src/dtrace/order.rs", "memory order", "the order table of probes"),
    ("src/ring/order.rs", "memory order", "the order table: the one place where orders are chosen"),
    ("src/ring/wakeup.rs", "loom", "loom's notification stands in for an eventfd, which `sync` knows nothing of"),
];

/// The files with unsafe code.
const UNSAFE: &[&str] = &[
    "src/bpf/helper/call.rs",
    "src/bpf/helper/table.rs",
    "src/bpf/lease.rs",
    "src/bpf/map/cell.rs",
    "src/bpf/map/values.rs",
    "src/bpf/memory.rs",
    "src/bpf/program.rs",
    "src/bpf/sys.rs",
    "src/bpf/verifier/mod.rs",
    "src/bpf/vm/exec.rs",
    "src/bpf/vm/execution.rs",
    "src/bpf/vm/frames.rs",
    "src/bpf/vm/tests.rs",
    "src/kernel/mmap.rs",
    "src/kernel/stream.rs",
    "src/kernel/sys.rs",
    "src/ring/aux.rs",
    "src/ring/consumer.rs",
    "src/ring/instructions.rs",
    "src/ring/memory/aux.rs",
    "src/ring/memory/fork.rs",
    "src/ring/memory/map.rs",
    "src/ring/memory/mod.rs",
    "src/ring/memory/model.rs",
    "src/ring/memory/raw.rs",
    "src/ring/open.rs",
    "src/ring/producer.rs",
    "src/ring/shared.rs",
    "src/ring/sys.rs",
    "src/ring/time_page.rs",
];

/// Identifiers, `::`, and single characters; no comments, no literals.
fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        if c.is_whitespace() {
            at += 1;
        } else if c == '/' && next == Some('/') {
            while chars.get(at).is_some_and(|c| *c != '\n') {
                at += 1;
            }
        } else if c == '/' && next == Some('*') {
            let mut depth = 0;
            while at < chars.len() {
                match (chars[at], chars.get(at + 1)) {
                    ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
                    ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        } else if let Some(end) = raw_string(&chars, at) {
            at = end;
        } else if is_word(c) {
            let start = at;
            while chars.get(at).is_some_and(|c| is_word(*c)) {
                at += 1;
            }
            let word: String = chars[start..at].iter().collect();
            // The prefix of a literal belongs to it.
            if !(matches!(word.as_str(), "b" | "c") && matches!(chars.get(at), Some('"' | '\''))) {
                tokens.push(word);
            }
        } else if c == '"' {
            at += 1;
            while chars.get(at).is_some_and(|c| *c != '"') {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' && next == Some('\\') {
            // What is escaped may be a quote itself.
            at += 3;
            while chars.get(at).is_some_and(|c| *c != '\'') {
                at += 1;
            }
            at += 1;
        } else if c == '\'' && chars.get(at + 2) == Some(&'\'') {
            at += 3;
        } else if c == ':' && next == Some(':') {
            tokens.push("::".to_owned());
            at += 2;
        } else {
            tokens.push(c.to_string());
            at += 1;
        }
    }
    tokens
}

/// The end of the raw string that starts at `at`, if one does.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    if at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') {
        return None;
    }
    let mut i = at + usize::from(matches!(chars[at], 'b' | 'c'));
    if chars.get(i) != Some(&'r') {
        return None;
    }
    i += 1;
    let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
    i += hashes;
    if chars.get(i) != Some(&'"') {
        return None;
    }
    i += 1;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(i)
}

/// Where a file stands in the tree: `src/ring/memory/map.rs` is `[ring, memory, map]`.
fn module_path(file: &str) -> Vec<String> {
    let path = file.strip_prefix("src/").unwrap_or(file);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').map(str::to_owned).collect()
}

/// The modules under the crate's root that `crate::` and `super::` paths in a file lead to.
fn imports(file: &str, tokens: &[String]) -> BTreeSet<String> {
    let depth_of_file = module_path(file).len();
    let text = |at: usize| tokens.get(at).map_or("", String::as_str);
    let (mut found, mut braces, mut inline) = (BTreeSet::new(), 0usize, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "{" => {
                braces += 1;
                // `mod name {`
                if at >= 2 && text(at - 2) == "mod" {
                    inline.push(braces);
                }
            }
            "}" => {
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
                braces = braces.saturating_sub(1);
            }
            start @ ("crate" | "super") if text(at + 1) == "::" && (at == 0 || text(at - 1) != "::") => {
                let (mut ups, mut to) = (usize::from(start == "super"), at + 2);
                while text(to) == "super" && text(to + 1) == "::" {
                    (ups, to) = (ups + 1, to + 2);
                }
                if start == "crate" || ups >= depth_of_file + inline.len() {
                    found.extend(roots(tokens, to));
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The first segments of a path, or of each path of the group, that starts at `at`.
fn roots(tokens: &[String], at: usize) -> Vec<String> {
    let text = |at: usize| tokens.get(at).map_or("", String::as_str);
    if text(at) != "{" {
        // A macro of the crate's own.
        if text(at + 1) == "!" {
            return Vec::new();
        }
        return vec![text(at).to_owned()];
    }
    let (mut found, mut depth, mut first) = (Vec::new(), 0, false);
    for token in &tokens[at..] {
        match token.as_str() {
            "{" => (depth, first) = (depth + 1, depth == 0),
            "}" => depth -= 1,
            "," => first = depth == 1,
            name => {
                if first {
                    found.push(name.to_owned());
                }
                first = false;
            }
        }
        if depth == 0 {
            break;
        }
    }
    found
}

fn layer(module: &str) -> Option<u32> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The imports of a file that do not go down.
fn check_imports(file: &str, source: &str) -> Vec<String> {
    if file == "src/lib.rs" {
        return Vec::new();
    }
    let own = module_path(file).swap_remove(0);
    let Some(own_layer) = layer(&own) else {
        return vec![format!("{file}: the module {own} has no layer")];
    };
    let mut wrong = Vec::new();
    for to in imports(file, &tokens(source)) {
        let fine = to == own
            || SIDEWAYS.contains(&(own.as_str(), to.as_str()))
            || layer(&to).is_some_and(|layer| layer < own_layer);
        if !fine {
            wrong.push(format!("{file}: {own} (layer {own_layer}) imports {to} (layer {:?})", layer(&to)));
        }
    }
    wrong
}

/// What a file names that only `sync` may: each kind once.
fn synchronization(source: &str) -> BTreeSet<&'static str> {
    let tokens = tokens(source);
    let text = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut found = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate() {
        let in_path = text(at + 1) == "::" || at > 0 && text(at - 1) == "::";
        let of_std = at >= 4 && matches!(text(at - 4), "std" | "core" | "loom");
        match token.as_str() {
            "loom" if in_path => found.insert("loom"),
            "atomic" if in_path => found.insert("atomics"),
            "fence" | "compiler_fence" => found.insert("fence"),
            "Relaxed" | "Acquire" | "Release" | "AcqRel" | "SeqCst" => found.insert("memory order"),
            "UnsafeCell" | "SyncUnsafeCell" if of_std => found.insert("cell"),
            _ => continue,
        };
    }
    found
}

fn check_synchronization(file: &str, source: &str) -> Vec<String> {
    if file == "src/sync.rs" {
        return Vec::new();
    }
    synchronization(source)
        .into_iter()
        .filter(|name| !EXCEPTIONS.iter().any(|(at, what, _)| *at == file && what == name))
        .map(|name| format!("{file}: names what only src/sync.rs may: {name}"))
        .collect()
}

/// Whether there is unsafe code, or leave for it.
fn is_unsafe(source: &str) -> bool {
    tokens(source).iter().any(|token| token == "unsafe" || token == "unsafe_code")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file by its path from the package's root, and its text.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: PathBuf, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(dir).expect("a directory of sources") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                walk(path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("a file of the package");
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.push((name.to_str().expect("a plain name").to_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    walk(root().join("src"), &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn imports_go_down() {
    assert_none(sources().iter().flat_map(|(file, source)| check_imports(file, source)).collect());
}

#[test]
fn only_sync_names_atomics_and_orders() {
    let sources = sources();
    assert_none(sources.iter().flat_map(|(file, source)| check_synchronization(file, source)).collect());
    for (file, name, why) in EXCEPTIONS {
        let used = sources.iter().any(|(at, source)| at == file && synchronization(source).contains(name));
        assert!(used, "{file} does not name {name} ({why}): drop the exception");
    }
}

#[test]
fn unsafe_code_is_where_the_list_says() {
    let found: Vec<_> = sources().into_iter().filter(|(_, source)| is_unsafe(source)).map(|(file, _)| file).collect();
    let (found, listed) =
        (BTreeSet::from_iter(found.iter().map(String::as_str)), BTreeSet::from_iter(UNSAFE.iter().copied()));
    assert_eq!(found, listed);
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    assert!(manifest.lines().any(|line| line == "unsafe_code = \"deny\""), "unsafe code is not denied");
}

#[test]
fn the_checker_sees_wrong_imports() {
    let wrong = |file, source| check_imports(file, source).len();
    assert_eq!(wrong("src/ring/producer.rs", "use crate::kernel::Error;"), 1);
    assert_eq!(wrong("src/ring/producer.rs", "use crate::{sync, record::Header, merge};"), 2);
    assert_eq!(wrong("src/ring/producer.rs", "use crate::{sync::{self, Arc}, ring::{a, b::{c}}};"), 0);
    assert_eq!(wrong("src/record/header.rs", "fn f() { crate::ring::f() }"), 1);
    assert_eq!(wrong("src/kernel/event.rs", "use crate::bpf::X; use crate::replay::Y; use crate::ring::Z;"), 2);
    assert_eq!(wrong("src/replay/read.rs", "use crate::{kernel, merge, record};"), 1);
    assert_eq!(wrong("src/merge.rs", "use crate::ring::Consumer;"), 0);
    assert_eq!(wrong("src/merge.rs", "use crate::record::Sample;"), 1);
    assert_eq!(wrong("src/merge.rs", "use super::kernel::Event;"), 1);
    assert_eq!(wrong("src/merge.rs", "mod tests { use super::*; }"), 0);
    assert_eq!(wrong("src/merge.rs", "mod tests { use super::super::kernel::X; } use super::ring::Y;"), 1);
    assert_eq!(wrong("src/ring/mod.rs", "mod a { fn f() {} } use super::kernel::X;"), 1);
    assert_eq!(wrong("src/ring/memory/map.rs", "use super::super::super::kernel::X;"), 1);
    assert_eq!(wrong("src/ring/memory/map.rs", "use super::super::kernel::X;"), 0);
    assert_eq!(wrong("src/sync.rs", "use crate::ring::X;"), 1);
    assert_eq!(wrong("src/ring/x.rs", "use crate::*;"), 1);
    assert_eq!(wrong("src/ring/x.rs", "pub(crate) use a; pub(in crate::kernel) use b;"), 1);
    assert_eq!(wrong("src/odd.rs", ""), 1);
    assert_eq!(wrong("src/dtrace/probe.rs", "use crate::{bpf, ring, kernel, sync};"), 0);
    assert_eq!(wrong("src/bpf/vm.rs", "use crate::dtrace::X;"), 1);
    assert_eq!(wrong("src/lib.rs", "pub use crate::kernel::X;"), 0);
    // In comments and literals nothing is imported, and behind them everything is.
    let hidden = r##"/// [x](crate::kernel)
        /* /* */ crate::kernel:: */ let a = "crate::kernel::x \" "; let b = r#"crate::kernel::" x"#; let c = '"';"##;
    assert_eq!(wrong("src/ring/x.rs", hidden), 0);
    assert_eq!(wrong("src/ring/x.rs", &format!("{hidden} let d: &'a u8; b'\\''; crate::kernel::f();")), 1);
}

#[test]
fn the_checker_sees_atomics_and_orders() {
    let found = |source| synchronization(source).into_iter().collect::<Vec<_>>();
    assert_eq!(found("use std::sync::atomic::AtomicU64;"), ["atomics"]);
    assert_eq!(found("use std::sync::{Arc, atomic::AtomicU64};"), ["atomics"]);
    assert_eq!(found("use crossbeam_utils::atomic::AtomicCell;"), ["atomics"]);
    assert_eq!(found("use loom::cell::UnsafeCell;"), ["cell", "loom"]);
    assert_eq!(found("word.load(Ordering::Acquire); fence(order)"), ["fence", "memory order"]);
    assert_eq!(found("use std::cmp::Ordering; a.cmp(&b) == Ordering::Less // SeqCst"), [""; 0]);
    assert_eq!(found("#[cfg(perfring_loom)] use crate::sync::{AtomicU64, UnsafeCell, fence_at};"), [""; 0]);
    assert_eq!(check_synchronization("src/ring/shared.rs", "loom::f()").len(), 1);
    assert_eq!(check_synchronization("src/ring/wakeup.rs", "loom::f()").len(), 0);
    assert_eq!(check_synchronization("src/ring/wakeup.rs", "loom::f(Ordering::SeqCst)").len(), 1);
}

#[test]
fn the_checker_sees_unsafe_code() {
    assert!(is_unsafe("fn f() { unsafe { g() } }"));
    assert!(is_unsafe("#![allow(unsafe_code)]"));
    assert!(!is_unsafe("// unsafe\nlet x = \"unsafe\";"));
}
