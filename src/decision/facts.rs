//! How facts are built: of an arrival, of a command in flight, of a setting.
//!
//! Owns: who, what and which body stand in an entry, and what a command asks for where its sender
//! may leave that out.
//! Never: judges any of it; nothing is believed because it is derived here.
//! Holds: a step is written only as two known places joined by `->`, whatever a sender wrote.

use crate::{
    contract::{
        Said,
        audit::{Action, Actor, Asked, Change, Fact, Of, RUN_ID_BYTES_MAX, Subject, Verdict},
        routing::{Family, Scope},
        secrets::shapes,
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        request::Arrival,
        rules::lifecycle,
        state::{State, commands, flight::Flight},
    },
};

/// The fact of an arrival: who, what and which body; the caller adds the verdict.
pub(super) fn of_arrival(
    state: &State,
    arrival: &Arrival,
    said: Option<&Said>,
    actor: Actor,
    action: Action,
    change: Change,
    now: Timestamp,
) -> Fact {
    let mut fact = Fact::new(action, now, change);
    fact.actor = Some(actor);
    fact.body = Some(arrival.body);
    fact.replay.clone_from(&arrival.replay);
    if let Some(said) = said {
        fact.subject = Some(Subject {
            family: said.key.family,
            scope: said.key.scope.clone(),
            kind_type: said.key.kind_type.clone(),
        });
        fact.command = asked_by(state, arrival, said);
        fact.correlation_id.clone_from(&said.envelope.correlation_id);
        fact.idempotency_key.clone_from(&said.envelope.idempotency_key);
        fact.payload.clone_from(&said.payload);
    }
    fact
}

/// The fact of what passed every gate.
pub(super) fn of_passed(
    state: &State,
    arrival: &Arrival,
    said: &Said,
    actor: Actor,
    action: Action,
    change: Change,
    now: Timestamp,
) -> Fact {
    Fact {
        verdict: Some(Verdict::Forward),
        ..of_arrival(state, arrival, Some(said), actor, action, change, now)
    }
}

/// What a signal that arrived asks for; `None` for the other families.
pub(super) fn asked_by(state: &State, arrival: &Arrival, said: &Said) -> Option<Asked> {
    (said.key.family == Family::Signal).then(|| {
        let run = said.envelope.data.get("runId").and_then(View::as_str);
        let run = run.map(str::to_owned).or_else(|| run_of(state, &said.key.scope));
        Asked {
            requested_transition: lifecycle::asked_for(said),
            // The text of a sender: one that is too long is left out, and one that has the shape of
            // a secret is masked, because an entry stays for ever.
            run_id: run.filter(|run| run.len() <= RUN_ID_BYTES_MAX).map(shapes::written),
            schema_version: said.envelope.version.clone(),
            trace_id: arrival.trace_id.clone(),
        }
    })
}

/// What a command of the router's own asks for.
pub(super) fn asked_by_router(state: &State, kind_type: &str, scope: &Scope) -> Asked {
    Asked { run_id: run_of(state, scope), ..commands::of_type(kind_type) }
}

/// The run that a command's one target last spoke of.
fn run_of(state: &State, scope: &Scope) -> Option<String> {
    state.inventory().run_id(scope).map(str::to_owned)
}

/// An entry about a command in flight, with everything by which it is known.
pub(super) fn of_command(
    flight: &Flight,
    actor: Actor,
    action: Action,
    change: Change,
    now: Timestamp,
) -> Fact {
    Fact {
        actor: Some(actor),
        command: Some(flight.asked.clone()),
        correlation_id: flight.correlation_id.clone(),
        idempotency_key: flight.idempotency_key.clone(),
        subject: Some(Subject {
            family: Family::Signal,
            kind_type: flight.kind_type.clone(),
            scope: flight.scope.clone(),
        }),
        ..Fact::new(action, now, change)
    }
}

/// A step in a command's life that the router takes.
#[derive(Clone, Copy)]
pub(super) enum RouterStep {
    Observed,
    Parked,
    Released,
}

/// The entry of a step.
pub(super) fn of_step(state: &State, flight: &Flight, step: RouterStep, now: Timestamp) -> Fact {
    let of = Of { command: flight.command };
    let (action, change) = match step {
        RouterStep::Observed => (Action::Observed, Change::Observed(of)),
        RouterStep::Parked => (Action::Parked, Change::Parked(of)),
        RouterStep::Released => (Action::Released, Change::Released(of)),
    };
    of_command(flight, Actor::router(&state.rules().instance), action, change, now)
}

/// The entry of a setting.
pub(super) fn of_setting(
    actor: &Actor,
    scope: &Scope,
    detail: String,
    (action, change): (Action, Change),
    now: Timestamp,
) -> Fact {
    Fact {
        actor: Some(actor.clone()),
        detail: Some(detail),
        subject: Some(Subject {
            family: Family::Signal,
            // A latch or an interlock sets without a signal: the action is all the type there is.
            kind_type: action.word().to_owned(),
            scope: scope.clone(),
        }),
        ..Fact::new(action, now, change)
    }
}
