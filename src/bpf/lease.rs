//! The CPUs of a machine, of which each execution holds one alone.
//!
//! A lease is a lock that nobody sleeps for: who finds it held goes on without, or looks again. So who gives it back has nothing to ask,
//! and stores a word, where a mutex would exchange it.
#![allow(unsafe_code)]

use super::order::Site;
use crate::sync::{self, AtomicU32, MutPtr, UnsafeCell};
use crossbeam_utils::CachePadded;
use std::ops::{Deref, DerefMut};

/// As many things as a machine has CPUs; who holds a lease has one of them alone.
pub(crate) struct Leases<T>(Box<[CachePadded<Slot<T>>]>);

/// Somebody holds it.
const HELD: u32 = 1;
/// Nothing is lent any more. Only who holds it says so.
const STOPPED: u32 = 2;

struct Slot<T> {
    /// `HELD` and `STOPPED`.
    state: AtomicU32,
    content: UnsafeCell<T>,
}

// SAFETY: the content is touched by who holds the lease only (`Lease::content`), and there is one lease at a time: `HELD` is set by a
// compare-exchange from a state without it, and taken away by who has set it (`Lease::drop`). Of two leases of a slot the later one is
// behind all that the earlier one did, as taking acquires what giving back released. So threads have the content in turns, which is
// what `T: Send` allows.
unsafe impl<T: Send> Sync for Slot<T> {}

/// One of them, until it is dropped.
pub(crate) struct Lease<'l, T> {
    slot: &'l Slot<T>,
    /// None while it is given back.
    content: Option<MutPtr<T>>,
    /// The state that it is given back with.
    after: u32,
}

impl<T> Lease<'_, T> {
    #[inline(always)]
    fn content(&self) -> *mut T {
        match &self.content {
            Some(content) => content.with(|content| content),
            // Only within `drop`, which does not come here.
            None => unreachable!(),
        }
    }
}

impl<T> Deref for Lease<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the pointer is that of the slot's cell, which lives for 'l. The state says `HELD` by this lease and no other, so nobody
        // else has a reference; one by `deref_mut` would borrow this lease alone.
        unsafe { &*self.content() }
    }
}

impl<T> DerefMut for Lease<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; that this lease is borrowed alone says that it has lent no other reference.
        unsafe { &mut *self.content() }
    }
}

impl<T> Drop for Lease<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.content = None;
        // Nobody else changes the state while it is held.
        self.slot.state.store(self.after, Site::LeaseGive.order());
    }
}

/// Why there is no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLease {
    /// All are held, or the one that was asked for.
    Busy,
    /// They were stopped.
    Stopped,
}

impl<T> Slot<T> {
    /// Takes it, if it is in the state `from`; or says in which it is.
    #[inline(always)]
    fn take(&self, from: u32) -> Result<Lease<'_, T>, u32> {
        let taken = self.state.compare_exchange(from, from | HELD, Site::LeaseTake.order(), Site::LeaseSeen.order());
        taken.map(|_| Lease { slot: self, content: Some(self.content.get_mut()), after: from })
    }

    /// Takes it, in whichever state, once it is given back.
    fn wait(&self) -> Lease<'_, T> {
        let (mut from, mut rounds) = (0, 0);
        loop {
            match self.take(from) {
                Ok(lease) => return lease,
                Err(state) => {
                    from = state & !HELD;
                    if state & HELD != 0 {
                        sync::wait_for_others(rounds);
                        rounds = rounds.saturating_add(1);
                    }
                }
            }
        }
    }
}

impl<T> Leases<T> {
    pub(crate) fn new(contents: impl IntoIterator<Item = T>) -> Self {
        let slot = |content| {
            let content = UnsafeCell::new(content);
            CachePadded::new(Slot { state: AtomicU32::new(0), content })
        };
        Self(contents.into_iter().map(slot).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The one with this number, if it is free.
    #[inline]
    pub(crate) fn this(&self, number: usize) -> Result<Lease<'_, T>, NoLease> {
        self.0[number].take(0).map_err(|state| match state & STOPPED {
            0 => NoLease::Busy,
            _ => NoLease::Stopped,
        })
    }

    /// The first that is free, from this number on.
    #[inline]
    pub(crate) fn any(&self, first: usize) -> Result<Lease<'_, T>, NoLease> {
        let (before, from) = (0..first, first..self.len());
        for number in from.chain(before) {
            match self.this(number) {
                Err(NoLease::Busy) => {}
                found => return found,
            }
        }
        Err(NoLease::Busy)
    }

    /// The one with this number, also when nothing is lent any more: waits for who has it.
    pub(crate) fn wait(&self, number: usize) -> Option<Lease<'_, T>> {
        self.0.get(number).map(|slot| slot.wait())
    }

    /// Lends nothing any more, and waits for what is lent now.
    pub(crate) fn stop(&self) {
        for slot in &self.0 {
            if Site::StopWaits.holds() {
                slot.wait().after = STOPPED;
            }
        }
    }
}

/// What the loom models use of leases.
#[cfg(perfring_loom)]
pub mod model {
    use super::{Leases, NoLease};
    use crate::sync::Arc;

    /// CPUs, each with a count of its records.
    #[derive(Clone)]
    pub struct LeasesModel(Arc<Leases<u64>>);

    impl LeasesModel {
        /// As many CPUs.
        pub fn new(cpus: usize) -> Self {
            Self(Arc::new(Leases::new((0..cpus).map(|_| 0))))
        }

        /// Writes a record on a CPU that is free, near this one. Whether it did; none where none was free.
        pub fn fire(&self, near: usize) -> Option<bool> {
            match self.0.any(near) {
                Ok(mut records) => {
                    *records += 1;
                    Some(true)
                }
                Err(NoLease::Stopped) => Some(false),
                Err(NoLease::Busy) => None,
            }
        }

        /// Lends nothing any more.
        pub fn stop(&self) {
            self.0.stop();
        }

        /// How many records there are.
        pub fn records(&self) -> u64 {
            (0..self.0.len()).filter_map(|number| self.0.wait(number)).map(|records| *records).sum()
        }
    }
}
