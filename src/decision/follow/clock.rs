//! A clock that does not agree with the ledger: SAFE until it does, or until a person has accepted
//! it.
//!
//! Owns: what follows from the comparison, and the step of the router's time.
//! Never: holds up a stop, or believes the clock by itself.
//! Holds: the step is the last fact of its decision, so that nothing of the time before it is
//! later.
//! The rule: spec/rules.md#clock.

use crate::{
    contract::{
        audit::{Action, Actor, Change, Stepped},
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::{
        facts,
        follow::{
            alert,
            overtake::{self, CLOCK},
        },
        outcome::Decision,
        request::Compared,
        state::{Belief, State, clock_gap},
    },
};

/// What follows from how the clock and the router's time compare.
pub(in crate::decision) fn compared(state: &State, compared: Compared, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    let (was, everything) = (state.clock_gap(), Scope::new(ALL, ALL, ALL));
    let router = Actor::router(&state.rules().instance);
    let gap = match compared {
        Compared::Agree => None,
        Compared::Apart { wall } => Some(now.micros().saturating_sub(wall.micros())),
    };
    if gap == was {
        return decision;
    }
    decision.beliefs.push(Belief::ClockApart(gap));
    let detail = match (was, gap) {
        (None, Some(gap)) => {
            format!("{}: SAFE until they agree, or somebody accepts the clock", clock_gap::words(gap))
        }
        (Some(_), None) => "the clock and the ledger agree again".to_owned(),
        // It moves on while they are apart: believed, but no new entry at every look.
        _ => return decision,
    };
    decision.facts.push(facts::of_setting(
        &router,
        &everything,
        detail,
        (Action::ClockCompared, Change::None),
        now,
    ));
    if gap.is_some() {
        let notice = alert::Notice {
            code: "clock.apart",
            message: "the clock and the ledger do not agree: SAFE until they do; see the runbook clock",
            about: &everything.to_string(),
            count: 1,
            correlation_id: None,
        };
        alert::raise(state, &notice, now, &mut decision);
        overtake::supersede(state, &everything, CLOCK, now, &mut decision);
    }
    decision
}

/// Goes on from the clock; returns what was done, in words, or `None` where the two agree by now.
pub(in crate::decision) fn accept(
    state: &State,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<String> {
    let gap = state.clock_gap()?;
    let to = Timestamp::from_micros(now.micros().saturating_sub(gap));
    let detail = format!("{}; the router goes on from {to}", clock_gap::words(gap));
    let step = (Action::ClockStepped, Change::Stepped(Stepped { from: now, to }));
    decision.facts.push(facts::of_setting(
        actor,
        &Scope::router(&state.rules().instance),
        detail.clone(),
        step,
        to,
    ));
    Some(detail)
}

/// The step last: facts of the time before it would bring that time back.
pub(in crate::decision) fn step_last(decision: &mut Decision) {
    decision.facts.sort_by_key(|fact| matches!(fact.change, Change::Stepped(_)));
}
