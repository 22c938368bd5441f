//! Tracepoints by name.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::kernel::{Error, TracepointFormat, suggest};

/// Where Linux has tracefs: its own mount point, and the one below debugfs that mounts itself on access.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A static tracepoint of the kernel, such as `sched:sched_switch`, with the id that perf_event_open knows it by.
///
/// The id is read from `events/SUBSYSTEM/NAME/id` in tracefs, looked for in `/sys/kernel/tracing` and
/// `/sys/kernel/debug/tracing`. It is valid until the machine restarts or the tracepoint's module is unloaded.
///
/// ```no_run
/// # fn main() -> Result<(), perfring::kernel::Error> {
/// let switch = perfring::kernel::Tracepoint::find("sched:sched_switch")?;
/// println!("{switch} has id {}", switch.id());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    subsystem: String,
    name: String,
    id: u64,
    /// Its directory in tracefs.
    directory: PathBuf,
}

impl Tracepoint {
    /// Looks up `subsystem:name`.
    ///
    /// # Errors
    ///
    /// [`Error::TracepointSyntax`], [`Error::NoTracefs`], [`Error::TracefsPermission`] (tracefs is root's by default),
    /// [`Error::NoTracepoint`], or [`Error::Read`] when the id cannot be read for another reason.
    pub fn find(tracepoint: &str) -> Result<Self, Error> {
        Self::find_in(&TRACEFS.map(Path::new), tracepoint)
    }

    fn find_in(roots: &[&Path], tracepoint: &str) -> Result<Self, Error> {
        let (subsystem, name) =
            split(tracepoint).ok_or_else(|| Error::TracepointSyntax { name: tracepoint.to_owned() })?;
        let denied = |path: PathBuf, source| Error::TracefsPermission { name: tracepoint.to_owned(), path, source };
        let mut refused = None;
        for root in roots {
            let events = root.join("events");
            match events.metadata() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    refused.get_or_insert((events, error));
                    continue;
                }
                Err(_) => continue,
            }
            let directory = events.join(subsystem).join(name);
            let path = directory.join("id");
            return match std::fs::read_to_string(&path) {
                Ok(text) => match text.trim().parse() {
                    Ok(id) => Ok(Self { subsystem: subsystem.to_owned(), name: name.to_owned(), id, directory }),
                    Err(error) => Err(Error::Read { path, source: io::Error::new(io::ErrorKind::InvalidData, error) }),
                },
                Err(error) => Err(match error.kind() {
                    // ENOTDIR: a control file of the subsystem, such as `enable`, was named.
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NoTracepoint {
                        name: tracepoint.to_owned(),
                        path,
                        suggestions: suggest::near(tracepoint, names_in(&events)),
                    },
                    io::ErrorKind::PermissionDenied => denied(path, error),
                    _ => Error::Read { path, source: error },
                }),
            };
        }
        Err(match refused {
            Some((path, source)) => denied(path, source),
            None => Error::NoTracefs { name: tracepoint.to_owned(), looked: roots.iter().map(PathBuf::from).collect() },
        })
    }

    /// The names of all tracepoints, `subsystem:name`, in their order; none where tracefs is not mounted, or may not be read.
    pub fn names() -> Vec<String> {
        let mut names = names();
        names.sort_unstable();
        names
    }

    /// `sched` in `sched:sched_switch`.
    pub fn subsystem(&self) -> &str {
        &self.subsystem
    }

    /// `sched_switch` in `sched:sched_switch`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `config` of a `PERF_TYPE_TRACEPOINT` event.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its directory in tracefs, `events/SUBSYSTEM/NAME`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The fields that the raw data of its samples holds, from its file `format` in tracefs.
    ///
    /// # Errors
    ///
    /// [`Error::TracefsPermission`], [`Error::Read`], [`Error::TracepointFormat`].
    ///
    /// ```no_run
    /// # fn main() -> Result<(), perfring::kernel::Error> {
    /// let format = perfring::kernel::Tracepoint::find("sched:sched_switch")?.format()?;
    /// for field in format.fields() {
    ///     println!("{} {} at byte {}", field.type_text(), field.name(), field.offset());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn format(&self) -> Result<TracepointFormat, Error> {
        let path = self.directory.join("format");
        match std::fs::read_to_string(&path) {
            Ok(text) => TracepointFormat::parse(&text).map_err(|source| Error::TracepointFormat { path, source }),
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Err(Error::TracefsPermission { name: self.to_string(), path, source })
            }
            Err(source) => Err(Error::Read { path, source }),
        }
    }
}

impl fmt::Display for Tracepoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.subsystem, self.name)
    }
}

/// All tracepoints, `subsystem:name`, as far as they can be read.
pub(super) fn names() -> Vec<String> {
    TRACEFS
        .iter()
        .map(|root| names_in(&Path::new(root).join("events")))
        .find(|names| !names.is_empty())
        .unwrap_or_default()
}

fn names_in(events: &Path) -> Vec<String> {
    let directories = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    };
    directories(events)
        .flat_map(|subsystem| {
            directories(&subsystem.path()).map(move |event| {
                format!("{}:{}", subsystem.file_name().to_string_lossy(), event.file_name().to_string_lossy())
            })
        })
        .collect()
}

/// Both parts become single path components, so a name cannot lead out of tracefs.
fn split(tracepoint: &str) -> Option<(&str, &str)> {
    let component = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(['/', ':', '\0'])
            && !part.contains(char::is_whitespace)
    };
    tracepoint.split_once(':').filter(|(subsystem, name)| component(subsystem) && component(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like tracefs as far as ids go.
    struct Fake(PathBuf);

    impl Fake {
        fn new(test: &str) -> Self {
            let root = std::env::temp_dir().join(format!("perfring-{}-{test}", std::process::id()));
            let dir = root.join("events/sched/sched_switch");
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("id"), "314\n").unwrap();
            std::fs::write(root.join("events/sched/enable"), "0\n").unwrap();
            Self(root)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn finds_the_id_in_the_first_directory_that_is_tracefs() {
        let fake = Fake::new("finds");
        let absent = fake.0.join("absent");
        let found = Tracepoint::find_in(&[&absent, &fake.0], "sched:sched_switch").unwrap();
        assert_eq!((found.subsystem(), found.name(), found.id()), ("sched", "sched_switch", 314));
        assert_eq!(found.to_string(), "sched:sched_switch");
    }

    #[test]
    fn an_unknown_one_names_the_file_that_is_missing() {
        let fake = Fake::new("unknown");
        for name in ["sched:nothing", "nothing:sched_switch", "sched:enable"] {
            let error = Tracepoint::find_in(&[&fake.0], name).unwrap_err();
            assert!(matches!(error, Error::NoTracepoint { .. }), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn an_unknown_one_has_neighbours() {
        let fake = Fake::new("neighbours");
        let error = Tracepoint::find_in(&[&fake.0], "sched:sched_swich").unwrap_err();
        assert!(error.to_string().contains("did you mean sched:sched_switch?"), "{error}");
        assert!(matches!(error, Error::NoTracepoint { suggestions, .. } if suggestions == ["sched:sched_switch"]));
    }

    #[test]
    fn the_format_is_that_of_its_directory() {
        let fake = Fake::new("format");
        let found = Tracepoint::find_in(&[&fake.0], "sched:sched_switch").unwrap();
        assert!(matches!(found.format(), Err(Error::Read { .. })));
        let path = fake.0.join("events/sched/sched_switch/format");
        std::fs::write(&path, include_str!("../../tests/data/tracefs/sched_switch.format")).unwrap();
        assert!(found.format().unwrap().field("prev_pid").is_some());
        std::fs::write(&path, "name: x").unwrap();
        assert!(matches!(found.format(), Err(Error::TracepointFormat { .. })));
    }

    #[test]
    fn no_tracefs_names_where_it_was_looked_for() {
        let fake = Fake::new("none");
        let absent = fake.0.join("absent");
        let error = Tracepoint::find_in(&[&absent], "sched:sched_switch").unwrap_err();
        assert!(matches!(error, Error::NoTracefs { .. }), "{error}");
        assert!(error.to_string().contains(&absent.display().to_string()), "{error}");
    }

    #[test]
    fn a_damaged_id_is_an_error() {
        let fake = Fake::new("damaged");
        std::fs::write(fake.0.join("events/sched/sched_switch/id"), "many").unwrap();
        let error = Tracepoint::find_in(&[&fake.0], "sched:sched_switch").unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error}");
    }

    #[test]
    fn names_stay_inside_tracefs() {
        for name in ["", ":", "sched", "sched:", ":x", "../x:y", "a:..", "a:b/c", "a:b:c", "a:b\0", ".:x", "a: b"] {
            let error = Tracepoint::find_in(&[], name).unwrap_err();
            assert!(matches!(error, Error::TracepointSyntax { .. }), "{name:?}: {error}");
        }
    }
}
