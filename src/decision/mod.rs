//! What follows: one envelope in, one decision out.
//!
//! Owns: the order of the gates, on this page, and what each verdict leaves behind.
//! Never: waits, reads a clock, draws a random number or changes the state it is given.
//! Holds: the same state, request and time give the same decision; the order of the gates is the security
//! contract (spec/gates.md), and a gate that is not built yet is absent, not stubbed.

#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

mod alert;
mod command;
pub mod effect;
mod identity;
pub mod inventory;
mod refusal;
pub mod request;
pub mod rules;
pub mod state;

use crate::contract::{
    Said,
    audit::{Action, Actor, Change, Fact, Mode, ResultSeen, Subject, Verdict},
    reason::{Reason, Refusal},
    routing::Family,
    timestamp::Timestamp,
};
use effect::Effect;
use request::{Answer, Arrival, Request};
use state::{Belief, State};

/// The answer to one request.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The verdict; `None` for what is not an envelope.
    pub verdict: Option<Verdict>,
    /// Why, where it is a no or a suppressed repeat.
    pub refusal: Option<Refusal>,
    /// The sender, as far as it is known.
    pub principal: Option<String>,
    /// What to remember for ever, in order.
    pub facts: Vec<Fact>,
    /// What to believe until told otherwise.
    pub beliefs: Vec<Belief>,
    /// What to do, in order, once the entry of the first fact is durable (at once where there is no fact).
    pub effects: Vec<Effect>,
}

/// Judges one request.
pub fn decide(state: &State, request: &Request, now: Timestamp) -> Decision {
    match request {
        Request::Arrived(arrival) => {
            let decision = match judge(state, arrival, now) {
                Ok(passed) => forward(state, arrival, passed, now),
                Err(stopped) => stop(state, arrival, stopped, now),
            };
            if state.rules().mode == Mode::Observe { observed(decision) } else { decision }
        }
        Request::Answered(answer) => answered(state, answer, now),
        Request::Due => refusal::close_tallies(state, now),
    }
}

/// The gates, in the order of the contract. Each takes what the gate before has proved.
fn judge<'a>(state: &State, arrival: &'a Arrival, now: Timestamp) -> Result<Passed<'a>, Stopped> {
    let said = contract_and_routing(arrival)?; //                                    gates 1 and 2
    let actor = identity::check(said, arrival.user_id.as_deref())?; //               gate 3
    let standing = command::check(state, arrival, said, &actor, now)?; //            gates 4 (key memory) and 6
    audit(state, said, &actor)?; //                                                  gate 11
    Ok(Passed { said, actor, standing })
}

/// What passed every gate, with what each found.
struct Passed<'a> {
    said: &'a Said,
    actor: Actor,
    standing: command::Standing,
}

/// What a gate stopped, and how.
enum Stopped {
    /// A no.
    Refused { actor: Actor, refusal: Refusal },
    /// A repeat; `again` is the entry of the outcome to publish once more.
    Repeat { actor: Actor, refusal: Refusal, again: Option<u64> },
    /// A start not later than a stop that was accepted for its target.
    Overtaken { actor: Actor, accepted: crate::contract::audit::Accepted, by: Timestamp },
}

fn contract_and_routing(arrival: &Arrival) -> Result<&Said, Stopped> {
    arrival.subject.as_ref().map_err(|unsaid| Stopped::Refused {
        actor: identity::unproven(arrival.user_id.as_deref(), unsaid.envelope.as_deref()),
        refusal: unsaid.refusal.clone(),
    })
}

fn audit(state: &State, said: &Said, actor: &Actor) -> Result<(), Stopped> {
    if state.ledger_writable() || said.class.is_some_and(|class| class.always_passes()) {
        return Ok(());
    }
    let refusal = Refusal::new(Reason::AuditUnavailable, "the ledger cannot be written");
    Err(Stopped::Refused { actor: actor.clone(), refusal })
}

/// Everything said yes: what is remembered and carried.
fn forward(state: &State, arrival: &Arrival, passed: Passed<'_>, now: Timestamp) -> Decision {
    let Passed { said, actor, standing } = passed;
    let mut decision = Decision {
        verdict: Some(Verdict::Forward),
        principal: Some(actor.principal.clone()),
        effects: vec![Effect::Forward],
        ..Decision::default()
    };
    let (action, change) = match said.key.family {
        Family::Metric => return decision,
        Family::Signal if command::is_observation(said) => return decision,
        Family::Signal => (Action::Requested, Change::Accepted(standing.accepted)),
        Family::Outcome | Family::Alert => {
            let ends = command::ending(state, said);
            let action = if ends.is_some() { Action::Applied } else { Action::Recorded };
            (action, Change::Result(ResultSeen { ends, identity: command::result_identity(arrival, &actor) }))
        }
    };
    decision.facts.push(Fact {
        verdict: Some(Verdict::Forward),
        ..fact(arrival, Some(said), actor, action, change, now)
    });
    decision
}

/// A gate said no, or knew it already: what is remembered and said.
fn stop(state: &State, arrival: &Arrival, stopped: Stopped, now: Timestamp) -> Decision {
    match stopped {
        Stopped::Refused { actor, refusal } => refusal::refuse(state, arrival, actor, refusal, now),
        Stopped::Repeat { actor, refusal, again } => {
            let repeat = Fact {
                verdict: Some(Verdict::Suppress),
                reason: Some(refusal.reason),
                detail: Some(refusal.detail.clone().into_owned()),
                ..fact(
                    arrival,
                    arrival.subject.as_ref().ok(),
                    actor.clone(),
                    Action::DuplicateSuppressed,
                    Change::None,
                    now,
                )
            };
            Decision {
                verdict: Some(Verdict::Suppress),
                refusal: Some(refusal),
                principal: Some(actor.principal),
                facts: vec![repeat],
                beliefs: Vec::new(),
                effects: again.map(|of| Effect::Repeat { of }).into_iter().collect(),
            }
        }
        Stopped::Overtaken { actor, accepted, by } => {
            command::overtaken(state, arrival, actor, accepted, by, now)
        }
    }
}

/// Observe mode: the same judgement as one fact of its own kind, and nothing leaves.
fn observed(mut decision: Decision) -> Decision {
    decision.effects.clear();
    decision.facts.truncate(1);
    for fact in &mut decision.facts {
        fact.action = Action::Seen;
    }
    decision
}

/// The broker's answer for what had left: one fact, and an alert when commands came back.
fn answered(state: &State, answer: &Answer, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    decision.facts.push(Fact::new(Action::Carried, now, Change::Carried(answer.carried.clone())));
    if let Some(first) = answer.returned_keys.first() {
        let notice = alert::Notice {
            code: "carriage.returned",
            message: "no queue took a command; its target is not bound",
            about: first,
            count: answer.returned_keys.len() as u64,
            correlation_id: None,
        };
        alert::raise(state, &notice, now, &mut decision);
    }
    decision
}

/// The fact of an arrival: who, what and which body; the caller adds the verdict.
fn fact(
    arrival: &Arrival,
    said: Option<&Said>,
    actor: Actor,
    action: Action,
    change: Change,
    now: Timestamp,
) -> Fact {
    let mut fact = Fact::new(action, now, change);
    fact.actor = Some(actor);
    fact.body = Some(arrival.body);
    if let Some(said) = said {
        fact.subject = Some(Subject {
            family: said.key.family,
            scope: said.key.scope.clone(),
            kind_type: said.key.kind_type.clone(),
        });
        fact.correlation_id.clone_from(&said.envelope.correlation_id);
        fact.idempotency_key.clone_from(&said.envelope.idempotency_key);
        fact.payload.clone_from(&said.payload);
    }
    fact
}
