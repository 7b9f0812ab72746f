//! The demo's swarm: a controller that hears commands and answers them, on the embedded bus.
//!
//! Owns: one simulated swarm controller, and the words that the demo's sender puts on the bus.
//! Never: knows that it is judged; it speaks as any AMQP client would.
//! Holds: each command that reaches it is answered once per message-id, as a careful subscriber does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    bus::{Bus, BusError, Departure, Exchange, ExchangeKind, Queue, QueueKind, Topology},
    contract::{
        message::{Message, Properties},
        routing::{ControlPlaneRouting, Family, RoutingKey, Scope},
        timestamp::Timestamp,
    },
    runtime::clock,
};

/// The queue that the controller hears.
const INBOX: &str = "demo.controller";

/// The controller's scope.
pub fn controller() -> Scope {
    Scope::new("kestrel", "swarm-controller", "kestrel-ctl-1")
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
    let mut publisher = bus.publisher().await?;
    publisher.publish(&[&Departure { message, mandatory: false }], Duration::from_secs(5)).await?;
    Ok(())
}

/// What the swarm and the audience listen on.
pub fn topology(heard: &str, refused: &str) -> Topology {
    let queue = |name: &str, bindings: Vec<(String, String)>| Queue {
        name: name.to_owned(),
        kind: QueueKind::Exclusive,
        bindings,
    };
    let out = |pattern: String| ("swarmgate.out".to_owned(), pattern);
    let inbox = ControlPlaneRouting::signal_bindings("*", &controller()).into_iter().map(out).collect();
    let all = vec![("swarmgate.out".to_owned(), "#".to_owned())];
    let every_refusal = vec![("swarmgate.refused".to_owned(), "#".to_owned())];
    let exchange =
        |name: &str| Exchange { name: name.to_owned(), kind: ExchangeKind::Topic, alternate: None };
    Topology {
        exchanges: vec![exchange("swarmgate.out"), exchange("swarmgate.refused")],
        queues: vec![queue(INBOX, inbox), queue(heard, all), queue(refused, every_refusal)],
    }
}

/// Hears commands and answers each with its outcome until the bus closes.
pub async fn run(bus: Arc<dyn Bus>) -> Result<(), BusError> {
    let mut inbox = bus.consumer(INBOX, 16).await?;
    let settler = inbox.settler();
    let mut known = BTreeSet::new();
    loop {
        let deliveries = inbox.next(16).await?;
        if deliveries.is_empty() {
            return Ok(());
        }
        for delivery in deliveries {
            let first = delivery.message.properties.message_id.clone().is_none_or(|id| known.insert(id));
            if first && let Some(answer) = answer(&delivery.message) {
                publish(bus.as_ref(), answer).await?;
            }
            settler.ack(delivery.tag, false).await?;
        }
    }
}

/// The outcome of a command that reached the controller.
fn answer(command: &Message) -> Option<Message> {
    let RoutingKey { kind_type, .. } = ControlPlaneRouting::parse(&command.routing_key).ok()?;
    let body: Value = serde_json::from_slice(&command.body).ok()?;
    let status = match kind_type.as_str() {
        "swarm-stop" | "stop" => "Stopped",
        _ => "Running",
    };
    let scope = controller();
    let outcome = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "outcome", "type": kind_type,
        "origin": format!("{}:{}", scope.role, scope.instance), "scope": scope,
        "correlationId": body.get("correlationId"), "idempotencyKey": body.get("idempotencyKey"),
        "data": { "status": status, "retryable": false },
    });
    let key = ControlPlaneRouting::of(Family::Outcome, &kind_type, &scope);
    Some(said(&key, &scope.instance, outcome.to_string()))
}
