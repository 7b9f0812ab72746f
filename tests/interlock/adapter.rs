//! What the tests need of the crate by name, in one place.
//!
//! Owns: how rules are set, how a genesis is made, and where the state says that an instance is in its life.
//! Never: decides what is expected.
//! Holds: everything else goes over the wire.

use swarmgate::{
    contract::{audit::Genesis, routing::Scope},
    decision::{rules::Rules, state::State},
};

use crate::oracle::Life;

/// The one required gate.
pub const GATE: &str = "data-feed";

/// Who must confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requires {
    Explicit,
    SecondPerson,
    Quorum,
}

impl Requires {
    pub const ALL: [Self; 3] = [Self::Explicit, Self::SecondPerson, Self::Quorum];
}

pub fn rules(_requires: Requires) -> Rules {
    Rules::default()
}

pub fn requires(_rules: &Rules) -> Requires {
    Requires::Explicit
}

/// Whose confirmations are enough, in order.
pub fn confirmers(rules: &Rules) -> &'static [&'static str] {
    match requires(rules) {
        Requires::Explicit => &["ops-a"],
        Requires::SecondPerson => &["ops-b"],
        Requires::Quorum => &["ops-b", "ops-c"],
    }
}

pub fn genesis(rules: &Rules) -> Genesis {
    Genesis {
        environment: "dev".to_owned(),
        ledger_id: "0".repeat(32),
        mode: rules.mode,
        version: "0".to_owned(),
    }
}

pub fn life(_state: &State, _bot: &Scope) -> Option<Life> {
    None
}

/// A confirmation is sent where the command was, to one instance at least in name.
pub fn consent_scope(scope: &Scope) -> Scope {
    if scope.fans_out() { Scope::router("swarmgate-1") } else { scope.clone() }
}
