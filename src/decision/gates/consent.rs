//! Gate 11: what is dangerous takes a confirmation, and nothing else will do.
//!
//! Owns: which commands are dangerous, who must confirm them, and the permit without which nothing
//! is carried.
//! Never: asks anybody to confirm what an earlier gate would refuse.
//! Holds: a `Permit` is made here only: for what is harmless, or for what was confirmed.
//! The rule: spec/rules.md#dangerous-commands.

use crate::{
    contract::{
        Said,
        command::Class,
        interlock::{Requires, RunMode},
        passage::cut,
        routing::Scope,
        tree::View,
    },
    decision::{
        gates::approval::Complete,
        rules::{
            lifecycle::{self, Step},
            words,
        },
        state::{State, clock_gap, flight::Flight},
    },
};

/// The leave to publish what somebody sent. Its field is private, so that no code outside this file
/// makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit(());

impl Permit {
    /// The leave of a complete confirmation.
    pub(in crate::decision) fn confirmed(_complete: &Complete) -> Self {
        Self(())
    }

    /// The leave that a command was given when it was accepted or confirmed, for when its target
    /// shows itself. What waits for its confirmation was given none.
    pub(in crate::decision) fn of_parked(flight: &Flight) -> Option<Self> {
        flight.was_let_go().then_some(Self(()))
    }
}

/// Bytes of a word of the sender's own that those who confirm are shown.
const WORD_BYTES_MAX: usize = 80;

/// Why a command is dangerous, for those who are to confirm it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Danger {
    /// What it is, in words.
    pub operation: String,
    /// What it does.
    pub effect: String,
    /// What it leaves as it is.
    pub not_affected: Vec<String>,
    /// Who must confirm.
    pub requires: Requires,
}

/// Leave for what is harmless; the danger of what is not.
pub(in crate::decision) fn check(
    state: &State,
    said: &Said,
    class: Option<Class>,
) -> Result<Permit, Box<Danger>> {
    match danger(state, said, class) {
        None => Ok(Permit(())),
        Some(danger) => Err(Box::new(danger)),
    }
}

/// Whether a command is dangerous, and why.
pub(in crate::decision) fn danger(state: &State, said: &Said, class: Option<Class>) -> Option<Danger> {
    let kind_type = said.key.kind_type.as_str();
    let scope = &said.key.scope;
    let rules = &state.rules().consent;
    let named = |operation: &str, effect: String, requires: &Requires| {
        Some(Danger {
            operation: operation.to_owned(),
            effect,
            not_affected: not_affected(scope),
            requires: requires.clone(),
        })
    };
    match class? {
        // `start-work` and `swarm-start` are starts too, but name no mode: they are no live start.
        Class::Start
            if Step::of(kind_type) == Some(Step::Start) && lifecycle::mode(said) == Some(RunMode::Live) =>
        {
            let from = state.life(scope);
            let effect = format!("{scope} goes from {from} to RUNNING_LIVE");
            named("live start", ungated(state, effect), &rules.live_requires)
        }
        // Making a bot ready changes none that runs.
        Class::Change if Step::of(kind_type) != Some(Step::Init) => {
            // A controller hands on what it is told, and a template is the swarm's: whoever of it
            // is live is concerned.
            let live = state.live_bots(&scope.swarm_id).count();
            (live > 0).then_some(())?;
            let effect = format!("what {live} live instances of swarm {} run by may change", scope.swarm_id);
            named(&format!("live {kind_type}"), ungated(state, effect), &rules.live_requires)
        }
        Class::Loosen if kind_type == clock_gap::ACCEPT => {
            let gap = state.clock_gap().unwrap_or_default();
            let effect = format!("{}; the router goes on from the clock", clock_gap::words(gap));
            named(kind_type, effect, &rules.requires)
        }
        Class::Loosen => named(kind_type, loosened(state, said), &rules.requires),
        Class::Release => named(kind_type, format!("{scope} leaves QUARANTINED for IDLE"), &rules.requires),
        Class::Destructive => named(kind_type, format!("{kind_type} of {scope}"), &rules.requires),
        // What was made already is only written down.
        Class::Evidence
            if kind_type == "support-bundle"
                && rules.support_bundle
                && said.envelope.data.get(words::MADE).is_none() =>
        {
            named(kind_type, "an archive of this deployment's state is written".to_owned(), &rules.requires)
        }
        _ => None,
    }
}

/// What a loosening changes, and from what to what: whoever confirms it reads nothing else.
fn loosened(state: &State, said: &Said) -> String {
    let scope = &said.key.scope;
    let word = |name: &str| {
        said.envelope.data.get(name).and_then(View::as_str).map(|word| cut(word, WORD_BYTES_MAX))
    };
    let until = || word("expiresAt").map(|until| format!(" until {until}")).unwrap_or_default();
    let safety = state.safety();
    match (said.key.kind_type.as_str(), word("gate"), word("mode"), word("level")) {
        ("safety-set", _, Some(mode), _) => {
            format!("the safety mode of {scope} goes from {} to {mode}", safety.mode(scope).word())
        }
        ("kill-switch-set", _, _, Some(level)) => {
            format!("the kill switch of {scope} goes from {} to {level}", safety.kill_switch(scope).word())
        }
        ("gate-disable", Some(gate), ..) => {
            format!("readiness gate `{gate}` of {scope} holds nothing up{}", until())
        }
        ("gate-report", Some(gate), ..) => {
            let says = word("result").unwrap_or("UNKNOWN");
            format!("readiness gate `{gate}` of {scope} says {says}{}, although it has failed", until())
        }
        ("monitoring-disable", ..) => format!("nobody is alerted of silence in {scope}{}", until()),
        (kind_type, ..) => format!("{kind_type} loosens the safety of {scope}"),
    }
}

/// Says so where nothing but a person's word stands between a command and what is live.
fn ungated(state: &State, effect: String) -> String {
    if state.rules().safety.gates_required.is_empty() {
        return format!("{effect}; no readiness gate is configured, so none was asked");
    }
    effect
}

/// What a dangerous command leaves alone.
fn not_affected(scope: &Scope) -> Vec<String> {
    let mut rest = Vec::new();
    if !scope.fans_out() {
        rest.push(format!("other instances of swarm {}", scope.swarm_id));
    }
    if scope.swarm_id != crate::contract::routing::ALL {
        rest.push("other swarms".to_owned());
    }
    rest.push("stop, pause and quarantine, which always pass".to_owned());
    rest
}
