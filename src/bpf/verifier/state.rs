//! What is known at one point of one path: registers, frames, and what is open.

use super::error::Refusal;
use super::kind::{Interval, Kind};
use super::range::Range;
use super::rule::rule;
use super::trace::Node;
use std::rc::Rc;

/// What an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Context,
    Map(u32),
    /// Of the map with this index; with `null` it may be 0.
    Value {
        map: u32,
        null: bool,
    },
    /// The frame with this number, from 0 on.
    Stack {
        frame: u8,
    },
    Packet,
    PacketEnd,
    Buffer(u32),
    BufferEnd(u32),
    /// Of so many bytes; with `null` it may be 0.
    Record {
        size: u32,
        null: bool,
    },
    /// The function that starts at this slot.
    Function(u32),
}

impl Target {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Context => Kind::Context,
            Self::Map(_) => Kind::Map,
            Self::Value { null: false, .. } => Kind::Value,
            Self::Value { null: true, .. } => Kind::ValueOrNull,
            Self::Stack { .. } => Kind::Stack,
            Self::Packet => Kind::Packet,
            Self::PacketEnd => Kind::PacketEnd,
            Self::Buffer(id) => Kind::Buffer(id),
            Self::BufferEnd(id) => Kind::BufferEnd(id),
            Self::Record { null: false, .. } => Kind::Record,
            Self::Record { null: true, .. } => Kind::RecordOrNull,
            Self::Function(_) => Kind::Function,
        }
    }

    pub(super) fn may_be_null(self) -> bool {
        matches!(self, Self::Value { null: true, .. } | Self::Record { null: true, .. })
    }

    /// Whether it is only known to be there as far as a comparison with an end has shown.
    pub(super) fn is_proved_by_end(self) -> bool {
        matches!(self, Self::Packet | Self::Buffer(_))
    }

    /// Whether it came out of the context, which helpers may change.
    pub(super) fn is_of_context(self) -> bool {
        matches!(self, Self::Packet | Self::PacketEnd | Self::Buffer(_) | Self::BufferEnd(_))
    }
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) range: Range,
    /// All with this id, if it is not 0, are the same number.
    pub(super) id: u32,
    /// If it is not 0: the number is 0 exactly if the reservation with this tag has succeeded.
    pub(super) tag: u32,
    /// What the range was derived from.
    pub(super) node: Node,
}

impl Scalar {
    pub(super) const UNKNOWN: Self = Self { range: Range::UNKNOWN, id: 0, tag: 0, node: Node::NONE };

    pub(super) fn new(range: Range) -> Self {
        Self { range, ..Self::UNKNOWN }
    }

    /// The tag of the lower `bits`, which are 0 exactly if the number is: of a number of 32 bits those are enough.
    pub(super) fn tag_of_part(&self, bits: u32) -> u32 {
        let wide = self.range.wide;
        let enough = bits == 64
            || (bits == 32 && wide.smin >= i64::from(i32::MIN) && wide.smax <= i64::from(i32::MAX))
            || !rule!("tags-of-32-bits");
        if enough { self.tag } else { 0 }
    }
}

/// An address: that of what it leads to, plus `offset`, plus `variable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) target: Target,
    /// All with this id, if it is not 0, are the same but for `offset`: values and records that may be 0, records that are open,
    /// and addresses in packets and buffers to which the same number was added.
    pub(super) id: u32,
    pub(super) offset: i64,
    pub(super) variable: Range,
    /// Bytes of a packet or a buffer, from the address without `offset`, that a comparison has shown to be there.
    pub(super) proved: u32,
}

impl Pointer {
    pub(super) fn new(target: Target) -> Self {
        Self { target, id: 0, offset: 0, variable: Range::known(0), proved: 0 }
    }

    pub(super) fn kind(&self) -> Kind {
        self.target.kind()
    }

    /// The least and the most bytes behind the start of what it leads to; `more` bytes farther on.
    pub(super) fn interval(&self, more: i64) -> Interval {
        let fixed = self.offset.saturating_add(more);
        Interval {
            min: self.variable.wide.smin.saturating_add(fixed),
            max: self.variable.wide.smax.saturating_add(fixed),
        }
    }

    /// The same where it has no variable part.
    pub(super) fn fixed(&self) -> Option<i64> {
        self.variable.value().map(|variable| self.offset.wrapping_add(variable as i64))
    }
}

/// What a register or a slot of the stack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    None,
    Scalar(Scalar),
    Pointer(Pointer),
}

impl Value {
    pub(super) fn known(value: u64) -> Self {
        Self::Scalar(Scalar::new(Range::known(value)))
    }

    pub(super) fn unknown() -> Self {
        Self::Scalar(Scalar::UNKNOWN)
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::None => Kind::Uninitialised,
            Self::Scalar(_) => Kind::Scalar,
            Self::Pointer(pointer) => pointer.kind(),
        }
    }

    pub(super) fn scalar(&self) -> Option<&Scalar> {
        if let Self::Scalar(scalar) = self { Some(scalar) } else { None }
    }

    pub(super) fn pointer(&self) -> Option<&Pointer> {
        if let Self::Pointer(pointer) = self { Some(pointer) } else { None }
    }

    /// The number, where it is one that is known.
    pub(super) fn value(&self) -> Option<u64> {
        self.scalar()?.range.value()
    }
}

/// What a byte of the stack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Byte {
    /// Nothing that may be read.
    None,
    /// Any number.
    Any,
    Zero,
    /// A part of what was spilled.
    Spill,
}

/// Eight bytes of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) bytes: [Byte; 8],
    /// What was spilled: in the first bytes, as many as say so. A number is of as many bytes.
    pub(super) spill: Value,
    /// Whether it was read.
    pub(super) read: Node,
}

impl Slot {
    pub(super) const EMPTY: Self = Self { bytes: [Byte::None; 8], spill: Value::None, read: Node::NONE };

    /// Bytes of what was spilled; 0 where nothing is.
    pub(super) fn spilled(&self) -> usize {
        self.bytes.iter().filter(|byte| **byte == Byte::Spill).count()
    }

    /// The address that was spilled.
    pub(super) fn pointer(&self) -> Option<&Pointer> {
        if self.bytes[0] == Byte::Spill { self.spill.pointer() } else { None }
    }

    /// Forgets what was spilled, if it is a number: its bytes are then any.
    pub(super) fn forget_spill(&mut self) {
        for byte in &mut self.bytes {
            if *byte == Byte::Spill {
                *byte = Byte::Any;
            }
        }
        self.spill = Value::None;
    }
}

/// Why a function was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Caller {
    /// The program was started.
    Nobody,
    /// By a call; it goes on at this slot.
    Function(usize),
    /// By a helper, whose call stands in this slot.
    Helper(usize),
}

/// Slots of a frame.
pub(super) const SLOTS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// `r0` to `r9`.
    pub(super) regs: [Value; 10],
    /// From the frame's end downwards, as many as were touched.
    pub(super) slots: Vec<Slot>,
    /// Where the function starts.
    pub(super) function: usize,
    pub(super) caller: Caller,
    /// How many records were open when a helper called it back.
    pub(super) records: usize,
}

impl Frame {
    pub(super) fn new(function: usize, caller: Caller) -> Self {
        Self { regs: [Value::None; 10], slots: Vec::new(), function, caller, records: 0 }
    }

    /// The slot in which the byte lies that is `offset` bytes from the frame's end, a negative number.
    pub(super) fn slot_of(offset: i64) -> usize {
        ((-offset - 1) / 8) as usize
    }

    /// Where in its slot that byte is.
    pub(super) fn byte_of(offset: i64) -> usize {
        offset.rem_euclid(8) as usize
    }

    /// The slot, which becomes one that was touched.
    pub(super) fn slot_mut(&mut self, index: usize) -> &mut Slot {
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::EMPTY);
        }
        &mut self.slots[index]
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.slots.capacity() * size_of::<Slot>()
    }
}

/// A record of a ring buffer that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: u32,
    /// The slot of the call that reserved it.
    pub(super) insn: usize,
}

/// A writable buffer that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffer {
    pub(super) id: u32,
    /// The slot of the call that reserved it.
    pub(super) insn: usize,
    pub(super) map: u32,
    /// If it is not 0: it is open only if the reservation has succeeded, and this is the tag of its result.
    pub(super) tag: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) pc: usize,
    /// The last is that of the function that runs.
    pub(super) frames: Vec<Rc<Frame>>,
    pub(super) records: Vec<Record>,
    pub(super) buffers: Vec<Buffer>,
    /// How often the path came by a place that may be come by without bound.
    pub(super) rounds: u32,
}

impl State {
    pub(super) fn frame(&self) -> &Frame {
        &self.frames[self.frames.len() - 1]
    }

    pub(super) fn frame_mut(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        Rc::make_mut(&mut self.frames[last])
    }

    /// What a register holds, whether initialised or not.
    pub(super) fn reg(&self, reg: u8) -> Value {
        match self.frame().regs.get(usize::from(reg)) {
            Some(value) => *value,
            None => Value::Pointer(Pointer::new(Target::Stack { frame: (self.frames.len() - 1) as u8 })),
        }
    }

    /// What a register holds that has to be initialised.
    pub(super) fn read(&self, reg: u8) -> Result<Value, Refusal> {
        match self.reg(reg) {
            Value::None => Err(Refusal::Uninitialised { reg }),
            value => Ok(value),
        }
    }

    pub(super) fn set(&mut self, reg: u8, value: Value) {
        if let Some(to) = self.frame_mut().regs.get_mut(usize::from(reg)) {
            *to = value;
        }
    }

    /// `r0` to `r5` are lost.
    pub(super) fn clobber(&mut self) {
        self.frame_mut().regs[..6].fill(Value::None);
    }

    /// Changes what registers and slots hold, in all frames, where `change` gives something.
    pub(super) fn change_all(&mut self, change: impl Fn(&Value) -> Option<Value>) {
        for frame in &mut self.frames {
            let regs = frame.regs.iter().any(|value| change(value).is_some());
            let slots = frame.slots.iter().any(|slot| slot.bytes[0] == Byte::Spill && change(&slot.spill).is_some());
            if !regs && !slots {
                continue;
            }
            let frame = Rc::make_mut(frame);
            for value in &mut frame.regs {
                if let Some(changed) = change(value) {
                    *value = changed;
                }
            }
            for slot in frame.slots.iter_mut().filter(|slot| slot.bytes[0] == Byte::Spill) {
                if let Some(changed) = change(&slot.spill) {
                    slot.spill = changed;
                    if changed == Value::None {
                        slot.bytes = [Byte::None; 8];
                    }
                }
            }
        }
    }

    pub(super) fn in_callback(&self) -> bool {
        self.frames.iter().any(|frame| matches!(frame.caller, Caller::Helper(_)))
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.frames.iter().map(|frame| frame.memory()).sum::<usize>()
            + self.records.capacity() * size_of::<Record>()
            + self.buffers.capacity() * size_of::<Buffer>()
    }
}
