//! What the safety commands do: they are the router's own to answer.
//!
//! Owns: the facts and alerts of a setting, the latch, and the stops of FLATTEN.
//! Never: loosens without a confirmation; gate 11 sees to that before anything here is asked.
//! Holds: tightening is free, and a setting that changes nothing leaves no fact of its own.
//! The rules: spec/rules.md#safety-mode, #kill-switch and #clearing-a-failure.

use serde_json::{Value, json};

use crate::{
    contract::{
        Said,
        audit::{Action, Actor, Change},
        bound::Bound,
        interlock::{GateSet, KillSwitch, MonitoringSet, SafetySet},
        routing::{ALL, Scope},
        secrets::shapes,
        timestamp::Timestamp,
    },
    decision::{
        facts,
        follow::{alert, bound, order, overtake},
        gates::setting,
        outcome::Decision,
        request,
        state::{State, safety},
    },
};

/// Where a setting that tightens a swarm takes effect: where there is no room for one of its own,
/// for all. `None` is all.
pub(in crate::decision) fn place(
    state: &State,
    swarm: Option<&str>,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<String> {
    let has_room = state.safety().has_room(swarm, &state.rules().memory);
    if !has_room {
        bound::hit(state, Bound::Settings, now, decision);
    }
    swarm.filter(|_| has_room).map(str::to_owned)
}

/// Records what the command sets; returns what was done, in words and for machines. `None` for a
/// type that sets nothing.
pub(in crate::decision) fn act(
    state: &State,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<(String, Option<Value>)> {
    let (action, change, detail) = setting(state, said, now, decision)?;
    let reason = setting::text(said, "reason").map(|reason| format!("{detail}: {reason}"));
    let told = match action {
        Action::SafetySet => Some(("safety.transition", "the safety mode was set; see the runbook safety")),
        Action::KillSwitchSet => {
            Some(("execution.killswitch.set", "the kill switch was set; see the runbook kill-switch"))
        }
        Action::MonitoringSet => Some(("monitoring.set", "the router's alerts were switched")),
        _ => None,
    };
    let all = Scope::new(ALL, ALL, ALL);
    // Where there was no room for the swarm's own setting (`place`) alert and stops are for all
    // too.
    let for_all = matches!(&change, Change::Safety(set) if set.swarm.is_none());
    let scope = if for_all { &all } else { &said.key.scope };
    if let Some((code, message)) = told {
        raise_alert(state, code, message, scope, now, decision);
    }
    let why = reason.unwrap_or_else(|| detail.clone());
    decision.facts.push(facts::of_setting(actor, scope, why, (action, change), now));
    if said.key.kind_type == "kill-switch-set" && setting::level(said) == Some(KillSwitch::Flatten) {
        let id = order::stop(state, scope, "the kill switch is at FLATTEN", now, decision);
        let stop = json!({ "stop": { "correlationId": id, "target": scope.to_string() } });
        return Some((format!("{detail}, and what runs is stopped by bot-stop {id}"), Some(stop)));
    }
    Some((detail, None))
}

/// What a command sets, and in words.
fn setting(
    state: &State,
    said: &Said,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<(Action, Change, String)> {
    let for_swarm = safety::swarm(&said.key.scope).map(str::to_owned);
    Some(match said.key.kind_type.as_str() {
        "safety-set" => {
            let mode = setting::mode(said)?;
            let swarm = place(state, for_swarm.as_deref(), now, decision);
            let set = SafetySet { mode: Some(mode), swarm, ..SafetySet::default() };
            (Action::SafetySet, Change::Safety(set), format!("the safety mode is {mode}"))
        }
        "kill-switch-set" => {
            let level = setting::level(said)?;
            let swarm = place(state, for_swarm.as_deref(), now, decision);
            let set = SafetySet { kill_switch: Some(level), swarm, ..SafetySet::default() };
            (Action::KillSwitchSet, Change::Safety(set), format!("the kill switch is at {level}"))
        }
        "gate-report" => {
            let gate = setting::text(said, "gate")?.to_owned();
            let result = setting::result(said)?;
            let expires_at = setting::moment(said, "expiresAt");
            let latest = now.plus_ms(state.rules().safety.gate_ttl_ms);
            let expires_at = Some(expires_at.map_or(latest, |at| at.min(latest)));
            let detail = format!("gate `{gate}` says {result}");
            let set =
                GateSet { disabled_until: None, expires_at, gate, result: Some(result), swarm: for_swarm };
            (Action::GateSet, Change::Gate(set), detail)
        }
        kind_type @ ("gate-disable" | "gate-enable") => {
            let gate = setting::text(said, "gate")?.to_owned();
            let disables = kind_type == "gate-disable";
            let until = if disables { setting::moment(said, "expiresAt")? } else { now };
            let detail = match disables {
                true => format!("gate `{gate}` is not asked until {until}"),
                false => format!("gate `{gate}` is asked again"),
            };
            let place = (for_swarm.clone().unwrap_or_default(), gate.clone());
            let disabled_until = Some(until);
            let set = GateSet { disabled_until, expires_at: None, gate, result: None, swarm: for_swarm };
            // A gate of which nothing is remembered is asked as it is.
            let change =
                if setting::has_room_for_gate(state, &place) { Change::Gate(set) } else { Change::None };
            (Action::GateSet, change, detail)
        }
        kind_type @ ("monitoring-disable" | "monitoring-enable") => {
            let disables = kind_type == "monitoring-disable";
            let disabled_until = if disables { setting::moment(said, "expiresAt")? } else { now };
            let detail = match disables {
                true => format!("the router raises no alerts until {disabled_until}"),
                false => "the router raises alerts again".to_owned(),
            };
            let set = MonitoringSet { disabled_until, swarm: for_swarm };
            (Action::MonitoringSet, Change::Monitoring(set), detail)
        }
        _ => return None,
    })
}

/// What the latch file says now: it only tightens, and once read it is a fact.
pub(in crate::decision) fn latched(state: &State, latch: &request::Latch, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    let swarm = place(state, latch.swarm.as_deref(), now, &mut decision);
    let scope = Scope::new(swarm.as_deref().unwrap_or(ALL), ALL, ALL);
    let before = state.safety().setting(swarm.as_deref()).latch.unwrap_or(KillSwitch::Allow);
    // The host hands in the same latch at each start and after a failed commit: once is enough.
    if latch.level <= before {
        return decision;
    }
    let router = Actor::router(&state.rules().instance);
    let detail = format!("the latch file puts the kill switch at {}: {}", latch.level, latch.reason);
    let change = SafetySet {
        latch: Some(latch.level),
        reason: Some(shapes::written(latch.reason.clone())),
        swarm,
        ..SafetySet::default()
    };
    decision.facts.push(facts::of_setting(
        &router,
        &scope,
        detail,
        (Action::KillSwitchSet, Change::Safety(change)),
        now,
    ));
    let message = "the latch file has tightened the kill switch; see the runbook kill-switch";
    raise_alert(state, "execution.killswitch.set", message, &scope, now, &mut decision);
    overtake::supersede(state, &scope, "latch", now, &mut decision);
    if latch.level == KillSwitch::Flatten {
        order::stop(state, &scope, "the latch is at FLATTEN", now, &mut decision);
    }
    decision
}

/// An alert about a scope's safety.
pub(in crate::decision) fn raise_alert(
    state: &State,
    code: &'static str,
    message: &'static str,
    scope: &Scope,
    now: Timestamp,
    decision: &mut Decision,
) {
    let about = scope.to_string();
    let notice = alert::Notice { code, message, about: &about, count: 1, correlation_id: None };
    alert::raise(state, &notice, now, decision);
}
