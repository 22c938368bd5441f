//! Why a relocation was not applied.

use super::access::Access;
use super::{Work, access, name};
use crate::bpf::btf::{Btf, BtfError, CoreRelo, CoreReloKind, TypeId};
use std::fmt;
use thiserror::Error;

/// A relocation of a program that was not applied: what it asks for, and why that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreError {
    /// The slot of the instruction.
    pub insn: usize,
    /// What it asks for.
    pub kind: CoreReloKind,
    /// The type of the object, as C has it: `struct task_struct`.
    pub type_: String,
    /// The field (`signal.rlim[3]`) or the enumerator; empty where the type is meant.
    pub part: String,
    /// Why it is not applied.
    pub reason: CoreErrorKind,
}

/// Why a relocation was not applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CoreErrorKind {
    /// The types of the platform were not given.
    #[error("the platform's types are not known")]
    NoTarget,
    /// The platform has no type of this name and kind.
    #[error("the platform has no such type")]
    NoType,
    /// The platform's types of this name and kind are other ones, or lack the part.
    #[error("{}", no_part(*types))]
    NoPart {
        /// How many there are.
        types: usize,
    },
    /// Two of the platform's types answer differently.
    #[error("the platform's types {first} and {second}, both of this name, disagree")]
    Ambiguous {
        /// One.
        first: TypeId,
        /// The other.
        second: TypeId,
    },
    /// What is so on the platform does not fit into the instruction.
    #[error("{value} does not fit into the instruction")]
    TooLarge {
        /// It.
        value: u64,
    },
    /// The field has another size on the platform, and the access cannot be changed to that.
    #[error(
        "it has {local} bytes in the object and {target} on the platform, and the access cannot be changed to that"
    )]
    Resized {
        /// Bytes in the object.
        local: u32,
        /// Bytes on the platform.
        target: u32,
    },
    /// A bit field is accessed without asking for its place, and is elsewhere in its byte, has another width, or is none on one side.
    #[error("the access is made for the bits that the object has, and the platform's are others")]
    BitFieldAccess,
    /// Instructions of this kind have no place for it.
    #[error("an instruction with the opcode {opcode:#04x} has no place for it")]
    Insn {
        /// What is there.
        opcode: u8,
    },
    /// There is no such instruction.
    #[error("there is no such instruction")]
    NoInsn,
    /// The instruction is not what the object's own types make of it.
    #[error("the instruction has {found}, and by the object's own types {wanted}")]
    Value {
        /// What is there.
        found: i64,
        /// What should be.
        wanted: i64,
    },
    /// The instruction does not access the bit field that it should.
    #[error("the access at {offset} has not all of the bit field")]
    BitFieldWord {
        /// Its offset.
        offset: i16,
    },
    /// Another kind than those of the uapi header.
    #[error("kind {kind} of relocations is not known")]
    Kind {
        /// What is there.
        kind: u32,
    },
    /// The way to the part leads nowhere in the object's own types.
    #[error("{access:?} leads to nothing in the object's own types")]
    Access {
        /// What is there.
        access: String,
    },
    /// The type has no name to look it up by.
    #[error("the type has no name")]
    Unnamed,
    /// A name that is too long.
    #[error("the string at {offset} is longer than 512 bytes")]
    Name {
        /// Where it is among the strings.
        offset: u32,
    },
    /// A field that starts within a byte and is no bit field.
    #[error("it starts at bit {bit}, and is no bit field")]
    Unaligned {
        /// From the start of the type.
        bit: u64,
    },
    /// A bit field that no word of 8 bytes or fewer has.
    #[error("a bit field of {bits} bits, of a type with {size} bytes, that is in no word of 8 bytes or fewer")]
    BitField {
        /// Its bits.
        bits: u8,
        /// Bytes of its type.
        size: u32,
    },
    /// A field that is too large to be shifted.
    #[error("{size} bytes, which are not shifted in a register")]
    Shift {
        /// Bytes that it is loaded with.
        size: u32,
    },
    /// More was to be compared than is.
    #[error("to look it up takes more than the {} comparisons that there are", Work::MOST.0)]
    Work,
    /// Types that lead nowhere, or have no size.
    #[error(transparent)]
    Btf(#[from] BtfError),
}

fn no_part(types: usize) -> String {
    match types {
        1 => "the platform's type of this name has no such part".to_owned(),
        _ => format!("none of the platform's {types} types of this name has such a part"),
    }
}

impl CoreError {
    /// The most characters of [`type_`](Self::type_) and of [`part`](Self::part).
    pub const MAX_NAME: usize = 128;

    pub(super) fn new(btf: &Btf, relo: &CoreRelo, reason: CoreErrorKind) -> Self {
        use CoreReloKind as K;
        let part = match relo.kind {
            K::EnumvalExists | K::EnumvalValue => access::enumerator(btf, relo, false).map(|(name, _)| name.to_owned()),
            K::TypeIdLocal | K::TypeIdTarget | K::TypeExists | K::TypeSize | K::TypeMatches => Ok(String::new()),
            // There are no more steps than a way may have.
            _ => Access::of(btf, relo, &mut Work(64)).map(|access| access.text()),
        };
        let part = part.unwrap_or_else(|_| relo.access(btf).to_owned());
        let short = |text: String| text.chars().take(Self::MAX_NAME).collect();
        let type_ = short(name::describe(btf, relo.type_));
        Self { insn: relo.insn, kind: relo.kind, type_, part: short(part), reason }
    }

    /// Whether it is for the platform that the relocation is not applied, and neither for the object nor for what the relocator was
    /// given. The rest of the program may be fine without the instruction.
    pub fn is_of_platform(&self) -> bool {
        use CoreErrorKind as E;
        matches!(self.reason, E::NoType | E::NoPart { .. } | E::TooLarge { .. } | E::Resized { .. } | E::BitFieldAccess)
    }
}

impl fmt::Display for CoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use CoreReloKind as K;
        f.write_str(match self.kind {
            K::FieldByteOffset => "the offset of ",
            K::FieldByteSize | K::TypeSize => "the size of ",
            K::FieldExists | K::TypeExists | K::EnumvalExists | K::TypeMatches => "whether there is ",
            K::FieldSigned => "the sign of ",
            K::FieldLshiftU64 | K::FieldRshiftU64 => "the bits of ",
            K::TypeIdLocal | K::TypeIdTarget => "the number of ",
            K::EnumvalValue => "the value of ",
            K::Other(_) => "what is asked of ",
        })?;
        if !self.part.is_empty() {
            write!(f, "{} in ", self.part)?;
        }
        write!(f, "{}: {}", self.type_, self.reason)
    }
}

impl std::error::Error for CoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.reason)
    }
}
