//! The order table of the ring.
//!
//! Positions are the protocol: whoever stores one gives up bytes, whoever loads it takes them over. Every edge that this
//! needs stands here with its pair. `loom-tests/run` weakens each order that is stronger than `Relaxed`, one at a time,
//! and fails unless a model named in the row fails.

crate::sync::order_table! {
    /// Where the ring touches an atomic, and with which order.
    pub(crate) enum Site {
        /// The records below the new head were written before it.
        HeadStore = Release, "`Producer`: store `data_head`", pair "HeadLoad", models "publish";
        /// Everything below this head may be read now.
        HeadLoad = Acquire, "`Consumer`: load `data_head`", pair "HeadStore, HeadRaise, PublishedAdvance", models "publish, shared";
        /// The records below the new tail were read before it.
        TailStore = Release, "`Consumer`: store `data_tail`", pair "TailLoad", models "reclaim, wrap";
        /// Everything below this tail may be overwritten now. (The kernel has a control dependency here.)
        TailLoad = Acquire, "producers: load `data_tail`", pair "TailStore", models "reclaim, wrap, shared_reclaim";
        /// Whoever sees the ring closed sees the last head.
        ClosedStore = Release, "last producer dropped: store `closed`", pair "ClosedLoad", models "close";
        /// After this a head that is loaded is the last one.
        ClosedLoad = Acquire, "`Consumer::wait`, `is_closed`: load `closed`", pair "ClosedStore", models "close";
        /// Either the producer sees that the consumer wants a wake-up, or the consumer sees the new head.
        WakeFence = SeqCst, "producers, at a watermark: fence between storing the head and loading `need_wake`", pair "ArmFence", models "wake";
        /// See `WakeFence`.
        ArmFence = SeqCst, "`Consumer::arm`: fence between storing `need_wake` and loading the head", pair "WakeFence", models "wake";
        /// `reserved` is there before any byte that it gives up is overwritten.
        ReservedFence = Release, "`OverwriteProducer`: fence between storing `reserved` and storing words", pair "SnapshotFence", models "overwrite";
        /// `reserved`, loaded after this, is at least that of every word that the copy saw.
        SnapshotFence = Acquire, "overwrite reader: fence between copying words and loading `reserved`", pair "ReservedFence", models "overwrite";
        /// A slot that is seen closed has its record written.
        SlotStore = Release, "`SharedProducer`: store a closed slot", pair "SlotLoad", models "shared";
        /// See `SlotStore`.
        SlotLoad = Acquire, "`SharedProducer`: load the next slot while advancing", pair "SlotStore", models "shared";
        /// Hands the records below `published` on to whoever advances it next, and to the consumer where it is `data_head`.
        PublishedAdvance = AcqRel, "`SharedProducer`: compare-exchange that advances `published`", pair "itself, PublishedVisit, HeadLoad", models "shared";
        /// Who fails to advance still raises `data_head` over what others closed.
        PublishedBeaten = Acquire, "`SharedProducer`: that compare-exchange, failed", pair "PublishedAdvance", models "shared";
        /// Of two that close at the same time, the later in this word's order sees the slot of the earlier.
        PublishedVisit = AcqRel, "`SharedProducer`: read-modify-write of `published` after closing a slot", pair "itself, PublishedAdvance", models "shared";
        /// The records below the new head were written, or taken over, before it.
        HeadRaise = Release, "`SharedProducer`: compare-exchange that raises `data_head`", pair "HeadLoad", models "shared";
        /// A position that only guides a compare-exchange.
        ReservedLoad = Relaxed, "`SharedProducer`: load or compare-exchange of `reserved`", pair "-", models "shared";
        /// A tail that is loaded after this is at least the one that the newest published claim was measured by.
        PublishedLoad = Acquire, "`SharedProducer`: load `published` between two loads of `data_tail`, to judge it", pair "PublishedAdvance", models "shared_stale_tail";
        /// Only guides the compare-exchange that raises it.
        HeadPeek = Relaxed, "`SharedProducer`: load `data_head` before raising it", pair "-", models "shared";
        /// Diagnosis.
        SlotPeek = Relaxed, "`SharedProducer`: load slots for diagnosis", pair "-", models "-";
        /// Ordered by `ReservedFence`.
        ReservedStore = Relaxed, "`OverwriteProducer`: store `reserved`", pair "ReservedFence", models "overwrite";
        /// Ordered by `SnapshotFence`.
        ReservedCheck = Relaxed, "overwrite reader: load `reserved`", pair "SnapshotFence", models "overwrite";
        /// Ordered by `ReservedFence` and `HeadStore`.
        WordStore = Relaxed, "`OverwriteProducer`: store a data word", pair "-", models "overwrite";
        /// Ordered by `SnapshotFence` and `HeadLoad`.
        WordLoad = Relaxed, "readers that copy: load a data word", pair "-", models "overwrite";
        /// Ordered by `WakeFence`.
        NeedWake = Relaxed, "both: load and store `need_wake`", pair "-", models "wake";
        /// The fields that this even `lock` covers were written before it.
        TimeUnlock = Release, "time page writer: store `lock`, even again", pair "TimeLockLoad", models "time_page";
        /// The fields that are loaded after this are at least as new as `lock`.
        TimeLockLoad = Acquire, "`TimePage`: load `lock` before the fields", pair "TimeUnlock", models "time_page";
        /// Whoever sees a new field sees the odd `lock`, too.
        TimeWriteFence = Release, "time page writer: fence between storing the odd `lock` and the fields", pair "TimeReadFence", models "time_page";
        /// `lock`, loaded after this, is at least as new as each of the fields.
        TimeReadFence = Acquire, "`TimePage`: fence between loading the fields and loading `lock` again", pair "TimeWriteFence", models "time_page";
        /// Ordered by `TimeWriteFence`.
        TimeLock = Relaxed, "time page writer: store `lock`, odd", pair "TimeWriteFence", models "time_page";
        /// Ordered by `TimeReadFence`.
        TimeLockCheck = Relaxed, "`TimePage`: load `lock` again", pair "TimeReadFence", models "time_page";
        /// Ordered by the four above.
        TimeField = Relaxed, "both: load and store the fields of the time page", pair "-", models "time_page";
        /// The bytes below the new head were written before it.
        AuxHeadStore = Release, "`AuxProducer`: store `aux_head`", pair "AuxHeadLoad", models "aux_publish, aux_snapshot";
        /// Everything below this head may be read now.
        AuxHeadLoad = Acquire, "`AuxConsumer`, `AuxSnapshot`: load `aux_head`", pair "AuxHeadStore", models "aux_publish, aux_snapshot";
        /// The bytes below the new tail were read before it.
        AuxTailStore = Release, "`AuxConsumer`: store `aux_tail`", pair "AuxTailLoad", models "aux_reclaim, aux_wrap, aux_span";
        /// Everything below this tail may be overwritten now.
        AuxTailLoad = Acquire, "`AuxProducer`: load `aux_tail`", pair "AuxTailStore", models "aux_reclaim, aux_wrap, aux_span";
        /// Only tells that somebody writes while a snapshot is taken, which nothing can order.
        AuxHeadCheck = Relaxed, "`AuxSnapshot`: load `aux_head` again", pair "-", models "aux_snapshot";
        /// Ordered by `AuxHeadStore` where nothing is overwritten meanwhile.
        AuxWord = Relaxed, "AUX areas that overwrite: load and store words", pair "AuxHeadStore", models "aux_snapshot";
        /// Before the area is mapped, or by whoever has mapped it before it is shared.
        AuxDescribe = Relaxed, "attach: store and load `aux_offset`, `aux_size`; load the first `aux_tail`", pair "-", models "-";
        /// A counter.
        Lost = Relaxed, "counters of lost records", pair "-", models "lost";
        /// How far wake-ups have been counted.
        WakeMark = Relaxed, "`SharedProducer`: bytes or records since the last wake-up", pair "-", models "-";
        /// A reader validates anyway; the pause only keeps it from being overtaken.
        Paused = Relaxed, "both: load and store `paused`", pair "-", models "-";
        /// Wiped by fork, before the child runs.
        ForkWord = Relaxed, "producers: load the fork guard", pair "-", models "-";
        /// Who comes first gets the handle; what it works on was made before the ring was shared.
        Taken = Relaxed, "`Ring`: swap of the flags that say which handles are given out", pair "-", models "-";
        /// Written before the mapping existed.
        Describe = Relaxed, "attach: load `data_offset`, `data_size`", pair "-", models "-";
    }
}
