//! The sessions of all workers, and the moment when all may begin.
//!
//! Owns: how far each worker's session has come, the acknowledgement of what moves it, and who is still waited for.
//! Never: sends or waits for anything; whoever runs a worker does.
//! Holds: no worker starts to work before every required one was ready at one moment; a session moves by the one table
//! that the bus's session gate has too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    contract::{
        control::{ControlMessage, Fault, Kind},
        interlock::Phase,
        reason::Reason,
        timestamp::Timestamp,
    },
    decision::session::{Session, Word, step},
};

/// Why a message does not fit its worker's session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// It speaks of no worker.
    #[error("session.worker-required: the message names no worker")]
    WorkerRequired,
    /// The session has not come that far, or has come further.
    #[error("{reason}: `{kind}` does not fit the worker's session")]
    Early {
        /// The reason.
        reason: Reason,
        /// The message's kind.
        kind: Kind,
    },
    /// Others are not ready.
    #[error("session.workers-not-ready: not ready: {}", missing.join(", "))]
    WorkersNotReady {
        /// Who, in order.
        missing: Vec<String>,
    },
    /// It moves no session.
    #[error("`{kind}` is no message of a session")]
    Foreign {
        /// The message's kind.
        kind: Kind,
    },
    /// It cannot be said.
    #[error(transparent)]
    Unsayable(#[from] Fault),
}

/// The sessions.
#[derive(Debug)]
pub struct Barrier {
    sessions: Mutex<Sessions>,
    released: watch::Sender<bool>,
}

#[derive(Debug)]
struct Sessions {
    of: BTreeMap<String, Session>,
    required: BTreeSet<String>,
}

impl Barrier {
    /// Sessions that have not begun; all of `required` are waited for.
    pub fn new(required: impl IntoIterator<Item = String>) -> Self {
        let sessions = Sessions { of: BTreeMap::new(), required: required.into_iter().collect() };
        Self { sessions: Mutex::new(sessions), released: watch::Sender::new(false) }
    }

    /// Takes a message that moves its worker's session.
    ///
    /// # Errors
    /// When it does not fit; then nothing has moved.
    pub fn hear(&self, message: &ControlMessage, now: Timestamp) -> Result<ControlMessage, SessionError> {
        let kind = message.kind;
        let word = word(kind).ok_or(SessionError::Foreign { kind })?;
        let worker = message.worker_id.as_deref().ok_or(SessionError::WorkerRequired)?;
        let mut sessions = self.lock();
        if word == Word::StartWork {
            let missing = sessions.missing(required_workers(message));
            if !missing.is_empty() {
                return Err(SessionError::WorkersNotReady { missing });
            }
        }
        let before = sessions.of.get(worker);
        if let Some(phase) = step(before, word).map_err(|reason| SessionError::Early { reason, kind })? {
            let after = Session::after(before, phase, now.micros());
            sessions.of.insert(worker.to_owned(), after);
            let complete = sessions.missing(sessions.required.iter().map(String::as_str)).is_empty();
            if phase == Phase::Ready && complete {
                self.released.send_replace(true);
            }
        }
        Ok(message.ack())
    }

    /// Ends the session of a process that is gone; the next is of the next epoch.
    pub fn end(&self, worker: &str, now: Timestamp) {
        self.lock().end(worker, now);
    }

    /// How many sessions a worker has had.
    pub fn epoch(&self, worker: &str) -> u64 {
        self.lock().of.get(worker).map_or(0, |session| session.epoch)
    }

    /// Waits no longer for a worker that was stopped on purpose.
    pub fn excuse(&self, worker: &str, now: Timestamp) {
        let mut sessions = self.lock();
        sessions.end(worker, now);
        let waited_for = sessions.required.remove(worker);
        let complete = sessions.missing(sessions.required.iter().map(String::as_str)).is_empty();
        if waited_for && complete && sessions.of.values().any(Session::is_ready) {
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

    /// The message that lets a worker begin: the first time everybody required is named, later the worker alone.
    ///
    /// # Errors
    /// [`SessionError::Unsayable`].
    pub fn start_work(&self, worker: &str, correlation_id: String) -> Result<ControlMessage, SessionError> {
        let sessions = self.lock();
        let all: Vec<&str> = sessions.required.iter().map(String::as_str).collect();
        let all_ready = sessions.missing(all.iter().copied()).is_empty();
        let named = if all_ready { all } else { vec![worker] };
        let payload = json!({ "required_workers": named });
        let payload = payload.as_object().cloned().unwrap_or_default();
        Ok(ControlMessage::new(Kind::StartWork, correlation_id, Some(worker.to_owned()), payload)?)
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Nothing in a session is ever half done, so one that panicked left none behind.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    fn end(&mut self, worker: &str, now: Timestamp) {
        if let Some(session) = self.of.get_mut(worker).filter(|session| session.stands()) {
            *session = Session::after(Some(session), Phase::Stopped, now.micros());
        }
    }

    fn missing<'a>(&self, required: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let ready = |name: &str| self.of.get(name).is_some_and(Session::is_ready);
        let missing: BTreeSet<&str> = required.into_iter().filter(|name| !ready(name)).collect();
        missing.into_iter().map(str::to_owned).collect()
    }
}

/// The word of a kind; `None` for one that moves no session.
const fn word(kind: Kind) -> Option<Word> {
    match kind {
        Kind::BootstrapBundle => Some(Word::Bootstrap),
        Kind::Ready => Some(Word::Ready),
        Kind::Heartbeat => Some(Word::Heartbeat),
        Kind::StartWork => Some(Word::StartWork),
        Kind::Stop => Some(Word::Stop),
        _ => None,
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

    const NOW: Timestamp = Timestamp::from_micros(7);

    fn said(kind: Kind, worker: &str) -> ControlMessage {
        ControlMessage::new(kind, "c", Some(worker.to_owned()), serde_json::Map::new()).unwrap()
    }

    #[test]
    fn work_begins_when_the_last_required_worker_is_ready() {
        let barrier = Barrier::new(["a".to_owned(), "b".to_owned()]);
        let start = |worker: &str| barrier.start_work(worker, "s".to_owned()).unwrap();
        assert!(barrier.hear(&said(Kind::Ready, "a"), NOW).is_err());
        for worker in ["a", "c"] {
            barrier.hear(&said(Kind::BootstrapBundle, worker), NOW).unwrap();
            barrier.hear(&said(Kind::Ready, worker), NOW).unwrap();
        }
        assert!(!barrier.is_released());
        let all = json!({ "required_workers": ["b", "zz", "a"] }).as_object().cloned().unwrap();
        let all = ControlMessage::new(Kind::StartWork, "c", Some("a".to_owned()), all).unwrap();
        let missing = vec!["b".to_owned(), "zz".to_owned()];
        assert_eq!(barrier.hear(&all, NOW), Err(SessionError::WorkersNotReady { missing }));
        barrier.hear(&said(Kind::BootstrapBundle, "b"), NOW).unwrap();
        assert!(barrier.hear(&said(Kind::BootstrapBundle, "b"), NOW).is_err());
        barrier.hear(&said(Kind::Ready, "b"), NOW).unwrap();
        assert!(barrier.is_released());
        for worker in ["a", "b", "c"] {
            let ack = barrier.hear(&start(worker), NOW).unwrap();
            assert_eq!(ack.payload["ack_kind"], "control.start_work");
        }
        // One that comes back later is not held up by another that is away.
        barrier.end("a", NOW);
        barrier.end("b", NOW);
        assert!(barrier.hear(&start("a"), NOW).is_err());
        barrier.hear(&said(Kind::BootstrapBundle, "a"), NOW).unwrap();
        barrier.hear(&said(Kind::Ready, "a"), NOW).unwrap();
        barrier.hear(&start("a"), NOW).unwrap();
        assert_eq!((barrier.epoch("a"), barrier.epoch("b")), (2, 1));
    }

    #[test]
    fn a_worker_stopped_on_purpose_is_not_waited_for() {
        let barrier = Barrier::new(["a".to_owned(), "b".to_owned()]);
        barrier.hear(&said(Kind::BootstrapBundle, "a"), NOW).unwrap();
        barrier.hear(&said(Kind::Ready, "a"), NOW).unwrap();
        barrier.excuse("b", NOW);
        assert!(barrier.is_released());
    }

    #[test]
    fn what_moves_no_session_is_refused() {
        let barrier = Barrier::new([]);
        let kind = Kind::Status;
        assert_eq!(barrier.hear(&said(kind, "a"), NOW), Err(SessionError::Foreign { kind }));
        let unnamed = ControlMessage::new(Kind::Ready, "c", None, serde_json::Map::new()).unwrap();
        assert_eq!(barrier.hear(&unnamed, NOW), Err(SessionError::WorkerRequired));
    }
}
