//! How a recording is written, and what came of it.

use crate::record::ByteOrder;

/// How a recording is written.
///
/// ```
/// use perfring::record::ByteOrder;
/// use perfring::replay::perf_data::WriteOptions;
/// let options = WriteOptions::default().order(ByteOrder::Big);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    pub(super) order: ByteOrder,
    #[cfg(feature = "zstd")]
    pub(super) level: Option<u8>,
}

impl WriteOptions {
    /// The byte order of the records that will be given: this machine's unless this says otherwise.
    #[must_use]
    pub fn order(mut self, order: ByteOrder) -> Self {
        self.order = order;
        self
    }

    /// Compresses the kernel's records with zstd, at a level from 1 (fast) to 22 (small): not at all unless this says
    /// otherwise. `perf` takes 1 when it is asked to compress.
    ///
    /// The file of a recorder that was killed says how it is compressed in its first record, for lack of features: `perf script`
    /// and `perf report` read it so, `perf report --stats` does not.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn zstd(mut self, level: u8) -> Self {
        self.level = Some(level);
        self
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Bytes in the recording: of a file without what the header describes.
    pub data: u64,
    /// Bytes of records before they were compressed; 0 if they were not.
    pub plain: u64,
    /// Bytes that failed writes have lost, as in [`WriteError::Io`](crate::replay::perf_data::WriteError::Io).
    pub lost: u64,
}
