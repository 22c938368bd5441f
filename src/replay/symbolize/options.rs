//! Where symbols come from, and what the recording says of it.

use crate::record::{BuildId, Misc};
use crate::replay::Metadata;
use crate::replay::perf_data::features::BuildIdEntry;
use crate::replay::perf_data::{Feature, FeatureId};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

/// Where symbols come from.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The directory below which the recorded files are, if it is not `/`. The running kernel is not below it.
    pub sysroot: Option<PathBuf>,
    /// The build ids of files by the names in mappings: the feature `BUILD_ID` of a recording. What a mapping itself says
    /// comes first.
    pub build_ids: HashMap<Vec<u8>, BuildId>,
    /// The release of the recorded kernel: the feature `OSRELEASE` of a recording.
    pub os_release: Option<String>,
    /// No DWARF: neither inlined functions nor lines, but much less to read.
    pub symbol_tables_only: bool,
}

impl Options {
    /// With what a recording says: its build ids, and the kernel's release. A stream may say them only at its end.
    ///
    /// # Errors
    ///
    /// Those of reading the recording, and [`InvalidData`](io::ErrorKind::InvalidData) if the features are damaged.
    pub fn of(recording: &Metadata) -> io::Result<Self> {
        let mut options = Self::default();
        for id in [FeatureId::BUILD_ID, FeatureId::OSRELEASE] {
            let Some(bytes) = recording.feature_bytes(id)? else { continue };
            let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            match Feature::decode(id, &bytes, recording.order()).map_err(damaged)? {
                Feature::BuildId(entries) => {
                    let known = entries.iter().filter_map(|BuildIdEntry { misc, build_id: file }| {
                        Some((file.filename.as_bytes().to_vec(), BuildId::new(trimmed(file.build_id, *misc))?))
                    });
                    options.build_ids = known.collect();
                }
                Feature::OsRelease(release) => {
                    options.os_release = Some(release.to_string()).filter(|release| !release.is_empty());
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Without a size it may have been filled up with zeros.
fn trimmed(id: &[u8], misc: Misc) -> &[u8] {
    if misc.contains(Misc::BUILD_ID_SIZE) {
        return id;
    }
    let len = id.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    id.get(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_build_id_of_unknown_length_is_trimmed() {
        let id = [3, 0, 3, 0, 0];
        assert_eq!(trimmed(&id, Misc::BUILD_ID_SIZE), id);
        assert_eq!(trimmed(&id, Misc::empty()), [3, 0, 3]);
        assert!(trimmed(&[0; 20], Misc::empty()).is_empty());
    }
}
