//! What a session message, or silence, leaves behind.
//!
//! Owns: the facts of a session's steps, and sessions that are lost.
//! Never: judges a message; gate 7 did.
//! Holds: a session that ended is followed by one of the next epoch.
//! The rule: spec/rules.md#sessions.

use std::collections::BTreeMap;

use crate::{
    contract::{
        Said,
        audit::{Action, Actor, Change, Fact, Subject},
        interlock::{Life, Phase, SessionMoved},
        routing::{ControlPlaneRouting, Family, Scope},
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        follow::{
            alert,
            moves::{self, Cause},
        },
        outcome::Decision,
        session::{self, Word},
        state::{Belief, State},
    },
};

/// What an accepted session message leaves behind: the session's step, in its own entry.
pub(in crate::decision) fn accepted(
    state: &State,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) {
    let Some(word) = session::word(&said.key.kind_type).filter(|_| said.key.family == Family::Signal) else {
        return;
    };
    let scope = &said.key.scope;
    if word == Word::Stop {
        let standing: Vec<Scope> = state.sessions_standing(scope).cloned().collect();
        if !standing.is_empty() {
            decision.facts.push(moved(standing, scope, actor, Phase::Stopped, "a stop was accepted", now));
        }
        return;
    }
    if let Ok(Some(phase)) = session::step(state.session(scope), word) {
        let fact = moved(vec![scope.clone()], scope, actor, phase, &said.key.kind_type, now);
        decision.facts.push(fact);
    }
}

/// A `start-work` that did not leave, or that no queue took: nobody works because of it, and its
/// session is ready as it was before.
pub(in crate::decision) fn unheard(state: &State, routing_key: &str, now: Timestamp) -> Option<Fact> {
    let key = ControlPlaneRouting::parse(routing_key).ok()?;
    let is_start = key.family == Family::Signal && session::word(&key.kind_type) == Some(Word::StartWork);
    let works = state.session(&key.scope).is_some_and(|session| session.phase == Phase::Working);
    let router = Actor::router(&state.rules().instance);
    let detail = "its start-work did not reach it";
    (is_start && works)
        .then(|| moved(vec![key.scope.clone()], &key.scope, &router, Phase::Ready, detail, now))
}

/// A status-full of a process that began after its session's `ready`: that session is over.
pub(in crate::decision) fn restarted(
    state: &State,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
) -> Option<Fact> {
    let session = state.session(&said.key.scope).filter(|session| session.stands())?;
    let started = said.envelope.data.get("startedAt").and_then(View::as_str).and_then(Timestamp::parse)?;
    let ready_at = session.ready_at.filter(|ready_at| *ready_at < started.micros())?;
    let detail =
        format!("started at {started}, after its session's ready of {}", Timestamp::from_micros(ready_at));
    let scope = &said.key.scope;
    Some(moved(vec![scope.clone()], scope, actor, Phase::Stopped, &detail, now))
}

/// Sessions of which nothing was heard for too long; `None` when there are none.
pub(in crate::decision) fn lost(state: &State, now: Timestamp) -> Option<Decision> {
    let (lost, next) = state.sessions_lost(now)?;
    let router = Actor::router(&state.rules().instance);
    let mut decision = Decision::new(state);
    // Also where all were heard in time: else this would be due for ever.
    decision.beliefs.push(Belief::SessionsLooked(next));
    let mut swarms: BTreeMap<&str, Vec<Scope>> = BTreeMap::new();
    for scope in &lost {
        swarms.entry(&scope.swarm_id).or_default().push(scope.clone());
    }
    for (swarm, workers) in swarms {
        let (count, first) = (workers.len() as u64, workers.first().map(Scope::to_string));
        let about = first.filter(|_| count == 1).unwrap_or_else(|| swarm.to_owned());
        let all = Scope::new(swarm, crate::contract::routing::ALL, crate::contract::routing::ALL);
        let bots = moves::moves(state, workers.iter(), |life| life.runs().then_some(Life::Error));
        decision.facts.push(moved(
            workers,
            &all,
            &router,
            Phase::Lost,
            "nothing was heard for `session.lost_after_ms`",
            now,
        ));
        let cause = Cause { actor: router.clone(), about: &all, detail: "its session was lost while it ran" };
        decision.facts.extend(moves::of_moves(bots, cause, now));
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
