//! The window for machines: `/metrics`, `/healthz`, `/readyz`, and the API below `/api`.
//!
//! Owns: the first three pages, and the bounds on who may hold the window open.
//! Never: takes a body, changes anything, or shows more of an envelope than its place and its end.
//! Holds: a slow or idle client is let go after `header_timeout_ms`, one that does not read its
//! answer after `write_timeout_ms`; at most `connections_max` are served at once, and beyond them
//! the health pages alone.

mod patience;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use patience::Patient;

use super::api::{self, Desk, Hosts};
use crate::{
    config,
    telemetry::{Telemetry, health::Lack, metrics},
};

/// The largest head of a request, in bytes (hyper's smallest).
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The most headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a connection lives at most: a scraper opens a new one.
const CONNECTION_MS_MAX: u64 = 600_000;
/// The pause after the system could not hand out a connection.
const ACCEPT_PAUSE_MS: u64 = 50;
/// How old a page of metrics may be that is shown.
const METRICS_AGE_MS_MAX: u64 = 50;

/// Why the window cannot be opened.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`; free it or choose another with --http")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
}

/// Bounds on clients.
#[derive(Clone, Copy, Debug)]
pub struct ClientBounds {
    /// How long a client may take to send a head, or idle between requests.
    pub header_timeout_ms: u64,
    /// How long a client may take to read an answer.
    pub write_timeout_ms: u64,
    /// How many connections at once.
    pub connections_max: usize,
    /// How many more that get the health pages only; beyond, the oldest of them is closed.
    pub health_connections_max: usize,
}

impl From<&config::Http> for ClientBounds {
    fn from(settings: &config::Http) -> Self {
        Self {
            header_timeout_ms: settings.header_timeout_ms,
            write_timeout_ms: settings.write_timeout_ms,
            connections_max: settings.connections_max,
            health_connections_max: settings.health_connections_max,
        }
    }
}

impl Default for ClientBounds {
    fn default() -> Self {
        Self::from(&config::Http::default())
    }
}

/// An address that is listened on, not yet answering.
#[derive(Debug)]
pub struct Window {
    listener: TcpListener,
    address: SocketAddr,
    bounds: ClientBounds,
    hosts: Hosts,
}

impl Window {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn open(address: SocketAddr, bounds: ClientBounds) -> Result<Self, HttpError> {
        let fault = |source| HttpError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        Ok(Self { listener, address, bounds, hosts: Hosts::default() })
    }

    /// Answers those too that ask by one of these names.
    pub fn named(self, hosts: &[String]) -> Self {
        self.hosts.set(hosts);
        self
    }

    /// The names, to be changed while it answers.
    pub fn hosts(&self) -> Hosts {
        self.hosts.clone()
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stopping`; then lets every connection go. What `desk` is asked is answered
    /// once it is open.
    pub async fn serve(self, telemetry: Arc<Telemetry>, desk: Arc<Desk>, stopping: CancellationToken) {
        let health = health(Arc::clone(&telemetry)).fallback(busy);
        let pages = pages(telemetry, self.hosts.clone()).merge(api::routes(desk, self.hosts));
        let slots = Arc::new(Semaphore::new(self.bounds.connections_max));
        let mut connections = JoinSet::new();
        let mut spare = Spare { held: VecDeque::new(), count_max: self.bounds.health_connections_max };
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => match Arc::clone(&slots).try_acquire_owned() {
                        Ok(slot) => {
                            let (pages, bounds) = (pages.clone(), self.bounds);
                            connections.spawn(async move {
                                answer(stream, pages, bounds, true).await;
                                drop(slot);
                            });
                        }
                        // Whoever holds every place must not take the probes' answer away: they are
                        // told that the router lives, and nobody is told anything else.
                        Err(_) => {
                            let answered = answer(stream, health.clone(), self.bounds, false);
                            spare.hold(connections.spawn(answered));
                        }
                    },
                    Err(fault) => {
                        debug!(error = %fault, "no connection");
                        tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    }
                },
            }
        }
        connections.shutdown().await;
    }
}

/// The connections beyond all places: few, and the newest count.
struct Spare {
    held: VecDeque<AbortHandle>,
    count_max: usize,
}

impl Spare {
    fn hold(&mut self, connection: AbortHandle) {
        self.held.retain(|held| !held.is_finished());
        if self.held.len() >= self.count_max
            && let Some(oldest) = self.held.pop_front()
        {
            oldest.abort();
        }
        self.held.push_back(connection);
    }
}

/// Serves one client; beyond all places a client gets one answer.
async fn answer(stream: TcpStream, pages: Router, bounds: ClientBounds, keeps_alive: bool) {
    let stream = Patient::new(stream, Duration::from_millis(bounds.write_timeout_ms));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(bounds.header_timeout_ms))
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        // The library cannot write a date before 1970, and answers nothing where it is to.
        .auto_date_header(SystemTime::now() >= SystemTime::UNIX_EPOCH)
        .keep_alive(keeps_alive)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    let bound = Duration::from_millis(CONNECTION_MS_MAX);
    match tokio::time::timeout(bound, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(fault)) => debug!(error = %fault, "a client was let go"),
    }
}

fn pages(telemetry: Arc<Telemetry>, hosts: Hosts) -> Router {
    let first = get(async || api::contents());
    let contents =
        Router::new().route("/", first).layer(middleware::from_fn_with_state(hosts.clone(), api::only_ours));
    let metrics = get(told).layer(middleware::from_fn_with_state(hosts, api::only_ours));
    let scraped = Arc::new(Scraped { telemetry: Arc::clone(&telemetry), newest: Mutex::default() });
    health(telemetry).merge(Router::new().route("/metrics", metrics).with_state(scraped)).merge(contents)
}

/// The pages that answer whoever asks, and by whatever name.
fn health(telemetry: Arc<Telemetry>) -> Router {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).with_state(telemetry)
}

/// What a scrape shows. Writing a page takes a core for milliseconds: clients that ask for
/// thousands would take every core from the probes and the stops, so they are shown the same page
/// for a while.
struct Scraped {
    telemetry: Arc<Telemetry>,
    newest: Mutex<Option<(Instant, Bytes)>>,
}

async fn told(State(scraped): State<Arc<Scraped>>) -> Response {
    let age_max = Duration::from_millis(METRICS_AGE_MS_MAX);
    let mut newest = scraped.newest.lock().await;
    let fresh = newest.take().filter(|(written, _)| written.elapsed() < age_max);
    let (written, page) =
        fresh.unwrap_or_else(|| (Instant::now(), Bytes::from(scraped.telemetry.metrics.encode())));
    *newest = Some((written, page.clone()));
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
}

async fn busy() -> Response {
    let page =
        json!({ "status": "busy", "missing": [{ "what": "http", "why": "every connection is taken" }] });
    json_page(StatusCode::SERVICE_UNAVAILABLE, &page)
}

async fn alive() -> Response {
    json_page(StatusCode::OK, &json!({ "status": "alive" }))
}

async fn ready(State(telemetry): State<Arc<Telemetry>>) -> Response {
    let lacks = telemetry.health.lacks();
    let held: serde_json::Map<_, _> =
        telemetry.health.held().into_iter().map(|(way, held)| (way.word().to_owned(), json!(held))).collect();
    let is_ready = lacks.is_empty();
    let missing: Vec<_> =
        lacks.into_iter().map(|lack: Lack| json!({ "what": lack.word(), "why": lack.meaning() })).collect();
    let page = json!({
        "status": if is_ready { "ready" } else { "not-ready" },
        "missing": missing,
        "broker": telemetry.health.broker_address(),
        "held": held,
        "topology": telemetry.health.topology(),
        "otherRouter": telemetry.health.other_router(),
        "notAlone": telemetry.health.not_alone(),
    });
    json_page(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &page)
}

fn json_page(status: StatusCode, page: &serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, page.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Running {
        address: SocketAddr,
        telemetry: Arc<Telemetry>,
        stopping: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn running(header_timeout_ms: u64, connections_max: usize) -> Running {
        let bounds = ClientBounds {
            header_timeout_ms,
            write_timeout_ms: 300,
            connections_max,
            health_connections_max: 2,
        };
        let window = Window::open(SocketAddr::from(([127, 0, 0, 1], 0)), bounds).await.unwrap();
        let (address, telemetry, stopping) =
            (window.address(), Arc::new(Telemetry::default()), CancellationToken::new());
        let task = tokio::spawn(window.serve(Arc::clone(&telemetry), Arc::default(), stopping.clone()));
        Running { address, telemetry, stopping, task }
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn ready_flips_and_names_what_is_missing() {
        let Running { address, telemetry, stopping, task } = running(1_000, 8).await;
        let page = get(address, "/readyz").await;
        assert!(
            page.starts_with("HTTP/1.1 503 ") && page.contains("\"ledger\"") && page.contains("\"broker\""),
            "{page}"
        );
        telemetry.health.set_ledger(true);
        let page = get(address, "/readyz").await;
        assert!(page.starts_with("HTTP/1.1 503 ") && !page.contains("\"ledger\""), "{page}");
        telemetry.health.set_broker(true);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
        telemetry.health.set_ledger(false);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503 "));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        let page = get(address, "/metrics").await;
        assert!(
            page.contains("content-type: application/openmetrics-text; version=1.0.0")
                && page.ends_with("# EOF\n")
        );
        assert!(page.contains("swarmgate_broker_connected 1"));
        assert!(get(address, "/other").await.starts_with("HTTP/1.1 404 "));
        stopping.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_let_go() {
        let Running { address, .. } = running(100, 1).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        // The only place is taken: the health pages are answered all the same, and nothing else.
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503 "));
        let page = get(address, "/metrics").await;
        assert!(page.starts_with("HTTP/1.1 503 ") && page.contains("\"busy\""), "{page}");
        let mut nothing = Vec::new();
        tokio::time::timeout(Duration::from_secs(5), silent.read_to_end(&mut nothing))
            .await
            .unwrap()
            .unwrap();
        assert!(get(address, "/metrics").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn clients_that_read_nothing_take_neither_health_nor_for_long_the_rest() {
        let Running { address, .. } = running(60_000, 4).await;
        let mut deaf = Vec::new();
        for _ in 0..12 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let asked = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
            // Those beyond all places are closed while they write.
            let _ = tokio::time::timeout(Duration::from_millis(50), stream.write_all(asked.as_bytes())).await;
            deaf.push(stream);
            assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        }
        let again = async {
            while !get(address, "/metrics").await.starts_with("HTTP/1.1 200 ") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), again).await.expect("their places come back");
    }

    #[tokio::test]
    async fn metrics_are_not_told_to_a_foreign_host() {
        let Running { address, .. } = running(1_000, 4).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 421 "), "{text}");
    }

    #[tokio::test]
    async fn a_taken_address_is_an_error_with_its_address() {
        let Running { address, .. } = running(100, 1).await;
        let fault = Window::open(address, ClientBounds::default()).await.unwrap_err();
        assert!(fault.to_string().contains(&address.to_string()));
    }
}
