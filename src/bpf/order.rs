//! The order table of the machine.

crate::sync::order_table! {
    /// Where the machine touches an atomic, and with which order. What programs leave for each other is handed on by the
    /// leases of the CPUs, and by the maps' own table.
    pub(crate) enum Site {
        /// Where an event is: the event itself is handed on by the lease of its CPU.
        EventSlot = Relaxed, "slots of perf event arrays: load and swap", pair "-", models "-";
        /// Only the thread's own signal handlers look: the fences are the compiler's.
        Reentry = Relaxed, "what a thread is in: load and store", pair "-", models "-";
        /// Who takes a CPU is behind what those before have done with it.
        LeaseTake = Acquire, "lease: compare-exchange that takes a CPU", pair "LeaseGive", models "fire_close, fire_enable";
        LeaseGive = Release, "lease: store that gives a CPU back", pair "LeaseTake", models "fire_close, fire_enable";
        /// Only that it is not to be had.
        LeaseSeen = Relaxed, "lease: a CPU that is held, or stopped", pair "-", models "-";
        /// Who stops the machine takes each CPU. Weakened, it does not.
        StopWaits = Acquire, "stop: take each CPU", pair "LeaseGive", models "fire_close";
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
