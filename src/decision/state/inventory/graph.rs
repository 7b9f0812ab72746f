//! The queue graph: who feeds whom, and what breaks if something stops.
//!
//! Owns: the edges between instances and queues, both ways, and the walk along them.
//! Never: asks a broker; an edge is there because an instance said so.
//! Holds: both indices hold the same edges; a walk ends on cycles and visits at most
//! `impact_nodes_max`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Key, names::Names, status::QueueUse};

/// The edges of all instances.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    names: Names,
    by_instance: BTreeMap<Key, Box<[Edge]>>,
    by_queue: BTreeSet<(u32, Key, QueueUse)>,
}

/// One end of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    queue: u32,
    way: QueueUse,
}

/// A place in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Instance(Key),
    Queue(u32),
}

/// Where a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// With the messages.
    Down,
    /// Against them.
    Up,
}

/// A place that a walk reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    pub node: Node,
    pub steps_count: u32,
    /// Another way in, or out, remains.
    pub is_relieved: bool,
}

impl Graph {
    /// The queues of an instance are these from now on.
    pub fn set(&mut self, key: Key, queues: &[(QueueUse, String)]) {
        // Taken before the old ones are released: a queue that stays keeps its number.
        let edges: Box<[Edge]> =
            queues.iter().map(|(way, name)| Edge { queue: self.names.take(name), way: *way }).collect();
        self.remove(key);
        self.by_queue.extend(edges.iter().map(|edge| (edge.queue, key, edge.way)));
        if !edges.is_empty() {
            self.by_instance.insert(key, edges);
        }
    }

    /// Removes the edges of an instance, and the names that nobody else uses.
    pub fn remove(&mut self, key: Key) {
        for edge in self.by_instance.remove(&key).iter().flatten() {
            self.by_queue.remove(&(edge.queue, key, edge.way));
            self.names.release(edge.queue);
        }
    }

    /// How many instances have queues, how many queues there are, and how many ends.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let Self { names, by_instance, by_queue } = self;
        (by_instance.len(), names.len(), by_queue.len())
    }

    pub fn queue(&self, name: &str) -> Option<u32> {
        self.names.find(name)
    }

    pub fn name(&self, queue: u32) -> &str {
        self.names.text(queue)
    }

    /// The queues of an instance.
    pub fn queues(&self, key: Key) -> impl Iterator<Item = (QueueUse, &str)> {
        self.by_instance.get(&key).into_iter().flatten().map(|edge| (edge.way, self.names.text(edge.queue)))
    }

    /// Everything that a stop of `from` reaches, nearest first, and whether there was more than may
    /// be visited.
    pub fn walk(&self, from: Node, course: Course, nodes_max: usize) -> (Vec<Reached>, bool) {
        let mut steps = BTreeMap::from([(from, 0_u32)]);
        let mut order = Vec::new();
        let mut waiting = VecDeque::from([from]);
        let mut is_cut = false;
        while let Some(node) = waiting.pop_front() {
            let next_steps = steps.get(&node).map_or(0, |steps| steps + 1);
            for next in self.next(node, course) {
                if steps.contains_key(&next) {
                    continue;
                }
                if order.len() >= nodes_max {
                    is_cut = true;
                    break;
                }
                steps.insert(next, next_steps);
                order.push((next, next_steps));
                waiting.push_back(next);
            }
        }
        let relieved = self.relieved(from, course, &steps, &order);
        let reached =
            |(node, steps_count)| Reached { node, steps_count, is_relieved: relieved.contains(&node) };
        (order.into_iter().map(reached).collect(), is_cut)
    }

    /// Of what was reached, what something outside still feeds (or drains), directly or over
    /// others.
    fn relieved(
        &self,
        from: Node,
        course: Course,
        reached: &BTreeMap<Node, u32>,
        order: &[(Node, u32)],
    ) -> BTreeSet<Node> {
        let back = if course == Course::Down { Course::Up } else { Course::Down };
        let has_other = |node: Node| self.next(node, back).any(|source| !reached.contains_key(&source));
        let mut relieved: BTreeSet<Node> =
            order.iter().map(|(node, _)| *node).filter(|node| has_other(*node)).collect();
        let mut waiting: Vec<Node> = relieved.iter().copied().collect();
        while let Some(node) = waiting.pop() {
            for next in self.next(node, course) {
                // What stops is relieved by nobody, also where a cycle leads back to it.
                if next != from && reached.contains_key(&next) && relieved.insert(next) {
                    waiting.push(next);
                }
            }
        }
        relieved
    }

    /// The neighbours of a place in one direction.
    fn next(&self, node: Node, course: Course) -> impl Iterator<Item = Node> {
        let (key, queue) = match node {
            Node::Instance(key) => (Some(key), None),
            Node::Queue(queue) => (None, Some(queue)),
        };
        let leaves = move |way: QueueUse, from_instance: bool| {
            (course == Course::Down) == (way.is_out() == from_instance)
        };
        let queues = key.and_then(|key| self.by_instance.get(&key)).into_iter().flatten();
        let queues = queues.filter(move |edge| leaves(edge.way, true)).map(|edge| Node::Queue(edge.queue));
        let ends = queue.map(|queue| {
            self.by_queue
                // From the first to the last of `QueueUse`: all ends of the queue.
                .range((queue, Key::MIN, QueueUse::WorkIn)..=(queue, Key::MAX, QueueUse::ControlRoute))
        });
        let instances = ends.into_iter().flatten();
        let instances =
            instances.filter(move |(_, _, way)| leaves(*way, false)).map(|(_, key, _)| Node::Instance(*key));
        queues.chain(instances)
    }

    /// What it takes up on the heap, about.
    pub fn bytes(&self) -> usize {
        // Trees are two thirds full.
        let by_instance = (size_of::<Key>() + size_of::<Box<[Edge]>>()) * 3 / 2;
        let by_queue = size_of::<(u32, Key, QueueUse)>() * 3 / 2;
        self.names.bytes()
            + self.by_instance.len() * by_instance
            + self.by_queue.len() * (by_queue + size_of::<Edge>())
    }
}
