//! What is shown of the router: each answer of the API is one type, which the API writes and
//! everybody else reads.
//!
//! Owns: the types, a file a subject; how each is made of the state; and how large a page is.
//! Never: asks anybody, decides anything, or reads a ledger; it is handed what it shows.
//! Holds: members stand in alphabetical order of their names in JSON, as every object of an answer
//! has them, and are those of docs/reference/api.md (a test compares them). Whoever reads takes
//! what is not there for unknown, and passes over what it does not know: an older command line
//! reads a newer router.

#![expect(missing_docs, reason = "docs/reference/api.md says what each member means")]

pub mod challenges;
pub mod commands;
pub mod graph;
pub mod inventory;
pub mod lenient;
pub mod may;
pub mod observed;
pub mod overview;
pub mod problem;
pub mod safety;

use serde::Serialize;

/// How many rows an answer has at most.
pub const PAGE_MAX: usize = 1_000;

/// An answer, whatever was asked.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Page {
    Challenge(Box<challenges::Challenge>),
    Challenges(challenges::Challenges),
    Command(Box<commands::Command>),
    Commands(commands::Commands),
    /// The graph as Graphviz reads it.
    Dot(String),
    Graph(graph::Graph),
    Impact(graph::Impact),
    Instance(Box<inventory::Instance>),
    Instances(inventory::Instances),
    May(Box<may::May>),
    Observed(Box<observed::Observed>),
    Overview(Box<overview::Overview>),
    Safety(safety::Safety),
    Swarms(inventory::Swarms),
}
