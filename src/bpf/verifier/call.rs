//! Calls of helpers and functions, and their ends.

use super::error::{Leave, Refusal};
use super::memory::Access;
use super::range::Range;
use super::rule::rule;
use super::state::{Buffer, Caller, Pointer, Record, Scalar, State, Target, Value};
use super::walk::{Next, Walk};
use crate::bpf::helper::{Arg, Body, Helper, HelperId, Returns};
use crate::bpf::insn::{Callee, Op, Reg};
use crate::bpf::machine::MAX_CPUS;

/// The least number that stands for an errno value (`MAX_ERRNO`).
const LEAST_ERRNO: i64 = -4095;
/// The most rounds of `bpf_loop`.
const MAX_ROUNDS: u64 = 1 << 23;

/// A call of a helper.
struct Call<'h> {
    helper: &'h Helper,
    /// What the arguments are.
    args: [Value; 5],
    /// The map among them.
    map: Option<u32>,
}

impl Call<'_> {
    fn name(&self) -> String {
        self.helper.prototype.name.clone().into_owned()
    }

    fn wanted(&self, at: usize) -> Refusal {
        Refusal::Argument {
            helper: self.name(),
            at: at + 1,
            kind: self.args[at].kind(),
            wanted: self.helper.prototype.args[at],
        }
    }
}

impl Walk<'_> {
    /// Whether this calls a helper that calls a function of the program.
    pub(super) fn calls_back(&self, op: &Op) -> bool {
        let Op::Call(Callee::Helper(id)) = op else { return false };
        self.helper(*id).is_some_and(|helper| matches!(helper.body, Body::Loop))
    }

    fn helper(&self, id: i32) -> Option<&Helper> {
        self.text.called.iter().map(|helper| &**helper).find(|helper| helper.id == HelperId(id))
    }

    pub(super) fn call(&mut self, state: &mut State, callee: Callee, pc: usize) -> Result<Next, Refusal> {
        match callee {
            Callee::Helper(id) => {
                let text = self.text;
                let helper = text.called.iter().find(|helper| helper.id == HelperId(id));
                let helper = helper.expect("no program is loaded that calls what there is not");
                self.call_helper(state, helper, pc)
            }
            Callee::Local(_) => {
                let Some(target) = self.code.target(pc) else { return Err(Refusal::Dead { insn: pc }) };
                let args: [Value; 5] = std::array::from_fn(|at| state.reg(at as u8 + 1));
                state.clobber();
                self.enter(state, target, Caller::Function(pc + 1))?;
                let frame = state.frame_mut();
                frame.regs[1..6].copy_from_slice(&args);
                Ok(Next::On)
            }
            Callee::Register(reg) => Err(Refusal::CallRegister { reg: reg.number() }),
            Callee::Kfunc { .. } => unreachable!("no program with one is loaded"),
        }
    }

    fn call_helper(&mut self, state: &mut State, helper: &Helper, pc: usize) -> Result<Next, Refusal> {
        let mut call = Call { helper, args: [Value::None; 5], map: None };
        for (at, wanted) in helper.prototype.args.into_iter().enumerate() {
            if wanted == Arg::None {
                break;
            }
            call.args[at] = state.read(at as u8 + 1)?;
            self.argument(state, &mut call, at, wanted)?;
        }
        let mut tag = 0;
        match helper.body {
            Body::Loop => return self.call_loop(state, &call, pc),
            Body::TailCall => return self.tail_call(state, pc),
            Body::Builtin(_) => tag = self.effects(state, &call, pc)?,
            Body::Custom(_) => {}
        }
        if helper.prototype.ctx_update && rule!("context-updates-forget") {
            forget_context(state);
        }
        let result = self.result(state, &call, pc, tag);
        if rule!("helpers-clobber") {
            state.clobber();
        }
        state.set(0, result);
        state.pc = pc + 1;
        Ok(Next::On)
    }

    /// Whether an argument is what the prototype says.
    fn argument(&mut self, state: &mut State, call: &mut Call<'_>, at: usize, wanted: Arg) -> Result<(), Refusal> {
        let value = call.args[at];
        let helper = call.helper;
        match wanted {
            Arg::None | Arg::Any => {}
            Arg::Scalar => {
                if value.scalar().is_none() {
                    return Err(call.wanted(at));
                }
            }
            Arg::Constant | Arg::AllocSize => {
                let Some(scalar) = value.scalar() else { return Err(call.wanted(at)) };
                if scalar.range.value().is_none() {
                    let found = scalar.range.interval();
                    return Err(Refusal::ArgumentUnknown { helper: call.name(), at: at + 1, found });
                }
                self.need(&value);
            }
            Arg::Context => match value {
                Value::Pointer(pointer) if pointer.target == Target::Context => {
                    if pointer.fixed() != Some(0) {
                        let offset = pointer.interval(0);
                        return Err(Refusal::ArgumentOffset { helper: call.name(), at: at + 1, offset });
                    }
                }
                _ => return Err(call.wanted(at)),
            },
            Arg::Map(types) => match value {
                Value::Pointer(Pointer { target: Target::Map(map), .. }) => {
                    let def = self.map(map).def();
                    if !types.has(def.type_) {
                        let (map, type_) = (def.name.clone(), def.type_);
                        return Err(Refusal::ArgumentMap { helper: call.name(), at: at + 1, map, type_ });
                    }
                    call.map = Some(map);
                }
                _ => return Err(call.wanted(at)),
            },
            Arg::Key | Arg::Value => {
                let Some(map) = call.map else { return Err(call.wanted(at)) };
                let def = self.map(map).def();
                let size = u64::from(if wanted == Arg::Key { def.key_size } else { def.value_size });
                let pointer = self.memory_argument(call, at)?;
                self.give_memory(state, &pointer, (size, size), Access::Read)
                    .map_err(|refusal| in_register(refusal, at))?;
            }
            Arg::Memory | Arg::UninitMemory | Arg::MemoryOrNull => {
                // With its size, which comes next.
            }
            Arg::Size | Arg::SizeOrZero => return self.sized_argument(state, call, at, wanted == Arg::SizeOrZero),
            Arg::ConstStr => self.text_argument(call, at)?,
            Arg::Function => match value {
                Value::Pointer(Pointer { target: Target::Function(_), .. }) => {}
                _ => return Err(call.wanted(at)),
            },
            Arg::StackOrNull => match value {
                Value::Scalar(scalar) if scalar.range.value() == Some(0) => self.need(&value),
                Value::Pointer(pointer) if matches!(pointer.target, Target::Stack { .. }) => {
                    super::stack::Place::new(&pointer, 0, 1)?;
                }
                _ => return Err(call.wanted(at)),
            },
            Arg::Record => match value {
                Value::Pointer(pointer)
                    if matches!(pointer.target, Target::Record { null: false, .. }) && pointer.fixed() == Some(0) =>
                {
                    let known = state.records.len();
                    state.records.retain(|record| record.id != pointer.id);
                    if state.records.len() == known {
                        return Err(call.wanted(at));
                    }
                    // What led into it is a number from now on, which compilers may still compare with 0.
                    let gone = |value: &Value| {
                        value.pointer().is_some_and(|other| {
                            matches!(other.target, Target::Record { .. }) && other.id == pointer.id
                        })
                    };
                    if rule!("released-records-are-gone") {
                        state.change_all(|value| gone(value).then(Value::unknown));
                    }
                }
                Value::Pointer(pointer) if pointer.target.may_be_null() => {
                    return Err(Refusal::MaybeNull { reg: at as u8 + 1, kind: pointer.kind() });
                }
                _ => return Err(call.wanted(at)),
            },
        }
        debug_assert!(helper.prototype.args[at] == wanted);
        Ok(())
    }

    /// The address of memory that an argument has to be.
    fn memory_argument(&self, call: &Call<'_>, at: usize) -> Result<Pointer, Refusal> {
        match call.args[at] {
            Value::Pointer(pointer) if pointer.target.may_be_null() => {
                Err(Refusal::MaybeNull { reg: at as u8 + 1, kind: pointer.kind() })
            }
            Value::Pointer(pointer) => match pointer.target {
                Target::Map(_) | Target::PacketEnd | Target::BufferEnd(_) | Target::Function(_) => Err(call.wanted(at)),
                Target::Context if self.text.type_.context().size().is_some() => Err(call.wanted(at)),
                _ => Ok(pointer),
            },
            _ => Err(call.wanted(at)),
        }
    }

    /// Memory, and how much of it.
    fn sized_argument(&mut self, state: &mut State, call: &Call<'_>, at: usize, or_zero: bool) -> Result<(), Refusal> {
        let memory = at - 1;
        let wanted = call.helper.prototype.args[memory];
        let size = call.args[at];
        let Some(scalar) = size.scalar() else { return Err(call.wanted(at)) };
        let (least, most) = (scalar.range.wide.umin, scalar.range.wide.umax);
        self.need(&size);
        if !or_zero && least == 0 {
            let found = scalar.range.interval();
            return Err(Refusal::ArgumentSize { helper: call.name(), at: at + 1, found, zero: true });
        }
        if scalar.range.wide.smin < 0 || most > i32::MAX as u64 {
            let found = scalar.range.interval();
            return Err(Refusal::ArgumentSize { helper: call.name(), at: at + 1, found, zero: false });
        }
        if wanted == Arg::MemoryOrNull && call.args[memory].value() == Some(0) {
            self.need(&call.args[memory]);
            if most != 0 {
                return Err(call.wanted(memory));
            }
            return Ok(());
        }
        let pointer = self.memory_argument(call, memory)?;
        let access = if wanted == Arg::UninitMemory { Access::Write } else { Access::Read };
        self.give_memory(state, &pointer, (least, most), access).map_err(|refusal| in_register(refusal, memory))
    }

    /// A text in a map that nobody can change.
    fn text_argument(&mut self, call: &Call<'_>, at: usize) -> Result<(), Refusal> {
        let value = call.args[at];
        let Value::Pointer(pointer @ Pointer { target: Target::Value { map, null: false }, .. }) = value else {
            return Err(call.wanted(at));
        };
        let refused = |why| Refusal::ArgumentText { helper: call.name(), at: at + 1, kind: pointer.kind(), why };
        let offset = pointer.fixed().and_then(|offset| usize::try_from(offset).ok());
        let offset = offset.ok_or_else(|| refused("where it starts has to be known"))?;
        let content = self
            .content(map)
            .ok_or_else(|| refused("its map has to be an array of one value, read-only for programs and frozen"))?;
        if content.get(offset..).is_some_and(|text| text.contains(&0)) {
            return Ok(());
        }
        Err(refused("there is no 0 behind it"))
    }

    /// What the helpers of this crate do beside giving a number: gives the tag of the result, where it tells something.
    fn effects(&mut self, state: &mut State, call: &Call<'_>, pc: usize) -> Result<u32, Refusal> {
        let id = call.helper.id;
        if let Some(map) = call.map
            && (id == HelperId::MAP_UPDATE_ELEM || id == HelperId::MAP_DELETE_ELEM)
            && self.map(map).is_read_only_for_programs()
        {
            return Err(Refusal::ReadOnlyMap { map: self.map(map).def().name.clone() });
        }
        if id == HelperId::FINALIZE_CONTEXT {
            return Self::all_closed(state, Leave::Finalize).map(|()| 0);
        }
        if id != HelperId::BUFFER_RESERVE && id != HelperId::BUFFER_COMMIT {
            return Ok(0);
        }
        let number = call.args[1].value().unwrap_or(u64::MAX);
        let known = self.text.type_.context().buffers();
        let Some(buffer) = known.iter().copied().find(|known| u64::from(*known) == number) else {
            return Err(Refusal::UnknownBuffer { id: number, type_: self.text.type_.name().to_owned() });
        };
        let map = call.map.unwrap_or(u32::MAX);
        let open = state.buffers.iter().position(|open| open.id == buffer);
        if id == HelperId::BUFFER_COMMIT {
            if let Some(open) = open {
                let open = state.buffers.remove(open);
                if !self.map(open.map).same(self.map(map)) {
                    return Err(Refusal::BufferMap {
                        id: buffer,
                        reserved: self.map(open.map).def().name.clone(),
                        at: open.insn,
                        committed: self.map(map).def().name.clone(),
                    });
                }
            }
            return Ok(0);
        }
        if let Some(open) = open {
            return Err(still_open(&state.buffers[open], Leave::Reserve));
        }
        let tag = if rule!("reservations-of-buffers-may-fail") { self.new_id() } else { 0 };
        state.buffers.push(Buffer { id: buffer, insn: pc, map, tag });
        state.buffers.sort_by_key(|buffer| buffer.id);
        Ok(tag)
    }

    /// What a helper gives.
    fn result(&mut self, state: &mut State, call: &Call<'_>, pc: usize, tag: u32) -> Value {
        let id = self.new_id();
        match call.helper.prototype.returns {
            Returns::ValueOrNull => {
                let Some(map) = call.map else { return Value::unknown() };
                let null = !self.is_element(state, call, map) && rule!("values-may-be-missing");
                Value::Pointer(Pointer {
                    // Values that are there need not be told apart.
                    id: if null { id } else { 0 },
                    ..Pointer::new(Target::Value { map, null })
                })
            }
            Returns::RecordOrNull => {
                let size = call.helper.prototype.args.iter().position(|arg| *arg == Arg::AllocSize);
                let size = size.and_then(|at| call.args[at].value()).and_then(|size| u32::try_from(size).ok());
                // A record so large that no ring has it is none.
                let Some(size) = size else { return Value::known(0) };
                state.records.push(Record { id, insn: pc });
                Value::Pointer(Pointer {
                    id,
                    ..Pointer::new(Target::Record { size, null: rule!("records-may-be-missing") })
                })
            }
            Returns::Scalar => {
                let builtin = matches!(call.helper.body, Body::Builtin(_));
                let range = match call.helper.id {
                    _ if !builtin => Range::UNKNOWN,
                    HelperId::GET_SMP_PROCESSOR_ID => Range::unsigned(0, MAX_CPUS as u64 - 1),
                    HelperId::GET_PRANDOM_U32 => Range::of_bits(32),
                    HelperId::FINALIZE_CONTEXT | HelperId::BUFFER_RESERVE | HelperId::BUFFER_COMMIT => {
                        Range::signed(LEAST_ERRNO, 0)
                    }
                    HelperId::PROBE_READ_STR | HelperId::PROBE_READ_USER_STR | HelperId::PROBE_READ_KERNEL_STR => {
                        self.status_or_size(&call.args[1])
                    }
                    HelperId::GET_STACK => self.status_or_size(&call.args[2]),
                    _ => Range::UNKNOWN,
                };
                // Copies know that they are the same, and so what a test of one tells.
                let id = if tag == 0 { 0 } else { id };
                Value::Scalar(Scalar { tag, id, ..Scalar::new(range) })
            }
        }
    }

    /// A negative errno value, or as many bytes as were asked for, or fewer.
    fn status_or_size(&mut self, size: &Value) -> Range {
        let most = size.scalar().map_or(i64::MAX, |size| size.range.wide.smax);
        self.need(size);
        Range::signed(LEAST_ERRNO, most)
    }

    /// Whether what is looked up is known to be an element of an array: those are always there.
    fn is_element(&mut self, state: &State, call: &Call<'_>, map: u32) -> bool {
        let builtin = matches!(call.helper.body, Body::Builtin(_)) && call.helper.id == HelperId::MAP_LOOKUP_ELEM;
        let def = self.map(map).def();
        let (type_, entries) = (def.type_, def.max_entries);
        let array = type_.is_array() && type_.is_data();
        if !builtin || (!array && rule!("elements-of-arrays")) {
            return false;
        }
        let Value::Pointer(key) = call.args[1] else { return false };
        let Some((index, slot)) = Self::known_word(state, &key) else { return false };
        if index != 0 && slot.spilled() != 4 && !rule!("more-than-the-kernel") {
            return false;
        }
        if index >= entries && rule!("elements-are-counted") {
            return false;
        }
        if rule!("keys-matter") {
            self.need(&slot.spill);
        }
        true
    }

    /// `bpf_loop(nr_loops, callback, ctx, flags)`: no round, or one and then the same again.
    fn call_loop(&mut self, state: &mut State, call: &Call<'_>, pc: usize) -> Result<Next, Refusal> {
        let Value::Pointer(Pointer { target: Target::Function(function), .. }) = call.args[1] else {
            return Err(call.wanted(1));
        };
        let most = call.args[0].scalar().map_or(u64::MAX, |count| count.range.low.umax.into());
        self.need(&call.args[0]);
        if most != 0 {
            let mut round = state.clone();
            self.enter(&mut round, function as usize, Caller::Helper(pc))?;
            let records = round.records.len();
            let frame = round.frame_mut();
            frame.records = records;
            frame.regs[1] = Value::Scalar(Scalar::new(Range::unsigned(0, most.min(MAX_ROUNDS) - 1)));
            frame.regs[2] = call.args[2];
            self.later(round)?;
        }
        state.clobber();
        state.set(0, Value::unknown());
        state.pc = pc + 1;
        Ok(Next::On)
    }

    /// A tail call, which is made, or falls through.
    fn tail_call(&mut self, state: &mut State, pc: usize) -> Result<Next, Refusal> {
        if state.in_callback() {
            return Err(Refusal::TailCallInCallback);
        }
        Self::all_released(state, Leave::TailCall)?;
        if state.frames.len() > 1 && rule!("tail-calls-end-functions") {
            // The function that made it ends with what the other program gives, which may have changed the context.
            let mut made = state.clone();
            if rule!("tail-calls-forget") {
                forget_context(&mut made);
            }
            Self::back(&mut made, Value::unknown());
            self.later(made)?;
        }
        state.clobber();
        state.pc = pc + 1;
        Ok(Next::On)
    }

    /// Goes on behind the call of the function that has ended.
    fn back(state: &mut State, result: Value) -> Next {
        match Self::leave(state) {
            Caller::Nobody => return Next::End,
            Caller::Function(pc) => {
                state.clobber();
                state.set(0, result);
                state.pc = pc;
            }
            // The next round.
            Caller::Helper(pc) if rule!("callbacks-come-again") => state.pc = pc,
            Caller::Helper(pc) => {
                state.clobber();
                state.set(0, Value::unknown());
                state.pc = pc + 1;
            }
        }
        Next::On
    }

    pub(super) fn exit(&mut self, state: &mut State) -> Result<Next, Refusal> {
        // A function that gives nothing leaves what its caller can't read.
        let result = match state.frame().caller {
            Caller::Function(_) => state.reg(0),
            Caller::Nobody | Caller::Helper(_) => state.read(0)?,
        };
        let depth = state.frames.len() - 1;
        match state.frame().caller {
            Caller::Nobody => {
                if result.pointer().is_some() {
                    return Err(Refusal::LeakedResult { kind: result.kind() });
                }
                Self::all_released(state, Leave::Exit)?;
                return Ok(Next::End);
            }
            Caller::Function(_) => {
                if let Value::Pointer(pointer) = result
                    && pointer.target == (Target::Stack { frame: depth as u8 })
                {
                    // The frame ends here.
                    return Err(Refusal::LeakedResult { kind: pointer.kind() });
                }
            }
            Caller::Helper(_) => {
                let Value::Scalar(scalar) = result else {
                    return Err(Refusal::LeakedResult { kind: result.kind() });
                };
                if rule!("results-of-callbacks-matter") {
                    self.need(&result);
                }
                if scalar.range.wide.umax > 1 {
                    return Err(Refusal::CallbackResult { found: scalar.range.interval() });
                }
                if let Some(record) = state.records.get(state.frame().records) {
                    return Err(Refusal::RecordOpen { reserved: record.insn, leave: Leave::Callback });
                }
            }
        }
        Ok(Self::back(state, result))
    }

    /// `r0 = ntoh(*(size *)skb[imm])`: or the end of the function, with 0.
    pub(super) fn load_packet(
        &mut self,
        state: &mut State,
        bits: u32,
        index: Option<Reg>,
        pc: usize,
    ) -> Result<Next, Refusal> {
        let context = state.read(6)?;
        if !matches!(context, Value::Pointer(pointer) if pointer.target == Target::Context && pointer.fixed() == Some(0))
        {
            return Err(Refusal::LegacyContext { kind: context.kind() });
        }
        if let Some(index) = index {
            let value = state.read(index.number())?;
            if value.pointer().is_some() {
                return Err(Refusal::Arithmetic { reg: index.number(), kind: value.kind(), op: "an index" });
            }
        }
        if state.in_callback() {
            return Err(Refusal::LegacyLoadInCallback);
        }
        Self::all_released(state, Leave::LegacyLoad)?;
        if state.frames.len() > 1 && rule!("legacy-loads-end-functions") {
            let mut ended = state.clone();
            Self::back(&mut ended, Value::known(0));
            self.later(ended)?;
        }
        state.clobber();
        let range = if rule!("more-than-the-kernel") { Range::of_bits(bits) } else { Range::UNKNOWN };
        state.set(0, Value::Scalar(Scalar::new(range)));
        state.pc = pc + 1;
        Ok(Next::On)
    }

    fn all_released(state: &State, leave: Leave) -> Result<(), Refusal> {
        if let Some(record) = state.records.first() {
            return Err(Refusal::RecordOpen { reserved: record.insn, leave });
        }
        Self::all_closed(state, leave)
    }

    fn all_closed(state: &State, leave: Leave) -> Result<(), Refusal> {
        state.buffers.first().map_or(Ok(()), |buffer| Err(still_open(buffer, leave)))
    }
}

fn still_open(buffer: &Buffer, leave: Leave) -> Refusal {
    let (id, reserved) = (buffer.id, buffer.insn);
    if buffer.tag == 0 {
        Refusal::BufferOpen { id, reserved, leave }
    } else {
        Refusal::BufferMaybeOpen { id, reserved, leave }
    }
}

/// Addresses that came out of the context are numbers from now on.
fn forget_context(state: &mut State) {
    state.change_all(|value| {
        let of_context = value.pointer().is_some_and(|pointer| pointer.target.is_of_context());
        of_context.then(Value::unknown)
    });
}

/// The refusal, with the register that the argument is in.
fn in_register(refusal: Refusal, at: usize) -> Refusal {
    let in_argument = at as u8 + 1;
    match refusal {
        Refusal::NotMemory { kind, .. } => Refusal::NotMemory { reg: in_argument, kind },
        refusal => refusal,
    }
}
