//! The order table of probes.

crate::sync::order_table! {
    /// Where probes touch an atomic, and with which order. What is enabled is handed on by the cell that holds it (`CellSwap` and
    /// `CellLoad` of the maps' table), and the end of a session by the leases of its machine's CPUs.
    pub(crate) enum Site {
        /// A hint: who sees it late fires late, or finds nothing enabled.
        Enabled = Relaxed, "whether a probe is enabled: load and store", pair "-", models "-";
        /// A counter.
        Skipped = Relaxed, "counters of probes", pair "-", models "-";
        /// The thread's own; changes once for each session that starts.
        Generation = Relaxed, "count of sessions that were started: load and add", pair "-", models "-";
        /// Only its thread touches it, and handlers that interrupt that.
        Own = Relaxed, "what a thread remembers of itself: load and store", pair "-", models "-";
    }
}
