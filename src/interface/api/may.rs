//! The page of "may I": whether a sender may say something, before it is said.
//!
//! Owns: its parameters.
//! Never: vouches for the name that is given: who somebody is, the broker says when it is sent.
//! Holds: every name that says what is meant is given, and `data` is an object.

use std::sync::Arc;

use axum::{extract::State, http::Uri, response::Response};
use serde_json::{Value, json};

use super::{Desk, Parameters, Problem, page};
use crate::runtime::ask::{Intent, Question};

/// Whether a sender may, and what it would be.
pub(super) async fn may(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let given = Parameters::read(uri.query(), &["origin", "user", "type", "target", "data"])?;
    let lacks = |name: &str, form: &str| {
        Problem::parameter(format!("`{name}` is not given"), format!("write `{name}` as {form}"))
    };
    let intent = Intent {
        origin: given.text("origin").ok_or_else(|| lacks("origin", "the sender's name"))?.to_owned(),
        user: given.text("user").map(str::to_owned),
        kind_type: given.text("type").ok_or_else(|| lacks("type", "a signal type"))?.to_owned(),
        scope: given.scope("target")?.ok_or_else(|| lacks("target", "swarm/role/instance"))?,
        data: data(given.text("data"))?,
    };
    Ok(page(&desk.ask(Question::May(intent)).await?))
}

fn data(given: Option<&str>) -> Result<Value, Problem> {
    let Some(text) = given else { return Ok(json!({})) };
    serde_json::from_str(text).ok().filter(Value::is_object).ok_or_else(|| {
        Problem::parameter(
            "`data` is no JSON object".to_owned(),
            "write it like `{\"mode\":\"live\"}`".to_owned(),
        )
    })
}
