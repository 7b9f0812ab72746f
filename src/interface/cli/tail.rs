//! `swarmgate tail`: what the router carries, as it does.
//!
//! Owns: listening with a queue of its own, and a message in one line.
//! Never: takes a message from anybody else's queue.
//! Holds: what is shown was carried (or, with --refused, refused).

use serde_json::{Value, json};

use super::{
    CliError, Exit, Globals, Out,
    client::{self, Connect},
};
use crate::{
    bus::Bus,
    contract::{message::Message, routing::ControlPlaneRouting},
};

/// Show what the router publishes or refuses, as it happens.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Everything that is published:
    swarmgate tail
  Outcomes of one swarm, as JSON:
    swarmgate tail 'event.outcome.*.kestrel.#' --output json
  The next ten refusals:
    swarmgate tail --refused --count 10")]
pub struct Args {
    /// Topic patterns; everything when none is given.
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Refused copies instead of what is published.
    #[arg(long)]
    refused: bool,
    /// End after so many.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    #[command(flatten)]
    connect: Connect,
}

/// Listens until it is interrupted.
///
/// # Errors
/// When the broker cannot be used.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let (loaded, bus) = args.connect.open(globals).await?;
    let prefix = &loaded.config.amqp.prefix;
    let exchange = format!("{prefix}.{}", if args.refused { "refused" } else { "out" });
    let patterns = if args.patterns.is_empty() { vec!["#".to_owned()] } else { args.patterns };
    let bindings = patterns.into_iter().map(|pattern| (exchange.clone(), pattern)).collect();
    let mut consumer = client::listen(bus.as_ref(), prefix, bindings).await?;
    let (settler, mut left) = (consumer.settler(), args.count.unwrap_or(u64::MAX));
    let mut out = Out::new();
    while left > 0 {
        let deliveries = tokio::select! {
            deliveries = consumer.next(64) => deliveries?,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(last) = deliveries.last().map(|delivery| delivery.tag) else { break };
        for delivery in deliveries.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            left -= 1;
            if globals.is_json() {
                out.json(&shown(&delivery.message))?
            } else {
                out.line(&one_line(&delivery.message))?
            }
        }
        settler.ack(last, true).await?;
    }
    bus.close().await;
    Ok(Exit::Done)
}

/// A message in one line.
pub(super) fn one_line(message: &Message) -> String {
    let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let header = |name: &str| message.properties.header_text(name).unwrap_or_default().to_owned();
    let what = match ControlPlaneRouting::parse(&message.routing_key) {
        Ok(key) => format!("{:<7} {:<16} {}", key.family, key.kind_type, key.scope),
        Err(_) => message.routing_key.clone(),
    };
    let word = [
        text("/data/status"),
        text("/data/code"),
        header("x-swarmgate-reason"),
        header("x-swarmgate-detail"),
    ];
    let word: Vec<String> = word.into_iter().filter(|word| !word.is_empty()).collect();
    let line = format!("{:<28} {what}  from {}  {}", text("/timestamp"), text("/origin"), word.join(": "));
    line.trim_end().to_owned()
}

/// A message whole.
pub(super) fn shown(message: &Message) -> Value {
    let headers: serde_json::Map<String, Value> = message
        .properties
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), super::route::shown(value)))
        .collect();
    let mut properties = message.properties.clone();
    properties.headers = Vec::new();
    let body = match serde_json::from_slice::<Value>(&message.body) {
        Ok(body) => body,
        Err(_) => json!(String::from_utf8_lossy(&message.body)),
    };
    json!({
        "exchange": message.exchange, "routingKey": message.routing_key, "headers": headers,
        "properties": properties, "body": body,
    })
}
