//! A whole program, decoded, whose jumps and calls lead to instructions.

use super::{Callee, Imm64, Insn, InsnError, Op};
use thiserror::Error;

/// What a program may have that not every platform takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeOptions {
    /// Calls through registers, `callx`.
    pub callx: bool,
}

/// A program that has no sound structure: which instruction is at fault, and why.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodeError {
    /// There is no instruction.
    #[error("there is no instruction")]
    Empty,
    /// There are more than [`Code::MAX_LEN`] slots.
    #[error("{len} instructions are more than {}", Code::MAX_LEN)]
    TooLong {
        /// Slots that there are.
        len: usize,
    },
    /// An instruction is not defined.
    #[error(transparent)]
    Insn(#[from] InsnError),
    /// A call through a register, which was not asked for.
    #[error("instruction {at}: calls through registers are not allowed")]
    Callx {
        /// Index.
        at: usize,
    },
    /// A jump leads out of the program.
    #[error("instruction {at}: jumps to {target}, out of the program")]
    JumpOutside {
        /// Index.
        at: usize,
        /// Where the jump leads.
        target: i64,
    },
    /// A jump leads to the second slot of a wide instruction.
    #[error("instruction {at}: jumps to {target}, into a wide instruction")]
    JumpIntoWide {
        /// Index.
        at: usize,
        /// Where the jump leads.
        target: usize,
    },
    /// A jump leads out of its function.
    #[error("instruction {at}: jumps to {target}, out of the function at {function}")]
    JumpOutOfFunction {
        /// Index.
        at: usize,
        /// Where the jump leads.
        target: usize,
        /// Where the function starts.
        function: usize,
    },
    /// A function that is called, or whose address is taken, is out of the program.
    #[error("instruction {at}: a function at {target}, out of the program")]
    FunctionOutside {
        /// Index.
        at: usize,
        /// Where the function would be.
        target: i64,
    },
    /// A function that is called, or whose address is taken, starts at the second slot of a wide instruction.
    #[error("instruction {at}: a function at {target}, in a wide instruction")]
    FunctionIntoWide {
        /// Index.
        at: usize,
        /// Where the function would be.
        target: usize,
    },
    /// The last instruction of a function is neither `exit` nor an unconditional jump.
    #[error("instruction {at}: the function at {function} ends with it, and it is neither exit nor goto")]
    FallsThrough {
        /// Index.
        at: usize,
        /// Where the function starts.
        function: usize,
    },
}

impl CodeError {
    /// The slot of the instruction at fault; none where it is the whole program.
    pub fn insn(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::TooLong { .. } => None,
            Self::Insn(error) => Some(error.at()),
            Self::Callx { at }
            | Self::JumpOutside { at, .. }
            | Self::JumpIntoWide { at, .. }
            | Self::JumpOutOfFunction { at, .. }
            | Self::FunctionOutside { at, .. }
            | Self::FunctionIntoWide { at, .. }
            | Self::FallsThrough { at, .. } => Some(*at),
        }
    }
}

/// A whole program: every instruction defined, every jump and call to an instruction.
///
/// It consists of functions: one starts at slot 0, one at every slot that is called or whose address is taken, and each goes
/// to where the next starts. Jumps stay in their function, and none runs into the next.
///
/// ```
/// use perfring::bpf::insn::{Code, CodeOptions, Insn, Op};
///
/// let insns = Insn::parse(&[0xb7, 0, 0, 0, 7, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])?;
/// let code = Code::new(insns, CodeOptions::default())?;
/// assert_eq!(code.op(1), Some(&Op::Exit));
/// assert_eq!(code.functions(), [0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    insns: Vec<Insn>,
    /// By slot; none for the second of a wide instruction.
    ops: Vec<Option<Op>>,
    /// Where functions start, ascending, without duplicates. 0 is the first.
    functions: Vec<usize>,
}

impl Code {
    /// The slots that a program may have.
    pub const MAX_LEN: usize = 1_000_000;

    /// Checks a program.
    ///
    /// # Errors
    ///
    /// The first of: no instruction or too many; one that is not defined, or is a `callx` that was not asked for; a jump or a
    /// function that is not at an instruction; a function that ends with neither `exit` nor a jump, or is jumped out of.
    pub fn new(insns: Vec<Insn>, options: CodeOptions) -> Result<Self, CodeError> {
        if insns.is_empty() {
            return Err(CodeError::Empty);
        }
        if insns.len() > Self::MAX_LEN {
            return Err(CodeError::TooLong { len: insns.len() });
        }
        let mut ops = Vec::with_capacity(insns.len());
        while ops.len() < insns.len() {
            let at = ops.len();
            let op = Op::decode(&insns, at)?;
            if matches!(op, Op::Call(Callee::Register(_))) && !options.callx {
                return Err(CodeError::Callx { at });
            }
            ops.push(Some(op));
            if op.slots() == 2 {
                ops.push(None);
            }
        }
        let mut code = Self { insns, ops, functions: vec![0] };
        for (at, op) in code.iter() {
            if let Some(offset) = op.jump() {
                code.check_jump(at, offset)?;
            }
        }
        code.functions = code.find_functions()?;
        code.check_functions()?;
        Ok(code)
    }

    fn check_jump(&self, at: usize, offset: i32) -> Result<(), CodeError> {
        let target = behind(at, offset);
        match self.slot(target) {
            Some((_, Some(_))) => Ok(()),
            Some((target, None)) => Err(CodeError::JumpIntoWide { at, target }),
            None => Err(CodeError::JumpOutside { at, target }),
        }
    }

    fn find_functions(&self) -> Result<Vec<usize>, CodeError> {
        let mut starts = vec![0];
        for (at, op) in self.iter() {
            let Some(offset) = op.function() else { continue };
            let target = behind(at, offset);
            match self.slot(target) {
                Some((target, Some(_))) => starts.push(target),
                Some((target, None)) => return Err(CodeError::FunctionIntoWide { at, target }),
                None => return Err(CodeError::FunctionOutside { at, target }),
            }
        }
        starts.sort_unstable();
        starts.dedup();
        Ok(starts)
    }

    fn check_functions(&self) -> Result<(), CodeError> {
        let ends = self.functions.iter().skip(1).copied().chain([self.len()]);
        for (&function, end) in self.functions.iter().zip(ends) {
            let mut last = (function, None);
            for (at, op) in self.iter_in(function, end) {
                last = (at, Some(op));
                let Some(offset) = op.jump() else { continue };
                if let Some((target, _)) = self.slot(behind(at, offset))
                    && !(function..end).contains(&target)
                {
                    return Err(CodeError::JumpOutOfFunction { at, target, function });
                }
            }
            let (at, op) = last;
            if !matches!(op, Some(Op::Exit | Op::Jump { .. })) {
                return Err(CodeError::FallsThrough { at, function });
            }
        }
        Ok(())
    }

    /// The slot of this index, and what starts in it.
    fn slot(&self, at: i64) -> Option<(usize, Option<&Op>)> {
        let at = usize::try_from(at).ok()?;
        Some((at, self.ops.get(at)?.as_ref()))
    }

    fn iter_in(&self, start: usize, end: usize) -> impl DoubleEndedIterator<Item = (usize, &Op)> {
        let ops = self.ops.get(start..end).unwrap_or_default();
        ops.iter().enumerate().filter_map(move |(at, op)| Some((start + at, op.as_ref()?)))
    }

    /// Every slot, as encoded.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// What the instruction in slot `at` means; none for the second slot of a wide one, and behind the end.
    #[inline]
    pub fn op(&self, at: usize) -> Option<&Op> {
        self.ops.get(at)?.as_ref()
    }

    /// Every instruction, with the index of its (first) slot.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &Op)> {
        self.iter_in(0, self.len())
    }

    /// The slots where functions start, ascending; 0 is the first.
    pub fn functions(&self) -> &[usize] {
        &self.functions
    }

    /// Where the function of slot `at` starts; none behind the end.
    pub fn function_of(&self, at: usize) -> Option<usize> {
        if at >= self.len() {
            return None;
        }
        let starts = self.functions.partition_point(|&start| start <= at);
        self.functions.get(starts.checked_sub(1)?).copied()
    }

    /// The slot to which the instruction in slot `at` jumps, or where the function starts that it calls or takes the address
    /// of; none of other instructions.
    pub fn target(&self, at: usize) -> Option<usize> {
        let op = self.op(at)?;
        let (target, _) = self.slot(behind(at, op.jump().or_else(|| op.function())?))?;
        Some(target)
    }

    /// The number of slots.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.insns.len()
    }
}

/// The slot that is so many behind the one behind `at`.
fn behind(at: usize, offset: i32) -> i64 {
    // An index is at most `MAX_LEN`.
    at as i64 + 1 + i64::from(offset)
}

impl Op {
    /// Where it jumps, if it does: slots from the one behind this one.
    pub const fn jump(&self) -> Option<i32> {
        match *self {
            Self::Jump { offset, .. } => Some(offset),
            Self::JumpIf { offset, .. } | Self::MayGoto { offset } => Some(offset as i32),
            _ => None,
        }
    }

    /// Where the function starts that it calls, or takes the address of: slots from the one behind its first.
    pub const fn function(&self) -> Option<i32> {
        match *self {
            Self::Call(Callee::Local(offset)) | Self::LoadImm64 { imm: Imm64::Function(offset), .. } => Some(offset),
            _ => None,
        }
    }
}
