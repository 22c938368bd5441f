//! Cells whose content is replaced while others look at it.

#![allow(unsafe_code)]

use super::order::Site;
use crate::sync::AtomicPtr;
use crate::sync::epoch::{self, Guard};
use std::marker::PhantomData;
use std::ptr;

/// A place that is empty or holds a value. Whoever looks needs no lock, and keeps what was found for as long as its guard; what
/// is replaced is dropped when nobody can have it any more.
pub(crate) struct Cell<T: Send + Sync + 'static> {
    /// Null, or of a `Box`.
    content: AtomicPtr<T>,
    /// It owns what it points to.
    owner: PhantomData<T>,
}

/// What was taken out of a cell.
struct Old<T>(*mut T);

// SAFETY: it is a box that waits to be dropped, of a `T` that may be dropped on any thread.
unsafe impl<T: Send> Send for Old<T> {}

impl<T> Old<T> {
    /// # Safety
    /// It came from `Box::into_raw`, and nobody else has it any more, or drops it.
    unsafe fn drop_it(self) {
        // SAFETY: the caller's contract.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl<T: Send + Sync + 'static> Cell<T> {
    #[cfg(not(perfring_loom))]
    pub(crate) const fn new() -> Self {
        Self { content: AtomicPtr::new(ptr::null_mut()), owner: PhantomData }
    }

    #[cfg(perfring_loom)]
    pub(crate) fn new() -> Self {
        Self { content: AtomicPtr::new(ptr::null_mut()), owner: PhantomData }
    }

    /// What is there.
    pub(crate) fn load<'g>(&self, _guard: &'g Guard) -> Option<&'g T> {
        let found = self.content.load(Site::CellLoad.order());
        // SAFETY: what is not null was made by `swap`, from a box, before it was stored: the acquire of this load pairs with the
        // release of that swap. It is dropped only by a deferred function, after every guard is gone that was there when it had
        // been taken out. A guard that came later does not find it any more; so this one, of the crate's only collector as all
        // guards are that `sync` gives, was there. No reference but shared ones is made until then.
        unsafe { found.as_ref() }
    }

    /// Replaces what is there; gives whether there was something.
    pub(crate) fn swap(&self, value: Option<T>, guard: &Guard) -> bool {
        let new = value.map_or(ptr::null_mut(), |value| Box::into_raw(Box::new(value)));
        let old = Old(self.content.swap(new, Site::CellSwap.order()));
        if old.0.is_null() {
            return false;
        }
        // SAFETY: not null, it is from a box that a swap before this one stored. It was in this cell alone, and this swap took it
        // out: nobody comes by it from now on, and nobody else drops it. Those who came by it before did so under guards, and
        // so did the one who stored it: this runs behind all that they did.
        guard.defer(move || unsafe { old.drop_it() });
        true
    }
}

impl<T: Send + Sync + 'static> Drop for Cell<T> {
    fn drop(&mut self) {
        if !self.content.load(Site::CellLoad.order()).is_null() {
            // Not at once: what was found lives as long as the guard under which it was, not as the cell.
            self.swap(None, &epoch::pin());
        }
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
        cell.swap(Some(value.clone()), &epoch::pin());
        let guard = epoch::pin();
        let found = cell.load(&guard).unwrap();
        drop(cell);
        for _ in 0..1000 {
            epoch::pin().flush();
        }
        assert_eq!(Arc::strong_count(found), 2, "nobody drops it while the guard is there");
        drop(guard);
        // Other tests may have guards, too.
        for _ in 0..10_000 {
            if Arc::strong_count(&value) == 1 {
                break;
            }
            epoch::pin().flush();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
