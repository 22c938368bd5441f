//! The loop that runs instructions.

#![allow(unsafe_code)]

use super::execution::{Execution, Span};
use super::inst::{alu, cmp};
use super::pair::pairs;
use super::{Code, Inst, TrapKind, function_handle, function_slot, map_index};
use crate::bpf::helper::{HelperId, status};
use crate::bpf::map::Map;
use crate::bpf::memory::{
    acquire, load8, load16, load32, load64, release, store8, store16, store32, store64, update32, update64,
};
use crate::bpf::program::Text;
use crate::bpf::program_type::ContextAccess;
use std::arch::asm;

/// The registers, and as many more that nothing names: an index of 4 bits is always in bounds.
pub(crate) type Registers = [u64; 16];

/// The end of the frame.
pub(super) const FP: usize = 10;

/// How a run ended.
pub(crate) enum End {
    /// With the function that it started in; with its `r0`.
    Exit(u64),
    /// An unchecked one only: by a tail call of a program that was not verified, which has these registers at its start.
    Unverified(Registers),
}

impl<'r> Execution<'r> {
    /// The instructions of the current program, as they are run.
    ///
    /// # Panics
    /// Without `CHECKED`, if it was not verified.
    fn insts<const CHECKED: bool>(&self) -> &'r [Inst] {
        let text: &'r Text = self.text;
        if CHECKED { &text.insts } else { &text.proof.as_ref().expect("what runs unchecked is verified").fast }
    }

    /// Whether frames of the current program are made zero.
    fn clears_frames<const CHECKED: bool>(&self) -> bool {
        let text: &'r Text = self.text;
        if CHECKED { text.clears_frames } else { text.proof.as_ref().is_none_or(|proof| proof.clears_frames) }
    }

    /// Runs the current program from slot `start` on, with these registers, until the function ends that has as many callers as
    /// `depth` says.
    ///
    /// With `CHECKED` every access is tested. Without it none is.
    ///
    /// # Safety
    /// With `CHECKED` none. Without it all that "Unchecked" in the module's documentation says of verified programs holds of the
    /// current one, and of those whose frames are above: `start` is a slot in which the proof has the program go on, with
    /// registers and frames that are as the proof has them there.
    // What ends a pair may need neither the instruction nor what comes next.
    #[allow(unused_assignments)]
    pub(crate) unsafe fn run<const CHECKED: bool>(
        &mut self,
        start: usize,
        mut regs: Registers,
        depth: usize,
    ) -> Result<End, TrapKind> {
        regs[FP] = self.frame_end();
        let mut text: &'r [Inst] = self.insts::<CHECKED>();
        debug_assert!(start < text.len());
        // SAFETY: a function starts there: in the text.
        let mut pc = unsafe { text.as_ptr().add(start) };
        if CHECKED {
            self.reach_frames();
        }
        if self.clears_frames::<CHECKED>() {
            self.clear_frame();
        }

        loop {
            debug_assert!(text.as_ptr_range().contains(&pc));
            // SAFETY: `Checked::new` lets no jump leave the program and no function run off its end, and `text` has an
            // instruction for each of its slots; returns go behind calls, which are never last. So `pc` is at one of them,
            // and the one behind is at most the text's end.
            let mut inst = unsafe { &*pc };
            // SAFETY: as above.
            pc = unsafe { pc.add(1) };

            macro_rules! slot {
                () => {
                    // SAFETY: both are of the text.
                    unsafe { pc.offset_from_unsigned(text.as_ptr()) }
                };
            }
            macro_rules! go {
                ($slot:expr) => {{
                    let slot: usize = $slot;
                    debug_assert!(slot < text.len());
                    // SAFETY: a slot of the text: the target of a call, or the one behind it.
                    pc = unsafe { text.as_ptr().add(slot) };
                }};
            }
            macro_rules! r {
                ($field:ident) => {
                    // SAFETY: an instruction is made of registers of an `Op`: 0 to 10.
                    *unsafe { regs.get_unchecked_mut(usize::from(inst.$field)) }
                };
            }
            macro_rules! skip {
                () => {
                    // SAFETY: the second slot of this instruction, and what comes behind it, are of the text.
                    pc = unsafe { pc.add(1) };
                };
            }
            // Keeps the compiler from making one of what ends in the same way: to jump there takes longer than to do it.
            macro_rules! apart {
                () => {
                    // SAFETY: a comment, which does nothing.
                    unsafe { asm!(concat!("/* ", line!(), " */"), options(nomem, nostack, preserves_flags)) }
                };
            }
            macro_rules! set {
                ($value:expr) => {{
                    let value = $value;
                    r!(dst) = value;
                    apart!();
                }};
            }
            macro_rules! trap {
                ($kind:expr) => {{
                    self.pc = slot!();
                    return Err($kind);
                }};
            }
            macro_rules! jump {
                () => {{
                    if inst.offset < 0 {
                        match self.fuel.checked_sub(u64::from(inst.offset.unsigned_abs())) {
                            Some(fuel) => self.fuel = fuel,
                            None => trap!(TrapKind::Fuel),
                        }
                    }
                    // SAFETY: as above: of the text.
                    pc = unsafe { pc.offset(inst.offset as isize) };
                    apart!();
                }};
            }
            macro_rules! jump_if {
                ($condition:expr) => {
                    if $condition {
                        jump!();
                    }
                };
            }
            macro_rules! address {
                ($base:ident) => {
                    r!($base).wrapping_add_signed(i64::from(inst.offset))
                };
            }
            macro_rules! load {
                ($load:ident, $size:literal) => {{
                    let address = address!(src);
                    if CHECKED
                        && !self.reads.holds(address, $size)
                        && !self.reach.holds(address, $size)
                        && !self.context.has_number(address, $size)
                    {
                        self.pc = slot!();
                        match self.find(address, $size, false)? {
                            Found::Span(span) => self.reads = span,
                            Found::Once => {}
                            Found::Value(_) if inst.code.is_sign_extending() => {
                                trap!(TrapKind::Load { address, size: $size });
                            }
                            Found::Value(value) => {
                                r!(dst) = value;
                                continue;
                            }
                        }
                    }
                    // SAFETY: a span of what this execution may read holds the bytes, or they are of a number in the context, or
                    // `find` found them; unchecked, by L of the contract.
                    unsafe { $load(address) }
                }};
            }
            macro_rules! store {
                ($store:ident, $size:literal, $value:expr) => {{
                    let address = address!(dst);
                    if CHECKED && !self.writes.holds(address, $size) && !self.reach.holds(address, $size) {
                        self.pc = slot!();
                        if let Found::Span(span) = self.find(address, $size, true)? {
                            self.writes = span;
                        }
                    }
                    let value = $value;
                    // SAFETY: as for loads, of what it may write; unchecked, by S of the contract.
                    unsafe { $store(address, value) }
                    apart!();
                }};
            }
            macro_rules! stack_load {
                ($load:ident) => {{
                    let address = address!(src);
                    // SAFETY: `r10` is the end of the frame, as no instruction writes it, and the bytes are in the frame,
                    // as was found when the program was made ready.
                    unsafe { $load(address) }
                }};
            }
            macro_rules! stack_store {
                ($store:ident, $value:expr) => {{
                    let (address, value) = (address!(dst), $value);
                    // SAFETY: as above.
                    unsafe { $store(address, value) }
                    apart!();
                }};
            }
            macro_rules! in_frame {
                () => {
                    if CHECKED {
                        self.reach_frames();
                    }
                };
            }
            macro_rules! enter {
                ($slot:expr) => {{
                    let target = $slot;
                    self.enter(slot!(), &mut regs)?;
                    if CHECKED {
                        self.reach = self.stack_span();
                    }
                    go!(target);
                    if self.clears_frames::<CHECKED>() {
                        self.clear_frame();
                    }
                }};
            }
            macro_rules! exit {
                () => {{
                    if self.depth() == depth {
                        return Ok(End::Exit(regs[0]));
                    }
                    let slot = self.leave(&mut regs);
                    // The caller's: that of a program that runs unchecked was verified, as it runs so itself.
                    text = self.insts::<CHECKED>();
                    go!(slot);
                    in_frame!();
                }};
            }
            macro_rules! atomic {
                ($update:ident, $size:literal, $mask:literal) => {{
                    let address = address!(dst);
                    if CHECKED && !self.atomic(address, $size, true, true) {
                        trap!(TrapKind::Atomic { address, size: $size });
                    }
                    let (operand, r0) = (r!(src) & $mask, regs[0] & $mask);
                    let number = inst.imm;
                    // SAFETY: `atomic` found that the bytes may be read and written, and that they are aligned; unchecked, by A of
                    // the contract.
                    let old = unsafe {
                        match number {
                            0 | 1 => $update(address, |old| old.wrapping_add(operand)),
                            2 | 3 => $update(address, |old| old | operand),
                            4 | 5 => $update(address, |old| old & operand),
                            6 | 7 => $update(address, |old| old ^ operand),
                            8 => $update(address, |_| operand),
                            _ => $update(address, |old| if old == r0 { operand } else { old }),
                        }
                    };
                    match number {
                        0 | 2 | 4 | 6 => {}
                        9 => regs[0] = old,
                        _ => r!(src) = old,
                    }
                }};
            }

            // What is in pairs, too.
            macro_rules! run {
                (Add64Imm) => {
                    set!(alu::add64(r!(dst), inst.imm))
                };
                (Add64Reg) => {
                    set!(alu::add64(r!(dst), r!(src)))
                };
                (And64Imm) => {
                    set!(alu::and64(r!(dst), inst.imm))
                };
                (Arsh64Imm) => {
                    set!(alu::arsh64(r!(dst), inst.imm))
                };
                (CallHelper) => {{
                    self.pc = slot!();
                    let args = arguments(&regs);
                    let helper = &self.text.called[inst.imm as usize];
                    // SAFETY: checked, none; unchecked, by H of the contract.
                    regs[0] = unsafe { self.call::<CHECKED>(helper, args)? };
                    if CHECKED && helper.closes {
                        (self.reads, self.writes) = (self.reach, self.reach);
                    }
                }};
                (Lookup) => {{
                    self.pc = slot!();
                    match self.text.maps.get(map_index(regs[1])).and_then(Map::array) {
                        Some(array) => {
                            self.fuel = self.fuel.checked_sub(1).ok_or(TrapKind::Fuel)?;
                            // SAFETY: keys of arrays have 4 bytes, which may be read, by H of the contract: only where that is
                            // proved there is such an instruction.
                            let index = unsafe { load32(regs[2]) } as u32;
                            regs[0] = array.address(index, self.cpu.number as usize).unwrap_or(0);
                        }
                        None => {
                            let args = arguments(&regs);
                            // SAFETY: as for other helpers.
                            regs[0] = unsafe { self.call::<CHECKED>(&self.text.called[inst.imm as usize], args)? };
                        }
                    }
                }};
                (BufferReserve) => {{
                    self.pc = slot!();
                    self.fuel = self.fuel.checked_sub(1).ok_or(TrapKind::Fuel)?;
                    regs[0] = status(self.reserve_buffer(regs[2], regs[3], regs[4]));
                }};
                (BufferCommit) => {{
                    self.pc = slot!();
                    self.fuel = self.fuel.checked_sub(1).ok_or(TrapKind::Fuel)?;
                    regs[0] = status(self.commit_buffer(regs[2]));
                }};
                (Exit) => {
                    exit!()
                };
                (JEq64Imm) => {
                    jump_if!(cmp::eq64(r!(dst), inst.imm))
                };
                (JGt64Reg) => {
                    jump_if!(cmp::gt64(r!(dst), r!(src)))
                };
                (JLt64Imm) => {
                    jump_if!(cmp::lt64(r!(dst), inst.imm))
                };
                (JLt64Reg) => {
                    jump_if!(cmp::lt64(r!(dst), r!(src)))
                };
                (JNe64Imm) => {
                    jump_if!(cmp::ne64(r!(dst), inst.imm))
                };
                (JNe64Reg) => {
                    jump_if!(cmp::ne64(r!(dst), r!(src)))
                };
                (Jump) => {
                    jump!()
                };
                (Load32) => {
                    set!(load!(load32, 4))
                };
                (Load64) => {
                    set!(load!(load64, 8))
                };
                (Load8) => {
                    set!(load!(load8, 1))
                };
                (LoadImm64) => {{
                    set!(inst.imm);
                    skip!();
                }};
                (Lsh64Imm) => {
                    set!(alu::lsh64(r!(dst), inst.imm))
                };
                (Mov64Reg) => {
                    set!(r!(src))
                };
                (MovImm) => {
                    set!(inst.imm)
                };
                (Mul64Imm) => {
                    set!(alu::mul64(r!(dst), inst.imm))
                };
                (Mul64Reg) => {
                    set!(alu::mul64(r!(dst), r!(src)))
                };
                (Or64Reg) => {
                    set!(alu::or64(r!(dst), r!(src)))
                };
                (Rsh64Imm) => {
                    set!(alu::rsh64(r!(dst), inst.imm))
                };
                (StackLoad32) => {
                    set!(stack_load!(load32))
                };
                (StackLoad64) => {
                    set!(stack_load!(load64))
                };
                (StackStore32Reg) => {
                    stack_store!(store32, r!(src))
                };
                (StackStore64Reg) => {
                    stack_store!(store64, r!(src))
                };
                (Store64Reg) => {
                    store!(store64, 8, r!(src))
                };
                (Sub64Imm) => {
                    set!(alu::sub64(r!(dst), inst.imm))
                };
                (Sub64Reg) => {
                    set!(alu::sub64(r!(dst), r!(src)))
                };
                (Xor64Reg) => {
                    set!(alu::xor64(r!(dst), r!(src)))
                };
            }
            macro_rules! next {
                () => {
                    // SAFETY: `make_pairs` made a pair of the instruction and of the one behind it, where `pc` is.
                    inst = unsafe { &*pc };
                    // SAFETY: as for the first.
                    pc = unsafe { pc.add(1) };
                };
            }
            macro_rules! dispatch {
                ($($pair:ident = $first:ident $second:ident,)*) => {
                    match inst.code {
                        Code::Add64Reg => run!(Add64Reg),
                        Code::Add64Imm => run!(Add64Imm),
                        Code::Add32Reg => set!(alu::add32(r!(dst), r!(src))),
                        Code::Add32Imm => set!(alu::add32(r!(dst), inst.imm)),
                        Code::Sub64Reg => run!(Sub64Reg),
                        Code::Sub64Imm => run!(Sub64Imm),
                        Code::Sub32Reg => set!(alu::sub32(r!(dst), r!(src))),
                        Code::Sub32Imm => set!(alu::sub32(r!(dst), inst.imm)),
                        Code::Mul64Reg => run!(Mul64Reg),
                        Code::Mul64Imm => run!(Mul64Imm),
                        Code::Mul32Reg => set!(alu::mul32(r!(dst), r!(src))),
                        Code::Mul32Imm => set!(alu::mul32(r!(dst), inst.imm)),
                        Code::Or64Reg => run!(Or64Reg),
                        Code::Or64Imm => set!(alu::or64(r!(dst), inst.imm)),
                        Code::Or32Reg => set!(alu::or32(r!(dst), r!(src))),
                        Code::Or32Imm => set!(alu::or32(r!(dst), inst.imm)),
                        Code::And64Reg => set!(alu::and64(r!(dst), r!(src))),
                        Code::And64Imm => run!(And64Imm),
                        Code::And32Reg => set!(alu::and32(r!(dst), r!(src))),
                        Code::And32Imm => set!(alu::and32(r!(dst), inst.imm)),
                        Code::Xor64Reg => run!(Xor64Reg),
                        Code::Xor64Imm => set!(alu::xor64(r!(dst), inst.imm)),
                        Code::Xor32Reg => set!(alu::xor32(r!(dst), r!(src))),
                        Code::Xor32Imm => set!(alu::xor32(r!(dst), inst.imm)),
                        Code::Lsh64Reg => set!(alu::lsh64(r!(dst), r!(src))),
                        Code::Lsh64Imm => run!(Lsh64Imm),
                        Code::Lsh32Reg => set!(alu::lsh32(r!(dst), r!(src))),
                        Code::Lsh32Imm => set!(alu::lsh32(r!(dst), inst.imm)),
                        Code::Rsh64Reg => set!(alu::rsh64(r!(dst), r!(src))),
                        Code::Rsh64Imm => run!(Rsh64Imm),
                        Code::Rsh32Reg => set!(alu::rsh32(r!(dst), r!(src))),
                        Code::Rsh32Imm => set!(alu::rsh32(r!(dst), inst.imm)),
                        Code::Arsh64Reg => set!(alu::arsh64(r!(dst), r!(src))),
                        Code::Arsh64Imm => run!(Arsh64Imm),
                        Code::Arsh32Reg => set!(alu::arsh32(r!(dst), r!(src))),
                        Code::Arsh32Imm => set!(alu::arsh32(r!(dst), inst.imm)),
                        Code::Div64Reg => set!(alu::div64(r!(dst), r!(src))),
                        Code::Div64Imm => set!(alu::div64(r!(dst), inst.imm)),
                        Code::Div32Reg => set!(alu::div32(r!(dst), r!(src))),
                        Code::Div32Imm => set!(alu::div32(r!(dst), inst.imm)),
                        Code::Mod64Reg => set!(alu::mod64(r!(dst), r!(src))),
                        Code::Mod64Imm => set!(alu::mod64(r!(dst), inst.imm)),
                        Code::Mod32Reg => set!(alu::mod32(r!(dst), r!(src))),
                        Code::Mod32Imm => set!(alu::mod32(r!(dst), inst.imm)),
                        Code::Sdiv64Reg => set!(alu::sdiv64(r!(dst), r!(src))),
                        Code::Sdiv64Imm => set!(alu::sdiv64(r!(dst), inst.imm)),
                        Code::Sdiv32Reg => set!(alu::sdiv32(r!(dst), r!(src))),
                        Code::Sdiv32Imm => set!(alu::sdiv32(r!(dst), inst.imm)),
                        Code::Smod64Reg => set!(alu::smod64(r!(dst), r!(src))),
                        Code::Smod64Imm => set!(alu::smod64(r!(dst), inst.imm)),
                        Code::Smod32Reg => set!(alu::smod32(r!(dst), r!(src))),
                        Code::Smod32Imm => set!(alu::smod32(r!(dst), inst.imm)),
                        Code::JEq64Reg => jump_if!(cmp::eq64(r!(dst), r!(src))),
                        Code::JEq64Imm => run!(JEq64Imm),
                        Code::JEq32Reg => jump_if!(cmp::eq32(r!(dst), r!(src))),
                        Code::JEq32Imm => jump_if!(cmp::eq32(r!(dst), inst.imm)),
                        Code::JNe64Reg => run!(JNe64Reg),
                        Code::JNe64Imm => run!(JNe64Imm),
                        Code::JNe32Reg => jump_if!(cmp::ne32(r!(dst), r!(src))),
                        Code::JNe32Imm => jump_if!(cmp::ne32(r!(dst), inst.imm)),
                        Code::JSet64Reg => jump_if!(cmp::set64(r!(dst), r!(src))),
                        Code::JSet64Imm => jump_if!(cmp::set64(r!(dst), inst.imm)),
                        Code::JSet32Reg => jump_if!(cmp::set32(r!(dst), r!(src))),
                        Code::JSet32Imm => jump_if!(cmp::set32(r!(dst), inst.imm)),
                        Code::JGt64Reg => run!(JGt64Reg),
                        Code::JGt64Imm => jump_if!(cmp::gt64(r!(dst), inst.imm)),
                        Code::JGt32Reg => jump_if!(cmp::gt32(r!(dst), r!(src))),
                        Code::JGt32Imm => jump_if!(cmp::gt32(r!(dst), inst.imm)),
                        Code::JGe64Reg => jump_if!(cmp::ge64(r!(dst), r!(src))),
                        Code::JGe64Imm => jump_if!(cmp::ge64(r!(dst), inst.imm)),
                        Code::JGe32Reg => jump_if!(cmp::ge32(r!(dst), r!(src))),
                        Code::JGe32Imm => jump_if!(cmp::ge32(r!(dst), inst.imm)),
                        Code::JLt64Reg => run!(JLt64Reg),
                        Code::JLt64Imm => run!(JLt64Imm),
                        Code::JLt32Reg => jump_if!(cmp::lt32(r!(dst), r!(src))),
                        Code::JLt32Imm => jump_if!(cmp::lt32(r!(dst), inst.imm)),
                        Code::JLe64Reg => jump_if!(cmp::le64(r!(dst), r!(src))),
                        Code::JLe64Imm => jump_if!(cmp::le64(r!(dst), inst.imm)),
                        Code::JLe32Reg => jump_if!(cmp::le32(r!(dst), r!(src))),
                        Code::JLe32Imm => jump_if!(cmp::le32(r!(dst), inst.imm)),
                        Code::JSgt64Reg => jump_if!(cmp::sgt64(r!(dst), r!(src))),
                        Code::JSgt64Imm => jump_if!(cmp::sgt64(r!(dst), inst.imm)),
                        Code::JSgt32Reg => jump_if!(cmp::sgt32(r!(dst), r!(src))),
                        Code::JSgt32Imm => jump_if!(cmp::sgt32(r!(dst), inst.imm)),
                        Code::JSge64Reg => jump_if!(cmp::sge64(r!(dst), r!(src))),
                        Code::JSge64Imm => jump_if!(cmp::sge64(r!(dst), inst.imm)),
                        Code::JSge32Reg => jump_if!(cmp::sge32(r!(dst), r!(src))),
                        Code::JSge32Imm => jump_if!(cmp::sge32(r!(dst), inst.imm)),
                        Code::JSlt64Reg => jump_if!(cmp::slt64(r!(dst), r!(src))),
                        Code::JSlt64Imm => jump_if!(cmp::slt64(r!(dst), inst.imm)),
                        Code::JSlt32Reg => jump_if!(cmp::slt32(r!(dst), r!(src))),
                        Code::JSlt32Imm => jump_if!(cmp::slt32(r!(dst), inst.imm)),
                        Code::JSle64Reg => jump_if!(cmp::sle64(r!(dst), r!(src))),
                        Code::JSle64Imm => jump_if!(cmp::sle64(r!(dst), inst.imm)),
                        Code::JSle32Reg => jump_if!(cmp::sle32(r!(dst), r!(src))),
                        Code::JSle32Imm => jump_if!(cmp::sle32(r!(dst), inst.imm)),
                        Code::Load8 => run!(Load8),
                        Code::StackLoad8 => set!(stack_load!(load8)),
                        Code::Load16 => set!(load!(load16, 2)),
                        Code::StackLoad16 => set!(stack_load!(load16)),
                        Code::Load32 => run!(Load32),
                        Code::StackLoad32 => run!(StackLoad32),
                        Code::Load64 => run!(Load64),
                        Code::StackLoad64 => run!(StackLoad64),
                        Code::LoadSx8 => set!(load!(load8, 1) as i8 as i64 as u64),
                        Code::StackLoadSx8 => set!(stack_load!(load8) as i8 as i64 as u64),
                        Code::LoadSx16 => set!(load!(load16, 2) as i16 as i64 as u64),
                        Code::StackLoadSx16 => set!(stack_load!(load16) as i16 as i64 as u64),
                        Code::LoadSx32 => set!(load!(load32, 4) as i32 as i64 as u64),
                        Code::StackLoadSx32 => set!(stack_load!(load32) as i32 as i64 as u64),
                        Code::Store8Reg => store!(store8, 1, r!(src)),
                        Code::StackStore8Reg => stack_store!(store8, r!(src)),
                        Code::Store8Imm => store!(store8, 1, inst.imm),
                        Code::StackStore8Imm => stack_store!(store8, inst.imm),
                        Code::Store16Reg => store!(store16, 2, r!(src)),
                        Code::StackStore16Reg => stack_store!(store16, r!(src)),
                        Code::Store16Imm => store!(store16, 2, inst.imm),
                        Code::StackStore16Imm => stack_store!(store16, inst.imm),
                        Code::Store32Reg => store!(store32, 4, r!(src)),
                        Code::StackStore32Reg => run!(StackStore32Reg),
                        Code::Store32Imm => store!(store32, 4, inst.imm),
                        Code::StackStore32Imm => stack_store!(store32, inst.imm),
                        Code::Store64Reg => run!(Store64Reg),
                        Code::StackStore64Reg => run!(StackStore64Reg),
                        Code::Store64Imm => store!(store64, 8, inst.imm),
                        Code::StackStore64Imm => stack_store!(store64, inst.imm),
                        Code::Neg64 => set!(r!(dst).wrapping_neg()),
                        Code::Neg32 => set!(u64::from((r!(dst) as u32).wrapping_neg())),
                        Code::Mov64Reg => run!(Mov64Reg),
                        Code::Mov32Reg => set!(u64::from(r!(src) as u32)),
                        Code::MovImm => run!(MovImm),
                        Code::MovSx8To32 => set!(u64::from(r!(src) as i8 as u32)),
                        Code::MovSx16To32 => set!(u64::from(r!(src) as i16 as u32)),
                        Code::MovSx8To64 => set!(r!(src) as i8 as u64),
                        Code::MovSx16To64 => set!(r!(src) as i16 as u64),
                        Code::MovSx32To64 => set!(r!(src) as i32 as u64),
                        Code::Swap16 => set!(u64::from((r!(dst) as u16).swap_bytes())),
                        Code::Swap32 => set!(u64::from((r!(dst) as u32).swap_bytes())),
                        Code::Swap64 => set!(r!(dst).swap_bytes()),
                        Code::Truncate16 => set!(u64::from(r!(dst) as u16)),
                        Code::Truncate32 => set!(u64::from(r!(dst) as u32)),
                        Code::LoadImm64 => run!(LoadImm64),
                        Code::FunctionAddress => {
                            set!(function_handle(slot!().wrapping_add_signed(inst.imm as isize)));
                            skip!();
                        }
                        Code::Jump => run!(Jump),
                        Code::MayGoto => match self.loops.checked_sub(1) {
                            Some(loops) => self.loops = loops,
                            None => jump!(),
                        },
                        Code::Atomic32 => atomic!(update32, 4, 0xffff_ffff),
                        Code::Atomic64 => atomic!(update64, 8, 0xffff_ffff_ffff_ffff),
                        Code::LoadAcquire => {
                            let (address, size) = (address!(src), inst.imm);
                            if CHECKED && !self.atomic(address, size as usize, true, false) {
                                trap!(TrapKind::Atomic { address, size: size as usize });
                            }
                            set!(match size {
                                1 => load!(load8, 1),
                                2 => load!(load16, 2),
                                4 => load!(load32, 4),
                                _ => load!(load64, 8),
                            });
                            acquire();
                        }
                        Code::StoreRelease => {
                            let (address, size) = (address!(dst), inst.imm);
                            if CHECKED && !self.atomic(address, size as usize, false, true) {
                                trap!(TrapKind::Atomic { address, size: size as usize });
                            }
                            release();
                            match size {
                                1 => store!(store8, 1, r!(src)),
                                2 => store!(store16, 2, r!(src)),
                                4 => store!(store32, 4, r!(src)),
                                _ => store!(store64, 8, r!(src)),
                            }
                        }
                        Code::LoadPacket => match self.load_packet(inst, r!(src)) {
                            Some(value) => regs[0] = value,
                            None => {
                                // The end of the function, as in the kernel.
                                regs[0] = 0;
                                exit!();
                            }
                        },
                        Code::Lookup | Code::BufferReserve | Code::BufferCommit if CHECKED => {
                            unreachable!("that arguments are proved is so of programs that were verified")
                        }
                        Code::Lookup => run!(Lookup),
                        Code::BufferReserve => run!(BufferReserve),
                        Code::BufferCommit => run!(BufferCommit),
                        Code::CallLocal => {
                            enter!(slot!().wrapping_add_signed(inst.offset as isize));
                        }
                        Code::CallHelper => run!(CallHelper),
                        Code::CallRegister => {
                            let callee = r!(src);
                            if let Some(target) = function_slot(callee) {
                                self.pc = slot!();
                                if self.text.checked.functions().binary_search(&target).is_err() {
                                    trap!(TrapKind::CallTarget { target: callee });
                                }
                                enter!(target);
                            } else {
                                self.pc = slot!();
                                let args = arguments(&regs);
                                let id = i32::try_from(callee as i64).map(HelperId);
                                let Some(helper) = id.ok().and_then(|id| self.text.helper(id)) else {
                                    trap!(TrapKind::CallTarget { target: callee });
                                };
                                // SAFETY: as above.
                                regs[0] = unsafe { self.call::<CHECKED>(helper, args)? };
                                in_frame!();
                            }
                        }
                        Code::TailCall => {
                            self.pc = slot!();
                            if self.tail_call::<CHECKED>([regs[1], regs[2], regs[3]], &mut regs[0])? {
                                regs[1] = self.context.address;
                                if self.context.type_.has_length() {
                                    regs[2] = self.context.len as u64;
                                }
                                if !CHECKED && self.text.proof.is_none() {
                                    return Ok(End::Unverified(regs));
                                }
                                text = self.insts::<CHECKED>();
                                go!(0);
                                if self.clears_frames::<CHECKED>() {
                                    self.clear_frame();
                                }
                                in_frame!();
                            }
                        }
                        Code::Exit => run!(Exit),
                        Code::LoadPointer => set!(self.pointer(inst.pointer())),
                        Code::Unresolved => trap!(self.unresolved(slot!() - 1)),
                        Code::Unreachable => {
                            unreachable!("the second half of a 64-bit immediate, or what was proved not to be reached")
                        }
                        $(Code::$pair => {
                            if CHECKED {
                                unreachable!("pairs are of programs that were verified");
                            }
                            run!($first);
                            next!();
                            run!($second);
                        })*
                    }
                };
            }
            pairs!(dispatch);
        }
    }
}

/// `r1` to `r5`, where they are: a copy of all at once would have to wait for the single stores before it.
#[inline(always)]
fn arguments(regs: &Registers) -> &[u64; 5] {
    regs[1..].first_chunk().expect("there are more than 5")
}

/// What was found where a program loads or stores.
enum Found {
    /// Memory that it may touch.
    Span(Span),
    /// Memory of which this access, but perhaps no other, is allowed.
    Once,
    /// No memory: what the load gives.
    Value(u64),
}

impl<'r> Execution<'r> {
    /// What the instruction in a slot needs that is not there.
    #[cold]
    fn unresolved(&self, slot: usize) -> TrapKind {
        TrapKind::Unresolved { reason: self.text.unresolved(slot).unwrap_or_default().to_owned() }
    }

    /// What an access that hit neither what was touched last nor the frame is.
    #[cold]
    fn find(&self, address: u64, size: usize, write: bool) -> Result<Found, TrapKind> {
        let refused = if write { TrapKind::Store { address, size } } else { TrapKind::Load { address, size } };
        // Nothing else lies where the context does.
        if !self.in_context(address) {
            let (start, len) = self.region(address, size, write).ok_or(refused)?;
            return Ok(Span::new(start, len).map_or(Found::Once, Found::Span));
        }
        match self.context_access(address, size, write).ok_or(refused)? {
            ContextAccess::Pointer(pointer) => Ok(Found::Value(self.pointer(pointer))),
            ContextAccess::Bytes if self.context.type_.context().size().is_some() => Ok(Found::Once),
            ContextAccess::Bytes => {
                let hidden = self.context.type_.context().hidden();
                let (start, len) = (self.context.address + hidden, self.context.len as u64 - hidden);
                Ok(Span::new(start, len).map_or(Found::Once, Found::Span))
            }
        }
    }

    /// What a legacy load from the packet gives; none where it is not all there.
    fn load_packet(&self, inst: &Inst, index: u64) -> Option<u64> {
        let index = index as u32 as i32;
        let offset = i64::from(index) + i64::from(inst.offset);
        let offset = u64::try_from(offset).ok()?;
        let len = self.packet.1 - self.packet.0;
        if offset.checked_add(inst.imm)? > len {
            return None;
        }
        let at = self.packet.0 + offset;
        // SAFETY: in the packet, which is the execution's to read.
        Some(unsafe {
            match inst.imm {
                1 => load8(at),
                2 => u64::from((load16(at) as u16).swap_bytes()),
                _ => u64::from((load32(at) as u32).swap_bytes()),
            }
        })
    }
}
