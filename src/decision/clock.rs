//! A clock that does not agree with the ledger: SAFE until it does, or until a person has accepted it.
//!
//! Owns: what follows from the comparison, whether the clock may be accepted, and the step of the router's time.
//! Never: holds up a stop, or believes the clock by itself.
//! Holds: the step is the last fact of its decision, so that nothing of the time before it is later.

use super::{Decision, alert, command, safety, state::Belief, state::State};
use crate::contract::{
    Said,
    audit::{Action, Actor, Change, Stepped},
    reason::{Reason, Refusal},
    routing::{ALL, Scope},
    timestamp::Timestamp,
};
use crate::decision::request::Compared;

/// The type by which a person accepts the clock.
pub(super) const ACCEPT: &str = "clock-accept";
/// The word by which starts are superseded.
pub(super) const WORD: &str = "clock";

/// What follows from how the clock and the router's time compare.
pub(super) fn compared(state: &State, compared: Compared, now: Timestamp) -> Decision {
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
        (None, Some(gap)) => format!("{}: SAFE until they agree, or somebody accepts the clock", words(gap)),
        (Some(_), None) => "the clock and the ledger agree again".to_owned(),
        _ => return decision,
    };
    decision.facts.push(safety::set::set(
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
        command::lifetime::supersede(state, &everything, WORD, now, &mut decision);
    }
    decision
}

/// How the clock lies to the ledger, in words.
pub(super) fn words(gap_micros: i64) -> String {
    let (amount, side) =
        (gap_micros.unsigned_abs() / 1_000_000, if gap_micros > 0 { "behind" } else { "ahead of" });
    format!("the clock is {} {side} the ledger", span(amount))
}

fn span(seconds: u64) -> String {
    match seconds {
        0..=299 => format!("{seconds} s"),
        300..=17_999 => format!("{} min", seconds / 60),
        18_000..=431_999 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Whether there is anything to accept.
pub(super) fn check(state: &State, said: &Said) -> Result<(), Refusal> {
    if said.key.kind_type != ACCEPT || state.clock_gap().is_some() {
        return Ok(());
    }
    let detail = "the clock and the ledger agree; there is nothing to accept";
    Err(Refusal::new(Reason::PolicyDenied, detail).at("/type"))
}

/// Goes on from the clock; answers what was done, in words.
pub(super) fn accept(
    state: &State,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<String> {
    let gap = state.clock_gap()?;
    let to = Timestamp::from_micros(now.micros().saturating_sub(gap));
    let detail = format!("{}; the router goes on from {to}", words(gap));
    let step = (Action::ClockStepped, Change::Stepped(Stepped { from: now, to }));
    decision.facts.push(safety::set::set(
        actor,
        &Scope::router(&state.rules().instance),
        detail.clone(),
        step,
        to,
    ));
    Some(detail)
}

/// The step last: facts of the time before it would bring that time back.
pub(super) fn step_last(decision: &mut Decision) {
    decision.facts.sort_by_key(|fact| matches!(fact.change, Change::Stepped(_)));
}
