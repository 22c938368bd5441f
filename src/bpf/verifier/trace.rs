//! Which parts of remembered states a proof rests on.
//!
//! A state that was followed to the end covers a later one that differs from it only in what did not matter. To know what did,
//! each number carries a node that stands for all that its range was derived from since the last remembered state: there, each
//! number got a node of its own, whose sources are the nodes of before. Where the proof makes use of a range, its node is marked,
//! and with it all that it was derived from. So the marks of a remembered state's nodes tell which of its numbers matter.
//!
//! The same is done for bytes of the stack, whose marks tell which were read.

/// A node; `Node::NONE` stands for what rests on nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node(u32);

impl Node {
    pub(super) const NONE: Self = Self(0);

    fn index(self) -> Option<usize> {
        (self.0 as usize).checked_sub(1)
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// What it was derived from; those that are marked need not be looked at again.
    sources: [Node; 2],
    marked: bool,
}

/// All nodes of one proof.
#[derive(Debug, Default)]
pub(super) struct Trace {
    entries: Vec<Entry>,
    pending: Vec<Node>,
}

impl Trace {
    /// Bytes taken.
    pub(super) fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    fn push(&mut self, sources: [Node; 2]) -> Node {
        let Ok(number) = u32::try_from(self.entries.len() + 1) else {
            // More than memory is allowed for: what can't be followed back matters now.
            sources.into_iter().for_each(|source| self.mark(source));
            return Node::NONE;
        };
        self.entries.push(Entry { sources, marked: false });
        Node(number)
    }

    /// A node of its own for something in a state that is remembered.
    pub(super) fn remember(&mut self, source: Node) -> Node {
        self.push([source, Node::NONE])
    }

    /// What was derived from both.
    pub(super) fn join(&mut self, a: Node, b: Node) -> Node {
        let useless = |node: Node| node.index().is_none_or(|index| self.entries[index].marked);
        // Marked or none: then only the other is to be followed.
        match (useless(a), useless(b)) {
            (true, true) => Node::NONE,
            (true, false) => b,
            (false, true) => a,
            (false, false) if a == b => a,
            (false, false) => self.push([a, b]),
        }
    }

    pub(super) fn is_marked(&self, node: Node) -> bool {
        node.index().is_some_and(|index| self.entries[index].marked)
    }

    /// If the proof comes to rest on `old`, which was remembered, it rests on `new` too. On `new` in any case if `old` is none.
    pub(super) fn follows(&mut self, old: Node, new: Node) {
        let marked = old.index().is_none_or(|index| self.entries[index].marked);
        if marked || new == old {
            self.mark(new);
        } else if new != Node::NONE
            && let Some(index) = old.index()
        {
            // What is remembered has one source of its own.
            let [own, others] = self.entries[index].sources;
            let others = if others == Node::NONE { new } else { self.push([others, new]) };
            self.entries[index].sources = [own, others];
        }
    }

    /// The proof rests on it, and on all that it was derived from.
    pub(super) fn mark(&mut self, node: Node) {
        self.pending.push(node);
        while let Some(node) = self.pending.pop() {
            let Some(entry) = node.index().map(|index| &mut self.entries[index]) else { continue };
            if !entry.marked {
                entry.marked = true;
                self.pending.extend(entry.sources);
            }
        }
    }
}
