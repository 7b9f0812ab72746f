//! The patterns of the keys that an observer meets.
//!
//! Owns: which keys are told as one pattern.
//! Never: forgets a pattern, or keeps more than its bounds say.
//! Holds: a pattern takes, as a binding, every key that was learned under it.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::routing::{ControlPlaneRouting, RoutingKey};

/// One word, whichever.
const ANY: &str = "*";

/// What a key was learned as.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Learned {
    pub pattern: String,
    /// Patterns that were told before have become one: `Patterns::find` says which.
    pub has_merged: bool,
    /// There was no room for a pattern of its own.
    pub is_folded: bool,
}

/// Every pattern that is known.
#[derive(Debug)]
pub(super) struct Patterns {
    /// Patterns of envelopes: only their type is told.
    families: BTreeSet<String>,
    /// The words of all other keys.
    others: Node,
    /// How many keys and patterns the others are.
    count: usize,
    patterns_max: usize,
    siblings_max: usize,
}

impl Patterns {
    pub fn new(patterns_max: usize, siblings_max: usize) -> Self {
        Self { families: BTreeSet::new(), others: Node::default(), count: 0, patterns_max, siblings_max }
    }

    /// Learns a key.
    ///
    /// The key of an envelope is told by its type. Of any other key each word is told, until more
    /// than `siblings_max` words are met in its place: then they are numbers or names that are made
    /// anew, and `*` stands for them.
    pub fn learn(&mut self, key: &str) -> Learned {
        let as_it_is = |pattern: String| Learned { pattern, has_merged: false, is_folded: false };
        if let Ok(RoutingKey { family, kind_type, .. }) = ControlPlaneRouting::parse(key) {
            let pattern = ControlPlaneRouting::type_binding(family, &kind_type);
            if self.families.contains(&pattern) || self.has_room() {
                self.families.insert(pattern.clone());
                return as_it_is(pattern);
            }
            return self.fold(key);
        }
        if self.others.has(key.split('.')) {
            return as_it_is(self.find(key));
        }
        if !self.has_room() {
            return self.fold(key);
        }
        self.count += 1;
        let has_merged = self.others.add(key.split('.'), 0, self.siblings_max);
        if has_merged {
            self.count = self.others.ends_count();
        }
        Learned { pattern: self.find(key), has_merged, is_folded: false }
    }

    /// What a key or pattern that was learned before is told as now.
    pub fn find(&self, learned: &str) -> String {
        // What was folded stays so: its `#` is no word.
        if self.families.contains(learned) || learned.ends_with(".#") {
            return learned.to_owned();
        }
        let mut words = Vec::new();
        let mut node = &self.others;
        for word in learned.split('.') {
            let Some((word, next)) = node.next(word) else { return learned.to_owned() };
            words.push(word);
            node = next;
        }
        words.join(".")
    }

    fn has_room(&self) -> bool {
        self.families.len() + self.count < self.patterns_max
    }

    /// There is no room: by its first word where that is known, else with all the rest.
    fn fold(&self, key: &str) -> Learned {
        let first = key.split('.').next().unwrap_or_default();
        let begins = |pattern: &String| pattern.split('.').next() == Some(first);
        let is_known = self.others.children.contains_key(first) || self.families.iter().any(begins);
        let pattern = if is_known { format!("{first}.#") } else { "#".to_owned() };
        Learned { pattern, has_merged: false, is_folded: true }
    }
}

/// A place in the tree of words.
#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Box<str>, Node>,
    /// A key ends here.
    ends: bool,
}

impl Node {
    /// The child by which a word goes on.
    fn next<'n>(&'n self, word: &'n str) -> Option<(&'n str, &'n Node)> {
        let named = self.children.get(word).map(|child| (word, child));
        named.or_else(|| self.children.get(ANY).map(|child| (ANY, child)))
    }

    fn has<'k>(&self, mut words: impl Iterator<Item = &'k str>) -> bool {
        match words.next() {
            None => self.ends,
            Some(word) => self.next(word).is_some_and(|(_, child)| child.has(words)),
        }
    }

    /// Adds the words of a key; whether words that were there have become one. First words are
    /// never one: they are what tells a stranger's keys apart.
    fn add<'k>(
        &mut self,
        mut words: impl Iterator<Item = &'k str>,
        depth: usize,
        siblings_max: usize,
    ) -> bool {
        let Some(word) = words.next() else {
            self.ends = true;
            return false;
        };
        let mut has_merged = false;
        let known = self.next(word).map(|(known, _)| Box::from(known));
        let word: Box<str> = known.unwrap_or_else(|| {
            if depth > 0 && self.children.len() >= siblings_max {
                self.merge(siblings_max);
                has_merged = true;
                return ANY.into();
            }
            word.into()
        });
        self.children.entry(word).or_default().add(words, depth + 1, siblings_max) || has_merged
    }

    /// All children as one.
    fn merge(&mut self, siblings_max: usize) {
        let mut merged = Node::default();
        for child in std::mem::take(&mut self.children).into_values() {
            merged.absorb(child, siblings_max);
        }
        self.children.insert(ANY.into(), merged);
    }

    fn absorb(&mut self, other: Node, siblings_max: usize) {
        self.ends |= other.ends;
        for (word, child) in other.children {
            self.children.entry(word).or_default().absorb(child, siblings_max);
        }
        let is_one = self.children.len() <= 1;
        if self.children.len() > siblings_max || !is_one && self.children.contains_key(ANY) {
            self.merge(siblings_max);
        }
    }

    fn ends_count(&self) -> usize {
        usize::from(self.ends) + self.children.values().map(Node::ends_count).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(patterns: &mut Patterns, key: &str) -> String {
        patterns.learn(key).pattern
    }

    #[test]
    fn envelopes_are_told_by_their_type_and_other_keys_as_they_are() {
        let mut patterns = Patterns::new(100, 4);
        for (key, pattern) in [
            ("signal.swarm-start.kestrel.worker.w-1", "signal.swarm-start.*.*.*"),
            ("signal.swarm-start.osprey.worker.w-2", "signal.swarm-start.*.*.*"),
            ("event.outcome.swarm-start.kestrel.worker.w-1", "event.outcome.swarm-start.*.*.*"),
            ("orders.created.eu", "orders.created.eu"),
            ("orders.created.us", "orders.created.us"),
            ("signal.start", "signal.start"),
            ("", ""),
            ("a..b", "a..b"),
        ] {
            assert_eq!(learned(&mut patterns, key), pattern, "{key}");
            assert_eq!(patterns.find(pattern), pattern);
        }
    }

    #[test]
    fn words_that_are_made_anew_become_one_and_what_was_told_before_is_found_again() {
        let mut patterns = Patterns::new(100, 3);
        for number in 0..3 {
            let key = format!("orders.{number}.created");
            assert_eq!(patterns.learn(&key), Learned { pattern: key, has_merged: false, is_folded: false });
        }
        learned(&mut patterns, "orders.0");
        let merged = patterns.learn("orders.3.deleted");
        assert_eq!((merged.pattern.as_str(), merged.has_merged), ("orders.*.deleted", true));
        assert_eq!(patterns.find("orders.1.created"), "orders.*.created");
        assert_eq!(patterns.find("orders.0"), "orders.*");
        assert_eq!(learned(&mut patterns, "orders.77.created"), "orders.*.created");
        assert_eq!(patterns.count, 3, "orders.*, orders.*.created, orders.*.deleted");
        // Whatever was learned, its pattern takes it as a binding.
        for key in ["orders.1.created", "orders.0", "orders.3.deleted"] {
            assert!(ControlPlaneRouting::matches(&patterns.find(key), key), "{key}");
        }
        // What was one below two words is one below both of them.
        for word in ["a", "b", "c", "d", "e"] {
            learned(&mut patterns, &format!("x.a.{word}.z"));
        }
        for word in ["b", "c", "d"] {
            learned(&mut patterns, &format!("x.{word}.q.z"));
        }
        assert_eq!(patterns.find("x.a.b.z"), "x.*.*.z");
        assert_eq!(patterns.find("x.b.q.z"), "x.*.*.z");
    }

    #[test]
    fn beyond_the_bound_a_key_is_told_by_its_first_word_or_not_at_all() {
        let mut patterns = Patterns::new(3, 100);
        learned(&mut patterns, "orders.created");
        learned(&mut patterns, "signal.swarm-start.s.r.i");
        learned(&mut patterns, "stock");
        for (key, pattern) in
            [("orders.deleted", "orders.#"), ("signal.swarm-stop.s.r.i", "signal.#"), ("other.thing", "#")]
        {
            let folded = patterns.learn(key);
            assert_eq!((folded.pattern.as_str(), folded.is_folded), (pattern, true));
            assert!(ControlPlaneRouting::matches(pattern, key));
        }
        assert!(!patterns.learn("orders.created").is_folded, "what is known is told as before");
        for number in 0..10_000 {
            learned(&mut patterns, &format!("flood-{number}.x"));
        }
        assert_eq!(patterns.others.ends_count() + patterns.families.len(), 3);
    }

    #[test]
    fn what_was_folded_stays_so_where_words_have_become_one_since() {
        let mut patterns = Patterns::new(6, 3);
        for key in ["a.1", "a.2", "a.3", "b.1", "b.2", "b.3"] {
            learned(&mut patterns, key);
        }
        assert_eq!(learned(&mut patterns, "a.4"), "a.#");
        patterns.patterns_max = 7;
        assert!(patterns.learn("a.5").has_merged);
        assert_eq!((patterns.find("a.1"), patterns.find("a.#")), ("a.*".to_owned(), "a.#".to_owned()));
    }
}
