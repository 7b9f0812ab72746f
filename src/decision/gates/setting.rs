//! Gate 9 for the safety commands: whether a setting tightens or loosens, and whether the sender
//! may set it.
//!
//! Owns: the class of a command now, the words of the safety commands, and the room for what they
//! set.
//! Never: sets anything; `follow::safety` does.
//! Holds: whatever lowers a mode, a switch or a failed gate is Loosen, and takes a confirmation.
//! The rules: spec/rules.md#safety-mode, #kill-switch and #clearing-a-failure.

use crate::{
    contract::{
        Said,
        audit::Actor,
        bound::Bound,
        command::Class,
        interlock::{GateResult, KillSwitch, SafetyMode},
        reason::{Reason, Refusal},
        routing::{ALL, Scope},
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        gates::identity,
        state::{
            State,
            clock_gap::ACCEPT,
            safety::{self, Gate},
        },
    },
};

/// The class of a command now: the types that loosen when they go down are what they do.
pub(in crate::decision) fn class(state: &State, said: &Said, actor: &Actor) -> Option<Class> {
    let class = said.class?;
    let setting = state.safety().setting(safety::swarm(&said.key.scope));
    let lowers = match said.key.kind_type.as_str() {
        // With the swarm's own mode: the one for all applies beside it, whatever is set here.
        "safety-set" => mode(said).is_some_and(|mode| mode < setting.mode_or_inherited(state)),
        "kill-switch-set" => {
            let inherited = state.safety().global;
            // The latch counts as set. The level that a mode implies does not: that lasts as long
            // as the mode.
            let own = setting.kill_switch.into_iter().chain(setting.latch).max();
            let set = own.or_else(|| inherited.kill_switch.into_iter().chain(inherited.latch).max());
            level(said).is_some_and(|level| set.is_some_and(|set| level < set))
        }
        "gate-report" => brightens(state, said, actor),
        _ => return Some(class),
    };
    Some(if lowers { Class::Loosen } else { class })
}

/// A report of PASS over what has failed, however long ago, from somebody who is not the gate's own
/// reporter; and any PASS of somebody who says that he is that reporter and does not prove it.
fn brightens(state: &State, said: &Said, actor: &Actor) -> bool {
    let Some(name) = text(said, "gate") else { return false };
    let better = result(said).is_some_and(|result| result < GateResult::Unknown);
    let is_own = state.rules().safety.gate_reporters.get(name).is_some_and(|own| *own == actor.principal);
    if is_own {
        // Its name alone would let anybody pass the gate of another.
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
        safety::swarm(&said.key.scope).unwrap_or_default().to_owned(),
        text(said, "gate").unwrap_or_default().to_owned(),
    );
    match said.key.kind_type.as_str() {
        "gate-report" | "gate-disable" if !has_room_for_gate(state, &name) => {
            let gates_max = state.rules().memory.gates_max;
            let detail =
                format!("{gates_max} readiness gates are known, the most that `memory.gates_max` allows");
            Err(Refusal::full(Bound::Gates, detail).at("/data/gate"))
        }
        "monitoring-disable" if !has_room_for_silence(state, &name.0, now) => {
            let swarms_max = state.rules().memory.swarms_max;
            let detail = format!(
                "the router's alerts are off for {swarms_max} swarms, the most that `memory.swarms_max` allows"
            );
            Err(Refusal::full(Bound::Settings, detail).at("/scope/swarmId"))
        }
        // Only what loosens is refused: a tightening without room of its own takes effect for all
        // (`reach`).
        "safety-set" | "kill-switch-set"
            if !state.safety().has_room(safety::swarm(&said.key.scope), &state.rules().memory)
                && class(state, said, actor) == Some(Class::Loosen) =>
        {
            let swarms_max = state.rules().memory.swarms_max;
            let detail = format!(
                "{swarms_max} swarms have a setting of their own, the most that `memory.swarms_max` allows; this one \
                 has that of all"
            );
            Err(Refusal::full(Bound::Settings, detail).at("/scope/swarmId"))
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

pub(in crate::decision) fn has_room_for_gate(state: &State, name: &(String, String)) -> bool {
    let gates = &state.safety().gates;
    gates.len() < state.rules().memory.gates_max || gates.contains_key(name)
}

fn has_room_for_silence(state: &State, swarm: &str, now: Timestamp) -> bool {
    let silent = &state.safety().unmonitored;
    // Those that are over leave with the next; for all there is always room.
    let lasting = silent.iter().filter(|(swarm, until)| !swarm.is_empty() && now.micros() < **until);
    swarm.is_empty() || silent.contains_key(swarm) || lasting.count() < state.rules().memory.swarms_max
}

/// Whether there is anything to accept.
pub(in crate::decision) fn has_clock_to_accept(state: &State, said: &Said) -> Result<(), Refusal> {
    if said.key.kind_type != ACCEPT || state.clock_gap().is_some() {
        return Ok(());
    }
    let detail = "the clock and the ledger agree; there is nothing to accept";
    Err(Refusal::new(Reason::PolicyDenied, detail).at("/type"))
}

/// The scope that an accepted command tightens or stops: a setting for which there is no room
/// tightens all.
pub(in crate::decision) fn reach(state: &State, said: &Said) -> Scope {
    let sets = matches!(said.key.kind_type.as_str(), "safety-set" | "kill-switch-set");
    match sets && !state.safety().has_room(safety::swarm(&said.key.scope), &state.rules().memory) {
        true => Scope::new(ALL, ALL, ALL),
        false => said.key.scope.clone(),
    }
}

pub(in crate::decision) fn text<'a>(said: &'a Said, name: &str) -> Option<&'a str> {
    said.envelope.data.get(name).and_then(View::as_str)
}

pub(in crate::decision) fn moment(said: &Said, name: &str) -> Option<Timestamp> {
    text(said, name).and_then(Timestamp::parse)
}

pub(in crate::decision) fn mode(said: &Said) -> Option<SafetyMode> {
    text(said, "mode").and_then(SafetyMode::read)
}

pub(in crate::decision) fn level(said: &Said) -> Option<KillSwitch> {
    text(said, "level").and_then(KillSwitch::read)
}

pub(in crate::decision) fn result(said: &Said) -> Option<GateResult> {
    text(said, "result").and_then(GateResult::read)
}
