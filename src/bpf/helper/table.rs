//! The helpers that there are.

use super::{Call, HelperId, Prototype, PrototypeError, Returns, standard};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};
use thiserror::Error;

/// What a helper does.
pub(crate) enum Body {
    /// Something of this crate's own.
    Builtin(fn(&mut Call<'_, '_>) -> u64),
    /// `bpf_loop`, which runs the program's function.
    Loop,
    /// `bpf_tail_call`, which is an instruction of the interpreter's.
    TailCall,
    /// What was registered.
    Custom(Box<dyn Fn(&mut Call<'_, '_>) -> u64 + Send + Sync>),
}

/// A helper.
pub(crate) struct Helper {
    pub(crate) id: HelperId,
    pub(crate) prototype: Prototype,
    pub(crate) body: Body,
    /// Which argument is the map.
    pub(crate) map_at: Option<usize>,
    /// How many arguments there are to be tested: those behind may be anything.
    pub(crate) tested: usize,
    /// Whether memory that the program could touch before may be out of its reach afterwards.
    pub(crate) closes: bool,
}

impl Helper {
    pub(crate) fn new(id: HelperId, prototype: Prototype, body: Body) -> Self {
        let tested = prototype.args.iter().rposition(|arg| arg.is_tested()).map_or(0, |last| last + 1);
        let closes = prototype.ctx_update || prototype.args.contains(&super::Arg::Record);
        let map_at = prototype.args.iter().position(|arg| matches!(arg, super::Arg::Map(_)));
        Self { id, prototype, body, map_at, tested, closes }
    }

    pub(crate) fn is_tail_call(&self) -> bool {
        matches!(self.body, Body::TailCall)
    }

    /// Whether it may leave some of the bytes as they are that it is given to write.
    pub(crate) fn may_leave_bytes(&self) -> bool {
        let writes = self.prototype.args.contains(&super::Arg::UninitMemory);
        writes
            && match self.body {
                // Behind the 0 of a text nothing is stored.
                Body::Builtin(_) => matches!(
                    self.id,
                    HelperId::PROBE_READ_STR | HelperId::PROBE_READ_USER_STR | HelperId::PROBE_READ_KERNEL_STR
                ),
                Body::Custom(_) => true,
                Body::Loop | Body::TailCall => false,
            }
    }
}

/// Why a helper was not registered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// There is one with this number.
    #[error("helper {id} is {name} already")]
    Taken {
        /// Number.
        id: HelperId,
        /// The one that there is.
        name: String,
    },
    /// The prototype makes no sense.
    #[error(transparent)]
    Prototype(#[from] PrototypeError),
    /// The prototype has what only helpers of this crate can deal with: functions of the program and records.
    #[error("{name} takes a function, or takes or gives a record, which is for this crate's own helpers")]
    Reserved {
        /// The helper.
        name: String,
    },
    /// It gives an address; see [`Helpers::register_unchecked`].
    #[error("{name} gives an address: to register it is unsafe")]
    GivesAddress {
        /// The helper.
        name: String,
    },
}

/// The helpers that there are, by their numbers. Cheap to clone.
///
/// ```
/// use perfring::bpf::{Arg, HelperId, Helpers, Prototype};
///
/// let mut helpers = Helpers::standard().clone();
/// let prototype = Prototype::new("sum", &[Arg::Scalar, Arg::Scalar]);
/// helpers.register(HelperId(100_000), prototype, |call| call.arg(0).wrapping_add(call.arg(1)))?;
/// # Ok::<(), perfring::bpf::RegisterError>(())
/// ```
#[derive(Clone, Default)]
pub struct Helpers(Arc<BTreeMap<HelperId, Arc<Helper>>>);

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.values().map(|helper| (helper.id, &helper.prototype.name))).finish()
    }
}

impl Helpers {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of this crate.
    pub fn standard() -> &'static Self {
        static STANDARD: LazyLock<Helpers> = LazyLock::new(|| {
            let all = standard::all().map(|helper| (helper.id, Arc::new(helper)));
            Helpers(Arc::new(all.collect()))
        });
        &STANDARD
    }

    /// The prototype of a helper.
    pub fn prototype(&self, id: HelperId) -> Option<&Prototype> {
        self.0.get(&id).map(|helper| &helper.prototype)
    }

    /// The number of the helper with this name.
    pub fn number(&self, name: &str) -> Option<HelperId> {
        self.0.values().find(|helper| helper.prototype.name == name).map(|helper| helper.id)
    }

    /// The numbers, in order.
    pub fn ids(&self) -> impl Iterator<Item = HelperId> {
        self.0.keys().copied()
    }

    pub(crate) fn get(&self, id: HelperId) -> Option<&Arc<Helper>> {
        self.0.get(&id)
    }

    /// Adds a helper that gives a number. Programs that were loaded before know nothing of it.
    ///
    /// It is called with arguments that are what `prototype` says. It may run in a signal handler if programs do.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn register(
        &mut self,
        id: HelperId,
        prototype: Prototype,
        body: impl Fn(&mut Call<'_, '_>) -> u64 + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        if prototype.returns != Returns::Scalar {
            return Err(RegisterError::GivesAddress { name: prototype.name.into_owned() });
        }
        self.insert(id, prototype, Box::new(body))
    }

    /// Adds a helper that may give an address.
    ///
    /// # Errors
    /// [`RegisterError`]
    ///
    /// # Safety
    /// Where the prototype has [`Returns::ValueOrNull`], the helper gives 0 or what [`Call::lookup`] gave in the same call.
    /// Programs that were verified use the address without any further test.
    #[expect(unsafe_code, reason = "what the helper gives is trusted")]
    pub unsafe fn register_unchecked(
        &mut self,
        id: HelperId,
        prototype: Prototype,
        body: impl Fn(&mut Call<'_, '_>) -> u64 + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        self.insert(id, prototype, Box::new(body))
    }

    fn insert(
        &mut self,
        id: HelperId,
        prototype: Prototype,
        body: Box<dyn Fn(&mut Call<'_, '_>) -> u64 + Send + Sync>,
    ) -> Result<(), RegisterError> {
        use super::Arg;
        prototype.check()?;
        if let Some(taken) = self.0.get(&id) {
            return Err(RegisterError::Taken { id, name: taken.prototype.name.clone().into_owned() });
        }
        let reserved = prototype.args.iter().any(|arg| matches!(arg, Arg::Function | Arg::Record | Arg::AllocSize));
        if reserved || prototype.returns == Returns::RecordOrNull {
            return Err(RegisterError::Reserved { name: prototype.name.into_owned() });
        }
        Arc::make_mut(&mut self.0).insert(id, Arc::new(Helper::new(id, prototype, Body::Custom(body))));
        Ok(())
    }
}
