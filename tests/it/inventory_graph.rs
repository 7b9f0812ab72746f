//! The queue graph: what a stop reaches, and the forms in which it leaves.
//!
//! Owns: impact against a naive oracle on random graphs with cycles, and the reading back of what
//! was exported.
//! Never: trusts a name; names here hold quotes, backslashes and line breaks.
//! Holds: the oracle shares no code with the walk: it closes a relation over all pairs.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use swarmgate::{
    contract::{routing::Scope, timestamp::Timestamp},
    decision::{
        rules::inventory::InventoryLimits,
        state::inventory::{Affected, GraphPlace, Impact, Inventory, Status},
    },
    view::graph::{Graph, dot},
};

use super::inventory::said;

const INSTANCES: u8 = 5;
const QUEUES: u8 = 5;
/// 2026-03-04T10:15:00Z.
const START: Timestamp = Timestamp::from_micros(1_772_619_300_000_000);

fn scope(number: u8) -> Scope {
    Scope::new("alpha", "worker", format!("w-{number}"))
}

fn queue(number: u8) -> String {
    format!("queue \"{number}\" \\ of\nit")
}

/// What each instance takes from and puts into.
type Ends = Vec<(BTreeSet<u8>, BTreeSet<u8>)>;

fn inventory(ends: &Ends, limits: InventoryLimits) -> Inventory {
    let mut inventory = Inventory::new(limits);
    for (number, (takes, puts)) in (0..).zip(ends) {
        // Control and routes count as well: an even queue is reached by its name, an odd one by a
        // route.
        let names = |numbers: &BTreeSet<u8>, odd: bool| -> Vec<String> {
            numbers.iter().filter(|number| (*number % 2 == 1) == odd).map(|number| queue(*number)).collect()
        };
        let io = json!({
            "work": { "queues": { "in": names(takes, false), "routes": names(takes, true), "out": names(puts, false) } },
            "control": { "queues": { "out": names(puts, true) } },
        });
        let data = json!({ "enabled": true, "ioState": {}, "startedAt": START, "config": {}, "io": io });
        let said = said("status-full", &scope(number), START, &data, None);
        inventory.merge(&Status::read(&said, body_of(&said), START).expect("a full"));
    }
    inventory
}

/// Instances are 0.., queues come behind them.
struct Oracle {
    reaches: Vec<Vec<bool>>,
}

const NODES: usize = (INSTANCES + QUEUES) as usize;

impl Oracle {
    /// The pairs (from, to), without those that touch `without`, closed over all pairs.
    fn new(ends: &Ends, down: bool, without: Option<usize>) -> Self {
        let mut reaches = vec![vec![false; NODES]; NODES];
        for (instance, (takes, puts)) in ends.iter().enumerate() {
            let queue = |number: &u8| usize::from(INSTANCES + number);
            let pairs = takes.iter().map(|number| (queue(number), instance));
            for (from, to) in pairs.chain(puts.iter().map(|number| (instance, queue(number)))) {
                let (from, to) = if down { (from, to) } else { (to, from) };
                reaches[from][to] |= Some(from) != without && Some(to) != without;
            }
        }
        for over in 0..NODES {
            for from in 0..NODES {
                for to in 0..NODES {
                    reaches[from][to] |= reaches[from][over] && reaches[over][to];
                }
            }
        }
        Self { reaches }
    }

    fn impact(ends: &Ends, node: usize, down: bool) -> BTreeSet<(GraphPlace, bool)> {
        let all = Self::new(ends, down, None);
        let rest = Self::new(ends, down, Some(node));
        let hit: Vec<usize> = (0..NODES).filter(|to| *to != node && all.reaches[node][*to]).collect();
        let relieved =
            |to: usize| (0..NODES).any(|from| from != node && !hit.contains(&from) && rest.reaches[from][to]);
        hit.iter().map(|to| (place(*to), relieved(*to))).collect()
    }
}

fn place(node: usize) -> GraphPlace {
    let node = node as u8;
    if node < INSTANCES {
        GraphPlace::Instance(scope(node))
    } else {
        GraphPlace::Queue(queue(node - INSTANCES))
    }
}

fn json(inventory: &Inventory, swarm: Option<&str>) -> Value {
    serde_json::to_value(Graph::new(inventory, swarm)).expect("JSON")
}

fn reached(affected: &[Affected]) -> BTreeSet<(GraphPlace, bool)> {
    affected.iter().map(|affected| (affected.place.clone(), affected.relieved)).collect()
}

fn ends() -> impl Strategy<Value = Ends> {
    let some = || prop::collection::btree_set(0..QUEUES, 0..3);
    prop::collection::vec((some(), some()), usize::from(INSTANCES))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn impact_is_what_the_oracle_says(ends in ends()) {
        let inventory = inventory(&ends, InventoryLimits::default());
        for node in 0..NODES {
            let impact = match place(node) {
                GraphPlace::Instance(scope) => inventory.impact_of_instance(&scope),
                GraphPlace::Queue(name) => inventory.impact_of_queue(&name),
            };
            prop_assert_eq!(reached(&impact.starved), Oracle::impact(&ends, node, true));
            prop_assert_eq!(reached(&impact.backs_up), Oracle::impact(&ends, node, false));
            prop_assert!(!impact.truncated);
            prop_assert!(impact.starved.is_sorted_by_key(|affected| affected.steps_count), "nearest first");
        }
    }

    #[test]
    fn what_is_exported_reads_back_as_it_was(ends in ends()) {
        let mut edges = Vec::new();
        for (number, (takes, puts)) in (0..).zip(&ends) {
            let instance = format!("alpha.worker.w-{number}");
            edges.extend(takes.iter().map(|number| (queue(*number), instance.clone())));
            edges.extend(puts.iter().map(|number| (instance.clone(), queue(*number))));
        }
        edges.sort();
        let inventory = inventory(&ends, InventoryLimits::default());

        let graph = json(&inventory, Some("alpha"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut written: Vec<_> = graph["edges"].as_array().expect("edges").iter()
            .map(|edge| (text(&edge["from"]), text(&edge["to"]))).collect();
        written.sort();
        prop_assert_eq!(&written, &edges);
        let ids: BTreeSet<String> =
            graph["nodes"].as_array().expect("nodes").iter().map(|node| text(&node["id"])).collect();
        prop_assert!(edges.iter().all(|(from, to)| ids.contains(from) && ids.contains(to)));

        let mut drawn = dot_edges(&dot(&inventory, None));
        drawn.sort();
        let cleaned = |name: &str| name.replace('\n', "\u{fffd}");
        let mut expected: Vec<_> = edges.iter().map(|(from, to)| (cleaned(from), cleaned(to))).collect();
        expected.sort();
        prop_assert_eq!(drawn, expected);
        let nothing = json!({ "nodes": [], "edges": [] });
        prop_assert_eq!(json(&inventory, Some("beta")), nothing);
    }
}

/// The edges of a Graphviz text, by the labels of their nodes; it panics on what is no such text.
fn dot_edges(dot: &str) -> Vec<(String, String)> {
    let inside =
        dot.strip_prefix("digraph queues {\n").and_then(|rest| rest.strip_suffix("}\n")).expect("a graph");
    let mut labels = BTreeMap::new();
    let mut edges = Vec::new();
    for line in inside.lines().map(str::trim).filter(|line| *line != "rankdir=LR;") {
        let (node, rest) = dot_string(line);
        if let Some(rest) = rest.strip_prefix(" -> ") {
            let (to, rest) = dot_string(rest);
            assert!(rest.starts_with(" [style=") && rest.ends_with("];"), "{line}");
            edges.push((node, to));
        } else {
            let (_, label) = rest.split_once("label=").expect("a label");
            let (label, rest) = dot_string(label);
            assert_eq!(rest, "];", "{line}");
            assert_eq!(labels.insert(node, label), None, "a node is drawn once");
        }
    }
    edges.into_iter().map(|(from, to)| (labels[&from].clone(), labels[&to].clone())).collect()
}

/// A quoted string at the beginning, unescaped, and what follows it.
fn dot_string(text: &str) -> (String, &str) {
    let mut characters = text.char_indices();
    assert_eq!(characters.next(), Some((0, '"')), "{text}");
    let mut string = String::new();
    loop {
        match characters.next().expect("a closing quote") {
            (_, '\\') => string.push(characters.next().expect("an escaped character").1),
            (at, '"') => return (string, &text[at + 1..]),
            (_, character) => string.push(character),
        }
    }
}

#[test]
fn a_walk_is_bounded_and_says_so() {
    // Each feeds the next, in a ring.
    let ring: Ends = (0..INSTANCES)
        .map(|number| (BTreeSet::from([number]), BTreeSet::from([(number + 1) % QUEUES])))
        .collect();
    let impact = inventory(&ring, InventoryLimits { impact_nodes_max: 3, ..InventoryLimits::default() })
        .impact_of_instance(&scope(0));
    assert_eq!((impact.starved.len(), impact.backs_up.len(), impact.truncated), (3, 3, true));
    let impact = inventory(&ring, InventoryLimits::default()).impact_of_instance(&scope(0));
    assert_eq!((impact.starved.len(), impact.truncated), (NODES - 1, false), "all but itself");
}

#[test]
fn an_instance_that_left_leaves_no_edge() {
    let line: Ends = vec![(BTreeSet::new(), BTreeSet::from([0])), (BTreeSet::from([0]), BTreeSet::new())];
    let mut inventory = inventory(&line, InventoryLimits::default());
    assert_eq!(inventory.impact_of_queue(&queue(0)).starved.len(), 1);
    inventory.forget(&scope(1));
    assert_eq!(inventory.impact_of_queue(&queue(0)).starved, []);
    inventory.forget_swarm("alpha");
    assert_eq!(inventory.impact_of_queue(&queue(0)), Impact::default());
    assert_eq!(json(&inventory, None), json!({ "nodes": [], "edges": [] }));
}

/// Stands for the body's digest: what differs has another one.
fn body_of(said: &swarmgate::contract::Said) -> swarmgate::contract::digest::Digest {
    swarmgate::contract::digest::Digest::of(&serde_json::to_vec(&said.envelope).expect("JSON"))
}
