//! A command that has ended, as its entries tell of it.
//!
//! Owns: how it ended.
//! Never: reads the ledger; it is handed the entries.
//! Holds: what it was until then is folded as everywhere.

use serde_json::Value;

use crate::{
    contract::{audit::Change, digest::Digest},
    decision::{
        rules::Rules,
        state::{State, flight::TargetReply},
    },
    ledger::chain::Sealed,
    view::commands::{Command, ENDED},
};

/// A command that has ended, from its own entries: the one that accepted it first, and those with
/// its correlationId. `None` where they tell of no command that has ended.
pub(in crate::runtime) fn ended(rules: &Rules, entries: &[Sealed]) -> Option<Command> {
    let first = entries.first()?;
    let identity = match &first.entry.fact.change {
        Change::Accepted(accepted) => accepted.command?,
        Change::Challenged(challenged) => challenged.accepted.command?,
        _ => return None,
    };
    let mut state = State::new(rules.clone());
    let mut first_fact = first.entry.fact.clone();
    let has_deadline = match &mut first_fact.change {
        // What the router does at once has none, and is in flight nowhere: here it is until its end
        // is met.
        Change::Accepted(accepted) if accepted.deadline.is_none() => {
            accepted.deadline = Some(first_fact.at);
            false
        }
        _ => true,
    };
    state.apply(first.entry.seq, &first_fact);
    for sealed in entries.iter().skip(1) {
        let fact = &sealed.entry.fact;
        let ended = match &fact.change {
            Change::Ended(ended) => Some(ended),
            Change::Result(result) => result.ends.as_ref(),
            _ => None,
        };
        if let Some(ended) = ended.filter(|ended| ended.command == identity) {
            let mut flight = state.flight(first.entry.seq)?.clone();
            let success = rules.commands.has_succeeded(&flight.kind_type, &ended.status);
            // A command to one instance is ended by that instance's own answer, or by the router.
            if let ([target], Change::Result(_)) = (flight.targets.as_mut_slice(), &fact.change) {
                let (status, at) = (ended.status.clone(), fact.at.micros());
                target.answer = Some(TargetReply { status, success, at });
            }
            let mut command = Command::new(&state, &flight);
            say_words(&mut command, identity, entries);
            return Some(Command {
                deadline: command.deadline.filter(|_| has_deadline),
                detail: Some(fact.detail.clone()),
                ended_at: Some(fact.at),
                state: ENDED.to_owned(),
                status: Some(ended.status.clone()),
                success: Some(success),
                ..command
            });
        }
        state.apply(sealed.entry.seq, fact);
    }
    None
}

/// What each target said beside its status, as its entry has it.
fn say_words(command: &mut Command, identity: Digest, entries: &[Sealed]) {
    for fact in entries.iter().map(|sealed| &sealed.entry.fact) {
        let Change::Result(result) = &fact.change else { continue };
        let is_ours = result.answers.iter().any(|heard| heard.command == identity)
            || result.ends.as_ref().is_some_and(|ended| ended.command == identity);
        let (Some(subject), Some(payload)) = (&fact.subject, fact.payload.as_ref().filter(|_| is_ours))
        else {
            continue;
        };
        let Ok(body) = serde_json::from_str::<Value>(payload.text()) else { continue };
        let text = |name: &str| body.pointer(name).and_then(Value::as_str).map(str::to_owned);
        let mut targets = command.targets.iter_mut().flatten();
        if let Some(target) = targets.find(|target| target.scope.as_ref() == Some(&subject.scope)) {
            target.code = text("/data/code").or_else(|| target.code.take());
            target.message = text("/data/message").or_else(|| target.message.take());
        }
    }
}
