//! Memory: nodes, and the blocks of which they consist.

use super::items::{Item, get_version, items};
use crate::record::bytes::{Cursor, Writer};
use crate::record::{Defect, DefectKind, EncodeError, Text, Words};

items! {
    /// A node of memory and its CPUs.
    pub struct NumaNode<'a> {
        /// Its number.
        pub nodenr: u32,
        /// Its memory, in KiB.
        pub mem_total: u64,
        /// What of it was free, in KiB.
        pub mem_free: u64,
        /// Its CPUs, as a list such as `0-3,8`.
        pub cpus: Text<'a>,
    }
}

/// Which blocks of memory are whose: `/sys/devices/system/node/node*/memory*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemTopology<'a> {
    /// Bytes in a block.
    pub block_size: u64,
    /// The nodes.
    pub nodes: Vec<MemoryNode<'a>>,
}

/// The blocks of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryNode<'a> {
    /// The node's number.
    pub node: u64,
    /// Bits in `blocks`: one more than the highest number of a block.
    pub size: u64,
    /// A bit for each block, set if it belongs to the node: 64 in a word, as many words as `size` needs.
    pub blocks: Words<'a>,
}

impl<'a> MemTopology<'a> {
    pub(super) fn get(from: &mut Cursor<'a>) -> Result<Self, Defect> {
        get_version::<u64>(from, 1)?;
        let block_size = from.int("block_size_bytes")?;
        let count: u64 = from.int("count")?;
        Ok(Self { block_size, nodes: super::items::get_list(from, count, "nodes")? })
    }

    pub(super) fn put(&self, to: &mut Writer<'_>) -> Result<(), EncodeError> {
        to.int(1_u64);
        to.int(self.block_size);
        to.int(self.nodes.len() as u64);
        super::items::put_list(to, &self.nodes, "nodes")
    }
}

impl MemoryNode<'_> {
    /// The numbers of the blocks, as ranges of neighbours.
    pub fn ranges(&self) -> impl Iterator<Item = std::ops::RangeInclusive<u64>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next_block(at, true)?;
            let end = self.next_block(start, false).unwrap_or(self.size);
            at = end;
            Some(start..=end - 1)
        })
    }

    /// How many blocks there are.
    pub fn count(&self) -> u64 {
        let in_size = |(index, word): (usize, u64)| word & mask_below(self.size.saturating_sub(index as u64 * 64));
        self.blocks.iter().enumerate().map(|word| u64::from(in_size(word).count_ones())).sum()
    }

    /// The first bit from `at` on that is set, or is not.
    fn next_block(&self, at: u64, set: bool) -> Option<u64> {
        let mut index = usize::try_from(at / 64).ok()?;
        let mut below = at % 64;
        while let Some(word) = self.blocks.get(index) {
            let word = if set { word } else { !word };
            let word = word & !mask_below(below);
            if word != 0 {
                return Some(index as u64 * 64 + u64::from(word.trailing_zeros())).filter(|bit| *bit < self.size);
            }
            (index, below) = (index + 1, 0);
        }
        None
    }
}

/// The lowest `bits` bits.
fn mask_below(bits: u64) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

impl<'a> Item<'a> for MemoryNode<'a> {
    const MIN: u64 = 24;

    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let node = from.int("node_id")?;
        let size: u64 = from.int("size")?;
        let at = *from;
        // It stands there twice.
        let again: u64 = from.int("bitmapsize")?;
        if again != size {
            return Err(at.defect("bitmapsize", DefectKind::Value { value: again }));
        }
        Ok(Self { node, size, blocks: from.words(size.div_ceil(64), "bitmap")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        if self.blocks.len() as u64 != self.size.div_ceil(64) {
            return Err(EncodeError::Shape { field: "bitmap", what: "not the words that its bits need" });
        }
        [self.node, self.size, self.size].into_iter().for_each(|word| to.int(word));
        to.words(self.blocks);
        Ok(())
    }
}
