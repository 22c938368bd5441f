//! Cells whose content is replaced while others look at it.

#![allow(unsafe_code)]

use super::order::Site;
use crate::sync::epoch::{self, Guard};
use crossbeam_epoch::{Atomic, Owned, Shared};

/// A place that is empty or holds a value. Whoever looks needs no lock, and keeps what was found for as long as its guard; what
/// is replaced is dropped when nobody can have it any more.
pub(crate) struct Cell<T: Send + Sync + 'static> {
    content: Atomic<T>,
}

impl<T: Send + Sync + 'static> Cell<T> {
    pub(crate) fn new() -> Self {
        Self { content: Atomic::null() }
    }

    /// What is there.
    pub(crate) fn load<'g>(&self, guard: &'g Guard) -> Option<&'g T> {
        let found = self.content.load(Site::CellLoad.order(), guard);
        // SAFETY: what is not null was made by `swap`, from an `Owned`, before it was stored: the acquire of this load pairs
        // with the release of that swap. It is destroyed only by a deferred function, after every guard that was there when it
        // was taken out is gone, and `guard`, which is one of this crate's collector as all in it are, was there: it could still
        // be found.
        unsafe { found.as_ref() }
    }

    /// Replaces what is there; gives whether there was something.
    pub(crate) fn swap(&self, value: Option<T>) -> bool {
        let guard = epoch::pin();
        let new = value.map_or_else(Shared::null, |value| Owned::new(value).into_shared(&guard));
        let old = self.content.swap(new, Site::CellSwap.order(), &guard);
        if old.is_null() {
            return false;
        }
        // SAFETY: it was in the cell alone, and this swap took it out: nobody can come by it from now on, and nobody else
        // defers its destruction. Those who came by it before have guards. It may be dropped on any thread: `T` is `Send`.
        unsafe { guard.defer_destroy(old) };
        true
    }
}

impl<T: Send + Sync + 'static> Drop for Cell<T> {
    fn drop(&mut self) {
        // Not at once: what was found lives as long as the guard under which it was, not as the cell.
        self.swap(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_was_found_outlives_the_cell() {
        let value = Arc::new(());
        let cell = Cell::new();
        cell.swap(Some(value.clone()));
        let guard = epoch::pin();
        let found = cell.load(&guard).unwrap();
        drop(cell);
        for _ in 0..1000 {
            epoch::pin().flush();
        }
        assert_eq!(Arc::strong_count(found), 2, "nobody drops it while the guard is there");
        drop(guard);
        for _ in 0..1000 {
            epoch::pin().flush();
        }
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
