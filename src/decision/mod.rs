//! What follows: one envelope in, one decision out.
//!
//! Owns: the order of the gates, on this page, and what each verdict leaves behind.
//! Never: waits, reads a clock, draws a random number or changes the state it is given.
//! Holds: the same state, request and time give the same decision; the order of the gates is the
//! security contract (spec/gates.md), and a gate that is not built yet is absent, not stubbed.

#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

pub mod effect;
mod facts;
pub mod follow;
pub mod gates;
pub mod may;
pub mod outcome;
pub mod request;
pub mod rules;
pub mod session;
pub mod state;

pub use outcome::Decision;

use crate::contract::timestamp::Timestamp;
use gates::{
    Passed, Stopped, audit, command, confirmation, consent, consent::Permit, identity, lifecycle, policy,
    quota, safety, setting,
};
use request::{Arrival, Done, Request};
use state::State;

/// Decides one request: the verdict, the facts, the beliefs and the effects. The same arguments
/// give the same decision.
pub fn decide(state: &State, request: &Request, now: Timestamp) -> Decision {
    match request {
        Request::Arrived(arrival) => {
            let decision = match judge(state, arrival, now) {
                Ok((passed, permit)) => follow::accepted::forward(state, arrival, passed, permit, now),
                Err(stopped) => follow::stopped::by_gate(state, arrival, stopped, now),
            };
            // Judged in full all the same: the entry has the verdict and reason that enforcing
            // would give.
            if state.only_looks() { follow::stopped::only_seen(arrival, decision) } else { decision }
        }
        Request::Answered(answer) => follow::broker::reported(state, answer, now),
        Request::Due => due(state, now),
        Request::Done(done) => self::done(state, done, now),
        // One second on, so that the tally of the running second is closed too: its count is in
        // memory only.
        Request::Closing => follow::refusal::close_tallies(state, now.plus_ms(1000), now),
    }
}

/// What is due: one matter a decision, the parked commands of a target that has shown itself first.
fn due(state: &State, now: Timestamp) -> Decision {
    follow::parking::release(state, now)
        .or_else(|| follow::timeout::time_out(state, now))
        .or_else(|| follow::session::lost(state, now))
        .or_else(|| follow::presence::due(state, now))
        // Last, because it yields a decision also where there is nothing to close.
        .unwrap_or_else(|| follow::refusal::close_tallies(state, now, now))
}

/// The gates, numbered and ordered as in spec/gates.md. Each takes what the gates before have
/// proved.
fn judge<'a>(state: &State, arrival: &'a Arrival, now: Timestamp) -> Result<(Passed<'a>, Permit), Stopped> {
    // 1 contract, 2 routing: asked by whoever read it; its no comes with the arrival.
    let said = gates::read(arrival)?;
    // 3 identity: who it is, and whether what it does now takes a proof of that.
    let actor = identity::check(said, arrival.user_id.as_deref())?;
    let refused = |refusal| Stopped::Refused { actor: actor.clone(), refusal };
    let class = setting::class(state, said, &actor);
    identity::prove(state, said, class, &actor).map_err(refused)?;
    // 4 quota: a repeat takes no room, so gate 6 asks for it once it knows that this is none.
    // 5 policy
    policy::check(state, said, class, &actor).map_err(refused)?;
    // 6 command
    let standing = command::check(state, arrival, (said, class), &actor, now)?;
    // 7 session
    gates::session::check(state, said).map_err(refused)?;
    // 8 lifecycle
    lifecycle::check(state, said, class).map_err(refused)?;
    // 9 safety: what its own words may set, and what every word meets.
    setting::check(state, said, &actor, now).map_err(refused)?;
    setting::has_clock_to_accept(state, said).map_err(refused)?;
    safety::check(state, said, class, now).map_err(refused)?;
    // 10 audit: nobody is asked to confirm what could not be written.
    audit::check(state, class).map_err(refused)?;
    // 11 consent: of an answer to a challenge, whether it counts; of everything, the permit.
    confirmation::check(state, said, &actor, now).map_err(refused)?;
    match consent::check(state, said, class) {
        Ok(permit) => Ok((Passed { said, class, actor, standing }, permit)),
        Err(danger) => {
            // Asked last: only what waits to be confirmed takes this room, and any other refusal
            // comes first.
            quota::room_for_challenge(state, arrival, said).map_err(refused)?;
            Err(Stopped::Dangerous { actor, accepted: standing.accepted, danger })
        }
    }
}

/// Something outside that the router was asked for is done, or cannot be.
fn done(state: &State, done: &Done, now: Timestamp) -> Decision {
    match done {
        // That the ledger forgot something is on record in any mode.
        Done::SetBack(set_back) => follow::set_back::noticed(state, set_back, now),
        Done::EmergencyMissing => follow::set_back::emergency_missing(state, now),
        Done::OutboxShort { count, first } => follow::set_back::outbox_short(state, (*count, *first), now),
        Done::OutboxAdded { count, first } => follow::set_back::outbox_added(state, (*count, *first), now),
        // So is what it was started with.
        Done::Opened => follow::settings::opened(state, now),
        // Who only looks sets nothing.
        _ if state.only_looks() => Decision::new(state),
        Done::Latched(latch) => follow::safety::latched(state, latch, now),
        Done::Measured(measured) => {
            let mut decision = follow::interlock::measured(state, measured, now);
            // `next_deadline` knows nothing of live bots: this look, every few seconds, finds the
            // silent ones.
            follow::live::lost(state, now, &mut decision);
            decision
        }
        Done::Bundled(bundled) => follow::own::bundled(state, bundled, now),
        Done::Unlatched(unlatched) => follow::own::unlatched(state, unlatched, now),
        Done::Compared(compared) => follow::clock::compared(state, *compared, now),
    }
}
