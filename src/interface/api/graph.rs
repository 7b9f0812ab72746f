//! Pages of the queue graph: the whole of it, and what a stop reaches.
//!
//! Owns: their parameters, and in which form the graph leaves.
//! Never: adds or drops an edge, or draws one: the inventory escapes what names contain.
//! Holds: a page is one form, as was asked for.

use std::sync::Arc;

use axum::{extract::State, http::Uri, response::Response};
use serde_json::Value;

use super::{Desk, Parameters, Problem, page, typed};
use crate::runtime::ask::Question;

/// Nodes and edges, as JSON or as Graphviz.
pub(super) async fn graph(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::read(uri.query(), &["format"])?;
    let format = parameters.choice("format", &["json", "dot"])?;
    let mut graph = desk.ask(Question::Graph).await?;
    // It comes in both forms; each page is one.
    let dot = graph.as_object_mut().and_then(|graph| graph.remove("dot"));
    Ok(match (format, dot) {
        ("dot", Some(Value::String(dot))) => typed("text/vnd.graphviz; charset=utf-8", dot),
        _ => page(&graph),
    })
}

/// Who is starved and what backs up if an instance or a queue stops.
pub(super) async fn impact(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::read(uri.query(), &["instance", "queue"])?;
    let question = match (parameters.scope("instance")?, parameters.text("queue")) {
        (Some(scope), None) => Question::ImpactOfInstance(scope),
        (None, Some(queue)) => Question::ImpactOfQueue(queue.to_owned()),
        (given, _) => {
            let detail = if given.is_some() { "both are given" } else { "neither is given" };
            return Err(Problem::parameter(
                format!("`instance` or `queue`: {detail}"),
                "give one of them: `instance=swarm/role/instance` or `queue=NAME`".to_owned(),
            ));
        }
    };
    Ok(page(&desk.ask(question).await?))
}
