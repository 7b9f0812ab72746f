//! What the safety commands do: they are the router's own to answer.
//!
//! Owns: whether a setting tightens or loosens, the facts of it, and the stops of FLATTEN.
//! Never: loosens without a confirmation; gate 10 sees to that before anything here is asked.
//! Holds: tightening is free, and a setting that changes nothing leaves no fact of its own.

use super::{Gate, swarm};
use crate::{
    contract::{
        Said,
        audit::{Action, Actor, Change, Fact, Subject},
        command::Class,
        interlock::{GateResult, GateSet, KillSwitch, MonitoringSet, SafetyMode, SafetySet},
        reason::{Reason, Refusal},
        routing::{Family, Scope},
        timestamp::Timestamp,
        tree::View,
    },
    decision::{Decision, alert, command, identity, state::State},
};

/// How many readiness gates are remembered, over all swarms.
const GATES_MAX: usize = 1_000;

/// The class of a command now: the types that loosen when they go down are what they do.
pub(in crate::decision) fn class(state: &State, said: &Said, actor: &Actor) -> Option<Class> {
    let class = said.class?;
    let setting = state.safety().setting(swarm(&said.key.scope));
    let lowers = match said.key.kind_type.as_str() {
        "safety-set" => mode(said).is_some_and(|mode| mode < setting.mode_or_inherited(state)),
        "kill-switch-set" => {
            let inherited = state.safety().global;
            let own = setting.kill_switch.into_iter().chain(setting.latch).max();
            let set = own.or_else(|| inherited.kill_switch.into_iter().chain(inherited.latch).max());
            level(said).is_some_and(|level| set.is_some_and(|set| level < set))
        }
        "gate-report" => brightens(state, said, actor),
        _ => return Some(class),
    };
    Some(if lowers { Class::Loosen } else { class })
}

impl super::Setting {
    /// What a new mode is compared with: for a swarm without its own, the one for all.
    pub(super) fn mode_or_inherited(self, state: &State) -> SafetyMode {
        self.mode.unwrap_or_else(|| state.safety().global.mode_or_safe())
    }
}

/// A report of PASS over what has failed, however long ago, from somebody who is not the gate's own reporter; and any PASS of somebody who says
/// that he is that reporter and does not prove it.
fn brightens(state: &State, said: &Said, actor: &Actor) -> bool {
    let Some(name) = text(said, "gate") else { return false };
    let better = result(said).is_some_and(|result| result < GateResult::Unknown);
    let is_own = state.rules().safety.gate_reporters.get(name).is_some_and(|own| *own == actor.principal);
    if is_own {
        return better && !identity::is_trusted(state.rules(), actor);
    }
    better && state.safety().known(name, &said.key.scope).any(Gate::has_failed)
}

/// Whether the sender may set that: a gate's report, and how long something may be switched off.
pub(in crate::decision) fn check(
    state: &State,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), Refusal> {
    let name = (
        swarm(&said.key.scope).unwrap_or_default().to_owned(),
        text(said, "gate").unwrap_or_default().to_owned(),
    );
    match said.key.kind_type.as_str() {
        "gate-report" | "gate-disable"
            if state.safety().gates.len() >= GATES_MAX && !state.safety().gates.contains_key(&name) =>
        {
            let detail = format!("{GATES_MAX} readiness gates are known, the most that are remembered");
            Err(Refusal::new(Reason::QuotaExceeded, detail).at("/data/gate"))
        }
        "gate-report" => {
            let own = text(said, "gate").and_then(|name| state.rules().safety.gate_reporters.get(name));
            match own.filter(|own| **own != actor.principal) {
                Some(_) => Err(Refusal::new(
                    Reason::PolicyDenied,
                    "this gate has a reporter of its own in `safety.gate_reporters`",
                )),
                None => Ok(()),
            }
        }
        "gate-disable" | "monitoring-disable" => {
            let until = moment(said, "expiresAt");
            let latest = now.plus_ms(state.rules().safety.disable_ms_max);
            if until.is_none_or(|until| until <= now || until > latest) {
                let detail = "it lies ahead, by no more than `safety.disable_ms_max`";
                return Err(Refusal::new(Reason::PolicyDenied, detail).at("/data/expiresAt"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Does what the command says; answers what was done, in words. `None` for a type that sets nothing.
pub(in crate::decision) fn act(
    state: &State,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<String> {
    let (action, change, detail) = setting(state, said, now)?;
    let reason = text(said, "reason").map(|reason| format!("{detail}: {reason}"));
    let told = match action {
        Action::SafetySet => Some(("safety.transition", "the safety mode was set; see the runbook safety")),
        Action::KillSwitchSet => {
            Some(("execution.killswitch.set", "the kill switch was set; see the runbook kill-switch"))
        }
        Action::MonitoringSet => Some(("monitoring.set", "the router's alerts were switched")),
        _ => None,
    };
    if let Some((code, message)) = told {
        tell(state, code, message, &said.key.scope, now, decision);
    }
    let why = reason.unwrap_or_else(|| detail.clone());
    decision.facts.push(set(actor, &said.key.scope, why, (action, change), now));
    if said.key.kind_type == "kill-switch-set" && level(said) == Some(KillSwitch::Flatten) {
        command::own::stop(state, &said.key.scope, "the kill switch is at FLATTEN", now, decision);
    }
    Some(detail)
}

/// What a command sets, and in words.
fn setting(state: &State, said: &Said, now: Timestamp) -> Option<(Action, Change, String)> {
    let for_swarm = swarm(&said.key.scope).map(str::to_owned);
    Some(match said.key.kind_type.as_str() {
        "safety-set" => {
            let mode = mode(said)?;
            let set = SafetySet { mode: Some(mode), swarm: for_swarm, ..SafetySet::default() };
            (Action::SafetySet, Change::Safety(set), format!("the safety mode is {mode}"))
        }
        "kill-switch-set" => {
            let level = level(said)?;
            let set = SafetySet { kill_switch: Some(level), swarm: for_swarm, ..SafetySet::default() };
            (Action::KillSwitchSet, Change::Safety(set), format!("the kill switch is at {level}"))
        }
        "gate-report" => {
            let gate = text(said, "gate")?.to_owned();
            let result = result(said)?;
            let expires_at = moment(said, "expiresAt");
            let latest = now.plus_ms(state.rules().safety.gate_ttl_ms);
            let expires_at = Some(expires_at.map_or(latest, |at| at.min(latest)));
            let detail = format!("gate `{gate}` says {result}");
            let set =
                GateSet { disabled_until: None, expires_at, gate, result: Some(result), swarm: for_swarm };
            (Action::GateSet, Change::Gate(set), detail)
        }
        kind_type @ ("gate-disable" | "gate-enable") => {
            let gate = text(said, "gate")?.to_owned();
            let disables = kind_type == "gate-disable";
            let until = if disables { moment(said, "expiresAt")? } else { now };
            let detail = match disables {
                true => format!("gate `{gate}` is not asked until {until}"),
                false => format!("gate `{gate}` is asked again"),
            };
            let disabled_until = Some(until);
            let set = GateSet { disabled_until, expires_at: None, gate, result: None, swarm: for_swarm };
            (Action::GateSet, Change::Gate(set), detail)
        }
        kind_type @ ("monitoring-disable" | "monitoring-enable") => {
            let disables = kind_type == "monitoring-disable";
            let disabled_until = if disables { moment(said, "expiresAt")? } else { now };
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
pub(in crate::decision) fn latched(
    state: &State,
    latch: &crate::decision::request::Latch,
    now: Timestamp,
) -> Decision {
    let mut decision = Decision::new(state);
    let scope = latch.scope();
    let before = state.safety().setting(latch.swarm.as_deref()).latch.unwrap_or(KillSwitch::Allow);
    if latch.level <= before {
        return decision;
    }
    let router = Actor::router(&state.rules().instance);
    let detail = format!("the latch file puts the kill switch at {}: {}", latch.level, latch.reason);
    let change = SafetySet {
        latch: Some(latch.level),
        reason: Some(latch.reason.clone()),
        swarm: latch.swarm.clone(),
        ..SafetySet::default()
    };
    decision.facts.push(set(&router, &scope, detail, (Action::KillSwitchSet, Change::Safety(change)), now));
    let message = "the latch file has tightened the kill switch; see the runbook kill-switch";
    tell(state, "execution.killswitch.set", message, &scope, now, &mut decision);
    command::lifetime::supersede(state, &scope, "latch", now, &mut decision);
    if latch.level == KillSwitch::Flatten {
        command::own::stop(state, &scope, "the latch is at FLATTEN", now, &mut decision);
    }
    decision
}

/// The entry of a setting.
pub(in crate::decision) fn set(
    actor: &Actor,
    scope: &Scope,
    detail: String,
    (action, change): (Action, Change),
    now: Timestamp,
) -> Fact {
    Fact {
        actor: Some(actor.clone()),
        detail: Some(detail),
        subject: Some(Subject {
            family: Family::Signal,
            kind_type: action.word().to_owned(),
            scope: scope.clone(),
        }),
        ..Fact::new(action, now, change)
    }
}

/// An alert about a scope's safety.
pub(in crate::decision) fn tell(
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

fn text<'a>(said: &'a Said, name: &str) -> Option<&'a str> {
    said.envelope.data.get(name).and_then(View::as_str)
}

fn moment(said: &Said, name: &str) -> Option<Timestamp> {
    text(said, name).and_then(Timestamp::parse)
}

fn mode(said: &Said) -> Option<SafetyMode> {
    text(said, "mode").and_then(SafetyMode::read)
}

pub(in crate::decision) fn level(said: &Said) -> Option<KillSwitch> {
    text(said, "level").and_then(KillSwitch::read)
}

fn result(said: &Said) -> Option<GateResult> {
    text(said, "result").and_then(GateResult::read)
}
