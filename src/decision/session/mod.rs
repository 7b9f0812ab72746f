//! Gate 7: a worker's control session goes one way.
//!
//! Owns: the session machine that the secure channel and the bus share, and what each session
//! message leaves behind.
//! Never: holds up a stop, or starts work before every required worker is ready.
//! Holds: a worker is bootstrapped once in a session; a session that ended is followed by one of
//! the next epoch.

mod channel;

pub use channel::{ControlPlaneSession, SessionFault};

use serde::Serialize;
use serde_json::{Value, json};

use crate::contract::{Said, interlock::Phase, reason::Reason};

/// One worker's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// How many sessions the worker has had, this one included.
    pub epoch: u64,
    /// How far it has come.
    pub phase: Phase,
    /// When it said `ready` first, in microseconds since the epoch.
    pub ready_at: Option<i64>,
    /// When it came to its phase, in microseconds since the epoch.
    pub since: i64,
}

impl Session {
    /// Whether it stands: it was opened and has not ended.
    pub const fn stands(&self) -> bool {
        matches!(self.phase, Phase::Bootstrapped | Phase::Ready | Phase::Working)
    }

    /// Whether it may be given work.
    pub const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Working)
    }

    /// The session after it came to a phase.
    #[must_use]
    pub fn after(before: Option<&Session>, phase: Phase, at: i64) -> Session {
        let mut session = before.cloned().unwrap_or(Session { epoch: 0, phase, ready_at: None, since: at });
        if phase == Phase::Bootstrapped {
            session = Session { epoch: session.epoch + 1, phase, ready_at: None, since: at };
        }
        if phase == Phase::Ready {
            // The first `ready` stays, also where a `start-work` that did not leave brings the
            // session back: a process that began after it is told by it.
            session.ready_at.get_or_insert(at);
        }
        (session.phase, session.since) = (phase, at);
        session
    }
}

/// A message of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `bootstrap-bundle`
    Bootstrap,
    /// `ready`
    Ready,
    /// `heartbeat`
    Heartbeat,
    /// `start-work`
    StartWork,
    /// `stop`
    Stop,
}

/// The one table: the phase that a message brings a session to, `None` where it leaves it where it
/// is.
///
/// # Errors
/// The reason for which the message is refused. Whether required workers are ready is asked apart.
pub fn step(session: Option<&Session>, word: Word) -> Result<Option<Phase>, Reason> {
    let standing = session.filter(|session| session.stands());
    match (word, standing.map(|session| session.phase)) {
        (Word::Bootstrap, None) => Ok(Some(Phase::Bootstrapped)),
        (Word::Bootstrap, Some(_)) => Err(Reason::DuplicateBootstrap),
        (Word::Ready | Word::Heartbeat, None) => Err(Reason::NotBootstrapped),
        (Word::Ready, Some(Phase::Bootstrapped)) => Ok(Some(Phase::Ready)),
        (Word::StartWork, Some(Phase::Ready)) => Ok(Some(Phase::Working)),
        (Word::Stop, Some(_)) => Ok(Some(Phase::Stopped)),
        // `start-work` too: its required workers are asked for elsewhere, and a session that is not
        // ready does not move by it.
        (Word::Ready | Word::Heartbeat | Word::StartWork | Word::Stop, _) => Ok(None),
    }
}

/// The words of a type that gate 7 judges.
pub(super) fn word(kind_type: &str) -> Option<Word> {
    Some(match kind_type {
        "bootstrap-bundle" => Word::Bootstrap,
        "ready" => Word::Ready,
        "heartbeat" => Word::Heartbeat,
        "start-work" => Word::StartWork,
        "stop" => Word::Stop,
        _ => return None,
    })
}

/// Whether the router itself acknowledges a type: the words of a session but `stop`, which its
/// target answers.
pub(super) fn is_acknowledged(kind_type: &str) -> bool {
    word(kind_type).is_some_and(|word| word != Word::Stop)
}

/// What the router answers: the message was taken, and what kind it was.
pub(super) fn ack(said: &Said) -> Value {
    json!({ "ackKind": format!("control.{}", said.key.kind_type.replace('-', "_")) })
}
