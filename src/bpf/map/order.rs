//! The order table of the maps.

crate::sync::order_table! {
    /// Where maps touch an atomic, and with which order. What lies in a slot is not among them: it is the programs' to order.
    pub(crate) enum Site {
        /// The key of the slot, and its link, were written before the link to it.
        LinkStore = Release, "hash: store a link, of a bucket or of a slot, under the bucket's lock", pair "LinkLoad", models "map_insert, map_replace";
        /// See `LinkStore`.
        LinkLoad = Acquire, "hash: load a link while looking for a key", pair "LinkStore", models "map_insert, map_replace";
        /// The link of the slot that is free now was written before it is the first of those that are.
        FreePush = Release, "hash: compare-exchange that makes a slot the first that is free", pair "FreePeek", models "map_free";
        /// Each change of the word is a read-modify-write, so what `FreePeek` loads is the last of a release sequence.
        FreePop = Relaxed, "hash: compare-exchange that takes the first slot that is free", pair "FreePush", models "map_free";
        /// The link of the first slot is loaded before the slot is taken; who had the slot before has nothing to do with it.
        FreePeek = Acquire, "hash: load the first slot that is free, or fail to take it", pair "FreePush", models "map_free";
        /// Ordered by `LinkStore`.
        KeyStore = Relaxed, "hash: store a word of a key (in models: of a value) into a slot that nobody else has", pair "-", models "-";
        /// Ordered by `LinkLoad`.
        KeyLoad = Relaxed, "hash: load a word of a key (in models: of a value)", pair "-", models "-";
        /// Under the lock of the bucket, or of a slot that nobody else has.
        LinkOwn = Relaxed, "hash: load or store links under the lock, and of free slots; whether a bucket has none", pair "-", models "-";
        /// Exact, as every change is a read-modify-write.
        Live = Relaxed, "hash: count of elements, and of slots that were never used", pair "-", models "-";
        /// A hint.
        Uses = Relaxed, "LRU hash: whether an element was used since the hand passed; the hand", pair "-", models "-";
        /// Diagnosis, or guides a compare-exchange.
        Waiting = Relaxed, "hash: how many slots wait for programs to end; whether one is free", pair "-", models "-";
        /// What is put into a cell was made before. What is taken out is dropped behind all that was done under guards before:
        /// that was made under one, too.
        CellSwap = Release, "cells: swap", pair "CellLoad", models "map_cell, fire_enable";
        /// See `CellSwap`.
        CellLoad = Acquire, "cells: load", pair "CellSwap", models "map_cell, fire_enable";
        /// Freezing orders nothing else.
        Frozen = Relaxed, "maps: load and store whether Rust may still change it", pair "-", models "-";
    }
}
