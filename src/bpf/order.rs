//! The order table of the machine.

crate::sync::order_table! {
    /// Where the machine touches an atomic, and with which order. What programs leave for each other is handed on by the
    /// mutexes of the CPUs, and by the maps' own table.
    pub(crate) enum Site {
        /// Where an event is: the event itself is handed on by the mutex of its CPU.
        EventSlot = Relaxed, "slots of perf event arrays: load and swap", pair "-", models "-";
        /// Only the thread's own signal handlers look: the fences are the compiler's.
        Reentry = Relaxed, "what a thread is in: load and store", pair "-", models "-";
        /// A counter.
        Counter = Relaxed, "counters of the machine", pair "-", models "-";
    }
}
