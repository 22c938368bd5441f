//! Events by one line of text, as perf(1) takes them.

use std::path::Path;

use crate::kernel::pmu::number;
use crate::kernel::{Access, Error, EventBuilder, Hardware, Pmu, Software, Tracepoint, cache, suggest, tracepoint};

impl EventBuilder {
    /// An event by the text that `perf record -e` takes, of which this understands:
    ///
    /// | text | event |
    /// |---|---|
    /// | `page-faults`, `cs`, `cpu-clock`... | [software](Software), by the names of perf(1) or of the uapi |
    /// | `cycles`, `branch-misses`... | [hardware](Hardware), likewise |
    /// | `L1-dcache-load-misses`, `LLC-stores`... | [cache](Self::cache) |
    /// | `sched:sched_switch` | [tracepoint](Self::tracepoint) |
    /// | `r01a8` | [raw](Self::raw), hexadecimal |
    /// | `mem:0x1000`, `mem:0x1000/8:w` | [breakpoint](Self::breakpoint): address, length in bytes (4, or that of a `long` for `x`), accesses of `rwx` (`rw`) |
    /// | `msr/tsc/`, `cpu/event=0x3c,umask=1/` | [terms](Pmu::event) of a PMU |
    /// | `uprobe:/bin/sh+0x4000`, `uretprobe:`... | [probe in a file](Self::uprobe), not known to perf(1) |
    /// | `kprobe:do_exit`, `kprobe:do_exit+0x10`, `kretprobe:do_exit` | [probe in the kernel](Self::kprobe), not known to perf(1) |
    ///
    /// Modifiers follow a colon (behind a PMU's last slash the colon may be missing): `u`, `k`, `h` count in user space,
    /// kernel, hypervisor and nowhere else; `G`, `H` likewise in guests and host; `I` leaves idle CPUs out; up to three
    /// `p` ask for [`precise_ip`](Self::precise_ip); `D` is [`pinned`](Self::pinned), `e`
    /// [`exclusive`](Self::exclusive).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownEvent`] with names that are near, [`Error::EventSyntax`], [`Error::UnknownModifier`], and those
    /// of [`tracepoint`](Self::tracepoint), [`Pmu::find`], [`Pmu::event`], [`uprobe`](Self::uprobe) and
    /// [`kprobe`](Self::kprobe).
    ///
    /// ```
    /// use perfring::kernel::EventBuilder;
    ///
    /// let faults = EventBuilder::parse("page-faults:u")?;
    /// assert_eq!((faults.attr().exclude_user(), faults.attr().exclude_kernel()), (0, 1));
    /// let error = EventBuilder::parse("page-fault").unwrap_err();
    /// assert!(error.to_string().contains("did you mean page-faults"));
    /// # Ok::<(), perfring::kernel::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, Error> {
        let syntax = |expected| Error::EventSyntax { event: text.to_owned(), expected };
        if let Some(rest) = text.strip_prefix("mem:") {
            return breakpoint(text, rest);
        }
        for (prefix, user, on_return) in [
            ("uprobe:", true, false),
            ("uretprobe:", true, true),
            ("kprobe:", false, false),
            ("kretprobe:", false, true),
        ] {
            if let Some(rest) = text.strip_prefix(prefix) {
                return probe(text, rest, user, on_return);
            }
        }
        if let Some((pmu, rest)) = text.split_once('/') {
            let (terms, modifiers) = rest.rsplit_once('/').ok_or(syntax("a PMU's terms between two slashes"))?;
            let modifiers = modifiers.strip_prefix(':').unwrap_or(modifiers);
            return Pmu::find(pmu)?.event(terms)?.modified(text, modifiers);
        }
        let (first, rest) = text.split_once(':').map_or((text, None), |(first, rest)| (first, Some(rest)));
        if let Some(builder) = simple(first) {
            return builder.modified(text, rest.unwrap_or(""));
        }
        match rest {
            // A tracepoint's name, and perhaps modifiers.
            Some(rest) => {
                let (name, modifiers) = rest.split_once(':').unwrap_or((rest, ""));
                let found = Tracepoint::find(&format!("{first}:{name}")).map_err(|error| {
                    let near = suggestions(first);
                    match error {
                        // Perhaps no tracepoint was meant: `cycels:u`.
                        Error::NoTracepoint { .. } | Error::NoTracefs { .. } | Error::TracefsPermission { .. }
                            if !near.is_empty() =>
                        {
                            Error::UnknownEvent { name: first.to_owned(), suggestions: near }
                        }
                        error => error,
                    }
                })?;
                Self::from(&found).modified(text, modifiers)
            }
            None => Err(Error::UnknownEvent { name: text.to_owned(), suggestions: suggestions(text) }),
        }
    }

    fn modified(mut self, event: &str, modifiers: &str) -> Result<Self, Error> {
        let unknown = |modifier| Error::UnknownModifier { event: event.to_owned(), modifier };
        if let Some(modifier) = modifiers.chars().find(|c| !"ukhGHIpDe".contains(*c)) {
            return Err(unknown(modifier));
        }
        let has = |modifier| modifiers.contains(modifier);
        if has('u') || has('k') || has('h') {
            self = self.exclude_user(!has('u')).exclude_kernel(!has('k')).exclude_hv(!has('h'));
        }
        if has('G') || has('H') {
            self = self.exclude_guest(!has('G')).exclude_host(!has('H'));
        }
        let precise = modifiers.matches('p').count();
        if precise > 3 {
            return Err(unknown('p'));
        }
        if precise > 0 {
            self = self.precise_ip(precise as u8);
        }
        if has('I') {
            self = self.exclude_idle(true);
        }
        if has('D') {
            self = self.pinned(true);
        }
        if has('e') {
            self = self.exclusive(true);
        }
        Ok(self)
    }
}

/// An event whose name has no colon and no slash.
fn simple(name: &str) -> Option<EventBuilder> {
    if let Some(event) = Software::by_name(name) {
        return Some(EventBuilder::software(event));
    }
    if let Some(event) = Hardware::by_name(name) {
        return Some(EventBuilder::hardware(event));
    }
    if let Some((cache, op, result)) = cache::by_name(name) {
        return Some(EventBuilder::cache(cache, op, result));
    }
    let digits = name.strip_prefix('r')?;
    let hexadecimal = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let config = u64::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)?;
    Some(EventBuilder::raw(config))
}

/// Everything that has a name, as far as it can be read: what cannot is no suggestion.
fn suggestions(name: &str) -> Vec<String> {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let known = Software::ALL
        .into_iter()
        .flat_map(|event| own(event.perf_names()))
        .chain(Hardware::ALL.into_iter().flat_map(|event| own(event.perf_names())))
        .chain(cache::names())
        .chain(Pmu::names().unwrap_or_default().into_iter().filter(|pmu| !BUILT_IN.contains(&pmu.as_str())))
        .collect::<Vec<_>>();
    let near = suggest::near(name, known);
    if !near.is_empty() {
        return near;
    }
    // A tracepoint without its subsystem.
    tracepoint::names()
        .into_iter()
        .filter(|found| found.split_once(':').is_some_and(|(_, after)| after == name))
        .take(4)
        .collect()
}

/// PMUs whose events have a syntax of their own.
const BUILT_IN: [&str; 4] = ["breakpoint", "software", "tracepoint", "uprobe"];

/// `ADDR[/LEN][:rwx][:modifiers]`
fn breakpoint(text: &str, rest: &str) -> Result<EventBuilder, Error> {
    let syntax = |expected| Error::EventSyntax { event: text.to_owned(), expected };
    let mut parts = rest.split(':');
    let place = parts.next().unwrap_or("");
    let (mut access, mut modifiers) = (None, "");
    for part in parts {
        // `mem:0x1000:u` has modifiers only.
        if access.is_none() && modifiers.is_empty() && !part.is_empty() && part.bytes().all(|b| b"rwx".contains(&b)) {
            let all = [('r', Access::R), ('w', Access::W), ('x', Access::X)];
            access = Some(all.into_iter().filter(|(letter, _)| part.contains(*letter)).map(|(_, bit)| bit).collect());
        } else if modifiers.is_empty() && !part.is_empty() {
            modifiers = part;
        } else {
            return Err(syntax("mem:ADDR/LEN:rwx:modifiers"));
        }
    }
    let access = access.unwrap_or(Access::RW);
    let (addr, len) = match place.split_once('/') {
        Some((addr, len)) => (addr, number(len).ok_or(syntax("a length in bytes behind the slash"))?),
        None if access == Access::X => (place, size_of::<libc::c_long>() as u64),
        None => (place, 4),
    };
    let addr = number(addr).ok_or(syntax("an address behind mem:, such as 0x1000"))?;
    EventBuilder::breakpoint(addr, len, access).modified(text, modifiers)
}

/// `PATH+OFFSET[:modifiers]`, or `SYMBOL[+OFFSET][:modifiers]`
fn probe(text: &str, rest: &str, user: bool, on_return: bool) -> Result<EventBuilder, Error> {
    let syntax = |expected| Error::EventSyntax { event: text.to_owned(), expected };
    // Paths may have anything in them: read from the end.
    let (name, tail) = match rest.rsplit_once('+') {
        Some((name, tail)) => (name, Some(tail)),
        None => (rest, None),
    };
    let builder = match (user, tail) {
        (true, None) => return Err(syntax("uprobe:PATH+OFFSET, the offset being that in the file")),
        (true, Some(tail)) => {
            let (offset, modifiers) = tail.split_once(':').unwrap_or((tail, ""));
            let offset = number(offset).ok_or(syntax("a number behind the +"))?;
            let path = Path::new(name);
            let made = if on_return { EventBuilder::uretprobe } else { EventBuilder::uprobe };
            return made(path, offset)?.modified(text, modifiers);
        }
        (false, Some(tail)) => {
            let (offset, modifiers) = tail.split_once(':').unwrap_or((tail, ""));
            (name, number(offset).ok_or(syntax("a number behind the +"))?, modifiers)
        }
        (false, None) => {
            let (symbol, modifiers) = rest.split_once(':').unwrap_or((rest, ""));
            (symbol, 0, modifiers)
        }
    };
    let (symbol, offset, modifiers) = builder;
    if symbol.is_empty() {
        return Err(syntax("a symbol of the kernel"));
    }
    match (on_return, offset) {
        (true, 0) => EventBuilder::kretprobe(symbol)?,
        (true, _) => return Err(syntax("a symbol without an offset: functions return as a whole")),
        (false, _) => EventBuilder::kprobe(symbol, offset)?,
    }
    .modified(text, modifiers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (u32, u64) {
        let builder = EventBuilder::parse(text).unwrap();
        (builder.attr().type_, builder.attr().config)
    }

    #[test]
    fn names() {
        for (text, type_, number) in [
            ("page-faults", 1, 2),
            ("faults", 1, 2),
            ("page_faults_min", 1, 5),
            ("minor-faults", 1, 5),
            ("cs", 1, 3),
            ("cycles", 0, 0),
            ("branches", 0, 4),
            ("L1-dcache-load-misses", 3, 0x1_0000),
            ("r1a8", 4, 0x1a8),
            ("rff", 4, 0xff),
            ("ref-cycles", 0, 9),
        ] {
            assert_eq!(config(text), (type_, number), "{text}");
        }
    }

    #[test]
    fn modifiers() {
        let flags = |text: &str| {
            let builder = EventBuilder::parse(text).unwrap();
            let attr = builder.attr();
            [
                attr.exclude_user(),
                attr.exclude_kernel(),
                attr.exclude_hv(),
                attr.exclude_guest(),
                attr.exclude_host(),
                attr.precise_ip(),
            ]
        };
        assert_eq!(flags("cycles"), [0; 6]);
        assert_eq!(flags("cycles:u"), [0, 1, 1, 0, 0, 0]);
        assert_eq!(flags("cycles:uk"), [0, 0, 1, 0, 0, 0]);
        assert_eq!(flags("cycles:hpp"), [1, 1, 0, 0, 0, 2]);
        assert_eq!(flags("cycles:G"), [0, 0, 0, 0, 1, 0]);
        assert_eq!(flags("cycles:H"), [0, 0, 0, 1, 0, 0]);
        assert_eq!(flags("cycles:GHppp"), [0, 0, 0, 0, 0, 3]);
        let more = EventBuilder::parse("r0:IDe").unwrap();
        assert_eq!((more.attr().exclude_idle(), more.attr().pinned(), more.attr().exclusive()), (1, 1, 1));
        for (text, wrong) in [("cycles:z", 'z'), ("cycles:upppp", 'p'), ("r1:u:k", ':'), ("mem:8:uä", 'ä')] {
            let error = EventBuilder::parse(text).unwrap_err();
            assert!(matches!(error, Error::UnknownModifier { modifier, .. } if modifier == wrong), "{error}");
        }
    }

    #[test]
    fn breakpoints() {
        let parts = |text: &str| {
            let builder = EventBuilder::parse(text).unwrap();
            let attr = builder.attr();
            (attr.bp_addr, attr.bp_len, attr.bp_type, attr.exclude_kernel())
        };
        assert_eq!(parts("mem:0x1000"), (0x1000, 4, 3, 0));
        assert_eq!(parts("mem:4096/8:w"), (0x1000, 8, 2, 0));
        assert_eq!(parts("mem:0x1000:x:u"), (0x1000, size_of::<libc::c_long>() as u64, 4, 1));
        assert_eq!(parts("mem:0x1000/1:u"), (0x1000, 1, 3, 1));
        for text in ["mem:", "mem:x", "mem:8/", "mem:8/y", "mem:8:", "mem:8:r:u:k", "mem:+8"] {
            let error = EventBuilder::parse(text).unwrap_err();
            assert!(matches!(error, Error::EventSyntax { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn defects_of_syntax() {
        for text in ["uprobe:/bin/sh", "uprobe:/bin/sh+x", "uprobe:/bin/sh+", "kprobe:", "kprobe:a+x", "kretprobe:a+4"]
        {
            let error = EventBuilder::parse(text).unwrap_err();
            assert!(matches!(error, Error::EventSyntax { .. }), "{text}: {error}");
        }
        assert!(matches!(EventBuilder::parse("msr/tsc"), Err(Error::EventSyntax { .. })));
        assert!(matches!(EventBuilder::parse("nothing/x/"), Err(Error::UnknownPmu { .. })));
        for text in ["", "r", "rxyz", "r11111111111111111", "r+1", "\0", "é"] {
            assert!(matches!(EventBuilder::parse(text), Err(Error::UnknownEvent { .. })), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in r"(cycles|mem:|uprobe:|kprobe:|msr/|sched:|L1-dcache|r|)[ -~é:/+,=0-9a-fxu-]{0,24}") {
            let _ = EventBuilder::parse(&text);
        }
    }

    #[test]
    fn near_names_are_suggested() {
        for (text, meant) in [
            ("page-fault", "page-faults"),
            ("cylces", "cycles"),
            ("cylces:u", "cycles"),
            ("L1-dcache-laod-misses", "L1-dcache-load-misses"),
            ("intructions", "instructions"),
        ] {
            let error = EventBuilder::parse(text).unwrap_err();
            assert!(error.to_string().contains(&format!("did you mean {meant}")), "{error}");
            assert!(matches!(error, Error::UnknownEvent { suggestions, .. } if suggestions[0] == meant));
        }
    }
}
