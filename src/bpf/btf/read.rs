//! Numbers in a part of a section.

use super::BtfError;
use crate::record::ByteOrder;

/// Reads from the front; knows where it is.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    order: ByteOrder,
}

impl<'a> Reader<'a> {
    /// Of bytes that start at byte `at` of their section.
    pub(super) fn new(bytes: &'a [u8], at: usize, order: ByteOrder) -> Self {
        Self { bytes, at, order }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, what: &'static str, len: u64) -> Result<Self, BtfError> {
        let truncated = BtfError::Truncated { what, at: self.at, wanted: len, left: self.bytes.len() };
        let Some((taken, rest)) = usize::try_from(len).ok().and_then(|len| self.bytes.split_at_checked(len)) else {
            return Err(truncated);
        };
        let part = Self { bytes: taken, ..*self };
        self.bytes = rest;
        self.at += taken.len();
        Ok(part)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, BtfError> {
        let Some((bytes, rest)) = self.bytes.split_first_chunk() else {
            return Err(BtfError::Truncated { what, at: self.at, wanted: 4, left: self.bytes.len() });
        };
        self.bytes = rest;
        self.at += 4;
        Ok(match self.order {
            ByteOrder::Little => u32::from_le_bytes(*bytes),
            ByteOrder::Big => u32::from_be_bytes(*bytes),
        })
    }
}

/// The header that `.BTF` and `.BTF.ext` start with: the byte order, the numbers behind the length, and what follows.
pub(super) fn header<'a>(bytes: &'a [u8], least: u32) -> Result<(ByteOrder, Reader<'a>, Reader<'a>), BtfError> {
    let Some((&[m0, m1, version, _flags], _)) = bytes.split_first_chunk() else {
        return Err(BtfError::Truncated { what: "header", at: 0, wanted: 8, left: bytes.len() });
    };
    let order = match u16::from_le_bytes([m0, m1]) {
        0xeb9f => ByteOrder::Little,
        0x9feb => ByteOrder::Big,
        magic => return Err(BtfError::Magic { magic }),
    };
    if version != 1 {
        return Err(BtfError::Version { version });
    }
    let mut all = Reader::new(bytes, 0, order);
    let mut start = all;
    start.take("header", 4)?;
    let len = start.u32("header")?;
    if len < least {
        return Err(BtfError::HeaderLength { len });
    }
    let mut fields = all.take("header", len.into())?;
    fields.take("header", 8)?;
    Ok((order, fields, all))
}

impl<'a> Reader<'a> {
    /// The part of this reader that an offset and a length name, as a header has them.
    pub(super) fn part(&self, part: &'static str, offset: u32, len: u32) -> Result<Self, BtfError> {
        let outside = || BtfError::Part { part, offset, len, left: self.bytes.len() };
        let start = usize::try_from(offset).map_err(|_| outside())?;
        let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len)).ok_or_else(outside)?;
        let bytes = self.bytes.get(start..end).ok_or_else(outside)?;
        Ok(Self { bytes, at: self.at + start, order: self.order })
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}
