//! What a status changes: who is there, and what falls due when nobody speaks.
//!
//! Owns: the facts of an instance's presence (appeared, stale, lost, back, forgotten), their alerts, and asking for a
//! baseline that is missing.
//! Never: makes an entry of a status; only a change of belief is one.
//! Holds: an instance appears once in a ledger, until it is forgotten; one alert stands for all of a swarm.

use std::collections::BTreeMap;

use super::{
    Decision, alert,
    effect::{Effect, Speech},
    inventory::{Status, What},
    request::Arrival,
    state::{Belief, State},
};
use crate::contract::{
    Said,
    audit::{Action, Actor, Change, Fact, Mode, Presence, Standing, Subject, Verdict},
    routing::{Family, Scope},
    schema::STATUS_FULL,
    timestamp::Timestamp,
};

/// What a status tells of its instance.
pub(super) fn heard(state: &State, arrival: &Arrival, said: &Said, now: Timestamp, decision: &mut Decision) {
    let Some(status) = Status::read(said, arrival.body, now) else { return };
    let scope = &said.key.scope;
    let room = state.known_count() < state.rules().inventory.instances_max;
    if !state.is_known(scope) && room && state.ledger_writable() {
        decision.facts.push(presence(state, scope, Standing::Appeared, None, now));
    }
    decision.beliefs.push(Belief::Status(Box::new(status)));
    if said.key.kind_type == STATUS_FULL
        && let Some(config) = said.envelope.data.get("config")
        && let reported_at = said.envelope.timestamp.min(now)
        && let Some(desired) = state.desired_config(scope, config, reported_at)
    {
        // It belongs to this snapshot, so it is dated just before it: the newest snapshot has the last word.
        let at = Timestamp::from_micros(reported_at.micros() - 1);
        decision.beliefs.push(Belief::DesiredConfig { scope: scope.clone(), config: desired, at });
    }
}

/// What has fallen due in the inventory; `None` when nothing has.
pub(super) fn due(state: &State, now: Timestamp) -> Option<Decision> {
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
        detail: Some(format!("the instance is {} now", standing.word())),
        subject: Some(Subject {
            family: Family::Metric,
            kind_type: STATUS_FULL.to_owned(),
            scope: scope.clone(),
        }),
        ..Fact::new(Action::InventoryChanged, now, Change::Presence(Presence { now: standing, since }))
    }
}

/// Two patches as one, the later over the earlier; what either takes away stays away.
pub(super) fn joined(earlier: &serde_json::Value, later: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    let (Value::Object(earlier), Value::Object(later)) = (earlier, later) else { return later.clone() };
    let mut joined = earlier.clone();
    for (name, change) in later {
        let both = match joined.get(name) {
            Some(before) => self::joined(before, change),
            None => change.clone(),
        };
        joined.insert(name.clone(), both);
    }
    Value::Object(joined)
}

/// The entry of the router's own request.
fn asked(state: &State, scope: &Scope, now: Timestamp) -> Fact {
    let kind_type = super::command::STATUS_REQUEST.to_owned();
    Fact {
        actor: Some(Actor::router(&state.rules().instance)),
        detail: Some("only deltas of it are known; a status-full is asked for".to_owned()),
        subject: Some(Subject { family: Family::Signal, kind_type, scope: scope.clone() }),
        verdict: Some(Verdict::Forward),
        ..Fact::new(Action::Requested, now, Change::None)
    }
}

/// A config with a patch applied (RFC 7396).
pub(super) fn patched(config: &serde_json::Value, patch: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut patched = config.as_object().cloned().unwrap_or_default();
    for (name, change) in patch {
        match change {
            Value::Null => drop(patched.remove(name)),
            change => {
                let before = patched.get(name).cloned().unwrap_or(Value::Null);
                patched.insert(name.clone(), self::patched(&before, change));
            }
        }
    }
    Value::Object(patched)
}
