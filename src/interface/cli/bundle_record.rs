//! What a running router writes of a bundle that was made at a terminal.
//!
//! Owns: asking it, by the bus, and waiting for its word.
//! Never: asks where no router answers, or fails the bundle: it is there, recorded or not.
//! Holds: it counts as recorded by the word of the very router that the bundle tells of.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    CliError, Globals,
    client::{self, Connect},
    signal::{self, Draft},
};
use crate::{
    bus::{Bus, BusError},
    contract::routing::{ControlPlaneRouting, Family, Scope},
    support::Created,
};

/// How long broker and router may take together.
const PATIENCE: Duration = Duration::from_secs(15);
const KIND_TYPE: &str = "support-bundle";

/// Has a router record a bundle, by the bundle's id and its manifest's digest; answers who did.
///
/// # Errors
/// Why nothing was recorded, in words.
pub async fn record(
    created: &Created,
    instance: &str,
    connect: &Connect,
    globals: &Globals,
) -> Result<String, String> {
    match timeout(PATIENCE, ask(created, instance, connect, globals)).await {
        Ok(Ok(word)) => word,
        Ok(Err(fault)) => Err(fault.to_string()),
        Err(_) => Err(format!("no word of the router within {} s", PATIENCE.as_secs())),
    }
}

async fn ask(
    created: &Created,
    instance: &str,
    connect: &Connect,
    globals: &Globals,
) -> Result<Result<String, String>, CliError> {
    let (loaded, bus) = connect.open(globals).await?;
    let prefix = &loaded.config.amqp.prefix;
    let (id, scope) = (uuid::Uuid::now_v7().to_string(), Scope::router(instance));
    let made = json!({
        "bundleId": created.bundle_id, "bytes": created.bytes, "manifestSha256": created.manifest_sha256,
    });
    let draft = Draft {
        kind_type: KIND_TYPE,
        scope: &scope,
        data: json!({ "made": made }),
        origin: None,
        correlation: Some(&id),
        key: None,
    };
    let message = draft.message(prefix, signal::user(&loaded.config.amqp)?)?;
    let outcomes = ControlPlaneRouting::of(Family::Outcome, KIND_TYPE, &scope);
    let bindings = vec![(format!("{prefix}.out"), outcomes)];
    let mut consumer = client::listen(bus.as_ref(), prefix, bindings).await?;
    signal::publish(bus.as_ref(), &message, prefix).await?;
    let word = loop {
        let deliveries = consumer.next(64).await?;
        let bodies =
            deliveries.iter().filter_map(|one| serde_json::from_slice::<Value>(&one.message.body).ok());
        if let Some(word) =
            bodies.filter(|body| body["correlationId"] == id.as_str()).find_map(|body| word(&body, instance))
        {
            break word;
        }
        if deliveries.is_empty() {
            let queue = format!("{prefix}.tool");
            return Err(BusError::Cancelled { queue }.into());
        }
    };
    bus.close().await;
    Ok(word)
}

/// The router's word on it; an outcome of anybody else is none.
fn word(body: &Value, instance: &str) -> Option<Result<String, String>> {
    let origin = body["origin"].as_str().filter(|origin| *origin == format!("swarmgate:{instance}"))?;
    let data = &body["data"];
    Some(match data["status"].as_str() {
        Some("Applied") => Ok(origin.to_owned()),
        _ => Err(data["message"].as_str().unwrap_or("the router did not record it").to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_router_of_the_bundle_has_a_word() {
        let said = |origin: &str, status: &str| json!({ "origin": origin, "data": { "status": status, "message": "because" } });
        assert_eq!(
            word(&said("swarmgate:gate-1", "Applied"), "gate-1"),
            Some(Ok("swarmgate:gate-1".to_owned()))
        );
        assert_eq!(word(&said("swarmgate:gate-1", "Refused"), "gate-1"), Some(Err("because".to_owned())));
        assert_eq!(word(&said("swarmgate:gate-2", "Applied"), "gate-1"), None);
        assert_eq!(word(&said("gate-1", "Applied"), "gate-1"), None);
    }
}
