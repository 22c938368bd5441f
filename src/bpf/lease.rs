//! The CPUs of a machine, of which each execution holds one alone.

use super::order::Site;
use crate::sync::{self, Mutex, MutexGuard};
use crossbeam_utils::CachePadded;
use std::ops::{Deref, DerefMut};

/// As many things as a machine has CPUs; who holds a lease has one of them alone.
pub(crate) struct Leases<T>(Box<[CachePadded<Mutex<Slot<T>>>]>);

struct Slot<T> {
    content: T,
    /// Nothing is lent any more. It is under the lock, so that who waited for the lock has waited for all that was lent.
    stopped: bool,
}

/// One of them, until it is dropped.
pub(crate) struct Lease<'l, T>(MutexGuard<'l, Slot<T>>);

impl<T> Deref for Lease<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.content
    }
}

impl<T> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.content
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

impl<T> Leases<T> {
    pub(crate) fn new(contents: impl IntoIterator<Item = T>) -> Self {
        let slot = |content| CachePadded::new(Mutex::new(Slot { content, stopped: false }));
        Self(contents.into_iter().map(slot).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The one with this number, if it is free.
    #[inline]
    pub(crate) fn this(&self, number: usize) -> Result<Lease<'_, T>, NoLease> {
        let held = sync::try_lock(&self.0[number]).ok_or(NoLease::Busy)?;
        if held.stopped && Site::StopSeen.holds() { Err(NoLease::Stopped) } else { Ok(Lease(held)) }
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
        self.0.get(number).map(|slot| Lease(sync::lock(slot)))
    }

    /// Lends nothing any more, and waits for what is lent now.
    pub(crate) fn stop(&self) {
        for slot in &self.0 {
            if Site::StopWaits.holds() {
                sync::lock(slot).stopped = true;
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
