//! Sends one command through Swarmgate and waits for its outcome.
//!
//!     cargo run --example commander -- AMQP_URL SWARM ROLE INSTANCE [TYPE]
//!
//! Prints the outcome as one line of JSON; ends with 0 where it says what was wanted.

use std::{error::Error, process::ExitCode, time::Duration};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};
use serde_json::{Value, json};
use swarmgate::contract::{
    command::Commands,
    routing::{ControlPlaneRouting, Family, Scope},
};

/// Longer than the deadline of `config-update`, after which the router answers `TimedOut` itself.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: commander AMQP_URL SWARM ROLE INSTANCE [TYPE]");
    let (url, scope) = (next()?, Scope::new(next()?, next()?, next()?));
    let kind_type = next().unwrap_or_else(|_| "config-update".to_owned());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    // Listening before speaking: the answer may come at once.
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = ShortString::try_new(format!("subscriber.commander.{}", uuid::Uuid::now_v7()))?;
    let queue = channel.queue_declare(queue, exclusive, FieldTable::default()).await?;
    let key = ShortString::try_new(ControlPlaneRouting::of(Family::Outcome, &kind_type, &scope))?;
    let (name, exchange) = (queue.name().clone(), ShortString::try_new("swarmgate.out")?);
    channel
        .queue_bind(name.clone(), exchange, key, QueueBindOptions::default(), FieldTable::default())
        .await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut outcomes =
        channel.basic_consume(name, ShortString::default(), options, FieldTable::default()).await?;
    let ours = uuid::Uuid::now_v7().to_string();
    let command = json!({
        "timestamp": swarmgate::clock::wall(), "version": "1", "kind": "signal", "type": kind_type,
        "origin": "commander-rs", "scope": scope, "correlationId": ours,
        // Whoever sends this again with the same key sends the same command, and gets the same
        // outcome.
        "idempotencyKey": uuid::Uuid::now_v7().to_string(),
        "data": { "rate": 50 },
    });
    let key = ShortString::try_new(ControlPlaneRouting::of(Family::Signal, &kind_type, &scope))?;
    let (exchange, body) = (ShortString::try_new("swarmgate.in")?, command.to_string());
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let properties = BasicProperties::default().with_delivery_mode(2);
    channel.basic_publish(exchange, key, options, body.as_bytes(), properties).await?.await?;
    let answered = tokio::time::timeout(PATIENCE, async {
        while let Some(delivery) = outcomes.next().await {
            let outcome: Value = serde_json::from_slice(&delivery?.data)?;
            if outcome["correlationId"] == ours {
                return Ok::<_, Box<dyn Error>>(outcome);
            }
        }
        Err("the broker ended the connection".into())
    });
    let outcome = answered.await.map_err(|_| "no outcome came")??;
    println!("{outcome}");
    let status = outcome["data"]["status"].as_str().unwrap_or_default();
    let commands = Commands::default();
    let wanted = commands.get(&kind_type).is_some_and(|row| row.success.iter().any(|word| word == status));
    Ok(if wanted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
