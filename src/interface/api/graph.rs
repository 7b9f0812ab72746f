//! Pages of the queue graph: the whole of it, and what a stop reaches.
//!
//! Owns: their parameters, and the graph as Graphviz reads it.
//! Never: adds or drops an edge; what names contain is escaped, never trusted.
//! Holds: the same graph gives the same text.

use std::{fmt::Write as _, sync::Arc};

use axum::{extract::State, http::Uri, response::Response};
use serde_json::Value;

use super::{Desk, Parameters, Problem, page, typed};
use crate::runtime::ask::Question;

/// Nodes and edges, as JSON or as Graphviz.
pub(super) async fn graph(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::read(uri.query(), &["format"])?;
    let format = parameters.choice("format", &["json", "dot"])?;
    let graph = desk.ask(Question::Graph).await?;
    Ok(match format {
        "dot" => typed("text/vnd.graphviz; charset=utf-8", dot(&graph)),
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

/// The graph as Graphviz reads it: workers as boxes, queues as cylinders, control dashed, routes dotted.
fn dot(graph: &Value) -> String {
    let list = |name: &str| graph.get(name).and_then(Value::as_array).into_iter().flatten();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
    let mut dot = "digraph queues {\n  rankdir=LR;\n".to_owned();
    for node in list("nodes") {
        let shape = if text(node, "kind") == "queue" { "cylinder" } else { "box" };
        // Writing into a string cannot fail.
        let _ = writeln!(dot, "  {} [shape={shape}];", quoted(&text(node, "id")));
    }
    for edge in list("edges") {
        let way = text(edge, "way").to_lowercase();
        let style = match () {
            () if way.contains("route") => "dotted",
            () if way.contains("control") => "dashed",
            () => "solid",
        };
        let (from, to) = (quoted(&text(edge, "from")), quoted(&text(edge, "to")));
        let _ = writeln!(dot, "  {from} -> {to} [style={style}];");
    }
    dot.push_str("}\n");
    dot
}

/// A quoted identifier of Graphviz: quotes and backslashes escaped, control characters as U+FFFD.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_quotes() {
        let graph = json!({
            "nodes": [
                { "id": "k.worker.w-1", "kind": "instance", "scope": {} },
                { "id": "jobs\"];\n x", "kind": "queue" },
            ],
            "edges": [
                { "from": "jobs\"];\n x", "to": "k.worker.w-1", "way": "work-in" },
                { "from": "k.worker.w-1", "to": "c\\", "way": "control-out" },
                { "from": "r", "to": "k.worker.w-1", "way": "control-route" },
            ],
        });
        assert_eq!(
            dot(&graph),
            "digraph queues {\n  rankdir=LR;\n  \"k.worker.w-1\" [shape=box];\n  \
             \"jobs\\\"];\u{fffd} x\" [shape=cylinder];\n  \
             \"jobs\\\"];\u{fffd} x\" -> \"k.worker.w-1\" [style=solid];\n  \
             \"k.worker.w-1\" -> \"c\\\\\" [style=dashed];\n  \
             \"r\" -> \"k.worker.w-1\" [style=dotted];\n}\n"
        );
    }
}
