//! Replay: from a ledger to the state it makes, and from its outbox to what is still to be done.
//!
//! Owns: folding every entry, and telling parcels that are carried again from those that wait for their targets.
//! Never: writes, or takes an entry that the chain does not vouch for.
//! Holds: the same ledger gives the same state and the same work, at boot and after a failure alike.

use super::{
    corridor::Kept,
    dispatch::{Job, Outbound},
};
use crate::{
    decision::{rules::Rules, state::State},
    ledger::{Ledger, LedgerError, Parcel, Recovered, chain::Sealed},
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

/// Tells the parcels of commands that wait for their targets from those that are to be carried again.
///
/// # Errors
/// `Outbox` for what is no parcel.
pub(super) fn sort(parcels: Vec<Parcel>, state: &State) -> Result<(Vec<Kept>, Vec<Job>), LedgerError> {
    let waiting = state.kept_parcels();
    let (mut parked, mut jobs) = (Vec::new(), Vec::new());
    for parcel in parcels {
        let (id, lane, messages) = (parcel.id, parcel.lane, parcel.unpack()?);
        if waiting.contains(&id) {
            parked.extend(messages.into_iter().map(|outgoing| Kept { parcel: id, lane, outgoing }));
        } else {
            let messages = messages.into_iter().map(Outbound::from).collect();
            jobs.push(Job { lane, parcel: Some(id), messages, ..Job::default() });
        }
    }
    Ok((parked, jobs))
}
