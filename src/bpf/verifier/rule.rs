//! Rules that can be switched off by their names, to see that a test notices.
//!
//! With `--cfg perfring_mutants` the variable `PERFRING_MUTANT` names the rule that does not hold: one of those below, or a
//! [`Refusal`](super::Refusal), which is then not made. Without, all hold, and nothing is asked.
//!
//! `more-than-the-kernel` is what is known of numbers here, and not to the verifier of Linux 6.18.

/// Whether the rule of this name holds.
macro_rules! rule {
    ($name:literal) => {{
        #[cfg(perfring_mutants)]
        let holds = $crate::bpf::verifier::rule::holds($name);
        #[cfg(not(perfring_mutants))]
        let holds = true;
        holds
    }};
}
pub(super) use rule;

#[cfg(perfring_mutants)]
pub(super) use switched::{holds, without};

#[cfg(perfring_mutants)]
mod switched {
    use crate::bpf::insn::Op;
    use crate::bpf::verifier::error::Refusal;
    use crate::bpf::verifier::state::{State, Value};
    use crate::bpf::verifier::walk::Next;
    use std::sync::LazyLock;

    static OFF: LazyLock<String> = LazyLock::new(|| std::env::var("PERFRING_MUTANT").unwrap_or_default());

    pub(in crate::bpf::verifier) fn holds(name: &str) -> bool {
        *OFF != name
    }

    /// Goes on where the refusal is switched off, as if the instruction were fine; else gives it back.
    pub(in crate::bpf::verifier) fn without(
        before: &State,
        state: &mut State,
        op: &Op,
        refusal: Refusal,
    ) -> Result<Next, Refusal> {
        let name = format!("{refusal:?}");
        let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        if *OFF != name {
            return Err(refusal);
        }
        *state = before.clone();
        match *op {
            Op::Exit | Op::Jump { .. } | Op::MayGoto { .. } => return Ok(Next::End),
            Op::Call(_) | Op::LoadPacket { .. } => {
                state.clobber();
                state.set(0, Value::unknown());
            }
            Op::Alu { dst, .. }
            | Op::Neg { dst, .. }
            | Op::Mov { dst, .. }
            | Op::MovSx { dst, .. }
            | Op::ByteSwap { dst, .. }
            | Op::Load { dst, .. }
            | Op::LoadAcquire { dst, .. }
            | Op::LoadImm64 { dst, .. } => state.set(dst.number(), Value::unknown()),
            Op::Atomic { .. } | Op::Store { .. } | Op::StoreRelease { .. } | Op::JumpIf { .. } => {}
        }
        state.pc += op.slots();
        Ok(Next::On)
    }
}
