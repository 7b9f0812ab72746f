//! A worker that Swarmgate steers: it says how it is, obeys each command once, and answers every
//! one.
//!
//!     cargo run --example worker -- AMQP_URL SWARM ROLE INSTANCE
//!
//! It listens only on `swarmgate.out` and speaks only to `swarmgate.in`. Reconnecting is left out:
//! run it under something that starts it again.

use std::{collections::BTreeSet, error::Error, time::Duration};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};
use serde_json::{Value, json};
use swarmgate::contract::routing::{ControlPlaneRouting, Family, Scope};
use tokio::signal::unix::{SignalKind, signal};

const DELTA_PERIOD: Duration = Duration::from_secs(5);

struct Worker {
    channel: Channel,
    scope: Scope,
    config: Value,
    started_at: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let [url, swarm, role, instance] = std::env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: worker AMQP_URL SWARM ROLE INSTANCE")?;
    let scope = Scope::new(swarm, role, instance);
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    // By name: permissions say who may listen under `subscriber.…`.
    let queue =
        ShortString::try_new(format!("subscriber.{}.{}.{}", scope.swarm_id, scope.role, scope.instance))?;
    let queue = channel.queue_declare(queue, exclusive, FieldTable::default()).await?;
    // Its own name, and every fan-out that covers it.
    for pattern in ControlPlaneRouting::signal_bindings("*", &scope) {
        let (queue, key) = (queue.name().clone(), ShortString::try_new(pattern)?);
        let exchange = ShortString::try_new("swarmgate.out")?;
        channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default()).await?;
    }
    let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
    let mut inbox = channel.basic_consume(queue.name().clone(), tag, options, FieldTable::default()).await?;
    let mut worker = Worker { channel, scope, config: json!({}), started_at: now() };
    // Commands that came before this worker wait at the router until it shows itself.
    worker.status(true).await?;
    let mut seen = BTreeSet::new();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut ticker = tokio::time::interval(DELTA_PERIOD);
    loop {
        tokio::select! {
            _ = terminated.recv() => return Ok(()),
            _ = ticker.tick() => worker.status(false).await?,
            delivery = inbox.next() => {
                let delivery = delivery.ok_or("the broker ended the connection")??;
                // Carriage is at least once: a repeat has the message-id of the first. A worker
                // that lives long forgets the oldest of them.
                let id = delivery.properties.message_id().as_ref().map(ToString::to_string);
                if seen.insert(id) {
                    worker.obey(&serde_json::from_slice(&delivery.data)?).await?;
                }
                delivery.ack(BasicAckOptions::default()).await?;
            }
        }
    }
}

impl Worker {
    async fn obey(&mut self, command: &Value) -> Result<(), Box<dyn Error>> {
        let kind_type = command["type"].as_str().unwrap_or_default();
        // What success is called, by type: spec/commands.toml.
        let status = match kind_type {
            // The status itself is the answer.
            "status-request" => return self.status(true).await,
            "config-update" => {
                for (name, value) in command["data"].as_object().into_iter().flatten() {
                    self.config[name] = value.clone();
                }
                "Applied"
            }
            "bot-start" | "swarm-start" => "Running",
            "bot-stop" | "swarm-stop" | "stop" => "Stopped",
            "bot-pause" => "Paused",
            _ => "Failed",
        };
        let data = json!({ "status": status, "retryable": false });
        self.say(Family::Outcome, kind_type, data, Some(command)).await?;
        self.status(true).await
    }

    async fn status(&self, full: bool) -> Result<(), Box<dyn Error>> {
        let mut data = json!({ "enabled": true, "ioState": { "work": { "input": "ok", "output": "ok" } } });
        if full {
            data["config"] = self.config.clone();
            data["startedAt"] = json!(self.started_at);
            data["io"] = json!({});
        }
        let kind_type = if full { "status-full" } else { "status-delta" };
        self.say(Family::Metric, kind_type, data, None).await
    }

    /// Publishes one envelope. The key and the body must say the same, or the gate refuses it.
    async fn say(
        &self,
        family: Family,
        kind_type: &str,
        data: Value,
        asked: Option<&Value>,
    ) -> Result<(), Box<dyn Error>> {
        let mut body = json!({
            "timestamp": now(), "version": "1", "kind": family.kind(), "type": kind_type, "scope": self.scope,
            "origin": format!("{}:{}", self.scope.role, self.scope.instance),
            "correlationId": asked.map(|asked| &asked["correlationId"]), "data": data,
        });
        if let Some(asked) = asked {
            body["idempotencyKey"] = asked["idempotencyKey"].clone();
        }
        let key = ShortString::try_new(ControlPlaneRouting::of(family, kind_type, &self.scope))?;
        let exchange = ShortString::try_new("swarmgate.in")?;
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (options, body) = (BasicPublishOptions::default(), body.to_string());
        self.channel.basic_publish(exchange, key, options, body.as_bytes(), properties).await?;
        Ok(())
    }
}

fn now() -> String {
    swarmgate::clock::wall().to_string()
}
