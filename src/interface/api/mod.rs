//! The API of a running router: what it knows, to be looked at.
//!
//! Owns: the paths below `/api/v1`, which host names are answered, and how a question becomes a
//! page.
//! Never: changes anything, or answers a page that was made to come from somebody's own web site.
//! Holds: every answer is JSON (the graph may be Graphviz); every no is a problem with a code and a
//! next step.

mod commands;
mod graph;
mod inventory;
mod may;
mod parameters;
mod problem;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use crate::runtime::{
    ask::{Question, Unanswered},
    asker::Asker,
};
use crate::view::{PAGE_MAX, Page};
use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use parameters::Parameters;
use problem::Problem;
use serde_json::json;

/// Rows of a page when none were asked for.
const PAGE_DEFAULT: usize = 100;

/// Where questions are taken; until the router stands, each is told to come again.
#[derive(Default)]
pub struct Desk(OnceLock<Asker>);

impl Desk {
    /// From now on the router answers; a second call changes nothing.
    pub fn open(&self, asker: Asker) {
        // The first router that opened the desk is the one of this process.
        let _ = self.0.set(asker);
    }

    async fn ask(&self, question: Question) -> Result<Page, Problem> {
        let Some(asker) = self.0.get() else { return Err(Problem::starting()) };
        let what = told(&question);
        let asks_observer = question == Question::Observed;
        match asker.ask(question).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) if asks_observer => Err(Problem::not_observing()),
            Ok(None) => Err(Problem::unknown(&what)),
            Err(Unanswered::Gone) => Err(Problem::stopping()),
            Err(Unanswered::Busy) => Err(Problem::busy()),
            Err(Unanswered::Ledger) => Err(Problem::ledger()),
            Err(Unanswered::NotAmongTheLast(searched)) => Err(Problem::not_among_the_last(&what, searched)),
        }
    }
}

/// The paths of the API.
pub fn routes(desk: Arc<Desk>, hosts: Hosts) -> Router {
    let routes = Router::new()
        .route("/v1/observed", whole(|| Question::Observed))
        .route("/v1/overview", whole(|| Question::Overview))
        .route("/v1/inventory", get(inventory::swarms))
        .route("/v1/inventory/{swarm}", get(inventory::instances))
        .route("/v1/inventory/{swarm}/{role}/{instance}", get(inventory::instance))
        .route("/v1/commands", get(commands::list))
        .route("/v1/commands/{id}", one(Question::Command))
        .route("/v1/safety", whole(|| Question::Safety))
        .route("/v1/challenges", whole(|| Question::Challenges))
        .route("/v1/challenges/{id}", one(Question::Challenge))
        .route("/v1/may", get(may::may))
        .route("/v1/graph", get(graph::graph))
        .route("/v1/impact", get(graph::impact))
        .route("/", get(async || contents()))
        .route("/v1", get(async || contents()))
        .fallback(async |uri: Uri| Problem::no_path(uri.path()))
        .method_not_allowed_fallback(async || Problem::read_only())
        .layer(middleware::from_fn_with_state(hosts, only_ours))
        .with_state(desk);
    Router::new().nest("/api", routes)
}

/// What there is to ask for, for somebody who came without a path.
const PATHS: &[(&str, &str)] = &[
    ("/healthz", "whether the process lives"),
    ("/readyz", "whether it routes, and what it lacks"),
    ("/metrics", "counters and gauges, as Prometheus reads them"),
    ("/api/v1/overview", "the router, and totals"),
    ("/api/v1/inventory", "every swarm; below it /{swarm} and /{swarm}/{role}/{instance}"),
    ("/api/v1/commands", "commands in flight; below it /{id}"),
    ("/api/v1/safety", "safety modes, kill switches, readiness gates, the latch"),
    ("/api/v1/challenges", "what waits to be confirmed; below it /{id}"),
    ("/api/v1/graph", "which instance feeds which queue"),
    ("/api/v1/impact", "what a stop of an instance or queue reaches"),
    ("/api/v1/may", "whether a sender may say that"),
    ("/api/v1/observed", "what an observer has learned"),
];

/// The list of the paths.
pub(super) fn contents() -> Response {
    let paths: Vec<_> = PATHS.iter().map(|(path, what)| json!({ "path": path, "what": what })).collect();
    let told = json!({ "name": "swarmgate", "version": env!("CARGO_PKG_VERSION"), "paths": paths });
    ([(header::CONTENT_TYPE, "application/json")], told.to_string()).into_response()
}

/// A page without parameters.
fn whole(question: fn() -> Question) -> MethodRouter<Arc<Desk>> {
    get(async move |State(desk): State<Arc<Desk>>, uri: Uri| {
        Parameters::read(uri.query(), &[])?;
        Ok::<_, Problem>(page(&desk.ask(question()).await?))
    })
}

/// A page of one thing by its id.
fn one(question: fn(String) -> Question) -> MethodRouter<Arc<Desk>> {
    get(async move |State(desk): State<Arc<Desk>>, id: Result<Path<String>, PathRejection>, uri: Uri| {
        let Ok(Path(id)) = id else { return Err(Problem::no_path(uri.path())) };
        Parameters::read(uri.query(), &[])?;
        Ok(page(&desk.ask(question(id)).await?))
    })
}

/// Names by which the router may be asked besides its addresses and localhost.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<RwLock<Vec<String>>>);

impl Hosts {
    /// These names, and no others, from now on.
    pub fn set(&self, names: &[String]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names.to_vec();
    }

    fn let_in(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        is_ours(headers, uri, &self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Lets a request in that was addressed to an address, to localhost, or by a name that the config
/// gives.
///
/// Any name would do for a browser that was told that somebody's web site is this machine: its
/// scripts could read what we answer. An address cannot be taken over in that way.
pub(super) async fn only_ours(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    if !hosts.let_in(request.headers(), request.uri()) {
        return Problem::foreign_host().into_response();
    }
    next.run(request).await
}

fn is_ours(headers: &HeaderMap, uri: &Uri, hosts: &[String]) -> bool {
    let is_ours = |host: &str| is_address_or_localhost(host) || is_one_of(host, hosts);
    let mut named = headers.get_all(header::HOST).iter().peekable();
    let in_headers = named.peek().is_some() && named.all(|host| host.to_str().is_ok_and(is_ours));
    in_headers && uri.authority().is_none_or(|host| is_ours(host.as_str()))
}

fn is_one_of(host: &str, hosts: &[String]) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    hosts.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn is_address_or_localhost(host: &str) -> bool {
    let without_port = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_local = [host, without_port].iter().any(|name| name.eq_ignore_ascii_case("localhost"));
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    is_local || host.parse::<SocketAddr>().is_ok() || bracketed.unwrap_or(host).parse::<IpAddr>().is_ok()
}

/// What was asked for, in words.
fn told(question: &Question) -> String {
    match question {
        Question::Observed => "what an observer has seen".to_owned(),
        Question::Overview => "the router".to_owned(),
        Question::Swarms => "the swarms".to_owned(),
        Question::Instances { swarm, .. } => format!("swarm `{swarm}`"),
        Question::Instance(scope) | Question::ImpactOfInstance(scope) => format!("instance `{scope}`"),
        Question::Commands { .. } => "the commands".to_owned(),
        Question::Command(id) => format!("command `{id}`"),
        Question::ImpactOfQueue(queue) => format!("queue `{queue}`"),
        Question::Safety => "the safety settings".to_owned(),
        Question::Challenges => "the challenges".to_owned(),
        Question::Challenge(id) => format!("challenge `{id}`"),
        Question::May(intent) => format!("type `{}`", intent.kind_type),
        Question::Graph | Question::Dot => "the graph".to_owned(),
    }
}

fn page(answer: &Page) -> Response {
    match answer {
        Page::Dot(text) => typed("text/vnd.graphviz; charset=utf-8", text.clone()),
        // Texts, numbers and lists of them: none of their forms can fail.
        _ => typed("application/json", serde_json::to_string(answer).unwrap_or_default()),
    }
}

fn typed(content_type: &'static str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (StatusCode::OK, headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_ours() {
        let ours = |hosts: &[&str], uri: &str| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            is_ours(&headers, &uri.parse().unwrap(), &["gate.swarm".to_owned()])
        };
        for host in
            ["127.0.0.1", "127.0.0.1:8080", "localhost", "LocalHost:80", "[::1]:8080", "[::1]", "10.1.2.3:1"]
        {
            assert!(ours(&[host], "/api/v1/overview"), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io", "", "x"]
        {
            assert!(!ours(&[host], "/api/v1/overview"), "{host}");
        }
        assert!(!ours(&[], "/api/v1/overview"));
        assert!(!ours(&["localhost", "evil.example"], "/api/v1/overview"));
        assert!(!ours(&["localhost"], "http://evil.example/api/v1/overview"));
    }
}
