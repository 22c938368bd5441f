//! Records that were compressed, piece by piece.

use zstd::stream::raw::{Decoder, Operation};

/// The zstd stream of a recording. It takes at most 128 MiB, the largest window that zstd reads unasked.
pub(crate) struct Inflater(Decoder<'static>);

impl Inflater {
    pub(crate) fn new() -> Result<Self, String> {
        Decoder::new().map(Self).map_err(|error| error.to_string())
    }

    /// Goes on: how many bytes were taken from `from`, and how many were given to `into`.
    pub(crate) fn run(&mut self, from: &[u8], into: &mut [u8]) -> Result<(usize, usize), String> {
        let status = self.0.run_on_buffers(from, into).map_err(|error| error.to_string())?;
        Ok((status.bytes_read, status.bytes_written))
    }
}
