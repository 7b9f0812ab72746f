//! Gate 7: a worker's control session goes one way.
//!
//! Owns: the session machine that the secure channel and the bus share, and what each session message leaves behind.
//! Never: holds up a stop, or starts work before every required worker is ready.
//! Holds: a worker is bootstrapped once in a session; a session that ended is followed by one of the next epoch.

mod channel;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

pub use channel::{ControlPlaneSession, Fault};

use super::{
    Decision, alert,
    lifecycle::{self, Cause},
    state::{Belief, State},
};
use crate::contract::{
    Said,
    audit::{Action, Actor, Change, Fact, Subject},
    interlock::{Life, Phase, SessionMoved},
    reason::{Reason, Refusal},
    routing::{Family, Scope},
    timestamp::Timestamp,
    tree::View,
};

/// One worker's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// How many sessions the worker has had, this one included.
    pub epoch: u64,
    /// How far it has come.
    pub phase: Phase,
    /// When it said `ready` first, in microseconds since the epoch.
    pub ready_at: Option<i64>,
    /// When it came to its phase.
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

/// The one table: the phase that a message brings a session to, `None` where it leaves it where it is.
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
        (Word::Ready | Word::Heartbeat | Word::StartWork | Word::Stop, _) => Ok(None),
    }
}

/// The words of a type that gate 7 judges.
fn word(kind_type: &str) -> Option<Word> {
    Some(match kind_type {
        "bootstrap-bundle" => Word::Bootstrap,
        "ready" => Word::Ready,
        "heartbeat" => Word::Heartbeat,
        "start-work" => Word::StartWork,
        "stop" => Word::Stop,
        _ => return None,
    })
}

/// Whether the router itself acknowledges a type: the words of a session but `stop`, which its target answers.
pub(super) fn is_acknowledged(kind_type: &str) -> bool {
    word(kind_type).is_some_and(|word| word != Word::Stop)
}

/// Whether a signal may be said in its worker's session.
pub(super) fn check(state: &State, said: &Said) -> Result<(), Refusal> {
    if said.key.family != Family::Signal {
        return Ok(());
    }
    let word = word(&said.key.kind_type);
    if matches!(word, Some(Word::StartWork)) || said.key.kind_type == "swarm-start" {
        every_required_worker_is_ready(state, said)?;
    }
    // Gate 2 has seen to it that these name one worker; a stop is never held up.
    let Some(word) = word.filter(|word| *word != Word::Stop) else { return Ok(()) };
    match step(state.session(&said.key.scope), word) {
        Ok(_) => Ok(()),
        Err(reason) => {
            let detail = match reason {
                Reason::DuplicateBootstrap => "the worker's session stands; stop it first",
                _ => "no session of this worker stands",
            };
            Err(Refusal::new(reason, detail).at("/scope/instance"))
        }
    }
}

fn every_required_worker_is_ready(state: &State, said: &Said) -> Result<(), Refusal> {
    // `start-work` has it in the session channel's spelling too.
    let named = ["requiredWorkers", "required_workers"].into_iter().find_map(|name| {
        let required = said.envelope.data.get(name).filter(|required| required.is_array())?;
        Some((name, required))
    });
    let Some((name, required)) = named else { return Ok(()) };
    let swarm = said.key.scope.swarm_id.as_str();
    let names = required.items().filter_map(View::as_str);
    let mut missing: Vec<&str> = names.filter(|name| !state.worker_is_ready(swarm, name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable();
    missing.dedup();
    let detail = format!("not ready: {}", missing.join(", "));
    Err(Refusal::new(Reason::WorkersNotReady, detail).at(format!("/data/{name}")))
}

/// What an accepted session message leaves behind: the session's step, in its own entry.
pub(super) fn follow(state: &State, said: &Said, actor: &Actor, now: Timestamp, decision: &mut Decision) {
    let Some(word) = word(&said.key.kind_type).filter(|_| said.key.family == Family::Signal) else { return };
    let scope = &said.key.scope;
    if word == Word::Stop {
        let standing: Vec<Scope> = state.sessions_standing(scope).cloned().collect();
        if !standing.is_empty() {
            decision.facts.push(moved(standing, scope, actor, Phase::Stopped, "a stop was accepted", now));
        }
        return;
    }
    if let Ok(Some(phase)) = step(state.session(scope), word) {
        let fact = moved(vec![scope.clone()], scope, actor, phase, &said.key.kind_type, now);
        decision.facts.push(fact);
    }
}

/// A status-full of a process that began after its session's `ready`: that session is over.
pub(super) fn restarted(state: &State, said: &Said, actor: &Actor, now: Timestamp) -> Option<Fact> {
    let session = state.session(&said.key.scope).filter(|session| session.stands())?;
    let started = said.envelope.data.get("startedAt").and_then(View::as_str).and_then(Timestamp::parse)?;
    let ready_at = session.ready_at.filter(|ready_at| *ready_at < started.micros())?;
    let detail =
        format!("started at {started}, after its session's ready of {}", Timestamp::from_micros(ready_at));
    let scope = &said.key.scope;
    Some(moved(vec![scope.clone()], scope, actor, Phase::Stopped, &detail, now))
}

/// Sessions of which nothing was heard for too long; `None` when there are none.
pub(super) fn lost(state: &State, now: Timestamp) -> Option<Decision> {
    let (lost, next) = state.sessions_lost(now)?;
    let router = Actor::router(&state.rules().instance);
    let mut decision = Decision::new(state);
    decision.beliefs.push(Belief::SessionsLooked(next));
    let mut swarms: BTreeMap<&str, Vec<Scope>> = BTreeMap::new();
    for scope in &lost {
        swarms.entry(&scope.swarm_id).or_default().push(scope.clone());
    }
    for (swarm, workers) in swarms {
        let (count, first) = (workers.len() as u64, workers.first().map(Scope::to_string));
        let about = first.filter(|_| count == 1).unwrap_or_else(|| swarm.to_owned());
        let all = Scope::new(swarm, crate::contract::routing::ALL, crate::contract::routing::ALL);
        let bots = lifecycle::moves(state, workers.iter(), |life| life.runs().then_some(Life::Error));
        decision.facts.push(moved(
            workers,
            &all,
            &router,
            Phase::Lost,
            "nothing was heard for `session.lost_after_ms`",
            now,
        ));
        let cause = Cause { actor: router.clone(), about: &all, detail: "its session was lost while it ran" };
        decision.facts.extend(lifecycle::fact(bots, cause, now));
        let notice = alert::Notice {
            code: "session.lost",
            message: "workers were not heard of for `session.lost_after_ms`; see the runbook session-lost",
            about: &about,
            count,
            correlation_id: None,
        };
        alert::raise(state, &notice, now, &mut decision);
    }
    Some(decision)
}

/// What the router answers: the message was taken, and what kind it was.
pub(super) fn ack(said: &Said) -> Value {
    json!({ "ackKind": format!("control.{}", said.key.kind_type.replace('-', "_")) })
}

fn moved(
    workers: Vec<Scope>,
    about: &Scope,
    actor: &Actor,
    phase: Phase,
    detail: &str,
    now: Timestamp,
) -> Fact {
    Fact {
        actor: Some(actor.clone()),
        detail: Some(detail.to_owned()),
        subject: Some(Subject {
            family: Family::Signal,
            kind_type: "session".to_owned(),
            scope: about.clone(),
        }),
        ..Fact::new(Action::SessionMoved, now, Change::Session(SessionMoved { phase, workers }))
    }
}
