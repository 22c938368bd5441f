//! The order table of the machine.

crate::sync::order_table! {
    /// Where the machine touches an atomic, and with which order. What programs leave for each other is handed on by the
    /// mutexes of the CPUs, and by the maps' own table.
    pub(crate) enum Site {
        /// Where an event is: the event itself is handed on by the mutex of its CPU.
        EventSlot = Relaxed, "slots of perf event arrays: load and swap", pair "-", models "-";
        /// Only the thread's own signal handlers look: the fences are the compiler's.
        Reentry = Relaxed, "what a thread is in: load and store", pair "-", models "-";
        /// Who stops the machine waits for the lock of each CPU. Weakened, it does not.
        StopWaits = Acquire, "stop: lock the mutex of a CPU", pair "StopSeen", models "fire_close";
        /// Who holds the lock of a CPU sees that it was stopped before. Weakened, it does not look.
        StopSeen = Acquire, "lease: look whether the machine was stopped, under the mutex of the CPU", pair "StopWaits", models "fire_close";
        /// A counter.
        Counter = Relaxed, "counters of the machine", pair "-", models "-";
    }
}

impl Site {
    /// Whether it is as the table says: always, but in models of what would be if it were not.
    #[inline(always)]
    pub(crate) fn holds(self) -> bool {
        self.order() != crate::sync::Ordering::Relaxed
    }
}
