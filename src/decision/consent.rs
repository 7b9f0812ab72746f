//! Gate 10: what is dangerous takes a confirmation, and nothing else will do.
//!
//! Owns: which commands are dangerous, who must confirm them, and the permit without which nothing is carried.
//! Never: asks anybody to confirm what an earlier gate would refuse.
//! Holds: a `Permit` is made here only: for what is harmless, or for what was confirmed.

use std::collections::BTreeMap;

use super::{
    clock,
    command::{
        approval::{Complete, Standing},
        flight::Flight,
    },
    effect::Effect,
    lifecycle::{self, Step},
    state::State,
};
use crate::contract::{
    Said,
    command::Class,
    interlock::{Requires, RunMode},
    routing::Scope,
};

/// The leave to take effect. No code outside this file can make one.
#[derive(Debug)]
pub(super) struct Permit(());

impl Permit {
    /// The leave of a complete confirmation.
    pub fn confirmed(_complete: &Complete) -> Self {
        Self(())
    }

    /// Carry the arrival on.
    pub fn carry(&self) -> Effect {
        Effect::Forward
    }

    /// Carry what a challenge held back.
    pub fn release(self, parcel: u64) -> Effect {
        Effect::Release { parcel, urgent: false }
    }
}

/// What a deployment sets for consent.
#[derive(Clone, Debug)]
pub struct Consent {
    /// What the deployment is for, as people read it in a challenge.
    pub environment: String,
    /// Who must confirm a dangerous command.
    pub requires: Requires,
    /// Who must confirm a live one.
    pub live_requires: Requires,
    /// How long a challenge may be confirmed, in milliseconds.
    pub window_ms: u64,
    /// Who may ask for and confirm dangerous operations; empty is everybody.
    pub actors: Vec<String>,
    /// The groups of a quorum.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Who may break the glass.
    pub break_glass: Vec<String>,
    /// What was approved beforehand.
    pub standing: Vec<Standing>,
    /// Whether a support bundle takes a confirmation.
    pub support_bundle: bool,
}

impl Default for Consent {
    fn default() -> Self {
        Self {
            environment: "dev".to_owned(),
            requires: Requires::Explicit,
            live_requires: Requires::Explicit,
            window_ms: 60_000,
            actors: Vec::new(),
            groups: BTreeMap::new(),
            break_glass: Vec::new(),
            standing: Vec::new(),
            support_bundle: false,
        }
    }
}

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
pub(super) fn check(state: &State, said: &Said, class: Option<Class>) -> Result<Permit, Box<Danger>> {
    match danger(state, said, class) {
        None => Ok(Permit(())),
        Some(danger) => Err(Box::new(danger)),
    }
}

/// Whether a command is dangerous, and why.
pub(super) fn danger(state: &State, said: &Said, class: Option<Class>) -> Option<Danger> {
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
        Class::Start
            if Step::of(kind_type) == Some(Step::Start) && lifecycle::mode(said) == Some(RunMode::Live) =>
        {
            let from = state.life(scope);
            let effect = format!("{scope} goes from {from} to RUNNING_LIVE");
            named("live start", ungated(state, effect), &rules.live_requires)
        }
        // Making a bot ready changes none that runs.
        Class::Change if kind_type != "bot-init" => {
            // A controller hands on what it is told, and a template is the swarm's: whoever of it is live is concerned.
            let live = state.live_bots(&scope.swarm_id).count();
            (live > 0).then_some(())?;
            let effect = format!("what {live} live instances of swarm {} run by may change", scope.swarm_id);
            named(&format!("live {kind_type}"), ungated(state, effect), &rules.live_requires)
        }
        Class::Loosen if kind_type == clock::ACCEPT => {
            let gap = state.clock_gap().unwrap_or_default();
            let effect = format!("{}; the router goes on from the clock", clock::words(gap));
            named(kind_type, effect, &rules.requires)
        }
        Class::Loosen => {
            named(kind_type, format!("{kind_type} loosens the safety of {scope}"), &rules.requires)
        }
        Class::Release => named(kind_type, format!("{scope} leaves QUARANTINED for IDLE"), &rules.requires),
        Class::Destructive => named(kind_type, format!("{kind_type} of {scope}"), &rules.requires),
        Class::Evidence if kind_type == "support-bundle" && rules.support_bundle => {
            named(kind_type, "an archive of this deployment's state is written".to_owned(), &rules.requires)
        }
        _ => None,
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

/// Live starts and loosening are never approved beforehand.
pub(super) fn takes_no_standing_approval(state: &State, flight: &Flight) -> bool {
    let class = state.rules().commands.get(&flight.kind_type).map(|row| row.class);
    // The safety types stand in the table with the class of their upward step.
    matches!(class, Some(Class::Start | Class::Loosen | Class::Tighten | Class::Evidence))
}
