//! Pages of the interlock: what is set, and what waits to be confirmed.
//!
//! Owns: their paths.
//! Never: confirms or sets anything; that takes an envelope.
//! Holds: what is dangerous is told before anybody is asked to confirm it.

use std::sync::Arc;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::Uri,
    response::Response,
};

use super::{Desk, Parameters, Problem, page};
use crate::runtime::ask::Question;

/// Safety modes, kill switches, gates and the latch.
pub(super) async fn safety(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    Parameters::read(uri.query(), &[])?;
    Ok(page(&desk.ask(Question::Safety).await?))
}

/// Every open challenge.
pub(super) async fn challenges(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    Parameters::read(uri.query(), &[])?;
    Ok(page(&desk.ask(Question::Challenges).await?))
}

/// One open challenge.
pub(super) async fn challenge(
    State(desk): State<Arc<Desk>>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let Ok(Path(id)) = id else { return Err(Problem::no_path(uri.path())) };
    Parameters::read(uri.query(), &[])?;
    Ok(page(&desk.ask(Question::Challenge(id)).await?))
}
