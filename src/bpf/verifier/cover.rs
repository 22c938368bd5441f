//! Whether what is known at one point is covered by what was known when another path came there.

use super::flow::Flow;
use super::range::Range;
use super::rule::rule;
use super::state::{Byte, Caller, Pointer, Record, Scalar, Slot, State, Value};
use super::trace::{Node, Trace};

/// How closely two states are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closeness {
    /// As far as the proof from the older one on rested on it, which is known as it was followed to its end.
    Needed,
    /// In all that may be read later.
    All,
}

/// Which ids of one state are which of another.
#[derive(Debug, Default)]
struct Ids(Vec<(u32, u32)>);

impl Ids {
    /// Whether they may be the same, with what was said of others before.
    fn same(&mut self, old: u32, new: u32) -> bool {
        if old == 0 || new == 0 {
            return old == new;
        }
        if !rule!("ids-are-mapped") {
            return true;
        }
        for &(known_old, known_new) in &self.0 {
            if known_old == old || known_new == new {
                return (known_old, known_new) == (old, new);
            }
        }
        self.0.push((old, new));
        true
    }
}

/// A comparison of two states.
pub(super) struct Cover<'t> {
    trace: &'t Trace,
    closeness: Closeness,
    ids: Ids,
    tags: Ids,
    /// Nodes of the older state, and those of the newer: where the proof from the older rests on the one, that from the newer rests on
    /// the other. With none for the older it does in any case.
    rests_on: Vec<(Node, Node)>,
}

impl<'t> Cover<'t> {
    /// Whether `old`, which was remembered, covers `new`: every run that is as `new` says is as `old` says. Gives which
    /// nodes of `new` go with which of `old`.
    pub(super) fn of(
        old: &State,
        new: &State,
        flow: &Flow,
        trace: &'t Trace,
        closeness: Closeness,
    ) -> Option<Vec<(Node, Node)>> {
        let cover = Self { trace, closeness, ids: Ids::default(), tags: Ids::default(), rests_on: Vec::new() };
        cover.states(old, new, flow)
    }

    fn states(mut self, old: &State, new: &State, flow: &Flow) -> Option<Vec<(Node, Node)>> {
        debug_assert_eq!(old.pc, new.pc);
        if old.frames.len() != new.frames.len()
            || old.records.len() != new.records.len()
            || old.buffers.len() != new.buffers.len()
        {
            return None;
        }
        for (old, new) in old.frames.iter().zip(&new.frames) {
            // Their callers make up the place, and with it the functions.
            debug_assert_eq!((old.function, old.caller), (new.function, new.caller));
            if old.records != new.records {
                return None;
            }
        }
        for (Record { id: old, .. }, Record { id: new, .. }) in old.records.iter().zip(&new.records) {
            if !self.ids.same(*old, *new) {
                return None;
            }
        }
        for (old, new) in old.buffers.iter().zip(&new.buffers) {
            if !rule!("buffers-are-compared") {
                continue;
            }
            if old.id != new.id || old.map != new.map || !self.tags.same(old.tag, new.tag) {
                return None;
            }
        }
        let tags: Vec<u32> = old.buffers.iter().map(|buffer| buffer.tag).collect();
        for depth in (0..old.frames.len()).rev() {
            // Where the function goes on, what it reads later.
            let at = match old.frames.get(depth + 1).map(|frame| frame.caller) {
                None => old.pc,
                Some(Caller::Function(at) | Caller::Helper(at)) => at,
                Some(Caller::Nobody) => return None,
            };
            let live = flow.live(at);
            let (old, new) = (&old.frames[depth], &new.frames[depth]);
            for (reg, (old, new)) in old.regs.iter().zip(&new.regs).enumerate() {
                if live & 1 << reg != 0 && !self.values(old, new, &tags) {
                    return None;
                }
            }
            for (index, slot) in old.slots.iter().enumerate() {
                if self.closeness == Closeness::Needed && !self.trace.is_marked(slot.read) {
                    continue;
                }
                let other = new.slots.get(index).unwrap_or(&Slot::EMPTY);
                if !self.slots(slot, other, &tags) && rule!("slots-are-compared") {
                    return None;
                }
            }
        }
        Some(self.rests_on)
    }

    fn values(&mut self, old: &Value, new: &Value, tags: &[u32]) -> bool {
        match (old, new) {
            // It was not read from there on.
            (Value::None, _) => true,
            (Value::Scalar(old), Value::Scalar(new)) => self.scalars(old, new, tags),
            (Value::Pointer(old), Value::Pointer(new)) => self.pointers(old, new),
            _ => false,
        }
    }

    fn scalars(&mut self, old: &Scalar, new: &Scalar, tags: &[u32]) -> bool {
        // Tests of it tell whether a buffer is open.
        if rule!("tags-are-mapped") && old.tag != 0 && tags.contains(&old.tag) && !self.tags.same(old.tag, new.tag) {
            return false;
        }
        // What has no node was not given one, or could not be: then it counts.
        if self.closeness == Closeness::Needed && old.node != Node::NONE && !self.trace.is_marked(old.node) {
            return true;
        }
        let included = old.range.includes(&new.range) || !rule!("ranges-are-compared");
        if !included || (old.id != 0 && !self.ids.same(old.id, new.id)) {
            return false;
        }
        if rule!("covered-states-need") && !(old.range.is_unknown() && old.id == 0) {
            self.rests_on.push((old.node, new.node));
        }
        true
    }

    fn pointers(&mut self, old: &Pointer, new: &Pointer) -> bool {
        old.target == new.target
            && (old.offset == new.offset || !rule!("offsets-are-compared"))
            && (old.variable.includes(&new.variable) || !rule!("variable-offsets-are-compared"))
            && (old.proved <= new.proved || !rule!("proofs-are-compared"))
            && self.ids.same(old.id, new.id)
    }

    fn slots(&mut self, old: &Slot, new: &Slot, tags: &[u32]) -> bool {
        let spilled = old.spilled();
        if spilled != 0 {
            let covered = match (&old.spill, &new.spill) {
                (old, new_spill) if new.spilled() == spilled => self.values(old, new_spill, tags),
                (Value::Scalar(old), _) => {
                    // Bytes that are any number, or 0.
                    let range = match new.bytes[..spilled] {
                        ref bytes if bytes.iter().all(|byte| *byte == Byte::Zero) => Range::known(0),
                        ref bytes if bytes.iter().all(|byte| matches!(byte, Byte::Zero | Byte::Any)) => {
                            Range::of_bits(8 * spilled as u32)
                        }
                        _ => return false,
                    };
                    self.scalars(old, &Scalar::new(range), tags)
                }
                _ => false,
            };
            if !covered {
                return false;
            }
        }
        for at in spilled..8 {
            let number = new.bytes[at] != Byte::None && !(new.bytes[at] == Byte::Spill && new.pointer().is_some());
            let covered = match old.bytes[at] {
                Byte::None => true,
                Byte::Any => number,
                Byte::Zero => match (new.bytes[at], &new.spill) {
                    (Byte::Zero, _) => true,
                    (Byte::Spill, Value::Scalar(scalar)) if scalar.range.value() == Some(0) => {
                        self.rests_on.push((Node::NONE, scalar.node));
                        true
                    }
                    _ => false,
                },
                Byte::Spill => true,
            };
            if !covered {
                return false;
            }
        }
        // Whoever reads what is covered has read it here too.
        if rule!("covered-states-read") {
            self.rests_on.push((old.read, new.read));
        }
        true
    }
}
