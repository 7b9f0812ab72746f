//! Gate 7: a worker's control session goes one way.
//!
//! Owns: what a signal needs of its session, and whether all required workers are ready.
//! Never: holds up a stop.
//! Holds: the table is that of `session::step`, which the secure channel reads too.
//! The rule: spec/rules.md#sessions.

use crate::{
    contract::{
        Said,
        bound::Bound,
        reason::{Reason, Refusal},
        routing::Family,
        tree::View,
    },
    decision::{
        session::{self, Word},
        state::State,
    },
};

/// Whether a signal may be said in its worker's session.
pub(in crate::decision) fn check(state: &State, said: &Said) -> Result<(), Refusal> {
    if said.key.family != Family::Signal {
        return Ok(());
    }
    let word = session::word(&said.key.kind_type);
    if matches!(word, Some(Word::StartWork)) || said.key.kind_type == "swarm-start" {
        every_required_worker_is_ready(state, said)?;
    }
    // Gate 2 has seen to it that these name one worker; a stop is never held up.
    let Some(word) = word.filter(|word| *word != Word::Stop) else { return Ok(()) };
    let session = state.session(&said.key.scope);
    match session::step(session, word) {
        // A worker that had a session is remembered still, and takes no more room.
        Ok(_) if session.is_none() && state.sessions_count() >= state.rules().inventory.instances_max => {
            let detail = "as many workers' sessions are remembered as `inventory.instances_max` allows";
            Err(Refusal::full(Bound::Sessions, detail))
        }
        Ok(_) => Ok(()),
        Err(reason) => {
            let detail = match reason {
                Reason::DuplicateBootstrap => "the worker's session stands; stop it first",
                _ => "no session of this worker stands",
            };
            Err(Refusal::new(reason, detail).at("/scope/instance"))
        }
    }
}

fn every_required_worker_is_ready(state: &State, said: &Said) -> Result<(), Refusal> {
    // `start-work` has it in the session channel's spelling too.
    let named = ["requiredWorkers", "required_workers"].into_iter().find_map(|name| {
        let required = said.envelope.data.get(name).filter(|required| required.is_array())?;
        Some((name, required))
    });
    let Some((name, required)) = named else { return Ok(()) };
    let swarm = said.key.scope.swarm_id.as_str();
    let names = required.items().filter_map(View::as_str);
    let mut missing: Vec<&str> = names.filter(|name| !state.worker_is_ready(swarm, name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable();
    missing.dedup();
    let detail = format!("not ready: {}", missing.join(", "));
    Err(Refusal::new(Reason::WorkersNotReady, detail).at(format!("/data/{name}")))
}
