//! Call chains.

use crate::record::bytes::{Words, WordsIter};
use std::fmt;

/// The addresses of a call chain, from the innermost, with markers that say whose addresses follow.
///
/// ```
/// use perfring::record::{Callchain, CallchainContext, CallchainEntry};
/// let words = [CallchainContext::USER.0, 0x401000, 0x402000];
/// let chain = Callchain::from(&words[..]);
/// assert_eq!(chain.ips().collect::<Vec<_>>(), [(CallchainContext::USER, 0x401000), (CallchainContext::USER, 0x402000)]);
/// assert_eq!(chain.entries().next(), Some(CallchainEntry::Context(CallchainContext::USER)));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Callchain<'a>(Words<'a>);

impl<'a> Callchain<'a> {
    /// Addresses and markers as they stand in the record.
    #[inline]
    pub fn words(&self) -> Words<'a> {
        self.0
    }

    /// How many addresses and markers there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Addresses and markers, told apart by each word alone: a [cookie](Self::deferred_cookie) is an address here.
    #[inline]
    pub fn entries(&self) -> impl ExactSizeIterator<Item = CallchainEntry> + use<'a> {
        self.0.iter().map(CallchainEntry::from)
    }

    /// What names the [`CallchainDeferred`](crate::record::CallchainDeferred) record that will hold the user part, if it was
    /// deferred: the word behind [`CallchainContext::USER_DEFERRED`].
    pub fn deferred_cookie(&self) -> Option<u64> {
        let mut words = self.0.iter();
        words.find(|word| *word == CallchainContext::USER_DEFERRED.0)?;
        words.next()
    }

    /// The addresses, each with the marker before it: [`CallchainContext::NONE`] where there was none yet. A
    /// [cookie](Self::deferred_cookie) is no address.
    #[inline]
    pub fn ips(&self) -> Ips<'a> {
        Ips { words: self.0.iter(), context: CallchainContext::NONE }
    }
}

impl<'a> From<Words<'a>> for Callchain<'a> {
    fn from(words: Words<'a>) -> Self {
        Self(words)
    }
}

impl<'a> From<&'a [u64]> for Callchain<'a> {
    fn from(words: &'a [u64]) -> Self {
        Self(words.into())
    }
}

impl fmt::Debug for Callchain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

/// The addresses of a [`Callchain`].
#[derive(Clone, Debug)]
pub struct Ips<'a> {
    words: WordsIter<'a>,
    context: CallchainContext,
}

impl Iterator for Ips<'_> {
    type Item = (CallchainContext, u64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match CallchainEntry::from(self.words.next()?) {
                CallchainEntry::Context(context) => {
                    self.context = context;
                    if context == CallchainContext::USER_DEFERRED {
                        // A cookie may be any word, also one that would be a marker.
                        self.words.next();
                    }
                }
                CallchainEntry::Ip(ip) => return Some((self.context, ip)),
            }
        }
    }
}

/// A word of a call chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallchainEntry {
    /// Whose addresses follow.
    Context(CallchainContext),
    /// An address. Those of callers are return addresses: the call is before.
    Ip(u64),
}

impl From<u64> for CallchainEntry {
    #[inline]
    fn from(word: u64) -> Self {
        if word >= CallchainContext::MAX.0 { Self::Context(CallchainContext(word)) } else { Self::Ip(word) }
    }
}

impl fmt::Debug for CallchainEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context(context) => context.fmt(f),
            Self::Ip(ip) => write!(f, "{ip:#x}"),
        }
    }
}

/// `PERF_CONTEXT_*`: whose addresses follow in a call chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallchainContext(pub u64);

impl CallchainContext {
    /// No marker came before.
    pub const NONE: Self = Self(0);
    /// The hypervisor's.
    pub const HV: Self = Self(-32_i64 as u64);
    /// The kernel's.
    pub const KERNEL: Self = Self(-128_i64 as u64);
    /// User space's.
    pub const USER: Self = Self(-512_i64 as u64);
    /// The user part comes in a later `CALLCHAIN_DEFERRED` record, whose cookie is the word behind the marker.
    pub const USER_DEFERRED: Self = Self(-640_i64 as u64);
    /// A guest's.
    pub const GUEST: Self = Self(-2048_i64 as u64);
    /// A guest's kernel's.
    pub const GUEST_KERNEL: Self = Self(-2176_i64 as u64);
    /// A guest's user space's.
    pub const GUEST_USER: Self = Self(-2560_i64 as u64);
    /// The smallest word that is a marker.
    pub const MAX: Self = Self(-4095_i64 as u64);

    /// The uapi name without `PERF_CONTEXT_`, if there is one.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NONE => "NONE",
            Self::HV => "HV",
            Self::KERNEL => "KERNEL",
            Self::USER => "USER",
            Self::USER_DEFERRED => "USER_DEFERRED",
            Self::GUEST => "GUEST",
            Self::GUEST_KERNEL => "GUEST_KERNEL",
            Self::GUEST_USER => "GUEST_USER",
            _ => return None,
        })
    }
}

impl fmt::Debug for CallchainContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "CONTEXT({:#x})", self.0),
        }
    }
}
