//! What the tests need of the crate by name, in one place.
//!
//! Owns: how rules are set, how a genesis is made, and where the state says that an instance is in
//! its life.
//! Never: decides what is expected.
//! Holds: everything else goes over the wire.

use swarmgate::{
    contract::{
        audit::Genesis,
        interlock::{self, SafetyMode, Share},
        routing::Scope,
    },
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

/// The defaults with one required gate, whose reports count for as long as a story is.
pub fn rules(requires: Requires) -> Rules {
    let mut rules = Rules::default();
    rules.safety.gates_required = vec![GATE.to_owned()];
    rules.safety.gate_ttl_ms = 1_000_000_000;
    // A session that is lost has a table of its own.
    rules.session_lost_after_ms = 1_000_000_000;
    let share = |group: &str| Share { count: 1, group: group.to_owned() };
    let who = match requires {
        Requires::Explicit => interlock::Requires::Explicit,
        Requires::SecondPerson => interlock::Requires::SecondPerson,
        Requires::Quorum => interlock::Requires::Quorum(vec![share("risk"), share("trading")]),
    };
    rules.consent.requires = who.clone();
    rules.consent.live_requires = who;
    // The requester is in both groups, which must not help.
    for (group, other) in [("risk", "ops-b"), ("trading", "ops-c")] {
        let members = vec!["ops-a".to_owned(), other.to_owned()];
        rules.consent.groups.insert(group.to_owned(), members);
    }
    rules
}

pub fn requires(rules: &Rules) -> Requires {
    match rules.consent.requires {
        interlock::Requires::Explicit => Requires::Explicit,
        interlock::Requires::SecondPerson => Requires::SecondPerson,
        interlock::Requires::Quorum(_) => Requires::Quorum,
    }
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
        initial_mode: SafetyMode::Normal,
        ledger_id: "0".repeat(32),
        mode: rules.mode,
        version: "0".to_owned(),
    }
}

pub fn life(state: &State, bot: &Scope) -> Option<Life> {
    Life::named(state.life(bot).word())
}

/// A confirmation names one instance: the command's own, or any that the command covers.
pub fn consent_scope(scope: &Scope) -> Scope {
    let one = |said: &str, any: &str| if said == "ALL" { any.to_owned() } else { said.to_owned() };
    Scope::new(
        one(&scope.swarm_id, crate::world::SWARM),
        one(&scope.role, "worker"),
        one(&scope.instance, "bot-0"),
    )
}
