//! What the verifier proved of a program, and the instructions that run on the strength of it.

use super::helper::{Body, HelperId};
use super::program::Text;
use super::program_type::{FieldKind, Pointer};
use super::vm::{Code, Inst, make_pairs};
use std::collections::BTreeMap;

/// What the verifier found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Slots of loads of fields of the context that lead elsewhere, with where.
    pub(crate) pointers: BTreeMap<usize, Pointer>,
    /// By slot: whether an instruction there is ever reached.
    pub(crate) reached: Box<[bool]>,
    /// Bytes of a context of plain memory that may be touched; 0 where it has fields.
    pub(crate) context_len: usize,
    /// The first byte that is touched of a context with fields; none where nothing is.
    pub(crate) context_from: Option<u64>,
    /// The most frames that there are at once; those of callbacks count.
    pub(crate) frames: usize,
}

/// What a program has that was proved.
#[derive(Clone)]
pub(crate) struct Proof {
    /// What runs: the program's instructions, slot by slot, but loads of addresses from the context are told as such, and what was
    /// not reached panics rather than to do what nobody looked at.
    pub(crate) fast: Box<[Inst]>,
    /// As in [`Facts`].
    pub(crate) context_len: usize,
    /// As in [`Facts`].
    #[cfg_attr(not(all(feature = "dtrace", feature = "kernel")), allow(dead_code))]
    pub(crate) context_from: Option<u64>,
    /// As in [`Facts`], at least 1.
    pub(crate) frames: usize,
    /// Whether a frame is made zero nevertheless.
    pub(crate) clears_frames: bool,
}

impl Proof {
    pub(crate) fn new(text: &Text, facts: &Facts) -> Self {
        let reached = |slot: usize| facts.reached.get(slot).copied().unwrap_or(false);
        let fast = text.insts.iter().enumerate().map(|(slot, inst)| match facts.pointers.get(&slot) {
            _ if !reached(slot) => Inst::new(Code::Unreachable),
            None => Inst { code: direct(text, inst).unwrap_or(inst.code), ..*inst },
            Some(pointer) if inst.code.may_load_pointer() && has_pointer(text, *pointer) => {
                Inst::load_pointer(inst.dst, *pointer)
            }
            Some(_) => Inst::new(Code::Unreachable),
        });
        let mut fast: Box<[Inst]> = fast.collect();
        make_pairs(&mut fast);
        Self {
            fast,
            context_len: facts.context_len,
            context_from: facts.context_from,
            frames: facts.frames.max(1),
            clears_frames: text.clears_frames && may_show_frames(text, facts),
        }
    }
}

/// What calls a helper without the ceremony, where it is one of those that are called all the time, and of this crate.
fn direct(text: &Text, inst: &Inst) -> Option<Code> {
    let helper = text.called.get(inst.imm as usize).filter(|_| inst.code == Code::CallHelper)?;
    let code = match helper.id {
        HelperId::MAP_LOOKUP_ELEM => Code::Lookup,
        HelperId::BUFFER_RESERVE => Code::BufferReserve,
        HelperId::BUFFER_COMMIT => Code::BufferCommit,
        _ => return None,
    };
    matches!(helper.body, Body::Builtin(_)).then_some(code)
}

/// Whether a field of the context leads there.
fn has_pointer(text: &Text, pointer: Pointer) -> bool {
    text.type_.context().all().iter().any(|field| field.kind == FieldKind::Pointer(pointer))
}

/// Whether anything can come by what is in the program's frames before it is stored. It loads nothing that was not stored; but of
/// what a helper was given to write it may load all, and a program that one of its functions tail-calls, and that was not verified,
/// has its callers' frames above its own.
fn may_show_frames(text: &Text, facts: &Facts) -> bool {
    let main = text.checked.functions().get(1).copied().unwrap_or(text.insts.len());
    let reached = text.insts.iter().enumerate().filter(|(slot, _)| facts.reached.get(*slot) == Some(&true));
    reached.into_iter().any(|(slot, inst)| match inst.code {
        Code::CallHelper => text.called.get(inst.imm as usize).is_none_or(|helper| helper.may_leave_bytes()),
        Code::CallRegister => true,
        Code::TailCall => slot >= main,
        _ => false,
    })
}
