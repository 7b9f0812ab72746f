//! What follows from the broker's report of messages that had left.
//!
//! Owns: the fact of carriage, and the alerts of what came back or was not taken.
//! Never: takes anything back.
//! Holds: one report is one fact.

use std::collections::BTreeSet;

use crate::{
    contract::{
        audit::{Action, Carried, Change, Fact},
        timestamp::Timestamp,
    },
    decision::{
        follow::{alert, parking, session},
        outcome::Decision,
        request::{BrokerReport, Returned},
        state::{State, hold::Act},
    },
};

/// The broker's answer for what had left: one fact, and commands that came back wait for their
/// targets.
pub(in crate::decision) fn reported(state: &State, answer: &BrokerReport, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    if answer.carried != Carried::default() {
        decision.facts.push(Fact::new(Action::Carried, now, Change::Carried(answer.carried.clone())));
    }
    parking::park(state, &answer.returned, now, &mut decision);
    let given_up: BTreeSet<(u64, u32)> = answer.carried.given_up.iter().copied().collect();
    let (given_up, returned): (Vec<&Returned>, Vec<&Returned>) =
        answer.returned.iter().partition(|back| given_up.contains(&(back.seq, back.ordinal)));
    // Another ordinal is what was said of a command: that nobody hears it is no return of the
    // command.
    let signals = answer.returned.iter().filter(|back| back.ordinal == Carried::COMMAND_ORDINAL);
    decision.facts.extend(signals.filter_map(|back| session::unheard(state, &back.routing_key, now)));
    // Whoever tightened has told that already.
    let given_up: Vec<&Returned> = given_up.into_iter().filter(|back| !is_held(state, back, now)).collect();
    if let Some(first) = given_up.first() {
        let notice = alert::Notice {
            code: "carriage.given-up",
            message: "too much waits that the broker does not take; a command to one instance waits until that shows itself, another is not tried any more (runbook bounds)",
            about: &first.routing_key,
            count: given_up.len() as u64,
            correlation_id: None,
        };
        alert::raise(state, &notice, now, &mut decision);
    }
    if let Some(first) = returned.first() {
        let notice = alert::Notice {
            code: "carriage.returned",
            message: "no queue took a command; one to a single instance waits until that shows itself, where it is remembered (runbook bounds)",
            about: &first.routing_key,
            count: returned.len() as u64,
            correlation_id: None,
        };
        alert::raise(state, &notice, now, &mut decision);
    }
    for not_taken in &answer.not_taken {
        let about = format!("{} {}", not_taken.exchange, not_taken.pattern);
        let notice = alert::Notice {
            code: "carriage.not-taken",
            message: "the broker rejects or does not confirm messages: a queue bound there is full and rejects, or has lost its node",
            about: &about,
            count: not_taken.count,
            correlation_id: None,
        };
        alert::raise(state, &notice, now, &mut decision);
    }
    decision
}

/// Whether a stop, a quarantine or safety holds a message up, and not want of room.
fn is_held(state: &State, back: &Returned, now: Timestamp) -> bool {
    let flight = state.flight(back.seq);
    // When it was said is not known here: it counts as said long ago, so that any stop explains it.
    Act::of(&back.routing_key, flight, || None, state.rules()).is_some_and(|act| state.holds(&act, now))
}
