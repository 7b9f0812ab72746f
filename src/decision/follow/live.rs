//! What is live is watched: a live bot that nobody hears, or that others speak for, is set apart.
//!
//! Owns: how long a live bot may be silent, how often a sender may disagree with its scope, and
//! what follows from both.
//! Never: counts time without a broker or a router as silence; lets anything out of QUARANTINED.
//! Holds: it goes to QUARANTINED and is told to stop in one decision, with its entry and an alert a
//! swarm.
//! The rule: spec/rules.md#quarantine.

use std::collections::BTreeMap;

use crate::{
    contract::{
        audit::Actor,
        command::Class,
        interlock::{Life, Move},
        reason::Reason,
        routing::{Family, Scope},
        timestamp::Timestamp,
    },
    decision::{
        follow::{
            alert,
            moves::{self, Cause},
            order, overtake,
        },
        outcome::Decision,
        request::Arrival,
        state::{Belief, State},
    },
};

/// How many bots are set apart in one decision; the rest waits for the next look.
const LOST_MAX: usize = 100;

/// Sets the live bots apart of which nothing was heard for too long.
pub(in crate::decision) fn lost(state: &State, now: Timestamp, decision: &mut Decision) {
    // While no quarantine can be written nobody is set apart; a later look finds them still.
    let Some(silent) = state.silent_live_bots(now).filter(|_| state.ledger_writable()) else { return };
    let lost: Vec<Scope> = silent.take(LOST_MAX).cloned().collect();
    let detail = "no status, ready or heartbeat of it for `lifecycle.lost_live_after_ms` while it ran live";
    let message =
        "live bots were not heard of; they are quarantined and told to stop; see the runbook quarantine";
    set_apart(state, &lost, detail, ("lifecycle.lost-live", message), now, decision);
}

/// A sender says that it is a live bot, and is not: often enough, nobody knows who runs live there.
pub(in crate::decision) fn disagrees(
    state: &State,
    arrival: &Arrival,
    reason: Reason,
    now: Timestamp,
    decision: &mut Decision,
) {
    let Ok(said) = &arrival.subject else { return };
    let speaks_for_itself = said.key.family != Family::Signal || said.class == Some(Class::Liveness);
    let scope = &said.key.scope;
    let counts = reason == Reason::OriginMismatch && speaks_for_itself && !state.only_looks();
    if !counts || state.life(scope) != Life::RunningLive || !state.ledger_writable() {
        return;
    }
    decision.beliefs.push(Belief::Disagreed { scope: scope.clone(), at: now });
    // This one is no belief of the state yet.
    if state.disagreements(scope, now) + 1 < state.rules().mismatches_max {
        return;
    }
    let detail = "senders disagreed with its scope `lifecycle.mismatches_max` times while it ran live";
    let message =
        "others spoke for a live bot; it is quarantined and told to stop; see the runbook quarantine";
    set_apart(state, std::slice::from_ref(scope), detail, ("lifecycle.mismatch", message), now, decision);
}

fn set_apart(
    state: &State,
    bots: &[Scope],
    detail: &str,
    (code, message): (&'static str, &'static str),
    now: Timestamp,
    decision: &mut Decision,
) {
    let mut swarms: BTreeMap<&str, Vec<&Scope>> = BTreeMap::new();
    for bot in bots {
        swarms.entry(&bot.swarm_id).or_default().push(bot);
    }
    for bots in swarms.into_values() {
        let Some(first) = bots.first() else { continue };
        let about = if bots.len() == 1 { first.to_string() } else { first.swarm_id.clone() };
        for bot in &bots {
            let to = Life::Quarantined;
            let step = vec![Move { from: state.life(bot), scope: (*bot).clone(), to }];
            let cause = Cause { actor: Actor::router(&state.rules().instance), about: bot, detail };
            decision.facts.extend(moves::of_moves(step, cause, now));
            overtake::supersede(state, bot, "quarantine", now, decision);
            // In QUARANTINED it stays, whatever its stop comes to.
            order::order(state, bot, detail, now, decision);
        }
        let notice =
            alert::Notice { code, message, about: &about, count: bots.len() as u64, correlation_id: None };
        alert::raise(state, &notice, now, decision);
    }
}
