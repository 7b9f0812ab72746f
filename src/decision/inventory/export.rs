//! The queue graph for people: impact, JSON and Graphviz.
//!
//! Owns: the forms in which the graph leaves the inventory.
//! Never: adds or drops an edge; what names contain is escaped, never trusted.
//! Holds: each edge is written once; the same inventory gives the same text.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Inventory, Key,
    graph::{Course, Node},
    status::Way,
};
use crate::contract::routing::Scope;

/// What breaks if an instance or a queue stops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Impact {
    /// What gets less or nothing any more, nearest first.
    pub starved: Vec<Affected>,
    /// What fills up, and who can no longer get rid of what it makes, nearest first.
    pub backs_up: Vec<Affected>,
    /// There was more than `impact_nodes_max`.
    pub truncated: bool,
}

/// One place that a stop reaches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Affected {
    /// The place.
    pub place: Place,
    /// How many edges away.
    pub steps_count: u32,
    /// Another source (or another taker) remains, so that it gets less rather than nothing.
    pub relieved: bool,
}

/// A place in the queue graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
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

    /// The graph, of one swarm or of all, as `{ "nodes": […], "edges": […] }`.
    pub fn to_json(&self, swarm: Option<&str>) -> Value {
        let mut nodes = Vec::new();
        let mut edges = Vec::new();
        let mut queues = std::collections::BTreeSet::new();
        for key in self.keys_of(swarm) {
            let id = id(&self.scope_of(key));
            for (way, queue) in self.graph.queues(key) {
                let (from, to) = if way.is_out() { (id.as_str(), queue) } else { (queue, id.as_str()) };
                edges.push(json!({ "from": from, "to": to, "way": way.word() }));
                queues.insert(queue);
            }
            nodes.push(json!({ "id": id, "kind": "instance", "scope": self.scope_of(key) }));
        }
        nodes.extend(queues.into_iter().map(|queue| json!({ "id": queue, "kind": "queue" })));
        json!({ "nodes": nodes, "edges": edges })
    }

    /// The graph, of one swarm or of all, as Graphviz reads it.
    pub fn to_dot(&self, swarm: Option<&str>) -> String {
        let mut dot = "digraph queues {\n  rankdir=LR;\n".to_owned();
        let mut queues = std::collections::BTreeSet::new();
        for key in self.keys_of(swarm) {
            let instance = quoted("i:", &id(&self.scope_of(key)));
            line(
                &mut dot,
                &format!("{instance} [shape=box, label={}]", quoted("", &id(&self.scope_of(key)))),
            );
            for (way, name) in self.graph.queues(key) {
                if queues.insert(name) {
                    let label = quoted("", name);
                    line(&mut dot, &format!("{} [shape=cylinder, label={label}]", quoted("q:", name)));
                }
                line(&mut dot, &arrow(&instance, &quoted("q:", name), way));
            }
        }
        dot.push_str("}\n");
        dot
    }

    fn impact(&self, node: Node) -> Impact {
        let (down, down_cut) = self.graph.walk(node, Course::Down, self.limits.impact_nodes_max);
        let (up, up_cut) = self.graph.walk(node, Course::Up, self.limits.impact_nodes_max);
        let affected = |reached: super::graph::Reached| Affected {
            place: match reached.node {
                Node::Instance(key) => Place::Instance(self.scope_of(key)),
                Node::Queue(queue) => Place::Queue(self.graph.name(queue).to_owned()),
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

    fn keys_of(&self, swarm: Option<&str>) -> Box<dyn Iterator<Item = Key> + '_> {
        match swarm {
            None => Box::new(self.instances.keys().copied()),
            Some(name) => match self.names.find(name) {
                Some(swarm) => Box::new(self.instances.range(Key::of_swarm(swarm)).map(|(key, _)| *key)),
                None => Box::new(std::iter::empty()),
            },
        }
    }
}

/// Segments hold no dot, so this names one instance.
fn id(scope: &Scope) -> String {
    format!("{}.{}.{}", scope.swarm_id, scope.role, scope.instance)
}

fn arrow(instance: &str, queue: &str, way: Way) -> String {
    let style = match way {
        Way::WorkIn | Way::WorkOut => "solid",
        Way::WorkRoute | Way::ControlRoute => "dotted",
        Way::ControlIn | Way::ControlOut => "dashed",
    };
    let (from, to) = if way.is_out() { (instance, queue) } else { (queue, instance) };
    format!("{from} -> {to} [style={style}]")
}

fn line(dot: &mut String, text: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(dot, "  {text};");
}

/// A quoted identifier of Graphviz: quotes and backslashes escaped, control characters as U+FFFD.
fn quoted(prefix: &str, text: &str) -> String {
    let mut quoted = format!("\"{prefix}");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => quoted.push('\u{fffd}'),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
