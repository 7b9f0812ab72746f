//! Pages of the queue graph: the whole of it, and what a stop reaches.
//!
//! Owns: their parameters, and in which form the graph leaves.
//! Never: adds or drops an edge, or draws one.
//! Holds: a page is one form, as was asked for.

use std::sync::Arc;

use axum::{extract::State, http::Uri, response::Response};

use super::{Desk, Parameters, Problem, page};
use crate::runtime::ask::Question;

/// Nodes and edges, as JSON or as Graphviz.
pub(super) async fn graph(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::read(uri.query(), &["format"])?;
    let format = parameters.choice("format", &["json", "dot"])?;
    let question = if format == "dot" { Question::Dot } else { Question::Graph };
    Ok(page(&desk.ask(question).await?))
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
