//! Frames: of functions, of callbacks, and of programs that are tail-called.

#![allow(unsafe_code)]

use super::exec::{End, FP, Registers};
use super::execution::{Context, Execution, Frame};
use super::{FRAME_SIZE, MAX_FRAMES, MAX_LOOPS, MAX_TAIL_CALLS, TrapKind};
use crate::bpf::helper::{Arg, HelperId};
use crate::bpf::machine::address_of;
use crate::bpf::memory::Readable;
use crate::bpf::program::Text;
use crate::bpf::program_type::{Conversion, MAX_CONTEXT_SIZE};

impl<'r> Execution<'r> {
    /// Makes the current frame zero: it may hold what another program left.
    pub(super) fn clear_frame(&self) {
        let end = (MAX_FRAMES - self.depth()) * FRAME_SIZE / 8;
        for word in &self.cpu.stack[end - FRAME_SIZE / 8..end] {
            word.set(0);
        }
    }

    /// The frames are what may be touched, and what is touched next, as far as anybody knows.
    pub(super) fn reach_frames(&mut self) {
        self.reach = self.stack_span();
        (self.reads, self.writes) = (self.reach, self.reach);
    }

    /// Makes a frame for a function that was called from before slot `pc`.
    pub(super) fn enter(&mut self, pc: usize, regs: &mut Registers) -> Result<(), TrapKind> {
        self.pc = pc;
        self.fuel = self.fuel.checked_sub(1).ok_or(TrapKind::Fuel)?;
        let saved = [regs[6], regs[7], regs[8], regs[9]];
        let frame = Frame { text: self.text, context: self.context, pc, saved, loops: self.loops };
        self.frames.try_push(frame).map_err(|_| TrapKind::CallDepth)?;
        self.loops = MAX_LOOPS;
        regs[FP] = self.frame_end();
        Ok(())
    }

    /// Gives up the frame of a function that has ended; gives the slot to go on at.
    pub(super) fn leave(&mut self, regs: &mut Registers) -> usize {
        let frame = self.frames.pop().expect("a function that was called has a caller");
        regs[6..10].copy_from_slice(&frame.saved);
        regs[FP] = self.frame_end();
        self.text = frame.text;
        self.context = frame.context;
        self.loops = frame.loops;
        frame.pc
    }

    /// Runs the function of the program that starts at a slot, for a helper.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    pub(crate) unsafe fn call_back<const CHECKED: bool>(
        &mut self,
        slot: usize,
        r1: u64,
        r2: u64,
    ) -> Result<u64, TrapKind> {
        self.fuel = self.fuel.checked_sub(1).ok_or(TrapKind::Fuel)?;
        let frame = Frame { text: self.text, context: self.context, pc: self.pc, saved: [0; 4], loops: self.loops };
        self.frames.try_push(frame).map_err(|_| TrapKind::CallDepth)?;
        self.callbacks += 1;
        self.loops = MAX_LOOPS;
        let mut regs: Registers = [0; 16];
        (regs[1], regs[2]) = (r1, r2);
        // SAFETY: the caller's contract.
        let result = match unsafe { self.run::<CHECKED>(slot, regs, self.depth()) } {
            Ok(End::Exit(r0)) => Ok(r0),
            // There are none in callbacks.
            Ok(End::Unverified(_)) => Err(TrapKind::TailCall),
            Err(kind) => Err(kind),
        };
        self.callbacks -= 1;
        if result.is_ok() {
            self.frames.pop();
            (self.text, self.context, self.pc, self.loops) = (frame.text, frame.context, frame.pc, frame.loops);
            self.reach_frames();
        }
        result
    }

    /// Whether the tail call was made. If not, the program goes on behind it, and `r0` tells why.
    pub(super) fn tail_call<const CHECKED: bool>(&mut self, args: [u64; 3], r0: &mut u64) -> Result<bool, TrapKind> {
        let [context, map, index] = args;
        let helper = self.text.helpers.get(HelperId::TAIL_CALL);
        let argument = |at: usize, value| TrapKind::Argument {
            helper: HelperId::TAIL_CALL,
            name: "bpf_tail_call".to_owned(),
            at: at + 1,
            value,
            wanted: helper.map_or(Arg::Any, |helper| helper.prototype.args[at]),
        };
        if self.callbacks > 0 {
            return Err(TrapKind::TailCall);
        }
        if CHECKED && context != self.context.address {
            return Err(argument(0, context));
        }
        let text: &'r Text = self.text;
        let Some(array) = text.maps.get(super::map_index(map)).and_then(|map| map.programs()) else {
            return Err(argument(1, map));
        };
        let errno = |errno: i32| (-i64::from(errno)) as u64;
        // Of the index 32 bits count, as in the kernel.
        let index = index as u32 as usize;
        if self.tail_calls == MAX_TAIL_CALLS {
            *r0 = errno(libc::E2BIG);
            return Ok(false);
        }
        let target = match array.load(index, self.guard()) {
            Some(target) => target,
            None => {
                *r0 = errno(if index < array.len() { libc::ENOENT } else { libc::E2BIG });
                return Ok(false);
            }
        };
        let target: &'r Text = &target.0;
        // As where it is started.
        if target.lacks_cpus(self.shared.cpus.len()).is_some() {
            *r0 = errno(libc::EINVAL);
            return Ok(false);
        }
        if let Some(proof) = &target.proof {
            // A context of another type is as long as its fields take.
            let short = target.type_.context().size().is_none() && self.context.len < proof.context_len;
            let deep = self.depth() + proof.frames > MAX_FRAMES;
            if short || deep {
                *r0 = errno(if short { libc::EINVAL } else { libc::E2BIG });
                return Ok(false);
            }
        }
        if target.type_ != *self.context.type_ && !self.cast(target) {
            *r0 = errno(libc::EINVAL);
            return Ok(false);
        }
        // What is reserved is nothing that another program could commit.
        self.discard();
        self.tail_calls += 1;
        self.text = target;
        self.loops = MAX_LOOPS;
        Ok(true)
    }

    /// Makes the context into one for `target`; whether that could be done.
    fn cast(&mut self, target: &'r Text) -> bool {
        let Some(len) = target.type_.context().size() else { return false };
        let source = self.context;
        // Neither where the context lies that it is made from, nor where that of a caller does.
        let [first, second] = &self.cpu.contexts[self.depth()];
        let area = if source.address == address_of(first) { second } else { first };
        let mut bytes = [0; MAX_CONTEXT_SIZE];
        let bytes = &mut bytes[..len];
        // SAFETY: the context is the execution's to read, all of it, until it ends.
        let from = unsafe { Readable::new(source.address, source.len) };
        let number = self.cpu.number;
        let mut conversion =
            Conversion { source: source.type_, from, to: bytes, cpu: number, environment: self.environment };
        if !target.type_.convert(&mut conversion) {
            return false;
        }
        for (word, bytes) in area.iter().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.set(u64::from_ne_bytes(whole));
        }
        self.context = Context::new(&target.type_, address_of(area), len);
        true
    }
}
