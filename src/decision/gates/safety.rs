//! Gate 9: what safety mode, readiness gates and kill switch let through.
//!
//! Owns: which classes they hold up, and which readiness gates are asked.
//! Never: holds up a stop, a tightening or the asking for evidence.
//! Holds: what is unknown refuses.
//! The rules: spec/rules.md#safety-mode, #kill-switch and #readiness-gates.

use crate::{
    contract::{
        Said,
        command::Class,
        interlock::{KillSwitch, SafetyMode},
        reason::{Reason, Refusal},
        routing::{Family, Scope},
        timestamp::Timestamp,
    },
    decision::state::{State, clock_gap, hold::Unready},
};

/// Whether a signal passes what safety says of its scope.
pub(in crate::decision) fn check(
    state: &State,
    said: &Said,
    class: Option<Class>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let held_up = match class {
        None
        | Some(
            Class::Stop
            | Class::Tighten
            | Class::Consent
            | Class::Session
            | Class::Liveness
            | Class::Evidence,
        ) => return Ok(()),
        // Lowering the mode or the switch, or accepting the clock, is the way out of what holds the
        // rest up; each takes its confirmation.
        Some(Class::Loosen) => {
            !matches!(said.key.kind_type.as_str(), "safety-set" | "kill-switch-set" | clock_gap::ACCEPT)
        }
        Some(Class::Start | Class::Change | Class::Release | Class::Destructive) => true,
    };
    if said.key.family != Family::Signal || !held_up {
        return Ok(());
    }
    let (safety, scope) = (state.safety(), &said.key.scope);
    let mode = safety.mode(scope);
    if mode != SafetyMode::Normal {
        return Err(Refusal::new(Reason::SafetyMode, format!("the safety mode is {mode}")));
    }
    // In the order of the codes in spec/gates.md: between mode and kill switch.
    if matches!(class, Some(Class::Start | Class::Change)) {
        readiness(state, scope, now)?;
    }
    match safety.kill_switch(scope) {
        KillSwitch::Allow => Ok(()),
        level => Err(Refusal::new(Reason::KillSwitch, format!("the kill switch is at {level}"))),
    }
}

/// What the readiness gates say.
fn readiness(state: &State, scope: &Scope, now: Timestamp) -> Result<(), Refusal> {
    let (reason, detail) = match state.unready(scope, now) {
        None => return Ok(()),
        Some(Unready::Failed(name)) => (Reason::GateFailed, format!("readiness gate `{name}` says FAIL")),
        Some(Unready::Unknown(name)) => {
            (Reason::GateUnknown, format!("readiness gate `{name}` has no result, or one that has expired"))
        }
        Some(Unready::Expired(name)) => (
            Reason::GateUnknown,
            format!("readiness gate `{name}` has failed, its report has expired, and nobody has cleared it"),
        ),
    };
    Err(Refusal::new(reason, detail))
}
