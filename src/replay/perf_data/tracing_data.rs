//! The section `TRACING_DATA`: the formats of tracepoints.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The most that a file of tracefs is read.
const MOST: usize = 1 << 20;

/// A format that cannot be read.
#[derive(Debug, Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct TracingDataError {
    /// The file of tracefs.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The section [`TRACING_DATA`](super::FeatureId::TRACING_DATA) for some tracepoints, by subsystem and name: with it, a
/// reader knows what their raw data are. `tracefs` is where it is mounted, `/sys/kernel/tracing` as a rule.
///
/// The format is that of trace.dat(5), version 0.6, up to its section of command lines. Symbols of the kernel, strings that
/// it prints, and names of tasks are left out: recordings have these elsewhere.
///
/// # Errors
///
/// [`TracingDataError`]: as a rule, tracefs is root's.
pub fn tracing_data<'a>(
    tracefs: &Path,
    tracepoints: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<u8>, TracingDataError> {
    let events = tracefs.join("events");
    let mut out = b"\x17\x08\x44tracing0.6\0".to_vec();
    out.push(u8::from(cfg!(target_endian = "big")));
    out.push(size_of::<usize>() as u8);
    out.extend((crate::ring::page_size() as u32).to_ne_bytes());
    for name in ["header_page", "header_event"] {
        out.extend(name.as_bytes());
        out.push(0);
        sized(&mut out, &read(events.join(name))?);
    }
    // No formats of ftrace itself.
    out.extend(0_u32.to_ne_bytes());
    let mut subsystems: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (subsystem, name) in tracepoints {
        let names = subsystems.entry(subsystem).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    out.extend((subsystems.len() as u32).to_ne_bytes());
    for (subsystem, names) in subsystems {
        out.extend(subsystem.as_bytes());
        out.push(0);
        out.extend((names.len() as u32).to_ne_bytes());
        for name in names {
            sized(&mut out, &read(events.join(subsystem).join(name).join("format"))?);
        }
    }
    // Symbols and strings have 32 bits for their length, names of tasks 64.
    out.extend([0; 4 + 4 + 8]);
    Ok(out)
}

fn sized(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_ne_bytes());
    out.extend(text);
}

fn read(path: PathBuf) -> Result<Vec<u8>, TracingDataError> {
    let read = || {
        let mut file = File::open(&path)?;
        // `header_page` ends behind a first read, however short that is.
        let mut text = vec![0; MOST];
        let mut len = 0;
        while let Some(rest @ [_, ..]) = text.get_mut(len..) {
            match file.read(rest) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        text.truncate(len);
        Ok(text)
    };
    read().map_err(|source| TracingDataError { path: path.clone(), source })
}
