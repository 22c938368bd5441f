//! Static probes in the process: declared by a macro, found by their names, fired on the thread that comes by.

use super::argument::Arguments;
use super::enabling::Enabling;
use super::name::ProbeName;
use super::order::Site;
use crate::bpf::Pinned;
use crate::bpf::map::Cell;
use crate::sync::{AtomicU32, AtomicU64, Mutex, lock};
use std::fmt;

/// How much a probe's name and arguments can be relied on, in the words of DTrace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Stability {
    /// Private to whoever made it.
    Internal = 0,
    /// For use by its own project.
    Private = 1,
    /// Will go.
    Obsolete = 2,
    /// Controlled by somebody else.
    External = 3,
    /// May change any time.
    #[default]
    Unstable = 4,
    /// Changes only between major versions, and becomes stable.
    Evolving = 5,
    /// Stays.
    Stable = 6,
    /// What a standard says.
    Standard = 7,
}

impl fmt::Display for Stability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Internal => "Internal",
            Self::Private => "Private",
            Self::Obsolete => "Obsolete",
            Self::External => "External",
            Self::Unstable => "Unstable",
            Self::Evolving => "Evolving",
            Self::Stable => "Stable",
            Self::Standard => "Standard",
        })
    }
}

/// An argument of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArgInfo {
    /// Its name.
    pub name: String,
    /// Its type, as whoever declared it writes it.
    pub type_: String,
}

/// What is known of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProbeInfo {
    /// Its name.
    pub name: ProbeName,
    /// Its arguments, in their order.
    pub args: Vec<ArgInfo>,
    /// How much of this can be relied on.
    pub stability: Stability,
}

impl ProbeInfo {
    /// A probe without arguments, of which nothing can be relied on.
    pub fn new(name: ProbeName) -> Self {
        Self { name, args: Vec::new(), stability: Stability::default() }
    }

    /// The arguments, as text: `fd: i32, buf: *const u8`.
    pub fn args_text(&self) -> String {
        let arg = |arg: &ArgInfo| format!("{}: {}", arg.name, arg.type_);
        self.args.iter().map(arg).collect::<Vec<_>>().join(", ")
    }
}

/// A static probe: a place in a program that fires eBPF programs while a session has it enabled. [`probe!`](crate::probe) makes them.
pub struct Probe {
    /// `provider:module:function:name`
    name: &'static str,
    /// Names and types.
    args: &'static [(&'static str, &'static str)],
    stability: Stability,
    /// How many enablings there are: a hint, for those who come by.
    enabled: AtomicU32,
    enablings: Cell<Vec<Enabling>>,
    /// Held by who changes the enablings.
    change: Mutex<()>,
    /// Firings in which nothing could be looked up: of signal handlers that came at a bad time.
    skipped: AtomicU64,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("name", &self.name).field("enabled", &self.is_enabled()).finish_non_exhaustive()
    }
}

/// The static probes of the process.
#[doc(hidden)]
#[linkme::distributed_slice]
pub static PROBES: [&'static Probe];

impl Probe {
    /// For the macro.
    #[doc(hidden)]
    pub const fn new(name: &'static str, args: &'static [(&'static str, &'static str)], stability: Stability) -> Self {
        Self {
            name,
            args,
            stability,
            enabled: AtomicU32::new(0),
            enablings: Cell::new(),
            change: Mutex::new(()),
            skipped: AtomicU64::new(0),
        }
    }

    /// Whether a session has it enabled. A thread may see a change late.
    #[inline(always)]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Site::Enabled.order()) != 0
    }

    /// Runs the programs that it is enabled for, one after the other, on this thread. A firing in a program, or in a signal
    /// handler that interrupted one, is skipped and counted.
    #[cold]
    #[inline(never)]
    pub fn fire(&self, arguments: &Arguments<'_>) {
        // Not where a handler interrupted a lookup: its books are open.
        let Ok(pinned) = Pinned::new() else {
            self.skipped.fetch_add(1, Site::Skipped.order());
            return;
        };
        for enabling in self.enablings.load(&pinned).into_iter().flatten() {
            enabling.fire(arguments);
        }
    }

    /// What is known of it.
    pub fn info(&self) -> ProbeInfo {
        let mut parts = self.name.splitn(4, ':');
        let mut part = || parts.next().unwrap_or_default();
        let name = ProbeName::new(part(), part(), part(), part());
        let arg = |(name, type_): &(&str, &str)| ArgInfo {
            name: name.trim_start_matches("r#").to_owned(),
            type_: (*type_).to_owned(),
        };
        ProbeInfo { name, args: self.args.iter().map(arg).collect(), stability: self.stability }
    }

    /// Firings that were skipped since the process started, as they came where no program may be started.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.load(Site::Skipped.order())
    }

    /// Changes the enablings; false, and nothing is done, in a signal handler that came at a bad time. The new ones are there for
    /// those who fire from now on; who fires already may have the old ones.
    #[must_use]
    pub(crate) fn change(&self, change: impl FnOnce(&mut Vec<Enabling>)) -> bool {
        let Ok(pinned) = Pinned::new() else { return false };
        let _changing = lock(&self.change);
        let mut enablings = self.enablings.load(&pinned).cloned().unwrap_or_default();
        change(&mut enablings);
        let count = enablings.len() as u32;
        self.enablings.swap((count != 0).then_some(enablings), &pinned);
        self.enabled.store(count, Site::Enabled.order());
        true
    }
}

/// The static probes of this process, in the order of their names.
pub fn probes() -> impl Iterator<Item = &'static Probe> {
    let mut all: Vec<&'static Probe> = PROBES.iter().copied().collect();
    all.sort_by_key(|probe| probe.name);
    all.into_iter()
}

/// Declares static probes: for each a function that fires it, and a module of the same name with `is_enabled`.
///
/// The arguments are numbers, which take a word each, and text and bytes, which take two: their address and their number. While
/// the probe is disabled a call costs a load and a branch; the arguments are evaluated, though, so what costs something belongs
/// behind `is_enabled`.
///
/// ```
/// perfring::probe! {
///     /// A request was read.
///     pub fn request_start(id: u64, path: &str) = "server:http:handle:request-start";
///     /// It was answered.
///     #[stability(Evolving)]
///     fn request_done(id: u64, status: u16) = "server:http:handle:request-done";
/// }
///
/// request_start(1, "/index.html");
/// if request_done::is_enabled() {
///     request_done(1, 200);
/// }
/// assert!(perfring::dtrace::probes().any(|probe| probe.info().name.name == "request-done"));
/// ```
///
/// The name has four parts, and the arguments take no more than [`MAX_ARGS`](crate::dtrace::MAX_ARGS) words; both is checked when it is
/// compiled:
///
/// ```compile_fail
/// perfring::probe! { fn wrong() = "provider:name"; }
/// ```
///
/// ```compile_fail
/// perfring::probe! {
///     fn wrong(a: &str, b: &str, c: &str, d: &str, e: &str, f: &str, g: u8) = "server:http:handle:request-start";
/// }
/// ```
#[macro_export]
macro_rules! probe {
    () => {};
    (
        $(#[doc = $doc:literal])* $(#[stability($stability:ident)])?
        $vis:vis fn $probe:ident($($arg:ident: $type:ty),* $(,)?) = $name:literal;
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        ///
        #[doc = concat!("Fires the probe `", $name, "`, if it is enabled.")]
        #[inline(always)]
        #[allow(clippy::too_many_arguments)]
        $vis fn $probe($($arg: $type),*) {
            // What an enabled probe takes is not in the code of those that have it. No argument may have the name of the function, which
            // would be taken for it.
            #[cold]
            #[inline(never)]
            #[allow(clippy::too_many_arguments)]
            fn __perfring_probe_is_enabled($($arg: $type),*) {
                const _: () = assert!(
                    0 $(+ <$type as $crate::dtrace::Argument>::WORDS)* <= $crate::dtrace::MAX_ARGS,
                    "the arguments of a probe have no more than 12 words",
                );
                #[allow(unused_mut)]
                let mut arguments = $crate::dtrace::Arguments::new();
                $($crate::dtrace::Argument::put(&$arg, &mut arguments);)*
                $probe::PROBE.fire(&arguments);
            }
            if $probe::is_enabled() {
                __perfring_probe_is_enabled($($arg),*);
            }
        }

        #[doc = concat!("The probe `", $name, "`.")]
        #[allow(missing_docs, dead_code)]
        $vis mod $probe {
            pub static PROBE: $crate::dtrace::Probe = $crate::dtrace::Probe::new(
                {
                    assert!($crate::dtrace::__private::is_name($name), "a probe is provider:module:function:name");
                    $name
                },
                &[$((stringify!($arg), stringify!($type))),*],
                $crate::probe!(@stability $($stability)?),
            );

            #[$crate::dtrace::__private::linkme::distributed_slice($crate::dtrace::__private::PROBES)]
            #[linkme(crate = $crate::dtrace::__private::linkme)]
            static ENTRY: &$crate::dtrace::Probe = &PROBE;

            /// Whether a session has it enabled.
            #[inline(always)]
            pub fn is_enabled() -> bool {
                PROBE.is_enabled()
            }
        }

        $crate::probe! { $($rest)* }
    };
    (@stability) => { $crate::dtrace::Stability::Unstable };
    (@stability $stability:ident) => { $crate::dtrace::Stability::$stability };
}

/// Whether it has four parts, of which the first and the last are not empty.
#[doc(hidden)]
pub const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let (mut at, mut colons) = (0, 0);
    while at < bytes.len() {
        if bytes[at] == b':' {
            colons += 1;
        }
        at += 1;
    }
    colons == 3 && bytes[0] != b':' && bytes[bytes.len() - 1] != b':'
}
