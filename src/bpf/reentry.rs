//! What this thread is in: a program, or the locks of a map.
//!
//! A signal handler may want to run a program, or to change a map, on a thread that it interrupted anywhere. Two things must
//! not be entered twice on a thread: the locks of maps, which would wait for the thread that waits, and the taking and giving
//! back of a guard of the epoch, which keeps books that are the thread's own. Who does either holds [`lock`]; who wants it and
//! finds it held is told so. A program is one thing more that is not entered twice.
//!
//! The word is the thread's own, and needs no destructor: it is there at any time. It is an atomic for the signal handlers,
//! and fences for the compiler keep what is done under it behind its setting, and before its resetting.

use super::order::Site;
use crate::sync::epoch::{self, Guard};
use crate::sync::{AtomicU32, signal_fence};
use std::marker::PhantomData;
use std::ops::Deref;

/// A program runs.
const PROGRAM: u32 = 1;
/// The lock is held.
const LOCK: u32 = 2;

thread_local! {
    static STATE: AtomicU32 = const { AtomicU32::new(0) };
}

/// Adds `what` to what this thread is in, unless that is any of `unless`.
fn enter(what: u32, unless: u32) -> bool {
    STATE.with(|state| {
        // A handler between the two puts back what it finds.
        let now = state.load(Site::Reentry.order());
        if now & unless != 0 {
            return false;
        }
        state.store(now | what, Site::Reentry.order());
        signal_fence();
        true
    })
}

fn leave(what: u32) {
    signal_fence();
    STATE.with(|state| state.store(state.load(Site::Reentry.order()) & !what, Site::Reentry.order()));
}

/// Of one thread: it must not be dropped on another.
type OfThread = PhantomData<*const ()>;

/// This thread runs a program, until it is dropped.
pub(crate) struct Entered(OfThread);

impl Drop for Entered {
    fn drop(&mut self) {
        leave(PROGRAM);
    }
}

/// A program starts; none if one runs on this thread already, or this thread was interrupted with the lock held.
pub(crate) fn program() -> Option<Entered> {
    enter(PROGRAM, PROGRAM | LOCK).then(|| Entered(PhantomData))
}

/// This thread holds locks of a map, or is about to, until it is dropped.
#[derive(Debug)]
pub(crate) struct Locked(OfThread);

/// This thread holds the lock already.
#[derive(Debug)]
pub(crate) struct Busy;

impl Drop for Locked {
    fn drop(&mut self) {
        leave(LOCK);
    }
}

/// For whoever takes locks of maps, or a guard: also while a program runs.
pub(crate) fn lock() -> Result<Locked, Busy> {
    enter(LOCK, LOCK).then(|| Locked(PhantomData)).ok_or(Busy)
}

/// The same for whoever waits for programs: not on a thread that runs one.
pub(crate) fn lock_outside() -> Result<Locked, Busy> {
    enter(LOCK, PROGRAM | LOCK).then(|| Locked(PhantomData)).ok_or(Busy)
}

/// A guard of the epoch for a time in which the lock is not held: a handler may change maps then.
pub(crate) struct Pinned {
    guard: Guard,
    /// Behind the guard: that is given back first.
    locked: Option<Locked>,
}

impl Pinned {
    pub(crate) fn new() -> Result<Self, Busy> {
        let _locked = lock()?;
        Ok(Self { guard: epoch::pin(), locked: None })
    }
}

impl Deref for Pinned {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.locked = lock().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_entered_in_what() {
        let entered = program().unwrap();
        assert!(program().is_none());
        assert!(lock_outside().is_err());
        let locked = lock().unwrap();
        assert!(lock().is_err() && lock_outside().is_err() && program().is_none() && Pinned::new().is_err());
        drop(locked);
        assert!(program().is_none());
        drop(entered);
        let locked = lock_outside().unwrap();
        assert!(lock().is_err() && program().is_none());
        std::thread::spawn(|| assert!(program().is_some() && lock().is_ok())).join().unwrap();
        drop(locked);
        drop(program().unwrap());
    }

    #[test]
    fn a_pinned_guard_leaves_the_lock() {
        let pinned = Pinned::new().unwrap();
        let entered = program().unwrap();
        drop(lock().unwrap());
        drop(pinned);
        drop(lock().unwrap());
        drop(entered);
    }
}
