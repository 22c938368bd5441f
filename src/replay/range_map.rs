//! Ranges of addresses, each with a value, that can be copied at no cost.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// Ranges that do not overlap: a new one takes its place from those before it.
///
/// A treap whose nodes copies share until one of them changes: copying takes constant time, and a change, also of a copy,
/// takes logarithmic time. That is what bounds a recording in which a process with very many mappings forks very often.
#[derive(Clone, Debug)]
pub(crate) struct RangeMap<T>(Link<T>);

type Link<T> = Option<Arc<Node<T>>>;

#[derive(Clone, Debug)]
struct Node<T> {
    start: u64,
    /// The last address, which is not before the first.
    last: u64,
    value: T,
    /// Not below those of the children.
    priority: u64,
    /// Counts the nodes that there are.
    _token: Arc<()>,
    left: Link<T>,
    right: Link<T>,
}

/// What the nodes of several maps have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    token: Arc<()>,
    /// Nobody who chooses addresses can choose priorities, too.
    seed: RandomState,
    made: u64,
}

impl Nodes {
    /// How many there are, those that copies share counted once.
    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.token) - 1
    }

    fn make<T>(&mut self, start: u64, last: u64, value: T) -> Link<T> {
        self.made = self.made.wrapping_add(1);
        let priority = self.seed.hash_one(self.made);
        Some(Arc::new(Node { start, last, value, priority, _token: self.token.clone(), left: None, right: None }))
    }
}

impl<T> Default for RangeMap<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Clone> RangeMap<T> {
    /// The value of the range with this address, if there is one.
    pub(crate) fn get(&self, address: u64) -> Option<&T> {
        let (mut next, mut found) = (&self.0, None);
        while let Some(node) = next {
            if node.start <= address {
                found = Some(node);
                next = &node.right;
            } else {
                next = &node.left;
            }
        }
        found.filter(|node| address <= node.last).map(|node| &node.value)
    }

    /// Gives the addresses from `start` to `last`, included, a new value.
    pub(crate) fn insert(&mut self, start: u64, last: u64, value: T, nodes: &mut Nodes) {
        if start <= last {
            let new = nodes.make(start, last, value);
            self.replace(start, last, new, nodes);
        }
    }

    /// Takes the addresses from `start` to `last`, included, out of all ranges.
    pub(crate) fn remove(&mut self, start: u64, last: u64, nodes: &mut Nodes) {
        if start <= last {
            self.replace(start, last, None, nodes);
        }
    }

    fn replace(&mut self, start: u64, last: u64, new: Link<T>, nodes: &mut Nodes) {
        let (mut before, rest) = split(self.0.take(), start);
        let (mut inside, after) = match last.checked_add(1) {
            Some(next) => split(rest, next),
            None => (rest, None),
        };
        let mut tail = None;
        if let Some(node) = last_mut(&mut before)
            && node.last >= start
        {
            if node.last > last {
                tail = nodes.make(last + 1, node.last, node.value.clone());
            }
            // It begins before `start`.
            node.last = start - 1;
        }
        if let Some(node) = last_mut(&mut inside)
            && node.last > last
        {
            tail = nodes.make(last + 1, node.last, node.value.clone());
        }
        self.0 = merge(merge(before, new), merge(tail, after));
    }

    /// First and last address and value of each, in ascending order.
    #[cfg(test)]
    pub(crate) fn ranges(&self) -> Vec<(u64, u64, T)> {
        fn walk<T: Clone>(link: &Link<T>, to: &mut Vec<(u64, u64, T)>) {
            if let Some(node) = link {
                walk(&node.left, to);
                to.push((node.start, node.last, node.value.clone()));
                walk(&node.right, to);
            }
        }
        let mut ranges = Vec::new();
        walk(&self.0, &mut ranges);
        ranges
    }

    #[cfg(test)]
    fn depth(&self) -> usize {
        fn depth<T>(link: &Link<T>) -> usize {
            link.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
        }
        depth(&self.0)
    }
}

/// Those that begin before `at`, and the others.
fn split<T: Clone>(link: Link<T>, at: u64) -> (Link<T>, Link<T>) {
    let Some(mut node) = link else { return (None, None) };
    let inner = Arc::make_mut(&mut node);
    if inner.start < at {
        let (left, right) = split(inner.right.take(), at);
        inner.right = left;
        (Some(node), right)
    } else {
        let (left, right) = split(inner.left.take(), at);
        inner.left = right;
        (left, Some(node))
    }
}

/// All of `left`, which are before all of `right`, and those.
fn merge<T: Clone>(left: Link<T>, right: Link<T>) -> Link<T> {
    match (left, right) {
        (None, link) | (link, None) => link,
        (Some(mut left), Some(mut right)) => Some(if left.priority > right.priority {
            let inner = Arc::make_mut(&mut left);
            inner.right = merge(inner.right.take(), Some(right));
            left
        } else {
            let inner = Arc::make_mut(&mut right);
            inner.left = merge(Some(left), inner.left.take());
            right
        }),
    }
}

fn last_mut<T: Clone>(link: &mut Link<T>) -> Option<&mut Node<T>> {
    let node = Arc::make_mut(link.as_mut()?);
    if node.right.is_some() {
        return last_mut(&mut node.right);
    }
    Some(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_stays_flat_and_counts_its_nodes() {
        const COUNT: u64 = 100_000;
        let (mut nodes, mut map) = (Nodes::default(), RangeMap::default());
        for at in 0..COUNT {
            map.insert(at * 2, at * 2, at, &mut nodes);
        }
        assert_eq!(nodes.count() as u64, COUNT);
        assert!(map.depth() < 120, "{}", map.depth());
        let copies: Vec<_> = (0..1000)
            .map(|at| {
                let mut copy = map.clone();
                copy.insert(at * 2 + 1, at * 2 + 1, 7, &mut nodes);
                copy
            })
            .collect();
        // What the copies do not share are paths.
        assert!(nodes.count() < COUNT as usize + 1000 * 250, "{}", nodes.count());
        assert!(
            copies.iter().zip(0..).all(|(copy, at)| copy.get(at * 2 + 1) == Some(&7) && copy.get(at * 2) == Some(&at))
        );
        assert_eq!(map.get(1), None);
        drop(copies);
        map.insert(0, u64::MAX, 1, &mut nodes);
        assert_eq!((map.ranges(), nodes.count()), (vec![(0, u64::MAX, 1)], 1));
        map.remove(5, u64::MAX, &mut nodes);
        map.insert(9, 8, 2, &mut nodes);
        assert_eq!(map.ranges(), [(0, 4, 1)]);
    }

    proptest! {
        /// Against one value for each address.
        #[test]
        fn it_is_a_table_of_addresses(
            steps in prop::collection::vec((0_usize..3, 0_u64..48, 0_u64..48, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let mut nodes = Nodes::default();
            let mut maps = vec![(RangeMap::default(), [None; 48])];
            for (value, (which, start, len, is_removal, forks)) in steps.into_iter().enumerate() {
                let which = which % maps.len();
                if forks && maps.len() < 8 {
                    let copy = maps[which].clone();
                    maps.push(copy);
                }
                let (map, table) = &mut maps[which];
                let last = (start + len).min(47);
                if is_removal {
                    map.remove(start, last, &mut nodes);
                } else {
                    map.insert(start, last, value, &mut nodes);
                }
                table[start as usize..=last as usize].fill((!is_removal).then_some(value));
                for (map, table) in &maps {
                    for (at, value) in (0..).zip(table) {
                        prop_assert_eq!(map.get(at), value.as_ref());
                    }
                    for pair in map.ranges().windows(2) {
                        prop_assert!(pair[0].1 < pair[1].0);
                    }
                }
            }
            drop(maps);
            prop_assert_eq!(nodes.count(), 0);
        }
    }
}
