//! The demo's swarm: a controller and two workers that hear commands and answer them, on the
//! embedded bus.
//!
//! Owns: the simulated instances, and the words that the demo's sender puts on the bus.
//! Never: knows that it is judged; it speaks as any AMQP client would.
//! Holds: each command that reaches it is answered once per message-id, as a careful subscriber
//! does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    bus::{Bus, BusError, Departure, Exchange, ExchangeKind, Queue, QueueKind, Topology},
    clock,
    contract::{
        message::{Message, Properties},
        routing::{ControlPlaneRouting, Family, RoutingKey, Scope},
        timestamp::Timestamp,
    },
};

/// How often an instance says how it is.
const STATUS_PERIOD: Duration = Duration::from_secs(5);

/// The controller's scope.
pub fn controller() -> Scope {
    Scope::new("kestrel", "swarm-controller", "kestrel-ctl-1")
}

/// The scope of a worker of that number.
pub fn worker(number: u32) -> Scope {
    Scope::new("kestrel", "generator", format!("gen-{number}"))
}

/// The scope of a bot that trades.
pub fn bot() -> Scope {
    Scope::new("kestrel", "trader", "bot-1")
}

/// A message as a client would publish it to `swarmgate.in`.
pub fn said(routing_key: &str, user_id: &str, body: impl Into<Bytes>) -> Message {
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: routing_key.to_owned(),
        properties: Properties {
            content_type: Some("application/json".to_owned()),
            user_id: Some(user_id.to_owned()),
            ..Properties::default()
        },
        body: body.into(),
    }
}

/// A signal's body.
pub fn signal(kind_type: &str, scope: &Scope, origin: &str, key: &str, at: Timestamp) -> Value {
    json!({
        "timestamp": at, "version": "1", "kind": "signal", "type": kind_type, "origin": origin, "scope": scope,
        "correlationId": format!("c-{key}"), "idempotencyKey": format!("i-{key}"), "data": {},
    })
}

/// Publishes one message.
pub async fn publish(bus: &dyn Bus, message: Message) -> Result<(), BusError> {
    let publisher = bus.publisher().await?;
    publisher.publish(&[&Departure { message, mandatory: false }], Duration::from_secs(5)).await?;
    Ok(())
}

/// What the audience listens on. It hears events only, so that a command nobody takes goes back to
/// the router.
pub fn topology(heard: &str, refused: &str) -> Topology {
    let queue = |name: &str, bindings: Vec<(String, String)>| Queue {
        name: name.to_owned(),
        kind: QueueKind::Exclusive,
        bindings,
    };
    let out = |pattern: String| ("swarmgate.out".to_owned(), pattern);
    let all = vec![out("event.#".to_owned())];
    let every_refusal = vec![("swarmgate.refused".to_owned(), "#".to_owned())];
    let exchange =
        |name: &str| Exchange { name: name.to_owned(), kind: ExchangeKind::Topic, alternate: None };
    Topology {
        exchanges: vec![exchange("swarmgate.out"), exchange("swarmgate.refused")],
        queues: vec![queue(heard, all), queue(refused, every_refusal)],
    }
}

/// An instance that is there: its queue stands, and its status says so.
pub async fn appear(bus: &dyn Bus, scope: &Scope) -> Result<(), BusError> {
    let bindings = ControlPlaneRouting::signal_bindings("*", scope);
    let queue = Queue {
        name: inbox(scope),
        kind: QueueKind::Exclusive,
        bindings: bindings.into_iter().map(|pattern| ("swarmgate.out".to_owned(), pattern)).collect(),
    };
    bus.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await?;
    say_status(bus, scope).await
}

/// What an instance says of itself.
async fn say_status(bus: &dyn Bus, scope: &Scope) -> Result<(), BusError> {
    let status = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "metric", "type": "status-full",
        "origin": format!("{}:{}", scope.role, scope.instance), "scope": scope,
        "data": {
            "enabled": true, "config": { "rate": 50 }, "startedAt": clock::wall(), "io": {},
            "ioState": { "work": { "input": "ok", "output": "ok" } },
        },
    });
    let key = ControlPlaneRouting::of(Family::Metric, "status-full", scope);
    publish(bus, said(&key, &scope.instance, status.to_string())).await
}

/// The queue that an instance hears.
fn inbox(scope: &Scope) -> String {
    format!("demo.{}", scope.instance)
}

/// Hears commands and answers each with its outcome until the bus closes; says how it is from time
/// to time.
pub async fn run(bus: Arc<dyn Bus>, scope: Scope) -> Result<(), BusError> {
    let mut inbox = bus.consumer(&inbox(&scope), 16).await?;
    let settler = inbox.settler();
    let mut known = BTreeSet::new();
    let mut again = tokio::time::interval(STATUS_PERIOD);
    loop {
        let deliveries = tokio::select! {
            deliveries = inbox.next(16) => deliveries?,
            _ = again.tick() => {
                say_status(bus.as_ref(), &scope).await?;
                continue;
            }
        };
        if deliveries.is_empty() {
            return Ok(());
        }
        for delivery in deliveries {
            let first = delivery.message.properties.message_id.clone().is_none_or(|id| known.insert(id));
            if first && let Some(answer) = answer(&scope, &delivery.message) {
                publish(bus.as_ref(), answer).await?;
            }
            settler.ack(delivery.tag, false).await?;
        }
    }
}

/// The outcome of a command that reached an instance.
fn answer(scope: &Scope, command: &Message) -> Option<Message> {
    let RoutingKey { kind_type, .. } = ControlPlaneRouting::parse(&command.routing_key).ok()?;
    let body: Value = serde_json::from_slice(&command.body).ok()?;
    let status = match kind_type.as_str() {
        "bot-init" => "Created",
        "swarm-stop" | "bot-stop" | "stop" => "Stopped",
        "config-update" => "Applied",
        _ => "Running",
    };
    let outcome = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "outcome", "type": kind_type,
        "origin": format!("{}:{}", scope.role, scope.instance), "scope": scope,
        "correlationId": body.get("correlationId"), "idempotencyKey": body.get("idempotencyKey"),
        "data": { "status": status, "retryable": false },
    });
    let key = ControlPlaneRouting::of(Family::Outcome, &kind_type, scope);
    Some(said(&key, &scope.instance, outcome.to_string()))
}
