//! Loads, stores and atomic operations, and memory that helpers are given.

use super::error::Refusal;
use super::kind::{Interval, Kind};
use super::range::Range;
use super::rule::rule;
use super::stack::Place;
use super::state::{Pointer, Scalar, State, Target, Value};
use super::walk::{Next, Walk};
use crate::bpf::insn::{AtomicOp, Op, Operand, Reg, Size};
use crate::bpf::map::{Map, MapFlags, MapType};
use crate::bpf::program_type::ContextAccess;

/// The most bytes of a context that is plain memory (`PERF_MAX_TRACE_SIZE`).
const MAX_CONTEXT: i64 = 8192;
/// Where records of ring buffers start, of 8 bytes.
const RECORD_START: u64 = 4;

/// What is done to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// Both, at once.
    Update,
}

impl Access {
    fn reads(self) -> bool {
        self != Self::Write
    }

    fn writes(self) -> bool {
        self != Self::Read
    }
}

impl Walk<'_> {
    pub(super) fn map(&self, index: u32) -> &Map {
        &self.text.maps[index as usize]
    }

    fn map_name(&self, index: u32) -> String {
        self.map(index).def().name.clone()
    }

    /// The address in a register, of something that is there.
    pub(super) fn address(state: &State, reg: u8) -> Result<Pointer, Refusal> {
        let value = state.read(reg)?;
        let Value::Pointer(pointer) = value else { return Err(Refusal::NotAnAddress { reg, kind: value.kind() }) };
        if pointer.target.may_be_null() {
            return Err(Refusal::MaybeNull { reg, kind: pointer.kind() });
        }
        match pointer.target {
            Target::Map(_) | Target::PacketEnd | Target::BufferEnd(_) | Target::Function(_) => {
                Err(Refusal::NotMemory { reg, kind: pointer.kind() })
            }
            _ => Ok(pointer),
        }
    }

    /// Whether `size` bytes, `more` behind an address in a packet, a buffer, a record or a map's value, may be accessed.
    pub(super) fn check_bounds(&self, pointer: &Pointer, more: i64, size: u64, access: Access) -> Result<(), Refusal> {
        let offset = pointer.interval(more);
        let end = i64::try_from(size).ok().and_then(|size| offset.max.checked_add(size));
        let inside = |len: u64| offset.min >= 0 && end.is_some_and(|end| end as u64 <= len);
        match pointer.target {
            Target::Value { map, .. } => {
                let def = self.map(map).def();
                let value_size = u64::from(def.value_size);
                if access.writes() && def.flags.contains(MapFlags::RDONLY_PROG) {
                    return Err(Refusal::ReadOnlyMap { map: self.map_name(map) });
                }
                if access.reads() && def.flags.contains(MapFlags::WRONLY_PROG) {
                    return Err(Refusal::WriteOnlyMap { map: self.map_name(map) });
                }
                if !inside(value_size) {
                    return Err(Refusal::ValueBounds { map: self.map_name(map), offset, size, value_size });
                }
            }
            Target::Record { size: record_size, .. } => {
                if !inside(record_size.into()) {
                    return Err(Refusal::RecordBounds { offset, size, record_size: record_size.into() });
                }
            }
            Target::Packet | Target::Buffer(_) => {
                // What is proved counts from where the variable part, which is not negative, has led.
                let start = pointer.offset.saturating_add(more);
                let end = i64::try_from(size).ok().and_then(|size| start.checked_add(size));
                let inside = start >= 0
                    && pointer.variable.wide.smin >= 0
                    && end.is_some_and(|end| end <= i64::from(pointer.proved));
                let offset = Interval { min: start, max: start };
                let proved = pointer.proved;
                if !inside {
                    return Err(match pointer.target {
                        Target::Buffer(id) => Refusal::BufferBounds { id, offset, size, proved },
                        _ => Refusal::PacketBounds { offset, size, proved },
                    });
                }
            }
            _ => return Err(Refusal::NotMemory { reg: 0, kind: pointer.kind() }),
        }
        Ok(())
    }

    /// Whether accesses of `size` bytes are aligned to the start of what the address leads to, which is `start` behind a multiple
    /// of 8.
    fn is_aligned(pointer: &Pointer, more: i64, size: u64, start: u64) -> bool {
        let fixed = (pointer.offset.wrapping_add(more) as u64).wrapping_add(start);
        fixed & (size - 1) == 0 && pointer.variable.bits.is_aligned(size)
    }

    /// `dst = *(size *)(src + offset)`
    pub(super) fn load(
        &mut self,
        state: &mut State,
        (size, signed): (Size, bool),
        dst: Reg,
        src: Reg,
        offset: i16,
    ) -> Result<Next, Refusal> {
        let pointer = Self::address(state, src.number())?;
        let (more, bytes) = (i64::from(offset), size.bytes() as u64);
        let mut value = match pointer.target {
            Target::Context => self.load_context(state.pc, &pointer, more, size, signed)?,
            Target::Stack { .. } => {
                let place = Place::new(&pointer, more, bytes)?;
                place.check_aligned(&pointer)?;
                self.tie(state, &place);
                self.load_stack(state, &place)?
            }
            _ => {
                self.check_bounds(&pointer, more, bytes, Access::Read)?;
                self.check_buffer_alignment(&pointer, more, bytes)?;
                self.constant(&pointer, more, size)
                    .unwrap_or_else(|| Value::Scalar(Scalar::new(Range::of_bits(size.bits()))))
            }
        };
        if !matches!(value, Value::Pointer(Pointer { target, .. }) if target.is_of_context())
            || !matches!(pointer.target, Target::Context)
        {
            self.loads_plainly(state.pc, pointer.kind())?;
        }
        if signed && let Value::Scalar(scalar) = value {
            let range = scalar.range.sign_extend(size.bits());
            if range != scalar.range {
                value = match rule!("sign-extension-unlinks") {
                    // It was extended with zeros: it is 0 as it was before.
                    true => Value::Scalar(Scalar { range, id: 0, ..scalar }),
                    false => Value::Scalar(Scalar { range, ..scalar }),
                };
            }
        }
        state.set(dst.number(), value);
        Ok(Next::On)
    }

    /// This load loads bytes: on another path it must not load an address out of the context.
    fn loads_plainly(&mut self, pc: usize, kind: Kind) -> Result<(), Refusal> {
        if self.fields.contains_key(&pc) {
            return Err(Refusal::MixedAccess { first: Kind::Context, second: kind });
        }
        self.plain.insert(pc, kind);
        Ok(())
    }

    fn check_buffer_alignment(&self, pointer: &Pointer, more: i64, size: u64) -> Result<(), Refusal> {
        let Target::Buffer(id) = pointer.target else { return Ok(()) };
        if Self::is_aligned(pointer, more, size, 0) {
            return Ok(());
        }
        Err(Refusal::BufferMisaligned { id, offset: pointer.interval(more), size })
    }

    /// Whether an access of the context is one that its layout allows; gives what it is.
    fn check_context(
        &mut self,
        pointer: &Pointer,
        more: i64,
        size: u64,
        write: bool,
    ) -> Result<ContextAccess, Refusal> {
        let Some(offset) = pointer.fixed().and_then(|fixed| fixed.checked_add(more)) else {
            return Err(Refusal::ContextOffset { offset: pointer.interval(more) });
        };
        let refused = || Refusal::ContextAccess { offset, size, write, type_: self.text.type_.name().to_owned() };
        let layout = self.text.type_.context();
        let at = u64::try_from(offset).map_err(|_| refused())?;
        let bytes = usize::try_from(size).map_err(|_| refused())?;
        match layout.size() {
            Some(len) => {
                let access = layout.access(at, bytes, write, len).ok_or_else(refused)?;
                self.context_from = Some(self.context_from.map_or(at, |from| from.min(at)));
                Ok(access)
            }
            None => {
                let fits = i64::try_from(size)
                    .ok()
                    .and_then(|size| offset.checked_add(size))
                    .filter(|end| *end <= MAX_CONTEXT);
                let end = fits.ok_or_else(refused)? as usize;
                let access = layout.access(at, bytes, write, MAX_CONTEXT as usize).ok_or_else(refused)?;
                self.context_len = self.context_len.max(end);
                Ok(access)
            }
        }
    }

    fn load_context(
        &mut self,
        pc: usize,
        pointer: &Pointer,
        more: i64,
        size: Size,
        signed: bool,
    ) -> Result<Value, Refusal> {
        use crate::bpf::program_type::Pointer as Field;
        let bytes = size.bytes() as u64;
        let access = self.check_context(pointer, more, bytes, false)?;
        let offset = pointer.fixed().unwrap_or(0).wrapping_add(more);
        let refused =
            || Refusal::ContextAccess { offset, size: bytes, write: false, type_: self.text.type_.name().to_owned() };
        let field = match access {
            ContextAccess::Bytes => {
                if offset.rem_euclid(bytes as i64) != 0 {
                    return Err(refused());
                }
                return Ok(Value::Scalar(Scalar::new(Range::of_bits(size.bits()))));
            }
            ContextAccess::Pointer(field) => field,
        };
        if signed {
            return Err(refused());
        }
        let other = self.fields.get(&pc).filter(|other| **other != field).map(|_| Kind::Context);
        if let Some(first) = self.plain.get(&pc).copied().or(other) {
            return Err(Refusal::MixedAccess { first, second: Kind::Context });
        }
        self.fields.insert(pc, field);
        let target = match field {
            Field::Packet => Target::Packet,
            Field::PacketEnd => Target::PacketEnd,
            Field::Buffer(id) => Target::Buffer(id),
            Field::BufferEnd(id) => Target::BufferEnd(id),
        };
        Ok(Value::Pointer(Pointer::new(target)))
    }

    /// What a load gives from a map that nobody can change.
    fn constant(&mut self, pointer: &Pointer, more: i64, size: Size) -> Option<Value> {
        let Target::Value { map, .. } = pointer.target else { return None };
        let at = usize::try_from(pointer.fixed()?.checked_add(more)?).ok()?;
        let content = self.content(map)?;
        let bytes = content.get(at..at.checked_add(size.bytes())?)?;
        let more = |value, byte: &u8| value << 8 | u64::from(*byte);
        let value =
            if cfg!(target_endian = "big") { bytes.iter().fold(0, more) } else { bytes.iter().rev().fold(0, more) };
        Some(Value::known(value))
    }

    /// The only value of a map that nobody can change.
    pub(super) fn content(&mut self, index: u32) -> Option<&[u8]> {
        let map = &self.text.maps[index as usize];
        let content = self.constants.entry(index).or_insert_with(|| {
            let one = map.def().type_ == MapType::Array && map.def().max_entries == 1;
            if one && (map.is_constant() || !rule!("constants-are-frozen")) {
                map.lookup(&[0; 4]).ok().flatten()
            } else {
                None
            }
        });
        content.as_deref()
    }

    /// `*(size *)(dst + offset) = src`
    pub(super) fn store(
        &mut self,
        state: &mut State,
        size: Size,
        dst: Reg,
        offset: i16,
        src: Operand,
    ) -> Result<Next, Refusal> {
        let value = match src {
            Operand::Reg(src) => state.read(src.number())?,
            Operand::Imm(imm) => Value::known(i64::from(imm) as u64),
        };
        let pointer = Self::address(state, dst.number())?;
        let (more, bytes) = (i64::from(offset), size.bytes() as u64);
        let leak = || {
            let reg = if let Operand::Reg(src) = src { src.number() } else { 0 };
            Refusal::Leak { reg, kind: value.kind(), to: pointer.kind() }
        };
        let is_address = value.pointer().is_some();
        match pointer.target {
            Target::Stack { frame } => {
                let place = Place::new(&pointer, more, bytes)?;
                place.check_aligned(&pointer)?;
                if is_address && (size != Size::DW || !pointer.variable.bits.is_known()) {
                    return Err(leak());
                }
                if let Some(Pointer { target: Target::Stack { frame: of }, .. }) = value.pointer()
                    && *of > frame
                {
                    return Err(leak());
                }
                let value = match src {
                    // What is in both places is the same.
                    Operand::Reg(src) => self.copy(state, src, value),
                    Operand::Imm(_) => value,
                };
                self.store_stack(state, &place, &value)?;
            }
            Target::Context => {
                if is_address {
                    return Err(leak());
                }
                self.check_context(&pointer, more, bytes, true)?;
                let offset = pointer.fixed().unwrap_or(0).wrapping_add(more);
                if offset.rem_euclid(bytes as i64) != 0 {
                    let type_ = self.text.type_.name().to_owned();
                    return Err(Refusal::ContextAccess { offset, size: bytes, write: true, type_ });
                }
            }
            _ => {
                if is_address {
                    return Err(leak());
                }
                self.check_bounds(&pointer, more, bytes, Access::Write)?;
                self.check_buffer_alignment(&pointer, more, bytes)?;
            }
        }
        Ok(Next::On)
    }

    /// An atomic operation, or a load or store with an order, on `size` bytes behind an address in a register: whether it may be
    /// done. Gives where it is, if that is in the stack.
    fn check_atomic(
        &mut self,
        state: &State,
        base: Reg,
        offset: i16,
        size: u64,
        access: Access,
    ) -> Result<Option<Place>, Refusal> {
        let pointer = Self::address(state, base.number())?;
        let more = i64::from(offset);
        let start = match pointer.target {
            Target::Stack { .. } => {
                let place = Place::new(&pointer, more, size)?;
                place.check_aligned(&pointer)?;
                return Ok(Some(place));
            }
            Target::Value { .. } => 0,
            Target::Record { .. } => RECORD_START,
            _ => return Err(Refusal::AtomicOn { kind: pointer.kind() }),
        };
        self.check_bounds(&pointer, more, size, access)?;
        if !Self::is_aligned(&pointer, more, size, start) {
            return Err(Refusal::AtomicMisaligned { kind: pointer.kind(), offset: pointer.interval(more), size });
        }
        Ok(None)
    }

    pub(super) fn atomic(&mut self, state: &mut State, op: &Op) -> Result<Next, Refusal> {
        match *op {
            Op::Atomic { op, size, dst, offset, src } => {
                for reg in [Some(src), (op == AtomicOp::Cmpxchg).then_some(Reg::R0)].into_iter().flatten() {
                    let value = state.read(reg.number())?;
                    if value.pointer().is_some() {
                        let to = state.reg(dst.number()).kind();
                        return Err(Refusal::Leak { reg: reg.number(), kind: value.kind(), to });
                    }
                }
                let bytes = size.bytes() as u64;
                if let Some(place) = self.check_atomic(state, dst, offset, bytes, Access::Update)? {
                    self.read_bytes(state, &place)?;
                    if rule!("atomics-write") {
                        self.write_bytes(state, &place)?;
                    }
                }
                let old = Value::Scalar(Scalar::new(Range::of_bits(size.bits())));
                match op {
                    AtomicOp::Cmpxchg => state.set(0, old),
                    AtomicOp::Xchg
                    | AtomicOp::Add { fetch: true }
                    | AtomicOp::Or { fetch: true }
                    | AtomicOp::And { fetch: true }
                    | AtomicOp::Xor { fetch: true } => state.set(src.number(), old),
                    _ => {}
                }
            }
            Op::LoadAcquire { size, dst, src, offset } => {
                let bytes = size.bytes() as u64;
                self.check_atomic(state, src, offset, bytes, Access::Read)?;
                return self.load(state, (size, false), dst, src, offset);
            }
            Op::StoreRelease { size, dst, offset, src } => {
                let bytes = size.bytes() as u64;
                state.read(src.number())?;
                self.check_atomic(state, dst, offset, bytes, Access::Write)?;
                return self.store(state, size, dst, offset, Operand::Reg(src));
            }
            _ => {}
        }
        Ok(Next::On)
    }

    /// Whether a helper may be given `size` bytes at an address, from 0 to `most` of them; those that it writes are then any.
    pub(super) fn give_memory(
        &mut self,
        state: &mut State,
        pointer: &Pointer,
        size: (u64, u64),
        access: Access,
    ) -> Result<(), Refusal> {
        let (least, most) = size;
        match pointer.target {
            Target::Stack { .. } => {
                let place = Place::new(pointer, 0, most)?;
                match access {
                    Access::Read => self.read_bytes(state, &place),
                    // All of it is written, whatever was there.
                    _ if least == most => self.write_bytes(state, &place),
                    _ => {
                        // What is behind the last byte that is written stays as it is.
                        self.read_bytes(state, &place)?;
                        self.write_bytes(state, &place)
                    }
                }
            }
            Target::Context if self.text.type_.context().size().is_none() && most != 0 => {
                self.check_context(pointer, 0, most, access.writes()).map(|_| ())
            }
            _ => self.check_bounds(pointer, 0, most, access),
        }
    }
}
