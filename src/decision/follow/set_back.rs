//! A ledger that was set back to an older copy, or that another stands in the place of: what it
//! knew is gone, and a person
//! must look.
//!
//! Owns: the fact of it, SAFE, and who is told; telling that its emergency log is gone, or that its
//! outbox was changed.
//! Never: holds up a stop, or believes that what was forgotten did not happen.
//! Holds: nothing starts until somebody has confirmed that it may again.
//! The rule: spec/rules.md#set-back.

use crate::{
    contract::{
        audit::{Action, Actor, Change, SetBack},
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::{
        facts,
        follow::{
            self, alert,
            overtake::{self, SET_BACK},
        },
        outcome::Decision,
        state::State,
    },
};

/// What follows from a mark that knows more of the ledger than the ledger holds.
pub(in crate::decision) fn noticed(state: &State, set_back: &SetBack, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    let everything = Scope::new(ALL, ALL, ALL);
    let SetBack { known, ledger_id, ours } = set_back;
    let detail = match ledger_id {
        None => format!(
            "the ledger ended at entry {ours}, and entry {known} was known: it was set back to an older copy; SAFE until a person has looked"
        ),
        Some(other) => {
            let own = state.genesis().map_or("unknown", |genesis| genesis.ledger_id.as_str());
            format!(
                "this is ledger {own}, which ended at entry {ours}, and entry {known} of ledger {other} was known in its place; SAFE until a person has looked"
            )
        }
    };
    let router = Actor::router(&state.rules().instance);
    let change = Change::SetBack(set_back.clone());
    decision.facts.push(facts::of_setting(&router, &everything, detail, (Action::SetBack, change), now));
    let message = match ledger_id {
        None => {
            "the ledger was set back to an older copy: SAFE until a person has looked; see the runbook restore"
        }
        Some(_) => {
            "another ledger stands in the place of the one that was known: SAFE until a person has looked; see the runbook restore"
        }
    };
    follow::safety::raise_alert(state, "ledger.set-back", message, &everything, now, &mut decision);
    overtake::supersede(state, &everything, SET_BACK, now, &mut decision);
    decision
}

/// What follows from an emergency log that is gone: what it may have held nobody knows.
pub(in crate::decision) fn emergency_missing(state: &State, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    let message = "the emergency log was not there, and what it held is forgotten, if it held anything: look what was stopped; see the runbook restore";
    let everything = Scope::new(ALL, ALL, ALL);
    follow::safety::raise_alert(state, "ledger.emergency-missing", message, &everything, now, &mut decision);
    decision
}

/// What follows from an outbox that lacks commands: it was changed by another hand. They end by
/// their deadlines.
pub(in crate::decision) fn outbox_short(
    state: &State,
    (count, first): (u64, u64),
    now: Timestamp,
) -> Decision {
    let message = "accepted commands neither left nor wait in the outbox: somebody changed the ledger's file; look what did not arrive; see the runbook restore";
    outbox(state, ("ledger.outbox-short", message), (count, first), now)
}

/// What follows from an outbox with commands that nobody let go: it was changed by another hand.
/// They have not left.
pub(in crate::decision) fn outbox_added(
    state: &State,
    (count, first): (u64, u64),
    now: Timestamp,
) -> Decision {
    let message = "commands that nobody let go waited in the outbox to leave, and were taken out: somebody changed the ledger's file; see the runbook restore";
    outbox(state, ("ledger.outbox-added", message), (count, first), now)
}

fn outbox(
    state: &State,
    (code, message): (&'static str, &'static str),
    (count, first): (u64, u64),
    now: Timestamp,
) -> Decision {
    let mut decision = Decision::new(state);
    let about = format!("entry {first}");
    let notice = alert::Notice { code, message, about: &about, count, correlation_id: None };
    alert::raise(state, &notice, now, &mut decision);
    decision
}
