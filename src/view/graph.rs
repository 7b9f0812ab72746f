//! The queue graph, and what a stop reaches: `/api/v1/graph` and `/api/v1/impact`.
//!
//! Owns: the forms in which the graph is shown, JSON and Graphviz.
//! Never: adds or drops an edge; what names contain is escaped, never trusted.
//! Holds: each edge is written once; the same inventory gives the same text.

use std::{collections::BTreeSet, fmt::Write as _};

use serde::{Deserialize, Serialize};

use crate::{
    contract::routing::Scope,
    decision::state::inventory::{self, GraphPlace, Inventory, QueueUse},
};

/// Which instance feeds which queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Graph {
    pub edges: Vec<Edge>,
    pub nodes: Vec<GraphNode>,
}

/// One end of an instance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Edge {
    pub from: Option<String>,
    pub to: Option<String>,
    pub way: Option<String>,
}

/// An instance or a queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GraphNode {
    pub id: String,
    pub kind: String,
    /// Absent of a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// What a stop reaches.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Impact {
    pub backs_up: Vec<Affected>,
    pub of: String,
    pub starved: Vec<Affected>,
    pub truncated: bool,
}

/// One place that a stop reaches: an instance or a queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Affected {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    pub relieved: bool,
    pub steps: Option<u32>,
}

impl Graph {
    /// The graph, of one swarm or of all.
    pub fn new(inventory: &Inventory, swarm: Option<&str>) -> Self {
        let mut graph = Self::default();
        let mut queues = BTreeSet::new();
        for (scope, ends) in inventory.ends(swarm) {
            let id = id(&scope);
            for (way, queue) in ends {
                let (from, to) = if way.is_out() { (id.as_str(), queue) } else { (queue, id.as_str()) };
                let [from, to, way] = [from, to, way.word()].map(|word| Some(word.to_owned()));
                graph.edges.push(Edge { from, to, way });
                queues.insert(queue);
            }
            graph.nodes.push(GraphNode { id, kind: "instance".to_owned(), scope: Some(scope) });
        }
        let queue = |id: &str| GraphNode { id: id.to_owned(), kind: "queue".to_owned(), scope: None };
        graph.nodes.extend(queues.into_iter().map(queue));
        graph
    }
}

impl Impact {
    pub fn new(of: String, reached: inventory::Impact) -> Self {
        let rows = |reached: Vec<inventory::Affected>| reached.into_iter().map(Affected::from).collect();
        Self {
            backs_up: rows(reached.backs_up),
            of,
            starved: rows(reached.starved),
            truncated: reached.truncated,
        }
    }
}

impl From<inventory::Affected> for Affected {
    fn from(reached: inventory::Affected) -> Self {
        let (instance, queue) = match reached.place {
            GraphPlace::Instance(scope) => (Some(scope.to_string()), None),
            GraphPlace::Queue(queue) => (None, Some(queue)),
        };
        Self { instance, queue, relieved: reached.relieved, steps: Some(reached.steps_count) }
    }
}

/// The graph, of one swarm or of all, as Graphviz reads it.
pub fn dot(inventory: &Inventory, swarm: Option<&str>) -> String {
    let mut dot = "digraph queues {\n  rankdir=LR;\n".to_owned();
    let mut queues = BTreeSet::new();
    for (scope, ends) in inventory.ends(swarm) {
        let id = id(&scope);
        let instance = quoted("i:", &id);
        line(&mut dot, &format!("{instance} [shape=box, label={}]", quoted("", &id)));
        for (way, name) in ends {
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

/// Segments hold no dot, so this names one instance.
fn id(scope: &Scope) -> String {
    format!("{}.{}.{}", scope.swarm_id, scope.role, scope.instance)
}

fn arrow(instance: &str, queue: &str, way: QueueUse) -> String {
    let style = match way {
        QueueUse::WorkIn | QueueUse::WorkOut => "solid",
        QueueUse::WorkRoute | QueueUse::ControlRoute => "dotted",
        QueueUse::ControlIn | QueueUse::ControlOut => "dashed",
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
