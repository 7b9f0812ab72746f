//! What a status changes: who is there, and what falls due when nobody speaks.
//!
//! Owns: the facts of an instance's presence (appeared, stale, lost, back, forgotten), their
//! alerts, and asking for a
//! baseline that is missing.
//! Never: makes an entry of a status; only a change of belief is one.
//! Holds: an instance appears once in a ledger, until it is forgotten; one alert stands for all of
//! a swarm.
//! The rule: spec/rules.md#freshness.

use std::collections::BTreeMap;

use crate::{
    contract::{
        Said,
        audit::{Action, Actor, Change, Fact, Mode, Presence, Standing, Subject, Verdict},
        bound::Bound,
        routing::{Family, Scope},
        schema::STATUS_FULL,
        timestamp::Timestamp,
    },
    decision::{
        effect::{Effect, Speech},
        facts,
        follow::{alert, bound},
        outcome::Decision,
        request::Arrival,
        rules::words,
        state::{
            Belief, State,
            inventory::{Status, What},
        },
    },
};

/// Believes a status, and records the first of its instance (`appeared`).
pub(in crate::decision) fn heard(
    state: &State,
    arrival: &Arrival,
    said: &Said,
    now: Timestamp,
    decision: &mut Decision,
) {
    let Some(status) = Status::read(said, arrival.body, now) else { return };
    let scope = &said.key.scope;
    let room = state.known_count() < state.rules().inventory.instances_max;
    // Where nothing can be written a later status is the first: its entry is not lost.
    if !state.is_known(scope) && state.ledger_writable() {
        match room {
            true => decision.facts.push(presence(state, scope, Standing::Appeared, None, now)),
            false => bound::hit(state, Bound::Known, now, decision),
        }
    }
    decision.beliefs.push(Belief::Status(Box::new(status)));
    if said.key.kind_type == STATUS_FULL
        && let Some(config) = said.envelope.data.get("config")
        && let reported_at = said.envelope.timestamp.min(now)
        && let Some(desired) = state.desired_config(scope, config, reported_at)
    {
        // It belongs to this snapshot, so it is dated just before it: the newest snapshot has the
        // last word.
        let at = Timestamp::from_micros(reported_at.micros() - 1);
        decision.beliefs.push(Belief::DesiredConfig { scope: scope.clone(), config: desired, at });
    }
}

/// What has fallen due in the inventory; `None` when nothing has.
pub(in crate::decision) fn due(state: &State, now: Timestamp) -> Option<Decision> {
    let changes = state.inventory().due(now);
    if changes.is_empty() || !state.ledger_writable() {
        return None;
    }
    let mut decision = Decision::new(state);
    let mut silent: BTreeMap<(&str, Standing), (u64, &Scope)> = BTreeMap::new();
    for change in &changes {
        match standing(change.what) {
            Some(standing) => {
                let since = change.last_seen;
                // Of others nothing is on record that could change; the alert below counts them
                // too.
                if state.is_known(&change.scope) {
                    decision.facts.push(presence(state, &change.scope, standing, since, now));
                }
                let place = silent.entry((change.scope.swarm_id.as_str(), standing));
                place.or_insert((0, &change.scope)).0 += 1;
            }
            // Who only looks asks for nothing.
            None if state.rules().mode == Mode::Observe => {}
            None => {
                let ask = Speech::ask(state.rules(), &change.scope, now);
                decision.facts.push(asked(state, &change.scope, now));
                decision.effects.push(Effect::Speak(ask));
            }
        }
    }
    for ((_, standing), (count, first)) in silent {
        tell(state, standing, count, first, now, &mut decision);
    }
    decision.beliefs.extend(changes.into_iter().map(Belief::Silence));
    Some(decision)
}

fn standing(what: What) -> Option<Standing> {
    match what {
        What::Stale => Some(Standing::Stale),
        What::Lost => Some(Standing::Lost),
        What::Back => Some(Standing::Back),
        What::Forgotten => Some(Standing::Forgotten),
        What::Ask => None,
    }
}

/// One alert for all instances of a swarm that went the same way together.
fn tell(
    state: &State,
    standing: Standing,
    count: u64,
    first: &Scope,
    now: Timestamp,
    decision: &mut Decision,
) {
    let (code, message) = match standing {
        Standing::Stale => ("inventory.stale", "instances have been silent for `inventory.stale_after_ms`"),
        Standing::Lost => ("inventory.lost", "instances have been silent for `inventory.lost_after_ms`"),
        Standing::Back => ("inventory.back", "instances that were silent speak again"),
        Standing::Appeared | Standing::Forgotten => return,
    };
    let about = if count == 1 { first.to_string() } else { first.swarm_id.clone() };
    let notice = alert::Notice { code, message, about: &about, count, correlation_id: None };
    alert::raise(state, &notice, now, decision);
}

fn presence(
    state: &State,
    scope: &Scope,
    standing: Standing,
    since: Option<Timestamp>,
    now: Timestamp,
) -> Fact {
    Fact {
        actor: Some(Actor::router(&state.rules().instance)),
        detail: Some(in_words(standing).to_owned()),
        subject: Some(Subject {
            family: Family::Metric,
            kind_type: STATUS_FULL.to_owned(),
            scope: scope.clone(),
        }),
        ..Fact::new(Action::InventoryChanged, now, Change::Presence(Presence { now: standing, since }))
    }
}

/// The entry of the router's own request.
fn asked(state: &State, scope: &Scope, now: Timestamp) -> Fact {
    let kind_type = words::STATUS_REQUEST.to_owned();
    let id = Speech::ask_id(state.rules(), now);
    Fact {
        actor: Some(Actor::router(&state.rules().instance)),
        command: Some(facts::asked_by_router(state, &kind_type, scope)),
        correlation_id: Some(id.clone()),
        idempotency_key: Some(id),
        detail: Some("only deltas of it are known; a status-full is asked for".to_owned()),
        subject: Some(Subject { family: Family::Signal, kind_type, scope: scope.clone() }),
        verdict: Some(Verdict::Forward),
        ..Fact::new(Action::Requested, now, Change::None)
    }
}

/// What an entry says of an instance.
const fn in_words(standing: Standing) -> &'static str {
    match standing {
        Standing::Appeared => "the instance has appeared",
        Standing::Stale => "the instance is stale: its statuses are late",
        Standing::Lost => "the instance is lost: nothing was heard of it for too long",
        Standing::Back => "the instance is back",
        Standing::Forgotten => "the instance is forgotten",
    }
}
