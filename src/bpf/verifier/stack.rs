//! Reads and writes of the stack.

use super::error::Refusal;
use super::kind::Interval;
use super::range::Range;
use super::rule::rule;
use super::state::{Byte, Frame, Pointer, SLOTS, Scalar, Slot, State, Target, Value};
use super::walk::Walk;
use crate::bpf::vm::FRAME_SIZE;
use std::rc::Rc;

/// A part of the stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    frame: usize,
    /// Bytes from the frame's end to the first byte of the access: one number, or any between two.
    at: Interval,
    size: u64,
}

impl Place {
    /// `size` bytes from `pointer`, which leads to the stack, and `more` on.
    pub(super) fn new(pointer: &Pointer, more: i64, size: u64) -> Result<Self, Refusal> {
        let Target::Stack { frame } = pointer.target else {
            return Err(Refusal::NotMemory { reg: 0, kind: pointer.kind() });
        };
        let at = pointer.interval(more);
        let end = i64::try_from(size).ok().and_then(|size| at.max.checked_add(size));
        if at.min < -(FRAME_SIZE as i64) || end.is_none_or(|end| end > 0) {
            return Err(Refusal::StackBounds { offset: at, size });
        }
        Ok(Self { frame: usize::from(frame), at, size })
    }

    fn is_fixed(&self) -> bool {
        self.at.min == self.at.max
    }

    /// All bytes that it may touch.
    fn bytes(&self) -> std::ops::Range<i64> {
        self.at.min..self.at.max + self.size as i64
    }

    /// Whether accesses of `size` bytes are aligned.
    pub(super) fn check_aligned(&self, pointer: &Pointer) -> Result<(), Refusal> {
        let fixed = self.at.min.wrapping_sub(pointer.variable.wide.smin);
        let aligned = match self.is_fixed() {
            true => self.at.min.rem_euclid(self.size as i64) == 0,
            false => pointer.variable.bits.is_aligned(self.size) && fixed.rem_euclid(self.size as i64) == 0,
        };
        if aligned { Ok(()) } else { Err(Refusal::StackMisaligned { offset: self.at, size: self.size }) }
    }
}

/// How far to the right the part is shifted, of `size` bytes from byte `first` on, of a number that was spilled in so many bytes.
fn shift_of_part(spilled: usize, first: usize, size: usize) -> u32 {
    let behind = if cfg!(target_endian = "big") { spilled - first - size } else { first };
    8 * behind as u32
}

impl Walk<'_> {
    /// The frame takes so much of the stack.
    fn grow(&mut self, state: &State, place: &Place) {
        let depth = self.depths.entry(state.frames[place.frame].function).or_default();
        *depth = (*depth).max(place.at.min.unsigned_abs() as u32);
    }

    /// The slots in which bytes of a range lie.
    fn slots(range: &std::ops::Range<i64>) -> std::ops::RangeInclusive<usize> {
        Frame::slot_of(range.end - 1)..=Frame::slot_of(range.start)
    }

    /// Whether bytes may be read as numbers; the proof rests on what they are.
    pub(super) fn read_bytes(&mut self, state: &State, place: &Place) -> Result<(), Refusal> {
        self.grow(state, place);
        if place.size == 0 {
            return Ok(());
        }
        let frame = &state.frames[place.frame];
        for byte in place.bytes() {
            let slot = frame.slots.get(Frame::slot_of(byte)).unwrap_or(&Slot::EMPTY);
            match slot.bytes[Frame::byte_of(byte)] {
                Byte::None => {
                    return Err(Refusal::StackUninitialised { byte, offset: place.at, size: place.size });
                }
                Byte::Spill if slot.pointer().is_some() => {
                    return Err(Refusal::SpilledAddress { byte, kind: slot.spill.kind() });
                }
                _ => self.trace.mark(slot.read),
            }
        }
        Ok(())
    }

    /// A number that was spilled whole and is filled again is the same in both places.
    pub(super) fn tie(&mut self, state: &mut State, place: &Place) {
        if !place.is_fixed() || place.size != 8 {
            return;
        }
        let index = Frame::slot_of(place.at.min);
        let spill = state.frames[place.frame].slots.get(index).map(|slot| slot.spill);
        if let Some(Value::Scalar(scalar)) = spill
            && scalar.id == 0
            && !scalar.range.bits.is_known()
        {
            let tied = Value::Scalar(Scalar { id: self.new_id(), ..scalar });
            Rc::make_mut(&mut state.frames[place.frame]).slots[index].spill = tied;
        }
    }

    /// What a load of a register gives.
    pub(super) fn load_stack(&mut self, state: &State, place: &Place) -> Result<Value, Refusal> {
        self.grow(state, place);
        let bits = 8 * place.size as u32;
        if !place.is_fixed() {
            self.read_bytes(state, place)?;
            return Ok(Value::Scalar(Scalar::new(Range::of_bits(bits))));
        }
        let at = place.at.min;
        let frame = &state.frames[place.frame];
        let slot = frame.slots.get(Frame::slot_of(at)).unwrap_or(&Slot::EMPTY);
        let first = Frame::byte_of(at);
        let bytes = &slot.bytes[first..first + place.size as usize];
        self.trace.mark(slot.read);
        if let Some(pointer) = slot.pointer() {
            if bits == 64 {
                return Ok(Value::Pointer(*pointer));
            }
            return Err(Refusal::SpilledAddress { byte: at, kind: pointer.kind() });
        }
        if let Some(none) = bytes.iter().position(|byte| *byte == Byte::None) {
            let byte = at + none as i64;
            return Err(Refusal::StackUninitialised { byte, offset: place.at, size: place.size });
        }
        if bytes.iter().all(|byte| *byte == Byte::Zero) {
            return Ok(Value::known(0));
        }
        if let Value::Scalar(spilled) = slot.spill
            && bytes.iter().all(|byte| *byte == Byte::Spill)
        {
            let shift = shift_of_part(slot.spilled(), first, bytes.len());
            let shifted = match shift {
                0 => spilled.range,
                _ if rule!("more-than-the-kernel") => spilled.range.shift_right(shift),
                _ => Range::UNKNOWN,
            };
            let range = shifted.truncate(bits);
            let same = range == spilled.range && shift == 0 && (bits == 64 || spilled.range.wide.umax >> bits == 0);
            let scalar = if same || !rule!("narrow-fills-unlink") {
                spilled
            } else {
                let tag = if shift == 0 { spilled.tag_of_part(bits) } else { 0 };
                Scalar { range, id: 0, tag, node: spilled.node }
            };
            return Ok(Value::Scalar(scalar));
        }
        Ok(Value::Scalar(Scalar::new(Range::of_bits(bits))))
    }

    /// The number in four bytes of one slot, which have been read, if it is known; and the slot.
    pub(super) fn known_word(state: &State, pointer: &Pointer) -> Option<(u32, Slot)> {
        let place = Place::new(pointer, 0, 4).ok().filter(Place::is_fixed)?;
        let slot = state.frames[place.frame].slots.get(Frame::slot_of(place.at.min))?;
        let (first, spilled) = (Frame::byte_of(place.at.min), slot.spilled());
        let mut word = [0; 4];
        for (at, byte) in (first..).zip(&mut word) {
            *byte = match slot.bytes.get(at)? {
                Byte::Zero => 0,
                Byte::Spill => {
                    let bits = slot.spill.scalar()?.range.bits;
                    let shift = shift_of_part(spilled, at, 1);
                    if (bits.mask >> shift) as u8 != 0 {
                        return None;
                    }
                    (bits.value >> shift) as u8
                }
                Byte::Any | Byte::None => return None,
            };
        }
        Some((u32::from_ne_bytes(word), *slot))
    }

    /// Whether the bytes may be written that lie in slots with addresses that were spilled: only the whole of them.
    fn check_overwritten(frame: &Frame, range: &std::ops::Range<i64>) -> Result<(), Refusal> {
        for index in Self::slots(range) {
            let Some(pointer) = frame.slots.get(index).and_then(Slot::pointer) else { continue };
            let start = -8 * (index as i64 + 1);
            if range.start > start || range.end < start + 8 {
                return Err(Refusal::OverwrittenSpill { byte: range.start.max(start), kind: pointer.kind() });
            }
        }
        Ok(())
    }

    /// Stores the lower bytes of a value, which is a number or an address.
    pub(super) fn store_stack(&mut self, state: &mut State, place: &Place, value: &Value) -> Result<(), Refusal> {
        self.grow(state, place);
        if !place.is_fixed() {
            return self.store_somewhere(state, place, value);
        }
        let at = place.at.min;
        let range = place.bytes();
        Self::check_overwritten(&state.frames[place.frame], &range)?;
        let (index, first, size) = (Frame::slot_of(at), Frame::byte_of(at), place.size as usize);
        let zero = value.value().is_some_and(|value| value & (u64::MAX >> (64 - 8 * size)) == 0);
        if zero && size < 8 && first != 0 && rule!("zeros-matter") {
            self.need(value);
        }
        let frame = Rc::make_mut(&mut state.frames[place.frame]);
        debug_assert!(index < SLOTS);
        let slot = frame.slot_mut(index);
        if slot.pointer().is_some() {
            *slot = Slot { read: slot.read, ..Slot::EMPTY };
        }
        slot.forget_spill();
        if size == 8 {
            *slot = Slot { bytes: [Byte::Spill; 8], spill: *value, read: super::trace::Node::NONE };
            return Ok(());
        }
        if first == 0 {
            let Value::Scalar(scalar) = value else { return Ok(()) };
            let bits = 8 * size as u32;
            let fits = scalar.range.wide.umax >> bits == 0;
            let range = scalar.range.truncate(bits);
            let tag = scalar.tag_of_part(bits);
            let spilled = if fits { *scalar } else { Scalar { range, id: 0, tag, node: scalar.node } };
            slot.bytes[..size].fill(Byte::Spill);
            slot.spill = Value::Scalar(spilled);
        } else {
            slot.bytes[first..first + size].fill(if zero { Byte::Zero } else { Byte::Any });
        }
        Ok(())
    }

    /// A store to one of several places: what was there may be there still.
    fn store_somewhere(&mut self, state: &mut State, place: &Place, value: &Value) -> Result<(), Refusal> {
        let range = place.bytes();
        let zero = value.value() == Some(0);
        let frame = &state.frames[place.frame];
        for byte in range.clone() {
            let slot = frame.slots.get(Frame::slot_of(byte)).unwrap_or(&Slot::EMPTY);
            match slot.bytes[Frame::byte_of(byte)] {
                Byte::None => {
                    return Err(Refusal::StackUninitialised { byte, offset: place.at, size: place.size });
                }
                Byte::Spill if slot.pointer().is_some() => {
                    return Err(Refusal::OverwrittenSpill { byte, kind: slot.spill.kind() });
                }
                _ => {}
            }
        }
        if zero {
            self.need(value);
        }
        let frame = Rc::make_mut(&mut state.frames[place.frame]);
        for index in Self::slots(&range) {
            // It may be that it is not overwritten: what is there is known to be initialised, which counts as read.
            let slot = frame.slot_mut(index);
            self.trace.mark(slot.read);
            if Self::slots(&range).contains(&index) && slot.bytes[0] == Byte::Spill {
                slot.forget_spill();
            }
        }
        for byte in range {
            let slot = frame.slot_mut(Frame::slot_of(byte));
            let to = &mut slot.bytes[Frame::byte_of(byte)];
            if !(zero && *to == Byte::Zero) && rule!("stores-somewhere-write") {
                *to = Byte::Any;
            }
        }
        Ok(())
    }

    /// Something else than a store of the program writes numbers there: all bytes, or with a place that is not known, some of
    /// them.
    pub(super) fn write_bytes(&mut self, state: &mut State, place: &Place) -> Result<(), Refusal> {
        if place.size == 0 {
            return Ok(());
        }
        self.grow(state, place);
        if !place.is_fixed() {
            return self.store_somewhere(state, place, &Value::unknown());
        }
        let range = place.bytes();
        Self::check_overwritten(&state.frames[place.frame], &range)?;
        let frame = Rc::make_mut(&mut state.frames[place.frame]);
        for index in Self::slots(&range) {
            let slot = frame.slot_mut(index);
            if slot.pointer().is_some() {
                slot.bytes = [Byte::None; 8];
                slot.spill = Value::None;
            }
            slot.forget_spill();
        }
        for byte in range {
            frame.slot_mut(Frame::slot_of(byte)).bytes[Frame::byte_of(byte)] = Byte::Any;
        }
        Ok(())
    }
}
