//! A signal that a person asked for: its envelope, its key, and the way to the broker.
//!
//! Owns: building the envelope, checking it before it leaves, and putting it on `swarmgate.in`.
//! Never: goes round the gate, or sends what the contract would refuse.
//! Holds: the sender is the connected user unless another was named; the broker vouches for the
//! user.

use std::time::Duration;

use serde_json::{Value, json};

use super::{CliError, Exit, Globals, Out};
use crate::{
    bus::{Bus, BusError, Departure, Fate},
    clock,
    config::Amqp,
    contract::{
        Contract,
        message::{Message, Properties},
        routing::{ControlPlaneRouting, Family, Scope},
    },
};

/// How long the broker may take to confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be said.
pub struct Draft<'a> {
    pub kind_type: &'a str,
    pub scope: &'a Scope,
    pub data: Value,
    /// The sender; the connected user where it is absent.
    pub origin: Option<&'a str>,
    /// New where it is absent, as is the key.
    pub correlation: Option<&'a str>,
    pub key: Option<&'a str>,
}

impl Draft<'_> {
    /// The message, for the broker that this user is connected to.
    ///
    /// # Errors
    /// When type and scope make no routing key.
    pub fn message(self, prefix: &str, user: String) -> Result<Message, CliError> {
        let routing_key = ControlPlaneRouting::build(Family::Signal, self.kind_type, self.scope)
            .map_err(|refusal| usage(refusal.detail.into_owned(), refusal.reason.next_step()))?;
        let new = || uuid::Uuid::now_v7().to_string();
        let given = |text: Option<&str>| text.map_or_else(new, str::to_owned);
        let body = json!({
            "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": self.kind_type,
            "origin": self.origin.unwrap_or(&user), "scope": self.scope,
            "correlationId": given(self.correlation), "idempotencyKey": given(self.key), "data": self.data,
        });
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            delivery_mode: Some(2),
            message_id: Some(new()),
            user_id: Some(user),
            ..Properties::default()
        };
        let exchange = format!("{prefix}.in");
        Ok(Message { exchange, routing_key, properties, body: body.to_string().into() })
    }
}

/// A target as it is written by hand.
///
/// # Errors
/// When it has not three segments.
pub fn scope(text: &str) -> Result<Scope, CliError> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [swarm, role, instance] => Ok(Scope::new(*swarm, *role, *instance)),
        _ => Err(usage(format!("`{text}` is no target"), "write it as swarm/role/instance")),
    }
}

/// Whom the broker knows us as: the user of its URL.
///
/// # Errors
/// When we log in by certificate and the URL names no user: only the broker knows what it reads
/// from one, and a message that names another user is not taken.
pub fn user(amqp: &Amqp) -> Result<String, CliError> {
    amqp.user().ok_or_else(|| {
        usage(
            "the login is a certificate, and the broker's URL does not say as whom the broker knows it"
                .to_owned(),
            "name the user without a password, like amqps://NAME@broker:5671/%2f; the broker tells it with `rabbitmqctl list_connections user`",
        )
    })
}

/// What the contract refuses is told here and not sent.
///
/// # Errors
/// When stdout is closed or full.
pub fn refused_here(
    contract: &Contract,
    message: &Message,
    globals: &Globals,
    out: &mut Out,
) -> Result<Option<Exit>, CliError> {
    let Err(unsaid) = contract.read(message) else { return Ok(None) };
    let refusal = unsaid.refusal;
    if globals.is_json() {
        out.json(&json!({
            "sent": false, "reason": refusal.reason, "detail": refusal.detail, "pointer": refusal.pointer,
            "nextStep": refusal.reason.next_step(),
        }))?;
    } else {
        let at = refusal.pointer.map_or_else(String::new, |pointer| format!(" at {pointer}"));
        out.line(&format!("not sent: {}{at}: {}", refusal.reason, refusal.detail))?;
        out.line(&format!("  {}", refusal.reason.rule()))?;
        out.line(&format!("  {}", refusal.reason.next_step()))?;
    }
    Ok(Some(Exit::Refused))
}

/// Publishes, and waits until the broker has it.
///
/// # Errors
/// When the broker does not take it.
pub async fn publish(bus: &dyn Bus, message: &Message, prefix: &str) -> Result<(), CliError> {
    let departure = Departure { message: message.clone(), mandatory: true };
    let fates = bus.publisher().await?.publish(&[&departure], CONFIRM_TIMEOUT).await?;
    let what = "publish the signal".to_owned();
    let (source, help) = match fates.first() {
        Some(Fate::Carried) => return Ok(()),
        Some(Fate::Returned) => (
            BusError::Refused { what, reason: "no queue takes it".to_owned() },
            format!("is the router running with the prefix `{prefix}`? `swarmgate doctor` looks"),
        ),
        Some(Fate::Rejected) => (
            BusError::Refused { what, reason: "a queue that it goes to is full".to_owned() },
            "`swarmgate doctor` says which lanes wait and for what; what was rejected has not left"
                .to_owned(),
        ),
        Some(Fate::Unsendable) => (
            BusError::Refused { what, reason: "a property of it is too long for AMQP".to_owned() },
            "a property has at most 255 bytes".to_owned(),
        ),
        Some(Fate::Unknown) | None => (
            BusError::Unanswered { what, timeout_ms: CONFIRM_TIMEOUT.as_millis() as u64 },
            "it may have left or not. A broker with an alarm (`rabbitmqctl list_alarms`) takes nothing; \
             `swarmgate doctor` looks, and a repeat under the same `--key` has no second effect"
                .to_owned(),
        ),
    };
    Err(CliError::Unsent { source, help })
}

fn usage(message: String, help: &str) -> CliError {
    CliError::Usage { message, help: help.to_owned() }
}
