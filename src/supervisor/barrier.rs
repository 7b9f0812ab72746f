//! The sessions of all workers, and the moment when all may begin.
//!
//! Owns: how far each worker's session has come, the acknowledgement of what moves it, and who is
//! still waited for.
//! Never: sends or waits for anything; whoever runs a worker does.
//! Holds: no worker starts to work before every required one was ready at one moment; a session
//! moves by the one table that the bus's session gate has too.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    contract::{
        control::{self, ControlMessage, MessageKind},
        timestamp::Timestamp,
    },
    decision::session::{ControlPlaneSession, Session, SessionFault},
};

/// The sessions.
#[derive(Debug)]
pub struct Barrier {
    sessions: Mutex<Sessions>,
    released: watch::Sender<bool>,
}

#[derive(Debug)]
struct Sessions {
    plane: ControlPlaneSession,
    required: BTreeSet<String>,
}

impl Barrier {
    /// Sessions that have not begun; all of `required` are waited for.
    pub fn new(required: impl IntoIterator<Item = String>) -> Self {
        let sessions =
            Sessions { plane: ControlPlaneSession::new(), required: required.into_iter().collect() };
        Self { sessions: Mutex::new(sessions), released: watch::Sender::new(false) }
    }

    /// Takes a message that moves its worker's session; one that names no worker would be about all
    /// of them, and is nobody's to say here.
    ///
    /// # Errors
    /// When it does not fit; then nothing has moved.
    pub fn hear(&self, message: &ControlMessage, now: Timestamp) -> Result<ControlMessage, SessionFault> {
        if message.worker_id.is_none() {
            return Err(SessionFault::WorkerRequired { kind: message.kind.word() });
        }
        let mut sessions = self.lock();
        let ack = sessions.plane.process(message, now)?;
        if message.kind == MessageKind::Ready && sessions.are_all_ready() {
            self.released.send_replace(true);
        }
        Ok(ack)
    }

    /// Ends the session of a process that is gone; the next is of the next epoch.
    pub fn end(&self, worker: &str, now: Timestamp) {
        self.lock().plane.lose(worker, now);
    }

    /// Waits no longer for a worker that was stopped on purpose.
    pub fn excuse(&self, worker: &str, now: Timestamp) {
        let mut sessions = self.lock();
        sessions.plane.lose(worker, now);
        let waited_for = sessions.required.remove(worker);
        if waited_for && sessions.are_all_ready() {
            self.released.send_replace(true);
        }
    }

    /// Tells when work may begin.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.released.subscribe()
    }

    /// Whether work has begun, for whoever was ready then.
    pub fn is_released(&self) -> bool {
        *self.released.borrow()
    }

    /// The message that lets a worker begin: the first time everybody required is named, later the
    /// worker alone.
    ///
    /// # Errors
    /// When an id cannot be said.
    pub fn start_work(
        &self,
        worker: &str,
        correlation_id: String,
    ) -> Result<ControlMessage, control::ControlFault> {
        let sessions = self.lock();
        let all: Vec<&str> = sessions.required.iter().map(String::as_str).collect();
        let named = if sessions.are_all_ready() { all } else { vec![worker] };
        let payload = json!({ "required_workers": named });
        let payload = payload.as_object().cloned().unwrap_or_default();
        ControlMessage::new(MessageKind::StartWork, correlation_id, Some(worker.to_owned()), payload)
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Nothing in a session is ever half done, so one that panicked left none behind.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    fn are_all_ready(&self) -> bool {
        let ready = |name: &String| self.plane.session(name).is_some_and(Session::is_ready);
        self.required.iter().all(ready)
    }
}

/// Whom a start-work message names.
pub fn required_workers(message: &ControlMessage) -> Vec<&str> {
    let named = message.payload.get("required_workers").and_then(Value::as_array);
    named.into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::control::{BootstrapKeyBundle, Kdf, MasterSecret, SecretMode};

    const NOW: Timestamp = Timestamp::from_micros(7);

    fn said(kind: MessageKind, worker: &str) -> ControlMessage {
        ControlMessage::new(kind, "c", Some(worker.to_owned()), serde_json::Map::new()).unwrap()
    }

    fn bundle(worker: &str) -> ControlMessage {
        let master = MasterSecret::new(vec![1; 32]).unwrap();
        BootstrapKeyBundle::new(7, SecretMode::Generated, Kdf::HkdfSha256, master)
            .message("c", worker)
            .unwrap()
    }

    fn gets_ready(barrier: &Barrier, worker: &str) {
        barrier.hear(&bundle(worker), NOW).unwrap();
        barrier.hear(&said(MessageKind::Ready, worker), NOW).unwrap();
    }

    /// P5PRE-CTRL-02 and 04 in the supervisor.
    #[test]
    fn work_begins_when_the_last_required_worker_is_ready() {
        let barrier = Barrier::new(["a".to_owned(), "b".to_owned()]);
        let start = |worker: &str| barrier.start_work(worker, "s".to_owned()).unwrap();
        assert!(barrier.hear(&said(MessageKind::Ready, "a"), NOW).is_err());
        gets_ready(&barrier, "a");
        gets_ready(&barrier, "c");
        assert!(!barrier.is_released());
        let all = json!({ "required_workers": ["b", "a"] }).as_object().cloned().unwrap();
        let all = ControlMessage::new(MessageKind::StartWork, "c", Some("a".to_owned()), all).unwrap();
        let missing = vec!["b".to_owned()];
        assert_eq!(barrier.hear(&all, NOW), Err(SessionFault::WorkersNotReady { missing }));
        gets_ready(&barrier, "b");
        assert!(barrier.hear(&bundle("b"), NOW).is_err(), "a second bundle");
        assert!(barrier.is_released());
        for worker in ["a", "b", "c"] {
            let ack = barrier.hear(&start(worker), NOW).unwrap();
            assert_eq!(ack.payload["ack_kind"], "control.start_work");
        }
        // One that comes back later is not held up by another that is away.
        barrier.end("a", NOW);
        barrier.end("b", NOW);
        assert!(barrier.hear(&start("a"), NOW).is_err());
        gets_ready(&barrier, "a");
        barrier.hear(&start("a"), NOW).unwrap();
    }

    #[test]
    fn a_worker_stopped_on_purpose_is_not_waited_for() {
        let barrier = Barrier::new(["a".to_owned(), "b".to_owned()]);
        gets_ready(&barrier, "a");
        barrier.excuse("b", NOW);
        assert!(barrier.is_released());
    }

    #[test]
    fn one_that_names_nobody_moves_nobody() {
        let barrier = Barrier::new(["a".to_owned()]);
        gets_ready(&barrier, "a");
        let unnamed = ControlMessage::new(MessageKind::Stop, "c", None, serde_json::Map::new()).unwrap();
        assert!(matches!(barrier.hear(&unnamed, NOW), Err(SessionFault::WorkerRequired { .. })));
        assert!(matches!(
            barrier.hear(&said(MessageKind::Status, "a"), NOW),
            Err(SessionFault::Unexpected { .. })
        ));
        assert!(barrier.hear(&said(MessageKind::Heartbeat, "a"), NOW).is_ok());
    }
}
