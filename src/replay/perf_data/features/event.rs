//! Events, groups of them, and the PMUs whose they are.

use super::items::{Item, items};
use crate::record::bytes::{Cursor, Writer};
use crate::record::{Attr, AttrError, Defect, DefectKind, EncodeError, Text, Words};

items! {
    /// The name of a PMU.
    pub struct PmuMapping<'a> {
        /// `type` of the attributes of its events.
        pub type_: u32,
        /// Its name.
        pub name: Text<'a>,
    }

    /// What a PMU can do: a file in `caps` of its directory.
    pub struct PmuCap<'a> {
        /// The name.
        pub name: Text<'a>,
        /// The value.
        pub value: Text<'a>,
    }

    /// What a PMU can do. In the file its name comes last.
    pub struct PmuCaps<'a> {
        /// Its abilities.
        pub caps: Vec<PmuCap<'a>>,
        /// Its name.
        pub pmu_name: Text<'a>,
    }

    /// A group of events.
    pub struct GroupDesc<'a> {
        /// Its name; `{anon_group}` if it was given none.
        pub name: Text<'a>,
        /// The number of the event that leads it.
        pub leader_idx: u32,
        /// The events in it: the leader, and those that follow it.
        pub nr_members: u32,
    }
}

/// An event: what the attributes of a file say, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDesc<'a> {
    /// How it was opened. What a newer attribute has and is not known is left out.
    pub attr: Attr,
    /// Its name, as it was asked for.
    pub name: Text<'a>,
    /// The ids by which its records name it.
    pub ids: Words<'a>,
}

/// The number of events, the size of an attribute, and for each event attribute, number of ids, name, ids.
pub(super) fn get_events<'a>(from: &mut Cursor<'a>) -> Result<Vec<EventDesc<'a>>, Defect> {
    let count: u32 = from.int("nr")?;
    let at = *from;
    let attr_size: u32 = from.int("attr_size")?;
    if (attr_size as usize) < Attr::SIZE_VER0 {
        return Err(at.defect("attr_size", DefectKind::Value { value: attr_size.into() }));
    }
    let needed = u64::from(count).saturating_mul(u64::from(attr_size) + 8);
    let left = from.rest().len();
    if needed > left as u64 {
        return Err(from.defect("events", DefectKind::Truncated { needed, left }));
    }
    let mut events = Vec::new();
    for _ in 0..count {
        let attr = get_attr(from, attr_size)?;
        let ids: u32 = from.int("nr_ids")?;
        let name = Item::get(from, "event_string")?;
        events.push(EventDesc { attr, name, ids: from.words(ids.into(), "ids")? });
    }
    Ok(events)
}

fn get_attr(from: &mut Cursor<'_>, size: u32) -> Result<Attr, Defect> {
    let at = *from;
    let bytes = from.take(size.into(), "attr")?;
    let (field, kind) = match Attr::from_bytes(bytes, from.order()) {
        Ok((attr, _)) => return Ok(attr),
        Err(AttrError::Unknown { size, .. }) => {
            let mut known = bytes.to_vec();
            known.get_mut(Attr::SIZE..).unwrap_or_default().fill(0);
            match Attr::from_bytes(&known, from.order()) {
                Ok((attr, _)) => return Ok(attr),
                Err(_) => ("attr", DefectKind::Value { value: size.into() }),
            }
        }
        Err(AttrError::Size { size }) => ("size", DefectKind::Value { value: size.into() }),
        Err(AttrError::Truncated { size, len }) => ("attr", DefectKind::Truncated { needed: size.into(), left: len }),
    };
    Err(at.defect(field, kind))
}

pub(super) fn put_events(events: &[EventDesc<'_>], to: &mut Writer<'_>) -> Result<(), EncodeError> {
    super::items::put_count(to, events.len(), "nr")?;
    let attrs: Vec<Vec<u8>> = events.iter().map(|event| event.attr.to_bytes(to.order())).collect();
    let size = attrs.iter().map(Vec::len).max().unwrap_or(Attr::SIZE);
    to.int(size as u32);
    for (event, mut attr) in events.iter().zip(attrs) {
        attr.resize(size, 0);
        to.bytes(&attr);
        super::items::put_count(to, event.ids.len(), "nr_ids")?;
        event.name.put(to, "event_string")?;
        to.words(event.ids);
    }
    Ok(())
}
