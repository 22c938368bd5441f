//! Reads the tables.

use std::collections::BTreeMap;
use std::fmt;

/// What is to be said of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// At the instruction in this slot, if it is known, with a message that starts so.
    Refused {
        at: Option<usize>,
        message: String,
    },
    /// With a message that ends so.
    Unloaded {
        at: Option<usize>,
        message: String,
    },
}

/// A program, and what is to be said of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The table.
    pub file: String,
    /// The line that the case starts with.
    pub line: usize,
    /// What it shows.
    pub title: String,
    pub verdict: Verdict,
    pub type_: String,
    pub maps: Vec<MapLine>,
    pub options: Options,
    pub note: Option<String>,
    /// For `assemble`.
    pub program: String,
}

/// A map as the table has it.
#[derive(Clone, Debug, Default)]
pub struct MapLine {
    pub name: String,
    pub kind: String,
    pub key: u32,
    pub value: u32,
    pub entries: u32,
    pub flags: Vec<String>,
    pub owner: Option<String>,
    pub text: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub dead: bool,
    pub insns: Option<u64>,
    pub memory: Option<usize>,
    pub stack: Option<u32>,
    pub callx: bool,
    pub unresolved: Option<usize>,
    pub license: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dead: false,
            insns: None,
            memory: None,
            stack: None,
            callx: false,
            unresolved: None,
            license: "GPL".to_owned(),
        }
    }
}

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    pub file: String,
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

type Parsed<T> = Result<T, String>;
type Line = (usize, String);

/// What counts for all cases of a table.
#[derive(Default)]
struct Head {
    type_: Option<String>,
    maps: Vec<MapLine>,
    options: Options,
    snippets: BTreeMap<String, Vec<String>>,
}

/// The cases of a table.
pub fn parse(file: &str, text: &str) -> Result<Vec<Case>, Defect> {
    let defect = |(line, what): (usize, String)| Defect { file: file.to_owned(), line, what };
    let mut head = Head::default();
    let mut cases: Vec<Case> = Vec::new();
    let lines: Vec<Line> =
        (1..).zip(text.lines().map(str::to_owned)).filter(|(_, line)| !line.starts_with('#')).collect();
    for block in lines.split(|(_, line)| line.trim().is_empty()).filter(|block| !block.is_empty()) {
        let starts_case = verdict_of(&block[0].1).is_some();
        if !starts_case {
            if !cases.is_empty() {
                return Err(defect((block[0].0, "what counts for all cases stands before them".to_owned())));
            }
            read_head(&mut head, block).map_err(defect)?;
            continue;
        }
        for rows in expand(block).map_err(defect)? {
            let case = read_case(file, &head, &rows).map_err(defect)?;
            if let Some(other) = cases.iter().find(|other| other.title == case.title) {
                let what = format!("the case in line {} is called {:?} too", other.line, case.title);
                return Err(defect((case.line, what)));
            }
            cases.push(case);
        }
    }
    Ok(cases)
}

/// The word of the verdict, and what is behind it.
fn verdict_of(line: &str) -> Option<(&'static str, &str)> {
    ["accepted", "refused", "unloaded"]
        .into_iter()
        .find_map(|word| Some((word, line.strip_prefix(word)?.strip_prefix(": ")?)))
}

fn read_head(head: &mut Head, block: &[Line]) -> Result<(), (usize, String)> {
    let mut snippet: Option<String> = None;
    for (number, line) in block {
        let at = |what: String| (*number, what);
        if line.starts_with(' ') {
            let name = snippet.as_ref().ok_or_else(|| at("an indented line in no snippet".to_owned()))?;
            head.snippets.entry(name.clone()).or_default().push(line.trim().to_owned());
            continue;
        }
        let (word, rest) = directive(line).map_err(at)?;
        snippet = None;
        match word.split_once(' ').unwrap_or((word, "")) {
            ("snippet", name) if !name.is_empty() => {
                head.snippets.insert(name.to_owned(), Vec::new());
                snippet = Some(name.to_owned());
            }
            ("type", "") => head.type_ = Some(rest.to_owned()),
            ("map", name) if !name.is_empty() => put_map(&mut head.maps, map(name, rest).map_err(at)?),
            ("options", "") => options(&mut head.options, rest).map_err(at)?,
            _ => return Err(at(format!("{word:?} is not for the head of a table"))),
        }
    }
    Ok(())
}

fn directive(line: &str) -> Parsed<(&str, &str)> {
    let (word, rest) =
        line.split_once(':').ok_or_else(|| format!("neither a word with a colon nor indented: {line:?}"))?;
    Ok((word.trim(), rest.trim()))
}

/// A map, in the place of one with its name.
fn put_map(maps: &mut Vec<MapLine>, map: MapLine) {
    match maps.iter_mut().find(|known| known.name == map.name) {
        Some(known) => *known = map,
        None => maps.push(map),
    }
}

fn map(name: &str, text: &str) -> Parsed<MapLine> {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut map = MapLine { name: name.to_owned(), kind: kind.to_owned(), entries: 1, ..MapLine::default() };
    if kind.ends_with("array") {
        (map.key, map.value) = (4, 4);
    }
    for word in rest.split_whitespace() {
        let (word, value) = word.split_once('=').ok_or_else(|| format!("{word:?} of a map has no value"))?;
        match word {
            "key" => map.key = number(value)?,
            "value" => map.value = number(value)?,
            "entries" | "bytes" => map.entries = number(value)?,
            "flags" => map.flags = value.split(',').map(str::to_owned).collect(),
            "owner" => map.owner = Some(value.to_owned()),
            "text" => map.text = Some(value.to_owned()),
            _ => return Err(format!("maps have no {word:?}")),
        }
    }
    Ok(map)
}

fn options(options: &mut Options, text: &str) -> Parsed<()> {
    for word in text.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("dead", "") => options.dead = true,
            ("callx", "") => options.callx = true,
            ("unresolved", slot) => options.unresolved = Some(number(slot)?),
            ("license", license) => options.license = license.to_owned(),
            ("insns", value) => options.insns = Some(number(value)?),
            ("memory", value) => options.memory = Some(number(value)?),
            ("stack", value) => options.stack = Some(number(value)?),
            _ => return Err(format!("there is no option {word:?}")),
        }
    }
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str) -> Parsed<T> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// The lines of a case, for each combination of the rows of its `each` lines.
fn expand(block: &[Line]) -> Result<Vec<Vec<Line>>, (usize, String)> {
    let mut all = vec![Vec::new()];
    for (number, line) in block {
        let Some(each) = line.strip_prefix("each ") else { continue };
        let at = |what: String| (*number, what);
        let (names, rows) = each.split_once(": ").ok_or_else(|| at("no colon behind the names".to_owned()))?;
        let names: Vec<&str> = names.split_whitespace().collect();
        let mut combined = Vec::new();
        for row in rows.split(" | ") {
            let words: Vec<&str> = row.split_whitespace().collect();
            if words.len() != names.len() {
                return Err(at(format!("{} words for {} names: {row:?}", words.len(), names.len())));
            }
            for before in &all {
                let before: &Vec<(&str, &str)> = before;
                combined.push(before.iter().copied().chain(names.iter().copied().zip(words.iter().copied())).collect());
            }
        }
        all = combined;
    }
    let lines = |values: &Vec<(&str, &str)>| {
        let mut values = values.clone();
        // A name may be the start of another.
        values.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let put = |line: &str| {
            values.iter().fold(line.to_owned(), |line, (name, value)| line.replace(&format!("${name}"), value))
        };
        let title = &block[0].1;
        let beside: Vec<&str> =
            values.iter().filter(|(name, _)| !title.contains(&format!("${name}"))).map(|(_, value)| *value).collect();
        let mut lines: Vec<Line> = block
            .iter()
            .filter(|(_, line)| !line.starts_with("each "))
            .map(|(number, line)| (*number, put(line)))
            .collect();
        if !beside.is_empty() {
            lines[0].1.push_str(&format!(" ({})", beside.join(" ")));
        }
        lines
    };
    let expanded: Vec<Vec<Line>> = all.iter().map(lines).collect();
    for (number, line) in expanded.iter().flatten() {
        if line.contains('$') {
            return Err((*number, format!("no row says what is in the place of this: {line:?}")));
        }
    }
    Ok(expanded)
}

fn read_case(file: &str, head: &Head, block: &[Line]) -> Result<Case, (usize, String)> {
    let (first, title) = &block[0];
    let (verdict, title) = verdict_of(title).ok_or_else(|| (*first, "no verdict".to_owned()))?;
    let mut case = Case {
        file: file.to_owned(),
        line: *first,
        title: title.trim().to_owned(),
        verdict: Verdict::Accepted,
        type_: head.type_.clone().unwrap_or_else(|| "socket_filter".to_owned()),
        maps: head.maps.clone(),
        options: head.options.clone(),
        note: None,
        program: String::new(),
    };
    let mut slots = 0;
    // Where the instruction before starts, and the message that is wanted.
    let mut last = None;
    let mut message: Option<(Option<usize>, String)> = None;
    for (number, line) in &block[1..] {
        let at = |what: String| (*number, what);
        let mut say = |place: Option<usize>, text: &str| {
            let text = text.trim().to_owned();
            if text.is_empty() {
                return Err(at("a message that says nothing".to_owned()));
            }
            if message.replace((place, text)).is_some() { Err(at("a second message".to_owned())) } else { Ok(()) }
        };
        if !line.starts_with(' ') {
            let (word, rest) = directive(line).map_err(at)?;
            match word.split_once(' ').unwrap_or((word, "")) {
                ("type", "") => case.type_ = rest.to_owned(),
                ("map", name) if !name.is_empty() => put_map(&mut case.maps, map(name, rest).map_err(at)?),
                ("options", "") => options(&mut case.options, rest).map_err(at)?,
                ("note", "") => case.note = Some(rest.to_owned()),
                ("anywhere", "") => say(None, rest)?,
                _ => return Err(at(format!("{word:?} is not for a case"))),
            }
            continue;
        }
        let line = line.trim();
        if let Some(text) = line.strip_prefix('^') {
            let place = last.ok_or_else(|| at("no instruction before it".to_owned()))?;
            say(Some(place), text)?;
            continue;
        }
        let snippet = line.strip_prefix('.').map(|name| {
            head.snippets.get(name).ok_or_else(|| at(format!("there is no snippet {name:?}"))).map(Vec::as_slice)
        });
        let own = [line.to_owned()];
        for line in snippet.transpose()?.unwrap_or(&own) {
            let count = slots_of(line);
            if count != 0 {
                last = Some(slots);
            }
            slots += count;
            case.program.push_str(&with_maps(line, &case.maps).map_err(at)?);
            case.program.push('\n');
        }
    }
    if slots == 0 {
        return Err((*first, "no program".to_owned()));
    }
    case.verdict = match (verdict, message) {
        ("accepted", None) => Verdict::Accepted,
        ("refused", Some((at, message))) => Verdict::Refused { at, message },
        ("unloaded", Some((at, message))) => Verdict::Unloaded { at, message },
        ("accepted", Some(_)) => return Err((*first, "a message, of a program that is accepted".to_owned())),
        _ => return Err((*first, "no message".to_owned())),
    };
    Ok(case)
}

/// What an instruction takes; 0 for a label or a comment.
fn slots_of(line: &str) -> usize {
    let code = line.split(';').next().unwrap_or_default().trim();
    let code = match code.split_once(':') {
        Some((label, rest)) if label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => rest.trim(),
        _ => code,
    };
    let wide = code.split_once("= ").is_some_and(|(_, value)| {
        value.ends_with(" ll") || ["map[", "subprog["].iter().any(|start| value.trim().starts_with(start))
    });
    if code.is_empty() { 0 } else { 1 + usize::from(wide) }
}

/// The line with the indices of maps in the place of their names.
fn with_maps(line: &str, maps: &[MapLine]) -> Parsed<String> {
    let Some((before, rest)) = line.split_once("map[") else { return Ok(line.to_owned()) };
    let (name, behind) = rest.split_once(']').ok_or("no ] behind the name of a map")?;
    if name.starts_with("idx:") {
        return Ok(line.to_owned());
    }
    let index = maps.iter().position(|map| map.name == name).ok_or_else(|| format!("there is no map {name:?}"))?;
    Ok(format!("{before}map[idx:{index}]{behind}"))
}
