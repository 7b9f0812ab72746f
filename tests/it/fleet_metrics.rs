//! What the metrics say of a fleet, as they are scraped from the process that is deployed.
//!
//! Owns: instances, ends and times of commands, refused copies, the outbox and lanes that take
//! nothing.
//! Never: looks into the router.
//! Holds: each number is of what the test itself sent.

use std::time::{Duration, Instant};

use serde_json::json;
use swarmgate::{clock, contract::message::Message};

use crate::hostile::{get, routers::Gate};

const PATIENCE: Duration = Duration::from_secs(60);

/// Scrapes until all of these lines are there.
async fn says(router: &Gate, lines: &[&str]) {
    let within = Instant::now() + PATIENCE;
    loop {
        let page = get(&router.address, "/metrics").await;
        let missing: Vec<&&str> =
            lines.iter().filter(|line| !page.lines().any(|told| told == **line)).collect();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < within, "{missing:?} are not in {page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn number(router: &Gate, series: &str) -> f64 {
    let page = get(&router.address, "/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no `{series}` in {page}")).parse().expect("a number")
}

fn status(instance: &str, output: &str) -> Message {
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "metric", "type": "status-delta", "origin": instance,
        "scope": { "swarmId": "kestrel", "role": "worker", "instance": instance },
        "data": { "enabled": true, "ioState": { "work": { "input": "ok", "output": output } } },
    });
    crate::router::message(&format!("event.metric.status-delta.kestrel.worker.{instance}"), &body)
}

mod on_rabbitmq {
    use std::sync::Arc;

    use super::*;
    use crate::{
        broker::Broker,
        hostile::Client,
        router::{message, outcome, signal},
    };

    #[tokio::test]
    async fn a_fleet_its_commands_and_what_waits_are_counted() {
        let vhost = Arc::new(Broker::shared()).vhost("fleet-metrics");
        let settings = [("SWARMGATE_STATUS_FULL_EVERY_MS", "5000")];
        let router = Gate::start(&vhost.options().url, "gate-1", &[], &settings);
        router.ready().await;
        let client = Client::new(&vhost).await;
        client.queue("stops", "signal.swarm-stop.#", &[]).await;
        let lanes = ["urgent", "signals", "results", "metrics"];
        let open = lanes.map(|lane| format!("swarmgate_lane_blocked{{lane=\"{lane}\"}} 0"));
        says(&router, &open.each_ref().map(String::as_str)).await;

        client.publish(&[status("w-1", "ok"), status("w-2", "ok"), status("w-3", "blocked")]).await;
        says(
            &router,
            &[
                "swarmgate_instances{freshness=\"fresh\",health=\"ok\"} 2",
                "swarmgate_instances{freshness=\"fresh\",health=\"degraded\"} 1",
                "swarmgate_instances_unwell 1",
            ],
        )
        .await;

        client.publish(&[signal("swarm-stop", "w-1", "one"), signal("swarm-stop", "w-2", "two")]).await;
        says(&router, &["swarmgate_command_seconds_count{class=\"stop\",step=\"carried\"} 2"]).await;
        client
            .publish(&[
                outcome("swarm-stop", "w-1", "one", "Stopped"),
                outcome("swarm-stop", "w-2", "two", "canary-of-a-status"),
            ])
            .await;
        says(
            &router,
            &[
                "swarmgate_commands_ended_total{status=\"Stopped\",type=\"swarm-stop\"} 1",
                "swarmgate_commands_ended_total{status=\"other\",type=\"swarm-stop\"} 1",
                "swarmgate_command_seconds_count{class=\"stop\",step=\"observed\"} 2",
                "swarmgate_command_seconds_count{class=\"stop\",step=\"ended\"} 2",
                "swarmgate_commands_overdue 0",
                "swarmgate_outbox_parcels{state=\"leaving\"} 0",
                "swarmgate_outbox_parcels{state=\"parked\"} 0",
            ],
        )
        .await;
        assert!(!get(&router.address, "/metrics").await.contains("canary"));
        let took = |step| format!("swarmgate_command_seconds_sum{{class=\"stop\",step=\"{step}\"}}");
        let (carried, ended) =
            (number(&router, &took("carried")).await, number(&router, &took("ended")).await);
        assert!(0.0 < carried && carried <= ended && ended < 120.0, "{carried} {ended}");

        // Nobody has a queue for it: it waits, and its time is no measure of anybody.
        client.publish(&[signal("swarm-plan", "w-9", "parked")]).await;
        says(&router, &["swarmgate_outbox_parcels{state=\"parked\"} 1"]).await;

        client.publish(&[message("signal.no-such-type.kestrel.worker.w-1", &json!({}))]).await;
        says(&router, &["swarmgate_refused_copies 1"]).await;
        let age = number(&router, "swarmgate_refused_oldest_seconds").await;
        assert!((0.0..60.0).contains(&age), "{age}");
    }

    #[tokio::test]
    async fn lanes_that_take_nothing_are_named_while_the_broker_is_away() {
        let own = Arc::new(Broker::own("fleet-lanes"));
        let vhost = own.vhost("fleet-lanes");
        let router = Gate::start(&vhost.options().url, "gate-1", &[], &[]);
        router.ready().await;
        says(&router, &["swarmgate_lane_blocked{lane=\"urgent\"} 0", "swarmgate_broker_connected 1"]).await;
        own.kill();
        let away =
            ["swarmgate_lane_blocked{lane=\"urgent\"} 1", "swarmgate_lane_blocked{lane=\"metrics\"} 1"];
        says(&router, &away).await;
        own.start();
        router.ready().await;
        says(
            &router,
            &["swarmgate_lane_blocked{lane=\"urgent\"} 0", "swarmgate_lane_blocked{lane=\"metrics\"} 0"],
        )
        .await;
    }
}
