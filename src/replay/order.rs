//! Records in the order of their times, with bounded memory.
//!
//! A recorder visits ring after ring, and writes what it finds: so records of different rings stand in the order of the
//! visits, and one may be older than all of those before it. At the end of each round of visits there is a `FINISHED_ROUND`
//! record. What is written in a round is younger than what was there when the round before began, so:
//!
//! ```text
//! round 1            round 2            round 3
//! ring 0  1 4 6      ring 0  7 12       ring 0  14 ...
//! ring 1  2 3 9      ring 1  10 11      ring 1  13 ...
//!            ^ newest: 9        ^ all up to 9 can go out: nothing older comes
//! ```

use crate::replay::chunks::Place;

/// In which order records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// As they stand in the recording: ring after ring, round after round.
    Recorded,
    /// By their times.
    ///
    /// As in perf, records wait until the round behind theirs has ended. Equal times keep the order in which they stand.
    /// Records without a time, and those whose time is 0 or `u64::MAX`, do not wait: they come when they are found.
    Time {
        /// Bytes that may wait, beside 512 KiB for each file. Where more do, as in a recording without rounds, the older half of the records goes out
        /// early. What turns out to be older than that is delivered all the same, and counted as
        /// [`late`](OrderStats::late).
        window: usize,
    },
}

impl Order {
    /// Bytes that may wait unless [`Order::Time`] says otherwise: 256 MiB.
    pub const WINDOW: usize = 256 << 20;
}

impl Default for Order {
    /// By time.
    fn default() -> Self {
        Self::Time { window: Self::WINDOW }
    }
}

/// How well the order of times could be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrderStats {
    /// Records that were found when a younger one had already been delivered.
    pub late: u64,
    /// How often records went out early, because too many waited.
    pub early: u64,
}

/// A record that waits, or is lent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// [`UNKNOWN`](Self::UNKNOWN) where it was not looked at, or there is none.
    pub(crate) time: u64,
    pub(crate) place: Place,
}

impl Waiting {
    /// What perf takes for no time, too.
    pub(crate) const UNKNOWN: u64 = u64::MAX;

    /// Whether it waits for its turn.
    pub(crate) fn is_ordered(self) -> bool {
        !matches!(self.time, 0 | Self::UNKNOWN)
    }
}

/// Records that wait, and those whose turn it is.
#[derive(Default)]
pub(crate) struct Queue {
    /// Those from `next` to `ready` go out; up to there all are sorted.
    entries: Vec<Waiting>,
    next: usize,
    ready: usize,
    /// The greatest time so far.
    newest: u64,
    /// The greatest time when the last round ended.
    round: u64,
    /// The time of the last one that went out.
    delivered: u64,
    pub(crate) stats: OrderStats,
}

impl Queue {
    /// Adds one that is next when all before it have gone out.
    #[inline]
    pub(crate) fn push_ready(&mut self, place: Place) {
        self.entries.push(Waiting { time: Waiting::UNKNOWN, place });
        self.ready = self.entries.len();
    }

    #[inline]
    pub(crate) fn push(&mut self, time: u64, place: Place) {
        self.newest = self.newest.max(time);
        self.stats.late += u64::from(time < self.delivered);
        self.entries.push(Waiting { time, place });
    }

    /// The next one whose turn it is.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        if self.next == self.ready {
            return None;
        }
        let waiting = *self.entries.get(self.next)?;
        self.next += 1;
        Some(waiting)
    }

    /// Those whose turn it is, at most `most`: they are taken.
    pub(crate) fn take_ready(&mut self, most: usize) -> &[Waiting] {
        let start = self.next;
        self.next += most.min(self.ready - start);
        self.entries.get(start..self.next).unwrap_or_default()
    }

    /// Forgets those that have gone out, when all that were ready have.
    pub(crate) fn forget(&mut self) {
        if self.next == self.entries.len() {
            self.entries.clear();
            (self.next, self.ready) = (0, 0);
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.next
    }

    /// Bytes that it takes.
    pub(crate) fn memory(&self) -> usize {
        // While it grows there are two of it, one of them twice as large; sorting takes less.
        self.len() * size_of::<Waiting>() * 3
    }

    /// A round ends.
    pub(crate) fn end_round(&mut self) {
        self.let_go(self.round);
        self.round = self.newest;
    }

    /// There is nothing more.
    pub(crate) fn end(&mut self) {
        self.let_go(u64::MAX);
    }

    /// Too many wait: the older half goes, and as many more as it takes for those that stay to lie in `most` chunks.
    pub(crate) fn halve(&mut self, most: usize) {
        self.stats.early += 1;
        self.sort();
        loop {
            self.ready += (self.entries.len() - self.ready).div_ceil(2);
            let staying = self.entries.get(self.ready..).unwrap_or_default();
            let mut chunks: Vec<u32> = staying.iter().map(|waiting| waiting.place.chunk).collect();
            chunks.dedup();
            chunks.sort_unstable();
            chunks.dedup();
            if chunks.len() <= most {
                break;
            }
        }
        self.note();
    }

    /// All up to a time go out.
    fn let_go(&mut self, limit: u64) {
        self.sort();
        self.ready = self.entries.partition_point(|waiting| waiting.time <= limit);
        if cfg!(perfring_planted_bug) && self.ready > 1 {
            self.next = 1;
        }
        self.note();
    }

    fn sort(&mut self) {
        self.entries.drain(..self.next);
        (self.next, self.ready) = (0, 0);
        // Stable, and made for runs that are sorted: those of the rings, and what waited before.
        self.entries.sort_by_key(|waiting| waiting.time);
    }

    fn note(&mut self) {
        if let Some(last) = self.ready.checked_sub(1).and_then(|last| self.entries.get(last)) {
            self.delivered = self.delivered.max(last.time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_chunk(chunk: u32) -> Place {
        Place { chunk, start: 0 }
    }

    #[test]
    fn records_of_the_far_future_do_not_hold_all_chunks() {
        let mut queue = Queue::default();
        for chunk in 0..100 {
            queue.push(1_000_000 + u64::from(chunk), in_chunk(chunk));
            (0..100).for_each(|time| queue.push(time, in_chunk(chunk)));
        }
        queue.halve(10);
        let mut gone = 0;
        let mut last = 0;
        while let Some(waiting) = queue.pop() {
            assert!(waiting.time >= last);
            last = waiting.time;
            gone += 1;
        }
        assert!((10_090..10_100).contains(&gone), "{gone}");
        assert_eq!(queue.len() + gone, 10_100, "and none is lost");
    }

    #[test]
    fn a_half_that_lies_in_few_chunks_stays() {
        let mut queue = Queue::default();
        (0..100).for_each(|time| queue.push(time + 1, in_chunk(time as u32 / 10)));
        queue.halve(7);
        assert_eq!((queue.ready, queue.len()), (50, 100));
        assert_eq!(queue.stats, OrderStats { late: 0, early: 1 });
    }
}
