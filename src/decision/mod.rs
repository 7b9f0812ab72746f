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
mod clock;
pub mod command;
pub mod consent;
pub mod effect;
mod identity;
pub mod inventory;
pub mod lifecycle;
mod live;
pub mod outcome;
mod policy;
mod presence;
pub mod refusal;
pub mod request;
pub mod rules;
pub mod safety;
pub mod session;
mod set_back;
pub mod state;

use crate::contract::{
    Said,
    audit::{Action, Actor, Change, Fact, Verdict},
    command::{Answerer, Class},
    reason::{Reason, Refusal},
    routing::{Family, Scope},
    timestamp::Timestamp,
};
use effect::Effect;
use inventory::Lifecycle;
pub use outcome::Decision;
use outcome::{Carriage, fact};
use request::{Answer, Arrival, Done, Request};
use state::{Belief, State};

/// Judges one request.
pub fn decide(state: &State, request: &Request, now: Timestamp) -> Decision {
    match request {
        Request::Arrived(arrival) => {
            let decision = match judge(state, arrival, now) {
                Ok(passed) => forward(state, arrival, passed, now),
                Err(stopped) => stop(state, arrival, stopped, now),
            };
            if state.only_looks() { observed(decision) } else { decision }
        }
        Request::Answered(answer) => answered(state, answer, now),
        Request::Due => due(state, now),
        Request::Done(done) => self::done(state, done, now),
        Request::Closing => refusal::close_tallies(state, now.plus_ms(1000), now),
    }
}

/// What is due: one matter a decision, the parked commands of a target that has shown itself first.
fn due(state: &State, now: Timestamp) -> Decision {
    command::parking::release(state, now)
        .or_else(|| command::lifetime::time_out(state, now))
        .or_else(|| session::lost(state, now))
        .or_else(|| presence::due(state, now))
        .unwrap_or_else(|| refusal::close_tallies(state, now, now))
}

/// The gates, in the order of the contract. Each takes what the gate before has proved.
fn judge<'a>(state: &State, arrival: &'a Arrival, now: Timestamp) -> Result<Passed<'a>, Stopped> {
    let said = contract_and_routing(arrival)?; //                                    gates 1 and 2
    let actor = identity::check(said, arrival.user_id.as_deref())?; //                gate 3
    let refused = |refusal| Stopped::Refused { actor: actor.clone(), refusal };
    let class = safety::set::class(state, said, &actor); //                           what it does now,
    identity::prove(state, said, class, &actor).map_err(refused)?; //                 and whether that takes a proof
    policy::check(state, said, class, &actor).map_err(refused)?; //                   gate 5
    let standing = command::check(state, arrival, (said, class), &actor, now)?; //    gates 4 (key memory) and 6
    session::check(state, said).map_err(refused)?; //                                 gate 7
    lifecycle::check(state, said, class).map_err(refused)?; //                        gate 8
    safety::set::check(state, said, &actor, now).map_err(refused)?; //                gate 9: its own words,
    clock::check(state, said).map_err(refused)?;
    safety::check(state, said, class, now).map_err(refused)?; //                      and what they meet
    audit(state, class).map_err(refused)?; //                                         gate 11, which challenges need too
    answers(state, said, &actor, now).map_err(refused)?; //                           gate 10: an answer to a challenge,
    match consent::check(state, said, class) {
        //                                                                            and the permit
        Ok(permit) => Ok(Passed { said, class, actor, standing, permit }),
        Err(danger) => Err(Stopped::Dangerous { actor, accepted: standing.accepted, danger }),
    }
}

/// The gates that a confirmed command walks again: what may have changed since it was challenged.
fn walk_again(state: &State, said: &Said, actor: &Actor, now: Timestamp) -> Result<(), Refusal> {
    let class = safety::set::class(state, said, actor);
    identity::prove(state, said, class, actor)?;
    policy::check(state, said, class, actor)?;
    session::check(state, said)?;
    lifecycle::check(state, said, class)?;
    safety::set::check(state, said, actor, now)?;
    safety::check(state, said, class, now)
}

/// Gate 10 for the answers to challenges.
fn answers(state: &State, said: &Said, actor: &Actor, now: Timestamp) -> Result<(), Refusal> {
    if said.class == Some(Class::Consent) {
        return command::challenge::check(state, said, actor, now);
    }
    Ok(())
}

/// What passed every gate, with what each found.
struct Passed<'a> {
    said: &'a Said,
    /// What it does now: the safety types may tighten or loosen.
    class: Option<Class>,
    actor: Actor,
    standing: command::Standing,
    /// Nobody reaches `forward` without one.
    permit: consent::Permit,
}

/// What a gate stopped, and how.
enum Stopped {
    /// A no.
    Refused { actor: Actor, refusal: Refusal },
    /// A repeat; `again` is the entry of the outcome to publish once more.
    Repeat { actor: Actor, refusal: Refusal, again: Option<u64> },
    /// Dangerous: it waits for its confirmation.
    Dangerous { actor: Actor, accepted: crate::contract::audit::Accepted, danger: Box<consent::Danger> },
    /// A start that a stop accepted for its target overtakes; `why` says so to its sender.
    Overtaken { actor: Actor, accepted: crate::contract::audit::Accepted, why: String },
}

fn contract_and_routing(arrival: &Arrival) -> Result<&Said, Stopped> {
    arrival.subject.as_ref().map_err(|unsaid| Stopped::Refused {
        actor: identity::unproven(arrival.user_id.as_deref(), unsaid.envelope.as_deref()),
        refusal: unsaid.refusal.clone(),
    })
}

fn audit(state: &State, class: Option<Class>) -> Result<(), Refusal> {
    if state.ledger_writable() || class.is_some_and(Class::always_passes) {
        return Ok(());
    }
    Err(Refusal::new(Reason::AuditUnavailable, "the ledger cannot be written"))
}

/// Everything said yes: what is remembered and carried.
fn forward(state: &State, arrival: &Arrival, passed: Passed<'_>, now: Timestamp) -> Decision {
    let said = passed.said;
    let carriage = carriage(state, &passed);
    let mut decision = Decision::new(state);
    decision.verdict = Some(carriage.verdict());
    decision.principal = Some(passed.actor.principal.clone());
    // Nearly always one and no more; a vector that grows by itself makes room for four.
    decision.facts.reserve_exact(usize::from(said.key.family != Family::Metric));
    match carriage {
        Carriage::Forwarded => decision.effects.push(passed.permit.carry()),
        Carriage::Parked => decision.effects.push(Effect::Hold),
        Carriage::Answered => {}
    }
    match said.key.family {
        Family::Metric => metric(state, arrival, said, passed.actor, now, &mut decision),
        Family::Signal => signal(state, arrival, passed, now, &mut decision),
        Family::Outcome | Family::Alert => {
            let actor = passed.actor;
            let ending = command::ending::of_outcome(state, said);
            let action = if ending.is_nothing() { Action::Recorded } else { Action::Applied };
            let change = ending.change(command::result_identity(arrival, &actor));
            decision.facts.push(passed_on(arrival, said, actor.clone(), action, change, now));
            match said.key.family {
                Family::Outcome => lifecycle::outcome(state, said, &ending, &actor, now, &mut decision),
                _ => lifecycle::alerted(state, said, &actor, now, &mut decision),
            }
            ending.follow(state, said, now, &mut decision);
            decision.beliefs.extend(believed_life(said, now));
        }
    }
    decision
}

/// Where what passed every gate goes. It is decided here, once, before anything is built on it.
fn carriage(state: &State, passed: &Passed<'_>) -> Carriage {
    let said = passed.said;
    if said.key.family != Family::Signal {
        return Carriage::Forwarded;
    }
    let router_answers = || {
        let row = state.rules().commands.get(&said.key.kind_type);
        row.is_some_and(|row| row.answered_by == Answerer::Router)
    };
    // A question for the router's own status is a question to nobody else.
    let asks_router = || {
        said.key.kind_type == command::STATUS_REQUEST
            && said.key.scope == Scope::router(&state.rules().instance)
    };
    if command::is_observation(said) || router_answers() || asks_router() {
        Carriage::Answered
    } else if passed.standing.accepted.parked {
        Carriage::Parked
    } else {
        Carriage::Forwarded
    }
}

/// Where an outcome says that its instance is in its life.
fn believed_life(said: &Said, now: Timestamp) -> Option<Belief> {
    let status = said.envelope.data.get("status").filter(|_| said.key.family == Family::Outcome)?;
    // Only what a stop, start or release achieved is a place in a life; another command's failure is none.
    let lifecycle = match status.as_str()? {
        "Released" => Lifecycle::Idle,
        word @ ("Created" | "Running" | "Paused" | "Stopped" | "Quarantined") => Lifecycle::read(word)?,
        _ => return None,
    };
    Some(Belief::Lifecycle { scope: said.key.scope.clone(), lifecycle, at: now })
}

/// A status is no entry, but what it says of a command is, and it shows that its instance is there.
fn metric(
    state: &State,
    arrival: &Arrival,
    said: &Said,
    actor: Actor,
    now: Timestamp,
    decision: &mut Decision,
) {
    presence::heard(state, arrival, said, now, decision);
    decision.beliefs.extend(command::parking::shown(state, &said.key.scope, now));
    if !state.ledger_writable() {
        return;
    }
    decision.facts.extend(session::restarted(state, said, &actor, now));
    if state.commands_in_flight() == 0 {
        return;
    }
    decision.facts.extend(command::lifetime::first_signs(state, said, now));
    let ending = command::ending::of_status(state, said);
    if !ending.is_nothing() {
        let change = ending.change(command::result_identity(arrival, &actor));
        decision.facts.push(passed_on(arrival, said, actor, Action::Applied, change, now));
        ending.follow(state, said, now, decision);
    }
}

/// A signal: a liveness word shows that its instance is there; a command is accepted, and carried, parked or answered.
fn signal(state: &State, arrival: &Arrival, passed: Passed<'_>, now: Timestamp, decision: &mut Decision) {
    let said = passed.said;
    if said.class == Some(Class::Liveness) {
        decision.beliefs.extend(command::parking::shown(state, &said.key.scope, now));
        decision.beliefs.push(Belief::Heard { scope: said.key.scope.clone(), at: now });
    }
    if command::is_observation(said) {
        let ack = session::ack(said);
        let speech = effect::Speech::answer(state.rules(), said, "Ack", "heard", Some(ack), now);
        decision.effects.push(Effect::Speak(speech));
        return;
    }
    let change = Change::Accepted(passed.standing.accepted.clone());
    let requested = passed_on(arrival, said, passed.actor.clone(), Action::Requested, change, now);
    decision.facts.push(Fact { verdict: decision.verdict, ..requested });
    if passed.standing.accepted.parked {
        command::parking::make_room(state, &said.key.scope, arrival.body_bytes, now, decision);
    }
    if command::lifetime::supersedes(said, passed.class) {
        command::lifetime::supersede(state, &said.key.scope, &said.key.kind_type, now, decision);
    }
    if passed.class.is_some_and(|class| !class.always_passes()) {
        safety::interlock::storm(state, &passed.actor, now, decision);
    }
    session::follow(state, said, &passed.actor, now, decision);
    lifecycle::accepted(state, &passed, now, decision);
    answer(state, arrival, passed, now, decision);
    let router = Scope::router(&state.rules().instance);
    if said.key.kind_type == command::STATUS_REQUEST && said.key.scope.covers(&router) {
        decision.effects.push(Effect::Report);
    }
}

/// What is the router's to answer is answered in the decision that accepts it.
fn answer(state: &State, arrival: &Arrival, passed: Passed<'_>, now: Timestamp, decision: &mut Decision) {
    let Passed { said, actor, standing, .. } = passed;
    let row = state.rules().commands.get(&said.key.kind_type);
    if row.is_none_or(|row| row.answered_by == Answerer::Target) {
        return;
    }
    let command = standing.accepted.command;
    if session::is_acknowledged(&said.key.kind_type) || said.class == Some(Class::Liveness) {
        let words = ("the router has recorded it", Some(session::ack(said)));
        return command::own::answer(state, (arrival, said), command, "Ack", words, now, decision);
    }
    if said.class == Some(Class::Consent) {
        if let Some((detail, context)) = command::challenge::follow(state, said, &actor, now, decision) {
            command::own::answer(
                state,
                (arrival, said),
                command,
                "Applied",
                (&detail, context),
                now,
                decision,
            );
        }
        clock::step_last(decision);
        return;
    }
    if command::own::sends_for(state, said, state.last_seq() + 1, now, decision) {
        return;
    }
    let detail = safety::set::act(state, said, &actor, now, decision);
    let detail = detail.unwrap_or_else(|| "the router has done it".to_owned());
    command::own::answer(state, (arrival, said), command, "Applied", (&detail, None), now, decision);
}

/// The fact of what passed every gate.
fn passed_on(
    arrival: &Arrival,
    said: &Said,
    actor: Actor,
    action: Action,
    change: Change,
    now: Timestamp,
) -> Fact {
    Fact { verdict: Some(Verdict::Forward), ..fact(arrival, Some(said), actor, action, change, now) }
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
            let mut decision = Decision::new(state);
            decision.verdict = Some(Verdict::Suppress);
            decision.refusal = Some(refusal);
            decision.principal = Some(actor.principal.clone());
            decision.facts.push(repeat);
            decision.effects.extend(again.map(|of| Effect::Repeat { of }));
            safety::interlock::storm(state, &actor, now, &mut decision);
            decision
        }
        Stopped::Dangerous { actor, accepted, danger } => {
            command::challenge::issue(state, arrival, actor, accepted, &danger, now)
        }
        Stopped::Overtaken { actor, accepted, why } => {
            command::overtaken(state, arrival, actor, accepted, why, now)
        }
    }
}

/// Observe mode: the same judgement as one fact of its own kind, and nothing leaves. Where bots and sessions are is
/// learned all the same.
fn observed(mut decision: Decision) -> Decision {
    let mut first = true;
    decision.facts.retain(|fact| {
        std::mem::take(&mut first) || matches!(fact.change, Change::Moved(_) | Change::Session(_))
    });
    for fact in &mut decision.facts {
        fact.action = Action::Seen;
    }
    decision
}

/// Something outside that the router was asked for is done, or cannot be.
fn done(state: &State, done: &Done, now: Timestamp) -> Decision {
    match done {
        // That the ledger forgot something is on record in any mode.
        Done::SetBack(set_back) => set_back::noticed(state, set_back, now),
        // Who only looks sets nothing.
        _ if state.only_looks() => Decision::new(state),
        Done::Latched(latch) => safety::set::latched(state, latch, now),
        Done::Measured(measured) => {
            let mut decision = safety::interlock::measured(state, measured, now);
            live::lost(state, now, &mut decision);
            decision
        }
        Done::Bundled(bundled) => command::own::bundled(state, bundled, now),
        Done::Unlatched(unlatched) => command::own::unlatched(state, unlatched, now),
        Done::Compared(compared) => clock::compared(state, *compared, now),
    }
}

/// The broker's answer for what had left: one fact, and commands that came back wait for their targets.
fn answered(state: &State, answer: &Answer, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    if !answer.carried.spans.is_empty() || !answer.carried.returned.is_empty() {
        decision.facts.push(Fact::new(Action::Carried, now, Change::Carried(answer.carried.clone())));
    }
    command::parking::park(state, &answer.returned, now, &mut decision);
    if let Some(first) = answer.returned.first() {
        let notice = alert::Notice {
            code: "carriage.returned",
            message: "no queue took a command; one to a single instance waits until that shows itself",
            about: &first.routing_key,
            count: answer.returned.len() as u64,
            correlation_id: None,
        };
        alert::raise(state, &notice, now, &mut decision);
    }
    for not_taken in &answer.not_taken {
        let about = format!("{} {}", not_taken.exchange, not_taken.pattern);
        let notice = alert::Notice {
            code: "carriage.not-taken",
            message: "the broker rejects or does not confirm messages: a queue bound there is full and rejects, or has lost its node",
            about: &about,
            count: not_taken.count,
            correlation_id: None,
        };
        alert::raise(state, &notice, now, &mut decision);
    }
    decision
}
