//! Arithmetic on numbers and addresses.

use super::error::Refusal;
use super::kind::Kind;
use super::range::Range;
use super::rule::rule;
use super::state::{Pointer, Scalar, State, Target, Value};
use super::trace::Node;
use super::walk::{Next, Walk};
use crate::bpf::insn::{AluOp, Op, Operand, Reg, Size, Width};

/// Offsets beyond this are refused: sums of a few of them can't wrap (`BPF_MAX_VAR_OFF`).
const MAX_OFFSET: i64 = 1 << 29;

fn name(op: AluOp) -> &'static str {
    match op {
        AluOp::Add => "+=",
        AluOp::Sub => "-=",
        AluOp::Mul => "*=",
        AluOp::Div => "/=",
        AluOp::Sdiv => "s/=",
        AluOp::Mod => "%=",
        AluOp::Smod => "s%=",
        AluOp::Or => "|=",
        AluOp::And => "&=",
        AluOp::Xor => "^=",
        AluOp::Lsh => "<<=",
        AluOp::Rsh => ">>=",
        AluOp::Arsh => "s>>=",
    }
}

/// Whether a number that `scalar` says is 0 exactly when what is made of it by `op` with `other` is.
fn keeps_zero(op: AluOp, scalar: &Scalar, other: &Range, width: Width) -> bool {
    let wide = scalar.range.wide;
    let is_i32 = wide.smin >= i64::from(i32::MIN) && wide.smax <= i64::from(i32::MAX);
    let is_i32 = is_i32 || !rule!("tags-of-32-bits");
    let Some(by) = other.value().map(|by| by as u32) else { return false };
    match (op, width) {
        // Nothing but copies of the sign goes out at the top.
        (AluOp::Lsh, Width::W64) => by <= 32 && is_i32,
        // Nothing but zeros goes out at the bottom.
        (AluOp::Rsh | AluOp::Arsh, Width::W64) => by < 64 && scalar.range.bits.is_aligned(1 << by),
        _ => false,
    }
}

/// What an operation gives.
fn result(op: AluOp, a: &Range, b: &Range, width: Width) -> Range {
    let bits = if width == Width::W64 { 64 } else { 32 };
    let divides = matches!(op, AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod);
    let shifts = matches!(op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh);
    if (divides || (shifts && b.truncate(bits).value().is_none())) && !rule!("more-than-the-kernel") {
        return Range::UNKNOWN;
    }
    a.alu(op, b, width)
}

impl Walk<'_> {
    fn operand(state: &State, src: Operand) -> Result<Value, Refusal> {
        match src {
            Operand::Reg(src) => state.read(src.number()),
            // Sign-extended; of 32 bits only the lower half counts.
            Operand::Imm(imm) => Ok(Value::known(i64::from(imm) as u64)),
        }
    }

    /// What is derived from two numbers rests on both, unless it may be anything.
    fn derived(&mut self, range: Range, a: Node, b: Node) -> Scalar {
        let node = if range.is_unknown() { Node::NONE } else { self.trace.join(a, b) };
        Scalar { range, id: 0, tag: 0, node }
    }

    /// Arithmetic, moves and what else changes a register only.
    pub(super) fn arithmetic(&mut self, state: &mut State, op: &Op) -> Result<Next, Refusal> {
        let (dst, value) = match *op {
            Op::Alu { width, op, dst, src } => {
                let (a, b) = (state.read(dst.number())?, Self::operand(state, src)?);
                (dst, self.alu(state, (op, width), (dst, a), (src, b))?)
            }
            Op::Neg { width, dst } => {
                let scalar = Self::number(state, dst, "negation")?;
                let range = scalar.range.neg(width);
                (dst, Value::Scalar(self.derived(range, scalar.node, Node::NONE)))
            }
            Op::ByteSwap { kind, size, dst } => {
                let scalar = Self::number(state, dst, "a byte swap")?;
                let range = scalar.range.swap_bytes(kind, size);
                (dst, Value::Scalar(self.derived(range, scalar.node, Node::NONE)))
            }
            Op::Mov { width: Width::W64, dst, src: Operand::Imm(imm) } => (dst, Value::known(i64::from(imm) as u64)),
            Op::Mov { width: Width::W32, dst, src: Operand::Imm(imm) } => (dst, Value::known(u64::from(imm as u32))),
            Op::Mov { width: Width::W64, dst, src: Operand::Reg(src) } => {
                let value = state.read(src.number())?;
                (dst, self.copy(state, src, value))
            }
            Op::Mov { width: Width::W32, dst, src: Operand::Reg(src) } => {
                let scalar = Self::number(state, src, "a move of 32 bits")?;
                let range = scalar.range.truncate(32);
                (dst, self.part(state, src, &scalar, range))
            }
            Op::MovSx { width, from, dst, src } => {
                let scalar = Self::number(state, src, "a sign-extending move")?;
                let wide = scalar.range.sign_extend(from.bits());
                let range = if width == Width::W32 { wide.truncate(32) } else { wide };
                let value = self.part(state, src, &scalar, range);
                let keeps = from == Size::W && width == Width::W64;
                (dst, if keeps { value } else { without_tag(value, &scalar) })
            }
            _ => return Ok(Next::On),
        };
        state.set(dst.number(), value);
        Ok(Next::On)
    }

    fn number(state: &State, reg: Reg, op: &'static str) -> Result<Scalar, Refusal> {
        match state.read(reg.number())? {
            Value::Scalar(scalar) => Ok(scalar),
            value => Err(Refusal::Arithmetic { reg: reg.number(), kind: value.kind(), op }),
        }
    }

    /// A copy of what a register holds; of a number both know that they are the same.
    pub(super) fn copy(&mut self, state: &mut State, reg: Reg, value: Value) -> Value {
        let Value::Scalar(mut scalar) = value else { return value };
        if scalar.id == 0 && !scalar.range.bits.is_known() {
            scalar.id = self.new_id();
            state.set(reg.number(), Value::Scalar(scalar));
        }
        Value::Scalar(scalar)
    }

    /// A part of a number, extended again: the same number where that changes nothing. Of numbers of 32 bits the lower half tells
    /// whether they are 0.
    fn part(&mut self, state: &mut State, src: Reg, scalar: &Scalar, range: Range) -> Value {
        if range == scalar.range {
            return self.copy(state, src, Value::Scalar(*scalar));
        }
        let mut part = self.derived(range, scalar.node, Node::NONE);
        part.tag = scalar.tag_of_part(32);
        Value::Scalar(part)
    }

    fn alu(
        &mut self,
        state: &State,
        (op, width): (AluOp, Width),
        (dst, a): (Reg, Value),
        (src, b): (Operand, Value),
    ) -> Result<Value, Refusal> {
        match (a, b) {
            (Value::Scalar(a), Value::Scalar(b)) => {
                let same = src == Operand::Reg(dst) && rule!("more-than-the-kernel");
                if same && matches!(op, AluOp::Sub | AluOp::Xor) {
                    return Ok(Value::known(0));
                }
                let range = result(op, &a.range, &b.range, width);
                let mut result = self.derived(range, a.node, b.node);
                if a.tag != 0 && keeps_zero(op, &a, &b.range, width) {
                    result.tag = a.tag;
                }
                Ok(Value::Scalar(result))
            }
            (Value::Pointer(pointer), Value::Scalar(_)) => {
                self.offset(state, (op, width), (dst.number(), &pointer), &b).map(Value::Pointer)
            }
            (Value::Scalar(_), Value::Pointer(pointer)) => {
                let reg = if let Operand::Reg(src) = src { src.number() } else { 0 };
                if op != AluOp::Add {
                    return Err(Refusal::Arithmetic { reg, kind: pointer.kind(), op: name(op) });
                }
                self.offset(state, (op, width), (reg, &pointer), &a).map(Value::Pointer)
            }
            (Value::Pointer(first), Value::Pointer(second)) => {
                // How far two addresses in one packet are apart tells nothing of where they are.
                let same = |a: Kind, b: Kind| {
                    matches!((a, b), (Kind::Packet | Kind::PacketEnd, Kind::Packet | Kind::PacketEnd))
                        || matches!(
                            (a, b),
                            (Kind::Buffer(a) | Kind::BufferEnd(a), Kind::Buffer(b) | Kind::BufferEnd(b)) if a == b
                        )
                };
                if op == AluOp::Sub && width == Width::W64 && same(first.kind(), second.kind()) {
                    return Ok(Value::unknown());
                }
                Err(Refusal::Arithmetic { reg: dst.number(), kind: first.kind(), op: name(op) })
            }
            _ => Err(Refusal::Uninitialised { reg: dst.number() }),
        }
    }

    /// An address with a number added, or subtracted.
    fn offset(
        &mut self,
        state: &State,
        (op, width): (AluOp, Width),
        (reg, pointer): (u8, &Pointer),
        by: &Value,
    ) -> Result<Pointer, Refusal> {
        let kind = pointer.kind();
        if pointer.target.may_be_null() {
            return Err(Refusal::MaybeNull { reg, kind });
        }
        let moves = matches!(
            pointer.target,
            Target::Context
                | Target::Stack { .. }
                | Target::Value { .. }
                | Target::Record { .. }
                | Target::Packet
                | Target::Buffer(_)
        );
        if !moves {
            return Err(Refusal::Arithmetic { reg, kind, op: name(op) });
        }
        if width != Width::W64 || !matches!(op, AluOp::Add | AluOp::Sub) {
            return Err(Refusal::Arithmetic { reg, kind, op: name(op) });
        }
        let Value::Scalar(scalar) = by else { return Err(Refusal::Arithmetic { reg, kind, op: name(op) }) };
        debug_assert!(!state.frames.is_empty());
        if rule!("offsets-matter") {
            self.need(by);
        }
        let mut result = *pointer;
        if let Some(by) = scalar.range.value() {
            let by = by as i64;
            let sum = if op == AluOp::Add { pointer.offset.checked_add(by) } else { pointer.offset.checked_sub(by) };
            result.offset = sum.unwrap_or(i64::MAX);
        } else {
            result.variable = pointer.variable.alu(op, &scalar.range, Width::W64);
            if pointer.target.is_proved_by_end() && rule!("variable-offsets-unprove") {
                result.id = self.new_id();
                result.proved = 0;
            }
        }
        let wide = result.variable.wide;
        let far = |offset: i64| !(-MAX_OFFSET..=MAX_OFFSET).contains(&offset);
        // How far up it may reach is looked at when it is used.
        if far(result.offset) || far(wide.smin) {
            return Err(Refusal::Offset { reg, kind, offset: result.interval(0) });
        }
        Ok(result)
    }
}

fn without_tag(value: Value, source: &Scalar) -> Value {
    match value {
        Value::Scalar(scalar) if scalar.range != source.range => Value::Scalar(Scalar { tag: 0, ..scalar }),
        value => value,
    }
}
