//! `ID_INDEX`.

use super::array::{Array, array_item, put_count};
use crate::record::bytes::{Cursor, Field, Writer, wire};
use crate::record::{Defect, EncodeError};

wire! {
    /// What an id belongs to. Numbers that are not known are [`u64::MAX`].
    pub struct IdIndexEntry {
        /// The id, as in samples.
        pub id: u64,
        /// The index of the ring among the recorder's.
        pub idx: u64,
        /// The CPU that is observed.
        pub cpu: u64,
        /// The thread that is observed.
        pub tid: u64,
    }

    /// Which guest an id belongs to; 0 and 0 for the host.
    pub struct IdIndexGuest {
        /// The process of the guest's hypervisor.
        pub machine_pid: u64,
        /// The guest's virtual CPU.
        pub vcpu: u64,
    }
}

array_item! {
    IdIndexEntry = 32;
    IdIndexGuest = 16;
}

/// `ID_INDEX`: which id belongs to which ring, CPU and thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdIndex<'a> {
    /// One entry for each id.
    pub entries: Array<'a, IdIndexEntry>,
    /// One for each entry, in the same order, where guests were recorded, too.
    pub guests: Option<Array<'a, IdIndexGuest>>,
}

impl<'a> Field<'a> for IdIndex<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let nr = from.int("nr")?;
        let entries = Array::take(from, nr, "entries")?;
        // Of records that end within the second array, perf reads the first alone.
        let there = nr != 0 && !from.rest().is_empty();
        let guests = if there { Array::take(from, nr, "machine_pid").ok() } else { None };
        Ok(Self { entries, guests })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        put_count(to, self.entries.len());
        self.entries.put(to, "entries")?;
        match self.guests {
            Some(guests) if guests.len() != self.entries.len() => {
                Err(EncodeError::Shape { field: "machine_pid", what: "not one for each entry" })
            }
            Some(guests) => guests.put(to, "machine_pid"),
            None => Ok(()),
        }
    }
}
