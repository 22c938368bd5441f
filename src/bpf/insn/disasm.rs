//! Instructions as text, in the syntax of the kernel verifier's log.

use super::{AluOp, AtomicOp, ByteSwap, Callee, Code, Imm64, JmpOp, Op, Operand, Reg, Size, Width, helper_name};
use std::fmt::{self, Display as _};

/// The register; `w` is its lower half.
struct Half(Width, Reg);

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.0 == Width::W32 { 'w' } else { 'r' }, self.1.number())
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Half(Width::W64, *self).fmt(f)
    }
}

impl AluOp {
    /// Each operation and its text.
    pub(super) const TEXTS: [(Self, &'static str); 13] = [
        (Self::Add, "+="),
        (Self::Sub, "-="),
        (Self::Mul, "*="),
        (Self::Div, "/="),
        (Self::Sdiv, "s/="),
        (Self::Mod, "%="),
        (Self::Smod, "s%="),
        (Self::Or, "|="),
        (Self::And, "&="),
        (Self::Xor, "^="),
        (Self::Lsh, "<<="),
        (Self::Rsh, ">>="),
        (Self::Arsh, "s>>="),
    ];
}

impl JmpOp {
    /// Each comparison and its text.
    pub(super) const TEXTS: [(Self, &'static str); 11] = [
        (Self::Eq, "=="),
        (Self::Ne, "!="),
        (Self::Set, "&"),
        (Self::Gt, ">"),
        (Self::Ge, ">="),
        (Self::Lt, "<"),
        (Self::Le, "<="),
        (Self::Sgt, "s>"),
        (Self::Sge, "s>="),
        (Self::Slt, "s<"),
        (Self::Sle, "s<="),
    ];
}

/// The text of an operation; every one has one.
fn text<T: Copy + PartialEq>(texts: &[(T, &'static str)], op: T) -> &'static str {
    texts.iter().find(|(known, _)| *known == op).map_or("?", |(_, text)| text)
}

/// An operand of anything but a jump: the kernel has hexadecimal numbers there.
fn operand(f: &mut fmt::Formatter<'_>, width: Width, operand: Operand) -> fmt::Result {
    match operand {
        Operand::Reg(reg) => Half(width, reg).fmt(f),
        Operand::Imm(imm) => write!(f, "{imm}"),
    }
}

/// `(u64 *)(r1 +8)`
struct Place {
    signed: bool,
    size: Size,
    base: Reg,
    offset: i16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.signed { 's' } else { 'u' };
        write!(f, "({sign}{} *)({} {:+})", self.size.bits(), self.base, self.offset)
    }
}

const fn place(size: Size, base: Reg, offset: i16) -> Place {
    Place { signed: false, size, base, offset }
}

/// Where a jump or a call leads.
enum Target {
    Offset(i32),
    Jump(usize),
    Function(usize),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => write!(f, "pc{offset:+}"),
            Self::Jump(slot) => write!(f, "L{slot}"),
            Self::Function(slot) => write!(f, "F{slot}"),
        }
    }
}

/// Names of helpers by their numbers.
type Names<'a> = &'a dyn Fn(i32) -> Option<&'a str>;

fn imm64(f: &mut fmt::Formatter<'_>, imm: Imm64, label: Option<&Target>) -> fmt::Result {
    match imm {
        Imm64::Value(value) => write!(f, "{value:#x}"),
        Imm64::MapFd(fd) => write!(f, "map[fd:{fd}]"),
        Imm64::MapFdValue { fd, offset } => write!(f, "map[fd:{fd}][0]+{offset}"),
        Imm64::Variable { id, btf_fd: 0 } => write!(f, "btf[id:{id}]"),
        Imm64::Variable { id, btf_fd } => write!(f, "btf[id:{id},fd:{btf_fd}]"),
        Imm64::Function(offset) => match label {
            Some(label) => write!(f, "subprog[{label}]"),
            None => write!(f, "subprog[{offset:+}]"),
        },
        Imm64::MapIndex(index) => write!(f, "map[idx:{index}]"),
        Imm64::MapIndexValue { index, offset } => write!(f, "map[idx:{index}][0]+{offset}"),
    }
}

fn write_op(f: &mut fmt::Formatter<'_>, op: &Op, names: Names<'_>, label: Option<Target>) -> fmt::Result {
    let to = |offset: i32| match &label {
        Some(Target::Jump(slot)) => Target::Jump(*slot),
        Some(Target::Function(slot)) => Target::Function(*slot),
        Some(Target::Offset(_)) | None => Target::Offset(offset),
    };
    match *op {
        Op::Alu { width, op, dst, src } => {
            write!(f, "{} {} ", Half(width, dst), text(&AluOp::TEXTS, op))?;
            operand(f, width, src)
        }
        Op::Neg { width, dst } => write!(f, "{0} = -{0}", Half(width, dst)),
        Op::Mov { width, dst, src } => {
            write!(f, "{} = ", Half(width, dst))?;
            operand(f, width, src)
        }
        Op::MovSx { width, from, dst, src } => {
            write!(f, "{} = (s{}){}", Half(width, dst), from.bits(), Half(width, src))
        }
        Op::ByteSwap { kind, size, dst } => {
            let name = match kind {
                ByteSwap::ToLe => "le",
                ByteSwap::ToBe => "be",
                ByteSwap::Swap => "bswap",
            };
            write!(f, "{dst} = {name}{} {dst}", size.bits())
        }
        Op::LoadImm64 { dst, imm } => {
            write!(f, "{dst} = ")?;
            imm64(f, imm, label.as_ref())?;
            f.write_str(" ll")
        }
        Op::Load { size, signed, dst, src, offset } => {
            write!(f, "{dst} = *{}", Place { signed, size, base: src, offset })
        }
        Op::Store { size, dst, offset, src } => {
            write!(f, "*{} = ", place(size, dst, offset))?;
            operand(f, Width::W64, src)
        }
        Op::Atomic { op, size, dst, offset, src } => {
            let place = place(size, dst, offset);
            let (name, simple) = match op {
                AtomicOp::Add { fetch } => ("fetch_add", (!fetch).then_some("+=")),
                AtomicOp::Or { fetch } => ("fetch_or", (!fetch).then_some("|=")),
                AtomicOp::And { fetch } => ("fetch_and", (!fetch).then_some("&=")),
                AtomicOp::Xor { fetch } => ("fetch_xor", (!fetch).then_some("^=")),
                AtomicOp::Xchg => ("xchg", None),
                AtomicOp::Cmpxchg => ("cmpxchg", None),
            };
            let bits = if size == Size::DW { "64" } else { "" };
            match (simple, op) {
                (Some(simple), _) => write!(f, "lock *{place} {simple} {src}"),
                (None, AtomicOp::Cmpxchg) => write!(f, "r0 = atomic{bits}_{name}({place}, r0, {src})"),
                (None, _) => write!(f, "{src} = atomic{bits}_{name}({place}, {src})"),
            }
        }
        Op::LoadAcquire { size, dst, src, offset } => write!(f, "{dst} = load_acquire({})", place(size, src, offset)),
        Op::StoreRelease { size, dst, offset, src } => write!(f, "store_release({}, {src})", place(size, dst, offset)),
        Op::LoadPacket { size, index: Some(index), offset } => {
            write!(f, "r0 = *(u{} *)skb[{index} + {offset}]", size.bits())
        }
        Op::LoadPacket { size, index: None, offset } => write!(f, "r0 = *(u{} *)skb[{offset}]", size.bits()),
        Op::Jump { offset, long } => {
            let name = if long || i16::try_from(offset).is_err() { "gotol" } else { "goto" };
            write!(f, "{name} {}", to(offset))
        }
        Op::JumpIf { width, op, dst, src, offset } => {
            write!(f, "if {} {} ", Half(width, dst), text(&JmpOp::TEXTS, op))?;
            match src {
                Operand::Reg(src) => Half(width, src).fmt(f)?,
                Operand::Imm(imm) => write!(f, "{imm:#x}")?,
            }
            write!(f, " goto {}", to(offset.into()))
        }
        Op::MayGoto { offset } => write!(f, "may_goto {}", to(offset.into())),
        Op::Call(Callee::Helper(number)) => write!(f, "call {}#{number}", names(number).unwrap_or("unknown")),
        Op::Call(Callee::Local(offset)) => write!(f, "call {}", to(offset)),
        Op::Call(Callee::Kfunc { id, btf: 0 }) => write!(f, "call kfunc[id:{id}]"),
        Op::Call(Callee::Kfunc { id, btf }) => write!(f, "call kfunc[id:{id},btf:{btf}]"),
        Op::Call(Callee::Register(reg)) => write!(f, "callx {reg}"),
        Op::Exit => f.write_str("exit"),
    }
}

/// As the kernel's verifier writes it into its log, and [`assemble`](super::assemble) reads it.
///
/// The kernel has no text for everything. A 64-bit immediate ends in `ll` here, as llvm has it, since `r1 = 0x5` may be either
/// size; one that is no number is `map[fd:5]`, `map[fd:5][0]+8`, `map[idx:5]`, `map[idx:5][0]+8`, `btf[id:5]`,
/// `btf[id:5,fd:3]` or `subprog[+5]`, all with ` ll`. A kfunc is `kfunc[id:5]` or `kfunc[id:5,btf:1]`.
///
/// ```
/// use perfring::bpf::insn::{Op, Reg, Size};
///
/// let op = Op::Load { size: Size::DW, signed: false, dst: Reg::R1, src: Reg::R10, offset: -8 };
/// assert_eq!(op.to_string(), "r1 = *(u64 *)(r10 -8)");
/// ```
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_op(f, self, &helper_name, None)
    }
}

/// Displays a program, an instruction a line, as the kernel's log does: index, opcode, text.
///
/// ```
/// use perfring::bpf::insn::{Code, CodeOptions, Listing, assemble};
///
/// let code = Code::new(assemble("r0 = 0\nloop: r0 += 1\nif r0 < 0x5 goto loop\nexit")?, CodeOptions::default())?;
/// assert_eq!(
///     Listing::new(&code).to_string(),
///     "0: (b7) r0 = 0\n1: (07) r0 += 1\n2: (a5) if r0 < 0x5 goto pc-2\n3: (95) exit\n",
/// );
/// assert!(Listing::new(&code).with_labels().to_string().contains("L1:\n1: (07) r0 += 1\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Listing<'a> {
    code: &'a Code,
    names: Names<'a>,
    labels: bool,
}

impl<'a> Listing<'a> {
    /// Displays `code`, with the uapi's names of helpers, and distances for targets.
    pub fn new(code: &'a Code) -> Self {
        Self { code, names: &|number| helper_name(number), labels: false }
    }

    /// Takes names of helpers from `names`; those that it does not have are `unknown`.
    #[must_use]
    pub fn with_names(self, names: &'a dyn Fn(i32) -> Option<&'a str>) -> Self {
        Self { names, ..self }
    }

    /// Puts labels before targets of jumps (`L` and the index) and before functions (`F`), and their names where they are
    /// jumped to, called, or their address is taken.
    #[must_use]
    pub fn with_labels(self) -> Self {
        Self { labels: true, ..self }
    }

    fn label(&self, at: usize, op: &Op) -> Option<Target> {
        let target = if self.labels { self.code.target(at)? } else { return None };
        Some(if op.jump().is_some() { Target::Jump(target) } else { Target::Function(target) })
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut targets: Vec<usize> = Vec::new();
        if self.labels {
            targets = self
                .code
                .iter()
                .filter(|(_, op)| op.jump().is_some())
                .filter_map(|(at, _)| self.code.target(at))
                .collect();
            targets.sort_unstable();
            targets.dedup();
        }
        for (at, op) in self.code.iter() {
            if self.labels {
                if self.code.functions().binary_search(&at).is_ok() {
                    writeln!(f, "{}:", Target::Function(at))?;
                }
                if targets.binary_search(&at).is_ok() {
                    writeln!(f, "{}:", Target::Jump(at))?;
                }
            }
            write!(f, "{at}: ({:02x}) ", self.code.insns()[at].opcode)?;
            write_op(f, op, self.names, self.label(at, op))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").field("code", self.code).field("labels", &self.labels).finish_non_exhaustive()
    }
}
