//! Pages of the inventory: swarms, the instances of one, and one instance.
//!
//! Owns: their parameters.
//! Never: walks the fleet by itself; a page asks for the next.
//! Holds: a page is at most `PAGE_MAX` rows.

use std::sync::Arc;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::Uri,
    response::Response,
};

use super::{Desk, Parameters, Problem, page};
use crate::{contract::routing::Scope, runtime::ask::Question};

/// Every swarm that is known or expected.
pub(super) async fn swarms(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    Parameters::read(uri.query(), &[])?;
    Ok(page(&desk.ask(Question::Swarms).await?))
}

/// A page of the instances of one swarm.
pub(super) async fn instances(
    State(desk): State<Arc<Desk>>,
    swarm: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let Ok(Path(swarm)) = swarm else { return Err(Problem::no_path(uri.path())) };
    let parameters = Parameters::read(uri.query(), &["after", "limit"])?;
    let after = parameters.segments::<2>("after", "role/instance, as `next` of the page before says it")?;
    let after = after.map(|[role, instance]| Scope::new(swarm.as_str(), role, instance));
    let limit = parameters.limit()?;
    Ok(page(&desk.ask(Question::Instances { swarm, after, limit }).await?))
}

/// One instance.
pub(super) async fn instance(
    State(desk): State<Arc<Desk>>,
    scope: Result<Path<(String, String, String)>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let Ok(Path((swarm, role, instance))) = scope else { return Err(Problem::no_path(uri.path())) };
    Parameters::read(uri.query(), &[])?;
    Ok(page(&desk.ask(Question::Instance(Scope::new(swarm, role, instance))).await?))
}
