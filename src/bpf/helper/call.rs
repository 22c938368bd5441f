//! A helper's view of the call.

#![allow(unsafe_code)]

use super::table::{Body, Helper};
use super::{Arg, Returns};
use crate::bpf::map::{Map, MapType};
use crate::bpf::memory::{self, Readable};
use crate::bpf::program_type::ProgramType;
use crate::bpf::vm::{Execution, Span, TrapKind, function_slot, map_index};

/// The most bytes of a key: as many as a frame has.
const MAX_KEY: usize = 512;

/// A call of a helper. Its arguments are what the prototype says: they were tested, or proved.
pub struct Call<'c, 'r> {
    pub(crate) execution: &'c mut Execution<'r>,
    helper: &'c Helper,
    args: &'c [u64; 5],
}

impl std::fmt::Debug for Call<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("helper", &self.helper.prototype.name)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

/// What a helper gives that failed: the negative of an errno value.
pub(crate) fn errno(errno: i32) -> u64 {
    (-i64::from(errno)) as u64
}

/// 0, or the negative of the errno value.
pub(crate) fn status(result: Result<(), i32>) -> u64 {
    result.map_or_else(errno, |()| 0)
}

impl<'r> Call<'_, 'r> {
    /// Argument `at`, from 0 on, as it stands in its register; 0 where there is none.
    pub fn arg(&self, at: usize) -> u64 {
        self.args.get(at).copied().unwrap_or(0)
    }

    /// The CPU on which the program runs.
    pub fn cpu(&self) -> u32 {
        self.execution.cpu.number
    }

    /// The type of the program that runs: after a tail call that of its target.
    pub fn program_type(&self) -> &ProgramType {
        self.execution.context.type_
    }

    /// The name of the program that runs.
    pub fn program_name(&self) -> &str {
        &self.execution.text.name
    }

    /// The map that argument `at` is; none where the prototype has none there.
    pub fn map(&self, at: usize) -> Option<&'r Map> {
        let text = self.execution.text;
        matches!(self.prototype(at), Arg::Map(_)).then(|| text.maps.get(map_index(self.arg(at)))).flatten()
    }

    fn prototype(&self, at: usize) -> Arg {
        self.helper.prototype.args.get(at).copied().unwrap_or(Arg::None)
    }

    /// Bytes in the memory that argument `at` leads to; none where it leads to none.
    pub fn size(&self, at: usize) -> Option<usize> {
        size_of(self.helper, self.args, self.execution, at)
    }

    /// The bytes that argument `at` leads to; none where it is 0, or leads to none.
    pub(crate) fn readable(&self, at: usize) -> Option<Readable> {
        let size = self.size(at)?;
        if self.prototype(at) == Arg::MemoryOrNull && self.arg(at) == 0 {
            return None;
        }
        // SAFETY: a call is made by `Execution::call` only, for which the arguments are what the prototype says: as many bytes,
        // which the program may read, and which stay as long as the execution.
        Some(unsafe { Readable::new(self.arg(at), size) })
    }

    /// Copies what argument `at` leads to: as many bytes as `to` has, or fewer where there are not so many. Gives how many.
    pub fn read(&self, at: usize, to: &mut [u8]) -> usize {
        let Some(from) = self.readable(at) else { return 0 };
        let size = from.len().min(to.len());
        from.copy_out(&mut to[..size]);
        size
    }

    /// Stores to what argument `at` leads to, where the prototype has [`Arg::UninitMemory`]: `from`, or as much of it as there
    /// is place for; what is left becomes 0. Gives how many bytes of `from` it stored.
    pub fn write(&mut self, at: usize, from: &[u8]) -> usize {
        let (Arg::UninitMemory, Some(size)) = (self.prototype(at), self.size(at)) else { return 0 };
        let stored = size.min(from.len());
        let to = self.arg(at);
        // SAFETY: as for `readable`, of bytes that the program may write.
        unsafe {
            memory::copy_in(to, &from[..stored]);
            memory::zero(to + stored as u64, size - stored);
        }
        stored
    }

    /// Stores `from` to what argument `at` leads to, where the prototype has [`Arg::UninitMemory`], `offset` bytes behind its
    /// start; what does not fit is left out.
    pub(crate) fn store(&mut self, at: usize, offset: usize, from: &[u8]) {
        let (Arg::UninitMemory, Some(size)) = (self.prototype(at), self.size(at)) else { return };
        let size = size.saturating_sub(offset).min(from.len());
        // SAFETY: as for `write`: the bytes are among those of the argument.
        unsafe { memory::copy_in(self.arg(at) + offset as u64, &from[..size]) };
    }

    /// Copies `from` to what argument `at` leads to, where the prototype has [`Arg::UninitMemory`]; what does not fit is left
    /// out.
    pub(crate) fn copy(&mut self, at: usize, from: Readable) {
        let (Arg::UninitMemory, Some(size)) = (self.prototype(at), self.size(at)) else { return };
        // SAFETY: as for `write`; and `from` may be read.
        unsafe { memory::copy(self.arg(at), from.address(), size.min(from.len())) };
    }

    /// The text that argument `at` leads to, with its 0, where the prototype has [`Arg::ConstStr`].
    pub(crate) fn const_str(&self, at: usize) -> Option<Readable> {
        if self.prototype(at) != Arg::ConstStr {
            return None;
        }
        let address = self.arg(at);
        let len = self.execution.text_len(address)?;
        // SAFETY: `text_len` found as many bytes, and the 0 behind them, in a value of a map of the program.
        Some(unsafe { Readable::new(address, len + 1) })
    }

    /// The address of the value of the map that argument `at` is, for the key that argument `key` leads to: for a helper that
    /// gives it to the program. None where the key is not as long as the map's are.
    pub fn lookup(&self, at: usize, key: usize) -> Option<u64> {
        let map = self.map(at)?;
        if self.size(key)? != map.def().key_size as usize {
            return None;
        }
        self.with_key(key, |key| map.lookup_address(key, self.execution.cpu.number as usize, || self.execution.guard()))
            .flatten()
    }

    /// Calls `with` with the key that argument `at` leads to: a copy of it.
    pub(crate) fn with_key<R>(&self, at: usize, with: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let key = self.readable(at)?;
        let len = key.len();
        if len <= 16 {
            let mut bytes = [0; 16];
            key.copy_out(&mut bytes[..len]);
            return Some(with(&bytes[..len]));
        }
        let mut bytes = [0; MAX_KEY];
        let bytes = bytes.get_mut(..len)?;
        key.copy_out(bytes);
        Some(with(bytes))
    }
}

/// Bytes in the memory that argument `at` leads to.
fn size_of(helper: &Helper, args: &[u64; 5], execution: &Execution<'_>, at: usize) -> Option<usize> {
    let map = || execution.text.maps.get(map_index(args[helper.map_at?]));
    match helper.prototype.args.get(at)? {
        Arg::Key => map().map(|map| map.def().key_size as usize),
        Arg::Value => map().map(|map| map.def().value_size as usize),
        // Of the size 32 bits count: the types of the kernel's helpers say u32 there.
        Arg::Memory | Arg::UninitMemory | Arg::MemoryOrNull => Some(args[at + 1] as u32 as usize),
        _ => None,
    }
}

impl<'r> Execution<'r> {
    /// Calls a helper, whose arguments are tested first; gives what it gives.
    ///
    /// # Safety
    /// With `CHECKED` none. Without it the arguments are what the prototype says, as H in the documentation of [`vm`](crate::bpf::vm)
    /// has it.
    #[inline]
    pub(crate) unsafe fn call<const CHECKED: bool>(
        &mut self,
        helper: &Helper,
        args: &[u64; 5],
    ) -> Result<u64, TrapKind> {
        self.fuel = self.fuel.checked_sub(1).ok_or(TrapKind::Fuel)?;
        if CHECKED {
            self.check(helper, args)?;
        }
        let mut call = Call { execution: self, helper, args };
        match &helper.body {
            Body::Builtin(body) => {
                let result = body(&mut call);
                if CHECKED && helper.prototype.returns == Returns::ValueOrNull && result != 0 {
                    self.will_touch(helper, args, result);
                }
                Ok(result)
            }
            Body::Custom(body) => Ok(body(&mut call)),
            // SAFETY: the caller's contract.
            Body::Loop => unsafe { self.loop_::<CHECKED>(args) },
            Body::TailCall => unreachable!("a tail call is an instruction of its own"),
        }
    }

    /// Remembers a value whose address a program was given: it is touched next.
    fn will_touch(&mut self, helper: &Helper, args: &[u64; 5], value: u64) {
        let map = helper.map_at.and_then(|at| self.text.maps.get(map_index(args[at])));
        let Some(map) = map.filter(|map| !map.restricts_programs()) else { return };
        if let Some(span) = Span::new(value, u64::from(map.def().value_size)) {
            (self.reads, self.writes) = (span, span);
        }
    }

    /// Whether the arguments are what the prototype says.
    fn check(&self, helper: &Helper, args: &[u64; 5]) -> Result<(), TrapKind> {
        for (at, wanted) in helper.prototype.args.into_iter().enumerate().take(helper.tested) {
            if !self.fits(helper, args, at, wanted) {
                return Err(argument(helper, at, args[at]));
            }
        }
        Ok(())
    }

    #[inline]
    fn fits(&self, helper: &Helper, args: &[u64; 5], at: usize, wanted: Arg) -> bool {
        let value = args[at];
        let size = || size_of(helper, args, self, at);
        match wanted {
            Arg::None | Arg::Any | Arg::Scalar | Arg::Constant | Arg::SizeOrZero | Arg::AllocSize => true,
            Arg::Context => value == self.context.address,
            Arg::Map(types) => {
                let map = self.text.maps.get(map_index(value));
                map.is_some_and(|map| types.has(map.def().type_))
            }
            Arg::Key => size().is_some_and(|size| size <= MAX_KEY && self.readable(value, size).is_some()),
            Arg::Value | Arg::Memory => size().is_some_and(|size| self.readable(value, size).is_some()),
            Arg::MemoryOrNull => {
                size().is_some_and(|size| if value == 0 { size == 0 } else { self.readable(value, size).is_some() })
            }
            Arg::UninitMemory => size().is_some_and(|size| self.writable(value, size)),
            // As an `int` it is not negative, so that it fits into what counts of it.
            Arg::Size => value as u32 != 0 && value <= i32::MAX as u64,
            Arg::ConstStr => self.text_len(value).is_some(),
            Arg::Function => {
                function_slot(value).is_some_and(|slot| self.text.checked.functions().binary_search(&slot).is_ok())
            }
            Arg::StackOrNull => value == 0 || self.region(value, 1, true).is_some(),
            Arg::Record => self.records.iter().any(|record| record.payload().0 == value),
        }
    }

    /// Bytes of a text before its 0, where all of it lies in a value that programs cannot write.
    pub(crate) fn text_len(&self, address: u64) -> Option<usize> {
        let (start, len) = self.text.maps.iter().find_map(|map| {
            let frozen = map.def().type_ == MapType::Array && map.is_read_only_for_programs();
            frozen.then(|| map.values()?.find(address)).flatten()
        })?;
        let rest = (start + len as u64 - address) as usize;
        // SAFETY: of the value that `find` gave, the bytes from `address` on.
        (0..rest).find(|at| unsafe { memory::load8(address + *at as u64) } == 0)
    }

    /// `bpf_loop(nr_loops, callback, ctx, flags)`
    ///
    /// # Safety
    /// As [`call`](Self::call).
    unsafe fn loop_<const CHECKED: bool>(&mut self, args: &[u64; 5]) -> Result<u64, TrapKind> {
        const MAX: u32 = 1 << 23;
        let [count, callback, context, flags, _] = *args;
        if flags != 0 {
            return Ok(errno(libc::EINVAL));
        }
        let count = count as u32;
        if count > MAX {
            return Ok(errno(libc::E2BIG));
        }
        let functions = self.text.checked.functions();
        let function = function_slot(callback).filter(|slot| functions.binary_search(slot).is_ok());
        let Some(slot) = function else { return Ok(errno(libc::EINVAL)) };
        for at in 0..count {
            // SAFETY: the caller's contract; a function starts there.
            let stop = unsafe { self.call_back::<CHECKED>(slot, u64::from(at), context)? };
            if stop != 0 {
                return Ok(u64::from(at) + 1);
            }
        }
        Ok(u64::from(count))
    }
}

/// The trap for an argument.
#[cold]
fn argument(helper: &Helper, at: usize, value: u64) -> TrapKind {
    TrapKind::Argument {
        helper: helper.id,
        name: helper.prototype.name.clone().into_owned(),
        at: at + 1,
        value,
        wanted: helper.prototype.args[at],
    }
}
