//! What concerns the recording itself: files, times, clocks, compression.

use super::items::items;
use crate::record::bytes::{Cursor, Writer};
use crate::record::user::HeaderBuildId;
use crate::record::{Defect, DefectKind, EncodeError, Header, Misc, RecordType};

items! {
    /// The times of the first and the last sample.
    pub struct SampleTime {
        /// Of the first one, in nanoseconds of the recording's clock.
        pub first: u64,
        /// Of the last one.
        pub last: u64,
    }

    /// What the clock of the times showed at a time of day.
    pub struct ClockData {
        /// The version of the section: 1.
        pub version: u32,
        /// The clock (`CLOCK_*`).
        pub clockid: u32,
        /// The time of day, in nanoseconds since 1970.
        pub wall_clock_ns: u64,
        /// What the clock showed then, in nanoseconds.
        pub clockid_time_ns: u64,
    }

    /// How records are compressed.
    pub struct Compressed {
        /// The version of the section; 0 so far.
        pub version: u32,
        /// 1 is Zstandard (`PERF_COMP_ZSTD`).
        pub type_: u32,
        /// The level that was asked for.
        pub level: u32,
        /// Bytes before it for one after it, rounded.
        pub ratio: u32,
        /// Bytes of a mapped ring: what is decompressed at once is not longer.
        pub mmap_len: u32,
    }

    /// Where data of the AUX area are.
    pub struct AuxtraceIndexEntry {
        /// Where in the file their `AUXTRACE` record begins.
        pub file_offset: u64,
        /// Bytes of the record and the data.
        pub sz: u64,
    }
}

/// Which build a file is that was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildIdEntry<'a> {
    /// Whose the file is, in [`Misc::cpumode`], and whether the length of the build id is told.
    pub misc: Misc,
    /// The file and its build id.
    pub build_id: HeaderBuildId<'a>,
}

/// Records whose headers have the type 0.
pub(super) fn get_build_ids<'a>(from: &mut Cursor<'a>) -> Result<Vec<BuildIdEntry<'a>>, Defect> {
    let mut entries = Vec::new();
    while !from.rest().is_empty() {
        let at = *from;
        let [type_, misc_size]: [&[u8]; 2] = [from.take(4, "type")?, from.take(4, "misc")?];
        let bytes = [type_, misc_size].concat();
        let header = Header::from_bytes(&bytes, from.order())
            .ok_or_else(|| at.defect("header", DefectKind::Truncated { needed: 8, left: bytes.len() }))?;
        let Some(len) = usize::from(header.size).checked_sub(Header::SIZE) else {
            return Err(at.defect("size", DefectKind::Value { value: header.size.into() }));
        };
        let start = from.at();
        let mut body = Cursor::new(from.take(len as u64, "filename")?, from.order());
        let build_id = HeaderBuildId::get(&mut body, header.misc)
            .map_err(|defect| Defect { offset: start + defect.offset, ..defect })?;
        entries.push(BuildIdEntry { misc: header.misc, build_id });
    }
    Ok(entries)
}

pub(super) fn put_build_ids(entries: &[BuildIdEntry<'_>], to: &mut Writer<'_>) -> Result<(), EncodeError> {
    for BuildIdEntry { misc, build_id } in entries {
        let mut body = Vec::new();
        build_id.put(*misc, &mut Writer::new(&mut body, to.order()))?;
        let size = Header::SIZE + body.len();
        let size = u16::try_from(size).map_err(|_| EncodeError::TooLarge { size })?;
        to.bytes(&Header { type_: RecordType(0), misc: *misc, size }.to_bytes(to.order()));
        to.bytes(&body);
    }
    Ok(())
}
