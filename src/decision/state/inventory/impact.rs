//! The queue graph, as it leaves the inventory: what a stop reaches, and who uses which queue.
//!
//! Owns: the names of what a walk reached, and the ends of each instance.
//! Never: adds or drops an edge.
//! Holds: each edge is told once; the same inventory tells the same in the same order.

use super::{
    Inventory, Key,
    graph::{Course, Node},
    status::QueueUse,
};
use crate::contract::routing::Scope;

/// What breaks if an instance or a queue stops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impact {
    /// What gets less or nothing any more, nearest first.
    pub starved: Vec<Affected>,
    /// What fills up, and who can no longer get rid of what it makes, nearest first.
    pub backs_up: Vec<Affected>,
    /// There was more than `impact_nodes_max`.
    pub truncated: bool,
}

/// One place that a stop reaches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Affected {
    /// The place.
    pub place: GraphPlace,
    /// How many edges away.
    pub steps_count: u32,
    /// Another source (or another taker) remains, so that it gets less rather than nothing.
    pub relieved: bool,
}

/// A place in the queue graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GraphPlace {
    /// A worker.
    Instance(Scope),
    /// A queue.
    Queue(String),
}

impl Inventory {
    /// What breaks if an instance stops; empty for one that is unknown.
    pub fn impact_of_instance(&self, scope: &Scope) -> Impact {
        self.find(scope).map(|key| self.impact(Node::Instance(key))).unwrap_or_default()
    }

    /// What breaks if a queue is gone; empty for one that is unknown.
    pub fn impact_of_queue(&self, name: &str) -> Impact {
        self.graph.queue(name).map(|queue| self.impact(Node::Queue(queue))).unwrap_or_default()
    }

    /// The instances of one swarm or of all, each with the queues that it uses.
    pub fn ends<'a>(
        &'a self,
        swarm: Option<&str>,
    ) -> impl Iterator<Item = (Scope, impl Iterator<Item = (QueueUse, &'a str)>)> {
        let swarm = swarm.map(|name| self.names.find(name).map(Key::of_swarm));
        let range = swarm.unwrap_or(Some(Key::MIN..=Key::MAX));
        let keys = range.into_iter().flat_map(|range| self.instances.range(range));
        keys.map(|(key, _)| (self.scope_of(*key), self.graph.queues(*key)))
    }

    fn impact(&self, node: Node) -> Impact {
        let (down, down_cut) = self.graph.walk(node, Course::Down, self.limits.impact_nodes_max);
        let (up, up_cut) = self.graph.walk(node, Course::Up, self.limits.impact_nodes_max);
        let affected = |reached: super::graph::Reached| Affected {
            place: match reached.node {
                Node::Instance(key) => GraphPlace::Instance(self.scope_of(key)),
                Node::Queue(queue) => GraphPlace::Queue(self.graph.name(queue).to_owned()),
            },
            steps_count: reached.steps_count,
            relieved: reached.is_relieved,
        };
        Impact {
            starved: down.into_iter().map(affected).collect(),
            backs_up: up.into_iter().map(affected).collect(),
            truncated: down_cut || up_cut,
        }
    }
}
