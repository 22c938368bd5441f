//! Where symbols come from, and what the recording says of it.

use crate::record::{Body, ByteOrder};
use crate::record::{BuildId, Decoder, Header, Misc, RecordType, User};
use crate::replay::Metadata;
use crate::replay::perf_data::FeatureId;
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
        let order = recording.order();
        if let Some(bytes) = recording.feature_bytes(FeatureId::BUILD_ID)? {
            options.build_ids = build_ids(&bytes, order)?;
        }
        if let Some(bytes) = recording.feature_bytes(FeatureId::OSRELEASE)? {
            // The length, which includes zeros at the end, and the text.
            let text = bytes.get(4..).and_then(|text| text.split(|byte| *byte == 0).next()).unwrap_or_default();
            options.os_release = Some(String::from_utf8_lossy(text).into_owned()).filter(|text| !text.is_empty());
        }
        Ok(options)
    }
}

/// The section holds records, but their type is 0.
fn build_ids(mut bytes: &[u8], order: ByteOrder) -> io::Result<HashMap<Vec<u8>, BuildId>> {
    let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let decoder = Decoder::empty(order);
    let mut found = HashMap::new();
    while !bytes.is_empty() {
        let header = Header::from_bytes(bytes, order).filter(|header| usize::from(header.size) >= Header::SIZE);
        let (Some(header), true) = (header, bytes.len() >= Header::SIZE) else {
            return Err(damaged("the feature BUILD_ID is damaged".into()));
        };
        let Some((record, rest)) = bytes.split_at_checked(header.size.into()) else {
            return Err(damaged("the feature BUILD_ID ends inside of a record".into()));
        };
        bytes = rest;
        let header = Header { type_: RecordType::HEADER_BUILD_ID, ..header };
        let mut record = record.to_vec();
        if let Some(start) = record.first_chunk_mut() {
            *start = header.to_bytes(order);
        }
        let decoded = decoder
            .decode(&record)
            .map_err(|error| damaged(Box::<dyn std::error::Error + Send + Sync>::from(error)))?;
        if let Body::User(User::HeaderBuildId(file)) = decoded.body
            && let Some(id) = BuildId::new(trimmed(file.build_id, header.misc))
        {
            found.insert(file.filename.as_bytes().to_vec(), id);
        }
    }
    Ok(found)
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
    use crate::record::user::HeaderBuildId;
    use crate::record::{Attr, Encoder, SampleId};

    #[test]
    fn build_ids_are_records_without_a_type() {
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let encoder = Encoder::new(&Attr::default(), order).unwrap();
            let mut section = Vec::new();
            let mut add = |misc, build_id: &[u8], filename: &str| {
                let start = section.len();
                let body =
                    Body::User(User::HeaderBuildId(HeaderBuildId { pid: -1, build_id, filename: filename.into() }));
                encoder.encode(misc, &body, &SampleId::default(), &mut section).unwrap();
                section[start..start + 4].fill(0);
            };
            add(Misc::BUILD_ID_SIZE, &[1; 20], "[kernel.kallsyms]");
            add(Misc::BUILD_ID_SIZE, &[2; 16], "/bin/true");
            add(Misc::empty(), &[3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "/bin/false");
            let found = build_ids(&section, order).unwrap();
            assert_eq!(found.len(), 3);
            assert_eq!(found[&b"[kernel.kallsyms]"[..]].as_bytes(), [1; 20]);
            assert_eq!(found[&b"/bin/true"[..]].as_bytes(), [2; 16]);
            assert_eq!(found[&b"/bin/false"[..]].as_bytes(), [3; 4]);
            for len in (1..section.len()).filter(|len| ![64, 112].contains(len)) {
                let result = build_ids(&section[..len], order);
                assert!(result.is_err() || len % 8 == 0, "{len}: {result:?}");
            }
        }
        assert!(build_ids(&[0; 64], ByteOrder::NATIVE).is_err());
    }
}
