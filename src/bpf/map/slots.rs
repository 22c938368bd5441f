#![allow(unsafe_code)]
use super::MapError;
use crate::sync::epoch::Guard;
use crossbeam_epoch::{Atomic, Owned};
use std::sync::atomic::Ordering;
pub struct Slots<T> {
    cells: Box<[Atomic<T>]>,
}
impl<T> Slots<T> {
    pub fn new(n: usize) -> Self {
        Self { cells: (0..n).map(|_| Atomic::null()).collect() }
    }
    pub fn len(&self) -> usize {
        self.cells.len()
    }
    pub fn load<'g>(&'g self, i: usize, guard: &'g Guard) -> Option<&'g T> {
        unsafe { self.cells.get(i)?.load(Ordering::Acquire, guard).as_ref() }
    }
    pub fn store(&self, i: usize, v: Option<T>) -> Result<(), MapError> {
        let guard = crate::sync::epoch::pin();
        let new = v.map_or_else(crossbeam_epoch::Shared::null, |v| Owned::new(v).into_shared(&guard));
        let old = self.cells.get(i).ok_or(MapError::Index)?.swap(new, Ordering::AcqRel, &guard);
        if !old.is_null() {
            unsafe { guard.defer_destroy(old) }
        }
        Ok(())
    }
}
