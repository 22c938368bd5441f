//! The kinds of types.

use std::fmt;

/// The number of a type: 0 is `void`, the first one that is described is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`.
    pub const VOID: Self = Self(0);
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a type is, without what it is made of: `BTF_KIND_*` of the uapi header `linux/btf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of the uapi header")]
#[non_exhaustive]
pub enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

/// Who may refer to a function or a variable: `BTF_FUNC_*` and `BTF_VAR_*` of the uapi header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Linkage {
    /// Its own file.
    Static,
    /// Every file.
    Global,
    /// It is in another file.
    Extern,
    /// A number that is not known.
    Other(u32),
}

impl From<u32> for Linkage {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Static,
            1 => Self::Global,
            2 => Self::Extern,
            other => Self::Other(other),
        }
    }
}

/// A member of a struct or union, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawMember {
    pub(super) name: u32,
    pub(super) type_: TypeId,
    /// With the width in the upper 8 bits where the type says so.
    pub(super) offset: u32,
}

/// The members of a struct or union; [`Btf::members`](super::Btf::members) tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    pub(super) list: Vec<RawMember>,
    pub(super) bit_fields: bool,
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Empty for one without a name.
    pub name: &'a str,
    /// Its type.
    pub type_: TypeId,
    /// Bits from the start of the struct.
    pub bit_offset: u32,
    /// The bits of a bit field; none for what is none.
    pub bits: Option<u8>,
}

/// An enumerator; [`Btf::enumerator_name`](super::Btf::enumerator_name) tells its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumerator {
    pub(super) name: u32,
    /// The value: of 64 bits where the type is unsigned and that large.
    pub value: i128,
}

/// A parameter of a function; [`Btf::param_name`](super::Btf::param_name) tells its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    pub(super) name: u32,
    /// Its type; `void` for the last of a function that takes any number.
    pub type_: TypeId,
}

/// A variable of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionVar {
    /// A [`Type::Var`].
    pub var: TypeId,
    /// Bytes from the section's start. Compilers leave 0 here; symbols say it.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// A type; `linux/btf.h` and the kernel's documentation of BTF describe them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Type {
    /// `void`: type 0.
    Void,
    /// An integer.
    Int {
        /// Bytes.
        size: u32,
        /// Bits of the value.
        bits: u8,
        /// Where they start.
        offset: u8,
        /// Whether it is signed.
        signed: bool,
        /// Whether it is a character.
        char_: bool,
        /// Whether it is a truth value.
        bool_: bool,
    },
    /// A pointer.
    Ptr {
        /// To what.
        target: TypeId,
    },
    /// An array.
    Array {
        /// Of what.
        element: TypeId,
        /// The type of its index.
        index: TypeId,
        /// Elements.
        len: u32,
    },
    /// A struct.
    Struct {
        /// Bytes.
        size: u32,
        /// Members.
        members: Members,
    },
    /// A union.
    Union {
        /// Bytes.
        size: u32,
        /// Members.
        members: Members,
    },
    /// An enumeration (`BTF_KIND_ENUM`, and `BTF_KIND_ENUM64` where `wide`).
    Enum {
        /// Bytes.
        size: u32,
        /// Whether the values are signed.
        signed: bool,
        /// Whether its values are stored with 64 bits.
        wide: bool,
        /// Enumerators.
        values: Vec<Enumerator>,
    },
    /// A struct or union that is described elsewhere.
    Fwd {
        /// Whether it is a union.
        union_: bool,
    },
    /// Another name.
    Typedef {
        /// Of what.
        target: TypeId,
    },
    /// `volatile`
    Volatile {
        /// What is.
        target: TypeId,
    },
    /// `const`
    Const {
        /// What is.
        target: TypeId,
    },
    /// `restrict`
    Restrict {
        /// What is.
        target: TypeId,
    },
    /// A function.
    Func {
        /// A [`Type::FuncProto`].
        proto: TypeId,
        /// Who may call it.
        linkage: Linkage,
    },
    /// What a function takes and returns.
    FuncProto {
        /// What it returns.
        returns: TypeId,
        /// What it takes.
        params: Vec<Param>,
    },
    /// A variable.
    Var {
        /// Its type.
        type_: TypeId,
        /// Who may refer to it.
        linkage: Linkage,
    },
    /// A section of variables; its name is the section's.
    Datasec {
        /// Bytes. Compilers leave 0 here; the section says it.
        size: u32,
        /// Variables.
        vars: Vec<SectionVar>,
    },
    /// A number with a floating point.
    Float {
        /// Bytes.
        size: u32,
    },
    /// An attribute of a declaration; its name is the attribute's.
    DeclTag {
        /// What has it.
        target: TypeId,
        /// Which member or parameter; none for the whole.
        component: Option<u32>,
    },
    /// An attribute of a type; its name is the attribute's.
    TypeTag {
        /// What has it.
        target: TypeId,
    },
}

impl Type {
    /// What it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Void => Kind::Void,
            Self::Int { .. } => Kind::Int,
            Self::Ptr { .. } => Kind::Ptr,
            Self::Array { .. } => Kind::Array,
            Self::Struct { .. } => Kind::Struct,
            Self::Union { .. } => Kind::Union,
            Self::Enum { wide: false, .. } => Kind::Enum,
            Self::Enum { wide: true, .. } => Kind::Enum64,
            Self::Fwd { .. } => Kind::Fwd,
            Self::Typedef { .. } => Kind::Typedef,
            Self::Volatile { .. } => Kind::Volatile,
            Self::Const { .. } => Kind::Const,
            Self::Restrict { .. } => Kind::Restrict,
            Self::Func { .. } => Kind::Func,
            Self::FuncProto { .. } => Kind::FuncProto,
            Self::Var { .. } => Kind::Var,
            Self::Datasec { .. } => Kind::Datasec,
            Self::Float { .. } => Kind::Float,
            Self::DeclTag { .. } => Kind::DeclTag,
            Self::TypeTag { .. } => Kind::TypeTag,
        }
    }
}
