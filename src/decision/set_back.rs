//! A ledger that was set back to an older copy: what it knew is gone, and a person must look.
//!
//! Owns: the fact of it, SAFE, and who is told.
//! Never: holds up a stop, or believes that what was forgotten did not happen.
//! Holds: nothing starts until somebody has confirmed that it may again.

use super::{Decision, command, safety, state::State};
use crate::contract::{
    audit::{Action, Actor, Change, SetBack},
    routing::{ALL, Scope},
    timestamp::Timestamp,
};

/// The word by which starts are superseded.
pub(super) const WORD: &str = "set-back";

/// What follows from a mark that knows more of the ledger than the ledger holds.
pub(super) fn noticed(state: &State, set_back: &SetBack, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    let everything = Scope::new(ALL, ALL, ALL);
    let SetBack { known, ours, .. } = set_back;
    let detail = format!(
        "the ledger ended at entry {ours}, and entry {known} was known: it was set back to an older copy; SAFE until a person has looked"
    );
    let router = Actor::router(&state.rules().instance);
    let change = Change::SetBack(set_back.clone());
    decision.facts.push(safety::set::set(&router, &everything, detail, (Action::SetBack, change), now));
    let message =
        "the ledger was set back to an older copy: SAFE until a person has looked; see the runbook restore";
    safety::set::tell(state, "ledger.set-back", message, &everything, now, &mut decision);
    command::lifetime::supersede(state, &everything, WORD, now, &mut decision);
    decision
}
