//! Follows a program on all its paths.

use super::cover::{Closeness, Cover};
use super::error::{Refusal, VerifyError};
use super::flow::Flow;
use super::kind::Kind;
use super::log::Log;
use super::rule::rule;
use super::state::{Byte, Caller, Frame, Pointer, State, Target, Value};
use super::trace::{Node, Trace};
use super::{LogLevel, VerifyOptions, VerifyStats};
use crate::bpf::insn::{Code, Op};
use crate::bpf::program::Text;
use crate::bpf::program_type::Pointer as Field;
use crate::bpf::proof::Facts;
use crate::bpf::vm::MAX_FRAMES;
use arrayvec::ArrayVec;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Paths that may wait to be followed.
const MAX_PENDING: usize = 1 << 16;
/// States are remembered after as many instructions, and as many jumps, calls and exits, since the last one.
const APART: (u32, u32) = (8, 2);
/// And after as many in loops without forks, which seldom come to where they were.
const APART_IN_LOOPS: (u32, u32) = (100, 20);

/// A state that was remembered.
struct Remembered {
    state: State,
    /// The one before it on the path.
    parent: Option<usize>,
    /// Paths from it on that are not at their end: paths that wait, states that were remembered behind it, and the one that is
    /// followed.
    open: u32,
    /// How often it covered another, and how often it did not.
    hits: u32,
    misses: u32,
    memory: usize,
}

/// A slot, and the calls that lead there.
type Place = (usize, ArrayVec<Caller, MAX_FRAMES>);

fn place_of(state: &State) -> Place {
    (state.pc, state.frames.iter().skip(1).map(|frame| frame.caller).collect())
}

/// The states that were remembered at one place.
#[derive(Default)]
struct Met {
    /// Those of the path that is followed, each behind the one before.
    open: Vec<usize>,
    /// Those of which all paths have ended.
    done: Vec<usize>,
}

impl Met {
    /// Of the states of this path those that are compared: the last ones, and one that stays the same while there come as many as
    /// there were, so that a loop of any length comes by it again.
    fn ancestors(&self) -> impl Iterator<Item = usize> {
        let len = self.open.len();
        let last = self.open[len - len.min(LAST)..].iter().rev().copied();
        let early = if len > LAST { Some(self.open[(1 << (len - 1).ilog2()) - 1]) } else { None };
        last.chain(early)
    }
}

/// More instructions than these are followed for nobody: what is counted for each, once or twice, has 32 bits. Were the marks of
/// copies to begin anew, numbers would be taken for the same that are not.
const MOST_INSNS: u64 = 1 << 30;
/// After how many rounds numbers that matter are widened too.
const EXACT_ROUNDS: usize = 8;
/// How many of the last states are compared.
const LAST: usize = 4;

/// A path that waits to be followed.
struct Pending {
    state: State,
    parent: Option<usize>,
    history: usize,
    log: usize,
}

/// Where the path goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At the state's `pc`.
    On,
    /// It has ended.
    End,
}

pub(super) struct Walk<'p> {
    pub(super) text: &'p Text,
    pub(super) code: &'p Code,
    options: &'p VerifyOptions,
    pub(super) flow: Flow,
    pub(super) trace: Trace,
    remembered: Vec<Option<Remembered>>,
    /// The states that were remembered.
    at: BTreeMap<Place, Met>,
    pending: Vec<Pending>,
    /// The last state that was remembered on the path that is followed.
    parent: Option<usize>,
    /// Instructions, and jumps, calls and exits, since a state was remembered, on whatever path.
    since: (u32, u32),
    /// Whether a path has forked since then.
    forked: bool,
    /// The slots of the path.
    history: Vec<u32>,
    last_id: u32,
    pub(super) stats: VerifyStats,
    states_memory: usize,
    held: usize,
    kept: usize,
    pub(super) log: Log,
    reached: Box<[bool]>,
    /// By slot of loads: the field of the context that it loads the address of.
    pub(super) fields: BTreeMap<usize, Field>,
    /// By slot of loads that load something else: through what.
    pub(super) plain: BTreeMap<usize, Kind>,
    pub(super) context_len: usize,
    pub(super) context_from: Option<u64>,
    /// By function: bytes of its frame.
    pub(super) depths: BTreeMap<usize, u32>,
    /// Who calls whom.
    pub(super) calls: BTreeSet<(usize, usize)>,
    /// Contents of maps that nobody can change.
    pub(super) constants: BTreeMap<u32, Option<Vec<u8>>>,
}

impl<'p> Walk<'p> {
    pub(super) fn new(text: &'p Text, options: &'p VerifyOptions) -> Self {
        let code = &text.checked;
        Self {
            text,
            code,
            options,
            flow: Flow::new(code, &text.helpers),
            trace: Trace::default(),
            remembered: Vec::new(),
            at: BTreeMap::new(),
            pending: Vec::new(),
            parent: None,
            since: (0, 0),
            forked: false,
            history: Vec::new(),
            last_id: 0,
            stats: VerifyStats::default(),
            states_memory: 0,
            held: 0,
            kept: 0,
            log: Log::new(options.log),
            reached: vec![false; code.len()].into(),
            fields: BTreeMap::new(),
            plain: BTreeMap::new(),
            context_len: 0,
            context_from: None,
            depths: BTreeMap::new(),
            calls: BTreeSet::new(),
            constants: BTreeMap::new(),
        }
    }

    /// Follows the program; gives what the proof says of it.
    pub(super) fn run(mut self) -> Result<(Facts, VerifyStats, String), VerifyError> {
        match self.follow() {
            Ok(()) => {}
            Err((insn, kind)) => return Err(self.refused(insn, kind)),
        }
        self.stats.dead = self.dead();
        let facts = Facts {
            pointers: self.fields,
            reached: self.reached,
            context_len: self.context_len,
            context_from: self.context_from,
            frames: self.stats.frames,
        };
        Ok((facts, self.stats, self.log.finish()))
    }

    fn refused(mut self, insn: usize, kind: Refusal) -> VerifyError {
        let line = self.text.line(insn);
        self.log.refused(insn, line.as_deref(), &kind);
        let from = self.history.len().saturating_sub(VerifyError::MAX_PATH);
        VerifyError {
            program: self.text.name.clone(),
            insn,
            line,
            kind: Box::new(kind),
            path: self.history[from..].iter().map(|slot| *slot as usize).collect(),
            log: self.log.finish(),
        }
    }

    fn follow(&mut self) -> Result<(), (usize, Refusal)> {
        let mut state = self.start();
        loop {
            let pc = state.pc;
            let next = self.go(&mut state).map_err(|kind| (pc, kind))?;
            if next == Next::On {
                continue;
            }
            self.close(self.parent);
            let Some(pending) = self.pending.pop() else { break };
            self.held -= pending.state.memory();
            state = pending.state;
            self.parent = pending.parent;
            self.history.truncate(pending.history);
            self.log.back_to(pending.log, state.pc);
        }
        self.stats.stack = self.check_depths()?;
        if self.options.refuse_dead_code
            && let Some(dead) = self.dead().first()
        {
            return Err((dead.start, Refusal::Dead { insn: dead.start }));
        }
        Ok(())
    }

    /// The state in which programs are started.
    fn start(&mut self) -> State {
        let mut frame = Frame::new(0, Caller::Nobody);
        frame.regs[1] = Value::Pointer(Pointer::new(Target::Context));
        if self.text.type_.has_length() {
            frame.regs[2] = Value::unknown();
        }
        self.stats.frames = 1;
        State { pc: 0, frames: vec![Rc::new(frame)], records: Vec::new(), buffers: Vec::new(), rounds: 0 }
    }

    /// One instruction of the path.
    fn go(&mut self, state: &mut State) -> Result<Next, Refusal> {
        let pc = state.pc;
        let Some(op) = self.code.op(pc) else { return Err(Refusal::Dead { insn: pc }) };
        let limit = self.options.insns.min(MOST_INSNS);
        if self.stats.insns >= limit {
            return Err(Refusal::TooComplex { limit });
        }
        self.stats.insns += 1;
        if (self.flow.is_meeting(pc) || self.is_round(op)) && self.meet(state, op)? {
            return Ok(Next::End);
        }
        self.history.push(pc as u32);
        self.reached[pc] = true;
        self.since.0 += 1;
        self.since.1 += u32::from(op.jump().is_some() || matches!(op, Op::Call(_) | Op::Exit));
        #[cfg(perfring_mutants)]
        let before = state.clone();
        let next = self.logged_step(state, op);
        #[cfg(perfring_mutants)]
        let next = next.or_else(|refusal| super::rule::without(&before, state, op, refusal));
        next
    }

    fn logged_step(&mut self, state: &mut State, op: &Op) -> Result<Next, Refusal> {
        if self.log.level() == LogLevel::None {
            return self.step(state, op);
        }
        let pc = state.pc;
        let before = state.clone();
        self.log.before(pc, op, &self.text.line(pc));
        let next = self.step(state, op)?;
        self.log.after(&before, state, next == Next::End);
        Ok(next)
    }

    /// Whether a path may come by an instruction without bound: what ends its rounds is no condition that is followed.
    fn is_round(&self, op: &Op) -> bool {
        matches!(op, Op::MayGoto { .. }) || self.calls_back(op)
    }

    /// Where paths come together: whether the path ends here, as another covers it. The state is remembered, now and then.
    fn meet(&mut self, state: &mut State, op: &Op) -> Result<bool, Refusal> {
        let pc = state.pc;
        let round = self.is_round(op);
        let place = place_of(state);
        let (done, ancestors) = match self.at.get_mut(&place) {
            // Taken out while they are compared, and put back.
            Some(met) => (std::mem::take(&mut met.done), met.ancestors().collect::<ArrayVec<usize, { LAST + 1 }>>()),
            None => (Vec::new(), ArrayVec::new()),
        };
        let (insns, jumps) = if ancestors.is_empty() || self.forked { APART } else { APART_IN_LOOPS };
        let remembers = round || (self.since.0 >= insns && self.since.1 >= jumps);
        if done.iter().rev().any(|index| self.covers(*index, state, remembers)) {
            self.at.entry(place).or_default().done = done;
            self.stats.pruned += 1;
            self.log.covered(pc);
            return Ok(true);
        }
        self.keep(&place, done);
        for index in &ancestors {
            let Some(old) = self.remembered[*index].as_ref() else { continue };
            if !round && old.state.rounds != state.rounds {
                // Something else bounds this loop.
                continue;
            }
            let closeness = if rule!("rounds-are-compared-in-all") { Closeness::All } else { Closeness::Needed };
            let Some(rests_on) = Cover::of(&old.state, state, &self.flow, &self.trace, closeness) else { continue };
            if round {
                // Runs that are as this state says are as the other says, of which all paths will have been followed.
                rests_on.into_iter().for_each(|(old, new)| self.trace.follows(old, new));
                self.stats.pruned += 1;
                self.log.covered(pc);
                return Ok(true);
            }
            let back = Cover::of(state, &old.state, &self.flow, &self.trace, Closeness::All).is_some();
            if back && rule!("InfiniteLoop") {
                return Err(Refusal::InfiniteLoop { insn: pc });
            }
        }
        if round {
            self.widen(state);
            state.rounds += 1;
        }
        if remembers {
            self.remember(state);
        }
        self.check_memory()?;
        Ok(false)
    }

    /// Keeps a state to be compared with later ones.
    fn remember(&mut self, state: &mut State) {
        self.give_nodes(state);
        let memory = state.memory();
        self.states_memory += memory;
        let index = self.remembered.len();
        self.remembered.push(Some(Remembered {
            state: state.clone(),
            parent: self.parent,
            open: 1,
            hits: 0,
            misses: 0,
            memory,
        }));
        self.at.entry(place_of(state)).or_default().open.push(index);
        self.parent = Some(index);
        (self.since, self.forked) = ((0, 0), false);
        self.stats.states += 1;
        self.kept += 1;
        self.stats.peak_states = self.stats.peak_states.max(self.kept);
    }

    /// Gives each number, and each slot of the stack, a node of its own.
    fn give_nodes(&mut self, state: &mut State) {
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for value in
            state.frames.iter().flat_map(|frame| frame.regs.iter().chain(frame.slots.iter().map(|slot| &slot.spill)))
        {
            if let Some(scalar) = value.scalar().filter(|scalar| scalar.id != 0) {
                *counts.entry(scalar.id).or_default() += 1;
            }
        }
        let trace = &mut self.trace;
        let mut give = |value: &mut Value| {
            if let Value::Scalar(scalar) = value {
                if counts.get(&scalar.id).is_some_and(|count| *count < 2) {
                    // No other is the same.
                    scalar.id = 0;
                }
                // What may be any number, and is like no other, is never missed.
                let any = scalar.range.is_unknown() && scalar.id == 0 && scalar.tag == 0;
                scalar.node = if any { Node::NONE } else { trace.remember(scalar.node) };
            }
        };
        for frame in &mut state.frames {
            let frame = Rc::make_mut(frame);
            frame.regs.iter_mut().for_each(&mut give);
            for slot in &mut frame.slots {
                give(&mut slot.spill);
            }
        }
        for frame in &mut state.frames {
            for slot in &mut Rc::make_mut(frame).slots {
                slot.read = self.trace.remember(slot.read);
            }
        }
    }

    /// Where a path comes by again and again: numbers that were others the last time may be any, so that the path comes by as it
    /// was before. At first only those that did not matter; but what still changes after a few rounds will go on to.
    fn widen(&mut self, state: &mut State) {
        let Some(old) = self.at.get(&place_of(state)).into_iter().flat_map(Met::ancestors).find_map(|index| {
            let old = self.remembered[index].as_ref()?;
            let alike = old.state.frames.len() == state.frames.len()
                && old
                    .state
                    .frames
                    .iter()
                    .zip(&state.frames)
                    .all(|(a, b)| a.function == b.function && a.caller == b.caller);
            alike.then_some(&old.state)
        }) else {
            return;
        };
        let changing = self.at.get(&place_of(state)).is_some_and(|met| met.open.len() >= EXACT_ROUNDS);
        let trace = &self.trace;
        let widen = |old: &Value, new: &mut Value| {
            if let (Value::Scalar(old), Value::Scalar(new)) = (old, new)
                && (changing || !trace.is_marked(old.node))
                && !old.range.includes(&new.range)
            {
                let tag = new.tag;
                *new = super::state::Scalar { tag, ..super::state::Scalar::UNKNOWN };
            }
        };
        for (old, new) in old.frames.iter().zip(&mut state.frames) {
            let new = Rc::make_mut(new);
            for (old, new) in old.regs.iter().zip(&mut new.regs) {
                widen(old, new);
            }
            for (old, new) in old.slots.iter().zip(&mut new.slots) {
                // Of fewer bytes a number can't be any.
                if new.spilled() == 8 && old.spilled() == 8 {
                    widen(&old.spill, &mut new.spill);
                } else if new.spilled() != 0 && new.pointer().is_none() && (changing || !trace.is_marked(old.read)) {
                    new.forget_spill();
                }
                for (old, new) in old.bytes.iter().zip(&mut new.bytes) {
                    if (*old, *new) == (Byte::Any, Byte::Zero) || (*old, *new) == (Byte::Zero, Byte::Any) {
                        *new = Byte::Any;
                    }
                }
            }
        }
    }

    /// A path has come to its end that had this as the last state that was remembered.
    fn close(&mut self, mut parent: Option<usize>) {
        while let Some(remembered) = parent.and_then(|index| self.remembered[index].as_mut()) {
            remembered.open -= 1;
            if remembered.open != 0 {
                return;
            }
            let next = remembered.parent;
            if let Some(met) = self.at.get_mut(&place_of(&remembered.state)) {
                // All that were remembered behind it have ended before.
                let ended = met.open.pop();
                debug_assert_eq!(ended, parent);
                met.done.extend(ended);
            }
            parent = next;
        }
    }

    /// Whether a state of which all paths have ended covers one that has come there.
    fn covers(&mut self, index: usize, state: &State, remembers: bool) -> bool {
        let Some(old) = self.remembered[index].as_mut() else { return false };
        match Cover::of(&old.state, state, &self.flow, &self.trace, Closeness::Needed) {
            Some(rests_on) => {
                old.hits += 1;
                rests_on.into_iter().for_each(|(old, new)| self.trace.follows(old, new));
                true
            }
            None => {
                // It is a loss only where another has to be remembered beside it.
                old.misses += u32::from(remembers);
                false
            }
        }
    }

    /// Keeps of these states those that cover others now and then.
    fn keep(&mut self, place: &Place, mut states: Vec<usize>) {
        states.retain(|index| {
            let remembered = &mut self.remembered[*index];
            let useless = remembered.as_ref().is_none_or(|old| old.misses > 3 * old.hits + 3);
            if useless && let Some(old) = remembered.take() {
                self.states_memory -= old.memory;
                self.kept -= 1;
            }
            !useless
        });
        if let Some(met) = self.at.get_mut(place) {
            met.done = states;
        }
    }

    /// Follows this path later.
    pub(super) fn later(&mut self, state: State) -> Result<(), Refusal> {
        if self.pending.len() == MAX_PENDING {
            return Err(Refusal::TooManyBranches { limit: MAX_PENDING });
        }
        if let Some(parent) = self.parent.and_then(|index| self.remembered[index].as_mut()) {
            parent.open += 1;
        }
        self.held += state.memory();
        self.forked = true;
        self.pending.push(Pending { state, parent: self.parent, history: self.history.len(), log: self.log.len() });
        self.check_memory()
    }

    fn check_memory(&mut self) -> Result<(), Refusal> {
        let memory = self.states_memory
            + self.held
            + self.trace.memory()
            + self.remembered.capacity() * size_of::<Option<Remembered>>()
            + self.history.capacity() * size_of::<u32>();
        self.stats.memory = self.stats.memory.max(memory);
        if memory > self.options.memory {
            return Err(Refusal::TooLarge { limit: self.options.memory });
        }
        Ok(())
    }

    pub(super) fn new_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// The proof rests on the range of a number.
    pub(super) fn need(&mut self, value: &Value) {
        if let Value::Scalar(scalar) = value {
            self.trace.mark(scalar.node);
        }
    }

    /// A new frame, of a function that starts at a slot.
    pub(super) fn enter(&mut self, state: &mut State, function: usize, caller: Caller) -> Result<(), Refusal> {
        if state.frames.len() == MAX_FRAMES {
            return Err(Refusal::Frames { limit: MAX_FRAMES });
        }
        self.calls.insert((state.frame().function, function));
        state.frames.push(Rc::new(Frame::new(function, caller)));
        self.stats.frames = self.stats.frames.max(state.frames.len());
        state.pc = function;
        Ok(())
    }

    /// Bytes that the frames of the deepest chain of calls take.
    fn check_depths(&self) -> Result<u32, (usize, Refusal)> {
        let mut deepest = 0;
        // Functions with the bytes of the chain before them; a chain is as long as there are frames at most.
        let mut chains = vec![(0, 0, 1)];
        let mut seen = BTreeSet::new();
        while let Some((function, before, frames)) = chains.pop() {
            if !seen.insert((function, before, frames)) {
                continue;
            }
            let own = self.depths.get(&function).copied().unwrap_or(0).next_multiple_of(super::FRAME_GRANULE);
            let bytes = before + own;
            if bytes > self.options.stack && rule!("StackDepth") {
                return Err((function, Refusal::StackDepth { bytes, limit: self.options.stack }));
            }
            if frames > MAX_FRAMES && rule!("Frames") {
                return Err((function, Refusal::Frames { limit: MAX_FRAMES }));
            }
            deepest = deepest.max(bytes);
            chains.extend(
                self.calls
                    .range((function, 0)..=(function, usize::MAX))
                    .map(|(_, callee)| (*callee, bytes, frames + 1)),
            );
        }
        Ok(deepest)
    }

    fn dead(&self) -> Vec<std::ops::Range<usize>> {
        let mut dead: Vec<std::ops::Range<usize>> = Vec::new();
        for (at, op) in self.code.iter().filter(|(at, _)| !self.reached[*at]) {
            match dead.last_mut() {
                Some(last) if last.end == at => last.end = at + op.slots(),
                _ => dead.push(at..at + op.slots()),
            }
        }
        dead
    }

    /// Replaces the state's frame of a function that has ended by that of its caller; gives what called it.
    pub(super) fn leave(state: &mut State) -> Caller {
        let caller = state.frame().caller;
        let _ended = state.frames.pop();
        caller
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::insn::assemble;
    use crate::bpf::program_type::ProgramType;

    #[test]
    fn no_more_is_followed_than_can_be_counted() {
        let insns = assemble("r0 = 0\nexit").unwrap();
        let program = crate::bpf::Program::builder("test", ProgramType::kprobe()).load(insns).unwrap();
        let options = VerifyOptions { insns: u64::MAX, ..VerifyOptions::default() };
        let left = |insns| {
            let mut walk = Walk::new(&program.0, &options);
            walk.stats.insns = MOST_INSNS - insns;
            walk.run()
        };
        assert!(left(2).is_ok());
        let error = left(1).unwrap_err();
        assert_eq!((error.insn, *error.kind), (1, Refusal::TooComplex { limit: MOST_INSNS }));
    }
}
