//! What a supervisor and its workers say to each other on the secure channel.
//!
//! Owns: the kinds of control messages, their lanes, their payloads, and the acknowledgement of
//! one.
//! Never: knows a socket, a clock or a source of keys; nor whether a message is due (that is the
//! session's word).
//! Holds: a message that was made here has a correlation id; a payload is never printed, and is
//! wiped when dropped.

pub mod bundle;
pub mod fault;
pub mod frame;
mod kdf;
pub mod launch;
mod nonce;
pub mod secret;
mod signing;
pub mod window;

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use serde_json::{Map, Value};
use zeroize::Zeroize;

pub use bundle::BootstrapKeyBundle;
pub use fault::ControlFault;
pub use frame::Frame;
pub use kdf::{Kdf, SecretMode};
pub use launch::{Launch, LaunchFault};
pub use nonce::Nonce;
pub use secret::{MasterSecret, SigningKey};
pub use window::Window;

/// The longest correlation id, worker id or other name in a frame.
pub const NAME_BYTES_MAX: usize = 255;

/// One of three ways over a connection; the first overtakes the second, the second the third.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What starts, stops and proves life.
    Control,
    /// Commands of the bus going down, their outcomes going up.
    Data,
    /// What may be lost, with a count.
    Telemetry,
}

impl Lane {
    /// All three, the most urgent first.
    pub const ALL: [Lane; 3] = [Lane::Control, Lane::Data, Lane::Telemetry];

    /// Its word in counts and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Data => "data",
            Lane::Telemetry => "telemetry",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// The keys of one worker's session.
    BootstrapBundle,
    /// The worker can work.
    Ready,
    /// The worker lives.
    Heartbeat,
    /// The worker may begin; `required_workers` may name who must be ready.
    StartWork,
    /// The receiver must end, or the sender has ended.
    Stop,
    /// The answer to one of the others; `ack_kind` says to which.
    Ack,
    /// A signal from the bus for the worker: `routingKey`, `body`.
    Signal,
    /// The worker's outcome or alert for the bus: `routingKey`, `body`.
    Outcome,
    /// The worker's status for the bus: `type`, `data`.
    Status,
}

impl MessageKind {
    /// All of them.
    pub const ALL: [MessageKind; 9] = [
        MessageKind::BootstrapBundle,
        MessageKind::Ready,
        MessageKind::Heartbeat,
        MessageKind::StartWork,
        MessageKind::Stop,
        MessageKind::Ack,
        MessageKind::Signal,
        MessageKind::Outcome,
        MessageKind::Status,
    ];

    /// Its word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            MessageKind::BootstrapBundle => "control.bootstrap_bundle",
            MessageKind::Ready => "control.ready",
            MessageKind::Heartbeat => "control.heartbeat",
            MessageKind::StartWork => "control.start_work",
            MessageKind::Stop => "control.stop",
            MessageKind::Ack => "control.ack",
            MessageKind::Signal => "data.signal",
            MessageKind::Outcome => "data.outcome",
            MessageKind::Status => "telemetry.status",
        }
    }

    /// The kind of a word; `None` for any other.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The lane it travels in.
    pub const fn lane(self) -> Lane {
        match self {
            MessageKind::Signal | MessageKind::Outcome => Lane::Data,
            MessageKind::Status => Lane::Telemetry,
            _ => Lane::Control,
        }
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlMessage {
    /// What it is.
    pub kind: MessageKind,
    /// What joins a message to its acknowledgement; never empty.
    pub correlation_id: String,
    /// The worker that it is about.
    pub worker_id: Option<String>,
    /// The rest, by kind.
    pub payload: Payload,
}

impl ControlMessage {
    /// A message.
    ///
    /// # Errors
    /// [`ControlFault::MalformedFrame`] when an id is empty or too long.
    pub fn new(
        kind: MessageKind,
        correlation_id: impl Into<String>,
        worker_id: Option<String>,
        payload: impl Into<Payload>,
    ) -> Result<Self, ControlFault> {
        let message =
            Self { kind, correlation_id: correlation_id.into(), worker_id, payload: payload.into() };
        message.check()?;
        Ok(message)
    }

    /// The acknowledgement of this message: the same ids, and its kind as `ack_kind`.
    #[must_use]
    pub fn ack(&self) -> Self {
        let mut payload = Map::new();
        payload.insert("ack_kind".to_owned(), Value::from(self.kind.word()));
        Self {
            kind: MessageKind::Ack,
            correlation_id: self.correlation_id.clone(),
            worker_id: self.worker_id.clone(),
            payload: payload.into(),
        }
    }

    /// Whether the ids can be said.
    fn check(&self) -> Result<(), ControlFault> {
        name("correlation_id", &self.correlation_id)?;
        self.worker_id.as_deref().map_or(Ok(()), |worker_id| name("worker_id", worker_id))
    }
}

/// Refuses a name that is empty or too long.
fn name(field: &'static str, value: &str) -> Result<(), ControlFault> {
    match value.len() {
        0 => Err(ControlFault::MalformedFrame { field, fault: "is empty" }),
        1..=NAME_BYTES_MAX => Ok(()),
        _ => Err(ControlFault::MalformedFrame { field, fault: "is longer than 255 bytes" }),
    }
}

/// A message's payload: a JSON object that may hold key material.
#[derive(Clone, Default, PartialEq)]
pub struct Payload(Map<String, Value>);

impl Payload {
    /// The object, which from here on nobody wipes.
    #[must_use]
    pub fn into_map(mut self) -> Map<String, Value> {
        std::mem::take(&mut self.0)
    }
}

impl From<Map<String, Value>> for Payload {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

impl Deref for Payload {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Payload {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl fmt::Debug for Payload {
    /// How many members it has, and nothing of what they say.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "[payload of {}]", self.0.len())
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

/// Overwrites every text in a value. What the strict reader built nests no deeper than its limit.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Payload {
        let Value::Object(map) = value else { panic!("not an object") };
        map.into()
    }

    #[test]
    fn kinds_have_a_word_and_a_lane() {
        for kind in MessageKind::ALL {
            assert_eq!(MessageKind::from_word(kind.word()), Some(kind));
            assert!(kind.word().starts_with(&format!("{}.", kind.lane())), "{kind}");
        }
        for word in ["", "control.", "control.Ready", "control.ready ", "ready", "data.status"] {
            assert_eq!(MessageKind::from_word(word), None, "{word}");
        }
    }

    #[test]
    fn control_has_these_six_kinds() {
        let words = [
            "control.bootstrap_bundle",
            "control.ready",
            "control.heartbeat",
            "control.start_work",
            "control.stop",
            "control.ack",
        ];
        let control = MessageKind::ALL.into_iter().filter(|kind| kind.lane() == Lane::Control);
        assert_eq!(control.map(MessageKind::word).collect::<Vec<_>>(), words);
    }

    #[test]
    fn an_ack_answers_its_message() {
        let message = ControlMessage::new(MessageKind::Ready, "c-1", Some("w-1".into()), Map::new()).unwrap();
        let ack = message.ack();
        assert_eq!(ack.kind, MessageKind::Ack);
        assert_eq!((ack.correlation_id.as_str(), ack.worker_id.as_deref()), ("c-1", Some("w-1")));
        assert_eq!(ack.payload, object(json!({ "ack_kind": "control.ready" })));
    }

    #[test]
    fn ids_are_not_empty_and_not_long() {
        let made = |id: &str, worker: Option<&str>| {
            ControlMessage::new(MessageKind::Ready, id, worker.map(str::to_owned), Map::new())
        };
        assert!(made(&"c".repeat(255), Some(&"w".repeat(255))).is_ok());
        for (id, worker) in
            [("", None), ("c", Some("")), (&*"c".repeat(256), None), ("c", Some(&*"w".repeat(256)))]
        {
            assert!(
                matches!(made(id, worker), Err(ControlFault::MalformedFrame { .. })),
                "{id:?} {worker:?}"
            );
        }
    }

    #[test]
    fn a_payload_is_never_printed() {
        let payload = object(json!({ "execution_ipc": { "master_secret_b64": "canary" } }));
        let message = ControlMessage::new(MessageKind::BootstrapBundle, "c", None, payload).unwrap();
        assert!(!format!("{message:?}").contains("canary"));
    }

    #[test]
    fn wiping_reaches_every_text() {
        let mut value = json!({ "a": "x", "b": [{ "c": "y" }, 1] });
        wipe(&mut value);
        assert_eq!(value, json!({ "a": "", "b": [{ "c": "" }, 1] }));
    }
}
