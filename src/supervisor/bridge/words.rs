//! The envelopes that a supervisor publishes for its workers.
//!
//! Owns: the form of session words, statuses, outcomes and alerts as the bus has them.
//! Never: decides when one is due, or puts key material into one: a bundle is named, never shown.
//! Holds: what is a worker's own word is from its scope; what is the supervisor's is from its own
//! instance.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::contract::{
    envelope::VERSION,
    message::{Message, Properties},
    routing::{ControlPlaneRouting, Family, Scope},
    timestamp::Timestamp,
};

/// AMQP's mark of a message that survives the broker.
const PERSISTENT: u8 = 2;
/// The role that a supervisor has in its origin.
const ROLE: &str = "supervisor";

/// Who speaks, and where to.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// The exchange that the router listens on.
    pub exchange: String,
    /// The supervisor's own instance.
    pub instance: String,
    /// What tells this run from another.
    pub run: String,
    count: u64,
}

/// What joins an outcome to its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correlation {
    /// The command's type.
    pub kind_type: String,
    /// Its correlation id.
    pub correlation_id: String,
    pub idempotency_key: Option<String>,
}

impl Correlation {
    /// Of a command; `None` for a body that is none.
    pub fn of(body: &Value) -> Option<Self> {
        let text = |field: &str| body.get(field).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            kind_type: text("type")?,
            correlation_id: text("correlationId")?,
            idempotency_key: text("idempotencyKey"),
        })
    }
}

impl Speaker {
    /// One who has said nothing yet.
    pub fn new(exchange: String, instance: String, run: String) -> Self {
        Self { exchange, instance, run, count: 0 }
    }

    /// Whether a command is this speaker's own, come round through the router.
    pub fn is_own(&self, correlation_id: &str) -> bool {
        correlation_id.strip_prefix("supervise-").is_some_and(|rest| rest.starts_with(&self.run))
    }

    /// A session word: the worker's own for `ready`, the supervisor's else. Answers its correlation
    /// id too.
    pub fn session(
        &mut self,
        kind_type: &str,
        worker: &Scope,
        data: Value,
        now: Timestamp,
    ) -> (String, Message) {
        self.count += 1;
        let id = format!("supervise-{}-{}", self.run, self.count);
        let origin = match kind_type {
            "ready" => origin(&worker.role, &worker.instance),
            _ => origin(ROLE, &self.instance),
        };
        let mut body = envelope(Family::Signal, kind_type, worker, &origin, data, now);
        body.insert("correlationId".to_owned(), id.as_str().into());
        body.insert("idempotencyKey".to_owned(), id.as_str().into());
        let message = self.message(Family::Signal, kind_type, worker, body);
        (id, message)
    }

    /// A status of a worker.
    pub fn status(
        &mut self,
        full: bool,
        worker: &Scope,
        data: Map<String, Value>,
        now: Timestamp,
    ) -> Message {
        let kind_type = if full { "status-full" } else { "status-delta" };
        self.own(Family::Metric, kind_type, worker, data.into(), now)
    }

    /// An alert of a worker.
    pub fn alert(&mut self, worker: &Scope, code: &str, message: &str, now: Timestamp) -> Message {
        let data = json!({ "level": "error", "code": code, "message": message });
        self.own(Family::Alert, "alert", worker, data, now)
    }

    /// The outcome of a command.
    pub fn outcome(&mut self, worker: &Scope, asked: &Correlation, data: Value, now: Timestamp) -> Message {
        let Correlation { kind_type, correlation_id, idempotency_key } = asked;
        let speaker = origin(&worker.role, &worker.instance);
        let mut body = envelope(Family::Outcome, kind_type, worker, &speaker, data, now);
        body.insert("correlationId".to_owned(), correlation_id.as_str().into());
        body.insert("idempotencyKey".to_owned(), idempotency_key.clone().into());
        self.message(Family::Outcome, kind_type, worker, body)
    }

    /// What a worker said, as it said it.
    pub fn passed_on(&mut self, routing_key: String, body: &Value) -> Message {
        self.count += 1;
        self.addressed(routing_key, body.to_string())
    }

    fn own(
        &mut self,
        family: Family,
        kind_type: &str,
        worker: &Scope,
        data: Value,
        now: Timestamp,
    ) -> Message {
        let speaker = origin(&worker.role, &worker.instance);
        let body = envelope(family, kind_type, worker, &speaker, data, now);
        self.message(family, kind_type, worker, body)
    }

    fn message(
        &mut self,
        family: Family,
        kind_type: &str,
        worker: &Scope,
        body: Map<String, Value>,
    ) -> Message {
        self.count += 1;
        let routing_key = ControlPlaneRouting::of(family, kind_type, worker);
        self.addressed(routing_key, Value::Object(body).to_string())
    }

    fn addressed(&self, routing_key: String, body: String) -> Message {
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            delivery_mode: Some(PERSISTENT),
            message_id: Some(format!("supervise-{}.{}", self.run, self.count)),
            ..Properties::default()
        };
        Message { exchange: self.exchange.clone(), routing_key, properties, body: Bytes::from(body) }
    }
}

fn origin(role: &str, instance: &str) -> String {
    format!("{role}:{instance}")
}

fn envelope(
    family: Family,
    kind_type: &str,
    scope: &Scope,
    origin: &str,
    data: Value,
    now: Timestamp,
) -> Map<String, Value> {
    let body = json!({
        "timestamp": now, "version": VERSION, "kind": family.kind(), "type": kind_type, "scope": scope,
        "origin": origin, "data": data,
    });
    body.as_object().cloned().unwrap_or_default()
}
