//! The page of commands in flight.
//!
//! Owns: their parameters.
//! Never: searches the ledger by itself; the router knows the way.
//! Holds: a list is at most `PAGE_MAX` rows.

use std::sync::Arc;

use axum::{extract::State, http::Uri, response::Response};

use super::{Desk, Parameters, Problem, page};
use crate::runtime::ask::Question;

/// Commands in flight or parked, the newest first.
pub(super) async fn list(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::read(uri.query(), &["state", "limit"])?;
    let parked = parameters.choice("state", &["in-flight", "parked"])? == "parked";
    let limit = parameters.limit()?;
    Ok(page(&desk.ask(Question::Commands { parked, limit }).await?))
}
