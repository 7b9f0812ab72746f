//! What a worker hears and says: signals, outcomes, alerts, statuses.
//!
//! Owns: the form of each on the channel, and the envelopes that go on to the bus.
//! Never: sends anything; the worker does.
//! Holds: an envelope made here is from the worker's own scope, and its key says what its body
//! says.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::contract::{
    control::ControlMessage,
    envelope::VERSION,
    routing::{ControlPlaneRouting, Family, Scope},
    timestamp::Timestamp,
};

/// What a worker is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Obey this, and answer it with an outcome.
    Signal(Signal),
    /// End: finish what is under way, then leave.
    Stop(Stop),
}

/// A command of the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Its type.
    pub kind_type: String,
    /// What it says, by type.
    pub data: Map<String, Value>,
    /// Joins it to its outcome.
    pub correlation_id: String,
    /// The command's key.
    pub idempotency_key: Option<String>,
    /// Whether it stops or pauses something, and so has overtaken others.
    pub urgent: bool,
    /// The whole envelope.
    pub envelope: Value,
}

/// The end that the supervisor asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Why.
    pub reason: String,
    /// How long the worker has until SIGTERM.
    pub grace_ms: u64,
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The status: for success the word of the command's type, else `Failed` or `NotReady`.
    pub status: String,
    /// Whether trying again may help.
    pub retryable: bool,
    /// What to tell people.
    pub message: Option<String>,
    /// Whatever else.
    pub context: Map<String, Value>,
}

impl Answer {
    /// That status, and nothing else.
    pub fn new(status: impl Into<String>) -> Self {
        Self { status: status.into(), ..Self::default() }
    }

    /// A failure, with what to tell people.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::new("Failed") }
    }
}

/// How a worker is.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Whether it does its work.
    pub enabled: bool,
    /// What it was configured with.
    pub config: Map<String, Value>,
    /// Its queues.
    pub io: Map<String, Value>,
    /// How well each of its planes does.
    pub io_state: Map<String, Value>,
    /// How much it does in a second.
    pub tps: Option<u64>,
    /// Whatever else.
    pub context: Map<String, Value>,
}

impl Default for Status {
    /// Enabled, and well.
    fn default() -> Self {
        let io_state = json!({ "work": { "input": "ok", "output": "ok" } });
        Self {
            enabled: true,
            config: Map::new(),
            io: Map::new(),
            io_state: object(io_state),
            tps: None,
            context: Map::new(),
        }
    }
}

impl Status {
    /// The payload that says it, whole or only what changes often.
    pub(super) fn payload(&self, whole: bool) -> Map<String, Value> {
        let mut data = Map::new();
        data.insert("enabled".to_owned(), self.enabled.into());
        data.insert("ioState".to_owned(), self.io_state.clone().into());
        if let Some(tps) = self.tps {
            data.insert("tps".to_owned(), tps.into());
        }
        if !self.context.is_empty() {
            data.insert("context".to_owned(), self.context.clone().into());
        }
        if whole {
            data.insert("config".to_owned(), self.config.clone().into());
            data.insert("io".to_owned(), self.io.clone().into());
        }
        object(json!({ "type": if whole { "status-full" } else { "status-delta" }, "data": data }))
    }
}

impl Order {
    /// What a stop of the channel asks for: the worker's end, or a command of the bus that stops
    /// something.
    pub(super) fn of_stop(message: &ControlMessage) -> Option<Self> {
        if message.payload.contains_key("body") {
            return Signal::read(message, true).map(Order::Signal);
        }
        let reason = message.payload.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
        let grace_ms = message.payload.get("grace_ms").and_then(Value::as_u64).unwrap_or_default();
        Some(Order::Stop(Stop { reason, grace_ms }))
    }
}

impl Signal {
    /// The signal in a message; `None` when there is none.
    pub(super) fn read(message: &ControlMessage, urgent: bool) -> Option<Self> {
        let envelope = message.payload.get("body")?.clone();
        let text = |field: &str| envelope.get(field).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            kind_type: text("type")?,
            data: envelope.get("data").and_then(Value::as_object).cloned().unwrap_or_default(),
            correlation_id: text("correlationId")?,
            idempotency_key: text("idempotencyKey"),
            urgent,
            envelope,
        })
    }

    /// The payload of the outcome that answers it.
    pub(super) fn outcome(&self, scope: &Scope, answer: &Answer) -> Map<String, Value> {
        let Answer { status, retryable, message, context } = answer;
        let mut data = object(json!({ "status": status, "retryable": retryable }));
        if let Some(message) = message {
            data.insert("message".to_owned(), message.as_str().into());
        }
        if !context.is_empty() {
            data.insert("context".to_owned(), context.clone().into());
        }
        let mut body = envelope(Family::Outcome, &self.kind_type, scope, data);
        body.insert("correlationId".to_owned(), self.correlation_id.as_str().into());
        body.insert("idempotencyKey".to_owned(), self.idempotency_key.clone().into());
        carried(Family::Outcome, &self.kind_type, scope, body)
    }
}

/// The payload of an alert.
pub(super) fn alert(scope: &Scope, level: &str, code: &str, message: &str) -> Map<String, Value> {
    let data = object(json!({ "level": level, "code": code, "message": message }));
    carried(Family::Alert, "alert", scope, envelope(Family::Alert, "alert", scope, data))
}

fn carried(family: Family, kind_type: &str, scope: &Scope, body: Map<String, Value>) -> Map<String, Value> {
    object(json!({ "routingKey": ControlPlaneRouting::of(family, kind_type, scope), "body": body }))
}

fn envelope(family: Family, kind_type: &str, scope: &Scope, data: Map<String, Value>) -> Map<String, Value> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    object(json!({
        "timestamp": now, "version": VERSION, "kind": family.kind(), "type": kind_type, "scope": scope,
        "origin": format!("{}:{}", scope.role, scope.instance), "data": data,
    }))
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{
        Contract, Limits,
        control::MessageKind,
        message::{Message, Properties},
    };

    fn scope() -> Scope {
        Scope::new("kestrel", "gen", "g-1")
    }

    fn heard() -> Signal {
        let body = json!({
            "type": "config-update", "correlationId": "c", "idempotencyKey": "i", "data": { "rate": 5 },
        });
        let payload = object(json!({ "routingKey": "k", "body": body }));
        let message = ControlMessage::new(MessageKind::Signal, "x", Some("g-1".into()), payload).unwrap();
        Signal::read(&message, false).unwrap()
    }

    #[test]
    fn what_a_worker_says_passes_the_contract() {
        let contract = Contract::built_in(Limits::default()).unwrap();
        let answer = Answer { context: object(json!({ "a": 1 })), ..Answer::failed("no") };
        for payload in [
            heard().outcome(&scope(), &Answer::new("Applied")),
            heard().outcome(&scope(), &answer),
            alert(&scope(), "error", "disk", "full"),
        ] {
            let body = payload["body"].to_string();
            let key = payload["routingKey"].as_str().unwrap();
            let message = Message {
                exchange: String::new(),
                routing_key: key.to_owned(),
                properties: Properties::default(),
                body: body.clone().into(),
            };
            let said = contract.read(&message);
            assert!(said.is_ok(), "{key} {body}: {said:?}");
        }
        for whole in [true, false] {
            let payload =
                Status { tps: Some(3), context: answer.context.clone(), ..Status::default() }.payload(whole);
            assert_eq!(payload["data"].get("config").is_some(), whole);
        }
    }

    #[test]
    fn a_stop_is_an_end_or_a_command() {
        let stop = |payload: Value| {
            let message = ControlMessage::new(MessageKind::Stop, "x", None, object(payload)).unwrap();
            Order::of_stop(&message)
        };
        let end = Stop { reason: "why".into(), grace_ms: 7 };
        assert_eq!(stop(json!({ "reason": "why", "grace_ms": 7 })), Some(Order::Stop(end)));
        assert_eq!(stop(json!({})), Some(Order::Stop(Stop::default())));
        let body = json!({ "type": "bot-stop", "correlationId": "c", "data": {} });
        let Some(Order::Signal(signal)) = stop(json!({ "body": body })) else { panic!("no signal") };
        assert!(signal.urgent && signal.kind_type == "bot-stop");
        assert_eq!(stop(json!({ "body": {} })), None);
    }
}
