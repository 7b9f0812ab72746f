//! A bundle that was made at a terminal is in the ledger of the router that it tells of.

use std::sync::Arc;

use serde_json::{Value, json};
use swarmgate::{
    contract::audit::Action,
    ledger::query::{Filter, Reader},
};
use tempfile::TempDir;

use super::offline;
use crate::{api::gate::swarmgate, broker::Broker, router::process::Process};

#[tokio::test]
async fn a_bundle_of_a_terminal_is_recorded_by_its_router() {
    let vhost = Arc::new(Broker::shared()).vhost("bundle-recorded");
    let url = vhost.options().url;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port");
    let address = free.to_string();
    let dir = TempDir::new().expect("a directory");
    let router = Process::configured(&url, dir, &["--http", &address]);
    let bus = vhost.connect().await;
    router.ready(bus.as_ref()).await;
    let place = TempDir::new().expect("a directory");
    let file = place.path().join("b.tar.gz").display().to_string();
    let api = format!("http://{address}");
    let args = ["support-bundle", "--api", &api, "--amqp", &url, "--out", &file, "--output", "json"]
        .map(str::to_owned);
    let run = move || swarmgate(&args.each_ref().map(String::as_str)).output();
    let output = tokio::task::spawn_blocking(run).await.expect("a task").expect("a run");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["recorded"], json!({ "by": "swarmgate:gate-1", "why_not": null }), "{told}");
    let reader = Reader::open(router.ledger()).await.expect("a reader");
    let entries = reader.select(&Filter::default(), usize::MAX).await.expect("entries");
    let created: Vec<_> = entries
        .iter()
        .map(|entry| &entry.entry.fact)
        .filter(|fact| fact.action == Action::BundleCreated)
        .collect();
    assert_eq!(created.len(), 1);
    let (manifest, id) = (told["manifest_sha256"].as_str(), told["bundle_id"].as_str());
    let detail = created[0].detail.as_deref().expect("a detail");
    assert!(detail.contains(manifest.expect("a digest")) && detail.contains(id.expect("an id")), "{detail}");
    assert_eq!(created[0].actor.as_ref().expect("an actor").principal, "guest");
    router.stop().await;
}

#[test]
fn without_a_router_nothing_is_recorded_and_it_says_so() {
    let place = TempDir::new().expect("a directory");
    let file = place.path().join("b.tar.gz").display().to_string();
    let (code, out, _) = offline(&["--api", "http://127.0.0.1:9", "--out", &file]);
    assert_eq!(code, Some(0));
    assert!(out.contains("nothing was recorded: no router answers"), "{out}");
}
