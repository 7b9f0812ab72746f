//! The stops that the router orders of its own accord.
//!
//! Owns: the router's `bot-stop`.
//! Never: starts, resumes or releases anything.
//! Holds: whatever the router orders is a command like any other: an entry, a deadline, a matrix of
//! its targets.
//! The rule: spec/rules.md#what-the-router-answers.

use serde_json::json;

use crate::{
    contract::{
        audit::{Accepted, Action, Actor, Change, Fact, Subject, Verdict},
        digest::Digest,
        interlock::Life,
        routing::{Family, RoutingKey, Scope},
        timestamp::Timestamp,
    },
    decision::{
        effect::{Effect, Speech},
        facts,
        follow::{
            bound,
            moves::{self, Cause},
        },
        outcome::Decision,
        rules::lifecycle::Step,
        state::{State, flight::Flight, known, precedence::Precedence, room, stops},
    },
};

/// The type that stops a bot.
const BOT_STOP: &str = "bot-stop";
/// After how long without an answer a bot that shows itself may not have heard the stop.
const ANSWER_MS: u64 = 5_000;

/// Orders every bot of a scope to stop: those that run are STOPPING from now on. Returns the
/// correlationId.
pub(in crate::decision) fn stop(
    state: &State,
    scope: &Scope,
    detail: &str,
    now: Timestamp,
    decision: &mut Decision,
) -> String {
    let id = order(state, scope, detail, now, decision);
    let cause = Cause { actor: Actor::router(&state.rules().instance), about: scope, detail };
    decision.facts.extend(moves::at_once(state, BOT_STOP, cause, now));
    id
}

/// The order alone: the caller writes where its bots are. Returns the correlationId.
pub(in crate::decision) fn order(
    state: &State,
    scope: &Scope,
    detail: &str,
    now: Timestamp,
    decision: &mut Decision,
) -> String {
    let rules = state.rules();
    let router = Actor::router(&rules.instance);
    // Entries of one decision differ by their place in it, and decisions of one moment by whom they
    // are about.
    let about = Digest::of(scope.to_string().as_bytes()).to_string();
    let about = about.get(..12).unwrap_or_default();
    let id = format!("stop-{}-{}-{}-{about}", rules.instance, now.micros(), decision.facts.len());
    let data = json!({ "requestedTransition": "ANY->IDLE", "reason": detail });
    let speech = Speech::order(rules, BOT_STOP, scope, data, &id, now);
    let key = RoutingKey { family: Family::Signal, kind_type: BOT_STOP.to_owned(), scope: scope.clone() };
    let binds = room::without_command(state, decision.accepted_count(), true, Precedence::Own).is_none();
    // Of other fields than the identity of a command that was sent: no key of a sender is this one.
    let command = Digest::of_fields(&[router.principal.as_bytes(), id.as_bytes()]);
    let accepted = Accepted {
        always_passes: true,
        command: binds.then_some(command),
        compared: Digest::of(&speech.body),
        counts_for: stops::stop_counts_for(state, scope),
        deadline: rules.deadline(&key, now),
        overtakes: Some(now),
        targets: known::targets(state, scope),
        ..Accepted::default()
    };
    let fact = decision.facts.len();
    decision.effects.push(Effect::Order { fact, speech: speech.clone() });
    let requested = Fact {
        actor: Some(router.clone()),
        body: Some(Digest::of(&speech.body)),
        command: Some(facts::asked_by_router(state, BOT_STOP, scope)),
        correlation_id: Some(id.clone()),
        detail: Some(detail.to_owned()),
        idempotency_key: Some(id.clone()),
        payload: Some(speech.payload()),
        subject: Some(Subject { family: key.family, scope: key.scope, kind_type: key.kind_type }),
        verdict: Some(Verdict::Forward),
        ..Fact::new(Action::Requested, now, Change::Accepted(accepted.clone()))
    };
    decision.facts.push(requested);
    bound::of_accepted(state, &accepted, scope, now, decision);
    id
}

/// Orders one bot once more, alone, to stop: it has shown itself and has not answered, and may not
/// have been there when its scope was told. A fan-out waits for nobody; this waits for its bot.
pub(in crate::decision) fn again(state: &State, bot: &Scope, now: Timestamp, decision: &mut Decision) {
    let has_room =
        || room::without_command(state, decision.accepted_count(), true, Precedence::Own).is_none();
    // Without room it would not be remembered, and every status would order it anew.
    if may_not_have_heard(state, bot, now) && !state.only_looks() && has_room() {
        let detail = "it has shown itself and has not answered the stop of its scope";
        order(state, bot, detail, now, decision);
    }
}

/// Whether the stop of a bot's scope may have passed it by, as long as one to it alone would wait.
fn may_not_have_heard(state: &State, bot: &Scope, now: Timestamp) -> bool {
    let key = RoutingKey { family: Family::Signal, kind_type: BOT_STOP.to_owned(), scope: bot.clone() };
    let is_open = |since: Timestamp| {
        let ends = state.rules().deadline(&key, since);
        since.plus_ms(ANSWER_MS) <= now && ends.is_some_and(|ends| now < ends)
    };
    let stops = || {
        let flights = state.flights_for(bot);
        flights.filter(|flight| Step::of(&flight.kind_type) == Some(Step::Stop))
    };
    let unanswered = |flight: &Flight| {
        let mut targets = flight.targets.iter();
        targets.any(|target| target.scope == *bot && target.answer.is_none())
    };
    let is_open_flight = |flight: &Flight| is_open(Timestamp::from_micros(flight.accepted_at));
    let is_told = match state.life(bot) {
        // It is no target where nobody knew it when its scope was told.
        Life::Stopping => {
            let stop = state.overtaking_stop(bot);
            state.bot_since(bot).into_iter().chain(stop).any(is_open)
        }
        // Whether it has stopped its life does not say.
        Life::Quarantined => stops().any(|flight| unanswered(flight) && is_open_flight(flight)),
        _ => false,
    };
    // One to it alone is in flight already: that one waits for it, and a second changes nothing.
    is_told && stops().all(Flight::fans_out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::decision::rules::Rules;

    #[test]
    fn two_bots_of_one_moment_get_two_keys() {
        let (state, now) = (State::new(Rules::default()), Timestamp::from_micros(1_772_618_400_000_000));
        let keys: BTreeSet<_> = ["b-1", "b-2", "b-3"]
            .into_iter()
            .flat_map(|instance| {
                let mut decision = Decision::new(&state);
                order(&state, &Scope::new("kestrel", "bot", instance), "it runs unasked", now, &mut decision);
                decision.facts.into_iter().map(|fact| fact.idempotency_key)
            })
            .collect();
        assert_eq!(keys.len(), 3, "{keys:?}");
    }
}
