//! The session machine on the secure channel.
//!
//! Owns: `ControlPlaneSession`, which answers each control message with its acknowledgement or a
//! protocol error.
//! Never: knows a key, a frame or a socket; the channel hands it messages that were verified.
//! Holds: the same table as the corridor's gate; a message that is refused changes nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Session, Word, step};
use crate::contract::{
    control::{BootstrapKeyBundle, ControlMessage, MessageKind},
    interlock::Phase,
    reason::Reason,
    timestamp::Timestamp,
};

/// Why a message is a protocol error; the same messages in the same order give the same one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionFault {
    /// It names no worker where it must.
    #[error("`{kind}` names its worker in `worker_id`; say which worker it is about")]
    WorkerRequired {
        /// The message's kind.
        kind: &'static str,
    },
    /// The worker's session stands.
    #[error("worker `{worker_id}` is bootstrapped already; stop it before it is bootstrapped again")]
    DuplicateBootstrap {
        /// Whose.
        worker_id: String,
    },
    /// The payload is no bootstrap bundle.
    #[error("the bootstrap bundle cannot be read: {source}")]
    Bundle {
        /// Why.
        source: crate::contract::control::ControlFault,
    },
    /// No session of the worker stands.
    #[error("worker `{worker_id}` is not bootstrapped; bootstrap it before `{kind}`")]
    NotBootstrapped {
        /// Whose.
        worker_id: String,
        /// The message's kind.
        kind: &'static str,
    },
    /// Not every required worker is ready.
    #[error("required workers are not ready: {}; start work when they are", missing.join(", "))]
    WorkersNotReady {
        /// Which, in order.
        missing: Vec<String>,
    },
    /// `required_workers` is no list of names.
    #[error("`required_workers` is a list of worker ids")]
    RequiredWorkers,
    /// An acknowledgement of nothing, or what is no session message.
    #[error("`{kind}` is no message of a session that waits for it")]
    Unexpected {
        /// The message's kind.
        kind: &'static str,
    },
}

impl SessionFault {
    /// The reason code of the same refusal on the bus.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::WorkerRequired { .. } => Some(Reason::WorkerRequired),
            Self::DuplicateBootstrap { .. } => Some(Reason::DuplicateBootstrap),
            Self::NotBootstrapped { .. } => Some(Reason::NotBootstrapped),
            Self::WorkersNotReady { .. } => Some(Reason::WorkersNotReady),
            Self::Bundle { .. } | Self::RequiredWorkers | Self::Unexpected { .. } => None,
        }
    }
}

/// The sessions of the workers on one control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlPlaneSession {
    workers: BTreeMap<String, Session>,
}

impl ControlPlaneSession {
    /// No worker yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a message; answers with its acknowledgement.
    ///
    /// # Errors
    /// A protocol error, and nothing has changed.
    pub fn process(
        &mut self,
        message: &ControlMessage,
        now: Timestamp,
    ) -> Result<ControlMessage, SessionFault> {
        let kind = message.kind.word();
        let word = match message.kind {
            MessageKind::BootstrapBundle => Word::Bootstrap,
            MessageKind::Ready => Word::Ready,
            MessageKind::Heartbeat => Word::Heartbeat,
            MessageKind::StartWork => Word::StartWork,
            MessageKind::Stop => Word::Stop,
            _ => return Err(SessionFault::Unexpected { kind }),
        };
        if word == Word::StartWork {
            self.every_required_worker_is_ready(&message.payload)?;
        }
        let addressed: Vec<String> = match (&message.worker_id, word) {
            (Some(worker_id), _) => vec![worker_id.clone()],
            // Work and a stop may be for everybody.
            (None, Word::StartWork | Word::Stop) => self.workers.keys().cloned().collect(),
            (None, _) => return Err(SessionFault::WorkerRequired { kind }),
        };
        if word == Word::Bootstrap {
            // Only whether it is one: the key is the channel's, and is not kept here.
            BootstrapKeyBundle::from_payload(&message.payload)
                .map_err(|source| SessionFault::Bundle { source })?;
        }
        // What may be refused names one worker, so nothing has changed before a refusal.
        for worker_id in addressed {
            let before = self.workers.get(&worker_id);
            let phase = step(before, word).map_err(|reason| match reason {
                Reason::DuplicateBootstrap => {
                    SessionFault::DuplicateBootstrap { worker_id: worker_id.clone() }
                }
                _ => SessionFault::NotBootstrapped { worker_id: worker_id.clone(), kind },
            })?;
            if let Some(phase) = phase {
                let after = Session::after(before, phase, now.micros());
                self.workers.insert(worker_id, after);
            }
        }
        Ok(message.ack())
    }

    /// A worker's session, the last one it had.
    pub fn session(&self, worker_id: &str) -> Option<&Session> {
        self.workers.get(worker_id)
    }

    /// Nothing more is heard of a worker: its session is over, and the next bootstrap opens
    /// another.
    pub fn lose(&mut self, worker_id: &str, now: Timestamp) {
        if let Some(session) = self.workers.get_mut(worker_id).filter(|session| session.stands()) {
            *session = Session::after(Some(session), Phase::Lost, now.micros());
        }
    }

    fn every_required_worker_is_ready(&self, payload: &Map<String, Value>) -> Result<(), SessionFault> {
        let required = match payload.get("required_workers") {
            None => return Ok(()),
            Some(required) => required.as_array().ok_or(SessionFault::RequiredWorkers)?,
        };
        let names: Option<Vec<&str>> = required.iter().map(Value::as_str).collect();
        let ready = |name: &&str| self.workers.get(*name).is_some_and(Session::is_ready);
        let names = names.ok_or(SessionFault::RequiredWorkers)?.into_iter();
        let mut missing: Vec<String> = names.filter(|name| !ready(name)).map(str::to_owned).collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort();
        missing.dedup();
        Err(SessionFault::WorkersNotReady { missing })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract::control::{Kdf, MasterSecret, SecretMode};

    fn message(kind: MessageKind, worker: &str, payload: Value) -> ControlMessage {
        let payload = payload.as_object().cloned().unwrap_or_default();
        let worker = (!worker.is_empty()).then(|| worker.to_owned());
        ControlMessage::new(kind, "c-1", worker, payload).unwrap()
    }

    fn bundle(worker: &str) -> ControlMessage {
        let master = MasterSecret::new(vec![7; 32]).unwrap();
        let bundle = BootstrapKeyBundle::new(1_767_225_600, SecretMode::Generated, Kdf::HkdfSha256, master);
        ControlMessage::new(MessageKind::BootstrapBundle, "c-1", Some(worker.to_owned()), bundle.to_payload())
            .unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_bootstrap_is_acknowledged_once_in_a_session() {
        let mut session = ControlPlaneSession::new();
        let ack = session.process(&bundle("w-1"), at(1)).unwrap();
        assert_eq!(
            (ack.kind, ack.correlation_id.as_str(), ack.worker_id.as_deref()),
            (MessageKind::Ack, "c-1", Some("w-1"))
        );
        assert_eq!(ack.payload.get("ack_kind"), Some(&json!("control.bootstrap_bundle")));
        let again = session.process(&bundle("w-1"), at(2));
        assert_eq!(again, Err(SessionFault::DuplicateBootstrap { worker_id: "w-1".to_owned() }));
        session.process(&message(MessageKind::Stop, "w-1", json!({})), at(3)).unwrap();
        session.process(&bundle("w-1"), at(4)).unwrap();
        assert_eq!(session.session("w-1").map(|session| session.epoch), Some(2));
    }

    #[test]
    fn work_starts_when_every_required_worker_is_ready() {
        let mut session = ControlPlaneSession::new();
        let start = message(MessageKind::StartWork, "", json!({ "required_workers": ["w-2", "w-1", "w-1"] }));
        let missing = |names: &[&str]| {
            Err(SessionFault::WorkersNotReady {
                missing: names.iter().map(|name| (*name).to_owned()).collect(),
            })
        };
        assert_eq!(session.process(&start, at(1)), missing(&["w-1", "w-2"]));
        for worker in ["w-1", "w-2"] {
            session.process(&bundle(worker), at(2)).unwrap();
        }
        session.process(&message(MessageKind::Ready, "w-1", json!({})), at(3)).unwrap();
        assert_eq!(session.process(&start, at(4)), missing(&["w-2"]));
        session.process(&message(MessageKind::Ready, "w-2", json!({})), at(5)).unwrap();
        session.process(&start, at(6)).unwrap();
        assert_eq!(session.session("w-2").map(|session| session.phase), Some(Phase::Working));
        session.lose("w-2", at(7));
        assert_eq!(session.process(&start, at(8)), missing(&["w-2"]));
    }

    #[test]
    fn what_names_nobody_or_nothing_is_a_protocol_error() {
        let mut session = ControlPlaneSession::new();
        let unnamed = ControlMessage { worker_id: None, ..bundle("w-1") };
        assert!(matches!(session.process(&unnamed, at(1)), Err(SessionFault::WorkerRequired { .. })));
        let empty = message(MessageKind::BootstrapBundle, "w-1", json!({}));
        assert!(matches!(session.process(&empty, at(1)), Err(SessionFault::Bundle { .. })));
        for kind in [MessageKind::Ready, MessageKind::Heartbeat] {
            let early = message(kind, "w-1", json!({}));
            assert!(matches!(session.process(&early, at(1)), Err(SessionFault::NotBootstrapped { .. })));
        }
        let unasked = bundle("w-1").ack();
        assert!(matches!(session.process(&unasked, at(1)), Err(SessionFault::Unexpected { .. })));
        let list = message(MessageKind::StartWork, "", json!({ "required_workers": "w-1" }));
        assert_eq!(session.process(&list, at(1)), Err(SessionFault::RequiredWorkers));
        session.process(&message(MessageKind::Stop, "w-1", json!({})), at(1)).unwrap();
        assert_eq!(session, ControlPlaneSession::new(), "nothing of it was kept");
    }
}
