//! What passed every gate: what is remembered and where it goes.
//!
//! Owns: carriage, decided once before anything is built on it, and the order of what follows from
//! an accepted message.
//! Never: asks a gate again.
//! Holds: nothing is carried without the permit of gate 11.

use crate::{
    contract::{
        Said,
        audit::{Action, Actor, Change, Fact},
        command::{Answerer, Class},
        routing::{Family, Scope},
        timestamp::Timestamp,
    },
    decision::{
        effect::{self, Effect},
        facts,
        follow::{
            self, bound, challenge, clock, ending, interlock, lifecycle, order, overtake, own, parking,
            presence,
        },
        gates::{Passed, consent::Permit, setting},
        outcome::{Carriage, Decision},
        request::Arrival,
        rules::words,
        session,
        state::{Belief, State, inventory::Lifecycle, key},
    },
};

/// Every gate passed: what is recorded of the message, and where it goes.
pub(in crate::decision) fn forward(
    state: &State,
    arrival: &Arrival,
    passed: Passed<'_>,
    permit: Permit,
    now: Timestamp,
) -> Decision {
    let said = passed.said;
    let carriage = carriage(state, &passed);
    let mut decision = Decision::new(state);
    decision.verdict = Some(carriage.verdict());
    decision.principal = Some(passed.actor.principal.clone());
    // Nearly always one and no more; a vector that grows by itself makes room for four.
    decision.facts.reserve_exact(usize::from(said.key.family != Family::Metric));
    // Before every other effect: its place among them is the ordinal of its message
    // (`Effects::push`).
    match carriage {
        Carriage::Forwarded => decision.effects.push(Effect::Forward(permit)),
        Carriage::Parked => decision.effects.push(Effect::Hold),
        Carriage::Answered => {}
    }
    match said.key.family {
        Family::Metric => metric(state, arrival, said, passed.actor, now, &mut decision),
        Family::Signal => signal(state, arrival, passed, now, &mut decision),
        Family::Outcome | Family::Alert => {
            let actor = passed.actor;
            let mut ending = ending::of_outcome(state, said);
            let action = if ending.is_nothing() { Action::Recorded } else { Action::Applied };
            let change = ending.change(state, said, key::result_identity(arrival, &actor));
            let mut heard = facts::of_passed(state, arrival, said, actor.clone(), action, change, now);
            ending.name(state, &mut heard);
            decision.facts.push(heard);
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
        said.key.kind_type == words::STATUS_REQUEST
            && said.key.scope == Scope::router(&state.rules().instance)
    };
    if is_observation(said) || router_answers() || asks_router() {
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
    // Only what a stop, start or release achieved is a place in a life; another command's failure
    // is none.
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
    decision.beliefs.extend(parking::shown(state, &said.key.scope, now));
    // What follows are facts: a later status brings them, once they can be written.
    if !state.ledger_writable() {
        return;
    }
    decision.facts.extend(follow::session::restarted(state, said, &actor, now));
    order::again(state, &said.key.scope, now, decision);
    // Statuses come all the time: while nothing is in flight none is looked into.
    if state.commands_in_flight() == 0 {
        return;
    }
    decision.facts.extend(ending::first_signs(state, said, now));
    let mut ending = ending::of_status(state, said);
    if !ending.is_nothing() {
        let change = ending.change(state, said, key::result_identity(arrival, &actor));
        let mut heard = facts::of_passed(state, arrival, said, actor, Action::Applied, change, now);
        heard.correlation_id.clone_from(&ending.correlation_id);
        ending.name(state, &mut heard);
        decision.facts.push(heard);
        ending.follow(state, said, now, decision);
    }
}

/// A signal: a liveness word shows that its instance is there; a command is accepted, and
/// forwarded, parked or answered.
fn signal(state: &State, arrival: &Arrival, passed: Passed<'_>, now: Timestamp, decision: &mut Decision) {
    let said = passed.said;
    if said.class == Some(Class::Liveness) {
        decision.beliefs.extend(parking::shown(state, &said.key.scope, now));
        decision.beliefs.push(Belief::Heard { scope: said.key.scope.clone(), at: now });
    }
    if is_observation(said) {
        let ack = session::ack(said);
        let speech = effect::Speech::answer(state.rules(), said, "Ack", "heard", Some(ack), now);
        decision.effects.push(Effect::Speak(speech));
        return;
    }
    let change = Change::Accepted(passed.standing.accepted.clone());
    let requested =
        facts::of_passed(state, arrival, said, passed.actor.clone(), Action::Requested, change, now);
    // The first fact: its entry is the command's number and, where it waits, its parcel.
    decision.facts.push(Fact { verdict: decision.verdict, ..requested });
    bound::of_accepted(state, &passed.standing.accepted, &said.key.scope, now, decision);
    if passed.standing.accepted.parked {
        parking::make_room(state, &said.key.scope, arrival.body_bytes, now, decision);
    }
    if overtake::supersedes(said, passed.class) {
        let reach = setting::reach(state, said);
        overtake::supersede(state, &reach, &said.key.kind_type, now, decision);
    }
    overtake::supersede_reports(state, said, now, decision);
    if passed.class.is_some_and(|class| !class.always_passes()) {
        // Stops are counted too, but suspend nobody: that is asked at the next ordinary command.
        interlock::storm(state, &passed.actor, now, decision);
    }
    follow::session::accepted(state, said, &passed.actor, now, decision);
    lifecycle::accepted(state, &passed, now, decision);
    answer(state, arrival, passed, now, decision);
    let router = Scope::router(&state.rules().instance);
    // Also of a fan-out, which is published as well: the router is one of those that it covers.
    if said.key.kind_type == words::STATUS_REQUEST && said.key.scope.covers(&router) {
        decision.effects.push(Effect::Report);
    }
}

/// What is the router's to answer is answered in the decision that accepts it.
pub(in crate::decision) fn answer(
    state: &State,
    arrival: &Arrival,
    passed: Passed<'_>,
    now: Timestamp,
    decision: &mut Decision,
) {
    let Passed { said, actor, standing, .. } = passed;
    let row = state.rules().commands.get(&said.key.kind_type);
    if row.is_none_or(|row| row.answered_by == Answerer::Target) {
        return;
    }
    let command = standing.accepted.command;
    if session::is_acknowledged(&said.key.kind_type) || said.class == Some(Class::Liveness) {
        let words = ("the router has recorded it", Some(session::ack(said)));
        return own::answer(state, (arrival, said), command, "Ack", words, now, decision);
    }
    if said.class == Some(Class::Consent) {
        if let Some((detail, context)) = challenge::answer(state, said, &actor, now, decision) {
            own::answer(state, (arrival, said), command, "Applied", (&detail, context), now, decision);
        }
        // The confirmation's own answer has come behind the step, and must not.
        clock::step_last(decision);
        return;
    }
    if let Some(detail) = own::records(said, &actor, now, decision) {
        let words = (detail.as_str(), None);
        return own::answer(state, (arrival, said), command, "Applied", words, now, decision);
    }
    // Its entry is the first of this decision.
    if own::sends_for(state, said, state.last_seq() + 1, now, decision) {
        return;
    }
    let done = follow::safety::act(state, said, &actor, now, decision);
    let (detail, context) = done.unwrap_or_else(|| ("the router has done it".to_owned(), None));
    own::answer(state, (arrival, said), command, "Applied", (&detail, context), now, decision);
}

/// Whether a signal is an observation rather than an act: it leaves no entry.
pub(in crate::decision) fn is_observation(said: &Said) -> bool {
    said.class == Some(Class::Liveness) && said.key.kind_type == "heartbeat"
}
