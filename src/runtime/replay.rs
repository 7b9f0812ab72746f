//! Replay: from a ledger to the state it makes, and from its outbox to what is still to be done.
//!
//! Owns: folding every entry, and telling parcels that are carried again from those that wait for
//! their targets.
//! Never: writes, takes an entry that the chain does not vouch for, or lets a command leave that
//! nobody let go.
//! Holds: the same ledger gives the same state and the same work, at boot and after a failure
//! alike.

use std::collections::BTreeSet;

use tracing::{error, info};

use super::{
    corridor::{Kept, Names},
    dispatch::{Job, Outbound},
};
use crate::{
    contract::{audit::Mode, message::Message, read, routing::ControlPlaneRouting},
    decision::{
        rules::Rules,
        state::{State, flight::Flight},
    },
    ledger::{Barred, Ledger, LedgerError, Outgoing, Parcel, Recovered, chain::Sealed},
};

/// Folds a ledger's entries into the state they make, handing each to `each` too.
///
/// # Errors
/// When the ledger cannot be read, or an entry is not what was written.
pub async fn fold(
    ledger: &mut Ledger,
    rules: &Rules,
    mut each: impl FnMut(&Sealed) + Send,
) -> Result<(State, Recovered), LedgerError> {
    let mut state = State::new(rules.clone());
    let replayed = ledger.replay(|sealed| {
        state.apply(sealed.entry.seq, &sealed.entry.fact);
        each(sealed);
    });
    let recovered = replayed.await?;
    Ok((state, recovered))
}

/// An outbox, sorted.
pub(super) struct Sorted {
    /// Messages of commands that wait for their targets or confirmations.
    pub parked: Vec<Kept>,
    /// What is to be carried again.
    pub jobs: Vec<Job>,
    /// Entries of commands that another hand put there: nobody let them go.
    pub added: BTreeSet<u64>,
}

/// Tells the parcels of commands that wait for their targets from those that are to be carried
/// again, and takes out what may not leave. `has_failed` says that the ledger could not be written
/// before, by this process or by the one that left an emergency log.
///
/// # Errors
/// `Outbox` for what is no parcel, or none of this router's.
pub(super) fn sort(
    parcels: Vec<Parcel>,
    state: &State,
    barred: &Barred,
    names: &Names,
    has_failed: bool,
) -> Result<Sorted, LedgerError> {
    let (waiting, ended) = (state.kept_parcels(), state.ended_seqs());
    let mut sorted = Sorted { parked: Vec::new(), jobs: Vec::new(), added: BTreeSet::new() };
    for parcel in parcels {
        let (id, lane, messages) = (parcel.id, parcel.lane, parcel.unpack()?);
        if let Some(what) = messages.iter().find_map(|outgoing| strange(outgoing, state, names)) {
            return Err(parcel.damaged(what));
        }
        if waiting.contains(&id) {
            let keeps = |outgoing: &Outgoing| state.flight(outgoing.seq).and_then(Flight::kept) == Some(id);
            if messages.len() != 1 || !messages.iter().all(keeps) {
                return Err(parcel.damaged("it keeps another message than the command that waits".to_owned()));
            }
            sorted.parked.extend(messages.into_iter().map(|outgoing| Kept { parcel: id, lane, outgoing }));
        } else {
            // All of a parcel is taken out together: one of which something is still owed is there
            // honestly.
            let is_owed = messages.iter().any(|outgoing| !barred.carried.contains(&(id, outgoing.seq)));
            // Whoever hands it on asks again, at the time of then.
            let outbound = |outgoing| Outbound::of(outgoing, state, &names.refused, state.last_at());
            let messages = messages.into_iter().map(outbound).collect();
            let mut job = Job { lane, parcel: Some(id), messages, ..Job::default() };
            job.withdraw(|message| has_ended(message, &ended, state));
            // Not of stops: whatever the entries say, nothing holds up what always passes.
            for message in job.messages.iter().filter(|message| may_be_held(message, state)) {
                let seq = message.seq;
                let Some(bar) = Bar::of(id, seq, state, barred) else { continue };
                if bar.is_explained(has_failed || is_owed) {
                    info!(
                        parcel = id,
                        seq,
                        "a command that was published waits in the outbox still, because the ledger could not be written, or the rest of its parcel is owed; it does not leave again"
                    );
                } else {
                    error!(parcel = id, seq, "a command in the outbox does not leave: {}", bar.word());
                }
                job.withdrawn.insert(seq);
                sorted.added.extend((bar == Bar::Unconfirmed).then_some(seq));
            }
            let Job { messages, withdrawn, .. } = &mut job;
            messages.retain(|message| !withdrawn.contains(&message.seq) || !may_be_held(message, state));
            sorted.jobs.push(job);
        }
    }
    Ok(sorted)
}

/// What is wrong with a message that no router with these names left there.
fn strange(outgoing: &Outgoing, state: &State, names: &Names) -> Option<String> {
    let Message { exchange, routing_key, body, .. } = &outgoing.message;
    if *exchange != names.out && *exchange != names.refused {
        return Some(format!(
            "a message waits there for the exchange `{exchange}`, which is none of this router's; if `amqp.prefix` was changed, start once with the former one"
        ));
    }
    // What was refused may say one thing in its key and another in its body; so may what a router
    // passes that only looks.
    let may_differ =
        *exchange == names.refused || state.genesis().is_none_or(|genesis| genesis.mode == Mode::Observe);
    (!may_differ && !read::agrees(routing_key, body))
        .then(|| format!("a message waits there for `{routing_key}`, and its body says otherwise"))
}

/// Why a command does not leave.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bar {
    /// Nobody let it go, and no router left it there.
    Unconfirmed,
    /// Nobody let it go; a router that is gone ended it and could not take it out.
    Over,
    /// It waits in a parcel of its own.
    Kept,
    /// The broker took it, or the router gave it up.
    Carried,
}

impl Bar {
    fn of(parcel: u64, seq: u64, state: &State, barred: &Barred) -> Option<Self> {
        let flight = state.flight(seq);
        if let Some(flight) = flight.filter(|flight| !flight.was_let_go() || flight.is_parked()) {
            return Some(if flight.was_let_go() { Self::Kept } else { Self::Unconfirmed });
        }
        match barred.unconfirmed.get(&seq).filter(|_| flight.is_none()) {
            // Its own parcel stays where the ledger could not be written when it ended.
            Some(over) if over.was_dropped || parcel != seq => Some(Self::Unconfirmed),
            Some(_) => Some(Self::Over),
            None => barred.carried.contains(&(parcel, seq)).then_some(Self::Carried),
        }
    }

    /// Whether it is no sign of another hand: what was published `may_wait` in the outbox where its
    /// parcel could not be taken out.
    const fn is_explained(self, may_wait: bool) -> bool {
        may_wait && matches!(self, Self::Carried)
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Unconfirmed => "nobody let it go; somebody changed the ledger's file",
            Self::Over => "nobody let it go before it ended",
            Self::Kept => "it waits for its target in another parcel",
            Self::Carried => "the ledger says that it was carried",
        }
    }
}

/// Whether a message is a command that the router has ended, and no stop: nobody is to hear of it
/// any more. What its target has answered leaves all the same: it was accepted, and is on record as
/// published only then.
pub(super) fn has_ended(message: &Outbound, ended: &BTreeSet<u64>, state: &State) -> bool {
    may_be_held(message, state) && ended.contains(&message.seq)
}

/// Whether it is a command, and no stop.
fn may_be_held(message: &Outbound, state: &State) -> bool {
    let Ok(key) = ControlPlaneRouting::parse(&message.departure.message.routing_key) else { return false };
    let row = state.rules().commands.get(&key.kind_type);
    message.is_signal() && row.is_some_and(|row| !row.class.always_passes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_published_is_explained_by_a_ledger_that_failed() {
        assert!(Bar::Carried.is_explained(true));
        for bar in [Bar::Unconfirmed, Bar::Over, Bar::Kept] {
            assert!(!bar.is_explained(true), "{}", bar.word());
        }
        assert!(!Bar::Carried.is_explained(false), "somebody put it back");
    }
}
