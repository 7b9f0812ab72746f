//! What the router says of itself, and what is shown of those who say little.
//!
//! Owns: the router's own status-full: when it is said, and what of config, topology and depths it
//! holds.
//! Never: asks for it where it is to come by itself.
//! Holds: what is heard is read by the contract that everybody is held to.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use swarmgate::{
    bus::Consumer,
    clock,
    contract::{Contract, Limits, message::Message},
};

use super::gate::{Gate, PATIENCE, envelope};

const FULL: &str = "event.metric.status-full.swarmgate.router.gate-1";

/// The next status-full of the router, and what is heard before it.
async fn next_full(consumer: &mut dyn Consumer) -> (Message, usize) {
    let mut deltas = 0;
    loop {
        let heard =
            tokio::time::timeout(PATIENCE, consumer.next(1)).await.expect("a status").expect("it stands");
        let delivery = heard.into_iter().next().expect("it is open");
        consumer.settler().ack(delivery.tag, false).await.expect("a settlement");
        match delivery.message.routing_key == FULL {
            true => return (delivery.message, deltas),
            false => deltas += 1,
        }
    }
}

fn body(message: &Message) -> Value {
    serde_json::from_slice(&message.body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routers_own_status_is_whole_and_comes_again() {
    let settings = [
        ("status.full_every_ms", "10000"),
        ("amqp.url", "amqp://router:canary@broker/%2f"),
        ("consent.actors", "ann,bob"),
    ];
    let gate = Gate::with(&settings).await;
    // Whoever comes late asks nobody.
    let mut late = gate.listen("event.metric.*.swarmgate.router.#").await;
    let (mut message, _) = next_full(late.as_mut()).await;
    let lane = "swarmgate.in.urgent.v2";
    // The first may have been said before the broker was asked, or before the router listened.
    while body(&message)["data"]["io"]["control"]["queueStats"][lane]["consumers"] != json!(1) {
        message = next_full(late.as_mut()).await.0;
    }
    let contract = Contract::built_in(Limits::default()).expect("the built-in schemas compile");
    let mut message_in = message.clone();
    message_in.exchange = "swarmgate.in".to_owned();
    if let Err(unsaid) = contract.read(&message_in) {
        panic!("{:?}", unsaid.refusal);
    }
    let said = body(&message);
    let data = &said["data"];
    assert_eq!(data["config"]["consent"]["actors"], json!(["ann", "bob"]));
    assert_eq!(data["config"]["status"]["full_every_ms"], json!(10_000));
    assert_eq!(data["config"]["amqp"]["url"], json!("amqp://router:***@broker/%2f"));
    assert!(!message.body.windows(6).any(|part| part == b"canary"), "{said}");
    let control = &data["io"]["control"];
    assert!(control["queues"]["in"].as_array().is_some_and(|all| all.contains(&json!(lane))), "{control}");
    let out = control["queues"]["out"].as_array().expect("exchanges");
    assert!(
        ["swarmgate.out", "swarmgate.refused"].iter().all(|name| out.contains(&json!(name))),
        "{control}"
    );
    assert_eq!(control["queues"]["routes"], json!(["swarmgate.in"]));
    assert_eq!(control["queueStats"][lane], json!({ "depth": 0, "consumers": 1 }), "{control}");
    // And again, with nobody asking; in between there are deltas.
    let begun = Instant::now();
    let (again, deltas) = next_full(late.as_mut()).await;
    assert!(begun.elapsed() > Duration::from_secs(4) && deltas >= 1, "{deltas} after {:?}", begun.elapsed());
    assert_eq!(body(&again)["data"]["startedAt"], data["startedAt"]);
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_of_its_io_is_carried_and_shown_as_unknown() {
    let gate = Gate::start().await;
    let mut heard = gate.listen("event.metric.status-full.kestrel.#").await;
    for (instance, io, state, queues, health) in [
        ("w-1", json!({}), json!({}), json!(null), "unknown"),
        ("w-2", json!({ "work": {} }), json!({}), json!(null), "unknown"),
        ("w-3", json!({ "work": { "queues": { "in": [] } } }), json!({}), json!([]), "unknown"),
        (
            "w-4",
            json!({ "work": { "queues": { "in": ["jobs"] } } }),
            json!({ "work": { "input": "ok", "output": "ok" } }),
            json!(["jobs"]),
            "ok",
        ),
    ] {
        let data = json!({
            "enabled": true, "config": {}, "startedAt": clock::wall(), "io": io, "ioState": state,
        });
        let said = envelope("metric", "status-full", instance, instance, None, &data);
        gate.say(said.clone()).await;
        let carried =
            tokio::time::timeout(PATIENCE, heard.next(1)).await.expect("a status").expect("it stands");
        let carried = carried.first().expect("it is carried");
        assert_eq!(carried.message.body, said.body, "{instance}");
        heard.settler().ack(carried.tag, false).await.expect("a settlement");
        let page = format!("inventory/kestrel/worker/{instance}");
        let shown = gate.until(&page, |page| page["baseline"] == true).await;
        assert_eq!((&shown["queuesIn"], &shown["health"]), (&queues, &json!(health)), "{shown}");
    }
    gate.stop().await;
}
