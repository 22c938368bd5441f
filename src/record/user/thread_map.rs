//! `THREAD_MAP`.

use super::array::{Array, array_item, put_count, put_text, take_text};
use crate::record::bytes::{Cursor, Field, Writer};
use crate::record::{Defect, EncodeError, Text};

/// A thread that is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadMapEntry<'a> {
    /// The thread's id; [`u64::MAX`] for all threads.
    pub pid: u64,
    /// Its name, cut off after 16 bytes.
    pub comm: Text<'a>,
}

impl ThreadMapEntry<'_> {
    const COMM_LEN: usize = 16;
}

impl<'a> Field<'a> for ThreadMapEntry<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        Ok(Self { pid: from.int("pid")?, comm: take_text(from, Self::COMM_LEN, "comm")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.int(self.pid);
        put_text(to, self.comm, Self::COMM_LEN, "comm")
    }
}

array_item! {
    ThreadMapEntry<'a> = 24;
}

/// `THREAD_MAP`: the threads that are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadMap<'a> {
    /// The threads.
    pub entries: Array<'a, ThreadMapEntry<'a>>,
}

impl<'a> Field<'a> for ThreadMap<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let nr = from.int("nr")?;
        Ok(Self { entries: Array::take(from, nr, "entries")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        put_count(to, self.entries.len());
        self.entries.put(to, "entries")
    }
}
