//! CO-RE: programs that are fitted to the types of the platform that they run on ("compile once, run everywhere").
//!
//! An object says of instructions which part of which type they were compiled for (`struct bpf_core_relo` of the uapi header
//! `linux/bpf.h`). A [`Relocator`] looks the part up among the types of the platform, and puts into the instruction what is so there:
//!
//! | of | there are |
//! |---|---|
//! | a field | offset, size, sign, the shifts that take a bit field out of its word, and whether there is one |
//! | a type | its size, its number, whether there is one, and whether there is one that matches in every part |
//! | an enumerator | its value, and whether there is one |
//!
//! # What is the same type
//!
//! Types are looked up by name and kind. What follows `___` in a name is a *flavour*, and does not count: `struct file___old` stands for
//! `struct file`. An enumeration of 64 bits may stand for one of 32.
//!
//! A field is looked up by the names on the way to it, through members without a name wherever they are, and by indices. On both sides it
//! is a struct or union, or both times a pointer, a floating-point number, an integer (of any size and sign), an enumeration of the same name, or an
//! array of what is the same in this sense. Of types that are asked for as a whole only the shape has to be the same: names, sizes and
//! members do not count. What *matches* is compared in full: sizes and signs of numbers, lengths of arrays, the members that the object
//! has, by name, and its enumerators; behind pointers names alone.
//!
//! Several types of the platform may have the name. Those that lack the part do not count; the others have to agree, or it is an
//! error.
//!
//! # What is not there
//!
//! Questions for existence, and for the size and the number of a type, are answered with 0. Whatever else is not there, or cannot be put into the instruction, is an error for
//! which [`CoreError::is_of_platform`] holds. A [`Loader`](crate::bpf::Loader) loads the program nevertheless: the verifier refuses it if
//! the instruction can be reached, and the interpreter stops it there. So a program may ask first.
//!
//! # What is patched
//!
//! - Immediates of arithmetic and of 64-bit loads get the value.
//! - Loads and stores get the offset. Where the field is an integer of another size, a load becomes one of that size if the integer is
//!   unsigned on both sides, or signed where the load extends the sign or has all 8 bytes; a store becomes a narrower one, and a wider one only if it stores a
//!   number that is known and not negative, as what is above the narrower value in a register is not known. (libbpf takes all
//!   unsigned ones.) Pointers have 8 bytes.
//! - A load of a field of whose shifts the program asks, too, is taken for one of the word that these are for, and gets its offset
//!   (`BPF_CORE_READ_BITFIELD` is made so, with a load of each size). Any other access of a bit field is made for the bits that the
//!   object has: they may have moved by whole bytes, and no more.
//!
//! An instruction has to hold what the object's own types say, where they say it without doubt; so damaged information is found.
//!
//! ```no_run
//! use perfring::bpf::btf::Btf;
//! use perfring::bpf::elf::Object;
//! use perfring::bpf::{Loader, Machine};
//!
//! let object = Object::parse(&std::fs::read("tracer.bpf.o")?)?;
//! let kernel = Btf::of_running_kernel()?;
//! let loaded = Loader::new(&object, &Machine::new(4)).target_types(&kernel).load()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod candidate;
mod compatible;
mod error;
mod field;
mod kernel;
mod matching;
mod name;
mod patch;

pub use error::{CoreError, CoreErrorKind};

use super::{Btf, CoreRelo, CoreReloKind, Kind, Type, TypeId};
use crate::bpf::insn::Insn;
use access::Access;
use candidate::Candidates;
use field::Part;
use patch::{Patch, Place};
use std::collections::HashSet;

type Result<T> = std::result::Result<T, CoreErrorKind>;

/// Comparisons of types, members and enumerators that may still be made.
#[derive(Clone, Copy, Debug)]
struct Work(u32);

impl Work {
    /// The most for all relocations together: far more than any object of a compiler takes.
    const MOST: Self = Self(1 << 24);

    fn spend(&mut self) -> Result<()> {
        self.0 = self.0.checked_sub(1).ok_or(CoreErrorKind::Work)?;
        Ok(())
    }
}

/// Fits instructions to the types of a platform.
#[derive(Debug)]
pub struct Relocator<'a> {
    local: &'a Btf,
    target: Option<(&'a Btf, Candidates<'a>)>,
    work: Work,
}

/// What goes into an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value {
    number: u64,
    /// Of an offset: of what.
    part: Option<Part>,
}

impl<'a> Relocator<'a> {
    /// From the types of an object to those of the platform. Without these only what asks for nothing but the object's own types is
    /// applied.
    pub fn new(local: &'a Btf, target: Option<&'a Btf>) -> Self {
        Self { local, target: target.map(|target| (target, Candidates::default())), work: Work::MOST }
    }

    /// Applies the relocations of a program to its instructions; gives those that the platform has no answer for
    /// ([`CoreError::is_of_platform`]), whose instructions stay as they are.
    ///
    /// All that one relocator applies may take 2^24 comparisons of types, members and enumerators.
    ///
    /// # Errors
    ///
    /// The first that was not applied for another reason.
    pub fn apply(&mut self, insns: &mut [Insn], relos: &[CoreRelo]) -> std::result::Result<Vec<CoreError>, CoreError> {
        let local = self.local;
        let shifts =
            |relo: &&CoreRelo| matches!(relo.kind, CoreReloKind::FieldLshiftU64 | CoreReloKind::FieldRshiftU64);
        let field = |relo: &CoreRelo| Some((relo.type_, name::short(local, relo.access).ok()?));
        let shifted: HashSet<_> = relos.iter().filter(shifts).filter_map(field).collect();
        let mut unresolved = Vec::new();
        for relo in relos {
            let is_shifted = field(relo).is_some_and(|field| shifted.contains(&field));
            if let Err(reason) = self.try_apply(insns, relo, is_shifted) {
                let error = CoreError::new(local, relo, reason);
                if !error.is_of_platform() {
                    return Err(error);
                }
                unresolved.push(error);
            }
        }
        Ok(unresolved)
    }

    /// `is_shifted` is whether the program asks for the shifts of the same field, and so loads the word that it is in.
    fn try_apply(&mut self, insns: &mut [Insn], relo: &CoreRelo, is_shifted: bool) -> Result<()> {
        let place = Place::of(insns, relo.insn)?;
        if place == Place::Access && relo.kind != CoreReloKind::FieldByteOffset {
            return Err(CoreErrorKind::Insn { opcode: insns.get(relo.insn).map_or(0, |insn| insn.opcode) });
        }
        // An enumerator of 32 bits is extended as the compiler extended it, where BTF does not say the sign.
        let current = patch::current(insns, relo.insn, place);
        let question = Question::of(self.local, relo, current < 0, &mut self.work)?;
        let local = question.local(self.local)?;
        let target = self.answer(&question, relo)?;
        let is_certain = question.is_certain(self.local);
        Patch { place, local, is_certain, is_shifted, target }.put(insns, relo.insn)
    }

    /// What is so on the platform.
    fn answer(&mut self, question: &Question<'a>, relo: &CoreRelo) -> Result<Value> {
        if relo.kind == CoreReloKind::TypeIdLocal {
            return question.local(self.local);
        }
        let Some((target, candidates)) = &mut self.target else { return Err(CoreErrorKind::NoTarget) };
        let name = name::essential(name::of_type(self.local, relo.type_)?);
        if name.is_empty() {
            return Err(CoreErrorKind::Unnamed);
        }
        let kind = self.local.known(relo.type_)?.kind();
        let mut answer: Option<(TypeId, Value)> = None;
        let mut count = 0;
        for id in candidates.of(target, name) {
            self.work.spend()?;
            if !candidate::same_kind(kind, target.known(*id)?.kind()) {
                continue;
            }
            count += 1;
            let Some(value) = question.target(self.local, target, *id, &mut self.work)? else { continue };
            match answer {
                Some((first, other)) if other != value => {
                    return Err(CoreErrorKind::Ambiguous { first, second: *id });
                }
                Some(_) => {}
                None => answer = Some((*id, value)),
            }
        }
        match answer {
            Some((_, value)) => Ok(value),
            None if question.may_fail() => Ok(Value { number: 0, part: None }),
            None if count == 0 => Err(CoreErrorKind::NoType),
            None => Err(CoreErrorKind::NoPart { types: count }),
        }
    }
}

/// What a relocation asks for.
struct Question<'a> {
    kind: CoreReloKind,
    root: TypeId,
    about: About<'a>,
}

enum About<'a> {
    Field(Access<'a>),
    Type,
    /// An enumerator by its name without flavour; its value, and whether one of 32 bits is a negative number where BTF does not say.
    Enumerator {
        name: &'a str,
        value: u64,
        extends: bool,
    },
}

impl<'a> Question<'a> {
    fn of(btf: &'a Btf, relo: &CoreRelo, extends: bool, work: &mut Work) -> Result<Self> {
        use CoreReloKind as K;
        let about = match relo.kind {
            K::FieldByteOffset
            | K::FieldByteSize
            | K::FieldExists
            | K::FieldSigned
            | K::FieldLshiftU64
            | K::FieldRshiftU64 => About::Field(Access::of(btf, relo, work)?),
            K::TypeIdLocal | K::TypeIdTarget | K::TypeExists | K::TypeSize | K::TypeMatches => About::Type,
            K::EnumvalExists | K::EnumvalValue => {
                let (name, value) = access::enumerator(btf, relo, extends)?;
                About::Enumerator { name, value, extends }
            }
            K::Other(kind) => return Err(CoreErrorKind::Kind { kind }),
        };
        Ok(Self { kind: relo.kind, root: relo.type_, about })
    }

    /// Whether 0 says that there is none.
    fn may_fail(&self) -> bool {
        use CoreReloKind as K;
        matches!(
            self.kind,
            K::FieldExists | K::TypeExists | K::EnumvalExists | K::TypeMatches | K::TypeSize | K::TypeIdTarget
        )
    }

    /// What was so when the program was compiled.
    fn local(&self, btf: &Btf) -> Result<Value> {
        match &self.about {
            About::Field(access) => access.field.value(self.kind, btf),
            About::Type => self.type_value(btf, self.root),
            About::Enumerator { value, .. } => Ok(self.enumerator_value(*value)),
        }
    }

    /// What is so of this type of the platform; none if it has not got what is asked for.
    fn target(&self, local: &Btf, target: &Btf, id: TypeId, work: &mut Work) -> Result<Option<Value>> {
        match &self.about {
            About::Field(access) => match access.follow(local, target, id, work)? {
                Some(field) => field.value(self.kind, target).map(Some),
                None => Ok(None),
            },
            About::Type => {
                let is_it = match self.kind {
                    CoreReloKind::TypeMatches => matching::types((local, self.root), (target, id), work)?,
                    _ => compatible::types((local, self.root), (target, id), work)?,
                };
                if is_it { self.type_value(target, id).map(Some) } else { Ok(None) }
            }
            About::Enumerator { name, extends, .. } => {
                let resolved = target.resolve(id)?;
                let Type::Enum { values, .. } = target.known(resolved)? else { return Ok(None) };
                for value in values {
                    work.spend()?;
                    if name::short(target, value.name).is_ok_and(|other| name::essential(other) == *name) {
                        let value = access::enumerator_value(target, resolved, value, *extends)?;
                        return Ok(Some(self.enumerator_value(value)));
                    }
                }
                Ok(None)
            }
        }
    }

    fn type_value(&self, btf: &Btf, id: TypeId) -> Result<Value> {
        let number = match self.kind {
            CoreReloKind::TypeIdLocal | CoreReloKind::TypeIdTarget => id.0.into(),
            CoreReloKind::TypeSize => btf.size_of(id)?.into(),
            _ => 1,
        };
        Ok(Value { number, part: None })
    }

    fn enumerator_value(&self, value: u64) -> Value {
        let number = if self.kind == CoreReloKind::EnumvalExists { 1 } else { value };
        Value { number, part: None }
    }

    /// Whether the object's types say without doubt what the instruction holds. Of bit fields compilers choose the word, and old
    /// ones do not say of enumerations whether they are signed.
    fn is_certain(&self, btf: &Btf) -> bool {
        use CoreReloKind as K;
        match (&self.about, self.kind) {
            (_, K::FieldExists | K::FieldRshiftU64) => true,
            (_, K::TypeIdTarget) => false,
            (About::Field(_), K::FieldLshiftU64) => false,
            (About::Field(access), K::FieldSigned) => {
                let resolved = access.field.element(btf).and_then(|id| Ok(btf.known(id)?.kind()));
                matches!(resolved, Ok(Kind::Int))
            }
            (About::Field(access), _) => access.field.bits.is_none(),
            _ => true,
        }
    }
}
