//! The gates: one file a gate, numbered as in spec/gates.md.
//!
//! Owns: what passed every gate, what a gate stopped, and the gates that a confirmed command walks
//! again.
//! Never: names what follows from an answer; `follow` does that.
//! Holds: `decide` asks the gates in one order, on the page of `decision`; none asks another to let
//! something through.

pub(super) mod approval;
pub(super) mod audit;
pub(super) mod command;
pub(super) mod confirmation;
pub mod consent;
pub(super) mod identity;
pub(super) mod lifecycle;
pub(super) mod policy;
pub(super) mod quota;
pub(super) mod safety;
pub(super) mod session;
pub(super) mod setting;

use crate::{
    contract::{
        Said,
        audit::{Accepted, Actor},
        command::Class,
        reason::Refusal,
        timestamp::Timestamp,
    },
    decision::{request::Arrival, state::State},
};

/// What gates 1 and 2 have read, or their no.
pub(super) fn read(arrival: &Arrival) -> Result<&Said, Stopped> {
    arrival.subject.as_ref().map_err(|unsaid| Stopped::Refused {
        actor: identity::unproven(arrival.user_id.as_deref(), unsaid.envelope.as_deref()),
        refusal: unsaid.refusal.clone(),
    })
}

/// The gates that a confirmed command walks again: what may have changed since it was challenged.
pub(super) fn again(state: &State, said: &Said, actor: &Actor, now: Timestamp) -> Result<(), Refusal> {
    // Gate 6 would take the command for its own repeat, and its room is taken already: neither is
    // asked again. Nor is whether origin and user-id agree, which was settled when it came.
    let class = setting::class(state, said, actor);
    identity::prove(state, said, class, actor)?;
    policy::check(state, said, class, actor)?;
    session::check(state, said)?;
    lifecycle::check(state, said, class)?;
    setting::check(state, said, actor, now)?;
    setting::has_clock_to_accept(state, said)?;
    safety::check(state, said, class, now)
}

/// What passed every gate, with what each found.
pub(super) struct Passed<'a> {
    pub said: &'a Said,
    /// What it does now: the safety types may tighten or loosen.
    pub class: Option<Class>,
    pub actor: Actor,
    pub standing: command::CommandStanding,
}

/// What a gate stopped, and how.
pub(super) enum Stopped {
    /// Refused, with its reason.
    Refused { actor: Actor, refusal: Refusal },
    /// A repeat; `again` is the entry of the outcome to publish once more.
    Repeat { actor: Actor, refusal: Refusal, again: Option<u64> },
    /// Dangerous: it waits for its confirmation.
    Dangerous { actor: Actor, accepted: Accepted, danger: Box<consent::Danger> },
    /// A start that a stop accepted for its target overtakes; `why` says so to its sender.
    Overtaken { actor: Actor, accepted: Accepted, why: String },
}
