//! What this thread is in.
use std::cell::Cell;
thread_local! { static STATE: Cell<u32> = const { Cell::new(0) }; }
pub(crate) struct Entered(());
impl Drop for Entered {
    fn drop(&mut self) {
        STATE.set(STATE.get() & !1);
    }
}
pub(crate) fn program() -> Option<Entered> {
    if STATE.get() != 0 {
        return None;
    }
    STATE.set(1);
    Some(Entered(()))
}
pub(crate) struct Locked(());
pub(crate) struct Busy;
impl Drop for Locked {
    fn drop(&mut self) {
        STATE.set(STATE.get() & !2);
    }
}
pub(crate) fn lock() -> Result<Locked, Busy> {
    if STATE.get() & 2 != 0 {
        return Err(Busy);
    }
    STATE.set(STATE.get() | 2);
    Ok(Locked(()))
}
