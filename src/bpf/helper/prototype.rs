//! What a helper takes and gives.

use crate::bpf::map::MapType;
use std::borrow::Cow;
use thiserror::Error;

bitflags::bitflags! {
    /// Kinds of maps that a helper takes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct MapTypes: u64 {
        /// Maps with values that programs look up, update and delete.
        const DATA = 1 << MapType::Hash as u64 | 1 << MapType::Array as u64 | 1 << MapType::PercpuHash as u64
            | 1 << MapType::PercpuArray as u64 | 1 << MapType::LruHash as u64;
        /// `BPF_MAP_TYPE_PROG_ARRAY`
        const PROG_ARRAY = 1 << MapType::ProgArray as u64;
        /// `BPF_MAP_TYPE_PERF_EVENT_ARRAY`
        const PERF_EVENT_ARRAY = 1 << MapType::PerfEventArray as u64;
        /// `BPF_MAP_TYPE_RINGBUF`
        const RINGBUF = 1 << MapType::Ringbuf as u64;
        const _ = !0;
    }
}

impl MapTypes {
    /// Whether this kind is among them.
    pub fn has(self, type_: MapType) -> bool {
        self.bits() & 1 << type_ as u64 != 0
    }
}

/// What an argument has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arg {
    /// There is none.
    None,
    /// Any value that is initialised.
    Any,
    /// A number.
    Scalar,
    /// A number that is known before the program runs.
    Constant,
    /// The context, at its start.
    Context,
    /// A map of one of these kinds.
    Map(MapTypes),
    /// As many readable bytes as the map before has in a key.
    Key,
    /// As many readable bytes as the map before has in a value.
    Value,
    /// Readable bytes, as many as the argument behind says.
    Memory,
    /// Bytes that the helper writes, as many as the argument behind says.
    UninitMemory,
    /// As `Memory`, or 0.
    MemoryOrNull,
    /// A number of bytes, at least 1.
    Size,
    /// A number of bytes.
    SizeOrZero,
    /// A number of bytes that is known before the program runs: those of what the helper returns.
    AllocSize,
    /// The address of text with a 0 at its end, in a map that programs cannot write.
    ConstStr,
    /// A function of the program.
    Function,
    /// An address in the stack, or 0.
    StackOrNull,
    /// What [`Returns::RecordOrNull`] gave, at its start; it is given up by this call.
    Record,
}

impl Arg {
    fn is_memory(self) -> bool {
        matches!(self, Self::Memory | Self::UninitMemory | Self::MemoryOrNull)
    }

    /// Whether there are values that it can't be.
    pub(crate) fn is_tested(self) -> bool {
        !matches!(self, Self::None | Self::Any | Self::Scalar | Self::Constant | Self::SizeOrZero | Self::AllocSize)
    }

    fn is_size(self) -> bool {
        matches!(self, Self::Size | Self::SizeOrZero)
    }
}

/// What a helper gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Returns {
    /// A number.
    Scalar,
    /// The address of a value of the map among the arguments, or 0.
    ValueOrNull,
    /// The address of an open record with as many bytes as the argument of [`Arg::AllocSize`] says, or 0.
    RecordOrNull,
}

/// The prototype of a helper.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prototype {
    /// The name, as C programs have it.
    pub name: Cow<'static, str>,
    /// What the arguments have to be, from `r1` on.
    pub args: [Arg; 5],
    /// What `r0` is.
    pub returns: Returns,
    /// Whether only programs with a licence that goes with the GPL may call it.
    pub gpl_only: bool,
    /// Whether it may change the context: addresses that came from it are then no more than numbers.
    pub ctx_update: bool,
}

/// What is wrong with a prototype.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrototypeError {
    /// It changes the context, which is not its first argument.
    #[error("{name} changes the context, but its first argument is {found:?}")]
    CtxUpdate {
        /// The helper.
        name: String,
        /// Its first argument.
        found: Arg,
    },
    /// An argument behind one that there is not.
    #[error("{name} has an argument {at}, but none before it")]
    Gap {
        /// The helper.
        name: String,
        /// From 1 on.
        at: usize,
    },
    /// A memory without a size behind it.
    #[error("argument {at} of {name} is memory, and no size follows it")]
    NoSize {
        /// The helper.
        name: String,
        /// From 1 on.
        at: usize,
    },
    /// A size without memory before it.
    #[error("argument {at} of {name} is a size, and no memory comes before it")]
    NoMemory {
        /// The helper.
        name: String,
        /// From 1 on.
        at: usize,
    },
    /// A key, a value, or a value that is returned, and not exactly one map among the arguments, before it.
    #[error("{name} has a key or a value, and {maps} maps before it")]
    Maps {
        /// The helper.
        name: String,
        /// Number of maps.
        maps: usize,
    },
    /// A record that is returned, and not exactly one [`Arg::AllocSize`].
    #[error("{name} has {sizes} arguments for the size of the record that it gives")]
    AllocSize {
        /// The helper.
        name: String,
        /// Number of them.
        sizes: usize,
    },
}

impl Prototype {
    /// A helper with these arguments that gives a number.
    pub fn new(name: impl Into<Cow<'static, str>>, args: &[Arg]) -> Self {
        let mut all = [Arg::None; 5];
        all.iter_mut().zip(args).for_each(|(to, arg)| *to = *arg);
        Self { name: name.into(), args: all, returns: Returns::Scalar, gpl_only: false, ctx_update: false }
    }

    /// What it gives.
    #[must_use]
    pub fn returns(mut self, returns: Returns) -> Self {
        self.returns = returns;
        self
    }

    /// Only for programs with a licence that goes with the GPL.
    #[must_use]
    pub fn gpl_only(mut self) -> Self {
        self.gpl_only = true;
        self
    }

    /// It may change the context.
    #[must_use]
    pub fn ctx_update(mut self) -> Self {
        self.ctx_update = true;
        self
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// [`PrototypeError`]
    pub fn check(&self) -> Result<(), PrototypeError> {
        let name = || self.name.clone().into_owned();
        if self.ctx_update && self.args[0] != Arg::Context {
            return Err(PrototypeError::CtxUpdate { name: name(), found: self.args[0] });
        }
        let mut maps = 0;
        for (i, arg) in self.args.into_iter().enumerate() {
            let before = i.checked_sub(1).map(|i| self.args[i]);
            let at = i + 1;
            if arg != Arg::None && before == Some(Arg::None) {
                return Err(PrototypeError::Gap { name: name(), at });
            }
            if arg.is_memory() && !self.args.get(at).is_some_and(|arg| arg.is_size()) {
                return Err(PrototypeError::NoSize { name: name(), at });
            }
            if arg.is_size() && !before.is_some_and(Arg::is_memory) {
                return Err(PrototypeError::NoMemory { name: name(), at });
            }
            maps += usize::from(matches!(arg, Arg::Map(_)));
            if matches!(arg, Arg::Key | Arg::Value) && maps != 1 {
                return Err(PrototypeError::Maps { name: name(), maps });
            }
        }
        if self.returns == Returns::ValueOrNull && maps != 1 {
            return Err(PrototypeError::Maps { name: name(), maps });
        }
        let sizes = self.args.iter().filter(|arg| **arg == Arg::AllocSize).count();
        if sizes != usize::from(self.returns == Returns::RecordOrNull) {
            return Err(PrototypeError::AllocSize { name: name(), sizes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prototypes_that_make_no_sense() {
        let check = |prototype: Prototype| prototype.check().map_err(|error| error.to_string());
        let error = |text: &str| Err(text.to_owned());
        assert_eq!(check(Prototype::new("fine", &[Arg::Context, Arg::Memory, Arg::Size]).ctx_update()), Ok(()));
        assert_eq!(
            check(Prototype::new("bad", &[Arg::Scalar, Arg::Context]).ctx_update()),
            error("bad changes the context, but its first argument is Scalar")
        );
        assert_eq!(
            check(Prototype::new("bad", &[]).ctx_update()),
            error("bad changes the context, but its first argument is None")
        );
        assert_eq!(
            check(Prototype::new("bad", &[Arg::None, Arg::Any])),
            error("bad has an argument 2, but none before it")
        );
        assert_eq!(
            check(Prototype::new("bad", &[Arg::Memory])),
            error("argument 1 of bad is memory, and no size follows it")
        );
        assert_eq!(
            check(Prototype::new("bad", &[Arg::Size])),
            error("argument 1 of bad is a size, and no memory comes before it")
        );
        assert_eq!(check(Prototype::new("bad", &[Arg::Key])), error("bad has a key or a value, and 0 maps before it"));
        let value = Prototype::new("bad", &[]).returns(Returns::ValueOrNull);
        assert_eq!(check(value), error("bad has a key or a value, and 0 maps before it"));
        let record = Prototype::new("bad", &[]).returns(Returns::RecordOrNull);
        assert_eq!(check(record), error("bad has 0 arguments for the size of the record that it gives"));
    }
}
