//! A router that opens the ledger with other settings than before.
//!
//! Owns: the entries, the alert and SAFE for settings that are looser.
//! Never: compares by itself; the table of `rules::looser` does.
//! Holds: whoever loosens by the config leaves an entry and an alert, as one who loosens by a
//! command does.
//! The rule: spec/rules.md#looser-settings.

use crate::{
    contract::{
        audit::{Action, Actor, Change, Difference, SettingsCompared},
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::{facts, follow, outcome::Decision, rules::looser, state::State},
};

/// A router has opened the ledger: what follows from settings that are others than when it was
/// opened before.
pub(in crate::decision) fn opened(state: &State, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    let Some((was, is)) = state.settings_to_compare() else { return decision };
    let (looser, stricter) = looser::differences(was, is);
    let router = Actor::router(&state.rules().instance);
    let everything = Scope::new(ALL, ALL, ALL);
    let is_dev = state.genesis().is_some_and(|genesis| genesis.environment == "dev");
    let safe = !is_dev && !state.only_looks();
    for (action, differences) in [(Action::SettingsLoosened, looser), (Action::SettingsTightened, stricter)] {
        if differences.is_empty() {
            continue;
        }
        let loosened = action == Action::SettingsLoosened;
        let detail = in_words(&differences, loosened && safe);
        let change = Change::Settings(SettingsCompared { differences, safe: loosened && safe });
        decision.facts.push(facts::of_setting(&router, &everything, detail, (action, change), now));
    }
    // The looser are written first; the stricter alone raise no alert.
    if decision.facts.first().is_some_and(|fact| fact.action == Action::SettingsLoosened) {
        let message = match safe {
            true => {
                "the router was started with looser settings: SAFE until a person has confirmed NORMAL; see the runbook safety"
            }
            false => "the router was started with looser settings; see the entry settings.loosened for each",
        };
        follow::safety::raise_alert(
            state,
            Action::SettingsLoosened.word(),
            message,
            &everything,
            now,
            &mut decision,
        );
        if safe {
            // What was accepted by the settings before waits no longer to leave in SAFE.
            follow::overtake::supersede(state, &everything, follow::overtake::SETTINGS, now, &mut decision);
        }
    }
    decision
}

fn in_words(differences: &[Difference], safe: bool) -> String {
    let each = |one: &Difference| format!("{} was {} and is {}", one.setting, one.was, one.is);
    let each: Vec<String> = differences.iter().map(each).collect();
    let end = if safe { "; SAFE until a person has confirmed NORMAL" } else { "" };
    format!("{}{end}", each.join("; "))
}
