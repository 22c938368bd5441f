//! Records as one zstd stream, in the pieces that `COMPRESSED` records hold.

use super::output::{Failure, Output};
use crate::record::{ByteOrder, Header, Misc, RecordType};
use crate::replay::perf_data::features::Compressed;
use zstd::stream::raw::{Encoder, InBuffer, Operation, OutBuffer};

/// The largest record that is a multiple of 8.
const RECORD: usize = 65528;
/// Bytes that are compressed before the stream is flushed. `perf` takes a record in which no block ends for a defect, so all
/// that a flush gives has to fit into one.
const BLOCK: usize = 63 << 10;
/// The most bytes that a block, and the header of a frame before it, can have: `ZSTD_COMPRESSBOUND`, and 18.
const BLOCK_BOUND: usize = BLOCK + (BLOCK >> 8) + (((128 << 10) - BLOCK) >> 11) + 18;
/// The most bytes that a record gives when it is decompressed.
const PLAIN: usize = 7 * (64 << 10);

/// What a reader makes room for: what a record gives, behind the start of a record that the one before it gave.
const MMAP_LEN: u32 = (PLAIN + (64 << 10)) as u32;
/// `PERF_COMP_ZSTD`
const ZSTD: u32 = 1;

const _: () = assert!(Header::SIZE + BLOCK_BOUND <= RECORD);

pub(super) struct Compressor {
    encoder: Encoder<'static>,
    order: ByteOrder,
    level: u8,
    /// The record that is being filled. Its header is written when it is known how long it is.
    record: Box<[u8]>,
    filled: usize,
    /// Bytes compressed since the stream was flushed.
    block: usize,
    /// Bytes compressed since the record was begun.
    plain: usize,
    all_plain: u64,
    all_packed: u64,
}

impl Compressor {
    pub(super) fn new(level: u8, order: ByteOrder) -> std::io::Result<Self> {
        Ok(Self {
            encoder: Encoder::new(level.into())?,
            order,
            level,
            record: vec![0; RECORD].into(),
            filled: Header::SIZE,
            block: 0,
            plain: 0,
            all_plain: 0,
            all_packed: 0,
        })
    }

    /// Bytes that were compressed.
    pub(super) fn plain(&self) -> u64 {
        self.all_plain
    }

    /// The feature `COMPRESSED`.
    pub(super) fn feature(&self) -> Compressed {
        let packed = self.all_packed.max(1);
        let ratio = self.all_plain.saturating_add(packed / 2) / packed;
        Compressed {
            version: 1,
            type_: ZSTD,
            level: self.level.into(),
            ratio: u32::try_from(ratio).unwrap_or(u32::MAX).max(1),
            mmap_len: MMAP_LEN,
        }
    }

    /// Compresses whole records, or a piece of them that others follow.
    pub(super) fn push(&mut self, mut bytes: &[u8], to: &mut Output<'_>) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let (block, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block));
            let mut input = InBuffer::around(block);
            while input.pos() < block.len() {
                self.step(to, |encoder, output| encoder.run(&mut input, output).map(drop))?;
            }
            self.block += block.len();
            self.plain += block.len();
            self.all_plain += block.len() as u64;
            if self.block == BLOCK {
                self.end_block(to)?;
                if self.record.len() - self.filled < BLOCK_BOUND || self.plain + BLOCK > PLAIN {
                    self.emit(to)?;
                }
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the record with all that was compressed so far.
    pub(super) fn flush(&mut self, to: &mut Output<'_>) -> Result<(), Failure> {
        self.end_block(to)?;
        self.emit(to)
    }

    fn end_block(&mut self, to: &mut Output<'_>) -> Result<(), Failure> {
        let mut left = self.block;
        while left > 0 {
            self.step(to, |encoder, output| {
                left = encoder.flush(output)?;
                Ok(())
            })?;
        }
        self.block = 0;
        Ok(())
    }

    /// Lets the encoder write into the record, and begins another one when that is full.
    fn step(
        &mut self,
        to: &mut Output<'_>,
        run: impl FnOnce(&mut Encoder<'static>, &mut OutBuffer<'_, [u8]>) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        if self.filled == self.record.len() {
            self.emit(to)?;
        }
        let mut output = OutBuffer::around_pos(&mut self.record[..], self.filled);
        run(&mut self.encoder, &mut output)?;
        self.filled = output.pos();
        Ok(())
    }

    fn emit(&mut self, to: &mut Output<'_>) -> Result<(), Failure> {
        let Some(record) = self.record.get_mut(..self.filled).filter(|record| record.len() > Header::SIZE) else {
            return Ok(());
        };
        let header = Header { type_: RecordType::COMPRESSED, misc: Misc::empty(), size: record.len() as u16 };
        record[..Header::SIZE].copy_from_slice(&header.to_bytes(self.order));
        self.all_packed += record.len() as u64;
        self.filled = Header::SIZE;
        self.plain = 0;
        to.put(record, &[])
    }
}
