//! What a program has while it runs.

#![allow(unsafe_code)]

use super::exec::{End, Registers};
use super::{MAX_FRAMES, Trap, TrapKind};
use crate::bpf::environment::Environment;
use crate::bpf::event::OpenEvent;
use crate::bpf::machine::{Cpu, Shared, address_of};
use crate::bpf::map::{MapFlags, OpenRecord};
use crate::bpf::memory::{self, Readable};
use crate::bpf::program::Text;
use crate::bpf::program_type::{ContextAccess, Ecb, Pointer, ProgramType};
use crate::bpf::reentry::Pinned;
use crate::sync::epoch::Guard;
use arrayvec::ArrayVec;
use std::cell::OnceCell;

/// Bytes that a program may touch, at least 8 of them: a multiple of accesses of up to that many can be tested at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    base: u64,
    /// The number of bytes minus 8.
    last: u64,
}

impl Span {
    /// None if there are fewer than 8 bytes.
    pub(crate) fn new(base: u64, size: u64) -> Option<Self> {
        size.checked_sub(8).map(|last| Self { base, last })
    }

    /// Whether `size` bytes, at most 8, at `address` are among them.
    #[inline(always)]
    pub(crate) fn holds(&self, address: u64, size: u64) -> bool {
        address.wrapping_sub(self.base) <= self.last + (8 - size)
    }
}

/// A context as a program sees it.
#[derive(Clone, Copy)]
pub(crate) struct Context<'r> {
    pub(crate) type_: &'r ProgramType,
    pub(crate) address: u64,
    pub(crate) len: usize,
    /// What the layout allows at each byte.
    allowed: &'r [u8],
    /// The ids of its writable buffers.
    pub(super) buffers: &'r [u32],
}

impl<'r> Context<'r> {
    /// `len` bytes at `address`: as many as the type has, where it has a number of them.
    pub(crate) fn new(type_: &'r ProgramType, address: u64, len: usize) -> Self {
        let layout = type_.context();
        Self { type_, address, len, allowed: layout.allowed(), buffers: layout.buffers() }
    }

    /// Whether a load is one of a number in the context.
    #[inline(always)]
    pub(crate) fn has_number(&self, address: u64, size: u8) -> bool {
        let offset = address.wrapping_sub(self.address);
        usize::try_from(offset).is_ok_and(|offset| self.allowed.get(offset).is_some_and(|sizes| sizes & size != 0))
    }
}

/// A caller, while the function that it called runs.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'r> {
    pub(crate) text: &'r Text,
    pub(crate) context: Context<'r>,
    pub(crate) pc: usize,
    pub(crate) saved: [u64; 4],
    pub(crate) loops: u32,
}

/// The writable buffers that a context may have.
pub(crate) const MAX_BUFFERS: usize = 8;
/// Records of ring buffers that may be open at once.
const MAX_RECORDS: usize = 8;

/// A writable buffer that is open.
pub(crate) struct Buffer<'r> {
    pub(crate) id: u32,
    pub(crate) event: OpenEvent<'r>,
}

/// What a program has while it runs, from its start to the end of the outermost one.
pub(crate) struct Execution<'r> {
    pub(crate) shared: &'r Shared,
    pub(crate) cpu: &'r Cpu,
    /// What keeps elements and programs where they are from when the first of them is looked up.
    pub(crate) pinned: &'r OnceCell<Pinned>,
    pub(crate) environment: &'r dyn Environment,
    pub(crate) text: &'r Text,
    pub(crate) context: Context<'r>,
    /// The packet: its start and its end.
    pub(crate) packet: (u64, u64),
    /// The end of the outermost frame.
    pub(crate) stack: u64,
    /// The callers, and what called back.
    pub(crate) frames: ArrayVec<Frame<'r>, { MAX_FRAMES - 1 }>,
    /// The frames of the current function and of its callers.
    pub(crate) reach: Span,
    /// What was read last, and what was written last: nearly always what is touched next.
    pub(crate) reads: Span,
    pub(crate) writes: Span,
    /// Callbacks that are running.
    pub(crate) callbacks: usize,
    pub(crate) tail_calls: u32,
    /// How often the current function may still go on at its `may_goto`s.
    pub(crate) loops: u32,
    /// Instructions that may still run.
    pub(crate) fuel: u64,
    /// The slot behind the instruction that runs, where something else than the interpreter's loop looks at it.
    pub(crate) pc: usize,
    pub(crate) buffers: ArrayVec<Buffer<'r>, MAX_BUFFERS>,
    pub(crate) records: ArrayVec<OpenRecord<'r>, MAX_RECORDS>,
    /// Reservations that were still open at an exit, a tail call or a trap.
    pub(crate) discarded: u64,
}

/// What the caller of a program lends it: addresses and sizes.
pub(crate) struct Lent {
    pub(crate) context: (u64, usize),
    pub(crate) packet: (u64, usize),
}

impl<'r> Execution<'r> {
    /// `text` at its start. What `lent` names is the execution's until it is dropped.
    pub(crate) fn new(
        shared: &'r Shared,
        cpu: &'r Cpu,
        pinned: &'r OnceCell<Pinned>,
        environment: &'r dyn Environment,
        text: &'r Text,
        lent: Lent,
        fuel: u64,
    ) -> Self {
        let (address, len) = lent.context;
        let (packet, packet_len) = lent.packet;
        let stack = address_of(&cpu.stack);
        let size = (MAX_FRAMES * super::FRAME_SIZE) as u64;
        let whole = Span::new(stack, size).expect("a stack has more than 8 bytes");
        Self {
            reach: whole,
            reads: whole,
            writes: whole,
            shared,
            cpu,
            pinned,
            environment,
            text,
            context: Context::new(&text.type_, if len == 0 { 0 } else { address }, len),
            packet: (packet, packet + packet_len as u64),
            stack: stack + size,
            frames: ArrayVec::new(),
            callbacks: 0,
            tail_calls: 0,
            loops: super::MAX_LOOPS,
            fuel,
            pc: 0,
            buffers: ArrayVec::new(),
            records: ArrayVec::new(),
            discarded: 0,
        }
    }

    /// Runs the program from its start to its end; gives `r0`. Where it is verified no access is tested, until it tail-calls one
    /// that is not: that may store in the frames of its callers, and so all is tested from there on, whatever returns where.
    pub(crate) fn start(&mut self) -> Result<u64, TrapKind> {
        let mut regs: Registers = [0; 16];
        regs[1] = self.context.address;
        if self.context.type_.has_length() {
            regs[2] = self.context.len as u64;
        }
        if let Some(proof) = &self.text.proof {
            // Nobody runs it on less; it is refused before.
            assert!(self.context.type_.context().size().is_some() || proof.context_len <= self.context.len);
            // SAFETY: the program has a proof, and this is its start: the context in `r1`, the number of its bytes in `r2` where the
            // type has that there, and one frame, of which nothing is known.
            match unsafe { self.run::<false>(0, regs, 0)? } {
                End::Exit(r0) => return Ok(r0),
                End::Unverified(now) => regs = now,
            }
        }
        // SAFETY: checked.
        match unsafe { self.run::<true>(0, regs, 0)? } {
            End::Exit(r0) => Ok(r0),
            End::Unverified(_) => unreachable!("what is checked runs whatever it calls"),
        }
    }

    /// What was looked up under it stays until the execution ends.
    pub(crate) fn guard(&self) -> &'r Guard {
        let pin = || Pinned::new().expect("where a program looks something up, its thread holds no lock of a map");
        self.pinned.get_or_init(pin)
    }

    /// How many frames there are below the current one.
    pub(crate) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// The end of the current frame.
    pub(crate) fn frame_end(&self) -> u64 {
        self.stack - (self.depth() * super::FRAME_SIZE) as u64
    }

    /// The frames of the current function and of its callers.
    pub(crate) fn stack_span(&self) -> Span {
        let low = self.frame_end() - super::FRAME_SIZE as u64;
        Span::new(low, self.stack - low).expect("a frame has more than 8 bytes")
    }

    /// Whether an address lies in the context.
    pub(crate) fn in_context(&self, address: u64) -> bool {
        self.context_offset(address).is_some()
    }

    /// Where in the context an address lies.
    fn context_offset(&self, address: u64) -> Option<u64> {
        let offset = address.wrapping_sub(self.context.address);
        (offset < self.context.len as u64).then_some(offset)
    }

    /// What an access of the context is; none if it is none, or one that programs may not make.
    pub(crate) fn context_access(&self, address: u64, size: usize, write: bool) -> Option<ContextAccess> {
        let offset = self.context_offset(address)?;
        self.context.type_.context().access(offset, size, write, self.context.len)
    }

    /// What a field that leads elsewhere holds.
    pub(crate) fn pointer(&self, pointer: Pointer) -> u64 {
        match pointer {
            Pointer::Packet => self.packet.0,
            Pointer::PacketEnd => self.packet.1,
            Pointer::Buffer(id) => self.buffer(id).map_or(0, |buffer| buffer.event.payload().0),
            Pointer::BufferEnd(id) => self.buffer(id).map_or(0, |buffer| {
                let (start, size) = buffer.event.payload();
                start + size as u64
            }),
        }
    }

    /// The memory that `size` bytes at `address` lie in: its start and its size. Not that of the context.
    pub(crate) fn region(&self, address: u64, size: usize, write: bool) -> Option<(u64, u64)> {
        let inside = |start: u64, len: u64| {
            let offset = address.wrapping_sub(start);
            (offset < len && size as u64 <= len - offset).then_some((start, len))
        };
        let low = self.frame_end() - super::FRAME_SIZE as u64;
        let stack = inside(low, self.stack - low);
        let packet = || inside(self.packet.0, self.packet.1 - self.packet.0);
        let buffers = || {
            self.buffers.iter().find_map(|buffer| {
                let (start, len) = buffer.event.payload();
                inside(start, len as u64)
            })
        };
        let records = || {
            self.records.iter().find_map(|record| {
                let (start, len) = record.payload();
                inside(start, len as u64)
            })
        };
        let values = || {
            self.text.maps.iter().find_map(|map| {
                let (start, len) = map.values()?.find(address)?;
                let refused = if write { MapFlags::RDONLY_PROG } else { MapFlags::WRONLY_PROG };
                if map.def().flags.contains(refused) { None } else { inside(start, len as u64) }
            })
        };
        stack.or_else(buffers).or_else(records).or_else(packet).or_else(values)
    }

    /// Whether atomic operations that read, write, or do both, may be done on `size` bytes at `address`: on the stack, on values of
    /// maps and on records.
    pub(crate) fn atomic(&self, address: u64, size: usize, read: bool, write: bool) -> bool {
        let within = |start: u64, end: u64| address >= start && address < end;
        let buffer = |buffer: &Buffer<'_>| {
            let (start, len) = buffer.event.payload();
            within(start, start + len as u64)
        };
        let memory = || {
            self.context_access(address, size, write) == Some(ContextAccess::Bytes)
                && self.context.type_.context().size().is_none()
        };
        address.is_multiple_of(size as u64)
            && !within(self.packet.0, self.packet.1)
            && !self.buffers.iter().any(buffer)
            && (((!write || self.region(address, size, true).is_some())
                && (!read || self.region(address, size, false).is_some()))
                || memory())
    }

    /// Bytes that an argument leads to, if the program may read them.
    pub(crate) fn readable(&self, address: u64, size: usize) -> Option<Readable> {
        let context = || {
            // Of a context with fields, bytes are arguments only of a helper that takes the context itself.
            (self.context.type_.context().size().is_none()
                && self.context_access(address, size, false) == Some(ContextAccess::Bytes))
            .then_some(())
        };
        let fine = size == 0
            || self.in_stack(address, size)
            || self.region(address, size, false).is_some()
            || context().is_some();
        // SAFETY: none of them at all; or all of them are in one of the regions that this execution may read: what the
        // regions are made of lives longer than the execution (the CPU's stack and rings, the maps that the text holds, the
        // context and the packet that the caller of `run` lent), and it is of the kinds that memory.rs names.
        fine.then(|| unsafe { Readable::new(address, size) })
    }

    /// Whether they are in the current frame, or in that of a caller.
    #[inline]
    fn in_stack(&self, address: u64, size: usize) -> bool {
        let low = self.frame_end() - super::FRAME_SIZE as u64;
        address >= low && address < self.stack && size as u64 <= self.stack - address
    }

    /// Whether the program may write these bytes.
    pub(crate) fn writable(&self, address: u64, size: usize) -> bool {
        let context = || {
            self.context.type_.context().size().is_none()
                && self.context_access(address, size, true) == Some(ContextAccess::Bytes)
        };
        size == 0 || self.in_stack(address, size) || self.region(address, size, true).is_some() || context()
    }

    /// The packet's bytes.
    pub(crate) fn packet(&self) -> Readable {
        let (start, end) = self.packet;
        // SAFETY: the packet is lent to the execution.
        unsafe { Readable::new(start, (end - start) as usize) }
    }

    /// Stores the two words at `from` into the context, where its type has them; none if it has not.
    pub(crate) fn finalize(&mut self, ecb: Ecb, from: u64) -> Option<()> {
        // Wherever programs may not store themselves.
        if [ecb.id, ecb.probe_id].iter().any(|offset| *offset as usize + 4 > self.context.len) {
            return None;
        }
        for (offset, at) in [(ecb.id, 0), (ecb.probe_id, 4)] {
            // SAFETY: 8 bytes of a value of a map; 4 of the context, which is the execution's.
            unsafe { memory::store32(self.context.address + u64::from(offset), memory::load32(from + at)) };
        }
        Some(())
    }

    /// Gives up what is open.
    pub(crate) fn discard(&mut self) {
        self.discarded += (self.buffers.len() + self.records.len()) as u64;
        self.buffers.clear();
        self.records.clear();
    }

    /// The trap, with where it happened.
    #[cold]
    pub(crate) fn trap(&self, kind: TrapKind) -> Trap {
        let insn = self.pc.saturating_sub(1);
        Trap { program: self.text.name.clone(), insn, line: self.text.line(insn), kind }
    }
}
