//! Comparisons, and what each way tells.

use super::error::Refusal;
use super::kind::Kind;
use super::range::Range;
use super::rule::rule;
use super::state::{Pointer, Scalar, State, Target, Value};
use super::walk::{Next, Walk};
use crate::bpf::insn::{JmpOp, Operand, Reg, Width};
use crate::bpf::vm::FRAME_SIZE;

/// The most that offsets in a packet or a buffer may be together (`MAX_PACKET_OFF`): so near to the end of memory nothing
/// lies.
const MAX_PROVED: u64 = 0xffff;

/// An address and an end that are compared, in the order in which they stand.
struct WithEnd {
    pointer: Pointer,
    /// Whether the end is the first operand.
    turned: bool,
}

impl WithEnd {
    fn new(a: &Value, b: &Value) -> Option<Self> {
        let (a, b) = (a.pointer()?, b.pointer()?);
        let pair = |pointer: &Pointer, end: &Pointer| match (pointer.target, end.target) {
            (Target::Packet, Target::PacketEnd) => true,
            (Target::Buffer(a), Target::BufferEnd(b)) => a == b,
            _ => false,
        };
        if pair(a, b) {
            return Some(Self { pointer: *a, turned: false });
        }
        pair(b, a).then_some(Self { pointer: *b, turned: true })
    }

    /// The number of bytes, from the address without its fixed part, that are there where the comparison comes out as
    /// `holds`.
    fn proved(&self, op: JmpOp, holds: bool) -> Option<u32> {
        use JmpOp::{Ge, Gt, Le, Lt};
        // As a comparison of the address with the end.
        let op = match (self.turned, op) {
            (false, op) => op,
            (true, op) if !rule!("turned-comparisons") => op,
            (true, Gt) => Lt,
            (true, Ge) => Le,
            (true, Lt) => Gt,
            (true, Le) => Ge,
            (true, op) => op,
        };
        // `<=`: the bytes before the address are there; `<`: and the one at it.
        let more = match (op, holds) {
            (Le, true) | (Gt, false) => 0,
            (Lt, true) | (Ge, false) => 1,
            _ => return None,
        };
        let offset = u64::try_from(self.pointer.offset).ok()?;
        let farthest = self.pointer.variable.wide.umax.checked_add(offset)?;
        if farthest > MAX_PROVED && rule!("proofs-far-from-the-end") {
            return None;
        }
        u32::try_from(offset + more).ok()
    }
}

impl Walk<'_> {
    /// `if dst op src goto`
    pub(super) fn branch(
        &mut self,
        state: &mut State,
        (op, width): (JmpOp, Width),
        dst: Reg,
        src: Operand,
        (behind, target): (usize, usize),
    ) -> Result<Next, Refusal> {
        let a = state.read(dst.number())?;
        let b = match src {
            Operand::Reg(src) => state.read(src.number())?,
            Operand::Imm(imm) => Value::known(i64::from(imm) as u64),
        };
        match (a, b) {
            (Value::Scalar(first), Value::Scalar(second)) => {
                let same = src == Operand::Reg(dst);
                let holds =
                    Range::where_holds(op, &first.range, &second.range, width).filter(|_| !same || holds_of_same(op));
                let fails = Range::where_fails(op, &first.range, &second.range, width);
                let fails = fails.filter(|_| !same || !holds_of_same(op) || op == JmpOp::Set);
                if (holds.is_none() || fails.is_none()) && rule!("decisions-matter") {
                    // What decides it is what the two are.
                    self.need(&a);
                    self.need(&b);
                }
                let narrow = |walk: &mut Self, state: &mut State, ranges: Option<(Range, Range)>| {
                    ranges.map(|ranges| walk.narrow_both(state, (dst, &first), (src, &second), ranges))
                };
                self.ways(
                    state,
                    (behind, target),
                    (holds.is_some(), fails.is_some()),
                    |walk, state| {
                        narrow(walk, state, holds);
                    },
                    |walk, state| {
                        narrow(walk, state, fails);
                    },
                )
            }
            _ if width == Width::W64 && matches!(op, JmpOp::Eq | JmpOp::Ne) && is_null_test(&a, &b) => {
                self.need(&a);
                self.need(&b);
                let pointer = *a.pointer().or(b.pointer()).ok_or(Refusal::Uninitialised { reg: dst.number() })?;
                let may_be_null = self.may_be_null(&pointer);
                if op == JmpOp::Eq {
                    let ways = (may_be_null, true);
                    self.ways(state, (behind, target), ways, |_, s| is_null(s, &pointer), |_, s| is_there(s, &pointer))
                } else {
                    let ways = (true, may_be_null);
                    self.ways(state, (behind, target), ways, |_, s| is_there(s, &pointer), |_, s| is_null(s, &pointer))
                }
            }
            _ => {
                let leak = || match (&a, &b) {
                    (Value::Scalar(_), b) => {
                        let reg = if let Operand::Reg(src) = src { src.number() } else { 0 };
                        Refusal::Comparison { reg, kind: b.kind(), other: Kind::Scalar }
                    }
                    (a, b) => Refusal::Comparison { reg: dst.number(), kind: a.kind(), other: b.kind() },
                };
                let unsigned = matches!(op, JmpOp::Gt | JmpOp::Ge | JmpOp::Lt | JmpOp::Le);
                if width != Width::W64 || !unsigned {
                    return Err(leak());
                }
                let with_end = WithEnd::new(&a, &b);
                // Two addresses in one packet or buffer may be compared: that tells nothing of where it is.
                let within = a.pointer().is_some_and(|pointer| pointer.target.is_of_context()) && a.kind() == b.kind();
                if with_end.is_none() && !within {
                    return Err(leak());
                }
                let prove = |state: &mut State, holds| {
                    if let Some(with_end) = &with_end
                        && let Some(proved) = with_end.proved(op, holds)
                    {
                        prove(state, &with_end.pointer, proved);
                    }
                };
                self.ways(state, (behind, target), (true, true), |_, s| prove(s, true), |_, s| prove(s, false))
            }
        }
    }

    /// Whether an address may be 0. One that is far from what it leads to may be, wherever that is.
    fn may_be_null(&self, pointer: &Pointer) -> bool {
        let offset = pointer.interval(0);
        let within = |first: i64, last: i64| offset.min >= first && offset.max <= last;
        match pointer.target {
            Target::Map(_) | Target::Function(_) => false,
            Target::Stack { .. } => !within(-(FRAME_SIZE as i64), 0),
            Target::Value { map, null: false } => !within(0, self.map(map).def().value_size.into()),
            Target::Record { size, null: false } => !within(0, size.into()),
            _ => true,
        }
    }

    /// Follows those of the two ways that are possible: where the condition holds, and where it does not.
    fn ways(
        &mut self,
        state: &mut State,
        (behind, target): (usize, usize),
        possible: (bool, bool),
        holds: impl FnOnce(&mut Self, &mut State),
        fails: impl FnOnce(&mut Self, &mut State),
    ) -> Result<Next, Refusal> {
        match possible {
            (true, true) => {
                let mut taken = state.clone();
                taken.pc = target;
                holds(self, &mut taken);
                self.later(taken)?;
                fails(self, state);
                state.pc = behind;
            }
            (true, false) => {
                holds(self, state);
                state.pc = target;
            }
            (false, true) => {
                fails(self, state);
                state.pc = behind;
            }
            // Of the numbers that it says, there are none: no run comes here.
            (false, false) => return Ok(Next::End),
        }
        Ok(Next::On)
    }

    /// Two numbers are known to be of these ranges, and all that are the same number with them.
    fn narrow_both(
        &mut self,
        state: &mut State,
        (dst, first): (Reg, &Scalar),
        (src, second): (Operand, &Scalar),
        (a, b): (Range, Range),
    ) {
        self.narrow(state, dst, first, a, second);
        if let Operand::Reg(src) = src
            && src != dst
        {
            self.narrow(state, src, second, b, first);
        }
    }

    /// A number is known to be of this range, by comparison with another.
    fn narrow(&mut self, state: &mut State, reg: Reg, scalar: &Scalar, range: Range, other: &Scalar) {
        if range == scalar.range {
            return;
        }
        let node = match rule!("bounds-are-derived") {
            true => self.trace.join(scalar.node, other.node),
            false => scalar.node,
        };
        let narrowed = Scalar { range, node, ..*scalar };
        state.set(reg.number(), Value::Scalar(narrowed));
        if scalar.id != 0 {
            let joined = std::cell::RefCell::new(&mut self.trace);
            state.change_all(|value| match value {
                Value::Scalar(same) if same.id == scalar.id && same.range != range => {
                    let node = joined.borrow_mut().join(same.node, node);
                    Some(Value::Scalar(Scalar { range, node, ..*same }))
                }
                _ => None,
            });
        }
        if scalar.tag != 0 {
            if range.value() == Some(0) {
                // It rests on what the result is.
                self.trace.mark(node);
                buffer_opened(state, scalar.tag, true);
            } else if !range.contains(0) {
                self.trace.mark(node);
                buffer_opened(state, scalar.tag, false);
            }
        }
    }
}

/// An address that may be 0, and all that are the same, are.
fn is_null(state: &mut State, pointer: &Pointer) {
    if pointer.target.may_be_null() {
        let is_it = |other: &Pointer| other.id == pointer.id && other.target == pointer.target;
        state.change_all(|value| value.pointer().is_some_and(is_it).then(|| Value::known(0)));
        state.records.retain(|record| record.id != pointer.id);
    }
}

/// An address that may be 0, and all that are the same, are not.
fn is_there(state: &mut State, pointer: &Pointer) {
    let (target, id) = match pointer.target {
        // Values of one look-up need not be told apart any more.
        Target::Value { map, null: true } => (Target::Value { map, null: false }, 0),
        Target::Record { size, null: true } => (Target::Record { size, null: false }, pointer.id),
        _ => return,
    };
    state.change_all(|value| match value {
        Value::Pointer(other) if other.id == pointer.id && other.target == pointer.target => {
            Some(Value::Pointer(Pointer { target, id, ..*other }))
        }
        _ => None,
    });
}

/// Whether the comparison of a number with itself holds; for `Set` only if it is not 0.
fn holds_of_same(op: JmpOp) -> bool {
    matches!(op, JmpOp::Eq | JmpOp::Ge | JmpOp::Le | JmpOp::Sge | JmpOp::Sle | JmpOp::Set)
}

/// Whether an address is compared with 0.
fn is_null_test(a: &Value, b: &Value) -> bool {
    (a.pointer().is_some() && b.value() == Some(0)) || (b.pointer().is_some() && a.value() == Some(0))
}

/// What is known of a reservation whose result has this tag.
fn buffer_opened(state: &mut State, tag: u32, opened: bool) {
    if opened {
        for buffer in state.buffers.iter_mut().filter(|buffer| buffer.tag == tag) {
            buffer.tag = 0;
        }
    } else {
        state.buffers.retain(|buffer| buffer.tag != tag);
    }
}

/// Bytes that a comparison has shown to be there, for all addresses that the same numbers were added to.
fn prove(state: &mut State, pointer: &Pointer, proved: u32) {
    state.change_all(|value| match value {
        Value::Pointer(other) if other.target == pointer.target && other.id == pointer.id && other.proved < proved => {
            Some(Value::Pointer(Pointer { proved, ..*other }))
        }
        _ => None,
    });
}
